//! What is captured of a person.

/// The characteristic that a capture shows (ISO/IEC 2382-37: biometric modality).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Modality {
    /// A face in a picture.
    Face,
}

impl Modality {
    /// The word used in receipts, facts and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Face => "face",
        }
    }
}
