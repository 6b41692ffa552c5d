//! IIN: the individual identification number of Kazakhstan.

use std::fmt;

use zeroize::ZeroizeOnDrop;

/// A person's number of twelve digits whose check digit is right.
///
/// `YYMMDD G NNNN C`: G is 1..=6 (sex and century). The date digits are never a reason to refuse:
/// numbers issued since 2013 need not encode a birth date.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct Iin([u8; 12]);

impl Iin {
    /// The twelve ASCII digits, for the keyed index and for sealing only.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 12] {
        &self.0
    }
}

impl TryFrom<&str> for Iin {
    type Error = InvalidIin;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        let ascii: [u8; 12] = text.as_bytes().try_into().map_err(|_| InvalidIin::Length)?;
        if !ascii.iter().all(u8::is_ascii_digit) {
            return Err(InvalidIin::NotDigits);
        }
        let digits = ascii.map(|digit| u32::from(digit - b'0'));
        let [.., fifth, _, sex_and_century, _, _, _, _, check] = digits;
        if check_digit(&digits) != Some(check) {
            return Err(InvalidIin::CheckDigit);
        }
        // A company's number has the same length; its fifth digit is 4 or more, a month's ten is 0 or 1
        // and the day's first digit is at most 3.
        if fifth >= 4 {
            return Err(InvalidIin::Company);
        }
        if !(1..=6).contains(&sex_and_century) {
            return Err(InvalidIin::SexAndCentury);
        }
        Ok(Self(ascii))
    }
}

/// The check digit of the first eleven digits; `None` if no number was ever issued with them.
fn check_digit(digits: &[u32; 12]) -> Option<u32> {
    const FIRST: [u32; 11] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
    const SECOND: [u32; 11] = [3, 4, 5, 6, 7, 8, 9, 10, 11, 1, 2];
    let weighted =
        |weights: [u32; 11]| digits.iter().zip(weights).map(|(d, w)| d * w).sum::<u32>() % 11;
    [weighted(FIRST), weighted(SECOND)].into_iter().find(|&remainder| remainder < 10)
}

impl fmt::Debug for Iin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Iin(…)")
    }
}

/// A text that is no person's number. It never repeats what was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIin {
    /// Not twelve characters.
    #[error("an IIN has 12 digits")]
    Length,
    /// Something else than digits.
    #[error("an IIN has only digits")]
    NotDigits,
    /// The last digit does not follow from the others.
    #[error("the IIN's check digit is wrong: a digit was mistyped")]
    CheckDigit,
    /// The seventh digit is outside 1..=6.
    #[error("the IIN's seventh digit must be 1 to 6")]
    SexAndCentury,
    /// A company's number (BIN).
    #[error("this is a company's number (BIN), not a person's")]
    Company,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_digit_takes_a_second_pass() {
        assert!(Iin::try_from("900101300007").is_ok());
        assert!(Iin::try_from("900101300811").is_ok());
    }

    #[test]
    fn a_prefix_never_issued_has_no_check_digit() {
        for last in 0..10 {
            assert_eq!(
                Iin::try_from(format!("90010130080{last}").as_str()),
                Err(InvalidIin::CheckDigit)
            );
        }
    }

    #[test]
    fn each_mistyped_digit_is_noticed_or_makes_another_valid_number() {
        let good = b"900101300007";
        let mut noticed = 0;
        for place in 0..12 {
            for digit in b'0'..=b'9' {
                let mut typed = *good;
                typed[place] = digit;
                let text = std::str::from_utf8(&typed).unwrap();
                if digit != good[place] && Iin::try_from(text).is_err() {
                    noticed += 1;
                }
            }
        }
        assert!(noticed >= 90, "{noticed} of 108");
    }

    #[test]
    fn a_company_and_nonsense_are_refused() {
        // Fifth digit 4: a BIN with a right check digit.
        let company =
            (0..10).map(|c| format!("99014000038{c}")).find_map(|t| {
                match Iin::try_from(t.as_str()) {
                    Err(InvalidIin::Company) => Some(()),
                    _ => None,
                }
            });
        assert_eq!(company, Some(()));
        assert_eq!(Iin::try_from(""), Err(InvalidIin::Length));
        assert_eq!(Iin::try_from("90010130000x"), Err(InvalidIin::NotDigits));
        assert_eq!(format!("{:?}", Iin::try_from("900101300007").unwrap()), "Iin(…)");
    }
}
