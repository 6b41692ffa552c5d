//! One place where a decision becomes durable.
//!
//! One task takes whatever waits. There is no timer: while one commit runs, the next batch gathers.
//! For each batch it opens one write transaction, lets each [`Job`] read, decide and write in it,
//! signs a receipt for each entry, moves the head by compare-and-swap, commits, records the head
//! outside the database, and only then replies. A job decides inside the transaction: that is what
//! makes limits hold when many terminals ask at one moment.
//!
//! A job that is refused costs the batch nothing but time: the transaction is dropped and the other
//! jobs run again in another.

use std::sync::{Arc, RwLock};

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::error::GatewayError;
use super::guard::HeadGuard;
use super::keyring::Keyring;
use super::request::Logged;
use crate::clock::Clock;
use crate::crypto::Digest;
use crate::domain::id::{ReceiptId, TerminalId};
use crate::domain::time::UnixMillis;
use crate::ledger::{Checkpoint, LeafHash, Origin, Tree, leaf_hash};
use crate::receipt::{self, LogBlock, ReceiptDraft};
use crate::store::{CheckpointRow, EntryRow, HeadRow, Store, StoreError, UnitOfWork};

/// Most jobs in one transaction.
const BATCH_MAX: usize = 1024;
/// Most jobs that may wait; beyond them the gateway is overloaded.
const QUEUE_MAX: usize = 4096;
/// How far the clock may stand behind the last receipt, in milliseconds: a step of time
/// synchronisation, not a wrong clock.
const CLOCK_SKEW_MAX_MS: i64 = 5_000;

/// Something that becomes one ledger entry, or finds that it already is one.
///
/// It may run more than once (see the module's text), so it must not consume itself.
#[async_trait]
pub(super) trait Job: Send {
    /// Reads, decides and writes inside the batch's transaction.
    async fn run(&mut self, unit: &mut dyn UnitOfWork, slot: &Slot) -> Result<Step, GatewayError>;

    /// The id of the entry that it makes, by which it is known again after a commit whose fate was
    /// unclear; none for a job that makes none.
    fn receipt(&self) -> Option<ReceiptId>;
}

/// Makes no entry: its answer comes once the entry at the index is recorded as the head's.
pub(super) struct AwaitRecord(pub u64);

#[async_trait]
impl Job for AwaitRecord {
    async fn run(&mut self, _: &mut dyn UnitOfWork, _: &Slot) -> Result<Step, GatewayError> {
        Ok(Step::Existing(self.0))
    }

    fn receipt(&self) -> Option<ReceiptId> {
        None
    }
}

/// Where a job's entry will stand, and when.
pub(super) struct Slot {
    /// The entry's index.
    pub index: u64,
    /// The entry's time.
    pub now: UnixMillis,
}

/// What a job came to.
pub(super) enum Step {
    /// A new entry.
    Append(Box<NewEntry>),
    /// The entry exists: the same was asked before.
    Existing(u64),
}

/// An entry before it has its place and signature.
pub(super) struct NewEntry {
    pub receipt: ReceiptId,
    pub terminal: Option<TerminalId>,
    pub draft: ReceiptDraft,
    pub sealed_audit: Option<Vec<u8>>,
}

/// The ledger as readers see it: the tree, and how much of it is committed.
#[derive(Debug)]
pub(super) struct LedgerView {
    state: RwLock<ViewState>,
}

#[derive(Debug)]
struct ViewState {
    tree: Tree,
    committed: u64,
}

impl LedgerView {
    /// Asks the committed part of the tree.
    pub fn read<T>(&self, question: impl FnOnce(&Tree, u64) -> T) -> Result<T, GatewayError> {
        let state = self.state.read().map_err(|_| GatewayError::broken("ledger lock"))?;
        Ok(question(&state.tree, state.committed))
    }

    fn change<T>(&self, change: impl FnOnce(&mut ViewState) -> T) -> Result<T, GatewayError> {
        let mut state = self.state.write().map_err(|_| GatewayError::broken("ledger lock"))?;
        Ok(change(&mut state))
    }
}

/// The way to the sequencer.
#[derive(Clone, Debug)]
pub(super) struct SequencerHandle {
    queue: mpsc::Sender<Ticket>,
}

struct Ticket {
    job: Box<dyn Job>,
    /// Whether a batch with it was begun before.
    was_tried: bool,
    reply: oneshot::Sender<Result<Logged, GatewayError>>,
}

impl SequencerHandle {
    /// Runs a job; the answer comes after its commit.
    pub async fn submit(&self, job: Box<dyn Job>) -> Result<Logged, GatewayError> {
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(Ticket { job, was_tried: false, reply }).map_err(|refused| {
            match refused {
                mpsc::error::TrySendError::Full(_) => GatewayError::Overloaded,
                mpsc::error::TrySendError::Closed(_) => {
                    GatewayError::NotReady("the gateway is draining")
                }
            }
        })?;
        answer.await.map_err(|_| GatewayError::NotReady("the gateway is draining"))?
    }
}

/// A batch that was not committed.
struct Failure {
    error: GatewayError,
    /// The place of the job that failed, where it was one job's failure.
    culprit: Option<usize>,
}

impl<E: Into<GatewayError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { error: error.into(), culprit: None }
    }
}

/// What the sequencer signs and keeps time with.
#[derive(Debug)]
pub(super) struct Signing {
    pub origin: Origin,
    pub keyring: Arc<Keyring>,
}

/// The task that owns the ledger's head.
#[derive(Debug)]
pub(super) struct Sequencer {
    store: Arc<dyn Store>,
    signing: Arc<Signing>,
    clock: Arc<dyn Clock>,
    guard: Arc<dyn HeadGuard>,
    view: Arc<LedgerView>,
    head: HeadRow,
    last_time: UnixMillis,
    /// Set when a commit's fate is unknown: the head is read again before anything is signed.
    unclear: bool,
}

impl Sequencer {
    /// Takes the ledger over: reads it, checks it against the record outside the database, and
    /// raises the epoch so that an older process can no longer write.
    pub async fn open(
        store: Arc<dyn Store>,
        signing: Arc<Signing>,
        clock: Arc<dyn Clock>,
        guard: Arc<dyn HeadGuard>,
    ) -> Result<Self, GatewayError> {
        let mut unit = store.begin().await?;
        let old = unit.head(signing.origin.as_str()).await?;
        let head = HeadRow { epoch: old.epoch + 1, ..old.clone() };
        unit.swap_head(signing.origin.as_str(), &old, &head).await?;
        unit.commit().await?;

        let (tree, last_time) = load_tree(&*store, &signing.origin).await?;
        if tree.size() != head.size || tree.root() != head.root {
            return Err(GatewayError::broken("the ledger's entries do not give its head"));
        }
        match guard
            .last()
            .map_err(|cause| GatewayError::internal("last-signed-head record", cause))?
        {
            Some((size, _)) if size > tree.size() => {
                return Err(GatewayError::broken(
                    "the database is behind the last signed head: it was restored from a backup",
                ));
            }
            None if tree.size() > 0 => {
                return Err(GatewayError::broken(
                    "the record of the last signed head is missing, and without it a restored \
                     database goes unnoticed: put the file last-signed-head back, or if this \
                     database is surely the latest, run `tulga serve --adopt-head` once",
                ));
            }
            Some((size, root)) if tree.root_at(size).ok() != Some(root) => {
                return Err(GatewayError::broken(
                    "the database holds another history than the one signed",
                ));
            }
            _ => {}
        }
        if clock.now().plus_millis(CLOCK_SKEW_MAX_MS) < last_time {
            return Err(GatewayError::NotReady("the clock is behind the last receipt"));
        }
        // From the first start on: a crash before the first entry's record must not look like a loss.
        guard
            .record(tree.size(), &tree.root())
            .map_err(|cause| GatewayError::internal("last-signed-head record", cause))?;
        let view =
            Arc::new(LedgerView { state: RwLock::new(ViewState { tree, committed: head.size }) });
        Ok(Self { store, signing, clock, guard, view, head, last_time, unclear: false })
    }

    /// The readers' side.
    pub fn view(&self) -> Arc<LedgerView> {
        Arc::clone(&self.view)
    }

    /// Starts the task; it ends when the last handle is gone, after the jobs that wait.
    pub fn spawn(self) -> (SequencerHandle, tokio::task::JoinHandle<()>) {
        let (queue, inbox) = mpsc::channel(QUEUE_MAX);
        (SequencerHandle { queue }, tokio::spawn(self.run(inbox)))
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Ticket>) {
        let mut batch = Vec::new();
        while inbox.recv_many(&mut batch, BATCH_MAX).await > 0 {
            self.serve(std::mem::take(&mut batch)).await;
        }
    }

    async fn serve(&mut self, mut batch: Vec<Ticket>) {
        // Nobody waits for these: their deadline passed while they stood in the queue.
        batch.retain(|ticket| !ticket.reply.is_closed());
        let mut tries = 0;
        while !batch.is_empty() {
            let Failure { error, culprit } = match self.commit_batch(&mut batch).await {
                Ok(logged) => return reply_each(batch, logged.into_iter().map(Ok)),
                Err(failure) => failure,
            };
            if let Some(culprit) = culprit {
                // Its own refusal; the others go again without it.
                let ticket = batch.remove(culprit);
                drop(ticket.reply.send(Err(error)));
            } else if tries == 0 {
                // Perhaps it was committed after all, and the jobs find their entries.
                tries += 1;
            } else {
                let cause = error.to_string();
                let mut errors = vec![error];
                errors.resize_with(batch.len(), || unavailable(&cause));
                return reply_each(batch, errors.into_iter().map(Err));
            }
        }
    }

    /// All or nothing: every job's entry is durable, or none is.
    async fn commit_batch(&mut self, batch: &mut [Ticket]) -> Result<Vec<Logged>, Failure> {
        if self.unclear {
            self.reload().await?;
        }
        // A head that could not be recorded after its commit is due before anything else.
        self.record_head()?;
        let result = self.try_commit(batch).await;
        if let Err(Failure { error, .. }) = &result {
            let size = self.head.size;
            self.view.change(|state| state.tree.truncate(size))?;
            self.unclear = matches!(
                error,
                GatewayError::Store(StoreError::CommitUnclear(_) | StoreError::Conflict)
            );
        }
        result
    }

    async fn try_commit(&mut self, batch: &mut [Ticket]) -> Result<Vec<Logged>, Failure> {
        let now = self.time_of_batch()?;
        let origin = self.signing.origin.as_str().to_owned();
        let mut unit = self.store.begin().await?;
        let mut appended: Vec<EntryRow> = Vec::new();
        let mut places = Vec::with_capacity(batch.len());
        for (position, ticket) in batch.iter_mut().enumerate() {
            if ticket.was_tried
                && let Some(receipt) = ticket.job.receipt()
                && let Some(row) = self.store.entry_by_receipt(&origin, &receipt).await?
            {
                places.push(row.index);
                continue;
            }
            ticket.was_tried = true;
            let index = self.head.size + u64::try_from(appended.len()).unwrap_or(u64::MAX);
            let step = ticket.job.run(&mut *unit, &Slot { index, now }).await;
            match step.map_err(|error| Failure { error, culprit: Some(position) })? {
                Step::Existing(index) => places.push(index),
                Step::Append(entry) => {
                    let of_this = |error| Failure { error, culprit: Some(position) };
                    let row = self.sign(*entry, index, now).map_err(|error| match error {
                        // The key's failure, not the job's: without a key nobody's turn comes.
                        GatewayError::Signing(_) | GatewayError::NotReady(_) => error.into(),
                        error => of_this(error),
                    })?;
                    let inserted = unit.insert_entry(&origin, &row).await;
                    inserted.map_err(|error| of_this(error.into()))?;
                    appended.push(row);
                    places.push(index);
                }
            }
        }
        if appended.is_empty() {
            // Nothing new; what jobs wrote beside entries (a counter) must still be kept.
            unit.commit().await?;
        } else {
            let head = self.append(&appended)?;
            unit.swap_head(&origin, &self.head, &head).await?;
            unit.commit().await?;
            (self.head, self.last_time) = (head, now);
            self.record_head()?;
        }
        let mut logged = Vec::with_capacity(places.len());
        for index in places {
            logged.push(self.logged(index, &appended).await?);
        }
        Ok(logged)
    }

    fn time_of_batch(&self) -> Result<UnixMillis, GatewayError> {
        let now = self.clock.now();
        if now.plus_millis(CLOCK_SKEW_MAX_MS) < self.last_time {
            return Err(GatewayError::NotReady("the clock is behind the last receipt"));
        }
        Ok(now.max(self.last_time))
    }

    fn sign(&self, entry: NewEntry, index: u64, now: UnixMillis) -> Result<EntryRow, GatewayError> {
        let log =
            LogBlock::new(self.signing.origin.as_str(), index, self.head.size, &self.head.root);
        let kind = entry.draft.content.kind().to_owned();
        let body = entry.draft.complete(now, log);
        let key = self.signing.keyring.receipt_key(&self.signing.origin, index, now)?;
        let issue = || receipt::issue(&body, &key.kid, &*key.signer);
        let signed =
            if key.signer.is_remote() { tokio::task::block_in_place(issue) } else { issue() };
        let jws = signed?.into_string();
        let leaf = *leaf_hash(&jws).digest();
        Ok(EntryRow {
            index,
            receipt: entry.receipt,
            kind,
            terminal: entry.terminal,
            time: now,
            jws,
            leaf,
            sealed_audit: entry.sealed_audit,
        })
    }

    /// The head with these entries; the tree holds them, but readers see them after the commit only.
    fn append(&self, entries: &[EntryRow]) -> Result<HeadRow, GatewayError> {
        self.view.change(|state| {
            for entry in entries {
                state.tree.push(LeafHash::new(entry.leaf));
            }
            HeadRow { size: state.tree.size(), root: state.tree.root(), epoch: self.head.epoch }
        })
    }

    /// Records the head outside the database, and only then are its entries proved and answered. Without the
    /// record a restored database would go unnoticed: until it is written nothing is answered.
    fn record_head(&mut self) -> Result<(), GatewayError> {
        let HeadRow { size, root, .. } = &self.head;
        if self.view.read(|_, committed| committed)? == *size {
            return Ok(());
        }
        tokio::task::block_in_place(|| self.guard.record(*size, root))
            .map_err(|cause| GatewayError::internal("last-signed-head record", cause))?;
        self.view.change(|state| state.committed = *size)
    }

    async fn logged(&self, index: u64, fresh: &[EntryRow]) -> Result<Logged, GatewayError> {
        let row = if let Some(row) = fresh.iter().find(|row| row.index == index) {
            row.clone()
        } else {
            let row = self.store.entry(self.signing.origin.as_str(), index).await?;
            row.ok_or(GatewayError::broken("an entry is missing"))?
        };
        Ok(Logged::committed(&self.signing.origin, row))
    }

    /// After a commit whose fate is unknown: what is in the store counts.
    async fn reload(&mut self) -> Result<(), GatewayError> {
        let head = self.store.head(self.signing.origin.as_str()).await?;
        if head.epoch != self.head.epoch {
            return Err(GatewayError::NotReady("another gateway has taken this ledger over"));
        }
        let (tree, last_time) = load_tree(&*self.store, &self.signing.origin).await?;
        if tree.size() != head.size || tree.root() != head.root {
            return Err(GatewayError::broken("the ledger's entries do not give its head"));
        }
        self.guard
            .record(head.size, &head.root)
            .map_err(|cause| GatewayError::internal("last-signed-head record", cause))?;
        self.view.change(|state| *state = ViewState { tree, committed: head.size })?;
        self.head = head;
        self.last_time = self.last_time.max(last_time);
        self.unclear = false;
        Ok(())
    }
}

fn unavailable(cause: &str) -> GatewayError {
    GatewayError::Store(StoreError::Unavailable(cause.into()))
}

fn reply_each(batch: Vec<Ticket>, results: impl Iterator<Item = Result<Logged, GatewayError>>) {
    for (ticket, result) in batch.into_iter().zip(results) {
        // A caller that has gone finds its answer with `GetDecision`.
        drop(ticket.reply.send(result));
    }
}

async fn load_tree(store: &dyn Store, origin: &Origin) -> Result<(Tree, UnixMillis), GatewayError> {
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
    let last = match tree.size().checked_sub(1) {
        Some(index) => store.entry(origin.as_str(), index).await?,
        None => None,
    };
    Ok((tree, last.map_or(UnixMillis::new(0), |row| row.time)))
}

/// Signs the committed head if no kept checkpoint covers it, and keeps it.
pub(super) async fn keep_checkpoint(
    store: &dyn Store,
    signing: &Signing,
    view: &LedgerView,
    now: UnixMillis,
) -> Result<CheckpointRow, GatewayError> {
    let origin = signing.origin.as_str();
    let (size, root) = view.read(|tree, committed| (committed, tree.root_at(committed)))?;
    let latest = store.latest_checkpoint(origin).await?;
    if let Some(row) = latest.filter(|row| row.size >= size) {
        return Ok(row);
    }
    let root: Digest = root.map_err(|cause| GatewayError::internal("ledger", cause))?;
    let key = signing.keyring.ledger_key(&signing.origin, size)?;
    let checkpoint = Checkpoint { origin: signing.origin.clone(), size, root };
    let sign = || checkpoint.sign(&*key);
    let text = if key.is_remote() { tokio::task::block_in_place(sign) } else { sign() }?;
    let row = CheckpointRow { size, text, time: now };
    let mut unit = store.begin().await?;
    unit.insert_checkpoint(origin, &row).await?;
    unit.commit().await?;
    Ok(row)
}
