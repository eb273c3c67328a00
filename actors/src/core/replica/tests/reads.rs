//! Answers out of the tree, and the watches they leave.

use super::*;

/// A leader with one client and these znodes: `/a` (everybody), `/a/b`, `/shut` (nobody reads it).
fn served() -> (Server, ConnId) {
    let mut server = Server::leader();
    let (c, _) = server.client();
    server.answer(c, 1, create("/a", 0));
    server.answer(c, 2, create("/a/b", 0));
    let acl = vec![Acl::world(perms::ADMIN), Acl { perms: perms::READ, id: Id::new("digest", "bob:secret") }];
    let shut =
        Op::Create { kind: CreateKind::Create, path: "/shut".into(), data: None, acl: Some(acl), flags: 0 };
    server.answer(c, 3, shut);
    (server, c)
}

#[test]
fn each_read_has_its_answer() {
    let (mut server, c) = served();
    let exists = |path: &str, watch| Op::Exists { path: path.into(), watch };
    let data = |path: &str, watch| Op::GetData { path: path.into(), watch };
    let acl = |path: &str| Op::GetAcl { path: path.into() };
    let children = |path: &str, watch, stat| Op::GetChildren { path: path.into(), watch, stat };
    let cases = [
        (exists("/a", true), "stat v0 a0 watch Data /a"),
        (exists("/a", false), "stat v0 a0"),
        (exists("/none", true), "NoNode watch Data /none"),
        (exists("/none", false), "NoNode"),
        (exists("/shut", true), "NoAuth"),
        (exists("/\0", true), "BadArguments"),
        (exists("bad", true), "NoNode watch Data bad"),
        (data("/a", true), "data hi v0 watch Data /a"),
        (data("/none", true), "NoNode"),
        (data("/shut", true), "NoAuth"),
        (data("/a/", false), "NoNode"),
        (data("a", false), "NoNode"),
        (data("", false), "data  v0"),
        (acl("/a"), "acl world:anyone:31 a0"),
        (acl("/shut"), "acl world:anyone:16,digest:bob:secret:1 a0"),
        (acl("/none"), "NoNode"),
        (children("/a", true, false), "children b watch Child /a"),
        (children("/", false, true), "children a,shut,zookeeper n3"),
        (children("/none", true, true), "NoNode"),
        (children("/shut", true, false), "NoAuth"),
    ];
    for (op, expected) in cases {
        assert_eq!(server.answer(c, 9, op.clone()), [format!("c1 #9 z4 {expected}")], "{op:?}");
    }
}

#[test]
fn null_data_stays_null() {
    let (mut server, c) = served();
    let mut bob = request(c, 1, get_data("/shut"));
    bob.auth = Arc::from([Id::new("digest", "bob:secret")]);
    server.ask_all(vec![bob]);
    assert_eq!(server.told(), ["c1 #1 z4 data null v0"]);
}

#[test]
fn who_only_reads_does_not_see_hashes() {
    let (mut server, c) = served();
    let acl = vec![Acl::world(perms::READ), Acl { perms: perms::ALL, id: Id::new("digest", "bob:secret") }];
    let create =
        Op::Create { kind: CreateKind::Create, path: "/r".into(), data: None, acl: Some(acl), flags: 0 };
    server.answer(c, 1, create);
    let look = Op::GetAcl { path: "/r".into() };
    assert_eq!(server.answer(c, 2, look), ["c1 #2 z5 acl world:anyone:1,digest:bob:x:31 a0"]);
}

#[test]
fn set_watches_tells_what_happened_and_sets_the_rest() {
    let (mut server, c) = served();
    let seen = server.replica.tree().zxid();
    server.answer(c, 1, create("/quiet", 0));
    let quiet = server.replica.tree().zxid();
    server.answer(c, 2, set_data("/a", "x"));
    server.answer(c, 3, create("/a/c", 0));
    let all = |relative_zxid| {
        let paths = || vec!["/quiet".into(), "/a".into(), "/none".into(), "/shut".into()];
        Op::SetWatches { relative_zxid, data: paths(), exist: paths(), child: paths() }
    };
    assert_eq!(
        server.answer(c, -8, all(quiet)),
        [
            "c1 rewatch NodeDataChanged /a -1, NodeDeleted /none -1, \
         NodeCreated /quiet -1, NodeCreated /a -1, NodeCreated /shut -1, \
         NodeChildrenChanged /a -1, NodeDeleted /none -1 \
         | Data /quiet, Data /shut, Data /none, Child /quiet, Child /shut",
            "c1 #-8 z7 ok"
        ]
    );
    let told = server.answer(c, -8, all(seen)).join("");
    assert!(told.contains("NodeDataChanged /quiet") && told.contains("NodeChildrenChanged /quiet"), "{told}");
}
