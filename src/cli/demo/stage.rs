//! What every scene stands on: the gateway, who calls it, and what came out beside what was to come.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use indicatif::ProgressBar;
use serde_json::json;
use tonic::Status;
use tonic::transport::Channel;

use super::super::camera::Camera;
use super::super::client::{connect, explain, reason_of};
use super::super::enroll::Enrolled;
use super::super::verify::Visit;
use crate::clock::{Clock as _, SystemClock};
use crate::domain::turnover::BankZone;
use crate::pki::{Directory, Role};
use crate::proto;
use crate::proto::audit_service_client::AuditServiceClient;
use crate::proto::verification_service_client::VerificationServiceClient;
use crate::proto::{Consent, Decision, Outcome, consent};

/// One thing that happened, and what the script says of it.
pub(super) struct Row {
    pub scene: &'static str,
    what: String,
    said: Said,
    rules: Vec<String>,
    /// `OUTCOME REASON… by RULE`; the rule is left out where the script does not care.
    expected: &'static str,
    millis: u128,
}

/// An answer as the table has it.
#[derive(Default)]
pub(super) struct Said {
    pub answer: String,
    /// More of the answer, for people.
    pub note: String,
    pub reasons: Vec<String>,
    pub index: Option<u64>,
}

/// What a call of the script answers.
pub(super) trait Answer {
    fn said(&self) -> Said;
}

impl Row {
    /// Whether it came out as scripted.
    pub fn as_scripted(&self) -> bool {
        let (words, rule) = match self.expected.split_once(" by ") {
            Some((words, rule)) => (words, Some(rule)),
            None => (self.expected, None),
        };
        let by_rule = rule.is_none_or(|rule| self.rules.iter().any(|held| held == rule));
        let Said { answer, reasons, .. } = &self.said;
        by_rule && words == format!("{answer} {}", reasons.join(" ")).trim()
    }

    pub fn cells(&self) -> [String; 7] {
        let mark = if self.as_scripted() { "✓" } else { "✗" };
        [
            mark.to_owned(),
            self.what.clone(),
            format!("{}\n{}", self.said.answer, self.said.note).trim_end().to_owned(),
            self.said.reasons.join("\n"),
            self.rules.join("\n"),
            self.millis.to_string(),
            self.said.index.map(|index| index.to_string()).unwrap_or_default(),
        ]
    }

    pub fn to_json(&self) -> serde_json::Value {
        json!({
            "scene": self.scene,
            "what": self.what,
            "answer": self.said.answer,
            "reason": self.said.reasons.join(" "),
            "rules": self.rules,
            "expected": self.expected,
            "as_scripted": self.as_scripted(),
            "ms": u64::try_from(self.millis).unwrap_or(u64::MAX),
            "index": self.said.index,
        })
    }
}

/// Where the demonstration's gateway is.
pub(super) struct Place {
    pub pki: Directory,
    pub address: String,
    /// The pack of the day in Almaty.
    pub pack: PathBuf,
    pub tenant: crate::domain::id::TenantId,
    pub zone: BankZone,
}

/// The gateway, and what has happened so far.
pub(super) struct Stage<'a> {
    pub rows: Vec<Row>,
    pub place: &'a Place,
    /// The bank's day.
    pub today: String,
    scene: &'static str,
    auditor: Channel,
    progress: &'a ProgressBar,
    transactions: u32,
}

impl<'a> Stage<'a> {
    pub async fn new(place: &'a Place, progress: &'a ProgressBar) -> Result<Self> {
        let now = SystemClock.now();
        let today =
            place.zone.day(now).map_or_else(|| now.rfc3339(), |day| day.as_str().to_owned());
        Ok(Self {
            rows: Vec::new(),
            place,
            today,
            scene: "",
            auditor: connect(&place.pki, &place.address, Role::Auditor, "dev").await?,
            progress,
            transactions: 0,
        })
    }

    /// What happens from now on belongs to this scene.
    pub fn begin(&mut self, scene: &'static str) {
        self.scene = scene;
    }

    /// A connection of one who has a certificate.
    pub async fn channel(&self, role: Role, name: &str) -> Result<Channel> {
        connect(&self.place.pki, &self.place.address, role, name).await
    }

    /// The auditor's connection.
    pub fn auditor(&self) -> Channel {
        self.auditor.clone()
    }

    /// A withdrawal under the host's next number.
    pub fn withdrawal(&mut self, card: &str, amount_minor: i64) -> Visit {
        self.transactions += 1;
        let host_id = format!("DEMO-{}", self.transactions);
        Visit::withdrawal(card, host_id, self.today.clone(), amount_minor, "KZT")
    }

    /// Lets something happen and notes what came out; the answer, unless it was an error.
    pub async fn play<T: Answer>(
        &mut self,
        what: &str,
        expected: &'static str,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<Option<T>> {
        self.progress.set_message(what.to_owned());
        let begun = Instant::now();
        let result = call.await;
        let millis = begun.elapsed().as_millis();
        let said = match &result {
            Ok(answer) => answer.said(),
            Err(status) => {
                tracing::debug!("{}", explain(status));
                Said {
                    answer: "error".to_owned(),
                    reasons: vec![reason_of(status)],
                    ..Said::default()
                }
            }
        };
        let rules = self.rules(said.index).await?;
        let (scene, what) = (self.scene, what.to_owned());
        self.rows.push(Row { scene, what, said, rules, expected, millis });
        Ok(result.ok())
    }

    /// A transaction of one capture.
    pub async fn visit(
        &mut self,
        what: &str,
        expected: &'static str,
        visit: &Visit,
        terminal: &Channel,
        image: &[u8],
    ) -> Result<Option<Decision>> {
        let challenge = visit.begin(terminal.clone()).await?;
        let call = visit.verify(terminal.clone(), challenge, 1, image.to_vec());
        self.play(what, expected, call).await
    }

    /// A transaction of one capture that the terminal's camera signs.
    pub async fn signed_visit(
        &mut self,
        what: &str,
        expected: &'static str,
        visit: &Visit,
        (terminal, camera): (&Channel, &Camera),
        image: &[u8],
    ) -> Result<Option<Decision>> {
        let opened = visit.opened(terminal.clone()).await?;
        let envelope = camera.sign(&opened, image)?;
        let mut request = visit.capture(opened.challenge, 1, image.to_vec());
        request.envelopes = vec![envelope];
        let mut terminal = VerificationServiceClient::new(terminal.clone());
        let call = async { Ok(terminal.verify(request).await?.into_inner()) };
        self.play(what, expected, call).await
    }

    /// The rules that held, as the audit record of a decision has them.
    async fn rules(&self, index: Option<u64>) -> Result<Vec<String>> {
        let Some(index) = index else { return Ok(Vec::new()) };
        let request =
            proto::GetAuditRecordRequest { index, ..proto::GetAuditRecordRequest::default() };
        let answer = AuditServiceClient::new(self.auditor()).get_audit_record(request).await;
        // Only decisions have such a record.
        let Ok(answer) = answer else { return Ok(Vec::new()) };
        let record: serde_json::Value = serde_json::from_slice(&answer.into_inner().record)?;
        let rules = record.get("rules").and_then(|rules| rules.as_array()).into_iter().flatten();
        Ok(rules.filter_map(|rule| rule.as_str().map(ToOwned::to_owned)).collect())
    }
}

/// Consent as the demonstration's people gave it.
pub(super) fn consent() -> Consent {
    Consent {
        operator: "Demonstration Bank".to_owned(),
        subject: "a person in a public photograph".to_owned(),
        purpose: "demonstration".to_owned(),
        given_at: SystemClock.now().rfc3339(),
        evidence_ref: "demo/README.md".to_owned(),
        term: Some(consent::Term::Days(1)),
    }
}

impl Answer for Decision {
    fn said(&self) -> Said {
        let word = match self.outcome() {
            Outcome::Unspecified => "?",
            outcome => outcome.as_str_name().trim_start_matches("OUTCOME_"),
        };
        Said {
            answer: word.to_owned(),
            note: self.cap.as_ref().map(up_to).unwrap_or_default(),
            reasons: self.reasons.iter().map(|reason| reason.code.clone()).collect(),
            index: self.position.as_ref().map(|position| position.index),
        }
    }
}

/// A cap as a person reads it; everybody here wants tenge.
fn up_to(cap: &proto::Cap) -> String {
    format!("up to {} KZT", cap.amount_minor / 100)
}

impl Answer for Enrolled {
    fn said(&self) -> Said {
        let word = self.status.as_str_name().trim_start_matches("CUSTOMER_STATUS_");
        let reasons = self.captures.iter().flat_map(|(_, reasons)| reasons.clone()).collect();
        Said { answer: word.to_owned(), reasons, ..Said::default() }
    }
}

/// An act whose answer is that it was done, and where that stands in the ledger.
pub(super) struct Done(pub &'static str, pub Option<proto::LogPosition>);

impl Answer for Done {
    fn said(&self) -> Said {
        let Self(word, position) = self;
        let index = position.as_ref().map(|position| position.index);
        Said { answer: (*word).to_owned(), index, ..Said::default() }
    }
}
