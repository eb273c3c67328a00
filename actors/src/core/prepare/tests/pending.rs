//! Writes meet what is proposed before them, applied or not.

use super::*;

#[test]
fn writes_see_what_is_pending() {
    let steps: &[(Op, Result<(), ZkError>)] = &[
        (create("/a"), Ok(())),
        (create("/a"), Err(ZkError::NodeExists)),
        (create("/a/b"), Ok(())),
        (delete("/a", -1), Err(ZkError::NotEmpty)),
        (set_data("/a", 0), Ok(())),
        (set_data("/a", 0), Err(ZkError::BadVersion)),
        (set_data("/a", 1), Ok(())),
        (set_acl("/a", all_but(perms::WRITE), 0), Ok(())),
        (set_data("/a", -1), Err(ZkError::NoAuth)),
        (delete("/a/b", 1), Err(ZkError::BadVersion)),
        (delete("/a/b", 0), Ok(())),
        (set_data("/a/b", -1), Err(ZkError::NoNode)),
        (delete("/a", 2), Ok(())),
        (create("/a/b"), Err(ZkError::NoNode)),
        (create("/a"), Ok(())),
        (set_data("/a", 0), Ok(())),
    ];
    // However many of them are applied when the next is prepared, the answers are the same.
    for lag in [0, 1, 3, steps.len()] {
        let mut bench = Bench::new();
        for (op, expected) in steps {
            let body = bench.propose(S, op.clone());
            let got = match body {
                TxnBody::Error(code) => Err(ZkError::from_code(code).expect("it has a name")),
                _ => Ok(()),
            };
            assert_eq!(got, *expected, "{op:?} with {lag} in flight");
            while bench.waiting.len() > lag {
                bench.apply_one();
            }
        }
        bench.settle();
        assert_eq!(bench.tree.get("/a").expect("it is there").stat().version, 1);
    }
}

#[test]
fn pipelined_sequential_creates_get_consecutive_numbers() {
    let mut bench = Bench::new();
    bench.given([create("/q")]);
    let names: Vec<String> = (0..3).map(|_| created(bench.propose(S, create_flags("/q/n", 3)))).collect();
    assert_eq!(names, ["/q/n0000000000", "/q/n0000000001", "/q/n0000000002"]);
    bench.apply_one();
    bench.propose(T, delete("/q/n0000000000", -1));
    assert_eq!(created(bench.propose(T, create_flags("/q/n", 2))), "/q/n0000000003");
    bench.settle();
}

#[test]
fn children_of_the_root_are_counted_on_the_root() {
    let mut bench = Bench::new();
    let before = bench.tree.get("/").unwrap().persisted().cversion;
    assert_eq!(created(bench.propose(S, create_flags("/n", 2))), format!("/n{before:010}"));
    assert_eq!(created(bench.propose(S, create_flags("/n", 2))), format!("/n{:010}", before + 1));
    bench.settle();
    assert_eq!(bench.tree.get("").unwrap().persisted().cversion, before + 2);
}

#[test]
fn an_older_transaction_does_not_uncover_a_newer_change() {
    let mut bench = Bench::new();
    bench.propose(S, create("/a"));
    bench.propose(S, set_data("/a", 0));
    bench.apply_one();
    assert_eq!(bench.propose(S, set_data("/a", 0)), TxnBody::Error(ZkError::BadVersion.code()));
    bench.settle();
}

#[test]
fn closing_lists_ephemerals_as_they_will_be() {
    let mut bench = Bench::new();
    bench.given([create("/p"), create_flags("/p/old", 1), create_flags("/p/going", 1)]);
    bench.propose(S, create_flags("/p/new", 1));
    bench.propose(S, create_flags("/p/brief", 1));
    bench.propose(S, delete("/p/brief", -1));
    bench.propose(S, delete("/p/going", -1));
    bench.propose(S, set_data("/p/old", -1));
    bench.propose(T, create_flags("/p/other", 1));
    let body = bench.propose(S, Op::CloseSession);
    assert_eq!(body, TxnBody::CloseSession { paths: Some(vec!["/p/new".into(), "/p/old".into()]) });
    // The parent knows already who will be gone.
    assert_eq!(bench.propose(T, delete("/p", -1)), TxnBody::Error(ZkError::NotEmpty.code()));
    bench.propose(T, delete("/p/other", -1));
    assert_eq!(
        bench.propose(T, create("/p/old")),
        TxnBody::Create {
            kind: CreateKind::Create,
            path: "/p/old".into(),
            data: Some(Bytes::from_static(b"hi")),
            acl: open(),
            ephemeral: false,
            parent_cversion: 6,
        }
    );
    bench.settle();
    assert_eq!(bench.tree.get("/p").unwrap().child_count(), 1);
    assert_eq!(bench.tree.ephemeral_count(), 0);
}
