//! What a connection knows of its caller, and the pace that each caller's address may keep.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use http::{Extensions, Request, Response};
use tonic::body::Body;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tower::{Layer, Service};

use super::status;
use crate::crowd::{Pace, Peer};

/// Goes with each request of a connection.
#[derive(Clone, Debug)]
pub struct Caller {
    tcp: TcpConnectInfo,
    called: Called,
}

impl Caller {
    /// The caller of this connection.
    pub const fn new(tcp: TcpConnectInfo, called: Called) -> Self {
        Self { tcp, called }
    }

    fn peer(&self) -> Option<Peer> {
        self.tcp.remote_addr().map(|address| Peer::from(address.ip()))
    }
}

/// What the transport says of a request's connection.
pub fn connection(extensions: &Extensions) -> Option<&TlsConnectInfo<Caller>> {
    extensions.get()
}

/// Whether a connection has made a call yet.
#[derive(Clone, Default, Debug)]
pub struct Called(Arc<AtomicBool>);

impl Called {
    /// Whether it has.
    pub fn yet(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// It makes one now.
    pub fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Puts a [`Pace`] before the services.
#[derive(Clone, Debug)]
pub struct PaceLayer(pub Arc<Pace>);

impl<S> Layer<S> for PaceLayer {
    type Service = Paced<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Paced { pace: Arc::clone(&self.0), inner }
    }
}

/// Services that each address calls at its pace.
#[derive(Clone, Debug)]
pub struct Paced<S> {
    pace: Arc<Pace>,
    inner: S,
}

impl<S> Service<Request<Body>> for Paced<S>
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

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let caller = connection(request.extensions()).map(TlsConnectInfo::get_ref);
        if let Some(caller) = caller {
            caller.called.now();
        }
        // A connection that has no address any more is closed already.
        let admitted =
            caller.and_then(Caller::peer).is_some_and(|address| self.pace.admits(address));
        if !admitted {
            return Box::pin(std::future::ready(Ok(status::of("LIM_RATE").into_http())));
        }
        Box::pin(self.inner.call(request))
    }
}
