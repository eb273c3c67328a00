//! Answers out of the tree. Nothing changes here, so nothing waits here.
//!
//! Reads do not validate paths: what is no path is just not there, and the empty path is the root.

use super::pipeline::Watch;
use crate::core::tree::{NodeRef, Tree};
use crate::core::watches::WatchTable;
use crate::core::{acl, paths};
use crate::types::{EventKind, Id, Op, ReplyBody, Str, WatchEvent, ZkError, Zxid, perms};

type Looked = Result<ReplyBody, ZkError>;

/// The answer to a read, and the watch it leaves.
pub(super) fn look(tree: &Tree, op: Op, auth: &[Id]) -> (Looked, Option<Watch>) {
    match op {
        Op::Exists { path, watch } => exists(tree, path, watch, auth),
        Op::GetData { path, watch } => watched(get_data(tree, &path, auth), watch, WatchTable::Data, path),
        Op::GetAcl { path } => (get_acl(tree, &path, auth), None),
        Op::GetChildren { path, watch, stat } => {
            watched(get_children(tree, &path, stat, auth), watch, WatchTable::Child, path)
        }
        // The pipeline answers everything else itself.
        _ => (Err(ZkError::Unimplemented), None),
    }
}

/// A read that fails leaves no watch.
fn watched(result: Looked, watch: bool, table: WatchTable, path: Str) -> (Looked, Option<Watch>) {
    let watch = (watch && result.is_ok()).then_some((table, path));
    (result, watch)
}

/// The only read that watches what is not there, too.
fn exists(tree: &Tree, path: Str, watch: bool, auth: &[Id]) -> (Looked, Option<Watch>) {
    if let Err(error) = paths::validate_exists(&path) {
        return (Err(error), None);
    }
    let result = match readable(tree, &path, perms::READ, auth) {
        Ok(node) => Ok(ReplyBody::Stat(node.stat())),
        Err(ZkError::NoAuth) => return (Err(ZkError::NoAuth), None),
        Err(error) => Err(error),
    };
    (result, watch.then_some((WatchTable::Data, path)))
}

fn get_data(tree: &Tree, path: &str, auth: &[Id]) -> Looked {
    let node = readable(tree, path, perms::READ, auth)?;
    Ok(ReplyBody::Data(node.shared_data(), node.stat()))
}

/// READ or ADMIN will do; who has only READ does not see the hashes of digests.
fn get_acl(tree: &Tree, path: &str, auth: &[Id]) -> Looked {
    let node = readable(tree, path, perms::READ | perms::ADMIN, auth)?;
    Ok(ReplyBody::Acl(acl::redact(node.acl(), auth).into_owned(), node.stat()))
}

fn get_children(tree: &Tree, path: &str, stat: bool, auth: &[Id]) -> Looked {
    let node = readable(tree, path, perms::READ, auth)?;
    let names = node.children().map(Str::from).collect();
    Ok(if stat { ReplyBody::ChildrenStat(names, node.stat()) } else { ReplyBody::Children(names) })
}

/// The znode, if it is there and one of these permissions is.
fn readable<'a>(tree: &'a Tree, path: &str, need: i32, auth: &[Id]) -> Result<NodeRef<'a>, ZkError> {
    let node = tree.get(path).ok_or(ZkError::NoNode)?;
    if acl::allows(node.acl(), need, auth) { Ok(node) } else { Err(ZkError::NoAuth) }
}

/// setWatches: what a client's watches would have told it since `seen`, and those that are to be set again,
/// list by list: data, exist, child. Nobody's permission is asked, as in Apache.
pub(super) fn catch_up(tree: &Tree, seen: Zxid, lists: [Vec<Str>; 3]) -> (Vec<WatchEvent>, Vec<Watch>) {
    let mut events = Vec::new();
    let mut watches = Vec::new();
    let [data, exist, child] = lists;
    let mut sort = |path: Str, event: Option<EventKind>, table: WatchTable| match event {
        Some(kind) => events.push(WatchEvent { kind, path, zxid: Zxid(-1) }),
        None => watches.push((table, path)),
    };
    for path in data {
        let event = match tree.get(&path) {
            None => Some(EventKind::NodeDeleted),
            Some(node) => (node.persisted().mzxid > seen.0).then_some(EventKind::NodeDataChanged),
        };
        sort(path, event, WatchTable::Data);
    }
    for path in exist {
        let event = tree.get(&path).map(|_| EventKind::NodeCreated);
        sort(path, event, WatchTable::Data);
    }
    for path in child {
        let event = match tree.get(&path) {
            None => Some(EventKind::NodeDeleted),
            Some(node) => (node.persisted().pzxid > seen.0).then_some(EventKind::NodeChildrenChanged),
        };
        sort(path, event, WatchTable::Child);
    }
    (events, watches)
}
