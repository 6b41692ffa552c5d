//! A trunk as a list of steps over values, before anything is packed.

use super::memory::{Extent, LANE};
use super::simple::{Order, Window};

/// A value of the program: its place in [`Program::values`].
pub(super) type Value = usize;

/// What the trunk of a network does, step by step.
#[derive(Debug)]
pub(super) struct Program {
    /// Height, width and planes of the picture.
    pub(super) picture: Extent,
    pub(super) values: Vec<Extent>,
    pub(super) steps: Vec<Step>,
    pub(super) exports: Vec<Export>,
}

/// One step: reads values, writes one.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) work: Work,
    /// What it reads; a residual is the last.
    pub(super) inputs: Vec<Value>,
    pub(super) output: Value,
}

/// What a step does.
#[derive(Debug)]
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
    /// One value, or two added up, and a slope for what is negative.
    Sum(Option<Vec<f32>>),
    /// All pixels added up, divided by a number.
    Total(f32),
    /// The first input, each channel times the logistic function of the second.
    Gate,
}

/// A convolution with what follows it: out = activation(weights ∗ in + bias + residual).
#[derive(Debug, Clone)]
pub(super) struct Convolution {
    /// In the order output channel, input channel (one if depthwise), row, column.
    pub(super) weights: Vec<f32>,
    /// One an output channel.
    pub(super) bias: Vec<f32>,
    /// One an output channel: what negative results are multiplied with.
    pub(super) slope: Option<Vec<f32>>,
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
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
        results.saturating_sub(1) * of(self.stride) + of(self.kernel)
    }

    /// Whether it reads one pixel for one pixel.
    pub(super) fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.padding == [0, 0]
    }

    /// Whether it may be computed side by side with another, as more channels of one.
    fn is_like(&self, other: &Self) -> bool {
        (self.kernel, self.stride, self.padding, self.pooled, self.slope.is_some())
            == (other.kernel, other.stride, other.padding, other.pooled, other.slope.is_some())
    }

    fn append(&mut self, other: Self) {
        self.weights.extend(other.weights);
        self.bias.extend(other.bias);
        if let (Some(slope), Some(more)) = (&mut self.slope, other.slope) {
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
}

impl Program {
    /// Adds a value.
    pub(super) fn value(&mut self, extent: Extent) -> Value {
        self.values.push(extent);
        self.values.len() - 1
    }

    /// The extent of a value.
    pub(super) fn extent(&self, value: Value) -> Extent {
        self.values.get(value).copied().unwrap_or(Extent { height: 0, width: 0, channels: 0 })
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
        if let Some(extent) = self.values.get_mut(host.output) {
            extent.channels = offset + added;
        }
        for export in self.exports.iter_mut().filter(|export| export.value == guest.output) {
            export.value = host.output;
            export.first += offset;
        }
    }
}
