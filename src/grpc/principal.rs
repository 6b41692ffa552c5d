//! `PrincipalService`: the people who act in the bank's name.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::convert::{noun, proposal};
use super::peer::{AdminPermit, AuditorPermit};
use crate::crypto::Digest;
use crate::gateway::{Gateway, GatewayError};
use crate::proto;
use crate::proto::principal_service_server::PrincipalService;

/// The service over a gateway.
#[derive(Debug)]
pub struct PrincipalDesk(pub Arc<Gateway>);

#[tonic::async_trait]
impl PrincipalService for PrincipalDesk {
    async fn register_principal(
        &self,
        request: Request<proto::RegisterPrincipalRequest>,
    ) -> Result<Response<proto::RegisterPrincipalResponse>, Status> {
        let permit = AdminPermit::of(request.extensions())?;
        let asked = request.into_inner();
        let person = proposal::new_principal(&asked, &self.0.settings().tenant)?;
        let proposed = self.0.propose_principal(permit.actor(), person).await?;
        let proposal = Some(proposal::proposal(&self.0, proposed)?);
        Ok(Response::new(proto::RegisterPrincipalResponse { proposal }))
    }

    async fn revoke_principal(
        &self,
        request: Request<proto::RevokePrincipalRequest>,
    ) -> Result<Response<proto::RevokePrincipalResponse>, Status> {
        let permit = AdminPermit::of(request.extensions())?;
        let proto::RevokePrincipalRequest { spki_sha256 } = request.into_inner();
        let key = proposal::spki(&spki_sha256)?;
        let proposed = self.0.propose_revocation(permit.actor(), &key).await?;
        let proposal = Some(proposal::proposal(&self.0, proposed)?);
        Ok(Response::new(proto::RevokePrincipalResponse { proposal }))
    }

    async fn list_principals(
        &self,
        request: Request<proto::ListPrincipalsRequest>,
    ) -> Result<Response<proto::ListPrincipalsResponse>, Status> {
        AuditorPermit::of(request.extensions())?;
        let proto::ListPrincipalsRequest { page_size, page_token } = request.into_inner();
        let limit = noun::page_size(page_size)?;
        let after = noun::page_after(&page_token, |token| Digest::from_hex(token).ok())?;
        let page = self.0.principals(after.as_ref(), limit).await?;
        let next_page_token = noun::next_page(&page, limit, |row| row.spki.hex());
        let principals = page.into_iter().map(|row| proposal::principal(&self.0, row));
        let principals = principals.collect::<Result<_, GatewayError>>()?;
        Ok(Response::new(proto::ListPrincipalsResponse { principals, next_page_token }))
    }
}
