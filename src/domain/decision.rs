//! What was decided, why, and by which rules.

use std::cmp::Ordering;
use std::fmt;

use super::reason::{NextScreen, Reason};
use super::time::UnixMillis;

/// What comes of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The transaction may proceed as asked.
    Approved,
    /// It may proceed up to an amount.
    ApprovedCapped {
        /// The most that may be paid until then, in minor units of the transaction's currency.
        cap_minor: i64,
        /// When the cap ends.
        until: UnixMillis,
    },
    /// A further proof is needed first.
    StepUp {
        /// Which proof.
        what: StepUp,
    },
    /// Nothing can be said about the person: a technical failure, or a capture that cannot be
    /// used. Never a mismatch, never an attempt, never an approval.
    Inconclusive,
    /// The transaction is suspended.
    Held {
        /// When the hold ends.
        until: UnixMillis,
    },
    /// The transaction must not proceed.
    Denied,
}

/// A further proof that a rule may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StepUp {
    /// A confirmation in the bank's app.
    AppConfirmation,
    /// Another finger.
    OtherFinger,
    /// Prompted liveness.
    Liveness,
    /// A person at a counter.
    Teller,
}

/// The name of a rule, as its pack gives it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(String);

/// The sign by which an operation is suspicious, as reports to the financial monitor write it: four
/// digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SignCode(String);

/// Text that is no sign's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sign's code is four digits")]
pub struct InvalidSignCode;

impl SignCode {
    /// Its digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for SignCode {
    type Error = InvalidSignCode;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        let is_code = text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit());
        if is_code { Ok(Self(text.to_owned())) } else { Err(InvalidSignCode) }
    }
}

/// Text that cannot name a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a rule's name is 1 to 64 of the characters A-Z a-z 0-9 . _ -")]
pub struct InvalidRuleId;

/// An outcome with all its reasons and the rules behind it.
///
/// Reasons and rules are for the audit record; only [`Decision::public_reasons`] may leave towards
/// a terminal.
#[must_use = "a decision that is dropped is a customer left standing"]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    outcome: Outcome,
    reasons: Vec<Reason>,
    rules: Vec<RuleId>,
}

impl Outcome {
    /// As on the wire and in receipts.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Approved => "APPROVED",
            Self::ApprovedCapped { .. } => "APPROVED_CAPPED",
            Self::StepUp { .. } => "STEP_UP",
            Self::Inconclusive => "INCONCLUSIVE",
            Self::Held { .. } => "HELD",
            Self::Denied => "DENIED",
        }
    }

    /// Whether cash may move.
    #[must_use]
    pub const fn approves(&self) -> bool {
        match self {
            Self::Approved | Self::ApprovedCapped { .. } => true,
            Self::StepUp { .. } | Self::Inconclusive | Self::Held { .. } | Self::Denied => false,
        }
    }

    /// Orders by gravity: what leaves the customer less is graver, and a definite no is graver
    /// than a maybe. Of two caps the smaller, of two equal caps and of two holds the longer is graver.
    #[must_use]
    pub fn gravity_cmp(&self, other: &Self) -> Ordering {
        let (cap, other_cap) = (self.cap_minor(), other.cap_minor());
        (self.rank().cmp(&other.rank()))
            .then(other_cap.cmp(&cap))
            .then(self.until().cmp(&other.until()))
            .then(self.step_up().cmp(&other.step_up()))
    }

    /// The graver of the two.
    #[must_use]
    pub fn graver(self, other: Self) -> Self {
        if other.gravity_cmp(&self).is_gt() { other } else { self }
    }

    /// The most that may be paid, in minor units, where the approval is capped.
    #[must_use]
    pub const fn cap_minor(&self) -> Option<i64> {
        match self {
            Self::ApprovedCapped { cap_minor, .. } => Some(*cap_minor),
            _ => None,
        }
    }

    /// When a cap or a hold ends.
    #[must_use]
    pub const fn until(&self) -> Option<UnixMillis> {
        match self {
            Self::ApprovedCapped { until, .. } | Self::Held { until } => Some(*until),
            _ => None,
        }
    }

    /// The further proof that is needed.
    #[must_use]
    pub const fn step_up(&self) -> Option<StepUp> {
        match self {
            Self::StepUp { what } => Some(*what),
            _ => None,
        }
    }

    const fn rank(&self) -> u8 {
        match self {
            Self::Approved => 0,
            Self::ApprovedCapped { .. } => 1,
            Self::StepUp { .. } => 2,
            Self::Inconclusive => 3,
            Self::Held { .. } => 4,
            Self::Denied => 5,
        }
    }
}

impl StepUp {
    /// As on the wire, in receipts and in rules' annotations.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AppConfirmation => "APP_CONFIRMATION",
            Self::OtherFinger => "OTHER_FINGER",
            Self::Liveness => "LIVENESS",
            Self::Teller => "TELLER",
        }
    }

    /// The proof that [`StepUp::as_str`] names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::AppConfirmation, Self::OtherFinger, Self::Liveness, Self::Teller]
            .into_iter()
            .find(|what| what.as_str() == word)
    }
}

impl RuleId {
    /// The name as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for RuleId {
    type Error = InvalidRuleId;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        let fits = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if fits { Ok(Self(text.to_owned())) } else { Err(InvalidRuleId) }
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Decision {
    /// An outcome with its reasons and rules; both are put in order, each named once.
    ///
    /// Anything but an approval that gives no reason is a defect of whoever decided, and is said
    /// to be one: nobody is refused without a reason.
    pub fn new(outcome: Outcome, mut reasons: Vec<Reason>, mut rules: Vec<RuleId>) -> Self {
        if reasons.is_empty() && outcome != Outcome::Approved {
            reasons.push(Reason::SysInternal);
        }
        reasons.sort_unstable();
        reasons.dedup();
        rules.sort_unstable();
        rules.dedup();
        Self { outcome, reasons, rules }
    }

    /// [`Outcome::Inconclusive`] for one reason, by no rule.
    pub fn inconclusive(reason: Reason) -> Self {
        Self::new(Outcome::Inconclusive, vec![reason], Vec::new())
    }

    /// What comes of it.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Every reason, in the table's order; internal.
    #[must_use]
    pub fn reasons(&self) -> &[Reason] {
        &self.reasons
    }

    /// Every rule that determined the outcome; internal.
    #[must_use]
    pub fn rules(&self) -> &[RuleId] {
        &self.rules
    }

    /// The reasons that a terminal and a receipt may name, each once, in the table's order.
    ///
    /// To somebody who is not the person nothing is said that depends on who the person is: a cap or a
    /// hold beside a face that does not match would tell that they bank here.
    #[must_use]
    pub fn public_reasons(&self) -> Vec<Reason> {
        let mut public: Vec<_> = self.reasons.iter().map(|reason| reason.public()).collect();
        if public.contains(&Reason::MatNotConfirmed) {
            public.retain(|reason| !reason.tells_of_the_person());
        }
        public.sort_unstable();
        public.dedup();
        public
    }

    /// The public reason to speak about where there is room for one: of several the one whose
    /// screen is the gravest. `None` for a plain approval.
    #[must_use]
    pub fn foremost_reason(&self) -> Option<Reason> {
        // `max_by_key` keeps the last of equals; reversed, that is the first of the table.
        let public = self.public_reasons();
        public.into_iter().rev().max_by_key(|reason| reason.row().next_screen)
    }

    /// What the terminal shows next, when so many attempts are left in the transaction.
    #[must_use]
    pub fn next_screen(&self, attempts_left: u32) -> NextScreen {
        if self.outcome.approves() {
            return NextScreen::Proceed;
        }
        let screen = self.foremost_reason().map(|reason| reason.row().next_screen);
        match screen {
            Some(NextScreen::RetryCapture) if attempts_left == 0 => NextScreen::OtherVerification,
            Some(screen) => screen,
            None => NextScreen::CallOperator,
        }
    }

    /// The nearest ISO 8583 field 39 response code.
    #[must_use]
    pub fn iso8583_field39(&self) -> &'static str {
        match self.foremost_reason() {
            Some(reason) if !self.outcome.approves() => reason.row().iso8583_field39,
            _ => "00",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: UnixMillis = UnixMillis::new(1_795_262_400_000);

    fn capped(cap_minor: i64, hours: i64) -> Outcome {
        Outcome::ApprovedCapped { cap_minor, until: NOON.plus_millis(hours * 3_600_000) }
    }

    #[test]
    fn outcomes_are_ordered_by_gravity() {
        let mildest_first = [
            Outcome::Approved,
            capped(200, 1),
            capped(100, 1),
            capped(100, 48),
            Outcome::StepUp { what: StepUp::AppConfirmation },
            Outcome::StepUp { what: StepUp::Teller },
            Outcome::Inconclusive,
            Outcome::Held { until: NOON },
            Outcome::Held { until: NOON.plus_millis(1) },
            Outcome::Denied,
        ];
        for (i, a) in mildest_first.iter().enumerate() {
            for (j, b) in mildest_first.iter().enumerate() {
                assert_eq!(a.gravity_cmp(b), i.cmp(&j), "{a:?} {b:?}");
                assert_eq!(a.graver(*b), mildest_first[i.max(j)]);
            }
        }
    }

    #[test]
    fn only_the_two_approvals_let_cash_move() {
        assert!(Outcome::Approved.approves() && capped(1, 1).approves());
        let others = [
            Outcome::StepUp { what: StepUp::Liveness },
            Outcome::Denied,
            Outcome::Held { until: NOON },
            Outcome::Inconclusive,
        ];
        for outcome in others {
            assert!(!outcome.approves(), "{outcome:?}");
        }
    }

    #[test]
    fn a_terminal_cannot_tell_a_stranger_from_a_mismatch_or_a_spoof() {
        let of = |reasons: &[Reason]| Decision::new(Outcome::Denied, reasons.to_vec(), vec![]);
        let stranger = of(&[Reason::SubUnknown, Reason::MatNoMatch]);
        let mismatch = of(&[Reason::MatNoMatch]);
        let spoof = of(&[Reason::PadSuspected]);
        for decision in [&stranger, &mismatch, &spoof] {
            assert_eq!(decision.public_reasons(), [Reason::MatNotConfirmed]);
            assert_eq!(decision.iso8583_field39(), "05");
            assert_eq!(decision.next_screen(1), NextScreen::RetryCapture);
            assert_eq!(decision.next_screen(0), NextScreen::OtherVerification);
        }
    }

    #[test]
    fn an_impostor_is_not_told_what_holds_for_the_person() {
        let beside = [Reason::LimDailyCap, Reason::PolStepUp, Reason::PolHeld];
        let reasons = [&[Reason::MatNoMatch, Reason::LimAttempts, Reason::PolAmount], &beside[..]];
        let impostor = Decision::new(Outcome::Denied, reasons.concat(), vec![]);
        let told = [Reason::MatNotConfirmed, Reason::LimAttempts, Reason::PolAmount];
        assert_eq!(impostor.public_reasons(), told);
        let person = Decision::new(Outcome::Denied, beside.to_vec(), vec![]);
        assert_eq!(person.public_reasons(), beside);
    }

    #[test]
    fn reasons_and_rules_are_in_order_and_named_once() {
        let rule = |name| RuleId::try_from(name).unwrap();
        let decision = Decision::new(
            Outcome::Denied,
            vec![Reason::PolAmount, Reason::MatNoMatch, Reason::PolAmount],
            vec![rule("b"), rule("a"), rule("b")],
        );
        assert_eq!(decision.reasons(), [Reason::MatNoMatch, Reason::PolAmount]);
        assert_eq!(decision.rules(), [rule("a"), rule("b")]);
        assert_eq!(decision.public_reasons(), [Reason::MatNotConfirmed, Reason::PolAmount]);
        assert_eq!(decision.foremost_reason(), Some(Reason::PolAmount));
    }

    #[test]
    fn nobody_is_refused_without_a_reason() {
        let decision = Decision::new(Outcome::Denied, vec![], vec![]);
        assert_eq!(decision.reasons(), [Reason::SysInternal]);
        let approval = Decision::new(Outcome::Approved, vec![], vec![]);
        assert!(approval.reasons().is_empty());
        assert_eq!((approval.iso8583_field39(), approval.foremost_reason()), ("00", None));
        assert_eq!(approval.next_screen(0), NextScreen::Proceed);
    }

    #[test]
    fn a_rules_name_is_short_plain_text() {
        assert_eq!(RuleId::try_from("KZ-01.a").map(|id| id.to_string()), Ok("KZ-01.a".to_owned()));
        let long = "x".repeat(65);
        for wrong in ["", "a b", "ы", "a/b", long.as_str()] {
            assert_eq!(RuleId::try_from(wrong), Err(InvalidRuleId), "{wrong:?}");
        }
    }
}
