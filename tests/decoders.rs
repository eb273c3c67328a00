//! Every decoder with bytes that are almost good: what real clients, servers and our own disk have written, with bits
//! turned over, numbers made extreme, pieces cut out, doubled and put elsewhere. See `fuzz/bodies.rs` for what is demanded.

#![allow(clippy::unwrap_used)] // a test's helpers are tests

#[path = "fuzz/bodies.rs"]
mod bodies;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use zabra::disk::{LogReader, Next, SnapshotWriter};
use zabra_actors::core::tree::{NodeView, PersistedStat};
use zabra_actors::types::{Acl, Packet, SessionId, Zxid, perms};

/// Spoilt inputs for each decoder in a run of the tests; `PROPTEST_CASES` says otherwise.
const CASES: u32 = 20_000;

/// Frames without their length words, and transactions, by the word that stands before them in `tests/vectors`.
fn vectors(word: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut found = Vec::new();
    for file in std::fs::read_dir(directory).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for line in text.lines() {
            if let Some(hex) = line.strip_prefix(word).and_then(|rest| rest.strip_prefix(' ')) {
                found.push(unhex(hex.trim()));
            }
        }
    }
    assert!(!found.is_empty(), "there are vectors of {word}");
    // The order of a directory is anybody's guess, and a failing case must be found again.
    found.sort();
    found
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn without_length(frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    frames.into_iter().map(|frame| frame[4..].to_vec()).collect()
}

/// One way to spoil bytes.
#[derive(Clone, Debug)]
enum Spoil {
    Flip(Index, u8),
    Number(Index, i32),
    Cut(Index),
    Remove(Index, usize),
    Double(Index, usize),
}

fn spoils() -> impl Strategy<Value = Spoil> {
    let numbers = prop_oneof![
        prop::sample::select(vec![i32::MIN, i32::MAX, -1, -2, 0, 1, 0xf_ffff, 0x10_0000]),
        any::<i32>(),
    ];
    prop_oneof![
        4 => (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Spoil::Flip(at, 1 << bit)),
        4 => (any::<Index>(), numbers).prop_map(|(at, number)| Spoil::Number(at, number)),
        1 => any::<Index>().prop_map(Spoil::Cut),
        1 => (any::<Index>(), 1..12_usize).prop_map(|(at, len)| Spoil::Remove(at, len)),
        1 => (any::<Index>(), 1..40_usize).prop_map(|(at, len)| Spoil::Double(at, len)),
    ]
}

fn spoil(bytes: &mut Vec<u8>, how: &Spoil) {
    if bytes.is_empty() {
        return;
    }
    match *how {
        Spoil::Flip(at, bits) => {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
        }
        Spoil::Number(at, number) => {
            let at = at.index(bytes.len());
            bytes.iter_mut().skip(at).zip(number.to_be_bytes()).for_each(|(byte, new)| *byte = new);
        }
        Spoil::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Spoil::Remove(at, len) => {
            let at = at.index(bytes.len());
            bytes.drain(at..bytes.len().min(at + len));
        }
        Spoil::Double(at, len) => {
            let at = at.index(bytes.len());
            let piece = bytes[at..bytes.len().min(at + len)].to_vec();
            bytes.splice(at..at, piece);
        }
    }
}

/// Calls a body with each seed, and with many that are spoilt in one to four ways.
fn try_all(seeds: Vec<Vec<u8>>, body: impl Fn(&[u8])) {
    seeds.iter().for_each(|seed| body(seed));
    let config = Config { failure_persistence: None, ..Config::with_cases(cases()) };
    let input = (prop::sample::select(seeds), prop::collection::vec(spoils(), 1..5));
    let outcome = TestRunner::new(config).run(&input, |(mut bytes, spoils)| {
        spoils.iter().for_each(|how| spoil(&mut bytes, how));
        body(&bytes);
        Ok(())
    });
    outcome.unwrap_or_else(|found| panic!("{found}"));
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").map_or(CASES, |text| text.parse().expect("PROPTEST_CASES is a number"))
}

#[test]
fn requests() {
    try_all(without_length(vectors("request")), |bytes| bodies::request(Bytes::copy_from_slice(bytes)));
}

#[test]
fn streams_of_requests() {
    let stream = |first: &Vec<u8>| {
        let behind = vectors("request").into_iter().take(6).flatten();
        first.iter().copied().chain(behind).collect()
    };
    try_all(vectors("connect").iter().map(stream).collect(), bodies::requests);
}

#[test]
fn replies_and_events() {
    let seeds = [vectors("reply"), vectors("event")].concat();
    try_all(without_length(seeds), |bytes| bodies::reply(Bytes::copy_from_slice(bytes)));
}

#[test]
fn answers_to_handshakes() {
    try_all(without_length(vectors("connected")), |bytes| {
        bodies::connect_response(Bytes::copy_from_slice(bytes));
    });
}

#[test]
fn transactions() {
    try_all(without_length(vectors("txn")), |bytes| bodies::txn(Bytes::copy_from_slice(bytes)));
}

#[test]
fn packets_of_peers() {
    let packets = [
        Packet::AckEpoch { last: Zxid(7), current: None },
        Packet::SnapChunk(Bytes::from_static(b"a piece")),
        Packet::Ping { number: 3, touched: vec![(SessionId(1), 4000)] },
        Packet::Revalidated { session: SessionId(9), valid: Some(Zxid(5)) },
        Packet::Goodbye { reason: "for the log".into() },
    ];
    try_all(packets.iter().map(|packet| rmp_serde::to_vec(packet).unwrap()).collect(), bodies::packet);
}

#[test]
fn files_of_the_log() {
    let mut file = [&b"ZKLG"[..], &2_i32.to_be_bytes(), &0_i64.to_be_bytes()].concat();
    for entry in vectors("txn") {
        file.extend(i64::from(simd_adler32::adler32(&&entry[..])).to_be_bytes());
        file.extend((entry.len() as i32).to_be_bytes());
        file.extend(entry);
        file.push(b'B');
    }
    // Read whole, it ends behind its last record.
    let (mut reader, header) = LogReader::open(&file[..]).unwrap();
    assert_eq!(header, Ok(()));
    while matches!(reader.next().unwrap(), Next::Record(_)) {}
    assert_eq!(reader.offset(), file.len() as u64);
    file.extend([0; 64]);
    try_all(vec![file], bodies::log);
}

#[test]
fn snapshots() {
    let mut file = Vec::new();
    let mut out = |piece: Bytes| file.extend_from_slice(&piece);
    let mut writer = SnapshotWriter::begin(&mut out);
    writer.sessions([(SessionId(1), 4000), (SessionId(2), 30_000)].into_iter());
    let acl: Arc<[Acl]> = Arc::from([Acl::world(perms::ALL)]);
    writer.acls([(1, &acl)].into_iter());
    let data = Bytes::from_static(b"data");
    for (path, owner) in [("", 0), ("/a", 0), ("/a/b", 1), ("/zookeeper", 0)] {
        let stat = PersistedStat { ephemeral_owner: owner, ..PersistedStat::default() };
        writer.node(&NodeView { path, data: Some(&data), acl: &acl, stat }, 1);
    }
    writer.finish(Zxid(5), 0);
    try_all(vec![file], bodies::snapshot);
}
