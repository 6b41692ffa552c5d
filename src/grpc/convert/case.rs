//! Cases, from the wire and back.

use super::noun;
use crate::domain::case::{CaseStatus, Resolution};
use crate::domain::id::CaseId;
use crate::domain::transaction::Operation;
use crate::gateway::LogPosition;
use crate::gateway::{CaseEvidenceRow, CaseRow, ProposalRow};
use crate::grpc::status::InvalidField;
use crate::proto;

/// A case's id.
pub fn id(wire: &str) -> Result<CaseId, InvalidField> {
    CaseId::from_hex(wire).ok_or_else(|| {
        InvalidField::wrong("case_id", "it must be 32 lower-case hexadecimal digits")
    })
}

/// A status; unspecified is any.
pub fn status_or_any(wire: i32) -> Result<Option<CaseStatus>, InvalidField> {
    use proto::CaseStatus as Wire;
    Ok(match noun::named("status", wire)? {
        Wire::Unspecified => None,
        Wire::Open => Some(CaseStatus::Open),
        Wire::Released => Some(CaseStatus::Released),
        Wire::Refused => Some(CaseStatus::Refused),
    })
}

/// How a case ends.
pub fn resolution(wire: i32) -> Result<Resolution, InvalidField> {
    use proto::CaseResolution as Wire;
    match noun::named("resolution", wire)? {
        Wire::Unspecified => Err(InvalidField::missing("resolution")),
        Wire::Release => Ok(Resolution::Release),
        Wire::Refuse => Ok(Resolution::Refuse),
    }
}

/// The place of a case in the order of a list.
pub fn place(token: &str) -> Option<(u32, CaseId)> {
    let (score, id) = token.split_once('-')?;
    Some((score.parse().ok()?, CaseId::from_hex(id)?))
}

/// The place as a page token.
pub fn token(row: &CaseRow) -> String {
    format!("{}-{}", row.score, row.id)
}

/// A case.
pub fn case(row: CaseRow) -> proto::Case {
    use proto::CaseStatus as Wire;
    proto::Case {
        case_id: row.id.to_string(),
        customer_id: row.customer.to_string(),
        kind: row.kind.to_string(),
        status: match row.status {
            CaseStatus::Open => Wire::Open,
            CaseStatus::Released => Wire::Released,
            CaseStatus::Refused => Wire::Refused,
        }
        .into(),
        opened_at: Some(row.opened_at.into()),
        held_until: row.held_until.map(proto::Instant::from),
        held_beyond_calendar: row.beyond_calendar,
        score: row.score,
        proposal: row.proposal.map(proposal),
        closed_at: row.closed_at.map(proto::Instant::from),
    }
}

fn proposal(row: ProposalRow) -> proto::CaseProposal {
    use proto::CaseResolution as Wire;
    let ProposalRow { resolution, by, key: _, at } = row;
    let resolution = match resolution {
        Resolution::Release => Wire::Release,
        Resolution::Refuse => Wire::Refuse,
    };
    proto::CaseProposal {
        resolution: resolution.into(),
        proposed_by: by,
        proposed_at: Some(at.into()),
    }
}

/// A decision of a case.
pub fn evidence(position: LogPosition, row: CaseEvidenceRow) -> proto::CaseEvidence {
    let outcome = proto::Outcome::from_str_name(&format!("OUTCOME_{}", row.outcome));
    let operation = match row.operation {
        Operation::CashWithdrawal => proto::Operation::Withdrawal,
        Operation::CashDeposit => proto::Operation::Deposit,
        Operation::ThirdPartyDeposit => proto::Operation::DepositThirdParty,
    };
    proto::CaseEvidence {
        entry_index: position.index,
        decided_at: Some(row.at.into()),
        outcome: outcome.unwrap_or(proto::Outcome::Unspecified).into(),
        rules: row.rules.iter().map(ToString::to_string).collect(),
        operation: operation.into(),
        amount_minor: row.amount_minor,
        currency: row.currency.as_str().to_owned(),
        entry_origin: position.origin.as_str().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_token_is_a_score_and_an_id() {
        let id = "00112233445566778899aabbccddeeff";
        assert_eq!(place(&format!("42-{id}")).unwrap().0, 42);
        for wrong in ["", "42", id, "x-00", &format!("-{id}"), &format!("42-{id}0")] {
            assert_eq!(place(wrong), None, "{wrong}");
        }
    }
}
