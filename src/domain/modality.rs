//! What is captured of a person.

use super::finger::FingerPosition;
use super::words::words;

/// The characteristic that a capture shows (ISO/IEC 2382-37: biometric modality), and of fingers which:
/// captures of one characteristic make one template.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum Modality {
    /// A face in a picture.
    Face,
    /// A fingerprint.
    Finger(FingerPosition),
}

impl Modality {
    /// The word under which captures are kept: it tells the fingers apart.
    #[must_use]
    pub const fn characteristic(self) -> &'static str {
        match self {
            Self::Face => "face",
            Self::Finger(position) => position.as_str(),
        }
    }

    /// What [`Self::characteristic`] names.
    #[must_use]
    pub fn from_characteristic(word: &str) -> Option<Self> {
        if word == Self::Face.characteristic() {
            return Some(Self::Face);
        }
        FingerPosition::from_name(word).map(Self::Finger)
    }
}

words! {
    /// What was captured of a person at once, as receipts and rules tell it: which finger is not told.
    Captured {
        /// The face alone.
        Face = "face",
        /// One finger or more.
        Finger = "finger",
        /// The face, and one finger or more.
        FaceAndFinger = "face+finger",
    }
}

impl Captured {
    /// What these are together.
    #[must_use]
    pub fn of(modalities: &[Modality]) -> Self {
        let has_face = modalities.contains(&Modality::Face);
        let has_finger = modalities.iter().any(|modality| matches!(modality, Modality::Finger(_)));
        match (has_face, has_finger) {
            (true, true) => Self::FaceAndFinger,
            (false, true) => Self::Finger,
            (_, false) => Self::Face,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_characteristic_has_a_word_of_its_own_that_leads_back() {
        let all = FingerPosition::ALL.map(Modality::Finger).into_iter().chain([Modality::Face]);
        let words: std::collections::BTreeSet<_> = all
            .map(|modality| {
                let word = modality.characteristic();
                assert_eq!(Modality::from_characteristic(word), Some(modality));
                word
            })
            .collect();
        assert_eq!(words.len(), 11);
        assert_eq!(Modality::from_characteristic("palm"), None);
    }

    #[test]
    fn a_receipt_tells_the_kinds_and_no_finger() {
        let finger = Modality::Finger(FingerPosition::LeftRing);
        assert_eq!(Captured::of(&[Modality::Face]).as_str(), "face");
        assert_eq!(Captured::of(&[finger, finger]).as_str(), "finger");
        assert_eq!(Captured::of(&[finger, Modality::Face]).as_str(), "face+finger");
    }
}
