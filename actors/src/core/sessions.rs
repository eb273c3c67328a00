//! Which sessions are silent for too long: expiry in buckets on the leader, a touch table on learners.

use crate::types::{Millis, SessionId};

/// What the session tracker hears.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// This server leads from now on: every session gets its full time-out anew.
    Lead { now: Millis, sessions: Vec<(SessionId, i32)> },
    /// It does not: touches are only collected, for the leader.
    Learn,
    /// Sessions heard from, by own clients or (on the leader) by a learner's PING. `batch` grows by one.
    Touched { now: Millis, batch: u64, sessions: Vec<(SessionId, i32)> },
    /// A session is gone.
    Closed(SessionId),
    /// A PING came: hand over the touch table.
    TakeTouched,
    /// Time passes; at least every tick.
    Tick { now: Millis },
}

/// What it wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// These sessions are over. `seen` is the last touch batch known when that was decided: the replica
    /// keeps a session that was touched in a later one (I16: never earlier than its time-out).
    Expire { sessions: Vec<SessionId>, seen: u64 },
    /// The touch table.
    Touched(Vec<(SessionId, i32)>),
}
