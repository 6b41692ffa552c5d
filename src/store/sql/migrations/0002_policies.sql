-- Packs of rules that an author proposed and a second person may have approved.
CREATE TABLE packs (
    hash               BLOB PRIMARY KEY,
    id                 TEXT NOT NULL,
    version            INTEGER NOT NULL,
    -- Exactly the bytes that the hash is of.
    files              BLOB NOT NULL,
    expires_at         INTEGER NOT NULL,
    author             TEXT NOT NULL,
    author_key         BLOB NOT NULL,
    author_signature   BLOB NOT NULL,
    proposed_at        INTEGER NOT NULL,
    proposed_index     INTEGER NOT NULL UNIQUE,
    approver           TEXT,
    approver_key       BLOB,
    approver_signature BLOB,
    approved_at        INTEGER,
    approved_index     INTEGER
);
CREATE INDEX packs_by_id ON packs (id);

-- From when which pack decides. Those of the configured folder are noted only: a pack that people
-- activated comes before it.
CREATE TABLE pack_activations (
    entry_index  INTEGER PRIMARY KEY,
    hash         BLOB NOT NULL,
    id           TEXT NOT NULL,
    version      INTEGER NOT NULL,
    effective_at INTEGER NOT NULL,
    from_folder  INTEGER NOT NULL
);
CREATE INDEX pack_activations_by_time ON pack_activations (from_folder, effective_at, entry_index);
