//! Callers counted by the address they come from, so that one of them cannot take what is there for all.
//!
//! A [`Crowd`] bounds how many connections one address holds at once, a [`Pace`] how many calls it makes
//! in a second. Both are asked before anything is spent on a caller, and neither waits.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// Where a caller comes from: an IPv4 address, or the network of 64 bits around an IPv6 address, since
/// whoever has one address of such a network has them all.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Peer(IpAddr);

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        // An IPv4 caller of a socket for both comes as `::ffff:192.0.2.1`.
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = address.to_bits() & NETWORK_MASK;
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// Who is connected, and how often.
#[derive(Debug)]
pub struct Crowd {
    per_peer_max: usize,
    here: Mutex<HashMap<Peer, usize>>,
}

impl Crowd {
    /// Nobody yet; no peer more often than `per_peer_max`.
    #[must_use]
    pub fn new(per_peer_max: usize) -> Arc<Self> {
        Arc::new(Self { per_peer_max, here: Mutex::default() })
    }

    /// A seat for one more connection of this peer; `None` when it holds as many as it may.
    #[must_use]
    pub fn enter(self: &Arc<Self>, peer: Peer) -> Option<Seat> {
        let mut here = self.locked();
        let count = here.get(&peer).copied().unwrap_or(0);
        if count >= self.per_peer_max {
            return None;
        }
        here.insert(peer, count + 1);
        drop(here);
        Some(Seat { crowd: Arc::clone(self), peer })
    }

    fn leave(&self, peer: Peer) {
        let mut here = self.locked();
        if let Some(count) = here.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                here.remove(&peer);
            }
        }
    }

    /// Every change under the lock is whole, so that a panic elsewhere leaves nothing half done.
    fn locked(&self) -> MutexGuard<'_, HashMap<Peer, usize>> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection's place in a [`Crowd`], given back when it is dropped.
#[derive(Debug)]
#[must_use = "a seat that is dropped is free again"]
pub struct Seat {
    crowd: Arc<Crowd>,
    peer: Peer,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.crowd.leave(self.peer);
    }
}

/// How often each peer may call.
#[derive(Debug)]
pub struct Pace {
    calls: DefaultKeyedRateLimiter<Peer>,
    asked: AtomicU32,
}

impl Pace {
    /// So many calls of each peer in a second, and as many at once.
    #[must_use]
    pub fn new(per_second_max: NonZeroU32) -> Self {
        let calls = RateLimiter::keyed(Quota::per_second(per_second_max));
        Self { calls, asked: AtomicU32::new(0) }
    }

    /// Counts a call, and says whether the peer may make it.
    #[must_use]
    pub fn admits(&self, peer: Peer) -> bool {
        // Peers whose calls are over are forgotten, or the memory of all who ever called would grow.
        if self.asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(FORGET_EVERY) {
            self.calls.retain_recent();
            self.calls.shrink_to_fit();
        }
        self.calls.check_key(&peer).is_ok()
    }
}

const NETWORK_MASK: u128 = !0 << 64;
const FORGET_EVERY: u32 = 8_192;

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        Peer::from(text.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn a_peer_is_an_ipv4_address_or_an_ipv6_network() {
        assert_eq!(peer("192.0.2.1"), peer("::ffff:192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
        assert_eq!(peer("2001:db8:0:7::1"), peer("2001:db8:0:7:ffff::2"));
        assert_ne!(peer("2001:db8:0:7::1"), peer("2001:db8:0:8::1"));
    }

    #[test]
    fn a_peer_has_so_many_seats_and_gets_them_back() {
        let crowd = Crowd::new(2);
        let (one, other) = (peer("192.0.2.1"), peer("192.0.2.2"));
        let first = crowd.enter(one).unwrap();
        let second = crowd.enter(one).unwrap();
        assert!(crowd.enter(one).is_none());
        let third = crowd.enter(other).unwrap();
        drop(first);
        let fourth = crowd.enter(one).unwrap();
        assert!(crowd.enter(one).is_none());
        drop((second, third, fourth));
        assert!(crowd.locked().is_empty(), "who has left is forgotten");
    }

    #[test]
    fn a_peer_at_its_pace_leaves_the_others_theirs() {
        let pace = Pace::new(NonZeroU32::new(3).unwrap());
        let (one, other) = (peer("192.0.2.1"), peer("192.0.2.2"));
        let admitted = (0..1_000).filter(|_| pace.admits(one)).count();
        assert!((3..100).contains(&admitted), "{admitted}");
        assert!(pace.admits(other));
    }

    #[test]
    fn who_called_long_ago_is_forgotten() {
        let pace = Pace::new(NonZeroU32::new(1_000_000).unwrap());
        for number in 0..3 * FORGET_EVERY {
            assert!(pace.admits(Peer::from(IpAddr::V4(number.into()))));
        }
        let kept = u32::try_from(pace.calls.len()).unwrap();
        assert!(kept <= 2 * FORGET_EVERY, "{kept}");
    }
}
