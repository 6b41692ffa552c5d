//! One line of a ledger, looked at alone: what it claims, and what is wrong with it by itself.

use super::records::Records;
use crate::crypto::Digest;
use crate::domain::id::ReceiptId;
use crate::domain::time::UnixMillis;
use crate::ledger::{LeafHash, Origin, leaf_hash};
use crate::receipt::{
    Content, IndexRange, KeyRegister, ReceiptBody, ReceiptError, Refers, UnverifiedReceipt, parse,
};

/// What a line is looked at with.
pub(super) struct Lens<'a> {
    pub register: &'a KeyRegister,
    pub origin: &'a Origin,
    pub records: &'a Records,
}

/// What one line is, seen alone.
pub(super) struct Examined {
    pub leaf: LeafHash,
    pub claim: Option<Claim>,
    pub faults: Vec<(&'static str, String)>,
}

/// What a well-formed receipt claims.
pub(super) struct Claim {
    pub index: u64,
    pub id: ReceiptId,
    pub time: UnixMillis,
    pub kind: &'static str,
    pub prior_size: u64,
    pub prior_root: Digest,
    pub witnessed: Option<WitnessedHead>,
    pub refers: Option<Refers>,
    pub bodies: Vec<IndexRange>,
    pub opened: Option<Opened>,
}

/// A head that witnesses had signed, as a receipt names it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct WitnessedHead {
    pub size: u64,
    /// None for a text that is no instant.
    pub time: Option<UnixMillis>,
}

/// What the first entry of a ledger says of the one before.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Opened {
    pub previous: Option<String>,
    pub digest: Option<String>,
}

impl Lens<'_> {
    /// Looks at a line.
    pub(super) fn examine(&self, line: &[u8]) -> Examined {
        // What is not UTF-8 is no receipt: let the parser refuse it.
        let line = String::from_utf8_lossy(line);
        let leaf = leaf_hash(&line);
        match parse(&line) {
            Err(fault) => Examined { leaf, claim: None, faults: vec![told(&fault)] },
            Ok(receipt) => {
                let mut faults = Vec::new();
                self.look_around(receipt.unverified_body(), &mut faults);
                let claim = Some(Claim::of(&receipt));
                faults.extend(receipt.verify(self.register).err().map(|fault| told(&fault)));
                Examined { leaf, claim, faults }
            }
        }
    }

    /// Checks what needs no other entry.
    fn look_around(&self, body: &ReceiptBody, faults: &mut Vec<(&'static str, String)>) {
        if body.log.origin != self.origin.as_str() {
            let text = format!("the receipt is of another ledger: {:?}", body.log.origin);
            faults.push(("origin", text));
        }
        let commit = match &body.content {
            Content::Verification(decision) => Some(decision.audit.as_str()),
            Content::Exception(decision) => Some(decision.audit.as_str()),
            _ => None,
        };
        if let Err(text) = self.records.check(body.log.index, commit) {
            faults.push(("audit-record", text));
        }
    }
}

impl Claim {
    fn of(receipt: &UnverifiedReceipt<'_>) -> Self {
        let body = receipt.unverified_body();
        let (mut refers, mut bodies, mut opened) = (None, Vec::new(), None);
        match &body.content {
            Content::Outcome(outcome) => refers = Some(outcome.refers.clone()),
            Content::Redemption(redemption) => refers = Some(redemption.refers.clone()),
            Content::Reversal(reversal) => refers = Some(reversal.refers.clone()),
            Content::Erasure(erasure) => {
                // Ranges of another ledger say nothing of this one's bodies.
                let own = |range: &&IndexRange| {
                    range.origin.as_deref().is_none_or(|origin| origin == body.log.origin)
                };
                bodies.extend(erasure.bodies.iter().filter(own).cloned());
            }
            Content::Verification(decision) => refers.clone_from(&decision.refers),
            Content::Exception(decision) => refers.clone_from(&decision.refers),
            Content::Administration(act) if act.act == LEDGER_OPENED => {
                let (previous, digest) = (act.subject.clone(), act.details.clone());
                opened = Some(Opened { previous, digest });
            }
            Content::Administration(_) => {}
        }
        let witnessed = body.log.witnessed.as_ref().map(|head| WitnessedHead {
            size: head.size,
            time: UnixMillis::parse_rfc3339(&head.time).ok(),
        });
        Self {
            index: body.log.index,
            id: receipt.unverified_id(),
            time: receipt.unverified_time(),
            kind: body.content.kind(),
            prior_size: body.log.prior_size,
            prior_root: receipt.unverified_prior_root(),
            witnessed,
            refers,
            bodies,
            opened,
        }
    }
}

fn told(fault: &ReceiptError) -> (&'static str, String) {
    let rule = match fault {
        ReceiptError::UnknownKey | ReceiptError::KeyUse => "key",
        ReceiptError::Signature => "signature",
        ReceiptError::OutsideKeyRange => "key-range",
        ReceiptError::OutsideKeyTime => "key-time",
        _ => "receipt",
    };
    (rule, fault.to_string())
}

/// The act that begins a ledger.
const LEDGER_OPENED: &str = "ledger_opened";
