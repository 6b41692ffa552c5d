//! A program made ready for one processor: weights packed, values laid out in reused memory.

use super::depthwise::{ByChannel, Depthwise};
use super::matrix::{Dense, Matrix, Pixel, per_channel};
use super::memory::{Aligned, Extent, Layout, View, ViewMut, padded};
use super::planar::{FromPlanes, Planes};
use super::program::{Convolution, Export, Program, Step, Work};
use super::simd::{Vectors, dispatch};
use super::simple::{Pool, Sum, Window, enlarge, export, gate, import, total};
use super::strip::{Strip, strip};

/// The trunk of a network, ready to run.
#[derive(Debug)]
pub(super) struct Trunk {
    vectors: Vectors,
    picture: Extent,
    steps: Vec<Ready>,
    exports: Vec<(Place, Export)>,
}

/// Memory that a thread uses again for each run.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    slots: Vec<Aligned>,
    strip: Aligned,
    pixels: Vec<Pixel>,
}

/// Where a value lies: values that are not needed at once share a slot.
#[derive(Clone, Copy, Debug)]
struct Place {
    slot: usize,
    layout: Layout,
}

#[derive(Debug)]
struct Ready {
    work: Packed,
    inputs: Vec<Place>,
    output: Place,
}

#[derive(Debug)]
enum Packed {
    Import,
    FromPlanes { planes: Planes, taps: Vec<usize>, matrix: Matrix },
    Dense { matrix: Matrix, stride: [usize; 2], padding: [usize; 2] },
    ByChannel { weights: Depthwise, padding: [usize; 2] },
    Strip(Strip),
    Pool(Window),
    Enlarge(usize),
    Sum(Option<Aligned>),
    Total(f32),
    Gate,
}

impl Trunk {
    /// Packs a program's weights and assigns its memory.
    pub(super) fn pack(program: Program, vectors: Vectors) -> Self {
        let places = assign(&program);
        let place = |value: &usize| places.get(*value).copied().unwrap_or(NOWHERE);
        let exports = program.exports.iter().map(|out| (place(&out.value), *out)).collect();
        let picture = program.picture;
        let steps = program.steps.into_iter().map(|step| {
            let inputs: Vec<Place> = step.inputs.iter().map(place).collect();
            let output = place(&step.output);
            let from = inputs.first().map_or(picture, |input| input.layout.extent);
            let work = pack_work(step.work, from, output.layout.extent, vectors);
            Ready { work, inputs, output }
        });
        Self { vectors, picture, steps: steps.collect(), exports }
    }

    /// The numbers that one picture has.
    pub(super) const fn picture_len(&self) -> usize {
        self.picture.channels * self.picture.height * self.picture.width
    }

    /// What leaves the trunk.
    pub(super) fn exports(&self) -> impl Iterator<Item = &Export> {
        self.exports.iter().map(|(_, export)| export)
    }

    /// Computes all values from one picture of `picture_len` numbers.
    pub(super) fn run(&self, picture: &[f32], scratch: &mut Scratch) {
        let slots = self.steps.iter().map(|step| step.output.slot + 1).max().unwrap_or(0);
        if scratch.slots.len() < slots {
            scratch.slots.resize_with(slots, Aligned::default);
        }
        for step in &self.steps {
            // Taken out, so that the other slots can be read while it is written.
            let Some(slot) = scratch.slots.get_mut(step.output.slot) else { continue };
            let mut memory = std::mem::take(slot);
            let layout = step.output.layout;
            let output = layout.prepare(memory.resize(layout.len()));
            step.run(self.vectors, picture, output, scratch);
            if let Some(slot) = scratch.slots.get_mut(step.output.slot) {
                *slot = memory;
            }
        }
    }

    /// Writes what the export of this number holds.
    pub(super) fn export(&self, number: usize, scratch: &Scratch, output: &mut [f32]) {
        if let Some((place, wanted)) = self.exports.get(number) {
            let view = place.view(&scratch.slots, [0, 0]);
            export(view, wanted.extent, wanted.first, wanted.order, output);
        }
    }
}

impl Place {
    fn view(self, slots: &[Aligned], padding: [usize; 2]) -> View<'_> {
        self.layout.view(slots.get(self.slot).map_or(&[], Aligned::as_slice), padding)
    }
}

impl Ready {
    fn run(&self, vectors: Vectors, picture: &[f32], output: ViewMut<'_>, scratch: &mut Scratch) {
        let Scratch { slots, strip: strip_memory, pixels } = scratch;
        let [first, second] = [0, 1].map(|at| self.inputs.get(at).copied());
        let input = |padding| first.unwrap_or(NOWHERE).view(slots, padding);
        let beside = || second.map(|place| place.view(slots, [0, 0]));
        let from = first.unwrap_or(NOWHERE).layout.extent;
        let to = self.output.layout.extent;
        match &self.work {
            Packed::Import => import(picture, to, output),
            Packed::FromPlanes { planes, taps, matrix } => {
                let strip = strip_memory;
                dispatch(vectors, FromPlanes { planes, taps, matrix, picture, output, strip });
            }
            Packed::Dense { matrix, stride, padding } => dispatch(
                vectors,
                Dense {
                    matrix,
                    stride: *stride,
                    input: input(*padding),
                    residual: beside(),
                    output,
                    height: to.height,
                    width: to.width,
                    pixels,
                },
            ),
            Packed::ByChannel { weights, padding } => {
                let (input, height, width) = (input(*padding), to.height, to.width);
                dispatch(vectors, ByChannel { weights, input, output, height, width });
            }
            Packed::Strip(work) => {
                strip(vectors, work, input([0, 0]), output, to, strip_memory, pixels);
            }
            Packed::Pool(window) => {
                let (window, input) = (*window, input([0, 0]));
                dispatch(vectors, Pool { window, input, from, output, to });
            }
            Packed::Enlarge(factor) => enlarge(input([0, 0]), from, *factor, output),
            Packed::Sum(slope) => {
                let term = |place: Place| (place.view(slots, [0, 0]), place.layout.extent);
                let terms = [first.map(term), second.map(term)];
                dispatch(vectors, Sum { terms, slope: slope.as_ref(), output, to });
            }
            Packed::Total(divisor) => total(input([0, 0]), from, *divisor, output),
            Packed::Gate => {
                if let Some(factors) = beside() {
                    gate(input([0, 0]), from, factors, output);
                }
            }
        }
    }
}

fn pack_work(work: Work, from: Extent, to: Extent, vectors: Vectors) -> Packed {
    match work {
        Work::Import => Packed::Import,
        Work::FromPlanes(convolution) => {
            let planes = Planes {
                count: from.channels,
                height: from.height,
                width: from.width,
                kernel: convolution.kernel,
                stride: convolution.stride,
                padding: convolution.padding,
                output: [to.height, to.width],
            };
            let taps = planes.taps();
            let Convolution { weights, bias, slope, .. } = convolution;
            let weight = |channel: usize, run: usize, _: usize| {
                weights.get(channel * taps.len() + run).copied().unwrap_or(0.0)
            };
            let sizes = [to.channels, taps.len(), 1];
            let matrix = Matrix::pack(sizes, vectors.block(), weight, &bias, slope.as_deref());
            Packed::FromPlanes { planes, taps, matrix }
        }
        Work::Dense(convolution) => Packed::Dense {
            matrix: pack_dense(&convolution, from.channels, vectors),
            stride: convolution.stride,
            padding: convolution.padding,
        },
        Work::ByChannel(convolution) => Packed::ByChannel {
            weights: pack_by_channel(&convolution),
            padding: convolution.padding,
        },
        Work::Strip(first, second) => Packed::Strip(Strip {
            matrix: pack_dense(&first, from.channels, vectors),
            weights: pack_by_channel(&second),
            padding: second.padding,
            height: from.height,
            width: from.width,
            // No fewer than the 1×1 writes, though the depthwise one may not read the last.
            columns: second.last_read(to.width, 1).max(second.padding[1] + from.width),
        }),
        Work::Pool(window) => Packed::Pool(window),
        Work::Enlarge(factor) => Packed::Enlarge(factor),
        Work::Sum(slope) => {
            Packed::Sum(slope.map(|slope| per_channel(&slope, padded(to.channels))))
        }
        Work::Total(divisor) => Packed::Total(divisor),
        Work::Gate => Packed::Gate,
    }
}

/// One run a kernel row: its columns' channels lie one behind the other.
fn pack_dense(convolution: &Convolution, channels: usize, vectors: Vectors) -> Matrix {
    let Convolution { weights, bias, slope, kernel: [high, across], .. } = convolution;
    let stored = padded(channels);
    let weight = |output: usize, ky: usize, position: usize| {
        let (kx, input) = (position / stored, position % stored);
        let at = ((output * channels + input) * high + ky) * across + kx;
        if input < channels { weights.get(at).copied().unwrap_or(0.0) } else { 0.0 }
    };
    let sizes = [bias.len(), *high, across * stored];
    Matrix::pack(sizes, vectors.block(), weight, bias, slope.as_deref())
}

fn pack_by_channel(convolution: &Convolution) -> Depthwise {
    let Convolution { weights, bias, slope, kernel, stride, pooled, .. } = convolution;
    Depthwise::pack(weights, bias, slope.as_deref(), *kernel, *stride, *pooled)
}

const NOWHERE: Place = Place {
    slot: usize::MAX,
    layout: Layout { extent: Extent { height: 0, width: 0, channels: 0 }, border: 0 },
};

/// Gives each value the border that its readers need, and a slot that is free while it is needed.
fn assign(program: &Program) -> Vec<Place> {
    let mut places: Vec<Place> = program
        .values
        .iter()
        .map(|extent| Place { slot: 0, layout: Layout { extent: *extent, border: 0 } })
        .collect();
    let mut last_read = vec![0; program.values.len()];
    for (at, step) in program.steps.iter().enumerate() {
        for value in &step.inputs {
            let reach = reach(program, step, *value);
            if let (Some(place), Some(last)) = (places.get_mut(*value), last_read.get_mut(*value)) {
                place.layout.border = place.layout.border.max(reach);
                *last = at;
            }
        }
    }
    for export in &program.exports {
        if let Some(last) = last_read.get_mut(export.value) {
            *last = usize::MAX;
        }
    }
    // The slot that was freed last is taken first: it may still be in the cache.
    let (mut free, mut slots): (Vec<usize>, usize) = (Vec::new(), 0);
    for (at, step) in program.steps.iter().enumerate() {
        let slot = free.pop().unwrap_or_else(|| {
            slots += 1;
            slots - 1
        });
        if let Some(place) = places.get_mut(step.output) {
            place.slot = slot;
        }
        let mut done: Vec<usize> = step.inputs.clone();
        done.dedup();
        done.retain(|value| last_read.get(*value) == Some(&at));
        free.extend(done.iter().filter_map(|value| places.get(*value)).map(|place| place.slot));
    }
    places
}

/// How many zeros around a value a step reads.
fn reach(program: &Program, step: &Step, value: usize) -> usize {
    match &step.work {
        Work::Dense(convolution) | Work::ByChannel(convolution)
            if step.inputs.first() == Some(&value) =>
        {
            convolution.reach(program.extent(value), program.extent(step.output))
        }
        _ => 0,
    }
}
