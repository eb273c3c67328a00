//! Chance in a simulation: the same seed gives the same run.
//!
//! Each part of a run (the network, each client, each disk, the schedule of faults) draws from a stream of its
//! own, so that a schedule with fewer faults, say, leaves the rest as it was as far as can be.

use std::ops::Range;
use std::sync::{Arc, Mutex};

/// A small generator (SplitMix64); clones share its state.
#[derive(Clone)]
pub struct Rng(Arc<Mutex<u64>>);

impl Rng {
    /// The stream of a part of the run with this seed.
    pub fn stream(seed: u64, part: &str) -> Rng {
        // FNV-1a over the name: two parts have nothing in common.
        let name = part.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let rng = Rng(Arc::new(Mutex::new(seed ^ name)));
        rng.next();
        rng
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
    pub fn pick<T: Copy>(&self, from: &[T]) -> T {
        from[self.within(0..from.len() as u64) as usize]
    }

    /// One of these, each as likely as its weight says. One weight at least is above 0.
    pub fn weighted<T: Copy>(&self, from: &[(u64, T)]) -> T {
        let mut at = self.within(0..from.iter().map(|(weight, _)| weight).sum());
        for (weight, one) in from {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return *one,
            }
        }
        unreachable!("the number is below the sum of the weights")
    }
}
