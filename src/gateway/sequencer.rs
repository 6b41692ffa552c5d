//! One place where a decision becomes durable.
//!
//! One task takes whatever waits. There is no timer: while one commit runs, the next batch gathers.
//! For each batch it opens one write transaction, lets each [`Job`] read, decide and write in it,
//! signs a receipt for each entry, moves the head by compare-and-swap, commits, records the head
//! outside the database, and only then replies. A job decides inside the transaction: that is what
//! makes limits hold when many terminals ask at one moment.
//!
//! The first batch of a half-year closes the ledger and opens the next one, in its own transaction
//! ([`super::roll_over`]).
//!
//! A job that is refused costs the batch nothing but time: the transaction is dropped and the other
//! jobs run again in another.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use super::error::GatewayError;
use super::guard::{HeadGuard, SignedHead};
use super::ledger_view::{LedgerView, ViewState, load_ledgers, load_tree};
use super::ledgers::Ledgers;
use super::request::Logged;
use super::roll_over::{Ground, Signing, Unsigned, ledger_opened, sign_all};
use crate::clock::Clock;
use crate::domain::id::{ReceiptId, TerminalId};
use crate::domain::time::UnixMillis;
use crate::ledger::{LeafHash, LogPosition, Tree};
use crate::receipt::{ReceiptDraft, Refers};
use crate::store::{EntryRow, HeadRow, Store, StoreError, UnitOfWork};

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

/// Makes no entry: its answer comes once the entry of the place is recorded as the head's.
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
    /// The entry's place among the entries of all the gateway's ledgers.
    pub place: u64,
    /// The entry's time.
    pub now: UnixMillis,
    /// The ledgers as they will be with it.
    pub ledgers: Arc<Ledgers>,
}

impl Slot {
    /// The entry's ledger, and its index there.
    pub fn position(&self) -> LogPosition {
        self.ledgers.position(self.place)
    }

    /// How a receipt names the entry of a place.
    pub fn refers(&self, receipt: &ReceiptId, place: u64) -> Refers {
        Refers::to(receipt, self.ledgers.position(place))
    }
}

/// What a job came to.
pub(super) enum Step {
    /// A new entry.
    Append(Box<NewEntry>),
    /// The entry exists, at this place: the same was asked before.
    Existing(u64),
}

/// An entry before it has its place and signature.
pub(super) struct NewEntry {
    pub receipt: ReceiptId,
    pub terminal: Option<TerminalId>,
    pub draft: ReceiptDraft,
    pub sealed_audit: Option<Vec<u8>>,
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

/// The task that owns the ledger's head.
#[derive(Debug)]
pub(super) struct Sequencer {
    store: Arc<dyn Store>,
    signing: Arc<Signing>,
    clock: Arc<dyn Clock>,
    guard: Arc<dyn HeadGuard>,
    view: Arc<LedgerView>,
    ledgers: Arc<Ledgers>,
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
        let ledgers = match load_ledgers(&*store).await? {
            Some(ledgers) => ledgers,
            None => Ledgers::new(Vec::new(), signing.first_ledger(clock.now())?),
        };
        let origin = ledgers.open();
        let mut unit = store.begin().await?;
        let old = unit.head(origin.as_str()).await?;
        let head = HeadRow { epoch: old.epoch + 1, ..old.clone() };
        unit.swap_head(origin.as_str(), &old, &head).await?;
        unit.commit().await?;

        let (tree, last_time) = load_tree(&*store, origin).await?;
        if tree.size() != head.size || tree.root() != head.root {
            return Err(GatewayError::broken("the ledger's entries do not give its head"));
        }
        let broken = |cause| GatewayError::internal("last-signed-head record", cause);
        let record = guard.last().map_err(broken)?;
        require_record(record.as_ref(), &ledgers, &tree)?;
        if clock.now().plus_millis(CLOCK_SKEW_MAX_MS) < last_time {
            return Err(GatewayError::NotReady("the clock is behind the last receipt"));
        }
        // From the first start on: a crash before the first entry's record must not look like a loss.
        guard.record(&signed_head(&ledgers, &head)).map_err(broken)?;
        let ledgers = Arc::new(ledgers);
        let state = ViewState { ledgers: Arc::clone(&ledgers), tree, committed: head.size };
        let view = Arc::new(LedgerView::new(state));
        Ok(Self { store, signing, clock, guard, view, ledgers, head, last_time, unclear: false })
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
        let ground = Ground::of(&self.signing, &self.ledgers, &self.head, now)?;
        let mut unit = self.store.begin().await?;
        let Ran { entries, places } = self.run_jobs(&mut *unit, batch, &ground, now).await?;
        let mut appended = Vec::new();
        if entries.is_empty() {
            // Nothing new; what jobs wrote beside entries (a counter) must still be kept.
            unit.commit().await?;
        } else {
            appended = tokio::task::block_in_place(|| {
                sign_all(&self.signing, &ground, entries, now)
                    .map_err(|Unsigned { error, job }| Failure { error, culprit: job })
            })?;
            ground.close(&mut *unit, &self.signing, &self.head, now).await?;
            let origin = ground.ledgers.open().as_str();
            let (head, next_tree) = self.append(&ground, &appended)?;
            unit.insert_entries(origin, &appended).await?;
            unit.swap_head(origin, &ground.prior, &head).await?;
            unit.commit().await?;
            (self.head, self.last_time) = (head, now);
            if let Some(tree) = next_tree {
                self.ledgers = Arc::clone(&ground.ledgers);
                let ledgers = Arc::clone(&ground.ledgers);
                self.view.change(|state| *state = ViewState { ledgers, tree, committed: 0 })?;
            }
            self.record_head()?;
        }
        let mut logged = Vec::with_capacity(places.len());
        for place in places {
            logged.push(self.logged(place, &appended).await?);
        }
        Ok(logged)
    }

    /// Lets each job read, decide and write.
    async fn run_jobs(
        &self,
        unit: &mut dyn UnitOfWork,
        batch: &mut [Ticket],
        ground: &Ground,
        now: UnixMillis,
    ) -> Result<Ran, Failure> {
        let mut entries = Vec::with_capacity(batch.len() + 1);
        if ground.prior.size == 0 {
            entries.push((None, ledger_opened(&self.signing, ground, now)?));
        }
        let opening = entries.len();
        let mut places = Vec::with_capacity(batch.len());
        for (position, ticket) in batch.iter_mut().enumerate() {
            if ticket.was_tried
                && let Some(receipt) = ticket.job.receipt()
                && let Some(place) = self.place_of(&receipt).await?
            {
                places.push(place);
                continue;
            }
            ticket.was_tried = true;
            let place = ground.begin() + u64::try_from(entries.len()).unwrap_or(u64::MAX);
            let slot = Slot { place, now, ledgers: Arc::clone(&ground.ledgers) };
            let step = ticket.job.run(unit, &slot).await;
            match step.map_err(|error| Failure { error, culprit: Some(position) })? {
                Step::Existing(place) => places.push(place),
                Step::Append(entry) => {
                    entries.push((Some(position), *entry));
                    places.push(place);
                }
            }
        }
        if entries.len() == opening {
            // A ledger is opened by what happens in it.
            entries.clear();
        }
        Ok(Ran { entries, places })
    }

    /// The place of a receipt that an earlier try of its job may have entered: in the open ledger, or
    /// in the one that was open then.
    async fn place_of(&self, receipt: &ReceiptId) -> Result<Option<u64>, GatewayError> {
        let origins: Vec<_> = self.ledgers.origins().collect();
        for origin in origins.into_iter().rev().take(2) {
            if let Some(row) = self.store.entry_by_receipt(origin.as_str(), receipt).await? {
                return Ok(self.ledgers.place(origin, row.index));
            }
        }
        Ok(None)
    }

    fn time_of_batch(&self) -> Result<UnixMillis, GatewayError> {
        let now = self.clock.now();
        self.signing.witnessing.require(now)?;
        if now.plus_millis(CLOCK_SKEW_MAX_MS) < self.last_time {
            return Err(GatewayError::NotReady("the clock is behind the last receipt"));
        }
        Ok(now.max(self.last_time))
    }

    /// The head with these entries, and the tree where it is a new ledger's. The open ledger's tree
    /// holds them at once, but readers see them after the commit only.
    fn append(
        &self,
        ground: &Ground,
        entries: &[EntryRow],
    ) -> Result<(HeadRow, Option<Tree>), GatewayError> {
        let leaves = entries.iter().map(|entry| LeafHash::new(entry.leaf));
        let epoch = self.head.epoch;
        let head_of = |tree: &Tree| HeadRow { size: tree.size(), root: tree.root(), epoch };
        if ground.closing.is_some() {
            let tree: Tree = leaves.collect();
            return Ok((head_of(&tree), Some(tree)));
        }
        let head = self.view.change(|state| {
            leaves.for_each(|leaf| state.tree.push(leaf));
            head_of(&state.tree)
        })?;
        Ok((head, None))
    }

    /// Records the head outside the database, and only then are its entries proved and answered. Without the
    /// record a restored database would go unnoticed: until it is written nothing is answered.
    fn record_head(&mut self) -> Result<(), GatewayError> {
        let size = self.head.size;
        if self.view.read(|_, _, committed| committed)? == size {
            return Ok(());
        }
        let head = signed_head(&self.ledgers, &self.head);
        tokio::task::block_in_place(|| self.guard.record(&head))
            .map_err(|cause| GatewayError::internal("last-signed-head record", cause))?;
        self.view.change(|state| state.committed = size)
    }

    async fn logged(&self, place: u64, fresh: &[EntryRow]) -> Result<Logged, GatewayError> {
        let position = self.ledgers.position(place);
        let at = fresh.first().and_then(|first| position.index.checked_sub(first.index));
        let at = at.filter(|_| position.origin == *self.ledgers.open());
        let row = at.and_then(|at| fresh.get(usize::try_from(at).ok()?));
        let jws = if let Some(row) = row {
            row.jws.clone()
        } else {
            let row = self.store.entry(position.origin.as_str(), position.index).await?;
            row.ok_or(GatewayError::broken("an entry is missing"))?.jws
        };
        Ok(Logged::committed(position, place, jws))
    }

    /// After a commit whose fate is unknown: what is in the store counts.
    async fn reload(&mut self) -> Result<(), GatewayError> {
        let taken = GatewayError::NotReady("another gateway has taken this ledger over");
        let Some(ledgers) = load_ledgers(&*self.store).await? else { return Err(taken) };
        let head = self.store.head(ledgers.open().as_str()).await?;
        if head.epoch != self.head.epoch {
            return Err(taken);
        }
        let (tree, last_time) = load_tree(&*self.store, ledgers.open()).await?;
        if tree.size() != head.size || tree.root() != head.root {
            return Err(GatewayError::broken("the ledger's entries do not give its head"));
        }
        // Whoever shortened the database while it was open must not have the record follow them.
        let last = self.guard.last();
        let last =
            last.map_err(|cause| GatewayError::internal("last-signed-head record", cause))?;
        require_record(last.as_ref(), &ledgers, &tree)?;
        self.guard
            .record(&signed_head(&ledgers, &head))
            .map_err(|cause| GatewayError::internal("last-signed-head record", cause))?;
        self.ledgers = Arc::new(ledgers);
        let ledgers = Arc::clone(&self.ledgers);
        self.view.change(|state| *state = ViewState { ledgers, tree, committed: head.size })?;
        self.head = head;
        self.last_time = self.last_time.max(last_time);
        self.unclear = false;
        Ok(())
    }
}

/// What the jobs of a batch came to.
struct Ran {
    /// What is new, with the place of its job in the batch.
    entries: Vec<(Option<usize>, NewEntry)>,
    /// For each job, the place of its entry.
    places: Vec<u64>,
}

/// Refuses a ledger that is not the one whose head was signed last, or behind it.
fn require_record(
    record: Option<&SignedHead>,
    ledgers: &Ledgers,
    tree: &Tree,
) -> Result<(), GatewayError> {
    const BEHIND: GatewayError = GatewayError::broken(
        "the database is behind the last signed head: it was restored from a backup",
    );
    let Some(SignedHead { origin, size, root, .. }) = record else {
        if ledgers.begin() + tree.size() == 0 {
            return Ok(());
        }
        return Err(GatewayError::broken(
            "the record of the last signed head is missing, and without it a restored \
             database goes unnoticed: put the file last-signed-head back, or if this \
             database is surely the latest, run `tulga serve --adopt-head` once",
        ));
    };
    let another =
        || Err(GatewayError::broken("the database holds another history than the one signed"));
    // The batch that opened the present ledger may have been the last one before a crash: then the head
    // before it is the closed ledger's.
    let closed = ledgers.closed().last().filter(|last| *origin == Some(last.origin.digest()));
    if let Some(last) = closed {
        return match size.cmp(&last.size) {
            std::cmp::Ordering::Equal if *root == last.root => Ok(()),
            std::cmp::Ordering::Greater => Err(BEHIND),
            _ => another(),
        };
    }
    // A record of an older form does not say of which ledger it is: then there was one only.
    if origin.is_some_and(|origin| origin != ledgers.open().digest()) || *size > tree.size() {
        return Err(BEHIND);
    }
    if tree.root_at(*size).ok() == Some(*root) { Ok(()) } else { another() }
}

fn signed_head(ledgers: &Ledgers, head: &HeadRow) -> SignedHead {
    SignedHead {
        origin: Some(ledgers.open().digest()),
        entries: ledgers.begin() + head.size,
        size: head.size,
        root: head.root,
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
