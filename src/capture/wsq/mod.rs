//! WSQ, the wavelet compression of fingerprints: IAFIS-IC-0110 (V3.1), "WSQ Gray-Scale Fingerprint
//! Image Compression Specification", of the FBI and NIST.
//!
//! Everything is read before it is believed: the frame's size against the limits, each table's
//! length against its segment, the coefficients against the subbands. The planes of the picture are
//! set up only when the last coefficient has come.

mod huffman;
mod subbands;
mod synthesis;
mod tables;

#[cfg(test)]
pub(in crate::capture) mod encoder;
#[cfg(test)]
mod tests;

use zeroize::Zeroizing;

use super::DecodeLimits;
use super::reader::Reader;
use huffman::decode_segment;
use subbands::Subbands;
use synthesis::synthesise;
use tables::{Filters, Frame, HuffmanTables, Quantisation, nistcom_pixels_per_inch};

/// A decoded WSQ file: one byte a pixel, row by row.
pub(super) struct WsqImage {
    pub width: u32,
    pub height: u32,
    pub pixels: Vec<u8>,
    /// Where a comment of NIST's form tells it; the format itself has no place for it.
    pub pixels_per_inch: Option<u16>,
}

/// Why bytes are no WSQ picture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WsqError {
    Truncated,
    TooManyPixels,
    TooFewPixels,
    Malformed(&'static str),
}

const fn malformed(what: &'static str) -> WsqError {
    WsqError::Malformed(what)
}

/// Decodes a WSQ file. Bytes behind its end mark are ignored.
pub(super) fn decode(bytes: &[u8], limits: &DecodeLimits) -> Result<WsqImage, WsqError> {
    let File { frame, tables, coefficients, pixels_per_inch } = File::read(bytes, limits)?;
    let (width, height) = (usize::from(frame.width), usize::from(frame.height));
    let picture = picture_of(&coefficients, width, height, &tables)?;
    let pixels = picture.iter().map(|value| grey(value * frame.scale + frame.shift)).collect();
    let (width, height) = (u32::from(frame.width), u32::from(frame.height));
    Ok(WsqImage { width, height, pixels, pixels_per_inch })
}

/// What a file holds, up to its end mark.
struct File {
    frame: Frame,
    tables: Tables,
    /// Of all subbands that were sent, in their order, each row by row.
    coefficients: Zeroizing<Vec<i32>>,
    pixels_per_inch: Option<u16>,
}

#[derive(Default)]
struct Tables {
    filters: Option<Filters>,
    quantisation: Option<Quantisation>,
    huffman: HuffmanTables,
}

/// What of a file has been read so far.
#[derive(Default)]
struct Reading {
    frame: Option<Frame>,
    tables: Tables,
    coefficients: Zeroizing<Vec<i32>>,
    /// How many there must be; known from the first block on.
    count: Option<usize>,
    has_restarts: bool,
    pixels_per_inch: Option<u16>,
}

impl File {
    fn read(bytes: &[u8], limits: &DecodeLimits) -> Result<Self, WsqError> {
        let mut reader = Reader::new(bytes);
        if reader.u16().ok_or(WsqError::Truncated)? != START_OF_IMAGE {
            return Err(malformed("it does not begin as a WSQ file"));
        }
        let mut reading = Reading::default();
        loop {
            match reader.u16().ok_or(WsqError::Truncated)? {
                END_OF_IMAGE => return reading.finish(),
                marker => reading.segment(marker, &mut reader, limits)?,
            }
        }
    }
}

impl Reading {
    fn segment(
        &mut self,
        marker: u16,
        reader: &mut Reader<'_>,
        limits: &DecodeLimits,
    ) -> Result<(), WsqError> {
        if !(START_OF_FRAME..=COMMENT).contains(&marker) {
            return Err(malformed("a marker that WSQ does not have, or in the wrong place"));
        }
        let length = usize::from(reader.u16().ok_or(WsqError::Truncated)?);
        let length = length.checked_sub(2).ok_or(malformed("a segment of less than no length"))?;
        let content = reader.take(length).ok_or(WsqError::Truncated)?;
        let begun = self.count.is_some();
        match marker {
            START_OF_FRAME if self.frame.is_none() => {
                self.frame = Some(checked(Frame::read(content)?, limits)?);
            }
            START_OF_BLOCK => self.block(content, reader)?,
            TRANSFORM_TABLE if !begun => self.tables.filters = Some(Filters::read(content)?),
            QUANTISATION_TABLE if !begun => {
                self.tables.quantisation = Some(Quantisation::read(content)?);
            }
            HUFFMAN_TABLE => self.tables.huffman.read(content)?,
            RESTART_INTERVAL if content.len() == 2 => self.has_restarts = content != [0, 0],
            COMMENT => {
                self.pixels_per_inch = self.pixels_per_inch.or(nistcom_pixels_per_inch(content));
            }
            _ => return Err(malformed("a segment that is doubled or comes too late")),
        }
        Ok(())
    }

    /// Reads the block whose header is `content`; its bits begin at `reader`.
    fn block(&mut self, content: &[u8], reader: &mut Reader<'_>) -> Result<(), WsqError> {
        let [number] = *content else { return Err(malformed("a block header of another length")) };
        let count = match self.count {
            Some(count) => count,
            None => *self.count.insert(self.expected()?),
        };
        let table = self.tables.huffman.find(number)?;
        let mut segment = Zeroizing::new(Vec::new());
        let mut restarts = (0..8).cycle();
        loop {
            let (bits, rest) = entropy_coded(reader.rest())?;
            unstuff(bits, &mut segment);
            decode_segment(&segment, table, &mut self.coefficients, count)?;
            *reader = Reader::new(rest);
            match rest {
                // Codes begin anew at a byte; nothing else depends on what came before.
                [_, restart @ 0xb0..=0xb7, rest @ ..] => {
                    if !self.has_restarts || restarts.next() != Some(restart - 0xb0) {
                        return Err(malformed("a restart mark that is out of turn"));
                    }
                    *reader = Reader::new(rest);
                }
                _ => return Ok(()),
            }
        }
    }

    /// How many coefficients the blocks must have: the samples of all subbands that are sent.
    fn expected(&self) -> Result<usize, WsqError> {
        let frame = self.frame.ok_or(malformed("a block before the frame header"))?;
        let quantisation = self.tables.quantisation.as_ref();
        let quantisation = quantisation.ok_or(malformed("it has no quantisation table"))?;
        if self.tables.filters.is_none() {
            return Err(malformed("it has no transform table"));
        }
        let subbands = Subbands::of(usize::from(frame.width), usize::from(frame.height));
        let sent = subbands.regions.iter().zip(&quantisation.bands);
        let sent = sent.filter(|(_, quantiser)| quantiser.is_sent());
        Ok(sent.map(|(region, _)| region.width * region.height).sum())
    }

    fn finish(self) -> Result<File, WsqError> {
        let Self { frame, tables, coefficients, count, pixels_per_inch, .. } = self;
        let frame = frame.ok_or(malformed("it has no frame header"))?;
        match count {
            Some(count) if coefficients.len() == count => {
                Ok(File { frame, tables, coefficients, pixels_per_inch })
            }
            _ => Err(malformed("the blocks hold fewer coefficients than the picture")),
        }
    }
}

fn checked(frame: Frame, limits: &DecodeLimits) -> Result<Frame, WsqError> {
    let (width, height) = (u32::from(frame.width), u32::from(frame.height));
    if width.max(height) > limits.side_px_max
        || u64::from(width) * u64::from(height) > limits.pixels_max
    {
        return Err(WsqError::TooManyPixels);
    }
    if width.min(height) < limits.side_px_min.max(SIDE_PX_MIN) {
        return Err(WsqError::TooFewPixels);
    }
    Ok(frame)
}

/// The bits up to the next marker, and the rest from it on.
fn entropy_coded(bytes: &[u8]) -> Result<(&[u8], &[u8]), WsqError> {
    let mut from = 0;
    while let Some(at) = bytes.iter().skip(from).position(|byte| *byte == 0xff) {
        let at = from + at;
        match bytes.get(at + 1) {
            Some(0) => from = at + 2,
            Some(_) => return bytes.split_at_checked(at).ok_or(WsqError::Truncated),
            None => break,
        }
    }
    Err(WsqError::Truncated)
}

/// Leaves out the zero behind each 0xFF.
fn unstuff(bits: &[u8], segment: &mut Vec<u8>) {
    segment.clear();
    segment.reserve(bits.len());
    let mut rest = bits;
    while let Some(at) = rest.iter().position(|byte| *byte == 0xff) {
        let (kept, after) = rest.split_at_checked(at + 1).unwrap_or((rest, &[]));
        segment.extend_from_slice(kept);
        rest = after.get(1..).unwrap_or_default();
    }
    segment.extend_from_slice(rest);
}

/// The picture's values, row by row, before they are scaled to grey levels.
fn picture_of(
    coefficients: &[i32],
    width: usize,
    height: usize,
    tables: &Tables,
) -> Result<Zeroizing<Vec<f32>>, WsqError> {
    let (Some(filters), Some(quantisation)) = (&tables.filters, &tables.quantisation) else {
        return Err(malformed("it has no transform or quantisation table"));
    };
    let Subbands { regions, splits } = Subbands::of(width, height);
    let mut plane = Zeroizing::new(vec![0.0; width * height]);
    let mut rest = coefficients;
    for (region, quantiser) in regions.iter().zip(&quantisation.bands) {
        if !quantiser.is_sent() {
            continue;
        }
        for row in plane.chunks_exact_mut(width).skip(region.y).take(region.height) {
            let row = row.get_mut(region.x..region.x + region.width).unwrap_or_default();
            let (sent, after) = rest.split_at_checked(row.len()).ok_or(WsqError::Truncated)?;
            for (value, coefficient) in row.iter_mut().zip(sent) {
                *value = quantiser.value(*coefficient);
            }
            rest = after;
        }
    }
    synthesise(&mut plane, width, &splits, filters);
    Ok(plane)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of floats to u8 cuts at 0 and 255"
)]
fn grey(value: f32) -> u8 {
    (value + 0.5) as u8
}

const START_OF_IMAGE: u16 = 0xffa0;
const END_OF_IMAGE: u16 = 0xffa1;
const START_OF_FRAME: u16 = 0xffa2;
const START_OF_BLOCK: u16 = 0xffa3;
const TRANSFORM_TABLE: u16 = 0xffa4;
const QUANTISATION_TABLE: u16 = 0xffa5;
const HUFFMAN_TABLE: u16 = 0xffa6;
const RESTART_INTERVAL: u16 = 0xffa7;
const COMMENT: u16 = 0xffa8;
/// Five halvings leave at least one sample.
const SIDE_PX_MIN: u32 = 32;
