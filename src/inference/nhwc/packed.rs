//! Weights in the order in which the kernels read them.

use super::curve::Curve;
use super::depthwise::Depthwise;
use super::matrix::{Follow, Matrix};
use super::memory::{Aligned, Extent, Layout, padded};
use super::norm::Scales;
use super::pair::Pair;
use super::pieces::Pieces;
use super::planar::Planes;
use super::program::{Activation, Convolution, Norm, Program, Step, Value, Work};
use super::simd::Vectors;
use super::simple::{Keep, Window};
use super::strip::Strip;
use super::winograd::{self, PLACES, Winograd};

/// A step's work, packed. Nothing here but a [`Strip`] depends on the size of the picture; a convolution that
/// is [`Packed::Winograd`] for one size is so for all.
#[derive(Debug)]
pub(super) enum Packed {
    Import,
    FromPlanes {
        shape: Convolution,
        matrix: Matrix,
    },
    Dense {
        matrix: Matrix,
        stride: [usize; 2],
        padding: [usize; 2],
        runs: Runs,
    },
    /// A dense convolution of 3×3, with fewer products.
    Winograd {
        weights: Winograd,
        padding: [usize; 2],
    },
    ByChannel {
        weights: Depthwise,
        padding: [usize; 2],
    },
    Strip(Strip),
    Pool {
        window: Window,
        greatest: Option<Aligned>,
    },
    Enlarge(usize),
    Shuffle(usize, Vec<usize>),
    Sum {
        slope: Option<Aligned>,
        curve: Option<Curve>,
    },
    Product,
    Norm(Scales),
    Pair(Pair),
    Total(f32),
    Gate,
}

/// How the kernel of a dense convolution is cut into runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Runs {
    kernel: [usize; 2],
    dilation: [usize; 2],
    /// Whether each position is a run of its own, and not each row.
    by_position: bool,
}

/// How the channels of a value lie.
struct Lanes {
    /// Where each channel lies.
    places: Vec<usize>,
    /// Numbers of a pixel.
    stored: usize,
}

impl Lanes {
    fn of(program: &Program, value: Value) -> Self {
        Self { places: program.places(value), stored: program.stored(value) }
    }

    /// Channels that lie together.
    fn together(channels: usize) -> Self {
        Self { places: (0..channels).collect(), stored: padded(channels) }
    }

    /// Numbers a channel, with zeros for what is padding.
    fn spread(&self, numbers: &[f32]) -> Aligned {
        let mut aligned = Aligned::default();
        let spread = aligned.resize(self.stored);
        spread.fill(0.0);
        for (place, number) in self.places.iter().zip(numbers) {
            if let Some(to) = spread.get_mut(*place) {
                *to = *number;
            }
        }
        aligned
    }

    /// Which channel lies at each place.
    fn channels(&self) -> Vec<Option<usize>> {
        let mut channels = vec![None; self.stored];
        for (channel, place) in self.places.iter().enumerate() {
            if let Some(there) = channels.get_mut(*place) {
                *there = Some(channel);
            }
        }
        channels
    }

    fn follow(&self, convolution: &Convolution) -> Follow {
        Follow {
            bias: self.spread(&convolution.bias),
            slope: convolution.activation.slope().map(|slope| self.spread(slope)),
            curve: convolution.activation.curve(),
        }
    }
}

impl Packed {
    /// The way over the planes of a picture, for the first convolution.
    pub(super) const fn planes(&self, picture: Extent, to: Extent) -> Option<Planes> {
        let Self::FromPlanes { shape, .. } = self else { return None };
        Some(Planes {
            count: picture.channels,
            height: picture.height,
            width: picture.width,
            kernel: shape.kernel,
            stride: shape.stride,
            dilation: shape.dilation,
            padding: shape.padding,
            output: [to.height, to.width],
        })
    }
}

/// Where the runs of a dense convolution begin in a value that lies so.
pub(super) fn starts(work: &Packed, from: Layout) -> Vec<usize> {
    let Packed::Dense { runs: Runs { kernel, dilation, by_position }, .. } = work else {
        return vec![];
    };
    let columns = if *by_position { kernel[1] } else { 1 };
    let row = |ky: usize| ky * dilation[0] * from.row();
    (0..kernel[0])
        .flat_map(|ky| (0..columns).map(move |kx| row(ky) + kx * dilation[1] * from.pixel))
        .collect()
}

/// Packs a step's weights; `program` tells how its values lie.
pub(super) fn pack_work(program: &Program, step: &Step, vectors: Vectors) -> Packed {
    let input = step.inputs.first().copied().unwrap_or(usize::MAX);
    let from = program.extent(input);
    let to = program.extent(step.output);
    let pixels = to.height * to.width;
    let lanes = || Lanes::of(program, step.output);
    match &step.work {
        Work::Import => Packed::Import,
        Work::FromPlanes(convolution) => {
            pack_from_planes(convolution, program.picture.channels, &lanes(), vectors)
        }
        Work::Dense(convolution) => {
            // In a value that is a part of another, neighbours do not lie side by side; and a run of
            // whole rows would read more padding than channels where there are few of these.
            let few = convolution.kernel[1] > 1 && 2 * from.channels <= program.stored(input);
            let apart = program.host(input).0 != input;
            let by_position = few || apart || convolution.dilation != [1, 1];
            let (inputs, outputs) = (Lanes::of(program, input), lanes());
            let (kernel, dilation) = (convolution.kernel, convolution.dilation);
            let (stride, padding) = (convolution.stride, convolution.padding);
            let shape = shape(convolution, &inputs, by_position);
            // Tiles multiply faster than the transforms for fewer products add.
            let by_tiles = is_for_tiles(shape, &outputs, pixels, vectors);
            if !by_tiles && is_for_winograd(convolution, from, to) {
                let weights = pack_winograd(convolution, &inputs, &outputs, vectors);
                return Packed::Winograd { weights, padding };
            }
            let runs = Runs { kernel, dilation, by_position };
            let matrix = pack_dense(convolution, [&inputs, &outputs], shape, by_tiles, vectors);
            Packed::Dense { matrix, stride, padding, runs }
        }
        Work::ByChannel(convolution) => Packed::ByChannel {
            weights: pack_by_channel(convolution, &lanes()),
            padding: convolution.padding,
        },
        Work::Strip(first, second) => {
            let between = Lanes::together(first.bias.len());
            let input = Lanes::of(program, input);
            Packed::Strip(Strip {
                matrix: pack_point(first, [&input, &between], from.height * from.width, vectors),
                weights: pack_by_channel(second, &between),
                padding: second.padding,
                height: from.height,
                width: from.width,
                // No fewer than the 1×1 writes, though the depthwise one may not read the last.
                columns: second.last_read(to.width, 1).max(second.padding[1] + from.width),
            })
        }
        Work::Pool(window) => {
            Packed::Pool { window: *window, greatest: greatest(*window, &lanes()) }
        }
        Work::Enlarge(factor) => Packed::Enlarge(*factor),
        Work::Shuffle(factor) => Packed::Shuffle(*factor, program.places(input)),
        Work::Sum(activation) => Packed::Sum {
            slope: activation.slope().map(|slope| lanes().spread(slope)),
            curve: activation.curve(),
        },
        Work::Product => Packed::Product,
        Work::Norm(norm) => Packed::Norm(scales(norm, &lanes())),
        Work::Pair(first, second) => {
            let between = Lanes::together(first.bias.len());
            let from = Lanes::of(program, input);
            Packed::Pair(Pair {
                first: pack_point(first, [&from, &between], pixels, vectors),
                second: pack_point(second, [&between, &lanes()], pixels, vectors),
            })
        }
        Work::Total(divisor) => Packed::Total(*divisor),
        Work::Gate => Packed::Gate,
    }
}

/// One run of one number for each weight of the kernel.
fn pack_from_planes(
    convolution: &Convolution,
    planes: usize,
    lanes: &Lanes,
    vectors: Vectors,
) -> Packed {
    let taps = planes * convolution.kernel.iter().product::<usize>();
    let channels = lanes.channels();
    let weight = |place: usize, run: usize, _: usize| {
        let channel = channels.get(place).copied().flatten();
        let weight = channel.and_then(|channel| convolution.weights.get(channel * taps + run));
        weight.copied().unwrap_or(0.0)
    };
    let matrix = Matrix::pack([taps, 1], vectors, weight, lanes.follow(convolution));
    let shape = Convolution { weights: vec![], bias: vec![], ..convolution.clone() };
    Packed::FromPlanes { shape, matrix }
}

/// How many runs a dense convolution is made of, and of how many numbers: one a kernel row, its columns' channels one
/// behind the other; or one a position.
fn shape(convolution: &Convolution, from: &Lanes, by_position: bool) -> [usize; 2] {
    let [high, across] = convolution.kernel;
    if by_position || convolution.is_pointwise() {
        // Behind the last channel there is only padding.
        let used = from.places.iter().max().map_or(0, |last| last + 1);
        return [high * across, used];
    }
    [high, across * from.stored]
}

/// Whether there are tiles, and they are worth it.
fn is_for_tiles(shape: [usize; 2], to: &Lanes, pixels: usize, vectors: Vectors) -> bool {
    vectors.have_tiles() && Pieces::is_worth(shape, to.stored, pixels)
}

/// Whether fewer products are worth the transforms.
fn is_for_winograd(convolution: &Convolution, from: Extent, to: Extent) -> bool {
    let Convolution { kernel, stride, dilation, pooled, .. } = convolution;
    let is_plain = [*kernel, *stride, *dilation] == [[3, 3], [1, 1], [1, 1]] && !pooled;
    is_plain && winograd::is_worth(from, to)
}

/// A convolution of 1×1.
fn pack_point(
    convolution: &Convolution,
    [from, to]: [&Lanes; 2],
    pixels: usize,
    vectors: Vectors,
) -> Matrix {
    let shape = shape(convolution, from, false);
    let by_tiles = is_for_tiles(shape, to, pixels, vectors);
    pack_dense(convolution, [from, to], shape, by_tiles, vectors)
}

fn pack_dense(
    convolution: &Convolution,
    [from, to]: [&Lanes; 2],
    shape: [usize; 2],
    by_tiles: bool,
    vectors: Vectors,
) -> Matrix {
    let Convolution { weights, kernel: [high, across], .. } = convolution;
    let (inputs, outputs) = (from.channels(), to.channels());
    let (count, columns) = (from.places.len(), shape[0] / high);
    let weight = |output: usize, run: usize, position: usize| {
        let (ky, kx) = (run / columns, run % columns + position / from.stored);
        let input = inputs.get(position % from.stored).copied().flatten();
        let output = outputs.get(output).copied().flatten();
        output.zip(input).map_or(0.0, |(output, input)| {
            let at = ((output * count + input) * high + ky) * across + kx;
            weights.get(at).copied().unwrap_or(0.0)
        })
    };
    let follow = to.follow(convolution);
    if by_tiles {
        return Matrix::pack_pieces(shape, weight, follow);
    }
    Matrix::pack(shape, vectors, weight, follow)
}

/// One 1×1 convolution a place of the window.
fn pack_winograd(
    convolution: &Convolution,
    from: &Lanes,
    to: &Lanes,
    vectors: Vectors,
) -> Winograd {
    let kernels = convolution.weights.as_chunks().0;
    let kernels: Vec<[f32; PLACES]> =
        kernels.iter().map(|kernel| winograd::kernel_places(*kernel)).collect();
    let places = (0..PLACES).map(|place| {
        let at_place = Convolution {
            weights: kernels.iter().filter_map(|kernel| kernel.get(place).copied()).collect(),
            bias: vec![0.0; convolution.bias.len()],
            activation: Activation::Linear,
            kernel: [1, 1],
            padding: [0, 0],
            ..convolution.clone()
        };
        let shape = shape(&at_place, from, true);
        pack_dense(&at_place, [from, to], shape, false, vectors)
    });
    Winograd { places: places.collect(), follow: to.follow(convolution) }
}

fn pack_by_channel(convolution: &Convolution, lanes: &Lanes) -> Depthwise {
    let Convolution { weights, kernel, stride, dilation, pooled, .. } = convolution;
    let area = kernel[0] * kernel[1];
    let Follow { bias, slope, .. } = lanes.follow(convolution);
    let packed = (0..area).flat_map(|position| {
        let weights: Vec<f32> = weights.iter().skip(position).step_by(area).copied().collect();
        lanes.spread(&weights).as_slice().to_vec()
    });
    let packed: Vec<f32> = packed.collect();
    Depthwise {
        weights: Aligned::from_slice(&packed),
        bias,
        slope,
        kernel: *kernel,
        stride: *stride,
        dilation: *dilation,
        pooled: *pooled,
    }
}

fn scales(norm: &Norm, lanes: &Lanes) -> Scales {
    let Norm { gain, offset, epsilon, activation } = norm;
    Scales {
        gain: lanes.spread(gain),
        offset: lanes.spread(offset),
        marks: lanes.spread(&vec![1.0; gain.len()]),
        share: reciprocal(gain.len()),
        epsilon: *epsilon,
        curve: match activation {
            Activation::Curve(curve) => Some(*curve),
            Activation::Linear | Activation::Slope(_) => None,
        },
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count of channels is exact as f32")]
fn reciprocal(count: usize) -> f32 {
    1.0 / count as f32
}

/// Marks the channels of which the greatest is kept, where not all are treated alike.
fn greatest(window: Window, lanes: &Lanes) -> Option<Aligned> {
    match window.keep {
        Keep::Both(first) => Some(lanes.spread(&vec![1.0; first])),
        Keep::Greatest | Keep::Mean => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_convolution_of_3x3_has_fewer_products_where_each_weight_serves_enough_quads() {
        let is_winograd = |vectors, channels: usize, side: usize, stride: usize| {
            let extent = Extent { height: side, width: side, channels };
            let to = Extent { height: side / stride, width: side / stride, channels };
            let convolution = Convolution {
                weights: vec![0.5; channels * channels * 9],
                bias: vec![0.0; channels],
                activation: Activation::Linear,
                kernel: [3, 3],
                stride: [stride; 2],
                dilation: [1, 1],
                padding: [1, 1],
                pooled: false,
            };
            let mut program =
                Program { picture: extent, values: vec![], steps: vec![], exports: vec![] };
            let from = program.value(extent);
            program.push(Work::Dense(convolution), vec![from], to);
            matches!(pack_work(&program, &program.steps[0], vectors), Packed::Winograd { .. })
        };
        for vectors in Vectors::all() {
            let is_winograd = |channels, side, stride| is_winograd(vectors, channels, side, stride);
            let tiled = vectors.have_tiles();
            assert_eq!(!is_winograd(64, 17, 1), tiled, "tiles multiply faster than transforms add");
            assert_eq!(!is_winograd(32, 35, 1), tiled, "tiles multiply faster than transforms add");
            assert!(is_winograd(16, 35, 1), "few weights are not worth tiles");
            assert!(!is_winograd(32, 34, 2), "a stride leaves results out");
            assert!(!is_winograd(8, 35, 1), "half of what is multiplied would be padding");
            assert!(!is_winograd(32, 3, 1), "quads would hang over the edge");
            assert!(!is_winograd(128, 4, 1), "each weight would serve four quads");
        }
    }
}
