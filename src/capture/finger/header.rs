//! The headers of PNG, TIFF and BMP files: size and resolution, and whether the file is all there,
//! before a pixel is unpacked.

use super::error::{FingerDecodeError, malformed};
use super::resolution::{CM_PER_INCH, METRES_PER_INCH, Told};
use crate::capture::DecodeLimits;
use crate::capture::container::{self, FrameError, PNG_SIGNATURE};

/// What a picture file says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub width: u32,
    pub height: u32,
    pub told: Option<Told>,
}

/// Of a PNG, with its pHYs chunk, or of a JPEG, whose own resolution is not asked for: it occurs in
/// records only, which tell theirs.
pub(super) fn png_or_jpeg(
    bytes: &[u8],
    limits: &DecodeLimits,
) -> Result<Header, FingerDecodeError> {
    let frame = container::read_frame(bytes).map_err(|error| match error {
        FrameError::Kind => FingerDecodeError::UnknownKind,
        FrameError::Truncated => FingerDecodeError::Truncated,
        FrameError::Malformed => malformed("its chunks or segments contradict each other"),
    })?;
    if frame.scans > limits.scans_max {
        return Err(FingerDecodeError::TooManyPixels);
    }
    let told = match frame.kind {
        container::Kind::Png => png_resolution(bytes),
        container::Kind::Jpeg => None,
    };
    Ok(Header { width: frame.width, height: frame.height, told })
}

/// PNG specification, section 11.3.4.3: pixels per unit each way, and the unit (1: the metre).
fn png_resolution(bytes: &[u8]) -> Option<Told> {
    let mut rest = bytes.get(PNG_SIGNATURE.len()..)?;
    loop {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (kind, after) = after.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (content, after) = after.split_at_checked(length)?;
        match (kind, content) {
            (b"IDAT", _) => return None,
            (b"pHYs", [x3, x2, x1, x0, y3, y2, y1, y0, 1]) => {
                let per_inch = |bytes| f64::from(u32::from_be_bytes(bytes)) * METRES_PER_INCH;
                let (across, down) =
                    (per_inch([*x3, *x2, *x1, *x0]), per_inch([*y3, *y2, *y1, *y0]));
                return Told::by_picture_file(across, down);
            }
            _ => rest = after.get(4..)?,
        }
    }
}

/// Of a BMP: the 14 bytes of the file's header, then a bitmap header of 40 bytes or more.
pub(super) fn bmp(bytes: &[u8]) -> Result<Header, FingerDecodeError> {
    let at = Place { bytes, is_little: true };
    let pixels_at = at.u32(10)?;
    if at.u32(14)? < BITMAP_HEADER_BYTES {
        return Err(FingerDecodeError::Unsupported("a BMP of OS/2"));
    }
    let width = at.u32(18)?;
    // A negative height says that the upper row comes first.
    let height = at.u32(22)?.cast_signed().unsigned_abs();
    let bits = u64::from(at.u16(28)?);
    if !UNCOMPRESSED.contains(&at.u32(30)?) {
        return Err(FingerDecodeError::Unsupported("a compressed BMP"));
    }
    if width.cast_signed() <= 0 || height == 0 || bits > 32 {
        return Err(malformed("a BMP of no size or with pixels of more than 32 bits"));
    }
    // Rows fill up whole words of four bytes. At most 2³² · 2³² · 2⁰: nothing overflows.
    let row_bytes = (u64::from(width) * bits).div_ceil(32) * 4;
    let end = u128::from(pixels_at) + u128::from(row_bytes) * u128::from(height);
    if end > bytes.len() as u128 {
        return Err(FingerDecodeError::Truncated);
    }
    let [across, down] = [at.u32(38)?, at.u32(42)?]
        .map(|per_metre| f64::from(per_metre.cast_signed()) * METRES_PER_INCH);
    Ok(Header { width, height, told: Told::by_picture_file(across, down) })
}

/// Of a TIFF (6.0) with one page.
pub(super) fn tiff(bytes: &[u8]) -> Result<Header, FingerDecodeError> {
    let is_little = bytes.starts_with(b"II");
    let at = Place { bytes, is_little };
    if at.u16(2)? != 42 {
        return Err(FingerDecodeError::Unsupported("a BigTIFF"));
    }
    let page = Page::at(at, at.u32(4)?)?;
    let pages = count_pages(at, page.next)?;
    if pages > 1 {
        return Err(FingerDecodeError::SeveralPictures { count: pages });
    }
    page.check_values()?;
    page.check_strips()?;
    let size = |tag| page.number(tag)?.ok_or(malformed("a TIFF without its size"));
    let (width, height) = (size(TIFF_WIDTH)?, size(TIFF_HEIGHT)?);
    if width == 0 || height == 0 {
        return Err(malformed("a TIFF of no size"));
    }
    let inches_per_unit = match page.number(TIFF_RESOLUTION_UNIT)? {
        // The inch is what a file means that does not say.
        None | Some(2) => Some(1.0),
        Some(3) => Some(CM_PER_INCH),
        Some(_) => None,
    };
    let told = match (inches_per_unit, page.ratio(TIFF_ACROSS)?, page.ratio(TIFF_DOWN)?) {
        (Some(unit), Some(across), Some(down)) => Told::by_picture_file(across * unit, down * unit),
        _ => None,
    };
    Ok(Header { width, height, told })
}

/// How many pages there are, if another one begins at `next`.
fn count_pages(at: Place<'_>, mut next: u32) -> Result<usize, FingerDecodeError> {
    let mut count = 1;
    while next != 0 && count < PAGES_MAX {
        count += 1;
        next = Page::at(at, next)?.next;
    }
    Ok(count)
}

/// One directory of a TIFF.
struct Page<'a> {
    at: Place<'a>,
    /// Where its entries begin.
    from: usize,
    entries: &'a [[u8; ENTRY_BYTES]],
    next: u32,
}

/// One entry: its type, how many values, and where they are.
struct Entry {
    kind: u16,
    count: u32,
    place: usize,
}

impl<'a> Page<'a> {
    fn at(at: Place<'a>, start: u32) -> Result<Self, FingerDecodeError> {
        let start = index(start)?;
        let count = usize::from(at.u16(start)?);
        let from = start.saturating_add(2);
        let to = from.saturating_add(count * ENTRY_BYTES);
        let entries = at.bytes.get(from..to).ok_or(FingerDecodeError::Truncated)?;
        let next = at.u32(to)?;
        Ok(Self { at, from, entries: entries.as_chunks().0, next })
    }

    fn entry(&self, tag: u16) -> Result<Option<Entry>, FingerDecodeError> {
        for (number, entry) in self.entries.iter().enumerate() {
            let entry = Place { bytes: entry, is_little: self.at.is_little };
            if entry.u16(0)? != tag {
                continue;
            }
            let (kind, count) = (entry.u16(2)?, entry.u32(4)?);
            let size = value_bytes(kind).ok_or(malformed("a TIFF with a value of another type"))?;
            // What fits into four bytes stands in the entry itself.
            let place = if u64::from(count) * size <= 4 {
                self.from + number * ENTRY_BYTES + 8
            } else {
                index(entry.u32(8)?)?
            };
            return Ok(Some(Entry { kind, count, place }));
        }
        Ok(None)
    }

    /// The first whole number of this tag.
    fn number(&self, tag: u16) -> Result<Option<u32>, FingerDecodeError> {
        let Some(entry) = self.entry(tag)? else { return Ok(None) };
        self.numbers(&entry).next().transpose()
    }

    fn numbers(&self, entry: &Entry) -> impl Iterator<Item = Result<u32, FingerDecodeError>> {
        let (at, kind, place) = (self.at, entry.kind, entry.place);
        (0..entry.count).map(move |number| match kind {
            SHORT => at.u16(place.saturating_add(index(number)?.saturating_mul(2))).map(u32::from),
            LONG => at.u32(place.saturating_add(index(number)?.saturating_mul(4))),
            _ => Err(malformed("a TIFF with a number of another type")),
        })
    }

    fn ratio(&self, tag: u16) -> Result<Option<f64>, FingerDecodeError> {
        let Some(Entry { kind, place, .. }) = self.entry(tag)? else { return Ok(None) };
        if kind != RATIONAL {
            return Err(malformed("a TIFF whose resolution is not a ratio"));
        }
        let (over, under) = (self.at.u32(place)?, self.at.u32(place.saturating_add(4))?);
        Ok((under > 0).then(|| f64::from(over) / f64::from(under)))
    }

    /// Every value must lie inside the file, and be no longer than a decoder has to hold: it reads
    /// those of the lower tags before anybody can bound its memory.
    fn check_values(&self) -> Result<(), FingerDecodeError> {
        for entry in self.entries {
            let entry = Place { bytes: entry, is_little: self.at.is_little };
            let (tag, kind, count) = (entry.u16(0)?, entry.u16(2)?, entry.u32(4)?);
            // A type that is not known is nobody's to read.
            let Some(size) = value_bytes(kind) else { continue };
            let bytes = u64::from(count) * size;
            if bytes > 4 && u64::from(entry.u32(8)?) + bytes > self.at.bytes.len() as u64 {
                return Err(FingerDecodeError::Truncated);
            }
            if tag < TAGS_OF_NOTES && count > VALUES_MAX {
                return Err(malformed("a TIFF with more values than a picture has use for"));
            }
        }
        Ok(())
    }

    /// Every strip or tile must lie inside the file.
    fn check_strips(&self) -> Result<(), FingerDecodeError> {
        let mut found = false;
        for (offsets, lengths) in STRIPS {
            let (Some(offsets), Some(lengths)) = (self.entry(offsets)?, self.entry(lengths)?)
            else {
                continue;
            };
            if offsets.count != lengths.count || offsets.count == 0 {
                return Err(malformed("a TIFF whose strips lack their lengths"));
            }
            for (offset, length) in self.numbers(&offsets).zip(self.numbers(&lengths)) {
                let end = u64::from(offset?) + u64::from(length?);
                if end > self.at.bytes.len() as u64 {
                    return Err(FingerDecodeError::Truncated);
                }
            }
            found = true;
        }
        if found { Ok(()) } else { Err(malformed("a TIFF without strips or tiles")) }
    }
}

/// Bytes of a value of a TIFF's type.
const fn value_bytes(kind: u16) -> Option<u64> {
    match kind {
        // BYTE, ASCII, SBYTE, UNDEFINED
        1 | 2 | 6 | 7 => Some(1),
        // SSHORT
        SHORT | 8 => Some(2),
        // SLONG, FLOAT
        LONG | 9 | 11 => Some(4),
        // SRATIONAL, DOUBLE
        RATIONAL | 10 | 12 => Some(8),
        _ => None,
    }
}

fn index(value: u32) -> Result<usize, FingerDecodeError> {
    usize::try_from(value).map_err(|_| FingerDecodeError::Truncated)
}

/// Numbers at places of a file, in its order of bytes.
#[derive(Clone, Copy)]
struct Place<'a> {
    bytes: &'a [u8],
    is_little: bool,
}

impl Place<'_> {
    fn u16(self, place: usize) -> Result<u16, FingerDecodeError> {
        let bytes = self.array(place)?;
        Ok(if self.is_little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    fn u32(self, place: usize) -> Result<u32, FingerDecodeError> {
        let bytes = self.array(place)?;
        Ok(if self.is_little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    fn array<const N: usize>(self, place: usize) -> Result<[u8; N], FingerDecodeError> {
        let chunk = self.bytes.get(place..).and_then(|rest| rest.first_chunk::<N>());
        chunk.copied().ok_or(FingerDecodeError::Truncated)
    }
}

const BITMAP_HEADER_BYTES: u32 = 40;
/// Plain pixels, and pixels whose channels are told by masks.
const UNCOMPRESSED: [u32; 2] = [0, 3];
const ENTRY_BYTES: usize = 12;
const PAGES_MAX: usize = 1_000;
/// From here on tags are of notes, colour profiles and the like, which are not read.
const TAGS_OF_NOTES: u16 = 600;
/// A palette of 16 bits has 196,608.
const VALUES_MAX: u32 = 200_000;
const SHORT: u16 = 3;
const LONG: u16 = 4;
const RATIONAL: u16 = 5;
const TIFF_WIDTH: u16 = 256;
const TIFF_HEIGHT: u16 = 257;
const TIFF_ACROSS: u16 = 282;
const TIFF_DOWN: u16 = 283;
const TIFF_RESOLUTION_UNIT: u16 = 296;
/// Offsets and lengths, of strips and of tiles.
const STRIPS: [(u16, u16); 2] = [(273, 279), (324, 325)];
