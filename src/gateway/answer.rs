//! An answer as it is kept beside its receipt, so that a retry gets the same one.

use serde::{Deserialize, Serialize};

use super::error::GatewayError;
use super::request::{Answer, FootageSalt, Logged, Salts};
use crate::crypto::Digest;
use crate::domain::decision::{Outcome, StepUp};
use crate::domain::reason::{NextScreen, Reason};
use crate::domain::time::UnixMillis;

/// The part of an answer that its receipt does not hold, and the outcome for convenience.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptAnswer {
    outcome: String,
    cap_minor: Option<i64>,
    until: Option<UnixMillis>,
    step_up: Option<String>,
    reasons: Vec<String>,
    next_screen: String,
    attempts_left: u32,
    transaction_salt: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    footage_salt: Option<String>,
}

impl KeptAnswer {
    /// What is kept of a decision.
    pub fn new(
        outcome: &Outcome,
        reasons: &[Reason],
        next_screen: NextScreen,
        attempts_left: u32,
        salts: &Salts,
    ) -> Self {
        Self {
            outcome: outcome.as_str().to_owned(),
            cap_minor: outcome.cap_minor(),
            until: outcome.until(),
            step_up: outcome.step_up().map(|what| what.as_str().to_owned()),
            reasons: reasons.iter().map(|reason| reason.code().to_owned()).collect(),
            next_screen: next_screen.code().to_owned(),
            attempts_left,
            transaction_salt: Digest::new(salts.transaction).hex(),
            footage_salt: salts.footage.map(|FootageSalt(bytes)| Digest::new(bytes).hex()),
        }
    }

    /// The answer with its receipt.
    pub fn with_receipt(self, receipt: Logged) -> Result<Answer, GatewayError> {
        let outcome = self.outcome()?;
        let footage = self.footage_salt.as_deref().map(salt).transpose()?.map(FootageSalt);
        let reasons =
            self.reasons.iter().map(|code| Reason::from_code(code)).collect::<Result<_, _>>();
        Ok(Answer {
            outcome,
            reasons: reasons.map_err(|cause| GatewayError::internal(KEPT, cause))?,
            next_screen: NextScreen::from_code(&self.next_screen)
                .ok_or(GatewayError::broken(KEPT))?,
            attempts_left: self.attempts_left,
            salts: Salts { transaction: salt(&self.transaction_salt)?, footage },
            receipt,
        })
    }

    fn outcome(&self) -> Result<Outcome, GatewayError> {
        let broken = GatewayError::broken(KEPT);
        Ok(match (self.outcome.as_str(), self.until, self.cap_minor, self.step_up.as_deref()) {
            ("APPROVED", ..) => Outcome::Approved,
            ("APPROVED_CAPPED", Some(until), Some(cap_minor), _) => {
                Outcome::ApprovedCapped { cap_minor, until }
            }
            ("STEP_UP", _, _, Some(word)) => {
                Outcome::StepUp { what: StepUp::from_word(word).ok_or(broken)? }
            }
            ("DENIED", ..) => Outcome::Denied,
            ("HELD", Some(until), ..) => Outcome::Held { until },
            ("INCONCLUSIVE", ..) => Outcome::Inconclusive,
            _ => return Err(broken),
        })
    }
}

fn salt(hex: &str) -> Result<[u8; 32], GatewayError> {
    let digest = Digest::from_hex(hex).map_err(|cause| GatewayError::internal(KEPT, cause))?;
    Ok(*digest.as_bytes())
}

const KEPT: &str = "a kept answer does not parse";
