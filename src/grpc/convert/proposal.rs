//! Proposals and the people of the staff.
//!
//! Messages are destructured, so that a field added to the `.proto` is a compile error here.

use super::answer::log_position;
use super::noun::text;
use crate::crypto::Digest;
use crate::domain::four_eyes::{ProposalState, StaffRole, TwoPersonAct};
use crate::domain::id::{ProposalId, TenantId};
use crate::gateway::{Gateway, GatewayError, NewPrincipal, PrincipalRow, Proposal};
use crate::grpc::status::InvalidField;
use crate::pki::identify_pem;
use crate::proto;

/// A proposal's number.
pub fn proposal_id(wire: &str) -> Result<ProposalId, InvalidField> {
    ProposalId::from_hex(wire).ok_or_else(|| {
        InvalidField::wrong("proposal_id", "it must be 32 lower-case hexadecimal digits")
    })
}

/// The hash of a key.
pub fn spki(wire: &str) -> Result<Digest, InvalidField> {
    let is_lower = wire.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let digest = Digest::from_hex(wire).ok().filter(|_| is_lower);
    digest.ok_or_else(|| {
        InvalidField::wrong("spki_sha256", "it must be 64 lower-case hexadecimal digits")
    })
}

/// Somebody who is to be registered at a bank.
pub fn new_principal(
    wire: &proto::RegisterPrincipalRequest,
    tenant: &TenantId,
) -> Result<NewPrincipal, InvalidField> {
    const CERTIFICATE: &str = "certificate_pem";
    let proto::RegisterPrincipalRequest { certificate_pem, unit } = wire;
    let identity = identify_pem(certificate_pem)
        .map_err(|error| InvalidField::because(CERTIFICATE, &error))?;
    let principal = identity.principal;
    if principal.tenant != *tenant {
        return Err(InvalidField::wrong(CERTIFICATE, "it is of another bank"));
    }
    let role = StaffRole::from_word(principal.role.as_str()).ok_or_else(|| {
        InvalidField::wrong(CERTIFICATE, "its role is a system's: only people are registered")
    })?;
    let unit = text("unit", unit)?;
    Ok(NewPrincipal { role, name: principal.name, unit, spki: identity.spki })
}

/// A proposal, as it stands.
pub fn proposal(gateway: &Gateway, proposal: Proposal) -> Result<proto::Proposal, GatewayError> {
    let Proposal { row, state, what } = proposal;
    let act = match row.act {
        TwoPersonAct::Erasure => proto::TwoPersonAct::Erasure,
        TwoPersonAct::FurtherCapture => proto::TwoPersonAct::FurtherCapture,
        TwoPersonAct::TemplateImport => proto::TwoPersonAct::TemplateImport,
        TwoPersonAct::PrincipalRegistration => proto::TwoPersonAct::PrincipalRegistration,
        TwoPersonAct::PrincipalRevocation => proto::TwoPersonAct::PrincipalRevocation,
        TwoPersonAct::Activation => proto::TwoPersonAct::Activation,
        TwoPersonAct::Unlock => proto::TwoPersonAct::Unlock,
    };
    let state = match state {
        ProposalState::Open => proto::ProposalState::Open,
        ProposalState::Done => proto::ProposalState::Done,
        ProposalState::Withdrawn => proto::ProposalState::Withdrawn,
        ProposalState::Expired => proto::ProposalState::Expired,
    };
    let closed = row.closed.as_ref();
    let closed_by = closed.and_then(|closure| closure.by.as_ref());
    let closed_position = closed.map(|closure| gateway.position(closure.index)).transpose()?;
    Ok(proto::Proposal {
        proposal_id: row.id.to_string(),
        act: act.into(),
        customer_id: row.customer.map(|id| id.to_string()).unwrap_or_default(),
        what,
        proposed_by: row.proposed_by.to_string(),
        proposed_at: Some(row.proposed_at.into()),
        not_before: Some(row.not_before.into()),
        expires_at: Some(row.expires_at.into()),
        state: state.into(),
        closed_by: closed_by.map(|(name, _)| name.to_string()).unwrap_or_default(),
        closed_at: closed.map(|closure| closure.at.into()),
        position: Some(log_position(gateway.position(row.index)?)),
        closed_position: closed_position.map(log_position),
        subject: row.subject,
    })
}

/// A registered key.
pub fn principal(gateway: &Gateway, row: PrincipalRow) -> Result<proto::Principal, GatewayError> {
    let PrincipalRow { spki, role, name, unit, registered_at, index, proposal, revoked } = row;
    let revoked_position = revoked.map(|(_, index)| gateway.position(index)).transpose()?;
    Ok(proto::Principal {
        role: role.as_str().to_owned(),
        name: name.to_string(),
        unit: unit.to_string(),
        spki_sha256: spki.hex(),
        registered_at: Some(registered_at.into()),
        position: Some(log_position(gateway.position(index)?)),
        proposal_id: proposal.map(|id| id.to_string()).unwrap_or_default(),
        revoked_at: revoked.map(|(at, _)| at.into()),
        revoked_position: revoked_position.map(log_position),
    })
}
