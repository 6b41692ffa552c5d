//! The captures of a call of `Verify`, up to the moment at which they may be looked at.

use super::Gateway;
use super::envelope::{CaptureFor, SignedBy, least_level, require_level, require_sealed};
use super::error::GatewayError;
use super::look::check_captures;
use super::request::{Capture, Verify};
use super::sealing::{Call, Opened};
use super::session::Session;
use crate::crypto::Digest;
use crate::domain::id::TerminalId;
use crate::domain::time::UnixMillis;
use crate::policy::Bars;

/// Captures of which everything is checked that can be without a look at a pixel.
pub(super) struct Presented {
    /// As they are read: what was sealed is open.
    pub captures: Vec<Capture>,
    /// The keys that they were sealed to, where all of them were.
    pub sealed_to: Option<String>,
    pub signed_by: SignedBy,
    /// By which the captures are known again.
    pub capture_indices: Vec<Digest>,
}

impl Gateway {
    /// Opens what was sealed, checks what sensors signed, and refuses what was shown before.
    pub(super) async fn present(
        &self,
        session: &Session,
        terminal: &TerminalId,
        request: &Verify,
        bars: &Bars,
        arrived_at: UnixMillis,
    ) -> Result<Presented, GatewayError> {
        check_captures(&session.modalities()?, &request.captures)?;
        require_sealed(request.is_sealed(), bars)?;
        let answer = session.answer()?;
        let call = Call {
            purpose: CaptureFor::Verification,
            challenge: &request.challenge,
            answer: answer.as_ref(),
            terminal,
            envelopes: &request.envelopes,
        };
        let Opened { captures, sealed_to } =
            self.unseal_captures(call, &request.captures, arrived_at).await?;
        let signed_by =
            self.check_envelopes(session, terminal, request, &captures, arrived_at).await?;
        require_level(signed_by.level(), least_level(session, bars))?;
        let capture_indices = self.capture_indices(&captures);
        self.refuse_seen(&capture_indices, arrived_at).await?;
        Ok(Presented { captures, sealed_to, signed_by, capture_indices })
    }
}
