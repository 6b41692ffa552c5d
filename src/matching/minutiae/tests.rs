use std::f32::consts::PI;

use proptest::prelude::*;

use super::synthetic::{SYNTHETIC_MODEL, SyntheticFinger, Wear};
use super::*;
use crate::domain::finger::{FingerView, Minutia, MinutiaKind};

fn score(a: &FingerView, b: &FingerView) -> f32 {
    likeness(&PreparedView::new(a), &PreparedView::new(b), &mut Scratch::default())
}

fn impression(finger: u64, number: u64) -> FingerView {
    SyntheticFinger::new(finger, 40).impression(number, Wear::ORDINARY)
}

/// Only turned and shifted.
fn posed(finger: u64, turn: f32, shift: f32) -> FingerView {
    let minutiae = still(finger).minutiae().to_vec();
    let (sin, cos) = turn.sin_cos();
    let moved = minutiae.iter().map(|minutia| {
        let (x, y) = (minutia.x() - 300.0, minutia.y() - 300.0);
        let (x, y) = (cos * x + sin * y + 300.0 + shift, cos * y - sin * x + 300.0 - shift);
        Minutia::new(x, y, minutia.angle() + turn, minutia.kind(), minutia.quality()).unwrap()
    });
    FingerView::new(SYNTHETIC_MODEL, moved.collect())
}

fn still(finger: u64) -> FingerView {
    let wear = Wear {
        turn_max: 0.0,
        shift_max_px: 0.0,
        stretch_max_px: 0.0,
        jitter_px: 0.0,
        jitter_angle: 0.0,
        missed: 0.0,
        false_finds: 0.0,
    };
    SyntheticFinger::new(finger, 40).impression(0, wear)
}

fn median(mut scores: Vec<f32>) -> f32 {
    scores.sort_by(f32::total_cmp);
    scores[scores.len() / 2]
}

#[test]
fn every_mate_is_liker_than_every_stranger() {
    let mates = (0..60).map(|finger| score(&impression(finger, 1), &impression(finger, 2)));
    let strangers = (0..60).flat_map(|finger| {
        (1..4).map(move |step| score(&impression(finger, 1), &impression(finger + step, 2)))
    });
    let worst_mate = mates.fold(f32::MAX, f32::min);
    let best_stranger = strangers.fold(0.0, f32::max);
    assert!(worst_mate > 2.0 * best_stranger, "{worst_mate} {best_stranger}");
}

#[test]
fn the_quick_look_tells_them_apart_too() {
    let look = |a: &FingerView, b: &FingerView| {
        agreement(&PreparedView::new(a), &PreparedView::new(b), &mut Scratch::default())
    };
    for finger in 0..30 {
        let mate = look(&impression(finger, 1), &impression(finger, 2));
        let stranger = look(&impression(finger, 1), &impression(finger + 1, 2));
        assert!(mate > 2.0 * stranger, "{finger}: {mate} {stranger}");
    }
}

#[test]
fn wear_makes_less_alike() {
    let at = |missed: f32, stretch_max_px: f32| {
        let wear = Wear { stretch_max_px, missed, ..Wear::ORDINARY };
        let scores = (0..25).map(|number| {
            let finger = SyntheticFinger::new(number, 40);
            score(&finger.impression(1, wear), &finger.impression(2, wear))
        });
        median(scores.collect())
    };
    let ladder = [at(0.0, 0.0), at(0.1, 3.0), at(0.25, 8.0), at(0.5, 12.0)];
    assert!(ladder.is_sorted_by(|a, b| a > b), "{ladder:?}");
    assert!(ladder[3] > 0.0);
}

#[test]
fn stretched_skin_still_matches() {
    let wear = Wear { stretch_max_px: 12.0, ..Wear::ORDINARY };
    for finger in 0..20 {
        let owner = SyntheticFinger::new(finger, 40);
        let mate = score(&owner.impression(1, wear), &owner.impression(2, wear));
        let stranger = score(&owner.impression(1, wear), &impression(finger + 1, 2));
        assert!(mate > 2.0 * stranger, "{finger}: {mate} {stranger}");
    }
}

#[test]
fn a_turn_and_a_shift_change_little() {
    for finger in 0..10 {
        let whole = score(&still(finger), &still(finger));
        for (turn, shift) in [(0.3, 40.0), (-0.7, -25.0), (1.1, 0.0)] {
            let moved = score(&still(finger), &posed(finger, turn, shift));
            assert!((moved - whole).abs() < 0.05 * whole, "{finger} {turn}: {moved} {whole}");
        }
    }
}

#[test]
fn a_finger_upside_down_or_in_a_mirror_is_a_stranger() {
    for finger in 0..10 {
        let prepared = PreparedView::new(&still(finger));
        let scratch = &mut Scratch::default();
        let whole = likeness(&prepared, &prepared, scratch);
        let mirrored = likeness(&prepared, &prepared.mirrored(), scratch);
        let turned = score(&still(finger), &posed(finger, PI, 0.0));
        assert!(mirrored < 0.2 * whole && turned < 0.2 * whole, "{mirrored} {turned} {whole}");
        assert_eq!(prepared.mirrored().len(), prepared.len());
    }
}

#[test]
fn few_minutiae_match_nothing_not_even_themselves() {
    let minutiae = still(1).minutiae().to_vec();
    for count in 0..6 {
        let few = FingerView::new(SYNTHETIC_MODEL, minutiae[..count].to_vec());
        assert_eq!(score(&few, &few).to_bits(), 0.0f32.to_bits(), "{count}");
        assert_eq!(score(&few, &still(1)).to_bits(), 0.0f32.to_bits(), "{count}");
    }
}

#[test]
fn kinds_that_differ_count_less() {
    let other = still(1).minutiae().to_vec().into_iter().map(|minutia| {
        let kind = match minutia.kind() {
            MinutiaKind::Ending => MinutiaKind::Bifurcation,
            _ => MinutiaKind::Ending,
        };
        Minutia::new(minutia.x(), minutia.y(), minutia.angle(), kind, minutia.quality()).unwrap()
    });
    let other = FingerView::new(SYNTHETIC_MODEL, other.collect());
    let (same, changed) = (score(&still(1), &still(1)), score(&still(1), &other));
    assert!((changed - 0.5 * same).abs() < 0.01 * same, "{changed} {same}");
}

#[test]
fn debug_shows_no_place() {
    let view = PreparedView::new(&still(1));
    assert_eq!(format!("{view:?}"), format!("PreparedView(40 minutiae of {SYNTHETIC_MODEL})"));
    assert_eq!(format!("{:?}", Scratch::default()), "Scratch");
}

fn any_view() -> impl Strategy<Value = FingerView> {
    // Crowded on purpose: places and directions that coincide.
    let kinds = [MinutiaKind::Ending, MinutiaKind::Bifurcation, MinutiaKind::Other];
    let minutia = (0u16..60, 0u16..60, 0u8..16, 0usize..3, 0u8..=10).prop_map(move |at| {
        let (x, y, angle, kind, quality) = at;
        let (x, y) = (f32::from(x) * 5.0, f32::from(y) * 5.0);
        let (angle, quality) = (f32::from(angle) * PI / 8.0, f32::from(quality) / 10.0);
        Minutia::new(x, y, angle, kinds[kind], quality).unwrap()
    });
    prop::collection::vec(minutia, 0..130)
        .prop_map(|minutiae| FingerView::new(SYNTHETIC_MODEL, minutiae))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_two_views_give_a_number_whichever_comes_first(a in any_view(), b in any_view()) {
        let scratch = &mut Scratch::default();
        let (a, b) = (PreparedView::new(&a), PreparedView::new(&b));
        let one = likeness(&a, &b, scratch);
        prop_assert!((0.0..10.0).contains(&one), "{}", one);
        // In the same scratch, the other way round, and in a fresh one.
        prop_assert_eq!(one.to_bits(), likeness(&b, &a, scratch).to_bits());
        prop_assert_eq!(one.to_bits(), likeness(&a, &b, &mut Scratch::default()).to_bits());
        prop_assert!((0.0..200.0).contains(&agreement(&a, &b, scratch)));
    }

    #[test]
    fn the_order_of_minutiae_changes_nothing(
        order in Just((0..40usize).collect::<Vec<_>>()).prop_shuffle(),
        finger in 0u64..1_000,
    ) {
        let (view, mate) = (still(finger), impression(finger, 3));
        let shuffled = order.iter().map(|at| view.minutiae()[*at]).collect();
        let shuffled = FingerView::new(SYNTHETIC_MODEL, shuffled);
        prop_assert_eq!(score(&view, &mate).to_bits(), score(&shuffled, &mate).to_bits());
    }
}
