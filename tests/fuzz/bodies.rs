//! What decoders must do with any bytes: end, with a value or an error, never a panic. And a value that came out is
//! the same when it is encoded and decoded again.
//!
//! `cargo fuzz` calls these bodies with bytes that it breeds (see `tests/fuzz/README.md`), `tests/decoders.rs` with
//! good bytes that it spoils.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use zabra::disk::{LogReader, Next, Visitor, read_snapshot};
use zabra_actors::core::tree::{PersistedStat, TreeLoader};
use zabra_actors::jute::{self, Decoded, ReplyFrame, Shape};
use zabra_actors::types::{Acl, Op, Packet, SessionId, Zxid};

/// The longest frame that a server takes by default, in bytes.
const MAX_FRAME: usize = 0xf_ffff;

/// Frames as a client sends them, the first of them a handshake.
pub fn requests(bytes: &[u8]) {
    let mut received = BytesMut::from(bytes);
    let mut is_first = true;
    while let Ok(Some(frame)) = jute::take_frame(&mut received, MAX_FRAME) {
        if is_first {
            handshake(frame);
        } else {
            request(frame);
        }
        is_first = false;
    }
}

fn handshake(frame: Bytes) {
    let Ok(asked) = jute::decode_connect_request(frame) else { return };
    let mut out = BytesMut::new();
    jute::encode_connect_request(&asked, &mut out);
    assert_eq!(jute::decode_connect_request(payload(out)), Ok(asked));
}

/// A request without its length word.
pub fn request(frame: Bytes) {
    let Ok((xid, decoded)) = jute::decode_request(frame) else { return };
    let Decoded::Op(op) = &decoded else { return };
    // Of these there is only what was wrong with them.
    if matches!(op, Op::Unknown { .. } | Op::Undecodable { .. } | Op::Senseless { .. }) {
        return;
    }
    let mut out = BytesMut::new();
    jute::encode_request(xid, op, &mut out).expect("what came out of a frame fits into one");
    assert_eq!(jute::decode_request(payload(out)), Ok((xid, decoded)));
}

/// A reply without its length word, read as an event and as an answer to each kind of request.
pub fn reply(frame: Bytes) {
    let Ok(reply) = jute::decode_reply(frame) else { return };
    for shape in SHAPES {
        let ReplyFrame { xid, zxid, err, body } = &reply;
        let same = ReplyFrame { xid: *xid, zxid: *zxid, err: *err, body: body.clone() };
        let Ok(reply) = same.into_reply(*shape) else { continue };
        let mut out = BytesMut::new();
        jute::encode_reply(&reply, &mut out);
        let again = jute::decode_reply(payload(out)).and_then(|frame| frame.into_reply(*shape));
        assert_eq!(again, Ok(reply));
    }
    // Its error is as good as its value.
    let _ = jute::decode_event(reply);
}

const SHAPES: &[Shape] = &[
    Shape::Empty,
    Shape::Path,
    Shape::PathStat,
    Shape::Stat,
    Shape::Data,
    Shape::Acl,
    Shape::Children,
    Shape::ChildrenStat,
    Shape::Sync,
    Shape::Multi,
    Shape::Ephemerals,
    Shape::Count,
    Shape::WatchAdded,
    Shape::WhoAmI,
    Shape::Token,
];

/// The answer to a handshake, without its length word.
pub fn connect_response(frame: Bytes) {
    let Ok(answer) = jute::decode_connect_response(frame) else { return };
    let mut out = BytesMut::new();
    jute::encode_connect_response(&answer, &mut out);
    assert_eq!(jute::decode_connect_response(payload(out)), Ok(answer));
}

/// A transaction as in a log record or a proposal.
pub fn txn(bytes: Bytes) {
    if let Ok(txn) = jute::decode_txn(&bytes) {
        assert_eq!(jute::decode_txn(&jute::encode_txn(&txn)), Ok(txn));
    }
}

/// What a peer says behind the length and the tenure.
pub fn packet(bytes: &[u8]) {
    if let Ok(packet) = rmp_serde::from_slice::<Packet>(bytes) {
        let again = rmp_serde::to_vec(&packet).expect("a packet is plain data");
        assert_eq!(rmp_serde::from_slice::<Packet>(&again).ok(), Some(packet));
    }
}

/// A file of the log: its records, and what is behind them.
pub fn log(bytes: &[u8]) {
    let (mut reader, header) = LogReader::open(bytes).expect("memory has no I/O errors");
    let mut last = reader.previous();
    while header.is_ok() {
        let before = reader.offset();
        match reader.next().expect("memory has no I/O errors") {
            Next::Record(record) => {
                assert_eq!((record.start, record.end), (before, reader.offset()));
                last = record.zxid;
                txn(record.entry);
            }
            Next::End(_) => break,
        }
    }
    reader.tail(last).expect("memory has no I/O errors");
}

/// A snapshot, as far as a tree.
pub fn snapshot(bytes: &[u8]) {
    struct Loader(TreeLoader);

    impl Visitor for Loader {
        fn session(&mut self, _: SessionId, _: i32) {}

        fn node(
            &mut self,
            path: &str,
            data: Option<&[u8]>,
            acl: &Arc<[Acl]>,
            stat: PersistedStat,
        ) -> Result<(), String> {
            self.0.node(path, data, acl, stat)
        }
    }

    let mut loader = Loader(TreeLoader::new());
    if read_snapshot(bytes, &mut loader).is_ok() {
        // What is wrong with the whole of it is an error, too.
        let _ = loader.0.finish(Zxid::ZERO);
    }
}

fn payload(mut framed: BytesMut) -> Bytes {
    let frame = jute::take_frame(&mut framed, usize::MAX).expect("what we encode is a frame");
    frame.expect("a whole one")
}
