//! What is answered, from the gateway's words to the wire.

use std::collections::{BTreeMap, HashMap};

use prost::Message as _;

use crate::domain::decision::{Outcome, StepUp};
use crate::domain::id::{CaptureId, CustomerId};
use crate::domain::modality::Modality;
use crate::domain::reason::{Language, NextScreen, Reason};
use crate::domain::reference::SecondPersonReason;
use crate::domain::time::UnixMillis;
use crate::domain::transaction::{Operation, TokenKind};
use crate::gateway::request::{
    Answer, BeginEnrolmentCapture, CaptureAnswer, CustomerAnswer, EnrolmentChallenge, FootageSalt,
    IssuedChallenge, Logged, QualityComponent, Salts,
};
use crate::gateway::{Awaited, Pending, Shown};
use crate::gateway::{BiometricLocks, ConsentCause, ConsentRow, LogPosition};
use crate::gateway::{CaptureKey, SecondPerson};
use crate::proto;

impl From<UnixMillis> for proto::Instant {
    fn from(instant: UnixMillis) -> Self {
        Self { rfc3339: instant.rfc3339(), unix_ms: instant.get() }
    }
}

impl From<IssuedChallenge> for proto::BeginCaptureResponse {
    fn from(issued: IssuedChallenge) -> Self {
        let IssuedChallenge { challenge, expires_at, attempts_left, capture_key } = issued;
        Self {
            challenge: challenge.as_bytes().to_vec(),
            expires_at: Some(expires_at.into()),
            prompts: Vec::new(),
            attempts_left,
            capture_key: capture_key.map(proto::CaptureKey::from),
        }
    }
}

impl From<CaptureKey> for proto::CaptureKey {
    fn from(key: CaptureKey) -> Self {
        let CaptureKey { id, public_key, until, kid, signature } = key;
        Self {
            key_id: id.to_string(),
            public_key: public_key.to_vec(),
            seal_until: Some(until.into()),
            signed_by: kid,
            signature,
        }
    }
}

impl From<EnrolmentChallenge> for proto::BeginAddCaptureResponse {
    fn from(issued: EnrolmentChallenge) -> Self {
        let EnrolmentChallenge { challenge, expires_at, of, capture_key } = issued;
        let BeginEnrolmentCapture { customer, terminal, modality } = of;
        let proto::Characteristic { modality, finger_position } = modality.into();
        Self {
            challenge: challenge.as_bytes().to_vec(),
            expires_at: Some(expires_at.into()),
            customer_id: customer.to_string(),
            terminal_id: terminal.to_string(),
            modality,
            finger_position,
            capture_key: capture_key.map(proto::CaptureKey::from),
        }
    }
}

/// The bytes of the answer to `BeginAddCapture`, of which sensors sign the hash.
pub fn add_begun_bytes(issued: &EnrolmentChallenge) -> Vec<u8> {
    proto::BeginAddCaptureResponse::from(issued.clone()).encode_to_vec()
}

/// The bytes of the answer to `BeginCapture`, of which sensors sign the hash.
pub fn begun_bytes(issued: &IssuedChallenge) -> Vec<u8> {
    proto::BeginCaptureResponse::from(issued.clone()).encode_to_vec()
}

/// A decision. Its one source is an [`Answer`], which only a receipt in the ledger makes.
pub fn decision(answer: Answer, language: Language) -> proto::Decision {
    let Answer { outcome, reasons, next_screen, attempts_left, salts, receipt } = answer;
    let params = params(&outcome, attempts_left);
    let Salts { transaction, footage } = salts;
    let until = outcome.until().map(proto::Instant::from);
    let is_held = matches!(outcome, Outcome::Held { .. });
    proto::Decision {
        outcome: self::outcome(&outcome).into(),
        reasons: reasons
            .into_iter()
            .map(|reason| self::reason(reason, language, &params))
            .collect(),
        next_screen: screen(next_screen).into(),
        attempts_left,
        receipt_jws: receipt.jws().as_bytes().to_vec(),
        salts: Some(proto::Salts {
            transaction: transaction.to_vec(),
            footage: salt_bytes(footage),
        }),
        cap: outcome
            .cap_minor()
            .map(|amount_minor| proto::Cap { amount_minor, until: until.clone() }),
        held_until: if is_held { until } else { None },
        position: Some(position(&receipt)),
        step_up: outcome.step_up().map_or(proto::StepUp::Unspecified, step_up).into(),
    }
}

/// What opens a commitment to a clip; empty where there is none.
pub fn salt_bytes(salt: Option<FootageSalt>) -> Vec<u8> {
    salt.map_or_else(Vec::new, |FootageSalt(bytes)| bytes.to_vec())
}

/// Reasons with their texts, where no transaction gives them parameters.
pub fn reasons(reasons: Vec<Reason>, language: Language) -> Vec<proto::Reason> {
    reasons.into_iter().map(|reason| self::reason(reason, language, &HashMap::new())).collect()
}

/// What a terminal finds that waits for its customer.
pub fn awaited(awaited: Awaited, language: Language) -> proto::AwaitDecisionResponse {
    use proto::AwaitState as Wire;
    let (state, decision, until) = match awaited {
        Awaited::Waiting(until) => (Wire::Waiting, None, Some(until)),
        Awaited::CaptureAgain(until) => (Wire::CaptureAgain, None, Some(until)),
        Awaited::Decided(answer) => (Wire::Decided, Some(self::decision(*answer, language)), None),
    };
    proto::AwaitDecisionResponse {
        state: state.into(),
        decision,
        until: until.map(proto::Instant::from),
    }
}

/// What waits for customers.
pub fn pending(pending: Vec<Pending>) -> Vec<proto::PendingConfirmation> {
    pending.into_iter().map(confirmation).collect()
}

fn confirmation(pending: Pending) -> proto::PendingConfirmation {
    let Pending { id, customer, shown, expires_at, position, is_exception: _, first: _ } = pending;
    let Shown { operation, amount_minor, currency, payee, terminal, place, displayed_at } = shown;
    proto::PendingConfirmation {
        confirmation_id: id.to_string(),
        customer_id: customer.to_string(),
        operation: Operation::from_word(&operation)
            .map_or(proto::Operation::Unspecified, self::operation)
            .into(),
        amount_minor,
        currency,
        payee,
        terminal_id: terminal,
        place,
        displayed_at,
        expires_at: Some(expires_at.into()),
        position: Some(log_position(position)),
    }
}

/// What waits for two tellers.
pub fn exception(mut pending: Pending) -> proto::WaitingException {
    let first = pending.first.take().map(|(name, at)| proto::FirstTeller {
        name: name.as_str().to_owned(),
        at: Some(at.into()),
    });
    proto::WaitingException { transaction: Some(confirmation(pending)), first }
}

const fn operation(operation: Operation) -> proto::Operation {
    match operation {
        Operation::CashWithdrawal => proto::Operation::Withdrawal,
        Operation::CashDeposit => proto::Operation::Deposit,
        Operation::ThirdPartyDeposit => proto::Operation::DepositThirdParty,
    }
}

/// Where an entry stands.
pub fn position(receipt: &Logged) -> proto::LogPosition {
    log_position(receipt.position().clone())
}

/// A ledger, and an index in it.
pub fn log_position(position: LogPosition) -> proto::LogPosition {
    let LogPosition { origin, index } = position;
    proto::LogPosition { origin: origin.as_str().to_owned(), index }
}

/// Somebody who looks like the same person.
pub fn duplicate((customer, strength_db): (CustomerId, i64)) -> proto::Duplicate {
    proto::Duplicate {
        customer_id: customer.to_string(),
        strength_db: u32::try_from(strength_db.max(0)).unwrap_or(u32::MAX),
    }
}

/// What became of a capture offered for enrolment.
pub fn capture(
    answer: CaptureAnswer,
    proposal: Option<proto::Proposal>,
    language: Language,
) -> proto::AddCaptureResponse {
    let CaptureAnswer { capture, proposal: _, quality, reasons } = answer;
    proto::AddCaptureResponse {
        capture_id: capture.map(|id| id.to_string()).unwrap_or_default(),
        accepted: capture.is_some(),
        quality: quality.into_iter().map(proto::QualityComponent::from).collect(),
        reasons: self::reasons(reasons, language),
        proposal,
    }
}

impl From<QualityComponent> for proto::QualityComponent {
    fn from(component: QualityComponent) -> Self {
        let QualityComponent { name, value, bar, ok } = component;
        Self { name: name.to_owned(), value: value.into(), bar: bar.into(), ok }
    }
}

impl From<CustomerAnswer> for proto::Customer {
    fn from(answer: CustomerAnswer) -> Self {
        let CustomerAnswer {
            id,
            status,
            created_at,
            updated_at,
            captures,
            tokens,
            duplicates,
            needs_second_person,
            locks,
            consent,
        } = answer;
        Self {
            customer_id: id.to_string(),
            status: self::status(status.as_str()).into(),
            characteristics: characteristics(&captures),
            capture_ids: captures.into_iter().map(|(id, _)| id.to_string()).collect(),
            token_kinds: tokens.into_iter().map(|kind| token_kind(kind).into()).collect(),
            created_at: Some(created_at.into()),
            updated_at: Some(updated_at.into()),
            duplicate_ids: duplicates.into_iter().map(|id| id.to_string()).collect(),
            needs_second_person: needs_second_person.map(proto::NeedsSecondPerson::from),
            biometric_locks: biometric_locks(locks),
            consent: consent.map(consent_state),
        }
    }
}

fn consent_state(row: ConsentRow) -> proto::ConsentState {
    let ConsentRow { customer: _, until, end } = row;
    let ended_by = match end.map(|end| end.cause) {
        None => proto::ConsentEndCause::Unspecified,
        Some(ConsentCause::Withdrawn) => proto::ConsentEndCause::Withdrawn,
        Some(ConsentCause::Expired) => proto::ConsentEndCause::Expired,
    };
    proto::ConsentState {
        until: Some(until.into()),
        ended_by: ended_by.into(),
        ended_at: end.map(|end| end.at.into()),
        kept_until: end.map(|end| end.keep_until.into()),
    }
}

/// One for each cause.
fn biometric_locks(locks: BiometricLocks) -> Vec<proto::BiometricLock> {
    use proto::BiometricLockCause::{Failures, Holder};
    let BiometricLocks { by_failures, proposal, by_holder } = locks;
    let (by, until) = proposal.unzip();
    let by_failures = by_failures.map(|since| proto::BiometricLock {
        cause: Failures.into(),
        since: Some(since.into()),
        unlock_proposed_by: by.map(|name| name.as_str().to_owned()).unwrap_or_default(),
        unlock_proposed_until: until.map(proto::Instant::from),
    });
    let by_holder = by_holder.map(|since| proto::BiometricLock {
        cause: Holder.into(),
        since: Some(since.into()),
        ..proto::BiometricLock::default()
    });
    by_failures.into_iter().chain(by_holder).collect()
}

/// How many captures there are of each characteristic.
fn characteristics(captures: &[(CaptureId, Modality)]) -> Vec<proto::EnrolledCharacteristic> {
    let mut counts = BTreeMap::new();
    for (_, modality) in captures {
        *counts.entry(*modality).or_insert(0u32) += 1;
    }
    let enrolled = counts.into_iter().map(|(modality, captures)| proto::EnrolledCharacteristic {
        characteristic: Some(modality.into()),
        captures,
    });
    enrolled.collect()
}

impl From<Modality> for proto::Characteristic {
    fn from(modality: Modality) -> Self {
        let (modality, finger_position) = match modality {
            Modality::Face => (proto::Modality::Face, 0),
            Modality::Finger(position) => (proto::Modality::Finger, i32::from(position.code())),
        };
        Self { modality: modality.into(), finger_position }
    }
}

impl From<SecondPerson> for proto::NeedsSecondPerson {
    fn from(waits: SecondPerson) -> Self {
        let SecondPerson { reason, until, proposal } = waits;
        Self {
            reason: second_person_reason(reason).into(),
            until: Some(until.into()),
            proposal_id: proposal.to_string(),
        }
    }
}

const fn second_person_reason(reason: SecondPersonReason) -> proto::SecondPersonReason {
    match reason {
        SecondPersonReason::NoReference => proto::SecondPersonReason::NoReference,
        SecondPersonReason::ReferenceUnusable => proto::SecondPersonReason::ReferenceUnusable,
        SecondPersonReason::ReferenceDiffers => proto::SecondPersonReason::ReferenceDiffers,
        SecondPersonReason::TwoPeople => proto::SecondPersonReason::TwoPeople,
        SecondPersonReason::ActiveBefore => proto::SecondPersonReason::ActiveBefore,
    }
}

/// Where a customer stands, by the word that the gateway has for it.
pub fn status(word: &str) -> proto::CustomerStatus {
    proto::CustomerStatus::from_str_name(&format!("CUSTOMER_STATUS_{}", word.to_ascii_uppercase()))
        .unwrap_or(proto::CustomerStatus::Unspecified)
}

const fn token_kind(kind: TokenKind) -> proto::TokenKind {
    match kind {
        TokenKind::Card => proto::TokenKind::Card,
        TokenKind::Account => proto::TokenKind::Account,
        TokenKind::PhoneCode => proto::TokenKind::PhoneCode,
    }
}

const fn outcome(outcome: &Outcome) -> proto::Outcome {
    match outcome {
        Outcome::Approved => proto::Outcome::Approved,
        Outcome::ApprovedCapped { .. } => proto::Outcome::ApprovedCapped,
        Outcome::StepUp { .. } => proto::Outcome::StepUp,
        Outcome::Inconclusive => proto::Outcome::Inconclusive,
        Outcome::Held { .. } => proto::Outcome::Held,
        Outcome::Denied => proto::Outcome::Denied,
    }
}

const fn step_up(what: StepUp) -> proto::StepUp {
    match what {
        StepUp::AppConfirmation => proto::StepUp::AppConfirmation,
        StepUp::OtherFinger => proto::StepUp::OtherFinger,
        StepUp::Liveness => proto::StepUp::Liveness,
        StepUp::Teller => proto::StepUp::Teller,
    }
}

const fn screen(screen: NextScreen) -> proto::NextScreen {
    match screen {
        NextScreen::Proceed => proto::NextScreen::Proceed,
        NextScreen::RetryCapture => proto::NextScreen::RetryCapture,
        NextScreen::OtherAmount => proto::NextScreen::OtherAmount,
        NextScreen::StartAgain => proto::NextScreen::StartAgain,
        NextScreen::TryLater => proto::NextScreen::TryLater,
        NextScreen::OtherVerification => proto::NextScreen::OtherVerification,
        NextScreen::ContactBranch => proto::NextScreen::ContactBranch,
        NextScreen::CallOperator => proto::NextScreen::CallOperator,
    }
}

/// The values that a terminal's own translation may want.
fn params(outcome: &Outcome, attempts_left: u32) -> HashMap<String, String> {
    let mut params = HashMap::from([("attempts_left".to_owned(), attempts_left.to_string())]);
    if let Some(cap) = outcome.cap_minor() {
        params.insert("cap_minor".to_owned(), cap.to_string());
    }
    if let Some(until) = outcome.until() {
        params.insert("until".to_owned(), until.rfc3339());
    }
    params
}

fn reason(reason: Reason, language: Language, params: &HashMap<String, String>) -> proto::Reason {
    // A second bolt: whoever made the answer has already left out what may not be told.
    let reason = reason.public();
    let row = reason.row();
    proto::Reason {
        code: row.code.to_owned(),
        text_key: format!("reason.{}", row.code.to_ascii_lowercase()),
        params: params.clone(),
        text: row.customer.in_language(language).to_owned(),
        retryable: row.retryable,
        iso8583_field39: row.iso8583_field39.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reason_says_more_than_its_public_one() {
        for &internal in Reason::ALL {
            let wire = reason(internal, Language::English, &HashMap::new());
            assert_eq!(wire.code, internal.public().code());
            assert!(!wire.text.is_empty() && wire.iso8583_field39.len() == 2, "{}", wire.code);
        }
    }

    #[test]
    fn every_status_has_its_place_on_the_wire() {
        for status in crate::store::CustomerStatus::ALL {
            let wire = self::status(status.as_str());
            assert_ne!(wire, proto::CustomerStatus::Unspecified, "{status:?}");
        }
        assert_eq!(self::status("unspecified_word"), proto::CustomerStatus::Unspecified);
    }

    #[test]
    fn outcomes_and_screens_keep_their_names_on_the_wire() {
        let until = UnixMillis::new(0);
        for (domain, word) in [
            Outcome::Approved,
            Outcome::ApprovedCapped { cap_minor: 1, until },
            Outcome::StepUp { what: StepUp::Teller },
            Outcome::Inconclusive,
            Outcome::Held { until },
            Outcome::Denied,
        ]
        .map(|outcome| (outcome, outcome.as_str()))
        {
            assert_eq!(outcome(&domain).as_str_name(), format!("OUTCOME_{word}"));
        }
        for domain in Reason::ALL.iter().map(|reason| reason.row().next_screen) {
            let wire = screen(domain);
            assert_eq!(wire.as_str_name(), format!("NEXT_SCREEN_{}", domain.code()));
        }
        for reason in SecondPersonReason::ALL {
            let word = reason.as_str().to_ascii_uppercase();
            let wire = second_person_reason(reason);
            assert_eq!(wire.as_str_name(), format!("SECOND_PERSON_REASON_{word}"));
        }
        for what in [StepUp::AppConfirmation, StepUp::OtherFinger, StepUp::Liveness, StepUp::Teller]
        {
            assert_eq!(step_up(what).as_str_name(), format!("STEP_UP_{}", what.as_str()));
        }
    }
}
