//! The learner's core: what a follower and an observer do alike, and where they differ.

use std::sync::Arc;

use bytes::Bytes;

use crate::core::history::History;
use crate::core::leader::Timing;
use crate::types::{
    Entry, Epoch, Epochs, Forwarded, Membership, Millis, Packet, Phase, SessionId, Sid, Tenure, Zxid,
};

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
    /// Is there a connection to the leader right now? If not, LinkUp will say so.
    pub linked: bool,
    /// Now.
    pub now: Millis,
}

/// What a learner hears.
#[derive(Clone, Debug, PartialEq)]
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
    /// The leader's snapshot is durable and is the replica's tree now. `None`: its bytes made no sense.
    Installed { zxid: Option<Zxid> },
    /// Writes of the own clients.
    Forward(Vec<Forwarded>),
    /// An own client's sync.
    Sync,
    /// An own client wants to go on with its session.
    Revalidate { session: SessionId, timeout_ms: i32 },
    /// The sessions heard from, for the PING that asked.
    Touched { zxid: Zxid, sessions: Vec<(SessionId, i32)> },
    /// Time passes; at least every half tick.
    Tick { now: Millis },
}

/// What a learner wants done, in this order.
#[derive(Clone, Debug, PartialEq)]
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
    /// A piece of the leader's snapshot.
    Receive(Bytes),
    /// That was the last piece: verify, make durable, reset the log, give the tree to the replica.
    /// Answered by Installed.
    Install { zxid: Zxid },
    /// Apply.
    Commit(Vec<Arc<Entry>>),
    /// In step with the leader: the replica serves.
    Serve { epoch: Epoch, leader: Sid },
    /// The oldest own sync is done.
    SyncDone,
    /// The leader's word on a session.
    Revalidated { session: SessionId, valid: bool },
    /// A PING came: ask the session tracker for its touches; answered by Touched.
    CollectTouched { zxid: Zxid },
    /// A transition, for the log and the status.
    Phase { phase: Phase, epoch: Epoch, reason: String },
    /// The stay is over; the actor hands its history back and dies.
    StandDown { reason: String },
}
