//! Progress: from a state in which nothing is under way, a run without faults must lead to service.
//!
//! One fair run is tried, not all of them: whoever has no leader waits until it loses patience, the server with the
//! newest log leads, as an election would have it, and the others follow. All that is sent arrives, and all that is
//! ordered is done. Then one more transaction must reach everybody.

#[cfg(test)]
use stateright::Model as _;

use super::drive::Drive;
use super::server::Role;
use super::{Action, Rule, World, Zab};
use crate::seen::{Seen, What};
use crate::wires::End;

/// Elections until everybody is in step; the first may find a follower that is ahead, or promises of a newer epoch.
const ELECTIONS: usize = 8;
/// Far more events than it takes to bring all into step.
const EVENTS: usize = 1_000;

impl Zab {
    /// Breaks a rule in `world` if a fair run from it comes to nothing, or breaks one itself.
    pub(super) fn settle(&self, world: &mut World) {
        let (mut run, unseen) = (world.clone(), Seen::default());
        let mut drive = Drive::new(self, &mut run, &unseen);
        let settled = drive.serves_after_all();
        if run.broken.is_some() {
            world.broken = run.broken;
        } else if !settled {
            Drive::new(self, world, &unseen).broken(Rule::Progress, format!("a fair run ends in {run:?}"));
        } else {
            self.seen.note(What::Settled);
        }
    }
}

#[cfg(test)]
impl Zab {
    /// What a story breaks: each event happens, and all that comes of it until everything is at rest.
    pub fn play(&self, story: &[Action]) -> Option<Rule> {
        let mut world = World::new(self.servers);
        for event in story {
            let mut possible = Vec::new();
            self.actions(&world, &mut possible);
            assert!(possible.contains(event), "{event:?} is not possible: {world:?}");
            let mut drive = Drive::new(self, &mut world, &self.seen);
            drive.act(*event);
            assert!(drive.run_to_rest(), "it comes to no rest");
            if let Some(broken) = &world.broken {
                return Some(broken.rule);
            }
        }
        None
    }
}

impl Drive<'_> {
    fn serves_after_all(&mut self) -> bool {
        let before = self.world.ghosts.committed.len();
        for _ in 0..ELECTIONS {
            let quiet = self.run_to_rest();
            if self.world.broken.is_some() || !quiet {
                return false;
            }
            match self.leader_in_service() {
                Some(leader) if self.all_serve(leader) => {
                    if self.world.ghosts.committed.len() > before {
                        return true;
                    }
                    self.act(Action::Propose(leader));
                }
                Some(leader) => self.gather(leader),
                None => self.elect(),
            }
        }
        false
    }

    /// Everything that is under way happens, in order.
    fn run_to_rest(&mut self) -> bool {
        for _ in 0..EVENTS {
            let Some(action) = (0..3).find_map(|at| self.next_at(at)) else { return true };
            self.act(action);
        }
        false
    }

    fn next_at(&self, at: usize) -> Option<Action> {
        let world = &*self.world;
        let Some(process) = &world.servers[at].process else {
            return world.exists(at).then_some(Action::Start(at));
        };
        if !process.orders.is_empty() {
            return Some(Action::Write(at));
        }
        if !process.streams.is_empty() {
            return Some(Action::Stream(at));
        }
        (0..3).find_map(|peer| {
            let (waits, end) = (!world.wires.under_way(peer, at).is_empty(), world.wires.end(at, peer));
            match end {
                _ if waits => Some(Action::Deliver { from: peer, to: at }),
                End::Cut => Some(Action::Notice { at, peer }),
                End::Up | End::Down => None,
            }
        })
    }

    /// Who serves as a leader, with a follower that does so, too.
    fn leader_in_service(&self) -> Option<usize> {
        let leads = |at: &usize| self.serves(*at) && self.world.servers[*at].is_leading();
        (0..3).filter(leads).find(|leader| (0..3).any(|at| self.serves_behind(at, *leader)))
    }

    fn serves(&self, at: usize) -> bool {
        self.world.servers[at].process.as_ref().is_some_and(|process| process.serving.is_some())
    }

    fn serves_behind(&self, at: usize, whom: usize) -> bool {
        let role = self.world.servers[at].process.as_ref().map(|process| &process.role);
        self.serves(at) && matches!(role, Some(Role::Learning { leader, .. }) if *leader == whom)
    }

    fn all_serve(&self, leader: usize) -> bool {
        let tree = |at: usize| self.world.servers[at].process.as_ref().map(|process| &process.tree);
        let mut others = (0..3).filter(|at| *at != leader && self.world.exists(*at));
        others.all(|at| self.serves_behind(at, leader) && tree(at) == tree(leader))
    }

    /// Who follows nobody follows this one; who waits for another loses patience.
    fn gather(&mut self, leader: usize) {
        for at in (0..3).filter(|at| *at != leader && self.world.exists(*at)).collect::<Vec<_>>() {
            if !self.serves_behind(at, leader) && !self.world.servers[at].is_looking() {
                self.act(Action::Silence(at));
            }
            if self.world.servers[at].is_looking() {
                self.act(Action::Follow(at, leader));
            }
        }
    }

    /// Everybody loses patience, and there is an election.
    fn elect(&mut self) {
        let all: Vec<usize> = (0..3).filter(|at| self.world.exists(*at)).collect();
        for at in &all {
            if !self.world.servers[*at].is_looking() {
                self.act(Action::Silence(*at));
            }
        }
        self.run_to_rest();
        let rank = |at: &&usize| {
            let disk = &self.world.servers[**at].disk;
            (disk.epochs.current, disk.last(), **at)
        };
        let voters = all.iter().filter(|at| self.world.servers[**at].votes());
        let leader = *voters.max_by_key(rank).expect("there are participants that have lost nothing");
        if all.iter().any(|at| !self.world.servers[*at].is_looking()) {
            return;
        }
        self.act(Action::Lead(leader));
        all.iter().filter(|at| **at != leader).for_each(|at| self.act(Action::Follow(*at, leader)));
    }
}
