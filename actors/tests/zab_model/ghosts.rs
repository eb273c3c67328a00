//! What an omniscient observer knows, and what must hold of it. The numbers are those of the properties in
//! the Zab papers and of what a disk must hold when something is said:
//!
//! - I1 one established leader an epoch; I2 what is delivered anywhere is a prefix of one order; I3 it was
//!   broadcast by the leader of its epoch, and is the same transaction; I4 in the order of its broadcast;
//!   I5 a leader has delivered everything older before it broadcasts.
//! - I6 current <= accepted, and neither goes down; I7 no log is newer than the accepted epoch.
//! - I8 what is acknowledged is durable; I9 who acknowledges NEWLEADER holds the leader's history and epoch.
//! - I10 what is committed is durable on a quorum, then and ever after.
//! - I13 no proposal is acknowledged before NEWLEADER.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zabra_actors::core::quorum::Ensemble;
use zabra_actors::types::{Entry, Epoch, Epochs, Sid, Tenure, Zxid};

use crate::server::Disk;

#[derive(Default)]
pub struct Ghosts {
    /// Who led an epoch.
    leaders: BTreeMap<Epoch, Sid>,
    /// The history each leader began with.
    beginnings: BTreeMap<(Epoch, Sid), Vec<Arc<Entry>>>,
    /// Everything that was ever broadcast.
    broadcast: BTreeMap<Zxid, Arc<Entry>>,
    /// The longest sequence that somebody has delivered.
    pub committed: Vec<Arc<Entry>>,
    /// The epoch that a learner was told in a stay.
    announced: BTreeMap<(Sid, Tenure), Epoch>,
    /// Stays whose NEWLEADER of an epoch is acknowledged.
    taken_over: BTreeSet<(Sid, Tenure, Epoch)>,
}

fn is_prefix(short: &[Arc<Entry>], long: &[Arc<Entry>]) -> bool {
    short.len() <= long.len() && short.iter().zip(long).all(|(a, b)| a == b)
}

impl Ghosts {
    /// A leader begins with this log, if it has not begun before.
    pub fn begins(&mut self, epoch: Epoch, leader: Sid, log: impl FnOnce() -> Vec<Arc<Entry>>) {
        self.beginnings.entry((epoch, leader)).or_insert_with(log);
    }

    /// A leader tells a learner its epoch.
    pub fn announced(&mut self, leader: Sid, to: Sid, tenure: Tenure, epoch: Epoch, disk: &Disk) {
        assert!(disk.epochs.accepted >= epoch, "I6: {leader:?} announces {epoch:?}, which it has not saved");
        self.announced.insert((to, tenure), epoch);
    }

    /// A learner says that it will follow nobody older.
    pub fn promised(&mut self, from: Sid, tenure: Tenure, disk: &Disk) {
        let epoch = self.announced[&(from, tenure)];
        assert!(disk.epochs.accepted >= epoch, "I6: {from:?} promises {epoch:?}, which it has not saved");
    }

    /// A leader is established.
    pub fn established(&mut self, epoch: Epoch, leader: Sid, tree: &[Arc<Entry>]) {
        let other = self.leaders.insert(epoch, leader);
        assert_eq!(other, None, "I1: {other:?} and {leader:?} lead epoch {epoch}");
        assert!(is_prefix(&self.committed, tree), "I5: {leader:?} leads {epoch} and lacks what is committed");
    }

    pub fn broadcast(&mut self, leader: Sid, entry: &Arc<Entry>) {
        let zxid = entry.zxid();
        assert_eq!(
            self.leaders.get(&zxid.epoch()),
            Some(&leader),
            "I3: {zxid} is not {leader:?}'s to broadcast"
        );
        let other = self.broadcast.insert(zxid, entry.clone());
        assert!(other.is_none(), "I3: {zxid} is broadcast twice");
    }

    /// A server that serves has this tree now; it had `seen` entries of it when it was checked last.
    pub fn delivered(&mut self, at: Sid, tree: &[Arc<Entry>], seen: usize) {
        for (i, entry) in tree.iter().enumerate().skip(seen) {
            let zxid = entry.zxid();
            assert_eq!(
                self.broadcast.get(&zxid),
                Some(entry),
                "I3: {at:?} delivers {zxid}, which was not broadcast"
            );
            let first = i == 0 || tree[i - 1].zxid().epoch() != zxid.epoch();
            assert!(!first || zxid.counter() == 1, "I4: {at:?} delivers {zxid} as the first of its epoch");
            assert!(i == 0 || zxid.follows(tree[i - 1].zxid()), "I4: {at:?} delivers {zxid} out of order");
        }
        let common = tree.len().min(self.committed.len());
        let from = seen.min(common);
        assert!(
            tree[from..common] == self.committed[from..common],
            "I2: {at:?} delivers {:?}, others {:?}",
            &tree[from..common],
            &self.committed[from..common]
        );
        self.committed.extend_from_slice(&tree[common..]);
    }

    /// A learner acknowledges.
    pub fn acknowledged(&mut self, from: Sid, to: Sid, tenure: Tenure, zxid: Zxid, disk: &Disk) {
        if zxid.counter() > 0 {
            assert!(
                self.taken_over.contains(&(from, tenure, zxid.epoch())),
                "I13: {from:?} acknowledges {zxid} before NEWLEADER"
            );
            assert!(disk.holds(zxid), "I8: {from:?} acknowledges {zxid}, which it does not hold");
            return;
        }
        self.taken_over.insert((from, tenure, zxid.epoch()));
        assert_eq!(disk.epochs.current, zxid.epoch(), "I9: {from:?} acknowledges NEWLEADER of another epoch");
        let beginning = &self.beginnings[&(zxid.epoch(), to)];
        assert!(
            is_prefix(beginning, &disk.all()),
            "I9: {from:?} acknowledges a history that it does not hold"
        );
    }

    /// A disk has changed.
    pub fn saved(&self, at: Sid, before: Epochs, disk: &Disk) {
        let Epochs { accepted, current } = disk.epochs;
        assert!(current <= accepted, "I6: {at:?} has epochs {:?}", disk.epochs);
        assert!(accepted >= before.accepted && current >= before.current, "I6: {at:?} goes back in epochs");
        assert!(
            disk.last().epoch() <= accepted,
            "I7: {at:?} logs {} with epochs {:?}",
            disk.last(),
            disk.epochs
        );
    }

    /// At any time.
    pub fn check_quorum<'a>(&self, ensemble: &Ensemble, disks: impl Iterator<Item = (Sid, &'a Disk)>) {
        let Some(last) = self.committed.last() else { return };
        let holders: BTreeSet<Sid> =
            disks.filter(|(_, disk)| disk.holds(last.zxid())).map(|(sid, _)| sid).collect();
        assert!(ensemble.contains_quorum(&holders), "I10: {last:?} is committed and only on {holders:?}");
    }
}
