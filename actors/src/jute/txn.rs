//! Transactions: TxnHeader, a body by type, and perhaps the digest of the tree. One encoding for log records
//! and for the data of a PROPOSAL.
//!
//! We write what Apache 3.9 writes and read what every version since 3.3 has written:
//! - a create of before 3.4 lacks the last field, `parentCVersion`: read as -1, "do not touch the parent's";
//! - a closeSession of before 3.6, or of a server told not to write it, lacks its list of ephemerals;
//! - the digest is there when bytes are left for it. Servers with digests switched off, and all before 3.6,
//!   write none, and failed transactions never have one.
//!
//! Fewer bytes than a digest behind a body, or bytes behind the digest, are ignored, as Apache does: the entry
//! has a checksum and a length of its own, so they are not damage but somebody's extension.

use bytes::{Bytes, BytesMut};

use super::records::{read_some_acls, write_acls};
use super::{Malformed, Reader, Writer, opcode};
use crate::types::{CreateKind, SessionId, Str, Txn, TxnBody, TxnDigest, TxnHeader, Zxid};

/// Bytes of a TxnDigest.
const DIGEST_SIZE: usize = 12;

/// The fewest bytes of a member of a multi: its type and an empty buffer.
const MEMBER_MIN_SIZE: usize = 8;

/// The type of a delete made by the reaper of containers and TTL nodes.
const DELETE_CONTAINER: i32 = opcode::DELETE_CONTAINER;

/// Stands for the `parentCVersion` that a create of before 3.4 does not have.
const NO_PARENT_CVERSION: i32 = -1;

/// A first guess at the size of an entry beyond its data, in bytes: saves growing the buffer.
const USUAL_SIZE: usize = 192;

/// A transaction as a log record's entry and as the data of a PROPOSAL: header, body, digest if any.
pub fn encode_txn(txn: &Txn) -> Bytes {
    let mut out = BytesMut::with_capacity(USUAL_SIZE + data_size(&txn.body));
    let mut w = Writer::new(&mut out);
    w.i64(txn.header.session.0);
    w.i32(txn.header.cxid);
    w.i64(txn.header.zxid.0);
    w.i64(txn.header.time);
    w.i32(type_of(&txn.body));
    write_body(&mut w, &txn.body);
    if let Some(digest) = txn.digest {
        w.i32(digest.version);
        w.i64(digest.tree);
    }
    out.freeze()
}

/// The inverse of [`encode_txn`].
pub fn decode_txn(bytes: &Bytes) -> Result<Txn, Malformed> {
    let mut r = Reader::new(bytes.clone());
    let session = SessionId(r.i64("a TxnHeader's clientId")?);
    let cxid = r.i32("a TxnHeader's cxid")?;
    let zxid = Zxid(r.i64("a TxnHeader's zxid")?);
    let time = r.i64("a TxnHeader's time")?;
    let kind = r.i32("a TxnHeader's type")?;
    let header = TxnHeader { session, cxid, zxid, time };
    let body = read_body(&mut r, kind)?;
    Ok(Txn { header, body, digest: read_digest(&mut r)? })
}

fn data_size(body: &TxnBody) -> usize {
    match body {
        TxnBody::Create { data, .. } | TxnBody::SetData { data, .. } => data.as_ref().map_or(0, Bytes::len),
        _ => 0,
    }
}

fn type_of(body: &TxnBody) -> i32 {
    match body {
        TxnBody::CreateSession { .. } => opcode::CREATE_SESSION,
        TxnBody::CloseSession { .. } => opcode::CLOSE_SESSION,
        TxnBody::Error(_) => opcode::ERROR,
        TxnBody::Create { kind, .. } => opcode::of_create(*kind),
        TxnBody::Delete { container: false, .. } => opcode::DELETE,
        TxnBody::Delete { container: true, .. } => DELETE_CONTAINER,
        TxnBody::SetData { reconfig: false, .. } => opcode::SET_DATA,
        TxnBody::SetData { reconfig: true, .. } => opcode::RECONFIG,
        TxnBody::SetAcl { .. } => opcode::SET_ACL,
        TxnBody::Check { .. } => opcode::CHECK,
        TxnBody::Multi(_) => opcode::MULTI,
    }
}

fn write_body(w: &mut Writer<'_>, body: &TxnBody) {
    match body {
        TxnBody::CreateSession { timeout_ms } => w.i32(*timeout_ms),
        TxnBody::CloseSession { paths } => paths.iter().for_each(|paths| w.strings(paths)),
        TxnBody::Error(code) => w.i32(*code),
        TxnBody::Create { .. } => write_create(w, body),
        TxnBody::Delete { path, container: _ } => w.string(path),
        TxnBody::SetData { path, data, version, reconfig: _ } => {
            w.string(path);
            w.buffer(data.as_deref());
            w.i32(*version);
        }
        TxnBody::SetAcl { path, acl, version } => {
            w.string(path);
            write_acls(w, Some(acl));
            w.i32(*version);
        }
        TxnBody::Check { path, version } => {
            w.string(path);
            w.i32(*version);
        }
        TxnBody::Multi(members) => w.vector(members, |w, member| {
            w.i32(type_of(member));
            w.framed(|w| write_body(w, member)).expect("a multi came in one frame, far below 2 GiB");
        }),
    }
}

/// Only a plain create says whether it is ephemeral: containers and TTL nodes never are.
fn write_create(w: &mut Writer<'_>, body: &TxnBody) {
    let TxnBody::Create { kind, path, data, acl, ephemeral, parent_cversion } = body else {
        unreachable!("called for creates only");
    };
    w.string(path);
    w.buffer(data.as_deref());
    write_acls(w, Some(acl));
    match kind {
        CreateKind::Create | CreateKind::Create2 => w.bool(*ephemeral),
        CreateKind::Container | CreateKind::Ttl(_) => assert!(!ephemeral, "{path}: no {kind:?} is ephemeral"),
    }
    w.i32(*parent_cversion);
    if let CreateKind::Ttl(ttl_ms) = kind {
        w.i64(*ttl_ms);
    }
}

fn read_body(r: &mut Reader, kind: i32) -> Result<TxnBody, Malformed> {
    match kind {
        opcode::CREATE_SESSION => {
            Ok(TxnBody::CreateSession { timeout_ms: r.i32("a createSession's timeOut")? })
        }
        opcode::CLOSE_SESSION => Ok(read_close_session(r)),
        // The members of a multi are these, or of a type that may stand alone too; a multi is never nested.
        opcode::MULTI => Ok(TxnBody::Multi(r.vector(MEMBER_MIN_SIZE, "a multi's members", read_member)?)),
        _ => read_change(r, kind),
    }
}

/// A member of a multi: its type, and its body in a buffer of its own.
fn read_member(r: &mut Reader) -> Result<TxnBody, Malformed> {
    let kind = r.i32("a multi member's type")?;
    let body = r.buffer("a multi member's body")?.unwrap_or_default();
    read_change(&mut Reader::new(body), kind)
}

/// The types that may be a member of a multi as well.
fn read_change(r: &mut Reader, kind: i32) -> Result<TxnBody, Malformed> {
    match kind {
        opcode::ERROR => Ok(TxnBody::Error(r.i32("an error's code")?)),
        opcode::CREATE => read_create(r, CreateKind::Create),
        opcode::CREATE2 => read_create(r, CreateKind::Create2),
        opcode::CREATE_CONTAINER => read_create(r, CreateKind::Container),
        // The ttl comes last: read_create puts it in.
        opcode::CREATE_TTL => read_create(r, CreateKind::Ttl(0)),
        opcode::DELETE => Ok(TxnBody::Delete { path: r.string("a delete's path")?, container: false }),
        DELETE_CONTAINER => {
            Ok(TxnBody::Delete { path: r.string("a deleteContainer's path")?, container: true })
        }
        opcode::SET_DATA | opcode::RECONFIG => Ok(TxnBody::SetData {
            path: r.string("a setData's path")?,
            data: r.buffer("a setData's data")?,
            version: r.i32("a setData's version")?,
            reconfig: kind == opcode::RECONFIG,
        }),
        opcode::SET_ACL => Ok(TxnBody::SetAcl {
            path: r.string("a setACL's path")?,
            acl: read_some_acls(r)?,
            version: r.i32("a setACL's version")?,
        }),
        opcode::CHECK => {
            Ok(TxnBody::Check { path: r.string("a check's path")?, version: r.i32("a check's version")? })
        }
        unknown => Err(Malformed(format!("a transaction of type {unknown}, which does not exist here"))),
    }
}

fn read_create(r: &mut Reader, kind: CreateKind) -> Result<TxnBody, Malformed> {
    let path = r.string("a create's path")?;
    let data = r.buffer("a create's data")?;
    let acl = read_some_acls(r)?;
    let (kind, ephemeral, parent_cversion) = match kind {
        CreateKind::Create | CreateKind::Create2 => {
            let ephemeral = r.bool("a create's ephemeral flag")?;
            // Before 3.4 the record ended here.
            let old = r.remaining() < size_of::<i32>();
            let parent_cversion = if old { NO_PARENT_CVERSION } else { r.i32("a create's parentCVersion")? };
            (kind, ephemeral, parent_cversion)
        }
        CreateKind::Container => (kind, false, r.i32("a createContainer's parentCVersion")?),
        CreateKind::Ttl(_) => {
            let parent_cversion = r.i32("a createTTL's parentCVersion")?;
            (CreateKind::Ttl(r.i64("a createTTL's ttl")?), false, parent_cversion)
        }
    };
    Ok(TxnBody::Create { kind, path, data, acl, ephemeral, parent_cversion })
}

/// The list of ephemerals, if there is one. What does not read as a list of absolute paths is no list but the digest
/// behind a missing one: a digest of version 2 would have to read as two empty paths.
fn read_close_session(r: &mut Reader) -> TxnBody {
    let mut ahead = r.clone();
    let paths: Option<Vec<Str>> = ahead.strings("a closeSession's paths").ok();
    let paths = paths.filter(|paths| paths.iter().all(|path| path.starts_with('/')));
    if paths.is_some() {
        *r = ahead;
    }
    TxnBody::CloseSession { paths }
}

fn read_digest(r: &mut Reader) -> Result<Option<TxnDigest>, Malformed> {
    if r.remaining() < DIGEST_SIZE {
        return Ok(None);
    }
    Ok(Some(TxnDigest { version: r.i32("a digest's version")?, tree: r.i64("a digest's value")? }))
}
