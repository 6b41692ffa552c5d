//! `calendar.toml`: the working days of a pack's country, as data.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::domain::working_days::{InvalidCalendar, WorkingCalendar, YearDays};

/// Reads a pack's calendar.
pub(super) fn read(text: &str) -> Result<WorkingCalendar, CalendarError> {
    let RawCalendar { zone, weekend, years } = toml::from_str(text)?;
    let years = years
        .into_iter()
        .map(|(year, RawYear { holidays, working })| (year, YearDays { holidays, working }));
    Ok(WorkingCalendar::new(&zone, &weekend, &years.collect())?)
}

/// A calendar that no days can be counted by.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalendarError {
    /// It is no TOML of a calendar's shape.
    #[error("it does not parse")]
    Shape(#[from] toml::de::Error),
    /// A value of it is wrong.
    #[error("it has a value that it cannot have")]
    Value(#[from] InvalidCalendar),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCalendar {
    zone: String,
    weekend: Vec<String>,
    #[serde(default)]
    years: BTreeMap<String, RawYear>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawYear {
    #[serde(default)]
    holidays: Vec<String>,
    #[serde(default)]
    working: Vec<String>,
}
