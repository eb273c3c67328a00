//! The replica's core, driven by hand: a leader whose commits come when a test says so, and a learner
//! behind it. What clients are told is kept as short lines, in order.

mod clients;
mod divergence;
mod handshake;
mod leadership;
mod local;
mod model;
mod no_room;
mod pipeline;
mod read_only;
mod reads;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::core::watches::NewWatch;
use crate::types::{
    Acl, ConnectResponse, CreateKind, Epoch, Id, MultiResult, Op, Reply, ReplyBody, WatcherType, Zxid, perms,
};

const LEADER: Sid = Sid(1);
const LEARNER: Sid = Sid(2);
const EPOCH: Epoch = Epoch(1);
const NOW: WallMillis = 1234;

/// A replica and what it has said.
struct Server {
    replica: Replica,
    /// Proposed, not committed (leader).
    proposed: VecDeque<Arc<Entry>>,
    /// Everything ever proposed (leader).
    log: Vec<Arc<Entry>>,
    /// On the way to the leader (learner).
    forwarded: VecDeque<Forwarded>,
    /// Revalidations on the way to the leader (learner).
    asked: VecDeque<(SessionId, i32)>,
    /// Syncs asked for.
    syncs: usize,
    /// What clients and watchers were told.
    told: Vec<String>,
    /// What the leader, its learners and the session tracker were told, but for touches.
    said: Vec<String>,
    /// The last batch of touches.
    touched: (u64, Vec<(SessionId, i32)>),
    touched_local: Vec<(SessionId, i32)>,
    last_conn: u64,
}

impl Server {
    fn new(me: Sid) -> Server {
        Server::with_tree(me, Tree::new())
    }

    fn with_tree(me: Sid, tree: Tree) -> Server {
        let settings = Settings {
            me,
            min_session_timeout_ms: 4000,
            max_session_timeout_ms: 40_000,
            first_session: SessionId((i64::from(me.0) << 56) | 1),
            config: None,
            local_sessions: LocalSessions::Off,
            rules: Rules::default(),
        };
        Server {
            replica: Replica::new(settings, tree),
            proposed: VecDeque::new(),
            log: Vec::new(),
            forwarded: VecDeque::new(),
            asked: VecDeque::new(),
            syncs: 0,
            told: Vec::new(),
            said: Vec::new(),
            touched: (0, Vec::new()),
            touched_local: Vec::new(),
            last_conn: 0,
        }
    }

    fn leader() -> Server {
        let mut server = Server::new(LEADER);
        server.step(Input::Service(Service::Leader(EPOCH)));
        server.said.clear();
        server
    }

    fn learner() -> Server {
        let mut server = Server::new(LEARNER);
        server.step(Input::Service(Service::Learner { epoch: EPOCH, leader: LEADER }));
        server.said.clear();
        server
    }

    fn step(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.replica.step(input, &mut effects);
        let proposals = effects.iter().filter(|effect| matches!(effect, Effect::Propose(_))).count();
        let syncs = effects.iter().filter(|effect| matches!(effect, Effect::Sync)).count();
        assert!(proposals <= 1 + syncs, "one batch a step, but for syncs in it");
        for effect in effects {
            self.take(effect);
        }
    }

    fn take(&mut self, effect: Effect) {
        match effect {
            Effect::Outcome(outcome) => self.told.extend(spell(outcome)),
            Effect::Propose(entries) => {
                for entry in entries {
                    let last = self.log.last().map_or(EPOCH.mark(), |last| last.zxid());
                    assert!(entry.zxid().follows(last) || last == EPOCH.mark(), "no holes");
                    self.log.push(entry.clone());
                    self.proposed.push_back(entry);
                }
            }
            Effect::Forward(writes) => self.forwarded.extend(writes),
            Effect::Sync => self.syncs += 1,
            Effect::Revalidate { session, timeout_ms } => self.asked.push_back((session, timeout_ms)),
            Effect::Touched { batch, sessions, local } => {
                assert!(batch > self.touched.0, "batches are numbered upwards");
                self.touched = (batch, sessions);
                self.touched_local = local;
            }
            other => self.said.push(format!("{other:?}")),
        }
    }

    /// What was told since the last time.
    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }

    /// A handshake on a fresh connection.
    fn connect(&mut self, session: SessionId, password: &[u8]) -> ConnId {
        self.connect_with(ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid::ZERO,
            timeout_ms: 10_000,
            session,
            password: Bytes::copy_from_slice(password),
            read_only: Some(false),
        })
    }

    fn connect_with(&mut self, request: ConnectRequest) -> ConnId {
        self.last_conn += 1;
        let conn = ConnId(self.last_conn);
        self.step(Input::Connect { now: NOW, conn, request });
        conn
    }

    /// The same, with the right password.
    fn reconnect(&mut self, session: SessionId) -> ConnId {
        self.connect(session, &password(session))
    }

    /// A client with a new session (leader).
    fn client(&mut self) -> (ConnId, SessionId) {
        let conn = self.connect(SessionId::NONE, &[]);
        self.commit();
        let session = self.replica.clients[&conn].session;
        self.told.clear();
        (conn, session)
    }

    fn ask(&mut self, conn: ConnId, xid: i32, op: Op) {
        self.ask_all(vec![request(conn, xid, op)]);
    }

    fn ask_all(&mut self, requests: Vec<Request>) {
        self.step(Input::Requests { now: NOW, requests });
    }

    /// Asks, commits, and returns what was told (leader).
    fn answer(&mut self, conn: ConnId, xid: i32, op: Op) -> Vec<String> {
        self.ask(conn, xid, op);
        self.commit();
        self.told()
    }

    /// Everything proposed so far is committed here (leader).
    fn commit(&mut self) {
        let entries = self.proposed.drain(..).collect();
        self.step(Input::Commit(entries));
    }

    /// The oldest proposal is committed here, alone (leader).
    fn commit_one(&mut self) {
        let entry = self.proposed.pop_front().expect("something is proposed");
        self.step(Input::Commit(vec![entry]));
    }
}

/// A leader and a learner, and the link between them.
struct Pair {
    leader: Server,
    learner: Server,
    /// How much of the leader's log is committed at the learner.
    committed: usize,
}

impl Pair {
    fn new() -> Pair {
        Pair { leader: Server::leader(), learner: Server::learner(), committed: 0 }
    }

    /// What the learner has forwarded arrives at the leader.
    fn forward(&mut self) {
        let requests = self.learner.forwarded.drain(..).collect();
        self.leader.step(Input::Forwarded { now: NOW, from: LEARNER, requests });
    }

    /// Everything proposed is committed at both.
    fn commit(&mut self) {
        self.leader.commit();
        let entries = self.leader.log[self.committed..].to_vec();
        self.committed = self.leader.log.len();
        self.learner.step(Input::Commit(entries));
    }

    fn settle(&mut self) {
        self.forward();
        self.commit();
    }

    /// A client of the learner with a new session.
    fn learners_client(&mut self) -> (ConnId, SessionId) {
        let conn = self.learner.connect(SessionId::NONE, &[]);
        self.settle();
        let session = self.learner.replica.clients[&conn].session;
        self.learner.told.clear();
        (conn, session)
    }

    /// The leader's answers to the learner's questions about sessions arrive.
    fn revalidate(&mut self) {
        for (session, timeout_ms) in std::mem::take(&mut self.learner.asked) {
            let tenure = Tenure(1);
            self.leader.step(Input::Revalidate { from: LEARNER, tenure, session, timeout_ms });
            let answer = self.leader.said.pop().expect("each question has an answer");
            let valid = answer
                .ends_with(") }")
                .then(|| self.leader.log.last().map_or(EPOCH.mark(), |last| last.zxid()));
            assert!(answer.starts_with("RevalidateAnswer { to: s2, tenure: Tenure(1)"), "{answer}");
            self.learner.step(Input::Revalidated { session, valid });
        }
    }
}

fn request(conn: ConnId, xid: i32, op: Op) -> Request {
    Request { conn, xid, op, auth: Arc::from([Id::new("ip", "127.0.0.1")]) }
}

fn create(path: &str, flags: i32) -> Op {
    Op::Create {
        kind: CreateKind::Create,
        path: path.into(),
        data: Some(Bytes::from_static(b"hi")),
        acl: Some(vec![Acl::world(perms::ALL)]),
        flags,
    }
}

fn set_data(path: &str, data: &str) -> Op {
    Op::SetData { path: path.into(), data: Some(Bytes::copy_from_slice(data.as_bytes())), version: -1 }
}

fn delete(path: &str) -> Op {
    Op::Delete { path: path.into(), version: -1 }
}

fn get_data(path: &str) -> Op {
    Op::GetData { path: path.into(), watch: false }
}

fn sync(path: &str) -> Op {
    Op::Sync { path: Some(path.into()) }
}

/// An outcome as a line; a change of the tree says `changed` instead of a connection.
fn spell(outcome: Outcome) -> Option<String> {
    Some(match outcome {
        Outcome::Changed(change) => format!("changed {:?} {}", change.kind, change.path),
        Outcome::Reply { conn, reply, watch } => {
            let watch = watch.map_or(String::new(), |watch| format!(" watch {}", spell_watch(&watch)));
            format!("c{} {}{watch}", conn.0, spell_reply(reply))
        }
        Outcome::Rewatch { conn, events, watches } => {
            let events: Vec<String> = events
                .iter()
                .map(|event| format!("{:?} {} {}", event.kind, event.path, event.zxid.0))
                .collect();
            let watches: Vec<String> = watches.iter().map(spell_watch).collect();
            format!("c{} rewatch {} | {}", conn.0, events.join(", "), watches.join(", "))
        }
        Outcome::Watched { conn, xid, zxid, path, kind, remove } => {
            let verb = if remove { "remove" } else { "check" };
            format!("c{} #{xid} z{} {verb} {kind:?} {path:?}", conn.0, zxid.counter())
        }
        Outcome::Connected { conn, response } => format!("c{} {}", conn.0, spell_response(response)),
        Outcome::Identified { conn, auth } => format!("c{} is {}", conn.0, auth[0].id),
        Outcome::Close { conn } => format!("c{} close", conn.0),
        Outcome::Gone { conn } => format!("c{} gone", conn.0),
    })
}

fn spell_watch(watch: &NewWatch) -> String {
    format!("{:?} {}", watch.kind, watch.path)
}

fn spell_response(response: ConnectResponse) -> String {
    let ConnectResponse { timeout_ms, session, password: proof, read_only } = response;
    if timeout_ms == 0 {
        assert_eq!((session, proof), (SessionId::NONE, [0; 16]), "a refusal is all zeros");
        return "refused".into();
    }
    assert_eq!(proof, password(session));
    format!("connected {session} {timeout_ms}ms {read_only:?}")
}

fn spell_reply(reply: Reply) -> String {
    let what = match reply.result {
        Err(error) => format!("{error:?}"),
        Ok(ReplyBody::Empty) => "ok".into(),
        Ok(ReplyBody::Path(path)) => format!("path {path}"),
        Ok(ReplyBody::PathStat(path, stat)) => format!("path {path} v{}", stat.version),
        Ok(ReplyBody::Stat(stat)) => format!("stat v{} a{}", stat.version, stat.aversion),
        Ok(ReplyBody::Data(data, stat)) => format!("data {} v{}", spell_data(data), stat.version),
        Ok(ReplyBody::Acl(acl, stat)) => {
            let list: Vec<String> =
                acl.iter().map(|acl| format!("{}:{}:{}", acl.id.scheme, acl.id.id, acl.perms)).collect();
            format!("acl {} a{}", list.join(","), stat.aversion)
        }
        Ok(ReplyBody::Children(names)) => format!("children {}", sorted(names)),
        Ok(ReplyBody::ChildrenStat(names, stat)) => {
            format!("children {} n{}", sorted(names), stat.num_children)
        }
        Ok(ReplyBody::Sync(path)) => format!("synced {path:?}"),
        Ok(ReplyBody::Multi(members)) => {
            let members: Vec<String> = members.into_iter().map(spell_member).collect();
            format!("multi [{}]", members.join(", "))
        }
        Ok(ReplyBody::Ephemerals(paths)) => format!("ephemerals {}", sorted(paths)),
        Ok(ReplyBody::Count(count)) => format!("count {count}"),
        Ok(ReplyBody::WatchAdded) => "added".into(),
        Ok(ReplyBody::WhoAmI(ids)) => {
            let ids: Vec<String> = ids.iter().map(|id| format!("{}:{}", id.scheme, id.id)).collect();
            format!("i am {}", ids.join(","))
        }
        Ok(ReplyBody::Token(token)) => format!("token {token:?}"),
    };
    let zxid = if reply.zxid.epoch() == EPOCH {
        format!("z{}", reply.zxid.counter())
    } else {
        format!("z={}", reply.zxid.0)
    };
    format!("#{} {zxid} {what}", reply.xid)
}

fn spell_member(member: MultiResult) -> String {
    match member {
        MultiResult::Create(path) => format!("path {path}"),
        MultiResult::Create2(path, stat) => format!("path {path} v{}", stat.version),
        MultiResult::Delete => "deleted".into(),
        MultiResult::SetData(stat) => format!("stat v{}", stat.version),
        MultiResult::Check => "checked".into(),
        MultiResult::GetData(data, stat) => format!("data {} v{}", spell_data(data), stat.version),
        MultiResult::GetChildren(names) => format!("children {}", sorted(names)),
        MultiResult::Error(code) => code.to_string(),
    }
}

fn spell_data(data: Option<Bytes>) -> String {
    data.map_or("null".into(), |data| String::from_utf8_lossy(&data).into_owned())
}

fn sorted(mut names: Vec<crate::types::Str>) -> String {
    names.sort_unstable();
    names.join(",")
}
