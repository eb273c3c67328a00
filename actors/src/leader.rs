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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use slog::{Discard, Logger, o};
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;
    use crate::core::history::History;
    use crate::core::leader::Timing;
    use crate::core::quorum::Ensemble;
    use crate::ports::{NoWitness, PeerLinks};
    use crate::replica::Expired;
    use crate::session_tracker::{ReportTo, SessionTracker};
    use crate::stats::Stats;
    use crate::turn::Monotonic;
    use crate::types::{Epoch, EpochLength, Epochs, SessionId, Sid, Zxid};

    struct Void;

    impl PeerLinks for Void {
        fn send(&self, _: &[(Sid, Tenure)], _: &Packet) {}
    }

    /// Whom the tracker tells of sessions that are over.
    struct Registrar(mpsc::UnboundedSender<Vec<SessionId>>);

    impl Actor for Registrar {
        type Context = Context<Registrar>;
    }

    impl Handler<Expired> for Registrar {
        type Result = ();

        fn handle(&mut self, expired: Expired, _: &mut Self::Context) {
            self.0.send(expired.sessions).unwrap();
        }
    }

    /// An actor that is not there.
    fn nobody<A: Actor<Context = Context<A>>>() -> Addr<A> {
        Context::<A>::new().address()
    }

    /// A new leader of three servers, and its tracker.
    fn leader(session_tracker: &Addr<SessionTracker>) -> Addr<Leader> {
        let stats = Arc::new(Stats::default());
        let around = Surroundings {
            links: Arc::new(Void),
            txn_log: nobody(),
            replica: nobody(),
            session_tracker: session_tracker.clone(),
            witness: Arc::new(NoWitness),
            clock: Monotonic::start(),
            stats,
            log: Logger::root(Discard, o!()),
        };
        let ensemble = Ensemble::majority(Sid(1), &[Sid(1), Sid(2), Sid(3)], &[]);
        let start = Start {
            ensemble,
            history: History::default(),
            epochs: Epochs::default(),
            timing: Timing { tick_ms: 500, init_limit_ms: 5_000, sync_limit_ms: 2_500 },
            linked: BTreeSet::from([Sid(2), Sid(3)]),
            epoch_length: EpochLength::MAX,
            now: 0,
        };
        let (serving, ended) = (nobody::<crate::node::Node>(), nobody::<crate::node::Node>());
        let ties = Ties { snapshotter: nobody(), serving: serving.recipient(), ended: ended.recipient() };
        Leader::new(start, Tenure(1), around, ties).start()
    }

    /// The tracker hears of time by the leader, and so behind whoever was heard of in an earlier packet.
    #[test]
    fn sessions_of_earlier_packets_are_heard_of_before_a_tick() {
        const HEARD: SessionId = SessionId(1);
        const SILENT: SessionId = SessionId(2);
        System::new().block_on(async {
            let stats = Arc::new(Stats::default());
            let tracker = SessionTracker::new(500, &stats, Logger::root(Discard, o!())).start();
            let (sender, mut expired) = mpsc::unbounded_channel();
            tracker.do_send(ReportTo(Registrar(sender).start().recipient()));
            let sessions = vec![(HEARD, 100), (SILENT, 100)];
            tracker.do_send(sessions::Input::Lead { now: 0, sessions });
            let leader = leader(&tracker);
            let says = |packet| Input::Packet { now: 1, from: Sid(2), tenure: Tenure(1), packet };
            leader.do_send(says(Packet::FollowerInfo { accepted: Epoch(0) }));
            leader.do_send(Input::EpochsSaved(Epochs { accepted: Epoch(1), current: Epoch(0) }));
            leader.do_send(says(Packet::AckEpoch { last: Zxid::ZERO, current: Some(Epoch(0)) }));
            leader.do_send(says(Packet::Ping { number: 0, touched: vec![(HEARD, 1_000_000)] }));
            leader.do_send(Input::Tick { now: 500 });
            leader.do_send(Input::Tick { now: 550 }); // speaks the verdict on the one before
            let over = timeout(Duration::from_secs(10), expired.recv()).await;
            assert_eq!(over.expect("the tracker is told the time"), Some(vec![SILENT]));
        });
    }
}
