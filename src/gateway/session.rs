//! What `BeginCapture` fixed, and what it means when the capture comes.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::error::GatewayError;
use super::guest::KeptGuest;
use super::request::BeginCapture;
use crate::crypto::{Digest, length_prefixed, sha256};
use crate::domain::id::{CustomerId, TerminalId};
use crate::domain::modality::Modality;
use crate::domain::supplied::{BusinessClass, RiskSign, Supplied};
use crate::domain::time::UnixMillis;
use crate::domain::transaction::{HolderVerification, Operation, Transaction};

/// What is broken when a sealed session has another content than was sealed.
pub(super) const SESSION: &str = "a session does not parse";

/// What `BeginCapture` fixed, sealed beside the challenge.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Session {
    /// The customer that the reference led to, as hexadecimal digits.
    customer: Option<String>,
    /// The keyed index of the token that led to them, as hexadecimal digits: it must still do so when
    /// the decision is made.
    token: Option<String>,
    /// The pseudonym for the receipt when the reference leads to nobody.
    pub nobody: String,
    pub host_id: String,
    pub business_date: String,
    operation: String,
    pub amount_minor: i64,
    pub currency: String,
    pub account_currency: String,
    pub account: String,
    pub counterparty: Option<String>,
    holder_verification: String,
    /// Keyed index of the account's token, by which its movements are added up.
    account_index: String,
    /// Whether `token` is a card's.
    is_card: bool,
    /// Whether the person was named by their IIN.
    pub iin_given: bool,
    bank: KeptSupplied,
    /// Keyed index of the number by which the person was named: registers are asked by it too, since whom
    /// it leads to may be a guest or nobody.
    number: Option<String>,
    /// The depositor who would be a guest.
    pub guest: Option<KeptGuest>,
    /// The characteristics to be captured, by their words; none: the face.
    #[serde(default)]
    modalities: Vec<String>,
    /// SHA-256 of the answer of `BeginCapture` as it is sent, as hexadecimal digits.
    #[serde(default)]
    answer: Option<String>,
}

/// What the bank supplied, in words.
#[derive(Clone, Serialize, Deserialize)]
struct KeptSupplied {
    business: String,
    other_banks_month_minor: i64,
    account_data_as_of_ms: Option<i64>,
    risk_signs: Vec<String>,
    social_payment: bool,
}

impl Session {
    pub fn new(resolved: Resolved, request: &BeginCapture, account_index: &Digest) -> Self {
        let BeginCapture {
            customer: _,
            transaction,
            modalities,
            holder_verification,
            supplied,
            guest_consent: _,
        } = request;
        let Transaction {
            host_id,
            business_date,
            operation,
            amount,
            currency,
            account_currency,
            account,
            counterparty,
        } = transaction;
        let Resolved { customer, token, number, nobody, named_by } = resolved;
        Self {
            customer: customer.map(|id| id.to_string()),
            token: token.map(|index| index.hex()),
            nobody,
            host_id: host_id.as_str().to_owned(),
            business_date: business_date.as_str().to_owned(),
            operation: operation.as_str().to_owned(),
            amount_minor: amount.get(),
            currency: currency.as_str().to_owned(),
            account_currency: account_currency.as_str().to_owned(),
            account: account.expose().to_owned(),
            counterparty: counterparty.as_ref().map(|token| token.expose().to_owned()),
            holder_verification: holder_verification.as_str().to_owned(),
            account_index: account_index.hex(),
            is_card: named_by == NamedBy::Card,
            iin_given: named_by == NamedBy::Iin,
            bank: KeptSupplied::of(supplied),
            number: number.map(|index| index.hex()),
            guest: None,
            modalities: modalities.iter().map(|it| it.characteristic().to_owned()).collect(),
            answer: None,
        }
    }

    /// This was answered to `BeginCapture`.
    pub fn answered(&mut self, answer: &[u8]) {
        self.answer = Some(sha256(answer).hex());
    }

    /// SHA-256 of what was answered to `BeginCapture`.
    pub fn answer(&self) -> Result<Option<Digest>, GatewayError> {
        self.answer.as_deref().map(digest_from_hex).transpose()
    }

    /// What is to be captured, the first first.
    pub fn modalities(&self) -> Result<Vec<Modality>, GatewayError> {
        if self.modalities.is_empty() {
            return Ok(vec![Modality::Face]);
        }
        let read = |word: &String| Modality::from_characteristic(word);
        let read: Option<Vec<_>> = self.modalities.iter().map(read).collect();
        read.ok_or(GatewayError::broken(SESSION))
    }

    pub fn customer(&self) -> Result<Option<CustomerId>, GatewayError> {
        self.customer.as_deref().map(customer_from_hex).transpose()
    }

    /// From here on the session is about this guest.
    pub fn become_guest(&mut self, id: &CustomerId) {
        self.customer = Some(id.to_string());
    }

    pub fn operation(&self) -> Result<Operation, GatewayError> {
        Operation::from_word(&self.operation).ok_or(GatewayError::broken(SESSION))
    }

    pub fn holder_verification(&self) -> Result<HolderVerification, GatewayError> {
        HolderVerification::from_word(&self.holder_verification)
            .ok_or(GatewayError::broken(SESSION))
    }

    pub fn token(&self) -> Result<Option<Digest>, GatewayError> {
        self.token.as_deref().map(digest_from_hex).transpose()
    }

    /// The number, where the person was named by one.
    pub fn number(&self) -> Result<Option<Digest>, GatewayError> {
        self.number.as_deref().map(digest_from_hex).transpose()
    }

    /// The card, where the person was named by one.
    pub fn card(&self) -> Result<Option<Digest>, GatewayError> {
        Ok(self.token()?.filter(|_| self.is_card))
    }

    pub fn account_index(&self) -> Result<Digest, GatewayError> {
        digest_from_hex(&self.account_index)
    }

    /// What the bank supplied.
    pub fn supplied(&self) -> Result<Supplied, GatewayError> {
        self.bank.open().ok_or(GatewayError::broken(SESSION))
    }

    /// Whether another session is about the same person, account and amount, in the same operation.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        let asked = |of: &Self| {
            (
                (of.customer.clone(), of.account_index.clone(), of.counterparty.clone()),
                (of.operation.clone(), of.amount_minor, of.currency.clone()),
                of.account_currency.clone(),
            )
        };
        asked(self) == asked(other)
    }

    /// The counter of the transaction's attempts. Whom they are about is left out, or the count would
    /// tell that two references lead to one customer.
    pub fn attempts_key(&self, tenant: &str, terminal: &TerminalId) -> Digest {
        sha256(&length_prefixed(&[
            b"tulga-attempts-v1",
            tenant.as_bytes(),
            terminal.as_str().as_bytes(),
            self.business_date.as_bytes(),
            self.host_id.as_bytes(),
        ]))
    }
}

impl KeptSupplied {
    fn of(supplied: &Supplied) -> Self {
        let Supplied {
            business,
            other_banks_month_minor,
            account_data_as_of,
            risk_signs,
            social_payment,
        } = supplied;
        Self {
            business: business.as_str().to_owned(),
            other_banks_month_minor: *other_banks_month_minor,
            account_data_as_of_ms: account_data_as_of.map(UnixMillis::get),
            risk_signs: risk_signs.iter().map(|sign| sign.as_str().to_owned()).collect(),
            social_payment: *social_payment,
        }
    }

    fn open(&self) -> Option<Supplied> {
        let signs = self.risk_signs.iter().map(|word| RiskSign::from_word(word));
        Some(Supplied {
            business: BusinessClass::from_word(&self.business)?,
            other_banks_month_minor: self.other_banks_month_minor,
            account_data_as_of: self.account_data_as_of_ms.map(UnixMillis::new),
            risk_signs: signs.collect::<Option<BTreeSet<_>>>()?,
            social_payment: self.social_payment,
        })
    }
}

pub(super) fn digest_from_hex(hex: &str) -> Result<Digest, GatewayError> {
    Digest::from_hex(hex).map_err(|cause| GatewayError::internal(SESSION, cause))
}

pub(super) fn customer_from_hex(hex: &str) -> Result<CustomerId, GatewayError> {
    let parsed =
        u128::from_str_radix(hex, 16).map_err(|cause| GatewayError::internal(SESSION, cause))?;
    Ok(CustomerId::new(parsed.to_be_bytes()))
}

/// Whom a reference leads to.
pub(super) struct Resolved {
    pub customer: Option<CustomerId>,
    /// The keyed index of the token, where it was one.
    pub token: Option<Digest>,
    /// The keyed index of the IIN, where it was one.
    pub number: Option<Digest>,
    pub nobody: String,
    pub named_by: NamedBy,
}

/// How a terminal named a person, as far as rules look at it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NamedBy {
    Card,
    OtherToken,
    Iin,
}
