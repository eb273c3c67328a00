//! What clients ask: a RequestHeader (xid, opcode) and a record by opcode.
//!
//! The rules of what is wrong with a request, from worst to best:
//! - no whole header: [`Malformed`], and the connection is closed, since nobody knows what was asked; the same
//!   for what the connection itself has to read, auth and sasl, when its record does not read;
//! - an opcode that nobody has, or that is not a client's to use: [`Op::Unknown`], answered, then closed;
//! - a record that does not read: [`Op::Undecodable`], answered;
//! - a record with null where no null can be: as one that does not read, but a write takes a zxid for it
//!   ([`Op::Senseless`]), since Apache finds out only while it makes the transaction;
//! - everything else is a good request here: paths, flags and versions are checked where the tree is known.
//!
//! Bytes behind the record are ignored.

use bytes::{Bytes, BytesMut};

use super::records::{read_asked_acls, write_acls};
use super::{Malformed, Reader, Writer, opcode};
use crate::types::{CreateKind, Op, Str, WatcherType, Zxid};

/// The xid of pings by convention; the server answers pings with it whatever their xid was.
pub const PING_XID: i32 = -2;

/// The xid of auth packets by convention.
pub const AUTH_XID: i32 = -4;

/// The xid of setWatches by convention.
pub const SET_WATCHES_XID: i32 = -8;

/// The auth packet's `type`: sent as 0, ignored.
const AUTH_TYPE: i32 = 0;

/// The largest value of the flags of a create without a time to live; within a multi anything else makes the
/// whole request unreadable.
const MAX_CREATE_FLAGS: i32 = 4;

/// addWatch's mode for a persistent watch, and for a recursive one.
const PERSISTENT: i32 = 0;
const PERSISTENT_RECURSIVE: i32 = 1;

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
        opcode::AUTH => read_auth(&mut r)?,
        opcode::SASL => Decoded::Op(read_sasl(&mut r)?),
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

fn read_sasl(r: &mut Reader) -> Result<Op, Malformed> {
    let token = r.buffer("a sasl packet's token")?;
    Ok(Op::Sasl { token: token.ok_or_else(|| Malformed("a sasl packet's token is null".into()))? })
}

/// The operation of an opcode, from its record.
pub(super) fn decode_op(r: &mut Reader, opcode: i32) -> Op {
    read_op(r, opcode).unwrap_or(Op::Undecodable { opcode })
}

fn read_op(r: &mut Reader, opcode: i32) -> Result<Op, Malformed> {
    Ok(match opcode {
        // The kinds of record that a multi may hold, too.
        opcode::CREATE | opcode::CREATE2 | opcode::CREATE_CONTAINER | opcode::CREATE_TTL => {
            read_create(r, opcode)?.unwrap_or(Op::Senseless { opcode })
        }
        opcode::DELETE => read_delete(r)?.unwrap_or(Op::Senseless { opcode }),
        // Null is no valid path, which is judged later, as every path is.
        opcode::SET_DATA => {
            let (path, data, version) = read_set_data(r)?;
            Op::SetData { path: path.unwrap_or_default(), data, version }
        }
        opcode::SET_ACL => read_set_acl(r)?,
        opcode::MULTI => read_multi(r)?,
        opcode::RECONFIG => read_reconfig(r)?,
        // Looks into the tree.
        opcode::EXISTS => Op::Exists { path: r.string("exists' path")?, watch: r.bool("exists' watch")? },
        opcode::GET_DATA => read_get_data(r)?,
        opcode::GET_ACL => Op::GetAcl { path: r.string("getACL's path")? },
        opcode::GET_CHILDREN => read_get_children(r, false)?,
        opcode::GET_CHILDREN2 => read_get_children(r, true)?,
        opcode::GET_EPHEMERALS => Op::GetEphemerals { prefix: r.opt_string("getEphemerals' prefix")? },
        opcode::GET_ALL_CHILDREN_NUMBER => {
            Op::GetAllChildrenNumber { path: r.string("getAllChildrenNumber's path")? }
        }
        opcode::MULTI_READ => read_multi_read(r)?,
        // Watches.
        opcode::SET_WATCHES | opcode::SET_WATCHES2 => read_set_watches(r, opcode)?,
        opcode::ADD_WATCH => read_add_watch(r)?,
        opcode::CHECK_WATCHES | opcode::REMOVE_WATCHES => read_watcher(r, opcode)?,
        // The rest.
        opcode::SYNC => Op::Sync { path: r.opt_string("sync's path")? },
        opcode::PING => Op::Ping,
        opcode::WHO_AM_I => Op::WhoAmI,
        opcode::CLOSE_SESSION => Op::CloseSession,
        // A check outside of a multi, what only servers may ask, and numbers without a meaning.
        _ => Op::Unknown { opcode },
    })
}

/// `None` has null where no null can be.
fn read_create(r: &mut Reader, opcode: i32) -> Result<Option<Op>, Malformed> {
    let path = r.opt_string("a create's path")?;
    let data = read_kept_data(r, "a create's data")?;
    let acl = read_asked_acls(r)?;
    let flags = r.i32("a create's flags")?;
    let kind = match opcode {
        opcode::CREATE => CreateKind::Create,
        opcode::CREATE2 => CreateKind::Create2,
        opcode::CREATE_CONTAINER => CreateKind::Container,
        _ => CreateKind::Ttl(r.i64("a createTTL's ttl")?),
    };
    let (Some(path), Ok(acl)) = (path, acl) else { return Ok(None) };
    Ok(Some(Op::Create { kind, path, data, acl, flags }))
}

/// `None` has a null path.
fn read_delete(r: &mut Reader) -> Result<Option<Op>, Malformed> {
    let path = r.opt_string("a delete's path")?;
    let version = r.i32("a delete's version")?;
    Ok(path.map(|path| Op::Delete { path, version }))
}

fn read_set_data(r: &mut Reader) -> Result<(Option<Str>, Option<Bytes>, i32), Malformed> {
    let path = r.opt_string("a setData's path")?;
    let data = read_kept_data(r, "a setData's data")?;
    Ok((path, data, r.i32("a setData's version")?))
}

fn read_set_acl(r: &mut Reader) -> Result<Op, Malformed> {
    let path = r.opt_string("setACL's path")?.unwrap_or_default(); // as for setData
    let acl = read_asked_acls(r)?;
    let version = r.i32("setACL's version")?;
    let senseless = Op::Senseless { opcode: opcode::SET_ACL };
    Ok(acl.map_or(senseless, |acl| Op::SetAcl { path, acl, version }))
}

/// `None` has a null path.
fn read_check(r: &mut Reader) -> Result<Option<Op>, Malformed> {
    let path = r.opt_string("a check's path")?;
    let version = r.i32("a check's version")?;
    Ok(path.map(|path| Op::Check { path, version }))
}

fn read_reconfig(r: &mut Reader) -> Result<Op, Malformed> {
    Ok(Op::Reconfig {
        joining: r.opt_string("reconfig's joiningServers")?,
        leaving: r.opt_string("reconfig's leavingServers")?,
        new_members: r.opt_string("reconfig's newMembers")?,
        version: r.i64("reconfig's curConfigId")?,
    })
}

fn read_get_data(r: &mut Reader) -> Result<Op, Malformed> {
    Ok(Op::GetData { path: r.string("getData's path")?, watch: r.bool("getData's watch")? })
}

fn read_get_children(r: &mut Reader, stat: bool) -> Result<Op, Malformed> {
    let path = r.string("getChildren's path")?;
    Ok(Op::GetChildren { path, watch: r.bool("getChildren's watch")?, stat })
}

fn read_set_watches(r: &mut Reader, opcode: i32) -> Result<Op, Malformed> {
    let relative_zxid = Zxid(r.i64("setWatches' relativeZxid")?);
    let data = r.strings("setWatches' data watches")?;
    let exist = r.strings("setWatches' exist watches")?;
    let child = r.strings("setWatches' child watches")?;
    if opcode == opcode::SET_WATCHES {
        return Ok(Op::SetWatches { relative_zxid, data, exist, child });
    }
    let persistent = r.strings("setWatches2's persistent watches")?;
    let recursive = r.strings("setWatches2's persistent recursive watches")?;
    Ok(Op::SetWatches2 { relative_zxid, data, exist, child, persistent, recursive })
}

/// A null path is refused. Apache stores such a watch, and in 3.8 cannot close the connection any more.
fn read_add_watch(r: &mut Reader) -> Result<Op, Malformed> {
    let path = r.string("addWatch's path")?;
    match r.i32("addWatch's mode")? {
        PERSISTENT => Ok(Op::AddWatch { path, recursive: false }),
        PERSISTENT_RECURSIVE => Ok(Op::AddWatch { path, recursive: true }),
        other => Err(Malformed(format!("addWatch's mode is {other}; 0 and 1 are modes"))),
    }
}

fn read_watcher(r: &mut Reader, opcode: i32) -> Result<Op, Malformed> {
    let path = r.opt_string("the path of watches")?;
    let number = r.i32("a WatcherType")?;
    let kind = WatcherType::from_number(number)
        .ok_or_else(|| Malformed(format!("a WatcherType is {number}; 1 to 5 are types")))?;
    Ok(match opcode {
        opcode::CHECK_WATCHES => Op::CheckWatches { path, kind },
        _ => Op::RemoveWatches { path, kind },
    })
}

/// Data that will live as long as its znode. It is copied: a slice would keep alive the whole buffer that the
/// socket was read into, so that small writes could pin many times their size.
fn read_kept_data(r: &mut Reader, what: &'static str) -> Result<Option<Bytes>, Malformed> {
    Ok(r.buffer(what)?.map(|data| Bytes::copy_from_slice(&data)))
}

fn read_multi(r: &mut Reader) -> Result<Op, Malformed> {
    read_members(r, read_member).map(Op::Multi)
}

fn read_multi_read(r: &mut Reader) -> Result<Op, Malformed> {
    read_members(r, read_read_member).map(Op::MultiRead)
}

/// Members, each behind a MultiHeader, up to the header that says done.
fn read_members(
    r: &mut Reader,
    read_member: fn(&mut Reader, i32) -> Result<Op, Malformed>,
) -> Result<Vec<Op>, Malformed> {
    let mut members = Vec::new();
    loop {
        let kind = r.i32("a MultiHeader's type")?;
        let done = r.bool("a MultiHeader's done")?;
        r.i32("a MultiHeader's err")?;
        if done {
            return Ok(members);
        }
        members.push(read_member(r, kind)?);
    }
}

/// A member of a multi. One that has null where no null can be spoils all of it.
fn read_member(r: &mut Reader, kind: i32) -> Result<Op, Malformed> {
    let member = match kind {
        opcode::CREATE | opcode::CREATE2 | opcode::CREATE_CONTAINER | opcode::CREATE_TTL => {
            let create = read_create(r, kind)?;
            create.iter().try_for_each(check_member_flags)?;
            create
        }
        opcode::DELETE => read_delete(r)?,
        opcode::SET_DATA => {
            let (path, data, version) = read_set_data(r)?;
            path.map(|path| Op::SetData { path, data, version })
        }
        opcode::CHECK => read_check(r)?,
        other => return Err(Malformed(format!("opcode {other} cannot be a member of a multi"))),
    };
    member.ok_or_else(|| Malformed(format!("a member of a multi, opcode {kind}, has a null path or ACL id")))
}

/// Apache looks at flags while it reads a multi, so that bad ones make the whole request unreadable; in a
/// create of its own, and in a createTTL, they are BadArguments.
fn check_member_flags(create: &Op) -> Result<(), Malformed> {
    let Op::Create { kind, flags, .. } = create else { unreachable!("called for creates only") };
    let allowed = 0..=MAX_CREATE_FLAGS;
    if allowed.contains(flags) || matches!(kind, CreateKind::Ttl(_)) {
        return Ok(());
    }
    Err(Malformed(format!("flags {flags} in a member of a multi ({kind:?}); {allowed:?} are allowed")))
}

/// A member of a multiRead.
fn read_read_member(r: &mut Reader, kind: i32) -> Result<Op, Malformed> {
    match kind {
        opcode::GET_DATA => read_get_data(r),
        opcode::GET_CHILDREN => read_get_children(r, false),
        other => Err(Malformed(format!("opcode {other} cannot be a member of a multiRead"))),
    }
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
        Op::GetAcl { path } | Op::GetAllChildrenNumber { path } => w.string(path),
        Op::Sync { path: text } | Op::GetEphemerals { prefix: text } => w.opt_string(text.as_deref()),
        Op::Multi(members) | Op::MultiRead(members) => write_multi(w, members),
        Op::Reconfig { joining, leaving, new_members, version } => {
            [joining, leaving, new_members].into_iter().for_each(|list| w.opt_string(list.as_deref()));
            w.i64(*version);
        }
        Op::CheckWatches { path, kind } | Op::RemoveWatches { path, kind } => {
            w.opt_string(path.as_deref());
            w.i32(*kind as i32);
        }
        Op::AddWatch { path, recursive } => {
            w.string(path);
            w.i32(if *recursive { PERSISTENT_RECURSIVE } else { PERSISTENT });
        }
        Op::SetWatches { relative_zxid, data, exist, child } => {
            write_set_watches(w, *relative_zxid, &[data, exist, child]);
        }
        Op::SetWatches2 { relative_zxid, data, exist, child, persistent, recursive } => {
            write_set_watches(w, *relative_zxid, &[data, exist, child, persistent, recursive]);
        }
        Op::Sasl { token } => w.buffer(Some(token)),
        Op::CreateSession { timeout_ms } => w.i32(*timeout_ms),
        // No record: these are their opcode alone. A request that did not decode has lost its record for good,
        // and does not decode without it either, so that a leader finds what the learner found.
        Op::Ping
        | Op::WhoAmI
        | Op::CloseSession
        | Op::Undecodable { .. }
        | Op::Throttled { .. }
        | Op::Senseless { .. }
        | Op::Unknown { .. } => {}
        Op::Auth(_) => {
            panic!("an auth that a connection has decided has no bytes; encode_auth makes packets")
        }
    }
}

fn write_set_watches(w: &mut Writer<'_>, relative_zxid: Zxid, lists: &[&Vec<Str>]) {
    w.i64(relative_zxid.0);
    lists.iter().for_each(|list| w.strings(list));
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
