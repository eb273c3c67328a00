//! What the actors around the cores do: feed them, carry out what they say, change roles. And what everything is
//! checked against when it is said.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use zabra_actors::core::history::History;
use zabra_actors::core::leader::{self, Leader};
use zabra_actors::core::learner::{self, Learner};
use zabra_actors::core::quorum::Ensemble;
use zabra_actors::types::{
    Entry, Envelope, Epoch, Epochs, Membership, Packet, Phase, SessionId, Sid, Tenure, Txn, TxnBody,
    TxnHeader, Zxid,
};

use super::rules::{Broken, Ghosts};
use super::server::{Disk, Order, Process, Role, Stream, decode, encode, last_of};
use super::{Action, LONG_MS, Mistake, Rule, TIMING, World, Zab};
use crate::seen::{Seen, What};
use crate::story::{self, Step};
use crate::wires::End;

pub struct Drive<'a> {
    pub model: &'a Zab,
    pub world: &'a mut World,
    seen: &'a Seen,
}

/// A learner that comes before its leader knows that it leads is remembered, and so is its leaving.
pub fn may_be_early(envelope: &Envelope) -> bool {
    matches!(envelope.packet, Packet::FollowerInfo { .. } | Packet::Goodbye { .. })
}

fn entry(zxid: Zxid, by: Tenure) -> Arc<Entry> {
    let header = TxnHeader { session: SessionId(by.0 as i64), cxid: 0, zxid, time: 0 };
    Entry::new(Txn { header, body: TxnBody::Error(0), digest: None })
}

impl<'a> Drive<'a> {
    pub fn new(model: &'a Zab, world: &'a mut World, seen: &'a Seen) -> Drive<'a> {
        Drive { model, world, seen }
    }

    pub fn act(&mut self, action: Action) {
        self.world.touch(action);
        // Where a panic ends the process, the story of how it came to this is told by its hook.
        self.world.trail.add(Step::Zab(action));
        story::remember(&self.world.trail);
        let done = catch_unwind(AssertUnwindSafe(|| self.perform(action)));
        if let Err(panic) = done {
            self.broken(Rule::Assertions, story::text_of(&*panic));
            return;
        }
        self.world.forget_stale_packets();
        self.check();
    }

    fn perform(&mut self, action: Action) {
        let spent = &mut self.world.spent;
        match action {
            Action::Lead(at) => {
                spent.leads += 1;
                self.lead(at);
            }
            Action::Follow(at, leader) => {
                spent.follows += 1;
                self.follow(at, leader);
            }
            Action::Deliver { from, to } => self.deliver(from, to),
            Action::Notice { at, peer } => self.notice(at, peer),
            Action::Write(at) => self.write(at),
            Action::Stream(at) => self.stream(at),
            Action::Propose(at) => {
                spent.proposals += 1;
                self.propose(at);
            }
            Action::Sync(at) => {
                spent.syncs += 1;
                self.sync(at);
            }
            Action::Snapshot(at) => {
                spent.snapshots += 1;
                let server = self.world.server(at);
                let count = server.process().tree.len();
                server.disk.snapshot(count);
            }
            Action::Silence(at) => {
                spent.silences += 1;
                self.silence(at);
            }
            Action::Diverge(at) => {
                spent.divergences += 1;
                self.world.server(at).process().diverged = true;
                self.order(at, Order::Distrust);
                self.step_learner(at, learner::Input::Diverged);
            }
            Action::Break(a, b) => {
                spent.breaks += 1;
                self.world.wires.cut(a, b);
            }
            Action::Crash { at, written } => {
                spent.crashes += 1;
                self.crash(at, written);
            }
            Action::Start(at) => self.start(at),
            Action::PowerFailure => {
                spent.power_failures += 1;
                let running: Vec<usize> = (0..3).filter(|at| self.world.exists(*at)).collect();
                running.iter().for_each(|at| self.crash(*at, 0));
                for at in &running {
                    (0..3).for_each(|peer| self.world.wires.notice(*at, peer));
                }
                running.iter().for_each(|at| self.start(*at));
            }
        }
    }

    // --- rules ---

    pub fn broken(&mut self, rule: Rule, how: String) {
        let counts = self.model.watched.is_none_or(|watched| watched == rule);
        if counts && self.world.broken.is_none() {
            self.world.broken = Some(Broken { rule, how });
        }
    }

    fn must(&mut self, holds: bool, rule: Rule, how: impl FnOnce() -> String) {
        if !holds {
            self.broken(rule, how());
        }
    }

    fn ghosts(&mut self) -> &mut Ghosts {
        Arc::make_mut(&mut self.world.ghosts)
    }

    /// What must hold in every state.
    fn check(&mut self) {
        for at in 0..3 {
            let Some(Process { serving: Some(seen), tree, .. }) = &self.world.servers[at].process else {
                continue;
            };
            if *seen == tree.len() && *seen > 0 {
                continue;
            }
            let (seen, tree) = (*seen, tree.clone());
            if tree.len() > self.world.ghosts.committed.len() {
                self.seen.note(What::Committed);
            }
            if let Err((rule, how)) = self.ghosts().deliver(&tree, seen) {
                self.broken(rule, format!("server {}: {how}", at + 1));
            }
            if tree.len() != seen {
                self.world.server(at).process().serving = Some(tree.len());
            }
        }
        let Some(last) = self.world.ghosts.committed.last().cloned() else { return };
        let holders = (0..3).filter(|at| self.world.servers[*at].disk.holds(&last)).count();
        self.must(holders >= 2, Rule::Quorum, || format!("{last:?} is committed and on {holders} disks"));
    }

    /// A disk has changed.
    fn check_disk(&mut self, at: usize, before: (Epoch, Epoch)) {
        let Disk { epochs, .. } = self.world.servers[at].disk;
        let last = self.world.servers[at].disk.last();
        let ordered = epochs.current <= epochs.accepted;
        let grows = epochs.accepted >= before.0 && epochs.current >= before.1;
        let server = at + 1;
        self.must(ordered && grows, Rule::Epochs, || format!("server {server}: {before:?}, then {epochs:?}"));
        let known = last.epoch() <= epochs.accepted;
        self.must(known, Rule::LogEpoch, || format!("server {server} logs {last} with {epochs:?}"));
    }

    fn epochs(&self, at: usize) -> (Epoch, Epoch) {
        let epochs = self.world.servers[at].disk.epochs;
        (epochs.accepted, epochs.current)
    }

    // --- roles ---

    fn ensemble(at: usize) -> Ensemble {
        Ensemble::majority(Zab::sid(at), &[Sid(1), Sid(2), Sid(3)], &[])
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

    fn lead(&mut self, at: usize) {
        let (_, history) = self.begin(at);
        let mut ensemble = Drive::ensemble(at);
        if self.model.mistake == Some(Mistake::QuorumOfOne) {
            let me = ensemble.me;
            ensemble.members.iter_mut().filter(|(sid, _)| **sid != me).for_each(|(_, it)| it.weight = 0);
        }
        let peers = (0..self.world.servers.len()).filter(|peer| *peer != at);
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

    fn follow(&mut self, at: usize, leader: usize) {
        let (tenure, history) = self.begin(at);
        let linked = self.world.wires.end(at, leader) != End::Down;
        let server = self.world.server(at);
        let now = server.now;
        let (epochs, diverged) = (server.process().epochs, server.process().diverged);
        let resync = diverged && self.model.mistake != Some(Mistake::ResyncForgotten);
        let start = learner::Start {
            leader: Zab::sid(leader),
            membership: Membership::Participant,
            tenure,
            history,
            epochs,
            timing: TIMING,
            resync,
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

    fn send_away(&mut self, at: usize, to: usize, tenure: Tenure) {
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

    fn step_leader(&mut self, at: usize, input: leader::Input) {
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

    fn step_learner(&mut self, at: usize, input: learner::Input) {
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
                let holders = (0..3).filter(|i| self.world.servers[*i].disk.holds(&last)).count();
                self.must(!established || holders >= 2, Rule::Quorum, || {
                    format!("{last:?} is committed and on {holders} disks")
                });
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
                self.must(!diverged, Rule::RightTree, || format!("server {} serves", at + 1));
            }
            learner::Effect::CollectTouched { number } => {
                self.step_learner(at, learner::Input::Touched { number, sessions: Vec::new() });
            }
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

    // --- clients ---

    fn propose(&mut self, at: usize) {
        let mistake = self.model.mistake;
        let model = self.model;
        let process = self.world.server(at).process();
        assert!(model.can_propose(process), "a leader that has served proposes, unless its epoch is used up");
        let Role::Leading(leader) = &process.role else { unreachable!("only a leader proposes") };
        let mut zxid = leader.history().last().max(process.epoch.mark()).next();
        if mistake == Some(Mistake::HoleProposed) {
            zxid = zxid.next();
        }
        let entry = entry(zxid, process.tenure);
        let leads = self.world.ghosts.leaders.get(&zxid.epoch()) == Some(&at);
        let fresh = self.ghosts().broadcast.insert(zxid, entry.clone()).is_none();
        self.must(leads && fresh, Rule::Integrity, || format!("{zxid} is broadcast by server {}", at + 1));
        self.step_leader(at, leader::Input::Propose(vec![entry]));
    }

    fn sync(&mut self, at: usize) {
        let committed = self.world.ghosts.committed.len();
        self.world.server(at).process().syncs.push_back(committed);
        match self.world.servers[at].is_leading() {
            true => self.step_leader(at, leader::Input::Sync),
            false => self.step_learner(at, learner::Input::Sync),
        }
    }

    fn sync_done(&mut self, at: usize) {
        let process = self.world.server(at).process();
        let committed = process.syncs.pop_front().expect("somebody asked for it");
        let has = process.tree.len();
        self.seen.note(What::Synced);
        self.must(has >= committed, Rule::Sync, || format!("server {} has {has} of {committed}", at + 1));
    }

    // --- links ---

    fn send(&mut self, from: usize, to: usize, tenure: Tenure, mut packet: Packet) {
        // Text for people: states that differ in nothing else are the same.
        if let Packet::Goodbye { reason } = &mut packet {
            reason.clear();
        }
        self.world.wires.send(from, to, Envelope { tenure, packet });
    }

    fn deliver(&mut self, from: usize, to: usize) {
        let Envelope { tenure, packet } = self.world.wires.receive(from, to);
        let server = self.world.server(to);
        let (now, sid) = (server.now, Zab::sid(from));
        let own = server.tenure;
        let process = server.process();
        match (&process.role, packet) {
            (Role::Leading(_), packet) => {
                self.step_leader(to, leader::Input::Packet { now, from: sid, tenure, packet });
            }
            (Role::Learning { leader, .. }, packet) if *leader == from && own == tenure => {
                if let Packet::LeaderInfo { epoch } = packet {
                    process.announced = epoch;
                }
                self.step_learner(to, learner::Input::Packet { now, packet });
            }
            (Role::Learning { .. }, Packet::FollowerInfo { .. }) => self.send_away(to, from, tenure),
            (Role::Looking(_), packet @ Packet::FollowerInfo { .. }) => {
                process.early.insert(from, (tenure, packet));
            }
            (_, Packet::Goodbye { .. }) if process.early.get(&from).is_some_and(|it| it.0 == tenure) => {
                process.early.remove(&from);
            }
            _ => {}
        }
    }

    fn notice(&mut self, at: usize, peer: usize) {
        self.world.wires.notice(at, peer);
        let process = self.world.server(at).process();
        process.early.remove(&peer);
        match process.role {
            Role::Leading(_) => self.step_leader(at, leader::Input::LinkDown { peer: Zab::sid(peer) }),
            Role::Learning { leader, .. } if leader == peer => {
                self.step_learner(at, learner::Input::LinkDown)
            }
            _ => {}
        }
        self.mend(at, peer);
    }

    fn mend(&mut self, a: usize, b: usize) {
        let both = self.world.servers[a].process.is_some() && self.world.servers[b].process.is_some();
        if !both || !self.world.wires.mend(a, b) {
            return;
        }
        for (at, peer) in [(a, b), (b, a)] {
            let server = self.world.server(at);
            let now = server.now;
            match server.process().role {
                Role::Leading(_) => self.step_leader(at, leader::Input::LinkUp { peer: Zab::sid(peer) }),
                Role::Learning { leader, .. } if leader == peer => {
                    self.step_learner(at, learner::Input::LinkUp { now });
                }
                _ => {}
            }
        }
    }

    fn silence(&mut self, at: usize) {
        let mistake = self.model.mistake;
        let server = self.world.server(at);
        if mistake != Some(Mistake::NoTime) {
            server.now += LONG_MS;
        }
        let now = server.now;
        match server.is_leading() {
            true => self.step_leader(at, leader::Input::Tick { now }),
            false => self.step_learner(at, learner::Input::Tick { now }),
        }
    }

    // --- disks ---

    fn order(&mut self, at: usize, order: Order) {
        let mistake = self.model.mistake;
        let process = self.world.server(at).process();
        match (&order, mistake) {
            (Order::SaveEpochs(_), Some(Mistake::EpochsBeforeLog)) => {
                process.orders.push_front(order.clone())
            }
            _ => process.orders.push_back(order.clone()),
        }
        match (order, mistake) {
            (Order::Append(entries), Some(Mistake::SyncedTooEarly | Mistake::EpochsBeforeLog)) => {
                self.answer_synced(at, last_of(&entries));
            }
            (Order::SaveEpochs(epochs), Some(Mistake::EpochsSavedTooEarly)) => self.answer_saved(at, epochs),
            _ => {}
        }
    }

    fn answer_synced(&mut self, at: usize, zxid: Zxid) {
        self.step_leader(at, leader::Input::Synced { zxid });
        self.step_learner(at, learner::Input::Synced { zxid });
    }

    fn answer_saved(&mut self, at: usize, epochs: Epochs) {
        self.world.server(at).process().epochs = epochs;
        self.step_leader(at, leader::Input::EpochsSaved(epochs));
        self.step_learner(at, learner::Input::EpochsSaved(epochs));
    }

    /// The disk carries out its oldest order.
    fn write(&mut self, at: usize) {
        let before = self.epochs(at);
        let mistake = self.model.mistake;
        let server = self.world.server(at);
        let order = server.process().orders.pop_front().expect("it has orders");
        match order {
            Order::Append(entries) => {
                let zxid = last_of(&entries);
                self.append(at, entries);
                self.check_disk(at, before);
                if !matches!(mistake, Some(Mistake::SyncedTooEarly | Mistake::EpochsBeforeLog)) {
                    self.answer_synced(at, zxid);
                }
            }
            Order::SaveEpochs(epochs) => {
                server.disk.epochs = epochs;
                self.check_disk(at, before);
                if mistake != Some(Mistake::EpochsSavedTooEarly) {
                    self.answer_saved(at, epochs);
                }
            }
            Order::Truncate { to, reload } => {
                assert!(to >= last_of(&server.disk.snapshot), "a fault: {to} is below the only snapshot");
                server.disk.log.retain(|entry| entry.zxid() <= to);
                assert_eq!(server.disk.last(), to, "a fault: the log cannot end there");
                let all = server.disk.all();
                if reload {
                    server.process().tree = all;
                }
                assert!(last_of(&server.process().tree) <= to, "the tree is beyond its log");
                self.check_disk(at, before);
                self.step_learner(at, learner::Input::Truncated { zxid: to });
            }
            Order::Distrust => server.disk.diverged = true,
            Order::Store(piece) => {
                server.process().receiving.extend(&piece);
                self.step_learner(at, learner::Input::Stored { pieces: 1 });
            }
            Order::Install { zxid } => {
                let content = decode(std::mem::take(&mut server.process().receiving));
                assert_eq!(last_of(&content), zxid, "the snapshot is where SNAP says");
                let epochs = server.disk.epochs;
                server.disk = Disk { snapshot: content.clone(), log: Vec::new(), epochs, diverged: false };
                let process = server.process();
                process.diverged = false;
                process.tree = content;
                if let Role::Looking(history) = &mut process.role {
                    history.reset(zxid);
                }
                self.check_disk(at, before);
                self.step_learner(at, learner::Input::Installed { zxid: Some(zxid) });
            }
        }
    }

    fn append(&mut self, at: usize, entries: Vec<Arc<Entry>>) {
        let disk = &mut self.world.server(at).disk;
        for entry in entries {
            assert!(entry.zxid() > disk.last(), "the log goes back from {} to {}", disk.last(), entry.zxid());
            disk.log.push(entry);
        }
    }

    /// The pieces of a snapshot go out: behind what was sent before, before what waits for them.
    fn stream(&mut self, at: usize) {
        let stream = self.world.server(at).process().streams.pop_front().expect("it has one to send");
        let Stream { to, learner, content } = stream;
        let (piece, tenure, sid) = (encode(&content), learner, Zab::sid(to));
        self.send(at, to, learner, Packet::SnapSize { bytes: piece.len() as u64 });
        if !piece.is_empty() {
            self.send(at, to, learner, Packet::SnapChunk(piece));
            self.step_leader(at, leader::Input::SnapshotMoves { to: sid, tenure, pieces: 1 });
        }
        self.send(at, to, learner, Packet::SnapChunk(Bytes::new()));
        self.step_leader(at, leader::Input::SnapshotSent { to: sid, tenure });
    }

    fn crash(&mut self, at: usize, written: usize) {
        let server = self.world.server(at);
        if let Some(mut process) = server.process.take()
            && written > 0
            && let Some(Order::Append(entries)) = process.orders.pop_front()
        {
            self.seen.note(What::Torn);
            self.append(at, entries.into_iter().take(written).collect());
        }
        for peer in (0..3).filter(|peer| *peer != at) {
            self.world.wires.cut(at, peer);
            self.world.wires.notice(at, peer);
        }
    }

    fn start(&mut self, at: usize) {
        let before = self.epochs(at);
        let mistake = self.model.mistake;
        let server = self.world.server(at);
        if server.process.is_some() {
            return;
        }
        match mistake {
            Some(Mistake::EpochsForgotten) => server.disk.epochs = Epochs::default(),
            Some(Mistake::LogShortened) => drop(server.disk.log.pop()),
            _ => {}
        }
        server.start();
        self.check_disk(at, before);
        (0..3).filter(|peer| *peer != at).for_each(|peer| self.mend(at, peer));
    }
}
