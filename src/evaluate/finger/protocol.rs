//! Which print is compared with which. Prints of different folders never are: another sensor makes another
//! picture, and an impostor of another sensor is an easy one.

use rayon::prelude::*;

use super::super::EvaluateError;
use super::super::rates::{Pairing, Trial, Trials};
use crate::domain::embedding::Incomparable;
use crate::domain::finger::FingerView;
use crate::matching::{FingerMatcher, FingerTemplate, PreparedView, Scratch};

/// The views of one set: whose, and what was found.
pub(super) struct SetViews {
    /// Finger (among all) and view, a finger after the other.
    pub(super) views: Vec<(u32, FingerView)>,
}

/// All comparisons of views, each with each of its set, once.
pub(super) struct Compared {
    /// Two views of one finger.
    genuine: Vec<Trial>,
    /// Views of two fingers, and whether both are the first of theirs.
    impostor: Vec<(Trial, bool)>,
    /// How many views of each finger there are, set by set.
    counts: Vec<Vec<u64>>,
}

impl Compared {
    /// Compares each view with each.
    pub(super) fn new(
        sets: &[SetViews],
        fingers: usize,
        matcher: &FingerMatcher,
    ) -> Result<Self, Incomparable> {
        let (mut genuine, mut impostor, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for SetViews { views } in sets {
            let templates = views
                .iter()
                .map(|(_, view)| FingerTemplate::from_views(std::slice::from_ref(view)))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|_| Incomparable)?;
            let is_first = first_of_each(views);
            let rows = (0..views.len()).into_par_iter().map(|at| {
                let earlier = views.iter().zip(&templates).zip(&is_first).take(at);
                let (probe, view) = views.get(at).ok_or(Incomparable)?;
                let probe_is_first = is_first.get(at).copied().unwrap_or(false);
                let (view, mut scratch) = (PreparedView::new(view), Scratch::default());
                let compared = earlier.map(|(((reference, _), template), other_is_first)| {
                    let score = matcher.weigh(&view, template, &mut scratch)?.score.get();
                    let trial = Trial { score, probe: *probe, reference: *reference };
                    Ok((trial, probe_is_first && *other_is_first))
                });
                compared.collect::<Result<Vec<_>, Incomparable>>()
            });
            for (trial, firsts) in rows.collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
                if trial.probe == trial.reference {
                    genuine.push(trial);
                } else {
                    impostor.push((trial, firsts));
                }
            }
            let mut count = vec![0u64; fingers];
            for (finger, _) in views {
                if let Some(count) = place(*finger).and_then(|at| count.get_mut(at)) {
                    *count += 1;
                }
            }
            counts.push(count);
        }
        Ok(Self { genuine, impostor, counts })
    }

    /// All cross pairs.
    pub(super) fn all(&self) -> Option<Trials> {
        let impostor = self.impostor.iter().map(|(trial, _)| *trial).collect();
        let sets = self.counts.iter().cloned();
        let sets = sets.map(|pictures| Pairing::EachWithEach { pictures });
        Trials::new(self.genuine.clone(), impostor, Pairing::Sets(sets.collect()))
    }

    /// The FVC protocol: all genuine pairs, and of impostors the pairs of first impressions.
    pub(super) fn fvc(&self) -> Option<Trials> {
        let firsts = self.impostor.iter().filter(|(_, firsts)| *firsts);
        let impostor = firsts.map(|(trial, _)| *trial).collect();
        let one_each = |count: &Vec<u64>| count.iter().map(|count| (*count).min(1)).collect();
        let sets =
            self.counts.iter().map(|count| Pairing::EachWithEach { pictures: one_each(count) });
        Trials::new(self.genuine.clone(), impostor, Pairing::Sets(sets.collect()))
    }
}

/// Prints against templates of the first `impressions` of each finger, as enrolment makes them: the
/// others are the probes.
pub(super) fn enrolled(
    sets: &[SetViews],
    fingers: usize,
    impressions: usize,
    matcher: &FingerMatcher,
) -> Result<Option<Trials>, EvaluateError> {
    let (mut genuine, mut impostor, mut pairings) = (Vec::new(), Vec::new(), Vec::new());
    for SetViews { views } in sets {
        let mut templates = Vec::new();
        let mut probes = Vec::new();
        let mut counts = [vec![0u64; fingers], vec![0u64; fingers]];
        for prints in views.chunk_by(|(a, _), (b, _)| a == b) {
            let Some((taken, others)) = prints.split_at_checked(impressions) else { continue };
            let Some((finger, _)) = prints.first() else { continue };
            let captures: Vec<_> = taken.iter().map(|(_, view)| view.clone()).collect();
            let template = FingerTemplate::from_views(&captures)?;
            templates.push((*finger, template));
            probes.extend(others.iter());
            for (count, more) in counts.iter_mut().zip([others.len(), 1]) {
                if let Some(count) = place(*finger).and_then(|at| count.get_mut(at)) {
                    *count += u64::try_from(more).unwrap_or(u64::MAX);
                }
            }
        }
        let compared = probes.par_iter().map(|(probe, view)| {
            let (view, mut scratch) = (PreparedView::new(view), Scratch::default());
            let against = templates.iter().map(|(reference, template)| {
                let score = matcher.weigh(&view, template, &mut scratch)?.score.get();
                Ok(Trial { score, probe: *probe, reference: *reference })
            });
            against.collect::<Result<Vec<_>, Incomparable>>()
        });
        for trial in compared.collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
            let is_genuine = trial.probe == trial.reference;
            if is_genuine { genuine.push(trial) } else { impostor.push(trial) }
        }
        let [probes, templates] = counts;
        pairings.push(Pairing::ProbeWithTemplate { probes, templates });
    }
    Ok(Trials::new(genuine, impostor, Pairing::Sets(pairings)))
}

/// Of each view whether it is the first of its finger.
fn first_of_each(views: &[(u32, FingerView)]) -> Vec<bool> {
    let fingers = || views.iter().map(|(finger, _)| *finger);
    let before = std::iter::once(None).chain(fingers().map(Some));
    fingers().zip(before).map(|(finger, before)| before != Some(finger)).collect()
}

fn place(finger: u32) -> Option<usize> {
    usize::try_from(finger).ok()
}
