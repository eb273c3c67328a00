//! One connection in session: requests out, replies and events in, pings in between.
//!
//! Replies come in the order of the requests, so the oldest pending request must have the xid of the reply; auth and
//! setWatches have fixed xids and queues of their own, since a server may answer an auth out of turn. A server that
//! breaks this is left.
//!
//! Everything happens in one task: no locks, and one write for all that was submitted since the last one.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use zabra_actors::jute::{self, AUTH_XID, EVENT_XID, PING_XID, ReplyFrame, SET_WATCHES_XID, Shape};
use zabra_actors::types::{Op, Zxid};

use super::driver::{Memory, Observers};
use super::watches::{Caller, Effect};
use super::{Command, Error, Event, MAX_REQUEST, ReplyTo};

/// Requests in flight, at most; more wait in the queue. Apache stops reading a socket at 1,000 of them anyway.
const MAX_PENDING: usize = 4096;

/// Bytes not yet written above which no more requests are taken: the server does not read.
const MAX_UNSENT: usize = 4 << 20;

/// Requests taken from the queue at a time.
const BATCH: usize = 256;

/// Room for one read of the socket, in bytes.
const READ_SIZE: usize = 64 << 10;

/// The longest reply, in bytes. A list of children is not limited by servers, but our memory is.
const MAX_REPLY: usize = 64 << 20;

/// How a connection ends.
pub(super) enum End {
    /// As it should: the session is closed.
    Closed,
    /// The server knows better who we are, and does not go on.
    AuthFailed,
    /// For a server that serves writes too; this one does not.
    Better(String),
    /// Otherwise.
    Lost(String),
}

/// What ends the exchange without an error.
enum Done {
    Closed,
    AuthFailed,
    Better(String),
}

/// An error of the other side's making, for those who expect one of I/O.
pub(super) fn lost(reason: impl Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_string())
}

/// A request that was sent and not answered.
struct Pending {
    xid: i32,
    shape: Shape,
    effect: Effect,
    reply: ReplyTo,
}

/// An auth packet that was sent and not answered. One that only repeats what another connection had has no `reply`.
struct PendingAuth {
    scheme: String,
    data: Bytes,
    reply: Option<ReplyTo>,
}

/// A connection in session.
pub(super) struct Connection<'a> {
    memory: &'a mut Memory,
    observers: &'a Observers,
    timeout: Duration,
    xid: i32,
    pending: VecDeque<Pending>,
    auths: VecDeque<PendingAuth>,
    received: BytesMut,
    unsent: BytesMut,
    last_sent: Instant,
    last_received: Instant,
    /// A closeSession was sent: its reply is the end.
    closing: Option<i32>,
}

impl<'a> Connection<'a> {
    pub(super) fn new(memory: &'a mut Memory, observers: &'a Observers, timeout: Duration) -> Connection<'a> {
        let now = Instant::now();
        Connection {
            memory,
            observers,
            timeout,
            xid: 0,
            pending: VecDeque::new(),
            auths: VecDeque::new(),
            received: BytesMut::with_capacity(READ_SIZE),
            unsent: BytesMut::new(),
            last_sent: now,
            last_received: now,
            closing: None,
        }
    }

    /// Serves until the end, or until `better` knows a better server. All that is then unanswered fails: what was
    /// sent is in doubt.
    pub(super) async fn serve(
        mut self,
        mut stream: TcpStream,
        queue: &mut mpsc::Receiver<Command>,
        better: impl Future<Output = String>,
    ) -> End {
        self.restore();
        let (end, reason) = match self.pump(&mut stream, queue, better).await {
            Ok(Done::Closed) => return End::Closed,
            Ok(Done::AuthFailed) => (End::AuthFailed, "an identity was refused".to_string()),
            Ok(Done::Better(server)) => {
                let reason = format!("left for {server}, which serves writes too");
                (End::Better(server), reason)
            }
            Err(error) => (End::Lost(error.to_string()), error.to_string()),
        };
        let auths = self.auths.drain(..).filter_map(|auth| auth.reply);
        for reply in self.pending.drain(..).map(|pending| pending.reply).chain(auths) {
            // Who does not wait any more need not know.
            let _ = reply.send(Err(Error::ConnectionLoss(reason.clone())));
        }
        end
    }

    /// Identities first, for what the watches may see; then the watches.
    fn restore(&mut self) {
        for (scheme, data) in self.memory.auths.clone() {
            self.send_auth(scheme, data, None);
        }
        for batch in self.memory.watches().restore(self.memory.last_zxid) {
            jute::encode_request(SET_WATCHES_XID, &batch, &mut self.unsent).expect("a batch is small");
        }
    }

    /// Moves bytes until there is a reason to stop, or the connection is lost.
    async fn pump(
        &mut self,
        stream: &mut TcpStream,
        queue: &mut mpsc::Receiver<Command>,
        better: impl Future<Output = String>,
    ) -> io::Result<Done> {
        let mut better = pin!(better);
        let (mut input, mut output) = stream.split();
        let mut batch = Vec::with_capacity(BATCH);
        // Often enough that a ping is sent before half of the time-out has passed in silence.
        let mut ticks = interval(self.timeout / 6);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.received.reserve(READ_SIZE);
            tokio::select! {
                biased;
                written = output.write_buf(&mut self.unsent), if !self.unsent.is_empty() => {
                    written?;
                    self.last_sent = Instant::now();
                }
                read = input.read_buf(&mut self.received) => {
                    if read? == 0 {
                        return Err(lost("closed by the server"));
                    }
                    self.last_received = Instant::now();
                    if let Some(done) = self.on_frames()? {
                        return Ok(done);
                    }
                }
                taken = queue.recv_many(&mut batch, BATCH), if self.takes_more() => {
                    if taken == 0 {
                        self.send_close();
                    }
                    batch.drain(..).for_each(|command| self.send(command));
                }
                _ = ticks.tick() => self.on_tick()?,
                server = &mut better => return Ok(Done::Better(server)),
            }
        }
    }

    /// Back-pressure: what is not taken stays in the queue, and then with the callers.
    fn takes_more(&self) -> bool {
        self.closing.is_none() && self.pending.len() < MAX_PENDING && self.unsent.len() < MAX_UNSENT
    }

    fn send(&mut self, command: Command) {
        match command {
            // Behind a closeSession nothing is answered.
            Command::Request { reply, .. } | Command::Auth { reply, .. } if self.closing.is_some() => {
                let _ = reply.send(Err(Error::Closed));
            }
            Command::Request { op, caller, reply } => self.send_request(op, caller, reply),
            Command::Auth { scheme, data, reply } => self.send_auth(scheme, data, Some(reply)),
        }
    }

    fn send_request(&mut self, op: Op, caller: Option<Caller>, reply: ReplyTo) {
        let xid = self.next_xid();
        let start = self.unsent.len();
        if let Err(size) = encode(xid, &op, &mut self.unsent) {
            self.unsent.truncate(start);
            let _ = reply.send(Err(Error::TooLarge { size, limit: MAX_REQUEST }));
            return;
        }
        if op == Op::CloseSession {
            self.closing = Some(xid);
        }
        let effect = Effect::of(&op, caller);
        self.pending.push_back(Pending { xid, shape: Shape::of(&op), effect, reply });
    }

    fn send_auth(&mut self, scheme: String, data: Bytes, reply: Option<ReplyTo>) {
        let size = scheme.len() + data.len();
        if size > MAX_REQUEST / 2 {
            // The half leaves room for the header; no scheme needs so much.
            if let Some(reply) = reply {
                let _ = reply.send(Err(Error::TooLarge { size, limit: MAX_REQUEST / 2 }));
            }
            return;
        }
        jute::encode_auth(AUTH_XID, &scheme, &data, &mut self.unsent).expect("checked above");
        self.auths.push_back(PendingAuth { scheme, data, reply });
    }

    /// The last handle is gone: nobody waits for the reply, but the server shall know.
    fn send_close(&mut self) {
        let (reply, _) = tokio::sync::oneshot::channel();
        self.send_request(Op::CloseSession, None, reply);
    }

    fn next_xid(&mut self) -> i32 {
        // 0 and below have meanings of their own.
        self.xid = if self.xid == i32::MAX { 1 } else { self.xid + 1 };
        self.xid
    }

    /// Sends a ping after a third of the time-out without a request, gives up after two thirds without a word.
    fn on_tick(&mut self) -> io::Result<()> {
        let silence = self.last_received.elapsed();
        if silence >= self.timeout * 2 / 3 {
            return Err(lost(format_args!("nothing heard for {silence:?}")));
        }
        if self.last_sent.elapsed() >= self.timeout / 3 && self.unsent.is_empty() {
            jute::encode_request(PING_XID, &Op::Ping, &mut self.unsent).expect("a ping is small");
        }
        Ok(())
    }

    /// Takes all whole frames of what was read, and says when there shall be no more.
    fn on_frames(&mut self) -> io::Result<Option<Done>> {
        while let Some(frame) = jute::take_frame(&mut self.received, MAX_REPLY).map_err(lost)? {
            let frame = jute::decode_reply(frame).map_err(lost)?;
            match frame.xid {
                EVENT_XID => self.on_event(frame)?,
                PING_XID => {}
                AUTH_XID => {
                    if self.on_auth_reply(frame)? {
                        return Ok(Some(Done::AuthFailed));
                    }
                }
                SET_WATCHES_XID if frame.err == 0 => {}
                SET_WATCHES_XID => return Err(lost("the server did not take the watches")),
                _ => {
                    if self.on_reply(frame)? {
                        return Ok(Some(Done::Closed));
                    }
                }
            }
        }
        Ok(None)
    }

    fn on_event(&mut self, frame: ReplyFrame) -> io::Result<()> {
        let event = jute::decode_event(frame).map_err(lost)?;
        let (kind, path) = (event.kind, event.path.clone());
        let told = self.memory.chroot.leave_event(event);
        self.memory.watches().on_event(kind, &path, &told);
        self.observers.event(Event::Watch(told));
        Ok(())
    }

    /// True when the identity was refused, which is the end of the session for us: to go on without it could show
    /// others what it was to protect.
    fn on_auth_reply(&mut self, frame: ReplyFrame) -> io::Result<bool> {
        let PendingAuth { scheme, data, reply } =
            self.auths.pop_front().ok_or_else(|| lost("an answer to an auth that nobody sent"))?;
        let answer = frame.into_reply(Shape::Empty).map_err(lost)?;
        let auth = (scheme, data);
        let refused = answer.result.is_err();
        if !refused && reply.is_some() && !self.memory.auths.contains(&auth) {
            // Ours from now on, on later connections too.
            self.memory.auths.push(auth);
        }
        if let Some(reply) = reply {
            let _ = reply.send(Ok(answer));
        }
        Ok(refused)
    }

    /// True when it was the reply to the closeSession.
    fn on_reply(&mut self, frame: ReplyFrame) -> io::Result<bool> {
        let Some(pending) = self.pending.pop_front() else {
            return Err(lost(format_args!("a reply to xid {}, but nothing was asked", frame.xid)));
        };
        if pending.xid != frame.xid {
            let reason = format!("a reply to xid {} instead of {}", frame.xid, pending.xid);
            // It was sent and will not be answered: as in doubt as the others.
            let _ = pending.reply.send(Err(Error::ConnectionLoss(reason.clone())));
            return Err(lost(reason));
        }
        if frame.zxid > Zxid::ZERO {
            self.memory.last_zxid = frame.zxid;
        }
        let reply = match frame.into_reply(pending.shape) {
            Ok(reply) => reply,
            Err(malformed) => {
                let _ = pending.reply.send(Err(Error::Unexpected(malformed.to_string())));
                return Err(lost(malformed));
            }
        };
        if let Effect::Removed { path, .. } = &pending.effect {
            let path = self.memory.chroot.strip(path.clone());
            let removed = self.memory.watches().on_reply(pending.effect, &reply);
            self.observers.removed(&path, removed);
        } else {
            self.memory.watches().on_reply(pending.effect, &reply);
        }
        let _ = pending.reply.send(Ok(reply));
        Ok(self.closing == Some(pending.xid))
    }
}

/// Appends a request; an error is the size of one that is too long (2 GiB stands for all above that).
fn encode(xid: i32, op: &Op, out: &mut BytesMut) -> Result<(), usize> {
    let start = out.len();
    let hint = bulk(op);
    if hint > MAX_REQUEST {
        return Err(hint);
    }
    if jute::encode_request(xid, op, out).is_err() {
        return Err(i32::MAX as usize);
    }
    // Without the length word.
    let size = out.len() - start - size_of::<i32>();
    if size > MAX_REQUEST { Err(size) } else { Ok(()) }
}

/// Bytes of data and path: what can make a request long, looked at before they are copied.
fn bulk(op: &Op) -> usize {
    match op {
        Op::Create { path, data, .. } | Op::SetData { path, data, .. } => {
            path.len() + data.as_ref().map_or(0, Bytes::len)
        }
        Op::Multi(members) => members.iter().map(bulk).sum(),
        Op::Delete { path, .. }
        | Op::Check { path, .. }
        | Op::Exists { path, .. }
        | Op::GetData { path, .. }
        | Op::GetAcl { path }
        | Op::SetAcl { path, .. }
        | Op::GetChildren { path, .. } => path.len(),
        _ => 0,
    }
}
