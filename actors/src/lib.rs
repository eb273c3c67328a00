//! The brain of zabra: ZooKeeper's coordination service as actors around pure cores.
//!
//! | actor | hears | says |
//! |---|---|---|
//! | `Node` | packets and links of peers, what log and snapshots have finished, the tick | starts and stops roles; routes to Election or the role |
//! | `Election` | notifications | notifications; `Elected` to Node |
//! | `Leader` | packets of learners, proposals of the replica | packets; `Append` to TxnLog; `Commit` to Replica |
//! | `Follower`, `Observer` | packets of the leader, writes of the replica | ACKs, forwarded writes; `Append`; `Commit` |
//! | `Replica` | requests of clients, committed entries | proposals or forwards; outcomes to WatchManager |
//! | `WatchManager` | outcomes, in order | what each connection writes to its socket |
//! | `SessionTracker` | touches | expired sessions; touch tables |
//! | `TxnLog` | entries, epochs, truncations | what is durable |
//! | `Snapshotter` | trees to save or to stream, pieces of a leader's snapshot | what is saved, sent, installed |

pub mod brain;
pub mod core;
pub mod election;
pub mod handle;
pub mod jute;
pub mod leader;
pub mod learner;
pub mod node;
pub mod ports;
pub mod questions;
pub mod replica;
pub mod role;
pub mod session_tracker;
pub mod snapshotter;
pub mod stats;
pub mod turn;
pub mod txn_log;
pub mod types;
pub mod watch_manager;
