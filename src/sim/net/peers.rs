//! Links between servers: one for each pair; who dials is fixed, and a lost link is dialled for ever.

use std::collections::{BTreeMap, BTreeSet};

use actix::prelude::*;
use zabra_actors::handle::FromPeer;
use zabra_actors::types::{Envelope, Packet, Sid};

use super::{Event, Inner, UNANSWERED_MS};

/// All of them.
pub(super) struct Peers {
    observers: BTreeSet<Sid>,
    nodes: BTreeMap<Sid, Recipient<FromPeer>>,
    /// By pair; the smaller sid comes first.
    links: BTreeMap<(Sid, Sid), Link>,
}

#[derive(Default)]
struct Link {
    up: bool,
    /// Tells what belongs to this connection from what belongs to an earlier one.
    generation: u64,
    /// Ends that believe to be connected, and by which connection.
    believe: BTreeMap<Sid, u64>,
    /// The dial that is under way, and the number of the last one.
    dialling: Option<u64>,
    dials: u64,
    /// Stalled directions, by sender, and what waits there.
    stalled: BTreeMap<Sid, Vec<Envelope>>,
    /// When the last packet of each direction arrives: the next is not earlier.
    busy_until: BTreeMap<Sid, u64>,
}

fn pair(a: Sid, b: Sid) -> (Sid, Sid) {
    (a.min(b), a.max(b))
}

impl Peers {
    pub(super) fn new(observers: BTreeSet<Sid>) -> Peers {
        Peers { observers, nodes: BTreeMap::new(), links: BTreeMap::new() }
    }

    /// The observer dials, else the greater id; two observers have nothing to say to each other.
    fn dialler(&self, (a, b): (Sid, Sid)) -> Option<Sid> {
        match (self.observers.contains(&a), self.observers.contains(&b)) {
            (true, true) => None,
            (true, false) => Some(a),
            _ => Some(b),
        }
    }

    fn tell(&self, to: Sid, what: FromPeer) {
        if let Some(node) = self.nodes.get(&to) {
            node.do_send(what);
        }
    }
}

impl Inner {
    pub(super) fn join(&mut self, now: u64, sid: Sid, node: Recipient<FromPeer>) {
        self.peers.nodes.insert(sid, node);
        let links = self.peers.links.iter().filter(|(key, _)| key.0 == sid || key.1 == sid);
        // Whoever still sends to the process of before is told now that it is no more.
        let believers: Vec<_> = links
            .flat_map(|(_, link)| link.believe.iter().map(|(to, generation)| (*to, *generation)))
            .filter(|(to, _)| *to != sid)
            .collect();
        for (to, generation) in believers {
            let due = now + self.rng.within(1..200);
            self.schedule(due, Event::Down { to, peer: sid, generation });
        }
        self.dial_all(now);
    }

    pub(super) fn leave(&mut self, now: u64, sid: Sid, silently: bool) {
        self.peers.nodes.remove(&sid);
        let keys: Vec<_> =
            self.peers.links.keys().copied().filter(|key| key.0 == sid || key.1 == sid).collect();
        for key in keys {
            let link = self.peers.links.get_mut(&key).expect("listed");
            link.believe.remove(&sid);
            link.dialling = None;
            self.break_link(now, key, |_| silently);
        }
    }

    pub(super) fn reset(&mut self, now: u64, a: Sid, b: Sid) {
        self.break_link(now, pair(a, b), |_| false);
    }

    pub(super) fn half_open(&mut self, now: u64, aware: Sid, unaware: Sid) {
        self.break_link(now, pair(aware, unaware), |sid| sid == unaware);
    }

    /// A connection is gone, and everything in flight with it. Some ends notice late.
    fn break_link(&mut self, now: u64, key: (Sid, Sid), late: impl Fn(Sid) -> bool) {
        let Some(link) = self.peers.links.get_mut(&key) else { return };
        if link.up {
            link.up = false;
            link.busy_until.clear();
            link.stalled.values_mut().for_each(Vec::clear);
        }
        let believers: Vec<_> = link.believe.iter().map(|(sid, generation)| (*sid, *generation)).collect();
        for (to, generation) in believers {
            let peer = if to == key.0 { key.1 } else { key.0 };
            let delay = if late(to) { self.rng.within(1000..UNANSWERED_MS) } else { self.rng.within(1..5) };
            self.schedule(now + delay, Event::Down { to, peer, generation });
        }
    }

    pub(super) fn link_down(&mut self, now: u64, to: Sid, peer: Sid, generation: u64) {
        let link = self.peers.links.get_mut(&pair(to, peer)).expect("it was up");
        let is_old = !link.up || link.generation != generation;
        if is_old && link.believe.get(&to) == Some(&generation) {
            link.believe.remove(&to);
            self.checker.link_down(to, peer);
            self.peers.tell(to, FromPeer::LinkDown(peer));
            self.dial_all(now);
        }
    }

    fn dial_all(&mut self, now: u64) {
        let sids: Vec<Sid> = self.peers.nodes.keys().copied().collect();
        for (i, a) in sids.iter().enumerate() {
            for b in &sids[i + 1..] {
                let Some(dialler) = self.peers.dialler((*a, *b)) else { continue };
                let link = self.peers.links.entry((*a, *b)).or_default();
                let busy = link.up || link.dialling.is_some() || link.believe.contains_key(&dialler);
                if busy || !link.stalled.is_empty() {
                    continue;
                }
                link.dials += 1;
                let attempt = link.dials;
                link.dialling = Some(attempt);
                let due = now + 1 + self.rng.within(0..self.delays.redial_max);
                self.schedule(due, Event::Up { pair: (*a, *b), attempt });
            }
        }
    }

    /// The accepting end has a connection; what it had before is replaced.
    pub(super) fn link_up(&mut self, now: u64, key: (Sid, Sid), attempt: u64) {
        let dialler = self.peers.dialler(key).expect("somebody has dialled");
        let peer = if dialler == key.0 { key.1 } else { key.0 };
        let both = self.peers.nodes.contains_key(&key.0) && self.peers.nodes.contains_key(&key.1);
        let delay = self.delay(self.delays.peer_max, &[dialler, peer]);
        let link = self.peers.links.get_mut(&key).expect("it was dialled");
        if link.dialling != Some(attempt) {
            return;
        }
        link.dialling = None;
        if !both || !link.stalled.is_empty() {
            return;
        }
        link.up = true;
        link.generation += 1;
        let generation = link.generation;
        let replaced = link.believe.insert(peer, generation).is_some();
        link.busy_until = BTreeMap::from([(peer, now + delay)]);
        if replaced {
            self.checker.link_down(peer, dialler);
            self.peers.tell(peer, FromPeer::LinkDown(dialler));
        }
        self.peers.tell(peer, FromPeer::LinkUp(dialler));
        self.schedule(now + delay, Event::UpToo { to: dialler, peer, generation });
    }

    pub(super) fn link_up_too(&mut self, to: Sid, peer: Sid, generation: u64) {
        let link = self.peers.links.get_mut(&pair(to, peer)).expect("it was up");
        if link.up && link.generation == generation {
            link.believe.insert(to, generation);
            self.peers.tell(to, FromPeer::LinkUp(peer));
        }
    }

    pub(super) fn stall(&mut self, from: Sid, to: Sid) {
        let link = self.peers.links.entry(pair(from, to)).or_default();
        link.stalled.entry(from).or_default();
    }

    pub(super) fn heal_links(&mut self, now: u64, among: &BTreeSet<Sid>) {
        let keys: Vec<_> = self.peers.links.keys().copied().collect();
        for key in keys.into_iter().filter(|key| among.contains(&key.0) && among.contains(&key.1)) {
            let link = self.peers.links.get_mut(&key).expect("listed");
            let stalled = std::mem::take(&mut link.stalled);
            if stalled.is_empty() {
                continue;
            }
            if self.rng.percent(50) {
                self.break_link(now, key, |_| false);
                continue;
            }
            for (from, waiting) in stalled {
                let to = if from == key.0 { key.1 } else { key.0 };
                for envelope in waiting {
                    self.send(now, from, to, envelope);
                }
            }
        }
        self.dial_all(now);
    }

    pub(super) fn send(&mut self, now: u64, from: Sid, to: Sid, envelope: Envelope) {
        let delay = self.delay(self.delays.peer_max, &[from, to]);
        let Some(link) = self.peers.links.get_mut(&pair(from, to)) else { return };
        let generation = link.generation;
        if !link.up || link.believe.get(&from) != Some(&generation) {
            return; // into the void
        }
        if let Some(waiting) = link.stalled.get_mut(&from) {
            waiting.push(envelope);
            return;
        }
        let busy = link.busy_until.entry(from).or_default();
        *busy = (now + delay).max(*busy + self.delays.packet);
        let due = *busy;
        self.schedule(due, Event::Packet { from, to, generation, envelope });
    }

    pub(super) fn arrive(&mut self, now: u64, from: Sid, to: Sid, generation: u64, envelope: Envelope) {
        let link = &self.peers.links[&pair(from, to)];
        if !link.up || link.generation != generation || !self.peers.nodes.contains_key(&to) {
            return;
        }
        if !matches!(envelope.packet, Packet::Ping { .. } | Packet::Notification(_)) {
            self.story.tell_of(to, || format!("<- {from}/{} {:?}", envelope.tenure.0, envelope.packet));
        }
        self.checker.arrived(now, from, to, envelope.tenure, &envelope.packet);
        self.peers.tell(to, FromPeer::Packets(from, vec![envelope]));
    }
}
