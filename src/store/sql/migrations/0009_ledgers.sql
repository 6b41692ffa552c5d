-- Ledgers that take no more entries, in the order of their closing. A row is written in the
-- transaction of the first batch of the ledger that comes next.
CREATE TABLE closed_ledgers (
    ordinal INTEGER PRIMARY KEY,
    origin  TEXT NOT NULL UNIQUE,
    size    INTEGER NOT NULL,
    root    BLOB NOT NULL
);
