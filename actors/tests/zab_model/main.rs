//! A model of whole ensembles: the election, leader and learner cores of several servers, wired by a seeded
//! random scheduler that delays everything, breaks links, crashes servers and loses what was not durable.
//! After every step the safety properties of ZAB are checked (`ghosts`); in the end the faults stop, and the
//! ensemble must come to serve again.
//!
//! It knows no actor, no encoding and no clock, so a seed takes milliseconds. A failure prints its story and
//! the command that repeats it:
//!
//! ```text
//! ZAB_SEED=17 cargo test -p zabra-actors --test zab_model
//! ```

mod ghosts;
mod rng;
mod server;
mod world;

use world::World;

/// Ensembles that are tried by default.
const SEEDS: u64 = 200;
/// Random steps of each before it is healed.
const STEPS: usize = 3_000;

/// Prints the story of a world whose test fails.
struct Storyteller(World);

impl Drop for Storyteller {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.print_story();
        }
    }
}

fn run(seed: u64) -> World {
    let mut teller = Storyteller(World::new(seed));
    teller.0.run(STEPS);
    teller.0.heal();
    let Storyteller(world) = &mut teller;
    std::mem::take(world)
}

fn seeds() -> std::ops::Range<u64> {
    match std::env::var("ZAB_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("ZAB_SEED is a number");
            seed..seed + 1
        }
        Err(_) => match std::env::var("ZAB_SEEDS") {
            Ok(count) => 0..count.parse().expect("ZAB_SEEDS is a number"),
            Err(_) => 0..SEEDS,
        },
    }
}

#[test]
fn zab_is_safe_under_faults_and_live_without() {
    let mut sum = world::Coverage::default();
    for seed in seeds() {
        sum.add(run(seed).coverage());
    }
    println!("{sum:?}");
    if seeds().count() as u64 >= SEEDS {
        sum.assert_all_seen();
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    assert_eq!(run(3).story(), run(3).story());
}
