//! The world of the model: servers, wires, time, and the one who decides what happens next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use zabra_actors::core::history::History;
use zabra_actors::core::leader::Timing;
use zabra_actors::core::quorum::Ensemble;
use zabra_actors::core::{election, leader, learner};
use zabra_actors::types::{
    Entry, Envelope, Membership, Millis, Packet, Phase, ServerState, SessionId, Sid, Tenure, Txn, TxnBody,
    TxnHeader, Zxid,
};

use crate::ghosts::Ghosts;
use crate::rng::Rng;
use crate::server::{Disk, Order, Process, Server, State, Stream};

const TIMING: Timing = Timing { tick_ms: 200, init_limit_ms: 2_000, sync_limit_ms: 1_000 };
/// Virtual time in which a healed ensemble must serve.
const PATIENCE_MS: Millis = 60_000;

/// A connection between two servers.
#[derive(Default)]
struct Wire {
    up: bool,
    /// Ends that still believe it is up, though it is not.
    unaware: BTreeSet<Sid>,
    /// What is under way, by receiver.
    queues: BTreeMap<Sid, VecDeque<Envelope>>,
}

/// How likely the faults are in this world: one in so many steps; drawn from the seed.
struct Faults {
    break_wire: usize,
    mend_wire: usize,
    crash: usize,
    restart: usize,
    /// How much of the time disks and ticks get.
    disk: usize,
    tick: usize,
    /// Leaders are not elected but drawn: who leads must never matter for safety.
    drawn_leaders: bool,
    /// One in so many of those leads although somebody does.
    rivals: usize,
}

/// What has been seen at least once, so that a test that never gets anywhere is noticed.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Coverage {
    elections: usize,
    established: usize,
    committed: usize,
    diffs: usize,
    truncs: usize,
    snaps: usize,
    refused_truncs: usize,
    crashes: usize,
    torn_appends: usize,
    stand_downs: usize,
}

impl Coverage {
    pub fn add(&mut self, other: &Coverage) {
        self.elections += other.elections;
        self.established += other.established;
        self.committed += other.committed;
        self.diffs += other.diffs;
        self.truncs += other.truncs;
        self.snaps += other.snaps;
        self.refused_truncs += other.refused_truncs;
        self.crashes += other.crashes;
        self.torn_appends += other.torn_appends;
        self.stand_downs += other.stand_downs;
    }

    pub fn assert_all_seen(&self) {
        let all = [
            self.elections,
            self.established,
            self.committed,
            self.diffs,
            self.truncs,
            self.snaps,
            self.crashes,
            self.torn_appends,
            self.stand_downs,
        ];
        assert!(all.iter().all(|seen| *seen > 0), "the model misses what it is for: {self:?}");
    }
}

pub struct World {
    seed: u64,
    rng: Rng,
    now: Millis,
    ensemble: Ensemble,
    servers: BTreeMap<Sid, Server>,
    wires: BTreeMap<(Sid, Sid), Wire>,
    ghosts: Ghosts,
    faults: Faults,
    /// Contents of snapshots that were sent; a piece is a number of one.
    snapshots: Vec<Vec<Arc<Entry>>>,
    /// Makes each transaction unlike all others.
    proposed: i32,
    story: Vec<String>,
    coverage: Coverage,
}

impl Default for World {
    fn default() -> World {
        World::new(0)
    }
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let voters: Vec<Sid> = (1..=[3, 3, 3, 5, 1][rng.below(5)]).map(Sid).collect();
        let observers: Vec<Sid> = if rng.one_in(2) { vec![Sid(9)] } else { vec![] };
        let ensemble = Ensemble::majority(voters[0], &voters, &observers);
        let sids: Vec<Sid> = ensemble.members.keys().copied().collect();
        let faults = Faults {
            break_wire: [60, 200, 1_000][rng.below(3)],
            mend_wire: [10, 50][rng.below(2)],
            crash: [40, 100, 300, 2_000][rng.below(4)],
            restart: [10, 60][rng.below(2)],
            disk: [2, 5, 20][rng.below(3)],
            tick: [5, 12, 30][rng.below(3)],
            drawn_leaders: rng.one_in(2),
            rivals: [2, 4, 20][rng.below(3)],
        };
        let server = || Server { disk: Disk::default(), tenure: Tenure(0), process: None };
        let servers = sids.iter().map(|sid| (*sid, server())).collect();
        let pairs = sids.iter().flat_map(|a| sids.iter().filter(move |b| a < *b).map(move |b| (*a, *b)));
        let wires = pairs.map(|pair| (pair, Wire::default())).collect();
        let mut world = World {
            seed,
            rng,
            now: 1_000,
            ensemble,
            servers,
            wires,
            ghosts: Ghosts::default(),
            faults,
            snapshots: Vec::new(),
            proposed: 0,
            story: Vec::new(),
            coverage: Coverage::default(),
        };
        sids.into_iter().for_each(|sid| world.start(sid));
        world
    }

    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    pub fn story(&self) -> &[String] {
        &self.story
    }

    pub fn print_story(&self) {
        let from = self.story.len().saturating_sub(400);
        self.story[from..].iter().for_each(|line| eprintln!("{line}"));
        eprintln!("repeat with: ZAB_SEED={} cargo test -p zabra-actors --test zab_model", self.seed);
    }

    fn tell(&mut self, sid: Sid, what: std::fmt::Arguments<'_>) {
        let mut line = format!("{:>6} {sid} ", self.now);
        line.write_fmt(what).expect("a string takes everything");
        self.story.push(line);
    }

    fn sids(&self) -> Vec<Sid> {
        self.servers.keys().copied().collect()
    }

    fn process(&mut self, sid: Sid) -> Option<&mut Process> {
        self.servers.get_mut(&sid).expect("is a server").process.as_mut()
    }

    // --- what happens ---

    /// Random steps, faults among them.
    pub fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.fault();
            if self.faults.drawn_leaders && self.rng.one_in(10) {
                self.draw_leader();
            }
            match self.rng.below(100) {
                0..=4 => self.propose(),
                5..=9 => self.stream(),
                _ if self.rng.one_in(self.faults.tick) => self.tick(),
                _ if self.rng.one_in(self.faults.disk) => self.work_a_disk(),
                _ => self.deliver_one(),
            }
            self.check();
        }
    }

    fn fault(&mut self) {
        let pairs: Vec<_> = self.wires.keys().copied().collect();
        if let Some(pair) = self.rng.pick(&pairs) {
            if self.rng.one_in(self.faults.break_wire) {
                self.break_wire(pair);
            }
            if self.rng.one_in(self.faults.mend_wire) {
                self.mend_wire(pair);
            }
        }
        let sids = self.sids();
        let sid = self.rng.pick(&sids).expect("there are servers");
        if self.rng.one_in(self.faults.crash) {
            self.crash(sid);
        }
        if self.rng.one_in(self.faults.restart) {
            self.start(sid);
        }
        if self.rng.one_in(100) {
            self.save_snapshot(sid);
        }
    }

    /// A server without a role gets one: it leads, or follows whoever leads.
    fn draw_leader(&mut self) {
        let is_looking = |server: &Server| {
            server.process.as_ref().is_some_and(|process| matches!(process.state, State::Looking(_)))
        };
        let leads = |server: &Server| {
            server.process.as_ref().is_some_and(|process| matches!(process.state, State::Leading { .. }))
        };
        let looking: Vec<Sid> =
            self.sids().into_iter().filter(|sid| is_looking(&self.servers[sid])).collect();
        let leading: Vec<Sid> = self.sids().into_iter().filter(|sid| leads(&self.servers[sid])).collect();
        let Some(sid) = self.rng.pick(&looking) else { return };
        let voter = self.ensemble.is_voter(sid);
        match self.rng.pick(&leading) {
            Some(leader) if !voter || !self.rng.one_in(self.faults.rivals) => self.follow(sid, leader),
            _ if voter => self.lead(sid),
            _ => {}
        }
    }

    /// No more faults: a quorum, and then everybody, must serve the same.
    pub fn heal(&mut self) {
        self.tell(Sid(0), format_args!("--- healed ---"));
        if std::mem::take(&mut self.faults.drawn_leaders) {
            self.sids().into_iter().for_each(|sid| self.crash(sid));
        }
        self.sids().into_iter().for_each(|sid| self.start(sid));
        let until = self.now + PATIENCE_MS;
        let before = self.ghosts.committed.len();
        while !self.is_healthy(before) {
            assert!(
                self.now < until,
                "I18: not everybody serves the same, {PATIENCE_MS} ms after all is well"
            );
            let pairs: Vec<_> = self.wires.keys().copied().collect();
            pairs.into_iter().for_each(|pair| self.mend_wire(pair));
            if self.ghosts.committed.len() == before && self.rng.one_in(10) {
                self.propose();
            }
            for _ in 0..20 {
                self.deliver_one();
                self.work_a_disk();
                self.stream();
                self.check();
            }
            self.tick();
        }
    }

    fn is_healthy(&self, committed_before: usize) -> bool {
        let committed = self.ghosts.committed.len();
        committed > committed_before
            && self.servers.values().all(|server| {
                let process = server.process.as_ref();
                process.is_some_and(|process| process.serving.is_some() && process.tree.len() == committed)
            })
    }

    fn tick(&mut self) {
        self.now += 1 + self.rng.below(50) as Millis;
        let now = self.now;
        for sid in self.sids() {
            let Some(process) = self.process(sid) else { continue };
            match process.state {
                State::Looking(_) => self.step_election(sid, election::Input::Tick { now }),
                State::Leading { .. } => self.step_leader(sid, leader::Input::Tick { now }),
                State::Learning { .. } => self.step_learner(sid, learner::Input::Tick { now }),
                State::Draining(_) => {}
            }
        }
    }

    fn start(&mut self, sid: Sid) {
        if self.servers[&sid].process.is_some() {
            return;
        }
        self.tell(sid, format_args!("starts"));
        let ensemble = Ensemble { me: sid, ..self.ensemble.clone() };
        let server = self.servers.get_mut(&sid).expect("is a server");
        let (tree, history) = server.disk.recover();
        server.process = Some(Process {
            election: election::Election::new(ensemble),
            state: State::Draining(history),
            epochs: server.disk.epochs,
            linked: BTreeSet::new(),
            early: BTreeMap::new(),
            tree,
            serving: None,
            orders: VecDeque::from([Order::Drain]),
            streams: VecDeque::new(),
            receiving: None,
        });
    }

    fn crash(&mut self, sid: Sid) {
        let server = self.servers.get_mut(&sid).expect("is a server");
        let Some(mut process) = server.process.take() else { return };
        if let Some(Order::Append(_, entries)) = process.orders.pop_front() {
            // The write was under way: any part of it may be on the disk.
            let durable = self.rng.below(entries.len() + 1);
            self.coverage.torn_appends += usize::from(durable > 0 && durable < entries.len());
            entries.into_iter().take(durable).for_each(|entry| server.disk.append(entry));
        }
        self.coverage.crashes += 1;
        self.tell(sid, format_args!("crashes"));
        let pairs: Vec<_> = self.wires.keys().copied().filter(|(a, b)| *a == sid || *b == sid).collect();
        for pair in pairs {
            self.break_wire(pair);
            self.wires.get_mut(&pair).expect("is a wire").unaware.remove(&sid);
        }
    }

    fn save_snapshot(&mut self, sid: Sid) {
        let server = self.servers.get_mut(&sid).expect("is a server");
        let Some(process) = &server.process else { return };
        // A tree is saved when it is served, and its log is durable.
        if process.serving.is_some() && process.tree.len() <= server.disk.all().len() {
            let count = process.tree.len();
            server.disk.snapshot(count.max(server.disk.snapshot.len()));
        }
    }

    // --- wires ---

    fn break_wire(&mut self, pair: (Sid, Sid)) {
        let wire = self.wires.get_mut(&pair).expect("is a wire");
        if wire.up {
            wire.up = false;
            wire.queues.clear();
            wire.unaware = [pair.0, pair.1].into();
        }
    }

    /// Both ends come to know of the break first; then a new connection is made.
    fn mend_wire(&mut self, pair: (Sid, Sid)) {
        let now = self.now;
        let wire = self.wires.get_mut(&pair).expect("is a wire");
        if wire.up {
            return;
        }
        for sid in std::mem::take(&mut wire.unaware) {
            let peer = if sid == pair.0 { pair.1 } else { pair.0 };
            self.link_down(sid, peer);
        }
        if self.process(pair.0).is_none() || self.process(pair.1).is_none() {
            return;
        }
        self.wires.get_mut(&pair).expect("is a wire").up = true;
        for (sid, peer) in [pair, (pair.1, pair.0)] {
            self.tell(sid, format_args!("link up to {peer}"));
            let process = self.process(sid).expect("just seen");
            process.linked.insert(peer);
            let learns = matches!(process.state, State::Learning { leader, .. } if leader == peer);
            self.step_election(sid, election::Input::LinkUp { now, peer });
            if learns {
                self.step_learner(sid, learner::Input::LinkUp { now });
            }
        }
    }

    fn link_down(&mut self, sid: Sid, peer: Sid) {
        let now = self.now;
        let Some(process) = self.process(sid) else { return };
        process.linked.remove(&peer);
        process.early.remove(&peer);
        self.tell(sid, format_args!("link down to {peer}"));
        self.step_election(sid, election::Input::LinkDown { now, peer });
        match self.process(sid).expect("just seen").state {
            State::Leading { .. } => self.step_leader(sid, leader::Input::LinkDown { peer }),
            State::Learning { leader, .. } if leader == peer => {
                self.step_learner(sid, learner::Input::LinkDown);
            }
            _ => {}
        }
    }

    fn send(&mut self, from: Sid, to: Sid, tenure: Tenure, packet: Packet) {
        let pair = (from.min(to), from.max(to));
        let Some(wire) = self.wires.get_mut(&pair) else { return };
        if wire.up {
            wire.queues.entry(to).or_default().push_back(Envelope { tenure, packet });
        }
    }

    fn deliver_one(&mut self) {
        let mut full = Vec::new();
        for (pair, wire) in &self.wires {
            let queues = wire.queues.iter().filter(|(_, queue)| !queue.is_empty());
            full.extend(queues.map(|(to, _)| (*pair, *to)));
        }
        let Some((pair, to)) = self.rng.pick(&full) else { return };
        let wire = self.wires.get_mut(&pair).expect("is a wire");
        let envelope = wire.queues.get_mut(&to).and_then(VecDeque::pop_front).expect("is not empty");
        let from = if to == pair.0 { pair.1 } else { pair.0 };
        self.receive(to, from, envelope);
    }

    fn receive(&mut self, sid: Sid, from: Sid, envelope: Envelope) {
        let now = self.now;
        let Envelope { tenure, packet } = envelope;
        if !matches!(packet, Packet::Ping { .. } | Packet::Notification(_)) {
            self.tell(sid, format_args!("<- {from}/{} {packet:?}", tenure.0));
        }
        let Some(process) = self.process(sid) else { return };
        if let Packet::Notification(notification) = packet {
            return self.step_election(sid, election::Input::Notification { now, from, notification });
        }
        match (&process.state, packet) {
            (State::Leading { .. }, packet) => {
                self.step_leader(sid, leader::Input::Packet { now, from, tenure, packet });
            }
            (State::Learning { leader, tenure: own, .. }, packet) if *leader == from && *own == tenure => {
                self.step_learner(sid, learner::Input::Packet { now, packet });
            }
            (state, packet @ (Packet::FollowerInfo { .. } | Packet::ObserverInfo { .. })) => {
                if matches!(state, State::Learning { .. }) {
                    let reason = "does not lead".to_owned();
                    self.send(sid, from, tenure, Packet::Goodbye { reason });
                } else {
                    process.early.insert(from, (tenure, packet));
                }
            }
            (_, Packet::Goodbye { .. }) => {
                if process.early.get(&from).is_some_and(|(early, _)| *early == tenure) {
                    process.early.remove(&from);
                }
            }
            _ => {} // of a stay that is over
        }
    }

    // --- disks ---

    fn work_a_disk(&mut self) {
        let busy: Vec<Sid> = self.sids().into_iter().filter(|sid| self.has_orders(*sid)).collect();
        let Some(sid) = self.rng.pick(&busy) else { return };
        let order = self.process(sid).and_then(|process| process.orders.pop_front()).expect("is busy");
        let before = self.servers[&sid].disk.epochs;
        self.carry_out(sid, order);
        let server = &self.servers[&sid];
        self.ghosts.saved(sid, before, &server.disk);
    }

    fn has_orders(&self, sid: Sid) -> bool {
        self.servers[&sid].process.as_ref().is_some_and(|process| !process.orders.is_empty())
    }

    fn carry_out(&mut self, sid: Sid, order: Order) {
        let server = self.servers.get_mut(&sid).expect("is a server");
        let (disk, process) = (&mut server.disk, server.process.as_mut().expect("has given the order"));
        match order {
            Order::Append(tenure, entries) => {
                entries.into_iter().for_each(|entry| disk.append(entry));
                let zxid = disk.last();
                self.answer(sid, tenure, leader::Input::Synced { zxid }, learner::Input::Synced { zxid });
            }
            Order::SaveEpochs(tenure, epochs) => {
                disk.epochs = epochs;
                process.epochs = epochs;
                let (leads, learns) =
                    (leader::Input::EpochsSaved(epochs), learner::Input::EpochsSaved(epochs));
                self.answer(sid, tenure, leads, learns);
            }
            Order::Truncate { tenure, to, reload } => {
                disk.truncate(to);
                if reload {
                    process.tree = disk.all();
                }
                assert!(
                    process.tree.last().is_none_or(|entry| entry.zxid() <= to),
                    "the tree is beyond its log"
                );
                self.answer_learner(sid, tenure, learner::Input::Truncated { zxid: to });
            }
            Order::Install { tenure, zxid, content } => {
                if self.rng.one_in(10) {
                    return self.answer_learner(sid, tenure, learner::Input::Installed { zxid: None });
                }
                assert_eq!(
                    content.last().map_or(Zxid::ZERO, |entry| entry.zxid()),
                    zxid,
                    "SNAP is as it says"
                );
                *disk = Disk { snapshot: content.clone(), log: Vec::new(), epochs: disk.epochs };
                process.tree = content;
                if let State::Draining(history) = &mut process.state {
                    history.reset(zxid);
                }
                self.answer_learner(sid, tenure, learner::Input::Installed { zxid: Some(zxid) });
            }
            Order::Drain => self.look(sid),
        }
    }

    fn answer(&mut self, sid: Sid, tenure: Tenure, leads: leader::Input, learns: learner::Input) {
        match &self.process(sid).expect("its disk works").state {
            State::Leading { tenure: own, .. } if *own == tenure => self.step_leader(sid, leads),
            _ => self.answer_learner(sid, tenure, learns),
        }
    }

    fn answer_learner(&mut self, sid: Sid, tenure: Tenure, input: learner::Input) {
        if matches!(&self.process(sid).expect("its disk works").state,
            State::Learning { tenure: own, .. } if *own == tenure)
        {
            self.step_learner(sid, input);
        }
    }

    /// The pieces of a snapshot go out: behind what was sent before, before what waits.
    fn stream(&mut self) {
        let sids = self.sids();
        let sid = self.rng.pick(&sids).expect("there are servers");
        let Some(stream) = self.process(sid).and_then(|process| process.streams.pop_front()) else { return };
        let Stream { to, learner, tenure, content } = stream;
        let piece = Bytes::copy_from_slice(&(content as u64).to_be_bytes());
        self.send(sid, to, learner, Packet::SnapChunk(piece));
        self.send(sid, to, learner, Packet::SnapChunk(Bytes::new()));
        if matches!(&self.process(sid).expect("streams").state, State::Leading { tenure: own, .. } if *own == tenure)
        {
            self.step_leader(sid, leader::Input::SnapshotSent { to, tenure: learner });
        }
    }

    // --- roles ---

    fn look(&mut self, sid: Sid) {
        let now = self.now;
        let process = self.process(sid).expect("its disk works");
        let State::Draining(history) =
            std::mem::replace(&mut process.state, State::Looking(History::default()))
        else {
            unreachable!("only a draining server is drained")
        };
        let (last, current) = (history.last(), process.epochs.current);
        process.state = State::Looking(history);
        assert_eq!(last, self.servers[&sid].disk.last(), "{sid:?} votes with what it does not hold");
        self.step_election(sid, election::Input::Look { now, last, current });
    }

    fn settle(&mut self, sid: Sid, state: ServerState) {
        let epoch = self.process(sid).expect("has a role").epochs.current;
        self.step_election(sid, election::Input::Settled { state, epoch });
    }

    fn step_election(&mut self, sid: Sid, input: election::Input) {
        if self.faults.drawn_leaders {
            return;
        }
        let Some(process) = self.process(sid) else { return };
        let mut effects = Vec::new();
        process.election.step(input, &mut effects);
        for effect in effects {
            match effect {
                election::Effect::Notify { to, notification } => {
                    for peer in to {
                        self.send(sid, peer, Tenure::default(), Packet::Notification(notification));
                    }
                }
                election::Effect::Elected { leader, vote, round, .. } => {
                    self.coverage.elections += 1;
                    self.tell(sid, format_args!("elects {leader} {vote:?} in round {round}"));
                    if leader == sid { self.lead(sid) } else { self.follow(sid, leader) }
                }
            }
        }
    }

    fn take_history(&mut self, sid: Sid) -> History {
        let process = self.process(sid).expect("is looking");
        let State::Looking(history) =
            std::mem::replace(&mut process.state, State::Looking(History::default()))
        else {
            unreachable!("only a looking server elects")
        };
        history
    }

    fn lead(&mut self, sid: Sid) {
        let (now, history) = (self.now, self.take_history(sid));
        let ensemble = Ensemble { me: sid, ..self.ensemble.clone() };
        let server = self.servers.get_mut(&sid).expect("is a server");
        let tenure = server.next_tenure();
        let process = server.process.as_mut().expect("is looking");
        let start = leader::Start { ensemble, history, epochs: process.epochs, timing: TIMING, now };
        let mut effects = Vec::new();
        let leader = leader::Leader::new(start, &mut effects);
        process.state = State::Leading { leader: Box::new(leader), tenure };
        let early = std::mem::take(&mut process.early);
        self.settle(sid, ServerState::Leading);
        self.perform_leader(sid, effects);
        for (from, (tenure, packet)) in early {
            self.step_leader(sid, leader::Input::Packet { now, from, tenure, packet });
        }
    }

    fn follow(&mut self, sid: Sid, leader: Sid) {
        let (now, history) = (self.now, self.take_history(sid));
        let membership = Ensemble { me: sid, ..self.ensemble.clone() }.my_membership();
        let server = self.servers.get_mut(&sid).expect("is a server");
        let tenure = server.next_tenure();
        let process = server.process.as_mut().expect("is looking");
        let linked = process.linked.contains(&leader);
        let epochs = process.epochs;
        let start =
            learner::Start { leader, membership, tenure, history, epochs, timing: TIMING, linked, now };
        let mut effects = Vec::new();
        let learner = learner::Learner::new(start, &mut effects);
        process.state = State::Learning { learner: Box::new(learner), leader, tenure };
        for (from, (tenure, _)) in std::mem::take(&mut process.early) {
            self.send(sid, from, tenure, Packet::Goodbye { reason: "does not lead".to_owned() });
        }
        self.settle(sid, settled_state(membership));
        self.perform_learner(sid, effects);
    }

    fn step_leader(&mut self, sid: Sid, input: leader::Input) {
        let Some(Process { state: State::Leading { leader, .. }, .. }) = self.process(sid) else { return };
        let mut effects = Vec::new();
        leader.step(input, &mut effects);
        self.perform_leader(sid, effects);
    }

    fn perform_leader(&mut self, sid: Sid, effects: Vec<leader::Effect>) {
        for effect in effects {
            self.perform_leader_effect(sid, effect);
        }
    }

    fn perform_leader_effect(&mut self, sid: Sid, effect: leader::Effect) {
        let server = self.servers.get_mut(&sid).expect("is a server");
        let process = server.process.as_mut().expect("leads");
        let State::Leading { tenure, leader } = &process.state else { unreachable!("leads") };
        let (tenure, phase) = (*tenure, leader.phase());
        match effect {
            leader::Effect::Send { to, packet } => {
                match packet {
                    Packet::Diff { .. } => self.coverage.diffs += 1,
                    Packet::Trunc { .. } => self.coverage.truncs += 1,
                    Packet::Snap { .. } => self.coverage.snaps += 1,
                    _ => {}
                }
                for (peer, learner) in to {
                    if let Packet::LeaderInfo { epoch } = packet {
                        self.ghosts.announced(sid, peer, learner, epoch, &self.servers[&sid].disk);
                    }
                    self.send(sid, peer, learner, packet.clone());
                }
            }
            leader::Effect::SaveEpochs(epochs) => process.orders.push_back(Order::SaveEpochs(tenure, epochs)),
            leader::Effect::Append(entries) => process.orders.push_back(Order::Append(tenure, entries)),
            leader::Effect::SendSnapshot { to, tenure: learner, zxid } => {
                assert_eq!(process.tree.last().map_or(Zxid::ZERO, |entry| entry.zxid()), zxid);
                self.snapshots.push(process.tree.clone());
                let content = self.snapshots.len() - 1;
                process.streams.push_back(Stream { to, learner, tenure, content });
            }
            leader::Effect::Commit(entries) => {
                process.tree.extend(entries.iter().cloned());
                if phase == Phase::Broadcast {
                    self.check_commit(entries.last().expect("a commit commits").zxid());
                }
            }
            leader::Effect::Serve { epoch } => {
                process.serving = Some(0);
                self.coverage.established += 1;
                let tree = process.tree.clone();
                self.ghosts.established(epoch, sid, &tree);
                self.tell(sid, format_args!("leads epoch {epoch}"));
                self.settle(sid, ServerState::Leading);
            }
            leader::Effect::Phase { phase, epoch, reason } => {
                let log = server.disk.all();
                if phase == Phase::Synchronization {
                    self.ghosts.begins(epoch, sid, log);
                }
                self.tell(sid, format_args!("leader: {phase} of {epoch}: {reason}"));
            }
            leader::Effect::StandDown { reason } => self.stand_down(sid, &reason),
            leader::Effect::Note(note) => self.tell(sid, format_args!("{note}")),
            leader::Effect::Forwarded { .. }
            | leader::Effect::Revalidate { .. }
            | leader::Effect::Touched(_)
            | leader::Effect::SyncDone => {}
        }
    }

    fn step_learner(&mut self, sid: Sid, input: learner::Input) {
        let Some(Process { state: State::Learning { learner, .. }, .. }) = self.process(sid) else { return };
        let mut effects = Vec::new();
        learner.step(input, &mut effects);
        self.perform_learner(sid, effects);
    }

    fn perform_learner(&mut self, sid: Sid, effects: Vec<learner::Effect>) {
        for effect in effects {
            self.perform_learner_effect(sid, effect);
        }
    }

    fn perform_learner_effect(&mut self, sid: Sid, effect: learner::Effect) {
        let server = self.servers.get_mut(&sid).expect("is a server");
        let process = server.process.as_mut().expect("learns");
        let State::Learning { tenure, leader, .. } = process.state else { unreachable!("learns") };
        match effect {
            learner::Effect::Send(packet) => {
                if let Packet::Ack { zxid } = packet {
                    self.ghosts.acknowledged(sid, leader, tenure, zxid, &server.disk);
                }
                if matches!(packet, Packet::AckEpoch { .. }) {
                    self.ghosts.promised(sid, tenure, &server.disk);
                }
                if matches!(packet, Packet::AckEpoch { last: Zxid::ZERO, current: None }) {
                    self.coverage.refused_truncs += usize::from(server.disk.last() > Zxid::ZERO);
                }
                self.send(sid, leader, tenure, packet);
            }
            learner::Effect::SaveEpochs(epochs) => {
                process.orders.push_back(Order::SaveEpochs(tenure, epochs))
            }
            learner::Effect::Append(entries) => process.orders.push_back(Order::Append(tenure, entries)),
            learner::Effect::Truncate { to, reload } => {
                process.orders.push_back(Order::Truncate { tenure, to, reload });
            }
            learner::Effect::Receive(piece) => {
                let number = u64::from_be_bytes(piece[..].try_into().expect("a piece is a number"));
                process.receiving = Some(number as usize);
            }
            learner::Effect::Install { zxid } => {
                let number = process.receiving.take().expect("a snapshot has a piece");
                let content = self.snapshots[number].clone();
                process.orders.push_back(Order::Install { tenure, zxid, content });
            }
            learner::Effect::Commit(entries) => process.tree.extend(entries),
            learner::Effect::Serve { .. } => {
                process.serving = Some(0);
                let state = settled_state(self.ensemble.members[&sid].membership);
                self.settle(sid, state);
            }
            learner::Effect::CollectTouched { zxid } => {
                self.step_learner(sid, learner::Input::Touched { zxid, sessions: Vec::new() });
            }
            learner::Effect::Phase { phase, epoch, reason } => {
                self.tell(sid, format_args!("learner: {phase} of {epoch}: {reason}"));
            }
            learner::Effect::StandDown { reason } => self.stand_down(sid, &reason),
            learner::Effect::SyncDone | learner::Effect::Revalidated { .. } => {}
        }
    }

    fn stand_down(&mut self, sid: Sid, reason: &str) {
        self.coverage.stand_downs += 1;
        self.tell(sid, format_args!("stands down: {reason}"));
        let process = self.process(sid).expect("has a role");
        let history = match std::mem::replace(&mut process.state, State::Looking(History::default())) {
            State::Leading { leader, .. } => leader.into_history(),
            State::Learning { learner, .. } => learner.into_history(),
            _ => unreachable!("only a role stands down"),
        };
        process.serving = None;
        process.state = State::Draining(history);
        process.orders.push_back(Order::Drain);
    }

    /// Clients write by the leader.
    fn propose(&mut self) {
        let leaders: Vec<Sid> = self.sids().into_iter().filter(|sid| self.can_propose(*sid)).collect();
        let Some(sid) = self.rng.pick(&leaders) else { return };
        let count = 1 + self.rng.below(3);
        let process = self.process(sid).expect("leads");
        let State::Leading { leader, .. } = &process.state else { unreachable!("leads") };
        let (epoch, mut last) = (process.epochs.current, leader.history().last());
        let mut entries = Vec::new();
        for _ in 0..count {
            last = last.max(epoch.mark()).next();
            self.proposed += 1;
            let entry = entry(last, self.proposed);
            self.ghosts.broadcast(sid, &entry);
            entries.push(entry);
        }
        self.tell(sid, format_args!("proposes {entries:?}"));
        self.step_leader(sid, leader::Input::Propose(entries));
    }

    fn can_propose(&self, sid: Sid) -> bool {
        let process = self.servers[&sid].process.as_ref();
        process.is_some_and(|process| {
            process.serving.is_some() && matches!(process.state, State::Leading { .. })
        })
    }

    // --- what must hold ---

    fn check_commit(&mut self, zxid: Zxid) {
        let holders: BTreeSet<Sid> =
            self.servers.iter().filter(|(_, server)| server.disk.holds(zxid)).map(|(sid, _)| *sid).collect();
        assert!(self.ensemble.contains_quorum(&holders), "I10: {zxid} is committed and only on {holders:?}");
    }

    fn check(&mut self) {
        let before = self.ghosts.committed.len();
        for (sid, server) in &mut self.servers {
            if let Some(Process { serving: Some(seen), tree, .. }) = &mut server.process {
                if *seen < tree.len() || *seen == 0 {
                    self.ghosts.delivered(*sid, tree, *seen);
                    *seen = tree.len();
                }
            }
        }
        self.coverage.committed += self.ghosts.committed.len() - before;
        self.ghosts
            .check_quorum(&self.ensemble, self.servers.iter().map(|(sid, server)| (*sid, &server.disk)));
    }
}

fn settled_state(membership: Membership) -> ServerState {
    match membership {
        Membership::Participant => ServerState::Following,
        Membership::Observer => ServerState::Observing,
    }
}

fn entry(zxid: Zxid, number: i32) -> Arc<Entry> {
    let header = TxnHeader { session: SessionId::NONE, cxid: number, zxid, time: 0 };
    Entry::new(Txn { header, body: TxnBody::Error(number), digest: None })
}
