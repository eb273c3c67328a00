//! The replica's core: owns the tree, answers reads, prepares writes (leader) or forwards them (learner),
//! applies what is committed, and keeps each client's requests in order.

use std::sync::Arc;

use crate::core::tree::Tree;
use crate::core::watches::Outcome;
use crate::types::{
    ConnId, ConnectRequest, Entry, Forwarded, Request, Service, SessionId, Sid, Tenure, WallMillis,
};

/// What the replica hears.
#[derive(Debug)]
pub enum Input {
    /// A client's handshake. Its connection is already known to the watch manager. It sends nothing
    /// else until it is told Connected.
    Connect { conn: ConnId, request: ConnectRequest },
    /// Requests of clients, each client's in order. `now` dates the transactions made of them.
    Requests { now: WallMillis, requests: Vec<Request> },
    /// A connection is gone (by itself, or because of a Close).
    Disconnected(ConnId),
    /// Whether and how to serve. None closes all connections.
    Service(Service),
    /// Committed: apply, in zxid order.
    Commit(Vec<Arc<Entry>>),
    /// Leader: writes that came by a learner.
    Forwarded { now: WallMillis, from: Sid, requests: Vec<Forwarded> },
    /// Leader: may this session go on at that learner?
    Revalidate { from: Sid, tenure: Tenure, session: SessionId, timeout_ms: i32 },
    /// Learner: the leader's word on a session.
    Revalidated { session: SessionId, valid: bool },
    /// The oldest sync asked for is done.
    SyncDone,
    /// Leader: the session tracker's verdict (see [`crate::core::sessions::Effect::Expire`]).
    Expire { now: WallMillis, sessions: Vec<SessionId>, seen: u64 },
    /// Another tree: at start, after a SNAP, after a TRUNC below the old one.
    Install(Box<Tree>),
}

/// What the replica wants done, in this order.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// For the watch manager.
    Outcome(Outcome),
    /// Leader: propose these; zxids go on without a hole.
    Propose(Vec<Arc<Entry>>),
    /// Learner: these writes are for the leader.
    Forward(Vec<Forwarded>),
    /// Tell me when everything proposed so far is committed; answered by SyncDone, in order.
    Sync,
    /// Learner: ask the leader about a session; answered by Revalidated.
    Revalidate { session: SessionId, timeout_ms: i32 },
    /// These sessions were heard from; once a turn.
    Touched { batch: u64, sessions: Vec<(SessionId, i32)> },
    /// A session is gone.
    Closed(SessionId),
    /// This server leads: these are the sessions to track.
    Lead(Vec<(SessionId, i32)>),
    /// This server does not lead: collect touches.
    Learn,
}

/// What does not change while the process lives.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This server.
    pub me: Sid,
    /// Bounds of the negotiated session time-out.
    pub min_session_timeout_ms: i32,
    /// See above.
    pub max_session_timeout_ms: i32,
    /// Where session ids begin: see [`session_id_base`].
    pub first_session: SessionId,
}

/// The first session id of a process: the server in the top byte, the low 40 bits of the wall clock's
/// milliseconds, 16 zero bits to count in. (Apache takes a monotonic clock, which a reboot sets back.)
pub fn session_id_base(me: Sid, now: WallMillis) -> SessionId {
    let clock = ((now as u64) << 24) >> 8;
    SessionId((clock | (u64::from(me.0) << 56)) as i64)
}
