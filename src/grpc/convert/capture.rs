//! Captures from the wire, and what they are of.
//!
//! Messages are destructured, so that a field added to the `.proto` is a compile error here.

use bytes::Bytes;

use super::noun::{instant, named, present, text};
use crate::capture::{FingerImageKind, MediaType};
use crate::crypto::HYBRID_OVERHEAD_BYTES;
use crate::domain::finger::FingerPosition;
use crate::domain::id::{CaptureKeyId, SensorId};
use crate::domain::modality::Modality;
use crate::gateway::request::{Capture, Declared, Picture, SealedPicture, SentCapture};
use crate::grpc::status::InvalidField;
use crate::proto;

/// Most characteristics beside the first.
const FURTHER_MAX: usize = 3;

/// What will be captured; whether this gateway has models for it is asked where it is captured.
pub fn modality(wire: i32, finger_position: i32) -> Result<Modality, InvalidField> {
    use proto::{FingerPosition as Position, Modality as Wire};
    let position: Position = named("finger_position", finger_position)?;
    match named("modality", wire)? {
        Wire::Unspecified => Err(InvalidField::missing("modality")),
        Wire::Palm => Err(InvalidField::wrong("modality", "it is not offered by this gateway")),
        Wire::Finger => {
            self::finger_position("finger_position", finger_position).map(Modality::Finger)
        }
        Wire::Face if position != Position::Unspecified => {
            Err(InvalidField::wrong("finger_position", "it goes with MODALITY_FINGER only"))
        }
        Wire::Face => Ok(Modality::Face),
    }
}

/// Which finger; its code is the wire's.
pub fn finger_position(path: &'static str, wire: i32) -> Result<FingerPosition, InvalidField> {
    let position: proto::FingerPosition = named(path, wire)?;
    let code = u8::try_from(i32::from(position)).ok();
    code.and_then(FingerPosition::from_code).ok_or_else(|| InvalidField::missing(path))
}

/// Everything that will be captured of a person, each once.
pub fn modalities(
    (modality, finger_position): (i32, i32),
    further: &[proto::Characteristic],
) -> Result<Vec<Modality>, InvalidField> {
    if further.len() > FURTHER_MAX {
        return Err(InvalidField::wrong("further", "there are more than 3"));
    }
    let mut all = vec![self::modality(modality, finger_position)?];
    for wire in further {
        let next = self::modality(wire.modality, wire.finger_position)
            .map_err(|fault| InvalidField { path: "further", ..fault })?;
        if all.contains(&next) {
            return Err(InvalidField::wrong("further", "something is to be captured twice"));
        }
        all.push(next);
    }
    Ok(all)
}

/// What was captured, the first first.
pub fn captures(
    first: Option<proto::Capture>,
    further: Vec<proto::Capture>,
) -> Result<Vec<SentCapture>, InvalidField> {
    if further.len() > FURTHER_MAX {
        return Err(InvalidField::wrong("further", "there are more than 3"));
    }
    let first = capture(present("capture", first)?)?;
    let further = further.into_iter().map(capture);
    std::iter::once(Ok(first)).chain(further).collect()
}

/// The picture of a capture, and what the terminal says it is.
fn capture(wire: proto::Capture) -> Result<SentCapture, InvalidField> {
    let proto::Capture {
        image,
        media_type,
        captured_at,
        device_signature,
        sensor_key_id,
        counter,
        pixels_per_inch,
        raw_size,
        sealed,
    } = wire;
    let unsigned = |path, empty: bool| {
        if empty {
            Ok(())
        } else {
            Err(InvalidField::wrong(path, "signatures stand in `envelopes`"))
        }
    };
    unsigned("capture.device_signature", device_signature.is_empty())?;
    unsigned("capture.sensor_key_id", sensor_key_id.is_empty())?;
    unsigned("capture.counter", counter == 0)?;
    if let Some(wire) = captured_at {
        // Informational, but a client that cannot write a time has a fault worth finding.
        instant("capture.captured_at", &wire)?;
    }
    let said = Said { media_type, pixels_per_inch, raw_size };
    let declared = said.declared(["capture.media_type", "capture.pixels_per_inch"])?;
    Ok(SentCapture { picture: sent(CAPTURE, image, sealed)?, declared })
}

/// The paths of a picture that may be sealed.
#[derive(Clone, Copy)]
pub struct PicturePaths {
    pub image: &'static str,
    pub key_id: &'static str,
    pub sensor_id: &'static str,
    pub sealed: &'static str,
}

const CAPTURE: PicturePaths = PicturePaths {
    image: "capture.image",
    key_id: "capture.sealed.key_id",
    sensor_id: "capture.sealed.sensor_id",
    sealed: "capture.sealed.sealed",
};

/// A picture, open or sealed; whether it opens is found out where it is opened.
pub fn sent(
    paths: PicturePaths,
    image: Bytes,
    sealed: Option<proto::SealedImage>,
) -> Result<Picture, InvalidField> {
    let Some(wire) = sealed else { return picture(paths.image, image).map(Picture::Open) };
    if !image.is_empty() {
        return Err(InvalidField::wrong(
            paths.image,
            "it is sealed, and must not be sent open too",
        ));
    }
    let proto::SealedImage { key_id, sensor_id, sealed } = wire;
    if sealed.len() <= HYBRID_OVERHEAD_BYTES {
        let problem = "it is no encapsulated key of 32 bytes with a ciphertext behind it";
        return Err(InvalidField::wrong(paths.sealed, problem));
    }
    let sensor = (!sensor_id.is_empty()).then(|| text::<SensorId>(paths.sensor_id, &sensor_id));
    Ok(Picture::Sealed(SealedPicture {
        key_id: text::<CaptureKeyId>(paths.key_id, &key_id)?,
        sensor: sensor.transpose()?,
        sealed,
    }))
}

/// A picture about which nothing is said.
pub fn undeclared(path: &'static str, image: Bytes) -> Result<Capture, InvalidField> {
    Ok(Capture { image: picture(path, image)?, declared: Declared::default() })
}

/// What a message says about a picture beside its bytes.
pub struct Said {
    pub media_type: Option<String>,
    pub pixels_per_inch: Option<u32>,
    pub raw_size: Option<proto::RawSize>,
}

impl Said {
    /// Reads it; the paths are of the media type and the resolution.
    pub fn declared(
        self,
        [media_type, pixels_per_inch]: [&'static str; 2],
    ) -> Result<Declared, InvalidField> {
        let name = self.media_type.as_deref();
        let of_face = name.and_then(MediaType::from_name);
        let of_finger = name.and_then(FingerImageKind::from_name);
        if name.is_some() && of_face.is_none() && of_finger.is_none() {
            let problem = "it must be \"image/jpeg\" or \"image/png\", or of a finger \"image/png\", \
                           \"image/tiff\", \"image/bmp\", \"image/x-wsq\", \"image/x-grey8\" or \
                           \"application/x-finger-image-record\"";
            return Err(InvalidField::wrong(media_type, problem));
        }
        let narrow = |wire| {
            u16::try_from(wire).map_err(|_| {
                InvalidField::wrong(pixels_per_inch, "it is no resolution of a scanner")
            })
        };
        Ok(Declared {
            media_type: of_face,
            finger_kind: of_finger,
            pixels_per_inch: self.pixels_per_inch.map(narrow).transpose()?,
            raw_size: self.raw_size.map(|proto::RawSize { width, height }| (width, height)),
        })
    }
}

/// An encoded picture; whether it can be read is found out where it is read.
pub fn picture(path: &'static str, image: Bytes) -> Result<Bytes, InvalidField> {
    if image.is_empty() { Err(InvalidField::missing(path)) } else { Ok(image) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(modality: i32, finger_position: i32) -> proto::Characteristic {
        proto::Characteristic { modality, finger_position }
    }

    #[test]
    fn a_finger_says_which_and_a_face_does_not() {
        assert_eq!(modality(1, 0).unwrap(), Modality::Face);
        assert_eq!(modality(2, 2).unwrap(), Modality::Finger(FingerPosition::RightIndex));
        assert_eq!(modality(2, 10).unwrap(), Modality::Finger(FingerPosition::LeftLittle));
        for (wire, finger, path) in [
            (0, 0, "modality"),
            (3, 0, "modality"),
            (9, 0, "modality"),
            (-1, 0, "modality"),
            (1, 1, "finger_position"),
            (1, 11, "finger_position"),
            (2, 0, "finger_position"),
            (2, 11, "finger_position"),
            (2, -1, "finger_position"),
        ] {
            assert_eq!(modality(wire, finger).unwrap_err().path, path, "{wire} {finger}");
        }
    }

    #[test]
    fn nothing_is_captured_twice_and_no_more_than_four_things() {
        let all = |further: &[_]| modalities((1, 0), further).map(|all| all.len());
        assert_eq!(all(&[]).unwrap(), 1);
        assert_eq!(all(&[wire(2, 2), wire(2, 7)]).unwrap(), 3);
        for wrong in [
            vec![wire(1, 0)],
            vec![wire(2, 2), wire(2, 2)],
            vec![wire(2, 0)],
            (1..=4).map(|finger| wire(2, finger)).collect(),
        ] {
            assert_eq!(all(&wrong).unwrap_err().path, "further", "{wrong:?}");
        }
    }

    #[test]
    fn a_picture_is_declared_as_what_it_may_be_of() {
        let said = |media_type: Option<&str>, pixels_per_inch, raw_size| {
            let media_type = media_type.map(ToOwned::to_owned);
            Said { media_type, pixels_per_inch, raw_size }.declared(["type", "ppi"])
        };
        let suits = |declared: Declared| (declared.suits_a_face(), declared.suits_a_finger());
        let size = Some(proto::RawSize { width: 1, height: 1 });
        assert_eq!(suits(said(None, None, None).unwrap()), (true, true));
        assert_eq!(suits(said(Some("image/png"), None, None).unwrap()), (true, true));
        assert_eq!(suits(said(Some("image/jpeg"), None, None).unwrap()), (true, false));
        assert_eq!(suits(said(Some("image/x-wsq"), None, None).unwrap()), (false, true));
        assert_eq!(suits(said(None, Some(500), None).unwrap()), (false, true));
        assert_eq!(suits(said(None, None, size).unwrap()), (false, true));
        assert_eq!(said(Some("image/gif"), None, None).unwrap_err().path, "type");
        assert_eq!(said(None, Some(70_000), None).unwrap_err().path, "ppi");
    }

    #[test]
    fn a_capture_is_refused_by_its_path() {
        type Spoil = fn(&mut proto::Capture);
        let good = || proto::Capture { image: "\u{1}".into(), ..proto::Capture::default() };
        assert!(captures(Some(good()), Vec::new()).is_ok());
        let cases: [(&str, Spoil); 7] = [
            ("capture.image", |c| c.image = Bytes::new()),
            ("capture.media_type", |c| c.media_type = Some("image/gif".into())),
            ("capture.media_type", |c| c.media_type = Some(String::new())),
            ("capture.captured_at", |c| c.captured_at = Some("yesterday".into())),
            ("capture.device_signature", |c| c.device_signature = vec![1]),
            ("capture.sensor_key_id", |c| c.sensor_key_id = "k".into()),
            ("capture.counter", |c| c.counter = 1),
        ];
        for (path, spoil) in cases {
            let mut wire = good();
            spoil(&mut wire);
            assert_eq!(captures(Some(wire), Vec::new()).unwrap_err().path, path);
        }
        assert_eq!(captures(None, Vec::new()).unwrap_err().path, "capture");
    }

    #[test]
    fn a_sealed_capture_is_refused_by_its_path() {
        type Spoil = fn(&mut proto::Capture, &mut proto::SealedImage);
        let good = || proto::SealedImage {
            key_id: "capture-1".into(),
            sensor_id: "CAM-1".into(),
            sealed: vec![7; HYBRID_OVERHEAD_BYTES + 1].into(),
        };
        let take = |spoil: Spoil| {
            let (mut wire, mut sealed) = (proto::Capture::default(), good());
            spoil(&mut wire, &mut sealed);
            wire.sealed = Some(sealed);
            captures(Some(wire), Vec::new())
        };
        let taken = take(|_, s| s.sensor_id.clear()).unwrap();
        assert!(matches!(&taken[0].picture, Picture::Sealed(it) if it.sensor.is_none()));
        assert!(take(|c, _| c.media_type = Some("image/png".into())).is_ok());
        let cases: [(&str, Spoil); 6] = [
            ("capture.image", |c, _| c.image = "\u{1}".into()),
            ("capture.sealed.key_id", |_, s| s.key_id.clear()),
            ("capture.sealed.key_id", |_, s| s.key_id = "a b".into()),
            ("capture.sealed.sensor_id", |_, s| s.sensor_id = "a b".into()),
            ("capture.sealed.sealed", |_, s| s.sealed = Bytes::new()),
            ("capture.sealed.sealed", |_, s| s.sealed.truncate(HYBRID_OVERHEAD_BYTES)),
        ];
        for (path, spoil) in cases {
            assert_eq!(take(spoil).unwrap_err().path, path);
        }
    }
}
