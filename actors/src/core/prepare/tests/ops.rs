//! Each operation's checks, in their order: a request that is wrong in two ways shows the first.

use super::*;
use crate::types::EpochLength;
use ZkError::{
    BadArguments, BadVersion, InvalidAcl, MarshallingError, NoAuth, NoChildrenForEphemerals, NoNode,
    NodeExists, NotEmpty, Unimplemented,
};

#[test]
fn a_create_is_checked_in_apaches_order() {
    let mut bench = Bench::new();
    bench.given([create("/a"), create_flags("/e", 1), create_acl("/shut", all_but(perms::CREATE))]);
    let ttl = |flags, ttl| create_with(CreateKind::Ttl(ttl), "/t", flags, Some(open()));
    bench.refuses([
        // Flags, before all else.
        (create_flags("bad", -1), BadArguments),
        (create_flags("/x", 7), BadArguments),
        (create_flags("bad", 5), Unimplemented),
        (create_with(CreateKind::Container, "/x", 6, Some(open())), Unimplemented),
        (ttl(5, 1000), Unimplemented),
        (ttl(6, -1), Unimplemented),
        (ttl(0, 1000), BadArguments),
        (ttl(0, -1), BadArguments),
        (ttl(4, -1), BadArguments),
        // A slash, and no NUL; the ACL is judged later.
        (create_acl("bad", bad_acl()), BadArguments),
        (create_acl("/a\0", bad_acl()), BadArguments),
        (create(""), BadArguments),
        // The ACL before the parent.
        (create_acl("/none/x", bad_acl()), InvalidAcl),
        (create_with(CreateKind::Create, "/none/x", 0, None), InvalidAcl),
        (create_acl("/none/x", vec![]), InvalidAcl),
        // The parent before the name.
        (create("/none/.."), NoNode),
        (create("/none/"), NoNode),
        (create("x/y"), NoNode),
        // Permission on the parent before the name.
        (create("/shut/.."), NoAuth),
        // The name before what is there.
        (create("/a/"), BadArguments),
        (create("/a/.."), BadArguments),
        (create("//a"), BadArguments),
        (create("/a/\u{1f600}"), BadArguments),
        // What is there before whether the parent may have children.
        (create("/"), NodeExists),
        (create("/a"), NodeExists),
        (create("/e/x"), NoChildrenForEphemerals),
    ]);
}

#[test]
fn opcode_and_flags_decide_what_is_made() {
    let cases = [
        (CreateKind::Create, 0, CreateKind::Create, false, "/n"),
        (CreateKind::Create2, 1, CreateKind::Create2, true, "/n"),
        (CreateKind::Create2, 2, CreateKind::Create2, false, "/n0000000000"),
        (CreateKind::Create, 3, CreateKind::Create, true, "/n0000000000"),
        (CreateKind::Create, 4, CreateKind::Create, false, "/n"),
        (CreateKind::Container, 0, CreateKind::Container, false, "/n"),
        (CreateKind::Container, 1, CreateKind::Container, false, "/n"),
        (CreateKind::Container, 3, CreateKind::Container, false, "/n0000000000"),
        (CreateKind::Container, 4, CreateKind::Container, false, "/n"),
    ];
    for (opcode, flags, made, is_ephemeral, name) in cases {
        let mut bench = Bench::new();
        bench.given([create("/p")]);
        let path = "/p/n";
        let body = bench.write(create_with(opcode, path, flags, Some(open())));
        let TxnBody::Create { kind, path, ephemeral, parent_cversion, .. } = body else {
            panic!("{opcode:?} with {flags} made {body:?}")
        };
        assert_eq!((kind, ephemeral, parent_cversion), (made, is_ephemeral, 1), "{opcode:?} with {flags}");
        assert_eq!(*path, format!("/p{name}"));
        let node = bench.tree.get(&path).expect("it is applied");
        assert_eq!(node.session(), is_ephemeral.then_some(S));
        assert_eq!(node.is_container(), made == CreateKind::Container);
    }
}

#[test]
fn containers_may_have_children_and_ephemerals_not() {
    let mut bench = Bench::new();
    bench.given([create_with(CreateKind::Container, "/c", 4, Some(open())), create_flags("/c/e", 1)]);
    bench.refuses([(create("/c/e/x"), NoChildrenForEphemerals)]);
}

#[test]
fn a_delete_is_checked_in_apaches_order() {
    let mut bench = Bench::new();
    bench.given([
        create("/a"),
        create("/a/b"),
        create("/shut"),
        create("/shut/a"),
        set_acl("/shut", all_but(perms::DELETE), -1),
    ]);
    bench.refuses([
        (delete("bad", 0), BadArguments),
        (delete("/a\0", 0), BadArguments),
        (delete("", -1), BadArguments),
        (delete("/", -1), BadArguments),
        (delete("/zookeeper", -1), BadArguments),
        (delete("/zookeeper/quota", -1), BadArguments),
        (delete("/zookeeper/config", -1), BadArguments),
        (delete("/none/x", -1), NoNode),
        (delete("/shut/none", -1), NoAuth),
        (delete("/none", -1), NoNode),
        (delete("/a/", -1), NoNode),
        (delete("//", -1), NoNode),
        (delete("/..", -1), NoNode),
        (delete("/a", 1), BadVersion),
        (delete("/a", -2), BadVersion),
        (delete("/a", 0), NotEmpty),
        (delete("/a", -1), NotEmpty),
    ]);
    assert_eq!(bench.write(delete("/a/b", 0)), TxnBody::Delete { path: "/a/b".into(), container: false });
    bench.given([delete("/a", -1)]);
}

#[test]
fn set_data_is_checked_in_apaches_order() {
    let mut bench = Bench::new();
    bench.given([create("/a"), create_acl("/shut", all_but(perms::WRITE))]);
    bench.refuses([
        (set_data("", -1), BadArguments),
        (set_data("/a/", -1), BadArguments),
        (set_data("/none", 3), NoNode),
        (set_data("/shut", 3), NoAuth),
        (set_data("/a", 1), BadVersion),
        (set_data("/a", -2), BadVersion),
    ]);
    let TxnBody::SetData { version, .. } = bench.write(set_data("/a", 0)) else { panic!("not set") };
    assert_eq!(version, 1);
    bench.given([set_data("/a", 1), set_data("/a", -1), set_data("/", -1), set_data("/zookeeper", -1)]);
    assert_eq!(bench.tree.get("/a").unwrap().stat().version, 3);
}

#[test]
fn set_acl_is_checked_in_apaches_order() {
    let mut bench = Bench::new();
    bench.given([create("/a"), create_acl("/shut", all_but(perms::ADMIN)), set_data("/a", -1)]);
    bench.refuses([
        (set_acl("a", bad_acl(), -1), BadArguments),
        (set_acl("/none", bad_acl(), -1), InvalidAcl),
        (set_acl("/none", open(), -1), NoNode),
        (set_acl("/shut", open(), 9), NoAuth),
        (set_acl("/a", open(), 1), BadVersion),
    ]);
    let body = bench.write(set_acl("/a", all_but(perms::READ), 0));
    assert_eq!(body, TxnBody::SetAcl { path: "/a".into(), acl: all_but(perms::READ), version: 1 });
    assert_eq!(bench.tree.get("/a").unwrap().stat().version, 1, "the version of the data stays");
}

#[test]
fn an_acl_of_auth_becomes_the_ids_of_who_asks() {
    let mut bench = Bench::new();
    let user = Id::new("digest", "u:h");
    bench.auth = Arc::from([Id::new("ip", "127.0.0.1"), user.clone()]);
    let auth = vec![Acl { perms: perms::READ, id: Id::new("auth", "") }];
    let body = bench.write(create_acl("/a", auth));
    let TxnBody::Create { acl, .. } = body else { panic!("made {body:?}") };
    assert_eq!(acl, [Acl { perms: perms::READ, id: user }]);
    bench.refuses([(set_data("/a", -1), NoAuth)]);
    bench.auth = Arc::from([Id::new("super", "")]);
    bench.given([set_data("/a", -1)]);
}

#[test]
fn a_body_that_makes_no_sense_takes_a_zxid() {
    let mut bench = Bench::new();
    let before = bench.last_zxid();
    // The last two are nothing that a well-meaning member would forward.
    bench.refuses([
        (Op::Undecodable { opcode: 1 }, MarshallingError),
        (Op::Ping, MarshallingError),
        (Op::GetData { path: "/".into(), watch: true }, MarshallingError),
    ]);
    assert_eq!(bench.last_zxid().counter(), before.counter() + 3);
}

#[test]
fn sequence_numbers_count_creates_of_any_kind_and_no_deletes() {
    let mut bench = Bench::new();
    bench.given([create("/q"), create("/q/a"), create("/q/b"), create("/q/c"), delete("/q/a", -1)]);
    assert_eq!(created(bench.write(create_flags("/q/n-", 2))), "/q/n-0000000003");
    assert_eq!(created(bench.write(create_flags("/q/", 2))), "/q/0000000004", "a name of digits alone");
    assert_eq!(bench.tree.get("/q").unwrap().stat().cversion, 6, "the Stat counts deletes as well");
}

#[test]
fn the_last_counter_of_an_epoch_ends_it() {
    let mut bench = Bench::new();
    bench.preparer.last = Zxid::new(Epoch(1), EpochLength::MAX.0 - 1);
    assert!(!bench.preparer.is_used_up());
    bench.given([create("/a")]);
    assert!(bench.preparer.is_used_up());
    assert_eq!(bench.last_zxid(), Zxid::new(Epoch(1), u32::MAX - 1));
    bench.preparer.turn_to(Epoch(2));
    bench.given([set_data("/a", 0)]);
    assert_eq!(bench.last_zxid(), Zxid::new(Epoch(2), 1));
}

#[test]
#[should_panic(expected = "the counter must not run into the epoch")]
fn a_counter_never_runs_into_the_epoch() {
    let mut bench = Bench::new();
    bench.preparer.last = Zxid::new(Epoch(1), EpochLength::MAX.0);
    bench.propose(S, create("/a"));
}
