//! The audit record of a decision: what an auditor under agreement may see and a terminal may not, and what a
//! replay begins from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Gateway;
use super::confirming::Confirming;
use super::error::GatewayError;
use super::sequencer::Slot;
use super::verification_job::VerificationJob;
use crate::crypto::Digest;
use crate::domain::decision::{Decision, Outcome, RuleId, SignCode};
use crate::domain::reason::Reason;
use crate::domain::sensor::SensorVerdict;
use crate::policy::Facts;
use crate::receipt::rid_text;

/// What looked at captures: of the same three the same scores come, bit for bit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LookedBy {
    /// SHA-256 of the program.
    pub build: String,
    /// The instructions that the models ran on.
    pub isa: String,
    /// SHA-256 of the models' manifest, which names each of them and states every parameter.
    pub manifest: String,
}

/// What a replay reads of a record. What only newer records have is optional.
#[derive(Deserialize)]
pub(super) struct Recorded {
    pub time: String,
    pub facts: Value,
    #[serde(default)]
    pub searched: bool,
    pub strength_tenth_db: Option<i64>,
    pub scores: Option<BTreeMap<String, String>>,
    pub looked_by: Option<LookedBy>,
    #[serde(default)]
    pub signed_by: Vec<RecordedSeal>,
    pub evidence: Option<String>,
    pub refusal: Option<String>,
    pub pack: String,
    pub outcome: String,
    pub rules_outcome: String,
    pub reasons: Vec<String>,
    pub rules: Vec<String>,
    pub models: Vec<String>,
    pub build: String,
}

/// What a replay reads of a sensor's envelope.
#[derive(Deserialize)]
pub(super) struct RecordedSeal {
    pub verdict: String,
}

impl Recorded {
    /// Whether a sensor took what it captured for an attack.
    pub fn is_suspected_by_sensor(&self) -> bool {
        self.signed_by.iter().any(|seal| seal.verdict == SensorVerdict::Suspect.as_str())
    }
}

impl Gateway {
    /// What looks at captures here.
    pub(super) fn looked_by(&self) -> LookedBy {
        LookedBy {
            build: self.settings.build.labelled(),
            isa: self.vision.instructions().to_owned(),
            manifest: self.vision.faces().manifest().digest.labelled(),
        }
    }
}

impl VerificationJob {
    /// Scores, quality, rules, and what is needed to find them again.
    pub(super) fn audit_record(
        &self,
        facts: &Facts,
        rules_outcome: Outcome,
        refusal: Option<Reason>,
        decision: &Decision,
        confirming: &Confirming,
        slot: &Slot,
    ) -> Result<Vec<u8>, GatewayError> {
        let record = json!({
            "v": 1,
            "rid": rid_text(&self.receipt),
            "time": slot.now.rfc3339(),
            // What no rule of the pack sees was not found out.
            "sees": self.pack.facts_seen(),
            "facts": facts.to_json(),
            // Whether the face was compared with everybody's: identification, which needs a legal basis.
            "searched": self.seen.was_searched(),
            "strength_tenth_db": self.seen.strength_tenth_db,
            "scores": self.seen.scores,
            "looked_by": self.looked_by,
            // Sensors' envelopes over the captures, where they are signed.
            "signed_by": self.signed_by.in_audit_record(),
            // The keys that the captures were sealed to, where nobody on the way could read them.
            "sealed_to": self.sealed_to,
            // Over a salt that lies with the captures: nobody can try pictures against it.
            "evidence": self.kept_hash.as_ref().map(Digest::labelled),
            "confirmation": confirming.in_audit_record(slot),
            // Why the rules' own decision does not stand, where it does not.
            "refusal": refusal.map(Reason::code),
            "quality": self.seen.quality,
            "pack": self.pack.hash().labelled(),
            "outcome": decision.outcome().as_str(),
            // Another one where the customer refused to confirm.
            "rules_outcome": rules_outcome.as_str(),
            "reasons": decision.reasons().iter().map(|reason| reason.code()).collect::<Vec<_>>(),
            "rules": decision.rules().iter().map(RuleId::as_str).collect::<Vec<_>>(),
            "signs": self
                .pack
                .signs(decision.rules())
                .iter()
                .map(SignCode::as_str)
                .collect::<Vec<_>>(),
            "models": self.models.iter().map(Digest::labelled).collect::<Vec<_>>(),
            "build": self.settings.build.labelled(),
        });
        serde_json::to_vec(&record).map_err(|cause| GatewayError::internal("audit record", cause))
    }
}
