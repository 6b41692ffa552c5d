//! Finds the trunk of a graph and tells it as a [`Program`].
//!
//! The trunk begins at the input of the first convolution. Nodes are taken in the order of
//! evaluation; one belongs to the trunk when it is of a kind known here and all that it reads
//! (constants aside) belongs to it. A convolution is **pending** until somebody reads it: batch
//! norms, biases, residuals, activations and pools that come behind are taken into it on the way.
//! What exporters write as many operators, and is one, was found before ([`patterns`]). What another
//! node reads of the trunk is an export.
//!
//! [`patterns`]: super::patterns

use std::collections::{HashMap, HashSet};

use tract_onnx::tract_core::ops::array::{Pad, PadMode, TypedConcat};
use tract_onnx::tract_core::ops::binary::TypedBinOp;
use tract_onnx::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PoolSpec, SumPool};
use tract_onnx::tract_core::ops::element_wise::ElementWiseOp;
use tract_onnx::tract_core::ops::math;
use tract_onnx::tract_core::ops::nn::gelu_approximate::GeluApproximate;
use tract_onnx::tract_core::ops::nn::{DataFormat, Reduce, Reducer, Sigmoid};
use tract_onnx::tract_hir::internal::{
    DatumType, IntoTValue as _, OutletId, Tensor, TractErrorContext as _, TractResult, TypedModel,
    TypedNode, tvec,
};

use super::super::prelu::PRelu;
use super::constant::{constant, numbers, per_channel, scalar};
use super::curve::Curve;
use super::improve::improve;
use super::memory::Extent;
use super::patterns::Patterns;
use super::pending::{Known, Operand, Pending};
use super::program::{Activation, Convolution, Export, Program, Value, Work};
use super::simple::{Keep, Order, Window};

/// A trunk in a graph.
pub(super) struct Found {
    pub(super) program: Program,
    /// The value of the graph that the trunk reads.
    pub(super) entry: OutletId,
    /// The values of the graph that the program's exports stand for.
    pub(super) exports: Vec<OutletId>,
}

/// Looks for the trunk; there is none in a graph without a convolution of a known kind.
pub(super) fn find(model: &TypedModel) -> TractResult<Option<Found>> {
    let picture = Extent { height: 0, width: 0, channels: 0 };
    let program = Program { picture, values: vec![], steps: vec![], exports: vec![] };
    let mut finder = Finder {
        model,
        program,
        entry: None,
        imported: None,
        known: HashMap::new(),
        taken: HashSet::new(),
        patterns: Patterns::find(model),
    };
    let order = model.eval_order()?;
    for id in &order {
        finder.take(model.node(*id))?;
    }
    Ok(finder.finish(&order))
}

pub(super) struct Finder<'a> {
    model: &'a TypedModel,
    pub(super) program: Program,
    entry: Option<OutletId>,
    imported: Option<Value>,
    pub(super) known: HashMap<OutletId, Known>,
    /// Nodes of the graph that belong to the trunk.
    taken: HashSet<usize>,
    patterns: Patterns,
}

impl Finder<'_> {
    /// Takes a node into the trunk, if it belongs there.
    fn take(&mut self, node: &TypedNode) -> TractResult<()> {
        if self.patterns.inner.contains_key(&node.id) {
            return Ok(());
        }
        let taken = if let Some(pattern) = self.patterns.roots.remove(&node.id) {
            self.pattern(node, pattern)?
        } else if let Some(conv) = node.op_as::<Conv>() {
            self.convolution(node, conv)?
        } else if let Some(concat) = node.op_as::<TypedConcat>() {
            if concat.axis == 1 { self.concat(node)? } else { None }
        } else if node.op_is::<PRelu>() {
            self.prelu(node)
        } else if let Some(op) = node.op_as::<TypedBinOp>() {
            self.binary(node, op)?
        } else if let Some(pool) = node.op_as::<MaxPool>() {
            let plain = pool.with_index_outputs.is_none();
            if plain { self.pool(node, &pool.pool_spec, Keep::Greatest) } else { None }
        } else if let Some(pool) = node.op_as::<SumPool>() {
            if pool.normalize { self.pool(node, &pool.pool_spec, Keep::Mean) } else { None }
        } else if let Some(pad) = node.op_as::<Pad>() {
            self.pad(node, pad)?
        } else if let Some(reduce) = node.op_as::<Reduce>() {
            self.reduce(node, reduce)
        } else if let Some(op) = node.op_as::<ElementWiseOp>() {
            self.element_wise(node, op)
        } else if let Some(AxisOp::Move(1, 3)) = node.op_as::<AxisOp>() {
            self.exact(input(node, 0)?).map(Known::Moved)
        } else if node.op.name() == "Resize" {
            self.enlarge(node)?
        } else {
            None
        };
        if let Some(known) = taken {
            self.known.insert(node.id.into(), known);
            self.taken.insert(node.id);
            let inner = self.patterns.inner.iter().filter(|(_, root)| **root == node.id);
            self.taken.extend(inner.map(|(inner, _)| *inner));
        }
        Ok(())
    }

    fn convolution(&mut self, node: &TypedNode, conv: &Conv) -> TractResult<Option<Known>> {
        let Some(geometry) = self.geometry(node, conv)? else { return Ok(None) };
        let Geometry { from, to, by_channel, convolution } = geometry;
        let source = input(node, 0)?;
        let pending = |work, inputs| Some(Known::pending(work, inputs, to));
        // A single channel is a dense convolution too, for which more can be done.
        let work = if by_channel && to.channels > 1 { Work::ByChannel } else { Work::Dense };
        if !self.known.contains_key(&source) {
            if *self.entry.get_or_insert(source) != source {
                return Ok(None);
            }
            self.program.picture = from;
            if (!by_channel || from.channels == 1) && from.channels < NARROW {
                return Ok(pending(Work::FromPlanes(convolution), vec![]));
            }
            let value = self.import(from);
            return Ok(pending(work(convolution), vec![value]));
        }
        let pointwise = |before: &Pending| {
            matches!(&before.work, Work::Dense(first) if first.is_pointwise())
                && before.inputs.len() == 1
        };
        if by_channel
            && (convolution.kernel, convolution.dilation) == ([3, 3], [1, 1])
            && let Some(before) = self.pending_if(source, pointwise)
            && let Pending { work: Work::Dense(first), inputs, .. } = *before
        {
            return Ok(pending(Work::Strip(first, convolution), inputs));
        }
        Ok(self.exact(source).and_then(|value| pending(work(convolution), vec![value])))
    }

    /// Sizes and weights of a convolution of a known kind.
    fn geometry(&self, node: &TypedNode, conv: &Conv) -> TractResult<Option<Geometry>> {
        let spec = &conv.pool_spec;
        let by_channel = conv.group == spec.input_channels && conv.group == spec.output_channels;
        let (Some(from), Some(to)) = (self.extent(input(node, 0)?)?, self.extent(node.id.into())?)
        else {
            return Ok(None);
        };
        let known = conv.kernel_fmt == KernelFormat::OIHW
            && conv.q_params.is_none()
            && (conv.group == 1 || by_channel);
        let (
            Some(weights),
            Some(bias),
            Some(Reading { size: kernel, stride, dilation, before: padding, .. }),
        ) = (
            constant(self.model, input(node, 1)?),
            constant(self.model, input(node, 2)?),
            reading(spec, from),
        )
        else {
            return Ok(None);
        };
        let (Some(weights), Some(mut bias)) = (numbers(&weights), numbers(&bias)) else {
            return Ok(None);
        };
        if let [all] = *bias.as_slice() {
            bias = vec![all; to.channels];
        }
        let inputs = if by_channel { 1 } else { from.channels };
        let complete = weights.len() == to.channels * inputs * kernel.iter().product::<usize>();
        if !known || !complete || bias.len() != to.channels {
            return Ok(None);
        }
        let activation = Activation::Linear;
        let convolution = Convolution {
            weights,
            bias,
            activation,
            kernel,
            stride,
            dilation,
            padding,
            pooled: false,
        };
        Ok(Some(Geometry { from, to, by_channel, convolution }))
    }

    fn prelu(&mut self, node: &TypedNode) -> Option<Known> {
        let slope = constant(self.model, *node.inputs.get(1)?)?;
        self.activate(*node.inputs.first()?, Activation::Slope(numbers(&slope)?))
    }

    /// Gives a value an activation.
    pub(super) fn activate(&mut self, source: OutletId, activation: Activation) -> Option<Known> {
        let channels = self.known_extent(source)?.channels;
        let activation = match activation {
            Activation::Slope(slope) => Activation::Slope(match slope.as_slice() {
                [all] => vec![*all; channels],
                each if each.len() == channels => slope,
                _ => return None,
            }),
            other => other,
        };
        if let Some(mut before) = self.pending_if(source, |before| before.takes(&activation)) {
            before.activate(activation);
            return Some(Known::Pending(before));
        }
        let Operand { value, extent } = self.operand(source)?;
        Some(Known::pending(Work::Sum(activation), vec![value], extent))
    }

    fn binary(&mut self, node: &TypedNode, op: &TypedBinOp) -> TractResult<Option<Known>> {
        let (a, b) = (input(node, 0)?, input(node, 1)?);
        let (value, other) = if self.known.contains_key(&a) { (a, b) } else { (b, a) };
        if !self.known.contains_key(&value) {
            return Ok(None);
        }
        let same =
            self.model.outlet_fact(value)?.shape == self.model.outlet_fact(node.id.into())?.shape;
        let Some(fixed) = constant(self.model, other) else {
            let both = self.known.contains_key(&other);
            return Ok(match &op.0 {
                op if both && op.is::<math::Add>() => self.add(a, b),
                op if both && op.is::<math::Mul>() => self.gate(a, b),
                _ => None,
            });
        };
        if !same {
            return Ok(None);
        }
        if op.0.is::<math::Div>() && value == a {
            return Ok(self.divide(value, &fixed));
        }
        if op.0.is::<math::Max>() && scalar(&fixed) == Some(0.0) {
            return Ok(self.activate(value, Activation::Slope(vec![0.0])));
        }
        let channels = self.known_extent(value).map_or(0, |extent| extent.channels);
        let Some(each) = per_channel(&fixed, channels) else { return Ok(None) };
        let multiply = op.0.is::<math::Mul>();
        if !multiply && !op.0.is::<math::Add>() {
            return Ok(None);
        }
        let open =
            self.pending_if(value, |before| before.is_open() && before.is_bare_convolution());
        let Some(mut before) = open else { return Ok(None) };
        if let Some(convolution) = before.convolution_mut() {
            if multiply { convolution.scale(&each) } else { convolution.shift(&each) }
        }
        Ok(Some(Known::Pending(before)))
    }

    fn divide(&mut self, source: OutletId, divisor: &Tensor) -> Option<Known> {
        let Some(Known::Total(value)) = self.known.get(&source) else { return None };
        let (value, divisor) = (*value, scalar(divisor)?);
        let extent = Extent { height: 1, width: 1, ..self.program.extent(value) };
        Some(self.push(Work::Total(divisor), vec![value], extent))
    }

    fn pool(&mut self, node: &TypedNode, spec: &PoolSpec, keep: Keep) -> Option<Known> {
        let source = *node.inputs.first()?;
        let from = self.known_extent(source)?;
        let to = self.extent(node.id.into()).ok()??;
        let Reading { size, stride, dilation, before, after } = reading(spec, from)?;
        let window = Window { keep, size, stride };
        let ends =
            [(to.height, from.height, 0), (to.width, from.width, 1)].map(|(to, from, axis)| {
                let of = |pair: [usize; 2]| pair.get(axis).copied().unwrap_or(1);
                (
                    to.saturating_sub(1) * of(stride) + of(size),
                    to.saturating_sub(1) * of(stride),
                    from,
                )
            });
        let inside = ends.iter().all(|(end, start, from)| match keep {
            Keep::Greatest => start < from,
            Keep::Mean | Keep::Both(_) => end <= from,
        });
        if dilation != [1, 1]
            || before != [0, 0]
            || (keep == Keep::Mean && after != [0, 0])
            || !inside
        {
            return None;
        }
        let halves = Window { keep: Keep::Greatest, size: [2, 2], stride: [2, 2] };
        if window == halves
            && (to.height, to.width) == (from.height / 2, from.width / 2)
            && let Some(mut before) = self.pending_if(source, Pending::may_pool)
        {
            before.convolution_mut()?.pooled = true;
            before.extent = to;
            return Some(Known::Pending(before));
        }
        let value = self.exact(source)?;
        Some(self.push(Work::Pool(window), vec![value], to))
    }

    /// Zeros at the far ends: the value counts as larger.
    fn pad(&mut self, node: &TypedNode, pad: &Pad) -> TractResult<Option<Known>> {
        let zeros = matches!(&pad.mode, PadMode::Constant(fill) if scalar(fill) == Some(0.0));
        let far = pad.pads.iter().all(|(before, _)| *before == 0);
        let batch = pad.pads.first().is_none_or(|(_, after)| *after != 0);
        let Some(extent) = self.extent(node.id.into())? else { return Ok(None) };
        if !zeros || !far || batch {
            return Ok(None);
        }
        let operand = self.operand(input(node, 0)?);
        Ok(operand.map(|operand| Known::Ready(Operand { extent, ..operand })))
    }

    fn reduce(&mut self, node: &TypedNode, reduce: &Reduce) -> Option<Known> {
        let next = self.model.node(self.only_reader(node.id.into())?);
        let divided = next.op_as::<TypedBinOp>()?.0.is::<math::Div>()
            && next.inputs.first() == Some(&node.id.into())
            && scalar(constant(self.model, *next.inputs.get(1)?)?.as_ref()).is_some();
        let all = reduce.reducer == Reducer::Sum && reduce.axes.as_slice() == [2, 3];
        if !all || !divided {
            return None;
        }
        self.exact(*node.inputs.first()?).map(Known::Total)
    }

    fn element_wise(&mut self, node: &TypedNode, op: &ElementWiseOp) -> Option<Known> {
        let source = *node.inputs.first()?;
        if op.0.downcast_ref::<GeluApproximate>().is_some_and(|gelu| !gelu.fast_impl) {
            return self.activate(source, Activation::Curve(Curve::Gelu));
        }
        if !op.0.is::<Sigmoid>() {
            return None;
        }
        if self.gates(node, source).is_some() {
            return self.exact(source).map(Known::Squashed);
        }
        self.activate(source, Activation::Curve(Curve::Logistic))
    }

    /// Whether a function of one pixel is there for a multiplication of all pixels by it.
    fn gates(&self, node: &TypedNode, source: OutletId) -> Option<()> {
        let Extent { height: 1, width: 1, channels } = self.known_extent(source)? else {
            return None;
        };
        let next = self.model.node(self.only_reader(node.id.into())?);
        let other = next.inputs.iter().find(|outlet| **outlet != OutletId::from(node.id))?;
        let gates = next.op_as::<TypedBinOp>()?.0.is::<math::Mul>()
            && self.known_extent(*other)?.channels == channels;
        gates.then_some(())
    }

    /// A resize that repeats each pixel; the operator itself is asked, on a ramp.
    fn enlarge(&mut self, node: &TypedNode) -> TractResult<Option<Known>> {
        let source = input(node, 0)?;
        let (Some(from), Some(to)) = (self.known_extent(source), self.extent(node.id.into())?)
        else {
            return Ok(None);
        };
        let factor = to.height / from.height.max(1);
        let enlarged = Extent { height: from.height * factor, width: from.width * factor, ..from };
        if factor < 2 || to != enlarged {
            return Ok(None);
        }
        let count = from.channels * from.height * from.width;
        let ramp: Vec<f32> = (0..u16::MAX).cycle().take(count).map(f32::from).collect();
        let shape = [1, from.channels, from.height, from.width];
        let mut inputs = tvec!(Tensor::from_shape(&shape, &ramp)?.into_tvalue());
        for outlet in node.inputs.iter().skip(1) {
            let Some(fixed) = constant(self.model, *outlet) else { return Ok(None) };
            inputs.push(fixed.into_tvalue());
        }
        let Some(answer) = node.op.eval_out_of_plan(inputs)? else { return Ok(None) };
        let repeated = ramp.chunks_exact(from.width).flat_map(|row| {
            let row = row.iter().flat_map(move |number| std::iter::repeat_n(number, factor));
            std::iter::repeat_n(row, factor).flatten()
        });
        let answer = answer.first().and_then(|tensor| numbers(tensor)).unwrap_or_default();
        if !answer.iter().eq(repeated) {
            return Ok(None);
        }
        let Some(value) = self.exact(source) else { return Ok(None) };
        Ok(Some(self.push(Work::Enlarge(factor), vec![value], to)))
    }

    /// Height, width and channels of a value, if it is one picture of f32.
    pub(super) fn extent(&self, outlet: OutletId) -> TractResult<Option<Extent>> {
        let fact = self.model.outlet_fact(outlet)?;
        Ok(match fact.shape.as_concrete() {
            Some(&[1, channels, height, width]) if fact.datum_type == DatumType::F32 => {
                Some(Extent { height, width, channels })
            }
            _ => None,
        })
    }

    pub(super) fn known_extent(&self, outlet: OutletId) -> Option<Extent> {
        match self.known.get(&outlet)? {
            Known::Pending(pending) => Some(pending.extent),
            Known::Ready(operand) => Some(operand.extent),
            Known::Total(_) | Known::Squashed(_) | Known::Moved(_) => None,
        }
    }

    /// The one node that reads a value, if the value is no output of the model; for the operators of
    /// a pattern, the last of them.
    fn only_reader(&self, outlet: OutletId) -> Option<usize> {
        let fact = self.model.node(outlet.node).outputs.get(outlet.slot)?;
        let root = |reader: usize| self.patterns.inner.get(&reader).copied().unwrap_or(reader);
        let mut readers = fact.successors.iter().map(|reader| root(reader.node));
        let first = readers.next()?;
        let only = readers.all(|reader| reader == first) && !self.model.outputs.contains(&outlet);
        only.then_some(first)
    }

    pub(super) fn is_pending(&self, outlet: OutletId, fits: impl Fn(&Pending) -> bool) -> bool {
        self.only_reader(outlet).is_some()
            && matches!(self.known.get(&outlet), Some(Known::Pending(pending)) if fits(pending))
    }

    /// Takes a pending step out, if nobody else reads it and it fits.
    pub(super) fn pending_if(
        &mut self,
        outlet: OutletId,
        fits: impl Fn(&Pending) -> bool,
    ) -> Option<Box<Pending>> {
        if !self.is_pending(outlet, fits) {
            return None;
        }
        match self.known.remove(&outlet) {
            Some(Known::Pending(pending)) => Some(pending),
            _ => None,
        }
    }

    /// A value to read; a pending step is written now.
    pub(super) fn operand(&mut self, outlet: OutletId) -> Option<Operand> {
        if matches!(self.known.get(&outlet), Some(Known::Pending(_)))
            && let Some(Known::Pending(pending)) = self.known.remove(&outlet)
        {
            let ready = self.push(pending.work, pending.inputs, pending.extent);
            self.known.insert(outlet, ready);
        }
        match self.known.get(&outlet)? {
            Known::Ready(operand) => Some(*operand),
            _ => None,
        }
    }

    /// A value that is as large as it counts.
    pub(super) fn exact(&mut self, outlet: OutletId) -> Option<Value> {
        let Operand { value, extent } = self.operand(outlet)?;
        if self.program.extent(value) == extent {
            return Some(value);
        }
        let whole = self.push(Work::Sum(Activation::Linear), vec![value], extent);
        let Known::Ready(operand) = whole else { return None };
        self.known.insert(outlet, whole);
        Some(operand.value)
    }

    pub(super) fn push(&mut self, work: Work, inputs: Vec<Value>, extent: Extent) -> Known {
        let value = self.program.push(work, inputs, extent);
        Known::Ready(Operand { value, extent })
    }

    fn import(&mut self, extent: Extent) -> Value {
        if let Some(value) = self.imported {
            return value;
        }
        let value = self.program.push(Work::Import, vec![], extent);
        self.imported = Some(value);
        value
    }

    /// Notes what others read of the trunk.
    fn finish(mut self, order: &[usize]) -> Option<Found> {
        let entry = self.entry?;
        let mut exports = Vec::new();
        for id in order {
            let outlet = OutletId::from(*id);
            let Some(known) = self.known.get(&outlet) else { continue };
            let moved = if let Known::Moved(value) = known { Some(*value) } else { None };
            let readers = &self.model.node(*id).outputs;
            let mut readers = readers.iter().flat_map(|output| &output.successors);
            let outside = readers.any(|reader| !self.taken.contains(&reader.node));
            if !outside && !self.model.outputs.contains(&outlet) {
                continue;
            }
            let (value, order) = match moved {
                Some(value) => (Some(value), Order::Pixels),
                None => (self.exact(outlet), Order::Planes),
            };
            let value = value?;
            let extent = self.program.extent(value);
            self.program.exports.push(Export { value, first: 0, extent, order, factor: 1 });
            exports.push(outlet);
        }
        improve(&mut self.program);
        Some(Found { program: self.program, entry, exports })
    }
}

fn input(node: &TypedNode, number: usize) -> TractResult<OutletId> {
    node.inputs.get(number).copied().with_context(|| format!("{} lacks an input", node.name))
}

/// A window over rows and columns.
pub(super) struct Reading {
    pub(super) size: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) dilation: [usize; 2],
    pub(super) before: [usize; 2],
    pub(super) after: [usize; 2],
}

pub(super) fn reading(spec: &PoolSpec, from: Extent) -> Option<Reading> {
    let sides = spec.computed_padding(&[from.height, from.width]);
    let ([high, across], [rows, columns]) = (spec.kernel_shape.as_slice(), sides.as_slice()) else {
        return None;
    };
    (spec.data_format == DataFormat::NCHW).then(|| Reading {
        size: [*high, *across],
        stride: [spec.stride(0), spec.stride(1)],
        dilation: [spec.dilation(0), spec.dilation(1)],
        before: [rows.pad_before, columns.pad_before],
        after: [rows.pad_after, columns.pad_after],
    })
}

struct Geometry {
    from: Extent,
    to: Extent,
    by_channel: bool,
    convolution: Convolution,
}

/// With fewer channels than this, a picture is read plane by plane.
const NARROW: usize = 8;
