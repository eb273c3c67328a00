//! What all phases of a leadership share: the history, the epochs, the learners, and how one is brought into
//! step.

use std::collections::BTreeSet;

use super::learners::{Kind, Learners, Stage, goodbye};
use super::{Effect, Start, Timing};
use crate::core::history::History;
use crate::core::mutant::{Mutant, mutated};
use crate::core::quorum::Ensemble;
use crate::core::sync::{self, Method};
use crate::types::{Epoch, EpochLength, Epochs, Millis, Packet, Sid, Tenure, Zxid};

/// The greatest epoch a learner may have promised: the one after it must still be a positive number in a
/// signed zxid.
const MAX_ACCEPTED: Epoch = Epoch(i32::MAX as u32 - 1);

#[derive(Clone, Hash)]
pub(super) struct Common {
    pub(super) ensemble: Ensemble,
    pub(super) timing: Timing,
    pub(super) epoch_length: EpochLength,
    /// The time of the last packet or tick.
    pub(super) now: Millis,
    pub(super) history: History,
    /// What the epoch files hold.
    pub(super) epochs: Epochs,
    /// What they are to hold.
    saving: Option<Epochs>,
    /// The epoch of this leadership, once it is chosen.
    chosen: Option<Epoch>,
    pub(super) learners: Learners,
    /// Who can be spoken to, learner or not yet.
    linked: BTreeSet<Sid>,
    /// The own log is durable up to here.
    pub(super) synced: Zxid,
    /// When the phase began.
    pub(super) since: Millis,
    /// When a quorum was connected last.
    quorum_at: Millis,
    /// When the last PING went out.
    pinged: Millis,
}

/// What came of a packet.
pub(super) enum Heard {
    /// It is dealt with.
    Nothing,
    /// A learner has answered a PING.
    Answer,
    /// A learner has come.
    Arrived,
    /// The phase has to deal with it.
    Packet(Packet),
}

impl Common {
    pub(super) fn new(start: Start) -> Common {
        let Start { ensemble, history, epochs, timing, epoch_length, linked, now } = start;
        Common {
            learners: Learners::new(ensemble.me),
            linked,
            ensemble,
            timing,
            epoch_length,
            now,
            synced: history.last(),
            history,
            epochs,
            saving: None,
            chosen: None,
            since: now,
            quorum_at: now,
            pinged: now,
        }
    }

    /// The epoch of this leadership; before it is chosen, the newest promised one.
    pub(super) fn epoch(&self) -> Epoch {
        self.chosen.unwrap_or(self.epochs.accepted)
    }

    /// The epoch is chosen, and durable as a promise: learners may hear of it.
    pub(super) fn is_announced(&self) -> bool {
        self.chosen == Some(self.epochs.accepted)
    }

    pub(super) fn is_chosen(&self) -> bool {
        self.chosen.is_some()
    }

    pub(super) fn choose(&mut self, epoch: Epoch, out: &mut Vec<Effect>) {
        assert!(self.chosen.is_none(), "a leadership begins with one epoch");
        assert!(epoch > self.epochs.accepted, "an epoch is promised once");
        self.chosen = Some(epoch);
        self.save(Epochs { accepted: epoch, current: self.epochs.current }, out);
    }

    /// The leadership goes on in the next epoch, which a quorum has taken over.
    pub(super) fn turn_to(&mut self, epoch: Epoch) {
        assert_eq!(
            self.epochs.current, epoch,
            "the current epoch is durable before anything is proposed in it"
        );
        assert!(self.history.last() < epoch.mark(), "nothing was proposed in it before");
        self.chosen = Some(epoch);
    }

    pub(super) fn save(&mut self, epochs: Epochs, out: &mut Vec<Effect>) {
        assert!(epochs.current <= epochs.accepted, "the history of an epoch that was not promised");
        assert!(self.saving.is_none(), "one change of the epoch files at a time");
        self.saving = Some(epochs);
        out.push(Effect::SaveEpochs(epochs));
    }

    pub(super) fn on_epochs_saved(&mut self, epochs: Epochs) {
        // An answer to another role's question is not ours.
        if self.saving == Some(epochs) {
            self.epochs = epochs;
            self.saving = None;
        }
    }

    pub(super) fn on_synced(&mut self, zxid: Zxid) {
        self.synced = self.synced.max(zxid.min(self.history.last()));
    }

    pub(super) fn on_link_up(&mut self, peer: Sid) {
        self.linked.insert(peer);
    }

    pub(super) fn on_link_down(&mut self, peer: Sid, out: &mut Vec<Effect>) {
        self.linked.remove(&peer);
        self.learners.forget(peer, out);
    }

    /// Takes a packet as far as it is the same in all phases.
    pub(super) fn receive(
        &mut self,
        now: Millis,
        from: Sid,
        tenure: Tenure,
        packet: Packet,
        out: &mut Vec<Effect>,
    ) -> Heard {
        self.now = now;
        match packet {
            // A participant comes to follow.
            Packet::FollowerInfo { accepted } => self.admit(from, tenure, Kind::Follower, accepted, out),
            // An observer comes.
            Packet::ObserverInfo { accepted } => self.admit(from, tenure, Kind::Observer, accepted, out),
            packet => {
                let Some(learner) = self.learners.hear(now, from, tenure) else {
                    return Heard::Nothing; // of a stay that is over: replaced, dropped, or never admitted
                };
                let stage = learner.stage();
                match packet {
                    // A learner leaves.
                    Packet::Goodbye { reason } => {
                        self.learners.forget(from, out);
                        out.push(Effect::Note(format!("learner {from} leaves: {reason}")));
                        Heard::Nothing
                    }
                    // A learner is alive, and so are its clients. It counts as heard from already.
                    Packet::Ping { number, touched }
                        if !matches!(stage, Stage::Waiting | Stage::Promising) =>
                    {
                        if !touched.is_empty() {
                            out.push(Effect::Touched(touched));
                        }
                        self.learners.answered(from, number, out);
                        Heard::Answer
                    }
                    // Pieces of its snapshot are on its disk. Of the last ones nobody waits to hear.
                    Packet::SnapTaken { pieces } if matches!(stage, Stage::Synchronizing { snap: true }) => {
                        if self.learners.taken(from, pieces) {
                            out.push(Effect::SnapshotTaken { to: from, tenure, pieces });
                        }
                        Heard::Nothing
                    }
                    packet => Heard::Packet(packet),
                }
            }
        }
    }

    fn admit(
        &mut self,
        from: Sid,
        tenure: Tenure,
        kind: Kind,
        accepted: Epoch,
        out: &mut Vec<Effect>,
    ) -> Heard {
        let refusal = if from == self.ensemble.me || !self.ensemble.members.contains_key(&from) {
            Some(format!(
                "server {from} is not in this ensemble's configuration; add it there on all servers"
            ))
        } else if accepted > MAX_ACCEPTED {
            Some(format!(
                "server {from} has promised epoch {accepted}, but {MAX_ACCEPTED} is the last usable"
            ))
        } else {
            None
        };
        if let Some(reason) = refusal {
            goodbye(from, tenure, &reason, out);
            out.push(Effect::Note(format!("learner refused: {reason}")));
            return Heard::Nothing;
        }
        if !self.learners.admit(self.now, from, tenure, kind, accepted, out) {
            return Heard::Nothing; // an older stay's, overtaken by a newer one
        }
        out.push(Effect::Note(format!("learner {from} has come: {kind:?}, accepted epoch {accepted}")));
        Heard::Arrived
    }

    /// Tells the waiting learners the epoch, now that it is durable. An error ends the leadership.
    pub(super) fn announce(&mut self, out: &mut Vec<Effect>) -> Result<(), String> {
        assert!(self.is_announced(), "the promise is durable before anybody hears of it");
        let epoch = self.epoch();
        for sid in self.learners.in_stage(|stage| stage == Stage::Waiting) {
            let learner = self.learners.get(sid).expect("just listed");
            let (accepted, votes) = (learner.accepted, learner.votes(sid, &self.ensemble));
            if accepted <= epoch {
                self.learners.get_mut(sid).expect("just listed").enter(self.now, Stage::Promising);
                self.learners.send(sid, Packet::LeaderInfo { epoch }, out);
            } else if votes {
                // It can never follow this epoch. A new election finds one that all can follow; without
                // it that server would stay outside for as long as this leader lives.
                return Err(format!("follower {sid} has promised epoch {accepted}, newer than {epoch}"));
            } else {
                self.learners.drop(
                    sid,
                    &format!("it has promised epoch {accepted}, newer than {epoch}"),
                    out,
                );
            }
        }
        Ok(())
    }

    /// Does this learner have what the leader lacks? Then the election went wrong, or a disk has lost data.
    pub(super) fn is_ahead(&self, last: Zxid, current: Option<Epoch>) -> bool {
        current.is_some_and(|current| (current, last) > (self.epochs.current, self.history.last()))
    }

    /// A learner has promised after the quorum did, or wants a snapshot instead of what it was told.
    pub(super) fn on_late_ack_epoch(
        &mut self,
        from: Sid,
        last: Zxid,
        current: Option<Epoch>,
        established: bool,
        out: &mut Vec<Effect>,
    ) {
        let learner = self.learners.get_mut(from).expect("its packet was just received");
        match learner.stage() {
            Stage::Promising if self.is_ahead(last, current) => {
                let (own, own_last) = (self.epochs.current, self.history.last());
                let reason = format!(
                    "its history ({current:?}, {last}) is ahead of the leader's ({own}, {own_last}): \
                     one of the two has lost data"
                );
                self.learners.drop(from, &reason, out);
            }
            Stage::Promising => {
                self.synchronize(from, sync::plan(&self.history, last).method, last, established, out)
            }
            Stage::Synchronizing { snap: false } if last == Zxid::ZERO && current.is_none() => {
                self.synchronize(from, Method::Snap, last, established, out);
            }
            _ => self.learners.drop(from, "ACKEPOCH out of turn", out),
        }
    }

    /// Brings a learner into step. In this one step its starting point is fixed, everything known beyond it
    /// is sent, and it joins those who get all that follows.
    pub(super) fn synchronize(
        &mut self,
        to: Sid,
        method: Method,
        last: Zxid,
        established: bool,
        out: &mut Vec<Effect>,
    ) {
        // Before it is established a leader offers its whole log, as if it were committed.
        let committed = if established { self.history.applied() } else { self.history.last() };
        // What a restarted learner has loaded beyond what is committed is in its tree: it is cut off, and comes
        // again as proposals. Otherwise its clients would see what may yet be lost.
        let method = match method {
            Method::Diff if last > committed && last.counter() > 0 => Method::Trunc { to: committed },
            method => method,
        };
        let learner = self.learners.get_mut(to).expect("only a learner that is there is synchronized");
        let kind = learner.kind;
        learner.enter(self.now, Stage::Synchronizing { snap: method == Method::Snap });
        if mutated(Mutant::CountsWhatIsCut) {
            learner.acked = last;
        }
        let after = match method {
            Method::Diff => {
                self.learners.send(to, Packet::Diff { last: committed }, out);
                last
            }
            Method::Trunc { to: keep } => {
                self.learners.send(to, Packet::Trunc { to: keep }, out);
                keep
            }
            Method::Snap => {
                // The snapshot must hold all that we do: what the learner throws away for it may be
                // committed and in our log, but not in our tree yet.
                self.apply(committed, out);
                self.send_snapshot(to, out);
                if mutated(Mutant::LateSyncPoint) { self.history.last() } else { committed }
            }
        };
        out.push(Effect::Note(format!("learner {to} is at {last}: {method:?}, then what is after {after}")));
        let rest: Vec<_> = self.history.after(after).cloned().collect();
        for entry in rest {
            // What is not committed an observer gets as INFORM when it is.
            if kind == Kind::Follower || entry.zxid() <= committed {
                self.learners.send(to, Packet::Proposal(entry), out);
            }
        }
        if after < committed {
            self.learners.send(to, Packet::Commit { zxid: committed }, out);
        }
        self.learners.send(to, Packet::NewLeader { epoch: self.epoch() }, out);
    }

    fn send_snapshot(&mut self, to: Sid, out: &mut Vec<Effect>) {
        let zxid = self.history.applied();
        self.learners.send(to, Packet::Snap { zxid }, out);
        let tenure = self.learners.get(to).expect("just sent to").tenure;
        out.push(Effect::SendSnapshot { to, tenure, zxid });
        self.learners.hold(to);
    }

    /// Everything up to `zxid` goes into the tree.
    pub(super) fn apply(&mut self, zxid: Zxid, out: &mut Vec<Effect>) {
        let entries = self.history.apply_to(zxid);
        if !entries.is_empty() {
            out.push(Effect::Commit(entries));
        }
    }

    /// Time passes: who is silent goes; a leader without a quorum for too long must go, too.
    /// `patience_ms` is how long it may be without one.
    pub(super) fn on_tick(
        &mut self,
        now: Millis,
        patience_ms: Millis,
        out: &mut Vec<Effect>,
    ) -> Result<(), String> {
        self.now = now;
        self.learners.drop_overdue(now, &self.timing, out);
        let connected = self.learners.connected(&self.ensemble);
        if self.ensemble.contains_quorum(&connected) {
            self.quorum_at = now;
        } else if now.saturating_sub(self.quorum_at) >= patience_ms {
            return Err(format!("no quorum of participants is connected, only {connected:?}"));
        }
        Ok(())
    }

    /// As [`Common::on_tick`], in the phases that init_limit bounds. Nobody is served yet, so there is nothing to
    /// be patient for when those who could make a quorum are out of reach.
    pub(super) fn on_tick_before_broadcast(
        &mut self,
        now: Millis,
        out: &mut Vec<Effect>,
    ) -> Result<(), String> {
        self.on_tick(now, self.timing.sync_limit_ms, out)?;
        let mut within_reach = self.linked.clone();
        within_reach.insert(self.ensemble.me);
        if !self.ensemble.contains_quorum(&within_reach) {
            return Err(format!("no quorum of participants is within reach, only {within_reach:?}"));
        }
        if now.saturating_sub(self.since) > self.timing.init_limit_ms {
            return Err(format!("no quorum came along within init_limit ({} ms)", self.timing.init_limit_ms));
        }
        Ok(())
    }

    /// PING for everybody in the broadcast, twice a tick.
    pub(super) fn ping(&mut self, out: &mut Vec<Effect>) {
        if self.now.saturating_sub(self.pinged) >= self.timing.tick_ms / 2 {
            self.pinged = self.now;
            self.learners.ping_all(out);
        }
    }
}
