//! `zabra sim`: one seed or many, in several processes, with a progress line; of the first run that fails the
//! story, made as small as can be, and the one command that repeats it.

use std::io::IsTerminal;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;
use zabra_actors::core::mutant::{self, Mutant};

use super::mutants;
use super::options::{Options, Scenario};
use super::shrink::{Failing, shrink};
use super::story::say;
use super::worker::{Outcome, Worker, work};
use super::{Failure, Report, Tell, run};

/// Why a release build makes no mistakes.
const NO_MUTANTS: &str =
    "this build cannot make mistakes on purpose: try `cargo run --release --features mutants -- sim`";

/// What to simulate.
#[derive(Args, Clone, Debug)]
pub struct SimArgs {
    /// One seed
    #[arg(long, default_value_t = 0, value_name = "N", conflicts_with = "seeds")]
    pub seed: u64,
    /// Many seeds, the last one excluded
    #[arg(long, value_name = "A..B", value_parser = parse_range)]
    pub seeds: Option<Range<u64>>,
    /// Processes that run them
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub jobs: u8,
    /// No seed is begun after this time
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub time: Option<Duration>,
    /// Which faults there are
    #[arg(long, default_value = "swarm", value_name = "NAME")]
    pub scenario: Scenario,
    /// Voting servers, instead of what the seed decides
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub participants: Option<u8>,
    /// Servers that do not vote
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=9))]
    pub observers: Option<u8>,
    /// Clients
    #[arg(long, value_name = "N")]
    pub clients: Option<u8>,
    /// How long faults happen, in simulated seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub seconds: u64,
    /// Of the faults only those with these numbers, as a failure's command says; of none, none
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', num_args = 0..=1)]
    pub only: Option<Vec<usize>>,
    /// A mistake that all servers make, and that must be found
    #[arg(long, value_name = "NAME", value_parser = parse_mutant)]
    pub mutant: Option<Mutant>,
    /// Make every known mistake, one after the other, and see that each is found in time
    #[arg(long, conflicts_with_all = ["seed", "seeds", "mutant", "trace"])]
    pub mutants: bool,
    /// From how many first seeds each mistake is hunted
    #[arg(long, default_value_t = 1, value_name = "N", requires = "mutants")]
    pub starts: u64,
    /// How long a failing run may be made smaller
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub shrink: Duration,
    /// Print the story while it happens
    #[arg(long)]
    pub trace: bool,
    /// Print one JSON object at the end
    #[arg(long)]
    pub json: bool,
    /// Run what standard input says: for the processes that this command starts
    #[arg(long, hide = true)]
    pub worker: bool,
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let wrong = || format!("{text:?} is not A..B with two numbers, the first one smaller: try 0..1000");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let range = from.parse().map_err(|_| wrong())?..to.parse().map_err(|_| wrong())?;
    if range.is_empty() { Err(wrong()) } else { Ok(range) }
}

fn parse_mutant(text: &str) -> Result<Mutant, String> {
    if !mutant::AVAILABLE {
        return Err(NO_MUTANTS.into());
    }
    let known = || Mutant::ALL.iter().copied();
    known().find(|mutant| mutant.name() == text).ok_or_else(|| {
        let names: Vec<_> = known().map(Mutant::name).collect();
        format!("{text:?} is none of {}", names.join(", "))
    })
}

impl SimArgs {
    fn options(&self, seed: u64) -> Options {
        let SimArgs { scenario, participants, observers, clients, seconds, mutant, .. } = *self;
        Options { seed, scenario, participants, observers, clients, seconds, only: self.only.clone(), mutant }
    }

    fn range(&self) -> Range<u64> {
        self.seeds.clone().unwrap_or(self.seed..self.seed.saturating_add(1))
    }
}

/// Runs the simulations, prints what came of them, and returns the exit code: 1 at the first failure.
pub fn command(args: &SimArgs) -> u8 {
    if args.worker {
        work();
        return 0;
    }
    if args.trace {
        return trace(args);
    }
    if args.mutants {
        if !mutant::AVAILABLE {
            eprintln!("{NO_MUTANTS}");
            return 2;
        }
        return mutants::hunt(args.starts, args.jobs);
    }
    let (total, failing) = run_all(args);
    match failing {
        None => {
            print_total(&total, args);
            0
        }
        Some(failing) => {
            report(args, &total, failing);
            1
        }
    }
}

/// In this process, one after the other, the story as it happens.
fn trace(args: &SimArgs) -> u8 {
    for seed in args.range() {
        if let Err(failure) = run(&args.options(seed), Tell::Print) {
            say(format_args!("seed {seed}: {}\nrepeat with: {} --trace", failure.what, failure.command()));
            return 1;
        }
    }
    0
}

/// What all runs together came to.
#[derive(Default)]
struct Total {
    sum: Report,
    seeds: u64,
    recoveries: Vec<u64>,
    took: Duration,
}

impl Total {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        let Report { writes, epochs, faults, events, virtual_ms, syncs, recovery_ms, trace: _ } = report;
        let sum = &mut self.sum;
        sum.writes += writes;
        sum.epochs += epochs;
        sum.faults += faults;
        sum.events += events;
        sum.virtual_ms += virtual_ms;
        (sum.syncs.0, sum.syncs.1, sum.syncs.2) =
            (sum.syncs.0 + syncs.0, sum.syncs.1 + syncs.1, sum.syncs.2 + syncs.2);
        self.recoveries.push(recovery_ms.0.max(recovery_ms.1));
    }

    /// Simulated time by the time that one core took for it.
    fn speed_up(&self, jobs: u8) -> u64 {
        let took = self.took.as_millis().max(1) as u64 * u64::from(jobs);
        self.sum.virtual_ms / took
    }

    fn line(&self, jobs: u8) -> String {
        let Report { events, virtual_ms, faults, .. } = self.sum;
        let (seeds, hours) = (self.seeds, virtual_ms as f64 / 3_600_000.0);
        format!(
            "{seeds} seeds, {events} events, {hours:.1} virtual hours, {} times faster than real time on a core, \
             {faults} faults",
            self.speed_up(jobs)
        )
    }
}

/// All seeds, until one fails or time is up.
fn run_all(args: &SimArgs) -> (Total, Option<Failing>) {
    let began = Instant::now();
    let range = args.range();
    let (next, stop) = (AtomicU64::new(range.start), AtomicBool::new(false));
    let mut progress = Progress::new(range.end - range.start);
    let mut total = Total::default();
    let mut failing: Option<Failing> = None;
    std::thread::scope(|scope| {
        let (sender, outcomes) = mpsc::channel();
        for _ in 0..args.jobs {
            let (sender, range, next, stop) = (sender.clone(), range.clone(), &next, &stop);
            scope.spawn(move || {
                let mut worker = Worker::default();
                while !stop.load(Relaxed) && args.time.is_none_or(|time| began.elapsed() < time) {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= range.end {
                        return;
                    }
                    let options = args.options(seed);
                    let outcome = worker.run(&options, None);
                    let _ = sender.send((options, outcome)); // nobody waits after a failure
                }
            });
        }
        drop(sender);
        for (options, outcome) in outcomes {
            let found = match outcome {
                Ok(Outcome::Well(report)) => {
                    total.add(&report);
                    total.took = began.elapsed();
                    progress.show(&total, args.jobs);
                    continue;
                }
                Ok(Outcome::Found { what, steps }) => Failing { options, what, steps },
                Err(what) => Failing { options, what, steps: 0 },
            };
            stop.store(true, Relaxed);
            failing.get_or_insert(found);
        }
    });
    progress.end();
    (total, failing)
}

/// One line that moves on a terminal, one line every half minute elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
    shown: Instant,
    of: u64,
}

impl Progress {
    fn new(of: u64) -> Progress {
        let bar = (of > 1 && std::io::stderr().is_terminal()).then(ProgressBar::new_spinner);
        Progress { bar, shown: Instant::now(), of }
    }

    fn show(&mut self, total: &Total, jobs: u8) {
        let pause = Duration::from_millis(if self.bar.is_some() { 100 } else { 30_000 });
        if self.shown.elapsed() < pause {
            return;
        }
        self.shown = Instant::now();
        let line = format!("of {}: {}", self.of, total.line(jobs));
        match &self.bar {
            Some(bar) => bar.set_message(line),
            None => eprintln!("{line}"),
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Of a failing run: as small as can be, its story, how to repeat it.
fn report(args: &SimArgs, total: &Total, failing: Failing) {
    let seed = failing.options.seed;
    eprintln!("seed {seed} fails after {}; making it smaller", total.line(args.jobs));
    let mut worker = Worker::default();
    let smaller = shrink(&mut worker, failing.clone(), args.shrink);
    let mut story = Vec::new();
    let _ = worker.run(&smaller.options, Some(&mut story)); // what it finds is known
    let failure = |it: &Failing| Failure {
        options: it.options.clone(),
        what: it.what.clone(),
        steps: it.steps,
        story: Vec::new(),
    };
    let (first, last) = (failure(&failing), failure(&smaller));
    if args.json {
        let object = serde_json::json!({
            "seed": seed, "failure": last.what, "repeat": last.command(), "first": first.command(),
        });
        say(object);
        return;
    }
    story.iter().for_each(say);
    say(format_args!("seed {seed}: {}", last.what));
    say(format_args!("repeat with: {} --trace", last.command()));
    say(format_args!("before it was made smaller: {}\n  {}", first.what, first.command()));
}

fn print_total(total: &Total, args: &SimArgs) {
    let Report { writes, epochs, faults, events, virtual_ms, syncs: (diff, trunc, snap), trace, .. } =
        total.sum;
    let mut recoveries = total.recoveries.clone();
    recoveries.sort_unstable();
    let slowest = recoveries.last().copied().unwrap_or_default();
    let median = recoveries.get(recoveries.len() / 2).copied().unwrap_or_default();
    if args.json {
        let object = serde_json::json!({
            "seeds": total.seeds, "events": events, "virtual_ms": virtual_ms, "faults": faults,
            "epochs": epochs, "writes": writes, "diff": diff, "trunc": trunc, "snap": snap,
            "speed_up": total.speed_up(args.jobs), "slowest_recovery_ms": slowest,
            "median_recovery_ms": median, "trace": trace,
        });
        say(object);
        return;
    }
    say(format_args!("all is well: {}", total.line(args.jobs)));
    say(format_args!(
        "{epochs} epochs, {writes} answered writes, {diff} DIFF, {trunc} TRUNC, {snap} SNAP; recovery took {median} \
         simulated ms (the median), {slowest} at most"
    ));
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SimArgs,
    }

    /// The command of a failure means that very run.
    #[test]
    fn a_failure_says_how_it_is_repeated() {
        for only in [None, Some(vec![]), Some(vec![3]), Some(vec![1, 4, 15])] {
            let options = Options { seed: 7, only: only.clone(), observers: Some(0), ..Options::default() };
            let failure = Failure { options, what: String::new(), steps: 20, story: Vec::new() };
            let line = failure.command().replace("cargo run --release -- sim", "sim") + " --trace";
            let args = Line::try_parse_from(line.split_whitespace()).unwrap().args;
            assert_eq!(
                (args.seed, args.observers, args.only, args.trace),
                (7, Some(0), only, true),
                "{line}"
            );
        }
    }
}
