//! Ledgers called by their half-years: which ones come next.

use super::Origin;

/// The `count` ledgers after one that is called by its half-year: `…/2027h1` after `…/2026h2`. None for
/// a ledger of another name.
#[must_use]
pub fn half_years_after(origin: &Origin, count: usize) -> Vec<Origin> {
    let mut ahead = Vec::new();
    let Some((issuer, mut half_year)) = parse(origin.as_str()) else { return ahead };
    while ahead.len() < count {
        half_year = match half_year {
            (year, 1) => (year, 2),
            (year, _) => (year + 1, 1),
        };
        let (year, half) = half_year;
        // A name that is no longer than the one before but for a digit.
        let Ok(next) = Origin::try_from(format!("{issuer}/{year}h{half}").as_str()) else { break };
        ahead.push(next);
    }
    ahead
}

/// The issuer, the year and the half of `cash.bank.example/gw07/2026h2`.
fn parse(name: &str) -> Option<(&str, (u16, u8))> {
    let (issuer, half_year) = name.rsplit_once('/')?;
    let (year, half) = half_year.split_once('h')?;
    let half = match half {
        "1" => 1,
        "2" => 2,
        _ => return None,
    };
    let is_year = year.len() == 4 && year.bytes().all(|b| b.is_ascii_digit());
    Some((issuer, (year.parse().ok().filter(|_| is_year)?, half)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(name: &str) -> Vec<String> {
        let ahead = half_years_after(&Origin::try_from(name).unwrap(), 3);
        ahead.iter().map(|origin| origin.as_str().to_owned()).collect()
    }

    #[test]
    fn half_years_follow_one_another() {
        assert_eq!(
            after("a.example/gw/2026h1"),
            ["a.example/gw/2026h2", "a.example/gw/2027h1", "a.example/gw/2027h2"]
        );
        assert_eq!(after("gw/2026h2"), ["gw/2027h1", "gw/2027h2", "gw/2028h1"]);
    }

    #[test]
    fn a_ledger_of_another_name_has_no_next_one() {
        let others = ["gw", "2026h1", "gw/log-of-logs", "gw/2026h3", "gw/26h1", "gw/+026h1"];
        for name in others.iter().filter(|name| Origin::try_from(**name).is_ok()) {
            assert!(after(name).is_empty(), "{name}");
        }
        assert_eq!(after("gw/9999h2"), ["gw/10000h1", "gw/10000h2", "gw/10001h1"]);
    }
}
