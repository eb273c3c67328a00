//! The bytes of requests that are on their way to an answer.
//!
//! Frames of some size, [`HEAVY`], are counted one by one. While there is much of them, sockets are left unread:
//! a thousand requests may be under way, and a thousand of a megabyte each (with what they are decoded into) would
//! be more than a server has. Nobody is refused for that.
//!
//! Besides, an operator may say from which size on a request is large, and how much of those there may be; what
//! would be too much is refused (off by default, as in Apache). That is looked at twice: when the length of a frame
//! is read, so that its bytes need not be taken in at all; and when all of it is there.
//!
//! Either counts until the brain has answered: what waits for a client's socket is that client's own affair.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

/// A frame with more bytes than this, without its length, is counted. A thousand of these are 16 MiB.
const HEAVY: usize = 16 << 10;

/// Bytes of heavy frames of all clients beyond which only those are read who wait for nothing.
pub(super) const MAX_OF_ALL: usize = 64 << 20;

/// The settings for large requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LargeRequests {
    /// A frame with more bytes than this, without its length, is large.
    pub above: usize,
    /// Bytes of large frames of all clients together.
    pub max: usize,
}

/// A frame that is one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge {
    size: usize,
    max: usize,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TooLarge { size, max } = self;
        write!(
            f,
            "Rejecting large request of {size} bytes: with those under way it would be over \
             limits.large_request_max_bytes, {max}"
        )
    }
}

/// Of all clients together.
pub(super) struct InFlight {
    limits: Option<LargeRequests>,
    large: AtomicUsize,
    heavy: AtomicUsize,
}

impl InFlight {
    /// Nothing yet.
    pub(super) fn new(limits: Option<LargeRequests>) -> InFlight {
        InFlight { limits, large: AtomicUsize::new(0), heavy: AtomicUsize::new(0) }
    }

    /// Is there so much that sockets should be left unread?
    pub(super) fn is_much(&self) -> bool {
        self.heavy.load(Relaxed) > MAX_OF_ALL
    }

    /// A frame of this size announces itself.
    pub(super) fn announce(&self, size: usize) -> Result<(), TooLarge> {
        match self.limits {
            Some(LargeRequests { above, max }) if size > above => {
                let total = self.large.load(Relaxed).saturating_add(size);
                if total <= max { Ok(()) } else { Err(TooLarge { size, max }) }
            }
            _ => Ok(()),
        }
    }

    fn arrive(&self, size: usize) -> Result<Counted, TooLarge> {
        let mut counted = Counted { heavy: 0, large: 0 };
        if let Some(LargeRequests { above, max }) = self.limits
            && size > above
        {
            let total = self.large.fetch_add(size, Relaxed).saturating_add(size);
            counted.large = size;
            if total > max {
                self.leave(counted);
                return Err(TooLarge { size, max });
            }
        }
        if size > HEAVY {
            self.heavy.fetch_add(size, Relaxed);
            counted.heavy = size;
        }
        Ok(counted)
    }

    fn leave(&self, counted: Counted) {
        for (of_all, size) in [(&self.heavy, counted.heavy), (&self.large, counted.large)] {
            let before = of_all.fetch_sub(size, Relaxed);
            assert!(before >= size, "{size} bytes left of {before} that came");
        }
    }
}

/// What a request counts for, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted {
    heavy: usize,
    large: usize,
}

/// The requests of one connection, by their place among all of it has sent. They come on its own thread, and are
/// answered on the brain's.
#[derive(Default)]
pub(super) struct OfConnection {
    arrived: AtomicU64,
    answered: AtomicU64,
    /// Those that count, and how many there are: most of the time none, and then nobody takes the lock.
    counted: Mutex<VecDeque<(u64, Counted)>>,
    counted_now: AtomicUsize,
}

impl OfConnection {
    /// A request of this size has come in whole. An error: it is large, and one too many.
    pub(super) fn arrive(&self, size: usize, all: &InFlight) -> Result<(), TooLarge> {
        let counted = all.arrive(size)?;
        let place = self.arrived.fetch_add(1, Relaxed);
        if counted.heavy + counted.large > 0 {
            self.counted().push_back((place, counted));
            self.counted_now.fetch_add(1, Relaxed);
        }
        Ok(())
    }

    /// So many more were answered, the oldest first, or never will be.
    pub(super) fn answer(&self, count: usize, all: &InFlight) {
        let arrived = self.arrived.load(Relaxed);
        let more = |answered: u64| Some(answered.saturating_add(count as u64).min(arrived));
        let before = self.answered.fetch_update(Relaxed, Relaxed, more);
        let answered = more(before.expect("the update always gives a value")).expect("the same");
        if self.counted_now.load(Relaxed) == 0 {
            return;
        }
        let mut waiting = self.counted();
        while let Some((_, counted)) = waiting.pop_front_if(|(place, _)| *place < answered) {
            self.counted_now.fetch_sub(1, Relaxed);
            all.leave(counted);
        }
    }

    fn counted(&self) -> MutexGuard<'_, VecDeque<(u64, Counted)>> {
        self.counted.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited() -> InFlight {
        InFlight::new(Some(LargeRequests { above: 10, max: 25 }))
    }

    #[test]
    fn what_is_not_large_does_not_count() {
        let (all, mine) = (limited(), OfConnection::default());
        for _ in 0..100 {
            assert_eq!((all.announce(10), mine.arrive(10, &all)), (Ok(()), Ok(())));
        }
        let off = InFlight::new(None);
        assert_eq!((off.announce(1 << 40), mine.arrive(1 << 20, &off)), (Ok(()), Ok(())));
    }

    #[test]
    fn large_ones_count_until_they_are_answered() {
        let (all, mine) = (limited(), OfConnection::default());
        for size in [12, 5, 13] {
            assert_eq!(mine.arrive(size, &all), Ok(()));
        }
        let error = all.announce(11).expect_err("25 of 25 are under way");
        assert!(error.to_string().contains("11 bytes") && error.to_string().contains("25"), "{error}");
        let other = OfConnection::default();
        assert_eq!(other.arrive(11, &all), Err(error));
        mine.answer(1, &all);
        assert_eq!((all.announce(12), other.arrive(12, &all)), (Ok(()), Ok(())));
        mine.answer(1, &all);
        assert!(other.arrive(11, &all).is_err(), "the one that was answered last did not count");
        mine.answer(1, &all);
        assert_eq!(other.arrive(11, &all), Ok(()));
    }

    #[test]
    fn who_leaves_takes_his_along_once() {
        let (all, mine) = (limited(), OfConnection::default());
        for size in [12, 13] {
            assert_eq!(mine.arrive(size, &all), Ok(()));
        }
        mine.answer(usize::MAX, &all);
        mine.answer(1, &all);
        assert_eq!(all.large.load(Relaxed), 0);
    }

    #[test]
    fn much_is_a_matter_of_bytes_of_heavy_frames() {
        let (all, mine) = (InFlight::new(None), OfConnection::default());
        for _ in 0..100_000 {
            mine.arrive(HEAVY, &all).expect("no limit");
        }
        assert!(!all.is_much(), "small ones are bounded by their number");
        for _ in 0..65 {
            mine.arrive(1 << 20, &all).expect("no limit");
        }
        assert!(all.is_much());
        mine.answer(100_001, &all);
        assert!(!all.is_much());
    }
}
