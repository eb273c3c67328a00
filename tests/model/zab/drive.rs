//! What the actors around the cores do: feed them, carry out what they say, change roles. And what everything is
//! checked against when it is said.
//!
//! Here are the events, the clients, and what must hold in every state. Behind them stand `roles` with their effects,
//! `links` and `disks`.

mod disks;
mod links;
mod roles;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use zabra_actors::core::{leader, learner};
use zabra_actors::types::{Entry, Epoch, SessionId, Tenure, Txn, TxnBody, TxnHeader, Zxid};

use super::rules::{Broken, Ghosts};
use super::server::{Disk, Order, Process, Role};
use super::{Action, Mistake, Rule, World, Zab};
use crate::seen::{Seen, What};
use crate::story::{self, Step};
pub use links::may_be_early;

pub struct Drive<'a> {
    pub model: &'a Zab,
    pub world: &'a mut World,
    seen: &'a Seen,
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
            Action::LoseDisk(at) => {
                spent.lost_disks += 1;
                self.lose_disk(at);
            }
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
        self.must_be_on_a_quorum(&last);
    }

    /// Observers have no part in a quorum. Nor has who lost its disk, until it is in step; what it held before may be
    /// gone.
    fn must_be_on_a_quorum(&mut self, committed: &Arc<Entry>) {
        let participants = || self.world.servers.iter().filter(|server| server.is_participant());
        let holders = participants().filter(|server| server.disk.holds(committed)).count();
        let lost =
            participants().filter(|server| server.disk.doubtful && !server.disk.holds(committed)).count();
        let quorum = participants().count() / 2 + 1;
        self.must(holders + lost >= quorum, Rule::Quorum, || {
            format!("{committed:?} is committed and on {holders} disks")
        });
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
}
