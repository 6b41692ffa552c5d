//! The log of logs: which ledgers a gateway has closed, in which order, and with which heads.
//!
//! A gateway begins a new ledger each half-year. What joins them is a small log whose entries are the
//! closed ones: a signed note in the form of a checkpoint (c2sp.org/tlog-checkpoint) with one
//! extension line a closed ledger, so that it proves itself. The first entry of a ledger names the one
//! before it and the hash of that one's entry here, so that neither can be exchanged alone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::checkpoint::decimal;
use super::{CheckpointError, LeafHash, Origin, SignedNote, Tree, empty_root, sign_note};
use crate::crypto::{Digest, PublicKey, SignatureError, Signer, sha256};

/// A ledger that takes no more entries, and its last head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClosedShard {
    /// Which ledger.
    pub origin: Origin,
    /// How many entries it has.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
}

impl ClosedShard {
    /// Its entry in the log of logs.
    #[must_use]
    pub fn entry(&self) -> Vec<u8> {
        let Self { origin, size, root } = self;
        format!("{ENTRY_CONTEXT}\n{origin}\n{size}\n{}\n", STANDARD.encode(root.as_bytes()))
            .into_bytes()
    }

    /// SHA-256 of its entry as the next ledger's first receipt states it: `sha-256:` and 64
    /// hexadecimal digits.
    #[must_use]
    pub fn labelled_digest(&self) -> String {
        format!("sha-256:{}", sha256(&self.entry()).hex())
    }

    fn line(&self) -> String {
        format!("{} {} {}\n", self.origin, self.size, STANDARD.encode(self.root.as_bytes()))
    }

    fn parse(line: &str) -> Result<Self, CheckpointError> {
        let mut words = line.split(' ');
        let (Some(origin), Some(size), Some(root), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(CheckpointError::Malformed);
        };
        let size = decimal(size).ok_or(CheckpointError::Malformed)?;
        let root = digest(root)?;
        if (size == 0) != (root == empty_root()) {
            return Err(CheckpointError::Malformed);
        }
        Ok(Self { origin: Origin::try_from(origin)?, size, root })
    }
}

/// The closed ledgers of a gateway, in the order of their closing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogOfLogs {
    origin: Origin,
    shards: Vec<ClosedShard>,
}

impl LogOfLogs {
    /// The log of logs of the gateway `issuer`.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`] when the name cannot be one, or a ledger stands twice.
    pub fn new(issuer: &str, shards: Vec<ClosedShard>) -> Result<Self, CheckpointError> {
        Self::checked(Self::origin_of(issuer)?, shards)
    }

    /// The name of a gateway's log of logs, and of the key that signs it.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Origin`] when the issuer's name cannot be part of one.
    pub fn origin_of(issuer: &str) -> Result<Origin, CheckpointError> {
        Ok(Origin::try_from(format!("{issuer}{NAME_END}").as_str())?)
    }

    /// Its own name.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The closed ledgers, in the order of their closing.
    #[must_use]
    pub fn shards(&self) -> &[ClosedShard] {
        &self.shards
    }

    /// The RFC 6962 root over the ledgers' entries.
    #[must_use]
    pub fn root(&self) -> Digest {
        let leaves = self.shards.iter().map(|shard| LeafHash::of_entry(&shard.entry()));
        leaves.collect::<Tree>().root()
    }

    /// Whether this is what `earlier` has grown to: closed ledgers stay, in their order.
    #[must_use]
    pub fn extends(&self, earlier: &Self) -> bool {
        self.origin == earlier.origin && self.shards.starts_with(&earlier.shards)
    }

    /// The text that is signed: three lines, and one a closed ledger.
    #[must_use]
    pub fn text(&self) -> String {
        let lines: String = self.shards.iter().map(ClosedShard::line).collect();
        let root = STANDARD.encode(self.root().as_bytes());
        format!("{}\n{}\n{root}\n{lines}", self.origin, self.shards.len())
    }

    /// The signed note, under the log's own name.
    ///
    /// # Errors
    ///
    /// [`SignatureError`] when the key's holder cannot sign.
    pub fn sign(&self, signer: &dyn Signer) -> Result<String, SignatureError> {
        sign_note(&self.text(), &self.origin, signer)
    }

    /// Reads the note that `key` signed for the gateway `issuer`.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`] for another gateway's, an unsigned or a malformed one.
    pub fn open(note: &str, issuer: &str, key: &PublicKey) -> Result<Self, CheckpointError> {
        let origin = Self::origin_of(issuer)?;
        let log = Self::from_text(SignedNote::parse(note)?.verify(&origin, key)?)?;
        if log.origin == origin { Ok(log) } else { Err(CheckpointError::OtherOrigin) }
    }

    /// Reads a note without checking who signed it: to learn which key to ask.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`] for a malformed one.
    pub fn peek(note: &str) -> Result<Self, CheckpointError> {
        Self::from_text(SignedNote::parse(note)?.unverified_text())
    }

    /// Reads what [`LogOfLogs::text`] writes; the root must be that of the lines under it.
    ///
    /// # Errors
    ///
    /// [`CheckpointError`] for anything else.
    pub fn from_text(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.strip_suffix('\n').ok_or(CheckpointError::Malformed)?.split('\n');
        let (Some(origin), Some(count), Some(root)) = (lines.next(), lines.next(), lines.next())
        else {
            return Err(CheckpointError::Malformed);
        };
        if !origin.ends_with(NAME_END) {
            return Err(CheckpointError::Malformed);
        }
        let count = decimal(count).ok_or(CheckpointError::Malformed)?;
        let root = digest(root)?;
        let shards = lines.map(ClosedShard::parse).collect::<Result<Vec<_>, _>>()?;
        let log = Self::checked(Origin::try_from(origin)?, shards)?;
        if u64::try_from(log.shards.len()) == Ok(count) && log.root() == root {
            Ok(log)
        } else {
            Err(CheckpointError::Malformed)
        }
    }

    fn checked(origin: Origin, shards: Vec<ClosedShard>) -> Result<Self, CheckpointError> {
        let mut names: Vec<&Origin> = shards.iter().map(|shard| &shard.origin).collect();
        names.push(&origin);
        names.sort();
        if names.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(CheckpointError::Malformed);
        }
        Ok(Self { origin, shards })
    }
}

fn digest(text: &str) -> Result<Digest, CheckpointError> {
    let bytes = STANDARD.decode(text).map_err(|_| CheckpointError::Malformed)?;
    Digest::try_from(bytes.as_slice()).map_err(|_| CheckpointError::Malformed)
}

const ENTRY_CONTEXT: &str = "tulga-shard-v1";
const NAME_END: &str = "/log-of-logs";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Ed25519Key, SeededEntropy};

    const ISSUER: &str = "cash.bank.example/gw07";

    fn shard(half: &str, size: u64) -> ClosedShard {
        let origin = Origin::try_from(format!("{ISSUER}/{half}").as_str()).unwrap();
        let root = if size == 0 { empty_root() } else { sha256(&size.to_be_bytes()) };
        ClosedShard { origin, size, root }
    }

    fn two() -> LogOfLogs {
        LogOfLogs::new(ISSUER, vec![shard("2026h2", 700), shard("2027h1", 0)]).unwrap()
    }

    #[test]
    fn its_texts_are_fixed() {
        let one = LogOfLogs::new(ISSUER, vec![shard("2026h2", 0)]).unwrap();
        assert_eq!(
            shard("2026h2", 0).entry(),
            b"tulga-shard-v1\ncash.bank.example/gw07/2026h2\n0\n\
              47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
        );
        let leaf = LeafHash::of_entry(&shard("2026h2", 0).entry());
        assert_eq!(
            one.text(),
            format!(
                "cash.bank.example/gw07/log-of-logs\n1\n{}\ncash.bank.example/gw07/2026h2 0 \
                 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
                STANDARD.encode(leaf.digest().as_bytes())
            )
        );
        let none = LogOfLogs::new(ISSUER, Vec::new()).unwrap();
        assert_eq!(none.root(), empty_root());
        assert_eq!(LogOfLogs::from_text(&none.text()), Ok(none));
    }

    #[test]
    fn no_bit_of_it_may_change() {
        let key = Ed25519Key::generate(&SeededEntropy::new(3)).unwrap();
        let note = two().sign(&key).unwrap();
        let public = key.public_key();
        assert_eq!(LogOfLogs::open(&note, ISSUER, &public), Ok(two()));
        assert_eq!(LogOfLogs::peek(&note), Ok(two()));
        assert!(LogOfLogs::open(&note, "cash.bank.example/gw08", &public).is_err());
        for place in 0..note.len() * 8 {
            let mut bytes = note.clone().into_bytes();
            bytes[place / 8] ^= 1 << (place % 8);
            let Ok(altered) = String::from_utf8(bytes) else { continue };
            assert!(LogOfLogs::open(&altered, ISSUER, &public).is_err(), "{place}");
        }
    }

    #[test]
    fn a_text_whose_lines_do_not_give_its_root_is_refused() {
        let text = two().text();
        assert_eq!(LogOfLogs::from_text(&text), Ok(two()));
        let lines: Vec<&str> = text.lines().collect();
        let bad = [
            text.trim_end().to_owned(),
            format!("{text}\n"),
            text.replace("\n2\n", "\n3\n"),
            text.replace("\n2\n", "\n02\n"),
            text.replace(" 700 ", " 701 "),
            text.replace(" 700 ", "  700 "),
            text.replace("log-of-logs", "log-of-log"),
            text.replace("2027h1", "2026h2"),
            // A line dropped, and two exchanged.
            format!("{}\n1\n{}\n{}\n", lines[0], lines[2], lines[3]),
            format!("{}\n2\n{}\n{}\n{}\n", lines[0], lines[2], lines[4], lines[3]),
        ];
        for altered in bad {
            assert!(LogOfLogs::from_text(&altered).is_err(), "{altered:?}");
        }
    }

    #[test]
    fn a_ledger_is_closed_once_and_stays_closed() {
        let twice = vec![shard("2026h2", 1), shard("2026h2", 2)];
        assert_eq!(LogOfLogs::new(ISSUER, twice), Err(CheckpointError::Malformed));
        let itself = shard("log-of-logs", 1);
        assert_eq!(LogOfLogs::new(ISSUER, vec![itself]), Err(CheckpointError::Malformed));
        let one = LogOfLogs::new(ISSUER, vec![shard("2026h2", 700)]).unwrap();
        let other = LogOfLogs::new(ISSUER, vec![shard("2026h2", 699)]).unwrap();
        assert!(two().extends(&one) && two().extends(&two()));
        assert!(!one.extends(&two()) && !two().extends(&other));
    }
}
