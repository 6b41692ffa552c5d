//! How much cash has moved, of whom, in which stretch of time: what limits look at.

use std::collections::BTreeMap;

use crate::domain::time::{BusinessDate, UnixMillis};
use crate::domain::words::words;

words! {
    /// Whose movements are added up.
    Party {
        /// The person that the terminal names.
        Customer = "customer",
        /// The account.
        Account = "account",
        /// The card whose token the terminal sent; nobody's when it sent something else.
        Card = "card",
        /// The terminal.
        Terminal = "terminal",
        /// The person at this one terminal.
        CustomerAtTerminal = "customer_at_terminal",
    }
}

words! {
    /// Which way the cash went.
    Direction {
        /// To the customer.
        Withdrawals = "withdrawals",
        /// To the bank, by whomever.
        Deposits = "deposits",
    }
}

words! {
    /// A stretch of time that ends now.
    Window {
        /// The last 60 minutes.
        Hour = "hour",
        /// Since midnight in the bank's time zone.
        Day = "day",
        /// The last 24 hours.
        Hours24 = "h24",
        /// The last 48 hours.
        Hours48 = "h48",
        /// Since the first of the month in the bank's time zone.
        Month = "month",
    }
}

impl Window {
    /// How long it may last, in hours.
    const fn hours_max(self) -> i64 {
        match self {
            Self::Hour => 1,
            Self::Day | Self::Hours24 => 24,
            Self::Hours48 => 48,
            Self::Month => 31 * 24,
        }
    }
}

const HOUR_MS: i64 = 3_600_000;

/// The bank's time zone, by which days and months begin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BankZone(jiff::tz::TimeZone);

/// A name that is no time zone of the IANA database.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it is not a time zone of the IANA database, such as Asia/Almaty")]
pub struct InvalidZone;

impl TryFrom<&str> for BankZone {
    type Error = InvalidZone;

    fn try_from(name: &str) -> Result<Self, InvalidZone> {
        jiff::tz::TimeZone::get(name).map(Self).map_err(|_| InvalidZone)
    }
}

impl BankZone {
    /// The first instant that counts to a window that ends at `now`: a rolling one is as long as its
    /// name says, to the millisecond, and begins just after the instant that long ago.
    #[must_use]
    pub fn start(&self, window: Window, now: UnixMillis) -> UnixMillis {
        let rolling = now.plus_millis(1 - window.hours_max() * HOUR_MS);
        match window {
            Window::Hour | Window::Hours24 | Window::Hours48 => rolling,
            Window::Day => self.midnight(now, Some).unwrap_or(rolling),
            Window::Month => {
                self.midnight(now, |date| Some(date.first_of_month())).unwrap_or(rolling)
            }
        }
    }

    /// The first instant that no longer counts to a window that counts `now`.
    #[must_use]
    pub fn end(&self, window: Window, now: UnixMillis) -> UnixMillis {
        let rolling = now.plus_millis(window.hours_max() * HOUR_MS);
        match window {
            Window::Hour | Window::Hours24 | Window::Hours48 => rolling,
            Window::Day => self.midnight(now, |date| date.tomorrow().ok()).unwrap_or(rolling),
            Window::Month => {
                let next = |date: jiff::civil::Date| date.last_of_month().tomorrow().ok();
                self.midnight(now, next).unwrap_or(rolling)
            }
        }
    }

    /// An instant as the bank's customers are shown it: RFC 3339 with the zone's offset, to the second.
    #[must_use]
    pub fn displayed(&self, at: UnixMillis) -> String {
        match jiff::Timestamp::from_millisecond(at.get()) {
            Ok(instant) => {
                instant.to_zoned(self.0.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
            }
            // Beyond year 9999 no zone is known.
            Err(_) => at.rfc3339(),
        }
    }

    /// The bank's day that an instant belongs to; none only beyond year 9999.
    #[must_use]
    pub fn day(&self, at: UnixMillis) -> Option<BusinessDate> {
        let at = jiff::Timestamp::from_millisecond(at.get()).ok()?;
        let date = at.to_zoned(self.0.clone()).date();
        BusinessDate::try_from(date.to_string().as_str()).ok()
    }

    /// The first instant of a day of the bank's, and the first after it.
    #[must_use]
    pub fn bounds(&self, day: &BusinessDate) -> Option<(UnixMillis, UnixMillis)> {
        let date: jiff::civil::Date = day.as_str().parse().ok()?;
        let start = |date: jiff::civil::Date| {
            let start = date.to_zoned(self.0.clone()).ok()?.start_of_day().ok()?;
            Some(UnixMillis::new(start.timestamp().as_millisecond()))
        };
        Some((start(date)?, start(date.tomorrow().ok()?)?))
    }

    /// The first instant after so many whole days of the bank's that follow the day of `at`: what must
    /// be kept for these days may be destroyed from then on.
    #[must_use]
    pub fn after_days(&self, at: UnixMillis, days: u32) -> UnixMillis {
        const DAY_MS: i64 = 86_400_000;
        let later = |date: jiff::civil::Date| {
            let days = jiff::Span::new().try_days(i64::from(days) + 1).ok()?;
            date.checked_add(days).ok()
        };
        let exact = jiff::Timestamp::from_millisecond(at.get()).ok().and_then(|instant| {
            let date = later(instant.to_zoned(self.0.clone()).date())?;
            let start = date.to_zoned(self.0.clone()).ok()?.start_of_day().ok()?;
            Some(UnixMillis::new(start.timestamp().as_millisecond()))
        });
        // Beyond the calendar: longer rather than shorter.
        exact.unwrap_or_else(|| at.plus_millis((i64::from(days) + 2) * DAY_MS))
    }

    /// The first instant of a day that is found from today's date; none only beyond year 9999.
    fn midnight(
        &self,
        now: UnixMillis,
        day: impl Fn(jiff::civil::Date) -> Option<jiff::civil::Date>,
    ) -> Option<UnixMillis> {
        let now = jiff::Timestamp::from_millisecond(now.get()).ok()?;
        let date = day(now.to_zoned(self.0.clone()).date())?;
        let start = date.to_zoned(self.0.clone()).ok()?.start_of_day().ok()?;
        Some(UnixMillis::new(start.timestamp().as_millisecond()))
    }
}

/// How often, and how much.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Turnover {
    /// Movements.
    pub count: i64,
    /// Their sum, in minor units of one currency.
    pub amount_minor: i64,
}

/// The turnovers before a transaction, in its currency.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Turnovers {
    sums: BTreeMap<(Party, Direction, Window), Turnover>,
    ends: BTreeMap<Window, UnixMillis>,
}

impl Turnovers {
    /// Sets one; what is not set is nothing moved.
    pub fn set(&mut self, party: Party, direction: Direction, window: Window, turnover: Turnover) {
        self.sums.insert((party, direction, window), turnover);
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, party: Party, direction: Direction, window: Window) -> Turnover {
        self.sums.get(&(party, direction, window)).copied().unwrap_or_default()
    }

    /// All that were set.
    pub fn sums(&self) -> impl Iterator<Item = ((Party, Direction, Window), &Turnover)> {
        self.sums.iter().map(|(of, sum)| (*of, sum))
    }

    /// When the windows end for which that was set.
    pub fn ends(&self) -> impl Iterator<Item = (Window, UnixMillis)> {
        self.ends.iter().map(|(window, end)| (*window, *end))
    }

    /// Sets when a window ends that has begun.
    pub fn set_end(&mut self, window: Window, end: UnixMillis) {
        self.ends.insert(window, end);
    }

    /// When a window ends that has begun; where that was not set, when one does that begins now.
    #[must_use]
    pub fn end(&self, window: Window, now: UnixMillis) -> UnixMillis {
        let set = self.ends.get(&window).copied();
        set.unwrap_or_else(|| now.plus_millis(window.hours_max() * HOUR_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UnixMillis {
        UnixMillis::parse_rfc3339(text).unwrap()
    }

    #[test]
    fn days_and_months_begin_at_the_banks_midnight() {
        let almaty = BankZone::try_from("Asia/Almaty").unwrap();
        // 03:30 in Almaty (UTC+5) on the first of December.
        let now = at("2026-11-30T22:30:00.000Z");
        for (window, start) in [
            (Window::Hour, "2026-11-30T21:30:00.001Z"),
            (Window::Day, "2026-11-30T19:00:00.000Z"),
            (Window::Hours24, "2026-11-29T22:30:00.001Z"),
            (Window::Hours48, "2026-11-28T22:30:00.001Z"),
            (Window::Month, "2026-11-30T19:00:00.000Z"),
        ] {
            assert_eq!(almaty.start(window, now), at(start), "{window:?}");
        }
        for (window, end) in [
            (Window::Hour, "2026-11-30T23:30:00.000Z"),
            (Window::Day, "2026-12-01T19:00:00.000Z"),
            (Window::Month, "2026-12-31T19:00:00.000Z"),
        ] {
            assert_eq!(almaty.end(window, now), at(end), "{window:?}");
        }
        let just_before = at("2026-11-30T18:59:59.999Z");
        assert_eq!(almaty.start(Window::Month, just_before), at("2026-10-31T19:00:00.000Z"));
    }

    #[test]
    fn an_instant_is_displayed_in_the_banks_zone() {
        let almaty = BankZone::try_from("Asia/Almaty").unwrap();
        let shown = almaty.displayed(at("2026-11-30T22:30:07.999Z"));
        assert_eq!(shown, "2026-12-01T03:30:07+05:00");
    }

    #[test]
    fn a_day_that_a_clock_change_shortens_begins_at_its_midnight() {
        let berlin = BankZone::try_from("Europe/Berlin").unwrap();
        let now = at("2026-03-29T12:00:00.000Z");
        assert_eq!(berlin.start(Window::Day, now), at("2026-03-28T23:00:00.000Z"));
        let now = at("2026-03-30T12:00:00.000Z");
        assert_eq!(berlin.start(Window::Day, now), at("2026-03-29T22:00:00.000Z"));
    }

    #[test]
    fn what_is_kept_for_days_is_kept_through_the_last_of_them() {
        let almaty = BankZone::try_from("Asia/Almaty").unwrap();
        // Half past three in the morning of the first of December, by the bank's clocks.
        let at_night = at("2026-11-30T22:30:00.000Z");
        assert_eq!(almaty.after_days(at_night, 1), at("2026-12-02T19:00:00.000Z"));
        assert_eq!(almaty.after_days(at_night, 180), at("2027-05-30T19:00:00.000Z"));
        assert_eq!(almaty.day(at_night).unwrap().as_str(), "2026-12-01");
        let day = BusinessDate::try_from("2026-03-29").unwrap();
        let berlin = BankZone::try_from("Europe/Berlin").unwrap();
        let bounds = (at("2026-03-28T23:00:00.000Z"), at("2026-03-29T22:00:00.000Z"));
        assert_eq!(berlin.bounds(&day), Some(bounds), "a day of 23 hours");
        let end = at("9999-12-30T00:00:00.000Z");
        assert!(almaty.after_days(end, 36_500) > end.plus_millis(36_500 * 86_400_000));
    }

    #[test]
    fn a_zone_has_a_name() {
        assert_eq!(BankZone::try_from("Almaty"), Err(InvalidZone));
    }
}
