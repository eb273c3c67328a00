//! Whether the ensemble has room for more: writes are refused before disks are full.
//!
//! A server whose disk is full stops. So as soon as the leader's disk is nearly full, or those of so many
//! followers that the others are no quorum, nothing is taken any more that makes the log longer for good: every
//! server refuses it at its door, and reads go on. When there is room again, so is everything else.
//!
//! A minority that is nearly full changes nothing: without it there is a quorum still.

use std::collections::BTreeMap;

use super::common::Common;
use super::learners::Stage;
use crate::types::{Sid, Tenure};

/// See the module's story.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Room {
    /// The leader's own disk is nearly full.
    own_low: bool,
    /// Those of these learners are, as of that stay.
    low: BTreeMap<Sid, Tenure>,
    /// What everybody was told last.
    refusing: bool,
}

impl Room {
    pub(super) fn own(&mut self, low: bool) {
        self.own_low = low;
    }

    pub(super) fn learner(&mut self, sid: Sid, tenure: Tenure, low: bool) {
        if low {
            self.low.insert(sid, tenure);
        } else {
            self.low.remove(&sid);
        }
    }

    /// What everybody was told last.
    pub(super) fn is_refusing(&self) -> bool {
        self.refusing
    }

    /// What everybody is to be told from now on, if it is something else.
    pub(super) fn verdict(&mut self, common: &Common) -> Option<bool> {
        // What a learner has said ends with its stay.
        self.low.retain(|sid, tenure| common.learners.get(*sid).is_some_and(|it| it.tenure == *tenure));
        let refusing = self.own_low || !self.low.is_empty() && !self.has_quorum(common);
        (std::mem::replace(&mut self.refusing, refusing) != refusing).then_some(refusing)
    }

    /// Are the voters with room a quorum?
    fn has_quorum(&self, common: &Common) -> bool {
        let ensemble = &common.ensemble;
        let in_step = common.learners.iter().filter(|(_, learner)| learner.stage() == Stage::InStep);
        let voters = in_step.filter(|(sid, learner)| learner.votes(*sid, ensemble)).map(|(sid, _)| sid);
        let roomy = voters.filter(|sid| !self.low.contains_key(sid)).chain([ensemble.me]);
        ensemble.contains_quorum(&roomy.collect())
    }
}
