//! Folds quantised weights back into plain ones before tract sees the model.
//!
//! int8 block quantisation (ONNX `DequantizeLinear` with `block_size`) makes a file four times
//! smaller; tract 0.23 refuses it. Everything it is applied to is constant, so the graph with plain
//! f32 initialisers in place of `DequantizeLinear` and the `Reshape` behind it is the same graph.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

/// A constant that cannot be folded: the file is no model that this reader knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the constant {name:?} cannot be folded: {why}")]
pub struct FoldError {
    name: String,
    why: &'static str,
}

/// Replaces each `DequantizeLinear` or `Reshape` of constants by the constant it yields.
///
/// # Errors
///
/// [`FoldError`] when shapes and numbers of a constant contradict each other.
pub(super) fn fold_constants(graph: &mut GraphProto) -> Result<(), FoldError> {
    let initialisers = std::mem::take(&mut graph.initializer);
    let plain: HashMap<&str, &TensorProto> =
        initialisers.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let mut folded: HashMap<String, Constant> = HashMap::new();
    let mut kept = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node) {
        let constants = Constants { plain: &plain, folded: &folded };
        match fold_node(&node, &constants)? {
            Some((name, constant)) => drop(folded.insert(name, constant)),
            None => kept.push(node),
        }
    }
    graph.node = kept;
    let used: HashSet<&str> =
        graph.node.iter().flat_map(|node| node.input.iter().map(String::as_str)).collect();
    let untouched = initialisers.iter().filter(|tensor| used.contains(tensor.name.as_str()));
    let mut remaining: Vec<TensorProto> = untouched.cloned().collect();
    remaining.extend(
        folded
            .iter()
            .filter(|(name, _)| used.contains(name.as_str()))
            .map(|(name, constant)| constant.to_proto(name)),
    );
    // Old writers list initialisers among the inputs; what is constant is no input.
    let constant: HashSet<&str> = remaining.iter().map(|tensor| tensor.name.as_str()).collect();
    graph.input.retain(|input| {
        used.contains(input.name.as_str()) && !constant.contains(input.name.as_str())
    });
    // Shapes noted for values that no longer exist would mislead.
    graph.value_info.clear();
    graph.initializer = remaining;
    Ok(())
}

struct Constants<'a> {
    plain: &'a HashMap<&'a str, &'a TensorProto>,
    folded: &'a HashMap<String, Constant>,
}

impl Constants<'_> {
    fn knows(&self, name: &str) -> bool {
        self.plain.contains_key(name) || self.folded.contains_key(name)
    }

    fn read(&self, name: &str) -> Result<Constant, FoldError> {
        if let Some(constant) = self.folded.get(name) {
            return Ok(constant.clone());
        }
        let tensor = self.plain.get(name).ok_or_else(|| refuse(name, "it is not there"))?;
        Constant::read(tensor)
    }
}

/// The constant that a node yields, when all its inputs are constant.
fn fold_node(
    node: &NodeProto,
    constants: &Constants<'_>,
) -> Result<Option<(String, Constant)>, FoldError> {
    let inputs: Vec<&str> =
        node.input.iter().filter(|name| !name.is_empty()).map(String::as_str).collect();
    if !inputs.iter().all(|name| constants.knows(name)) {
        return Ok(None);
    }
    let constant = match (node.op_type.as_str(), inputs.as_slice()) {
        ("DequantizeLinear", [values, scales, zeros @ ..]) => {
            let zeros = zeros.first().map(|name| constants.read(name)).transpose()?;
            let (values, scales) = (constants.read(values)?, constants.read(scales)?);
            dequantise(node, values, &scales, zeros.as_ref())?
        }
        ("Reshape", [values, shape]) => {
            constants.read(values)?.reshaped(&constants.read(shape)?, &node.name)?
        }
        _ => return Ok(None),
    };
    let output = node.output.first().ok_or_else(|| refuse(&node.name, "it has no output"))?;
    Ok(Some((output.clone(), constant)))
}

/// (value − zero point) · scale, with one scale for all, for each index of an axis, or for each
/// block along that axis.
fn dequantise(
    node: &NodeProto,
    values: Constant,
    scales: &Constant,
    zeros: Option<&Constant>,
) -> Result<Constant, FoldError> {
    let rank = i64::try_from(values.dims.len().max(1)).unwrap_or(1);
    let axis = usize::try_from(attribute(node, "axis", 1).rem_euclid(rank)).unwrap_or(0);
    let block = usize::try_from(attribute(node, "block_size", 0))
        .map_err(|_| refuse(&node.name, "its block size is negative"))?;
    let along = values.dims.get(axis).copied().unwrap_or(1).max(1);
    let inner: usize = values.dims.iter().skip(axis + 1).product::<usize>().max(1);
    let blocks = if block > 0 { along.div_ceil(block) } else { along };
    let scale_of = |position: usize| {
        let (index, outer) = ((position / inner) % along, position / (inner * along));
        match (scales.numbers.len(), block) {
            (1, _) => 0,
            (_, 0) => index,
            _ => (outer * blocks + index / block) * inner + position % inner,
        }
    };
    let mut numbers = Vec::with_capacity(values.numbers.len());
    for (position, value) in values.numbers.iter().enumerate() {
        let at = scale_of(position);
        let scale =
            scales.numbers.get(at).ok_or_else(|| refuse(&node.name, "a scale is missing"))?;
        let zero = match zeros {
            Some(zeros) => *zeros
                .numbers
                .get(at)
                .ok_or_else(|| refuse(&node.name, "a zero point is missing"))?,
            None => 0.0,
        };
        numbers.push((value - zero) * scale);
    }
    Ok(Constant { dims: values.dims, numbers })
}

fn attribute(node: &NodeProto, name: &str, otherwise: i64) -> i64 {
    node.attribute.iter().find(|known| known.name == name).map_or(otherwise, |known| known.i)
}

fn refuse(name: &str, why: &'static str) -> FoldError {
    FoldError { name: name.to_owned(), why }
}

/// Numbers with a shape. Shapes of `Reshape` are integers small enough to be exact as f32.
#[derive(Clone, Debug, PartialEq)]
struct Constant {
    dims: Vec<usize>,
    numbers: Vec<f32>,
}

impl Constant {
    fn read(tensor: &TensorProto) -> Result<Self, FoldError> {
        let dims: Result<Vec<usize>, _> = tensor.dims.iter().map(|d| usize::try_from(*d)).collect();
        let dims = dims.map_err(|_| refuse(&tensor.name, "a dimension is negative"))?;
        let numbers = read_numbers(tensor)?;
        let count = dims.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
        if count == Some(numbers.len()) {
            Ok(Self { dims, numbers })
        } else {
            Err(refuse(&tensor.name, "its shape has another size than its numbers"))
        }
    }

    fn reshaped(self, shape: &Self, name: &str) -> Result<Self, FoldError> {
        let known: f32 = shape.numbers.iter().filter(|dim| **dim > 0.0).product();
        let rest = integral(self.numbers.len(), known);
        let dims: Option<Vec<usize>> = shape
            .numbers
            .iter()
            .zip(self.dims.iter().map(Some).chain(std::iter::repeat(None)))
            .map(|(dim, old)| match *dim {
                dim if dim < 0.0 => rest,
                0.0 => old.copied(),
                dim => integral_dim(dim),
            })
            .collect();
        let dims = dims.ok_or_else(|| refuse(name, "a dimension cannot be inferred"))?;
        if dims.iter().product::<usize>() != self.numbers.len() {
            return Err(refuse(name, "it is reshaped to another size"));
        }
        Ok(Self { dims, numbers: self.numbers })
    }

    fn to_proto(&self, name: &str) -> TensorProto {
        TensorProto {
            name: name.to_owned(),
            data_type: DataType::Float.into(),
            dims: self.dims.iter().map(|dim| i64::try_from(*dim).unwrap_or(i64::MAX)).collect(),
            raw_data: self.numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
            ..Default::default()
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "shapes are small integers, exact as f32"
)]
mod shapes {
    pub(super) fn integral(total: usize, known: f32) -> Option<usize> {
        (known >= 1.0).then(|| total / known as usize)
    }

    pub(super) fn integral_dim(dim: f32) -> Option<usize> {
        (1.0..=16_777_216.0).contains(&dim).then_some(dim as usize)
    }

    pub(super) fn from_i64(value: i64) -> f32 {
        value as f32
    }
}

use shapes::{from_i64, integral, integral_dim};

fn read_numbers(tensor: &TensorProto) -> Result<Vec<f32>, FoldError> {
    let raw = &tensor.raw_data;
    let numbers = match (DataType::try_from(tensor.data_type), raw.is_empty()) {
        (Ok(DataType::Float), true) => tensor.float_data.clone(),
        (Ok(DataType::Float), false) => {
            raw.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        }
        (Ok(DataType::Int8), true) => {
            tensor.int32_data.iter().map(|value| from_i64(i64::from(*value))).collect()
        }
        (Ok(DataType::Int8), false) => {
            raw.iter().map(|byte| f32::from(i8::from_le_bytes([*byte]))).collect()
        }
        (Ok(DataType::Int64), true) => tensor.int64_data.iter().copied().map(from_i64).collect(),
        (Ok(DataType::Int64), false) => {
            raw.as_chunks::<8>().0.iter().map(|b| from_i64(i64::from_le_bytes(*b))).collect()
        }
        _ => return Err(refuse(&tensor.name, "its type is neither f32, i8 nor i64")),
    };
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::AttributeProto;

    fn int8(name: &str, dims: &[i64], values: &[i8]) -> TensorProto {
        TensorProto {
            name: name.into(),
            data_type: DataType::Int8.into(),
            dims: dims.to_vec(),
            raw_data: values.iter().map(|value| value.to_le_bytes()[0]).collect(),
            ..Default::default()
        }
    }

    fn float(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
        TensorProto {
            name: name.into(),
            data_type: DataType::Float.into(),
            dims: dims.to_vec(),
            float_data: values.to_vec(),
            ..Default::default()
        }
    }

    fn node(op: &str, inputs: &[&str], output: &str, attributes: &[(&str, i64)]) -> NodeProto {
        NodeProto {
            op_type: op.into(),
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![output.into()],
            attribute: attributes
                .iter()
                .map(|(name, i)| AttributeProto {
                    name: (*name).into(),
                    i: *i,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }
    }

    fn quantised(scales: TensorProto, attributes: &[(&str, i64)]) -> GraphProto {
        GraphProto {
            node: vec![
                node("DequantizeLinear", &["q", "s", "z"], "flat", attributes),
                node("Reshape", &["flat", "shape"], "w", &[]),
                node("Conv", &["x", "w"], "y", &[]),
            ],
            initializer: vec![
                int8("q", &[2, 4], &[0, 1, 2, 3, 4, 5, 6, 7]),
                int8("z", &scales.dims.clone(), &vec![1; scales.float_data.len()]),
                scales,
                TensorProto {
                    name: "shape".into(),
                    data_type: DataType::Int64.into(),
                    dims: vec![3],
                    int64_data: vec![2, -1, 2],
                    ..Default::default()
                },
            ],
            ..Default::default()
        }
    }

    fn weights(graph: &GraphProto) -> Constant {
        assert_eq!(graph.node.len(), 1);
        assert_eq!(graph.initializer.len(), 1);
        Constant::read(&graph.initializer[0]).unwrap()
    }

    #[test]
    fn blocks_along_an_axis_have_their_own_scale() {
        let scales = float("s", &[2, 2], &[1.0, 10.0, 100.0, 1000.0]);
        let mut graph = quantised(scales, &[("axis", 1), ("block_size", 2)]);
        fold_constants(&mut graph).unwrap();
        assert_eq!(weights(&graph).dims, [2, 2, 2]);
        assert_eq!(weights(&graph).numbers, [-1.0, 0.0, 10.0, 20.0, 300.0, 400.0, 5000.0, 6000.0]);
    }

    #[test]
    fn one_scale_may_serve_an_index_or_all() {
        let mut graph = quantised(float("s", &[2], &[1.0, 10.0]), &[("axis", 0)]);
        fold_constants(&mut graph).unwrap();
        assert_eq!(weights(&graph).numbers, [-1.0, 0.0, 1.0, 2.0, 30.0, 40.0, 50.0, 60.0]);
        let mut graph = quantised(float("s", &[], &[2.0]), &[]);
        fold_constants(&mut graph).unwrap();
        assert_eq!(weights(&graph).numbers, [-2.0, 0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0]);
    }

    #[test]
    fn a_contradiction_is_an_error_not_a_panic() {
        let scales = float("s", &[1, 2], &[1.0, 10.0]);
        let mut missing = quantised(scales.clone(), &[("axis", 1), ("block_size", 1)]);
        assert!(fold_constants(&mut missing).is_err());
        let mut negative = quantised(scales, &[("axis", 1), ("block_size", -1)]);
        assert!(fold_constants(&mut negative).is_err());
        let mut graph = quantised(float("s", &[], &[2.0]), &[]);
        graph.initializer[3].int64_data = vec![3, -1, 1];
        assert!(fold_constants(&mut graph).is_err());
    }
}
