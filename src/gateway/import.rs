//! Bulk import: one row is one customer, and one bad row spoils no other.

use std::sync::Arc;

use super::Gateway;
use super::error::GatewayError;
use super::request::{Actor, BindToken, ImportRow};
use crate::domain::id::CustomerId;
use crate::domain::reason::Reason;
use crate::store::CustomerStatus;

/// What became of a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Imported {
    /// The customer that was created.
    pub customer: CustomerId,
    /// Where they stand now.
    pub status: CustomerStatus,
    /// How many captures were taken.
    pub captures: usize,
    /// Why others were not.
    pub reasons: Vec<Reason>,
}

impl Gateway {
    /// Creates, binds, captures and activates. A customer without a usable capture stays pending.
    ///
    /// # Errors
    ///
    /// [`GatewayError`] of the first step that failed. What was done before it stays, as entries of
    /// the ledger say; the customer stays pending.
    pub async fn import(
        self: &Arc<Self>,
        actor: &Actor,
        row: ImportRow,
    ) -> Result<Imported, GatewayError> {
        let ImportRow { customer, tokens, images } = row;
        let id = self.create_customer(actor, customer).await?;
        for (kind, token, expires_at) in tokens {
            self.bind_token(actor, BindToken { customer: id, kind, token, expires_at }).await?;
        }
        let mut imported = Imported {
            customer: id,
            status: CustomerStatus::Pending,
            captures: 0,
            reasons: Vec::new(),
        };
        for image in images {
            let answer = self.add_capture(actor, &id, image, None).await?;
            imported.captures += usize::from(answer.capture.is_some());
            imported.reasons.extend(answer.reasons);
        }
        if imported.captures > 0 {
            imported.status = self.activate(actor, &id).await?.status;
        }
        Ok(imported)
    }
}
