//! A bounded HTTP/1.1 server: connections, headers, bodies, requests a second and the time of each have a
//! limit, some for each caller and some for all, and it ends by letting what is under way finish.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::crowd::{Crowd, Pace, Peer, Seat};

/// What a site answers.
#[async_trait]
pub trait Pages: Send + Sync + 'static {
    /// The answer to a request whose body is whole.
    async fn answer(&self, call: Call) -> Answer;
}

/// A request.
#[derive(Clone, Debug)]
pub struct Call {
    /// `GET`, `POST`…
    pub method: Method,
    /// The path, without a query.
    pub path: String,
    /// The body, at most [`Bounds::body_bytes_max`].
    pub body: Bytes,
}

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// What the body is.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A status and a line that says why.
    #[must_use]
    pub fn text(status: StatusCode, line: impl Into<String>) -> Self {
        let body = (line.into() + "\n").into_bytes();
        Self { status, content_type: TEXT, body }
    }
}

/// Bounds of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at once; further ones wait to be accepted.
    pub connections_max: usize,
    /// Connections at once from one address, or one IPv6 network; further ones are closed.
    pub connections_per_address_max: usize,
    /// Requests in a second, of all callers together.
    pub requests_per_second_max: NonZeroU32,
    /// Requests in a second from one address, or one IPv6 network.
    pub requests_per_address_per_second_max: NonZeroU32,
    /// Whether all connections are a proxy's, which names the caller last in `X-Forwarded-For`: then
    /// requests count for that address, and connections for nobody.
    pub behind_proxy: bool,
    /// Longest body, in bytes.
    pub body_bytes_max: usize,
    /// How long a request's headers may take.
    pub headers_max: Duration,
    /// How long a request may take from the end of its headers to its answer.
    pub call_max: Duration,
    /// Age at which a connection is closed gracefully; what is under way then has [`Bounds::call_max`].
    pub connection_age_max: Duration,
    /// How long what is under way may take after the server was told to stop.
    pub drain_max: Duration,
}

/// Serves until `stop` is done, and then until the last call under way has its answer, or the time for that
/// is up: whether it was not.
pub async fn serve(
    listener: TcpListener,
    pages: Arc<dyn Pages>,
    bounds: Bounds,
    stop: impl Future<Output = ()>,
) -> bool {
    let slots = Arc::new(Semaphore::new(bounds.connections_max));
    let rate = RateLimiter::direct(Quota::per_second(bounds.requests_per_second_max));
    let pace = Pace::new(bounds.requests_per_address_per_second_max);
    let per_address_max =
        if bounds.behind_proxy { usize::MAX } else { bounds.connections_per_address_max };
    let crowd = Crowd::new(per_address_max);
    let desk = Arc::new(Desk { pages, bounds, rate, pace });
    let (drain, draining) = watch::channel(());
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            () = &mut stop => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let caller = Peer::from(address.ip());
                // Who has taken all of theirs is closed at once, and keeps nobody waiting.
                let Some(seat) = crowd.enter(caller) else { continue };
                let visit = Visit { stream, caller, _places: (slot, seat) };
                connections.spawn(converse(visit, Arc::clone(&desk), draining.clone()));
            }
            Err(cause) => {
                tracing::warn!(error = %cause, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        // What has ended is forgotten.
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    drop((drain, draining));
    let rest = async { while connections.join_next().await.is_some() {} };
    tokio::time::timeout(desk.bounds.drain_max, rest).await.is_err()
}

struct Desk {
    pages: Arc<dyn Pages>,
    bounds: Bounds,
    rate: DefaultDirectRateLimiter,
    pace: Pace,
}

/// A connection, and the places that it takes until it ends.
struct Visit {
    stream: TcpStream,
    caller: Peer,
    _places: (Result<OwnedSemaphorePermit, AcquireError>, Seat),
}

async fn converse(visit: Visit, desk: Arc<Desk>, mut draining: watch::Receiver<()>) {
    let Visit { stream, caller, _places } = visit;
    let Bounds { headers_max, connection_age_max, call_max, .. } = desk.bounds;
    let service = service_fn(move |request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.respond(request, caller).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(headers_max)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let age = tokio::time::sleep(connection_age_max);
    tokio::pin!(age);
    let mut closing = false;
    loop {
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = &mut age => {
                if closing {
                    tracing::debug!("a connection that would not end was closed");
                    return;
                }
                closing = true;
                connection.as_mut().graceful_shutdown();
                // A caller who does not read the answer would keep the connection for ever.
                age.as_mut().reset(Instant::now() + call_max);
                continue;
            }
            // The server's end of it is dropped when it stops.
            _ = draining.changed(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
                continue;
            }
        };
        if let Err(cause) = ended {
            tracing::debug!(error = %cause, "a connection ended badly");
        }
        return;
    }
}

impl Desk {
    async fn respond(&self, request: Request<Incoming>, caller: Peer) -> Response<Full<Bytes>> {
        let Answer { status, content_type, body } =
            match tokio::time::timeout(self.bounds.call_max, self.answer(request, caller)).await {
                Ok(answer) => answer,
                Err(_) => Answer::text(StatusCode::REQUEST_TIMEOUT, "it took too long"),
            };
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = status;
        let content_type = header::HeaderValue::from_static(content_type);
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
        let nosniff = header::HeaderValue::from_static("nosniff");
        response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
        response
    }

    async fn answer(&self, request: Request<Incoming>, caller: Peer) -> Answer {
        let caller = if self.bounds.behind_proxy {
            forwarded(request.headers()).unwrap_or(caller)
        } else {
            caller
        };
        // First the caller's own, so that who asks too often takes nothing of what is there for all.
        if !self.pace.admits(caller) || self.rate.check().is_err() {
            return Answer::text(StatusCode::TOO_MANY_REQUESTS, "too many requests at once");
        }
        let (head, body) = request.into_parts();
        let body = match Limited::new(body, self.bounds.body_bytes_max).collect().await {
            Ok(body) => body.to_bytes(),
            Err(cause) if cause.is::<http_body_util::LengthLimitError>() => {
                return Answer::text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long");
            }
            Err(_) => return Answer::text(StatusCode::BAD_REQUEST, "the body cannot be read"),
        };
        let path = head.uri.path().to_owned();
        self.pages.answer(Call { method: head.method, path, body }).await
    }
}

/// Whom the proxy names: the last address of the last `X-Forwarded-For`, since whatever stands before it
/// may be the caller's own words.
fn forwarded(headers: &HeaderMap) -> Option<Peer> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    let (_, last) = last.rsplit_once(',').unwrap_or(("", last));
    last.trim().parse::<IpAddr>().ok().map(Peer::from)
}

/// Plain text.
pub const TEXT: &str = "text/plain; charset=utf-8";

const HEADER_BYTES_MAX: usize = 16 << 10;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_names_the_caller_last() {
        let named = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", line.parse().unwrap());
            }
            forwarded(&headers)
        };
        let peer = |text: &str| Some(Peer::from(text.parse::<IpAddr>().unwrap()));
        assert_eq!(named(&["192.0.2.1"]), peer("192.0.2.1"));
        assert_eq!(named(&["10.0.0.1, 192.0.2.1"]), peer("192.0.2.1"));
        assert_eq!(named(&["10.0.0.1", "10.0.0.2,192.0.2.1 "]), peer("192.0.2.1"));
        assert_eq!(named(&["2001:db8::1"]), peer("2001:db8::2"));
        for nobody in [&[][..], &["unknown"], &["192.0.2.1, "], &["192.0.2.1:80"]] {
            assert_eq!(named(nobody), None, "{nobody:?}");
        }
    }
}
