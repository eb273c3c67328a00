//! The modes of a create that a setting decides about, counts that are full, and the end of containers and TTL
//! nodes.

use super::*;
use crate::core::acl;
use crate::core::tree::{MAX_TTL_MS, PersistedStat, TreeLoader};
use ZkError::{BadArguments, InvalidAcl, NoAuth, NodeExists, SessionExpired, Unimplemented};

fn extended() -> Bench {
    Bench::with_rules(Rules { extended_types: true, ..Rules::default() })
}

fn ttl(path: &str, flags: i32, ttl_ms: i64) -> Op {
    create_with(CreateKind::Ttl(ttl_ms), path, flags, Some(open()))
}

#[test]
fn ttl_nodes_are_made_where_extended_types_are_on() {
    let mut bench = extended();
    let TxnBody::Create { kind, path, ephemeral, .. } = bench.write(ttl("/t", 5, 1)) else {
        panic!("not made")
    };
    assert_eq!((kind, &*path, ephemeral), (CreateKind::Ttl(1), "/t", false));
    assert_eq!(created(bench.write(ttl("/t-", 6, MAX_TTL_MS))), "/t-0000000001");
    assert_eq!(bench.tree.get("/t-0000000001").unwrap().ttl_ms(), Some(MAX_TTL_MS));
    bench.given([create("/t/child"), create_flags("/t/ephemeral", 1)]);
}

#[test]
fn a_time_to_live_is_checked_behind_the_flags_and_before_all_else() {
    let container = |flags| create_with(CreateKind::Container, "bad", flags, Some(open()));
    let mut bench = extended();
    bench.refuses([
        (ttl("bad", 7, 1), BadArguments),
        (ttl("/t", 5, 0), BadArguments),
        (ttl("/t", 5, -1), BadArguments),
        (ttl("/t", 6, MAX_TTL_MS + 1), BadArguments),
        (create_flags("/t", 5), BadArguments),
        (create_flags("/t", 6), BadArguments),
        (container(5), BadArguments),
        (ttl("/t", 0, 1), BadArguments),
        (ttl("/t", 4, -1), BadArguments),
        (create_with(CreateKind::Ttl(1), "/t", 5, Some(bad_acl())), InvalidAcl),
    ]);
    // The session comes behind the time to live.
    let nobody = SessionId(99);
    assert_eq!(bench.propose(nobody, ttl("bad", 5, 0)), TxnBody::Error(BadArguments.code()));
    assert_eq!(bench.propose(nobody, ttl("bad", 5, 1)), TxnBody::Error(SessionExpired.code()));
    let mut plain = Bench::new();
    plain.refuses([(ttl("bad", 5, 0), Unimplemented), (container(5), Unimplemented)]);
    assert_eq!(plain.propose(nobody, ttl("bad", 5, 1)), TxnBody::Error(Unimplemented.code()));
}

#[test]
fn a_ttl_node_in_a_multi_is_one_by_its_flags() {
    let mut bench = extended();
    let body = bench.write(Op::Multi(vec![ttl("/t", 5, 9), ttl("/p", 0, 9), ttl("/c", 4, 9)]));
    let TxnBody::Multi(members) = body else { panic!("made {body:?}") };
    let kind = |member: &TxnBody| match member {
        TxnBody::Create { kind, .. } => *kind,
        other => panic!("made {other:?}"),
    };
    let kinds: Vec<CreateKind> = members.iter().map(kind).collect();
    assert_eq!(kinds, [CreateKind::Ttl(9), CreateKind::Create, CreateKind::Container]);
    let mut plain = Bench::new();
    let body = plain.write(Op::Multi(vec![create("/a"), ttl("/t", 5, 9)]));
    assert_eq!(body, TxnBody::Multi([0, Unimplemented.code()].map(TxnBody::Error).to_vec()));
}

#[test]
fn without_extended_types_a_ttl_node_of_old_has_no_children() {
    let mut bench = extended();
    bench.given([ttl("/t", 5, 1)]);
    bench.tree.set_extended_types(false);
    bench.refuses([(create("/t/x"), ZkError::NoChildrenForEphemerals)]);
}

/// A bench whose znode `/p` has this count of creates, and this data version.
fn with_counts(creates: i32, version: i32) -> Bench {
    let mut loader = TreeLoader::new();
    loader.session(S, TIMEOUT_MS);
    let stat = PersistedStat { cversion: creates, version, pzxid: 1, ..PersistedStat::default() };
    loader.node("/p", None, &open(), stat).unwrap();
    let tree = loader.finish(Zxid::ZERO).unwrap();
    Bench { preparer: Preparer::new(Epoch(1), Rules::default(), &tree), tree, ..Bench::new() }
}

#[test]
fn sequence_numbers_end_and_plain_creates_go_on() {
    let mut bench = with_counts(i32::MAX - 1, 0);
    assert_eq!(created(bench.propose(S, create_flags("/p/n", 2))), "/p/n2147483646");
    let used_up = TxnBody::Error(BadArguments.code());
    assert_eq!(bench.propose(S, create_flags("/p/n", 2)), used_up, "pending");
    bench.settle();
    assert_eq!(bench.write(create_flags("/p/n", 3)), used_up, "applied");
    let body = bench.write(create("/p/x"));
    assert!(matches!(body, TxnBody::Create { parent_cversion: i32::MAX, .. }), "{body:?}");
    let parent = bench.tree.get("/p").unwrap();
    assert_eq!(parent.persisted().cversion, i32::MAX);
    assert_eq!(parent.stat().pzxid, bench.last_zxid().0, "a client that comes back must see that it changed");
    bench.refuses([(create("/p/x"), NodeExists)]);
}

#[test]
fn versions_wrap_and_never_are_the_one_that_means_any() {
    for (before, after) in [(i32::MAX, i32::MIN), (-2, 0), (i32::MIN, i32::MIN + 1)] {
        let mut bench = with_counts(0, before);
        let body = bench.write(set_data("/p", before));
        assert!(matches!(body, TxnBody::SetData { version, .. } if version == after), "{before}: {body:?}");
    }
}

#[test]
fn skipped_acls_let_everybody_do_everything() {
    let acl = acl::Rules { skip: true, ..acl::Rules::default() };
    let mut bench = Bench::with_rules(Rules { acl, ..Rules::default() });
    bench.given([
        create_acl("/a", all_but(perms::ALL)),
        create("/a/b"),
        set_data("/a", 0),
        delete("/a/b", 0),
    ]);
    bench.refuses([(create_acl("/c", bad_acl()), InvalidAcl)]);
    let mut strict = Bench::new();
    strict.given([create_acl("/a", all_but(perms::ALL))]);
    strict.refuses([(create("/a/b"), NoAuth)]);
}

impl Bench {
    /// The transaction that deletes what is over, if it is.
    fn end(&mut self, path: &str, now: i64) -> Option<TxnBody> {
        let before = self.preparer.last();
        let Some(txn) = self.preparer.delete_container(&self.tree, now, path.into()) else {
            assert_eq!(self.preparer.last(), before, "nothing is done, so no zxid is taken");
            return None;
        };
        assert_eq!((txn.header.session, txn.header.cxid), (SessionId::NONE, 0));
        let body = txn.body.clone();
        self.waiting.push_back(txn);
        Some(body)
    }
}

#[test]
fn what_is_over_is_deleted_if_it_still_is() {
    let mut bench = extended();
    let container = |path: &str| create_with(CreateKind::Container, path, 4, Some(open()));
    bench.given([container("/c"), ttl("/t", 5, 1000), create("/p")]);
    let gone = |path: &str| Some(TxnBody::Delete { path: path.into(), container: true });
    assert_eq!(bench.end("/c", i64::MAX), None, "never used");
    assert_eq!(
        bench.end("/p", i64::MAX),
        None,
        "a plain znode, perhaps made anew at the path of a container"
    );
    assert_eq!(bench.end("/none", i64::MAX), None);
    assert_eq!(bench.end("/t", 2234), None, "not for longer than it lives");
    // A child on its way, and one that is there.
    bench.propose(S, create("/t/x"));
    assert_eq!(bench.end("/t", i64::MAX), None);
    bench.settle();
    assert_eq!(bench.end("/t", i64::MAX), None);
    bench.given([delete("/t/x", -1), create("/c/x")]);
    // The last child on its way out.
    bench.propose(S, delete("/c/x", -1));
    assert_eq!(bench.end("/c", i64::MAX), None);
    bench.settle();
    assert_eq!(bench.end("/c", i64::MAX), gone("/c"));
    assert_eq!(bench.end("/c", i64::MAX), None, "on its way out already");
    assert_eq!(bench.propose(S, create("/c/y")), TxnBody::Error(ZkError::NoNode.code()));
    // Data on its way.
    bench.propose(S, set_data("/t", -1));
    assert_eq!(bench.end("/t", i64::MAX), None);
    bench.settle();
    assert_eq!(bench.end("/t", 2235), gone("/t"));
    bench.settle();
    assert!(bench.tree.get("/c").is_none() && bench.tree.get("/t").is_none());
}
