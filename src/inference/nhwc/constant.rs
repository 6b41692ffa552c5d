//! Constants of a graph.

use std::sync::Arc;

use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_hir::internal::{
    IntoTValue as _, IntoTensor as _, OutletId, Tensor, TypedModel, tvec,
};

/// The constant that a value is; the reader writes some behind a cast to the type they have, or
/// behind axes that are added to them.
pub(super) fn constant(model: &TypedModel, outlet: OutletId) -> Option<Arc<Tensor>> {
    if let Some(fixed) = &model.outlet_fact(outlet).ok()?.konst {
        return Some(Arc::clone(fixed));
    }
    let node = model.node(outlet.node);
    let [source] = *node.inputs.as_slice() else { return None };
    if node.op.name() == "Cast" {
        return constant(model, source);
    }
    let AxisOp::Add(_) = node.op_as::<AxisOp>()? else { return None };
    let fixed = constant(model, source)?;
    let reshaped = node.op.eval_out_of_plan(tvec!(fixed.into_tvalue())).ok()??;
    reshaped.into_iter().next().map(|tensor| Arc::new(tensor.into_tensor()))
}

/// Its numbers, row-major.
pub(super) fn numbers(tensor: &Tensor) -> Option<Vec<f32>> {
    let tensor = tensor.cast_to::<f32>().ok()?;
    Some(tensor.to_plain_array_view::<f32>().ok()?.iter().copied().collect())
}

/// Its only number.
pub(super) fn scalar(tensor: &Tensor) -> Option<f32> {
    match numbers(tensor)?.as_slice() {
        [only] => Some(*only),
        _ => None,
    }
}

/// One number for each channel of an NCHW value.
pub(super) fn per_channel(tensor: &Tensor, channels: usize) -> Option<Vec<f32>> {
    match (numbers(tensor)?, tensor.shape()) {
        (each, [.., axis, 1, 1]) if *axis == channels && each.len() == channels => Some(each),
        (each, _) => match each.as_slice() {
            [all] => Some(vec![*all; channels]),
            _ => None,
        },
    }
}
