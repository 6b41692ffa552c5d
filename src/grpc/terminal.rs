//! `TerminalService`: what the bank's administrators call.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::convert::noun;
use super::peer::AdminPermit;
use crate::crypto::Digest;
use crate::gateway::Gateway;
use crate::proto;
use crate::proto::terminal_service_server::TerminalService;

/// The service over a gateway.
#[derive(Debug)]
pub struct TerminalDesk(pub Arc<Gateway>);

#[tonic::async_trait]
impl TerminalService for TerminalDesk {
    async fn register_terminal(
        &self,
        request: Request<proto::RegisterTerminalRequest>,
    ) -> Result<Response<proto::RegisterTerminalResponse>, Status> {
        let permit = AdminPermit::of(request.extensions())?;
        let proto::RegisterTerminalRequest { terminal_id, csr_pem } = request.into_inner();
        let terminal = noun::terminal_id(&terminal_id)?;
        let issued = self.0.register_terminal(permit.actor(), &terminal, &csr_pem).await?;
        Ok(Response::new(proto::RegisterTerminalResponse {
            certificate_pem: issued.certificate_pem,
            chain_pem: issued.chain_pem,
        }))
    }

    async fn rotate_terminal(
        &self,
        request: Request<proto::RotateTerminalRequest>,
    ) -> Result<Response<proto::RotateTerminalResponse>, Status> {
        let permit = AdminPermit::of(request.extensions())?;
        let proto::RotateTerminalRequest { terminal_id, csr_pem } = request.into_inner();
        let terminal = noun::terminal_id(&terminal_id)?;
        let issued = self.0.rotate_terminal(permit.actor(), &terminal, &csr_pem).await?;
        Ok(Response::new(proto::RotateTerminalResponse {
            certificate_pem: issued.certificate_pem,
            chain_pem: issued.chain_pem,
        }))
    }

    async fn revoke_terminal(
        &self,
        request: Request<proto::RevokeTerminalRequest>,
    ) -> Result<Response<proto::RevokeTerminalResponse>, Status> {
        let permit = AdminPermit::of(request.extensions())?;
        let proto::RevokeTerminalRequest { terminal_id } = request.into_inner();
        self.0.revoke_terminal(permit.actor(), &noun::terminal_id(&terminal_id)?).await?;
        Ok(Response::new(proto::RevokeTerminalResponse {}))
    }

    async fn set_terminal_place(
        &self,
        request: Request<proto::SetTerminalPlaceRequest>,
    ) -> Result<Response<proto::SetTerminalPlaceResponse>, Status> {
        let permit = AdminPermit::of(request.extensions())?;
        let proto::SetTerminalPlaceRequest { terminal_id, place } = request.into_inner();
        let terminal = noun::terminal_id(&terminal_id)?;
        let place = noun::sentence("place", place)?;
        self.0.place_terminal(permit.actor(), &terminal, place).await?;
        Ok(Response::new(proto::SetTerminalPlaceResponse {}))
    }

    async fn list_terminals(
        &self,
        request: Request<proto::ListTerminalsRequest>,
    ) -> Result<Response<proto::ListTerminalsResponse>, Status> {
        AdminPermit::of(request.extensions())?;
        let proto::ListTerminalsRequest { page_size, page_token } = request.into_inner();
        let limit = noun::page_size(page_size)?;
        let after = noun::page_after(&page_token, |token| Digest::from_hex(token).ok())?;
        let page = self.0.terminals(after.as_ref(), limit).await?;
        let next_page_token = noun::next_page(&page, limit, |key| key.spki.hex());
        let terminals = page.into_iter().map(|key| proto::Terminal {
            terminal_id: key.terminal.to_string(),
            spki_sha256: key.spki.hex(),
            registered_at: Some(key.registered_at.into()),
            revoked_at: key.revoked_at.map(proto::Instant::from),
        });
        Ok(Response::new(proto::ListTerminalsResponse {
            terminals: terminals.collect(),
            next_page_token,
        }))
    }
}
