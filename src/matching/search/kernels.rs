//! The integer part of the scan: products of probes with blocks of sixteen rows, by the widest
//! instructions that the processor has.
//!
//! A block holds its sixteen rows interleaved: one [`Group`] is the next four codes of each row, so
//! that one 64-byte load feeds sixteen rows and the sixteen sums lie side by side in a register, with
//! nothing to add across lanes. A code is stored as `q + 128`, because `vpdpbusd` multiplies unsigned
//! by signed; the sums start at `-128 · Σ probe`, which takes the 128 out again.
//!
//! Every kernel gives the same integers, bit for bit: nothing saturates and nothing overflows. A
//! product is at most 128·127, so that the sum of the 2,048 that two embeddings have at most stays
//! below 2^25, and the two products that `vpmaddubsw` adds in 16 bits stay below 32,513.
#![expect(
    unsafe_code,
    reason = "vector loads and stores, and calling what the processor was found to have"
)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256, __m256i, __m512i, _CMP_NLT_UQ, _mm256_abs_epi8, _mm256_add_epi32, _mm256_cmp_ps,
    _mm256_cvtepi32_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_movemask_ps, _mm256_mul_ps, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_si256, _mm256_sign_epi8, _mm256_storeu_si256,
    _mm256_xor_si256, _mm512_add_epi32, _mm512_cmp_ps_mask, _mm512_cvtepi32_ps,
    _mm512_dpbusd_epi32, _mm512_load_si512, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mul_ps,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512, _mm512_storeu_si512,
};

use zeroize::Zeroize;

use super::quantise::Bar;
use super::segment::Bound;

/// Rows of a block: the 32-bit lanes of the widest register.
pub(super) const LANES: usize = 16;

/// Codes of one row in a group: what one instruction multiplies and adds.
pub(super) const QUAD: usize = 4;

/// What is added to a code when it is stored.
const STORED_AT: i32 = 128;

/// The next four codes of each of a block's sixteen rows.
#[derive(Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub(super) struct Group([[u8; HALF]; 2]);

/// What the narrower registers read at once: eight rows' four codes.
const HALF: usize = LANES * QUAD / 2;

impl Group {
    /// Codes of nothing.
    pub(super) const EMPTY: Self = Self([[0; HALF]; 2]);

    /// Stores one row's four codes.
    pub(super) fn set(&mut self, lane: usize, codes: [i8; QUAD]) {
        if let Some(place) = self.0.as_flattened_mut().as_chunks_mut::<QUAD>().0.get_mut(lane) {
            // Flipping the top bit adds 128.
            *place = codes.map(|code| code.cast_unsigned() ^ 0x80);
        }
    }
}

impl Zeroize for Group {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

/// The codes of `P` probes, the next four of each side by side.
pub(super) struct Panel<const P: usize> {
    starts: [i32; P],
    quads: Vec<[i32; P]>,
}

impl<const P: usize> Panel<P> {
    /// A panel of probes of one length, each a multiple of [`QUAD`] codes.
    pub(super) fn new(probes: [&[i8]; P]) -> Self {
        let groups = probes.first().map_or(0, |probe| probe.len() / QUAD);
        let mut panel = Self { starts: [0; P], quads: vec![[0; P]; groups] };
        for (number, probe) in probes.iter().enumerate() {
            let sum: i32 = probe.iter().map(|code| i32::from(*code)).sum();
            if let Some(start) = panel.starts.get_mut(number) {
                *start = -STORED_AT * sum;
            }
            for (quads, codes) in panel.quads.iter_mut().zip(probe.as_chunks::<QUAD>().0) {
                if let Some(quad) = quads.get_mut(number) {
                    *quad = i32::from_le_bytes(codes.map(i8::cast_unsigned));
                }
            }
        }
        panel
    }
}

impl<const P: usize> Drop for Panel<P> {
    fn drop(&mut self) {
        self.starts.zeroize();
        self.quads.zeroize();
    }
}

/// The sums of one block with each probe of a panel.
pub(super) type Sums<const P: usize> = [[i32; LANES]; P];

/// For each probe of a panel, which rows of a block reach its limit: a bit a row.
pub(super) type Marks<const P: usize> = [u16; P];

/// A way to multiply that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kernel(Instructions);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instructions {
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

impl Kernel {
    /// The fastest that this processor has.
    pub(super) fn fastest() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
                return Self(Instructions::Avx512Vnni);
            }
            if is_x86_feature_detected!("avx2") {
                return Self(Instructions::Avx2);
            }
        }
        Self(Instructions::Plain)
    }

    /// Every one that this processor has, the plain one first.
    #[cfg(test)]
    pub(super) fn all() -> Vec<Self> {
        let mut all = vec![Self(Instructions::Plain)];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") {
                all.push(Self(Instructions::Avx2));
            }
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
                all.push(Self(Instructions::Avx512Vnni));
            }
        }
        all
    }

    /// Multiplies blocks with the probes of a panel: for each block the exact integers
    /// `Σ code · probe`, by row and probe.
    pub(super) fn multiply<const P: usize>(
        self,
        groups: &[Group],
        panel: &Panel<P>,
        sums: &mut [Sums<P>],
    ) {
        match self.0 {
            Instructions::Plain => multiply_plain(groups, panel, sums),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this value is made only where the processor was found to have AVX2.
            Instructions::Avx2 => unsafe { multiply_avx2(groups, panel, sums) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above, for AVX-512 F and VNNI.
            Instructions::Avx512Vnni if P == 1 => unsafe {
                multiply_avx512::<P, 4>(groups, panel, sums);
            },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Instructions::Avx512Vnni => unsafe { multiply_avx512::<P, 1>(groups, panel, sums) },
        }
    }

    /// Marks the rows that are not below their limit, as [`is_below`] says.
    pub(super) fn mark<const P: usize>(
        self,
        sums: &[Sums<P>],
        bounds: &[Bound],
        bars: &[Bar; P],
        marks: &mut [Marks<P>],
    ) {
        match self.0 {
            Instructions::Plain => mark_plain(sums, bounds, bars, marks),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this value is made only where the processor was found to have AVX2.
            Instructions::Avx2 => unsafe { mark_avx2(sums, bounds, bars, marks) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above, for AVX-512 F and VNNI.
            Instructions::Avx512Vnni => unsafe { mark_avx512(sums, bounds, bars, marks) },
        }
    }
}

/// Whether a row's codes rule it out; never with a number that is none.
#[expect(clippy::cast_precision_loss, reason = "the bound allows for the rounding")]
pub(super) fn is_below(sum: i32, scale: f32, limit: f32) -> bool {
    (sum as f32) * scale < limit
}

fn mark_plain<const P: usize>(
    sums: &[Sums<P>],
    bounds: &[Bound],
    bars: &[Bar; P],
    marks: &mut [Marks<P>],
) {
    for ((sums, bound), marks) in sums.iter().zip(bounds).zip(marks) {
        for ((sums, bar), mark) in sums.iter().zip(bars).zip(marks) {
            let limit = bar.limit(bound.error, bound.norm);
            let rows = sums.iter().zip(&bound.scales).enumerate();
            *mark = rows.fold(0, |mark, (lane, (sum, scale))| {
                mark | u16::from(!is_below(*sum, *scale, limit)) << lane
            });
        }
    }
}

fn multiply_plain<const P: usize>(groups: &[Group], panel: &Panel<P>, sums: &mut [Sums<P>]) {
    for (block, sums) in groups.chunks_exact(panel.quads.len()).zip(sums) {
        *sums = panel.starts.map(|start| [start; LANES]);
        for (group, quads) in block.iter().zip(&panel.quads) {
            let rows = group.0.as_flattened().as_chunks::<QUAD>().0;
            for (sums, quad) in sums.iter_mut().zip(quads) {
                let probe = quad.to_le_bytes().map(|code| i32::from(code.cast_signed()));
                for (sum, row) in sums.iter_mut().zip(rows) {
                    let products =
                        row.iter().zip(probe).map(|(code, probe)| i32::from(*code) * probe);
                    *sum += products.sum::<i32>();
                }
            }
        }
    }
}

/// Signed by signed, since `vpmaddubsw` would saturate on codes above 128: the row's size by the
/// probe with the row's sign. So the 128 is taken out before, not by the start.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn multiply_avx2<const P: usize>(groups: &[Group], panel: &Panel<P>, sums: &mut [Sums<P>]) {
    let (ones, top_bits) = (_mm256_set1_epi16(1), _mm256_set1_epi8(i8::MIN));
    for (block, sums) in groups.chunks_exact(panel.quads.len()).zip(sums) {
        // One half after the other: the totals of both would not fit into the registers.
        for half in 0..2 {
            let mut totals = [_mm256_setzero_si256(); P];
            for (group, quads) in block.iter().zip(&panel.quads) {
                let Some(rows) = group.0.get(half) else { continue };
                let codes = _mm256_xor_si256(load_half(rows), top_bits);
                let sizes = _mm256_abs_epi8(codes);
                for (total, quad) in totals.iter_mut().zip(quads) {
                    let signed = _mm256_sign_epi8(_mm256_set1_epi32(*quad), codes);
                    let pairs = _mm256_maddubs_epi16(sizes, signed);
                    *total = _mm256_add_epi32(*total, _mm256_madd_epi16(pairs, ones));
                }
            }
            for (sums, total) in sums.iter_mut().zip(totals) {
                if let Some(sums) = sums.as_chunks_mut().0.get_mut(half) {
                    store_half(sums, total);
                }
            }
        }
    }
}

/// An addition waits some cycles for the one before. Eight probes do not wait on each other; one
/// alone adds up in several `CHAINS`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn multiply_avx512<const P: usize, const CHAINS: usize>(
    groups: &[Group],
    panel: &Panel<P>,
    sums: &mut [Sums<P>],
) {
    let (quads, quads_rest) = panel.quads.as_chunks::<CHAINS>();
    for (block, sums) in groups.chunks_exact(panel.quads.len()).zip(sums) {
        let (groups, groups_rest) = block.as_chunks::<CHAINS>();
        let mut chains = [[_mm512_setzero_si512(); P]; CHAINS];
        for (groups, quads) in groups.iter().zip(quads) {
            for ((group, quads), totals) in groups.iter().zip(quads).zip(&mut chains) {
                add_products(totals, group, quads);
            }
        }
        for ((group, quads), totals) in groups_rest.iter().zip(quads_rest).zip(&mut chains) {
            add_products(totals, group, quads);
        }
        let mut totals = panel.starts.map(|start| _mm512_set1_epi32(start));
        for chain in chains {
            for (total, addend) in totals.iter_mut().zip(chain) {
                *total = _mm512_add_epi32(*total, addend);
            }
        }
        for (sums, total) in sums.iter_mut().zip(totals) {
            store(sums, total);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
fn add_products<const P: usize>(totals: &mut [__m512i; P], group: &Group, quads: &[i32; P]) {
    let rows = load(group);
    for (total, quad) in totals.iter_mut().zip(quads) {
        *total = _mm512_dpbusd_epi32(*total, rows, _mm512_set1_epi32(*quad));
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn mark_avx2<const P: usize>(
    sums: &[Sums<P>],
    bounds: &[Bound],
    bars: &[Bar; P],
    marks: &mut [Marks<P>],
) {
    for ((sums, bound), marks) in sums.iter().zip(bounds).zip(marks) {
        let (scales, _) = bound.scales.as_chunks();
        for ((sums, bar), mark) in sums.iter().zip(bars).zip(marks) {
            let limit = _mm256_set1_ps(bar.limit(bound.error, bound.norm));
            let (sums, _) = sums.as_chunks();
            // The upper half first, so that it is shifted to where it belongs.
            *mark = sums.iter().zip(scales).rev().fold(0, |mark, (sums, scales)| {
                let reached =
                    _mm256_mul_ps(_mm256_cvtepi32_ps(load_sums(sums)), load_scales(scales));
                let eight = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_NLT_UQ>(reached, limit));
                mark << (LANES / 2) | u16::try_from(eight).unwrap_or(u16::MAX)
            });
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn mark_avx512<const P: usize>(
    sums: &[Sums<P>],
    bounds: &[Bound],
    bars: &[Bar; P],
    marks: &mut [Marks<P>],
) {
    for ((sums, bound), marks) in sums.iter().zip(bounds).zip(marks) {
        // SAFETY: sixteen f32 are 64 bytes; the load needs no alignment.
        let scales = unsafe { _mm512_loadu_ps(bound.scales.as_ptr()) };
        for ((sums, bar), mark) in sums.iter().zip(bars).zip(marks) {
            let limit = _mm512_set1_ps(bar.limit(bound.error, bound.norm));
            // SAFETY: sixteen i32 are 64 bytes; the load needs no alignment.
            let sums = unsafe { _mm512_loadu_si512((&raw const *sums).cast()) };
            let reached = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scales);
            *mark = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(reached, limit);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
fn load(group: &Group) -> __m512i {
    // SAFETY: a group is 64 bytes, aligned to 64.
    unsafe { _mm512_load_si512((&raw const group.0).cast()) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
#[inline]
fn store(sums: &mut [i32; LANES], total: __m512i) {
    // SAFETY: sixteen i32 are 64 bytes; the store needs no alignment.
    unsafe { _mm512_storeu_si512((&raw mut *sums).cast(), total) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn load_sums(sums: &[i32; LANES / 2]) -> __m256i {
    // SAFETY: eight i32 are 32 bytes; the load needs no alignment.
    unsafe { _mm256_loadu_si256((&raw const *sums).cast()) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn load_scales(scales: &[f32; LANES / 2]) -> __m256 {
    // SAFETY: eight f32 are 32 bytes; the load needs no alignment.
    unsafe { _mm256_loadu_ps(scales.as_ptr()) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn load_half(rows: &[u8; HALF]) -> __m256i {
    // SAFETY: 32 bytes are read; the load needs no alignment.
    unsafe { _mm256_loadu_si256((&raw const *rows).cast()) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn store_half(sums: &mut [i32; LANES / 2], total: __m256i) {
    // SAFETY: eight i32 are 32 bytes; the store needs no alignment.
    unsafe { _mm256_storeu_si256((&raw mut *sums).cast(), total) }
}

#[cfg(test)]
mod tests {
    use super::super::quantise::{Coded, Reach};
    use super::*;
    use proptest::prelude::*;

    /// Blocks of the codes that `code` gives for row and place, as a segment lays them out.
    fn blocks(rows: usize, width: usize, code: impl Fn(usize, usize) -> i8) -> Vec<Group> {
        let quads = width / QUAD;
        let mut groups = vec![Group::EMPTY; rows / LANES * quads];
        for row in 0..rows {
            for quad in 0..quads {
                let codes = std::array::from_fn(|place| code(row, quad * QUAD + place));
                groups[row / LANES * quads + quad].set(row % LANES, codes);
            }
        }
        groups
    }

    fn check<const P: usize>(rows: usize, probes: [&[i8]; P], code: impl Fn(usize, usize) -> i8) {
        let width = probes[0].len();
        let groups = blocks(rows, width, &code);
        for kernel in Kernel::all() {
            let mut sums = vec![[[7; LANES]; P]; rows / LANES];
            kernel.multiply(&groups, &Panel::new(probes), &mut sums);
            for row in 0..rows {
                for (number, probe) in probes.iter().enumerate() {
                    let expected: i32 =
                        (0..width).map(|i| i32::from(code(row, i)) * i32::from(probe[i])).sum();
                    let sum = sums[row / LANES][number][row % LANES];
                    assert_eq!(sum, expected, "{kernel:?}, row {row}, probe {number}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn every_kernel_gives_the_same_integers(
            quads in 1usize..70,
            seed in any::<u64>(),
        ) {
            let draw = |row: usize, place: usize| {
                let mixed = (seed ^ (row * 4_096 + place) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                mixed.to_le_bytes()[6].cast_signed().max(-127)
            };
            let probes: Vec<Vec<i8>> =
                (0..8).map(|probe| (0..quads * QUAD).map(|i| draw(99 + probe, i)).collect()).collect();
            check(48, [&probes[0]], draw);
            check(32, std::array::from_fn::<_, 8, _>(|number| probes[number].as_slice()), draw);
        }
    }

    proptest! {
        #[test]
        fn every_kernel_marks_the_same_rows(
            sums in prop::collection::vec((-2_000_000i32..2_000_000, 0.0f32..2.0), LANES * 3),
            specials in prop::collection::vec((0..LANES * 3, prop::sample::select(
                vec![0.0, f32::NAN, f32::INFINITY, 1e-45, 3e38])), 0..6),
            score in prop::sample::select(vec![-1e9f32, -3.5, 0.0, 2.0, 1e9, f32::MIN]),
        ) {
            let mut scales: Vec<f32> = sums.iter().map(|(_, scale)| *scale).collect();
            for (place, special) in &specials {
                scales[*place] = *special;
            }
            let bounds: Vec<_> = scales
                .as_chunks()
                .0
                .iter()
                .map(|scales| Bound { scales: *scales, error: 0.1, norm: 3.0 })
                .collect();
            let sums: Vec<i32> = sums.iter().map(|(sum, _)| *sum).collect();
            let sums: Vec<Sums<1>> = sums.as_chunks().0.iter().map(|sums| [*sums]).collect();
            let probe = [0.25f32, -0.5, 0.125, 1.0];
            let bar = Reach::new(&probe, &Coded::of(&probe)).bar(score, -1.0);
            for kernel in Kernel::all() {
                let mut marks = vec![[0xAAAA]; bounds.len()];
                kernel.mark(&sums, &bounds, &[bar], &mut marks);
                for (block, [mark]) in marks.into_iter().enumerate() {
                    let bound = &bounds[block];
                    let limit = bar.limit(bound.error, bound.norm);
                    for (lane, sum) in sums[block][0].iter().enumerate() {
                        let expected = !is_below(*sum, bound.scales[lane], limit);
                        prop_assert_eq!(mark >> lane & 1 == 1, expected, "{:?}", kernel);
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_saturates_at_the_ends_of_the_range() {
        for width in [4, 12, 256, 2_048] {
            for (row, probe) in [(127, 127), (-127, 127), (127, -127), (-127, -127), (-128, -127)] {
                let probe = vec![probe; width];
                check(16, [&probe], |_, _| row);
                check(
                    16,
                    [probe.as_slice(); 8],
                    |_, place| if place % 3 == 0 { -row.max(-127) } else { row },
                );
            }
        }
    }
}
