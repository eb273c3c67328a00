//! What is on each server's disk, as far as ZAB cares, and what a server may say of it.

use std::collections::{BTreeMap, BTreeSet};

use zabra_actors::core::quorum::Ensemble;
use zabra_actors::types::{Epoch, Epochs, Packet, ServerState, Sid, Zxid};

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
    /// It may lack what it has acknowledged, and knows that: its word must not count.
    pub(super) doubtful: bool,
    /// Where its log ended when it lost an end of it that was durable, until it is in step again.
    pub(super) owes: Option<Zxid>,
}

/// What is done to a log besides appending.
#[derive(Clone, Copy)]
pub(super) enum Change {
    /// What is behind this transaction is cut off (TRUNC).
    Cut(Zxid),
    /// A snapshot at this zxid replaces it (SNAP).
    Replace(Zxid),
}

impl Server {
    /// Does it hold `zxid` so that no crash can take it? While its log is cut or replaced a start may find it changed.
    fn holds(&self, order: &Order, zxid: Zxid) -> bool {
        let left = match self.changing {
            None => true,
            Some(Change::Cut(to) | Change::Replace(to)) => order.is_on_path(zxid, to),
        };
        left && order.is_on_path(zxid, self.durable)
    }
}

/// All of them.
pub(super) struct Servers {
    pub(super) all: BTreeMap<Sid, Server>,
    /// Those whose disk was damaged since it was new: what is there may not be what was written.
    pub(super) damaged: BTreeSet<Sid>,
    pub(super) ensemble: Ensemble,
}

impl Servers {
    pub(super) fn new(ensemble: Ensemble) -> Servers {
        let all = ensemble.members.keys().map(|sid| (*sid, Server::default())).collect();
        Servers { all, damaged: BTreeSet::new(), ensemble }
    }

    pub(super) fn get(&self, sid: Sid) -> Server {
        self.all[&sid]
    }

    pub(super) fn get_mut(&mut self, sid: Sid) -> &mut Server {
        self.all.get_mut(&sid).expect("every server is known")
    }

    /// Who holds `zxid` so that no crash can take it.
    pub(super) fn holders(&self, order: &Order, zxid: Zxid) -> Vec<Sid> {
        self.all.iter().filter(|(_, server)| server.holds(order, zxid)).map(|(sid, _)| *sid).collect()
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

    /// I8, I6, I7: what was durable is there after a start, or its lack is known, and nothing is newer than what was
    /// promised.
    pub(super) fn recover(
        &mut self,
        order: &Order,
        sid: Sid,
        last: Zxid,
        epochs: Epochs,
        doubtful: bool,
    ) -> Result<(), String> {
        let is_damaged = self.damaged.contains(&sid);
        let server = self.get_mut(sid);
        let Server { logged, durable, epochs: saved, changing, doubtful: doubted, owes, .. } = *server;
        let kept = order.is_on_path(durable, last) && order.is_on_path(last, logged);
        let changed = match changing {
            Some(Change::Cut(to)) => order.is_on_path(to, last) && order.is_on_path(last, logged),
            Some(Change::Replace(zxid)) => last == zxid,
            None => false,
        };
        let owes = if kept || changed { owes } else { owes.max(Some(durable)) };
        *server = Server { logged: last, durable: last, epochs, doubtful, owes, ..Server::default() };
        let lost = doubtful && order.is_on_path(last, logged);
        if !kept && !changed && !lost {
            return Err(format!("I8: it had {durable} durable of {logged} and recovers {last}"));
        }
        if doubtful && !doubted && !is_damaged {
            return Err(format!(
                "I8: it doubts its log, which ends at {last}, and nobody has damaged its disk"
            ));
        }
        if !doubtful {
            self.settle_debt(order, sid)?;
        }
        if epochs.accepted < saved.accepted || epochs.current < saved.current {
            return Err(format!("I6: it saved {saved:?} and recovers {epochs:?}"));
        }
        if last.epoch() > epochs.accepted || epochs.current > epochs.accepted {
            return Err(format!("I7: it recovers {last} with {epochs:?}"));
        }
        Ok(())
    }

    /// I8: a server doubts its log no longer. All that it had and that is committed, be it by its own word, it has
    /// again.
    pub(super) fn settle_debt(&mut self, order: &Order, sid: Sid) -> Result<(), String> {
        let server = self.get_mut(sid);
        server.doubtful = false;
        let Some(owed) = server.owes.take() else { return Ok(()) };
        let missing = order.committed_on(owed);
        if order.is_on_path(missing, server.durable) {
            return Ok(());
        }
        let durable = server.durable;
        Err(format!(
            "I8: it trusts its log up to {durable} again, and has lost {missing}, which is committed"
        ))
    }

    /// I8: the word of a server that may lack what it has acknowledged must not count: it is no candidate and no
    /// follower, it leads nobody, and acknowledges no proposal.
    pub(super) fn check_doubtful(&self, sid: Sid, packet: &Packet) -> Result<(), String> {
        let counts = match packet {
            Packet::Notification(said) => match said.state {
                ServerState::Looking => said.vote.leader.is_some(),
                ServerState::Observing => false,
                ServerState::Following | ServerState::Leading => true,
            },
            Packet::FollowerInfo { .. } | Packet::LeaderInfo { .. } => true,
            Packet::Ack { zxid } => zxid.counter() > 0,
            _ => false,
        };
        if counts && self.get(sid).doubtful {
            return Err(format!("I8: it may lack what it has acknowledged, and says {packet:?}"));
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

    /// May a server lose its disk without harm: do a quorum of the others, whose disks are sound, hold all that it
    /// holds and that may be committed, and have they promised all that it has?
    pub(super) fn can_spare(&self, order: &Order, sid: Sid) -> bool {
        let others = || self.all.iter().filter(|(other, _)| **other != sid && !self.damaged.contains(other));
        let newest: Epoch = others().map(|(_, server)| server.epochs.accepted).max().unwrap_or_default();
        let held = order.tip();
        let durable = self.get(sid).durable;
        if durable.epoch() >= newest && !order.is_on_path(durable, held) {
            return false; // the leader may count on what it has acknowledged
        }
        let hold = others().filter(|(_, server)| {
            server.epochs.current == newest && !server.doubtful && server.holds(order, held)
        });
        self.ensemble.contains_quorum(&hold.map(|(other, _)| *other).collect())
    }
}

#[cfg(test)]
mod tests {
    use zabra_actors::types::{Entry, SessionId, Txn, TxnBody, TxnHeader};

    use super::*;

    const S: Sid = Sid(1);

    fn z(counter: u32) -> Zxid {
        Zxid::new(Epoch(1), counter)
    }

    /// Three servers that have logged five transactions, of which three are committed.
    fn ensemble() -> (Order, Servers) {
        let mut order = Order::default();
        for counter in 1..=5 {
            let header = TxnHeader { session: SessionId::NONE, cxid: 0, zxid: z(counter), time: 0 };
            let entry = Entry::new(Txn { header, body: TxnBody::Error(0), digest: None });
            let parent = if counter == 1 { Zxid::ZERO } else { z(counter - 1) };
            assert_eq!(order.log(&entry, parent), Ok(true));
        }
        order.commit(z(3)).unwrap();
        let all = [Sid(1), Sid(2), Sid(3)];
        let mut servers = Servers::new(Ensemble::majority(S, &all, &[]));
        let epochs = Epochs { accepted: Epoch(1), current: Epoch(1) };
        for sid in all {
            let server = Server { logged: z(5), durable: z(5), epochs, ..Server::default() };
            *servers.get_mut(sid) = server;
        }
        (order, servers)
    }

    fn start(order: &Order, servers: &mut Servers, last: u32, doubtful: bool) -> Result<(), String> {
        let epochs = servers.get(S).epochs;
        servers.recover(order, S, z(last), epochs, doubtful)
    }

    /// Does this say that the invariant is broken?
    fn breaks(invariant: &str, verdict: Result<(), String>) {
        assert!(verdict.as_ref().is_err_and(|what| what.starts_with(invariant)), "{verdict:?}");
    }

    #[test]
    fn a_log_that_is_being_changed_holds_what_is_there_before_and_after() {
        let (order, mut servers) = ensemble();
        assert_eq!(servers.holders(&order, z(4)), [Sid(1), Sid(2), Sid(3)]);
        servers.get_mut(Sid(1)).changing = Some(Change::Cut(z(3)));
        servers.get_mut(Sid(2)).changing = Some(Change::Replace(z(4)));
        assert_eq!(servers.holders(&order, z(3)), [Sid(1), Sid(2), Sid(3)]);
        assert_eq!(servers.holders(&order, z(4)), [Sid(2), Sid(3)]);
        breaks("I10", servers.check_quorum(&order, z(5)));
        assert_eq!(servers.check_quorum(&order, z(4)), Ok(()));
    }

    #[test]
    fn what_is_committed_is_not_forgotten_while_others_forget_it() {
        let (order, mut servers) = ensemble();
        assert_eq!(servers.check_loss(&order, S, z(2)), Ok(()), "two others have it");
        servers.get_mut(Sid(2)).changing = Some(Change::Replace(z(2)));
        breaks("I8", servers.check_loss(&order, S, z(2)));
        assert_eq!(servers.check_loss(&order, S, z(3)), Ok(()), "nothing behind that is committed");
    }

    #[test]
    fn what_was_durable_is_lost_only_by_damage_and_not_in_silence() {
        let (order, mut servers) = ensemble();
        breaks("I8", start(&order, &mut servers, 4, false));
        let (order, mut servers) = ensemble();
        breaks("I8", start(&order, &mut servers, 4, true));
        let (order, mut servers) = ensemble();
        servers.damaged.insert(S);
        breaks("I8", start(&order, &mut servers, 4, false));
        let (order, mut servers) = ensemble();
        servers.damaged.insert(S);
        assert_eq!(start(&order, &mut servers, 4, true), Ok(()));
    }

    #[test]
    fn who_has_lost_something_has_no_word_until_it_has_it_again() {
        let (order, mut servers) = ensemble();
        servers.damaged.insert(S);
        assert_eq!(start(&order, &mut servers, 2, true), Ok(()));
        assert_eq!(start(&order, &mut servers, 2, true), Ok(()), "it does not forget that");
        let counts = [Packet::FollowerInfo { accepted: Epoch(1) }, Packet::Ack { zxid: z(2) }];
        let does_not = [Packet::ObserverInfo { accepted: Epoch(1) }, Packet::Ack { zxid: z(0) }];
        counts.iter().for_each(|packet| breaks("I8", servers.check_doubtful(S, packet)));
        for packet in does_not.iter().chain(&counts) {
            assert_eq!(servers.check_doubtful(Sid(2), packet), Ok(()));
        }
        does_not.iter().for_each(|packet| assert_eq!(servers.check_doubtful(S, packet), Ok(())));
        let mut hasty = servers.get(S);
        breaks("I8", servers.settle_debt(&order, S));
        hasty.durable = z(3);
        *servers.get_mut(S) = hasty;
        assert_eq!(servers.settle_debt(&order, S), Ok(()), "what was not committed it does not owe");
        assert_eq!(servers.check_doubtful(S, &counts[0]), Ok(()));
    }

    #[test]
    fn a_start_without_a_word_of_doubt_settles_no_debt() {
        let (order, mut servers) = ensemble();
        servers.damaged.insert(S);
        assert_eq!(start(&order, &mut servers, 2, true), Ok(()));
        breaks("I8", start(&order, &mut servers, 2, false));
    }

    #[test]
    fn a_disk_is_spared_only_if_sound_ones_have_everything() {
        let (order, mut servers) = ensemble();
        assert!(!servers.can_spare(&order, S), "its leader may count on what it has acknowledged");
        servers.get_mut(S).durable = z(3);
        assert!(servers.can_spare(&order, S));
        servers.damaged.insert(Sid(2));
        assert!(!servers.can_spare(&order, S), "one of the others is damaged");
        servers.damaged.clear();
        servers.get_mut(Sid(2)).doubtful = true;
        assert!(!servers.can_spare(&order, S), "or may lack something");
    }
}
