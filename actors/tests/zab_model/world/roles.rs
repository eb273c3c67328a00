//! What the actors around the cores do: feed them, carry out what they say, change roles.

use std::sync::Arc;

use zabra_actors::core::history::History;
use zabra_actors::core::quorum::Ensemble;
use zabra_actors::core::{election, leader, learner};
use zabra_actors::types::{
    Entry, Membership, Packet, Phase, ServerState, SessionId, Sid, Tenure, Txn, TxnBody, TxnHeader, Zxid,
};

use super::{TIMING, World};
use crate::server::{Order, Process, Server, State, Stream};

impl World {
    pub(super) fn look(&mut self, sid: Sid) {
        let now = self.now;
        let process = self.process(sid).expect("its disk works");
        let State::Draining(history) =
            std::mem::replace(&mut process.state, State::Looking(History::default()))
        else {
            unreachable!("only a draining server is drained")
        };
        let (last, current) = (history.last(), process.epochs.current);
        process.state = State::Looking(history);
        assert_eq!(last, self.servers[&sid].disk.last(), "{sid:?} votes with what it does not hold");
        self.step_election(sid, election::Input::Look { now, last, current, votes: true });
    }

    pub(super) fn settle(&mut self, sid: Sid, state: ServerState) {
        let epoch = self.process(sid).expect("has a role").epochs.current;
        self.step_election(sid, election::Input::Settled { state, epoch });
    }

    pub(super) fn step_election(&mut self, sid: Sid, input: election::Input) {
        if self.faults.drawn_leaders {
            return;
        }
        let Some(process) = self.process(sid) else { return };
        let mut effects = Vec::new();
        process.election.step(input, &mut effects);
        for effect in effects {
            match effect {
                election::Effect::Notify { to, notification } => {
                    for peer in to {
                        self.send(sid, peer, Tenure::default(), Packet::Notification(notification));
                    }
                }
                election::Effect::Elected { leader, vote, round, .. } => {
                    self.coverage.elections += 1;
                    self.tell(sid, format_args!("elects {leader} {vote:?} in round {round}"));
                    if leader == sid { self.lead(sid) } else { self.follow(sid, leader) }
                }
            }
        }
    }

    pub(super) fn take_history(&mut self, sid: Sid) -> History {
        let process = self.process(sid).expect("is looking");
        let State::Looking(history) =
            std::mem::replace(&mut process.state, State::Looking(History::default()))
        else {
            unreachable!("only a looking server elects")
        };
        history
    }

    pub(super) fn lead(&mut self, sid: Sid) {
        let (now, history) = (self.now, self.take_history(sid));
        let ensemble = Ensemble { me: sid, ..self.ensemble.clone() };
        let server = self.servers.get_mut(&sid).expect("is a server");
        let tenure = server.next_tenure();
        let process = server.process.as_mut().expect("is looking");
        let (epochs, linked, epoch_length) = (process.epochs, process.linked.clone(), self.epoch_length);
        let start = leader::Start { ensemble, history, epochs, timing: TIMING, epoch_length, linked, now };
        let mut effects = Vec::new();
        let leader = leader::Leader::new(start, &mut effects);
        process.state = State::Leading { leader: Box::new(leader), tenure };
        let early = std::mem::take(&mut process.early);
        self.settle(sid, ServerState::Leading);
        self.perform_leader(sid, effects);
        for (from, (tenure, packet)) in early {
            self.step_leader(sid, leader::Input::Packet { now, from, tenure, packet });
        }
    }

    pub(super) fn follow(&mut self, sid: Sid, leader: Sid) {
        let (now, history) = (self.now, self.take_history(sid));
        let membership = Ensemble { me: sid, ..self.ensemble.clone() }.my_membership();
        let server = self.servers.get_mut(&sid).expect("is a server");
        let tenure = server.next_tenure();
        let process = server.process.as_mut().expect("is looking");
        let linked = process.linked.contains(&leader);
        let (epochs, resync, timing) = (process.epochs, process.diverged, TIMING);
        let start = learner::Start {
            leader,
            membership,
            tenure,
            history,
            epochs,
            timing,
            resync,
            doubtful: false, // no disk is lost here
            linked,
            now,
        };
        let mut effects = Vec::new();
        let learner = learner::Learner::new(start, &mut effects);
        process.state = State::Learning { learner: Box::new(learner), leader, tenure };
        for (from, (tenure, _)) in std::mem::take(&mut process.early) {
            self.send(sid, from, tenure, Packet::Goodbye { reason: "does not lead".to_owned() });
        }
        self.settle(sid, settled_state(membership));
        self.perform_learner(sid, effects);
    }

    pub(super) fn step_leader(&mut self, sid: Sid, input: leader::Input) {
        let Some(Process { state: State::Leading { leader, .. }, .. }) = self.process(sid) else { return };
        let mut effects = Vec::new();
        leader.step(input, &mut effects);
        self.perform_leader(sid, effects);
        if self.rng.one_in(2) {
            self.end_turn(sid);
        }
    }

    pub(super) fn end_turn(&mut self, sid: Sid) {
        let Some(Process { state: State::Leading { leader, .. }, .. }) = self.process(sid) else { return };
        let mut effects = Vec::new();
        leader.step(leader::Input::EndOfTurn, &mut effects);
        self.perform_leader(sid, effects);
    }

    /// A client of any server that serves wants to see everything that is committed by now.
    pub(super) fn sync(&mut self) {
        let leaders = self.rng.one_in(2);
        let sids: Vec<Sid> =
            self.sids().into_iter().filter(|sid| !leaders || self.can_propose(*sid)).collect();
        let Some(sid) = self.rng.pick(&sids) else { return };
        let committed = self.ghosts.committed.len();
        let Some(process) = self.process(sid).filter(|process| process.serving.is_some()) else { return };
        process.syncs.push_back(committed);
        match process.state {
            State::Leading { .. } => self.step_leader(sid, leader::Input::Sync),
            _ => self.step_learner(sid, learner::Input::Sync),
        }
    }

    /// The oldest sync is answered: this server has what had been committed anywhere when it was asked for.
    fn synced(&mut self, sid: Sid) {
        let process = self.process(sid).expect("has a role");
        let committed = process.syncs.pop_front().expect("somebody asked for it");
        let has = process.tree.len();
        assert!(has >= committed, "{sid:?} answers a sync with {has} of {committed} transactions");
        self.coverage.syncs += 1;
    }

    pub(super) fn perform_leader(&mut self, sid: Sid, effects: Vec<leader::Effect>) {
        for effect in effects {
            self.perform_leader_effect(sid, effect);
        }
    }

    pub(super) fn perform_leader_effect(&mut self, sid: Sid, effect: leader::Effect) {
        let server = self.servers.get_mut(&sid).expect("is a server");
        let process = server.process.as_mut().expect("leads");
        let State::Leading { tenure, leader } = &process.state else { unreachable!("leads") };
        let (tenure, phase) = (*tenure, leader.phase());
        match effect {
            leader::Effect::Send { to, packet } => {
                match packet {
                    Packet::Diff { .. } => self.coverage.diffs += 1,
                    Packet::Trunc { .. } => self.coverage.truncs += 1,
                    Packet::Snap { .. } => self.coverage.snaps += 1,
                    _ => {}
                }
                for (peer, learner) in to {
                    match packet {
                        Packet::LeaderInfo { epoch } => {
                            self.ghosts.announced(sid, peer, learner, epoch, &self.servers[&sid].disk);
                        }
                        // So begins the next epoch of the same leader.
                        Packet::NewLeader { epoch } => {
                            self.ghosts.begins(epoch, sid, || self.servers[&sid].disk.all());
                        }
                        _ => {}
                    }
                    self.send(sid, peer, learner, packet.clone());
                }
            }
            leader::Effect::SaveEpochs(epochs) => process.orders.push_back(Order::SaveEpochs(tenure, epochs)),
            leader::Effect::Append(entries) => process.orders.push_back(Order::Append(tenure, entries)),
            leader::Effect::SendSnapshot { to, tenure: learner, zxid } => {
                assert_eq!(process.tree.last().map_or(Zxid::ZERO, |entry| entry.zxid()), zxid);
                self.snapshots.push(process.tree.clone());
                let content = self.snapshots.len() - 1;
                process.streams.push_back(Stream { to, learner, tenure, content });
            }
            leader::Effect::StopSnapshot { to, tenure: learner } => {
                process.streams.retain(|stream| stream.to != to || stream.learner != learner);
            }
            leader::Effect::Commit(entries) => {
                process.tree.extend(entries.iter().cloned());
                if phase == Phase::Broadcast {
                    self.check_commit(entries.last().expect("a commit commits").zxid());
                }
            }
            leader::Effect::Serve { epoch } | leader::Effect::GoOn { epoch } => {
                self.coverage.rollovers += usize::from(process.serving.is_some());
                (process.serving, process.epoch) = (Some(0), epoch);
                self.coverage.established += 1;
                let tree = process.tree.clone();
                self.ghosts.begins(epoch, sid, || server.disk.all());
                self.ghosts.established(epoch, sid, &tree);
                self.tell(sid, format_args!("leads epoch {epoch}"));
                self.settle(sid, ServerState::Leading);
            }
            leader::Effect::Phase { phase, epoch, reason } => {
                if phase == Phase::Synchronization {
                    self.ghosts.begins(epoch, sid, || server.disk.all());
                }
                self.tell(sid, format_args!("leader: {phase} of {epoch}: {reason}"));
            }
            leader::Effect::StandDown { reason } => self.stand_down(sid, &reason),
            leader::Effect::Note(note) => self.tell(sid, format_args!("{note}")),
            leader::Effect::Forwarded { .. }
            | leader::Effect::Revalidate { .. }
            | leader::Effect::Touched(_)
            | leader::Effect::SnapshotTaken { .. }
            | leader::Effect::RefuseWrites(_) => {}
            leader::Effect::SyncDone => self.synced(sid),
        }
    }

    pub(super) fn step_learner(&mut self, sid: Sid, input: learner::Input) {
        let Some(Process { state: State::Learning { learner, .. }, .. }) = self.process(sid) else { return };
        let mut effects = Vec::new();
        learner.step(input, &mut effects);
        self.perform_learner(sid, effects);
    }

    pub(super) fn perform_learner(&mut self, sid: Sid, effects: Vec<learner::Effect>) {
        for effect in effects {
            self.perform_learner_effect(sid, effect);
        }
    }

    pub(super) fn perform_learner_effect(&mut self, sid: Sid, effect: learner::Effect) {
        let server = self.servers.get_mut(&sid).expect("is a server");
        let process = server.process.as_mut().expect("learns");
        let State::Learning { tenure, leader, .. } = process.state else { unreachable!("learns") };
        match effect {
            learner::Effect::Send(packet) => {
                if let Packet::Ack { zxid } = packet {
                    self.ghosts.acknowledged(sid, leader, tenure, zxid, &server.disk);
                }
                if matches!(packet, Packet::AckEpoch { .. }) {
                    self.ghosts.promised(sid, tenure, &server.disk);
                }
                if matches!(packet, Packet::AckEpoch { last: Zxid::ZERO, current: None }) {
                    self.coverage.refused_truncs += usize::from(server.disk.last() > Zxid::ZERO);
                }
                self.send(sid, leader, tenure, packet);
            }
            learner::Effect::SaveEpochs(epochs) => {
                process.orders.push_back(Order::SaveEpochs(tenure, epochs))
            }
            learner::Effect::Append(entries) => process.orders.push_back(Order::Append(tenure, entries)),
            learner::Effect::Truncate { to, reload } => {
                process.orders.push_back(Order::Truncate { tenure, to, reload });
            }
            learner::Effect::Receive(piece) => {
                let number = u64::from_be_bytes(piece[..].try_into().expect("a piece is a number"));
                process.receiving = Some(number as usize);
                self.step_learner(sid, learner::Input::Stored { pieces: 1 });
            }
            learner::Effect::Install { zxid } => {
                let number = process.receiving.take().expect("a snapshot has a piece");
                let content = self.snapshots[number].clone();
                process.orders.push_back(Order::Install { tenure, zxid, content });
            }
            learner::Effect::Commit(entries) => process.tree.extend(entries),
            learner::Effect::Serve { .. } | learner::Effect::GoOn { .. } => {
                assert!(!process.diverged && !server.disk.diverged, "{sid:?} serves a tree that is wrong");
                process.serving = Some(0);
                let state = settled_state(self.ensemble.members[&sid].membership);
                self.settle(sid, state);
            }
            learner::Effect::CollectTouched { number } => {
                self.step_learner(sid, learner::Input::Touched { number, sessions: Vec::new() });
            }
            learner::Effect::Phase { phase, epoch, reason } => {
                self.tell(sid, format_args!("learner: {phase} of {epoch}: {reason}"));
            }
            learner::Effect::StandDown { reason } => self.stand_down(sid, &reason),
            learner::Effect::SyncDone => self.synced(sid),
            learner::Effect::Trust => unreachable!("no disk is lost here"),
            learner::Effect::Revalidated { .. }
            | learner::Effect::RefuseWrites(_)
            | learner::Effect::Expect { .. } => {}
        }
    }

    /// The tree of a learner turns out to be wrong. Its log is not.
    pub(super) fn diverge(&mut self) {
        let serves = |server: &Server| {
            server.process.as_ref().is_some_and(|process| {
                process.serving.is_some() && matches!(process.state, State::Learning { .. })
            })
        };
        let learners: Vec<Sid> = self.sids().into_iter().filter(|sid| serves(&self.servers[sid])).collect();
        let Some(sid) = self.rng.pick(&learners) else { return };
        self.tell(sid, format_args!("diverges"));
        let process = self.process(sid).expect("it serves");
        process.diverged = true;
        process.orders.push_back(Order::Distrust);
        self.step_learner(sid, learner::Input::Diverged);
    }

    pub(super) fn stand_down(&mut self, sid: Sid, reason: &str) {
        self.coverage.stand_downs += 1;
        self.tell(sid, format_args!("stands down: {reason}"));
        let process = self.process(sid).expect("has a role");
        let history = match std::mem::replace(&mut process.state, State::Looking(History::default())) {
            State::Leading { leader, .. } => leader.into_history(),
            State::Learning { learner, .. } => learner.into_history(),
            _ => unreachable!("only a role stands down"),
        };
        process.serving = None;
        process.syncs.clear();
        process.state = State::Draining(history);
        process.orders.push_back(Order::Drain);
    }

    /// Clients write by the leader.
    pub(super) fn propose(&mut self) {
        let leaders: Vec<Sid> = self.sids().into_iter().filter(|sid| self.can_propose(*sid)).collect();
        let Some(sid) = self.rng.pick(&leaders) else { return };
        let count = 1 + self.rng.below(3);
        let mut last = self.last_proposed(sid);
        let mut entries = Vec::new();
        for _ in 0..count {
            if self.epoch_length.is_used_up(last) {
                break;
            }
            last = last.next();
            self.proposed += 1;
            let entry = entry(last, self.proposed);
            self.ghosts.broadcast(sid, &entry);
            entries.push(entry);
        }
        self.tell(sid, format_args!("proposes {entries:?}"));
        self.step_leader(sid, leader::Input::Propose(entries));
    }

    pub(super) fn can_propose(&self, sid: Sid) -> bool {
        let process = self.servers[&sid].process.as_ref();
        process.is_some_and(|process| {
            process.serving.is_some() && matches!(process.state, State::Leading { .. })
        }) && !self.epoch_length.is_used_up(self.last_proposed(sid))
    }

    /// The last proposal of a leader that serves, or the mark of its epoch.
    fn last_proposed(&self, sid: Sid) -> Zxid {
        let process = self.servers[&sid].process.as_ref().expect("leads");
        let State::Leading { leader, .. } = &process.state else { unreachable!("leads") };
        leader.history().last().max(process.epoch.mark())
    }
}

fn settled_state(membership: Membership) -> ServerState {
    match membership {
        Membership::Participant => ServerState::Following,
        Membership::Observer => ServerState::Observing,
    }
}

fn entry(zxid: Zxid, number: i32) -> Arc<Entry> {
    let header = TxnHeader { session: SessionId::NONE, cxid: number, zxid, time: 0 };
    Entry::new(Txn { header, body: TxnBody::Error(number), digest: None })
}
