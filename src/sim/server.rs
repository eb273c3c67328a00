//! One simulated server: the production actors and stores over a simulated disk and network, each step of
//! the disk shown to the checker.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use slog::Logger;
use tokio::sync::mpsc;
use zabra_actors::brain::{Parts, Placement, Running, start};
use zabra_actors::core::containers;
use zabra_actors::core::election::Pauses;
use zabra_actors::core::leader::Timing;
use zabra_actors::core::prepare::Rules;
use zabra_actors::core::quorum::Ensemble;
use zabra_actors::core::replica::{LocalSessions, Settings, session_id_base};
use zabra_actors::core::tree::Tree;
use zabra_actors::ports::{OnFault, Pieces, Recovered, Room, SnapStore, TxnStore, WallClock, Witness};
use zabra_actors::stats::Stats;
use zabra_actors::types::{Entry, Epoch, Epochs, Fault, Sid, WallMillis, Zxid};

use super::checker::Checker;
use super::net::{SimLinks, SimNet};
use crate::disk::{self, DiskSettings, SimDisk};

/// When simulated time begins, in wall clock milliseconds.
const WALL_ORIGIN: WallMillis = 1_700_000_000_000;

/// What is the same for all servers of a run.
#[derive(Clone)]
pub struct World {
    /// The network.
    pub net: SimNet,
    /// The ghost.
    pub checker: Arc<Checker>,
    /// Ticks and limits.
    pub timing: Timing,
    /// Transactions between snapshots.
    pub snap_count: u64,
    /// The ensemble, as server 1 sees it.
    pub ensemble: Ensemble,
    /// Where log lines go.
    pub log: Logger,
}

/// A server: its disk outlives its process.
pub struct SimServer {
    sid: Sid,
    world: World,
    disk: SimDisk,
    alive: Option<Alive>,
}

/// The process.
pub struct Alive {
    running: Running,
    /// Cleared when it dies: what it still does while its mailboxes drain has not happened.
    lives: Arc<AtomicBool>,
    /// How clients speak to it.
    pub brain: zabra_actors::handle::Brain,
    /// Its figures.
    pub stats: Arc<Stats>,
}

impl SimServer {
    /// A server that has not been started yet.
    pub fn new(sid: Sid, world: World) -> SimServer {
        SimServer { sid, world, disk: SimDisk::new(), alive: None }
    }

    /// The disk, to plant faults.
    pub fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// The process, if there is one.
    pub fn alive(&self) -> Option<&Alive> {
        self.alive.as_ref()
    }

    /// Starts the process.
    pub fn start(&mut self, died: mpsc::UnboundedSender<Died>) {
        assert!(self.alive.is_none(), "one process a server");
        let World { net, checker, timing, snap_count, ensemble, log } = self.world.clone();
        let sid = self.sid;
        checker.tell(format!("server {sid} starts"));
        let log = log.new(slog::o!("server" => sid.0));
        let settings = DiskSettings { preallocate: 4096, ..DiskSettings::new("/data", sid) };
        let (txns, snaps) = match disk::open(Arc::new(self.disk.clone()), settings, log.clone()) {
            Ok(stores) => stores,
            Err(fault) => return checker.fail(format!("server {sid} cannot open its directory: {fault}")),
        };
        let stats = Arc::new(Stats::default());
        let wall = Arc::new(SimWall(net.clone()));
        let lives = Arc::new(AtomicBool::new(true));
        let watched = Watched { sid, checker: checker.clone(), lives: lives.clone() };
        let witness = Arc::new(watched.clone());
        let on_fault: OnFault = {
            let watched = watched.clone();
            Arc::new(move |fault: &Fault| {
                if watched.lives() {
                    watched.checker.disk_failed(sid);
                    let _ = died.send(Died { sid, fault: fault.to_string() }); // the run may be over
                }
            })
        };
        let parts = Parts {
            ensemble: Ensemble { me: sid, ..ensemble },
            timing,
            // No simulated client asks for it, so nobody may notice.
            read_only: true,
            pauses: Pauses { min_ms: 200, max_ms: 3000 },
            settings: Settings {
                me: sid,
                min_session_timeout_ms: 2 * timing.tick_ms as i32,
                max_session_timeout_ms: 20 * timing.tick_ms as i32,
                first_session: session_id_base(sid, wall.now()),
                config: None,
                local_sessions: LocalSessions::Off,
                rules: Rules { extended_types: true, ..Rules::default() },
            },
            // Often, since runs are short.
            containers: containers::Settings { check_interval_ms: 500, ..Default::default() },
            snap_count,
            snap_size: u64::MAX,
            txn_store: Box::new(WatchedTxns { watched: watched.clone(), store: txns }),
            snap_store: Box::new(WatchedSnaps { watched, store: snaps }),
            wall,
            witness,
            on_fault,
            stats: stats.clone(),
            log,
        };
        let links = SimLinks::new(net.clone(), sid, checker, lives.clone());
        let running = start(parts, &Placement::default(), |peers| {
            net.join(sid, peers);
            Arc::new(links)
        });
        let brain = running.brain.clone();
        self.alive = Some(Alive { running, lives, brain, stats });
    }

    /// kill -9 (the machine stays on), or a power cut that takes what was not synced.
    pub fn crash(&mut self, power: bool, seed: u64) {
        let Some(alive) = self.alive.take() else { return };
        self.world.checker.tell(format!(
            "server {} {}",
            self.sid,
            if power { "LOSES POWER" } else { "IS KILLED" }
        ));
        alive.lives.store(false, Relaxed);
        alive.running.halt();
        self.world.net.leave(self.sid);
        if power {
            self.disk.crash(seed);
        } else {
            self.disk.kill();
        }
    }
}

/// A server's disk has failed, and its process has ended itself.
pub struct Died {
    /// Which server.
    pub sid: Sid,
    /// Of what.
    pub fault: String,
}

struct SimWall(SimNet);

impl WallClock for SimWall {
    fn now(&self) -> WallMillis {
        WALL_ORIGIN + self.0.now() as WallMillis
    }
}

/// A server under the checker's eyes, until it dies.
#[derive(Clone)]
struct Watched {
    sid: Sid,
    checker: Arc<Checker>,
    lives: Arc<AtomicBool>,
}

impl Watched {
    fn lives(&self) -> bool {
        self.lives.load(Relaxed)
    }

    /// The disk does nothing for a process that is dead.
    fn alive(&self) -> Result<(), Fault> {
        if self.lives() { Ok(()) } else { Err(Fault("the process is dead".into())) }
    }
}

impl Witness for Watched {
    fn delivered(&self, zxid: Zxid, digest: i64) {
        if self.lives() {
            self.checker.delivered(self.sid, zxid, digest);
        }
    }

    fn leads(&self, epoch: Epoch) {
        if self.lives() {
            self.checker.leads(self.sid, epoch);
        }
    }
}

struct WatchedTxns<S> {
    watched: Watched,
    store: S,
}

impl<S: TxnStore> TxnStore for WatchedTxns<S> {
    fn recover(&mut self) -> Result<Recovered, Fault> {
        self.watched.alive()?;
        let recovered = self.store.recover()?;
        let Watched { sid, checker, .. } = &self.watched;
        checker.recovered(*sid, recovered.history.last(), recovered.epochs);
        Ok(recovered)
    }

    fn append(&mut self, entries: &[Arc<Entry>]) -> Result<(), Fault> {
        self.watched.alive()?;
        // Told first: a write that fails half-way may still be found after a restart.
        self.watched.checker.logged(self.watched.sid, entries);
        self.store.append(entries)
    }

    fn sync(&mut self) -> Result<(), Fault> {
        self.watched.alive()?;
        self.store.sync()?;
        self.watched.checker.synced(self.watched.sid);
        Ok(())
    }

    fn roll(&mut self) -> Result<(), Fault> {
        self.watched.alive()?;
        self.store.roll()
    }

    fn truncate(&mut self, to: Zxid) -> Result<(), Fault> {
        self.watched.alive()?;
        self.store.truncate(to)?;
        self.watched.checker.truncated(self.watched.sid, to);
        Ok(())
    }

    fn reset(&mut self, zxid: Zxid) -> Result<(), Fault> {
        self.watched.alive()?;
        self.store.reset(zxid)?;
        self.watched.checker.installed(self.watched.sid, zxid);
        Ok(())
    }

    fn reload(&mut self) -> Result<Tree, Fault> {
        self.watched.alive()?;
        self.store.reload()
    }

    fn save_epochs(&mut self, epochs: Epochs) -> Result<(), Fault> {
        self.watched.alive()?;
        self.store.save_epochs(epochs)?;
        self.watched.checker.epochs_saved(self.watched.sid, epochs);
        Ok(())
    }

    fn room(&mut self) -> Result<Room, Fault> {
        self.watched.alive()?;
        self.store.room()
    }

    fn trust(&mut self) -> Result<(), Fault> {
        self.watched.alive()?;
        self.store.trust()
    }

    fn distrust(&mut self) -> Result<(), Fault> {
        self.watched.alive()?;
        self.store.distrust()
    }

    fn stall(&mut self) -> Duration {
        self.store.stall()
    }
}

struct WatchedSnaps<S> {
    watched: Watched,
    store: S,
}

impl<S: SnapStore> SnapStore for WatchedSnaps<S> {
    fn save(&mut self, tree: &Tree) -> Result<Option<String>, Fault> {
        self.watched.alive()?;
        self.store.save(tree)
    }

    fn pieces(&mut self, tree: Box<Tree>) -> Box<dyn Pieces> {
        self.store.pieces(tree)
    }

    fn receive(&mut self, piece: bytes::Bytes) -> Result<(), Fault> {
        self.watched.alive()?;
        self.store.receive(piece)
    }

    fn install(&mut self, zxid: Zxid) -> Result<Option<Tree>, Fault> {
        self.watched.alive()?;
        self.watched.checker.installing(self.watched.sid);
        self.store.install(zxid)
    }

    fn abandon(&mut self) {
        self.store.abandon();
    }

    fn stall(&mut self) -> Duration {
        self.store.stall()
    }
}
