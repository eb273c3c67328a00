//! What has happened at least once: a model that never gets anywhere breaks no rule.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! seen {
    ($($what:ident: $name:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum What { $($what,)* }

        const NAMES: &[&str] = &[$($name,)*];
    };
}

seen! {
    Established: "leaders established",
    Committed: "commits",
    Inherited: "commits of what an older leader had proposed",
    Diff: "DIFFs",
    Trunc: "TRUNCs",
    RefusedTrunc: "TRUNCs refused",
    Snap: "SNAPs",
    Ahead: "followers ahead of their leader",
    Torn: "torn appends",
    Synced: "syncs answered",
    Trusted: "lost disks made good",
    Observed: "INFORMs",
    RolledOver: "epochs begun without an election",
    Elected: "elections won",
    Joined: "elections joined",
    Settled: "fair runs to service",
}

#[derive(Debug, Default)]
pub struct Seen {
    counts: [AtomicU64; NAMES.len()],
}

impl Seen {
    pub fn note(&self, what: What) {
        self.counts[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn lacks(&self, what: What) -> bool {
        self.counts[what as usize].load(Ordering::Relaxed) == 0
    }

    pub fn name(what: What) -> &'static str {
        NAMES[what as usize]
    }

    /// What was seen, and in how many transitions.
    pub fn all(&self) -> BTreeMap<&'static str, u64> {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        NAMES.iter().copied().zip(counts).filter(|(_, count)| *count > 0).collect()
    }
}
