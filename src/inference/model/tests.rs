//! Small networks through the whole of a model, and the real ones with all instructions.

use std::path::{Path, PathBuf};

#[cfg(target_arch = "x86_64")]
use super::super::nhwc::tests::{plain_left, rewritten};
use super::*;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{
    GraphProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, tensor_shape_proto, type_proto,
};

fn value(name: &str, side: i64) -> ValueInfoProto {
    let dim = |size| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(size)),
        ..Default::default()
    };
    let shape = TensorShapeProto { dim: vec![dim(1), dim(3), dim(side), dim(side)] };
    let tensor = type_proto::Tensor { elem_type: DataType::Float.into(), shape: Some(shape) };
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A network of one operator: the picture `op` a constant of the same kind.
fn network(op: &str, constant: f32) -> Vec<u8> {
    let graph = GraphProto {
        name: "tiny".into(),
        node: vec![NodeProto {
            op_type: op.into(),
            name: "only".into(),
            input: vec!["x".into(), "c".into()],
            output: vec!["y".into()],
            ..Default::default()
        }],
        initializer: vec![TensorProto {
            name: "c".into(),
            data_type: DataType::Float.into(),
            dims: vec![1],
            float_data: vec![constant],
            ..Default::default()
        }],
        input: vec![value("x", 99)],
        output: vec![value("y", 99)],
        ..Default::default()
    };
    let model = ModelProto {
        ir_version: 7,
        opset_import: vec![OperatorSetIdProto { version: 13, ..Default::default() }],
        graph: Some(graph),
        ..Default::default()
    };
    model.encode_to_vec()
}

const ID: ModelId = ModelId::new([7; 32]);

#[test]
fn a_network_runs_at_the_size_it_was_compiled_for() {
    let model = Model::compile(ID, &network("Mul", 2.0), 4).unwrap();
    let output = model.run(&[1.5; 48]).unwrap();
    assert_eq!(output[0].shape, [1, 3, 4, 4]);
    assert!(output[0].values.iter().all(|value| *value == 3.0));
    assert_eq!(model.run(&[1.5; 47]), Err(RunError::InputSize));
    assert_eq!((model.id(), model.side_px()), (ID, 4));
}

#[test]
fn a_network_that_yields_nan_or_infinity_is_refused_and_never_answers() {
    let divide = network("Div", 0.0);
    assert!(matches!(
        Model::compile(ID, &divide, 2),
        Err(LoadError::TrialRun(RunError::NotFinite))
    ));
    let model = Model::compile(ID, &network("Mul", 1e30), 2).unwrap();
    assert_eq!(model.run(&[1e20; 12]), Err(RunError::NotFinite));
}

#[test]
fn nonsense_is_no_model() {
    for bytes in [b"".as_slice(), b"not a model", &[0xff; 100]] {
        assert!(Model::compile(ID, bytes, 4).is_err());
    }
    let whole = network("Mul", 2.0);
    for length in 0..whole.len() {
        // Some prefixes are a smaller valid message; none may panic.
        let _ignored = Model::compile(ID, &whole[..length], 4);
    }
    assert!(Model::compile(ID, &network("NoSuchOperator", 1.0), 4).is_err());
}

/// The models of the project, and those for liveness where they are: path, sides of the input,
/// and how far an output may be from the plain one's.
fn real_models() -> Vec<(PathBuf, Vec<usize>, f32)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let models = root.join("models");
    let mut real = vec![
        (models.join("yunet.onnx"), vec![320, 96], 1e-4),
        (models.join("sface.onnx"), vec![112], 1e-4),
        (models.join("dlib.onnx"), vec![150], 1e-5),
    ];
    let data = std::env::var_os("TULGA_EVAL_DIR")
        .map_or_else(|| root.join("../shared/data"), PathBuf::from);
    for name in ["minifasnet_v2_2.7.onnx", "minifasnet_v1se_4.0.onnx"] {
        let path = data.join("models").join(name);
        if path.exists() {
            real.push((path, vec![80], 1e-5));
        } else {
            println!("skipped: {name} is not in the folder that TULGA_EVAL_DIR names");
        }
    }
    real
}

#[cfg(target_arch = "x86_64")]
#[test]
fn no_convolution_of_a_real_model_is_left_to_the_plain_operators() {
    for (path, sides, _) in real_models() {
        let graph = graph_of(&path, [1, 3, sides[0], sides[0]]);
        for (vectors, fast) in rewritten(&graph) {
            assert_eq!(plain_left(&fast), Vec::<String>::new(), "{}, {vectors}", path.display());
        }
    }
}

#[test]
fn real_models_answer_alike_with_all_instructions() {
    for (path, sides, difference_max) in real_models() {
        let bytes = std::fs::read(&path).unwrap();
        for side in sides {
            let picture = picture(side);
            let compile = |isa| Model::compile_for(ID, &bytes, side, isa).unwrap();
            let plain = compile(Isa::Plain).run(&picture).unwrap();
            for isa in Isa::ALL.into_iter().filter(|isa| isa.is_present()) {
                let model = compile(isa);
                assert_eq!(model.isa(), isa, "{} fell back", path.display());
                let fast = model.run(&picture).unwrap();
                assert_alike(&plain, &fast, difference_max, &format!("{}, {isa}", path.display()));
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn real_models_answer_alike_with_vectors_of_every_width() {
    for (path, sides, difference_max) in real_models() {
        for side in sides {
            let graph = graph_of(&path, [1, 3, side, side]);
            let picture = Tensor::from_shape(&[1, 3, side, side], &picture(side)).unwrap();
            let run = |model: TypedModel| {
                let model = model.into_optimized().unwrap().into_runnable().unwrap();
                let outputs = model.run(tvec!(picture.clone().into_tvalue())).unwrap();
                outputs.iter().map(|tensor| read_output(tensor).unwrap()).collect::<Vec<_>>()
            };
            let plain = run(graph.clone());
            for (vectors, fast) in rewritten(&graph) {
                let what = format!("{}, {vectors}", path.display());
                assert_alike(&plain, &run(fast), difference_max, &what);
            }
        }
    }
}

/// A gradient with a coarse pattern: unlike the noise of the start-up trial.
fn picture(side: usize) -> Vec<f32> {
    (0..3 * side * side)
        .map(|at| (at % side * 255 / side / 2 + at / side % 32 * 4) as f32)
        .collect()
}

#[track_caller]
fn assert_alike(plain: &[Output], fast: &[Output], difference_max: f32, what: &str) {
    assert_eq!(plain.len(), fast.len(), "{what}");
    for (plain, fast) in plain.iter().zip(fast) {
        assert_eq!(plain.shape, fast.shape, "{what}");
        for (plain, fast) in plain.values.iter().zip(&fast.values) {
            assert!((plain - fast).abs() <= difference_max, "{what}: {fast}, not {plain}");
        }
    }
}

/// The network of fingerprints' minutiae, where it is.
fn minutiae() -> Option<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let data = std::env::var_os("TULGA_EVAL_DIR")
        .map_or_else(|| root.join("../shared/data"), PathBuf::from);
    let places = [root.join("models/leader.onnx"), data.join("models/leader_nchw.onnx")];
    let found = places.iter().find_map(|path| std::fs::read(path).ok());
    if found.is_none() {
        println!("skipped: the network of minutiae is not in the folder of TULGA_EVAL_DIR");
    }
    found
}

/// Ridges: waves in a slowly turning direction, dark on light.
fn ridges(height: usize, width: usize) -> Vec<f32> {
    (0..height * width)
        .map(|at| {
            let (y, x) = ((at / width) as f32, (at % width) as f32);
            let turn = y / 90.0 + x / 130.0;
            160.0 + 80.0 * ((x * turn.cos() + y * turn.sin()) * 0.7).sin()
        })
        .collect()
}

#[test]
fn minutiae_are_alike_with_all_instructions_and_at_all_sizes() {
    let Some(bytes) = minutiae() else { return };
    let compile = |size: [usize; 2], isa| {
        let input = InputShape { planes: 1, height_px: size[0], width_px: size[1] };
        Model::compile_sized(ID, &bytes, input, isa).unwrap()
    };
    let first: Vec<Model> = Isa::ALL
        .into_iter()
        .filter(|isa| isa.is_present())
        .map(|isa| {
            let model = compile([64, 96], isa);
            assert_eq!(model.isa(), isa, "the network of minutiae fell back");
            model
        })
        .collect();
    for size in [[64, 96], [192, 160], [96, 256]] {
        let picture = ridges(size[0], size[1]);
        let plain = compile(size, Isa::Plain).run(&picture).unwrap();
        assert_eq!(plain[0].shape, [1, 4, size[0], size[1]]);
        for model in &first {
            let model = model.resized(size[0], size[1]).unwrap();
            assert_eq!([model.input().height_px, model.input().width_px], size);
            let fast = model.run(&picture).unwrap();
            for (plain, fast) in plain[0].values.iter().zip(&fast[0].values) {
                let near = (plain - fast).abs() <= 1e-4;
                assert!(near, "{}, {size:?}: {fast}, not {plain}", model.isa());
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn nothing_of_the_network_of_minutiae_is_left_to_the_plain_operators() {
    let Some(bytes) = minutiae() else { return };
    let graph = graph(&parse(&bytes).unwrap(), [1, 1, 64, 64]).unwrap();
    for (_, fast) in rewritten(&graph) {
        let fast = fast.into_optimized().unwrap();
        assert!(super::super::nhwc::scaled(&fast, 128, 96).unwrap().is_some(), "{fast}");
    }
}

#[test]
fn a_model_for_one_size_is_not_resized_and_one_for_all_sizes_is() {
    let whole = network("Mul", 2.0);
    assert!(matches!(
        Model::compile(ID, &whole, 4).unwrap().resized(8, 8),
        Err(LoadError::Compile(_))
    ));
    let input = InputShape { planes: 3, height_px: 4, width_px: 6 };
    let model = Model::compile_sized(ID, &whole, input, Isa::best()).unwrap();
    let larger = model.resized(2, 9).unwrap();
    assert_eq!((larger.input().height_px, larger.input().width_px), (2, 9));
    assert_eq!(larger.run(&[1.5; 54]).unwrap()[0].shape, [1, 3, 2, 9]);
    assert_eq!(larger.run(&[1.5; 72]), Err(RunError::InputSize));
}

#[test]
fn instructions_that_the_processor_lacks_are_refused() {
    for isa in Isa::ALL {
        let model = Model::compile_for(ID, &network("Mul", 2.0), 4, isa);
        assert_eq!(matches!(model, Err(LoadError::Isa(_))), !isa.is_present());
    }
}

#[test]
fn threads_share_one_plan() {
    let model = Model::compile(ID, &network("Add", 1.0), 3).unwrap();
    std::thread::scope(|scope| {
        for start in 0..4u8 {
            let model = model.clone();
            scope.spawn(move || {
                let out = model.run(&[f32::from(start); 27]).unwrap();
                assert!(out[0].values.iter().all(|value| *value == f32::from(start) + 1.0));
            });
        }
    });
}
