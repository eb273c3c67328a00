//! The schedule of a run: which fault happens when. It is drawn before the run begins, as data, so that a run
//! that fails can be made smaller by leaving faults out.

use zabra_actors::types::Sid;

use super::options::{Options, Scenario, Shape};
use super::rng::Rng;
use crate::disk::Injected;

/// A server, as the schedule names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// This one.
    Server(Sid),
    /// Whoever leads then, if anybody does.
    Leader,
    /// The n-th of the participants that do not lead then.
    Follower(u8),
}

/// Which way a server is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It hears nothing.
    In,
    /// It is not heard.
    Out,
    /// Neither.
    Both,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the fields are named for what they are
pub enum Fault {
    /// kill -9, or a power cut, which loses and tears what was not synced.
    Crash { who: Who, power: bool },
    /// The same of all servers at once.
    CrashAll { power: bool },
    /// In the middle of whatever it does: instead of the n-th packet that it sends.
    CrashAtPacket { who: Who, packet: u64 },
    /// All that are down are started.
    StartAll,
    /// Both ends of a link are told that it is gone.
    Reset { a: Sid, b: Sid },
    /// The same of all links of a server.
    ResetAll { who: Who },
    /// Only one is.
    HalfOpen { aware: Sid, unaware: Sid },
    /// What one sends to the other stalls.
    Stall { from: Sid, to: Sid },
    /// A server is cut off from all others; its clients still reach it.
    Isolate { who: Who, way: Way },
    /// What the leader sends comes only to its n-th follower.
    OnlyOneHears { follower: u8 },
    /// These are on one side, all others on the other; not always both ways.
    Split { left: Vec<Sid>, both_ways: bool },
    /// A server and its clients hear nothing of each other.
    StallClients { who: Who },
    /// A server is so much slower to reach.
    SlowPeer { who: Who, by_ms: u64 },
    /// The network is well again.
    HealNetwork,
    /// The process stands still.
    Pause { who: Who, ms: u64 },
    /// Its clock is set.
    JumpClock { who: Who, ms: i64 },
    /// Its disk takes its time.
    SlowDisk { who: Who, max_ms: u64 },
    /// Its disk fails at the n-th change.
    FailDisk { who: Who, call: u64, fault: Injected },
    /// Its disk is full.
    FillDisk { who: Who },
    /// A byte of a file is not what was written. At a minority of the servers, the same ones for a whole run.
    Rot { who: Who },
    /// The disks are well again.
    HealDisks,
}

/// A fault and its time, in ms.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// When.
    pub at: u64,
    /// What.
    pub fault: Fault,
}

/// What faults may come, and how likely each is.
type Menu = Vec<(u64, Kind)>;

/// A kind of fault, or a few in a row that do harm together.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Crash,
    CrashLeader,
    CrashAll,
    CrashAtPacket,
    StartAll,
    Reset,
    HalfOpen,
    Stall,
    Split,
    Isolate,
    StallClients,
    SlowPeer,
    HealNetwork,
    Pause,
    JumpClock,
    SlowDisk,
    FailDisk,
    FillDisk,
    Rot,
    HealDisks,
    /// A leader that does not know that it is over.
    Depose,
    /// A leader whose followers elect another while it knows nothing of it.
    Outvote,
    /// One follower alone has what the leader proposed, and is killed.
    StrandTail,
    /// A leader dies with what nobody else has, and comes back.
    LoseTail,
    /// A server comes back far behind, and it or the leader is interrupted while it catches up.
    CatchUp,
    /// The same, and its links are reset again and again.
    Flap,
    /// A leader hears nothing more of those who log what it proposes, until they come back to it.
    Return,
}

/// Draws the schedule of a run.
pub fn draw(options: &Options, shape: &Shape) -> Vec<Step> {
    let rng = Rng::stream(options.seed, "faults");
    let gap = rng.pick(&[150, 500, 1500, 4000]);
    let menu = menu(options.scenario, &rng);
    let sids: Vec<Sid> = (1..=shape.participants + shape.observers).map(Sid).collect();
    let mut artist = Artist { rng, shape, sids, steps: Vec::new(), rotten: Vec::new() };
    let mut at = 0;
    loop {
        at += artist.rng.within(1..2 * gap);
        if at >= options.seconds * 1000 || menu.is_empty() {
            break;
        }
        let kind = artist.rng.weighted(&menu);
        at = artist.draw(at, kind);
    }
    artist.steps.sort_by_key(|step| step.at);
    artist.steps
}

/// The kinds of a scenario. What brings things back to life is always among them.
fn menu(scenario: Scenario, rng: &Rng) -> Menu {
    use Kind::*;
    let chosen: Menu = match scenario {
        Scenario::Calm => return Vec::new(),
        Scenario::Crashes => {
            vec![(3, Crash), (4, CrashLeader), (1, CrashAll), (3, CrashAtPacket), (1, CatchUp), (1, Reset)]
        }
        Scenario::Power => vec![(3, Crash), (3, CrashLeader), (3, CrashAll), (1, FailDisk), (1, StrandTail)],
        Scenario::Partitions => {
            vec![
                (3, Reset),
                (3, HalfOpen),
                (3, Stall),
                (3, Split),
                (3, Isolate),
                (1, StallClients),
                (1, SlowPeer),
            ]
        }
        Scenario::Deposed => vec![(6, Depose), (1, Crash), (1, Isolate)],
        Scenario::Tails => {
            vec![(5, StrandTail), (5, LoseTail), (1, CrashLeader), (1, CrashAll), (1, Isolate)]
        }
        Scenario::Disks => {
            vec![
                (3, SlowDisk),
                (4, FailDisk),
                (1, FillDisk),
                (1, Rot),
                (3, HealDisks),
                (2, Crash),
                (1, CrashAll),
            ]
        }
        Scenario::Returns => vec![(20, Return), (1, Crash), (1, SlowDisk), (1, HealDisks)],
        Scenario::Rot => {
            vec![(6, Rot), (4, Crash), (1, CrashLeader), (1, CrashAll), (1, Isolate), (2, StrandTail)]
        }
        Scenario::Pauses => vec![(6, Pause), (3, JumpClock), (1, Crash), (1, CrashLeader)],
        Scenario::Catchup => vec![(6, CatchUp), (4, Flap), (1, CrashAll), (1, CrashLeader), (1, LoseTail)],
        Scenario::Stale => vec![(20, Outvote)],
        Scenario::Swarm => swarm(rng),
    };
    let power = scenario == Scenario::Power;
    chosen.into_iter().chain([(if power { 6 } else { 4 }, StartAll), (3, HealNetwork)]).collect()
}

/// Each kind is there in half of the seeds, and not always as likely.
fn swarm(rng: &Rng) -> Menu {
    use Kind::*;
    let all = [
        Crash,
        CrashLeader,
        CrashAll,
        CrashAtPacket,
        Reset,
        HalfOpen,
        Stall,
        Split,
        Isolate,
        StallClients,
        SlowPeer,
        Pause,
        JumpClock,
        SlowDisk,
        FailDisk,
        FillDisk,
        Rot,
        HealDisks,
        Depose,
        StrandTail,
        LoseTail,
        CatchUp,
    ];
    all.into_iter().map(|kind| (rng.pick(&[0, 0, 1, 3]), kind)).filter(|(weight, _)| *weight > 0).collect()
}

struct Artist<'a> {
    rng: Rng,
    shape: &'a Shape,
    sids: Vec<Sid>,
    steps: Vec<Step>,
    /// The servers whose files may rot.
    rotten: Vec<Sid>,
}

impl Artist<'_> {
    fn add(&mut self, at: u64, fault: Fault) {
        self.steps.push(Step { at, fault });
    }

    fn server(&self) -> Sid {
        self.rng.pick(&self.sids)
    }

    fn who(&self) -> Who {
        if self.rng.percent(30) { Who::Leader } else { Who::Server(self.server()) }
    }

    fn follower(&self) -> u8 {
        self.rng.within(0..u64::from(self.shape.participants.max(2) - 1)) as u8
    }

    /// A time that is short, long, or about a limit.
    fn duration(&self) -> u64 {
        let limit = self.shape.timing.sync_limit_ms;
        match self.rng.within(0..3) {
            0 => self.rng.within(2..100),
            1 => self.rng.within(100..limit),
            _ => self.rng.within(limit..2 * limit),
        }
    }

    /// Adds faults from `at` on; returns when the last of them happens.
    fn draw(&mut self, at: u64, kind: Kind) -> u64 {
        let power = self.rng.percent(50);
        let who = self.who();
        let (a, b) = (self.server(), self.server());
        let fault = match kind {
            Kind::Crash => Fault::Crash { who: Who::Server(a), power },
            Kind::CrashLeader => Fault::Crash { who: Who::Leader, power },
            Kind::CrashAll => Fault::CrashAll { power },
            Kind::CrashAtPacket => Fault::CrashAtPacket { who, packet: self.rng.within(1..60) },
            Kind::StartAll => Fault::StartAll,
            Kind::Reset | Kind::HalfOpen | Kind::Stall if a == b => return at,
            Kind::Rot if self.shape.participants < 3 => return at, // there must be others that have everything
            Kind::Reset => Fault::Reset { a, b },
            Kind::HalfOpen => Fault::HalfOpen { aware: a, unaware: b },
            Kind::Stall => Fault::Stall { from: a, to: b },
            Kind::Split => {
                let left = self.sids.iter().copied().filter(|_| self.rng.percent(50)).collect();
                Fault::Split { left, both_ways: self.rng.percent(70) }
            }
            Kind::Isolate => Fault::Isolate { who, way: self.rng.pick(&[Way::In, Way::Out, Way::Both]) },
            Kind::StallClients => Fault::StallClients { who },
            Kind::SlowPeer => Fault::SlowPeer { who, by_ms: self.rng.pick(&[20, 100, 500]) },
            Kind::HealNetwork => Fault::HealNetwork,
            Kind::Pause => Fault::Pause { who, ms: self.duration() },
            Kind::JumpClock => {
                let ms = self.rng.pick(&[10, 1000, 60_000, 86_400_000, 1 << 40]);
                Fault::JumpClock { who, ms: if power { ms } else { -ms } }
            }
            Kind::SlowDisk => Fault::SlowDisk { who, max_ms: self.rng.pick(&[2, 30, 400]) },
            Kind::FailDisk => {
                let fault = self.rng.pick(&[Injected::Io, Injected::Full, Injected::Crash, Injected::Crash]);
                Fault::FailDisk { who, call: self.rng.within(1..30), fault }
            }
            Kind::FillDisk => Fault::FillDisk { who },
            Kind::Rot => Fault::Rot { who: Who::Server(self.rotting(a)) },
            Kind::HealDisks => Fault::HealDisks,
            Kind::Depose => return self.depose(at),
            Kind::Outvote => return self.outvote(at),
            Kind::StrandTail => return self.strand_tail(at, power),
            Kind::LoseTail => return self.lose_tail(at, power),
            Kind::CatchUp => return self.catch_up(at, who, power),
            Kind::Flap => return self.flap(at, Who::Server(a), power),
            Kind::Return => return self.come_back(at, power),
        };
        self.add(at, fault);
        at
    }

    /// This server, or another one whose files rot already: the others must be a quorum that has everything.
    fn rotting(&mut self, candidate: Sid) -> Sid {
        let minority = usize::from(self.shape.participants - 1) / 2;
        if self.rotten.len() < minority && !self.rotten.contains(&candidate) {
            self.rotten.push(candidate);
        }
        match self.rotten.contains(&candidate) {
            true => candidate,
            false => self.rotten[usize::from(candidate.0) % self.rotten.len()],
        }
    }

    fn depose(&mut self, at: u64) -> u64 {
        self.add(at, Fault::Isolate { who: Who::Leader, way: self.rng.pick(&[Way::In, Way::Both]) });
        let healed = at + self.rng.within(1..3) * self.shape.timing.sync_limit_ms;
        self.add(healed, Fault::HealNetwork);
        healed
    }

    fn outvote(&mut self, at: u64) -> u64 {
        self.add(at, Fault::Isolate { who: Who::Leader, way: Way::Both });
        let ticks = self.rng.within(2..5) * self.shape.timing.tick_ms;
        let healed = at + self.shape.timing.sync_limit_ms + ticks;
        self.add(healed, Fault::HealNetwork);
        healed
    }

    /// One follower alone hears the leader, and is killed and comes back while the others are still deaf: it has
    /// loaded a tail that nobody has committed.
    fn strand_tail(&mut self, at: u64, power: bool) -> u64 {
        let follower = self.follower();
        self.add(at, Fault::OnlyOneHears { follower });
        let killed = at + self.rng.within(20..300);
        self.add(killed, Fault::Crash { who: Who::Follower(follower), power });
        if self.rng.percent(30) {
            self.add(killed + 1, Fault::Crash { who: Who::Leader, power });
        }
        self.add(killed + 2, Fault::StartAll);
        let healed = killed + self.rng.within(300..900);
        self.add(healed, Fault::HealNetwork);
        healed
    }

    /// What the leader proposes reaches nobody any more; it dies, others go on, and it comes back.
    fn lose_tail(&mut self, at: u64, power: bool) -> u64 {
        self.add(at, Fault::Isolate { who: Who::Leader, way: Way::Out });
        let killed = at + self.rng.within(20..400);
        self.add(killed, Fault::Crash { who: Who::Leader, power });
        self.add(killed + 1, Fault::HealNetwork);
        let back = killed + self.rng.within(1..2 * self.shape.timing.sync_limit_ms);
        self.add(back, Fault::StartAll);
        back
    }

    /// What the leader proposes is logged and acknowledged, but no word of it arrives; then the links are new, before
    /// the leader gives up. Now and then one of its followers comes back as another process.
    fn come_back(&mut self, at: u64, power: bool) -> u64 {
        self.add(at, Fault::Isolate { who: Who::Leader, way: Way::In });
        let back = at + self.rng.within(10..2 * self.shape.timing.tick_ms);
        if self.rng.percent(30) {
            self.add(back, Fault::Crash { who: Who::Follower(self.follower()), power });
        }
        self.add(back, Fault::ResetAll { who: Who::Leader });
        self.add(back + 1, Fault::HealNetwork);
        self.add(back + 1, Fault::StartAll);
        back + 1
    }

    fn flap(&mut self, at: u64, who: Who, power: bool) -> u64 {
        self.add(at, Fault::Crash { who, power });
        let mut at = at + self.duration();
        self.add(at, Fault::StartAll);
        for _ in 0..self.rng.within(1..8) {
            at += self.rng.within(10..200);
            self.add(at, Fault::ResetAll { who });
        }
        at
    }

    fn catch_up(&mut self, at: u64, who: Who, power: bool) -> u64 {
        self.add(at, Fault::Crash { who, power });
        let back = at + self.duration();
        self.add(back, Fault::StartAll);
        let packet = self.rng.within(1..25);
        match (self.rng.within(0..3), who) {
            (0, Who::Server(sid)) => {
                self.add(back + 1, Fault::CrashAtPacket { who: Who::Server(sid), packet });
            }
            (1, Who::Server(sid)) => {
                let (who, fault) = (Who::Server(sid), Injected::Crash);
                self.add(back + 1, Fault::FailDisk { who, call: self.rng.within(1..40), fault });
            }
            _ => {
                let soon = back + self.rng.within(1..300);
                self.add(soon, Fault::CrashAtPacket { who: Who::Leader, packet });
            }
        }
        let again = back + self.duration();
        self.add(again, Fault::StartAll);
        again
    }
}
