//! One row by a large matrix, whose numbers are read as the bytes that they were stored as.
//!
//! Behind its trunk `SFace` multiplies 50,176 numbers with 128 rows of as many weights. As floats these are
//! 26 MB, each read once a picture: the time is the memory's, and what else was in the caches is gone after it.
//! The file holds them as whole numbers of one step, and as such they are a quarter. Nothing is rounded that was
//! not: a matrix that is not exactly such multiples stays as it is.
#![expect(
    clippy::indexing_slicing,
    clippy::inline_always,
    clippy::float_cmp,
    reason = "sizes are checked once a block, where slices are cut; registers do not cross a call; a \
              number is so many steps to the last bit or not at all"
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

/// A matrix of whole numbers of one step, row-major.
#[derive(Debug, PartialEq)]
struct Steps {
    step: f32,
    counts: Vec<i8>,
    /// Numbers a row.
    depth: usize,
}

impl Steps {
    /// The matrix in steps; nothing where a number is not exactly so many of them.
    fn of(weights: &[f32], depth: usize) -> Option<Self> {
        let sizes = weights.iter().map(|weight| weight.abs()).filter(|size| *size > 0.0);
        let step = sizes.reduce(f32::min)?;
        let counts = weights.iter().map(|weight| {
            let count = (weight / step).round();
            let is_exact = (-128.0..=127.0).contains(&count) && count * step == *weight;
            #[expect(clippy::cast_possible_truncation, reason = "a whole number from -128 to 127")]
            is_exact.then_some(count as i8)
        });
        let counts = counts.collect::<Option<Vec<_>>>()?;
        let is_whole = depth > 0 && counts.len().is_multiple_of(depth);
        is_whole.then_some(Self { step, counts, depth })
    }

    fn rows(&self) -> usize {
        self.counts.len() / self.depth
    }
}

/// A row by a matrix.
struct Product<'a> {
    row: &'a [f32],
    steps: &'a Steps,
    output: &'a mut [f32],
}

impl Kernel for Product<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Steps { step, counts, depth } = self.steps;
        for (counts, output) in counts.chunks(AT_ONCE * depth).zip(self.output.chunks_mut(AT_ONCE))
        {
            if output.len() == AT_ONCE {
                block::<S, AT_ONCE>(simd, self.row, counts, *step, output);
            } else {
                for (counts, output) in counts.chunks(*depth).zip(output.chunks_mut(1)) {
                    block::<S, 1>(simd, self.row, counts, *step, output);
                }
            }
        }
    }
}

/// The row by `N` rows of the matrix.
#[inline(always)]
fn block<S: Simd, const N: usize>(
    simd: S,
    row: &[f32],
    counts: &[i8],
    step: f32,
    output: &mut [f32],
) {
    let numbers = S::vectors(row);
    let mut lines: [&[S::Bytes]; N] = [&[]; N];
    for (line, counts) in lines.iter_mut().zip(counts.chunks_exact(row.len())) {
        *line = &S::bytes(counts)[..numbers.len()];
    }
    let mut sums = [simd.splat(0.0); N];
    for (at, number) in numbers.iter().enumerate() {
        let number = simd.load(number);
        for (sum, line) in sums.iter_mut().zip(&lines) {
            *sum = simd.mul_add(number, simd.load_bytes(&line[at]), *sum);
        }
    }
    let done = numbers.len() * S::LEN;
    for ((output, sum), counts) in output.iter_mut().zip(sums).zip(counts.chunks_exact(row.len())) {
        let mut total = simd.total(sum);
        for (number, count) in row[done..].iter().zip(&counts[done..]) {
            total += number * f32::from(*count);
        }
        *output = total * step;
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

    use super::super::super::isa::Isa;
    use super::*;

    proptest! {
        #[test]
        fn a_row_by_bytes_is_the_product(
            (depth, counts) in (1usize..70).prop_flat_map(|depth| {
                (Just(depth), (1usize..20).prop_flat_map(move |rows| {
                    prop::collection::vec(any::<i8>(), depth * rows)
                }))
            }),
            step in 1e-4f32..1.0,
            seed in 1u16..1000,
        ) {
            let weights: Vec<f32> = counts.iter().map(|count| f32::from(*count) * step).collect();
            let row: Vec<f32> = (0..depth)
                .map(|at| (at as f32 * f32::from(seed)).sin())
                .collect();
            let steps = Steps { step, counts, depth };
            let exact: Vec<f64> = weights
                .chunks(depth)
                .map(|line| line.iter().zip(&row).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum())
                .collect();
            for isa in Isa::ALL {
                let Some(vectors) = Vectors::of(isa) else { continue };
                let mut output = vec![0.0; steps.rows()];
                dispatch(vectors, Product { row: &row, steps: &steps, output: &mut output });
                for (ours, exact) in output.iter().zip(&exact) {
                    let bound = 1e-5 * f64::from(step) * 128.0 * depth as f64;
                    prop_assert!((f64::from(*ours) - exact).abs() <= bound, "{ours} {exact} {isa}");
                }
            }
        }
    }

    #[test]
    fn only_exact_multiples_of_one_step_become_bytes() {
        let step = 0.000_154_236_5_f32;
        let weights: Vec<f32> = (-128i8..=127).map(|count| f32::from(count) * step).collect();
        let steps = Steps::of(&weights, 16).unwrap();
        assert_eq!((steps.step, steps.rows()), (step, 16));
        assert!(steps.counts.iter().copied().eq(-128i8..=127));
        let mut altered = weights.clone();
        altered[3] = altered[3].next_up();
        assert_eq!(Steps::of(&altered, 16), None);
        // 128 steps are no byte, and nothing is no matrix.
        assert_eq!(Steps::of(&[step, 128.0 * step], 2), None);
        assert_eq!(Steps::of(&[0.0, 0.0], 2), None);
        assert_eq!(Steps::of(&weights, 15), None);
    }
}
