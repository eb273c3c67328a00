//! How soon each historic mistake must be found, by which invariant, and the hunt that shows that it is.
//!
//! The mistakes themselves are in the production code, as switches that no release build has
//! ([`zabra_actors::core::mutant`]), or between it and its disk or network.

use std::cmp::Reverse;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use zabra_actors::core::mutant::Mutant;

use super::options::{Options, Scenario};
use super::story::say;
use super::worker::{Outcome, Worker};

/// The first seeds of two hunts lie so far apart.
const STRIDE: u64 = 1_000;

/// What is demanded for a mistake.
struct Demand {
    /// Where it does harm.
    scenario: Scenario,
    /// It must be found within so many seeds, whichever is the first.
    within: u64,
    /// What a run must say of it: the invariants that it breaks, or an assertion of the code itself. Whatever else
    /// is found does not count.
    by: &'static [&'static str],
}

fn demand(mutant: Mutant) -> Demand {
    use Scenario::*;
    let (scenario, within, by): (_, _, &[_]) = match mutant {
        Mutant::EarlyAck => (Power, 5, &["I8", "I9"]),
        Mutant::LateEpoch => (Crashes, 5, &["I6", "I7", "its disk was never made to fail"]),
        Mutant::PromiseBeforeSave => (Crashes, 10, &["I6"]),
        Mutant::AckBeforeLog => (Crashes, 10, &["I9"]),
        Mutant::EpochBeforeLog => (Crashes, 10, &["I9"]),
        Mutant::AckBeforeNewLeader => (Crashes, 10, &["I13"]),
        Mutant::LogAtNewLeader => (Catchup, 20, &["I4", "I8", "a log has no holes"]),
        Mutant::SnapInMemory => (Catchup, 80, &["I4", "I8", "a log has no holes"]),
        Mutant::LateSyncPoint => (Catchup, 40, &["I14"]),
        Mutant::Hole => (Calm, 5, &["I14"]),
        Mutant::DiffBehindWindow => (Catchup, 10, &["I14"]),
        Mutant::UncutLog => (Tails, 10, &["I12"]),
        Mutant::DirtySnapshot => (Tails, 10, &["I12"]),
        Mutant::UnsyncedSnapshot => (Catchup, 30, &["I8", "I11", "its disk was never made to fail"]),
        Mutant::SnapshotAheadOfLog => (Disks, 15, &["I12"]),
        Mutant::VoteByTree => (Tails, 15, &["I8"]),
        Mutant::OwnEpochVote => (Crashes, 10, &["vote"]),
        Mutant::EarlyCommit => (Calm, 5, &["I10"]),
        Mutant::CountsUnsynced => (Disks, 10, &["I10"]),
        Mutant::SyncAlone => (Stale, 60, &["I17"]),
        Mutant::KeptEphemerals => (Calm, 10, &["I16"]),
        Mutant::CountsWhatIsCut => (Returns, 120, &["I8", "I10"]),
        Mutant::SilentDamage => (Rot, 30, &["I8"]),
        Mutant::DoubtfulVotes => (Rot, 160, &["I8"]),
        Mutant::EarlyExpiry => (Calm, 10, &["I16"]),
    };
    Demand { scenario, within, by }
}

/// How a mistake was hunted from one first seed.
struct Hunt {
    mutant: Mutant,
    first: u64,
    /// After how many seeds it was found, and what was said; or what else was found in all of them.
    outcome: Result<(u64, String), Vec<String>>,
}

/// Hunts every mistake from so many first seeds; prints how soon each was found. The exit code: 1 if one was not.
pub(super) fn hunt(starts: u64, jobs: u8) -> u8 {
    let began = Instant::now();
    let mut tasks: Vec<(Mutant, u64)> = Mutant::ALL
        .iter()
        .flat_map(|mutant| (0..starts.max(1)).map(|start| (*mutant, start * STRIDE)))
        .collect();
    // Those that take long first, so that no process is left with one of them at the end.
    tasks.sort_by_key(|(mutant, _)| Reverse(demand(*mutant).within));
    let (next, hunts) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                let mut worker = Worker::default();
                while let Some((mutant, first)) = tasks.get(next.fetch_add(1, Relaxed)) {
                    let hunt = Hunt::run(*mutant, *first, &mut worker);
                    hunts.lock().expect("nobody panics with this lock").push(hunt);
                }
            });
        }
    });
    let hunts = hunts.into_inner().expect("nobody panics with this lock");
    let survived = report(&hunts);
    let (mutants, seconds) = (Mutant::ALL.len(), began.elapsed().as_secs());
    say(format_args!("{} of {mutants} mistakes found in time, in {seconds} s", mutants - survived));
    u8::from(survived > 0)
}

impl Hunt {
    fn run(mutant: Mutant, first: u64, worker: &mut Worker) -> Hunt {
        let Demand { scenario, within, by } = demand(mutant);
        let mut others = Vec::new();
        for seed in first..first + within {
            let options = Options { seed, scenario, mutant: Some(mutant), ..Options::default() };
            let what = match worker.run(&options, None) {
                Ok(Outcome::Well(_)) => continue,
                Ok(Outcome::Found { what, .. }) | Err(what) => what,
            };
            if by.iter().any(|invariant| what.contains(&format!("{invariant}:"))) {
                return Hunt { mutant, first, outcome: Ok((seed - first + 1, what)) };
            }
            others.push(format!("seed {seed}: {what}"));
        }
        Hunt { mutant, first, outcome: Err(others) }
    }
}

/// One line for each mistake, and those that survived with all that was found instead. Returns how many survived.
fn report(hunts: &[Hunt]) -> usize {
    say(format_args!(
        "{:<22} {:<11} {:>6} {:>6} {:>6}  found by",
        "mistake", "scenario", "within", "median", "most"
    ));
    let mut survived = 0;
    for mutant in Mutant::ALL {
        let of = || hunts.iter().filter(|hunt| hunt.mutant == *mutant);
        let Demand { scenario, within, .. } = demand(*mutant);
        let mut seeds: Vec<u64> = of().filter_map(|hunt| Some(hunt.outcome.as_ref().ok()?.0)).collect();
        seeds.sort_unstable();
        let median = seeds.get(seeds.len() / 2).map_or("-".into(), u64::to_string);
        let most = seeds.last().map_or("-".into(), u64::to_string);
        let example = of().find_map(|hunt| Some(&hunt.outcome.as_ref().ok()?.1)).map_or("", String::as_str);
        let (name, scenario) = (mutant.name(), format!("{scenario:?}").to_lowercase());
        say(format_args!("{name:<22} {scenario:<11} {within:>6} {median:>6} {most:>6}  {example:.100}"));
        for hunt in of() {
            if let Err(others) = &hunt.outcome {
                say(format_args!(
                    "  SURVIVES {within} seeds from {} on; found instead: {others:?}",
                    hunt.first
                ));
            }
        }
        survived += usize::from(of().any(|hunt| hunt.outcome.is_err()));
    }
    survived
}
