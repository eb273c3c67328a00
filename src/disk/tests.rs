//! The two stores over a simulated disk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use slog::{Discard, Logger, o};
use zabra_actors::core::tree::Tree;
use zabra_actors::ports::{SnapStore, TxnStore};
use zabra_actors::types::{Epoch, Epochs, Sid, Zxid};

use super::log::tests::{entry, file_of};
use super::{Disk, DiskSettings, FileSnapStore, FileTxnStore, SimDisk};

fn stores(disk: &SimDisk) -> (FileTxnStore, FileSnapStore) {
    let settings = DiskSettings { preallocate: 0, ..DiskSettings::new("/d", Sid(1)) };
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

#[test]
fn a_new_directory_begins_as_apaches_does() {
    let disk = SimDisk::new();
    let found = stores(&disk).0.recover().unwrap();
    assert_eq!((found.tree.zxid(), found.history.last()), (Zxid::ZERO, Zxid::ZERO));
    assert_eq!(found.epochs, Epochs::default());
    let all: Vec<_> = disk.list(Path::new("/d/version-2")).unwrap().into_iter().map(|file| file.0).collect();
    assert_eq!(all, [".synced", "acceptedEpoch", "currentEpoch", "snapshot.0"]);
}

#[test]
fn a_purge_keeps_three_snapshots_and_the_log_behind_the_oldest() {
    let (disk, _) = aged(6);
    let kept = ["log.10", "log.15", "log.1a", "log.b", "snapshot.14", "snapshot.19", "snapshot.f"];
    assert_eq!(names(&disk), kept, "records behind 15 begin in log.10, and log.b ends with 15");
    assert_eq!(stores(&disk).0.recover().unwrap().tree.zxid(), Zxid(30));
}

#[test]
fn a_purge_counts_only_sound_snapshots() {
    let (disk, mut tree) = aged(4);
    disk.rot(Path::new("/d/version-2/snapshot.a"), 60);
    let (mut txns, mut snaps) = stores(&disk);
    txns.recover().unwrap();
    grow(&mut txns, &mut tree, 25);
    snaps.save(&tree).unwrap();
    let snapshots: Vec<_> = names(&disk).into_iter().filter(|name| name.starts_with("s")).collect();
    assert_eq!(
        snapshots,
        ["snapshot.19", "snapshot.5", "snapshot.a", "snapshot.f"],
        "a is no use to anybody"
    );
}

#[test]
fn a_bad_snapshot_is_skipped_if_the_log_leads_through_it() {
    let (disk, tree) = aged(3);
    disk.rot(Path::new("/d/version-2/snapshot.a"), 60);
    let found = stores(&disk).0.recover().unwrap();
    assert_eq!((found.tree.zxid(), found.tree.digest()), (tree.zxid(), tree.digest()));
    assert_eq!(found.history.base(), Zxid(5));
    remove(&disk, "log.6");
    let why = refused(&disk);
    assert!(why.contains("log.b is damaged at offset 0: it was begun behind 0xa"), "{why}");
    remove(&disk, "log.b");
    remove(&disk, ".synced");
    let why = refused(&disk);
    assert!(why.contains("snapshot.a is damaged") && why.contains("through 0xa"), "{why}");
}

#[test]
fn without_a_sound_snapshot_there_is_no_start() {
    let (disk, _) = aged(1);
    remove(&disk, "snapshot.0");
    assert!(refused(&disk).contains("no snapshot to begin with in /d/version-2/, but 1 log files."));
    let mut packed = disk.create(Path::new("/d/version-2/snapshot.5.gz")).unwrap();
    packed.write_at(0, b"\x1f\x8b").unwrap();
    assert!(refused(&disk).contains("snapshot.5.gz is compressed, which is not supported: unpack it"));
}

#[test]
fn an_epoch_without_transactions_is_no_new_directory() {
    let (disk, _) = aged(1);
    let mut txns = stores(&disk).0;
    txns.recover().unwrap();
    txns.save_epochs(Epochs { accepted: Epoch(2), current: Epoch(2) }).unwrap();
    remove(&disk, "snapshot.0");
    remove(&disk, "log.1");
    assert!(refused(&disk).contains("currentEpoch says 2, but there are neither snapshots nor logs"));
}

#[test]
fn a_cut_removes_newer_snapshots_and_files() {
    let (disk, _) = aged(4);
    let mut txns = stores(&disk).0;
    txns.recover().unwrap();
    txns.truncate(Zxid(8)).unwrap();
    assert_eq!(names(&disk), ["log.1", "log.6", "snapshot.5"]);
    assert_eq!(txns.reload().unwrap().zxid(), Zxid(8));
    let mut tree = stores(&disk).0.recover().unwrap().tree;
    grow(&mut txns, &mut tree, 9);
    assert_eq!(names(&disk), ["log.1", "log.6", "log.9", "snapshot.5"]);
    assert_eq!(stores(&disk).0.recover().unwrap().history.last(), Zxid(9));
}

#[test]
fn a_cut_to_what_is_not_there_changes_nothing() {
    let (disk, tree) = aged(3);
    let before = names(&disk);
    let mut txns = stores(&disk).0;
    txns.recover().unwrap();
    let missing = txns.truncate(Zxid::new(Epoch(1), 1)).unwrap_err();
    assert!(missing.0.contains("to 0x100000001, as the leader asks: it does not hold that"), "{missing}");
    remove(&disk, "snapshot.0");
    remove(&disk, "snapshot.5");
    let no_base = txns.truncate(Zxid(7)).unwrap_err();
    assert!(no_base.0.contains("every snapshot is newer"), "{no_base}");
    assert_eq!(
        names(&disk),
        before.into_iter().filter(|n| !["snapshot.0", "snapshot.5"].contains(&&n[..])).collect::<Vec<_>>()
    );
    assert_eq!(stores(&disk).0.recover().unwrap().tree.zxid(), tree.zxid());
}

#[test]
fn a_leaders_snapshot_replaces_everything() {
    let (disk, _) = aged(2);
    let (_, leader) = aged(3);
    let (mut txns, mut snaps) = stores(&disk);
    txns.recover().unwrap();
    let mut pieces = Vec::new();
    snaps.encode(&leader, &mut |piece| pieces.push(piece));
    pieces.into_iter().for_each(|piece| snaps.receive(piece).unwrap());
    let tree = snaps.install(leader.zxid()).unwrap().unwrap();
    assert_eq!(tree.digest(), leader.digest());
    txns.reset(leader.zxid()).unwrap();
    assert_eq!(names(&disk), ["snapshot.f"]);
    assert_eq!(stores(&disk).0.recover().unwrap().history.base(), Zxid(15));
}

#[test]
fn what_is_no_snapshot_of_that_zxid_is_not_installed() {
    let (disk, leader) = aged(2);
    let (_, mut snaps) = stores(&disk);
    let before = names(&disk);
    assert!(snaps.install(Zxid(10)).unwrap().is_none(), "no pieces");
    snaps.receive(Bytes::from_static(b"BenWasHere")).unwrap();
    assert!(snaps.install(Zxid(10)).unwrap().is_none());
    let mut pieces = Vec::new();
    snaps.encode(&leader, &mut |piece| pieces.push(piece));
    pieces.into_iter().for_each(|piece| snaps.receive(piece).unwrap());
    assert!(snaps.install(Zxid(11)).unwrap().is_none(), "it is of 10");
    assert_eq!(names(&disk), before);
}

#[test]
fn what_a_killed_process_left_unsynced_is_durable_before_it_is_reported() {
    for seed in 0..50 {
        let disk = SimDisk::new();
        let mut txns = stores(&disk).0;
        txns.recover().unwrap();
        txns.append(&[entry(1), entry(2)]).unwrap();
        disk.kill();
        assert_eq!(stores(&disk).0.recover().unwrap().history.last(), Zxid(2));
        disk.crash(seed);
        assert_eq!(stores(&disk).0.recover().unwrap().history.last(), Zxid(2), "seed {seed}");
    }
}

#[test]
fn synced_records_that_are_gone_are_missed() {
    let (disk, _) = aged(1);
    let mut log = disk.create(Path::new("/d/version-2/log.1")).unwrap();
    log.write_at(0, &file_of(&[1, 2, 3])).unwrap();
    let why = refused(&disk);
    assert!(why.contains("log.1") && why.contains("the log was durable up to 0x5"), "{why}");
}

#[test]
fn slow_disks_are_reported_as_a_stall() {
    let disk = SimDisk::new();
    disk.slow_down(1, Duration::from_millis(20));
    let mut txns = stores(&disk).0;
    txns.recover().unwrap();
    assert!(txns.stall() > Duration::ZERO);
    assert_eq!(txns.stall(), Duration::ZERO);
}
