//! The Replica actor: the tree and the order of each client's requests, around [`crate::core::replica`].
//!
//! Handlers only feed the core. At the end of the turn its effects leave in batches: all outcomes in one
//! message to the watch manager, all proposals in one to the leader, all forwarded writes in one.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use actix::prelude::*;
use slog::Logger;

use crate::core::containers::{self, ContainerManager};
use crate::core::mutant::{Mutant, mutated};
use crate::core::quota::{self, Remark};
use crate::core::quota_log::QuotaLog;
use crate::core::replica::{Divergence, Effect, Input, Replica as Core, Settings};
use crate::core::snapshots::SnapshotDue;
use crate::core::tree::Tree;
use crate::core::{leader, learner, sessions};
use crate::handle::FromClient;
use crate::leader::Leader;
use crate::ports::{WallClock, Witness};
use crate::session_tracker::SessionTracker;
use crate::snapshotter::{Asked, Save, SnapOrder, Snapshotter};
use crate::stats::{QuotaFigures, Stats};
use crate::turn::{Halt, Meter, Monotonic, Turns, work_in_turns};
use crate::txn_log::{LogOrder, TxnLog};
use crate::types::{Entry, Epoch, Forwarded, Millis, Service, SessionId, Sid, Tenure, Zxid};
use crate::watch_manager::{Outcomes, WatchManager};

/// The role actor that orders or forwards this server's writes.
#[derive(Clone)]
pub enum Role {
    /// This server leads.
    Leader(Addr<Leader>),
    /// It follows or observes.
    Learner(Recipient<learner::Input>),
}

/// What a role tells the replica.
#[derive(Message)]
#[rtype(result = "()")]
#[allow(missing_docs)] // the fields are named for what they are
pub enum FromRole {
    /// In step with the quorum: serve, through this role.
    Serve { service: Service, role: Role },
    /// Committed: apply.
    Commit(Vec<Arc<Entry>>),
    /// Leader: writes that came by a learner.
    Forwarded { from: Sid, requests: Vec<Forwarded> },
    /// Leader: may this session go on at that learner?
    Revalidate { from: Sid, tenure: Tenure, session: SessionId, timeout_ms: i32 },
    /// Learner: the leader's word on a session.
    Revalidated { session: SessionId, valid: Option<Zxid> },
    /// The oldest sync is done.
    SyncDone,
    /// Disks are nearly full: refuse writes that need room; or take them again.
    RefuseWrites(bool),
    /// The leader goes on with its next epoch.
    GoOn(Epoch),
    /// Leader: stream the tree, as it is now, to a learner.
    Freeze { to: Sid, learner: Tenure },
    /// Leader: that learner is gone.
    StopSnapshot { to: Sid, learner: Tenure },
}

/// What Node tells the replica.
#[derive(Message)]
#[rtype(result = "()")]
pub enum FromNode {
    /// Another tree.
    Install(Box<Tree>),
    /// No leader for a while: let clients read that ask for no more.
    ServeReadOnly,
    /// The role, or the read-only service, is over: close all clients.
    Stop,
}

/// What an operator asks the replica: take a snapshot now. Without an answer it could not be taken: nobody is served,
/// so that nobody knows what is committed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TakeSnapshot(pub Asked);

/// What the session tracker tells the replica: these sessions were silent for too long.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Expired {
    /// Which.
    pub sessions: Vec<SessionId>,
    /// The last touch batch known when that was decided.
    pub seen: u64,
}

/// What the replica tells Node: the tree is not what the leader has foretold, and nobody is served from it any more.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Diverged(pub Divergence);

/// Whom the replica speaks to.
pub struct Neighbours {
    /// Who decides what becomes of a tree that differs from the leader's.
    pub node: Recipient<Diverged>,
    /// Where outcomes go.
    pub watch_manager: Addr<WatchManager>,
    /// Where touches go.
    pub session_tracker: Addr<SessionTracker>,
    /// Where trees go that are to be saved.
    pub txn_log: Addr<TxnLog>,
    /// Where trees go that are to be sent.
    pub snapshotter: Addr<Snapshotter>,
}

/// What the replica knows of the world around the actors.
pub struct Outside {
    /// Dates transactions.
    pub wall: Arc<dyn WallClock>,
    /// Told what clients are shown.
    pub witness: Arc<dyn Witness>,
    /// Times touches.
    pub clock: Monotonic,
    /// Figures.
    pub stats: Arc<Stats>,
    /// The actor's logger.
    pub log: Logger,
}

/// See the module's story.
pub struct Replica {
    core: Core,
    role: Option<Role>,
    neighbours: Neighbours,
    snapshot_due: SnapshotDue,
    /// As long as it lives, a snapshot that was ordered is not written yet.
    in_work: Weak<()>,
    containers: ContainerManager,
    quota_log: QuotaLog,
    /// Which state of the quotas the figures show, and since when.
    quotas_shown: (u64, Millis),
    effects: Vec<Effect>,
    outside: Outside,
    meter: Meter,
}

/// How often the container manager is told the time.
const TICK: Duration = Duration::from_millis(50);

/// How old the figures of the quotas may be, in ms.
const QUOTAS_SHOWN_EVERY_MS: Millis = 1000;

impl Replica {
    /// A replica of a fresh tree, which serves nobody until it is told to.
    pub fn new(
        settings: Settings,
        containers: containers::Settings,
        snapshot_due: SnapshotDue,
        neighbours: Neighbours,
        outside: Outside,
    ) -> Replica {
        let meter = Meter::new(&outside.stats, |s| &s.replica);
        let core = Core::new(settings, Tree::new());
        Replica {
            core,
            role: None,
            neighbours,
            snapshot_due,
            in_work: Weak::new(),
            containers: ContainerManager::new(containers),
            quota_log: QuotaLog::default(),
            quotas_shown: (0, 0),
            effects: Vec::new(),
            outside,
            meter,
        }
    }

    /// The applied state, to answer questions.
    pub(crate) fn tree(&self) -> &Tree {
        self.core.tree()
    }

    fn step(&mut self, input: Input) {
        self.core.step(input, &mut self.effects);
    }

    /// What the container manager wants is done at once: the tree is here.
    fn containers(&mut self, input: containers::Input) {
        let (now, wall) = (self.outside.clock.now(), self.outside.wall.now());
        let mut wanted = Vec::new();
        self.containers.step(input, &mut wanted);
        for effect in wanted {
            match effect {
                containers::Effect::Look(after) => {
                    let page = self.core.mortals_over(wall, after);
                    self.containers(containers::Input::Found { now, page });
                }
                containers::Effect::Delete(path) => {
                    slog::debug!(self.outside.log, "Attempting to delete candidate container"; "path" => &*path);
                    self.step(Input::DeleteContainer { now: wall, path });
                }
            }
        }
    }

    /// Tells operators about a quota.
    fn remark(&mut self, now: Millis, remark: &Remark) {
        if let Remark::Exceeded { excess, refused: true } = remark {
            let namespace = quota::namespace(&excess.quota);
            self.outside.stats.quota_exceeded_error.change(namespace, |count| *count += 1);
        }
        if let Some((line, left_out)) = self.quota_log.line(now, remark) {
            slog::warn!(self.outside.log, "{}", line; "left_out" => left_out);
        }
    }

    /// Once in a while, if anything has changed: there may be many quotas, and each write below one changes it.
    fn show_quotas(&mut self, now: Millis) {
        let (tree, (shown, since)) = (self.core.tree(), self.quotas_shown);
        if tree.quota_changes() == shown || now < since + QUOTAS_SHOWN_EVERY_MS {
            return;
        }
        let mut figures: BTreeMap<String, QuotaFigures> = BTreeMap::new();
        for quota in tree.quotas() {
            let (count, bytes) = quota.limits.unwrap_or_default().that_count();
            let sum = figures.entry(quota::namespace(quota.path).to_string()).or_default();
            sum.count_limit += count;
            sum.bytes_limit += bytes;
            sum.count_usage += quota.used.count;
            sum.bytes_usage += quota.used.bytes;
        }
        self.outside.stats.quotas.set(figures);
        self.quotas_shown = (tree.quota_changes(), now);
    }

    fn commit(&mut self, entries: Vec<Arc<Entry>>) {
        let due = self.snapshot_due.is_due_after(&entries);
        self.step(Input::Commit(entries));
        self.bear_witness();
        // Only what a quorum has is ever in the tree while a role serves; a tentative tree is not saved, nor is a
        // wrong one.
        if !due || self.role.is_none() || self.core.is_diverged() {
            return;
        }
        if self.in_work.strong_count() > 0 {
            slog::warn!(self.outside.log, "Too busy to snap, skipping"; "zxid" => %self.core.tree().zxid());
            return;
        }
        self.order_snapshot(None);
    }

    fn order_snapshot(&mut self, asked: Option<Asked>) {
        let tree = Box::new(self.core.tree().clone());
        let in_work = Arc::new(());
        self.in_work = Arc::downgrade(&in_work);
        let order = Save { tree, asked: asked.into_iter().collect(), in_work };
        if mutated(Mutant::SnapshotAheadOfLog) {
            return self.neighbours.snapshotter.do_send(SnapOrder::Save(order));
        }
        self.neighbours.txn_log.do_send(LogOrder::RollAndSnapshot(order));
    }

    /// While a role serves, and only then, the tree holds nothing but committed transactions.
    fn bear_witness(&self) {
        if self.role.is_some() && !self.core.is_diverged() {
            self.outside.witness.delivered(self.core.tree().zxid(), self.core.tree().digest());
        }
    }

    fn tell_leader(&self, input: leader::Input) {
        if let Some(Role::Leader(leader)) = &self.role {
            leader.do_send(input);
        }
    }

    fn tell_learner(&self, input: learner::Input) {
        if let Some(Role::Learner(learner)) = &self.role {
            learner.do_send(input);
        }
    }

    fn flush(&mut self) {
        let mut outcomes = Vec::new();
        let mut proposals = Vec::new();
        let mut forwards = Vec::new();
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Outcome(outcome) => outcomes.push(outcome),
                Effect::Propose(mut entries) => proposals.append(&mut entries),
                Effect::Forward(mut requests) => forwards.append(&mut requests),
                other => {
                    // A sync stands behind the writes before it: they must leave first.
                    self.send_writes(&mut proposals, &mut forwards);
                    self.carry_out(other);
                }
            }
        }
        self.send_writes(&mut proposals, &mut forwards);
        if !outcomes.is_empty() {
            self.neighbours.watch_manager.do_send(Outcomes(outcomes));
        }
    }

    fn send_writes(&self, proposals: &mut Vec<Arc<Entry>>, forwards: &mut Vec<Forwarded>) {
        if !proposals.is_empty() {
            self.tell_leader(leader::Input::Propose(std::mem::take(proposals)));
        }
        if !forwards.is_empty() {
            self.tell_learner(learner::Input::Forward(std::mem::take(forwards)));
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        let tracker = &self.neighbours.session_tracker;
        let now = self.outside.clock.now();
        match effect {
            Effect::Outcome(_) | Effect::Propose(_) | Effect::Forward(_) => {
                unreachable!("sent in batches by the caller")
            }
            Effect::Sync => match &self.role {
                Some(Role::Leader(leader)) => leader.do_send(leader::Input::Sync),
                Some(Role::Learner(learner)) => learner.do_send(learner::Input::Sync),
                None => {}
            },
            Effect::Revalidate { session, timeout_ms } => {
                self.tell_learner(learner::Input::Revalidate { session, timeout_ms });
            }
            Effect::RevalidateAnswer { to, tenure, session, valid } => {
                self.tell_leader(leader::Input::Revalidated { to, tenure, session, valid });
            }
            Effect::Touched { batch, sessions, local } => {
                tracker.do_send(sessions::Input::Touched { now, batch, sessions, local });
            }
            Effect::Closed(session) => tracker.do_send(sessions::Input::Closed(session)),
            Effect::Lead(sessions) => {
                tracker.do_send(sessions::Input::Lead { now, sessions });
                self.containers(containers::Input::Lead { now });
            }
            Effect::Diverged(divergence) => self.tell_divergence(divergence),
            Effect::Quota(remark) => self.remark(now, &remark),
            Effect::Learn => {
                tracker.do_send(sessions::Input::Learn);
                self.containers(containers::Input::Learn);
            }
        }
    }

    /// Apache's words, for those who look for them. What becomes of it Node says.
    fn tell_divergence(&self, divergence: Divergence) {
        let Divergence { zxid, expected, actual, applied } = divergence;
        self.outside.stats.digest_mismatches_count.inc();
        slog::error!(self.outside.log, "First digest mismatch on txn: this server's tree is not what its leader has \
            foretold, and serves nobody any more"; "zxid" => %zxid, "expected digest" => format!("{expected:#x}"),
            "actual digest" => format!("{actual:#x}"), "txns since the tree was loaded" => applied);
        self.neighbours.node.do_send(Diverged(divergence));
    }

    fn show(&self) {
        let (tree, stats) = (self.core.tree(), &self.outside.stats);
        stats.znode_count.set(tree.node_count() as i64);
        stats.ephemerals_count.set(tree.ephemeral_count() as i64);
        stats.approximate_data_size.set(tree.data_size() as i64);
        stats.global_sessions.set(tree.sessions().len() as i64);
        stats.local_sessions.set(self.core.local_session_count() as i64);
        stats.last_zxid.set(tree.zxid().0);
        stats.outstanding_requests.set(self.core.outstanding() as i64);
    }
}

impl Actor for Replica {
    type Context = Context<Replica>;

    fn started(&mut self, ctx: &mut Self::Context) {
        work_in_turns(ctx);
        ctx.run_interval(TICK, |replica, _| {
            let now = replica.outside.clock.now();
            replica.containers(containers::Input::Tick { now });
            replica.show_quotas(now);
            replica.flush();
        });
    }
}

impl Turns for Replica {
    fn end_of_turn(&mut self, _: &mut Self::Context) {
        self.flush();
        self.show();
        self.meter.end_of_turn();
    }
}

impl Handler<FromClient> for Replica {
    type Result = ();

    fn handle(&mut self, message: FromClient, _: &mut Self::Context) {
        self.meter.message();
        match message {
            FromClient::Connect { conn, request } => {
                self.step(Input::Connect { now: self.outside.wall.now(), conn, request });
            }
            FromClient::Requests(requests) => {
                self.step(Input::Requests { now: self.outside.wall.now(), requests });
            }
            FromClient::Disconnected(conn) => self.step(Input::Disconnected(conn)),
        }
    }
}

impl Handler<FromRole> for Replica {
    type Result = ();

    fn handle(&mut self, message: FromRole, _: &mut Self::Context) {
        self.meter.message();
        match message {
            FromRole::Serve { service, role } => {
                slog::debug!(self.outside.log, "serving"; "service" => ?service);
                self.role = Some(role);
                self.bear_witness();
                self.step(Input::Service(service));
            }
            FromRole::GoOn(epoch) => self.step(Input::NextEpoch(epoch)),
            FromRole::Commit(entries) => self.commit(entries),
            FromRole::Forwarded { from, requests } => {
                self.step(Input::Forwarded { now: self.outside.wall.now(), from, requests });
            }
            FromRole::Revalidate { from, tenure, session, timeout_ms } => {
                self.step(Input::Revalidate { from, tenure, session, timeout_ms });
            }
            FromRole::Revalidated { session, valid } => self.step(Input::Revalidated { session, valid }),
            FromRole::SyncDone => self.step(Input::SyncDone),
            FromRole::RefuseWrites(refuse) => {
                if refuse {
                    slog::warn!(
                        self.outside.log,
                        "refusing writes: the disks of too many servers are nearly full"
                    );
                } else {
                    slog::info!(self.outside.log, "taking writes again: there is room on the disks");
                }
                self.outside.stats.writes_refused.set(i64::from(refuse));
                self.step(Input::RefuseWrites(refuse));
            }
            FromRole::Freeze { to, learner } => {
                let tree = Box::new(self.core.tree().clone());
                self.neighbours.snapshotter.do_send(SnapOrder::Stream { to, learner, tree });
            }
            FromRole::StopSnapshot { to, learner } => {
                self.neighbours.snapshotter.do_send(SnapOrder::Stop { to, learner });
            }
        }
    }
}

impl Handler<FromNode> for Replica {
    type Result = ();

    fn handle(&mut self, message: FromNode, _: &mut Self::Context) {
        self.meter.message();
        match message {
            FromNode::Install(tree) => {
                self.step(Input::Install(tree));
                if mutated(Mutant::DirtySnapshot) {
                    self.order_snapshot(None);
                }
                self.quotas_shown.0 = u64::MAX; // another tree counts its own changes
            }
            FromNode::ServeReadOnly => self.step(Input::Service(Service::ReadOnly)),
            FromNode::Stop => {
                self.flush(); // what was decided while the role lived still leaves through it
                self.role = None;
                self.step(Input::Service(Service::None));
            }
        }
    }
}

impl Handler<TakeSnapshot> for Replica {
    type Result = ();

    fn handle(&mut self, message: TakeSnapshot, _: &mut Self::Context) {
        self.meter.message();
        if self.role.is_some() && !self.core.is_diverged() {
            self.order_snapshot(Some(message.0));
        }
    }
}

impl Handler<Expired> for Replica {
    type Result = ();

    fn handle(&mut self, message: Expired, _: &mut Self::Context) {
        self.meter.message();
        let Expired { sessions, seen } = message;
        self.step(Input::Expire { now: self.outside.wall.now(), sessions, seen });
    }
}

impl Handler<Halt> for Replica {
    type Result = ();

    fn handle(&mut self, _: Halt, ctx: &mut Self::Context) {
        ctx.terminate();
    }
}
