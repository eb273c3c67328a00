//! First in, first out: on each connection, and only there.

use super::super::pipeline::MAX_QUEUED;
use super::*;
use crate::types::ZkError;

#[test]
fn reads_wait_for_the_own_writes_before_them() {
    let mut server = Server::leader();
    let (c, _) = server.client();
    let (d, _) = server.client();
    server.ask_all(vec![
        request(c, 1, get_data("/a")),
        request(c, 2, create("/a", 0)),
        request(c, 3, get_data("/a")),
        request(c, -2, Op::Ping),
        request(c, 4, set_data("/a", "x")),
        request(c, 5, get_data("/a")),
        request(d, 1, get_data("/a")),
    ]);
    assert_eq!(server.told(), ["c1 #1 z2 NoNode", "c2 #1 z2 NoNode"]);
    assert_eq!(server.replica.outstanding(), 5);
    assert_eq!(server.proposed.len(), 2, "a write is proposed though another one is pending");
    server.commit_one();
    assert_eq!(
        server.told(),
        ["changed Created /a", "c1 #2 z3 path /a", "c1 #3 z3 data hi v0", "c1 #-2 z3 ok"]
    );
    server.ask(d, 2, get_data("/a"));
    assert_eq!(server.told(), ["c2 #2 z3 data hi v0"]);
    server.commit_one();
    assert_eq!(server.told(), ["changed DataChanged /a", "c1 #4 z4 stat v1 a0", "c1 #5 z4 data x v1"]);
    assert_eq!(server.replica.outstanding(), 0);
}

#[test]
fn a_throttled_request_is_refused_in_its_turn_and_takes_no_zxid() {
    let mut server = Server::leader();
    let (c, _) = server.client();
    server.ask_all(vec![
        request(c, 1, create("/a", 0)),
        request(c, 2, Op::Throttled { opcode: crate::jute::opcode::CREATE }),
        request(c, 3, create("/b", 0)),
    ]);
    assert_eq!((server.told(), server.proposed.len()), (vec![], 2));
    server.commit_one();
    assert_eq!(server.told(), ["changed Created /a", "c1 #1 z2 path /a", "c1 #2 z2 ThrottledOp"]);
    server.commit_one();
    assert_eq!(server.told(), ["changed Created /b", "c1 #3 z3 path /b"]);
}

#[test]
fn a_sync_waits_for_its_word() {
    let mut server = Server::leader();
    let (c, _) = server.client();
    server.ask_all(vec![request(c, 1, Op::Sync { path: None }), request(c, 2, get_data("/"))]);
    assert_eq!((server.told(), server.syncs), (vec![], 1));
    server.step(Input::SyncDone);
    assert_eq!(server.told(), ["c1 #1 z1 synced None", "c1 #2 z1 data  v0"]);
    server.step(Input::SyncDone);
    assert_eq!(server.told(), [""; 0], "one that nobody waits for is ignored");
}

#[test]
fn a_sync_stands_between_the_writes_around_it() {
    let mut server = Server::leader();
    let (c, _) = server.client();
    let mut effects = Vec::new();
    let requests = vec![
        request(c, 1, create("/a", 0)),
        request(c, 2, sync("/a")),
        request(c, 3, create("/b", 0)),
        request(c, 4, get_data("/b")),
    ];
    server.replica.step(Input::Requests { now: NOW, requests }, &mut effects);
    let order: Vec<&str> = effects
        .iter()
        .map(|effect| match effect {
            Effect::Propose(entries) if entries.len() == 1 => "propose one",
            Effect::Sync => "sync",
            Effect::Touched { .. } => "touched",
            other => panic!("unexpected {other:?}"),
        })
        .collect();
    assert_eq!(order, ["propose one", "sync", "propose one", "touched"]);
}

#[test]
fn what_is_done_early_is_told_in_its_turn() {
    let mut server = Server::leader();
    let (c, _) = server.client();
    server.ask_all(vec![request(c, 1, create("/a", 0)), request(c, 2, sync("/a"))]);
    server.step(Input::SyncDone);
    assert_eq!(server.told(), [""; 0]);
    server.commit();
    assert_eq!(server.told(), ["changed Created /a", "c1 #1 z2 path /a", "c1 #2 z2 synced Some(\"/a\")"]);
}

#[test]
fn a_write_about_to_be_applied_does_not_overtake_a_sync() {
    let mut server = Server::leader();
    let (c, _) = server.client();
    server.ask_all(vec![
        request(c, 1, sync("/")),
        request(c, 2, get_data("/a")),
        request(c, 3, sync("/")),
        request(c, 4, create("/a", 0)),
        request(c, 5, sync("/")),
    ]);
    server.commit();
    assert_eq!(
        server.told(),
        [
            "c1 #1 z1 synced Some(\"/\")",
            "c1 #2 z1 NoNode",
            "c1 #3 z1 synced Some(\"/\")",
            "changed Created /a",
            "c1 #4 z2 path /a",
        ]
    );
    // The words for the first two come late and are not taken for the third.
    server.step(Input::SyncDone);
    server.step(Input::SyncDone);
    assert_eq!(server.told(), [""; 0]);
    server.step(Input::SyncDone);
    assert_eq!(server.told(), ["c1 #5 z2 synced Some(\"/\")"]);
}

#[test]
fn a_sync_of_a_connection_that_is_gone_is_not_taken_for_another() {
    let mut server = Server::leader();
    let (c, _) = server.client();
    let (d, _) = server.client();
    server.ask_all(vec![request(c, 1, sync("/")), request(d, 1, sync("/"))]);
    server.step(Input::Disconnected(c));
    server.told();
    server.step(Input::SyncDone);
    assert_eq!(server.told(), [""; 0]);
    server.step(Input::SyncDone);
    assert_eq!(server.told(), ["c2 #1 z2 synced Some(\"/\")"]);
}

#[test]
fn auth_is_answered_in_its_turn() {
    let mut server = Server::leader();
    let (c, _) = server.client();
    let ids: Auth = Arc::from([Id::new("digest", "u:h")]);
    server.ask_all(vec![
        request(c, 1, create("/a", 0)),
        request(c, -4, Op::Auth(Ok(ids))),
        request(c, -4, Op::Auth(Err(ZkError::AuthFailed))),
        request(c, 2, Op::Ping),
    ]);
    assert_eq!(server.told(), [""; 0]);
    server.commit();
    assert_eq!(
        server.told(),
        [
            "changed Created /a",
            "c1 #1 z2 path /a",
            "c1 is u:h",
            "c1 #-4 z=0 ok",
            "c1 #-4 z=0 AuthFailed",
            "c1 close"
        ]
    );
}

#[test]
fn what_nobody_serves_is_told_so() {
    let mut server = Server::leader();
    let (c, _) = server.client();
    assert_eq!(server.answer(c, 2, Op::Undecodable { opcode: 4 }), ["c1 #2 z1 MarshallingError"]);
    assert_eq!(server.answer(c, 3, Op::Undecodable { opcode: 1 }), ["c1 #3 z1 MarshallingError"]);
    for op in [
        Op::Unknown { opcode: 10 },
        Op::Check { path: "/".into(), version: 0 },
        Op::CreateSession { timeout_ms: 1 },
    ] {
        let (c, _) = server.client();
        let last = server.replica.tree().zxid();
        server.ask_all(vec![request(c, 1, op), request(c, 2, Op::Ping)]);
        assert_eq!(server.told(), [format!("c{} #1 z=-1 Unimplemented", c.0), format!("c{} close", c.0)]);
        assert!(server.proposed.is_empty() && server.replica.tree().zxid() == last);
    }
}

#[test]
fn a_connection_that_does_not_wait_for_answers_is_closed() {
    let mut server = Server::leader();
    let (c, _) = server.client();
    server.ask(c, 0, create("/a", 0));
    let flood = (1..=MAX_QUEUED as i32).map(|xid| request(c, xid, Op::Ping)).collect();
    server.ask_all(flood);
    assert_eq!(server.told(), ["c1 close"]);
    assert_eq!(server.replica.outstanding(), 0);
}
