//! Histories by hand: good ones pass, and each thing that must not happen is found. Faults: which come when, and
//! whether links do what they are told.

use std::ffi::OsString;
use std::process::Command;
use std::time::{Duration, Instant};

use super::check::{self, INITIAL};
use super::entry::{Entry, Kind, Outcome};
use super::faults::{FAULTS, Fault, Group, Schedule, pairs};
use super::linear::{Call, State, Step, Verdict, check as linear};
use super::rng::Rng;
use super::servers::Servers;
use super::software::Software;
use super::{falsify, net, sandbox};

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

/// The first faults that a seed gives.
fn drawn(groups: &[Group], seed: u64, count: usize) -> Vec<Fault> {
    let (mut schedule, mut rng) = (Schedule::new(groups), Rng::new(seed));
    (0..count).map(|_| schedule.next(&mut rng).unwrap()).collect()
}

#[test]
fn every_round_has_every_fault_and_the_seed_says_in_which_order() {
    let groups: Vec<Group> = FAULTS.iter().map(|(_, group, _)| *group).collect();
    let table: Vec<Fault> = FAULTS.iter().map(|(fault, ..)| *fault).collect();
    let two_rounds = drawn(&groups, 7, 2 * table.len());
    let (first, second) = two_rounds.split_at(table.len());
    assert_eq!(first, table);
    let sorted = |faults: &[Fault]| {
        let mut faults = faults.to_vec();
        faults.sort();
        faults.dedup();
        faults
    };
    assert_eq!(sorted(second), sorted(&table));
    assert_eq!(two_rounds, drawn(&groups, 7, 2 * table.len()));
    assert_ne!(two_rounds, drawn(&groups, 8, 2 * table.len()));
}

#[test]
fn only_faults_that_were_asked_for_are_drawn() {
    let links = [Fault::LossyLeader, Fault::SlowLeader, Fault::LossyAll, Fault::SlowAll];
    assert_eq!(drawn(&[Group::Slow, Group::Loss], 7, 4), links);
    assert_eq!(Schedule::new(&[]).next(&mut Rng::new(7)), None);
}

#[test]
fn packets_are_lost_in_the_directions_that_the_fault_says() {
    let all = [1, 2, 3, 4];
    assert_eq!(pairs(Fault::LeaderUnheard, &all, &[2]), [(2, 1), (2, 3), (2, 4)]);
    assert_eq!(pairs(Fault::LeaderDeaf, &all, &[2]), [(1, 2), (3, 2), (4, 2)]);
    for both_ways in [Fault::CutOffLeader, Fault::LossyLeader, Fault::LossyOne] {
        assert_eq!(pairs(both_ways, &all, &[2]), [(1, 2), (2, 1), (2, 3), (2, 4), (3, 2), (4, 2)]);
    }
    assert_eq!(pairs(Fault::Ring, &all, &all), [(1, 3), (2, 4), (3, 1), (4, 2)]);
    assert_eq!(pairs(Fault::LossyAll, &all, &all).len(), 12);
}

/// Datagrams that a server is sent at a time, to a port that nobody listens on.
const SENT: usize = 400;

fn in_namespace(sid: u8, words: &[&str]) -> String {
    let namespace = format!("--net={}", net::namespace(sid));
    let output = Command::new("nsenter").arg(namespace).arg("--").args(words).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn send(from: u8, to: u8) {
    send_some(from, to, SENT);
}

fn send_some(from: u8, to: u8, count: usize) {
    let socket = format!("/dev/udp/{}/9", net::address(to));
    let each = format!("for i in {{1..{count}}}; do printf %1000s > {socket}; done");
    in_namespace(from, &["bash", "-c", &each]);
}

/// How many datagrams have arrived so far: UDP counts those that nobody wants.
fn arrived(sid: u8) -> usize {
    let counts = in_namespace(sid, &["cat", "/proc/net/snmp"]);
    let udp: Vec<Vec<&str>> =
        counts.lines().filter(|line| line.starts_with("Udp:")).map(|l| l.split(' ').collect()).collect();
    let place = udp[0].iter().position(|name| *name == "NoPorts").unwrap();
    udp[1][place].parse().unwrap()
}

/// How many the filter of a server's link has thrown away.
fn thrown_away(sid: u8) -> usize {
    let port = format!("port{sid}");
    let output = Command::new("tc").args(["-s", "qdisc", "show", "dev", &port, "clsact"]).output().unwrap();
    let counts = String::from_utf8(output.stdout).unwrap();
    let count = counts.split("(dropped ").nth(1).unwrap().split(',').next().unwrap();
    count.parse().unwrap()
}

/// Waits until all that was sent has arrived or was thrown away.
fn await_count(what: &str, expected: usize, count: impl Fn() -> usize) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while count() != expected {
        assert!(Instant::now() < deadline, "{what}: {} and not {expected}", count());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// In a sandbox of its own, where there can be one.
#[test]
fn links_are_lossy_and_slow_as_they_are_told() {
    if sandbox::is_inside() {
        return links();
    }
    let itself = ["tests::links_are_lossy_and_slow_as_they_are_told", "--exact", "--nocapture"];
    match sandbox::inside(itself.map(OsString::from)) {
        Ok(mut again) => {
            let output = again.output().unwrap();
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(output.status.success() && said.contains("1 passed"), "{said}");
            print!("{said}");
        }
        Err(reason) => println!("no namespaces here: {reason}"),
    }
}

fn links() {
    net::make(3).unwrap();
    // Who does not know yet where the other is keeps only some for him.
    for (from, to) in [(1, 2), (1, 3), (2, 1)] {
        send_some(from, to, 1);
        await_count("the first", 1, || arrived(to));
    }
    match net::can_lose_some(3) {
        Ok(()) => {
            net::lose_some(1, 2, 50).unwrap();
            send(1, 2);
            await_count("half of them", 1 + SENT, || arrived(2) + thrown_away(1));
            // Six standard deviations.
            assert!(thrown_away(1).abs_diff(SENT / 2) < 60, "{}", thrown_away(1));
            send(1, 3);
            await_count("to another", 1 + SENT, || arrived(3));
            send(2, 1);
            await_count("the other way", 1 + SENT, || arrived(1));
            net::lose_none(1, 2).unwrap();
            let before = arrived(2);
            send(1, 2);
            await_count("healed", before + SENT, || arrived(2));
        }
        Err(reason) => println!("no lossy links here: {reason}"),
    }
    match net::can_slow() {
        Ok(()) => {
            net::slow(1, 64).unwrap();
            let before = [arrived(1), arrived(2)];
            send(1, 2);
            send(2, 1);
            // Eight a second, and four in the bucket: nearly all would have to wait for too long.
            assert!(arrived(2) - before[1] < SENT / 2, "from it");
            assert!(arrived(1) - before[0] < SENT / 2, "to it");
            net::hasten(1).unwrap();
            let before = arrived(2);
            send(1, 2);
            await_count("as fast as before", before + SENT, || arrived(2));
        }
        Err(reason) => println!("no slow links here: {reason}"),
    }
}

#[test]
fn each_software_is_told_of_all_servers() {
    let dir = tempfile::tempdir().unwrap();
    let text = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let has = |text: &str, line: String| assert!(text.lines().any(|l| l == line), "no {line} in:\n{text}");
    let apache = Servers::new(dir.path(), Software::Apache, 2, 1).unwrap();
    for own in &apache.all {
        let config = text(&format!("zoo-{}.cfg", own.sid));
        has(&config, format!("clientPort={}", own.client.port()));
        for server in &apache.all {
            let role = if server.sid == 3 { "observer" } else { "participant" };
            let (sid, peer, election) = (server.sid, server.peer, server.third.port());
            has(&config, format!("server.{sid}={peer}:{election}:{role}"));
        }
        assert_eq!(config.contains("peerType=observer"), own.sid == 3);
        assert_eq!(text(&format!("data/{0}/myid", own.sid)), own.sid.to_string());
    }
    let zabra = Servers::new(dir.path(), Software::Zabra, 2, 1).unwrap();
    let config = text("cluster.toml");
    for server in &zabra.all {
        has(&config, format!("id = {}", server.sid));
        has(&config, format!("client = \"{}\"", server.client));
    }
    assert_eq!(config.matches("role = \"observer\"").count(), 1);
}

#[test]
fn an_end_in_order_is_told_from_others() {
    let ended = |command: &str| Command::new("sh").args(["-c", command]).status().unwrap();
    let (good, bad, full, terminated) =
        (ended("exit 0"), ended("exit 1"), ended("exit 3"), ended("exit 143"));
    assert!(Software::Zabra.is_orderly(good) && Software::Apache.is_orderly(good));
    assert!(Software::Apache.is_orderly(terminated) && !Software::Zabra.is_orderly(terminated));
    assert!(!Software::Zabra.is_orderly(bad) && !Software::Apache.is_orderly(bad));
    assert!(Software::Zabra.is_for_disk(full) && !Software::Zabra.is_for_disk(bad));
    assert!(Software::Apache.is_for_disk(ended("exit 10")) && !Software::Apache.is_for_disk(full));
}
