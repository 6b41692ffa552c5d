//! Graphs through the rewrite, against tract's plain operators, with vectors of every width.

use proptest::prelude::*;
use tract_onnx::tract_core::ops::array::{Pad, PadMode};
use tract_onnx::tract_core::ops::cnn::{
    Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec, SumPool,
};
use tract_onnx::tract_core::ops::math;
use tract_onnx::tract_core::ops::nn::{DataFormat, Reduce, Reducer, sigmoid};
use tract_onnx::tract_hir::internal::*;

use super::super::isa::Isa;
use super::super::prelu::PRelu;
use super::simd::Vectors;
use super::trunk::Scratch;
use super::{RunTrunk, forget, remembers, rewrite, rewrite_for};

/// A graph that is made operator by operator, with constants drawn from a seed.
pub(super) struct Graph {
    pub(super) model: TypedModel,
    seed: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) dilation: usize,
    pub(super) padding: [usize; 2],
}

pub(super) const POINT: Shape =
    Shape { kernel: [1, 1], stride: [1, 1], dilation: 1, padding: [0, 0] };
pub(super) const AROUND: Shape =
    Shape { kernel: [3, 3], stride: [1, 1], dilation: 1, padding: [1, 1] };

#[derive(Clone, Copy, Debug, PartialEq)]
enum Activation {
    Linear,
    Relu,
    Prelu,
}

impl Graph {
    pub(super) fn new(seed: u32, channels: usize, height: usize, width: usize) -> (Self, OutletId) {
        let mut model = TypedModel::default();
        let input = model.add_source("x", f32::fact([1, channels, height, width])).unwrap();
        (Self { model, seed: seed | 1 }, input)
    }

    fn numbers(&mut self, count: usize, largest: f32) -> Vec<f32> {
        std::iter::repeat_with(|| {
            self.seed ^= self.seed << 13;
            self.seed ^= self.seed >> 17;
            self.seed ^= self.seed << 5;
            largest * (f32::from(self.seed.to_le_bytes()[3]) / 127.5 - 1.0)
        })
        .take(count)
        .collect()
    }

    pub(super) fn constant(&mut self, shape: &[usize], largest: f32) -> OutletId {
        let numbers = self.numbers(shape.iter().product(), largest);
        self.given(shape, &numbers)
    }

    pub(super) fn given(&mut self, shape: &[usize], numbers: &[f32]) -> OutletId {
        let name = format!("constant.{}", self.model.nodes.len());
        self.model.add_const(name, Tensor::from_shape(shape, numbers).unwrap()).unwrap()
    }

    pub(super) fn wire(
        &mut self,
        op: impl Into<Box<dyn TypedOp>>,
        inputs: &[OutletId],
    ) -> OutletId {
        let name = format!("node.{}", self.model.nodes.len());
        self.model.wire_node(name, op, inputs).unwrap()[0]
    }

    pub(super) fn shape(&self, outlet: OutletId) -> Vec<usize> {
        self.model.outlet_fact(outlet).unwrap().shape.as_concrete().unwrap().to_vec()
    }

    pub(super) fn spec(&self, x: OutletId, outputs: usize, shape: Shape) -> PoolSpec {
        let Shape { kernel, stride, dilation, padding } = shape;
        PoolSpec {
            data_format: DataFormat::NCHW,
            kernel_shape: kernel.as_slice().into(),
            padding: PaddingSpec::Explicit(padding.as_slice().into(), padding.as_slice().into()),
            dilations: Some(tvec![dilation; 2]),
            strides: Some(stride.as_slice().into()),
            input_channels: self.shape(x)[1],
            output_channels: outputs,
        }
    }

    /// A convolution to `outputs` channels, or of each channel by itself.
    pub(super) fn conv(&mut self, x: OutletId, outputs: Option<usize>, shape: Shape) -> OutletId {
        let inputs = self.shape(x)[1];
        let (group, outputs, each) =
            outputs.map_or((inputs, inputs, 1), |outputs| (1, outputs, inputs));
        let [high, across] = shape.kernel;
        let weights = self.constant(&[outputs, each, high, across], scale(each * high * across));
        let bias = self.constant(&[outputs], 0.5);
        let pool_spec = self.spec(x, outputs, shape);
        let conv = Conv { pool_spec, kernel_fmt: KernelFormat::OIHW, group, q_params: None };
        self.wire(conv, &[x, weights, bias])
    }

    fn activate(&mut self, x: OutletId, activation: Activation) -> OutletId {
        match activation {
            Activation::Linear => x,
            Activation::Relu => {
                let zero = self.given(&[1, 1, 1, 1], &[0.0]);
                self.wire(math::max(), &[x, zero])
            }
            Activation::Prelu => {
                let channels = self.shape(x)[1];
                let slope = self.constant(&[channels, 1, 1], 1.0);
                self.wire(PRelu, &[x, slope])
            }
        }
    }

    /// Multiplies and adds, channel by channel, as a batch norm does.
    fn norm(&mut self, x: OutletId) -> OutletId {
        let channels = self.shape(x)[1];
        let (factor, term) =
            (self.constant(&[1, channels, 1, 1], 1.0), self.constant(&[1, channels, 1, 1], 1.0));
        let x = self.wire(math::mul(), &[factor, x]);
        self.wire(math::add(), &[x, term])
    }

    fn halve(&mut self, x: OutletId) -> OutletId {
        let halves = Shape { kernel: [2, 2], stride: [2, 2], dilation: 1, padding: [0, 0] };
        let pool_spec = self.spec(x, self.shape(x)[1], halves);
        self.wire(MaxPool { pool_spec, with_index_outputs: None }, &[x])
    }

    /// Runs it plain and rewritten, for vectors of every width, and compares; nothing that the
    /// trunk knows may be left to the plain operators.
    #[track_caller]
    pub(super) fn check(self, outputs: &[OutletId], length: usize) {
        self.check_within(outputs, tolerance(length));
    }

    /// The same, with a bound on how far a number may be from the plain one.
    #[track_caller]
    pub(super) fn check_within(mut self, outputs: &[OutletId], difference_max: f32) {
        self.model.select_output_outlets(outputs).unwrap();
        let shape = self.shape(self.model.inputs[0]);
        let numbers = self.numbers(shape.iter().product(), 1.0);
        let input = tvec!(Tensor::from_shape(&shape, &numbers).unwrap().into_tvalue());
        let run = |model: TypedModel| {
            model.into_optimized().unwrap().into_runnable().unwrap().run(input.clone()).unwrap()
        };
        let plain = run(self.model.clone());
        for vectors in Vectors::all() {
            let fast = rewrite_for(&self.model, vectors).unwrap().unwrap();
            assert_eq!(plain_left(&fast), Vec::<String>::new());
            let difference_max =
                difference_max + if vectors.have_tiles() { OF_PIECES } else { 0.0 };
            for (plain, fast) in plain.iter().zip(run(fast)) {
                assert_eq!(plain.shape(), fast.shape());
                let fast = fast.to_plain_array_view::<f32>().unwrap();
                let plain = plain.to_plain_array_view::<f32>().unwrap();
                for (place, (plain, fast)) in plain.iter().zip(fast.iter()).enumerate() {
                    let far = (plain - fast).abs() > difference_max;
                    assert!(!far, "{vectors:?}: {fast}, not {plain}, at {place}");
                }
            }
        }
    }
}

/// The graph with its trunk as one operator, for vectors of every width.
pub(in super::super) fn rewritten(model: &TypedModel) -> Vec<(String, TypedModel)> {
    let fast = |vectors| rewrite_for(model, vectors).unwrap().unwrap();
    Vectors::all().into_iter().map(|vectors| (format!("{vectors:?}"), fast(vectors))).collect()
}

/// Weights of this size keep the sum of so many products near one.
fn scale(count: usize) -> f32 {
    1.7 / f32::from(u16::try_from(count).unwrap()).sqrt()
}

/// Rounding adds up like a walk at random: as the root of the number of products. One product that
/// is missing weighs a thousand times as much.
fn tolerance(length: usize) -> f32 {
    16.0 * f32::EPSILON * f32::from(u16::try_from(length).unwrap()).sqrt()
}

/// How much further sums near one may be off where their products are made of pieces.
const OF_PIECES: f32 = 4e-5;

/// What the trunk should have taken in and did not.
pub(in super::super) fn plain_left(model: &TypedModel) -> Vec<String> {
    let known =
        ["Conv", "PRelu", "MaxPool", "SumPool", "Pad", "Resize", "Max", "Tanh", "Sqrt", "Concat"];
    let left = model.nodes.iter().filter(|node| known.contains(&node.op.name().as_ref()));
    left.map(ToString::to_string).collect()
}

fn activation() -> impl Strategy<Value = Activation> {
    prop_oneof![Just(Activation::Linear), Just(Activation::Relu), Just(Activation::Prelu)]
}

fn shape() -> impl Strategy<Value = Shape> {
    let sizes = ([1..=5usize, 1..=5usize], [1..=3usize, 1..=3usize], [0..=4usize, 0..=4usize]);
    let square = prop::option::of(prop::sample::select(vec![3, 5, 7usize]));
    (sizes, 1..=3usize, square).prop_map(|((kernel, stride, [above, left]), dilation, square)| {
        if let Some(side) = square {
            // What keeps the size of a picture is what networks are mostly made of.
            let padding = [dilation * (side / 2); 2];
            return Shape { kernel: [side; 2], stride: [1, 1], dilation, padding };
        }
        // Padding of a whole kernel would make outputs of nothing but the bias.
        let padding = [above.min(kernel[0] - 1), left.min(kernel[1] - 1)];
        // Small pictures have no room for kernels that are spread wide.
        let dilation = if kernel.iter().all(|side| *side <= 3) { dilation.min(2) } else { 1 };
        Shape { kernel, stride, dilation, padding }
    })
}

/// A channel count: any, and often one beside a multiple of what a register or a tile holds.
pub(super) fn channels() -> impl Strategy<Value = usize> {
    prop_oneof![1..=130usize, prop::sample::select(vec![1, 3, 8, 15, 16, 17, 31, 32, 33, 48, 64])]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_convolution_of_the_picture_is_what_the_plain_operator_says(
        seed: u32, inputs in channels(), outputs in prop::option::of(channels()),
        size in [5..=14usize, 5..=29usize], shape in shape(), kind in activation(), norm: bool,
    ) {
        let (mut graph, x) = Graph::new(seed, inputs, size[0], size[1]);
        let mut y = graph.conv(x, outputs, shape);
        if norm {
            y = graph.norm(y);
        }
        let y = graph.activate(y, kind);
        graph.check(&[y], inputs * shape.kernel[0] * shape.kernel[1]);
    }

    #[test]
    fn a_convolution_of_a_value_is_what_the_plain_operator_says(
        seed: u32, inputs in channels(), outputs in prop::option::of(channels()),
        size in [5..=14usize, 5..=29usize], shape in shape(), kind in activation(),
    ) {
        let (mut graph, x) = Graph::new(seed, 3, size[0], size[1]);
        let x = graph.conv(x, Some(inputs), POINT);
        let y = graph.conv(x, outputs, shape);
        let y = graph.activate(y, kind);
        graph.check(&[x, y], inputs * shape.kernel[0] * shape.kernel[1]);
    }

    #[test]
    fn a_residual_is_added_before_the_activation(
        seed: u32, inputs in channels(), size in [3..=9usize, 3..=17usize],
        first in activation(), last in activation(), fewer in 1..=40usize,
    ) {
        let (mut graph, x) = Graph::new(seed, 3, size[0], size[1]);
        let few = graph.conv(x, Some(fewer), AROUND);
        let wide = graph.conv(few, Some(fewer + inputs), AROUND);
        let wide = graph.activate(wide, first);
        let deep = graph.conv(wide, Some(fewer + inputs), AROUND);
        // A shortcut of fewer channels counts as zero in the others.
        let pads = vec![(0, 0), (0, inputs), (0, 0), (0, 0)];
        let padded = graph.wire(Pad { pads, mode: PadMode::default() }, &[few]);
        let sum = graph.wire(math::add(), &[deep, padded]);
        let sum = graph.activate(sum, last);
        let again = graph.conv(sum, Some(fewer + inputs), POINT);
        let y = graph.wire(math::add(), &[sum, again]);
        graph.check(&[y], 9 * (fewer + inputs));
    }

    #[test]
    fn a_strip_of_two_convolutions_and_a_pool_equals_the_three(
        seed: u32, inputs in 1..=70usize, between in channels(),
        size in [3..=40usize, 3..=70usize], stride in 1..=2usize, kind in activation(), pool: bool,
    ) {
        let (mut graph, x) = Graph::new(seed, 3, size[0], size[1]);
        let x = graph.conv(x, Some(inputs), POINT);
        let y = graph.conv(x, Some(between), POINT);
        let y = graph.conv(y, None, Shape { stride: [stride, stride], ..AROUND });
        let mut y = graph.activate(y, kind);
        if pool && graph.shape(y)[2..].iter().all(|side| *side > 1) {
            y = graph.halve(y);
        }
        graph.check(&[y], inputs + 9);
    }
}

#[test]
fn narrow_heads_are_told_apart_again() {
    for heads in [&[1, 1, 4, 10][..], &[16, 1, 15, 3, 2], &[17, 5]] {
        let (mut graph, x) = Graph::new(7, 3, 9, 11);
        let x = graph.conv(x, Some(40), AROUND);
        let mut outputs = Vec::new();
        for (number, channels) in heads.iter().enumerate() {
            let y = graph.conv(x, Some(*channels), POINT);
            let y = graph.conv(y, None, AROUND);
            let move_axis = AxisOp::Move(1, 3);
            outputs.push(if number % 2 == 0 { graph.wire(move_axis, &[y]) } else { y });
        }
        graph.check(&outputs, 49);
    }
}

#[test]
fn pools_sums_means_and_gates_are_what_the_plain_operators_say() {
    let (mut graph, x) = Graph::new(3, 3, 13, 18);
    let x = graph.conv(x, Some(21), AROUND);
    let window = Shape { kernel: [3, 3], stride: [2, 2], dilation: 1, padding: [0, 0] };
    let mut pool_spec = graph.spec(x, 21, window);
    pool_spec.padding = PaddingSpec::ExplicitOnnxPool(tvec![0, 0], tvec![0, 0], true);
    let greatest = graph.wire(MaxPool { pool_spec, with_index_outputs: None }, &[x]);
    let halves = Shape { kernel: [2, 2], stride: [2, 2], dilation: 1, padding: [0, 0] };
    let pool_spec = graph.spec(x, 21, halves);
    let mean = SumPool { pool_spec, count_include_pad: false, normalize: true };
    let mean = graph.wire(mean, &[x]);
    // A value that ends early counts as zero beyond.
    let pads = vec![(0, 0), (0, 0), (0, 1), (0, 0)];
    let mean = graph.wire(Pad { pads, mode: PadMode::default() }, &[mean]);
    let mean = graph.halve(mean);
    let greatest = graph.halve(greatest);
    let sum = graph.wire(math::add(), &[greatest, mean]);
    let sum = graph.activate(sum, Activation::Prelu);
    let axes = tvec!(2, 3);
    let total = graph.wire(Reduce { axes, reducer: Reducer::Sum }, &[sum]);
    let area = graph.given(&[1, 1, 1, 1], &[12.0]);
    let gate = graph.wire(math::div(), &[total, area]);
    let gate = graph.conv(gate, Some(5), POINT);
    let gate = graph.activate(gate, Activation::Relu);
    let gate = graph.conv(gate, Some(21), POINT);
    let gate = graph.wire(sigmoid(), &[gate]);
    let gated = graph.wire(math::mul(), &[sum, gate]);
    let y = graph.wire(math::add(), &[sum, gated]);
    graph.check(&[y], 40);
}

#[test]
fn what_is_not_known_stays_with_the_plain_operators() {
    let (mut graph, x) = Graph::new(5, 6, 8, 8);
    let y = graph.conv(x, Some(8), AROUND);
    let y = graph.wire(math::cos(), &[y]);
    let y = graph.conv(y, Some(4), AROUND);
    graph.model.select_output_outlets(&[y]).unwrap();
    let isa = Isa::best();
    let Some(fast) = rewrite(&graph.model, isa).unwrap() else {
        return assert_eq!(isa, Isa::Plain);
    };
    assert_eq!(plain_left(&fast).len(), 1);
    let input = tvec!(Tensor::from_shape(&[1, 6, 8, 8], &[0.25f32; 384]).unwrap().into_tvalue());
    let run = |model: TypedModel| model.into_runnable().unwrap().run(input.clone()).unwrap();
    let (plain, fast) = (run(graph.model), run(fast));
    fast[0].close_enough(&plain[0], Approximation::Approximate).unwrap();
}

#[test]
fn what_a_convolution_reads_behind_the_far_edge_is_zero() {
    for channels in [16, 40] {
        let (mut graph, x) = Graph::new(11, 3, 9, 12);
        let x = graph.conv(x, Some(channels), POINT);
        let mut pool_spec = graph.spec(x, channels, AROUND);
        pool_spec.padding = PaddingSpec::Explicit(tvec![0, 0], tvec![2, 2]);
        let weights = graph.constant(&[channels, channels, 3, 3], scale(9 * channels));
        let bias = graph.constant(&[channels], 0.5);
        let conv = Conv { pool_spec, kernel_fmt: KernelFormat::OIHW, group: 1, q_params: None };
        let y = graph.wire(conv, &[x, weights, bias]);
        graph.check(&[y], 9 * channels);
    }
}

#[test]
fn what_a_thread_computed_last_is_forgotten_when_it_is_told_to() {
    let (mut graph, x) = Graph::new(13, 3, 9, 12);
    let y = graph.conv(x, Some(96), AROUND);
    let y = graph.conv(y, Some(96), POINT);
    graph.check(&[y], 96);
    assert_eq!(remembers(), Isa::best() != Isa::Plain);
    forget();
    assert!(!remembers());
}

#[test]
fn what_tiles_compute_lies_where_it_is_wiped() {
    let (mut graph, x) = Graph::new(23, 3, 9, 12);
    let x = graph.conv(x, Some(96), POINT);
    let y = graph.conv(x, Some(96), POINT);
    graph.model.select_output_outlets(&[y]).unwrap();
    for vectors in Vectors::all() {
        let fast = rewrite_for(&graph.model, vectors).unwrap().unwrap();
        let trunk = fast.nodes.iter().find_map(|node| node.op_as::<RunTrunk>()).unwrap();
        let mut scratch = Scratch::default();
        trunk.0.run(&[0.25; 3 * 9 * 12], &mut scratch);
        let pieces = scratch.room.pieces.as_slice().iter().any(|block| block.high[0][0] != 0);
        let sums = scratch.room.sums.as_slice().iter().any(|sums| sums.0[0][0][0][0] != 0.0);
        assert_eq!([pieces, sums], [vectors.have_tiles(); 2], "{vectors:?}");
    }
}

#[test]
fn sixteen_pixels_are_made_where_there_was_no_room_for_more() {
    forget();
    let (mut graph, x) = Graph::new(19, 3, 4, 4);
    let x = graph.conv(x, Some(96), POINT);
    let y = graph.conv(x, Some(96), POINT);
    graph.check(&[y], 96);
}

#[test]
fn what_is_not_a_number_in_one_picture_does_not_reach_the_next() {
    // The second product has an odd count of registers a run, where the third has left its pieces.
    let (mut graph, x) = Graph::new(17, 3, 9, 12);
    let narrow = graph.conv(x, Some(48), POINT);
    let wide = graph.conv(narrow, Some(192), POINT);
    let y = graph.conv(wide, Some(48), POINT);
    graph.model.select_output_outlets(&[y]).unwrap();
    let picture = |number: f32| {
        tvec!(Tensor::from_shape(&[1, 3, 9, 12], &[number; 3 * 9 * 12]).unwrap().into_tvalue())
    };
    for (vectors, fast) in rewritten(&graph.model) {
        let fast = fast.into_optimized().unwrap().into_runnable().unwrap();
        let run = |number: f32| {
            let outputs = fast.run(picture(number)).unwrap();
            outputs[0].to_plain_array_view::<f32>().unwrap().iter().copied().collect::<Vec<_>>()
        };
        let before = run(0.25);
        assert!(run(f32::NAN).iter().all(|number| number.is_nan()), "{vectors}");
        assert_eq!(run(0.25), before, "{vectors}");
    }
}
