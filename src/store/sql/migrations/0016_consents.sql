-- Each customer's consent, as far as it must be known without opening anything: until when it holds, and what
-- became of it. The consent itself stands sealed in the customer's record. Customers of before get their row
-- at the next start.
CREATE TABLE consents (
    customer    BLOB PRIMARY KEY REFERENCES customers (id),
    until       INTEGER NOT NULL,
    cause       TEXT,
    ended_at    INTEGER,
    keep_until  INTEGER,
    entry_index INTEGER
) WITHOUT ROWID;
CREATE INDEX consents_by_term ON consents (until) WHERE ended_at IS NULL;
CREATE INDEX consents_by_keeping ON consents (keep_until) WHERE ended_at IS NOT NULL;

-- How the faces looked that were shown for a customer a short while ago, sealed under the customer's key.
CREATE TABLE face_prints (
    id       BLOB PRIMARY KEY,
    customer BLOB NOT NULL REFERENCES customers (id),
    sealed   BLOB NOT NULL,
    at       INTEGER NOT NULL,
    until    INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX face_prints_by_customer ON face_prints (customer, at);
CREATE INDEX face_prints_by_end ON face_prints (until);
