-- Whom else the face belongs to, perhaps, that a decision of the case was about.
CREATE TABLE case_lookalikes (
    case_id BLOB NOT NULL REFERENCES cases (id),
    other   BLOB NOT NULL REFERENCES customers (id),
    PRIMARY KEY (case_id, other)
) WITHOUT ROWID;
CREATE INDEX case_lookalikes_by_other ON case_lookalikes (other);
