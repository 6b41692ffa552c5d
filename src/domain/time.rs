//! Instants and business dates.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An instant: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(i64);

impl UnixMillis {
    /// The instant `millis` after the epoch.
    #[must_use]
    pub const fn new(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The instant `millis` later; it stops at the end of time rather than wrap.
    #[must_use]
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// RFC 3339 in UTC with exactly three fractional digits: `2026-11-21T02:03:14.123Z`.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let instant =
            jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        format!("{instant:.3}")
    }

    /// Reads what [`UnixMillis::rfc3339`] writes.
    ///
    /// # Errors
    ///
    /// [`InvalidTime`] for anything but an RFC 3339 instant.
    pub fn parse_rfc3339(text: &str) -> Result<Self, InvalidTime> {
        text.parse::<jiff::Timestamp>()
            .map(|instant| Self(instant.as_millisecond()))
            .map_err(|_| InvalidTime)
    }
}

impl fmt::Debug for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

/// A text that is no instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 instant such as 2026-11-21T02:03:14.123Z")]
pub struct InvalidTime;

/// The bank's day a transaction is booked on, `YYYY-MM-DD`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(transparent)]
pub struct BusinessDate(String);

impl BusinessDate {
    /// The date as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for BusinessDate {
    type Error = InvalidBusinessDate;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        // Ten bytes: longer forms that a calendar parser also takes would be other keys for one day.
        if text.len() != 10 || !text.bytes().all(|b| b.is_ascii_digit() || b == b'-') {
            return Err(InvalidBusinessDate);
        }
        text.parse::<jiff::civil::Date>().map_err(|_| InvalidBusinessDate)?;
        Ok(Self(text.to_owned()))
    }
}

/// A text that is no calendar date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a calendar date written YYYY-MM-DD")]
pub struct InvalidBusinessDate;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_survives_its_text() {
        for millis in [0, 1, 999, 1_795_226_595_123, -1] {
            let instant = UnixMillis::new(millis);
            assert_eq!(UnixMillis::parse_rfc3339(&instant.rfc3339()), Ok(instant));
        }
        assert_eq!(UnixMillis::new(1_795_226_595_120).rfc3339().len(), 24);
    }

    #[test]
    fn a_business_date_is_a_day_of_the_calendar() {
        assert!(BusinessDate::try_from("2024-02-29").is_ok());
        for bad in
            ["", "2026-02-29", "2026-13-01", "2026-1-01", "20261101", "2026-11-21T00", "-026-11-21"]
        {
            assert_eq!(BusinessDate::try_from(bad), Err(InvalidBusinessDate), "{bad}");
        }
    }
}
