//! Registers: lists of persons, cards, accounts and devices that rules ask.

use super::words::words;

words! {
    /// A register.
    Register {
        /// Persons of the bank's hotlist.
        HotlistPerson = "hotlist_person",
        /// Cards of the bank's hotlist.
        HotlistCard = "hotlist_card",
        /// Accounts of the bank's hotlist.
        HotlistAccount = "hotlist_account",
        /// Terminals and devices of the bank's hotlist.
        HotlistDevice = "hotlist_device",
        /// Persons whom a regulator lists as money mules.
        Dropper = "dropper",
        /// Accounts tied to a crypto platform without a licence.
        UnlicensedPlatform = "unlicensed_platform",
    }
}

impl Register {
    /// What its values are.
    #[must_use]
    pub const fn lists(self) -> Listed {
        match self {
            Self::HotlistPerson | Self::Dropper => Listed::Persons,
            Self::HotlistCard => Listed::Cards,
            Self::HotlistAccount | Self::UnlicensedPlatform => Listed::Accounts,
            Self::HotlistDevice => Listed::Terminals,
        }
    }
}

/// What the values of a register are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Listed {
    /// IINs.
    Persons,
    /// Card tokens.
    Cards,
    /// Account tokens.
    Accounts,
    /// Terminal ids.
    Terminals,
}

/// The code of a source, kept beside a row: a word, in which no number of a person or a card fits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceCode(String);

impl SourceCode {
    /// Longest code, in bytes.
    pub const BYTES_MAX: usize = 32;
    /// Most digits in it.
    pub const DIGITS_MAX: usize = 8;

    /// The code.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for SourceCode {
    type Error = InvalidSourceCode;

    fn try_from(text: &str) -> Result<Self, InvalidSourceCode> {
        let in_alphabet =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':');
        let is_short = (1..=Self::BYTES_MAX).contains(&text.len());
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        if is_short && text.bytes().all(in_alphabet) && digits <= Self::DIGITS_MAX {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidSourceCode)
        }
    }
}

/// A text that is no code of a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "it is not 1 to 32 of the characters A-Z, a-z, 0-9, '.', '_', '-' and ':', with 8 digits at most"
)]
pub struct InvalidSourceCode;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_a_person_or_card_fits_a_source_code() {
        assert!(SourceCode::try_from("AFC-2026.11:7").is_ok());
        assert!(SourceCode::try_from("list-12345678").is_ok());
        for wrong in ["", "two words", "list-123456789", "000000300017", &"a".repeat(33)] {
            assert_eq!(SourceCode::try_from(wrong), Err(InvalidSourceCode), "{wrong}");
        }
    }
}
