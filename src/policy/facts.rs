//! Everything that a rule may see.

use crate::domain::money::{AmountMinor, Currency};
use crate::domain::reason::Reason;
use crate::domain::transaction::{HolderVerification, Operation};
use crate::domain::turnover::Turnovers;

/// What is known when a decision is made. Nothing in it names a person, a card or an account, so
/// it may go whole into the audit record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What happens to the cash.
    pub operation: Operation,
    /// How much, in minor units of `currency`.
    pub amount: AmountMinor,
    /// The currency of the cash.
    pub currency: Currency,
    /// The currency of the account.
    pub account_currency: Currency,
    /// What the bank knows of the person the terminal names.
    pub customer: CustomerStanding,
    /// Whether the capture can be compared at all.
    pub capture: CaptureFact,
    /// Strength of the match, -10·log10(false match rate); `None` where there was nothing to
    /// compare with.
    pub strength_db: Option<i64>,
    /// Whether the face is a living one.
    pub liveness: LivenessFact,
    /// Attempts in this transaction, this one included.
    pub attempts_in_transaction: u32,
    /// What else the customer has shown.
    pub holder_verification: HolderVerification,
    /// How well the terminal proves that the capture is its own.
    pub device_level: DeviceLevel,
    /// Whether the terminal named the person by their IIN.
    pub iin_given: bool,
    /// What moved before, in the transaction's currency; all nothing where the pack does not look.
    pub turnovers: Turnovers,
}

/// What the bank knows of the person that the terminal names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CustomerStanding {
    /// Nobody here.
    Unknown,
    /// Enrolment was begun and is not active.
    NotActive,
    /// Active, without a template to compare with.
    NotEnrolled,
    /// Suspended by the bank or the holder.
    Suspended,
    /// Active, with a template.
    Active,
}

/// Whether the capture can be compared at all; it depends on the picture alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaptureFact {
    /// It can.
    Usable,
    /// It cannot, for these reasons of the `CAP_` family.
    Refused(Vec<Reason>),
}

/// Passive liveness; scores are in ten-thousandths, 10,000 being surely alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LivenessFact {
    /// The deployment has no liveness model.
    NoModel,
    /// The model takes it for a living face.
    Live {
        /// Ten-thousandths.
        score_e4: i64,
    },
    /// The model takes it for a picture, a screen or a mask.
    Suspect {
        /// Ten-thousandths.
        score_e4: i64,
    },
}

/// How well the terminal proves that the capture is its own, from the weakest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceLevel {
    /// By its TLS certificate only.
    Certificate,
    /// The sensor signs, with a key in software.
    SoftwareKey,
    /// The sensor signs, with a key in a secure element.
    SecureElement,
}

impl CustomerStanding {
    /// The word that rules and cases use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::NotActive => "not_active",
            Self::NotEnrolled => "not_enrolled",
            Self::Suspended => "suspended",
            Self::Active => "active",
        }
    }

    /// The standing that [`CustomerStanding::as_str`] names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Unknown, Self::NotActive, Self::NotEnrolled, Self::Suspended, Self::Active]
            .into_iter()
            .find(|standing| standing.as_str() == word)
    }
}

impl LivenessFact {
    /// The word that rules and cases use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoModel => "no_model",
            Self::Live { .. } => "live",
            Self::Suspect { .. } => "suspect",
        }
    }

    /// The model's score in ten-thousandths, where there is a model.
    #[must_use]
    pub const fn score_e4(self) -> Option<i64> {
        match self {
            Self::NoModel => None,
            Self::Live { score_e4 } | Self::Suspect { score_e4 } => Some(score_e4),
        }
    }
}

impl DeviceLevel {
    /// The word that rules and cases use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::SoftwareKey => "software_key",
            Self::SecureElement => "secure_element",
        }
    }

    /// The level that [`DeviceLevel::as_str`] names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Certificate, Self::SoftwareKey, Self::SecureElement]
            .into_iter()
            .find(|level| level.as_str() == word)
    }
}
