//! What a terminal asks for: the transaction, who it says the customer is, and how they were verified.

use std::fmt;

use serde::Serialize;
use zeroize::ZeroizeOnDrop;

use super::id::{HostTransactionId, TerminalId};
use super::iin::Iin;
use super::money::{AmountMinor, Currency};
use super::time::BusinessDate;

/// What happens to the cash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// The customer takes cash out.
    CashWithdrawal,
    /// The customer pays cash in to an account of theirs.
    CashDeposit,
    /// Somebody else pays cash in to the account.
    ThirdPartyDeposit,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 3] = [Self::CashWithdrawal, Self::CashDeposit, Self::ThirdPartyDeposit];

    /// The word used in receipts, facts and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CashWithdrawal => "cash_withdrawal",
            Self::CashDeposit => "cash_deposit",
            Self::ThirdPartyDeposit => "third_party_deposit",
        }
    }

    /// The operation that [`Operation::as_str`] names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|op| op.as_str() == word)
    }
}

/// What else the customer has shown before the capture.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HolderVerification {
    /// Nothing.
    None,
    /// Card and PIN, verified by the host.
    CardAndPin,
    /// Confirmation in the bank's app.
    App,
}

impl HolderVerification {
    /// The word used in facts and audit records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::CardAndPin => "card_and_pin",
            Self::App => "app",
        }
    }

    /// The verification that [`HolderVerification::as_str`] names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::None, Self::CardAndPin, Self::App].into_iter().find(|v| v.as_str() == word)
    }
}

/// The kinds of token that stand for a customer at a terminal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    /// A card, as a token of the bank's (never a card number).
    Card,
    /// An account, as a token of the bank's.
    Account,
    /// A short-lived code that the bank's app shows.
    PhoneCode,
}

impl TokenKind {
    /// The word used in keyed indices and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Card => "card",
            Self::Account => "account",
            Self::PhoneCode => "phone_code",
        }
    }
}

/// A secret text from outside (token, account): bounded, never printed.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct OpaqueToken(String);

impl OpaqueToken {
    /// Longest token taken, in bytes.
    pub const BYTES_MAX: usize = 128;

    /// The text, for keyed hashes and commitments only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for OpaqueToken {
    type Error = InvalidToken;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        if text.is_empty() {
            return Err(InvalidToken::Empty);
        }
        if text.len() > Self::BYTES_MAX {
            return Err(InvalidToken::TooLong);
        }
        if text.bytes().all(|b| (0x21..0x7f).contains(&b)) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidToken::Character)
        }
    }
}

impl fmt::Debug for OpaqueToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OpaqueToken(…)")
    }
}

/// A token that cannot be. It never repeats what was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// Nothing was given.
    #[error("it is empty")]
    Empty,
    /// More than [`OpaqueToken::BYTES_MAX`] bytes.
    #[error("it is longer than 128 bytes")]
    TooLong,
    /// Not printable ASCII.
    #[error("it has a space or a character that is not printable ASCII")]
    Character,
}

/// How a terminal says who stands before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CustomerReference {
    /// A token bound at enrolment.
    Token(TokenKind, OpaqueToken),
    /// The person's number.
    Iin(Iin),
}

/// What the customer wants done, as the terminal states it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transaction {
    /// The host's number, unique for terminal and business date.
    pub host_id: HostTransactionId,
    /// The bank's day.
    pub business_date: BusinessDate,
    /// What happens to the cash.
    pub operation: Operation,
    /// How much, in minor units of `currency`.
    pub amount: AmountMinor,
    /// The currency of the cash.
    pub currency: Currency,
    /// The currency of the account.
    pub account_currency: Currency,
    /// The account, as a token of the bank's.
    pub account: OpaqueToken,
    /// The other side, where there is one.
    pub counterparty: Option<OpaqueToken>,
}

/// Names one try of one transaction at one terminal: the idempotency key.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct DecisionKey {
    /// The terminal that asks.
    pub terminal: TerminalId,
    /// The bank's day.
    pub business_date: BusinessDate,
    /// The host's number.
    pub host_id: HostTransactionId,
    /// Which try, from 1.
    pub attempt: super::id::Attempt,
}

/// What became of the cash, as the terminal reports it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CashOutcome {
    /// The notes lie in the tray.
    Presented,
    /// The customer took them.
    Taken,
    /// The machine took them back.
    Retracted,
    /// Fewer notes than approved came out.
    PartlyDispensed,
    /// The deposit was taken in and given back.
    DepositedAndReturned,
    /// Nothing moved.
    NotDispensed,
    /// The terminal does not know: counts as spent.
    Unknown,
}

impl CashOutcome {
    /// Every outcome.
    pub const ALL: [Self; 7] = [
        Self::Presented,
        Self::Taken,
        Self::Retracted,
        Self::PartlyDispensed,
        Self::DepositedAndReturned,
        Self::NotDispensed,
        Self::Unknown,
    ];

    /// The word used in receipts and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Presented => "presented",
            Self::Taken => "taken",
            Self::Retracted => "retracted",
            Self::PartlyDispensed => "partly_dispensed",
            Self::DepositedAndReturned => "deposited_and_returned",
            Self::NotDispensed => "not_dispensed",
            Self::Unknown => "unknown",
        }
    }
}
