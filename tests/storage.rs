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
