//! The quotas of the tree: which subtrees have one, and the znodes that show what they hold.
//!
//! Every znode knows how much is below it, so what a subtree holds is looked up, never summed, and is right after
//! a restart, a snapshot or the deletion of anything. A change writes the text of each `zookeeper_stats` above it,
//! outside of any transaction as in Apache: no zxid, no version, no watch, and not in the digest.
//!
//! A quota begins with its `zookeeper_limits` and ends with it. Those on the root and on `/zookeeper` and below have
//! no effect: the servers' own znodes would count. (In Apache, one on the root ends the server.)

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Tree;
use super::node::{NodeId, ROOT};
use crate::core::paths;
use crate::core::quota::{LIMITS, Limits, STATS, Usage};
use crate::types::Str;

/// The quotas in force, by the directory of their two znodes. Shared with frozen trees.
pub(super) type Quotas = Arc<BTreeMap<NodeId, Quota>>;

#[derive(Clone, Debug)]
pub(super) struct Quota {
    path: Str,
    limits: Option<Limits>,
}

/// A quota as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaView<'a> {
    /// The top of the subtree.
    pub path: &'a Str,
    /// `None` when nobody can read them.
    pub limits: Option<Limits>,
    /// What the subtree holds.
    pub used: Usage,
    /// Has it a `zookeeper_stats`? Without one it is not enforced, as in Apache.
    pub is_shown: bool,
}

impl Tree {
    /// The quotas that a change of this znode counts for, the outermost first. The last one's limits apply.
    pub fn quotas_over(&self, path: &str) -> Vec<QuotaView<'_>> {
        self.directories_over(path).into_iter().map(|(dir, top)| self.quota_view(dir, top)).collect()
    }

    /// All quotas.
    pub fn quotas(&self) -> impl Iterator<Item = QuotaView<'_>> {
        self.quotas.iter().map(|(dir, quota)| self.quota_view(*dir, self.find(&quota.path)))
    }

    /// As long as this number stays, so does what [`Tree::quotas`] says.
    pub fn quota_changes(&self) -> u64 {
        self.quota_changes
    }

    fn quota_view(&self, dir: NodeId, top: Option<NodeId>) -> QuotaView<'_> {
        let Quota { path, limits } = &self.quotas[&dir];
        let is_shown = self.child(dir, STATS).is_some();
        QuotaView { path, limits: *limits, used: self.usage(top), is_shown }
    }

    /// The directories of the quotas over a znode, each with the top of its subtree, if that is there. Both are
    /// found name by name, so that a deep path costs no more than its length.
    fn directories_over(&self, path: &str) -> Vec<(NodeId, Option<NodeId>)> {
        let mut found = Vec::new();
        let (Some(names), false) = (path.strip_prefix('/'), self.quotas.is_empty()) else { return found };
        let (mut dir, mut top) = (self.find(paths::QUOTA), Some(ROOT));
        for name in names.split('/') {
            dir = dir.and_then(|dir| self.child(dir, name));
            top = top.and_then(|top| self.child(top, name));
            match dir {
                Some(dir) if self.quotas.contains_key(&dir) => found.push((dir, top)),
                Some(_) => {}
                None => break,
            }
        }
        found
    }

    /// What a znode and everything below it hold.
    fn usage(&self, top: Option<NodeId>) -> Usage {
        top.map_or(Usage::NONE, |top| self.slab.get(top).subtree())
    }

    /// A znode was created, deleted or has other data: the quotas above it say so.
    pub(super) fn show_usage_over(&mut self, path: &str) {
        for (dir, top) in self.directories_over(path) {
            self.show_usage(dir, self.usage(top));
        }
    }

    fn show_usage(&mut self, dir: NodeId, used: Usage) {
        self.quota_changes += 1;
        if let Some(stats) = self.child(dir, STATS) {
            self.set_data_silently(stats, used.to_string().as_bytes());
        }
    }

    /// A znode was created: is it one of a quota's two?
    pub(super) fn quota_node_created(&mut self, path: &str) {
        match quota_node(path) {
            Some((dir, LIMITS)) => self.begin_quota(dir),
            // Once also for those that are not in force: as Apache does.
            Some((dir, STATS)) => {
                let top = self.find(&dir[paths::QUOTA.len()..]);
                if let Some(dir) = self.find(dir) {
                    self.show_usage(dir, self.usage(top));
                }
            }
            _ => {}
        }
    }

    /// A znode has other data. What a client has written into a `zookeeper_stats` does not stay.
    pub(super) fn quota_node_set(&mut self, path: &str) {
        if let Some((dir, LIMITS | STATS)) = quota_node(path)
            && self.find(dir).is_some_and(|dir| self.quotas.contains_key(&dir))
        {
            self.begin_quota(dir);
        }
    }

    /// A znode goes.
    pub(super) fn quota_node_deleted(&mut self, path: &str, parent: NodeId) {
        if let Some((_, LIMITS)) = quota_node(path) {
            Arc::make_mut(&mut self.quotas).remove(&parent);
            self.quota_changes += 1;
        }
    }

    /// The quota of this directory is in force from now on, with these limits.
    fn begin_quota(&mut self, dir_path: &str) {
        let path = &dir_path[paths::QUOTA.len()..];
        let (Some(dir), true) = (self.find(dir_path), may_have_quota(path)) else { return };
        let limits = self.child(dir, LIMITS).and_then(|id| Limits::parse(self.slab.get(id).data.as_deref()));
        let quota = Quota { path: path.into(), limits };
        Arc::make_mut(&mut self.quotas).insert(dir, quota);
        self.show_usage(dir, self.usage(self.find(path)));
    }

    /// Looks for all quotas anew, and shows what they hold.
    pub(super) fn find_quotas(&mut self) {
        self.quotas = Quotas::default();
        let mut dirs = Vec::new();
        let mut left = Vec::from_iter(self.find(paths::QUOTA));
        while let Some(id) = left.pop() {
            let node = self.slab.get(id);
            left.extend(node.children());
            if node.name.as_bytes() == LIMITS.as_bytes() {
                dirs.push(node.parent);
            }
        }
        for dir in dirs {
            let path = self.path_of(dir);
            self.begin_quota(&path);
        }
    }
}

/// The directory and the name of what stands below `/zookeeper/quota`.
fn quota_node(path: &str) -> Option<(&str, &str)> {
    let below = path.strip_prefix(paths::QUOTA).is_some_and(|rest| rest.starts_with('/'));
    paths::split(path).filter(|_| below)
}

fn may_have_quota(path: &str) -> bool {
    let of_servers =
        path.strip_prefix(paths::ZOOKEEPER).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    !path.is_empty() && !of_servers
}
