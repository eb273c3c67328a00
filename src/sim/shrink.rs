//! Makes a failing run smaller: leaves faults out as long as it still fails in the same way (Zeller's ddmin),
//! then clients.

use std::time::{Duration, Instant};

use super::options::Options;
use super::worker::{Outcome, Worker};

/// A failing run.
#[derive(Clone, Debug)]
pub struct Failing {
    /// How to repeat it.
    pub options: Options,
    /// What breaks.
    pub what: String,
    /// How many faults of the schedule had come by then.
    pub steps: usize,
}

/// Tries for so long at most.
pub fn shrink(worker: &mut Worker, failing: Failing, budget: Duration) -> Failing {
    let mut shrinker = Shrinker { worker, kind: kind(&failing.what), until: Instant::now() + budget };
    let steps = failing.steps.min(100_000);
    let all = failing.options.only.clone().unwrap_or_else(|| (0..steps).collect());
    let first = Options { only: Some(all), ..failing.options.clone() };
    let Some(mut best) = shrinker.attempt(first) else { return failing };
    best = shrinker.fewer_faults(best);
    for clients in 1..8 {
        let fewer = Options { clients: Some(clients), ..best.options.clone() };
        if let Some(smaller) = shrinker.attempt(fewer) {
            return shrinker.fewer_faults(smaller);
        }
    }
    best
}

struct Shrinker<'a> {
    worker: &'a mut Worker,
    kind: String,
    until: Instant,
}

/// What a failure is about: the number of its invariant, or how it begins.
fn kind(what: &str) -> String {
    let invariant = what.split_whitespace().find(|word| {
        word.strip_prefix('I').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    });
    invariant.map_or_else(|| what.chars().take(20).collect(), |word| word.trim_end_matches(':').to_string())
}

impl Shrinker<'_> {
    /// The run, if it fails as it should.
    fn attempt(&mut self, options: Options) -> Option<Failing> {
        if Instant::now() > self.until {
            return None;
        }
        match self.worker.run(&options, None) {
            Ok(Outcome::Found { what, steps }) if kind(&what) == self.kind => {
                Some(Failing { options, what, steps })
            }
            _ => None,
        }
    }

    /// Leaves out halves, quarters ... and single faults, as long as that goes.
    fn fewer_faults(&mut self, mut best: Failing) -> Failing {
        let mut pieces = 2;
        loop {
            let only = best.options.only.clone().unwrap_or_default();
            if only.is_empty() || Instant::now() > self.until {
                return best;
            }
            let size = only.len().div_ceil(pieces);
            let without = |piece: usize| {
                let (from, to) = (piece * size, ((piece + 1) * size).min(only.len()));
                only[..from.min(only.len())].iter().chain(&only[to..]).copied().collect::<Vec<_>>()
            };
            let smaller = (0..pieces)
                .map(without)
                .filter(|rest| rest.len() < only.len())
                .find_map(|rest| self.attempt(Options { only: Some(rest), ..best.options.clone() }));
            match smaller {
                Some(smaller) => {
                    best = smaller;
                    pieces = (pieces - 1).max(2);
                }
                None if size == 1 => return best,
                None => pieces = (pieces * 2).min(only.len()),
            }
        }
    }
}
