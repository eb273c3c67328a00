//! What a transaction does to the tree.
//!
//! A transaction was checked when it was made, so on the tree it was made for it cannot fail. A replay is
//! different: Apache's snapshots hold some effects of transactions that come after the zxid in their name,
//! and those transactions come again. So every rule also has an answer for a tree that is newer than the
//! transaction, and the answers converge: versions are absolute, counts only grow, what is missing is
//! NoNode, what is there already stays.

use super::digest::is_digested;
use super::node::{self, NodeId, ROOT};
use super::{Applied, PersistedStat, Tree};
use crate::core::paths;
use crate::core::quota::Usage;
use crate::core::watches::{Change, ChangeKind};
use crate::types::{Acl, Str, Txn, TxnBody, TxnHeader, WallMillis, ZkError, Zxid};

/// The parent's count of creates in creates of very old logs: count one more.
const UNKNOWN_CVERSION: i32 = -1;

/// The version of `/zookeeper/config` when no client has set it.
const OUTSIDE_VERSION: i32 = -1;

/// A create, whatever its kind.
struct Creation<'a> {
    path: &'a Str,
    data: Option<&'a [u8]>,
    acl: &'a [Acl],
    owner: i64,
    parent_cversion: i32,
}

impl Tree {
    /// Applies the next transaction and says what came of it; what watchers may want to hear is added
    /// to `changes`, in the order of events. Zxids never go back.
    pub fn apply(&mut self, txn: &Txn, changes: &mut Vec<Change>) -> Applied {
        let header = &txn.header;
        assert!(header.zxid > self.zxid, "{} does not come after {}", header.zxid, self.zxid);
        let applied = match &txn.body {
            // A session begins, or a new leader's log says again that it did.
            TxnBody::CreateSession { timeout_ms } => {
                self.sessions.insert(header.session, *timeout_ms);
                Applied::Session
            }
            // A session ends, and its ephemerals with it.
            TxnBody::CloseSession { paths } => {
                self.close_session(header, paths.as_deref().unwrap_or_default(), changes);
                Applied::Session
            }
            // All or nothing, under one zxid.
            TxnBody::Multi(members) => Applied::Multi(self.multi(header, members, changes)),
            change => self.apply_change(header, change, changes),
        };
        self.zxid = header.zxid;
        self.digests.note(self.zxid, self.digest);
        applied
    }

    /// A transaction that may also be a member of a multi.
    fn apply_change(&mut self, header: &TxnHeader, body: &TxnBody, changes: &mut Vec<Change>) -> Applied {
        let applied = match body {
            TxnBody::Create { kind, path, data, acl, ephemeral, parent_cversion } => {
                node::owner(*kind, header.session, *ephemeral).and_then(|owner| {
                    let parent_cversion = *parent_cversion;
                    self.create(
                        header,
                        Creation { path, data: data.as_deref(), acl, owner, parent_cversion },
                        changes,
                    )
                })
            }
            TxnBody::Delete { path, .. } => self.delete(header.zxid, path, changes).map(|()| Applied::Delete),
            TxnBody::SetData { path, data, version, .. } => {
                self.set_data(header, path, data.as_deref(), *version, changes)
            }
            TxnBody::SetAcl { path, acl, version } => self.set_acl(path, acl, *version),
            TxnBody::Check { .. } => Ok(Applied::Check),
            TxnBody::Error(code) => Ok(Applied::Error(*code)),
            // No leader makes these members, and no reader of logs or packets lets them pass.
            TxnBody::CreateSession { .. } | TxnBody::CloseSession { .. } | TxnBody::Multi(_) => {
                Err(ZkError::MarshallingError)
            }
        };
        applied.unwrap_or_else(|error| Applied::Error(error.code()))
    }

    /// One failed member fails all: 0 before it, RuntimeInconsistency after it, nothing is changed.
    fn multi(&mut self, header: &TxnHeader, members: &[TxnBody], changes: &mut Vec<Change>) -> Vec<Applied> {
        let is_culprit = |member: &TxnBody| matches!(member, TxnBody::Error(code) if *code != 0);
        let failed = members.iter().any(|member| matches!(member, TxnBody::Error(_)));
        let culprit = members.iter().position(is_culprit).unwrap_or(members.len());
        let apply = |(at, member): (usize, &TxnBody)| match member {
            TxnBody::Error(code) => Applied::Error(*code),
            _ if failed && at < culprit => Applied::Error(0),
            _ if failed => Applied::Error(ZkError::RuntimeInconsistency.code()),
            member => self.apply_change(header, member, changes),
        };
        members.iter().enumerate().map(apply).collect()
    }

    fn create(
        &mut self,
        header: &TxnHeader,
        creation: Creation<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<Applied, ZkError> {
        let path = creation.path;
        let (parent_path, name) = paths::split(path).ok_or(ZkError::BadArguments)?;
        if name.is_empty() {
            return Err(ZkError::BadArguments);
        }
        let parent = self.find(parent_path).ok_or(ZkError::NoNode)?;
        self.count_create(parent, parent_path, creation.parent_cversion, header.zxid);
        if let Some(existing) = self.child(parent, name) {
            // Replay: the znode is as new or newer; but its ACL may not have made it into the snapshot.
            self.replace_acl(existing, creation.acl);
            return Err(ZkError::NodeExists);
        }
        let (zxid, time) = (header.zxid.0, header.time);
        let stat = PersistedStat {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: time,
            mtime: time,
            ephemeral_owner: creation.owner,
            ..PersistedStat::default()
        };
        let id = self.insert(parent, path, name, creation.data, creation.acl, stat);
        changes.push(self.change(ChangeKind::Created, path, header.zxid, id, Some((parent, parent_path))));
        let stat = self.slab.get(id).client_stat(self.extended_types);
        self.quota_node_created(path);
        self.show_usage_over(path);
        Ok(Applied::Create(path.clone(), stat))
    }

    /// Counts a create on the parent, unless a newer tree has counted it already.
    fn count_create(&mut self, parent: NodeId, path: &str, cversion: i32, zxid: Zxid) {
        let now = self.slab.get(parent).stat.cversion;
        let then = if cversion == UNKNOWN_CVERSION { now.saturating_add(1) } else { cversion };
        // A full count stays, and so says nothing about which of two creates is the newer one.
        let is_full = now == i32::MAX && then == now && zxid.0 > self.slab.get(parent).stat.pzxid;
        if then > now || is_full {
            self.change_stat(parent, path, |stat| {
                stat.cversion = then;
                stat.pzxid = zxid.0;
            });
        }
    }

    fn delete(&mut self, zxid: Zxid, path: &Str, changes: &mut Vec<Change>) -> Result<(), ZkError> {
        if paths::is_special(path) {
            return Err(ZkError::BadArguments);
        }
        let (parent_path, name) = paths::split(path).ok_or(ZkError::BadArguments)?;
        let parent = self.find(parent_path).ok_or(ZkError::NoNode)?;
        // Before the znode is looked up: in a newer tree it is gone, and the parent's pzxid has yet to know.
        if zxid.0 > self.slab.get(parent).stat.pzxid {
            self.change_stat(parent, parent_path, |stat| stat.pzxid = zxid.0);
        }
        let id = self.child(parent, name).ok_or(ZkError::NoNode)?;
        changes.push(self.change(ChangeKind::Deleted, path, zxid, id, Some((parent, parent_path))));
        self.quota_node_deleted(path, parent);
        let was_alone = self.slab.get(id).children().is_empty();
        self.remove(id, path);
        if was_alone {
            self.show_usage_over(path);
        } else {
            self.find_quotas();
        }
        Ok(())
    }

    fn set_data(
        &mut self,
        header: &TxnHeader,
        path: &Str,
        data: Option<&[u8]>,
        version: i32,
        changes: &mut Vec<Change>,
    ) -> Result<Applied, ZkError> {
        let id = self.find(path).ok_or(ZkError::NoNode)?;
        let node = self.slab.get_mut(id);
        let before = (node.digest(), node.data_len());
        node.set_data(path, data);
        node.stat.version = version;
        node.stat.mzxid = header.zxid.0;
        node.stat.mtime = header.time;
        let after = (node.digest(), node.data_len());
        let stat = node.client_stat(self.extended_types);
        self.resize(id, before.1, after.1);
        if is_digested(path) {
            self.digest = self.digest.wrapping_sub(before.0).wrapping_add(after.0);
        }
        changes.push(self.change(ChangeKind::DataChanged, path, header.zxid, id, None));
        self.quota_node_set(path);
        self.show_usage_over(path);
        Ok(Applied::SetData(stat))
    }

    /// What this server was told about its ensemble, into `/zookeeper/config`: outside of any transaction, with
    /// version -1 and no zxid, as Apache does at start. What a client has written there by a transaction (which
    /// it may when it is `super`, or was given the right) stays: the other members have it, too.
    pub fn set_config(&mut self, text: &str, since: WallMillis) {
        let Some(id) = self.find(paths::CONFIG) else { return };
        let stat = self.slab.get(id).stat;
        if stat.mzxid != 0 && stat.version != OUTSIDE_VERSION {
            return;
        }
        let node = self.slab.get_mut(id);
        let before = node.data_len();
        node.set_data(paths::CONFIG, Some(text.as_bytes()));
        node.stat.version = OUTSIDE_VERSION;
        node.stat.mzxid = 0;
        node.stat.mtime = since;
        // The digest does not count it: members may differ in what no transaction says.
        self.resize(id, before, text.len());
    }

    /// Gives a znode that the digest does not count other data, and changes nothing else of it.
    pub(super) fn set_data_silently(&mut self, id: NodeId, data: &[u8]) {
        let node = self.slab.get_mut(id);
        let before = node.data_len();
        node.data = Some(data.into());
        self.resize(id, before, data.len());
    }

    /// The data of a znode has another length.
    fn resize(&mut self, id: NodeId, before: usize, after: usize) {
        if before != after {
            self.data_size = self.data_size - before as u64 + after as u64;
            self.for_all_above(id, |above| above.add_below(Usage::of_data(before, after)));
        }
    }

    fn set_acl(&mut self, path: &str, acl: &[Acl], version: i32) -> Result<Applied, ZkError> {
        let id = self.find(path).ok_or(ZkError::NoNode)?;
        self.replace_acl(id, acl);
        self.change_stat(id, path, |stat| stat.aversion = version);
        Ok(Applied::SetAcl(self.slab.get(id).client_stat(self.extended_types)))
    }

    /// Deletes the listed paths, in their order, and whatever else the session still has: a log of before
    /// 3.6 lists nothing. On replay some are gone already.
    fn close_session(&mut self, header: &TxnHeader, paths: &[Str], changes: &mut Vec<Change>) {
        self.sessions.remove(&header.session);
        for path in paths {
            let _gone_already = self.delete(header.zxid, path, changes);
        }
        for path in self.ephemerals(header.session) {
            let _below_a_deleted_one = self.delete(header.zxid, &path, changes);
        }
    }

    /// Puts a new znode into everything that knows about znodes.
    pub(super) fn insert(
        &mut self,
        parent: NodeId,
        path: &str,
        name: &str,
        data: Option<&[u8]>,
        acl: &[Acl],
        stat: PersistedStat,
    ) -> NodeId {
        let id = self.place(parent, path, name, data, acl, stat);
        self.index.insert(&self.slab, id);
        id
    }

    /// Puts a new znode into everything but the index.
    pub(super) fn place(
        &mut self,
        parent: NodeId,
        path: &str,
        name: &str,
        data: Option<&[u8]>,
        acl: &[Acl],
        stat: PersistedStat,
    ) -> NodeId {
        assert!(!name.is_empty() && path.ends_with(name), "{name:?} is the last name of {path:?}");
        let mut node = super::Node::new(name, parent, self.acls.acquire(acl), stat);
        node.set_data(path, data);
        self.data_size += (path.len() + node.data_len()) as u64;
        if is_digested(path) {
            self.digest = self.digest.wrapping_add(node.digest());
        }
        let id = self.slab.insert(node);
        let slot = self.slab.get_mut(parent).push_child(id);
        self.slab.get_mut(id).slot = slot;
        let more = self.slab.get(id).subtree();
        self.for_all_above(id, |above| above.add_below(more));
        self.own(id, stat.ephemeral_owner);
        id
    }

    /// Takes a znode out of everything. It has no children, but on replay: a znode that was deleted and
    /// made anew before the snapshot was complete may hold later children. They go, too: the log that
    /// made them has to come again.
    fn remove(&mut self, top: NodeId, path: &str) {
        let node = self.slab.get(top);
        let (parent, slot, going) = (node.parent, node.slot, node.subtree());
        self.for_all_above(top, |above| above.add_below(-going));
        if let Some(moved) = self.slab.get_mut(parent).remove_child(slot) {
            self.slab.get_mut(moved).slot = slot;
        }
        let (mut at, mut path_len) = (top, path.len());
        loop {
            while let Some(child) = self.slab.get(at).children().last() {
                at = *child;
                path_len += 1 + self.slab.get(at).name.as_bytes().len();
            }
            let node = self.slab.get(at);
            let (above, slot, name_len) = (node.parent, node.slot, node.name.as_bytes().len());
            self.forget(at, path_len, is_digested(path));
            if at == top {
                return;
            }
            self.slab.get_mut(above).remove_child(slot);
            at = above;
            path_len -= 1 + name_len;
        }
    }

    /// The parent and everything above it.
    fn for_all_above(&mut self, mut id: NodeId, mut change: impl FnMut(&mut super::Node)) {
        while id != ROOT {
            id = self.slab.get(id).parent;
            change(self.slab.get_mut(id));
        }
    }

    /// Takes a znode that nobody lists any more out of the rest.
    fn forget(&mut self, id: NodeId, path_len: usize, digested: bool) {
        self.index.remove(&self.slab, id);
        let node = self.slab.remove(id);
        self.acls.release(node.acl);
        self.data_size -= (path_len + node.data_len()) as u64;
        if digested {
            self.digest = self.digest.wrapping_sub(node.digest());
        }
        self.disown(id, node.stat.ephemeral_owner);
    }

    /// Changes a Stat, and the digest with it.
    fn change_stat(&mut self, id: NodeId, path: &str, change: impl FnOnce(&mut PersistedStat)) {
        let node = self.slab.get_mut(id);
        let before = node.digest();
        change(&mut node.stat);
        let after = node.digest();
        if is_digested(path) {
            self.digest = self.digest.wrapping_sub(before).wrapping_add(after);
        }
    }

    /// The ACL is not part of the digest.
    pub(super) fn replace_acl(&mut self, id: NodeId, acl: &[Acl]) {
        let new = self.acls.acquire(acl);
        let old = std::mem::replace(&mut self.slab.get_mut(id).acl, new);
        self.acls.release(old);
    }

    fn change(
        &self,
        kind: ChangeKind,
        path: &Str,
        zxid: Zxid,
        id: NodeId,
        parent: Option<(NodeId, &str)>,
    ) -> Change {
        let acl_of = |id: NodeId| self.acls.get(self.slab.get(id).acl).clone();
        let parent = parent.map(|(id, path)| (path.into(), acl_of(id)));
        Change { kind, path: path.clone(), zxid, acl: acl_of(id), parent }
    }
}
