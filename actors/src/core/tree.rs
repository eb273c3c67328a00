//! The znodes, the sessions, and what a transaction does to them.
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::core::watches::Change;
use crate::types::{Acl, SessionId, Stat, Str, Txn, Zxid};

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
    pub data: Option<&'a Bytes>,
    /// Equal lists are one allocation: compare by pointer to number them.
    pub acl: &'a Arc<[Acl]>,
    /// The rest.
    pub stat: PersistedStat,
}

/// The replicated state: znodes and sessions, as of [`Tree::zxid`].
#[derive(Clone, Debug)]
pub struct Tree {}

impl Tree {
    /// The tree of a fresh ensemble: the root, `/zookeeper`, `/zookeeper/quota`, `/zookeeper/config`.
    pub fn new() -> Tree {
        todo!()
    }

    /// The last transaction applied.
    pub fn zxid(&self) -> Zxid {
        todo!()
    }

    /// Applies the next transaction and says what came of it; what watchers may want to hear is added
    /// to `changes`, in the order of events. Zxids never go back.
    pub fn apply(&mut self, _txn: &Txn, _changes: &mut Vec<Change>) -> Applied {
        todo!()
    }

    /// The sum of all node digests (Apache's AdHash version 2), kept while applying.
    pub fn digest(&self) -> i64 {
        todo!()
    }

    /// Sessions and their time-outs in ms.
    pub fn sessions(&self) -> &BTreeMap<SessionId, i32> {
        todo!()
    }

    /// Every znode, depth first, a parent before its children.
    pub fn walk(&self, _visit: &mut dyn FnMut(NodeView<'_>)) {
        todo!()
    }

    /// A tree without anything, to load a snapshot into.
    pub fn unloaded() -> Tree {
        todo!()
    }

    /// Adds a session of a snapshot.
    pub fn load_session(&mut self, _session: SessionId, _timeout_ms: i32) {
        todo!()
    }

    /// Adds a znode of a snapshot; its parent must be there (`""` is the root and comes first).
    pub fn load_node(
        &mut self,
        _path: &str,
        _data: Option<Bytes>,
        _acl: Arc<[Acl]>,
        _stat: PersistedStat,
    ) -> Result<(), String> {
        todo!()
    }

    /// The snapshot is complete, and was taken at `zxid`. Adds the system nodes that it lacks.
    pub fn finish_load(&mut self, _zxid: Zxid) {
        todo!()
    }

    /// Znodes, the root and the system nodes included (Apache's znode_count).
    pub fn node_count(&self) -> usize {
        todo!()
    }

    /// Ephemeral znodes.
    pub fn ephemeral_count(&self) -> usize {
        todo!()
    }

    /// Bytes of all paths and data (Apache's approximate_data_size).
    pub fn data_size(&self) -> u64 {
        todo!()
    }
}
