//! The ledger's witnesses: each new checkpoint is sent to all of them, with a proof that it extends what
//! each has cosigned, and their cosignatures are kept with it. No answer ever waits for a witness.
//!
//! All are sent the same checkpoint until enough have cosigned it, or it has grown too old: then it is the
//! latest one's turn, so that after an outage nothing is caught up but the end. What enough have cosigned
//! is named in the receipts after it; and when that lapses for too long, no more receipts are issued.
//!
//! A witness that has cosigned more than the database holds, or another history, proves that the database
//! was put back from a backup or a snapshot: the gateway does not serve then.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::error::GatewayError;
use super::ledger_view::{LedgerView, load_tree};
use super::postbox::{Postbox, PostboxAnswer, PostboxError};
use crate::clock::Clock;
use crate::crypto::Digest;
use crate::domain::time::UnixMillis;
use crate::ledger::{
    Cosignature, CosignatureError, LogKey, Origin, OutsideTree, QuorumState, SignedNote,
    Submission, Tree, WitnessKey, WitnessPolicy,
};
use crate::receipt;
use crate::store::{CheckpointRow, Store, WitnessedRow};

/// The ledger's witnesses.
#[derive(Debug)]
pub struct Witnesses {
    /// Who they are, and which of them are enough.
    pub policy: WitnessPolicy,
    /// The policy's file, as it is exported behind a line of the ledger's own key.
    pub policy_text: String,
    /// Where each is asked, in the order of the policy.
    pub postboxes: Vec<Arc<dyn Postbox>>,
    /// How long receipts are issued without a quorum; none for as long as it takes.
    pub lapse_max: Option<Duration>,
    /// How long one checkpoint is offered before the latest takes its turn.
    pub patience: Duration,
}

/// What is known of witnesses, for whoever issues.
#[derive(Debug)]
pub(super) struct Witnessing {
    witnesses: Option<Witnesses>,
    lapse_max_ms: Option<i64>,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    /// The latest head that enough witnesses cosigned.
    head: Option<(Origin, WitnessedRow)>,
    /// When enough of them last did, by this gateway's clock.
    fresh: UnixMillis,
    /// Set when a witness holds more, or another history: never reset.
    conflict: bool,
}

impl Witnessing {
    /// Knows nothing yet of what was witnessed: see [`start`]. A ledger that never was is as if it had
    /// been now.
    pub fn new(witnesses: Option<Witnesses>, now: UnixMillis) -> Self {
        let lapse_max = witnesses.as_ref().and_then(|witnesses| witnesses.lapse_max);
        let lapse_max_ms = lapse_max.map(|max| i64::try_from(max.as_millis()).unwrap_or(i64::MAX));
        let state = RwLock::new(State { head: None, fresh: now, conflict: false });
        Self { witnesses, lapse_max_ms, state }
    }

    /// Whether anybody is asked.
    pub const fn has_witnesses(&self) -> bool {
        self.witnesses.is_some()
    }

    /// What a receipt says of witnesses: the latest head of its ledger that they had cosigned.
    pub fn in_receipt(&self, origin: &Origin) -> Option<receipt::Witnessed> {
        let state = self.state.read().ok()?;
        let (_, head) = state.head.as_ref().filter(|(of, _)| of == origin)?;
        Some(receipt::Witnessed { size: head.size, time: head.time.rfc3339() })
    }

    /// Whether receipts may be issued.
    pub fn require(&self, now: UnixMillis) -> Result<(), GatewayError> {
        let state = self.state.read().map_err(|_| GatewayError::broken("witnesses' lock"))?;
        if state.conflict {
            return Err(GatewayError::NotReady("a witness holds another history of the ledger"));
        }
        match self.lapse_max_ms {
            Some(max) if state.fresh.plus_millis(max) < now => {
                Err(GatewayError::NotReady("witnesses have not cosigned the ledger for too long"))
            }
            _ => Ok(()),
        }
    }

    /// The exported policy: the ledger's key, and the configured file.
    pub fn policy_file(&self, ledger: &LogKey) -> Option<String> {
        let witnesses = self.witnesses.as_ref()?;
        Some(format!("log {ledger}\n{}", witnesses.policy_text))
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        // A lock that a panic has poisoned: `require` refuses from then on.
        if let Ok(mut state) = self.state.write() {
            change(&mut state);
        }
    }
}

/// What the clerk of witnesses works on.
pub(super) struct Office {
    pub store: Arc<dyn Store>,
    pub view: Arc<LedgerView>,
    pub clock: Arc<dyn Clock>,
    pub witnessing: Arc<Witnessing>,
    pub interval: Duration,
}

/// The tasks of witnesses; they end when they are aborted.
#[derive(Debug, Default)]
pub(super) struct WitnessTasks(Vec<JoinHandle<()>>);

impl WitnessTasks {
    pub fn abort(&self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Office {
    /// The checkpoint to show next: that of the open ledger, and where another was closed before it that
    /// nobody has seen the end of, the two in turns.
    async fn due(&self, shown: Option<&Origin>) -> Result<Option<Due>, GatewayError> {
        let (ledgers, _) = self.view.recorded()?;
        if let Some(closed) = ledgers.closed().last()
            && shown != Some(&closed.origin)
        {
            let seen = self.store.witnessed(closed.origin.as_str()).await?;
            if seen.is_none_or(|seen| seen.size < closed.size) {
                let row = self.store.latest_checkpoint(closed.origin.as_str()).await?;
                return Ok(row.map(|row| Due { origin: closed.origin.clone(), row }));
            }
        }
        let row = self.store.latest_checkpoint(ledgers.open().as_str()).await?;
        Ok(row.map(|row| Due { origin: ledgers.open().clone(), row }))
    }
}

/// A ledger's latest checkpoint.
#[derive(Clone, Debug)]
struct Due {
    origin: Origin,
    row: CheckpointRow,
}

/// A checkpoint that all are offered.
#[derive(Clone, Debug)]
struct Offer {
    /// Offers are numbered; the same checkpoint may be offered again.
    round: u64,
    due: Arc<Due>,
}

/// What came of an offer.
struct Report {
    place: usize,
    round: u64,
    visit: Visit,
    at: UnixMillis,
}

/// What a witness said.
#[derive(Debug)]
enum Visit {
    /// It cosigned; whether its clock agrees with this gateway's.
    Cosigned(Cosignature, bool),
    /// It has cosigned more than this ledger holds.
    Ahead(u64),
    /// It has cosigned another history.
    Conflict,
}

/// Asks every witness once, before anything is served, and then starts the tasks.
///
/// # Errors
///
/// When a witness proves that the database was put back. One that does not answer is no reason.
pub(super) async fn start(office: Arc<Office>) -> Result<WitnessTasks, GatewayError> {
    let Some(witnesses) = &office.witnessing.witnesses else { return Ok(WitnessTasks::default()) };
    let (ledgers, _) = office.view.recorded()?;
    let open = ledgers.open();
    if let Some(head) = office.store.witnessed(open.as_str()).await? {
        office.witnessing.change(|state| {
            state.fresh = head.time;
            state.head = Some((open.clone(), head));
        });
    }
    let row = office.store.latest_checkpoint(open.as_str()).await?;
    let row = row.ok_or(GatewayError::broken("the ledger has no checkpoint"))?;
    let offer = Offer { round: 0, due: Arc::new(Due { origin: open.clone(), row }) };
    let mut visits = JoinSet::new();
    for (place, postbox) in witnesses.postboxes.iter().enumerate() {
        let mut visitor = Visitor::new(&office, place, Arc::clone(postbox))?;
        let offer = offer.clone();
        visits.spawn(async move { (visitor.visit(&offer).await, visitor) });
    }
    let mut clerk = Clerk::new(Arc::clone(&office), offer);
    let (mut visitors, mut reports) = (Vec::new(), Vec::new());
    while let Some(visited) = visits.join_next().await {
        let (visit, mut visitor) =
            visited.map_err(|cause| GatewayError::internal("a witness's task", cause))?;
        match visit {
            Ok(visit @ (Visit::Ahead(_) | Visit::Conflict)) => {
                let witness = visitor.key.name().clone();
                return Err(GatewayError::internal(RESTORED, Restored { witness, visit }));
            }
            Ok(visit) => reports.push(visitor.report(&clerk.offer, visit)),
            Err(fault) => visitor.complain(&fault),
        }
        visitors.push(visitor);
    }
    clerk.take(reports).await;
    let (offers, offered) = watch::channel(clerk.offer.clone());
    let (reports, inbox) = mpsc::channel(REPORTS_MAX);
    let mut tasks: Vec<_> = visitors
        .into_iter()
        .map(|visitor| tokio::spawn(visitor.attend(offered.clone(), reports.clone())))
        .collect();
    tasks.push(tokio::spawn(clerk.work(offers, inbox)));
    Ok(WitnessTasks(tasks))
}

/// Chooses what is offered, and keeps what comes back.
struct Clerk {
    office: Arc<Office>,
    offer: Offer,
    offered_at: Instant,
    /// The offered checkpoint with the cosignatures that came in.
    note: String,
    /// Who cosigned in this round, when, by this gateway's clock.
    seen: Vec<(usize, UnixMillis)>,
    reached_at: Option<Instant>,
    was_refused: bool,
}

impl Clerk {
    fn new(office: Arc<Office>, offer: Offer) -> Self {
        let note = offer.due.row.text.clone();
        let was_refused = false;
        let (offered_at, seen, reached_at) = (Instant::now(), Vec::new(), None);
        Self { office, offer, offered_at, note, seen, reached_at, was_refused }
    }

    async fn work(mut self, offers: watch::Sender<Offer>, mut inbox: mpsc::Receiver<Report>) {
        let mut tick = tokio::time::interval(self.office.interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut reports = Vec::new();
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                count = inbox.recv_many(&mut reports, REPORTS_MAX) => {
                    if count == 0 {
                        return;
                    }
                    // What comes together is kept together.
                    tokio::time::sleep(GATHER).await;
                    while let Ok(report) = inbox.try_recv() {
                        reports.push(report);
                    }
                    self.take(std::mem::take(&mut reports)).await;
                }
            }
            self.say_whether_issuing();
            match self.next_offer().await {
                Ok(Some(due)) => {
                    self.offer = Offer { round: self.offer.round + 1, due: Arc::new(due) };
                    self.note.clone_from(&self.offer.due.row.text);
                    (self.offered_at, self.reached_at) = (Instant::now(), None);
                    self.seen.clear();
                    offers.send_replace(self.offer.clone());
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(error = %error, "no checkpoint was found for the witnesses");
                }
            }
        }
    }

    /// The checkpoint to offer now, if it is another's turn.
    async fn next_offer(&self) -> Result<Option<Due>, GatewayError> {
        let is_over = self.reached_at.is_some() || self.offered_at.elapsed() >= self.patience();
        if !is_over {
            return Ok(None);
        }
        let shown = &self.offer.due;
        let due = self.office.due(Some(&shown.origin)).await?;
        let is_again = self.reached_at.is_none_or(|at| at.elapsed() >= self.renewal());
        Ok(due
            .filter(|due| is_again || due.origin != shown.origin || due.row.size > shown.row.size))
    }

    fn patience(&self) -> Duration {
        self.office.witnessing.witnesses.as_ref().map_or(RENEWAL_MAX, |it| it.patience)
    }

    /// A ledger that rests is shown again, so that cosignatures do not lapse.
    fn renewal(&self) -> Duration {
        let lapse_max = self.office.witnessing.witnesses.as_ref().and_then(|it| it.lapse_max);
        lapse_max.map_or(RENEWAL_MAX, |max| (max / 4).min(RENEWAL_MAX))
    }

    async fn take(&mut self, reports: Vec<Report>) {
        let mut lines = Vec::new();
        for Report { place, round, visit, at } in reports {
            match visit {
                Visit::Cosigned(cosignature, is_in_time) if round == self.offer.round => {
                    if is_in_time {
                        self.seen.push((place, at));
                    }
                    lines.extend(self.fresh_line(place, cosignature));
                }
                // The turn of that checkpoint is over.
                Visit::Cosigned(..) => {}
                Visit::Ahead(_) | Visit::Conflict => {
                    self.office.witnessing.change(|state| state.conflict = true);
                    tracing::error!(witness = place, said = ?visit, "{RESTORED}");
                }
            }
        }
        if let Err(error) = self.keep(&lines).await {
            tracing::error!(code = error.code(), error = %error, "cosignatures were not kept");
            return;
        }
        self.count();
    }

    /// The line to be kept, unless the witness had cosigned this checkpoint before.
    fn fresh_line(&self, place: usize, cosignature: Cosignature) -> Option<String> {
        let policy = &self.office.witnessing.witnesses.as_ref()?.policy;
        let key = &policy.witnesses().get(place)?.key;
        let note = SignedNote::parse(&self.note).ok()?;
        let is_known = key.cosigned_at(&note).is_ok_and(|time| time.is_some());
        (!is_known).then_some(cosignature.line)
    }

    /// Keeps cosignatures with their checkpoint; and with the one that makes them enough, that they are.
    async fn keep(&mut self, lines: &[String]) -> Result<(), GatewayError> {
        let Some(witnesses) = &self.office.witnessing.witnesses else { return Ok(()) };
        if lines.is_empty() {
            return Ok(());
        }
        let note = format!("{}{}", self.note, lines.concat());
        let (origin, size) = (&self.offer.due.origin, self.offer.due.row.size);
        let known = self.office.store.witnessed(origin.as_str()).await?;
        let head = witnesses
            .policy
            .witnessed_at(&note)
            .map(|time| WitnessedRow { size, time })
            .filter(|head| known.is_none_or(|known| known.size < head.size));
        let mut unit = self.office.store.begin().await?;
        for line in lines {
            unit.add_cosignature(origin.as_str(), size, line).await?;
        }
        if let Some(head) = &head {
            unit.put_witnessed(origin.as_str(), head).await?;
        }
        unit.commit().await?;
        self.note = note;
        let is_open = self.office.view.read(|open, _, _| open == origin)?;
        if let Some(head) = head.filter(|_| is_open) {
            let head = Some((origin.clone(), head));
            self.office.witnessing.change(|state| state.head = head);
        }
        Ok(())
    }

    /// Whether enough have cosigned in this round.
    fn count(&mut self) {
        let Some(witnesses) = &self.office.witnessing.witnesses else { return };
        let is_enough = match witnesses.policy.state(&self.seen) {
            QuorumState::Reached(_) => true,
            QuorumState::Missing => false,
            // Nothing lapses that nobody asks for.
            QuorumState::NotAsked => !self.seen.is_empty(),
        };
        if is_enough && self.reached_at.is_none() {
            self.reached_at = Some(Instant::now());
            let now = self.office.clock.now();
            self.office.witnessing.change(|state| state.fresh = state.fresh.max(now));
        }
    }

    fn say_whether_issuing(&mut self) {
        let refused = self.office.witnessing.require(self.office.clock.now());
        match (&refused, self.was_refused) {
            (Err(why), false) => {
                tracing::error!(code = why.code(), error = %why, "no more receipts are issued");
            }
            (Ok(()), true) => tracing::info!("receipts are issued again: witnesses cosign"),
            _ => {}
        }
        self.was_refused = refused.is_err();
    }
}

/// Speaks to one witness.
struct Visitor {
    place: usize,
    key: WitnessKey,
    postbox: Arc<dyn Postbox>,
    office: Arc<Office>,
    /// The ledger shown last.
    origin: Origin,
    /// The size of it that was cosigned last, as far as is known.
    known: u64,
    /// Whether the last visit failed: said once.
    failing: bool,
}

impl Visitor {
    fn new(
        office: &Arc<Office>,
        place: usize,
        postbox: Arc<dyn Postbox>,
    ) -> Result<Self, GatewayError> {
        let witnesses = office.witnessing.witnesses.as_ref();
        let record = witnesses.and_then(|it| it.policy.witnesses().get(place));
        let record = record.ok_or(GatewayError::broken("a witness without a record"))?;
        Ok(Self {
            place,
            key: record.key.clone(),
            postbox,
            office: Arc::clone(office),
            origin: office.view.read(|open, _, _| open.clone())?,
            known: 0,
            failing: false,
        })
    }

    /// Shows each offer; one that failed again after a while, unless another has come meanwhile.
    async fn attend(mut self, mut offers: watch::Receiver<Offer>, reports: mpsc::Sender<Report>) {
        let mut pause = self.office.interval;
        loop {
            if self.failing {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            } else {
                pause = self.office.interval;
                if offers.changed().await.is_err() {
                    return;
                }
            }
            let offer = offers.borrow_and_update().clone();
            match self.visit(&offer).await {
                Ok(visit) => {
                    if self.failing {
                        tracing::info!(witness = %self.key.name(), "a witness answers again");
                    }
                    self.failing = false;
                    if reports.send(self.report(&offer, visit)).await.is_err() {
                        return;
                    }
                }
                Err(fault) => self.complain(&fault),
            }
        }
    }

    fn report(&self, offer: &Offer, visit: Visit) -> Report {
        Report { place: self.place, round: offer.round, visit, at: self.office.clock.now() }
    }

    /// Says it once, until the witness answers again.
    fn complain(&mut self, fault: &VisitError) {
        let (witness, address) = (self.key.name(), self.postbox.address());
        if self.failing {
            tracing::debug!(%witness, %address, error = ?fault, "a witness still fails");
        } else {
            tracing::warn!(%witness, %address, error = ?fault, "a witness did not cosign");
        }
        self.failing = true;
    }

    /// Asks for a cosignature, twice where the witness had cosigned another size than was believed.
    async fn visit(&mut self, offer: &Offer) -> Result<Visit, VisitError> {
        let Due { origin, row } = &*offer.due;
        if self.origin != *origin {
            (self.origin, self.known) = (origin.clone(), 0);
        }
        let size = row.size;
        for _ in 0..2 {
            if self.known > size {
                // Of another process's making, or of an offer that was over: the next one is larger.
                return Err(VisitError::Later);
            }
            let submission = Submission {
                old_size: self.known,
                proof: self.proof(self.known, size).await?,
                note: row.text.clone(),
            };
            let sent = self.office.clock.now();
            let answer = self.postbox.post(TEXT, submission.to_text().into_bytes()).await?;
            match (answer.status, size_of(&answer)) {
                (200, _) => {
                    let cosigned = self.cosignature(offer, &answer, sent)?;
                    self.known = size;
                    return Ok(cosigned);
                }
                (409, Some(theirs)) if theirs == self.known => {
                    // The same size: then the roots differ.
                    let is_same = self.known == size;
                    return if is_same { Ok(Visit::Conflict) } else { Err(VisitError::Unclear) };
                }
                (409, Some(theirs)) if theirs > self.committed()? => {
                    return Ok(Visit::Ahead(theirs));
                }
                (409, Some(theirs)) => self.known = theirs,
                // The proof is of this ledger's own tree: it is the witness's that is another.
                (422, _) if self.known > 0 => return Ok(Visit::Conflict),
                (status, _) => return Err(VisitError::Refused(status)),
            }
        }
        Err(VisitError::Unclear)
    }

    fn cosignature(
        &self,
        offer: &Offer,
        answer: &PostboxAnswer,
        sent: UnixMillis,
    ) -> Result<Visit, VisitError> {
        let note = SignedNote::parse(&offer.due.row.text).map_err(CosignatureError::from)?;
        let body = std::str::from_utf8(&answer.body).map_err(|_| CosignatureError::Missing)?;
        let cosignature = self.key.read_answer(note.unverified_text(), body)?;
        let (earliest, latest) = (
            // Cosignatures tell whole seconds.
            sent.plus_millis(-CLOCK_SKEW_MAX_MS - 1_000),
            self.office.clock.now().plus_millis(CLOCK_SKEW_MAX_MS),
        );
        let is_in_time = (earliest..=latest).contains(&cosignature.time);
        if !is_in_time {
            let (witness, theirs) = (self.key.name(), cosignature.time.rfc3339());
            tracing::error!(%witness, %theirs, ours = %latest.rfc3339(), "the clocks of a witness and of this gateway differ");
        }
        Ok(Visit::Cosigned(cosignature, is_in_time))
    }

    async fn proof(&self, old: u64, new: u64) -> Result<Vec<Digest>, VisitError> {
        let open = self
            .office
            .view
            .read(|open, tree, _| (*open == self.origin).then(|| tree.consistency(old, new)))?;
        if let Some(proof) = open {
            return Ok(proof?);
        }
        // Of a closed ledger the end is shown, once.
        let (tree, _) = load_tree(&*self.office.store, &self.origin).await?;
        Ok(tree.consistency(old, new)?)
    }

    /// How many entries the ledger has that is being shown.
    fn committed(&self) -> Result<u64, VisitError> {
        let open = |open: &Origin, _: &Tree, committed| (*open == self.origin).then_some(committed);
        if let Some(committed) = self.office.view.read(open)? {
            return Ok(committed);
        }
        let (ledgers, _) = self.office.view.recorded()?;
        let closed = ledgers.closed().iter().find(|shard| shard.origin == self.origin);
        Ok(closed.map_or(0, |shard| shard.size))
    }
}

/// The size in a conflict's answer.
fn size_of(answer: &PostboxAnswer) -> Option<u64> {
    if answer.content_type != "text/x.tlog.size" {
        return None;
    }
    let text = std::str::from_utf8(&answer.body).ok()?.strip_suffix('\n')?;
    let size: u64 = text.parse().ok()?;
    (size.to_string() == text).then_some(size)
}

/// No cosignature this time.
#[derive(Debug, thiserror::Error)]
enum VisitError {
    #[error("the witness cannot be asked")]
    Postbox(#[from] PostboxError),
    #[error("the witness answered with the status {0}")]
    Refused(u16),
    #[error("the witness's answer is no cosignature")]
    Answer(#[from] CosignatureError),
    #[error("the witness contradicts itself")]
    Unclear,
    #[error("the witness knows more than was offered")]
    Later,
    #[error("the ledger cannot be read")]
    Ledger(#[from] GatewayError),
    #[error("the ledger does not reach that far")]
    Outside(#[from] OutsideTree),
}

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
#[error("the witness {witness} says: {}", said(.visit))]
struct Restored {
    witness: Origin,
    visit: Visit,
}

fn said(visit: &Visit) -> String {
    match visit {
        Visit::Ahead(size) => format!("it has cosigned {size} entries, the database has fewer"),
        _ => "it has cosigned another history than the database's".to_owned(),
    }
}

const RESTORED: &str = "a witness has cosigned what this database does not hold: the database was put back \
    from a backup or a snapshot, or another ledger has this one's name and key. Put the latest database in \
    its place; where it is lost, begin a new ledger under another `identity.origin`";

/// Reports that wait for the clerk.
const REPORTS_MAX: usize = 256;
/// How long the clerk waits for more reports before it keeps what came.
const GATHER: Duration = Duration::from_millis(20);
/// Longest pause before a witness that fails is asked again.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Longest time until a ledger that rests is shown again.
const RENEWAL_MAX: Duration = Duration::from_mins(1);
/// How far a witness's clock may stand from this gateway's: the skew of the published bound.
const CLOCK_SKEW_MAX_MS: i64 = 5_000;
const TEXT: &str = "text/plain; charset=utf-8";
