//! What the gateway needs kept: traits, and their implementations.
//!
//! [`Store`] answers questions from committed state; [`UnitOfWork`] is one write transaction that is
//! consumed by [`UnitOfWork::commit`] and rolled back when it is dropped. To add something that is
//! kept: a row in `rows`, a method in the trait it is used through, both implementations, a
//! migration, and a case in the conformance suite (`tests/it/store.rs`).
//!
//! Secrets arrive here sealed: no method takes a plain template, number, token or account.

mod attempts;
mod cases;
mod confirmations;
mod consents;
mod evidence;
mod footage;
mod guests;
mod keks;
mod ledgers;
#[cfg(any(test, feature = "test-support"))]
pub mod memory;
mod movements;
mod packs;
mod past;
mod principals;
mod prints;
mod proposals;
mod registers;
mod rows;
mod sealing;
mod sensors;
mod shelf;
pub mod sql;
mod unable;
mod verifications;
mod witnesses;

use async_trait::async_trait;

use crate::crypto::Digest;
use crate::domain::id::{CaptureId, CustomerId, ReceiptId, TerminalId};
use crate::domain::time::UnixMillis;
use crate::domain::transaction::DecisionKey;

pub use attempts::{AttemptQuestions, Attempts, HolderLockRow, LockRow, LockedWho, Tries, TryRow};
pub use cases::{CaseEvidenceRow, CaseFile, CaseReads, CaseRow, Cases, ProposalRow};
pub use confirmations::{
    AnswerKind, AppKeyRow, ConfirmationAnswer, ConfirmationQuestions, ConfirmationRow,
    Confirmations, PendingOf, TellerProposal,
};
pub use consents::{
    ConsentCause, ConsentEnd, ConsentReads, ConsentRow, Consents, LapsedConsent, Stays,
};
pub use evidence::{EvidenceCounts, EvidenceReads, EvidenceRow, Evidences};
pub use footage::{
    ClipRow, FootageCounts, FootageDuty, FootageFilter, FootageReads, FootageRow, FootageState,
    Footages,
};
pub use guests::{GUESTS_OF_NUMBER_MAX, GuestRow, Guests};
pub use keks::{EvidenceKeyRow, KekReads, KekRow, KekWrites, OwnKeyRow};
pub use ledgers::{ClosedLedgerRow, LedgerReads, LedgerWrites};
pub use movements::{MovedRow, MovementRow, Movements, MovementsOf};
pub use packs::{ActivationRow, PackRow, PackShelf, PackSignature, Packs};
pub use past::{Links, Past};
pub use principals::{PrincipalReads, PrincipalRow, PrincipalWrites};
pub use prints::{FacePrintRow, PrintReads, Prints};
pub use proposals::{Closure, ProposalReads, ProposalWrites, ProposedRow};
pub use registers::{RegisterQuestion, RegisterReads, RegisterRow, RegisterValueRow, Registers};
pub use rows::{
    CaptureRow, ChallengeRow, ChallengeState, CheckpointRow, CustomerKeyRow, CustomerRow,
    CustomerStatus, DecisionRow, DuplicateRow, EntryFilter, EntryRow, HeadRow, OutcomeRow,
    RedemptionRow, SAME_PERSON, TerminalKeyRow, TokenRow,
};
pub use sealing::{CaptureKeyRow, EnrolmentChallengeRow, SealingReads, SealingWrites};
pub use sensors::{SensorKeyRow, SensorReads, SensorWrites};
pub use shelf::{FileShelves, Shelves, shelf_of};
pub use unable::{Unable, UnableQuestions, UnableRow};
pub use verifications::{
    ApprovedSum, EntryCount, OutcomeCount, VerificationReads, VerificationRow, Verifications,
};
pub use witnesses::{TimestampRow, WitnessReads, WitnessWrites, WitnessedRow};

/// Questions answered from committed state.
#[async_trait]
pub trait Store:
    ConfirmationQuestions
    + UnableQuestions
    + VerificationReads
    + FootageReads
    + EvidenceReads
    + ConsentReads
    + PrintReads
    + CaseReads
    + RegisterReads
    + PackShelf
    + LedgerReads
    + KekReads
    + WitnessReads
    + SensorReads
    + PrincipalReads
    + ProposalReads
    + SealingReads
    + std::fmt::Debug
    + AttemptQuestions
{
    /// Opens a write transaction. Only one is open at a time; others wait.
    async fn begin(&self) -> Result<Box<dyn UnitOfWork>, StoreError>;

    /// The terminal key with this `SubjectPublicKeyInfo` hash, revoked ones too.
    async fn terminal_key(&self, spki: &Digest) -> Result<Option<TerminalKeyRow>, StoreError>;
    /// All terminal keys by terminal and time of registration, after the given hash.
    async fn terminal_keys(
        &self,
        after: Option<&Digest>,
        limit: u32,
    ) -> Result<Vec<TerminalKeyRow>, StoreError>;

    /// A customer, erased ones too.
    async fn customer(&self, id: &CustomerId) -> Result<Option<CustomerRow>, StoreError>;
    /// The customers whose keyed index of the IIN this is (erased ones have none).
    async fn customer_by_iin(&self, index: &Digest) -> Result<Option<CustomerId>, StoreError>;
    /// The customer that a token stands for at `now`.
    async fn customer_by_token(
        &self,
        index: &Digest,
        now: UnixMillis,
    ) -> Result<Option<CustomerId>, StoreError>;
    /// The guests who gave a number, the newest first; at most [`GUESTS_OF_NUMBER_MAX`].
    async fn guests(&self, number_index: &Digest) -> Result<Vec<CustomerId>, StoreError>;
    /// Customers in the order of their ids, after the given one.
    async fn customers(
        &self,
        after: Option<&CustomerId>,
        limit: u32,
    ) -> Result<Vec<CustomerRow>, StoreError>;
    /// A customer's wrapped keys; none after erasure.
    async fn customer_key(&self, id: &CustomerId) -> Result<Option<CustomerKeyRow>, StoreError>;
    /// A customer's sealed captures in the order of their creation.
    async fn captures(&self, id: &CustomerId) -> Result<Vec<CaptureRow>, StoreError>;
    /// The tokens bound to a customer.
    async fn tokens(&self, id: &CustomerId) -> Result<Vec<TokenRow>, StoreError>;
    /// The suspected duplicates of a customer, resolved ones too.
    async fn duplicates(&self, id: &CustomerId) -> Result<Vec<DuplicateRow>, StoreError>;

    /// A challenge by the SHA-256 of its bytes.
    async fn challenge(&self, hash: &Digest) -> Result<Option<ChallengeRow>, StoreError>;
    /// A counter's value; 0 if it was never raised.
    async fn counter(&self, key: &Digest) -> Result<u32, StoreError>;
    /// The decision under an idempotency key.
    async fn decision(&self, key: &DecisionKey) -> Result<Option<DecisionRow>, StoreError>;
    /// The latest outcome reported for a decision.
    async fn outcome(&self, key: &DecisionKey) -> Result<Option<OutcomeRow>, StoreError>;
    /// The redemption of a receipt.
    async fn redemption(&self, receipt: &ReceiptId) -> Result<Option<RedemptionRow>, StoreError>;

    /// The ledger's head; size 0 for a ledger never written.
    async fn head(&self, origin: &str) -> Result<HeadRow, StoreError>;
    /// Leaf hashes `from..`, at most `limit`, in index order.
    async fn leaves(&self, origin: &str, from: u64, limit: u32) -> Result<Vec<Digest>, StoreError>;
    /// One ledger entry.
    async fn entry(&self, origin: &str, index: u64) -> Result<Option<EntryRow>, StoreError>;
    /// The entry of a receipt.
    async fn entry_by_receipt(
        &self,
        origin: &str,
        receipt: &ReceiptId,
    ) -> Result<Option<EntryRow>, StoreError>;
    /// Entries `from..` that the filter takes, at most `limit`, in index order.
    async fn entries(
        &self,
        origin: &str,
        from: u64,
        filter: &EntryFilter,
        limit: u32,
    ) -> Result<Vec<EntryRow>, StoreError>;
    /// All kept checkpoints of at least `from_size`, by size, at most `limit`.
    async fn checkpoints(
        &self,
        origin: &str,
        from_size: u64,
        limit: u32,
    ) -> Result<Vec<CheckpointRow>, StoreError>;
    /// The largest checkpoint.
    async fn latest_checkpoint(&self, origin: &str) -> Result<Option<CheckpointRow>, StoreError>;
}

/// One write transaction; dropped without [`UnitOfWork::commit`] it leaves no trace.
///
/// It reads its own writes. Reads exist here only where a write depends on them.
#[async_trait]
pub trait UnitOfWork:
    Movements
    + Past
    + Confirmations
    + Unable
    + Guests
    + Verifications
    + Footages
    + Evidences
    + Consents
    + Prints
    + Packs
    + Registers
    + Cases
    + LedgerWrites
    + KekWrites
    + WitnessWrites
    + SensorWrites
    + PrincipalWrites
    + ProposalWrites
    + SealingWrites
    + Attempts
{
    /// Makes everything durable (synced to the disk) before it returns.
    ///
    /// # Errors
    ///
    /// [`StoreError::CommitUnclear`] when it cannot be known whether the commit happened: reload.
    async fn commit(self: Box<Self>) -> Result<(), StoreError>;

    /// Registers a terminal's key; [`StoreError::Exists`] if the hash is known.
    async fn insert_terminal_key(&mut self, row: &TerminalKeyRow) -> Result<(), StoreError>;
    /// Registers the key of a terminal that has none in force, and false where it has one;
    /// [`StoreError::Exists`] if the hash is known.
    async fn insert_first_terminal_key(&mut self, row: &TerminalKeyRow)
    -> Result<bool, StoreError>;
    /// Revokes one key; false if there is no such key that is not revoked.
    async fn revoke_terminal_key(
        &mut self,
        spki: &Digest,
        at: UnixMillis,
    ) -> Result<bool, StoreError>;
    /// The keys of one terminal.
    async fn keys_of_terminal(
        &mut self,
        terminal: &TerminalId,
    ) -> Result<Vec<TerminalKeyRow>, StoreError>;

    /// A customer inside this transaction.
    async fn customer(&mut self, id: &CustomerId) -> Result<Option<CustomerRow>, StoreError>;
    /// Adds a customer with its wrapped keys; [`StoreError::Exists`] for a known id or IIN index.
    async fn insert_customer(
        &mut self,
        row: &CustomerRow,
        key: &CustomerKeyRow,
    ) -> Result<(), StoreError>;
    /// Sets a customer's status; false if there is no such customer.
    async fn set_customer_status(
        &mut self,
        id: &CustomerId,
        status: CustomerStatus,
        at: UnixMillis,
    ) -> Result<bool, StoreError>;
    /// Destroys a customer's keys, captures, prints, tokens, confirmations, consent, sealed record and IIN
    /// index, and marks it erased.
    async fn erase_customer(&mut self, id: &CustomerId, at: UnixMillis)
    -> Result<bool, StoreError>;
    /// The customer that a token stands for at `now`, inside this transaction.
    async fn customer_by_token(
        &mut self,
        index: &Digest,
        now: UnixMillis,
    ) -> Result<Option<CustomerId>, StoreError>;
    /// Binds a token; [`StoreError::Exists`] if it is bound to anyone.
    async fn insert_token(&mut self, row: &TokenRow) -> Result<(), StoreError>;
    /// Removes a token of this customer; false if it was not bound to them.
    async fn delete_token(
        &mut self,
        index: &Digest,
        customer: &CustomerId,
    ) -> Result<bool, StoreError>;
    /// A customer's captures inside this transaction.
    async fn captures(&mut self, id: &CustomerId) -> Result<Vec<CaptureRow>, StoreError>;
    /// Adds a sealed capture.
    async fn insert_capture(&mut self, row: &CaptureRow) -> Result<(), StoreError>;
    /// Removes a capture of this customer; false if there was none.
    async fn delete_capture(
        &mut self,
        id: &CaptureId,
        customer: &CustomerId,
    ) -> Result<bool, StoreError>;
    /// Notes a suspected duplicate. Again for the same pair changes nothing while it is open, and opens
    /// it anew after it was resolved.
    async fn insert_duplicate(&mut self, row: &DuplicateRow) -> Result<(), StoreError>;
    /// The suspected duplicates of a customer inside this transaction, resolved ones too.
    async fn duplicates(&mut self, id: &CustomerId) -> Result<Vec<DuplicateRow>, StoreError>;
    /// Resolves all open duplicates of a customer; how many there were.
    async fn resolve_duplicates(
        &mut self,
        id: &CustomerId,
        resolution: &str,
        at: UnixMillis,
    ) -> Result<u32, StoreError>;

    /// Stores a fresh challenge.
    async fn insert_challenge(&mut self, row: &ChallengeRow) -> Result<(), StoreError>;
    /// Moves a challenge from open to `state`; false if it was not open or is unknown.
    async fn close_challenge(
        &mut self,
        hash: &Digest,
        state: ChallengeState,
    ) -> Result<bool, StoreError>;
    /// Deletes challenges that expired before `before`; how many.
    async fn delete_challenges(&mut self, before: UnixMillis) -> Result<u64, StoreError>;
    /// Adds `delta` (may be negative, the value stops at 0) to a counter and returns its value.
    async fn add_to_counter(
        &mut self,
        key: &Digest,
        delta: i32,
        at: UnixMillis,
    ) -> Result<u32, StoreError>;

    /// The decision under an idempotency key, inside this transaction.
    async fn decision(&mut self, key: &DecisionKey) -> Result<Option<DecisionRow>, StoreError>;
    /// Whether any attempt of the key's transaction was approved, at once or finally.
    async fn has_approval(&mut self, key: &DecisionKey) -> Result<bool, StoreError>;
    /// Stores a decision; [`StoreError::Exists`] if the key is taken.
    async fn insert_decision(&mut self, row: &DecisionRow) -> Result<(), StoreError>;
    /// The latest outcome of a decision, inside this transaction.
    async fn outcome(&mut self, key: &DecisionKey) -> Result<Option<OutcomeRow>, StoreError>;
    /// Stores the latest outcome of a decision in place of an earlier one.
    async fn put_outcome(&mut self, row: &OutcomeRow) -> Result<(), StoreError>;
    /// The redemption of a receipt, inside this transaction.
    async fn redemption(
        &mut self,
        receipt: &ReceiptId,
    ) -> Result<Option<RedemptionRow>, StoreError>;
    /// Redeems a receipt; [`StoreError::Exists`] if it was redeemed before.
    async fn insert_redemption(&mut self, row: &RedemptionRow) -> Result<(), StoreError>;

    /// The ledger's head, inside this transaction.
    async fn head(&mut self, origin: &str) -> Result<HeadRow, StoreError>;
    /// Moves the head from `old` to `new`; [`StoreError::Conflict`] if it is not `old`.
    async fn swap_head(
        &mut self,
        origin: &str,
        old: &HeadRow,
        new: &HeadRow,
    ) -> Result<(), StoreError>;
    /// Appends an entry; [`StoreError::Exists`] if its index is taken.
    async fn insert_entry(&mut self, origin: &str, row: &EntryRow) -> Result<(), StoreError> {
        self.insert_entries(origin, std::slice::from_ref(row)).await
    }
    /// Keeps a checkpoint; the same size again changes nothing.
    async fn insert_checkpoint(
        &mut self,
        origin: &str,
        row: &CheckpointRow,
    ) -> Result<(), StoreError>;
}

/// The store could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store cannot be reached, is busy, or the disk refuses; nothing was written.
    #[error("the store is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It is not known whether the commit happened.
    #[error("the store did not say whether the commit happened")]
    CommitUnclear(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The head moved under us: another writer has this ledger.
    #[error("the ledger's head is not where it was left")]
    Conflict,
    /// A row with this key exists.
    #[error("the row exists")]
    Exists,
    /// A row that does not parse.
    #[error("{table}.{column} of row {row} does not parse")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's key, never its content.
        row: String,
    },
    /// The migrations that were applied are not the ones this build knows.
    #[error("the store was written by another version")]
    Migration(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// The word in statuses, metrics and logs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "SYS_STORE"
    }

    /// A row that belongs to a customer who is not there.
    pub(crate) const fn unknown_customer() -> Self {
        Self::Inconsistent { table: "customers", column: "id", row: String::new() }
    }
}
