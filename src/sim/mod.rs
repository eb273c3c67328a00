//! The simulator: a whole ensemble, its clients, its network and its disks in one thread, under a paused
//! clock and one seed.
//!
//! What runs is the production brain and the production storage; only sockets, device and clock are
//! others. A run has two parts. First faults: servers are killed or lose power, links are reset, stalled
//! and healed, disks are slow or fail. Then everything heals, and the ensemble must serve again within a
//! bounded time, hold everything that was acknowledged, and be equal everywhere. The [`checker`] looks at
//! every step in between. A failing run prints its seed, the command that repeats it, and its story.

pub mod checker;
mod client;
mod command;
mod net;
mod rng;
mod server;
mod story;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use zabra_actors::core::leader::Timing;
use zabra_actors::core::quorum::Ensemble;
use zabra_actors::types::{ConnId, ServerState, Sid};

pub use self::command::{SimArgs, command};

use self::checker::Checker;
use self::client::{Directory, Promises, SimClient};
use self::net::{Delays, SimNet};
use self::rng::Rng;
use self::server::{Died, SimServer, World};
use crate::disk::Injected;

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Options {
    /// The seed: everything else that is left to chance follows from it.
    pub seed: u64,
    /// Voting servers.
    pub participants: u8,
    /// Servers that do not vote.
    pub observers: u8,
    /// Clients.
    pub clients: u64,
    /// How long faults happen, in simulated seconds.
    pub fault_seconds: u64,
    /// Show the whole story, not only of a failure.
    pub trace: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { seed: 0, participants: 3, observers: 1, clients: 3, fault_seconds: 30, trace: false }
    }
}

/// What came of a run that found no fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Acknowledged writes.
    pub acknowledged: u64,
    /// Epochs led.
    pub epochs: u64,
    /// Faults staged.
    pub faults: u64,
    /// Learners brought into step by DIFF, TRUNC and SNAP, as far as living leaders remember.
    pub syncs: (u64, u64, u64),
    /// Simulated milliseconds from the healing of everything to equal servers.
    pub recovery_ms: u64,
}

/// A run that found a fault.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The options of the run.
    pub options: Options,
    /// What broke.
    pub what: String,
    /// The last part of the story.
    pub story: Vec<String>,
}

impl Failure {
    /// The one command that repeats the run.
    pub fn command(&self) -> String {
        let Options { seed, participants, observers, clients, fault_seconds, .. } = &self.options;
        format!(
            "cargo run --release -- sim --seed {seed} --participants {participants} --observers {observers} \
             --clients {clients} --fault-seconds {fault_seconds} --trace"
        )
    }
}

/// After everything has healed, this long may pass until all is well, in simulated time.
const RECOVERY: Duration = Duration::from_secs(90);

/// Runs one simulation on the current thread.
pub fn run(options: &Options) -> Result<Report, Failure> {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().expect("a paused runtime needs nothing")
    };
    let system = actix::System::with_tokio_rt(runtime);
    let outcome = system.block_on(Run::new(options.clone()).go());
    outcome.map_err(|(what, story)| Failure { options: options.clone(), what, story })
}

type Servers = Rc<RefCell<BTreeMap<Sid, SimServer>>>;

struct Run {
    options: Options,
    rng: Rng,
    net: SimNet,
    checker: Arc<Checker>,
    servers: Servers,
    promises: Arc<Mutex<Promises>>,
    died: mpsc::UnboundedSender<Died>,
    deaths: mpsc::UnboundedReceiver<Died>,
    report: Report,
}

impl Run {
    fn new(options: Options) -> Run {
        let rng = Rng::new(options.seed);
        let participants: Vec<Sid> = (1..=options.participants).map(Sid).collect();
        let observers: Vec<Sid> =
            (options.participants + 1..=options.participants + options.observers).map(Sid).collect();
        let ensemble = Ensemble::majority(participants[0], &participants, &observers);
        let checker = Arc::new(Checker::new(ensemble.clone()));
        let delays = Delays {
            packet_min: 1,
            packet_max: *rng.pick(&[1, 2, 5, 20, 100]),
            redial_max: *rng.pick(&[2, 50, 500]),
        };
        let net =
            SimNet::new(rng.clone(), delays.clone(), observers.iter().copied().collect::<BTreeSet<_>>());
        let world = World {
            net: net.clone(),
            checker: checker.clone(),
            timing: Timing { tick_ms: 200, init_limit_ms: 2000, sync_limit_ms: 1000 },
            snap_count: *rng.pick(&[5, 20, 100, 100_000]),
            ensemble,
            log: story::logger(checker.clone(), net.clone(), options.trace),
        };
        checker.tell(format!("{options:?}, {delays:?}, snapshots every {}", world.snap_count));
        let servers = participants
            .into_iter()
            .chain(observers)
            .map(|sid| (sid, SimServer::new(sid, world.clone())))
            .collect();
        let (died, deaths) = mpsc::unbounded_channel();
        let promises = Arc::default();
        let servers = Rc::new(RefCell::new(servers));
        Run { options, rng, net, checker, servers, promises, died, deaths, report: Report::default() }
    }

    async fn go(mut self) -> Result<Report, (String, Vec<String>)> {
        actix::spawn(self.net.clone().run());
        self.start_all();
        self.start_clients();
        self.stage_faults().await;
        self.heal();
        self.demand_progress().await;
        self.check_promises().await;
        for server in self.servers.borrow_mut().values_mut() {
            server.crash(false, 0);
        }
        match self.checker.failure() {
            Some(failure) => Err(failure),
            None => Ok(self.report),
        }
    }

    fn failed(&self) -> bool {
        self.checker.failure().is_some()
    }

    fn start_all(&self) {
        for server in self.servers.borrow_mut().values_mut() {
            if server.alive().is_none() {
                server.start(self.died.clone());
            }
        }
    }

    fn start_clients(&self) {
        let servers = self.servers.clone();
        let directory: Directory = Rc::new(move |rng: &Rng| {
            let servers = servers.borrow();
            let brains: Vec<_> =
                servers.values().filter_map(|s| s.alive()).map(|a| a.brain.clone()).collect();
            (!brains.is_empty()).then(|| rng.pick(&brains).clone())
        });
        let conns = Arc::new(Mutex::new(0));
        for number in 0..self.options.clients {
            let client = SimClient {
                number,
                rng: self.rng.clone(),
                directory: directory.clone(),
                promises: self.promises.clone(),
                checker: self.checker.clone(),
                conns: conns.clone(),
            };
            actix::spawn(client.run());
        }
    }

    async fn stage_faults(&mut self) {
        let calm = *self.rng.pick(&[200, 1000, 4000]);
        while self.net.now() < self.options.fault_seconds * 1000 && !self.failed() {
            let pause = self.rng.within(1..calm);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            self.bury();
            self.report.faults += 1;
            if self.rng.percent(5) {
                self.strand_tail().await;
            } else {
                self.stage_one();
            }
        }
        self.bury();
    }

    /// Servers whose disk has failed are dead.
    fn bury(&mut self) {
        while let Ok(Died { sid, fault }) = self.deaths.try_recv() {
            self.checker.tell(format!("server {sid} ended itself: {fault}"));
            self.servers.borrow_mut().get_mut(&sid).expect("it lived").crash(false, 0);
        }
    }

    fn stage_one(&mut self) {
        let sids: Vec<Sid> = self.servers.borrow().keys().copied().collect();
        let (a, b) = (*self.rng.pick(&sids), *self.rng.pick(&sids));
        match self.rng.within(0..100) {
            0..15 => self.crash(a),
            15..30 => self.leader().into_iter().for_each(|leader| self.crash(leader)),
            30..33 => sids.iter().for_each(|sid| self.crash(*sid)),
            33..60 => self.start_all(),
            60..70 if a != b => {
                self.checker.tell(format!("link {a}-{b} is reset"));
                self.net.reset(a, b);
            }
            70..76 if a != b => self.stall(&[a], &[b]),
            76..82 => self.partition(&sids),
            82..93 => {
                self.checker.tell("the network heals".into());
                self.net.heal();
            }
            93..96 => self.slow_disk(a),
            _ => self.fail_disk(a),
        }
    }

    /// One follower alone hears the leader, and is killed and comes back while the others are still deaf: it
    /// has loaded a tail that nobody has committed.
    async fn strand_tail(&mut self) {
        let Some(leader) = self.leader() else { return };
        let followers: Vec<Sid> =
            (1..=self.options.participants).map(Sid).filter(|sid| *sid != leader).collect();
        let Some(stranded) = (!followers.is_empty()).then(|| *self.rng.pick(&followers)) else { return };
        let deaf: Vec<Sid> = followers.into_iter().filter(|sid| *sid != stranded).collect();
        self.stall(&[leader], &deaf);
        tokio::time::sleep(Duration::from_millis(self.rng.within(20..300))).await;
        self.servers.borrow_mut().get_mut(&stranded).expect("a known server").crash(false, 0);
        tokio::time::sleep(Duration::from_millis(2)).await;
        self.start_all();
        tokio::time::sleep(Duration::from_millis(self.rng.within(300..900))).await;
        self.net.heal();
    }

    fn crash(&self, sid: Sid) {
        let (power, seed) = (self.rng.percent(50), self.rng.next());
        self.servers.borrow_mut().get_mut(&sid).expect("a known server").crash(power, seed);
    }

    fn leader(&self) -> Option<Sid> {
        let servers = self.servers.borrow();
        let leads = |server: &SimServer| {
            server.alive().is_some_and(|alive| alive.stats.server_state() == ServerState::Leading)
        };
        servers.iter().find(|(_, server)| leads(server)).map(|(sid, _)| *sid)
    }

    /// What these send to those stalls.
    fn stall(&self, from: &[Sid], to: &[Sid]) {
        self.checker.tell(format!("what {from:?} send to {to:?} stalls"));
        for a in from {
            for b in to {
                self.net.stall(*a, *b);
            }
        }
    }

    fn partition(&self, sids: &[Sid]) {
        let (left, right): (Vec<Sid>, Vec<Sid>) = sids.iter().partition(|_| self.rng.percent(50));
        self.stall(&left, &right);
        if self.rng.percent(70) {
            self.stall(&right, &left);
        }
    }

    fn slow_disk(&self, sid: Sid) {
        let slowest = Duration::from_millis(*self.rng.pick(&[2, 30, 400]));
        self.checker.tell(format!("server {sid} has a disk that takes up to {slowest:?}"));
        self.servers.borrow()[&sid].disk().slow_down(self.rng.next(), slowest);
    }

    fn fail_disk(&self, sid: Sid) {
        let fault = *self.rng.pick(&[Injected::Io, Injected::Full, Injected::Crash]);
        let call = self.rng.within(1..30);
        self.checker.tell(format!("server {sid} has a disk that fails at call {call}: {fault:?}"));
        self.servers.borrow()[&sid].disk().inject(call, fault);
    }

    fn heal(&mut self) {
        self.checker.tell("EVERYTHING HEALS".into());
        self.net.heal();
        for server in self.servers.borrow_mut().values_mut() {
            server.disk().heal();
        }
        self.start_all();
    }

    /// All servers must serve and be equal, and clients' writes must go on, within [`RECOVERY`].
    async fn demand_progress(&mut self) {
        let began = self.net.now();
        let before = self.promises.lock().expect("nobody panics with this lock").acknowledged;
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            self.bury();
            self.start_all();
            let acknowledged = self.promises.lock().expect("nobody panics with this lock").acknowledged;
            let clients_go_on = acknowledged >= before + 2 * self.options.clients;
            if self.failed() {
                return;
            }
            if clients_go_on && self.all_serve() {
                break;
            }
            if self.net.now() - began > RECOVERY.as_millis() as u64 {
                let servers = self.describe();
                let what = format!(
                    "I18: {RECOVERY:?} after everything healed: {servers}; {} writes",
                    acknowledged - before
                );
                return self.checker.fail(what);
            }
        }
        self.report.recovery_ms = self.net.now() - began;
        self.report.acknowledged = self.promises.lock().expect("nobody panics with this lock").acknowledged;
        for server in self.servers.borrow().values().filter_map(|server| server.alive()) {
            self.report.epochs = self.report.epochs.max(server.stats.epoch.get() as u64);
            self.report.syncs.0 += server.stats.diff_count.get();
            self.report.syncs.1 += server.stats.trunc_count.get();
            self.report.syncs.2 += server.stats.snap_count.get();
        }
    }

    fn all_serve(&self) -> bool {
        self.servers.borrow().values().all(|s| s.alive().is_some_and(|alive| alive.stats.is_serving()))
    }

    fn describe(&self) -> String {
        let describe = |(sid, server): (&Sid, &SimServer)| match server.alive() {
            Some(alive) => {
                let stats = &alive.stats;
                format!(
                    "{sid} {} {} at 0x{:x}",
                    stats.server_state(),
                    stats.zab_phase(),
                    stats.last_zxid.get()
                )
            }
            None => format!("{sid} down"),
        };
        self.servers.borrow().iter().map(describe).collect::<Vec<_>>().join(", ")
    }

    /// Every acknowledged write is there, on every server.
    async fn check_promises(&self) {
        if self.failed() {
            return;
        }
        let sids: Vec<Sid> = self.servers.borrow().keys().copied().collect();
        for sid in sids {
            let answered = async {
                // A server may be asked anew: the aftermath of a slow disk can cost it its leader once more.
                for attempt in 0.. {
                    let brain = self.servers.borrow()[&sid].alive().map(|alive| alive.brain.clone());
                    let conn = ConnId(u64::MAX - attempt);
                    let Some(brain) = brain else { return };
                    if client::audit(sid, conn, brain, &self.promises, &self.checker).await.is_some() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            if tokio::time::timeout(RECOVERY, answered).await.is_err() {
                self.checker.fail(format!("I18: server {sid} does not answer after everything healed"));
            }
        }
    }
}
