//! Use cases: verification, enrolment, outcome, audit; the sequencer; the bounded vision pool.
