//! The clock that all processes of this machine share.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since some time before the start of everything here.
pub fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).expect("it does not run backwards from 0") * 1_000_000_000
        + u64::try_from(time.tv_nsec).expect("below a second")
}
