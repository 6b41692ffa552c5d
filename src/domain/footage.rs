//! A camera's clip, as the terminal names it.

use super::id::{CameraId, ClipHash};
use super::time::UnixMillis;

/// Which camera, from when to when, and the clip's SHA-256. The clip itself never comes here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Footage {
    camera: CameraId,
    from: UnixMillis,
    to: UnixMillis,
    clip: ClipHash,
}

impl Footage {
    /// Longest clip taken: one of a whole day names no transaction.
    pub const SPAN_MAX_MS: i64 = 6 * 3_600_000;

    /// A clip of at least a millisecond and at most [`Footage::SPAN_MAX_MS`].
    ///
    /// # Errors
    ///
    /// [`InvalidFootage`] for any other span.
    pub fn new(
        camera: CameraId,
        from: UnixMillis,
        to: UnixMillis,
        clip: ClipHash,
    ) -> Result<Self, InvalidFootage> {
        if to <= from {
            return Err(InvalidFootage::Backwards);
        }
        if to > from.plus_millis(Self::SPAN_MAX_MS) {
            return Err(InvalidFootage::TooLong);
        }
        Ok(Self { camera, from, to, clip })
    }

    /// The camera.
    #[must_use]
    pub const fn camera(&self) -> &CameraId {
        &self.camera
    }

    /// When the clip begins.
    #[must_use]
    pub const fn from(&self) -> UnixMillis {
        self.from
    }

    /// When it ends.
    #[must_use]
    pub const fn to(&self) -> UnixMillis {
        self.to
    }

    /// SHA-256 of the clip's file.
    #[must_use]
    pub const fn clip(&self) -> &ClipHash {
        &self.clip
    }
}

/// A span that no clip has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFootage {
    /// It ends before it begins, or where it begins.
    #[error("the clip does not end after it begins")]
    Backwards,
    /// Longer than [`Footage::SPAN_MAX_MS`].
    #[error("the clip is longer than 6 hours")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clip_ends_after_it_begins_and_within_its_bound() {
        let of = |from: i64, to: i64| {
            let camera = CameraId::try_from("CAM-1").unwrap();
            let (from, to) = (UnixMillis::new(from), UnixMillis::new(to));
            Footage::new(camera, from, to, ClipHash::new([1; 32])).map(drop)
        };
        assert_eq!(of(5, 5), Err(InvalidFootage::Backwards));
        assert_eq!(of(5, 6), Ok(()));
        assert_eq!(of(0, Footage::SPAN_MAX_MS), Ok(()));
        assert_eq!(of(0, Footage::SPAN_MAX_MS + 1), Err(InvalidFootage::TooLong));
        assert_eq!(of(i64::MAX, i64::MIN), Err(InvalidFootage::Backwards));
    }
}
