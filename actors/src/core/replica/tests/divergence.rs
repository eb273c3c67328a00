//! A tree that is not what its leader foretells is shown to nobody.

use super::*;
use crate::core::tree::DIGEST_VERSION;
use crate::types::{Txn, TxnBody, TxnDigest, TxnHeader};

/// A committed transaction, made by a leader's replica of the same past but for its digest.
fn tampered(entry: &Entry, change: impl Fn(TxnDigest) -> Option<TxnDigest>) -> Arc<Entry> {
    let mut txn = entry.txn.clone();
    txn.digest = txn.digest.and_then(change);
    Arc::new(Entry { asked_at: entry.asked_at, ..(*Entry::new(txn)).clone() })
}

/// The first transaction of an epoch, a session's, and it foretells another tree than this server's is.
fn wrong_from_the_start(server: &Server) -> Arc<Entry> {
    let header = TxnHeader { session: SessionId(7), cxid: 0, zxid: Zxid::new(EPOCH, 1), time: NOW };
    let digest = Some(TxnDigest { version: DIGEST_VERSION, tree: server.replica.tree().digest() ^ 1 });
    Entry::new(Txn { header, body: TxnBody::CreateSession { timeout_ms: 5000 }, digest })
}

/// The next transaction of a leader and its client, a create.
fn next_create(leader: &mut Server, conn: ConnId, path: &str) -> Arc<Entry> {
    leader.ask(conn, 9, create(path, 0));
    let entry = leader.log.last().unwrap().clone();
    leader.commit();
    entry
}

/// What is said of a divergence, and nothing else.
fn divergence(server: &mut Server) -> Vec<String> {
    server.said().into_iter().filter(|line| line.contains("Divergence")).collect()
}

/// A leader with a client, and a learner in step with it that has one of its own.
fn in_step() -> (Server, ConnId, Server) {
    let (mut leader, mut learner) = (Server::leader(), Server::learner());
    let (conn, session) = leader.client();
    learner.step(Input::Commit(leader.log.clone()));
    learner.reconnect(session);
    learner.step(Input::Revalidated { session, valid: Some(Zxid(0)) });
    learner.told();
    learner.said();
    assert_eq!(learner.replica.client_count(), 1);
    (leader, conn, learner)
}

#[test]
fn a_wrong_tree_is_told_once_and_serves_nobody() {
    let (mut leader, conn, mut learner) = in_step();
    let right = next_create(&mut leader, conn, "/a");
    let wrong = tampered(&right, |digest| Some(TxnDigest { tree: digest.tree + 1, ..digest }));
    learner.step(Input::Commit(vec![wrong]));
    let (zxid, actual) = (right.zxid(), right.txn.digest.unwrap().tree);
    let applied = leader.log.len() as u64;
    let expected = actual + 1;
    assert_eq!(
        divergence(&mut learner),
        [format!("{:?}", Effect::Diverged(Divergence { zxid, expected, actual, applied }))]
    );
    assert_eq!(learner.told(), ["c1 close"], "and nobody hears of the change");
    assert!(learner.replica.is_diverged());

    // Its history goes on, and so does it: silently. Its role, which does not know yet, asks it to serve in vain.
    let next = next_create(&mut leader, conn, "/b");
    let next = tampered(&next, |digest| Some(TxnDigest { tree: digest.tree + 1, ..digest }));
    learner.step(Input::Commit(vec![next.clone()]));
    learner.step(Input::Service(Service::Learner { epoch: EPOCH, leader: LEADER }));
    assert_eq!((divergence(&mut learner), learner.replica.tree().zxid()), (vec![], next.zxid()));
    learner.connect(SessionId::NONE, &[]);
    assert_eq!(learner.told(), ["changed Created /b", "c2 close"], "nobody watches");

    // Another tree, and all is well.
    learner.step(Input::Install(Box::new(leader.replica.tree().clone())));
    learner.step(Input::Service(Service::Learner { epoch: EPOCH, leader: LEADER }));
    let right = next_create(&mut leader, conn, "/c");
    learner.step(Input::Commit(vec![right]));
    assert_eq!(divergence(&mut learner), [""; 0]);
    assert!(!learner.replica.is_diverged());
}

#[test]
fn what_cannot_be_compared_is_not() {
    let (mut leader, conn, mut learner) = in_step();
    let absent = tampered(&next_create(&mut leader, conn, "/a"), |_| None);
    let old = tampered(&next_create(&mut leader, conn, "/b"), |_| {
        Some(TxnDigest { version: DIGEST_VERSION - 1, tree: 7 })
    });
    learner.step(Input::Commit(vec![absent, old]));
    assert_eq!(divergence(&mut learner), [""; 0]);
    assert_eq!(learner.replica.tree().digest(), leader.replica.tree().digest());
}

// Only a fault of the machine or of the program does that.
#[test]
fn a_leader_compares_its_own_tree_too() {
    let mut leader = Server::leader();
    let (conn, _) = leader.client();
    leader.ask(conn, 9, create("/a", 0));
    let right = leader.proposed.pop_front().unwrap();
    let wrong = tampered(&right, |digest| Some(TxnDigest { tree: digest.tree ^ 1, ..digest }));
    leader.step(Input::Commit(vec![wrong]));
    assert_eq!(divergence(&mut leader).len(), 1);
    assert_eq!(leader.told(), ["c1 close"], "its client does not hear that the write is done");
}

#[test]
fn the_first_transaction_is_compared_too() {
    let mut learner = Server::learner();
    let wrong = wrong_from_the_start(&learner);
    learner.step(Input::Commit(vec![wrong]));
    assert_eq!(divergence(&mut learner).len(), 1);
}

/// Its node ends it, but its role may have gone on with the next epoch before it hears of that.
#[test]
fn a_leader_whose_tree_is_wrong_serves_no_next_epoch() {
    let mut leader = Server::leader();
    let wrong = wrong_from_the_start(&leader);
    leader.step(Input::Commit(vec![wrong]));
    assert_eq!(divergence(&mut leader).len(), 1);
    leader.step(Input::NextEpoch(EPOCH.next()));
    leader.connect(SessionId::NONE, &[]);
    assert_eq!((leader.told(), leader.proposed.len()), (vec!["c1 close".to_owned()], 0));
}
