//! What is on each server's disk, as far as ZAB cares, and what a server may say of it.

use std::collections::BTreeMap;

use zabra_actors::core::quorum::Ensemble;
use zabra_actors::types::{Epoch, Epochs, Sid, Zxid};

use super::order::Order;

/// One server's disk.
#[derive(Clone, Copy, Default)]
pub(super) struct Server {
    /// The last transaction handed to the disk.
    pub(super) logged: Zxid,
    /// The last one that a crash cannot take.
    pub(super) durable: Zxid,
    pub(super) epochs: Epochs,
    /// What its clients have been shown.
    pub(super) delivered: Zxid,
    /// What is being done to the log; after a crash it may be found done, or not, or half.
    pub(super) changing: Option<Change>,
}

/// What is done to a log besides appending.
#[derive(Clone, Copy)]
pub(super) enum Change {
    /// What is behind this transaction is cut off (TRUNC).
    Cut(Zxid),
    /// A snapshot at this zxid replaces it (SNAP).
    Replace(Zxid),
}

/// All of them.
pub(super) struct Servers {
    pub(super) all: BTreeMap<Sid, Server>,
    pub(super) ensemble: Ensemble,
}

impl Servers {
    pub(super) fn new(ensemble: Ensemble) -> Servers {
        let all = ensemble.members.keys().map(|sid| (*sid, Server::default())).collect();
        Servers { all, ensemble }
    }

    pub(super) fn get(&self, sid: Sid) -> Server {
        self.all[&sid]
    }

    pub(super) fn get_mut(&mut self, sid: Sid) -> &mut Server {
        self.all.get_mut(&sid).expect("every server is known")
    }

    /// Who holds `zxid` so that no crash can take it.
    pub(super) fn holders(&self, order: &Order, zxid: Zxid) -> Vec<Sid> {
        let holds = |server: &Server| order.is_on_path(zxid, server.durable);
        self.all.iter().filter(|(_, server)| holds(server)).map(|(sid, _)| *sid).collect()
    }

    /// I10: what is committed is durable on a quorum.
    pub(super) fn check_quorum(&self, order: &Order, zxid: Zxid) -> Result<(), String> {
        let holders = self.holders(order, zxid);
        if self.ensemble.contains_quorum(&holders.iter().copied().collect()) {
            return Ok(());
        }
        Err(format!("I10: {zxid} is committed, and durable only on {holders:?}"))
    }

    /// I6: neither epoch goes down, and the current one is not above the accepted one.
    pub(super) fn save_epochs(&mut self, sid: Sid, epochs: Epochs) -> Result<(), String> {
        let server = self.get_mut(sid);
        let old = std::mem::replace(&mut server.epochs, epochs);
        if epochs.current > epochs.accepted {
            return Err(format!("I6: it saves {epochs:?}: current above accepted"));
        }
        if epochs.current < old.current || epochs.accepted < old.accepted {
            return Err(format!("I6: it lowers its epochs from {old:?} to {epochs:?}"));
        }
        Ok(())
    }

    /// I8, I6, I7: what was durable is there after a start, and nothing newer than what was promised.
    pub(super) fn recover(
        &mut self,
        order: &Order,
        sid: Sid,
        last: Zxid,
        epochs: Epochs,
        doubtful: bool,
    ) -> Result<(), String> {
        let server = self.get_mut(sid);
        let Server { logged, durable, epochs: saved, changing, .. } = *server;
        *server = Server { logged: last, durable: last, epochs, ..Server::default() };
        let kept = order.is_on_path(durable, last) && order.is_on_path(last, logged);
        let changed = match changing {
            Some(Change::Cut(to)) => order.is_on_path(to, last) && order.is_on_path(last, logged),
            Some(Change::Replace(zxid)) => last == zxid,
            None => false,
        };
        let lost = doubtful && order.is_on_path(last, logged);
        if !kept && !changed && !lost {
            return Err(format!("I8: it had {durable} durable of {logged} and recovers {last}"));
        }
        if epochs.accepted < saved.accepted || epochs.current < saved.current {
            return Err(format!("I6: it saved {saved:?} and recovers {epochs:?}"));
        }
        if last.epoch() > epochs.accepted || epochs.current > epochs.accepted {
            return Err(format!("I7: it recovers {last} with {epochs:?}"));
        }
        Ok(())
    }

    /// What is cut off, or replaced by a snapshot, may only be committed if a quorum has it without this server.
    /// (A learner that comes back to the leader of its epoch is cut to what that has committed, and gets the rest
    /// again; its acknowledgements of before no longer count.)
    pub(super) fn check_loss(&self, order: &Order, sid: Sid, to: Zxid) -> Result<(), String> {
        let logged = self.get(sid).durable;
        let lost = order.committed_after(to).take_while(|lost| order.is_on_path(*lost, logged)).last();
        let Some(lost) = lost else { return Ok(()) };
        let others = self.holders(order, lost).into_iter().filter(|holder| *holder != sid).collect();
        if self.ensemble.contains_quorum(&others) {
            return Ok(());
        }
        Err(format!("I8: it forgets all behind {to}, and {lost} is committed and left only on {others:?}"))
    }

    /// May a server lose its disk without harm: do a quorum of the others hold all that it holds, and have they
    /// promised all that it has?
    pub(super) fn can_spare(&self, order: &Order, sid: Sid) -> bool {
        let promised =
            self.all.iter().filter(|(other, _)| **other != sid).map(|(_, server)| server.epochs.accepted);
        let newest: Epoch = promised.max().unwrap_or_default();
        let held = order.tip();
        let others = self.all.iter().filter(|(other, server)| {
            **other != sid && server.epochs.current == newest && order.is_on_path(held, server.durable)
        });
        self.ensemble.contains_quorum(&others.map(|(other, _)| *other).collect())
    }
}
