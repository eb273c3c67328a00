//! Pure cores: no actor, socket, file, clock or randomness. Each takes inputs and writes effects to a list;
//! the actor of the same name feeds it and carries out what it says.
//!
//! Those of ZAB can be cloned and hashed: a model checker goes on from one state in many ways, and knows the states
//! that it has seen.

pub mod acl;
pub mod containers;
pub mod election;
mod hash;
pub mod history;
pub mod leader;
pub mod learner;
pub mod mutant;
pub mod paths;
pub mod prepare;
pub mod quorum;
pub mod quota;
pub mod quota_log;
pub mod replica;
pub mod sessions;
pub mod snapshots;
pub mod sync;
pub mod tree;
pub mod watches;
