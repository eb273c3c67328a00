//! Who was heard from, global and local sessions apart: one batch a step, numbered, so that a verdict of the session tracker can be compared
//! with what it had heard when it judged.

use std::collections::BTreeMap;

use super::Effect;
use crate::types::SessionId;

/// See the module's story. Bounded by the sessions: a closed one is forgotten.
#[derive(Debug)]
pub(super) struct Touches {
    /// The number of the batch being collected.
    batch: u64,
    sessions: Vec<(SessionId, i32)>,
    local: Vec<(SessionId, i32)>,
    /// The last batch each session was in.
    latest: BTreeMap<SessionId, u64>,
}

impl Default for Touches {
    fn default() -> Touches {
        // The first batch is 1, so that a tracker that has seen none can say 0.
        Touches { batch: 1, sessions: Vec::new(), local: Vec::new(), latest: BTreeMap::new() }
    }
}

impl Touches {
    /// The number of the batch being collected.
    pub(super) fn batch(&self) -> u64 {
        self.batch
    }

    /// A global session was heard from, with the time-out negotiated where it was.
    pub(super) fn touch(&mut self, session: SessionId, timeout_ms: i32) {
        if self.latest.insert(session, self.batch) != Some(self.batch) {
            self.sessions.push((session, timeout_ms));
        }
    }

    /// A local session of this server was.
    pub(super) fn touch_local(&mut self, session: SessionId, timeout_ms: i32) {
        if self.latest.insert(session, self.batch) != Some(self.batch) {
            self.local.push((session, timeout_ms));
        }
    }

    /// Was it heard from in a batch later than `seen`?
    pub(super) fn is_later(&self, session: SessionId, seen: u64) -> bool {
        self.latest.get(&session).is_some_and(|batch| *batch > seen)
    }

    /// The session is gone.
    pub(super) fn forget(&mut self, session: SessionId) {
        self.latest.remove(&session);
        self.sessions.retain(|(touched, _)| *touched != session);
        self.local.retain(|(touched, _)| *touched != session);
    }

    /// Forgets all sessions; the numbering goes on.
    pub(super) fn clear(&mut self) {
        self.sessions.clear();
        self.local.clear();
        self.latest.clear();
    }

    /// The batch is complete.
    pub(super) fn take(&mut self, out: &mut Vec<Effect>) {
        if self.sessions.is_empty() && self.local.is_empty() {
            return;
        }
        let (sessions, local) = (std::mem::take(&mut self.sessions), std::mem::take(&mut self.local));
        out.push(Effect::Touched { batch: self.batch, sessions, local });
        self.batch += 1;
    }
}
