//! Two tellers agree, at a desk, to the waiting confirmation of somebody who is unable to give a biometric.

use serde_json::json;
use zeroize::Zeroizing;

use super::Gateway;
use super::act::{Write, receipt_actor};
use super::confirmation::{Answering, Confirmed, Pending};
use super::confirming::{Kept, confirmation_message};
use super::error::GatewayError;
use super::people::{Person, require_another};
use super::request::{Actor, Logged};
use super::sequencer::Slot;
use crate::crypto::{Digest, length_prefixed, sha256};
use crate::domain::id::{ConfirmationId, PrincipalName, TerminalId};
use crate::domain::transaction::CustomerReference;
use crate::receipt::{Administration, Content};
use crate::store::{AnswerKind, ConfirmationRow, PendingOf, TellerProposal, UnitOfWork};
use crate::vault::{CustomerKeys, Place};

/// Whose exceptions a teller asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ExceptionsOf {
    /// One customer's.
    Customer(CustomerReference),
    /// Those that one terminal waits for.
    Terminal(TerminalId),
}

/// A confirmation that two tellers may answer.
struct AtDesk {
    row: ConfirmationRow,
    keys: CustomerKeys,
    kept: Kept,
}

impl Gateway {
    /// What waits that two tellers may agree to; nothing for nobody.
    ///
    /// # Errors
    ///
    /// What the store cannot do.
    pub async fn waiting_exceptions(
        &self,
        of: &ExceptionsOf,
    ) -> Result<Vec<Pending>, GatewayError> {
        let pending = match of {
            ExceptionsOf::Customer(reference) => self.pending_of(reference).await?,
            ExceptionsOf::Terminal(id) => self.pending(PendingOf::Terminal(id), 0).await?,
        };
        Ok(pending.into_iter().filter(|pending| pending.is_exception).collect())
    }

    /// The first teller agrees. It counts once a second one has approved it; a later word replaces one
    /// that nobody has approved.
    ///
    /// # Errors
    ///
    /// [`GatewayError::State`] when it is no exception, is answered, or its time is over.
    pub async fn propose_exception(
        &self,
        actor: &Actor,
        id: &ConfirmationId,
        evidence_ref: &str,
    ) -> Result<Logged, GatewayError> {
        let AtDesk { row, keys, kept } = self.at_desk(id).await?;
        let record = Zeroizing::new(json!({ "evidence_ref": evidence_ref }).to_string());
        let place = self.proposal_place(&row);
        let first = TellerProposal {
            by: actor.name.clone(),
            key: actor.spki,
            sealed: keys.seal(&place, record.as_bytes(), &*self.entropy)?,
            // Both are known once the entry has its place.
            at: row.created_at,
            index: 0,
        };
        let content = Content::Administration(Administration {
            act: "exception_proposed".to_owned(),
            actor: receipt_actor(actor),
            subject: Some(keys.pseudonym(&self.settings.tenant, &row.customer)),
            details: Some(proof(id, &kept)),
        });
        let write = Write::ProposeException(*id, Box::new(first));
        self.perform_as(content, Some(row.key.terminal), vec![write]).await
    }

    /// The second teller agrees, on the evidence that the first one had.
    ///
    /// # Errors
    ///
    /// [`GatewayError::State`] when nothing is proposed, or by the same person; when it is answered, or
    /// its time is over.
    pub async fn approve_exception(
        &self,
        actor: &Actor,
        id: &ConfirmationId,
        evidence_ref: &str,
    ) -> Result<Confirmed, GatewayError> {
        let AtDesk { row, keys, kept } = self.at_desk(id).await?;
        let first = row.proposal.clone();
        let first =
            first.ok_or(GatewayError::State("no teller has agreed to the exception yet"))?;
        let plain = keys.open(&self.proposal_place(&row), &first.sealed)?;
        let record: serde_json::Value = serde_json::from_slice(&plain)
            .map_err(|cause| GatewayError::internal("a teller's word", cause))?;
        if record.get("evidence_ref").and_then(serde_json::Value::as_str) != Some(evidence_ref) {
            return Err(GatewayError::Invalid {
                field: "evidence_ref",
                problem: "it is not the evidence that was proposed",
            });
        }
        let (name, key) = (actor.name.clone(), actor.spki);
        let answering = Answering {
            details: Some(proof(id, &kept)),
            // The very word that was looked at: another one in between is not approved by this.
            before: Some(Write::RequireSecondTeller(*id, Box::new(first), name, key)),
            ..Answering::unsigned(AnswerKind::TwoTellers, "exception_approved")
        };
        self.agree(actor, row, answering).await
    }

    /// A confirmation, if it is of somebody who is unable to give a biometric: nobody else's is answered
    /// at a desk.
    async fn at_desk(&self, id: &ConfirmationId) -> Result<AtDesk, GatewayError> {
        let missing = GatewayError::NotFound("confirmation");
        let Some(row) = self.store.confirmation(id).await? else { return Err(missing) };
        let Some(keys) = self.customer_keys(&row.customer).await? else { return Err(missing) };
        let kept = Kept::open(self.settings.tenant.as_str(), &keys, &row)?;
        if kept.is_exception() {
            Ok(AtDesk { row, keys, kept })
        } else {
            Err(GatewayError::State("tellers agree to exceptions only"))
        }
    }

    fn proposal_place(&self, row: &ConfirmationRow) -> Place {
        let tenant = self.settings.tenant.as_str();
        let id = row.id.as_bytes();
        Place::of_customer("confirmations", "proposal_sealed", tenant, &row.customer, id)
    }
}

/// What both tellers' entries commit to: the transaction as the customer is shown it.
fn proof(id: &ConfirmationId, kept: &Kept) -> String {
    let message = confirmation_message(id, &kept.shown);
    sha256(&length_prefixed(&[b"tulga-teller-proof-v1", &message])).labelled()
}

/// Notes the first teller's word while the confirmation waits.
pub(super) async fn propose(
    unit: &mut dyn UnitOfWork,
    id: &ConfirmationId,
    first: &TellerProposal,
    slot: &Slot,
) -> Result<(), GatewayError> {
    let row = unit.confirmation(id).await?.ok_or(GatewayError::NotFound("confirmation"))?;
    if slot.now > row.expires_at {
        return Err(GatewayError::State("the confirmation's time is over"));
    }
    require_marked(unit, &row).await?;
    let first = TellerProposal { at: slot.now, index: slot.place, ..first.clone() };
    if unit.propose_confirmation(id, &first).await? {
        Ok(())
    } else {
        Err(GatewayError::State("the confirmation was answered already"))
    }
}

/// Whether whoever has this name and key may approve what was seen to be proposed.
pub(super) async fn require_second(
    unit: &mut dyn UnitOfWork,
    id: &ConfirmationId,
    first: &TellerProposal,
    name: &PrincipalName,
    key: &Digest,
) -> Result<(), GatewayError> {
    let row = unit.confirmation(id).await?.ok_or(GatewayError::NotFound("confirmation"))?;
    if row.proposal.as_ref() != Some(first) {
        return Err(GatewayError::State("another teller agreed in between"));
    }
    require_another(unit, Person::of(&first.by, &first.key), Person::of(name, key)).await?;
    require_marked(unit, &row).await
}

/// Whoever lost the mark in between gives a biometric again.
async fn require_marked(
    unit: &mut dyn UnitOfWork,
    row: &ConfirmationRow,
) -> Result<(), GatewayError> {
    let mark = unit.unable(&row.customer).await?;
    if mark.is_some_and(|mark| mark.approved_at.is_some()) {
        Ok(())
    } else {
        Err(GatewayError::State("the customer is not marked as unable to give a biometric"))
    }
}
