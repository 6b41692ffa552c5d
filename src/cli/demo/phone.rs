//! A customer's telephone, behind the back end of the bank's application.

use anyhow::{Context as _, Result};
use tonic::transport::Channel;

use super::super::verify::Visit;
use crate::crypto::{Ed25519Key, Signer as _, SystemEntropy, sha256};
use crate::domain::id::{ConfirmationId, CustomerId};
use crate::gateway::{Shown, app_key_message, confirmation_message};
use crate::proto;
use crate::proto::confirmation_service_client::ConfirmationServiceClient;
use crate::proto::enrollment_service_client::EnrollmentServiceClient;

/// A telephone and its key.
pub(super) struct CustomersPhone {
    key: Ed25519Key,
    back_end: ConfirmationServiceClient<Channel>,
}

impl CustomersPhone {
    /// Makes a key and registers it as the customer's.
    pub async fn register(
        back_end: Channel,
        desk: &mut EnrollmentServiceClient<Channel>,
        customer: &str,
    ) -> Result<Self> {
        let key = Ed25519Key::generate(&SystemEntropy)?;
        let id = CustomerId::from_hex(customer).context("a customer's id")?;
        let public_key = key.public_key().to_spki_der();
        let proof = key.sign(&app_key_message(&id, &public_key))?;
        let customer_id = customer.to_owned();
        desk.bind_app_key(proto::BindAppKeyRequest { customer_id, public_key, proof }).await?;
        Ok(Self { key, back_end: ConfirmationServiceClient::new(back_end) })
    }

    /// Signs what waits for the customer of a transaction.
    pub async fn confirm(&mut self, visit: &Visit) -> Result<()> {
        let pending = self.pending(visit).await?;
        let id =
            ConfirmationId::from_hex(&pending.confirmation_id).context("a confirmation's id")?;
        let operation = match pending.operation() {
            proto::Operation::Withdrawal => "cash_withdrawal",
            proto::Operation::DepositThirdParty => "third_party_deposit",
            _ => "cash_deposit",
        };
        let shown = Shown {
            operation: operation.to_owned(),
            amount_minor: pending.amount_minor,
            currency: pending.currency,
            payee: pending.payee,
            terminal: pending.terminal_id,
            place: pending.place,
            displayed_at: pending.displayed_at,
        };
        let request = proto::ConfirmRequest {
            confirmation_id: pending.confirmation_id,
            key_id: sha256(&self.key.public_key().to_spki_der()).hex(),
            signature: self.key.sign(&confirmation_message(&id, &shown))?,
        };
        self.back_end.confirm(request).await?;
        Ok(())
    }

    /// Refuses it.
    pub async fn decline(&mut self, visit: &Visit) -> Result<()> {
        let confirmation_id = self.pending(visit).await?.confirmation_id;
        self.back_end.decline(proto::DeclineRequest { confirmation_id }).await?;
        Ok(())
    }

    async fn pending(&mut self, visit: &Visit) -> Result<proto::PendingConfirmation> {
        let request = proto::ListPendingRequest { customer: Some(visit.customer()) };
        let pending = self.back_end.list_pending(request).await?.into_inner().pending;
        pending.into_iter().next().context("nothing waits for the customer")
    }
}
