//! `zabra data`, as operators use it: on a directory that Apache has written, on damaged ones, and beside servers that
//! run.

#![allow(clippy::unwrap_used)] // these are tests

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{Ensemble, START_TIMEOUT, binary, until};
use serde_json::Value;
use zabra::client::{Client, CreateMode, Options};

/// What Apache ZooKeeper 3.8.0 has written.
const APACHE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/apache-3.8.0");

fn data(args: &[&str]) -> Output {
    Command::new(binary()).arg("data").args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What the command prints; it must end with this code.
fn printed(code: i32, args: &[&str]) -> String {
    let output = data(args);
    assert_eq!(output.status.code(), Some(code), "{args:?}\n{}{}", stdout(&output), stderr(&output));
    stdout(&output)
}

/// A copy of Apache's directory, to be harmed.
fn copy() -> tempfile::TempDir {
    let temp = tempfile::tempdir().unwrap();
    let version_2 = temp.path().join("version-2");
    std::fs::create_dir(&version_2).unwrap();
    for name in ["log.1", "log.10", "snapshot.0", "snapshot.f"] {
        std::fs::copy(format!("{APACHE}/version-2/{name}"), version_2.join(name)).unwrap();
    }
    temp
}

fn flip(file: &Path, offset: usize) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[offset] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[test]
fn a_sound_directory_of_apaches_is_well() {
    let told = printed(0, &["check", APACHE]);
    for line in [
        "snapshot.f                           1224 bytes  11 znodes, 0 sessions, digest 0x496d836ef",
        "log.10                                835 bytes  0x10 to 0x14: 5 transactions, up to offset 835",
        "a start would begin with snapshot.f and end at 0x14: 12 znodes, 1 session, digest 0x48ca0174a; another server",
        "all is well",
    ] {
        assert!(told.contains(line), "{line:?} is not in\n{told}");
    }
    let json: Value = serde_json::from_str(&printed(0, &["check", APACHE, "--json"])).unwrap();
    assert_eq!((&json["start"]["last_zxid"], &json["running"]), (&"0x14".into(), &false.into()));
    // version-2 itself will do.
    assert!(printed(0, &["check", &format!("{APACHE}/version-2")]).contains("all is well"));
}

#[test]
fn what_is_no_directory_of_a_server_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let output = data(&["check", temp.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        stderr(&output).contains("holds no version-2: name the directory of a server"),
        "{}",
        stderr(&output)
    );
    assert!(std::fs::read_dir(temp.path()).unwrap().next().is_none(), "a look leaves nothing behind");
}

#[test]
fn damage_is_named_with_a_remedy_that_helps() {
    let temp = copy();
    let dir = temp.path().to_str().unwrap();
    flip(&temp.path().join("version-2/log.10"), 200);
    let told = printed(1, &["check", dir]);
    let remedy = format!("`zabra data repair {dir} --cut`");
    assert!(told.contains("NO START: ") && told.contains("log.10 is damaged at offset 186"), "{told}");
    assert!(told.contains(&remedy), "{told}");
    let json: Value = serde_json::from_str(&printed(1, &["check", dir, "--json"])).unwrap();
    let finding = &json["findings"][0];
    assert_eq!((&finding["severity"], &finding["place"]["offset"]), (&"refused".into(), &186.into()));
    assert!(printed(1, &["show", &format!("{dir}/version-2/log.10")]).contains("damaged at offset 186"));

    let done = printed(0, &["repair", dir, "--cut"]);
    assert!(done.contains("cut ") && done.contains("a server can start; its log ends at 0x11"), "{done}");
    let kept = std::fs::read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let kept: Vec<_> = kept.filter(|name| name.to_string_lossy().starts_with("before-repair-")).collect();
    assert_eq!(kept.len(), 1, "the old file is kept: {kept:?}");
    assert!(printed(0, &["check", dir]).contains("this server has no vote until a leader"));
    assert!(printed(0, &["repair", dir, "--trust"]).contains("has its vote again"));
}

#[test]
fn one_remedy_is_asked_for() {
    for args in [&["repair", APACHE][..], &["repair", APACHE, "--cut", "--resync"]] {
        assert_eq!(data(args).status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn transactions_are_shown_and_picked() {
    let log = format!("{APACHE}/version-2/log.1");
    let all = printed(0, &["show", &log]);
    assert_eq!(all.lines().count(), 15);
    for line in [
        "2026-11-22T19:52:42.589Z session 0x10000236c330000 cxid 0x0 zxid 0x1 createSession 30000 ms digest 0x51c6d660",
        "create /gone \"byebye\" acl world:anyone:cdrwa ephemeral parent cversion 5",
        "createTTL /ttl \"later\" acl world:anyone:cdrwa ttl 3600000 ms parent cversion 4",
        "setACL /null acl ip:127.0.0.1:r,world:anyone:cdrwa version 1",
        "zxid 0xa error -103",
        "closeSession /gone",
    ] {
        assert!(all.contains(line), "{line:?} is not in\n{all}");
    }
    let some = printed(0, &["show", &log, "--from", "0x6", "--to", "9", "--path", "/a"]);
    let zxids: Vec<_> =
        some.lines().map(|line| line.split("zxid ").nth(1).unwrap().split(' ').next().unwrap()).collect();
    assert_eq!(zxids, ["0x7", "0x8", "0x9"], "those about /a and what is below it");
    let json = printed(0, &["show", &format!("{APACHE}/version-2/log.10"), "--json", "--path", "/m"]);
    let multi: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!((&multi["type"], &multi["members"][1]["data"]), (&"multi".into(), &"bXVsdGk=".into()));
}

#[test]
fn znodes_are_shown_and_summed_up() {
    let snapshot = format!("{APACHE}/version-2/snapshot.f");
    let all = printed(0, &["show", &snapshot]);
    for line in [
        "/a \"hello2\" acl world:anyone:cdrwa czxid 0x2 mzxid 0x9 pzxid 0x8",
        "/container null acl world:anyone:cdrwa container czxid 0x4",
        "/ttl \"later\" acl world:anyone:cdrwa ttl 3600000 ms czxid 0x5",
    ] {
        assert!(all.contains(line), "{line:?} is not in\n{all}");
    }
    let node: Value =
        serde_json::from_str(&printed(0, &["show", &snapshot, "--path", "/ttl", "--json"])).unwrap();
    assert_eq!((&node["ephemeralOwner"], &node["data"]), (&"0xff0000000036ee80".into(), &"bGF0ZXI=".into()));
    let sums = printed(0, &["show", &snapshot, "--summary", "1"]);
    assert!(sums.starts_with("/ 11 znodes, 18 bytes of data\n/a 3 znodes, 12 bytes of data\n"), "{sums}");
    let damaged = copy();
    let file = damaged.path().join("version-2/snapshot.f");
    flip(&file, 300);
    let output = data(&["show", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("snapshot.f is damaged at offset"), "{}", stderr(&output));
}

async fn connect(hosts: &str) -> Client {
    Client::connect(Options::new(hosts).unwrap().connect_timeout(START_TIMEOUT)).await.unwrap()
}

async fn get(hosts: &str, path: &str) -> Option<String> {
    let client = connect(hosts).await;
    let data = client.get_data(path, false).await.ok()?.0;
    client.close().await.unwrap();
    data.map(|data| String::from_utf8(data.to_vec()).unwrap())
}

async fn set(hosts: &str, path: &str, data: &str) {
    let client = connect(hosts).await;
    if client.exists(path, false).await.unwrap().is_none() {
        client.create(path, "", CreateMode::Persistent).await.unwrap();
    }
    client.set_data(path, data.to_string(), None).await.unwrap();
    client.close().await.unwrap();
}

#[tokio::test]
async fn an_ensemble_is_taken_back_to_a_backup_of_a_running_server() {
    let mut ensemble = Ensemble::start(3, 0);
    set(&ensemble.hosts(), "/a", "then").await;
    let backup = tempfile::tempdir().unwrap();
    let to = backup.path().join("monday");
    let (dir, to) = (ensemble.data_dir(1), to.to_str().unwrap().to_string());
    let dir = dir.to_str().unwrap();
    let output = data(&["snapshot", dir, "--to", &to]);
    assert!(stderr(&output).contains("a server is running in"), "{}", stderr(&output));
    let told = printed(0, &["snapshot", dir, "--to", &to, "--admin", &ensemble.admin(1)]);
    assert!(told.starts_with(&format!("saved {to}/version-2/snapshot.")), "{told}");
    assert!(printed(0, &["check", &to]).contains("all is well"));
    assert!(printed(0, &["check", dir]).contains("a server is running here"));

    set(&ensemble.hosts(), "/a", "later").await;
    for sid in ensemble.sids() {
        ensemble.stop(sid);
    }
    for sid in ensemble.sids() {
        let dir = ensemble.data_dir(sid);
        let dir = dir.to_str().unwrap();
        let refused = data(&["restore", &to, dir, "--whole-ensemble"]);
        assert!(stderr(&refused).contains("is there already: --replace moves it"), "{}", stderr(&refused));
        printed(0, &["restore", &to, dir, "--whole-ensemble", "--replace"]);
    }
    for sid in ensemble.sids() {
        ensemble.spawn(sid);
    }
    ensemble.wait_serving();
    assert_eq!(get(&ensemble.hosts(), "/a").await.as_deref(), Some("then"));
    // Epochs go on: no zxid that a client may have seen comes again.
    until("a new epoch", START_TIMEOUT, || ensemble.last_zxid(1).is_some_and(|zxid| zxid.starts_with("0x2")));
}

#[tokio::test]
async fn a_backup_of_a_stopped_server_has_its_whole_log() {
    let mut ensemble = Ensemble::start(1, 0);
    set(&ensemble.hosts(), "/a", "saved").await;
    ensemble.stop(1);
    let backup = tempfile::tempdir().unwrap();
    let to = backup.path().join("b");
    let (dir, to) = (ensemble.data_dir(1), to.to_str().unwrap().to_string());
    let told = printed(0, &["snapshot", dir.to_str().unwrap(), "--to", &to, "--compression", "snappy"]);
    assert!(told.contains(".snappy: all up to 0x1"), "{told}");
    let again = data(&["snapshot", dir.to_str().unwrap(), "--to", &to]);
    assert!(stderr(&again).contains("is not empty: name a new directory"), "{}", stderr(&again));
    std::fs::remove_dir_all(&dir).unwrap();
    let no_id = data(&["restore", &to, dir.to_str().unwrap(), "--whole-ensemble"]);
    assert!(stderr(&no_id).contains("say which server it is with --id N"), "{}", stderr(&no_id));
    printed(0, &["restore", &to, dir.to_str().unwrap(), "--whole-ensemble", "--id", "1"]);
    ensemble.spawn(1);
    ensemble.wait_serving();
    assert_eq!(get(&ensemble.hosts(), "/a").await.as_deref(), Some("saved"));
}

#[tokio::test]
async fn a_server_tells_what_it_found_in_apaches_directory() {
    let mut ensemble = Ensemble::new(1, 0);
    let from = copy();
    std::fs::create_dir_all(ensemble.data_dir(1)).unwrap();
    std::fs::rename(from.path().join("version-2"), ensemble.data_dir(1).join("version-2")).unwrap();
    ensemble.spawn(1);
    ensemble.wait_serving();
    let log = ensemble.log(1);
    let told =
        log.lines().find(|line| line.contains("found a directory that another server")).expect("it says so");
    for fact in [
        "myid: 1",
        "accepted epoch: 0",
        "last zxid: 0x14",
        "znodes: 13",
        "sessions: 1",
        "begun with: snapshot.f",
    ] {
        assert!(told.contains(fact), "{fact:?} is not in {told}");
    }
    assert_eq!(get(&ensemble.hosts(), "/a").await.as_deref(), Some("multi"));
    ensemble.stop(1);
    ensemble.spawn(1);
    ensemble.wait_serving();
    assert_eq!(ensemble.log(1).matches("found a directory that another server").count(), 1, "it is ours now");
}
