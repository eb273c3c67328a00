//! The order of transactions: everything that anybody ever logged is a vertex with one parent, the transaction
//! before it in that log. The vertices form a tree; what is committed is one path from its root, and a server's
//! log is described by its end alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use zabra_actors::types::{Entry, Epoch, Zxid};

/// See the module's story.
#[derive(Default)]
pub(super) struct Order {
    vertices: BTreeMap<Zxid, Vertex>,
    /// The path that somebody has delivered, in order.
    committed: Vec<Zxid>,
}

pub(super) struct Vertex {
    pub(super) parent: Zxid,
    pub(super) entry: Arc<Entry>,
}

impl Order {
    /// The committed path's end.
    pub(super) fn tip(&self) -> Zxid {
        self.committed.last().copied().unwrap_or(Zxid::ZERO)
    }

    pub(super) fn is_committed(&self, zxid: Zxid) -> bool {
        self.committed.binary_search(&zxid).is_ok()
    }

    /// The last committed transaction before `zxid`.
    pub(super) fn committed_before(&self, zxid: Zxid) -> Zxid {
        let before = self.committed.partition_point(|at| *at < zxid);
        before.checked_sub(1).map_or(Zxid::ZERO, |at| self.committed[at])
    }

    /// The committed transactions after `zxid`.
    pub(super) fn committed_after(&self, zxid: Zxid) -> impl Iterator<Item = Zxid> {
        self.committed[self.committed.partition_point(|at| *at <= zxid)..].iter().copied()
    }

    /// The last committed transaction on the path that ends at `end`.
    pub(super) fn committed_on(&self, end: Zxid) -> Zxid {
        let mut at = end;
        while at != Zxid::ZERO && !self.is_committed(at) {
            at = self.vertices.get(&at).map_or(Zxid::ZERO, |vertex| vertex.parent);
        }
        at
    }

    pub(super) fn get(&self, zxid: Zxid) -> Option<&Vertex> {
        self.vertices.get(&zxid)
    }

    /// Somebody logs `entry` behind `parent`. True: nobody has before. An error is a violation of I3 or I4.
    pub(super) fn log(&mut self, entry: &Arc<Entry>, parent: Zxid) -> Result<bool, String> {
        let zxid = entry.zxid();
        if zxid <= parent {
            return Err(format!("I4: it logs {zxid} behind {parent}"));
        }
        match self.vertices.get(&zxid) {
            None => {
                self.vertices.insert(zxid, Vertex { parent, entry: entry.clone() });
                Ok(true)
            }
            Some(known) if known.parent != parent => {
                Err(format!("I4: it logs {zxid} behind {parent}, another behind {}", known.parent))
            }
            Some(known) if known.entry.bytes != entry.bytes => {
                Err(format!("I3: it logs {zxid} with other bytes than another"))
            }
            Some(_) => Ok(false),
        }
    }

    /// May `zxid` follow `at` in a log, as far as is known?
    pub(super) fn follows(&self, zxid: Zxid, at: Zxid) -> bool {
        self.vertices.get(&zxid).map_or_else(|| zxid.follows(at), |vertex| vertex.parent == at)
    }

    /// The last entry of an earlier epoch on the path that ends at `end`.
    pub(super) fn before_epoch(&self, epoch: Epoch, end: Zxid) -> Zxid {
        let mut at = end;
        while at.epoch() >= epoch
            && let Some(vertex) = self.vertices.get(&at)
        {
            at = vertex.parent;
        }
        at
    }

    /// Is `zxid` on the path that ends at `end`?
    pub(super) fn is_on_path(&self, zxid: Zxid, end: Zxid) -> bool {
        let mut at = end;
        loop {
            if at == zxid {
                return true;
            }
            if at < zxid || at == Zxid::ZERO {
                return false;
            }
            if self.is_committed(at) {
                return zxid == Zxid::ZERO || self.is_committed(zxid);
            }
            let Some(vertex) = self.vertices.get(&at) else { return false };
            at = vertex.parent;
        }
    }

    /// Everything up to `zxid` is delivered by somebody: what is new of it, in order. An error is a violation.
    pub(super) fn commit(&mut self, zxid: Zxid) -> Result<Vec<Arc<Entry>>, String> {
        let tip = self.tip();
        let mut fresh = Vec::new();
        let mut at = zxid;
        while at > tip {
            let Some(vertex) = self.vertices.get(&at) else {
                return Err(format!("I3: {at} is delivered and was never logged"));
            };
            fresh.push(vertex.entry.clone());
            at = vertex.parent;
        }
        if at != tip {
            return Err(format!("I2: {zxid} is delivered, whose path does not pass {tip}"));
        }
        fresh.reverse();
        self.committed.extend(fresh.iter().map(|entry| entry.zxid()));
        Ok(fresh)
    }
}
