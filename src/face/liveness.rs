//! Passive liveness, when the operator has added models for it.

use super::FaceError;
use super::geometry::BoundingBox;
use super::raster::{Region, draw_crop};
use crate::capture::DecodedImage;
use crate::domain::liveness::LivenessScore;
use crate::inference::{Isa, LivenessSpec, ManifestError, Model};

/// One liveness model and how its input is cropped.
#[derive(Clone, Debug)]
pub(super) struct LivenessModel {
    spec: LivenessSpec,
    model: Model,
}

impl LivenessModel {
    pub(super) fn load(spec: &LivenessSpec) -> Result<Self, ManifestError> {
        Ok(Self { spec: spec.clone(), model: spec.source.load(spec.side_px)? })
    }

    pub(super) fn isa(&self) -> Isa {
        self.model.isa()
    }

    fn probability(&self, image: &DecodedImage, face: &BoundingBox) -> Result<f32, FaceError> {
        let region = Region::enlarged(image, face, self.spec.crop_scale);
        let (outputs, ()) = self.model.run_drawn(|input| {
            draw_crop(image, region, self.spec.side_px, &self.spec.source, input);
        })?;
        let [classes] = outputs.as_slice() else {
            return Err(FaceError::Impossible("a liveness model does not have one output"));
        };
        // The models end in a softmax, so their classes are probabilities.
        let total: f32 = classes.values.iter().sum();
        match classes.values.get(self.spec.live_class) {
            Some(live) if (total - 1.0).abs() < 1e-3 => Ok(*live),
            _ => Err(FaceError::Impossible("a liveness model's output is no distribution")),
        }
    }
}

/// The models' mean; `None` when there are none.
pub(super) fn score(
    models: &[LivenessModel],
    image: &DecodedImage,
    face: &BoundingBox,
) -> Result<Option<LivenessScore>, FaceError> {
    let Ok(count) = u8::try_from(models.len()) else {
        return Err(FaceError::Impossible("there are more liveness models than a manifest allows"));
    };
    if count == 0 {
        return Ok(None);
    }
    let mut sum = 0.0;
    for model in models {
        sum += model.probability(image, face)?;
    }
    LivenessScore::new((sum / f32::from(count)).clamp(0.0, 1.0))
        .map(Some)
        .map_err(|_| FaceError::Impossible("liveness is no probability"))
}
