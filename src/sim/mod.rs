//! The simulator: a whole ensemble, its clients, its network and its disks in one thread, under a paused
//! clock and one seed.
//!
//! What runs is the production brain and the production storage; only sockets, device and clock are
//! others. A run has three parts. First faults (`faults`), for a minute at least, while clients do what clients
//! do (`client`). Then a quorum heals, and clients must get on within a bounded time, whatever the others
//! do. Then everything heals, and all servers must serve the same. The [`checker`] looks at every step in
//! between.
//!
//! | file | what |
//! |---|---|
//! | `options` | what a run is made of, and what its seed decides |
//! | `faults` | the schedule: which fault when |
//! | `director` | stages it, heals, and demands progress |
//! | `net`, `server`, `watched` | the network, machines and processes, their stores |
//! | `mutants` | historic mistakes, and how soon the checker must find each |
//! | `client` | sessions, requests, watches, locks |
//! | `checker` | the invariants, the order of transactions, the tree at each zxid |
//! | `story` | what happened, one line an event |
//! | `command`, `worker`, `shrink` | many seeds in several processes; a failing run made smaller |

pub mod checker;
mod client;
mod command;
mod director;
mod faults;
mod mutants;
mod net;
mod options;
mod rng;
mod server;
mod shrink;
mod story;
mod watched;
mod worker;

use std::cell::RefCell;

use serde::{Deserialize, Serialize};
use zabra_actors::core::mutant;

pub use self::command::{SimArgs, command};
pub use self::options::{Options, Scenario};
pub use self::story::Tell;

use self::director::Run;

/// What came of a run that found no fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Writes that clients were answered.
    pub writes: u64,
    /// Epochs led.
    pub epochs: u64,
    /// Faults staged.
    pub faults: u64,
    /// Deliveries of packets and words.
    pub events: u64,
    /// Simulated milliseconds.
    pub virtual_ms: u64,
    /// Learners brought into step by DIFF, TRUNC and SNAP, as far as processes that live remember.
    pub syncs: (u64, u64, u64),
    /// Simulated milliseconds from the healing of a quorum to its progress, and of all to equality.
    pub recovery_ms: (u64, u64),
    /// Of everything that was delivered: equal only if two runs were.
    pub trace: u64,
}

/// A run that found a fault.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// The options of the run.
    pub options: Options,
    /// What broke.
    pub what: String,
    /// How many faults its schedule has.
    pub steps: usize,
    /// The story, if it was kept.
    pub story: Vec<String>,
}

impl Failure {
    /// The one command that repeats the run.
    pub fn command(&self) -> String {
        let Options { seed, scenario, participants, observers, clients, seconds, only, mutant } =
            &self.options;
        let scenario = clap::ValueEnum::to_possible_value(scenario).expect("no scenario is hidden");
        let feature = if mutant.is_some() { " --features mutants" } else { "" };
        let mut command =
            format!("cargo run --release{feature} -- sim --seed {seed} --scenario {}", scenario.get_name());
        for (flag, count) in [("participants", participants), ("observers", observers), ("clients", clients)]
        {
            if let Some(count) = count {
                command += &format!(" --{flag} {count}");
            }
        }
        command += &format!(" --seconds {seconds}");
        if let Some(mutant) = mutant {
            command += &format!(" --mutant {}", mutant.name());
        }
        if let Some(only) = only {
            let numbers: Vec<_> = only.iter().map(usize::to_string).collect();
            command += &format!(" --only {}", numbers.join(","));
        }
        command
    }
}

thread_local! {
    /// What a panic of an actor has said, while a run is on this thread: actix lets only the actor die.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs one simulation on the current thread.
pub fn run(options: &Options, tell: Tell) -> Result<Report, Failure> {
    static HOOK: std::sync::Once = std::sync::Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANIC.with_borrow_mut(|said| {
                said.get_or_insert_with(|| panic.to_string().replace('\n', " "));
            });
            usual(panic);
        }));
    });
    PANIC.take();
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().expect("a paused runtime needs nothing")
    };
    let system = actix::System::with_tokio_rt(runtime);
    mutant::with(options.mutant, || system.block_on(async { Run::new(options.clone(), tell).go().await }))
}
