//! What moved in truth: the host's word, which alone frees what limits have reserved.

use super::Gateway;
use super::act::{Write, receipt_actor};
use super::error::GatewayError;
use super::request::{Actor, Logged};
use crate::domain::id::{Attempt, HostTransactionId, TerminalId};
use crate::domain::money::Currency;
use crate::domain::time::BusinessDate;
use crate::domain::transaction::DecisionKey;
use crate::receipt::{self, Content, Refers, verify};

/// The host says how much moved under an approval.
#[derive(Clone, Debug)]
pub struct Reverse {
    /// The exact bytes of the approval's receipt.
    pub receipt_jws: String,
    /// The host's number.
    pub host_id: HostTransactionId,
    /// The bank's day.
    pub business_date: BusinessDate,
    /// Which try.
    pub attempt: Attempt,
    /// How much moved, in minor units.
    pub moved_minor: i64,
    /// Of which currency.
    pub currency: Currency,
}

impl Gateway {
    /// Logs what moved in truth, and lets limits count that.
    ///
    /// The same again gives the same entry.
    ///
    /// # Errors
    ///
    /// [`GatewayError::Invalid`] with the field that does not fit the receipt.
    pub async fn reverse(&self, actor: &Actor, request: Reverse) -> Result<Logged, GatewayError> {
        let invalid = |field, problem| GatewayError::Invalid { field, problem };
        let verified = verify(&request.receipt_jws, &self.keyring.installed()?.register)
            .map_err(|_| invalid("receipt_jws", "it is not a receipt of this gateway"))?;
        let entry = self.entry_of(&verified.id()).await?;
        if entry.jws != request.receipt_jws {
            return Err(invalid("receipt_jws", "it is not the receipt in the ledger"));
        }
        let terminal = match &verified.body().content {
            Content::Verification(decision) => &decision.terminal.id,
            Content::Exception(decision) => &decision.terminal.id,
            _ => return Err(invalid("receipt_jws", "it is not the receipt of a decision")),
        };
        let terminal = TerminalId::try_from(terminal.as_str())
            .map_err(|_| GatewayError::broken("a receipt names no terminal"))?;
        let key = DecisionKey {
            terminal: terminal.clone(),
            business_date: request.business_date,
            host_id: request.host_id,
            attempt: request.attempt,
        };
        let decision = self.standing_decision(&key).await?;
        if decision.is_none_or(|(row, _)| row.index != entry.place) {
            return Err(invalid("host_transaction_id", "the receipt is of another transaction"));
        }
        let content = Content::Reversal(receipt::Reversal {
            refers: Refers::to(&entry.receipt, entry.position),
            moved_minor: request.moved_minor,
            currency: request.currency.as_str().to_owned(),
            actor: receipt_actor(actor),
        });
        let mine = self.new_receipt()?;
        let writes = vec![Write::SetMoved(key, request.moved_minor, request.currency)];
        self.perform_under(mine, content, Some(terminal), writes).await
    }
}
