//! When somebody outside had seen which sizes of one ledger: what bounds the times of its entries.

use crate::domain::time::UnixMillis;

/// What witnesses and time-stamps say of one ledger.
#[derive(Default)]
pub(super) struct Timeline {
    /// By size: the latest instant at which a ledger of at most this size was witnessed, and the
    /// earliest at which one of at least this size was seen.
    seen: Vec<Seen>,
    /// Each cosignature's size and instant, sorted.
    cosigned: Vec<(u64, UnixMillis)>,
    /// Whether a policy says who witnesses are.
    has_witnesses: bool,
}

struct Seen {
    size: u64,
    without: Option<UnixMillis>,
    with: Option<UnixMillis>,
}

/// What was seen, in any order.
#[derive(Default)]
pub(super) struct Sightings {
    /// Whether a policy says who witnesses are.
    pub has_witnesses: bool,
    /// Checkpoints that a quorum cosigned, and when.
    pub witnessed: Vec<(u64, UnixMillis)>,
    /// Each cosignature.
    pub cosigned: Vec<(u64, UnixMillis)>,
    /// Checkpoints that a time-stamping authority saw. One says that so many entries were there, not
    /// that there were no more.
    pub stamped: Vec<(u64, UnixMillis)>,
}

impl Timeline {
    pub(super) fn new(sightings: Sightings) -> Self {
        let Sightings { has_witnesses, witnessed, mut cosigned, stamped } = sightings;
        let without = witnessed.iter().map(|(size, time)| (*size, *time, true));
        let mut all: Vec<_> =
            without.chain(stamped.iter().map(|(size, time)| (*size, *time, false))).collect();
        all.sort_unstable();
        let mut seen: Vec<Seen> = Vec::with_capacity(all.len());
        let mut latest = None;
        for (size, time, is_witnessed) in &all {
            if *is_witnessed {
                latest = latest.max(Some(*time));
            }
            seen.push(Seen { size: *size, without: latest, with: Some(*time) });
        }
        let mut earliest: Option<UnixMillis> = None;
        for sighting in seen.iter_mut().rev() {
            let times = [sighting.with, earliest].into_iter().flatten();
            earliest = times.min();
            sighting.with = earliest;
        }
        cosigned.sort_unstable();
        Self { seen, cosigned, has_witnesses }
    }

    /// The latest instant at which witnesses saw the ledger without entry `index`, and the earliest at
    /// which somebody saw it with it.
    pub(super) fn window(&self, index: u64) -> (Option<UnixMillis>, Option<UnixMillis>) {
        let place = self.seen.partition_point(|seen| seen.size <= index);
        let before = place.checked_sub(1).and_then(|place| self.seen.get(place));
        (before.and_then(|seen| seen.without), self.seen.get(place).and_then(|seen| seen.with))
    }

    /// Whether a witness cosigned a checkpoint of this size at this instant.
    pub(super) fn has_seen(&self, size: u64, time: UnixMillis) -> bool {
        self.cosigned.binary_search(&(size, time)).is_ok()
    }

    pub(super) const fn has_witnesses(&self) -> bool {
        self.has_witnesses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> UnixMillis {
        UnixMillis::new(seconds * 1000)
    }

    #[test]
    fn an_entry_lies_between_the_sightings_without_it_and_with_it() {
        let timeline = Timeline::new(Sightings {
            has_witnesses: true,
            // Size 8 was witnessed before size 5 was: whoever saw 8 at 50 had 5 at 50, too.
            witnessed: vec![(8, at(50)), (3, at(20)), (5, at(60)), (3, at(10)), (0, at(1))],
            cosigned: vec![(3, at(20)), (3, at(10))],
            stamped: vec![(9, at(45)), (4, at(99))],
        });
        assert_eq!(timeline.window(0), (Some(at(1)), Some(at(10))));
        assert_eq!(timeline.window(2), (Some(at(1)), Some(at(10))));
        assert_eq!(timeline.window(3), (Some(at(20)), Some(at(45))));
        // The time-stamp of 4 entries at 99 does not say that there was no fifth.
        assert_eq!(timeline.window(4), (Some(at(20)), Some(at(45))));
        assert_eq!(timeline.window(5), (Some(at(60)), Some(at(45))));
        assert_eq!(timeline.window(8), (Some(at(60)), Some(at(45))));
        assert_eq!(timeline.window(9), (Some(at(60)), None));
        assert!(timeline.has_seen(3, at(10)) && timeline.has_seen(3, at(20)));
        assert!(!timeline.has_seen(3, at(11)) && !timeline.has_seen(8, at(50)));
        let nobody = Timeline::new(Sightings::default());
        assert_eq!(nobody.window(7), (None, None));
        assert!(!nobody.has_witnesses());
    }
}
