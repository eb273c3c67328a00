//! Into a snapshot and out of one: znodes with their paths, a parent before its children.

use std::sync::Arc;

use bytes::Bytes;

use super::acls::AclTable;
use super::digest::is_digested;
use super::index::Index;
use super::node::{Node, NodeId, ROOT};
use super::slab::Slab;
use super::{NodeView, PersistedStat, Tree};
use crate::core::paths;
use crate::types::{Acl, SessionId, Zxid, perms};

impl Tree {
    /// Every znode, depth first, a parent before its children.
    pub fn walk(&self, visit: &mut dyn FnMut(NodeView<'_>)) {
        let mut path = String::new();
        let mut at = ROOT;
        loop {
            visit(self.view(at, &path));
            let next = self.slab.get(at).children().first().copied();
            match next.or_else(|| self.next_sibling(at, &mut path)) {
                Some(next) => {
                    path.push('/');
                    path.push_str(self.slab.get(next).name.as_str());
                    at = next;
                }
                None => return,
            }
        }
    }

    /// The next znode that is not below this one, and in `path` its parent's path.
    fn next_sibling(&self, mut at: NodeId, path: &mut String) -> Option<NodeId> {
        while at != ROOT {
            let node = self.slab.get(at);
            path.truncate(path.len() - node.name.as_bytes().len() - 1);
            let siblings = self.slab.get(node.parent).children();
            if let Some(next) = siblings.get(node.slot as usize + 1) {
                return Some(*next);
            }
            at = node.parent;
        }
        None
    }

    fn view<'a>(&'a self, id: NodeId, path: &'a str) -> NodeView<'a> {
        let node = self.slab.get(id);
        NodeView { path, data: node.data.as_ref(), acl: self.acls.get(node.acl), stat: node.stat }
    }

    /// A tree without anything, to load a snapshot into.
    pub fn unloaded() -> Tree {
        let mut acls = AclTable::default();
        let mut slab = Slab::new();
        let mut root = Node::new("", ROOT, acls.acquire(&[Acl::world(perms::ALL)]), PersistedStat::default());
        root.set_data("", Some(Bytes::new()));
        let digest = root.digest();
        assert_eq!(slab.insert(root), ROOT, "the root is the first znode");
        Tree {
            zxid: Zxid::ZERO,
            slab,
            index: Index::new(),
            acls,
            sessions: Default::default(),
            ephemerals: Default::default(),
            mortals: Default::default(),
            digest,
            data_size: 0,
        }
    }

    /// Adds a session of a snapshot.
    pub fn load_session(&mut self, session: SessionId, timeout_ms: i32) {
        self.sessions.insert(session, timeout_ms);
    }

    /// Adds a znode of a snapshot; its parent must be there (`""` is the root and comes first).
    pub fn load_node(
        &mut self,
        path: &str,
        data: Option<Bytes>,
        acl: Arc<[Acl]>,
        stat: PersistedStat,
    ) -> Result<(), String> {
        if path.is_empty() {
            self.load_root(data, &acl, stat);
            return Ok(());
        }
        let refuse = |why: &str| Err(format!("the snapshot's znode {path:?} {why}"));
        let Some((parent_path, name)) = paths::split(path).filter(|(_, name)| !name.is_empty()) else {
            return refuse("has no name");
        };
        let Some(parent) = self.find(parent_path) else {
            return refuse("comes before its parent, or without one");
        };
        if self.child(parent, name).is_some() {
            return refuse("is there twice");
        }
        self.insert(parent, path, name, data, &acl, stat);
        Ok(())
    }

    /// Every tree has a root already: it gets what the snapshot says.
    fn load_root(&mut self, data: Option<Bytes>, acl: &[Acl], stat: PersistedStat) {
        self.replace_acl(ROOT, acl);
        let root = self.slab.get_mut(ROOT);
        let before = (root.digest(), root.data_len() as u64);
        root.set_data("", data);
        root.stat = stat;
        let after = (root.digest(), root.data_len() as u64);
        self.digest = self.digest.wrapping_sub(before.0).wrapping_add(after.0);
        self.data_size = self.data_size - before.1 + after.1;
    }

    /// The snapshot is complete, and was taken at `zxid`. Adds the system nodes that it lacks.
    pub fn finish_load(&mut self, zxid: Zxid) {
        let plain = (perms::ALL, 0);
        // Apache sets the ACL of the fresh config node to version -1.
        let config = (perms::READ, -1);
        let system = [(paths::ZOOKEEPER, plain), (paths::QUOTA, plain), (paths::CONFIG, config)];
        for (path, (perms, aversion)) in system {
            if self.find(path).is_none() {
                let (parent, name) = paths::split(path).expect("system nodes have a parent");
                let parent = self.find(parent).expect("parents come first");
                let stat = PersistedStat { aversion, ..PersistedStat::default() };
                self.insert(parent, path, name, Some(Bytes::new()), &[Acl::world(perms)], stat);
            }
        }
        self.zxid = zxid;
    }

    /// The digest summed up anew from every znode: what [`Tree::digest`] must be.
    pub fn recompute_digest(&self) -> i64 {
        let mut sum = 0_i64;
        self.walk(&mut |view| {
            let mut node = Node::new("", ROOT, super::acls::AclId(0), view.stat);
            node.set_data(view.path, view.data.cloned());
            if is_digested(view.path) {
                sum = sum.wrapping_add(node.digest());
            }
        });
        sum
    }
}
