//! The leader's core: Discovery, Synchronization, Broadcast.

use std::sync::Arc;

use crate::core::history::History;
use crate::core::quorum::Ensemble;
use crate::types::{Entry, Epoch, Epochs, Forwarded, Millis, Packet, Phase, SessionId, Sid, Tenure, Zxid};

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
    /// Now.
    pub now: Millis,
}

/// The limits of `[timing]` in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
pub enum Input {
    /// A learner's packet.
    Packet { now: Millis, from: Sid, tenure: Tenure, packet: Packet },
    /// The connection to a learner is gone.
    LinkDown { peer: Sid },
    /// The own replica has prepared these; zxids go on from the last one without a hole.
    Propose(Vec<Arc<Entry>>),
    /// A client of this server wants everything proposed so far to be committed first.
    Sync,
    /// The own log is durable up to here.
    Synced { zxid: Zxid },
    /// The epoch files hold this.
    EpochsSaved(Epochs),
    /// All pieces of the snapshot for this learner are on their way, behind all packets sent before.
    SnapshotSent { to: Sid, tenure: Tenure },
    /// The replica's word on a session that a learner asked about.
    Revalidated { to: Sid, tenure: Tenure, session: SessionId, valid: bool },
    /// Time passes; at least every half tick.
    Tick { now: Millis },
}

/// What the leader wants done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// One packet to several learners.
    Send { to: Vec<(Sid, Tenure)>, packet: Packet },
    /// Write the epoch files; answered by EpochsSaved.
    SaveEpochs(Epochs),
    /// Append to the own log; answered by Synced.
    Append(Vec<Arc<Entry>>),
    /// Stream the replica's tree, as it is after all Commit effects before this one, to a learner;
    /// answered by SnapshotSent. The tree is at `zxid`.
    SendSnapshot { to: Sid, tenure: Tenure, zxid: Zxid },
    /// A quorum has these: apply.
    Commit(Vec<Arc<Entry>>),
    /// The leadership is established: the replica serves, and prepares from `(epoch, 1)` on.
    Serve { epoch: Epoch },
    /// Writes of a learner's clients, for the replica.
    Forwarded { from: Sid, requests: Vec<Forwarded> },
    /// May this session go on at that learner?
    Revalidate { from: Sid, tenure: Tenure, session: SessionId, timeout_ms: i32 },
    /// Sessions a learner has heard from, with their time-outs.
    Touched(Vec<(SessionId, i32)>),
    /// The own client's sync, in order: everything proposed before it has been committed.
    SyncDone,
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
    /// Syncs waiting for a commit.
    pub pending_syncs: u64,
}
