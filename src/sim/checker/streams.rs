//! What a leader sends to a learner in a stay, and what the learner acknowledges: the interval of the order that
//! the learner was promised, without a hole, and no word of it before it is durable.

use std::collections::BTreeMap;

use zabra_actors::types::{Epoch, Packet, Sid, Tenure, Zxid};

use super::order::Order;
use super::servers::{Server, Servers};

/// The stays of all learners.
#[derive(Default)]
pub(super) struct Streams {
    stays: BTreeMap<Key, Stay>,
    /// How long the history is that a leader began its epoch with.
    pub(super) beginnings: BTreeMap<(Epoch, Sid), Zxid>,
}

/// A learner, its number for the stay, its leader. A server whose clock says that it is before 1970 begins with the
/// same number each time, and an earlier leader may still speak to it under that.
type Key = (Sid, Tenure, Sid);

#[derive(Default)]
struct Stay {
    /// The epoch that it was offered.
    epoch: Epoch,
    /// Where the learner said that its log ends.
    said: Zxid,
    /// Where its log ends when it has taken in all that was sent; `None` before DIFF, TRUNC or SNAP.
    at: Option<Zxid>,
    /// Where that was at NEWLEADER.
    offered: Option<Zxid>,
    /// The learner has refused DIFF or TRUNC, and takes nothing but a SNAP. What the leader sends until it hears of
    /// that belongs to the plan of before, and is dropped there.
    refusing: bool,
    /// NEWLEADER is acknowledged.
    taken_over: bool,
}

impl Streams {
    /// A packet leaves for its peer. An error is a violation.
    pub(super) fn sent(
        &mut self,
        order: &Order,
        servers: &Servers,
        (from, to): (Sid, Sid),
        tenure: Tenure,
        packet: &Packet,
    ) -> Result<(), String> {
        match packet {
            // A stay begins. With its clock set back a server may give a number again.
            Packet::FollowerInfo { .. } | Packet::ObserverInfo { .. } => {
                self.stays.remove(&(from, tenure, to));
                Ok(())
            }
            Packet::AckEpoch { last, current } => {
                let stay = self.stays.entry((from, tenure, to)).or_default();
                let Server { epochs, logged, .. } = servers.get(from);
                if epochs.accepted < stay.epoch {
                    return Err(format!("I6: it promises epoch {} with {epochs:?} on its disk", stay.epoch));
                }
                if stay.taken_over {
                    // The next epoch of the same leader. All that the learner was sent has come before the question.
                    if stay.at != Some(*last) {
                        return Err(format!(
                            "I14: it was sent all up to {:?}, and promises at {last}",
                            stay.at
                        ));
                    }
                    *stay = Stay { epoch: stay.epoch, said: *last, at: Some(*last), ..Stay::default() };
                    return Ok(());
                }
                // The second one refuses a TRUNC: a SNAP is to come, and counts for nothing before.
                stay.refusing = stay.at.is_some();
                (stay.said, stay.at) = (*last, None);
                if *last != logged && (*last, *current) != (Zxid::ZERO, None) {
                    return Err(format!("I8: it says that its log ends at {last}, and it ends at {logged}"));
                }
                Ok(())
            }
            Packet::LeaderInfo { epoch } => {
                self.stays.entry((to, tenure, from)).or_default().epoch = *epoch;
                let epochs = servers.get(from).epochs;
                if epochs.accepted < *epoch {
                    return Err(format!("I6: it offers epoch {epoch} with {epochs:?} on its disk"));
                }
                Ok(())
            }
            Packet::Ack { zxid } => self.acknowledged(order, servers, (from, to), tenure, *zxid),
            _ => self.streamed(order, servers, (from, to), tenure, packet),
        }
    }

    /// Where a learner's log ends when it has taken in all that it was sent.
    pub(super) fn end(&self, from: Sid, to: Sid, tenure: Tenure) -> Option<Zxid> {
        self.stays.get(&(to, tenure, from))?.at
    }

    /// I9: a current epoch on the disk says that its history is there, too.
    pub(super) fn takes_over(
        &self,
        order: &Order,
        servers: &Servers,
        sid: Sid,
        epoch: Epoch,
    ) -> Result<(), String> {
        let durable = servers.get(sid).durable;
        let stays = self.stays.range((sid, Tenure(0), Sid(0))..=(sid, Tenure(u64::MAX), Sid(u8::MAX)));
        let stay = stays.map(|(_, stay)| stay).rfind(|stay| stay.epoch == epoch);
        let offered = stay.and_then(|stay| stay.offered);
        match offered.filter(|offered| !order.is_on_path(*offered, durable)) {
            Some(offered) => Err(format!(
                "I9: it saves that it has taken over epoch {epoch}, whose history it has up to {durable} of {offered}"
            )),
            None => Ok(()),
        }
    }

    /// I14: what a leader sends is an interval of its history.
    fn streamed(
        &mut self,
        order: &Order,
        servers: &Servers,
        (from, to): (Sid, Sid),
        tenure: Tenure,
        packet: &Packet,
    ) -> Result<(), String> {
        let Some(stay) = self.stays.get_mut(&(to, tenure, from)) else { return Ok(()) };
        if stay.refusing && !matches!(packet, Packet::Snap { .. }) {
            return Ok(());
        }
        stay.refusing = false;
        let at = match packet {
            Packet::Diff { .. } => Some(stay.said),
            Packet::Trunc { to } => Some(*to),
            Packet::Snap { zxid } => Some(*zxid),
            Packet::Proposal(entry) | Packet::Inform(entry) => {
                let zxid = entry.zxid();
                match stay.at {
                    Some(at) if zxid > at && order.follows(zxid, at) => Some(zxid),
                    Some(at) if at.counter() == 0 && zxid > at => Some(zxid),
                    at => return Err(format!("I14: {to} is sent {zxid} behind {at:?}")),
                }
            }
            Packet::NewLeader { epoch } => {
                let offered = stay.at.unwrap_or_default();
                // The log may have entries of this epoch already: a leader that is a quorum by itself is in
                // broadcast before anybody comes. What it must offer (spec/zab.md 4.1) is what it began with
                // and what is committed since; that the latter is not forgotten UPTODATE shows (I14).
                let beginning = || order.before_epoch(*epoch, servers.get(from).logged);
                let beginning = *self.beginnings.entry((*epoch, from)).or_insert_with(beginning);
                if stay.at.is_none() || !order.is_on_path(beginning, offered) {
                    return Err(format!(
                        "I9: {to} is offered a history up to {offered}, and epoch {epoch} begins with {beginning}"
                    ));
                }
                stay.offered = Some(offered);
                return Ok(());
            }
            Packet::Commit { zxid } | Packet::UpToDate { committed: zxid } => {
                if stay.at.is_none_or(|at| *zxid > at) && *zxid > stay.said {
                    return Err(format!("I14: {to} is told that {zxid} is committed, and has {:?}", stay.at));
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        stay.at = at;
        Ok(())
    }

    /// I7, I8, I9, I13: an ACK is a statement of the disk, and NEWLEADER's comes first.
    fn acknowledged(
        &mut self,
        order: &Order,
        servers: &Servers,
        (from, to): (Sid, Sid),
        tenure: Tenure,
        zxid: Zxid,
    ) -> Result<(), String> {
        let server = servers.get(from);
        let Some(stay) = self.stays.get_mut(&(from, tenure, to)) else {
            return Err(format!("I13: it acknowledges {zxid} in a stay that has not begun"));
        };
        if zxid.counter() == 0 {
            let offered = stay.offered.unwrap_or_default();
            if server.epochs.current != zxid.epoch() {
                return Err(format!("I9: it acknowledges NEWLEADER {zxid} with {:?} on disk", server.epochs));
            }
            if stay.offered.is_none() || !order.is_on_path(offered, server.durable) {
                return Err(format!(
                    "I9: it acknowledges NEWLEADER {zxid} of {to}, which came behind {offered}, and has {} durable",
                    server.durable
                ));
            }
            stay.taken_over = true;
            return Ok(());
        }
        if !stay.taken_over {
            return Err(format!("I13: it acknowledges {zxid} before NEWLEADER"));
        }
        if zxid.epoch() > server.epochs.current {
            return Err(format!("I7: it acknowledges {zxid} with {:?}", server.epochs));
        }
        if !order.is_on_path(zxid, server.durable) {
            return Err(format!("I8: it acknowledges {zxid} and has {} durable", server.durable));
        }
        Ok(())
    }
}
