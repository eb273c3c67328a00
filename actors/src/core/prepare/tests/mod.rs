//! The preparer against a real tree: what it makes is applied at once, or only when a test says so.

mod modes;
mod multi;
mod ops;
mod pending;
mod quotas;
mod sessions;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::{Preparer, Rules};
use crate::core::tree::Tree;
use crate::types::{
    Acl, Auth, CreateKind, Epoch, Forwarded, Id, Op, SessionId, Sid, Txn, TxnBody, ZkError, Zxid, perms,
};

const ME: Sid = Sid(1);
const S: SessionId = SessionId(0x0100_0000_0000_0001);
const T: SessionId = SessionId(0x0100_0000_0000_0002);
const TIMEOUT_MS: i32 = 4000;

/// A leader's preparer with two open sessions, S and T.
struct Bench {
    tree: Tree,
    preparer: Preparer,
    /// Made, not applied.
    waiting: VecDeque<Txn>,
    auth: Auth,
}

impl Bench {
    fn new() -> Bench {
        Bench::with_rules(Rules::default())
    }

    fn with_rules(rules: Rules) -> Bench {
        let tree = Tree::new();
        let mut bench = Bench {
            preparer: Preparer::new(Epoch(1), rules, &tree),
            tree,
            waiting: VecDeque::new(),
            auth: Arc::from([Id::new("ip", "127.0.0.1")]),
        };
        for session in [S, T] {
            assert_eq!(
                bench.propose(session, Op::CreateSession { timeout_ms: TIMEOUT_MS }),
                TxnBody::CreateSession { timeout_ms: TIMEOUT_MS }
            );
        }
        bench.settle();
        bench
    }

    /// Prepared by way of this server, not applied.
    fn propose(&mut self, session: SessionId, op: Op) -> TxnBody {
        self.propose_from(ME, session, op)
    }

    fn propose_from(&mut self, from: Sid, session: SessionId, op: Op) -> TxnBody {
        let before = self.preparer.last();
        let write = Forwarded { session, local: false, cxid: 7, op, auth: self.auth.clone() };
        let txn = self.preparer.prepare(&self.tree, 1234, from, write);
        assert_eq!(txn.header.zxid, before.next(), "every write takes the next zxid");
        assert_eq!((txn.header.session, txn.header.cxid, txn.header.time), (session, 7, 1234));
        let body = txn.body.clone();
        self.waiting.push_back(txn);
        body
    }

    /// Applies the oldest of what waits.
    fn apply_one(&mut self) {
        let txn = self.waiting.pop_front().expect("something waits");
        self.tree.apply(&txn, &mut Vec::new());
        let digest = txn.digest.map(|digest| (digest.version, digest.tree));
        let none = matches!(txn.body, TxnBody::Error(_) | TxnBody::CloseSession { paths: None });
        assert_eq!(digest, (!none).then_some((2, self.tree.digest())), "foretold for {:?}", txn.body);
        self.preparer.applied(&txn);
    }

    /// Applies all that waits; then nothing may be left over the tree.
    fn settle(&mut self) {
        while !self.waiting.is_empty() {
            self.apply_one();
        }
        assert!(
            self.preparer.overlay.is_empty(),
            "what is applied is forgotten: {:?}",
            self.preparer.overlay
        );
        assert!(self.preparer.sessions.is_settled());
    }

    /// Prepared by S and applied.
    fn write(&mut self, op: Op) -> TxnBody {
        let body = self.propose(S, op);
        self.settle();
        body
    }

    /// Writes that must succeed.
    fn given(&mut self, ops: impl IntoIterator<Item = Op>) {
        for op in ops {
            let body = self.write(op.clone());
            assert!(!matches!(body, TxnBody::Error(_)), "{op:?} made {body:?}");
        }
    }

    /// Each of these is refused with the error beside it.
    fn refuses(&mut self, cases: impl IntoIterator<Item = (Op, ZkError)>) {
        for (op, error) in cases {
            let nodes = self.tree.node_count();
            let body = self.write(op.clone());
            assert_eq!(body, TxnBody::Error(error.code()), "{op:?} is {error}");
            assert_eq!(self.tree.node_count(), nodes);
        }
    }

    fn last_zxid(&self) -> Zxid {
        self.preparer.last()
    }
}

fn create(path: &str) -> Op {
    create_with(CreateKind::Create, path, 0, Some(open()))
}

fn create_flags(path: &str, flags: i32) -> Op {
    create_with(CreateKind::Create, path, flags, Some(open()))
}

fn create_acl(path: &str, acl: Vec<Acl>) -> Op {
    create_with(CreateKind::Create, path, 0, Some(acl))
}

fn create_with(kind: CreateKind, path: &str, flags: i32, acl: Option<Vec<Acl>>) -> Op {
    Op::Create { kind, path: path.into(), data: Some(Bytes::from_static(b"hi")), acl, flags }
}

fn delete(path: &str, version: i32) -> Op {
    Op::Delete { path: path.into(), version }
}

fn set_data(path: &str, version: i32) -> Op {
    Op::SetData { path: path.into(), data: Some(Bytes::from_static(b"ho")), version }
}

fn set_acl(path: &str, acl: Vec<Acl>, version: i32) -> Op {
    Op::SetAcl { path: path.into(), acl: Some(acl), version }
}

fn check(path: &str, version: i32) -> Op {
    Op::Check { path: path.into(), version }
}

/// Everybody may do everything.
fn open() -> Vec<Acl> {
    vec![Acl::world(perms::ALL)]
}

/// Everybody may do everything but this.
fn all_but(permission: i32) -> Vec<Acl> {
    vec![Acl::world(perms::ALL & !permission)]
}

/// What no list may hold.
fn bad_acl() -> Vec<Acl> {
    vec![Acl { perms: perms::ALL, id: Id::new("nonsense", "x") }]
}

/// The path that a create was given in the end.
fn created(body: TxnBody) -> String {
    match body {
        TxnBody::Create { path, .. } => path.to_string(),
        other => panic!("not created: {other:?}"),
    }
}
