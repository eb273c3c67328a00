//! The SessionTracker actor: expires silent sessions on the leader, collects touches on a learner.
//! Around [`crate::core::sessions`].

use std::sync::Arc;

use actix::prelude::*;
use slog::{Logger, info};

use crate::core::learner;
use crate::core::sessions::{Effect, Input, Sessions};
use crate::replica::Expired;
use crate::stats::Stats;
use crate::turn::{Halt, Meter, Turns, work_in_turns};
use crate::types::Millis;

impl Message for Input {
    type Result = ();
}

/// A PING came: hand the touches to the learner that must answer it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TakeTouched {
    /// The PING's number, to be repeated.
    pub number: u64,
    /// The learner.
    pub learner: Recipient<learner::Input>,
}

/// Who is told of expired sessions. Sent once, before anything else: tracker and replica know each other.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ReportTo(pub Recipient<Expired>);

/// See the module's story.
pub struct SessionTracker {
    core: Sessions,
    replica: Option<Recipient<Expired>>,
    meter: Meter,
    log: Logger,
}

impl SessionTracker {
    /// A tracker whose buckets are a tick wide.
    pub fn new(tick_ms: Millis, stats: &Arc<Stats>, log: Logger) -> SessionTracker {
        let meter = Meter::new(stats, |s| &s.session_tracker);
        SessionTracker { core: Sessions::new(tick_ms), replica: None, meter, log }
    }

    /// The sessions, to answer questions.
    pub(crate) fn sessions(&self) -> &Sessions {
        &self.core
    }

    fn step(&mut self, input: Input) -> Vec<Effect> {
        self.meter.message();
        let mut effects = Vec::new();
        self.core.step(input, &mut effects);
        effects
    }
}

impl Actor for SessionTracker {
    type Context = Context<SessionTracker>;

    fn started(&mut self, ctx: &mut Self::Context) {
        work_in_turns(ctx);
    }
}

impl Turns for SessionTracker {
    fn end_of_turn(&mut self, _: &mut Self::Context) {
        self.meter.end_of_turn();
    }
}

impl Handler<Input> for SessionTracker {
    type Result = ();

    fn handle(&mut self, input: Input, _: &mut Self::Context) {
        for effect in self.step(input) {
            let Effect::Expire { sessions, seen } = effect else {
                unreachable!("touches are handed over only when they are asked for")
            };
            for session in &sessions {
                info!(self.log, "Expiring session"; "session" => %session);
            }
            if let Some(replica) = &self.replica {
                replica.do_send(Expired { sessions, seen });
            }
        }
    }
}

impl Handler<TakeTouched> for SessionTracker {
    type Result = ();

    fn handle(&mut self, message: TakeTouched, _: &mut Self::Context) {
        let mut touched = Vec::new();
        for effect in self.step(Input::TakeTouched) {
            if let Effect::Touched(sessions) = effect {
                touched = sessions;
            }
        }
        message.learner.do_send(learner::Input::Touched { number: message.number, sessions: touched });
    }
}

impl Handler<ReportTo> for SessionTracker {
    type Result = ();

    fn handle(&mut self, message: ReportTo, _: &mut Self::Context) {
        self.replica = Some(message.0);
    }
}

impl Handler<Halt> for SessionTracker {
    type Result = ();

    fn handle(&mut self, _: Halt, ctx: &mut Self::Context) {
        ctx.terminate();
    }
}
