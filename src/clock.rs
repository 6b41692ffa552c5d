//! Time as an argument: `Clock`, `SystemClock`, and `ManualClock` for tests.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::domain::time::UnixMillis;

/// Where the present comes from. Nothing else in the crate asks the operating system.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The present, in milliseconds since 1970-01-01T00:00:00Z.
    fn now(&self) -> UnixMillis;
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place that reads the system's clock"
        )]
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        // A clock before 1970 reads as 1970: later than no receipt, so the gateway refuses to run.
        let millis = since_epoch.map_or(0, |elapsed| elapsed.as_millis());
        UnixMillis::new(i64::try_from(millis).unwrap_or(i64::MAX))
    }
}

/// A clock that stands still until a test moves it.
#[cfg(any(test, feature = "test-support"))]
#[derive(Debug)]
pub struct ManualClock(std::sync::atomic::AtomicI64);

#[cfg(any(test, feature = "test-support"))]
impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn new(now: UnixMillis) -> Self {
        Self(std::sync::atomic::AtomicI64::new(now.get()))
    }

    /// Moves the hand by `millis`, backwards too.
    pub fn advance_millis(&self, millis: i64) {
        self.0.fetch_add(millis, std::sync::atomic::Ordering::SeqCst);
    }
}

#[cfg(any(test, feature = "test-support"))]
impl Clock for ManualClock {
    fn now(&self) -> UnixMillis {
        UnixMillis::new(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
}
