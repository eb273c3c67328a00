//! Broadcast: proposals, acknowledgements, commits, syncs.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::common::{Common, Heard};
use super::learners::{Kind, Stage};
use super::room::Room;
use super::syncs::{MAX_PENDING_SYNCS, Syncer, Syncs};
use super::{Effect, Input, State};
use crate::types::{Entry, Forwarded, ForwardedBytes, Packet, Phase, Sid, Tenure, Zxid};

/// From this counter on the leader gives up its epoch, so that the next one begins at 1 again. What is left
/// to the greatest counter, 16 million, cannot be used up in the half tick until that is noticed.
pub const ROLLOVER: u32 = u32::MAX - (1 << 24);

#[derive(Clone, Hash)]
pub(super) struct Broadcast {
    pub(super) common: Common,
    syncs: Syncs,
    room: Room,
}

impl From<Broadcast> for State {
    fn from(phase: Broadcast) -> State {
        State::Broadcast(phase)
    }
}

impl Broadcast {
    /// The leadership is established: everything in the log is committed by the quorum that took it over.
    pub(super) fn begin(mut common: Common, out: &mut Vec<Effect>) -> State {
        let epoch = common.epoch();
        assert_eq!(
            common.epochs.current, epoch,
            "the current epoch is durable before a leader is established"
        );
        assert!(common.history.last() < epoch.mark(), "nothing was proposed in this epoch before");
        common.apply(common.history.last(), out);
        let reason = "a quorum has taken over the history".to_owned();
        out.push(Effect::Phase { phase: Phase::Broadcast, epoch, reason });
        out.push(Effect::Serve { epoch });
        let mut phase = Broadcast { common, syncs: Syncs::default(), room: Room::default() };
        for sid in phase.common.learners.in_stage(|stage| stage == Stage::Acked) {
            phase.welcome(sid, out);
        }
        phase.into()
    }

    pub(super) fn pending_syncs(&self) -> usize {
        self.syncs.len()
    }

    pub(super) fn step(mut self, input: Input, out: &mut Vec<Effect>) -> State {
        match input {
            Input::Packet { now, from, tenure, packet } => {
                match self.common.receive(now, from, tenure, packet, out) {
                    Heard::Nothing => {}
                    // It is with this leader: perhaps that was a quorum's word.
                    Heard::Answer => self.release_syncs(out),
                    Heard::Arrived => {
                        if let Err(reason) = self.common.announce(out) {
                            return State::over(self.common, reason, out);
                        }
                    }
                    Heard::Packet(packet) => self.on_packet(from, tenure, packet, out),
                }
            }
            Input::LinkUp { peer } => self.common.on_link_up(peer),
            Input::LinkDown { peer } => self.common.on_link_down(peer, out),
            Input::Propose(entries) => self.propose(entries, out),
            Input::Sync => self.on_sync(Syncer::Own, out),
            Input::Synced { zxid } => {
                self.common.on_synced(zxid);
                self.commit(out);
                self.release_syncs(out);
            }
            Input::SnapshotMoves { to, tenure, pieces } => {
                self.common.learners.moves(self.common.now, to, tenure, pieces);
            }
            Input::SnapshotSent { to, tenure } => {
                self.common.learners.release(self.common.now, to, tenure, out);
            }
            Input::Revalidated { to, tenure, session, valid } => {
                // If the learner has left since, its client asks again elsewhere.
                if self.common.learners.get(to).is_some_and(|learner| learner.tenure == tenure) {
                    self.common.learners.send(to, Packet::Revalidated { session, valid }, out);
                }
            }
            Input::Tick { now } => {
                if let Err(reason) = self.common.on_tick(now, self.common.timing.tick_ms, out) {
                    return State::over(self.common, reason, out);
                }
                if self.common.history.last().counter() >= ROLLOVER {
                    return State::over(self.common, "the zxid counter is used up: a new epoch is due", out);
                }
                self.common.ping(out);
            }
            Input::DiskLow(low) => self.room.own(low),
            // One question for all syncs that came in this turn, unless a proposal behind them asks it.
            Input::EndOfTurn => {
                self.weigh_room(out);
                if self.syncs.wants_ping(&self.common) {
                    self.common.learners.ping_voters(&self.common.ensemble, out);
                }
            }
            // Late, from an older role: the epoch files are not changed in this phase.
            Input::EpochsSaved(_) => {}
        }
        self.into()
    }

    fn on_packet(&mut self, from: Sid, tenure: Tenure, packet: Packet, out: &mut Vec<Effect>) {
        let stage = self.common.learners.get(from).expect("its packet was just received").stage();
        match (packet, stage) {
            // A learner that came late has promised, or asks for a snapshot.
            (Packet::AckEpoch { last, current }, _) => {
                self.common.on_late_ack_epoch(from, last, current, true, out);
            }
            // A learner has taken over the history, or logged proposals.
            (Packet::Ack { zxid }, _) => self.on_ack(from, zxid, out),
            // Writes of a learner's clients.
            (Packet::Request(requests), Stage::InStep) => self.on_requests(from, requests, out),
            // A learner's client wants to see everything that is committed anywhere by now.
            (Packet::Sync, Stage::InStep) => self.on_sync(Syncer::Learner(from, tenure), out),
            // A client has moved to that learner.
            (Packet::Revalidate { session, timeout_ms }, Stage::InStep) => {
                out.push(Effect::Revalidate { from, tenure, session, timeout_ms });
            }
            // Its disk is nearly full, or has room again.
            (Packet::DiskLow { low }, Stage::InStep) => self.room.learner(from, tenure, low),
            // It breaks the protocol.
            (packet, stage) => {
                let reason = format!("{} of a learner that is {}", packet.name(), stage.name());
                self.common.learners.drop(from, &reason, out);
            }
        }
    }

    /// Tells everybody when writes must be refused, or may be taken again.
    fn weigh_room(&mut self, out: &mut Vec<Effect>) {
        let Some(refuse) = self.room.verdict(&self.common) else { return };
        for kind in [Kind::Follower, Kind::Observer] {
            self.common.learners.broadcast(kind, Packet::DiskLow { low: refuse }, out);
        }
        out.push(Effect::RefuseWrites(refuse));
    }

    fn on_ack(&mut self, from: Sid, zxid: Zxid, out: &mut Vec<Effect>) {
        let (mark, last, now) = (self.common.epoch().mark(), self.common.history.last(), self.common.now);
        let learner = self.common.learners.get_mut(from).expect("its packet was just received");
        match learner.stage() {
            // Now it is in step.
            Stage::Synchronizing { .. } if zxid == mark && !learner.is_held() => self.welcome(from, out),
            // Apache's learners acknowledge NEWLEADER twice.
            Stage::InStep if zxid == mark => {}
            // Everything up to there is durable at that learner.
            Stage::InStep if zxid > mark && zxid <= last && learner.kind == Kind::Follower => {
                learner.acknowledge(now, zxid, last);
                self.commit(out);
                self.release_syncs(out);
            }
            stage => {
                let reason =
                    format!("ACK {zxid} of a learner that is {}; the last proposal is {last}", stage.name());
                self.common.learners.drop(from, &reason, out);
            }
        }
    }

    /// A learner that has acknowledged NEWLEADER may serve.
    fn welcome(&mut self, sid: Sid, out: &mut Vec<Effect>) {
        let (now, last, mark) = (self.common.now, self.common.history.last(), self.common.epoch().mark());
        let committed = self.common.history.applied();
        let learner = self.common.learners.get_mut(sid).expect("only a learner that is there is welcomed");
        learner.enter(now, Stage::InStep);
        learner.acknowledge(now, mark, mark);
        learner.watch(now, last);
        self.common.learners.send(sid, Packet::UpToDate { committed }, out);
        if self.room.is_refusing() {
            self.common.learners.send(sid, Packet::DiskLow { low: true }, out);
        }
    }

    /// The replica's transactions: to the followers and to the own log at once.
    fn propose(&mut self, entries: Vec<Arc<Entry>>, out: &mut Vec<Effect>) {
        let epoch = self.common.epoch();
        for entry in &entries {
            let last = self.common.history.last().max(epoch.mark());
            assert_eq!(entry.zxid(), last.next(), "proposals have no holes");
            assert_eq!(entry.zxid().epoch(), epoch, "the counter must not run into the epoch");
            self.common.history.push(entry.clone());
            self.common.learners.broadcast(Kind::Follower, Packet::Proposal(entry.clone()), out);
        }
        self.common.learners.watch(self.common.now, self.common.history.last());
        if !entries.is_empty() {
            out.push(Effect::Append(entries));
        }
    }

    /// Commits what a quorum has logged. One COMMIT stands for all before it.
    fn commit(&mut self, out: &mut Vec<Effect>) {
        let Some(zxid) = self.newly_committed() else { return };
        let applied = self.common.history.applied();
        let fresh: Vec<_> =
            self.common.history.after(applied).take_while(|entry| entry.zxid() <= zxid).cloned().collect();
        self.common.learners.broadcast(Kind::Follower, Packet::Commit { zxid }, out);
        for entry in fresh {
            self.common.learners.broadcast(Kind::Observer, Packet::Inform(entry), out);
        }
        self.common.apply(zxid, out);
    }

    /// The greatest uncommitted zxid that a quorum holds. The leader itself need not be in that quorum: its
    /// own disk may be the slow one.
    fn newly_committed(&self) -> Option<Zxid> {
        let committed = self.common.history.applied();
        let learners = self.common.learners.iter();
        let voters = learners.filter(|(sid, learner)| learner.votes(*sid, &self.common.ensemble));
        let mut logged: Vec<(Zxid, Sid)> = voters
            .map(|(sid, learner)| (learner.acked, sid))
            .chain([(self.common.synced, self.common.ensemble.me)])
            .filter(|(zxid, _)| *zxid > committed.max(self.common.epoch().mark()))
            .collect();
        logged.sort_unstable_by(|a, b| b.cmp(a));
        let mut holders = BTreeSet::new();
        logged.into_iter().find_map(|(zxid, sid)| {
            holders.insert(sid);
            self.common.ensemble.contains_quorum(&holders).then_some(zxid)
        })
    }

    fn on_sync(&mut self, syncer: Syncer, out: &mut Vec<Effect>) {
        match syncer {
            Syncer::Learner(sid, _) if self.syncs.len() >= MAX_PENDING_SYNCS => {
                let reason = format!("more than {MAX_PENDING_SYNCS} syncs wait; ask for fewer");
                self.common.learners.drop(sid, &reason, out);
            }
            // The own replica has a limit of its own on requests.
            _ => self.syncs.push(syncer, &self.common),
        }
        self.release_syncs(out); // who is a quorum alone need not ask
    }

    fn release_syncs(&mut self, out: &mut Vec<Effect>) {
        while let Some(syncer) = self.syncs.pop_ready(&self.common) {
            self.sync_done(syncer, out);
        }
    }

    /// Everything that was committed anywhere before the sync came has been sent to the learner as committed.
    fn sync_done(&mut self, syncer: Syncer, out: &mut Vec<Effect>) {
        match syncer {
            Syncer::Own => out.push(Effect::SyncDone),
            Syncer::Learner(sid, tenure) => {
                if self.common.learners.get(sid).is_some_and(|learner| learner.tenure == tenure) {
                    self.common.learners.send(sid, Packet::Sync, out);
                }
            }
        }
    }

    fn on_requests(&mut self, from: Sid, requests: Vec<ForwardedBytes>, out: &mut Vec<Effect>) {
        match requests.into_iter().map(Forwarded::try_from).collect::<Result<Vec<_>, _>>() {
            Ok(requests) => out.push(Effect::Forwarded { from, requests }),
            Err(malformed) => self.common.learners.drop(from, &malformed.to_string(), out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::history::History;
    use crate::core::leader::{Start, Timing};
    use crate::core::quorum::Ensemble;
    use crate::types::{Epoch, Epochs, SessionId, Txn, TxnBody, TxnHeader};

    const EPOCH: Epoch = Epoch(2);

    /// The only server of its ensemble, in Broadcast, with its log at `counter`.
    fn broadcast(counter: u32) -> Broadcast {
        let start = Start {
            ensemble: Ensemble::majority(Sid(1), &[Sid(1)], &[]),
            history: History::new(Zxid::new(EPOCH, counter)),
            epochs: Epochs { accepted: EPOCH, current: EPOCH },
            timing: Timing { tick_ms: 100, init_limit_ms: 1_000, sync_limit_ms: 500 },
            linked: Default::default(),
            now: 0,
        };
        Broadcast { common: Common::new(start), syncs: Syncs::default(), room: Room::default() }
    }

    fn entry(counter: u32) -> Arc<Entry> {
        let zxid = Zxid::new(EPOCH, counter);
        let header = TxnHeader { session: SessionId::NONE, cxid: 0, zxid, time: 0 };
        Entry::new(Txn { header, body: TxnBody::Error(0), digest: None })
    }

    fn step(state: State, input: Input) -> (State, Vec<Effect>) {
        let State::Broadcast(phase) = state else { panic!("the leadership is over") };
        let mut out = Vec::new();
        let state = phase.step(input, &mut out);
        (state, out)
    }

    #[test]
    fn a_counter_that_is_used_up_ends_the_epoch() {
        let state = broadcast(ROLLOVER - 2).into();
        let (state, _) = step(state, Input::Propose(vec![entry(ROLLOVER - 1)]));
        let (state, _) = step(state, Input::Tick { now: 50 });
        let (state, _) = step(state, Input::Propose(vec![entry(ROLLOVER)]));
        let (state, out) = step(state, Input::Tick { now: 100 });
        assert!(matches!(&out[..], [Effect::StandDown { .. }]), "{out:?}");
        assert!(matches!(state, State::Over(_)));
    }

    #[test]
    #[should_panic(expected = "the counter must not run into the epoch")]
    fn a_counter_never_runs_into_the_epoch() {
        let after = Zxid::new(EPOCH, u32::MAX).next();
        let mut beyond = (*entry(1)).clone();
        beyond.txn.header.zxid = after;
        step(broadcast(u32::MAX).into(), Input::Propose(vec![Arc::new(beyond)]));
    }

    #[test]
    fn syncs_of_learners_are_bounded() {
        let mut phase = broadcast(7);
        let (sid, tenure) = (Sid(2), Tenure(1));
        assert!(phase.common.learners.admit(0, sid, tenure, Kind::Observer, EPOCH, &mut Vec::new()));
        let mut out = Vec::new();
        phase.propose(vec![entry(8)], &mut out);
        for _ in 0..MAX_PENDING_SYNCS {
            phase.on_sync(Syncer::Learner(sid, tenure), &mut out);
        }
        assert_eq!((phase.common.learners.count(), phase.pending_syncs()), (1, MAX_PENDING_SYNCS));
        phase.on_sync(Syncer::Learner(sid, tenure), &mut out);
        assert_eq!(phase.common.learners.count(), 0, "one too many");
        out.clear();
        phase.common.on_synced(Zxid::new(EPOCH, 8));
        phase.commit(&mut out);
        phase.release_syncs(&mut out);
        assert_eq!(phase.pending_syncs(), 0, "those of who has gone are forgotten");
    }
}
