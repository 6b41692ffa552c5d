//! What exporters write as many operators, and is one: the norm over channels, GELU, and a pool that
//! keeps the greatest of some channels and the mean of the others.
//!
//! Operators are told by what they compute, not by their names, and factors and terms may stand in any
//! order. Whoever else reads something between the operators spoils the pattern.

use std::collections::{HashMap, HashSet};

use tract_onnx::tract_core::ops::array::TypedConcat;
use tract_onnx::tract_core::ops::binary::{BinMiniOp, TypedBinOp};
use tract_onnx::tract_core::ops::cnn::{MaxPool, PoolSpec, SumPool};
use tract_onnx::tract_core::ops::element_wise::{ElementWiseMiniOp, ElementWiseOp};
use tract_onnx::tract_core::ops::math;
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer};
use tract_onnx::tract_hir::internal::{
    IntoTValue as _, OutletId, Tensor, TypedModel, TypedNode, tvec,
};

use super::constant::{constant, numbers, per_channel, scalar};

/// What some operators mean together.
pub(super) enum Pattern {
    /// GELU, by the hyperbolic tangent.
    Gelu(OutletId),
    /// (x − mean)/√(variance + epsilon)·gain + offset over the channels.
    Norm { source: OutletId, gain: Option<Tensor>, offset: Option<Tensor>, epsilon: f32 },
    /// The greatest of each window for the first channels, the mean for the others.
    Halves { source: OutletId, first: usize, spec: PoolSpec },
}

/// The patterns of a graph.
#[derive(Default)]
pub(super) struct Patterns {
    /// By the last of their operators.
    pub(super) roots: HashMap<usize, Pattern>,
    /// The last operator, by each of the others.
    pub(super) inner: HashMap<usize, usize>,
}

impl Patterns {
    /// Looks at all operators of a graph.
    pub(super) fn find(model: &TypedModel) -> Self {
        let graph = Graph(model);
        let mut patterns = Self::default();
        for node in model.nodes() {
            let found =
                graph.gelu(node).or_else(|| graph.norm(node)).or_else(|| graph.halves(node));
            let Some((root, pattern)) = found else { continue };
            let (Pattern::Gelu(source)
            | Pattern::Norm { source, .. }
            | Pattern::Halves { source, .. }) = &pattern;
            let Some(inner) = graph.between(*source, root) else { continue };
            patterns.inner.extend(inner.into_iter().map(|node| (node, root)));
            patterns.roots.insert(root, pattern);
        }
        patterns
    }
}

struct Graph<'a>(&'a TypedModel);

impl Graph<'_> {
    /// The operators that a root is made of, back to `source`, constants aside; nothing where
    /// somebody else reads one of them.
    fn between(&self, source: OutletId, root: usize) -> Option<HashSet<usize>> {
        let mut inner = HashSet::new();
        let mut open = vec![root];
        while let Some(id) = open.pop() {
            for input in &self.0.node(id).inputs {
                let ends = *input == source || constant(self.0, *input).is_some();
                if !ends && inner.insert(input.node) {
                    open.push(input.node);
                }
            }
        }
        let alone = inner.iter().all(|id| {
            self.0.node(*id).outputs.iter().enumerate().all(|(slot, output)| {
                let mut readers = output.successors.iter().map(|reader| reader.node);
                !self.0.outputs.contains(&OutletId::new(*id, slot))
                    && readers.all(|reader| reader == root || inner.contains(&reader))
            })
        });
        alone.then_some(inner)
    }

    fn node(&self, outlet: OutletId) -> &TypedNode {
        self.0.node(outlet.node)
    }

    /// The only operator that reads a value.
    fn reader(&self, outlet: OutletId) -> Option<&TypedNode> {
        match self.node(outlet).outputs.get(outlet.slot)?.successors.as_slice() {
            [reader] => Some(self.0.node(reader.node)),
            _ => None,
        }
    }

    fn number(&self, outlet: OutletId) -> Option<f32> {
        scalar(constant(self.0, outlet)?.as_ref())
    }

    /// A value and a number that a commutative operator joins.
    fn with_number<T: BinMiniOp>(&self, node: &TypedNode) -> Option<(OutletId, f32)> {
        let [a, b] = binary::<T>(node)?;
        match (self.number(a), self.number(b)) {
            (None, Some(number)) => Some((a, number)),
            (Some(number), None) => Some((b, number)),
            _ => None,
        }
    }

    /// From its tanh on.
    fn gelu(&self, tanh: &TypedNode) -> Option<(usize, Pattern)> {
        let (sum, scale) = self.with_number::<math::Mul>(self.node(unary::<math::Tanh>(tanh)?))?;
        let [a, b] = binary::<math::Add>(self.node(sum))?;
        let bent = |x: OutletId, other: OutletId| {
            let product = self.product(other, [x, x], DEPTH)?;
            (product.count == [3, 0] && near(product.number, 0.044_715)).then_some(x)
        };
        let x = bent(a, b).or_else(|| bent(b, a))?;
        let next = self.reader(tanh.id.into())?;
        let (_, one) = self.with_number::<math::Add>(next)?;
        if !near(scale, 0.797_884_6) || !near(one, 1.0) {
            return None;
        }
        let gate = OutletId::from(next.id);
        let mut last = gate;
        for _ in 0..2 {
            let next = self.reader(last)?;
            last = next.id.into();
            let product = self.product(last, [x, gate], DEPTH);
            if product.is_some_and(|all| all.count == [1, 1] && near(all.number, 0.5)) {
                return Some((next.id, Pattern::Gelu(x)));
            }
        }
        None
    }

    /// A value as a product of a number and of powers of two others.
    fn product(&self, outlet: OutletId, of: [OutletId; 2], depth: usize) -> Option<Product> {
        let one = |first: bool| {
            let count = if first { [1, 0] } else { [0, 1] };
            Some(Product { number: 1.0, count })
        };
        let depth = depth.checked_sub(1)?;
        if of.contains(&outlet) {
            return one(of.first() == Some(&outlet));
        }
        if let Some(number) = self.number(outlet) {
            return Some(Product { number, count: [0, 0] });
        }
        let node = self.node(outlet);
        if let Some([a, b]) = binary::<math::Mul>(node) {
            return Some(self.product(a, of, depth)?.times(self.product(b, of, depth)?));
        }
        let (base, exponent) = self.power(node)?;
        let base = self.product(base, of, depth)?;
        (1..exponent).try_fold(base, |product, _| Some(product.times(base)))
    }

    /// A value to a small whole power.
    fn power(&self, node: &TypedNode) -> Option<(OutletId, u8)> {
        if let Some(base) = unary::<math::Square>(node) {
            return Some((base, 2));
        }
        let [base, exponent] = binary::<math::Pow>(node)?;
        let exponent = self.number(exponent)?;
        [2u8, 3].into_iter().find(|whole| near(exponent, f32::from(*whole))).map(|by| (base, by))
    }

    /// The value whose mean over the channels this is.
    fn mean(&self, outlet: OutletId) -> Option<OutletId> {
        let node = self.node(outlet);
        let divided = binary::<math::Div>(node)
            .and_then(|[sum, count]| Some((sum, self.number(count)?)))
            .or_else(|| self.with_number::<math::Mul>(node).map(|(sum, share)| (sum, 1.0 / share)));
        let (sum, count) = divided?;
        let reduce = self.node(sum).op_as::<Reduce>()?;
        let source = *self.node(sum).inputs.first()?;
        let channels = self.0.outlet_fact(source).ok()?.shape.as_concrete()?.get(1).copied()?;
        let channels = f32::from(u16::try_from(channels).ok()?);
        let all = reduce.reducer == Reducer::Sum && reduce.axes.as_slice() == [1];
        (all && near(count, channels)).then_some(source)
    }

    /// From its root on.
    fn norm(&self, root: &TypedNode) -> Option<(usize, Pattern)> {
        let inverse = unary::<math::Rsqrt>(root);
        let padded = inverse.or_else(|| unary::<math::Sqrt>(root))?;
        let (variance, epsilon) = self.with_number::<math::Add>(self.node(padded))?;
        let squares = self.mean(variance)?;
        let node = self.node(squares);
        let centred = match binary::<math::Mul>(node) {
            Some([a, b]) if a == b => a,
            _ => self.power(node).filter(|(_, exponent)| *exponent == 2)?.0,
        };
        let [source, mean] = binary::<math::Sub>(self.node(centred))?;
        if self.mean(mean)? != source {
            return None;
        }
        let mut last = self.reader(root.id.into())?;
        let mut factor = OutletId::from(root.id);
        if inverse.is_none() && unary::<math::Recip>(last).is_some() {
            factor = last.id.into();
            last = self.reader(factor)?;
        }
        let inverted = inverse.is_some() || factor.node != root.id;
        let unit = match (binary::<math::Mul>(last), binary::<math::Div>(last)) {
            (Some(pair), _) => inverted && (pair == [centred, factor] || pair == [factor, centred]),
            (_, Some(pair)) => !inverted && pair == [centred, factor],
            _ => false,
        };
        if !unit {
            return None;
        }
        let (mut gain, mut offset) = (None, None);
        if let Some((next, fixed)) = self.then::<math::Mul>(last) {
            (last, gain) = (next, Some(fixed));
        }
        if let Some((next, fixed)) = self.then::<math::Add>(last) {
            (last, offset) = (next, Some(fixed));
        }
        Some((last.id, Pattern::Norm { source, gain, offset, epsilon }))
    }

    /// An operator with one constant a channel, if it is the only reader of a node.
    fn then<T: BinMiniOp>(&self, node: &TypedNode) -> Option<(&TypedNode, Tensor)> {
        let outlet = OutletId::from(node.id);
        if self.0.outputs.contains(&outlet) {
            return None;
        }
        let next = self.reader(outlet)?;
        let [a, b] = binary::<T>(next)?;
        let fixed = constant(self.0, if a == outlet { b } else { a })?;
        let channels = self.0.outlet_fact(outlet).ok()?.shape.as_concrete()?.get(1).copied()?;
        per_channel(&fixed, channels)?;
        Some((next, Tensor::clone(&fixed)))
    }

    /// From the concatenation of its two halves on.
    fn halves(&self, root: &TypedNode) -> Option<(usize, Pattern)> {
        let concat = root.op_as::<TypedConcat>()?;
        let [greatest, mean] = *root.inputs.as_slice() else { return None };
        let (greatest, mean) = (self.node(greatest), self.node(mean));
        let largest = greatest.op_as::<MaxPool>()?;
        let smooth = mean.op_as::<SumPool>()?;
        let (source, [0, first], _) = self.slice(*greatest.inputs.first()?)? else { return None };
        let (other, [begin, end], channels) = self.slice(*mean.inputs.first()?)?;
        let (one, two) = (&largest.pool_spec, &smooth.pool_spec);
        let alike = one.kernel_shape == two.kernel_shape
            && one.strides == two.strides
            && [one, two].iter().all(|spec| spec.dilations().iter().all(|by| *by == 1));
        let whole = concat.axis == 1 && source == other && begin == first && end == channels;
        let plain = largest.with_index_outputs.is_none() && smooth.normalize;
        let spec = two.clone();
        (alike && whole && plain).then(|| (root.id, Pattern::Halves { source, first, spec }))
    }

    /// Some channels of a value: which, of how many. The operator itself is asked, on a ramp.
    fn slice(&self, outlet: OutletId) -> Option<(OutletId, [usize; 2], usize)> {
        let node = self.node(outlet);
        if !["Slice", "StridedSlice"].contains(&node.op.name().as_ref()) {
            return None;
        }
        let (source, fixed) = node.inputs.split_first()?;
        let shape = |outlet| self.0.outlet_fact(outlet).ok()?.shape.as_concrete();
        let (&[1, channels, height, width], &[1, kept, ..]) = (shape(*source)?, shape(outlet)?)
        else {
            return None;
        };
        let ramp: Vec<f32> = (0..u16::try_from(channels).ok()?).map(f32::from).collect();
        let mut inputs = tvec!(Tensor::from_shape(&[1, channels, 1, 1], &ramp).ok()?.into_tvalue());
        for outlet in fixed {
            inputs.push(constant(self.0, *outlet)?.into_tvalue());
        }
        let answer = node.op.eval_out_of_plan(inputs).ok()??;
        let answer = numbers(answer.first()?)?;
        let first = ramp.iter().position(|number| answer.first() == Some(number))?;
        let whole = shape(outlet)? == [1, kept, height, width].as_slice();
        let in_a_row = ramp.get(first..first + kept)? == answer;
        (whole && in_a_row).then_some((*source, [first, first + kept], channels))
    }
}

#[derive(Clone, Copy)]
struct Product {
    number: f32,
    count: [usize; 2],
}

impl Product {
    fn times(self, other: Self) -> Self {
        let [first, second] = self.count;
        let [more, others] = other.count;
        Self { number: self.number * other.number, count: [first + more, second + others] }
    }
}

fn binary<T: BinMiniOp>(node: &TypedNode) -> Option<[OutletId; 2]> {
    let [a, b] = *node.inputs.as_slice() else { return None };
    node.op_as::<TypedBinOp>()?.0.is::<T>().then_some([a, b])
}

fn unary<T: ElementWiseMiniOp>(node: &TypedNode) -> Option<OutletId> {
    let [a] = *node.inputs.as_slice() else { return None };
    node.op_as::<ElementWiseOp>()?.0.is::<T>().then_some(a)
}

/// Constants are written with four digits at the least.
fn near(number: f32, expected: f32) -> bool {
    (number - expected).abs() <= 1e-4 * expected.abs()
}

/// How deep a product may be nested.
const DEPTH: usize = 5;
