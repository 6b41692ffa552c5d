//! Which picture is compared with which.

use rayon::prelude::*;

use super::EvaluateError;
use super::acquire::{Acquired, Gated};
use super::number::{narrow, real};
use super::rates::{Pairing, Trial, Trials};
use crate::domain::embedding::{FaceEmbedding, Incomparable};
use crate::matching::{Matcher, TEMPLATE_CAPTURES_MAX, Template};

/// All cross pairs of single pictures: each with each, once.
#[derive(Debug)]
pub(super) struct Recognition<'a> {
    identities: usize,
    faces: Vec<(u32, &'a FaceEmbedding)>,
}

/// What the gateway's enrolment made of the pictures, and each usable picture as a probe.
#[derive(Debug)]
pub(super) struct Gateway<'a> {
    /// The usable pictures of each identity, in the order of names.
    usable: Vec<Vec<&'a Gated>>,
    /// Each identity's template; `None` when no picture of theirs is usable.
    templates: Vec<Option<Template>>,
    /// Captures that enrolment refused because they did not match those already taken.
    pub(super) captures_refused: usize,
}

/// Mean and deviation of the impostors' similarities, for each model.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct ImpostorMoments {
    pub(super) sface: Moments,
    pub(super) dlib: Moments,
}

/// A mean and a standard deviation.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Moments {
    pub(super) mean: f32,
    pub(super) deviation: f32,
}

impl<'a> Recognition<'a> {
    pub(super) fn new(acquired: &'a [Acquired], identities: usize) -> Self {
        let face = |one: &'a Acquired| Some((one.identity, one.nearest.as_ref().ok()?));
        Self { identities, faces: acquired.iter().filter_map(face).collect() }
    }

    /// Compares every pair. `None` when there is no genuine pair or no impostor pair.
    pub(super) fn trials(&self, matcher: &Matcher) -> Result<Option<Trials>, Incomparable> {
        let pairs = self.compare_each_pair(|a, b| matcher.compare_faces(a, b))?;
        let trials = pairs.into_iter().map(|(probe, reference, score)| Trial {
            score: score.get(),
            probe,
            reference,
        });
        let (genuine, impostor) = trials.partition(|trial| trial.probe == trial.reference);
        let mut pictures = vec![0; self.identities];
        for (identity, _) in &self.faces {
            count(&mut pictures, *identity);
        }
        Ok(Trials::new(genuine, impostor, Pairing::EachWithEach { pictures }))
    }

    /// How the impostors' similarities lie, for the normalisation that fusion needs.
    pub(super) fn impostor_moments(&self) -> Result<ImpostorMoments, Incomparable> {
        let pairs = self.compare_each_pair(|a, b| {
            Ok((a.sface.similarity(&b.sface)?.get(), a.dlib.similarity(&b.dlib)?.get()))
        })?;
        let impostors = || pairs.iter().filter(|(a, b, _)| a != b);
        Ok(ImpostorMoments {
            sface: moments(impostors().map(|(_, _, similarity)| f64::from(similarity.0))),
            dlib: moments(impostors().map(|(_, _, similarity)| f64::from(similarity.1))),
        })
    }

    fn compare_each_pair<T: Send>(
        &self,
        compare: impl Fn(&FaceEmbedding, &FaceEmbedding) -> Result<T, Incomparable> + Sync,
    ) -> Result<Vec<(u32, u32, T)>, Incomparable> {
        let row = |(position, (probe, face)): (usize, &(u32, &FaceEmbedding))| {
            let earlier = self.faces.iter().take(position);
            let pair = |(reference, other): &(u32, &FaceEmbedding)| {
                Ok((*probe, *reference, compare(face, other)?))
            };
            earlier.map(pair).collect::<Result<Vec<_>, Incomparable>>()
        };
        let rows: Vec<_> =
            self.faces.par_iter().enumerate().map(row).collect::<Result<_, Incomparable>>()?;
        Ok(rows.into_iter().flatten().collect())
    }
}

impl<'a> Gateway<'a> {
    /// Enrols everybody from their usable pictures, as enrolment would.
    pub(super) fn new(
        acquired: &'a [Acquired],
        identities: usize,
        matcher: &Matcher,
    ) -> Result<Self, EvaluateError> {
        let mut usable = vec![Vec::new(); identities];
        for one in acquired {
            let of_identity = usize::try_from(one.identity).ok().and_then(|at| usable.get_mut(at));
            if let (Some(list), Ok(gated)) = (of_identity, &one.gated) {
                list.push(gated);
            }
        }
        let mut captures_refused = 0;
        let mut templates = Vec::with_capacity(identities);
        for pictures in &usable {
            let (template, refused) = enrol(pictures.iter().copied(), matcher)?;
            templates.push(template);
            captures_refused += refused;
        }
        Ok(Self { usable, templates, captures_refused })
    }

    /// How many identities have a template.
    pub(super) fn enrolled(&self) -> usize {
        self.templates.iter().flatten().count()
    }

    /// Every usable picture is a probe: against a template of the same identity's other pictures
    /// (when there are any), and against every other identity's template.
    ///
    /// `None` when there is no genuine comparison or no impostor comparison.
    pub(super) fn trials(&self, matcher: &Matcher) -> Result<Option<Trials>, EvaluateError> {
        let compared: Vec<_> = self
            .usable
            .par_iter()
            .enumerate()
            .map(|(identity, pictures)| {
                let genuine = self.genuine(identity, pictures, matcher)?;
                Ok((genuine, self.impostors(identity, pictures, matcher)?))
            })
            .collect::<Result<_, EvaluateError>>()?;
        let (mut genuine, mut impostor) = (Vec::new(), Vec::new());
        for (mut of_genuine, mut of_impostor) in compared {
            genuine.append(&mut of_genuine);
            impostor.append(&mut of_impostor);
        }
        let probes = self.usable.iter().map(|pictures| length(pictures.len())).collect();
        let templates =
            self.templates.iter().map(|template| u64::from(template.is_some())).collect();
        Ok(Trials::new(genuine, impostor, Pairing::ProbeWithTemplate { probes, templates }))
    }

    fn genuine(
        &self,
        identity: usize,
        pictures: &[&Gated],
        matcher: &Matcher,
    ) -> Result<Vec<Trial>, EvaluateError> {
        let mut trials = Vec::new();
        for (position, picture) in pictures.iter().enumerate() {
            let others = pictures.iter().enumerate().filter(|(at, _)| *at != position);
            let (template, _) = enrol(others.map(|(_, other)| *other), matcher)?;
            if let Some(template) = template {
                let score = matcher.compare(&picture.probe, &template)?.get();
                trials.push(Trial {
                    score,
                    probe: position_of(identity),
                    reference: position_of(identity),
                });
            }
        }
        Ok(trials)
    }

    fn impostors(
        &self,
        identity: usize,
        pictures: &[&Gated],
        matcher: &Matcher,
    ) -> Result<Vec<Trial>, EvaluateError> {
        let mut trials = Vec::with_capacity(pictures.len() * self.templates.len());
        for picture in pictures {
            for (other, template) in self.templates.iter().enumerate() {
                let Some(template) = template.as_ref().filter(|_| other != identity) else {
                    continue;
                };
                let score = matcher.compare(&picture.probe, template)?.get();
                let (probe, reference) = (position_of(identity), position_of(other));
                trials.push(Trial { score, probe, reference });
            }
        }
        Ok(trials)
    }
}

/// A template of the first pictures, at most [`TEMPLATE_CAPTURES_MAX`], leaving out each that does
/// not match those before it; and how many were left out for that.
fn enrol<'a>(
    pictures: impl Iterator<Item = &'a Gated>,
    matcher: &Matcher,
) -> Result<(Option<Template>, usize), EvaluateError> {
    let mut captures: Vec<FaceEmbedding> = Vec::with_capacity(TEMPLATE_CAPTURES_MAX);
    let mut refused = 0;
    for picture in pictures {
        if captures.len() == TEMPLATE_CAPTURES_MAX {
            break;
        }
        captures.push(picture.capture.clone());
        if !matcher.captures_agree(&captures)? {
            captures.pop();
            refused += 1;
        }
    }
    if captures.is_empty() {
        return Ok((None, refused));
    }
    Ok((Some(Template::from_captures(&captures)?), refused))
}

fn moments(values: impl Iterator<Item = f64> + Clone) -> Moments {
    let (mut sum, mut total) = (0.0, 0u64);
    for value in values.clone() {
        sum += value;
        total += 1;
    }
    let total = real(total.max(1));
    let mean = sum / total;
    let variance = values.map(|value| (value - mean).powi(2)).sum::<f64>() / total;
    Moments { mean: narrow(mean), deviation: narrow(variance.sqrt()) }
}

fn count(counts: &mut [u64], identity: u32) {
    if let Some(count) = usize::try_from(identity).ok().and_then(|at| counts.get_mut(at)) {
        *count += 1;
    }
}

fn position_of(identity: usize) -> u32 {
    // A data set has at most 12,000 pictures.
    u32::try_from(identity).unwrap_or(u32::MAX)
}

fn length(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::embedding::{Embedding, Making, ModelId};
    use crate::domain::score::{Calibration, Fusion, FusionTerm, MatchingParameters, Strength};

    /// 100 · the mean of both cosines; captures agree from a score of 50.
    pub(in crate::evaluate) fn matcher() -> Matcher {
        let table = || Calibration::new(vec![(0.0, 0.0), (60.0, 60.0)]).unwrap();
        Matcher::new(MatchingParameters {
            fusion: Fusion {
                sface: FusionTerm::new(0.5, 0.0, 0.01).unwrap(),
                dlib: FusionTerm::new(0.5, 0.0, 0.01).unwrap(),
            },
            single: table(),
            template: table(),
            search_strength_min: Strength::from_db(50),
            captures_agree_strength_min: Strength::from_db(50),
            likelihood: None,
        })
    }

    fn face(degrees: f32, making: Making) -> FaceEmbedding {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let embedding = |byte| Embedding::from_raw(ModelId::new([byte; 32]), &[cos, sin]).unwrap();
        FaceEmbedding { sface: embedding(1), dlib: embedding(2), making }
    }

    /// A picture whose embedding points in a direction.
    pub(in crate::evaluate) fn picture(identity: u32, degrees: f32) -> Acquired {
        Acquired {
            identity,
            nearest: Ok(face(degrees, Making::Single)),
            gated: Ok(Gated {
                probe: face(degrees, Making::Single),
                capture: face(degrees, Making::MirrorAveraged),
            }),
        }
    }

    /// A picture with a second face: recognised, but refused at the gate.
    pub(in crate::evaluate) fn refused(identity: u32, degrees: f32) -> Acquired {
        Acquired { gated: Err("CAP_MULTIPLE_FACES"), ..picture(identity, degrees) }
    }

    #[test]
    fn recognition_compares_each_picture_with_each_once() {
        let acquired = [picture(0, 0.0), refused(0, 5.0), picture(1, 60.0), picture(2, 90.0)];
        let recognition = Recognition::new(&acquired, 3);
        let trials = recognition.trials(&matcher()).unwrap().unwrap();
        assert_eq!((trials.genuine(), trials.impostor()), (1, 5));
        assert_eq!(trials.identities(), 3);
        let unreadable = Acquired { nearest: Err("CAP_UNREADABLE"), ..picture(0, 5.0) };
        let without = [picture(0, 0.0), unreadable, picture(1, 60.0)];
        assert!(Recognition::new(&without, 2).trials(&matcher()).unwrap().is_none());
    }

    #[test]
    fn the_moments_are_those_of_impostors_only() {
        // Cosines of impostors: 90 degrees apart (0) and 60 (0.5), each twice; genuine: 1.
        let acquired = [
            picture(0, 0.0),
            picture(0, 0.0),
            picture(1, 90.0),
            picture(2, 60.0),
            picture(1, 90.0),
        ];
        let moments = Recognition::new(&acquired, 3).impostor_moments().unwrap().sface;
        let cosines: [f32; 8] = [0.0, 0.0, 0.0, 0.0, 0.5, 0.5, 0.866_025_4, 0.866_025_4];
        let mean = cosines.iter().sum::<f32>() / 8.0;
        let variance = cosines.iter().map(|cosine| (cosine - mean).powi(2)).sum::<f32>() / 8.0;
        assert!((moments.mean - mean).abs() < 1e-6, "{moments:?}");
        assert!((moments.deviation - variance.sqrt()).abs() < 1e-6, "{moments:?}");
    }

    #[test]
    fn the_gateway_compares_probes_with_templates_of_other_pictures() {
        let acquired = [
            picture(0, 0.0),
            picture(0, 10.0),
            refused(0, 5.0),
            picture(1, 90.0),
            refused(2, 180.0),
        ];
        let gateway = Gateway::new(&acquired, 3, &matcher()).unwrap();
        assert_eq!(gateway.enrolled(), 2);
        let trials = gateway.trials(&matcher()).unwrap().unwrap();
        // Two probes of identity 0 against one another's template, and against identity 1's; and
        // identity 1's probe against identity 0's template.
        assert_eq!((trials.genuine(), trials.impostor()), (2, 3));
        let target = "0.5".parse().unwrap();
        let threshold = trials.estimate(&[target]).points[0].threshold;
        // Identity 0's template points at 5 degrees: its impostor is 85 away, the probes 90 and 80.
        assert!((threshold - 100.0 * 85f32.to_radians().cos()).abs() < 1e-2, "{threshold}");
    }

    #[test]
    fn enrolment_leaves_out_a_capture_that_does_not_match_and_stops_at_five() {
        let odd_one = picture(0, 80.0);
        let pictures: Vec<_> = (0..7u8).map(|at| picture(0, f32::from(at))).collect();
        let gated = |one: &Acquired| one.gated.clone().unwrap();
        let mut list: Vec<Gated> = pictures.iter().map(gated).collect();
        list.insert(1, gated(&odd_one));
        let (template, refused) = enrol(list.iter(), &matcher()).unwrap();
        assert_eq!(refused, 1);
        // Directions 0, 1, 2, 3, 4: their mean is 2.
        let towards = |degrees| {
            matcher().compare(&face(degrees, Making::Single), template.as_ref().unwrap()).unwrap()
        };
        assert!((towards(2.0).get() - 100.0).abs() < 1e-3);
        assert!(towards(3.0).get() < 99.99);
    }
}
