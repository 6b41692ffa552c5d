//! Points, boxes and the similarity transform that aligns a face.

/// A place in a picture, in pixels; x to the right, y down.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Point {
    /// Pixels from the left edge.
    pub x: f32,
    /// Pixels from the top edge.
    pub y: f32,
}

impl Point {
    fn minus(self, other: Self) -> Self {
        Self { x: self.x - other.x, y: self.y - other.y }
    }

    fn length(self) -> f32 {
        self.x.hypot(self.y)
    }

    fn mean(points: &[Self; 5]) -> Self {
        let sum = |of: fn(&Self) -> f32| points.iter().map(of).sum::<f32>() / 5.0;
        Self { x: sum(|point| point.x), y: sum(|point| point.y) }
    }
}

/// A face's rectangle in pixels; it may reach beyond the picture.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct BoundingBox {
    /// Left edge.
    pub x: f32,
    /// Top edge.
    pub y: f32,
    /// Width.
    pub width: f32,
    /// Height.
    pub height: f32,
}

impl BoundingBox {
    /// Square pixels.
    #[must_use]
    pub fn area(&self) -> f32 {
        self.width.max(0.0) * self.height.max(0.0)
    }

    /// The middle.
    #[must_use]
    pub fn centre(&self) -> Point {
        Point { x: self.x + self.width / 2.0, y: self.y + self.height / 2.0 }
    }

    /// The share of the two boxes' union that both cover, 0 to 1.
    #[must_use]
    pub fn overlap(&self, other: &Self) -> f32 {
        let along = |a: f32, a_size: f32, b: f32, b_size: f32| {
            ((a + a_size).min(b + b_size) - a.max(b)).max(0.0)
        };
        let both = along(self.x, self.width, other.x, other.width)
            * along(self.y, self.height, other.y, other.height);
        let union = self.area() + other.area() - both;
        if union > 0.0 { both / union } else { 0.0 }
    }
}

/// Five places of a face, named from the subject's side.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Landmarks(pub [Point; 5]);

impl Landmarks {
    /// Pixels between the eyes.
    #[must_use]
    pub fn inter_eye_distance(&self) -> f32 {
        let [right_eye, left_eye, ..] = self.0;
        left_eye.minus(right_eye).length()
    }

    /// Each point midway between two findings of the same face.
    #[must_use]
    pub fn midway(&self, other: &Self) -> Self {
        let mut points = self.0;
        for (point, other) in points.iter_mut().zip(other.0) {
            *point =
                Point { x: f32::midpoint(point.x, other.x), y: f32::midpoint(point.y, other.y) };
        }
        Self(points)
    }

    /// Which way the head is turned.
    ///
    /// The five points of a rigid model head, seen from afar, are an affine image of it; its two
    /// rows, found by least squares, are the camera's axes in the head's frame.
    #[must_use]
    pub fn head_pose(&self) -> HeadPose {
        let centre = Point::mean(&self.0);
        let offsets = self.0.map(|point| point.minus(centre));
        let across = fit_row(&offsets.map(|offset| offset.x));
        let down = fit_row(&offsets.map(|offset| offset.y));
        HeadPose::from_axes(normalised(across), normalised(down))
    }
}

/// Degrees; zero is straight into the camera.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct HeadPose {
    /// Positive when the nose points to the picture's right.
    pub yaw_deg: f32,
    /// Positive when the nose points down.
    pub pitch_deg: f32,
    /// Positive when the head is tilted clockwise in the picture.
    pub roll_deg: f32,
}

impl HeadPose {
    fn from_axes(across: [f32; 3], down: [f32; 3]) -> Self {
        let [a0, _, a2] = across;
        let [d0, _, d2] = down;
        // The nose's direction (0, 0, 1) in the head's frame moves by these in the picture.
        let (nose_right, nose_down) = (a2.clamp(-1.0, 1.0), d2.clamp(-1.0, 1.0));
        Self {
            yaw_deg: nose_right.asin().to_degrees(),
            pitch_deg: nose_down.asin().to_degrees(),
            roll_deg: d0.atan2(a0).to_degrees(),
        }
    }
}

/// Least squares: the row r for which r·model is nearest to the five coordinates.
fn fit_row(coordinates: &[f32; 5]) -> [f32; 3] {
    // Normal equations (MᵀM) r = Mᵀ c, by Cramer's rule.
    let mut normal = [[0.0f32; 3]; 3];
    let mut right = [0.0f32; 3];
    for (point, coordinate) in HEAD_MM.iter().zip(coordinates) {
        for ((row, right), a) in normal.iter_mut().zip(&mut right).zip(point) {
            *right += a * coordinate;
            row.iter_mut().zip(point).for_each(|(cell, b)| *cell += a * b);
        }
    }
    let whole = determinant(&normal);
    let mut solved = [0.0f32; 3];
    for (column, solved) in solved.iter_mut().enumerate() {
        let mut replaced = normal;
        for (row, value) in replaced.iter_mut().zip(right) {
            if let Some(cell) = row.get_mut(column) {
                *cell = value;
            }
        }
        *solved = determinant(&replaced) / whole;
    }
    solved
}

#[expect(clippy::many_single_char_names, reason = "the cells of a 3 by 3 matrix, row by row")]
fn determinant(m: &[[f32; 3]; 3]) -> f32 {
    let [[a, b, c], [d, e, f], [g, h, i]] = m;
    a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
}

fn normalised(vector: [f32; 3]) -> [f32; 3] {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::EPSILON);
    vector.map(|value| value / length)
}

/// Right eye, left eye, nose tip, right and left mouth corner of a mean adult head in millimetres,
/// about their centroid: x to the picture's right, y down, z towards the camera. The plane
/// coordinates are `SFace`'s mean frontal face scaled to 63 mm between the eyes, the nose 5.6 mm
/// lower, where `YuNet` marks it (without this the median press portrait seems to look down by
/// 14°); the depths (nose tip 26 mm before the eyes, mouth corners 6 mm) are rounded from
/// anthropometric means.
const HEAD_MM: [[f32; 3]; 5] = [
    [-31.5, -37.4, -7.6],
    [31.5, -37.4, -7.6],
    [0.0, 4.2, 18.4],
    [-26.0, 35.3, -1.6],
    [26.0, 35.3, -1.6],
];

/// A rotation, scaling and shift: (x, y) ↦ (a·x − b·y + tx, b·x + a·y + ty).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SimilarityTransform {
    a: f32,
    b: f32,
    tx: f32,
    ty: f32,
}

impl SimilarityTransform {
    /// The transform that brings `from` nearest to `to` in the least squares sense (Umeyama 1991,
    /// without reflection). `None` when the points of `from` fall together.
    #[must_use]
    pub fn between(from: &[Point; 5], to: &[Point; 5]) -> Option<Self> {
        let (from_centre, to_centre) = (Point::mean(from), Point::mean(to));
        let (mut dot, mut cross, mut spread) = (0.0f32, 0.0f32, 0.0f32);
        for (from, to) in from.iter().zip(to) {
            let (f, t) = (from.minus(from_centre), to.minus(to_centre));
            dot += f.x * t.x + f.y * t.y;
            cross += f.x * t.y - f.y * t.x;
            spread += f.x * f.x + f.y * f.y;
        }
        let (a, b) = (dot / spread, cross / spread);
        let tx = to_centre.x - (a * from_centre.x - b * from_centre.y);
        let ty = to_centre.y - (b * from_centre.x + a * from_centre.y);
        let usable = spread > f32::EPSILON && a.hypot(b) > f32::EPSILON;
        (usable && tx.is_finite() && ty.is_finite()).then_some(Self { a, b, tx, ty })
    }

    /// Where a point goes.
    #[must_use]
    #[inline]
    pub fn apply(&self, point: Point) -> Point {
        Point {
            x: self.a * point.x - self.b * point.y + self.tx,
            y: self.b * point.x + self.a * point.y + self.ty,
        }
    }

    /// The way back.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let squared = self.a * self.a + self.b * self.b;
        let (a, b) = (self.a / squared, -self.b / squared);
        let tx = -(a * self.tx - b * self.ty);
        let ty = -(b * self.tx + a * self.ty);
        Self { a, b, tx, ty }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frontal() -> [Point; 5] {
        HEAD_MM.map(|[x, y, _]| Point { x: x + 100.0, y: y + 100.0 })
    }

    /// The model head turned, then seen from afar.
    fn turned(yaw_deg: f32, pitch_deg: f32, roll_deg: f32) -> Landmarks {
        let (yaw, pitch, roll) =
            (yaw_deg.to_radians(), pitch_deg.to_radians(), roll_deg.to_radians());
        Landmarks(HEAD_MM.map(|[x, y, z]| {
            let (x, z) = (x * yaw.cos() + z * yaw.sin(), z * yaw.cos() - x * yaw.sin());
            let y = y * pitch.cos() + z * pitch.sin();
            let (x, y) = (x * roll.cos() - y * roll.sin(), x * roll.sin() + y * roll.cos());
            Point { x: x * 2.0 + 50.0, y: y * 2.0 + 70.0 }
        }))
    }

    #[test]
    fn a_frontal_face_is_turned_nowhere() {
        let pose = Landmarks(frontal()).head_pose();
        assert!(pose.yaw_deg.abs() < 0.1 && pose.roll_deg.abs() < 0.1, "{pose:?}");
        assert!(pose.pitch_deg.abs() < 0.1, "{pose:?}");
    }

    #[test]
    fn each_turn_is_measured_by_itself() {
        for degrees in [-40.0f32, -15.0, 10.0, 35.0] {
            assert!((turned(degrees, 0.0, 0.0).head_pose().yaw_deg - degrees).abs() < 0.5);
            assert!((turned(0.0, degrees, 0.0).head_pose().pitch_deg - degrees).abs() < 0.5);
            assert!((turned(0.0, 0.0, degrees).head_pose().roll_deg - degrees).abs() < 0.5);
        }
    }

    #[test]
    fn points_that_fall_together_cannot_be_aligned() {
        let one = [Point { x: 3.0, y: 4.0 }; 5];
        assert_eq!(SimilarityTransform::between(&one, &frontal()), None);
        let nan = [Point { x: f32::NAN, y: 0.0 }; 5];
        assert_eq!(SimilarityTransform::between(&nan, &frontal()), None);
    }

    #[test]
    fn overlap_is_the_shared_part_of_the_union() {
        let square = |x| BoundingBox { x, y: 0.0, width: 10.0, height: 10.0 };
        assert!((square(0.0).overlap(&square(0.0)) - 1.0).abs() < 1e-6);
        assert!((square(0.0).overlap(&square(5.0)) - 1.0 / 3.0).abs() < 1e-6);
        assert!(square(0.0).overlap(&square(10.0)).abs() < 1e-6);
        assert!(BoundingBox::default().overlap(&BoundingBox::default()).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn a_similarity_is_found_again(
            angle in -3.0f32..3.0, scale in 0.2f32..5.0, x in -200.0f32..200.0, y in -200.0f32..200.0,
        ) {
            let known = SimilarityTransform {
                a: scale * angle.cos(), b: scale * angle.sin(), tx: x, ty: y,
            };
            let moved = frontal().map(|point| known.apply(point));
            let found = SimilarityTransform::between(&frontal(), &moved).unwrap();
            for (from, to) in frontal().into_iter().zip(moved) {
                prop_assert!(found.apply(from).minus(to).length() < 0.01);
                prop_assert!(found.inverse().apply(to).minus(from).length() < 0.01);
            }
        }
    }
}
