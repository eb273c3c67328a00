//! A connection that can say anything, and hears everything.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::encode;

/// How long an answer may take. Long, for the sake of busy machines: only a failing run waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came.
#[derive(Debug)]
pub enum Got {
    /// The payload of a frame.
    Frame(Vec<u8>),
    /// The other side has closed, in whichever way.
    Closed,
    /// Nothing came for too long.
    Silence,
}

/// A socket and what has been read from it.
pub struct Link {
    stream: TcpStream,
    read: VecDeque<u8>,
}

impl Link {
    /// # Errors
    ///
    /// Nobody listens there.
    pub fn open(to: SocketAddr) -> Result<Link, String> {
        let stream = TcpStream::connect(to).map_err(|error| format!("cannot connect to {to}: {error}"))?;
        stream.set_nodelay(true).map_err(|error| format!("{to}: {error}"))?;
        Ok(Link { stream, read: VecDeque::new() })
    }

    /// Sends bytes. That the other side has gone shows when the answer is read.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a payload as a frame.
    pub fn send_frame(&mut self, payload: &[u8]) {
        self.send(&encode::framed(payload));
    }

    /// The next frame.
    pub fn frame(&mut self) -> Got {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(frame) = self.take_frame() {
                return Got::Frame(frame);
            }
            if let Some(end) = self.read_more(until) {
                return end;
            }
        }
    }

    /// Throws away what has come so far, without waiting. What goes wrong is found out by who reads.
    pub fn discard(&mut self) {
        let mut chunk = [0; 4 << 10];
        if self.stream.set_nonblocking(true).is_ok() {
            while matches!(self.stream.read(&mut chunk), Ok(1..)) {}
            let _ = self.stream.set_nonblocking(false);
        }
    }

    /// All bytes up to the end, if it comes.
    pub fn rest(&mut self) -> (Vec<u8>, Got) {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(end) = self.read_more(until) {
                return (self.read.drain(..).collect(), end);
            }
        }
    }

    fn take_frame(&mut self) -> Option<Vec<u8>> {
        if self.read.len() < 4 {
            return None;
        }
        let word: Vec<u8> = self.read.iter().take(4).copied().collect();
        let length = u32::from_be_bytes(word.try_into().expect("four bytes")) as usize;
        if self.read.len() - 4 < length {
            return None;
        }
        self.read.drain(..4);
        Some(self.read.drain(..length).collect())
    }

    /// Reads what is there, or says that and why nothing more comes.
    fn read_more(&mut self, until: Instant) -> Option<Got> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || self.stream.set_read_timeout(Some(left)).is_err() {
            return Some(Got::Silence);
        }
        let mut chunk = [0; 16 << 10];
        match self.stream.read(&mut chunk) {
            Ok(0) => Some(Got::Closed),
            Ok(length) => {
                self.read.extend(&chunk[..length]);
                None
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Some(Got::Silence)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => None,
            // A reset is an end, too: the server had unread bytes when it closed.
            Err(_) => Some(Got::Closed),
        }
    }
}
