-- Tries that count against a customer or a terminal, from their debit on. Whose they are is a keyed hash.
CREATE TABLE tries (
    id      BLOB NOT NULL,
    subject BLOB NOT NULL,
    at      INTEGER NOT NULL,
    failed  BOOLEAN NOT NULL,
    PRIMARY KEY (id, subject)
) WITHOUT ROWID;
CREATE INDEX tries_by_subject ON tries (subject, at);
CREATE INDEX tries_by_age ON tries (at);

-- Biometrics that too many failures locked: a customer's, or what a reference that leads to nobody stands
-- for. The entry that says so may come a little later. Two people unlock: the first one's word stands here.
CREATE TABLE biometric_locks (
    subject        BLOB PRIMARY KEY,
    customer       BLOB REFERENCES customers (id),
    nobody         TEXT,
    locked_at      INTEGER NOT NULL,
    entry_index    INTEGER,
    proposed_by    TEXT,
    proposed_key   BLOB,
    proposed_at    INTEGER,
    proposal_index INTEGER
);
CREATE INDEX biometric_locks_by_customer ON biometric_locks (customer);

-- What holders want of their own biometrics. A lifted lock stays here: an older wish must not count again.
CREATE TABLE holder_locks (
    customer    BLOB PRIMARY KEY REFERENCES customers (id),
    locked      BOOLEAN NOT NULL,
    asked_at    INTEGER NOT NULL,
    set_at      INTEGER NOT NULL,
    entry_index INTEGER NOT NULL
);
