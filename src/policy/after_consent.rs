//! What a law wants kept of somebody whose consent has ended: `[consent]` of `pack.toml`.

use serde::Deserialize;

use super::pack::PackError;
use crate::domain::time::UnixMillis;

/// What is kept of a customer after their consent was withdrawn or its term is over.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AfterConsent {
    /// How long the sealed record is kept, in days of 24 hours from the end of the consent,
    /// 0..=36,500; 0 is not at all.
    pub keep_days: u32,
    /// Whether the sealed captures are kept with it.
    pub keep_templates: bool,
    /// By what right; empty where nothing is kept.
    pub legal_basis: String,
}

impl AfterConsent {
    /// From when on the customer may be erased.
    #[must_use]
    pub fn keep_until(&self, ended: UnixMillis) -> UnixMillis {
        ended.plus_millis(i64::from(self.keep_days) * DAY_MS)
    }

    /// Whether the captures stay until then.
    #[must_use]
    pub const fn keeps_templates(&self) -> bool {
        self.keep_templates && self.keep_days > 0
    }
}

/// The same as `pack.toml` has it; a pack without it keeps nothing.
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawAfterConsent {
    keep_days: u32,
    keep_templates: bool,
    legal_basis: String,
}

impl RawAfterConsent {
    /// Personal data are not kept without consent unless the pack says by what right.
    pub fn check(self) -> Result<AfterConsent, PackError> {
        let Self { keep_days, keep_templates, legal_basis } = self;
        if keep_days > DAYS_MAX {
            return Err(PackError::Field("consent.keep_days"));
        }
        let length = legal_basis.chars().count();
        let is_said = !legal_basis.trim().is_empty() && length <= LEGAL_BASIS_MAX;
        if (keep_days > 0) != is_said || (keep_days == 0 && length > 0) {
            return Err(PackError::Field("consent.legal_basis"));
        }
        if keep_templates && keep_days == 0 {
            return Err(PackError::Field("consent.keep_templates"));
        }
        Ok(AfterConsent { keep_days, keep_templates, legal_basis })
    }
}

/// A hundred years.
const DAYS_MAX: u32 = 36_500;
const DAY_MS: i64 = 86_400_000;
/// Characters: it stands in the audit record of each end.
const LEGAL_BASIS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(keep_days: u32, keep_templates: bool, legal_basis: &str) -> String {
        let raw = RawAfterConsent { keep_days, keep_templates, legal_basis: legal_basis.into() };
        raw.check().err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn nothing_is_kept_without_saying_by_what_right() {
        assert_eq!(refused(0, false, ""), "");
        assert_eq!(refused(36_500, true, "a law"), "");
        for (days, templates, basis, field) in [
            (36_501, false, "a law", "consent.keep_days"),
            (1, false, "", "consent.legal_basis"),
            (1, false, " \n", "consent.legal_basis"),
            (1, false, &*"x".repeat(1_001), "consent.legal_basis"),
            (0, false, "a law", "consent.legal_basis"),
            (0, true, "", "consent.keep_templates"),
        ] {
            let refused = refused(days, templates, basis);
            assert!(refused.starts_with(field), "{days} {templates} {basis:?}: {refused}");
        }
    }

    #[test]
    fn the_time_to_keep_begins_with_the_consents_end() {
        let law = AfterConsent { keep_days: 2, ..AfterConsent::default() };
        assert_eq!(law.keep_until(UnixMillis::new(5)), UnixMillis::new(5 + 2 * DAY_MS));
        assert_eq!(AfterConsent::default().keep_until(UnixMillis::new(5)), UnixMillis::new(5));
    }
}
