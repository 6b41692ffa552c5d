//! A model at the other end of a pipe, for `inference.py`, which measures it beside onnxruntime.
//!
//! It compiles one model for one instruction set, reads pictures from a file of little-endian f32,
//! and then answers lines of standard input: `time COUNT` with the milliseconds of so many runs on
//! the first picture, `answer NUMBER` with the outputs for that picture, one a line, `resize HEIGHT
//! WIDTH` with the milliseconds that another size takes to be made ready, `memory` with the most
//! memory that the process has had, in MiB, and `peak` with what the core can do at most, in billions
//! of operations a second.
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
#![allow(unsafe_code, reason = "instructions for a processor that was asked first")]
#![allow(clippy::cast_precision_loss, reason = "there are twelve chains")]

#[cfg(target_arch = "x86_64")]
use std::hint::black_box;
use std::io::{Write, stdin, stdout};
use std::time::Instant;

use tulga::domain::embedding::ModelId;
use tulga::inference::{InputShape, Isa, Model};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [model, shape, isa, pictures] = words.as_slice() else {
        eprintln!("MODEL SHAPE ISA PICTURES expected: benches/side_by_side/inference.py runs this");
        return;
    };
    let shape: Vec<usize> = shape.split('x').map(|side| side.parse().unwrap()).collect();
    let shape: [usize; 3] = shape.try_into().unwrap();
    let bytes = std::fs::read(model).unwrap();
    let isa = Isa::forced(isa).unwrap();
    let begun = Instant::now();
    let [planes, height_px, width_px] = shape;
    let input = InputShape { planes, height_px, width_px };
    let id = ModelId::new([0; 32]);
    let model = if planes == 1 {
        // Compiled small, since the comparison with the plain operators takes memory of its own.
        let small = InputShape { planes, height_px: 64, width_px: 64 };
        let small = Model::compile_sized(id, &bytes, small, isa).unwrap();
        small.resized(height_px, width_px).unwrap()
    } else {
        Model::compile_sized(id, &bytes, input, isa).unwrap()
    };
    let loading_ms = begun.elapsed().as_secs_f64() * 1e3;
    assert_eq!(model.isa(), isa, "the fast kernels were refused");
    let numbers: Vec<f32> = std::fs::read(pictures)
        .unwrap()
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    let pictures: Vec<&[f32]> = numbers.chunks_exact(shape.iter().product()).collect();
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
            Some(("resize", size)) => {
                let (height, width) = size.split_once(' ').unwrap();
                let begun = Instant::now();
                model.resized(height.parse().unwrap(), width.parse().unwrap()).unwrap();
                say(&format!("{:.4}", begun.elapsed().as_secs_f64() * 1e3));
            }
            Some(("peak", "")) => say(&format!("{:.1}", peak(isa))),
            Some(("memory", "")) => say(&format!("{:.1}", memory_mib())),
            _ => panic!("no such question"),
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

/// What the core can do at most, in billions of operations a second: products with sums, in registers and
/// nothing else, the best of some turns; with vectors, not with tiles. Nothing without vectors.
#[cfg(target_arch = "x86_64")]
fn peak(isa: Isa) -> f64 {
    let turns = (0..TURNS).map(|_| match isa {
        // SAFETY: the model would not have been compiled where the instructions are missing.
        Isa::Avx512 | Isa::Amx => unsafe { products_avx512() },
        // SAFETY: as above.
        Isa::Avx2 => unsafe { products_avx2() },
        Isa::Plain => f64::NAN,
    });
    turns.fold(f64::NAN, f64::max)
}

#[cfg(not(target_arch = "x86_64"))]
fn peak(_: Isa) -> f64 {
    f64::NAN
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn products_avx512() -> f64 {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps};
    let [factor, term] = black_box([0.999, 0.001]).map(|number| _mm512_set1_ps(number));
    let mut sums = [term; CHAINS];
    let begun = Instant::now();
    for _ in 0..PRODUCTS {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(*sum, factor, term);
        }
    }
    for sum in sums {
        assert!(black_box(_mm512_reduce_add_ps(sum)).is_finite());
    }
    billions(16, begun)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn products_avx2() -> f64 {
    use std::arch::x86_64::{_mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps};
    let [factor, term] = black_box([0.999, 0.001]).map(|number| _mm256_set1_ps(number));
    let mut sums = [term; CHAINS];
    let begun = Instant::now();
    for _ in 0..PRODUCTS {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(*sum, factor, term);
        }
    }
    for sum in sums {
        assert!(black_box(_mm256_cvtss_f32(sum)).is_finite());
    }
    billions(8, begun)
}

/// Operations of so many lanes in all chains, since then.
#[cfg(target_arch = "x86_64")]
fn billions(lanes: u32, begun: Instant) -> f64 {
    let operations = 2.0 * f64::from(lanes) * f64::from(PRODUCTS) * CHAINS as f64;
    operations / begun.elapsed().as_secs_f64() / 1e9
}

/// Sums at once: more than a processor has under way.
#[cfg(target_arch = "x86_64")]
const CHAINS: usize = 12;
#[cfg(target_arch = "x86_64")]
const PRODUCTS: u32 = 2_000_000;
#[cfg(target_arch = "x86_64")]
const TURNS: usize = 20;

/// The peak of resident memory, from what the kernel tells of this process.
fn memory_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

fn words_of(numbers: &[f32]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn say(line: &str) {
    println!("{line}");
    stdout().flush().unwrap();
}
