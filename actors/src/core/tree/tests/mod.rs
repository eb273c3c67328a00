//! The tree by example; `model.rs` compares it with a naive one.

mod model;
mod quotas;

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::core::watches::{Change, ChangeKind};
use crate::types::{CreateKind, Txn, TxnBody, TxnHeader, ZkError, perms};

const SESSION: SessionId = SessionId(0x0100_0000_0000_0001);

/// A tree that counts zxids by itself: each transaction is at its zxid, at wall time 1000 + zxid.
struct Bench {
    tree: Tree,
    changes: Vec<Change>,
}

impl Bench {
    fn new() -> Bench {
        Bench { tree: Tree::new(), changes: Vec::new() }
    }

    fn apply(&mut self, body: TxnBody) -> Applied {
        self.apply_as(SESSION, body)
    }

    fn apply_as(&mut self, session: SessionId, body: TxnBody) -> Applied {
        let zxid = self.tree.zxid().next();
        let header = TxnHeader { session, cxid: 1, zxid, time: 1000 + zxid.0 };
        self.changes.clear();
        let applied = self.tree.apply(&Txn { header, body, digest: None }, &mut self.changes);
        assert_eq!(self.tree.zxid(), zxid);
        assert_eq!(self.tree.digest(), self.tree.recompute_digest());
        applied
    }

    fn make(&mut self, path: &str, parent_cversion: i32) -> Applied {
        self.apply(create(path, parent_cversion))
    }

    fn stat(&self, path: &str) -> Stat {
        self.tree.get(path).unwrap_or_else(|| panic!("no {path}")).stat()
    }

    /// What changed, in short: `+/a <- /` for a create below the root.
    fn events(&self) -> Vec<String> {
        let sign = |kind| match kind {
            ChangeKind::Created => "+",
            ChangeKind::Deleted => "-",
            ChangeKind::DataChanged => "=",
        };
        let parent = |c: &Change| c.parent.as_ref().map_or(String::new(), |(p, _)| format!(" <- {p}"));
        self.changes.iter().map(|c| format!("{}{}{}", sign(c.kind), c.path, parent(c))).collect()
    }
}

fn create_as(kind: CreateKind, path: &str, ephemeral: bool, parent_cversion: i32) -> TxnBody {
    TxnBody::Create {
        kind,
        path: path.into(),
        data: Some(Bytes::from_static(b"data")),
        acl: vec![Acl::world(perms::ALL)],
        ephemeral,
        parent_cversion,
    }
}

fn create(path: &str, parent_cversion: i32) -> TxnBody {
    create_as(CreateKind::Create, path, false, parent_cversion)
}

fn ephemeral(path: &str, parent_cversion: i32) -> TxnBody {
    create_as(CreateKind::Create, path, true, parent_cversion)
}

fn delete(path: &str) -> TxnBody {
    TxnBody::Delete { path: path.into(), container: false }
}

fn set_data(path: &str, data: &'static [u8], version: i32) -> TxnBody {
    TxnBody::SetData { path: path.into(), data: Some(Bytes::from_static(data)), version, reconfig: false }
}

fn set_acl(path: &str, acl: Vec<Acl>, version: i32) -> TxnBody {
    TxnBody::SetAcl { path: path.into(), acl, version }
}

fn error(e: ZkError) -> Applied {
    Applied::Error(e.code())
}

#[test]
fn a_fresh_tree_is_apaches() {
    let tree = Tree::new();
    assert_eq!(tree.digest(), 1_371_985_504);
    assert_eq!((tree.node_count(), tree.data_size(), tree.ephemeral_count()), (5, 44, 0));
    assert_eq!(tree.get("/").unwrap().stat().cversion, -1);
    assert_eq!(tree.get("").unwrap().stat(), tree.get("/").unwrap().stat());
    assert_eq!(tree.get("/zookeeper").unwrap().stat().cversion, -2);
    let mut names: Vec<_> = tree.get("/zookeeper").unwrap().children().collect();
    names.sort_unstable();
    assert_eq!(names, ["config", "quota"]);
    let config = tree.get("/zookeeper/config").unwrap();
    assert_eq!((config.stat().aversion, &config.acl()[..]), (-1, &[Acl::world(perms::READ)][..]));
    assert_eq!(tree.get("/").unwrap().data(), Some(&b""[..]), "empty, not null");
}

#[test]
fn strings_that_name_nothing() {
    let mut bench = Bench::new();
    bench.make("/a", 1);
    let deep = "/a".repeat(500_000);
    for path in ["a", "/a/", "//", "//a", "/a//", "/zookeeper/", "/b", "a/", " ", &deep] {
        assert!(bench.tree.get(path).is_none(), "{:?}", &path[..path.len().min(20)]);
    }
}

#[test]
fn a_create_shows_in_node_and_parent() {
    let mut bench = Bench::new();
    let applied = bench.make("/a", 1);
    let stat =
        Stat { czxid: 1, mzxid: 1, pzxid: 1, ctime: 1001, mtime: 1001, data_length: 4, ..Stat::default() };
    assert_eq!(applied, Applied::Create("/a".into(), stat));
    assert_eq!(bench.events(), ["+/a <- /"]);
    let root = bench.stat("/");
    assert_eq!((root.cversion, root.num_children, root.pzxid, root.mzxid, root.version), (0, 2, 1, 0, 0));
    bench.make("/a/b", 1);
    assert_eq!(bench.events(), ["+/a/b <- /a"]);
    let a = bench.stat("/a");
    assert_eq!((a.cversion, a.num_children, a.pzxid, a.mtime), (1, 1, 2, 1001));
    assert_eq!(bench.stat("/").pzxid, 1, "grandchildren do not count");
}

#[test]
fn cversion_counts_creates_and_deletes() {
    let mut bench = Bench::new();
    bench.make("/a", 1);
    for i in 1..=3 {
        bench.make(&format!("/a/{i}"), i);
    }
    assert_eq!(bench.apply(delete("/a/2")), Applied::Delete);
    assert_eq!(bench.events(), ["-/a/2 <- /a"]);
    let a = bench.stat("/a");
    assert_eq!((a.cversion, a.num_children, a.pzxid), (4, 2, 5));
    assert_eq!(bench.tree.get("/a").unwrap().persisted().cversion, 3, "the next sequence number");
    assert_eq!(bench.apply(delete("/a/2")), error(ZkError::NoNode));
    assert!(bench.changes.is_empty());
}

#[test]
fn set_data_takes_the_version_of_the_transaction() {
    let mut bench = Bench::new();
    bench.make("/a", 1);
    let Applied::SetData(stat) = bench.apply(set_data("/a", b"longer data", 7)) else { panic!() };
    assert_eq!((stat.version, stat.mzxid, stat.mtime, stat.czxid, stat.pzxid), (7, 2, 1002, 1, 1));
    assert_eq!(stat.data_length, 11);
    assert_eq!(bench.events(), ["=/a"]);
    assert_eq!(bench.apply(set_data("/b", b"", 1)), error(ZkError::NoNode));
    assert_eq!(bench.tree.data_size(), 44 + 2 + 11);
    bench.apply(set_data("/", b"root", 1));
    assert_eq!(bench.stat("").data_length, 4);
    let null = TxnBody::SetData { path: "/a".into(), data: None, version: 8, reconfig: false };
    bench.apply(null);
    assert_eq!(bench.tree.get("/a").unwrap().data(), None);
    assert_eq!(bench.stat("/a").data_length, 0);
}

#[test]
fn set_acl_changes_nothing_else() {
    let mut bench = Bench::new();
    bench.make("/a", 1);
    let before = bench.stat("/a");
    let Applied::SetAcl(stat) = bench.apply(set_acl("/a", vec![Acl::world(1)], 1)) else { panic!() };
    assert_eq!(stat, Stat { aversion: 1, ..before });
    assert!(bench.changes.is_empty());
    assert_eq!(bench.tree.get("/a").unwrap().acl()[..], [Acl::world(1)]);
    assert_eq!(bench.apply(set_acl("/b", vec![Acl::world(1)], 1)), error(ZkError::NoNode));
    assert_eq!(bench.tree.acl_count(), 2, "all, and read");
    let root = bench.tree.get("/").unwrap().acl();
    let quota = bench.tree.get("/zookeeper/quota").unwrap().acl();
    assert!(Arc::ptr_eq(root, quota), "equal lists are one");
}

#[test]
fn owners_of_all_kinds() {
    let mut bench = Bench::new();
    bench.apply(create_as(CreateKind::Container, "/c", false, 1));
    bench.apply(create_as(CreateKind::Ttl(60_000), "/t", false, 2));
    bench.apply(create_as(CreateKind::Create2, "/e", true, 3));
    assert_eq!(
        bench.apply(create_as(CreateKind::Ttl(0), "/u", false, 4)),
        error(ZkError::BadArguments),
        "a leader that makes such a transaction must not stop us"
    );
    let get = |path| bench.tree.get(path).unwrap();
    assert_eq!((get("/c").stat().ephemeral_owner, get("/c").is_container()), (0, true));
    assert_eq!((get("/t").stat().ephemeral_owner, get("/t").ttl_ms()), (0, Some(60_000)));
    assert_eq!((get("/e").stat().ephemeral_owner, get("/e").is_ephemeral()), (SESSION.0, true));
    assert!(!get("/c").is_ephemeral() && !get("/t").is_ephemeral());
    assert_eq!(get("/c").persisted().ephemeral_owner as u64, 0x8000_0000_0000_0000);
    assert_eq!(get("/t").persisted().ephemeral_owner as u64, 0xff00_0000_0000_ea60);
    assert_eq!(bench.tree.ephemeral_count(), 1);
}

#[test]
fn what_the_leader_may_delete() {
    let mut bench = Bench::new();
    let over = |bench: &Bench, now| bench.tree.mortals_over(now, 0, None).over;
    bench.apply(create_as(CreateKind::Container, "/c", false, 1));
    bench.apply(create_as(CreateKind::Ttl(50), "/t", false, 2));
    assert!(over(&bench, 1052).is_empty(), "never used; not older than its time to live");
    assert_eq!(over(&bench, 1053), ["/t".into()]);
    bench.make("/c/x", 1);
    bench.make("/t/x", 1);
    assert!(over(&bench, i64::MAX).is_empty(), "they have children");
    bench.apply(delete("/c/x"));
    bench.apply(delete("/t/x"));
    assert_eq!(over(&bench, i64::MAX), ["/c".into(), "/t".into()]);
    bench.apply(set_data("/t", b"", 1));
    assert_eq!(over(&bench, 1053), ["/c".into()], "data renews a TTL node");
    assert!(bench.tree.is_over("/c", 1053, 0) && !bench.tree.is_over("/t", 1053, 0));
    for path in ["/c", "/t"] {
        bench.apply(TxnBody::Delete { path: path.into(), container: true });
        assert!(!bench.tree.is_over(path, i64::MAX, 0));
        bench.make(path, 0);
        assert!(!bench.tree.is_over(path, i64::MAX, 1), "made anew, it is an ordinary znode");
    }
    assert!(over(&bench, i64::MAX).is_empty());
}

#[test]
fn a_container_that_was_never_used_may_have_a_time_too() {
    let mut bench = Bench::new();
    bench.apply(create_as(CreateKind::Container, "/c", false, 1));
    let over = |bench: &Bench, now, limit| bench.tree.mortals_over(now, limit, None).over.len();
    assert_eq!([1051, 1052].map(|now| over(&bench, now, 50)), [0, 1]);
    bench.apply(set_data("/c", b"", 1));
    assert_eq!(over(&bench, 1052, 50), 0, "data renews it");
    assert_eq!(over(&bench, i64::MAX, 0), 0, "without a limit it stays");
}

#[test]
fn containers_are_looked_at_in_pages_that_lose_none() {
    let mut bench = Bench::new();
    let long = "x".repeat(10_000);
    for i in 0..2500 {
        let path = if i % 100 == 0 { format!("/{i}{long}") } else { format!("/{i}") };
        bench.apply(create_as(CreateKind::Ttl(1), &path, false, i + 1));
    }
    let (mut found, mut pages, mut place) = (Vec::new(), 0, None);
    loop {
        let page = bench.tree.mortals_over(i64::MAX, 0, place);
        assert!(page.over.iter().map(|path| path.len()).sum::<usize>() < 80_000);
        found.extend(page.over);
        pages += 1;
        place = page.next;
        if place.is_none() {
            break;
        }
    }
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 2500);
    assert!(pages >= 4, "{pages} pages");
}

#[test]
fn without_extended_types_a_ttl_node_looks_like_an_ephemeral() {
    let mut bench = Bench::new();
    bench.apply(create_as(CreateKind::Ttl(50), "/t", false, 1));
    bench.apply(create_as(CreateKind::Container, "/c", false, 2));
    bench.apply(ephemeral("/e", 3));
    bench.tree.set_extended_types(false);
    bench.apply(create_as(CreateKind::Ttl(60), "/u", false, 4));
    for (path, ttl_ms) in [("/t", 50), ("/u", 60)] {
        let owner = 0xff00_0000_0000_0000_u64 as i64 | ttl_ms;
        let node = bench.tree.get(path).unwrap();
        assert_eq!((node.stat().ephemeral_owner, node.ttl_ms()), (owner, None));
        assert_eq!(bench.tree.ephemerals(SessionId(owner)), [path.into()]);
    }
    assert_eq!((bench.tree.ephemeral_count(), bench.tree.mortals_over(i64::MAX, 1, None).over.len()), (3, 1));
    let digest = bench.tree.digest();
    bench.tree.set_extended_types(true);
    assert_eq!((bench.tree.ephemeral_count(), bench.tree.mortals_over(i64::MAX, 1, None).over.len()), (1, 3));
    assert_eq!(bench.tree.get("/t").unwrap().ttl_ms(), Some(50));
    assert_eq!(bench.tree.digest(), digest, "no server's tree differs by what its server takes it for");
}

#[test]
fn a_session_takes_its_ephemerals_along() {
    let mut bench = Bench::new();
    let other = SessionId(9);
    assert_eq!(bench.apply(TxnBody::CreateSession { timeout_ms: 4000 }), Applied::Session);
    assert_eq!(bench.tree.session_timeout(SESSION), Some(4000));
    bench.make("/a", 1);
    for (i, name) in ["/a/z", "/a/y", "/a/x"].into_iter().enumerate() {
        bench.apply(ephemeral(name, i as i32 + 1));
    }
    bench.apply_as(other, ephemeral("/a/other", 4));
    let names: Vec<Str> = bench.tree.ephemerals(SESSION);
    assert_eq!(names, ["/a/x".into(), "/a/y".into(), Str::from("/a/z")]);
    let paths = Some(vec!["/a/z".into(), "/gone".into(), "/a/x".into()]);
    assert_eq!(bench.apply(TxnBody::CloseSession { paths }), Applied::Session);
    assert_eq!(bench.events(), ["-/a/z <- /a", "-/a/x <- /a", "-/a/y <- /a"], "listed ones first");
    assert!(bench.changes.iter().all(|c| c.zxid == bench.tree.zxid()), "under one zxid");
    assert_eq!(bench.stat("/a").pzxid, bench.tree.zxid().0);
    assert_eq!((bench.stat("/a").num_children, bench.tree.ephemeral_count()), (1, 1));
    assert_eq!(bench.tree.session_timeout(SESSION), None);
    bench.apply_as(other, TxnBody::CloseSession { paths: None });
    assert_eq!(bench.events(), ["-/a/other <- /a"], "logs of before 3.6 list nothing");
    assert!(bench.tree.sessions().is_empty());
}

#[test]
fn an_ephemeral_below_an_ephemeral_goes_with_it() {
    let mut bench = Bench::new();
    bench.apply(ephemeral("/a", 1));
    bench.apply(ephemeral("/a/b", 1));
    assert_eq!(bench.apply(TxnBody::CloseSession { paths: None }), Applied::Session);
    assert_eq!(bench.events(), ["-/a <- /"], "no leader makes it, but a damaged log must not stop us");
    assert_eq!(bench.tree.ephemeral_count(), 0);
}

#[test]
fn a_multi_has_one_zxid() {
    let mut bench = Bench::new();
    let members = vec![
        create("/a", 1),
        create("/a/b", 1),
        set_data("/a/b", b"x", 1),
        TxnBody::Check { path: "/a".into(), version: 0 },
        delete("/a/b"),
    ];
    let Applied::Multi(results) = bench.apply(TxnBody::Multi(members)) else { panic!() };
    assert_eq!(bench.events(), ["+/a <- /", "+/a/b <- /a", "=/a/b", "-/a/b <- /a"]);
    assert!(bench.changes.iter().all(|c| c.zxid == Zxid(1)));
    assert!(matches!(results[0], Applied::Create(_, stat) if stat.num_children == 0));
    assert!(matches!(results[2], Applied::SetData(stat) if stat.version == 1));
    assert_eq!(results[3..], [Applied::Check, Applied::Delete]);
    assert_eq!(bench.apply(TxnBody::Multi(vec![])), Applied::Multi(vec![]));
}

#[test]
fn a_failed_multi_changes_nothing() {
    let mut bench = Bench::new();
    let (no_node, after) = (ZkError::NoNode.code(), ZkError::RuntimeInconsistency.code());
    let failed = [TxnBody::Error(0), TxnBody::Error(no_node), TxnBody::Error(after)];
    let results = Applied::Multi(vec![Applied::Error(0), Applied::Error(no_node), Applied::Error(after)]);
    assert_eq!(bench.apply(TxnBody::Multi(failed.to_vec())), results);
    let mixed = vec![create("/a", 1), TxnBody::Error(no_node), create("/b", 1)];
    assert_eq!(bench.apply(TxnBody::Multi(mixed)), results, "one error, and no other member counts");
    assert!(bench.tree.get("/a").is_none() && bench.changes.is_empty());
    let nested = vec![TxnBody::Multi(vec![]), TxnBody::CloseSession { paths: None }];
    let refused = error(ZkError::MarshallingError);
    assert_eq!(bench.apply(TxnBody::Multi(nested)), Applied::Multi(vec![refused.clone(), refused]));
}

#[test]
fn a_failed_write_only_takes_a_zxid() {
    let mut bench = Bench::new();
    assert_eq!(bench.apply(TxnBody::Error(-103)), Applied::Error(-103));
    assert_eq!((bench.tree.zxid(), bench.tree.digest()), (Zxid(1), 1_371_985_504));
}

#[test]
#[should_panic(expected = "does not come after")]
fn zxids_do_not_come_twice() {
    let mut bench = Bench::new();
    bench.make("/a", 1);
    bench.tree.zxid = Zxid(5);
    let header = TxnHeader { session: SESSION, cxid: 1, zxid: Zxid(5), time: 0 };
    bench.tree.apply(&Txn { header, body: TxnBody::Error(-1), digest: None }, &mut Vec::new());
}

#[test]
fn what_must_not_go_stays() {
    let mut bench = Bench::new();
    for path in ["/", "", "/zookeeper", "/zookeeper/quota", "/zookeeper/config", "nonsense"] {
        assert_eq!(bench.apply(delete(path)), error(ZkError::BadArguments), "{path:?}");
    }
    for path in ["/", "/a/", "a", ""] {
        assert_eq!(bench.make(path, 1), error(ZkError::BadArguments), "{path:?}");
    }
    assert_eq!(bench.tree.node_count(), 5);
}

// Replay over a newer tree: a snapshot of Apache's holds effects of transactions that come again.

#[test]
fn replay_create_of_what_is_there() {
    let mut bench = Bench::new();
    bench.make("/a", 5);
    let before = bench.tree.get("/a").unwrap().persisted();
    let mut again = create("/a", 4);
    if let TxnBody::Create { acl, data, .. } = &mut again {
        *acl = vec![Acl::world(1)];
        *data = None;
    }
    assert_eq!(bench.apply(again.clone()), error(ZkError::NodeExists));
    let a = bench.tree.get("/a").unwrap();
    assert_eq!((a.persisted(), a.data().is_some()), (before, true), "the newer znode stays");
    assert_eq!(a.acl()[..], [Acl::world(1)], "but the snapshot may not have had its ACL");
    assert_eq!(bench.tree.get("/").unwrap().persisted().cversion, 5, "counts never go back");
    assert_eq!(bench.stat("/").pzxid, 1);
    assert!(bench.changes.is_empty());
    if let TxnBody::Create { parent_cversion, .. } = &mut again {
        *parent_cversion = 6;
    }
    bench.apply(again);
    assert_eq!((bench.tree.get("/").unwrap().persisted().cversion, bench.stat("/").pzxid), (6, 3));
}

#[test]
fn replay_create_below_what_is_gone() {
    let mut bench = Bench::new();
    assert_eq!(bench.make("/gone/a", 1), error(ZkError::NoNode));
    assert_eq!(bench.apply(delete("/gone/a")), error(ZkError::NoNode));
}

#[test]
fn replay_delete_of_what_is_gone_still_tells_the_parent() {
    let mut bench = Bench::new();
    bench.make("/a", 1);
    assert_eq!(bench.apply(delete("/a/b")), error(ZkError::NoNode));
    assert_eq!(bench.stat("/a").pzxid, 2);
}

#[test]
fn replay_delete_keeps_a_newer_pzxid() {
    let mut loader = TreeLoader::new();
    let acl = [Acl::world(perms::ALL)];
    let stat = PersistedStat { pzxid: 100, ..PersistedStat::default() };
    loader.node("", None, &acl, PersistedStat::default()).unwrap();
    loader.node("/a", None, &acl, stat).unwrap();
    let mut bench = Bench { tree: loader.finish(Zxid(10)).unwrap(), changes: Vec::new() };
    bench.apply(delete("/a/b"));
    assert_eq!(bench.stat("/a").pzxid, 100);
}

#[test]
fn replay_delete_takes_later_children_along() {
    let mut bench = Bench::new();
    bench.make("/a", 1);
    for path in ["/a/b", "/a/c", "/a/b/d", "/a/b/e", "/a/b/d/f"] {
        bench.make(path, -1);
    }
    bench.apply(ephemeral("/a/b/g", -1));
    assert_eq!(bench.apply(delete("/a")), Applied::Delete);
    assert_eq!(bench.events(), ["-/a <- /"]);
    let fresh = Tree::new();
    assert_eq!((bench.tree.node_count(), bench.tree.data_size()), (fresh.node_count(), fresh.data_size()));
    assert_eq!(bench.tree.ephemeral_count(), 0);
    bench.make("/a", 2);
    assert!(bench.tree.get("/a/b").is_none());
}

#[test]
fn a_create_of_a_very_old_log_counts_one_more() {
    let mut bench = Bench::new();
    bench.make("/a", -1);
    bench.make("/b", -1);
    assert_eq!(bench.tree.get("/").unwrap().persisted().cversion, 2);
}

#[test]
fn a_frozen_tree_does_not_move() {
    let mut bench = Bench::new();
    bench.make("/a", 1);
    for i in 0..500 {
        bench.make(&format!("/a/{i}"), i + 1);
    }
    let frozen = bench.tree.clone();
    let before = (frozen.zxid(), frozen.digest(), frozen.node_count(), frozen.data_size());
    for i in 0..500 {
        match i % 3 {
            0 => bench.apply(delete(&format!("/a/{i}"))),
            1 => bench.apply(set_data(&format!("/a/{i}"), b"other", 1)),
            _ => bench.make(&format!("/a/{i}/new"), 1),
        };
    }
    assert_eq!(before, (frozen.zxid(), frozen.digest(), frozen.node_count(), frozen.data_size()));
    assert_eq!(frozen.recompute_digest(), frozen.digest());
    let a = frozen.get("/a").unwrap();
    assert_eq!((a.child_count(), a.children().count()), (500, 500));
    assert!((0..500).all(|i| frozen.get(&format!("/a/{i}")).is_some()));
    assert!(frozen.get("/a/2/new").is_none());
}

#[test]
fn depth_is_no_danger() {
    let mut tree = Tree::new();
    let mut path = String::new();
    for zxid in 1..=3000 {
        path.push_str("/d");
        let header = TxnHeader { session: SESSION, cxid: 1, zxid: Zxid(zxid), time: 0 };
        tree.apply(&Txn { header, body: create(&path, 1), digest: None }, &mut Vec::new());
    }
    let mut deepest = 0;
    tree.walk(&mut |view| deepest = deepest.max(view.path.len()));
    assert_eq!((deepest, tree.recompute_digest()), (6000, tree.digest()));
    let header = TxnHeader { session: SESSION, cxid: 1, zxid: Zxid(3001), time: 0 };
    tree.apply(&Txn { header, body: delete("/d"), digest: None }, &mut Vec::new());
    assert_eq!(tree.node_count(), 5);
}

#[test]
fn a_snapshot_with_a_fault_is_refused() {
    let acl = [Acl::world(perms::ALL)];
    let mut loader = TreeLoader::new();
    let mut load = |path: &str| loader.node(path, None, &acl, PersistedStat::default());
    assert_eq!(load(""), Ok(()));
    assert_eq!(load("/a"), Ok(()));
    assert_eq!(load("/a/b"), Ok(()));
    assert_eq!(load("/ab"), Ok(()));
    assert!(load("/a/c").unwrap_err().contains("parent"), "it is not above the last one");
    assert!(load("/b/c").unwrap_err().contains("parent"));
    for path in ["/", "/a/", "b", "//"] {
        assert!(load(path).is_err(), "{path:?}");
    }
    let tree = loader.finish(Zxid(7)).unwrap();
    assert_eq!((tree.node_count(), tree.zxid()), (8, Zxid(7)), "system nodes are added");
    let mut twice = TreeLoader::new();
    for path in ["", "/a", "/b", "/a"] {
        twice.node(path, None, &acl, PersistedStat::default()).unwrap();
    }
    assert!(twice.finish(Zxid(7)).unwrap_err().contains("twice"));
}

/// So many that the index is made in more than one go.
#[test]
fn all_znodes_of_a_large_snapshot_are_found() {
    const ZNODES: u32 = 150_000;
    let acl = [Acl::world(perms::ALL)];
    let load = |loader: &mut TreeLoader, path: &str| {
        loader.node(path, None, &acl, PersistedStat::default()).unwrap();
    };
    let path = |n: u32| format!("/n{n}");
    let loaded = || {
        let mut loader = TreeLoader::new();
        load(&mut loader, "");
        (0..ZNODES).for_each(|n| load(&mut loader, &path(n)));
        loader
    };
    let tree = loaded().finish(Zxid(7)).unwrap();
    assert!((0..ZNODES).all(|n| tree.get(&path(n)).is_some()));
    assert!(tree.get(&path(ZNODES)).is_none() && tree.get("/n1/n1").is_none());
    let mut twice = loaded();
    load(&mut twice, &path(5));
    assert_eq!(twice.finish(Zxid(7)).unwrap_err(), "the snapshot's znode \"/n5\" is there twice");
}
