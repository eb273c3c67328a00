//! One simulated server: the production actors and stores over a simulated disk and network, on a machine that
//! can lose power, stand still, run full and have a wrong clock.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::mpsc;
use zabra_actors::brain::{Parts, Placement, Running, start};
use zabra_actors::core::containers;
use zabra_actors::core::election::Pauses;
use zabra_actors::core::leader::Timing;
use zabra_actors::core::prepare::Rules;
use zabra_actors::core::quorum::Ensemble;
use zabra_actors::core::replica::{LocalSessions, Settings, session_id_base};
use zabra_actors::handle::Brain;
use zabra_actors::ports::{OnFault, WallClock};
use zabra_actors::stats::Stats;
use zabra_actors::types::{EpochLength, Fault, Sid, WallMillis};

use super::checker::Checker;
use super::net::{LastWords, SimLinks, SimNet};
use super::rng::Rng;
use super::story::Story;
use super::watched::{Watched, WatchedSnaps, WatchedTxns};
use crate::disk::{self, Disk, DiskSettings, Injected, SimDisk};

/// When simulated time begins, in wall clock milliseconds.
const WALL_ORIGIN: WallMillis = 1_700_000_000_000;
/// With less room than this, in bytes, writes are refused; it is enough for some files more.
const MIN_FREE: u64 = 32 << 10;
/// Where the files of every server are, on its own disk.
const DATA: &str = "/data";

/// What is the same for all servers of a run.
#[derive(Clone)]
pub struct World {
    /// The network.
    pub net: SimNet,
    /// The ghost.
    pub checker: Arc<Checker>,
    /// Time, and who listens.
    pub story: Story,
    /// Ticks and limits.
    pub timing: Timing,
    /// Transactions between snapshots.
    pub snap_count: u64,
    /// Transactions of an epoch.
    pub epoch_length: EpochLength,
    /// Transactions in memory for learners that lag.
    pub window: usize,
    /// The ensemble, as server 1 sees it.
    pub ensemble: Ensemble,
}

/// A server: its machine outlives its process.
pub struct SimServer {
    sid: Sid,
    world: World,
    rng: Rng,
    /// Chooses among faults that look alike in the schedule: a stream of its own, so that what came later leaves known
    /// runs as they were as far as can be.
    kinds: Rng,
    disk: SimDisk,
    /// How wrong the machine's clock is, in ms.
    clock: Arc<AtomicI64>,
    /// Nothing more can be written to the disk.
    full: bool,
    /// A file was damaged: a start may be refused, and then goes on being refused.
    rotten: bool,
    refuses: bool,
    /// The disk was made to fail: the process may end of that.
    excused: bool,
    /// How many processes there were.
    births: u64,
    alive: Option<Alive>,
}

/// The process.
pub struct Alive {
    running: Running,
    /// Cleared when it dies: what it still does while its mailboxes drain has not happened.
    lives: Arc<AtomicBool>,
    last_words: Arc<LastWords>,
    /// It stands still until then.
    paused_until: u64,
    /// How clients speak to it.
    pub brain: Brain,
    /// Its figures.
    pub stats: Arc<Stats>,
}

/// A process has ended by itself.
pub struct Died {
    /// Which server.
    pub sid: Sid,
    birth: u64,
    /// Of what; `None` when it was planned to die just there.
    fault: Option<String>,
}

impl SimServer {
    /// A server that has not been started yet.
    pub fn new(sid: Sid, world: World, [rng, kinds]: [Rng; 2]) -> SimServer {
        world.checker.clock_set(sid, WALL_ORIGIN);
        let (disk, clock) = (SimDisk::new(), Arc::default());
        let (full, rotten, refuses, excused) = (false, false, false, false);
        let (births, alive) = (0, None);
        SimServer { sid, world, rng, kinds, disk, clock, full, rotten, refuses, excused, births, alive }
    }

    /// The process, if there is one.
    pub fn alive(&self) -> Option<&Alive> {
        self.alive.as_ref()
    }

    /// May it be of no use until an operator, or a leader, has helped it?
    pub fn needs_help(&self) -> bool {
        self.disk.is_damaged() || self.refuses || self.world.checker.is_doubtful(self.sid)
    }

    fn tell(&self, what: &str) {
        self.world.story.tell_of(self.sid, || what.to_string());
    }

    /// Starts the process, if there is none and it can be started.
    pub fn start(&mut self, died: &mpsc::UnboundedSender<Died>) {
        if self.alive.is_some() || self.refuses && !self.replace_disk() {
            return;
        }
        self.births += 1;
        if self.full {
            self.disk.inject(self.rng.within(1..8), Injected::Full);
        }
        let World { net, checker, story, timing, snap_count, epoch_length, window, ensemble } =
            self.world.clone();
        let sid = self.sid;
        self.tell("starts");
        let log = story.logger(sid);
        let settings = DiskSettings { preallocate: 4096, min_free: MIN_FREE, ..DiskSettings::new(DATA, sid) };
        let (txns, snaps) = match disk::open(Arc::new(self.disk.clone()), settings, log.clone()) {
            Ok(stores) => stores,
            Err(fault) => return self.stop(&fault.to_string()),
        };
        let stats = Arc::new(Stats::default());
        story.lives(sid, Some(stats.clone()));
        let wall = Arc::new(SimWall { story, offset: self.clock.clone() });
        let lives = Arc::new(AtomicBool::new(true));
        let watched = Watched::new(sid, checker.clone(), lives.clone(), self.disk.clone());
        // Every other server keeps sessions to itself, until they want something that others must know of.
        let local_sessions =
            if sid.0.is_multiple_of(2) { LocalSessions::Upgraded } else { LocalSessions::Off };
        let parts = Parts {
            ensemble: Ensemble { me: sid, ..ensemble },
            timing,
            // No simulated client asks for it, so nobody may notice.
            read_only: true,
            pauses: Pauses { min_ms: timing.tick_ms, max_ms: 15 * timing.tick_ms },
            settings: Settings {
                me: sid,
                min_session_timeout_ms: 2 * timing.tick_ms as i32,
                max_session_timeout_ms: 20 * timing.tick_ms as i32,
                first_session: session_id_base(sid, wall.now()),
                config: None,
                local_sessions,
                rules: Rules { extended_types: true, epoch_length, ..Rules::default() },
            },
            // Often, since runs are short.
            containers: containers::Settings { check_interval_ms: 500, ..Default::default() },
            snap_count,
            snap_size: u64::MAX,
            txn_store: Box::new(WatchedTxns::new(watched.clone(), txns, window)),
            snap_store: Box::new(WatchedSnaps::new(watched.clone(), snaps)),
            wall,
            witness: Arc::new(watched),
            on_fault: self.on_fault(&lives, died),
            stats: stats.clone(),
            log,
        };
        let last_words = Arc::new(self.last_words(&lives, died));
        let links = SimLinks::new(net.clone(), sid, checker, lives.clone(), last_words.clone());
        let running = start(parts, &Placement::default(), |peers| {
            net.join(sid, peers);
            Arc::new(links)
        });
        let brain = running.brain.clone();
        self.alive = Some(Alive { running, lives, last_words, paused_until: 0, brain, stats });
    }

    fn on_fault(&self, lives: &Arc<AtomicBool>, died: &mpsc::UnboundedSender<Died>) -> OnFault {
        let (lives, died) = (lives.clone(), died.clone());
        let (sid, birth) = (self.sid, self.births);
        Arc::new(move |fault: &Fault| {
            if lives.swap(false, Relaxed) {
                let _ = died.send(Died { sid, birth, fault: Some(fault.to_string()) }); // the run may be over
            }
        })
    }

    fn last_words(&self, lives: &Arc<AtomicBool>, died: &mpsc::UnboundedSender<Died>) -> LastWords {
        let (lives, died) = (lives.clone(), died.clone());
        let (sid, birth) = (self.sid, self.births);
        LastWords::new(Box::new(move || {
            lives.store(false, Relaxed);
            let _ = died.send(Died { sid, birth, fault: None }); // as above
        }))
    }

    /// The process has ended by itself: the rest of it, too.
    pub fn bury(&mut self, died: Died, power: bool) {
        if died.birth != self.births || self.alive.is_none() {
            return;
        }
        if let Some(fault) = &died.fault {
            self.stop(fault);
        }
        self.crash(power);
    }

    /// The process cannot go on, or cannot even begin.
    fn stop(&mut self, fault: &str) {
        self.tell(&format!("stops: {fault}"));
        self.refuses |= self.rotten;
        self.disk.kill();
        if !self.excused {
            let what = format!("it stops by itself, and its disk was never made to fail: {fault}");
            self.world.checker.fail_at(self.sid, &what);
        }
    }

    /// kill -9 (the machine stays on), or a power cut that takes what was not synced.
    pub fn crash(&mut self, power: bool) {
        let Some(alive) = self.alive.take() else { return };
        self.tell(if power { "LOSES POWER" } else { "IS KILLED" });
        alive.lives.store(false, Relaxed);
        alive.running.halt();
        self.world.net.leave(self.sid, power);
        if power {
            self.disk.crash(self.rng.next());
        } else {
            self.disk.kill();
        }
        self.world.story.lives(self.sid, None);
    }

    /// The process dies at the n-th packet that it is about to send.
    pub fn crash_at_packet(&self, packet: u64) {
        if let Some(alive) = &self.alive {
            self.tell(&format!("will die at packet {packet}"));
            alive.last_words.plan(packet);
        }
    }

    /// The process stands still.
    pub fn pause(&mut self, ms: u64) {
        let Some(alive) = &mut self.alive else { return };
        let now = self.world.story.now();
        let (since, until) = (now.max(alive.paused_until), now + ms);
        if until > since {
            // Of two pauses that overlap the second begins when the first ends: it wakes up, and sleeps on.
            alive.paused_until = until;
            alive.running.pause(Duration::from_millis(until - since));
            self.world.net.pause(self.sid, until);
            self.world.checker.paused(self.sid, since, until);
        }
        self.tell(&format!("STANDS STILL for {ms} ms"));
    }

    /// The machine's clock is set, for good.
    pub fn jump(&self, ms: i64) {
        self.tell(&format!("has its clock set by {ms} ms"));
        let offset = self.clock.fetch_add(ms, Relaxed) + ms;
        self.world.checker.clock_set(self.sid, WALL_ORIGIN + offset);
    }

    /// Syncs take up to so long from now on.
    pub fn slow_disk(&self, ms: u64) {
        self.tell(&format!("has a disk that takes up to {ms} ms"));
        self.disk.slow_down(self.rng.next(), Duration::from_millis(ms));
    }

    /// The n-th change of the disk fails; of errors some come at the n-th time that it is read.
    pub fn fail_disk(&mut self, call: u64, fault: Injected) {
        self.excused = true;
        if fault == Injected::Io && self.kinds.percent(25) {
            self.tell(&format!("has a disk that cannot be read at call {call}"));
            return self.disk.inject_read(call);
        }
        self.tell(&format!("has a disk that fails at call {call}: {fault:?}"));
        self.disk.inject(call, fault);
    }

    /// The disk is full until it heals: at once, or soon.
    pub fn fill_disk(&mut self) {
        self.excused = true;
        let call = self.rng.within(1..20);
        if self.kinds.percent(50) {
            let room = self.kinds.within(0..2 * MIN_FREE);
            self.tell(&format!("has a disk with room for {room} bytes"));
            self.world.checker.fills();
            return self.disk.limit_to_room(room);
        }
        self.full = true;
        self.fail_disk(call, Injected::Full);
    }

    /// A bit of a log or snapshot turns over, or of a file with an epoch or the sync mark.
    pub fn rot(&mut self) {
        let dir = Path::new(DATA).join("version-2");
        let small = self.kinds.percent(20);
        let may_rot = |name: &str| match small {
            true => ["acceptedEpoch", "currentEpoch", ".synced"].contains(&name),
            false => name.starts_with("log.") || name.starts_with("snapshot."),
        };
        let files = self.disk.list(&dir).unwrap_or_default();
        let mut files: Vec<_> = files.into_iter().filter(|(name, len)| *len > 0 && may_rot(name)).collect();
        if files.is_empty() {
            return;
        }
        let (name, len) = files.swap_remove(self.rng.within(0..files.len() as u64) as usize);
        let offset = self.rng.within(0..len);
        self.tell(&format!("has bit rot in {name} at {offset}"));
        self.disk.rot(&dir.join(name), offset);
        self.world.checker.damaged(self.sid);
        (self.rotten, self.excused) = (true, true);
    }

    /// An operator gives it an empty disk, if a quorum of the others has everything.
    fn replace_disk(&mut self) -> bool {
        if !self.world.checker.can_spare(self.sid) {
            return false;
        }
        self.tell("gets an empty disk");
        self.disk = SimDisk::new();
        self.world.checker.wiped(self.sid);
        (self.rotten, self.refuses) = (false, false);
        true
    }

    /// The disk is as good as new, but for what is damaged.
    pub fn heal_disk(&mut self) {
        self.disk.heal();
        self.disk.limit(None);
        self.full = false;
        self.excused = self.rotten || self.alive.is_none();
    }
}

struct SimWall {
    story: Story,
    offset: Arc<AtomicI64>,
}

impl WallClock for SimWall {
    fn now(&self) -> WallMillis {
        WALL_ORIGIN + self.story.now() as WallMillis + self.offset.load(Relaxed)
    }
}
