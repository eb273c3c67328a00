//! The newest part of a server's log, in memory: the window from which a leader serves a DIFF, and the
//! tail that is logged but not yet applied.
//!
//! ```text
//!   base      applied        last
//!    │ (window)  │   (tail)    │
//!    ▼           ▼             ▼
//!    ·  z z z z z  z z z z z z z
//! ```
//!
//! One history lives as long as the process and is handed from role to role; what a vote and an ACKEPOCH
//! call the last zxid is [`History::last`], never the tree's. Entries are contiguous, asserted at each
//! push: a hole here would later be a hole in a learner (ZOOKEEPER-4925).

use std::collections::VecDeque;
use std::sync::Arc;

use crate::types::{Entry, Zxid};

/// Applied entries that are kept for learners that lag a little (Apache's commitLogCount).
pub const WINDOW: usize = 500;

/// See the module's story.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The zxid before the first entry.
    base: Zxid,
    /// All up to here has been given to the tree.
    applied: Zxid,
    entries: VecDeque<Arc<Entry>>,
}

impl History {
    /// A history whose past, up to `base`, is only in the tree.
    pub fn new(base: Zxid) -> History {
        History { base, applied: base, entries: VecDeque::new() }
    }

    /// The zxid before the first entry.
    pub fn base(&self) -> Zxid {
        self.base
    }

    /// The last zxid given to the tree.
    pub fn applied(&self) -> Zxid {
        self.applied
    }

    /// The last zxid of all.
    pub fn last(&self) -> Zxid {
        self.entries.back().map_or(self.base, |entry| entry.zxid())
    }

    /// All entries, in order.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Arc<Entry>> {
        self.entries.iter()
    }

    /// The entries after `zxid`, in order.
    pub fn after(&self, zxid: Zxid) -> impl DoubleEndedIterator<Item = &Arc<Entry>> {
        let start = self.entries.partition_point(|entry| entry.zxid() <= zxid);
        self.entries.range(start..)
    }

    /// Is this zxid an entry here, or the base?
    pub fn contains(&self, zxid: Zxid) -> bool {
        zxid == self.base || self.entries.binary_search_by_key(&zxid, |entry| entry.zxid()).is_ok()
    }

    /// Adds an entry behind the last one.
    pub fn push(&mut self, entry: Arc<Entry>) {
        assert!(
            entry.zxid().follows(self.last()) || self.last().counter() == 0 && entry.zxid() > self.last(),
            "a history has no holes: {} does not follow {}",
            entry.zxid(),
            self.last()
        );
        self.entries.push_back(entry);
    }

    /// Everything up to `to` is committed: returns what has become applicable, and forgets what is older
    /// than the window.
    pub fn apply_to(&mut self, to: Zxid) -> Vec<Arc<Entry>> {
        assert!(to <= self.last(), "{to} cannot be applied: the history ends at {}", self.last());
        if to <= self.applied {
            return Vec::new();
        }
        let fresh: Vec<_> =
            self.after(self.applied).take_while(|entry| entry.zxid() <= to).cloned().collect();
        self.applied = to;
        self.trim();
        fresh
    }

    /// Forgets everything after `to` (TRUNC). What was applied beyond it must be loaded anew.
    pub fn truncate(&mut self, to: Zxid) {
        while self.entries.back().is_some_and(|entry| entry.zxid() > to) {
            self.entries.pop_back();
        }
        if self.entries.is_empty() {
            self.base = self.base.min(to);
        }
        self.applied = self.applied.min(to);
    }

    /// Starts anew behind a snapshot at `zxid` (SNAP).
    pub fn reset(&mut self, zxid: Zxid) {
        *self = History::new(zxid);
    }

    fn trim(&mut self) {
        let applied = self.entries.partition_point(|entry| entry.zxid() <= self.applied);
        for _ in WINDOW..applied {
            let oldest = self.entries.pop_front().expect("more than the window is applied");
            self.base = oldest.zxid();
        }
    }
}
