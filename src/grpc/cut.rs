//! Connections that can be cut off when the drain's time is up.
//!
//! The transport keeps each connection in a task of its own, out of the server's reach, and the task
//! holds the services and with them the gateway. Cutting the connection's bytes ends the task.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tonic::transport::server::Connected;

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
        Cuttable { io, cut, is_cut: false, _place: None }
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
    /// Among the connections that there may be at once; given back with the connection.
    _place: Option<OwnedSemaphorePermit>,
}

impl<IO> Cuttable<IO> {
    /// The connection with the place that it takes.
    pub fn holding(self, place: OwnedSemaphorePermit) -> Self {
        Self { _place: Some(place), ..self }
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.is_cut = self.is_cut || self.cut.as_mut().poll(cx).is_ready();
        if self.is_cut { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

impl<IO: Connected> Connected for Cuttable<IO> {
    type ConnectInfo = IO::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.io.connect_info()
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
    async fn a_cutter_that_goes_away_cuts_nothing() {
        let cutter = Cutter::new();
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = cutter.watch(near);
        drop(cutter);
        far.write_all(b"x").await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), b'x');
    }
}
