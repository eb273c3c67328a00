//! What comes from other servers: links, and packets by them. A notification is for the election, and what names the
//! role's tenure for the role; of the rest only a learner's first word is kept, for it may come before this server knows
//! that it leads.

use actix::prelude::*;
use slog::{debug, info, warn};

use super::{Node, State};
use crate::core::{election, leader, learner};
use crate::handle::FromPeer;
use crate::types::{Envelope, Packet, Sid, Tenure};

impl Handler<FromPeer> for Node {
    type Result = ();

    fn handle(&mut self, message: FromPeer, _: &mut Self::Context) {
        self.meter.message();
        match message {
            FromPeer::LinkUp(peer) => self.link_up(peer),
            FromPeer::LinkDown(peer) => self.link_down(peer),
            FromPeer::Packets(from, envelopes) => {
                envelopes.into_iter().for_each(|envelope| self.packet(from, envelope));
            }
        }
    }
}

impl Node {
    /// A learner has taken this server for the leader, and it is not.
    pub(super) fn send_away(&self, to: Sid, tenure: Tenure) {
        let reason = format!("server {} does not lead", self.setup.ensemble.me);
        self.setup.links.send(&[(to, tenure)], &Packet::Goodbye { reason });
    }

    fn packet(&mut self, from: Sid, envelope: Envelope) {
        let now = self.now();
        let Envelope { tenure, packet } = envelope;
        if let Packet::Notification(notification) = packet {
            return self.actors.election.do_send(election::Input::Notification { now, from, notification });
        }
        match &self.state {
            State::Leading { leader, .. } => {
                leader.do_send(leader::Input::Packet { now, from, tenure, packet });
            }
            State::Learning { learner, leader, tenure: own } if *leader == from && *own == tenure => {
                learner.tell(learner::Input::Packet { now, packet });
            }
            _ => self.unexpected(from, tenure, packet),
        }
    }

    /// A packet that is not for the role: of a learner that is early or wrong, or of a tenure that is over.
    fn unexpected(&mut self, from: Sid, tenure: Tenure, packet: Packet) {
        match packet {
            Packet::FollowerInfo { .. } | Packet::ObserverInfo { .. } => match self.state {
                State::Learning { .. } => self.send_away(from, tenure),
                _ => drop(self.early.insert(from, (tenure, packet))),
            },
            Packet::Goodbye { .. } if self.early.get(&from).is_some_and(|(early, _)| *early == tenure) => {
                self.early.remove(&from);
            }
            other => debug!(self.log, "dropped a packet of a stay that is over";
                "from" => %from, "packet" => ?other),
        }
    }

    fn link_up(&mut self, peer: Sid) {
        info!(self.log, "link up"; "peer" => %peer);
        let now = self.now();
        self.linked.insert(peer);
        self.actors.election.do_send(election::Input::LinkUp { now, peer });
        match &self.state {
            State::Leading { leader, .. } => leader.do_send(leader::Input::LinkUp { peer }),
            State::Learning { learner, leader, .. } if *leader == peer => {
                learner.tell(learner::Input::LinkUp { now });
            }
            _ => {}
        }
    }

    fn link_down(&mut self, peer: Sid) {
        warn!(self.log, "link down"; "peer" => %peer);
        let now = self.now();
        self.linked.remove(&peer);
        self.early.remove(&peer);
        self.actors.election.do_send(election::Input::LinkDown { now, peer });
        match &self.state {
            State::Leading { leader, .. } => leader.do_send(leader::Input::LinkDown { peer }),
            State::Learning { learner, leader, .. } if *leader == peer => {
                learner.tell(learner::Input::LinkDown);
            }
            _ => {}
        }
    }
}
