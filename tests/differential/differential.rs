//! Compares zabra with Apache ZooKeeper, operation by operation.
//!
//! Sequences of requests are made from seeds (`generate`), kept to what can be compared (`tame`), played against
//! both servers (`play`), freed of what cannot be equal (`normalise`) and compared (`compare`), with the differences
//! that are right as named rules (`rules`, `only`). Whatever else differs is made as small as it will go (`shrink`)
//! and printed as a script that can be played again.
//!
//! ```text
//! cargo run --release --example differential -- --sequences 300
//! cargo run --release --example differential -- --replay tests/differential/cases/NAME.jsonl
//! ```

#![allow(missing_docs, clippy::unwrap_used)] // a test

mod compare;
mod control;
mod decode;
mod encode;
mod generate;
mod link;
mod model;
mod normalise;
mod only;
mod play;
mod requests;
mod rng;
mod rules;
mod run;
mod script;
mod servers;
mod session;
mod shrink;
mod tame;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    servers::kill_all_on_panic();
    match run::run(&run::Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("differential: {error}");
            ExitCode::FAILURE
        }
    }
}
