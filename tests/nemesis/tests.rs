//! Histories by hand: good ones pass, and each thing that must not happen is found.

use super::check::{self, INITIAL};
use super::entry::{Entry, Kind, Outcome};
use super::falsify;
use super::linear::{Call, State, Step, Verdict, check as linear};

const START: State = State { value: 0, version: 0 };

fn call(begin: u64, end: u64, step: Step) -> Call {
    Call { begin, end: Some(end), step }
}

fn write(value: u32, version: i32) -> Step {
    Step::Write { value, expect: None, version: Some(version) }
}

fn read(value: u32, version: i32) -> Step {
    Step::Read(State { value, version })
}

/// A write whose answer was lost.
fn lost(begin: u64, value: u32, expect: Option<i32>) -> Call {
    Call { begin, end: None, step: Step::Write { value, expect, version: None } }
}

#[test]
fn one_after_the_other() {
    let calls =
        [call(1, 2, write(1, 1)), call(3, 4, read(1, 1)), call(5, 6, write(2, 2)), call(7, 8, read(2, 2))];
    assert_eq!(linear(START, &calls), Verdict::Linearizable);
}

#[test]
fn at_the_same_time_any_order_will_do() {
    let calls =
        [call(1, 10, write(1, 2)), call(2, 9, write(2, 1)), call(3, 8, read(0, 0)), call(4, 7, read(2, 1))];
    assert_eq!(linear(START, &calls), Verdict::Linearizable);
}

#[test]
fn a_read_of_the_past_has_no_place() {
    let calls = [call(1, 2, write(1, 1)), call(3, 4, read(0, 0))];
    assert_eq!(linear(START, &calls), Verdict::Not { order: vec![0], stuck: 1 });
}

#[test]
fn a_read_that_is_undone_by_the_next_has_no_place() {
    let calls = [call(1, 20, write(1, 1)), call(3, 4, read(1, 1)), call(5, 6, read(0, 0))];
    assert!(matches!(linear(START, &calls), Verdict::Not { .. }));
}

#[test]
fn two_cannot_both_win_the_same_version() {
    let cas = |value| Step::Write { value, expect: Some(0), version: Some(1) };
    let calls = [call(1, 5, cas(1)), call(2, 6, cas(2))];
    assert!(matches!(linear(START, &calls), Verdict::Not { .. }));
}

#[test]
fn a_write_is_not_refused_for_the_version_that_there_is() {
    let calls = [call(1, 2, write(1, 1)), call(3, 4, Step::Refused { expect: 1 })];
    assert!(matches!(linear(START, &calls), Verdict::Not { .. }));
    let calls = [call(1, 2, write(1, 1)), call(3, 4, Step::Refused { expect: 0 })];
    assert_eq!(linear(START, &calls), Verdict::Linearizable);
}

#[test]
fn what_is_unknown_happens_late_or_never() {
    let never = [lost(1, 1, None), call(3, 4, read(0, 0)), call(5, 6, write(2, 1))];
    assert_eq!(linear(START, &never), Verdict::Linearizable);
    let late = [lost(1, 1, None), call(3, 4, read(0, 0)), call(50, 60, read(1, 1))];
    assert_eq!(linear(START, &late), Verdict::Linearizable);
    let before_it_began = [call(1, 2, read(1, 1)), lost(3, 1, None)];
    assert!(matches!(linear(START, &before_it_began), Verdict::Not { .. }));
    let twice = [lost(1, 1, None), call(3, 4, read(1, 1)), call(5, 6, write(2, 2)), call(7, 8, read(1, 3))];
    assert!(matches!(linear(START, &twice), Verdict::Not { .. }));
}

#[test]
fn many_that_are_unknown_do_not_take_for_ever() {
    let mut calls: Vec<Call> = (0..40).map(|n| lost(1 + n, 1_000 + n as u32, Some(0))).collect();
    calls.extend((0..200).map(|n| call(100 + 2 * n, 101 + 2 * n, write(n as u32, n as i32 + 1))));
    assert_eq!(linear(START, &calls), Verdict::Linearizable);
    calls.push(call(10_000, 10_001, read(7, 7)));
    assert!(matches!(linear(START, &calls), Verdict::Not { .. }));
}

/// A small history in which everything happens and nothing is wrong.
fn good() -> Vec<Entry> {
    let mut at = 0;
    let mut entry = |client: &str, kind| {
        at += 10;
        Entry { session: 7, ..Entry::new(client, kind, Outcome::Ok, at, at + 5) }
    };
    let mut history = Vec::new();
    let register = |entry: Entry, value: &str, version: i32| Entry {
        key: "/r".into(),
        value: value.into(),
        version: Some(version),
        zxid: Some(i64::from(version)),
        ..entry
    };
    history.push(register(entry("a", Kind::Read), INITIAL, 0));
    for version in 1..=4 {
        history.push(register(entry("a", Kind::Write), &format!("a:{version}"), version));
        history.push(register(entry("a", Kind::PlainRead), &format!("a:{version}"), version));
        history.push(register(entry("a", Kind::Read), &format!("a:{version}"), version));
    }
    for n in 0..4_u64 {
        let numbered = |entry: Entry, value: String| Entry {
            value,
            number: Some(n),
            zxid: Some(100 + n as i64),
            ..entry
        };
        history.push(numbered(entry("a", Kind::Id), format!("id:{n}")));
        history.push(numbered(entry("a", Kind::Put), format!("item:{n}")));
    }
    for n in 0..4_i32 {
        let number = Some(n as u64);
        let locked = |entry: Entry| Entry { key: "lock".into(), number, ..entry };
        history.push(locked(entry("a", Kind::Acquire)));
        let guard = locked(entry("a", Kind::Guard));
        history.push(Entry { version: Some(n + 1), zxid: Some(200 + i64::from(n)), ..guard });
        history.push(locked(entry("a", Kind::Release)));
    }
    for n in 0..4_u64 {
        let kind = if n < 3 { Kind::Take } else { Kind::ItemLeft };
        history.push(Entry { value: format!("item:{n}"), number: Some(n), ..entry("a", kind) });
        let left = entry("the end", Kind::IdLeft);
        history.push(Entry { value: format!("id:{n}"), number: Some(n), zxid: Some(100 + n as i64), ..left });
    }
    history
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    for check in check::all(&good()) {
        assert!(check.violations.is_empty(), "{}: {:?}", check.name, check.violations);
        assert!(check.operations > 0, "{}", check.name);
    }
}

#[test]
fn every_lie_is_found_out() {
    for (lie, found) in falsify::tell(&good()) {
        assert_eq!(found, Ok(true), "{lie}");
    }
}

#[test]
fn an_item_in_doubt_is_not_lost() {
    let mut history = good();
    let take = history.iter_mut().find(|entry| entry.kind == Kind::Take).unwrap();
    take.outcome = Outcome::Unknown;
    assert!(check::all(&history).iter().all(|check| check.violations.is_empty()));
}

#[test]
fn a_history_survives_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("history.jsonl");
    super::entry::save(&file, &good()).unwrap();
    assert_eq!(super::entry::load(&file).unwrap(), good());
    std::fs::write(&file, "{}\n").unwrap();
    assert!(super::entry::load(&file).unwrap_err().contains("line 1"));
}
