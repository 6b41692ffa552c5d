//! `KeyService`: what the custodian of the bank's keys calls.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::peer::{CustodianPermit, KeyReaderPermit};
use super::status::InvalidField;
use crate::crypto::spki_pem;
use crate::gateway::request::Logged;
use crate::gateway::{
    Gateway, Installed, KekRotation, KeyUse, LedgerPlace, LedgerState, OldKek, PreparedKey,
    Rewrapped,
};
use crate::proto;
use crate::proto::key_service_server::KeyService;

/// The service over a gateway.
#[derive(Debug)]
pub struct KeyDesk(pub Arc<Gateway>);

#[tonic::async_trait]
impl KeyService for KeyDesk {
    async fn list_keys(
        &self,
        request: Request<proto::ListKeysRequest>,
    ) -> Result<Response<proto::ListKeysResponse>, Status> {
        KeyReaderPermit::of(request.extensions())?;
        let proto::ListKeysRequest {} = request.into_inner();
        let (installed, places) = self.0.keys()?;
        Ok(Response::new(proto::ListKeysResponse {
            register: installed.files.register.clone(),
            signature: signature(&installed),
            ledgers: places.into_iter().map(place).collect(),
        }))
    }

    async fn prepare_key(
        &self,
        request: Request<proto::PrepareKeyRequest>,
    ) -> Result<Response<proto::PrepareKeyResponse>, Status> {
        CustodianPermit::of(request.extensions())?;
        let proto::PrepareKeyRequest { r#use } = request.into_inner();
        let usage = match proto::KeyUse::try_from(r#use) {
            Ok(proto::KeyUse::Receipt) => KeyUse::Receipt,
            Ok(proto::KeyUse::Ledger) => KeyUse::Ledger,
            Ok(proto::KeyUse::Unspecified) => return Err(InvalidField::missing("use").into()),
            Err(_) => return Err(InvalidField::wrong("use", "there is no such use").into()),
        };
        let PreparedKey { kid, public_key, not_before, home } = self.0.prepare_key(usage).await?;
        let (installed, places) = self.0.keys()?;
        Ok(Response::new(proto::PrepareKeyResponse {
            kid,
            spki_pem: spki_pem(&public_key),
            not_before: Some(not_before.into()),
            home: home.to_owned(),
            register: installed.files.register.clone(),
            signature: signature(&installed),
            ledgers: places.into_iter().map(place).collect(),
        }))
    }

    async fn install_register(
        &self,
        request: Request<proto::InstallRegisterRequest>,
    ) -> Result<Response<proto::InstallRegisterResponse>, Status> {
        let permit = CustodianPermit::of(request.extensions())?;
        let proto::InstallRegisterRequest { register, signature } = request.into_inner();
        let logged = self.0.install_register(permit.actor(), register, signature).await?;
        let receipt_jws = logged.iter().map(|entry| entry.jws().as_bytes().to_vec()).collect();
        Ok(Response::new(proto::InstallRegisterResponse { receipt_jws }))
    }

    async fn begin_kek_rotation(
        &self,
        request: Request<proto::BeginKekRotationRequest>,
    ) -> Result<Response<proto::BeginKekRotationResponse>, Status> {
        let permit = CustodianPermit::of(request.extensions())?;
        let proto::BeginKekRotationRequest {} = request.into_inner();
        let KekRotation { kek, left, begun } = self.0.begin_kek_rotation(permit.actor()).await?;
        Ok(Response::new(proto::BeginKekRotationResponse {
            kek_id: kek.id,
            name: kek.name,
            home: kek.home.to_owned(),
            left,
            receipt_jws: jws(begun.as_ref()),
        }))
    }

    async fn rewrap_keys(
        &self,
        request: Request<proto::RewrapKeysRequest>,
    ) -> Result<Response<proto::RewrapKeysResponse>, Status> {
        let permit = CustodianPermit::of(request.extensions())?;
        let proto::RewrapKeysRequest { at_most } = request.into_inner();
        let Rewrapped { rewrapped, left, ended } =
            self.0.rewrap_keys(permit.actor(), at_most).await?;
        let receipt_jws = jws(ended.as_ref());
        Ok(Response::new(proto::RewrapKeysResponse { rewrapped, left, receipt_jws }))
    }

    async fn retire_keks(
        &self,
        request: Request<proto::RetireKeksRequest>,
    ) -> Result<Response<proto::RetireKeksResponse>, Status> {
        let permit = CustodianPermit::of(request.extensions())?;
        let proto::RetireKeksRequest {} = request.into_inner();
        let keks = self.0.retire_keks(permit.actor()).await?.into_iter();
        let keks = keks.map(|OldKek { name, needed_by, retired }| {
            let receipt_jws = jws(retired.as_ref());
            proto::OldKek { name, needed_by, receipt_jws }
        });
        Ok(Response::new(proto::RetireKeksResponse { keks: keks.collect() }))
    }

    async fn rotate_capture_key(
        &self,
        request: Request<proto::RotateCaptureKeyRequest>,
    ) -> Result<Response<proto::RotateCaptureKeyResponse>, Status> {
        let permit = CustodianPermit::of(request.extensions())?;
        let proto::RotateCaptureKeyRequest { overlap_s } = request.into_inner();
        let overlap_ms = i64::from(overlap_s) * 1_000;
        let (id, entry) = self.0.rotate_capture_key(permit.actor(), overlap_ms).await?;
        Ok(Response::new(proto::RotateCaptureKeyResponse {
            key_id: id.to_string(),
            receipt_jws: jws(Some(&entry)),
        }))
    }
}

fn jws(entry: Option<&Logged>) -> Vec<u8> {
    entry.map(|entry| entry.jws().as_bytes().to_vec()).unwrap_or_default()
}

fn signature(installed: &Installed) -> String {
    String::from_utf8_lossy(&installed.files.signature).into_owned()
}

fn place(place: LedgerPlace) -> proto::LedgerPlace {
    let LedgerPlace { origin, state, next_index } = place;
    let state = match state {
        LedgerState::Closed => proto::LedgerState::Closed,
        LedgerState::Current => proto::LedgerState::Current,
        LedgerState::Ahead => proto::LedgerState::Ahead,
        LedgerState::LogOfLogs => proto::LedgerState::LogOfLogs,
    };
    proto::LedgerPlace { origin, state: state.into(), next_index }
}
