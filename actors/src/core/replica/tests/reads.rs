//! Answers out of the tree, and the watches they leave.

use super::*;
use crate::core::replica::reads::MAX_MULTI_READ;

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
    let below = |path: &str| Op::GetAllChildrenNumber { path: path.into() };
    let add_watch = |path: &str, recursive| Op::AddWatch { path: path.into(), recursive };
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
        (below("/"), "count 6"),
        (below(""), "count 7"), // one of the root's two names is below the other
        (below("/a"), "count 1"),
        (below("/a/b"), "count 0"),
        (below("/a/"), "NoNode"),
        (below("/shut"), "NoAuth"),
        (add_watch("/none", false), "added watch Persistent /none"),
        (add_watch("bad/", true), "added watch Recursive bad/"),
        (add_watch("/shut", false), "added watch Persistent /shut"),
        (Op::WhoAmI, "i am ip:127.0.0.1"),
    ];
    for (op, expected) in cases {
        assert_eq!(server.answer(c, 9, op.clone()), [format!("c1 #9 z4 {expected}")], "{op:?}");
    }
}

#[test]
fn a_multi_read_answers_each_member_for_itself_and_sets_no_watch() {
    let (mut server, c) = served();
    let children = |path: &str| Op::GetChildren { path: path.into(), watch: true, stat: false };
    let data = |path: &str| Op::GetData { path: path.into(), watch: true };
    let members = vec![data("/a"), children("/none"), children("/a"), data("/shut")];
    assert_eq!(
        server.answer(c, 1, Op::MultiRead(members)),
        ["c1 #1 z4 multi [data hi v0, -101, children b, -102]"]
    );
    assert_eq!(server.answer(c, 2, Op::MultiRead(vec![])), ["c1 #2 z4 multi []"]);
    server.answer(c, 3, set_data("/a", &"x".repeat(1 << 20)));
    let megabytes = |count| Op::MultiRead((0..count).map(|_| data("/a")).collect());
    assert!(server.answer(c, 4, megabytes(16)).join("").len() > MAX_MULTI_READ);
    assert_eq!(server.answer(c, 5, megabytes(17)), ["c1 #5 z5 MarshallingError"], "the answer is too large");
}

#[test]
fn ephemerals_are_the_sessions_own_by_the_beginning_of_their_paths() {
    let (mut server, c) = served();
    let (other, _) = server.client();
    for (xid, path) in ["/e1", "/e1x", "/e2"].into_iter().enumerate() {
        server.answer(c, xid as i32, create(path, 1));
    }
    server.answer(other, 9, create("/e11", 1));
    let cases = [
        (Some("/e1"), "/e1,/e1x"),
        (Some("/e1/"), ""),
        (Some(" /e1"), ""),
        (Some(""), "/e1,/e1x,/e2"),
        (Some(" /\t"), "/e1,/e1x,/e2"),
        (Some("/"), "/e1,/e1x,/e2"),
        (None, "/e1,/e1x,/e2"),
    ];
    for (prefix, expected) in cases {
        let op = Op::GetEphemerals { prefix: prefix.map(Into::into) };
        assert_eq!(server.answer(c, 9, op), [format!("c1 #9 z9 ephemerals {expected}")], "{prefix:?}");
    }
}

#[test]
fn who_asks_is_told_its_users_without_their_hashes() {
    let (mut server, c) = served();
    let mut ask = request(c, 1, Op::WhoAmI);
    let ids =
        [("ip", "::1"), ("digest", "bob:ha:sh"), ("digest", ":x"), ("super", "secret"), ("sasl", "a:b")];
    ask.auth = ids.iter().map(|(scheme, id)| Id::new(scheme, id)).collect();
    server.ask_all(vec![ask]);
    assert_eq!(server.told(), ["c1 #1 z4 i am ip:::1,digest:bob,digest:,super:,sasl:a:b"]);
}

#[test]
fn the_watch_manager_answers_for_watches() {
    let (mut server, c) = served();
    let check = Op::CheckWatches { path: Some("/a".into()), kind: WatcherType::Any };
    assert_eq!(server.answer(c, 1, check), [r#"c1 #1 z4 check Any Some("/a")"#]);
    let remove = Op::RemoveWatches { path: None, kind: WatcherType::Data };
    assert_eq!(server.answer(c, 2, remove), ["c1 #2 z4 remove Data None"]);
}

#[test]
fn sasl_is_answered_with_nothing_to_say_and_is_no_touch() {
    let (mut server, c) = served();
    let touched = server.touched.0;
    let sasl = Op::Sasl { token: Bytes::from_static(b"hello") };
    assert_eq!(server.answer(c, 1, sasl), ["c1 #1 z=0 token None"]);
    assert_eq!(server.touched.0, touched);
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
    let paths = || vec!["/quiet".into(), "/a".into(), "/none".into()];
    let (data, exist, child) = (vec!["/none".into()], vec![], vec!["/quiet".into()]);
    let two =
        Op::SetWatches2 { relative_zxid: seen, data, exist, child, persistent: paths(), recursive: paths() };
    assert_eq!(
        server.answer(c, 7, two),
        [
            "c1 rewatch NodeDeleted /none -1, NodeChildrenChanged /quiet -1 \
         | Persistent /quiet, Persistent /a, Persistent /none, Recursive /quiet, Recursive /a, Recursive /none",
            "c1 #7 z7 ok"
        ]
    );
}

#[test]
fn the_config_node_says_what_the_server_was_told_until_a_client_says_otherwise() {
    let mut server = Server::new(LEADER);
    server.replica.settings.config = Some(("server.1=a".into(), NOW));
    server.step(Input::Service(Service::Leader(EPOCH)));
    server.said.clear();
    let (c, _) = server.client();
    let look = || Op::GetData { path: "/zookeeper/config".into(), watch: false };
    assert_eq!(server.answer(c, 1, look()), ["c1 #1 z1 data server.1=a v-1"]);
    let stat = server.replica.tree().get("/zookeeper/config").unwrap().stat();
    assert_eq!((stat.mzxid, stat.mtime, stat.aversion, stat.data_length), (0, NOW, -1, 10));
    let set = set_data("/zookeeper/config", "mine");
    assert_eq!(server.answer(c, 2, set.clone()), ["c1 #2 z2 NoAuth"]);
    let mut by_super = request(c, 3, set);
    by_super.auth = Arc::from([Id::new("super", "")]);
    server.ask_all(vec![by_super]);
    server.commit();
    assert_eq!(server.told(), ["changed DataChanged /zookeeper/config", "c1 #3 z3 stat v0 a-1"]);
    // The next tenure, of whatever role, leaves it alone.
    server.step(Input::Service(Service::None));
    server.step(Input::Service(Service::Learner { epoch: EPOCH, leader: LEADER }));
    let node = server.replica.tree().get("/zookeeper/config").unwrap();
    assert_eq!(node.data().map(|data| data.to_vec()), Some(b"mine".to_vec()));
}
