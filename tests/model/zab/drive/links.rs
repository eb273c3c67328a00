//! Links, and the time that passes while nothing comes by them.

use zabra_actors::core::{leader, learner};
use zabra_actors::types::{Envelope, Packet, Tenure};

use super::Drive;
use crate::zab::server::Role;
use crate::zab::{LONG_MS, Mistake, Zab};

/// A learner that comes before its leader knows that it leads is remembered, and so is its leaving.
pub fn may_be_early(envelope: &Envelope) -> bool {
    matches!(
        envelope.packet,
        Packet::FollowerInfo { .. } | Packet::ObserverInfo { .. } | Packet::Goodbye { .. }
    )
}

impl Drive<'_> {
    pub(super) fn send(&mut self, from: usize, to: usize, tenure: Tenure, mut packet: Packet) {
        // Text for people: states that differ in nothing else are the same.
        if let Packet::Goodbye { reason } = &mut packet {
            reason.clear();
        }
        self.world.wires.send(from, to, Envelope { tenure, packet });
    }

    pub(super) fn deliver(&mut self, from: usize, to: usize) {
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
            (Role::Learning { .. }, Packet::FollowerInfo { .. } | Packet::ObserverInfo { .. }) => {
                self.send_away(to, from, tenure);
            }
            (Role::Looking(_), packet @ (Packet::FollowerInfo { .. } | Packet::ObserverInfo { .. })) => {
                process.early.insert(from, (tenure, packet));
            }
            (_, Packet::Goodbye { .. }) if process.early.get(&from).is_some_and(|it| it.0 == tenure) => {
                process.early.remove(&from);
            }
            _ => {}
        }
    }

    pub(super) fn notice(&mut self, at: usize, peer: usize) {
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

    pub(super) fn mend(&mut self, a: usize, b: usize) {
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

    pub(super) fn silence(&mut self, at: usize) {
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
}
