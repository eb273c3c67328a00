//! Local sessions, and how they become global ones.

use super::*;
use crate::core::replica::local::MAX_LOCAL_SESSIONS;

const LOCAL: SessionId = SessionId(0x0200_0000_0000_0001);

/// A leader and a learner whose new sessions are local.
fn pair(local_sessions: LocalSessions) -> Pair {
    let mut pair = Pair::new();
    pair.leader.replica.settings.local_sessions = local_sessions;
    pair.learner.replica.settings.local_sessions = local_sessions;
    pair
}

/// The learner's first client, with a local session.
fn local_client(pair: &mut Pair) -> ConnId {
    let conn = pair.learner.connect(SessionId::NONE, &[]);
    assert_eq!(pair.learner.told(), [format!("c{} connected {LOCAL} 10000ms Some(false)", conn.0)]);
    conn
}

/// In a multi its flags count and its time to live does not.
fn create_ttl(path: &str, flags: i32) -> Op {
    let Op::Create { path, data, acl, .. } = create(path, flags) else { unreachable!("a create") };
    Op::Create { kind: CreateKind::Ttl(1000), path, data, acl, flags }
}

fn create2(path: &str, flags: i32) -> Op {
    let Op::Create { path, data, acl, flags, .. } = create(path, flags) else { unreachable!() };
    Op::Create { kind: CreateKind::Create2, path, data, acl, flags }
}

fn container(path: &str, flags: i32) -> Op {
    let Op::Create { path, data, acl, flags, .. } = create(path, flags) else { unreachable!() };
    Op::Create { kind: CreateKind::Container, path, data, acl, flags }
}

#[test]
fn a_local_session_is_told_at_once_and_takes_no_zxid() {
    let mut pair = pair(LocalSessions::On);
    let conn = local_client(&mut pair);
    assert!(pair.learner.forwarded.is_empty());
    assert_eq!(pair.learner.touched_local, [(LOCAL, 10_000)]);
    assert_eq!(pair.learner.touched.1, []);
    pair.learner.ask(conn, 1, Op::Ping);
    assert_eq!(pair.learner.told(), ["c1 #-2 z=0 ok"]);
    assert_eq!(pair.learner.touched_local, [(LOCAL, 10_000)]);
    assert_eq!(
        (pair.learner.replica.local_session_count(), pair.learner.replica.tree().sessions().len()),
        (1, 0)
    );
    // On the leader, too.
    let conn = pair.leader.connect(SessionId::NONE, &[]);
    pair.leader.ask(conn, 1, get_data("/"));
    assert_eq!(
        pair.leader.told(),
        ["c1 connected 0x100000000000001 10000ms Some(false)", "c1 #1 z=0 data  v0"]
    );
    assert!(pair.leader.proposed.is_empty());
}

#[test]
fn a_local_session_writes_through_the_leader() {
    let mut pair = pair(LocalSessions::On);
    let conn = local_client(&mut pair);
    pair.learner.ask_all(vec![request(conn, 1, create("/a", 0)), request(conn, 2, get_data("/a"))]);
    pair.settle();
    assert_eq!(pair.learner.told(), ["changed Created /a", "c1 #1 z1 path /a", "c1 #2 z1 data hi v0"]);
    assert_eq!(pair.leader.touched.1, [], "whom the leader does not know it does not track");
    // A sequential name is no ephemeral, and neither is a container.
    pair.learner.ask_all(vec![request(conn, 3, create("/s", 2)), request(conn, 4, container("/c", 0))]);
    pair.settle();
    assert_eq!(
        pair.learner.told(),
        [
            "changed Created /s0000000001",
            "c1 #3 z2 path /s0000000001",
            "changed Created /c",
            "c1 #4 z3 path /c v0"
        ]
    );
    let leaders = pair.leader.connect(SessionId::NONE, &[]);
    pair.leader.ask(leaders, 1, set_data("/a", "x"));
    pair.commit();
    assert_eq!(pair.leader.told().last().expect("a reply"), "c1 #1 z4 stat v1 a0");
}

#[test]
fn ephemerals_are_refused_where_sessions_stay_local() {
    let mut pair = pair(LocalSessions::On);
    let conn = local_client(&mut pair);
    let multi = Op::Multi(vec![create("/m", 0), create("/e", 1)]);
    let writes = [create("/e", 1), create2("/e", 3), container("/e", 1), multi, create("none/e", 1)];
    let writes = writes.into_iter().enumerate().map(|(n, op)| request(conn, n as i32, op)).collect();
    pair.learner.ask_all(writes);
    pair.settle();
    assert_eq!(
        pair.learner.told(),
        [
            "c1 #0 z1 EphemeralOnLocalSession",
            "c1 #1 z2 EphemeralOnLocalSession",
            "c1 #2 z3 SessionExpired",
            "c1 #3 z4 multi [0, -120]",
            "c1 #4 z5 EphemeralOnLocalSession",
        ]
    );
    assert_eq!(pair.learner.replica.local_session_count(), 1, "and it stays what it is");
}

#[test]
fn the_first_ephemeral_upgrades_the_session() {
    let (ttl, in_multi) = (create_ttl("/e", 1), create("/e", 1));
    let multis = [vec![create("/a", 0), in_multi], vec![ttl]].map(Op::Multi);
    for op in [create("/e", 1), create2("/e", 1)].into_iter().chain(multis) {
        let mut pair = pair(LocalSessions::Upgraded);
        let conn = local_client(&mut pair);
        // A number that the server's own createSession has, too.
        pair.learner.ask_all(vec![
            request(conn, 0, create("/before", 0)),
            request(conn, 0, op.clone()),
            request(conn, 0, get_data("/e")),
        ]);
        let forwarded: Vec<(bool, i32)> =
            pair.learner.forwarded.iter().map(|write| (write.local, jute_opcode(&write.op))).collect();
        assert_eq!(forwarded, [(true, 1), (false, -10), (false, jute_opcode(&op))]);
        assert_eq!(
            (pair.learner.touched.1.clone(), pair.learner.touched_local.clone()),
            (vec![(LOCAL, 10_000)], vec![])
        );
        pair.settle();
        let told = pair.learner.told();
        assert!(told[1].starts_with("c1 #0 z1 path /before"), "{told:?}");
        assert_eq!(
            told.iter().filter(|line| line.starts_with("c1 #0")).count(),
            3,
            "one reply each: {told:?}"
        );
        assert_eq!(told.last().expect("the read"), "c1 #0 z3 data hi v0");
        let tree = pair.learner.replica.tree();
        assert_eq!(tree.ephemerals(LOCAL), ["/e".into()]);
        assert_eq!(tree.session_timeout(LOCAL), Some(10_000));
        assert_eq!(pair.learner.replica.local_session_count(), 0);
        // From now on it moves, closes and expires like any other.
        pair.leader.reconnect(LOCAL);
        assert!(pair.leader.told().last().expect("an answer").contains("connected 0x200000000000001 "));
        pair.learner.ask(conn, 9, set_data("/e", "x"));
        pair.settle();
        assert_eq!(pair.learner.told(), ["c1 close"], "it has moved");
    }
}

#[test]
fn a_leaders_own_local_session_is_upgraded_too() {
    let mut pair = pair(LocalSessions::Upgraded);
    let conn = pair.leader.connect(SessionId::NONE, &[]);
    let session = SessionId(0x0100_0000_0000_0001);
    pair.leader.ask_all(vec![request(conn, 1, create("/e", 1)), request(conn, 2, Op::CloseSession)]);
    pair.leader.told();
    assert_eq!(pair.leader.touched.1, [(session, 10_000)]);
    pair.leader.commit();
    assert_eq!(
        pair.leader.told(),
        ["changed Created /e", "c1 #1 z2 path /e", "changed Deleted /e", "c1 #2 z3 ok", "c1 close"]
    );
    assert_eq!(pair.leader.replica.tree().sessions().len(), 0);
}

#[test]
fn a_local_session_goes_on_here_and_nowhere_else() {
    let mut pair = pair(LocalSessions::Upgraded);
    local_client(&mut pair);
    pair.learner.reconnect(LOCAL);
    assert_eq!(pair.learner.told(), ["c1 close", "c2 connected 0x200000000000001 10000ms Some(false)"]);
    assert!(pair.learner.asked.is_empty(), "nobody else can say");
    pair.learner.connect(LOCAL, b"wrong");
    assert_eq!(pair.learner.told(), ["c3 refused", "c3 close"]);
    pair.leader.reconnect(LOCAL);
    assert_eq!(pair.leader.told(), ["c1 refused", "c1 close"]);
    // The leader's own, at the learner.
    let conn = pair.leader.connect(SessionId::NONE, &[]);
    let session = pair.leader.replica.clients[&conn].session;
    pair.learner.reconnect(session);
    pair.revalidate();
    assert_eq!(pair.learner.told(), ["c4 refused", "c4 close"]);
}

#[test]
fn a_session_that_is_being_upgraded_is_the_leaders_business() {
    let mut pair = pair(LocalSessions::Upgraded);
    let conn = local_client(&mut pair);
    pair.learner.ask(conn, 1, create("/e", 1));
    let again = pair.learner.reconnect(LOCAL);
    assert_eq!(pair.learner.asked.len(), 1);
    pair.forward();
    pair.revalidate();
    assert_eq!(pair.learner.told(), ["c1 close", "c2 connected 0x200000000000001 10000ms Some(false)"]);
    pair.learner.ask(again, 1, set_data("/e", "x"));
    pair.settle();
    assert_eq!(
        pair.learner.told(),
        ["changed Created /e", "changed DataChanged /e", "c2 #1 z3 stat v1 a0"],
        "and its earlier connection's create is not taken for the new one's write"
    );
}

#[test]
fn closing_a_local_session_takes_no_zxid() {
    let mut pair = pair(LocalSessions::On);
    let conn = local_client(&mut pair);
    pair.learner.ask_all(vec![request(conn, 1, create("/a", 0)), request(conn, 2, Op::CloseSession)]);
    assert_eq!(pair.learner.told(), [""; 0], "behind what it has asked for");
    pair.settle();
    assert_eq!(pair.learner.told(), ["changed Created /a", "c1 #1 z1 path /a", "c1 #2 z1 ok", "c1 close"]);
    assert_eq!(pair.learner.said(), ["Closed(0x200000000000001)"]);
    assert_eq!(pair.learner.replica.local_session_count(), 0);
    pair.learner.reconnect(LOCAL);
    pair.revalidate();
    assert_eq!(pair.learner.told(), ["c2 refused", "c2 close"]);
}

#[test]
fn local_sessions_expire_on_any_server() {
    for server in [Server::leader(), Server::learner()] {
        let mut server = server;
        server.replica.settings.local_sessions = LocalSessions::On;
        let conn = server.connect(SessionId::NONE, &[]);
        let session = server.replica.clients[&conn].session;
        let seen = server.touched.0;
        server.ask(conn, 1, Op::Ping);
        server.told();
        server.step(Input::Expire { now: NOW, sessions: vec![session], seen });
        assert_eq!(server.told(), [""; 0], "it was heard from since");
        let seen = server.touched.0;
        server.step(Input::Expire { now: NOW, sessions: vec![session], seen });
        assert_eq!(server.told(), ["c1 close"]);
        assert_eq!(server.said(), [format!("Closed({session})")]);
        assert!(server.proposed.is_empty() && server.forwarded.is_empty());
        server.step(Input::Expire { now: NOW, sessions: vec![session], seen });
        assert_eq!(server.told(), [""; 0]);
    }
}

#[test]
fn local_sessions_are_bounded() {
    let mut server = Server::learner();
    server.replica.settings.local_sessions = LocalSessions::On;
    server.replica.locals = (1_000_000_000..).take(MAX_LOCAL_SESSIONS - 1).map(SessionId).collect();
    server.connect(SessionId::NONE, &[]);
    server.connect(SessionId::NONE, &[]);
    let told = server.told();
    assert!(told[0].starts_with("c1 connected"), "{told:?}");
    assert_eq!(told[1..], ["c2 close"], "and whoever is there stays");
    server.reconnect(LOCAL);
    assert!(server.told().last().expect("an answer").starts_with("c3 connected"));
}

#[test]
fn local_sessions_do_not_survive_a_change_of_service() {
    let mut pair = pair(LocalSessions::On);
    local_client(&mut pair);
    pair.learner.step(Input::Service(Service::None));
    assert_eq!((pair.learner.told(), pair.learner.said()), (vec!["c1 close".into()], vec!["Learn".into()]));
    pair.learner.step(Input::Service(Service::Learner { epoch: Epoch(2), leader: LEADER }));
    pair.learner.reconnect(LOCAL);
    pair.revalidate();
    assert_eq!(pair.learner.told(), ["c2 refused", "c2 close"]);
    let conn = pair.learner.connect(SessionId::NONE, &[]);
    assert_eq!(
        pair.learner.replica.clients[&conn].session,
        SessionId(LOCAL.0 + 1),
        "and its id is not given again"
    );
}

fn jute_opcode(op: &Op) -> i32 {
    crate::jute::opcode::of(op)
}
