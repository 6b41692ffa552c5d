-- Activations and unlocks that take two people are proposals like others. What waited for a second person begins
-- anew.
DROP TABLE activation_proposals;
ALTER TABLE biometric_locks DROP COLUMN proposed_by;
ALTER TABLE biometric_locks DROP COLUMN proposed_key;
ALTER TABLE biometric_locks DROP COLUMN proposed_at;
ALTER TABLE biometric_locks DROP COLUMN proposal_index;

-- What one person may have open of an act, and what is open about somebody, is asked at each proposal.
CREATE INDEX proposals_open_by ON proposals (act, proposed_by) WHERE state = 'open';
CREATE INDEX proposals_open_about ON proposals (act, subject) WHERE state = 'open';
