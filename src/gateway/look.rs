//! What captures show, compared with what is enrolled of the person who should stand there.
//!
//! One capture of each characteristic that `BeginCapture` fixed. What they tell adds up; one that cannot be
//! used refuses them all, since the person can mend it.

use std::collections::BTreeMap;

use super::Gateway;
use super::customer::{Enrolled, Templates};
use super::error::GatewayError;
use super::guest::GuestIs;
use super::kept_captures::ComparedWith;
use super::request::{BeginCapture, Capture, SentCapture};
use super::session::Session;
use super::templates::IMPRESSIONS_MIN;
use super::verification_job::Seen;
use super::vision::Faces;
use crate::capture::{DecodedImage, GreyImage};
use crate::crypto::Digest;
use crate::domain::embedding::FaceEmbedding;
use crate::domain::finger::FingerPosition;
use crate::domain::finger_quality::FingerQualityReport;
use crate::domain::id::{CustomerId, TerminalId};
use crate::domain::liveness::LivenessScore;
use crate::domain::modality::{Captured, Modality};
use crate::domain::quality::QualityReport;
use crate::face::{Acquisition, Probe, Refusal};
use crate::fingerprint::{FingerAcquisition, FingerProbe, FingerprintPipeline};
use crate::matching::{
    FingerMatcher, FingerTemplate, LogLikelihoodRatio, Matcher, PreparedView, Scratch, Strength,
    Template, Weighed, WeighedFace,
};
use crate::policy::{CustomerStanding, PolicyPack};
use crate::vault::CustomerKeys;

/// What the captures came to, and of whom.
pub(super) struct Looked {
    pub seen: Seen,
    pub standing: CustomerStanding,
    /// The pseudonym for the receipt; none for nobody.
    pub subject: Option<String>,
    pub keys: Option<CustomerKeys>,
    pub guest: Option<GuestIs>,
    /// The face, where it could be compared and might be.
    pub face: Option<FaceEmbedding>,
    /// What it was compared with; none where it was with nobody.
    pub compared_with: Option<ComparedWith>,
}

/// What a comparison tells: alone, and beside others.
type Weight = (Strength, Option<LogLikelihoodRatio>);

/// What one capture came to.
struct Part {
    seen: Seen,
    /// What the comparison tells, where there was something to compare with.
    weight: Option<Weight>,
    /// The numbers behind it, by their names.
    scores: BTreeMap<String, String>,
    face: Option<FaceEmbedding>,
}

impl Gateway {
    /// Refuses to begin with what this gateway has no models for.
    pub(super) fn check_offered(&self, request: &BeginCapture) -> Result<(), GatewayError> {
        let invalid = |problem| Err(GatewayError::Invalid { field: "modality", problem });
        let is_finger = |modality: &Modality| matches!(modality, Modality::Finger(_));
        if request.modalities.iter().any(is_finger) && self.vision.fingers().is_none() {
            return invalid("fingers are not offered by this gateway");
        }
        let is_mixed = Captured::of(&request.modalities) == Captured::FaceAndFinger;
        if is_mixed && self.matcher.parameters().likelihood.is_none() {
            return invalid("faces beside fingers are not offered by this gateway");
        }
        if request.guest_consent.is_some() && request.modalities != [Modality::Face] {
            return invalid("a guest is known by the face alone");
        }
        Ok(())
    }

    /// Compares fingers.
    pub(super) fn finger_matcher(&self) -> Result<&FingerMatcher, GatewayError> {
        self.finger_matcher.as_ref().ok_or(GatewayError::broken("no model for fingers"))
    }

    /// The models that look at these characteristics: what a receipt names.
    pub(super) fn models_of(&self, modalities: &[Modality]) -> Vec<Digest> {
        let mut models = Vec::new();
        if modalities.contains(&Modality::Face) {
            models.extend(self.vision.faces().embedding_models());
        }
        if modalities.iter().any(|modality| *modality != Modality::Face) {
            models.extend(self.vision.fingers().map(FingerprintPipeline::model));
        }
        models.iter().map(|id| Digest::new(*id.as_bytes())).collect()
    }

    /// All models whose templates can be compared here.
    pub(super) fn models_here(&self) -> Vec<Digest> {
        let of_fingers = self.vision.fingers().map(FingerprintPipeline::model);
        let models = self.vision.faces().embedding_models().into_iter().chain(of_fingers);
        models.map(|id| Digest::new(*id.as_bytes())).collect()
    }

    /// Looks whether the person stands there who is named, or which guest, and whom else they look like.
    pub(super) async fn look_at(
        &self,
        session: &Session,
        pack: &PolicyPack,
        may_compare: bool,
        terminal: &TerminalId,
        captures: Vec<Capture>,
    ) -> Result<Looked, GatewayError> {
        let customer = session.customer()?;
        let captures = session.modalities()?.into_iter().zip(captures).collect::<Vec<_>>();
        let looked = if let (Some(kept), [(Modality::Face, face)]) =
            (session.guest.clone(), captures.as_slice())
        {
            self.look_for_guest(kept, may_compare, terminal, face.clone()).await
        } else {
            let required_db = pack.bars().required_db;
            self.look_at_customer(customer, may_compare, required_db, captures).await
        };
        self.look_for_others(looked?, customer, pack).await
    }

    async fn look_at_customer(
        &self,
        customer: Option<CustomerId>,
        may_compare: bool,
        required_db: i64,
        captures: Vec<(Modality, Capture)>,
    ) -> Result<Looked, GatewayError> {
        let asked = captures.iter().map(|(modality, _)| *modality).collect::<Vec<_>>();
        let enrolled = self.enrolled(customer.as_ref(), &asked).await?;
        let Enrolled { standing, subject, keys, mut templates, captures: of_template } = enrolled;
        let earlier = self.earlier_prints(customer.as_ref(), keys.as_ref(), &asked).await?;
        // What is announced is what rules and the receipt tell: all of it must have been compared.
        let is_enrolled = captures.iter().all(|(modality, _)| templates.has(*modality));
        let standing = match standing {
            CustomerStanding::Active if !is_enrolled => CustomerStanding::NotEnrolled,
            standing => standing,
        };
        if !may_compare {
            templates = Templates::default();
        }
        let compared_with = customer.filter(|_| may_compare && !of_template.is_empty());
        let compared_with =
            compared_with.map(|customer| ComparedWith { customer, captures: of_template });
        let (mut seen, face) = self.look_beside(captures, templates, required_db).await?;
        seen.compared_with_earlier(&earlier);
        let face = face.filter(|_| may_compare);
        Ok(Looked { seen, standing, subject, keys, guest: None, face, compared_with })
    }

    /// Looks at captures beside what is enrolled of the same characteristics; and the face, if it alone is
    /// strong enough to be the person's.
    pub(super) async fn look_beside(
        &self,
        captures: Vec<(Modality, Capture)>,
        mut templates: Templates,
        required_db: i64,
    ) -> Result<(Seen, Option<FaceEmbedding>), GatewayError> {
        let mut parts = Vec::with_capacity(captures.len());
        for (modality, capture) in captures {
            parts.push(match modality {
                Modality::Face => self.look_at_face(capture, templates.face.take()).await?,
                Modality::Finger(position) => {
                    let template = templates.fingers.remove(&position);
                    self.look_at_finger(position, capture, template).await?
                }
            });
        }
        together(parts, required_db)
    }

    async fn look_at_face(
        &self,
        capture: Capture,
        template: Option<Template>,
    ) -> Result<Part, GatewayError> {
        let matcher = self.matcher.clone();
        let looked = self.vision.look_at_face(capture, move |faces, picture| {
            compare_face(faces, &matcher, picture, template.as_ref())
        });
        looked.await
    }

    async fn look_at_finger(
        &self,
        position: FingerPosition,
        capture: Capture,
        template: Option<FingerTemplate>,
    ) -> Result<Part, GatewayError> {
        let matcher = self.finger_matcher()?.clone();
        let looked = self.vision.look_at_finger(capture, move |pipeline, picture| {
            compare_finger(pipeline, &matcher, picture, position, template.as_ref())
        });
        looked.await
    }
}

/// Whether there is one capture of each characteristic, declared as such a one may be.
pub(super) fn check_captures(
    modalities: &[Modality],
    captures: &[SentCapture],
) -> Result<(), GatewayError> {
    if modalities.len() != captures.len() {
        return Err(GatewayError::Invalid {
            field: "further",
            problem: "there must be one capture of each characteristic of BeginCapture",
        });
    }
    for (modality, capture) in modalities.iter().zip(captures) {
        let invalid = |problem| Err(GatewayError::Invalid { field: "capture", problem });
        match modality {
            Modality::Face if !capture.declared.suits_a_face() => {
                return invalid("a face comes as JPEG or PNG, without a resolution");
            }
            Modality::Finger(_) if !capture.declared.suits_a_finger() => {
                return invalid("a finger does not come as JPEG");
            }
            _ => {}
        }
    }
    Ok(())
}

fn compare_face(
    faces: &Faces,
    matcher: &Matcher,
    picture: &DecodedImage,
    template: Option<&Template>,
) -> Result<Part, GatewayError> {
    match faces.probe(picture)? {
        Acquisition::Refused(refusal) => Ok(Part::refused(refused_face(&refusal))),
        Acquisition::Usable(Probe { embedding, quality, liveness, print }) => {
            let incomparable = |cause| GatewayError::internal("comparison", cause);
            let weighed = if let Some(template) = template {
                Some(matcher.weigh(&embedding, template).map_err(incomparable)?)
            } else {
                matcher.verify_nobody(&embedding).map_err(incomparable)?;
                None
            };
            let scores = weighed.map(|weighed| face_scores(&weighed, liveness));
            let weight = weighed.map(|WeighedFace { strength, ratio, .. }| (strength, ratio));
            let mut seen = Seen::usable(liveness, face_measures(&quality));
            seen.print = Some(print);
            let scores = scores.unwrap_or_default();
            Ok(Part { seen, weight, scores, face: Some(embedding) })
        }
    }
}

fn compare_finger(
    pipeline: &FingerprintPipeline,
    matcher: &FingerMatcher,
    picture: &GreyImage,
    position: FingerPosition,
    template: Option<&FingerTemplate>,
) -> Result<Part, GatewayError> {
    let acquired = pipeline.probe(picture);
    match acquired.map_err(|cause| GatewayError::internal("finger pipeline", cause))? {
        FingerAcquisition::Refused(refusal) => {
            let quality = finger_measures(position, &refusal.quality);
            Ok(Part::refused(Seen::refused(refusal.cause.code(), Some(quality))))
        }
        FingerAcquisition::Usable(FingerProbe { view, quality }) => {
            let incomparable = |cause| GatewayError::internal("comparison", cause);
            let (probe, mut scratch) = (PreparedView::new(&view), Scratch::default());
            let weighed = if let Some(template) = template {
                matcher.weigh(&probe, template, &mut scratch).map(Some)
            } else {
                matcher.verify_nobody(&probe, IMPRESSIONS_MIN, &mut scratch).map(|_| None)
            };
            let weighed = weighed.map_err(incomparable)?;
            let scores = weighed.map(|weighed| finger_scores(position, &weighed));
            let weight = weighed.map(|weighed| (weighed.strength, Some(weighed.ratio)));
            let seen = Seen::usable(None, finger_measures(position, &quality));
            Ok(Part { seen, weight, scores: scores.unwrap_or_default(), face: None })
        }
    }
}

/// The numbers behind a face's comparison.
pub(super) fn face_scores(
    weighed: &WeighedFace,
    liveness: Option<LivenessScore>,
) -> BTreeMap<String, String> {
    let WeighedFace { sface, dlib, score, strength: _, ratio } = weighed;
    let numbers = [
        ("sface", Some(sface.get())),
        ("dlib", Some(dlib.get())),
        ("score", Some(score.get())),
        ("ratio", ratio.map(LogLikelihoodRatio::nats)),
        ("liveness", liveness.map(LivenessScore::get)),
    ];
    scores(Modality::Face, numbers)
}

/// The numbers behind a finger's comparison.
fn finger_scores(position: FingerPosition, weighed: &Weighed) -> BTreeMap<String, String> {
    let Weighed { score, strength: _, ratio } = weighed;
    scores(
        Modality::Finger(position),
        [("score", Some(score.get())), ("ratio", Some(ratio.nats()))],
    )
}

/// Numbers by the characteristic and their names, each as the shortest decimal that is read back as the same float.
fn scores<const COUNT: usize>(
    modality: Modality,
    numbers: [(&str, Option<f32>); COUNT],
) -> BTreeMap<String, String> {
    let known = numbers.into_iter().filter_map(|(name, number)| Some((name, number?)));
    let named = known.map(|(name, number)| {
        (format!("{}.{name}", modality.characteristic()), number.to_string())
    });
    named.collect()
}

/// What a picture without a usable face came to.
pub(super) fn refused_face(refusal: &Refusal) -> Seen {
    Seen::refused(refusal.cause.code(), refusal.quality.as_ref().map(face_measures))
}

/// A face's measures by their names.
pub(super) fn face_measures(report: &QualityReport) -> BTreeMap<String, String> {
    let measures = report.measures().iter();
    measures.map(|m| (m.component.as_str().to_owned(), format!("{:.3}", m.value))).collect()
}

/// A finger's measures by their names, which tell the fingers apart.
fn finger_measures(
    position: FingerPosition,
    report: &FingerQualityReport,
) -> BTreeMap<String, String> {
    let name = |component: &str| format!("{}.{component}", position.as_str());
    let measures = report.measures().iter();
    measures.map(|m| (name(m.component.as_str()), format!("{:.3}", m.value))).collect()
}

impl Part {
    const fn refused(seen: Seen) -> Self {
        Self { seen, weight: None, scores: BTreeMap::new(), face: None }
    }
}

/// What all captures tell together; and the face, if it alone is strong enough to be the person's.
fn together(
    parts: Vec<Part>,
    required_db: i64,
) -> Result<(Seen, Option<FaceEmbedding>), GatewayError> {
    let mut seen = Seen::nothing();
    let mut weights = Vec::with_capacity(parts.len());
    let mut scores = BTreeMap::new();
    let mut face = None;
    for Part { seen: of_part, weight, scores: of_this, face: of_face } in parts {
        seen.join(of_part);
        scores.extend(of_this);
        let is_theirs = weight.is_some_and(|(strength, _)| strength.db() >= required_db);
        face = face.or(of_face.filter(|_| is_theirs));
        weights.push(weight);
    }
    // One capture that cannot be used is to be made again: nothing is told about the others.
    if seen.is_usable() {
        seen.matched(strength_of(&weights)?, scores);
    }
    Ok((seen, face))
}

/// One characteristic by its own table; several by their likelihoods, which add up, for and against. None where
/// anything was compared with nobody: half of what was announced proves nothing of the whole.
fn strength_of(weights: &[Option<Weight>]) -> Result<Option<Strength>, GatewayError> {
    let Some(weights) = weights.iter().copied().collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    match weights.as_slice() {
        [] => Ok(None),
        [(strength, _)] => Ok(Some(*strength)),
        several => {
            let ratios = several.iter().map(|(_, ratio)| *ratio).collect::<Option<Vec<_>>>();
            let ratios = ratios.ok_or(GatewayError::broken("a face has no likelihood"))?;
            Ok(Some(ratios.into_iter().sum::<LogLikelihoodRatio>().strength()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(db: u8, nats: f32) -> Weight {
        (Strength::from_db(db), Some(LogLikelihoodRatio::new(nats).unwrap()))
    }

    #[test]
    fn a_score_is_read_back_as_the_same_float() {
        for number in [0.1f32, -0.0, 1.0 / 3.0, f32::MIN_POSITIVE, 7.123_456_5, -1e-8, f32::MAX] {
            let told = scores(Modality::Face, [("score", Some(number)), ("ratio", None)]);
            let [(name, text)] = Vec::from_iter(told).try_into().unwrap();
            assert_eq!(name, "face.score");
            assert_eq!(text.parse::<f32>().unwrap().to_bits(), number.to_bits(), "{text}");
        }
    }

    #[test]
    fn half_of_what_was_announced_proves_nothing() {
        let of = |weights: &[Option<Weight>]| strength_of(weights).unwrap().map(Strength::db);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[Some(weight(32, 8.0))]), Some(32));
        assert_eq!(of(&[None, Some(weight(60, 13.0))]), None);
        assert_eq!(of(&[Some(weight(60, 13.0)), None]), None);
        assert_eq!(of(&[Some(weight(32, 8.0)), Some(weight(32, 8.0))]), Some(60));
        assert_eq!(of(&[Some(weight(32, 8.0)), Some(weight(0, -8.0))]), Some(0));
        assert!(strength_of(&[Some(weight(32, 8.0)), Some((Strength::MAX, None))]).is_err());
    }
}
