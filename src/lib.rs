//! zabra: Apache ZooKeeper's coordination service, rebuilt in Rust out of actors. This crate is the body:
//! sockets, files, configuration and the operators' side. The brain is `zabra_actors`.

pub mod admin;
pub mod bench;
pub mod boot;
pub mod cli;
pub mod client;
pub mod config;
pub mod data;
pub mod disk;
pub mod logging;
pub mod net;
pub mod sim;
pub mod status;
pub mod stop;
pub mod up;
