//! Vectors of f32: with [`super::tiles`] the only file of this room with `unsafe`.
//!
//! A kernel is written once, in safe code, generic over [`Simd`], and always inlined into one of the
//! two functions below that carry `#[target_feature]`; so the compiler uses the wide registers all
//! the way through it. A value of [`Avx2`] or [`Avx512`] is proof that the processor was asked and
//! has the instructions: it comes from [`Vectors::of`] and nowhere else.
#![expect(
    unsafe_code,
    reason = "vector loads, stores and the call into code for a processor that was asked first"
)]

use std::arch::x86_64::{
    __m256, __m512, _CMP_LT_OQ, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _MM_HINT_T0,
    _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_loadl_epi64, _mm_loadu_si128, _mm_movehl_ps,
    _mm_prefetch, _mm_shuffle_ps, _mm256_add_epi32, _mm256_add_ps, _mm256_blendv_ps,
    _mm256_castps256_ps128, _mm256_castsi256_ps, _mm256_cmp_ps, _mm256_cvtepi8_epi32,
    _mm256_cvtepi32_ps, _mm256_cvtps_epi32, _mm256_div_ps, _mm256_extractf128_ps, _mm256_fmadd_ps,
    _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps, _mm256_round_ps,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_slli_epi32, _mm256_storeu_ps,
    _mm256_zeroupper, _mm512_add_ps, _mm512_cmp_ps_mask, _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps,
    _mm512_div_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_mul_ps, _mm512_max_ps,
    _mm512_min_ps, _mm512_mul_ps, _mm512_reduce_add_ps, _mm512_roundscale_ps, _mm512_scalef_ps,
    _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};

use super::super::isa::Isa;
use super::memory::CACHE_LINE;
use super::tiles::Amx;
#[cfg(test)]
use super::twice::Twice;

/// Work that is done with one kind of vector.
pub(super) trait Kernel {
    /// Does it. Implementations carry `#[inline(always)]`, or they miss the wide registers.
    fn run<S: Simd>(self, simd: S);
}

/// Proof that this processor has vectors, and which.
#[derive(Clone, Copy, Debug)]
pub(super) enum Vectors {
    /// AVX2 and FMA.
    Avx2(Avx2),
    /// AVX-512F, AVX2 and FMA.
    Avx512(Avx512),
    /// The same, with the tiles of AMX beside them.
    Amx(Amx),
    /// AVX2 and FMA, as wide as AVX-512,
    #[cfg(test)]
    Twice(Twice),
    /// and with tiles.
    #[cfg(test)]
    TwiceTiled(Twice),
}

impl Vectors {
    /// Asks the processor; nothing for [`Isa::Plain`] and where the instructions are missing.
    pub(super) fn of(isa: Isa) -> Option<Self> {
        match isa {
            Isa::Amx if isa.is_present() => Amx::granted(Avx512(())).map(Self::Amx),
            Isa::Avx512 if isa.is_present() => Some(Self::Avx512(Avx512(()))),
            Isa::Avx2 if isa.is_present() => Some(Self::Avx2(Avx2(()))),
            _ => None,
        }
    }

    /// Of each kind that the processor has, and those that tests make of AVX2's registers.
    #[cfg(test)]
    pub(super) fn all() -> Vec<Self> {
        let there = [Isa::Avx2, Isa::Avx512, Isa::Amx].map(Self::of);
        let twice = there[0].map(|_| Twice(Avx2(())));
        let made = [twice.map(Self::Twice), twice.map(Self::TwiceTiled)];
        there.into_iter().chain(made).flatten().collect()
    }

    /// Whether there are tiles beside them.
    pub(super) const fn have_tiles(self) -> bool {
        match self {
            Self::Avx2(_) | Self::Avx512(_) => false,
            Self::Amx(_) => true,
            #[cfg(test)]
            Self::Twice(_) => false,
            #[cfg(test)]
            Self::TwiceTiled(_) => true,
        }
    }

    /// How many output channels one block of the matrix kernel makes: two registers.
    pub(super) const fn block(self) -> usize {
        match self {
            Self::Avx2(_) => 2 * Avx2::LEN,
            Self::Avx512(_) | Self::Amx(_) => 2 * Avx512::LEN,
            #[cfg(test)]
            Self::Twice(_) | Self::TwiceTiled(_) => 2 * Twice::LEN,
        }
    }
}

/// Runs a kernel with the vectors that the processor has.
pub(super) fn dispatch(vectors: Vectors, kernel: impl Kernel) {
    match vectors {
        // SAFETY: an `Avx512` is made in `Vectors::of` only, where the processor was asked.
        Vectors::Avx512(simd) => unsafe { with_avx512(simd, kernel) },
        // SAFETY: an `Amx` is made of an `Avx512`.
        Vectors::Amx(amx) => unsafe { with_avx512(amx.simd(), kernel) },
        // SAFETY: an `Avx2` is made in `Vectors::of` only, where the processor was asked.
        Vectors::Avx2(simd) => unsafe { with_avx2(simd, kernel) },
        #[cfg(test)]
        // SAFETY: a `Twice` is made of an `Avx2`, in `Vectors::all` only and where there is one.
        Vectors::Twice(simd) | Vectors::TwiceTiled(simd) => unsafe { with_avx2(simd, kernel) },
    }
}

/// Empties the upper parts of the wide registers. tract's own kernels leave numbers there, and as long as
/// they do, some processors run ordinary code of floating point, as that of the pixels was then, several
/// times slower: on an AMD EPYC the face path took 28 ms before this was called, and 23 ms after.
pub(in crate::inference) fn leave_wide_registers() {
    if is_x86_feature_detected!("avx") {
        // SAFETY: the processor was asked; a caller keeps no vectors in registers over a call (ABI).
        unsafe { leave() }
    }
}

#[target_feature(enable = "avx")]
fn leave() {
    _mm256_zeroupper();
}

#[target_feature(enable = "avx512f,avx2,fma")]
fn with_avx512(simd: Avx512, kernel: impl Kernel) {
    kernel.run(simd);
}

#[target_feature(enable = "avx2,fma")]
fn with_avx2(simd: impl Simd, kernel: impl Kernel) {
    kernel.run(simd);
}

/// One kind of vector.
#[expect(clippy::inline_always, reason = "registers do not cross a call")]
pub(super) trait Simd: Copy {
    /// A register.
    type V: Copy;
    /// The same numbers in memory.
    type Array;
    /// As many whole numbers of a byte each.
    type Bytes;
    /// How many numbers a register holds.
    const LEN: usize;
    /// Rows of the matrix kernel's tile: with two registers a row, as many as the processor has
    /// registers for.
    const ROWS: usize;

    /// Numbers as vectors; what is left over at the end is left out.
    fn vectors(numbers: &[f32]) -> &[Self::Array];
    /// The same, to write.
    fn vectors_mut(numbers: &mut [f32]) -> &mut [Self::Array];
    /// Bytes as vectors; what is left over at the end is left out.
    fn bytes(numbers: &[i8]) -> &[Self::Bytes];
    /// Bytes to a register of numbers.
    fn load_bytes(self, from: &Self::Bytes) -> Self::V;
    /// Memory to register.
    fn load(self, from: &Self::Array) -> Self::V;
    /// The same for several, zero where there are fewer.
    ///
    /// A loop and no closure (`array::from_fn`, `map`), here and in all kernels: closures are
    /// compiled without the wide registers, and in one that is not inlined each instruction becomes
    /// a call.
    #[inline(always)]
    fn load_each<const N: usize>(self, from: &[Self::Array]) -> [Self::V; N] {
        let mut registers = [self.splat(0.0); N];
        for (register, from) in registers.iter_mut().zip(from) {
            *register = self.load(from);
        }
        registers
    }
    /// Register to memory.
    fn store(self, to: &mut Self::Array, value: Self::V);
    /// Has numbers brought nearer that will be loaded soon; they begin at a cache line.
    #[inline(always)]
    fn fetch(self, from: &[Self::Array]) {
        for from in from.iter().step_by((CACHE_LINE / size_of::<Self::Array>()).max(1)) {
            // SAFETY: a hint; it reads nothing, and whoever has this trait has SSE.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(from).cast()) }
        }
    }
    /// One number in all places.
    fn splat(self, value: f32) -> Self::V;
    /// a·b + c, rounded once.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// a + b.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a · b.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// The greater of each two.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The lesser of each two.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// a / b.
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// x where x ≥ 0, slope·x elsewhere.
    fn prelu(self, x: Self::V, slope: Self::V) -> Self::V;
    /// The nearest whole number.
    fn round(self, x: Self::V) -> Self::V;
    /// x·2ⁿ for whole n from -126 to 127.
    fn scale(self, x: Self::V, n: Self::V) -> Self::V;
    /// All places added up.
    fn total(self, x: Self::V) -> f32;
}

/// Sixteen numbers a register, 32 registers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512(());

#[expect(clippy::inline_always, reason = "registers do not cross a call")]
impl Simd for Avx512 {
    type V = __m512;
    type Array = [f32; 16];
    type Bytes = [i8; 16];
    const LEN: usize = 16;
    const ROWS: usize = 12;

    #[inline(always)]
    fn vectors(numbers: &[f32]) -> &[[f32; 16]] {
        numbers.as_chunks().0
    }

    #[inline(always)]
    fn vectors_mut(numbers: &mut [f32]) -> &mut [[f32; 16]] {
        numbers.as_chunks_mut().0
    }

    #[inline(always)]
    fn bytes(numbers: &[i8]) -> &[[i8; 16]] {
        numbers.as_chunks().0
    }

    #[inline(always)]
    fn load_bytes(self, from: &[i8; 16]) -> __m512 {
        // SAFETY: 16 bytes are there to read, and `self` proves AVX-512F.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn load(self, from: &[f32; 16]) -> __m512 {
        // SAFETY: 16 numbers are there to read, and `self` proves AVX-512F.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; 16], value: __m512) {
        // SAFETY: 16 numbers are there to write, and `self` proves AVX-512F.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), value) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn prelu(self, x: __m512, slope: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe {
            let negative = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, _mm512_setzero_ps());
            _mm512_mask_mul_ps(x, negative, x, slope)
        }
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn round(self, x: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_roundscale_ps::<NEAREST>(x) }
    }

    #[inline(always)]
    fn scale(self, x: __m512, n: __m512) -> __m512 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_scalef_ps(x, n) }
    }

    #[inline(always)]
    fn total(self, x: __m512) -> f32 {
        // SAFETY: `self` proves AVX-512F.
        unsafe { _mm512_reduce_add_ps(x) }
    }
}

/// Eight numbers a register, 16 registers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx2(());

#[expect(clippy::inline_always, reason = "registers do not cross a call")]
impl Simd for Avx2 {
    type V = __m256;
    type Array = [f32; 8];
    type Bytes = [i8; 8];
    const LEN: usize = 8;
    const ROWS: usize = 6;

    #[inline(always)]
    fn vectors(numbers: &[f32]) -> &[[f32; 8]] {
        numbers.as_chunks().0
    }

    #[inline(always)]
    fn vectors_mut(numbers: &mut [f32]) -> &mut [[f32; 8]] {
        numbers.as_chunks_mut().0
    }

    #[inline(always)]
    fn bytes(numbers: &[i8]) -> &[[i8; 8]] {
        numbers.as_chunks().0
    }

    #[inline(always)]
    fn load_bytes(self, from: &[i8; 8]) -> __m256 {
        // SAFETY: 8 bytes are there to read, and `self` proves AVX2.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn load(self, from: &[f32; 8]) -> __m256 {
        // SAFETY: 8 numbers are there to read, and `self` proves AVX2.
        unsafe { _mm256_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; 8], value: __m256) {
        // SAFETY: 8 numbers are there to write, and `self` proves AVX2.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), value) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2 and FMA.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    fn prelu(self, x: __m256, slope: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let negative = _mm256_cmp_ps::<_CMP_LT_OQ>(x, _mm256_setzero_ps());
            _mm256_blendv_ps(x, _mm256_mul_ps(x, slope), negative)
        }
    }

    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_min_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_div_ps(a, b) }
    }

    #[inline(always)]
    fn round(self, x: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2.
        unsafe { _mm256_round_ps::<NEAREST>(x) }
    }

    #[inline(always)]
    fn scale(self, x: __m256, n: __m256) -> __m256 {
        // SAFETY: `self` proves AVX2. The exponent of 2ⁿ is n + 127, above 23 bits of mantissa.
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
        }
    }

    #[inline(always)]
    fn total(self, x: __m256) -> f32 {
        // SAFETY: `self` proves AVX2.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
}

/// To the nearest whole number, without an exception.
const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
