//! The fast way through a network's trunk: pixels of channels instead of planes.
//!
//! tract keeps pictures as planes (NCHW) and runs one operator after the other, each a pass over
//! memory. Here the part of the graph between its input and its last convolution, the **trunk**,
//! becomes one operator with a program of its own:
//!
//! - **Layout** ([`memory`]): channels innermost (NHWC), their count rounded up to 16, so that a
//!   register holds channels of one pixel and no kernel has a remainder. A value has a border of
//!   zeros where a reader's kernel reaches over the edge, so that no kernel has an edge case.
//!   Values lie in a few slots of memory that each thread uses again.
//! - **Fusion** ([`rewrite`], [`program`]): a convolution takes in the batch norm, bias, residual,
//!   activation and 2×2 pool behind it. What exporters write as many operators becomes one
//!   ([`patterns`]), and the program is made cheaper as a whole ([`improve`]): joined values are
//!   written where they lie, repeated pixels are treated once, YuNet's narrow heads side by side.
//! - **Stages** ([`plan`]): steps that read row for row what the step before them wrote go through a
//!   picture strip by strip, within the second-level cache.
//! - **Kernels**: dense convolutions as implicit matrix products ([`matrix`]), large ones by the tiles
//!   of AMX where there are some ([`pieces`], [`tiles`]), the first one straight from the planes
//!   ([`planar`]), those of 3×3 with fewer products ([`winograd`]), depthwise ones ([`depthwise`]), the
//!   pair of a 1×1 and a depthwise one ([`strip`]), two 1×1 with many channels between ([`pair`]), norms
//!   ([`norm`]), curves ([`curve`]), and what only moves or adds ([`simple`]); written once, for the
//!   vectors of [`simd`].
//! - **Behind the trunk** a row by a matrix of stored bytes ([`row`]).
//! - **Sizes** ([`trunk`]): the same packed weights serve pictures of other sizes.
//!
//! Sums are added in another order than tract's, with each product rounded once (FMA): results differ
//! by rounding, and where tiles multiply by a little more. `Model::compile` compares both ways at the start.

mod constant;
mod curve;
mod depthwise;
mod improve;
mod joins;
mod matrix;
mod memory;
#[cfg(test)]
mod minutiae_tests;
mod norm;
mod packed;
mod pair;
mod patterns;
mod pending;
mod pieces;
mod plan;
mod planar;
mod program;
mod rewrite;
mod row;
mod simd;
mod simple;
mod strip;
#[cfg(test)]
pub(super) mod tests;
mod tiles;
mod trunk;
#[cfg(test)]
mod twice;
mod winograd;

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tract_onnx::tract_core::ops::source::TypedSource;
#[cfg_attr(
    not(test),
    expect(clippy::wildcard_imports, reason = "tract's macros expect its whole prelude in scope")
)]
use tract_onnx::tract_hir::internal::*;

use super::isa::Isa;
use rewrite::Found;
use simd::Vectors;

pub(super) use simd::leave_wide_registers;
use simple::Order;
pub(super) use tiles::has_tiles;
use trunk::{Scratch, Trunk};

/// The graph with its trunk as one operator; nothing where the processor has no vectors for it, or
/// the graph no trunk.
pub(super) fn rewrite(model: &TypedModel, isa: Isa) -> TractResult<Option<TypedModel>> {
    Vectors::of(isa).map_or(Ok(None), |vectors| rewrite_for(model, vectors))
}

/// The same for vectors that there are.
fn rewrite_for(model: &TypedModel, vectors: Vectors) -> TractResult<Option<TypedModel>> {
    let Some(Found { program, entry, exports }) = rewrite::find(model)? else { return Ok(None) };
    let trunk = RunTrunk(Arc::new(Trunk::pack(program, vectors)));
    let needed = needed(model, entry, &exports);
    let mut target = TypedModel { symbols: model.symbols.clone(), ..TypedModel::default() };
    let mut known: HashMap<OutletId, OutletId> = HashMap::new();
    for id in model.eval_order()? {
        if !needed.contains(&id) {
            continue;
        }
        let node = model.node(id);
        if node.inputs.iter().any(|outlet| exports.contains(outlet) && !known.contains_key(outlet))
        {
            wire_trunk(&mut target, &trunk, entry, &exports, &mut known)?;
        }
        let inputs: TVec<OutletId> =
            node.inputs.iter().map(|outlet| find(&known, *outlet)).collect::<TractResult<_>>()?;
        let outputs = if node.op_is::<TypedSource>() {
            tvec!(target.add_source(&node.name, model.outlet_fact(id.into())?.clone())?)
        } else if let Some(product) = row::find(model, node, vectors)? {
            let row = inputs.first().context("a product has a row")?;
            target.wire_node(&node.name, product, &[*row])?
        } else {
            target.wire_node(&node.name, node.op.clone(), &inputs)?
        };
        for (slot, outlet) in outputs.into_iter().enumerate() {
            known.insert(OutletId::new(id, slot), outlet);
        }
    }
    if exports.iter().any(|outlet| !known.contains_key(outlet)) {
        wire_trunk(&mut target, &trunk, entry, &exports, &mut known)?;
    }
    let outputs: Vec<OutletId> =
        model.outputs.iter().map(|outlet| find(&known, *outlet)).collect::<TractResult<_>>()?;
    target.select_output_outlets(&outputs)?;
    Ok(Some(target))
}

/// A graph that is one trunk and nothing else, for a picture of another size and with the same
/// weights in memory; nothing where there is more in the graph, or sizes are not treated alike.
pub(super) fn scaled(
    model: &TypedModel,
    height: usize,
    width: usize,
) -> TractResult<Option<TypedModel>> {
    let mut trunks =
        model.nodes.iter().rev().filter_map(|node| Some((node, node.op_as::<RunTrunk>()?)));
    let Some((node, RunTrunk(trunk))) = trunks.next() else { return Ok(None) };
    let leaves: Vec<OutletId> =
        (0..node.outputs.len()).map(|slot| (node.id, slot).into()).collect();
    let (true, [input], 2) = (model.outputs == leaves, model.inputs.as_slice(), model.nodes.len())
    else {
        return Ok(None);
    };
    let Some(trunk) = trunk.scaled(height, width) else { return Ok(None) };
    let trunk = RunTrunk(Arc::new(trunk));
    let mut target = TypedModel { symbols: model.symbols.clone(), ..TypedModel::default() };
    let planes = model.outlet_fact(*input)?.shape.get(1).cloned().unwrap_or_default();
    let shape = [1.to_dim(), planes, height.to_dim(), width.to_dim()];
    let source = target.add_source("picture", f32::fact(&shape))?;
    let outputs = target.wire_node("trunk", trunk, &[source])?;
    target.select_output_outlets(&outputs)?;
    Ok(Some(target))
}

fn find(known: &HashMap<OutletId, OutletId>, outlet: OutletId) -> TractResult<OutletId> {
    known.get(&outlet).copied().context("a value is read before it is made")
}

/// The nodes that the outputs are made of when the trunk is one operator.
fn needed(model: &TypedModel, entry: OutletId, exports: &[OutletId]) -> HashSet<usize> {
    let mut needed = HashSet::new();
    let mut open: Vec<OutletId> = model.outputs.iter().copied().chain([entry]).collect();
    open.extend(model.inputs.iter());
    while let Some(outlet) = open.pop() {
        if !exports.contains(&outlet) && needed.insert(outlet.node) {
            open.extend(&model.node(outlet.node).inputs);
        }
    }
    needed
}

fn wire_trunk(
    target: &mut TypedModel,
    trunk: &RunTrunk,
    entry: OutletId,
    exports: &[OutletId],
    known: &mut HashMap<OutletId, OutletId>,
) -> TractResult<()> {
    let entry = find(known, entry)?;
    let outputs = target.wire_node("trunk", trunk.clone(), &[entry])?;
    known.extend(exports.iter().copied().zip(outputs));
    Ok(())
}

/// The trunk as an operator of a graph.
#[derive(Debug, Clone)]
struct RunTrunk(Arc<Trunk>);

impl PartialEq for RunTrunk {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for RunTrunk {}

impl RunTrunk {
    fn shapes(&self) -> impl Iterator<Item = [usize; 4]> {
        self.0.exports().map(|export| {
            let (extent, factor) = (export.extent, export.factor);
            let [height, width] = [extent.height * factor, extent.width * factor];
            let channels = extent.channels / (factor * factor);
            match export.order {
                Order::Planes => [1, channels, height, width],
                Order::Pixels => [1, height, width, channels],
            }
        })
    }
}

impl Op for RunTrunk {
    fn name(&self) -> StaticName {
        "Trunk".into()
    }

    op_as_typed_op!();
}

impl EvalOp for RunTrunk {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let picture = args_1!(inputs);
        let picture = picture.to_plain_array_view::<f32>()?;
        let picture = picture.as_slice().context("the picture is not contiguous")?;
        ensure!(picture.len() == self.0.picture_len(), "the picture has another size");
        let mut scratch = SCRATCH.take();
        self.0.run(picture, &mut scratch);
        let outputs = self.shapes().enumerate().map(|(number, shape)| {
            let mut output = Tensor::zero::<f32>(&shape)?;
            let mut view = output.to_plain_array_view_mut::<f32>()?;
            let numbers = view.as_slice_mut().context("an output is not contiguous")?;
            self.0.export(number, &scratch, numbers);
            Ok(output.into_tvalue())
        });
        let outputs = outputs.collect();
        SCRATCH.set(scratch);
        outputs
    }
}

impl TypedOp for RunTrunk {
    as_op!();

    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(self.shapes().map(f32::fact).collect())
    }
}

/// Wipes and frees what this thread's models ran in; the next run takes memory anew.
pub(super) fn forget() {
    drop(SCRATCH.take());
}

/// Whether this thread holds what its models ran in.
#[cfg(test)]
pub(super) fn remembers() -> bool {
    let scratch = SCRATCH.take();
    let is_something = format!("{scratch:?}") != format!("{:?}", Scratch::default());
    SCRATCH.set(scratch);
    is_something
}

thread_local! {
    /// Taken out for a run and put back; it grows to the largest model that the thread has run.
    static SCRATCH: Cell<Scratch> = Cell::default();
}
