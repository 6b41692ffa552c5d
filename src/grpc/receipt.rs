//! `ReceiptService`: what the bank's host calls before it authorises.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::convert::{answer, request as asked};
use super::peer::HostPermit;
use crate::gateway::Gateway;
use crate::proto;
use crate::proto::receipt_service_server::ReceiptService;

/// The service over a gateway.
#[derive(Debug)]
pub struct Receipts(pub Arc<Gateway>);

#[tonic::async_trait]
impl ReceiptService for Receipts {
    async fn redeem(
        &self,
        request: Request<proto::RedeemRequest>,
    ) -> Result<Response<proto::RedeemResponse>, Status> {
        let permit = HostPermit::of(request.extensions())?;
        let asked = asked::redeem(request.into_inner())?;
        let redemption = self.0.redeem(permit.actor(), asked).await?;
        Ok(Response::new(proto::RedeemResponse {
            redeemed: redemption.redeemed_now,
            first_redeemed_at: Some(redemption.first_redeemed_at.into()),
        }))
    }

    async fn reverse(
        &self,
        request: Request<proto::ReverseRequest>,
    ) -> Result<Response<proto::ReverseResponse>, Status> {
        let permit = HostPermit::of(request.extensions())?;
        let asked = asked::reverse(request.into_inner())?;
        let entry = self.0.reverse(permit.actor(), asked).await?;
        Ok(Response::new(proto::ReverseResponse {
            receipt_jws: entry.jws().as_bytes().to_vec(),
            position: Some(answer::position(&entry)),
        }))
    }
}
