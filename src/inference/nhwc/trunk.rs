//! A program made ready for one processor: weights packed, values laid out in reused memory.

use std::ops::Range;
use std::sync::Arc;

use super::depthwise::ByChannel;
use super::matrix::{Dense, Room};
use super::memory::{Aligned, Extent, Layout, View, ViewMut};
use super::norm;
use super::packed::{Packed, pack_work, starts};
use super::pair::Pairing;
use super::plan::{NOWHERE, Place, Plan, Stage, plan};
use super::planar::{FromPlanes, Planes};
use super::program::{Export, Program};
use super::simd::{Vectors, dispatch};
use super::simple::{Pool, Product, Sum, enlarge, export, gate, import, shuffle, total};
use super::strip::strip;
use super::winograd::Quads;

/// The trunk of a network, ready to run.
#[derive(Debug)]
pub(super) struct Trunk {
    vectors: Vectors,
    /// What it does, without weights.
    program: Program,
    stages: Vec<Stage>,
    steps: Vec<Ready>,
    exports: Vec<(Place, Vec<usize>, Export)>,
    slots: usize,
}

/// Memory that a thread uses again for each run.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    slots: Vec<Aligned>,
    strip: Aligned,
    pub(super) room: Room,
}

#[derive(Debug)]
struct Ready {
    /// Shared with the same trunk for pictures of other sizes.
    work: Arc<Packed>,
    inputs: Vec<Place>,
    output: Place,
    /// Size of the whole output.
    to: Extent,
    /// Where the runs of a dense convolution begin.
    starts: Vec<usize>,
    planes: Option<Planes>,
}

impl Trunk {
    /// Packs a program's weights and assigns its memory.
    pub(super) fn pack(mut program: Program, vectors: Vectors) -> Self {
        let steps = std::mem::take(&mut program.steps);
        let mut packed = Vec::with_capacity(steps.len());
        for step in &steps {
            packed.push(Arc::new(pack_work(&program, step, vectors)));
        }
        program.steps = steps;
        Self::lay_out(program.without_weights(), packed, vectors)
    }

    /// The same trunk with the same weights for a picture of another size; nothing where it does
    /// not treat all sizes alike.
    pub(super) fn scaled(&self, height: usize, width: usize) -> Option<Self> {
        let program = self.program.scaled(height, width)?;
        let packed = self.steps.iter().map(|step| Arc::clone(&step.work)).collect();
        Some(Self::lay_out(program, packed, self.vectors))
    }

    fn lay_out(program: Program, packed: Vec<Arc<Packed>>, vectors: Vectors) -> Self {
        let Plan { places, stages, slots } = plan(&program);
        let place = |value: &usize| places.get(*value).copied().unwrap_or(NOWHERE);
        let exports = program.exports.iter().map(|out| {
            let channels = program.places(out.value);
            let channels = channels.into_iter().skip(out.first).take(out.extent.channels);
            (place(&out.value), channels.collect(), *out)
        });
        let steps = program.steps.iter().zip(packed).map(|(step, work)| {
            let inputs: Vec<Place> = step.inputs.iter().map(place).collect();
            let to = program.extent(step.output);
            let from = inputs.first().map(|input| input.layout);
            let planes = work.planes(program.picture, to);
            let starts = match (&planes, from) {
                (Some(planes), _) => planes.taps(),
                (None, Some(from)) => starts(&work, from),
                (None, None) => vec![],
            };
            Ready { work, inputs, output: place(&step.output), to, starts, planes }
        });
        let (exports, steps) = (exports.collect(), steps.collect());
        Self { vectors, program, stages, steps, exports, slots }
    }

    /// The numbers that one picture has.
    pub(super) const fn picture_len(&self) -> usize {
        let Extent { height, width, channels } = self.program.picture;
        channels * height * width
    }

    /// What leaves the trunk.
    pub(super) fn exports(&self) -> impl Iterator<Item = &Export> {
        self.exports.iter().map(|(_, _, export)| export)
    }

    /// Computes all values from one picture of `picture_len` numbers.
    pub(super) fn run(&self, picture: &[f32], scratch: &mut Scratch) {
        if scratch.slots.len() < self.slots {
            scratch.slots.resize_with(self.slots, Aligned::default);
        }
        for stage in &self.stages {
            let steps = self.steps.get(stage.steps.clone()).unwrap_or_default();
            for start in (0..stage.units).step_by(stage.per_strip.max(1)) {
                let units = start..(start + stage.per_strip).min(stage.units);
                for step in steps {
                    let rate = step.to.height / stage.units.max(1);
                    let rows = units.start * rate..units.end * rate;
                    step.run_rows(self.vectors, picture, rows, scratch);
                }
            }
        }
    }

    /// Writes what the export of this number holds.
    pub(super) fn export(&self, number: usize, scratch: &Scratch, output: &mut [f32]) {
        if let Some((place, channels, wanted)) = self.exports.get(number) {
            let view = place.view(&scratch.slots, [0, 0], 0);
            export(view, wanted.extent, channels, wanted.factor, wanted.order, output);
        }
    }
}

impl Place {
    /// The value from a row on, for a reader with this padding.
    fn view(self, slots: &[Aligned], padding: [usize; 2], row: usize) -> View<'_> {
        let numbers = slots.get(self.slot).map_or(&[][..], Aligned::as_slice);
        let view = self.layout.view(numbers, padding);
        if self.strip { view } else { view.down(row) }
    }
}

impl Ready {
    /// Makes some rows of the output.
    fn run_rows(
        &self,
        vectors: Vectors,
        picture: &[f32],
        rows: Range<usize>,
        scratch: &mut Scratch,
    ) {
        // Taken out, so that the other slots can be read while it is written.
        let Some(slot) = scratch.slots.get_mut(self.output.slot) else { return };
        let mut memory = std::mem::take(slot);
        let layout = self.output.layout;
        let numbers = memory.resize(layout.len());
        if rows.start == 0 {
            layout.clear_border(numbers);
        }
        let mut whole = layout.view_mut(numbers);
        let output = whole.down(if self.output.strip { 0 } else { rows.start });
        self.work(vectors, picture, rows, output, scratch);
        if let Some(slot) = scratch.slots.get_mut(self.output.slot) {
            *slot = memory;
        }
    }

    fn work(
        &self,
        vectors: Vectors,
        picture: &[f32],
        rows: Range<usize>,
        output: ViewMut<'_>,
        scratch: &mut Scratch,
    ) {
        let Scratch { slots, strip: between, room } = scratch;
        let reads = Reads { places: &self.inputs, slots, start: rows.start };
        let (height, width) = (rows.len(), self.to.width);
        let residual = reads.second();
        match &*self.work {
            Packed::FromPlanes { matrix, .. } => {
                let (Some(planes), taps) = (&self.planes, self.starts.as_slice()) else { return };
                let strip = between;
                let work = FromPlanes { planes, taps, matrix, picture, rows, output, strip };
                dispatch(vectors, work);
            }
            Packed::Dense { matrix, stride, padding, .. } => {
                let input = reads.first(*padding, stride[0]);
                let (part, stride, starts) = (matrix.whole(), *stride, self.starts.as_slice());
                let work = Dense {
                    matrix,
                    part,
                    stride,
                    starts,
                    input,
                    residual,
                    output,
                    height,
                    width,
                    room,
                };
                work.make(vectors);
            }
            Packed::Winograd { weights, padding } => {
                let input = reads.first(*padding, 1);
                let Layout { extent, border, .. } = reads.place(0).layout;
                let rows = reads.rows_left(0, 1);
                let readable = [rows + padding[0] + border, extent.width + padding[1] + border];
                let quads =
                    Quads { input, readable, residual, output, height, width, between, room };
                weights.run(vectors, quads);
            }
            Packed::ByChannel { weights, padding } => {
                let input = reads.first(*padding, weights.step());
                dispatch(vectors, ByChannel { weights, input, output, height, width });
            }
            Packed::Strip(work) => {
                let (input, to) = (reads.first([0, 0], 1), self.to);
                strip(vectors, work, input, output, to, between, room);
            }
            Packed::Pair(pair) => {
                let input = reads.first([0, 0], 1);
                let work = Pairing { input, residual, output, height, width, between, room };
                pair.run(vectors, work);
            }
            work => self.simple(work, vectors, picture, output, &reads, height),
        }
    }

    /// What only compares, adds or moves.
    fn simple(
        &self,
        work: &Packed,
        vectors: Vectors,
        picture: &[f32],
        output: ViewMut<'_>,
        reads: &Reads<'_>,
        height: usize,
    ) {
        let to = Extent { height, ..self.to };
        let whole = reads.place(0).layout.extent;
        let from = |height| Extent { height, ..whole };
        let (input, beside) = (|stride| reads.first([0, 0], stride), reads.second());
        match work {
            Packed::Import => import(picture, to, output),
            Packed::Pool { window, greatest } => {
                let (window, greatest) = (*window, greatest.as_ref());
                // Rows that are left from here on: a window may hang over the last.
                let from = from(reads.rows_left(0, window.stride[0]));
                let input = input(window.stride[0]);
                dispatch(vectors, Pool { window, greatest, input, from, output, to });
            }
            Packed::Enlarge(factor) => {
                enlarge(reads.shrunk(*factor), from(height / factor), *factor, output);
            }
            Packed::Shuffle(factor, places) => {
                shuffle(reads.shrunk(*factor), from(height / factor), *factor, places, output);
            }
            Packed::Sum { slope, curve } => {
                let first = (input(1), from(reads.rows_left(0, 1)));
                let second = beside.map(|view| {
                    let there = reads.place(1).layout.extent;
                    (view, Extent { height: reads.rows_left(1, 1), ..there })
                });
                let (terms, slope) = ([Some(first), second], slope.as_ref());
                dispatch(vectors, Sum { terms, slope, curve: *curve, output, to });
            }
            Packed::Product => {
                if let Some(other) = beside {
                    dispatch(vectors, Product { factors: [input(1), other], output, to });
                }
            }
            Packed::Norm(scales) => {
                let (input, width) = (input(1), to.width);
                dispatch(vectors, norm::Norm { scales, input, output, height, width });
            }
            Packed::Total(divisor) => total(input(1), whole, *divisor, output),
            Packed::Gate => {
                if let Some(factors) = beside {
                    gate(input(1), whole, factors, output);
                }
            }
            Packed::FromPlanes { .. }
            | Packed::Dense { .. }
            | Packed::Winograd { .. }
            | Packed::ByChannel { .. }
            | Packed::Strip(_)
            | Packed::Pair(_) => {}
        }
    }
}

/// What a step reads when it makes its rows from `start` on.
struct Reads<'a> {
    places: &'a [Place],
    slots: &'a [Aligned],
    start: usize,
}

impl<'a> Reads<'a> {
    fn place(&self, number: usize) -> Place {
        self.places.get(number).copied().unwrap_or(NOWHERE)
    }

    /// The first input, for a reader with this padding and so many rows to one of its own.
    fn first(&self, padding: [usize; 2], stride: usize) -> View<'a> {
        self.place(0).view(self.slots, padding, self.start * stride)
    }

    /// The first input, for a reader that makes so many rows of one.
    fn shrunk(&self, factor: usize) -> View<'a> {
        self.place(0).view(self.slots, [0, 0], self.start / factor.max(1))
    }

    /// The second input, row for row.
    fn second(&self) -> Option<View<'a>> {
        self.places.get(1).map(|place| place.view(self.slots, [0, 0], self.start))
    }

    /// Rows of an input from where it is read on.
    fn rows_left(&self, number: usize, stride: usize) -> usize {
        let place = self.place(number);
        let above = if place.strip { 0 } else { self.start * stride };
        place.layout.extent.height.saturating_sub(above)
    }
}
