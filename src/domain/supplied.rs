//! What the bank knows and a gateway cannot: supplied with the transaction, for the rules.

use std::collections::BTreeSet;

use super::time::UnixMillis;
use super::words::words;

words! {
    /// The size of the business whose account it is.
    BusinessClass {
        /// A natural person's account.
        None = "none",
        /// A micro-business.
        Micro = "micro",
        /// A small business.
        Small = "small",
        /// A medium-sized business.
        Medium = "medium",
        /// A large business.
        Large = "large",
    }
}

words! {
    /// A sign of a transaction made under the influence of a fraud, as the Bank of Russia lists them.
    RiskSign {
        /// An unusual time of day.
        UnusualTime = "unusual_time",
        /// An unusual amount.
        UnusualAmount = "unusual_amount",
        /// An unusual terminal or region.
        UnusualPlace = "unusual_place",
        /// An unusual way, such as a code in place of the card.
        UnusualWay = "unusual_way",
        /// Calls or messages unlike the usual in the six hours before.
        CallsOrMessages = "calls_or_messages",
        /// Within 24 hours of a loan, a raised limit, a large transfer to oneself, or a deposit closed
        /// early.
        AfterCredit = "after_credit",
        /// The phone number or the device was changed.
        PhoneOrDeviceChanged = "phone_or_device_changed",
        /// Five or more failed withdrawals in a day, at any bank.
        FailedWithdrawals = "failed_withdrawals",
        /// A token card behaves oddly, or takes part in a deposit.
        TokenCard = "token_card",
        /// A hit in a database of the state.
        StateDatabase = "state_database",
    }
}

/// What the bank says about a transaction; each is a neutral value where it says nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Supplied {
    /// The size of the business.
    pub business: BusinessClass,
    /// Cash that other banks paid to this business in this calendar month, in minor units.
    pub other_banks_month_minor: i64,
    /// As of when the bank's data about the account are.
    pub account_data_as_of: Option<UnixMillis>,
    /// Signs of fraud.
    pub risk_signs: BTreeSet<RiskSign>,
    /// Whether it is a pension, a benefit or another social payment, which nothing may hold.
    pub social_payment: bool,
}

impl Default for Supplied {
    fn default() -> Self {
        Self {
            business: BusinessClass::None,
            other_banks_month_minor: 0,
            account_data_as_of: None,
            risk_signs: BTreeSet::new(),
            social_payment: false,
        }
    }
}
