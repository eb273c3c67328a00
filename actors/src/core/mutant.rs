//! Mistakes put back, the historic ones of ZAB's implementations and a few of their kind: the proof that the checks can
//! fail.
//!
//! Each is a switch at the one place where the code does it right, `if mutated(Mutant::EpochBeforeLog)`; a run of the
//! simulator throws one, for all its servers ([`with`]). Builds for tests have the switches (debug builds, and those
//! with the feature `mutants`); in a release build [`mutated`] is the constant `false`, and nothing is left of them.
//!
//! Numbers are ZOOKEEPER's tickets. What of the others cannot be put back, the README says ("What we check").

use serde::{Deserialize, Serialize};

/// Lists the mistakes once, for the type and for [`Mutant::ALL`].
macro_rules! mutants {
    ($($(#[doc = $what:literal])+ $name:ident,)+) => {
        /// A mistake that every server of a run makes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Mutant {
            $($(#[doc = $what])+ $name,)+
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Mutant] = &[$(Mutant::$name,)+];
        }
    };
}

mutants! {
    /// What is acknowledged is not synced yet (3023: a faster recovery). I8, I9: what is acknowledged is durable.
    EarlyAck,
    /// Epochs are promised and taken over, and not saved (1653's kind). I6, I7: what is promised is on the disk.
    LateEpoch,
    /// A promise is sent while it is being saved (the same, within a moment). I6.
    PromiseBeforeSave,
    /// What comes before NEWLEADER is logged after its ACK (2678, 3911, 4646, 4785). I9: who acknowledges NEWLEADER
    /// holds the whole history.
    AckBeforeLog,
    /// The current epoch is saved before the history that it speaks of (4643). I9, the same on the disk.
    EpochBeforeLog,
    /// A proposal is acknowledged before NEWLEADER is (4685). I13.
    AckBeforeNewLeader,
    /// What comes before NEWLEADER is only in memory until then; the link may be lost before (5094). I8: what a server
    /// says of its log is what is in it. I4: behind what is in memory alone nothing can be logged.
    LogAtNewLeader,
    /// A leader's snapshot counts as taken over when it begins to come (3642). I8, I4, as above.
    SnapInMemory,
    /// What was proposed while a snapshot was made is not sent behind it (3104). I14: no holes.
    LateSyncPoint,
    /// A proposal is missing now and then in what a learner is sent (4925: a hole in the window). I14.
    Hole,
    /// Who is behind the window gets what is in it (4352, 2418). I14.
    DiffBehindWindow,
    /// TRUNC leaves the log as it is (1549: what was cut comes back). I12: nothing of an older branch survives.
    UncutLog,
    /// A server saves the tree that it has loaded, with whatever end of the log nobody has committed (1549, 1558: that
    /// snapshot survives a TRUNC). I12: snapshots hold what is committed.
    DirtySnapshot,
    /// A leader's snapshot is not synced before it counts (the one after TRUNC, as of 3.9.5). I8, I11: a start finds
    /// what was there.
    UnsyncedSnapshot,
    /// A tree is saved that is ahead of the own log (a leader's asynchronous commit, as of 3.9.5). I12.
    SnapshotAheadOfLog,
    /// A server votes and comes to its leader by its tree, though its log is longer (2845). I8: what it says of its log
    /// is what is in it.
    VoteByTree,
    /// A server with a role answers with its own epoch, not its leader's (1732, 1818). All that have a leader name it
    /// alike.
    OwnEpochVote,
    /// What is proposed is committed at once (4537's kind: a commit that outruns the log). I10: a quorum has it.
    EarlyCommit,
    /// A leader counts what it has handed to its log, not what is there (4537). I10.
    CountsUnsynced,
    /// A sync is answered by a leader that may be deposed (Jepsen's finding of 2019). I17: reads behind a sync are
    /// linearizable.
    SyncAlone,
    /// A closed session's ephemerals stay (reported by users, never settled). I16.
    KeptEphemerals,
    /// What a learner that returns says it has counts as acknowledged, though it is cut to what is committed and gets
    /// the rest once more. I8, I10: what a quorum once had must still be there.
    CountsWhatIsCut,
    /// A damaged end of a log passes for one that was never finished (as where a record that does not check ends a log
    /// in silence). I8: what was acknowledged is there after a start, or its lack is known.
    SilentDamage,
    /// A server votes and follows that may lack what it has acknowledged. I8: its word does not count.
    DoubtfulVotes,
    /// The end of a session is rounded down to a tick. I16: none expires early.
    EarlyExpiry,
}

impl Mutant {
    /// As commands name it: `epoch-before-log`.
    pub fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_ascii_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }
}

pub use switch::{AVAILABLE, mutated, with};

#[cfg(any(debug_assertions, feature = "mutants"))]
mod switch {
    use std::cell::Cell;

    use super::Mutant;

    /// Does this build have the switches?
    pub const AVAILABLE: bool = true;

    thread_local! {
        /// What the servers on this thread do wrong: a simulated ensemble has one thread.
        static MADE: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Is this mistake to be made?
    pub fn mutated(mutant: Mutant) -> bool {
        MADE.get() == Some(mutant)
    }

    /// Runs something with this mistake, on this thread.
    pub fn with<T>(mutant: Option<Mutant>, run: impl FnOnce() -> T) -> T {
        let before = MADE.replace(mutant);
        let done = run();
        MADE.set(before);
        done
    }
}

#[cfg(not(any(debug_assertions, feature = "mutants")))]
mod switch {
    use super::Mutant;

    /// Does this build have the switches?
    pub const AVAILABLE: bool = false;

    /// Is this mistake to be made? Never in this build.
    pub const fn mutated(_: Mutant) -> bool {
        false
    }

    /// Runs something without any mistake: this build knows none.
    pub fn with<T>(mutant: Option<Mutant>, run: impl FnOnce() -> T) -> T {
        assert!(mutant.is_none(), "this build cannot make mistakes on purpose");
        run()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_made_while_it_is_asked_for() {
        assert!(!mutated(Mutant::Hole));
        with(Some(Mutant::Hole), || assert!(mutated(Mutant::Hole) && !mutated(Mutant::EarlyAck)));
        assert!(!mutated(Mutant::Hole));
    }

    #[test]
    fn names_are_those_of_commands() {
        assert_eq!(Mutant::AckBeforeNewLeader.name(), "ack-before-new-leader");
    }
}
