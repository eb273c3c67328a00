//! New sessions, re-attached ones, refusals.

use super::*;
use crate::core::tree::TreeLoader;

fn connect_request(session: SessionId) -> ConnectRequest {
    ConnectRequest {
        protocol_version: 7,
        last_zxid_seen: Zxid::ZERO,
        timeout_ms: 10_000,
        session,
        password: Bytes::copy_from_slice(&password(session)),
        read_only: None,
    }
}

#[test]
fn a_new_session_is_told_when_it_is_applied() {
    let mut server = Server::leader();
    server.connect(SessionId::NONE, b"whatever");
    assert_eq!(server.told(), [""; 0]);
    assert_eq!(server.touched, (1, vec![(SessionId(0x0100_0000_0000_0001), 10_000)]));
    server.commit();
    assert_eq!(server.told(), ["c1 connected 0x100000000000001 10000ms Some(false)"]);
    server.connect_with(ConnectRequest { password: Bytes::new(), ..connect_request(SessionId::NONE) });
    server.commit();
    assert_eq!(server.told(), ["c2 connected 0x100000000000002 10000ms None"]);
}

#[test]
fn time_outs_are_clamped() {
    for (asked, given) in [(i32::MIN, 4000), (0, 4000), (3999, 4000), (20_000, 20_000), (i32::MAX, 40_000)] {
        let mut server = Server::leader();
        server.connect_with(ConnectRequest { timeout_ms: asked, ..connect_request(SessionId::NONE) });
        server.commit();
        assert_eq!(server.told(), [format!("c1 connected 0x100000000000001 {given}ms None")]);
        assert_eq!(server.replica.tree().sessions()[&SessionId(0x0100_0000_0000_0001)], given);
    }
}

#[test]
fn a_client_that_has_seen_more_is_closed_without_a_word() {
    let mut server = Server::leader();
    let (_, session) = server.client();
    let seen = server.replica.tree().zxid();
    server.connect_with(ConnectRequest { last_zxid_seen: seen.next(), ..connect_request(session) });
    assert_eq!(server.told(), ["c2 close"], "and the session's connection is not touched");
    server.connect_with(ConnectRequest { last_zxid_seen: seen, ..connect_request(session) });
    assert_eq!(server.told(), ["c1 close", "c3 connected 0x100000000000001 10000ms None"]);
    server.connect_with(ConnectRequest { last_zxid_seen: Zxid(-5), ..connect_request(session) });
    assert_eq!(server.told(), ["c3 close", "c4 connected 0x100000000000001 10000ms None"]);
}

#[test]
fn without_a_leader_nobody_is_answered() {
    let mut server = Server::new(LEADER);
    server.connect(SessionId::NONE, &[]);
    assert_eq!(server.told(), ["c1 close"]);
}

#[test]
fn unknown_expired_and_unproved_sessions_are_refused_alike() {
    let mut server = Server::leader();
    let (conn, session) = server.client();
    for (session, password) in [
        (SessionId(99), password(SessionId(99)).to_vec()),
        (session, vec![1; 16]),
        (session, vec![]),
        (session, password(session)[..15].to_vec()),
    ] {
        server.connect(session, &password);
        let conn = server.last_conn;
        assert_eq!(server.told(), [format!("c{conn} refused"), format!("c{conn} close")]);
    }
    // The owner is still there, and its session can be closing while others try.
    server.ask(conn, 1, Op::CloseSession);
    server.reconnect(session);
    assert_eq!(server.told(), ["c6 refused", "c6 close"]);
    server.commit();
    assert_eq!(server.told(), ["c1 #1 z2 ok", "c1 close"]);
    server.reconnect(session);
    assert_eq!(server.told(), ["c7 refused", "c7 close"]);
}

#[test]
fn a_second_handshake_ends_the_connection() {
    let mut server = Server::leader();
    let (conn, session) = server.client();
    server.step(Input::Connect { now: NOW, conn, request: connect_request(session) });
    assert_eq!(server.told(), ["c1 close"]);
    let conn = server.connect(SessionId::NONE, &[]);
    server.ask(conn, 1, Op::Ping);
    assert_eq!(server.told(), ["c2 close"], "and so does a request before the answer");
    server.commit();
    assert_eq!(server.told(), [""; 0]);
}

#[test]
fn ids_go_on_behind_the_newest_of_this_server() {
    let mut loader = TreeLoader::new();
    for id in [0x0100_0000_0000_0500, 0x0200_0000_0000_0900, i64::MIN] {
        loader.session(SessionId(id), 4000);
    }
    let mut server = Server::with_tree(LEADER, loader.finish(Zxid::ZERO).unwrap());
    server.step(Input::Service(Service::Leader(EPOCH)));
    server.connect(SessionId::NONE, &[]);
    server.connect(SessionId::NONE, &[]);
    server.commit();
    let told = server.told().join("; ");
    assert!(told.contains("0x100000000000501 ") && told.contains("0x100000000000502 "), "{told}");
}

#[test]
fn the_mark_of_containers_is_no_session() {
    let mut server = Server::new(Sid(0x80));
    server.replica.next_session = SessionId(i64::MIN);
    server.step(Input::Service(Service::Leader(EPOCH)));
    server.connect(SessionId::NONE, &[]);
    server.commit();
    assert_eq!(server.told(), ["c1 connected 0x8000000000000001 10000ms Some(false)"]);
}

#[test]
fn the_last_id_of_a_server_is_followed_by_its_first_free_one() {
    let mut server = Server::leader();
    let last = SessionId(0x01ff_ffff_ffff_ffff);
    server.replica.next_session = last;
    server.client();
    server.client();
    assert_eq!(
        server.replica.tree().sessions().keys().copied().collect::<Vec<_>>(),
        [SessionId(0x0100_0000_0000_0000), last]
    );
}

#[test]
fn the_first_id_has_the_server_and_the_clock() {
    assert_eq!(session_id_base(Sid(1), 0).0, 0x0100_0000_0000_0000);
    assert_eq!(session_id_base(Sid(2), 0xab_1234_5678_9abc).0, 0x0234_5678_9abc_0000);
    assert_eq!(session_id_base(Sid(0xfe), 1).0 as u64, 0xfe00_0000_0001_0000);
}

#[test]
fn a_learner_asks_the_leader() {
    let mut pair = Pair::new();
    let (_, session) = pair.leader.client();
    pair.commit();
    pair.learner.reconnect(session);
    assert_eq!(pair.learner.told(), [""; 0]);
    pair.revalidate();
    assert_eq!(pair.learner.told(), ["c1 connected 0x100000000000001 10000ms Some(false)"]);
    // Where it was before, everything ends it from now on.
    pair.leader.ask(ConnId(1), 1, Op::Ping);
    assert_eq!(pair.leader.told(), ["c1 close"]);
    pair.learner.reconnect(SessionId(5));
    pair.revalidate();
    assert_eq!(pair.learner.told(), ["c2 refused", "c2 close"]);
    pair.learner.connect(session, b"wrong");
    assert_eq!(pair.learner.told(), ["c3 refused", "c3 close"], "for that the leader is not asked");
    assert!(pair.learner.asked.is_empty());
}

#[test]
fn a_learners_new_session_is_told_when_it_is_applied_there() {
    let mut pair = Pair::new();
    pair.learner.connect(SessionId::NONE, &[]);
    pair.forward();
    pair.leader.commit();
    assert_eq!(pair.learner.told(), [""; 0]);
    pair.commit();
    assert_eq!(pair.learner.told(), ["c1 connected 0x200000000000001 10000ms Some(false)"]);
}

#[test]
fn of_two_that_wait_for_one_word_the_later_stays() {
    let mut pair = Pair::new();
    let (_, session) = pair.learners_client();
    pair.learner.reconnect(session);
    pair.learner.reconnect(session);
    assert_eq!(pair.learner.told(), ["c2 close"]);
    pair.revalidate();
    assert_eq!(pair.learner.told(), ["c1 close", "c3 connected 0x200000000000001 10000ms Some(false)"]);
}

#[test]
fn nobody_waits_for_a_word_when_its_client_has_gone() {
    let mut pair = Pair::new();
    let (_, session) = pair.learners_client();
    let conn = pair.learner.reconnect(session);
    pair.learner.step(Input::Disconnected(conn));
    pair.revalidate();
    assert_eq!(pair.learner.told(), ["c2 gone"]);
    let conn = pair.learner.connect(SessionId::NONE, &[]);
    pair.learner.step(Input::Disconnected(conn));
    pair.settle();
    assert_eq!(pair.learner.told(), ["c3 gone"]);
}

#[test]
fn an_id_that_the_leader_refuses_is_refused() {
    let mut pair = Pair::new();
    let (_, session) = pair.learners_client();
    pair.learner.replica.tree = Tree::new();
    pair.learner.replica.next_session = session;
    pair.learner.connect(SessionId::NONE, &[]);
    pair.settle();
    assert_eq!(pair.learner.told(), ["c2 refused", "c2 close"]);
}
