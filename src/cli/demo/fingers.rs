//! Part of the first scene: somebody who is known by their fingers. The fingers are grown, nobody's.

use anyhow::{Context as _, Result};
use tonic::transport::Channel;

use super::super::enroll::{Person, enroll};
use super::stage::{Stage, consent};
use crate::capture::encode_grey_png;
use crate::domain::finger::FingerPosition::{RightIndex, RightMiddle};
use crate::domain::modality::Modality;
use crate::proto::Capture;
use crate::synth::Finger;

/// What everybody wants: 10,000 tenge.
const AMOUNT_MINOR: i64 = 1_000_000;

const CARD: &str = "card-madina";

/// Seeds of the fingers: Madina's index and middle finger, and two of somebody else.
const INDEX: u64 = 1;
const MIDDLE: u64 = 2;
const OTHERS: [u64; 2] = [3, 4];

/// Enrols two fingers by three impressions each, and lets them, and others, withdraw.
pub(super) async fn play(
    stage: &mut Stage<'_>,
    terminal: &Channel,
    enroller: &Channel,
) -> Result<()> {
    let mut captures = Vec::new();
    for impression in 1..=3 {
        captures.push((Modality::Finger(RightIndex), print(INDEX, impression)?));
        captures.push((Modality::Finger(RightMiddle), print(MIDDLE, impression)?));
    }
    let person = Person {
        iin: "000000300159".to_owned(),
        card: Some(CARD.to_owned()),
        consent: consent(),
        captures,
    };
    let call = enroll(enroller.clone(), person);
    stage.play("enrol Madina by two fingers, three impressions each", "ACTIVE", call).await?;
    let denied = "DENIED MAT_NOT_CONFIRMED";
    for (what, [index, middle], expected) in [
        ("Madina withdraws by two fingers", [INDEX, MIDDLE], "APPROVED"),
        ("somebody else's two fingers", OTHERS, denied),
        ("her index, somebody else's middle finger", [INDEX, OTHERS[0]], denied),
    ] {
        let mut visit = stage.withdrawal(CARD, AMOUNT_MINOR);
        visit.characteristics = vec![Modality::Finger(RightIndex), Modality::Finger(RightMiddle)];
        let challenge = visit.begin(terminal.clone()).await?;
        let captures = vec![print(index, 4)?, print(middle, 4)?];
        let call = visit.verify_all(terminal.clone(), challenge, 1, captures);
        stage.play(what, expected, call).await?;
    }
    Ok(())
}

/// An impression of a grown finger, as a scanner would send it.
fn print(seed: u64, impression: u64) -> Result<Capture> {
    let picture = Finger::new(seed).impression(impression);
    let image = encode_grey_png(&picture).context("a print cannot be encoded")?;
    Ok(Capture { image: image.into(), ..Capture::default() })
}
