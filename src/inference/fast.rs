//! The fast plan of a graph, if it proves itself against the plain one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::format_err;

use super::isa::Isa;
#[cfg(target_arch = "x86_64")]
use super::nhwc::rewrite;
use crate::domain::embedding::ModelId;

/// A plan that runs, and what it runs on.
pub(super) struct Plan {
    pub(super) isa: Isa,
    pub(super) runnable: Arc<TypedRunnableModel>,
}

/// Compiles a graph for `isa`. The fast plan and the plain one are run on the same fixed input;
/// where they disagree, or the fast one fails, a warning is logged and a simpler one is tried, at last the plain one.
pub(super) fn plan(id: ModelId, graph: TypedModel, isa: Isa) -> TractResult<Plan> {
    proven(id, graph, isa.and_simpler(), rewrite)
}

/// Without kernels for this processor every plan is plain.
#[cfg(not(target_arch = "x86_64"))]
fn rewrite(_: &TypedModel, _: Isa) -> TractResult<Option<TypedModel>> {
    Ok(None)
}

fn proven(
    id: ModelId,
    graph: TypedModel,
    kinds: impl IntoIterator<Item = Isa>,
    rewrite: impl Fn(&TypedModel, Isa) -> TractResult<Option<TypedModel>>,
) -> TractResult<Plan> {
    let plain = graph.clone().into_optimized()?.into_runnable()?;
    let mut kinds = kinds.into_iter().filter(|isa| *isa != Isa::Plain).peekable();
    while let Some(isa) = kinds.next() {
        let next = kinds.peek().copied().unwrap_or(Isa::Plain);
        match tried(&plain, rewrite(&graph, isa)) {
            Ok(Some((runnable, difference))) if difference <= DIFFERENCE_MAX => {
                return Ok(Plan { isa, runnable });
            }
            Ok(Some((_, difference))) => tracing::warn!(
                model = %id, %isa, %next, difference,
                "the fast kernels disagree with the plain operators; the next kind takes their place"
            ),
            Ok(None) => break,
            Err(error) => tracing::warn!(
                model = %id, %isa, %next, error = %format!("{error:#}"),
                "the fast kernels cannot be used; the next kind takes their place"
            ),
        }
    }
    Ok(Plan { isa: Isa::Plain, runnable: plain })
}

/// A rewritten graph that runs, and how far it is from the plain one; nothing where nothing was rewritten.
fn tried(
    plain: &Arc<TypedRunnableModel>,
    fast: TractResult<Option<TypedModel>>,
) -> TractResult<Option<(Arc<TypedRunnableModel>, f32)>> {
    let Some(fast) = fast? else { return Ok(None) };
    let fast = fast.into_optimized()?.into_runnable()?;
    let difference = catch_unwind(AssertUnwindSafe(|| difference(plain, &fast)))
        .unwrap_or_else(|_| Err(format_err!("a kernel panicked")))?;
    Ok(Some((fast, difference)))
}

/// The largest difference between the outputs of two plans for the input of [`trial`], as a share
/// of the largest number of that output where it is over one; infinite when it is no number.
fn difference(plain: &Arc<TypedRunnableModel>, fast: &Arc<TypedRunnableModel>) -> TractResult<f32> {
    let input = plain.model().input_fact(0)?;
    let shape = input.shape.as_concrete().map_or_else(Vec::new, <[usize]>::to_vec);
    let input = Tensor::from_shape(&shape, &trial(shape.iter().product()))?.into_tvalue();
    let (plain, fast) = (plain.run(tvec!(input.clone()))?, fast.run(tvec!(input))?);
    let mut worst = if plain.len() == fast.len() { 0.0 } else { f32::INFINITY };
    for (plain, fast) in plain.iter().zip(&fast) {
        if plain.shape() != fast.shape() {
            return Ok(f32::INFINITY);
        }
        let (plain, fast) =
            (plain.to_plain_array_view::<f32>()?, fast.to_plain_array_view::<f32>()?);
        let largest = plain.iter().fold(1.0f32, |largest, value| largest.max(value.abs()));
        for (plain, fast) in plain.iter().zip(&fast) {
            let difference = (plain - fast).abs() / largest;
            // The greater of a NaN and a number is the number.
            worst = worst.max(if difference.is_nan() { f32::INFINITY } else { difference });
        }
    }
    Ok(worst)
}

/// Numbers from 0 to 255 without a pattern that a network could be blind to, always the same.
fn trial(len: usize) -> Vec<f32> {
    let mut state = 0x2545_f491u32;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        f32::from(state.to_le_bytes()[3])
    })
    .take(len)
    .collect()
}

/// Sums in another order differ by rounding only: measured, under 1e-5; by tiles, under 3e-5.
const DIFFERENCE_MAX: f32 = 1e-4;

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use tract_onnx::tract_core::ops::math;

    use super::*;

    const ID: ModelId = ModelId::new([7; 32]);

    /// A graph that adds a constant to its input.
    fn graph(term: f32) -> TypedModel {
        let mut graph = TypedModel::default();
        let x = graph.add_source("x", f32::fact([1, 3, 2, 2])).unwrap();
        let term = Tensor::from_shape(&[1, 1, 1, 1], &[term]).unwrap();
        let term = graph.add_const("term", term).unwrap();
        let y = graph.wire_node("y", math::add(), &[x, term]).unwrap();
        graph.select_output_outlets(&y).unwrap();
        graph
    }

    fn answer(plan: &Plan) -> f32 {
        let input = Tensor::from_shape(&[1, 3, 2, 2], &[1.0f32; 12]).unwrap().into_tvalue();
        let output = plan.runnable.run(tvec!(input)).unwrap();
        output[0].to_plain_array_view::<f32>().unwrap()[[0, 0, 0, 0]]
    }

    /// A log that is kept.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn proven_with(
        rewrite: impl Fn(&TypedModel, Isa) -> TractResult<Option<TypedModel>>,
    ) -> (Plan, String) {
        proven_for(&[Isa::Avx2, Isa::Plain], rewrite)
    }

    fn proven_for(
        kinds: &[Isa],
        rewrite: impl Fn(&TypedModel, Isa) -> TractResult<Option<TypedModel>>,
    ) -> (Plan, String) {
        let log = Log::default();
        let writer = log.clone();
        let log_to = tracing_subscriber::fmt().with_ansi(false);
        let subscriber = log_to.with_writer(move || writer.clone()).finish();
        let plan = tracing::subscriber::with_default(subscriber, || {
            proven(ID, graph(2.0), kinds.iter().copied(), rewrite).unwrap()
        });
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        (plan, log)
    }

    #[test]
    fn a_rewrite_that_agrees_is_used_without_a_word() {
        let (plan, log) = proven_with(|_, _| Ok(Some(graph(2.000_01))));
        assert_eq!((plan.isa, log.as_str()), (Isa::Avx2, ""));
        assert!((answer(&plan) - 3.000_01).abs() < 1e-6);
    }

    #[test]
    fn a_wrong_rewrite_is_told_and_at_last_the_plain_operators_are_used() {
        // The largest output is 257: a ten-thousandth of that is allowed.
        for term in [2.1, f32::NAN, f32::INFINITY] {
            let (plan, log) = proven_with(|_, _| Ok(Some(graph(term))));
            assert_eq!((plan.isa, answer(&plan)), (Isa::Plain, 3.0));
            assert!(log.contains("WARN") && log.contains("disagree"), "{log:?}");
            assert!(log.contains("isa=avx2 next=plain"), "{log:?}");
        }
    }

    #[test]
    fn a_rewrite_that_fails_is_told_and_at_last_the_plain_operators_are_used() {
        let (plan, log) = proven_with(|_, _| Err(format_err!("no such kernel")));
        assert_eq!((plan.isa, answer(&plan)), (Isa::Plain, 3.0));
        assert!(log.contains("WARN") && log.contains("no such kernel"), "{log:?}");
    }

    #[test]
    fn simpler_kernels_are_used_where_the_first_are_wrong() {
        let kinds = [Isa::Amx, Isa::Avx512, Isa::Avx2, Isa::Plain];
        for (wrong, used, told) in [
            (&kinds[..0], Isa::Amx, &[][..]),
            (&kinds[..1], Isa::Avx512, &["isa=amx next=avx512"]),
            (&kinds[..2], Isa::Avx2, &["isa=amx next=avx512", "isa=avx512 next=avx2"]),
            (
                &kinds[..3],
                Isa::Plain,
                &["isa=amx next=avx512", "isa=avx512 next=avx2", "isa=avx2 next=plain"],
            ),
            // What is never asked is never told of.
            (&kinds[1..2], Isa::Amx, &[]),
        ] {
            for fails in [false, true] {
                let (plan, log) =
                    proven_for(&kinds, |_, isa| match (wrong.contains(&isa), fails) {
                        (true, true) => Err(format_err!("no such kernel")),
                        (is_wrong, _) => Ok(Some(graph(if is_wrong { 2.1 } else { 2.0 }))),
                    });
                assert_eq!((plan.isa, answer(&plan)), (used, 3.0));
                assert_eq!(log.matches("WARN").count(), told.len(), "{log:?}");
                assert!(log.lines().zip(told).all(|(line, told)| line.contains(told)), "{log:?}");
            }
        }
    }

    #[test]
    fn what_has_no_trunk_stays_plain_without_a_word() {
        let (plan, log) = proven_with(|_, _| Ok(None));
        assert_eq!((plan.isa, log.as_str()), (Isa::Plain, ""));
    }
}
