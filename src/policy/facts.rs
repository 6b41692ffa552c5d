//! Everything that a rule may see.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::decision::RuleId;
use crate::domain::modality::Captured;
use crate::domain::money::{AmountMinor, Currency};
use crate::domain::reason::Reason;
use crate::domain::register::Register;
use crate::domain::supplied::{BusinessClass, RiskSign};
use crate::domain::time::UnixMillis;
use crate::domain::transaction::{HolderVerification, Operation};
use crate::domain::turnover::Turnovers;
use crate::domain::words::words;

/// What is known when a decision is made. Nothing in it names a person, a card or an account, so
/// it may go whole into the audit record.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that are true or not, each by its own name"
)]
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
    /// What was captured.
    pub modality: Captured,
    /// Whether the terminal named the person by their IIN.
    pub iin_given: bool,
    /// How the transaction was confirmed.
    pub confirmation: Confirmation,
    /// Whether the person is marked as unable to give a biometric.
    pub unable: bool,
    /// Whether the account's owner is somebody whom the gateway knows and who is active.
    pub owner_known: bool,
    /// What moved before, in the transaction's currency; all nothing where the pack does not look.
    pub turnovers: Turnovers,
    /// What is known of the person's and the account's past beside sums.
    pub history: History,
    /// Registers with the person, card, account or terminal in them.
    pub registers: BTreeSet<Register>,
    /// Whether a case about the person is open.
    pub case_open: bool,
    /// Whether the person's face may be enrolled under another number too, and nobody has decided yet.
    pub shared_face: bool,
    /// Whether the face in front of the terminal looks like another active person's, who moved cash here
    /// lately. It is found out only where a rule in force asks it.
    pub face_of_another: bool,
    /// Whether the face differs by little from one that was shown for the person in the last day.
    pub near_duplicate: bool,
    /// Whether the terminal named the footage.
    pub footage_named: bool,
    /// What the bank said about the account and the transaction.
    pub bank: BankFacts,
    /// Caps that earlier decisions about the person began and that still run: by which rule, until when.
    pub capped: BTreeMap<RuleId, UnixMillis>,
}

impl Facts {
    /// The fact that takes a search among everybody: biometric identification, which needs a legal basis of
    /// the bank's. A schema that names it lets nobody search; a rule in force that asks it does.
    pub const FACE_OF_ANOTHER: &str = "face_of_another";

    /// A transaction of which nothing more is known: nobody stands there, and nothing was captured.
    #[must_use]
    pub fn of(operation: Operation, amount: AmountMinor, currency: Currency) -> Self {
        Self {
            operation,
            amount,
            currency,
            account_currency: currency,
            customer: CustomerStanding::Unknown,
            capture: CaptureFact::Usable,
            strength_db: None,
            liveness: LivenessFact::NoModel,
            attempts_in_transaction: 1,
            holder_verification: HolderVerification::None,
            device_level: DeviceLevel::Certificate,
            modality: Captured::Face,
            iin_given: false,
            confirmation: Confirmation::None,
            unable: false,
            owner_known: false,
            turnovers: Turnovers::default(),
            history: History::default(),
            registers: BTreeSet::new(),
            case_open: false,
            shared_face: false,
            face_of_another: false,
            near_duplicate: false,
            footage_named: false,
            bank: BankFacts::default(),
            capped: BTreeMap::new(),
        }
    }
}

/// Counts over the past that are no sums of money; all zero where the pack does not look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct History {
    /// Cards bound to the person.
    pub cards: i64,
    /// Other people who moved cash on the account in the last 24 hours.
    pub others_on_account_h24: i64,
    /// Other people who moved cash with the card in the last 24 hours.
    pub others_on_card_h24: i64,
    /// Terminals where the person moved cash in the last hour, this one not counted.
    pub other_terminals_h1: i64,
    /// Withdrawals of the person that were denied in the last 24 hours.
    pub failures_h24: i64,
    /// Whole hours since the person was activated; `None` for somebody who is not active.
    pub active_hours: Option<i64>,
}

/// What the bank supplied with the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BankFacts {
    /// The size of the business.
    pub business: BusinessClass,
    /// Cash that other banks paid to this business in this calendar month, in minor units.
    pub other_banks_month_minor: i64,
    /// How old the bank's data about the account are, in whole hours; `None` where it sent none.
    pub account_data_age_hours: Option<i64>,
    /// Signs of fraud.
    pub risk_signs: BTreeSet<RiskSign>,
    /// Whether it is a social payment.
    pub social_payment: bool,
}

impl Default for BankFacts {
    fn default() -> Self {
        Self {
            business: BusinessClass::None,
            other_banks_month_minor: 0,
            account_data_age_hours: None,
            risk_signs: BTreeSet::new(),
            social_payment: false,
        }
    }
}

words! {
    /// How a transaction was confirmed: in the bank's app, or at a desk.
    Confirmation {
        /// Not at all.
        None = "none",
        /// The app's back end says so.
        BackEnd = "back_end",
        /// Two tellers say so, of somebody who is unable to give a biometric.
        TwoTellers = "two_tellers",
        /// The customer's own key signed it.
        CustomerKey = "customer_key",
    }
}

words! {
    /// What the bank knows of the person that the terminal names.
    CustomerStanding {
        /// Nobody here.
        Unknown = "unknown",
        /// Enrolment was begun and is not active.
        NotActive = "not_active",
        /// Active, without a template to compare with.
        NotEnrolled = "not_enrolled",
        /// Suspended by the bank or the holder.
        Suspended = "suspended",
        /// A guest: enrolled at a terminal to pay in to somebody else's account, and for nothing else.
        Guest = "guest",
        /// Active, with a template.
        Active = "active",
    }
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

words! {
    /// How well the terminal proves that the capture is its own, from the weakest.
    DeviceLevel {
        /// By its TLS certificate only.
        Certificate = "certificate",
        /// The sensor signs, with a key in software.
        SoftwareKey = "software_key",
        /// The sensor signs, with a key in a secure element.
        SecureElement = "secure_element",
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
