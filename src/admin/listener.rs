//! A listener that cannot be used up: at most [`CONNECTIONS_MAX`] at a time, and none that stays silent.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// Open connections; further ones wait in the system's queue. A scraper and some people need a few.
pub(super) const CONNECTIONS_MAX: usize = 64;

/// How long a connection may stay without a byte in either direction; Apache's admin.idleTimeout.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(30);

/// The listener.
pub(super) struct Bounded {
    listener: TcpListener,
    room: Arc<Semaphore>,
    idle_max: Duration,
}

impl Bounded {
    /// Takes over a bound socket; needs a running event loop.
    pub(super) fn new(
        listener: std::net::TcpListener,
        connections_max: usize,
        idle_max: Duration,
    ) -> io::Result<Bounded> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        Ok(Bounded { listener, room: Arc::new(Semaphore::new(connections_max)), idle_max })
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let permit = self.room.clone().acquire_owned().await.expect("this semaphore is never closed");
        // The inner accept waits out what is not this listener's fault, such as too many open files.
        let (stream, from) = Listener::accept(&mut self.listener).await;
        let idle = Box::pin(sleep(self.idle_max));
        (Connection { stream, idle, idle_max: self.idle_max, _permit: permit }, from)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails once it has been silent for too long.
pub(super) struct Connection {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    idle_max: Duration,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// Progress puts the end off; waiting does not.
    fn limit<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            let end = Instant::now() + self.idle_max;
            self.idle.as_mut().reset(end);
            return polled;
        }
        self.idle.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.limit(polled, cx)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.limit(polled, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Flushing a socket is always ready: it says nothing about progress.
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpStream;

    use super::*;

    /// Long enough never to pass in a test.
    const NEVER: Duration = Duration::from_secs(3600);

    fn bounded(connections_max: usize, idle_max: Duration) -> (Bounded, SocketAddr) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        (Bounded::new(listener, connections_max, idle_max).unwrap(), at)
    }

    #[actix::test]
    async fn one_too_many_waits_for_another_to_close() {
        let (mut listener, at) = bounded(2, NEVER);
        let _clients = futures::future::join_all((0..3).map(|_| TcpStream::connect(at))).await;
        let first = listener.accept().await;
        let _second = listener.accept().await;
        assert!(futures::poll!(Box::pin(listener.accept())).is_pending(), "a third connection came in");
        drop(first);
        listener.accept().await;
    }

    #[actix::test]
    async fn a_silent_connection_fails() {
        let (mut listener, at) = bounded(1, Duration::from_millis(20));
        let _client = TcpStream::connect(at).await.unwrap();
        let (mut connection, _) = listener.accept().await;
        let error = connection.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
