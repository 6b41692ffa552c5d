//! Working days by a calendar that is data: weekends, holidays, and days that were moved.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;

use super::time::UnixMillis;

/// A calendar of working days in one time zone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WorkingCalendar {
    zone: TimeZone,
    weekend: BTreeSet<i8>,
    years: BTreeMap<i16, Year>,
}

/// One year of a calendar.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Year {
    holidays: BTreeSet<Date>,
    working: BTreeSet<Date>,
}

/// The days of one year as they are written, `YYYY-MM-DD`.
#[derive(Clone, Debug, Default)]
pub struct YearDays {
    /// Days that are off, weekends aside.
    pub holidays: Vec<String>,
    /// Days of weekends that are worked.
    pub working: Vec<String>,
}

/// When a number of working days ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WorkingEnd {
    /// The first instant after the last of them.
    pub until: UnixMillis,
    /// A year was counted that the calendar does not have: by its weekends alone.
    pub beyond_calendar: bool,
}

impl WorkingCalendar {
    /// A calendar from its words.
    ///
    /// # Errors
    ///
    /// [`InvalidCalendar`], the first fault found.
    pub fn new(
        zone: &str,
        weekend: &[String],
        years: &BTreeMap<String, YearDays>,
    ) -> Result<Self, InvalidCalendar> {
        let zone = TimeZone::get(zone).map_err(|_| InvalidCalendar::Zone)?;
        let days = weekend.iter().map(|word| weekday(word).ok_or(InvalidCalendar::Weekend));
        let weekend: BTreeSet<_> = days.collect::<Result<_, _>>()?;
        if weekend.len() > WEEKEND_DAYS_MAX {
            return Err(InvalidCalendar::Weekend);
        }
        let mut read = BTreeMap::new();
        for (name, days) in years {
            let year = name.parse::<i16>().ok().filter(|year| (2000..=2999).contains(year));
            let year = year.ok_or(InvalidCalendar::Year)?;
            let holidays = dates(year, &days.holidays)?;
            let working = dates(year, &days.working)?;
            if !holidays.is_disjoint(&working) {
                return Err(InvalidCalendar::Date);
            }
            read.insert(year, Year { holidays, working });
        }
        Ok(Self { zone, weekend, years: read })
    }

    /// The end of the `days`-th working day after the day of `now`, which does not count itself.
    #[must_use]
    pub fn end(&self, now: UnixMillis, days: i64) -> WorkingEnd {
        let fallback = WorkingEnd {
            until: now.plus_millis(days.saturating_mul(DAY_MS)),
            beyond_calendar: true,
        };
        // None only where no calendar reaches: beyond year 9999.
        self.counted(now, days).unwrap_or(fallback)
    }

    fn counted(&self, now: UnixMillis, days: i64) -> Option<WorkingEnd> {
        let now = jiff::Timestamp::from_millisecond(now.get()).ok()?;
        let mut date = now.to_zoned(self.zone.clone()).date();
        let mut beyond_calendar = false;
        let mut left = days;
        while left > 0 {
            date = date.tomorrow().ok()?;
            beyond_calendar |= !self.years.contains_key(&date.year());
            left -= i64::from(self.is_working(date));
        }
        let next = date.tomorrow().ok()?.to_zoned(self.zone.clone()).ok()?;
        let until = next.start_of_day().ok()?.timestamp().as_millisecond();
        Some(WorkingEnd { until: UnixMillis::new(until), beyond_calendar })
    }

    fn is_working(&self, date: Date) -> bool {
        let year = self.years.get(&date.year());
        if year.is_some_and(|year| year.holidays.contains(&date)) {
            return false;
        }
        let is_moved = year.is_some_and(|year| year.working.contains(&date));
        is_moved || !self.weekend.contains(&date.weekday().to_monday_one_offset())
    }
}

/// Words that make no calendar.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCalendar {
    /// The zone.
    #[error("zone is not a time zone of the IANA database, such as Asia/Almaty")]
    Zone,
    /// The weekend.
    #[error("weekend is not a list of at most 6 days such as \"saturday\"")]
    Weekend,
    /// A year.
    #[error("a year is not 2000 to 2999")]
    Year,
    /// A date.
    #[error("a date is not YYYY-MM-DD, of another year, or both off and worked")]
    Date,
}

fn dates(year: i16, texts: &[String]) -> Result<BTreeSet<Date>, InvalidCalendar> {
    let date = |text: &String| {
        let date = text.parse::<Date>().ok().filter(|date| date.year() == year);
        date.ok_or(InvalidCalendar::Date)
    };
    texts.iter().map(date).collect()
}

fn weekday(word: &str) -> Option<i8> {
    let named = [
        ("monday", Weekday::Monday),
        ("tuesday", Weekday::Tuesday),
        ("wednesday", Weekday::Wednesday),
        ("thursday", Weekday::Thursday),
        ("friday", Weekday::Friday),
        ("saturday", Weekday::Saturday),
        ("sunday", Weekday::Sunday),
    ];
    let found = named.into_iter().find(|(name, _)| *name == word);
    found.map(|(_, day)| day.to_monday_one_offset())
}

/// A week has a working day, or no count of them would end.
const WEEKEND_DAYS_MAX: usize = 6;

const DAY_MS: i64 = 86_400_000;
