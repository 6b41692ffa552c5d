//! What exactly is proposed, as it is kept until it is done.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{from_slice, json};
use zeroize::Zeroizing;

use crate::crypto::{Digest, length_prefixed, sha256};
use crate::domain::four_eyes::{StaffRole, TwoPersonAct};
use crate::domain::id::{CaptureId, CustomerId, PrincipalName, ProposalId, TerminalId, UnitName};
use crate::domain::modality::Modality;
use crate::domain::reference::SecondPersonReason;
use crate::domain::time::UnixMillis;
use crate::gateway::envelope::SignedBy;
use crate::gateway::error::GatewayError;
use crate::gateway::people::NewPrincipal;
use crate::receipt::Salt;
use crate::store::{CaptureRow, ProposedRow};

/// What is to be done, beside whom it is about.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::gateway) enum Content {
    /// Nothing but the act itself.
    Nothing,
    /// Captures, sealed to where they will be kept.
    Captures(Vec<CaptureRow>),
    /// A capture that answered a challenge, the desk it was taken at, and what signed it there.
    AtDesk(Box<CaptureRow>, TerminalId, SignedBy),
    /// A person of the staff.
    Person(NewPrincipal),
    /// Why one person cannot be sure of somebody.
    Doubt(Doubt),
}

/// Why one person cannot be sure of somebody, with these captures. Auditors read it of the entry, which commits
/// to it with this salt.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::gateway) struct Doubt {
    pub reason: SecondPersonReason,
    /// [`captures_digest`] of what the first person saw.
    pub captures: Digest,
    pub salt: Salt,
}

impl Doubt {
    /// The salt, and behind it what auditors read.
    fn salted(&self, id: &ProposalId) -> Zeroizing<Vec<u8>> {
        let record = json!({
            "proposal": id.to_string(),
            "reason": self.reason.as_str(),
            "captures": self.captures.labelled(),
        });
        let record = record.to_string();
        Zeroizing::new([self.salt.expose().as_slice(), record.as_bytes()].concat())
    }
}

/// Says which captures these are, in whichever order, by what is kept of them.
pub(in crate::gateway) fn captures_digest(rows: &[CaptureRow]) -> Digest {
    let mut each: Vec<_> = rows
        .iter()
        .map(|row| {
            let of = row.modality.characteristic().as_bytes();
            sha256(&length_prefixed(&[row.id.as_bytes(), of, &row.sealed]))
        })
        .collect();
    each.sort_unstable();
    let each: Vec<_> = each.iter().map(|digest| digest.as_bytes().as_slice()).collect();
    sha256(&length_prefixed(&[&[b"tulga-captures-v1".as_slice()], each.as_slice()].concat()))
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Kept {
    Nothing,
    Captures(Vec<KeptCapture>),
    AtDesk { capture: KeptCapture, desk: String, signed_by: SignedBy },
    Person { role: String, name: String, unit: String, spki: String },
    Doubt { reason: String, captures: String, salt: String },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptCapture {
    id: String,
    of: String,
    sealed: String,
    created_at: i64,
}

/// What the entries of a proposal and of the act commit to. A capture in it is sealed, and so says nothing.
pub(in crate::gateway) fn commit_of(
    id: &ProposalId,
    act: TwoPersonAct,
    content: &Content,
) -> Digest {
    let content = match content {
        Content::Doubt(doubt) => return sha256(&doubt.salted(id)),
        Content::Person(person) => {
            NewPrincipal::particulars(std::slice::from_ref(person)).as_bytes().to_vec()
        }
        other => other.to_bytes(),
    };
    let act = act.as_str().as_bytes();
    sha256(&length_prefixed(&[b"tulga-proposal-v1", id.as_bytes(), act, &content]))
}

/// A commitment as the entries of a proposal write it: bare where there is a record to open it with.
pub(in crate::gateway) fn details_of(act: TwoPersonAct, commit: &Digest) -> String {
    match act {
        TwoPersonAct::Activation => URL_SAFE_NO_PAD.encode(commit.as_bytes()),
        _ => commit.labelled(),
    }
}

impl Content {
    /// What auditors read of the entry, behind the salt of its commitment; most entries say all there is.
    pub fn record(&self, id: &ProposalId) -> Option<Zeroizing<Vec<u8>>> {
        match self {
            Self::Doubt(doubt) => Some(doubt.salted(id)),
            Self::Nothing | Self::Captures(_) | Self::AtDesk(..) | Self::Person(_) => None,
        }
    }

    /// What a proposal that waits proposes.
    pub fn of(row: &ProposedRow) -> Result<Self, GatewayError> {
        let kept: Kept = from_slice(&row.content)
            .map_err(|cause| GatewayError::internal("the content of a proposal", cause))?;
        let content = kept.parsed(row.customer);
        content.ok_or(GatewayError::broken("the content of a proposal does not parse"))
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let kept = match self {
            Self::Nothing => Kept::Nothing,
            Self::Captures(rows) => Kept::Captures(rows.iter().map(KeptCapture::of).collect()),
            Self::AtDesk(row, desk, signed_by) => Kept::AtDesk {
                capture: KeptCapture::of(row),
                desk: desk.as_str().to_owned(),
                signed_by: signed_by.clone(),
            },
            Self::Person(NewPrincipal { role, name, unit, spki }) => Kept::Person {
                role: role.as_str().to_owned(),
                name: name.to_string(),
                unit: unit.to_string(),
                spki: spki.hex(),
            },
            Self::Doubt(Doubt { reason, captures, salt }) => Kept::Doubt {
                reason: reason.as_str().to_owned(),
                captures: captures.hex(),
                salt: salt.to_base64url(),
            },
        };
        // Texts and numbers alone: nothing of it can fail to be written.
        serde_json::to_vec(&kept).unwrap_or_default()
    }

    /// What people are shown of it.
    pub fn words(&self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Captures(rows) => {
                let of: Vec<_> = rows.iter().map(|row| row.modality.characteristic()).collect();
                of.join(", ")
            }
            Self::AtDesk(row, ..) => row.modality.characteristic().to_owned(),
            Self::Person(person) => person.spki.labelled(),
            Self::Doubt(doubt) => doubt.reason.as_str().to_owned(),
        }
    }
}

impl Kept {
    fn parsed(self, customer: Option<CustomerId>) -> Option<Content> {
        Some(match self {
            Self::Nothing => Content::Nothing,
            Self::Captures(kept) => {
                let customer = customer?;
                let rows = kept.into_iter().map(|capture| capture.parsed(customer));
                Content::Captures(rows.collect::<Option<_>>()?)
            }
            Self::AtDesk { capture, desk, signed_by } => Content::AtDesk(
                Box::new(capture.parsed(customer?)?),
                TerminalId::try_from(desk.as_str()).ok()?,
                signed_by,
            ),
            Self::Person { role, name, unit, spki } => Content::Person(NewPrincipal {
                role: StaffRole::from_word(&role)?,
                name: PrincipalName::try_from(name.as_str()).ok()?,
                unit: UnitName::try_from(unit.as_str()).ok()?,
                spki: Digest::from_hex(&spki).ok()?,
            }),
            Self::Doubt { reason, captures, salt } => Content::Doubt(Doubt {
                reason: SecondPersonReason::from_word(&reason)?,
                captures: Digest::from_hex(&captures).ok()?,
                salt: Salt::from_base64url(&salt).ok()?,
            }),
        })
    }
}

impl KeptCapture {
    fn of(row: &CaptureRow) -> Self {
        Self {
            id: row.id.to_string(),
            of: row.modality.characteristic().to_owned(),
            sealed: STANDARD.encode(&row.sealed),
            created_at: row.created_at.get(),
        }
    }

    fn parsed(self, customer: CustomerId) -> Option<CaptureRow> {
        Some(CaptureRow {
            id: CaptureId::from_hex(&self.id)?,
            customer,
            modality: Modality::from_characteristic(&self.of)?,
            sealed: STANDARD.decode(self.sealed).ok()?,
            created_at: UnixMillis::new(self.created_at),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::finger::FingerPosition;

    fn row(act: TwoPersonAct, content: &Content) -> ProposedRow {
        let at = UnixMillis::new(1);
        ProposedRow {
            id: ProposalId::new([1; 16]),
            act,
            customer: Some(CustomerId::new([2; 16])),
            subject: "somebody".to_owned(),
            content: content.to_bytes(),
            commit: commit_of(&ProposalId::new([1; 16]), act, content),
            proposed_by: PrincipalName::try_from("one").unwrap(),
            proposed_key: Digest::new([3; 32]),
            proposed_at: at,
            index: 1,
            not_before: at,
            expires_at: at,
            closed: None,
        }
    }

    #[test]
    fn what_is_proposed_is_kept_as_it_is_and_each_content_has_a_commitment_of_its_own() {
        let capture = |modality| CaptureRow {
            id: CaptureId::new([4; 16]),
            customer: CustomerId::new([2; 16]),
            modality,
            sealed: vec![0, 255, 7],
            created_at: UnixMillis::new(5),
        };
        let person = |unit: &str| {
            Content::Person(NewPrincipal {
                role: StaffRole::Admin,
                name: PrincipalName::try_from("two").unwrap(),
                unit: UnitName::try_from(unit).unwrap(),
                spki: Digest::new([6; 32]),
            })
        };
        let doubt = |reason, captures, salt| {
            let (captures, salt) = (Digest::new([captures; 32]), Salt::new([salt; 32]));
            Content::Doubt(Doubt { reason, captures, salt })
        };
        let finger = Modality::Finger(FingerPosition::ALL[0]);
        let at_desk = |desk: &str| {
            let desk = TerminalId::try_from(desk).unwrap();
            Content::AtDesk(Box::new(capture(Modality::Face)), desk, SignedBy::default())
        };
        let contents = [
            Content::Nothing,
            Content::Captures(vec![capture(Modality::Face)]),
            at_desk("DESK-1"),
            at_desk("DESK-2"),
            Content::Captures(vec![capture(finger), capture(finger)]),
            person("operations"),
            person("control"),
            doubt(SecondPersonReason::NoReference, 7, 7),
            doubt(SecondPersonReason::TwoPeople, 7, 7),
            doubt(SecondPersonReason::TwoPeople, 8, 7),
            doubt(SecondPersonReason::TwoPeople, 7, 8),
        ];
        let mut commits = std::collections::BTreeSet::new();
        for content in &contents {
            // A doubt is of one act alone.
            let is_doubt = matches!(content, Content::Doubt(_));
            for act in TwoPersonAct::ALL.into_iter().take(if is_doubt { 1 } else { 9 }) {
                let row = row(act, content);
                assert!(Content::of(&row).unwrap() == *content);
                assert!(commits.insert(row.commit));
            }
        }
        let mut broken = row(TwoPersonAct::Erasure, &Content::Nothing);
        broken.content = b"{\"person\":{}}".to_vec();
        assert!(Content::of(&broken).is_err());
    }

    #[test]
    fn captures_are_known_by_number_characteristic_and_bytes_in_any_order() {
        let capture = |id: u8, modality, sealed: u8| CaptureRow {
            id: CaptureId::new([id; 16]),
            customer: CustomerId::new([2; 16]),
            modality,
            sealed: vec![sealed; 9],
            created_at: UnixMillis::new(5),
        };
        let finger = Modality::Finger(FingerPosition::ALL[0]);
        let (one, two) = (capture(1, Modality::Face, 1), capture(2, Modality::Face, 2));
        let digest = captures_digest(&[one.clone(), two.clone()]);
        assert_eq!(captures_digest(&[two.clone(), one.clone()]), digest);
        for others in [
            vec![one.clone()],
            vec![one.clone(), capture(3, Modality::Face, 2)],
            vec![one.clone(), capture(2, Modality::Face, 3)],
            vec![one.clone(), capture(2, finger, 2)],
            vec![one.clone(), one, two],
        ] {
            assert!(captures_digest(&others) != digest);
        }
    }
}
