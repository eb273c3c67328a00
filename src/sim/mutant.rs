//! Historic mistakes of ZAB's implementations, put between the production code and its disk or its network: the
//! proof that the checks can fail. Production code does not know of them.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A mistake that every server of a run makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mutant {
    /// What is acknowledged is not durable yet (ZOOKEEPER-2678, 3023, 3911: recovery that was made fast)
    EarlyAck,
    /// The epoch files lag behind what has been promised and taken over
    LateEpoch,
    /// TRUNC leaves the log as it is (ZOOKEEPER-1549: what was truncated comes back)
    UncutLog,
    /// A proposal is missing now and then in what a learner is sent (ZOOKEEPER-4925, 2418: a hole in the window)
    Hole,
    /// What is proposed is committed at once, without a quorum (ZOOKEEPER-4537: a commit that outruns the log)
    EarlyCommit,
}

/// Every how many proposals [`Mutant::Hole`] leaves one out.
pub const HOLE_EVERY: u64 = 20;
