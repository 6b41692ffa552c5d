//! Why a decision came out as it did, or why none was made: one closed table of coded reasons.
//!
//! The table is `reason/table.rs`; `docs/reasons.md` is generated from it.

mod table;

use std::fmt;

pub use table::Reason;

/// What the first word of a code tells: who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReasonFamily {
    /// Capture and its quality.
    Capture,
    /// Presentation attack detection: liveness.
    Liveness,
    /// The terminal, its sensor, its certificate.
    Device,
    /// The customer and their enrolment.
    Subject,
    /// The comparison.
    Match,
    /// Attempts, velocity, caps.
    Limit,
    /// The bank's rules.
    Policy,
    /// The request as such.
    Request,
    /// Technical failures: never a mismatch, never an attempt, never an approval.
    System,
}

/// What the terminal shows next; a hint, since the terminal owns its screens.
///
/// From the mildest to the gravest: of several, the gravest is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NextScreen {
    /// Go on with the transaction.
    Proceed,
    /// Take another picture, under the instruction in the customer's text.
    RetryCapture,
    /// Offer a smaller amount.
    OtherAmount,
    /// Begin the transaction again, with a new challenge.
    StartAgain,
    /// Wait, then offer the same again.
    TryLater,
    /// Offer another way to prove who one is: app, PIN, video identification.
    OtherVerification,
    /// Send the customer to a branch.
    ContactBranch,
    /// Nothing the customer can do; the terminal's operator must act.
    CallOperator,
}

/// A language that customers' texts exist in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Language {
    /// `kk`.
    Kazakh,
    /// `ru`.
    Russian,
    /// `en`.
    English,
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReasonRow {
    /// As on the wire, in receipts, metrics and logs; never changes once released.
    pub code: &'static str,
    /// Who has to act.
    pub family: ReasonFamily,
    /// What the code states.
    pub meaning: &'static str,
    /// What the customer reads on the terminal's screen.
    pub customer: CustomerText,
    /// What the bank's or the terminal's operator does about it.
    pub operator: &'static str,
    /// What most often lies behind it.
    pub probable_cause: &'static str,
    /// Whether the same customer may try again in the same transaction.
    pub retryable: bool,
    /// Whether the customer may be told this very reason. A reason that may not be disclosed still
    /// has a text: the one of the public reason it stands behind.
    pub disclosable: bool,
    /// The nearest ISO 8583 field 39 response code, for a host that speaks nothing richer.
    pub iso8583_field39: &'static str,
    /// What the terminal shows next.
    pub next_screen: NextScreen,
}

/// A sentence or two for the screen, in every [`Language`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CustomerText {
    /// Kazakh.
    pub kk: &'static str,
    /// Russian.
    pub ru: &'static str,
    /// English.
    pub en: &'static str,
}

/// No reason has this code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no reason has the code {code:?}")]
pub struct UnknownReason {
    code: String,
}

impl Reason {
    /// The reason with this code.
    ///
    /// # Errors
    ///
    /// [`UnknownReason`]: codes are exact, in capitals.
    pub fn from_code(code: &str) -> Result<Self, UnknownReason> {
        let found = Self::ALL.iter().copied().find(|reason| reason.code() == code);
        found.ok_or_else(|| UnknownReason { code: code.to_owned() })
    }

    /// The code, as on the wire, in receipts, metrics and logs.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.row().code
    }

    /// Who has to act.
    #[must_use]
    pub const fn family(self) -> ReasonFamily {
        self.row().family
    }

    /// What may leave the gateway towards a terminal.
    ///
    /// "Not enrolled", "does not match" and "spoof suspected" are one public reason: a terminal
    /// that could tell them apart would tell an impostor who banks here, and how close they came.
    #[must_use]
    pub const fn public(self) -> Self {
        match self.family() {
            ReasonFamily::Match | ReasonFamily::Liveness | ReasonFamily::Subject => {
                Self::MatNotConfirmed
            }
            ReasonFamily::Capture
            | ReasonFamily::Device
            | ReasonFamily::Limit
            | ReasonFamily::Policy
            | ReasonFamily::Request
            | ReasonFamily::System => self,
        }
    }
}

impl Reason {
    /// Whether it depends on who the named person is, and not on the request or the capture alone.
    #[must_use]
    pub const fn tells_of_the_person(self) -> bool {
        match self.family() {
            ReasonFamily::Limit => {
                !matches!(self, Self::LimAttempts | Self::LimRate | Self::LimTerminal)
            }
            ReasonFamily::Policy => !matches!(self, Self::PolAmount | Self::PolCurrency),
            ReasonFamily::Capture
            | ReasonFamily::Liveness
            | ReasonFamily::Device
            | ReasonFamily::Subject
            | ReasonFamily::Match
            | ReasonFamily::Request
            | ReasonFamily::System => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl ReasonFamily {
    /// Every family, in the order in which the table lists them.
    pub const ALL: [Self; 9] = [
        Self::Capture,
        Self::Liveness,
        Self::Device,
        Self::Subject,
        Self::Match,
        Self::Limit,
        Self::Policy,
        Self::Request,
        Self::System,
    ];

    /// The word before the first underscore of a code.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Capture => "CAP",
            Self::Liveness => "PAD",
            Self::Device => "DEV",
            Self::Subject => "SUB",
            Self::Match => "MAT",
            Self::Limit => "LIM",
            Self::Policy => "POL",
            Self::Request => "REQ",
            Self::System => "SYS",
        }
    }
}

impl NextScreen {
    /// As on the wire.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Proceed => "PROCEED",
            Self::RetryCapture => "RETRY_CAPTURE",
            Self::StartAgain => "START_AGAIN",
            Self::OtherAmount => "OTHER_AMOUNT",
            Self::OtherVerification => "OTHER_VERIFICATION",
            Self::TryLater => "TRY_LATER",
            Self::ContactBranch => "CONTACT_BRANCH",
            Self::CallOperator => "CALL_OPERATOR",
        }
    }
}

impl NextScreen {
    /// The screen that [`NextScreen::code`] names.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        [
            Self::Proceed,
            Self::RetryCapture,
            Self::OtherAmount,
            Self::StartAgain,
            Self::TryLater,
            Self::OtherVerification,
            Self::ContactBranch,
            Self::CallOperator,
        ]
        .into_iter()
        .find(|screen| screen.code() == code)
    }
}

impl Language {
    /// The language of a BCP 47 tag such as `kk-KZ` by its primary subtag; `None` for one that has
    /// no texts.
    #[must_use]
    pub fn from_tag(tag: &str) -> Option<Self> {
        let primary = tag.split(['-', '_']).next().unwrap_or(tag);
        [Self::Kazakh, Self::Russian, Self::English]
            .into_iter()
            .find(|language| language.tag().eq_ignore_ascii_case(primary))
    }

    /// The primary subtag.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Kazakh => "kk",
            Self::Russian => "ru",
            Self::English => "en",
        }
    }
}

impl CustomerText {
    /// The text in one language.
    #[must_use]
    pub const fn in_language(&self, language: Language) -> &'static str {
        match language {
            Language::Kazakh => self.kk,
            Language::Russian => self.ru,
            Language::English => self.en,
        }
    }

    // Texts that several reasons share; for PAD, SUB and MAT the sharing is what keeps the secret.
    const NOT_CONFIRMED: Self = Self {
        kk: "Тұлғаңызды растау мүмкін болмады. Қайталап көріңіз немесе басқа тәсілді таңдаңыз.",
        ru: "Не удалось подтвердить вашу личность. Попробуйте ещё раз или выберите другой способ.",
        en: "We could not confirm that it is you. Try again or choose another way.",
    };

    const OTHER_TERMINAL: Self = Self {
        kk: "Бұл терминал қазір қызмет көрсете алмайды. Басқа терминалды пайдаланыңыз.",
        ru: "Этот терминал сейчас не может вас обслужить. Воспользуйтесь другим.",
        en: "This terminal cannot serve you now. Please use another one.",
    };

    const CANNOT_PROCESS: Self = Self {
        kk: "Сұрауыңызды өңдеу мүмкін болмады. Банкке хабарласыңыз.",
        ru: "Не удалось обработать запрос. Обратитесь в банк.",
        en: "Your request could not be processed. Please contact the bank.",
    };

    const UNAVAILABLE: Self = Self {
        kk: "Қызмет уақытша қолжетімсіз. Кейінірек қайталап көріңіз.",
        ru: "Сервис временно недоступен. Попробуйте позже.",
        en: "The service is unavailable at the moment. Please try again later.",
    };
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_code_leads_back_to_its_reason_and_to_no_other() {
        let codes: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        for &reason in Reason::ALL {
            assert_eq!(Reason::from_code(reason.code()), Ok(reason));
        }
        for wrong in ["", "mat_no_match", "MAT_NO_MATCH ", "OK"] {
            assert!(Reason::from_code(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_code_begins_with_its_familys_word() {
        for &reason in Reason::ALL {
            // The one word that gRPC's error table fixed before the families were named.
            let expected = match reason {
                Reason::RoleNotAllowed => "ROLE",
                other => other.family().prefix(),
            };
            let prefix = reason.code().split('_').next();
            assert_eq!(prefix, Some(expected), "{reason}");
        }
    }

    #[test]
    fn what_stands_behind_one_public_reason_cannot_be_told_apart() {
        let public = Reason::MatNotConfirmed.row();
        let mut hidden = 0;
        for &reason in Reason::ALL {
            if reason.public() != Reason::MatNotConfirmed {
                continue;
            }
            hidden += 1;
            let row = reason.row();
            assert_eq!(row.customer, public.customer, "{reason}");
            assert_eq!(row.retryable, public.retryable, "{reason}");
            assert_eq!(row.iso8583_field39, public.iso8583_field39, "{reason}");
            assert_eq!(row.next_screen, public.next_screen, "{reason}");
            assert_eq!(row.disclosable, reason == Reason::MatNotConfirmed, "{reason}");
        }
        assert!(hidden >= 7, "PAD, SUB and MAT reasons: {hidden}");
    }

    #[test]
    fn a_public_reason_is_its_own_public_reason() {
        for &reason in Reason::ALL {
            assert_eq!(reason.public().public(), reason.public());
        }
    }

    #[test]
    fn every_text_is_written_in_its_own_script() {
        let cyrillic = |c: char| ('\u{400}'..='\u{4ff}').contains(&c);
        for &reason in Reason::ALL {
            let row = reason.row();
            for text in [row.customer.kk, row.customer.ru] {
                assert!(text.ends_with('.') && text.chars().any(cyrillic), "{reason}: {text}");
                assert!(!text.chars().any(|c| c.is_ascii_alphabetic()), "{reason}: {text}");
            }
            for text in [row.customer.en, row.meaning, row.operator, row.probable_cause] {
                assert!(text.ends_with('.') && !text.chars().any(cyrillic), "{reason}: {text}");
            }
            // A terminal's screen is small.
            for language in [Language::Kazakh, Language::Russian, Language::English] {
                let text = row.customer.in_language(language);
                assert!(text.chars().count() <= 120, "{reason}: {text}");
            }
            assert_eq!(row.iso8583_field39.len(), 2, "{reason}");
        }
    }

    #[test]
    fn a_technical_failure_never_lets_a_transaction_proceed() {
        for &reason in Reason::ALL {
            if reason.family() == ReasonFamily::System {
                assert_ne!(reason.row().next_screen, NextScreen::Proceed, "{reason}");
            }
        }
    }

    #[test]
    fn a_language_is_known_by_its_primary_subtag() {
        assert_eq!(Language::from_tag("kk-KZ"), Some(Language::Kazakh));
        assert_eq!(Language::from_tag("RU"), Some(Language::Russian));
        assert_eq!(Language::from_tag("en_GB"), Some(Language::English));
        assert_eq!(Language::from_tag("de"), None);
        assert_eq!(Language::from_tag(""), None);
    }
}
