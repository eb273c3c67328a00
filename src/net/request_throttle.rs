//! At most so many requests in the brain at a time; the others wait at its door in the order in which they came,
//! whoever sent them, and meanwhile their connections are not read.
//!
//! A request that waits for nothing is dropped, and its connection with it: its client is gone, or (if that is
//! wanted) has waited longer than its session lasts. One that has waited longer than operations may is answered
//! ThrottledOp in its turn, and nothing is done.
//!
//! Off by default; then nothing here is asked.

use std::time::Duration;

use futures::FutureExt;
use tokio::io::Interest;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};
use zabra_actors::jute::opcode;
use zabra_actors::types::{Op, Request};

use super::connection::End;
use super::talk::{Asked, Talk};

/// The settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestThrottle {
    /// Requests of all clients in the brain.
    pub max_requests: usize,
    /// How often a request that waits is looked at.
    pub stall_time: Duration,
    /// Is a stale one dropped?
    pub drop_stale: bool,
    /// Is a request stale when its connection is closed?
    pub stale_connection_check: bool,
    /// Is it when it waits for longer than the session's time-out?
    pub stale_latency_check: bool,
    /// A request that has waited for longer is answered ThrottledOp.
    pub op_wait_time: Option<Duration>,
}

/// The door.
pub(super) struct Door {
    settings: RequestThrottle,
    room: Semaphore,
}

impl Door {
    /// Nobody is in.
    pub(super) fn new(settings: RequestThrottle) -> Door {
        Door { room: Semaphore::new(settings.max_requests), settings }
    }

    /// So many that went in were answered, or never will be.
    pub(super) fn left(&self, count: usize) {
        self.room.add_permits(count);
    }

    /// Sends requests to the brain as there is room for them. An error ends the connection: what it has asked
    /// behind the request that was dropped is dropped as well.
    pub(super) async fn pass(
        &self,
        asked: Vec<Asked>,
        socket: &OwnedReadHalf,
        talk: &Talk,
    ) -> Result<(), End> {
        let queued = Instant::now();
        let stats = &talk.clients.stats;
        let mut batch = Batch { asked: Vec::new(), held: None };
        for mut asked in asked {
            let is_stale = || self.is_stale(&asked.request, queued, socket, talk);
            if self.settings.drop_stale && is_stale() {
                stats.stale_requests_dropped.inc();
                return Err(End::Stale);
            }
            let permit = match self.room.try_acquire() {
                Ok(permit) => permit,
                Err(_) => {
                    batch.send(talk);
                    self.wait(is_stale, talk).await?
                }
            };
            batch.held = match batch.held.take() {
                None => Some(permit),
                Some(mut held) => {
                    held.merge(permit);
                    Some(held)
                }
            };
            if self.is_stale(&asked.request, queued, socket, talk) {
                stats.stale_requests.inc();
            }
            let waited = queued.elapsed();
            stats.request_throttle_queue_time_us.observe(waited.as_micros() as u64);
            let request = &mut asked.request;
            if is_throttlable(&request.op) && self.settings.op_wait_time.is_some_and(|most| waited > most) {
                stats.throttled_ops.inc();
                request.op = Op::Throttled { opcode: opcode::of(&request.op) };
            }
            batch.asked.push(asked);
        }
        batch.send(talk);
        Ok(())
    }

    /// Waits for room.
    async fn wait(&self, is_stale: impl Fn() -> bool, talk: &Talk) -> Result<SemaphorePermit<'_>, End> {
        let stats = &talk.clients.stats;
        // One future for all the time: it keeps the place in the queue.
        let mut room = std::pin::pin!(self.room.acquire());
        loop {
            stats.request_throttle_wait_count.inc();
            match timeout(self.settings.stall_time, &mut room).await {
                Ok(permit) => return Ok(permit.expect("this semaphore is never closed")),
                Err(_) if self.settings.drop_stale && is_stale() => {
                    stats.stale_requests_dropped.inc();
                    return Err(End::Stale);
                }
                Err(_) => {}
            }
        }
    }

    fn is_stale(&self, request: &Request, queued: Instant, socket: &OwnedReadHalf, talk: &Talk) -> bool {
        // A session may be closed by who does not stay for the answer.
        if matches!(request.op, Op::CloseSession) {
            return false;
        }
        self.settings.stale_connection_check && is_closed(socket)
            || self.settings.stale_latency_check && queued.elapsed() > talk.timeout()
    }
}

/// Requests that have room, and their room until they are sent.
struct Batch<'a> {
    asked: Vec<Asked>,
    held: Option<SemaphorePermit<'a>>,
}

impl Batch<'_> {
    /// From here on they count as the connection's; what it leaves comes back by [`Door::left`].
    fn send(&mut self, talk: &Talk) {
        if let Some(held) = self.held.take() {
            held.forget();
            talk.ask(std::mem::take(&mut self.asked));
        }
    }
}

/// Whether a session lives is not put off.
fn is_throttlable(op: &Op) -> bool {
    !matches!(op, Op::Ping | Op::CloseSession | Op::CreateSession { .. } | Op::Auth(_))
}

/// Has the client closed its end? Its bytes before that may not have been read.
fn is_closed(socket: &OwnedReadHalf) -> bool {
    match socket.ready(Interest::READABLE).now_or_never() {
        Some(Ok(ready)) => ready.is_read_closed(),
        Some(Err(_)) => true,
        None => false,
    }
}
