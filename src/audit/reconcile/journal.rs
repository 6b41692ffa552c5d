//! The cash journal of a terminal, or the journal of the host's switch.

use std::path::Path;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::table::{ReconcileError, RefusedLine, Row, Table};
use crate::domain::money::AMOUNT_MINOR_MAX;
use crate::domain::time::UnixMillis;

/// How a journal is written.
#[derive(Clone, Debug)]
pub struct JournalFormat {
    /// The zone of times that say none.
    pub zone: Option<TimeZone>,
    /// Digits behind the decimal point of amounts in major units; none where amounts are integers in
    /// minor units.
    pub decimals: Option<u32>,
}

/// A journal, read.
pub(super) struct Journal {
    pub entries: Vec<JournalEntry>,
    pub refused: Vec<RefusedLine>,
    /// Whether it has a column of receipts' numbers.
    pub names_receipts: bool,
}

/// One line: cash that was asked for, and what left the machine.
pub(super) struct JournalEntry {
    pub line: u64,
    pub time: UnixMillis,
    pub transaction: String,
    pub business_date: Option<String>,
    pub amount_minor: i64,
    pub dispensed_minor: i64,
    pub terminal: Option<String>,
    pub currency: Option<String>,
    /// The receipt's number, where the journal has it.
    pub rid: Option<String>,
}

impl Journal {
    pub(super) fn read(file: &Path, format: &JournalFormat) -> Result<Self, ReconcileError> {
        let table = Table::read(file, &["time", "host_transaction_id", "amount", "dispensed"])?;
        let (mut entries, mut refused) = (Vec::new(), table.refused.clone());
        for row in table.rows() {
            match JournalEntry::read(&row, format) {
                Ok(entry) => entries.push(entry),
                Err(reason) => refused.push(RefusedLine { line: row.line, reason }),
            }
        }
        refused.sort_by_key(|refused| refused.line);
        entries.sort_by_key(|entry: &JournalEntry| (entry.time, entry.line));
        Ok(Self { entries, refused, names_receipts: table.has("receipt") })
    }
}

impl JournalEntry {
    fn read(row: &Row<'_>, format: &JournalFormat) -> Result<Self, String> {
        let owned = |column: &str| row.text(column).map(ToOwned::to_owned);
        let amount_minor = amount(row.needed("amount")?, format.decimals)?;
        let dispensed_minor = amount(row.needed("dispensed")?, format.decimals)?;
        Ok(Self {
            line: row.line,
            time: time(row.needed("time")?, format.zone.as_ref())?,
            transaction: row.needed("host_transaction_id")?.to_owned(),
            business_date: owned("business_date"),
            amount_minor,
            dispensed_minor,
            terminal: owned("terminal"),
            currency: owned("currency"),
            rid: owned("receipt"),
        })
    }
}

/// RFC 3339, or a local time in the zone: `2026-11-21 14:03:00`, `21.11.2026 14:03:00`.
fn time(text: &str, zone: Option<&TimeZone>) -> Result<UnixMillis, String> {
    if let Ok(time) = UnixMillis::parse_rfc3339(text) {
        return Ok(time);
    }
    let local = DateTime::strptime("%Y-%m-%d %H:%M:%S", text)
        .or_else(|_| DateTime::strptime("%Y-%m-%dT%H:%M:%S", text))
        .or_else(|_| DateTime::strptime("%d.%m.%Y %H:%M:%S", text))
        .map_err(|_| format!("time {text:?} is none that is known"))?;
    let zone = zone.ok_or_else(|| format!("time {text:?} has no zone, and none was given"))?;
    zone.to_ambiguous_timestamp(local)
        .unambiguous()
        .map(|time| UnixMillis::new(time.as_millisecond()))
        .map_err(|_| format!("time {text:?} stands twice or never on that day's clocks"))
}

/// An amount in minor units: an integer, or with `decimals` a decimal number of major units.
fn amount(text: &str, decimals: Option<u32>) -> Result<i64, String> {
    let fault = || match decimals {
        None => format!("amount {text:?} is no integer of minor units"),
        Some(_) => format!("amount {text:?} is no decimal number"),
    };
    let compact: String =
        text.chars().filter(|c| !matches!(c, ' ' | '\u{a0}' | '\u{202f}')).collect();
    let (whole, rest) = match decimals {
        None => (compact.as_str(), ""),
        Some(_) => compact.split_once(['.', ',']).unwrap_or((compact.as_str(), "")),
    };
    let digits = decimals.unwrap_or(0);
    let fits = usize::try_from(digits).is_ok_and(|digits| rest.len() <= digits);
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !fits || !all_digits(whole) || !all_digits(rest) {
        return Err(fault());
    }
    let scale = 10i64.checked_pow(digits).ok_or_else(fault)?;
    let mut minor = whole.parse::<i64>().ok().and_then(|whole| whole.checked_mul(scale));
    if !rest.is_empty() {
        let shift = u32::try_from(rest.len()).ok().and_then(|len| digits.checked_sub(len));
        let rest = rest.parse::<i64>().ok().zip(shift.and_then(|shift| 10i64.checked_pow(shift)));
        let rest = rest.and_then(|(rest, scale)| rest.checked_mul(scale));
        minor = minor.zip(rest).and_then(|(whole, rest)| whole.checked_add(rest));
    }
    minor.filter(|minor| *minor <= AMOUNT_MINOR_MAX).ok_or_else(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_the_journal_writes_them() {
        assert_eq!(amount("5000000", None), Ok(5_000_000));
        assert_eq!(amount("0", None), Ok(0));
        for bad in ["", "50000.00", "-1", "+1", "1e3", "9999999999999999", "x"] {
            assert!(amount(bad, None).is_err(), "{bad}");
        }
        for good in ["50000", "50000.0", "50000.00", "50000,00", "50 000,00", "50\u{a0}000.00"] {
            assert_eq!(amount(good, Some(2)), Ok(5_000_000), "{good}");
        }
        assert_eq!(amount("0.07", Some(2)), Ok(7));
        assert_eq!(amount("0.7", Some(2)), Ok(70));
        assert_eq!(amount("7", Some(0)), Ok(7));
        for bad in ["", ".5", "1.234", "1.2.3", "-1.00", "1,000.00", "12345678901234567.00"] {
            assert!(amount(bad, Some(2)).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_instants_or_local_ones_in_a_zone_that_was_given() {
        let almaty = TimeZone::get("Asia/Almaty").unwrap();
        let expected = UnixMillis::parse_rfc3339("2026-11-21T09:03:14Z");
        for text in ["2026-11-21T09:03:14Z", "2026-11-21T14:03:14+05:00"] {
            assert_eq!(time(text, None), expected.map_err(|_| String::new()));
        }
        for text in ["2026-11-21 14:03:14", "2026-11-21T14:03:14", "21.11.2026 14:03:14"] {
            assert_eq!(time(text, Some(&almaty)), expected.map_err(|_| String::new()), "{text}");
            assert!(time(text, None).unwrap_err().contains("no zone"));
        }
        for bad in ["", "21/11/2026 14:03", "2026-13-01 00:00:00", "2026-11-21"] {
            assert!(time(bad, Some(&almaty)).is_err(), "{bad}");
        }
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        for twice_or_never in ["2026-10-25 02:30:00", "2026-03-29 02:30:00"] {
            assert!(time(twice_or_never, Some(&berlin)).unwrap_err().contains("twice or never"));
        }
    }
}
