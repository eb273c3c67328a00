//! How many new connections a server takes in a time: a bucket of tokens, one for each handshake (or more, by its
//! kind), filled again at a steady pace; who finds too few is closed, and tries another server.
//!
//! When the bucket stays empty, closing everybody at the last moment only makes all of them come again at once. So
//! with a freeze time the throttle also closes some at random before that: more and more of them while the bucket
//! is empty, fewer as it fills (the BLUE algorithm of queues in routers).
//!
//! Pure but for the clock and the dice, which the caller brings.

use std::time::Duration;

/// The settings.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionThrottle {
    /// What the bucket holds; with weights, so many global sessions.
    pub tokens: u32,
    /// Time in which the bucket gets `fill_count` tokens.
    pub fill_time: Duration,
    /// See above; with weights, so many global sessions.
    pub fill_count: u32,
    /// How long the chance of being closed at random stays as it is; `None`: nobody is closed at random.
    pub freeze_time: Option<Duration>,
    /// What is added to the chance after that time when the bucket is empty.
    pub drop_increase: f64,
    /// What is taken from it when the bucket is full enough.
    pub drop_decrease: f64,
    /// The part of the bucket that may be missing then.
    pub decrease_ratio: f64,
    /// Tokens by the kind of session; `None`: one for each.
    pub weights: Option<Weights>,
}

/// Tokens that a handshake takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the fields are named for the sessions
pub struct Weights {
    pub global: u32,
    pub renew: u32,
    pub local: u32,
}

/// What a handshake wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A new session of the ensemble.
    Global,
    /// A new session of this server.
    Local,
    /// To go on with a session.
    Renew,
}

/// The bucket.
pub(super) struct Bucket {
    settings: ConnectionThrottle,
    tokens: u64,
    filled: Duration,
    /// When the chance was changed last.
    frozen: Duration,
    /// Of being closed at random.
    chance: f64,
}

impl Bucket {
    /// A full one. Times are since any fixed moment.
    pub(super) fn new(settings: ConnectionThrottle, now: Duration) -> Bucket {
        let mut bucket = Bucket { settings, tokens: 0, filled: now, frozen: now, chance: 0.0 };
        bucket.tokens = bucket.size();
        bucket
    }

    /// May a connection come in? `dice` is from 0 (included) to 1 (excluded).
    pub(super) fn admit(&mut self, wanted: Wanted, now: Duration, dice: f64) -> bool {
        self.fill(now);
        if let Some(freeze_time) = self.settings.freeze_time {
            self.adjust(freeze_time, now);
            if dice < self.chance {
                return false;
            }
        }
        let need = self.settings.weights.map_or(1, |weights| match wanted {
            Wanted::Global => weights.global,
            Wanted::Local => weights.local,
            Wanted::Renew => weights.renew,
        });
        match self.tokens.checked_sub(u64::from(need)) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }

    /// Tokens that are missing.
    pub(super) fn deficit(&self) -> u64 {
        self.size() - self.tokens
    }

    /// The chance of being closed at random.
    pub(super) fn chance(&self) -> f64 {
        self.chance
    }

    fn size(&self) -> u64 {
        u64::from(self.settings.tokens) * self.unit()
    }

    /// Settings count global sessions.
    fn unit(&self) -> u64 {
        self.settings.weights.map_or(1, |weights| u64::from(weights.global))
    }

    fn fill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.filled);
        if passed <= self.settings.fill_time {
            return;
        }
        let rate = u128::from(self.settings.fill_count) * u128::from(self.unit());
        let more = passed.as_millis() * rate / self.settings.fill_time.as_millis().max(1);
        let tokens = u128::from(self.tokens) + more;
        self.tokens = u64::try_from(tokens).unwrap_or(u64::MAX).min(self.size());
        self.filled = now;
    }

    fn adjust(&mut self, freeze_time: Duration, now: Duration) {
        if now.saturating_sub(self.frozen) <= freeze_time {
            return;
        }
        self.frozen = now;
        let may_be_missing = (self.size() as f64 * self.settings.decrease_ratio).round();
        if self.tokens == 0 {
            self.chance = (self.chance + self.settings.drop_increase).min(1.0);
        } else if self.deficit() as f64 <= may_be_missing {
            self.chance = (self.chance - self.settings.drop_decrease).max(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: f64 = 0.999_999;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn settings(tokens: u32) -> ConnectionThrottle {
        ConnectionThrottle {
            tokens,
            fill_time: ms(100),
            fill_count: 2,
            freeze_time: None,
            drop_increase: 0.02,
            drop_decrease: 0.002,
            decrease_ratio: 0.0,
            weights: None,
        }
    }

    /// How many come in at that moment.
    fn admitted(bucket: &mut Bucket, wanted: Wanted, now: Duration) -> usize {
        (0..1000).take_while(|_| bucket.admit(wanted, now, NEVER)).count()
    }

    #[test]
    fn a_token_each_until_it_is_empty_and_more_as_it_fills() {
        let mut bucket = Bucket::new(settings(5), ms(0));
        assert_eq!(admitted(&mut bucket, Wanted::Global, ms(0)), 5);
        assert_eq!(bucket.deficit(), 5);
        assert_eq!(admitted(&mut bucket, Wanted::Global, ms(100)), 0, "not before the time is over");
        assert_eq!(admitted(&mut bucket, Wanted::Global, ms(101)), 2);
        assert_eq!(admitted(&mut bucket, Wanted::Global, ms(251)), 3, "by what has passed");
        assert_eq!(admitted(&mut bucket, Wanted::Renew, ms(1_000_000)), 5, "never more than it holds");
        assert_eq!(admitted(&mut bucket, Wanted::Global, ms(3)), 0, "a clock that goes back fills nothing");
        assert_eq!(admitted(&mut bucket, Wanted::Global, Duration::MAX), 5);
    }

    #[test]
    fn weights_count_in_global_sessions() {
        let weights = Some(Weights { global: 3, renew: 2, local: 1 });
        let full = || Bucket::new(ConnectionThrottle { weights, ..settings(4) }, ms(0));
        assert_eq!(admitted(&mut full(), Wanted::Global, ms(0)), 4);
        assert_eq!(admitted(&mut full(), Wanted::Renew, ms(0)), 6);
        assert_eq!(admitted(&mut full(), Wanted::Local, ms(0)), 12);
        let mut bucket = full();
        assert_eq!(admitted(&mut bucket, Wanted::Local, ms(0)), 12);
        assert_eq!(admitted(&mut bucket, Wanted::Global, ms(101)), 2);
    }

    #[test]
    fn an_empty_bucket_raises_the_chance_and_a_full_one_lowers_it() {
        let freezing = ConnectionThrottle {
            freeze_time: Some(ms(10)),
            drop_increase: 0.6,
            drop_decrease: 0.5,
            decrease_ratio: 0.5,
            fill_time: ms(1000),
            ..settings(4)
        };
        let mut bucket = Bucket::new(freezing, ms(0));
        assert_eq!(admitted(&mut bucket, Wanted::Global, ms(0)), 4);
        assert_eq!(bucket.chance(), 0.0);
        assert!(!bucket.admit(Wanted::Global, ms(11), 0.0), "empty, so it is raised");
        assert_eq!(bucket.chance(), 0.6);
        bucket.admit(Wanted::Global, ms(20), NEVER);
        assert_eq!(bucket.chance(), 0.6, "frozen");
        bucket.admit(Wanted::Global, ms(22), NEVER);
        assert_eq!(bucket.chance(), 1.0, "never more");
        // Two of four are there after a while, and two may be missing.
        assert!(bucket.admit(Wanted::Global, ms(1001), 0.5), "0.5 is the chance now");
        assert_eq!(bucket.chance(), 0.5);
        assert!(!bucket.admit(Wanted::Global, ms(1001), 0.49));
        assert_eq!(bucket.deficit(), 3, "who is closed at random takes no token");
    }

    #[test]
    fn without_a_freeze_time_nobody_is_closed_at_random() {
        let mut bucket = Bucket::new(settings(1), ms(0));
        for now in 0..100 {
            bucket.admit(Wanted::Global, ms(now), 0.0);
        }
        assert_eq!(bucket.chance(), 0.0);
    }
}
