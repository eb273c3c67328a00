//! What only the leader's replica is asked: writes and sessions of learners, the end of silent global sessions
//! (local ones end everywhere), and that of containers.
//!
//! These come by other actors, so they can be late: a replica that does not lead any more drops them. The
//! learners' links end with the leadership, and the sessions are judged anew by the next leader.

use super::{Effect, Incoming, Replica, Role};
use crate::types::{Entry, Epoch, Forwarded, Op, SessionId, Sid, Str, Tenure, WallMillis, Zxid};

impl Replica {
    /// Writes of a learner's clients: prepared in the order of the link, like the own ones.
    pub(super) fn forwarded(&mut self, now: WallMillis, from: Sid, requests: Vec<Forwarded>) {
        for write in requests {
            let session = write.session;
            self.propose(Incoming { now, from, write });
            // The learner's own touch table arrives later than its write, so the write counts as well.
            if let Role::Leader(preparer) = &mut self.role
                && preparer.is_open(&self.tree, session)
                && let Some(timeout_ms) = preparer.timeout_ms(&self.tree, session)
            {
                self.touches.touch(session, timeout_ms);
            }
        }
    }

    /// Gives a write its place in the order; when this epoch has no more, in the next one.
    pub(super) fn propose(&mut self, incoming: Incoming) {
        let Role::Leader(preparer) = &mut self.role else { return };
        if preparer.is_used_up() {
            return self.early.push_back(incoming);
        }
        let Incoming { now, from, write } = incoming;
        let txn = preparer.prepare(&self.tree, now, from, write);
        self.proposals.push(Entry::asked_at(from, txn));
    }

    /// A client goes on at a learner. If it may, that learner is the session's owner from now on, and a
    /// connection of it here ends at its next request.
    pub(super) fn revalidate(
        &mut self,
        from: Sid,
        tenure: Tenure,
        session: SessionId,
        timeout_ms: i32,
        out: &mut Vec<Effect>,
    ) {
        let Role::Leader(preparer) = &mut self.role else { return };
        let valid = preparer.attach(&self.tree, session, from, timeout_ms);
        if valid {
            self.touches.touch(session, timeout_ms);
        }
        let last = preparer.last();
        let valid = valid.then(|| self.asked_up_to(last));
        out.push(Effect::RevalidateAnswer { to: from, tenure, session, valid });
    }

    /// These were silent for their time-out, as far as the tracker had heard (batch `seen`). Whoever was
    /// heard from since then stays: the tracker has not heard of that yet.
    pub(super) fn expire(
        &mut self,
        now: WallMillis,
        sessions: Vec<SessionId>,
        seen: u64,
        out: &mut Vec<Effect>,
    ) {
        for session in sessions {
            if self.touches.is_later(session, seen) {
                continue;
            }
            if self.locals.contains(&session) {
                self.close_local(session, out);
            } else {
                self.expire_global(now, session);
            }
        }
    }

    /// A container or TTL node is over, or was when it was found. Nobody waits for an answer.
    pub(super) fn delete_container(&mut self, now: WallMillis, path: Str) {
        let Role::Leader(preparer) = &mut self.role else { return };
        if let Some(txn) = preparer.delete_container(&self.tree, now, path) {
            self.proposals.push(Entry::new(txn));
        }
    }

    fn expire_global(&mut self, now: WallMillis, session: SessionId) {
        let Role::Leader(preparer) = &mut self.role else { return };
        if !preparer.is_open(&self.tree, session) {
            return;
        }
        let (op, auth) = (Op::CloseSession, self.nobody.clone());
        self.order(now, Forwarded { session, local: false, cxid: 0, op, auth });
    }

    /// What clients have asked for until now has a zxid up to this, or will have: `last` is the last of all, and
    /// what waits for the next epoch, or for those after it, fills them in order.
    pub(super) fn asked_up_to(&self, last: Zxid) -> Zxid {
        let Some(behind) = (self.early.len() as u32).checked_sub(1) else { return last };
        let length = self.settings.rules.epoch_length.0.max(1);
        Zxid::new(Epoch(last.epoch().0 + 1 + behind / length), behind % length + 1)
    }

    /// The next epoch has begun: what has waited for it comes first. It may be more than that epoch holds. Whoever does
    /// not lead does nothing for it; nor does a leader whose tree has turned out to be wrong.
    pub(super) fn turn_to(&mut self, epoch: Epoch) {
        let Role::Leader(preparer) = &mut self.role else { return };
        assert_eq!(self.tree.zxid(), preparer.last(), "all of the last epoch is applied");
        preparer.turn_to(epoch);
        std::mem::take(&mut self.early).into_iter().for_each(|early| self.propose(early));
    }
}
