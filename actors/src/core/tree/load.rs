//! Into a snapshot and out of one: znodes with their paths, a parent before its children.

use super::acls::AclTable;
use super::digest::is_digested;
use super::index::{Index, hash_of_node};
use super::listing::DigestLog;
use super::node::{Node, NodeId, ROOT};
use super::slab::Slab;
use super::{NodeView, PersistedStat, Tree};
use crate::core::paths;
use crate::types::{Acl, SessionId, Zxid, perms};

/// A walk over every znode of a tree that does not change meanwhile, a step at a time: depth first, a parent before
/// its children.
pub struct Walk {
    /// Where it stands; `None` before the root.
    at: Option<NodeId>,
    path: String,
}

impl Walk {
    /// A walk that has not begun.
    pub fn begin() -> Walk {
        Walk { at: None, path: String::new() }
    }

    /// The next znode. Behind the last one it begins anew.
    pub fn next<'a>(&'a mut self, tree: &'a Tree) -> Option<NodeView<'a>> {
        let Walk { at, path } = self;
        let next = match *at {
            None => Some(ROOT),
            Some(id) => {
                let first = tree.slab.get(id).children().first().copied();
                let next = first.or_else(|| tree.next_sibling(id, path));
                if let Some(next) = next {
                    path.push('/');
                    path.push_str(tree.slab.get(next).name.as_str());
                }
                next
            }
        };
        *at = next;
        next.map(|id| tree.view(id, path))
    }
}

impl Tree {
    /// Every znode, depth first, a parent before its children.
    pub fn walk(&self, visit: &mut dyn FnMut(NodeView<'_>)) {
        let mut walk = Walk::begin();
        while let Some(view) = walk.next(self) {
            visit(view);
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
        NodeView { path, data: node.data.as_deref(), acl: self.acls.get(node.acl), stat: node.stat }
    }

    /// Every tree has a root already: it gets what the snapshot says.
    fn load_root(&mut self, data: Option<&[u8]>, acl: &[Acl], stat: PersistedStat) {
        self.replace_acl(ROOT, acl);
        let root = self.slab.get_mut(ROOT);
        let before = (root.digest(), root.data_len() as u64);
        root.set_data("", data);
        root.stat = stat;
        let after = (root.digest(), root.data_len() as u64);
        self.digest = self.digest.wrapping_sub(before.0).wrapping_add(after.0);
        self.data_size = self.data_size - before.1 + after.1;
    }

    /// The digest summed up anew from every znode: what [`Tree::digest`] must be.
    pub fn recompute_digest(&self) -> i64 {
        let mut sum = 0_i64;
        self.walk(&mut |view| {
            let mut node = Node::new("", ROOT, super::acls::AclId(0), view.stat);
            node.set_data(view.path, view.data);
            if is_digested(view.path) {
                sum = sum.wrapping_add(node.digest());
            }
        });
        sum
    }
}

/// A tree that is being loaded from a snapshot.
///
/// Snapshots go depth first, so the parent of each znode is the one before it or one above that: no look-up is
/// needed, and the index is made at the end, when it is known how large it must be. What it is made of is noted while
/// the znodes are at hand: to look at them all again takes longer than anything else.
pub struct TreeLoader {
    tree: Tree,
    /// The path of the last znode.
    path: String,
    /// The znodes on that path, and where the path of each ends. The root is the first.
    above: Vec<(usize, NodeId)>,
    /// What each znode but the root is found by, eight bytes for each while it is loaded.
    hashes: Vec<u64>,
}

impl Default for TreeLoader {
    fn default() -> TreeLoader {
        TreeLoader::new()
    }
}

impl TreeLoader {
    /// A tree with nothing but a root.
    pub fn new() -> TreeLoader {
        let mut acls = AclTable::default();
        let mut slab = Slab::new();
        let mut root = Node::new("", ROOT, acls.acquire(&[Acl::world(perms::ALL)]), PersistedStat::default());
        root.set_data("", Some(b""));
        let digest = root.digest();
        assert_eq!(slab.insert(root), ROOT, "the root is the first znode");
        let tree = Tree {
            zxid: Zxid::ZERO,
            slab,
            index: Index::new(),
            acls,
            sessions: Default::default(),
            ephemerals: Default::default(),
            mortals: Default::default(),
            quotas: Default::default(),
            quota_changes: 0,
            extended_types: true,
            digest,
            digests: DigestLog::default(),
            data_size: 0,
        };
        TreeLoader { tree, path: String::new(), above: vec![(0, ROOT)], hashes: Vec::new() }
    }

    /// Adds a session.
    pub fn session(&mut self, session: SessionId, timeout_ms: i32) {
        self.tree.sessions.insert(session, timeout_ms);
    }

    /// Adds a znode (`""` is the root and comes first). Depth first: its parent is the last znode or above it.
    pub fn node(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl: &[Acl],
        stat: PersistedStat,
    ) -> Result<(), String> {
        if path.is_empty() {
            self.tree.load_root(data, acl, stat);
            return Ok(());
        }
        let refuse = |why: &str| Err(format!("the snapshot's znode {path:?} {why}"));
        let Some((parent, name)) = paths::split(path).filter(|(_, name)| !name.is_empty()) else {
            return refuse("has no name");
        };
        let Some(parent) = self.parent(parent) else {
            return refuse("does not come behind its parent");
        };
        let id = self.tree.place(parent, path, name, data, acl, stat);
        // Nothing is ever removed here, so the znodes stand one behind the other, and the root before them.
        assert_eq!(id.0 as usize, self.hashes.len() + 1, "places are taken in order");
        self.hashes.push(hash_of_node(self.tree.slab.get(id)));
        self.path.push('/');
        self.path.push_str(name);
        self.above.push((self.path.len(), id));
        Ok(())
    }

    /// The znode of this path, if it is the last one or above it; it is the last one then.
    fn parent(&mut self, path: &str) -> Option<NodeId> {
        let path = if path == paths::ROOT { "" } else { path };
        let depth = self.above.binary_search_by_key(&path.len(), |(end, _)| *end).ok()?;
        if !self.path.starts_with(path) {
            return None;
        }
        self.above.truncate(depth + 1);
        self.path.truncate(path.len());
        Some(self.above[depth].1)
    }

    /// The snapshot is complete, and was taken at `zxid`. Adds the system nodes that it lacks.
    pub fn finish(mut self, zxid: Zxid) -> Result<Tree, String> {
        self.index()?;
        let mut tree = self.tree;
        let plain = (perms::ALL, 0);
        // Apache sets the ACL of the fresh config node to version -1.
        let config = (perms::READ, -1);
        let system = [(paths::ZOOKEEPER, plain), (paths::QUOTA, plain), (paths::CONFIG, config)];
        for (path, (perms, aversion)) in system {
            if tree.find(path).is_none() {
                let (parent, name) = paths::split(path).expect("system nodes have a parent");
                let parent = tree.find(parent).expect("parents come first");
                let stat = PersistedStat { aversion, ..PersistedStat::default() };
                tree.insert(parent, path, name, Some(b""), &[Acl::world(perms)], stat);
            }
        }
        tree.find_quotas();
        tree.zxid = zxid;
        Ok(tree)
    }

    fn index(&mut self) -> Result<(), String> {
        let tree = &mut self.tree;
        let hashes = std::mem::take(&mut self.hashes);
        let first = NodeId(ROOT.0 + 1);
        tree.index = Index::of(&tree.slab, first, &hashes)
            .map_err(|id| format!("the snapshot's znode {:?} is there twice", tree.path_of(id)))?;
        Ok(())
    }
}
