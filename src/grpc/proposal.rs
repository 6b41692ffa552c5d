//! `ProposalService`: what the second of two people calls.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::convert::{answer, noun, proposal};
use super::peer::EnrollerPermit;
use super::status;
use crate::gateway::{Gateway, GatewayError};
use crate::proto;
use crate::proto::proposal_service_server::ProposalService;

/// The service over a gateway.
#[derive(Debug)]
pub struct ProposalDesk(pub Arc<Gateway>);

#[tonic::async_trait]
impl ProposalService for ProposalDesk {
    async fn list_proposals(
        &self,
        request: Request<proto::ListProposalsRequest>,
    ) -> Result<Response<proto::ListProposalsResponse>, Status> {
        EnrollerPermit::of(request.extensions())?;
        let proto::ListProposalsRequest { page_size, page_token, closed_too } =
            request.into_inner();
        let limit = noun::page_size(page_size)?;
        let after = noun::page_after(&page_token, |token| token.parse::<u64>().ok())?;
        let page = self.0.proposals(!closed_too, after, limit).await?;
        let next_page_token = noun::next_page(&page, limit, |it| it.row.index.to_string());
        let proposals = page.into_iter().map(|it| proposal::proposal(&self.0, it));
        let proposals = proposals.collect::<Result<_, GatewayError>>()?;
        Ok(Response::new(proto::ListProposalsResponse { proposals, next_page_token }))
    }

    async fn approve_proposal(
        &self,
        request: Request<proto::ApproveProposalRequest>,
    ) -> Result<Response<proto::ApproveProposalResponse>, Status> {
        let permit = EnrollerPermit::of(request.extensions())?;
        let proto::ApproveProposalRequest { proposal_id } = request.into_inner();
        let id = proposal::proposal_id(&proposal_id)?;
        let (gateway, actor) = (Arc::clone(&self.0), permit.actor().clone());
        // To its end even if the caller goes away: what is committed and what the gallery holds in memory
        // must not part.
        let ended = tokio::spawn(async move { gateway.approve_proposal(&actor, &id).await }).await;
        // A panic was logged where it happened.
        let entry = ended.map_err(|_| status::of("SYS_INTERNAL"))??;
        Ok(Response::new(proto::ApproveProposalResponse {
            receipt_jws: entry.jws().as_bytes().to_vec(),
            position: Some(answer::position(&entry)),
        }))
    }

    async fn withdraw_proposal(
        &self,
        request: Request<proto::WithdrawProposalRequest>,
    ) -> Result<Response<proto::WithdrawProposalResponse>, Status> {
        let permit = EnrollerPermit::of(request.extensions())?;
        let proto::WithdrawProposalRequest { proposal_id } = request.into_inner();
        let id = proposal::proposal_id(&proposal_id)?;
        let entry = self.0.withdraw_proposal(permit.actor(), &id).await?;
        Ok(Response::new(proto::WithdrawProposalResponse {
            receipt_jws: entry.jws().as_bytes().to_vec(),
            position: Some(answer::position(&entry)),
        }))
    }
}
