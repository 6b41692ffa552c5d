//! Tiles of AMX: products of whole blocks of numbers that are given in pieces of 16 bits.
//!
//! The processor multiplies numbers of 8 significant bits (bf16) sixteen times as fast as those of 24 (f32), and
//! adds the products up in f32. So each number is cut into two **pieces**, the nearest bf16 and the nearest bf16 of
//! what is left, which together keep 17 bits; and of the four products of pieces three are made. The fourth is no more
//! than what cutting may lose: a product is off by less than 2⁻¹⁵ of itself, and a sum by far less than that share of
//! its products' sizes, since what is lost has either sign. (Henry, Tang and Heinecke, "Leveraging the bfloat16
//! Artificial Intelligence Datatype For Higher-Precision Computations", 2019.)
//!
//! Tiles know fewer numbers than vectors: what is nearer to zero than 2⁻¹²⁶ counts as zero, and a product with an
//! infinite number, or one that is rounded to it (over 3.39e38), is no number.
//!
//! Beside [`super::simd`] the only file of this room with `unsafe`. A value of [`Amx`] is proof that the processor
//! has the tiles and that the system lets this process use them: it comes from [`Amx::granted`] and nowhere else.
#![expect(
    unsafe_code,
    reason = "instructions on tiles, for a processor and a system that were asked first"
)]

use std::arch::asm;
use std::arch::x86_64::{
    __cpuid_count, __m256bh, __m256i, __m512, _mm256_storeu_si256, _mm512_castsi512_ps,
    _mm512_cvtepu16_epi32, _mm512_cvtneps_pbh, _mm512_slli_epi32, _mm512_sub_ps,
};
use std::cell::Cell;
use std::marker::PhantomData;
use std::mem;
use std::sync::LazyLock;

use zeroize::Zeroize;

use super::simd::{Avx512, Simd};

/// Rows of a tile, and sums a row.
pub(super) const SIDE: usize = 16;
/// Numbers of a row, or of a column, that one block multiplies.
pub(super) const DEPTH: usize = 32;

/// Sixteen rows of [`DEPTH`] numbers, or as many columns, in pieces. A row lies in a run; of columns, one behind the
/// other, there lie two numbers each at a time.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Block {
    pub(super) high: [[u16; DEPTH]; SIDE],
    pub(super) low: [[u16; DEPTH]; SIDE],
}

impl Default for Block {
    fn default() -> Self {
        Self { high: [[0; DEPTH]; SIDE], low: [[0; DEPTH]; SIDE] }
    }
}

impl Zeroize for Block {
    fn zeroize(&mut self) {
        self.high.zeroize();
        self.low.zeroize();
    }
}

/// Sums of two times sixteen rows by two times sixteen columns: for each sixteen rows those of each sixteen columns.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub(super) struct Sums(pub(super) [[[[f32; SIDE]; SIDE]; 2]; 2]);

impl Zeroize for Sums {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

/// Work that is done with tiles.
pub(super) trait TileKernel {
    /// Does it. Implementations carry `#[inline(always)]`, or they miss the wide registers.
    fn run<T: Tiles>(self, tiles: T);
}

/// One kind of tiles.
pub(super) trait Tiles: Copy {
    /// What else is computed with: sixteen numbers a register.
    type Simd: Simd;
    /// Its vectors.
    fn simd(self) -> Self::Simd;
    /// Cuts numbers into their high and low pieces.
    fn cut(self, numbers: <Self::Simd as Simd>::V, high: &mut [u16; SIDE], low: &mut [u16; SIDE]);
    /// Two times sixteen rows by two times sixteen columns: the sums of as many blocks as each of the four has, zeros
    /// where one has none.
    fn multiply(self, rows: [&[Block]; 2], columns: [&[Block]; 2], sums: &mut Sums);
}

/// Proof of AMX with bf16 and of AVX-512 with bf16.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amx(Avx512);

impl Amx {
    /// Asks the processor, and the system to let this process use tiles: they are 8 KiB more that it keeps for
    /// each thread that does.
    pub(super) fn granted(simd: Avx512) -> Option<Self> {
        has_tiles().then_some(Self(simd))
    }

    /// The vectors beside it.
    pub(super) const fn simd(self) -> Avx512 {
        self.0
    }
}

/// Whether the processor has tiles of bf16, and the system grants them. It is asked once: a virtual machine leaves
/// for its host at `cpuid`.
pub(in crate::inference) fn has_tiles() -> bool {
    static THERE: LazyLock<bool> = LazyLock::new(|| {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bf16")
            && processor_has_tiles()
            && system_grants_tiles()
    });
    *THERE
}

fn processor_has_tiles() -> bool {
    // Leaf 7, EDX: bit 22 is AMX-BF16, bit 24 AMX-TILE (Intel 64 Software Developer's Manual, CPUID).
    const BOTH: u32 = 1 << 22 | 1 << 24;
    __cpuid_count(7, 0).edx & BOTH == BOTH
}

/// Linux hands tiles out on request only, for the whole process and whatever threads it starts.
#[cfg(target_os = "linux")]
fn system_grants_tiles() -> bool {
    // asm/prctl.h: ARCH_REQ_XCOMP_PERM, and the tiles' data as a component of the processor's state.
    const REQUEST: libc::c_ulong = 0x1023;
    const TILE_DATA: libc::c_ulong = 18;
    // SAFETY: the call reads and writes no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST, TILE_DATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn system_grants_tiles() -> bool {
    false
}

/// Runs a kernel with tiles.
pub(super) fn dispatch(amx: Amx, kernel: impl TileKernel) {
    // SAFETY: an `Amx` is made in `Amx::granted` only, where processor and system were asked.
    unsafe { with_tiles(Configured::new(amx), kernel) }
}

#[target_feature(enable = "avx512f,avx512bf16,avx2,fma")]
fn with_tiles(tiles: Configured, kernel: impl TileKernel) {
    kernel.run(&tiles);
}

/// All eight tiles of this thread as wide and high as they can be; released when the outermost is dropped. It cannot
/// leave its thread.
struct Configured {
    amx: Amx,
    is_outermost: bool,
    _stays: PhantomData<*const ()>,
}

thread_local! {
    static IS_CONFIGURED: Cell<bool> = const { Cell::new(false) };
}

/// What `ldtilecfg` reads (Intel 64 Software Developer's Manual).
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    _reserved: [u8; 14],
    row_bytes: [u16; 8],
    _of_no_tile: [u16; 8],
    rows: [u8; 8],
    _of_none: [u8; 8],
}

static CONFIGURATION: Configuration = Configuration {
    palette: 1,
    start_row: 0,
    _reserved: [0; 14],
    row_bytes: [64; 8],
    _of_no_tile: [0; 8],
    rows: [16; 8],
    _of_none: [0; 8],
};

impl Configured {
    fn new(amx: Amx) -> Self {
        let is_outermost = !IS_CONFIGURED.replace(true);
        if is_outermost {
            // SAFETY: `amx` proves the tiles, and there are 64 bytes to read.
            unsafe {
                asm!(
                    "ldtilecfg [{}]", in(reg) &raw const CONFIGURATION,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack, readonly),
                );
            }
        }
        Self { amx, is_outermost, _stays: PhantomData }
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        if self.is_outermost {
            // SAFETY: the `Amx` within proves the tiles, and nobody on this thread uses them any more.
            unsafe {
                asm!(
                    "tilerelease",
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack, nomem),
                );
            }
            IS_CONFIGURED.set(false);
        }
    }
}

#[expect(clippy::inline_always, reason = "registers do not cross a call")]
impl Tiles for &Configured {
    type Simd = Avx512;

    #[inline(always)]
    fn simd(self) -> Avx512 {
        self.amx.0
    }

    #[inline(always)]
    fn cut(self, numbers: __m512, high: &mut [u16; SIDE], low: &mut [u16; SIDE]) {
        // SAFETY: the `Amx` within proves AVX-512 with bf16; there are 32 bytes to write at each.
        unsafe {
            let upper = mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(numbers));
            let widened =
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(upper)));
            let left = _mm512_cvtneps_pbh(_mm512_sub_ps(numbers, widened));
            _mm256_storeu_si256(high.as_mut_ptr().cast(), upper);
            _mm256_storeu_si256(low.as_mut_ptr().cast(), mem::transmute::<__m256bh, __m256i>(left));
        }
    }

    #[inline(always)]
    fn multiply(
        self,
        [above, below]: [&[Block]; 2],
        [left, right]: [&[Block]; 2],
        sums: &mut Sums,
    ) {
        let depth = above.len().min(below.len()).min(left.len()).min(right.len());
        if depth == 0 {
            *sums = Sums::default();
            return;
        }
        // SAFETY: the `Configured` proves the tiles; `depth` blocks are there to read at each of the four, and four
        // times 1 KiB to write.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "2:",
                // Low pieces of the rows by high ones of the columns,
                "tileloadd tmm4, [{above} + {row}*1 + 1024]",
                "tileloadd tmm6, [{left} + {row}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{right} + {row}*1]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{below} + {row}*1 + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                // high by high,
                "tileloadd tmm4, [{above} + {row}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{below} + {row}*1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                // high by low.
                "tileloadd tmm6, [{left} + {row}*1 + 1024]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tileloadd tmm7, [{right} + {row}*1 + 1024]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {above}, 2048",
                "add {below}, 2048",
                "add {left}, 2048",
                "add {right}, 2048",
                "dec {depth}",
                "jnz 2b",
                "tilestored [{sums} + {row}*1], tmm0",
                "tilestored [{sums} + {row}*1 + 1024], tmm1",
                "tilestored [{sums} + {row}*1 + 2048], tmm2",
                "tilestored [{sums} + {row}*1 + 3072], tmm3",
                above = inout(reg) above.as_ptr() => _,
                below = inout(reg) below.as_ptr() => _,
                left = inout(reg) left.as_ptr() => _,
                right = inout(reg) right.as_ptr() => _,
                depth = inout(reg) depth => _,
                row = in(reg) 64usize,
                sums = in(reg) &raw mut *sums,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

// What the loop above counts with.
const _: () = assert!(
    size_of::<Block>() == 2048
        && mem::offset_of!(Block, low) == 1024
        && size_of::<[u16; DEPTH]>() == 64
        && size_of::<Sums>() == 4096
        && size_of::<Configuration>() == 64
);

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::super::super::isa::Isa;
    use super::super::simd::Vectors;
    use super::*;

    /// Tiles, where there are some.
    fn granted() -> Option<Amx> {
        let Some(Vectors::Amx(amx)) = Vectors::of(Isa::Amx) else {
            eprintln!("skipped: this processor, or its system, has no tiles");
            return None;
        };
        Some(amx)
    }

    /// The palette that this thread's tiles have: 0 where there are none.
    fn palette(_: Amx) -> u8 {
        let mut configuration = [u8::MAX; 64];
        // SAFETY: the `Amx` proves the tiles, and there are 64 bytes to write.
        unsafe {
            asm!("sttilecfg [{}]", in(reg) &raw mut configuration, options(nostack));
        }
        configuration[0]
    }

    /// Multiplies, lets another multiply, and multiplies again.
    struct Nested<'a>(Option<Amx>, &'a mut Vec<Sums>);

    impl TileKernel for Nested<'_> {
        #[inline(always)]
        fn run<T: Tiles>(self, tiles: T) {
            const ONE: u16 = 0x3f80;
            let block = [Block { high: [[ONE; DEPTH]; SIDE], ..Block::default() }];
            let mut sums = Sums::default();
            let Self(amx, made) = self;
            if let Some(amx) = amx {
                dispatch(amx, Nested(None, made));
            }
            tiles.multiply([&block; 2], [&block; 2], &mut sums);
            made.push(sums);
        }
    }

    /// Asks what tiles there are, lets another use them, asks again, and panics.
    struct Failing<'a>(Amx, &'a mut Vec<u8>);

    impl TileKernel for Failing<'_> {
        fn run<T: Tiles>(self, _: T) {
            let Self(amx, palettes) = self;
            palettes.push(palette(amx));
            dispatch(amx, Nested(None, &mut Vec::new()));
            palettes.push(palette(amx));
            panic!("a kernel that fails");
        }
    }

    #[test]
    fn tiles_stay_where_work_with_tiles_is_part_of_such_work() {
        let Some(amx) = granted() else { return };
        let mut made = Vec::new();
        dispatch(amx, Nested(Some(amx), &mut made));
        assert_eq!(made.len(), 2);
        for sums in made {
            assert_eq!(sums.0, [[[[32.0; SIDE]; SIDE]; 2]; 2]);
        }
    }

    #[test]
    fn tiles_are_given_back_whether_their_work_ends_or_fails() {
        let Some(amx) = granted() else { return };
        for _ in 0..2 {
            dispatch(amx, Nested(Some(amx), &mut Vec::new()));
            assert_eq!((palette(amx), IS_CONFIGURED.get()), (0, false));
            let mut palettes = Vec::new();
            let work = AssertUnwindSafe(|| dispatch(amx, Failing(amx, &mut palettes)));
            assert!(catch_unwind(work).is_err());
            assert_eq!(palettes, [1, 1]);
            assert_eq!((palette(amx), IS_CONFIGURED.get()), (0, false));
        }
    }

    #[test]
    fn nothing_of_blocks_and_sums_outlives_wiping() {
        let mut block = Block { high: [[1; DEPTH]; SIDE], low: [[2; DEPTH]; SIDE] };
        block.zeroize();
        assert_eq!([block.high, block.low], [[[0; DEPTH]; SIDE]; 2]);
        let mut sums = Sums([[[[3.0; SIDE]; SIDE]; 2]; 2]);
        sums.zeroize();
        assert_eq!(sums.0, [[[[0.0; SIDE]; SIDE]; 2]; 2]);
    }
}
