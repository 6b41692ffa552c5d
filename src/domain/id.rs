//! Identifiers: each refuses what it cannot be.

use std::fmt;

use serde::Serialize;

use super::time::UnixMillis;

/// Longest identifier that a bank or a vendor may choose, in bytes.
pub const TEXT_ID_BYTES_MAX: usize = 64;

/// An identifier that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Nothing was given.
    #[error("it is empty")]
    Empty,
    /// More than [`TEXT_ID_BYTES_MAX`] bytes.
    #[error("it is longer than 64 bytes")]
    TooLong,
    /// A byte outside the identifier's alphabet.
    #[error("it has a character other than A-Z, a-z, 0-9, '.', '_', '-' and ':'")]
    Character,
    /// A binary identifier of another length.
    #[error("it has the wrong number of bytes")]
    Length,
    /// A number outside its range.
    #[error("it is out of range")]
    Range,
}

fn checked_text(text: &str) -> Result<String, InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty);
    }
    if text.len() > TEXT_ID_BYTES_MAX {
        return Err(InvalidId::TooLong);
    }
    let in_alphabet = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':');
    if text.bytes().all(in_alphabet) { Ok(text.to_owned()) } else { Err(InvalidId::Character) }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The identifier's text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidId;

            fn try_from(text: &str) -> Result<Self, Self::Error> {
                checked_text(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
    };
}

text_id! {
    /// One bank on a gateway.
    TenantId
}
text_id! {
    /// A cash terminal, as its operator calls it: `ATM-004211`.
    TerminalId
}
text_id! {
    /// The host's number of a transaction; unique for a terminal and a business date.
    HostTransactionId
}
text_id! {
    /// A camera at a terminal, as the bank's video archive calls it.
    CameraId
}
text_id! {
    /// A device that takes captures, as its operator calls it: `CAM-004211`.
    SensorId
}
text_id! {
    /// The name of a sensor's key; no two keys have one.
    SensorKeyId
}
text_id! {
    /// The name of a key that captures are sealed to.
    CaptureKeyId
}
text_id! {
    /// A case at the bank for which something is kept, as its register of cases calls it.
    CaseReference
}
text_id! {
    /// Who holds a certificate other than a terminal's: `teller-7`.
    PrincipalName
}
text_id! {
    /// A unit of the bank, as it calls it: `operations`.
    UnitName
}

fn bytes_from_hex<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    bytes?.try_into().ok()
}

macro_rules! binary_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// The identifier made of these bytes.
            #[must_use]
            pub const fn new(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The identifier that is written as these hexadecimal digits, lower case only: one thing has
            /// one name.
            #[must_use]
            pub fn from_hex(text: &str) -> Option<Self> {
                bytes_from_hex(text).map(Self)
            }

            /// The identifier's bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = InvalidId;

            fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
                bytes.try_into().map(Self).map_err(|_| InvalidId::Length)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

binary_id! {
    /// A customer; random, so that it says nothing of the person.
    CustomerId, 16
}
binary_id! {
    /// One enrolled capture of a customer.
    CaptureId, 16
}
binary_id! {
    /// A case that a person must look at.
    CaseId, 16
}
binary_id! {
    /// An act that waits for another person's approval.
    ProposalId, 16
}
binary_id! {
    /// A receipt: a UUID of version 7, so that new ones stand side by side in an index.
    ReceiptId, 16
}

impl ReceiptId {
    /// The id of a receipt made now: the time in milliseconds, then 74 random bits (RFC 9562, 5.7).
    #[must_use]
    pub fn at(now: UnixMillis, random: [u8; 16]) -> Self {
        const MARKS: u128 = 0xf << 76 | 0b11 << 62;
        const VERSION_AND_VARIANT: u128 = 7 << 76 | 0b10 << 62;
        let millis = u128::from(u64::try_from(now.get()).unwrap_or(0)) << 80;
        let random = u128::from_be_bytes(random) & !(u128::MAX << 80);
        Self(((millis | random) & !MARKS | VERSION_AND_VARIANT).to_be_bytes())
    }
}

binary_id! {
    /// A confirmation that a customer is asked for.
    ConfirmationId, 16
}
binary_id! {
    /// SHA-256 of a camera's clip.
    ClipHash, 32
}
binary_id! {
    /// A challenge: issued by `BeginCapture`, used once by `Verify`.
    Challenge, 32
}

/// Which try of a transaction this is, counted by the terminal from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(transparent)]
pub struct Attempt(u32);

impl Attempt {
    /// The highest number a terminal may give; the pack's limit is far below.
    pub const MAX: u32 = 99;

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Attempt {
    type Error = InvalidId;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        if (1..=Self::MAX).contains(&number) { Ok(Self(number)) } else { Err(InvalidId::Range) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 9562, A.6.
    #[test]
    fn a_receipts_id_is_a_uuid_of_version_7() {
        let (now, random) = (UnixMillis::new(0x017f_22e2_79b0), 0xcc3_18c4_dc0c_0c07_398f_u128);
        let id = ReceiptId::at(now, random.to_be_bytes());
        assert_eq!(id.to_string(), "017f22e279b07cc398c4dc0c0c07398f");
        let noise = ReceiptId::at(now, [0xff; 16]);
        assert_eq!(noise.to_string(), "017f22e279b07fffbfffffffffffffff");
    }

    #[test]
    fn a_text_identifier_refuses_each_bad_neighbour() {
        assert!(TerminalId::try_from("ATM-004211").is_ok());
        assert!(TerminalId::try_from("x".repeat(64).as_str()).is_ok());
        assert_eq!(TerminalId::try_from(""), Err(InvalidId::Empty));
        assert_eq!(TerminalId::try_from("x".repeat(65).as_str()), Err(InvalidId::TooLong));
        for bad in ["a b", "a/b", "а", "a\n", "a\0"] {
            assert_eq!(TerminalId::try_from(bad), Err(InvalidId::Character));
        }
    }

    #[test]
    fn an_attempt_is_counted_from_one() {
        assert_eq!(Attempt::try_from(0), Err(InvalidId::Range));
        assert_eq!(Attempt::try_from(1).map(Attempt::get), Ok(1));
        assert_eq!(Attempt::try_from(100), Err(InvalidId::Range));
    }

    #[test]
    fn a_binary_identifier_has_one_length() {
        assert!(CustomerId::try_from([1u8; 16].as_slice()).is_ok());
        assert_eq!(CustomerId::try_from([1u8; 15].as_slice()), Err(InvalidId::Length));
        let text = "0a".repeat(15) + "f7";
        let id = CustomerId::from_hex(&text).unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(id.as_bytes()[15], 0xf7);
        for bad in ["", "0a", &text.to_uppercase(), &text[1..], &(text.clone() + "0"), "0g"] {
            assert_eq!(CustomerId::from_hex(bad), None, "{bad}");
        }
        assert_eq!(CustomerId::from_hex(&text.replace("f7", "-7")), None);
    }
}
