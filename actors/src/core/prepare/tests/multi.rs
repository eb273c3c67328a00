//! All or nothing, each member after the other.

use super::*;

fn error(error: ZkError) -> TxnBody {
    TxnBody::Error(error.code())
}

#[test]
fn members_see_the_ones_before_them() {
    let mut bench = Bench::new();
    let body = bench.write(Op::Multi(vec![
        create("/m"),
        create_flags("/m/n", 2),
        create_flags("/m/n", 2),
        set_data("/m", 0),
        check("/m", 1),
        delete("/m/n0000000000", 0),
    ]));
    let TxnBody::Multi(members) = body else { panic!("made {body:?}") };
    assert_eq!(members.len(), 6);
    assert_eq!(created(members[2].clone()), "/m/n0000000001");
    assert_eq!(members[4], TxnBody::Check { path: "/m".into(), version: 2 });
    assert!(bench.tree.get("/m/n0000000001").is_some() && bench.tree.get("/m/n0000000000").is_none());
}

#[test]
fn one_that_fails_undoes_all() {
    let mut bench = Bench::new();
    bench.given([create("/a")]);
    let body = bench.propose(
        S,
        Op::Multi(vec![create("/b"), set_data("/a", 0), delete("/b", 5), create("/c"), create("/d")]),
    );
    let after = ZkError::RuntimeInconsistency;
    let expected =
        [TxnBody::Error(0), TxnBody::Error(0), error(ZkError::BadVersion), error(after), error(after)];
    assert_eq!(body, TxnBody::Multi(expected.to_vec()));
    // Nothing of it is pending.
    assert_eq!(bench.propose(S, set_data("/b", -1)), error(ZkError::NoNode));
    assert!(matches!(bench.propose(S, set_data("/a", 0)), TxnBody::SetData { version: 1, .. }));
    bench.settle();
    assert!(bench.tree.get("/b").is_none());
}

#[test]
fn a_failed_one_leaves_earlier_proposals_pending() {
    let mut bench = Bench::new();
    bench.propose(S, create("/a"));
    bench.propose(S, Op::Multi(vec![delete("/a", 0), create("/x"), create("/x")]));
    assert_eq!(bench.propose(S, create("/a")), error(ZkError::NodeExists));
    assert_eq!(created(bench.propose(S, create_flags("/a/n", 2))), "/a/n0000000000");
    bench.settle();
}

#[test]
fn an_empty_one_succeeds() {
    let mut bench = Bench::new();
    assert_eq!(bench.write(Op::Multi(vec![])), TxnBody::Multi(vec![]));
}

#[test]
fn what_is_no_member_spoils_it_as_a_whole() {
    let mut bench = Bench::new();
    let container_with_ttl = create_with(CreateKind::Container, "/x", 5, Some(open()));
    for stranger in [
        set_acl("/", open(), -1),
        Op::Multi(vec![]),
        Op::GetData { path: "/".into(), watch: false },
        Op::CloseSession,
        Op::CreateSession { timeout_ms: 1 },
        create_flags("/x", 7),
        create_flags("/x", -1),
        create_flags("/x", 5),
        container_with_ttl,
    ] {
        let body = bench.write(Op::Multi(vec![create("/y"), stranger.clone()]));
        assert_eq!(body, error(ZkError::MarshallingError), "{stranger:?}");
    }
    assert!(bench.tree.get("/y").is_none());
}

#[test]
fn opcode_and_flags_decide_what_a_member_makes() {
    let ttl = CreateKind::Ttl(1000);
    let cases = [
        (CreateKind::Create, 4, CreateKind::Container),
        // Apache before 3.9 cannot read a create2 in a multi.
        (CreateKind::Create2, 0, CreateKind::Create),
        (CreateKind::Create2, 4, CreateKind::Container),
        (CreateKind::Container, 0, CreateKind::Container),
        (CreateKind::Container, 4, CreateKind::Container),
        (ttl, 0, CreateKind::Create),
        (ttl, 4, CreateKind::Container),
    ];
    for (opcode, flags, made) in cases {
        let mut bench = Bench::new();
        let body = bench.write(Op::Multi(vec![create_with(opcode, "/x", flags, Some(open()))]));
        let TxnBody::Multi(members) = body else { panic!("made {body:?}") };
        assert!(matches!(&members[0], TxnBody::Create { kind, .. } if *kind == made), "{members:?}");
    }
    let mut bench = Bench::new();
    let body = bench.write(Op::Multi(vec![create_with(ttl, "/x", 5, Some(open()))]));
    assert_eq!(body, TxnBody::Multi(vec![error(ZkError::Unimplemented)]), "TTL nodes are off");
}

#[test]
fn a_check_needs_read() {
    let mut bench = Bench::new();
    bench.given([create_acl("/shut", all_but(perms::READ)), create("/a")]);
    let cases = [
        (check("a", 0), ZkError::BadArguments),
        (check("/none", 0), ZkError::NoNode),
        (check("/shut", 7), ZkError::NoAuth),
        (check("/a", 7), ZkError::BadVersion),
    ];
    for (member, code) in cases {
        let body = bench.write(Op::Multi(vec![member.clone()]));
        assert_eq!(body, TxnBody::Multi(vec![error(code)]), "{member:?}");
    }
}
