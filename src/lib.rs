//! The body of zabra: sockets, files, configuration and tools around the brain in `zabra-actors`.

pub mod bench;
pub mod client;
