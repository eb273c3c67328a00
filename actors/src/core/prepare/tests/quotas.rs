//! Limits of subtrees, with what is on its way.

use super::*;
use crate::core::quota::Remark;
use ZkError::{BadVersion, NoAuth, NoChildrenForEphemerals, NodeExists, QuotaExceeded};

const LIMITS: &str = "/zookeeper/quota/a/zookeeper_limits";
const STATS: &str = "/zookeeper/quota/a/zookeeper_stats";

fn put(path: &str, data: &str) -> Op {
    let (kind, data) = (CreateKind::Create, Some(Bytes::from(data.to_string())));
    Op::Create { kind, path: path.into(), data, acl: Some(open()), flags: 0 }
}

fn set(path: &str, data: &str) -> Op {
    Op::SetData { path: path.into(), data: Some(Bytes::from(data.to_string())), version: -1 }
}

impl Bench {
    /// `/a` with 5 bytes, and a quota on it.
    fn with_quota(limits: &str, enforce_quota: bool) -> Bench {
        let mut bench = Bench::with_rules(Rules { enforce_quota, ..Rules::default() });
        bench.given([put("/a", "12345"), put("/zookeeper/quota/a", ""), put(LIMITS, limits), put(STATS, "")]);
        bench
    }

    /// What operators are told, in short.
    fn remarks(&mut self) -> Vec<String> {
        let short = |remark| match remark {
            Remark::Exceeded { excess, refused } => {
                format!(
                    "{} {}>{}{}",
                    excess.quota,
                    excess.would_be,
                    excess.limit,
                    if refused { "!" } else { "" }
                )
            }
            Remark::Unreadable(quota) => format!("{quota}?"),
        };
        self.preparer.take_remarks().into_iter().map(short).collect()
    }
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_hard_limit_of_znodes_holds() {
    let mut bench = Bench::with_quota("count=-1,bytes=-1=;countHardLimit=3", true);
    bench.given([put("/a/1", ""), put("/a/2", "")]);
    assert_eq!(bench.remarks(), NOTHING);
    bench.refuses([(put("/a/3", ""), QuotaExceeded), (put("/a/1/x", ""), QuotaExceeded)]);
    assert_eq!(bench.remarks(), ["/a 4>3!", "/a 4>3!"]);
    bench.given([set("/a/1", "as much as you like"), put("/b", "")]);
    bench.given([delete("/a/1", -1), put("/a/3", "")]);
}

#[test]
fn a_hard_limit_of_bytes_holds() {
    let mut bench = Bench::with_quota("byteHardLimit=10", true);
    bench.given([put("/a/1", "12345"), set("/a/1", "54321"), put("/a/2", "")]);
    bench.refuses([
        (set("/a/1", "123456"), QuotaExceeded),
        (put("/a/3", "x"), QuotaExceeded),
        (set("/a", "123456"), QuotaExceeded),
    ]);
    bench.given([set("/a/1", "1"), set("/a", "123456789")]);
    // Less, and still too much.
    bench.given([set(LIMITS, "byteHardLimit=5")]);
    bench.refuses([(set("/a", "12345678"), QuotaExceeded)]);
    bench.given([set("/a", "987654321"), set("/a", "1234")]);
}

#[test]
fn what_is_on_its_way_counts() {
    let mut bench = Bench::with_quota("countHardLimit=3", true);
    let refused = TxnBody::Error(QuotaExceeded.code());
    assert_eq!(created(bench.propose(S, put("/a/1", ""))), "/a/1");
    assert_eq!(created(bench.propose(S, put("/a/2", ""))), "/a/2");
    assert_eq!(bench.propose(S, put("/a/3", "")), refused, "two are on their way");
    bench.propose(S, delete("/a/1", -1));
    assert_eq!(created(bench.propose(S, put("/a/3", ""))), "/a/3", "one of them goes");
    bench.apply_one();
    bench.apply_one();
    assert_eq!(bench.propose(S, put("/a/4", "")), refused, "some have arrived");
    bench.settle();
    bench.refuses([(put("/a/4", ""), QuotaExceeded)]);
}

#[test]
fn what_a_closing_session_leaves_is_free() {
    let mut bench = Bench::with_quota("countHardLimit=2", true);
    bench.propose(T, create_flags("/a/e", 1));
    bench.settle();
    bench.refuses([(put("/a/1", ""), QuotaExceeded)]);
    bench.propose(T, Op::CloseSession);
    assert_eq!(created(bench.propose(S, put("/a/1", ""))), "/a/1", "its ephemeral is on its way out");
    bench.settle();
    bench.refuses([(put("/a/2", ""), QuotaExceeded)]);
}

#[test]
fn members_of_a_multi_count_each_other() {
    let mut bench = Bench::with_quota("countHardLimit=3,byteHardLimit=10", true);
    let body =
        bench.write(Op::Multi(vec![put("/a/1", ""), put("/a/2", ""), put("/a/3", ""), check("/a", 0)]));
    let inconsistent = ZkError::RuntimeInconsistency.code();
    let codes = [0, 0, QuotaExceeded.code(), inconsistent];
    assert_eq!(body, TxnBody::Multi(codes.map(TxnBody::Error).to_vec()));
    // Make room, then take it: in this order only.
    let room = |first, second| Op::Multi(vec![first, second]);
    bench.given([put("/a/1", "12345")]);
    let body = bench.write(room(set("/a", ""), set("/a/1", "1234567890")));
    assert!(matches!(&body, TxnBody::Multi(members) if members.len() == 2), "{body:?}");
    let body = bench.write(room(put("/a/2", "x"), set("/a/1", "")));
    assert_eq!(body, TxnBody::Multi([QuotaExceeded.code(), inconsistent].map(TxnBody::Error).to_vec()));
    // What failed is not on its way.
    bench.given([set("/a/1", "123456789"), put("/a/2", "x")]);
}

#[test]
fn a_soft_limit_is_only_remarked_on() {
    let mut bench = Bench::with_quota("count=1,bytes=6", true);
    bench.given([put("/a/1", "12")]);
    assert_eq!(bench.remarks(), ["/a 2>1", "/a 7>6"]);
    bench.given([set("/a/1", "1")]);
    assert_eq!(bench.remarks(), NOTHING);
}

#[test]
fn without_enforcement_a_hard_limit_is_only_remarked_on() {
    let mut bench = Bench::with_quota("countHardLimit=1", false);
    bench.given([put("/a/1", "")]);
    assert_eq!(bench.remarks(), ["/a 2>1"]);
}

#[test]
fn the_innermost_quota_applies() {
    let mut bench = Bench::with_quota("countHardLimit=2", true);
    bench.given([put("/a/b", ""), put("/zookeeper/quota/a/b", "")]);
    bench.given([put("/zookeeper/quota/a/b/zookeeper_limits", "countHardLimit=3")]);
    bench.given([put("/a/b/1", "")]);
    assert_eq!(
        bench.remarks(),
        NOTHING,
        "without zookeeper_stats it is not enforced, and nor is the outer one"
    );
    bench.given([put("/zookeeper/quota/a/b/zookeeper_stats", ""), put("/a/b/2", "")]);
    bench.refuses([(put("/a/b/3", ""), QuotaExceeded), (put("/a/c", ""), QuotaExceeded)]);
    assert_eq!(bench.remarks(), ["/a/b 4>3!", "/a 5>2!"], "the outer one counts all");
}

#[test]
fn limits_that_cannot_be_read_limit_nothing() {
    let mut bench = Bench::with_quota("countHardLimit=", true);
    bench.given([put("/a/1", ""), set("/a/1", "x")]);
    assert_eq!(bench.remarks(), ["/a?", "/a?"]);
}

#[test]
fn the_quota_has_its_place_among_the_checks() {
    let mut bench = Bench::with_quota("countHardLimit=1,byteHardLimit=5", true);
    bench.given([create_acl("/shut", all_but(perms::CREATE))]);
    bench.refuses([
        (put("/shut/x", ""), NoAuth),
        (put("/a", ""), NodeExists),
        (put("/a/x", ""), QuotaExceeded),
        (Op::SetData { path: "/a".into(), data: Some("123456".into()), version: 9 }, QuotaExceeded),
        (Op::SetData { path: "/a".into(), data: Some("12345".into()), version: 9 }, BadVersion),
    ]);
    let mut bench = Bench::with_quota("countHardLimit=2", true);
    bench.given([create_flags("/a/e", 1)]);
    bench.refuses([(put("/a/e/x", ""), NoChildrenForEphemerals)]);
    bench.given([set_acl("/a", all_but(perms::WRITE), -1)]);
    bench.refuses([(set("/a", "1234567"), NoAuth)]);
}
