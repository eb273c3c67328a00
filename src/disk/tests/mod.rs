//! What the stores, and the operators' tools beside them, make of a simulated disk.

mod backup;
mod inspect;
mod repair;
mod stores;

use std::path::Path;
use std::sync::Arc;

use slog::{Discard, Logger, o};
use zabra_actors::core::tree::Tree;
use zabra_actors::ports::{SnapStore, TxnStore};
use zabra_actors::types::{Sid, Zxid};

use super::data_dir::DataDir;
use super::log::tests::{entry, file_of};
use super::sync_mark::SyncMark;
use super::{Disk, DiskSettings, FileSnapStore, FileTxnStore, SimDisk};

fn stores(disk: &SimDisk) -> (FileTxnStore, FileSnapStore) {
    stores_of(disk, DiskSettings::new("/d", Sid(1)))
}

fn stores_of(disk: &SimDisk, settings: DiskSettings) -> (FileTxnStore, FileSnapStore) {
    let settings = DiskSettings { preallocate: 0, ..settings };
    crate::disk::open(Arc::new(disk.clone()), settings, Logger::root(Discard, o!())).unwrap()
}

fn names(disk: &SimDisk) -> Vec<String> {
    let all = disk.list(Path::new("/d/version-2")).unwrap().into_iter().map(|(name, _)| name);
    all.filter(|name| name.starts_with("log.") || name.starts_with("snapshot.")).collect()
}

fn remove(disk: &SimDisk, name: &str) {
    disk.remove(&Path::new("/d/version-2").join(name)).unwrap();
}

fn refused(disk: &SimDisk) -> String {
    stores(disk).0.recover().err().expect("it must not start").0
}

/// Logs and applies the next entries up to this zxid.
fn grow(txns: &mut FileTxnStore, tree: &mut Tree, to: i64) {
    for zxid in tree.zxid().0 + 1..=to {
        let entry = entry(zxid);
        tree.apply(&entry.txn, &mut Vec::new());
        txns.append(&[entry]).unwrap();
    }
    txns.sync().unwrap();
}

/// Snapshots at 0, 5, 10 ... and a log file from each on.
fn aged(snapshots: i64) -> (SimDisk, Tree) {
    let disk = SimDisk::new();
    let (mut txns, mut snaps) = stores(&disk);
    let mut tree = txns.recover().unwrap().tree;
    for at in 1..snapshots {
        grow(&mut txns, &mut tree, at * 5);
        snaps.save(&tree).unwrap();
        txns.roll().unwrap();
    }
    grow(&mut txns, &mut tree, snapshots * 5);
    (disk, tree)
}

fn discard() -> Logger {
    Logger::root(Discard, o!())
}

/// A server whose last record, `0x5`, was written as a whole and has rotted since.
fn rotten_end() -> SimDisk {
    let (disk, _) = aged(1);
    let whole = file_of(&[1, 2, 3, 4, 5]).len() as u64;
    disk.rot(Path::new("/d/version-2/log.1"), whole - 5);
    // A power cut has left an old mark.
    let dir = DataDir::open(Arc::new(disk.clone()), DiskSettings::new("/d", Sid(1)), discard()).unwrap();
    SyncMark { file: Zxid(1), synced: Zxid(3) }.replace(&dir).unwrap();
    disk
}
