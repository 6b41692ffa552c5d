//! Finger image records: ISO/IEC 19794-4:2005 and ANSI/INCITS 381-2004.
//!
//! Both begin with `FIR`, `010` and a length; ANSI's header then has four bytes more, the product's
//! identifier. Nothing in a record says which of the two it is, but only one of them leads from
//! view to view exactly to its end.

use super::error::{FingerDecodeError, malformed};
use super::resolution::{CM_PER_INCH, Told};
use crate::capture::reader::Reader;

/// The one view of a record.
pub(super) struct View<'a> {
    pub width: u32,
    pub height: u32,
    pub told: Option<Told>,
    pub compression: Compression,
    pub data: &'a [u8],
}

/// How a view's pixels are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Compression {
    Raw,
    Wsq,
    Jpeg,
    Png,
}

/// What a record's header says of all its views.
struct Header {
    views: u8,
    told: Option<Told>,
    depth: u8,
    compression: u8,
}

/// The view of a record that has exactly one, of one finger.
pub(super) fn read_view(bytes: &[u8]) -> Result<View<'_>, FingerDecodeError> {
    let mut reader = Reader::new(bytes);
    let magic: [u8; 4] = reader.array().ok_or(FingerDecodeError::Truncated)?;
    let version: [u8; 4] = reader.array().ok_or(FingerDecodeError::Truncated)?;
    if &magic != MAGIC {
        return Err(FingerDecodeError::UnknownKind);
    }
    if &version != VERSION {
        return Err(FingerDecodeError::Unsupported("a record of another version than 010"));
    }
    let [l5, l4, l3, l2, l1, l0] = reader.array().ok_or(FingerDecodeError::Truncated)?;
    let length = u64::from_be_bytes([0, 0, l5, l4, l3, l2, l1, l0]);
    if length > bytes.len() as u64 {
        return Err(FingerDecodeError::Truncated);
    }
    if length < bytes.len() as u64 {
        return Err(malformed("the record is longer than it says"));
    }
    let layouts = [ISO_PRODUCT_BYTES, ANSI_PRODUCT_BYTES].map(|bytes| read_as(reader, bytes));
    let fitting = layouts.into_iter().flatten().next();
    let (header, count, views) =
        fitting.ok_or(malformed("the record's lengths do not lead to its end"))?;
    if count > 1 {
        return Err(FingerDecodeError::SeveralPictures { count });
    }
    one_view(&header, Reader::new(views))
}

/// The header with `product_bytes` more than ISO's, the number of views and their bytes; none unless
/// they lead exactly to the end.
fn read_as(mut reader: Reader<'_>, product_bytes: usize) -> Option<(Header, usize, &[u8])> {
    reader.take(product_bytes)?;
    // The device, and how the picture was acquired.
    reader.take(4)?;
    let views = reader.u8()?;
    let units = reader.u8()?;
    // The sensor's own resolution; the picture's is what counts.
    reader.take(4)?;
    let (across, down) = (f64::from(reader.u16()?), f64::from(reader.u16()?));
    let [depth, compression] = reader.array()?;
    reader.take(2)?;
    let per_inch = match units {
        1 => 1.0,
        2 => CM_PER_INCH,
        _ => return None,
    };
    let told = Told::by_record(across * per_inch, down * per_inch);
    let header = Header { views, told, depth, compression };
    let count = count_views(reader)?;
    (header.views > 0 && count >= usize::from(views)).then_some((header, count, reader.rest()))
}

/// How many views follow each other up to the end.
fn count_views(mut views: Reader<'_>) -> Option<usize> {
    let mut count = 0;
    while !views.is_empty() {
        let length = usize::try_from(views.u32()?).ok()?;
        if length < VIEW_HEADER_BYTES {
            return None;
        }
        views.take(length - 4)?;
        count += 1;
    }
    Some(count)
}

fn one_view<'a>(header: &Header, mut view: Reader<'a>) -> Result<View<'a>, FingerDecodeError> {
    let fields = view.take(4).and_then(|_| view.array());
    let [position, _views, _view, _quality, _impression, w1, w0, h1, h0, _reserved] =
        fields.ok_or(FingerDecodeError::Truncated)?;
    if !ONE_FINGER.contains(&position) {
        return Err(FingerDecodeError::NotOneFinger { position });
    }
    let (width, height) = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
    let compression = match header.compression {
        // Packed or not, eight bits fill a byte.
        0 | 1 => Compression::Raw,
        2 => Compression::Wsq,
        3 => Compression::Jpeg,
        5 => Compression::Png,
        4 => return Err(FingerDecodeError::Unsupported("a record with JPEG 2000")),
        _ => return Err(FingerDecodeError::Unsupported("a record with an unknown compression")),
    };
    if header.depth != 8 {
        return Err(FingerDecodeError::Unsupported("a record of other than 8 bits a pixel"));
    }
    Ok(View {
        width: u32::from(width),
        height: u32::from(height),
        told: header.told,
        compression,
        data: view.rest(),
    })
}

pub(super) const MAGIC: &[u8; 4] = b"FIR\0";
const VERSION: &[u8; 4] = b"010\0";
const ISO_PRODUCT_BYTES: usize = 0;
const ANSI_PRODUCT_BYTES: usize = 4;
const VIEW_HEADER_BYTES: usize = 14;
/// Codes of an unknown finger, of the ten, and of a thumb alone (11, 12).
const ONE_FINGER: std::ops::RangeInclusive<u8> = 0..=12;
