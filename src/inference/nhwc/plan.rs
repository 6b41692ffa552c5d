//! Where the values of a program lie, and which of its steps are run together, strip by strip.
//!
//! Steps that read row for row what the step before them wrote form a **stage**: some rows go through
//! all of them before the next rows begin, and what is read only within the stage never exists whole.
//! So between a depthwise convolution and the end of its block nothing leaves the second-level cache.

use std::ops::Range;

use super::memory::{Extent, Layout};
use super::program::{Program, Step, Value, Work};

/// Where a value lies: values that are not needed at once share a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) slot: usize,
    pub(super) layout: Layout,
    /// Whether it holds the rows of one strip only.
    pub(super) strip: bool,
}

pub(super) const NOWHERE: Place = Place {
    slot: usize::MAX,
    layout: Layout {
        extent: Extent { height: 0, width: 0, channels: 0 },
        border: 0,
        stored: 0,
        pixel: 0,
        first: 0,
    },
    strip: false,
};

/// Steps that are run together.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) steps: Range<usize>,
    /// Rows of its lowest value, and how many of them are a strip.
    pub(super) units: usize,
    pub(super) per_strip: usize,
}

/// A program's values and stages.
#[derive(Debug)]
pub(super) struct Plan {
    /// One a value.
    pub(super) places: Vec<Place>,
    pub(super) stages: Vec<Stage>,
    pub(super) slots: usize,
}

/// What is known of the memory of a value that is no part of another.
#[derive(Clone, Copy)]
struct Owner {
    first_written: usize,
    last_touched: usize,
    border: usize,
    /// Whether it is written or read outside of one stage.
    whole: bool,
    slot: Option<usize>,
}

/// Plans a program.
pub(super) fn plan(program: &Program) -> Plan {
    let ranges = ranges(program);
    let mut owners = owners(program, &ranges);
    let stages: Vec<Stage> =
        ranges.into_iter().map(|steps| stage(program, steps, &owners)).collect();
    let slots = assign(program, &stages, &mut owners);
    let place = |value: usize| {
        let (host, first) = program.host(value);
        let (Some(owner), extent) = (owners.get(host), program.extent(value)) else {
            return NOWHERE;
        };
        let stage = stages.iter().find(|stage| stage.steps.contains(&owner.first_written));
        let height = match stage {
            Some(stage) if !owner.whole => extent.height / stage.units.max(1) * stage.per_strip,
            _ => extent.height,
        };
        let layout = Layout {
            extent: Extent { height, ..extent },
            border: owner.border,
            stored: program.stored(value),
            pixel: program.stored(host),
            first,
        };
        Place { slot: owner.slot.unwrap_or(usize::MAX), layout, strip: !owner.whole }
    };
    Plan { places: (0..program.values.len()).map(place).collect(), stages, slots }
}

/// The steps of each stage.
fn ranges(program: &Program) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for at in 0..program.steps.len() {
        match ranges.last_mut() {
            Some(stage) if joins(program, stage.clone(), at) => stage.end = at + 1,
            _ => ranges.push(at..at + 1),
        }
    }
    ranges
}

/// Whether a step can be run strip by strip with the stage before it, and whether that saves memory
/// worth a loop.
fn joins(program: &Program, stage: Range<usize>, at: usize) -> bool {
    let (Some(members), Some(step)) = (program.steps.get(stage), program.steps.get(at)) else {
        return false;
    };
    let owner = |value: Value| program.host(value).0;
    let made = |value: &Value| members.iter().any(|one| owner(one.output) == owner(*value));
    let mut inputs = step.inputs.iter().enumerate().filter(|(_, value)| made(value));
    let large = |value: Value| {
        let Extent { height, width, .. } = program.extent(value);
        height * width * program.stored(value) * size_of::<f32>() >= WORTH_BYTES
    };
    let reads = step.inputs.iter().any(|value| made(value) && large(*value));
    let beside = !step.inputs.iter().any(made)
        && owner(step.output) != step.output
        && made(&step.output)
        && large(owner(step.output));
    let local = inputs.all(|(number, _)| is_local(program, step, number));
    let heights = || members.iter().chain([step]).map(|one| program.extent(one.output).height);
    let units = heights().min().unwrap_or(0).max(1);
    (reads || beside)
        && local
        && members.iter().chain([step]).all(|one| goes_by_rows(&one.work))
        && heights().all(|height| height % units == 0)
}

const fn goes_by_rows(work: &Work) -> bool {
    !matches!(work, Work::Import | Work::Strip(..) | Work::Total(_) | Work::Gate)
}

/// Whether a step reads of an input only the rows that it makes.
fn is_local(program: &Program, step: &Step, input: usize) -> bool {
    let to = program.extent(step.output);
    let from = step.inputs.get(input).map_or(to, |value| program.extent(*value));
    let rows = |factor: usize| from.height * factor == to.height;
    match &step.work {
        Work::Dense(one) => (input == 1 || one.is_pointwise()) && rows(1),
        Work::Pair(..) | Work::Norm(_) | Work::Product => rows(1),
        Work::Sum(_) => rows(1) && from.width == to.width,
        Work::Enlarge(factor) | Work::Shuffle(factor) => rows(*factor),
        Work::Pool(window) => {
            window.size == window.stride && from.height == to.height * window.stride[0]
        }
        _ => false,
    }
}

fn owners(program: &Program, stages: &[Range<usize>]) -> Vec<Owner> {
    let new =
        Owner { first_written: usize::MAX, last_touched: 0, border: 0, whole: false, slot: None };
    let mut owners = vec![new; program.values.len()];
    let stage_of = |step: usize| stages.iter().position(|stage| stage.contains(&step));
    for (at, step) in program.steps.iter().enumerate() {
        for value in step.inputs.iter().chain([&step.output]) {
            let Some(owner) = owners.get_mut(program.host(*value).0) else { continue };
            if owner.first_written == usize::MAX {
                owner.first_written = at;
            }
            owner.last_touched = at;
            owner.whole |= stage_of(at) != stage_of(owner.first_written);
        }
        for value in &step.inputs {
            let reach = reach(program, step, *value);
            if let Some(owner) = owners.get_mut(program.host(*value).0) {
                owner.border = owner.border.max(reach);
            }
        }
    }
    for export in &program.exports {
        if let Some(owner) = owners.get_mut(program.host(export.value).0) {
            owner.last_touched = usize::MAX;
            owner.whole = true;
        }
    }
    owners
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

/// How many rows go through a stage at a time.
fn stage(program: &Program, steps: Range<usize>, owners: &[Owner]) -> Stage {
    let members = program.steps.get(steps.clone()).unwrap_or_default();
    let heights = members.iter().map(|step| program.extent(step.output).height);
    let units = heights.min().unwrap_or(0);
    if members.len() < 2 {
        return Stage { steps, units, per_strip: units };
    }
    let mut kept: Vec<Value> = members.iter().map(|step| program.host(step.output).0).collect();
    kept.sort_unstable();
    kept.dedup();
    kept.retain(|value| owners.get(*value).is_some_and(|owner| !owner.whole));
    let bytes = kept.into_iter().map(|value| {
        let Extent { height, width, .. } = program.extent(value);
        height / units.max(1) * width * program.stored(value) * size_of::<f32>()
    });
    let strips = units.div_ceil((STRIP_BYTES / bytes.sum::<usize>().max(1)).max(1)).max(1);
    Stage { steps, units, per_strip: units.div_ceil(strips) }
}

/// Gives each value's memory a slot that is free while it is needed; tells how many there are.
fn assign(program: &Program, stages: &[Stage], owners: &mut [Owner]) -> usize {
    let mut whole = Slots::default();
    let mut strips: Vec<(usize, usize)> = Vec::new();
    let mut strip_slots = 0;
    for stage in stages {
        let mut free: Vec<usize> = (0..strip_slots).rev().collect();
        for at in stage.steps.clone() {
            for (value, owner) in owners.iter_mut().enumerate() {
                if owner.first_written != at {
                    continue;
                }
                let Extent { height, width, .. } = program.extent(value);
                let border = 2 * owner.border;
                let len = (height + border) * (width + border) * program.stored(value);
                if owner.whole {
                    owner.slot = Some(whole.take(len));
                } else {
                    let slot = free.pop().unwrap_or_else(|| {
                        strip_slots += 1;
                        strip_slots - 1
                    });
                    strips.push((value, slot));
                }
            }
            let done = |owner: &Owner| !owner.whole && owner.last_touched == at;
            let ended = strips.iter().filter(|(value, _)| owners.get(*value).is_some_and(done));
            free.extend(ended.map(|(_, slot)| *slot));
        }
        for owner in owners.iter().filter(|owner| owner.whole) {
            let ended = stage.steps.contains(&owner.last_touched);
            if let Some(slot) = owner.slot.filter(|_| ended) {
                whole.free.push(slot);
            }
        }
    }
    for (value, slot) in strips {
        if let Some(owner) = owners.get_mut(value) {
            owner.slot = Some(whole.sizes.len() + slot);
        }
    }
    whole.sizes.len() + strip_slots
}

/// Slots for whole values.
#[derive(Default)]
struct Slots {
    sizes: Vec<usize>,
    /// Those that are free, the last freed behind: it may still be in the cache.
    free: Vec<usize>,
}

impl Slots {
    /// The smallest free slot that is large enough, or else the largest.
    fn take(&mut self, len: usize) -> usize {
        let size = |slot: &usize| self.sizes.get(*slot).copied().unwrap_or(0);
        let fits = self.free.iter().enumerate().rev().filter(|(_, slot)| size(slot) >= len);
        let found = fits
            .min_by_key(|(_, slot)| size(slot))
            .or_else(|| self.free.iter().enumerate().max_by_key(|(_, slot)| size(slot)));
        let slot = if let Some((at, _)) = found {
            self.free.remove(at)
        } else {
            self.sizes.push(0);
            self.sizes.len() - 1
        };
        if let Some(size) = self.sizes.get_mut(slot) {
            *size = len.max(*size);
        }
        slot
    }
}

/// What lies between the steps of a stage may take this much at a time: a part of the second-level
/// cache.
const STRIP_BYTES: usize = 448 * 1024;

/// A value smaller than this stays in the cache anyhow.
const WORTH_BYTES: usize = 256 * 1024;
