//! How alike are two impressions of a finger, by their minutiae?
//!
//! 1. [`prepared`]: around each minutia its nearest neighbours, told in its own frame (how far, in
//!    which bearing, turned by how much), which no shift or turn of the finger changes.
//! 2. [`seed`]: pairs of minutiae whose neighbourhoods are alike, each a guess of how one impression
//!    lies on the other; guesses that agree vote for each other.
//! 3. [`alignment`]: for the best guesses, minutiae are paired one to one, the rigid motion is fitted
//!    to the pairs, and what is left over, the skin's stretch, is taken from the pairs around.
//! 4. [`score`]: what is paired, against what lies in the part that both impressions show.
//!
//! Lengths are pixels at 500 an inch, where ridges lie about nine pixels apart. The constants are
//! physical: how far skin stretches, how well a direction is known. They were chosen on the first B sets
//! of FVC2000, 2002 and 2004, whole and cut down to small parts, and on another vendor's templates, in
//! round numbers from the middle of where they hardly matter: a quarter more or less of any one changes
//! little. UPEK was looked at only afterwards.
//!
//! This is a matcher of nearest-neighbour structures, an old idea (Hrechak and `McHugh`, Pattern
//! Recognition 23(8), 1990; Jiang and Yau, ICPR 2000), and not the patented minutia cylinder-code.

mod alignment;
mod neighbourhood;
mod prepared;
mod score;
mod scratch;
mod seed;
#[cfg(any(test, feature = "test-support"))]
pub mod synthetic;
#[cfg(test)]
mod tests;

pub use prepared::PreparedView;
pub use scratch::Scratch;

pub(super) use score::likeness;
pub(super) use seed::agreement;
