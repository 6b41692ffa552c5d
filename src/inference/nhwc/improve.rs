//! Makes a program cheaper, without changing what it means.
//!
//! - Who reads repeated pixels and treats each by itself is moved before the repetition.
//! - A convolution over pixels repeated twice yields, for each pixel before it, four **phases**; its
//!   kernel shrinks to about half, its result stays small and is spread only where it leaves the trunk.
//! - What is joined with other values is written where it will lie, and not copied.
//! - Two 1×1 convolutions with many channels between them become one step.

use super::memory::Extent;
use super::program::{Activation, Convolution, Held, Program, Step, Value, Work};

/// Improves a program until nothing more is found.
pub(super) fn improve(program: &mut Program) {
    while repeat_late(program) || fold_phases(program) {}
    while elide_copy(program) {}
    while join_phases(program) {}
    export_phases(program);
    while pair(program) {}
    program.merge_heads();
}

/// Moves a step that treats each pixel by itself before the repetition of pixels.
fn repeat_late(program: &mut Program) -> bool {
    let found = program.steps.iter().enumerate().find_map(|(at, step)| {
        let Work::Enlarge(factor) = step.work else { return None };
        let reader = program.only_reader(step.output)?;
        let next = program.steps.get(reader)?;
        let alone = next.inputs.len() == 1 && program.host(next.output).0 == next.output;
        let by_pixel = match &next.work {
            Work::Dense(one) => one.is_pointwise(),
            Work::Norm(_) | Work::Sum(_) => {
                program.extent(next.output) == program.extent(step.output)
            }
            _ => false,
        };
        (alone && by_pixel).then_some((at, reader, factor))
    });
    let Some((at, reader, factor)) = found else { return false };
    let from = program.steps.get(at).and_then(|step| step.inputs.first().copied());
    let last = program.steps.get(reader).map(|step| step.output);
    let (Some(from), Some(last)) = (from, last) else { return false };
    let extent = Extent { channels: program.extent(last).channels, ..program.extent(from) };
    let small = program.value_in_parts(extent, program.parts(last).to_vec());
    let Some(next) = program.steps.get_mut(reader) else { return false };
    let work = std::mem::replace(&mut next.work, Work::Enlarge(factor));
    next.inputs = vec![small];
    if let Some(step) = program.steps.get_mut(at) {
        *step = Step { work, inputs: vec![from], output: small };
    }
    true
}

/// Computes a convolution over repeated pixels, or over phases, by phases.
fn fold_phases(program: &mut Program) -> bool {
    let found = program.steps.iter().enumerate().find_map(|(at, step)| {
        let phased = match step.work {
            Work::Enlarge(2) => false,
            Work::Shuffle(2) => true,
            _ => return None,
        };
        let reader = program.only_reader(step.output)?;
        let next = program.steps.get(reader)?;
        let Work::Dense(one) = &next.work else { return None };
        let square = one.kernel[0] == one.kernel[1] && one.dilation == [1, 1];
        let fits = next.inputs.len() == 1 && one.keeps_size() && square && !one.is_pointwise();
        fits.then(|| (at, reader, phases(one, program.extent(step.output).channels, phased)))
    });
    let Some((at, reader, folded)) = found else { return false };
    let Some(from) = program.steps.get(at).and_then(|step| step.inputs.first().copied()) else {
        return false;
    };
    let extent = Extent { channels: folded.bias.len(), ..program.extent(from) };
    let small = program.value(extent);
    if let Some(step) = program.steps.get_mut(at) {
        *step = Step { work: Work::Dense(folded), inputs: vec![from], output: small };
    }
    if let Some(next) = program.steps.get_mut(reader) {
        next.work = Work::Shuffle(2);
        next.inputs = vec![small];
    }
    true
}

/// The convolution that yields, for each pixel before it was repeated, the four results of `one`:
/// output channel, row and column. Its input are the pixels, or their own phases.
fn phases(one: &Convolution, inputs: usize, phased: bool) -> Convolution {
    let (side, padding) = (one.kernel[0], one.padding[0].div_ceil(2));
    let spread = 2 * padding + 1;
    let (outputs, each) = (one.bias.len(), if phased { 4 * inputs } else { inputs });
    let mut weights = vec![0.0; 4 * outputs * each * spread * spread];
    // Where the kernel's position `at` reads for a phase: which pixel, and which of its phases.
    let read = |phase: usize, at: usize| {
        let there = 2 * padding + phase + at - one.padding[0];
        (there / 2, there % 2)
    };
    for (number, weight) in one.weights.iter().enumerate() {
        let (line, kx) = (number / side, number % side);
        let (plane, ky) = (line / side, line % side);
        let (output, input) = (plane / inputs, plane % inputs);
        for phase in 0..4 {
            let ((y, row), (x, column)) = (read(phase / 2, ky), read(phase % 2, kx));
            let input = if phased { 4 * input + 2 * row + column } else { input };
            let at = ((4 * output + phase) * each + input) * spread + y;
            if let Some(sum) = weights.get_mut(at * spread + x) {
                *sum += weight;
            }
        }
    }
    let four = |numbers: &[f32]| -> Vec<f32> {
        numbers.iter().flat_map(|number| std::iter::repeat_n(*number, 4)).collect()
    };
    let activation = match &one.activation {
        Activation::Slope(slope) => Activation::Slope(four(slope)),
        other => other.clone(),
    };
    Convolution {
        weights,
        bias: four(&one.bias),
        activation,
        kernel: [spread; 2],
        padding: [padding; 2],
        ..*one
    }
}

/// Lets a value that is copied into a greater one be written there at once.
fn elide_copy(program: &mut Program) -> bool {
    let found = program.steps.iter().enumerate().find_map(|(at, step)| {
        let (Work::Sum(Activation::Linear), [from]) = (&step.work, step.inputs.as_slice()) else {
            return None;
        };
        let fits = program.extent(*from) == program.extent(step.output)
            && program.parts(*from) == program.parts(step.output)
            && program.host(step.output).0 != step.output
            && may_lie_in(program, *from, program.host(step.output).0, at);
        fits.then_some((at, *from, step.output))
    });
    let Some((at, from, to)) = found else { return false };
    program.steps.remove(at);
    rename(program, from, to);
    true
}

/// Whether a value may be made a part of `host`: it must be nobody's part and have none, and no step
/// but `copy` may read and write the host at once then.
fn may_lie_in(program: &Program, value: Value, host: Value, copy: usize) -> bool {
    let whole = |held: &Held| held.within.is_none_or(|(there, _)| there != value);
    let alone = program.host(value).0 == value && program.values.iter().all(whole);
    let mut steps = program.steps.iter().enumerate().filter(|(at, _)| *at != copy);
    let written = program.steps.iter().any(|step| step.output == value);
    alone
        && written
        && steps.all(|(_, step)| {
            let touches = |there: Value| there == value || program.host(there).0 == host;
            !(touches(step.output) && step.inputs.iter().any(|input| touches(*input)))
        })
}

fn rename(program: &mut Program, from: Value, to: Value) {
    for step in &mut program.steps {
        let inputs = step.inputs.iter_mut().filter(|value| **value == from);
        inputs.for_each(|value| *value = to);
        if step.output == from {
            step.output = to;
        }
    }
    let exports = program.exports.iter_mut().filter(|export| export.value == from);
    exports.for_each(|export| export.value = to);
}

/// Joins values of phases before they are spread, in place of after.
fn join_phases(program: &mut Program) -> bool {
    let hosts = program.values.iter().filter_map(|held| held.within.map(|(host, _)| host));
    let found = hosts.collect::<Vec<_>>().into_iter().find_map(|host| spread(program, host));
    let Some(Spread { host, factor, steps, phases }) = found else { return false };
    let parts: Vec<usize> =
        phases.iter().flat_map(|value| program.parts(*value).to_vec()).collect();
    let first = phases.first().map(|value| program.extent(*value));
    let Some(extent) = first else { return false };
    let extent = Extent { channels: parts.iter().sum(), ..extent };
    let joined = program.value_in_parts(extent, parts);
    let mut offset = 0;
    for value in phases {
        let stored = program.stored(value);
        if let Some(held) = program.values.get_mut(value) {
            held.within = Some((joined, offset));
        }
        offset += stored;
    }
    let last = steps.iter().copied().max().unwrap_or(0);
    let shuffle = Step { work: Work::Shuffle(factor), inputs: vec![joined], output: host };
    if let Some(step) = program.steps.get_mut(last) {
        *step = shuffle;
    }
    for at in steps.into_iter().rev().filter(|at| *at != last) {
        program.steps.remove(at);
    }
    for held in &mut program.values {
        held.within = held.within.filter(|(there, _)| *there != host);
    }
    true
}

/// A value all parts of which are phases that were spread.
struct Spread {
    host: Value,
    factor: usize,
    /// The steps that spread, in the order in which they are run.
    steps: Vec<usize>,
    /// What they spread, in the order of the parts.
    phases: Vec<Value>,
}

fn spread(program: &Program, host: Value) -> Option<Spread> {
    let mut members: Vec<(usize, Value)> = (0..program.values.len())
        .filter_map(|value| Some((program.values.get(value)?.within?, value)))
        .filter_map(|((there, first), value)| (there == host).then_some((first, value)))
        .collect();
    members.sort_unstable();
    let (mut steps, mut phases, mut factors) = (Vec::new(), Vec::new(), Vec::new());
    for (_, member) in &members {
        let writer = |step: &Step| step.output == *member;
        let at = program.steps.iter().position(writer)?;
        let step = program.steps.get(at)?;
        let (Work::Shuffle(factor), [from]) = (&step.work, step.inputs.as_slice()) else {
            return None;
        };
        let read = program.readers(*member).next().is_some();
        if read || !may_lie_in(program, *from, usize::MAX, at) || phases.contains(from) {
            return None;
        }
        steps.push(at);
        phases.push(*from);
        factors.push(*factor);
    }
    // Who reads one of them and writes another could not do so in the same memory.
    let touches = |value: &Value| phases.contains(value);
    let tangled = |step: &Step| touches(&step.output) && step.inputs.iter().any(touches);
    if program.steps.iter().any(tangled) {
        return None;
    }
    steps.sort_unstable();
    let factor = *factors.first()?;
    factors.iter().all(|other| *other == factor).then_some(Spread { host, factor, steps, phases })
}

/// Spreads phases while they leave the trunk.
fn export_phases(program: &mut Program) {
    for export in &mut program.exports {
        let writes = |step: &Step| step.output == export.value;
        let Some(step) = program.steps.iter().find(|step| writes(step)) else { continue };
        let (Work::Shuffle(factor), Some(from)) = (&step.work, step.inputs.first()) else {
            continue;
        };
        let whole = program.values.get(export.value).map(|held| held.extent) == Some(export.extent);
        if let Some(held) = program.values.get(*from).filter(|_| whole && export.first == 0) {
            (export.value, export.extent, export.factor) = (*from, held.extent, *factor);
        }
    }
    let read: Vec<Value> = program.steps.iter().flat_map(|step| step.inputs.clone()).collect();
    let left: Vec<Value> = program.exports.iter().map(|export| export.value).collect();
    let held = &program.values;
    program.steps.retain(|step| {
        let part = held.get(step.output).is_some_and(|held| held.within.is_some());
        let needed = part || read.contains(&step.output) || left.contains(&step.output);
        needed || !matches!(step.work, Work::Shuffle(_))
    });
}

/// Joins two 1×1 convolutions, so that what lies between is never whole.
fn pair(program: &mut Program) -> bool {
    let found = program.steps.iter().enumerate().find_map(|(at, step)| {
        let Work::Dense(first) = &step.work else { return None };
        let reader = program.only_reader(step.output)?;
        let next = program.steps.get(reader)?;
        let Work::Dense(second) = &next.work else { return None };
        let wide = step.inputs.first().map_or(0, |input| 2 * program.stored(*input));
        let fits = first.is_pointwise()
            && second.is_pointwise()
            && step.inputs.len() == 1
            && program.host(step.output).0 == step.output
            && next.inputs.first() == Some(&step.output)
            && program.stored(step.output) >= wide.max(2 * program.stored(next.output));
        fits.then(|| (at, reader, first.clone(), second.clone()))
    });
    let Some((at, reader, first, second)) = found else { return false };
    let from = program.steps.get(at).map(|step| step.inputs.clone()).unwrap_or_default();
    if let Some(next) = program.steps.get_mut(reader) {
        next.work = Work::Pair(first, second);
        next.inputs.splice(0..1, from);
    }
    program.steps.remove(at);
    true
}
