//! To Apache and back: a directory that we wrote is served by a real ZooKeeper, and what that leaves behind,
//! killed, is recovered by us. Needs Debian's `zookeeper` (3.8) and a Java runtime.

#![allow(clippy::unwrap_used)] // these are tests

mod apache;

use std::path::Path;
use std::sync::Arc;

use apache::Apache;

use bytes::Bytes;
use slog::{Discard, Logger, o};
use zabra::disk::{Compression, DiskSettings, FileSnapStore, FileTxnStore, RealDisk, open};
use zabra_actors::core::tree::Tree;
use zabra_actors::ports::{Recovered, SnapStore, TxnStore};
use zabra_actors::types::{Acl, CreateKind, Entry, SessionId, Sid, Txn, TxnBody, TxnHeader, Zxid, perms};

fn stores(dir: &Path) -> (FileTxnStore, FileSnapStore) {
    stores_with(dir, Compression::None)
}

fn stores_with(dir: &Path, compression: Compression) -> (FileTxnStore, FileSnapStore) {
    let settings = DiskSettings { preallocate: 1 << 16, compression, ..DiskSettings::new(dir, Sid(1)) };
    open(Arc::new(RealDisk), settings, Logger::root(Discard, o!())).unwrap()
}

fn entry(tree: &mut Tree, body: TxnBody) -> Arc<Entry> {
    let header =
        TxnHeader { session: SessionId::NONE, cxid: 0, zxid: tree.zxid().next(), time: 1_700_000_000_000 };
    let entry = Entry::new(Txn { header, body, digest: None });
    tree.apply(&entry.txn, &mut Vec::new());
    entry
}

fn create(tree: &mut Tree, path: &str, data: Option<&'static str>, parent_cversion: i32) -> Arc<Entry> {
    let data = data.map(|text| Bytes::from_static(text.as_bytes()));
    let acl = vec![Acl::world(perms::ALL & !perms::ADMIN)];
    let kind = CreateKind::Create;
    entry(tree, TxnBody::Create { kind, path: path.into(), data, acl, ephemeral: false, parent_cversion })
}

fn data_of(tree: &Tree, path: &str) -> Option<Option<String>> {
    let mut found = None;
    tree.walk(&mut |node| {
        if node.path == path {
            found = Some(node.data.map(|data| String::from_utf8(data.to_vec()).unwrap()));
        }
    });
    found
}

/// Part of the directory's life is in a snapshot, part in the log behind it.
fn write(dir: &Path) {
    let (mut txns, mut snaps) = stores(dir);
    let mut tree = txns.recover().unwrap().tree;
    let first = [create(&mut tree, "/ours", Some("one"), 1), create(&mut tree, "/ours/null", None, 1)];
    txns.append(&first).unwrap();
    txns.sync().unwrap();
    snaps.save(&tree).unwrap();
    txns.roll().unwrap();
    let data = Some(Bytes::from_static(b"two"));
    let set = TxnBody::SetData { path: "/ours".into(), data, version: 1, reconfig: false };
    let second = [entry(&mut tree, set), create(&mut tree, "/ours/late", Some("log"), 2)];
    txns.append(&second).unwrap();
    txns.sync().unwrap();
}

#[test]
fn apache_goes_on_where_we_stopped_and_we_where_apache_was_killed() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    write(dir);

    let place = tempfile::tempdir().unwrap();
    let apache = Apache::start(place.path(), dir);
    let printed = apache.cli(
        "ls /\nget /ours\nls /ours\ngetAcl /ours\nset /ours three\ncreate /theirs data\ndelete /ours/null\n\
         create -s /ours/seq- x\nquit\n",
    );
    for expected in ["[ours, zookeeper]", "two", "[late, null]", "'world,'anyone\n: cdrw\n"] {
        assert!(printed.contains(expected), "{expected:?} is not in what zkCli printed:\n{printed}");
    }
    assert_eq!(apache.complaints(), [""; 0]);
    apache.kill();

    let (mut txns, mut snaps) = stores(dir);
    let Recovered { mut tree, history, epochs, .. } = txns.recover().unwrap();
    assert_eq!(data_of(&tree, "/ours"), Some(Some("three".to_string())));
    assert_eq!(data_of(&tree, "/theirs"), Some(Some("data".to_string())));
    assert_eq!(data_of(&tree, "/ours/null"), None);
    assert_eq!(data_of(&tree, "/ours/seq-0000000002"), Some(Some("x".to_string())));
    // Apache's session came and went: createSession, four writes, closeSession behind our four.
    assert_eq!((tree.zxid(), history.last()), (Zxid(10), Zxid(10)));
    assert_eq!(epochs.current.0, 0);
    let mut digests = history.entries().filter_map(|entry| entry.txn.digest);
    assert_eq!(
        digests.next_back().map(|digest| digest.tree),
        Some(tree.digest()),
        "Apache computed the same"
    );

    // And on: the next start finds both.
    txns.append(&[create(&mut tree, "/again", Some("ours"), 3)]).unwrap();
    txns.sync().unwrap();
    snaps.save(&tree).unwrap();
    drop((txns, snaps));
    let tree = stores(dir).0.recover().unwrap().tree;
    assert_eq!(data_of(&tree, "/again"), Some(Some("ours".to_string())));
}

#[test]
fn a_directory_of_apache_is_recovered_and_its_torn_end_cut() {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/apache-3.8.0/version-2");
    let temp = tempfile::tempdir().unwrap();
    let version_2 = temp.path().join("version-2");
    std::fs::create_dir(&version_2).unwrap();
    for name in ["log.1", "log.10", "snapshot.0", "snapshot.f"] {
        std::fs::copy(format!("{fixture}/{name}"), version_2.join(name)).unwrap();
    }
    let Recovered { tree, history, .. } = stores(temp.path()).0.recover().unwrap();
    assert_eq!((tree.zxid(), history.base(), history.entries().count()), (Zxid(0x14), Zxid(0xf), 5));
    let mut digests = history.entries().filter_map(|entry| entry.txn.digest);
    assert_eq!(digests.next_back().map(|digest| digest.tree), Some(tree.digest()));
    assert_eq!(data_of(&tree, "/a"), Some(Some("multi".to_string())));
    assert_eq!(data_of(&tree, "/session"), Some(Some("mine".to_string())), "its session never ended");
    assert_eq!(tree.sessions().len(), 1);

    // The same tree without the newest snapshot: from the beginning of the log.
    std::fs::remove_file(version_2.join("snapshot.f")).unwrap();
    let again = stores(temp.path()).0.recover().unwrap().tree;
    assert_eq!(again.digest(), tree.digest());

    // Apache leaves a torn record where it is; we cut it.
    let log = version_2.join("log.10");
    let whole = std::fs::read(&log).unwrap();
    std::fs::write(&log, &whole[..whole.len() - 3]).unwrap();
    std::fs::remove_file(version_2.join(".synced")).unwrap();
    assert_eq!(stores(temp.path()).0.recover().unwrap().tree.zxid(), Zxid(0x13));
    assert!(std::fs::metadata(&log).unwrap().len() < whole.len() as u64 - 3);
}

/// The names in `version-2` that begin so.
fn names(dir: &Path, prefix: &str) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("version-2")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
    names.sort();
    names
}

#[test]
fn each_reads_the_snapshots_that_the_other_has_compressed() {
    for (compression, method) in [(Compression::Gz, "gz"), (Compression::Snappy, "snappy")] {
        let temp = tempfile::tempdir().unwrap();
        let (dir, place) = (temp.path().join("data"), temp.path().join("apache"));
        std::fs::create_dir(&dir).unwrap();
        let (mut txns, mut snaps) = stores_with(&dir, compression);
        let mut tree = txns.recover().unwrap().tree;
        txns.append(&[create(&mut tree, "/ours", Some("one"), 1)]).unwrap();
        // Random enough, and longer than a block of either compression.
        let noise: Vec<u8> = (0..200_000_u64).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
        let data = Some(Bytes::from(noise));
        let set = TxnBody::SetData { path: "/ours".into(), data: data.clone(), version: 1, reconfig: false };
        txns.append(&[entry(&mut tree, set)]).unwrap();
        txns.sync().unwrap();
        snaps.save(&tree).unwrap();
        drop((txns, snaps));
        // Without the log, the snapshot is all there is.
        for name in names(&dir, "log.").into_iter().chain(["snapshot.0".to_string()]) {
            let _ = std::fs::remove_file(dir.join("version-2").join(name));
        }
        assert_eq!(
            names(&dir, "snapshot."),
            [format!("snapshot.2.{method}"), format!("snapshot.0.{method}")]
                .into_iter()
                .rev()
                .collect::<Vec<_>>()
        );

        let property = format!("zookeeper.snapshot.compression.method={method}");
        let apache = Apache::start_with(&place, &dir, &[], &[&property]);
        assert!(apache.cli("stat /ours\nset /ours two\nquit\n").contains("dataLength = 200000"), "{method}");
        assert_eq!(apache.complaints(), [""; 0]);
        apache.kill();
        // It writes one as it starts, behind the session and the write that its log has.
        let apache = Apache::start_with(&place, &dir, &[], &[&property]);
        apache.kill();
        let theirs = names(&dir, "snapshot.");
        let newest = theirs
            .iter()
            .max_by_key(|name| i64::from_str_radix(name.split('.').nth(1).unwrap(), 16).unwrap());
        assert!(newest.unwrap().ends_with(method), "{theirs:?}");
        for name in names(&dir, "log.") {
            std::fs::remove_file(dir.join("version-2").join(name)).unwrap();
        }
        let found = stores(&dir).0.recover().unwrap();
        assert_eq!(data_of(&found.tree, "/ours"), Some(Some("two".to_string())), "{method}");
        assert_eq!(found.tree.zxid(), found.history.base());
    }
}
