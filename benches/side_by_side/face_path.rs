//! The whole face path at the other end of a pipe, for `face_path.py`, which measures it beside `OpenCV`.
//!
//! For each line of standard input, a picture's file, it answers with the microseconds from the file's
//! bytes to the fused embedding, and those of decoding alone; `-` where the picture was refused.
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench that fails may panic"
)]

use std::fs;
use std::io::{Write as _, stdin, stdout};
use std::path::Path;
use std::time::Instant;

use tulga::capture::{DecodeLimits, EncodedImage, decode};
use tulga::face::{Acquisition, FacePipeline};

fn main() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let pipeline = FacePipeline::load(&models).unwrap();
    println!("ready");
    for line in stdin().lines() {
        let bytes = fs::read(line.unwrap()).unwrap();
        let begun = Instant::now();
        let picture = decode(&EncodedImage::new(bytes), &DecodeLimits::default()).unwrap();
        let decoded = begun.elapsed();
        let acquired = pipeline.probe(&picture).unwrap();
        let whole = begun.elapsed();
        match acquired {
            Acquisition::Usable(_) => println!("{} {}", whole.as_micros(), decoded.as_micros()),
            Acquisition::Refused(_) => println!("-"),
        }
        stdout().flush().unwrap();
    }
}
