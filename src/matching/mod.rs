//! Compare, fuse, calibrate (score to false match rate), search (1:N).

mod finger;
mod finger_search;
mod minutiae;
mod search;

use crate::domain::embedding::{Embedding, FaceEmbedding, Incomparable, Making, ModelId};
pub use crate::domain::likelihood::{LikelihoodMap, LogLikelihoodRatio};
pub use crate::domain::score::{
    Calibration, FaceLikelihood, FingerMatchingParameters, FingerTable, Fusion, MatchScore,
    MatchingParameters, Similarity, Strength,
};

pub use finger::{
    FINGER_IMPRESSIONS_MAX, FingerMatcher, FingerTemplate, FingerTemplateError, Weighed,
};
pub use finger_search::{FingerGallery, FingerSnapshot};
#[cfg(any(test, feature = "test-support"))]
pub use minutiae::synthetic;
pub use minutiae::{PreparedView, Scratch};
pub use search::{Gallery, Hit, Snapshot};

/// Most captures that one template is made of.
pub const TEMPLATE_CAPTURES_MAX: usize = 5;

/// What a person is compared with: the mean direction of one to five captures, for each model.
#[derive(Clone, PartialEq, Debug)]
pub struct Template {
    sface: Embedding,
    dlib: Embedding,
    calibrated_as: CalibratedAs,
}

/// Which calibration table a comparison is read in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CalibratedAs {
    /// One picture against one picture.
    Single,
    /// One picture against a template of mirror-averaged captures.
    Template,
}

impl CalibratedAs {
    /// The table's name in the manifest.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Template => "template",
        }
    }
}

/// What a comparison of faces says.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct WeighedFace {
    /// By `SFace`.
    pub sface: Similarity,
    /// By dlib's network.
    pub dlib: Similarity,
    /// The fused score.
    pub score: MatchScore,
    /// How strong it is, alone.
    pub strength: Strength,
    /// What it adds to fingers; none without their table.
    pub ratio: Option<LogLikelihoodRatio>,
}

/// Captures that make no template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// None, or more than [`TEMPLATE_CAPTURES_MAX`].
    #[error("a template is made of one to five captures")]
    Count,
    /// Captures of different models, made in different ways, or of opposite directions.
    #[error("the captures cannot be averaged")]
    Mixed,
}

impl TemplateError {
    /// The stable word for logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Count => "REQ_INVALID",
            Self::Mixed => "SYS_INTERNAL",
        }
    }
}

impl Template {
    /// The normalised mean of one to five captures.
    ///
    /// # Errors
    ///
    /// [`TemplateError`] for none or too many, and for captures that cannot be averaged.
    pub fn from_captures(captures: &[FaceEmbedding]) -> Result<Self, TemplateError> {
        let making = captures.first().ok_or(TemplateError::Count)?.making;
        if captures.len() > TEMPLATE_CAPTURES_MAX {
            return Err(TemplateError::Count);
        }
        if captures.iter().any(|capture| capture.making != making) {
            return Err(TemplateError::Mixed);
        }
        let sface: Vec<_> = captures.iter().map(|capture| &capture.sface).collect();
        let dlib: Vec<_> = captures.iter().map(|capture| &capture.dlib).collect();
        let calibrated_as = match (making, captures.len()) {
            (Making::Single, 1) => CalibratedAs::Single,
            _ => CalibratedAs::Template,
        };
        Ok(Self {
            sface: Embedding::mean(&sface).ok_or(TemplateError::Mixed)?,
            dlib: Embedding::mean(&dlib).ok_or(TemplateError::Mixed)?,
            calibrated_as,
        })
    }

    /// The models behind it.
    #[must_use]
    pub fn models(&self) -> [ModelId; 2] {
        [self.sface.model(), self.dlib.model()]
    }

    /// The table in which comparisons with it are read.
    #[must_use]
    pub const fn calibrated_as(&self) -> CalibratedAs {
        self.calibrated_as
    }
}

/// Compares faces, and says how strong a match is.
#[derive(Clone, Debug)]
pub struct Matcher {
    parameters: MatchingParameters,
}

impl Matcher {
    /// A matcher with a manifest's frozen parameters.
    #[must_use]
    pub const fn new(parameters: MatchingParameters) -> Self {
        Self { parameters }
    }

    /// The frozen parameters.
    #[must_use]
    pub const fn parameters(&self) -> &MatchingParameters {
        &self.parameters
    }

    /// The fused score of a probe against a template.
    ///
    /// # Errors
    ///
    /// [`Incomparable`] when they were made by different models.
    pub fn compare(
        &self,
        probe: &FaceEmbedding,
        template: &Template,
    ) -> Result<MatchScore, Incomparable> {
        let sface = probe.sface.similarity(&template.sface)?;
        let dlib = probe.dlib.similarity(&template.dlib)?;
        Ok(self.parameters.fusion.fuse(sface, dlib))
    }

    /// The fused score of one face against another, as error rates are counted.
    ///
    /// # Errors
    ///
    /// [`Incomparable`] when they were made by different models.
    pub fn compare_faces(
        &self,
        a: &FaceEmbedding,
        b: &FaceEmbedding,
    ) -> Result<MatchScore, Incomparable> {
        let sface = a.sface.similarity(&b.sface)?;
        let dlib = a.dlib.similarity(&b.dlib)?;
        Ok(self.parameters.fusion.fuse(sface, dlib))
    }

    /// How strong a score is, by the table that fits how the template was made.
    #[must_use]
    pub fn strength(&self, score: MatchScore, calibrated_as: CalibratedAs) -> Strength {
        match calibrated_as {
            CalibratedAs::Single => self.parameters.single.strength(score),
            CalibratedAs::Template => self.parameters.template.strength(score),
        }
    }

    /// Compares, and reads the strength and what it adds to fingers.
    ///
    /// # Errors
    ///
    /// [`Incomparable`] when probe and template were made by different models.
    pub fn weigh(
        &self,
        probe: &FaceEmbedding,
        template: &Template,
    ) -> Result<WeighedFace, Incomparable> {
        let sface = probe.sface.similarity(&template.sface)?;
        let dlib = probe.dlib.similarity(&template.dlib)?;
        let score = self.parameters.fusion.fuse(sface, dlib);
        let maps = self.parameters.likelihood.as_ref();
        let ratio = maps.map(|maps| match template.calibrated_as {
            CalibratedAs::Single => maps.single.ratio(score),
            CalibratedAs::Template => maps.template.ratio(score),
        });
        let strength = self.strength(score, template.calibrated_as);
        Ok(WeighedFace { sface, dlib, score, strength, ratio })
    }

    /// Compares, and reads the strength.
    ///
    /// # Errors
    ///
    /// [`Incomparable`] when probe and template were made by different models.
    pub fn verify(
        &self,
        probe: &FaceEmbedding,
        template: &Template,
    ) -> Result<Strength, Incomparable> {
        let score = self.compare(probe, template)?;
        Ok(self.strength(score, template.calibrated_as))
    }

    /// As much work as [`Self::verify`], for a customer who has no template, so that the time
    /// taken does not tell who is enrolled. Always no strength.
    ///
    /// # Errors
    ///
    /// Never in practice: a probe is comparable with itself.
    pub fn verify_nobody(&self, probe: &FaceEmbedding) -> Result<Strength, Incomparable> {
        let score = self.compare_faces(probe, probe)?;
        std::hint::black_box(self.strength(score, CalibratedAs::Template));
        Ok(Strength::NONE)
    }

    /// The weakest strength between any two of the captures; [`Strength::MAX`] for fewer than two.
    ///
    /// # Errors
    ///
    /// [`Incomparable`] when they were made by different models.
    pub fn weakest_agreement(&self, captures: &[FaceEmbedding]) -> Result<Strength, Incomparable> {
        let mut weakest = Strength::MAX;
        for (position, a) in captures.iter().enumerate() {
            for b in captures.iter().skip(position + 1) {
                let both_single = a.making == Making::Single && b.making == Making::Single;
                let table = if both_single { CalibratedAs::Single } else { CalibratedAs::Template };
                weakest = weakest.min(self.strength(self.compare_faces(a, b)?, table));
            }
        }
        Ok(weakest)
    }

    /// Whether the captures of one enrolment show one person, by the manifest's bar.
    ///
    /// # Errors
    ///
    /// [`Incomparable`] when they were made by different models.
    pub fn captures_agree(&self, captures: &[FaceEmbedding]) -> Result<bool, Incomparable> {
        let bar = self.parameters.captures_agree_strength_min;
        Ok(self.weakest_agreement(captures)? >= bar)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::domain::score::FusionTerm;

    pub(crate) fn matcher() -> Matcher {
        let table = |shift: f32| {
            Calibration::new(vec![(0.0 + shift, 3.0), (4.0 + shift, 40.0), (6.0 + shift, 60.0)])
                .unwrap()
        };
        Matcher::new(MatchingParameters {
            fusion: Fusion {
                sface: FusionTerm::new(0.7, 0.0, 0.1).unwrap(),
                dlib: FusionTerm::new(0.3, 0.0, 0.1).unwrap(),
            },
            single: table(0.0),
            template: table(0.5),
            search_strength_min: Strength::from_db(50),
            captures_agree_strength_min: Strength::from_db(40),
            likelihood: None,
        })
    }

    pub(crate) fn face(raw: &[f32], making: Making) -> FaceEmbedding {
        let model = |byte| ModelId::new([byte; 32]);
        FaceEmbedding {
            sface: Embedding::from_raw(model(1), raw).unwrap(),
            dlib: Embedding::from_raw(model(2), raw).unwrap(),
            making,
        }
    }

    #[test]
    fn the_same_face_matches_and_an_orthogonal_one_does_not() {
        let enrolled = face(&[1.0, 0.0, 0.1], Making::MirrorAveraged);
        let template = Template::from_captures(std::slice::from_ref(&enrolled)).unwrap();
        let same = face(&[1.0, 0.05, 0.1], Making::Single);
        let other = face(&[0.0, 1.0, 0.0], Making::Single);
        assert_eq!(matcher().verify(&same, &template), Ok(Strength::MAX));
        assert_eq!(matcher().verify(&other, &template), Ok(Strength::NONE));
        assert_eq!(matcher().verify_nobody(&same), Ok(Strength::NONE));
        let weighed = matcher().weigh(&same, &template).unwrap();
        assert_eq!(weighed.score, matcher().compare(&same, &template).unwrap());
        assert_eq!((weighed.strength, weighed.sface), (Strength::MAX, weighed.dlib));
    }

    #[test]
    fn another_model_s_template_is_incomparable_not_a_mismatch() {
        let enrolled = face(&[1.0, 0.0], Making::MirrorAveraged);
        let template = Template::from_captures(&[enrolled]).unwrap();
        let mut probe = face(&[1.0, 0.0], Making::Single);
        probe.dlib = Embedding::from_raw(ModelId::new([9; 32]), &[1.0, 0.0]).unwrap();
        assert_eq!(matcher().verify(&probe, &template), Err(Incomparable));
    }

    #[test]
    fn a_template_takes_one_to_five_captures_of_one_kind() {
        let capture = || face(&[1.0, 0.0], Making::MirrorAveraged);
        let single = || face(&[1.0, 0.0], Making::Single);
        let made = |captures: &[FaceEmbedding]| {
            Template::from_captures(captures).map(|template| template.calibrated_as())
        };
        assert_eq!(made(&[]), Err(TemplateError::Count));
        assert_eq!(made(&vec![capture(); 6]), Err(TemplateError::Count));
        assert_eq!(made(&vec![capture(); 5]), Ok(CalibratedAs::Template));
        assert_eq!(made(&[capture(), single()]), Err(TemplateError::Mixed));
        assert_eq!(made(&[single()]), Ok(CalibratedAs::Single));
        assert_eq!(made(&[single(), single()]), Ok(CalibratedAs::Template));
        let opposite = face(&[-1.0, 0.0], Making::MirrorAveraged);
        assert_eq!(made(&[capture(), opposite]), Err(TemplateError::Mixed));
    }

    #[test]
    fn captures_of_two_people_do_not_agree() {
        let a = face(&[1.0, 0.0, 0.0], Making::MirrorAveraged);
        let b = face(&[1.0, 0.1, 0.0], Making::MirrorAveraged);
        let stranger = face(&[0.0, 0.0, 1.0], Making::MirrorAveraged);
        assert_eq!(matcher().captures_agree(std::slice::from_ref(&a)), Ok(true));
        assert_eq!(matcher().captures_agree(&[a.clone(), b.clone()]), Ok(true));
        assert_eq!(matcher().captures_agree(&[a, b, stranger]), Ok(false));
    }

    #[test]
    fn the_table_fits_how_the_template_was_made() {
        let score = MatchScore::new(4.0).unwrap();
        assert_eq!(matcher().strength(score, CalibratedAs::Single).db(), 40);
        assert!(matcher().strength(score, CalibratedAs::Template).db() < 40);
    }
}
