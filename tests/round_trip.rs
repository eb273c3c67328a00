//! There and back: Apache writes a tree with everything in it, we serve it, write on, and Apache serves that. After
//! each step every znode has the Stat, data and ACL it had before, and every digest that a transaction or a snapshot
//! says is the one of the tree it leads to. For a server alone and for an ensemble. Needs Debian's `zookeeper` (3.8).

#![allow(clippy::unwrap_used)] // these are tests

mod apache;
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use apache::{Apache, free_port};
use bytes::Bytes;
use common::{Ensemble, START_TIMEOUT, binary};
use serde_json::Value;
use zabra::client::{
    Acl, Client, CreateMode, Error, Id, Op, Options, Stat, ZkError, check_op, create_op, delete_op, perms,
    set_data_op,
};
use zabra_actors::types::CreateKind;

/// Both kinds of servers have ticks of 500 ms; a session gets its full time-out anew from each.
const SESSION: Duration = Duration::from_secs(10);

async fn connect(hosts: &str) -> Client {
    let options = Options::new(hosts).unwrap().connect_timeout(START_TIMEOUT).session_timeout(SESSION);
    Client::connect(options).await.unwrap()
}

/// As Apache is told to here.
fn with_extended_types(config: String) -> String {
    format!("{config}\n[znode]\nextended_types = true\n")
}

/// Waits until the client has found the servers that are there now.
async fn settle(client: &Client) {
    let deadline = Instant::now() + START_TIMEOUT;
    while let Err(error) = client.sync("/").await {
        assert!(matches!(error, Error::ConnectionLoss(_)) && Instant::now() < deadline, "{error}");
    }
}

/// Everything about a znode that clients can see.
type Znode = (Option<Bytes>, Stat, Vec<Acl>);

/// The whole tree, as clients see it. What `/zookeeper/config` says is the server's own.
async fn tree(client: &Client) -> BTreeMap<String, Znode> {
    client.sync("/").await.unwrap();
    let mut found = BTreeMap::new();
    let mut open = vec!["/".to_string()];
    while let Some(path) = open.pop() {
        let (names, _) = client.get_children(&path, false).await.unwrap();
        let below = if path == "/" { "" } else { &path };
        open.extend(names.iter().map(|name| format!("{below}/{name}")));
        let (data, stat) = client.get_data(&path, false).await.unwrap();
        let (acl, _) = client.get_acl(&path).await.unwrap();
        if path != "/zookeeper/config" {
            found.insert(path, (data, stat, acl));
        }
    }
    found
}

/// The same without what goes with sessions: to compare with one that had another session.
fn same(left: &BTreeMap<String, Znode>, right: &BTreeMap<String, Znode>) {
    for (path, znode) in left {
        assert_eq!(Some(znode), right.get(path), "{path}");
    }
    assert_eq!(
        left.len(),
        right.len(),
        "{:?}",
        right.keys().filter(|path| !left.contains_key(*path)).collect::<Vec<_>>()
    );
}

/// Writes everything that can be written below a new znode: kinds of znodes, ACLs, multis, refusals.
async fn write_everything(client: &Client, root: &str) {
    let path = |name: &str| format!("{root}/{name}");
    let open = || vec![Acl::world(perms::ALL)];
    client.create(root, "", CreateMode::Persistent).await.unwrap();
    client.create(&path("plain"), "one", CreateMode::Persistent).await.unwrap();
    client.create(&path("empty"), "", CreateMode::Persistent).await.unwrap();
    client.create(&path("large"), vec![7; 300_000], CreateMode::Persistent).await.unwrap();
    client.create(&path("grüße-日本"), "ß", CreateMode::Persistent).await.unwrap();
    let null = Op::Create {
        kind: CreateKind::Create,
        path: path("null").into(),
        data: None,
        acl: Some(open()),
        flags: 0,
    };
    client.request(null).await.unwrap();
    for mode in [
        CreateMode::PersistentSequential,
        CreateMode::PersistentSequential,
        CreateMode::EphemeralSequential,
        CreateMode::Ephemeral,
        CreateMode::Container,
        CreateMode::Ttl(Duration::from_secs(3600)),
        CreateMode::SequentialTtl(Duration::from_secs(7200)),
    ] {
        client.create(&path(&format!("{mode:?}-").replace(['(', ')'], "")), "x", mode).await.unwrap();
    }
    let mut deep = path("deep");
    for level in 0..20 {
        client.create(&deep, format!("{level}"), CreateMode::Persistent).await.unwrap();
        deep.push_str("/n");
    }
    for round in 0..5 {
        client.set_data(&path("plain"), format!("round {round}"), Some(round)).await.unwrap();
    }
    let readable =
        vec![Acl::world(perms::READ), Acl { perms: perms::ALL, id: Id::new("digest", "bob:xyz=") }];
    let (guarded, _) = client
        .create_with_acl(&path("guarded"), "g", CreateMode::Persistent, readable.clone())
        .await
        .unwrap();
    client.create(&path("acl"), "a", CreateMode::Persistent).await.unwrap();
    client
        .set_acl(&path("acl"), vec![Acl { perms: 31, id: Id::new("ip", "127.0.0.1") }], Some(0))
        .await
        .unwrap();
    assert_eq!(client.set_data(&guarded, "no", None).await, Err(Error::Zk(ZkError::NoAuth)));
    assert_eq!(client.set_data(&path("plain"), "no", Some(77)).await, Err(Error::Zk(ZkError::BadVersion)));
    client.create(&path("gone"), "", CreateMode::Persistent).await.unwrap();
    client.delete(&path("gone"), Some(0)).await.unwrap();
    let members = vec![
        create_op(&path("multi"), "m", CreateMode::Persistent, open()),
        set_data_op(&path("multi"), "mm", Some(0)),
        check_op(&path("multi"), Some(1)),
        create_op(&path("multi/child"), "c", CreateMode::PersistentSequential, readable),
        create_op(&path("brief"), "", CreateMode::Persistent, open()),
        delete_op(&path("brief"), None),
    ];
    client.multi(members).await.unwrap();
    let failing = vec![set_data_op(&path("multi"), "no", None), check_op(&path("nowhere"), None)];
    client.multi(failing).await.unwrap_err();
    // Another session comes, makes an ephemeral, and goes.
    let quota = format!("/zookeeper/quota{root}");
    client.create(&quota, "", CreateMode::Persistent).await.unwrap();
    client
        .create(&format!("{quota}/zookeeper_limits"), "count=1000,bytes=-1", CreateMode::Persistent)
        .await
        .unwrap();
    client
        .create(&format!("{quota}/zookeeper_stats"), "count=0,bytes=0", CreateMode::Persistent)
        .await
        .unwrap();
}

/// A session that comes, leaves an ephemeral behind, and goes.
async fn come_and_go(hosts: &str, root: &str) {
    let guest = connect(hosts).await;
    guest.create(&format!("{root}/guest"), "", CreateMode::Ephemeral).await.unwrap();
    guest.close().await.unwrap();
}

/// What was written of quotas is counted outside of transactions, so that the counts are each server's own.
fn without_counts(mut tree: BTreeMap<String, Znode>) -> BTreeMap<String, Znode> {
    for (path, (data, stat, _)) in &mut tree {
        if path.ends_with("/zookeeper_stats") {
            *data = None;
            (stat.data_length, stat.version, stat.mzxid, stat.mtime) = (0, 0, 0, 0);
        }
    }
    tree
}

/// Every digest in the directory is right, and nothing else is wrong with it.
fn check(dir: &Path) -> String {
    let output = Command::new(binary()).args(["data", "check", "--json"]).arg(dir).output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = told["findings"].as_array().unwrap();
    let wrong: Vec<_> = findings.iter().filter(|finding| finding["severity"] != "note").collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let sessions = told["start"]["sessions"].as_u64().unwrap();
    assert!(sessions >= 1, "the client's session is in the files");
    told["start"]["digest"].as_str().unwrap().to_string()
}

fn post_snapshot(ensemble: &Ensemble, sid: u8, dir: &Path) {
    let to = tempfile::tempdir().unwrap();
    let output = Command::new(binary())
        .args(["data", "snapshot"])
        .arg(dir)
        .args(["--admin", &ensemble.admin(sid), "--to"])
        .arg(to.path().join("b"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn a_server_alone() {
    let temp = tempfile::tempdir().unwrap();
    let place = temp.path().join("apache");
    let mut ours = Ensemble::new(1, 0);
    ours.configure(with_extended_types);
    let dir = ours.data_dir(1);
    fs::create_dir_all(&dir).unwrap();

    let apache = Apache::start(&place, &dir);
    // One session lives through everything, and so do its ephemerals.
    let client = connect(&format!("{},{}", apache.host(), ours.host(1))).await;
    write_everything(&client, "/theirs").await;
    come_and_go(&apache.host(), "/theirs").await;
    let before = without_counts(tree(&client).await);
    assert!(before.len() > 40, "{} znodes", before.len());
    apache.kill();
    check(&dir);

    ours.spawn(1);
    ours.wait_serving();
    settle(&client).await;
    same(&before, &without_counts(tree(&client).await));
    write_everything(&client, "/ours").await;
    post_snapshot(&ours, 1, &dir);
    come_and_go(&ours.host(1), "/ours").await;
    client.set_data("/theirs/plain", "ours", None).await.unwrap();
    let before = without_counts(tree(&client).await);
    ours.kill(1);
    check(&dir);

    let apache = Apache::start(&place, &dir);
    settle(&client).await;
    same(&before, &without_counts(tree(&client).await));
    write_everything(&client, "/theirs-again").await;
    assert_eq!((apache.figure("digest_mismatches_count"), apache.complaints()), (0, vec![]));
    let before = without_counts(tree(&client).await);
    apache.terminate();
    check(&dir);

    ours.spawn(1);
    ours.wait_serving();
    settle(&client).await;
    same(&before, &without_counts(tree(&client).await));
    client.close().await.unwrap();
}

/// Three servers of Apache's on our directories.
fn apache_ensemble(places: &[PathBuf], ours: &Ensemble, ports: &[(u16, u16)]) -> Vec<Apache> {
    let mut lines = vec!["initLimit=20".to_string(), "syncLimit=10".to_string()];
    for (sid, (peer, election)) in ours.sids().into_iter().zip(ports) {
        lines.push(format!("server.{sid}=127.0.0.1:{peer}:{election}"));
    }
    let mut servers: Vec<_> = (ours.sids().into_iter().zip(places))
        .map(|(sid, place)| {
            let dir = ours.data_dir(sid);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("myid"), format!("{sid}\r\n")).unwrap();
            Apache::spawn(place, &dir, &lines, &[])
        })
        .collect();
    servers.iter_mut().for_each(Apache::wait_serving);
    servers
}

fn complaints(servers: &[Apache]) -> Vec<String> {
    let mismatches = servers.iter().map(|apache| apache.figure("digest_mismatches_count")).sum::<i64>();
    let lines = servers.iter().flat_map(Apache::complaints).filter(|line| line.contains("igest"));
    assert_eq!(mismatches, 0, "{:#?}", lines.collect::<Vec<_>>());
    // A connection that breaks because the others are not up yet, or not any more, is no complaint about files.
    let of_files = |line: &String| {
        ["mismatch", "CRC", "Severe", "snapshot", "txn"].iter().any(|word| line.contains(word))
    };
    servers.iter().flat_map(Apache::complaints).filter(of_files).collect()
}

#[tokio::test]
async fn an_ensemble() {
    let temp = tempfile::tempdir().unwrap();
    let mut ours = Ensemble::new(3, 0);
    ours.configure(with_extended_types);
    let places: Vec<_> = ours.sids().iter().map(|sid| temp.path().join(format!("apache-{sid}"))).collect();
    let ports: Vec<_> = places.iter().map(|_| (free_port(), free_port())).collect();

    let theirs = apache_ensemble(&places, &ours, &ports);
    let hosts: Vec<_> = theirs.iter().map(Apache::host).chain([ours.hosts()]).collect();
    let client = connect(&hosts.join(",")).await;
    write_everything(&client, "/theirs").await;
    come_and_go(&theirs[2].host(), "/theirs").await;
    let before = without_counts(tree(&client).await);
    assert_eq!(complaints(&theirs), [""; 0]);
    theirs.into_iter().for_each(Apache::kill);
    ours.sids().iter().for_each(|sid| drop(check(&ours.data_dir(*sid))));

    for sid in ours.sids() {
        ours.spawn(sid);
    }
    ours.wait_serving();
    settle(&client).await;
    same(&before, &without_counts(tree(&client).await));
    write_everything(&client, "/ours").await;
    let follower = ours.sids().into_iter().find(|sid| *sid != ours.leader()).unwrap();
    post_snapshot(&ours, follower, &ours.data_dir(follower));
    client.set_data("/theirs/plain", "ours", None).await.unwrap();
    // Every server says the same.
    let before = without_counts(tree(&client).await);
    for sid in ours.sids() {
        let reader = connect(&ours.host(sid)).await;
        same(&before, &without_counts(tree(&reader).await));
        reader.close().await.unwrap();
    }
    let before = without_counts(tree(&client).await);
    for sid in ours.sids() {
        ours.kill(sid);
    }
    ours.sids().iter().for_each(|sid| drop(check(&ours.data_dir(*sid))));

    let theirs = apache_ensemble(&places, &ours, &ports);
    settle(&client).await;
    same(&before, &without_counts(tree(&client).await));
    write_everything(&client, "/theirs-again").await;
    assert_eq!(complaints(&theirs), [""; 0]);
    client.close().await.unwrap();
    theirs.into_iter().for_each(Apache::terminate);
}
