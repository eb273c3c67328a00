//! The one source of chance in a simulation: the same seed gives the same run.

use std::ops::Range;
use std::sync::{Arc, Mutex};

/// A small generator (SplitMix64), shared by everything in a run.
#[derive(Clone)]
pub struct Rng(Arc<Mutex<u64>>);

impl Rng {
    /// A generator of its own for each seed.
    pub fn new(seed: u64) -> Rng {
        Rng(Arc::new(Mutex::new(seed)))
    }

    /// The next 64 bits.
    pub fn next(&self) -> u64 {
        let mut state = self.0.lock().expect("nobody panics with this lock");
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number of a range.
    pub fn within(&self, range: Range<u64>) -> u64 {
        assert!(range.start < range.end, "nothing to choose from");
        range.start + self.next() % (range.end - range.start)
    }

    /// True this often out of a hundred times.
    pub fn percent(&self, chance: u64) -> bool {
        self.within(0..100) < chance
    }

    /// One of these.
    pub fn pick<'a, T>(&self, from: &'a [T]) -> &'a T {
        &from[self.within(0..from.len() as u64) as usize]
    }
}
