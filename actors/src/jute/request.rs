//! What clients ask: a RequestHeader (xid, opcode) and a record by opcode.
//!
//! The rules of what is wrong with a request, from worst to best:
//! - no whole header: [`Malformed`], and the connection is closed, since nobody knows what was asked;
//! - an opcode that nobody has, or that is not a client's to use: [`Op::Unknown`], answered, then closed;
//! - an opcode of Apache's that is not served here: [`Op::Unsupported`], answered;
//! - a record that does not read, or has null where no null can be: [`Op::Undecodable`], answered;
//! - everything else is a good request here: paths, flags and versions are checked where the tree is known.
//!
//! Bytes behind the record are ignored.

use bytes::{Bytes, BytesMut};

use super::records::{read_acls, write_acls};
use super::{Malformed, Reader, Writer, opcode};
use crate::types::{CreateKind, Op, Str, Zxid};

/// The xid of pings by convention; the server answers pings with it whatever their xid was.
pub const PING_XID: i32 = -2;

/// The xid of auth packets by convention.
pub const AUTH_XID: i32 = -4;

/// The xid of setWatches by convention.
pub const SET_WATCHES_XID: i32 = -8;

/// The auth packet's `type`: sent as 0, ignored.
const AUTH_TYPE: i32 = 0;

/// The largest value of a create's flags; within a multi anything else makes the whole request unreadable.
const MAX_CREATE_FLAGS: i32 = 6;

/// From this value of the flags on a create makes a TTL node, and needs opcode 21.
const FIRST_TTL_FLAGS: i32 = 5;

/// A request as far as bytes alone can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// An operation for the replica.
    Op(Op),
    /// Opcode 100: what it is worth only the connection can say, which then sends [`Op::Auth`].
    Auth {
        /// `digest`, `ip` ...; empty when null.
        scheme: Str,
        /// What the scheme makes of it, a secret as a rule; `None` when null.
        data: Option<Bytes>,
    },
}

/// Decodes a frame, without its length word, into the xid and what is asked.
pub fn decode_request(frame: Bytes) -> Result<(i32, Decoded), Malformed> {
    let mut r = Reader::new(frame);
    let xid = r.i32("a RequestHeader's xid")?;
    let opcode = r.i32("a RequestHeader's type")?;
    let decoded = match opcode {
        opcode::AUTH => read_auth(&mut r).unwrap_or(Decoded::Op(Op::Undecodable { opcode })),
        _ => Decoded::Op(decode_op(&mut r, opcode)),
    };
    Ok((xid, decoded))
}

/// Appends a request, with its length word. Not for [`Op::Auth`]: see [`encode_auth`].
pub fn encode_request(xid: i32, op: &Op, out: &mut BytesMut) -> Result<(), Malformed> {
    let written = Writer::new(out).framed(|w| {
        w.i32(xid);
        w.i32(opcode::of(op));
        write_op(w, op);
    });
    written.map(|_| ())
}

/// Appends an auth packet, with its length word.
pub fn encode_auth(xid: i32, scheme: &str, data: &[u8], out: &mut BytesMut) -> Result<(), Malformed> {
    let written = Writer::new(out).framed(|w| {
        w.i32(xid);
        w.i32(opcode::AUTH);
        w.i32(AUTH_TYPE);
        w.string(scheme);
        w.buffer(Some(data));
    });
    written.map(|_| ())
}

fn read_auth(r: &mut Reader) -> Result<Decoded, Malformed> {
    r.i32("an auth packet's type")?;
    let scheme = r.opt_string("an auth packet's scheme")?.unwrap_or_else(|| "".into());
    let data = r.buffer("an auth packet's data")?;
    Ok(Decoded::Auth { scheme, data })
}

/// The operation of an opcode, from its record.
pub(super) fn decode_op(r: &mut Reader, opcode: i32) -> Op {
    read_op(r, opcode).unwrap_or(Op::Undecodable { opcode })
}

fn read_op(r: &mut Reader, opcode: i32) -> Result<Op, Malformed> {
    Ok(match opcode {
        // The five kinds of record that a multi may hold, too.
        opcode::CREATE | opcode::CREATE2 | opcode::CREATE_CONTAINER | opcode::CREATE_TTL => {
            read_create(r, opcode)?
        }
        opcode::DELETE => read_delete(r)?,
        opcode::SET_DATA => read_set_data(r)?,
        opcode::EXISTS => Op::Exists { path: r.string("exists' path")?, watch: r.bool("exists' watch")? },
        opcode::GET_DATA => {
            Op::GetData { path: r.string("getData's path")?, watch: r.bool("getData's watch")? }
        }
        opcode::GET_ACL => Op::GetAcl { path: r.string("getACL's path")? },
        opcode::SET_ACL => Op::SetAcl {
            path: r.opt_string("setACL's path")?.unwrap_or_default(),
            acl: read_acls(r)?,
            version: r.i32("setACL's version")?,
        },
        opcode::GET_CHILDREN | opcode::GET_CHILDREN2 => Op::GetChildren {
            path: r.string("getChildren's path")?,
            watch: r.bool("getChildren's watch")?,
            stat: opcode == opcode::GET_CHILDREN2,
        },
        opcode::SYNC => Op::Sync { path: r.opt_string("sync's path")? },
        opcode::PING => Op::Ping,
        opcode::MULTI => read_multi(r)?,
        opcode::SET_WATCHES => Op::SetWatches {
            relative_zxid: Zxid(r.i64("setWatches' relativeZxid")?),
            data: r.strings("setWatches' data watches")?,
            exist: r.strings("setWatches' exist watches")?,
            child: r.strings("setWatches' child watches")?,
        },
        opcode::CLOSE_SESSION => Op::CloseSession,
        _ if is_apaches(opcode) => Op::Unsupported { opcode },
        // A check outside of a multi, what only servers may ask, and numbers without a meaning.
        _ => Op::Unknown { opcode },
    })
}

/// Opcodes that Apache serves and this server does not yet.
fn is_apaches(opcode: i32) -> bool {
    matches!(
        opcode,
        opcode::RECONFIG
            | opcode::CHECK_WATCHES
            | opcode::REMOVE_WATCHES
            | opcode::MULTI_READ
            | opcode::SASL
            | opcode::GET_EPHEMERALS
            | opcode::GET_ALL_CHILDREN_NUMBER
            | opcode::SET_WATCHES2
            | opcode::ADD_WATCH
            | opcode::WHO_AM_I
    )
}

fn read_create(r: &mut Reader, opcode: i32) -> Result<Op, Malformed> {
    let path = r.string("a create's path")?;
    let data = read_kept_data(r, "a create's data")?;
    let acl = read_acls(r)?;
    let flags = r.i32("a create's flags")?;
    let kind = match opcode {
        opcode::CREATE => CreateKind::Create,
        opcode::CREATE2 => CreateKind::Create2,
        opcode::CREATE_CONTAINER => CreateKind::Container,
        _ => CreateKind::Ttl(r.i64("a createTTL's ttl")?),
    };
    Ok(Op::Create { kind, path, data, acl, flags })
}

fn read_delete(r: &mut Reader) -> Result<Op, Malformed> {
    Ok(Op::Delete { path: r.string("a delete's path")?, version: r.i32("a delete's version")? })
}

fn read_set_data(r: &mut Reader) -> Result<Op, Malformed> {
    // Null is no valid path, which is judged later, as every path is.
    let path = r.opt_string("a setData's path")?.unwrap_or_default();
    let data = read_kept_data(r, "a setData's data")?;
    Ok(Op::SetData { path, data, version: r.i32("a setData's version")? })
}

fn read_check(r: &mut Reader) -> Result<Op, Malformed> {
    Ok(Op::Check { path: r.string("a check's path")?, version: r.i32("a check's version")? })
}

/// Data that will live as long as its znode. It is copied: a slice would keep alive the whole buffer that the
/// socket was read into, so that small writes could pin many times their size.
fn read_kept_data(r: &mut Reader, what: &'static str) -> Result<Option<Bytes>, Malformed> {
    Ok(r.buffer(what)?.map(|data| Bytes::copy_from_slice(&data)))
}

/// Members, each behind a MultiHeader, up to the header that says done.
fn read_multi(r: &mut Reader) -> Result<Op, Malformed> {
    let mut members = Vec::new();
    loop {
        let kind = r.i32("a MultiHeader's type")?;
        let done = r.bool("a MultiHeader's done")?;
        r.i32("a MultiHeader's err")?;
        if done {
            return Ok(Op::Multi(members));
        }
        members.push(read_member(r, kind)?);
    }
}

fn read_member(r: &mut Reader, kind: i32) -> Result<Op, Malformed> {
    match kind {
        opcode::CREATE | opcode::CREATE2 | opcode::CREATE_CONTAINER | opcode::CREATE_TTL => {
            let create = read_create(r, kind)?;
            check_member_flags(&create)?;
            Ok(create)
        }
        opcode::DELETE => read_delete(r),
        opcode::SET_DATA => read_set_data(r),
        opcode::CHECK => read_check(r),
        other => Err(Malformed(format!("opcode {other} cannot be a member of a multi"))),
    }
}

/// Apache looks at flags while it reads a multi, so that bad ones make the whole request unreadable; in a
/// create of its own they are BadArguments.
fn check_member_flags(create: &Op) -> Result<(), Malformed> {
    let Op::Create { kind, flags, .. } = create else { unreachable!("called for creates only") };
    let allowed = match kind {
        CreateKind::Ttl(_) => 0..=MAX_CREATE_FLAGS,
        _ => 0..=FIRST_TTL_FLAGS - 1,
    };
    if allowed.contains(flags) {
        return Ok(());
    }
    Err(Malformed(format!("flags {flags} in a member of a multi ({kind:?}); {allowed:?} are allowed")))
}

/// The record of an operation, without header.
pub(super) fn write_op(w: &mut Writer<'_>, op: &Op) {
    match op {
        Op::Create { kind, path, data, acl, flags } => {
            w.string(path);
            w.buffer(data.as_deref());
            write_acls(w, acl.as_deref());
            w.i32(*flags);
            if let CreateKind::Ttl(ttl_ms) = kind {
                w.i64(*ttl_ms);
            }
        }
        Op::Delete { path, version } | Op::Check { path, version } => {
            w.string(path);
            w.i32(*version);
        }
        Op::SetData { path, data, version } => {
            w.string(path);
            w.buffer(data.as_deref());
            w.i32(*version);
        }
        Op::SetAcl { path, acl, version } => {
            w.string(path);
            write_acls(w, acl.as_deref());
            w.i32(*version);
        }
        Op::Exists { path, watch } | Op::GetData { path, watch } | Op::GetChildren { path, watch, .. } => {
            w.string(path);
            w.bool(*watch);
        }
        Op::GetAcl { path } => w.string(path),
        Op::Sync { path } => w.opt_string(path.as_deref()),
        Op::Multi(members) => write_multi(w, members),
        Op::SetWatches { relative_zxid, data, exist, child } => {
            w.i64(relative_zxid.0);
            w.strings(data);
            w.strings(exist);
            w.strings(child);
        }
        Op::CreateSession { timeout_ms } => w.i32(*timeout_ms),
        // No record: these are their opcode alone. A request that did not decode has lost its record for good,
        // and does not decode without it either, so that a leader finds what the learner found.
        Op::Ping
        | Op::CloseSession
        | Op::Undecodable { .. }
        | Op::Unsupported { .. }
        | Op::Unknown { .. } => {}
        Op::Auth(_) => {
            panic!("an auth that a connection has decided has no bytes; encode_auth makes packets")
        }
    }
}

fn write_multi(w: &mut Writer<'_>, members: &[Op]) {
    for member in members {
        write_multi_header(w, opcode::of(member), false, -1);
        write_op(w, member);
    }
    write_multi_header(w, opcode::ERROR, true, -1);
}

/// Before each member of a multi and of its reply, and behind the last.
pub(super) fn write_multi_header(w: &mut Writer<'_>, kind: i32, done: bool, err: i32) {
    w.i32(kind);
    w.bool(done);
    w.i32(err);
}
