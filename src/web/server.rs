//! A bounded HTTP/1.1 server: connections, headers, bodies, requests a second and the time of each have a
//! limit, and it ends by letting what is under way finish.

use std::convert::Infallible;
use std::future::Future;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

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
    /// Requests in a second, of all callers together.
    pub requests_per_second_max: NonZeroU32,
    /// Longest body, in bytes.
    pub body_bytes_max: usize,
    /// How long a request's headers may take.
    pub headers_max: Duration,
    /// How long a request may take from the end of its headers to its answer.
    pub call_max: Duration,
    /// Age at which a connection is closed gracefully.
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
    let desk = Arc::new(Desk { pages, bounds, rate });
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
            Ok((stream, _)) => {
                let (desk, draining) = (Arc::clone(&desk), draining.clone());
                connections.spawn(async move {
                    converse(stream, desk, draining).await;
                    drop(slot);
                });
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
}

async fn converse(stream: TcpStream, desk: Arc<Desk>, mut draining: watch::Receiver<()>) {
    let Bounds { headers_max, connection_age_max, .. } = desk.bounds;
    let service = service_fn(move |request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.respond(request).await) }
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
            () = &mut age, if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
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
    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let Answer { status, content_type, body } =
            match tokio::time::timeout(self.bounds.call_max, self.answer(request)).await {
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

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        if self.rate.check().is_err() {
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

/// Plain text.
pub const TEXT: &str = "text/plain; charset=utf-8";

const HEADER_BYTES_MAX: usize = 16 << 10;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
