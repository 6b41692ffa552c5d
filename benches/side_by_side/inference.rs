//! A model at the other end of a pipe, for `inference.py`, which measures it beside onnxruntime.
//!
//! It compiles one model for one instruction set, reads pictures from a file of little-endian f32,
//! and then answers lines of standard input: `time COUNT` with the milliseconds of so many runs on
//! the first picture, `answer NUMBER` with the outputs for that picture, one a line.
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench that fails may panic"
)]

use std::io::{Write, stdin, stdout};
use std::time::Instant;

use tulga::domain::embedding::ModelId;
use tulga::inference::{Isa, Model};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [model, side_px, isa, pictures] = words.as_slice() else {
        eprintln!("MODEL SIDE ISA PICTURES expected: benches/side_by_side/inference.py runs this");
        return;
    };
    let side_px: usize = side_px.parse().unwrap();
    let bytes = std::fs::read(model).unwrap();
    let isa = Isa::forced(isa).unwrap();
    let begun = Instant::now();
    let model = Model::compile_for(ModelId::new([0; 32]), &bytes, side_px, isa).unwrap();
    let loading_ms = begun.elapsed().as_secs_f64() * 1e3;
    assert_eq!(model.isa(), isa, "the fast kernels were refused");
    let numbers: Vec<f32> = std::fs::read(pictures)
        .unwrap()
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    let pictures: Vec<&[f32]> = numbers.chunks_exact(3 * side_px * side_px).collect();
    say(&format!("ready {loading_ms:.0}"));
    for line in stdin().lines() {
        match line.unwrap().split_once(' ') {
            Some(("time", count)) => {
                let times = (0..count.parse().unwrap()).map(|_| milliseconds(&model, pictures[0]));
                say(&times.collect::<Vec<_>>().join(" "));
            }
            Some(("answer", number)) => {
                for output in model.run(pictures[number.parse::<usize>().unwrap()]).unwrap() {
                    say(&words_of(&output.values));
                }
            }
            _ => panic!("neither time nor answer"),
        }
    }
}

fn milliseconds(model: &Model, picture: &[f32]) -> String {
    let begun = Instant::now();
    let outputs = model.run(picture).unwrap();
    let elapsed = begun.elapsed().as_secs_f64() * 1e3;
    assert!(!outputs.is_empty());
    format!("{elapsed:.4}")
}

fn words_of(numbers: &[f32]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn say(line: &str) {
    println!("{line}");
    stdout().flush().unwrap();
}
