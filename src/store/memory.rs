//! A fault-injecting store in memory, for tests.
