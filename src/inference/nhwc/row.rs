//! One row by a large matrix, whose numbers are read as the bytes that they were stored as.
//!
//! Behind its trunk `SFace` multiplies 50,176 numbers with 128 rows of as many weights. As floats these are
//! 26 MB, each read once a picture: the time is the memory's, and what else was in the caches is gone after it.
//! In the file 64 at a time are whole numbers of one step, and as such they are a quarter. A matrix that is not
//! of such blocks stays as it is.
#![expect(
    clippy::indexing_slicing,
    clippy::inline_always,
    reason = "sizes are checked once for all blocks, where slices are cut; registers do not cross a call"
)]

use std::sync::Arc;

use tract_onnx::tract_core::ops::einsum::EinSum;
#[cfg_attr(
    not(test),
    expect(clippy::wildcard_imports, reason = "tract's macros expect its whole prelude in scope")
)]
use tract_onnx::tract_hir::internal::*;

use super::constant::{constant, numbers};
use super::simd::{Kernel, Simd, Vectors, dispatch};

/// The product that a node computes, if it is one of a row by such a matrix.
pub(super) fn find(
    model: &TypedModel,
    node: &TypedNode,
    vectors: Vectors,
) -> TractResult<Option<RunRow>> {
    let (Some(product), [row, matrix]) = (node.op_as::<EinSum>(), node.inputs.as_slice()) else {
        return Ok(None);
    };
    let is_by_rows = product.q_params.is_none() && product.axes.to_string() == "mk,nk->mn";
    let shape = model.outlet_fact(*row)?.shape.as_concrete();
    let (true, Some(&[1, depth])) = (is_by_rows, shape) else { return Ok(None) };
    let weights = constant(model, *matrix).and_then(|weights| numbers(&weights));
    let steps = weights.and_then(|weights| Steps::of(&weights, depth));
    Ok(steps.map(|steps| RunRow { steps: Arc::new(steps), vectors }))
}

/// A matrix of blocks of [`BLOCK`] whole numbers of one step, row-major.
#[derive(Debug, PartialEq)]
struct Steps {
    counts: Vec<i8>,
    blocks: Vec<Block>,
    /// Numbers a row.
    depth: usize,
}

/// A number of the block is (count + shift) · step.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Block {
    step: f32,
    shift: f32,
}

impl Steps {
    /// The matrix in steps; nothing where a block is not of so many steps.
    fn of(weights: &[f32], depth: usize) -> Option<Self> {
        let is_whole = depth > 0 && depth.is_multiple_of(BLOCK);
        if !(is_whole && weights.len().is_multiple_of(depth)) {
            return None;
        }
        let mut counts = Vec::with_capacity(weights.len());
        let blocks = weights.as_chunks::<BLOCK>().0.iter().map(|weights| {
            let (block, of_block) = Block::of(weights)?;
            counts.extend(of_block);
            Some(block)
        });
        let blocks = blocks.collect::<Option<Vec<_>>>()?;
        Some(Self { counts, blocks, depth })
    }

    fn rows(&self) -> usize {
        self.counts.len() / self.depth
    }
}

impl Block {
    /// The longest step of which all numbers are whole multiples within the range of a byte.
    ///
    /// The largest number is at most 255 steps, so there are 255 steps to try. A multiple that was rounded to a
    /// float, by a step that was, is off by less than a ten-thousandth of a step; other numbers are not, all 64.
    fn of(weights: &[f32; BLOCK]) -> Option<(Self, [i8; BLOCK])> {
        if !weights.iter().all(|weight| weight.is_finite()) {
            return None;
        }
        let largest = weights.iter().fold(0.0f32, |largest, weight| largest.max(weight.abs()));
        if largest <= 0.0 {
            return Some((Self { step: 0.0, shift: 0.0 }, [0; BLOCK]));
        }
        (1u8..=255).find_map(|steps| {
            let step = largest / f32::from(steps);
            let mut multiples = [0.0f32; BLOCK];
            for (multiple, weight) in multiples.iter_mut().zip(weights) {
                *multiple = (weight / step).round();
                if (weight / step - *multiple).abs() > OFF_MAX {
                    return None;
                }
            }
            let least = multiples.iter().copied().fold(f32::INFINITY, f32::min);
            let most = multiples.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let shift = least + 128.0;
            #[expect(clippy::cast_possible_truncation, reason = "a whole number from -128 to 127")]
            let counts = multiples.map(|multiple| (multiple - shift) as i8);
            (most - least <= 255.0).then_some((Self { step, shift }, counts))
        })
    }
}

/// Numbers of one step.
const BLOCK: usize = 64;

/// By how much of a step a number may be off a whole multiple.
const OFF_MAX: f32 = 1e-4;

/// A row by a matrix.
struct Product<'a> {
    row: &'a [f32],
    steps: &'a Steps,
    output: &'a mut [f32],
}

impl Kernel for Product<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { row, steps: Steps { counts, blocks, depth }, output } = self;
        let blocks = blocks.chunks(AT_ONCE * (depth / BLOCK));
        let counts = counts.chunks(AT_ONCE * depth);
        for ((counts, blocks), output) in counts.zip(blocks).zip(output.chunks_mut(AT_ONCE)) {
            if output.len() == AT_ONCE {
                rows::<S, AT_ONCE>(simd, row, counts, blocks, output);
            } else {
                let each = counts.chunks(*depth).zip(blocks.chunks(depth / BLOCK));
                for ((counts, blocks), output) in each.zip(output.chunks_mut(1)) {
                    rows::<S, 1>(simd, row, counts, blocks, output);
                }
            }
        }
    }
}

/// The row by `N` rows of the matrix.
#[inline(always)]
fn rows<S: Simd, const N: usize>(
    simd: S,
    row: &[f32],
    counts: &[i8],
    blocks: &[Block],
    output: &mut [f32],
) {
    let a_block = BLOCK / S::LEN;
    let numbers = S::vectors(row);
    let mut lines: [&[S::Bytes]; N] = [&[]; N];
    for (line, counts) in lines.iter_mut().zip(counts.chunks_exact(row.len())) {
        *line = &S::bytes(counts)[..numbers.len()];
    }
    let mut scales: [&[Block]; N] = [&[]; N];
    for (scales, blocks) in scales.iter_mut().zip(blocks.chunks_exact(row.len() / BLOCK)) {
        *scales = blocks;
    }
    let mut sums = [simd.splat(0.0); N];
    for (at, numbers) in numbers.chunks_exact(a_block).enumerate() {
        let mut total = simd.splat(0.0);
        for number in numbers {
            total = simd.add(total, simd.load(number));
        }
        for ((sum, line), scales) in sums.iter_mut().zip(&lines).zip(&scales) {
            let Block { step, shift } = scales[at];
            let mut part = simd.mul(total, simd.splat(shift));
            let counts = &line[at * a_block..][..a_block];
            for (number, counts) in numbers.iter().zip(counts) {
                part = simd.mul_add(simd.load(number), simd.load_bytes(counts), part);
            }
            *sum = simd.mul_add(part, simd.splat(step), *sum);
        }
    }
    for (output, sum) in output.iter_mut().zip(sums) {
        *output = simd.total(sum);
    }
}

/// Rows of the matrix that a number of the row is multiplied with while it is in a register.
const AT_ONCE: usize = 8;

/// The product as an operator of a graph.
#[derive(Debug, Clone)]
pub(super) struct RunRow {
    steps: Arc<Steps>,
    vectors: Vectors,
}

impl PartialEq for RunRow {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.steps, &other.steps)
    }
}

impl Eq for RunRow {}

impl Op for RunRow {
    fn name(&self) -> StaticName {
        "RowByBytes".into()
    }

    op_as_typed_op!();
}

impl EvalOp for RunRow {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let row = args_1!(inputs);
        let row = row.to_plain_array_view::<f32>()?;
        let row = row.as_slice().context("the row is not contiguous")?;
        ensure!(row.len() == self.steps.depth, "the row has another length");
        let mut output = Tensor::zero::<f32>(&[1, self.steps.rows()])?;
        let mut view = output.to_plain_array_view_mut::<f32>()?;
        let numbers = view.as_slice_mut().context("the output is not contiguous")?;
        dispatch(self.vectors, Product { row, steps: &self.steps, output: numbers });
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for RunRow {
    as_op!();

    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact([1, self.steps.rows()])))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As a file holds them: bytes, and for each block a step and a zero point.
    fn stored(counts: &[i8], seed: f32) -> Vec<f32> {
        let blocks = counts.as_chunks::<BLOCK>().0.iter().enumerate();
        blocks
            .flat_map(|(at, counts)| {
                let step = 1e-4 + (at as f32 * seed).sin().abs() * 3e-4;
                let zero = ((at as f32 * seed).cos() * 100.0).round();
                counts.iter().map(move |count| (f32::from(*count) - zero) * step)
            })
            .collect()
    }

    proptest! {
        #[test]
        fn a_row_by_bytes_is_the_product(
            (blocks, counts) in (1usize..4).prop_flat_map(|blocks| {
                let rows = (1usize..20).prop_flat_map(move |rows| {
                    prop::collection::vec(any::<i8>(), BLOCK * blocks * rows)
                });
                (Just(blocks), rows)
            }),
            seed in 1u16..1000,
        ) {
            let depth = BLOCK * blocks;
            let weights = stored(&counts, f32::from(seed));
            let row: Vec<f32> =
                (0..depth).map(|at| (at as f32 * f32::from(seed)).sin()).collect();
            let steps = Steps::of(&weights, depth).unwrap();
            let exact: Vec<f64> = weights
                .chunks(depth)
                .map(|line| line.iter().zip(&row).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum())
                .collect();
            for vectors in Vectors::all() {
                let mut output = vec![0.0; steps.rows()];
                dispatch(vectors, Product { row: &row, steps: &steps, output: &mut output });
                for (ours, exact) in output.iter().zip(&exact) {
                    prop_assert!((f64::from(*ours) - exact).abs() <= 1e-4, "{ours} {exact} {vectors:?}");
                }
            }
        }
    }

    #[test]
    fn only_blocks_of_whole_steps_become_bytes() {
        let counts: Vec<i8> = (-128i8..=127).collect();
        let weights = stored(&counts, 0.7);
        let steps = Steps::of(&weights, 128).unwrap();
        assert_eq!((steps.rows(), steps.blocks.len()), (2, 4));
        for (at, (count, weight)) in steps.counts.iter().zip(&weights).enumerate() {
            let Block { step, shift } = steps.blocks[at / BLOCK];
            assert!(((f32::from(*count) + shift) * step - weight).abs() <= 1e-6 * weight.abs());
        }
        let mut altered = weights.clone();
        altered[3] *= 1.01;
        assert_eq!(Steps::of(&altered, 128), None);
        assert_eq!(Steps::of(&weights, 96), None);
        assert_eq!(Steps::of(&weights[1..], 64), None);
        assert!(Steps::of(&[0.0; 64], 64).is_some());
        assert_eq!(Steps::of(&[f32::NAN; 64], 64), None);
        assert_eq!(Steps::of(&[f32::INFINITY; 64], 64), None);
    }

    #[test]
    fn sface_s_last_layer_is_read_as_bytes() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/sface.onnx");
        let graph = super::super::super::model::graph_of(&path, [1, 3, 112, 112]);
        for (vectors, fast) in super::super::tests::rewritten(&graph) {
            assert!(fast.nodes.iter().any(TypedNode::op_is::<RunRow>), "{vectors}");
        }
    }
}
