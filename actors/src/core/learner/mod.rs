//! The learner's core: what a follower and an observer do alike, and where they differ.
//!
//! ```text
//!  Elected ──▶ Discovery ────────────────▶ Synchronization ──────────────────▶ Broadcast ────────▶ StandDown
//!              FOLLOWERINFO; LEADERINFO:   DIFF|TRUNC|SNAP and entries: log    log and ACK         from any
//!              save the promise, *then*    them; NEWLEADER: all durable,       PROPOSALs, apply    phase
//!              ACKEPOCH                    save the current epoch, *then* ACK  on COMMIT|INFORM
//! ```
//!
//! What holds:
//! - Each *then* is an answer of the disk. Nothing is promised or acknowledged before.
//! - The history is durable before the current epoch says so (ZOOKEEPER-4643), and both are before the ACK
//!   of NEWLEADER (ZOOKEEPER-2678, -3911, -4646, -4785). So for a while the log may hold entries of an epoch
//!   that is not current yet; it is never newer than the accepted one.
//! - Everything the leader sends before UPTODATE is logged, committed or not, since COMMITs of a leader that is
//!   not established prove nothing; the tree is touched at UPTODATE only. No proposal is acknowledged before
//!   NEWLEADER is (ZOOKEEPER-4685).
//! - What the leader says is checked before it is believed. A learner that cannot make sense of it stands down
//!   and comes back through an election: it neither stops the process nor damages its log.
//! - A leader whose epoch is used up takes its learners along into the next one (`rollover`).
//! - A server whose tree has turned out to differ from the leader's promises and votes as before, by its log, which
//!   is in order; but it takes nothing from its next leader but a SNAP.
//! - A server that may have forgotten what it has promised is an observer. That it is in step with a leader is not enough
//!   to end this: the leader may be deposed, by promises that this server has forgotten, and not know it yet. So first
//!   it asks for a sync of its own: the answer says that a quorum of the others was with this leader after it came.
//! - StandDown is the last effect. The history handed back holds what the disk will hold when it has done all
//!   it was told to, but for an installation that is under way.
//!
//! Deliberately absent: leaders from before ZooKeeper 3.4, observer masters, reconfiguration.

mod broadcast;
mod common;
mod discovery;
mod rollover;
mod synchronization;

use std::sync::Arc;

use bytes::Bytes;

use crate::core::history::History;
use crate::core::leader::Timing;
use crate::types::{
    Entry, Epoch, Epochs, Forwarded, Membership, Millis, Packet, Phase, SessionId, Sid, Tenure, Zxid,
};
use broadcast::Broadcast;
use common::Common;
use discovery::Discovery;
use synchronization::Synchronization;

/// What a learner begins with.
pub struct Start {
    /// The elected leader.
    pub leader: Sid,
    /// Follower or observer.
    pub membership: Membership,
    /// The number of this stay; greater than all before it on this server, restarts included.
    pub tenure: Tenure,
    /// The log's newest part; all of it is durable.
    pub history: History,
    /// The epoch files.
    pub epochs: Epochs,
    /// Ticks and limits.
    pub timing: Timing,
    /// The tree is not what the log makes of it: only a SNAP brings this server into step.
    pub resync: bool,
    /// Something may be missing that this server has promised or acknowledged. So it is an observer, until Trust.
    pub doubtful: bool,
    /// Is there a connection to the leader right now? If not, LinkUp will say so.
    pub linked: bool,
    /// Now.
    pub now: Millis,
}

/// What a learner hears.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the fields are named for what they are
pub enum Input {
    /// The leader's packet, of this tenure.
    Packet { now: Millis, packet: Packet },
    /// There is a connection to the leader.
    LinkUp { now: Millis },
    /// It is gone.
    LinkDown,
    /// The own log is durable up to here.
    Synced { zxid: Zxid },
    /// The epoch files hold this.
    EpochsSaved(Epochs),
    /// The log ends at `zxid` now, and so does the tree at the latest.
    Truncated { zxid: Zxid },
    /// So many more pieces of the leader's snapshot are on the disk.
    Stored { pieces: u32 },
    /// The leader's snapshot is durable and is the replica's tree now. `None`: its bytes made no sense.
    Installed { zxid: Option<Zxid> },
    /// Writes of the own clients.
    Forward(Vec<Forwarded>),
    /// An own client's sync.
    Sync,
    /// An own client wants to go on with its session.
    Revalidate { session: SessionId, timeout_ms: i32 },
    /// The sessions heard from, for the PING that asked.
    Touched { number: u64, sessions: Vec<(SessionId, i32)> },
    /// The own disk is nearly full, or has room again.
    DiskLow(bool),
    /// This server is no observer any more, if it was one for want of trust in its log: the stay ends, and the
    /// next one is a follower's.
    Rejoin,
    /// The tree differs from the leader's: the stay ends, and the next one begins with a SNAP.
    Diverged,
    /// Time passes; at least every half tick.
    Tick { now: Millis },
}

/// What a learner wants done, in this order.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the fields are named for what they are
pub enum Effect {
    /// A packet to the leader.
    Send(Packet),
    /// Write the epoch files; answered by EpochsSaved.
    SaveEpochs(Epochs),
    /// Append to the own log; answered by Synced.
    Append(Vec<Arc<Entry>>),
    /// Cut log and snapshots after `to`; if the tree is beyond it (`reload`), load it anew. Answered by
    /// Truncated.
    Truncate { to: Zxid, reload: bool },
    /// The leader's snapshot comes, in pieces of so many bytes altogether.
    Expect { bytes: u64 },
    /// A piece of the leader's snapshot; answered by Stored.
    Receive(Bytes),
    /// That was the last piece: verify, make durable, reset the log, give the tree to the replica.
    /// Answered by Installed.
    Install { zxid: Zxid },
    /// Apply.
    Commit(Vec<Arc<Entry>>),
    /// In step with the leader: the replica serves.
    Serve { epoch: Epoch, leader: Sid },
    /// In step with it in its next epoch.
    GoOn { epoch: Epoch },
    /// This server lacks nothing any more that others rely on: make a note of it.
    Trust,
    /// The oldest own sync is done.
    SyncDone,
    /// The leader's word on a session.
    Revalidated { session: SessionId, valid: Option<Zxid> },
    /// A PING came: ask the session tracker for its touches; answered by Touched.
    CollectTouched { number: u64 },
    /// The replica refuses writes that need room, or takes them again.
    RefuseWrites(bool),
    /// A transition, for the log and the status.
    Phase { phase: Phase, epoch: Epoch, reason: String },
    /// The stay is over; the actor hands its history back and dies.
    StandDown { reason: String },
}

/// One stay with a leader.
#[derive(Clone, Hash)]
pub struct Learner {
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

impl Learner {
    /// Begins a stay; what is to be done first is added to `out`.
    pub fn new(start: Start, out: &mut Vec<Effect>) -> Learner {
        assert!(start.epochs.current <= start.epochs.accepted, "epoch files contradict each other");
        Learner { state: Some(Discovery::begin(start, out)) }
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

    /// The phase; Election when the stay is over.
    pub fn phase(&self) -> Phase {
        match self.state() {
            State::Discovery(_) => Phase::Discovery,
            State::Synchronization(_) => Phase::Synchronization,
            State::Broadcast(_) => Phase::Broadcast,
            State::Over(_) => Phase::Election,
        }
    }

    /// The log's newest part, as it is now.
    pub fn history(&self) -> &History {
        match self.state() {
            State::Discovery(phase) => &phase.common.history,
            State::Synchronization(phase) => &phase.common.history,
            State::Broadcast(phase) => &phase.common.history,
            State::Over(common) => &common.history,
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

    fn state(&self) -> &State {
        self.state.as_ref().expect("steps do not nest")
    }
}

impl State {
    /// Nobody may be served from this tree. The leader is told at once, so that it does not count on this server.
    fn diverged(common: Common, out: &mut Vec<Effect>) -> State {
        State::over(common, "this server's tree differs from the leader's: it needs a snapshot", out)
    }

    /// This server is a participant, and stays here as an observer.
    fn rejoin(common: Common, out: &mut Vec<Effect>) -> State {
        State::over(common, "this server has a vote from now on", out)
    }

    /// The stay is over; the leader need not wait for its time-out.
    fn over(common: Common, reason: impl Into<String>, out: &mut Vec<Effect>) -> State {
        let reason = reason.into();
        if common.linked {
            out.push(Effect::Send(Packet::Goodbye { reason: reason.clone() }));
        }
        out.push(Effect::StandDown { reason });
        State::Over(common)
    }
}
