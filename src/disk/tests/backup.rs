//! Backups and the way back.

use zabra_actors::types::{Epoch, Epochs};

use super::*;
use crate::disk::{Compression, copy_snapshot, save_elsewhere};

fn settings(dir: &str) -> DiskSettings {
    DiskSettings::new(dir, Sid(1))
}

#[test]
fn a_backup_has_the_whole_log_and_comes_back() {
    let (disk, tree) = aged(3);
    let arc = Arc::new(disk.clone());
    let packed = DiskSettings { compression: Compression::Gz, ..settings("/b") };
    let saved = save_elsewhere(arc.clone(), settings("/d"), packed, Epoch::default()).unwrap();
    assert_eq!((&saved.file[..], saved.zxid), ("snapshot.f.gz", tree.zxid()));
    let names: Vec<_> =
        disk.list(Path::new("/b/version-2")).unwrap().into_iter().map(|file| file.0).collect();
    assert_eq!(names, [".synced", "acceptedEpoch", "currentEpoch", "snapshot.f.gz"]);
    // Back, into a server that has promised epoch 9.
    let back = save_elsewhere(arc, settings("/b"), settings("/r"), Epoch(9)).unwrap();
    assert_eq!(back.epochs, Epochs { accepted: Epoch(9), current: Epoch(0) });
    disk.crash(1);
    let found = stores_of(&disk, settings("/r")).0.recover().unwrap();
    assert_eq!((found.tree.zxid(), found.tree.digest()), (tree.zxid(), tree.digest()));
    assert_eq!((found.epochs.accepted, found.doubtful), (Epoch(9), false));
}

#[test]
fn what_is_damaged_is_no_backup() {
    let disk = rotten_end();
    let refused =
        save_elsewhere(Arc::new(disk), settings("/d"), settings("/b"), Epoch::default()).unwrap_err();
    assert!(refused.0.contains("log.1 is damaged at offset"), "{refused}");
}

#[test]
fn a_snapshot_of_a_running_server_is_copied_and_verified() {
    let (disk, _) = aged(3);
    let arc = Arc::new(disk.clone());
    let copied = copy_snapshot(arc.clone(), settings("/d"), "snapshot.a", settings("/b")).unwrap();
    assert_eq!(copied.zxid, Zxid(10));
    assert_eq!(stores_of(&disk, settings("/b")).0.recover().unwrap().tree.zxid(), Zxid(10));
    disk.rot(Path::new("/d/version-2/snapshot.5"), 60);
    let refused = copy_snapshot(arc.clone(), settings("/d"), "snapshot.5", settings("/c")).unwrap_err();
    assert!(refused.0.contains("/c/version-2/snapshot.5 was copied and is damaged"), "{refused}");
    for name in ["../../etc/passwd", "snapshot.5.x/../../../etc/passwd", "log.1", ""] {
        let refused = copy_snapshot(arc.clone(), settings("/d"), name, settings("/e")).unwrap_err();
        assert!(refused.0.contains("is no snapshot's name"), "{refused}");
    }
}
