//! `zabra sim`: one seed with its story, or many seeds with a progress line.

use std::io::IsTerminal;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Failure, Options, Report, run};

/// What to simulate.
#[derive(Args, Clone, Debug)]
pub struct SimArgs {
    /// The first seed
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// How many seeds, from the first one on
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    pub seeds: u64,
    /// Voting servers
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub participants: u8,
    /// Servers that do not vote
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=9))]
    pub observers: u8,
    /// Clients
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub clients: u64,
    /// How long faults happen, in simulated seconds
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    pub fault_seconds: u64,
    /// Print the story while it happens
    #[arg(long)]
    pub trace: bool,
    /// Print one JSON object at the end
    #[arg(long)]
    pub json: bool,
}

/// What all runs together came to.
#[derive(Default)]
struct Total {
    runs: u64,
    acknowledged: u64,
    faults: u64,
    epochs: u64,
    syncs: (u64, u64, u64),
    slowest_recovery_ms: u64,
}

impl Total {
    fn add(&mut self, report: &Report) {
        self.runs += 1;
        self.acknowledged += report.acknowledged;
        self.faults += report.faults;
        self.epochs += report.epochs;
        self.syncs.0 += report.syncs.0;
        self.syncs.1 += report.syncs.1;
        self.syncs.2 += report.syncs.2;
        self.slowest_recovery_ms = self.slowest_recovery_ms.max(report.recovery_ms);
    }
}

/// Runs the simulations, prints what came of them, and returns the exit code: 1 at the first failure.
pub fn command(args: &SimArgs) -> u8 {
    let progress = progress(args);
    let mut total = Total::default();
    for seed in args.seed..args.seed.saturating_add(args.seeds) {
        let SimArgs { participants, observers, clients, fault_seconds, trace, .. } = *args;
        let options = Options { seed, participants, observers, clients, fault_seconds, trace };
        match run(&options) {
            Ok(report) => total.add(&report),
            Err(failure) => {
                progress.finish_and_clear();
                print_failure(&failure, args.json);
                return 1;
            }
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    print_total(&total, args.json);
    0
}

/// A line that moves on a terminal, and none elsewhere.
fn progress(args: &SimArgs) -> ProgressBar {
    if args.trace || args.seeds == 1 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {per_sec}, {eta} to go")
        .expect("the template is well-formed");
    ProgressBar::new(args.seeds).with_style(style)
}

fn print_failure(failure: &Failure, json: bool) {
    if json {
        let object = serde_json::json!({
            "seed": failure.options.seed, "failure": failure.what, "repeat": failure.command(),
        });
        println!("{object}");
        return;
    }
    if !failure.options.trace {
        failure.story.iter().for_each(|line| println!("{line}"));
    }
    println!("seed {}: {}", failure.options.seed, failure.what);
    println!("repeat with: {}", failure.command());
}

fn print_total(total: &Total, json: bool) {
    let Total { runs, acknowledged, faults, epochs, syncs: (diffs, truncs, snaps), slowest_recovery_ms } = total;
    if json {
        let object = serde_json::json!({
            "runs": runs, "acknowledged": acknowledged, "faults": faults, "epochs": epochs, "diff": diffs,
            "trunc": truncs, "snap": snaps, "slowest_recovery_ms": slowest_recovery_ms,
        });
        println!("{object}");
        return;
    }
    println!(
        "{runs} runs, all is well: {faults} faults, {epochs} epochs, {acknowledged} acknowledged writes, \
         {diffs} DIFF, {truncs} TRUNC, {snaps} SNAP; the slowest recovery took {slowest_recovery_ms} simulated ms"
    );
}
