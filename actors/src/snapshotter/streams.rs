//! Snapshots on their way to learners and from a leader, a few pieces at a time.
//!
//! Each piece is made when there is room for it: at most [`SNAP_WINDOW`] are sent and not yet on the learner's disk.
//! So it takes little memory on both sides, and a learner that is slow, or stands still, costs this server nothing
//! but the frozen tree. Several learners are served side by side.
//!
//! Both sides tell how far they are every few seconds.

use std::time::Duration;

use slog::{info, warn};
use tokio::time::Instant;

use super::{SnapDone, Snapshotter};
use crate::core::tree::Tree;
use crate::ports::Pieces;
use crate::types::{Fault, Packet, SNAP_WINDOW, Sid, Tenure};

/// How often a snapshot on its way is told of.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// A snapshot on its way to a learner.
pub(super) struct Outgoing {
    learner: Tenure,
    pieces: Box<dyn Pieces>,
    /// Sent, and not on the learner's disk.
    in_flight: u32,
    progress: Progress,
}

/// A leader's snapshot as far as it has come.
pub(super) struct Incoming {
    tenure: Tenure,
    progress: Progress,
}

/// How far a snapshot is.
struct Progress {
    bytes: u64,
    /// 0: unknown.
    total: u64,
    began: Instant,
    told: Instant,
}

impl Progress {
    #[allow(clippy::disallowed_methods)] // tokio's clock, and only log lines depend on it
    fn begin(total: u64) -> Progress {
        let now = Instant::now();
        Progress { bytes: 0, total, began: now, told: now }
    }

    /// So many more bytes. True: it is time to tell of it.
    fn advance(&mut self, bytes: usize) -> bool {
        self.bytes += bytes as u64;
        let is_due = self.told.elapsed() >= TELL_EVERY;
        if is_due {
            self.told += self.told.elapsed();
        }
        is_due
    }

    /// What is there of what there will be, in percent.
    fn percent(&self) -> u64 {
        (self.bytes * 100).checked_div(self.total).unwrap_or_default().min(100)
    }
}

impl Snapshotter {
    pub(super) fn begin_stream(&mut self, to: Sid, learner: Tenure, tree: Box<Tree>) {
        let (zxid, znodes) = (tree.zxid(), tree.node_count());
        let pieces = self.store.pieces(tree);
        let total = pieces.total();
        info!(self.log, "Sending snapshot"; "to" => %to, "zxid" => %zxid, "znodes" => znodes, "bytes" => total);
        self.links.send(&[(to, learner)], &Packet::SnapSize { bytes: total });
        let outgoing = Outgoing { learner, pieces, in_flight: 0, progress: Progress::begin(total) };
        // An earlier stay of the same learner is over.
        self.outgoing.insert(to, outgoing);
        self.pump(to);
    }

    /// The learner has stored some: more may follow.
    pub(super) fn taken(&mut self, to: Sid, learner: Tenure, pieces: u32) {
        let Some(outgoing) = self.outgoing.get_mut(&to).filter(|it| it.learner == learner) else {
            return; // the last ones, or of a stay that is over
        };
        outgoing.in_flight = outgoing.in_flight.saturating_sub(pieces);
        self.pump(to);
    }

    /// Sends as many pieces as may be under way, and the end behind the last one.
    fn pump(&mut self, to: Sid) {
        let Some(Outgoing { learner, pieces, in_flight, progress }) = self.outgoing.get_mut(&to) else {
            return;
        };
        let (learner, before) = (*learner, *in_flight);
        let mut ended = false;
        while *in_flight < SNAP_WINDOW && !ended {
            let piece = pieces.next().unwrap_or_default();
            ended = piece.is_empty();
            *in_flight += u32::from(!ended);
            if progress.advance(piece.len()) {
                info!(self.log, "sending a snapshot"; "to" => %to, "bytes" => progress.bytes,
                    "of" => progress.total, "percent" => progress.percent());
            }
            self.links.send(&[(to, learner)], &Packet::SnapChunk(piece));
        }
        let pieces = *in_flight - before;
        if pieces > 0 {
            self.done.push(SnapDone::Sent { to, learner, pieces });
        }
        if ended {
            let took = progress.began.elapsed().as_millis() as u64;
            info!(self.log, "Sent snapshot"; "to" => %to, "bytes" => progress.bytes, "took ms" => took);
            self.outgoing.remove(&to);
            self.done.push(SnapDone::Streamed { to, learner });
        }
    }

    /// Nobody waits for it any more.
    pub(super) fn stop_stream(&mut self, to: Sid, learner: Tenure) {
        if self.outgoing.get(&to).is_some_and(|it| it.learner == learner)
            && let Some(Outgoing { progress, .. }) = self.outgoing.remove(&to)
        {
            warn!(self.log, "stopped sending a snapshot: the learner is gone, or this server leads no more";
                "to" => %to, "bytes" => progress.bytes, "percent" => progress.percent());
        }
    }

    pub(super) fn expect(&mut self, tenure: Tenure, bytes: u64) {
        self.incoming_of(tenure).progress.total = bytes;
        info!(self.log, "Getting a snapshot from leader"; "bytes" => bytes);
    }

    pub(super) fn receive(&mut self, tenure: Tenure, piece: bytes::Bytes) -> Result<(), Fault> {
        let progress = &mut self.incoming_of(tenure).progress;
        let is_due = progress.advance(piece.len());
        let (bytes, total, percent) = (progress.bytes, progress.total, progress.percent());
        if is_due {
            info!(self.log, "receiving a snapshot"; "bytes" => bytes, "of" => total, "percent" => percent);
        }
        self.store.receive(piece)?;
        match self.done.last_mut() {
            Some(SnapDone::Received { tenure: last, pieces }) if *last == tenure => *pieces += 1,
            _ => self.done.push(SnapDone::Received { tenure, pieces: 1 }),
        }
        Ok(())
    }

    /// The one that this stay receives.
    fn incoming_of(&mut self, tenure: Tenure) -> &mut Incoming {
        if self.incoming.as_ref().is_none_or(|incoming| incoming.tenure != tenure) {
            // The leader of an earlier stay died in the middle of its snapshot.
            self.store.abandon();
            self.incoming = None;
        }
        self.incoming.get_or_insert_with(|| Incoming { tenure, progress: Progress::begin(0) })
    }
}
