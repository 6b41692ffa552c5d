//! Constants of a graph.

use std::sync::Arc;

use tract_onnx::tract_hir::internal::{OutletId, Tensor, TypedModel};

/// The constant that a value is; the reader writes some behind a cast to the type they have.
pub(super) fn constant(model: &TypedModel, outlet: OutletId) -> Option<Arc<Tensor>> {
    let fixed = |outlet| model.outlet_fact(outlet).ok().and_then(|fact| fact.konst.clone());
    fixed(outlet).or_else(|| match (model.node(outlet.node).op.name().as_ref(), outlet.slot) {
        ("Cast", 0) => fixed(*model.node(outlet.node).inputs.first()?),
        _ => None,
    })
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
