//! Rollover: the counters of an epoch are used up, and the next epoch begins with the same leader.
//!
//! ```text
//!  everything proposed   save the promise,     a quorum has promised:     a quorum has adopted it:
//!  is committed and  ──▶ *then* LEADERINFO ──▶ save the current epoch, ──▶ UPTODATE; proposals
//!  durable               to who is in step     NEWLEADER                  from (epoch + 1, 1) on
//! ```
//!
//! Apache's leader stands down here, once every 2^32 writes, and its clients see an outage. There is no reason for
//! one: who leads is not in question. So these are Discovery and Synchronization once more, as the paper has them,
//! without the election before them: a quorum promises to follow no older epoch, and then says durably that the
//! history, which all of it has already, is that of the new epoch. Whatever stops the leader in the middle leaves
//! servers behind that an election compares as always.
//!
//! Reads, pings, syncs and moves of sessions go on meanwhile. Writes wait at the leader's replica, which knows by its
//! own count that the epoch is full.
//!
//! What holds:
//! - No proposal is on the way: the last one of the epoch is committed, and nothing is said before it is durable here.
//! - Who is in step has adopted the new epoch before its first proposal, or is dropped. The slow get a tick.
//! - Who comes in this time waits, and is told the new epoch. Who was on its way into step is sent away, and comes again.

use std::collections::BTreeSet;

use super::Effect;
use super::common::Common;
use super::learners::Stage;
use crate::types::{Epoch, Epochs, Millis, Packet, Sid, Zxid};

#[derive(Clone, Hash)]
pub(super) struct Rollover {
    /// The next epoch.
    epoch: Epoch,
    since: Millis,
    /// Who has promised it; the leader, too.
    promised: BTreeSet<Sid>,
    /// Who says durably that the history is of that epoch; the leader, too.
    adopted: BTreeSet<Sid>,
    /// NEWLEADER is sent to those who have promised.
    is_promised: bool,
}

impl Rollover {
    /// The epoch is used up, and all of it is committed and durable.
    pub(super) fn begin(common: &mut Common, out: &mut Vec<Effect>) -> Rollover {
        let (epoch, since) = (common.epoch().next(), common.now);
        let last = common.history.last();
        out.push(Effect::Note(format!("the zxid counter is used up at {last}: epoch {epoch} begins")));
        let on_the_way = |stage| !matches!(stage, Stage::InStep | Stage::Waiting);
        for sid in common.learners.in_stage(on_the_way) {
            common.learners.drop(sid, "a new epoch begins; come again for it", out);
        }
        common.save(Epochs { accepted: epoch, current: common.epochs.current }, out);
        let (promised, adopted) = Default::default();
        Rollover { epoch, since, promised, adopted, is_promised: false }
    }

    /// A promise, or a durable current epoch, of the leader's own.
    pub(super) fn on_epochs_saved(&mut self, common: &mut Common, out: &mut Vec<Effect>) {
        let me = common.ensemble.me;
        if common.epochs.accepted == self.epoch && self.promised.insert(me) {
            for sid in common.learners.in_stage(|stage| stage == Stage::InStep) {
                common.learners.send(sid, Packet::LeaderInfo { epoch: self.epoch }, out);
            }
        }
        if common.epochs.current == self.epoch {
            self.adopted.insert(me);
        }
    }

    /// A learner in step has promised. It has all that the leader has: that came by the same link before.
    pub(super) fn on_ack_epoch(
        &mut self,
        common: &mut Common,
        from: Sid,
        last: Zxid,
        current: Option<Epoch>,
        out: &mut Vec<Effect>,
    ) {
        let expected = (common.history.last(), Some(common.epoch()));
        let is_due = self.promised.contains(&common.ensemble.me) && !self.promised.contains(&from);
        if !is_due || (last, current) != expected {
            let reason =
                format!("ACKEPOCH out of turn: epoch {current:?}, last {last}, and not {expected:?}");
            return common.learners.drop(from, &reason, out);
        }
        self.promised.insert(from);
        if self.is_promised {
            common.learners.send(from, Packet::NewLeader { epoch: self.epoch }, out);
        }
    }

    /// Is this ACK that of NEWLEADER, which this learner was sent?
    pub(super) fn is_awaited(&self, from: Sid, zxid: Zxid) -> bool {
        zxid == self.epoch.mark() && self.is_promised && self.promised.contains(&from)
    }

    /// A learner in step has adopted the epoch.
    pub(super) fn on_ack(&mut self, from: Sid) {
        self.adopted.insert(from);
    }

    /// What follows from what has happened. True: the epoch is established, and everybody in step has adopted it.
    pub(super) fn advance(&mut self, common: &mut Common, out: &mut Vec<Effect>) -> Result<bool, String> {
        let me = common.ensemble.me;
        let in_step = common.learners.in_stage(|stage| stage == Stage::InStep);
        if !self.is_promised && self.promised.contains(&me) && common.ensemble.contains_quorum(&self.promised)
        {
            self.is_promised = true;
            common.save(Epochs { accepted: self.epoch, current: self.epoch }, out);
            for sid in in_step.iter().filter(|sid| self.promised.contains(sid)) {
                common.learners.send(*sid, Packet::NewLeader { epoch: self.epoch }, out);
            }
        }
        let waited = common.now.saturating_sub(self.since);
        if !self.adopted.contains(&me) || !common.ensemble.contains_quorum(&self.adopted) {
            return match waited > common.timing.init_limit_ms {
                true => Err(format!(
                    "no quorum has taken over epoch {} within init_limit ({} ms)",
                    self.epoch, common.timing.init_limit_ms
                )),
                false => Ok(false),
            };
        }
        let late: Vec<Sid> = in_step.into_iter().filter(|sid| !self.adopted.contains(sid)).collect();
        if !late.is_empty() && waited <= common.timing.tick_ms {
            return Ok(false);
        }
        for sid in late {
            let reason = format!("it has not taken over epoch {} within {waited} ms", self.epoch);
            common.learners.drop(sid, &reason, out);
        }
        common.turn_to(self.epoch);
        Ok(true)
    }
}
