//! What the reading and the writing half of a client connection know together: how far the handshake is,
//! which requests wait for their answers, when something came or went.
//!
//! This is where back-pressure is decided ([`Talk::allowance`]) and latency is measured. Both halves are
//! tasks of one thread, so cells will do.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use zabra_actors::handle::FromClient;
use zabra_actors::jute;
use zabra_actors::types::{ConnId, ConnectResponse, Op, Reply, Request};

use super::figures::{Figures, Operations};
use super::in_flight::{OfConnection, TooLarge};
use super::listener::Clients;
use super::registry::Admitted;
use super::room::{Answer, Load};
use super::tags;

/// Requests that one client may have unanswered before its socket is left unread. As many as Apache
/// allows the whole server.
const MAX_OUTSTANDING: usize = 1000;

/// How long a connection may take for its handshake (Apache's sessionlessCnxnTimeout), before rounding.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the two tasks of a connection share. They run on one thread.
pub(super) struct Talk {
    pub(super) conn: ConnId,
    pub(super) figures: Arc<Figures>,
    pub(super) clients: Arc<Clients>,
    /// The handshake is done: requests may be read.
    open: Cell<bool>,
    /// When the handshake was asked for, while it is a new session's.
    opening: Cell<Option<Instant>>,
    /// Requests that wait for their answers, in order.
    pending: RefCell<VecDeque<Pending>>,
    /// The same in sum.
    load: Cell<Load>,
    /// What was answered, of which the figures have a copy.
    operations: RefCell<Operations>,
    in_brain: Arc<InBrain>,
    /// The handshake was answered, or requests were.
    progress: Notify,
}

/// A request as it was read.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) request: Request,
    /// Bytes of its frame without the length.
    pub(super) size: usize,
}

impl Asked {
    /// Is it the last request a client can make? What it sends behind it is not read.
    pub(super) fn is_last(&self) -> bool {
        matches!(self.request.op, Op::CloseSession | Op::Auth(Err(_)) | Op::Unknown { .. })
    }
}

/// What may be taken now.
pub(super) struct Room {
    load: Load,
    max_frame: usize,
}

impl Room {
    /// Takes a request; false if there is no room for its answer yet.
    pub(super) fn take(&mut self, asked: &Asked) -> bool {
        let answer = Answer::to(&asked.request.op);
        let fits = self.load.has_room(answer, asked.size, self.max_frame);
        if fits {
            self.load.add(answer, asked.size);
        }
        fits
    }
}

/// A request that waits for its answer.
struct Pending {
    xid: i32,
    asked: Instant,
    is_write: bool,
    answer: Answer,
    size: usize,
    /// What operators see of it; `None` if they see nothing.
    tag: Option<&'static str>,
}

/// The requests of one connection that the brain has not answered, as part of those of all connections: the
/// server-wide limit. What waits for a client's socket does not count: a client that does not read must not
/// cost the others their turn.
pub(super) struct InBrain {
    clients: Arc<Clients>,
    mine: AtomicUsize,
    bytes: OfConnection,
}

impl InBrain {
    pub(super) fn new(clients: Arc<Clients>) -> InBrain {
        InBrain { clients, mine: AtomicUsize::new(0), bytes: OfConnection::default() }
    }

    fn asked(&self, count: usize) {
        self.mine.fetch_add(count, Relaxed);
        self.clients.outstanding.fetch_add(count, Relaxed);
    }

    /// So many were answered; what was never asked, or given back before, is not given back twice.
    pub(super) fn answered(&self, count: usize) {
        let left = self.mine.fetch_update(Relaxed, Relaxed, |mine| Some(mine.saturating_sub(count)));
        let before = left.expect("the update always gives a value");
        let answered = before.min(count);
        self.clients.outstanding.fetch_sub(answered, Relaxed);
        if let Some(door) = &self.clients.door {
            door.left(answered);
        }
        self.bytes.answer(count, &self.clients.in_flight);
    }

    /// A request has come in whole. An error: it is large, and one too many.
    fn arrived(&self, size: usize) -> Result<(), TooLarge> {
        self.bytes.arrive(size, &self.clients.in_flight)
    }
}

impl Talk {
    /// A connection whose handshake is under way.
    pub(super) fn new(
        admitted: &Admitted,
        opening: Option<Instant>,
        clients: Arc<Clients>,
        in_brain: Arc<InBrain>,
    ) -> Talk {
        Talk {
            conn: admitted.conn,
            figures: admitted.figures.clone(),
            clients,
            open: Cell::new(false),
            opening: Cell::new(opening),
            pending: RefCell::default(),
            load: Cell::default(),
            operations: RefCell::new(Operations::none()),
            in_brain,
            progress: Notify::new(),
        }
    }

    /// Returns when the handshake is done: requests may be read.
    pub(super) async fn opened(&self) {
        while !self.open.get() {
            self.progressed().await;
        }
    }

    /// Returns when something was written, now or since the last question.
    pub(super) async fn progressed(&self) {
        self.progress.notified().await;
    }

    /// Something came or went.
    pub(super) fn touch(&self) {
        self.figures.touch(self.clients.started.elapsed());
    }

    /// When something came or went last.
    pub(super) fn active(&self) -> Instant {
        self.figures.active(self.clients.started)
    }

    /// How long the connection may be idle.
    pub(super) fn timeout(&self) -> Duration {
        self.figures.timeout()
    }

    /// How many requests may be read now.
    pub(super) fn allowance(&self) -> usize {
        let own = self.pending.borrow().len();
        let of_all = self.clients.outstanding.load(Relaxed);
        let least = usize::from(own == 0);
        if self.clients.in_flight.is_much() {
            return least;
        }
        let room = self.clients.settings.max_outstanding.saturating_sub(of_all);
        room.min(MAX_OUTSTANDING.saturating_sub(own)).max(least)
    }

    /// What may be taken now by its weight.
    pub(super) fn room(&self) -> Room {
        Room { load: self.load.get(), max_frame: self.clients.settings.max_frame }
    }

    /// A request has come in whole. An error: it is large, and one too many.
    pub(super) fn arrived(&self, size: usize) -> Result<(), TooLarge> {
        self.in_brain.arrived(size)
    }

    /// Sends requests to the brain.
    pub(super) fn ask(&self, asked: Vec<Asked>) {
        if asked.is_empty() {
            return;
        }
        let (now, mut load) = (Instant::now(), self.load.get());
        let mut pending = self.pending.borrow_mut();
        let mut requests = Vec::with_capacity(asked.len());
        for Asked { request, size } in asked {
            let (answer, tag) = (Answer::to(&request.op), tags::of(&request.op));
            load.add(answer, size);
            let (xid, is_write) = (request.xid, request.op.is_write());
            pending.push_back(Pending { xid, asked: now, is_write, answer, size, tag });
            requests.push(request);
        }
        self.load.set(load);
        self.in_brain.asked(requests.len());
        self.clients.stats.packets_received.add(requests.len() as u64);
        self.figures.read(requests.len() as u64, pending.len());
        self.clients.brain.clients.do_send(FromClient::Requests(requests));
    }

    /// The handshake is answered; a session with this time-out, in milliseconds, is open. 0 is a refusal:
    /// nothing is read any more, and a Close follows.
    pub(super) fn connected(&self, response: &ConnectResponse, now: Instant) {
        let Ok(ms @ 1..) = u64::try_from(response.timeout_ms) else { return };
        self.figures.connected(response.session, Duration::from_millis(ms));
        self.open.set(true);
        if let Some(asked) = self.opening.take() {
            let us = (now - asked).as_micros() as u64;
            self.clients.stats.updatelatency_us.observe(us);
            let last_zxid = self.clients.stats.last_zxid.get();
            self.note(tags::SESSION, 0, last_zxid, us, now);
        }
    }

    /// A request was answered. Those before it that were not never will be: they were dropped because
    /// this connection is about to be closed.
    pub(super) fn answered(&self, reply: &Reply, now: Instant) {
        let mut pending = self.pending.borrow_mut();
        while let Some(request) = pending.pop_front() {
            let mut load = self.load.get();
            load.remove(request.answer, request.size);
            self.load.set(load);
            // A ping is answered with the xid of pings whatever its own was.
            if request.xid != reply.xid && reply.xid != jute::PING_XID {
                continue;
            }
            let Some(tag) = request.tag else { return };
            let us = (now - request.asked).as_micros() as u64;
            let stats = &self.clients.stats;
            let latency = if request.is_write { &stats.updatelatency_us } else { &stats.readlatency_us };
            latency.observe(us);
            // A write that failed was nothing, to Apache.
            let tag = if request.is_write && reply.result.is_err() { tags::NOTHING } else { tag };
            return self.note(tag, request.xid, reply.zxid.0, us, now);
        }
    }

    /// What operators see of an answer.
    fn note(&self, tag: &'static str, cxid: i32, zxid: i64, us: u64, now: Instant) {
        let mut operations = self.operations.borrow_mut();
        if let Some(anew) = self.figures.take_reset() {
            *operations = anew;
        }
        operations.answered(tag, cxid, zxid, us / 1000);
        operations.last_response_ms = self.clients.monotonic_ms(now);
    }

    /// So much was written.
    pub(super) fn wrote(&self, frames: u64, bytes: usize) {
        self.touch();
        self.clients.stats.packets_sent.add(frames);
        self.clients.stats.bytes_sent.add(bytes as u64);
        self.figures.wrote(frames, self.pending.borrow().len());
        let mut operations = self.operations.borrow_mut();
        if let Some(anew) = self.figures.take_reset() {
            *operations = anew;
        }
        self.figures.publish(&operations);
        self.progress.notify_one();
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // What the brain never answers, since the connection is gone.
        self.in_brain.answered(usize::MAX);
    }
}
