//! Which sessions are silent for too long: expiry in buckets on whoever keeps them, and a touch table for
//! those that the leader keeps.
//!
//! Global sessions are expired by the leader alone, local ones by the server they belong to, whatever it is.
//! Either way the end of each is rounded up to the next tick, so that there are a few buckets, however many
//! sessions there are; a session lives from its time-out to one tick more after it was last heard from. A
//! learner only notes which global sessions it has heard from and gives the notes to the leader with each
//! PING. A new leader knows of no touches and gives everybody the full time-out anew, so no session can end
//! because there was an election.
//!
//! The verdict on the time of a tick is spoken at the next tick: what had come by the first is heard by then.
//! Otherwise a process that stood still, be it for less than a tick, would end sessions whose word lay in a
//! socket meanwhile.
//!
//! A touch is on its way while the verdict is spoken. So the verdict says what was known (`seen`), and the
//! replica, through which all touches of its own clients go, throws it out when it knows better; the touch
//! then brings the session back here, since whoever is touched is tracked. A touch that comes after the end
//! brings it back as well: it is expired again, and the replica, which knows no such session, shrugs.
//!
//! Absent on purpose: whether a session is open, closing or moved. The tree and the replica know.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::core::mutant::{Mutant, mutated};
use crate::types::{Millis, SessionId};

/// What the session tracker hears.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // of fields: each variant says what they are
pub enum Input {
    /// This server leads from now on: every session gets its full time-out anew. There are no local ones yet.
    Lead { now: Millis, sessions: Vec<(SessionId, i32)> },
    /// It does not: touches of global sessions are only collected, for the leader. There are no local ones yet.
    Learn,
    /// Sessions heard from, by own clients or (on the leader) by a learner's PING: global ones, and this
    /// server's local ones. One that was local before has been upgraded. `batch` grows by one.
    Touched { now: Millis, batch: u64, sessions: Vec<(SessionId, i32)>, local: Vec<(SessionId, i32)> },
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

/// Sessions in one page of the list that operators ask for.
const PAGE: usize = 1000;

/// Sessions that end together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// When.
    pub end: Millis,
    /// How many they are in all; a page may show but a part.
    pub size: usize,
    /// Those in this page.
    pub sessions: Vec<SessionId>,
}

/// A piece of the list of sessions by their end, the earliest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpiryPage {
    /// Buckets in all.
    pub buckets: usize,
    /// Sessions in all.
    pub sessions: usize,
    /// The first may go on where the last of the page before ended.
    pub page: Vec<Bucket>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<(Millis, SessionId)>,
}

/// The session tracker.
#[derive(Debug)]
pub struct Sessions {
    tick_ms: Millis,
    /// The last touch batch.
    seen: u64,
    /// The latest time heard of; never goes back.
    now: Millis,
    last_tick: Millis,
    /// Nobody is expired before: after a pause, what came in meanwhile is heard first.
    grace_until: Millis,
    /// This server's local sessions.
    local: Ends,
    role: Role,
}

/// What becomes of global sessions.
#[derive(Debug)]
enum Role {
    /// The leader expires them.
    Leading(Ends),
    /// A learner notes whom it has heard from since the last PING, with the time-out of its connection.
    Learning(BTreeMap<SessionId, i32>),
}

/// When each session ends: the bucket that it is in.
#[derive(Debug, Default)]
struct Ends {
    ends: BTreeMap<SessionId, Millis>,
    buckets: BTreeMap<Millis, BTreeSet<SessionId>>,
}

impl Sessions {
    /// A tracker that learns; `tick_ms` is the width of a bucket.
    pub fn new(tick_ms: Millis) -> Sessions {
        assert!(tick_ms > 0, "a tick takes time");
        let role = Role::Learning(BTreeMap::new());
        Sessions { tick_ms, seen: 0, now: 0, last_tick: 0, grace_until: 0, local: Ends::default(), role }
    }

    /// Sessions tracked here, and on a learner those touched since the last PING.
    pub fn len(&self) -> usize {
        let global = match &self.role {
            Role::Leading(global) => global.ends.len(),
            Role::Learning(touched) => touched.len(),
        };
        global + self.local.ends.len()
    }

    /// None of them.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Global sessions by their end, behind that place or from the first on; `None` on a learner, which knows no
    /// ends.
    pub fn expiry_page(&self, after: Option<(Millis, SessionId)>) -> Option<ExpiryPage> {
        match &self.role {
            Role::Leading(global) => Some(global.page(after)),
            Role::Learning(_) => None,
        }
    }

    /// The same of this server's local sessions.
    pub fn local_expiry_page(&self, after: Option<(Millis, SessionId)>) -> ExpiryPage {
        self.local.page(after)
    }

    /// Takes an input; what is to be done is added to `out`.
    pub fn step(&mut self, input: Input, out: &mut Vec<Effect>) {
        match input {
            // A new term: whatever was known is void.
            Input::Lead { now, sessions } => {
                self.now = self.now.max(now);
                (self.last_tick, self.grace_until) = (self.now, self.now);
                let mut global = Ends::default();
                global.touch(self.tick_ms, self.now, &sessions);
                self.begin(Role::Leading(global));
            }
            Input::Learn => self.begin(Role::Learning(BTreeMap::new())),
            // Heard from: the time-out starts anew.
            Input::Touched { now, batch, sessions, local } => {
                self.now = self.now.max(now);
                self.seen = self.seen.max(batch);
                self.touch(sessions, &local);
            }
            Input::Closed(session) => self.forget(session),
            Input::TakeTouched => {
                // Late on a leader: the PING was for the learner that this server was before.
                if let Role::Learning(touched) = &mut self.role {
                    out.push(Effect::Touched(std::mem::take(touched).into_iter().collect()));
                }
            }
            Input::Tick { now } => self.tick(now, out),
        }
    }

    fn begin(&mut self, role: Role) {
        self.local = Ends::default();
        self.role = role;
    }

    fn touch(&mut self, sessions: Vec<(SessionId, i32)>, local: &[(SessionId, i32)]) {
        self.local.touch(self.tick_ms, self.now, local);
        for (session, _) in &sessions {
            self.local.forget(*session);
        }
        match &mut self.role {
            Role::Leading(global) => global.touch(self.tick_ms, self.now, &sessions),
            Role::Learning(touched) => touched.extend(sessions),
        }
    }

    fn forget(&mut self, session: SessionId) {
        self.local.forget(session);
        match &mut self.role {
            Role::Leading(global) => global.forget(session),
            Role::Learning(touched) => drop(touched.remove(&session)),
        }
    }

    fn tick(&mut self, now: Millis, out: &mut Vec<Effect>) {
        // What came since may still be on its way here, in front of this tick or behind it.
        let judged = self.last_tick;
        self.now = self.now.max(now);
        if self.now > self.last_tick + 2 * self.tick_ms {
            // This process stood still. Learners send their notes twice a tick: wait for those that are
            // still in a socket before anybody is called silent.
            self.grace_until = self.now + self.tick_ms;
        }
        self.last_tick = self.now;
        if judged < self.grace_until {
            return;
        }
        let mut over = self.local.take_until(judged);
        if let Role::Leading(global) = &mut self.role {
            over.extend(global.take_until(judged));
        }
        let pieces = over.chunks(MAX_EXPIRED_AT_ONCE);
        out.extend(pieces.map(|piece| Effect::Expire { sessions: piece.to_vec(), seen: self.seen }));
    }
}

impl Ends {
    fn page(&self, after: Option<(Millis, SessionId)>) -> ExpiryPage {
        let (buckets, sessions) = (self.buckets.len(), self.ends.len());
        let mut list = ExpiryPage { buckets, sessions, ..ExpiryPage::default() };
        let mut left = PAGE;
        for (end, bucket) in self.buckets.range(after.map_or(0, |(end, _)| end)..) {
            let place = after.filter(|(place, _)| place == end);
            let behind = place.map_or(Bound::Unbounded, |(_, id)| Bound::Excluded(id));
            let sessions: Vec<_> = bucket.range((behind, Bound::Unbounded)).copied().take(left).collect();
            let Some(last) = sessions.last().copied() else { continue };
            left -= sessions.len();
            list.page.push(Bucket { end: *end, size: bucket.len(), sessions });
            if left == 0 {
                list.next = Some((*end, last));
                break;
            }
        }
        list
    }

    /// The time-out is the one of the connection that touched, so it may end the session earlier than it
    /// would have ended before.
    fn touch(&mut self, tick_ms: Millis, now: Millis, sessions: &[(SessionId, i32)]) {
        for (session, timeout_ms) in sessions {
            let timeout_ms = Millis::try_from(*timeout_ms).unwrap_or(0);
            let up = Millis::from(!mutated(Mutant::EarlyExpiry));
            let end = ((now + timeout_ms) / tick_ms + up) * tick_ms;
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

    /// Takes out whole buckets, the oldest first.
    fn take_until(&mut self, now: Millis) -> Vec<SessionId> {
        let mut over = Vec::new();
        while let Some(bucket) = self.buckets.first_entry().filter(|bucket| *bucket.key() <= now) {
            over.extend(bucket.remove());
        }
        for session in &over {
            self.ends.remove(session).expect("who is in a bucket is tracked");
        }
        over
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

    /// The verdict on this time, which the next tick speaks.
    fn tick(tracker: &mut Sessions, now: Millis) -> Vec<Effect> {
        let before = step(tracker, Input::Tick { now });
        assert!(before.is_empty(), "only the next tick speaks of {now}");
        step(tracker, Input::Tick { now })
    }

    fn leader(now: Millis, sessions: &[(SessionId, i32)]) -> Sessions {
        let mut tracker = Sessions::new(TICK);
        assert!(step(&mut tracker, Input::Lead { now, sessions: sessions.to_vec() }).is_empty());
        tracker
    }

    fn touch(tracker: &mut Sessions, now: Millis, batch: u64, session: SessionId, timeout_ms: i32) {
        let input = Input::Touched { now, batch, sessions: vec![(session, timeout_ms)], local: vec![] };
        assert!(step(tracker, input).is_empty());
    }

    /// Ticks every 100 ms, from `from` to `to`; each expired session with the time of its end.
    fn run(tracker: &mut Sessions, from: Millis, to: Millis) -> Vec<(SessionId, Millis)> {
        let mut over = Vec::new();
        for now in (from..=to).step_by(100) {
            for effect in tick(tracker, now) {
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
                    if !tick(&mut tracker, at).is_empty() {
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
        let verdict = tick(&mut tracker, 500);
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
        assert_eq!(tick(&mut tracker, 60_000), [], "the process stood still");
        touch(&mut tracker, 60_100, 1, A, 1000);
        assert_eq!(run(&mut tracker, 60_100, 62_000), [(B, 60_500), (A, 61_500)]);
    }

    /// The process stands still for less than two ticks, twice; what came meanwhile is heard behind its own tick.
    #[test]
    fn what_came_in_a_short_pause_is_heard_first() {
        let mut tracker = leader(0, &[(A, 1000), (B, 1000)]);
        assert_eq!(run(&mut tracker, 0, 1400), []);
        for (now, batch) in [(2100, 1), (2800, 2)] {
            assert_eq!(step(&mut tracker, Input::Tick { now }), [], "nobody had ended at the last tick");
            touch(&mut tracker, now, batch, A, 1000);
            touch(&mut tracker, now, batch, B, 1000);
        }
        assert_eq!(run(&mut tracker, 2900, 5000), [(A, 4000), (B, 4000)]);
    }

    #[test]
    fn time_does_not_go_back() {
        let mut tracker = leader(1000, &[]);
        touch(&mut tracker, 400, 1, A, 1000);
        assert_eq!(run(&mut tracker, 1000, 3000), [(A, 2500)]);
    }

    #[test]
    fn ends_are_listed_in_pages() {
        let mut tracker = leader(0, &[(A, 100), (B, 600)]);
        let list = tracker.expiry_page(None).expect("it leads");
        let bucket = |end, size, sessions: &[SessionId]| Bucket { end, size, sessions: sessions.to_vec() };
        assert_eq!((list.buckets, list.sessions, list.next), (2, 2, None));
        assert_eq!(list.page, [bucket(500, 1, &[A]), bucket(1000, 1, &[B])]);

        let many: Vec<_> = (1..=2500).map(|id| (SessionId(id), if id < 1500 { 100 } else { 600 })).collect();
        let mut tracker_of_many = leader(0, &many);
        let (mut listed, mut pages, mut after) = (Vec::new(), 0, None);
        loop {
            let list = tracker_of_many.expiry_page(after).expect("it leads");
            assert_eq!((list.buckets, list.sessions), (2, 2500));
            for bucket in list.page {
                assert_eq!(bucket.size, if bucket.end == 500 { 1499 } else { 1001 });
                listed.extend(bucket.sessions.into_iter().map(|session| (session, bucket.end)));
            }
            pages += 1;
            after = list.next;
            if after.is_none() {
                break;
            }
        }
        let expected: Vec<_> =
            many.iter().map(|(id, timeout)| (*id, if *timeout == 100 { 500 } else { 1000 })).collect();
        assert_eq!((listed, pages), (expected, 3));

        step(&mut tracker, Input::Learn);
        step(&mut tracker_of_many, Input::Learn);
        assert_eq!(tracker.expiry_page(None), None);
    }

    #[test]
    fn many_ends_come_in_pieces() {
        let many: Vec<_> = (1..=2500).map(|id| (SessionId(id), 100)).collect();
        let mut tracker = leader(0, &many);
        let verdicts = tick(&mut tracker, 500);
        let sizes: Vec<usize> = verdicts
            .iter()
            .map(|verdict| match verdict {
                Effect::Expire { sessions, .. } => sessions.len(),
                Effect::Touched(_) => 0,
            })
            .collect();
        assert_eq!(sizes, [MAX_EXPIRED_AT_ONCE, MAX_EXPIRED_AT_ONCE, 500]);
    }

    fn touch_local(tracker: &mut Sessions, now: Millis, session: SessionId, timeout_ms: i32) {
        let input = Input::Touched { now, batch: 1, sessions: vec![], local: vec![(session, timeout_ms)] };
        assert!(step(tracker, input).is_empty());
    }

    #[test]
    fn local_sessions_are_expired_where_they_are() {
        for mut tracker in [leader(0, &[]), Sessions::new(TICK)] {
            touch_local(&mut tracker, 100, A, 1000);
            assert_eq!(run(&mut tracker, 100, 900), []);
            touch_local(&mut tracker, 900, A, 1000);
            assert_eq!(run(&mut tracker, 1000, 3000), [(A, 2000)]);
            touch_local(&mut tracker, 3000, A, 1000);
            step(&mut tracker, Input::Closed(A));
            assert_eq!(run(&mut tracker, 3000, 6000), []);
            assert!(tracker.is_empty());
        }
    }

    #[test]
    fn a_local_session_is_not_told_to_the_leader_until_it_is_upgraded() {
        let mut tracker = Sessions::new(TICK);
        touch_local(&mut tracker, 0, A, 1000);
        assert_eq!(step(&mut tracker, Input::TakeTouched), [Effect::Touched(vec![])]);
        touch(&mut tracker, 100, 2, A, 1000);
        assert_eq!(run(&mut tracker, 100, 5000), [], "the leader expires it now");
        assert_eq!(step(&mut tracker, Input::TakeTouched), [Effect::Touched(vec![(A, 1000)])]);
        let mut tracker = leader(0, &[]);
        touch_local(&mut tracker, 0, A, 500);
        touch(&mut tracker, 100, 2, A, 2000);
        assert_eq!(run(&mut tracker, 100, 5000), [(A, 2500)], "once, by its new time-out");
    }

    #[test]
    fn local_sessions_do_not_outlive_a_role() {
        let mut tracker = Sessions::new(TICK);
        for role in [Input::Lead { now: 0, sessions: vec![] }, Input::Learn] {
            touch_local(&mut tracker, 0, A, 1000);
            step(&mut tracker, role);
            assert_eq!(run(&mut tracker, 0, 3000), []);
        }
    }
}
