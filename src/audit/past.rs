//! The ledgers that were walked already: what entries of later ones refer to, and what is held
//! against receipts and checkpoints from outside.

use super::walk::{Ids, Walked};
use crate::ledger::{Origin, Tree};

/// The walked ledgers, in their order.
#[derive(Default)]
pub(super) struct Past {
    ledgers: Vec<Ledger>,
}

/// One of them. About 80 bytes of memory an entry.
pub(super) struct Ledger {
    pub origin: Origin,
    pub tree: Tree,
    pub ids: Ids,
}

impl Past {
    /// Keeps a ledger's tree and ids; the rest of what the walk found is the report's.
    pub(super) fn keep(&mut self, origin: &Origin, walked: &mut Walked) {
        let tree = std::mem::take(&mut walked.tree);
        let ids = std::mem::take(&mut walked.ids);
        self.ledgers.push(Ledger { origin: origin.clone(), tree, ids });
    }

    /// The ledger of this name.
    pub(super) fn ledger(&self, origin: &str) -> Option<&Ledger> {
        self.ledgers.iter().find(|ledger| ledger.origin.as_str() == origin)
    }

    /// Whether an entry of another ledger may be the receipt `rid`.
    pub(super) fn is_there(&self, origin: &str, index: u64, rid: &str) -> bool {
        self.ledger(origin).is_some_and(|ledger| ledger.ids.is_there(index, rid))
    }
}
