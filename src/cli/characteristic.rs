//! Fingers and faces on the command line: `right-index=print.png`.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::domain::modality::Modality;
use crate::proto;

/// A picture, and what it is of.
#[derive(Clone, Debug)]
pub(super) struct PictureOf {
    pub modality: Modality,
    pub path: PathBuf,
}

impl PictureOf {
    /// Reads `CHARACTERISTIC=FILE`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (word, path) = text.split_once('=').ok_or("it is CHARACTERISTIC=FILE")?;
        Ok(Self { modality: characteristic(word)?, path: path.into() })
    }

    /// Reads `POSITION=FILE`, of a finger.
    pub fn parse_finger(text: &str) -> Result<Self, String> {
        let picture = Self::parse(text)?;
        match picture.modality {
            Modality::Finger(_) => Ok(picture),
            _ => Err("a finger is meant, such as right-index".to_owned()),
        }
    }

    /// The file, as it is sent.
    pub fn capture(&self, pixels_per_inch: Option<u32>) -> Result<proto::Capture> {
        let image = std::fs::read(&self.path)
            .with_context(|| format!("{} cannot be read", self.path.display()))?;
        let pixels_per_inch = pixels_per_inch.filter(|_| self.modality != Modality::Face);
        Ok(proto::Capture { image: image.into(), pixels_per_inch, ..proto::Capture::default() })
    }
}

/// Reads `face`, or a finger's name.
pub(super) fn characteristic(word: &str) -> Result<Modality, String> {
    Modality::from_characteristic(word).ok_or_else(|| {
        "it is face, or a finger: right-thumb, right-index, right-middle, right-ring, right-little, \
         left-thumb, left-index, left-middle, left-ring, left-little"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::finger::FingerPosition;

    #[test]
    fn a_picture_is_told_with_what_it_is_of() {
        let picture = PictureOf::parse("left-ring=a=b.png").unwrap();
        assert_eq!(picture.modality, Modality::Finger(FingerPosition::LeftRing));
        assert_eq!(picture.path, PathBuf::from("a=b.png"));
        assert_eq!(PictureOf::parse("face=a.jpg").unwrap().modality, Modality::Face);
        for wrong in ["a.png", "toe=a.png", "=a.png"] {
            assert!(PictureOf::parse(wrong).is_err(), "{wrong}");
        }
        assert!(PictureOf::parse_finger("face=a.jpg").is_err());
    }
}
