//! The body of zabra: everything the brain (`zabra-actors`) asks of a machine.

pub mod disk;
pub mod sim;
