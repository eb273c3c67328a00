//! Starts the actors of one server and tells them of each other. The only place that knows all of them.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use slog::{Logger, o};

use crate::core::containers;
use crate::core::election::Pauses;
use crate::core::leader::Timing;
use crate::core::quorum::Ensemble;
use crate::core::replica::Settings;
use crate::core::snapshots::SnapshotDue;
use crate::election::Election;
use crate::handle::{Brain, FromPeer};
use crate::node::{Actors, Node, Setup};
use crate::ports::{OnFault, PeerLinks, SnapStore, TxnStore, WallClock, Witness};
use crate::questions::Questions;
use crate::replica::{Neighbours, Outside, Replica};
use crate::session_tracker::{ReportTo, SessionTracker};
use crate::snapshotter::Snapshotter;
use crate::stats::Stats;
use crate::turn::{Halt, Monotonic, Pause};
use crate::txn_log::TxnLog;
use crate::types::Millis;
use crate::watch_manager::WatchManager;

/// An election shorter than this is no reason to send clients elsewhere, in ms. Apache's, too; or a tick, if
/// that is longer.
const LEAST_WAIT_FOR_READ_ONLY_MS: Millis = 2000;

/// What a server's brain is made of.
pub struct Parts {
    /// Who belongs to the ensemble, and which of them this is.
    pub ensemble: Ensemble,
    /// Ticks and limits.
    pub timing: Timing,
    /// Serve clients that only want to read while there is no leader (Apache's readonlymode.enabled)?
    pub read_only: bool,
    /// Pauses between election notifications.
    pub pauses: Pauses,
    /// Session bounds and ids.
    pub settings: Settings,
    /// When the leader looks for containers that are over.
    pub containers: containers::Settings,
    /// Transactions between snapshots.
    pub snap_count: u64,
    /// Bytes of log between snapshots.
    pub snap_size: u64,
    /// The log.
    pub txn_store: Box<dyn TxnStore>,
    /// The snapshots.
    pub snap_store: Box<dyn SnapStore>,
    /// The wall clock.
    pub wall: Arc<dyn WallClock>,
    /// Told what must never go wrong: [`crate::ports::NoWitness`] in production.
    pub witness: Arc<dyn Witness>,
    /// What to do when this machine fails.
    pub on_fault: OnFault,
    /// Figures, shared with whoever shows them.
    pub stats: Arc<Stats>,
    /// The server's logger; each actor gets a child of it.
    pub log: Logger,
}

/// Which threads may block. `None` puts an actor on the caller's own (the simulator has one thread).
#[derive(Default)]
pub struct Placement {
    /// For the TxnLog: it waits for fsync.
    pub disk: Option<ArbiterHandle>,
    /// For the Snapshotter: it writes for seconds.
    pub snap: Option<ArbiterHandle>,
}

/// A running brain.
pub struct Running {
    /// How the body speaks to it.
    pub brain: Brain,
    node: Addr<Node>,
    watch_manager: Addr<WatchManager>,
}

impl Running {
    /// Ends all actors at once, as a crash does.
    pub fn halt(&self) {
        self.node.do_send(Halt);
        self.watch_manager.do_send(Halt);
    }

    /// Stands still for so long, as far as peers, disks and time are concerned; what comes from clients is for
    /// the caller to hold back.
    pub fn pause(&self, time: Duration) {
        self.node.do_send(Pause(time));
    }
}

/// Starts the actors on the current Arbiter (and those that may block where `placement` says). `links`
/// is given the node's address, for what peers say, and makes the way to them.
pub fn start(
    parts: Parts,
    placement: &Placement,
    links: impl FnOnce(Recipient<FromPeer>) -> Arc<dyn PeerLinks>,
) -> Running {
    let Parts { ensemble, timing, settings, wall, witness, stats, log, .. } = parts;
    let clock = Monotonic::start();
    let read_only_after = read_only_after(parts.read_only, &ensemble, timing);
    let epoch_length = settings.rules.epoch_length;
    let child = |actor: &'static str| log.new(o!("actor" => actor));
    let watch_manager = WatchManager::new(settings.rules.acl, stats.clone(), child("watch_manager")).start();
    let session_tracker = SessionTracker::new(timing.tick_ms, &stats, child("session_tracker")).start();
    let snapshot_due = SnapshotDue::new(parts.snap_count, parts.snap_size, settings.first_session.0 as u64);

    // Node is made last but must be known first: its context exists before it does.
    let mut clients = None;
    let node = Node::create(|ctx| {
        let node = ctx.address();
        let links = links(node.clone().recipient());
        let stores = (parts.txn_store, parts.snap_store);
        let (txn_log, snapshotter) =
            start_disk(stores, placement, &node, &links, &parts.on_fault, &stats, &log);
        let (voters, log_of) = (ensemble.clone(), child("election"));
        let election =
            Election::new(voters, parts.pauses, links.clone(), node.recipient(), stats.clone(), log_of);
        let neighbours = Neighbours {
            node: ctx.address().recipient(),
            watch_manager: watch_manager.clone(),
            session_tracker: session_tracker.clone(),
            txn_log: txn_log.clone(),
            snapshotter: snapshotter.clone(),
        };
        let outside = Outside {
            wall: wall.clone(),
            witness: witness.clone(),
            clock,
            stats: stats.clone(),
            log: child("replica"),
        };
        let replica = Replica::new(settings, parts.containers, snapshot_due, neighbours, outside).start();
        session_tracker.do_send(ReportTo(replica.clone().recipient()));
        clients = Some(replica.clone());
        let election = election.start();
        let session_tracker = session_tracker.clone();
        let actors = Actors { txn_log, snapshotter, election, replica, session_tracker };
        let setup = Setup {
            ensemble,
            timing,
            epoch_length,
            read_only_after,
            links,
            wall,
            witness,
            clock,
            on_fault: parts.on_fault,
            stats,
            log: log.clone(),
        };
        Node::new(setup, actors)
    });
    let replica = clients.expect("made with the node");
    let brain = Brain {
        opened: watch_manager.clone().recipient(),
        questions: Questions::to(&watch_manager, &replica, &session_tracker, clock),
        snapshots: replica.clone().recipient(),
        clients: replica.recipient(),
        peers: node.clone().recipient(),
    };
    Running { brain, node, watch_manager }
}

/// How long an election may find no leader before clients may read here, if they ever may. Who is alone is never cut
/// off from the others.
fn read_only_after(allowed: bool, ensemble: &Ensemble, timing: Timing) -> Option<Millis> {
    (allowed && ensemble.members.len() > 1).then(|| timing.tick_ms.max(LEAST_WAIT_FOR_READ_ONLY_MS))
}

/// Starts the two actors that may block.
fn start_disk(
    (txn_store, snap_store): (Box<dyn TxnStore>, Box<dyn SnapStore>),
    placement: &Placement,
    node: &Addr<Node>,
    links: &Arc<dyn PeerLinks>,
    on_fault: &OnFault,
    stats: &Arc<Stats>,
    log: &Logger,
) -> (Addr<TxnLog>, Addr<Snapshotter>) {
    let snapshotter = Snapshotter::new(
        snap_store,
        links.clone(),
        node.clone().recipient(),
        on_fault.clone(),
        stats.clone(),
        log.new(o!("actor" => "snapshotter")),
    );
    let snapshotter = place(placement.snap.as_ref(), snapshotter);
    let txn_log = TxnLog::new(
        txn_store,
        node.clone().recipient(),
        snapshotter.clone(),
        on_fault.clone(),
        stats.clone(),
        log.new(o!("actor" => "txn_log")),
    );
    (place(placement.disk.as_ref(), txn_log), snapshotter)
}

/// Starts an actor on its own thread, or here.
fn place<A>(arbiter: Option<&ArbiterHandle>, actor: A) -> Addr<A>
where
    A: Actor<Context = Context<A>> + Send,
{
    match arbiter {
        Some(arbiter) => A::start_in_arbiter(arbiter, move |_| actor),
        None => actor.start(),
    }
}
