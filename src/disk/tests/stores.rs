//! The two stores.

use std::time::Duration;

use bytes::Bytes;
use zabra_actors::ports::Room;
use zabra_actors::types::{Epoch, Epochs};

use super::*;
use crate::disk::compression::Packer;
use crate::disk::{Compression, SnapFile, snapshot};

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
    assert!(why.contains("log.b is damaged at offset 16: 0xb behind 0x5"), "{why}");
    remove(&disk, "log.b");
    remove(&disk, ".synced");
    let why = refused(&disk);
    assert!(why.contains("snapshot.a is damaged") && why.contains("through 0xa"), "{why}");
}

#[test]
fn without_a_sound_snapshot_there_is_no_start() {
    let (disk, _) = aged(1);
    remove(&disk, "snapshot.0");
    assert!(refused(&disk).contains("no snapshot to begin with in /d/version-2/, but a log from 0x1 on"));
    let mut packed = disk.create(Path::new("/d/version-2/snapshot.5.gz")).unwrap();
    packed.write_at(0, b"\x1f\x8b").unwrap();
    assert!(refused(&disk).contains("snapshot.5.gz is damaged at offset 0: it ends in the middle"));
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
    pieces.extend(snaps.pieces(Box::new(leader.clone())));
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
    pieces.extend(snaps.pieces(Box::new(leader.clone())));
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

#[test]
fn compressed_snapshots_are_written_and_read_whatever_the_setting_says() {
    let disk = SimDisk::new();
    let mut tree = stores(&disk).0.recover().unwrap().tree;
    for (compression, to) in [(Compression::Gz, 5), (Compression::Snappy, 10), (Compression::None, 15)] {
        let (mut txns, mut snaps) =
            stores_of(&disk, DiskSettings { compression, ..DiskSettings::new("/d", Sid(1)) });
        let found = txns.recover().unwrap();
        assert_eq!((found.tree.zxid(), found.tree.digest()), (tree.zxid(), tree.digest()));
        assert_eq!(found.history.base(), tree.zxid(), "from the newest snapshot");
        grow(&mut txns, &mut tree, to);
        snaps.save(&tree).unwrap();
    }
    assert_eq!(
        names(&disk),
        ["log.1", "log.6", "log.b", "snapshot.5.gz", "snapshot.a.snappy", "snapshot.f"],
        "the oldest is purged, however it was written"
    );
    for name in ["snapshot.f", "snapshot.a.snappy"] {
        remove(&disk, name);
        let found = stores(&disk).0.recover().unwrap();
        assert_eq!((found.tree.zxid(), found.tree.digest()), (tree.zxid(), tree.digest()));
    }
}

#[test]
fn two_files_of_one_snapshot_are_one() {
    let (disk, _) = aged(3);
    let zxid = SnapFile::new(Zxid(5), Compression::Gz);
    let mut packed = Packer::new(Compression::Gz, Vec::new());
    let mut plain = disk.read(Path::new("/d/version-2/snapshot.5")).unwrap();
    std::io::copy(&mut plain, &mut packed).unwrap();
    let path = Path::new("/d/version-2").join(&zxid.name);
    disk.create(&path).unwrap().write_at(0, &packed.finish().unwrap()).unwrap();
    let (mut txns, mut snaps) = stores(&disk);
    let mut tree = txns.recover().unwrap().tree;
    grow(&mut txns, &mut tree, 16);
    snaps.save(&tree).unwrap();
    let snapshots: Vec<_> = names(&disk).into_iter().filter(|name| name.starts_with("s")).collect();
    assert_eq!(snapshots, ["snapshot.10", "snapshot.5", "snapshot.5.gz", "snapshot.a"]);
}

#[test]
fn the_log_may_have_a_directory_of_its_own() {
    let disk = SimDisk::new();
    let apart = || DiskSettings { log_dir: Some("/l".into()), ..DiskSettings::new("/d", Sid(1)) };
    let (mut txns, mut snaps) = stores_of(&disk, apart());
    let mut tree = txns.recover().unwrap().tree;
    grow(&mut txns, &mut tree, 5);
    snaps.save(&tree).unwrap();
    txns.roll().unwrap();
    grow(&mut txns, &mut tree, 8);
    let all = |dir: &str| -> Vec<String> {
        disk.list(Path::new(dir)).unwrap().into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(all("/d/version-2"), ["acceptedEpoch", "currentEpoch", "snapshot.0", "snapshot.5"]);
    assert_eq!(all("/l/version-2"), [".synced", "log.1", "log.6"]);
    for seed in 0..50 {
        let disk = disk.copy();
        disk.crash(seed);
        assert_eq!(stores_of(&disk, apart()).0.recover().unwrap().tree.zxid(), Zxid(8), "seed {seed}");
    }
}

#[test]
fn files_in_the_wrong_of_two_directories_are_refused() {
    let (disk, _) = aged(2);
    let apart =
        |log_dir: &str| DiskSettings { log_dir: Some(log_dir.into()), ..DiskSettings::new("/d", Sid(1)) };
    let open = |settings| {
        let opened = crate::disk::open(Arc::new(disk.clone()), settings, Logger::root(Discard, o!()));
        opened.err().map(|fault| fault.0).unwrap_or_default()
    };
    let why = open(apart("/l"));
    assert!(why.contains("/d/version-2/log.1 is a log file in the wrong directory"), "{why}");
    assert!(why.contains("move such files to /l/version-2, or leave txn_log_dir out"), "{why}");
    for name in ["log.1", "log.6"] {
        let from = Path::new("/d/version-2").join(name);
        disk.rename(&from, &Path::new("/l/version-2").join(name)).unwrap();
    }
    assert_eq!(open(apart("/l")), "");
    disk.create(Path::new("/l/version-2/snapshot.3")).unwrap();
    assert!(open(apart("/l")).contains("/l/version-2/snapshot.3 is a snapshot in the wrong directory"));
}

#[test]
fn who_may_lack_what_it_acknowledged_has_no_vote_until_it_is_in_step() {
    let disk = rotten_end();
    for _ in 0..2 {
        let found = stores(&disk).0.recover().unwrap();
        assert_eq!((found.tree.zxid(), found.doubtful), (Zxid(4), true), "also when started again");
    }
    let mut txns = stores(&disk).0;
    txns.recover().unwrap();
    txns.trust().unwrap();
    disk.crash(3);
    assert!(!stores(&disk).0.recover().unwrap().doubtful);
}

// See `Recovered::diverged`.
#[test]
fn a_wrong_tree_is_noted_until_a_leaders_snapshot_has_replaced_it() {
    let (disk, _) = aged(2);
    let (mut txns, _) = stores(&disk);
    assert!(!txns.recover().unwrap().diverged);
    txns.distrust().unwrap();
    drop(txns);
    for seed in 0..5 {
        disk.crash(seed);
        assert!(stores(&disk).0.recover().unwrap().diverged, "seed {seed}");
    }
    let (mut txns, mut snaps) = stores(&disk);
    let found = txns.recover().unwrap();
    let mut pieces = Vec::new();
    pieces.extend(snaps.pieces(Box::new(found.tree.clone())));
    pieces.into_iter().for_each(|piece| snaps.receive(piece).unwrap());
    let zxid = found.tree.zxid();
    assert!(snaps.install(zxid).unwrap().is_some());
    // The snapshot has its name, and the log is not forgotten yet. A crash here only costs another snapshot.
    let half = disk.copy();
    assert!(stores(&half).0.recover().unwrap().diverged);
    txns.reset(zxid).unwrap();
    disk.crash(7);
    assert!(!stores(&disk).0.recover().unwrap().diverged);
}

#[test]
fn alone_there_is_no_tree_to_differ_from() {
    let (disk, _) = aged(2);
    let (mut txns, _) = stores(&disk);
    txns.recover().unwrap();
    txns.distrust().unwrap();
    drop(txns);
    let alone = DiskSettings { alone: true, ..DiskSettings::new("/d", Sid(1)) };
    assert!(!stores_of(&disk, alone).0.recover().unwrap().diverged);
    disk.crash(1);
    assert!(!stores(&disk).0.recover().unwrap().diverged, "and that is for good");
}

#[test]
fn alone_nothing_is_given_up_in_silence() {
    let disk = rotten_end();
    let alone = || DiskSettings { alone: true, ..DiskSettings::new("/d", Sid(1)) };
    let refused = stores_of(&disk, alone()).0.recover().err().unwrap().0;
    assert!(refused.contains("log.1 is damaged at offset") && refused.contains("may have been acknowledged"));
    assert!(refused.contains("or give up what follows: `zabra data repair /d --cut`"), "{refused}");
    // An ensemble of one that was one of several: there is nobody to wait for.
    assert!(stores(&disk).0.recover().unwrap().doubtful);
    assert!(!stores_of(&disk, alone()).0.recover().unwrap().doubtful);
    assert!(!stores(&disk).0.recover().unwrap().doubtful, "and that is for good");
}

#[test]
fn a_record_that_was_never_finished_is_nobodys_loss() {
    let (disk, _) = aged(1);
    let whole = file_of(&[1, 2, 3, 4, 5]);
    let mut log = disk.open(Path::new("/d/version-2/log.1")).unwrap();
    log.set_len(whole.len() as u64 - 20).unwrap();
    remove(&disk, ".synced");
    let settings = DiskSettings { alone: true, ..DiskSettings::new("/d", Sid(1)) };
    let found = stores_of(&disk, settings).0.recover().unwrap();
    assert_eq!((found.tree.zxid(), found.doubtful), (Zxid(4), false));
}

#[test]
fn a_snapshot_of_others_without_any_log_is_not_taken_for_all_there_is() {
    let (disk, _) = aged(2);
    for name in ["log.1", "log.6", ".synced"] {
        remove(&disk, name);
    }
    let why = refused(&disk);
    assert!(why.contains("/d/version-2/snapshot.5 is there, but no log"), "{why}");
    assert!(
        why.contains("name it as txn_log_dir") && why.contains("`zabra data repair /d --no-log`"),
        "{why}"
    );
}

#[test]
fn a_disk_is_nearly_full_until_there_is_a_little_more() {
    let disk = SimDisk::new();
    let (mut txns, mut snaps) =
        stores_of(&disk, DiskSettings { min_free: 800, ..DiskSettings::new("/d", Sid(1)) });
    let tree = txns.recover().unwrap().tree;
    let used: u64 = disk.list(Path::new("/d/version-2")).unwrap().iter().map(|file| file.1).sum();
    let mut room = |free: u64| {
        disk.limit(Some(used + 2 + free)); // myid has two bytes
        txns.room().unwrap()
    };
    assert_eq!(room(800), Room { free: 800, low: false });
    assert_eq!(room(799), Room { free: 799, low: true });
    assert!(room(899).low && !room(900).low && room(700).low);
    // A snapshot takes half of what is kept free at the most, and leaves nothing behind when it does not fit.
    let before = names(&disk);
    assert_eq!(snaps.save(&tree).unwrap(), None);
    disk.limit(Some(used + 2 + 2000));
    assert_eq!(snaps.save(&tree).unwrap().as_deref(), Some("snapshot.0"));
    assert_eq!(names(&disk), before);
}

#[test]
fn a_snapshot_for_which_there_is_no_room_is_none() {
    let (disk, tree) = aged(2);
    let before = disk.list(Path::new("/d/version-2")).unwrap();
    let used: u64 = before.iter().map(|file| file.1).sum();
    let (mut txns, mut snaps) = stores(&disk);
    txns.recover().unwrap();
    // The estimate says yes, and the disk no.
    disk.limit(Some(used + 2 + snapshot::expected_size(&tree, Compression::None)));
    assert_eq!(snaps.save(&tree).unwrap(), None);
    assert_eq!(disk.list(Path::new("/d/version-2")).unwrap().len(), before.len(), "nothing is left behind");
}
