//! Walks a JPEG's or PNG's frame without decoding it: size, completeness, number of scans.
//!
//! Decoders are lenient: they fill up what a truncated file lacks with grey. Half a face must not
//! be compared, so the file's own end mark is asked for first.

/// What a file's frame says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Frame {
    pub kind: Kind,
    pub width: u32,
    pub height: u32,
    /// Passes over the picture; 1 for anything but a progressive JPEG.
    pub scans: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Jpeg,
    Png,
}

/// Why a file has no frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FrameError {
    /// Neither a JPEG nor a PNG by its first bytes.
    Kind,
    /// The file ends before its end mark.
    Truncated,
    /// Its structure contradicts itself.
    Malformed,
}

/// The frame of a complete file. Bytes behind the end mark are allowed, as cameras write them.
pub(super) fn read_frame(bytes: &[u8]) -> Result<Frame, FrameError> {
    if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        read_jpeg(bytes)
    } else if bytes.starts_with(PNG_SIGNATURE) {
        read_png(bytes)
    } else if PNG_SIGNATURE.starts_with(bytes) || [0xff, 0xd8, 0xff].starts_with(bytes) {
        Err(FrameError::Truncated)
    } else {
        Err(FrameError::Kind)
    }
}

/// ITU-T T.81, annex B.
fn read_jpeg(bytes: &[u8]) -> Result<Frame, FrameError> {
    let mut rest = bytes.get(2..).ok_or(FrameError::Truncated)?;
    let mut size = None;
    let mut scans = 0;
    loop {
        let (marker, after) = next_marker(rest)?;
        rest = after;
        match marker {
            END_OF_IMAGE => break,
            // Restart marks and TEM stand alone.
            0x01 | 0xd0..=0xd7 => {}
            0xd8 => return Err(FrameError::Malformed),
            _ => {
                let (segment, after) = segment(rest)?;
                rest = after;
                if is_frame_header(marker) && size.replace(frame_size(segment)?).is_some() {
                    return Err(FrameError::Malformed);
                }
                if marker == START_OF_SCAN {
                    scans += 1;
                    rest = skip_entropy_coded(rest)?;
                }
            }
        }
    }
    let (width, height) = size.ok_or(FrameError::Malformed)?;
    if scans == 0 {
        return Err(FrameError::Malformed);
    }
    Ok(Frame { kind: Kind::Jpeg, width, height, scans })
}

fn next_marker(bytes: &[u8]) -> Result<(u8, &[u8]), FrameError> {
    let [0xff, rest @ ..] = bytes else {
        return Err(if bytes.is_empty() { FrameError::Truncated } else { FrameError::Malformed });
    };
    // Any number of fill bytes may precede a marker.
    let fill = rest.iter().take_while(|byte| **byte == 0xff).count();
    match rest.get(fill..) {
        Some([0x00, ..]) => Err(FrameError::Malformed),
        Some([marker, rest @ ..]) => Ok((*marker, rest)),
        _ => Err(FrameError::Truncated),
    }
}

fn segment(bytes: &[u8]) -> Result<(&[u8], &[u8]), FrameError> {
    let length = bytes.first_chunk::<2>().ok_or(FrameError::Truncated)?;
    let length = usize::from(u16::from_be_bytes(*length));
    if length < 2 {
        return Err(FrameError::Malformed);
    }
    let (segment, rest) = bytes.split_at_checked(length).ok_or(FrameError::Truncated)?;
    Ok((segment.get(2..).unwrap_or_default(), rest))
}

/// All of 0xC0–0xCF but the tables (C4), JPG (C8) and arithmetic conditioning (CC).
const fn is_frame_header(marker: u8) -> bool {
    matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc)
}

fn frame_size(segment: &[u8]) -> Result<(u32, u32), FrameError> {
    let [_precision, h1, h0, w1, w0, ..] = *segment else { return Err(FrameError::Malformed) };
    let side = |high, low| u32::from(u16::from_be_bytes([high, low]));
    let (width, height) = (side(w1, w0), side(h1, h0));
    // A height of zero would be given later, by a DNL segment that nobody writes.
    if width == 0 || height == 0 { Err(FrameError::Malformed) } else { Ok((width, height)) }
}

/// The rest from the next marker that is neither a stuffed 0xFF nor a restart.
fn skip_entropy_coded(bytes: &[u8]) -> Result<&[u8], FrameError> {
    let mut rest = bytes;
    loop {
        let at = rest.iter().position(|byte| *byte == 0xff).ok_or(FrameError::Truncated)?;
        rest = rest.get(at..).unwrap_or_default();
        match rest {
            [_, 0x00 | 0xd0..=0xd7, after @ ..] => rest = after,
            [_, 0xff, ..] => rest = rest.get(1..).unwrap_or_default(),
            [_, _, ..] => return Ok(rest),
            _ => return Err(FrameError::Truncated),
        }
    }
}

/// PNG specification, section 5: a header chunk first, an empty IEND last.
fn read_png(bytes: &[u8]) -> Result<Frame, FrameError> {
    let mut rest = bytes.get(PNG_SIGNATURE.len()..).ok_or(FrameError::Truncated)?;
    let mut size = None;
    loop {
        let (header, after) = rest.split_first_chunk::<8>().ok_or(FrameError::Truncated)?;
        let [l3, l2, l1, l0, kind @ ..] = *header;
        let length = usize::try_from(u32::from_be_bytes([l3, l2, l1, l0]))
            .map_err(|_| FrameError::Malformed)?;
        let (content, after) = after.split_at_checked(length).ok_or(FrameError::Truncated)?;
        rest = after.get(CRC_BYTES..).ok_or(FrameError::Truncated)?;
        match (&kind, size) {
            (b"IHDR", None) => size = Some(header_size(content)?),
            (b"IHDR", Some(_)) | (_, None) => return Err(FrameError::Malformed),
            (b"IEND", Some((width, height))) => {
                return Ok(Frame { kind: Kind::Png, width, height, scans: 1 });
            }
            _ => {}
        }
    }
}

fn header_size(content: &[u8]) -> Result<(u32, u32), FrameError> {
    let (width, rest) = content.split_first_chunk::<4>().ok_or(FrameError::Malformed)?;
    let height = rest.first_chunk::<4>().ok_or(FrameError::Malformed)?;
    let (width, height) = (u32::from_be_bytes(*width), u32::from_be_bytes(*height));
    if width == 0 || height == 0 { Err(FrameError::Malformed) } else { Ok((width, height)) }
}

pub(super) const PNG_SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
const CRC_BYTES: usize = 4;
const START_OF_SCAN: u8 = 0xda;
const END_OF_IMAGE: u8 = 0xd9;
