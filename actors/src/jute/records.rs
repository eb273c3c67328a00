//! Records that several messages share: `ACL` with its `Id`, and `Stat`.

use super::{Malformed, Reader, Writer};
use crate::types::{Acl, Id, Stat};

/// The fewest bytes of an `ACL`: perms and two empty strings.
const ACL_MIN_SIZE: usize = 12;

/// The bytes of a `Stat`.
const STAT_SIZE: usize = 68;

/// A `vector<ACL>` of a request; `None` is null. The inner error is an id that is null and must not be, in a
/// list that reads otherwise.
pub(super) fn read_asked_acls(r: &mut Reader) -> Result<Result<Option<Vec<Acl>>, Malformed>, Malformed> {
    let mut null_id = None;
    let acls = r.opt_vector(ACL_MIN_SIZE, "an ACL list", |r| {
        let perms = r.i32("an ACL's perms")?;
        // No scheme is one that nobody knows: an invalid ACL, which is judged later.
        let scheme = r.opt_string("an ACL's scheme")?.unwrap_or_default();
        let id = r.opt_string("an ACL's id")?;
        // The id of `auth` is ignored, and kazoo sends it as null; that of an unknown scheme is never looked
        // at. For the others null makes no sense.
        if id.is_none() && matches!(&*scheme, "world" | "digest" | "ip") {
            null_id = Some(Malformed(format!("the id of a {scheme} ACL is null")));
        }
        Ok(Acl { perms, id: Id { scheme, id: id.unwrap_or_default() } })
    })?;
    Ok(null_id.map_or(Ok(acls), Err))
}

/// A `vector<ACL>`; `None` is null.
pub(super) fn read_acls(r: &mut Reader) -> Result<Option<Vec<Acl>>, Malformed> {
    read_asked_acls(r)?
}

/// A `vector<ACL>` that must not be null.
pub(super) fn read_some_acls(r: &mut Reader) -> Result<Vec<Acl>, Malformed> {
    read_acls(r)?.ok_or_else(|| Malformed("an ACL list is null, which is not allowed here".into()))
}

/// A `vector<ACL>`; `None` is null.
pub(super) fn write_acls(w: &mut Writer<'_>, acls: Option<&[Acl]>) {
    w.opt_vector(acls, |w, acl| {
        w.i32(acl.perms);
        w.string(&acl.id.scheme);
        w.string(&acl.id.id);
    });
}

/// A `Stat`.
pub(super) fn read_stat(r: &mut Reader) -> Result<Stat, Malformed> {
    Ok(Stat {
        czxid: r.i64("a Stat's czxid")?,
        mzxid: r.i64("a Stat's mzxid")?,
        ctime: r.i64("a Stat's ctime")?,
        mtime: r.i64("a Stat's mtime")?,
        version: r.i32("a Stat's version")?,
        cversion: r.i32("a Stat's cversion")?,
        aversion: r.i32("a Stat's aversion")?,
        ephemeral_owner: r.i64("a Stat's ephemeralOwner")?,
        data_length: r.i32("a Stat's dataLength")?,
        num_children: r.i32("a Stat's numChildren")?,
        pzxid: r.i64("a Stat's pzxid")?,
    })
}

/// A `Stat`, appended in one piece: most replies have one.
pub(super) fn write_stat(w: &mut Writer<'_>, stat: &Stat) {
    let mut bytes = [0; STAT_SIZE];
    bytes[..8].copy_from_slice(&stat.czxid.to_be_bytes());
    bytes[8..16].copy_from_slice(&stat.mzxid.to_be_bytes());
    bytes[16..24].copy_from_slice(&stat.ctime.to_be_bytes());
    bytes[24..32].copy_from_slice(&stat.mtime.to_be_bytes());
    bytes[32..36].copy_from_slice(&stat.version.to_be_bytes());
    bytes[36..40].copy_from_slice(&stat.cversion.to_be_bytes());
    bytes[40..44].copy_from_slice(&stat.aversion.to_be_bytes());
    bytes[44..52].copy_from_slice(&stat.ephemeral_owner.to_be_bytes());
    bytes[52..56].copy_from_slice(&stat.data_length.to_be_bytes());
    bytes[56..60].copy_from_slice(&stat.num_children.to_be_bytes());
    bytes[60..].copy_from_slice(&stat.pzxid.to_be_bytes());
    w.raw(&bytes);
}
