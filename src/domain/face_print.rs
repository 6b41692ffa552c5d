//! How an aligned face looks, coarsely: by it a picture is known again that was altered a little.

/// The signs of the coarsest waves in an aligned face: 144 bits, the first of which is always 0.
///
/// It is no template: pictures of one person that were taken at different times differ about as much as those
/// of two people. It is personal data all the same.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FacePrint([u8; Self::BYTES]);

impl FacePrint {
    /// Its length.
    pub const BYTES: usize = 18;

    /// Most bits in which a picture differs from one that it was made of by encoding, scaling or brightening it
    /// anew; `docs/sensors.md` has how often it does, and how often other pictures of the same person do not.
    pub const NEAR_MAX: u32 = 26;

    /// A print of these bits.
    #[must_use]
    pub const fn new(bits: [u8; Self::BYTES]) -> Self {
        Self(bits)
    }

    /// The bits.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// In how many bits two prints differ.
    #[must_use]
    pub fn distance(&self, other: &Self) -> u32 {
        self.0.iter().zip(other.0).map(|(one, other)| (one ^ other).count_ones()).sum()
    }

    /// Whether the two differ by so little that one picture is likely made of the other.
    #[must_use]
    pub fn is_near(&self, other: &Self) -> bool {
        self.distance(other) <= Self::NEAR_MAX
    }
}

impl std::fmt::Debug for FacePrint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FacePrint(…)")
    }
}

/// Bytes that are no print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a face's print has 18 bytes")]
pub struct InvalidFacePrint;

impl TryFrom<&[u8]> for FacePrint {
    type Error = InvalidFacePrint;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Self).map_err(|_| InvalidFacePrint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_are_near_up_to_the_bar_and_not_beyond() {
        let print = |bits: u32| {
            let mut bytes = [0; FacePrint::BYTES];
            for bit in 0..bits {
                bytes[usize::try_from(bit / 8).unwrap()] |= 1 << (bit % 8);
            }
            FacePrint::new(bytes)
        };
        let none = print(0);
        for bits in [0, 1, 8, 143, 144] {
            assert_eq!((none.distance(&print(bits)), print(bits).distance(&none)), (bits, bits));
        }
        assert!(print(FacePrint::NEAR_MAX).is_near(&none));
        assert!(!print(FacePrint::NEAR_MAX + 1).is_near(&none));
    }

    #[test]
    fn a_print_is_read_back_from_its_bytes_and_says_nothing_of_itself() {
        let print = FacePrint::new([7; FacePrint::BYTES]);
        assert_eq!(FacePrint::try_from(&print.as_bytes()[..]), Ok(print));
        assert_eq!(FacePrint::try_from(&[7; 17][..]), Err(InvalidFacePrint));
        assert_eq!(format!("{print:?}"), "FacePrint(…)");
    }
}
