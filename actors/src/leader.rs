//! The Leader actor: born when this server is elected, dead at LOOKING. Around [`crate::core::leader`].

use std::sync::Arc;

use actix::prelude::*;
use slog::info;

use crate::core::leader::{Effect, Input, Leader as Core, Start};
use crate::core::sessions;
use crate::replica::{FromRole, Role};
use crate::role::{RoleEnded, Serving, Surroundings};
use crate::snapshotter::{SnapOrder, Snapshotter};
use crate::turn::{Halt, Meter, Turns, work_in_turns};
use crate::txn_log::LogOrder;
use crate::types::{Entry, Packet, ServerState, Service, Tenure};

impl Message for Input {
    type Result = ();
}

/// Whom only the leader tells what.
pub struct Ties {
    /// Sends the tree to learners.
    pub snapshotter: Addr<Snapshotter>,
    /// Told when the leader serves.
    pub serving: Recipient<Serving>,
    /// Told when it is over.
    pub ended: Recipient<RoleEnded>,
}

/// See the module's story.
pub struct Leader {
    /// Until the actor runs.
    start: Option<Start>,
    /// `None` before it begins and once it is over.
    core: Option<Core>,
    tenure: Tenure,
    around: Surroundings,
    ties: Ties,
    meter: Meter,
}

impl Leader {
    /// A leader at the beginning of Discovery.
    pub fn new(start: Start, tenure: Tenure, around: Surroundings, ties: Ties) -> Leader {
        let meter = Meter::new(&around.stats, |s| &s.role);
        Leader { start: Some(start), core: None, tenure, around, ties, meter }
    }

    fn step(&mut self, input: Input, ctx: &mut Context<Leader>) {
        let Some(core) = &mut self.core else { return };
        let mut effects = Vec::new();
        core.step(input, &mut effects);
        for effect in effects {
            self.carry_out(effect, ctx);
        }
    }

    fn carry_out(&mut self, effect: Effect, ctx: &mut Context<Leader>) {
        let Surroundings { links, txn_log, replica, stats, log, .. } = &self.around;
        let tenure = self.tenure;
        match effect {
            Effect::Send { to, packet } => {
                self.count(&packet);
                links.send(&to, &packet);
            }
            Effect::SaveEpochs(epochs) => txn_log.do_send(LogOrder::SaveEpochs { tenure, epochs }),
            Effect::Append(entries) => {
                self.count_proposals(&entries);
                txn_log.do_send(LogOrder::Append { tenure, entries });
            }
            Effect::SendSnapshot { to, tenure: learner, zxid: _ } => {
                stats.snap_count.inc();
                replica.do_send(FromRole::Freeze { to, learner });
            }
            Effect::SnapshotTaken { to, tenure: learner, pieces } => {
                self.ties.snapshotter.do_send(SnapOrder::Taken { to, learner, pieces });
            }
            // Behind the tree that is to be sent, wherever that is.
            Effect::StopSnapshot { to, tenure: learner } => {
                replica.do_send(FromRole::StopSnapshot { to, learner });
            }
            Effect::Commit(entries) => {
                stats.commit_count.add(entries.len() as u64);
                replica.do_send(FromRole::Commit(entries));
            }
            Effect::Serve { epoch } => {
                self.around.witness.leads(epoch);
                let role = Role::Leader(ctx.address());
                replica.do_send(FromRole::Serve { service: Service::Leader(epoch), role });
                self.ties.serving.do_send(Serving { tenure, epoch });
            }
            Effect::GoOn { epoch } => {
                self.around.witness.goes_on(epoch);
                replica.do_send(FromRole::GoOn(epoch));
                self.ties.serving.do_send(Serving { tenure, epoch });
            }
            Effect::Forwarded { from, requests } => replica.do_send(FromRole::Forwarded { from, requests }),
            Effect::Revalidate { from, tenure, session, timeout_ms } => {
                replica.do_send(FromRole::Revalidate { from, tenure, session, timeout_ms });
            }
            Effect::Touched(sessions) => {
                let now = self.around.clock.now();
                // Batch 0: only the own replica's batches are numbered.
                let touched = sessions::Input::Touched { now, batch: 0, sessions, local: Vec::new() };
                self.around.session_tracker.do_send(touched);
            }
            Effect::SyncDone => replica.do_send(FromRole::SyncDone),
            Effect::RefuseWrites(refuse) => replica.do_send(FromRole::RefuseWrites(refuse)),
            Effect::Phase { phase, epoch, reason } => {
                let zxid = self.core.as_ref().expect("alive while it acts").history().last();
                self.around.tell_phase(ServerState::Leading, phase, epoch, zxid, &reason);
            }
            Effect::Note(note) => info!(log, "{}", note),
            Effect::StandDown { reason } => self.stand_down(reason, ctx),
        }
    }

    fn count(&self, packet: &Packet) {
        match packet {
            Packet::Diff { .. } => self.around.stats.diff_count.inc(),
            Packet::Trunc { .. } => self.around.stats.trunc_count.inc(),
            _ => {}
        }
    }

    fn count_proposals(&self, entries: &[Arc<Entry>]) {
        let stats = &self.around.stats;
        stats.proposal_count.add(entries.len() as u64);
        for entry in entries {
            let size = entry.bytes.len() as i64;
            stats.last_proposal_size.set(size);
            stats.max_proposal_size.set(stats.max_proposal_size.get().max(size));
            let least = stats.min_proposal_size.get();
            stats.min_proposal_size.set(if least <= 0 { size } else { least.min(size) });
        }
    }

    fn stand_down(&mut self, reason: String, ctx: &mut Context<Leader>) {
        let Some(core) = self.core.take() else { return };
        self.around.tell_end(ServerState::Leading, &reason);
        let (tenure, history) = (self.tenure, core.into_history());
        let ended = RoleEnded { tenure, history, installing: false, reason };
        self.ties.ended.do_send(ended);
        ctx.stop();
    }

    fn show(&self) {
        let Some(core) = &self.core else { return };
        let (gauges, stats) = (core.gauges(), &self.around.stats);
        stats.learners.set(gauges.learners as i64);
        stats.synced_followers.set(gauges.synced_followers as i64);
        stats.synced_observers.set(gauges.synced_observers as i64);
        stats.pending_syncs.set(gauges.pending_syncs as i64);
    }
}

impl Actor for Leader {
    type Context = Context<Leader>;

    fn started(&mut self, ctx: &mut Self::Context) {
        work_in_turns(ctx);
        let start = self.start.take().expect("an actor is started once");
        let mut effects = Vec::new();
        self.core = Some(Core::new(start, &mut effects));
        effects.into_iter().for_each(|effect| self.carry_out(effect, ctx));
    }
}

impl Turns for Leader {
    fn end_of_turn(&mut self, ctx: &mut Self::Context) {
        self.step(Input::EndOfTurn, ctx);
        self.show();
        self.meter.end_of_turn();
    }
}

impl Handler<Input> for Leader {
    type Result = ();

    fn handle(&mut self, input: Input, ctx: &mut Self::Context) {
        self.meter.message();
        let tick = match &input {
            Input::Tick { now } => Some(sessions::Input::Tick { now: *now }),
            _ => None,
        };
        self.step(input, ctx);
        // By this way, since whoever is heard from in an earlier packet must be heard of before.
        if let Some(tick) = tick {
            self.around.session_tracker.do_send(tick);
        }
    }
}

impl Handler<Halt> for Leader {
    type Result = ();

    fn handle(&mut self, _: Halt, ctx: &mut Self::Context) {
        ctx.terminate();
    }
}
