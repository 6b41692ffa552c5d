//! What a witness cosigns, and what it answers otherwise.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::state::{Seen, StateDir, StateError};
use crate::crypto::{SignatureError, Signer};
use crate::domain::time::UnixMillis;
use crate::ledger::{
    Checkpoint, LogKey, Origin, SignedNote, Submission, SubmissionError, WitnessKey, cosign,
    empty_root, verify_consistency,
};

/// A ledger that a witness knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrustedLog {
    /// Its origin and key. A ledger with several keys is named once for each.
    pub key: LogKey,
    /// Whether the same key also signs the other half-years of this issuer: `issuer/2026h2` then
    /// stands for `issuer/2027h1` too, and for the issuer's `log-of-logs`.
    pub half_years: bool,
}

/// A witness.
#[derive(Debug)]
pub struct Witness {
    name: Origin,
    signer: Box<dyn Signer>,
    logs: Vec<TrustedLog>,
    state: StateDir,
    /// One request of a ledger at a time: what is checked is what is remembered.
    turns: Mutex<HashMap<Origin, Arc<Mutex<()>>>>,
}

impl Witness {
    /// A witness that knows these ledgers.
    #[must_use]
    pub fn new(
        name: Origin,
        signer: Box<dyn Signer>,
        logs: Vec<TrustedLog>,
        state: StateDir,
    ) -> Self {
        Self { name, signer, logs, state, turns: Mutex::default() }
    }

    /// The key that its cosignatures verify by.
    #[must_use]
    pub fn key(&self) -> WitnessKey {
        WitnessKey::new(self.name.clone(), self.signer.public_key())
    }

    /// Answers `add-checkpoint`: the cosignature's line, after the checkpoint was remembered durably.
    ///
    /// It waits for the disk, and for other requests of the same ledger.
    ///
    /// # Errors
    ///
    /// [`Refusal`] in the order in which c2sp.org/tlog-witness names them.
    pub fn add_checkpoint(&self, body: &[u8], now: UnixMillis) -> Result<String, Refusal> {
        let submission = Submission::parse(body)?;
        let note = SignedNote::parse(&submission.note).map_err(SubmissionError::from)?;
        let text = note.unverified_text();
        let (checkpoint, _) = Checkpoint::with_extensions(text).map_err(SubmissionError::from)?;
        let mut keys = self.keys_of(&checkpoint.origin).peekable();
        if keys.peek().is_none() {
            return Err(Refusal::UnknownLog);
        }
        if !keys.any(|key| note.verify(&checkpoint.origin, key.key()).is_ok()) {
            return Err(Refusal::NotSigned);
        }
        if submission.old_size > checkpoint.size {
            return Err(Refusal::OldSizeBeyond);
        }
        let turn = self.turn_of(&checkpoint.origin);
        let _mine = turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.check(&submission, &checkpoint, now)?;
        Ok(cosign(text, now, &self.name, &*self.signer)?)
    }

    /// Compares with what is remembered, and remembers what is larger.
    fn check(
        &self,
        submission: &Submission,
        checkpoint: &Checkpoint,
        now: UnixMillis,
    ) -> Result<(), Refusal> {
        let seen = self.state.read(&checkpoint.origin)?;
        let (size, root) = seen
            .as_ref()
            .map_or((0, empty_root()), |seen| (seen.checkpoint.size, seen.checkpoint.root));
        // Whatever old size it came with: two roots of one size prove two histories.
        if seen.is_some() && size == checkpoint.size && root != checkpoint.root {
            self.suspect(submission, checkpoint, "another root of the same size");
            return Err(Refusal::Conflict { size });
        }
        if submission.old_size != size {
            return Err(Refusal::Conflict { size });
        }
        let (new_size, new_root) = (checkpoint.size, &checkpoint.root);
        if verify_consistency(size, &root, new_size, new_root, &submission.proof).is_err() {
            self.suspect(submission, checkpoint, "no extension of what was cosigned");
            return Err(Refusal::Proof);
        }
        if seen.is_some_and(|seen| now.plus_millis(CLOCK_SKEW_MAX_MS) < seen.time) {
            return Err(Refusal::Clock);
        }
        if new_size > size {
            self.state.advance(&Seen {
                checkpoint: checkpoint.clone(),
                note: submission.note.clone(),
                time: now,
            })?;
        }
        Ok(())
    }

    /// The ledger signed something that does not fit: perhaps a proof of two histories.
    fn suspect(&self, submission: &Submission, checkpoint: &Checkpoint, what: &'static str) {
        let Checkpoint { origin, size, .. } = checkpoint;
        match self.state.keep_evidence(checkpoint, &submission.to_text()) {
            Ok(Some(path)) => {
                tracing::warn!(%origin, size, what, kept = %path.display(), "a ledger's checkpoint was refused");
            }
            Ok(None) => {
                tracing::warn!(%origin, size, what, "a ledger's checkpoint was refused, and is not kept: the folder evidence is full");
            }
            Err(cause) => {
                tracing::warn!(%origin, size, what, error = %cause, "a ledger's checkpoint was refused, and could not be kept");
            }
        }
    }

    fn keys_of<'a>(&'a self, origin: &'a Origin) -> impl Iterator<Item = &'a LogKey> {
        let is_its = move |log: &&TrustedLog| {
            log.key.origin() == origin
                || (log.half_years && is_shard_beside(log.key.origin(), origin))
        };
        self.logs.iter().filter(is_its).map(|log| &log.key)
    }

    /// The turns of ledgers that are known: their number is bounded by the configuration.
    fn turn_of(&self, origin: &Origin) -> Arc<Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(origin.clone()).or_default())
    }
}

/// Whether two origins are of one issuer, and the other is one of its half-years or its log of logs.
fn is_shard_beside(known: &Origin, other: &Origin) -> bool {
    match (known.as_str().rsplit_once('/'), other.as_str().rsplit_once('/')) {
        (Some((issuer, _)), Some((of, shard))) => {
            issuer == of && (is_half_year(shard) || shard == "log-of-logs")
        }
        _ => false,
    }
}

/// `2026h2`, of this century.
fn is_half_year(shard: &str) -> bool {
    matches!(shard.as_bytes(), [b'2', b'0', a, b, b'h', b'1' | b'2'] if a.is_ascii_digit() && b.is_ascii_digit())
}

/// Why a witness does not cosign.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Not a request.
    #[error("the request cannot be read")]
    Malformed(#[from] SubmissionError),
    /// A ledger that this witness does not know.
    #[error("this witness does not know the ledger")]
    UnknownLog,
    /// No signature of a key that the ledger has.
    #[error("the checkpoint is not signed by a key of the ledger")]
    NotSigned,
    /// An old size above the checkpoint's.
    #[error("the old size is larger than the checkpoint's")]
    OldSizeBeyond,
    /// Another size was cosigned last, or the same with another root.
    #[error("the latest checkpoint that was cosigned has {size} entries")]
    Conflict {
        /// That size.
        size: u64,
    },
    /// The proof does not lead from the one to the other.
    #[error("the checkpoint is not proved to extend the one cosigned last")]
    Proof,
    /// This witness's clock stands behind its last cosignature.
    #[error("the witness's clock is behind its last cosignature")]
    Clock,
    /// The witness cannot remember.
    #[error("the witness cannot remember the checkpoint")]
    State(#[from] StateError),
    /// The witness cannot sign.
    #[error("the witness cannot sign")]
    Sign(#[from] SignatureError),
}

impl Refusal {
    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::OldSizeBeyond => 400,
            Self::NotSigned => 403,
            Self::UnknownLog => 404,
            Self::Conflict { .. } => 409,
            Self::Proof => 422,
            Self::State(_) | Self::Sign(_) => 500,
            Self::Clock => 503,
        }
    }
}

/// How far the clock may step back between two cosignatures.
const CLOCK_SKEW_MAX_MS: i64 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Ed25519Key, SeededEntropy};
    use crate::ledger::{LeafHash, Tree};

    fn key(seed: u64) -> Ed25519Key {
        Ed25519Key::generate(&SeededEntropy::new(seed)).unwrap()
    }

    fn origin(text: &str) -> Origin {
        Origin::try_from(text).unwrap()
    }

    fn tree(size: u64, salt: u8) -> Tree {
        (0..size).map(|i| LeafHash::of_entry(&[&i.to_be_bytes()[..], &[salt]].concat())).collect()
    }

    const NOW: UnixMillis = UnixMillis::new(1_700_000_000_000);
    const LEDGER: &str = "bank.example/gw/2026h2";

    struct Place {
        dir: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap() }
        }

        fn witness(&self, half_years: bool) -> Witness {
            let log = LogKey::new(origin(LEDGER), key(1).public_key());
            let state = StateDir::open(self.dir.path()).unwrap();
            let logs = vec![TrustedLog { key: log, half_years }];
            Witness::new(origin("w.example"), Box::new(key(2)), logs, state)
        }
    }

    fn body(tree: &Tree, old: u64, of: &str, signer: u64) -> Vec<u8> {
        let checkpoint = Checkpoint { origin: origin(of), size: tree.size(), root: tree.root() };
        let note = checkpoint.sign(&key(signer)).unwrap();
        let proof = tree.consistency(old.min(tree.size()), tree.size()).unwrap();
        Submission { old_size: old, proof, note }.to_text().into_bytes()
    }

    fn status(witness: &Witness, body: &[u8]) -> u16 {
        match witness.add_checkpoint(body, NOW) {
            Ok(line) => {
                let note = Submission::parse(body).unwrap().note;
                let text = note.split_once("\n\n").unwrap().0.to_owned() + "\n";
                let cosignature = witness.key().read_answer(&text, &line).unwrap();
                assert_eq!(cosignature.time, NOW);
                200
            }
            Err(refusal) => refusal.status(),
        }
    }

    #[test]
    fn a_growing_ledger_is_cosigned_and_a_fork_or_a_step_back_is_not() {
        let place = Place::new();
        let witness = place.witness(false);
        let (grown, other) = (tree(11, 0), tree(11, 1));
        assert_eq!(status(&witness, &body(&tree(0, 0), 0, LEDGER, 1)), 200, "the empty ledger");
        assert_eq!(status(&witness, &body(&tree(4, 0), 0, LEDGER, 1)), 200);
        assert_eq!(status(&witness, &body(&tree(4, 0), 4, LEDGER, 1)), 200, "the same again");
        assert_eq!(status(&witness, &body(&grown, 4, LEDGER, 1)), 200);
        assert_eq!(status(&witness, &body(&other, 11, LEDGER, 1)), 409, "another root");
        assert_eq!(status(&witness, &body(&tree(4, 0), 4, LEDGER, 1)), 409, "a step back");
        assert_eq!(status(&witness, &body(&tree(20, 1), 11, LEDGER, 1)), 422, "a fork");
        assert_eq!(status(&witness, &body(&tree(20, 0), 4, LEDGER, 1)), 409, "an old size");
        assert_eq!(status(&witness, &body(&tree(5, 0), 11, LEDGER, 1)), 400, "old beyond new");
        assert_eq!(status(&witness, &body(&tree(20, 0), 11, LEDGER, 1)), 200);
        let kept = std::fs::read_dir(place.dir.path().join("evidence")).unwrap().count();
        assert_eq!(kept, 2, "the two that the ledger signed and that fit nothing");
    }

    #[test]
    fn each_refusal_has_its_status() {
        let place = Place::new();
        let witness = place.witness(false);
        assert_eq!(status(&witness, b""), 400);
        assert_eq!(status(&witness, b"old 0\n\nrubbish\n"), 400);
        assert_eq!(status(&witness, &body(&tree(3, 0), 0, "bank.example/gw/2027h1", 1)), 404);
        assert_eq!(status(&witness, &body(&tree(3, 0), 0, LEDGER, 9)), 403);
        let good = body(&tree(3, 0), 0, LEDGER, 1);
        assert_eq!(status(&witness, &good), 200);
        let again = witness.add_checkpoint(&good, NOW).unwrap_err();
        assert!(matches!(again, Refusal::Conflict { size: 3 }), "{again:?}");
        let grown = String::from_utf8(body(&tree(7, 0), 3, LEDGER, 1)).unwrap();
        let mut lines: Vec<&str> = grown.split('\n').collect();
        lines.remove(1);
        assert_eq!(status(&witness, lines.join("\n").as_bytes()), 422, "a hash is missing");
        let back = witness.add_checkpoint(grown.as_bytes(), NOW.plus_millis(-5_001));
        assert_eq!(back.unwrap_err().status(), 503, "the clock stepped back");
        assert_eq!(status(&witness, grown.as_bytes()), 200);
    }

    #[test]
    fn a_proof_for_the_first_checkpoint_is_refused() {
        let place = Place::new();
        let witness = place.witness(false);
        let mut request = Submission::parse(&body(&tree(3, 0), 0, LEDGER, 1)).unwrap();
        request.proof.push(empty_root());
        assert_eq!(status(&witness, request.to_text().as_bytes()), 422);
    }

    #[test]
    fn a_restart_remembers() {
        let place = Place::new();
        assert_eq!(status(&place.witness(false), &body(&tree(8, 0), 0, LEDGER, 1)), 200);
        let witness = place.witness(false);
        assert_eq!(status(&witness, &body(&tree(9, 1), 0, LEDGER, 1)), 409);
        assert_eq!(status(&witness, &body(&tree(9, 1), 8, LEDGER, 1)), 422);
        assert_eq!(status(&witness, &body(&tree(9, 0), 8, LEDGER, 1)), 200);
    }

    #[test]
    fn half_years_of_one_issuer_may_be_known_together() {
        let place = Place::new();
        let witness = place.witness(true);
        for of in ["2026h2", "2027h1", "2099h2", "log-of-logs"] {
            let of = format!("bank.example/gw/{of}");
            assert_eq!(status(&witness, &body(&tree(3, 0), 0, &of, 1)), 200, "{of}");
        }
        for of in ["bank.example/gw/2027h3", "bank.example/gw/1999h1", "bank.example/gw2/2027h1"] {
            assert_eq!(status(&witness, &body(&tree(3, 0), 0, of, 1)), 404, "{of}");
        }
        assert_eq!(status(&witness, &body(&tree(3, 0), 0, "bank.example/gw/2028h1", 9)), 403);
    }

    #[test]
    fn of_two_at_once_that_fork_one_is_cosigned() {
        for round in 0..20 {
            let place = Place::new();
            let witness = place.witness(false);
            assert_eq!(status(&witness, &body(&tree(3, 0), 0, LEDGER, 1)), 200);
            let forks: Vec<_> = [1_u8, 2, 3, 4]
                .map(|salt| {
                    let mut fork = tree(3, 0);
                    fork.push(LeafHash::of_entry(&[salt]));
                    body(&fork, 3, LEDGER, 1)
                })
                .to_vec();
            let answers: Vec<u16> = std::thread::scope(|scope| {
                let calls: Vec<_> =
                    forks.iter().map(|body| scope.spawn(|| status(&witness, body))).collect();
                calls.into_iter().map(|call| call.join().unwrap()).collect()
            });
            let cosigned = answers.iter().filter(|status| **status == 200).count();
            assert_eq!(cosigned, 1, "round {round}: {answers:?}");
        }
    }
}
