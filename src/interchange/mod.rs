//! Finger templates as other systems write and read them: ISO/IEC 19794-2:2005 and ANSI/INCITS
//! 378-2004 finger minutiae records.
//!
//! A record is read to [`MinutiaeRecord`], which keeps what the file said in its own units, and from
//! there to [`crate::domain::finger::FingerView`]s; and the other way round. What a record holds is as
//! biometric as a picture: it is wiped when dropped, and neither `Debug` nor an error shows a place.

mod convert;
mod maker;
mod reader;
mod record;

pub use convert::{ConversionError, ExportedView, ForeignView};
pub use maker::{InvalidMaker, Maker, foreign_model};
pub use reader::RecordError;
pub use record::{
    CaptureDevice, Impression, MinutiaeRecord, ProductId, RecordFormat, RecordMinutia, RecordView,
};

/// Longest record that is read or written, in bytes: ten fingers with several views each fit well.
pub const RECORD_BYTES_MAX: usize = 65_535;
