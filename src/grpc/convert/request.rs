//! What is asked, from the wire into the gateway's words.
//!
//! Messages are destructured, so that a field added to the `.proto` is a compile error here.

use std::time::Duration;

use super::{capture, noun, sensor};
use crate::domain::id::{ConfirmationId, CustomerId, TerminalId};
use crate::domain::modality::Modality;
use crate::domain::money::AmountMinor;
use crate::domain::reason::Language;
use crate::domain::time::UnixMillis;
use crate::domain::transaction::{CustomerReference, DecisionKey, OpaqueToken, Operation};
use crate::gateway::request::{
    BeginCapture, BeginEnrolmentCapture, BindToken, Capture, Consent, ConsentTerm, CreateCustomer,
    DuplicateResolution, ImportRow, OfferedCapture, ReportOutcome, RequestException, SentCapture,
    Verify,
};
use crate::gateway::{ExceptionsOf, HolderWish, Redeem, Reverse, Signed};
use crate::grpc::status::InvalidField;
use crate::proto;

/// Longest consent taken, in days: a hundred years.
const CONSENT_DAYS_MAX: u32 = 36_500;

/// Most tokens in a row of an import.
const IMPORT_TOKENS_MAX: usize = 10;

/// Most pictures in a row of an import.
const IMPORT_IMAGES_MAX: usize = 5;

/// Most impressions of fingers in a row of an import.
const IMPORT_FINGERS_MAX: usize = 20;

const DAY_MS: i64 = 86_400_000;

/// A terminal asks for a challenge.
pub fn begin_capture(wire: proto::BeginCaptureRequest) -> Result<BeginCapture, InvalidField> {
    let proto::BeginCaptureRequest {
        customer,
        transaction,
        modality,
        finger_position,
        holder_verification,
        language,
        bank,
        consent,
        further,
    } = wire;
    // Nothing is said yet in any language, but a wrong one is better found now than in the answer.
    noun::language(&language)?;
    let customer = noun::customer_reference(customer)?;
    let transaction = noun::transaction(transaction)?;
    let may_be_guest = transaction.operation == Operation::ThirdPartyDeposit
        && matches!(customer, CustomerReference::Iin(_));
    if consent.is_some() && !may_be_guest {
        let problem = "it is for a deposit by a third party who is named by their IIN";
        return Err(InvalidField::wrong("consent", problem));
    }
    Ok(BeginCapture {
        customer,
        transaction,
        modalities: capture::modalities((modality, finger_position), &further)?,
        holder_verification: noun::holder_verification(holder_verification)?,
        supplied: bank.map(noun::supplied).transpose()?.unwrap_or_default(),
        guest_consent: consent.map(|consent| self::consent(Some(consent))).transpose()?,
    })
}

/// A terminal sends a capture.
pub fn verify(wire: proto::VerifyRequest) -> Result<(Verify, Language), InvalidField> {
    let proto::VerifyRequest {
        challenge,
        host_transaction_id,
        business_date,
        attempt,
        capture: first,
        language,
        footage,
        further,
        envelopes,
    } = wire;
    let verify = Verify {
        challenge: noun::challenge(&challenge)?,
        host_id: noun::host_transaction_id(&host_transaction_id)?,
        business_date: noun::business_date(&business_date)?,
        attempt: noun::attempt(attempt)?,
        captures: capture::captures(first, further)?,
        footage: noun::footage(footage)?,
        envelopes: sensor::envelopes(envelopes)?,
    };
    Ok((verify, noun::language(&language)?))
}

/// A terminal asks for an earlier decision of its own.
pub fn decision_key(
    terminal: &TerminalId,
    wire: proto::GetDecisionRequest,
) -> Result<(DecisionKey, Language), InvalidField> {
    let proto::GetDecisionRequest { business_date, host_transaction_id, attempt, language } = wire;
    let key = DecisionKey {
        terminal: terminal.clone(),
        business_date: noun::business_date(&business_date)?,
        host_id: noun::host_transaction_id(&host_transaction_id)?,
        attempt: noun::attempt(attempt)?,
    };
    Ok((key, noun::language(&language)?))
}

/// A terminal asks for a person who is unable to give a biometric.
pub fn request_exception(
    wire: proto::RequestExceptionRequest,
) -> Result<(RequestException, Language), InvalidField> {
    let proto::RequestExceptionRequest {
        customer,
        transaction,
        attempt,
        holder_verification,
        language,
        bank,
    } = wire;
    let asked = BeginCapture {
        customer: noun::customer_reference(customer)?,
        transaction: noun::transaction(transaction)?,
        modalities: vec![Modality::Face],
        holder_verification: noun::holder_verification(holder_verification)?,
        supplied: bank.map(noun::supplied).transpose()?.unwrap_or_default(),
        guest_consent: None,
    };
    let attempt = noun::attempt(attempt)?;
    Ok((RequestException { asked, attempt }, noun::language(&language)?))
}

/// A terminal waits for its customer.
pub fn await_decision(
    terminal: &TerminalId,
    wire: proto::AwaitDecisionRequest,
) -> Result<(DecisionKey, Duration, Language), InvalidField> {
    let proto::AwaitDecisionRequest {
        business_date,
        host_transaction_id,
        attempt,
        wait_ms,
        language,
    } = wire;
    let wait = noun::wait(wait_ms)?;
    let wire = proto::GetDecisionRequest { business_date, host_transaction_id, attempt, language };
    let (key, language) = decision_key(terminal, wire)?;
    Ok((key, wait, language))
}

/// A customer agrees: with a key, or by the back end's word.
pub fn confirm(
    wire: proto::ConfirmRequest,
) -> Result<(ConfirmationId, Option<Signed>), InvalidField> {
    let proto::ConfirmRequest { confirmation_id, key_id, signature } = wire;
    let id = noun::confirmation_id(&confirmation_id)?;
    Ok((id, signed(&key_id, signature)?))
}

/// What a holder wants of their own biometric; without a signature the back end gives its own word.
pub fn biometric_lock(
    wire: proto::SetBiometricLockRequest,
) -> Result<(CustomerReference, HolderWish, Option<Signed>), InvalidField> {
    let proto::SetBiometricLockRequest { customer, locked, asked_at, key_id, signature } = wire;
    let customer = noun::customer_reference(customer)?;
    // Its text is signed; what it says is read where it is compared with the clock.
    let asked_at = noun::sentence("asked_at", asked_at)?;
    Ok((customer, HolderWish { locked, asked_at }, signed(&key_id, signature)?))
}

/// A device's signature; none where both of its fields are empty.
fn signed(key_id: &str, signature: Vec<u8>) -> Result<Option<Signed>, InvalidField> {
    if key_id.is_empty() && signature.is_empty() {
        return Ok(None);
    }
    let key = noun::key_id(key_id)?;
    Ok(Some(Signed { key, signature: noun::device_bytes("signature", signature)? }))
}

/// Whose exceptions a teller asks for.
pub fn exceptions_of(wire: proto::ListExceptionsRequest) -> Result<ExceptionsOf, InvalidField> {
    use proto::list_exceptions_request::Of;
    let proto::ListExceptionsRequest { of } = wire;
    Ok(match noun::present("of", of)? {
        Of::Customer(customer) => ExceptionsOf::Customer(noun::customer_reference(Some(customer))?),
        Of::TerminalId(terminal) => ExceptionsOf::Terminal(noun::terminal_id(&terminal)?),
    })
}

/// A terminal reports what became of the cash.
pub fn report_outcome(wire: proto::ReportOutcomeRequest) -> Result<ReportOutcome, InvalidField> {
    let proto::ReportOutcomeRequest {
        business_date,
        host_transaction_id,
        attempt,
        outcome,
        dispensed_minor,
        currency,
        footage,
    } = wire;
    Ok(ReportOutcome {
        host_id: noun::host_transaction_id(&host_transaction_id)?,
        business_date: noun::business_date(&business_date)?,
        attempt: noun::attempt(attempt)?,
        outcome: noun::cash_outcome(outcome)?,
        dispensed_minor: noun::dispensed("dispensed_minor", dispensed_minor)?,
        currency: noun::text("currency", &currency)?,
        footage: noun::footage(footage)?,
    })
}

fn receipt_text(wire: Vec<u8>) -> Result<String, InvalidField> {
    String::from_utf8(wire).map_err(|_| InvalidField::wrong("receipt_jws", "it is not ASCII"))
}

/// The host says what moved.
pub fn reverse(wire: proto::ReverseRequest) -> Result<Reverse, InvalidField> {
    let proto::ReverseRequest {
        receipt_jws,
        host_transaction_id,
        business_date,
        attempt,
        moved_minor,
        currency,
    } = wire;
    Ok(Reverse {
        receipt_jws: receipt_text(receipt_jws)?,
        host_id: noun::host_transaction_id(&host_transaction_id)?,
        business_date: noun::business_date(&business_date)?,
        attempt: noun::attempt(attempt)?,
        moved_minor: noun::dispensed("moved_minor", moved_minor)?,
        currency: noun::text("currency", &currency)?,
    })
}

/// The host redeems a receipt.
pub fn redeem(wire: proto::RedeemRequest) -> Result<Redeem, InvalidField> {
    let proto::RedeemRequest {
        receipt_jws,
        transaction_salt,
        host_transaction_id,
        business_date,
        attempt,
        account,
        counterparty,
        amount_minor,
        currency,
        operation,
    } = wire;
    let receipt_jws = receipt_text(receipt_jws)?;
    let amount = AmountMinor::try_from(amount_minor)
        .map_err(|error| InvalidField::because("amount_minor", &error))?;
    let account: OpaqueToken = noun::text("account", &account)?;
    let counterparty =
        counterparty.map(|wire| noun::text::<OpaqueToken>("counterparty", &wire)).transpose()?;
    Ok(Redeem {
        receipt_jws,
        transaction_salt: noun::salt("transaction_salt", &transaction_salt)?,
        host_transaction_id: noun::host_transaction_id(&host_transaction_id)?.to_string(),
        business_date: noun::business_date(&business_date)?.as_str().to_owned(),
        attempt: noun::attempt(attempt)?,
        account: account.expose().to_owned(),
        counterparty: counterparty.map(|token| token.expose().to_owned()),
        amount_minor: amount.get(),
        currency: noun::text("currency", &currency)?,
        operation: noun::operation("operation", operation)?,
    })
}

/// An enroller creates a customer.
pub fn create_customer(wire: proto::CreateCustomerRequest) -> Result<CreateCustomer, InvalidField> {
    let proto::CreateCustomerRequest { iin, consent } = wire;
    Ok(CreateCustomer { iin: noun::iin("iin", &iin)?, consent: self::consent(consent)? })
}

/// An enroller binds a token.
pub fn bind_token(wire: proto::BindTokenRequest) -> Result<BindToken, InvalidField> {
    let proto::BindTokenRequest { customer_id, kind, token, expires_at } = wire;
    Ok(BindToken {
        customer: noun::customer_id(&customer_id)?,
        kind: noun::token_kind("kind", kind)?,
        token: noun::text::<OpaqueToken>("token", &token)?,
        expires_at: expires_at.map(|wire| noun::instant("expires_at", &wire)).transpose()?,
    })
}

/// A row of an import.
pub fn import_row(wire: proto::BulkImportRequest) -> Result<(ImportRow, Language), InvalidField> {
    let proto::BulkImportRequest { row: _, iin, consent, tokens, images, language, fingers } = wire;
    if tokens.len() > IMPORT_TOKENS_MAX {
        return Err(InvalidField::wrong("tokens", "there are more than 10"));
    }
    if images.is_empty() && fingers.is_empty() {
        return Err(InvalidField::missing("images"));
    }
    if fingers.len() > IMPORT_FINGERS_MAX {
        return Err(InvalidField::wrong("fingers", "there are more than 20"));
    }
    if images.len() > IMPORT_IMAGES_MAX {
        return Err(InvalidField::wrong("images", "there are more than 5"));
    }
    let tokens = tokens.into_iter().map(|token| {
        let proto::ImportToken { kind, token } = token;
        let kind = noun::token_kind("tokens.kind", kind)?;
        Ok((kind, noun::text::<OpaqueToken>("tokens.token", &token)?, None))
    });
    let row = ImportRow {
        customer: CreateCustomer { iin: noun::iin("iin", &iin)?, consent: self::consent(consent)? },
        tokens: tokens.collect::<Result<_, _>>()?,
        captures: images
            .into_iter()
            .map(|image| Ok((Modality::Face, capture::undeclared("images", image)?)))
            .chain(fingers.into_iter().map(import_finger))
            .collect::<Result<_, _>>()?,
    };
    Ok((row, noun::language(&language)?))
}

fn import_finger(wire: proto::ImportFinger) -> Result<(Modality, Capture), InvalidField> {
    let proto::ImportFinger { finger_position, image, pixels_per_inch } = wire;
    let position = capture::finger_position("fingers.finger_position", finger_position)?;
    let mut impression = capture::undeclared("fingers.image", image)?;
    let said = capture::Said { media_type: None, pixels_per_inch, raw_size: None };
    impression.declared = said.declared(["fingers", "fingers.pixels_per_inch"])?;
    Ok((Modality::Finger(position), impression))
}

/// An enroller asks for a challenge for a capture.
pub fn begin_add_capture(
    wire: proto::BeginAddCaptureRequest,
) -> Result<BeginEnrolmentCapture, InvalidField> {
    let proto::BeginAddCaptureRequest { customer_id, terminal_id, modality, finger_position } =
        wire;
    Ok(BeginEnrolmentCapture {
        customer: noun::customer_id(&customer_id)?,
        terminal: noun::terminal_id(&terminal_id)?,
        modality: face_or(modality, finger_position)?,
    })
}

/// What a capture for a template is of; not stated: the face.
fn face_or(modality: i32, finger_position: i32) -> Result<Modality, InvalidField> {
    let unstated = i32::from(proto::Modality::Unspecified);
    let stated = if modality == unstated { proto::Modality::Face.into() } else { modality };
    capture::modality(stated, finger_position)
}

/// A picture for an enrolment.
pub fn add_capture(
    wire: proto::AddCaptureRequest,
) -> Result<(CustomerId, Modality, OfferedCapture, Language), InvalidField> {
    let proto::AddCaptureRequest {
        customer_id,
        image,
        media_type,
        language,
        modality,
        finger_position,
        pixels_per_inch,
        raw_size,
        challenge,
        envelope,
        sealed,
    } = wire;
    let modality = face_or(modality, finger_position)?;
    let needs_challenge = envelope.is_some() || sealed.is_some();
    let challenge = match (challenge.is_empty(), needs_challenge) {
        (true, false) => None,
        (true, true) => return Err(InvalidField::missing("challenge")),
        (false, true) => Some(noun::challenge(&challenge)?),
        (false, false) => {
            let problem = "with a challenge the capture must be signed or sealed";
            return Err(InvalidField::wrong("envelope", problem));
        }
    };
    let picture = capture::sent(ADDED, image, sealed)?;
    let said = capture::Said { media_type, pixels_per_inch, raw_size };
    let declared = said.declared(["media_type", "pixels_per_inch"])?;
    let suits = match modality {
        Modality::Face => declared.suits_a_face(),
        _ => declared.suits_a_finger(),
    };
    if !suits {
        return Err(InvalidField::wrong(
            "modality",
            "the picture is declared as one of something else",
        ));
    }
    let offered = OfferedCapture {
        capture: SentCapture { picture, declared },
        challenge,
        envelope: envelope.map(sensor::envelope).transpose()?,
    };
    Ok((noun::customer_id(&customer_id)?, modality, offered, noun::language(&language)?))
}

const ADDED: capture::PicturePaths = capture::PicturePaths {
    image: "image",
    key_id: "sealed.key_id",
    sensor_id: "sealed.sensor_id",
    sealed: "sealed.sealed",
};

/// What a suspected duplicate turned out to be.
pub fn duplicate_resolution(wire: i32) -> Result<DuplicateResolution, InvalidField> {
    use proto::DuplicateResolution as Wire;
    match noun::named("resolution", wire)? {
        Wire::Unspecified => Err(InvalidField::missing("resolution")),
        Wire::DifferentPeople => Ok(DuplicateResolution::DifferentPeople),
        Wire::SamePersonReject => Ok(DuplicateResolution::SamePerson),
    }
}

fn consent(wire: Option<proto::Consent>) -> Result<Consent, InvalidField> {
    use proto::consent::Term;
    let proto::Consent { operator, subject, purpose, term, given_at, evidence_ref } =
        noun::present("consent", wire)?;
    let until = match noun::present("consent.term", term)? {
        Term::Days(days @ 1..=CONSENT_DAYS_MAX) => ConsentTerm::Days(days),
        Term::Days(_) => {
            return Err(InvalidField::wrong("consent.days", "it must be 1 to 36500"));
        }
        Term::Until(day) => ConsentTerm::Until(end_of_day("consent.until", &day)?),
    };
    Ok(Consent {
        operator: noun::sentence("consent.operator", operator)?,
        subject: noun::sentence("consent.subject", subject)?,
        purpose: noun::sentence("consent.purpose", purpose)?,
        until,
        given_at: noun::instant("consent.given_at", &given_at)?,
        evidence_ref: noun::sentence("consent.evidence_ref", evidence_ref)?,
    })
}

/// The first instant after a day, in UTC.
fn end_of_day(path: &'static str, day: &str) -> Result<UnixMillis, InvalidField> {
    let day = noun::text::<crate::domain::time::BusinessDate>(path, day)?;
    let midnight = noun::instant(path, &format!("{}T00:00:00Z", day.as_str()))?;
    Ok(midnight.plus_millis(DAY_MS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consent_with(term: Option<proto::consent::Term>) -> proto::Consent {
        proto::Consent {
            operator: "Bank A".into(),
            subject: "the customer".into(),
            purpose: "cash at terminals".into(),
            term,
            given_at: "2026-11-21T02:03:14Z".into(),
            evidence_ref: "archive/7".into(),
        }
    }

    #[test]
    fn a_consent_ends_with_its_last_day() {
        use proto::consent::Term;
        let until = consent(Some(consent_with(Some(Term::Until("2027-12-31".into()))))).unwrap();
        let first_moment_of_2028 = UnixMillis::parse_rfc3339("2028-01-01T00:00:00Z").unwrap();
        assert_eq!(until.until, ConsentTerm::Until(first_moment_of_2028));
        for (term, path) in [
            (None, "consent.term"),
            (Some(Term::Days(0)), "consent.days"),
            (Some(Term::Days(36_501)), "consent.days"),
            (Some(Term::Until("soon".into())), "consent.until"),
        ] {
            assert_eq!(consent(Some(consent_with(term))).unwrap_err().path, path);
        }
    }

    #[test]
    fn a_consent_says_everything_that_the_law_names() {
        type Spoil = fn(&mut proto::Consent);
        let cases: [(&str, Spoil); 5] = [
            ("consent.operator", |c| c.operator.clear()),
            ("consent.subject", |c| c.subject.clear()),
            ("consent.purpose", |c| c.purpose.clear()),
            ("consent.given_at", |c| c.given_at = "today".into()),
            ("consent.evidence_ref", |c| c.evidence_ref.clear()),
        ];
        for (path, spoil) in cases {
            let mut wire = consent_with(Some(proto::consent::Term::Days(30)));
            spoil(&mut wire);
            assert_eq!(consent(Some(wire)).unwrap_err().path, path);
        }
    }

    #[test]
    fn a_row_of_an_import_is_bounded() {
        let row = |tokens: usize, images: usize| proto::BulkImportRequest {
            row: 1,
            iin: "000000300017".into(),
            consent: Some(consent_with(Some(proto::consent::Term::Days(30)))),
            tokens: vec![proto::ImportToken { kind: 1, token: "card".into() }; tokens],
            images: vec!["x".into(); images],
            fingers: Vec::new(),
            language: "en".into(),
        };
        assert!(import_row(row(10, 5)).is_ok());
        assert_eq!(import_row(row(11, 5)).unwrap_err().path, "tokens");
        assert_eq!(import_row(row(0, 6)).unwrap_err().path, "images");
        assert_eq!(import_row(row(0, 0)).unwrap_err().path, "images");
    }
}
