//! The open ledger as readers see it, and what is signed of it.

use std::sync::{Arc, RwLock};

use super::error::GatewayError;
use super::ledgers::Ledgers;
use super::roll_over::Signing;
use crate::crypto::Digest;
use crate::domain::time::UnixMillis;
use crate::ledger::{Checkpoint, ClosedShard, LeafHash, Origin, Tree};
use crate::store::{CheckpointRow, ClosedLedgerRow, Store};

/// The ledger as readers see it: the tree, and how much of it is committed.
#[derive(Debug)]
pub(super) struct LedgerView {
    state: RwLock<ViewState>,
}

/// The gateway's ledgers and the tree of the open one.
#[derive(Debug)]
pub(super) struct ViewState {
    pub ledgers: Arc<Ledgers>,
    pub tree: Tree,
    /// How many entries of the tree are committed, and recorded as the last signed head.
    pub committed: u64,
}

impl LedgerView {
    pub const fn new(state: ViewState) -> Self {
        Self { state: RwLock::new(state) }
    }

    /// Asks the committed part of the open ledger's tree.
    pub fn read<T>(
        &self,
        question: impl FnOnce(&Origin, &Tree, u64) -> T,
    ) -> Result<T, GatewayError> {
        let state = self.state.read().map_err(|_| GatewayError::broken("ledger lock"))?;
        Ok(question(state.ledgers.open(), &state.tree, state.committed))
    }

    /// The ledgers, and how many entries of all of them together may be shown.
    pub fn recorded(&self) -> Result<(Arc<Ledgers>, u64), GatewayError> {
        let state = self.state.read().map_err(|_| GatewayError::broken("ledger lock"))?;
        Ok((Arc::clone(&state.ledgers), state.ledgers.begin() + state.committed))
    }

    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut ViewState) -> T,
    ) -> Result<T, GatewayError> {
        let mut state = self.state.write().map_err(|_| GatewayError::broken("ledger lock"))?;
        Ok(change(&mut state))
    }
}

/// The ledgers in the store; `None` before the first one was opened.
pub(super) async fn load_ledgers(store: &dyn Store) -> Result<Option<Ledgers>, GatewayError> {
    let mut closed = Vec::new();
    for ClosedLedgerRow { origin, size, root } in store.closed_ledgers().await? {
        closed.push(ClosedShard { origin: stored_origin(&origin)?, size, root });
    }
    match store.open_ledgers().await?.as_slice() {
        [] if closed.is_empty() => Ok(None),
        [open] => Ok(Some(Ledgers::new(closed, stored_origin(open)?))),
        _ => Err(GatewayError::broken("the database has not one open ledger")),
    }
}

fn stored_origin(text: &str) -> Result<Origin, GatewayError> {
    Origin::try_from(text).map_err(|cause| GatewayError::internal("a stored origin", cause))
}

/// The tree of a ledger's entries, and the time of its last one.
pub(super) async fn load_tree(
    store: &dyn Store,
    origin: &Origin,
) -> Result<(Tree, UnixMillis), GatewayError> {
    const PAGE: u32 = 10_000;
    let mut tree = Tree::new();
    loop {
        let leaves = store.leaves(origin.as_str(), tree.size(), PAGE).await?;
        if leaves.is_empty() {
            break;
        }
        for leaf in leaves {
            tree.push(LeafHash::new(leaf));
        }
    }
    let time = last_time(store, origin, tree.size()).await?;
    Ok((tree, time))
}

async fn last_time(
    store: &dyn Store,
    origin: &Origin,
    size: u64,
) -> Result<UnixMillis, GatewayError> {
    let last = match size.checked_sub(1) {
        Some(index) => store.entry(origin.as_str(), index).await?,
        None => None,
    };
    Ok(last.map_or(UnixMillis::new(0), |row| row.time))
}

/// Signs the committed head if no kept checkpoint covers it, and keeps it.
pub(super) async fn keep_checkpoint(
    store: &dyn Store,
    signing: &Signing,
    view: &LedgerView,
    now: UnixMillis,
) -> Result<(Origin, CheckpointRow), GatewayError> {
    let (origin, size, root) =
        view.read(|origin, tree, committed| (origin.clone(), committed, tree.root_at(committed)))?;
    let latest = store.latest_checkpoint(origin.as_str()).await?;
    if let Some(row) = latest.filter(|row| row.size >= size) {
        return Ok((origin, row));
    }
    let root: Digest = root.map_err(|cause| GatewayError::internal("ledger", cause))?;
    let key = signing.keyring.ledger_key(&origin, size)?;
    let checkpoint = Checkpoint { origin: origin.clone(), size, root };
    let sign = || checkpoint.sign(&*key);
    let text = if key.is_remote() { tokio::task::block_in_place(sign) } else { sign() }?;
    let row = CheckpointRow { size, text, time: now };
    let mut unit = store.begin().await?;
    unit.insert_checkpoint(origin.as_str(), &row).await?;
    unit.commit().await?;
    Ok((origin, row))
}
