//! Sequences from seeds: who connects, and what they do. What a single request holds is made in `requests`.
//!
//! A sequence begins with a few sessions and a few znodes, so that most of what follows finds something; then come
//! requests, mostly sensible ones on a handful of paths, so that sessions meet each other's watches and versions.

use super::requests::Requests;
use super::rng::Rng;
use super::script::{
    Ask, Conn, Head, Hello, Op, Password, Place, Script, SessionName, Shape, Step, ZxidName,
};
use super::servers;

/// Connections of a sequence at most.
const MAX_CONNS: Conn = 9;

/// Steps of a sequence behind its beginning.
const STEPS: std::ops::Range<usize> = 12..45;

/// Requests in one segment at most.
const MAX_BATCH: usize = 7;

/// What the one who makes a sequence knows of a connection.
struct Peer {
    conn: Conn,
    maker: Conn,
    open: bool,
}

struct Generator {
    rng: Rng,
    shape: Shape,
    requests: Requests,
    peers: Vec<Peer>,
    steps: Vec<Step>,
}

/// What a step does.
#[derive(Clone, Copy)]
enum Act {
    Send,
    Connect,
    Reattach,
    Close,
    Drop,
    Frame,
    Knock,
    Quota,
}

const ACTS: &[(usize, Act)] = &[
    (80, Act::Send),
    (5, Act::Connect),
    (6, Act::Reattach),
    (3, Act::Close),
    (2, Act::Drop),
    (3, Act::Frame),
    (1, Act::Knock),
    (3, Act::Quota),
];

/// The sequence of a seed.
pub fn script(seed: u64, shape: Shape) -> Script {
    let mut rng = Rng::new(seed);
    let requests = Requests::new(&mut rng, shape);
    let mut generator = Generator { rng, shape, requests, peers: Vec::new(), steps: Vec::new() };
    for _ in 0..generator.rng.within(1..4) {
        generator.connect();
    }
    generator.first_znodes();
    if generator.requests.with_quota() {
        generator.quota(Requests::first_quota);
    }
    for _ in 0..generator.rng.within(STEPS) {
        match *generator.rng.weighted(ACTS) {
            Act::Send => generator.send(),
            Act::Connect => generator.connect(),
            Act::Reattach => generator.reattach(),
            Act::Close => generator.close(),
            Act::Drop => generator.drop_one(),
            Act::Frame => generator.frame(),
            Act::Knock => generator.knock(),
            Act::Quota if generator.requests.with_quota() => generator.quota(Requests::other_quota),
            Act::Quota => generator.send(),
        }
    }
    Script { head: Head { seed, shape }, steps: generator.steps }
}

impl Generator {
    fn place(&mut self) -> Place {
        match self.shape {
            Shape::Ensemble | Shape::Local => {
                *self.rng.pick(&[Place::Leader, Place::Follower, Place::Observer])
            }
            Shape::Standalone | Shape::Extended => Place::Leader,
        }
    }

    /// Whoever is open; where nobody is, somebody new.
    fn open_one(&mut self) -> Option<Conn> {
        if !self.peers.iter().any(|peer| peer.open) {
            self.connect();
        }
        let open: Vec<Conn> = self.peers.iter().filter(|peer| peer.open).map(|peer| peer.conn).collect();
        (!open.is_empty()).then(|| *self.rng.pick(&open))
    }

    fn batch(&mut self) -> Vec<Ask> {
        let length = if self.rng.percent(55) { 1 } else { self.rng.within(2..MAX_BATCH) };
        (0..length).map(|_| self.requests.any(&mut self.rng)).collect()
    }

    fn hello(&mut self, session: SessionName, password: Password) -> Hello {
        let usual = (servers::MAX_SESSION_MS, servers::MAX_SESSION_MS - 1);
        let timeout = match self.rng.within(0..10) {
            0 => *self.rng.pick(&[0, -1, i32::MIN, i32::MAX, 50_000, usual.0 + 1]),
            1 => usual.1,
            _ => usual.0,
        };
        let ahead = session != SessionName::New && self.rng.percent(10);
        let seen = match self.rng.within(0..10) {
            _ if ahead => *self.rng.pick(&[ZxidName::Last(1), ZxidName::Raw(i64::MAX)]),
            0 => ZxidName::Raw(-1),
            1 => ZxidName::Raw(i64::MIN),
            2..=4 => ZxidName::Last(0),
            _ => ZxidName::Raw(0),
        };
        let read_only = *self.rng.pick(&[Some(0), Some(0), Some(0), Some(1), Some(7), None]);
        let protocol = *self.rng.pick(&[0, 0, 0, 0, 7, -1]);
        Hello { session, password, seen, timeout, read_only, protocol }
    }

    fn add(&mut self, maker: Option<Conn>, hello: Hello) {
        let conn = self.peers.len() as Conn + 1;
        let then = if self.rng.percent(20) { self.batch() } else { vec![] };
        let at = self.place();
        self.peers.push(Peer { conn, maker: maker.unwrap_or(conn), open: true });
        self.steps.push(Step::Connect { conn, at, hello, then });
    }

    fn connect(&mut self) {
        if self.peers.len() < usize::from(MAX_CONNS) {
            let passwords =
                [Password::Right, Password::Right, Password::Wrong, Password::Null, Password::Empty];
            let password = *self.rng.pick(&passwords);
            let hello = self.hello(SessionName::New, password);
            self.add(None, hello);
        }
    }

    fn reattach(&mut self) {
        if self.peers.len() >= usize::from(MAX_CONNS) || self.peers.is_empty() {
            return;
        }
        let maker = self.peers[self.rng.within(0..self.peers.len())].maker;
        let session = if self.rng.percent(5) { SessionName::Unknown } else { SessionName::Of(maker) };
        let wrong = [Password::Wrong, Password::Null, Password::Empty, Password::Short, Password::Long];
        let password = if self.rng.percent(20) { *self.rng.pick(&wrong) } else { Password::Right };
        let hello = self.hello(session, password);
        self.add(Some(maker), hello);
    }

    fn first_znodes(&mut self) {
        if let Some(conn) = self.open_one() {
            let asks = self.requests.first(&mut self.rng);
            self.steps.push(Step::Send { conn, asks });
        }
    }

    fn quota(&mut self, asks: fn(&mut Requests, &mut Rng) -> Vec<Ask>) {
        if let Some(conn) = self.open_one() {
            let asks = asks(&mut self.requests, &mut self.rng);
            self.steps.push(Step::Send { conn, asks });
        }
    }

    fn send(&mut self) {
        if let Some(conn) = self.open_one() {
            let asks = self.batch();
            self.steps.push(Step::Send { conn, asks });
        }
    }

    fn close(&mut self) {
        if let Some(conn) = self.open_one() {
            let mut asks = if self.rng.percent(30) { self.batch() } else { vec![] };
            asks.push(self.requests.ask(Op::CloseSession));
            if self.rng.percent(20) {
                asks.extend(self.batch());
            }
            self.steps.push(Step::Send { conn, asks });
            self.gone(conn);
        }
    }

    fn drop_one(&mut self) {
        if let Some(conn) = self.open_one() {
            self.steps.push(Step::Drop { conn });
            self.gone(conn);
        }
    }

    fn gone(&mut self, conn: Conn) {
        for peer in self.peers.iter_mut().filter(|peer| peer.conn == conn) {
            peer.open = false;
        }
    }

    fn frame(&mut self) {
        if let Some(conn) = self.open_one() {
            let frames = [
                (-1, 0),
                (i32::MIN, 3),
                (i32::MAX, 9),
                (0x0010_0000, 20),
                (0, 0),
                (1, 1),
                (4, 4),
                (7, 7),
                (8, 8),
                (30, 30),
                (100, 10),
                (0x000f_ffff, 100),
            ];
            let (length, bytes) = *self.rng.pick(&frames);
            self.steps.push(Step::Frame { conn, length, bytes });
            self.gone(conn);
        }
    }

    fn knock(&mut self) {
        let at = self.place();
        let hexes = [
            "00000000",
            "ffffffff",
            "0000000400000000",
            "7fffffff00",
            "00100000",
            "0000001400000000000000000000000000000000000000ff",
        ];
        let hex = (*self.rng.pick(&hexes)).to_string();
        self.steps.push(Step::Knock { at, hex });
    }
}
