-- Keys of the sensors that sign captures; `counter` is the last one that was taken under the key.
CREATE TABLE sensor_keys (
    key_id        TEXT NOT NULL PRIMARY KEY,
    sensor        TEXT NOT NULL,
    terminal      TEXT NOT NULL,
    modality      TEXT NOT NULL,
    level         TEXT NOT NULL,
    spki          BLOB NOT NULL UNIQUE,
    firmware      TEXT NOT NULL,
    camera        TEXT NOT NULL,
    registered_at INTEGER NOT NULL,
    counts_until  INTEGER,
    suspended_at  INTEGER,
    revoked_at    INTEGER,
    counter       INTEGER NOT NULL
);
CREATE INDEX sensor_keys_by_sensor ON sensor_keys (sensor, registered_at);

-- Keyed hashes of captures that were decided on, until when they may not come again.
CREATE TABLE seen_captures (
    capture_index BLOB NOT NULL PRIMARY KEY,
    until         INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX seen_captures_by_end ON seen_captures (until);
