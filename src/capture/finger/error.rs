//! Why bytes are no usable picture of one finger, and what to do about it.

use image::ImageError;

use crate::capture::wsq::WsqError;

/// Bytes that are no usable picture of one finger: an error, not a decision, and no attempt is
/// counted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FingerDecodeError {
    /// No bytes at all.
    #[error("the picture is empty; send the bytes of its file")]
    Empty,
    /// Over [`DecodeLimits::encoded_bytes_max`](crate::capture::DecodeLimits::encoded_bytes_max).
    #[error("the picture's file is larger than allowed; send one finger, cropped to the print")]
    TooManyBytes,
    /// None of the kinds by its first bytes, and not declared raw.
    #[error(
        "the picture is none of PNG, TIFF, BMP, WSQ and finger image records; \
         send one of these, or declare raw pixels with their size"
    )]
    UnknownKind,
    /// Bytes of one kind declared as another.
    #[error(
        "the picture is not of the kind that it is declared to be; declare the right one or none"
    )]
    OtherKind,
    /// A way of writing a known kind that is not read.
    #[error("the picture is written in a way that is not read: {0}; save it as PNG or WSQ")]
    Unsupported(&'static str),
    /// The file ends before the picture does.
    #[error("the picture is cut off; send the whole file")]
    Truncated,
    /// The file contradicts itself.
    #[error("the picture cannot be decoded; save it anew or capture again")]
    Malformed(#[source] Fault),
    /// Raw pixels without a size.
    #[error("raw pixels do not tell their size; declare width and height")]
    NoSize,
    /// Another size than declared.
    #[error("the picture has another size than declared; declare its width and height in pixels")]
    OtherSize,
    /// Over a limit of [`DecodeLimits`](crate::capture::DecodeLimits), as it is or at 500 pixels an
    /// inch; nothing was decoded.
    #[error("the picture claims more pixels than allowed; send one finger, cropped to the print")]
    TooManyPixels,
    /// Under [`DecodeLimits::side_px_min`](crate::capture::DecodeLimits::side_px_min), as it is or
    /// at 500 pixels an inch.
    #[error("the picture is too small for a fingerprint; capture the whole fingertip")]
    TooFewPixels,
    /// Neither declared nor told by the file.
    #[error("the picture does not tell its resolution; declare the sensor's pixels per inch")]
    NoResolution,
    /// Two statements that are more than rounding apart.
    #[error(
        "the picture's resolution is said to be {one} and also {other} pixels per inch; \
         correct the one that is wrong"
    )]
    ResolutionsDisagree {
        /// What was declared, or what the record around the picture says.
        one: u32,
        /// What the file says.
        other: u32,
    },
    /// Pixels that are not square.
    #[error(
        "the picture has {across} pixels per inch across and {down} down; \
         send it with the same both ways"
    )]
    ResolutionUneven {
        /// Along a row.
        across: u32,
        /// Along a column.
        down: u32,
    },
    /// Too few pixels an inch to see where ridges end.
    #[error(
        "the picture is said to have {pixels_per_inch} pixels per inch, fewer than the 250 that a \
         fingerprint needs; declare the sensor's true resolution or use a finer one"
    )]
    ResolutionTooLow {
        /// As it is said.
        pixels_per_inch: u32,
    },
    /// More pixels an inch than any fingerprint sensor has.
    #[error(
        "the picture is said to have {pixels_per_inch} pixels per inch, more than the 1,200 that a \
         fingerprint sensor has at the most; declare its true resolution"
    )]
    ResolutionTooHigh {
        /// As it is said.
        pixels_per_inch: u32,
    },
    /// Red, green and blue differ.
    #[error("the picture is in colour; send the grey picture of a fingerprint sensor")]
    Coloured,
    /// What lies behind a see-through pixel is not known.
    #[error("the picture is partly transparent; save it without an alpha channel")]
    Transparent,
    /// Several views in a record, several pages in a file.
    #[error("the file has {count} pictures; send exactly one view of one finger")]
    SeveralPictures {
        /// How many.
        count: usize,
    },
    /// A record of a hand, of two thumbs or of a palm.
    #[error(
        "the record is of several fingers or a palm (position {position}); \
         send one finger at a time"
    )]
    NotOneFinger {
        /// Its code, as in ISO/IEC 19794-4:2005, table 5.
        position: u8,
    },
}

impl FingerDecodeError {
    /// The reason's code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoResolution
            | Self::ResolutionsDisagree { .. }
            | Self::ResolutionUneven { .. }
            | Self::ResolutionTooLow { .. }
            | Self::ResolutionTooHigh { .. } => "CAP_RESOLUTION",
            _ => "CAP_UNREADABLE",
        }
    }
}

/// Where a file contradicts itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// In what is read here.
    #[error("{0}")]
    Structure(&'static str),
    /// In its compressed pixels.
    #[error("its pixels cannot be unpacked")]
    Pixels(#[source] ImageError),
}

/// A file that contradicts itself.
pub(super) const fn malformed(what: &'static str) -> FingerDecodeError {
    FingerDecodeError::Malformed(Fault::Structure(what))
}

impl From<ImageError> for FingerDecodeError {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Unsupported(_) => Self::Unsupported("an uncommon form of its kind"),
            error => Self::Malformed(Fault::Pixels(error)),
        }
    }
}

impl From<WsqError> for FingerDecodeError {
    fn from(error: WsqError) -> Self {
        match error {
            WsqError::Truncated => Self::Truncated,
            WsqError::TooManyPixels => Self::TooManyPixels,
            WsqError::TooFewPixels => Self::TooFewPixels,
            WsqError::Malformed(what) => malformed(what),
        }
    }
}
