//! What a damaged or foreign directory does to real servers, and they to it.

#![allow(clippy::unwrap_used)] // these are tests

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{Ensemble, Mode, START_TIMEOUT, until};
use zabra::client::{Client, CreateMode, Options};
use zabra::disk::{LogReader, Next};

async fn connect(hosts: &str) -> Client {
    Client::connect(Options::new(hosts).unwrap().connect_timeout(START_TIMEOUT)).await.unwrap()
}

/// Flips a bit in the last record of the newest log, and forgets how far it was durable: what a power cut may leave
/// of the mark.
fn rot_last_record(data_dir: &Path) {
    let version_2 = data_dir.join("version-2");
    let names = std::fs::read_dir(&version_2).unwrap().map(|entry| entry.unwrap().file_name());
    let logs = names.filter_map(|name| {
        let name = name.into_string().unwrap();
        Some((i64::from_str_radix(name.strip_prefix("log.")?, 16).ok()?, name))
    });
    let path = version_2.join(logs.max().expect("there is a log").1);
    let mut bytes = std::fs::read(&path).unwrap();
    let (mut reader, header) = LogReader::open(&bytes[..]).unwrap();
    assert_eq!(header, Ok(()));
    let mut last = None;
    while let Next::Record(record) = reader.next().unwrap() {
        last = Some(record);
    }
    bytes[last.expect("it holds records").start as usize + 20] ^= 1;
    std::fs::write(path, bytes).unwrap();
    std::fs::remove_file(version_2.join(".synced")).unwrap();
}

#[test]
fn a_server_that_may_have_lost_its_last_transaction_votes_again_when_it_is_in_step() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut ensemble = Ensemble::start(3, 0);
    runtime.block_on(async {
        let client = connect(&ensemble.hosts()).await;
        client.create("/kept", "1", CreateMode::Persistent).await.unwrap();
        client.close().await.unwrap();
    });
    // All have everything before any stops.
    until("all are in step", START_TIMEOUT, || {
        let zxids = ensemble.sids().into_iter().map(|sid| ensemble.last_zxid(sid));
        zxids.collect::<std::collections::BTreeSet<_>>().len() == 1
    });
    for sid in [1, 2, 3] {
        ensemble.stop(sid);
    }
    rot_last_record(&ensemble.data_dir(3));

    // Two of three run, and one of them has no say: no quorum. With its vote there would be one at once.
    ensemble.spawn(1);
    ensemble.spawn(3);
    until("it says so", START_TIMEOUT, || ensemble.log(3).contains("this server has no vote until a leader"));
    let watched = Instant::now();
    while watched.elapsed() < Duration::from_secs(3) {
        assert_eq!((ensemble.mode(1), ensemble.mode(3)), (None, None));
        std::thread::sleep(Duration::from_millis(100));
    }

    // The third makes one; what was lost is brought by the leader, and then the vote counts.
    ensemble.spawn(2);
    ensemble.wait_serving();
    until("it has its vote again", START_TIMEOUT, || {
        ensemble.log(3).contains("this server has its vote again")
    });
    until("as a follower", START_TIMEOUT, || ensemble.mode(3) == Some(Mode::Follower));
    ensemble.kill(1);
    ensemble.wait_serving();
    runtime.block_on(async {
        let client = connect(&ensemble.host(3)).await;
        assert_eq!(client.get_data("/kept", false).await.unwrap().0.as_deref(), Some(&b"1"[..]));
        client.set_data("/kept", "2", Some(0)).await.unwrap();
        client.close().await.unwrap();
    });
}

/// A directory on a file system that hardly anybody else uses: what is free there must not change by itself.
fn quiet_disk() -> tempfile::TempDir {
    let shm = Path::new("/dev/shm");
    let place = if shm.is_dir() { shm.to_path_buf() } else { std::env::temp_dir() };
    tempfile::tempdir_in(place).unwrap()
}

#[tokio::test]
async fn writes_are_refused_before_the_disk_is_full_and_reads_go_on() {
    const MARGIN: u64 = 64 << 20;
    let disk = quiet_disk();
    let stat = rustix::fs::statvfs(disk.path()).unwrap();
    let min_free = stat.f_bavail * stat.f_frsize - MARGIN;
    let mut ensemble = Ensemble::new(3, 0);
    ensemble.configure(|text| {
        text.replace("data_dir = ", &format!("data_dir = \"{}\" # not ", disk.path().display())).replace(
            "[timing]",
            &format!("[storage]\nprealloc = \"64KiB\"\nmin_free = \"{min_free}B\"\n[timing]"),
        )
    });
    for sid in ensemble.sids() {
        ensemble.spawn(sid);
    }
    ensemble.wait_serving();
    let client = connect(&ensemble.hosts()).await;
    client.create("/a", "1", CreateMode::Persistent).await.unwrap();
    client.create("/b", "1", CreateMode::Persistent).await.unwrap();

    // Somebody else fills it.
    let hog = std::fs::File::create(disk.path().join("hog")).unwrap();
    rustix::fs::fallocate(&hog, rustix::fs::FallocateFlags::empty(), 0, 2 * MARGIN).unwrap();
    let refused = zabra::client::Error::Zk(zabra::client::ZkError::NotReadOnly);
    let deadline = Instant::now() + Duration::from_secs(30);
    while client.set_data("/a", "2", None).await != Err(refused.clone()) {
        assert!(Instant::now() < deadline, "writes are still taken");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Whichever server one asks: reads, new sessions and deletes go on, and the connection too.
    for sid in ensemble.sids() {
        let client = connect(&ensemble.host(sid)).await;
        client.sync("/").await.unwrap();
        assert!(client.exists("/a", false).await.unwrap().is_some());
        assert_eq!(client.create("/c", "1", CreateMode::Ephemeral).await.unwrap_err(), refused);
        client.close().await.unwrap();
    }
    client.delete("/b", None).await.unwrap();
    let leader = ensemble.leader();
    assert!(
        ensemble.log(leader).contains("the disk is nearly full: make room on it, or lower storage.min_free")
    );

    drop(hog);
    std::fs::remove_file(disk.path().join("hog")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while client.set_data("/a", "3", None).await.is_err() {
        assert!(Instant::now() < deadline, "writes are still refused");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    client.close().await.unwrap();
}
