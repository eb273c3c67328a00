//! What the tree will look like: proposals that are not applied yet, and the draft of the next one.
//!
//! Both are sparse: they hold the znodes that change (a node that is gone is held as gone) and look through
//! to what is below them for all others. A draft is made for one transaction; it is either absorbed by the
//! overlay as a whole or dropped, which is all that undoing a failed multi takes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::core::paths;
use crate::core::tree::Tree;
use crate::types::{Acl, SessionId, Str, Zxid};

/// What a later write may ask about a znode. The data is not among it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Changes of data.
    pub version: i32,
    /// Changes of the ACL.
    pub aversion: i32,
    /// Children ever created: the next sequence number.
    pub creates: i32,
    /// Children now.
    pub children: usize,
    /// Who may do what.
    pub acl: Arc<[Acl]>,
    /// The session of an ephemeral, else [`SessionId::NONE`].
    pub owner: SessionId,
}

/// Changed znodes by path; `None` is one that is gone. The root is `/`.
pub type Changes = BTreeMap<Str, Option<Node>>;

/// The znode as it is applied.
fn applied_node(tree: &Tree, path: &str) -> Option<Node> {
    let node = tree.get(path)?;
    let stat = node.persisted();
    Some(Node {
        version: stat.version,
        aversion: stat.aversion,
        creates: stat.cversion,
        children: node.child_count(),
        acl: Arc::clone(node.acl()),
        owner: node.session().unwrap_or(SessionId::NONE),
    })
}

/// A changed znode and the last transaction that changed it.
#[derive(Debug)]
struct Pending {
    zxid: Zxid,
    node: Option<Node>,
}

/// What is proposed but not yet applied.
#[derive(Debug, Default)]
pub struct Overlay {
    pending: BTreeMap<Str, Pending>,
    /// Which transaction changed what, oldest first.
    order: VecDeque<(Zxid, Str)>,
    /// The pending ephemerals of each session.
    ephemerals: BTreeSet<(SessionId, Str)>,
}

impl Overlay {
    /// Takes over what a transaction changes.
    pub fn absorb(&mut self, zxid: Zxid, changes: Changes) {
        for (path, node) in changes {
            self.forget(&path);
            if let Some(node) = node.as_ref().filter(|node| node.owner != SessionId::NONE) {
                self.ephemerals.insert((node.owner, path.clone()));
            }
            self.order.push_back((zxid, path.clone()));
            self.pending.insert(path, Pending { zxid, node });
        }
    }

    /// Drops what the tree knows by now.
    pub fn applied(&mut self, zxid: Zxid) {
        while self.order.front().is_some_and(|(at, _)| *at <= zxid) {
            let (_, path) = self.order.pop_front().expect("it has a front");
            if self.pending.get(&path).is_some_and(|pending| pending.zxid <= zxid) {
                self.forget(&path);
            }
        }
    }

    fn forget(&mut self, path: &Str) {
        if let Some(Pending { node: Some(node), .. }) = self.pending.remove(path)
            && node.owner != SessionId::NONE
        {
            self.ephemerals.remove(&(node.owner, path.clone()));
        }
    }

    /// The ephemerals of a session as they will be, sorted: with the pending creates, without the pending
    /// deletes.
    pub fn ephemerals(&self, tree: &Tree, session: SessionId) -> Vec<Str> {
        let settled = tree.ephemerals(session).into_iter().filter(|path| !self.pending.contains_key(path));
        let from = (session, Str::from(""));
        let pending = self.ephemerals.range(from..).take_while(|(owner, _)| *owner == session);
        let mut paths: Vec<Str> = settled.chain(pending.map(|(_, path)| path.clone())).collect();
        paths.sort_unstable();
        paths
    }

    /// Is nothing pending?
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.order.is_empty() && self.ephemerals.is_empty()
    }
}

/// The changes of the transaction that is being made, over all that is proposed, over the tree.
pub struct Draft<'a> {
    tree: &'a Tree,
    overlay: &'a Overlay,
    changes: Changes,
}

impl<'a> Draft<'a> {
    /// Nothing changed yet.
    pub fn new(tree: &'a Tree, overlay: &'a Overlay) -> Draft<'a> {
        Draft { tree, overlay, changes: Changes::new() }
    }

    /// The znode as this transaction would leave it so far.
    pub fn get(&self, path: &str) -> Option<Node> {
        if let Some(node) = self.changes.get(path) {
            return node.clone();
        }
        match self.overlay.pending.get(path) {
            Some(pending) => pending.node.clone(),
            None => applied_node(self.tree, path),
        }
    }

    /// The znode is this from now on.
    pub fn put(&mut self, path: &Str, node: Node) {
        self.changes.insert(Str::clone(path), Some(node));
    }

    /// A new znode; its parent counts it.
    pub fn create(&mut self, path: &Str, node: Node) {
        self.with_parent(path, |parent| {
            parent.creates = parent.creates.wrapping_add(1);
            parent.children += 1;
        });
        self.put(path, node);
    }

    /// The znode is gone; its parent counts it no more.
    pub fn remove(&mut self, path: &Str) {
        self.with_parent(path, |parent| parent.children = parent.children.saturating_sub(1));
        self.changes.insert(Str::clone(path), None);
    }

    fn with_parent(&mut self, path: &str, change: impl FnOnce(&mut Node)) {
        let Some((parent, _)) = paths::split(path) else { return };
        if let Some(mut node) = self.get(parent) {
            change(&mut node);
            self.changes.insert(parent.into(), Some(node));
        }
    }

    /// The transaction stands: what it changes.
    pub fn into_changes(self) -> Changes {
        self.changes
    }
}
