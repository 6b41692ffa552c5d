//! What a finger minutiae record says, in its own units, and how it is written.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::domain::finger::{FingerPosition, MinutiaKind};

/// Which standard a record follows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RecordFormat {
    /// ISO/IEC 19794-2:2005, record format (clause 7), with its corrigendum 1 of 2009. Angles in
    /// 360°/256. It does not say who made it.
    Iso2005,
    /// ANSI/INCITS 378-2004. Angles in steps of 2°.
    Ansi2004 {
        /// Whose extractor made it.
        product: ProductId,
    },
}

impl RecordFormat {
    /// Its name in reports, and in the hash of [`super::foreign_model`].
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Iso2005 => "iso-19794-2-2005",
            Self::Ansi2004 { .. } => "ansi-378-2004",
        }
    }

    /// Steps of an angle in one turn.
    pub(super) const fn turn_steps(self) -> u16 {
        match self {
            Self::Iso2005 => 256,
            Self::Ansi2004 { .. } => 180,
        }
    }
}

/// A CBEFF product identifier: the registered owner and the owner's number for the product.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ProductId {
    /// Assigned to the vendor.
    pub owner: u16,
    /// Assigned by the vendor.
    pub kind: u16,
}

/// What took the picture: four bits of certification and the vendor's 12-bit number of the device;
/// zero where it is not told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct CaptureDevice(pub(super) u16);

impl CaptureDevice {
    /// The certification bits, 0 to 15.
    #[must_use]
    pub const fn certification(self) -> u16 {
        self.0 >> 12
    }

    /// The vendor's number of the device, 0 to 4095.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0 & 0x0fff
    }
}

/// How the finger was pressed, by its four-bit code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Impression(pub(super) u8);

impl Impression {
    /// A live finger, pressed flat.
    pub const LIVE_PLAIN: Self = Self(0);

    /// The code, 0 to 15.
    #[must_use]
    pub const fn code(self) -> u8 {
        self.0
    }

    /// Its name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self.0 {
            0 => "live-plain",
            1 => "live-rolled",
            2 => "nonlive-plain",
            3 => "nonlive-rolled",
            8 => "swipe",
            9 => "live-contactless",
            _ => "reserved",
        }
    }
}

/// A finger minutiae record: one header and its views.
#[derive(Clone, PartialEq, Eq)]
pub struct MinutiaeRecord {
    pub(super) format: RecordFormat,
    pub(super) device: CaptureDevice,
    /// Width and height of the picture, in pixels.
    pub(super) size_px: [u16; 2],
    /// Across and down, in pixels a centimetre.
    pub(super) per_cm: [u16; 2],
    pub(super) views: Vec<RecordView>,
}

impl MinutiaeRecord {
    /// The standard that it follows.
    #[must_use]
    pub const fn format(&self) -> RecordFormat {
        self.format
    }

    /// What took the picture.
    #[must_use]
    pub const fn device(&self) -> CaptureDevice {
        self.device
    }

    /// Width and height of the picture, in its pixels.
    #[must_use]
    pub const fn size_px(&self) -> [u16; 2] {
        self.size_px
    }

    /// Its resolution across and down, in pixels a centimetre: 197 is 500 an inch.
    #[must_use]
    pub const fn pixels_per_cm(&self) -> [u16; 2] {
        self.per_cm
    }

    /// Its views, in their order; at least one.
    #[must_use]
    pub fn views(&self) -> &[RecordView] {
        &self.views
    }

    /// The record's bytes.
    ///
    /// What was read comes back byte for byte, except bits that the standards reserve: they are
    /// written as zeros.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let length = self.length();
        // With its capacity from the start, no unwiped copy is left behind by growth.
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(VERSION);
        match self.format {
            RecordFormat::Iso2005 => {
                bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
            }
            RecordFormat::Ansi2004 { product } => {
                put(&mut bytes, u16::try_from(length).unwrap_or(u16::MAX));
                put(&mut bytes, product.owner);
                put(&mut bytes, product.kind);
            }
        }
        put(&mut bytes, self.device.0);
        for number in self.size_px.into_iter().chain(self.per_cm) {
            put(&mut bytes, number);
        }
        bytes.push(u8::try_from(self.views.len()).unwrap_or(u8::MAX));
        bytes.push(0);
        for view in &self.views {
            view.write(&mut bytes);
        }
        bytes
    }

    /// How many bytes [`Self::to_bytes`] gives.
    pub(super) fn length(&self) -> usize {
        let header = match self.format {
            RecordFormat::Iso2005 => ISO_HEADER_BYTES,
            RecordFormat::Ansi2004 { .. } => ANSI_HEADER_BYTES,
        };
        header + self.views.iter().map(RecordView::length).sum::<usize>()
    }
}

impl fmt::Debug for MinutiaeRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MinutiaeRecord({}, {:?})", self.format.as_str(), self.views)
    }
}

/// One impression of one finger in a record.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct RecordView {
    #[zeroize(skip)]
    pub(super) position: Option<FingerPosition>,
    #[zeroize(skip)]
    pub(super) number: u8,
    #[zeroize(skip)]
    pub(super) impression: Impression,
    #[zeroize(skip)]
    pub(super) quality: u8,
    pub(super) minutiae: Vec<RecordMinutia>,
    pub(super) extended: Vec<u8>,
}

impl RecordView {
    /// Which finger; none where the record says that it is not known.
    #[must_use]
    pub const fn position(&self) -> Option<FingerPosition> {
        self.position
    }

    /// Which impression of this finger, from 0 to 15.
    #[must_use]
    pub const fn number(&self) -> u8 {
        self.number
    }

    /// How the finger was pressed.
    #[must_use]
    pub const fn impression(&self) -> Impression {
        self.impression
    }

    /// Quality of the whole view by its maker, 1 to 100; none where it is not told: 0, and the codes
    /// above 100.
    #[must_use]
    pub fn quality(&self) -> Option<u8> {
        told(self.quality)
    }

    /// Its minutiae, as they stand in the record.
    #[must_use]
    pub fn minutiae(&self) -> &[RecordMinutia] {
        &self.minutiae
    }

    /// The extended data (ridge counts, cores and deltas, a vendor's own), kept as they came.
    #[must_use]
    pub fn extended_data(&self) -> &[u8] {
        &self.extended
    }

    fn length(&self) -> usize {
        VIEW_HEADER_BYTES + MINUTIA_BYTES * self.minutiae.len() + 2 + self.extended.len()
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.push(self.position.map_or(0, FingerPosition::code));
        bytes.push(self.number << 4 | self.impression.0);
        bytes.push(self.quality);
        bytes.push(u8::try_from(self.minutiae.len()).unwrap_or(u8::MAX));
        for minutia in &self.minutiae {
            put(bytes, u16::from(minutia.kind as u8) << 14 | minutia.x);
            put(bytes, minutia.y);
            bytes.extend_from_slice(&[minutia.angle, minutia.quality]);
        }
        put(bytes, u16::try_from(self.extended.len()).unwrap_or(u16::MAX));
        bytes.extend_from_slice(&self.extended);
    }
}

impl fmt::Debug for RecordView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordView({:?}, {} minutiae)", self.position, self.minutiae.len())
    }
}

/// One minutia of a record, in the record's pixels and steps of an angle.
#[derive(Clone, Copy, PartialEq, Eq, Zeroize)]
pub struct RecordMinutia {
    #[zeroize(skip)]
    pub(super) kind: MinutiaKind,
    pub(super) x: u16,
    pub(super) y: u16,
    pub(super) angle: u8,
    pub(super) quality: u8,
}

impl RecordMinutia {
    /// What the ridge does there.
    #[must_use]
    pub const fn kind(&self) -> MinutiaKind {
        self.kind
    }

    /// How sure its finder was, 1 to 100; none where it is not told.
    #[must_use]
    pub fn quality(&self) -> Option<u8> {
        told(self.quality)
    }
}

impl fmt::Debug for RecordMinutia {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordMinutia({:?})", self.kind)
    }
}

fn told(quality: u8) -> Option<u8> {
    (1..=100).contains(&quality).then_some(quality)
}

fn put(bytes: &mut Vec<u8>, number: u16) {
    bytes.extend_from_slice(&number.to_be_bytes());
}

pub(super) const MAGIC: &[u8; 4] = b"FMR\0";
pub(super) const VERSION: &[u8; 4] = b" 20\0";
const ISO_HEADER_BYTES: usize = 24;
const ANSI_HEADER_BYTES: usize = 26;
const VIEW_HEADER_BYTES: usize = 4;
const MINUTIA_BYTES: usize = 6;
