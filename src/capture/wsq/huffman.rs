//! Huffman codes of WSQ: the tables, the bits between two markers, and the symbols they spell.

use super::{WsqError, malformed};

/// A table of IAFIS-IC-0110, as in ITU-T T.81, annex C: so many codes of each length, in order.
pub(super) struct HuffmanTable {
    /// Length and symbol of each code of at most [`QUICK_BITS`], by the bits that begin with it; a
    /// length of zero where there is none.
    quick: Vec<(u8, u8)>,
    /// For each length: the code behind its last one, moved to the left of 16 bits.
    ends: [u32; CODE_BITS_MAX],
    /// For each length: what leads from a code to the place of its symbol.
    places: [i32; CODE_BITS_MAX],
    symbols: Vec<u8>,
}

impl HuffmanTable {
    /// The table of so many codes of each length from 1 to 16 bits, and their symbols in order.
    pub fn new(counts: [u8; CODE_BITS_MAX], symbols: &[u8]) -> Result<Self, WsqError> {
        let total: usize = counts.iter().map(|count| usize::from(*count)).sum();
        if total == 0 || total != symbols.len() {
            return Err(malformed("a Huffman table is empty or lacks symbols"));
        }
        let mut table = Self {
            quick: vec![(0, 0); 1 << QUICK_BITS],
            ends: [0; CODE_BITS_MAX],
            places: [0; CODE_BITS_MAX],
            symbols: symbols.to_vec(),
        };
        let (mut code, mut place) = (0u32, 0u32);
        let lengths = table.ends.iter_mut().zip(&mut table.places).zip(counts);
        for (length, ((end, to_place), count)) in (1u8..).zip(lengths) {
            let first = code;
            code += u32::from(count);
            if code > 1 << length {
                return Err(malformed("a Huffman table has more codes than its lengths allow"));
            }
            *end = code << (16 - length);
            *to_place = place.cast_signed() - first.cast_signed();
            let shift = QUICK_BITS.checked_sub(u32::from(length));
            for (code, symbol) in (first..code).zip(symbols.iter().skip(to_index(place))) {
                let Some(shift) = shift else { break };
                let from = to_index(code << shift);
                let entries = table.quick.get_mut(from..from + (1 << shift));
                entries.unwrap_or_default().fill((length, *symbol));
            }
            place += u32::from(count);
            code <<= 1;
        }
        Ok(table)
    }

    /// Length and symbol of the code that these 16 bits begin with.
    fn look_up(&self, bits: u16) -> Option<(u8, u8)> {
        let quick = self.quick.get(usize::from(bits >> (16 - QUICK_BITS)));
        if let Some(&(length, symbol)) = quick.filter(|(length, _)| *length > 0) {
            return Some((length, symbol));
        }
        let lengths = (1u8..).zip(self.ends.iter().zip(&self.places)).skip(to_index(QUICK_BITS));
        for (length, (end, to_place)) in lengths {
            if u32::from(bits) < *end {
                let code = i32::from(bits >> (16 - length));
                let place = usize::try_from(code + to_place).ok()?;
                return Some((length, *self.symbols.get(place)?));
            }
        }
        None
    }
}

/// Appends the coefficients that the bits of one segment spell to `coefficients`; more than `count`
/// in all are refused.
///
/// `segment` is what lies between two markers, without the zeros stuffed behind each 0xFF. Behind
/// the last code up to seven ones fill the byte.
pub(super) fn decode_segment(
    segment: &[u8],
    table: &HuffmanTable,
    coefficients: &mut Vec<i32>,
    count: usize,
) -> Result<(), WsqError> {
    let mut bits = Bits::new(segment);
    while !bits.is_at_end() {
        let (length, symbol) =
            table.look_up(bits.peek_16()).ok_or(malformed("bits that are no Huffman code"))?;
        bits.skip(u32::from(length))?;
        let run = match symbol {
            1..=100 => usize::from(symbol),
            105 => usize::from(bits.take(8)?),
            106 => usize::from(bits.take(16)?),
            _ => {
                let value = match symbol {
                    101 => i32::from(bits.take(8)?),
                    102 => -i32::from(bits.take(8)?),
                    103 => i32::from(bits.take(16)?),
                    104 => -i32::from(bits.take(16)?),
                    107..=254 => i32::from(symbol) - 180,
                    _ => return Err(malformed("a Huffman code without a meaning")),
                };
                if coefficients.len() >= count {
                    return Err(TOO_MANY);
                }
                coefficients.push(value);
                continue;
            }
        };
        if run > count - coefficients.len() {
            return Err(TOO_MANY);
        }
        coefficients.resize(coefficients.len() + run, 0);
    }
    Ok(())
}

/// The bits of a segment, the first of each byte first.
struct Bits<'a> {
    rest: &'a [u8],
    /// The next bits, from the left.
    window: u64,
    /// How many of the window.
    held: u32,
}

impl<'a> Bits<'a> {
    const fn new(segment: &'a [u8]) -> Self {
        Self { rest: segment, window: 0, held: 0 }
    }

    /// Whether nothing is left but ones that fill the last byte.
    fn is_at_end(&mut self) -> bool {
        self.fill();
        self.held < 8 && (!self.window).leading_zeros() >= self.held
    }

    fn fill(&mut self) {
        if self.held > 32 {
            return;
        }
        if let Some((next, rest)) = self.rest.split_first_chunk::<4>() {
            self.window |= u64::from(u32::from_be_bytes(*next)) << (32 - self.held);
            self.held += 32;
            self.rest = rest;
            return;
        }
        for byte in self.rest {
            self.window |= u64::from(*byte) << (56 - self.held);
            self.held += 8;
        }
        self.rest = &[];
    }

    /// The next 16 bits; zeros behind the end. [`Self::is_at_end`] has filled the window.
    const fn peek_16(&self) -> u16 {
        let [high, low, ..] = self.window.to_be_bytes();
        u16::from_be_bytes([high, low])
    }

    fn skip(&mut self, count: u32) -> Result<(), WsqError> {
        self.held = self
            .held
            .checked_sub(count)
            .ok_or(malformed("a block ends in the middle of a Huffman code"))?;
        self.window <<= count;
        Ok(())
    }

    /// The next `count` bits, 16 at the most.
    fn take(&mut self, count: u32) -> Result<u16, WsqError> {
        self.fill();
        let value = self.peek_16() >> (16 - count);
        self.skip(count)?;
        Ok(value)
    }
}

fn to_index(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// The longest code.
pub(super) const CODE_BITS_MAX: usize = 16;
/// Codes up to this length are looked up at once; nearly all that occur are.
const QUICK_BITS: u32 = 10;
const TOO_MANY: WsqError = malformed("the blocks hold more coefficients than the picture");

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(usize, u8)]) -> [u8; CODE_BITS_MAX] {
        let mut counts = [0; CODE_BITS_MAX];
        for (length, count) in of {
            counts[length - 1] = *count;
        }
        counts
    }

    fn decoded(table: &HuffmanTable, segment: &[u8], count: usize) -> Result<Vec<i32>, WsqError> {
        let mut coefficients = Vec::new();
        decode_segment(segment, table, &mut coefficients, count).map(|()| coefficients)
    }

    /// 0: the value 1, 10: a run of 2, 110: 8 bits, 1110: 16 bits of a run, and one of 12 bits: -1.
    fn table() -> HuffmanTable {
        let lengths = counts(&[(1, 1), (2, 1), (3, 1), (4, 1), (12, 1)]);
        HuffmanTable::new(lengths, &[181, 2, 102, 106, 179]).unwrap()
    }

    #[test]
    fn codes_of_every_length_are_read() {
        // 0 | 10 | 110 0000_1001 | 0 | 1111_0000_0000 | filled with ones.
        let bits = [0b0101_1000, 0b0010_0101, 0b1110_0000, 0b0001_1111];
        assert_eq!(decoded(&table(), &bits, 9), Ok(vec![1, 0, 0, -9, 1, -1]));
        // 1110 | 16 bits: a run of 300.
        let bits = [0b1110_0000, 0b0001_0010, 0b1100_1111];
        assert_eq!(decoded(&table(), &bits, 300), Ok(vec![0; 300]));
        assert_eq!(decoded(&table(), &bits, 299), Err(TOO_MANY));
        assert_eq!(decoded(&table(), &[], 5), Ok(vec![]));
    }

    #[test]
    fn a_table_that_cannot_be_is_refused() {
        for (lengths, symbols) in [
            (counts(&[]), &[][..]),
            (counts(&[(1, 3)]), &[1, 2, 3]),
            (counts(&[(1, 2), (2, 1)]), &[1, 2, 3]),
            (counts(&[(2, 2)]), &[1]),
            (counts(&[(2, 2)]), &[1, 2, 3]),
        ] {
            assert!(HuffmanTable::new(lengths, symbols).is_err(), "{lengths:?}");
        }
        assert!(HuffmanTable::new(counts(&[(1, 2)]), &[1, 2]).is_ok());
    }

    #[test]
    fn bits_that_are_no_code_or_half_of_one_are_refused() {
        let table = table();
        // 1111_1000_… is behind the last code.
        assert!(decoded(&table, &[0b1111_1000, 0], 9).is_err());
        // The value of 8 bits is cut off after five.
        assert!(decoded(&table, &[0b1100_0000], 9).is_err());
        // A symbol of 0 or of 255 means nothing.
        for symbol in [0, 255] {
            let table = HuffmanTable::new(counts(&[(1, 1)]), &[symbol]).unwrap();
            assert!(decoded(&table, &[0b0111_1111], 9).is_err());
        }
    }
}
