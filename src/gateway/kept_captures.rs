//! What evidence holds: every capture of a decision with what was declared of it, and what it was compared
//! with.
//!
//! With it the models can be run again as they ran. It is sealed as one piece, and a fresh salt makes its hash
//! fit for the audit record: who has the hash cannot try pictures against it.

use bytes::Bytes;
use zeroize::Zeroizing;

use super::customer::TemplateCapture;
use super::request::{Capture, Declared};
use crate::capture::{FingerImageKind, MediaType};
use crate::crypto::{Digest, length_prefixed};
use crate::domain::id::{CaptureId, CustomerId};
use crate::domain::modality::Modality;

/// The first field; older evidence is a bare picture, which begins otherwise.
const CONTEXT: &[u8] = b"tulga-evidence-v1";

/// Most captures of a decision: a face and ten fingers.
const CAPTURES_MAX: u64 = 11;

/// A decision's captures, and whom they were compared with.
#[derive(Clone)]
pub(super) struct KeptCaptures {
    /// In the order in which they came.
    pub captures: Vec<(Modality, Capture)>,
    /// None where it was nobody.
    pub compared_with: Option<ComparedWith>,
}

/// A person, and the captures of theirs that were compared: the version of the template.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct ComparedWith {
    pub customer: CustomerId,
    /// In the order in which the template was made of them.
    pub captures: Vec<TemplateCapture>,
}

/// Bytes that begin as evidence does and go on otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("kept captures do not parse")]
pub(super) struct InvalidKept;

impl KeptCaptures {
    /// The capture that is shown to whoever may look: the face, or else the first.
    pub fn shown(&self) -> Option<&Capture> {
        let face = self.captures.iter().find(|(modality, _)| *modality == Modality::Face);
        face.or(self.captures.first()).map(|(_, capture)| capture)
    }

    /// The bytes that are sealed, each field behind its length: the context, a salt, the customer (16 bytes, or
    /// none), the number of captures; six fields a capture (the characteristic, what it was declared as, the
    /// picture); then three for each capture of the template (the characteristic, its id, its hash).
    pub fn to_bytes(&self, salt: &[u8; 32]) -> Zeroizing<Vec<u8>> {
        let declared: Vec<_> = self.captures.iter().map(|(_, it)| numbers(&it.declared)).collect();
        let count = u64::try_from(self.captures.len()).unwrap_or(u64::MAX).to_be_bytes();
        let customer = self.compared_with.as_ref().map(|with| with.customer);
        let customer = customer.as_ref().map_or(&[][..], |id| id.as_bytes());
        let mut fields = vec![CONTEXT, salt, customer, &count];
        for ((modality, capture), (pixels_per_inch, raw_size)) in
            self.captures.iter().zip(&declared)
        {
            let Declared { media_type, finger_kind, .. } = capture.declared;
            fields.extend([
                modality.characteristic().as_bytes(),
                media_type.map_or("", MediaType::as_str).as_bytes(),
                finger_kind.map_or("", FingerImageKind::as_str).as_bytes(),
                pixels_per_inch,
                raw_size,
                &capture.image,
            ]);
        }
        for TemplateCapture { modality, id, hash } in
            self.compared_with.iter().flat_map(|with| &with.captures)
        {
            fields.extend([modality.characteristic().as_bytes(), id.as_bytes(), hash.as_bytes()]);
        }
        Zeroizing::new(length_prefixed(&fields))
    }

    /// Reads what [`Self::to_bytes`] wrote; none for the bare picture of an older version. The pictures stay
    /// where they are.
    pub fn parse(bytes: &Bytes) -> Result<Option<Self>, InvalidKept> {
        let mut fields = Fields(bytes);
        match fields.next() {
            Ok(CONTEXT) => Self::parse_fields(bytes, &mut fields).map(Some),
            _ => Ok(None),
        }
    }

    fn parse_fields(bytes: &Bytes, fields: &mut Fields<'_>) -> Result<Self, InvalidKept> {
        let _salt: [u8; 32] = fields.read(|field| field.try_into().ok())?;
        let customer = fields.read_optional(|field| CustomerId::try_from(field).ok())?;
        let count = fields.read(|field| Some(u64::from_be_bytes(field.try_into().ok()?)))?;
        if count > CAPTURES_MAX {
            return Err(InvalidKept);
        }
        let mut captures = Vec::new();
        for _ in 0..count {
            let modality = fields.read(modality)?;
            let declared = Declared {
                media_type: fields.read_optional(|field| MediaType::from_name(text(field)?))?,
                finger_kind: fields
                    .read_optional(|field| FingerImageKind::from_name(text(field)?))?,
                pixels_per_inch: fields
                    .read_optional(|field| Some(u16::from_be_bytes(field.try_into().ok()?)))?,
                raw_size: fields.read_optional(width_and_height)?,
            };
            captures.push((modality, Capture { image: bytes.slice_ref(fields.next()?), declared }));
        }
        let mut of_template = Vec::new();
        while !fields.0.is_empty() {
            of_template.push(TemplateCapture {
                modality: fields.read(modality)?,
                id: fields.read(|field| CaptureId::try_from(field).ok())?,
                hash: fields.read(|field| Digest::try_from(field).ok())?,
            });
        }
        let compared_with =
            customer.map(|customer| ComparedWith { customer, captures: of_template });
        Ok(Self { captures, compared_with })
    }
}

impl std::fmt::Debug for KeptCaptures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeptCaptures({:?})", self.captures)
    }
}

/// The rest of fields that each stand behind their length.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The next field; refused where there is none, and where it would reach beyond the end.
    fn next(&mut self) -> Result<&'a [u8], InvalidKept> {
        let (length, rest) = self.0.split_first_chunk::<8>().ok_or(InvalidKept)?;
        let length = usize::try_from(u64::from_be_bytes(*length)).map_err(|_| InvalidKept)?;
        let (field, rest) = rest.split_at_checked(length).ok_or(InvalidKept)?;
        self.0 = rest;
        Ok(field)
    }

    fn read<T>(&mut self, read: impl Fn(&'a [u8]) -> Option<T>) -> Result<T, InvalidKept> {
        read(self.next()?).ok_or(InvalidKept)
    }

    /// As [`Self::read`], where an empty field is none.
    fn read_optional<T>(
        &mut self,
        read: impl Fn(&'a [u8]) -> Option<T>,
    ) -> Result<Option<T>, InvalidKept> {
        match self.next()? {
            [] => Ok(None),
            field => read(field).map(Some).ok_or(InvalidKept),
        }
    }
}

/// The declared resolution and size as bytes; no bytes for what was not declared.
fn numbers(declared: &Declared) -> (Vec<u8>, Vec<u8>) {
    let Declared { media_type: _, finger_kind: _, pixels_per_inch, raw_size } = declared;
    let pixels_per_inch = pixels_per_inch.map(|it| it.to_be_bytes().to_vec());
    let raw_size = raw_size
        .map(|(width, height)| [width.to_be_bytes(), height.to_be_bytes()].as_flattened().to_vec());
    (pixels_per_inch.unwrap_or_default(), raw_size.unwrap_or_default())
}

fn text(field: &[u8]) -> Option<&str> {
    std::str::from_utf8(field).ok()
}

fn modality(field: &[u8]) -> Option<Modality> {
    Modality::from_characteristic(text(field)?)
}

fn width_and_height(field: &[u8]) -> Option<(u32, u32)> {
    let (width, height) = field.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*width), u32::from_be_bytes(height.try_into().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sha256;
    use crate::domain::finger::FingerPosition;

    const FINGER: Modality = Modality::Finger(FingerPosition::RightIndex);

    fn kept() -> KeptCaptures {
        let bare = Declared {
            media_type: None,
            finger_kind: Some(FingerImageKind::Raw),
            pixels_per_inch: Some(500),
            raw_size: Some((300, 400)),
        };
        let photograph = Declared { media_type: Some(MediaType::Jpeg), ..Declared::default() };
        let capture = |image: &'static [u8], declared| Capture { image: image.into(), declared };
        let of_template = |modality, id| TemplateCapture {
            modality,
            id: CaptureId::new([id; 16]),
            hash: sha256(&[id]),
        };
        KeptCaptures {
            captures: vec![
                (FINGER, capture(b"ridges", bare)),
                (Modality::Face, capture(b"face", photograph)),
            ],
            compared_with: Some(ComparedWith {
                customer: CustomerId::new([7; 16]),
                captures: vec![of_template(Modality::Face, 1), of_template(FINGER, 2)],
            }),
        }
    }

    #[test]
    fn what_was_kept_is_read_back() {
        let kept = kept();
        let bytes = Bytes::from_owner(kept.to_bytes(&[9; 32]));
        let read = KeptCaptures::parse(&bytes).unwrap().unwrap();
        assert!(read.captures == kept.captures && read.compared_with == kept.compared_with);
        assert_eq!(read.shown().unwrap().image.as_ref(), b"face");
        let fingers = KeptCaptures { captures: kept.captures[..1].to_vec(), compared_with: None };
        let bytes = Bytes::from_owner(fingers.to_bytes(&[9; 32]));
        let read = KeptCaptures::parse(&bytes).unwrap().unwrap();
        assert_eq!(read.shown().unwrap().image.as_ref(), b"ridges");
        assert!(read.compared_with.is_none());
        assert_ne!(sha256(&kept.to_bytes(&[9; 32])), sha256(&kept.to_bytes(&[8; 32])));
    }

    #[test]
    fn an_older_picture_is_told_from_a_broken_container() {
        for picture in [&b""[..], b"\xff\xd8\xff\xe0", &[128; 4000]] {
            assert!(KeptCaptures::parse(&Bytes::from_static(b"x")).unwrap().is_none());
            assert!(KeptCaptures::parse(&Bytes::copy_from_slice(picture)).unwrap().is_none());
        }
        let whole = kept().to_bytes(&[9; 32]);
        let context = 8 + CONTEXT.len();
        for end in context..whole.len() {
            let cut = Bytes::copy_from_slice(&whole[..end]);
            // At the end of a capture of the template what is left is a shorter list; the seal, not the
            // form, keeps it whole.
            let is_shorter = KeptCaptures::parse(&cut).is_ok_and(|read| {
                let with = read.unwrap().compared_with.unwrap();
                with.captures.len() < 2
            });
            assert!(is_shorter || KeptCaptures::parse(&cut).is_err(), "{end}");
        }
        let mut many = whole.to_vec();
        // The number of captures stands behind context, salt and customer.
        let count = context + 40 + 24 + 8;
        many[count..count + 8].copy_from_slice(&12u64.to_be_bytes());
        assert_eq!(KeptCaptures::parse(&many.into()).unwrap_err(), InvalidKept);
    }
}
