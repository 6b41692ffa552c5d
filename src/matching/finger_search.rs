//! 1:N search over fingers: whose else is this finger?
//!
//! Everybody is looked at. A quick agreement, the first step of a comparison, takes some 20 µs; only
//! those that reach [`AGREEMENT_MIN`] are compared in full. What that leaves out was measured on real
//! prints: see the constant.
//!
//! A search holds a [`FingerSnapshot`], everybody at one moment: insertions do not wait for it, nor it
//! for them. They copy the list of segments, and the one or two segments that change (pointers only).

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use rayon::prelude::*;

use super::finger::{FingerMatcher, FingerTemplate};
use super::minutiae::{Scratch, agreement};
use super::search::Hit;
use crate::domain::embedding::{Incomparable, ModelId};
use crate::domain::score::{MatchScore, Strength};

/// Fingers enrolled, in memory only; wiped when dropped.
pub struct FingerGallery<K> {
    positions: HashMap<K, usize>,
    now: FingerSnapshot<K>,
}

/// All fingers that were enrolled at one moment, for searches that hold no lock.
///
/// Cheap to make. What is removed from the gallery is wiped when the last snapshot with it is
/// dropped, so hold it no longer than a search takes.
pub struct FingerSnapshot<K> {
    matcher: Arc<FingerMatcher>,
    model: Option<ModelId>,
    segments: Arc<Vec<Arc<Segment<K>>>>,
}

/// Up to [`SEGMENT_FINGERS`] fingers; all segments but the last are full.
type Segment<K> = Vec<(K, Arc<FingerTemplate>)>;

impl<K: Clone + Eq + Hash + Send + Sync> FingerGallery<K> {
    /// An empty gallery.
    #[must_use]
    pub fn new(matcher: FingerMatcher) -> Self {
        let segments = Arc::new(Vec::new());
        let now = FingerSnapshot { matcher: Arc::new(matcher), model: None, segments };
        Self { positions: HashMap::new(), now }
    }

    /// Adds a finger, or replaces the one under the same key.
    ///
    /// # Errors
    ///
    /// [`Incomparable`] for a template of another model than those already in the gallery.
    pub fn insert(&mut self, key: K, template: FingerTemplate) -> Result<(), Incomparable> {
        let model = self.now.model.or_else(|| template.model());
        if template.model() != model {
            return Err(Incomparable);
        }
        self.now.model = model;
        let entry = (key.clone(), Arc::new(template));
        let segments = Arc::make_mut(&mut self.now.segments);
        if let Some(position) = self.positions.get(&key) {
            replace(segments, *position, entry);
            return Ok(());
        }
        if segments.last().is_none_or(|last| last.len() == SEGMENT_FINGERS) {
            segments.push(Arc::new(Vec::with_capacity(SEGMENT_FINGERS)));
        }
        if let Some(last) = segments.last_mut() {
            Arc::make_mut(last).push(entry);
        }
        self.positions.insert(key, self.positions.len());
        Ok(())
    }

    /// Takes a finger out; `false` when there was none.
    pub fn remove(&mut self, key: &K) -> bool {
        let Some(position) = self.positions.remove(key) else { return false };
        let segments = Arc::make_mut(&mut self.now.segments);
        // The last one takes its place.
        let last = segments.last_mut().and_then(|last| Arc::make_mut(last).pop());
        if segments.last().is_some_and(|last| last.is_empty()) {
            segments.pop();
        }
        if let Some((moved, template)) = last
            && moved != *key
        {
            self.positions.insert(moved.clone(), position);
            replace(segments, position, (moved, template));
        }
        true
    }

    /// All fingers in it now. Later insertions and removals do not change it.
    #[must_use]
    pub fn snapshot(&self) -> FingerSnapshot<K> {
        self.now.clone()
    }

    /// As [`FingerSnapshot::search`], now.
    ///
    /// # Errors
    ///
    /// [`Incomparable`] for a template of another model than the gallery's.
    pub fn search(
        &self,
        template: &FingerTemplate,
        hits_max: usize,
    ) -> Result<Vec<Hit<K>>, Incomparable> {
        self.now.search(template, hits_max)
    }

    /// How many fingers are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// Whether none is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }
}

impl<K: Clone + Send + Sync> FingerSnapshot<K> {
    /// The strongest `hits_max` others that reach the search bar, strongest first.
    ///
    /// # Errors
    ///
    /// [`Incomparable`] for a template of another model than the gallery's.
    pub fn search(
        &self,
        template: &FingerTemplate,
        hits_max: usize,
    ) -> Result<Vec<Hit<K>>, Incomparable> {
        self.search_from(template, self.matcher.parameters().search_score_min, hits_max)
    }

    /// As [`Self::search`], with a bar of the caller's.
    ///
    /// # Errors
    ///
    /// [`Incomparable`] for a template of another model than the gallery's.
    pub fn search_from(
        &self,
        template: &FingerTemplate,
        score_min: MatchScore,
        hits_max: usize,
    ) -> Result<Vec<Hit<K>>, Incomparable> {
        if self.model.is_none() {
            return Ok(Vec::new());
        }
        if self.model != template.model() {
            return Err(Incomparable);
        }
        let found = self.segments.par_iter().flat_map(|segment| segment.par_chunks(CHUNK_FINGERS));
        let found = found.map_init(Scratch::default, |scratch, fingers| {
            let mut hits = Vec::new();
            for (key, enrolled) in fingers {
                if let Some((score, strength)) = self.look(template, enrolled, scratch)?
                    && score >= score_min
                {
                    hits.push(Hit { key: key.clone(), score, strength });
                }
            }
            Ok(hits)
        });
        let hits: Result<Vec<_>, Incomparable> = found.collect();
        let mut hits: Vec<_> = hits?.into_iter().flatten().collect();
        // Stable: of equal scores the one enrolled first comes first.
        hits.sort_by(|a, b| b.score.get().total_cmp(&a.score.get()));
        hits.truncate(hits_max);
        Ok(hits)
    }

    /// One enrolled finger: each pair of impressions at a glance, and in full where that finds an
    /// agreement.
    fn look(
        &self,
        probe: &FingerTemplate,
        enrolled: &FingerTemplate,
        scratch: &mut Scratch,
    ) -> Result<Option<(MatchScore, Strength)>, Incomparable> {
        let mut best: Option<MatchScore> = None;
        for one in probe.views() {
            for other in enrolled.views() {
                if agreement(one, other, scratch) >= AGREEMENT_MIN {
                    let score = self.matcher.compare_views(one, other, scratch)?;
                    best = if best.is_none_or(|best| score > best) { Some(score) } else { best };
                }
            }
        }
        // The best of several pairs is read as such, whichever side has several.
        let pairs = probe.views().len() * enrolled.views().len();
        Ok(best.map(|best| (best, self.matcher.strength(best, pairs))))
    }
}

impl<K> FingerSnapshot<K> {
    /// How many fingers are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        let Some((last, full)) = self.segments.split_last() else { return 0 };
        full.len() * SEGMENT_FINGERS + last.len()
    }

    /// Whether none is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Puts another finger at a position that is in use.
fn replace<K: Clone>(
    segments: &mut [Arc<Segment<K>>],
    position: usize,
    entry: (K, Arc<FingerTemplate>),
) {
    if let Some(segment) = segments.get_mut(position / SEGMENT_FINGERS)
        && let Some(place) = Arc::make_mut(segment).get_mut(position % SEGMENT_FINGERS)
    {
        *place = entry;
    }
}

impl<K> Clone for FingerSnapshot<K> {
    fn clone(&self) -> Self {
        Self {
            matcher: Arc::clone(&self.matcher),
            model: self.model,
            segments: Arc::clone(&self.segments),
        }
    }
}

impl<K> fmt::Debug for FingerGallery<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FingerGallery({} fingers)", self.positions.len())
    }
}

impl<K> fmt::Debug for FingerSnapshot<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FingerSnapshot({} fingers)", self.len())
    }
}

/// The quick agreement from which on two fingers are compared in full.
///
/// On the first B sets of FVC2000, 2002 and 2004, and on UPEK, 2 to 4 % of strangers reach it, and all
/// mates whose full score passes at a false match rate of 0.1 %; with another vendor's templates of
/// FVC2002's 14 % and 99.6 %. Of synthetic layouts 0.1 % reach it.
const AGREEMENT_MIN: f32 = 1.5;

/// Fingers of a segment: how many pointers are copied when one is inserted during a search.
const SEGMENT_FINGERS: usize = 1_024;

/// Fingers that one thread looks at before it takes more.
const CHUNK_FINGERS: usize = 64;

#[cfg(test)]
mod tests {
    use super::super::finger::tests::{matcher, views};
    use super::*;
    use crate::domain::finger::FingerView;

    fn template(finger: u64, number: u64) -> FingerTemplate {
        FingerTemplate::from_views(&views(finger, number..number + 1)).unwrap()
    }

    fn gallery(fingers: std::ops::Range<u64>) -> FingerGallery<u64> {
        let mut gallery = FingerGallery::new(matcher());
        for finger in fingers {
            gallery.insert(finger, template(finger, 0)).unwrap();
        }
        gallery
    }

    fn keys(hits: &[Hit<u64>]) -> Vec<u64> {
        hits.iter().map(|hit| hit.key).collect()
    }

    #[test]
    fn a_finger_is_found_among_others() {
        let gallery = gallery(0..200);
        for finger in [0, 63, 64, 199] {
            let hits = gallery.search(&template(finger, 5), 10).unwrap();
            assert_eq!(keys(&hits), [finger]);
            assert!(hits[0].strength >= Strength::from_db(40));
        }
        assert_eq!(gallery.search(&template(1_000, 5), 10).unwrap(), []);
    }

    #[test]
    fn hits_are_those_of_comparing_with_everybody() {
        let mut gallery = gallery(0..40);
        for number in 1..4 {
            gallery.insert(100 + number, template(7, number)).unwrap();
        }
        let probe = template(7, 9);
        let scratch = &mut Scratch::default();
        let mut expected: Vec<_> = (0..40)
            .map(|finger| (finger, template(finger, 0)))
            .chain((1..4).map(|number| (100 + number, template(7, number))))
            .map(|(key, enrolled)| {
                (key, matcher().weigh(&probe.views()[0], &enrolled, scratch).unwrap().score)
            })
            .filter(|(_, score)| *score >= matcher().parameters().search_score_min)
            .collect();
        expected.sort_by(|a, b| b.1.get().total_cmp(&a.1.get()));
        assert_eq!(expected.len(), 4);
        let hits = gallery.search(&probe, 10).unwrap();
        let found: Vec<_> = hits.iter().map(|hit| (hit.key, hit.score)).collect();
        assert_eq!(found, expected);
        assert_eq!(keys(&gallery.search(&probe, 2).unwrap()), keys(&hits)[..2]);
    }

    #[test]
    fn who_is_removed_is_not_found_and_the_others_still_are() {
        let mut gallery = gallery(0..5);
        for removed in [1, 4, 0] {
            assert!(gallery.remove(&removed));
            assert!(!gallery.remove(&removed));
        }
        assert_eq!(gallery.len(), 2);
        for (finger, found) in [(0, false), (1, false), (2, true), (3, true), (4, false)] {
            let hits = gallery.search(&template(finger, 5), 1).unwrap();
            assert_eq!(keys(&hits), if found { vec![finger] } else { vec![] }, "{finger}");
        }
        gallery.insert(2, template(77, 0)).unwrap();
        assert_eq!(gallery.len(), 2);
        assert_eq!(gallery.search(&template(2, 5), 1).unwrap(), []);
        assert_eq!(keys(&gallery.search(&template(77, 5), 1).unwrap()), [2]);
        assert!(gallery.remove(&2) && gallery.remove(&3) && gallery.is_empty());
        assert!(gallery.snapshot().is_empty());
    }

    #[test]
    fn a_snapshot_shows_its_moment() {
        let mut gallery = gallery(0..3);
        let before = gallery.snapshot();
        gallery.remove(&1);
        gallery.insert(9, template(9, 0)).unwrap();
        assert_eq!((before.len(), gallery.snapshot().len()), (3, 3));
        assert_eq!(keys(&before.search(&template(1, 5), 1).unwrap()), [1]);
        assert_eq!(before.search(&template(9, 5), 1).unwrap(), []);
        assert_eq!(keys(&gallery.search(&template(9, 5), 1).unwrap()), [9]);
    }

    #[test]
    fn segments_are_filled_one_after_the_other() {
        let empty = FingerTemplate::from_views(&[FingerView::new(
            crate::matching::synthetic::SYNTHETIC_MODEL,
            Vec::new(),
        )])
        .unwrap();
        let mut gallery = gallery(0..0);
        let count = u64::try_from(SEGMENT_FINGERS).unwrap() + 2;
        for finger in 0..count {
            gallery.insert(finger, empty.clone()).unwrap();
        }
        gallery.insert(count - 1, template(5, 0)).unwrap();
        assert_eq!(gallery.snapshot().len(), SEGMENT_FINGERS + 2);
        // The last one moves to the first segment.
        assert!(gallery.remove(&3));
        assert_eq!(keys(&gallery.search(&template(5, 1), 3).unwrap()), [count - 1]);
        assert!(gallery.remove(&(count - 2)) && gallery.remove(&(count - 1)));
        assert_eq!(gallery.snapshot().len(), SEGMENT_FINGERS - 1);
        assert_eq!(gallery.search(&template(5, 1), 3).unwrap(), []);
    }

    #[test]
    fn another_model_s_template_is_incomparable() {
        let mut gallery = gallery(0..2);
        let foreign = FingerView::new(ModelId::new([9; 32]), Vec::new());
        let foreign = FingerTemplate::from_views(&[foreign]).unwrap();
        assert_eq!(gallery.insert(5, foreign.clone()), Err(Incomparable));
        assert_eq!(gallery.search(&foreign, 1), Err(Incomparable));
        assert_eq!(gallery.len(), 2);
        assert_eq!(FingerGallery::<u64>::new(matcher()).search(&foreign, 1), Ok(Vec::new()));
    }
}
