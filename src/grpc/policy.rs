//! `PolicyService`: what authors and approvers of rules call.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::convert::answer;
use super::convert::noun;
use super::peer::{
    PolicyActivatorPermit, PolicyApproverPermit, PolicyAuthorPermit, PolicyReaderPermit,
};
use super::status::InvalidField;
use crate::crypto::{Digest, PublicKey};
use crate::domain::time::UnixMillis;
use crate::gateway::{ActivePack, Gateway};
use crate::proto;
use crate::proto::policy_service_server::PolicyService;
use crate::store::{ActivationRow, PackRow, PackSignature};

/// Bytes of an Ed25519 signature.
const SIGNATURE_BYTES: usize = 64;

/// The service over a gateway.
#[derive(Debug)]
pub struct PolicyDesk(pub Arc<Gateway>);

#[tonic::async_trait]
impl PolicyService for PolicyDesk {
    async fn propose_pack(
        &self,
        request: Request<proto::ProposePackRequest>,
    ) -> Result<Response<proto::ProposePackResponse>, Status> {
        let permit = PolicyAuthorPermit::of(request.extensions())?;
        let proto::ProposePackRequest { files, public_key, signature } = request.into_inner();
        let (key, signature) = (self::public_key(&public_key)?, self::signature(signature)?);
        let file = |proto::PackFile { name, content }| (name, content);
        let files = files.into_iter().map(file).collect();
        let row = self.0.propose_pack(permit.actor(), files, key, signature).await?;
        Ok(Response::new(proto::ProposePackResponse { pack: Some(self.pack(row)?) }))
    }

    async fn approve_pack(
        &self,
        request: Request<proto::ApprovePackRequest>,
    ) -> Result<Response<proto::ApprovePackResponse>, Status> {
        let permit = PolicyApproverPermit::of(request.extensions())?;
        let proto::ApprovePackRequest { hash, public_key, signature } = request.into_inner();
        let hash = self::hash(&hash)?;
        let (key, signature) = (self::public_key(&public_key)?, self::signature(signature)?);
        let row = self.0.approve_pack(permit.actor(), hash, key, signature).await?;
        Ok(Response::new(proto::ApprovePackResponse { pack: Some(self.pack(row)?) }))
    }

    async fn activate_pack(
        &self,
        request: Request<proto::ActivatePackRequest>,
    ) -> Result<Response<proto::ActivatePackResponse>, Status> {
        let permit = PolicyActivatorPermit::of(request.extensions())?;
        let proto::ActivatePackRequest { hash, effective_at } = request.into_inner();
        let hash = self::hash(&hash)?;
        let effective_at = noun::instant_or_empty("effective_at", &effective_at)?;
        let row = self.0.activate_pack(permit.actor(), hash, effective_at).await?;
        let activation = Some(self.activation(row)?);
        Ok(Response::new(proto::ActivatePackResponse { activation }))
    }

    async fn list_packs(
        &self,
        request: Request<proto::ListPacksRequest>,
    ) -> Result<Response<proto::ListPacksResponse>, Status> {
        PolicyReaderPermit::of(request.extensions())?;
        let proto::ListPacksRequest { page_size, page_token } = request.into_inner();
        let limit = noun::page_size(page_size)?;
        let after = noun::page_after(&page_token, |token| token.parse::<u64>().ok())?;
        let page = self.0.packs(after, limit).await?;
        let next_page_token = noun::next_page(&page, limit, |row| row.proposed.index.to_string());
        let packs = page.into_iter().map(|row| self.pack(row)).collect::<Result<_, _>>()?;
        Ok(Response::new(proto::ListPacksResponse { packs, next_page_token }))
    }

    async fn get_pack(
        &self,
        request: Request<proto::GetPackRequest>,
    ) -> Result<Response<proto::GetPackResponse>, Status> {
        PolicyReaderPermit::of(request.extensions())?;
        let proto::GetPackRequest { hash } = request.into_inner();
        let hash = self::hash(&hash)?;
        let (row, files) = (self.0.pack(&hash).await?, self.0.pack_files(&hash).await?);
        let file = |(name, text): (String, String)| proto::PackFile { name, content: text.into() };
        Ok(Response::new(proto::GetPackResponse {
            pack: Some(self.pack(row)?),
            files: files.into_iter().map(file).collect(),
        }))
    }

    async fn get_active_pack(
        &self,
        request: Request<proto::GetActivePackRequest>,
    ) -> Result<Response<proto::GetActivePackResponse>, Status> {
        PolicyReaderPermit::of(request.extensions())?;
        let proto::GetActivePackRequest {} = request.into_inner();
        let ActivePack { active, scheduled } = self.0.active_pack().await?;
        Ok(Response::new(proto::GetActivePackResponse {
            active: Some(self.activation(active)?),
            scheduled: scheduled
                .into_iter()
                .map(|row| self.activation(row))
                .collect::<Result<_, _>>()?,
        }))
    }
}

impl PolicyDesk {
    fn pack(&self, row: PackRow) -> Result<proto::Pack, Status> {
        let state = state(&row, self.0.now());
        let PackRow { hash, id, version, expires_at, proposed, approved } = row;
        Ok(proto::Pack {
            hash: hash.hex(),
            id,
            version,
            state: state.into(),
            author: Some(self.signed(proposed)?),
            approver: approved.map(|approved| self.signed(approved)).transpose()?,
            expires_at: Some(expires_at.into()),
        })
    }

    fn signed(&self, row: PackSignature) -> Result<proto::PackSignature, Status> {
        let PackSignature { name, key, signature, at, index } = row;
        Ok(proto::PackSignature {
            name: name.as_str().to_owned(),
            spki_sha256: key.fingerprint().hex(),
            public_key: key.as_bytes().to_vec(),
            signature,
            at: Some(at.into()),
            position: Some(self.position(index)?),
        })
    }

    fn activation(&self, row: ActivationRow) -> Result<proto::Activation, Status> {
        let ActivationRow { index, hash, id, version, effective_at, from_folder } = row;
        Ok(proto::Activation {
            hash: hash.hex(),
            id,
            version,
            effective_at: Some(effective_at.into()),
            position: Some(self.position(index)?),
            from_configuration: from_folder,
        })
    }

    fn position(&self, place: u64) -> Result<proto::LogPosition, Status> {
        Ok(answer::log_position(self.0.position(place)?))
    }
}

fn state(row: &PackRow, now: UnixMillis) -> proto::PackState {
    match &row.approved {
        Some(_) => proto::PackState::Approved,
        None if row.expires_at < now => proto::PackState::Expired,
        None => proto::PackState::Proposed,
    }
}

fn hash(wire: &str) -> Result<Digest, InvalidField> {
    let digest = Digest::from_hex(wire).ok().filter(|digest| digest.hex() == wire);
    digest.ok_or_else(|| InvalidField::wrong("hash", "it must be 64 lower-case hexadecimal digits"))
}

fn public_key(wire: &[u8]) -> Result<PublicKey, InvalidField> {
    let bytes = wire.try_into().map(PublicKey::new);
    bytes.map_err(|_| InvalidField::wrong("public_key", "it must be 32 bytes"))
}

fn signature(wire: Vec<u8>) -> Result<Vec<u8>, InvalidField> {
    if wire.len() == SIGNATURE_BYTES {
        Ok(wire)
    } else {
        Err(InvalidField::wrong("signature", "it must be 64 bytes"))
    }
}
