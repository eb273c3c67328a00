//! One connection to a peer, from its hello to its end: a task that reads and a task that writes.
//!
//! A peer has at most one link at a time, and the brain hears of it in this order: LinkUp, packets,
//! LinkDown. All three leave under one lock, so a link that has been replaced cannot speak any more,
//! whatever its task still holds in hand.

use std::io;
use std::sync::Mutex;
use std::time::Duration;

use actix::Recipient;
use bytes::{Bytes, BytesMut};
use slog::{Logger, error, info, warn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use zabra_actors::handle::FromPeer;
use zabra_actors::types::{Envelope, Sid, Tenure};

use super::frame::{self, Frame};
use super::outbox::{Drain, Outbox, outbox};
use super::stop::Stop;

/// Bytes that may wait for a peer that does not read: then the link is reset. Far more than a learner in
/// step ever lags, and a bounded part of a server's memory.
const MAX_QUEUED: usize = 256 << 20;

/// Room for each read, in bytes: many small packets come with one system call.
const READ_SIZE: usize = 64 << 10;

/// Small packets are gathered up to this size, in bytes, for one write; larger ones are written as they are.
const WRITE_SIZE: usize = 64 << 10;

/// How long what was said before a stop may take to leave.
const FLUSH_GRACE: Duration = Duration::from_secs(1);

/// A member of the cluster that this server can have a link with.
pub(super) struct Peer {
    sid: Sid,
    brain: Recipient<FromPeer>,
    log: Logger,
    link: Mutex<Slot>,
}

/// The link of a peer, if there is one.
struct Slot {
    /// Counts links; the current one has this number.
    number: u64,
    outbox: Option<Outbox<Frame>>,
}

impl Peer {
    /// A peer without a link.
    pub(super) fn new(sid: Sid, brain: Recipient<FromPeer>, log: Logger) -> Peer {
        Peer { sid, brain, log, link: Mutex::new(Slot { number: 0, outbox: None }) }
    }

    /// Queues a packet, if there is a link. `body` gives the packet's bytes; it is asked only then.
    pub(super) fn send(&self, tenure: Tenure, body: impl FnOnce() -> Result<Bytes, String>) {
        let slot = self.slot();
        let Some(outbox) = &slot.outbox else { return };
        match body() {
            Ok(body) => {
                let frame = Frame::new(tenure, body);
                let weight = frame.len();
                outbox.push(frame, weight);
            }
            // What cannot be sent is lost, and a loss must show as a LinkDown.
            Err(reason) => {
                error!(self.log, "resetting the link"; "reason" => reason);
                outbox.give_up();
            }
        }
    }

    /// A new link takes the place of the old one, if any.
    fn begin(&self) -> (u64, Drain<Frame>) {
        let (outbox, drain) = outbox(MAX_QUEUED);
        let mut slot = self.slot();
        if let Some(old) = slot.outbox.replace(outbox) {
            info!(self.log, "link replaced by a newer one");
            old.give_up();
            self.brain.do_send(FromPeer::LinkDown(self.sid));
        }
        slot.number += 1;
        self.brain.do_send(FromPeer::LinkUp(self.sid));
        (slot.number, drain)
    }

    /// The link of this number is gone, unless another has replaced it already.
    fn end(&self, number: u64) {
        let mut slot = self.slot();
        if slot.number == number && slot.outbox.take().is_some() {
            self.brain.do_send(FromPeer::LinkDown(self.sid));
        }
    }

    /// Hands on what a link has read. False when it is not the peer's link any more.
    fn received(&self, number: u64, packets: Vec<Envelope>) -> bool {
        let slot = self.slot();
        let current = slot.number == number && slot.outbox.is_some();
        if current && !packets.is_empty() {
            self.brain.do_send(FromPeer::Packets(self.sid, packets));
        }
        current
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Slot> {
        self.link.lock().expect("no holder of this lock panics")
    }
}

/// Why a link ended.
enum End {
    /// The other side has closed it.
    Closed,
    /// The socket failed.
    Failed(io::Error),
    /// What came is no frame.
    BadFrame(String),
    /// It was replaced, or its peer does not read.
    GivenUp,
    /// This server stops.
    Stopped,
}

/// Runs a link whose hello is done until it ends.
pub(super) async fn run(socket: TcpStream, peer: &Peer, stop: &mut Stop) {
    let (number, drain) = peer.begin();
    info!(peer.log, "link up");
    let (reader, writer) = socket.into_split();
    // A task of its own, so that a peer that sends without pause cannot keep this side from speaking.
    let mut writing = tokio::task::spawn_local(write(writer, drain));
    let end = tokio::select! {
        biased;
        () = stop.said() => End::Stopped,
        end = read(reader, peer, number) => end,
        end = &mut writing => end.expect("a writer neither panics nor is cancelled before its link ends"),
    };
    peer.end(number);
    if matches!(end, End::Stopped) {
        // With its outbox gone the writer ends after what was said.
        let _ = tokio::time::timeout(FLUSH_GRACE, &mut writing).await;
    }
    writing.abort();
    match end {
        End::Closed => info!(peer.log, "link down"; "reason" => "closed by the other side"),
        End::Failed(e) => info!(peer.log, "link down"; "reason" => %e),
        End::BadFrame(what) => warn!(peer.log, "link dropped: bad frame"; "reason" => what),
        End::GivenUp => warn!(peer.log, "link reset"; "reason" => "replaced, or more waits than may",
                              "limit_bytes" => MAX_QUEUED),
        End::Stopped => info!(peer.log, "link down"; "reason" => "this server stops"),
    }
}

/// Reads frames; all whole ones of one read go on as one message.
async fn read(mut socket: OwnedReadHalf, peer: &Peer, number: u64) -> End {
    let mut buffer = BytesMut::new();
    loop {
        // Room grows with what really arrives, not with what a length promises.
        buffer.reserve(frame::missing(&buffer).clamp(READ_SIZE / 4, READ_SIZE));
        match socket.read_buf(&mut buffer).await {
            Ok(0) => return End::Closed,
            Ok(_) => {}
            Err(e) => return End::Failed(e),
        }
        let mut packets = Vec::new();
        let bad = loop {
            match frame::decode(&mut buffer) {
                Ok(Some(envelope)) => packets.push(envelope),
                Ok(None) => break None,
                Err(what) => break Some(what),
            }
        };
        if !peer.received(number, packets) {
            return End::GivenUp;
        }
        if let Some(what) = bad {
            return End::BadFrame(what);
        }
        if buffer.is_empty() && buffer.capacity() > 4 * READ_SIZE {
            buffer = BytesMut::new(); // what a large frame needed is not kept
        }
    }
}

/// Writes what is queued until the queue ends, or is given up.
async fn write(mut socket: OwnedWriteHalf, mut drain: Drain<Frame>) -> End {
    let given_up = drain.given_up();
    tokio::select! {
        biased;
        () = given_up.wait() => End::GivenUp,
        result = write_all(&mut socket, &mut drain) => match result {
            // Nobody can speak to this link any more.
            Ok(()) => End::GivenUp,
            Err(e) => End::Failed(e),
        },
    }
}

async fn write_all(socket: &mut OwnedWriteHalf, drain: &mut Drain<Frame>) -> io::Result<()> {
    let mut frames = Vec::new();
    let mut gathered = BytesMut::with_capacity(WRITE_SIZE);
    while let Some(weight) = drain.next(&mut frames).await {
        for frame in frames.drain(..) {
            gathered.extend_from_slice(&frame.header);
            if frame.body.len() < WRITE_SIZE {
                gathered.extend_from_slice(&frame.body);
            } else {
                socket.write_all(&gathered).await?;
                gathered.clear();
                socket.write_all(&frame.body).await?;
            }
            if gathered.len() >= WRITE_SIZE {
                socket.write_all(&gathered).await?;
                gathered.clear();
            }
        }
        socket.write_all(&gathered).await?;
        gathered.clear();
        drain.written(weight);
    }
    socket.shutdown().await
}
