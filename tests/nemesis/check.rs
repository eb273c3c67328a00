//! What a history must keep to, whatever happened to the servers.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::entry::{Entry, Kind, Outcome};
use super::linear::{self, Call, State, Step, Verdict};

/// What every register holds at first, at version 0.
pub const INITIAL: &str = "initial";

/// Violations that are told of each kind: the first ones say enough.
const ENOUGH: usize = 5;

/// Operations of a register that are shown around the one that does not fit.
const SHOWN: usize = 24;

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Check {
    pub name: &'static str,
    /// Operations that were looked at.
    pub operations: usize,
    /// What was wrong.
    pub violations: Vec<String>,
}

impl Check {
    fn new(name: &'static str, operations: usize) -> Check {
        Check { name, operations, violations: Vec::new() }
    }

    fn violation(&mut self, what: impl Into<String>) {
        if self.violations.len() < ENOUGH {
            self.violations.push(what.into());
        }
    }

    fn of(&mut self, what: &str, entries: &[&Entry]) {
        let lines: Vec<String> = entries.iter().map(|entry| format!("\n    {entry}")).collect();
        self.violation(format!("{what}{}", lines.concat()));
    }
}

/// Looks at everything.
pub fn all(history: &[Entry]) -> Vec<Check> {
    vec![
        linearizable(history),
        versions(history),
        sessions(history),
        ids(history),
        locks(history),
        fences(history),
        queues(history),
    ]
}

fn of_kinds<'a>(history: &'a [Entry], kinds: &[Kind]) -> Vec<&'a Entry> {
    history.iter().filter(|entry| kinds.contains(&entry.kind)).collect()
}

fn by_key<'a>(entries: &[&'a Entry]) -> BTreeMap<&'a str, Vec<&'a Entry>> {
    let mut keys: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    entries.iter().for_each(|entry| keys.entry(&entry.key).or_default().push(entry));
    keys
}

/// Writes and reads behind a sync, of each register.
fn linearizable(history: &[Entry]) -> Check {
    let entries = of_kinds(history, &[Kind::Write, Kind::Read]);
    let mut check = Check::new("writes and synced reads are linearizable", entries.len());
    for (key, entries) in by_key(&entries) {
        let mut numbers: HashMap<&str, u32> = HashMap::from([(INITIAL, 0)]);
        let mut asked: Vec<&Entry> = Vec::new();
        let mut calls: Vec<Call> = Vec::new();
        for entry in entries {
            let count = u32::try_from(numbers.len()).expect("fewer values than that");
            let value = *numbers.entry(&entry.value).or_insert(count);
            if let Some(call) = call(entry, value) {
                asked.push(entry);
                calls.push(call);
            }
        }
        match linear::check(State { value: 0, version: 0 }, &calls) {
            Verdict::Linearizable => {}
            Verdict::Undecided => check.violation(format!("{key}: too many orders to try them all")),
            Verdict::Not { order, stuck } => {
                let tail = &order[order.len().saturating_sub(SHOWN)..];
                let story: Vec<&Entry> = tail.iter().chain([&stuck]).map(|call| asked[*call]).collect();
                check.of(&format!("{key}: behind this order nothing makes the last line right"), &story);
            }
        }
    }
    check
}

/// `None` for what did nothing, or is not known to have read anything.
fn call(entry: &Entry, value: u32) -> Option<Call> {
    let step = match (entry.kind, entry.outcome) {
        (Kind::Write, Outcome::Ok) => {
            Step::Write { value, expect: entry.expect, version: Some(entry.version?) }
        }
        (Kind::Write, Outcome::Unknown) => Step::Write { value, expect: entry.expect, version: None },
        (Kind::Write, Outcome::Fail) if entry.error == "BadVersion" => {
            Step::Refused { expect: entry.expect? }
        }
        (Kind::Read, Outcome::Ok) => Step::Read(State { value, version: entry.version? }),
        _ => return None,
    };
    let end = (entry.outcome != Outcome::Unknown).then_some(entry.end);
    Some(Call { begin: entry.begin, end, step })
}

/// Whoever looks: a version has one value and one zxid, later ones have greater zxids, and somebody wrote the value.
fn versions(history: &[Entry]) -> Check {
    let entries = of_kinds(history, &[Kind::Write, Kind::Read, Kind::PlainRead]);
    let mut check = Check::new("a version of a register is the same for all", entries.len());
    for (key, entries) in by_key(&entries) {
        let possible: BTreeSet<&str> = entries
            .iter()
            .filter(|entry| entry.kind == Kind::Write && entry.outcome != Outcome::Fail)
            .map(|entry| entry.value.as_str())
            .chain([INITIAL])
            .collect();
        let mut seen: BTreeMap<i32, &Entry> = BTreeMap::new();
        for entry in entries.into_iter().filter(|entry| entry.is_ok()) {
            let Some(version) = entry.version else { continue };
            if !possible.contains(entry.value.as_str()) {
                check.of(&format!("{key}: nobody can have written this"), &[entry]);
            }
            let first = *seen.entry(version).or_insert(entry);
            let differs = first.value != entry.value || first.zxid != entry.zxid;
            let rewritten = first.kind == Kind::Write && entry.kind == Kind::Write && first != entry;
            if differs || rewritten {
                check.of(&format!("{key}: one version, but not the same"), &[first, entry]);
            }
        }
        let in_order: Vec<&Entry> = seen.into_values().collect();
        for pair in in_order.windows(2).filter(|pair| pair[0].zxid >= pair[1].zxid) {
            check.of(&format!("{key}: the later version has the earlier zxid"), pair);
        }
    }
    check
}

/// What a session has seen or written of a register, it does not see an older version of.
fn sessions(history: &[Entry]) -> Check {
    let mut entries = of_kinds(history, &[Kind::Write, Kind::Read, Kind::PlainRead]);
    entries.retain(|entry| entry.is_ok() && entry.session != 0);
    // A session does one thing at a time.
    entries.sort_by_key(|entry| entry.begin);
    let mut check = Check::new("a session never goes back", entries.len());
    let mut last: HashMap<(i64, &str), &Entry> = HashMap::new();
    for entry in entries {
        if let Some(earlier) = last.insert((entry.session, &entry.key), entry)
            && earlier.version > entry.version
        {
            check.of("seen, and then something older", &[earlier, entry]);
        }
    }
    check
}

/// Whether it was read what is left: a run that broke off does not tell what is lost.
fn has_end(history: &[Entry]) -> bool {
    history.iter().any(|entry| matches!(entry.kind, Kind::IdLeft | Kind::ItemLeft))
}

/// Pairs of which the first had ended before the second began, but got the greater number.
fn against_time<'a>(entries: &[&'a Entry]) -> Vec<[&'a Entry; 2]> {
    let mut ends = entries.to_vec();
    ends.sort_by_key(|entry| entry.end);
    let mut begins = entries.to_vec();
    begins.sort_by_key(|entry| entry.begin);
    let mut ended = ends.into_iter().peekable();
    let mut greatest: Option<&Entry> = None;
    let mut found = Vec::new();
    for entry in begins {
        while let Some(earlier) = ended.next_if(|earlier| earlier.end < entry.begin) {
            if greatest.is_none_or(|greatest| greatest.number < earlier.number) {
                greatest = Some(earlier);
            }
        }
        found.extend(greatest.filter(|greatest| greatest.number >= entry.number).map(|other| [other, entry]));
    }
    found
}

/// Sequential numbers: nobody has the same, later ones are greater, and none is lost.
fn ids(history: &[Entry]) -> Check {
    let mut entries = of_kinds(history, &[Kind::Id]);
    let mut check = Check::new("ids are unique, increasing and kept", entries.len());
    let has_end = has_end(history);
    let possible: BTreeSet<&str> =
        entries.iter().filter(|e| e.outcome != Outcome::Fail).map(|e| e.value.as_str()).collect();
    let left: BTreeMap<Option<u64>, &Entry> =
        of_kinds(history, &[Kind::IdLeft]).into_iter().map(|entry| (entry.number, entry)).collect();
    for entry in left.values().filter(|entry| !possible.contains(entry.value.as_str())) {
        check.of("nobody can have made this id", &[entry]);
    }
    entries.retain(|entry| entry.is_ok());
    let mut numbers: BTreeMap<Option<u64>, &Entry> = BTreeMap::new();
    for entry in &entries {
        if let Some(other) = numbers.insert(entry.number, entry) {
            check.of("two have the same id", &[other, entry]);
        }
        match left.get(&entry.number) {
            None if has_end => check.of("an acknowledged id is lost", &[entry]),
            Some(found) if (&found.value, found.zxid) != (&entry.value, entry.zxid) => {
                check.of("an acknowledged id is another's in the end", &[entry, found]);
            }
            _ => {}
        }
    }
    for pair in against_time(&entries) {
        check.of("the later id is not the greater one", &pair);
    }
    let in_order: Vec<&Entry> = left.into_values().collect();
    for pair in in_order.windows(2).filter(|pair| pair[0].zxid >= pair[1].zxid) {
        check.of("the greater id has the earlier zxid", pair);
    }
    check
}

/// From when to when a client certainly held a lock: until the last thing it did that needs its ephemeral.
struct Held<'a> {
    acquire: &'a Entry,
    last: &'a Entry,
}

fn held<'a>(history: &'a [Entry]) -> BTreeMap<&'a str, Vec<Held<'a>>> {
    let mut proofs: HashMap<(&str, Option<u64>), &Entry> = HashMap::new();
    for entry in of_kinds(history, &[Kind::Guard, Kind::Release]).into_iter().filter(|e| e.is_ok()) {
        let last = proofs.entry((&entry.key, entry.number)).or_insert(entry);
        if entry.begin > last.begin {
            *last = entry;
        }
    }
    let mut locks: BTreeMap<&str, Vec<Held<'_>>> = BTreeMap::new();
    for acquire in of_kinds(history, &[Kind::Acquire]).into_iter().filter(|entry| entry.is_ok()) {
        if let Some(last) = proofs.get(&(acquire.key.as_str(), acquire.number)) {
            locks.entry(&acquire.key).or_default().push(Held { acquire, last });
        }
    }
    locks
}

/// No two hold a lock at the same time.
fn locks(history: &[Entry]) -> Check {
    let operations = of_kinds(history, &[Kind::Acquire, Kind::Release]).len();
    let mut check = Check::new("a lock has one holder at a time", operations);
    for (_, mut holders) in held(history) {
        holders.sort_by_key(|held| held.acquire.end);
        let mut latest: Option<&Held<'_>> = None;
        for held in &holders {
            if let Some(before) = latest
                && held.acquire.end < before.last.begin
            {
                let lines = [before.acquire, before.last, held.acquire, held.last];
                check.of("the second came in before the first went out", &lines);
            }
            if latest.is_none_or(|latest| latest.last.begin < held.last.begin) {
                latest = Some(held);
            }
        }
    }
    check
}

/// Once a later holder has changed the lock's register, no earlier one can.
fn fences(history: &[Entry]) -> Check {
    let mut entries = of_kinds(history, &[Kind::Guard]);
    let mut check = Check::new("a fence keeps former holders out", entries.len());
    entries.retain(|entry| entry.is_ok());
    for (_, mut guards) in by_key(&entries) {
        guards.sort_by_key(|entry| entry.version);
        for pair in guards.windows(2) {
            if pair[0].version == pair[1].version || pair[0].zxid >= pair[1].zxid {
                check.of("two changes under a lock are not one after the other", pair);
            }
            if pair[0].number > pair[1].number {
                check.of("a former holder changed what the lock guards", pair);
            }
        }
    }
    check
}

/// Everything put is taken once, or still there.
fn queues(history: &[Entry]) -> Check {
    let operations = of_kinds(history, &[Kind::Put, Kind::Take]);
    let mut check = Check::new("an item is taken once", operations.len());
    let has_end = has_end(history);
    let (puts, takes): (Vec<&Entry>, Vec<&Entry>) = operations.iter().partition(|e| e.kind == Kind::Put);
    let possible: BTreeSet<&str> =
        puts.iter().filter(|e| e.outcome != Outcome::Fail).map(|e| e.value.as_str()).collect();
    let mut in_doubt: BTreeSet<&str> = BTreeSet::new();
    let mut gone: BTreeMap<&str, &Entry> = BTreeMap::new();
    for take in takes.into_iter().chain(of_kinds(history, &[Kind::ItemLeft])) {
        match take.outcome {
            Outcome::Ok => {
                if let Some(other) = gone.insert(&take.value, take) {
                    check.of("an item is there twice", &[other, take]);
                }
                if !possible.contains(take.value.as_str()) {
                    check.of("nobody can have put this item", &[take]);
                }
            }
            Outcome::Unknown => {
                in_doubt.insert(&take.value);
            }
            Outcome::Fail => {}
        }
    }
    let acknowledged: Vec<&Entry> = puts.into_iter().filter(|entry| entry.is_ok()).collect();
    for put in &acknowledged {
        match gone.get(put.value.as_str()) {
            None if has_end && !in_doubt.contains(put.value.as_str()) => {
                check.of("an acknowledged item is lost", &[put]);
            }
            Some(found) if found.number != put.number => {
                check.of("an item came out at another place than it went in", &[put, found]);
            }
            _ => {}
        }
    }
    for pair in against_time(&acknowledged) {
        check.of("the later item is not the last one", &pair);
    }
    check
}
