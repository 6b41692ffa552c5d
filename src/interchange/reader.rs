//! Bytes to a record: every length is checked before it is used.

use super::RECORD_BYTES_MAX;
use super::record::{
    CaptureDevice, Impression, MAGIC, MinutiaeRecord, ProductId, RecordFormat, RecordMinutia,
    RecordView, VERSION,
};
use crate::domain::finger::{FingerPosition, MinutiaKind};

impl MinutiaeRecord {
    /// Reads a record of either standard.
    ///
    /// Both begin alike; which one it is shows in the length field, four bytes in ISO's and two in
    /// ANSI's, of which only one can be the length of a file this short.
    ///
    /// # Errors
    ///
    /// [`RecordError`] with what is wrong, at which byte, and what to do.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(RecordError::TooLarge);
        }
        let mut reader = Reader { bytes, offset: 0 };
        if reader.take::<4>().ok().as_ref() != Some(MAGIC) {
            return Err(RecordError::NotARecord);
        }
        let version: [u8; 4] = reader.take()?;
        if &version != VERSION {
            return Err(RecordError::Edition);
        }
        let format = format(&mut reader)?;
        let device = CaptureDevice(reader.number()?);
        let size_px = [reader.number()?, reader.number()?];
        let resolution_at = reader.offset;
        let per_cm = [reader.number()?, reader.number()?];
        if per_cm.into_iter().any(|across| across < PER_CM_MIN) {
            return Err(RecordError::Resolution { offset: resolution_at });
        }
        let [count, _reserved] = reader.take()?;
        if count == 0 {
            return Err(RecordError::NoView);
        }
        let views = (0..count).map(|_| view(&mut reader, format)).collect::<Result<_, _>>()?;
        if reader.offset != bytes.len() {
            return Err(RecordError::LeftOver { offset: reader.offset });
        }
        Ok(Self { format, device, size_px, per_cm, views })
    }
}

fn format(reader: &mut Reader<'_>) -> Result<RecordFormat, RecordError> {
    let held = reader.bytes.len();
    let [first, second] = [reader.number()?, reader.number()?];
    let long = usize::from(first) << 16 | usize::from(second);
    if long == held {
        Ok(RecordFormat::Iso2005)
    } else if usize::from(first) == held {
        let product = ProductId { owner: second, kind: reader.number()? };
        Ok(RecordFormat::Ansi2004 { product })
    } else {
        Err(RecordError::Length { held })
    }
}

fn view(reader: &mut Reader<'_>, format: RecordFormat) -> Result<RecordView, RecordError> {
    let offset = reader.offset;
    let [position, number_and_impression, quality, count] = reader.take()?;
    let position = match position {
        0 => None,
        code => {
            let known = FingerPosition::from_code(code);
            Some(known.ok_or(RecordError::Position { offset, code })?)
        }
    };
    let mut minutiae = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        minutiae.push(minutia(reader, format)?);
    }
    let extended_length = usize::from(reader.number()?);
    let extended = reader.slice(extended_length)?.to_vec();
    let (number, impression) = (number_and_impression >> 4, number_and_impression & 15);
    let impression = Impression(impression);
    Ok(RecordView { position, number, impression, quality, minutiae, extended })
}

fn minutia(reader: &mut Reader<'_>, format: RecordFormat) -> Result<RecordMinutia, RecordError> {
    let offset = reader.offset;
    let [x, y] = [reader.number()?, reader.number()?];
    let [angle, quality] = reader.take()?;
    let kind = match x >> 14 {
        0 => MinutiaKind::Other,
        1 => MinutiaKind::Ending,
        2 => MinutiaKind::Bifurcation,
        _ => return Err(RecordError::Kind { offset }),
    };
    if u16::from(angle) >= format.turn_steps() {
        return Err(RecordError::Angle { offset: offset + 4 });
    }
    Ok(RecordMinutia { kind, x: x & COORDINATE_BITS, y: y & COORDINATE_BITS, angle, quality })
}

/// The bytes and how far they have been read.
struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let offset = self.offset;
        let found = self.bytes.get(offset..).and_then(<[u8]>::first_chunk);
        self.offset += N;
        found.copied().ok_or(RecordError::Ends { offset })
    }

    fn number(&mut self) -> Result<u16, RecordError> {
        self.take().map(u16::from_be_bytes)
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], RecordError> {
        let (offset, end) = (self.offset, self.offset.saturating_add(length));
        let found = self.bytes.get(offset..end).ok_or(RecordError::Ends { offset })?;
        self.offset = end;
        Ok(found)
    }
}

/// Why bytes are no finger minutiae record that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Longer than [`RECORD_BYTES_MAX`].
    #[error("the record is longer than 65535 bytes; export fewer views in one record")]
    TooLarge,
    /// Other first bytes.
    #[error(
        "the bytes do not begin with FMR: this is no finger minutiae record; export the template as \
         ISO/IEC 19794-2:2005 (record format) or ANSI/INCITS 378-2004"
    )]
    NotARecord,
    /// Another edition of the standards.
    #[error(
        "the record's version at byte 4 is not 20: it is of another edition, such as ISO/IEC \
         19794-2:2011 or ANSI/INCITS 378-2009; export it as ISO/IEC 19794-2:2005"
    )]
    Edition,
    /// The header states another length.
    #[error(
        "the length at byte 8 is not that of the record, {held} bytes: it was cut or joined with \
         other data; export it again"
    )]
    Length {
        /// How many bytes there are.
        held: usize,
    },
    /// It ends within a field.
    #[error("the record ends within the field at byte {offset}; export it again")]
    Ends {
        /// Where the field begins.
        offset: usize,
    },
    /// Bytes that belong to no view.
    #[error(
        "after the last view, at byte {offset}, more bytes follow; the count of views or minutiae, or \
         the length of extended data is wrong: export it again"
    )]
    LeftOver {
        /// Where they begin.
        offset: usize,
    },
    /// Too coarse for minutiae, or not told.
    #[error(
        "the resolution at byte {offset} is below 98 pixels a centimetre (250 an inch), which the \
         standard does not allow; export it with the true resolution"
    )]
    Resolution {
        /// Where it stands.
        offset: usize,
    },
    /// No view.
    #[error("the record holds no finger view; export it with one at least")]
    NoView,
    /// A code that is no finger.
    #[error(
        "the finger position at byte {offset} is {code}; fingers have the codes 1 to 10, and 0 when it \
         is not known"
    )]
    Position {
        /// Where it stands.
        offset: usize,
        /// What stands there.
        code: u8,
    },
    /// A type that the standard reserves.
    #[error("the minutia at byte {offset} has the reserved type 3; export it again")]
    Kind {
        /// Where the minutia begins.
        offset: usize,
    },
    /// Over a full turn.
    #[error(
        "the angle at byte {offset} is over 179 steps of 2 degrees; the record may follow ISO/IEC \
         19794-2 with a header of ANSI/INCITS 378: export it as one of the two"
    )]
    Angle {
        /// Where it stands.
        offset: usize,
    },
}

impl RecordError {
    /// The stable word for logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge => "TPL_TOO_LARGE",
            Self::NotARecord => "TPL_NOT_A_RECORD",
            Self::Edition => "TPL_EDITION",
            Self::Length { .. } | Self::Ends { .. } | Self::LeftOver { .. } => "TPL_LENGTH",
            Self::Resolution { .. } => "TPL_RESOLUTION",
            Self::NoView => "TPL_NO_VIEW",
            Self::Position { .. } | Self::Kind { .. } | Self::Angle { .. } => "TPL_FIELD",
        }
    }
}

const COORDINATE_BITS: u16 = 0x3fff;
/// 250 pixels an inch, rounded down.
const PER_CM_MIN: u16 = 98;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An ISO record of one right thumb with one ending at (100, 200), 90°, and three bytes of extended
    /// data, written by hand from clause 7 of the standard.
    const ISO: &[u8] = b"FMR\0 20\0\0\0\0\x27\xa0\x07\x01\x2c\x01\x90\0\xc5\0\xc5\x01\0\
        \x01\x21\x50\x01\x40\x64\0\xc8\x40\x3c\0\x03abc";

    /// The same finger in ANSI's form: owner 0x0033, type 0x0102, 90° is 45 steps.
    const ANSI: &[u8] = b"FMR\0 20\0\0\x29\0\x33\x01\x02\xa0\x07\x01\x2c\x01\x90\0\xc5\0\xc5\x01\0\
        \x01\x21\x50\x01\x40\x64\0\xc8\x2d\x3c\0\x03abc";

    fn with(bytes: &[u8], place: usize, value: u8) -> Result<MinutiaeRecord, RecordError> {
        let mut bytes = bytes.to_vec();
        bytes[place] = value;
        MinutiaeRecord::parse(&bytes)
    }

    #[test]
    fn both_standards_say_the_same_of_the_same_finger() {
        let product = ProductId { owner: 0x33, kind: 0x102 };
        for (bytes, format, angle) in
            [(ISO, RecordFormat::Iso2005, 64), (ANSI, RecordFormat::Ansi2004 { product }, 45)]
        {
            let record = MinutiaeRecord::parse(bytes).unwrap();
            assert_eq!(record.format(), format);
            assert_eq!((record.device().certification(), record.device().number()), (10, 7));
            assert_eq!((record.size_px(), record.pixels_per_cm()), ([300, 400], [197; 2]));
            let [view] = record.views() else { panic!("{record:?}") };
            assert_eq!(view.position(), Some(FingerPosition::RightThumb));
            assert_eq!((view.number(), view.impression().as_str()), (2, "live-rolled"));
            assert_eq!((view.quality(), view.extended_data()), (Some(80), &b"abc"[..]));
            let kind = MinutiaKind::Ending;
            let minutia = RecordMinutia { kind, x: 100, y: 200, angle, quality: 60 };
            assert_eq!(view.minutiae(), [minutia]);
            assert_eq!(record.to_bytes().as_slice(), bytes);
        }
    }

    #[test]
    fn each_fault_is_told_with_its_byte() {
        let header = 24;
        for (found, error) in [
            (with(ISO, 0, b'G'), RecordError::NotARecord),
            (with(ISO, 5, b'3'), RecordError::Edition),
            (with(ISO, 11, 0x28), RecordError::Length { held: 39 }),
            (with(ISO, 19, 97), RecordError::Resolution { offset: 18 }),
            (with(ISO, 21, 0), RecordError::Resolution { offset: 18 }),
            (with(ISO, 22, 0), RecordError::NoView),
            (with(ISO, 22, 2), RecordError::Ends { offset: 39 }),
            (with(ISO, header, 11), RecordError::Position { offset: header, code: 11 }),
            (with(ISO, header + 3, 0), RecordError::Ends { offset: header + 6 }),
            (with(ISO, header + 4, 0xc0), RecordError::Kind { offset: header + 4 }),
            (with(ISO, header + 11, 2), RecordError::LeftOver { offset: 38 }),
            (with(ANSI, header + 2 + 8, 180), RecordError::Angle { offset: 34 }),
            (MinutiaeRecord::parse(&vec![0; 65_536]), RecordError::TooLarge),
        ] {
            assert_eq!(found, Err(error));
        }
    }

    #[test]
    fn every_truncation_and_extension_is_refused() {
        for bytes in [ISO, ANSI] {
            for length in 0..bytes.len() {
                assert!(MinutiaeRecord::parse(&bytes[..length]).is_err(), "{length}");
            }
            assert!(MinutiaeRecord::parse(&[bytes, &[0]].concat()).is_err());
        }
    }

    #[test]
    fn reserved_bits_are_left_out() {
        let record = with(ISO, 23, 9).unwrap();
        assert_eq!(record.to_bytes().as_slice(), ISO);
        assert_eq!(with(ISO, 30, 0xc0).unwrap().to_bytes().as_slice(), ISO);
    }

    #[test]
    fn neither_debug_nor_an_error_shows_a_place() {
        let record = MinutiaeRecord::parse(ISO).unwrap();
        let shown = format!("{record:?} {:?}", record.views()[0].minutiae());
        assert!(shown.contains("1 minutiae") && !shown.contains("100"), "{shown}");
    }

    fn record() -> impl Strategy<Value = MinutiaeRecord> {
        let format = prop_oneof![
            Just(RecordFormat::Iso2005),
            any::<(u16, u16)>().prop_map(|(owner, kind)| RecordFormat::Ansi2004 {
                product: ProductId { owner, kind }
            }),
        ];
        let minutia = (0u8..3, 0u16..0x4000, 0u16..0x4000, 0u8..180, any::<u8>());
        let minutia = minutia.prop_map(|(kind, x, y, angle, quality)| {
            let kind = [MinutiaKind::Other, MinutiaKind::Ending, MinutiaKind::Bifurcation]
                [usize::from(kind)];
            RecordMinutia { kind, x, y, angle, quality }
        });
        let minutiae = prop::collection::vec(minutia, 0..256);
        let extended = prop::collection::vec(any::<u8>(), 0..40);
        let view = (0u8..11, 0u8..16, 0u8..16, any::<u8>(), minutiae, extended);
        let view = view.prop_map(|(position, number, impression, quality, minutiae, extended)| {
            let position = FingerPosition::from_code(position);
            let impression = Impression(impression);
            RecordView { position, number, impression, quality, minutiae, extended }
        });
        let size = (any::<u16>(), any::<[u16; 2]>(), [98u16..=u16::MAX, 98u16..=u16::MAX]);
        (format, size, prop::collection::vec(view, 1..6)).prop_map(
            |(format, (device, size_px, per_cm), views)| MinutiaeRecord {
                format,
                device: CaptureDevice(device),
                size_px,
                per_cm,
                views,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(record in record()) {
            prop_assert_eq!(MinutiaeRecord::parse(&record.to_bytes()), Ok(record));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..400), is_iso in any::<bool>(),
        ) {
            let length = u16::try_from(bytes.len() + 12).unwrap().to_be_bytes();
            let length = if is_iso {
                [0, 0, length[0], length[1]]
            } else {
                [length[0], length[1], 0, 0]
            };
            let framed = [&MAGIC[..], VERSION, &length, &bytes].concat();
            for bytes in [bytes, framed] {
                if let Ok(record) = MinutiaeRecord::parse(&bytes) {
                    prop_assert_eq!(record.to_bytes().len(), bytes.len());
                }
            }
        }

        #[test]
        fn a_changed_byte_never_panics_and_never_lengthens(
            record in record(), place in any::<prop::sample::Index>(), value in any::<u8>(),
        ) {
            let mut bytes = record.to_bytes().to_vec();
            let place = place.index(bytes.len());
            bytes[place] = value;
            if let Ok(changed) = MinutiaeRecord::parse(&bytes) {
                prop_assert_eq!(changed.to_bytes().len(), bytes.len());
            }
        }
    }
}
