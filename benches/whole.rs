//! What a verification is made of: processor time by its parts, and allocations. `cargo bench --bench whole`.
//!
//! The parts are measured turn by turn in one process, by its processor time on all threads: decoding, the
//! models with whatever prepares pictures for them, and the whole decision with its durable receipt, within the
//! process and over mutual TLS (there the client's part too). A picture in JPEG may be named behind `--`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench that fails may panic"
)]

#[path = "../tests/it/site.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod site;
#[path = "support/verifications.rs"]
mod verifications;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use tulga::capture::{DecodeLimits, EncodedImage, decode};
use tulga::face::{Acquisition, FacePipeline};
use tulga::gateway::Gateway;

use site::Site;
use verifications::{CARD, photograph, root, verify_in_process, verify_many};

/// Counts only while a profiler lives; before, it is the system's behind a lock.
#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Turns of each part that are counted, and those before them that are not.
const TURNS: usize = 150;
const WARM_UP: usize = 10;

/// Verifications whose allocations are counted.
const COUNTED: u64 = 20;

/// Everything that a verification needs.
struct Bench {
    runtime: Runtime,
    pipeline: FacePipeline,
    gateway: Arc<Gateway>,
    channel: Channel,
    picture: Bytes,
    next: Arc<AtomicU64>,
}

#[derive(Clone, Copy)]
enum Part {
    Decoding,
    Models,
    InProcess,
    OverTls,
}

impl Part {
    const ALL: [Self; 4] = [Self::Decoding, Self::Models, Self::InProcess, Self::OverTls];

    const fn name(self) -> &'static str {
        match self {
            Self::Decoding => "decoding the picture",
            Self::Models => "models, and what prepares pictures for them",
            Self::InProcess => "a verification, within the process",
            Self::OverTls => "a verification, over mutual TLS, its client too",
        }
    }

    /// Does it, as often as is said; the processor time of it.
    fn run(self, bench: &Bench, times: u64) -> Duration {
        let picture = EncodedImage::new(bench.picture.clone());
        let limits = DecodeLimits::default();
        let decoded = decode(&picture, &limits).unwrap();
        let begun = processor_time();
        match self {
            Self::Decoding => {
                for _ in 0..times {
                    black_box(decode(&picture, &limits).unwrap());
                }
            }
            Self::Models => {
                for _ in 0..times {
                    let acquired = bench.pipeline.probe(&decoded).unwrap();
                    assert!(matches!(acquired, Acquisition::Usable(_)));
                }
            }
            Self::InProcess => {
                for _ in 0..times {
                    let id = format!("P{}", bench.next.fetch_add(1, Ordering::SeqCst));
                    let verified = verify_in_process(&bench.gateway, &id, &bench.picture);
                    bench.runtime.block_on(verified);
                }
            }
            Self::OverTls => {
                let channels = std::slice::from_ref(&bench.channel);
                let verified = verify_many(channels, times, &bench.picture, &bench.next);
                bench.runtime.block_on(verified);
            }
        }
        processor_time().checked_sub(begun).unwrap()
    }
}

/// What all threads of the process have had of the processor.
fn processor_time() -> Duration {
    clock_gettime(ClockId::ProcessCPUTime).try_into().unwrap()
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1_000.0
}

fn main() {
    let named = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let picture = match named {
        Some(path) => std::fs::read(path).unwrap().into(),
        None => photograph("obama2.jpg"),
    };
    let runtime = Runtime::new().unwrap();
    let (site, channel) = runtime.block_on(async {
        let site = Site::start().await;
        site.enroll("000000300017", CARD, &["obama.jpg", "obama3.jpg"]).await;
        let channel = site.terminal("ATM-1").await;
        (site, channel)
    });
    let bench = Bench {
        runtime,
        pipeline: FacePipeline::load(&root().join("models")).unwrap(),
        gateway: site.gateway.upgrade().unwrap(),
        channel,
        picture,
        next: Arc::new(AtomicU64::new(0)),
    };

    let mut times = Part::ALL.map(|_| Vec::new());
    for turn in 0..TURNS + WARM_UP {
        for (part, times) in Part::ALL.into_iter().zip(&mut times) {
            let time = part.run(&bench, 1);
            if turn >= WARM_UP {
                times.push(time);
            }
        }
    }
    let medians = times.map(median);
    let allocations = {
        let _counting = dhat::Profiler::builder().testing().build();
        Part::ALL.map(|part| {
            let before = dhat::HeapStats::get();
            part.run(&bench, COUNTED);
            let after = dhat::HeapStats::get();
            let per = |before: u64, after: u64| (after - before) as f64 / COUNTED as f64;
            let blocks = per(before.total_blocks, after.total_blocks);
            (blocks, per(before.total_bytes, after.total_bytes) / 1024.0 / 1024.0)
        })
    };
    println!("{:<48} {:>10} {:>12} {:>8}", "", "processor", "allocations", "of");
    for ((part, time), (blocks, mib)) in Part::ALL.into_iter().zip(medians).zip(allocations) {
        println!("{:<48} {time:>7.2} ms {blocks:>12.0} {mib:>4.1} MiB", part.name());
    }
    let [decoding, models, in_process, over_tls] = medians;
    println!();
    for (what, time) in [
        ("decoding", decoding),
        ("everything else within the process", in_process - decoding - models),
        ("connection, protocol and client", over_tls - in_process),
    ] {
        println!("{what:<36} {:>5.1} % of a verification over TLS", time / over_tls * 100.0);
    }
    let Bench { runtime, channel, gateway, .. } = bench;
    drop((channel, gateway));
    runtime.block_on(site.finish());
}
