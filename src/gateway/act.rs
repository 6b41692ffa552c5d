//! Acts of the bank's staff: what is written, and the entry that says so, in one transaction.

use async_trait::async_trait;

use super::Gateway;
use super::error::GatewayError;
use super::request::{Actor, Logged};
use super::sequencer::{Job, NewEntry, Slot, Step};
use crate::crypto::{Digest, random_bytes};
use crate::domain::id::{CaptureId, CustomerId, ReceiptId, TerminalId};
use crate::domain::time::UnixMillis;
use crate::receipt::{self, Administration, Content, ReceiptDraft, rid_text};
use crate::store::{
    CaptureRow, CustomerKeyRow, CustomerRow, CustomerStatus, DuplicateRow, RedemptionRow,
    StoreError, TerminalKeyRow, TokenRow, UnitOfWork,
};

/// One write of an act.
pub(super) enum Write {
    InsertCustomer(Box<CustomerRow>, CustomerKeyRow),
    InsertToken(TokenRow),
    DeleteToken(Digest, CustomerId),
    /// Adds a capture if the customer has fewer than the most.
    InsertCapture(Box<CaptureRow>, usize),
    DeleteCapture(CaptureId, CustomerId),
    InsertDuplicates(Vec<DuplicateRow>),
    ResolveDuplicates(CustomerId, &'static str),
    /// Moves a customer from one of the statuses to another.
    SetStatus(CustomerId, &'static [CustomerStatus], CustomerStatus),
    Erase(CustomerId),
    InsertTerminalKey(TerminalKeyRow),
    /// Revokes every key of a terminal but one.
    RevokeKeys(TerminalId, Option<Digest>),
    /// Redeems a receipt, or finds that it was.
    Redeem(ReceiptId),
}

/// An act on its way into the ledger.
struct ActJob {
    receipt: ReceiptId,
    terminal: Option<TerminalId>,
    issuer: String,
    tenant: String,
    content: Content,
    writes: Vec<Write>,
}

#[async_trait]
impl Job for ActJob {
    async fn run(&mut self, unit: &mut dyn UnitOfWork, slot: &Slot) -> Result<Step, GatewayError> {
        for write in &self.writes {
            if let Some(existing) = write.apply(unit, slot).await? {
                return Ok(Step::Existing(existing));
            }
        }
        Ok(Step::Append(Box::new(NewEntry {
            receipt: self.receipt,
            terminal: self.terminal.clone(),
            draft: ReceiptDraft {
                rid: rid_text(&self.receipt),
                iss: self.issuer.clone(),
                aud: None,
                valid_for_ms: None,
                tenant: self.tenant.clone(),
                content: self.content.clone(),
            },
            sealed_audit: None,
        })))
    }
}

impl Write {
    /// Writes; the index of an entry that already says the same, where there is one.
    async fn apply(
        &self,
        unit: &mut dyn UnitOfWork,
        slot: &Slot,
    ) -> Result<Option<u64>, GatewayError> {
        match self {
            Self::InsertCustomer(row, key) => {
                exists("customer", unit.insert_customer(row, key).await)?;
            }
            Self::InsertToken(row) => exists("token", unit.insert_token(row).await)?,
            Self::DeleteToken(index, customer) => {
                found("token", unit.delete_token(index, customer).await?)?;
            }
            Self::InsertCapture(row, captures_max) => {
                if unit.captures(&row.customer).await?.len() >= *captures_max {
                    return Err(GatewayError::State(
                        "the customer has the most captures a template takes",
                    ));
                }
                exists("capture", unit.insert_capture(row).await)?;
            }
            Self::DeleteCapture(id, customer) => {
                found("capture", unit.delete_capture(id, customer).await?)?;
            }
            Self::InsertDuplicates(rows) => {
                for row in rows {
                    unit.insert_duplicate(row).await?;
                }
            }
            Self::ResolveDuplicates(id, word) => {
                unit.resolve_duplicates(id, word, slot.now).await?;
            }
            Self::SetStatus(id, from, to) => {
                let customer =
                    unit.customer(id).await?.ok_or(GatewayError::NotFound("customer"))?;
                if !from.contains(&customer.status) {
                    return Err(GatewayError::State("the customer's status does not allow it"));
                }
                unit.set_customer_status(id, *to, slot.now).await?;
            }
            Self::Erase(id) => found("customer", unit.erase_customer(id, slot.now).await?)?,
            Self::InsertTerminalKey(row) => {
                exists("terminal key", unit.insert_terminal_key(row).await)?;
            }
            Self::RevokeKeys(terminal, kept) => {
                revoke_keys(unit, terminal, kept.as_ref(), slot.now).await?;
            }
            Self::Redeem(receipt) => {
                if let Some(row) = unit.redemption(receipt).await? {
                    return Ok(Some(row.index));
                }
                let row =
                    RedemptionRow { receipt: *receipt, redeemed_at: slot.now, index: slot.index };
                unit.insert_redemption(&row).await?;
            }
        }
        Ok(None)
    }
}

async fn revoke_keys(
    unit: &mut dyn UnitOfWork,
    terminal: &TerminalId,
    kept: Option<&Digest>,
    now: UnixMillis,
) -> Result<(), GatewayError> {
    let keys = unit.keys_of_terminal(terminal).await?;
    let live = keys.iter().filter(|key| key.revoked_at.is_none() && Some(&key.spki) != kept);
    let mut revoked = 0;
    for key in live {
        unit.revoke_terminal_key(&key.spki, now).await?;
        revoked += 1;
    }
    if revoked == 0 { Err(GatewayError::NotFound("terminal")) } else { Ok(()) }
}

fn exists(what: &'static str, result: Result<(), StoreError>) -> Result<(), GatewayError> {
    result.map_err(|error| match error {
        StoreError::Exists => GatewayError::Exists(what),
        other => GatewayError::Store(other),
    })
}

fn found(what: &'static str, found: bool) -> Result<(), GatewayError> {
    if found { Ok(()) } else { Err(GatewayError::NotFound(what)) }
}

/// An administrative act before its entry: `customer_created`, by whom, to whom.
pub(super) struct Act<'a> {
    pub act: &'static str,
    pub actor: &'a Actor,
    pub subject: Option<String>,
    pub terminal: Option<TerminalId>,
}

impl Gateway {
    /// Writes and logs an administrative act.
    pub(super) async fn perform(
        &self,
        act: Act<'_>,
        writes: Vec<Write>,
    ) -> Result<Logged, GatewayError> {
        let Act { act, actor, subject, terminal } = act;
        let content = Content::Administration(Administration {
            act: act.to_owned(),
            actor: receipt_actor(actor),
            subject,
            details: None,
        });
        self.perform_as(content, terminal, writes).await
    }

    /// Writes and logs anything.
    pub(super) async fn perform_as(
        &self,
        content: Content,
        terminal: Option<TerminalId>,
        writes: Vec<Write>,
    ) -> Result<Logged, GatewayError> {
        let job = ActJob {
            receipt: ReceiptId::new(random_bytes(&*self.entropy)?),
            terminal,
            issuer: self.settings.issuer.clone(),
            tenant: self.settings.tenant.as_str().to_owned(),
            content,
            writes,
        };
        self.sequencer.submit(Box::new(job)).await
    }
}

/// The actor as receipts write it.
pub(super) fn receipt_actor(actor: &Actor) -> receipt::Actor {
    receipt::Actor {
        role: actor.role.to_owned(),
        name: actor.name.as_str().to_owned(),
        cert: actor.spki.labelled(),
    }
}
