//! The Follower and Observer actors: born when another server is elected, dead at LOOKING.
//!
//! Both are one shell around [`crate::core::learner`]: an observer differs only in what its core does
//! with a packet. They are two types, so that a supervisor, a log line or a test can name them.

use std::marker::PhantomData;

use actix::prelude::*;

use crate::core::learner::{Effect, Input, Learner as Core, Start};
use crate::replica::{FromRole, Role};
use crate::role::{RoleEnded, Serving, Surroundings};
use crate::session_tracker::TakeTouched;
use crate::snapshotter::{SnapOrder, Snapshotter};
use crate::turn::{Halt, Meter, Turns, work_in_turns};
use crate::txn_log::LogOrder;
use crate::types::{ServerState, Service, Sid, Tenure};

impl Message for Input {
    type Result = ();
}

/// The two kinds of learner.
pub trait Kind: 'static + Unpin {
    /// What the server says it is.
    const STATE: ServerState;
}

/// Votes and acknowledges.
pub struct Following;
/// Only listens.
pub struct Observing;

impl Kind for Following {
    const STATE: ServerState = ServerState::Following;
}

impl Kind for Observing {
    const STATE: ServerState = ServerState::Observing;
}

/// A learner that counts in quorums.
pub type Follower = Learner<Following>;
/// A learner that does not.
pub type Observer = Learner<Observing>;

/// A follower or an observer, as Node knows it.
#[derive(Clone)]
pub(crate) enum LearnerAddr {
    Follower(Addr<Follower>),
    Observer(Addr<Observer>),
}

impl LearnerAddr {
    pub(crate) fn tell(&self, input: Input) {
        match self {
            LearnerAddr::Follower(follower) => follower.do_send(input),
            LearnerAddr::Observer(observer) => observer.do_send(input),
        }
    }

    pub(crate) fn halt(&self) {
        match self {
            LearnerAddr::Follower(follower) => follower.do_send(Halt),
            LearnerAddr::Observer(observer) => observer.do_send(Halt),
        }
    }
}

/// Whom only a learner tells what.
pub struct Ties {
    /// Takes the leader's snapshot in.
    pub snapshotter: Addr<Snapshotter>,
    /// Told when the learner serves.
    pub serving: Recipient<Serving>,
    /// Told when it is over.
    pub ended: Recipient<RoleEnded>,
}

/// See the module's story.
pub struct Learner<K: Kind> {
    /// Until the actor runs.
    start: Option<Start>,
    /// `None` before it begins and once it is over.
    core: Option<Core>,
    leader: Sid,
    tenure: Tenure,
    /// The snapshotter is making the leader's snapshot this server's own.
    installing: bool,
    around: Surroundings,
    ties: Ties,
    meter: Meter,
    kind: PhantomData<K>,
}

impl<K: Kind> Learner<K> {
    /// A learner at the beginning of Discovery.
    pub fn new(start: Start, around: Surroundings, ties: Ties) -> Learner<K> {
        let meter = Meter::new(&around.stats, |s| &s.role);
        let (leader, tenure) = (start.leader, start.tenure);
        let (start, core, installing) = (Some(start), None, false);
        Learner { start, core, leader, tenure, installing, around, ties, meter, kind: PhantomData }
    }

    fn step(&mut self, input: Input, ctx: &mut Context<Self>) {
        let Some(core) = &mut self.core else { return };
        self.meter.message();
        self.installing &= !matches!(input, Input::Installed { .. });
        let mut effects = Vec::new();
        core.step(input, &mut effects);
        for effect in effects {
            self.carry_out(effect, ctx);
        }
    }

    fn carry_out(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        let Surroundings { links, txn_log, replica, stats, .. } = &self.around;
        let tenure = self.tenure;
        match effect {
            Effect::Send(packet) => links.send(&[(self.leader, tenure)], &packet),
            Effect::SaveEpochs(epochs) => txn_log.do_send(LogOrder::SaveEpochs { tenure, epochs }),
            Effect::Append(entries) => {
                stats.learner_proposal_received_count.add(entries.len() as u64);
                txn_log.do_send(LogOrder::Append { tenure, entries });
            }
            Effect::Truncate { to, reload } => txn_log.do_send(LogOrder::Truncate { tenure, to, reload }),
            Effect::Expect { bytes } => self.ties.snapshotter.do_send(SnapOrder::Expect { tenure, bytes }),
            Effect::Receive(piece) => self.ties.snapshotter.do_send(SnapOrder::Receive { tenure, piece }),
            Effect::Install { zxid } => {
                self.installing = true;
                self.ties.snapshotter.do_send(SnapOrder::Install { tenure, zxid });
            }
            Effect::Commit(entries) => {
                stats.learner_commit_received_count.add(entries.len() as u64);
                replica.do_send(FromRole::Commit(entries));
            }
            Effect::Serve { epoch, leader } => {
                let role = Role::Learner(ctx.address().recipient());
                replica.do_send(FromRole::Serve { service: Service::Learner { epoch, leader }, role });
                self.ties.serving.do_send(Serving { tenure, epoch });
            }
            Effect::GoOn { epoch } => {
                replica.do_send(FromRole::GoOn(epoch));
                self.ties.serving.do_send(Serving { tenure, epoch });
            }
            Effect::Trust => txn_log.do_send(LogOrder::Trust),
            Effect::SyncDone => replica.do_send(FromRole::SyncDone),
            Effect::RefuseWrites(refuse) => replica.do_send(FromRole::RefuseWrites(refuse)),
            Effect::Revalidated { session, valid } => {
                replica.do_send(FromRole::Revalidated { session, valid });
            }
            Effect::CollectTouched { number } => {
                let learner = ctx.address().recipient();
                self.around.session_tracker.do_send(TakeTouched { number, learner });
            }
            Effect::Phase { phase, epoch, reason } => {
                let zxid = self.core.as_ref().expect("alive while it acts").history().last();
                self.around.tell_phase(K::STATE, phase, epoch, zxid, &reason);
            }
            Effect::StandDown { reason } => self.stand_down(reason, ctx),
        }
    }

    fn stand_down(&mut self, reason: String, ctx: &mut Context<Self>) {
        let Some(core) = self.core.take() else { return };
        self.around.tell_end(K::STATE, &reason);
        let (tenure, history, installing) = (self.tenure, core.into_history(), self.installing);
        let ended = RoleEnded { tenure, history, installing, reason };
        self.ties.ended.do_send(ended);
        ctx.stop();
    }
}

impl<K: Kind> Actor for Learner<K> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        work_in_turns(ctx);
        let start = self.start.take().expect("an actor is started once");
        let mut effects = Vec::new();
        self.core = Some(Core::new(start, &mut effects));
        effects.into_iter().for_each(|effect| self.carry_out(effect, ctx));
    }
}

impl<K: Kind> Turns for Learner<K> {
    fn end_of_turn(&mut self, _: &mut Self::Context) {
        self.meter.end_of_turn();
    }
}

impl<K: Kind> Handler<Input> for Learner<K> {
    type Result = ();

    fn handle(&mut self, input: Input, ctx: &mut Self::Context) {
        self.step(input, ctx);
    }
}

impl<K: Kind> Handler<Halt> for Learner<K> {
    type Result = ();

    fn handle(&mut self, _: Halt, ctx: &mut Self::Context) {
        ctx.terminate();
    }
}
