//! What a worker is told: one JSON object, the first line of its standard input. When its input ends, it ends too.

use serde::{Deserialize, Serialize};

/// Everything is below this znode.
pub const ROOT: &str = "/nemesis";

/// Locks, and as many registers that they guard.
pub const LOCKS: usize = 2;

/// What one client does all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Job {
    Register,
    Id,
    Lock,
    Queue,
}

/// The work of one process: a client, with a session of its own, for each job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    pub name: String,
    /// `host:port` of each server. The n-th client begins with the n-th.
    pub servers: Vec<String>,
    pub jobs: Vec<Job>,
    pub seed: u64,
    pub session_ms: u64,
    /// An answer that takes longer is not waited for.
    pub answer_ms: u64,
    /// Between two operations of a client.
    pub pace_ms: u64,
    /// Registers in use at a time.
    pub registers: usize,
    /// How long those are in use: short, so that the search for an order has few operations.
    pub generation_ms: u64,
    /// When the first of them came into use, in nanoseconds of the clock.
    pub began: u64,
    /// Generations that there are.
    pub generations: u64,
}

/// The path of a register.
pub fn register(generation: u64, n: usize) -> String {
    format!("{ROOT}/registers/{generation}-{n}")
}
