//! A trunk as a list of steps over values, before anything is packed.

use super::curve::Curve;
use super::memory::{Extent, LANE, padded};
use super::simple::{Order, Window};

/// A value of the program: its place in [`Program::values`].
pub(super) type Value = usize;

/// What the trunk of a network does, step by step.
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// Height, width and planes of the picture.
    pub(super) picture: Extent,
    pub(super) values: Vec<Held>,
    pub(super) steps: Vec<Step>,
    pub(super) exports: Vec<Export>,
}

/// A value: how large it is, and how its channels are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) extent: Extent,
    /// How many channels lie together; the count of each part is rounded up to a lane.
    pub(super) parts: Vec<usize>,
    /// The value that it is a part of, and where in its pixels it begins.
    pub(super) within: Option<(Value, usize)>,
}

/// One step: reads values, writes one.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) work: Work,
    /// What it reads; a residual is the last.
    pub(super) inputs: Vec<Value>,
    pub(super) output: Value,
}

/// What a step does.
#[derive(Debug, Clone)]
pub(super) enum Work {
    /// Planes of the picture into the layout.
    Import,
    /// A dense convolution of the picture's planes.
    FromPlanes(Convolution),
    /// A dense convolution; a second input is a residual.
    Dense(Convolution),
    /// A depthwise convolution.
    ByChannel(Convolution),
    /// A 1×1 convolution and a depthwise one behind it, strip by strip.
    Strip(Convolution, Convolution),
    /// The greatest, or the mean, of each window.
    Pool(Window),
    /// Each pixel repeated in both directions.
    Enlarge(usize),
    /// The phases of each pixel spread over so many rows and columns.
    Shuffle(usize),
    /// One value, or two added up.
    Sum(Activation),
    /// Two values multiplied.
    Product,
    /// The norm over the channels of each pixel.
    Norm(Norm),
    /// Two 1×1 convolutions of which the first yields far more channels; a second input is a residual.
    Pair(Convolution, Convolution),
    /// All pixels added up, divided by a number.
    Total(f32),
    /// The first input, each channel times the logistic function of the second.
    Gate,
}

/// What follows a sum.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum Activation {
    #[default]
    Linear,
    /// One a channel: what negative results are multiplied with.
    Slope(Vec<f32>),
    Curve(Curve),
}

impl Activation {
    pub(super) fn slope(&self) -> Option<&[f32]> {
        if let Self::Slope(slope) = self { Some(slope) } else { None }
    }

    pub(super) const fn curve(&self) -> Option<Curve> {
        if let Self::Curve(curve) = self { Some(*curve) } else { None }
    }
}

/// (x − mean)/√(variance + epsilon)·gain + offset, over the channels of a pixel.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Norm {
    pub(super) gain: Vec<f32>,
    pub(super) offset: Vec<f32>,
    pub(super) epsilon: f32,
    pub(super) activation: Activation,
}

/// A convolution with what follows it: out = activation(weights ∗ in + bias + residual).
#[derive(Debug, Clone)]
pub(super) struct Convolution {
    /// In the order output channel, input channel (one if depthwise), row, column.
    pub(super) weights: Vec<f32>,
    /// One an output channel.
    pub(super) bias: Vec<f32>,
    pub(super) activation: Activation,
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    /// From one position of the kernel to the next.
    pub(super) dilation: [usize; 2],
    /// Rows above and columns to the left.
    pub(super) padding: [usize; 2],
    /// Whether the greatest of each 2×2 results is kept.
    pub(super) pooled: bool,
}

impl Convolution {
    /// Multiplies what it yields, channel by channel.
    pub(super) fn scale(&mut self, factors: &[f32]) {
        let each = (self.weights.len() / self.bias.len().max(1)).max(1);
        for (weights, factor) in self.weights.chunks_mut(each).zip(factors) {
            for weight in weights {
                *weight *= factor;
            }
        }
        self.bias.iter_mut().zip(factors).for_each(|(bias, factor)| *bias *= factor);
    }

    /// Adds to what it yields, channel by channel.
    pub(super) fn shift(&mut self, terms: &[f32]) {
        self.bias.iter_mut().zip(terms).for_each(|(bias, term)| *bias += term);
    }

    /// Rows or columns (axis 0 or 1) of zeros that it reads on either side of `input`, when it
    /// yields `output`.
    pub(super) fn reach(&self, input: Extent, output: Extent) -> usize {
        let sides = [(input.height, output.height, 0), (input.width, output.width, 1)];
        let reach = sides.map(|(input, output, axis)| {
            let before = self.padding.get(axis).copied().unwrap_or(0);
            let last = self.last_read(output, axis);
            before.max(last.saturating_sub(before + input))
        });
        reach.into_iter().max().unwrap_or(0)
    }

    /// How many rows or columns, padding included, `output` rows or columns are made of.
    pub(super) fn last_read(&self, output: usize, axis: usize) -> usize {
        let of = |pair: [usize; 2]| pair.get(axis).copied().unwrap_or(1);
        let results = if self.pooled { 2 * output } else { output };
        results.saturating_sub(1) * of(self.stride) + self.spread(axis)
    }

    /// Rows or columns (axis 0 or 1) from the first position of the kernel to the last.
    pub(super) fn spread(&self, axis: usize) -> usize {
        let of = |pair: [usize; 2]| pair.get(axis).copied().unwrap_or(1);
        of(self.kernel).saturating_sub(1) * of(self.dilation) + 1
    }

    /// Whether it yields as many pixels as it reads, whatever their number.
    pub(super) fn keeps_size(&self) -> bool {
        let [above, left] = self.padding;
        let same = [2 * above + 1, 2 * left + 1] == [self.spread(0), self.spread(1)];
        same && self.stride == [1, 1] && !self.pooled
    }

    /// Whether it reads one pixel for one pixel.
    pub(super) fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.padding == [0, 0]
    }

    /// Whether it may be computed side by side with another, as more channels of one.
    fn is_like(&self, other: &Self) -> bool {
        let shape = |one: &Self| (one.kernel, one.stride, one.dilation, one.padding, one.pooled);
        let kind = |one: &Self| (one.activation.slope().is_some(), one.activation.curve());
        shape(self) == shape(other) && kind(self) == kind(other)
    }

    fn append(&mut self, other: Self) {
        self.weights.extend(other.weights);
        self.bias.extend(other.bias);
        if let (Activation::Slope(slope), Activation::Slope(more)) =
            (&mut self.activation, other.activation)
        {
            slope.extend(more);
        }
    }
}

/// A value, or some channels of it, that leaves the trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Export {
    pub(super) value: Value,
    pub(super) first: usize,
    pub(super) extent: Extent,
    pub(super) order: Order,
    /// So many rows and columns of what leaves are the phases of one pixel.
    pub(super) factor: usize,
}

impl Program {
    /// Adds a value whose channels lie together.
    pub(super) fn value(&mut self, extent: Extent) -> Value {
        self.value_in_parts(extent, vec![extent.channels])
    }

    /// Adds a value whose channels lie in parts.
    pub(super) fn value_in_parts(&mut self, extent: Extent, parts: Vec<usize>) -> Value {
        self.values.push(Held { extent, parts, within: None });
        self.values.len() - 1
    }

    /// Adds a value that is a part of another, from this number of its pixels on.
    pub(super) fn part(
        &mut self,
        host: Value,
        first: usize,
        extent: Extent,
        parts: Vec<usize>,
    ) -> Value {
        self.values.push(Held { extent, parts, within: Some((host, first)) });
        self.values.len() - 1
    }

    /// The extent of a value.
    pub(super) fn extent(&self, value: Value) -> Extent {
        let nothing = Extent { height: 0, width: 0, channels: 0 };
        self.values.get(value).map_or(nothing, |held| held.extent)
    }

    /// How the channels of a value lie.
    pub(super) fn parts(&self, value: Value) -> &[usize] {
        self.values.get(value).map_or(&[], |held| &held.parts)
    }

    /// Numbers of a pixel, as they are stored.
    pub(super) fn stored(&self, value: Value) -> usize {
        self.parts(value).iter().map(|part| padded(*part)).sum()
    }

    /// Where in a pixel each channel lies.
    pub(super) fn places(&self, value: Value) -> Vec<usize> {
        let mut first = 0;
        let mut places = Vec::new();
        for part in self.parts(value) {
            places.extend(first..first + part);
            first += padded(*part);
        }
        places
    }

    /// The value whose memory a value lies in, and where in a pixel.
    pub(super) fn host(&self, value: Value) -> (Value, usize) {
        let within = self.values.get(value).and_then(|held| held.within);
        within.unwrap_or((value, 0))
    }

    /// Adds a step, and the value that it writes: in parts like the value that it goes along with.
    pub(super) fn push(&mut self, work: Work, inputs: Vec<Value>, extent: Extent) -> Value {
        let model = match &work {
            Work::Dense(_) | Work::Pair(..) => inputs.get(1),
            Work::ByChannel(_)
            | Work::Pool(_)
            | Work::Enlarge(_)
            | Work::Sum(_)
            | Work::Product
            | Work::Norm(_)
            | Work::Gate
            | Work::Total(_) => inputs.first(),
            _ => None,
        };
        let like = model.map(|value| self.parts(*value).to_vec());
        let like = like.filter(|parts| parts.iter().sum::<usize>() == extent.channels);
        let output = self.value_in_parts(extent, like.unwrap_or_else(|| vec![extent.channels]));
        self.steps.push(Step { work, inputs, output });
        output
    }

    /// The steps that read a value, a part of it or what it is a part of.
    pub(super) fn readers(&self, value: Value) -> impl Iterator<Item = usize> {
        let reads = move |step: &Step| step.inputs.contains(&value);
        self.steps.iter().enumerate().filter(move |(_, step)| reads(step)).map(|(at, _)| at)
    }

    /// The only step that reads a value which does not leave the trunk.
    pub(super) fn only_reader(&self, value: Value) -> Option<usize> {
        let leaves = self.exports.iter().any(|export| export.value == value);
        let mut readers = self.readers(value);
        match (readers.next(), readers.next()) {
            (Some(reader), None) if !leaves => Some(reader),
            _ => None,
        }
    }

    /// The same program for a picture of another size, if it treats all sizes alike.
    pub(super) fn scaled(&self, height: usize, width: usize) -> Option<Self> {
        let scale = |old: usize, from: usize, to: usize| {
            let scaled = old * to;
            (from > 0 && scaled > 0 && scaled.is_multiple_of(from)).then(|| scaled / from)
        };
        let resize = |extent: Extent| {
            let height = scale(extent.height, self.picture.height, height)?;
            let width = scale(extent.width, self.picture.width, width)?;
            Some(Extent { height, width, ..extent })
        };
        if !self.steps.iter().all(|step| self.is_scalable(step)) {
            return None;
        }
        let mut scaled = Self { picture: resize(self.picture)?, ..self.clone() };
        for held in &mut scaled.values {
            held.extent = resize(held.extent)?;
        }
        for export in &mut scaled.exports {
            export.extent = resize(export.extent)?;
        }
        // A pool that hung over the edge, or a value cut short, would have been scaled wrongly.
        scaled.steps.iter().all(|step| scaled.is_scalable(step)).then_some(scaled)
    }

    /// Whether what a step yields grows as the picture does.
    fn is_scalable(&self, step: &Step) -> bool {
        let to = self.extent(step.output);
        let from = step.inputs.first().map_or(self.picture, |value| self.extent(*value));
        let sides = |extent: Extent| [extent.height, extent.width];
        let times = |factor: usize| sides(to) == [from.height * factor, from.width * factor];
        match &step.work {
            Work::FromPlanes(one) | Work::Dense(one) | Work::ByChannel(one) => {
                one.keeps_size() && times(1)
            }
            Work::Sum(_) | Work::Product => {
                step.inputs.iter().all(|value| sides(self.extent(*value)) == sides(to))
            }
            Work::Import | Work::Norm(_) | Work::Pair(..) => times(1),
            Work::Enlarge(factor) | Work::Shuffle(factor) => times(*factor),
            Work::Pool(window) => {
                let whole = [to.height * window.stride[0], to.width * window.stride[1]];
                window.size == window.stride && whole == sides(from)
            }
            Work::Strip(..) | Work::Total(_) | Work::Gate => false,
        }
    }

    /// Forgets all weights: what is left tells the sizes.
    pub(super) fn without_weights(mut self) -> Self {
        let forget = |convolution: &mut Convolution| {
            convolution.weights = Vec::new();
            convolution.bias = Vec::new();
            convolution.activation = Activation::Linear;
        };
        for step in &mut self.steps {
            match &mut step.work {
                Work::FromPlanes(one) | Work::Dense(one) | Work::ByChannel(one) => forget(one),
                Work::Strip(first, second) | Work::Pair(first, second) => {
                    forget(first);
                    forget(second);
                }
                _ => {}
            }
        }
        self
    }

    /// Joins narrow heads: strips that read one value and yield a few channels each, for nobody
    /// within the trunk. Apart, each would be computed with all channels of a lane.
    pub(super) fn merge_heads(&mut self) {
        let mut merged: Vec<Step> = Vec::with_capacity(self.steps.len());
        let read: Vec<Value> = self.steps.iter().flat_map(|step| step.inputs.clone()).collect();
        for step in std::mem::take(&mut self.steps) {
            let fits = merged.iter().position(|other| {
                let leaves = ![step.output, other.output].iter().any(|value| read.contains(value));
                leaves && self.fits_beside(&step, other)
            });
            match fits.and_then(|at| merged.get_mut(at)) {
                Some(host) => self.join(host, step),
                None => merged.push(step),
            }
        }
        self.steps = merged;
    }

    fn fits_beside(&self, step: &Step, other: &Step) -> bool {
        let (Work::Strip(first, second), Work::Strip(other_first, other_second)) =
            (&step.work, &other.work)
        else {
            return false;
        };
        step.inputs == other.inputs
            && first.is_like(other_first)
            && second.is_like(other_second)
            && self.extent(step.output).channels + self.extent(other.output).channels <= LANE
    }

    fn join(&mut self, host: &mut Step, guest: Step) {
        let (Work::Strip(first, second), Work::Strip(more_first, more_second)) =
            (&mut host.work, guest.work)
        else {
            return;
        };
        first.append(more_first);
        second.append(more_second);
        let offset = self.extent(host.output).channels;
        let added = self.extent(guest.output).channels;
        if let Some(held) = self.values.get_mut(host.output) {
            held.extent.channels = offset + added;
            held.parts = vec![offset + added];
        }
        for export in self.exports.iter_mut().filter(|export| export.value == guest.output) {
            export.value = host.output;
            export.first += offset;
        }
    }
}
