//! Fast leader election: the participants agree on the one with the newest history.

use crate::types::{Epoch, Millis, Notification, ServerState, Sid, Vote, Zxid};

/// What the election hears.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// This server is LOOKING: a new round begins with its own candidacy.
    Look { now: Millis, last: Zxid, current: Epoch },
    /// This server has a role; questions are answered with this vote from now on. Sent when the role
    /// begins and again with the new epoch when it serves.
    Settled { state: ServerState, epoch: Epoch },
    /// A server's word.
    Notification { now: Millis, from: Sid, notification: Notification },
    /// A connection to this server is there: it may not have heard us.
    LinkUp { now: Millis, peer: Sid },
    /// It is gone: nobody waits for that server's vote.
    LinkDown { now: Millis, peer: Sid },
    /// Time passes; at least every 50 ms.
    Tick { now: Millis },
}

/// What the election wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Tell these servers.
    Notify { to: Vec<Sid>, notification: Notification },
    /// The round is decided. The election stays silent until it hears Settled or Look.
    Elected { leader: Sid, vote: Vote, round: u64, took_ms: Millis },
}
