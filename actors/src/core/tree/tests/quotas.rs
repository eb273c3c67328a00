//! Quotas by example; that what they show is always right, `model.rs` shows.

use super::*;
use crate::core::quota::{Limit, Limits};

const NO_QUOTAS: [&str; 0] = [];

impl Bench {
    /// A quota on `/a`, made as zkCli does it.
    fn with_quota(limits: &'static [u8]) -> Bench {
        let mut bench = Bench::new();
        for path in ["/a", "/a/b", "/zookeeper/quota/a", "/zookeeper/quota/a/zookeeper_limits"] {
            bench.make(path, -1);
        }
        bench.apply(set_data("/zookeeper/quota/a/zookeeper_limits", limits, 1));
        bench.make("/zookeeper/quota/a/zookeeper_stats", -1);
        bench
    }

    fn text(&self, path: &str) -> &str {
        let data = self.tree.get(path).unwrap_or_else(|| panic!("no {path}")).data();
        std::str::from_utf8(data.unwrap()).unwrap()
    }

    fn over(&self, path: &str) -> Vec<&str> {
        self.tree.quotas_over(path).iter().map(|quota| &**quota.path).collect()
    }
}

#[test]
fn usage_is_shown_without_a_trace() {
    let mut bench = Bench::with_quota(b"count=3,bytes=10");
    let stats = "/zookeeper/quota/a/zookeeper_stats";
    let born = bench.stat(stats);
    assert_eq!((born.version, born.czxid), (0, born.mzxid));
    assert_eq!(bench.text(stats), "count=2,bytes=8");
    let Applied::Create(..) = bench.make("/a/b/c", -1) else { panic!("made") };
    assert_eq!(bench.events(), ["+/a/b/c <- /a/b"], "nobody is told of the usage");
    assert_eq!(bench.text(stats), "count=3,bytes=12");
    bench.apply(set_data("/a/b", b"", 1));
    assert_eq!(bench.text(stats), "count=3,bytes=8");
    bench.apply(delete("/a/b/c"));
    assert_eq!(bench.text(stats), "count=2,bytes=4");
    bench.make("/other", -1);
    let now = bench.stat(stats);
    assert_eq!(now, Stat { data_length: 15, ..born }, "nothing but the data has changed");
}

#[test]
fn what_a_client_writes_as_usage_does_not_stay() {
    let mut bench = Bench::with_quota(b"");
    let stats = "/zookeeper/quota/a/zookeeper_stats";
    bench.apply(set_data(stats, b"count=1000,bytes=x", 7));
    assert_eq!((bench.text(stats), bench.stat(stats).version), ("count=2,bytes=8", 7));
}

#[test]
fn each_quota_counts_all_that_is_below() {
    let mut bench = Bench::with_quota(b"");
    for path in ["b", "b/zookeeper_limits", "b/zookeeper_stats"] {
        bench.make(&format!("/zookeeper/quota/a/{path}"), -1);
    }
    bench.make("/a/b/c", -1);
    assert_eq!(bench.text("/zookeeper/quota/a/zookeeper_stats"), "count=3,bytes=12");
    assert_eq!(bench.text("/zookeeper/quota/a/b/zookeeper_stats"), "count=2,bytes=8");
    assert_eq!(bench.over("/a/b/none/deep"), ["/a", "/a/b"], "the outermost first");
    assert_eq!(bench.over("/a"), ["/a"]);
    assert_eq!(bench.over("/ab"), NO_QUOTAS);
    bench.apply(delete("/zookeeper/quota/a/b/zookeeper_limits"));
    bench.make("/a/b/d", -1);
    assert_eq!(bench.text("/zookeeper/quota/a/b/zookeeper_stats"), "count=2,bytes=8", "it is over");
    assert_eq!(bench.over("/a/b/c"), ["/a"]);
}

#[test]
fn limits_are_read_again_when_they_change() {
    let mut bench = Bench::with_quota(b"count=3,bytes=-1");
    let limits = |bench: &Bench| bench.tree.quotas().next().unwrap().limits;
    let soft = |soft| Limit { soft: Some(soft), hard: None };
    assert_eq!(limits(&bench), Some(Limits { count: soft(3), bytes: Limit::default() }));
    bench.apply(set_data("/zookeeper/quota/a/zookeeper_limits", b"count=4", 2));
    assert_eq!(limits(&bench), Some(Limits { count: soft(4), bytes: Limit::default() }));
    bench.apply(set_data("/zookeeper/quota/a/zookeeper_limits", b"no limits", 3));
    assert_eq!(limits(&bench), None);
}

#[test]
fn a_quota_may_be_there_before_its_subtree_or_outlive_it() {
    let mut bench = Bench::with_quota(b"");
    let stats = "/zookeeper/quota/a/zookeeper_stats";
    bench.apply(delete("/a/b"));
    bench.apply(delete("/a"));
    assert_eq!(bench.text(stats), "count=0,bytes=0");
    bench.make("/a", -1);
    assert_eq!(bench.text(stats), "count=1,bytes=4");
}

#[test]
fn what_belongs_to_the_servers_has_no_quota() {
    let mut bench = Bench::new();
    for path in ["zookeeper", "zookeeper/quota", "zookeeper_limits", "zookeeper_stats"] {
        bench.make(&format!("/zookeeper/quota/{path}"), -1);
    }
    for path in ["zookeeper_limits", "zookeeper_stats"] {
        bench.make(&format!("/zookeeper/quota/zookeeper/quota/{path}"), -1);
    }
    assert_eq!(bench.tree.quotas().count(), 0);
    assert_eq!(
        bench.text("/zookeeper/quota/zookeeper_stats"),
        "count=8,bytes=16",
        "counted once, as by Apache"
    );
    // Apache's servers end of this.
    bench.make("/zookeeper/zookeeper_limits", -1);
    bench.apply(delete("/zookeeper/zookeeper_limits"));
    bench.apply(delete("/zookeeper/quota/zookeeper_limits"));
}

#[test]
fn a_long_path_costs_no_more_than_its_length() {
    let mut bench = Bench::with_quota(b"");
    let deep = "/a".repeat(200_000);
    assert_eq!(bench.over(&deep), ["/a"]);
    let mut path = String::from("/zookeeper/quota");
    for _ in 0..500 {
        path.push_str("/a");
        bench.make(&path, -1);
    }
    assert_eq!(bench.over(&deep).len(), 1);
}

#[test]
fn quotas_are_found_in_a_snapshot_and_usage_is_counted_anew() {
    let mut loader = TreeLoader::new();
    let acl = [Acl::world(perms::ALL)];
    let stat = PersistedStat::default();
    let znodes: [(&str, &[u8]); 7] = [
        ("/a", b"12345"),
        ("/a/b", b"123"),
        ("/zookeeper", b""),
        ("/zookeeper/quota", b""),
        ("/zookeeper/quota/a", b""),
        ("/zookeeper/quota/a/zookeeper_limits", b"count=-1,bytes=-1=;countHardLimit=3"),
        // Apache's snapshots may be older than what they show.
        ("/zookeeper/quota/a/zookeeper_stats", b"count=77,bytes=77"),
    ];
    for (path, data) in znodes {
        loader.node(path, Some(data), &acl, stat).unwrap();
    }
    let tree = loader.finish(Zxid(9)).unwrap();
    let stats = tree.get("/zookeeper/quota/a/zookeeper_stats").unwrap();
    assert_eq!(stats.data(), Some(&b"count=2,bytes=8"[..]));
    let quota = tree.quotas_over("/a/b/c")[0];
    assert_eq!((&**quota.path, quota.used, quota.is_shown), ("/a", Usage { count: 2, bytes: 8 }, true));
    assert_eq!(quota.limits.unwrap().count.hard, Some(3));
    assert_eq!(tree.digest(), tree.recompute_digest());
}
