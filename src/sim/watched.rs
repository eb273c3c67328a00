//! A server's stores and its witness under the checker's eyes, until its process dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use slog::{Discard, Logger, o};
use zabra_actors::core::mutant::{Mutant, mutated};
use zabra_actors::core::tree::Tree;
use zabra_actors::ports::{Pieces, Recovered, Room, SnapStore, TxnStore, Witness};
use zabra_actors::types::{Entry, Epoch, Epochs, Fault, Sid, Zxid};

use super::checker::Checker;
use crate::disk::{self, DiskSettings, SimDisk};

/// A server under the checker's eyes.
#[derive(Clone)]
pub struct Watched {
    sid: Sid,
    checker: Arc<Checker>,
    lives: Arc<AtomicBool>,
    disk: SimDisk,
}

impl Watched {
    /// As long as `lives` says so.
    pub fn new(sid: Sid, checker: Arc<Checker>, lives: Arc<AtomicBool>, disk: SimDisk) -> Watched {
        Watched { sid, checker, lives, disk }
    }

    fn lives(&self) -> bool {
        self.lives.load(Relaxed)
    }

    /// The disk does nothing for a process that is dead.
    fn alive(&self) -> Result<(), Fault> {
        if self.lives() { Ok(()) } else { Err(Fault("the process is dead".into())) }
    }

    /// What a start would find now: the last transaction, and the tree's digest. `None`: a file is damaged, and what
    /// would be found is not of its server's making.
    fn would_find(&self) -> Option<Result<(Zxid, i64), String>> {
        (!self.disk.is_damaged()).then(|| self.start_would_find())
    }

    fn start_would_find(&self) -> Result<(Zxid, i64), String> {
        let settings = DiskSettings { preallocate: 0, ..DiskSettings::new("/data", self.sid) };
        let stores = disk::open(Arc::new(self.disk.copy()), settings, Logger::root(Discard, o!()));
        let recovered = stores.and_then(|(mut txns, _)| txns.recover()).map_err(|fault| fault.to_string())?;
        Ok((recovered.history.last(), recovered.tree.digest()))
    }
}

impl Witness for Watched {
    fn delivered(&self, zxid: Zxid, digest: i64) {
        if self.lives() {
            self.checker.delivered(self.sid, zxid, digest);
        }
    }

    fn leads(&self, epoch: Epoch) {
        if self.lives() {
            self.checker.leads(self.sid, epoch);
        }
    }

    fn goes_on(&self, epoch: Epoch) {
        if self.lives() {
            self.checker.goes_on(self.sid, epoch);
        }
    }
}

/// A log under the checker's eyes.
pub struct WatchedTxns<S> {
    watched: Watched,
    store: S,
    window: usize,
}

impl<S> WatchedTxns<S> {
    /// This log, of which so much is kept in memory.
    pub fn new(watched: Watched, store: S, window: usize) -> WatchedTxns<S> {
        WatchedTxns { watched, store, window }
    }
}

impl<S: TxnStore> TxnStore for WatchedTxns<S> {
    fn recover(&mut self) -> Result<Recovered, Fault> {
        self.watched.alive()?;
        let mut recovered = self.store.recover()?;
        recovered.history.keep(self.window);
        let Watched { sid, checker, .. } = &self.watched;
        let Recovered { tree, history, epochs, doubtful, diverged: _ } = &recovered;
        checker.recovered(*sid, history.last(), *epochs, tree.digest(), *doubtful);
        Ok(recovered)
    }

    fn append(&mut self, entries: &[Arc<Entry>]) -> Result<(), Fault> {
        self.watched.alive()?;
        // Told first: a write that fails half-way may still be found after a restart.
        self.watched.checker.logged(self.watched.sid, entries);
        self.store.append(entries)
    }

    fn sync(&mut self) -> Result<(), Fault> {
        self.watched.alive()?;
        if !mutated(Mutant::EarlyAck) {
            self.store.sync()?;
        }
        self.watched.checker.synced(self.watched.sid);
        Ok(())
    }

    fn roll(&mut self) -> Result<(), Fault> {
        self.watched.alive()?;
        self.store.roll()
    }

    fn truncate(&mut self, to: Zxid) -> Result<(), Fault> {
        self.watched.alive()?;
        self.watched.checker.truncating(self.watched.sid, to);
        if !mutated(Mutant::UncutLog) {
            self.store.truncate(to)?;
        }
        self.watched.checker.changed(self.watched.sid, to, self.watched.would_find());
        Ok(())
    }

    fn reset(&mut self, zxid: Zxid) -> Result<(), Fault> {
        self.watched.alive()?;
        self.store.reset(zxid)?;
        self.watched.checker.changed(self.watched.sid, zxid, self.watched.would_find());
        Ok(())
    }

    fn reload(&mut self) -> Result<Tree, Fault> {
        self.watched.alive()?;
        self.store.reload()
    }

    fn save_epochs(&mut self, epochs: Epochs) -> Result<(), Fault> {
        self.watched.alive()?;
        if !mutated(Mutant::LateEpoch) {
            self.store.save_epochs(epochs)?;
        }
        self.watched.checker.epochs_saved(self.watched.sid, epochs);
        Ok(())
    }

    fn room(&mut self) -> Result<Room, Fault> {
        self.watched.alive()?;
        self.store.room()
    }

    fn trust(&mut self) -> Result<(), Fault> {
        self.watched.alive()?;
        self.watched.checker.trusts(self.watched.sid);
        self.store.trust()
    }

    fn distrust(&mut self) -> Result<(), Fault> {
        self.watched.alive()?;
        self.store.distrust()
    }

    fn stall(&mut self) -> Duration {
        self.store.stall()
    }
}

/// Snapshots under the checker's eyes.
pub struct WatchedSnaps<S> {
    watched: Watched,
    store: S,
}

impl<S> WatchedSnaps<S> {
    /// These snapshots.
    pub fn new(watched: Watched, store: S) -> WatchedSnaps<S> {
        WatchedSnaps { watched, store }
    }
}

impl<S: SnapStore> SnapStore for WatchedSnaps<S> {
    fn save(&mut self, tree: &Tree) -> Result<Option<String>, Fault> {
        self.watched.alive()?;
        self.watched.checker.snapshot(self.watched.sid, tree);
        self.store.save(tree)
    }

    fn pieces(&mut self, tree: Box<Tree>) -> Box<dyn Pieces> {
        self.store.pieces(tree)
    }

    fn receive(&mut self, piece: bytes::Bytes) -> Result<(), Fault> {
        self.watched.alive()?;
        self.store.receive(piece)
    }

    fn install(&mut self, zxid: Zxid) -> Result<Option<Tree>, Fault> {
        self.watched.alive()?;
        self.watched.checker.installing(self.watched.sid, zxid);
        let tree = self.store.install(zxid)?;
        if tree.is_none() {
            self.watched.checker.not_installed(self.watched.sid);
        }
        Ok(tree)
    }

    fn abandon(&mut self) {
        self.store.abandon();
    }

    fn stall(&mut self) -> Duration {
        self.store.stall()
    }
}
