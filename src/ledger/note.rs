//! Signed notes (c2sp.org/signed-note): a text, a blank line, and signature lines.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::crypto::{Digest, KeyKind, PublicKey, SignatureError, Signer, sha256};

/// Longest note taken, in bytes.
pub const NOTE_BYTES_MAX: usize = 64 * 1024;

/// The unique name of a ledger, and of the key that signs its checkpoints:
/// `cash.bank.example/gw07/2026h2`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin(String);

impl Origin {
    /// Longest origin taken, in bytes.
    pub const BYTES_MAX: usize = 255;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// SHA-256 of the name.
    #[must_use]
    pub fn digest(&self) -> Digest {
        sha256(self.0.as_bytes())
    }

    /// The folder that is its own in an export of several ledgers: its name, whose slashes separate
    /// folders. None for a name that would lead anywhere else.
    #[must_use]
    pub fn folder(&self) -> Option<&str> {
        let is_safe = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', ':']);
        self.0.split('/').all(is_safe).then_some(&self.0)
    }
}

impl TryFrom<&str> for Origin {
    type Error = InvalidOrigin;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        if text.is_empty() {
            return Err(InvalidOrigin::Empty);
        }
        if text.len() > Self::BYTES_MAX {
            return Err(InvalidOrigin::TooLong);
        }
        let forbidden = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        if text.chars().any(forbidden) {
            return Err(InvalidOrigin::Character);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({})", self.0)
    }
}

/// A name that no ledger can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOrigin {
    /// Nothing was given.
    #[error("it is empty")]
    Empty,
    /// More than [`Origin::BYTES_MAX`] bytes.
    #[error("it is longer than 255 bytes")]
    TooLong,
    /// A space, a plus sign or a control character.
    #[error("it has a space, a plus sign or a control character")]
    Character,
}

/// The first four bytes of SHA-256(name ‖ 0x0A ‖ 0x01 ‖ public key): tells which key a line is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyId([u8; 4]);

impl KeyId {
    /// The id of an Ed25519 key under a name.
    #[must_use]
    pub fn of(name: &Origin, key: &PublicKey) -> Self {
        Self::of_type(ED25519, name, key)
    }

    /// The id of a key whose signatures are of this type.
    pub(super) fn of_type(signature_type: u8, name: &Origin, key: &PublicKey) -> Self {
        let named = [name.as_str().as_bytes(), b"\n", &[signature_type], key.as_bytes()].concat();
        let [a, b, c, d, ..] = *sha256(&named).as_bytes();
        Self([a, b, c, d])
    }

    /// The id of these bytes.
    #[cfg(test)]
    pub(super) const fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(bytes)
    }

    /// Its four bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 4] {
        &self.0
    }
}

/// Signs `text` (which ends with a newline) under `name`: the whole note.
///
/// # Errors
///
/// [`SignatureError`] when the key's holder cannot sign, or the key is no Ed25519 key: notes know no
/// other.
pub fn sign_note(text: &str, name: &Origin, signer: &dyn Signer) -> Result<String, SignatureError> {
    let key = signer.public_key();
    if key.kind() != KeyKind::Ed25519 {
        return Err(SignatureError::Kind);
    }
    let id = KeyId::of(name, &key);
    let signature = signer.sign(text.as_bytes())?;
    let line = STANDARD.encode([id.0.as_slice(), &signature].concat());
    Ok(format!("{text}\n{SIGNATURE_MARK}{name} {line}\n"))
}

/// A note that is well formed; nothing is said yet of its signatures.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedNote<'a> {
    text: &'a str,
    signatures: Vec<SignatureLine<'a>>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct SignatureLine<'a> {
    name: &'a str,
    id: [u8; 4],
    signature: Vec<u8>,
}

impl<'a> SignedNote<'a> {
    /// Reads a note of at most [`NOTE_BYTES_MAX`] bytes.
    ///
    /// # Errors
    ///
    /// [`NoteError`] for anything that is not exactly a signed note.
    pub fn parse(note: &'a str) -> Result<Self, NoteError> {
        if note.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLong);
        }
        if note.chars().any(|c| c.is_control() && c != '\n') {
            return Err(NoteError::Malformed);
        }
        let blank = note.rfind("\n\n").ok_or(NoteError::Malformed)?;
        let (text, rest) = note.split_at_checked(blank + 1).ok_or(NoteError::Malformed)?;
        let block = rest.strip_prefix('\n').and_then(|block| block.strip_suffix('\n'));
        let lines = block.ok_or(NoteError::Malformed)?.split('\n');
        let signatures =
            lines.take(SIGNATURES_MAX + 1).map(signature_line).collect::<Result<Vec<_>, _>>()?;
        if signatures.len() > SIGNATURES_MAX {
            return Err(NoteError::TooLong);
        }
        Ok(Self { text, signatures })
    }

    /// The text, when `key` signed it under `name`. Lines of other keys are not looked at; two lines
    /// of this one, or one that does not verify, refuse the note.
    ///
    /// # Errors
    ///
    /// [`NoteError`] otherwise.
    pub fn verify(&self, name: &Origin, key: &PublicKey) -> Result<&'a str, NoteError> {
        if key.kind() != KeyKind::Ed25519 {
            return Err(NoteError::NotSigned);
        }
        let id = KeyId::of(name, key);
        let mut ours =
            self.signatures.iter().filter(|line| line.name == name.as_str() && line.id == id.0);
        let line = ours.next().ok_or(NoteError::NotSigned)?;
        if ours.next().is_some() {
            return Err(NoteError::SignedTwice);
        }
        key.verify(self.text.as_bytes(), &line.signature).map_err(|_| NoteError::Signature)?;
        Ok(self.text)
    }

    /// The text, whoever signed it.
    #[must_use]
    pub const fn unverified_text(&self) -> &'a str {
        self.text
    }

    /// The bytes behind the key id of each line that a key of this name and id may have made.
    pub(super) fn signatures_of<'b>(
        &'b self,
        name: &'b Origin,
        id: KeyId,
    ) -> impl Iterator<Item = &'b [u8]> + use<'a, 'b> {
        let ours = move |line: &&SignatureLine<'a>| line.name == name.as_str() && line.id == id.0;
        self.signatures.iter().filter(ours).map(|line| line.signature.as_slice())
    }
}

/// A note that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// More bytes or more signature lines than are read.
    #[error("the note is longer than 64 KiB or has more than 64 signatures")]
    TooLong,
    /// Not a text, a blank line and signature lines.
    #[error("it is not a signed note")]
    Malformed,
    /// No line of the key.
    #[error("the note has no signature of the ledger's key")]
    NotSigned,
    /// Two lines of the key.
    #[error("the note has two signatures of the ledger's key")]
    SignedTwice,
    /// The key's line does not verify.
    #[error("the signature is not the key's over this text")]
    Signature,
}

impl NoteError {
    /// The word in statuses, metrics and logs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "LOG_NOTE"
    }
}

fn signature_line(line: &str) -> Result<SignatureLine<'_>, NoteError> {
    let (name, encoded) = line
        .strip_prefix(SIGNATURE_MARK)
        .and_then(|rest| rest.split_once(' '))
        .ok_or(NoteError::Malformed)?;
    // A name obeys the same rules whether we know it or not.
    Origin::try_from(name).map_err(|_| NoteError::Malformed)?;
    let bytes = STANDARD.decode(encoded).map_err(|_| NoteError::Malformed)?;
    match bytes.split_first_chunk::<4>() {
        Some((id, signature)) if !signature.is_empty() => {
            Ok(SignatureLine { name, id: *id, signature: signature.to_vec() })
        }
        _ => Err(NoteError::Malformed),
    }
}

/// An em dash and a space.
pub(super) const SIGNATURE_MARK: &str = "\u{2014} ";
/// The type byte of plain Ed25519 signatures.
pub(super) const ED25519: u8 = 0x01;
const SIGNATURES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Ed25519Key, P256Key, SeededEntropy};

    fn key(seed: u64) -> Ed25519Key {
        Ed25519Key::generate(&SeededEntropy::new(seed)).unwrap()
    }

    #[test]
    fn an_origin_refuses_each_bad_neighbour() {
        assert!(Origin::try_from("cash.bank.example/gw07/2026h2").is_ok());
        assert_eq!(Origin::try_from(""), Err(InvalidOrigin::Empty));
        assert_eq!(Origin::try_from("x".repeat(256).as_str()), Err(InvalidOrigin::TooLong));
        for bad in ["a b", "a+b", "a\n", "a\u{a0}b", "a\0"] {
            assert_eq!(Origin::try_from(bad), Err(InvalidOrigin::Character), "{bad:?}");
        }
    }

    #[test]
    fn a_ledger_s_folder_leads_nowhere_else() {
        let folder = |text| Origin::try_from(text).unwrap().folder().map(str::to_owned);
        assert_eq!(folder("a.example/gw/2026h2").as_deref(), Some("a.example/gw/2026h2"));
        for bad in ["/a", "a/", "a//b", "../a", "a/../b", "a/.", "c:/a", "a\\b"] {
            assert_eq!(folder(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_note_is_its_signers_alone() {
        let name = Origin::try_from("a.example/log").unwrap();
        let note = sign_note("hello\n", &name, &key(1)).unwrap();
        let parsed = SignedNote::parse(&note).unwrap();
        assert_eq!(parsed.verify(&name, &key(1).public_key()), Ok("hello\n"));
        assert_eq!(parsed.verify(&name, &key(2).public_key()), Err(NoteError::NotSigned));
        let other = Origin::try_from("b.example/log").unwrap();
        assert_eq!(parsed.verify(&other, &key(1).public_key()), Err(NoteError::NotSigned));
    }

    #[test]
    fn a_p_256_key_signs_no_notes() {
        let name = Origin::try_from("a.example/log").unwrap();
        let p256 = P256Key::generate().unwrap();
        assert_eq!(sign_note("hello\n", &name, &p256), Err(SignatureError::Kind));
        // Nor is its signature taken where somebody else wrote the line.
        let public = p256.public_key();
        let signature = p256.sign(b"hello\n").unwrap();
        let line = STANDARD.encode([KeyId::of(&name, &public).0.as_slice(), &signature].concat());
        let note = format!("hello\n\n{SIGNATURE_MARK}{name} {line}\n");
        let verdict = SignedNote::parse(&note).unwrap().verify(&name, &public);
        assert_eq!(verdict, Err(NoteError::NotSigned));
    }

    #[test]
    fn a_second_signature_of_one_key_refuses_the_note_and_a_stranger_s_does_not() {
        let name = Origin::try_from("a.example/log").unwrap();
        let note = sign_note("hello\n", &name, &key(1)).unwrap();
        let line = note.lines().last().unwrap();
        let twice = format!("{note}{line}\n");
        let public = key(1).public_key();
        assert_eq!(
            SignedNote::parse(&twice).unwrap().verify(&name, &public),
            Err(NoteError::SignedTwice)
        );
        let stranger = sign_note("hello\n", &name, &key(2)).unwrap();
        let both = format!("{note}{}\n", stranger.lines().last().unwrap());
        assert_eq!(SignedNote::parse(&both).unwrap().verify(&name, &public), Ok("hello\n"));
    }

    #[test]
    fn what_is_not_exactly_a_note_is_refused() {
        let name = Origin::try_from("a.example/log").unwrap();
        let good = sign_note("hello\n", &name, &key(1)).unwrap();
        let bad = [
            String::new(),
            "hello\n".to_owned(),
            good.trim_end().to_owned(),
            good.replace('\u{2014}', "-"),
            good.replace("\n\n", "\n"),
            good.replace("hello", "hel\rlo"),
            format!("{good}\n"),
            format!("{good}trailing\n"),
            format!("{good}{}", "x".repeat(NOTE_BYTES_MAX)),
        ];
        for note in bad {
            assert!(SignedNote::parse(&note).is_err(), "{note:?}");
        }
    }
}
