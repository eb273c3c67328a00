//! Histories that were tampered with. Each lie must be found out by the check that is there for it; one that is not
//! would show that the check looks away.

#![allow(clippy::ptr_arg)] // all lies have one type, and some leave lines out

use super::check;
use super::entry::{Entry, Kind, Outcome};

/// A lie: its name, the check that must find it, and how it is told. False if the history has no place for it.
type Lie = (&'static str, &'static str, fn(&mut Vec<Entry>) -> bool);

const LIES: &[Lie] = &[
    ("a synced read shows the past", "writes and synced reads are linearizable", stale_read),
    ("an acknowledged write is undone", "writes and synced reads are linearizable", lost_write),
    ("a refused write is seen", "a version of a register is the same for all", refused_write),
    ("two write the same version", "a version of a register is the same for all", twice_a_version),
    ("a session sees the past again", "a session never goes back", back_in_time),
    ("two have one id", "ids are unique, increasing and kept", same_id),
    ("an id is smaller than an earlier one", "ids are unique, increasing and kept", swapped_ids),
    ("an id is lost", "ids are unique, increasing and kept", lost_id),
    ("a lock has two holders", "a lock has one holder at a time", two_holders),
    ("a former holder gets past the fence", "a fence keeps former holders out", past_the_fence),
    ("an item is taken twice", "an item is taken once", taken_twice),
    ("an item is lost", "an item is taken once", lost_item),
];

/// Tells every lie. Gives the name of each, and what became of it: `Ok(true)` found out, `Ok(false)` no place for it.
pub fn tell(history: &[Entry]) -> Vec<(&'static str, Result<bool, String>)> {
    LIES.iter()
        .map(|(name, finder, lie)| {
            let mut told = history.to_vec();
            if !lie(&mut told) {
                return (*name, Ok(false));
            }
            let found = check::all(&told).into_iter().filter(|check| !check.violations.is_empty());
            let finders: Vec<&str> = found.map(|check| check.name).collect();
            let is_found = finders.contains(finder);
            (*name, is_found.then_some(true).ok_or(format!("not found by {finder:?}, but by {finders:?}")))
        })
        .collect()
}

fn is(entry: &Entry, kind: Kind) -> bool {
    entry.kind == kind && entry.is_ok()
}

/// The places of a kind's entries that are ok.
fn places(history: &[Entry], kind: Kind) -> Vec<usize> {
    (0..history.len()).filter(|at| is(&history[*at], kind)).collect()
}

/// A synced read and an acknowledged write of the version that it shows, which had ended before the read began.
fn read_of_a_write(history: &[Entry]) -> Option<(usize, usize)> {
    let writes = places(history, Kind::Write);
    places(history, Kind::Read).into_iter().rev().find_map(|read| {
        let r = &history[read];
        let is_source = |write: &&usize| {
            let w = &history[**write];
            w.key == r.key && w.version == r.version && w.end < r.begin
        };
        let before = r.version? - 1;
        let has_past =
            history.iter().any(|e| is(e, Kind::Write) && e.key == r.key && e.version == Some(before));
        writes.iter().find(is_source).filter(|_| has_past).map(|write| (read, *write))
    })
}

fn stale_read(history: &mut Vec<Entry>) -> bool {
    let Some((read, _)) = read_of_a_write(history) else { return false };
    let key = history[read].key.clone();
    let before = history[read].version.map(|version| version - 1);
    let past = history.iter().find(|e| is(e, Kind::Write) && e.key == key && e.version == before);
    let (value, version, zxid) =
        past.map(|e| (e.value.clone(), e.version, e.zxid)).expect("looked for above");
    // Of another session, so that only time is against it.
    history[read] = Entry { value, version, zxid, session: 0, ..history[read].clone() };
    true
}

fn lost_write(history: &mut Vec<Entry>) -> bool {
    let Some((_, write)) = read_of_a_write(history) else { return false };
    let key = history[write].key.clone();
    let version = history[write].version;
    // All that has seen it is gone, and from then on there is one version less.
    history.retain(|e| e.key != key || e.version != version || (e.kind == Kind::Write && e.is_ok()));
    let begin = history.iter().map(|e| e.begin).max().unwrap_or(0);
    let past = history.iter().find(|e| is(e, Kind::Write) && e.key == key && e.version < version);
    let Some(past) = past.cloned() else { return false };
    history.push(Entry { kind: Kind::Read, session: 0, begin: begin + 1, end: begin + 2, ..past });
    true
}

fn refused_write(history: &mut Vec<Entry>) -> bool {
    let Some((_, write)) = read_of_a_write(history) else { return false };
    history[write] = Entry { outcome: Outcome::Fail, error: "NotReadOnly".into(), ..history[write].clone() };
    true
}

fn twice_a_version(history: &mut Vec<Entry>) -> bool {
    let Some(write) = places(history, Kind::Write).pop() else { return false };
    history.push(Entry { value: "another".into(), ..history[write].clone() });
    true
}

fn back_in_time(history: &mut Vec<Entry>) -> bool {
    let seen = history.iter().rfind(|e| is(e, Kind::PlainRead) && e.version > Some(0) && e.session != 0);
    let Some(seen) = seen.cloned() else { return false };
    let at = seen.end + 1;
    let past =
        Entry { version: Some(0), value: check::INITIAL.into(), zxid: Some(0), begin: at, end: at, ..seen };
    history.push(past);
    true
}

fn same_id(history: &mut Vec<Entry>) -> bool {
    let ids = places(history, Kind::Id);
    let [first, second, ..] = ids[..] else { return false };
    history[second].number = history[first].number;
    true
}

fn swapped_ids(history: &mut Vec<Entry>) -> bool {
    let ids = places(history, Kind::Id);
    let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return false };
    if history[*first].end >= history[*last].begin {
        return false;
    }
    let (one, two) = (history[*first].number, history[*last].number);
    let value = |history: &[Entry], at: usize| (history[at].value.clone(), history[at].zxid);
    let (of_one, of_two) = (value(history, *first), value(history, *last));
    for entry in history.iter_mut().filter(|e| matches!(e.kind, Kind::Id | Kind::IdLeft)) {
        // In the end they are where they were said to be.
        if entry.kind == Kind::IdLeft && entry.number == one {
            (entry.value, entry.zxid) = of_two.clone();
        } else if entry.kind == Kind::IdLeft && entry.number == two {
            (entry.value, entry.zxid) = of_one.clone();
        } else if entry.number == one {
            entry.number = two;
        } else if entry.number == two {
            entry.number = one;
        }
    }
    true
}

fn lost_id(history: &mut Vec<Entry>) -> bool {
    let Some(id) = places(history, Kind::Id).pop() else { return false };
    let number = history[id].number;
    history.retain(|e| e.kind != Kind::IdLeft || e.number != number);
    true
}

fn two_holders(history: &mut Vec<Entry>) -> bool {
    let releases = places(history, Kind::Release);
    let acquires = places(history, Kind::Acquire);
    for release in releases {
        let out = &history[release];
        let of = |e: &Entry| e.key == out.key && e.number == out.number;
        let came = acquires.iter().find(|at| of(&history[**at]));
        let released = |e: &Entry| {
            history.iter().any(|r| is(r, Kind::Release) && r.key == e.key && r.number == e.number)
        };
        let next = acquires.iter().find(|at| {
            let e = &history[**at];
            e.key == out.key && e.number > out.number && released(e)
        });
        if let (Some(came), Some(next)) = (came, next) {
            history[*next].end = history[*came].end;
            return true;
        }
    }
    false
}

fn past_the_fence(history: &mut Vec<Entry>) -> bool {
    let guards = places(history, Kind::Guard);
    let pair = guards.iter().find_map(|first| {
        let f = &history[*first];
        let later = guards.iter().find(|at| history[**at].key == f.key && history[**at].number > f.number);
        later.map(|later| (*first, *later))
    });
    let Some((first, later)) = pair else { return false };
    let (one, two) = (history[first].number, history[later].number);
    (history[first].number, history[later].number) = (two, one);
    true
}

fn taken_twice(history: &mut Vec<Entry>) -> bool {
    let Some(take) = places(history, Kind::Take).pop() else { return false };
    history.push(Entry { client: "another".into(), ..history[take].clone() });
    true
}

fn lost_item(history: &mut Vec<Entry>) -> bool {
    let acknowledged =
        |history: &[Entry], value: &str| history.iter().any(|e| is(e, Kind::Put) && e.value == value);
    let takes = places(history, Kind::Take);
    let Some(take) = takes.into_iter().find(|at| acknowledged(history, &history[*at].value)) else {
        return false;
    };
    let value = history[take].value.clone();
    history.retain(|e| e.kind == Kind::Put || e.value != value);
    true
}
