//! The rules of each single write: what is checked, in which order, and what transaction it makes.
//!
//! The order decides which error a client sees when several would fit, so each function reads top down as
//! Apache checks.

use bytes::Bytes;

use super::overlay::{Draft, NewNode, Node};
use super::{Rules, multi};
use crate::core::quota::Usage;
use crate::core::{paths, tree};
use crate::types::{Acl, CreateKind, Id, Op, SessionId, Str, TxnBody, ZkError, perms};

/// Who asks for a write.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    /// The session.
    pub session: SessionId,
    /// May it write, here? Asked once for a request, told at the place in the order where it belongs.
    pub admitted: Result<(), ZkError>,
    /// Does only the server it asks through know the session?
    pub local: bool,
    /// Its identities.
    pub auth: &'a [Id],
    /// What it is judged by.
    pub rules: Rules,
}

impl Asker<'_> {
    fn needs(&self, permission: i32, list: &[Acl]) -> Result<(), ZkError> {
        if self.rules.acl.allows(list, permission, self.auth) { Ok(()) } else { Err(ZkError::NoAuth) }
    }

    /// The list of a request as it will be stored.
    fn normal(&self, draft: &mut Draft<'_>, list: Option<&[Acl]>) -> Result<Vec<Acl>, ZkError> {
        self.rules.acl.normalize(list, self.auth, &mut draft.room)
    }

    /// Who may write may create, but a local session no ephemerals: nobody would remove them when it ends. Its
    /// server has upgraded it before, if it may. A createContainer is never a reason to, so there an ephemeral
    /// flag only shows that the leader does not know the session.
    fn may_create(&self, kind: CreateKind, flags: i32) -> Result<(), ZkError> {
        match kind {
            _ if !self.local || !is_ephemeral(flags) => self.admitted,
            CreateKind::Create | CreateKind::Create2 => Err(ZkError::EphemeralOnLocalSession),
            CreateKind::Container | CreateKind::Ttl(_) => Err(ZkError::SessionExpired),
        }
    }
}

/// Do these flags of a create mean an ephemeral?
pub fn is_ephemeral(flags: i32) -> bool {
    matches!(flags, 1 | 3)
}

/// The transaction of a write, or of its refusal. Either way it takes a zxid.
pub fn prepare(draft: &mut Draft<'_>, asker: &Asker<'_>, op: Op) -> Result<TxnBody, TxnBody> {
    match op {
        Op::Multi(members) => multi::prepare(draft, asker, members),
        op => single(draft, asker, op).map_err(|error| TxnBody::Error(error.code())),
    }
}

/// A write that stands alone, or a member of a multi.
pub fn single(draft: &mut Draft<'_>, asker: &Asker<'_>, op: Op) -> Result<TxnBody, ZkError> {
    match op {
        Op::Create { kind, path, data, acl, flags } => {
            create(draft, asker, Create { kind, path, data, acl, flags })
        }
        Op::Delete { path, version } => delete(draft, asker, path, version),
        Op::SetData { path, data, version } => set_data(draft, asker, path, data, version),
        Op::SetAcl { path, acl, version } => set_acl(draft, asker, path, acl, version),
        Op::Check { path, version } => check(draft, asker, path, version),
        // Members change by the configuration file alone. Whose session it is does not matter.
        Op::Reconfig { .. } => Err(ZkError::ReconfigDisabled),
        // A write whose body makes no sense, or what no member may send to the leader at all.
        _ => Err(ZkError::MarshallingError),
    }
}

/// The fields of [`Op::Create`].
struct Create {
    kind: CreateKind,
    path: Str,
    data: Option<Bytes>,
    acl: Option<Vec<Acl>>,
    flags: i32,
}

/// What a create's opcode and flags come to.
#[derive(Clone, Copy)]
struct Mode {
    kind: CreateKind,
    ephemeral: bool,
    sequential: bool,
}

impl Mode {
    /// Flags: 1 ephemeral, 2 sequential, 3 both, 4 container, 5 and 6 with a time to live.
    fn of(kind: CreateKind, flags: i32, extended_types: bool) -> Result<Mode, ZkError> {
        match kind {
            _ if !(0..=6).contains(&flags) => Err(ZkError::BadArguments),
            _ if flags >= 5 && !extended_types => Err(ZkError::Unimplemented),
            CreateKind::Ttl(1..=tree::MAX_TTL_MS) if flags >= 5 => {
                Ok(Mode { kind, ephemeral: false, sequential: flags == 6 })
            }
            // These flags without a time to live, or with one that does not fit.
            _ if flags >= 5 => Err(ZkError::BadArguments),
            // A time to live without the flags for it. Apache takes a negative one and then dies of it.
            CreateKind::Ttl(_) => Err(ZkError::BadArguments),
            // Opcode 19 makes a container whatever the flags say; a sequential name is still given.
            CreateKind::Container => Ok(Mode { kind, ephemeral: false, sequential: matches!(flags, 2 | 3) }),
            // The container flag means nothing to the opcodes 1 and 15: a plain persistent node.
            CreateKind::Create | CreateKind::Create2 => {
                Ok(Mode { kind, ephemeral: is_ephemeral(flags), sequential: matches!(flags, 2 | 3) })
            }
        }
    }
}

fn create(draft: &mut Draft<'_>, asker: &Asker<'_>, request: Create) -> Result<TxnBody, ZkError> {
    let Create { kind, path, data, acl, flags } = request;
    let mode = Mode::of(kind, flags, asker.rules.extended_types)?;
    asker.may_create(kind, flags)?;
    paths::validate_create_prefix(&path)?;
    let acl = asker.normal(draft, acl.as_deref())?;
    let parent = parent(draft, &path)?;
    asker.needs(perms::CREATE, &parent.acl)?;
    let path = if mode.sequential { sequential(&path, parent.stat.cversion)? } else { path };
    paths::validate(&path)?;
    if draft.get(&path).is_some() {
        return Err(ZkError::NodeExists);
    }
    if parent.session != SessionId::NONE {
        return Err(ZkError::NoChildrenForEphemerals);
    }
    within_quota(draft, asker, &path, Usage::of_one(data.as_ref().map_or(0, Bytes::len)))?;
    let owner = tree::owner(mode.kind, asker.session, mode.ephemeral)?;
    let session = if mode.ephemeral { asker.session } else { SessionId::NONE };
    draft.create(&path, NewNode { owner, session, acl: &acl, data: data.as_ref() });
    Ok(TxnBody::Create {
        kind: mode.kind,
        path,
        data,
        acl,
        ephemeral: mode.ephemeral,
        parent_cversion: parent.stat.cversion.saturating_add(1),
    })
}

/// A sequential name: the parent's children ever created, ten digits wide. Plain creates count too, and
/// deletes do not. The count ends at 2^31 - 1, which stands for any greater one, so it is no number of a name.
fn sequential(path: &str, creates: i32) -> Result<Str, ZkError> {
    if creates == i32::MAX {
        return Err(ZkError::BadArguments);
    }
    Ok(format!("{path}{creates:010}").into())
}

/// A soft limit is only remarked on, and a hard one, too, where it is not enforced.
fn within_quota(draft: &mut Draft<'_>, asker: &Asker<'_>, path: &str, more: Usage) -> Result<(), ZkError> {
    let enforced = asker.rules.enforce_quota;
    let over_hard = draft.exceeds_quota(path, more, enforced);
    if over_hard && enforced { Err(ZkError::QuotaExceeded) } else { Ok(()) }
}

fn parent(draft: &Draft<'_>, path: &str) -> Result<Node, ZkError> {
    let (parent, _) = paths::split(path).ok_or(ZkError::BadArguments)?;
    draft.get(parent).ok_or(ZkError::NoNode)
}

fn delete(draft: &mut Draft<'_>, asker: &Asker<'_>, path: Str, version: i32) -> Result<TxnBody, ZkError> {
    asker.admitted?;
    paths::validate_delete(&path)?;
    let parent = parent(draft, &path)?;
    asker.needs(perms::DELETE, &parent.acl)?;
    let node = draft.get(&path).ok_or(ZkError::NoNode)?;
    next_version(node.stat.version, version)?;
    if node.children > 0 {
        return Err(ZkError::NotEmpty);
    }
    draft.remove(&path, node);
    Ok(TxnBody::Delete { path, container: false })
}

fn set_data(
    draft: &mut Draft<'_>,
    asker: &Asker<'_>,
    path: Str,
    data: Option<Bytes>,
    version: i32,
) -> Result<TxnBody, ZkError> {
    asker.admitted?;
    paths::validate(&path)?;
    let node = draft.get(&path).ok_or(ZkError::NoNode)?;
    asker.needs(perms::WRITE, &node.acl)?;
    let more = Usage::of_data(node.data_len, data.as_ref().map_or(0, Bytes::len));
    within_quota(draft, asker, &path, more)?;
    let version = next_version(node.stat.version, version)?;
    draft.set_data(&path, node, data.as_ref(), version);
    Ok(TxnBody::SetData { path, data, version, reconfig: false })
}

fn set_acl(
    draft: &mut Draft<'_>,
    asker: &Asker<'_>,
    path: Str,
    acl: Option<Vec<Acl>>,
    version: i32,
) -> Result<TxnBody, ZkError> {
    asker.admitted?;
    paths::validate(&path)?;
    let acl = asker.normal(draft, acl.as_deref())?;
    let node = draft.get(&path).ok_or(ZkError::NoNode)?;
    asker.needs(perms::ADMIN, &node.acl)?;
    let version = next_version(node.stat.aversion, version)?;
    draft.set_acl(&path, node, &acl, version);
    Ok(TxnBody::SetAcl { path, acl, version })
}

fn check(draft: &mut Draft<'_>, asker: &Asker<'_>, path: Str, version: i32) -> Result<TxnBody, ZkError> {
    asker.admitted?;
    paths::validate(&path)?;
    let node = draft.get(&path).ok_or(ZkError::NoNode)?;
    asker.needs(perms::READ, &node.acl)?;
    // Apache logs the version that a change would have made, and so do we.
    let version = next_version(node.stat.version, version)?;
    Ok(TxnBody::Check { path, version })
}

/// The version after this change, if the client expects the right one: -1 expects any. It wraps, but is never -1
/// again: no client could expect that one (ZOOKEEPER-4743).
fn next_version(current: i32, expected: i32) -> Result<i32, ZkError> {
    if expected != -1 && expected != current {
        return Err(ZkError::BadVersion);
    }
    Ok(match current.wrapping_add(1) {
        -1 => 0,
        next => next,
    })
}
