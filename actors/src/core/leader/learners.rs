//! The leader's side of each learner (Apache's LearnerHandler): what it has said, what it may say next, and
//! the packets that wait while its snapshot is on the way.

use std::collections::{BTreeMap, BTreeSet};

use super::Effect;
use crate::core::quorum::Ensemble;
use crate::types::{Epoch, Millis, Packet, Sid, Tenure, Zxid};

/// What may wait for one learner while its snapshot is streamed, in bytes. A learner that would need more
/// is too slow for this write rate, and is dropped rather than let the leader's memory grow.
pub const MAX_HELD_BYTES: usize = 64 << 20;
/// What a packet without data counts for, in bytes.
const PACKET_OVERHEAD: usize = 64;

/// A learner is one of two kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Gets PROPOSALs and COMMITs and acknowledges; whether that counts is the ensemble's say.
    Follower,
    /// Gets INFORMs.
    Observer,
}

/// How far a learner is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// FOLLOWERINFO is here; the epoch is not fixed yet, or not durable.
    Waiting,
    /// LEADERINFO is sent, ACKEPOCH is due.
    Promising,
    /// It has promised. Its plan is made when a quorum has.
    Promised { last: Zxid },
    /// The plan and NEWLEADER are sent, its ACK is due. `snap`: the plan is a SNAP, and the last word; anything
    /// else it may refuse.
    Synchronizing { snap: bool },
    /// It has taken over the history; the leader is not established yet.
    Acked,
    /// UPTODATE is sent.
    InStep,
}

impl Stage {
    /// For messages to operators.
    pub(super) fn name(self) -> &'static str {
        match self {
            Stage::Waiting => "waiting for LEADERINFO",
            Stage::Promising => "due to send ACKEPOCH",
            Stage::Promised { .. } => "waiting for its synchronization",
            Stage::Synchronizing { .. } => "due to acknowledge NEWLEADER",
            Stage::Acked => "waiting for UPTODATE",
            Stage::InStep => "in step",
        }
    }

    /// Does it get every packet of the broadcast?
    fn is_forwarding(self) -> bool {
        matches!(self, Stage::Synchronizing { .. } | Stage::Acked | Stage::InStep)
    }
}

/// Packets that wait for SnapshotSent.
#[derive(Clone, Default, Hash)]
struct Held {
    packets: Vec<Packet>,
    bytes: usize,
    /// Pieces that are sent and not on its disk. Its word of one may come before ours.
    in_flight: i64,
}

/// One learner's stay.
#[derive(Clone, Hash)]
pub(super) struct Learner {
    pub(super) tenure: Tenure,
    pub(super) kind: Kind,
    /// The newest epoch it had promised when it came.
    pub(super) accepted: Epoch,
    stage: Stage,
    /// When it entered the stage.
    since: Millis,
    /// When it was last heard from.
    heard: Millis,
    /// What it has acknowledged of this epoch.
    pub(super) acked: Zxid,
    /// The last PING it has answered.
    pub(super) answered: u64,
    /// A proposal it has not acknowledged, and when that was sent. One at a time is watched: a stuck
    /// learner is found after twice the limit at the latest.
    watched: Option<(Zxid, Millis)>,
    held: Option<Held>,
}

/// All learners.
#[derive(Clone, Hash)]
pub(super) struct Learners {
    me: Sid,
    all: BTreeMap<Sid, Learner>,
    /// The number of the last PING.
    pings: u64,
}

impl Learners {
    pub(super) fn new(me: Sid) -> Learners {
        Learners { me, all: BTreeMap::new(), pings: 0 }
    }

    /// A learner has come. An older stay of the same server is over by that. False: this is an older one.
    pub(super) fn admit(
        &mut self,
        now: Millis,
        from: Sid,
        tenure: Tenure,
        kind: Kind,
        accepted: Epoch,
        out: &mut Vec<Effect>,
    ) -> bool {
        if self.all.get(&from).is_some_and(|old| old.tenure >= tenure) {
            return false;
        }
        let learner = Learner {
            tenure,
            kind,
            accepted,
            stage: Stage::Waiting,
            since: now,
            heard: now,
            acked: Zxid::ZERO,
            answered: 0,
            watched: None,
            held: None,
        };
        self.remove(from, out);
        self.all.insert(from, learner);
        true
    }

    /// The learner of this very stay. It was heard from.
    pub(super) fn hear(&mut self, now: Millis, from: Sid, tenure: Tenure) -> Option<&mut Learner> {
        let learner = self.all.get_mut(&from).filter(|learner| learner.tenure == tenure)?;
        learner.heard = now;
        Some(learner)
    }

    pub(super) fn get(&self, sid: Sid) -> Option<&Learner> {
        self.all.get(&sid)
    }

    pub(super) fn get_mut(&mut self, sid: Sid) -> Option<&mut Learner> {
        self.all.get_mut(&sid)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Sid, &Learner)> {
        self.all.iter().map(|(sid, learner)| (*sid, learner))
    }

    /// Those in a stage, for a loop that changes them.
    pub(super) fn in_stage(&self, stage: impl Fn(Stage) -> bool) -> Vec<Sid> {
        self.iter().filter(|(_, learner)| stage(learner.stage)).map(|(sid, _)| sid).collect()
    }

    /// It is gone by itself.
    pub(super) fn forget(&mut self, sid: Sid, out: &mut Vec<Effect>) {
        self.remove(sid, out);
    }

    /// Its stay is over, and with it what is under way to it.
    fn remove(&mut self, sid: Sid, out: &mut Vec<Effect>) -> Option<Learner> {
        let learner = self.all.remove(&sid)?;
        if learner.is_held() {
            out.push(Effect::StopSnapshot { to: sid, tenure: learner.tenure });
        }
        Some(learner)
    }

    /// It is told to go.
    pub(super) fn drop(&mut self, sid: Sid, reason: &str, out: &mut Vec<Effect>) {
        if let Some(learner) = self.remove(sid, out) {
            goodbye(sid, learner.tenure, reason, out);
            out.push(Effect::Note(format!("learner {sid} is dropped: {reason}")));
        }
    }

    /// The leadership is over.
    pub(super) fn dismiss_all(&mut self, reason: &str, out: &mut Vec<Effect>) {
        let to: Vec<_> = self.iter().map(|(sid, learner)| (sid, learner.tenure)).collect();
        if !to.is_empty() {
            let packet = Packet::Goodbye { reason: reason.to_owned() };
            out.push(Effect::Send { to: to.clone(), packet });
        }
        for (sid, _) in to {
            self.remove(sid, out);
        }
    }

    /// One packet for one learner.
    pub(super) fn send(&mut self, to: Sid, packet: Packet, out: &mut Vec<Effect>) {
        self.multicast(|sid, _| sid == to, packet, out);
    }

    /// One packet for the followers, or the observers, that are part of the broadcast.
    pub(super) fn broadcast(&mut self, kind: Kind, packet: Packet, out: &mut Vec<Effect>) {
        self.multicast(|_, learner| learner.kind == kind && learner.stage.is_forwarding(), packet, out);
    }

    /// PING for everybody who is part of the broadcast, but for those whose snapshot is on its way: that
    /// is a sign of life by itself.
    pub(super) fn ping_all(&mut self, out: &mut Vec<Effect>) {
        self.ping(|_, _| true, out);
    }

    /// PING for those of them whose word counts.
    pub(super) fn ping_voters(&mut self, ensemble: &Ensemble, out: &mut Vec<Effect>) {
        self.ping(|sid, learner| learner.votes(sid, ensemble), out);
    }

    fn ping(&mut self, whom: impl Fn(Sid, &Learner) -> bool, out: &mut Vec<Effect>) {
        self.pings += 1;
        let packet = Packet::Ping { number: self.pings, touched: Vec::new() };
        let pinged = |sid, learner: &Learner| {
            learner.stage.is_forwarding() && learner.held.is_none() && whom(sid, learner)
        };
        self.multicast(pinged, packet, out);
    }

    /// The number of the last PING.
    pub(super) fn pings(&self) -> u64 {
        self.pings
    }

    /// A PING comes back.
    pub(super) fn answered(&mut self, sid: Sid, number: u64, out: &mut Vec<Effect>) {
        if number > self.pings {
            let reason = format!("it answers PING {number}, and {} was the last", self.pings);
            return self.drop(sid, &reason, out);
        }
        if let Some(learner) = self.all.get_mut(&sid) {
            learner.answered = learner.answered.max(number);
        }
    }

    fn multicast(&mut self, whom: impl Fn(Sid, &Learner) -> bool, packet: Packet, out: &mut Vec<Effect>) {
        let mut to = Vec::new();
        let mut swamped = Vec::new();
        for (sid, learner) in self.all.iter_mut() {
            if !whom(*sid, learner) {
                continue;
            }
            match &mut learner.held {
                None => to.push((*sid, learner.tenure)),
                Some(held) => {
                    if !held.push(&packet) {
                        swamped.push(*sid);
                    }
                }
            }
        }
        if !to.is_empty() {
            out.push(Effect::Send { to, packet });
        }
        for sid in swamped {
            let reason = format!(
                "more than {MAX_HELD_BYTES} bytes of proposals while its snapshot was sent; it can try again \
                 when there are fewer writes"
            );
            self.drop(sid, &reason, out);
        }
    }

    /// From here on its packets wait for the snapshot.
    pub(super) fn hold(&mut self, sid: Sid) {
        if let Some(learner) = self.all.get_mut(&sid) {
            assert!(learner.held.is_none(), "one snapshot at a time is sent to {sid}");
            learner.held = Some(Held::default());
        }
    }

    /// More pieces of its snapshot are on their way. Only while it owes a word for one is it to hurry.
    pub(super) fn moves(&mut self, now: Millis, sid: Sid, tenure: Tenure, pieces: u32) {
        let Some(learner) = self.all.get_mut(&sid).filter(|learner| learner.tenure == tenure) else {
            return; // it went meanwhile
        };
        let Some(held) = &mut learner.held else { return };
        if held.in_flight <= 0 {
            learner.heard = now;
        }
        held.in_flight += i64::from(pieces);
    }

    /// It has taken pieces of its snapshot. False: it has been sent as a whole before.
    pub(super) fn taken(&mut self, sid: Sid, pieces: u32) -> bool {
        let held = self.all.get_mut(&sid).and_then(|learner| learner.held.as_mut());
        held.is_some_and(|held| {
            held.in_flight -= i64::from(pieces);
            true
        })
    }

    /// Its snapshot is on its way, all of it: what has waited follows.
    pub(super) fn release(&mut self, now: Millis, sid: Sid, tenure: Tenure, out: &mut Vec<Effect>) {
        let Some(learner) = self.all.get_mut(&sid).filter(|learner| learner.tenure == tenure) else {
            return; // it went while the snapshot was sent
        };
        let Some(held) = learner.held.take() else { return };
        // Only now does its time for the ACK begin.
        (learner.since, learner.heard) = (now, now);
        let to = vec![(sid, tenure)];
        for packet in held.packets {
            out.push(Effect::Send { to: to.clone(), packet });
        }
    }

    /// A proposal has been sent to all followers.
    pub(super) fn watch(&mut self, now: Millis, zxid: Zxid) {
        self.all.values_mut().for_each(|learner| learner.watch(now, zxid));
    }

    /// Who is silent for too long, or has not logged a proposal in time, is dropped.
    pub(super) fn drop_overdue(&mut self, now: Millis, timing: &super::Timing, out: &mut Vec<Effect>) {
        let overdue: Vec<(Sid, String)> =
            self.iter().filter_map(|(sid, learner)| Some((sid, learner.overdue(now, timing)?))).collect();
        for (sid, reason) in overdue {
            self.drop(sid, &reason, out);
        }
    }

    /// The voters that are connected, and the leader.
    pub(super) fn connected(&self, ensemble: &Ensemble) -> BTreeSet<Sid> {
        let voters = self.iter().filter(|(sid, learner)| learner.votes(*sid, ensemble));
        voters.map(|(sid, _)| sid).chain([self.me]).collect()
    }

    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    pub(super) fn followers_in_step(&self) -> usize {
        self.in_step(Kind::Follower)
    }

    pub(super) fn observers_in_step(&self) -> usize {
        self.in_step(Kind::Observer)
    }

    fn in_step(&self, kind: Kind) -> usize {
        self.all.values().filter(|learner| learner.kind == kind && learner.stage == Stage::InStep).count()
    }
}

impl Learner {
    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    /// The next stage begins.
    pub(super) fn enter(&mut self, now: Millis, stage: Stage) {
        (self.stage, self.since, self.heard) = (stage, now, now);
    }

    /// Does its word count?
    pub(super) fn votes(&self, sid: Sid, ensemble: &Ensemble) -> bool {
        self.kind == Kind::Follower && ensemble.is_voter(sid)
    }

    /// Its snapshot is being sent.
    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// Everything up to the proposal `zxid` is sent to it: if it is in step, its ACK is due within
    /// sync_limit.
    pub(super) fn watch(&mut self, now: Millis, zxid: Zxid) {
        let due = self.kind == Kind::Follower && self.stage == Stage::InStep && self.acked < zxid;
        if due && self.watched.is_none() {
            self.watched = Some((zxid, now));
        }
    }

    /// Everything up to `zxid` is durable there; `last` is the last proposal.
    pub(super) fn acknowledge(&mut self, now: Millis, zxid: Zxid, last: Zxid) {
        self.acked = self.acked.max(zxid);
        if self.watched.is_some_and(|(watched, _)| watched <= self.acked) {
            self.watched = (self.acked < last).then_some((last, now));
        }
    }

    fn overdue(&self, now: Millis, timing: &super::Timing) -> Option<String> {
        let since = |then: Millis| now.saturating_sub(then);
        match self.stage {
            // These wait for the leader.
            Stage::Waiting | Stage::Promised { .. } => None,
            Stage::Synchronizing { .. } if let Some(held) = &self.held => {
                (held.in_flight > 0 && since(self.heard) > timing.init_limit_ms).then(|| {
                    format!(
                        "no piece of its snapshot was taken within init_limit ({} ms)",
                        timing.init_limit_ms
                    )
                })
            }
            Stage::Promising | Stage::Synchronizing { .. } => (since(self.since) > timing.init_limit_ms)
                .then(|| format!("no answer within init_limit ({} ms)", timing.init_limit_ms)),
            Stage::Acked | Stage::InStep if since(self.heard) > timing.sync_limit_ms => {
                Some(format!("silent for more than sync_limit ({} ms)", timing.sync_limit_ms))
            }
            Stage::Acked | Stage::InStep => {
                let (zxid, sent) = self.watched?;
                (since(sent) > timing.sync_limit_ms).then(|| {
                    format!(
                        "proposal {zxid} not acknowledged within sync_limit ({} ms)",
                        timing.sync_limit_ms
                    )
                })
            }
        }
    }
}

impl Held {
    /// False: there is no room for it.
    fn push(&mut self, packet: &Packet) -> bool {
        self.bytes += PACKET_OVERHEAD
            + match packet {
                Packet::Proposal(entry) | Packet::Inform(entry) => entry.bytes.len(),
                _ => 0,
            };
        if self.bytes > MAX_HELD_BYTES {
            return false;
        }
        self.packets.push(packet.clone());
        true
    }
}

/// This stay is over, or has never begun.
pub(super) fn goodbye(to: Sid, tenure: Tenure, reason: &str, out: &mut Vec<Effect>) {
    out.push(Effect::Send { to: vec![(to, tenure)], packet: Packet::Goodbye { reason: reason.to_owned() } });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::types::{Entry, SessionId, Txn, TxnBody, TxnHeader};

    fn large_proposal(bytes: usize) -> Packet {
        let header = TxnHeader { session: SessionId::NONE, cxid: 0, zxid: Zxid(1), time: 0 };
        let txn = Txn { header, body: TxnBody::Error(0), digest: None };
        Packet::Proposal(Arc::new(Entry { txn, bytes: Bytes::from(vec![0; bytes]), asked_at: None }))
    }

    #[test]
    fn a_learner_that_would_need_too_much_memory_is_dropped() {
        let (sid, tenure) = (Sid(2), Tenure(1));
        let mut learners = Learners::new(Sid(1));
        assert!(learners.admit(0, sid, tenure, Kind::Follower, Epoch(1), &mut Vec::new()));
        learners.get_mut(sid).unwrap().enter(0, Stage::Synchronizing { snap: true });
        learners.hold(sid);
        let (packet, mut out) = (large_proposal(1 << 20), Vec::new());
        for _ in 0..63 {
            learners.broadcast(Kind::Follower, packet.clone(), &mut out);
        }
        assert!(out.is_empty() && learners.count() == 1, "63 MiB may wait");
        learners.broadcast(Kind::Follower, packet.clone(), &mut out);
        assert_eq!(learners.count(), 0, "64 MiB and what the packets weigh themselves may not");
        let said = [&out[0], &out[1]];
        assert!(
            matches!(
                said,
                [Effect::StopSnapshot { .. }, Effect::Send { packet: Packet::Goodbye { .. }, .. }]
            ),
            "{out:?}"
        );
        out.clear();
        learners.release(0, sid, tenure, &mut out);
        assert!(out.is_empty(), "its snapshot was sent for nothing");
    }
}
