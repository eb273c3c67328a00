//! When to take a snapshot: after so many transactions or bytes of log.
//!
//! As in Apache each interval is drawn anew, from the second half of what is allowed, so that the servers of an
//! ensemble do not write their snapshots all at once. What is drawn comes from a seed: equal seeds, equal draws.

use std::sync::Arc;

use crate::types::Entry;

/// See the module's story.
#[derive(Clone, Debug)]
pub struct SnapshotDue {
    /// At the latest.
    most: Amount,
    /// Until the next one.
    left: Amount,
    /// The state of the generator.
    seed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Amount {
    txns: u64,
    bytes: u64,
}

impl SnapshotDue {
    /// At the latest after `txns` transactions or `bytes` of log.
    pub fn new(txns: u64, bytes: u64, seed: u64) -> SnapshotDue {
        let most = Amount { txns, bytes };
        let mut due = SnapshotDue { most, left: most, seed };
        due.draw();
        due
    }

    /// These have been logged: is it time? If so, the next interval begins.
    pub fn is_due_after(&mut self, entries: &[Arc<Entry>]) -> bool {
        let bytes: usize = entries.iter().map(|entry| entry.bytes.len()).sum();
        self.left.txns = self.left.txns.saturating_sub(entries.len() as u64);
        self.left.bytes = self.left.bytes.saturating_sub(bytes as u64);
        let due = self.left.txns == 0 || self.left.bytes == 0;
        if due {
            self.draw();
        }
        due
    }

    fn draw(&mut self) {
        let Amount { txns, bytes } = self.most;
        self.left = Amount { txns: self.part_of(txns), bytes: self.part_of(bytes) };
    }

    /// More than half of it, and not more than all.
    fn part_of(&mut self, most: u64) -> u64 {
        let half = most / 2;
        half + 1 + self.random() % (most - half).max(1)
    }

    /// SplitMix64: small, and the same everywhere.
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::types::{SessionId, Txn, TxnBody, TxnHeader, Zxid};

    fn entry() -> Arc<Entry> {
        let header = TxnHeader { session: SessionId::NONE, cxid: 0, zxid: Zxid(1), time: 0 };
        Entry::new(Txn { header, body: TxnBody::Error(0), digest: None })
    }

    /// After how many transactions each of the first snapshots is due.
    fn intervals(txns: u64, bytes: u64, seed: u64) -> Vec<u64> {
        let (mut due, entry) = (SnapshotDue::new(txns, bytes, seed), entry());
        let mut interval = || (1..).find(|_| due.is_due_after(std::slice::from_ref(&entry))).unwrap();
        (0..20).map(|_| interval()).collect()
    }

    #[test]
    fn intervals_lie_in_the_upper_half_and_differ() {
        let drawn = intervals(1000, u64::MAX, 7);
        assert!(drawn.iter().all(|interval| (501..=1000).contains(interval)), "{drawn:?}");
        assert!(drawn.iter().collect::<BTreeSet<_>>().len() > 10, "{drawn:?}");
        assert_eq!(drawn, intervals(1000, u64::MAX, 7), "one seed, one sequence");
        assert_ne!(drawn, intervals(1000, u64::MAX, 8), "no two servers at once");
    }

    #[test]
    fn the_size_of_the_log_counts_as_well() {
        let size = entry().bytes.len() as u64;
        let drawn = intervals(u64::MAX, 100 * size, 7);
        assert!(drawn.iter().all(|interval| (51..=100).contains(interval)), "{drawn:?}");
    }

    #[test]
    fn the_smallest_intervals_are_kept() {
        assert!(intervals(2, u64::MAX, 1).iter().all(|interval| *interval == 2));
        assert!(intervals(1, u64::MAX, 1).iter().all(|interval| *interval == 1));
    }
}
