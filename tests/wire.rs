//! The codec against bytes of Apache's own client and server (see `vectors/README.md`): what it reads, it writes the same.

#![allow(clippy::unwrap_used)] // a test's helpers are tests

use std::collections::BTreeMap;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use zabra_actors::jute::{self, Decoded, Shape, opcode};
use zabra_actors::types::{Op, ReplyBody, Txn, TxnBody, ZkError};

/// One line of a file of vectors.
struct Vector {
    /// The last comment above it.
    about: String,
    /// `request`, `reply` ...
    word: String,
    /// The frame with its length word.
    bytes: Bytes,
}

fn vectors(file: &str) -> Vec<Vector> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut about = String::new();
    let mut vectors = Vec::new();
    for line in text.lines() {
        match line.split_once(char::is_whitespace).expect("a word, a blank and the rest") {
            ("#", comment) => about = format!("{file}: {}", comment.trim()),
            (word, hex) => {
                vectors.push(Vector { about: about.clone(), word: word.into(), bytes: unhex(hex.trim()) })
            }
        }
    }
    assert!(!vectors.is_empty(), "{file} has lines");
    vectors
}

fn unhex(hex: &str) -> Bytes {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

/// The frame without its length word.
fn payload(vector: &Vector) -> Bytes {
    let frame = jute::take_frame(&mut BytesMut::from(&vector.bytes[..]), usize::MAX).unwrap();
    frame.unwrap_or_else(|| panic!("{}: a whole frame", vector.about))
}

/// Decodes every line of a file, encodes what came out, and demands the same bytes.
fn both_ways(file: &str) {
    let mut shapes = BTreeMap::new();
    for vector in vectors(file) {
        let again = match vector.word.as_str() {
            "connect" => connect_again(&vector),
            "connected" => connected_again(&vector),
            "request" => request_again(&vector, &mut shapes),
            "reply" => reply_again(&vector, &shapes),
            "event" => event_again(&vector),
            "txn" => txn_again(&vector).1,
            word => panic!("{}: what is a {word}?", vector.about),
        };
        assert_eq!(hex(&again), hex(&vector.bytes), "{} ({})", vector.about, vector.word);
    }
}

/// For failures that can be read.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn connect_again(vector: &Vector) -> BytesMut {
    let mut out = BytesMut::new();
    jute::encode_connect_request(&jute::decode_connect_request(payload(vector)).unwrap(), &mut out);
    out
}

fn connected_again(vector: &Vector) -> BytesMut {
    let mut out = BytesMut::new();
    jute::encode_connect_response(&jute::decode_connect_response(payload(vector)).unwrap(), &mut out);
    out
}

fn request_again(vector: &Vector, shapes: &mut BTreeMap<i32, Shape>) -> BytesMut {
    let mut out = BytesMut::new();
    match jute::decode_request(payload(vector)).unwrap() {
        (xid, Decoded::Auth { scheme, data }) => {
            shapes.insert(xid, Shape::Empty);
            jute::encode_auth(xid, &scheme, data.as_deref().unwrap_or_default(), &mut out).unwrap();
        }
        (xid, Decoded::Op(op)) => {
            assert!(
                !matches!(op, Op::Undecodable { .. } | Op::Senseless { .. } | Op::Unknown { .. }),
                "{}: {op:?}",
                vector.about
            );
            shapes.insert(xid, Shape::of(&op));
            jute::encode_request(xid, &op, &mut out).unwrap();
        }
    }
    out
}

fn reply_again(vector: &Vector, shapes: &BTreeMap<i32, Shape>) -> BytesMut {
    let frame = jute::decode_reply(payload(vector)).unwrap();
    let shape = shapes.get(&frame.xid).unwrap_or_else(|| panic!("{}: no request", vector.about));
    let mut out = BytesMut::new();
    jute::encode_reply(&frame.into_reply(*shape).unwrap(), &mut out);
    out
}

fn event_again(vector: &Vector) -> BytesMut {
    let mut out = BytesMut::new();
    jute::encode_event(&jute::decode_event(jute::decode_reply(payload(vector)).unwrap()).unwrap(), &mut out);
    out
}

fn txn_again(vector: &Vector) -> (Txn, BytesMut) {
    let txn = jute::decode_txn(&vector.bytes).unwrap_or_else(|e| panic!("{}: {e}", vector.about));
    let again = BytesMut::from(&jute::encode_txn(&txn)[..]);
    (txn, again)
}

/// Each operation's file has a test of its own, so that a failure names it.
macro_rules! both_ways {
    ($($name:ident)*) => {
        $(#[test] fn $name() { both_ways(concat!(stringify!($name), ".txt")); })*

        /// A file without a test would show nothing.
        #[test]
        fn every_file_has_a_test() {
            let tested = [$(stringify!($name)),*];
            let others = ["undecodable", "unknown"];
            let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_stem().unwrap().to_str().unwrap();
                let known = tested.contains(&name) || others.contains(&name) || name == "README";
                assert!(known, "{} is in no list of tests/wire.rs", path.display());
            }
        }
    };
}

both_ways! {
    add_auth add_watch by_hand check_watches close_session connect create create2 create_container create_ttl
    delete exists get_acl get_all_children_number get_children get_children2 get_data get_ephemerals log multi
    multi_read persistent_watches ping reattach reconfig refused remove_watches sasl set_acl set_data set_watches
    set_watches2 sync watches who_am_i
}

#[test]
fn undecodable() {
    expect_refusals("undecodable.txt", |opcode| Op::Undecodable { opcode }, ZkError::MarshallingError);
}

#[test]
fn unknown() {
    expect_refusals("unknown.txt", |opcode| Op::Unknown { opcode }, ZkError::Unimplemented);
}

/// Every request decodes to this refusal, and the server answered it with this error.
fn expect_refusals(file: &str, refusal: impl Fn(i32) -> Op, error: ZkError) {
    for vector in vectors(file) {
        let bytes = payload(&vector);
        let code = i32::from_be_bytes(bytes[4..8].try_into().unwrap());
        match vector.word.as_str() {
            "request" => {
                let (_, decoded) = jute::decode_request(bytes).unwrap();
                assert_eq!(decoded, Decoded::Op(refusal(code)), "{}", vector.about);
            }
            "reply" => {
                let reply = jute::decode_reply(bytes).unwrap().into_reply(Shape::Empty).unwrap();
                assert_eq!(reply.result, Err(error), "{}", vector.about);
            }
            word => panic!("{}: a {word} does not belong here", vector.about),
        }
    }
}

/// Reading and writing back could agree on nonsense: so some of what was read, in words. Apache logs the members before the
/// one that failed as they were, not as errors: who applies such a multi must look for an error first.
#[test]
fn a_failed_multi_is_logged_with_errors_from_the_culprit_on() {
    let txns = vectors("log.txt").iter().map(|v| txn_again(v).0).collect::<Vec<_>>();
    let failed = [
        TxnBody::Check { path: "/v".into(), version: 2 },
        TxnBody::Error(ZkError::BadVersion.code()),
        TxnBody::Error(ZkError::RuntimeInconsistency.code()),
    ];
    assert!(txns.iter().any(|txn| matches!(&txn.body, TxnBody::Multi(members) if *members == failed)));
    assert!(txns.iter().all(|txn| txn.digest.is_none_or(|digest| digest.version == 2)));
    let zxids = txns.iter().map(|txn| txn.header.zxid.0).collect::<Vec<_>>();
    assert_eq!(zxids, (1..=txns.len() as i64).collect::<Vec<_>>(), "no gaps in the log");
}

#[test]
fn the_stat_of_set_data_is_read_in_the_right_order() {
    let vectors = vectors("set_data.txt");
    let reply = jute::decode_reply(payload(&vectors[1])).unwrap().into_reply(Shape::Stat).unwrap();
    let Ok(ReplyBody::Stat(stat)) = reply.result else { panic!("{reply:?}") };
    assert_eq!((stat.version, stat.aversion, stat.data_length), (1, 0, 5));
    assert_eq!(stat.mzxid, reply.zxid.0, "set by this very transaction");
    assert!(stat.czxid < stat.pzxid && stat.pzxid < stat.mzxid, "created, then given children, then set");
    assert_eq!(opcode::of(&Op::SetData { path: "/v".into(), data: None, version: -1 }), opcode::SET_DATA);
}
