//! Warnings about the same thing over and over, kept rare: a peer that is down is dialled every second,
//! and a stranger may knock as often as he likes.

use std::collections::HashMap;
use std::time::Duration;

use slog::{Logger, warn};
use tokio::time::Instant;

/// The same words are logged again only after this time.
const REPEAT_AFTER: Duration = Duration::from_secs(60);

/// Different words remembered; when there are more, all are forgotten and may be logged anew.
const REMEMBERED: usize = 256;

/// A log that does not repeat itself.
pub(super) struct Complaints {
    log: Logger,
    said: HashMap<String, Instant>,
}

impl Complaints {
    /// Complaints go to this log.
    pub(super) fn new(log: Logger) -> Complaints {
        Complaints { log, said: HashMap::new() }
    }

    /// Logs at warn, unless the same was said lately. True if it was logged.
    pub(super) fn warn(&mut self, words: String) -> bool {
        let log = self.log.clone();
        self.unless_said(words, |words| warn!(log, "{}", words))
    }

    /// The same with a reason that does not count: strangers choose what is wrong with their bytes, and
    /// could make every complaint a new one.
    pub(super) fn warn_because(&mut self, words: String, reason: &str) -> bool {
        let log = self.log.clone();
        self.unless_said(words, |words| warn!(log, "{}", words; "reason" => reason))
    }

    fn unless_said(&mut self, words: String, say: impl FnOnce(&str)) -> bool {
        let now = Instant::now();
        if self.said.get(&words).is_some_and(|said| now - *said < REPEAT_AFTER) {
            return false;
        }
        say(&words);
        if self.said.len() >= REMEMBERED {
            self.said.clear();
        }
        self.said.insert(words, now);
        true
    }

    /// The trouble is over: the next complaint in these words is news again.
    pub(super) fn forget(&mut self) {
        self.said.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_same_words_are_rare() {
        let mut complaints = Complaints::new(Logger::root(slog::Discard, slog::o!()));
        assert!(complaints.warn("no route".to_string()));
        assert!(!complaints.warn("no route".to_string()));
        assert!(complaints.warn("refused".to_string()));
        tokio::time::advance(REPEAT_AFTER).await;
        assert!(complaints.warn("no route".to_string()));
        complaints.forget();
        assert!(complaints.warn("no route".to_string()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reason_does_not_make_it_news() {
        let mut complaints = Complaints::new(Logger::root(slog::Discard, slog::o!()));
        assert!(complaints.warn_because("closed".to_string(), "a frame of 7777777 bytes"));
        assert!(!complaints.warn_because("closed".to_string(), "a frame of 8888888 bytes"));
    }

    #[tokio::test]
    async fn it_does_not_remember_more_than_its_bound() {
        let mut complaints = Complaints::new(Logger::root(slog::Discard, slog::o!()));
        for n in 0..10 * REMEMBERED {
            complaints.warn(format!("stranger {n}"));
            assert!(complaints.said.len() <= REMEMBERED);
        }
    }
}
