-- Key-encryption keys in the order in which they became current; the last one is. A key that is not ended
-- is being taken over to: something may be wrapped under another yet.
CREATE TABLE keks (
    ordinal    INTEGER PRIMARY KEY,
    kek_id     TEXT NOT NULL UNIQUE,
    name       TEXT NOT NULL,
    begun_at   INTEGER NOT NULL,
    ended_at   INTEGER,
    retired_at INTEGER
);

-- The vault's own keys, wrapped like a customer's: of keyed indices, and of what belongs to no customer.
CREATE TABLE own_keys (
    purpose TEXT NOT NULL PRIMARY KEY,
    kek_id  TEXT NOT NULL,
    wrapped BLOB NOT NULL
) WITHOUT ROWID;

-- What a picture's key is wrapped under; NULL in rows of before, whatever the first key is.
ALTER TABLE evidence ADD COLUMN kek_id TEXT;

CREATE INDEX customer_keys_by_kek ON customer_keys (kek_id);
CREATE INDEX evidence_by_kek ON evidence (kek_id) WHERE wrapped IS NOT NULL;

-- A call that wrapped a key just before another became current must not leave it under a destroyed one.
CREATE TRIGGER customer_keys_live BEFORE INSERT ON customer_keys
WHEN EXISTS (SELECT 1 FROM keks WHERE kek_id = NEW.kek_id AND retired_at IS NOT NULL)
BEGIN
    SELECT RAISE(ABORT, 'the key-encryption key is retired');
END;

CREATE TRIGGER evidence_live BEFORE INSERT ON evidence
WHEN EXISTS (SELECT 1 FROM keks WHERE kek_id = NEW.kek_id AND retired_at IS NOT NULL)
BEGIN
    SELECT RAISE(ABORT, 'the key-encryption key is retired');
END;
