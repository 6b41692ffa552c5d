-- What oversight reports are made of: one row a decision, so that no audit record is opened for a report.
-- Codes stand between spaces, so that one is found whole.
CREATE TABLE verifications (
    entry_index    INTEGER PRIMARY KEY,
    at             INTEGER NOT NULL,
    terminal       TEXT NOT NULL,
    business_date  TEXT NOT NULL,
    host_id        TEXT NOT NULL,
    attempt        INTEGER NOT NULL,
    operation      TEXT NOT NULL,
    amount_minor   INTEGER NOT NULL,
    approved_minor INTEGER,
    currency       TEXT NOT NULL,
    outcome        TEXT NOT NULL,
    reasons        TEXT NOT NULL,
    signs          TEXT NOT NULL,
    subject        TEXT NOT NULL
);
CREATE INDEX verifications_by_time ON verifications (at, terminal);
CREATE INDEX verifications_by_transaction ON verifications (terminal, business_date, host_id);
CREATE INDEX verifications_with_signs ON verifications (at, entry_index) WHERE signs <> '';

-- The duty to keep a camera's clip: one row a decision, and one an outcome report that names a clip.
CREATE TABLE footage (
    entry_index INTEGER PRIMARY KEY,
    decision    INTEGER NOT NULL,
    terminal    TEXT NOT NULL,
    at          INTEGER NOT NULL,
    is_missing  BOOLEAN NOT NULL,
    camera      TEXT,
    clip_from   INTEGER,
    clip_to     INTEGER,
    clip        BLOB,
    sealed_salt BLOB,
    keep_until  INTEGER NOT NULL,
    deleted_at  INTEGER
);
CREATE INDEX footage_of_decisions ON footage (decision);
CREATE INDEX footage_missing ON footage (entry_index) WHERE is_missing;
CREATE INDEX footage_due ON footage (keep_until) WHERE clip IS NOT NULL AND deleted_at IS NULL;

-- A case for which a decision's clips and evidence are kept.
CREATE TABLE legal_holds (
    decision       INTEGER NOT NULL,
    case_reference TEXT NOT NULL,
    placed_at      INTEGER NOT NULL,
    PRIMARY KEY (decision, case_reference)
);

-- Captures kept as evidence. The pictures lie in files of their own, each sealed under a key of its own;
-- the key is here, wrapped, until it is destroyed.
CREATE TABLE evidence (
    entry_index     INTEGER PRIMARY KEY,
    receipt         BLOB NOT NULL UNIQUE,
    shelf           TEXT NOT NULL,
    media_type      TEXT NOT NULL,
    wrapped         BLOB,
    keep_until      INTEGER NOT NULL,
    is_file_removed BOOLEAN NOT NULL
);
CREATE INDEX evidence_due ON evidence (keep_until) WHERE wrapped IS NOT NULL;
CREATE INDEX evidence_files ON evidence (entry_index) WHERE wrapped IS NULL AND NOT is_file_removed;
