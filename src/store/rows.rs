//! The rows that are kept.
//!
//! The `index` of an [`EntryRow`] is the entry's index in its ledger. Every other row names an entry by
//! its place among the entries of all the gateway's ledgers, which in the first ledger is the same.

use crate::crypto::{Digest, sha256};
use crate::domain::id::{CaptureId, CustomerId, ReceiptId, TerminalId};
use crate::domain::modality::Modality;
use crate::domain::money::Currency;
use crate::domain::time::UnixMillis;
use crate::domain::transaction::{CashOutcome, DecisionKey, TokenKind};

/// A terminal's registered public key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TerminalKeyRow {
    /// SHA-256 of the certificate's `SubjectPublicKeyInfo`.
    pub spki: Digest,
    /// Whose key it is.
    pub terminal: TerminalId,
    /// Since when.
    pub registered_at: UnixMillis,
    /// When it stopped being valid.
    pub revoked_at: Option<UnixMillis>,
}

/// Where a customer stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CustomerStatus {
    /// Created; not activated.
    Pending,
    /// Activation found somebody alike: a person must decide.
    PendingDuplicate,
    /// Can be verified.
    Active,
    /// Was active; not now.
    Suspended,
    /// A guest: may pay in to somebody else's account, and nothing else.
    Guest,
    /// The consent has ended, and something must be kept yet: nothing may be done with it.
    Withdrawn,
    /// Keys destroyed.
    Erased,
}

impl CustomerStatus {
    /// Every status.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::PendingDuplicate,
        Self::Active,
        Self::Suspended,
        Self::Guest,
        Self::Withdrawn,
        Self::Erased,
    ];

    /// The word that is stored, and used in facts and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::PendingDuplicate => "pending_duplicate",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Guest => "guest",
            Self::Withdrawn => "withdrawn",
            Self::Erased => "erased",
        }
    }
}

/// A customer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CustomerRow {
    /// The customer.
    pub id: CustomerId,
    /// Where they stand.
    pub status: CustomerStatus,
    /// Keyed hash of the IIN; unique; none after erasure.
    pub iin_index: Option<Digest>,
    /// IIN and consent, sealed under the customer's data key; empty after erasure.
    pub sealed_record: Vec<u8>,
    /// When they were created.
    pub created_at: UnixMillis,
    /// When status last changed.
    pub updated_at: UnixMillis,
    /// When they were last activated; lifting a suspension is no activation.
    pub activated_at: Option<UnixMillis>,
}

/// A customer's data key and pseudonym key, wrapped under the key-encryption key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CustomerKeyRow {
    /// Whose keys.
    pub customer: CustomerId,
    /// Which key-encryption key wraps them.
    pub kek_id: String,
    /// The wrapped keys.
    pub wrapped: Vec<u8>,
}

/// A token that stands for a customer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenRow {
    /// Keyed hash of (tenant, kind, token).
    pub index: Digest,
    /// For whom it stands.
    pub customer: CustomerId,
    /// What kind it is.
    pub kind: TokenKind,
    /// Since when.
    pub bound_at: UnixMillis,
    /// Until when.
    pub expires_at: Option<UnixMillis>,
}

/// An enrolled capture: a sealed embedding, or sealed minutiae.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CaptureRow {
    /// The capture.
    pub id: CaptureId,
    /// Of whom.
    pub customer: CustomerId,
    /// Of what.
    pub modality: Modality,
    /// What was found in it, sealed under the customer's data key and bound to this row.
    pub sealed: Vec<u8>,
    /// When it was enrolled.
    pub created_at: UnixMillis,
}

/// How a duplicate was resolved that is one person twice.
pub const SAME_PERSON: &str = "same_person";

/// Two customers that may be one person.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DuplicateRow {
    /// The one being activated.
    pub customer: CustomerId,
    /// The one found.
    pub other: CustomerId,
    /// How alike, in dB.
    pub strength_db: i64,
    /// When.
    pub found_at: UnixMillis,
    /// What a person decided.
    pub resolution: Option<String>,
}

/// What has become of a challenge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChallengeState {
    /// Issued, not used.
    Open,
    /// Used by a verification.
    Used,
    /// Cancelled by the terminal.
    Cancelled,
}

impl ChallengeState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Open, Self::Used, Self::Cancelled];

    /// The word that is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Used => "used",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A challenge; its bytes are never stored, only their hash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChallengeRow {
    /// SHA-256 of the challenge's bytes.
    pub hash: Digest,
    /// To whom it was issued.
    pub terminal: TerminalId,
    /// The transaction it was issued for, sealed.
    pub sealed_session: Vec<u8>,
    /// When.
    pub issued_at: UnixMillis,
    /// Until when it may be used.
    pub expires_at: UnixMillis,
    /// What has become of it.
    pub state: ChallengeState,
}

/// A decision under its idempotency key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DecisionRow {
    /// The key.
    pub key: DecisionKey,
    /// SHA-256 of what was asked.
    pub request_hash: Digest,
    /// Where its receipt stands in the ledger.
    pub index: u64,
    /// Whether it approves, with a cap or without.
    pub approves: bool,
    /// The answer without its receipt (salts, reasons), sealed.
    pub sealed_answer: Vec<u8>,
}

/// The latest report of what became of the cash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutcomeRow {
    /// The decision it is about.
    pub key: DecisionKey,
    /// What was reported.
    pub outcome: CashOutcome,
    /// How much moved, in minor units.
    pub dispensed_minor: i64,
    /// Of which currency.
    pub currency: Currency,
    /// Where the report stands in the ledger.
    pub index: u64,
}

/// A receipt that the host has acted on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RedemptionRow {
    /// The receipt.
    pub receipt: ReceiptId,
    /// When it was redeemed.
    pub redeemed_at: UnixMillis,
    /// Where the redemption stands in the ledger.
    pub index: u64,
}

/// A ledger's head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeadRow {
    /// How many entries.
    pub size: u64,
    /// The tree's root.
    pub root: Digest,
    /// Raised by each process that takes the ledger over, so that an older one cannot write.
    pub epoch: u64,
}

impl HeadRow {
    /// The head of a ledger never written: its root is the hash of nothing (RFC 6962, section 2.1).
    #[must_use]
    pub fn empty() -> Self {
        Self { size: 0, root: sha256(&[]), epoch: 0 }
    }
}

/// A ledger entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntryRow {
    /// Its place.
    pub index: u64,
    /// The receipt's id.
    pub receipt: ReceiptId,
    /// `verification`, `outcome`, `administration`…
    pub kind: String,
    /// The terminal it concerns.
    pub terminal: Option<TerminalId>,
    /// The time in the receipt.
    pub time: UnixMillis,
    /// The receipt's exact bytes.
    pub jws: String,
    /// The leaf hash.
    pub leaf: Digest,
    /// The salted audit record, sealed; none for entries that have none.
    pub sealed_audit: Option<Vec<u8>>,
}

/// Which entries are wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EntryFilter {
    /// Not before.
    pub from: Option<UnixMillis>,
    /// Before.
    pub until: Option<UnixMillis>,
    /// Of this terminal.
    pub terminal: Option<TerminalId>,
}

/// A signed checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckpointRow {
    /// The tree's size.
    pub size: u64,
    /// The signed note.
    pub text: String,
    /// When it was signed.
    pub time: UnixMillis,
}
