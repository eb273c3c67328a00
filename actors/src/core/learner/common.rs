//! What all phases of a stay share: the history, the epochs, and how entries are taken in.

use std::sync::Arc;

use super::{Effect, Start};
use crate::core::history::History;
use crate::core::leader::Timing;
use crate::types::{Entry, Epoch, Epochs, Membership, Millis, Packet, Sid, Zxid};

#[derive(Clone, Hash)]
pub(super) struct Common {
    pub(super) leader: Sid,
    pub(super) membership: Membership,
    pub(super) timing: Timing,
    /// Only a SNAP will do.
    pub(super) resync: bool,
    /// What was promised or acknowledged here may be forgotten.
    pub(super) doubtful: bool,
    /// Is there a connection to the leader?
    pub(super) linked: bool,
    /// The time of the last packet or tick.
    pub(super) now: Millis,
    /// When the leader was last heard.
    pub(super) heard: Millis,
    pub(super) history: History,
    /// What the epoch files hold.
    pub(super) epochs: Epochs,
    /// What they are to hold.
    saving: Option<Epochs>,
    /// The own log is durable up to here.
    synced: Zxid,
    /// What of this epoch the leader knows to be durable here.
    acked: Zxid,
}

impl Common {
    pub(super) fn new(start: Start) -> Common {
        let Start { leader, membership, tenure: _, history, epochs, timing, resync, doubtful, linked, now } =
            start;
        Common {
            leader,
            membership,
            timing,
            resync,
            doubtful,
            linked,
            now,
            heard: now,
            synced: history.last(),
            history,
            epochs,
            saving: None,
            acked: Zxid::ZERO,
        }
    }

    /// The epoch of the leader that is followed, once it is promised.
    pub(super) fn epoch(&self) -> Epoch {
        self.epochs.accepted
    }

    pub(super) fn is_observer(&self) -> bool {
        self.membership == Membership::Observer
    }

    /// The leader lives.
    pub(super) fn hear(&mut self, now: Millis) {
        (self.now, self.heard) = (now, now);
    }

    pub(super) fn save(&mut self, epochs: Epochs, out: &mut Vec<Effect>) {
        assert!(epochs.current <= epochs.accepted, "the history of an epoch that was not promised");
        assert!(epochs.accepted >= self.epochs.accepted, "a promise is never taken back");
        assert!(self.saving.is_none(), "one change of the epoch files at a time");
        self.saving = Some(epochs);
        out.push(Effect::SaveEpochs(epochs));
    }

    /// True: what was to be saved is.
    pub(super) fn on_epochs_saved(&mut self, epochs: Epochs) -> bool {
        let expected = self.saving == Some(epochs);
        if expected {
            self.epochs = epochs;
            self.saving = None;
        }
        expected
    }

    /// Takes an entry into the log, unless it is there: a learner may get one twice, in its DIFF and by the
    /// broadcast.
    pub(super) fn log(&mut self, entry: Arc<Entry>, out: &mut Vec<Effect>) -> Result<(), String> {
        let (zxid, last) = (entry.zxid(), self.history.last());
        if zxid <= last {
            return match self.history.get(zxid) {
                Some(ours) if ours.bytes == entry.bytes => Ok(()),
                Some(_) => {
                    Err(format!("{zxid} of the leader is another transaction than {zxid} in this log"))
                }
                // What is older than the window can be compared no more.
                None if zxid <= self.history.base() => Ok(()),
                None => Err(format!("{zxid} is missing in this log, which ends at {last}")),
            };
        }
        if !self.history.admits(zxid) {
            return Err(format!("{zxid} does not follow {last}, the end of this log"));
        }
        self.history.push(entry.clone());
        match out.last_mut() {
            Some(Effect::Append(entries)) => entries.push(entry),
            _ => out.push(Effect::Append(vec![entry])),
        }
        Ok(())
    }

    /// Is everything up to `zxid` durable?
    pub(super) fn is_durable(&self, zxid: Zxid) -> bool {
        self.synced >= zxid
    }

    pub(super) fn on_synced(&mut self, zxid: Zxid) {
        self.synced = self.synced.max(zxid.min(self.history.last()));
    }

    /// What is in memory only; nothing, unless that is a mistake.
    pub(super) fn unlogged(&self) -> Effect {
        Effect::Append(self.history.after(self.synced).cloned().collect())
    }

    /// The log was cut, or replaced by a snapshot: it is durable as it is.
    pub(super) fn on_log_settled(&mut self) {
        self.synced = self.history.last();
    }

    /// Tells the leader what is durable of this epoch. Only after the ACK of NEWLEADER; observers have no say.
    pub(super) fn acknowledge(&mut self, out: &mut Vec<Effect>) {
        let zxid = self.synced;
        if !self.is_observer() && zxid > self.acked.max(self.epoch().mark()) {
            self.acked = zxid;
            out.push(Effect::Send(Packet::Ack { zxid }));
        }
    }

    /// Everything up to `zxid` is committed: into the tree with it.
    pub(super) fn commit(&mut self, zxid: Zxid, out: &mut Vec<Effect>) -> Result<(), String> {
        let last = self.history.last();
        if zxid > last {
            return Err(format!("{zxid} is committed, but this log ends at {last}"));
        }
        if zxid <= self.history.applied() {
            return Ok(()); // the tree has it: known by an earlier COMMIT, or loaded with the log
        }
        if !self.history.contains(zxid) {
            return Err(format!("{zxid} is committed, but it is missing in this log"));
        }
        let fresh = self.history.apply_to(zxid);
        match out.last_mut() {
            Some(Effect::Commit(entries)) => entries.extend(fresh),
            _ => out.push(Effect::Commit(fresh)),
        }
        Ok(())
    }
}
