-- Keys of customers' devices, with which the bank's application signs confirmations.
CREATE TABLE app_keys (
    fingerprint BLOB PRIMARY KEY,
    customer    BLOB NOT NULL REFERENCES customers (id),
    spki        BLOB NOT NULL,
    bound_at    INTEGER NOT NULL
);
CREATE INDEX app_keys_by_customer ON app_keys (customer, bound_at);

-- What is shown to the customer and what was seen of them is sealed under the customer's data key.
CREATE TABLE confirmations (
    id             BLOB PRIMARY KEY,
    customer       BLOB NOT NULL REFERENCES customers (id),
    terminal       TEXT NOT NULL,
    business_date  TEXT NOT NULL,
    host_id        TEXT NOT NULL,
    attempt        INTEGER NOT NULL,
    receipt        BLOB NOT NULL,
    entry_index    INTEGER NOT NULL,
    sealed         BLOB NOT NULL,
    created_at     INTEGER NOT NULL,
    expires_at     INTEGER NOT NULL,
    answer         TEXT,
    answered_at    INTEGER,
    counts_until   INTEGER,
    answer_receipt BLOB,
    answer_index   INTEGER,
    app_key        BLOB,
    signature      BLOB,
    settled_by     INTEGER,
    UNIQUE (terminal, business_date, host_id, attempt)
);
CREATE INDEX confirmations_by_index ON confirmations (entry_index);
CREATE INDEX confirmations_by_customer ON confirmations (customer, entry_index);
CREATE INDEX confirmations_by_age ON confirmations (created_at);

-- The decisions that confirmations ended in, under the keys of the decisions that asked for them.
CREATE TABLE final_decisions (
    terminal      TEXT NOT NULL,
    business_date TEXT NOT NULL,
    host_id       TEXT NOT NULL,
    attempt       INTEGER NOT NULL,
    request_hash  BLOB NOT NULL,
    entry_index   INTEGER NOT NULL,
    approves      BOOLEAN NOT NULL,
    sealed_answer BLOB NOT NULL,
    PRIMARY KEY (terminal, business_date, host_id, attempt)
);

-- Where terminals stand, in words that customers are shown.
CREATE TABLE terminal_places (
    terminal TEXT PRIMARY KEY,
    place    TEXT NOT NULL
);

-- People who are unable to give a biometric; a mark counts once a second person has approved it.
CREATE TABLE unable (
    customer     BLOB PRIMARY KEY REFERENCES customers (id),
    proposed_by  TEXT NOT NULL,
    proposed_key BLOB NOT NULL,
    sealed       BLOB NOT NULL,
    proposed_at  INTEGER NOT NULL,
    approved_at  INTEGER
);
