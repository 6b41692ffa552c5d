//! Cases: what rules found that a person must look at.

use std::fmt;

use super::words::words;

words! {
    /// Where a case stands.
    CaseStatus {
        /// Nobody has decided.
        Open = "open",
        /// Two people released the person.
        Released = "released",
        /// Two people refused.
        Refused = "refused",
    }
}

words! {
    /// How a case ends.
    Resolution {
        /// Nothing stands against the person.
        Release = "release",
        /// The person's withdrawals stay held.
        Refuse = "refuse",
    }
}

impl Resolution {
    /// The status of a case that ended so.
    #[must_use]
    pub const fn status(self) -> CaseStatus {
        match self {
            Self::Release => CaseStatus::Released,
            Self::Refuse => CaseStatus::Refused,
        }
    }
}

/// What a case is about, in the pack's word: `MULE`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CaseKind(String);

impl CaseKind {
    /// Longest word, in bytes.
    pub const BYTES_MAX: usize = 32;

    /// The kind of a hold whose rule names none.
    #[must_use]
    pub fn hold() -> Self {
        Self("HOLD".to_owned())
    }

    /// The word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for CaseKind {
    type Error = InvalidCaseKind;

    fn try_from(word: &str) -> Result<Self, InvalidCaseKind> {
        let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        if (1..=Self::BYTES_MAX).contains(&word.len()) && word.bytes().all(plain) {
            Ok(Self(word.to_owned()))
        } else {
            Err(InvalidCaseKind)
        }
    }
}

impl fmt::Display for CaseKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A word that names no kind of case.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it is not 1 to 32 of the characters A-Z, 0-9 and '_'")]
pub struct InvalidCaseKind;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_a_short_plain_word() {
        assert_eq!(CaseKind::try_from("MULE_2").unwrap().as_str(), "MULE_2");
        assert!(CaseKind::try_from("A".repeat(32).as_str()).is_ok());
        for wrong in ["", "mule", "MU LE", "A".repeat(33).as_str()] {
            assert_eq!(CaseKind::try_from(wrong), Err(InvalidCaseKind), "{wrong}");
        }
    }
}
