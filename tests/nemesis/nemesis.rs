//! Real servers under attack, real clients at work, and a check of everything the clients were told.
//!
//! The servers (`servers`), ours or Apache's (`software`), are processes, each in a network namespace and on a small disk
//! of its own (`sandbox`, `net`). Clients of two libraries (`worker`, `kazoo_worker.py`) write and read registers, draw ids,
//! hold locks and pass items through a queue, while the servers are killed, paused, cut off, slowed down and filled up (`faults`).
//! What the clients did and were told is a history (`entry`), which must keep to what ZooKeeper promises (`check`,
//! `linear`). That the checks can fail is shown by histories that were tampered with (`falsify`).
//!
//! ```text
//! tests/run nemesis --minutes 10 --seed 7
//! ```

#![allow(missing_docs, clippy::unwrap_used)] // a test

mod check;
mod clock;
mod entry;
mod falsify;
mod faults;
mod linear;
mod net;
mod plan;
mod reading;
mod report;
#[allow(dead_code)] // of another test, which needs more of it
#[path = "../differential/rng.rs"]
mod rng;
mod run;
mod sandbox;
mod servers;
mod software;
#[cfg(test)]
mod tests;
mod worker;
mod workers;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match run::run(&run::Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("nemesis: {error}");
            ExitCode::FAILURE
        }
    }
}
