//! Answers out of the tree. Nothing changes here, so nothing waits here.
//!
//! Reads do not validate paths: what is no path is just not there, and the empty path is the root.

use crate::core::tree::{NodeRef, Tree};
use crate::core::watches::{NewWatch, WatchKind};
use crate::core::{acl, paths};
use crate::types::{
    EventKind, Id, MultiResult, Op, ReplyBody, SessionId, Str, WatchEvent, ZkError, Zxid, perms,
};

/// Bytes that the answer to a multiRead may hold in memory; more is a MarshallingError. A request of the greatest
/// size can ask 50,000 times for the largest znode, which no client could take and no server should give: Java's
/// takes a megabyte.
pub(super) const MAX_MULTI_READ: usize = 16 << 20;

/// What a name in a list of children costs besides its text, in bytes: its place, an allocation, two counters.
const NAME: usize = 48;

type Looked = Result<ReplyBody, ZkError>;

/// Who looks, and what is judged by.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) session: SessionId,
    /// Its identities.
    pub(super) auth: &'a [Id],
    pub(super) rules: acl::Rules,
}

impl Reader<'_> {
    /// The znode, if it is there and one of these permissions is.
    fn readable<'t>(&self, tree: &'t Tree, path: &str, need: i32) -> Result<NodeRef<'t>, ZkError> {
        let node = tree.get(path).ok_or(ZkError::NoNode)?;
        if self.rules.allows(node.acl(), need, self.auth) { Ok(node) } else { Err(ZkError::NoAuth) }
    }
}

/// The answer to a read, and the watch it leaves.
pub(super) fn look(tree: &Tree, op: Op, reader: &Reader<'_>) -> (Looked, Option<NewWatch>) {
    match op {
        Op::Exists { path, watch } => exists(tree, path, watch, reader),
        Op::GetData { path, watch } => watched(get_data(tree, &path, reader), watch, WatchKind::Data, path),
        Op::GetAcl { path } => (get_acl(tree, &path, reader), None),
        Op::GetChildren { path, watch, stat } => {
            watched(get_children(tree, &path, stat, reader), watch, WatchKind::Child, path)
        }
        Op::GetAllChildrenNumber { path } => (get_all_children_number(tree, &path, reader), None),
        Op::GetEphemerals { prefix } => (Ok(get_ephemerals(tree, prefix.as_deref(), reader.session)), None),
        Op::MultiRead(members) => (multi_read(tree, members, reader), None),
        Op::WhoAmI => (Ok(who_am_i(reader.auth)), None),
        // Whether there is such a znode, and whether it may be read, is not asked.
        Op::AddWatch { path, recursive } => {
            let kind = if recursive { WatchKind::Recursive } else { WatchKind::Persistent };
            (Ok(ReplyBody::WatchAdded), Some(NewWatch { path, kind }))
        }
        // The pipeline answers everything else itself.
        _ => (Err(ZkError::Unimplemented), None),
    }
}

/// A read that fails leaves no watch.
fn watched(result: Looked, watch: bool, kind: WatchKind, path: Str) -> (Looked, Option<NewWatch>) {
    let watch = (watch && result.is_ok()).then_some(NewWatch { path, kind });
    (result, watch)
}

/// The only read that watches what is not there, too.
fn exists(tree: &Tree, path: Str, watch: bool, reader: &Reader<'_>) -> (Looked, Option<NewWatch>) {
    if let Err(error) = paths::validate_exists(&path) {
        return (Err(error), None);
    }
    let result = match reader.readable(tree, &path, perms::READ) {
        Ok(node) => Ok(ReplyBody::Stat(node.stat())),
        Err(ZkError::NoAuth) => return (Err(ZkError::NoAuth), None),
        Err(error) => Err(error),
    };
    (result, watch.then_some(NewWatch { path, kind: WatchKind::Data }))
}

fn get_data(tree: &Tree, path: &str, reader: &Reader<'_>) -> Looked {
    let node = reader.readable(tree, path, perms::READ)?;
    Ok(ReplyBody::Data(node.shared_data(), node.stat()))
}

/// READ or ADMIN will do; who has only READ does not see the hashes of digests.
fn get_acl(tree: &Tree, path: &str, reader: &Reader<'_>) -> Looked {
    let node = reader.readable(tree, path, perms::READ | perms::ADMIN)?;
    Ok(ReplyBody::Acl(reader.rules.redact(node.acl(), reader.auth).into_owned(), node.stat()))
}

fn get_children(tree: &Tree, path: &str, stat: bool, reader: &Reader<'_>) -> Looked {
    let node = reader.readable(tree, path, perms::READ)?;
    let names = node.children().map(Str::from).collect();
    Ok(if stat { ReplyBody::ChildrenStat(names, node.stat()) } else { ReplyBody::Children(names) })
}

/// All znodes below this one, however deep. The root has a second name, `""`, under which Apache counts the
/// first one, too.
fn get_all_children_number(tree: &Tree, path: &str, reader: &Reader<'_>) -> Looked {
    let node = reader.readable(tree, path, perms::READ)?;
    let count = node.descendant_count() + usize::from(path.is_empty());
    Ok(ReplyBody::Count(i32::try_from(count).unwrap_or(i32::MAX)))
}

/// The session's own ephemerals whose paths begin with these letters, be they whole names or not. Nobody's
/// permission is asked.
fn get_ephemerals(tree: &Tree, prefix: Option<&str>, session: SessionId) -> ReplyBody {
    let mut paths = tree.ephemerals(session);
    let prefix = prefix.unwrap_or_default();
    // What Java's trim takes away: everything up to the blank.
    let is_all = matches!(prefix.trim_matches(|c| c <= ' '), "" | paths::ROOT);
    paths.retain(|path| is_all || path.starts_with(prefix));
    ReplyBody::Ephemerals(paths)
}

/// Each member has its own answer. Watches are not set.
fn multi_read(tree: &Tree, members: Vec<Op>, reader: &Reader<'_>) -> Looked {
    let mut results = Vec::with_capacity(members.len());
    let mut bytes = 0;
    for member in members {
        let result = multi_read_member(tree, &member, reader);
        bytes += match &result {
            MultiResult::GetData(data, _) => data.as_ref().map_or(0, |data| data.len()),
            MultiResult::GetChildren(names) => names.iter().map(|name| name.len() + NAME).sum(),
            _ => 0,
        };
        if bytes > MAX_MULTI_READ {
            return Err(ZkError::MarshallingError);
        }
        results.push(result);
    }
    Ok(ReplyBody::Multi(results))
}

fn multi_read_member(tree: &Tree, member: &Op, reader: &Reader<'_>) -> MultiResult {
    let answer = match member {
        Op::GetData { path, .. } => get_data(tree, path, reader),
        Op::GetChildren { path, .. } => get_children(tree, path, false, reader),
        _ => Err(ZkError::MarshallingError), // no decoder lets it pass
    };
    match answer {
        Ok(ReplyBody::Data(data, stat)) => MultiResult::GetData(data, stat),
        Ok(ReplyBody::Children(names)) => MultiResult::GetChildren(names),
        Ok(other) => unreachable!("data and children have been looked up, not {other:?}"),
        Err(error) => MultiResult::Error(error.code()),
    }
}

/// The identities of the connection, without what proves them.
fn who_am_i(auth: &[Id]) -> ReplyBody {
    ReplyBody::WhoAmI(auth.iter().map(acl::shown).collect())
}

/// What a client watched before it lost its connection, as setWatches and setWatches2 tell it.
pub(super) struct Before {
    /// The newest zxid it has seen.
    pub(super) seen: Zxid,
    pub(super) data: Vec<Str>,
    pub(super) exist: Vec<Str>,
    pub(super) child: Vec<Str>,
    pub(super) persistent: Vec<Str>,
    pub(super) recursive: Vec<Str>,
}

/// What a client's watches would have told it, and those that are to be set again, list by list. A watch that
/// stays is just set: what it has missed is lost. Nobody's permission is asked, as in Apache: whoever may not
/// read a znode can learn by exists, too, that it is there.
pub(super) fn catch_up(tree: &Tree, before: Before) -> (Vec<WatchEvent>, Vec<NewWatch>) {
    let Before { seen, data, exist, child, persistent, recursive } = before;
    let mut events = Vec::new();
    let mut watches = Vec::new();
    let mut sort = |path: Str, event: Option<EventKind>, kind: WatchKind| match event {
        Some(kind) => events.push(WatchEvent { kind, path, zxid: Zxid(-1) }),
        None => watches.push(NewWatch { path, kind }),
    };
    for path in data {
        let event = match tree.get(&path) {
            None => Some(EventKind::NodeDeleted),
            Some(node) => (node.persisted().mzxid > seen.0).then_some(EventKind::NodeDataChanged),
        };
        sort(path, event, WatchKind::Data);
    }
    for path in exist {
        let event = tree.get(&path).map(|_| EventKind::NodeCreated);
        sort(path, event, WatchKind::Data);
    }
    for path in child {
        let event = match tree.get(&path) {
            None => Some(EventKind::NodeDeleted),
            Some(node) => (node.persisted().pzxid > seen.0).then_some(EventKind::NodeChildrenChanged),
        };
        sort(path, event, WatchKind::Child);
    }
    persistent.into_iter().for_each(|path| sort(path, None, WatchKind::Persistent));
    recursive.into_iter().for_each(|path| sort(path, None, WatchKind::Recursive));
    (events, watches)
}
