//! A store in memory for tests, which fails when it is told to.

mod attempts;
mod cases;
mod confirmations;
mod consents;
mod evidence;
mod footage;
mod guests;
mod keks;
mod ledgers;
mod movements;
mod packs;
mod past;
mod principals;
mod prints;
mod proposals;
mod registers;
mod sealing;
mod sensors;
mod unable;
mod verifications;
mod witnesses;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::OwnedMutexGuard;

use super::{
    ActivationRow, AppKeyRow, CaptureRow, CaseEvidenceRow, CaseRow, ChallengeRow, ChallengeState,
    CheckpointRow, ConfirmationRow, CustomerKeyRow, CustomerRow, CustomerStatus, DecisionRow,
    DuplicateRow, EntryFilter, EntryRow, GUESTS_OF_NUMBER_MAX, GuestRow, HeadRow, OutcomeRow,
    PackRow, RedemptionRow, RegisterRow, RegisterValueRow, Store, StoreError, TerminalKeyRow,
    TokenRow, UnableRow, UnitOfWork,
};
use crate::crypto::Digest;
use crate::domain::decision::RuleId;
use crate::domain::id::{
    CaptureId, CaptureKeyId, CaseId, CaseReference, ConfirmationId, CustomerId, ProposalId,
    ReceiptId, SensorKeyId, TerminalId,
};
use crate::domain::register::Register;
use crate::domain::time::UnixMillis;
use crate::domain::transaction::DecisionKey;

/// What goes wrong. Each fault strikes once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// [`Store::begin`] answers [`StoreError::Unavailable`].
    Begin,
    /// A question to the [`Store`] answers [`StoreError::Unavailable`].
    Read,
    /// A method of a [`UnitOfWork`] answers [`StoreError::Unavailable`].
    Write,
    /// A commit answers [`StoreError::Unavailable`]; nothing was kept.
    BeforeCommit,
    /// A commit answers [`StoreError::CommitUnclear`]; nothing was kept.
    CommitLost,
    /// A commit answers [`StoreError::CommitUnclear`]; all was kept.
    AfterCommit,
}

/// A store in memory; clones are the same store, as two processes on one disk are.
#[derive(Clone, Default)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    committed: Mutex<Arc<State>>,
    /// Faults to come, each with the number of operations of its kind that still succeed.
    script: Mutex<VecDeque<(u32, Fault)>>,
    writer: Arc<tokio::sync::Mutex<()>>,
}

impl MemoryStore {
    /// The next operation of the fault's kind fails.
    pub fn fail_next(&self, fault: Fault) {
        self.fail_after(0, fault);
    }

    /// `successes` operations of the fault's kind succeed; the one after them fails.
    pub fn fail_after(&self, successes: u32, fault: Fault) {
        lock(&self.shared.script).push_back((successes, fault));
    }

    /// Whether every fault has struck.
    #[must_use]
    pub fn script_is_done(&self) -> bool {
        lock(&self.shared.script).is_empty()
    }

    fn read(&self) -> Result<Arc<State>, StoreError> {
        self.shared.strike(&[Fault::Read])?;
        Ok(Arc::clone(&lock(&self.shared.committed)))
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryStore")
    }
}

impl Shared {
    /// The first fault of these kinds whose turn it is; all of the kind come one step nearer.
    fn due(&self, kinds: &[Fault]) -> Option<Fault> {
        let mut script = lock(&self.script);
        let due = script.iter().position(|(left, fault)| *left == 0 && kinds.contains(fault));
        for (left, fault) in script.iter_mut() {
            if kinds.contains(fault) {
                *left = left.saturating_sub(1);
            }
        }
        due.and_then(|place| script.remove(place)).map(|(_, fault)| fault)
    }

    fn strike(&self, kinds: &[Fault]) -> Result<(), StoreError> {
        self.due(kinds).map_or(Ok(()), |_| Err(StoreError::Unavailable("scripted".into())))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Default)]
struct State {
    terminal_keys: BTreeMap<Digest, TerminalKeyRow>,
    customers: BTreeMap<CustomerId, CustomerRow>,
    customer_keys: BTreeMap<CustomerId, CustomerKeyRow>,
    tokens: BTreeMap<Digest, TokenRow>,
    captures: BTreeMap<CaptureId, CaptureRow>,
    duplicates: BTreeMap<(CustomerId, CustomerId), DuplicateRow>,
    challenges: BTreeMap<Digest, ChallengeRow>,
    counters: BTreeMap<Digest, u32>,
    decisions: BTreeMap<DecisionKey, DecisionRow>,
    outcomes: BTreeMap<DecisionKey, OutcomeRow>,
    redemptions: BTreeMap<ReceiptId, RedemptionRow>,
    movements: BTreeMap<DecisionKey, movements::Moved>,
    guests: BTreeMap<CustomerId, GuestRow>,
    refusals: Vec<(CustomerId, UnixMillis)>,
    caps: BTreeMap<(CustomerId, RuleId), UnixMillis>,
    confirmations: BTreeMap<ConfirmationId, ConfirmationRow>,
    final_decisions: BTreeMap<DecisionKey, DecisionRow>,
    app_keys: BTreeMap<Digest, AppKeyRow>,
    unable: BTreeMap<CustomerId, UnableRow>,
    consents: BTreeMap<CustomerId, super::ConsentRow>,
    face_prints: BTreeMap<CaptureId, super::FacePrintRow>,
    /// By try and party.
    tries: BTreeMap<(Digest, Digest), attempts::Debited>,
    biometric_locks: BTreeMap<Digest, super::LockRow>,
    holder_locks: BTreeMap<CustomerId, super::HolderLockRow>,
    terminal_places: BTreeMap<TerminalId, String>,
    verifications: BTreeMap<u64, super::VerificationRow>,
    footage: BTreeMap<u64, super::FootageRow>,
    holds: BTreeSet<(u64, CaseReference)>,
    evidence: BTreeMap<u64, evidence::Kept>,
    packs: BTreeMap<Digest, (PackRow, Vec<u8>)>,
    activations: BTreeMap<u64, ActivationRow>,
    registers: BTreeMap<(Register, u64), RegisterRow>,
    register_values: BTreeMap<(Register, u64, Digest), RegisterValueRow>,
    cases: BTreeMap<CaseId, CaseRow>,
    case_evidence: BTreeMap<(CaseId, u64), CaseEvidenceRow>,
    case_lookalikes: BTreeSet<(CaseId, CustomerId)>,
    keks: BTreeMap<u64, super::KekRow>,
    own_keys: BTreeMap<String, super::OwnKeyRow>,
    heads: BTreeMap<String, HeadRow>,
    closed_ledgers: Vec<super::ClosedLedgerRow>,
    entries: BTreeMap<(String, u64), Arc<EntryRow>>,
    checkpoints: BTreeMap<(String, u64), CheckpointRow>,
    witnessed: BTreeMap<String, super::WitnessedRow>,
    timestamps: BTreeMap<(String, u64), super::TimestampRow>,
    sensor_keys: BTreeMap<SensorKeyId, super::SensorKeyRow>,
    principals: BTreeMap<Digest, super::PrincipalRow>,
    proposals: BTreeMap<ProposalId, super::ProposedRow>,
    capture_keys: BTreeMap<CaptureKeyId, super::CaptureKeyRow>,
    enrolment_challenges: BTreeMap<Digest, super::EnrolmentChallengeRow>,
    /// Until when a capture may not come again.
    seen_captures: BTreeMap<Digest, UnixMillis>,
}

impl State {
    fn duplicates(&self, id: &CustomerId) -> Vec<DuplicateRow> {
        let mut found: Vec<_> =
            self.duplicates.values().filter(|row| row.customer == *id).cloned().collect();
        found.sort_by_key(|row| (std::cmp::Reverse(row.strength_db), row.other));
        found
    }

    fn customer_by_token(&self, index: &Digest, now: UnixMillis) -> Option<CustomerId> {
        let row = self.tokens.get(index)?;
        row.expires_at.is_none_or(|at| at > now).then_some(row.customer)
    }

    fn terminal_keys(&self) -> Vec<TerminalKeyRow> {
        let mut keys: Vec<_> = self.terminal_keys.values().cloned().collect();
        keys.sort_by(|a, b| {
            (&a.terminal, a.registered_at, a.spki).cmp(&(&b.terminal, b.registered_at, b.spki))
        });
        keys
    }

    fn captures(&self, id: &CustomerId) -> Vec<CaptureRow> {
        let mut captures: Vec<_> =
            self.captures.values().filter(|row| row.customer == *id).cloned().collect();
        captures.sort_by_key(|row| (row.created_at, row.id));
        captures
    }

    fn head(&self, origin: &str) -> HeadRow {
        self.heads.get(origin).cloned().unwrap_or_else(HeadRow::empty)
    }

    fn entries(&self, origin: &str, from: u64) -> impl Iterator<Item = &EntryRow> {
        let range = (origin.to_owned(), from)..=(origin.to_owned(), u64::MAX);
        self.entries.range(range).map(|(_, row)| &**row)
    }

    fn require_customer(&self, id: &CustomerId) -> Result<(), StoreError> {
        if self.customers.contains_key(id) { Ok(()) } else { Err(StoreError::unknown_customer()) }
    }
}

fn insert<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: V) -> Result<(), StoreError> {
    if map.contains_key(&key) {
        return Err(StoreError::Exists);
    }
    map.insert(key, value);
    Ok(())
}

fn at_most<T>(rows: impl Iterator<Item = T>, limit: u32) -> Vec<T> {
    rows.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect()
}

#[async_trait]
impl Store for MemoryStore {
    async fn begin(&self) -> Result<Box<dyn UnitOfWork>, StoreError> {
        self.shared.strike(&[Fault::Begin])?;
        let turn = Arc::clone(&self.shared.writer).lock_owned().await;
        let state = Arc::clone(&lock(&self.shared.committed));
        Ok(Box::new(MemoryUnit { shared: Arc::clone(&self.shared), state, _turn: turn }))
    }

    async fn terminal_key(&self, spki: &Digest) -> Result<Option<TerminalKeyRow>, StoreError> {
        Ok(self.read()?.terminal_keys.get(spki).cloned())
    }

    async fn terminal_keys(
        &self,
        after: Option<&Digest>,
        limit: u32,
    ) -> Result<Vec<TerminalKeyRow>, StoreError> {
        let keys = self.read()?.terminal_keys();
        let from = match after {
            None => 0,
            Some(spki) => {
                keys.iter().position(|row| row.spki == *spki).map_or(keys.len(), |place| place + 1)
            }
        };
        Ok(at_most(keys.into_iter().skip(from), limit))
    }

    async fn customer(&self, id: &CustomerId) -> Result<Option<CustomerRow>, StoreError> {
        Ok(self.read()?.customers.get(id).cloned())
    }

    async fn customer_by_iin(&self, index: &Digest) -> Result<Option<CustomerId>, StoreError> {
        let state = self.read()?;
        let mut customers = state.customers.values();
        Ok(customers.find(|row| row.iin_index == Some(*index)).map(|row| row.id))
    }

    async fn customer_by_token(
        &self,
        index: &Digest,
        now: UnixMillis,
    ) -> Result<Option<CustomerId>, StoreError> {
        Ok(self.read()?.customer_by_token(index, now))
    }

    async fn guests(&self, number_index: &Digest) -> Result<Vec<CustomerId>, StoreError> {
        let state = self.read()?;
        let mut found: Vec<_> =
            state.guests.values().filter(|row| row.number_index == *number_index).collect();
        found.sort_by_key(|row| (std::cmp::Reverse(row.at), row.customer));
        Ok(at_most(found.into_iter().map(|row| row.customer), GUESTS_OF_NUMBER_MAX))
    }

    async fn customers(
        &self,
        after: Option<&CustomerId>,
        limit: u32,
    ) -> Result<Vec<CustomerRow>, StoreError> {
        let state = self.read()?;
        let rows = state.customers.values().filter(|row| after.is_none_or(|id| row.id > *id));
        Ok(at_most(rows.cloned(), limit))
    }

    async fn customer_key(&self, id: &CustomerId) -> Result<Option<CustomerKeyRow>, StoreError> {
        Ok(self.read()?.customer_keys.get(id).cloned())
    }

    async fn captures(&self, id: &CustomerId) -> Result<Vec<CaptureRow>, StoreError> {
        Ok(self.read()?.captures(id))
    }

    async fn tokens(&self, id: &CustomerId) -> Result<Vec<TokenRow>, StoreError> {
        let state = self.read()?;
        let mut tokens: Vec<_> =
            state.tokens.values().filter(|row| row.customer == *id).cloned().collect();
        tokens.sort_by_key(|row| (row.bound_at, row.index));
        Ok(tokens)
    }

    async fn duplicates(&self, id: &CustomerId) -> Result<Vec<DuplicateRow>, StoreError> {
        Ok(self.read()?.duplicates(id))
    }

    async fn challenge(&self, hash: &Digest) -> Result<Option<ChallengeRow>, StoreError> {
        Ok(self.read()?.challenges.get(hash).cloned())
    }

    async fn counter(&self, key: &Digest) -> Result<u32, StoreError> {
        Ok(self.read()?.counters.get(key).copied().unwrap_or(0))
    }

    async fn decision(&self, key: &DecisionKey) -> Result<Option<DecisionRow>, StoreError> {
        Ok(self.read()?.decisions.get(key).cloned())
    }

    async fn outcome(&self, key: &DecisionKey) -> Result<Option<OutcomeRow>, StoreError> {
        Ok(self.read()?.outcomes.get(key).cloned())
    }

    async fn redemption(&self, receipt: &ReceiptId) -> Result<Option<RedemptionRow>, StoreError> {
        Ok(self.read()?.redemptions.get(receipt).cloned())
    }

    async fn head(&self, origin: &str) -> Result<HeadRow, StoreError> {
        Ok(self.read()?.head(origin))
    }

    async fn leaves(&self, origin: &str, from: u64, limit: u32) -> Result<Vec<Digest>, StoreError> {
        let state = self.read()?;
        let leaves = at_most(state.entries(origin, from), limit);
        // A gap would shift every leaf behind it.
        match (from..).zip(&leaves).find(|(expected, row)| *expected != row.index) {
            Some((_, row)) => Err(StoreError::Inconsistent {
                table: "entries",
                column: "entry_index",
                row: row.index.to_string(),
            }),
            None => Ok(leaves.into_iter().map(|row| row.leaf).collect()),
        }
    }

    async fn entry(&self, origin: &str, index: u64) -> Result<Option<EntryRow>, StoreError> {
        let state = self.read()?;
        Ok(state.entries.get(&(origin.to_owned(), index)).map(|row| EntryRow::clone(row)))
    }

    async fn entry_by_receipt(
        &self,
        origin: &str,
        receipt: &ReceiptId,
    ) -> Result<Option<EntryRow>, StoreError> {
        Ok(self.read()?.entries(origin, 0).find(|row| row.receipt == *receipt).cloned())
    }

    async fn entries(
        &self,
        origin: &str,
        from: u64,
        filter: &EntryFilter,
        limit: u32,
    ) -> Result<Vec<EntryRow>, StoreError> {
        let state = self.read()?;
        let wanted = state.entries(origin, from).filter(|row| {
            filter.from.is_none_or(|from| row.time >= from)
                && filter.until.is_none_or(|until| row.time < until)
                && (filter.terminal.is_none() || row.terminal == filter.terminal)
        });
        Ok(at_most(wanted.cloned(), limit))
    }

    async fn checkpoints(
        &self,
        origin: &str,
        from_size: u64,
        limit: u32,
    ) -> Result<Vec<CheckpointRow>, StoreError> {
        let range = (origin.to_owned(), from_size)..=(origin.to_owned(), u64::MAX);
        let state = self.read()?;
        Ok(at_most(state.checkpoints.range(range).map(|(_, row)| row.clone()), limit))
    }

    async fn latest_checkpoint(&self, origin: &str) -> Result<Option<CheckpointRow>, StoreError> {
        let range = (origin.to_owned(), 0)..=(origin.to_owned(), u64::MAX);
        Ok(self.read()?.checkpoints.range(range).next_back().map(|(_, row)| row.clone()))
    }
}

/// A copy of the state that takes its place at commit.
struct MemoryUnit {
    shared: Arc<Shared>,
    state: Arc<State>,
    _turn: OwnedMutexGuard<()>,
}

impl MemoryUnit {
    fn state(&mut self) -> Result<&mut State, StoreError> {
        self.shared.strike(&[Fault::Write])?;
        Ok(Arc::make_mut(&mut self.state))
    }
}

#[async_trait]
impl UnitOfWork for MemoryUnit {
    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        let kinds = [Fault::BeforeCommit, Fault::CommitLost, Fault::AfterCommit];
        let fault = self.shared.due(&kinds);
        if matches!(fault, None | Some(Fault::AfterCommit)) {
            *lock(&self.shared.committed) = Arc::clone(&self.state);
        }
        match fault {
            None => Ok(()),
            Some(Fault::BeforeCommit) => Err(StoreError::Unavailable("scripted".into())),
            Some(_) => Err(StoreError::CommitUnclear("scripted".into())),
        }
    }

    async fn insert_terminal_key(&mut self, row: &TerminalKeyRow) -> Result<(), StoreError> {
        insert(&mut self.state()?.terminal_keys, row.spki, row.clone())
    }

    async fn insert_first_terminal_key(
        &mut self,
        row: &TerminalKeyRow,
    ) -> Result<bool, StoreError> {
        let keys = &mut self.state()?.terminal_keys;
        if keys.values().any(|key| key.terminal == row.terminal && key.revoked_at.is_none()) {
            return Ok(false);
        }
        insert(keys, row.spki, row.clone()).map(|()| true)
    }

    async fn revoke_terminal_key(
        &mut self,
        spki: &Digest,
        at: UnixMillis,
    ) -> Result<bool, StoreError> {
        let key = self.state()?.terminal_keys.get_mut(spki);
        let valid = key.filter(|row| row.revoked_at.is_none());
        Ok(valid.map(|row| row.revoked_at = Some(at)).is_some())
    }

    async fn keys_of_terminal(
        &mut self,
        terminal: &TerminalId,
    ) -> Result<Vec<TerminalKeyRow>, StoreError> {
        let keys = self.state()?.terminal_keys();
        Ok(keys.into_iter().filter(|row| row.terminal == *terminal).collect())
    }

    async fn customer(&mut self, id: &CustomerId) -> Result<Option<CustomerRow>, StoreError> {
        Ok(self.state()?.customers.get(id).cloned())
    }

    async fn insert_customer(
        &mut self,
        row: &CustomerRow,
        key: &CustomerKeyRow,
    ) -> Result<(), StoreError> {
        let state = self.state()?;
        state.require_live_kek(&key.kek_id)?;
        let same_iin =
            |other: &CustomerRow| other.iin_index.is_some() && other.iin_index == row.iin_index;
        if state.customers.values().any(same_iin) {
            return Err(StoreError::Exists);
        }
        insert(&mut state.customers, row.id, row.clone())?;
        state.require_customer(&key.customer)?;
        insert(&mut state.customer_keys, key.customer, key.clone())
    }

    async fn set_customer_status(
        &mut self,
        id: &CustomerId,
        status: CustomerStatus,
        at: UnixMillis,
    ) -> Result<bool, StoreError> {
        let customer = self.state()?.customers.get_mut(id);
        let Some(row) = customer else { return Ok(false) };
        let begins = !matches!(row.status, CustomerStatus::Suspended | CustomerStatus::Active);
        if status == CustomerStatus::Active && begins {
            row.activated_at = Some(at);
        }
        (row.status, row.updated_at) = (status, at);
        Ok(true)
    }

    async fn erase_customer(
        &mut self,
        id: &CustomerId,
        at: UnixMillis,
    ) -> Result<bool, StoreError> {
        let state = self.state()?;
        state.customer_keys.remove(id);
        state.captures.retain(|_, row| row.customer != *id);
        state.end_with_consent(id);
        let cases = &state.cases;
        let is_theirs = |case: &CaseId| cases.get(case).is_some_and(|row| row.customer == *id);
        state.case_lookalikes.retain(|(case, other)| other != id && !is_theirs(case));
        state.confirmations.retain(|_, row| row.customer != *id);
        state.forget_proposals(id);
        state.consents.remove(id);
        let customer = state.customers.get_mut(id);
        let Some(row) = customer.filter(|row| row.status != CustomerStatus::Erased) else {
            return Ok(false);
        };
        row.status = CustomerStatus::Erased;
        row.updated_at = at;
        row.iin_index = None;
        row.sealed_record.clear();
        Ok(true)
    }

    async fn customer_by_token(
        &mut self,
        index: &Digest,
        now: UnixMillis,
    ) -> Result<Option<CustomerId>, StoreError> {
        Ok(self.state()?.customer_by_token(index, now))
    }

    async fn insert_token(&mut self, row: &TokenRow) -> Result<(), StoreError> {
        let state = self.state()?;
        state.require_customer(&row.customer)?;
        // A token that has expired stands for nobody any more, so its row gives way.
        let expired = |until: UnixMillis| until <= row.bound_at;
        if state.tokens.get(&row.index).is_some_and(|held| held.expires_at.is_some_and(expired)) {
            state.tokens.remove(&row.index);
        }
        insert(&mut state.tokens, row.index, row.clone())
    }

    async fn delete_token(
        &mut self,
        index: &Digest,
        customer: &CustomerId,
    ) -> Result<bool, StoreError> {
        let tokens = &mut self.state()?.tokens;
        let theirs = tokens.get(index).is_some_and(|row| row.customer == *customer);
        Ok(theirs && tokens.remove(index).is_some())
    }

    async fn captures(&mut self, id: &CustomerId) -> Result<Vec<CaptureRow>, StoreError> {
        Ok(self.state()?.captures(id))
    }

    async fn insert_capture(&mut self, row: &CaptureRow) -> Result<(), StoreError> {
        let state = self.state()?;
        state.require_customer(&row.customer)?;
        insert(&mut state.captures, row.id, row.clone())
    }

    async fn delete_capture(
        &mut self,
        id: &CaptureId,
        customer: &CustomerId,
    ) -> Result<bool, StoreError> {
        let captures = &mut self.state()?.captures;
        let theirs = captures.get(id).is_some_and(|row| row.customer == *customer);
        Ok(theirs && captures.remove(id).is_some())
    }

    async fn insert_duplicate(&mut self, row: &DuplicateRow) -> Result<(), StoreError> {
        let state = self.state()?;
        state.require_customer(&row.customer)?;
        state.require_customer(&row.other)?;
        let known = state.duplicates.entry((row.customer, row.other));
        let known = known.or_insert_with(|| row.clone());
        if known.resolution.is_some() {
            *known = row.clone();
        }
        Ok(())
    }

    async fn duplicates(&mut self, id: &CustomerId) -> Result<Vec<DuplicateRow>, StoreError> {
        Ok(self.state()?.duplicates(id))
    }

    async fn resolve_duplicates(
        &mut self,
        id: &CustomerId,
        resolution: &str,
        _at: UnixMillis,
    ) -> Result<u32, StoreError> {
        let mut resolved = 0;
        for row in self.state()?.duplicates.values_mut() {
            if row.customer == *id && row.resolution.is_none() {
                row.resolution = Some(resolution.to_owned());
                resolved += 1;
            }
        }
        Ok(resolved)
    }

    async fn insert_challenge(&mut self, row: &ChallengeRow) -> Result<(), StoreError> {
        insert(&mut self.state()?.challenges, row.hash, row.clone())
    }

    async fn close_challenge(
        &mut self,
        hash: &Digest,
        state: ChallengeState,
    ) -> Result<bool, StoreError> {
        let challenge = self.state()?.challenges.get_mut(hash);
        let open = challenge.filter(|row| row.state == ChallengeState::Open);
        Ok(open.map(|row| row.state = state).is_some())
    }

    async fn delete_challenges(&mut self, before: UnixMillis) -> Result<u64, StoreError> {
        let challenges = &mut self.state()?.challenges;
        let held = challenges.len();
        challenges.retain(|_, row| row.expires_at >= before);
        Ok(u64::try_from(held - challenges.len()).unwrap_or(u64::MAX))
    }

    async fn add_to_counter(
        &mut self,
        key: &Digest,
        delta: i32,
        _at: UnixMillis,
    ) -> Result<u32, StoreError> {
        let value = self.state()?.counters.entry(*key).or_default();
        *value = value.saturating_add_signed(delta);
        Ok(*value)
    }

    async fn decision(&mut self, key: &DecisionKey) -> Result<Option<DecisionRow>, StoreError> {
        Ok(self.state()?.decisions.get(key).cloned())
    }

    async fn has_approval(&mut self, key: &DecisionKey) -> Result<bool, StoreError> {
        let of = |key: &DecisionKey| {
            (key.terminal.clone(), key.business_date.clone(), key.host_id.clone())
        };
        let state = self.state()?;
        let mut rows = state.decisions.values().chain(state.final_decisions.values());
        Ok(rows.any(|row| row.approves && of(&row.key) == of(key)))
    }

    async fn insert_decision(&mut self, row: &DecisionRow) -> Result<(), StoreError> {
        insert(&mut self.state()?.decisions, row.key.clone(), row.clone())
    }

    async fn outcome(&mut self, key: &DecisionKey) -> Result<Option<OutcomeRow>, StoreError> {
        Ok(self.state()?.outcomes.get(key).cloned())
    }

    async fn put_outcome(&mut self, row: &OutcomeRow) -> Result<(), StoreError> {
        self.state()?.outcomes.insert(row.key.clone(), row.clone());
        Ok(())
    }

    async fn redemption(
        &mut self,
        receipt: &ReceiptId,
    ) -> Result<Option<RedemptionRow>, StoreError> {
        Ok(self.state()?.redemptions.get(receipt).cloned())
    }

    async fn insert_redemption(&mut self, row: &RedemptionRow) -> Result<(), StoreError> {
        insert(&mut self.state()?.redemptions, row.receipt, row.clone())
    }

    async fn head(&mut self, origin: &str) -> Result<HeadRow, StoreError> {
        Ok(self.state()?.head(origin))
    }

    async fn swap_head(
        &mut self,
        origin: &str,
        old: &HeadRow,
        new: &HeadRow,
    ) -> Result<(), StoreError> {
        let state = self.state()?;
        if state.head(origin) != *old {
            return Err(StoreError::Conflict);
        }
        state.heads.insert(origin.to_owned(), new.clone());
        Ok(())
    }

    async fn insert_checkpoint(
        &mut self,
        origin: &str,
        row: &CheckpointRow,
    ) -> Result<(), StoreError> {
        let checkpoints = &mut self.state()?.checkpoints;
        checkpoints.entry((origin.to_owned(), row.size)).or_insert_with(|| row.clone());
        Ok(())
    }
}
