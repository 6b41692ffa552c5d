//! Finds faces and five landmarks of each, with `YuNet`.

use std::cmp::Ordering;

use super::FaceError;
use super::geometry::{BoundingBox, Landmarks, Point};
use super::raster::{Reduced, Region, draw_letterbox, draw_window};
use crate::capture::DecodedImage;
use crate::inference::{DetectorSpec, Isa, ManifestError, Model, Output};

/// A face in a picture, in the picture's pixels.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct DetectedFace {
    /// Its rectangle.
    pub bounds: BoundingBox,
    /// Right eye, left eye, nose, right and left mouth corner of the subject.
    pub landmarks: Landmarks,
    /// How sure the detector is, 0 to 1.
    pub score: f32,
}

/// `YuNet`, compiled for three input sizes.
#[derive(Clone, Debug)]
pub(super) struct Detector {
    spec: DetectorSpec,
    first: Model,
    retry: Model,
    close: Model,
}

impl Detector {
    pub(super) fn load(spec: &DetectorSpec) -> Result<Self, ManifestError> {
        Ok(Self {
            spec: spec.clone(),
            first: spec.source.load(spec.side_px)?,
            retry: spec.source.load(spec.retry_side_px)?,
            close: spec.source.load(spec.close_side_px)?,
        })
    }

    pub(super) fn isas(&self) -> [Isa; 3] {
        [self.first.isa(), self.retry.isa(), self.close.isa()]
    }

    /// The picture as it is looked at.
    pub(super) fn reduced<'a>(&self, image: &'a DecodedImage) -> Reduced<'a> {
        Reduced::of(image, self.retry.side_px())
    }

    /// All faces, the largest first; the finer input is tried when the coarse one shows none.
    pub(super) fn find(&self, image: &Reduced<'_>) -> Result<Vec<DetectedFace>, FaceError> {
        let found = self.look(&self.first, image, self.spec.score_min)?;
        if found.is_empty() {
            self.look(&self.retry, image, self.spec.score_min)
        } else {
            Ok(found)
        }
    }

    /// As [`Self::find`], then with ever lower demands on the score.
    pub(super) fn find_at_any_score(
        &self,
        image: &Reduced<'_>,
    ) -> Result<Vec<DetectedFace>, FaceError> {
        let found = self.find(image)?;
        if !found.is_empty() {
            return Ok(found);
        }
        for score_min in LOWER_SCORES {
            let found = self.look(&self.retry, image, score_min)?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }

    /// The face with its landmarks averaged over the whole picture and a close look.
    ///
    /// One pass misses them by several pixels on an ordinary portrait, and `SFace` turns with every
    /// tenth; two scales err differently.
    pub(super) fn refine(
        &self,
        image: &Reduced<'_>,
        face: &DetectedFace,
    ) -> Result<DetectedFace, FaceError> {
        let again = self.look_close(image, face)?;
        let same = again
            .iter()
            .map(|other| (other, other.bounds.overlap(&face.bounds)))
            .filter(|(_, overlap)| *overlap > SAME_FACE_OVERLAP_MIN)
            .max_by(|a, b| a.1.total_cmp(&b.1));
        Ok(same.map_or(*face, |(other, _)| DetectedFace {
            landmarks: face.landmarks.midway(&other.landmarks),
            ..*face
        }))
    }

    /// Whether the second largest face is so large that one cannot tell who is meant.
    pub(super) fn is_ambiguous(&self, faces: &[DetectedFace]) -> bool {
        match faces {
            [first, second, ..] => {
                second.bounds.area() > self.spec.second_area_max * first.bounds.area()
            }
            _ => false,
        }
    }

    /// The faces in a square about one, in the picture's pixels.
    fn look_close(
        &self,
        image: &Reduced<'_>,
        face: &DetectedFace,
    ) -> Result<Vec<DetectedFace>, FaceError> {
        let bounds = scaled(face, 1.0 / image.factor()).bounds;
        let region = Region::around(image.image(), &bounds, self.spec.close_scale);
        let (outputs, scale) = self.close.run_drawn(|input| {
            draw_window(image.image(), region, self.close.side_px(), &self.spec.source, input)
        })?;
        let candidates = decode(&outputs, self.close.side_px(), self.spec.score_min)?;
        let mut faces = suppress(candidates, self.spec.overlap_max);
        for face in &mut faces {
            let in_picture = moved(&scaled(face, 1.0 / scale), region);
            *face = scaled(&in_picture, image.factor());
        }
        Ok(faces)
    }

    fn look(
        &self,
        model: &Model,
        image: &Reduced<'_>,
        score_min: f32,
    ) -> Result<Vec<DetectedFace>, FaceError> {
        let (outputs, scale) = model.run_drawn(|input| {
            draw_letterbox(image.image(), model.side_px(), &self.spec.source, input)
        })?;
        let candidates = decode(&outputs, model.side_px(), score_min)?;
        let mut faces = suppress(candidates, self.spec.overlap_max);
        for face in &mut faces {
            *face = scaled(face, image.factor() / scale);
        }
        faces.sort_by(|a, b| descending(a.bounds.area(), b.bounds.area()));
        Ok(faces)
    }
}

/// Reads the twelve outputs: for each of three strides a class and an object score, a box and five
/// points for each cell.
///
/// With cell (column, row) and stride s: centre = (cell + b₀₁)·s, size = exp(b₂₃)·s,
/// point = (cell + k)·s, score = √(class · object).
fn decode(outputs: &[Output], side: usize, score_min: f32) -> Result<Vec<DetectedFace>, FaceError> {
    let [c8, c16, c32, o8, o16, o32, b8, b16, b32, k8, k16, k32] = outputs else {
        return Err(FaceError::Impossible("the detector does not have twelve outputs"));
    };
    let mut found = Vec::new();
    let levels = [(8u8, c8, o8, b8, k8), (16, c16, o16, b16, k16), (32, c32, o32, b32, k32)];
    for (stride, classes, objects, boxes, points) in levels {
        let cells_a_row = side / usize::from(stride);
        let count = cells_a_row * cells_a_row;
        let sizes = [classes, objects, boxes, points].map(|output| output.values.len());
        if sizes != [count, count, 4 * count, 10 * count] {
            return Err(FaceError::Impossible("the detector's outputs do not fit its input"));
        }
        let (boxes, _) = boxes.values.as_chunks::<4>();
        let (points, _) = points.values.as_chunks::<10>();
        let scores = classes.values.iter().zip(&objects.values);
        let cells = scores.zip(boxes.iter().zip(points)).enumerate();
        for (position, ((class, object), (bounds, points))) in cells {
            let score = (class.clamp(0.0, 1.0) * object.clamp(0.0, 1.0)).sqrt();
            if score > score_min {
                let cell = (position % cells_a_row, position / cells_a_row);
                found.push(decode_cell(cell, f32::from(stride), score, *bounds, points)?);
            }
        }
    }
    Ok(found)
}

#[expect(clippy::cast_precision_loss, reason = "cells are counted in tens")]
fn decode_cell(
    (column, row): (usize, usize),
    stride: f32,
    score: f32,
    [dx, dy, log_width, log_height]: [f32; 4],
    points: &[f32; 10],
) -> Result<DetectedFace, FaceError> {
    let (column, row) = (column as f32, row as f32);
    let (width, height) = (log_width.exp() * stride, log_height.exp() * stride);
    let (x, y) = ((column + dx) * stride - width / 2.0, (row + dy) * stride - height / 2.0);
    let mut landmarks = Landmarks::default();
    for (to, [px, py]) in landmarks.0.iter_mut().zip(points.as_chunks::<2>().0) {
        *to = Point { x: (column + px) * stride, y: (row + py) * stride };
    }
    if !(x + y + width + height).is_finite() {
        return Err(FaceError::Impossible("the detector yields a boundless face"));
    }
    Ok(DetectedFace { bounds: BoundingBox { x, y, width, height }, landmarks, score })
}

/// Keeps the strongest of boxes that overlap.
fn suppress(mut candidates: Vec<DetectedFace>, overlap_max: f32) -> Vec<DetectedFace> {
    candidates.sort_by(|a, b| descending(a.score, b.score));
    candidates.truncate(CANDIDATES_MAX);
    let mut kept: Vec<DetectedFace> = Vec::new();
    for candidate in candidates {
        if kept.iter().all(|face| face.bounds.overlap(&candidate.bounds) <= overlap_max) {
            kept.push(candidate);
        }
    }
    kept
}

fn scaled(face: &DetectedFace, factor: f32) -> DetectedFace {
    let BoundingBox { x, y, width, height } = face.bounds;
    DetectedFace {
        bounds: BoundingBox {
            x: x * factor,
            y: y * factor,
            width: width * factor,
            height: height * factor,
        },
        landmarks: Landmarks(
            face.landmarks.0.map(|point| Point { x: point.x * factor, y: point.y * factor }),
        ),
        score: face.score,
    }
}

/// A face of a region as one of the picture.
#[expect(clippy::cast_precision_loss, reason = "pictures have thousands of pixels a side")]
fn moved(face: &DetectedFace, region: Region) -> DetectedFace {
    let (right, down) = (region.x as f32, region.y as f32);
    let BoundingBox { x, y, width, height } = face.bounds;
    let shift = |point: Point| Point { x: point.x + right, y: point.y + down };
    DetectedFace {
        bounds: BoundingBox { x: x + right, y: y + down, width, height },
        landmarks: Landmarks(face.landmarks.0.map(shift)),
        score: face.score,
    }
}

fn descending(a: f32, b: f32) -> Ordering {
    b.partial_cmp(&a).unwrap_or(Ordering::Equal)
}

/// Suppression costs the square of this at the worst.
const CANDIDATES_MAX: usize = 1_000;

/// Two passes' boxes that share this much of their union are the same face.
const SAME_FACE_OVERLAP_MIN: f32 = 0.4;

const LOWER_SCORES: [f32; 3] = [0.3, 0.1, 0.02];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn face(x: f32, y: f32, size: f32, score: f32) -> DetectedFace {
        DetectedFace {
            bounds: BoundingBox { x, y, width: size, height: size },
            landmarks: Landmarks::default(),
            score,
        }
    }

    fn outputs(side: usize) -> Vec<Output> {
        let mut outputs = Vec::new();
        for channels in [1, 1, 4, 10] {
            for stride in [8, 16, 32] {
                let count = (side / stride) * (side / stride);
                let shape = vec![1, count, channels];
                outputs.push(Output { shape, values: vec![0.0; count * channels] });
            }
        }
        outputs
    }

    #[test]
    fn a_cell_becomes_a_face_where_it_lies() {
        let mut outputs = outputs(64);
        // Stride 16, four cells a row: cell 6 is column 2, row 1.
        outputs[1].values[6] = 0.81;
        outputs[4].values[6] = 1.0;
        outputs[7].values[24..28].copy_from_slice(&[0.5, 0.25, 2.0f32.ln(), 4.0f32.ln()]);
        outputs[10].values[60..62].copy_from_slice(&[0.25, -0.5]);
        let found = decode(&outputs, 64, 0.6).unwrap();
        assert_eq!(found.len(), 1);
        assert!((found[0].score - 0.9).abs() < 1e-6);
        let centre = found[0].bounds.centre();
        assert!((centre.x - 40.0).abs() < 1e-4 && (centre.y - 20.0).abs() < 1e-4);
        assert!((found[0].bounds.width - 32.0).abs() < 1e-4);
        assert!((found[0].bounds.height - 64.0).abs() < 1e-4);
        let eye = found[0].landmarks.0[0];
        assert!((eye.x - 36.0).abs() < 1e-4 && (eye.y - 8.0).abs() < 1e-4);
    }

    #[test]
    fn outputs_that_do_not_fit_are_a_broken_model_not_an_empty_picture() {
        assert!(decode(&outputs(64)[..11], 64, 0.6).is_err());
        assert!(decode(&outputs(96), 64, 0.6).is_err());
        let mut boundless = outputs(64);
        boundless[0].values[0] = 1.0;
        boundless[3].values[0] = 1.0;
        boundless[6].values[2] = 1e30;
        assert!(decode(&boundless, 64, 0.6).is_err());
    }

    proptest! {
        #[test]
        fn the_strongest_box_survives_and_no_two_survivors_overlap(
            boxes in prop::collection::vec(
                (0.0f32..100.0, 0.0f32..100.0, 1.0f32..60.0, 0.0f32..1.0), 1..40),
        ) {
            let candidates: Vec<_> =
                boxes.iter().map(|(x, y, size, score)| face(*x, *y, *size, *score)).collect();
            let strongest = candidates.iter().map(|face| face.score).fold(0.0, f32::max);
            let kept = suppress(candidates, 0.3);
            prop_assert!((kept[0].score - strongest).abs() < f32::EPSILON);
            for (at, a) in kept.iter().enumerate() {
                for b in &kept[at + 1..] {
                    prop_assert!(a.bounds.overlap(&b.bounds) <= 0.3);
                }
            }
        }
    }
}
