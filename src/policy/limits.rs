//! How many failures a customer and a terminal may have, and what follows: numbers of a pack.

use serde::Deserialize;

use super::pack::PackError;
use crate::domain::time::UnixMillis;

/// Limits of failed comparisons beyond one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TryLimits {
    /// Consecutive failures of a customer from which on each further one delays the next comparison,
    /// 1..=100.
    pub delay_after_failures: u32,
    /// The first delay in seconds, 1..=3600; each further failure doubles it.
    pub delay_s: u32,
    /// The longest delay in seconds, `delay_s`..=86400.
    pub delay_max_s: u32,
    /// Consecutive failures of a customer that lock their biometric, 1..=1000.
    pub lock_after_failures: u32,
    /// How long a customer's failure counts, in hours, 1..=168.
    pub failures_count_h: u32,
    /// Failures of a terminal after which it must wait until some no longer count, 1..=100000.
    pub terminal_failures_max: u32,
    /// How long a terminal's failure counts, in seconds, 1..=86400.
    pub terminal_window_s: u32,
}

impl TryLimits {
    /// Longest that any pack lets a try count, in milliseconds: what is older may be forgotten.
    pub const COUNTS_MAX_MS: i64 = 168 * HOUR_MS;

    /// How long after the last of so many consecutive failures nothing is compared, in milliseconds.
    #[must_use]
    pub fn delay_ms(&self, failures: u32) -> i64 {
        let Some(further) = failures.checked_sub(self.delay_after_failures) else { return 0 };
        let doubled = i64::from(self.delay_s) << further.min(DOUBLED_MAX);
        doubled.min(i64::from(self.delay_max_s)) * 1_000
    }

    /// Failures of a customer count that came later.
    #[must_use]
    pub fn customer_since(&self, now: UnixMillis) -> UnixMillis {
        now.plus_millis(-i64::from(self.failures_count_h) * HOUR_MS)
    }

    /// Failures of a terminal count that came later.
    #[must_use]
    pub fn terminal_since(&self, now: UnixMillis) -> UnixMillis {
        now.plus_millis(-i64::from(self.terminal_window_s) * 1_000)
    }
}

/// The limits as `[bars.tries]` in `pack.toml` has them; all may be left out.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawTryLimits {
    delay_after_failures: u32,
    delay_s: u32,
    delay_max_s: u32,
    lock_after_failures: u32,
    failures_count_h: u32,
    terminal_failures_max: u32,
    terminal_window_s: u32,
}

impl Default for RawTryLimits {
    /// NIST SP 800-63B-4 wants a delay of at least 30 s after at most 5 consecutive failures, growing, and
    /// no more than 10 failures with presentation attack detection; 3 are the tries of one transaction.
    fn default() -> Self {
        Self {
            delay_after_failures: 3,
            delay_s: 30,
            delay_max_s: 3_600,
            lock_after_failures: 10,
            failures_count_h: 24,
            terminal_failures_max: 30,
            terminal_window_s: 600,
        }
    }
}

impl RawTryLimits {
    pub fn check(self) -> Result<TryLimits, PackError> {
        let Self {
            delay_after_failures,
            delay_s,
            delay_max_s,
            lock_after_failures,
            failures_count_h,
            terminal_failures_max,
            terminal_window_s,
        } = self;
        let ranges = [
            ("bars.tries.delay_after_failures", delay_after_failures, 1..=100),
            ("bars.tries.delay_s", delay_s, 1..=3_600),
            ("bars.tries.delay_max_s", delay_max_s, delay_s..=DAY_S),
            ("bars.tries.lock_after_failures", lock_after_failures, 1..=1_000),
            ("bars.tries.failures_count_h", failures_count_h, 1..=HOURS_MAX),
            ("bars.tries.terminal_failures_max", terminal_failures_max, 1..=100_000),
            ("bars.tries.terminal_window_s", terminal_window_s, 1..=DAY_S),
        ];
        match ranges.into_iter().find(|(_, number, range)| !range.contains(number)) {
            Some((field, ..)) => Err(PackError::Field(field)),
            None => Ok(TryLimits {
                delay_after_failures,
                delay_s,
                delay_max_s,
                lock_after_failures,
                failures_count_h,
                terminal_failures_max,
                terminal_window_s,
            }),
        }
    }
}

const HOUR_MS: i64 = 3_600_000;
const HOURS_MAX: u32 = 168;
const DAY_S: u32 = 86_400;
/// A second doubled so often is longer than any delay.
const DOUBLED_MAX: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_begins_with_its_failure_doubles_and_stops_growing() {
        let limits = RawTryLimits::default().check().unwrap();
        let seconds = |failures| limits.delay_ms(failures) / 1_000;
        let delays: Vec<_> = (0..=12).map(seconds).collect();
        assert_eq!(delays, [0, 0, 0, 30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600, 3_600]);
        assert_eq!(seconds(u32::MAX), 3_600);
    }

    #[test]
    fn a_number_out_of_its_range_is_refused_by_its_name() {
        type Spoil = fn(&mut RawTryLimits, u32);
        let fields: [(&str, Spoil, [u32; 2]); 7] = [
            ("bars.tries.delay_after_failures", |raw, to| raw.delay_after_failures = to, [1, 100]),
            ("bars.tries.delay_s", |raw, to| raw.delay_s = to, [1, 3_600]),
            ("bars.tries.delay_max_s", |raw, to| raw.delay_max_s = to, [30, 86_400]),
            ("bars.tries.lock_after_failures", |raw, to| raw.lock_after_failures = to, [1, 1_000]),
            ("bars.tries.failures_count_h", |raw, to| raw.failures_count_h = to, [1, 168]),
            (
                "bars.tries.terminal_failures_max",
                |raw, to| raw.terminal_failures_max = to,
                [1, 100_000],
            ),
            ("bars.tries.terminal_window_s", |raw, to| raw.terminal_window_s = to, [1, 86_400]),
        ];
        for (name, set, [least, most]) in fields {
            let with = |to| {
                let mut raw = RawTryLimits::default();
                set(&mut raw, to);
                raw.check().map(drop)
            };
            for right in [least, most] {
                assert!(with(right).is_ok(), "{name} = {right}");
            }
            for wrong in [least - 1, most + 1] {
                let refused = with(wrong);
                assert!(matches!(refused, Err(PackError::Field(field)) if field == name), "{name}");
            }
        }
    }
}
