//! I16: no session is expired earlier than its time-out after the leader heard of it last, or began to lead.

use std::collections::BTreeMap;

use zabra_actors::types::{Epoch, SessionId, Sid, TxnBody, TxnHeader, WallMillis, Zxid};

/// What is known of sessions and leaders.
#[derive(Default)]
pub(super) struct Sessions {
    /// Who led an epoch, and since when.
    leaders: BTreeMap<Epoch, (Sid, u64)>,
    /// When a server heard of a session.
    heard: BTreeMap<(SessionId, Sid), Vec<u64>>,
    /// What a server's clock shows at the beginning of the run.
    clocks: BTreeMap<Sid, WallMillis>,
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

    /// A server's clock shows this at the time 0 of the run, or would. Returns what it was set to before.
    pub(super) fn set_clock(&mut self, sid: Sid, origin: WallMillis) -> Option<WallMillis> {
        self.clocks.insert(sid, origin)
    }

    /// A closeSession is logged for the first time anywhere. Only an expiry has no request number.
    pub(super) fn closes(&self, now: u64, header: &TxnHeader, timeout_ms: i32) -> Result<(), String> {
        let TxnHeader { session, cxid, zxid, time } = *header;
        let Some((leader, since)) = self.leaders.get(&zxid.epoch()).filter(|_| cxid == 0) else {
            return Ok(());
        };
        // It may have waited for a slow disk before it was seen. A clock that was set meanwhile does not tell.
        let origin = self.clocks.get(leader).copied().unwrap_or_default();
        let Some(decided) = u64::try_from(time - origin).ok().filter(|decided| *decided <= now) else {
            return Ok(());
        };
        let times = self.heard.get(&(session, *leader)).map_or(&[][..], Vec::as_slice);
        let known = times.partition_point(|at| *at < decided);
        let heard = times[..known].last().copied().unwrap_or_default().max(*since);
        let silent = decided.saturating_sub(heard);
        if silent < timeout_ms.max(0) as u64 {
            return Err(format!(
                "I16: session {session} is expired by {leader} {silent} ms after it was heard of, its time-out is \
                 {timeout_ms} ms"
            ));
        }
        Ok(())
    }
}

/// Does it end a session?
pub(super) fn is_close(body: &TxnBody) -> bool {
    matches!(body, TxnBody::CloseSession { .. })
}

/// Is it a transaction, or the mark of an epoch?
pub(super) fn is_txn(zxid: Zxid) -> bool {
    zxid.counter() > 0
}
