//! Minutiae, by the model that draws where they are, which way they point, and of which kind.

use super::FingerError;
use super::segment::{Area, Foreground, sides};
use crate::capture::GreyImage;
use crate::domain::embedding::ModelId;
use crate::domain::finger::{FingerView, InvalidMinutia, Minutia, MinutiaKind};
use crate::inference::{FingerSpec, InputShape, Isa, ManifestError, Model, Output};

/// The minutiae model, compiled for each of its sizes, the smallest first.
#[derive(Clone, Debug)]
pub(super) struct Extractor {
    spec: FingerSpec,
    id: ModelId,
    plans: Vec<Model>,
}

impl Extractor {
    pub(super) fn load(spec: &FingerSpec) -> Result<Self, ManifestError> {
        let plans = spec.source.load_sizes(&spec.sizes_px)?;
        Ok(Self { spec: spec.clone(), id: spec.source.id(), plans })
    }

    pub(super) fn id(&self) -> ModelId {
        self.id
    }

    pub(super) fn isas(&self) -> impl Iterator<Item = Isa> {
        self.plans.iter().map(Model::isa)
    }

    /// The minutiae on a picture's foreground, in the picture's pixels.
    pub(super) fn find(
        &self,
        image: &GreyImage,
        foreground: &Foreground,
    ) -> Result<FingerView, FingerError> {
        let plan = self.plan_for(foreground.bounds)?;
        let window = Window::about(foreground.bounds, image, plan.input());
        let draw = |input: &mut [f32]| window.draw(image, foreground.background, input, &self.spec);
        let (outputs, ()) = plan.run_drawn(draw)?;
        let maps = Maps::of(&outputs, &window)?;
        let found = maps.peaks(self.spec.score_min).filter_map(|at| {
            let (x, y) = window.in_picture(at)?;
            foreground.is_near(x, y).then(|| maps.minutia(at, x, y))
        });
        let minutiae = found.collect::<Result<_, _>>();
        let impossible = |_| FingerError::Impossible("the minutiae model yields no minutia");
        Ok(FingerView::new(self.id, minutiae.map_err(impossible)?))
    }

    /// The plan of the first size that holds an area, or else of the largest.
    fn plan_for(&self, area: Area) -> Result<&Model, FingerError> {
        let holds = |plan: &&Model| {
            let input = plan.input();
            area.width <= input.width_px && area.height <= input.height_px
        };
        let plan = self.plans.iter().find(holds).or(self.plans.last());
        plan.ok_or(FingerError::Impossible("the minutiae model has no size"))
    }
}

/// The part of a picture that the model sees; it may reach beyond the picture's edges.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Window {
    width: usize,
    height: usize,
    across: Overlap,
    down: Overlap,
}

/// Where a window and a picture overlap, along one side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Overlap {
    in_window: usize,
    in_picture: usize,
    length: usize,
}

impl Overlap {
    /// A window of `window` pixels over a side of `side`, its middle where `middle` is unless more of
    /// the picture is seen from elsewhere.
    fn new(window: usize, side: usize, middle: usize) -> Self {
        let spare = window.saturating_sub(side);
        Self {
            in_window: spare / 2,
            in_picture: middle.saturating_sub(window / 2).min(side.saturating_sub(window)),
            length: window.min(side),
        }
    }

    fn in_picture(&self, at: usize) -> Option<usize> {
        let at = at.checked_sub(self.in_window)?;
        (at < self.length).then_some(self.in_picture + at)
    }
}

impl Window {
    fn about(area: Area, image: &GreyImage, input: InputShape) -> Self {
        let (width, height) = sides(image);
        Self {
            width: input.width_px,
            height: input.height_px,
            across: Overlap::new(input.width_px, width, area.x + area.width / 2),
            down: Overlap::new(input.height_px, height, area.y + area.height / 2),
        }
    }

    /// Draws the picture's part, the background round it.
    fn draw(&self, image: &GreyImage, background: u8, input: &mut [f32], spec: &FingerSpec) {
        let value = |grey: u8| spec.source.input_value(f32::from(grey));
        input.fill(value(background));
        let (width, _) = sides(image);
        let Overlap { in_window, in_picture, length } = self.down;
        let rows = input.chunks_exact_mut(self.width.max(1)).skip(in_window).take(length);
        for (row, line) in rows.zip(image.pixels().chunks_exact(width.max(1)).skip(in_picture)) {
            let pixels = line.iter().skip(self.across.in_picture).take(self.across.length);
            for (input, grey) in row.iter_mut().skip(self.across.in_window).zip(pixels) {
                *input = value(*grey);
            }
        }
    }

    /// The picture's pixel under one of the window's.
    fn in_picture(&self, at: usize) -> Option<(usize, usize)> {
        let (x, y) = (at % self.width.max(1), at / self.width.max(1));
        Some((self.across.in_picture(x)?, self.down.in_picture(y)?))
    }
}

/// What the model draws, one number a pixel of the window.
struct Maps<'a> {
    width: usize,
    height: usize,
    position: &'a [f32],
    cosine: &'a [f32],
    sine: &'a [f32],
    kind: &'a [f32],
}

impl<'a> Maps<'a> {
    fn of(outputs: &'a [Output], window: &Window) -> Result<Self, FingerError> {
        let Window { width, height, .. } = *window;
        let maps = match outputs {
            [output] if output.shape == [1, 4, height, width] => {
                let mut maps = output.values.chunks_exact((width * height).max(1));
                [maps.next(), maps.next(), maps.next(), maps.next()]
            }
            _ => [None; 4],
        };
        let [Some(position), Some(cosine), Some(sine), Some(kind)] = maps else {
            return Err(FingerError::Impossible("the minutiae model's output has another shape"));
        };
        Ok(Self { width, height, position, cosine, sine, kind })
    }

    /// The pixels that reach `score_min` and that none about them exceeds; of equals, the first.
    fn peaks(&self, score_min: f32) -> impl Iterator<Item = usize> {
        let scores = self.position.iter().copied().enumerate();
        scores
            .filter(move |(at, score)| *score >= score_min && self.is_peak(*at, *score))
            .map(|(at, _)| at)
    }

    fn is_peak(&self, at: usize, score: f32) -> bool {
        let near =
            |at: usize, end: usize| at.saturating_sub(PEAK_RADIUS)..(at + PEAK_RADIUS + 1).min(end);
        let (x, y) = (at % self.width, at / self.width);
        let mut around =
            near(y, self.height).flat_map(|y| near(x, self.width).map(move |x| y * self.width + x));
        !around.any(|other| {
            let value = self.position.get(other).copied().unwrap_or(0.0);
            value > score || (other < at && value >= score)
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "a place in a picture of some thousand pixels")]
    fn minutia(&self, at: usize, x: usize, y: usize) -> Result<Minutia, InvalidMinutia> {
        let value = |map: &[f32]| map.get(at).copied().ok_or(InvalidMinutia);
        let angle = value(self.sine)?.atan2(value(self.cosine)?);
        let kind = match value(self.kind)? {
            ending if ending >= 0.5 + KIND_DOUBT => MinutiaKind::Ending,
            ending if ending <= 0.5 - KIND_DOUBT => MinutiaKind::Bifurcation,
            _ => MinutiaKind::Other,
        };
        // The blur's weights add up to one but for rounding.
        let quality = value(self.position)?.min(1.0);
        Minutia::new(x as f32, y as f32, angle, kind, quality)
    }
}

/// No two minutiae lie nearer than half a ridge's period: 7 × 7 pixels hold one.
const PEAK_RADIUS: usize = 3;

/// A kind's likelihood nearer to a half than this is no knowledge.
const KIND_DOUBT: f32 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_lies_about_the_finger_and_within_the_picture() {
        let overlap = |window, side, middle| {
            let Overlap { in_window, in_picture, length } = Overlap::new(window, side, middle);
            (in_window, in_picture, length)
        };
        assert_eq!(overlap(100, 300, 150), (0, 100, 100));
        assert_eq!(overlap(100, 300, 20), (0, 0, 100));
        assert_eq!(overlap(100, 300, 290), (0, 200, 100));
        assert_eq!(overlap(100, 61, 50), (19, 0, 61));
        let window = Overlap::new(100, 61, 50);
        assert_eq!(
            [18, 19, 79, 80].map(|at| window.in_picture(at)),
            [None, Some(0), Some(60), None]
        );
        assert_eq!(Overlap::new(100, 300, 290).in_picture(99), Some(299));
    }

    fn maps(position: &[f32]) -> Maps<'_> {
        Maps { width: 10, height: 10, position, cosine: position, sine: position, kind: position }
    }

    #[test]
    fn of_equal_peaks_the_first_stands_and_a_higher_one_takes_its_neighbours() {
        let mut position = vec![0.0; 100];
        (position[11], position[12], position[44]) = (0.9, 0.9, 0.8);
        assert_eq!(maps(&position).peaks(0.5).collect::<Vec<_>>(), [11]);
        position[55] = 0.7; // four rows and columns from the first, one from the one it hides
        assert_eq!(maps(&position).peaks(0.5).collect::<Vec<_>>(), [11]);
        (position[44], position[99]) = (0.0, 0.5);
        assert_eq!(maps(&position).peaks(0.5).collect::<Vec<_>>(), [11, 55, 99]);
    }

    #[test]
    fn a_kind_near_a_half_is_none_and_a_score_over_one_is_one() {
        let map = |value| vec![value; 100];
        for (likelihood, kind) in [
            (0.0, MinutiaKind::Bifurcation),
            (0.45, MinutiaKind::Other),
            (0.55, MinutiaKind::Other),
            (1.0, MinutiaKind::Ending),
        ] {
            let (position, cosine, sine, kinds) =
                (map(1.000_001), map(0.0), map(-2.0), map(likelihood));
            let maps = Maps {
                width: 10,
                height: 10,
                position: &position,
                cosine: &cosine,
                sine: &sine,
                kind: &kinds,
            };
            let minutia = maps.minutia(34, 4, 3).unwrap();
            assert_eq!((minutia.kind(), minutia.quality()), (kind, 1.0));
            assert!((minutia.angle() - 1.5 * std::f32::consts::PI).abs() < 1e-3);
        }
    }
}
