-- The word of the first of two tellers, who may agree to an exception in place of the customer. Where the
-- evidence of who stood at the desk is kept is sealed under the customer's data key.
ALTER TABLE confirmations ADD COLUMN proposed_by     TEXT;
ALTER TABLE confirmations ADD COLUMN proposed_key    BLOB;
ALTER TABLE confirmations ADD COLUMN proposal_sealed BLOB;
ALTER TABLE confirmations ADD COLUMN proposed_at     INTEGER;
ALTER TABLE confirmations ADD COLUMN proposal_index  INTEGER;
