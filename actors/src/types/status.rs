//! What a server is doing, for its log lines, its operators and its own brain.

use std::fmt;

use super::{Epoch, ServerState, Sid};

/// What a server is in its ensemble, by `cluster.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Membership {
    /// It votes.
    Participant,
    /// It follows the leader's word but never votes.
    Observer,
}

/// The ZAB phase. `Election` is phase 0 of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // ZAB's names
pub enum Phase {
    Election,
    Discovery,
    Synchronization,
    Broadcast,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Election => "election",
            Phase::Discovery => "discovery",
            Phase::Synchronization => "synchronization",
            Phase::Broadcast => "broadcast",
        })
    }
}

impl fmt::Display for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ServerState::Looking => "looking",
            ServerState::Following => "following",
            ServerState::Leading => "leading",
            ServerState::Observing => "observing",
        })
    }
}

/// How the replica may serve its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the fields are named for what they are
pub enum Service {
    /// No leader, or not yet in step with it: no clients.
    None,
    /// No leader for a while, and clients that ask for it may read what is here (Apache's read-only mode).
    ReadOnly,
    /// This server leads: it orders writes, beginning at `(epoch, 1)`.
    Leader(Epoch),
    /// It follows or observes `leader`: writes are forwarded.
    Learner { epoch: Epoch, leader: Sid },
}

/// The two epochs that a server keeps on disk. `current <= accepted` always, and neither goes down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epochs {
    /// The newest epoch promised: no older leader is followed.
    pub accepted: Epoch,
    /// The newest epoch whose leader's history is durable here.
    pub current: Epoch,
}
