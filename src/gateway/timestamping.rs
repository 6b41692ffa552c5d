//! Time-stamps of checkpoints: a clock that is neither this gateway's nor a witness's.
//!
//! An authority (RFC 3161) is asked in the background. Its answer is kept only after it was verified as an
//! auditor will verify it.

use std::sync::Arc;
use std::time::Duration;

use super::error::GatewayError;
use super::ledger_view::LedgerView;
use super::postbox::{Postbox, PostboxError};
use crate::clock::Clock;
use crate::crypto::{Entropy, StampAuthorities, random_bytes};
use crate::ledger::{
    Checkpoint, CheckpointError, TimestampError, TimestampRequest, TimestampToken,
};
use crate::store::{Store, TimestampRow};

/// Who puts time-stamps on the ledger's checkpoints.
#[derive(Debug)]
pub struct Timestamping {
    /// Where the authority is asked.
    pub postbox: Arc<dyn Postbox>,
    /// The authorities that its certificate must lead to.
    pub authorities: StampAuthorities,
    /// From one time-stamp to the next.
    pub interval: Duration,
}

/// What the task works with.
pub(super) struct Desk {
    pub asked: Timestamping,
    pub store: Arc<dyn Store>,
    pub view: Arc<LedgerView>,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
}

/// Asks for a time-stamp of the latest checkpoint whenever one is due; ends when it is aborted.
pub(super) async fn work(desk: Desk) {
    let mut pause = PAUSE_MIN;
    loop {
        match desk.stamp_if_due().await {
            Ok(()) => pause = PAUSE_MIN,
            Err(error) => {
                let address = desk.asked.postbox.address();
                tracing::warn!(%address, error = ?error, "no time-stamp was obtained");
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
        tokio::time::sleep(pause.min(desk.asked.interval)).await;
    }
}

impl Desk {
    async fn stamp_if_due(&self) -> Result<(), StampError> {
        let origin = self.view.read(|open, _, _| open.clone())?;
        let Some(row) = self.store.latest_checkpoint(origin.as_str()).await.map_err(stored)? else {
            return Ok(());
        };
        let now = self.clock.now();
        let interval_ms = i64::try_from(self.asked.interval.as_millis()).unwrap_or(i64::MAX);
        let last = self.store.latest_timestamp(origin.as_str()).await.map_err(stored)?;
        let is_due = last
            .is_none_or(|last| last.size < row.size && last.time.plus_millis(interval_ms) <= now);
        if row.size == 0 || !is_due {
            return Ok(());
        }
        let text = Checkpoint::peek(&row.text)?.text();
        let chance = random_bytes(&*self.entropy).map_err(GatewayError::from)?;
        let request = TimestampRequest::new(&text, chance);
        let answer = self.asked.postbox.post(QUERY, request.as_bytes().to_vec()).await?;
        if answer.status != 200 || answer.content_type != REPLY {
            return Err(StampError::Refused(answer.status));
        }
        let authorities = &self.asked.authorities;
        let token =
            TimestampToken::verify(&answer.body, &text, Some(request.nonce()), authorities)?;
        let after_ms = token.time.get() - self.clock.now().get();
        if after_ms.abs() > CLOCK_SKEW_MAX_MS {
            return Err(StampError::Time(token.time.rfc3339()));
        }
        let mut unit = self.store.begin().await.map_err(stored)?;
        let stamp = TimestampRow { size: row.size, answer: answer.body, time: token.time };
        unit.insert_timestamp(origin.as_str(), &stamp).await.map_err(stored)?;
        Ok(unit.commit().await.map_err(stored)?)
    }
}

fn stored(cause: crate::store::StoreError) -> GatewayError {
    GatewayError::from(cause)
}

/// No time-stamp this time.
#[derive(Debug, thiserror::Error)]
enum StampError {
    #[error("the time-stamping authority cannot be asked")]
    Postbox(#[from] PostboxError),
    #[error("the time-stamping authority answered with the status {0}, or no time-stamp")]
    Refused(u16),
    /// Kept, it would stand for the next ones until its time has come.
    #[error("the time-stamping authority's clock says {0}, and this gateway's another time")]
    Time(String),
    #[error("the time-stamp proves nothing")]
    Token(#[from] TimestampError),
    #[error("the kept checkpoint cannot be read")]
    Checkpoint(#[from] CheckpointError),
    #[error("the ledger cannot be read or written")]
    Ledger(#[from] GatewayError),
}

const QUERY: &str = "application/timestamp-query";
const REPLY: &str = "application/timestamp-reply";
/// From one look at what is due to the next.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// Longest pause before an authority that fails is asked again.
const PAUSE_MAX: Duration = Duration::from_mins(5);
/// How far its clock may stand from this gateway's before it is said.
const CLOCK_SKEW_MAX_MS: i64 = 5_000;
