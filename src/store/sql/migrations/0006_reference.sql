-- Activations that a first person proposed and that wait for a second.
CREATE TABLE activation_proposals (
    customer     BLOB PRIMARY KEY REFERENCES customers (id),
    proposed_by  TEXT NOT NULL,
    proposed_key BLOB NOT NULL,
    reason       TEXT NOT NULL,
    proposed_at  INTEGER NOT NULL,
    entry_index  INTEGER NOT NULL
);
