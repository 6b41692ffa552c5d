-- Activations and unlocks that take two people are proposals like others. What waited for a second person begins
-- anew.
DROP TABLE activation_proposals;
ALTER TABLE biometric_locks DROP COLUMN proposed_by;
ALTER TABLE biometric_locks DROP COLUMN proposed_key;
ALTER TABLE biometric_locks DROP COLUMN proposed_at;
ALTER TABLE biometric_locks DROP COLUMN proposal_index;
