//! Time as an argument: `Clock`, `SystemClock`, and `ManualClock` for tests.
