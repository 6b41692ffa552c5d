//! Detect, align, quality, liveness, embed.
