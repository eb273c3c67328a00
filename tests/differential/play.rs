//! Plays a script against the servers of one make, and writes down what each connection saw in each step.
//!
//! All effects of a step are awaited before the next begins: every server has applied what was written, and a ping
//! on every connection that may have been told something has been answered, behind all that it was told.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::control::{Control, Nudge, ROOT};
use super::decode::{self, Body, Seen, Stat};
use super::encode::{self, Names};
use super::link::{Got, Link};
use super::only::{self, After};
use super::script::{Ask, Conn, Hello, Op, Password, Place, Script, SessionName, Shape, Step, ZxidName};
use super::servers::{Make, Servers};

/// The connection that the knocks of a sequence are written down under.
pub const KNOCK: Conn = 0;

/// A frame of more bytes is refused unread: Apache's jute.maxbuffer.
const MAX_FRAME: i32 = 0x000f_ffff;

/// Bytes of a request's header.
const HEADER: usize = 8;

/// An id that no server gives out.
const NOBODY: i64 = 0x77_0000_0000_0001;

/// What was seen, with the bare values of one side.
#[derive(Clone, Debug, Default)]
pub struct Transcript {
    pub steps: Vec<BTreeMap<Conn, Vec<Seen>>>,
    /// The last transaction after each step.
    pub applied: Vec<i64>,
    /// The zxid of the root.
    pub start: i64,
    /// Transactions that the other side does not have, each behind the first zxid and up to the second: those of
    /// steps that only zabra performs, and those of unreadable writes, which take a zxid with 3.8 and none with 3.9.
    pub extra: Vec<(i64, i64)>,
    /// The session that each connection made.
    pub sessions: BTreeMap<Conn, i64>,
    /// What all sequences share, as it was at the start.
    pub shared: Vec<(String, Stat)>,
}

/// Changes the bytes of a reply.
pub type Lie = fn(&Ask, &mut [u8]);

/// One side: the servers, and the test's own sessions there.
pub struct Player {
    pub servers: Servers,
    pub make: Make,
    shape: Shape,
    /// Falsifies replies, to see that it is found out.
    pub lie: Option<Lie>,
    controls: BTreeMap<Place, Control>,
    _nudge: Option<Nudge>,
}

/// A connection of the script.
struct Peer {
    link: Link,
    at: Place,
    /// Whose session it has.
    session: SessionName,
}

/// Requests that are not answered yet, with their numbers in the step.
type Waiting<'a> = Vec<(usize, &'a Ask)>;

fn numbered(asks: &[Ask]) -> Waiting<'_> {
    asks.iter().enumerate().collect()
}

/// A session that somebody in the script has made.
#[derive(Clone)]
struct Session {
    id: i64,
    password: Vec<u8>,
    /// The connection that last had it, and where.
    current: Conn,
    at: Place,
}

/// The state of one playing.
struct Playing<'a> {
    player: &'a mut Player,
    script: &'a Script,
    peers: BTreeMap<Conn, Peer>,
    /// By the connection that made them.
    sessions: BTreeMap<Conn, Session>,
    out: Transcript,
    /// The newest transaction that anybody has been told of.
    newest: i64,
}

impl Player {
    /// # Errors
    ///
    /// The servers do not come up.
    pub fn start(make: Make, shape: Shape) -> Result<Player, String> {
        let servers = Servers::start(make, shape)?;
        let controls = servers.places.iter().map(|(place, at)| Ok((*place, Control::connect(*at)?)));
        let controls = controls.collect::<Result<_, String>>()?;
        let addresses: Vec<SocketAddr> = servers.places.iter().map(|(_, at)| *at).collect();
        let sleepy = make == Make::Apache && shape.is_ensemble();
        let nudge = if sleepy { Some(Nudge::start(&addresses)?) } else { None };
        Ok(Player { servers, make, shape, lie: None, controls, _nudge: nudge })
    }

    /// Plays a script, from a clean root to a clean root.
    ///
    /// # Errors
    ///
    /// A server has died or hangs, or something of the sequence withstands the cleaning.
    pub fn play(&mut self, script: &Script) -> Result<Transcript, String> {
        let played = self.try_to_play(script);
        played.map_err(|error| match self.servers.dead() {
            Some(dead) => format!("{error}\n{dead}"),
            None => format!("{:?}: {error}", self.make),
        })
    }

    fn try_to_play(&mut self, script: &Script) -> Result<Transcript, String> {
        let (start, shared) = self.controls.get_mut(&Place::Leader).expect("there is a leader").prepare()?;
        for control in self.controls.values_mut() {
            control.catch_up(start)?;
        }
        let mut playing = Playing {
            player: self,
            script,
            peers: BTreeMap::new(),
            sessions: BTreeMap::new(),
            out: Transcript { start, shared, ..Transcript::default() },
            newest: start,
        };
        for (n, step) in script.steps.iter().enumerate() {
            playing.step(step).map_err(|error| format!("step {}: {error}", n + 1))?;
        }
        playing.end()
    }

    fn place(&self, place: Place) -> Place {
        if self.shape.is_ensemble() { place } else { Place::Leader }
    }
}

impl Names for Playing<'_> {
    fn zxid(&self, name: ZxidName) -> i64 {
        match name {
            ZxidName::Raw(zxid) => zxid,
            ZxidName::Start(behind) => self.out.walk(self.out.start, behind),
            ZxidName::Last(ahead) => self.out.walk(self.newest, ahead),
        }
    }
}

impl Transcript {
    /// The zxid that many transactions on from another, counting those that both sides have.
    fn walk(&self, mut zxid: i64, steps: i64) -> i64 {
        let within = |zxid: i64| self.extra.iter().find(|(from, to)| *from < zxid && zxid <= *to).copied();
        for _ in 0..steps.abs() {
            while let (true, Some((from, _))) = (steps < 0, within(zxid)) {
                zxid = from;
            }
            zxid += steps.signum();
            while let (true, Some((_, to))) = (steps > 0, within(zxid)) {
                zxid = to + 1;
            }
        }
        zxid
    }
}

impl Playing<'_> {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        self.out.steps.push(BTreeMap::new());
        let only = only::find(step);
        let before = self.newest;
        match (step, only) {
            // Not for Apache. What the other side's connection comes to, this side's does, too.
            (Step::Send { conn, .. }, Some(only)) if self.player.make == Make::Apache => {
                if only.after != After::GoesOn {
                    self.peers.remove(conn);
                }
            }
            _ => {
                self.perform(step)?;
                if let (Some(conn), Some(After::Drop)) = (step.conn(), only.map(|only| only.after)) {
                    self.peers.remove(&conn);
                }
            }
        }
        if settles(step) {
            self.settle(step.conn())?;
            // A member closes the connections of a session that has ended on its own time.
            if self.player.shape.is_ensemble() && step.asks().iter().any(|ask| ask.op.opcode() == -11) {
                self.settle(None)?;
            }
        }
        self.lose_victims(step);
        if only.is_some() && self.newest > before {
            self.out.extra.push((before, self.newest));
        }
        self.out.applied.push(self.newest);
        Ok(())
    }

    /// The connections that live on in the session that a step tried to take without its password, on the same
    /// server. With Apache they have just been closed, so they go here, too.
    fn lose_victims(&mut self, step: &Step) {
        let Step::Connect { conn, at, hello, .. } = step else { return };
        if hello.password != Password::Right && matches!(hello.session, SessionName::Of(_)) {
            let at = self.player.place(*at);
            self.peers.retain(|other, peer| other == conn || peer.at != at || peer.session != hello.session);
        }
    }

    fn perform(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Connect { conn, at, hello, then } => self.connect(*conn, *at, hello, then)?,
            Step::Knock { at, hex } => self.knock(*at, &encode::unhex(hex))?,
            Step::Send { conn, asks } => self.send(*conn, asks),
            Step::Frame { conn, length, bytes } => self.frame(*conn, *length, *bytes),
            Step::Drop { conn } => {
                self.peers.remove(conn);
            }
        }
        Ok(())
    }

    fn connect(&mut self, conn: Conn, at: Place, hello: &Hello, then: &[Ask]) -> Result<(), String> {
        let at = self.player.place(at);
        let known = match hello.session {
            SessionName::Of(maker) => self.sessions.get(&maker).map(|s| (s.id, s.password.clone())),
            SessionName::New => Some((0, vec![0; 16])),
            SessionName::Unknown => None,
        };
        let (id, password) = known.unwrap_or((NOBODY, vec![0; 16]));
        let mut bytes = encode::framed(&encode::hello(hello, id, &password, self));
        bytes.extend(self.requests(then));
        let mut link = self.open(at)?;
        link.send(&bytes);
        let session = if hello.session == SessionName::New { SessionName::Of(conn) } else { hello.session };
        self.peers.insert(conn, Peer { link, at, session });
        let mut waiting = numbered(then);
        let seen = self.greeting(conn, &mut waiting);
        self.note(conn, seen.clone());
        match seen {
            Seen::Hello { timeout: 1.., session, password, .. } => {
                self.attached(conn, session, password, at);
                self.replies(conn, waiting);
            }
            // Refused: the end is due.
            Seen::Hello { .. } => self.await_end(conn),
            _ => {
                self.peers.remove(&conn);
            }
        }
        Ok(())
    }

    /// The answer to the handshake. Apache answers auth and sasl when they are read, and so perhaps before it.
    fn greeting(&mut self, conn: Conn, waiting: &mut Waiting<'_>) -> Seen {
        loop {
            let payload = match self.peers.get_mut(&conn).expect("just opened").link.frame() {
                Got::Frame(payload) => payload,
                got => return ended(&got),
            };
            let seen = decode::hello(&payload);
            let early = waiting.iter().position(|(_, ask)| matches!(ask.op.opcode(), 100 | 102));
            match (&seen, early) {
                (Seen::Garbled(_), Some(at)) => {
                    let (of, ask) = waiting.remove(at);
                    self.note(conn, decode::reply(&payload, &ask.op, of));
                }
                _ => return seen,
            }
        }
    }

    fn attached(&mut self, conn: Conn, id: i64, password: Vec<u8>, at: Place) {
        match self.sessions.values_mut().find(|session| session.id == id) {
            Some(session) => (session.current, session.at) = (conn, at),
            None => {
                self.sessions.insert(conn, Session { id, password, current: conn, at });
                self.out.sessions.insert(conn, id);
            }
        }
    }

    fn open(&self, at: Place) -> Result<Link, String> {
        let places = &self.player.servers.places;
        let (_, address) = places.iter().find(|(place, _)| *place == at).expect("every place has a server");
        Link::open(*address)
    }

    fn requests(&self, asks: &[Ask]) -> Vec<u8> {
        asks.iter().flat_map(|ask| encode::framed(&encode::ask(ask, self))).collect()
    }

    fn send(&mut self, conn: Conn, asks: &[Ask]) {
        let bytes = self.requests(asks);
        if let Some(peer) = self.peers.get_mut(&conn) {
            peer.link.send(&bytes);
            self.replies(conn, numbered(asks));
        }
    }

    /// Reads until every request is answered, or the end.
    fn replies(&mut self, conn: Conn, mut waiting: Waiting<'_>) {
        let mut over = false;
        while !waiting.is_empty() && !over {
            let Some(peer) = self.peers.get_mut(&conn) else { return };
            match peer.link.frame() {
                Got::Frame(mut payload) => {
                    let seen = decode::event(&payload).unwrap_or_else(|| {
                        let (of, ask) = waiting.remove(answered(&waiting, &payload));
                        if let Some(lie) = self.player.lie {
                            lie(ask, &mut payload);
                        }
                        let seen = decode::reply(&payload, &ask.op, of);
                        over = ends(&ask.op, &seen);
                        self.unreadable(ask, &seen);
                        seen
                    });
                    self.note(conn, seen);
                }
                got => {
                    self.note(conn, ended(&got));
                    self.peers.remove(&conn);
                }
            }
        }
        if over {
            self.await_end(conn);
        }
    }

    /// An unreadable write has taken a zxid of its own with Apache 3.8. A reconfig is read before, a multi takes one
    /// everywhere.
    fn unreadable(&mut self, ask: &Ask, seen: &Seen) {
        let opcode = ask.op.opcode();
        if let Seen::Reply { zxid, err: -5, .. } = seen
            && self.player.make == Make::Apache
            && ask.op.changes()
            && !matches!(opcode, 14 | 16)
            && !decode::is_whole(opcode, &encode::ask(ask, self)[HEADER..])
        {
            self.out.extra.push((zxid - 1, *zxid));
        }
    }

    /// The server is to close: whatever still comes, and the end.
    fn await_end(&mut self, conn: Conn) {
        let Some(mut peer) = self.peers.remove(&conn) else { return };
        loop {
            match peer.link.frame() {
                Got::Frame(payload) => {
                    let late = Seen::Garbled(encode::hex(&payload));
                    self.note(conn, decode::event(&payload).unwrap_or(late));
                }
                got => return self.note(conn, ended(&got)),
            }
        }
    }

    fn frame(&mut self, conn: Conn, length: i32, bytes: usize) {
        let Some(peer) = self.peers.get_mut(&conn) else { return };
        peer.link.send(&[&length.to_be_bytes()[..], &vec![0; bytes]].concat());
        if (0..=MAX_FRAME).contains(&length) && bytes < length as usize {
            self.peers.remove(&conn);
            return;
        }
        // Zeros are a request of nobody's, if they are a request.
        let nothing = Op::Raw { opcode: 0, hex: String::new() };
        let ask = Ask { xid: 0, op: nothing, bend: None };
        self.replies(conn, vec![(0, &ask)]);
    }

    fn knock(&mut self, at: Place, bytes: &[u8]) -> Result<(), String> {
        let mut link = self.open(self.player.place(at))?;
        link.send(bytes);
        let (answer, end) = link.rest();
        if !answer.is_empty() {
            self.note(KNOCK, Seen::Garbled(encode::hex(&answer)));
        }
        self.note(KNOCK, ended(&end));
        Ok(())
    }

    fn note(&mut self, conn: Conn, seen: Seen) {
        if let Seen::Reply { zxid, .. } = &seen {
            self.newest = self.newest.max(*zxid);
        }
        self.out.steps.last_mut().expect("a step is going on").entry(conn).or_default().push(seen);
    }

    /// Awaits all effects: first the transactions, then what the connections are told of them. A server alone has
    /// one queue for all, so that there a ping on every connection does.
    fn settle(&mut self, actor: Option<Conn>) -> Result<(), String> {
        if !self.player.shape.is_ensemble() {
            self.ping_all(None);
            let leader = self.player.controls.get_mut(&Place::Leader).expect("there is a leader");
            self.newest = leader.catch_up(self.newest)?;
            return Ok(());
        }
        if let Some(actor) = actor {
            // Of some transactions only a later reply on the same connection tells.
            self.ping(actor);
        }
        let leader = self.player.controls.get_mut(&Place::Leader).expect("there is a leader");
        self.newest = leader.catch_up(self.newest)?;
        for control in self.player.controls.values_mut() {
            control.catch_up(self.newest)?;
        }
        self.ping_all(actor);
        Ok(())
    }

    fn ping_all(&mut self, but: Option<Conn>) {
        let ping = encode::framed(&encode::ask(&PING, self));
        let conns: Vec<Conn> = self.peers.keys().copied().filter(|conn| Some(*conn) != but).collect();
        for conn in &conns {
            self.peers.get_mut(conn).expect("just listed").link.send(&ping);
        }
        for conn in conns {
            self.pinged(conn);
        }
    }

    fn ping(&mut self, conn: Conn) {
        let ping = encode::framed(&encode::ask(&PING, self));
        if let Some(peer) = self.peers.get_mut(&conn) {
            peer.link.send(&ping);
            self.pinged(conn);
        }
    }

    /// Reads up to the answer of a ping, which is not written down.
    fn pinged(&mut self, conn: Conn) {
        while let Some(peer) = self.peers.get_mut(&conn) {
            match peer.link.frame() {
                Got::Frame(payload) => {
                    match (decode::event(&payload), decode::reply(&payload, &PING.op, 0)) {
                        (Some(event), _) => self.note(conn, event),
                        (_, Seen::Reply { xid: -2, err: 0, zxid, body: Body::Empty, .. }) => {
                            self.newest = self.newest.max(zxid);
                            return;
                        }
                        (_, other) => self.note(conn, other),
                    }
                }
                got => {
                    self.note(conn, ended(&got));
                    self.peers.remove(&conn);
                }
            }
        }
    }

    /// Ends what still lives, and takes away what is left.
    fn end(mut self) -> Result<Transcript, String> {
        let close = Ask { xid: 1, op: Op::CloseSession, bend: None };
        let bytes = encode::framed(&encode::ask(&close, &self));
        let sessions = std::mem::take(&mut self.sessions);
        for session in sessions.into_values() {
            let mut link = match self.peers.remove(&session.current) {
                Some(peer) => peer.link,
                None => self.take_over(&session)?,
            };
            link.send(&bytes);
            // Its end is all that matters; a session that has ended before is closed without a word.
            link.rest();
        }
        self.peers.clear();
        let shared = self
            .script
            .steps
            .iter()
            .flat_map(Step::asks)
            .any(|ask| ask.bend.is_some() || touches_shared(&ask.op));
        let leader = self.player.controls.get_mut(&Place::Leader).expect("there is a leader");
        leader.clean(shared)?;
        Ok(self.out)
    }

    /// A local session is known only where it was last.
    fn take_over(&self, session: &Session) -> Result<Link, String> {
        let hello = Hello {
            session: SessionName::New,
            password: Password::Right,
            seen: ZxidName::Raw(0),
            timeout: super::servers::MAX_SESSION_MS,
            read_only: Some(0),
            protocol: 0,
        };
        let mut link = self.open(session.at)?;
        link.send_frame(&encode::hello(&hello, session.id, &session.password, self));
        Ok(link)
    }
}

const PING: Ask = Ask { xid: -2, op: Op::Ping, bend: None };

/// Others may see something of it, or something of it may come late.
fn settles(step: &Step) -> bool {
    match step {
        Step::Connect { .. } | Step::Frame { .. } => true,
        Step::Send { asks, .. } => asks.iter().any(|ask| ask.op.changes()),
        Step::Knock { .. } | Step::Drop { .. } => false,
    }
}

/// It can have changed something outside of the root.
fn touches_shared(op: &Op) -> bool {
    let outside = |path: &str| path != ROOT && !path.starts_with("/d/");
    match op {
        Op::Multi { members } => members.iter().any(touches_shared),
        Op::Raw { .. } => false,
        op => op.changes() && op.path().is_some_and(outside),
    }
}

/// Which of the waiting requests a frame answers: the first with its xid, else the first.
fn answered(waiting: &Waiting<'_>, payload: &[u8]) -> usize {
    let xid = payload.get(..4).map(|word| i32::from_be_bytes(word.try_into().expect("four bytes")));
    let own = |(_, ask): &(usize, &Ask)| Some(if ask.op == Op::Ping { -2 } else { ask.xid }) == xid;
    waiting.iter().position(own).unwrap_or(0)
}

/// After this reply the server closes the connection.
fn ends(op: &Op, seen: &Seen) -> bool {
    let Seen::Reply { err, .. } = seen else { return false };
    match (op.opcode(), err) {
        (-11, _) | (100, -115) => true,
        // TTL nodes may be switched off, which is no reason to part.
        (1 | 14 | 15 | 19 | 21, -6) => false,
        (_, -6 | -124) => true,
        _ => false,
    }
}

fn ended(got: &Got) -> Seen {
    match got {
        Got::Closed => Seen::Closed,
        _ => Seen::Silence,
    }
}
