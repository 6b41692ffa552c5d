//! `TellerService`: what two tellers call for a person who is unable to give a biometric.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::convert::{answer, noun, request as asked};
use super::peer::EnrollerPermit;
use crate::gateway::Gateway;
use crate::proto;
use crate::proto::teller_service_server::TellerService;

/// The service over a gateway.
#[derive(Debug)]
pub struct TellerDesk(pub Arc<Gateway>);

#[tonic::async_trait]
impl TellerService for TellerDesk {
    async fn list_exceptions(
        &self,
        request: Request<proto::ListExceptionsRequest>,
    ) -> Result<Response<proto::ListExceptionsResponse>, Status> {
        EnrollerPermit::of(request.extensions())?;
        let of = asked::exceptions_of(request.into_inner())?;
        let waiting = self.0.waiting_exceptions(&of).await?;
        let exceptions = waiting.into_iter().map(answer::exception).collect();
        Ok(Response::new(proto::ListExceptionsResponse { exceptions }))
    }

    async fn propose_exception(
        &self,
        request: Request<proto::ProposeExceptionRequest>,
    ) -> Result<Response<proto::ProposeExceptionResponse>, Status> {
        let permit = EnrollerPermit::of(request.extensions())?;
        let proto::ProposeExceptionRequest { confirmation_id, evidence_ref } = request.into_inner();
        let id = noun::confirmation_id(&confirmation_id)?;
        let evidence_ref = noun::sentence("evidence_ref", evidence_ref)?;
        let entry = self.0.propose_exception(permit.actor(), &id, &evidence_ref).await?;
        let position = Some(answer::position(&entry));
        Ok(Response::new(proto::ProposeExceptionResponse { position }))
    }

    async fn approve_exception(
        &self,
        request: Request<proto::ApproveExceptionRequest>,
    ) -> Result<Response<proto::ApproveExceptionResponse>, Status> {
        let permit = EnrollerPermit::of(request.extensions())?;
        let proto::ApproveExceptionRequest { confirmation_id, evidence_ref } = request.into_inner();
        let id = noun::confirmation_id(&confirmation_id)?;
        let evidence_ref = noun::sentence("evidence_ref", evidence_ref)?;
        let confirmed = self.0.approve_exception(permit.actor(), &id, &evidence_ref).await?;
        Ok(Response::new(proto::ApproveExceptionResponse {
            receipt_jws: confirmed.entry.jws().as_bytes().to_vec(),
            position: Some(answer::position(&confirmed.entry)),
            counts_until: Some(confirmed.counts_until.into()),
        }))
    }
}
