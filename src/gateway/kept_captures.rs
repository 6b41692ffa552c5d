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
        if fields.next() != Some(CONTEXT) {
            return Ok(None);
        }
        Self::parse_fields(bytes, &mut fields).map(Some).ok_or(InvalidKept)
    }

    fn parse_fields(bytes: &Bytes, fields: &mut Fields<'_>) -> Option<Self> {
        let _salt: &[u8; 32] = fields.next()?.try_into().ok()?;
        let customer = match fields.next()? {
            [] => None,
            id => Some(CustomerId::try_from(id).ok()?),
        };
        let count = u64::from_be_bytes(fields.next()?.try_into().ok()?);
        if count > CAPTURES_MAX {
            return None;
        }
        let mut captures = Vec::new();
        for _ in 0..count {
            let modality = modality(fields.next()?)?;
            let declared = Declared {
                media_type: named(fields.next()?, MediaType::from_name)?,
                finger_kind: named(fields.next()?, FingerImageKind::from_name)?,
                pixels_per_inch: number(fields.next()?)?,
                raw_size: pair(fields.next()?)?,
            };
            captures.push((modality, Capture { image: bytes.slice_ref(fields.next()?), declared }));
        }
        let mut of_template = Vec::new();
        while !fields.0.is_empty() {
            let modality = modality(fields.next()?)?;
            let id = CaptureId::try_from(fields.next()?).ok()?;
            let hash = Digest::try_from(fields.next()?).ok()?;
            of_template.push(TemplateCapture { modality, id, hash });
        }
        let compared_with =
            customer.map(|customer| ComparedWith { customer, captures: of_template });
        Some(Self { captures, compared_with })
    }
}

impl std::fmt::Debug for KeptCaptures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeptCaptures({:?})", self.captures)
    }
}

/// The rest of fields that each stand behind their length.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = &'a [u8];

    /// None at the end, and for a length beyond it.
    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_be_bytes(*length)).ok()?;
        let (field, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(field)
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

fn modality(field: &[u8]) -> Option<Modality> {
    Modality::from_characteristic(std::str::from_utf8(field).ok()?)
}

/// What a name stands for; the outer none for a name of nothing.
fn named<T>(field: &[u8], read: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    match field {
        [] => Some(None),
        name => read(std::str::from_utf8(name).ok()?).map(Some),
    }
}

fn number(field: &[u8]) -> Option<Option<u16>> {
    match field {
        [] => Some(None),
        bytes => Some(Some(u16::from_be_bytes(bytes.try_into().ok()?))),
    }
}

fn pair(field: &[u8]) -> Option<Option<(u32, u32)>> {
    if field.is_empty() {
        return Some(None);
    }
    let (width, height) = field.split_first_chunk::<4>()?;
    let height = height.try_into().ok()?;
    Some(Some((u32::from_be_bytes(*width), u32::from_be_bytes(height))))
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
