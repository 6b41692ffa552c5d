//! Fingers: the template of one, and the matcher that says how strong a match is.

use crate::domain::embedding::{Incomparable, ModelId};
use crate::domain::finger::FingerView;
use crate::domain::likelihood::LogLikelihoodRatio;
use crate::domain::score::{FingerMatchingParameters, MatchScore, Strength};

use super::minutiae::{PreparedView, Scratch, likeness};

/// Most impressions that one finger's template holds.
pub const FINGER_IMPRESSIONS_MAX: usize = 5;

/// What a finger is compared with: one to five impressions of it, found by one model.
#[derive(Clone, Debug)]
pub struct FingerTemplate {
    views: Vec<PreparedView>,
}

/// What a comparison says.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Weighed {
    /// The best score among the template's impressions.
    pub score: MatchScore,
    /// How strong it is, alone.
    pub strength: Strength,
    /// What it adds to other fingers and to the face: the strength of all together is that of their sum.
    pub ratio: LogLikelihoodRatio,
}

/// Impressions that make no template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FingerTemplateError {
    /// None, or more than [`FINGER_IMPRESSIONS_MAX`].
    #[error("a finger's template is made of one to five impressions")]
    Count,
    /// Impressions whose minutiae different models found.
    #[error("the impressions are of different models")]
    Mixed,
}

impl FingerTemplateError {
    /// The stable word for logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Count => "REQ_INVALID",
            Self::Mixed => "SYS_INTERNAL",
        }
    }
}

impl FingerTemplate {
    /// The template of one to five impressions of one finger.
    ///
    /// # Errors
    ///
    /// [`FingerTemplateError`] for none or too many, and for impressions of different models.
    pub fn from_views(views: &[FingerView]) -> Result<Self, FingerTemplateError> {
        let model = views.first().ok_or(FingerTemplateError::Count)?.model();
        if views.len() > FINGER_IMPRESSIONS_MAX {
            return Err(FingerTemplateError::Count);
        }
        if views.iter().any(|view| view.model() != model) {
            return Err(FingerTemplateError::Mixed);
        }
        Ok(Self { views: views.iter().map(PreparedView::new).collect() })
    }

    /// The impressions.
    #[must_use]
    pub fn views(&self) -> &[PreparedView] {
        &self.views
    }

    /// The model that found the minutiae.
    #[must_use]
    pub fn model(&self) -> Option<ModelId> {
        self.views.first().map(PreparedView::model)
    }
}

/// Compares fingers of one model, and says how strong a match is.
#[derive(Clone, Debug)]
pub struct FingerMatcher {
    parameters: FingerMatchingParameters,
}

impl FingerMatcher {
    /// A matcher with the frozen parameters of one model's minutiae.
    #[must_use]
    pub const fn new(parameters: FingerMatchingParameters) -> Self {
        Self { parameters }
    }

    /// The frozen parameters.
    #[must_use]
    pub const fn parameters(&self) -> &FingerMatchingParameters {
        &self.parameters
    }

    /// The score of one impression against another, whichever comes first.
    ///
    /// # Errors
    ///
    /// [`Incomparable`] when different models found the minutiae.
    pub fn compare_views(
        &self,
        one: &PreparedView,
        other: &PreparedView,
        scratch: &mut Scratch,
    ) -> Result<MatchScore, Incomparable> {
        if one.model() != other.model() {
            return Err(Incomparable);
        }
        MatchScore::new(likeness(one, other, scratch)).map_err(|_| Incomparable)
    }

    /// Whether prints of the model itself can be compared with templates of this one of another system.
    #[must_use]
    pub fn is_calibrated_for(&self, foreign: ModelId) -> bool {
        self.parameters.foreign.contains_key(&foreign)
    }

    /// How strong a score is that is the best of so many comparisons of two impressions.
    #[must_use]
    pub fn strength(&self, score: MatchScore, comparisons: usize) -> Strength {
        self.parameters.own.calibration.strength(score).of_best_of(comparisons)
    }

    /// Compares a probe with each impression of a template, and reads what that says.
    ///
    /// # Errors
    ///
    /// [`Incomparable`] when different models found the minutiae, and there is no table for it.
    pub fn weigh(
        &self,
        probe: &PreparedView,
        template: &FingerTemplate,
        scratch: &mut Scratch,
    ) -> Result<Weighed, Incomparable> {
        let model = template.model().ok_or(Incomparable)?;
        let table = match self.parameters.foreign.get(&model) {
            Some(foreign) => foreign,
            None if probe.model() == model => &self.parameters.own,
            None => return Err(Incomparable),
        };
        let mut score = MatchScore::new(0.0).map_err(|_| Incomparable)?;
        let mut ratios = Vec::with_capacity(template.views.len());
        for view in &template.views {
            let one = MatchScore::new(likeness(probe, view, scratch)).map_err(|_| Incomparable)?;
            ratios.push(table.likelihood.ratio(one));
            score = if one > score { one } else { score };
        }
        let strength = table.calibration.strength(score).of_best_of(template.views.len());
        Ok(Weighed { score, strength, ratio: LogLikelihoodRatio::mean(&ratios) })
    }

    /// Compares, and reads the strength.
    ///
    /// # Errors
    ///
    /// [`Incomparable`] when different models found the minutiae.
    pub fn verify(
        &self,
        probe: &PreparedView,
        template: &FingerTemplate,
        scratch: &mut Scratch,
    ) -> Result<Strength, Incomparable> {
        self.weigh(probe, template, scratch).map(|weighed| weighed.strength)
    }

    /// As much work as [`Self::verify`] of a stranger against `impressions` enrolled ones, for a
    /// customer who has none, so that the time taken does not tell who is enrolled. Always no strength.
    ///
    /// The probe's own image in a mirror stands for the template: as many minutiae, of nobody.
    ///
    /// # Errors
    ///
    /// Never in practice: a probe is comparable with its image.
    pub fn verify_nobody(
        &self,
        probe: &PreparedView,
        impressions: usize,
        scratch: &mut Scratch,
    ) -> Result<Strength, Incomparable> {
        // Prepared anew each time, as a stored template is when it has been opened.
        let count = impressions.clamp(1, FINGER_IMPRESSIONS_MAX);
        let views = (0..count).map(|_| probe.mirrored()).collect();
        let template = FingerTemplate { views };
        std::hint::black_box(self.verify(probe, &template, scratch)?);
        Ok(Strength::NONE)
    }

    /// The weakest strength between any two of the impressions; [`Strength::MAX`] for fewer than two.
    ///
    /// # Errors
    ///
    /// [`Incomparable`] when different models found the minutiae.
    pub fn weakest_agreement(
        &self,
        captures: &[PreparedView],
        scratch: &mut Scratch,
    ) -> Result<Strength, Incomparable> {
        let mut weakest = Strength::MAX;
        for (position, a) in captures.iter().enumerate() {
            for b in captures.iter().skip(position + 1) {
                let score = self.compare_views(a, b, scratch)?;
                weakest = weakest.min(self.strength(score, 1));
            }
        }
        Ok(weakest)
    }

    /// Whether the impressions of one enrolment show one finger, by the frozen bar.
    ///
    /// # Errors
    ///
    /// [`Incomparable`] when different models found the minutiae.
    pub fn captures_agree(
        &self,
        captures: &[PreparedView],
        scratch: &mut Scratch,
    ) -> Result<bool, Incomparable> {
        let bar = self.parameters.captures_agree_strength_min;
        Ok(self.weakest_agreement(captures, scratch)? >= bar)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::finger::{Minutia, MinutiaKind};
    use crate::domain::likelihood::LikelihoodMap;
    use crate::domain::score::{Calibration, FingerTable};
    use crate::matching::synthetic::{SyntheticFinger, Wear};

    pub(in crate::matching) fn matcher() -> FingerMatcher {
        let own = FingerTable {
            calibration: Calibration::new(vec![(0.15, 10.0), (0.6, 50.0)]).unwrap(),
            likelihood: LikelihoodMap::new(vec![(0.0, -4.0), (0.3, 7.0)]).unwrap(),
        };
        FingerMatcher::new(FingerMatchingParameters {
            own,
            foreign: BTreeMap::new(),
            search_score_min: MatchScore::new(0.5).unwrap(),
            captures_agree_strength_min: Strength::from_db(30),
        })
    }

    /// Impressions of the finger with this seed.
    pub(in crate::matching) fn views(
        finger: u64,
        numbers: std::ops::Range<u64>,
    ) -> Vec<FingerView> {
        let finger = SyntheticFinger::new(finger, 40);
        numbers.map(|number| finger.impression(number, Wear::ORDINARY)).collect()
    }

    fn prepared(finger: u64, number: u64) -> PreparedView {
        PreparedView::new(&views(finger, number..number + 1)[0])
    }

    fn template(finger: u64, impressions: std::ops::Range<u64>) -> FingerTemplate {
        FingerTemplate::from_views(&views(finger, impressions)).unwrap()
    }

    fn of_another_model() -> PreparedView {
        let minutia = Minutia::new(1.0, 1.0, 1.0, MinutiaKind::Ending, 1.0).unwrap();
        PreparedView::new(&FingerView::new(ModelId::new([9; 32]), vec![minutia]))
    }

    #[test]
    fn a_finger_matches_itself_and_nobody_else() {
        let scratch = &mut Scratch::default();
        let enrolled = template(1, 0..3);
        // The best of three: 4.8 dB less than one would say.
        assert_eq!(matcher().verify(&prepared(1, 7), &enrolled, scratch).unwrap().tenths(), 452);
        assert_eq!(matcher().verify(&prepared(2, 7), &enrolled, scratch), Ok(Strength::NONE));
        assert_eq!(matcher().verify_nobody(&prepared(1, 7), 3, scratch), Ok(Strength::NONE));
    }

    #[test]
    fn the_best_impression_counts() {
        let scratch = &mut Scratch::default();
        let probe = prepared(1, 7);
        let alone = |number| matcher().weigh(&probe, &template(1, number..number + 1), scratch);
        let best = (0..3).map(alone).map(|it| it.unwrap().score.get()).fold(0.0, f32::max);
        let together = matcher().weigh(&probe, &template(1, 0..3), &mut Scratch::default());
        assert_eq!(together.unwrap().score.get().to_bits(), best.to_bits());
    }

    #[test]
    fn another_model_s_finger_is_incomparable_not_a_mismatch() {
        let scratch = &mut Scratch::default();
        let foreign = of_another_model();
        assert_eq!(matcher().verify(&foreign, &template(1, 0..1), scratch), Err(Incomparable));
        let captures = [prepared(1, 0), foreign];
        assert_eq!(matcher().weakest_agreement(&captures, scratch), Err(Incomparable));
    }

    #[test]
    fn a_template_takes_one_to_five_impressions_of_one_model() {
        let made = |views: &[FingerView]| {
            FingerTemplate::from_views(views).map(|template| template.views().len())
        };
        assert_eq!(made(&[]).unwrap_err(), FingerTemplateError::Count);
        assert_eq!(made(&views(1, 0..6)).unwrap_err(), FingerTemplateError::Count);
        assert_eq!(made(&views(1, 0..1)), Ok(1));
        assert_eq!(made(&views(1, 0..5)), Ok(5));
        let foreign = FingerView::new(ModelId::new([9; 32]), Vec::new());
        let mixed = [views(1, 0..1), vec![foreign]].concat();
        assert_eq!(made(&mixed).unwrap_err(), FingerTemplateError::Mixed);
    }

    #[test]
    fn impressions_of_two_fingers_do_not_agree() {
        let scratch = &mut Scratch::default();
        let (a, b, stranger) = (prepared(1, 0), prepared(1, 1), prepared(2, 2));
        assert_eq!(matcher().captures_agree(std::slice::from_ref(&a), scratch), Ok(true));
        assert_eq!(matcher().captures_agree(&[a.clone(), b.clone()], scratch), Ok(true));
        assert_eq!(matcher().captures_agree(&[a, b, stranger], scratch), Ok(false));
    }

    #[test]
    fn two_fingers_are_stronger_than_one() {
        let scratch = &mut Scratch::default();
        let one = matcher().weigh(&prepared(1, 7), &template(1, 0..3), scratch).unwrap().ratio;
        let two: LogLikelihoodRatio = [one, one].into_iter().sum();
        assert!(two.strength() > one.strength());
        let stranger = matcher().weigh(&prepared(2, 7), &template(1, 0..3), scratch).unwrap().ratio;
        let mixed: LogLikelihoodRatio = [one, stranger].into_iter().sum();
        assert!(mixed.strength() < one.strength());
    }

    #[test]
    fn the_more_impressions_are_enrolled_the_less_one_score_says() {
        let score = MatchScore::new(0.3).unwrap();
        assert!(matcher().strength(score, 3) < matcher().strength(score, 1));
    }

    #[test]
    fn a_template_of_another_system_is_compared_where_there_is_a_table_for_it() {
        let scratch = &mut Scratch::default();
        let foreign = ModelId::new([9; 32]);
        let as_foreign = |view: &FingerView| FingerView::new(foreign, view.minutiae().to_vec());
        let enrolled: Vec<_> = views(1, 0..2).iter().map(as_foreign).collect();
        let enrolled = FingerTemplate::from_views(&enrolled).unwrap();
        let probe = prepared(1, 7);
        assert_eq!(matcher().weigh(&probe, &enrolled, scratch), Err(Incomparable));
        let mut parameters = matcher().parameters().clone();
        parameters.foreign.insert(foreign, parameters.own.clone());
        let calibrated = FingerMatcher::new(parameters);
        assert!(calibrated.is_calibrated_for(foreign) && !matcher().is_calibrated_for(foreign));
        let own = matcher().weigh(&probe, &template(1, 0..2), scratch).unwrap();
        assert_eq!(calibrated.weigh(&probe, &enrolled, scratch), Ok(own));
    }
}
