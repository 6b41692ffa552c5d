//! What stands between the markers of a WSQ file: frame, filters, quantisers, Huffman tables, notes.

use super::huffman::{CODE_BITS_MAX, HuffmanTable};
use super::subbands::UNSENT;
use super::{WsqError, malformed};
use crate::capture::reader::Reader;

/// Frame header (IAFIS-IC-0110, SOF).
#[derive(Clone, Copy)]
pub(super) struct Frame {
    pub width: u16,
    pub height: u16,
    /// Grey level of the value zero.
    pub shift: f32,
    /// Grey levels a unit.
    pub scale: f32,
}

impl Frame {
    pub fn read(content: &[u8]) -> Result<Self, WsqError> {
        const WRONG: WsqError = malformed("a frame header of another length");
        let mut reader = Reader::new(content);
        // The grey levels of black and white.
        reader.take(2).ok_or(WRONG)?;
        let height = reader.u16().ok_or(WRONG)?;
        let width = reader.u16().ok_or(WRONG)?;
        let shift = scaled_16(&mut reader).ok_or(WRONG)?;
        let scale = scaled_16(&mut reader).ok_or(WRONG)?;
        // The encoder's number and its software's.
        reader.take(3).ok_or(WRONG)?;
        if reader.is_empty() { Ok(Self { width, height, shift, scale }) } else { Err(WRONG) }
    }
}

/// The filters that put low and high halves together again, from the transform table (DTT).
///
/// The table has the analysis filters, from their middle outwards; each synthesis filter is the
/// other one with every second sign turned.
pub(super) struct Filters {
    pub low: Vec<f32>,
    pub high: Vec<f32>,
}

impl Filters {
    pub fn read(content: &[u8]) -> Result<Self, WsqError> {
        const WRONG: WsqError = malformed("a transform table of another length");
        let mut reader = Reader::new(content);
        let low_taps = reader.u8().ok_or(WRONG)?;
        let high_taps = reader.u8().ok_or(WRONG)?;
        let lengths = [low_taps, high_taps].map(usize::from);
        if lengths.iter().any(|taps| !(2..=TAPS_MAX).contains(taps)) {
            return Err(malformed("a transform table with filters too short or too long"));
        }
        let is_even = low_taps % 2 == 0;
        if is_even != (high_taps % 2 == 0) {
            return Err(malformed("a transform table with filters that do not fit together"));
        }
        let mut outwards = |taps: usize| -> Result<Vec<f32>, WsqError> {
            let half = (0..taps.div_ceil(2)).map(|_| signed_32(&mut reader).ok_or(WRONG));
            half.collect()
        };
        let [low_taps, high_taps] = lengths;
        let (analysis_low, analysis_high) = (outwards(low_taps)?, outwards(high_taps)?);
        if !reader.is_empty() {
            return Err(WRONG);
        }
        let taps = analysis_low.iter().chain(&analysis_high);
        if taps.clone().any(|tap| tap.abs() > TAP_MAX) {
            return Err(malformed("a transform table with a factor too great for a filter"));
        }
        let (low, high) = if is_even {
            (mirrored(&analysis_high, -1.0, 1.0), mirrored(&analysis_low, 1.0, -1.0))
        } else {
            (mirrored_about_middle(&analysis_high), mirrored_about_middle(&analysis_low))
        };
        Ok(Self { low, high })
    }
}

/// A filter of odd length from its half: every second sign is turned.
fn mirrored_about_middle(outwards: &[f32]) -> Vec<f32> {
    let turned: Vec<f32> = alternating(outwards, 1.0).collect();
    turned.iter().skip(1).rev().chain(&turned).copied().collect()
}

/// A filter of even length: its right half begins with the sign `first`, its left half is that
/// times `left`.
fn mirrored(outwards: &[f32], first: f32, left: f32) -> Vec<f32> {
    let turned: Vec<f32> = alternating(outwards, first).collect();
    turned.iter().rev().map(|tap| tap * left).chain(turned.iter().copied()).collect()
}

fn alternating(taps: &[f32], first: f32) -> impl Iterator<Item = f32> {
    taps.iter().zip([first, -first].into_iter().cycle()).map(|(tap, sign)| tap * sign)
}

/// The quantisers of all subbands (DQT).
pub(super) struct Quantisation {
    /// In the subbands' order.
    pub bands: Vec<Quantiser>,
}

/// The bins of one subband.
#[derive(Clone, Copy)]
pub(super) struct Quantiser {
    /// Width of a bin; zero for a subband that was not sent.
    bin: f32,
    half_zero_bin: f32,
    /// Where in its bin a value is put, 0 to 1; the same for all.
    centre: f32,
}

impl Quantisation {
    pub fn read(content: &[u8]) -> Result<Self, WsqError> {
        const WRONG: WsqError = malformed("a quantisation table of another length");
        let mut reader = Reader::new(content);
        let centre = scaled_16(&mut reader).ok_or(WRONG)?;
        let bands = (0..UNSENT.end).map(|_| {
            let bin = scaled_16(&mut reader).ok_or(WRONG)?;
            let half_zero_bin = scaled_16(&mut reader).ok_or(WRONG)? / 2.0;
            Ok(Quantiser { bin, half_zero_bin, centre })
        });
        let bands = bands.collect::<Result<Vec<_>, _>>()?;
        if !reader.is_empty() {
            return Err(WRONG);
        }
        if bands.iter().skip(UNSENT.start).any(Quantiser::is_sent) {
            return Err(malformed("it sends subbands that the specification leaves out"));
        }
        if centre > 1.0 {
            return Err(malformed("a quantisation table whose centre lies outside the bins"));
        }
        Ok(Self { bands })
    }
}

impl Quantiser {
    /// Whether the file has coefficients of this subband.
    pub fn is_sent(&self) -> bool {
        self.bin > 0.0
    }

    /// What a coefficient stands for.
    #[expect(clippy::cast_precision_loss, reason = "a coefficient has 17 bits, a float 24")]
    pub fn value(&self, coefficient: i32) -> f32 {
        let level = coefficient as f32;
        match coefficient {
            0 => 0.0,
            1.. => self.bin * (level - self.centre) + self.half_zero_bin,
            _ => self.bin * (level + self.centre) - self.half_zero_bin,
        }
    }
}

/// The Huffman tables, by their numbers (DHT). A later one takes the place of an earlier one.
#[derive(Default)]
pub(super) struct HuffmanTables {
    tables: [Option<HuffmanTable>; TABLES_MAX],
}

impl HuffmanTables {
    /// Reads the tables of one segment, one at the least.
    pub fn read(&mut self, content: &[u8]) -> Result<(), WsqError> {
        const WRONG: WsqError = malformed("a Huffman table of another length");
        let mut reader = Reader::new(content);
        loop {
            let number = reader.u8().ok_or(WRONG)?;
            let counts: [u8; CODE_BITS_MAX] = reader.array().ok_or(WRONG)?;
            let total = counts.iter().map(|count| usize::from(*count)).sum();
            let symbols = reader.take(total).ok_or(WRONG)?;
            let place = self.tables.get_mut(usize::from(number));
            let place = place.ok_or(malformed("a Huffman table with a number above seven"))?;
            *place = Some(HuffmanTable::new(counts, symbols)?);
            if reader.is_empty() {
                return Ok(());
            }
        }
    }

    /// The table of this number.
    pub fn find(&self, number: u8) -> Result<&HuffmanTable, WsqError> {
        let table = self.tables.get(usize::from(number)).and_then(Option::as_ref);
        table.ok_or(malformed("a block asks for a Huffman table that the file lacks"))
    }
}

/// The resolution that a comment of NIST's form tells: `NIST_COM`, then lines of a name and a value.
/// None where it is said to be unknown (-1).
pub(super) fn nistcom_pixels_per_inch(comment: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(comment).ok()?;
    let mut lines = text.trim_end_matches('\0').lines();
    lines.next().filter(|first| first.starts_with("NIST_COM"))?;
    let value = lines.find_map(|line| line.strip_prefix("PPI "))?;
    value.trim().parse().ok().filter(|pixels_per_inch| *pixels_per_inch > 0)
}

/// A decimal exponent, then 16 bits.
fn scaled_16(reader: &mut Reader<'_>) -> Option<f32> {
    let exponent = reader.u8()?;
    Some(scaled(f64::from(reader.u16()?), exponent))
}

/// A sign, a decimal exponent, then 32 bits.
fn signed_32(reader: &mut Reader<'_>) -> Option<f32> {
    let is_negative = reader.u8()? != 0;
    let exponent = reader.u8()?;
    let value = scaled(f64::from(reader.u32()?), exponent);
    Some(if is_negative { -value } else { value })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a number of the file to the float's precision"
)]
fn scaled(mantissa: f64, exponent: u8) -> f32 {
    (mantissa / 10f64.powi(i32::from(exponent))) as f32
}

/// The standard's own filters have nine and seven.
pub(super) const TAPS_MAX: usize = 32;
/// Ten passes of filters of 32 taps up to this one keep every value far inside a 32-bit float.
const TAP_MAX: f32 = 4.0;
const TABLES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolution_is_read_from_a_comment_of_nist() {
        let read = |text: &str| nistcom_pixels_per_inch(text.as_bytes());
        assert_eq!(read("NIST_COM 9\nPIX_WIDTH 300\nPPI 500\nLOSSY 1\0"), Some(500));
        assert_eq!(read("NIST_COM 2\nPPI -1"), None);
        assert_eq!(read("NIST_COM 2\nPPI 99999"), None);
        assert_eq!(read("PPI 500"), None);
        assert_eq!(read("made by a scanner\nPPI 500"), None);
        assert_eq!(nistcom_pixels_per_inch(b"NIST_COM\nPPI 500\n\xff"), None);
    }

    #[test]
    fn tables_of_another_length_are_refused() {
        let quantisation = [0u8; 3 + 64 * 6];
        assert!(Quantisation::read(&quantisation).is_ok());
        assert!(Quantisation::read(&quantisation[1..]).is_err());
        assert!(Quantisation::read(&[&quantisation[..], &[0]].concat()).is_err());
        let frame = [0u8; 15];
        assert!(Frame::read(&frame).is_ok());
        assert!(Frame::read(&frame[1..]).is_err());
        assert!(Frame::read(&[0; 16]).is_err());
        let filters = [&[3u8, 5][..], &[0; 5 * 6]].concat();
        assert!(Filters::read(&filters).is_ok());
        assert!(Filters::read(&filters[..filters.len() - 1]).is_err());
        assert!(Filters::read(&[&filters[..], &[0]].concat()).is_err());
    }

    #[test]
    fn filters_that_cannot_be_are_refused() {
        for sizes in [[0, 7], [9, 0], [9, 8], [33, 7], [1, 1]] {
            assert!(Filters::read(&[&sizes[..], &[0; 400]].concat()).is_err(), "{sizes:?}");
        }
        let tap = |mantissa: u32| [&[0u8, 0][..], &mantissa.to_be_bytes()].concat();
        let filters = |mantissa| Filters::read(&[&[2u8, 2][..], &tap(1), &tap(mantissa)].concat());
        assert!(filters(4).is_ok());
        assert!(filters(5).is_err());
    }

    #[test]
    fn subbands_that_the_specification_leaves_out_are_refused() {
        let mut content = [0u8; 3 + 64 * 6];
        content[3 + 60 * 6 + 2] = 1;
        assert!(Quantisation::read(&content).is_err());
        content[3 + 60 * 6 + 2] = 0;
        content[3 + 59 * 6 + 2] = 1;
        assert!(Quantisation::read(&content).is_ok());
    }

    #[test]
    fn a_huffman_segment_needs_a_table_and_a_number_up_to_seven() {
        let mut tables = HuffmanTables::default();
        let table = |number: u8| [&[number, 1][..], &[0; 15], &[107]].concat();
        assert!(tables.read(&[]).is_err());
        assert!(tables.read(&table(8)).is_err());
        assert!(tables.read(&table(0)[..17]).is_err());
        assert!(tables.find(0).is_err() && tables.find(8).is_err());
        assert!(tables.read(&[table(0), table(7)].concat()).is_ok());
        assert!(tables.find(0).is_ok() && tables.find(7).is_ok() && tables.find(1).is_err());
    }
}
