//! Random requests, commits that come late, and a learner that lags: all of it must come to what one would
//! get by doing the leader's transactions one by one.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::core::prepare::Preparer;
use crate::types::{Txn, TxnBody};

/// Clients 0 and 1 are the leader's, 2 and 3 the learner's.
const CLIENTS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Ask(usize, Op),
    /// The client sets its own znode, which nobody else touches, to a new value.
    SetOwn(usize),
    /// And reads it.
    GetOwn(usize),
    /// That many of the learner's writes arrive at the leader.
    Forward(usize),
    /// That many proposals are committed at the leader.
    CommitLeader(usize),
    /// And of those that are committed there, that many at the learner.
    CommitLearner(usize),
}

fn path() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["/a", "/b", "/a/x", "/a/y", "/b/x", "/b/x/z", "/c", "a", "/a/"])
}

fn acl() -> impl Strategy<Value = Vec<Acl>> {
    let perms = prop::sample::select(vec![perms::ALL, perms::ALL, perms::ALL, perms::READ, 30]);
    perms.prop_map(|perms| vec![Acl::world(perms)])
}

fn version() -> impl Strategy<Value = i32> {
    prop::sample::select(vec![-1, -1, 0, 1, 2])
}

fn create_op() -> impl Strategy<Value = Op> {
    let kind = prop::sample::select(vec![CreateKind::Create, CreateKind::Create2, CreateKind::Container]);
    (kind, path(), acl(), 0..5).prop_map(|(kind, path, acl, flags)| Op::Create {
        kind,
        path: path.into(),
        data: None,
        acl: Some(acl),
        flags,
    })
}

fn change() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => create_op(),
        2 => (path(), version()).prop_map(|(path, version)| Op::Delete { path: path.into(), version }),
        2 => (path(), version())
            .prop_map(|(path, version)| Op::SetData { path: path.into(), data: None, version }),
        1 => (path(), version()).prop_map(|(path, version)| Op::Check { path: path.into(), version }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => change().prop_map(|op| match op {
            Op::Check { path, .. } => Op::GetData { path, watch: true },
            op => op,
        }),
        1 => (path(), acl(), version())
            .prop_map(|(path, acl, version)| Op::SetAcl { path: path.into(), acl: Some(acl), version }),
        3 => prop::collection::vec(change(), 0..4).prop_map(Op::Multi),
        1 => Just(Op::Undecodable { opcode: 1 }),
        1 => Just(Op::Ping),
        1 => path().prop_map(|path| Op::GetChildren { path: path.into(), watch: false, stat: true }),
        1 => Just(Op::CloseSession),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..CLIENTS, op()).prop_map(|(client, op)| Step::Ask(client, op)),
        2 => (0..CLIENTS).prop_map(Step::SetOwn),
        3 => (0..CLIENTS).prop_map(Step::GetOwn),
        2 => (1..4usize).prop_map(Step::Forward),
        2 => (1..6usize).prop_map(Step::CommitLeader),
        2 => (1..6usize).prop_map(Step::CommitLearner),
    ]
}

/// A client and what it expects.
struct Asker {
    conn: ConnId,
    session: SessionId,
    is_learners: bool,
    /// What it has asked, in order; the number is the place.
    asked: Vec<Op>,
    /// What the last SetOwn set.
    own: i32,
    /// What each GetOwn must find, by number.
    expected: BTreeMap<i32, String>,
    closed: bool,
}

struct World {
    pair: Pair,
    askers: Vec<Asker>,
    /// What the leader has committed.
    committed: usize,
}

impl World {
    fn new() -> World {
        let mut pair = Pair::new();
        let mut askers = Vec::new();
        for client in 0..CLIENTS {
            let is_learners = client >= CLIENTS / 2;
            let (conn, session) = if is_learners { pair.learners_client() } else { pair.leader.client() };
            askers.push(Asker {
                conn,
                session,
                is_learners,
                asked: Vec::new(),
                own: 0,
                expected: BTreeMap::new(),
                closed: false,
            });
        }
        let committed = pair.leader.log.len();
        let mut world = World { pair, askers, committed };
        for client in 0..CLIENTS {
            world.ask(client, create(&format!("/own{client}"), 0));
        }
        world
    }

    fn ask(&mut self, client: usize, op: Op) {
        let asker = &mut self.askers[client];
        if asker.closed {
            return; // A client that has closed its session says no more.
        }
        asker.closed = op == Op::CloseSession;
        asker.asked.push(op.clone());
        let xid = asker.asked.len() as i32;
        let server = if asker.is_learners { &mut self.pair.learner } else { &mut self.pair.leader };
        server.ask(asker.conn, xid, op);
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Ask(client, op) => self.ask(client, op),
            Step::SetOwn(client) => {
                self.askers[client].own += 1;
                let value = self.askers[client].own.to_string();
                self.ask(client, set_data(&format!("/own{client}"), &value));
            }
            Step::GetOwn(client) => {
                let asker = &mut self.askers[client];
                let value = if asker.own == 0 { "hi".into() } else { asker.own.to_string() };
                asker.expected.insert(asker.asked.len() as i32 + 1, format!("data {value} v{}", asker.own));
                self.ask(client, get_data(&format!("/own{client}")));
            }
            Step::Forward(count) => {
                let count = count.min(self.pair.learner.forwarded.len());
                let requests = self.pair.learner.forwarded.drain(..count).collect();
                self.pair.leader.step(Input::Forwarded { now: NOW, from: LEARNER, requests });
            }
            Step::CommitLeader(count) => {
                let count = count.min(self.pair.leader.proposed.len());
                let entries = self.pair.leader.proposed.drain(..count).collect();
                self.committed += count;
                self.pair.leader.step(Input::Commit(entries));
            }
            Step::CommitLearner(count) => {
                let to = self.committed.min(self.pair.committed + count);
                let entries = self.pair.leader.log[self.pair.committed..to].to_vec();
                self.pair.committed = to;
                self.pair.learner.step(Input::Commit(entries));
            }
        }
    }

    /// Each request is answered once, in its turn, with zxids that never go back, and each client reads
    /// what it wrote.
    fn check_replies(&mut self) {
        let leader = self.pair.leader.told();
        let learner = self.pair.learner.told();
        for asker in &self.askers {
            let told = if asker.is_learners { &learner } else { &leader };
            let mine = format!("c{} ", asker.conn.0);
            let mut replies = told.iter().filter_map(|line| line.strip_prefix(&mine));
            let mut last = 0;
            for (at, op) in asker.asked.iter().enumerate() {
                let xid = if *op == Op::Ping { -2 } else { at as i32 + 1 };
                let reply = replies.next().unwrap_or_else(|| panic!("{op:?} was not answered"));
                let rest =
                    reply.strip_prefix(&format!("#{xid} z")).unwrap_or_else(|| panic!("{op:?}: {reply}"));
                let (zxid, what) = rest.split_once(' ').expect("a reply has a zxid and a result");
                let zxid: u32 = zxid.parse().expect("no request here has an odd zxid");
                assert!(zxid >= last, "{op:?} answered {reply} after z{last}");
                last = zxid;
                if let Some(expected) = asker.expected.get(&(at as i32 + 1)) {
                    assert!(what.starts_with(expected.as_str()), "{what} is not {expected}");
                }
            }
            let end: &[&str] = if asker.closed { &["close"] } else { &[] };
            assert!(replies.eq(end.iter().copied()), "nothing follows but the end of a closed session");
        }
    }

    /// The leader's transactions, made and applied one by one, without any overlay.
    fn sequential(&self) -> Tree {
        let mut tree = Tree::new();
        let mut preparer = Preparer::new(EPOCH, Rules::default(), &tree);
        for entry in &self.pair.leader.log {
            let txn = self.remake(&mut preparer, &tree, &entry.txn);
            assert_eq!(txn, entry.txn, "what is pending must not matter");
            tree.apply(&txn, &mut Vec::new());
            preparer.applied(&txn);
            if let Some(digest) = txn.digest {
                assert_eq!(digest.tree, tree.digest(), "foretold for {:?}", txn.body);
            }
        }
        tree
    }

    fn remake(&self, preparer: &mut Preparer, tree: &Tree, txn: &Txn) -> Txn {
        let header = txn.header;
        let asker =
            self.askers.iter().find(|asker| asker.session == header.session).expect("sessions are clients'");
        let op = match txn.body {
            TxnBody::CreateSession { timeout_ms } => Op::CreateSession { timeout_ms },
            _ => asker.asked[header.cxid as usize - 1].clone(),
        };
        let from = if asker.is_learners { LEARNER } else { LEADER };
        let auth = request(asker.conn, 0, Op::Ping).auth;
        let write = Forwarded { session: header.session, local: false, cxid: header.cxid, op, auth };
        preparer.prepare(tree, NOW, from, write)
    }
}

/// Everything a tree says about itself: where it is, its digest, its sessions, its znodes.
type Dump = (Zxid, i64, Vec<(SessionId, i32)>, BTreeMap<String, String>);

fn dump(tree: &Tree) -> Dump {
    let mut nodes = BTreeMap::new();
    tree.walk(&mut |node| {
        nodes.insert(node.path.to_string(), format!("{:?} {:?} {:?}", node.data, node.acl, node.stat));
    });
    (tree.zxid(), tree.digest(), tree.sessions().iter().map(|(id, ms)| (*id, *ms)).collect(), nodes)
}

proptest! {
    #[test]
    fn late_commits_change_nothing(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        for all in [Step::Forward(usize::MAX), Step::CommitLeader(usize::MAX), Step::CommitLearner(1 << 32)] {
            world.take(all);
        }
        world.check_replies();
        let expected = dump(&world.sequential());
        prop_assert_eq!(&dump(world.pair.leader.replica.tree()), &expected);
        prop_assert_eq!(&dump(world.pair.learner.replica.tree()), &expected);
        prop_assert_eq!(world.pair.leader.replica.outstanding(), 0);
        prop_assert_eq!(world.pair.learner.replica.outstanding(), 0);
    }
}
