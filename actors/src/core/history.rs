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
//!
//! "Applied" is what the tree holds, which is not the same as committed: a tree that was just loaded from
//! disk holds the whole log, and so does the tree of a leader that is not established yet and had to send
//! it as a snapshot. Nobody is served from such a tree, and a TRUNC below `applied` loads it anew.
//!
//! The window is bounded, by [`WINDOW`] as a rule; the tail by what a leader may have outstanding, which is the
//! replica's limit on requests.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::types::{Entry, Zxid};

/// Applied entries that are kept for learners that lag a little (Apache's commitLogCount).
pub const WINDOW: usize = 500;
/// Bytes of them that are kept: a DIFF is handed to its link in one go, and must be far below what a link
/// may have waiting. Whoever is further behind gets a SNAP, which is paced.
pub const WINDOW_BYTES: usize = 32 << 20;

/// See the module's story.
#[derive(Clone, Debug, Hash)]
pub struct History {
    /// How many applied entries are kept.
    window: usize,
    /// The log cannot be cut below this: what is older is in a snapshot, or may be.
    floor: Zxid,
    /// The zxid before the first entry.
    base: Zxid,
    /// All up to here has been given to the tree.
    applied: Zxid,
    entries: VecDeque<Arc<Entry>>,
    /// Of all entries together.
    bytes: usize,
}

impl Default for History {
    fn default() -> History {
        History::new(Zxid::ZERO)
    }
}

impl History {
    /// A history whose past, up to `base`, is only in the tree.
    pub fn new(base: Zxid) -> History {
        History { window: WINDOW, floor: base, base, applied: base, entries: VecDeque::new(), bytes: 0 }
    }

    /// Keeps so many applied entries from now on (the simulator: then a SNAP is nothing rare).
    pub fn keep(&mut self, window: usize) {
        self.window = window;
        self.trim();
    }

    /// The lowest zxid at which this server's log can be cut. It is where the history began, when the
    /// process or the last installed snapshot did, and stays there while the window moves on.
    pub fn floor(&self) -> Zxid {
        self.floor
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

    /// The entry of this zxid, if it is in memory.
    pub fn get(&self, zxid: Zxid) -> Option<&Arc<Entry>> {
        let at = self.entries.binary_search_by_key(&zxid, |entry| entry.zxid()).ok()?;
        self.entries.get(at)
    }

    /// The greatest zxid here (an entry's, or the base) that is below `zxid`.
    pub fn before(&self, zxid: Zxid) -> Option<Zxid> {
        let below = self.entries.partition_point(|entry| entry.zxid() < zxid);
        match below.checked_sub(1) {
            Some(at) => Some(self.entries[at].zxid()),
            None => Some(self.base).filter(|base| *base < zxid),
        }
    }

    /// How many entries are not applied.
    pub fn tail_len(&self) -> usize {
        self.entries.len() - self.entries.partition_point(|entry| entry.zxid() <= self.applied)
    }

    /// May an entry of this zxid be the next? Behind an epoch's mark any later one may: a mark is no
    /// transaction, it stands for everything before its epoch (Apache names such snapshots).
    pub fn admits(&self, zxid: Zxid) -> bool {
        let last = self.last();
        zxid.follows(last) || last.counter() == 0 && zxid > last && zxid.counter() > 0
    }

    /// Adds an entry behind the last one.
    pub fn push(&mut self, entry: Arc<Entry>) {
        assert!(
            self.admits(entry.zxid()),
            "a history has no holes: {} does not follow {}",
            entry.zxid(),
            self.last()
        );
        self.bytes += entry.bytes.len();
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
        assert!(to >= self.floor, "{to} is below {}, where this log can be cut at the lowest", self.floor);
        while let Some(entry) = self.entries.pop_back_if(|entry| entry.zxid() > to) {
            self.bytes -= entry.bytes.len();
        }
        if self.entries.is_empty() {
            self.base = self.base.min(to);
        }
        self.applied = self.applied.min(to);
    }

    /// Starts anew behind a snapshot at `zxid` (SNAP).
    pub fn reset(&mut self, zxid: Zxid) {
        *self = History { window: self.window, ..History::new(zxid) };
    }

    fn trim(&mut self) {
        let applied = self.entries.partition_point(|entry| entry.zxid() <= self.applied);
        let mut kept = applied;
        while kept > self.window || kept > 0 && self.bytes > WINDOW_BYTES {
            let oldest = self.entries.pop_front().expect("there are applied entries left");
            self.bytes -= oldest.bytes.len();
            self.base = oldest.zxid();
            kept -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::{Epoch, SessionId, Txn, TxnBody, TxnHeader};

    fn z(epoch: u32, counter: u32) -> Zxid {
        Zxid::new(Epoch(epoch), counter)
    }

    fn entry(zxid: Zxid) -> Arc<Entry> {
        let header = TxnHeader { session: SessionId::NONE, cxid: 0, zxid, time: 0 };
        Entry::new(Txn { header, body: TxnBody::Error(0), digest: None })
    }

    fn history(base: Zxid, zxids: &[Zxid]) -> History {
        let mut history = History::new(base);
        zxids.iter().for_each(|zxid| history.push(entry(*zxid)));
        history
    }

    fn zxids<'a>(entries: impl IntoIterator<Item = &'a Arc<Entry>>) -> Vec<Zxid> {
        entries.into_iter().map(|entry| entry.zxid()).collect()
    }

    #[test]
    fn large_entries_shrink_the_window() {
        let mut history = History::new(z(1, 0));
        for counter in 1..=40 {
            let mut large = (*entry(z(1, counter))).clone();
            large.bytes = Bytes::from(vec![0; 1 << 20]);
            history.push(Arc::new(large));
        }
        assert_eq!(history.entries().count(), 40, "a tail is never forgotten");
        history.apply_to(z(1, 40));
        assert_eq!((history.entries().count(), history.base()), (32, z(1, 8)));
        history.truncate(z(1, 30));
        history.push(entry(z(1, 31)));
        history.apply_to(z(1, 31));
        assert_eq!(history.entries().count(), 23, "what was cut makes room");
    }

    #[test]
    fn applying_hands_out_each_entry_once_and_in_order() {
        let mut history = history(Zxid::ZERO, &[z(1, 1), z(1, 2), z(2, 1)]);
        assert_eq!(history.tail_len(), 3);
        assert_eq!(zxids(&history.apply_to(z(1, 2))), [z(1, 1), z(1, 2)]);
        assert_eq!(zxids(&history.apply_to(z(1, 2))), []);
        assert_eq!((history.applied(), history.tail_len()), (z(1, 2), 1));
        assert_eq!(zxids(&history.apply_to(z(2, 1))), [z(2, 1)]);
    }

    #[test]
    fn the_window_moves_but_the_tail_and_the_floor_stay() {
        let all: Vec<_> = (1..=WINDOW as u32 + 10).map(|counter| z(1, counter)).collect();
        let mut history = history(Zxid::ZERO, &all);
        history.apply_to(z(1, 7));
        assert_eq!(history.base(), Zxid::ZERO, "nothing is older than the window yet");
        history.apply_to(z(1, WINDOW as u32 + 5));
        assert_eq!(history.base(), z(1, 5));
        assert_eq!(history.entries().count(), WINDOW + 5);
        assert_eq!(history.floor(), Zxid::ZERO);
    }

    #[test]
    fn looking_up_knows_entries_and_the_base() {
        let history = history(z(1, 4), &[z(1, 5), z(3, 2)]);
        assert!(history.contains(z(1, 4)) && history.contains(z(3, 2)) && !history.contains(z(2, 1)));
        assert!(history.get(z(1, 5)).is_some() && history.get(z(1, 4)).is_none());
        assert_eq!(history.before(z(9, 9)), Some(z(3, 2)));
        assert_eq!(history.before(z(3, 2)), Some(z(1, 5)));
        assert_eq!(history.before(z(1, 5)), Some(z(1, 4)));
        assert_eq!(history.before(z(1, 4)), None);
        assert_eq!(zxids(history.after(z(2, 0))), [z(3, 2)]);
    }

    #[test]
    fn truncating_takes_back_what_was_applied() {
        let mut history = history(z(1, 4), &[z(1, 5), z(1, 6), z(2, 1)]);
        history.apply_to(z(1, 6));
        history.truncate(z(1, 5));
        assert_eq!((history.last(), history.applied()), (z(1, 5), z(1, 5)));
        history.truncate(z(1, 4));
        assert_eq!((history.last(), history.base()), (z(1, 4), z(1, 4)));
        history.push(entry(z(1, 5)));
    }

    #[test]
    fn truncating_below_the_window_leaves_an_empty_one() {
        let all: Vec<_> = (1..=WINDOW as u32 + 10).map(|counter| z(1, counter)).collect();
        let mut history = history(Zxid::ZERO, &all);
        history.apply_to(z(1, WINDOW as u32 + 10));
        history.truncate(z(1, 3));
        assert_eq!((history.base(), history.last(), history.applied()), (z(1, 3), z(1, 3), z(1, 3)));
    }

    #[test]
    #[should_panic(expected = "cut at the lowest")]
    fn truncating_below_the_floor_is_a_bug() {
        history(z(1, 4), &[z(1, 5)]).truncate(z(1, 3));
    }

    #[test]
    #[should_panic(expected = "no holes")]
    fn a_hole_is_a_bug() {
        history(Zxid::ZERO, &[z(1, 1), z(1, 3)]);
    }

    #[test]
    fn a_mark_as_base_admits_any_later_transaction() {
        assert!(History::new(z(3, 0)).admits(z(3, 1)) && History::new(z(3, 0)).admits(z(3, 5)));
        assert!(!History::new(z(3, 0)).admits(z(2, 9)) && !History::new(z(3, 0)).admits(z(4, 0)));
        assert!(!History::new(z(3, 1)).admits(z(3, 3)), "behind a transaction there are no holes");
    }
}
