//! Working days by the calendar of kz-2026, and by calendars of chance.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tulga::domain::time::UnixMillis;
use tulga::domain::working_days::{InvalidCalendar, WorkingCalendar, YearDays};

fn at(text: &str) -> UnixMillis {
    UnixMillis::parse_rfc3339(text).unwrap()
}

fn weekend() -> Vec<String> {
    vec!["saturday".to_owned(), "sunday".to_owned()]
}

fn calendar(holidays: &[&str], working: &[&str]) -> WorkingCalendar {
    let own = |days: &[&str]| days.iter().map(|day| (*day).to_owned()).collect();
    let days = YearDays { holidays: own(holidays), working: own(working) };
    let years = BTreeMap::from([("2026".to_owned(), days)]);
    WorkingCalendar::new("Asia/Almaty", &weekend(), &years).unwrap()
}

#[test]
fn a_hold_ends_with_the_last_working_day_in_the_banks_zone() {
    let calendar = calendar(&["2026-05-07", "2026-05-11"], &["2026-05-16"]);
    for (now, days, until, why) in [
        ("2026-04-06T06:00:00Z", 5, "2026-04-13T19:00:00Z", "Monday to the next Monday's end"),
        ("2026-04-06T18:59:59.999Z", 1, "2026-04-07T19:00:00Z", "Monday's last moment in Almaty"),
        ("2026-04-06T19:00:00Z", 1, "2026-04-08T19:00:00Z", "Tuesday's first moment in Almaty"),
        ("2026-04-10T06:00:00Z", 1, "2026-04-13T19:00:00Z", "Friday: over the weekend"),
        ("2026-04-11T06:00:00Z", 1, "2026-04-13T19:00:00Z", "a Saturday begins nothing"),
        ("2026-05-06T06:00:00Z", 1, "2026-05-08T19:00:00Z", "over a holiday"),
        ("2026-05-06T06:00:00Z", 2, "2026-05-12T19:00:00Z", "over a weekend and a moved holiday"),
        ("2026-05-15T06:00:00Z", 1, "2026-05-16T19:00:00Z", "a Saturday that is worked"),
    ] {
        let end = calendar.end(at(now), days);
        assert_eq!((end.until, end.beyond_calendar), (at(until), false), "{why}");
    }
}

#[test]
fn beyond_the_calendar_weekends_alone_count_and_it_is_said() {
    let calendar = calendar(&["2026-12-31"], &[]);
    let end = calendar.end(at("2026-12-30T06:00:00Z"), 1);
    assert_eq!((end.until, end.beyond_calendar), (at("2027-01-01T19:00:00Z"), true));
    let end = calendar.end(at("2026-12-29T06:00:00Z"), 1);
    assert!(!end.beyond_calendar);
}

#[test]
fn a_calendar_that_cannot_be_is_refused() {
    let of = |year: &str, holidays: &str, working: &str| {
        let days =
            YearDays { holidays: vec![holidays.to_owned()], working: vec![working.to_owned()] };
        BTreeMap::from([(year.to_owned(), days)])
    };
    let good = || of("2026", "2026-05-01", "2026-05-02");
    let every_day = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    let every_day = every_day.map(str::to_owned);
    for (zone, weekend, years, fault) in [
        ("Mars/Olympus", &weekend()[..], good(), InvalidCalendar::Zone),
        ("Asia/Almaty", &["caturday".to_owned()], good(), InvalidCalendar::Weekend),
        ("Asia/Almaty", &every_day, good(), InvalidCalendar::Weekend),
        ("Asia/Almaty", &[], of("26", "2026-05-01", "2026-05-02"), InvalidCalendar::Year),
        ("Asia/Almaty", &[], of("2026", "2027-05-01", "2026-05-02"), InvalidCalendar::Date),
        ("Asia/Almaty", &[], of("2026", "2026-02-30", "2026-05-02"), InvalidCalendar::Date),
        ("Asia/Almaty", &[], of("2026", "2026-05-01", "2026-05-01"), InvalidCalendar::Date),
    ] {
        assert_eq!(WorkingCalendar::new(zone, weekend, &years).unwrap_err(), fault);
    }
    assert!(WorkingCalendar::new("Asia/Almaty", &weekend(), &good()).is_ok());
}

proptest! {
    /// One more working day ends later, never by less than a day of the clock's shortest, and a
    /// holiday more never ends a hold earlier.
    #[test]
    fn more_days_and_more_holidays_end_later(
        hour in 0_i64..8_700,
        days in 1_i64..60,
        holiday in 1_u32..29,
        month in 1_u32..13,
    ) {
        let start = at("2026-01-01T00:00:00Z").plus_millis(hour * 3_600_000);
        let plain = calendar(&[], &[]);
        let holiday = format!("2026-{month:02}-{holiday:02}");
        let fewer = calendar(&[&holiday], &[]);
        let end = plain.end(start, days).until;
        prop_assert!(end > start);
        prop_assert!(plain.end(start, days + 1).until.get() - end.get() >= 24 * 3_600_000);
        prop_assert!(fewer.end(start, days).until >= end);
        // Of seven days in a row five are worked.
        let week = plain.end(start, 5).until.get() - start.get();
        prop_assert!((5 * 24..=8 * 24).contains(&(week / 3_600_000)), "{week}");
        // It ends at a midnight of Almaty, UTC+5.
        prop_assert_eq!((end.get() + 5 * 3_600_000) % 86_400_000, 0);
    }
}
