//! The world of the model: servers, wires, time, and the one who decides what happens next.

mod disks;
mod roles;
mod wires;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use zabra_actors::core::leader::Timing;
use zabra_actors::core::quorum::Ensemble;
use zabra_actors::core::{election, leader, learner};
use zabra_actors::types::{Entry, Envelope, Epoch, EpochLength, Millis, Sid, Tenure, Zxid};

use crate::ghosts::Ghosts;
use crate::rng::Rng;
use crate::server::{Disk, Order, Process, Server, State};

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
    diverge: usize,
    /// How much of the time disks and ticks get.
    disk: usize,
    tick: usize,
    /// Clients write one time in so many that they could.
    write: usize,
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
    syncs: usize,
    rollovers: usize,
    healed: usize,
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
        self.syncs += other.syncs;
        self.rollovers += other.rollovers;
        self.healed += other.healed;
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
            self.syncs,
            self.rollovers,
            self.healed,
        ];
        assert!(all.iter().all(|seen| *seen > 0), "the model misses what it is for: {self:?}");
    }
}

pub struct World {
    seed: u64,
    rng: Rng,
    now: Millis,
    ensemble: Ensemble,
    epoch_length: EpochLength,
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
            mend_wire: [10, 50, 500][rng.below(3)],
            crash: [40, 100, 300, 2_000][rng.below(4)],
            restart: [10, 60][rng.below(2)],
            diverge: [200, 1_000, usize::MAX][rng.below(3)],
            disk: [2, 5, 20][rng.below(3)],
            tick: [5, 12, 30][rng.below(3)],
            write: [1, 1, 20][rng.below(3)],
            drawn_leaders: rng.one_in(2),
            rivals: [2, 4, 20][rng.below(3)],
        };
        let epoch_length =
            [EpochLength::MAX, EpochLength(20), EpochLength(1 + rng.below(5) as u32)][rng.below(3)];
        let server = || Server { disk: Disk::default(), tenure: Tenure(0), process: None };
        let servers = sids.iter().map(|sid| (*sid, server())).collect();
        let pairs = sids.iter().flat_map(|a| sids.iter().filter(move |b| a < *b).map(move |b| (*a, *b)));
        let wires = pairs.map(|pair| (pair, Wire::default())).collect();
        let mut world = World {
            seed,
            rng,
            now: 1_000,
            ensemble,
            epoch_length,
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
                0..=4 if self.rng.one_in(self.faults.write) => self.propose(),
                5..=9 => self.stream(),
                10..=13 => self.sync(),
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
            if self.rng.one_in(20) {
                self.notice_break(pair);
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
        if self.rng.one_in(self.faults.diverge) {
            self.diverge();
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
        if self.rng.one_in(2) {
            // A recovery may raise the current epoch to that of the log's end: who holds an entry of an epoch
            // holds everything its leader began with.
            let epochs = &mut server.disk.epochs;
            epochs.current =
                epochs.current.max(server.disk.log.last().map_or(epochs.current, |e| e.zxid().epoch()));
        }
        let (tree, history) = server.disk.recover();
        server.process = Some(Process {
            election: election::Election::new(ensemble),
            state: State::Draining(history),
            epochs: server.disk.epochs,
            diverged: server.disk.diverged,
            linked: BTreeSet::new(),
            early: BTreeMap::new(),
            tree,
            serving: None,
            epoch: Epoch(0),
            syncs: VecDeque::new(),
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

    // --- what must hold ---

    fn check_commit(&mut self, zxid: Zxid) {
        let holders: BTreeSet<Sid> =
            self.servers.iter().filter(|(_, server)| server.disk.holds(zxid)).map(|(sid, _)| *sid).collect();
        assert!(self.ensemble.contains_quorum(&holders), "I10: {zxid} is committed and only on {holders:?}");
    }

    fn check(&mut self) {
        let before = self.ghosts.committed.len();
        for (sid, server) in &mut self.servers {
            if let Some(Process { serving: Some(seen), tree, .. }) = &mut server.process
                && (*seen < tree.len() || *seen == 0)
            {
                self.ghosts.delivered(*sid, tree, *seen);
                *seen = tree.len();
            }
        }
        self.coverage.committed += self.ghosts.committed.len() - before;
        self.ghosts
            .check_quorum(&self.ensemble, self.servers.iter().map(|(sid, server)| (*sid, &server.disk)));
    }
}
