//! Large requests: how many bytes of them may be on their way at a time. Off unless the configuration says from
//! which size on a request is large.
//!
//! Looked at twice, as in Apache: when the length of a frame is read, so that its bytes need not be taken in at
//! all; and when all of it is there, from where on it counts until the brain has answered it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The settings.
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

/// The bytes of all large requests that are not answered yet.
pub(super) struct LargeInFlight {
    settings: Option<LargeRequests>,
    bytes: AtomicUsize,
}

impl LargeInFlight {
    /// None yet.
    pub(super) fn new(settings: Option<LargeRequests>) -> LargeInFlight {
        LargeInFlight { settings, bytes: AtomicUsize::new(0) }
    }

    /// Is any request large?
    pub(super) fn has_limit(&self) -> bool {
        self.settings.is_some()
    }

    /// A frame of this size announces itself.
    pub(super) fn announce(&self, size: usize) -> Result<(), TooLarge> {
        match self.settings {
            Some(LargeRequests { above, max }) if size > above => {
                let total = self.bytes.load(Relaxed).saturating_add(size);
                if total <= max { Ok(()) } else { Err(TooLarge { size, max }) }
            }
            _ => Ok(()),
        }
    }

    /// It is there. If it is large it counts from now on, until [`LargeInFlight::finish`].
    pub(super) fn arrive(&self, size: usize) -> Result<Option<usize>, TooLarge> {
        match self.settings {
            Some(LargeRequests { above, max }) if size > above => {
                let total = self.bytes.fetch_add(size, Relaxed).saturating_add(size);
                if total <= max {
                    return Ok(Some(size));
                }
                self.finish(size);
                Err(TooLarge { size, max })
            }
            _ => Ok(None),
        }
    }

    /// It was answered, or never will be.
    pub(super) fn finish(&self, size: usize) {
        let before = self.bytes.fetch_sub(size, Relaxed);
        assert!(before >= size, "{size} bytes were finished of {before} under way");
    }
}

/// The large ones among the requests of a connection that are not answered yet, by their place among all of them.
#[derive(Default)]
pub(super) struct LargeOnes {
    asked: u64,
    answered: u64,
    large: VecDeque<(u64, usize)>,
}

impl LargeOnes {
    /// A request was asked; its size, if it is large.
    pub(super) fn asked(&mut self, large: Option<usize>) {
        if let Some(size) = large {
            self.large.push_back((self.asked, size));
        }
        self.asked += 1;
    }

    /// So many more were answered, the oldest first: the bytes of those that were large.
    pub(super) fn answered(&mut self, count: u64) -> usize {
        self.answered = self.answered.saturating_add(count).min(self.asked);
        let mut bytes = 0;
        while let Some((_, size)) = self.large.pop_front_if(|(place, _)| *place < self.answered) {
            bytes += size;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_large_does_not_count() {
        let large = LargeInFlight::new(Some(LargeRequests { above: 10, max: 25 }));
        for _ in 0..100 {
            assert_eq!((large.announce(10), large.arrive(10)), (Ok(()), Ok(None)));
        }
        let off = LargeInFlight::new(None);
        assert_eq!((off.announce(usize::MAX), off.arrive(usize::MAX)), (Ok(()), Ok(None)));
    }

    #[test]
    fn large_ones_count_until_they_are_answered() {
        let large = LargeInFlight::new(Some(LargeRequests { above: 10, max: 25 }));
        assert_eq!((large.arrive(12), large.arrive(13)), (Ok(Some(12)), Ok(Some(13))));
        let error = large.announce(11).expect_err("25 of 25 are under way");
        assert!(error.to_string().contains("11 bytes") && error.to_string().contains("25"), "{error}");
        assert_eq!(large.arrive(11), Err(error));
        large.finish(12);
        assert_eq!((large.announce(12), large.arrive(12)), (Ok(()), Ok(Some(12))));
    }

    #[test]
    fn the_oldest_are_answered_first() {
        let mut ones = LargeOnes::default();
        for large in [None, Some(20), None, Some(30), Some(40)] {
            ones.asked(large);
        }
        assert_eq!([ones.answered(1), ones.answered(1), ones.answered(2)], [0, 20, 30]);
        assert_eq!(ones.answered(u64::MAX), 40, "the connection is gone");
        ones.asked(Some(50));
        assert_eq!((ones.answered(0), ones.answered(1)), (0, 50));
    }
}
