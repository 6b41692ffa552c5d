//! The ledgers of this gateway, one behind the other: the closed ones, and the one that is open.
//!
//! Inside the gateway and in the store's rows an entry is known by its *place* among all entries of
//! all these ledgers, a number that never starts again; in the first ledger it is the entry's index.
//! Receipts and the API say in which ledger an entry stands and at which index of it: a
//! [`LogPosition`].

use super::error::GatewayError;
use crate::ledger::{ClosedShard, LogPosition, Origin};

/// The closed ledgers in the order of their closing, and the open one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Ledgers {
    closed: Vec<ClosedShard>,
    open: Origin,
}

impl Ledgers {
    pub const fn new(closed: Vec<ClosedShard>, open: Origin) -> Self {
        Self { closed, open }
    }

    /// The ledger that takes entries.
    pub const fn open(&self) -> &Origin {
        &self.open
    }

    /// The ledgers that take no more.
    pub fn closed(&self) -> &[ClosedShard] {
        &self.closed
    }

    /// Every ledger's origin, oldest first.
    pub fn origins(&self) -> impl Iterator<Item = &Origin> {
        self.closed.iter().map(|shard| &shard.origin).chain([&self.open])
    }

    /// Each ledger with the places of its first entry and of the first behind it, of `recorded` in all.
    pub fn spans(&self, recorded: u64) -> impl Iterator<Item = (&Origin, u64, u64)> {
        let mut next = 0;
        let closed = self.closed.iter().map(|shard| (&shard.origin, Some(shard.size)));
        closed.chain([(&self.open, None)]).map(move |(origin, size)| {
            let begin = next;
            next = size.map_or(recorded, |size| begin + size);
            (origin, begin, next)
        })
    }

    /// The place of the open ledger's first entry.
    pub fn begin(&self) -> u64 {
        self.closed.iter().map(|shard| shard.size).sum()
    }

    /// Whether a ledger of this name was ever opened.
    pub fn knows(&self, origin: &Origin) -> bool {
        self.origins().any(|known| known == origin)
    }

    /// In which ledger the entry of a place stands, and at which index.
    pub fn position(&self, place: u64) -> LogPosition {
        let mut index = place;
        for shard in &self.closed {
            if index < shard.size {
                return LogPosition { origin: shard.origin.clone(), index };
            }
            index -= shard.size;
        }
        LogPosition { origin: self.open.clone(), index }
    }

    /// The place of an index of a ledger; none for a ledger that is not this gateway's, and beyond
    /// the end of one that is closed.
    pub fn place(&self, origin: &Origin, index: u64) -> Option<u64> {
        let mut begin = 0u64;
        for shard in &self.closed {
            if shard.origin == *origin {
                return (index < shard.size).then(|| begin + index);
            }
            begin += shard.size;
        }
        if self.open == *origin { begin.checked_add(index) } else { None }
    }

    /// The same once the open ledger is closed with so many entries, and another one opened.
    pub fn rolled(&self, closing: ClosedShard, next: Origin) -> Result<Self, GatewayError> {
        if closing.origin != self.open || self.knows(&next) {
            return Err(GatewayError::broken("a ledger cannot be opened twice"));
        }
        let mut closed = self.closed.clone();
        closed.push(closing);
        Ok(Self { closed, open: next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::empty_root;

    fn origin(half: &str) -> Origin {
        Origin::try_from(format!("a.example/gw/{half}").as_str()).unwrap()
    }

    fn shard(half: &str, size: u64) -> ClosedShard {
        ClosedShard { origin: origin(half), size, root: empty_root() }
    }

    #[test]
    fn each_place_is_one_index_of_one_ledger() {
        let ledgers = Ledgers::new(vec![shard("1", 3), shard("2", 0), shard("3", 2)], origin("4"));
        let expected = [("1", 0), ("1", 1), ("1", 2), ("3", 0), ("3", 1), ("4", 0), ("4", 1)];
        for (place, (half, index)) in (0..).zip(expected) {
            let position = LogPosition { origin: origin(half), index };
            assert_eq!(ledgers.position(place), position);
            assert_eq!(ledgers.place(&position.origin, index), Some(place));
        }
        assert_eq!(ledgers.begin(), 5);
        assert_eq!(ledgers.place(&origin("1"), 3), None);
        assert_eq!(ledgers.place(&origin("2"), 0), None);
        assert_eq!(ledgers.place(&origin("5"), 0), None);
    }

    #[test]
    fn a_ledger_is_opened_once() {
        let one = Ledgers::new(Vec::new(), origin("1"));
        let two = one.rolled(shard("1", 7), origin("2")).unwrap();
        assert_eq!((two.begin(), two.open()), (7, &origin("2")));
        assert!(two.rolled(shard("2", 1), origin("1")).is_err());
        assert!(two.rolled(shard("1", 1), origin("3")).is_err());
    }
}
