//! The Election actor: votes while this server is LOOKING, and answers who asks while it is not.
//! Around [`crate::core::election`].

use std::sync::Arc;

use actix::prelude::*;
use slog::{Logger, debug, info};

use crate::core::election::{Effect, Election as Core, Input, Pauses};
use crate::core::quorum::Ensemble;
use crate::ports::PeerLinks;
use crate::stats::Stats;
use crate::turn::{Halt, Meter, Turns, work_in_turns};
use crate::types::{Packet, Sid, Tenure};

impl Message for Input {
    type Result = ();
}

/// To Node: the round is decided.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Elected {
    /// Who leads.
    pub leader: Sid,
}

/// See the module's story.
pub struct Election {
    core: Core,
    links: Arc<dyn PeerLinks>,
    node: Recipient<Elected>,
    stats: Arc<Stats>,
    meter: Meter,
    log: Logger,
}

impl Election {
    /// An election in an ensemble.
    pub fn new(
        ensemble: Ensemble,
        pauses: Pauses,
        links: Arc<dyn PeerLinks>,
        node: Recipient<Elected>,
        stats: Arc<Stats>,
        log: Logger,
    ) -> Election {
        let meter = Meter::new(&stats, |s| &s.election);
        Election { core: Core::with_pauses(ensemble, pauses), links, node, stats, meter, log }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Notify { to, notification } => {
                let to: Vec<_> = to.into_iter().map(|sid| (sid, Tenure::default())).collect();
                debug!(self.log, "Sending notification"; "to" => ?to, "notification" => ?notification);
                self.links.send(&to, &Packet::Notification(notification));
            }
            Effect::Elected { leader, vote, round, took_ms } => {
                self.stats.election_time_us.observe(took_ms * 1000);
                info!(self.log, "LEADER ELECTION TOOK - {} MS", took_ms; "leader" => %leader,
                    "zxid" => %vote.zxid, "epoch" => %vote.epoch, "round" => round);
                self.node.do_send(Elected { leader });
            }
        }
    }
}

impl Actor for Election {
    type Context = Context<Election>;

    fn started(&mut self, ctx: &mut Self::Context) {
        work_in_turns(ctx);
    }
}

impl Turns for Election {
    fn end_of_turn(&mut self, _: &mut Self::Context) {
        self.meter.end_of_turn();
    }
}

impl Handler<Input> for Election {
    type Result = ();

    fn handle(&mut self, input: Input, _: &mut Self::Context) {
        self.meter.message();
        if let Input::Look { last, current, .. } = &input {
            info!(self.log, "LOOKING: new election"; "proposed zxid" => %last, "epoch" => %current);
        }
        let mut effects = Vec::new();
        self.core.step(input, &mut effects);
        effects.into_iter().for_each(|effect| self.carry_out(effect));
    }
}

impl Handler<Halt> for Election {
    type Result = ();

    fn handle(&mut self, _: Halt, ctx: &mut Self::Context) {
        ctx.terminate();
    }
}
