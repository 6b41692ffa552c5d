//! What a receipt says. Keys are written in the order of the fields; optional ones are left out.
//!
//! Plain texts and integers: whoever fills them has checked them. Digests are written
//! `sha-256:<base64url>`, instants as RFC 3339 in UTC with three fractional digits.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::crypto::Digest;
use crate::domain::id::ReceiptId;
use crate::domain::time::UnixMillis;
use crate::ledger::LogPosition;

/// Everything of a receipt but its time and its place in the ledger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReceiptDraft {
    /// The receipt's own id, as [`rid_text`] writes it.
    pub rid: String,
    /// Who issues it: `cash.bank.example/gw07`.
    pub iss: String,
    /// Who may act on it.
    pub aud: Option<String>,
    /// How long it may be acted on, in milliseconds from its time.
    pub valid_for_ms: Option<i64>,
    /// The bank.
    pub tenant: String,
    /// What happened.
    pub content: Content,
}

impl ReceiptDraft {
    /// The body, once time and place are known.
    #[must_use]
    pub fn complete(mut self, time: UnixMillis, log: LogBlock) -> ReceiptBody {
        self.content.seen_from(&log.origin);
        ReceiptBody {
            rid: self.rid,
            iss: self.iss,
            aud: self.aud,
            time: time.rfc3339(),
            valid_until: self.valid_for_ms.map(|ms| time.plus_millis(ms).rfc3339()),
            tenant: self.tenant,
            content: self.content,
            log,
        }
    }
}

/// A whole receipt, before it is signed or after it was parsed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReceiptBody {
    /// The receipt's own id.
    pub rid: String,
    /// Who issued it.
    pub iss: String,
    /// Who may act on it.
    pub aud: Option<String>,
    /// When it was issued.
    pub time: String,
    /// Until when it may be acted on.
    pub valid_until: Option<String>,
    /// The bank.
    pub tenant: String,
    /// What happened.
    pub content: Content,
    /// Where it stands in the ledger.
    pub log: LogBlock,
}

/// What a receipt is of; the key `kind` names the variant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Content {
    /// `verification`: a decision about a person at a terminal.
    Verification(Verification),
    /// `exception`: a decision without a capture, about a person at a terminal.
    Exception(Exception),
    /// `outcome`: what became of the cash.
    Outcome(Outcome),
    /// `administration`: an act of the bank's staff or of the gateway itself.
    Administration(Administration),
    /// `erasure`: keys of a customer, or bodies of receipts, were destroyed.
    Erasure(Erasure),
    /// `redemption`: the host acted on a receipt.
    Redemption(Redemption),
    /// `reversal`: the host says what moved in truth.
    Reversal(Reversal),
}

impl Content {
    /// The word under the key `kind`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Verification(_) => "verification",
            Self::Exception(_) => "exception",
            Self::Outcome(_) => "outcome",
            Self::Administration(_) => "administration",
            Self::Erasure(_) => "erasure",
            Self::Redemption(_) => "redemption",
            Self::Reversal(_) => "reversal",
        }
    }

    /// Leaves the ledger's name out where an entry of this very ledger is named.
    fn seen_from(&mut self, origin: &str) {
        let refers =
            |refers: &mut Option<Refers>| refers.iter_mut().for_each(|it| it.seen_from(origin));
        let confirmed = |confirmation: &mut Option<Confirmation>| {
            confirmation.iter_mut().for_each(|it| it.entry.seen_from(origin));
        };
        match self {
            Self::Verification(it) => {
                refers(&mut it.refers);
                confirmed(&mut it.confirmation);
            }
            Self::Exception(it) => {
                refers(&mut it.refers);
                confirmed(&mut it.confirmation);
            }
            Self::Outcome(it) => it.refers.seen_from(origin),
            Self::Redemption(it) => it.refers.seen_from(origin),
            Self::Reversal(it) => it.refers.seen_from(origin),
            Self::Administration(it) => it.seen_from(origin),
            Self::Erasure(it) => {
                let ranges = [&mut it.bodies, &mut it.footage, &mut it.evidence];
                for range in ranges.into_iter().flatten() {
                    range.origin.take_if(|named| named == origin);
                }
            }
        }
    }
}

/// A decision about a person at a terminal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Verification {
    /// Who asked, and with what.
    pub terminal: Terminal,
    /// What for.
    pub txn: Txn,
    /// The customer's pseudonym.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// `enrolled` or `known`, where the person is a guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<String>,
    /// What was compared.
    pub bio: Bio,
    /// By which rules.
    pub policy: Policy,
    /// Hash of the gateway's binary.
    pub build: String,
    /// The outcome's word: `APPROVED`, `DENIED`…
    pub outcome: String,
    /// The lower amount that was approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<Cap>,
    /// Public reasons, in the order of their importance.
    pub reasons: Vec<String>,
    /// Commitment to the camera's clip, as [`super::footage_commit`] makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub footage: Option<String>,
    /// The decision before it, which asked for the confirmation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refers: Option<Refers>,
    /// The customer's agreement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<Confirmation>,
    /// Commitment to the audit record, as [`super::audit_commit`] makes it.
    pub audit: String,
}

/// A decision without a capture, about a person who may be unable to give one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Exception {
    /// Who asked.
    pub terminal: ReportingTerminal,
    /// What for.
    pub txn: Txn,
    /// The customer's pseudonym.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// By which rules.
    pub policy: Policy,
    /// Hash of the gateway's binary.
    pub build: String,
    /// The outcome's word: `APPROVED`, `DENIED`…
    pub outcome: String,
    /// The lower amount that was approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<Cap>,
    /// Public reasons, in the order of their importance.
    pub reasons: Vec<String>,
    /// The decision before it, which asked for the confirmation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refers: Option<Refers>,
    /// The customer's agreement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<Confirmation>,
    /// Commitment to the audit record, as [`super::audit_commit`] makes it.
    pub audit: String,
}

/// A customer's agreement in the bank's application, or two tellers' in its place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Confirmation {
    /// On whose word: `customer_key`, `back_end` or `two_tellers`.
    pub by: String,
    /// When it was given.
    pub at: String,
    /// The entry that says so.
    #[serde(rename = "ref")]
    pub entry: Refers,
}

/// The terminal, its sensor, and what they signed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Terminal {
    /// The terminal's id.
    pub id: String,
    /// Hash of its certificate's `SubjectPublicKeyInfo`.
    pub cert: String,
    /// The sensor's key id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensor: Option<String>,
    /// The challenge that the capture answers.
    pub challenge: String,
    /// Hash of the envelope that the device signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envelope: Option<String>,
}

/// The transaction: in the clear what the host enforces, committed to what names an account.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Txn {
    /// As [`super::transaction_commit`] makes it.
    pub commit: String,
    /// The operation's word.
    pub op: String,
    /// How much was asked for, in minor units.
    pub amount_minor: i64,
    /// ISO 4217.
    pub currency: String,
}

/// What was compared.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Bio {
    /// The modality's word.
    pub modality: String,
    /// Hashes of the models.
    pub models: Vec<String>,
    /// The strength that the rules asked for, in dB; what was reached is never told.
    pub required_db: i64,
}

/// The rules that decided.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Policy {
    /// The pack's id.
    pub id: String,
    /// Its version.
    pub version: i64,
    /// Hash of its bytes.
    pub hash: String,
    /// The registers that its rules asked, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub registers: Vec<RegisterUsed>,
}

/// A version of a register that rules asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RegisterUsed {
    /// The register's name.
    pub name: String,
    /// Hash of the version's content.
    pub hash: String,
}

/// A lower amount than was asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cap {
    /// At most this much, in minor units.
    pub amount_minor: i64,
    /// Until when the cap stands.
    pub until: String,
}

/// What became of the cash, as the terminal reported it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The decision's receipt.
    pub refers: Refers,
    /// The outcome's word: `taken`, `retracted`…
    pub outcome: String,
    /// How much moved, in minor units.
    pub dispensed_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// Who reported it.
    pub terminal: ReportingTerminal,
    /// Commitment to the camera's clip, as [`super::footage_commit`] makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub footage: Option<String>,
}

/// An earlier receipt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refers {
    /// Its id.
    pub rid: String,
    /// Its index.
    pub index: u64,
    /// Its ledger, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

impl Refers {
    /// The receipt at a position. A draft names the ledger; [`ReceiptDraft::complete`] leaves it out where
    /// it is the receipt's own.
    #[must_use]
    pub fn to(receipt: &ReceiptId, position: LogPosition) -> Self {
        let LogPosition { origin, index } = position;
        Self { rid: rid_text(receipt), index, origin: Some(origin.as_str().to_owned()) }
    }

    fn seen_from(&mut self, origin: &str) {
        self.origin.take_if(|named| named == origin);
    }
}

/// A terminal that reports.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReportingTerminal {
    /// The terminal's id.
    pub id: String,
    /// Hash of its certificate's `SubjectPublicKeyInfo`.
    pub cert: String,
}

/// An act of administration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Administration {
    /// What was done: `customer_created`, `terminal_revoked`…
    pub act: String,
    /// By whom.
    pub actor: Actor,
    /// To whom: a pseudonym, a terminal's id, a policy's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Hash of the act's particulars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
}

impl Administration {
    /// The subject of an act upon an entry: `entry 12 of` its ledger, and `entry 12` in that ledger's own
    /// receipts.
    #[must_use]
    pub fn entry_subject(position: &LogPosition) -> String {
        format!("{ENTRY}{}{OF}{}", position.index, position.origin)
    }

    fn seen_from(&mut self, origin: &str) {
        let Some(subject) = &mut self.subject else { return };
        let own = format!("{OF}{origin}");
        if subject.starts_with(ENTRY) && subject.ends_with(&own) {
            subject.truncate(subject.len() - own.len());
        }
    }
}

/// Who acted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Actor {
    /// `admin`, `terminal`, `host`, `gateway`…
    pub role: String,
    /// The name in the certificate.
    pub name: String,
    /// Hash of the certificate's `SubjectPublicKeyInfo`.
    pub cert: String,
}

/// Destruction of what is no longer needed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Erasure {
    /// By whom.
    pub actor: Actor,
    /// The customer whose keys were destroyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The receipts whose bodies were deleted; their leaf hashes stay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bodies: Vec<IndexRange>,
    /// The entries whose clips the bank's video archive destroyed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub footage: Vec<IndexRange>,
    /// The decisions whose captures, kept as evidence, were destroyed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<IndexRange>,
    /// Why: `customer_request`, `retention`…
    pub reason: String,
}

/// Indices `first..=last`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct IndexRange {
    /// The first.
    pub first: u64,
    /// The last, included.
    pub last: u64,
    /// Their ledger, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
}

impl IndexRange {
    /// The fewest ranges that hold exactly the entries at these positions, each with its ledger's name;
    /// [`ReceiptDraft::complete`] leaves the name out where it is the receipt's own ledger.
    #[must_use]
    pub fn covering(positions: impl IntoIterator<Item = LogPosition>) -> Vec<Self> {
        let mut sorted: Vec<LogPosition> = positions.into_iter().collect();
        sorted.sort_unstable();
        let mut ranges: Vec<Self> = Vec::new();
        for LogPosition { origin, index } in sorted {
            match ranges.last_mut() {
                Some(range)
                    if index <= range.last.saturating_add(1)
                        && range.origin.as_deref() == Some(origin.as_str()) =>
                {
                    range.last = index;
                }
                _ => {
                    let origin = Some(origin.as_str().to_owned());
                    ranges.push(Self { first: index, last: index, origin });
                }
            }
        }
        ranges
    }
}

/// The host acted on a receipt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Redemption {
    /// Which receipt.
    pub refers: Refers,
    /// Who acted.
    pub actor: Actor,
}

/// What moved in truth under an approval, as the host says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reversal {
    /// The approval's receipt.
    pub refers: Refers,
    /// How much moved, in minor units.
    pub moved_minor: i64,
    /// ISO 4217.
    pub currency: String,
    /// Who says so.
    pub actor: Actor,
}

/// Where a receipt stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogBlock {
    /// The ledger's origin.
    pub origin: String,
    /// The receipt's index in it.
    pub index: u64,
    /// The ledger's size when this receipt's batch began.
    pub prior_size: u64,
    /// The root at that size, base64.
    pub prior_root: String,
    /// The latest head that witnesses had signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witnessed: Option<Witnessed>,
}

impl LogBlock {
    /// Place `index` in the ledger of this origin, whose head was (`prior_size`, `prior_root`) when
    /// the batch began; no witness yet.
    #[must_use]
    pub fn new(origin: &str, index: u64, prior_size: u64, prior_root: &Digest) -> Self {
        let prior_root = STANDARD.encode(prior_root.as_bytes());
        Self { origin: origin.to_owned(), index, prior_size, prior_root, witnessed: None }
    }
}

/// A head that witnesses signed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Witnessed {
    /// Its size.
    pub size: u64,
    /// When.
    pub time: String,
}

/// A receipt's id as receipts write it: 22 characters of base64url.
#[must_use]
pub fn rid_text(id: &ReceiptId) -> String {
    URL_SAFE_NO_PAD.encode(id.as_bytes())
}

/// The body as it is written: `content`'s own keys stand between `tenant` and `log`.
#[derive(Serialize)]
struct Wire<'a> {
    v: u8,
    rid: &'a str,
    kind: &'static str,
    iss: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
    time: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_until: Option<&'a str>,
    tenant: &'a str,
    #[serde(flatten)]
    content: &'a Content,
    log: &'a LogBlock,
}

/// What every kind has, as it is read.
#[derive(Deserialize)]
struct Common {
    v: u64,
    rid: String,
    kind: String,
    iss: String,
    aud: Option<String>,
    time: String,
    valid_until: Option<String>,
    tenant: String,
    log: LogBlock,
}

impl ReceiptBody {
    /// The payload's JSON.
    pub(super) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Wire {
            v: VERSION,
            rid: &self.rid,
            kind: self.content.kind(),
            iss: &self.iss,
            aud: self.aud.as_deref(),
            time: &self.time,
            valid_until: self.valid_until.as_deref(),
            tenant: &self.tenant,
            content: &self.content,
            log: &self.log,
        })
    }

    /// Reads a payload that is known to be strict JSON. Keys that this version does not know are
    /// left alone: names may grow.
    pub(super) fn from_json(value: &serde_json::Value) -> Result<Self, InvalidBody> {
        let Common { v, rid, kind, iss, aud, time, valid_until, tenant, log } =
            Common::deserialize(value).map_err(InvalidBody::Shape)?;
        if v != u64::from(VERSION) {
            return Err(InvalidBody::Version);
        }
        let content = match kind.as_str() {
            "verification" => Verification::deserialize(value).map(Content::Verification),
            "exception" => Exception::deserialize(value).map(Content::Exception),
            "outcome" => Outcome::deserialize(value).map(Content::Outcome),
            "administration" => Administration::deserialize(value).map(Content::Administration),
            "erasure" => Erasure::deserialize(value).map(Content::Erasure),
            "redemption" => Redemption::deserialize(value).map(Content::Redemption),
            "reversal" => Reversal::deserialize(value).map(Content::Reversal),
            _ => return Err(InvalidBody::Kind),
        };
        let content = content.map_err(InvalidBody::Shape)?;
        Ok(Self { rid, iss, aud, time, valid_until, tenant, content, log })
    }
}

/// Why a payload is no body.
pub(super) enum InvalidBody {
    Version,
    Kind,
    Shape(serde_json::Error),
}

const VERSION: u8 = 1;
const ENTRY: &str = "entry ";
const OF: &str = " of ";
