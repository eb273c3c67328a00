//! The TxnLog actor: owns the transaction log and the epoch files for the life of the process.
//!
//! It sits alone on its thread and may block: while it waits for the disk its mailbox fills, so the next
//! write is larger. That is the group commit. An acknowledgement (`Synced`) leaves only behind a
//! successful fsync; everything else it does first flushes what was appended, so its answers come in the
//! order of its orders. Each order names the tenure it belongs to and each answer repeats it, so that Node
//! can drop what belongs to a role that is over (ZOOKEEPER-4712 and its like: there is one log stage, and
//! role changes fence it).

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use slog::{Logger, crit, info, warn};
use tokio::time::Instant;

use crate::core::tree::Tree;
use crate::ports::{OnFault, Recovered, Room, TxnStore};
use crate::snapshotter::{Save, SnapOrder, Snapshotter};
use crate::stats::Stats;
use crate::turn::{Halt, Meter, Turns, after_stall, work_in_turns};
use crate::types::{Entry, Epochs, Fault, Tenure, Zxid};

/// An fsync slower than this is worth a warning (Apache's fsync.warningthresholdms).
const SLOW_SYNC: Duration = Duration::from_secs(1);

/// After how many bytes of log the room on the disk is looked at, whatever the time: small beside what is kept free.
const LOOK_EVERY: usize = 16 << 20;

/// What the log is told to do.
#[derive(Message)]
#[rtype(result = "()")]
#[allow(missing_docs)] // the fields are named for what they are
pub enum LogOrder {
    /// Load everything; answered by Recovered. Sent once, first.
    Recover,
    /// Append; answered by Synced at the end of the turn.
    Append { tenure: Tenure, entries: Vec<Arc<Entry>> },
    /// Write the epoch files; answered by EpochsSaved.
    SaveEpochs { tenure: Tenure, epochs: Epochs },
    /// Cut; load the tree anew if it is beyond. Answered by Truncated.
    Truncate { tenure: Tenure, to: Zxid, reload: bool },
    /// Forget the log: an installed snapshot replaces it. Answered by Reset.
    Reset { tenure: Tenure, zxid: Zxid },
    /// Look how much room is left on the disk; answered by Room when writes should stop, or may go on.
    LookAtRoom,
    /// Nothing is lacking here any more ([`Recovered::doubtful`]); answered by Trusted.
    Trust,
    /// The tree is not what the log makes of it ([`Recovered::diverged`]): note that until a leader's snapshot has
    /// replaced it. Not answered: nothing is said to a peer before the next Drained.
    Distrust,
    /// The role is over; answered by Drained when all its orders are done.
    Drain,
    /// Everything up to this tree is in the mailbox already: make it durable, begin a new file, then
    /// hand the tree to the snapshotter. So no snapshot is ever ahead of its own log.
    RollAndSnapshot(Save),
}

/// What the log has done; to Node.
#[derive(Message)]
#[rtype(result = "()")]
#[allow(missing_docs)] // each answers the order of its name
pub enum LogDone {
    Recovered(Box<Recovered>),
    Synced { tenure: Tenure, zxid: Zxid },
    EpochsSaved { tenure: Tenure, epochs: Epochs },
    Truncated { tenure: Tenure, zxid: Zxid, tree: Option<Box<Tree>> },
    Reset { tenure: Tenure, zxid: Zxid },
    Room { low: bool },
    Trusted,
    Drained,
}

/// See the module's story.
pub struct TxnLog {
    store: Box<dyn TxnStore>,
    node: Recipient<LogDone>,
    snapshotter: Addr<Snapshotter>,
    /// Appended and not yet durable: whose, up to where, how many.
    unsynced: Option<(Tenure, Zxid, u64)>,
    /// Answers that leave at the end of the turn.
    done: Vec<LogDone>,
    /// The snapshot for the snapshotter, likewise. A newer one replaces it.
    snapshot: Option<Save>,
    /// The disk is nearly full.
    low: bool,
    /// Bytes appended since the room was looked at.
    unmeasured: usize,
    on_fault: OnFault,
    failed: bool,
    stats: Arc<Stats>,
    meter: Meter,
    log: Logger,
}

impl TxnLog {
    /// A log over a store.
    pub fn new(
        store: Box<dyn TxnStore>,
        node: Recipient<LogDone>,
        snapshotter: Addr<Snapshotter>,
        on_fault: OnFault,
        stats: Arc<Stats>,
        log: Logger,
    ) -> TxnLog {
        let meter = Meter::new(&stats, |s| &s.txn_log);
        TxnLog {
            store,
            node,
            snapshotter,
            unsynced: None,
            done: Vec::new(),
            snapshot: None,
            low: false,
            unmeasured: 0,
            on_fault,
            failed: false,
            stats,
            meter,
            log,
        }
    }

    fn carry_out(&mut self, order: LogOrder) -> Result<(), Fault> {
        if !matches!(order, LogOrder::Append { .. }) {
            self.sync()?;
        }
        match order {
            LogOrder::Recover => {
                let recovered = self.store.recover()?;
                info!(self.log, "recovered"; "last zxid" => %recovered.history.last(),
                    "znodes" => recovered.tree.node_count(), "sessions" => recovered.tree.sessions().len(),
                    "accepted epoch" => %recovered.epochs.accepted, "current epoch" => %recovered.epochs.current);
                self.done.push(LogDone::Recovered(Box::new(recovered)));
            }
            LogOrder::Append { tenure, entries } => self.append(tenure, &entries)?,
            LogOrder::SaveEpochs { tenure, epochs } => {
                self.store.save_epochs(epochs)?;
                self.done.push(LogDone::EpochsSaved { tenure, epochs });
            }
            LogOrder::Truncate { tenure, to, reload } => {
                warn!(self.log, "Truncating log to get in sync with the leader"; "to" => %to);
                self.store.truncate(to)?;
                let tree = if reload { Some(Box::new(self.store.reload()?)) } else { None };
                self.done.push(LogDone::Truncated { tenure, zxid: to, tree });
            }
            LogOrder::Reset { tenure, zxid } => {
                self.store.reset(zxid)?;
                self.done.push(LogDone::Reset { tenure, zxid });
            }
            LogOrder::LookAtRoom => self.look_at_room()?,
            LogOrder::Distrust => self.store.distrust()?,
            LogOrder::Trust => {
                self.store.trust()?;
                self.done.push(LogDone::Trusted);
            }
            LogOrder::Drain => self.done.push(LogDone::Drained),
            LogOrder::RollAndSnapshot(mut order) => {
                self.store.roll()?;
                // Who waits for the older one gets the newer one.
                order.asked.extend(self.snapshot.take().into_iter().flat_map(|older| older.asked));
                self.snapshot = Some(order);
            }
        }
        Ok(())
    }

    fn append(&mut self, tenure: Tenure, entries: &[Arc<Entry>]) -> Result<(), Fault> {
        if self.unsynced.is_some_and(|(earlier, _, _)| earlier != tenure) {
            self.sync()?;
        }
        let Some(last) = entries.last() else { return Ok(()) };
        self.store.append(entries)?;
        self.unmeasured += entries.iter().map(|entry| entry.bytes.len()).sum::<usize>();
        let count = self.unsynced.map_or(0, |(_, _, count)| count) + entries.len() as u64;
        self.unsynced = Some((tenure, last.zxid(), count));
        Ok(())
    }

    #[allow(clippy::disallowed_methods)] // measures the disk; nothing is decided by it
    fn sync(&mut self) -> Result<(), Fault> {
        let Some((tenure, zxid, count)) = self.unsynced.take() else { return Ok(()) };
        let began = Instant::now();
        self.store.sync()?;
        let took = began.elapsed();
        self.stats.fsynctime_us.observe(took.as_micros() as u64);
        self.stats.sync_batch_size.observe(count);
        if took > SLOW_SYNC {
            warn!(
                self.log,
                "fsync-ing the write ahead log took {} ms which will adversely effect operation \
                latency; look for a slow or busy disk",
                took.as_millis()
            );
        }
        self.done.push(LogDone::Synced { tenure, zxid });
        Ok(())
    }

    fn look_at_room(&mut self) -> Result<(), Fault> {
        self.unmeasured = 0;
        let Room { free, low } = self.store.room()?;
        self.stats.disk_free.set(i64::try_from(free).unwrap_or(i64::MAX));
        if low != self.low {
            match low {
                true => {
                    warn!(self.log, "the disk is nearly full: make room on it, or lower storage.min_free"; "free" => free)
                }
                false => info!(self.log, "there is room on the disk again"; "free" => free),
            }
            self.low = low;
            self.stats.disk_low.set(i64::from(low));
            self.done.push(LogDone::Room { low });
        }
        Ok(())
    }

    fn fail(&mut self, fault: &Fault, ctx: &mut Context<TxnLog>) {
        crit!(self.log, "Severe unrecoverable error: {}", fault);
        self.failed = true;
        self.done.clear();
        (self.on_fault)(fault);
        ctx.terminate();
    }

    fn report(&mut self) {
        for done in self.done.drain(..) {
            self.node.do_send(done);
        }
        if let Some(order) = self.snapshot.take() {
            self.snapshotter.do_send(SnapOrder::Save(order));
        }
    }
}

impl Actor for TxnLog {
    type Context = Context<TxnLog>;

    fn started(&mut self, ctx: &mut Self::Context) {
        work_in_turns(ctx);
    }
}

impl Handler<LogOrder> for TxnLog {
    type Result = ();

    fn handle(&mut self, order: LogOrder, ctx: &mut Self::Context) {
        if self.failed {
            return;
        }
        self.meter.message();
        if let Err(fault) = self.carry_out(order) {
            self.fail(&fault, ctx);
        }
    }
}

impl Turns for TxnLog {
    fn end_of_turn(&mut self, ctx: &mut Self::Context) {
        if self.failed {
            return;
        }
        let looked = if self.unmeasured >= LOOK_EVERY { self.look_at_room() } else { Ok(()) };
        if let Err(fault) = looked.and_then(|()| self.sync()) {
            return self.fail(&fault, ctx);
        }
        after_stall(self.store.stall(), self, ctx, TxnLog::report);
        self.meter.end_of_turn();
    }
}

impl Handler<Halt> for TxnLog {
    type Result = ();

    fn handle(&mut self, _: Halt, ctx: &mut Self::Context) {
        self.failed = true;
        ctx.terminate();
    }
}
