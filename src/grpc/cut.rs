//! Connections that can be cut off: when the drain's time is up, and when no call comes.
//!
//! The transport keeps each connection in a task of its own, out of the server's reach, and the task
//! holds the services and with them the gateway. Cutting the connection's bytes ends the task.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Sleep;
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::caller::{Called, Caller};
use crate::crowd::Seat;

/// Cuts every connection that it watches.
#[derive(Debug)]
pub struct Cutter(watch::Sender<bool>);

impl Cutter {
    /// A cutter that has cut nothing.
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Watches a connection.
    pub fn watch<IO>(&self, io: IO) -> Cuttable<IO> {
        let mut cut = self.0.subscribe();
        let cut = Box::pin(async move {
            if cut.wait_for(|is_cut| *is_cut).await.is_err() {
                // The cutter went away without cutting: the connection lives on.
                std::future::pending::<()>().await;
            }
        });
        Cuttable {
            io,
            cut,
            is_cut: false,
            called: Called::default(),
            first_call: None,
            _place: None,
        }
    }

    /// Cuts all connections, those to come too.
    pub fn cut(&self) {
        self.0.send_replace(true);
    }
}

/// A connection that can be cut.
pub struct Cuttable<IO> {
    io: IO,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_cut: bool,
    called: Called,
    /// When the time for the first call is up.
    first_call: Option<Pin<Box<Sleep>>>,
    /// Among the connections that there may be at once, and among the caller's own; given back with the
    /// connection.
    _place: Option<(OwnedSemaphorePermit, Seat)>,
}

impl<IO> Cuttable<IO> {
    /// The connection with the places that it takes.
    pub fn holding(self, place: OwnedSemaphorePermit, seat: Seat) -> Self {
        Self { _place: Some((place, seat)), ..self }
    }

    /// The connection, which is cut when no call has come within this time. A caller who says nothing
    /// after the handshake, or one byte at a time, would hold a place until the connection is too old.
    pub fn calling_within(self, first_call_max: Duration) -> Self {
        let first_call = Some(Box::pin(tokio::time::sleep(first_call_max)));
        Self { first_call, ..self }
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.is_cut = self.is_cut || self.cut.as_mut().poll(cx).is_ready();
        if let Some(first_call) = &mut self.first_call {
            if self.called.yet() {
                self.first_call = None;
            } else {
                self.is_cut = self.is_cut || first_call.as_mut().poll(cx).is_ready();
            }
        }
        if self.is_cut { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

impl<IO: Connected<ConnectInfo = TcpConnectInfo>> Connected for Cuttable<IO> {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Self::ConnectInfo {
        Caller::new(self.io.connect_info(), self.called.clone())
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Cuttable<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Cuttable<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_waiting_reader_is_woken_by_the_cut() {
        let cutter = Cutter::new();
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = cutter.watch(near);
        far.write_all(b"x").await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), b'x');
        let waiting = tokio::spawn(async move { near.read_u8().await });
        tokio::task::yield_now().await;
        cutter.cut();
        let error = waiting.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        let mut late = cutter.watch(tokio::io::duplex(64).0);
        assert!(late.write_all(b"x").await.is_err());
    }

    #[tokio::test]
    async fn a_connection_without_a_call_is_cut_and_one_with_a_call_is_not() {
        let cutter = Cutter::new();
        let patience = Duration::from_millis(40);
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = cutter.watch(near).calling_within(patience);
        let begun = tokio::time::Instant::now();
        far.write_all(b"x").await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), b'x');
        let error = near.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
        assert!(begun.elapsed() >= patience);

        let (near, mut far) = tokio::io::duplex(64);
        let mut near = cutter.watch(near).calling_within(patience);
        near.called.now();
        tokio::time::sleep(patience * 2).await;
        far.write_all(b"x").await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), b'x');
    }

    #[tokio::test]
    async fn a_cutter_that_goes_away_cuts_nothing() {
        let cutter = Cutter::new();
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = cutter.watch(near);
        drop(cutter);
        far.write_all(b"x").await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), b'x');
    }
}
