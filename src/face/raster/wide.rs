//! Code of pixels, compiled once more for processors with AVX2.
//!
//! The program runs on any x86-64, whose registers hold four numbers. Registers of eight save much of the
//! time over long runs of pixels (docs/performance.md, "Pixels"). Both ways compute the same, bit by bit:
//! nothing is contracted or reordered. Where the processor has no AVX2 both are one, and tests of that
//! find nothing.
//!
//! Numbers that a library left in the upper parts of the wide registers, as the decoder of JPEGs does, slow
//! down code that is compiled without AVX, and not this.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "the call into code for a processor that was asked first")
)]

/// Work that gains by wide registers.
pub(super) trait Wide {
    /// What comes of it.
    type Output;
    /// Does it. Implementations, and what they call for each pixel, are inlined, or they miss the wide
    /// registers.
    fn run(self) -> Self::Output;
}

/// Does work with the widest registers there are.
pub(super) fn run<W: Wide>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor was asked.
        return unsafe { with_avx2(work) };
    }
    work.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2<W: Wide>(work: W) -> W::Output {
    work.run()
}
