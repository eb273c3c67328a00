//! The simulated network: one link for each pair of servers, in order within a direction, like TCP.
//!
//! What can go wrong is what goes wrong with TCP: a link is reset and everything in flight is lost, or a
//! direction stalls (a partition: the kernel would retransmit) and later delivers late, or resets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::Notify;
use tokio::time::Instant;
use zabra_actors::handle::FromPeer;
use zabra_actors::ports::PeerLinks;
use zabra_actors::types::{Envelope, Packet, Sid, Tenure};

use super::checker::Checker;
use super::rng::Rng;

/// How long links and packets take, in ms. Drawn from the seed.
#[derive(Clone, Debug)]
pub struct Delays {
    /// The least delay of a packet.
    pub packet_min: u64,
    /// The greatest.
    pub packet_max: u64,
    /// The greatest time until a lost link is there again.
    pub redial_max: u64,
}

/// See the module's story.
#[derive(Clone)]
pub struct SimNet {
    inner: Arc<Mutex<Inner>>,
    wake: Arc<Notify>,
    origin: Instant,
}

struct Inner {
    rng: Rng,
    delays: Delays,
    nodes: BTreeMap<Sid, Recipient<FromPeer>>,
    observers: BTreeSet<Sid>,
    links: BTreeMap<(Sid, Sid), Link>,
    events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
}

/// A pair's link; the smaller sid comes first in its key.
#[derive(Default)]
struct Link {
    up: bool,
    dialling: bool,
    /// Distinguishes what was sent before a reset from what comes after.
    generation: u64,
    /// No new link comes up.
    cut: bool,
    /// Stalled directions, by sender, and what waits there.
    stalled: BTreeMap<Sid, Vec<Envelope>>,
    /// When the last packet of each direction arrives: the next is not earlier.
    busy_until: BTreeMap<Sid, u64>,
}

enum Event {
    Up { pair: (Sid, Sid), generation: u64 },
    Down { to: Sid, peer: Sid },
    Packet { from: Sid, to: Sid, generation: u64, envelope: Envelope },
}

fn pair(a: Sid, b: Sid) -> (Sid, Sid) {
    (a.min(b), a.max(b))
}

impl SimNet {
    /// A network without servers.
    pub fn new(rng: Rng, delays: Delays, observers: BTreeSet<Sid>) -> SimNet {
        let inner = Inner {
            rng,
            delays,
            nodes: BTreeMap::new(),
            observers,
            links: BTreeMap::new(),
            events: BTreeMap::new(),
            sequence: 0,
        };
        SimNet { inner: Arc::new(Mutex::new(inner)), wake: Arc::new(Notify::new()), origin: Instant::now() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics with this lock")
    }

    /// Milliseconds since the run began.
    pub fn now(&self) -> u64 {
        self.origin.elapsed().as_millis() as u64
    }

    /// A server is there: its links come up one by one.
    pub fn join(&self, sid: Sid, node: Recipient<FromPeer>) {
        let now = self.now();
        let mut inner = self.lock();
        inner.nodes.insert(sid, node);
        inner.dial_all(now);
        self.wake.notify_one();
    }

    /// A server has crashed: its peers' kernels see a reset.
    pub fn leave(&self, sid: Sid) {
        let now = self.now();
        let mut inner = self.lock();
        inner.nodes.remove(&sid);
        let peers: Vec<Sid> = inner.nodes.keys().copied().collect();
        for peer in peers {
            inner.reset(now, pair(sid, peer));
        }
        self.wake.notify_one();
    }

    /// The link of two servers is reset; it will be dialled again unless it is cut.
    pub fn reset(&self, a: Sid, b: Sid) {
        let now = self.now();
        let mut inner = self.lock();
        inner.reset(now, pair(a, b));
        inner.dial_all(now);
        self.wake.notify_one();
    }

    /// What `from` sends to `to` stalls until the network heals.
    pub fn stall(&self, from: Sid, to: Sid) {
        let mut inner = self.lock();
        let link = inner.links.entry(pair(from, to)).or_default();
        link.stalled.entry(from).or_default();
        link.cut = true;
    }

    /// Every stalled direction flows again, late packets first; or its link is reset.
    pub fn heal(&self) {
        let now = self.now();
        let mut inner = self.lock();
        let pairs: Vec<_> = inner.links.keys().copied().collect();
        for key in pairs {
            let link = inner.links.get_mut(&key).expect("listed");
            link.cut = false;
            let stalled = std::mem::take(&mut link.stalled);
            if stalled.is_empty() {
                continue;
            }
            if inner.rng.percent(50) {
                inner.reset(now, key);
                continue;
            }
            for (from, waiting) in stalled {
                let to = if from == key.0 { key.1 } else { key.0 };
                for envelope in waiting {
                    inner.send(now, from, to, envelope);
                }
            }
        }
        inner.dial_all(now);
        self.wake.notify_one();
    }

    /// Delivers what is due, for ever.
    pub async fn run(self) {
        loop {
            let next = self.lock().events.keys().next().map(|(due, _)| *due);
            let Some(due) = next else {
                self.wake.notified().await;
                continue;
            };
            if due > self.now() {
                let due = self.origin + Duration::from_millis(due);
                tokio::select! {
                    biased;
                    () = self.wake.notified() => continue,
                    () = tokio::time::sleep_until(due) => {}
                }
            }
            let now = self.now();
            self.lock().deliver_due(now);
        }
    }
}

impl Inner {
    fn schedule(&mut self, due: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((due, self.sequence), event);
    }

    fn dial_all(&mut self, now: u64) {
        let sids: Vec<Sid> = self.nodes.keys().copied().collect();
        for (i, a) in sids.iter().enumerate() {
            for b in &sids[i + 1..] {
                let both_observe = self.observers.contains(a) && self.observers.contains(b);
                let link = self.links.entry((*a, *b)).or_default();
                if link.up || link.dialling || link.cut || both_observe {
                    continue;
                }
                link.dialling = true;
                link.generation += 1;
                let generation = link.generation;
                let due = now + 1 + self.rng.within(0..self.delays.redial_max);
                self.schedule(due, Event::Up { pair: (*a, *b), generation });
            }
        }
    }

    fn reset(&mut self, now: u64, key: (Sid, Sid)) {
        let Some(link) = self.links.get_mut(&key) else { return };
        let was_up = link.up;
        link.up = false;
        link.dialling = false;
        link.generation += 1;
        link.busy_until.clear();
        link.stalled.values_mut().for_each(Vec::clear);
        if was_up {
            for (to, peer) in [(key.0, key.1), (key.1, key.0)] {
                if self.nodes.contains_key(&to) {
                    let due = now + self.rng.within(0..5);
                    self.schedule(due, Event::Down { to, peer });
                }
            }
        }
    }

    fn send(&mut self, now: u64, from: Sid, to: Sid, envelope: Envelope) {
        let delay = self.rng.within(self.delays.packet_min..self.delays.packet_max + 1);
        let Some(link) = self.links.get_mut(&pair(from, to)) else { return };
        if !link.up {
            return;
        }
        if let Some(waiting) = link.stalled.get_mut(&from) {
            waiting.push(envelope);
            return;
        }
        let generation = link.generation;
        let busy = link.busy_until.entry(from).or_default();
        *busy = (now + delay).max(*busy);
        let due = *busy;
        self.schedule(due, Event::Packet { from, to, generation, envelope });
    }

    fn deliver_due(&mut self, now: u64) {
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > now {
                break;
            }
            match entry.remove() {
                Event::Up { pair: key, generation } => self.link_up(now, key, generation),
                Event::Down { to, peer } => self.tell(to, FromPeer::LinkDown(peer)),
                Event::Packet { from, to, generation, envelope } => {
                    if self.links[&pair(from, to)].generation == generation {
                        self.tell(to, FromPeer::Packets(from, vec![envelope]));
                    }
                }
            }
        }
    }

    fn link_up(&mut self, now: u64, key: (Sid, Sid), generation: u64) {
        let both = self.nodes.contains_key(&key.0) && self.nodes.contains_key(&key.1);
        let downs_due = self.events.values().any(|event| match event {
            Event::Down { to, peer } => pair(*to, *peer) == key,
            _ => false,
        });
        if downs_due {
            // Each side hears of the old link's end before it hears of the new link.
            return self.schedule(now + 1, Event::Up { pair: key, generation });
        }
        let link = self.links.get_mut(&key).expect("it was dialled");
        if link.generation != generation {
            return;
        }
        link.dialling = false;
        if both && !link.cut {
            link.up = true;
            self.tell(key.0, FromPeer::LinkUp(key.1));
            self.tell(key.1, FromPeer::LinkUp(key.0));
        }
    }

    fn tell(&self, to: Sid, what: FromPeer) {
        if let Some(node) = self.nodes.get(&to) {
            node.do_send(what);
        }
    }
}

/// One server's way to its peers, as long as this incarnation of it lives.
pub struct SimLinks {
    net: SimNet,
    me: Sid,
    checker: Arc<Checker>,
    lives: Arc<AtomicBool>,
}

impl SimLinks {
    /// The links of a server.
    pub fn new(net: SimNet, me: Sid, checker: Arc<Checker>, lives: Arc<AtomicBool>) -> SimLinks {
        SimLinks { net, me, checker, lives }
    }
}

impl PeerLinks for SimLinks {
    fn send(&self, to: &[(Sid, Tenure)], packet: &Packet) {
        if !self.lives.load(Relaxed) {
            return;
        }
        let now = self.net.now();
        let mut inner = self.net.lock();
        for (to, tenure) in to {
            self.checker.sent(self.me, *tenure, packet);
            inner.send(now, self.me, *to, Envelope { tenure: *tenure, packet: packet.clone() });
        }
        self.net.wake.notify_one();
    }
}
