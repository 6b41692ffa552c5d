//! Compare, fuse, calibrate (score to false match rate), search (1:N).
