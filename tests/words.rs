//! The four-letter words of real servers, in every role, beside what Apache 3.8.0 answered in the same situation (see
//! `fixtures/apache-3.8.0/words/README.md`). What differs from run to run (ports, ids, times, zxids, sizes) is masked
//! on both sides; every other byte must be the same.

#![allow(clippy::unwrap_used)] // a test's helpers are tests

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use common::raw::{Client, create};
use common::{Ensemble, Mode, four_letter_word};
use zabra_actors::types::{Op, ZkError};

/// Sections in a file of Apache's answers.
fn apache(role: &str) -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/apache-3.8.0/words");
    let text = std::fs::read_to_string(path.join(role).with_extension("txt")).unwrap();
    let sections = text.split("== ").skip(1);
    let section = |section: &str| {
        let (word, answer) = section.split_once('\n').unwrap();
        (word.to_string(), answer.strip_suffix("|\n").unwrap().to_string())
    };
    sections.map(section).collect()
}

/// The same sections of a server of ours, asked in the same order.
fn ours(ensemble: &Ensemble, sid: u8, words: &[(String, String)]) -> Vec<(String, String)> {
    let port = ensemble.host(sid).rsplit_once(':').unwrap().1.parse().unwrap();
    words.iter().map(|(word, _)| (word.clone(), four_letter_word(port, word).unwrap())).collect()
}

/// What the fixtures' README says was done before the words were asked. The sessions stay open.
fn act(host: &str, name: &str) -> [Client; 2] {
    let mut clients = [(); 2].map(|()| Client::connect(host, 20_000).unwrap());
    let [first, second] = &mut clients;
    let get = |path: &str| Op::GetData { path: path.into(), watch: true };
    let list = |path: &str| Op::GetChildren { path: path.into(), watch: true, stat: false };
    let (e1, p, e2) = (format!("/e1-{name}"), format!("/p-{name}"), format!("/e2-{name}"));
    for op in [create(&e1, b"x", 1), create(&p, b"y", 0), create(&e2, b"x", 1), get(&e1)] {
        assert!(first.ask(&op).unwrap().result.is_ok());
    }
    let none = first.ask(&Op::Exists { path: "/none".into(), watch: true }).unwrap();
    assert_eq!(none.result, Err(ZkError::NoNode));
    assert!(first.ask(&list("/")).unwrap().result.is_ok());
    for op in [get(&e1), list(&p)] {
        assert!(second.ask(&op).unwrap().result.is_ok());
    }
    let set = Op::SetData { path: p.as_str().into(), data: Some("z".into()), version: 7 };
    assert_eq!(second.ask(&set).unwrap().result, Err(ZkError::BadVersion));
    clients
}

/// Takes out what differs from run to run.
fn mask(word: &str, answer: &str) -> Vec<String> {
    let mut lines: Vec<String> = answer.split('\n').map(|line| mask_line(word, line)).collect();
    match word {
        // How many end together depends on the moment, and of Apache's lists the order as well.
        "dump" | "wchc" | "wchp" => {
            lines.sort();
            lines.dedup();
        }
        "cons" | "stat" => lines.sort(),
        _ => {}
    }
    lines
}

fn mask_line(word: &str, line: &str) -> String {
    // Counts of what was asked before, and what the configurations of the two differ in. A standalone server of
    // Apache's calls itself 0.
    let varies =
        ["Latency", "Received:", "Sent:", "Proposal sizes", "Zxid:", "initLimit=", "syncLimit=", "serverId="];
    let everything = varies.iter().any(|head| line.starts_with(head));
    if line.starts_with("Zookeeper version: ") {
        assert!(line.contains(", built on "), "{line}");
        return "Zookeeper version: #".to_string();
    }
    if let Some((key, _)) = line.split_once("=/") {
        return format!("{key}=<directory>");
    }
    if let Some((bucket, _)) = line.split_once(" expire at ") {
        bucket.parse::<u32>().unwrap();
        return "# expire at #:".to_string();
    }
    let line = match line.split_once(",lzxid=") {
        Some((head, rest)) => format!("{head},{}", mask_numbers(rest, true)),
        None => line.to_string(),
    };
    let everything = everything || word == "dump" && line.contains(" Sets (");
    mask_numbers(&line, everything)
}

/// Numbers become `#`, and those of up to two digits only if `everything` is to be masked.
fn mask_numbers(line: &str, everything: bool) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let (hex, digits) = match rest.strip_prefix("0x") {
            Some(hex) => (true, hex),
            None => (false, rest),
        };
        let part = |c: char| c.is_ascii_digit() || hex && ('a'..='f').contains(&c);
        let length = digits.find(|c| !part(c)).unwrap_or(digits.len());
        if length == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let number = &digits[..length];
        let is_all_f = length == 16 && number.bytes().all(|byte| byte == b'f');
        out.push_str(if hex { "0x" } else { "" });
        out.push_str(if (everything || length > 2) && !is_all_f { "#" } else { number });
        rest = &digits[length..];
    }
    out
}

fn assert_same(role: &str, ensemble: &Ensemble, sid: u8) {
    let apache = apache(role);
    for ((word, theirs), (_, ours)) in apache.iter().zip(ours(ensemble, sid, &apache)) {
        if word == "mntr" && role != "looking" {
            assert_mntr(theirs, &ours);
        } else {
            assert_eq!(mask(word, &ours), mask(word, theirs), "{word} of the {role}: {ours}");
        }
    }
}

/// Every line of ours is one of Apache's with a value of the same form; Apache has more, and no order.
fn assert_mntr(theirs: &str, ours: &str) {
    let form = |value: &str| {
        let number = value.strip_prefix('-').unwrap_or(value);
        match number.split_once('.') {
            _ if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => "a whole number",
            Some((whole, part)) if !whole.is_empty() && part.starts_with(|c: char| c.is_ascii_digit()) => {
                "a number"
            }
            _ => "text",
        }
    };
    let parse = |text: &str| -> BTreeMap<String, &'static str> {
        let lines = text.lines().filter(|line| !line.is_empty());
        lines
            .map(|line| line.split_once('\t').unwrap())
            .map(|(name, value)| (name.to_string(), form(value)))
            .collect()
    };
    // One of Apache's older names, and what only 3.9 has.
    let others: BTreeSet<&str> = ["zk_followers", "zk_observer_master_id"].into();
    let (theirs, ours) = (parse(theirs), parse(ours));
    assert!(ours.len() > 60, "{ours:?}");
    for (name, form) in ours.iter().filter(|(name, _)| !others.contains(name.as_str())) {
        assert_eq!(Some(form), theirs.get(name), "{name}");
    }
}

#[test]
fn an_ensemble_answers_as_apache_does() {
    let mut ensemble = Ensemble::start(3, 1);
    let mut sessions = Vec::new();
    for (role, mode) in [("follower", Mode::Follower), ("leader", Mode::Leader), ("observer", Mode::Observer)]
    {
        let sid = ensemble.find(mode);
        // They had gone silent by then.
        let earlier = std::mem::take(&mut sessions);
        drop::<Vec<[Client; 2]>>(earlier);
        sessions.push(act(&ensemble.host(sid), role));
        assert_same(role, &ensemble, sid);
    }
    drop(sessions);
    let survivor = ensemble.find(Mode::Follower);
    for sid in ensemble.sids() {
        if sid != survivor {
            ensemble.kill(sid);
        }
    }
    common::until("a server without a quorum serves nobody", common::START_TIMEOUT, || {
        ensemble.mode(survivor).is_none()
    });
    assert_same("looking", &ensemble, survivor);
}

#[test]
fn a_server_on_its_own_answers_as_apache_does() {
    let ensemble = Ensemble::start(1, 0);
    let _sessions = act(&ensemble.host(1), "standalone");
    assert_same("standalone", &ensemble, 1);
}

#[test]
fn digests_are_told_after_every_128th_transaction() {
    let ensemble = Ensemble::start(1, 0);
    let host = ensemble.host(1);
    let port = host.rsplit_once(':').unwrap().1.parse().unwrap();
    let mut client = Client::connect(&host, 20_000).unwrap();
    assert_eq!(four_letter_word(port, "hash").unwrap(), "");
    // The session is the first transaction.
    for n in 2..=300 {
        assert!(client.ask(&create(&format!("/{n}"), b"", 0)).unwrap().result.is_ok());
    }
    let answer = four_letter_word(port, "hash").unwrap();
    let lines: Vec<(i64, i64)> = answer
        .lines()
        .map(|line| line.split_once(": ").unwrap())
        .map(|(zxid, digest)| (i64::from_str_radix(zxid, 16).unwrap(), digest.parse().unwrap()))
        .collect();
    let zxids: Vec<i64> = lines.iter().map(|(zxid, _)| zxid & 0xffff_ffff).collect();
    assert_eq!(zxids, [128, 256]);
    assert!(lines.iter().all(|(_, digest)| *digest != 0) && lines[0].1 != lines[1].1);
}

#[test]
fn a_list_of_many_watches_comes_whole() {
    let ensemble = Ensemble::start(1, 0);
    let host = ensemble.host(1);
    let port = host.rsplit_once(':').unwrap().1.parse().unwrap();
    let mut clients = [(); 2].map(|()| Client::connect(&host, 20_000).unwrap());
    let paths = |from: usize| (from..from + 6000).map(|n| format!("/watched/{n}")).collect::<Vec<_>>();
    for (client, from) in clients.iter_mut().zip([0, 3000]) {
        let exist = paths(from).iter().map(|path| path.as_str().into()).collect();
        let set = Op::SetWatches {
            relative_zxid: zabra_actors::types::Zxid(0),
            data: vec![],
            exist,
            child: vec![],
        };
        assert!(client.ask(&set).unwrap().result.is_ok());
    }
    let ids = clients.each_ref().map(|client| format!("0x{:x}", client.session.session.0));
    let summary = four_letter_word(port, "wchs").unwrap();
    assert_eq!(summary, "2 connections watching 9000 paths\nTotal watches:12000\n");

    let mut expected = String::new();
    for (id, from) in ids.iter().zip([0, 3000]) {
        expected += &format!("{id}\n");
        paths(from).iter().for_each(|path| expected += &format!("\t{path}\n"));
    }
    assert_eq!(four_letter_word(port, "wchc").unwrap(), expected + "\n");

    let by_path = four_letter_word(port, "wchp").unwrap();
    assert!(by_path.ends_with("\n\n"));
    let mut listed: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut path = "";
    for line in by_path.trim_end().lines() {
        match line.strip_prefix('\t') {
            Some(id) => assert!(listed.get_mut(path).unwrap().insert(id)),
            None => {
                path = line;
                assert!(listed.insert(path, BTreeSet::new()).is_none(), "{path} twice");
            }
        }
    }
    assert_eq!(listed.len(), 9000);
    assert_eq!(listed["/watched/0"], BTreeSet::from([ids[0].as_str()]));
    assert_eq!(listed["/watched/4000"], BTreeSet::from([ids[0].as_str(), ids[1].as_str()]));
}
