//! What the tree will look like: proposals that are not applied yet, and the draft of the next one.
//!
//! Both are sparse: they hold the znodes that change (a node that is gone is held as gone) and look through
//! to what is below them for all others. A draft is made for one transaction; it is either absorbed by the
//! overlay as a whole or dropped, which is all that undoing a failed multi takes.
//!
//! A draft leaves its znodes exactly as applying the transaction will leave them, the whole Stat included: the
//! digest that the tree will have is part of the transaction. It is summed up when the draft is absorbed, from
//! what each changed znode added before and adds now.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::charges::{Charged, Charges};
use crate::core::acl::MAX_EXPANSION;
use crate::core::paths;
use crate::core::quota::{Excess, Remark, Usage};
use crate::core::tree::{PersistedStat, Tree, content_crc, is_digested, node_digest};
use crate::types::{Acl, SessionId, Str, WallMillis, Zxid};

/// What a later write may ask about a znode. Of the data there is only a checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// As the tree keeps it; `cversion` counts the children ever created.
    pub stat: PersistedStat,
    /// Children now.
    pub children: usize,
    /// Who may do what.
    pub acl: Arc<[Acl]>,
    /// The session of an ephemeral, else [`SessionId::NONE`].
    pub session: SessionId,
    /// Bytes of data; 0 when null.
    pub data_len: usize,
    /// See [`content_crc`].
    content_crc: u32,
    /// What it added to the digest before the draft that changes it.
    added: i64,
}

impl Node {
    fn digest(&self, path: &str) -> i64 {
        if is_digested(path) { node_digest(self.content_crc, &self.stat) } else { 0 }
    }
}

/// What a draft makes of a znode.
#[derive(Debug)]
pub struct Change {
    /// What the znode added to the digest before; 0 when there was none.
    added: i64,
    /// `None` is one that is gone.
    node: Option<Node>,
}

/// Changed znodes by path. The root is `/`.
type Znodes = BTreeMap<Str, Change>;

/// All that a draft changes.
#[derive(Debug, Default)]
pub struct Changes {
    znodes: Znodes,
    charged: Charged,
}

/// The znode as it is applied.
fn applied_node(tree: &Tree, path: &str) -> Option<Node> {
    let found = tree.get(path)?;
    let mut node = Node {
        stat: found.persisted(),
        children: found.child_count(),
        acl: Arc::clone(found.acl()),
        session: found.session().unwrap_or(SessionId::NONE),
        data_len: found.data().map_or(0, <[u8]>::len),
        content_crc: found.content_crc(),
        added: 0,
    };
    node.added = node.digest(path);
    Some(node)
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
    charges: Charges,
}

impl Overlay {
    /// Takes over what a transaction changes, and says by how much the digest of the tree changes with it.
    pub fn absorb(&mut self, zxid: Zxid, changes: Changes) -> i64 {
        let mut more = 0_i64;
        self.charges.absorb(zxid, changes.charged);
        for (path, Change { added, mut node }) in changes.znodes {
            self.forget(&path);
            more = more.wrapping_sub(added);
            if let Some(node) = &mut node {
                node.added = node.digest(&path);
                more = more.wrapping_add(node.added);
                if node.session != SessionId::NONE {
                    self.ephemerals.insert((node.session, path.clone()));
                }
            }
            self.order.push_back((zxid, path.clone()));
            self.pending.insert(path, Pending { zxid, node });
        }
        more
    }

    /// Drops what the tree knows by now.
    pub fn applied(&mut self, zxid: Zxid) {
        self.charges.applied(zxid);
        while self.order.front().is_some_and(|(at, _)| *at <= zxid) {
            let (_, path) = self.order.pop_front().expect("it has a front");
            if self.pending.get(&path).is_some_and(|pending| pending.zxid <= zxid) {
                self.forget(&path);
            }
        }
    }

    fn forget(&mut self, path: &Str) {
        if let Some(Pending { node: Some(node), .. }) = self.pending.remove(path)
            && node.session != SessionId::NONE
        {
            self.ephemerals.remove(&(node.session, path.clone()));
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

    /// Does anything that is not applied yet change this znode?
    pub fn is_pending(&self, path: &str) -> bool {
        self.pending.contains_key(path)
    }

    /// Is nothing pending?
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        let znodes = self.pending.is_empty() && self.order.is_empty() && self.ephemerals.is_empty();
        znodes && self.charges.is_empty()
    }
}

/// A znode that a draft makes.
pub struct NewNode<'a> {
    /// The owner field of its Stat: a session, a mark, or 0.
    pub owner: i64,
    /// The session of an ephemeral, else [`SessionId::NONE`].
    pub session: SessionId,
    /// Normalised.
    pub acl: &'a [Acl],
    /// `None` is null.
    pub data: Option<&'a Bytes>,
}

/// The changes of the transaction that is being made, over all that is proposed, over the tree.
pub struct Draft<'a> {
    tree: &'a Tree,
    overlay: &'a Overlay,
    zxid: Zxid,
    time: WallMillis,
    changes: Changes,
    /// What `auth` entries of its lists may still become, in bytes.
    pub room: usize,
    /// What operators should know of it, also when nothing comes of it.
    pub remarks: Vec<Remark>,
}

impl<'a> Draft<'a> {
    /// Nothing changed yet; what will be changed is changed by this transaction, at this time.
    pub fn new(tree: &'a Tree, overlay: &'a Overlay, zxid: Zxid, time: WallMillis) -> Draft<'a> {
        let (changes, remarks) = Default::default();
        Draft { tree, overlay, zxid, time, changes, room: MAX_EXPANSION, remarks }
    }

    /// The znode as this transaction would leave it so far.
    pub fn get(&self, path: &str) -> Option<Node> {
        if let Some(change) = self.changes.znodes.get(path) {
            return change.node.clone();
        }
        match self.overlay.pending.get(path) {
            Some(pending) => pending.node.clone(),
            None => applied_node(self.tree, path),
        }
    }

    /// Would this be more than the quota over the znode allows, together with all that is on its way? The remarks say
    /// what of it is exceeded; the answer is whether a hard limit is.
    pub fn exceeds_quota(&mut self, path: &str, more: Usage, enforced: bool) -> bool {
        let quotas = self.tree.quotas_over(path);
        let Some(quota) = quotas.last().filter(|quota| quota.is_shown && more != Usage::NONE) else {
            return false;
        };
        let Some(limits) = quota.limits else {
            self.remarks.push(Remark::Unreadable(quota.path.clone()));
            return false;
        };
        let mut used = quota.used;
        used += self.overlay.charges.to(quota.path);
        used += self.changes.charged.get(quota.path).copied().unwrap_or(Usage::NONE);
        let exceeded = limits.exceeded(quota.path, used, more);
        let over_hard = exceeded.iter().any(|excess| excess.hard);
        let remark = |excess: Excess| Remark::Exceeded { refused: excess.hard && enforced, excess };
        self.remarks.extend(exceeded.into_iter().map(remark));
        over_hard
    }

    /// The quotas over a znode hold this much more, or less.
    fn charge(&mut self, path: &str, more: Usage) {
        for quota in self.tree.quotas_over(path) {
            *self.changes.charged.entry(quota.path.clone()).or_default() += more;
        }
    }

    /// The znode, as it was got from here, has new data.
    pub fn set_data(&mut self, path: &Str, mut node: Node, data: Option<&Bytes>, version: i32) {
        let data_len = data.map_or(0, Bytes::len);
        self.charge(path, Usage::of_data(node.data_len, data_len));
        node.data_len = data_len;
        node.content_crc = content_crc(path, data.map(|data| &data[..]));
        node.stat.version = version;
        node.stat.mzxid = self.zxid.0;
        node.stat.mtime = self.time;
        self.put(path, node);
    }

    /// The znode, as it was got from here, has a new ACL.
    pub fn set_acl(&mut self, path: &Str, mut node: Node, acl: &[Acl], version: i32) {
        node.acl = Arc::from(acl);
        node.stat.aversion = version;
        self.put(path, node);
    }

    /// A new znode; its parent counts it.
    pub fn create(&mut self, path: &Str, new: NewNode<'_>) {
        let zxid = self.zxid.0;
        self.with_parent(path, |parent| {
            parent.stat.cversion = parent.stat.cversion.saturating_add(1);
            parent.stat.pzxid = zxid;
            parent.children += 1;
        });
        let stat = PersistedStat {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: self.time,
            mtime: self.time,
            ephemeral_owner: new.owner,
            ..PersistedStat::default()
        };
        let data_len = new.data.map_or(0, Bytes::len);
        self.charge(path, Usage::of_one(data_len));
        // It may be one that this transaction has deleted before.
        let added = self.changes.znodes.get(path).map_or(0, |change| change.added);
        let content_crc = content_crc(path, new.data.map(|data| &data[..]));
        let (session, acl) = (new.session, Arc::from(new.acl));
        self.put(path, Node { stat, children: 0, acl, session, data_len, content_crc, added });
    }

    /// The znode, as it was got from here, is gone; its parent counts it no more.
    pub fn remove(&mut self, path: &Str, node: Node) {
        let zxid = self.zxid.0;
        self.with_parent(path, |parent| {
            parent.stat.pzxid = zxid;
            parent.children = parent.children.saturating_sub(1);
        });
        self.charge(path, -Usage::of_one(node.data_len));
        self.changes.znodes.insert(Str::clone(path), Change { added: node.added, node: None });
    }

    fn with_parent(&mut self, path: &str, change: impl FnOnce(&mut Node)) {
        let Some((parent, _)) = paths::split(path) else { return };
        if let Some(mut node) = self.get(parent) {
            change(&mut node);
            self.put(&parent.into(), node);
        }
    }

    fn put(&mut self, path: &Str, node: Node) {
        self.changes.znodes.insert(Str::clone(path), Change { added: node.added, node: Some(node) });
    }

    /// The transaction stands: what it changes.
    pub fn into_changes(self) -> Changes {
        self.changes
    }
}
