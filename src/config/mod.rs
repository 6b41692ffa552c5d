//! `raw` (serde, exactly as written) is checked into `Config`; all faults are reported at once.
