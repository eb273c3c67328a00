//! What an answer is written on: a buffer that leaves by the socket whenever it is full, so that a list of any
//! length takes little memory, and only as long as the other side reads.

use std::fmt::{Display, Write};
use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use zabra_actors::stats::Stats;

/// The buffer leaves when it holds that much, in bytes.
const FULL: usize = 8 << 10;

/// How long the other side may take to read what is in the buffer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why an answer ends in the middle.
#[derive(Debug)]
pub(in crate::net) enum AnswerError {
    /// The socket failed.
    Failed(io::Error),
    /// The other side does not read.
    TooSlow,
    /// The brain has ended: this server stops.
    Stopped,
}

impl From<io::Error> for AnswerError {
    fn from(e: io::Error) -> AnswerError {
        AnswerError::Failed(e)
    }
}

impl From<actix::MailboxError> for AnswerError {
    fn from(_: actix::MailboxError) -> AnswerError {
        AnswerError::Stopped
    }
}

/// See the module's story.
pub(super) struct Paper<'a> {
    socket: &'a mut TcpStream,
    stats: &'a Stats,
    text: String,
}

impl<'a> Paper<'a> {
    /// A blank one.
    pub(super) fn new(socket: &'a mut TcpStream, stats: &'a Stats) -> Paper<'a> {
        Paper { socket, stats, text: String::new() }
    }

    /// Writes on.
    pub(super) async fn say(&mut self, what: impl Display) -> Result<(), AnswerError> {
        write!(self.text, "{what}").expect("a string takes all");
        if self.text.len() >= FULL { self.flush().await } else { Ok(()) }
    }

    /// Sends what is written. It counts as a packet, as every piece of an answer does in Apache.
    pub(super) async fn flush(&mut self) -> Result<(), AnswerError> {
        if self.text.is_empty() {
            return Ok(());
        }
        self.stats.packets_sent.inc();
        self.stats.bytes_sent.add(self.text.len() as u64);
        let sent = timeout(PATIENCE, self.socket.write_all(self.text.as_bytes())).await;
        sent.map_err(|_| AnswerError::TooSlow)??;
        self.text.clear();
        Ok(())
    }
}
