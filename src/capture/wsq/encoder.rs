//! A small WSQ encoder, for the tests: plain sums in place of fast ones, one flat Huffman code.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "samples and places of small pictures that the tests draw"
)]

use super::subbands::{Region, Subbands};

/// What to write.
#[derive(Clone)]
pub(in crate::capture) struct Encoder {
    /// Analysis filters from their middle outwards, and whether their length is even.
    pub low: Vec<f64>,
    pub high: Vec<f64>,
    pub is_even: bool,
    /// Width of all bins.
    pub bin: f64,
    /// Subbands that are left out.
    pub unsent: Vec<usize>,
    /// Coefficients between two restart marks.
    pub restart_every: Option<usize>,
    pub comment: Option<String>,
}

impl Default for Encoder {
    /// The filters of the specification, and fine bins.
    fn default() -> Self {
        Self {
            low: vec![0.852_698_679, 0.377_402_856, -0.110_624_404, -0.023_849_465, 0.037_828_456],
            high: vec![0.788_485_616, -0.418_092_273, -0.040_689_418, 0.064_538_883],
            is_even: false,
            bin: 0.2,
            unsent: Vec::new(),
            restart_every: None,
            comment: Some("NIST_COM 2\nPPI 500\n".to_owned()),
        }
    }
}

impl Encoder {
    /// Filters of even length: two and six.
    pub fn even() -> Self {
        let half = 0.5f64.sqrt();
        let eighth = half / 8.0;
        let high = vec![-half, eighth, eighth];
        Self { low: vec![half], high, is_even: true, ..Self::default() }
    }

    pub fn encode(&self, width: usize, height: usize, pixels: &[u8]) -> Vec<u8> {
        let mean = pixels.iter().map(|grey| f64::from(*grey)).sum::<f64>() / pixels.len() as f64;
        let most = pixels.iter().map(|grey| (f64::from(*grey) - mean).abs()).fold(0.0, f64::max);
        let (shift, scale) = (scaled_16(mean), scaled_16(most / 128.0));
        let mut plane: Vec<f64> = pixels
            .iter()
            .map(|grey| (f64::from(*grey) - value_16(shift)) / value_16(scale).max(1e-6))
            .collect();
        let Subbands { regions, splits } = Subbands::of(width, height);
        for split in splits {
            let Region { x, y, width: across, height: down } = split.region;
            for row in y..y + down {
                let places: Vec<_> = (x..x + across).map(|column| row * width + column).collect();
                self.split_line(&mut plane, &places, split.high_left);
            }
            for column in x..x + across {
                let places: Vec<_> = (y..y + down).map(|row| row * width + column).collect();
                self.split_line(&mut plane, &places, split.high_above);
            }
        }
        self.file(width, height, [shift, scale], &|band| {
            let Region { x, y, width: across, height: down } = regions[band];
            let rows = (y..y + down).flat_map(|row| (x..x + across).map(move |c| row * width + c));
            rows.map(|place| self.quantised(plane[place])).collect()
        })
    }

    fn is_sent(&self, band: usize) -> bool {
        band < 60 && !self.unsent.contains(&band)
    }

    fn quantised(&self, value: f64) -> i32 {
        let over = (value.abs() - 0.6 * self.bin) / self.bin;
        let level = if over > 0.0 { over.floor() as i32 + 1 } else { 0 };
        if value < 0.0 { -level } else { level }
    }

    fn split_line(&self, plane: &mut [f64], places: &[usize], high_first: bool) {
        let line: Vec<f64> = places.iter().map(|place| plane[*place]).collect();
        let length = line.len() as isize;
        let mirror = isize::from(self.is_even);
        let sample = |mut at: isize| loop {
            at = match at {
                _ if length == 1 => 0,
                ..0 => -mirror - at,
                at if at >= length => 2 * length - 2 + mirror - at,
                at => return line[at as usize],
            };
            if length == 1 {
                return line[0];
            }
        };
        let filtered = |filter: &[f64], start: isize| -> f64 {
            (start..).zip(filter).map(|(at, factor)| factor * sample(at)).sum()
        };
        let (low, high) = (self.whole(&self.low, 1.0), self.whole(&self.high, self.high_right()));
        let before = |filter: &[f64]| (filter.len() as isize - 1) / 2;
        let odd = isize::from(!self.is_even);
        let lows =
            (0..length.div_euclid(2) + length % 2).map(|k| filtered(&low, 2 * k - before(&low)));
        let highs = (0..length / 2).map(|k| filtered(&high, 2 * k + odd - before(&high)));
        let halves: Vec<f64> =
            if high_first { highs.chain(lows).collect() } else { lows.chain(highs).collect() };
        for (place, value) in places.iter().zip(halves) {
            plane[*place] = value;
        }
    }

    /// A high filter of even length is written with its right half's signs turned.
    fn high_right(&self) -> f64 {
        if self.is_even { -1.0 } else { 1.0 }
    }

    fn whole(&self, outwards: &[f64], right: f64) -> Vec<f64> {
        let middle = usize::from(!self.is_even);
        let left = outwards.iter().skip(middle).rev().copied();
        left.chain(outwards.iter().map(|tap| tap * right)).collect()
    }

    fn file(
        &self,
        width: usize,
        height: usize,
        scales: [(u8, u16); 2],
        coefficients: &dyn Fn(usize) -> Vec<i32>,
    ) -> Vec<u8> {
        let mut file = vec![0xff, 0xa0];
        if let Some(comment) = &self.comment {
            segment(&mut file, 0xa8, comment.as_bytes());
        }
        segment(&mut file, 0xa4, &self.transform_table());
        let mut quantisation = vec![2, 0, 44];
        for band in 0..64 {
            let bin = if self.is_sent(band) { self.bin } else { 0.0 };
            for value in [bin, bin * 1.2] {
                quantisation.extend(bytes_16(scaled_16(value)));
            }
        }
        segment(&mut file, 0xa5, &quantisation);
        let side = |pixels: usize| u16::try_from(pixels).unwrap().to_be_bytes();
        let [shift, scale] = scales.map(bytes_16);
        let frame: [&[u8]; 6] =
            [&[0, 255], &side(height), &side(width), &shift, &scale, &[2, 0, 0]];
        segment(&mut file, 0xa2, &frame.concat());
        // 254 codes of eight bits: the symbol less one.
        let table: Vec<u8> = [0]
            .into_iter()
            .chain([0, 0, 0, 0, 0, 0, 0, 254])
            .chain([0; 8])
            .chain(1..=254)
            .collect();
        segment(&mut file, 0xa6, &table);
        if self.restart_every.is_some() {
            segment(&mut file, 0xa7, &[0, 1]);
        }
        for bands in [0..19, 19..52, 52..60] {
            segment(&mut file, 0xa3, &[0]);
            let sent = bands.filter(|band| self.is_sent(*band));
            let sent: Vec<i32> = sent.flat_map(coefficients).collect();
            let parts = sent.chunks(self.restart_every.unwrap_or(usize::MAX)).collect::<Vec<_>>();
            for (turn, part) in parts.iter().enumerate() {
                spell(part, &mut file);
                if turn + 1 < parts.len() {
                    file.extend([0xff, 0xb0 + u8::try_from(turn % 8).unwrap()]);
                }
            }
        }
        file.extend([0xff, 0xa1]);
        file
    }

    fn transform_table(&self) -> Vec<u8> {
        let taps = |half: &[f64]| u8::try_from(2 * half.len()).unwrap() - u8::from(!self.is_even);
        let mut table = vec![taps(&self.low), taps(&self.high)];
        for tap in self.low.iter().chain(&self.high) {
            table.extend([u8::from(*tap < 0.0), 9]);
            table.extend(((tap.abs() * 1e9).round() as u32).to_be_bytes());
        }
        table
    }
}

/// A marker, a length, the content.
pub(in crate::capture) fn segment(file: &mut Vec<u8>, marker: u8, content: &[u8]) {
    file.extend([0xff, marker]);
    file.extend(u16::try_from(content.len() + 2).unwrap().to_be_bytes());
    file.extend(content);
}

fn spell(coefficients: &[i32], file: &mut Vec<u8>) {
    let mut bits = Vec::new();
    let mut rest = coefficients;
    while let [first, after @ ..] = rest {
        let run = rest.iter().take_while(|value| **value == 0).count().min(65_535);
        rest = if run > 0 { &rest[run..] } else { after };
        let low = |value: usize| value.to_be_bytes()[7];
        let high = |value: usize| value.to_be_bytes()[6];
        let size = first.unsigned_abs() as usize;
        let symbols = match (run, first) {
            (1..=100, _) => vec![low(run)],
            (101..=255, _) => vec![105, low(run)],
            (256.., _) => vec![106, high(run), low(run)],
            (0, -73..=74) => vec![u8::try_from(first + 180).unwrap()],
            (0, 1..) if size < 256 => vec![101, low(size)],
            (0, _) if size < 256 => vec![102, low(size)],
            (0, 1..) => vec![103, high(size), low(size)],
            (0, _) => vec![104, high(size), low(size)],
        };
        // The code of a symbol is one less; what follows it is plain.
        bits.push(symbols[0] - 1);
        bits.extend(&symbols[1..]);
    }
    for byte in bits {
        file.push(byte);
        if byte == 0xff {
            file.push(0);
        }
    }
}

fn scaled_16(value: f64) -> (u8, u16) {
    let exponent = (0..9).rev().find(|exponent| value * 10f64.powi(*exponent) < 65_535.0).unwrap();
    (exponent as u8, (value * 10f64.powi(exponent)).round() as u16)
}

fn value_16((exponent, mantissa): (u8, u16)) -> f64 {
    f64::from(mantissa) / 10f64.powi(i32::from(exponent))
}

fn bytes_16((exponent, mantissa): (u8, u16)) -> [u8; 3] {
    let [high, low] = mantissa.to_be_bytes();
    [exponent, high, low]
}

/// Rings about a point outside, about nine pixels wide as ridges are, and a slope: no finger's.
pub(in crate::capture) fn waves(width: usize, height: usize) -> Vec<u8> {
    let places = (0..height).flat_map(|y| (0..width).map(move |x| (x as f64, y as f64)));
    places
        .map(|(x, y)| {
            let ring = ((x + 30.0).hypot(1.1 * (y + 20.0)) / 1.4).sin() * 90.0;
            (128.0 + ring + (x - y) / 10.0).clamp(0.0, 255.0).round() as u8
        })
        .collect()
}
