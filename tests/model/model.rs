//! Model checking: every order of events in a small ensemble, within bounds.
//!
//! The cores of election, leader and follower are driven by the `stateright` crate: the code that runs in production,
//! not a copy. A state is the cores of three servers, their disks and what is under way between them; from each state
//! everything that may happen next is tried, and in each the rules are checked. Where a simulation tries some runs of
//! some length, this tries all, as long as there are only so many faults, roles and transactions.
//!
//! - `election`: who is elected, under losses, breaks, crashes and time-outs.
//! - `zab`: from Discovery to Broadcast, whoever takes itself for elected.
//! - `bounds`: how much of each; `run`: the command. `tests` makes mistakes around the cores and sees that they are
//!   found, each rule by one at least.
//!
//! ```text
//! cargo run --release --example model                      what CI explores
//! cargo run --release --example model -- --large           much more
//! cargo run --release --example model -- --only 'zab: a crash'
//! ```
//!
//! States are told apart by fingerprints of 64 bits: with ten million states the chance that two share one, and one of
//! them is missed, is about one in 400,000.

#![allow(missing_docs, clippy::unwrap_used)] // a test

mod bounds;
mod election;
mod run;
mod seen;
mod story;
#[cfg(test)]
mod tests;
mod wires;
mod zab;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match run::run(&run::Options::parse()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
