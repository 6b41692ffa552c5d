//! `ConfirmationService`: what the back end of the bank's mobile application calls.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::convert::{answer, noun, request as asked};
use super::limits::TimeAllowed;
use super::peer::AppBackendPermit;
use crate::gateway::Gateway;
use crate::proto;
use crate::proto::confirmation_service_server::ConfirmationService;

/// Kept free at the end of a call's time, for the answer to be made.
const ANSWER_TIME: Duration = Duration::from_millis(500);

/// The service over a gateway.
#[derive(Debug)]
pub struct Confirmations(pub Arc<Gateway>);

#[tonic::async_trait]
impl ConfirmationService for Confirmations {
    async fn list_pending(
        &self,
        request: Request<proto::ListPendingRequest>,
    ) -> Result<Response<proto::ListPendingResponse>, Status> {
        AppBackendPermit::of(request.extensions())?;
        let proto::ListPendingRequest { customer } = request.into_inner();
        let pending = self.0.pending_of(&noun::customer_reference(customer)?).await?;
        let pending = answer::pending(pending);
        Ok(Response::new(proto::ListPendingResponse { pending }))
    }

    async fn await_pending(
        &self,
        request: Request<proto::AwaitPendingRequest>,
    ) -> Result<Response<proto::AwaitPendingResponse>, Status> {
        AppBackendPermit::of(request.extensions())?;
        let deadline = TimeAllowed::deadline(request.extensions())?;
        let proto::AwaitPendingRequest { after_index, wait_ms, after_origin } =
            request.into_inner();
        let origin = noun::origin("after_origin", &after_origin)?;
        let after = self.0.pending_after(origin.as_ref(), after_index)?;
        let wait = noun::wait(wait_ms)?;
        let last = deadline.checked_sub(ANSWER_TIME).unwrap_or(deadline);
        let pending = self.0.await_pending(after, (Instant::now() + wait).min(last)).await?;
        let pending = answer::pending(pending);
        Ok(Response::new(proto::AwaitPendingResponse { pending }))
    }

    async fn confirm(
        &self,
        request: Request<proto::ConfirmRequest>,
    ) -> Result<Response<proto::ConfirmResponse>, Status> {
        let permit = AppBackendPermit::of(request.extensions())?;
        let (id, signed) = asked::confirm(request.into_inner())?;
        let confirmed = self.0.confirm(permit.actor(), &id, signed).await?;
        Ok(Response::new(proto::ConfirmResponse {
            receipt_jws: confirmed.entry.jws().as_bytes().to_vec(),
            position: Some(answer::position(&confirmed.entry)),
            counts_until: Some(confirmed.counts_until.into()),
        }))
    }

    async fn decline(
        &self,
        request: Request<proto::DeclineRequest>,
    ) -> Result<Response<proto::DeclineResponse>, Status> {
        let permit = AppBackendPermit::of(request.extensions())?;
        let proto::DeclineRequest { confirmation_id } = request.into_inner();
        let id = noun::confirmation_id(&confirmation_id)?;
        let entry = self.0.decline(permit.actor(), &id).await?;
        Ok(Response::new(proto::DeclineResponse {
            receipt_jws: entry.jws().as_bytes().to_vec(),
            position: Some(answer::position(&entry)),
        }))
    }

    async fn set_biometric_lock(
        &self,
        request: Request<proto::SetBiometricLockRequest>,
    ) -> Result<Response<proto::SetBiometricLockResponse>, Status> {
        let permit = AppBackendPermit::of(request.extensions())?;
        let (customer, wish, signed) = asked::biometric_lock(request.into_inner())?;
        let entry = self.0.set_biometric_lock(permit.actor(), &customer, &wish, signed).await?;
        Ok(Response::new(proto::SetBiometricLockResponse {
            receipt_jws: entry.jws().as_bytes().to_vec(),
            position: Some(answer::position(&entry)),
        }))
    }
}
