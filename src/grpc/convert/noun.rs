//! Nouns of the business from the wire.
//!
//! Messages are destructured, so that a field added to the `.proto` is a compile error here.

use std::collections::BTreeSet;

use std::time::Duration;

use crate::crypto::Digest;
use crate::domain::footage::Footage;
use crate::domain::id::{
    Attempt, CameraId, CaptureId, CaseReference, Challenge, ClipHash, ConfirmationId, CustomerId,
    HostTransactionId, TerminalId,
};
use crate::domain::iin::Iin;
use crate::domain::money::{AmountMinor, Currency};
use crate::domain::reason::Language;
use crate::domain::supplied::{BusinessClass, RiskSign, Supplied};
use crate::domain::time::{BusinessDate, UnixMillis};
use crate::domain::transaction::{
    CashOutcome, CustomerReference, HolderVerification, OpaqueToken, Operation, TokenKind,
    Transaction,
};
use crate::gateway::Origin;
use crate::grpc::status::InvalidField;
use crate::proto;

/// Longest free text taken.
const TEXT_CHARS_MAX: usize = 256;

/// Longest wait of one call, in milliseconds.
const WAIT_MS_MAX: u32 = 60_000;

/// Longest key or signature of a device, in bytes.
const DEVICE_BYTES_MAX: usize = 128;

/// Items on a page when the caller does not say.
const PAGE_ITEMS_DEFAULT: u32 = 100;

/// Most items on a page.
const PAGE_ITEMS_MAX: u32 = 1000;

/// A noun that is made from text.
pub fn text<'a, T>(path: &'static str, wire: &'a str) -> Result<T, InvalidField>
where
    T: TryFrom<&'a str>,
    T::Error: std::error::Error,
{
    T::try_from(wire).map_err(|error| InvalidField::because(path, &error))
}

/// A message that must be there.
pub fn present<T>(path: &'static str, wire: Option<T>) -> Result<T, InvalidField> {
    wire.ok_or_else(|| InvalidField::missing(path))
}

/// Which try of a transaction.
pub fn attempt(wire: u32) -> Result<Attempt, InvalidField> {
    Attempt::try_from(wire).map_err(|error| InvalidField::because("attempt", &error))
}

/// A salt of 32 bytes.
pub fn salt(path: &'static str, wire: &[u8]) -> Result<[u8; 32], InvalidField> {
    wire.try_into().map_err(|_| InvalidField::wrong(path, "it must be 32 bytes"))
}

/// A challenge.
pub fn challenge(wire: &[u8]) -> Result<Challenge, InvalidField> {
    Challenge::try_from(wire).map_err(|error| InvalidField::because("challenge", &error))
}

/// The host's number of a transaction.
pub fn host_transaction_id(wire: &str) -> Result<HostTransactionId, InvalidField> {
    text("host_transaction_id", wire)
}

/// The bank's day.
pub fn business_date(wire: &str) -> Result<BusinessDate, InvalidField> {
    text("business_date", wire)
}

/// A terminal's id.
pub fn terminal_id(wire: &str) -> Result<TerminalId, InvalidField> {
    text("terminal_id", wire)
}

/// A customer's id: 32 hexadecimal digits.
pub fn customer_id(wire: &str) -> Result<CustomerId, InvalidField> {
    CustomerId::from_hex(wire).ok_or_else(|| {
        InvalidField::wrong("customer_id", "it must be 32 lower-case hexadecimal digits")
    })
}

/// A capture's id: 32 hexadecimal digits.
pub fn capture_id(wire: &str) -> Result<CaptureId, InvalidField> {
    CaptureId::from_hex(wire).ok_or_else(|| {
        InvalidField::wrong("capture_id", "it must be 32 lower-case hexadecimal digits")
    })
}

/// A confirmation's id: 32 hexadecimal digits.
pub fn confirmation_id(wire: &str) -> Result<ConfirmationId, InvalidField> {
    ConfirmationId::from_hex(wire).ok_or_else(|| {
        InvalidField::wrong("confirmation_id", "it must be 32 lower-case hexadecimal digits")
    })
}

/// The name of a device's key: 64 hexadecimal digits.
pub fn key_id(wire: &str) -> Result<Digest, InvalidField> {
    let is_lower = wire.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let digest = Digest::from_hex(wire).ok().filter(|_| is_lower);
    digest
        .ok_or_else(|| InvalidField::wrong("key_id", "it must be 64 lower-case hexadecimal digits"))
}

/// How long a call waits.
pub fn wait(wire: u32) -> Result<Duration, InvalidField> {
    if wire > WAIT_MS_MAX {
        return Err(InvalidField::wrong("wait_ms", "it is more than 60000"));
    }
    Ok(Duration::from_millis(wire.into()))
}

/// A key or a signature of a device.
pub fn device_bytes(path: &'static str, wire: Vec<u8>) -> Result<Vec<u8>, InvalidField> {
    if wire.is_empty() {
        return Err(InvalidField::missing(path));
    }
    if wire.len() > DEVICE_BYTES_MAX {
        return Err(InvalidField::wrong(path, "it is longer than 128 bytes"));
    }
    Ok(wire)
}

/// A person's number.
pub fn iin(path: &'static str, wire: &str) -> Result<Iin, InvalidField> {
    text(path, wire)
}

/// The language of the texts.
pub fn language(wire: &str) -> Result<Language, InvalidField> {
    Language::from_tag(wire)
        .ok_or_else(|| InvalidField::wrong("language", "it must be \"kk\", \"ru\" or \"en\""))
}

/// An instant in RFC 3339.
pub fn instant(path: &'static str, wire: &str) -> Result<UnixMillis, InvalidField> {
    UnixMillis::parse_rfc3339(wire).map_err(|error| InvalidField::because(path, &error))
}

/// An instant that may be left out.
pub fn instant_or_empty(
    path: &'static str,
    wire: &str,
) -> Result<Option<UnixMillis>, InvalidField> {
    if wire.is_empty() { Ok(None) } else { instant(path, wire).map(Some) }
}

/// A camera's clip, where it was named.
pub fn footage(wire: Option<proto::Footage>) -> Result<Option<Footage>, InvalidField> {
    let Some(proto::Footage { camera_id, from, to, clip_sha256 }) = wire else { return Ok(None) };
    let camera: CameraId = text("footage.camera_id", &camera_id)?;
    let from = instant("footage.from", &from)?;
    let to = instant("footage.to", &to)?;
    let clip = ClipHash::try_from(clip_sha256.as_slice())
        .map_err(|_| InvalidField::wrong("footage.clip_sha256", "it must be 32 bytes"))?;
    let footage = Footage::new(camera, from, to, clip);
    footage.map(Some).map_err(|error| InvalidField::because("footage.to", &error))
}

/// The reference of a case.
pub fn case_reference(wire: &str) -> Result<CaseReference, InvalidField> {
    text("case_reference", wire)
}

/// A free text that must say something.
pub fn sentence(path: &'static str, wire: String) -> Result<String, InvalidField> {
    if wire.trim().is_empty() {
        return Err(InvalidField::missing(path));
    }
    if wire.chars().count() > TEXT_CHARS_MAX {
        return Err(InvalidField::wrong(path, "it is longer than 256 characters"));
    }
    if wire.chars().any(char::is_control) {
        return Err(InvalidField::wrong(path, "it has a control character"));
    }
    Ok(wire)
}

/// How many items a page may have.
pub fn page_size(wire: u32) -> Result<u32, InvalidField> {
    match wire {
        0 => Ok(PAGE_ITEMS_DEFAULT),
        1..=PAGE_ITEMS_MAX => Ok(wire),
        _ => Err(InvalidField::wrong("page_size", "it is more than 1000")),
    }
}

/// A ledger's name; nothing for the one that takes entries now.
pub fn origin(path: &'static str, wire: &str) -> Result<Option<Origin>, InvalidField> {
    if wire.is_empty() {
        return Ok(None);
    }
    Origin::try_from(wire).map(Some).map_err(|cause| InvalidField::because(path, &cause))
}

/// After what a page begins; nothing for the first page.
pub fn page_after<T>(
    wire: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, InvalidField> {
    if wire.is_empty() {
        return Ok(None);
    }
    let after = read(wire).map(Some);
    after.ok_or_else(|| InvalidField::wrong("page_token", "it does not come from an earlier page"))
}

/// The token of the next page: empty after a page that is not full.
pub fn next_page<T>(page: &[T], limit: u32, token: impl FnOnce(&T) -> String) -> String {
    let is_full = u32::try_from(page.len()).is_ok_and(|items| items >= limit);
    page.last().filter(|_| is_full).map(token).unwrap_or_default()
}

/// The customer whom the terminal serves.
pub fn customer_reference(
    wire: Option<proto::CustomerReference>,
) -> Result<CustomerReference, InvalidField> {
    use proto::customer_reference::Reference;
    let proto::CustomerReference { reference } = present("customer", wire)?;
    let token = |path, kind, wire: &str| {
        text::<OpaqueToken>(path, wire).map(|token| CustomerReference::Token(kind, token))
    };
    match present("customer.reference", reference)? {
        Reference::CardToken(wire) => token("customer.card_token", TokenKind::Card, &wire),
        Reference::AccountToken(wire) => token("customer.account_token", TokenKind::Account, &wire),
        Reference::PhoneCode(wire) => token("customer.phone_code", TokenKind::PhoneCode, &wire),
        Reference::Iin(wire) => iin("customer.iin", &wire).map(CustomerReference::Iin),
    }
}

/// The transaction.
pub fn transaction(wire: Option<proto::Transaction>) -> Result<Transaction, InvalidField> {
    let proto::Transaction {
        host_transaction_id,
        business_date,
        operation,
        amount_minor,
        currency,
        account_currency,
        account,
        counterparty,
    } = present("transaction", wire)?;
    Ok(Transaction {
        host_id: text("transaction.host_transaction_id", &host_transaction_id)?,
        business_date: text("transaction.business_date", &business_date)?,
        operation: self::operation("transaction.operation", operation)?,
        amount: AmountMinor::try_from(amount_minor)
            .map_err(|error| InvalidField::because("transaction.amount_minor", &error))?,
        currency: text::<Currency>("transaction.currency", &currency)?,
        account_currency: text::<Currency>("transaction.account_currency", &account_currency)?,
        account: text("transaction.account", &account)?,
        counterparty: counterparty
            .map(|wire| text("transaction.counterparty", &wire))
            .transpose()?,
    })
}

/// What is done with the cash.
pub fn operation(path: &'static str, wire: i32) -> Result<Operation, InvalidField> {
    use proto::Operation as Wire;
    match named(path, wire)? {
        Wire::Unspecified => Err(InvalidField::missing(path)),
        Wire::Withdrawal => Ok(Operation::CashWithdrawal),
        Wire::Deposit => Ok(Operation::CashDeposit),
        Wire::DepositThirdParty => Ok(Operation::ThirdPartyDeposit),
    }
}

/// What the bank supplied.
pub fn supplied(wire: proto::BankFacts) -> Result<Supplied, InvalidField> {
    let proto::BankFacts {
        business,
        other_banks_month_minor,
        account_data_as_of,
        risk_signs,
        social_payment,
    } = wire;
    let path = "bank.account_data_as_of";
    let as_of = account_data_as_of.map(|text| {
        UnixMillis::parse_rfc3339(&text).map_err(|error| InvalidField::because(path, &error))
    });
    let mut signs = BTreeSet::new();
    for sign in risk_signs {
        if !signs.insert(risk_sign(sign)?) {
            return Err(InvalidField::wrong("bank.risk_signs", "a sign is named twice"));
        }
    }
    Ok(Supplied {
        business: business_class(business)?,
        other_banks_month_minor: dispensed(
            "bank.other_banks_month_minor",
            other_banks_month_minor,
        )?,
        account_data_as_of: as_of.transpose()?,
        risk_signs: signs,
        social_payment,
    })
}

fn business_class(wire: i32) -> Result<BusinessClass, InvalidField> {
    use proto::BusinessClass as Wire;
    Ok(match named("bank.business", wire)? {
        Wire::Unspecified => BusinessClass::None,
        Wire::Micro => BusinessClass::Micro,
        Wire::Small => BusinessClass::Small,
        Wire::Medium => BusinessClass::Medium,
        Wire::Large => BusinessClass::Large,
    })
}

fn risk_sign(wire: i32) -> Result<RiskSign, InvalidField> {
    use proto::RiskSign as Wire;
    Ok(match named("bank.risk_signs", wire)? {
        Wire::Unspecified => return Err(InvalidField::missing("bank.risk_signs")),
        Wire::UnusualTime => RiskSign::UnusualTime,
        Wire::UnusualAmount => RiskSign::UnusualAmount,
        Wire::UnusualPlace => RiskSign::UnusualPlace,
        Wire::UnusualWay => RiskSign::UnusualWay,
        Wire::CallsOrMessages => RiskSign::CallsOrMessages,
        Wire::AfterCredit => RiskSign::AfterCredit,
        Wire::PhoneOrDeviceChanged => RiskSign::PhoneOrDeviceChanged,
        Wire::FailedWithdrawals => RiskSign::FailedWithdrawals,
        Wire::TokenCard => RiskSign::TokenCard,
        Wire::StateDatabase => RiskSign::StateDatabase,
    })
}

/// What the person proved before the capture.
pub fn holder_verification(wire: i32) -> Result<HolderVerification, InvalidField> {
    use proto::HolderVerification as Wire;
    match named("holder_verification", wire)? {
        Wire::Unspecified => Err(InvalidField::missing("holder_verification")),
        Wire::None => Ok(HolderVerification::None),
        Wire::CardAndPin => Ok(HolderVerification::CardAndPin),
        Wire::App => Ok(HolderVerification::App),
    }
}

/// What a token is a token of.
pub fn token_kind(path: &'static str, wire: i32) -> Result<TokenKind, InvalidField> {
    use proto::TokenKind as Wire;
    match named(path, wire)? {
        Wire::Unspecified => Err(InvalidField::missing(path)),
        Wire::Card => Ok(TokenKind::Card),
        Wire::Account => Ok(TokenKind::Account),
        Wire::PhoneCode => Ok(TokenKind::PhoneCode),
    }
}

/// What became of the cash.
pub fn cash_outcome(wire: i32) -> Result<CashOutcome, InvalidField> {
    use proto::CashOutcome as Wire;
    match named("outcome", wire)? {
        Wire::Unspecified => Err(InvalidField::missing("outcome")),
        Wire::Presented => Ok(CashOutcome::Presented),
        Wire::Taken => Ok(CashOutcome::Taken),
        Wire::Retracted => Ok(CashOutcome::Retracted),
        Wire::PartlyDispensed => Ok(CashOutcome::PartlyDispensed),
        Wire::DepositedAndReturned => Ok(CashOutcome::DepositedAndReturned),
        Wire::NotDispensed => Ok(CashOutcome::NotDispensed),
        Wire::Unknown => Ok(CashOutcome::Unknown),
    }
}

/// How much cash moved: nothing, or an amount.
pub fn dispensed(path: &'static str, wire: i64) -> Result<i64, InvalidField> {
    if wire == 0 {
        return Ok(0);
    }
    AmountMinor::try_from(wire)
        .map(AmountMinor::get)
        .map_err(|error| InvalidField::because(path, &error))
}

/// An enumeration's value that exists.
pub fn named<T: TryFrom<i32>>(path: &'static str, wire: i32) -> Result<T, InvalidField> {
    T::try_from(wire).map_err(|_| InvalidField::wrong(path, "it has no such value"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> proto::Transaction {
        proto::Transaction {
            host_transaction_id: "000123".into(),
            business_date: "2026-11-21".into(),
            operation: proto::Operation::Withdrawal.into(),
            amount_minor: 5_000_000,
            currency: "KZT".into(),
            account_currency: "KZT".into(),
            account: "acct-token".into(),
            counterparty: None,
        }
    }

    #[test]
    fn each_field_of_a_transaction_is_refused_by_its_path() {
        type Spoil = fn(&mut proto::Transaction);
        assert!(transaction(Some(good())).is_ok());
        let cases: [(&str, Spoil); 12] = [
            ("transaction.host_transaction_id", |t| t.host_transaction_id.clear()),
            ("transaction.host_transaction_id", |t| t.host_transaction_id = "a b".into()),
            ("transaction.business_date", |t| t.business_date = "2026-02-29".into()),
            ("transaction.operation", |t| t.operation = 0),
            ("transaction.operation", |t| t.operation = 99),
            ("transaction.amount_minor", |t| t.amount_minor = 0),
            ("transaction.amount_minor", |t| t.amount_minor = i64::MIN),
            ("transaction.currency", |t| t.currency = "kzt".into()),
            ("transaction.account_currency", |t| t.account_currency.clear()),
            ("transaction.account", |t| t.account.clear()),
            ("transaction.account", |t| t.account = "x".repeat(129)),
            ("transaction.counterparty", |t| t.counterparty = Some(String::new())),
        ];
        for (path, spoil) in cases {
            let mut wire = good();
            spoil(&mut wire);
            assert_eq!(transaction(Some(wire)).map(drop).unwrap_err().path, path);
        }
        assert_eq!(transaction(None).unwrap_err().path, "transaction");
    }

    #[test]
    fn a_refusal_never_repeats_the_value() {
        let reference = proto::customer_reference::Reference::Iin("000000300018".into());
        let wire = proto::CustomerReference { reference: Some(reference) };
        let refused = customer_reference(Some(wire)).unwrap_err();
        assert_eq!(refused.path, "customer.iin");
        assert!(!refused.to_string().contains("9001013"), "{refused}");
    }

    #[test]
    fn a_reference_must_be_one_of_four() {
        let empty = proto::CustomerReference { reference: None };
        assert_eq!(customer_reference(Some(empty)).unwrap_err().path, "customer.reference");
        assert_eq!(customer_reference(None).unwrap_err().path, "customer");
    }

    #[test]
    fn a_binary_id_has_one_spelling() {
        let id = CustomerId::new([0xab; 16]);
        assert_eq!(customer_id(&id.to_string()).unwrap(), id);
        for bad in ["", "ab", &"AB".repeat(16), &"zz".repeat(16), &format!("+{}", "a".repeat(31))] {
            assert_eq!(customer_id(bad).unwrap_err().path, "customer_id");
        }
    }

    #[test]
    fn a_page_and_a_text_have_a_bound() {
        assert_eq!(page_size(0).unwrap(), 100);
        assert_eq!(page_size(1000).unwrap(), 1000);
        assert!(page_size(1001).is_err());
        assert!(sentence("purpose", "x".repeat(256)).is_ok());
        for bad in ["x".repeat(257), "a\nb".into(), " ".into(), String::new()] {
            assert!(sentence("purpose", bad).is_err());
        }
    }
}
