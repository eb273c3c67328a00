//! Disks and snapshots on their way: orders are carried out one by one, when the scheduler says so.

use bytes::Bytes;
use zabra_actors::core::{leader, learner};
use zabra_actors::types::{Packet, Sid, Tenure, Zxid};

use super::World;
use crate::server::{Disk, Order, State, Stream};

impl World {
    pub(super) fn work_a_disk(&mut self) {
        let busy: Vec<Sid> = self.sids().into_iter().filter(|sid| self.has_orders(*sid)).collect();
        let Some(sid) = self.rng.pick(&busy) else { return };
        let order = self.process(sid).and_then(|process| process.orders.pop_front()).expect("is busy");
        let before = self.servers[&sid].disk.epochs;
        self.carry_out(sid, order);
        let server = &self.servers[&sid];
        self.ghosts.saved(sid, before, &server.disk);
    }

    pub(super) fn has_orders(&self, sid: Sid) -> bool {
        self.servers[&sid].process.as_ref().is_some_and(|process| !process.orders.is_empty())
    }

    pub(super) fn carry_out(&mut self, sid: Sid, order: Order) {
        let server = self.servers.get_mut(&sid).expect("is a server");
        let (disk, process) = (&mut server.disk, server.process.as_mut().expect("has given the order"));
        match order {
            Order::Append(tenure, entries) => {
                entries.into_iter().for_each(|entry| disk.append(entry));
                let zxid = disk.last();
                self.answer(sid, tenure, leader::Input::Synced { zxid }, learner::Input::Synced { zxid });
            }
            Order::SaveEpochs(tenure, epochs) => {
                disk.epochs = epochs;
                process.epochs = epochs;
                let (leads, learns) =
                    (leader::Input::EpochsSaved(epochs), learner::Input::EpochsSaved(epochs));
                self.answer(sid, tenure, leads, learns);
            }
            Order::Truncate { tenure, to, reload } => {
                disk.truncate(to);
                if reload {
                    process.tree = disk.all();
                }
                assert!(
                    process.tree.last().is_none_or(|entry| entry.zxid() <= to),
                    "the tree is beyond its log"
                );
                self.answer_learner(sid, tenure, learner::Input::Truncated { zxid: to });
            }
            Order::Install { tenure, zxid, content } => {
                if self.rng.one_in(10) {
                    return self.answer_learner(sid, tenure, learner::Input::Installed { zxid: None });
                }
                assert_eq!(
                    content.last().map_or(Zxid::ZERO, |entry| entry.zxid()),
                    zxid,
                    "SNAP is as it says"
                );
                *disk =
                    Disk { snapshot: content.clone(), log: Vec::new(), epochs: disk.epochs, diverged: false };
                self.coverage.healed += usize::from(std::mem::take(&mut process.diverged));
                process.tree = content;
                if let State::Draining(history) = &mut process.state {
                    history.reset(zxid);
                }
                self.answer_learner(sid, tenure, learner::Input::Installed { zxid: Some(zxid) });
            }
            Order::Distrust => disk.diverged = true,
            Order::Drain => self.look(sid),
        }
    }

    pub(super) fn answer(&mut self, sid: Sid, tenure: Tenure, leads: leader::Input, learns: learner::Input) {
        match &self.process(sid).expect("its disk works").state {
            State::Leading { tenure: own, .. } if *own == tenure => self.step_leader(sid, leads),
            _ => self.answer_learner(sid, tenure, learns),
        }
    }

    pub(super) fn answer_learner(&mut self, sid: Sid, tenure: Tenure, input: learner::Input) {
        if matches!(&self.process(sid).expect("its disk works").state,
            State::Learning { tenure: own, .. } if *own == tenure)
        {
            self.step_learner(sid, input);
        }
    }

    /// The pieces of a snapshot go out: behind what was sent before, before what waits.
    pub(super) fn stream(&mut self) {
        let sids = self.sids();
        let sid = self.rng.pick(&sids).expect("there are servers");
        let Some(stream) = self.process(sid).and_then(|process| process.streams.pop_front()) else { return };
        let Stream { to, learner, tenure, content } = stream;
        let piece = Bytes::copy_from_slice(&(content as u64).to_be_bytes());
        self.send(sid, to, learner, Packet::SnapSize { bytes: 8 });
        self.send(sid, to, learner, Packet::SnapChunk(piece));
        self.send(sid, to, learner, Packet::SnapChunk(Bytes::new()));
        if matches!(&self.process(sid).expect("streams").state, State::Leading { tenure: own, .. } if *own == tenure)
        {
            self.step_leader(sid, leader::Input::SnapshotMoves { to, tenure: learner, pieces: 1 });
            self.step_leader(sid, leader::Input::SnapshotSent { to, tenure: learner });
        }
    }
}
