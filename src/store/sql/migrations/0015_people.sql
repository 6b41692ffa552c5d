-- The people who may act in the bank's name. Each row is told by an entry; a key is never registered twice.
CREATE TABLE principals (
    spki          BLOB NOT NULL PRIMARY KEY,
    role          TEXT NOT NULL,
    name          TEXT NOT NULL,
    unit          TEXT NOT NULL,
    registered_at INTEGER NOT NULL,
    entry_index   INTEGER NOT NULL,
    proposal      BLOB,
    revoked_at    INTEGER,
    revoked_index INTEGER
) WITHOUT ROWID;
CREATE INDEX principals_by_name ON principals (name);
CREATE INDEX principals_by_entry ON principals (entry_index);

-- Acts that one person proposed and another one must approve. The content goes when the proposal is closed.
CREATE TABLE proposals (
    id           BLOB NOT NULL PRIMARY KEY,
    act          TEXT NOT NULL,
    customer     BLOB REFERENCES customers (id),
    subject      TEXT NOT NULL,
    content      BLOB NOT NULL,
    commitment   BLOB NOT NULL,
    proposed_by  TEXT NOT NULL,
    proposed_key BLOB NOT NULL,
    proposed_at  INTEGER NOT NULL,
    entry_index  INTEGER NOT NULL UNIQUE,
    not_before   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    state        TEXT NOT NULL,
    closed_by    TEXT,
    closed_key   BLOB,
    closed_at    INTEGER,
    closed_index INTEGER
);
CREATE INDEX proposals_open ON proposals (expires_at) WHERE state = 'open';
CREATE INDEX proposals_of_customers ON proposals (customer);
