//! Which sessions are silent for too long: expiry in buckets on the leader, a touch table on learners.
//!
//! Only the leader expires sessions. It rounds the end of each up to the next tick and so has a few
//! buckets, however many sessions there are; a session lives from its time-out to one tick more after it
//! was last heard from. A learner only notes whom it has heard from and gives the notes to the leader with
//! each PING. A new leader knows of no touches and gives everybody the full time-out anew, so no session
//! can end because there was an election.
//!
//! A touch is on its way while the verdict is spoken. So the verdict says what was known (`seen`), and the
//! replica, through which all touches of its own clients go, throws it out when it knows better; the touch
//! then brings the session back here, since whoever is touched is tracked. A touch that comes after the end
//! brings it back as well: it is expired again, and the replica, which knows no such session, shrugs.
//!
//! Absent on purpose: whether a session is open, closing or moved. The tree and the replica know.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{Millis, SessionId};

/// What the session tracker hears.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // of fields: each variant says what they are
pub enum Input {
    /// This server leads from now on: every session gets its full time-out anew.
    Lead { now: Millis, sessions: Vec<(SessionId, i32)> },
    /// It does not: touches are only collected, for the leader.
    Learn,
    /// Sessions heard from, by own clients or (on the leader) by a learner's PING. `batch` grows by one.
    Touched { now: Millis, batch: u64, sessions: Vec<(SessionId, i32)> },
    /// A session is gone.
    Closed(SessionId),
    /// A PING came: hand over the touch table.
    TakeTouched,
    /// Time passes; at least every tick.
    Tick { now: Millis },
}

/// What it wants done.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // of fields: each variant says what they are
pub enum Effect {
    /// These sessions are over. `seen` is the last touch batch known when that was decided: the replica
    /// keeps a session that was touched in a later one (I16: never earlier than its time-out).
    Expire { sessions: Vec<SessionId>, seen: u64 },
    /// The touch table.
    Touched(Vec<(SessionId, i32)>),
}

/// Sessions in one verdict: when a hundred thousand end together, the replica gets them in pieces and can
/// answer clients in between.
pub const MAX_EXPIRED_AT_ONCE: usize = 1000;

/// The session tracker.
#[derive(Debug)]
pub struct Sessions {
    tick_ms: Millis,
    /// The last touch batch.
    seen: u64,
    role: Role,
}

#[derive(Debug)]
enum Role {
    Leading(Leading),
    Learning(Learning),
}

/// The leader's part.
#[derive(Debug)]
struct Leading {
    /// When each session ends: the bucket that it is in.
    ends: BTreeMap<SessionId, Millis>,
    buckets: BTreeMap<Millis, BTreeSet<SessionId>>,
    /// The latest time heard of; never goes back.
    now: Millis,
    last_tick: Millis,
    /// Nobody is expired before: after a pause, what came in meanwhile is heard first.
    grace_until: Millis,
}

/// A learner's part: whom it has heard from since the last PING, each with the time-out of its connection.
#[derive(Debug, Default)]
struct Learning {
    touched: BTreeMap<SessionId, i32>,
}

impl Sessions {
    /// A tracker that learns; `tick_ms` is the width of a bucket.
    pub fn new(tick_ms: Millis) -> Sessions {
        assert!(tick_ms > 0, "a tick takes time");
        Sessions { tick_ms, seen: 0, role: Role::Learning(Learning::default()) }
    }

    /// Sessions tracked (leader) or touched since the last PING (learner).
    pub fn len(&self) -> usize {
        match &self.role {
            Role::Leading(leading) => leading.ends.len(),
            Role::Learning(learning) => learning.touched.len(),
        }
    }

    /// None of them.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes an input; what is to be done is added to `out`.
    pub fn step(&mut self, input: Input, out: &mut Vec<Effect>) {
        let tick_ms = self.tick_ms;
        match (input, &mut self.role) {
            // A new term: whatever was known is void.
            (Input::Lead { now, sessions }, role) => {
                let mut leading = Leading::new(now);
                leading.touch(tick_ms, now, &sessions);
                *role = Role::Leading(leading);
            }
            (Input::Learn, role) => *role = Role::Learning(Learning::default()),
            // Heard from: the time-out starts anew.
            (Input::Touched { now, batch, sessions }, role) => {
                self.seen = self.seen.max(batch);
                match role {
                    Role::Leading(leading) => leading.touch(tick_ms, now, &sessions),
                    Role::Learning(learning) => learning.touched.extend(sessions),
                }
            }
            (Input::Closed(session), Role::Leading(leading)) => leading.forget(session),
            (Input::Closed(session), Role::Learning(learning)) => {
                learning.touched.remove(&session);
            }
            (Input::TakeTouched, Role::Learning(learning)) => {
                let touched = std::mem::take(&mut learning.touched);
                out.push(Effect::Touched(touched.into_iter().collect()));
            }
            // Late: the PING was for the learner that this server was before.
            (Input::TakeTouched, Role::Leading(_)) => {}
            (Input::Tick { now }, Role::Leading(leading)) => leading.tick(tick_ms, now, self.seen, out),
            // Learners expire nobody.
            (Input::Tick { .. }, Role::Learning(_)) => {}
        }
    }
}

impl Leading {
    fn new(now: Millis) -> Leading {
        Leading { ends: BTreeMap::new(), buckets: BTreeMap::new(), now, last_tick: now, grace_until: now }
    }

    /// The time-out is the one of the connection that touched, so it may end the session earlier than it
    /// would have ended before.
    fn touch(&mut self, tick_ms: Millis, now: Millis, sessions: &[(SessionId, i32)]) {
        self.now = self.now.max(now);
        for (session, timeout_ms) in sessions {
            let timeout_ms = Millis::try_from(*timeout_ms).unwrap_or(0);
            let end = ((self.now + timeout_ms) / tick_ms + 1) * tick_ms;
            if self.ends.get(session) != Some(&end) {
                self.forget(*session);
                self.ends.insert(*session, end);
                self.buckets.entry(end).or_default().insert(*session);
            }
        }
    }

    fn forget(&mut self, session: SessionId) {
        let Some(end) = self.ends.remove(&session) else { return };
        let bucket = self.buckets.get_mut(&end).expect("a tracked session is in its bucket");
        assert!(bucket.remove(&session), "a tracked session is in its bucket");
        if bucket.is_empty() {
            self.buckets.remove(&end);
        }
    }

    fn tick(&mut self, tick_ms: Millis, now: Millis, seen: u64, out: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        if self.now > self.last_tick + 2 * tick_ms {
            // This process stood still. Learners send their notes twice a tick: wait for those that are
            // still in a socket before anybody is called silent.
            self.grace_until = self.now + tick_ms;
        }
        self.last_tick = self.now;
        if self.now >= self.grace_until {
            self.expire(seen, out);
        }
    }

    /// Ends whole buckets, the oldest first.
    fn expire(&mut self, seen: u64, out: &mut Vec<Effect>) {
        let mut over = Vec::new();
        while let Some(bucket) = self.buckets.first_entry().filter(|bucket| *bucket.key() <= self.now) {
            over.extend(bucket.remove());
        }
        for session in &over {
            self.ends.remove(session).expect("who is in a bucket is tracked");
        }
        let pieces = over.chunks(MAX_EXPIRED_AT_ONCE);
        out.extend(pieces.map(|piece| Effect::Expire { sessions: piece.to_vec(), seen }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SessionId = SessionId(1);
    const B: SessionId = SessionId(2);
    const TICK: Millis = 500;

    fn step(sessions: &mut Sessions, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        sessions.step(input, &mut out);
        out
    }

    fn leader(now: Millis, sessions: &[(SessionId, i32)]) -> Sessions {
        let mut tracker = Sessions::new(TICK);
        assert!(step(&mut tracker, Input::Lead { now, sessions: sessions.to_vec() }).is_empty());
        tracker
    }

    fn touch(tracker: &mut Sessions, now: Millis, batch: u64, session: SessionId, timeout_ms: i32) {
        let input = Input::Touched { now, batch, sessions: vec![(session, timeout_ms)] };
        assert!(step(tracker, input).is_empty());
    }

    /// Ticks every 100 ms, from `from` to `to`; each expired session with the time of its end.
    fn run(tracker: &mut Sessions, from: Millis, to: Millis) -> Vec<(SessionId, Millis)> {
        let mut over = Vec::new();
        for now in (from..=to).step_by(100) {
            for effect in step(tracker, Input::Tick { now }) {
                let Effect::Expire { sessions, .. } = effect else { panic!("{effect:?}") };
                over.extend(sessions.into_iter().map(|session| (session, now)));
            }
        }
        over
    }

    #[test]
    fn a_session_ends_between_its_timeout_and_one_tick_more() {
        for now in [0, 1, 250, 499, 500, 501, 1000] {
            for timeout_ms in [0, 1, 499, 500, 501, 1000, 4000] {
                let mut tracker = leader(now, &[(A, timeout_ms)]);
                let mut at = now;
                let end = loop {
                    at += 1;
                    if !step(&mut tracker, Input::Tick { now: at }).is_empty() {
                        break at;
                    }
                };
                let lived = end - now;
                let timeout = timeout_ms as Millis;
                assert!(lived > timeout && lived <= timeout + TICK, "{lived} of {timeout} from {now}");
                assert_eq!(end % TICK, 0, "at a multiple of the tick");
            }
        }
    }

    #[test]
    fn a_touch_starts_the_timeout_anew() {
        let mut tracker = leader(0, &[(A, 1000), (B, 1000)]);
        assert_eq!(run(&mut tracker, 0, 900), []);
        touch(&mut tracker, 900, 1, A, 1000);
        assert_eq!(run(&mut tracker, 1000, 3000), [(B, 1500), (A, 2000)]);
        assert!(tracker.is_empty());
    }

    #[test]
    fn the_timeout_is_that_of_the_connection() {
        let mut tracker = leader(0, &[(A, 10_000)]);
        touch(&mut tracker, 100, 1, A, 1000);
        assert_eq!(run(&mut tracker, 100, 3000), [(A, 1500)]);
        touch(&mut tracker, 3000, 2, B, -5);
        assert_eq!(run(&mut tracker, 3000, 4000), [(B, 3500)], "nonsense is no time at all");
    }

    #[test]
    fn a_closed_session_does_not_expire() {
        let mut tracker = leader(0, &[(A, 1000), (B, 1000)]);
        step(&mut tracker, Input::Closed(A));
        step(&mut tracker, Input::Closed(A));
        assert_eq!(tracker.len(), 1);
        assert_eq!(run(&mut tracker, 0, 3000), [(B, 1500)]);
    }

    #[test]
    fn the_verdict_says_what_was_known() {
        let mut tracker = leader(0, &[(A, 100)]);
        touch(&mut tracker, 0, 7, B, 100_000);
        let verdict = step(&mut tracker, Input::Tick { now: 500 });
        assert_eq!(verdict, [Effect::Expire { sessions: vec![A], seen: 7 }]);
        assert_eq!(run(&mut tracker, 600, 2000), [], "a verdict is spoken once");
        touch(&mut tracker, 2000, 8, A, 100);
        assert_eq!(run(&mut tracker, 2000, 3000), [(A, 2500)], "a later touch brings the session back");
    }

    #[test]
    fn a_new_leader_gives_everybody_the_full_timeout() {
        let mut tracker = leader(0, &[(A, 1000)]);
        assert_eq!(run(&mut tracker, 0, 1000), []);
        let sessions = vec![(A, 1000), (B, 2000)];
        step(&mut tracker, Input::Lead { now: 10_000, sessions });
        assert_eq!(run(&mut tracker, 10_000, 14_000), [(A, 11_500), (B, 12_500)]);
    }

    #[test]
    fn a_learner_collects_and_expires_nobody() {
        let mut tracker = leader(0, &[(A, 1000)]);
        step(&mut tracker, Input::Learn);
        assert_eq!(run(&mut tracker, 0, 10_000), []);
        touch(&mut tracker, 0, 1, B, 500);
        touch(&mut tracker, 0, 2, A, 1000);
        touch(&mut tracker, 0, 3, A, 2000);
        let table = step(&mut tracker, Input::TakeTouched);
        assert_eq!(table, [Effect::Touched(vec![(A, 2000), (B, 500)])], "each once, its last time-out");
        assert_eq!(step(&mut tracker, Input::TakeTouched), [Effect::Touched(vec![])]);
        touch(&mut tracker, 0, 4, A, 1000);
        step(&mut tracker, Input::Closed(A));
        assert_eq!(step(&mut tracker, Input::TakeTouched), [Effect::Touched(vec![])]);
        step(&mut tracker, Input::Lead { now: 0, sessions: vec![] });
        assert_eq!(step(&mut tracker, Input::TakeTouched), [], "a leader has no touch table");
    }

    #[test]
    fn after_a_pause_the_touches_are_heard_first() {
        let mut tracker = leader(0, &[(A, 1000), (B, 1000)]);
        assert_eq!(run(&mut tracker, 0, 500), []);
        assert_eq!(step(&mut tracker, Input::Tick { now: 60_000 }), [], "the process stood still");
        touch(&mut tracker, 60_100, 1, A, 1000);
        assert_eq!(run(&mut tracker, 60_100, 62_000), [(B, 60_500), (A, 61_500)]);
    }

    #[test]
    fn time_does_not_go_back() {
        let mut tracker = leader(1000, &[]);
        touch(&mut tracker, 400, 1, A, 1000);
        assert_eq!(run(&mut tracker, 1000, 3000), [(A, 2500)]);
    }

    #[test]
    fn many_ends_come_in_pieces() {
        let many: Vec<_> = (1..=2500).map(|id| (SessionId(id), 100)).collect();
        let mut tracker = leader(0, &many);
        let verdicts = step(&mut tracker, Input::Tick { now: 500 });
        let sizes: Vec<usize> = verdicts
            .iter()
            .map(|verdict| match verdict {
                Effect::Expire { sessions, .. } => sessions.len(),
                Effect::Touched(_) => 0,
            })
            .collect();
        assert_eq!(sizes, [MAX_EXPIRED_AT_ONCE, MAX_EXPIRED_AT_ONCE, 500]);
    }
}
