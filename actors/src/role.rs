//! What the role actors (Leader, Follower, Observer) have in common: where they speak to, how a phase is
//! told, and how a role ends.

use std::sync::Arc;

use actix::prelude::*;
use slog::{Logger, info, warn};

use crate::core::history::History;
use crate::ports::{PeerLinks, Witness};
use crate::replica::Replica;
use crate::session_tracker::SessionTracker;
use crate::stats::Stats;
use crate::turn::Monotonic;
use crate::txn_log::TxnLog;
use crate::types::{Epoch, Phase, ServerState, Tenure, Zxid};

/// To Node: a role has reached Broadcast.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Serving {
    /// Whose tenure.
    pub tenure: Tenure,
    /// In which epoch.
    pub epoch: Epoch,
}

/// To Node: a role is over, and its actor dead. The log's newest part goes back to where it came from.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RoleEnded {
    /// Whose tenure.
    pub tenure: Tenure,
    /// Not all of it may be durable yet: Node drains the log before it goes on.
    pub history: History,
    /// A leader's snapshot is being installed: when that is done it replaces the history.
    pub installing: bool,
    /// Why.
    pub reason: String,
}

/// Whom a role actor speaks to. The same for every tenure.
#[derive(Clone)]
pub struct Surroundings {
    /// The other servers.
    pub links: Arc<dyn PeerLinks>,
    /// The log.
    pub txn_log: Addr<TxnLog>,
    /// The tree.
    pub replica: Addr<Replica>,
    /// Touches.
    pub session_tracker: Addr<SessionTracker>,
    /// Told when a leadership is established.
    pub witness: Arc<dyn Witness>,
    /// Time.
    pub clock: Monotonic,
    /// Figures.
    pub stats: Arc<Stats>,
    /// The server's logger.
    pub log: Logger,
}

impl Surroundings {
    /// A transition: one info line, and the figures.
    pub(crate) fn tell_phase(
        &self,
        state: ServerState,
        phase: Phase,
        epoch: Epoch,
        zxid: Zxid,
        reason: &str,
    ) {
        info!(self.log, "Peer state changed: {} - {}", state, phase;
            "epoch" => %epoch, "zxid" => %zxid, "reason" => reason);
        self.stats.state.set(state as i64);
        self.stats.phase.set(phase as i64);
        self.stats.epoch.set(i64::from(epoch.0));
    }

    /// The end of a tenure, in the log.
    pub(crate) fn tell_end(&self, state: ServerState, reason: &str) {
        warn!(self.log, "no longer {}", state; "reason" => reason);
    }
}
