//! The simulated network: links between servers, connections of clients, and one queue of what is under way.
//!
//! What can go wrong is what goes wrong with TCP, whose order within a direction holds as long as the connection
//! does: a connection is reset and everything in flight is lost; one end hears of that long before the other
//! (half-open); a direction stalls, and later delivers late or not at all; a server is slow to reach. Order
//! between two connections is nobody's promise, and delays are drawn for each packet.

mod clients;
mod peers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use actix::prelude::*;
use tokio::sync::{Notify, mpsc};
use zabra_actors::core::mutant::{Mutant, mutated};
use zabra_actors::handle::{Brain, FromPeer};
use zabra_actors::ports::{ClientSink, PeerLinks};
use zabra_actors::types::{Auth, ConnId, Deliver, Envelope, Packet, Sid, Tenure};

use self::clients::Clients;
pub use self::clients::Says;
use self::peers::Peers;
use super::checker::Checker;
use super::rng::Rng;
use super::story::Story;

/// How long links and packets take, in ms. Drawn from the seed.
#[derive(Clone, Debug)]
pub struct Delays {
    /// The greatest delay of a packet between servers; the least is 1.
    pub peer_max: u64,
    /// The same between a client and its server.
    pub client_max: u64,
    /// The greatest time until a lost link is there again.
    pub redial_max: u64,
    /// How long a packet between servers takes up its link: many at once come one by one.
    pub packet: u64,
}

/// The longest time, in ms, until an end that sends into the void is told so by its kernel (the links' limit on
/// what is unanswered).
const UNANSWERED_MS: u64 = 10_000;
/// Every how many proposals [`Mutant::Hole`] leaves one out.
const HOLE_EVERY: u64 = 20;

/// See the module's story. Clones are the same network.
#[derive(Clone)]
pub struct SimNet {
    inner: Arc<Mutex<Inner>>,
    wake: Arc<Notify>,
    story: Story,
}

struct Inner {
    rng: Rng,
    story: Story,
    checker: Arc<Checker>,
    delays: Delays,
    peers: Peers,
    clients: Clients,
    /// Servers that are slow to reach, and by how many ms.
    slow: BTreeMap<Sid, u64>,
    /// What is under way, by the time when it arrives.
    events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    /// When the courier wakes up by itself.
    alarm: u64,
    delivered: u64,
    /// Of everything that was delivered, in order: two runs with the same trace were the same.
    trace: u64,
}

enum Event {
    /// A dial has come through.
    Up { pair: (Sid, Sid), attempt: u64 },
    /// The dialling end hears that it did.
    UpToo { to: Sid, peer: Sid, generation: u64 },
    /// An end is told that its link is gone.
    Down { to: Sid, peer: Sid, generation: u64 },
    /// A packet arrives.
    Packet { from: Sid, to: Sid, generation: u64, envelope: Envelope },
    /// A client's word arrives.
    ToServer { conn: ConnId, says: Says },
    /// A server's word to a client arrives.
    ToClient { conn: ConnId, batch: Vec<Deliver> },
    /// A process goes on.
    Resume { server: Sid },
}

impl SimNet {
    /// A network without servers.
    pub fn new(
        rng: Rng,
        delays: Delays,
        observers: BTreeSet<Sid>,
        story: Story,
        checker: Arc<Checker>,
    ) -> SimNet {
        let inner = Inner {
            rng,
            story: story.clone(),
            checker,
            delays,
            peers: Peers::new(observers),
            clients: Clients::default(),
            slow: BTreeMap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            alarm: u64::MAX,
            delivered: 0,
            trace: 0,
        };
        SimNet { inner: Arc::new(Mutex::new(inner)), wake: Arc::new(Notify::new()), story }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics with this lock")
    }

    /// Changes something, and sees to it that the courier is up in time for what follows.
    fn change<T>(&self, change: impl FnOnce(&mut Inner, u64) -> T) -> T {
        let mut inner = self.lock();
        let changed = change(&mut inner, self.story.now());
        if inner.events.keys().next().is_some_and(|(due, _)| *due < inner.alarm) {
            self.wake.notify_one();
        }
        changed
    }

    /// Deliveries so far, and their trace.
    pub fn delivered(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.delivered, inner.trace)
    }

    /// A server is there: its links come up one by one.
    pub fn join(&self, sid: Sid, node: Recipient<FromPeer>) {
        self.change(|inner, now| inner.join(now, sid, node));
    }

    /// A server's process has died. Its machine says so to everybody, unless it is off, too (`silently`).
    pub fn leave(&self, sid: Sid, silently: bool) {
        self.change(|inner, now| {
            inner.leave(now, sid, silently);
            inner.hang_up(sid, silently);
        });
    }

    /// The link of two servers is reset.
    pub fn reset(&self, a: Sid, b: Sid) {
        self.change(|inner, now| inner.reset(now, a, b));
    }

    /// The link of two servers is gone, but only one of them is told.
    pub fn half_open(&self, aware: Sid, unaware: Sid) {
        self.change(|inner, now| inner.half_open(now, aware, unaware));
    }

    /// What `from` sends to `to` stalls until the network heals.
    pub fn stall(&self, from: Sid, to: Sid) {
        self.change(|inner, _| inner.stall(from, to));
    }

    /// What a server and its clients say to each other stalls until the network heals.
    pub fn stall_clients(&self, server: Sid) {
        self.change(|inner, _| inner.stall_clients(server));
    }

    /// A server is that much slower to reach until the network heals, in ms.
    pub fn slow_down(&self, server: Sid, by_ms: u64) {
        self.change(|inner, _| inner.slow.insert(server, by_ms));
    }

    /// A process stands still for so many ms: what comes for it waits.
    pub fn pause(&self, server: Sid, until: u64) {
        self.change(|inner, _| inner.pause(server, until));
    }

    /// Everything between these servers, and their clients, flows again: what is late comes first, or the
    /// connection is reset.
    pub fn heal(&self, among: &BTreeSet<Sid>) {
        self.change(|inner, now| {
            inner.slow.retain(|sid, _| !among.contains(sid));
            inner.heal_links(now, among);
            inner.heal_clients(now, among);
        });
    }

    /// A client opens a connection; what the server says comes out of the receiver, which ends with it.
    pub fn connect(
        &self,
        conn: ConnId,
        server: Sid,
        brain: Brain,
        auth: Auth,
    ) -> mpsc::UnboundedReceiver<Vec<Deliver>> {
        let (inbox, deliveries) = mpsc::unbounded_channel();
        self.change(|inner, now| {
            inner.open(conn, server, brain, inbox);
            let sink = SimSink { net: self.clone(), conn };
            inner.say(now, conn, Says::Open(auth, Box::new(sink)));
        });
        deliveries
    }

    /// A client says something.
    pub fn say(&self, conn: ConnId, says: Says) {
        self.change(|inner, now| inner.say(now, conn, says));
    }

    /// The run is over: nothing keeps anything alive any more.
    pub fn close(&self) {
        let mut inner = self.lock();
        let events = std::mem::take(&mut inner.events);
        inner.forget_clients();
        inner.peers = Peers::new(BTreeSet::new());
        drop(inner); // what is dropped now may speak once more
        drop(events);
    }

    /// Delivers what is due, for ever.
    pub async fn run(self) {
        loop {
            let due = {
                let mut inner = self.lock();
                inner.alarm = inner.events.keys().next().map_or(u64::MAX, |(due, _)| *due);
                inner.alarm
            };
            if due == u64::MAX {
                self.wake.notified().await;
                continue;
            }
            if due > self.story.now() {
                tokio::select! {
                    biased;
                    () = self.wake.notified() => continue,
                    () = tokio::time::sleep_until(self.story.at(due)) => {}
                }
            }
            self.lock().deliver_due(self.story.now());
        }
    }
}

impl Inner {
    fn schedule(&mut self, due: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((due, self.sequence), event);
    }

    /// A delay of up to `max`, and more if one of these is slow.
    fn delay(&self, max: u64, ends: &[Sid]) -> u64 {
        let slow: u64 = ends.iter().filter_map(|sid| self.slow.get(sid)).sum();
        self.rng.within(1..max + 1) + slow
    }

    fn deliver_due(&mut self, now: u64) {
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let event = entry.remove();
            self.delivered += 1;
            self.record(now, &event);
            self.deliver(now, event);
        }
    }

    fn deliver(&mut self, now: u64, event: Event) {
        match event {
            Event::Up { pair, attempt } => self.link_up(now, pair, attempt),
            Event::UpToo { to, peer, generation } => self.link_up_too(to, peer, generation),
            Event::Down { to, peer, generation } => self.link_down(now, to, peer, generation),
            Event::Packet { from, to, generation, envelope } => {
                self.arrive(now, from, to, generation, envelope)
            }
            Event::ToServer { conn, says } => self.bring_to_server(now, conn, says),
            Event::ToClient { conn, batch } => self.bring_to_client(conn, batch),
            Event::Resume { server } => self.resume(now, server),
        }
    }

    fn record(&mut self, now: u64, event: &Event) {
        let (kind, a, b) = match event {
            Event::Up { pair, .. } => (1, u64::from(pair.0.0), u64::from(pair.1.0)),
            Event::UpToo { to, peer, .. } => (2, u64::from(to.0), u64::from(peer.0)),
            Event::Down { to, peer, .. } => (3, u64::from(to.0), u64::from(peer.0)),
            Event::Packet { from, to, envelope, .. } => {
                (4 + envelope.packet.name().len() as u64, u64::from(from.0), u64::from(to.0))
            }
            Event::ToServer { conn, .. } => (40, conn.0, 0),
            Event::ToClient { conn, batch } => (41, conn.0, batch.len() as u64),
            Event::Resume { server } => (42, u64::from(server.0), 0),
        };
        for part in [now, kind, a, b] {
            self.trace = (self.trace ^ part).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
        }
    }
}

/// One server's way to its peers, as long as this incarnation of it lives.
pub struct SimLinks {
    net: SimNet,
    me: Sid,
    checker: Arc<Checker>,
    lives: Arc<AtomicBool>,
    /// After so many packets the process is no more.
    last_words: Arc<LastWords>,
    /// Proposals sent so far.
    proposals: AtomicU64,
}

/// A crash in the middle of whatever a process is doing: it is planned for the n-th packet that it sends.
pub struct LastWords {
    left: Mutex<Option<u64>>,
    /// What happens then.
    end: Box<dyn Fn() + Send + Sync>,
}

impl LastWords {
    /// Nothing is planned.
    pub fn new(end: Box<dyn Fn() + Send + Sync>) -> LastWords {
        LastWords { left: Mutex::new(None), end }
    }

    /// The process dies instead of sending its `packet`-th packet from now on.
    pub fn plan(&self, packet: u64) {
        *self.left.lock().expect("nobody panics with this lock") = Some(packet);
    }

    /// One more is to be sent. True: it is not, the process is dead.
    fn is_over(&self) -> bool {
        let mut left = self.left.lock().expect("nobody panics with this lock");
        let Some(packets) = &mut *left else { return false };
        *packets = packets.saturating_sub(1);
        let over = *packets == 0;
        if over {
            *left = None;
            (self.end)();
        }
        over
    }
}

impl SimLinks {
    /// The links of a server.
    pub fn new(
        net: SimNet,
        me: Sid,
        checker: Arc<Checker>,
        lives: Arc<AtomicBool>,
        last_words: Arc<LastWords>,
    ) -> SimLinks {
        SimLinks { net, me, checker, lives, last_words, proposals: AtomicU64::new(0) }
    }

    fn send_one(&self, to: Sid, tenure: Tenure, packet: &Packet) {
        self.checker.sent(self.me, to, tenure, packet);
        let envelope = Envelope { tenure, packet: packet.clone() };
        self.net.change(|inner, now| inner.send(now, self.me, to, envelope));
    }
}

impl PeerLinks for SimLinks {
    fn send(&self, to: &[(Sid, Tenure)], packet: &Packet) {
        for (to, tenure) in to {
            if !self.lives.load(Relaxed) || self.last_words.is_over() {
                return;
            }
            if mutated(Mutant::Hole)
                && matches!(packet, Packet::Proposal(_))
                && self.proposals.fetch_add(1, Relaxed) % HOLE_EVERY == HOLE_EVERY - 1
            {
                continue;
            }
            self.send_one(*to, *tenure, packet);
            if let Packet::Proposal(entry) = packet
                && mutated(Mutant::EarlyCommit)
            {
                self.send_one(*to, *tenure, &Packet::Commit { zxid: entry.zxid() });
            }
        }
    }
}

/// The way from a server to one of its clients.
struct SimSink {
    net: SimNet,
    conn: ConnId,
}

impl ClientSink for SimSink {
    fn deliver(&self, batch: Vec<Deliver>) {
        self.net.change(|inner, now| inner.answer(now, self.conn, batch));
    }
}
