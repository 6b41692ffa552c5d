//! The first scene, by the pack that a fresh clone has: enrolments, impostors, nonsense, repetitions.

use anyhow::{Result, bail};
use tonic::transport::Channel;

use super::super::enroll::{Enrolled, Person, enroll, faces};
use super::super::terminal;
use super::super::verify::Visit;
use super::fingers;
use super::pictures::{Album, bomb, side_by_side, wall};
use super::stage::{Stage, consent};
use crate::pki::Role;
use crate::proto::{Decision, HolderVerification};

/// The scene's terminal.
const TERMINAL: &str = "ATM-DEMO";

/// What everybody wants: 10,000 tenge.
const AMOUNT_MINOR: i64 = 1_000_000;

/// What the enroller is asked, and what is to come of it.
struct Newcomer {
    what: &'static str,
    iin: &'static str,
    card: Option<&'static str>,
    images: Vec<Vec<u8>>,
    expected: &'static str,
}

/// Everybody who comes to be enrolled. The numbers are nobody's: their month is 00.
fn newcomers(album: &Album) -> [Newcomer; 6] {
    let Album { obama, obama2, obama3, biden, astronaut } = album;
    [
        Newcomer {
            what: "enrol B. Obama from two photographs",
            iin: "000000300017",
            card: Some("card-obama"),
            images: vec![obama.clone(), obama2.clone()],
            expected: "ACTIVE",
        },
        Newcomer {
            what: "enrol J. Biden from one",
            iin: "000000300029",
            card: Some("card-biden"),
            images: vec![biden.clone()],
            expected: "ACTIVE",
        },
        Newcomer {
            what: "enrol E. Collins from one",
            iin: "000000300030",
            card: Some("card-collins"),
            images: vec![astronaut.clone()],
            expected: "ACTIVE",
        },
        Newcomer {
            what: "one person under a second IIN",
            iin: "000000300042",
            card: None,
            images: vec![obama3.clone()],
            expected: "PENDING_DUPLICATE",
        },
        Newcomer {
            what: "two people under one IIN",
            iin: "000000300054",
            card: None,
            images: vec![biden.clone(), astronaut.clone()],
            expected: "PENDING_DUPLICATE CAP_CAPTURES_DISAGREE",
        },
        Newcomer {
            what: "an IIN with a mistyped digit",
            iin: "000000300018",
            card: None,
            images: vec![obama.clone()],
            expected: "error REQ_INVALID",
        },
    ]
}

/// Who was enrolled, in the order of [`newcomers`]; none where that was refused.
pub(super) type EnrolledPeople = Vec<Option<Enrolled>>;

/// The machine, the desk, and what happens at them.
struct Scene<'a, 's> {
    stage: &'a mut Stage<'s>,
    album: &'a Album,
    terminal: Channel,
    enroller: Channel,
}

/// Plays the whole scene.
pub(super) async fn play(stage: &mut Stage<'_>, album: &Album) -> Result<EnrolledPeople> {
    stage.begin("At the machine, by the pack dev");
    let admin = stage.channel(Role::Admin, "dev").await?;
    terminal::register(&stage.place.pki, admin, TERMINAL).await?;
    let terminal = stage.channel(Role::Terminal, TERMINAL).await?;
    let enroller = stage.channel(Role::Enroller, "dev").await?;
    let mut scene = Scene { stage, album, terminal, enroller };
    let people = scene.enrolments().await?;
    scene.withdrawals().await?;
    scene.nonsense().await?;
    fingers::play(scene.stage, &scene.terminal, &scene.enroller).await?;
    scene.repetitions().await?;
    scene.three_wrong_tries().await?;
    Ok(people)
}

impl Scene<'_, '_> {
    async fn enrolments(&mut self) -> Result<EnrolledPeople> {
        let mut people = Vec::new();
        for Newcomer { what, iin, card, images, expected } in newcomers(self.album) {
            let (iin, card) = (iin.to_owned(), card.map(ToOwned::to_owned));
            let person = Person { iin, card, consent: consent(), captures: faces(images) };
            let call = enroll(self.enroller.clone(), person);
            people.push(self.stage.play(what, expected, call).await?);
        }
        Ok(people)
    }

    async fn withdrawals(&mut self) -> Result<()> {
        let Album { obama3, biden, astronaut, .. } = self.album;
        self.capture(
            "Obama withdraws, a photograph not seen before",
            "card-obama",
            obama3,
            "APPROVED",
        )
        .await?;
        self.capture("Biden withdraws", "card-biden", biden, "APPROVED").await?;
        self.capture("Collins withdraws", "card-collins", astronaut, "APPROVED").await?;
        let denied = "DENIED MAT_NOT_CONFIRMED";
        self.capture("Biden with Obama's card", "card-obama", biden, denied).await?;
        self.capture("a card of nobody enrolled", "card-of-nobody", biden, denied).await
    }

    async fn nonsense(&mut self) -> Result<()> {
        let couple = side_by_side(&self.album.obama, &self.album.biden)?;
        let half = self.album.obama.get(..self.album.obama.len() / 2).unwrap_or_default();
        for (what, image, expected) in [
            ("a wall and no face", wall()?.as_slice(), "INCONCLUSIVE CAP_NO_FACE"),
            ("two faces", &couple, "INCONCLUSIVE CAP_MULTIPLE_FACES"),
            ("half a JPEG", half, "error CAP_UNREADABLE"),
            ("a header that claims 20,000×20,000", &bomb(), "error CAP_UNREADABLE"),
        ] {
            self.capture(what, "card-obama", image, expected).await?;
        }
        Ok(())
    }

    async fn repetitions(&mut self) -> Result<()> {
        let Album { obama3: image, biden: other, .. } = self.album;
        let visit = self.stage.withdrawal("card-obama", AMOUNT_MINOR);
        let challenge = visit.begin(self.terminal.clone()).await?;
        let lost = "a withdrawal whose answer gets lost";
        let first = self.send(lost, &visit, &challenge, 1, image, "APPROVED").await?;
        let repeated = "the same again: the same receipt";
        let again = self.send(repeated, &visit, &challenge, 1, image, "APPROVED").await?;
        if first.is_none() || first != again {
            bail!("a retry got another answer");
        }
        let reused = "the same transaction, other content";
        self.send(reused, &visit, &challenge, 1, other, "error REQ_ID_REUSED").await?;
        let used = "the used challenge for the next try";
        self.send(used, &visit, &challenge, 2, image, "error CAP_STALE").await?;
        Ok(())
    }

    async fn three_wrong_tries(&mut self) -> Result<()> {
        let Album { obama3: right, biden: wrong, .. } = self.album;
        // A stranger without the card's PIN: their tries count against the terminal, and lock nobody out.
        let holder = HolderVerification::None;
        let visit = Visit { holder, ..self.stage.withdrawal("card-obama", AMOUNT_MINOR) };
        for attempt in 1..=3 {
            let challenge = visit.begin(self.terminal.clone()).await?;
            let what = format!("wrong try {attempt} of 3");
            self.send(&what, &visit, &challenge, attempt, wrong, "DENIED MAT_NOT_CONFIRMED")
                .await?;
        }
        let challenge = visit.begin(self.terminal.clone()).await?;
        let denied = "DENIED MAT_NOT_CONFIRMED LIM_ATTEMPTS";
        self.send("the right face, too late", &visit, &challenge, 4, right, denied).await?;
        Ok(())
    }

    /// A transaction of one capture.
    async fn capture(
        &mut self,
        what: &str,
        card: &str,
        image: &[u8],
        expected: &'static str,
    ) -> Result<()> {
        let visit = self.stage.withdrawal(card, AMOUNT_MINOR);
        self.stage.visit(what, expected, &visit, &self.terminal, image).await.map(drop)
    }

    /// One `Verify`.
    async fn send(
        &mut self,
        what: &str,
        visit: &Visit,
        challenge: &[u8],
        attempt: u32,
        image: &[u8],
        expected: &'static str,
    ) -> Result<Option<Decision>> {
        let terminal = self.terminal.clone();
        let call = visit.verify(terminal, challenge.to_vec(), attempt, image.to_vec());
        self.stage.play(what, expected, call).await
    }
}
