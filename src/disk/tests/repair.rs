//! What is given up, what is kept beside, and that the server starts afterwards.

use super::*;
use crate::disk::{Injected, Remedy, repair};

fn mend(disk: &SimDisk, remedy: Remedy) -> Result<Vec<String>, String> {
    let disk = Arc::new(disk.clone());
    repair(disk, DiskSettings::new("/d", Sid(1)), remedy, "T").map_err(|fault| fault.0)
}

fn kept(disk: &SimDisk) -> Vec<String> {
    disk.list(Path::new("/d/before-repair-T/version-2")).unwrap().into_iter().map(|(name, _)| name).collect()
}

/// Rot in the middle of the log behind the newest snapshot.
fn rotten_middle() -> SimDisk {
    let (disk, _) = aged(3);
    disk.rot(Path::new("/d/version-2/log.b"), 16 + file_of(&[]).len() as u64 + 150);
    disk
}

#[test]
fn a_cut_gives_up_what_follows_the_damage() {
    let disk = rotten_middle();
    assert!(refused(&disk).contains("`zabra data repair /d --cut`"));
    let done = mend(&disk, Remedy::Cut).unwrap();
    assert!(done.iter().any(|line| line.contains("cut /d/version-2/log.b at offset")), "{done:?}");
    assert_eq!(kept(&disk), ["log.b"], "a copy");
    let found = stores(&disk).0.recover().unwrap();
    assert!(found.doubtful && (Zxid(0xb)..Zxid(0xf)).contains(&found.tree.zxid()), "{}", found.tree.zxid());
    assert!(mend(&disk, Remedy::Cut).unwrap()[0].contains("nothing to cut"));
    mend(&disk, Remedy::Trust).unwrap();
    assert!(!stores(&disk).0.recover().unwrap().doubtful);
}

#[test]
fn a_cut_takes_newer_files_away() {
    let (disk, _) = aged(3);
    remove(&disk, "snapshot.a");
    disk.rot(Path::new("/d/version-2/log.6"), 40);
    assert!(refused(&disk).contains("log.6 is damaged at offset 16"));
    mend(&disk, Remedy::Cut).unwrap();
    assert_eq!(kept(&disk), ["log.6", "log.b"]);
    assert_eq!(stores(&disk).0.recover().unwrap().tree.zxid(), Zxid(5));
}

#[test]
fn a_doubtful_end_may_be_cut_where_there_is_nobody_else() {
    let disk = rotten_end();
    let alone = DiskSettings { alone: true, ..DiskSettings::new("/d", Sid(1)) };
    assert!(stores_of(&disk, alone.clone()).0.recover().is_err());
    mend(&disk, Remedy::Cut).unwrap();
    let found = stores_of(&disk, alone).0.recover().unwrap();
    assert_eq!((found.tree.zxid(), found.doubtful), (Zxid(4), false));
}

#[test]
fn a_log_that_lacks_its_end_is_taken_as_it_is() {
    let (disk, _) = aged(2);
    remove(&disk, "log.6");
    assert!(refused(&disk).contains("was durable up to 0xa"));
    mend(&disk, Remedy::Cut).unwrap();
    let found = stores(&disk).0.recover().unwrap();
    assert_eq!((found.tree.zxid(), found.doubtful), (Zxid(5), true));
}

#[test]
fn resync_empties_everything_but_the_promises() {
    let disk = rotten_middle();
    mend(&disk, Remedy::Resync).unwrap();
    let left: Vec<_> = disk.list(Path::new("/d/version-2")).unwrap().into_iter().map(|file| file.0).collect();
    assert_eq!(left, [".recovering", "acceptedEpoch"]);
    assert_eq!(kept(&disk).len(), 3 + 3 + 1 + 1, "snapshots, logs, currentEpoch, .synced: {:?}", kept(&disk));
    let alone = DiskSettings { alone: true, ..DiskSettings::new("/d", Sid(1)) };
    let why = stores_of(&disk, alone).0.recover().err().unwrap().0;
    assert!(
        why.contains("was emptied to get everything from a leader, but this is the only server"),
        "{why}"
    );
    let found = stores(&disk).0.recover().unwrap();
    assert_eq!((found.tree.zxid(), found.doubtful), (Zxid::ZERO, true));
}

#[test]
fn damaged_snapshots_are_dropped_and_a_loss_is_noted() {
    let (disk, _) = aged(3);
    disk.rot(Path::new("/d/version-2/snapshot.a"), 60);
    mend(&disk, Remedy::DropDamaged).unwrap();
    assert_eq!(kept(&disk), ["snapshot.a"]);
    assert!(!stores(&disk).0.recover().unwrap().doubtful, "the log leads through it");

    let (disk, _) = aged(3);
    disk.rot(Path::new("/d/version-2/snapshot.a"), 60);
    for name in ["log.6", "log.b", ".synced"] {
        remove(&disk, name);
    }
    assert!(refused(&disk).contains("--drop-damaged"));
    mend(&disk, Remedy::DropDamaged).unwrap();
    let found = stores(&disk).0.recover().unwrap();
    assert_eq!((found.tree.zxid(), found.doubtful), (Zxid(5), true));

    let (disk, _) = aged(1);
    disk.rot(Path::new("/d/version-2/snapshot.0"), 60);
    let why = mend(&disk, Remedy::DropDamaged).unwrap_err();
    assert!(why.contains("no snapshot in /d/version-2/ can be read, so that none is dropped"), "{why}");
}

#[test]
fn a_log_from_the_beginning_needs_no_snapshot() {
    let (disk, tree) = aged(2);
    for name in ["snapshot.0", "snapshot.5"] {
        remove(&disk, name);
    }
    assert!(refused(&disk).contains("begin with an empty tree: `zabra data repair /d --begin-empty`"));
    mend(&disk, Remedy::BeginEmpty).unwrap();
    assert_eq!(stores(&disk).0.recover().unwrap().tree.digest(), tree.digest());
    remove(&disk, "snapshot.0");
    remove(&disk, "log.1");
    assert!(mend(&disk, Remedy::BeginEmpty).unwrap_err().contains("its first file is log.6"));
}

#[test]
fn a_snapshot_may_be_all_there_is() {
    let (disk, _) = aged(2);
    for name in ["log.1", "log.6", ".synced"] {
        remove(&disk, name);
    }
    mend(&disk, Remedy::NoLog).unwrap();
    assert_eq!(stores(&disk).0.recover().unwrap().tree.zxid(), Zxid(5));
    assert!(mend(&disk, Remedy::NoLog).unwrap()[0].contains("nothing to do"));
}

#[test]
fn new_epochs_are_above_all_that_are_known() {
    let (disk, _) = aged(1);
    let write = |name: &str, text: &[u8]| {
        disk.create(&Path::new("/d/version-2").join(name)).unwrap().write_at(0, text).unwrap();
    };
    assert!(mend(&disk, Remedy::Epochs).unwrap()[0].contains("nothing to do"));
    write("acceptedEpoch", b"3");
    write("currentEpoch", b"7");
    assert!(refused(&disk).contains("make new ones: `zabra data repair /d --epochs`"));
    mend(&disk, Remedy::Epochs).unwrap();
    let epochs = stores(&disk).0.recover().unwrap().epochs;
    assert_eq!((epochs.accepted.0, epochs.current.0), (1007, 7));
    write("acceptedEpoch", b"three");
    mend(&disk, Remedy::Epochs).unwrap();
    assert_eq!(stores(&disk).0.recover().unwrap().epochs.accepted.0, 1007);
    assert_eq!(kept(&disk), ["acceptedEpoch", "currentEpoch"]);
}

// A repair that is cut short leaves what was there before, or what was wanted; or something that says what it is, so
// that the repair can be done again.
#[test]
fn a_repair_may_be_cut_short_anywhere() {
    for remedy in [Remedy::Cut, Remedy::Resync] {
        let whole = rotten_middle();
        let calls = whole.calls();
        mend(&whole, remedy).unwrap();
        for call in 1..=whole.calls() - calls {
            for seed in 0..4 {
                let disk = rotten_middle();
                disk.inject(call, Injected::Crash);
                mend(&disk, remedy).unwrap_err();
                disk.crash(call * 10 + seed);
                mend(&disk, remedy)
                    .unwrap_or_else(|why| panic!("{remedy:?}, call {call}, seed {seed}: {why}"));
                let found = stores(&disk).0.recover().unwrap();
                assert!(found.doubtful, "{remedy:?}, call {call}, seed {seed}");
            }
        }
    }
}
