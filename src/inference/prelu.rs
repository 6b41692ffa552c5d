//! `PRelu` in one pass over memory.
//!
//! tract lowers it into three generic operators, each a pass with a temporary tensor: two thirds of
//! `SFace`'s time. This one gives the same numbers, bit for bit, in place.

#[cfg_attr(
    not(test),
    expect(clippy::wildcard_imports, reason = "tract's macros expect its whole prelude in scope")
)]
use tract_onnx::tract_hir::internal::*;

/// tract's ONNX reader, with `PRelu` replaced by the operator of this file.
pub(super) fn onnx() -> tract_onnx::Onnx {
    let mut onnx = tract_onnx::onnx();
    onnx.op_register.insert("PRelu", |_, _| Ok((expand(PReluRule), vec![])));
    onnx
}

/// x where x ≥ 0, slope·x elsewhere; one slope for each channel of an NC… tensor, or one for all.
#[derive(Debug, Clone, Hash, PartialEq, Eq)]
pub(super) struct PRelu;

impl Op for PRelu {
    fn name(&self) -> StaticName {
        "PRelu".into()
    }

    op_as_typed_op!();
}

impl EvalOp for PRelu {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (values, slopes) = args_2!(inputs);
        let mut values = values.into_tensor();
        let plane: usize = values.shape().iter().skip(2).product();
        let channels = values.shape().get(1).copied().unwrap_or(1);
        let slopes = slopes.to_plain_array_view::<f32>()?;
        let slopes = slopes.as_slice().context("slopes are not contiguous")?;
        ensure!(slopes.len() == 1 || slopes.len() == channels, "one slope, or one a channel");
        let mut view = values.to_plain_array_view_mut::<f32>()?;
        let numbers = view.as_slice_mut().context("values are not contiguous")?;
        let planes = numbers.chunks_exact_mut(plane.max(1));
        for (plane, slope) in planes.zip(slopes.iter().cycle().copied()) {
            apply(plane, slope);
        }
        Ok(tvec!(values.into_tvalue()))
    }
}

fn apply(plane: &mut [f32], slope: f32) {
    for value in plane {
        *value = if *value < 0.0 { *value * slope } else { *value };
    }
}

impl TypedOp for PRelu {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let values = inputs.first().context("PRelu without input")?;
        Ok(tvec!(values.without_value()))
    }
}

/// The operator before shapes are known.
#[derive(Debug, Clone, Hash, PartialEq, Eq)]
struct PReluRule;

impl Expansion for PReluRule {
    fn name(&self) -> StaticName {
        "PRelu".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 2)?;
        check_output_arity(outputs, 1)?;
        let ([values, _], [output]) = (inputs, outputs) else { bail!("PRelu has two inputs") };
        solver.equals(&values.datum_type, &output.datum_type)?;
        solver.equals(&values.shape, &output.shape)?;
        Ok(())
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        model.wire_node(prefix, PRelu, inputs)
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the two ways are promised to agree bit for bit")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn one_pass_gives_what_the_definition_says(
            values in prop::collection::vec(-4.0f32..4.0, 24),
            slopes in prop::collection::vec(-1.0f32..1.0, 3),
        ) {
            let input = Tensor::from_shape(&[1, 3, 2, 4], &values).unwrap();
            let slope = Tensor::from_shape(&[3, 1, 1], &slopes).unwrap();
            let output = PRelu
                .eval(&EvalContext::out_of_plan(), tvec!(input.into_tvalue(), slope.into_tvalue()))
                .unwrap();
            let output = output[0].to_plain_array_view::<f32>().unwrap();
            for (index, (got, value)) in output.iter().zip(&values).enumerate() {
                let expected = value.max(0.0) + slopes[index / 8] * value.min(0.0);
                prop_assert_eq!(*got, expected);
            }
        }
    }
}
