//! A witness at `POST /add-checkpoint` (c2sp.org/tlog-witness), and the auditor's page at `/audit`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{Method, StatusCode};

use super::server::{Answer, Bounds, Call, Pages, TEXT};
use super::{AUDIT, AUDIT_PAGE, HTML};
use crate::clock::Clock;
use crate::config::WitnessConfig;
use crate::ledger::SUBMISSION_BYTES_MAX;
use crate::witness::{Refusal, Witness};

/// A witness as a site.
#[derive(Debug)]
pub struct WitnessPages {
    witness: Arc<Witness>,
    clock: Arc<dyn Clock>,
}

impl WitnessPages {
    /// The site of this witness.
    #[must_use]
    pub fn new(witness: Witness, clock: Arc<dyn Clock>) -> Self {
        Self { witness: Arc::new(witness), clock }
    }

    /// The server's bounds for it.
    #[must_use]
    pub const fn bounds(config: &WitnessConfig) -> Bounds {
        Bounds {
            connections_max: config.connections_max,
            connections_per_address_max: config.connections_per_address_max,
            requests_per_second_max: config.requests_per_second_max,
            requests_per_address_per_second_max: config.requests_per_address_per_second_max,
            behind_proxy: config.behind_proxy,
            body_bytes_max: SUBMISSION_BYTES_MAX,
            headers_max: config.deadline,
            call_max: config.deadline,
            connection_age_max: Duration::from_hours(1),
            drain_max: config.deadline,
        }
    }

    async fn add_checkpoint(&self, call: Call) -> Answer {
        let (witness, now) = (Arc::clone(&self.witness), self.clock.now());
        // It waits for the disk.
        let work = move || witness.add_checkpoint(&call.body, now);
        let Ok(done) = tokio::task::spawn_blocking(work).await else {
            return Answer::text(StatusCode::INTERNAL_SERVER_ERROR, "the witness failed");
        };
        match done {
            Ok(line) => {
                Answer { status: StatusCode::OK, content_type: TEXT, body: line.into_bytes() }
            }
            Err(Refusal::Conflict { size }) => Answer {
                status: StatusCode::CONFLICT,
                content_type: LOG_SIZE,
                body: format!("{size}\n").into_bytes(),
            },
            Err(refusal) => refused(&refusal),
        }
    }
}

#[async_trait]
impl Pages for WitnessPages {
    async fn answer(&self, call: Call) -> Answer {
        match (call.method.clone(), call.path.as_str()) {
            (Method::POST, ADD_CHECKPOINT) => self.add_checkpoint(call).await,
            (_, ADD_CHECKPOINT) => {
                Answer::text(StatusCode::METHOD_NOT_ALLOWED, "POST a checkpoint here")
            }
            // One who is not the bank hands out what checks the bank.
            (Method::GET, AUDIT) => {
                Answer { status: StatusCode::OK, content_type: HTML, body: AUDIT_PAGE.into() }
            }
            // For people and for probes: who this is.
            (Method::GET, "/") => Answer::text(StatusCode::OK, self.witness.key().to_string()),
            _ => Answer::text(StatusCode::NOT_FOUND, "there is nothing here"),
        }
    }
}

fn refused(refusal: &Refusal) -> Answer {
    let status = StatusCode::from_u16(refusal.status());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status.is_server_error() {
        tracing::error!(error = ?refusal, "no checkpoint was cosigned");
    } else {
        tracing::info!(status = status.as_u16(), error = %refusal, "a request was refused");
    }
    Answer::text(status, refusal.to_string())
}

const ADD_CHECKPOINT: &str = "/add-checkpoint";
/// As the specification names the body of a conflict.
const LOG_SIZE: &str = "text/x.tlog.size";
