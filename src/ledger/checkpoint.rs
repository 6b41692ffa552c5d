//! Checkpoints (c2sp.org/tlog-checkpoint): a signed note of origin, size and root.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::note::SIGNATURE_MARK;
use super::{InvalidOrigin, NoteError, Origin, SignedNote, empty_root, sign_note};
use crate::crypto::{Digest, PublicKey, SignatureError, Signer};

/// A ledger's head at one size.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// Which ledger.
    pub origin: Origin,
    /// How many entries.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
}

impl Checkpoint {
    /// The text that is signed: three lines.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.as_bytes()))
    }

    /// The signed note, under the origin's name.
    ///
    /// # Errors
    ///
    /// [`SignatureError`] when the key's holder cannot sign.
    pub fn sign(&self, signer: &dyn Signer) -> Result<String, SignatureError> {
        sign_note(&self.text(), &self.origin, signer)
    }

    /// Reads a signed checkpoint that `key` made for `origin`.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`] for another ledger's, an unsigned or a malformed one.
    pub fn open(note: &str, origin: &Origin, key: &PublicKey) -> Result<Self, CheckpointError> {
        let checkpoint = Self::from_text(SignedNote::parse(note)?.verify(origin, key)?)?;
        if checkpoint.origin == *origin {
            Ok(checkpoint)
        } else {
            Err(CheckpointError::OtherOrigin)
        }
    }

    /// Reads a signed checkpoint without checking who signed it: to learn which key to ask.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`] for a malformed one.
    pub fn peek(note: &str) -> Result<Self, CheckpointError> {
        Self::from_text(SignedNote::parse(note)?.unverified_text())
    }

    /// Reads a checkpoint that may have extension lines behind its three, as other ledgers' may; the
    /// extensions, each line with its newline.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`] for anything else, an empty line among the extensions too.
    pub fn with_extensions(text: &str) -> Result<(Self, &str), CheckpointError> {
        let end = text.match_indices('\n').nth(2).map(|(at, _)| at + 1);
        let (head, extensions) =
            end.and_then(|end| text.split_at_checked(end)).ok_or(CheckpointError::Malformed)?;
        let is_whole = extensions.is_empty() || extensions.ends_with('\n');
        if !is_whole || extensions.split_inclusive('\n').any(|line| line == "\n") {
            return Err(CheckpointError::Malformed);
        }
        Ok((Self::from_text(head)?, extensions))
    }

    /// Reads the three lines that [`Checkpoint::text`] writes. Extension lines are refused: no
    /// checkpoint of ours has any.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`] for anything else.
    pub fn from_text(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root), Some(""), None) =
            (lines.next(), lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(CheckpointError::Malformed);
        };
        let origin = Origin::try_from(origin)?;
        let size = decimal(size).ok_or(CheckpointError::Malformed)?;
        let root = STANDARD.decode(root).map_err(|_| CheckpointError::Malformed)?;
        let root = Digest::try_from(root.as_slice()).map_err(|_| CheckpointError::Malformed)?;
        if size == 0 && root != empty_root() {
            return Err(CheckpointError::Malformed);
        }
        Ok(Self { origin, size, root })
    }
}

/// Cuts a file of signed checkpoints, one behind the other with or without a blank line between,
/// into notes. It only cuts: each piece is still to be opened.
#[must_use]
pub fn split_checkpoints(text: &str) -> Vec<&str> {
    let mut notes = Vec::new();
    let (mut start, mut end, mut signed) = (0, 0, false);
    for line in text.split_inclusive('\n') {
        let is_signature = line.starts_with(SIGNATURE_MARK);
        if signed && !is_signature {
            notes.extend(text.get(start..end));
            start = if line == "\n" { end + 1 } else { end };
            signed = false;
        }
        signed |= is_signature;
        end += line.len();
    }
    notes.extend(text.get(start..end).filter(|rest| !rest.is_empty()));
    notes
}

/// A decimal number below 2^63 without leading zeros or sign.
pub(super) fn decimal(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text && i64::try_from(number).is_ok()).then_some(number)
}

/// A checkpoint that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The note around it.
    #[error("the checkpoint is no note signed by the ledger's key")]
    Note(#[from] NoteError),
    /// Its first line.
    #[error("the checkpoint's origin cannot be one")]
    Origin(#[from] InvalidOrigin),
    /// Not three lines of origin, size and root.
    #[error("it is not a checkpoint")]
    Malformed,
    /// Another ledger's.
    #[error("the checkpoint is another ledger's")]
    OtherOrigin,
}

impl CheckpointError {
    /// The word in statuses, metrics and logs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "LOG_CHECKPOINT"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Ed25519Key, SeededEntropy, sha256};

    fn signed(size: u64) -> (String, Ed25519Key, Checkpoint) {
        let key = Ed25519Key::generate(&SeededEntropy::new(3)).unwrap();
        let origin = Origin::try_from("cash.bank.example/gw07/2026h2").unwrap();
        let root = if size == 0 { empty_root() } else { sha256(&size.to_be_bytes()) };
        let checkpoint = Checkpoint { origin, size, root };
        (checkpoint.sign(&key).unwrap(), key, checkpoint)
    }

    #[test]
    fn no_bit_of_a_checkpoint_may_change() {
        let (note, key, checkpoint) = signed(1000);
        let public = key.public_key();
        assert_eq!(Checkpoint::open(&note, &checkpoint.origin, &public), Ok(checkpoint.clone()));
        for place in 0..note.len() * 8 {
            let mut bytes = note.clone().into_bytes();
            bytes[place / 8] ^= 1 << (place % 8);
            let Ok(altered) = String::from_utf8(bytes) else { continue };
            assert!(Checkpoint::open(&altered, &checkpoint.origin, &public).is_err(), "{place}");
        }
    }

    #[test]
    fn a_checkpoint_has_three_lines_and_nothing_else() {
        let (_, _, checkpoint) = signed(7);
        let text = checkpoint.text();
        assert_eq!(Checkpoint::from_text(&text), Ok(checkpoint.clone()));
        let bad = [
            format!("{text}extension\n"),
            text.trim_end().to_owned(),
            text.replace("\n7\n", "\n07\n"),
            text.replace("\n7\n", "\n+7\n"),
            text.replace("\n7\n", "\n-7\n"),
            text.replace("\n7\n", "\n9223372036854775808\n"),
            text.replace("\n7\n", "\n0\n"),
            text.replace("cash.bank", "cash bank"),
        ];
        for altered in bad {
            assert!(Checkpoint::from_text(&altered).is_err(), "{altered:?}");
        }
    }

    #[test]
    fn extensions_are_whole_lines_behind_the_three() {
        let (_, _, checkpoint) = signed(7);
        let text = checkpoint.text();
        for extensions in ["", "one\n", "one\ntwo three\n"] {
            let extended = format!("{text}{extensions}");
            assert_eq!(
                Checkpoint::with_extensions(&extended),
                Ok((checkpoint.clone(), extensions))
            );
        }
        for bad in ["one", "\n", "one\n\n", "one\n\ntwo\n"] {
            assert!(Checkpoint::with_extensions(&format!("{text}{bad}")).is_err(), "{bad:?}");
        }
        assert!(Checkpoint::with_extensions("a\n7\n").is_err());
    }

    #[test]
    fn a_file_of_checkpoints_is_cut_where_they_meet() {
        let notes: Vec<String> = [0, 1, 5].into_iter().map(|size| signed(size).0).collect();
        for between in ["", "\n"] {
            assert_eq!(split_checkpoints(&notes.join(between)), notes);
        }
        assert!(split_checkpoints("").is_empty());
        assert_eq!(split_checkpoints("rubbish"), ["rubbish"]);
    }
}
