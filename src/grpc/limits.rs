//! What stands before everything: bounds, the caller's deadline, and the statuses that tonic makes
//! itself, rewritten so that every refusal has a reason of the error table.

use std::convert::Infallible;
use std::future::Future;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Extensions, Status};
use tower::{Layer, Service};

use super::status;

/// Bounds of the transport. Every one is enforced before what it bounds is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest request message, in bytes.
    pub message_bytes_max: usize,
    /// Largest request message of enrolment, where a row of an import holds several pictures, in bytes.
    pub import_message_bytes_max: usize,
    /// Largest answer message, in bytes.
    pub answer_bytes_max: usize,
    /// Largest header list, in bytes.
    pub header_bytes_max: u32,
    /// Connections at once; further ones wait to be accepted.
    pub connections_max: usize,
    /// Connections at once from one address, or one IPv6 network; further ones are closed.
    pub connections_per_address_max: usize,
    /// Calls from one address, or one IPv6 network, in a second.
    pub calls_per_address_per_second: NonZeroU32,
    /// Concurrent calls on one connection.
    pub streams_max: u32,
    /// How long a call may take at most, whatever the caller allows.
    pub call_max: Duration,
    /// How long a TLS handshake may take.
    pub handshake_max: Duration,
    /// How long a connection may stand open before its first call.
    pub first_call_max: Duration,
    /// Calls of one connection that may be reset before the server has looked at them; at one more it
    /// is closed.
    pub resets_unseen_max: usize,
    /// Calls of one connection that the server may have to reset for its caller's faults.
    pub resets_for_faults_max: usize,
    /// Idle time after which a connection is asked for a sign of life.
    pub keepalive_interval: Duration,
    /// How long the sign of life may take.
    pub keepalive_timeout: Duration,
    /// Age at which a connection is closed gracefully, so that revocations and rotations bite.
    pub connection_age_max: Duration,
    /// How long calls of an old connection may still take.
    pub connection_grace: Duration,
    /// How long calls may still take after the server was told to stop.
    pub drain_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 5 << 20,
            import_message_bytes_max: 24 << 20,
            answer_bytes_max: 4 << 20,
            header_bytes_max: 16 << 10,
            connections_max: 4096,
            connections_per_address_max: 256,
            calls_per_address_per_second: NonZeroU32::new(2_000).unwrap_or(NonZeroU32::MIN),
            streams_max: 64,
            call_max: Duration::from_secs(8),
            handshake_max: Duration::from_secs(5),
            first_call_max: Duration::from_secs(30),
            resets_unseen_max: 20,
            resets_for_faults_max: 256,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            connection_age_max: Duration::from_hours(1),
            connection_grace: Duration::from_secs(30),
            drain_max: Duration::from_secs(10),
        }
    }
}

/// How long a call may take: what the caller allows, no more than the gateway does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeAllowed(pub Duration);

impl TimeAllowed {
    /// When the time is up that the envelope gave to this request.
    ///
    /// # Errors
    ///
    /// `SYS_INTERNAL` when the request did not come through the envelope.
    pub fn deadline(extensions: &Extensions) -> Result<Instant, Status> {
        let Self(allowed) =
            extensions.get::<Self>().copied().ok_or_else(|| status::of("SYS_INTERNAL"))?;
        Ok(Instant::now() + allowed)
    }
}

/// Reads the `grpc-timeout` header: up to eight digits and one of `H M S m u n`.
///
/// `None` when there is none or it is malformed: then only the gateway's own bound holds.
#[must_use]
pub fn caller_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Leaves time for the answer to be written before tonic's own timer drops the call, which would
/// answer CANCELLED: a twentieth, 50 ms at most.
fn with_margin(allowed: Duration) -> Duration {
    allowed.saturating_sub(margin(allowed))
}

fn margin(allowed: Duration) -> Duration {
    (allowed / 20).min(Duration::from_millis(50))
}

/// Puts the envelope around the services.
#[derive(Debug, Clone)]
pub struct EnvelopeLayer {
    /// How long a unary call may take at most.
    pub call_max: Duration,
}

impl<S> Layer<S> for EnvelopeLayer {
    type Service = Enveloped<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Enveloped { call_max: self.call_max, inner }
    }
}

/// Services in an envelope.
#[derive(Debug, Clone)]
pub struct Enveloped<S> {
    call_max: Duration,
    inner: S,
}

impl<S> Service<Request<Body>> for Enveloped<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let allowed = caller_timeout(request.headers())
            .map_or(self.call_max, |caller| with_margin(caller).min(self.call_max));
        request.extensions_mut().insert(TimeAllowed(allowed));
        let ours = request.uri().path().starts_with("/tulga.");
        // The service that was polled ready goes with the call; its clone stays.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            // A stream's answer begins at once, so this bounds unary calls and the beginning of streams.
            // The gateway keeps the deadline itself, a little earlier; this holds where the gateway does
            // not look, such as on a client that sends its bytes slowly.
            let patience = allowed + margin(allowed) / 2;
            match tokio::time::timeout(patience, inner.call(request)).await {
                Ok(Ok(response)) if ours => Ok(with_reason(response)),
                Ok(answered) => answered,
                Err(_) => Ok(status::of("SYS_DEADLINE").into_http()),
            }
        })
    }
}

/// Rewrites a refusal that tonic made itself: it is known by its lack of details.
fn with_reason(response: Response<Body>) -> Response<Body> {
    match Status::from_header_map(response.headers()) {
        Some(foreign) if foreign.code() != Code::Ok && foreign.details().is_empty() => {
            status::of(status::reason_of_foreign(foreign.code())).into_http()
        }
        _ => response,
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::*;

    fn timeout_of(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", text.parse().unwrap());
        caller_timeout(&headers)
    }

    #[test]
    fn a_caller_states_a_timeout_in_each_unit() {
        for (text, nanos) in [
            ("2H", 7_200_000_000_000_u64),
            ("3M", 180_000_000_000),
            ("4S", 4_000_000_000),
            ("5m", 5_000_000),
            ("6u", 6_000),
            ("7n", 7),
            ("0S", 0),
        ] {
            assert_eq!(timeout_of(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
        assert_eq!(timeout_of("99999999H"), Some(Duration::from_hours(99_999_999)));
        for bad in ["", "S", "5", "5s", "-1S", "+1S", "1.5S", "123456789S", "5 S"] {
            assert_eq!(timeout_of(bad), None, "{bad}");
        }
        assert_eq!(caller_timeout(&HeaderMap::new()), None);
    }

    #[test]
    fn the_answer_is_written_before_the_callers_time_is_up() {
        assert_eq!(with_margin(Duration::from_secs(10)), Duration::from_millis(9_950));
        assert_eq!(with_margin(Duration::from_millis(100)), Duration::from_millis(95));
        assert_eq!(with_margin(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn what_tonic_refuses_by_itself_gets_a_reason() {
        for (foreign, reason, code) in [
            (Code::OutOfRange, "REQ_TOO_LARGE", Code::InvalidArgument),
            (Code::Internal, "REQ_MALFORMED", Code::InvalidArgument),
            (Code::Unimplemented, "REQ_UNKNOWN_METHOD", Code::Unimplemented),
        ] {
            let made: Response<Body> = foreign_status(foreign).into_http();
            let rewritten = Status::from_header_map(with_reason(made).headers()).unwrap();
            assert_eq!(rewritten.code(), code);
            assert_eq!(rewritten.get_details_error_info().unwrap().reason, reason);
        }
    }

    #[test]
    fn what_we_refuse_stays_as_it_is() {
        let ours: Response<Body> = status::of("SYS_INTERNAL").into_http();
        let kept = Status::from_header_map(with_reason(ours).headers()).unwrap();
        assert_eq!(kept.code(), Code::Internal);
        let fine = with_reason(Response::new(Body::empty()));
        assert!(Status::from_header_map(fine.headers()).is_none());
    }

    fn foreign_status(code: Code) -> Status {
        let mut headers = HeaderMap::new();
        let number = i32::from(code);
        headers.insert("grpc-status", number.to_string().parse().unwrap());
        Status::from_header_map(&headers).unwrap()
    }
}
