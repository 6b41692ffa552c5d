//! Witnesses' cosignatures of checkpoints (c2sp.org/tlog-cosignature, Ed25519 `cosignature/v1`), and
//! the verifier keys by which ledgers and witnesses are named (c2sp.org/signed-note).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::note::{ED25519, SIGNATURE_MARK};
use super::{KeyId, NoteError, Origin, SignedNote};
use crate::crypto::{PublicKey, SignatureError, Signer};
use crate::domain::time::UnixMillis;

/// A ledger's verifier key: its origin and its Ed25519 key, written `origin+id+base64`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogKey(NamedKey);

/// A witness's verifier key: its name and its Ed25519 key, written `name+id+base64`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WitnessKey(NamedKey);

#[derive(Clone, PartialEq, Eq, Debug)]
struct NamedKey {
    name: Origin,
    key: PublicKey,
}

impl LogKey {
    /// The key that signs the checkpoints of `origin`.
    #[must_use]
    pub const fn new(origin: Origin, key: PublicKey) -> Self {
        Self(NamedKey { name: origin, key })
    }

    /// Reads `origin+id+base64` of signature type 0x01.
    ///
    /// # Errors
    ///
    /// [`VerifierKeyError`] for anything else.
    pub fn parse(text: &str) -> Result<Self, VerifierKeyError> {
        NamedKey::parse(text, ED25519).map(Self)
    }

    /// The ledger.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.0.name
    }

    /// Its key.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.0.key
    }
}

impl fmt::Display for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f, ED25519)
    }
}

impl WitnessKey {
    /// The key of the witness of this name.
    #[must_use]
    pub const fn new(name: Origin, key: PublicKey) -> Self {
        Self(NamedKey { name, key })
    }

    /// Reads `name+id+base64` of signature type 0x04.
    ///
    /// # Errors
    ///
    /// [`VerifierKeyError`] for anything else.
    pub fn parse(text: &str) -> Result<Self, VerifierKeyError> {
        NamedKey::parse(text, COSIGNATURE).map(Self)
    }

    /// The witness's name.
    #[must_use]
    pub const fn name(&self) -> &Origin {
        &self.0.name
    }

    /// Its key.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.0.key
    }

    /// When this witness cosigned the note, in whole seconds; none if no line is its own. Of several
    /// lines of its own the earliest counts.
    ///
    /// # Errors
    ///
    /// [`CosignatureError`] when a line of its name and key id is not its cosignature of this text.
    pub fn cosigned_at(
        &self,
        note: &SignedNote<'_>,
    ) -> Result<Option<UnixMillis>, CosignatureError> {
        let NamedKey { name, key } = &self.0;
        let id = KeyId::of_type(COSIGNATURE, name, key);
        let mut earliest: Option<UnixMillis> = None;
        for bytes in note.signatures_of(name, id) {
            let time = verify(key, note.unverified_text(), bytes)?;
            earliest = Some(earliest.map_or(time, |before| before.min(time)));
        }
        Ok(earliest)
    }

    /// Reads a witness's answer, which is signature lines for a checkpoint of this text: its own
    /// cosignature. Lines of keys that are not this one are left aside.
    ///
    /// # Errors
    ///
    /// [`CosignatureError`] when there is none of its own, or it does not verify.
    pub fn read_answer(&self, text: &str, answer: &str) -> Result<Cosignature, CosignatureError> {
        for line in answer.split_inclusive('\n') {
            let note = format!("{text}\n{line}");
            let note = SignedNote::parse(&note)?;
            if let Some(time) = self.cosigned_at(&note)? {
                return Ok(Cosignature { line: line.to_owned(), time });
            }
        }
        Err(CosignatureError::Missing)
    }
}

impl fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f, COSIGNATURE)
    }
}

impl NamedKey {
    fn parse(text: &str, signature_type: u8) -> Result<Self, VerifierKeyError> {
        if text.len() > VERIFIER_KEY_BYTES_MAX {
            return Err(VerifierKeyError::Malformed);
        }
        // The key's base64 may hold plus signs; a name holds none.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(encoded)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(VerifierKeyError::Malformed);
        };
        let name = Origin::try_from(name).map_err(|_| VerifierKeyError::Malformed)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| VerifierKeyError::Malformed)?;
        let (found, key) = bytes.split_first().ok_or(VerifierKeyError::Malformed)?;
        if *found != signature_type {
            return Err(VerifierKeyError::Type { found: *found, wanted: signature_type });
        }
        let key = <[u8; 32]>::try_from(key).map_err(|_| VerifierKeyError::Malformed)?;
        let key = PublicKey::new(key);
        if id != hex(KeyId::of_type(signature_type, &name, &key)) {
            return Err(VerifierKeyError::Id);
        }
        Ok(Self { name, key })
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, signature_type: u8) -> fmt::Result {
        let Self { name, key } = self;
        let id = hex(KeyId::of_type(signature_type, name, key));
        let encoded = STANDARD.encode([&[signature_type], key.as_bytes()].concat());
        write!(f, "{name}+{id}+{encoded}")
    }
}

/// A witness's signature line, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cosignature {
    /// The line with its newline, to be put behind the checkpoint's other signatures.
    pub line: String,
    /// When the witness signed, in whole seconds.
    pub time: UnixMillis,
}

/// Cosigns a checkpoint's text at an instant: one signature line with its newline.
///
/// # Errors
///
/// [`SignatureError`] when the key's holder cannot sign, or the instant is before 1970.
pub fn cosign(
    text: &str,
    time: UnixMillis,
    name: &Origin,
    signer: &dyn Signer,
) -> Result<String, SignatureError> {
    let seconds = u64::try_from(time.get() / 1000).map_err(|_| SignatureError::Sign)?;
    let id = KeyId::of_type(COSIGNATURE, name, &signer.public_key());
    let signature = signer.sign(message(seconds, text).as_bytes())?;
    let bytes = [id.as_bytes().as_slice(), &seconds.to_be_bytes(), &signature].concat();
    Ok(format!("{SIGNATURE_MARK}{name} {}\n", STANDARD.encode(bytes)))
}

/// When witnesses had seen which sizes of one ledger: what bounds the times of its entries.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct WitnessTimes {
    /// By size, each with the earliest instant at which it was witnessed.
    times: Vec<(u64, UnixMillis)>,
}

impl WitnessTimes {
    /// From the sizes of witnessed checkpoints with their instants, in any order.
    #[must_use]
    pub fn collect(witnessed: impl IntoIterator<Item = (u64, UnixMillis)>) -> Self {
        let mut times: Vec<_> = witnessed.into_iter().collect();
        // The earliest of one size comes first, and stays.
        times.sort_unstable();
        times.dedup_by_key(|(size, _)| *size);
        Self { times }
    }

    /// Each witnessed size with the earliest instant, by size.
    #[must_use]
    pub fn times(&self) -> &[(u64, UnixMillis)] {
        &self.times
    }

    /// The latest instant at which the ledger was witnessed without entry `index`: it is younger.
    #[must_use]
    pub fn not_before(&self, index: u64) -> Option<UnixMillis> {
        self.times.iter().take_while(|(size, _)| *size <= index).map(|(_, time)| *time).max()
    }

    /// The earliest instant at which the ledger was witnessed with entry `index`: it is older.
    #[must_use]
    pub fn not_after(&self, index: u64) -> Option<UnixMillis> {
        self.times.iter().rev().take_while(|(size, _)| *size > index).map(|(_, time)| *time).min()
    }

    /// Both bounds of each entry `0..entries`, in one walk.
    pub fn bounds(
        &self,
        entries: u64,
    ) -> impl Iterator<Item = (Option<UnixMillis>, Option<UnixMillis>)> {
        // What the first of these times to come say together: the least of the rest.
        let mut rest: Vec<UnixMillis> = Vec::with_capacity(self.times.len());
        for (_, time) in self.times.iter().rev() {
            rest.push(rest.last().map_or(*time, |least| (*least).min(*time)));
        }
        rest.reverse();
        let (mut passed, mut after) = (0, None);
        (0..entries).map(move |index| {
            while let Some((_, time)) = self.times.get(passed).filter(|(size, _)| *size <= index) {
                after = after.max(Some(*time));
                passed += 1;
            }
            (after, rest.get(passed).copied())
        })
    }
}

/// A verifier key that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifierKeyError {
    /// Not `name+id+base64` of an Ed25519 key.
    #[error("it is not a verifier key, name+id+base64 of an Ed25519 key")]
    Malformed,
    /// Of another type of signatures.
    #[error("the key's signatures are of type {found:#04x}, not {wanted:#04x}")]
    Type {
        /// The type that is written.
        found: u8,
        /// The one that is needed here: 0x01 of a ledger, 0x04 of a witness.
        wanted: u8,
    },
    /// The id is not the key's.
    #[error("the id in the verifier key is not that of its name and key")]
    Id,
}

/// A cosignature that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CosignatureError {
    /// No signature lines.
    #[error("it is no signed note")]
    Note(#[from] NoteError),
    /// None of the witness's.
    #[error("there is no cosignature of the witness's key")]
    Missing,
    /// Not eight bytes of time and 64 of signature, or a time beyond every calendar.
    #[error("the cosignature is malformed")]
    Malformed,
    /// Not over this text and time.
    #[error("the cosignature is not the witness's over this checkpoint")]
    Signature,
}

impl CosignatureError {
    /// The word in statuses, metrics and logs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "LOG_COSIGNATURE"
    }
}

/// Checks the bytes behind the key id: eight of time, 64 of signature.
fn verify(key: &PublicKey, text: &str, bytes: &[u8]) -> Result<UnixMillis, CosignatureError> {
    let (time, signature) = bytes.split_first_chunk::<8>().ok_or(CosignatureError::Malformed)?;
    let seconds = u64::from_be_bytes(*time);
    let millis = i64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(1000));
    let time = UnixMillis::new(millis.ok_or(CosignatureError::Malformed)?);
    key.verify(message(seconds, text).as_bytes(), signature)
        .map_err(|_| CosignatureError::Signature)?;
    Ok(time)
}

fn message(seconds: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {seconds}\n{text}")
}

fn hex(id: KeyId) -> String {
    id.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The type byte of timestamped Ed25519 cosignatures.
const COSIGNATURE: u8 = 0x04;
const VERIFIER_KEY_BYTES_MAX: usize = Origin::BYTES_MAX + 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Ed25519Key, SeededEntropy};

    /// A checkpoint of a public log, cosigned by a public witness that shares no code with ours.
    const LIVE: &str = "coachandhorses2026h1.staging.certificate.transparency.goog\n185550722\n\
        YXAM0VmnrfvLaBCOOYSJhCaE5F10oGBOo+hkbDa1kng=\n\n\
        \u{2014} coachandhorses2026h1.staging.certificate.transparency.goog MpXgsHy8ZwxXnO+WjtVrPxAzL49Rs1gWTkNVNeEa//5peAzaocRCB3qt3EaibjzY5GILLtGgBP7dBhgcSHy+JQh0OAc=\n\
        \u{2014} witness.navigli.sunlight.geomys.org o+AP4gAAAABqb7DzNrGFRJnQ9vrJ8xpnwZytnr/ZYczDIsvwvouiSjwOjn7a72ccxBk+lKnZ7dKqkYKER1s/KxLTaVwQD7lJZTC/CQ==\n";
    const LIVE_WITNESS: &str =
        "witness.navigli.sunlight.geomys.org+a3e00fe2+BNy/co4C1Hn1p+INwJrfUlgz7W55dSZReusH/GhUhJ/G";

    fn key(seed: u64) -> Ed25519Key {
        Ed25519Key::generate(&SeededEntropy::new(seed)).unwrap()
    }

    fn name(text: &str) -> Origin {
        Origin::try_from(text).unwrap()
    }

    fn seconds(seconds: i64) -> UnixMillis {
        UnixMillis::new(seconds * 1000)
    }

    #[test]
    fn the_cosignature_of_a_public_witness_verifies() {
        let witness = WitnessKey::parse(LIVE_WITNESS).unwrap();
        assert_eq!(witness.to_string(), LIVE_WITNESS);
        let note = SignedNote::parse(LIVE).unwrap();
        assert_eq!(witness.cosigned_at(&note), Ok(Some(seconds(1_785_704_691))));
        let other = SignedNote::parse(LIVE).unwrap();
        let stranger = WitnessKey::new(name("w.example"), key(1).public_key());
        assert_eq!(stranger.cosigned_at(&other), Ok(None));
    }

    #[test]
    fn the_example_of_the_specification_is_framed_as_it_says() {
        // c2sp.org/tlog-cosignature publishes no key for it: what it says is the id, the time and the
        // message.
        let text =
            "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        let line = "\u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";
        let note = format!("{text}\n{line}");
        let note = SignedNote::parse(&note).unwrap();
        let id = KeyId::from_bytes([0x8d, 0x66, 0xcf, 0x3f]);
        let witness = name("witness.example.com/w1");
        let found: Vec<_> = note.signatures_of(&witness, id).collect();
        let [bytes] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(bytes.len(), 72);
        assert_eq!(bytes[..8], 1_679_315_147_u64.to_be_bytes());
        assert_eq!(
            message(1_679_315_147, text),
            "cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\n\
             CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
        );
    }

    #[test]
    fn verifier_keys_are_those_of_other_implementations() {
        // The example of golang.org/x/mod/sumdb/note, and its signature.
        let text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let log = LogKey::parse(text).unwrap();
        assert_eq!(log.to_string(), text);
        let note = "If you think cryptography is the answer to your problem,\n\
            then you don't know what your problem is.\n\n\
            \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        assert!(SignedNote::parse(note).unwrap().verify(log.origin(), log.key()).is_ok());
        for public in [
            "staging.witness.transparency.goog/ring-any-bells+2e1a8dc9+BG5JTpLc3FJtwzgh1Uv+Qelz9qeOH2bfWjS1s0s+y4rL",
            "rgdd.se/poc-witness+db03732e+BCjJKlo6BU0xfIb8LutqerIFTWIXEA0L5n3tW3QyPFgG",
            "witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO",
        ] {
            assert_eq!(WitnessKey::parse(public).unwrap().to_string(), public);
            assert!(matches!(
                LogKey::parse(public),
                Err(VerifierKeyError::Type { found: 4, wanted: 1 })
            ));
        }
    }

    #[test]
    fn no_character_of_a_verifier_key_may_change() {
        for place in 0..LIVE_WITNESS.len() * 8 {
            let mut bytes = LIVE_WITNESS.as_bytes().to_vec();
            bytes[place / 8] ^= 1 << (place % 8);
            let Ok(altered) = String::from_utf8(bytes) else { continue };
            assert!(WitnessKey::parse(&altered).is_err(), "{altered}");
        }
        for bad in ["", "a", "a+b", "a++", "+00000000+AQ==", "a+00000000+", &"x".repeat(1000)] {
            assert!(WitnessKey::parse(bad).is_err() && LogKey::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_bit_of_a_cosigned_text_or_of_the_cosignature_may_change() {
        let witness = WitnessKey::new(name("w.example/1"), key(2).public_key());
        let text = "a.example/log\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        let line = cosign(text, seconds(1_700_000_000), witness.name(), &key(2)).unwrap();
        let note = format!("{text}\n{line}");
        let good = SignedNote::parse(&note).unwrap();
        assert_eq!(witness.cosigned_at(&good), Ok(Some(seconds(1_700_000_000))));
        for place in 0..note.len() * 8 {
            let mut bytes = note.clone().into_bytes();
            bytes[place / 8] ^= 1 << (place % 8);
            let Ok(altered) = String::from_utf8(bytes) else { continue };
            let Ok(parsed) = SignedNote::parse(&altered) else { continue };
            assert!(!matches!(witness.cosigned_at(&parsed), Ok(Some(_))), "{place}");
        }
    }

    #[test]
    fn an_answer_counts_by_its_own_line_alone() {
        let witness = WitnessKey::new(name("w.example/1"), key(2).public_key());
        let text = "a.example/log\n7\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        let line = |name: &Origin, seed| cosign(text, seconds(9), name, &key(seed)).unwrap();
        let own = line(witness.name(), 2);
        let read = |answer: &str| witness.read_answer(text, answer);
        assert_eq!(read(&own), Ok(Cosignature { line: own.clone(), time: seconds(9) }));
        let strangers = format!("{}{own}", line(&name("w.example/2"), 3));
        assert_eq!(read(&strangers).unwrap().line, own);
        assert_eq!(read(&line(witness.name(), 3)), Err(CosignatureError::Missing));
        assert!(read("").is_err() && read("rubbish\n").is_err() && read(own.trim_end()).is_err());
        let of_another_text = text.replace("\n7\n", "\n8\n");
        assert_eq!(witness.read_answer(&of_another_text, &own), Err(CosignatureError::Signature));
    }

    #[test]
    fn entries_lie_between_what_was_witnessed_without_and_with_them() {
        let at = |seconds: i64| UnixMillis::new(seconds * 1000);
        // Size 8 was witnessed before size 5 was: whoever says 8 at 50 also says 5 at 50.
        let times =
            WitnessTimes::collect([(8, at(50)), (3, at(20)), (5, at(60)), (3, at(10)), (0, at(1))]);
        assert_eq!(times.times(), [(0, at(1)), (3, at(10)), (5, at(60)), (8, at(50))]);
        let wanted = [
            (0, Some(at(1)), Some(at(10))),
            (2, Some(at(1)), Some(at(10))),
            (3, Some(at(10)), Some(at(50))),
            (5, Some(at(60)), Some(at(50))),
            (7, Some(at(60)), Some(at(50))),
            (8, Some(at(60)), None),
        ];
        let all: Vec<_> = times.bounds(9).collect();
        for (index, not_before, not_after) in wanted {
            assert_eq!(times.not_before(index), not_before, "{index}");
            assert_eq!(times.not_after(index), not_after, "{index}");
            assert_eq!(all[usize::try_from(index).unwrap()], (not_before, not_after), "{index}");
        }
        assert_eq!(WitnessTimes::default().bounds(2).collect::<Vec<_>>(), [(None, None); 2]);
    }
}
