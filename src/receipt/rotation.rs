//! How one key register follows another: a key takes over, a key is revoked, and what may never change.
//!
//! Ranges are closed and opened at an index that the ledger has not reached yet, so that at each index
//! one key signs and a register that was exported earlier stays true of what it covered.

use super::{KeyAlgorithm, KeyRange, KeyRecord, KeyRegister, KeyRegisterError, KeyStatus, KeyUse};
use crate::crypto::PublicKey;
use crate::domain::time::UnixMillis;

/// Where one of a gateway's ledgers stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LedgerPlace {
    /// Its name.
    pub origin: String,
    /// What is done with it.
    pub state: LedgerState,
    /// The first index that nothing was signed at yet.
    pub next_index: u64,
}

/// What is done with a ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LedgerState {
    /// It takes no more entries.
    Closed,
    /// It takes entries.
    Current,
    /// It will, in a half-year to come.
    Ahead,
    /// It is the log of logs; its entries are closed ledgers, and it has no receipts.
    LogOfLogs,
}

/// A key that is to take over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewKey {
    /// Its name.
    pub kid: String,
    /// What it is for: receipts or checkpoints.
    pub usage: KeyUse,
    /// Its public half.
    pub public_key: PublicKey,
    /// It signs nothing before.
    pub not_before: UnixMillis,
}

impl KeyRegister {
    /// The name of the next key for a use: `receipt-2` after `receipt-1`.
    #[must_use]
    pub fn next_kid(&self, usage: KeyUse) -> String {
        let word = match usage {
            KeyUse::Receipt => "receipt",
            KeyUse::Ledger => "ledger",
            KeyUse::Witness => "witness",
            KeyUse::Root => "root",
        };
        let numbers = self.keys().iter().filter_map(|key| {
            let number = key.kid.strip_prefix(word)?.strip_prefix('-')?;
            number.parse::<u64>().ok()
        });
        format!("{word}-{}", numbers.max().unwrap_or(0).saturating_add(1))
    }

    /// The register in which `new` takes over: in the current ledger `margin` entries ahead, in the ones
    /// to come from their first entry on. Whoever signed until then is retired.
    ///
    /// # Errors
    ///
    /// [`KeyRegisterError`] when the key's id is taken, or a key has an open range in a ledger that is
    /// not among `places`.
    pub fn rotated(
        &self,
        new: NewKey,
        places: &[LedgerPlace],
        margin: u64,
    ) -> Result<Self, KeyRegisterError> {
        let NewKey { kid, usage, public_key, not_before } = new;
        let starts: Vec<(&str, Option<u64>)> = places
            .iter()
            .map(|place| (place.origin.as_str(), self.takes_over_at(place, usage, margin)))
            .collect();
        let mut keys = self.keys().to_vec();
        let replaced =
            keys.iter_mut().filter(|key| key.usage == usage && key.status == KeyStatus::Active);
        for key in replaced {
            key.status = KeyStatus::Retired;
            key.origins.retain_mut(|range| {
                let place = places.iter().find(|place| place.origin == range.origin);
                let Some(place) = place else { return true };
                // A closed ledger has no key that takes over; its range ends where it does.
                let end = self.takes_over_at(place, usage, margin).unwrap_or(place.next_index);
                close(range, end)
            });
        }
        let opened = |(origin, start): (&str, Option<u64>)| {
            let first_index = start?;
            Some(KeyRange { origin: origin.to_owned(), first_index, last_index: None })
        };
        keys.push(KeyRecord {
            kid,
            algorithm: KeyAlgorithm::of(public_key.kind()),
            usage,
            public_key,
            not_before,
            not_after: None,
            origins: starts.into_iter().filter_map(opened).collect(),
            status: KeyStatus::Active,
        });
        Self::new(keys)
    }

    /// The register in which a key that another has taken over from is revoked.
    ///
    /// # Errors
    ///
    /// [`KeyRegisterError`] when there is no such key, or it has an open range still.
    pub fn revoked(&self, kid: &str) -> Result<Self, KeyRegisterError> {
        let mut keys = self.keys().to_vec();
        let Some(key) = keys.iter_mut().find(|key| key.kid == kid) else {
            let rule = "the register does not name it";
            return Err(KeyRegisterError::Key { kid: kid.to_owned(), rule });
        };
        key.status = KeyStatus::Revoked;
        Self::new(keys)
    }

    /// Whether `next` may take this register's place, with the gateway's ledgers where they stand: what
    /// was signed stays signed by the same keys, and somebody signs on.
    ///
    /// # Errors
    ///
    /// [`SuccessionError`] names the first thing that would not hold.
    pub fn precedes(&self, next: &Self, places: &[LedgerPlace]) -> Result<(), SuccessionError> {
        for old in self.keys() {
            let kid = || old.kid.clone();
            let new = next.key(&old.kid).ok_or_else(|| SuccessionError::Altered { kid: kid() })?;
            if !is_same_key(old, new) {
                return Err(SuccessionError::Altered { kid: kid() });
            }
            if rank(new.status) < rank(old.status) {
                return Err(SuccessionError::Revived { kid: kid() });
            }
        }
        let mut roots = next.keys().iter().filter(|key| key.usage == KeyUse::Root);
        if let Some(key) = roots.find(|key| self.key(&key.kid).is_none()) {
            return Err(SuccessionError::Altered { kid: key.kid.clone() });
        }
        for usage in [KeyUse::Receipt, KeyUse::Ledger] {
            for key in next.keys().iter().filter(|key| key.usage == usage) {
                let strange =
                    |range: &&KeyRange| !places.iter().any(|place| place.origin == range.origin);
                if let Some(range) = key.origins.iter().find(strange) {
                    return Err(SuccessionError::Strange { origin: range.origin.clone() });
                }
            }
            for place in places {
                if self.signed(usage, place) != next.signed(usage, place) {
                    let (origin, index) = (place.origin.clone(), place.next_index);
                    return Err(SuccessionError::Passed { origin, index });
                }
                if place.state == LedgerState::Current && !next.signs_on(usage, place) {
                    let origin = place.origin.clone();
                    return Err(SuccessionError::Unsigned { origin });
                }
            }
        }
        Ok(())
    }

    /// Which keys were to sign what was signed already, in the order of the indices.
    fn signed(&self, usage: KeyUse, place: &LedgerPlace) -> Vec<(u64, u64, &str)> {
        let Some(last_signed) = place.next_index.checked_sub(1) else { return Vec::new() };
        let keys = self.keys().iter().filter(|key| key.usage == usage);
        let ranges = keys.flat_map(|key| key.origins.iter().map(|range| (range, key.kid.as_str())));
        let mut signed: Vec<_> = ranges
            .filter(|(range, _)| range.origin == place.origin && range.first_index <= last_signed)
            .map(|(range, kid)| {
                let last = range.last_index.unwrap_or(u64::MAX).min(last_signed);
                (range.first_index, last, kid)
            })
            .collect();
        signed.sort_unstable();
        signed
    }

    /// Whether keys follow one another without a gap and without an end.
    fn signs_on(&self, usage: KeyUse, place: &LedgerPlace) -> bool {
        let keys = self.keys().iter().filter(|key| key.usage == usage);
        let mut ranges: Vec<&KeyRange> =
            keys.flat_map(|key| &key.origins).filter(|it| it.origin == place.origin).collect();
        ranges.sort_by_key(|range| range.first_index);
        let mut index = place.next_index;
        for range in ranges {
            match range.last_index {
                Some(last) if last < index => {}
                _ if range.first_index > index => return false,
                Some(last) => index = last.saturating_add(1),
                None => return true,
            }
        }
        false
    }

    /// Where a new key's range begins; none where it gets no range. A change that was made before and
    /// not reached yet stays.
    fn takes_over_at(&self, place: &LedgerPlace, usage: KeyUse, margin: u64) -> Option<u64> {
        let wanted = match (place.state, usage) {
            (LedgerState::Closed, _) | (LedgerState::LogOfLogs, KeyUse::Receipt) => return None,
            (LedgerState::Current, _) => place.next_index.saturating_add(margin),
            (LedgerState::Ahead | LedgerState::LogOfLogs, _) => place.next_index,
        };
        let settled = self
            .keys()
            .iter()
            .filter(|key| key.usage == usage && key.status != KeyStatus::Active)
            .flat_map(|key| &key.origins)
            .filter(|range| range.origin == place.origin)
            .filter_map(|range| range.last_index?.checked_add(1));
        Some(settled.fold(wanted, u64::max))
    }
}

/// Ends a range before `end`; whether anything is left of it.
fn close(range: &mut KeyRange, end: u64) -> bool {
    let Some(last) = end.checked_sub(1).filter(|last| *last >= range.first_index) else {
        return false;
    };
    range.last_index = Some(range.last_index.map_or(last, |old| old.min(last)));
    true
}

fn is_same_key(old: &KeyRecord, new: &KeyRecord) -> bool {
    (old.usage, old.algorithm, old.public_key, old.not_before, old.not_after)
        == (new.usage, new.algorithm, new.public_key, new.not_before, new.not_after)
}

const fn rank(status: KeyStatus) -> u8 {
    match status {
        KeyStatus::Active => 0,
        KeyStatus::Retired => 1,
        KeyStatus::Revoked => 2,
    }
}

/// A register that must not follow the one in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SuccessionError {
    /// A key is gone or another, or a root key is new.
    #[error("key {kid:?} is not the one of the register in force")]
    Altered {
        /// Which.
        kid: String,
    },
    /// A retired or revoked key would sign again.
    #[error("key {kid:?} was retired or revoked, and stays so")]
    Revived {
        /// Which.
        kid: String,
    },
    /// A range changes where something was signed already: the ledger went on meanwhile.
    #[error("ledger {origin:?} has passed the change: it stands at index {index}")]
    Passed {
        /// Which ledger.
        origin: String,
        /// Its next index.
        index: u64,
    },
    /// From some index on nobody would sign.
    #[error("from some index of ledger {origin:?} on no key would sign")]
    Unsigned {
        /// Which ledger.
        origin: String,
    },
    /// A key has a range in somebody else's ledger.
    #[error("{origin:?} is no ledger of this gateway")]
    Strange {
        /// Which ledger.
        origin: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Ed25519Key, P256Key, SeededEntropy, Signer as _};

    const NOW: &str = "a.example/gw/2026h2";
    const NEXT: &str = "a.example/gw/2027h1";
    const PAST: &str = "a.example/gw/2026h1";
    const LOGS: &str = "a.example/gw/log-of-logs";

    fn public(seed: u64) -> PublicKey {
        Ed25519Key::generate(&SeededEntropy::new(seed)).unwrap().public_key()
    }

    fn place(origin: &str, state: LedgerState, next_index: u64) -> LedgerPlace {
        LedgerPlace { origin: origin.to_owned(), state, next_index }
    }

    fn places(now: u64) -> Vec<LedgerPlace> {
        vec![
            place(PAST, LedgerState::Closed, 40),
            place(NOW, LedgerState::Current, now),
            place(NEXT, LedgerState::Ahead, 0),
            place(LOGS, LedgerState::LogOfLogs, 1),
        ]
    }

    fn open(origin: &str) -> KeyRange {
        KeyRange { origin: origin.to_owned(), first_index: 0, last_index: None }
    }

    fn register() -> KeyRegister {
        let record = |kid: &str, usage, seed, origins: &[&str]| KeyRecord {
            kid: kid.to_owned(),
            algorithm: KeyAlgorithm::EdDsa,
            usage,
            public_key: public(seed),
            not_before: UnixMillis::new(0),
            not_after: None,
            origins: origins.iter().map(|origin| open(origin)).collect(),
            status: KeyStatus::Active,
        };
        KeyRegister::new(vec![
            record("root", KeyUse::Root, 1, &[]),
            record("receipt-1", KeyUse::Receipt, 2, &[PAST, NOW, NEXT]),
            record("ledger-1", KeyUse::Ledger, 3, &[PAST, NOW, NEXT, LOGS]),
        ])
        .unwrap()
    }

    fn new_key(kid: &str, usage: KeyUse, public_key: PublicKey) -> NewKey {
        NewKey { kid: kid.to_owned(), usage, public_key, not_before: UnixMillis::new(5) }
    }

    fn ranges(register: &KeyRegister, kid: &str) -> Vec<(String, u64, Option<u64>)> {
        let key = register.key(kid).unwrap();
        let range = |it: &KeyRange| (it.origin.clone(), it.first_index, it.last_index);
        key.origins.iter().map(range).collect()
    }

    #[test]
    fn a_new_key_takes_over_ahead_of_the_ledger_and_whole_in_the_ones_to_come() {
        let old = register();
        let p256 = P256Key::generate().unwrap().public_key();
        let kid = old.next_kid(KeyUse::Receipt);
        assert_eq!(kid, "receipt-2");
        let new = old.rotated(new_key(&kid, KeyUse::Receipt, p256), &places(100), 16).unwrap();
        let own = |origin: &str, first, last| (origin.to_owned(), first, last);
        assert_eq!(ranges(&new, "receipt-1"), [own(PAST, 0, Some(39)), own(NOW, 0, Some(115))]);
        assert_eq!(ranges(&new, "receipt-2"), [own(NOW, 116, None), own(NEXT, 0, None)]);
        assert_eq!(new.key("receipt-1").unwrap().status, KeyStatus::Retired);
        assert_eq!(new.key("receipt-2").unwrap().algorithm, KeyAlgorithm::Es256);
        assert_eq!(new.key("ledger-1"), old.key("ledger-1"));
        assert_eq!(old.precedes(&new, &places(100)), Ok(()));
        assert_eq!(old.precedes(&new, &places(116)), Ok(()));
        let passed = SuccessionError::Passed { origin: NOW.to_owned(), index: 117 };
        assert_eq!(old.precedes(&new, &places(117)), Err(passed));
        assert_eq!(new.next_kid(KeyUse::Receipt), "receipt-3");
    }

    #[test]
    fn a_ledger_key_also_takes_over_the_log_of_logs() {
        let old = register();
        let new = old.rotated(new_key("ledger-2", KeyUse::Ledger, public(9)), &places(100), 16);
        let new = new.unwrap();
        let own = |origin: &str, first, last| (origin.to_owned(), first, last);
        assert_eq!(
            ranges(&new, "ledger-1"),
            [own(PAST, 0, Some(39)), own(NOW, 0, Some(115)), own(LOGS, 0, Some(0))]
        );
        assert_eq!(
            ranges(&new, "ledger-2"),
            [own(NOW, 116, None), own(NEXT, 0, None), own(LOGS, 1, None)]
        );
        assert_eq!(old.precedes(&new, &places(100)), Ok(()));
        // A half-year ended meanwhile: one more ledger stands in the log of logs.
        let mut later = places(100);
        later[3].next_index = 2;
        assert!(matches!(old.precedes(&new, &later), Err(SuccessionError::Passed { .. })));
    }

    #[test]
    fn rotating_twice_before_the_ledger_moves_leaves_no_empty_range() {
        let second = register()
            .rotated(new_key("receipt-2", KeyUse::Receipt, public(8)), &places(0), 0)
            .unwrap();
        assert_eq!(ranges(&second, "receipt-1"), [(PAST.to_owned(), 0, Some(39))]);
        let third = second
            .rotated(new_key("receipt-3", KeyUse::Receipt, public(9)), &places(0), 4)
            .unwrap();
        assert_eq!(ranges(&third, "receipt-2"), [(NOW.to_owned(), 0, Some(3))]);
        assert_eq!(register().precedes(&third, &places(0)), Ok(()));
        // The change at 4 is not reached yet, and stays: the fourth key takes over there.
        let fourth = third
            .rotated(new_key("receipt-4", KeyUse::Receipt, public(10)), &places(1), 1)
            .unwrap();
        assert_eq!(ranges(&fourth, "receipt-2"), ranges(&third, "receipt-2"));
        assert_eq!(ranges(&fourth, "receipt-3"), []);
        assert_eq!(fourth.receipt_key(NOW, 3).unwrap().kid, "receipt-2");
        assert_eq!(fourth.receipt_key(NOW, 4).unwrap().kid, "receipt-4");
        assert_eq!(third.precedes(&fourth, &places(1)), Ok(()));
    }

    #[test]
    fn only_a_key_without_an_open_range_is_revoked() {
        let old = register();
        assert!(old.revoked("receipt-1").is_err());
        assert!(old.revoked("receipt-9").is_err());
        let rotated =
            old.rotated(new_key("r2", KeyUse::Receipt, public(9)), &places(7), 1).unwrap();
        let revoked = rotated.revoked("receipt-1").unwrap();
        assert_eq!(revoked.key("receipt-1").unwrap().status, KeyStatus::Revoked);
        assert_eq!(old.precedes(&revoked, &places(7)), Ok(()));
        let revived = SuccessionError::Revived { kid: "receipt-1".to_owned() };
        assert_eq!(revoked.precedes(&rotated, &places(7)), Err(revived));
    }

    #[test]
    fn what_a_successor_must_not_change_is_refused() {
        let old = register();
        let rotated = |margin| {
            old.rotated(new_key("receipt-2", KeyUse::Receipt, public(9)), &places(7), margin)
                .unwrap()
        };
        let altered = |change: &dyn Fn(&mut Vec<KeyRecord>)| {
            let mut keys = rotated(1).keys().to_vec();
            change(&mut keys);
            old.precedes(&KeyRegister::new(keys).unwrap(), &places(7)).map_err(
                |error| match error {
                    SuccessionError::Altered { .. } => "altered",
                    SuccessionError::Revived { .. } => "revived",
                    SuccessionError::Passed { .. } => "passed",
                    SuccessionError::Unsigned { .. } => "unsigned",
                    SuccessionError::Strange { .. } => "strange",
                },
            )
        };
        assert_eq!(altered(&|_| ()), Ok(()));
        assert_eq!(altered(&|keys| drop(keys.remove(1))), Err("altered"));
        assert_eq!(altered(&|keys| keys[0].public_key = public(50)), Err("altered"));
        assert_eq!(altered(&|keys| keys[1].not_before = UnixMillis::new(1)), Err("altered"));
        let second_root = |keys: &mut Vec<KeyRecord>| {
            keys.push(KeyRecord { kid: "root-2".into(), ..keys[0].clone() });
        };
        assert_eq!(altered(&second_root), Err("altered"));
        assert_eq!(altered(&|keys| keys[1].origins[0].last_index = Some(38)), Err("passed"));
        assert_eq!(altered(&|keys| keys[1].origins[1].last_index = Some(5)), Err("passed"));
        assert_eq!(altered(&|keys| keys[1].origins[1].first_index = 1), Err("passed"));
        // The old key ends at 7, the new one begins at 8: a gap or an end leaves nobody to sign.
        assert_eq!(altered(&|keys| keys[3].origins[0].first_index = 9), Err("unsigned"));
        assert_eq!(altered(&|keys| keys[3].origins[0].last_index = Some(9)), Err("unsigned"));
        assert_eq!(altered(&|keys| keys[3].origins.push(open("b.example"))), Err("strange"));
    }
}
