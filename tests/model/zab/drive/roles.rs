//! Roles: how one begins and ends, and what becomes of the effects of the cores of leader and follower. What a role says
//! is checked against the disk it rests on as it is said.

use std::sync::Arc;

use zabra_actors::core::history::History;
use zabra_actors::core::leader::{self, Leader};
use zabra_actors::core::learner::{self, Learner};
use zabra_actors::core::quorum::Ensemble;
use zabra_actors::types::{Entry, Epoch, Membership, Packet, Phase, Sid, Tenure, Zxid};

use super::{Drive, entry};
use crate::seen::What;
use crate::wires::End;
use crate::zab::server::{Order, Process, Role, Stream, last_of};
use crate::zab::{Mistake, Rule, TIMING, Zab};

impl Drive<'_> {
    fn ensemble(&self, at: usize) -> Ensemble {
        let of = |membership| (0..3).filter(move |i| self.membership(*i) == membership).map(Zab::sid);
        let participants: Vec<Sid> = of(Membership::Participant).collect();
        let observers: Vec<Sid> = of(Membership::Observer).collect();
        Ensemble::majority(Zab::sid(at), &participants, &observers)
    }

    /// What all servers take it for.
    fn membership(&self, at: usize) -> Membership {
        match self.model.mistake {
            Some(Mistake::ObserverVotes) => Membership::Participant,
            _ => self.world.servers[at].membership,
        }
    }

    fn take_history(process: &mut Process) -> History {
        match std::mem::replace(&mut process.role, Role::Looking(History::default())) {
            Role::Looking(history) => history,
            Role::Leading(leader) => leader.into_history(),
            Role::Learning { learner, .. } => learner.into_history(),
        }
    }

    /// A role begins with a tenure of its own, and from its log's end.
    fn begin(&mut self, at: usize) -> (Tenure, History) {
        let server = self.world.server(at);
        let tenure = server.next_tenure();
        let (held, process) = (server.disk.last(), server.process());
        (process.tenure, process.announced, process.taken_over) = (tenure, Epoch(0), Epoch(0));
        process.receiving.clear();
        let history = Drive::take_history(process);
        let last = history.last();
        self.must(last == held, Rule::Durable, || {
            format!("server {} begins at {last}, its disk ends at {held}", at + 1)
        });
        (tenure, history)
    }

    pub(super) fn lead(&mut self, at: usize) {
        let (_, history) = self.begin(at);
        let mut ensemble = self.ensemble(at);
        if self.model.mistake == Some(Mistake::QuorumOfOne) {
            let me = ensemble.me;
            ensemble.members.iter_mut().filter(|(sid, _)| **sid != me).for_each(|(_, it)| it.weight = 0);
        }
        let peers = (0..3).filter(|peer| *peer != at);
        let linked =
            peers.filter(|peer| self.world.wires.end(at, *peer) != End::Down).map(Zab::sid).collect();
        let server = self.world.server(at);
        let (now, epochs) = (server.now, server.process().epochs);
        let epoch_length = self.model.epoch_length();
        let start = leader::Start { ensemble, history, epochs, timing: TIMING, epoch_length, linked, now };
        let mut effects = Vec::new();
        let leader = Leader::new(start, &mut effects);
        let process = self.world.server(at).process();
        process.role = Role::Leading(Box::new(leader));
        let early = std::mem::take(&mut process.early);
        self.perform_leader(at, effects);
        for (from, (tenure, packet)) in early {
            self.step_leader(at, leader::Input::Packet { now, from: Zab::sid(from), tenure, packet });
        }
    }

    pub(super) fn follow(&mut self, at: usize, leader: usize) {
        let (tenure, history) = self.begin(at);
        let linked = self.world.wires.end(at, leader) != End::Down;
        let server = self.world.server(at);
        let now = server.now;
        let Process { epochs, diverged, doubtful, .. } = *server.process();
        let resync = diverged && self.model.mistake != Some(Mistake::ResyncForgotten);
        let membership = if doubtful { Membership::Observer } else { self.membership(at) };
        let start = learner::Start {
            leader: Zab::sid(leader),
            membership,
            tenure,
            history,
            epochs,
            timing: TIMING,
            resync,
            doubtful,
            linked,
            now,
        };
        let mut effects = Vec::new();
        let learner = Learner::new(start, &mut effects);
        let process = self.world.server(at).process();
        process.role = Role::Learning { learner: Box::new(learner), leader };
        for (from, (tenure, _)) in std::mem::take(&mut process.early) {
            self.send_away(at, from, tenure);
        }
        self.perform_learner(at, effects);
    }

    pub(super) fn send_away(&mut self, at: usize, to: usize, tenure: Tenure) {
        self.send(at, to, tenure, Packet::Goodbye { reason: String::new() });
    }

    /// The role is over. What it has told the disk is done before the next one; a crash before that would have been
    /// the same a moment earlier, so it is done here.
    fn stand_down(&mut self, at: usize) {
        let process = self.world.server(at).process();
        let history = Drive::take_history(process);
        process.role = Role::Looking(history);
        process.serving = None;
        process.syncs.clear();
        process.streams.clear();
        while !self.world.servers[at].process.as_ref().is_none_or(|process| process.orders.is_empty()) {
            self.write(at);
        }
    }

    pub(super) fn step_leader(&mut self, at: usize, input: leader::Input) {
        let Role::Leading(leader) = &mut self.world.server(at).process().role else { return };
        let mut effects = Vec::new();
        leader.step(input, &mut effects);
        self.perform_leader(at, effects);
        // A turn has one message here.
        let Role::Leading(leader) = &mut self.world.server(at).process().role else { return };
        let mut effects = Vec::new();
        leader.step(leader::Input::EndOfTurn, &mut effects);
        self.perform_leader(at, effects);
    }

    pub(super) fn step_learner(&mut self, at: usize, input: learner::Input) {
        let Role::Learning { learner, .. } = &mut self.world.server(at).process().role else { return };
        let mut effects = Vec::new();
        learner.step(input, &mut effects);
        self.perform_learner(at, effects);
    }

    fn perform_leader(&mut self, at: usize, effects: Vec<leader::Effect>) {
        effects.into_iter().for_each(|effect| self.perform_leader_effect(at, effect));
    }

    fn perform_learner(&mut self, at: usize, effects: Vec<learner::Effect>) {
        effects.into_iter().for_each(|effect| self.perform_learner_effect(at, effect));
    }

    fn perform_leader_effect(&mut self, at: usize, effect: leader::Effect) {
        match effect {
            leader::Effect::Send { to, packet } => self.leader_sends(at, to, packet),
            leader::Effect::SaveEpochs(epochs) => self.order(at, Order::SaveEpochs(epochs)),
            leader::Effect::Append(entries) => self.order(at, Order::Append(entries)),
            leader::Effect::SendSnapshot { to, tenure: learner, zxid } => {
                let process = self.world.server(at).process();
                let (content, to) = (process.tree.clone(), Zab::index(to));
                assert_eq!(last_of(&content), zxid, "the tree is where SNAP says");
                process.streams.push_back(Stream { to, learner, content });
            }
            leader::Effect::StopSnapshot { to, tenure } => {
                let streams = &mut self.world.server(at).process().streams;
                streams.retain(|stream| stream.to != Zab::index(to) || stream.learner != tenure);
            }
            leader::Effect::Commit(entries) => {
                let process = self.world.server(at).process();
                let Role::Leading(leader) = &process.role else { unreachable!("it leads") };
                let established = leader.phase() == Phase::Broadcast;
                let last = entries.last().expect("a commit commits").clone();
                self.apply(at, entries);
                if established {
                    self.must_be_on_a_quorum(&last);
                }
            }
            leader::Effect::Serve { epoch } | leader::Effect::GoOn { epoch } => self.established(at, epoch),
            leader::Effect::Phase { phase: Phase::Synchronization, epoch, .. } => {
                self.begins(at, epoch);
            }
            leader::Effect::StandDown { reason } => {
                if reason.contains("longer history") {
                    self.seen.note(What::Ahead);
                }
                self.stand_down(at);
            }
            leader::Effect::SyncDone => self.sync_done(at),
            leader::Effect::Phase { .. }
            | leader::Effect::Note(_)
            | leader::Effect::Forwarded { .. }
            | leader::Effect::Revalidate { .. }
            | leader::Effect::Touched(_)
            | leader::Effect::SnapshotTaken { .. }
            | leader::Effect::RefuseWrites(_) => {}
        }
    }

    /// What a leader has when it begins an epoch, which it may do several times over.
    fn begins(&mut self, at: usize, epoch: Epoch) {
        if !self.world.ghosts.beginnings.contains_key(&(epoch, at)) {
            let log = self.world.servers[at].disk.all();
            self.ghosts().beginnings.insert((epoch, at), log);
        }
    }

    fn established(&mut self, at: usize, epoch: Epoch) {
        self.begins(at, epoch);
        self.seen.note(What::Established);
        let other = self.ghosts().leaders.insert(epoch, at);
        self.must(other.is_none(), Rule::OneLeader, || format!("{other:?} and {at} lead {epoch}"));
        let process = self.world.server(at).process();
        let goes_on = process.serving.is_some();
        (process.serving, process.epoch) = (Some(0), epoch);
        let tree = process.tree.clone();
        if goes_on {
            self.seen.note(What::RolledOver);
        }
        // What newer epochs have delivered meanwhile is not this leader's to know: it cannot commit any more.
        let older = |entry: &&Arc<Entry>| entry.zxid().epoch() < epoch;
        let committed: Vec<_> = self.world.ghosts.committed.iter().take_while(older).cloned().collect();
        if tree.len() > committed.len() {
            self.seen.note(What::Inherited);
        }
        self.must(tree.starts_with(&committed), Rule::PrimaryIntegrity, || {
            format!("server {} leads {epoch} with {tree:?}, and {committed:?} is delivered", at + 1)
        });
    }

    fn leader_sends(&mut self, at: usize, to: Vec<(Sid, Tenure)>, packet: Packet) {
        match packet {
            Packet::Diff { .. } => self.seen.note(What::Diff),
            Packet::Trunc { .. } => self.seen.note(What::Trunc),
            Packet::Snap { .. } => self.seen.note(What::Snap),
            Packet::Inform(_) => self.seen.note(What::Observed),
            _ => {}
        }
        for (peer, tenure) in to {
            // So begins the next epoch of the same leader.
            if let Packet::NewLeader { epoch } = packet {
                self.begins(at, epoch);
            }
            if let Packet::LeaderInfo { epoch } = packet {
                let epochs = self.world.servers[at].disk.epochs;
                self.must(epochs.accepted >= epoch, Rule::Epochs, || {
                    format!("server {} announces {epoch} and has saved {epochs:?}", at + 1)
                });
            }
            self.send(at, Zab::index(peer), tenure, packet.clone());
        }
    }

    fn perform_learner_effect(&mut self, at: usize, effect: learner::Effect) {
        match effect {
            learner::Effect::Send(packet) => self.learner_sends(at, packet),
            learner::Effect::SaveEpochs(epochs) => self.order(at, Order::SaveEpochs(epochs)),
            learner::Effect::Append(entries) => {
                if self.model.mistake == Some(Mistake::AppliedTooEarly) {
                    self.apply(at, entries.clone());
                }
                self.order(at, Order::Append(entries));
            }
            learner::Effect::Truncate { to, reload } => self.order(at, Order::Truncate { to, reload }),
            learner::Effect::Receive(piece) => self.order(at, Order::Store(piece)),
            learner::Effect::Install { zxid } => self.order(at, Order::Install { zxid }),
            learner::Effect::Commit(entries) if self.model.mistake != Some(Mistake::AppliedTooEarly) => {
                self.apply(at, entries);
            }
            learner::Effect::Serve { .. } | learner::Effect::GoOn { .. } => {
                let process = self.world.server(at).process();
                process.serving = Some(0);
                let diverged = process.diverged;
                let doubtful = process.doubtful;
                self.must(!diverged, Rule::RightTree, || format!("server {} serves", at + 1));
                if doubtful && self.model.mistake == Some(Mistake::TrustedUnasked) {
                    self.order(at, Order::Trust);
                }
            }
            learner::Effect::CollectTouched { number } => {
                self.step_learner(at, learner::Input::Touched { number, sessions: Vec::new() });
            }
            learner::Effect::Trust => self.order(at, Order::Trust),
            learner::Effect::StandDown { .. } => self.stand_down(at),
            learner::Effect::SyncDone => self.sync_done(at),
            learner::Effect::Commit(_)
            | learner::Effect::Phase { .. }
            | learner::Effect::Revalidated { .. }
            | learner::Effect::Expect { .. }
            | learner::Effect::RefuseWrites(_) => {}
        }
    }

    fn apply(&mut self, at: usize, mut entries: Vec<Arc<Entry>>) {
        match self.model.mistake {
            Some(Mistake::Falsified) => {
                let last = entries.last_mut().expect("something is applied");
                *last = entry(last.zxid(), Tenure(at as u64));
            }
            Some(Mistake::LeftOut) if entries.len() > 1 => drop(entries.remove(0)),
            _ => {}
        }
        self.world.server(at).process().tree.extend(entries);
    }

    fn learner_sends(&mut self, at: usize, packet: Packet) {
        let process = self.world.servers[at].process.as_ref().expect("it learns");
        let Role::Learning { leader, .. } = process.role else { unreachable!("it learns") };
        let tenure = process.tenure;
        match packet {
            Packet::Ack { zxid }
                if zxid.counter() == 0
                    && at == 0
                    && self.model.mistake == Some(Mistake::NewLeaderUnacknowledged) =>
            {
                return;
            }
            Packet::Ack { zxid } => self.acknowledges(at, leader, zxid),
            Packet::AckEpoch { last, current } => {
                let (announced, disk) = (process.announced, &self.world.servers[at].disk);
                if last == Zxid::ZERO && current.is_none() && disk.last() > Zxid::ZERO {
                    self.seen.note(What::RefusedTrunc);
                }
                let epochs = disk.epochs;
                self.must(epochs.accepted >= announced, Rule::Epochs, || {
                    format!("server {} promises {announced} and has saved {epochs:?}", at + 1)
                });
            }
            Packet::Sync if self.model.mistake == Some(Mistake::SyncUnasked) => return self.sync_done(at),
            _ => {}
        }
        self.send(at, leader, tenure, packet);
    }

    fn acknowledges(&mut self, at: usize, leader: usize, zxid: Zxid) {
        let server = at + 1;
        let disk = self.world.servers[at].disk.clone();
        if zxid.counter() > 0 {
            let taken_over = self.world.server(at).process().taken_over;
            self.must(taken_over == zxid.epoch(), Rule::NewLeaderFirst, || {
                format!("server {server} acknowledges {zxid} first")
            });
            self.must(disk.holds_zxid(zxid), Rule::Durable, || {
                format!("server {server} acknowledges {zxid} and holds {:?}", disk.all())
            });
            return;
        }
        self.world.server(at).process().taken_over = zxid.epoch();
        let beginning =
            self.world.ghosts.beginnings.get(&(zxid.epoch(), leader)).cloned().unwrap_or_default();
        let holds = disk.epochs.current == zxid.epoch() && disk.begins_with(&beginning);
        self.must(holds, Rule::TakenOver, || {
            let (held, epochs) = (disk.all(), disk.epochs);
            format!(
                "server {server} acknowledges {zxid} with {held:?} {epochs:?}, its leader has {beginning:?}"
            )
        });
    }
}
