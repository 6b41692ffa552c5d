//! What the finder of [`super::rewrite`] makes of operators that join values, and of patterns.

use tract_onnx::tract_hir::internal::{OutletId, Tensor, TractResult, TypedNode};

use super::constant::per_channel;
use super::curve::Curve;
use super::memory::{Extent, padded};
use super::patterns::Pattern;
use super::pending::{Known, Operand, Pending};
use super::program::{Activation, Norm, Step, Value, Work};
use super::rewrite::{Finder, Reading, reading};
use super::simple::{Keep, Window};

impl Finder<'_> {
    /// Takes what many operators mean.
    pub(super) fn pattern(
        &mut self,
        node: &TypedNode,
        pattern: Pattern,
    ) -> TractResult<Option<Known>> {
        match pattern {
            Pattern::Gelu(source) => Ok(self.activate(source, Activation::Curve(Curve::Gelu))),
            Pattern::Norm { source, gain, offset, epsilon } => {
                let Some(extent) = self.known_extent(source) else { return Ok(None) };
                let each = |fixed: Option<Tensor>, neutral: f32| match fixed {
                    Some(fixed) => per_channel(&fixed, extent.channels),
                    None => Some(vec![neutral; extent.channels]),
                };
                let (Some(gain), Some(offset)) = (each(gain, 1.0), each(offset, 0.0)) else {
                    return Ok(None);
                };
                let activation = Activation::Linear;
                let norm = Work::Norm(Norm { gain, offset, epsilon, activation });
                let value = self.exact(source);
                Ok(value.map(|value| Known::pending(norm, vec![value], extent)))
            }
            Pattern::Halves { source, first, spec } => {
                let (Some(from), Some(to)) =
                    (self.known_extent(source), self.extent(node.id.into())?)
                else {
                    return Ok(None);
                };
                let Some(Reading { size, stride, before: [0, 0], after: [0, 0], .. }) =
                    reading(&spec, from)
                else {
                    return Ok(None);
                };
                let whole = [to.height * stride[0], to.width * stride[1]];
                if size != stride || whole != [from.height, from.width] {
                    return Ok(None);
                }
                let Some(value) = self.exact(source) else { return Ok(None) };
                let window = Window { keep: Keep::Both(first), size, stride };
                Ok(Some(self.push(Work::Pool(window), vec![value], to)))
            }
        }
    }

    /// Values side by side: each is copied into a part of one; who can will be written there at once.
    pub(super) fn concat(&mut self, node: &TypedNode) -> TractResult<Option<Known>> {
        let Some(extent) = self.extent(node.id.into())? else { return Ok(None) };
        let mut values = Vec::new();
        for outlet in &node.inputs {
            let Some(value) = self.exact(*outlet) else { return Ok(None) };
            let Extent { height, width, .. } = self.program.extent(value);
            if (height, width) != (extent.height, extent.width) {
                return Ok(None);
            }
            values.push(value);
        }
        let parts = values.iter().flat_map(|value| self.program.parts(*value).to_vec()).collect();
        let host = self.program.value_in_parts(extent, parts);
        let mut first = 0;
        for value in values {
            let (part, parts) = (self.program.extent(value), self.program.parts(value).to_vec());
            let stored: usize = parts.iter().map(|part| padded(*part)).sum();
            let output = self.program.part(host, first, part, parts);
            let work = Work::Sum(Activation::Linear);
            self.program.steps.push(Step { work, inputs: vec![value], output });
            first += stored;
        }
        Ok(Some(Known::Ready(Operand { value: host, extent })))
    }

    /// The sum of two values: a residual of a convolution where one is pending.
    pub(super) fn add(&mut self, a: OutletId, b: OutletId) -> Option<Known> {
        let extent = self.known_extent(a)?;
        if Some(extent) != self.known_extent(b) || a == b {
            return None;
        }
        for (last, earlier) in [(a, b), (b, a)] {
            let open = |before: &Pending| {
                matches!(before.work, Work::Dense(_))
                    && before.is_open()
                    && before.is_bare_convolution()
            };
            if !self.is_pending(last, open) {
                continue;
            }
            let residual = self.operand(earlier)?;
            let there = self.program.extent(residual.value);
            let parts = self.program.parts(residual.value).len();
            let whole = parts == 1 || there.channels == extent.channels;
            if (there.height, there.width) != (extent.height, extent.width) || !whole {
                continue;
            }
            if let Some(mut before) = self.pending_if(last, open) {
                before.inputs.push(residual.value);
                return Some(Known::Pending(before));
            }
        }
        let inputs = vec![self.operand(a)?.value, self.operand(b)?.value];
        self.lie_alike(&inputs)?;
        Some(Known::pending(Work::Sum(Activation::Linear), inputs, extent))
    }

    /// Whether the channels of values lie at the same places, as far as there are any.
    fn lie_alike(&self, values: &[Value]) -> Option<()> {
        let together = values.iter().all(|value| self.program.parts(*value).len() == 1);
        let mut places = values.iter().map(|value| self.program.places(*value));
        let first = places.next()?;
        (together || places.all(|places| places == first)).then_some(())
    }

    pub(super) fn gate(&mut self, a: OutletId, b: OutletId) -> Option<Known> {
        for (value, factors) in [(a, b), (b, a)] {
            if let Some(Known::Squashed(factors)) = self.known.get(&factors) {
                let factors = *factors;
                let value = self.exact(value)?;
                let extent = self.program.extent(value);
                return Some(self.push(Work::Gate, vec![value, factors], extent));
            }
        }
        if self.known_extent(a)? != self.known_extent(b)? {
            return None;
        }
        let factors = vec![self.exact(a)?, self.exact(b)?];
        self.lie_alike(&factors)?;
        let extent = self.program.extent(*factors.first()?);
        Some(self.push(Work::Product, factors, extent))
    }
}
