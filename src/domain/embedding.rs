//! What a model makes of a face: a direction in its own space, comparable only with its own kind.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::score::Similarity;

/// Longest embedding that any model may yield, in numbers.
pub const EMBEDDING_LENGTH_MAX: usize = 1024;

/// The SHA-256 of a model's file: two models are the same exactly when their bytes are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId([u8; 32]);

impl ModelId {
    /// The model whose file has this SHA-256.
    #[must_use]
    pub const fn new(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }

    /// The digest's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelId({self})")
    }
}

/// Numbers that are no embedding: a broken model must not approve anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEmbedding {
    /// None, or more than [`EMBEDDING_LENGTH_MAX`].
    #[error("an embedding has 1 to 1024 numbers")]
    Length,
    /// A NaN or an infinity.
    #[error("an embedding has a number that is not finite")]
    NotFinite,
    /// All zeros, or so near that no direction is left.
    #[error("an embedding has no direction")]
    NoDirection,
}

impl InvalidEmbedding {
    /// The stable word for logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "SYS_INTERNAL"
    }
}

/// Embeddings of different models, or lengths, which no number can compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("embeddings of different models cannot be compared")]
pub struct Incomparable;

impl Incomparable {
    /// The stable word for logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "SYS_INTERNAL"
    }
}

/// A vector of unit length, tagged with the model that made it.
///
/// Wiped from memory when dropped; `Debug` shows its length and model only.
#[derive(Clone, PartialEq, ZeroizeOnDrop)]
pub struct Embedding {
    #[zeroize(skip)]
    model: ModelId,
    values: Vec<f32>,
}

impl Embedding {
    /// The direction of a model's raw output.
    ///
    /// # Errors
    ///
    /// [`InvalidEmbedding`] for no or too many numbers, NaN, infinities and the zero vector.
    pub fn from_raw(model: ModelId, raw: &[f32]) -> Result<Self, InvalidEmbedding> {
        if raw.is_empty() || raw.len() > EMBEDDING_LENGTH_MAX {
            return Err(InvalidEmbedding::Length);
        }
        let norm = norm(raw);
        if !norm.is_finite() {
            return Err(InvalidEmbedding::NotFinite);
        }
        if norm < NORM_MIN {
            return Err(InvalidEmbedding::NoDirection);
        }
        Ok(Self { model, values: raw.iter().map(|value| value / norm).collect() })
    }

    /// The direction in the middle of several of one model.
    ///
    /// # Errors
    ///
    /// `None` when there are none, when they are of different models or lengths, or when they
    /// cancel each other out.
    #[must_use]
    pub fn mean(embeddings: &[&Self]) -> Option<Self> {
        let first = embeddings.first()?;
        let mut sum = Zeroizing::new(vec![0.0f32; first.values.len()]);
        for embedding in embeddings {
            if !first.is_comparable_with(embedding) {
                return None;
            }
            sum.iter_mut().zip(&embedding.values).for_each(|(sum, value)| *sum += value);
        }
        Self::from_raw(first.model, &sum).ok()
    }

    /// The cosine of the angle between two embeddings of one model.
    ///
    /// # Errors
    ///
    /// [`Incomparable`] for embeddings of different models or lengths.
    pub fn similarity(&self, other: &Self) -> Result<Similarity, Incomparable> {
        if !self.is_comparable_with(other) {
            return Err(Incomparable);
        }
        let dot: f32 = self.values.iter().zip(&other.values).map(|(a, b)| a * b).sum();
        // Rounding may leave the product of two unit vectors a little outside -1..=1.
        Similarity::new(dot.clamp(-1.0, 1.0)).map_err(|_| Incomparable)
    }

    /// The model that made it.
    #[must_use]
    pub const fn model(&self) -> ModelId {
        self.model
    }

    /// The coordinates, of unit length together.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    fn is_comparable_with(&self, other: &Self) -> bool {
        self.model == other.model && self.values.len() == other.values.len()
    }
}

impl fmt::Debug for Embedding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Embedding({} numbers of {})", self.values.len(), self.model)
    }
}

fn norm(values: &[f32]) -> f32 {
    values.iter().map(|value| value * value).sum::<f32>().sqrt()
}

/// How a face's embeddings were made, on which the distribution of scores depends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Making {
    /// From one picture.
    Single,
    /// The mean of a picture and its mirror image.
    MirrorAveraged,
}

/// One face as both embedding models see it.
#[derive(Clone, PartialEq, Debug)]
pub struct FaceEmbedding {
    /// By `SFace`.
    pub sface: Embedding,
    /// By dlib's network.
    pub dlib: Embedding,
    /// From one picture, or also from its mirror image.
    pub making: Making,
}

impl FaceEmbedding {
    /// The bytes that a vault seals: a version, how it was made, then for each model its id, its
    /// length (u16) and its numbers (f32); all little endian.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let parts = [&self.sface, &self.dlib];
        let length = 2 + parts.iter().map(|part| 34 + 4 * part.values.len()).sum::<usize>();
        // With its capacity from the start, no unwiped copy is left behind by growth.
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        bytes.push(BYTES_VERSION);
        bytes.push(match self.making {
            Making::Single => 0,
            Making::MirrorAveraged => 1,
        });
        for part in parts {
            let count = u16::try_from(part.values.len()).unwrap_or(u16::MAX);
            bytes.extend_from_slice(part.model.as_bytes());
            bytes.extend_from_slice(&count.to_le_bytes());
            for value in &part.values {
                bytes.extend_from_slice(&value.to_le_bytes());
            }
        }
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    ///
    /// [`InvalidEmbeddingBytes`] for another version, another length, or numbers that are no
    /// embedding of unit length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidEmbeddingBytes> {
        let (header, rest) = bytes.split_first_chunk::<2>().ok_or(InvalidEmbeddingBytes)?;
        let making = match *header {
            [BYTES_VERSION, 0] => Making::Single,
            [BYTES_VERSION, 1] => Making::MirrorAveraged,
            _ => return Err(InvalidEmbeddingBytes),
        };
        let (sface, rest) = read_embedding(rest)?;
        let (dlib, rest) = read_embedding(rest)?;
        if rest.is_empty() { Ok(Self { sface, dlib, making }) } else { Err(InvalidEmbeddingBytes) }
    }
}

/// Bytes that [`FaceEmbedding::to_bytes`] did not write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes hold no face embedding of a known version")]
pub struct InvalidEmbeddingBytes;

fn read_embedding(bytes: &[u8]) -> Result<(Embedding, &[u8]), InvalidEmbeddingBytes> {
    let (model, rest) = bytes.split_first_chunk::<32>().ok_or(InvalidEmbeddingBytes)?;
    let (count, rest) = rest.split_first_chunk::<2>().ok_or(InvalidEmbeddingBytes)?;
    let count = usize::from(u16::from_le_bytes(*count));
    if count == 0 || count > EMBEDDING_LENGTH_MAX {
        return Err(InvalidEmbeddingBytes);
    }
    let (numbers, rest) = rest.split_at_checked(4 * count).ok_or(InvalidEmbeddingBytes)?;
    let mut values = Vec::with_capacity(count);
    values.extend(numbers.as_chunks::<4>().0.iter().map(|number| f32::from_le_bytes(*number)));
    let is_unit = (norm(&values) - 1.0).abs() < UNIT_TOLERANCE;
    if !is_unit {
        values.zeroize();
        return Err(InvalidEmbeddingBytes);
    }
    Ok((Embedding { model: ModelId::new(*model), values }, rest))
}

const BYTES_VERSION: u8 = 1;

/// Rounding of 1,024 products stays far below this.
const UNIT_TOLERANCE: f32 = 1e-3;

/// Real embeddings have norms about 1 (dlib) and 10 (`SFace`).
const NORM_MIN: f32 = 1e-6;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn model(byte: u8) -> ModelId {
        ModelId::new([byte; 32])
    }

    fn face(raw: &[f32]) -> FaceEmbedding {
        FaceEmbedding {
            sface: Embedding::from_raw(model(1), raw).unwrap(),
            dlib: Embedding::from_raw(model(2), raw).unwrap(),
            making: Making::MirrorAveraged,
        }
    }

    #[test]
    fn numbers_without_a_direction_are_no_embedding() {
        let refused = |raw: &[f32]| Embedding::from_raw(model(0), raw).unwrap_err();
        assert_eq!(refused(&[]), InvalidEmbedding::Length);
        assert_eq!(refused(&[1.0; 1025]), InvalidEmbedding::Length);
        assert_eq!(refused(&[0.0; 8]), InvalidEmbedding::NoDirection);
        assert_eq!(refused(&[1.0, f32::NAN]), InvalidEmbedding::NotFinite);
        assert_eq!(refused(&[f32::INFINITY, 1.0]), InvalidEmbedding::NotFinite);
        assert_eq!(refused(&[f32::MAX, f32::MAX]), InvalidEmbedding::NotFinite);
    }

    #[test]
    fn another_model_or_length_cannot_be_compared() {
        let here = Embedding::from_raw(model(1), &[1.0, 2.0]).unwrap();
        let there = Embedding::from_raw(model(2), &[1.0, 2.0]).unwrap();
        let longer = Embedding::from_raw(model(1), &[1.0, 2.0, 3.0]).unwrap();
        assert_eq!(here.similarity(&there), Err(Incomparable));
        assert_eq!(here.similarity(&longer), Err(Incomparable));
        assert!(Embedding::mean(&[&here, &there]).is_none());
        assert!(Embedding::mean(&[]).is_none());
    }

    #[test]
    fn debug_shows_no_coordinate() {
        let shown = format!("{:?}", face(&[0.123_456, 0.5]));
        assert!(shown.contains("2 numbers"));
        assert!(!shown.contains("0.1") && !shown.contains("0.2"), "{shown}");
    }

    #[test]
    fn every_truncation_and_extension_of_the_bytes_is_refused() {
        let bytes = face(&[3.0, 4.0]).to_bytes();
        for length in 0..bytes.len() {
            assert_eq!(FaceEmbedding::from_bytes(&bytes[..length]), Err(InvalidEmbeddingBytes));
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(FaceEmbedding::from_bytes(&longer), Err(InvalidEmbeddingBytes));
        let mut other_version = bytes.to_vec();
        other_version[0] = 2;
        assert_eq!(FaceEmbedding::from_bytes(&other_version), Err(InvalidEmbeddingBytes));
    }

    proptest! {
        #[test]
        fn bytes_give_the_embedding_back(raw in prop::collection::vec(-10.0f32..10.0, 1..200)) {
            prop_assume!(norm(&raw) > 0.01);
            let face = face(&raw);
            prop_assert_eq!(FaceEmbedding::from_bytes(&face.to_bytes()), Ok(face));
        }

        #[test]
        fn an_embedding_is_most_similar_to_itself(
            a in prop::collection::vec(-1.0f32..1.0, 16),
            b in prop::collection::vec(-1.0f32..1.0, 16),
        ) {
            prop_assume!(norm(&a) > 0.01 && norm(&b) > 0.01);
            let (a, b) = (face(&a).sface, face(&b).sface);
            prop_assert!(a.similarity(&a).unwrap().get() > 0.9999);
            prop_assert_eq!(a.similarity(&b), b.similarity(&a));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ignored = FaceEmbedding::from_bytes(&bytes);
        }
    }
}
