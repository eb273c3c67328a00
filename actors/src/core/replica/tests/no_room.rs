//! Disks that are nearly full: what needs room is refused at the door, and everything else goes on.

use super::*;

/// What needs no room: reads, deletes, sessions.
fn others() -> Vec<Op> {
    let check = Op::Check { path: "/a".into(), version: -1 };
    vec![get_data("/a"), Op::Multi(vec![check, delete("/gone")]), delete("/a")]
}

fn needy() -> Vec<Op> {
    let acl = Some(vec![Acl::world(perms::ALL)]);
    vec![
        create("/b", 0),
        create("/b", 1),
        set_data("/a", "x"),
        Op::SetAcl { path: "/a".into(), acl, version: -1 },
        Op::Multi(vec![delete("/a"), set_data("/b", "x")]),
        Op::Undecodable { opcode: crate::jute::opcode::MULTI },
    ]
}

#[test]
fn what_needs_room_is_refused_and_takes_no_place_in_the_order() {
    let mut server = Server::leader();
    let (c, _) = server.client();
    for path in ["/a", "/gone"] {
        server.ask(c, 1, create(path, 0));
        server.commit_one();
    }
    server.told();
    server.step(Input::RefuseWrites(true));
    let proposed = server.proposed.len();
    for op in needy() {
        server.ask(c, 2, op.clone());
        assert_eq!(server.told(), ["c1 #2 z3 NotReadOnly"], "{op:?}");
    }
    assert_eq!(server.proposed.len(), proposed, "nothing is logged for a refusal");
    for op in others() {
        server.ask(c, 3, op);
    }
    server.client();
    server.step(Input::RefuseWrites(false));
    server.ask(c, 4, create("/b", 0));
    while !server.proposed.is_empty() {
        server.commit_one();
    }
    let told = server.told();
    assert!(told.iter().all(|line| !line.contains("NotReadOnly")), "{told:?}");
    assert_eq!(told.last().map(String::as_str), Some("c1 #4 z7 path /b"));
}

#[test]
fn a_refusal_waits_for_its_turn() {
    let mut server = Server::leader();
    let (c, _) = server.client();
    server.ask(c, 1, create("/a", 0));
    server.step(Input::RefuseWrites(true));
    server.ask(c, 2, create("/b", 0));
    assert_eq!(server.told(), [""; 0]);
    server.commit_one();
    assert_eq!(server.told(), ["changed Created /a", "c1 #1 z2 path /a", "c1 #2 z2 NotReadOnly"]);
}

#[test]
fn a_learner_refuses_as_well_and_forgets_it_with_its_leader() {
    let mut pair = Pair::new();
    let (conn, _) = pair.learners_client();
    pair.learner.step(Input::RefuseWrites(true));
    pair.learner.ask(conn, 1, create("/a", 0));
    assert_eq!(pair.learner.told(), [format!("c{} #1 z1 NotReadOnly", conn.0)]);
    assert!(pair.learner.forwarded.is_empty());
    pair.learner.step(Input::Service(Service::None));
    pair.learner.step(Input::Service(Service::Learner { epoch: EPOCH, leader: LEADER }));
    let (conn, _) = pair.learners_client();
    pair.learner.ask(conn, 1, create("/a", 0));
    assert_eq!(pair.learner.forwarded.len(), 1);
}
