//! Money: an amount in minor units of a currency.

use std::fmt;

use serde::Serialize;

/// Largest amount taken, in minor units: ten trillion major units of a two-digit currency. Sums of
/// thousands of such amounts still fit an `i64`, so no rule can overflow on them.
pub const AMOUNT_MINOR_MAX: i64 = 1_000_000_000_000_000;

/// An ISO 4217 alphabetic code.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The three letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Three ASCII letters by construction.
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }
}

impl TryFrom<&str> for Currency {
    type Error = InvalidMoney;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        let letters: [u8; 3] = text.as_bytes().try_into().map_err(|_| InvalidMoney::Currency)?;
        if letters.iter().all(u8::is_ascii_uppercase) {
            Ok(Self(letters))
        } else {
            Err(InvalidMoney::Currency)
        }
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A positive amount in minor units.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(transparent)]
pub struct AmountMinor(i64);

impl AmountMinor {
    /// Minor units, 1..=[`AMOUNT_MINOR_MAX`].
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for AmountMinor {
    type Error = InvalidMoney;

    fn try_from(minor: i64) -> Result<Self, Self::Error> {
        if (1..=AMOUNT_MINOR_MAX).contains(&minor) {
            Ok(Self(minor))
        } else {
            Err(InvalidMoney::Amount)
        }
    }
}

/// Money that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMoney {
    /// Not three capital letters.
    #[error("a currency is an ISO 4217 code of three capital letters")]
    Currency,
    /// Zero, negative or beyond [`AMOUNT_MINOR_MAX`].
    #[error("an amount is between 1 and 1,000,000,000,000,000 minor units")]
    Amount,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_refuses_each_bad_neighbour() {
        assert!(Currency::try_from("KZT").is_ok());
        for bad in ["", "KZ", "KZTT", "kzt", "K1T", "₸"] {
            assert_eq!(Currency::try_from(bad), Err(InvalidMoney::Currency), "{bad}");
        }
        assert!(
            AmountMinor::try_from(1).is_ok() && AmountMinor::try_from(AMOUNT_MINOR_MAX).is_ok()
        );
        for bad in [0, -1, i64::MIN, i64::MAX, AMOUNT_MINOR_MAX + 1] {
            assert_eq!(AmountMinor::try_from(bad), Err(InvalidMoney::Amount), "{bad}");
        }
    }
}
