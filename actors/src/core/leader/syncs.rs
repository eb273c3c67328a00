//! Syncs that wait: for the commit of everything proposed before them, and for the word of a quorum that this
//! leader still leads.
//!
//! The second is what makes a read behind a sync linearizable. A leader that has been deposed may not know it
//! yet, and everything it knows of may be committed; Apache's answers then (Jepsen's finding of 2019). Here
//! each sync notes what had been sent when it came. A follower's answer to anything sent later says that the
//! follower was still with this leader after the sync came, and with a quorum of such answers nobody else
//! can have been established before: that takes a quorum that has left.
//!
//! Two things are answered by followers anyway: a PROPOSAL, by its ACK, and a PING. So a sync with writes
//! right behind it costs no packet. For the others one PING is sent at the end of the leader's turn, however
//! many they are, and its answers come after one round trip.

use std::collections::{BTreeSet, VecDeque};

use super::common::Common;
use crate::core::mutant::{Mutant, mutated};
use crate::types::{Epoch, Sid, Tenure, Zxid};

/// Syncs that may wait, of all servers together; a learner that asks for more is dropped. Far more than all
/// the servers' limits on outstanding requests.
pub const MAX_PENDING_SYNCS: usize = 100_000;

/// Who asked for a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Syncer {
    Own,
    Learner(Sid, Tenure),
}

/// Those that wait, in the order in which they came.
#[derive(Clone, Default, Hash)]
pub(super) struct Syncs {
    waiting: VecDeque<Waiting>,
}

#[derive(Clone, Hash)]
struct Waiting {
    syncer: Syncer,
    /// The last proposal when it came, or the mark of the epoch: what must be committed, and what an ACK must
    /// be beyond to be an answer to something sent later.
    last: Zxid,
    /// The last PING sent when it came.
    pinged: u64,
}

impl Syncs {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// One more came.
    pub(super) fn push(&mut self, syncer: Syncer, common: &Common) {
        let last = common.history.last().max(common.epoch().mark());
        self.waiting.push_back(Waiting { syncer, last, pinged: common.learners.pings() });
    }

    /// A new epoch begins: what its learners acknowledge of it from now on is beyond its mark. They had taken it over
    /// before, and some of these may have come since then.
    pub(super) fn turn_to(&mut self, epoch: Epoch) {
        self.waiting.iter_mut().for_each(|waiting| waiting.last = epoch.mark());
    }

    /// The oldest one, if it waits for nothing more.
    pub(super) fn pop_ready(&mut self, common: &Common) -> Option<Syncer> {
        let committed = common.history.applied().max(common.epoch().mark());
        let front = self.waiting.front().filter(|it| it.last <= committed && it.is_confirmed(common))?;
        let syncer = front.syncer;
        self.waiting.pop_front();
        Some(syncer)
    }

    /// Is there one to which nothing sent so far can bring the quorum's word?
    pub(super) fn wants_ping(&self, common: &Common) -> bool {
        self.waiting.back().is_some_and(|newest| {
            newest.pinged == common.learners.pings() && newest.last >= common.history.last()
        })
    }
}

impl Waiting {
    /// Has a quorum said since this came that it is with this leader?
    fn is_confirmed(&self, common: &Common) -> bool {
        let voters = common.learners.iter().filter(|(sid, learner)| learner.votes(*sid, &common.ensemble));
        let since = voters.filter(|(_, learner)| learner.answered > self.pinged || learner.acked > self.last);
        let confirmed: BTreeSet<Sid> = since.map(|(sid, _)| sid).chain([common.ensemble.me]).collect();
        common.ensemble.contains_quorum(&confirmed) || mutated(Mutant::SyncAlone)
    }
}
