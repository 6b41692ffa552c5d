//! Compiles `proto/` in pure Rust: no `protoc` is needed.

#![cfg_attr(
    not(feature = "gateway"),
    expect(unused, reason = "a verifier alone has no wire types to compile")
)]

use std::{env, error::Error, fs, path::PathBuf};

#[cfg(feature = "gateway")]
use protox::prost::Message;

const ROOT: &str = "proto";

const FILES: [&str; 18] = [
    "tulga/v1/audit.proto",
    "tulga/v1/case.proto",
    "tulga/v1/common.proto",
    "tulga/v1/confirmation.proto",
    "tulga/v1/enrollment.proto",
    "tulga/v1/footage.proto",
    "tulga/v1/key.proto",
    "tulga/v1/policy.proto",
    "tulga/v1/principal.proto",
    "tulga/v1/proposal.proto",
    "tulga/v1/receipt.proto",
    "tulga/v1/register.proto",
    "tulga/v1/report.proto",
    "tulga/v1/reference.proto",
    "tulga/v1/sensor.proto",
    "tulga/v1/teller.proto",
    "tulga/v1/terminal.proto",
    "tulga/v1/verification.proto",
];

/// What the gateway calls and does not serve: not among the descriptors for reflection.
const CALLED: &str = "tulga/v1/reference.proto";

/// Pictures stay views into the message that they came in.
const VIEWS: [&str; 7] = [
    ".tulga.v1.AddCaptureRequest.image",
    ".tulga.v1.BulkImportRequest.images",
    ".tulga.v1.Capture.image",
    ".tulga.v1.GetPortraitResponse.portrait",
    ".tulga.v1.ImportFinger.image",
    ".tulga.v1.ImportTemplateRequest.record",
    ".tulga.v1.SealedImage.sealed",
];

/// Messages that hold what must never be printed; `src/proto.rs` gives them a blind `Debug`.
const BLIND: [&str; 29] = [
    ".tulga.v1.AddCaptureRequest",
    ".tulga.v1.ApproveExceptionRequest",
    ".tulga.v1.ApproveUnableRequest",
    ".tulga.v1.BindAppKeyRequest",
    ".tulga.v1.BindTokenRequest",
    ".tulga.v1.BulkImportRequest",
    ".tulga.v1.Capture",
    ".tulga.v1.Consent",
    ".tulga.v1.CreateCustomerRequest",
    ".tulga.v1.CustomerReference",
    ".tulga.v1.ExportTemplateResponse",
    ".tulga.v1.FootageDuty",
    ".tulga.v1.GetAuditRecordResponse",
    ".tulga.v1.GetEvidenceResponse",
    ".tulga.v1.GetPortraitRequest",
    ".tulga.v1.GetPortraitResponse",
    ".tulga.v1.GetPortraitResponse.answer",
    ".tulga.v1.ImportFinger",
    ".tulga.v1.ImportTemplateRequest",
    ".tulga.v1.ImportToken",
    ".tulga.v1.PendingConfirmation",
    ".tulga.v1.ProposeExceptionRequest",
    ".tulga.v1.ProposeUnableRequest",
    ".tulga.v1.RedeemRequest",
    ".tulga.v1.RegisterRow",
    ".tulga.v1.RegisterRows",
    ".tulga.v1.Salts",
    ".tulga.v1.Transaction",
    ".tulga.v1.UnbindTokenRequest",
];

#[cfg(not(feature = "gateway"))]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}

#[cfg(feature = "gateway")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={ROOT}");
    let descriptors = protox::compile(FILES, [ROOT])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo did not set OUT_DIR")?);
    let mut served = descriptors.clone();
    served.file.retain(|file| file.name() != CALLED);
    fs::write(out.join("tulga.v1.bin"), served.encode_to_vec())?;
    let mut builder = tonic_prost_build::configure().skip_debug(BLIND);
    for path in VIEWS {
        builder = builder.bytes(path);
    }
    builder.compile_fds(descriptors)?;
    Ok(())
}
