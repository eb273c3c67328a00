//! What operators see of a connection. Its tasks write here, whoever answers a word reads, from any thread.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use zabra_actors::types::SessionId;

use super::talk::HANDSHAKE_TIMEOUT;

/// The server waits for bytes of this connection.
pub(super) const READS: u8 = 1;

/// The server waits for this connection to take bytes.
pub(super) const WRITES: u8 = 4;

/// See the module's story.
pub(super) struct Figures {
    /// The client's address.
    pub(super) remote: SocketAddr,
    /// When it was accepted, in ms since 1970.
    pub(super) established: u64,
    /// Frames read.
    pub(super) received: AtomicU64,
    /// Frames written.
    pub(super) sent: AtomicU64,
    /// Requests read and not answered yet.
    pub(super) queued: AtomicU64,
    /// [`READS`] and [`WRITES`].
    interest: AtomicU8,
    /// 0 before there is one.
    session: AtomicI64,
    /// How long it may be idle, in ms.
    timeout_ms: AtomicU32,
    /// When something came or went last, in ms since the listener began.
    active_ms: AtomicU64,
    operations: Mutex<Operations>,
    /// The connection's own copy of its operations is to be thrown away.
    begin_anew: AtomicBool,
}

/// What was answered on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Operations {
    /// `None` before any.
    pub(super) last_op: Option<&'static str>,
    /// The client's number for the last one that had no special one; `None` after a reset.
    pub(super) last_cxid: Option<i32>,
    /// What its reply showed.
    pub(super) last_zxid: i64,
    /// When it was answered: the system's monotonic clock in ms.
    pub(super) last_response_ms: u64,
    pub(super) last_latency_ms: u64,
    pub(super) min_latency_ms: Option<u64>,
    pub(super) max_latency_ms: u64,
    pub(super) total_latency_ms: u64,
    pub(super) count: u64,
}

impl Operations {
    /// As Apache begins: zeros that stand for nothing.
    pub(super) fn none() -> Operations {
        Operations {
            last_op: None,
            last_cxid: Some(0),
            last_zxid: 0,
            last_response_ms: 0,
            last_latency_ms: 0,
            min_latency_ms: None,
            max_latency_ms: 0,
            total_latency_ms: 0,
            count: 0,
        }
    }

    /// As Apache has it after `crst`.
    fn reset() -> Operations {
        Operations { last_op: Some("NA"), last_cxid: None, last_zxid: -1, ..Operations::none() }
    }

    /// One more was answered.
    pub(super) fn answered(&mut self, op: &'static str, cxid: i32, zxid: i64, latency_ms: u64) {
        // Special numbers say nothing about what the client does.
        if cxid >= 0 {
            self.last_cxid = Some(cxid);
        }
        self.last_op = Some(op);
        self.last_zxid = zxid;
        self.last_latency_ms = latency_ms;
        self.min_latency_ms = Some(self.min_latency_ms.map_or(latency_ms, |min| min.min(latency_ms)));
        self.max_latency_ms = self.max_latency_ms.max(latency_ms);
        self.total_latency_ms += latency_ms;
        self.count += 1;
    }
}

impl Figures {
    /// Of a connection from there that was accepted now.
    pub(super) fn new(remote: SocketAddr) -> Figures {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Figures {
            remote,
            established: millis(wall),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            interest: AtomicU8::new(READS),
            session: AtomicI64::new(0),
            timeout_ms: AtomicU32::new(HANDSHAKE_TIMEOUT.as_millis() as u32),
            active_ms: AtomicU64::new(0),
            operations: Mutex::new(Operations::none()),
            begin_anew: AtomicBool::new(false),
        }
    }

    /// More frames were read, and so many requests wait now.
    pub(super) fn read(&self, frames: u64, queued: usize) {
        self.received.fetch_add(frames, Relaxed);
        self.queued.store(queued as u64, Relaxed);
    }

    /// More frames were written, and so many requests wait now.
    pub(super) fn wrote(&self, frames: u64, queued: usize) {
        self.sent.fetch_add(frames, Relaxed);
        self.queued.store(queued as u64, Relaxed);
    }

    /// What the server waits for, as bits.
    pub(super) fn interest(&self) -> u8 {
        self.interest.load(Relaxed)
    }

    /// It waits for this from now on.
    pub(super) fn begin(&self, what: u8) {
        self.interest.fetch_or(what, Relaxed);
    }

    /// It does not wait for this any more.
    pub(super) fn end(&self, what: u8) {
        self.interest.fetch_and(!what, Relaxed);
    }

    /// The session it has, if any.
    pub(super) fn session(&self) -> Option<SessionId> {
        Some(SessionId(self.session.load(Relaxed))).filter(|session| *session != SessionId::NONE)
    }

    /// It has a session, and may be idle for so long.
    pub(super) fn connected(&self, session: SessionId, timeout: Duration) {
        self.timeout_ms.store(u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX), Relaxed);
        self.session.store(session.0, Relaxed);
    }

    /// How long it may be idle.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(u64::from(self.timeout_ms.load(Relaxed)))
    }

    /// Something came or went, so long after the listener began.
    pub(super) fn touch(&self, since_start: Duration) {
        self.active_ms.store(millis(since_start), Relaxed);
    }

    /// When something came or went last.
    pub(super) fn active(&self, listener_started: Instant) -> Instant {
        listener_started + Duration::from_millis(self.active_ms.load(Relaxed))
    }

    /// What was answered, as far as the connection has told.
    pub(super) fn operations(&self) -> Operations {
        self.lock().clone()
    }

    /// The connection tells.
    pub(super) fn publish(&self, operations: &Operations) {
        self.lock().clone_from(operations);
    }

    /// `crst`: count anew.
    pub(super) fn reset(&self) {
        self.begin_anew.store(true, Relaxed);
        *self.lock() = Operations::reset();
        self.received.store(0, Relaxed);
        self.sent.store(0, Relaxed);
    }

    /// What the connection's own copy is to be replaced by, once after each reset.
    pub(super) fn take_reset(&self) -> Option<Operations> {
        // The plain look first: this is asked for every answer.
        let is_new = self.begin_anew.load(Relaxed) && self.begin_anew.swap(false, Relaxed);
        is_new.then(Operations::reset)
    }

    fn lock(&self) -> MutexGuard<'_, Operations> {
        self.operations.lock().expect("no holder of this lock panics")
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_kept_with_the_last_operation() {
        let mut operations = Operations::none();
        operations.answered("GETD", 5, 9, 3);
        operations.answered("PING", -2, 10, 1);
        assert_eq!((operations.last_op, operations.last_cxid), (Some("PING"), Some(5)));
        assert_eq!((operations.last_zxid, operations.last_latency_ms), (10, 1));
        assert_eq!((operations.min_latency_ms, operations.max_latency_ms), (Some(1), 3));
        assert_eq!((operations.total_latency_ms, operations.count), (4, 2));
    }

    #[test]
    fn a_reset_reaches_the_connection_once() {
        let figures = Figures::new(SocketAddr::from(([127, 0, 0, 1], 1)));
        assert_eq!(figures.take_reset(), None);
        figures.read(3, 2);
        figures.reset();
        assert_eq!(figures.received.load(Relaxed), 0);
        assert_eq!(figures.queued.load(Relaxed), 2, "what waits still waits");
        assert_eq!(figures.operations().last_op, Some("NA"));
        assert_eq!(figures.take_reset(), Some(Operations::reset()));
        assert_eq!(figures.take_reset(), None);
    }

    #[test]
    fn interest_is_bits() {
        let figures = Figures::new(SocketAddr::from(([127, 0, 0, 1], 1)));
        figures.begin(WRITES);
        assert_eq!(figures.interest(), 5);
        figures.end(READS);
        assert_eq!(figures.interest(), 4);
    }
}
