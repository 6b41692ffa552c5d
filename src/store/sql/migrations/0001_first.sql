-- Times are milliseconds since 1970 UTC, identifiers and digests are bytes. Whatever is personal is
-- sealed (columns sealed_*, wrapped) or a keyed hash (columns *_index) before it comes here.

CREATE TABLE terminal_keys (
    spki          BLOB PRIMARY KEY,
    terminal      TEXT NOT NULL,
    registered_at INTEGER NOT NULL,
    revoked_at    INTEGER
);
CREATE INDEX terminal_keys_by_terminal ON terminal_keys (terminal);

CREATE TABLE customers (
    id            BLOB PRIMARY KEY,
    status        TEXT NOT NULL,
    iin_index     BLOB UNIQUE,
    sealed_record BLOB NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    activated_at  INTEGER
);

-- Apart from customers, so that erasing a row here makes everything sealed under it unreadable.
CREATE TABLE customer_keys (
    customer BLOB PRIMARY KEY REFERENCES customers (id),
    kek_id   TEXT NOT NULL,
    wrapped  BLOB NOT NULL
);

CREATE TABLE tokens (
    token_index BLOB PRIMARY KEY,
    customer    BLOB NOT NULL REFERENCES customers (id),
    kind        TEXT NOT NULL,
    bound_at    INTEGER NOT NULL,
    expires_at  INTEGER
);
CREATE INDEX tokens_by_customer ON tokens (customer);

CREATE TABLE captures (
    id         BLOB PRIMARY KEY,
    customer   BLOB NOT NULL REFERENCES customers (id),
    modality   TEXT NOT NULL,
    sealed     BLOB NOT NULL,
    created_at INTEGER NOT NULL
);
CREATE INDEX captures_by_customer ON captures (customer, created_at);

CREATE TABLE duplicates (
    customer    BLOB NOT NULL REFERENCES customers (id),
    other       BLOB NOT NULL REFERENCES customers (id),
    strength_db INTEGER NOT NULL,
    found_at    INTEGER NOT NULL,
    resolution  TEXT,
    PRIMARY KEY (customer, other)
);
CREATE INDEX duplicates_by_other ON duplicates (other);

CREATE TABLE challenges (
    hash           BLOB PRIMARY KEY,
    terminal       TEXT NOT NULL,
    sealed_session BLOB NOT NULL,
    issued_at      INTEGER NOT NULL,
    expires_at     INTEGER NOT NULL,
    state          TEXT NOT NULL
);
CREATE INDEX challenges_by_expiry ON challenges (expires_at);

CREATE TABLE counters (
    key        BLOB PRIMARY KEY,
    value      INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
);

-- The idempotency key is the primary key.
CREATE TABLE decisions (
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

CREATE TABLE outcomes (
    terminal        TEXT NOT NULL,
    business_date   TEXT NOT NULL,
    host_id         TEXT NOT NULL,
    attempt         INTEGER NOT NULL,
    outcome         TEXT NOT NULL,
    dispensed_minor INTEGER NOT NULL,
    currency        TEXT NOT NULL,
    entry_index     INTEGER NOT NULL,
    PRIMARY KEY (terminal, business_date, host_id, attempt)
);

-- Cash that approvals let move; in truth as much as the host says, in the entry moved_index.
CREATE TABLE movements (
    terminal       TEXT NOT NULL,
    business_date  TEXT NOT NULL,
    host_id        TEXT NOT NULL,
    attempt        INTEGER NOT NULL,
    customer       BLOB NOT NULL REFERENCES customers (id),
    account        BLOB NOT NULL,
    card           BLOB,
    direction      TEXT NOT NULL,
    approved_minor INTEGER NOT NULL,
    moved_minor    INTEGER NOT NULL,
    moved_index    INTEGER,
    currency       TEXT NOT NULL,
    at             INTEGER NOT NULL,
    PRIMARY KEY (terminal, business_date, host_id, attempt)
);
-- Each has all that the sums read, so that no row is fetched.
CREATE INDEX movements_of_customers
    ON movements (customer, at, currency, direction, moved_minor, terminal);
CREATE INDEX movements_of_accounts ON movements (account, at, currency, direction, moved_minor);
CREATE INDEX movements_of_cards ON movements (card, at, currency, direction, moved_minor);
CREATE INDEX movements_of_terminals ON movements (terminal, at, currency, direction, moved_minor);

-- People who paid in to somebody else's account; among the customers they have no IIN index.
CREATE TABLE guests (
    customer     BLOB PRIMARY KEY REFERENCES customers (id),
    number_index BLOB NOT NULL,
    terminal     TEXT NOT NULL,
    at           INTEGER NOT NULL
);
CREATE INDEX guests_by_number ON guests (number_index, at);
CREATE INDEX guests_by_terminal ON guests (terminal, at);

-- Withdrawals that were denied.
CREATE TABLE refusals (
    customer BLOB NOT NULL REFERENCES customers (id),
    at       INTEGER NOT NULL
);
CREATE INDEX refusals_by_customer ON refusals (customer, at);
CREATE INDEX refusals_by_time ON refusals (at);

-- Caps that a decision began and that run on.
CREATE TABLE caps (
    customer BLOB NOT NULL REFERENCES customers (id),
    rule     TEXT NOT NULL,
    until    INTEGER NOT NULL,
    PRIMARY KEY (customer, rule)
);

CREATE TABLE redemptions (
    receipt     BLOB PRIMARY KEY,
    redeemed_at INTEGER NOT NULL,
    entry_index INTEGER NOT NULL
);

CREATE TABLE heads (
    origin TEXT PRIMARY KEY,
    size   INTEGER NOT NULL,
    root   BLOB NOT NULL,
    epoch  INTEGER NOT NULL
);

CREATE TABLE entries (
    origin       TEXT NOT NULL,
    entry_index  INTEGER NOT NULL,
    receipt      BLOB NOT NULL,
    kind         TEXT NOT NULL,
    terminal     TEXT,
    time         INTEGER NOT NULL,
    jws          TEXT NOT NULL,
    leaf         BLOB NOT NULL,
    sealed_audit BLOB,
    PRIMARY KEY (origin, entry_index),
    UNIQUE (origin, receipt)
);
CREATE INDEX entries_by_time ON entries (origin, time);
CREATE INDEX entries_by_terminal ON entries (origin, terminal, time);

CREATE TABLE checkpoints (
    origin TEXT NOT NULL,
    size   INTEGER NOT NULL,
    text   TEXT NOT NULL,
    time   INTEGER NOT NULL,
    PRIMARY KEY (origin, size)
);
