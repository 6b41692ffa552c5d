//! One function a target. Each takes any bytes, returns whether they were sound, and panics where what is
//! sound is not what it must be.

#[cfg(feature = "gateway")]
use tulga::capture::{
    DecodeLimits, EncodedImage, FingerImageDeclaration, FingerImageKind, decode, decode_finger,
};
#[cfg(feature = "gateway")]
use tulga::grpc::wire;
#[cfg(feature = "gateway")]
use tulga::interchange::{Maker, MinutiaeRecord};
use tulga::ledger::{
    Checkpoint, LogKey, LogOfLogs, SignedNote, Submission, TlogProof, WitnessKey, WitnessPolicy,
    split_checkpoints,
};
use tulga::receipt::{KeyRegister, parse};

/// A function that bears any bytes.
pub type Target = fn(&[u8]) -> bool;

/// All of them, by the names of their folders in `corpus/`.
pub const TARGETS: &[(&str, Target)] = &[
    #[cfg(feature = "gateway")]
    ("decode_capture", decode_capture),
    #[cfg(feature = "gateway")]
    ("parse_envelope", parse_envelope),
    ("parse_note", parse_note),
    ("parse_proof", parse_proof),
    ("parse_receipt", parse_receipt),
    #[cfg(feature = "gateway")]
    ("parse_template", parse_template),
    #[cfg(feature = "gateway")]
    ("verify_request", verify_request),
    #[cfg(feature = "gateway")]
    ("wsq", wsq),
];

/// Small pictures only: a fuzzer looks for faults, not for large pictures.
#[cfg(feature = "gateway")]
const PIXELS_MAX: u64 = 1 << 20;

/// A picture of a face, or of a finger in whatever kind the first bytes tell.
#[cfg(feature = "gateway")]
pub fn decode_capture(bytes: &[u8]) -> bool {
    let limits = DecodeLimits { pixels_max: PIXELS_MAX, ..DecodeLimits::default() };
    let face = decode(&EncodedImage::new(bytes.to_vec()), &limits);
    if let Ok(image) = &face {
        let pixels = u64::from(image.width()) * u64::from(image.height());
        assert!(pixels <= PIXELS_MAX && image.rgb().len() as u64 == 3 * pixels);
    }
    let declared = FingerImageDeclaration { pixels_per_inch: Some(500), ..Default::default() };
    is_finger(bytes, declared) || face.is_ok()
}

/// A file of WSQ.
#[cfg(feature = "gateway")]
pub fn wsq(bytes: &[u8]) -> bool {
    let kind = Some(FingerImageKind::Wsq);
    is_finger(bytes, FingerImageDeclaration { kind, pixels_per_inch: Some(500), size_px: None })
}

#[cfg(feature = "gateway")]
fn is_finger(bytes: &[u8], declared: FingerImageDeclaration) -> bool {
    let limits = DecodeLimits { pixels_max: PIXELS_MAX, ..DecodeLimits::for_fingers() };
    let Ok(image) = decode_finger(bytes, &declared, &limits) else { return false };
    let pixels = u64::from(image.width()) * u64::from(image.height());
    assert!(pixels <= PIXELS_MAX && image.pixels().len() as u64 == pixels);
    true
}

/// The message of a capture, from the wire to what the gateway works on.
#[cfg(feature = "gateway")]
pub fn verify_request(bytes: &[u8]) -> bool {
    wire::verify(bytes)
}

/// What stands around a capture: the message that opens one, and the others of a terminal and of the host;
/// the first byte says which.
#[cfg(feature = "gateway")]
pub fn parse_envelope(bytes: &[u8]) -> bool {
    let Some((which, message)) = bytes.split_first() else { return false };
    wire::other(*which, message)
}

/// A receipt and what it claims; no register of ours signed what a fuzzer makes up.
pub fn parse_receipt(bytes: &[u8]) -> bool {
    let register = KeyRegister::parse(bytes);
    if let Ok(register) = &register {
        let json = register.to_json().expect("what was read can be written");
        let again = KeyRegister::parse(json.as_bytes()).expect("what was written can be read");
        assert!(again.keys() == register.keys());
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match parse(text) {
        Ok(receipt) => {
            assert!(!receipt.kid().is_empty());
            let body = receipt.unverified_body();
            assert!(body.log.prior_size <= body.log.index);
            true
        }
        Err(_) => register.is_ok(),
    }
}

/// A proof that a receipt is in the ledger.
pub fn parse_proof(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(proof) = TlogProof::parse(text) else { return false };
    let again = TlogProof::parse(&proof.to_text()).expect("what was written can be read");
    assert!(again == proof);
    if let Ok(checkpoint) = Checkpoint::peek(proof.checkpoint()) {
        // Of what was made up, no hash leads to the root.
        assert!(proof.verify_path("made.up.receipt", &checkpoint).is_err());
    }
    true
}

/// A signed note: a checkpoint, one with cosignatures, a witness's submission, a policy, or a log of logs.
pub fn parse_note(bytes: &[u8]) -> bool {
    let submission = Submission::parse(bytes);
    if let Ok(submission) = &submission {
        let text = submission.to_text();
        let again = Submission::parse(text.as_bytes()).expect("what was written can be read");
        assert!(again == *submission);
    }
    let is_policy = WitnessPolicy::parse(bytes).is_ok();
    let Ok(text) = std::str::from_utf8(bytes) else { return submission.is_ok() || is_policy };
    let checkpoints = split_checkpoints(text);
    assert!(checkpoints.iter().map(|note| note.len()).sum::<usize>() <= text.len());
    if let Ok(checkpoint) = Checkpoint::from_text(text) {
        assert!(checkpoint.text() == text);
    }
    let is_key = WitnessKey::parse(text).is_ok() || LogKey::parse(text).is_ok();
    let is_note = SignedNote::parse(text).is_ok() || LogOfLogs::peek(text).is_ok();
    submission.is_ok() || is_policy || is_key || is_note || Checkpoint::peek(text).is_ok()
}

/// A finger template as other systems write them.
#[cfg(feature = "gateway")]
pub fn parse_template(bytes: &[u8]) -> bool {
    let Ok(record) = MinutiaeRecord::parse(bytes) else { return false };
    let again = MinutiaeRecord::parse(&record.to_bytes()).expect("what was written can be read");
    assert!(again == record);
    let maker = Maker::new("maker").expect("a sound name");
    if let Ok(views) = record.finger_views(&maker) {
        assert!(views.len() == record.views().len());
    }
    true
}
