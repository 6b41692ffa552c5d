//! By what a repeated call is known to be the same call.

use super::envelope::Envelope;
use super::footage::footage_bytes;
use super::request::{Declared, Picture, SealedPicture, SentCapture, Verify};
use crate::capture::{FingerImageKind, MediaType};
use crate::crypto::{Digest, length_prefixed, sha256};
use crate::domain::id::SensorId;

/// The hash of everything that a call of `Verify` says.
pub(super) fn request_hash(request: &Verify) -> Digest {
    let Verify { challenge, host_id, business_date, attempt, captures, footage, envelopes } =
        request;
    let footage = footage.as_ref().map(footage_bytes);
    let captures: Vec<_> = captures.iter().map(capture_bytes).collect();
    let captures: Vec<_> = captures.iter().map(Vec::as_slice).collect();
    let (attempt, captures) = (attempt.get().to_be_bytes(), length_prefixed(&captures));
    let envelopes: Vec<_> = envelopes.iter().map(envelope_bytes).collect();
    let mut fields: Vec<&[u8]> = vec![
        b"tulga-verify-v2",
        challenge.as_bytes(),
        host_id.as_str().as_bytes(),
        business_date.as_str().as_bytes(),
        &attempt,
        &captures,
        footage.as_deref().unwrap_or_default(),
    ];
    // Without any the hash is what it was before there were envelopes.
    fields.extend(envelopes.iter().map(Vec::as_slice));
    sha256(&length_prefixed(&fields))
}

fn envelope_bytes(envelope: &Envelope) -> Vec<u8> {
    let Envelope { sensor, key_id, counter, captured_at, verdict, signature } = envelope;
    length_prefixed(&[
        sensor.as_str().as_bytes(),
        key_id.as_str().as_bytes(),
        &counter.to_be_bytes(),
        &captured_at.get().to_be_bytes(),
        verdict.as_str().as_bytes(),
        signature,
    ])
}

fn capture_bytes(capture: &SentCapture) -> Vec<u8> {
    let SentCapture { picture, declared } = capture;
    let Declared { media_type, finger_kind, pixels_per_inch, raw_size } = declared;
    let bytes = |number: Option<u32>| number.map_or_else(Vec::new, |it| it.to_be_bytes().to_vec());
    let (width, height) = raw_size.unzip();
    let numbers = [pixels_per_inch.map(u32::from), width, height].map(bytes);
    let [pixels_per_inch, width, height] = &numbers;
    let mut fields = vec![
        media_type.map_or("", MediaType::as_str).as_bytes(),
        finger_kind.map_or("", FingerImageKind::as_str).as_bytes(),
        pixels_per_inch,
        width,
        height,
    ];
    let hash = match picture {
        Picture::Open(image) => sha256(image),
        // What was sent is told apart by its bytes: nothing is opened to know a call again.
        Picture::Sealed(SealedPicture { key_id, sensor, sealed }) => {
            let sensor = sensor.as_ref().map_or("", SensorId::as_str);
            fields.extend([b"sealed", key_id.as_str().as_bytes(), sensor.as_bytes()]);
            sha256(sealed)
        }
    };
    fields.push(hash.as_bytes());
    length_prefixed(&fields)
}
