//! The znodes, the sessions, and what a transaction does to them.
//!
//! Two servers that start from equal trees and apply the same transactions have equal trees: nothing here
//! depends on anything else. Permissions, versions and the other conditions of a request are checked when
//! the leader makes the transaction (`prepare`); here it is carried out, whatever a replay finds.
//!
//! - [`Tree::apply`] and the rules that let a replay over a newer tree converge: `apply.rs`.
//! - Reading: [`Tree::get`] and [`NodeRef`], here; operators' lists: `listing.rs`.
//! - Snapshots: [`Tree::walk`], [`TreeLoader`]: `load.rs`.
//! - The digest of the tree: `digest.rs`.
//! - In memory: znodes in chunks (`slab.rs`), found by one hash table of parent and name (`index.rs`), with
//!   each distinct ACL once (`acls.rs`). A znode with 100 bytes of data takes about 275 bytes in all.
//!
//! `Clone` freezes: it copies pointers, not znodes, and the two trees then part chunk by chunk as either
//! changes. A snapshot is written from a frozen tree while the replica goes on.
//!
//! Nothing recurses over depth. Absent on purpose: quotas, and znodes outside of any transaction.

mod acls;
mod apply;
mod digest;
mod index;
mod listing;
mod load;
mod mortals;
mod node;
mod quotas;
mod slab;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use self::acls::AclTable;
pub use self::digest::{DIGEST_VERSION, content_crc, is_digested, node_digest};
use self::index::Index;
use self::listing::DigestLog;
pub use self::listing::{EphemeralPage, EphemeralPlace, SessionPage};
pub use self::load::{TreeLoader, Walk};
pub use self::mortals::{MortalPage, MortalPlace};
pub use self::node::{MAX_TTL_MS, owner, owner_ttl};
use self::node::{Node, NodeId, ROOT};
pub use self::quotas::QuotaView;
use self::quotas::Quotas;
use self::slab::Slab;
use crate::core::paths;
use crate::core::quota::Usage;
use crate::types::{Acl, SessionId, Stat, Str, Zxid};

/// What applying a transaction (or one member of a multi) came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Applied {
    /// Created: the path and the Stat right after.
    Create(Str, Stat),
    /// Deleted.
    Delete,
    /// Data set: the Stat right after.
    SetData(Stat),
    /// ACL set: the Stat right after.
    SetAcl(Stat),
    /// A check: nothing.
    Check,
    /// A session began or ended.
    Session,
    /// It failed when it was prepared (or, on replay over a newer tree, now): the code.
    Error(i32),
    /// One for each member.
    Multi(Vec<Applied>),
}

/// The fields of a znode as snapshots hold them; `cversion` is the count of creates below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // as in Stat
pub struct PersistedStat {
    pub czxid: i64,
    pub mzxid: i64,
    pub ctime: i64,
    pub mtime: i64,
    pub version: i32,
    pub cversion: i32,
    pub aversion: i32,
    pub ephemeral_owner: i64,
    pub pzxid: i64,
}

/// A znode as a snapshot writer sees it.
pub struct NodeView<'a> {
    /// `""` is the root.
    pub path: &'a str,
    /// `None` is null.
    pub data: Option<&'a [u8]>,
    /// Equal lists are one allocation: compare by pointer to number them.
    pub acl: &'a Arc<[Acl]>,
    /// The rest.
    pub stat: PersistedStat,
}

/// The replicated state: znodes and sessions, as of [`Tree::zxid`].
#[derive(Clone)]
pub struct Tree {
    zxid: Zxid,
    slab: Slab,
    index: Index,
    acls: AclTable,
    sessions: BTreeMap<SessionId, i32>,
    /// Flat, so that freezing a tree with many small sessions stays quick.
    ephemerals: BTreeSet<(SessionId, NodeId)>,
    /// Containers and TTL nodes, so that looking for those to reap is no walk over everything.
    mortals: BTreeSet<NodeId>,
    quotas: Quotas,
    /// How often something about a quota, or what it shows, has changed.
    quota_changes: u64,
    /// See [`Tree::set_extended_types`].
    extended_types: bool,
    digest: i64,
    digests: DigestLog,
    data_size: u64,
}

/// A znode as a reader sees it.
#[derive(Clone, Copy)]
pub struct NodeRef<'a> {
    tree: &'a Tree,
    node: &'a Node,
}

impl Default for Tree {
    fn default() -> Tree {
        Tree::new()
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree")
            .field("zxid", &self.zxid)
            .field("nodes", &self.node_count())
            .field("sessions", &self.sessions.len())
            .field("digest", &self.digest)
            .finish()
    }
}

impl Tree {
    /// The tree of a fresh ensemble: the root, `/zookeeper`, `/zookeeper/quota`, `/zookeeper/config`.
    pub fn new() -> Tree {
        TreeLoader::new().finish(Zxid::ZERO).expect("nothing is there twice")
    }

    /// The last transaction applied.
    pub fn zxid(&self) -> Zxid {
        self.zxid
    }

    /// The sum of all node digests (Apache's AdHash version 2), kept while applying.
    pub fn digest(&self) -> i64 {
        self.digest
    }

    /// Sessions and their time-outs in ms.
    pub fn sessions(&self) -> &BTreeMap<SessionId, i32> {
        &self.sessions
    }

    /// The time-out of a session in ms; `None` when there is no such session.
    pub fn session_timeout(&self, session: SessionId) -> Option<i32> {
        self.sessions.get(&session).copied()
    }

    /// The znode of a path; `""` and `/` are the root. Any string may be asked for.
    pub fn get(&self, path: &str) -> Option<NodeRef<'_>> {
        let id = self.find(path)?;
        Some(NodeRef { tree: self, node: self.slab.get(id) })
    }

    /// The paths of a session's ephemerals, sorted.
    pub fn ephemerals(&self, session: SessionId) -> Vec<Str> {
        let first = (session, NodeId(0));
        let last = (session, NodeId(u32::MAX));
        let mut paths: Vec<Str> =
            self.ephemerals.range(first..=last).map(|(_, id)| self.path_of(*id).into()).collect();
        paths.sort_unstable();
        paths
    }

    /// Znodes, the root and the system nodes included. Apache's znode_count: it has the root under two
    /// names and counts both, so a fresh tree has 5.
    pub fn node_count(&self) -> usize {
        self.slab.len() + 1
    }

    /// Ephemeral znodes.
    pub fn ephemeral_count(&self) -> usize {
        self.ephemerals.len()
    }

    /// Bytes of all paths and data (Apache's approximate_data_size, to which the root's second name, `/`,
    /// adds one byte).
    pub fn data_size(&self) -> u64 {
        self.data_size + 1
    }

    /// Distinct ACLs in use.
    pub fn acl_count(&self) -> usize {
        self.acls.len()
    }

    fn find(&self, path: &str) -> Option<NodeId> {
        if path.is_empty() || path == paths::ROOT {
            return Some(ROOT);
        }
        let mut names = path.strip_prefix('/')?.split('/');
        names.try_fold(ROOT, |parent, name| self.child(parent, name))
    }

    fn child(&self, parent: NodeId, name: &str) -> Option<NodeId> {
        self.index.find(&self.slab, parent, name.as_bytes())
    }

    /// Spells the path of a znode by walking up, from the last byte to the first.
    fn path_of(&self, id: NodeId) -> String {
        let mut length = 0;
        let mut at = id;
        while at != ROOT {
            let node = self.slab.get(at);
            length += node.name.as_bytes().len() + 1;
            at = node.parent;
        }
        let mut path = vec![b'/'; length];
        let mut end = length;
        at = id;
        while at != ROOT {
            let node = self.slab.get(at);
            let name = node.name.as_bytes();
            path[end - name.len()..end].copy_from_slice(name);
            end -= name.len() + 1;
            at = node.parent;
        }
        String::from_utf8(path).expect("names are UTF-8")
    }
}

impl<'a> NodeRef<'a> {
    /// `None` is null, which is not the same as empty.
    pub fn data(&self) -> Option<&'a [u8]> {
        self.node.data.as_deref()
    }

    /// The same, to keep: it shares the znode's allocation.
    pub fn shared_data(&self) -> Option<Bytes> {
        self.node.data.clone().map(Bytes::from_owner)
    }

    /// Who may do what.
    pub fn acl(&self) -> &'a Arc<[Acl]> {
        self.tree.acls.get(self.node.acl)
    }

    /// What clients see.
    pub fn stat(&self) -> Stat {
        self.node.client_stat(self.tree.extended_types)
    }

    /// What snapshots hold. Its `cversion` is the count of creates below: the next sequence number.
    pub fn persisted(&self) -> PersistedStat {
        self.node.stat
    }

    /// The CRC-32 of its path and data: what is constant in its digest while only the Stat changes.
    pub fn content_crc(&self) -> u32 {
        self.node.content_crc
    }

    /// The names of the children, in no order.
    pub fn children(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let tree = self.tree;
        self.node.children().iter().map(move |id| tree.slab.get(*id).name.as_str())
    }

    /// How many there are.
    pub fn child_count(&self) -> usize {
        self.node.children().len()
    }

    /// How many znodes there are below this one, however deep.
    pub fn descendant_count(&self) -> usize {
        self.node.below().count as usize
    }

    /// What this znode and everything below it hold.
    pub fn subtree(&self) -> Usage {
        self.node.subtree()
    }

    /// Does it go with a session?
    pub fn is_ephemeral(&self) -> bool {
        self.session().is_some()
    }

    /// The session it goes with.
    pub fn session(&self) -> Option<SessionId> {
        node::owner_session(self.node.stat.ephemeral_owner, self.tree.extended_types)
    }

    /// Is it a container: does the leader delete it when its last child is gone?
    pub fn is_container(&self) -> bool {
        node::is_container_owner(self.node.stat.ephemeral_owner)
    }

    /// The time to live in ms of a TTL node.
    pub fn ttl_ms(&self) -> Option<i64> {
        node::owner_ttl(self.node.stat.ephemeral_owner).filter(|_| self.tree.extended_types)
    }
}
