//! Connections: in order while they last, and gone with everything under way.

use std::collections::VecDeque;

use zabra_actors::core::{election, leader, learner};
use zabra_actors::types::{Envelope, Packet, Sid, Tenure};

use super::World;
use crate::server::State;

impl World {
    pub(super) fn break_wire(&mut self, pair: (Sid, Sid)) {
        let wire = self.wires.get_mut(&pair).expect("is a wire");
        if wire.up {
            wire.up = false;
            wire.queues.clear();
            wire.unaware = [pair.0, pair.1].into();
        }
    }

    /// One end comes to know of a break long before the other may.
    pub(super) fn notice_break(&mut self, pair: (Sid, Sid)) {
        let unaware: Vec<Sid> = self.wires[&pair].unaware.iter().copied().collect();
        let Some(sid) = self.rng.pick(&unaware) else { return };
        let wire = self.wires.get_mut(&pair).expect("is a wire");
        wire.unaware.remove(&sid);
        let peer = if sid == pair.0 { pair.1 } else { pair.0 };
        self.link_down(sid, peer);
    }

    /// Both ends come to know of the break first; then a new connection is made.
    pub(super) fn mend_wire(&mut self, pair: (Sid, Sid)) {
        let now = self.now;
        let wire = self.wires.get_mut(&pair).expect("is a wire");
        if wire.up {
            return;
        }
        for sid in std::mem::take(&mut wire.unaware) {
            let peer = if sid == pair.0 { pair.1 } else { pair.0 };
            self.link_down(sid, peer);
        }
        if self.process(pair.0).is_none() || self.process(pair.1).is_none() {
            return;
        }
        self.wires.get_mut(&pair).expect("is a wire").up = true;
        for (sid, peer) in [pair, (pair.1, pair.0)] {
            self.tell(sid, format_args!("link up to {peer}"));
            let process = self.process(sid).expect("just seen");
            process.linked.insert(peer);
            let learns = matches!(process.state, State::Learning { leader, .. } if leader == peer);
            let leads = matches!(process.state, State::Leading { .. });
            self.step_election(sid, election::Input::LinkUp { now, peer });
            if learns {
                self.step_learner(sid, learner::Input::LinkUp { now });
            }
            if leads {
                self.step_leader(sid, leader::Input::LinkUp { peer });
            }
        }
    }

    pub(super) fn link_down(&mut self, sid: Sid, peer: Sid) {
        let now = self.now;
        let Some(process) = self.process(sid) else { return };
        process.linked.remove(&peer);
        process.early.remove(&peer);
        self.tell(sid, format_args!("link down to {peer}"));
        self.step_election(sid, election::Input::LinkDown { now, peer });
        match self.process(sid).expect("just seen").state {
            State::Leading { .. } => self.step_leader(sid, leader::Input::LinkDown { peer }),
            State::Learning { leader, .. } if leader == peer => {
                self.step_learner(sid, learner::Input::LinkDown);
            }
            _ => {}
        }
    }

    pub(super) fn send(&mut self, from: Sid, to: Sid, tenure: Tenure, packet: Packet) {
        let pair = (from.min(to), from.max(to));
        let Some(wire) = self.wires.get_mut(&pair) else { return };
        if wire.up {
            wire.queues.entry(to).or_default().push_back(Envelope { tenure, packet });
        }
    }

    pub(super) fn deliver_one(&mut self) {
        let mut full = Vec::new();
        for (pair, wire) in &self.wires {
            let queues = wire.queues.iter().filter(|(_, queue)| !queue.is_empty());
            full.extend(queues.map(|(to, _)| (*pair, *to)));
        }
        let Some((pair, to)) = self.rng.pick(&full) else { return };
        let wire = self.wires.get_mut(&pair).expect("is a wire");
        let envelope = wire.queues.get_mut(&to).and_then(VecDeque::pop_front).expect("is not empty");
        let from = if to == pair.0 { pair.1 } else { pair.0 };
        self.receive(to, from, envelope);
    }

    pub(super) fn receive(&mut self, sid: Sid, from: Sid, envelope: Envelope) {
        let now = self.now;
        let Envelope { tenure, packet } = envelope;
        if !matches!(packet, Packet::Ping { .. } | Packet::Notification(_)) {
            self.tell(sid, format_args!("<- {from}/{} {packet:?}", tenure.0));
        }
        let Some(process) = self.process(sid) else { return };
        if let Packet::Notification(notification) = packet {
            return self.step_election(sid, election::Input::Notification { now, from, notification });
        }
        match (&process.state, packet) {
            (State::Leading { .. }, packet) => {
                self.step_leader(sid, leader::Input::Packet { now, from, tenure, packet });
            }
            (State::Learning { leader, tenure: own, .. }, packet) if *leader == from && *own == tenure => {
                self.step_learner(sid, learner::Input::Packet { now, packet });
            }
            (state, packet @ (Packet::FollowerInfo { .. } | Packet::ObserverInfo { .. })) => {
                if matches!(state, State::Learning { .. }) {
                    let reason = "does not lead".to_owned();
                    self.send(sid, from, tenure, Packet::Goodbye { reason });
                } else {
                    process.early.insert(from, (tenure, packet));
                }
            }
            (_, Packet::Goodbye { .. }) if process.early.get(&from).is_some_and(|(it, _)| *it == tenure) => {
                process.early.remove(&from);
            }
            _ => {} // of a stay that is over
        }
    }
}
