//! Room that comparisons work in, kept from one to the next.

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::alignment::Pair;
use super::neighbourhood::Tolerances;
use super::seed::{Seed, Seeds};

/// The room of one thread's comparisons: nothing is allocated once it has grown.
///
/// Wiped when dropped; `Debug` shows nothing of it.
#[derive(Default, ZeroizeOnDrop)]
pub struct Scratch {
    /// By minutia of the first view.
    pub(super) tolerances: Vec<Tolerances>,
    /// How alike two minutiae's neighbourhoods are, row by row of the first view.
    pub(super) alike: Vec<f32>,
    pub(super) seeds: Seeds,
    /// The same, strongest vote first.
    pub(super) ranked: Vec<Seed>,
    /// The first view's minutiae, where they lie on the second.
    pub(super) x: Vec<f32>,
    pub(super) y: Vec<f32>,
    /// The same, moved by the rigid motion alone.
    pub(super) rigid_x: Vec<f32>,
    pub(super) rigid_y: Vec<f32>,
    pub(super) candidates: Vec<Pair>,
    pub(super) pairs: Vec<Pair>,
    /// By minutia of the second view: the nearest one of the first, in square pixels.
    pub(super) nearest: Vec<f32>,
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scratch")
    }
}

impl Zeroize for Seeds {
    fn zeroize(&mut self) {
        let Self { likeness, from_x, from_y, to_x, to_y, rotation, a, b } = self;
        likeness.zeroize();
        from_x.zeroize();
        from_y.zeroize();
        to_x.zeroize();
        to_y.zeroize();
        rotation.zeroize();
        a.zeroize();
        b.zeroize();
    }
}
