//! 1:N search: who else does this face look like?
//!
//! A fused score is linear in both cosines, so each template becomes one vector (each model's
//! embedding times the square root of its slope), and a comparison one dot product. The scan is
//! exact: every row is compared.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;

use rayon::prelude::*;
use zeroize::Zeroize;

use super::{CalibratedAs, Matcher, Template};
use crate::domain::embedding::{Embedding, Incomparable, ModelId};
use crate::domain::score::{MatchScore, Strength};

/// Everybody enrolled, in memory only; wiped when dropped.
pub struct Gallery<K> {
    matcher: Matcher,
    models: Option<[ModelId; 2]>,
    width: usize,
    positions: HashMap<K, usize>,
    keys: Vec<K>,
    rows: Vec<f32>,
}

/// Somebody in the gallery who looks like the probe.
#[derive(Clone, PartialEq, Debug)]
pub struct Hit<K> {
    /// Whose template.
    pub key: K,
    /// The fused score.
    pub score: MatchScore,
    /// How strong a match that is.
    pub strength: Strength,
}

impl<K: Clone + Eq + Hash + Send + Sync> Gallery<K> {
    /// An empty gallery.
    #[must_use]
    pub fn new(matcher: Matcher) -> Self {
        Self {
            matcher,
            models: None,
            width: 0,
            positions: HashMap::new(),
            keys: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Adds a template, or replaces the one under the same key.
    ///
    /// # Errors
    ///
    /// [`Incomparable`] for a template of other models than those already in the gallery.
    pub fn insert(&mut self, key: K, template: &Template) -> Result<(), Incomparable> {
        let mut row = self.row(template);
        if self.models.is_some_and(|models| models != template.models())
            || (self.models.is_some() && row.len() != self.width)
        {
            row.zeroize();
            return Err(Incomparable);
        }
        self.remove(&key);
        self.models = Some(template.models());
        self.width = row.len();
        self.make_room();
        self.positions.insert(key.clone(), self.keys.len());
        self.keys.push(key);
        self.rows.extend_from_slice(&row);
        row.zeroize();
        Ok(())
    }

    /// Takes a template out; `false` when there was none.
    pub fn remove(&mut self, key: &K) -> bool {
        let Some(position) = self.positions.remove(key) else { return false };
        // The last row takes its place, and the freed end is wiped.
        let last = self.keys.len() - 1;
        self.keys.swap_remove(position);
        if let Some(moved) = self.keys.get(position) {
            self.positions.insert(moved.clone(), position);
        }
        let (to, from) = (position * self.width, last * self.width);
        self.rows.copy_within(from.., to);
        if let Some(end) = self.rows.get_mut(from..) {
            end.zeroize();
        }
        self.rows.truncate(from);
        true
    }

    /// The strongest `hits_max` others that reach the manifest's search bar, strongest first.
    ///
    /// # Errors
    ///
    /// [`Incomparable`] for a template of other models than the gallery's.
    pub fn search(
        &self,
        template: &Template,
        hits_max: usize,
    ) -> Result<Vec<Hit<K>>, Incomparable> {
        self.search_from(template, self.matcher.parameters().search_strength_min, hits_max)
    }

    /// As [`Self::search`], with a bar of the caller's.
    ///
    /// # Errors
    ///
    /// [`Incomparable`] for a template of other models than the gallery's.
    pub fn search_from(
        &self,
        template: &Template,
        strength_min: Strength,
        hits_max: usize,
    ) -> Result<Vec<Hit<K>>, Incomparable> {
        let Some(models) = self.models else { return Ok(Vec::new()) };
        let mut probe = self.row(template);
        if models != template.models() || probe.len() != self.width {
            probe.zeroize();
            return Err(Incomparable);
        }
        let mut found = self.scan(&probe, strength_min);
        probe.zeroize();
        found.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal));
        let hits = found.into_iter().take(hits_max).filter_map(|(position, score)| {
            let key = self.keys.get(position)?.clone();
            Some(Hit { key, score, strength: self.strength(score) })
        });
        Ok(hits.collect())
    }

    /// How many are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether nobody is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn scan(&self, probe: &[f32], strength_min: Strength) -> Vec<(usize, MatchScore)> {
        let offset = self.matcher.parameters().fusion.offset();
        let compare = |(position, row): (usize, &[f32])| {
            let score = MatchScore::new(dot(probe, row) + offset).ok()?;
            (self.strength(score) >= strength_min).then_some((position, score))
        };
        if self.keys.len() < PARALLEL_ROWS_MIN {
            self.rows.chunks_exact(self.width).enumerate().filter_map(compare).collect()
        } else {
            self.rows.par_chunks_exact(self.width).enumerate().filter_map(compare).collect()
        }
    }

    fn strength(&self, score: MatchScore) -> Strength {
        self.matcher.strength(score, CalibratedAs::Template)
    }

    fn row(&self, template: &Template) -> Vec<f32> {
        let fusion = &self.matcher.parameters().fusion;
        let scaled = |embedding: &Embedding, slope: f32| {
            let root = slope.sqrt();
            embedding.values().iter().map(|value| value * root).collect::<Vec<_>>()
        };
        let mut sface = scaled(&template.sface, fusion.sface.slope());
        let mut dlib = scaled(&template.dlib, fusion.dlib.slope());
        let mut row = Vec::with_capacity(sface.len() + dlib.len());
        row.extend_from_slice(&sface);
        row.extend_from_slice(&dlib);
        sface.zeroize();
        dlib.zeroize();
        row
    }

    /// Grows by hand, because a growing `Vec` leaves its old memory unwiped.
    fn make_room(&mut self) {
        if self.rows.capacity() - self.rows.len() >= self.width {
            return;
        }
        let mut larger = Vec::with_capacity((self.rows.len() * 2).max(self.width * 64));
        larger.extend_from_slice(&self.rows);
        self.rows.zeroize();
        self.rows = larger;
    }
}

impl<K> Drop for Gallery<K> {
    fn drop(&mut self) {
        self.rows.zeroize();
    }
}

impl<K> fmt::Debug for Gallery<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gallery({} templates)", self.keys.len())
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    // Eight sums at once, so that the compiler can use vector registers.
    let mut sums = [0.0f32; 8];
    let (a_chunks, a_rest) = a.as_chunks::<8>();
    let (b_chunks, b_rest) = b.as_chunks::<8>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

/// Below this a scan costs less than waking other threads.
const PARALLEL_ROWS_MIN: usize = 8_192;

#[cfg(test)]
mod tests {
    use super::super::tests::{face, matcher};
    use super::*;
    use crate::domain::embedding::Making;

    fn template(raw: &[f32]) -> Template {
        Template::from_captures(&[face(raw, Making::MirrorAveraged)]).unwrap()
    }

    /// Directions that spread around a circle in three dimensions.
    fn spread(index: u16) -> Template {
        let angle = f32::from(index) * 0.37;
        template(&[angle.cos(), angle.sin(), (angle * 0.5).sin()])
    }

    #[test]
    fn the_scan_scores_as_the_comparison_does() {
        let mut gallery = Gallery::new(matcher());
        for index in 0..50u16 {
            gallery.insert(index, &spread(index)).unwrap();
        }
        let probe = face(&[0.3, 0.9, 0.2], Making::MirrorAveraged);
        let as_template = Template::from_captures(std::slice::from_ref(&probe)).unwrap();
        let hits = gallery.search_from(&as_template, Strength::NONE, 50).unwrap();
        assert_eq!(hits.len(), 50);
        for hit in &hits {
            let expected = matcher().compare(&probe, &spread(hit.key)).unwrap();
            assert!((hit.score.get() - expected.get()).abs() < 1e-4);
        }
        assert!(hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
    }

    #[test]
    fn only_those_above_the_bar_are_found() {
        let mut gallery = Gallery::new(matcher());
        gallery.insert("same", &template(&[1.0, 0.0, 0.0])).unwrap();
        gallery.insert("other", &template(&[0.0, 1.0, 0.0])).unwrap();
        let hits = gallery.search(&template(&[1.0, 0.02, 0.0]), 10).unwrap();
        assert_eq!(hits.iter().map(|hit| hit.key).collect::<Vec<_>>(), ["same"]);
        assert!(gallery.search(&template(&[1.0, 0.0, 0.0]), 0).unwrap().is_empty());
    }

    #[test]
    fn whoever_is_removed_or_replaced_is_no_longer_found() {
        let mut gallery = Gallery::new(matcher());
        for index in 0..100u16 {
            gallery.insert(index, &template(&[1.0, f32::from(index), 0.0])).unwrap();
        }
        assert!(gallery.remove(&0));
        assert!(!gallery.remove(&0));
        gallery.insert(1, &template(&[0.0, 0.0, 1.0])).unwrap();
        assert_eq!(gallery.len(), 99);
        let found = gallery.search_from(&template(&[0.0, 0.0, 1.0]), Strength::MAX, 5).unwrap();
        assert_eq!(found.iter().map(|hit| hit.key).collect::<Vec<_>>(), [1]);
        let everybody = gallery.search_from(&spread(0), Strength::NONE, 200).unwrap();
        let mut keys: Vec<_> = everybody.iter().map(|hit| hit.key).collect();
        keys.sort_unstable();
        assert_eq!(keys, (1..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_large_gallery_is_searched_as_a_small_one() {
        let mut gallery = Gallery::new(matcher());
        let rows = u16::try_from(PARALLEL_ROWS_MIN).unwrap() + 3;
        for index in 0..rows {
            gallery.insert(index, &spread(index % 997)).unwrap();
        }
        let hits = gallery.search_from(&spread(5), Strength::MAX, 20_000).unwrap();
        let expected = (0..rows)
            .filter(|index| {
                let hit = matcher().compare(
                    &face(spread(5).sface.values(), Making::MirrorAveraged),
                    &spread(index % 997),
                );
                matcher().strength(hit.unwrap(), CalibratedAs::Template) == Strength::MAX
            })
            .count();
        assert!(expected > 8);
        assert_eq!(hits.len(), expected);
    }

    #[test]
    fn a_template_of_another_model_is_refused() {
        let mut gallery = Gallery::new(matcher());
        assert!(gallery.search(&spread(1), 3).unwrap().is_empty());
        gallery.insert(1, &spread(1)).unwrap();
        let other = template(&[1.0, 0.0]);
        assert_eq!(gallery.insert(2, &other), Err(Incomparable));
        assert_eq!(gallery.search(&other, 1), Err(Incomparable));
    }
}
