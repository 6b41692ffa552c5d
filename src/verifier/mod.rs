//! What the bank's host asks before it authorises: is this receipt the gateway's, for this host, for this
//! transaction, for this amount, still good, and not acted on before?
//!
//! The host enforces, not the terminal: a terminal that was taken over can show any receipt it has. So
//! [`HostVerifier::verify`] asks all of it in one call and redeems in the same call; an [`Authorised`] is
//! the only way to know that cash may move, and it is made once for a receipt.
//!
//! No network and no gateway is needed: the key register is a file (`keys.json`, `keys.json.sig`), what
//! was redeemed is a table of the host's own ([`ReplayTable`]). The same is there for C
//! (`src/verifier/tulga_verifier.h`) and, written anew, for Python (`src/verifier/python`).

pub mod c;
mod replay;

use std::sync::{PoisonError, RwLock};

pub use replay::{FileTable, MemoryTable, RedemptionKey, ReplayError, ReplayTable};

use crate::crypto::constant_time_eq;
use crate::domain::time::UnixMillis;
use crate::receipt::{
    Cap, Content, KeyRegister, KeyRegisterError, KeyStatus, ReceiptError, Salt, TransactionFields,
    TrustFingerprint, Txn, VerifiedReceipt, transaction_commit, verify,
};

/// How far a receipt's time may lie ahead of the host's clock, in milliseconds.
pub const SKEW_MS: i64 = 5_000;
/// How long after its time a receipt may say that it can be acted on, in milliseconds. Gateways write 90
/// seconds; only somebody with a stolen key has a use for more.
pub const VALID_FOR_MAX_MS: i64 = 300_000;

/// What the host is about to do, as it knows it itself; nothing of it is taken from the receipt.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// What the receipt's commitment must open to.
    pub transaction: TransactionFields<'a>,
    /// The terminal that asks the host.
    pub terminal: &'a str,
    /// `cash_withdrawal`, `cash_deposit` or `third_party_deposit`.
    pub operation: &'a str,
    /// How much is to move, in minor units.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: &'a str,
}

/// Verifies receipts for one host.
#[derive(Debug)]
pub struct HostVerifier {
    register: RwLock<KeyRegister>,
    trust: TrustFingerprint,
    audience: String,
    redeemed: Box<dyn ReplayTable>,
}

impl HostVerifier {
    /// A verifier for the host that receipts call `audience`, by a register that the trusted root key
    /// signed.
    ///
    /// # Errors
    ///
    /// [`KeyRegisterError`] when the register is not to be believed.
    pub fn new(
        keys_json: &[u8],
        keys_signature: &str,
        trust: TrustFingerprint,
        audience: &str,
        redeemed: Box<dyn ReplayTable>,
    ) -> Result<Self, KeyRegisterError> {
        let register = RwLock::new(KeyRegister::verify(keys_json, keys_signature, &trust)?);
        Ok(Self { register, trust, audience: audience.to_owned(), redeemed })
    }

    /// Takes a newer register: keys were rotated. What was redeemed stays redeemed.
    ///
    /// # Errors
    ///
    /// [`KeyRegisterError`] when it is not to be believed; the old one stays then.
    pub fn replace_register(
        &self,
        keys_json: &[u8],
        keys_signature: &str,
    ) -> Result<(), KeyRegisterError> {
        let newer = KeyRegister::verify(keys_json, keys_signature, &self.trust)?;
        *self.register.write().unwrap_or_else(PoisonError::into_inner) = newer;
        Ok(())
    }

    /// Says once that the host may do what it is about to do, at the host's own `now`.
    ///
    /// # Errors
    ///
    /// [`HostRefusal`] names the first thing that does not fit: the host must not authorise.
    pub fn verify(
        &self,
        jws: &str,
        salt: &Salt,
        demand: &Demand<'_>,
        now: UnixMillis,
    ) -> Result<Authorised, HostRefusal> {
        let receipt = {
            let register = self.register.read().unwrap_or_else(PoisonError::into_inner);
            let receipt = verify(jws, &register)?;
            // What a revoked key signed stays valid for auditors, who see the ledger; a host does not.
            if register.key(receipt.kid()).is_none_or(|key| key.status == KeyStatus::Revoked) {
                return Err(HostRefusal::Revoked);
            }
            receipt
        };
        let decision = Decision::of(&receipt).ok_or(HostRefusal::NotDecision)?;
        if receipt.body().aud.as_deref() != Some(self.audience.as_str()) {
            return Err(HostRefusal::Audience);
        }
        let until = receipt.valid_until().ok_or(HostRefusal::Expired)?;
        if until < now {
            return Err(HostRefusal::Expired);
        }
        if receipt.time() > now.plus_millis(SKEW_MS) {
            return Err(HostRefusal::NotYet);
        }
        if until > receipt.time().plus_millis(VALID_FOR_MAX_MS) {
            return Err(HostRefusal::TooLong);
        }
        decision.check(salt, demand)?;
        let key = RedemptionKey::of(&receipt);
        self.redeemed.redeem(&key, until, now).map_err(|fault| match fault {
            ReplayError::Redeemed => HostRefusal::Redeemed,
            other => HostRefusal::Table(other),
        })?;
        Ok(Authorised {
            amount_minor: demand.amount_minor,
            amount_max_minor: decision.amount_max()?,
            receipt,
        })
    }
}

/// The host may let this amount move, now and once.
#[must_use = "a receipt that was redeemed and not acted on is a customer left standing"]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authorised {
    receipt: VerifiedReceipt,
    amount_minor: i64,
    amount_max_minor: i64,
}

impl Authorised {
    /// How much may move, in minor units: what the host asked for.
    #[must_use]
    pub const fn amount_minor(&self) -> i64 {
        self.amount_minor
    }

    /// The most that the receipt approves, in minor units.
    #[must_use]
    pub const fn amount_max_minor(&self) -> i64 {
        self.amount_max_minor
    }

    /// The receipt: for the host's own journal.
    #[must_use]
    pub const fn receipt(&self) -> &VerifiedReceipt {
        &self.receipt
    }
}

/// What a decision's receipt says of the transaction.
struct Decision<'a> {
    terminal: &'a str,
    txn: &'a Txn,
    outcome: &'a str,
    cap: Option<&'a Cap>,
}

impl<'a> Decision<'a> {
    fn of(receipt: &'a VerifiedReceipt) -> Option<Self> {
        match &receipt.body().content {
            Content::Verification(it) => Some(Self {
                terminal: &it.terminal.id,
                txn: &it.txn,
                outcome: &it.outcome,
                cap: it.cap.as_ref(),
            }),
            Content::Exception(it) => Some(Self {
                terminal: &it.terminal.id,
                txn: &it.txn,
                outcome: &it.outcome,
                cap: it.cap.as_ref(),
            }),
            _ => None,
        }
    }

    fn check(&self, salt: &Salt, demand: &Demand<'_>) -> Result<(), HostRefusal> {
        let commit = transaction_commit(salt, &demand.transaction);
        if !constant_time_eq(commit.as_bytes(), self.txn.commit.as_bytes()) {
            return Err(HostRefusal::Commitment);
        }
        for (field, said, asked) in [
            ("terminal", self.terminal, demand.terminal),
            ("operation", &self.txn.op, demand.operation),
            ("currency", &self.txn.currency, demand.currency),
        ] {
            if said != asked {
                return Err(HostRefusal::Transaction(field));
            }
        }
        if (1..=self.amount_max()?).contains(&demand.amount_minor) {
            Ok(())
        } else {
            Err(HostRefusal::Amount)
        }
    }

    fn amount_max(&self) -> Result<i64, HostRefusal> {
        match (self.outcome, self.cap) {
            ("APPROVED", None) => Ok(self.txn.amount_minor),
            ("APPROVED_CAPPED", Some(cap)) => Ok(cap.amount_minor.min(self.txn.amount_minor)),
            _ => Err(HostRefusal::Outcome),
        }
    }
}

/// The host must not authorise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostRefusal {
    /// It is not a receipt of the gateway's.
    #[error("the receipt does not verify")]
    Receipt(#[from] ReceiptError),
    /// A receipt of something else than a decision.
    #[error("the receipt is not of a decision")]
    NotDecision,
    /// For another host, or for none.
    #[error("the receipt is for another host")]
    Audience,
    /// Its time is over, or it never had one.
    #[error("the receipt may not be acted on any more")]
    Expired,
    /// Its time has not come: one of the two clocks is wrong.
    #[error("the receipt's time lies ahead of the host's clock")]
    NotYet,
    /// It says that it may be acted on for longer than any gateway says.
    #[error("the receipt may be acted on for longer than any may")]
    TooLong,
    /// Its key may be in other hands.
    #[error("the receipt's key is revoked")]
    Revoked,
    /// Another transaction, or another salt.
    #[error("the commitment does not open: another transaction, or another salt")]
    Commitment,
    /// A field in the clear that the host knows otherwise.
    #[error("the receipt is for another {0}")]
    Transaction(&'static str),
    /// It does not approve.
    #[error("the receipt does not approve")]
    Outcome,
    /// More than it approves, or nothing.
    #[error("the amount is more than the receipt approves")]
    Amount,
    /// It was acted on before.
    #[error("the receipt was redeemed before")]
    Redeemed,
    /// Whether it was acted on before cannot be told.
    #[error("what was redeemed cannot be looked up or written down")]
    Table(#[source] ReplayError),
}

impl HostRefusal {
    /// The word in statuses, metrics and logs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Receipt(fault) => fault.code(),
            Self::NotDecision => "HOST_KIND",
            Self::Audience => "HOST_AUDIENCE",
            Self::Expired => "HOST_EXPIRED",
            Self::NotYet => "HOST_NOT_YET",
            Self::TooLong => "HOST_TOO_LONG",
            Self::Revoked => "HOST_REVOKED",
            Self::Commitment => "HOST_COMMITMENT",
            Self::Transaction(_) => "HOST_TRANSACTION",
            Self::Outcome => "HOST_OUTCOME",
            Self::Amount => "HOST_AMOUNT",
            Self::Redeemed => "HOST_REDEEMED",
            Self::Table(_) => "HOST_TABLE",
        }
    }
}

#[cfg(test)]
mod tests;
