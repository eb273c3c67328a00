//! The second model: the cores of leader and follower, from Discovery to Broadcast, on three servers.
//!
//! The cores are the production's. What is modelled is what stands around them: links (`wires`), disks that carry out
//! orders one after another and lose what they have not (`server`), and what the actors do with effects (`drive`). Who
//! leads is not elected here: any server without a role may take itself for the elected one, and any may follow it,
//! since safety must not depend on elections, which have a model of their own.
//!
//! Everything may happen in any order: a packet is delivered, an order carried out, a break noticed. What a
//! [`Bounds`] names happens only so many times. All participants are alike in the beginning, so of those to which
//! nothing has happened yet, the next event meets the one with the greatest id; the others' turn would be the same
//! story under other names.

mod drive;
mod rules;
mod server;
mod settle;

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use stateright::{Model, Property};
use zabra_actors::core::leader::Timing;
use zabra_actors::core::mutant::{self, Mutant};
use zabra_actors::types::{Envelope, Epoch, EpochLength, Membership, Millis, Sid};

use crate::seen::Seen;
use crate::story::Trail;
use crate::wires::{End, Wires};
use drive::Drive;
pub use rules::Rule;
use rules::{Broken, Ghosts};
use server::{Order, Process, Role, Server};

const TIMING: Timing = Timing { tick_ms: 200, init_limit_ms: 2_000, sync_limit_ms: 1_000 };
/// Longer than any limit.
const LONG_MS: Millis = 10_000;

/// How often things may happen, all servers together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// A server begins to lead.
    pub leads: u8,
    /// A server begins to follow.
    pub follows: u8,
    /// A transaction is proposed.
    pub proposals: u8,
    /// A server crashes; it starts again at any time after.
    pub crashes: u8,
    /// All servers crash at once, and start.
    pub power_failures: u8,
    /// A server crashes and loses its disk; it starts again, knowing that, with an empty one.
    pub lost_disks: u8,
    /// A link breaks.
    pub breaks: u8,
    /// A role hears nothing for longer than all limits.
    pub silences: u8,
    /// A client asks for a sync.
    pub syncs: u8,
    /// A server takes a snapshot of its tree.
    pub snapshots: u8,
    /// A follower finds that its tree is not what the leader foretells.
    pub divergences: u8,
    /// An epoch has so many transactions; without, more than are proposed.
    pub epoch_length: Option<u32>,
}

/// Who is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Servers {
    /// Two of three participants; the third never starts.
    Two,
    /// Three participants.
    Three,
    /// Two participants, and an observer.
    TwoAndObserver,
}

impl Servers {
    fn running(self) -> usize {
        if self == Servers::Two { 2 } else { 3 }
    }

    fn membership(self, at: usize) -> Membership {
        match self {
            Servers::TwoAndObserver if at == 2 => Membership::Observer,
            _ => Membership::Participant,
        }
    }
}

/// Who may take itself for elected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elections {
    /// Anybody: what elections decide does not matter for safety.
    Any,
    /// Whose epoch and log are as new as those of a quorum.
    Newest,
}

/// Something that is done wrong around the cores, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mistake {
    /// The disk says that it has written before it has.
    SyncedTooEarly,
    /// The same of the epoch files.
    EpochsSavedTooEarly,
    /// The log says so too early, and the epoch files overtake it.
    EpochsBeforeLog,
    /// A restart finds no epoch files.
    EpochsForgotten,
    /// A restart finds the last transaction no longer.
    LogShortened,
    /// A leader takes itself for a quorum.
    QuorumOfOne,
    /// A follower applies what is proposed, not what is committed.
    AppliedTooEarly,
    /// What is applied is not what was proposed.
    Falsified,
    /// Of several transactions that are committed at once, the first is left out.
    LeftOut,
    /// A server's ACK of NEWLEADER is left out.
    NewLeaderUnacknowledged,
    /// A follower's sync is answered at once.
    SyncUnasked,
    /// A server whose tree is wrong takes any plan, not just a SNAP.
    ResyncForgotten,
    /// Servers take an observer for a participant.
    ObserverVotes,
    /// A server that has lost its disk does not know it, and votes.
    LossUnnoticed,
    /// It knows, and votes as soon as it is in step with some leader, deposed or not.
    TrustedUnasked,
    /// A zxid is left out by the leader.
    HoleProposed,
    /// Clocks stand still: nobody loses patience.
    NoTime,
}

/// The model.
pub struct Zab {
    pub bounds: Bounds,
    pub elections: Elections,
    pub servers: Servers,
    pub mistake: Option<Mistake>,
    /// A historic mistake within the cores.
    pub mutant: Option<Mutant>,
    /// Only this rule counts.
    pub watched: Option<Rule>,
    /// In states in which only faults could happen, a fair run must lead to service.
    pub settles: bool,
    pub seen: Arc<Seen>,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Lead(usize),
    Follow(usize, usize),
    Deliver {
        from: usize,
        to: usize,
    },
    /// A server comes to know that a link is broken.
    Notice {
        at: usize,
        peer: usize,
    },
    /// A disk carries out its oldest order.
    Write(usize),
    /// A snapshot goes out.
    Stream(usize),
    Propose(usize),
    Sync(usize),
    Snapshot(usize),
    Silence(usize),
    Diverge(usize),
    Break(usize, usize),
    /// Of the append that is under way, so many transactions are durable.
    Crash {
        at: usize,
        written: usize,
    },
    Start(usize),
    PowerFailure,
    LoseDisk(usize),
}

/// All servers, what is under way between them, and what happened so far.
#[derive(Clone)]
pub struct World {
    servers: [Arc<Server>; 3],
    /// Of each server: most events change one.
    prints: [u64; 3],
    wires: Wires<Envelope>,
    ghosts: Arc<Ghosts>,
    ghosts_print: u64,
    spent: Bounds,
    /// Servers to which nothing has happened.
    untouched: [bool; 3],
    broken: Option<Broken>,
    /// How it came to this; not part of the state.
    trail: Trail,
}

fn print_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl World {
    fn new(who: Servers) -> World {
        let mut servers = [0, 1, 2].map(|at| Server::new(at, who.membership(at)));
        servers.iter_mut().take(who.running()).for_each(Server::start);
        let ghosts = Ghosts::default();
        World {
            prints: [0, 1, 2].map(|i| print_of(&servers[i])),
            servers: servers.map(Arc::new),
            wires: Wires::new(),
            ghosts_print: print_of(&ghosts),
            ghosts: Arc::new(ghosts),
            spent: Bounds::default(),
            untouched: [true; 3],
            broken: None,
            trail: Trail::default(),
        }
    }

    pub fn breaks(&self, rule: Rule) -> bool {
        self.broken.as_ref().is_some_and(|broken| broken.rule == rule)
    }

    fn server(&mut self, at: usize) -> &mut Server {
        Arc::make_mut(&mut self.servers[at])
    }

    /// Prints what has changed since.
    fn print(&mut self, before: &World) {
        for i in 0..3 {
            if !Arc::ptr_eq(&self.servers[i], &before.servers[i]) {
                self.prints[i] = print_of(&*self.servers[i]);
            }
        }
        if !Arc::ptr_eq(&self.ghosts, &before.ghosts) {
            self.ghosts_print = print_of(&*self.ghosts);
        }
    }

    /// The servers that an event would touch first; of those that are alike, it must be the greatest.
    fn is_canonical(&self, action: Action) -> bool {
        let named: &[usize] = match &action {
            Action::Lead(a) | Action::Crash { at: a, .. } => &[*a],
            Action::Follow(a, b) | Action::Break(a, b) => &[*a, *b],
            _ => return true,
        };
        let alike = |a: usize, b: usize| self.servers[a].membership == self.servers[b].membership;
        let greater =
            |low| (low + 1..3).filter(move |i| self.exists(*i) && self.untouched[*i] && alike(low, *i));
        let mut fresh = named.iter().filter(|i| self.untouched[**i]);
        fresh.all(|low| greater(*low).all(|i| named.contains(&i)))
    }

    fn touch(&mut self, action: Action) {
        match action {
            Action::Lead(a) | Action::Crash { at: a, .. } => self.untouched[a] = false,
            Action::Follow(a, b) | Action::Break(a, b) => {
                self.untouched[a] = false;
                self.untouched[b] = false;
            }
            _ => {}
        }
    }

    /// Does it take part in this world?
    fn exists(&self, at: usize) -> bool {
        self.servers[at].process.is_some() || !self.untouched[at]
    }

    /// Nothing is under way: only clients, faults and changes of roles could go on from here.
    fn is_quiet(&self) -> bool {
        (0..3).all(|at| self.is_at_rest(at)) && self.broken.is_none()
    }

    fn is_at_rest(&self, at: usize) -> bool {
        let Some(process) = &self.servers[at].process else { return !self.exists(at) };
        let hears = |peer| !self.wires.under_way(peer, at).is_empty() || self.wires.end(at, peer) == End::Cut;
        process.orders.is_empty() && process.streams.is_empty() && !(0..3).any(hears)
    }

    /// Without this, what a broken or ended stay leaves behind would make states different that are not.
    fn forget_stale_packets(&mut self) {
        for to in 0..3 {
            let (leads, stay) = match self.servers[to].process.as_ref().map(|it| (&it.role, it.tenure)) {
                Some((Role::Leading(_), _)) => (true, None),
                Some((Role::Learning { .. }, tenure)) => (false, Some(tenure)),
                _ => (false, None),
            };
            for from in 0..3 {
                if self.wires.under_way(from, to).is_empty() {
                    continue;
                }
                self.wires.retain(from, to, |it| {
                    // A leader's packet is for one stay. A learner's may be for a leader that is yet to be.
                    if Server::owner(it.tenure) == to {
                        stay == Some(it.tenure)
                    } else {
                        leads || drive::may_be_early(it)
                    }
                });
            }
        }
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.prints, self.ghosts_print, &self.wires, self.spent, self.untouched, &self.broken).hash(state);
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
        if let Some(Broken { rule: Rule::Assertions, how }) = &self.broken {
            return write!(f, "a core is lost: {how}"); // it cannot be asked any more
        }
        for (i, server) in self.servers.iter().enumerate() {
            let Server { disk, process, .. } = &**server;
            let Some(process) = process else {
                write!(f, "{}: down, {:?} {:?}; ", i + 1, disk.all(), disk.epochs)?;
                continue;
            };
            let role = match &process.role {
                Role::Looking(_) => "looking".to_owned(),
                Role::Leading(leader) => format!("leading, {}", leader.phase()),
                Role::Learning { learner, leader } => format!("follows {}, {}", leader + 1, learner.phase()),
            };
            let serving = if process.serving.is_some() { ", serves" } else { "" };
            let (held, tree) = (disk.all(), &process.tree);
            write!(f, "{}: {role}{serving}, {held:?} {:?}, tree {tree:?}; ", i + 1, disk.epochs)?;
        }
        match &self.broken {
            Some(broken) => write!(f, "BROKEN {}: {}", broken.rule.name(), broken.how),
            None => Ok(()),
        }
    }
}

impl Model for Zab {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.servers)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_some() {
            return;
        }
        for at in 0..3 {
            self.server_actions(world, at, actions);
            for peer in 0..3 {
                self.wire_actions(world, at, peer, actions);
            }
        }
        if world.spent.power_failures < self.bounds.power_failures {
            actions.push(Action::PowerFailure);
        }
        actions.retain(|action| world.is_canonical(*action));
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        mutant::with(self.mutant, || Drive::new(self, &mut next, &self.seen).act(action));
        if self.settles && next.is_quiet() {
            self.settle(&mut next);
        }
        next.print(world);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Zab>> {
        Rule::properties()
    }
}

impl Zab {
    pub(super) fn epoch_length(&self) -> EpochLength {
        self.bounds.epoch_length.map_or(EpochLength::MAX, EpochLength)
    }

    /// Does it lead, and is its epoch not used up?
    pub(super) fn can_propose(&self, process: &Process) -> bool {
        let Role::Leading(leader) = &process.role else { return false };
        !self.epoch_length().is_used_up(leader.history().last().max(process.epoch.mark()))
    }

    fn server_actions(&self, world: &World, at: usize, actions: &mut Vec<Action>) {
        let (bounds, spent, server) = (&self.bounds, &world.spent, &world.servers[at]);
        let Some(process) = &server.process else {
            if world.exists(at) {
                actions.push(Action::Start(at));
            }
            return;
        };
        match &process.role {
            Role::Looking(_) => {
                if spent.leads < bounds.leads && server.votes() && self.may_lead(world, at) {
                    actions.push(Action::Lead(at));
                }
                if spent.follows < bounds.follows {
                    let leaders = (0..3).filter(|leader| world.servers[*leader].is_leading());
                    actions.extend(leaders.map(|leader| Action::Follow(at, leader)));
                }
            }
            Role::Leading(_) | Role::Learning { .. } => {
                if spent.silences < bounds.silences {
                    actions.push(Action::Silence(at));
                }
                let follows = process.serving.is_some() && !server.is_leading();
                if spent.divergences < bounds.divergences && follows {
                    actions.push(Action::Diverge(at));
                }
            }
        }
        if !process.orders.is_empty() {
            actions.push(Action::Write(at));
        }
        if !process.streams.is_empty() {
            actions.push(Action::Stream(at));
        }
        if process.serving.is_some() {
            if spent.proposals < bounds.proposals && self.can_propose(process) {
                actions.push(Action::Propose(at));
            }
            if spent.syncs < bounds.syncs {
                actions.push(Action::Sync(at));
            }
            let durable = process.tree.len() <= server.disk.all().len();
            if spent.snapshots < bounds.snapshots
                && durable
                && process.tree.len() > server.disk.snapshot.len()
            {
                actions.push(Action::Snapshot(at));
            }
        }
        if spent.crashes < bounds.crashes {
            // Whole orders are written by Write; what is left is one that is torn.
            let torn = match process.orders.front() {
                Some(Order::Append(entries)) => entries.len(),
                _ => 1,
            };
            actions.extend((0..torn).map(|written| Action::Crash { at, written }));
        }
        let holds_something = server.disk.epochs.accepted > Epoch(0);
        if spent.lost_disks < bounds.lost_disks && server.is_participant() && holds_something {
            actions.push(Action::LoseDisk(at));
        }
    }

    fn wire_actions(&self, world: &World, at: usize, peer: usize, actions: &mut Vec<Action>) {
        if at == peer || world.servers[at].process.is_none() {
            return;
        }
        if !world.wires.under_way(peer, at).is_empty() {
            actions.push(Action::Deliver { from: peer, to: at });
        }
        if world.wires.end(at, peer) == End::Cut {
            actions.push(Action::Notice { at, peer });
        }
        let breakable = at < peer && world.wires.is_up(at, peer) && world.servers[peer].process.is_some();
        if breakable && world.spent.breaks < self.bounds.breaks {
            actions.push(Action::Break(at, peer));
        }
    }

    fn may_lead(&self, world: &World, at: usize) -> bool {
        let rank = |i: usize| (world.servers[i].disk.epochs.current, world.servers[i].disk.last());
        let others = || (0..3).filter(|i| *i != at && world.servers[*i].votes());
        self.elections == Elections::Any || others().any(|other| rank(at) >= rank(other))
    }

    pub fn sid(index: usize) -> Sid {
        Sid(index as u8 + 1)
    }

    pub fn index(sid: Sid) -> usize {
        usize::from(sid.0 - 1)
    }
}
