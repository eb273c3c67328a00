//! The Node actor: the supervisor of one server, and the junction of everything that comes from outside
//! the roles: peers' packets and links (`peers`), finished disk work (`disk`), time.
//!
//! ```text
//!             Recovered            Elected                     RoleEnded              Drained
//!  Recovering ────────▶ Looking ────────────▶ Leading|Learning ─────────▶ Draining ──────────▶ Looking
//! ```
//!
//! A server that looks in vain for a while is cut off, and may serve clients that only want to read, if it is
//! told to: read-only mode, which ends with the election.
//!
//! A role actor lives for one tenure. What comes back from a disk or a peer names its tenure, and is
//! dropped here when that tenure is over. Between two roles the log is drained: the next vote is for what
//! is durable, and neither memory nor disk is ahead of the other (ZOOKEEPER-3642, -2845, -5094).

mod disk;
mod divergence;
mod peers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use slog::{Logger, debug, info, o};

use crate::core::history::History;
use crate::core::leader::Timing;
use crate::core::mutant::{Mutant, mutated};
use crate::core::quorum::Ensemble;
use crate::core::tree::Tree;
use crate::core::{election, leader, learner, sessions};
use crate::election::{Elected, Election};
use crate::leader::Leader;
use crate::learner::{Follower, LearnerAddr, Observer};
use crate::ports::{OnFault, PeerLinks, WallClock, Witness};
use crate::replica::{Diverged, FromNode, Replica};
use crate::role::{RoleEnded, Serving, Surroundings};
use crate::session_tracker::SessionTracker;
use crate::snapshotter::{SnapDone, SnapOrder, Snapshotter};
use crate::stats::Stats;
use crate::turn::{Halt, Meter, Monotonic, Pause, Turns, work_in_turns};
use crate::txn_log::{LogDone, LogOrder, TxnLog};
use crate::types::{EpochLength, Epochs, Membership, Millis, Packet, Phase, ServerState, Sid, Tenure, Zxid};
use divergence::Trust;

/// How often the roles, the election and the session tracker are told the time.
const TICK: Duration = Duration::from_millis(50);

/// After how many ticks, a second, the log looks at the room on its disk, besides when it has written much.
const LOOK_AT_ROOM: u64 = 20;

/// The other actors of the server, all started before the node hears anything.
#[derive(Clone)]
pub struct Actors {
    /// The log.
    pub txn_log: Addr<TxnLog>,
    /// Snapshots.
    pub snapshotter: Addr<Snapshotter>,
    /// The election.
    pub election: Addr<Election>,
    /// The tree.
    pub replica: Addr<Replica>,
    /// Session expiry.
    pub session_tracker: Addr<SessionTracker>,
}

/// What a node is made of, besides other actors.
#[derive(Clone)]
pub struct Setup {
    /// Who belongs to the ensemble.
    pub ensemble: Ensemble,
    /// Ticks and limits.
    pub timing: Timing,
    /// When an epoch has so many transactions, its leader begins the next one.
    pub epoch_length: EpochLength,
    /// How long an election may find no leader before clients may read here without one, in ms; `None` is for
    /// ever. See [`crate::brain::Parts`].
    pub read_only_after: Option<Millis>,
    /// The other servers.
    pub links: Arc<dyn PeerLinks>,
    /// For tenure numbers that go on growing over a restart.
    pub wall: Arc<dyn WallClock>,
    /// Told what must never go wrong.
    pub witness: Arc<dyn Witness>,
    /// Time.
    pub clock: Monotonic,
    /// What to do when this server cannot go on.
    pub on_fault: OnFault,
    /// Figures.
    pub stats: Arc<Stats>,
    /// The server's logger.
    pub log: Logger,
}

/// Where the server is between its roles.
enum State {
    /// The log is being loaded.
    Recovering,
    /// An election runs.
    Looking { history: History, read_only: ReadOnly },
    /// This server leads.
    Leading { leader: Addr<Leader>, tenure: Tenure },
    /// Another server leads.
    Learning { learner: LearnerAddr, leader: Sid, tenure: Tenure },
    /// The role is over; its last orders to the disk are being carried out.
    Draining { history: History },
}

/// Read-only mode, in an election that finds no leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadOnly {
    /// Not in this server.
    Off,
    /// Not yet: perhaps the others are only slow.
    From(Millis),
    /// Clients that ask for it are served.
    Serving,
}

/// See the module's story.
pub struct Node {
    setup: Setup,
    actors: Actors,
    state: State,
    /// What the epoch files hold.
    epochs: Epochs,
    /// The newest tenure number given out.
    tenure: Tenure,
    /// Servers with a connection.
    linked: BTreeSet<Sid>,
    /// Learners that think this server leads, before it thinks so itself.
    early: BTreeMap<Sid, (Tenure, Packet)>,
    /// An installed snapshot whose predecessor's log is being forgotten.
    installed: Option<(Tenure, Box<Tree>)>,
    /// A snapshot has replaced the log while this tenure was the role. If that role turns out to have ended
    /// before it could hear of it, its history is the one from before.
    replaced: Option<(Tenure, Zxid)>,
    /// Ticks so far.
    ticks: u64,
    /// When the last one was.
    ticked: Millis,
    /// The disk is nearly full.
    low: bool,
    /// See [`Recovered::doubtful`](crate::ports::Recovered::doubtful): until then this server is an observer, whatever the ensemble says.
    doubtful: bool,
    /// Is the tree what the log makes of it?
    trust: Trust,
    meter: Meter,
    log: Logger,
}

impl Node {
    /// A node whose log is still to be loaded.
    pub fn new(setup: Setup, actors: Actors) -> Node {
        let meter = Meter::new(&setup.stats, |s| &s.node);
        let log = setup.log.new(o!("actor" => "node"));
        setup.stats.quorum_size.set(setup.ensemble.voters().count() as i64);
        Node {
            setup,
            actors,
            state: State::Recovering,
            epochs: Epochs::default(),
            tenure: Tenure::default(),
            linked: BTreeSet::new(),
            early: BTreeMap::new(),
            installed: None,
            replaced: None,
            ticks: 0,
            ticked: 0,
            low: false,
            doubtful: false,
            trust: Trust::default(),
            meter,
            log,
        }
    }

    /// A number above all earlier ones of this server, those before a restart included.
    fn next_tenure(&mut self) -> Tenure {
        self.tenure = Tenure((self.tenure.0 + 1).max(self.setup.wall.now().max(0) as u64));
        self.tenure
    }

    fn now(&self) -> u64 {
        self.setup.clock.now()
    }

    fn surroundings(&self, role: &'static str) -> Surroundings {
        Surroundings {
            links: self.setup.links.clone(),
            txn_log: self.actors.txn_log.clone(),
            replica: self.actors.replica.clone(),
            session_tracker: self.actors.session_tracker.clone(),
            witness: self.setup.witness.clone(),
            clock: self.setup.clock,
            stats: self.setup.stats.clone(),
            log: self.setup.log.new(o!("actor" => role)),
        }
    }

    /// Everything durable, no role: vote.
    fn look(&mut self, history: History) {
        let (now, mut last, current) = (self.now(), history.last(), self.epochs.current);
        if mutated(Mutant::VoteByTree) {
            last = history.applied();
        }
        let stats = &self.setup.stats;
        stats.looking_count.inc();
        stats.state.set(ServerState::Looking as i64);
        stats.phase.set(Phase::Election as i64);
        let read_only = self.setup.read_only_after.map_or(ReadOnly::Off, |wait| ReadOnly::From(now + wait));
        self.state = State::Looking { history, read_only };
        let votes = !self.doubtful && self.trust.stands(now);
        self.actors.election.do_send(election::Input::Look { now, last, current, votes });
    }

    fn membership(&self) -> Membership {
        if self.doubtful { Membership::Observer } else { self.setup.ensemble.my_membership() }
    }

    fn settle(&self, state: ServerState) {
        let epoch = self.epochs.current;
        self.actors.election.do_send(election::Input::Settled { state, epoch });
    }

    fn lead(&mut self, history: History, ctx: &Context<Node>) {
        let tenure = self.next_tenure();
        self.tell_if_distrusted();
        let start = leader::Start {
            ensemble: self.setup.ensemble.clone(),
            history,
            epochs: self.epochs,
            timing: self.setup.timing,
            linked: self.linked.clone(),
            epoch_length: self.setup.epoch_length,
            now: self.now(),
        };
        let ties = crate::leader::Ties {
            snapshotter: self.actors.snapshotter.clone(),
            serving: ctx.address().recipient(),
            ended: ctx.address().recipient(),
        };
        let leader = Leader::new(start, tenure, self.surroundings("leader"), ties).start();
        let now = self.now();
        for (from, (tenure, packet)) in std::mem::take(&mut self.early) {
            leader.do_send(leader::Input::Packet { now, from, tenure, packet });
        }
        self.state = State::Leading { leader, tenure };
        self.settle(ServerState::Leading);
    }

    fn follow(&mut self, leader: Sid, history: History, ctx: &Context<Node>) {
        let tenure = self.next_tenure();
        let membership = self.membership();
        let start = learner::Start {
            leader,
            membership,
            tenure,
            history,
            epochs: self.epochs,
            timing: self.setup.timing,
            resync: self.trust.wants_snap(),
            doubtful: self.doubtful,
            linked: self.linked.contains(&leader),
            now: self.now(),
        };
        let ties = crate::learner::Ties {
            snapshotter: self.actors.snapshotter.clone(),
            serving: ctx.address().recipient(),
            ended: ctx.address().recipient(),
        };
        let (learner, state) = match membership {
            Membership::Participant => {
                let follower = Follower::new(start, self.surroundings("follower"), ties).start();
                (LearnerAddr::Follower(follower), ServerState::Following)
            }
            Membership::Observer => {
                let observer = Observer::new(start, self.surroundings("observer"), ties).start();
                (LearnerAddr::Observer(observer), ServerState::Observing)
            }
        };
        for (from, (tenure, _)) in std::mem::take(&mut self.early) {
            self.send_away(from, tenure);
        }
        self.setup.stats.leader.set(i64::from(leader.0));
        self.state = State::Learning { learner, leader, tenure };
        self.settle(state);
    }

    fn role_ended(&mut self, ended: RoleEnded) {
        let own = match &self.state {
            State::Leading { tenure, .. } | State::Learning { tenure, .. } => *tenure,
            _ => unreachable!("a role ends once, while it is the role"),
        };
        assert_eq!(own, ended.tenure, "there is one role at a time");
        let stats = &self.setup.stats;
        stats.phase.set(Phase::Election as i64);
        for gauge in [&stats.learners, &stats.synced_followers, &stats.synced_observers, &stats.leader] {
            gauge.set(0);
        }
        debug!(self.log, "draining"; "reason" => &ended.reason, "installing" => ended.installing);
        self.actors.replica.do_send(FromNode::Stop);
        // A snapshot that is being installed must be there, or not, before the next vote. Otherwise nobody
        // waits for the snapshotter, who may be busy for seconds.
        if ended.installing {
            self.actors.snapshotter.do_send(SnapOrder::Drain);
        } else {
            self.actors.txn_log.do_send(LogOrder::Drain);
        }
        let mut history = ended.history;
        if let Some((tenure, zxid)) = self.replaced.take()
            && tenure == ended.tenure
            && ended.installing
        {
            history.reset(zxid);
        }
        self.state = State::Draining { history };
    }

    fn tick(&mut self) {
        let now = self.now();
        // Behind a pause the timer makes up for what it has missed, all at once. For whom time passes one tick is
        // enough, and between two there must be time to hear what came meanwhile.
        if self.ticks > 0 && now < self.ticked + TICK.as_millis() as Millis / 2 {
            return;
        }
        self.ticked = now;
        self.ticks += 1;
        if self.ticks.is_multiple_of(LOOK_AT_ROOM) {
            self.actors.txn_log.do_send(LogOrder::LookAtRoom);
        }
        self.stand_again(now);
        // A leader tells it, behind the touches of earlier packets.
        if !matches!(self.state, State::Leading { .. }) {
            self.actors.session_tracker.do_send(sessions::Input::Tick { now });
        }
        match &self.state {
            State::Looking { read_only, .. } => {
                self.actors.election.do_send(election::Input::Tick { now });
                if matches!(read_only, ReadOnly::From(time) if now >= *time) {
                    self.serve_read_only();
                }
            }
            State::Leading { leader, .. } => leader.do_send(leader::Input::Tick { now }),
            State::Learning { learner, .. } => learner.tell(learner::Input::Tick { now }),
            State::Recovering | State::Draining { .. } => {}
        }
    }
}

impl Node {
    /// Cut off from a quorum: clients that ask for no more may read what is here, and see none of it change.
    fn serve_read_only(&mut self) {
        let State::Looking { read_only, .. } = &mut self.state else {
            unreachable!("only a server without a leader is read-only")
        };
        *read_only = ReadOnly::Serving;
        info!(self.log, "Read-only server started");
        self.actors.replica.do_send(FromNode::ServeReadOnly);
        self.setup.stats.read_only.set(1);
    }

    /// There is a leader: whoever reads here is sent away, and comes back when this server is in step.
    fn end_read_only(&self) {
        info!(self.log, "Read-only server stopped");
        self.setup.stats.read_only.set(0);
        self.actors.replica.do_send(FromNode::Stop);
    }
}

impl Actor for Node {
    type Context = Context<Node>;

    fn started(&mut self, ctx: &mut Self::Context) {
        work_in_turns(ctx);
        ctx.run_interval(TICK, |node, _| node.tick());
        let me = self.setup.ensemble.me;
        info!(self.log, "Starting quorum peer, myid={}", me; "ensemble" => ?self.setup.ensemble.members.keys());
        self.actors.txn_log.do_send(LogOrder::Recover);
    }
}

impl Turns for Node {
    fn end_of_turn(&mut self, _: &mut Self::Context) {
        self.meter.end_of_turn();
    }
}

impl Handler<Elected> for Node {
    type Result = ();

    fn handle(&mut self, elected: Elected, ctx: &mut Self::Context) {
        self.meter.message();
        let State::Looking { history, read_only } = std::mem::replace(&mut self.state, State::Recovering)
        else {
            unreachable!("an election runs only while the server is looking")
        };
        if read_only == ReadOnly::Serving {
            self.end_read_only();
        }
        if elected.leader == self.setup.ensemble.me {
            self.setup.stats.leader.set(i64::from(elected.leader.0));
            self.lead(history, ctx);
        } else {
            self.follow(elected.leader, history, ctx);
        }
    }
}

impl Handler<Serving> for Node {
    type Result = ();

    fn handle(&mut self, serving: Serving, _: &mut Self::Context) {
        self.meter.message();
        assert_eq!(serving.epoch, self.epochs.current, "the epoch is durable before a role serves");
        if self.low {
            self.tell_room();
        }
        match (&self.state, self.membership()) {
            (State::Leading { .. }, _) => self.settle(ServerState::Leading),
            (State::Learning { .. }, Membership::Participant) => self.settle(ServerState::Following),
            (State::Learning { .. }, Membership::Observer) => self.settle(ServerState::Observing),
            _ => {} // the role served and ended within one turn
        }
    }
}

impl Handler<RoleEnded> for Node {
    type Result = ();

    fn handle(&mut self, ended: RoleEnded, _: &mut Self::Context) {
        self.meter.message();
        self.role_ended(ended);
    }
}

impl Handler<Diverged> for Node {
    type Result = ();

    fn handle(&mut self, diverged: Diverged, ctx: &mut Self::Context) {
        self.meter.message();
        self.diverged(diverged.0, ctx);
    }
}

impl Handler<LogDone> for Node {
    type Result = ();

    fn handle(&mut self, done: LogDone, _: &mut Self::Context) {
        self.meter.message();
        self.log_done(done);
    }
}

impl Handler<SnapDone> for Node {
    type Result = ();

    fn handle(&mut self, done: SnapDone, _: &mut Self::Context) {
        self.meter.message();
        self.snapshot_done(done);
    }
}

impl Handler<Pause> for Node {
    type Result = ();

    fn handle(&mut self, pause: Pause, ctx: &mut Self::Context) {
        ctx.wait(tokio::time::sleep(pause.0).into_actor(self));
    }
}

impl Handler<Halt> for Node {
    type Result = ();

    fn handle(&mut self, _: Halt, ctx: &mut Self::Context) {
        match &self.state {
            State::Leading { leader, .. } => leader.do_send(Halt),
            State::Learning { learner, .. } => learner.halt(),
            _ => {}
        }
        let Actors { txn_log, snapshotter, election, replica, session_tracker } = &self.actors;
        txn_log.do_send(Halt);
        snapshotter.do_send(Halt);
        election.do_send(Halt);
        replica.do_send(Halt);
        session_tracker.do_send(Halt);
        ctx.terminate();
    }
}
