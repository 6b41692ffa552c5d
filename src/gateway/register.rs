//! Registers: imported whole by the bank's staff, asked in the transaction of each decision.

use std::collections::{BTreeMap, BTreeSet};

use super::Gateway;
use super::act::Write;
use super::act::receipt_actor;
use super::error::GatewayError;
use super::request::Actor;
use super::sequencer::Slot;
use super::verification_job::VerificationJob;
use crate::crypto::{Digest, length_prefixed, sha256};
use crate::domain::id::{CustomerId, TerminalId};
use crate::domain::iin::Iin;
use crate::domain::register::{Listed, Register, SourceCode};
use crate::domain::time::UnixMillis;
use crate::domain::transaction::{OpaqueToken, TokenKind};
use crate::receipt::{Administration, Content, RegisterUsed};
use crate::store::{RegisterQuestion, RegisterRow, RegisterValueRow, StoreError, UnitOfWork};

/// Most values of a register.
pub const VALUES_MAX: usize = 2_000_000;

/// Values in one transaction of an import, so that decisions wait for none of it long.
const STAGED: usize = 5_000;

/// Values read or deleted at a time.
const PAGE: u32 = 20_000;

/// A value of a register, checked.
#[derive(Clone, Debug)]
pub enum ListedValue {
    /// A person.
    Person(Iin),
    /// A card.
    Card(OpaqueToken),
    /// An account.
    Account(OpaqueToken),
    /// A terminal.
    Terminal(TerminalId),
}

/// A row of a register, checked.
#[derive(Clone, Debug)]
pub struct ListedRow {
    /// Who or what is listed.
    pub value: ListedValue,
    /// The source's code.
    pub note: Option<SourceCode>,
    /// From this instant on it no longer counts.
    pub valid_until: Option<UnixMillis>,
}

/// A register before it is imported; it holds keyed hashes only.
#[derive(Debug)]
pub struct RegisterDraft {
    register: Register,
    rows: BTreeMap<Digest, RegisterValueRow>,
}

/// The value stands in the draft already.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it stands in an earlier row already")]
pub struct Repeated;

/// How a version differs from the one before.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RegisterDiff {
    /// Values that are new.
    pub added: u64,
    /// Values that are gone.
    pub removed: u64,
    /// Values that stay as they are.
    pub unchanged: u64,
    /// Values that stay, valid until another instant.
    pub changed: u64,
    /// The version that is now in force; none of a dry run.
    pub version: Option<RegisterRow>,
}

impl RegisterDraft {
    /// An empty draft.
    #[must_use]
    pub const fn of(register: Register) -> Self {
        Self { register, rows: BTreeMap::new() }
    }

    /// Whether no more values fit.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.rows.len() >= VALUES_MAX
    }

    /// The content's hash: over the values in their order, each with its end.
    fn hash(&self) -> Digest {
        let name = self.register.as_str().as_bytes();
        let mut bytes = length_prefixed(&[b"tulga-register-v1", name]);
        for row in self.rows.values() {
            let until = row.valid_until.map(|until| until.get().to_be_bytes());
            let until = until.as_ref().map_or(&[][..], |bytes| bytes.as_slice());
            bytes.extend(length_prefixed(&[row.value.as_bytes(), until]));
        }
        sha256(&bytes)
    }
}

impl Gateway {
    /// Adds a row to a draft.
    ///
    /// # Errors
    ///
    /// [`Repeated`] for a value that stands there.
    pub fn add_to_register(
        &self,
        draft: &mut RegisterDraft,
        row: ListedRow,
    ) -> Result<(), Repeated> {
        let tenant = &self.settings.tenant;
        let value = match &row.value {
            ListedValue::Person(iin) => self.vault.iin_index(tenant, iin),
            ListedValue::Card(token) => self.vault.token_index(tenant, TokenKind::Card, token),
            ListedValue::Account(token) => {
                self.vault.token_index(tenant, TokenKind::Account, token)
            }
            ListedValue::Terminal(terminal) => self.vault.device_index(tenant, terminal),
        };
        if draft.rows.contains_key(&value) {
            return Err(Repeated);
        }
        let ListedRow { value: _, note, valid_until } = row;
        draft.rows.insert(value, RegisterValueRow { value, note, valid_until });
        Ok(())
    }

    /// Puts a draft in force in the place of the whole register, or only tells what would change.
    ///
    /// # Errors
    ///
    /// [`GatewayError::State`] while another import runs; what the store cannot do.
    pub async fn import_register(
        &self,
        actor: &Actor,
        draft: RegisterDraft,
        dry_run: bool,
    ) -> Result<RegisterDiff, GatewayError> {
        let turn = self.register_import.try_lock();
        let _turn = turn.map_err(|_| GatewayError::State("another import runs"))?;
        let register = draft.register;
        let held = self.registers().await?.into_iter().find(|row| row.register == register);
        let held = held.map_or(0, |row| row.version);
        let mut diff = self.compare(&draft, held).await?;
        if dry_run {
            return Ok(diff);
        }
        let row = RegisterRow {
            register,
            version: held + 1,
            hash: draft.hash(),
            count: u64::try_from(draft.rows.len()).unwrap_or(u64::MAX),
            imported_at: self.clock.now(),
            index: 0,
        };
        // What an import left behind that did not come to its end.
        self.forget_values(register, held).await?;
        self.stage(&row, draft).await?;
        let content = Content::Administration(Administration {
            act: "register_imported".to_owned(),
            actor: receipt_actor(actor),
            subject: Some(register.as_str().to_owned()),
            details: Some(row.hash.labelled()),
        });
        let version = row.version;
        self.perform_as(content, None, vec![Write::PutRegister(row)]).await?;
        // The version is in force whatever becomes of the old one's rows: the next import forgets them.
        if let Err(error) = self.forget_values(register, version).await {
            tracing::warn!(code = error.code(), error = %error, "old rows of a register are left");
        }
        diff.version = Some(self.register(register).await?);
        Ok(diff)
    }

    /// The versions in force.
    ///
    /// # Errors
    ///
    /// What the store cannot do.
    pub async fn registers(&self) -> Result<Vec<RegisterRow>, GatewayError> {
        Ok(self.store.registers().await?)
    }

    /// The version of a register that is in force.
    ///
    /// # Errors
    ///
    /// [`GatewayError::NotFound`] when it was never imported.
    pub async fn register(&self, register: Register) -> Result<RegisterRow, GatewayError> {
        let row = self.registers().await?.into_iter().find(|row| row.register == register);
        row.ok_or(GatewayError::NotFound("register"))
    }

    async fn compare(
        &self,
        draft: &RegisterDraft,
        version: u64,
    ) -> Result<RegisterDiff, GatewayError> {
        let mut diff = RegisterDiff::default();
        let (mut after, mut stay) = (None, 0);
        loop {
            let after_value = after.as_ref();
            let page =
                self.store.register_values(draft.register, version, after_value, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.value);
            for row in &page {
                match draft.rows.get(&row.value) {
                    None => diff.removed += 1,
                    Some(new) if new.valid_until == row.valid_until => diff.unchanged += 1,
                    Some(_) => diff.changed += 1,
                }
                stay += u64::from(draft.rows.contains_key(&row.value));
            }
        }
        diff.added = u64::try_from(draft.rows.len()).unwrap_or(u64::MAX).saturating_sub(stay);
        Ok(diff)
    }

    async fn stage(&self, row: &RegisterRow, draft: RegisterDraft) -> Result<(), GatewayError> {
        let rows: Vec<_> = draft.rows.into_values().collect();
        for rows in rows.chunks(STAGED) {
            let mut unit = self.store.begin().await?;
            unit.insert_register_values(row.register, row.version, rows).await?;
            unit.commit().await?;
        }
        Ok(())
    }

    async fn forget_values(&self, register: Register, kept: u64) -> Result<(), GatewayError> {
        loop {
            let mut unit = self.store.begin().await?;
            let deleted = unit.delete_register_values(register, kept, PAGE).await?;
            unit.commit().await?;
            if deleted == 0 {
                return Ok(());
            }
        }
    }
}

impl VerificationJob {
    /// The versions of registers that the pack's rules ask; all of them, whoever the person is, since
    /// the receipt names them.
    pub(super) async fn registers_in_force(
        &self,
        unit: &mut dyn UnitOfWork,
    ) -> Result<Vec<RegisterRow>, GatewayError> {
        if self.pack.sees("registers") { Ok(unit.registers().await?) } else { Ok(Vec::new()) }
    }

    /// The registers that have the person, the card, an account or the terminal in them.
    pub(super) async fn registers(
        &self,
        unit: &mut dyn UnitOfWork,
        versions: &[RegisterRow],
        customer: Option<CustomerId>,
        slot: &Slot,
    ) -> Result<BTreeSet<Register>, GatewayError> {
        if versions.is_empty() {
            return Ok(BTreeSet::new());
        }
        let person = match customer {
            Some(id) => unit.customer(&id).await?.and_then(|row| row.iin_index),
            None => None,
        };
        let number = self.session.number()?;
        let owner = self.owner(unit, slot).await?.and_then(|row| row.iin_index);
        let card = self.session.card()?;
        let account = self.session.account_index()?;
        let tenant = &self.settings.tenant;
        let counterparty = self.session.counterparty.as_deref().map(OpaqueToken::try_from);
        let counterparty = counterparty.transpose();
        let counterparty = counterparty.map_err(|_| GatewayError::broken("counterparty"))?;
        let counterparty =
            counterparty.map(|token| self.vault.token_index(tenant, TokenKind::Account, &token));
        let terminal = self.vault.device_index(tenant, &self.terminal.id);
        let mut questions = Vec::new();
        for row in versions {
            let values = match row.register.lists() {
                Listed::Persons => [person, number, owner],
                Listed::Cards => [card, None, None],
                Listed::Accounts => [Some(account), counterparty, None],
                Listed::Terminals => [Some(terminal), None, None],
            };
            let RegisterRow { register, version, .. } = *row;
            let of = |value| RegisterQuestion { register, version, value };
            questions.extend(values.into_iter().flatten().map(of));
        }
        Ok(unit.listed(&questions, slot.now).await?.into_iter().collect())
    }
}

/// The registers as a receipt names them.
pub(super) fn used(versions: &[RegisterRow]) -> Vec<RegisterUsed> {
    let named = versions.iter().map(|row| RegisterUsed {
        name: row.register.as_str().to_owned(),
        hash: row.hash.labelled(),
    });
    named.collect()
}

/// Puts a version in force whose values are staged.
pub(super) async fn put_register(
    unit: &mut dyn UnitOfWork,
    row: &RegisterRow,
    slot: &Slot,
) -> Result<(), GatewayError> {
    let newest = unit.registers().await?.into_iter().find(|held| held.register == row.register);
    if newest.map_or(0, |held| held.version) + 1 != row.version {
        return Err(GatewayError::State("another import came between"));
    }
    let row = RegisterRow { imported_at: slot.now, index: slot.place, ..row.clone() };
    match unit.insert_register(&row).await {
        Err(StoreError::Exists) => Err(GatewayError::State("another import came between")),
        other => Ok(other?),
    }
}
