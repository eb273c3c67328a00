//! How a learner is brought into step: DIFF, TRUNC or SNAP, decided by one pure function.
//!
//! What makes the choice safe is that two logs which both hold entries of an epoch agree up to the shorter
//! of the two: the epoch had one leader, and everybody's log is a prefix of what some leader had. So a
//! learner whose last entry we lack is cut back to our greatest entry of *the same epoch*. If we hold none of
//! that epoch, nobody knows where the logs part, and the learner gets the whole tree. (Apache cuts a learner
//! that is ahead to its own last zxid whatever its epoch, which the learner may not hold.)
//!
//! `(e, 0)` is no transaction. A learner that reports it took a snapshot from a fresh leader of `e`: it has
//! everything before `e`, and there is nothing to cut.
//!
//! Deliberately absent: reading older entries back from the log on disk (Apache's snapshotSizeFactor). Who
//! is further behind than the window gets a SNAP.

use crate::core::history::History;
use crate::core::mutant::{Mutant, mutated};
use crate::types::Zxid;

/// What comes first; everything in the history after [`Plan::after`] follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The learner's log is a prefix of ours.
    Diff,
    /// Its log has an end that ours has not: cut after this transaction, which both hold.
    Trunc {
        /// The last zxid to keep.
        to: Zxid,
    },
    /// The tree, as it is.
    Snap,
}

/// How to bring a learner into step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What comes first.
    pub method: Method,
    /// Where the learner is then: it lacks what comes after this.
    pub after: Zxid,
}

/// Decides for a learner whose log ends at `peer_last`.
pub fn plan(history: &History, peer_last: Zxid) -> Plan {
    let diff = Plan { method: Method::Diff, after: peer_last };
    if history.contains(peer_last) {
        return diff;
    }
    let snap = Plan { method: Method::Snap, after: history.applied() };
    match history.before(peer_last) {
        None if mutated(Mutant::DiffBehindWindow) => diff,
        // It is behind our window.
        None => snap,
        Some(_) if peer_last.counter() == 0 => diff,
        Some(ours) if ours.epoch() == peer_last.epoch() && ours.counter() > 0 => {
            Plan { method: Method::Trunc { to: ours }, after: ours }
        }
        Some(_) => snap,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Entry, Epoch, SessionId, Txn, TxnBody, TxnHeader};

    fn z((epoch, counter): (u32, u32)) -> Zxid {
        Zxid::new(Epoch(epoch), counter)
    }

    fn history(base: (u32, u32), applied: (u32, u32), zxids: &[(u32, u32)]) -> History {
        let mut history = History::new(z(base));
        for zxid in zxids {
            let header = TxnHeader { session: SessionId::NONE, cxid: 0, zxid: z(*zxid), time: 0 };
            history.push(Entry::new(Txn { header, body: TxnBody::Error(0), digest: None }));
        }
        history.apply_to(z(applied));
        history
    }

    #[test]
    fn the_table_of_all_cases() {
        const DIFF: Method = Method::Diff;
        const SNAP: Method = Method::Snap;
        let trunc = |to| Method::Trunc { to: z(to) };
        let ours = history((2, 3), (2, 5), &[(2, 4), (2, 5), (4, 1), (4, 2)]);
        let table = [
            ("it has all", (4, 2), DIFF, (4, 2)),
            ("it lacks the tail", (4, 1), DIFF, (4, 1)),
            ("it ends before an epoch it never saw", (2, 5), DIFF, (2, 5)),
            ("it ends where the window begins", (2, 3), DIFF, (2, 3)),
            ("it is behind the window", (2, 2), SNAP, (2, 5)),
            ("it is empty", (0, 0), SNAP, (2, 5)),
            ("it is ahead in our last epoch", (4, 7), trunc((4, 2)), (4, 2)),
            ("it is ahead in an older epoch", (2, 9), trunc((2, 5)), (2, 5)),
            ("it is ahead in an epoch we lack", (5, 1), SNAP, (2, 5)),
            ("it is between, in an epoch we lack", (3, 1), SNAP, (2, 5)),
            ("it reports the mark of an epoch we have", (4, 0), DIFF, (4, 0)),
            ("it reports the mark of an epoch we lack", (3, 0), DIFF, (3, 0)),
            ("it reports the mark of a later epoch", (5, 0), DIFF, (5, 0)),
            ("it reports the mark of an epoch before the window", (2, 0), SNAP, (2, 5)),
        ];
        for (case, peer_last, method, after) in table {
            assert_eq!(plan(&ours, z(peer_last)), Plan { method, after: z(after) }, "{case}: {peer_last:?}");
        }
    }

    #[test]
    fn a_short_history_has_cases_of_its_own() {
        let fresh = history((0, 0), (0, 0), &[]);
        assert_eq!(plan(&fresh, Zxid::ZERO), Plan { method: Method::Diff, after: Zxid::ZERO });
        assert_eq!(plan(&fresh, z((1, 1))).method, Method::Snap, "we hold nothing to cut it back to");
        let young = history((0, 0), (0, 0), &[(1, 1)]);
        assert_eq!(plan(&young, Zxid::ZERO), Plan { method: Method::Diff, after: Zxid::ZERO });
        let loaded = history((3, 4), (3, 4), &[]);
        assert_eq!(plan(&loaded, z((3, 4))).method, Method::Diff);
        assert_eq!(
            plan(&loaded, z((3, 6))).method,
            Method::Trunc { to: z((3, 4)) },
            "the base is held by both"
        );
        let marked = history((3, 0), (3, 0), &[]);
        assert_eq!(plan(&marked, z((3, 6))).method, Method::Snap, "nobody can cut to a mark");
    }
}
