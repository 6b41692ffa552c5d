//! What a network of minutiae is made of, against tract's plain operators: norms and GELU as exporters
//! write them, dilated and separable convolutions, values joined, halved and enlarged.

use proptest::prelude::*;
use tract_onnx::tract_core::ops::array::{Slice, TypedConcat};
use tract_onnx::tract_core::ops::cnn::{MaxPool, SumPool};
use tract_onnx::tract_core::ops::math;
use tract_onnx::tract_core::ops::nn::gelu_approximate::gelu_approximate;
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer, sigmoid};
use tract_onnx::tract_hir::internal::*;

use super::super::isa::Isa;
use super::curve::Curve;
use super::simd::{Kernel, Simd, Vectors, dispatch};
use super::tests::{AROUND, Graph, POINT, Shape, channels, rewritten};
use super::{rewrite, scaled};

/// How GELU is written.
#[derive(Clone, Copy, Debug)]
enum Gelu {
    /// ½·(x·(1 + tanh(c·(x + k·(x·(x·x)))))).
    HalfLast,
    /// (½·x)·(tanh(c·(k·x³ + x)) + 1), with a power.
    HalfFirst,
    /// tract's own operator.
    Whole,
}

impl Graph {
    fn number(&mut self, number: f32) -> OutletId {
        self.given(&[1, 1, 1, 1], &[number])
    }

    fn times(&mut self, x: OutletId, number: f32) -> OutletId {
        let number = self.number(number);
        self.wire(math::mul(), &[number, x])
    }

    fn gelu(&mut self, x: OutletId, way: Gelu) -> OutletId {
        let (scale, cubic) = (0.797_884_6, 0.044_715);
        if let Gelu::Whole = way {
            return self.wire(gelu_approximate(false), &[x]);
        }
        let cube = if let Gelu::HalfFirst = way {
            let three = self.number(3.0);
            self.wire(math::pow(), &[x, three])
        } else {
            let square = self.wire(math::mul(), &[x, x]);
            self.wire(math::mul(), &[x, square])
        };
        let bent = self.times(cube, cubic);
        let sum = self.wire(math::add(), &[x, bent]);
        let scaled = self.times(sum, scale);
        let tanh = self.wire(math::tanh(), &[scaled]);
        let one = self.number(1.0);
        let gate = self.wire(math::add(), &[tanh, one]);
        if let Gelu::HalfFirst = way {
            let half = self.times(x, 0.5);
            return self.wire(math::mul(), &[half, gate]);
        }
        let gated = self.wire(math::mul(), &[x, gate]);
        self.times(gated, 0.5)
    }

    fn mean(&mut self, x: OutletId) -> OutletId {
        let channels = u16::try_from(self.shape(x)[1]).unwrap();
        let sum = self.wire(Reduce { axes: tvec!(1), reducer: Reducer::Sum }, &[x]);
        let count = self.number(f32::from(channels));
        self.wire(math::div(), &[sum, count])
    }

    /// A norm over the channels; `short` divides by the root and has no gain.
    fn layer_norm(&mut self, x: OutletId, short: bool) -> OutletId {
        let channels = self.shape(x)[1];
        let mean = self.mean(x);
        let centred = self.wire(math::sub(), &[x, mean]);
        let squares = if short {
            self.wire(math::square(), &[centred])
        } else {
            self.wire(math::mul(), &[centred, centred])
        };
        let variance = self.mean(squares);
        let epsilon = self.number(1e-3);
        let padded = self.wire(math::add(), &[variance, epsilon]);
        let root = self.wire(math::sqrt(), &[padded]);
        let mut y = if short {
            self.wire(math::div(), &[centred, root])
        } else {
            let inverse = self.wire(math::recip(), &[root]);
            let unit = self.wire(math::mul(), &[centred, inverse]);
            let gain = self.constant(&[1, channels, 1, 1], 1.0);
            self.wire(math::mul(), &[unit, gain])
        };
        let offset = self.constant(&[1, channels, 1, 1], 1.0);
        y = self.wire(math::add(), &[y, offset]);
        y
    }

    fn join(&mut self, values: &[OutletId]) -> OutletId {
        self.wire(TypedConcat { axis: 1 }, values)
    }

    /// The greatest of 2×2 for the first channels, the mean for the others.
    fn halve_both(&mut self, x: OutletId, first: usize) -> OutletId {
        let channels = self.shape(x)[1];
        let halves = Shape { kernel: [2, 2], stride: [2, 2], dilation: 1, padding: [0, 0] };
        let left = self.wire(Slice::new(1, 0, first), &[x]);
        let right = self.wire(Slice::new(1, first, channels), &[x]);
        let pool_spec = self.spec(left, first, halves);
        let left = self.wire(MaxPool { pool_spec, with_index_outputs: None }, &[left]);
        let pool_spec = self.spec(right, channels - first, halves);
        let mean = SumPool { pool_spec, count_include_pad: true, normalize: true };
        let right = self.wire(mean, &[right]);
        self.join(&[left, right])
    }

    /// Each pixel twice in both directions.
    fn enlarge(&mut self, x: OutletId) -> OutletId {
        let scales = self.model.add_const(
            format!("scales.{}", self.model.nodes.len()),
            Tensor::from_shape(&[4], &[1.0f32, 1.0, 2.0, 2.0]).unwrap(),
        );
        let scales = scales.unwrap();
        let op = doubling();
        self.wire(op, &[x, scales])
    }
}

/// The operator that tract's reader makes of a `Resize` to the nearest pixel.
fn doubling() -> Box<dyn TypedOp> {
    use prost::Message as _;
    use tract_onnx::pb::{
        AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
        TypeProto, ValueInfoProto, attribute_proto::AttributeType, tensor_proto::DataType,
        type_proto,
    };
    use tract_onnx::prelude::*;
    let word = |name: &str, word: &str| AttributeProto {
        name: name.into(),
        r#type: AttributeType::String.into(),
        s: word.into(),
        ..Default::default()
    };
    let node = NodeProto {
        op_type: "Resize".into(),
        name: "resize".into(),
        input: vec!["x".into(), String::new(), "scales".into()],
        output: vec!["y".into()],
        attribute: vec![
            word("mode", "nearest"),
            word("nearest_mode", "floor"),
            word("coordinate_transformation_mode", "asymmetric"),
        ],
        ..Default::default()
    };
    let tensor = type_proto::Tensor { elem_type: DataType::Float.into(), ..Default::default() };
    let float =
        TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..Default::default() };
    let value = |name: &str| ValueInfoProto {
        name: name.into(),
        r#type: Some(float.clone()),
        ..Default::default()
    };
    let graph = GraphProto {
        node: vec![node],
        initializer: vec![TensorProto {
            name: "scales".into(),
            data_type: DataType::Float.into(),
            dims: vec![4],
            float_data: vec![1.0, 1.0, 2.0, 2.0],
            ..Default::default()
        }],
        input: vec![value("x")],
        output: vec![value("y")],
        ..Default::default()
    };
    let model = ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { version: 17, ..Default::default() }],
        graph: Some(graph),
        ..Default::default()
    };
    let model = ModelProto::decode(model.encode_to_vec().as_slice()).unwrap();
    let typed = tract_onnx::onnx()
        .model_for_proto_model(&model)
        .unwrap()
        .with_input_fact(0, f32::fact([1, 1, 2, 2]).into())
        .unwrap()
        .into_typed()
        .unwrap();
    let node = typed.nodes.iter().find(|node| node.op.name() == "Resize").unwrap();
    node.op.clone()
}

fn gelu() -> impl Strategy<Value = Gelu> {
    prop_oneof![Just(Gelu::HalfLast), Just(Gelu::HalfFirst), Just(Gelu::Whole)]
}

/// A norm divides by a deviation that may be as small as a thirtieth, and what rounding left grows by
/// as much. One product that is missing weighs a hundred times this.
const DIFFERENCE_MAX: f32 = 2e-4;

fn around(side: usize, dilation: usize) -> Shape {
    Shape { kernel: [side; 2], stride: [1, 1], dilation, padding: [dilation * (side / 2); 2] }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_stem_of_plain_and_dilated_convolutions_is_what_the_plain_operators_say(
        seed: u32, each in [1..=40usize, 1..=40usize], size in [1..=9usize, 1..=12usize],
        dilation in 1..=3usize, way in gelu(), short: bool,
    ) {
        let (mut graph, x) = Graph::new(seed, 1, 2 * size[0], 2 * size[1]);
        let plain = graph.conv(x, Some(each[0]), around(5, 1));
        let spread = graph.conv(x, Some(each[1]), around(5, dilation));
        let joined = graph.join(&[plain, spread]);
        let normed = graph.layer_norm(joined, short);
        let y = graph.gelu(normed, way);
        let first = 1 + (each[0] + each[1] - 1) / 2;
        let y = if first < each[0] + each[1] { graph.halve_both(y, first) } else { y };
        graph.check_within(&[y], DIFFERENCE_MAX);
    }

    #[test]
    fn a_block_with_many_channels_between_is_what_the_plain_operators_say(
        seed: u32, channels in channels(), times in 1..=5usize, outputs in channels(),
        side in prop::sample::select(vec![3, 5, 7usize]), size in [1..=24usize, 1..=70usize],
        way in gelu(), short: bool,
    ) {
        let (mut graph, x) = Graph::new(seed, 3, size[0], size[1]);
        let x = graph.conv(x, Some(channels), POINT);
        let y = graph.conv(x, None, around(side, 1));
        let y = graph.layer_norm(y, short);
        let y = graph.conv(y, Some(times * channels), POINT);
        let y = graph.gelu(y, way);
        let y = graph.conv(y, Some(channels), POINT);
        let y = graph.wire(math::add(), &[x, y]);
        let y = graph.conv(y, Some(outputs), POINT);
        graph.check_within(&[y], DIFFERENCE_MAX);
    }

    #[test]
    fn values_enlarged_and_joined_are_what_the_plain_operators_say(
        seed: u32, few in channels(), skip in 1..=70usize, outputs in 1..=40usize,
        side in prop::sample::select(vec![3, 5, 7usize]), size in [1..=7usize, 1..=9usize],
    ) {
        let (mut graph, x) = Graph::new(seed, 3, 2 * size[0], 2 * size[1]);
        let wide = graph.conv(x, Some(skip + 1), POINT);
        let low = graph.halve_both(wide, skip.div_ceil(2));
        let low = graph.conv(low, Some(few), AROUND);
        let high = graph.enlarge(low);
        let joined = graph.join(&[high, wide]);
        let each = graph.conv(joined, None, around(side, 1));
        let mixed = graph.conv(each, Some(few + skip + 1), POINT);
        let sum = graph.wire(math::add(), &[joined, mixed]);
        let spread = graph.conv(sum, Some(outputs), around(3, 2));
        let squashed = graph.wire(sigmoid(), &[spread]);
        let other = graph.conv(joined, Some(outputs), around(3, 3));
        let y = graph.wire(math::mul(), &[squashed, other]);
        graph.check_within(&[y], DIFFERENCE_MAX);
    }

    #[test]
    fn heads_over_enlarged_pixels_are_what_the_plain_operators_say(
        seed: u32, few in 1..=20usize, maps in [1..=3usize, 1..=3usize], way in gelu(),
        side in prop::sample::select(vec![3, 5, 7usize]), size in [1..=9usize, 1..=11usize],
    ) {
        let (mut graph, x) = Graph::new(seed, 2, size[0], size[1]);
        let mut heads = Vec::new();
        for (number, maps) in maps.into_iter().enumerate() {
            let low = graph.conv(x, Some(few), AROUND);
            let high = graph.enlarge(low);
            let y = graph.conv(high, Some(few + 3), POINT);
            let y = graph.layer_norm(y, false);
            let y = graph.conv(y, Some(few), POINT);
            let y = graph.gelu(y, way);
            let mut y = graph.conv(y, Some(maps), around(side, 1));
            if number == 0 {
                y = graph.wire(sigmoid(), &[y]);
                y = graph.conv(y, Some(maps), around(5, 1));
            }
            heads.push(y);
        }
        let y = graph.join(&heads);
        graph.check_within(&[y], DIFFERENCE_MAX);
    }
}

#[test]
fn one_trunk_serves_pictures_of_other_sizes() {
    let build = |height: usize, width: usize| {
        let (mut graph, x) = Graph::new(9, 1, height, width);
        let stem = graph.conv(x, Some(30), around(5, 2));
        let stem = graph.layer_norm(stem, false);
        let wide = graph.gelu(stem, Gelu::HalfLast);
        let low = graph.halve_both(wide, 8);
        let low = graph.conv(low, None, around(7, 1));
        // Many enough for tiles, where there are some.
        let low = graph.conv(low, Some(300), POINT);
        let low = graph.gelu(low, Gelu::HalfLast);
        let low = graph.conv(low, Some(30), POINT);
        let high = graph.enlarge(low);
        let joined = graph.join(&[high, wide]);
        let y = graph.conv(joined, Some(3), around(5, 1));
        graph.model.select_output_outlets(&[y]).unwrap();
        graph.model
    };
    let run = |model: TypedModel, height: usize, width: usize| {
        let numbers: Vec<f32> = (0..height * width).map(|at| (at % 251) as f32 / 100.0).collect();
        let picture = Tensor::from_shape(&[1, 1, height, width], &numbers).unwrap().into_tvalue();
        model.into_optimized().unwrap().into_runnable().unwrap().run(tvec!(picture)).unwrap()
    };
    for (_, first) in rewritten(&build(8, 12)) {
        let first = first.into_optimized().unwrap();
        for (height, width) in [(8, 12), (4, 4), (32, 24), (64, 132)] {
            let fast = scaled(&first, height, width).unwrap().unwrap();
            let plain = run(build(height, width), height, width);
            run(fast, height, width)[0]
                .close_enough(&plain[0], Approximation::Approximate)
                .unwrap();
        }
        assert!(scaled(&first, 8, 13).unwrap().is_none(), "no even number of columns");
    }
}

#[test]
fn a_gelu_of_which_something_is_read_elsewhere_stays_plain() {
    let (mut graph, x) = Graph::new(5, 3, 6, 6);
    let x = graph.conv(x, Some(8), AROUND);
    let y = graph.gelu(x, Gelu::HalfLast);
    let tanh = graph.model.nodes.iter().find(|node| node.op.name() == "Tanh").unwrap().id;
    graph.model.select_output_outlets(&[y, tanh.into()]).unwrap();
    let Some(fast) = rewrite(&graph.model, Isa::best()).unwrap() else {
        return assert_eq!(Isa::best(), Isa::Plain);
    };
    assert!(fast.nodes.iter().any(|node| node.op.name() == "Tanh"));
}

/// A curve at given numbers.
struct Points<'a> {
    curve: Curve,
    numbers: &'a mut [f32],
}

impl Kernel for Points<'_> {
    #[expect(clippy::inline_always, reason = "registers do not cross a call")]
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for place in S::vectors_mut(self.numbers) {
            let bent = self.curve.at(simd, simd.load(place));
            simd.store(place, bent);
        }
    }
}

#[test]
fn curves_are_within_a_millionth_of_their_definition() {
    let exact = |curve: Curve, x: f64| match curve {
        Curve::Gelu => {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            x / 2.0 * (1.0 + u.tanh())
        }
        Curve::Logistic => 1.0 / (1.0 + (-x).exp()),
    };
    for vectors in Vectors::all() {
        for curve in [Curve::Gelu, Curve::Logistic] {
            let many = (0..=u16::MAX).map(|step| f32::from(step) / 1638.4 - 20.0);
            let far = [-1e30, -1e4, -200.0, 0.0, 200.0, 1e4, 1e30, 1e-30, -1e-30];
            let xs: Vec<f32> = many.chain(far).chain([0.0; 7]).collect();
            let mut ys = xs.clone();
            dispatch(vectors, Points { curve, numbers: &mut ys });
            for (x, y) in xs.iter().zip(&ys) {
                let expected = exact(curve, f64::from(*x));
                let far = (f64::from(*y) - expected).abs() / f64::from(x.abs()).max(1.0);
                assert!(far <= 1e-6, "{vectors:?}, {curve:?}: {y}, not {expected}, at {x}");
            }
        }
    }
}
