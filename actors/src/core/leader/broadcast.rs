//! Broadcast: proposals, acknowledgements, commits, syncs.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::common::{Common, Heard};
use super::learners::{Kind, Stage};
use super::rollover::Rollover;
use super::room::Room;
use super::syncs::{MAX_PENDING_SYNCS, Syncer, Syncs};
use super::{Effect, Input, State};
use crate::core::mutant::{Mutant, mutated};
use crate::types::{Entry, Forwarded, ForwardedBytes, Packet, Phase, Sid, Tenure, Zxid};

#[derive(Clone, Hash)]
pub(super) struct Broadcast {
    pub(super) common: Common,
    syncs: Syncs,
    room: Room,
    /// The next epoch is on its way.
    rollover: Option<Rollover>,
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
        let (syncs, room) = Default::default();
        let mut phase = Broadcast { common, syncs, room, rollover: None };
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
                    Heard::Arrived if self.rollover.is_some() => {}
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
            Input::EpochsSaved(epochs) => {
                self.common.on_epochs_saved(epochs);
                if let Some(rollover) = &mut self.rollover {
                    rollover.on_epochs_saved(&mut self.common, out);
                }
            }
        }
        match self.roll_over(out) {
            Ok(()) => self.into(),
            Err(reason) => State::over(self.common, reason, out),
        }
    }

    /// Moves on to the next epoch when this one has all the transactions it may have.
    fn roll_over(&mut self, out: &mut Vec<Effect>) -> Result<(), String> {
        if self.rollover.is_none() && self.is_used_up() {
            self.rollover = Some(Rollover::begin(&mut self.common, out));
        }
        let Some(rollover) = &mut self.rollover else { return Ok(()) };
        if !rollover.advance(&mut self.common, out)? {
            return Ok(());
        }
        self.rollover = None;
        let epoch = self.common.epoch();
        self.syncs.turn_to(epoch);
        let reason = "the zxid counter was used up, and a quorum has taken over the next epoch".to_owned();
        out.push(Effect::Phase { phase: Phase::Broadcast, epoch, reason });
        out.push(Effect::GoOn { epoch });
        for sid in self.common.learners.in_stage(|stage| stage == Stage::InStep) {
            self.welcome(sid, out);
        }
        self.common.announce(out)
    }

    /// Has the epoch all its transactions, and are they committed and durable?
    fn is_used_up(&self) -> bool {
        let (history, epoch) = (&self.common.history, self.common.epoch());
        let last = history.last();
        last.epoch() == epoch
            && self.common.epoch_length.is_used_up(last)
            && last == history.applied()
            && last == self.common.synced
    }

    fn on_packet(&mut self, from: Sid, tenure: Tenure, packet: Packet, out: &mut Vec<Effect>) {
        let stage = self.common.learners.get(from).expect("its packet was just received").stage();
        match (packet, stage) {
            // A learner has promised the next epoch.
            (Packet::AckEpoch { last, current }, Stage::InStep)
                if let Some(rollover) = &mut self.rollover =>
            {
                rollover.on_ack_epoch(&mut self.common, from, last, current, out);
            }
            // A learner that came late has promised, or asks for a snapshot.
            (Packet::AckEpoch { last, current }, _) => {
                self.common.on_late_ack_epoch(from, last, current, true, out);
                if mutated(Mutant::CountsWhatIsCut) {
                    self.commit(out);
                }
            }
            // A learner has taken over the next epoch.
            (Packet::Ack { zxid }, Stage::InStep)
                if let Some(rollover) = &mut self.rollover
                    && rollover.is_awaited(from, zxid) =>
            {
                rollover.on_ack(from);
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
        let own = match mutated(Mutant::CountsUnsynced) {
            true => self.common.history.last(),
            false => self.common.synced,
        };
        let learners = self.common.learners.iter();
        let voters = learners.filter(|(sid, learner)| learner.votes(*sid, &self.common.ensemble));
        let mut logged: Vec<(Zxid, Sid)> = voters
            .map(|(sid, learner)| (learner.acked, sid))
            .chain([(own, self.common.ensemble.me)])
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
    use crate::types::{Epoch, EpochLength, Epochs, SessionId, Txn, TxnBody, TxnHeader};

    const EPOCH: Epoch = Epoch(2);

    /// The only server of its ensemble, in Broadcast, with its log at `counter`.
    fn broadcast(counter: u32) -> Broadcast {
        let start = Start {
            ensemble: Ensemble::majority(Sid(1), &[Sid(1)], &[]),
            history: History::new(Zxid::new(EPOCH, counter)),
            epochs: Epochs { accepted: EPOCH, current: EPOCH },
            timing: Timing { tick_ms: 100, init_limit_ms: 1_000, sync_limit_ms: 500 },
            linked: Default::default(),
            epoch_length: EpochLength::MAX,
            now: 0,
        };
        let (syncs, room) = Default::default();
        Broadcast { common: Common::new(start), syncs, room, rollover: None }
    }

    fn entry(counter: u32) -> Arc<Entry> {
        let zxid = Zxid::new(EPOCH, counter);
        let header = TxnHeader { session: SessionId::NONE, cxid: 0, zxid, time: 0 };
        Entry::new(Txn { header, body: TxnBody::Error(0), digest: None })
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
