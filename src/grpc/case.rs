//! `CaseService`: what those who look at cases call.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::convert::{case, noun};
use super::peer::{AdminPermit, AuditorPermit};
use crate::gateway::{CaseFile, Gateway};
use crate::proto;
use crate::proto::case_service_server::CaseService;

/// The service over a gateway.
#[derive(Debug)]
pub struct CaseDesk(pub Arc<Gateway>);

#[tonic::async_trait]
impl CaseService for CaseDesk {
    async fn list_cases(
        &self,
        request: Request<proto::ListCasesRequest>,
    ) -> Result<Response<proto::ListCasesResponse>, Status> {
        AuditorPermit::of(request.extensions())?;
        let proto::ListCasesRequest { status, page_size, page_token } = request.into_inner();
        let status = case::status_or_any(status)?;
        let limit = noun::page_size(page_size)?;
        let after = noun::page_after(&page_token, case::place)?;
        let page = self.0.cases(status, after, limit).await?;
        let next_page_token = noun::next_page(&page, limit, case::token);
        let cases = page.into_iter().map(case::case).collect();
        Ok(Response::new(proto::ListCasesResponse { cases, next_page_token }))
    }

    async fn get_case(
        &self,
        request: Request<proto::GetCaseRequest>,
    ) -> Result<Response<proto::GetCaseResponse>, Status> {
        AuditorPermit::of(request.extensions())?;
        let proto::GetCaseRequest { case_id } = request.into_inner();
        let CaseFile { case, evidence, linked } = self.0.case(&case::id(&case_id)?).await?;
        Ok(Response::new(proto::GetCaseResponse {
            case: Some(case::case(case)),
            evidence: evidence
                .into_iter()
                .map(|row| Ok(case::evidence(self.0.position(row.index)?, row)))
                .collect::<Result<_, Status>>()?,
            linked_customer_ids: linked.iter().map(ToString::to_string).collect(),
        }))
    }

    async fn propose_resolution(
        &self,
        request: Request<proto::ProposeResolutionRequest>,
    ) -> Result<Response<proto::ProposeResolutionResponse>, Status> {
        let permit = AdminPermit::of(request.extensions())?;
        let proto::ProposeResolutionRequest { case_id, resolution } = request.into_inner();
        let (id, resolution) = (case::id(&case_id)?, case::resolution(resolution)?);
        let row = self.0.propose_resolution(permit.actor(), &id, resolution).await?;
        Ok(Response::new(proto::ProposeResolutionResponse { case: Some(case::case(row)) }))
    }

    async fn approve_resolution(
        &self,
        request: Request<proto::ApproveResolutionRequest>,
    ) -> Result<Response<proto::ApproveResolutionResponse>, Status> {
        let permit = AdminPermit::of(request.extensions())?;
        let proto::ApproveResolutionRequest { case_id, resolution } = request.into_inner();
        let (id, resolution) = (case::id(&case_id)?, case::resolution(resolution)?);
        let row = self.0.approve_resolution(permit.actor(), &id, resolution).await?;
        Ok(Response::new(proto::ApproveResolutionResponse { case: Some(case::case(row)) }))
    }
}
