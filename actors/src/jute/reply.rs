//! What clients are told: a ReplyHeader (xid, zxid, err) and, when err is 0, a record by the request's opcode.
//!
//! The way out is the hot path of every server: nothing is allocated, all is appended to the connection's buffer.
//! The way in is for our own client, which finds the request by the xid and decodes by its [`Shape`].

use bytes::{Bytes, BytesMut};

use super::connect::encode_connect_response;
use super::records::{read_acls, read_stat, write_acls, write_stat};
use super::request::write_multi_header;
use super::{Malformed, Reader, Writer, opcode};
use crate::types::{Deliver, EventKind, Id, MultiResult, Op, Reply, ReplyBody, WatchEvent, ZkError, Zxid};

/// The xid of an event, which answers no request.
pub const EVENT_XID: i32 = -1;

/// An event's `state`: SyncConnected. A server that is not, sends no events.
const SYNC_CONNECTED: i32 = 3;

/// The fewest bytes of an identity in a whoAmI: two empty strings.
const CLIENT_INFO_MIN_SIZE: usize = 8;

/// Bytes of a ReplyHeader.
const HEADER_SIZE: usize = 16;

/// Appends what a connection has to write, with length words. [`Deliver::Close`] has no bytes.
pub fn encode_deliver(deliver: &Deliver, out: &mut BytesMut) {
    match deliver {
        Deliver::Connected(response) => encode_connect_response(response, out),
        Deliver::Reply(reply) => encode_reply(reply, out),
        Deliver::Event(event) => encode_event(event, out),
        Deliver::Close => {}
    }
}

/// Appends a reply, with its length word.
pub fn encode_reply(reply: &Reply, out: &mut BytesMut) {
    let written = Writer::new(out).framed(|w| match &reply.result {
        Ok(body) => {
            write_header(w, reply.xid, reply.zxid, 0);
            write_body(w, body);
        }
        Err(error) => write_header(w, reply.xid, reply.zxid, error.code()),
    });
    // Enough children with long names make a list that no length word can hold.
    if written.is_err() {
        let unwritable = Writer::new(out)
            .framed(|w| write_header(w, reply.xid, reply.zxid, ZkError::MarshallingError.code()));
        unwritable.expect("a header has 16 bytes");
    }
}

/// Appends an event, with its length word.
pub fn encode_event(event: &WatchEvent, out: &mut BytesMut) {
    let written = Writer::new(out).framed(|w| {
        write_header(w, EVENT_XID, event.zxid, 0);
        w.i32(event.kind as i32);
        w.i32(SYNC_CONNECTED);
        w.string(&event.path);
    });
    written.expect("a path came in one frame, far below 2 GiB");
}

fn write_header(w: &mut Writer<'_>, xid: i32, zxid: Zxid, err: i32) {
    let mut bytes = [0; HEADER_SIZE];
    bytes[..4].copy_from_slice(&xid.to_be_bytes());
    bytes[4..12].copy_from_slice(&zxid.0.to_be_bytes());
    bytes[12..].copy_from_slice(&err.to_be_bytes());
    w.raw(&bytes);
}

fn write_body(w: &mut Writer<'_>, body: &ReplyBody) {
    match body {
        ReplyBody::Empty => {}
        ReplyBody::Path(path) => w.string(path),
        ReplyBody::PathStat(path, stat) => {
            w.string(path);
            write_stat(w, stat);
        }
        ReplyBody::Stat(stat) => write_stat(w, stat),
        ReplyBody::Data(data, stat) => {
            w.buffer(data.as_deref());
            write_stat(w, stat);
        }
        ReplyBody::Acl(acl, stat) => {
            write_acls(w, Some(acl));
            write_stat(w, stat);
        }
        ReplyBody::Children(names) => w.strings(names),
        ReplyBody::ChildrenStat(names, stat) => {
            w.strings(names);
            write_stat(w, stat);
        }
        ReplyBody::Sync(path) => w.opt_string(path.as_deref()),
        ReplyBody::Multi(results) => {
            results.iter().for_each(|result| write_result(w, result));
            write_multi_header(w, opcode::ERROR, true, -1);
        }
        ReplyBody::Ephemerals(paths) => w.strings(paths),
        ReplyBody::Count(count) => w.i32(*count),
        ReplyBody::WatchAdded => w.i32(0),
        ReplyBody::WhoAmI(ids) => w.opt_vector(Some(ids), |w, id| {
            w.string(&id.scheme);
            w.string(&id.id);
        }),
        ReplyBody::Token(token) => w.buffer(token.as_deref()),
    }
}

fn write_result(w: &mut Writer<'_>, result: &MultiResult) {
    match result {
        MultiResult::Create(path) => {
            write_multi_header(w, opcode::CREATE, false, 0);
            w.string(path);
        }
        MultiResult::Create2(path, stat) => {
            write_multi_header(w, opcode::CREATE2, false, 0);
            w.string(path);
            write_stat(w, stat);
        }
        MultiResult::Delete => write_multi_header(w, opcode::DELETE, false, 0),
        MultiResult::SetData(stat) => {
            write_multi_header(w, opcode::SET_DATA, false, 0);
            write_stat(w, stat);
        }
        MultiResult::Check => write_multi_header(w, opcode::CHECK, false, 0),
        MultiResult::GetData(data, stat) => {
            write_multi_header(w, opcode::GET_DATA, false, 0);
            w.buffer(data.as_deref());
            write_stat(w, stat);
        }
        MultiResult::GetChildren(names) => {
            write_multi_header(w, opcode::GET_CHILDREN, false, 0);
            w.strings(names);
        }
        // The code is said twice: in the header and in the ErrorResponse behind it.
        MultiResult::Error(code) => {
            write_multi_header(w, opcode::ERROR, false, *code);
            w.i32(*code);
        }
    }
}

/// A frame of a server after the handshake: the header, and the rest still in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyFrame {
    /// Which request it answers; [`EVENT_XID`] for an event.
    pub xid: i32,
    /// As in [`Reply::zxid`].
    pub zxid: Zxid,
    /// 0, or the code of a [`ZkError`].
    pub err: i32,
    /// What follows the header.
    pub body: Bytes,
}

/// What record follows the header of a good reply, which only the request can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // one for each variant of ReplyBody
pub enum Shape {
    Empty,
    Path,
    PathStat,
    Stat,
    Data,
    Acl,
    Children,
    ChildrenStat,
    Sync,
    Multi,
    Ephemerals,
    Count,
    WatchAdded,
    WhoAmI,
    Token,
}

impl Shape {
    /// The shape of a good reply to this request.
    pub fn of(op: &Op) -> Shape {
        match opcode::of(op) {
            opcode::CREATE => Shape::Path,
            opcode::CREATE2 | opcode::CREATE_CONTAINER | opcode::CREATE_TTL => Shape::PathStat,
            opcode::EXISTS | opcode::SET_DATA | opcode::SET_ACL => Shape::Stat,
            opcode::GET_DATA | opcode::RECONFIG => Shape::Data,
            opcode::GET_ACL => Shape::Acl,
            opcode::GET_CHILDREN => Shape::Children,
            opcode::GET_CHILDREN2 => Shape::ChildrenStat,
            opcode::SYNC => Shape::Sync,
            opcode::MULTI | opcode::MULTI_READ => Shape::Multi,
            opcode::GET_EPHEMERALS => Shape::Ephemerals,
            opcode::GET_ALL_CHILDREN_NUMBER => Shape::Count,
            opcode::ADD_WATCH => Shape::WatchAdded,
            opcode::WHO_AM_I => Shape::WhoAmI,
            opcode::SASL => Shape::Token,
            _ => Shape::Empty,
        }
    }
}

/// Decodes the header of a frame, without its length word.
pub fn decode_reply(frame: Bytes) -> Result<ReplyFrame, Malformed> {
    let mut r = Reader::new(frame);
    Ok(ReplyFrame {
        xid: r.i32("a ReplyHeader's xid")?,
        zxid: Zxid(r.i64("a ReplyHeader's zxid")?),
        err: r.i32("a ReplyHeader's err")?,
        body: r.rest(),
    })
}

/// Decodes the event in a frame with [`EVENT_XID`]. Events that say only how the connection is (type -1) come
/// from libraries, never from servers.
pub fn decode_event(frame: ReplyFrame) -> Result<WatchEvent, Malformed> {
    let mut r = Reader::new(frame.body);
    let kind = match r.i32("a WatcherEvent's type")? {
        1 => EventKind::NodeCreated,
        2 => EventKind::NodeDeleted,
        3 => EventKind::NodeDataChanged,
        4 => EventKind::NodeChildrenChanged,
        other => return Err(Malformed(format!("an event of type {other}; servers send 1 to 4"))),
    };
    r.i32("a WatcherEvent's state")?;
    Ok(WatchEvent { kind, path: r.string("a WatcherEvent's path")?, zxid: frame.zxid })
}

impl ReplyFrame {
    /// Decodes the rest, given what was asked.
    pub fn into_reply(self, shape: Shape) -> Result<Reply, Malformed> {
        let ReplyFrame { xid, zxid, err, body } = self;
        let result = match err {
            0 => Ok(read_body(&mut Reader::new(body), shape)?),
            code => Err(ZkError::from_code(code)
                .ok_or_else(|| Malformed(format!("a reply with error {code}, which no server sends")))?),
        };
        Ok(Reply { xid, zxid, result })
    }
}

fn read_body(r: &mut Reader, shape: Shape) -> Result<ReplyBody, Malformed> {
    Ok(match shape {
        Shape::Empty => ReplyBody::Empty,
        Shape::Path => ReplyBody::Path(r.string("a created path")?),
        Shape::PathStat => ReplyBody::PathStat(r.string("a created path")?, read_stat(r)?),
        Shape::Stat => ReplyBody::Stat(read_stat(r)?),
        Shape::Data => ReplyBody::Data(r.buffer("a znode's data")?, read_stat(r)?),
        Shape::Acl => ReplyBody::Acl(read_acls(r)?.unwrap_or_default(), read_stat(r)?),
        Shape::Children => ReplyBody::Children(r.strings("a list of children")?),
        Shape::ChildrenStat => ReplyBody::ChildrenStat(r.strings("a list of children")?, read_stat(r)?),
        Shape::Sync => ReplyBody::Sync(r.opt_string("a synced path")?),
        Shape::Multi => read_results(r)?,
        Shape::Ephemerals => ReplyBody::Ephemerals(r.strings("a list of ephemerals")?),
        Shape::Count => ReplyBody::Count(r.i32("a count of children")?),
        Shape::WatchAdded => {
            r.i32("an ErrorResponse's err")?;
            ReplyBody::WatchAdded
        }
        Shape::WhoAmI => ReplyBody::WhoAmI(r.vector(CLIENT_INFO_MIN_SIZE, "a list of identities", |r| {
            Ok(Id { scheme: r.string("an identity's scheme")?, id: r.string("an identity's user")? })
        })?),
        Shape::Token => ReplyBody::Token(r.buffer("a sasl token")?),
    })
}

fn read_results(r: &mut Reader) -> Result<ReplyBody, Malformed> {
    let mut results = Vec::new();
    loop {
        let kind = r.i32("a MultiHeader's type")?;
        let done = r.bool("a MultiHeader's done")?;
        r.i32("a MultiHeader's err")?;
        if done {
            return Ok(ReplyBody::Multi(results));
        }
        results.push(match kind {
            opcode::CREATE => MultiResult::Create(r.string("a created path")?),
            opcode::CREATE2 => MultiResult::Create2(r.string("a created path")?, read_stat(r)?),
            opcode::DELETE => MultiResult::Delete,
            opcode::SET_DATA => MultiResult::SetData(read_stat(r)?),
            opcode::CHECK => MultiResult::Check,
            opcode::GET_DATA => MultiResult::GetData(r.buffer("a znode's data")?, read_stat(r)?),
            opcode::GET_CHILDREN => MultiResult::GetChildren(r.strings("a list of children")?),
            opcode::ERROR => MultiResult::Error(r.i32("a multi member's error")?),
            other => return Err(Malformed(format!("a result of type {other} in a multi"))),
        });
    }
}
