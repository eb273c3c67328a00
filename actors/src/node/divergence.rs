//! What becomes of a tree that is not what the leader's transactions foretell.
//!
//! Every transaction says which digest the tree has after it. A tree that has another one is wrong, or the leader's is;
//! the log, which all agree on, is not in question. So the server keeps its log, its promises and its vote, and
//! gets another tree:
//!
//! - A learner notes durably that its tree is wrong, leaves its leader, and takes nothing from the next one but a SNAP.
//!   The note goes when that has replaced everything. A tree that is wrong again at once is not the disk's
//!   fault but this program's, and no further snapshot would help: the server stops.
//! - A leader's own tree cannot be right while the transactions it makes are not: the server stops, and another one
//!   takes over.
//! - A server with the note is a poor leader: those who follow it would take over its tree. So it sits out the first
//!   seconds of each election, and the others find a leader if they can. If they cannot do without it, its log may
//!   be the newest: then it stands, and may lead.

use actix::prelude::*;
use slog::{crit, info, warn};

use super::{Node, State};
use crate::core::replica::Divergence;
use crate::core::{election, learner};
use crate::txn_log::LogOrder;
use crate::types::{Fault, Millis, Zxid};

/// How long a server whose tree is wrong leaves an election to the others, in ms. Theirs takes a fraction of it.
const SIT_OUT_MS: Millis = 3_000;

/// A tree that is wrong within so many transactions after a snapshot has replaced a wrong one is wrong again at once.
const RELAPSE_TXNS: u64 = 1_000;

/// See the module's story.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// The tree is wrong: the disk has a note of it.
    distrusted: bool,
    /// Until then it leaves the election to the others.
    sits_out_until: Option<Millis>,
    /// The tree came in place of a wrong one.
    healed: bool,
}

impl Trust {
    /// What the disk has a note of.
    pub(super) fn recovered(&mut self, diverged: bool, now: Millis) {
        self.distrusted = diverged;
        self.sit_out(now);
    }

    /// Will only a SNAP do?
    pub(super) fn wants_snap(&self) -> bool {
        self.distrusted
    }

    /// Is this server a candidate? An election begins.
    pub(super) fn stands(&mut self, now: Millis) -> bool {
        self.sit_out(now);
        !self.distrusted
    }

    fn sit_out(&mut self, now: Millis) {
        self.sits_out_until = self.distrusted.then_some(now + SIT_OUT_MS);
    }
}

impl Node {
    /// The tree is wrong.
    pub(super) fn diverged(&mut self, divergence: Divergence, ctx: &mut Context<Node>) {
        let Divergence { zxid, expected, actual, applied } = divergence;
        if matches!(self.state, State::Leading { .. }) {
            let what = format!(
                "the tree of this leader is not what its own transactions make: after {zxid} its digest is \
                 {actual:#x}, not {expected:#x}; another server takes over. Look for faults of this machine's memory; \
                 started again, the server loads its tree from the disk and compares it again"
            );
            return self.give_up(&what, ctx);
        }
        if self.trust.healed && applied <= RELAPSE_TXNS {
            let what = format!(
                "the tree differs from the leader's again, {applied} transactions after a snapshot of the leader has \
                 replaced it: after {zxid} its digest is {actual:#x}, not {expected:#x}. Another snapshot would not help; \
                 look for faults of memory here and at the leader, and for servers of different versions"
            );
            return self.give_up(&what, ctx);
        }
        warn!(self.log, "resynchronizing: a fresh snapshot of the leader will replace this server's tree"; "zxid" => %zxid);
        self.trust.distrusted = true;
        self.actors.txn_log.do_send(LogOrder::Distrust);
        if let State::Learning { learner, .. } = &self.state {
            learner.tell(learner::Input::Diverged);
        }
    }

    fn give_up(&self, what: &str, ctx: &mut Context<Node>) {
        crit!(self.log, "Severe unrecoverable error: {}", what);
        (self.setup.on_fault)(&Fault(what.to_owned()));
        ctx.terminate();
    }

    /// A leader's snapshot has replaced everything.
    pub(super) fn healed(&mut self, zxid: Zxid) {
        self.trust.healed = std::mem::take(&mut self.trust.distrusted);
        if self.trust.healed {
            info!(self.log, "resynchronized: the tree is the leader's again"; "zxid" => %zxid);
        }
    }

    /// Elected although others were given the chance.
    pub(super) fn tell_if_distrusted(&self) {
        if self.trust.distrusted {
            warn!(
                self.log,
                "this server leads although its tree has once differed from a leader's: too few others are \
                there to do without its log. They will take over its tree; check what it holds"
            );
        }
    }

    /// The others had their time and have found no leader: perhaps they cannot without this server.
    pub(super) fn stand_again(&mut self, now: Millis) {
        let State::Looking { history, .. } = &self.state else { return };
        if self.trust.sits_out_until.is_some_and(|until| now >= until) {
            self.trust.sits_out_until = None;
            let (last, current, votes) = (history.last(), self.epochs.current, !self.doubtful);
            info!(self.log, "the others have found no leader: this server stands, too");
            self.actors.election.do_send(election::Input::Look { now, last, current, votes });
        }
    }
}
