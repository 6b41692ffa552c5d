//! The demonstration's script: who comes to the machine, and what must come out.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use indicatif::ProgressBar;
use serde_json::json;
use tonic::Status;
use tonic::transport::Channel;

use super::client::{connect, explain, reason_of};
use super::enroll::{Enrolled, Person, enroll};
use super::terminal;
use super::verify::Withdrawal;
use crate::capture::{DecodeLimits, DecodedImage, EncodedImage, decode, encode_png};
use crate::clock::{Clock as _, SystemClock};
use crate::pki::{Directory, Role};
use crate::proto::{Consent, CustomerStatus, Decision, Outcome, consent};

/// The demonstration's terminal.
const TERMINAL: &str = "ATM-DEMO";

/// One thing that happened, and what the script says of it.
pub(super) struct Row {
    what: String,
    answer: String,
    reason: String,
    expected: String,
    millis: u128,
    index: Option<u64>,
}

impl Row {
    /// Whether it came out as scripted.
    pub fn as_scripted(&self) -> bool {
        self.expected == format!("{} {}", self.answer, self.reason).trim()
    }

    pub fn cells(&self) -> [String; 6] {
        let mark = if self.as_scripted() { "✓" } else { "✗" };
        [
            mark.to_owned(),
            self.what.clone(),
            self.answer.clone(),
            self.reason.clone(),
            self.millis.to_string(),
            self.index.map(|index| index.to_string()).unwrap_or_default(),
        ]
    }

    pub fn to_json(&self) -> serde_json::Value {
        json!({
            "what": self.what,
            "answer": self.answer,
            "reason": self.reason,
            "expected": self.expected,
            "as_scripted": self.as_scripted(),
            "ms": u64::try_from(self.millis).unwrap_or(u64::MAX),
            "index": self.index,
        })
    }
}

/// The photographs, as files.
struct Album {
    obama: Vec<u8>,
    obama2: Vec<u8>,
    obama3: Vec<u8>,
    biden: Vec<u8>,
    astronaut: Vec<u8>,
}

impl Album {
    fn read(dir: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read(&path).with_context(|| {
                format!(
                    "{} cannot be read; run this in the project's folder or give --photographs",
                    path.display()
                )
            })
        };
        Ok(Self {
            obama: read("obama.jpg")?,
            obama2: read("obama2.jpg")?,
            obama3: read("obama3.jpg")?,
            biden: read("biden.jpg")?,
            astronaut: read("astronaut.png")?,
        })
    }
}

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

/// A day at the terminal, as far as it has gone.
pub(super) struct Day<'a> {
    pub rows: Vec<Row>,
    terminal: Channel,
    enroller: Channel,
    auditor: Channel,
    album: Album,
    progress: &'a ProgressBar,
    business_date: String,
    transactions: u32,
}

impl<'a> Day<'a> {
    /// Registers the terminal and opens the photographs.
    pub async fn begin(
        pki: &Directory,
        address: &str,
        album: &Path,
        progress: &'a ProgressBar,
    ) -> Result<Self> {
        let admin = connect(pki, address, Role::Admin, "dev").await?;
        terminal::register(pki, admin, TERMINAL).await?;
        Ok(Self {
            rows: Vec::new(),
            terminal: connect(pki, address, Role::Terminal, TERMINAL).await?,
            enroller: connect(pki, address, Role::Enroller, "dev").await?,
            auditor: connect(pki, address, Role::Auditor, "dev").await?,
            album: Album::read(album)?,
            progress,
            business_date: SystemClock.now().rfc3339().chars().take(10).collect(),
            transactions: 0,
        })
    }

    /// The auditor's connection.
    pub fn auditor(&self) -> Channel {
        self.auditor.clone()
    }

    /// The whole script.
    pub async fn play(&mut self) -> Result<()> {
        self.enrolments().await?;
        self.withdrawals().await?;
        self.nonsense().await?;
        self.repetitions().await?;
        self.three_wrong_tries().await
    }

    async fn enrolments(&mut self) -> Result<()> {
        for Newcomer { what, iin, card, images, expected } in newcomers(&self.album) {
            let person = Person {
                iin: iin.to_owned(),
                card: card.map(ToOwned::to_owned),
                consent: Consent {
                    operator: "Demonstration Bank".to_owned(),
                    subject: "a person in a public photograph".to_owned(),
                    purpose: "demonstration".to_owned(),
                    given_at: SystemClock.now().rfc3339(),
                    evidence_ref: "demo/README.md".to_owned(),
                    term: Some(consent::Term::Days(1)),
                },
                images,
            };
            self.progress.set_message(what.to_owned());
            let begun = Instant::now();
            let result = enroll(self.enroller.clone(), person).await;
            let (answer, reason) = enrolment_words(&result);
            self.rows.push(Row {
                what: what.to_owned(),
                answer,
                reason,
                expected: expected.to_owned(),
                millis: begun.elapsed().as_millis(),
                index: None,
            });
        }
        Ok(())
    }

    async fn withdrawals(&mut self) -> Result<()> {
        let Album { obama3, biden, astronaut, .. } = &self.album;
        let (obama3, biden, astronaut) = (obama3.clone(), biden.clone(), astronaut.clone());
        self.capture(
            "Obama withdraws, a photograph not seen before",
            "card-obama",
            obama3,
            "APPROVED",
        )
        .await?;
        self.capture("Biden withdraws", "card-biden", biden.clone(), "APPROVED").await?;
        self.capture("Collins withdraws", "card-collins", astronaut, "APPROVED").await?;
        self.capture(
            "Biden with Obama's card",
            "card-obama",
            biden.clone(),
            "DENIED MAT_NOT_CONFIRMED",
        )
        .await?;
        self.capture(
            "a card of nobody enrolled",
            "card-of-nobody",
            biden,
            "DENIED MAT_NOT_CONFIRMED",
        )
        .await
    }

    async fn nonsense(&mut self) -> Result<()> {
        let wall = encode_png(&wall()?).context("the wall cannot be encoded")?;
        let couple = encode_png(&side_by_side(&self.album.obama, &self.album.biden)?);
        let couple = couple.context("the couple cannot be encoded")?;
        let half = self.album.obama.get(..self.album.obama.len() / 2).unwrap_or_default().to_vec();
        self.capture("a wall and no face", "card-obama", wall, "INCONCLUSIVE CAP_NO_FACE").await?;
        self.capture("two faces", "card-obama", couple, "INCONCLUSIVE CAP_MULTIPLE_FACES").await?;
        self.capture("half a JPEG", "card-obama", half, "error CAP_UNREADABLE").await?;
        self.capture(
            "a header that claims 20,000×20,000",
            "card-obama",
            bomb(),
            "error CAP_UNREADABLE",
        )
        .await
    }

    async fn repetitions(&mut self) -> Result<()> {
        let (image, other) = (self.album.obama3.clone(), self.album.biden.clone());
        let withdrawal = self.next_withdrawal("card-obama");
        let challenge = withdrawal.begin(self.terminal.clone()).await?;
        let first = self
            .send(
                "a withdrawal whose answer gets lost",
                &withdrawal,
                &challenge,
                1,
                &image,
                "APPROVED",
            )
            .await?;
        let again = self
            .send(
                "the same again: the same receipt",
                &withdrawal,
                &challenge,
                1,
                &image,
                "APPROVED",
            )
            .await?;
        if first != again || first.is_none() {
            bail!("a retry got another receipt");
        }
        self.send(
            "the same transaction, other content",
            &withdrawal,
            &challenge,
            1,
            &other,
            "error REQ_ID_REUSED",
        )
        .await?;
        self.send(
            "the used challenge for the next try",
            &withdrawal,
            &challenge,
            2,
            &image,
            "error CAP_STALE",
        )
        .await?;
        Ok(())
    }

    async fn three_wrong_tries(&mut self) -> Result<()> {
        let (right, wrong) = (self.album.obama3.clone(), self.album.biden.clone());
        let withdrawal = self.next_withdrawal("card-obama");
        for attempt in 1..=3 {
            let challenge = withdrawal.begin(self.terminal.clone()).await?;
            let what = format!("wrong try {attempt} of 3");
            self.send(&what, &withdrawal, &challenge, attempt, &wrong, "DENIED MAT_NOT_CONFIRMED")
                .await?;
        }
        let challenge = withdrawal.begin(self.terminal.clone()).await?;
        self.send(
            "the right face, too late",
            &withdrawal,
            &challenge,
            4,
            &right,
            "DENIED MAT_NOT_CONFIRMED LIM_ATTEMPTS",
        )
        .await?;
        Ok(())
    }

    fn next_withdrawal(&mut self, card: &str) -> Withdrawal {
        self.transactions += 1;
        Withdrawal {
            card: card.to_owned(),
            host_id: format!("DEMO-{}", self.transactions),
            business_date: self.business_date.clone(),
            amount_minor: 5_000_000,
            currency: "KZT".to_owned(),
            language: "en".to_owned(),
        }
    }

    /// A transaction of one capture.
    async fn capture(
        &mut self,
        what: &str,
        card: &str,
        image: Vec<u8>,
        expected: &str,
    ) -> Result<()> {
        let withdrawal = self.next_withdrawal(card);
        let challenge = withdrawal.begin(self.terminal.clone()).await?;
        self.send(what, &withdrawal, &challenge, 1, &image, expected).await.map(drop)
    }

    /// One `Verify`; the index of its receipt.
    async fn send(
        &mut self,
        what: &str,
        withdrawal: &Withdrawal,
        challenge: &[u8],
        attempt: u32,
        image: &[u8],
        expected: &str,
    ) -> Result<Option<u64>> {
        self.progress.set_message(what.to_owned());
        let begun = Instant::now();
        let result = withdrawal
            .verify(self.terminal.clone(), challenge.to_vec(), attempt, image.to_vec())
            .await;
        let (answer, reason, index) = decision_words(&result);
        self.rows.push(Row {
            what: what.to_owned(),
            answer,
            reason,
            expected: expected.to_owned(),
            millis: begun.elapsed().as_millis(),
            index,
        });
        Ok(index)
    }
}

fn decision_words(result: &Result<Decision, Status>) -> (String, String, Option<u64>) {
    match result {
        Ok(decision) => {
            let word = decision.outcome().as_str_name().trim_start_matches("OUTCOME_");
            let word = if decision.outcome() == Outcome::Unspecified { "?" } else { word };
            let reasons: Vec<_> =
                decision.reasons.iter().map(|reason| reason.code.as_str()).collect();
            (
                word.to_owned(),
                reasons.join(" "),
                decision.position.as_ref().map(|position| position.index),
            )
        }
        Err(status) => {
            tracing::debug!("{}", explain(status));
            ("error".to_owned(), reason_of(status), None)
        }
    }
}

fn enrolment_words(result: &Result<Enrolled, Status>) -> (String, String) {
    match result {
        Ok(enrolled) => {
            let status: CustomerStatus = enrolled.status;
            let word = status.as_str_name().trim_start_matches("CUSTOMER_STATUS_");
            let reasons: Vec<_> =
                enrolled.captures.iter().flat_map(|(_, reasons)| reasons.clone()).collect();
            (word.to_owned(), reasons.join(" "))
        }
        Err(status) => ("error".to_owned(), reason_of(status)),
    }
}

/// A picture of a wall: soft shades and nobody.
fn wall() -> Result<DecodedImage> {
    let (width, height) = (640_u32, 480_u32);
    let shade = |x: u32, y: u32| u8::try_from(90 + (x + y) % 128 / 2).unwrap_or(128);
    let rgb = (0..height).flat_map(|y| (0..width).flat_map(move |x| [shade(x, y); 3])).collect();
    DecodedImage::from_rgb(width, height, rgb).context("the wall")
}

/// Two photographs in one picture, each cropped to the same height.
fn side_by_side(left: &[u8], right: &[u8]) -> Result<DecodedImage> {
    let limits = DecodeLimits::default();
    let left = decode(&EncodedImage::new(left.to_vec()), &limits)?;
    let right = decode(&EncodedImage::new(right.to_vec()), &limits)?;
    let height = left.height().min(right.height());
    let row = |picture: &DecodedImage, y: u32| -> Vec<u8> {
        let bytes = usize::try_from(picture.width()).unwrap_or(0) * 3;
        let mut rows = picture.rgb().chunks_exact(bytes.max(1));
        rows.nth(usize::try_from(y).unwrap_or(0)).unwrap_or_default().to_vec()
    };
    let rgb = (0..height).flat_map(|y| [row(&left, y), row(&right, y)].concat()).collect();
    DecodedImage::from_rgb(left.width() + right.width(), height, rgb).context("the couple")
}

/// The first bytes of a JPEG that claims 20,000×20,000 pixels.
fn bomb() -> Vec<u8> {
    let side = 20_000_u16.to_be_bytes();
    let mut file = vec![0xff, 0xd8, 0xff, 0xc0, 0x00, 0x11, 0x08];
    file.extend(side);
    file.extend(side);
    file.extend([3, 1, 0x22, 0, 2, 0x11, 0, 3, 0x11, 0, 0xff, 0xd9]);
    file
}
