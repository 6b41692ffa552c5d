//! One model: a file whose digest was checked, compiled for pinned input sizes.

use std::fmt;
use std::sync::Arc;

use prost::Message;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;

use super::fold::{FoldError, fold_constants};
use super::isa::{Isa, IsaError};
use super::{fast, prelu};
use crate::domain::embedding::ModelId;

/// A compiled model, shared by all threads.
#[derive(Clone)]
pub struct Model {
    id: ModelId,
    input: InputShape,
    isa: Isa,
    plan: Arc<TypedRunnableModel>,
    /// What it was compiled from, if it may be compiled for other sizes.
    origin: Option<Arc<ModelProto>>,
}

/// What a model is given: planes of rows of numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InputShape {
    /// Three of a colour picture, one of a grey one.
    pub planes: usize,
    /// Rows.
    pub height_px: usize,
    /// Numbers in a row.
    pub width_px: usize,
}

impl InputShape {
    /// How many numbers it has.
    #[must_use]
    pub const fn len(self) -> usize {
        self.planes * self.height_px * self.width_px
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// One picture, as ONNX has it: NCHW.
    const fn dimensions(self) -> [usize; 4] {
        [1, self.planes, self.height_px, self.width_px]
    }
}

/// A square colour picture of this side in pixels.
impl From<usize> for InputShape {
    fn from(side_px: usize) -> Self {
        Self { planes: 3, height_px: side_px, width_px: side_px }
    }
}

/// A file that is no model, or none that can run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The bytes are no ONNX model.
    #[error("the file is no ONNX model")]
    NotOnnx(#[source] Option<prost::DecodeError>),
    /// A quantised constant contradicts itself.
    #[error("the model's constants cannot be folded")]
    Fold(#[from] FoldError),
    /// tract cannot compile it for this input.
    #[error("the model cannot be compiled for its input: {0}")]
    Compile(String),
    /// `TULGA_ISA` asks for what cannot be had.
    #[error("the instruction set for models is misconfigured")]
    Isa(#[from] IsaError),
    /// It compiled, but does not run on an even grey picture.
    #[error("the model does not run")]
    TrialRun(#[source] RunError),
}

impl LoadError {
    /// The stable word for logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "SYS_MODEL"
    }
}

/// A model that did not do its work: a technical failure, never a mismatch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The input has another size than the plan's.
    #[error("the model's input has the wrong size")]
    InputSize,
    /// tract gave up.
    #[error("the model failed: {0}")]
    Failed(String),
    /// An output holds a NaN or an infinity.
    #[error("the model yielded a number that is not finite")]
    NotFinite,
}

impl RunError {
    /// The stable word for logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "SYS_INTERNAL"
    }
}

/// One output tensor: finite numbers in row-major order.
#[derive(Clone, PartialEq)]
pub struct Output {
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its numbers.
    pub values: Vec<f32>,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The numbers may be an embedding.
        write!(f, "Output({:?})", self.shape)
    }
}

impl Model {
    /// Compiles a model for one picture of this shape (f32; a number alone is the side of a square
    /// colour picture), for the instructions that [`Isa::chosen`] names, and runs it once on even
    /// grey, so that what cannot run is refused at the start.
    ///
    /// # Errors
    ///
    /// [`LoadError`] when the bytes are no model, or none that runs on such an input, and for a
    /// `TULGA_ISA` that cannot be followed.
    pub fn compile(
        id: ModelId,
        onnx_bytes: &[u8],
        input: impl Into<InputShape>,
    ) -> Result<Self, LoadError> {
        Self::compile_for(id, onnx_bytes, input, Isa::chosen()?)
    }

    /// The same for given instructions. Where fast kernels are to be used they are tried first,
    /// against the plain operators; if the two disagree the plain ones are used, and a warning is
    /// logged.
    ///
    /// # Errors
    ///
    /// As [`Self::compile`].
    pub fn compile_for(
        id: ModelId,
        onnx_bytes: &[u8],
        input: impl Into<InputShape>,
        isa: Isa,
    ) -> Result<Self, LoadError> {
        Self::compile_proto(id, &parse(onnx_bytes)?, input.into(), isa)
    }

    /// Compiles a model for pictures of any size, and for this one first: [`Self::resized`] gives the
    /// others.
    ///
    /// # Errors
    ///
    /// As [`Self::compile`].
    pub fn compile_sized(
        id: ModelId,
        onnx_bytes: &[u8],
        input: InputShape,
        isa: Isa,
    ) -> Result<Self, LoadError> {
        let proto = parse(onnx_bytes)?;
        let model = Self::compile_proto(id, &proto, input, isa)?;
        Ok(Self { origin: Some(Arc::new(proto)), ..model })
    }

    /// The same model for pictures of another size. Where the fast kernels compute all of it this
    /// costs little: the weights are shared. Otherwise it is compiled anew.
    ///
    /// # Errors
    ///
    /// As [`Self::compile`]; and for a model that was compiled for one size only.
    pub fn resized(&self, height_px: usize, width_px: usize) -> Result<Self, LoadError> {
        let input = InputShape { height_px, width_px, ..self.input };
        let Some(origin) = &self.origin else {
            return Err(LoadError::Compile("it was compiled for one size only".to_owned()));
        };
        #[cfg(target_arch = "x86_64")]
        {
            let compile = |error: TractError| LoadError::Compile(format!("{error:#}"));
            let graph = super::nhwc::scaled(self.plan.model(), height_px, width_px);
            if let Some(graph) = graph.map_err(compile)? {
                let plan = graph.into_runnable().map_err(compile)?;
                return Ok(Self { input, plan, ..self.clone() });
            }
        }
        let model = Self::compile_proto(self.id, origin, input, self.isa)?;
        Ok(Self { origin: Some(Arc::clone(origin)), ..model })
    }

    fn compile_proto(
        id: ModelId,
        proto: &ModelProto,
        input: InputShape,
        isa: Isa,
    ) -> Result<Self, LoadError> {
        if !isa.is_present() {
            return Err(IsaError::Absent(isa).into());
        }
        let compile = |error: TractError| LoadError::Compile(format!("{error:#}"));
        let graph = graph(proto, input.dimensions()).map_err(compile)?;
        let plan = fast::plan(id, graph, isa).map_err(compile)?;
        let model = Self { id, input, isa: plan.isa, plan: plan.runnable, origin: None };
        let grey = vec![127.5; input.len()];
        model.run(&grey).map_err(LoadError::TrialRun)?;
        Ok(model)
    }

    /// Runs the model on one picture: its planes one after the other, row-major.
    ///
    /// # Errors
    ///
    /// [`RunError`] for an input of another size, and when the model fails or yields NaN.
    pub fn run(&self, planes: &[f32]) -> Result<Vec<Output>, RunError> {
        if planes.len() != self.input.len() {
            return Err(RunError::InputSize);
        }
        self.run_drawn(|input| input.copy_from_slice(planes)).map(|(outputs, ())| outputs)
    }

    /// As [`Self::run`], with the planes drawn where the model reads them: they are zeros before. What
    /// `draw` gives comes back beside the outputs.
    ///
    /// # Errors
    ///
    /// [`RunError`] when the model fails or yields NaN.
    pub fn run_drawn<T>(
        &self,
        draw: impl FnOnce(&mut [f32]) -> T,
    ) -> Result<(Vec<Output>, T), RunError> {
        let failed = |error: TractError| RunError::Failed(format!("{error:#}"));
        let mut input = Tensor::zero::<f32>(&self.input.dimensions()).map_err(failed)?;
        let drawn = {
            let mut planes = input.to_plain_array_view_mut::<f32>().map_err(failed)?;
            draw(planes.as_slice_mut().ok_or(RunError::InputSize)?)
        };
        let outputs = self.plan.run(tvec!(input.into_tvalue()));
        #[cfg(target_arch = "x86_64")]
        super::nhwc::leave_wide_registers();
        let outputs = outputs.map_err(failed)?;
        let outputs = outputs.iter().map(|tensor| read_output(tensor)).collect::<Result<_, _>>()?;
        Ok((outputs, drawn))
    }

    /// The SHA-256 of the file that the model was made from.
    #[must_use]
    pub const fn id(&self) -> ModelId {
        self.id
    }

    /// The instructions that its kernels use; [`Isa::Plain`] where tract's own operators run.
    #[must_use]
    pub const fn isa(&self) -> Isa {
        self.isa
    }

    /// What it is given.
    #[must_use]
    pub const fn input(&self) -> InputShape {
        self.input
    }

    /// The side of its square input, in pixels; of another input the width.
    #[must_use]
    pub const fn side_px(&self) -> usize {
        self.input.width_px
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Model({}, input {:?})", self.id, self.input.dimensions())
    }
}

/// The model in the file, with its constants folded.
fn parse(onnx_bytes: &[u8]) -> Result<ModelProto, LoadError> {
    let mut proto =
        ModelProto::decode(onnx_bytes).map_err(|error| LoadError::NotOnnx(Some(error)))?;
    fold_constants(proto.graph.as_mut().ok_or(LoadError::NotOnnx(None))?)?;
    Ok(proto)
}

/// The model as tract reads it, for one size of input.
fn graph(proto: &ModelProto, input_shape: [usize; 4]) -> TractResult<TypedModel> {
    // The shapes in the file belong to the size it was exported for, which need not be ours.
    prelu::onnx()
        .with_ignore_output_shapes(true)
        .with_ignore_value_info(true)
        .model_for_proto_model(proto)?
        .with_input_fact(0, f32::fact(input_shape).into())?
        .into_typed()
}

fn read_output(tensor: &Tensor) -> Result<Output, RunError> {
    let view = tensor
        .to_plain_array_view::<f32>()
        .map_err(|error| RunError::Failed(format!("{error:#}")))?;
    let values = view.as_slice().map_or_else(|| view.iter().copied().collect(), <[f32]>::to_vec);
    // Adding up is faster than asking each, and one bad number spoils the sum.
    let finite = values.iter().sum::<f32>().is_finite() || values.iter().all(|v| v.is_finite());
    if !finite {
        return Err(RunError::NotFinite);
    }
    Ok(Output { shape: view.shape().to_vec(), values })
}

/// The typed graph of a model's file.
#[cfg(test)]
pub(super) fn graph_of(path: &std::path::Path, input_shape: [usize; 4]) -> TypedModel {
    graph(&parse(&std::fs::read(path).unwrap()).unwrap(), input_shape).unwrap()
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "small whole numbers and halves are exact")]
mod tests {
    use std::path::{Path, PathBuf};

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
        for isa in Isa::ALL.into_iter().filter(|isa| *isa != Isa::Plain && isa.is_present()) {
            for (path, sides, _) in real_models() {
                let graph = graph_of(&path, [1, 3, sides[0], sides[0]]);
                let fast = super::super::nhwc::rewrite(&graph, isa).unwrap().unwrap();
                let left = super::super::nhwc::tests::plain_left(&fast);
                assert_eq!(left, Vec::<String>::new(), "{}", path.display());
            }
        }
    }

    #[test]
    fn real_models_answer_alike_with_all_instructions() {
        for (path, sides, difference_max) in real_models() {
            let bytes = std::fs::read(&path).unwrap();
            for side in sides {
                // A gradient with a coarse pattern: unlike the noise of the start-up trial.
                let picture: Vec<f32> = (0..3 * side * side)
                    .map(|at| (at % side * 255 / side / 2 + at / side % 32 * 4) as f32)
                    .collect();
                let compile = |isa| Model::compile_for(ID, &bytes, side, isa).unwrap();
                let plain = compile(Isa::Plain).run(&picture).unwrap();
                for isa in Isa::ALL.into_iter().filter(|isa| isa.is_present()) {
                    let model = compile(isa);
                    assert_eq!(model.isa(), isa, "{} fell back", path.display());
                    let fast = model.run(&picture).unwrap();
                    assert_eq!(plain.len(), fast.len());
                    for (plain, fast) in plain.iter().zip(&fast) {
                        assert_eq!(plain.shape, fast.shape);
                        for (plain, fast) in plain.values.iter().zip(&fast.values) {
                            let near = (plain - fast).abs() <= difference_max;
                            assert!(near, "{}, {isa}: {fast}, not {plain}", path.display());
                        }
                    }
                }
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
        for isa in Isa::ALL.into_iter().filter(|isa| *isa != Isa::Plain && isa.is_present()) {
            let fast = super::super::nhwc::rewrite(&graph, isa).unwrap().unwrap();
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
}
