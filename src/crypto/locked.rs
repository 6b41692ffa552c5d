//! Keys on pages of their own, which the system is asked to keep out of its swap space.

use std::fmt;
use std::ops::Deref;

use region::LockGuard;

/// A key on memory pages that it shares with nothing else. Where the system allows it they are locked: what
/// is locked is not written to swap. Whoever holds a key of a whole database keeps it so.
///
/// `T` wipes itself when it is dropped; the pages are let go after that.
pub struct Locked<T> {
    // Before the guard, so that it is wiped while the pages are still held.
    key: Box<Page<T>>,
    guard: Option<LockGuard>,
}

/// Fills whole pages: a lock on a page that somebody else's lock shares would go with theirs.
#[repr(align(4096))]
struct Page<T>(T);

impl<T> Locked<T> {
    /// Takes a key in; [`Self::is_locked`] tells whether the system allowed it to be locked.
    #[must_use]
    pub fn new(key: T) -> Self {
        let key = Box::new(Page(key));
        let guard = region::lock(std::ptr::from_ref(&*key), size_of::<Page<T>>()).ok();
        Self { key, guard }
    }

    /// Whether the pages stay out of swap.
    #[must_use]
    pub const fn is_locked(&self) -> bool {
        self.guard.is_some()
    }
}

impl<T> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.key.0
    }
}

impl<T> fmt::Debug for Locked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Locked(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::super::SealingKey;
    use super::*;

    /// Kilobytes that this process has locked, by the kernel's own count.
    fn locked_kb() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse().unwrap()
    }

    #[test]
    fn a_key_lies_on_pages_of_its_own_that_the_kernel_counts_as_locked() {
        let before = locked_kb();
        let keys = [1, 2].map(|byte| Locked::new(SealingKey::new([byte; 32])));
        let [one, two] = keys.each_ref().map(|key| std::ptr::from_ref(&**key).addr());
        assert!(one.abs_diff(two) >= 4096 && one % 4096 == 0, "{one:x} {two:x}");
        assert_eq!(keys[1].expose(), &[2; 32]);
        assert!(!format!("{:?}", keys[0]).contains('1'));
        if keys.iter().all(Locked::is_locked) {
            assert!(locked_kb() >= before.max(8), "{before} {}", locked_kb());
        } else {
            eprintln!("skipped: this machine lets nobody lock memory (ulimit -l)");
        }
    }
}
