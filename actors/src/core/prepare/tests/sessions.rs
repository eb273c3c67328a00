//! Who may write at all, and from where.

use super::*;

const ELSEWHERE: Sid = Sid(2);

fn expired() -> TxnBody {
    TxnBody::Error(ZkError::SessionExpired.code())
}

fn moved() -> TxnBody {
    TxnBody::Error(ZkError::SessionMoved.code())
}

#[test]
fn an_unknown_session_is_expired() {
    let mut bench = Bench::new();
    assert_eq!(bench.propose(SessionId(99), create("/a")), expired());
    // Flags are judged before the session, everything else after it.
    assert_eq!(
        bench.propose(SessionId(99), create_flags("/a", 9)),
        TxnBody::Error(ZkError::BadArguments.code())
    );
    assert_eq!(bench.propose(SessionId(99), delete("bad", 0)), expired());
    let multi = Op::Multi(vec![create("/a"), create("/b")]);
    let after = TxnBody::Error(ZkError::RuntimeInconsistency.code());
    assert_eq!(bench.propose(SessionId(99), multi), TxnBody::Multi(vec![expired(), after]));
    bench.settle();
}

#[test]
fn a_closing_session_is_expired_before_it_is_gone() {
    let mut bench = Bench::new();
    bench.propose(S, Op::CloseSession);
    assert!(!bench.preparer.is_open(&bench.tree, S));
    assert_eq!(bench.propose(S, create("/a")), expired());
    assert!(!bench.preparer.attach(&bench.tree, S, ME, 1));
    // A second one, an expiry perhaps, does no harm.
    assert_eq!(bench.propose(S, Op::CloseSession), TxnBody::CloseSession { paths: Some(vec![]) });
    bench.apply_one();
    assert_eq!(bench.propose(S, create("/a")), expired());
    bench.settle();
    assert_eq!(bench.propose(S, create("/a")), expired());
    assert_eq!(bench.preparer.timeout_ms(&bench.tree, S), None);
}

#[test]
fn a_session_that_is_not_applied_yet_may_write() {
    let mut bench = Bench::new();
    let new = SessionId(42);
    bench.propose(new, Op::CreateSession { timeout_ms: 10 });
    assert!(matches!(bench.propose(new, create_flags("/e", 1)), TxnBody::Create { ephemeral: true, .. }));
    assert_eq!(
        bench.propose(new, Op::CloseSession),
        TxnBody::CloseSession { paths: Some(vec!["/e".into()]) }
    );
    bench.settle();
    assert_eq!(bench.tree.ephemeral_count(), 0);
}

#[test]
fn an_id_that_is_taken_is_refused() {
    let mut bench = Bench::new();
    let refused = TxnBody::Error(ZkError::SystemError.code());
    for session in [S, SessionId::NONE] {
        assert_eq!(bench.propose(session, Op::CreateSession { timeout_ms: 1 }), refused);
    }
    bench.settle();
    assert_eq!(bench.tree.session_timeout(S), Some(TIMEOUT_MS));
}

#[test]
fn a_write_from_where_the_session_is_not_is_moved() {
    let mut bench = Bench::new();
    assert_eq!(bench.propose_from(ELSEWHERE, S, create("/a")), moved());
    assert!(bench.preparer.attach(&bench.tree, S, ELSEWHERE, 9000));
    assert_eq!(bench.preparer.timeout_ms(&bench.tree, S), Some(9000));
    assert_eq!(bench.propose(S, create("/a")), moved());
    assert_eq!(bench.propose(S, Op::Multi(vec![create("/a")])), moved(), "also in a multi: never told");
    assert_eq!(bench.preparer.admit(&bench.tree, S, ME), Err(ZkError::SessionMoved));
    assert_eq!(created(bench.propose_from(ELSEWHERE, S, create("/a"))), "/a");
    // Its end is honoured from wherever it comes.
    assert!(matches!(bench.propose(S, Op::CloseSession), TxnBody::CloseSession { .. }));
    bench.settle();
}

#[test]
fn after_an_election_the_first_writer_owns_the_session() {
    let mut bench = Bench::new();
    bench.preparer = Preparer::new(Epoch(2), Rules::default(), &bench.tree);
    assert_eq!(bench.preparer.timeout_ms(&bench.tree, S), Some(TIMEOUT_MS));
    assert_eq!(created(bench.propose_from(ELSEWHERE, S, create("/a"))), "/a");
    assert_eq!(bench.last_zxid(), Zxid::new(Epoch(2), 1));
    assert_eq!(bench.propose(S, create("/b")), moved());
    assert_eq!(created(bench.propose(T, create("/b"))), "/b");
    bench.settle();
}

#[test]
fn a_long_list_of_ephemerals_is_left_to_the_tree() {
    let mut bench = Bench::new();
    let name = "n".repeat(30_000);
    bench.given((0..40).map(|n| create_flags(&format!("/{name}{n}"), 1)));
    // Without the list there is no digest either: Apache would read it as the list.
    assert_eq!(bench.propose(S, Op::CloseSession), TxnBody::CloseSession { paths: None });
    assert_eq!(bench.waiting.back().expect("it waits").digest, None);
    bench.settle();
    assert_eq!(bench.tree.ephemeral_count(), 0);
    bench.propose(T, create("/a"));
    bench.settle();
}
