-- Keys that captures are sealed to: the private half is sealed, and its row goes when it counts no more.
CREATE TABLE capture_keys (
    id           TEXT NOT NULL PRIMARY KEY,
    public_key   BLOB NOT NULL,
    sealed       BLOB NOT NULL,
    made_at      INTEGER NOT NULL,
    counts_until INTEGER
);

-- Challenges of captures at an enroller's desk; a row goes when it is used.
CREATE TABLE enrolment_challenges (
    hash       BLOB NOT NULL PRIMARY KEY,
    customer   BLOB NOT NULL,
    modality   TEXT NOT NULL,
    terminal   TEXT NOT NULL,
    opened_by  BLOB NOT NULL,
    answer     BLOB NOT NULL,
    expires_at INTEGER NOT NULL
);

CREATE INDEX enrolment_challenges_by_end ON enrolment_challenges (expires_at);
