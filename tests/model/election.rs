//! The first model: the election core on three servers.
//!
//! The core is the production's. What is modelled is what stands around it: links (`wires`), on which notifications
//! may be lost or come twice, time-outs, crashes, and roles that end. A role is no more than its end here, and that a
//! leader with a quorum of followers begins to serve, with a new epoch.
//!
//! An election is a good guess: that two leaders of one epoch cannot be established is Discovery's work, and the other
//! model's to check. What an election owes is a candidate that a quorum can follow without losing anything, and an end.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use stateright::{Model, Property};
use zabra_actors::core::election::{Effect, Election, Input};
use zabra_actors::core::quorum::Ensemble;
use zabra_actors::types::{Epoch, Millis, Notification, ServerState, Sid, Vote, Zxid};

use crate::seen::{Seen, What};
use crate::story::{self, Step, Trail};
use crate::wires::{End, Wires};

/// Longer than the wait for those who have not spoken, and than the first pause between notifications.
const TICK_MS: Millis = 250;
/// Rounds of a fair run, each of them a tick, until somebody leads. Two would do if all began anew.
const PATIENCE: usize = 40;

/// How often things may happen, all servers together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// A server crashes; it starts again at any time after.
    pub crashes: u8,
    /// A link breaks.
    pub breaks: u8,
    /// A notification is lost.
    pub losses: u8,
    /// A notification comes twice.
    pub repeats: u8,
    /// A server's clock goes on.
    pub ticks: u8,
    /// A role ends, and its server is looking again.
    pub ends: u8,
    /// An elected leader with a quorum of followers serves, and they with it.
    pub services: u8,
}

/// How the logs end: zxid and current epoch of each server, and whether it has a say.
pub type Logs = [(Zxid, Epoch, bool); 3];

/// Something that is done wrong around the core, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mistake {
    /// One server takes itself for a quorum.
    QuorumOfOne,
    /// A server without a say votes nevertheless.
    VotesUnasked,
    /// A vote arrives as another server's, with a better log than there is.
    Forged,
    /// Who looks again has forgotten how many elections there were.
    RoundForgotten,
    /// Clocks stand still.
    NoTime,
}

/// The model.
pub struct Elections {
    pub bounds: Bounds,
    /// Each is an initial state.
    pub logs: Vec<Logs>,
    /// So many servers run in the beginning; the others start at any time.
    pub running: usize,
    pub mistake: Option<Mistake>,
    pub watched: Option<Rule>,
    pub seen: Arc<Seen>,
}

/// What must hold in every state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    Newest,
    Truthful,
    Votes,
    OneQuorum,
    Decided,
    Assertions,
}

impl Rule {
    pub fn name(self) -> &'static str {
        match self {
            Rule::Newest => "E1: the elected one's (epoch, zxid, id) is not below those of a quorum",
            Rule::Truthful => "E2: the vote is what the elected one's log says",
            Rule::Votes => "E3: who has no say is not elected",
            Rule::OneQuorum => "E4: as long as nobody crashes, a round has one leader that a quorum elects",
            Rule::Decided => "E5: when the faults stop, one is elected by a quorum and by itself",
            Rule::Assertions => "no assertion of the core fails",
        }
    }
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Deliver {
        from: usize,
        to: usize,
    },
    Lose {
        from: usize,
        to: usize,
    },
    Repeat {
        from: usize,
        to: usize,
    },
    Tick(usize),
    Notice {
        at: usize,
        peer: usize,
    },
    Break(usize, usize),
    Crash(usize),
    Start(usize),
    /// A role ends.
    End(usize),
    /// A leader serves, with those who follow it.
    Serve(usize),
}

#[derive(Clone, Hash)]
struct Server {
    zxid: Zxid,
    current: Epoch,
    has_say: bool,
    /// How its log ended in the beginning.
    begun: (Epoch, Zxid),
    now: Millis,
    election: Option<Election>,
    /// Whom it follows, or itself.
    elected: Option<usize>,
}

/// All servers, what is under way between them, and what happened so far.
#[derive(Clone)]
pub struct World {
    servers: [Arc<Server>; 3],
    prints: [u64; 3],
    wires: Wires<Notification>,
    /// Who elected whom in which round, ever.
    elected: BTreeSet<(u64, usize, usize)>,
    spent: Bounds,
    broken: Option<(Rule, String)>,
    /// How it came to this; not part of the state.
    trail: Trail,
}

fn print_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn sid(index: usize) -> Sid {
    Sid(index as u8 + 1)
}

fn index(sid: Sid) -> usize {
    usize::from(sid.0 - 1)
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.prints, &self.wires, &self.elected, self.spent, &self.broken).hash(state);
    }
}

/// As the checker knows them apart.
impl PartialEq for World {
    fn eq(&self, other: &World) -> bool {
        print_of(self) == print_of(other)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, server) in self.servers.iter().enumerate() {
            let Server { zxid, current, has_say, elected, .. } = &**server;
            write!(f, "{}: log {zxid} in {current:?}", i + 1)?;
            if !has_say {
                write!(f, " without a say")?;
            }
            match (&server.election, elected) {
                (None, _) => write!(f, ", down; ")?,
                (Some(election), None) => write!(f, ", looking in round {}; ", election.round())?,
                (Some(election), Some(it)) => {
                    write!(f, ", elected {} in round {}; ", it + 1, election.round())?
                }
            }
        }
        match &self.broken {
            Some((rule, how)) => write!(f, "BROKEN {}: {how}", rule.name()),
            None => Ok(()),
        }
    }
}

impl World {
    fn server(&mut self, at: usize) -> &mut Server {
        Arc::make_mut(&mut self.servers[at])
    }

    fn breaks(&self, rule: Rule) -> bool {
        self.broken.as_ref().is_some_and(|broken| broken.0 == rule)
    }

    fn followers(&self, leader: usize) -> usize {
        self.servers.iter().filter(|server| server.elected == Some(leader)).count()
    }

    /// Somebody leads, and a quorum knows.
    fn is_decided(&self) -> bool {
        (0..3).any(|at| self.servers[at].elected == Some(at) && self.followers(at) >= 2)
    }
}

impl Model for Elections {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        self.logs.iter().map(|logs| self.begin(*logs)).collect()
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_some() {
            return;
        }
        let (bounds, spent) = (&self.bounds, &world.spent);
        for at in 0..3 {
            let server = &world.servers[at];
            if server.election.is_none() {
                actions.push(Action::Start(at));
                continue;
            }
            match server.elected {
                None if spent.ticks < bounds.ticks => actions.push(Action::Tick(at)),
                Some(leader) => {
                    if spent.ends < bounds.ends {
                        actions.push(Action::End(at));
                    }
                    let new = leader == at && world.followers(at) >= 2;
                    if new && spent.services < bounds.services {
                        actions.push(Action::Serve(at));
                    }
                }
                None => {}
            }
            if spent.crashes < bounds.crashes {
                actions.push(Action::Crash(at));
            }
            for peer in (0..3).filter(|peer| *peer != at) {
                self.wire_actions(world, at, peer, actions);
            }
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.trail.add(Step::Election(action));
        story::remember(&next.trail);
        let done = catch_unwind(AssertUnwindSafe(|| Drive { model: self, world: &mut next }.act(action)));
        if let Err(panic) = done {
            next.broken = Some((Rule::Assertions, story::text_of(&*panic)));
        }
        for at in 0..3 {
            if !Arc::ptr_eq(&next.servers[at], &world.servers[at]) {
                next.prints[at] = print_of(&*next.servers[at]);
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Elections>> {
        vec![
            Property::always(Rule::Newest.name(), |_: &Elections, world: &World| !world.breaks(Rule::Newest)),
            Property::always(Rule::Truthful.name(), |_: &Elections, world: &World| {
                !world.breaks(Rule::Truthful)
            }),
            Property::always(Rule::Votes.name(), |_: &Elections, world: &World| !world.breaks(Rule::Votes)),
            Property::always(Rule::OneQuorum.name(), |_: &Elections, world: &World| {
                !world.breaks(Rule::OneQuorum)
            }),
            Property::always(Rule::Assertions.name(), |_: &Elections, world: &World| {
                !world.breaks(Rule::Assertions)
            }),
            Property::always(Rule::Decided.name(), |model: &Elections, world: &World| {
                world.broken.is_some() || model.ignores(Rule::Decided) || model.comes_to_an_end(world)
            }),
        ]
    }
}

impl Elections {
    fn begin(&self, logs: Logs) -> World {
        let server = |(zxid, current, has_say): (Zxid, Epoch, bool)| {
            let server = Server {
                zxid,
                current,
                has_say,
                begun: (current, zxid),
                now: 0,
                election: None,
                elected: None,
            };
            Arc::new(server)
        };
        let mut world = World {
            servers: logs.map(server),
            prints: [0; 3],
            wires: Wires::new(),
            elected: BTreeSet::new(),
            spent: Bounds::default(),
            broken: None,
            trail: Trail::default(),
        };
        let mut drive = Drive { model: self, world: &mut world };
        for at in self.running..3 {
            for peer in (0..3).filter(|peer| *peer != at) {
                drive.world.wires.cut(at, peer);
                drive.world.wires.notice(at, peer);
                drive.world.wires.notice(peer, at);
            }
        }
        (0..self.running).for_each(|at| drive.start(at));
        world.prints = [0, 1, 2].map(|at| print_of(&*world.servers[at]));
        world
    }

    fn ignores(&self, rule: Rule) -> bool {
        self.watched.is_some_and(|watched| watched != rule)
    }

    fn wire_actions(&self, world: &World, at: usize, peer: usize, actions: &mut Vec<Action>) {
        let (bounds, spent) = (&self.bounds, &world.spent);
        if !world.wires.under_way(peer, at).is_empty() {
            let (from, to) = (peer, at);
            actions.push(Action::Deliver { from, to });
            if spent.losses < bounds.losses {
                actions.push(Action::Lose { from, to });
            }
            if spent.repeats < bounds.repeats {
                actions.push(Action::Repeat { from, to });
            }
        }
        if world.wires.end(at, peer) == End::Cut {
            actions.push(Action::Notice { at, peer });
        }
        if at < peer && world.wires.is_up(at, peer) && spent.breaks < bounds.breaks {
            actions.push(Action::Break(at, peer));
        }
    }

    /// One fair run from here: all are started, all links mended, all that is sent arrives, clocks go on, and who
    /// leads or follows without a quorum gives up.
    fn comes_to_an_end(&self, world: &World) -> bool {
        let mut run = world.clone();
        let mut drive = Drive { model: self, world: &mut run };
        for _ in 0..PATIENCE {
            drive.run_to_rest();
            if drive.world.is_decided() {
                self.seen.note(What::Settled);
                return true;
            }
            drive.lose_patience();
        }
        false
    }
}

struct Drive<'a> {
    model: &'a Elections,
    world: &'a mut World,
}

impl Drive<'_> {
    fn act(&mut self, action: Action) {
        let spent = &mut self.world.spent;
        match action {
            Action::Deliver { from, to } => {
                let notification = self.world.wires.receive(from, to);
                self.hear(from, to, notification);
            }
            Action::Lose { from, to } => {
                spent.losses += 1;
                self.world.wires.receive(from, to);
            }
            Action::Repeat { from, to } => {
                spent.repeats += 1;
                let notification = *self.world.wires.under_way(from, to).front().expect("it is under way");
                self.hear(from, to, notification);
            }
            Action::Tick(at) => {
                spent.ticks += 1;
                self.tick(at);
            }
            Action::Notice { at, peer } => self.notice(at, peer),
            Action::Break(a, b) => {
                spent.breaks += 1;
                self.world.wires.cut(a, b);
            }
            Action::Crash(at) => {
                spent.crashes += 1;
                let server = self.world.server(at);
                (server.election, server.elected) = (None, None);
                for peer in (0..3).filter(|peer| *peer != at) {
                    self.world.wires.cut(at, peer);
                    self.world.wires.notice(at, peer);
                }
            }
            Action::Start(at) => self.start(at),
            Action::End(at) => {
                spent.ends += 1;
                match self.model.mistake {
                    Some(Mistake::RoundForgotten) => self.start(at),
                    _ => self.look(at),
                }
            }
            Action::Serve(at) => {
                spent.services += 1;
                self.serve(at);
            }
        }
    }

    fn start(&mut self, at: usize) {
        let mut ensemble = Ensemble::majority(sid(at), &[Sid(1), Sid(2), Sid(3)], &[]);
        if self.model.mistake == Some(Mistake::QuorumOfOne) {
            ensemble.members.get_mut(&sid(at)).expect("it is a member").weight = 5;
        }
        self.world.server(at).election = Some(Election::new(ensemble));
        for peer in (0..3).filter(|peer| *peer != at) {
            if self.world.wires.end(at, peer) == End::Up {
                self.step(at, |now| Input::LinkUp { now, peer: sid(peer) });
            }
        }
        self.look(at);
        (0..3).filter(|peer| *peer != at).for_each(|peer| self.mend(at, peer));
    }

    fn look(&mut self, at: usize) {
        let server = self.world.server(at);
        server.elected = None;
        let (last, current) = (server.zxid, server.current);
        let votes = server.has_say || self.model.mistake == Some(Mistake::VotesUnasked);
        self.step(at, |now| Input::Look { now, last, current, votes });
    }

    fn notice(&mut self, at: usize, peer: usize) {
        self.world.wires.notice(at, peer);
        self.step(at, |now| Input::LinkDown { now, peer: sid(peer) });
        self.mend(at, peer);
    }

    fn mend(&mut self, a: usize, b: usize) {
        let both = self.world.servers[a].election.is_some() && self.world.servers[b].election.is_some();
        if both && self.world.wires.mend(a, b) {
            self.step(a, |now| Input::LinkUp { now, peer: sid(b) });
            self.step(b, |now| Input::LinkUp { now, peer: sid(a) });
        }
    }

    fn hear(&mut self, from: usize, to: usize, mut notification: Notification) {
        if self.model.mistake == Some(Mistake::Forged) && from == 0 {
            notification.vote.zxid = notification.vote.zxid.next();
        }
        self.step(to, |now| Input::Notification { now, from: sid(from), notification });
    }

    fn tick(&mut self, at: usize) {
        if self.model.mistake != Some(Mistake::NoTime) {
            self.world.server(at).now += TICK_MS;
        }
        self.step(at, |now| Input::Tick { now });
    }

    /// A leader and its followers have come to the broadcast, with a new epoch and the leader's log.
    fn serve(&mut self, leader: usize) {
        let newest = self.world.servers.iter().map(|server| server.current).max().expect("there are servers");
        let zxid = self.world.servers[leader].zxid;
        for at in 0..3 {
            if self.world.servers[at].elected == Some(leader) {
                let server = self.world.server(at);
                (server.zxid, server.current) = (zxid, newest.next());
                self.settle(at, leader);
            }
        }
    }

    fn settle(&mut self, at: usize, leader: usize) {
        let state = if at == leader { ServerState::Leading } else { ServerState::Following };
        let epoch = self.world.servers[at].current;
        self.step(at, |_| Input::Settled { state, epoch });
    }

    fn step(&mut self, at: usize, input: impl FnOnce(Millis) -> Input) {
        let server = self.world.server(at);
        let now = server.now;
        let Some(election) = &mut server.election else { return };
        let mut effects = Vec::new();
        election.step(input(now), &mut effects);
        for effect in effects {
            match effect {
                Effect::Notify { to, notification } => {
                    to.into_iter().for_each(|peer| self.world.wires.send(at, index(peer), notification));
                }
                Effect::Elected { leader, vote, round, .. } => self.elect(at, index(leader), vote, round),
            }
        }
    }

    fn elect(&mut self, at: usize, leader: usize, vote: Vote, round: u64) {
        let (seen, world) = (&self.model.seen, &mut *self.world);
        let joined = (0..3).any(|peer| peer != at && world.servers[peer].elected == Some(leader));
        seen.note(if joined { What::Joined } else { What::Elected });
        world.server(at).elected = Some(leader);
        world.elected.insert((round, at, leader));
        let rank = |i: usize| (world.servers[i].current, world.servers[i].zxid);
        // What was voted before a service goes by the logs of then, and of those that a service has made alike the
        // ids are of no matter.
        let served = world.spent.services > 0;
        let id = |i: usize| if served { sid(leader) } else { sid(i) };
        let below = |i: &usize| (world.servers[*i].begun, id(*i)) <= (rank(leader), sid(leader));
        let quorum = (0..3).filter(below).count() >= 2;
        let truthful = served || rank(leader) == (vote.epoch, vote.zxid);
        let has_say = world.servers[leader].has_say;
        let electors = |whom| world.elected.iter().filter(|it| it.0 == round && it.2 == whom).count();
        let quorums = (0..3).filter(|whom| electors(*whom) >= 2).count();
        let one_quorum = world.spent.crashes > 0 || quorums <= 1;
        self.must(quorum, Rule::Newest, || format!("server {} elects {} with {vote:?}", at + 1, leader + 1));
        self.must(truthful, Rule::Truthful, || {
            format!("server {} elects {} with {vote:?}", at + 1, leader + 1)
        });
        self.must(has_say, Rule::Votes, || format!("server {} elects {}", at + 1, leader + 1));
        self.must(one_quorum, Rule::OneQuorum, || format!("two leaders in round {round}"));
        self.settle(at, leader);
    }

    fn must(&mut self, holds: bool, rule: Rule, how: impl FnOnce() -> String) {
        if !holds && !self.model.ignores(rule) && self.world.broken.is_none() {
            self.world.broken = Some((rule, how()));
        }
    }

    fn run_to_rest(&mut self) {
        for at in 0..3 {
            if self.world.servers[at].election.is_none() {
                self.start(at);
            }
        }
        let next = |world: &World| {
            let pairs =
                (0..3).flat_map(|at| (0..3).map(move |peer| (at, peer))).filter(|(at, peer)| at != peer);
            let hears = |at: usize, peer: usize| match world.wires.end(at, peer) {
                _ if !world.wires.under_way(peer, at).is_empty() => {
                    Some(Action::Deliver { from: peer, to: at })
                }
                End::Cut => Some(Action::Notice { at, peer }),
                End::Up | End::Down => None,
            };
            pairs.into_iter().find_map(|(at, peer)| hears(at, peer))
        };
        while let Some(action) = next(self.world) {
            self.act(action);
        }
    }

    fn lose_patience(&mut self) {
        for at in 0..3 {
            match self.world.servers[at].elected {
                // Its leader does not lead, or nobody follows it.
                Some(leader)
                    if self.world.servers[leader].elected != Some(leader)
                        || self.world.followers(leader) < 2 =>
                {
                    self.look(at);
                }
                Some(_) => {}
                None => self.tick(at),
            }
        }
    }
}
