//! `VerificationService`: what a cash terminal calls.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::convert::{answer, noun, request as asked};
use super::limits::TimeAllowed;
use super::peer::TerminalPermit;
use crate::gateway::Gateway;
use crate::gateway::request::ReportedOutcome;
use crate::proto;
use crate::proto::verification_service_server::VerificationService;

/// The service over a gateway.
#[derive(Debug)]
pub struct Verification(pub Arc<Gateway>);

#[tonic::async_trait]
impl VerificationService for Verification {
    async fn begin_capture(
        &self,
        request: Request<proto::BeginCaptureRequest>,
    ) -> Result<Response<proto::BeginCaptureResponse>, Status> {
        let permit = TerminalPermit::of(request.extensions())?;
        let asked = asked::begin_capture(request.into_inner())?;
        let terminal = permit.terminal();
        let issued = self.0.begin_capture(terminal, asked, answer::begun_bytes).await?;
        Ok(Response::new(issued.into()))
    }

    async fn verify(
        &self,
        request: Request<proto::VerifyRequest>,
    ) -> Result<Response<proto::Decision>, Status> {
        let permit = TerminalPermit::of(request.extensions())?;
        let deadline = TimeAllowed::deadline(request.extensions())?;
        let (asked, language) = asked::verify(request.into_inner())?;
        let decided = self.0.verify(permit.terminal(), asked, deadline).await?;
        Ok(Response::new(answer::decision(decided, language)))
    }

    async fn await_decision(
        &self,
        request: Request<proto::AwaitDecisionRequest>,
    ) -> Result<Response<proto::AwaitDecisionResponse>, Status> {
        let permit = TerminalPermit::of(request.extensions())?;
        let deadline = TimeAllowed::deadline(request.extensions())?;
        let terminal = permit.terminal();
        let (key, wait, language) = asked::await_decision(&terminal.id, request.into_inner())?;
        let awaited = self.0.await_decision(terminal, &key, wait, deadline).await?;
        Ok(Response::new(answer::awaited(awaited, language)))
    }

    async fn get_decision(
        &self,
        request: Request<proto::GetDecisionRequest>,
    ) -> Result<Response<proto::Decision>, Status> {
        let permit = TerminalPermit::of(request.extensions())?;
        let (key, language) = asked::decision_key(&permit.terminal().id, request.into_inner())?;
        let decided = self.0.decision(&key).await?;
        Ok(Response::new(answer::decision(decided, language)))
    }

    async fn request_exception(
        &self,
        request: Request<proto::RequestExceptionRequest>,
    ) -> Result<Response<proto::Decision>, Status> {
        let permit = TerminalPermit::of(request.extensions())?;
        let deadline = TimeAllowed::deadline(request.extensions())?;
        let (asked, language) = asked::request_exception(request.into_inner())?;
        let decided =
            Box::pin(self.0.request_exception(permit.terminal(), asked, deadline)).await?;
        Ok(Response::new(answer::decision(decided, language)))
    }

    async fn cancel(
        &self,
        request: Request<proto::CancelRequest>,
    ) -> Result<Response<proto::CancelResponse>, Status> {
        let permit = TerminalPermit::of(request.extensions())?;
        let proto::CancelRequest { challenge } = request.into_inner();
        self.0.cancel(permit.terminal(), &noun::challenge(&challenge)?).await?;
        Ok(Response::new(proto::CancelResponse {}))
    }

    async fn report_outcome(
        &self,
        request: Request<proto::ReportOutcomeRequest>,
    ) -> Result<Response<proto::ReportOutcomeResponse>, Status> {
        let permit = TerminalPermit::of(request.extensions())?;
        let asked = asked::report_outcome(request.into_inner())?;
        let ReportedOutcome { receipt, footage_salt } =
            self.0.report_outcome(permit.terminal(), asked).await?;
        Ok(Response::new(proto::ReportOutcomeResponse {
            receipt_jws: receipt.jws().as_bytes().to_vec(),
            position: Some(answer::position(&receipt)),
            salts: footage_salt.map(|salt| proto::Salts {
                transaction: Vec::new(),
                footage: answer::salt_bytes(Some(salt)),
            }),
        }))
    }

    async fn get_time(
        &self,
        request: Request<proto::GetTimeRequest>,
    ) -> Result<Response<proto::GetTimeResponse>, Status> {
        TerminalPermit::of(request.extensions())?;
        let proto::GetTimeRequest {} = request.into_inner();
        Ok(Response::new(proto::GetTimeResponse { now: Some(self.0.now().into()) }))
    }
}
