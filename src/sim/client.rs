//! Simulated clients: they speak to a server's brain as a connection does, and check what they are told.
//!
//! Each writes to znodes of its own, so what it may see is known exactly: after `n` acknowledged writes a
//! read of its own session shows at least the n-th. It goes from server to server, keeps its session while
//! it can, and remembers all it was promised: [`Promises`] is held against the surviving tree at the end.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use zabra_actors::handle::{Brain, FromClient, Opened};
use zabra_actors::ports::ClientSink;
use zabra_actors::types::{
    Acl, Auth, ConnId, ConnectRequest, CreateKind, Deliver, Id, Op, Reply, ReplyBody, Request, SessionId,
    Sid, ZkError, Zxid, perms,
};

use super::checker::Checker;
use super::rng::Rng;

/// How long a client waits for an answer before it tries another server.
const PATIENCE: Duration = Duration::from_secs(4);
/// The session time-out it asks for, in ms.
const SESSION_TIMEOUT_MS: i32 = 4_000;

/// What all clients together were promised.
#[derive(Default)]
pub struct Promises {
    /// The number of the last acknowledged write to each znode (its data), and of the last attempted one.
    pub writes: BTreeMap<String, (u64, u64)>,
    /// Acknowledged writes of all.
    pub acknowledged: u64,
}

/// Gives a client the brain of some living server, if there is one.
pub type Directory = Rc<dyn Fn(&Rng) -> Option<Brain>>;

/// A client of the run.
pub struct SimClient {
    /// Which.
    pub number: u64,
    /// Its chance.
    pub rng: Rng,
    /// Where servers are found.
    pub directory: Directory,
    /// What it was promised is kept here.
    pub promises: Arc<Mutex<Promises>>,
    /// Who is told of a broken promise.
    pub checker: Arc<Checker>,
    /// Connection numbers, shared by all clients of the run.
    pub conns: Arc<Mutex<u64>>,
}

struct Session {
    id: SessionId,
    password: Bytes,
    /// The newest zxid of a reply.
    seen: Zxid,
    /// Written so far, by this client: the next number.
    next: u64,
}

struct Sink(mpsc::UnboundedSender<Vec<Deliver>>);

impl ClientSink for Sink {
    fn deliver(&self, batch: Vec<Deliver>) {
        let _ = self.0.send(batch); // a client that has gone away does not listen
    }
}

/// An open connection.
struct Wire {
    brain: Brain,
    conn: ConnId,
    inbox: mpsc::UnboundedReceiver<Vec<Deliver>>,
    waiting: std::collections::VecDeque<Deliver>,
    xid: i32,
    auth: Auth,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.brain.clients.do_send(FromClient::Disconnected(self.conn));
    }
}

impl Wire {
    fn open(brain: Brain, conn: ConnId) -> Wire {
        let (sender, inbox) = mpsc::unbounded_channel();
        let auth: Auth = Arc::new([Id::new("ip", "127.0.0.1")]);
        brain.opened.do_send(Opened { conn, auth: auth.clone(), sink: Box::new(Sink(sender)) });
        Wire { brain, conn, inbox, waiting: Default::default(), xid: 0, auth }
    }

    /// The next thing the server says; `None` when it closes or stays silent for too long.
    async fn hear(&mut self) -> Option<Deliver> {
        while self.waiting.is_empty() {
            let batch = tokio::time::timeout(PATIENCE, self.inbox.recv()).await.ok()??;
            self.waiting.extend(batch);
        }
        self.waiting.pop_front().filter(|said| *said != Deliver::Close)
    }

    fn ask(&mut self, op: Op) -> i32 {
        self.xid += 1;
        let request = Request { conn: self.conn, xid: self.xid, op, auth: self.auth.clone() };
        self.brain.clients.do_send(FromClient::Requests(vec![request]));
        self.xid
    }

    async fn reply(&mut self) -> Option<Reply> {
        loop {
            if let Deliver::Reply(reply) = self.hear().await? {
                return Some(reply);
            }
        }
    }
}

impl SimClient {
    /// Reads and writes for ever.
    pub async fn run(self) {
        let mut session = Session { id: SessionId::NONE, password: Bytes::new(), seen: Zxid::ZERO, next: 1 };
        loop {
            let pause = self.rng.within(1..300);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let Some(brain) = (self.directory)(&self.rng) else { continue };
            let conn = {
                let mut conns = self.conns.lock().expect("nobody panics with this lock");
                *conns += 1;
                ConnId(*conns)
            };
            let mut wire = Wire::open(brain, conn);
            if self.attach(&mut wire, &mut session).await.is_some() {
                while self.act(&mut wire, &mut session).await.is_some() {
                    let pause = self.rng.within(1..200);
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
            }
        }
    }

    async fn attach(&self, wire: &mut Wire, session: &mut Session) -> Option<()> {
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: session.seen,
            timeout_ms: SESSION_TIMEOUT_MS,
            session: session.id,
            password: session.password.clone(),
            read_only: None,
        };
        wire.brain.clients.do_send(FromClient::Connect { conn: wire.conn, request });
        let Deliver::Connected(response) = wire.hear().await? else { return None };
        if response.timeout_ms == 0 {
            // Expired: the next attempt asks for a new session, and may see any server's state.
            session.id = SessionId::NONE;
            session.password = Bytes::new();
            return None;
        }
        let (client, conn) = (self.number, wire.conn.0);
        self.checker.tell(format!("client {client}: connection {conn} has session {}", response.session));
        session.id = response.session;
        session.password = Bytes::copy_from_slice(&response.password);
        Some(())
    }

    /// One or several requests, pipelined; all replies are checked.
    async fn act(&self, wire: &mut Wire, session: &mut Session) -> Option<()> {
        let path = format!("/client-{}-{}", self.number, self.rng.within(0..3));
        match self.rng.within(0..10) {
            0..5 => self.write_and_read(wire, session, &path).await,
            5..8 => self.read(wire, session, &path).await,
            8 => {
                let delivered = self.checker.committed();
                wire.ask(Op::Sync { path: Some("/".into()) });
                self.expect_sync(wire, session, delivered).await
            }
            _ => self.ephemeral(wire, session).await,
        }
    }

    /// A write and, without waiting for it, a read that must see it.
    async fn write_and_read(&self, wire: &mut Wire, session: &mut Session, path: &str) -> Option<()> {
        let number = session.next;
        session.next += 1;
        let known = {
            let mut promises = self.promises.lock().expect("nobody panics with this lock");
            let known = promises.writes.contains_key(path);
            promises.writes.entry(path.to_string()).or_default().1 = number;
            known
        };
        let data = Some(Bytes::from(number.to_string()));
        let acl = Some(vec![Acl::world(perms::ALL)]);
        let create = |data| Op::Create {
            kind: CreateKind::Create,
            path: path.into(),
            data,
            acl: acl.clone(),
            flags: 0,
        };
        let set = |data| Op::SetData { path: path.into(), data, version: -1 };
        wire.ask(if known { set(data.clone()) } else { create(data.clone()) });
        wire.ask(Op::GetData { path: path.into(), watch: false });
        let mut written = self.expect(wire, session).await?;
        let read = self.expect(wire, session).await?;
        if matches!(written.result, Err(ZkError::NodeExists | ZkError::NoNode)) {
            // An earlier write of unknown fate was, or was not, the one that created it.
            let exists = written.result == Err(ZkError::NodeExists);
            wire.ask(if exists { set(data) } else { create(data) });
            written = self.expect(wire, session).await?;
        } else if written.result.is_ok() {
            self.check_read(&read, path, number, number);
        }
        match written.result {
            Ok(_) => {
                let mut promises = self.promises.lock().expect("nobody panics with this lock");
                promises.writes.get_mut(path).expect("attempted").0 = number;
                promises.acknowledged += 1;
                let (client, zxid) = (self.number, written.zxid);
                self.checker
                    .tell(format!("client {client}: write {number} to {path} is acknowledged at {zxid}"));
                Some(())
            }
            Err(ZkError::SessionExpired) => None,
            Err(error) => {
                self.checker.fail(format!("client {}: write {number} to {path}: {error}", self.number));
                None
            }
        }
    }

    async fn read(&self, wire: &mut Wire, session: &mut Session, path: &str) -> Option<()> {
        let (acknowledged, attempted) = {
            let promises = self.promises.lock().expect("nobody panics with this lock");
            promises.writes.get(path).copied().unwrap_or_default()
        };
        let delivered = self.checker.committed();
        wire.ask(Op::Sync { path: None });
        wire.ask(Op::GetData { path: path.into(), watch: true });
        self.expect_sync(wire, session, delivered).await?;
        let reply = self.expect(wire, session).await?;
        self.check_read(&reply, path, acknowledged, attempted);
        Some(())
    }

    /// A read must show a write between the last one acknowledged and the last one attempted.
    fn check_read(&self, reply: &Reply, path: &str, at_least: u64, at_most: u64) {
        let shown = match &reply.result {
            Ok(ReplyBody::Data(data, _)) => number(data.as_ref()),
            Err(ZkError::NoNode) => 0,
            _ => return,
        };
        if shown < at_least || shown > at_most {
            self.checker.fail(format!(
                "I17: client {} reads {path} as {shown} at {}, after {at_least} was acknowledged and \
                 {at_most} attempted",
                self.number, reply.zxid
            ));
        }
    }

    async fn ephemeral(&self, wire: &mut Wire, session: &mut Session) -> Option<()> {
        wire.ask(Op::Create {
            kind: CreateKind::Create2,
            path: format!("/ephemeral-{}-", self.number).into(),
            data: None,
            acl: Some(vec![Acl::world(perms::ALL)]),
            flags: 3,
        });
        let reply = self.expect(wire, session).await?;
        if let Ok(ReplyBody::PathStat(path, stat)) = reply.result {
            if SessionId(stat.ephemeral_owner) != session.id {
                self.checker.fail(format!("client {}: {path} is not its own: {stat:?}", self.number));
            }
            wire.ask(Op::Delete { path, version: 0 });
            self.expect(wire, session).await?;
        }
        Some(())
    }

    /// The reply to a sync: what anybody had been shown when it was asked for is seen here, too.
    async fn expect_sync(&self, wire: &mut Wire, session: &mut Session, delivered: Zxid) -> Option<()> {
        let reply = self.expect(wire, session).await?;
        if reply.zxid < delivered {
            self.checker.fail(format!(
                "client {}: a sync is answered at {}, and {delivered} had been delivered when it was asked for",
                self.number, reply.zxid
            ));
        }
        Some(())
    }

    /// The next reply, in order and never back in time.
    async fn expect(&self, wire: &mut Wire, session: &mut Session) -> Option<Reply> {
        let reply = wire.reply().await?;
        if reply.zxid.0 > 0 {
            if reply.zxid < session.seen {
                self.checker.fail(format!(
                    "I17: client {} goes back in time, from {} to {}",
                    self.number, session.seen, reply.zxid
                ));
            }
            session.seen = reply.zxid;
        }
        Some(reply)
    }
}

/// The number of the write that a znode shows.
pub fn number(data: Option<&Bytes>) -> u64 {
    data.and_then(|data| std::str::from_utf8(data).ok()).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Reads every promised znode from one server, after everything has calmed down. `None`: it did not answer.
pub async fn audit(
    sid: Sid,
    conn: ConnId,
    brain: Brain,
    promises: &Mutex<Promises>,
    checker: &Checker,
) -> Option<()> {
    let mut wire = Wire::open(brain, conn);
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::ZERO,
        timeout_ms: SESSION_TIMEOUT_MS,
        session: SessionId::NONE,
        password: Bytes::new(),
        read_only: None,
    };
    wire.brain.clients.do_send(FromClient::Connect { conn, request });
    wire.hear().await?;
    // Promised before the sync: clients go on writing, and a read is local.
    let before = promises.lock().expect("nobody panics with this lock").writes.clone();
    wire.ask(Op::Sync { path: None });
    wire.reply().await?;
    for (path, (acknowledged, _)) in before {
        wire.ask(Op::GetData { path: path.as_str().into(), watch: false });
        let shown = match wire.reply().await?.result {
            Ok(ReplyBody::Data(data, _)) => number(data.as_ref()),
            _ => 0,
        };
        if shown < acknowledged {
            checker.fail(format!(
                "server {sid} LOST a write: {path} is {shown}, acknowledged was {acknowledged}"
            ));
        }
    }
    Some(())
}
