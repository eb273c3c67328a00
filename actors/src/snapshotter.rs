//! The Snapshotter actor: saves trees, streams them to learners, and takes a leader's in.
//!
//! It has a thread of its own, since a snapshot of millions of znodes takes seconds. It is handed whole
//! trees, frozen at one zxid, so a snapshot is exact; freezing is the replica's copy, which shares data
//! and ACLs with the living tree.
//!
//! What goes to learners, and what comes from a leader, is `streams`: few pieces at a time, however large the tree.

mod streams;

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::prelude::*;
use slog::{Logger, crit, info, warn};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::core::tree::Tree;
use crate::ports::{OnFault, PeerLinks, SnapStore};
use crate::stats::Stats;
use crate::turn::{Halt, Meter, Turns, after_stall, work_in_turns};
use crate::types::{Fault, Sid, Tenure, Zxid};
use streams::{Incoming, Outgoing};

/// A snapshot to be written.
pub struct Save {
    /// Of this tree.
    pub tree: Box<Tree>,
    /// Who waits for it.
    pub asked: Vec<Asked>,
    /// Dropped when it is written.
    pub in_work: Arc<()>,
}

/// The way back to one who waits for a snapshot.
pub type Asked = oneshot::Sender<Saved>;

/// A snapshot that is written, verified and durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// The last transaction in it.
    pub zxid: Zxid,
    /// The name of its file.
    pub file: String,
    /// Its znodes.
    pub znodes: usize,
    /// Their digest.
    pub digest: i64,
}

/// What the snapshotter is told to do.
#[derive(Message)]
#[rtype(result = "()")]
#[allow(missing_docs)] // the fields are named for what they are
pub enum SnapOrder {
    /// Write a snapshot.
    Save(Save),
    /// Send this tree to a learner, the empty piece at the end included; answered by Sent, again and again, and by
    /// Streamed.
    Stream { to: Sid, learner: Tenure, tree: Box<Tree> },
    /// The learner has so many more pieces on its disk: as many may follow.
    Taken { to: Sid, learner: Tenure, pieces: u32 },
    /// The learner is gone, or this server leads no more.
    Stop { to: Sid, learner: Tenure },
    /// The leader's snapshot has so many bytes.
    Expect { tenure: Tenure, bytes: u64 },
    /// The next piece of the leader's snapshot; answered by Received.
    Receive { tenure: Tenure, piece: bytes::Bytes },
    /// That was the last piece; answered by Installed.
    Install { tenure: Tenure, zxid: Zxid },
    /// The role is over; answered by Drained when all its orders are done.
    Drain,
}

/// What the snapshotter has done; to Node.
#[derive(Message)]
#[rtype(result = "()")]
#[allow(missing_docs)] // the fields are named for what they are
pub enum SnapDone {
    /// So many more pieces are on their way to this learner.
    Sent { to: Sid, learner: Tenure, pieces: u32 },
    /// So many more pieces of the leader's snapshot are on the disk.
    Received { tenure: Tenure, pieces: u32 },
    /// All pieces are on their way to this learner.
    Streamed { to: Sid, learner: Tenure },
    /// The leader's snapshot is durable. `None`: it made no sense.
    Installed { tenure: Tenure, zxid: Zxid, tree: Option<Box<Tree>> },
    /// Nothing is left to do for the role that is over.
    Drained,
}

/// See the module's story.
pub struct Snapshotter {
    store: Box<dyn SnapStore>,
    links: Arc<dyn PeerLinks>,
    node: Recipient<SnapDone>,
    /// What is under way to learners.
    outgoing: BTreeMap<Sid, Outgoing>,
    /// What comes from the leader.
    incoming: Option<Incoming>,
    done: Vec<SnapDone>,
    on_fault: OnFault,
    failed: bool,
    stats: Arc<Stats>,
    meter: Meter,
    log: Logger,
}

impl Snapshotter {
    /// A snapshotter over a store.
    pub fn new(
        store: Box<dyn SnapStore>,
        links: Arc<dyn PeerLinks>,
        node: Recipient<SnapDone>,
        on_fault: OnFault,
        stats: Arc<Stats>,
        log: Logger,
    ) -> Snapshotter {
        let meter = Meter::new(&stats, |s| &s.snapshotter);
        Snapshotter {
            store,
            links,
            node,
            outgoing: BTreeMap::new(),
            incoming: None,
            done: Vec::new(),
            on_fault,
            failed: false,
            stats,
            meter,
            log,
        }
    }

    fn carry_out(&mut self, order: SnapOrder) -> Result<(), Fault> {
        match order {
            SnapOrder::Save(order) => self.save(order)?,
            SnapOrder::Stream { to, learner, tree } => self.begin_stream(to, learner, tree),
            SnapOrder::Taken { to, learner, pieces } => self.taken(to, learner, pieces),
            SnapOrder::Stop { to, learner } => self.stop_stream(to, learner),
            SnapOrder::Expect { tenure, bytes } => self.expect(tenure, bytes),
            SnapOrder::Receive { tenure, piece } => self.receive(tenure, piece)?,
            SnapOrder::Install { tenure, zxid } => {
                self.incoming = None;
                info!(self.log, "Installing the leader's snapshot"; "zxid" => %zxid);
                let tree = self.store.install(zxid)?.map(Box::new);
                if tree.is_none() {
                    warn!(self.log, "the leader's snapshot makes no sense and is not installed"; "zxid" => %zxid);
                }
                self.done.push(SnapDone::Installed { tenure, zxid, tree });
            }
            SnapOrder::Drain => self.done.push(SnapDone::Drained),
        }
        Ok(())
    }

    #[allow(clippy::disallowed_methods)] // measures the disk; nothing is decided by it
    fn save(&mut self, order: Save) -> Result<(), Fault> {
        let Save { tree, asked, in_work } = order;
        let began = Instant::now();
        info!(self.log, "Snapshotting"; "zxid" => %tree.zxid(), "znodes" => tree.node_count());
        let Some(file) = self.store.save(&tree)? else {
            warn!(self.log, "no snapshot is taken: there is no room for it on the disk"; "zxid" => %tree.zxid());
            self.stats.snapshot_error_count.inc();
            return Ok(());
        };
        let took = began.elapsed();
        self.stats.snapshottime_us.observe(took.as_micros() as u64);
        info!(self.log, "Snapshot taken"; "zxid" => %tree.zxid(), "took ms" => took.as_millis() as u64);
        drop(in_work);
        let saved = Saved { zxid: tree.zxid(), file, znodes: tree.node_count(), digest: tree.digest() };
        for asked in asked {
            let _ = asked.send(saved.clone()); // he may have gone
        }
        Ok(())
    }

    fn report(&mut self) {
        for done in self.done.drain(..) {
            self.node.do_send(done);
        }
    }
}

impl Actor for Snapshotter {
    type Context = Context<Snapshotter>;

    fn started(&mut self, ctx: &mut Self::Context) {
        work_in_turns(ctx);
    }
}

impl Handler<SnapOrder> for Snapshotter {
    type Result = ();

    fn handle(&mut self, order: SnapOrder, ctx: &mut Self::Context) {
        if self.failed {
            return;
        }
        self.meter.message();
        if let Err(fault) = self.carry_out(order) {
            crit!(self.log, "Severe unrecoverable error: {}", fault);
            self.failed = true;
            (self.on_fault)(&fault);
            ctx.terminate();
        }
    }
}

impl Turns for Snapshotter {
    fn end_of_turn(&mut self, ctx: &mut Self::Context) {
        if self.failed {
            return;
        }
        after_stall(self.store.stall(), self, ctx, Snapshotter::report);
        self.meter.end_of_turn();
    }
}

impl Handler<Halt> for Snapshotter {
    type Result = ();

    fn handle(&mut self, _: Halt, ctx: &mut Self::Context) {
        self.failed = true;
        ctx.terminate();
    }
}
