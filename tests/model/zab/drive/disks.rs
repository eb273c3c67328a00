//! Disks: orders wait and are carried out one after another; a crash loses those that wait, and a start finds the rest.

use std::sync::Arc;

use bytes::Bytes;
use zabra_actors::core::{leader, learner};
use zabra_actors::types::{Entry, Epochs, Packet, Zxid};

use super::Drive;
use crate::seen::What;
use crate::zab::server::{Disk, Order, Role, Stream, decode, encode, last_of};
use crate::zab::{Mistake, Zab};

impl Drive<'_> {
    pub(super) fn order(&mut self, at: usize, order: Order) {
        let mistake = self.model.mistake;
        let process = self.world.server(at).process();
        match (&order, mistake) {
            (Order::SaveEpochs(_), Some(Mistake::EpochsBeforeLog)) => {
                process.orders.push_front(order.clone())
            }
            _ => process.orders.push_back(order.clone()),
        }
        match (order, mistake) {
            (Order::Append(entries), Some(Mistake::SyncedTooEarly | Mistake::EpochsBeforeLog)) => {
                self.answer_synced(at, last_of(&entries));
            }
            (Order::SaveEpochs(epochs), Some(Mistake::EpochsSavedTooEarly)) => self.answer_saved(at, epochs),
            _ => {}
        }
    }

    fn answer_synced(&mut self, at: usize, zxid: Zxid) {
        self.step_leader(at, leader::Input::Synced { zxid });
        self.step_learner(at, learner::Input::Synced { zxid });
    }

    fn answer_saved(&mut self, at: usize, epochs: Epochs) {
        self.world.server(at).process().epochs = epochs;
        self.step_leader(at, leader::Input::EpochsSaved(epochs));
        self.step_learner(at, learner::Input::EpochsSaved(epochs));
    }

    /// The disk carries out its oldest order.
    pub(super) fn write(&mut self, at: usize) {
        let before = self.epochs(at);
        let mistake = self.model.mistake;
        let server = self.world.server(at);
        let order = server.process().orders.pop_front().expect("it has orders");
        match order {
            Order::Append(entries) => {
                let zxid = last_of(&entries);
                self.append(at, entries);
                self.check_disk(at, before);
                if !matches!(mistake, Some(Mistake::SyncedTooEarly | Mistake::EpochsBeforeLog)) {
                    self.answer_synced(at, zxid);
                }
            }
            Order::SaveEpochs(epochs) => {
                server.disk.epochs = epochs;
                self.check_disk(at, before);
                if mistake != Some(Mistake::EpochsSavedTooEarly) {
                    self.answer_saved(at, epochs);
                }
            }
            Order::Truncate { to, reload } => {
                assert!(to >= last_of(&server.disk.snapshot), "a fault: {to} is below the only snapshot");
                server.disk.log.retain(|entry| entry.zxid() <= to);
                assert_eq!(server.disk.last(), to, "a fault: the log cannot end there");
                let all = server.disk.all();
                if reload {
                    server.process().tree = all;
                }
                assert!(last_of(&server.process().tree) <= to, "the tree is beyond its log");
                self.check_disk(at, before);
                self.step_learner(at, learner::Input::Truncated { zxid: to });
            }
            Order::Distrust => server.disk.diverged = true,
            Order::Trust => {
                self.seen.note(What::Trusted);
                server.disk.doubtful = false;
                server.process().doubtful = false;
                self.step_learner(at, learner::Input::Rejoin);
            }
            Order::Store(piece) => {
                server.process().receiving.extend(&piece);
                self.step_learner(at, learner::Input::Stored { pieces: 1 });
            }
            Order::Install { zxid } => {
                let content = decode(std::mem::take(&mut server.process().receiving));
                assert_eq!(last_of(&content), zxid, "the snapshot is where SNAP says");
                let Disk { epochs, doubtful, .. } = server.disk;
                let (snapshot, log) = (content.clone(), Vec::new());
                server.disk = Disk { snapshot, log, epochs, diverged: false, doubtful };
                let process = server.process();
                process.diverged = false;
                process.tree = content;
                if let Role::Looking(history) = &mut process.role {
                    history.reset(zxid);
                }
                self.check_disk(at, before);
                self.step_learner(at, learner::Input::Installed { zxid: Some(zxid) });
            }
        }
    }

    fn append(&mut self, at: usize, entries: Vec<Arc<Entry>>) {
        let disk = &mut self.world.server(at).disk;
        for entry in entries {
            assert!(entry.zxid() > disk.last(), "the log goes back from {} to {}", disk.last(), entry.zxid());
            disk.log.push(entry);
        }
    }

    /// The pieces of a snapshot go out: behind what was sent before, before what waits for them.
    pub(super) fn stream(&mut self, at: usize) {
        let stream = self.world.server(at).process().streams.pop_front().expect("it has one to send");
        let Stream { to, learner, content } = stream;
        let (piece, tenure, sid) = (encode(&content), learner, Zab::sid(to));
        self.send(at, to, learner, Packet::SnapSize { bytes: piece.len() as u64 });
        if !piece.is_empty() {
            self.send(at, to, learner, Packet::SnapChunk(piece));
            self.step_leader(at, leader::Input::SnapshotMoves { to: sid, tenure, pieces: 1 });
        }
        self.send(at, to, learner, Packet::SnapChunk(Bytes::new()));
        self.step_leader(at, leader::Input::SnapshotSent { to: sid, tenure });
    }

    pub(super) fn crash(&mut self, at: usize, written: usize) {
        let server = self.world.server(at);
        if let Some(mut process) = server.process.take()
            && written > 0
            && let Some(Order::Append(entries)) = process.orders.pop_front()
        {
            self.seen.note(What::Torn);
            self.append(at, entries.into_iter().take(written).collect());
        }
        for peer in (0..3).filter(|peer| *peer != at) {
            self.world.wires.cut(at, peer);
            self.world.wires.notice(at, peer);
        }
    }

    /// As with `zabra data repair --resync`: there is nothing left but a note that something was there.
    pub(super) fn lose_disk(&mut self, at: usize) {
        self.crash(at, 0);
        let doubtful = self.model.mistake != Some(Mistake::LossUnnoticed);
        self.world.server(at).disk = Disk { doubtful, ..Disk::default() };
    }

    pub(super) fn start(&mut self, at: usize) {
        let before = self.epochs(at);
        let mistake = self.model.mistake;
        let server = self.world.server(at);
        if server.process.is_some() {
            return;
        }
        match mistake {
            Some(Mistake::EpochsForgotten) => server.disk.epochs = Epochs::default(),
            Some(Mistake::LogShortened) => drop(server.disk.log.pop()),
            _ => {}
        }
        server.start();
        self.check_disk(at, before);
        (0..3).filter(|peer| *peer != at).for_each(|peer| self.mend(at, peer));
    }
}
