//! 1:N search: who else does this face look like?
//!
//! A fused score is linear in both cosines, so each template becomes one vector (each model's
//! embedding times the square root of its slope), and a comparison one dot product. The search is
//! exact: it finds whom a comparison with everybody would find, with the same scores, in the same
//! order.
//!
//! It need not read everything for that. Each row is kept twice: in full, and in eight bits a number
//! with a bound on what these leave out ([`quantise`] proves it). A scan multiplies the codes, a
//! quarter of the bytes and whole numbers ([`kernels`]), and compares in full only those rows that can
//! still reach the bar, or the last of the best found so far ([`scan`]). Scanning is bound by the
//! memory's speed; several probes at once share one pass over it.
//!
//! Rows lie in segments of a thousand ([`segment`]). A search holds a [`Snapshot`], everybody at one
//! moment, so that it never waits for an insertion, nor an insertion for it ([`people`]).
//!
//! With two embeddings of 128 numbers somebody costs 256 bytes of codes, 1,024 in full, 4.5 for the
//! bound, and their key twice.

mod kernels;
mod people;
mod quantise;
mod scan;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use zeroize::Zeroizing;

use self::kernels::Kernel;
use self::people::People;
use self::scan::{Found, Wanted, scan};
use super::{CalibratedAs, Matcher, Template};
use crate::domain::embedding::{Embedding, Incomparable, ModelId};
use crate::domain::score::{MatchScore, Strength};

/// Everybody enrolled, in memory only; wiped when dropped.
pub struct Gallery<K> {
    positions: HashMap<K, usize>,
    now: Snapshot<K>,
}

/// Everybody who was enrolled at one moment, for searches that hold no lock.
///
/// Cheap to make. What is removed from the gallery is wiped when the last snapshot with it is
/// dropped, so hold it no longer than a search takes.
pub struct Snapshot<K> {
    matcher: Arc<Matcher>,
    models: Option<[ModelId; 2]>,
    people: Arc<People<K>>,
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
        let people = Arc::new(People::new(0));
        let now = Snapshot { matcher: Arc::new(matcher), models: None, people };
        Self { positions: HashMap::new(), now }
    }

    /// Adds a template, or replaces the one under the same key.
    ///
    /// # Errors
    ///
    /// [`Incomparable`] for a template of other models than those already in the gallery.
    pub fn insert(&mut self, key: K, template: &Template) -> Result<(), Incomparable> {
        let row = self.now.row(template);
        if self.now.models.is_none() {
            self.now.models = Some(template.models());
            self.now.people = Arc::new(People::new(row.len()));
        }
        self.now.check(template, &row)?;
        let people = Arc::make_mut(&mut self.now.people);
        if let Some(position) = self.positions.get(&key) {
            people.replace(*position, key, &row);
        } else {
            self.positions.insert(key.clone(), people.len());
            people.push(key, &row);
        }
        Ok(())
    }

    /// Takes a template out; `false` when there was none.
    pub fn remove(&mut self, key: &K) -> bool {
        let Some(position) = self.positions.remove(key) else { return false };
        let people = Arc::make_mut(&mut self.now.people);
        // The last row takes its place.
        if let Some((moved, row)) = people.pop()
            && position < people.len()
        {
            self.positions.insert(moved.clone(), position);
            people.replace(position, moved, &row);
        }
        true
    }

    /// Everybody in it now. Later insertions and removals do not change it.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<K> {
        self.now.clone()
    }

    /// As [`Snapshot::search`], now.
    ///
    /// # Errors
    ///
    /// [`Incomparable`] for a template of other models than the gallery's.
    pub fn search(
        &self,
        template: &Template,
        hits_max: usize,
    ) -> Result<Vec<Hit<K>>, Incomparable> {
        self.now.search(template, hits_max)
    }

    /// As [`Snapshot::search_from`], now.
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
        self.now.search_from(template, strength_min, hits_max)
    }

    /// How many are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.now.people.len()
    }

    /// Whether nobody is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Clone + Send + Sync> Snapshot<K> {
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
        let hits = self.search_many(std::slice::from_ref(template), strength_min, hits_max)?;
        Ok(hits.into_iter().next().unwrap_or_default())
    }

    /// As [`Self::search_from`] for several templates, in their order, in one pass over the memory:
    /// eight take little longer than one.
    ///
    /// # Errors
    ///
    /// [`Incomparable`] when any template is of other models than the gallery's.
    pub fn search_many(
        &self,
        templates: &[Template],
        strength_min: Strength,
        hits_max: usize,
    ) -> Result<Vec<Vec<Hit<K>>>, Incomparable> {
        let nobody = || vec![Vec::new(); templates.len()];
        if self.models.is_none() {
            return Ok(nobody());
        }
        let rows: Vec<_> = templates.iter().map(|template| self.row(template)).collect();
        for (template, row) in templates.iter().zip(&rows) {
            self.check(template, row)?;
        }
        let table = &self.matcher.parameters().template;
        let Some(score_min) = table.score_at(strength_min) else { return Ok(nobody()) };
        let wanted = Wanted {
            offset: self.matcher.parameters().fusion.offset(),
            score_min: score_min.get(),
            accepts: &|score| self.strength(score) >= strength_min,
            hits_max,
        };
        let probes: Vec<&[f32]> = rows.iter().map(|row| row.as_slice()).collect();
        let found = scan(&self.people, &probes, &wanted, Kernel::fastest());
        Ok(found.into_iter().map(|found| self.hits(found)).collect())
    }

    fn hits(&self, found: Vec<Found>) -> Vec<Hit<K>> {
        let hits = found.into_iter().filter_map(|Found { score, position }| {
            let key = self.people.key(position)?.clone();
            Some(Hit { key, score, strength: self.strength(score) })
        });
        hits.collect()
    }
}

impl<K> Snapshot<K> {
    fn check(&self, template: &Template, row: &[f32]) -> Result<(), Incomparable> {
        let fits = self.models == Some(template.models()) && row.len() == self.people.width();
        if fits { Ok(()) } else { Err(Incomparable) }
    }

    fn strength(&self, score: MatchScore) -> Strength {
        self.matcher.strength(score, CalibratedAs::Template)
    }

    fn row(&self, template: &Template) -> Zeroizing<Vec<f32>> {
        let fusion = &self.matcher.parameters().fusion;
        let length = template.sface.values().len() + template.dlib.values().len();
        // With its capacity from the start, no unwiped copy is left behind by growth.
        let mut row = Zeroizing::new(Vec::with_capacity(length));
        let mut add = |embedding: &Embedding, slope: f32| {
            let root = slope.sqrt();
            row.extend(embedding.values().iter().map(|value| value * root));
        };
        add(&template.sface, fusion.sface.slope());
        add(&template.dlib, fusion.dlib.slope());
        row
    }
}

impl<K> Clone for Snapshot<K> {
    fn clone(&self) -> Self {
        Self {
            matcher: Arc::clone(&self.matcher),
            models: self.models,
            people: Arc::clone(&self.people),
        }
    }
}

impl<K> fmt::Debug for Gallery<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gallery({} templates)", self.now.people.len())
    }
}

impl<K> fmt::Debug for Snapshot<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({} templates)", self.people.len())
    }
}
