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
    /// against the plain operators; if the two disagree simpler kernels are, at last the plain operators are used,
    /// and a warning is logged.
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
        Isa::plain_is_exact()?;
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
mod tests;
