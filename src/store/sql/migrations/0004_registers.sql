-- Registers: the version in force is the highest. Values are keyed hashes; the rows of a version stand
-- before the version does, so that a long import stops nobody.
CREATE TABLE registers (
    register    TEXT NOT NULL,
    version     INTEGER NOT NULL,
    hash        BLOB NOT NULL,
    row_count   INTEGER NOT NULL,
    imported_at INTEGER NOT NULL,
    entry_index INTEGER NOT NULL,
    PRIMARY KEY (register, version)
);

CREATE TABLE register_rows (
    register    TEXT NOT NULL,
    version     INTEGER NOT NULL,
    value_index BLOB NOT NULL,
    note        TEXT,
    valid_until INTEGER,
    PRIMARY KEY (register, version, value_index)
) WITHOUT ROWID;

-- Cases: what rules found that a person must look at.
CREATE TABLE cases (
    id              BLOB PRIMARY KEY,
    customer        BLOB NOT NULL REFERENCES customers (id),
    kind            TEXT NOT NULL,
    status          TEXT NOT NULL,
    opened_at       INTEGER NOT NULL,
    held_until      INTEGER,
    beyond_calendar INTEGER NOT NULL,
    weight          INTEGER NOT NULL,
    decisions       INTEGER NOT NULL,
    score           INTEGER NOT NULL,
    proposal        TEXT,
    proposed_by     TEXT,
    proposed_key    BLOB,
    proposed_at     INTEGER,
    closed_at       INTEGER
);
CREATE INDEX cases_by_customer ON cases (customer, status);
CREATE INDEX cases_by_score ON cases (score, id);
-- One open case a person and kind.
CREATE UNIQUE INDEX cases_open ON cases (customer, kind) WHERE status = 'open';

CREATE TABLE case_evidence (
    case_id      BLOB NOT NULL REFERENCES cases (id),
    entry_index  INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    outcome      TEXT NOT NULL,
    rules        TEXT NOT NULL,
    operation    TEXT NOT NULL,
    amount_minor INTEGER NOT NULL,
    currency     TEXT NOT NULL,
    PRIMARY KEY (case_id, entry_index)
);
