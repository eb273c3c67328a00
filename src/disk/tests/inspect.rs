//! What is found in a directory, and that looking changes nothing.

use std::io::Read;

use super::*;
use crate::disk::{Compression, Inspection, Severity, inspect};

fn look(disk: &SimDisk) -> Inspection {
    let before = (content(disk), disk.calls());
    let found = inspect(Arc::new(disk.clone()), DiskSettings::new("/d", Sid(1))).unwrap();
    assert_eq!((content(disk), disk.calls()), before, "nothing is changed");
    found
}

fn content(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new("/d/version-2");
    let read = |name: String| {
        let mut bytes = Vec::new();
        disk.read(&dir.join(&name)).unwrap().read_to_end(&mut bytes).unwrap();
        (name, bytes)
    };
    disk.list(dir).unwrap().into_iter().map(|(name, _)| read(name)).collect()
}

/// What is wrong, and how bad; a text that each message holds.
fn check(disk: &SimDisk, expected: &[(Severity, &str)]) {
    let found = look(disk);
    let told: Vec<_> = found.findings.iter().map(|finding| (finding.severity, &finding.what[..])).collect();
    let fits = told.len() == expected.len()
        && told
            .iter()
            .zip(expected)
            .all(|(told, expected)| told.0 == expected.0 && told.1.contains(expected.1));
    assert!(fits, "{told:#?}\nis not\n{expected:#?}");
}

#[test]
fn a_sound_directory_is_told_of() {
    let (disk, tree) = aged(4);
    let found = look(&disk);
    assert_eq!(found.findings.len(), 0, "{:?}", found.findings);
    let ids = [&found.myid, &found.accepted_epoch, &found.current_epoch].map(|text| text.as_deref());
    assert_eq!(ids, [Some("1"), Some("0"), Some("0")]);
    let names: Vec<_> = found.snapshots.iter().map(|snapshot| (&snapshot.name[..], snapshot.sound)).collect();
    assert_eq!(names, [("snapshot.5", true), ("snapshot.a", true), ("snapshot.f", true)]);
    let logs: Vec<_> = found.logs.iter().map(|log| (&log.name[..], log.transactions)).collect();
    assert_eq!(logs, [("log.1", 5), ("log.6", 5), ("log.b", 5), ("log.10", 5)]);
    let start = found.start.unwrap();
    assert_eq!((&start.snapshot[..], &start.last_zxid[..]), ("snapshot.f", "0x14"));
    assert_eq!(
        (start.digest, start.recovering, start.foreign),
        (format!("{:#x}", tree.digest()), false, false)
    );
}

#[test]
fn an_empty_directory_is_only_noted() {
    check(&SimDisk::new(), &[(Severity::Note, "a server would begin empty")]);
}

#[test]
fn each_damage_is_found_once() {
    use Severity::{Fault, Note, Refused};
    let (disk, _) = aged(4);
    let rotten = |name: &str, offset| {
        let disk = disk.copy();
        disk.rot(&Path::new("/d/version-2").join(name), offset);
        disk
    };
    check(&rotten("snapshot.a", 70), &[(Fault, "snapshot.a is damaged")]);
    check(&rotten("log.1", 40), &[(Fault, "log.1 at offset 16: a record whose checksum")]);
    // Behind the newest snapshot a start meets it.
    check(&rotten("log.10", 40), &[(Refused, "log.10 is damaged at offset 16")]);
    let without = |names: &[&str]| {
        let disk = disk.copy();
        names.iter().for_each(|name| remove(&disk, name));
        disk
    };
    check(&without(&["log.6"]), &[(Note, "log.b at offset 16: 0xb stands behind 0x5")]);
    check(
        &without(&["log.6", "snapshot.a"]),
        &[(Fault, "0xb stands behind 0x5: what is between them is missing")],
    );
    check(&without(&["log.10"]), &[(Refused, "was durable up to 0x14")]);
    check(&without(&["acceptedEpoch"]), &[(Refused, "acceptedEpoch is missing")]);
    let unfinished = disk.copy();
    let mut log = unfinished.open(Path::new("/d/version-2/log.10")).unwrap();
    log.write_at(file_of(&[1, 2, 3, 4, 5]).len() as u64, &[1; 7]).unwrap();
    check(&unfinished, &[(Note, "log.10 at offset")]);
    check(&rotten_end(), &[(Fault, "it was written as a whole, so that it may have been acknowledged")]);
}

#[test]
fn a_snapshot_of_another_history_is_found() {
    let (disk, _) = aged(3);
    // The same zxid, other contents: sound in itself.
    let mut other = stores(&SimDisk::new()).0.recover().unwrap().tree;
    let body = crate::disk::log::tests::creation("/other");
    for zxid in 1..=10 {
        other.apply(&crate::disk::log::tests::txn(zxid, body.clone()), &mut Vec::new());
    }
    let dir = DataDir::open(Arc::new(disk.clone()), DiskSettings::new("/d", Sid(1)), discard()).unwrap();
    crate::disk::snapshot::save(&dir, &other).unwrap();
    check(&disk, &[(Severity::Fault, "snapshot.a is not what the log leads to")]);
}

#[test]
fn a_digest_that_was_foretold_and_not_met_is_found() {
    let (disk, mut tree) = aged(1);
    let mut txns = stores(&disk).0;
    txns.recover().unwrap();
    let next = crate::disk::log::tests::foretelling(tree.zxid().0 + 1, 4711);
    tree.apply(&next.txn, &mut Vec::new());
    txns.append(&[next]).unwrap();
    txns.sync().unwrap();
    check(&disk, &[(Severity::Fault, "its leader foretold 0x1267")]);
}

#[test]
fn compressed_snapshots_are_read_as_well() {
    let (disk, mut tree) = aged(2);
    let settings = DiskSettings { compression: Compression::Gz, ..DiskSettings::new("/d", Sid(1)) };
    let (mut txns, mut snaps) = stores_of(&disk, settings);
    txns.recover().unwrap();
    grow(&mut txns, &mut tree, 12);
    snaps.save(&tree).unwrap();
    check(&disk, &[]);
    disk.rot(Path::new("/d/version-2/snapshot.c.gz"), 30);
    check(&disk, &[(Severity::Fault, "snapshot.c.gz is damaged")]);
}
