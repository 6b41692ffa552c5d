//! Bulk import: one row is one customer, and one bad row spoils no other.

use std::sync::Arc;

use super::Gateway;
use super::activation::SecondPerson;
use super::error::GatewayError;
use super::request::{Actor, BindToken, Capture, ImportRow};
use crate::domain::id::CustomerId;
use crate::domain::modality::Modality;
use crate::domain::reason::Reason;
use crate::domain::time::UnixMillis;
use crate::domain::transaction::{OpaqueToken, TokenKind};
use crate::store::CustomerStatus;

/// What became of a row.
#[derive(Debug)]
pub struct Imported {
    /// The customer that was created.
    pub customer: CustomerId,
    /// Where they stand now.
    pub status: CustomerStatus,
    /// Why a second person has to activate them, where one has.
    pub needs_second_person: Option<SecondPerson>,
    /// How many captures were taken.
    pub captures: usize,
    /// Why others were not.
    pub reasons: Vec<Reason>,
    /// The step that failed, where one did; what was done before it stays.
    pub failure: Option<GatewayError>,
}

impl Gateway {
    /// Creates, binds, captures and activates. A customer without a usable capture stays pending.
    ///
    /// # Errors
    ///
    /// [`GatewayError`] when no customer was created. A later step that fails is told in the answer,
    /// beside the customer, who stays pending.
    pub async fn import(
        self: &Arc<Self>,
        actor: &Actor,
        row: ImportRow,
    ) -> Result<Imported, GatewayError> {
        let ImportRow { customer, tokens, captures } = row;
        // Pictures of a file are signed by nobody.
        self.require_unsigned_enrolment().await?;
        let mut imported = Imported {
            customer: self.create_customer(actor, customer).await?,
            status: CustomerStatus::Pending,
            needs_second_person: None,
            captures: 0,
            reasons: Vec::new(),
            failure: None,
        };
        imported.failure = self.complete(actor, tokens, captures, &mut imported).await.err();
        Ok(imported)
    }

    async fn complete(
        self: &Arc<Self>,
        actor: &Actor,
        tokens: Vec<(TokenKind, OpaqueToken, Option<UnixMillis>)>,
        captures: Vec<(Modality, Capture)>,
        imported: &mut Imported,
    ) -> Result<(), GatewayError> {
        let customer = imported.customer;
        for (kind, token, expires_at) in tokens {
            self.bind_token(actor, BindToken { customer, kind, token, expires_at }).await?;
        }
        for (modality, capture) in captures {
            let answer = self.add_capture(actor, &customer, modality, capture.into()).await?;
            imported.captures += usize::from(answer.capture.is_some());
            imported.reasons.extend(answer.reasons);
        }
        if imported.captures > 0 {
            let activation = self.activate(actor, &customer).await?;
            imported.status = activation.status;
            imported.needs_second_person = activation.needs_second_person;
        }
        Ok(())
    }
}
