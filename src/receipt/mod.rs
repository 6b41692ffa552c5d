//! Receipt bodies, their issue and their verification.
