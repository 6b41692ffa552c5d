//! The proof that one receipt is in the ledger, as one text (c2sp.org/tlog-proof@v1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::checkpoint::decimal;
use super::{
    Checkpoint, CheckpointError, NOTE_BYTES_MAX, Origin, OutsideTree, ProofError, Tree, leaf_hash,
    verify_inclusion,
};
use crate::crypto::{Digest, PublicKey};

/// An entry's index, its path to the root, and the signed checkpoint that has the root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlogProof {
    index: u64,
    path: Vec<Digest>,
    checkpoint: String,
}

impl TlogProof {
    /// The proof of entry `index` under a signed checkpoint of `size` entries.
    ///
    /// # Errors
    ///
    /// [`OutsideTree`] unless `index < size <=` the tree's size.
    pub fn make(
        tree: &Tree,
        index: u64,
        size: u64,
        signed_checkpoint: String,
    ) -> Result<Self, OutsideTree> {
        Ok(Self { index, path: tree.inclusion(index, size)?, checkpoint: signed_checkpoint })
    }

    /// Which entry.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// The signed checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> &str {
        &self.checkpoint
    }

    /// The proof as text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\nindex {}\n", self.index);
        for hash in &self.path {
            text.push_str(&STANDARD.encode(hash.as_bytes()));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.checkpoint);
        text
    }

    /// Reads what [`TlogProof::to_text`] writes. The format's `extra` line is refused: nothing
    /// authenticates it, and no proof of ours has one.
    ///
    /// # Errors
    ///
    /// [`ProofTextError`] for anything else.
    pub fn parse(text: &str) -> Result<Self, ProofTextError> {
        if text.len() > PROOF_BYTES_MAX {
            return Err(ProofTextError::TooLong);
        }
        let (head, checkpoint) = text.split_once("\n\n").ok_or(ProofTextError::Malformed)?;
        let mut lines = head.split('\n');
        if lines.next() != Some(HEADER) {
            return Err(ProofTextError::Malformed);
        }
        let index = lines
            .next()
            .and_then(|line| line.strip_prefix("index "))
            .and_then(decimal)
            .ok_or(ProofTextError::Malformed)?;
        let path = lines.map(hash_line).collect::<Result<Vec<_>, _>>()?;
        if path.len() > PATH_HASHES_MAX {
            return Err(ProofTextError::TooLong);
        }
        Ok(Self { index, path, checkpoint: checkpoint.to_owned() })
    }

    /// Checks that the receipt with these exact bytes is in the ledger whose key this is; returns
    /// the checkpoint that says so.
    ///
    /// # Errors
    ///
    /// [`ProofTextError`] when the checkpoint is not the key's or the path does not lead to it.
    pub fn verify(
        &self,
        jws: &str,
        origin: &Origin,
        key: &PublicKey,
    ) -> Result<Checkpoint, ProofTextError> {
        let checkpoint = Checkpoint::open(&self.checkpoint, origin, key)?;
        self.verify_path(jws, &checkpoint)?;
        Ok(checkpoint)
    }

    /// Checks the path alone, under a checkpoint that was opened from this proof.
    ///
    /// # Errors
    ///
    /// [`ProofTextError::Path`] when the receipt is not at the proof's index.
    pub fn verify_path(&self, jws: &str, checkpoint: &Checkpoint) -> Result<(), ProofTextError> {
        let (size, root) = (checkpoint.size, &checkpoint.root);
        Ok(verify_inclusion(&leaf_hash(jws), self.index, size, &self.path, root)?)
    }
}

/// A proof that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofTextError {
    /// More bytes or hashes than a proof can have.
    #[error("the proof is longer than a proof can be")]
    TooLong,
    /// Not the format.
    #[error("it is not a c2sp.org/tlog-proof@v1")]
    Malformed,
    /// The checkpoint in it.
    #[error("the proof's checkpoint is not the ledger's")]
    Checkpoint(#[from] CheckpointError),
    /// The path in it.
    #[error("the receipt is not at that place of the ledger")]
    Path(#[from] ProofError),
}

impl ProofTextError {
    /// The word in statuses, metrics and logs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "LOG_PROOF"
    }
}

fn hash_line(line: &str) -> Result<Digest, ProofTextError> {
    let bytes = STANDARD.decode(line).map_err(|_| ProofTextError::Malformed)?;
    Digest::try_from(bytes.as_slice()).map_err(|_| ProofTextError::Malformed)
}

const HEADER: &str = "c2sp.org/tlog-proof@v1";
const PATH_HASHES_MAX: usize = 63;
const PROOF_BYTES_MAX: usize = NOTE_BYTES_MAX + 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Ed25519Key, SeededEntropy, Signer as _};

    #[test]
    fn a_proof_survives_its_text_and_no_bit_of_it_may_change() {
        let key = Ed25519Key::generate(&SeededEntropy::new(5)).unwrap();
        let origin = Origin::try_from("a.example/log").unwrap();
        let tree: Tree = (0..11).map(|i| leaf_hash(&format!("receipt {i}"))).collect();
        let checkpoint = Checkpoint { origin: origin.clone(), size: 11, root: tree.root() };
        let proof = TlogProof::make(&tree, 6, 11, checkpoint.sign(&key).unwrap()).unwrap();
        let text = proof.to_text();
        let public = key.public_key();
        assert_eq!(TlogProof::parse(&text), Ok(proof.clone()));
        assert_eq!(proof.verify("receipt 6", &origin, &public), Ok(checkpoint));
        assert!(proof.verify("receipt 7", &origin, &public).is_err());
        for place in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[place / 8] ^= 1 << (place % 8);
            let Ok(altered) = String::from_utf8(bytes) else { continue };
            let taken = TlogProof::parse(&altered)
                .and_then(|proof| proof.verify("receipt 6", &origin, &public));
            assert!(taken.is_err(), "{place}");
        }
    }

    #[test]
    fn an_unauthenticated_extra_line_is_refused() {
        let text = format!("{HEADER}\nextra AAAA\nindex 0\n\nwhatever");
        assert_eq!(TlogProof::parse(&text), Err(ProofTextError::Malformed));
    }
}
