//! What comes and goes with a role: service, touches, expiry, the overlay.

use super::*;
use crate::types::TxnBody;

#[test]
fn losing_the_leader_closes_everything() {
    let mut server = Server::leader();
    let (c, session) = server.client();
    let (d, _) = server.client();
    server.ask_all(vec![request(c, 1, create("/a", 0)), request(c, 2, Op::Ping), request(d, 1, sync("/"))]);
    server.connect(SessionId::NONE, &[]);
    server.step(Input::Service(Service::None));
    assert_eq!(server.told(), ["c1 close", "c2 close", "c3 close"]);
    assert_eq!(server.said(), ["Learn"]);
    assert_eq!((server.replica.outstanding(), server.replica.client_count()), (0, 0));
    // What was proposed is decided by the next leader; late words from the old one are ignored.
    server.step(Input::SyncDone);
    server.step(Input::Expire { now: NOW, sessions: vec![session], seen: u64::MAX });
    server.step(Input::Revalidate { from: LEARNER, tenure: Tenure(1), session, timeout_ms: 1 });
    let write = Forwarded { session, local: false, cxid: 1, op: create("/b", 0), auth: Arc::from([]) };
    server.step(Input::Forwarded { now: NOW, from: LEARNER, requests: vec![write] });
    server.ask(c, 3, Op::Ping);
    assert_eq!((server.told(), server.said()), (vec![], vec![]));
}

#[test]
fn a_new_leader_starts_from_the_tree_alone() {
    let mut server = Server::leader();
    let (c, session) = server.client();
    server.ask(c, 1, create("/a", 0));
    server.step(Input::Service(Service::None));
    server.said();
    server.step(Input::Service(Service::Leader(Epoch(2))));
    assert_eq!(server.said(), [format!("Lead([({session}, 10000)])")]);
    let c = server.reconnect(session);
    server.told();
    server.log.clear();
    let mut effects = Vec::new();
    server
        .replica
        .step(Input::Requests { now: NOW, requests: vec![request(c, 1, create("/a", 0))] }, &mut effects);
    let [Effect::Propose(entries), Effect::Touched { .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(entries[0].zxid(), Zxid::new(Epoch(2), 1));
    assert!(matches!(entries[0].txn.body, crate::types::TxnBody::Create { .. }), "the old /a is forgotten");
}

#[test]
#[should_panic(expected = "before epoch")]
fn an_epoch_does_not_begin_behind_the_tree() {
    let mut server = Server::leader();
    server.client();
    server.step(Input::Service(Service::None));
    server.step(Input::Service(Service::Leader(EPOCH)));
}

#[test]
fn another_tree_comes_while_nobody_is_served() {
    let mut server = Server::leader();
    let (c, _) = server.client();
    server.answer(c, 1, create("/a", 0));
    let tree = server.replica.tree().clone();
    let mut other = Server::new(LEARNER);
    other.step(Input::Install(Box::new(tree)));
    assert!(other.replica.tree().get("/a").is_some());
    // What it holds already comes again and is passed over.
    let again = server.log.clone();
    other.step(Input::Commit(again));
    assert_eq!(other.told(), [""; 0]);
}

#[test]
fn everybody_heard_from_is_touched_once_a_step() {
    let mut pair = Pair::new();
    let (c, s) = pair.leader.client();
    let (d, t) = pair.leader.client();
    let batch = pair.leader.touched.0;
    pair.leader.ask_all(vec![request(d, 1, Op::Ping), request(c, 1, Op::Ping), request(d, 2, get_data("/"))]);
    assert_eq!(pair.leader.touched, (batch + 1, vec![(t, 10_000), (s, 10_000)]));
    // An auth packet is between the connection and itself.
    let ids: Auth = Arc::from([Id::new("digest", "u:h")]);
    pair.leader.ask(c, 2, Op::Auth(Ok(ids)));
    assert_eq!(pair.leader.touched.0, batch + 1);
    // What a learner forwards counts, with the time-out negotiated there.
    let (e, u) = pair.learners_client();
    assert_eq!(pair.learner.touched.1, [(u, 10_000)]);
    pair.learner.ask(e, 1, create("/x", 0));
    pair.forward();
    assert_eq!(pair.leader.touched.1, [(u, 10_000)]);
}

#[test]
fn each_connection_touches_with_its_own_time_out() {
    let mut server = Server::leader();
    let (_, session) = server.client();
    let c = server.connect_with(ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::ZERO,
        timeout_ms: 5000,
        session,
        password: Bytes::copy_from_slice(&password(session)),
        read_only: None,
    });
    assert_eq!(server.touched.1, [(session, 5000)]);
    server.ask(c, 1, Op::Ping);
    assert_eq!(server.touched.1, [(session, 5000)]);
    assert_eq!(server.replica.tree().session_timeout(session), Some(10_000));
}

#[test]
fn a_silent_session_expires() {
    let mut server = Server::leader();
    let (c, session) = server.client();
    server.answer(c, 1, create("/e", 1));
    let seen = server.touched.0;
    server.step(Input::Expire { now: NOW, sessions: vec![session, SessionId(99)], seen });
    assert_eq!(server.proposed.len(), 1, "of a session that is unknown there is nothing to close");
    server.step(Input::Expire { now: NOW, sessions: vec![session], seen });
    assert_eq!(server.proposed.len(), 1, "once");
    server.ask_all(vec![request(c, 2, get_data("/")), request(c, 3, Op::Ping)]);
    assert_eq!(server.told(), ["c1 #2 z2 SessionExpired", "c1 #3 z2 SessionExpired"]);
    server.commit();
    assert_eq!(server.told(), ["changed Deleted /e", "c1 close"]);
    assert_eq!(server.said(), [format!("Closed({session})")]);
}

#[test]
fn who_was_heard_from_in_the_meantime_stays() {
    let mut server = Server::leader();
    let (c, session) = server.client();
    let seen = server.touched.0;
    server.ask(c, 1, Op::Ping);
    server.step(Input::Expire { now: NOW, sessions: vec![session], seen });
    assert!(server.proposed.is_empty());
    server.step(Input::Expire { now: NOW, sessions: vec![session], seen: seen + 1 });
    assert_eq!(server.proposed.len(), 1);
}

#[test]
fn a_refusal_waits_for_its_turn() {
    let mut server = Server::leader();
    let (c, session) = server.client();
    server.ask(c, 1, create("/a", 0));
    let seen = server.touched.0;
    server.step(Input::Expire { now: NOW, sessions: vec![session], seen });
    server.ask(c, 2, get_data("/"));
    assert_eq!(server.told(), [""; 0]);
    server.commit_one();
    assert_eq!(server.told(), ["changed Created /a", "c1 #1 z2 path /a", "c1 #2 z2 SessionExpired"]);
}

/// The leader's epoch is used up, and a client and a learner have asked for more.
fn used_up() -> (Server, ConnId) {
    let mut server = Server::leader();
    let (c, _) = server.client();
    server.ask(c, 1, create("/a", 0));
    server.commit_one();
    let Role::Leader(preparer) = &mut server.replica.role else { panic!("it leads") };
    preparer.end_epoch();
    server.ask_all(vec![
        request(c, 2, create("/b", 0)),
        request(c, 3, get_data("/a")),
        request(c, 4, Op::Ping),
    ]);
    let write =
        Forwarded { session: SessionId(1), local: false, cxid: 1, op: create("/c", 0), auth: Arc::from([]) };
    server.step(Input::Forwarded { now: NOW, from: LEARNER, requests: vec![write] });
    assert_eq!(server.proposed.len(), 0);
    server.told();
    (server, c)
}

#[test]
fn writes_wait_for_the_next_epoch() {
    let (mut server, _) = used_up();
    server.step(Input::NextEpoch(EPOCH.next()));
    let zxids: Vec<_> = server.proposed.iter().map(|entry| entry.zxid()).collect();
    assert_eq!(
        zxids,
        [Zxid::new(EPOCH.next(), 1), Zxid::new(EPOCH.next(), 2)],
        "in the order in which they came"
    );
    server.commit_one();
    assert_eq!(
        server.told(),
        [
            "changed Created /b",
            "c1 #2 z=8589934593 path /b",
            "c1 #3 z=8589934593 data hi v0",
            "c1 #-2 z=8589934593 ok"
        ]
    );
    assert_eq!(server.said(), [""; 0], "the sessions are tracked as before");
}

#[test]
fn a_leader_that_loses_its_epoch_forgets_the_writes_for_the_next() {
    let (mut server, _) = used_up();
    server.step(Input::Service(Service::None));
    assert_eq!(server.told(), ["c1 close"]);
    server.step(Input::Service(Service::Leader(EPOCH.next())));
    assert_eq!(server.proposed.len(), 0);
}

/// A client comes back from a learner and counts its requests anew: what it had asked for there, and what still waits,
/// is no answer to those.
#[test]
fn what_waits_for_the_next_epoch_answers_no_later_request() {
    let mut server = Server::leader();
    let (_, session) = server.client();
    server.step(Input::Revalidate { from: LEARNER, tenure: Tenure(1), session, timeout_ms: 10_000 });
    let Role::Leader(preparer) = &mut server.replica.role else { panic!("it leads") };
    preparer.end_epoch();
    let write = Forwarded { session, local: false, cxid: 7, op: create("/b", 0), auth: Arc::from([]) };
    server.step(Input::Forwarded { now: NOW, from: LEARNER, requests: vec![write] });
    let d = server.reconnect(session);
    server.ask(d, 7, create("/d", 0));
    server.told();
    server.step(Input::NextEpoch(EPOCH.next()));
    server.commit();
    assert_eq!(server.told(), [""; 0], "the session had moved on when its time came");
    server.step(Input::NextEpoch(EPOCH.next().next()));
    server.commit();
    assert_eq!(server.told(), ["changed Created /d", "c2 #7 z=12884901889 path /d"]);
}

#[test]
fn who_waits_for_the_next_epoch_is_heard_from() {
    let mut server = Server::leader();
    let (_, session) = server.client();
    let Role::Leader(preparer) = &mut server.replica.role else { panic!("it leads") };
    preparer.end_epoch();
    let write = Forwarded { session, local: false, cxid: 1, op: create("/c", 0), auth: Arc::from([]) };
    let seen = server.touched.0;
    server.step(Input::Forwarded { now: NOW, from: LEARNER, requests: vec![write] });
    assert_eq!(server.touched.1.iter().map(|(session, _)| *session).collect::<Vec<_>>(), [session]);
    server.step(Input::Expire { now: NOW, sessions: vec![session], seen });
    server.step(Input::NextEpoch(EPOCH.next()));
    assert_eq!(server.proposed.len(), 1, "it is not expired");
}

#[test]
fn an_expiry_waits_for_the_next_epoch() {
    let (mut server, _) = used_up();
    let (session, seen) = (*server.replica.tree.sessions().keys().next().unwrap(), server.touched.0);
    server.step(Input::Expire { now: NOW, sessions: vec![session], seen });
    assert_eq!(server.proposed.len(), 0);
    server.step(Input::NextEpoch(EPOCH.next()));
    assert_eq!(server.proposed.len(), 2, "the next epoch is used up by what came before");
    server.commit();
    server.step(Input::NextEpoch(EPOCH.next().next()));
    assert!(matches!(server.proposed.back().unwrap().txn.body, TxnBody::CloseSession { .. }));
}

#[test]
fn a_learner_keeps_its_clients_when_its_leader_goes_on_with_the_next_epoch() {
    let (mut leader, mut server) = (Server::leader(), Server::learner());
    let (_, session) = leader.client();
    server.step(Input::Commit(leader.log.clone()));
    let c = server.reconnect(session);
    server.step(Input::Revalidated { session, valid: Some(Zxid::ZERO) });
    server.told();
    server.ask(c, 1, create("/a", 0));
    server.step(Input::NextEpoch(EPOCH.next()));
    server.ask(c, 2, get_data("/"));
    assert_eq!(server.told(), [""; 0], "the read waits behind the write");
    assert_eq!((server.replica.client_count(), server.forwarded.len()), (1, 1));
}
