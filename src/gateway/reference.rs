//! Reference images: a portrait of a person from a source that the bank trusts, for the comparison at
//! enrolment.

use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;

use super::Gateway;
use super::error::GatewayError;
use super::request::{Capture, Declared};
use super::vision::Faces;
use crate::domain::embedding::FaceEmbedding;
use crate::domain::id::CustomerId;
use crate::domain::iin::Iin;
use crate::domain::reference::SecondPersonReason;
use crate::face::Acquisition;
use crate::matching::Template;
use crate::vault::Place;

/// Where portraits of people come from.
#[async_trait]
pub trait ReferenceSource: Send + Sync + std::fmt::Debug {
    /// The portrait of the person with this number, encoded; `None` when the source has nobody by it.
    ///
    /// # Errors
    ///
    /// [`ReferenceError`] for whatever is technical: it says nothing about the person, and activates
    /// nobody.
    async fn portrait(&self, iin: &Iin) -> Result<Option<Bytes>, ReferenceError>;
}

/// A source did not say whether it has a portrait. Nothing here repeats what it was asked or said.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// It cannot be reached or read.
    #[error("the source of reference images cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Its folder has nothing in it: more likely a share that is not mounted than a bank without people.
    #[error("the folder of reference images is empty")]
    Empty,
    /// It did not answer in time.
    #[error("the source of reference images did not answer in time")]
    Deadline,
    /// It answered with an error; the word of its gRPC code, never its message.
    #[error("the source of reference images refused: {0}")]
    Refused(&'static str),
    /// What it sent is larger than a picture may be.
    #[error("the source of reference images sent more than a picture may have")]
    TooLarge,
    /// It answered, and said nothing.
    #[error("the answer of the source of reference images says nothing")]
    Malformed,
}

impl ReferenceError {
    /// The word in statuses, metrics and logs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "SYS_NOT_READY"
    }
}

/// What the source had.
pub(super) enum Reference {
    /// No source is configured.
    NotAsked,
    /// Nobody by the number.
    Nobody,
    /// A picture without a face that can be compared.
    Unusable,
    /// A face.
    Face(Box<FaceEmbedding>),
}

/// The part of a customer's sealed record that the source is asked by.
#[derive(Deserialize)]
struct Record<'a> {
    iin: &'a str,
}

impl Gateway {
    /// What the configured source has of the customer. Asked before an activation's turn: a source that
    /// is slow must not hold other enrolments up.
    pub(super) async fn reference_of(
        &self,
        customer: &CustomerId,
    ) -> Result<Reference, GatewayError> {
        let Some(source) = &self.references else { return Ok(Reference::NotAsked) };
        let iin = self.iin_of(customer).await?;
        let Some(picture) = source.portrait(&iin).await? else { return Ok(Reference::Nobody) };
        let portrait = Capture { image: picture, declared: Declared::default() };
        let seen = self.vision.look_at_face(portrait, Faces::enrol);
        match seen.await {
            Ok(Acquisition::Usable(probe)) => Ok(Reference::Face(Box::new(probe.embedding))),
            Ok(Acquisition::Refused(_)) | Err(GatewayError::Unreadable(_)) => {
                Ok(Reference::Unusable)
            }
            Err(technical) => Err(technical),
        }
    }

    /// Why the reference does not speak for the captures; nothing when it does, or is not asked for. What
    /// was reached stays in here.
    pub(super) async fn doubt(
        &self,
        reference: &Reference,
        template: Option<&Template>,
    ) -> Result<Option<SecondPersonReason>, GatewayError> {
        let face = match reference {
            Reference::NotAsked => {
                return Ok(self.settings.two_people.then_some(SecondPersonReason::TwoPeople));
            }
            Reference::Nobody => return Ok(Some(SecondPersonReason::NoReference)),
            Reference::Unusable => return Ok(Some(SecondPersonReason::ReferenceUnusable)),
            Reference::Face(face) => face,
        };
        // A portrait says nothing about fingers.
        let Some(template) = template else {
            return Ok(Some(SecondPersonReason::ReferenceUnusable));
        };
        let strength = self
            .matcher
            .verify(face, template)
            .map_err(|cause| GatewayError::internal("comparison", cause))?;
        let pack = self.packs.current(self.clock.now()).await?;
        let is_match = strength.db() >= pack.bars().required_db;
        Ok((!is_match).then_some(SecondPersonReason::ReferenceDiffers))
    }

    /// The number in the customer's sealed record, opened for the source only.
    async fn iin_of(&self, customer: &CustomerId) -> Result<Iin, GatewayError> {
        let row = self.store.customer(customer).await?.ok_or(GatewayError::NotFound("customer"))?;
        let keys = self.customer_keys(customer).await?.ok_or(GatewayError::NotFound("customer"))?;
        let tenant = self.settings.tenant.as_str();
        let id = customer.as_bytes();
        let place = Place::of_customer("customers", "sealed_record", tenant, customer, id);
        let plain = keys.open(&place, &row.sealed_record)?;
        // A parser's own words would repeat what it read.
        let record: Record<'_> = serde_json::from_slice(&plain)
            .map_err(|_| GatewayError::broken("a customer's record does not parse"))?;
        Iin::try_from(record.iin)
            .map_err(|_| GatewayError::broken("a customer's record holds no number"))
    }
}
