//! The command: options, progress, what was found.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use stateright::report::{ReportData, ReportDiscovery, Reporter};
use stateright::{Checker, HasDiscoveries, Model};

use crate::bounds::{self, Kind, Space};
use crate::seen::Seen;
use crate::{election, story, zab};

/// How often a line says how far the exploration is.
const PROGRESS: Duration = Duration::from_secs(5);
/// How soon after its end an exploration is over.
const LOOK: Duration = Duration::from_millis(200);

/// Explores every order of events in ensembles of three servers, within bounds.
#[derive(Parser, Debug)]
pub struct Options {
    /// The large state spaces, too.
    #[arg(long)]
    large: bool,
    /// Only the state spaces with this in their names, large ones included.
    #[arg(long)]
    only: Option<String>,
    /// Makes a mistake around the cores of leader and follower, to see it found.
    #[arg(long)]
    mistake: Option<zab::Mistake>,
    /// The same around the core of the election.
    #[arg(long)]
    election_mistake: Option<election::Mistake>,
    /// Threads; as many as there are cores by default.
    #[arg(long)]
    threads: Option<usize>,
}

/// True: all rules hold in all states.
pub fn run(options: &Options) -> bool {
    story::tell_of_panics();
    let wanted = |space: &Space| match &options.only {
        Some(part) => space.name.contains(part.as_str()),
        None => options.large || !space.large,
    };
    let threads =
        options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let (began, mut sum, mut passed, mut failed) = (Instant::now(), 0, 0, 0);
    for space in bounds::all().iter().filter(|space| wanted(space)) {
        let states = match explore(space, options, threads) {
            Ok(states) => {
                passed += 1;
                states
            }
            Err(states) => {
                failed += 1;
                states
            }
        };
        sum += states;
    }
    println!("{} states in {:.1} s", grouped(sum), began.elapsed().as_secs_f64());
    println!("model: {passed} passed, {failed} failed");
    failed == 0 && passed > 0
}

/// The number of states, and whether all is well.
fn explore(space: &Space, options: &Options, threads: usize) -> Result<usize, usize> {
    let seen = Arc::new(Seen::default());
    match &space.kind {
        Kind::Election { bounds, logs, running } => {
            let (bounds, logs, running) = (*bounds, logs.clone(), *running);
            println!("{}: {bounds:?}, {} beginnings, {running} servers run", space.name, logs.len());
            let model = election::Elections {
                bounds,
                logs,
                running,
                mistake: options.election_mistake,
                watched: None,
                seen: seen.clone(),
            };
            check(space, model, threads, &seen)
        }
        Kind::Zab { bounds, elections, servers } => {
            let (bounds, elections, servers) = (*bounds, *elections, *servers);
            println!("{}: servers: {servers:?}, {elections:?} may lead, {bounds:?}", space.name);
            let (mistake, watched, seen_by) = (options.mistake, None, seen.clone());
            let model = zab::Zab {
                bounds,
                elections,
                servers,
                mistake,
                mutant: None,
                watched,
                settles: true,
                seen: seen_by,
            };
            check(space, model, threads, &seen)
        }
    }
}

fn check<M>(space: &Space, model: M, threads: usize, seen: &Seen) -> Result<usize, usize>
where
    M: Model + Send + Sync + 'static,
    M::State: Debug + Hash + Send + Sync + Clone + PartialEq + 'static,
    M::Action: Debug + Clone + PartialEq + Send + Sync,
{
    let mut teller = Teller { name: space.name, told: Duration::ZERO, failed: false };
    let builder = model.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures);
    let checker = builder.spawn_dfs().join_and_report(&mut teller);
    let states = checker.unique_state_count();
    let missed: Vec<_> =
        space.must_see.iter().copied().filter(|what| seen.lacks(*what)).map(Seen::name).collect();
    let events: Vec<String> =
        seen.all().iter().map(|(what, count)| format!("{} {what}", grouped(*count as usize))).collect();
    println!("  {}", events.join(", "));
    if !missed.is_empty() && !teller.failed {
        println!("  FAILED: never seen: {missed:?}");
    }
    if teller.failed || !missed.is_empty() { Err(states) } else { Ok(states) }
}

/// Progress, and the story of what is found.
struct Teller {
    name: &'static str,
    told: Duration,
    failed: bool,
}

impl<M: Model> Reporter<M> for Teller {
    fn report_checking(&mut self, data: ReportData) {
        let ReportData { total_states, unique_states, max_depth, duration, done } = data;
        if !done && duration < self.told + PROGRESS {
            return;
        }
        self.told = duration;
        let rate = total_states as f64 / duration.as_secs_f64().max(0.001);
        println!(
            "  {}: {} states, {} transitions, depth {max_depth}, {:.1} s, {} transitions a second",
            if done { "all" } else { self.name },
            grouped(unique_states),
            grouped(total_states),
            duration.as_secs_f64(),
            grouped(rate as usize),
        );
    }

    fn report_discoveries(&mut self, _: &M, discoveries: BTreeMap<&'static str, ReportDiscovery<M>>)
    where
        M::Action: Debug + PartialEq,
        M::State: Debug + Hash + PartialEq,
    {
        for (rule, discovery) in discoveries {
            self.failed = true;
            println!("  FAILED: {rule}");
            for (state, action) in discovery.path.into_vec() {
                println!("    {state:?}");
                action.into_iter().for_each(|action| println!("  {action:?}"));
            }
        }
    }

    fn delay(&self) -> Duration {
        LOOK
    }
}

/// 1234567 as 1,234,567.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
