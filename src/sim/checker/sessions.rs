//! I16: no session is expired earlier than its time-out after the leader heard of it last, or began to lead.

use std::collections::BTreeMap;

use zabra_actors::types::{Epoch, SessionId, Sid, Tenure, TxnHeader, WallMillis, Zxid};

/// What is known of sessions and leaders.
#[derive(Default)]
pub(super) struct Sessions {
    /// Who led an epoch, and since when.
    leaders: BTreeMap<Epoch, (Sid, u64)>,
    /// When a server heard of a session.
    heard: BTreeMap<(SessionId, Sid), Vec<u64>>,
    /// By leader and learner: when the learner has asked the last time whether a session may go on.
    asked: BTreeMap<(SessionId, Sid, Sid), u64>,
    /// By what its clock shows at the time 0 of the run, or would, and since when.
    clocks: BTreeMap<Sid, Vec<(u64, WallMillis)>>,
    /// By leader and learner: the stay in which the leader listens to it.
    attending: BTreeMap<(Sid, Sid), Attention>,
    /// When a process stood still: from, to.
    pauses: BTreeMap<Sid, Vec<(u64, u64)>>,
    /// The time-out that a session was opened with: all its connections ask for the same.
    timeouts: BTreeMap<SessionId, i32>,
    /// When a session was last allowed to go on at a server, by its leader, and in which epoch.
    granted: BTreeMap<(SessionId, Sid), (u64, Epoch)>,
}

/// A leader listens to a learner.
struct Attention {
    tenure: Tenure,
    /// Sessions that the learner's packets were about, and when those arrived, as far as the leader may not have
    /// come to them yet.
    unread: Vec<(u64, SessionId)>,
}

impl Sessions {
    /// I1: a leadership is established, and nobody else led its epoch.
    pub(super) fn leads(&mut self, now: u64, sid: Sid, epoch: Epoch) -> Result<(), String> {
        match self.leaders.insert(epoch, (sid, now)) {
            Some((other, _)) => Err(format!("I1: epoch {epoch} is led by {other} and by {sid}")),
            None => Ok(()),
        }
    }

    /// Since when this server has led this epoch, and the ones before without an election between them.
    pub(super) fn led_since(&self, sid: Sid, epoch: Epoch) -> Option<u64> {
        self.leaders.get(&epoch).filter(|(leader, _)| *leader == sid).map(|(_, since)| *since)
    }

    /// Epochs led so far.
    pub(super) fn epochs(&self) -> usize {
        self.leaders.len()
    }

    /// The newest leader's sid.
    pub(super) fn leader_of(&self, epoch: Epoch) -> Option<Sid> {
        self.leaders.get(&epoch).map(|(sid, _)| *sid)
    }

    /// Something of a session has reached a server: of its client, or of the learner that serves it.
    pub(super) fn touched(&mut self, now: u64, at: Sid, session: SessionId) {
        self.heard.entry((session, at)).or_default().push(now);
    }

    /// A learner comes to a leader. What it says in an older stay is heard no longer.
    pub(super) fn comes(&mut self, at: Sid, learner: Sid, tenure: Tenure) {
        if self.attending.get(&(at, learner)).is_none_or(|older| older.tenure < tenure) {
            self.attending.insert((at, learner), Attention { tenure, unread: Vec::new() });
        }
    }

    /// The link to a learner is gone, as far as the leader knows: with it the stay.
    pub(super) fn link_down(&mut self, at: Sid, learner: Sid) {
        self.attending.remove(&(at, learner));
    }

    /// One of the two has said goodbye. If that was the leader, what has arrived in this very millisecond, or while
    /// it stood still, may lie behind its decision, in a connection that it reads no more.
    pub(super) fn leaves(&mut self, now: u64, at: Sid, learner: Sid, tenure: Tenure) {
        if !self.listens(at, learner, tenure) {
            return;
        }
        let since = self.reads_since(now, at);
        let unread = self.attending.remove(&(at, learner)).map(|attending| attending.unread);
        for (time, session) in unread.into_iter().flatten().filter(|(time, _)| *time >= since) {
            self.unhear(session, at, time);
        }
    }

    /// What came before this time a process has read: now, or when it began to stand still.
    fn reads_since(&self, now: u64, at: Sid) -> u64 {
        let pause = self.pauses.get(&at).and_then(|pauses| pauses.last());
        pause.filter(|(_, to)| now <= *to).map_or(now, |(from, _)| *from)
    }

    /// A learner's packet is about this session.
    pub(super) fn touched_by(&mut self, now: u64, at: Sid, learner: Sid, session: SessionId) {
        self.touched(now, at, session);
        let since = self.reads_since(now, at);
        if let Some(Attention { unread, .. }) = self.attending.get_mut(&(at, learner)) {
            unread.retain(|(time, _)| *time >= since);
            unread.push((now, session));
        }
    }

    /// A learner asks whether a session may go on there, and no answer has left yet.
    pub(super) fn asked_about(&mut self, now: u64, at: Sid, learner: Sid, session: SessionId) {
        self.touched_by(now, at, learner, session);
        self.asked.insert((session, at, learner), now);
    }

    /// It may not: then it was no news of the session, which is over, or is not there yet.
    pub(super) fn refuses(&mut self, at: Sid, learner: Sid, session: SessionId) {
        if let Some(time) = self.asked.remove(&(session, at, learner)) {
            self.unhear(session, at, time);
        }
    }

    fn unhear(&mut self, session: SessionId, at: Sid, time: u64) {
        if let Some(heard) = self.heard.get_mut(&(session, at))
            && let Some(place) = heard.iter().rposition(|it| *it == time)
        {
            heard.remove(place);
        }
    }

    /// A process stands still.
    pub(super) fn pauses(&mut self, at: Sid, since: u64, until: u64) {
        let pauses = self.pauses.entry(at).or_default();
        match pauses.last_mut().filter(|(_, end)| since <= *end) {
            Some((_, end)) => *end = until,
            None => pauses.push((since, until)),
        }
    }

    /// A process has begun, and knows of no stays.
    pub(super) fn begins(&mut self, at: Sid) {
        self.attending.retain(|(leader, _), _| *leader != at);
    }

    /// Does a leader listen to what a learner says in this stay? A packet of a stay that is over comes by the
    /// connection of the next one, when a learner does not know yet that its link was replaced or its leader's
    /// process is another. It is no news of any session: no connection of the leader's has carried it. (The
    /// protocol has a connection for each stay, spec/zab.md 3.1; here the tenure says to which a packet belongs.)
    pub(super) fn listens(&self, at: Sid, learner: Sid, tenure: Tenure) -> bool {
        self.attending.get(&(at, learner)).is_some_and(|attending| attending.tenure == tenure)
    }

    /// A leader lets a session go on at a server, or has taken it in itself.
    pub(super) fn grants(&mut self, now: u64, epoch: Epoch, session: SessionId, at: Sid) {
        self.granted.insert((session, at), (now, epoch));
    }

    /// When that happened last, and in which epoch.
    pub(super) fn granted(&self, session: SessionId, at: Sid) -> Option<(u64, Epoch)> {
        self.granted.get(&(session, at)).copied()
    }

    /// A server's clock shows this at the time 0 of the run, or would. Returns what it was set to before.
    pub(super) fn set_clock(&mut self, now: u64, sid: Sid, origin: WallMillis) -> Option<WallMillis> {
        let clocks = self.clocks.entry(sid).or_default();
        let before = clocks.last().map(|(_, origin)| *origin);
        clocks.push((now, origin));
        before
    }

    /// When a server's clock has shown this: more than once, if it was set back.
    fn times_of(&self, now: u64, sid: Sid, shown: WallMillis) -> impl Iterator<Item = u64> {
        let clocks = self.clocks.get(&sid).map_or(&[][..], Vec::as_slice);
        let ends = clocks.iter().skip(1).map(|(since, _)| *since).chain([now]);
        clocks.iter().zip(ends).filter_map(move |((since, origin), end)| {
            let time = u64::try_from(shown - origin).ok()?;
            (*since..=end).contains(&time).then_some(time)
        })
    }

    /// A createSession is logged for the first time anywhere.
    pub(super) fn opens(&mut self, session: SessionId, timeout_ms: i32) {
        self.timeouts.insert(session, timeout_ms);
    }

    /// A closeSession is logged for the first time anywhere. Only an expiry has no request number.
    pub(super) fn closes(&self, now: u64, header: &TxnHeader) -> Result<(), String> {
        let TxnHeader { session, cxid, zxid, time } = *header;
        if cxid != 0 {
            return Ok(());
        }
        let Some((leader, since)) = self.leaders.get(&zxid.epoch()) else {
            return Err(format!("I16: {zxid} expires session {session}, and nobody has led its epoch"));
        };
        let Some(timeout_ms) = self.timeouts.get(&session) else {
            return Err(format!("I16: {leader} expires session {session}, which nobody has opened"));
        };
        // It may have waited for a slow disk, or for the next epoch, before it was seen; what counts is when it was
        // decided, as the leader's clock tells.
        let timeout_ms = (*timeout_ms).max(0) as u64;
        let mut longest = None;
        for decided in self.times_of(now, *leader, time) {
            let silent = self.silent(session, *leader, *since, decided, timeout_ms);
            if silent >= timeout_ms {
                return Ok(());
            }
            longest = longest.max(Some(silent));
        }
        match longest {
            Some(silent) => Err(format!(
                "I16: session {session} is expired by {leader} {silent} ms after it was heard of, its time-out is \
                 {timeout_ms} ms"
            )),
            None => Err(format!(
                "I16: session {session} is expired by {leader} at {time}, which its clock has never shown"
            )),
        }
    }

    /// How long a session had been silent when its end was decided.
    fn silent(&self, session: SessionId, leader: Sid, since: u64, decided: u64, timeout_ms: u64) -> u64 {
        let times = self.heard.get(&(session, leader)).map_or(&[][..], Vec::as_slice);
        let silent_at = |time: u64| {
            let known = times.partition_point(|at| *at < time);
            time.saturating_sub(times[..known].last().copied().unwrap_or_default().max(since))
        };
        let silent = silent_at(decided);
        // What came while the leader stood still is too late for whoever was over before: it had been silent for its
        // time-out already, and only the verdict had not been spoken.
        let heard = decided - silent;
        let mut pauses = self.pauses.get(&leader).into_iter().flatten();
        let before =
            pauses.rfind(|(from, to)| (*from..=*to).contains(&heard)).map(|(from, _)| silent_at(*from));
        before.filter(|before| *before >= timeout_ms).unwrap_or(silent)
    }
}

/// Is it a transaction, or the mark of an epoch?
pub(super) fn is_txn(zxid: Zxid) -> bool {
    zxid.counter() > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEADER: Sid = Sid(1);
    const SESSION: SessionId = SessionId(7);
    const NOON: WallMillis = 1_000_000;

    /// A leader since 1,000 ms, and a session with a time-out of 500 ms that was heard of at 2,000.
    fn sessions() -> Sessions {
        let mut sessions = Sessions::default();
        sessions.set_clock(0, LEADER, NOON);
        sessions.leads(1_000, LEADER, Epoch(1)).unwrap();
        sessions.opens(SESSION, 500);
        sessions.touched(2_000, LEADER, SESSION);
        sessions
    }

    fn expired(at: WallMillis, session: SessionId, epoch: u32) -> TxnHeader {
        TxnHeader { session, cxid: 0, zxid: Zxid::new(Epoch(epoch), 9), time: at }
    }

    /// The verdict on an expiry that was decided when the leader's clock showed this.
    fn verdict(sessions: &Sessions, shown: WallMillis) -> Result<(), String> {
        sessions.closes(9_000, &expired(shown, SESSION, 1))
    }

    #[test]
    fn a_session_expires_after_its_time_out_and_not_before() {
        assert_eq!(verdict(&sessions(), NOON + 2_500), Ok(()));
        assert!(verdict(&sessions(), NOON + 2_499).unwrap_err().contains("499 ms after it was heard of"));
        let closed = TxnHeader { cxid: 3, ..expired(NOON + 2_100, SESSION, 1) };
        assert_eq!(sessions().closes(9_000, &closed), Ok(()), "its client has asked for it");
    }

    #[test]
    fn an_expiry_without_a_reason_is_none() {
        let unexplained = [
            (expired(NOON + 9_001, SESSION, 1), "which its clock has never shown"),
            (expired(NOON + 2_500, SESSION, 2), "nobody has led its epoch"),
            (expired(NOON + 2_500, SessionId(8), 1), "which nobody has opened"),
        ];
        for (header, why) in unexplained {
            assert!(sessions().closes(9_000, &header).unwrap_err().contains(why), "{header:?}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_has_shown_a_time_twice() {
        let mut sessions = sessions();
        sessions.set_clock(2_400, LEADER, NOON - 1_000);
        assert_eq!(verdict(&sessions, NOON + 2_300), Ok(()), "at 3,300, not at 2,300");
        assert!(verdict(&sessions, NOON + 1_450).is_err(), "too early both times");
    }

    #[test]
    fn a_question_that_is_answered_with_no_is_no_news_of_a_session() {
        let mut sessions = sessions();
        sessions.asked_about(2_400, LEADER, Sid(2), SESSION);
        assert!(verdict(&sessions, NOON + 2_500).is_err());
        sessions.refuses(LEADER, Sid(2), SESSION);
        assert_eq!(verdict(&sessions, NOON + 2_500), Ok(()));
    }
}
