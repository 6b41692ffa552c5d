//! Tries beyond one transaction: what is debited before a comparison, what becomes of it with the decision,
//! and when a customer is delayed or locked, or a terminal must wait.
//!
//! A try counts against the terminal always, and against the customer only where something of theirs was
//! presented: whoever knows no more than a number cannot lock its owner out. It is debited in the
//! transaction that uses the challenge up, and settled in the one that makes the decision durable.
//! References that lead to nobody are counted and locked in the same way, under a pseudonym.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Gateway;
use super::act::Write;
use super::error::GatewayError;
use super::locks::LockWrite;
use super::sequencer::Slot;
use super::session::Session;
use super::verification_job::VerificationJob;
use crate::crypto::Digest;
use crate::domain::decision::{Decision, Outcome};
use crate::domain::id::{CustomerId, TerminalId};
use crate::domain::reason::Reason;
use crate::domain::time::UnixMillis;
use crate::domain::transaction::HolderVerification;
use crate::policy::{Facts, TryLimits};
use crate::receipt::{Administration, Content};
use crate::store::{LockRow, LockedWho, Tries, TryRow, UnitOfWork};

/// Longer than any verification is under way, in milliseconds.
pub(super) const UNDER_WAY_MAX_MS: i64 = 600_000;

/// Most locks that are entered in the ledger at once.
const ENTERED_MAX: u32 = 100;

/// Whose tries are counted together, and whose biometric they may lock.
#[derive(Clone)]
pub(super) struct Person {
    /// The keyed hash under which they are counted.
    pub subject: Digest,
    who: LockedWho,
}

impl Person {
    fn customer(&self) -> Option<CustomerId> {
        match &self.who {
            LockedWho::Customer(id) => Some(*id),
            LockedWho::Nobody(_) => None,
        }
    }
}

/// What a decision has to do with tries.
pub(super) struct Tried {
    person: Person,
    /// None at a final decision: its capture was compared before the first.
    debit: Option<Debit>,
    /// Set once a decision locks: an entry is due.
    locks: Arc<AtomicBool>,
}

/// One try as it was debited.
struct Debit {
    /// SHA-256 of the challenge: no other try has it.
    id: Digest,
    terminal: Digest,
    /// Why nothing may be compared, if nothing may.
    blocked: Option<Reason>,
}

impl Tried {
    /// Whether anything may be compared.
    pub fn may_compare(&self) -> bool {
        self.debit.as_ref().is_none_or(|debit| debit.blocked.is_none())
    }

    /// The try, to give it back.
    pub fn id(&self) -> Option<Digest> {
        self.debit.as_ref().map(|debit| debit.id)
    }

    /// Whether the decision locked somebody's biometric; known once it is made.
    pub fn locks(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.locks)
    }
}

/// A try that is to be debited.
pub(super) struct Asking<'a> {
    pub session: &'a Session,
    pub terminal: &'a TerminalId,
    /// SHA-256 of the challenge.
    pub id: Digest,
    /// Whether the transaction's own tries are spent, so that nothing is compared.
    pub is_spent: bool,
    pub limits: &'a TryLimits,
    pub now: UnixMillis,
}

impl Gateway {
    /// Refuses a terminal that had too many failures, before anybody looks into its camera.
    pub(super) async fn require_unthrottled(
        &self,
        terminal: &TerminalId,
        limits: &TryLimits,
        now: UnixMillis,
    ) -> Result<(), GatewayError> {
        let subject = self.vault.tries_of_terminal(&self.settings.tenant, terminal);
        let tries = self.store.tries(&subject, limits.terminal_since(now)).await?;
        unthrottled(&tries, limits)
    }

    /// Debits a try to the terminal, and to the person where it counts against them.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Throttled`] for a terminal that must wait: the transaction must be dropped then,
    /// so that the challenge stays unused.
    pub(super) async fn debit_try(
        &self,
        unit: &mut dyn UnitOfWork,
        asking: Asking<'_>,
    ) -> Result<Tried, GatewayError> {
        let Asking { session, terminal, id, is_spent, limits, now } = asking;
        let terminal = self.vault.tries_of_terminal(&self.settings.tenant, terminal);
        unthrottled(&unit.tries(&terminal, limits.terminal_since(now)).await?, limits)?;
        unit.insert_try(&TryRow { id, subject: terminal, at: now }).await?;
        let person = self.person(session)?;
        let tries = unit.tries(&person.subject, limits.customer_since(now)).await?;
        let locked = lock_of(unit, &person).await?;
        let blocked = locked.or_else(|| delayed(&tries, limits, now));
        let counts = blocked.is_none() && !is_spent && has_shown(unit, session, now).await?;
        if counts {
            unit.insert_try(&TryRow { id, subject: person.subject, at: now }).await?;
        }
        let debit = Some(Debit { id, terminal, blocked });
        Ok(Tried { person, debit, locks: Arc::default() })
    }

    /// What a final decision has to do with tries.
    pub(super) fn tried_before(&self, session: &Session) -> Result<Tried, GatewayError> {
        Ok(Tried { person: self.person(session)?, debit: None, locks: Arc::default() })
    }

    fn person(&self, session: &Session) -> Result<Person, GatewayError> {
        let tenant = &self.settings.tenant;
        Ok(match session.customer()? {
            Some(id) => Person {
                subject: self.vault.tries_of_customer(tenant, &id),
                who: LockedWho::Customer(id),
            },
            None => Person {
                subject: self.vault.tries_of_nobody(tenant, &session.nobody),
                who: LockedWho::Nobody(session.nobody.clone()),
            },
        })
    }

    /// Enters locks in the ledger that no entry tells of yet. Each is entered once.
    ///
    /// # Errors
    ///
    /// What the store cannot do: the lock holds all the same, and is entered later.
    pub async fn enter_locks(&self) -> Result<(), GatewayError> {
        for row in self.store.locks_not_entered(ENTERED_MAX).await? {
            let subject = match &row.who {
                LockedWho::Nobody(pseudonym) => {
                    self.decoy.open_keys(&self.vault, &self.settings.tenant, &*self.entropy)?;
                    pseudonym.clone()
                }
                // Erased in between, and the lock with them.
                LockedWho::Customer(id) => match self.customer_keys(id).await? {
                    Some(keys) => keys.pseudonym(&self.settings.tenant, id),
                    None => continue,
                },
            };
            let act = Administration {
                act: "biometric_locked".to_owned(),
                actor: self.signing.own_actor(&self.open_ledger()?)?,
                subject: Some(subject),
                details: None,
            };
            let write = Write::Lock(LockWrite::Enter(row.subject));
            self.perform_as(Content::Administration(act), None, vec![write]).await?;
        }
        Ok(())
    }

    /// Enters what a decision locked. Where that fails the clerk does it later: the decision stands.
    pub(super) async fn enter_if_locked(&self, locks: &AtomicBool) {
        if !locks.load(Ordering::SeqCst) {
            return;
        }
        if let Err(error) = self.enter_locks().await {
            tracing::warn!(code = error.code(), error = %error, "a lock is not entered yet");
        }
    }
}

fn unthrottled(tries: &Tries, limits: &TryLimits) -> Result<(), GatewayError> {
    if tries.counted < limits.terminal_failures_max { Ok(()) } else { Err(GatewayError::Throttled) }
}

/// Why tries alone keep anything from being compared, if they do.
fn delayed(tries: &Tries, limits: &TryLimits, now: UnixMillis) -> Option<Reason> {
    if tries.counted >= limits.lock_after_failures {
        return Some(Reason::SubLocked);
    }
    let delay_ms = limits.delay_ms(tries.counted);
    let ends = tries.latest?.plus_millis(delay_ms);
    // The latest may be later than this one, which waited for it to be written.
    (delay_ms > 0 && now < ends).then_some(Reason::SubDelayed)
}

/// Which lock keeps anything from being compared.
async fn lock_of(
    unit: &mut dyn UnitOfWork,
    person: &Person,
) -> Result<Option<Reason>, GatewayError> {
    let by_holder = match person.customer() {
        Some(customer) => unit.holder_lock(&customer).await?,
        None => None,
    };
    if by_holder.is_some_and(|row| row.locked) {
        return Ok(Some(Reason::SubLockedByHolder));
    }
    Ok(unit.biometric_lock(&person.subject).await?.map(|_| Reason::SubLocked))
}

/// Whether something of the person's was presented, so that a failure may count against them: the terminal
/// says that card and PIN or the app were, and a token of theirs named them, or the account is theirs. A
/// stranger's own card beside somebody's number proves nothing.
async fn has_shown(
    unit: &mut dyn UnitOfWork,
    session: &Session,
    now: UnixMillis,
) -> Result<bool, GatewayError> {
    if session.holder_verification()? == HolderVerification::None {
        return Ok(false);
    }
    if session.token()?.is_some() {
        return Ok(true);
    }
    let Some(customer) = session.customer()? else { return Ok(false) };
    let owner = unit.customer_by_token(&session.account_index()?, now).await?;
    Ok(owner == Some(customer))
}

impl VerificationJob {
    /// Why no comparison may approve, as it stands in the decision's transaction: a lock may have come
    /// since the try was debited. A picture that cannot be used is refused for that alone, whoever it is.
    pub(super) async fn blocked(
        &self,
        unit: &mut dyn UnitOfWork,
        by_rules: &Decision,
    ) -> Result<Option<Reason>, GatewayError> {
        let Some(tried) = &self.tried else { return Ok(None) };
        if matches!(by_rules.outcome(), Outcome::Inconclusive) {
            return Ok(None);
        }
        let before = tried.debit.as_ref().and_then(|debit| debit.blocked);
        Ok(match before {
            Some(reason) => Some(reason),
            None => lock_of(unit, &tried.person).await?,
        })
    }

    /// Settles the try: an approval ends the person's row of failures, what says nothing of the person is
    /// given back, and a failure stays; one too many locks.
    pub(super) async fn settle_try(
        &self,
        unit: &mut dyn UnitOfWork,
        facts: &Facts,
        decision: &Decision,
        slot: &Slot,
    ) -> Result<(), GatewayError> {
        let Some(Tried { person, debit, locks }) = &self.tried else { return Ok(()) };
        if decision.outcome().approves() {
            let before = slot.now.plus_millis(-UNDER_WAY_MAX_MS);
            unit.forget_tries(&person.subject, before).await?;
        }
        let Some(Debit { id, terminal, .. }) = debit else { return Ok(()) };
        let says_nothing = matches!(decision.outcome(), Outcome::Inconclusive);
        if decision.outcome().approves() || says_nothing {
            unit.refund_try(id).await?;
            return Ok(());
        }
        // By what the terminal is told, or how many failures it has left would tell more.
        if decision.public_reasons().contains(&Reason::MatNotConfirmed) {
            unit.fail_try(id, terminal).await?;
        } else {
            unit.delete_try(id, terminal).await?;
        }
        if self.is_them(facts) {
            // Refused for something else.
            unit.delete_try(id, &person.subject).await?;
        } else if unit.fail_try(id, &person.subject).await? {
            self.lock_if_spent(unit, person, locks, slot).await?;
        }
        Ok(())
    }

    async fn lock_if_spent(
        &self,
        unit: &mut dyn UnitOfWork,
        person: &Person,
        locks: &AtomicBool,
        slot: &Slot,
    ) -> Result<(), GatewayError> {
        let limits = &self.pack.bars().tries;
        let tries = unit.tries(&person.subject, limits.customer_since(slot.now)).await?;
        let is_locked = unit.biometric_lock(&person.subject).await?.is_some();
        if is_locked || tries.failed < limits.lock_after_failures {
            return Ok(());
        }
        let row = LockRow {
            subject: person.subject,
            who: person.who.clone(),
            locked_at: slot.now,
            index: None,
        };
        unit.put_biometric_lock(&row).await?;
        locks.store(true, Ordering::SeqCst);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::PolicyPack;

    fn limits() -> TryLimits {
        PolicyPack::embedded_dev().unwrap().bars().tries
    }

    fn tries(counted: u32, latest: i64) -> Tries {
        Tries { counted, failed: 0, latest: Some(UnixMillis::new(latest)) }
    }

    #[test]
    fn a_delay_runs_from_the_latest_try_and_a_lock_without_end() {
        let at = |counted, now| delayed(&tries(counted, 1_000), &limits(), UnixMillis::new(now));
        assert_eq!(delayed(&Tries::default(), &limits(), UnixMillis::new(0)), None);
        assert_eq!(at(2, 1_000), None);
        assert_eq!(at(2, 999), None);
        assert_eq!(at(3, 30_999), Some(Reason::SubDelayed));
        assert_eq!(at(3, 31_000), None);
        assert_eq!(at(4, 60_999), Some(Reason::SubDelayed));
        assert_eq!(at(9, 1_921_000), None);
        assert_eq!(at(10, i64::MAX), Some(Reason::SubLocked));
    }

    #[test]
    fn a_terminal_waits_from_its_last_failure_on() {
        assert!(unthrottled(&tries(29, 0), &limits()).is_ok());
        assert!(matches!(unthrottled(&tries(30, 0), &limits()), Err(GatewayError::Throttled)));
    }
}
