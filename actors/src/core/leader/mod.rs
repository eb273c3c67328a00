//! The leader's core: Discovery, Synchronization, Broadcast.
//!
//! ```text
//!  Elected ──▶ Discovery ───────────────▶ Synchronization ────────────▶ Broadcast ─────────▶ StandDown
//!              a quorum is there:         DIFF|TRUNC|SNAP, NEWLEADER    UPTODATE,            from any phase:
//!              save the promise, *then*   to each that has promised;    propose, commit,     Goodbye to all
//!              LEADERINFO; a quorum has   a quorum has acknowledged     sync, ping
//!              promised                   NEWLEADER
//! ```
//!
//! The phase above is the leadership's. Each learner goes through the same three on its own (`learners`):
//! one that comes late is in Synchronization while the leader broadcasts.
//!
//! What holds:
//! - Nothing that rests on the disk is said before the disk has answered: LEADERINFO comes after the saved
//!   promise, the leader's own vote for NEWLEADER after the saved current epoch, its own ACK after Synced.
//! - A learner's plan, its place among those who get every later packet, and its NEWLEADER are fixed in one
//!   step; nothing can come between (ZOOKEEPER-3104).
//! - The first proposal of an epoch is `(epoch, 1)` and none is left out; commits go out in that order.
//! - A learner that breaks the protocol, or is silent, is told Goodbye and forgotten; the leadership goes on
//!   as long as the rest is a quorum. Before it is established it ends as soon as a quorum cannot even be
//!   spoken to: who elected it has died since, and the next election must not wait for them.
//! - StandDown is the last effect. The history handed back holds what the disk will hold when it has done all
//!   it was told to; whoever supervises the roles waits for that before the next one begins.
//!
//! - When an epoch's counters are used up the next one begins without an election (`rollover`).
//! - A sync is answered when a quorum has said since it came that it is with this leader (`syncs`).
//!
//! Deliberately absent: reconfiguration, and throttling of concurrent synchronizations.

mod broadcast;
mod common;
mod discovery;
mod learners;
mod rollover;
mod room;
mod synchronization;
mod syncs;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::core::history::History;
use crate::core::quorum::Ensemble;
use crate::types::{
    Entry, Epoch, EpochLength, Epochs, Forwarded, Millis, Packet, Phase, SessionId, Sid, Tenure, Zxid,
};
use broadcast::Broadcast;
use common::Common;
use discovery::Discovery;
use synchronization::Synchronization;

/// What a leader begins with.
pub struct Start {
    /// The ensemble.
    pub ensemble: Ensemble,
    /// The log's newest part; all of it is durable.
    pub history: History,
    /// The epoch files.
    pub epochs: Epochs,
    /// Ticks and limits.
    pub timing: Timing,
    /// Servers with a connection.
    pub linked: BTreeSet<Sid>,
    /// When an epoch has so many transactions, the next one begins.
    pub epoch_length: EpochLength,
    /// Now.
    pub now: Millis,
}

/// The limits of `[timing]` in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// The unit of the limits, and of session expiry.
    pub tick_ms: Millis,
    /// How long Discovery and Synchronization may take: init_limit ticks.
    pub init_limit_ms: Millis,
    /// How long a learner or a quorum may be silent: sync_limit ticks.
    pub sync_limit_ms: Millis,
}

/// What the leader hears.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the fields are named for what they are
pub enum Input {
    /// A learner's packet.
    Packet { now: Millis, from: Sid, tenure: Tenure, packet: Packet },
    /// There is a connection to another server.
    LinkUp { peer: Sid },
    /// It is gone, and with it the learner.
    LinkDown { peer: Sid },
    /// The own replica has prepared these; zxids go on from the last one without a hole.
    Propose(Vec<Arc<Entry>>),
    /// A client of this server wants to see everything that is committed anywhere by now.
    Sync,
    /// The own log is durable up to here.
    Synced { zxid: Zxid },
    /// The epoch files hold this.
    EpochsSaved(Epochs),
    /// So many more pieces of the snapshot for this learner are on their way; it owes an answer for each.
    SnapshotMoves { to: Sid, tenure: Tenure, pieces: u32 },
    /// All pieces of the snapshot for this learner are on their way, behind all packets sent before.
    SnapshotSent { to: Sid, tenure: Tenure },
    /// The replica's word on a session that a learner asked about.
    Revalidated { to: Sid, tenure: Tenure, session: SessionId, valid: Option<Zxid> },
    /// The own disk is nearly full, or has room again.
    DiskLow(bool),
    /// Time passes; at least every half tick.
    Tick { now: Millis },
    /// All that had come is dealt with: what was put together for one packet leaves.
    EndOfTurn,
}

/// What the leader wants done, in this order.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the fields are named for what they are
pub enum Effect {
    /// One packet to several learners.
    Send { to: Vec<(Sid, Tenure)>, packet: Packet },
    /// Write the epoch files; answered by EpochsSaved.
    SaveEpochs(Epochs),
    /// Append to the own log; answered by Synced.
    Append(Vec<Arc<Entry>>),
    /// Stream the replica's tree, as it is after all Commit effects before this one, to a learner, as
    /// SnapChunks with an empty one at the end; answered by SnapshotSent. The tree is at `zxid`.
    SendSnapshot { to: Sid, tenure: Tenure, zxid: Zxid },
    /// The learner has so many more pieces on its disk.
    SnapshotTaken { to: Sid, tenure: Tenure, pieces: u32 },
    /// The learner is gone in the middle of it, or the leadership is over.
    StopSnapshot { to: Sid, tenure: Tenure },
    /// Apply these. A quorum has them; but before Serve a leader may have to take its whole log into a tree
    /// that nobody is served from, so a tree must not be saved as a snapshot until Serve.
    Commit(Vec<Arc<Entry>>),
    /// The leadership is established: the replica serves, and prepares from `(epoch, 1)` on.
    Serve { epoch: Epoch },
    /// It goes on in its next epoch: the replica prepares from `(epoch, 1)` on.
    GoOn { epoch: Epoch },
    /// Writes of a learner's clients, for the replica.
    Forwarded { from: Sid, requests: Vec<Forwarded> },
    /// May this session go on at that learner?
    Revalidate { from: Sid, tenure: Tenure, session: SessionId, timeout_ms: i32 },
    /// Sessions a learner has heard from, with their time-outs.
    Touched(Vec<(SessionId, i32)>),
    /// The own client's sync, in order: everything committed anywhere before it came has been applied.
    SyncDone,
    /// The replica refuses writes that need room, or takes them again.
    RefuseWrites(bool),
    /// A transition, for the log and the status.
    Phase { phase: Phase, epoch: Epoch, reason: String },
    /// Something to tell the operator about a learner: came, refused, synchronized by what, dropped, why.
    Note(String),
    /// The leadership is over; the actor hands its history back and dies.
    StandDown { reason: String },
}

/// What an operator sees of a leadership.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Connected followers and observers.
    pub learners: u64,
    /// Followers in Broadcast.
    pub synced_followers: u64,
    /// Observers in Broadcast.
    pub synced_observers: u64,
    /// Proposals not yet committed.
    pub outstanding: u64,
    /// Syncs waiting for a commit, or for a quorum's word.
    pub pending_syncs: u64,
}

/// One leadership.
#[derive(Clone, Hash)]
pub struct Leader {
    /// `None` only while a step runs.
    state: Option<State>,
}

/// The phases. Each takes an input by value and says which phase comes after it.
#[derive(Clone, Hash)]
enum State {
    Discovery(Discovery),
    Synchronization(Synchronization),
    Broadcast(Broadcast),
    /// StandDown has been said.
    Over(Common),
}

impl Leader {
    /// Begins a leadership; what is to be done first is added to `out`.
    pub fn new(start: Start, out: &mut Vec<Effect>) -> Leader {
        assert!(start.epochs.current <= start.epochs.accepted, "epoch files contradict each other");
        assert!(start.ensemble.is_voter(start.ensemble.me), "only a participant can lead");
        Leader { state: Some(Discovery::begin(Common::new(start), out)) }
    }

    /// Takes an input; adds what is to be done.
    pub fn step(&mut self, input: Input, out: &mut Vec<Effect>) {
        let state = self.state.take().expect("steps do not nest");
        self.state = Some(match state {
            State::Discovery(phase) => phase.step(input, out),
            State::Synchronization(phase) => phase.step(input, out),
            State::Broadcast(phase) => phase.step(input, out),
            // Everything comes too late now.
            State::Over(common) => State::Over(common),
        });
    }

    /// The phase; Election when the leadership is over.
    pub fn phase(&self) -> Phase {
        match self.state() {
            State::Discovery(_) => Phase::Discovery,
            State::Synchronization(_) => Phase::Synchronization,
            State::Broadcast(_) => Phase::Broadcast,
            State::Over(_) => Phase::Election,
        }
    }

    /// The log's newest part, for the next role.
    pub fn into_history(self) -> History {
        match self.state.expect("steps do not nest") {
            State::Discovery(phase) => phase.common.history,
            State::Synchronization(phase) => phase.common.history,
            State::Broadcast(phase) => phase.common.history,
            State::Over(common) => common.history,
        }
    }

    /// The log's newest part, as it is now.
    pub fn history(&self) -> &History {
        &self.common().history
    }

    /// What an operator sees of it.
    pub fn gauges(&self) -> Gauges {
        let learners = &self.common().learners;
        let (outstanding, pending_syncs) = match self.state() {
            State::Broadcast(phase) => (phase.common.history.tail_len(), phase.pending_syncs()),
            _ => (0, 0),
        };
        Gauges {
            learners: learners.count() as u64,
            synced_followers: learners.followers_in_step() as u64,
            synced_observers: learners.observers_in_step() as u64,
            outstanding: outstanding as u64,
            pending_syncs: pending_syncs as u64,
        }
    }

    fn state(&self) -> &State {
        self.state.as_ref().expect("steps do not nest")
    }

    fn common(&self) -> &Common {
        match self.state() {
            State::Discovery(phase) => &phase.common,
            State::Synchronization(phase) => &phase.common,
            State::Broadcast(phase) => &phase.common,
            State::Over(common) => common,
        }
    }
}

impl State {
    /// The leadership is over: learners need not wait for their own time-out.
    fn over(mut common: Common, reason: impl Into<String>, out: &mut Vec<Effect>) -> State {
        let reason = reason.into();
        common.learners.dismiss_all(&reason, out);
        out.push(Effect::StandDown { reason });
        State::Over(common)
    }
}
