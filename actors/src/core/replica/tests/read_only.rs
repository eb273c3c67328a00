//! Read-only mode: what a server without a leader does for clients that ask for no more.

use super::*;
use crate::core::tree::TreeLoader;
use crate::jute::opcode;

const GLOBAL: SessionId = SessionId(0x0100_0000_0000_0001);
const MINE: SessionId = SessionId(0x0200_0000_0000_0001);

/// A learner that has lost its leader for long. It knows of `/a` and of the session GLOBAL.
fn read_only() -> Server {
    let mut pair = Pair::new();
    let (conn, session) = pair.leader.client();
    assert_eq!(session, GLOBAL);
    pair.leader.ask(conn, 1, create("/a", 1));
    pair.commit();
    let mut server = pair.learner;
    server.step(Input::Service(Service::None));
    server.step(Input::Service(Service::ReadOnly));
    server.told();
    server.said();
    server
}

fn handshake(session: SessionId, read_only: Option<bool>) -> ConnectRequest {
    ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::ZERO,
        timeout_ms: 10_000,
        session,
        password: Bytes::copy_from_slice(&password(session)),
        read_only,
    }
}

fn reader(server: &mut Server) -> ConnId {
    let conn = server.connect_with(handshake(SessionId::NONE, Some(true)));
    assert_eq!(server.told(), [format!("c{} connected {MINE} 10000ms Some(true)", conn.0)]);
    conn
}

#[test]
fn only_who_asks_to_read_is_let_in() {
    let mut server = read_only();
    for wish in [None, Some(false)] {
        let conn = server.connect_with(handshake(SessionId::NONE, wish));
        assert_eq!(server.told(), [format!("c{} close", conn.0)]);
    }
    reader(&mut server);
    assert_eq!(server.touched_local, [(MINE, 10_000)]);
    let ahead = ConnectRequest {
        last_zxid_seen: server.replica.tree().zxid().next(),
        ..handshake(SessionId::NONE, Some(true))
    };
    server.connect_with(ahead);
    assert_eq!(server.told(), ["c4 close"]);
}

#[test]
fn a_session_of_the_ensemble_is_kept_for_it() {
    let mut server = read_only();
    // Known, and one that may have begun since this server was cut off, or belong to its earlier life.
    for session in [GLOBAL, SessionId(0x0300_0000_0000_0007), SessionId(0x0200_0000_0000_0000)] {
        let conn = server.connect_with(handshake(session, Some(true)));
        assert_eq!(server.told(), [format!("c{} close", conn.0)], "not a word that would end it");
    }
    let conn =
        server.connect_with(ConnectRequest { password: Bytes::new(), ..handshake(GLOBAL, Some(true)) });
    assert_eq!(server.told(), [format!("c{} close", conn.0)]);
}

#[test]
fn a_session_of_this_time_goes_on_until_it_expires() {
    let mut server = read_only();
    reader(&mut server);
    server.connect_with(ConnectRequest { timeout_ms: 20_000, ..handshake(MINE, Some(true)) });
    assert_eq!(server.told(), ["c1 close", format!("c2 connected {MINE} 20000ms Some(true)").as_str()]);
    server.connect_with(ConnectRequest { password: Bytes::new(), ..handshake(MINE, Some(true)) });
    assert_eq!(server.told(), ["c3 refused", "c3 close"]);
    let seen = server.touched.0;
    server.step(Input::Expire { now: NOW, sessions: vec![MINE, GLOBAL], seen });
    assert_eq!(server.told(), ["c2 close"]);
    server.connect_with(handshake(MINE, Some(true)));
    assert_eq!(server.told(), ["c4 refused", "c4 close"], "of these this server knows that they are over");
}

#[test]
fn reads_and_watches_work() {
    let mut server = read_only();
    let conn = reader(&mut server);
    let ids: Auth = Arc::from([Id::new("digest", "u:h")]);
    server.ask_all(vec![
        request(conn, 1, Op::GetData { path: "/a".into(), watch: true }),
        request(conn, 2, Op::Ping),
        request(conn, 3, Op::Auth(Ok(ids))),
        request(conn, 4, get_data("/none")),
        request(conn, 5, Op::MultiRead(vec![get_data("/a")])),
        request(conn, 6, Op::WhoAmI),
    ]);
    assert_eq!(
        server.told(),
        [
            "c1 #1 z2 data hi v0 watch Data /a",
            "c1 #-2 z2 ok",
            "c1 is u:h",
            "c1 #3 z=0 ok",
            "c1 #4 z2 NoNode",
            "c1 #5 z2 multi [data hi v0]",
            "c1 #6 z2 i am ip:127.0.0.1"
        ]
    );
}

#[test]
fn whatever_is_ordered_is_refused_and_the_connection_goes_on() {
    let mut server = read_only();
    let conn = reader(&mut server);
    let acl = Some(vec![Acl::world(perms::ALL)]);
    let mut ops = vec![
        create("/b", 0),
        create("/b", 1),
        delete("/a"),
        set_data("/a", "x"),
        Op::SetAcl { path: "/a".into(), acl, version: -1 },
        sync("/"),
        Op::Multi(vec![]),
        Op::Reconfig { joining: None, leaving: None, new_members: None, version: -1 },
        Op::Senseless { opcode: opcode::CREATE },
    ];
    let undecodable = [1, 2, 5, 7, 9, 14, 15, 16, 19, 21];
    ops.extend(undecodable.map(|opcode| Op::Undecodable { opcode }));
    for op in ops {
        server.ask(conn, 7, op.clone());
        assert_eq!(server.told(), ["c1 #7 z2 NotReadOnly"], "{op:?}");
    }
    server.ask(conn, 8, Op::Undecodable { opcode: opcode::GET_DATA });
    assert_eq!(server.told(), ["c1 #8 z2 MarshallingError"]);
    server.ask(conn, 9, Op::Check { path: "/a".into(), version: -1 });
    assert_eq!(server.told(), ["c1 #9 z=-1 Unimplemented", "c1 close"]);
    assert!(server.forwarded.is_empty() && server.proposed.is_empty());
}

#[test]
fn a_reader_closes_its_session_itself() {
    let mut server = read_only();
    let conn = reader(&mut server);
    server.ask(conn, 1, Op::CloseSession);
    assert_eq!(server.told(), ["c1 #1 z2 ok", "c1 close"]);
    assert_eq!(server.said(), [format!("Closed({MINE})")]);
}

#[test]
fn when_there_is_a_leader_again_everybody_is_sent_away() {
    let mut server = read_only();
    let zxid = server.replica.tree().zxid();
    reader(&mut server);
    server.step(Input::Service(Service::None));
    assert_eq!((server.told(), server.said()), (vec!["c1 close".into()], vec!["Learn".into()]));
    server.connect_with(handshake(SessionId::NONE, Some(true)));
    assert_eq!(server.told(), ["c2 close"]);
    // Nothing is left of it.
    server.step(Input::Service(Service::Learner { epoch: Epoch(2), leader: LEADER }));
    server.connect_with(handshake(MINE, Some(true)));
    assert_eq!(server.asked, [(MINE, 10_000)], "it is for the leader to say");
    assert_eq!((server.replica.tree().zxid(), server.replica.tree().sessions().len()), (zxid, 1));
    server.asked.clear();
    server.connect_with(handshake(SessionId::NONE, Some(true)));
    let [write] = &server.forwarded.make_contiguous() else { panic!("{:?}", server.forwarded) };
    assert_eq!(
        (write.session, write.local),
        (SessionId(MINE.0 + 1), false),
        "a session of the ensemble, a new id"
    );
}

#[test]
fn ids_of_this_time_begin_above_all_that_are_known() {
    let mut loader = TreeLoader::new();
    loader.session(SessionId(MINE.0 + 0x500), 4000);
    let mut server = Server::with_tree(LEARNER, loader.finish(Zxid::ZERO).unwrap());
    server.step(Input::Service(Service::ReadOnly));
    server.connect_with(handshake(SessionId(MINE.0 + 0x400), Some(true)));
    assert_eq!(server.told(), ["c1 close"], "one of this server's, from before");
}
