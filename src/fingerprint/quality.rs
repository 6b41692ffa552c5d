//! Measures a finger's picture, and what was found in it, against the manifest's bars.

use super::segment::{Area, Foreground, Moments, sides};
use crate::capture::GreyImage;
use crate::domain::finger::{FingerView, Minutia};
use crate::domain::finger_quality::{
    FingerQualityBars, FingerQualityComponent, FingerQualityReport,
};

/// What needs no model: brightness where the finger is (in the whole picture where there is none), and
/// how much of it there is.
#[expect(clippy::cast_precision_loss, reason = "pixels in millions, and mean brightness")]
pub(super) fn measure_picture(
    image: &GreyImage,
    foreground: Option<&Foreground>,
    bars: &FingerQualityBars,
) -> FingerQualityReport {
    let (width, height) = sides(image);
    let whole = Area { x: 0, y: 0, width, height };
    let moments = Moments::of(image, foreground.map_or(whole, |found| found.bounds));
    let pixels = foreground.map_or(0, |found| found.pixels);
    FingerQualityReport::default()
        .with(FingerQualityComponent::UniformImage, moments.deviation(), bars)
        .with(FingerQualityComponent::EmptyImageOrContrastTooLow, moments.mean(), bars)
        .with(FingerQualityComponent::SufficientFingerprintForeground, pixels as f32, bars)
}

/// The report with what the minutiae tell.
#[expect(clippy::cast_precision_loss, reason = "a hundred minutiae")]
pub(super) fn measure_view(
    report: FingerQualityReport,
    view: &FingerView,
    bars: &FingerQualityBars,
) -> FingerQualityReport {
    let qualities = || view.minutiae().iter().map(Minutia::quality);
    let counted = qualities().filter(|quality| *quality >= bars.counted_quality_min).count();
    let mean = qualities().sum::<f32>() / view.minutiae().len().max(1) as f32;
    report.with(FingerQualityComponent::FingerprintImageWithMinutiae, counted as f32, bars).with(
        FingerQualityComponent::MinutiaeQuality,
        mean,
        bars,
    )
}
