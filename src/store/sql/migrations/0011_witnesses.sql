-- The largest head of each ledger that enough witnesses cosigned; their lines stand in the checkpoints.
CREATE TABLE witnessed (
    origin TEXT NOT NULL PRIMARY KEY,
    size   INTEGER NOT NULL,
    time   INTEGER NOT NULL
) WITHOUT ROWID;

-- Answers of a time-stamping authority (RFC 3161).
CREATE TABLE timestamps (
    origin TEXT NOT NULL,
    size   INTEGER NOT NULL,
    answer BLOB NOT NULL,
    time   INTEGER NOT NULL,
    PRIMARY KEY (origin, size)
);
