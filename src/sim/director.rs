//! The director of a run: starts everybody, stages the faults, heals, and demands progress.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use zabra_actors::core::quorum::Ensemble;
use zabra_actors::types::{ServerState, Sid};

use super::checker::Checker;
use super::client::{self, ACTS, Directory, SimClient, Surroundings};
use super::faults::{self, Fault, Step, Way, Who};
use super::net::SimNet;
use super::options::{Habits, Options, Shape};
use super::rng::Rng;
use super::server::{Died, SimServer, World};
use super::story::{Story, Tell};
use super::{Failure, PANIC, Report};

type Servers = Rc<RefCell<BTreeMap<Sid, SimServer>>>;

/// One run.
pub(super) struct Run {
    options: Options,
    shape: Shape,
    schedule: Vec<Step>,
    rng: Rng,
    story: Story,
    net: SimNet,
    checker: Arc<Checker>,
    ensemble: Ensemble,
    servers: Servers,
    died: mpsc::UnboundedSender<Died>,
    report: Report,
}

impl Run {
    /// A run that has not begun.
    pub(super) fn new(options: Options, tell: Tell) -> Run {
        let shape = Shape::draw(&options, ACTS);
        let schedule = faults::draw(&options, &shape);
        let story = Story::begin(tell);
        let seed = options.seed;
        let participants: Vec<Sid> = (1..=shape.participants).map(Sid).collect();
        let observers: Vec<Sid> = (1..=shape.observers).map(|n| Sid(shape.participants + n)).collect();
        let ensemble = Ensemble::majority(participants[0], &participants, &observers);
        let checker = Arc::new(Checker::new(ensemble.clone(), story.clone()));
        let net = SimNet::new(
            Rng::stream(seed, "net"),
            shape.delays.clone(),
            observers.iter().copied().collect(),
            story.clone(),
            checker.clone(),
        );
        let world = World {
            net: net.clone(),
            checker: checker.clone(),
            story: story.clone(),
            timing: shape.timing,
            snap_count: shape.snap_count,
            epoch_length: shape.epoch_length,
            window: shape.window,
            ensemble: ensemble.clone(),
        };
        story.tell(|| format!("{options:?}"));
        story.tell(|| format!("{shape:?}"));
        let server = |sid: Sid| {
            let streams = [format!("server {sid}"), format!("kinds of faults of server {sid}")];
            (sid, SimServer::new(sid, world.clone(), streams.map(|stream| Rng::stream(seed, &stream))))
        };
        let servers: BTreeMap<_, _> = participants.into_iter().chain(observers).map(server).collect();
        let servers: Servers = Rc::new(RefCell::new(servers));
        let died = spawn_undertaker(servers.clone(), Rng::stream(seed, "undertaker"));
        let (rng, report) = (Rng::stream(seed, "director"), Report::default());
        Run { options, shape, schedule, rng, story, net, checker, ensemble, servers, died, report }
    }

    /// Runs it.
    pub(super) async fn go(mut self) -> Result<Report, Failure> {
        let courier = actix::spawn(self.net.clone().run());
        self.start(|_| true);
        let around = self.surroundings();
        let mut clients: Vec<_> = (0..u64::from(self.shape.clients))
            .map(|number| {
                let rng = Rng::stream(self.options.seed, &format!("client {number}"));
                actix::spawn(SimClient::new(number, rng, around.clone()).run())
            })
            .collect();
        self.stage().await;
        if self.failure().is_none() {
            clients.push(actix::spawn(self.insistent_client(around.clone()).run()));
            self.demand_progress_of_a_quorum().await;
            self.demand_equality().await;
            self.audit(&around).await;
        }
        self.sum_up();
        clients.iter().for_each(|client| client.abort());
        courier.abort();
        for server in self.servers.borrow_mut().values_mut() {
            server.crash(false);
        }
        self.net.close();
        // Until the last process has stood still for long enough to hear that it is dead.
        tokio::time::sleep(Duration::from_millis(2 * self.shape.timing.sync_limit_ms)).await;
        match self.failure() {
            None => Ok(self.report),
            Some(what) => {
                let steps = self.schedule.len();
                Err(Failure { options: self.options, what, steps, story: self.story.take() })
            }
        }
    }

    /// The first thing that went wrong.
    fn failure(&self) -> Option<String> {
        if let Some(panic) = PANIC.with_borrow(Clone::clone) {
            self.checker.fail(format!("an assertion does not hold: {panic}"));
        }
        self.checker.failure()
    }

    fn surroundings(&self) -> Surroundings {
        let servers = self.servers.clone();
        let directory: Directory = Rc::new(move |pick: &dyn Fn(&[Sid]) -> Sid| {
            let servers = servers.borrow();
            let alive: Vec<Sid> =
                servers.iter().filter(|(_, s)| s.alive().is_some()).map(|(sid, _)| *sid).collect();
            let picked = (!alive.is_empty()).then(|| pick(&alive))?;
            Some((picked, servers.get(&picked)?.alive()?.brain.clone()))
        });
        Surroundings {
            directory,
            net: self.net.clone(),
            checker: self.checker.clone(),
            story: self.story.clone(),
            habits: Rc::new(self.shape.habits.clone()),
            conns: Rc::new(Cell::new(0)),
        }
    }

    /// Those of these that are down come up.
    fn start(&self, whom: impl Fn(Sid) -> bool) {
        for (_, server) in self.servers.borrow_mut().iter_mut().filter(|(sid, _)| whom(**sid)) {
            server.start(&self.died);
        }
    }

    // --- faults ---

    async fn stage(&mut self) {
        let only = self.options.only.clone();
        let chosen = |number: &usize| only.as_ref().is_none_or(|only| only.contains(number));
        for (number, step) in std::mem::take(&mut self.schedule).into_iter().enumerate() {
            if chosen(&number) {
                tokio::time::sleep_until(self.story.at(step.at)).await;
                if self.failure().is_some() {
                    return;
                }
                self.story.tell(|| format!("FAULT {number}: {:?}", step.fault));
                self.report.faults += 1;
                self.perform(&step.fault);
            }
            self.schedule.push(step);
        }
        tokio::time::sleep_until(self.story.at(self.options.seconds * 1000)).await;
    }

    fn leader(&self) -> Option<Sid> {
        let servers = self.servers.borrow();
        let leads = |server: &SimServer| {
            server.alive().is_some_and(|alive| alive.stats.server_state() == ServerState::Leading)
        };
        // Of two that both believe to lead, the one with the newer epoch does.
        let leading = servers.iter().filter(|(_, server)| leads(server));
        let epoch = |server: &SimServer| server.alive().map(|alive| alive.stats.epoch.get());
        leading.max_by_key(|(_, server)| epoch(server)).map(|(sid, _)| *sid)
    }

    fn find(&self, who: Who) -> Option<Sid> {
        match who {
            Who::Server(sid) => Some(sid),
            Who::Leader => self.leader(),
            Who::Follower(n) => self.followers().get(usize::from(n)).copied(),
        }
    }

    fn followers(&self) -> Vec<Sid> {
        let leader = self.leader();
        self.ensemble.voters().filter(|sid| Some(*sid) != leader).collect()
    }

    /// Does something to a server, if it is there.
    fn to(&self, who: Who, what: impl FnOnce(&mut SimServer)) {
        if let Some(sid) = self.find(who) {
            what(self.servers.borrow_mut().get_mut(&sid).expect("a known server"));
        }
    }

    fn perform(&self, fault: &Fault) {
        let all = || self.ensemble.members.keys().copied();
        match fault {
            Fault::Crash { who, power } => self.to(*who, |server| server.crash(*power)),
            Fault::CrashAll { power } => {
                self.servers.borrow_mut().values_mut().for_each(|server| server.crash(*power));
            }
            Fault::CrashAtPacket { who, packet } => self.to(*who, |server| server.crash_at_packet(*packet)),
            Fault::StartAll => self.start(|_| true),
            Fault::Reset { a, b } => self.net.reset(*a, *b),
            Fault::ResetAll { who } => {
                if let Some(sid) = self.find(*who) {
                    all().filter(|other| *other != sid).for_each(|other| self.net.reset(sid, other));
                }
            }
            Fault::HalfOpen { aware, unaware } => self.net.half_open(*aware, *unaware),
            Fault::Stall { from, to } => self.net.stall(*from, *to),
            Fault::Isolate { who, way } => {
                if let Some(sid) = self.find(*who) {
                    all().filter(|other| *other != sid).for_each(|other| self.cut(sid, other, *way));
                }
            }
            Fault::OnlyOneHears { follower } => {
                if let (Some(leader), Some(hears)) = (self.leader(), self.find(Who::Follower(*follower))) {
                    let deaf = all().filter(|sid| *sid != leader && *sid != hears);
                    deaf.for_each(|sid| self.net.stall(leader, sid));
                }
            }
            Fault::Split { left, both_ways } => {
                let way = if *both_ways { Way::Both } else { Way::Out };
                for (a, b) in left.iter().flat_map(|a| all().map(move |b| (*a, b))) {
                    if !left.contains(&b) {
                        self.cut(a, b, way);
                    }
                }
            }
            Fault::StallClients { who } => {
                self.find(*who).into_iter().for_each(|sid| self.net.stall_clients(sid));
            }
            Fault::SlowPeer { who, by_ms } => {
                self.find(*who).into_iter().for_each(|sid| self.net.slow_down(sid, *by_ms));
            }
            Fault::HealNetwork => self.net.heal(&all().collect()),
            Fault::Pause { who, ms } => self.to(*who, |server| server.pause(*ms)),
            Fault::JumpClock { who, ms } => self.to(*who, |server| server.jump(*ms)),
            Fault::SlowDisk { who, max_ms } => self.to(*who, |server| server.slow_disk(*max_ms)),
            Fault::FailDisk { who, call, fault } => self.to(*who, |server| server.fail_disk(*call, *fault)),
            Fault::FillDisk { who } => self.to(*who, SimServer::fill_disk),
            Fault::Rot { who } => self.to(*who, SimServer::rot),
            Fault::HealDisks => self.servers.borrow_mut().values_mut().for_each(SimServer::heal_disk),
        }
    }

    fn cut(&self, sid: Sid, other: Sid, way: Way) {
        if way != Way::In {
            self.net.stall(sid, other);
        }
        if way != Way::Out {
            self.net.stall(other, sid);
        }
    }

    // --- what must come of it ---

    /// What elections, discovery and synchronization may take together, twice over, and the kernel's limit on
    /// what is unanswered: in simulated ms.
    fn patience(&self) -> u64 {
        let timing = self.shape.timing;
        10_000 + 2 * (15 * timing.tick_ms + timing.init_limit_ms + timing.sync_limit_ms)
    }

    /// One that wants to write, and nothing else: all others may be at rest just now, for longer than a quorum may
    /// take.
    fn insistent_client(&self, around: Surroundings) -> SimClient {
        let session_timeout_ms = 4 * self.shape.timing.tick_ms as i32;
        let habits =
            Habits { pause_max: 100, session_timeout_ms, weights: vec![0; ACTS], rewatch: false, syncs: 1 };
        let rng = Rng::stream(self.options.seed, "insistent client");
        let number = u64::from(self.shape.clients);
        SimClient::new(number, rng, Surroundings { habits: Rc::new(habits), ..around })
    }

    /// Only a quorum is well, and what the others do is noise: clients must get on.
    async fn demand_progress_of_a_quorum(&mut self) {
        let quorum = self.pick_quorum();
        self.story.tell(|| format!("{quorum:?} HEAL"));
        let others: Vec<Sid> =
            self.ensemble.members.keys().copied().filter(|sid| !quorum.contains(sid)).collect();
        for (other, sid) in others.iter().flat_map(|other| quorum.iter().map(move |sid| (*other, *sid))) {
            self.cut(other, sid, Way::Both);
        }
        for other in others {
            // Nobody can be served by these, and no client should try for ever.
            self.to(Who::Server(other), |server| server.crash(false));
        }
        self.heal(&quorum);
        let (before, began) = (self.checker.achieved().1, self.story.now());
        let achieved = |run: &Run| run.checker.achieved().1 >= before + 2;
        self.report.recovery_ms.0 = self.await_until(began, &quorum, achieved).await;
    }

    /// As few participants as decide; whoever may not start, or may have no vote, is not among them.
    fn pick_quorum(&self) -> BTreeSet<Sid> {
        let servers = self.servers.borrow();
        let mut left: Vec<Sid> = self.ensemble.voters().filter(|sid| !servers[sid].needs_help()).collect();
        let mut quorum = BTreeSet::new();
        while !self.ensemble.contains_quorum(&quorum) && !left.is_empty() {
            quorum.insert(left.swap_remove(self.rng.within(0..left.len() as u64) as usize));
        }
        quorum
    }

    fn heal(&self, among: &BTreeSet<Sid>) {
        self.net.heal(among);
        for (_, server) in self.servers.borrow_mut().iter_mut().filter(|(sid, _)| among.contains(sid)) {
            server.heal_disk();
            server.start(&self.died);
        }
    }

    /// Waits for what must come, and keeps the living alive. Returns how long it took.
    async fn await_until(&self, began: u64, among: &BTreeSet<Sid>, achieved: impl Fn(&Run) -> bool) -> u64 {
        while self.failure().is_none() && !achieved(self) {
            if self.story.now() - began > self.patience() {
                let what = format!(
                    "I18: {} ms after {among:?} have healed: {}; {} writes answered",
                    self.patience(),
                    self.describe(),
                    self.checker.achieved().1
                );
                self.checker.fail(what);
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            self.start(|sid| among.contains(&sid));
        }
        self.story.now() - began
    }

    /// Everything is well: all servers must serve.
    async fn demand_equality(&mut self) {
        let all: BTreeSet<Sid> = self.ensemble.members.keys().copied().collect();
        self.story.tell(|| "EVERYTHING HEALS".into());
        self.heal(&all);
        let began = self.story.now();
        let served = |run: &Run| {
            let servers = run.servers.borrow();
            servers.values().all(|server| server.alive().is_some_and(|alive| alive.stats.is_serving()))
        };
        self.report.recovery_ms.1 = self.await_until(began, &all, served).await;
    }

    fn describe(&self) -> String {
        let describe = |(sid, server): (&Sid, &SimServer)| match server.alive() {
            Some(alive) => {
                let (state, phase) = (alive.stats.server_state(), alive.stats.zab_phase());
                format!("{sid} {state} {phase} at {:#x}", alive.stats.last_zxid.get())
            }
            None => format!("{sid} down"),
        };
        self.servers.borrow().iter().map(describe).collect::<Vec<_>>().join(", ")
    }

    /// Every server shows the whole tree, as it must be.
    async fn audit(&self, around: &Surroundings) {
        for sid in self.ensemble.members.keys().copied() {
            if self.failure().is_some() {
                return;
            }
            // A server may be asked anew, for what is left: it can lose its leader once more, in the aftermath of a fault,
            // or when it comes late into a new epoch, which with slow links may happen every other second.
            let mut left = vec!["/".into()];
            let answered = async {
                while client::audit(around, sid, &mut left).await.is_none() && self.failure().is_none() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    self.start(|_| true);
                }
            };
            let patience = Duration::from_millis(2 * self.patience());
            if tokio::time::timeout(patience, answered).await.is_err() {
                self.checker.fail(format!("I18: server {sid} does not answer after everything has healed"));
            }
        }
    }

    fn sum_up(&mut self) {
        let (epochs, writes) = self.checker.achieved();
        let (events, trace) = self.net.delivered();
        self.report = Report {
            epochs,
            writes,
            events,
            trace,
            virtual_ms: self.story.now(),
            ..std::mem::take(&mut self.report)
        };
        for server in self.servers.borrow().values().filter_map(SimServer::alive) {
            self.report.syncs.0 += server.stats.diff_count.get();
            self.report.syncs.1 += server.stats.trunc_count.get();
            self.report.syncs.2 += server.stats.snap_count.get();
        }
    }
}

/// Whoever ends by itself is dead from then on.
fn spawn_undertaker(servers: Servers, rng: Rng) -> mpsc::UnboundedSender<Died> {
    let (died, mut deaths) = mpsc::unbounded_channel::<Died>();
    actix::spawn(async move {
        while let Some(death) = deaths.recv().await {
            let power = rng.percent(50);
            if let Some(server) = servers.borrow_mut().get_mut(&death.sid) {
                server.bury(death, power);
            }
        }
    });
    died
}
