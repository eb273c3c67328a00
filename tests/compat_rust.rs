//! The Rust client that others wrote (the crate `zookeeper-client`), unmodified, against real server processes.

mod common;

use std::time::Duration;

use common::{Ensemble, Mode, TICK};
use zookeeper_client as zk;
use zookeeper_client::{Acls, Client, CreateMode, CreateOptions, Error, EventType, LockOptions, LockPrefix};

/// Anything that a test waits for must have happened by then.
const SOON: Duration = Duration::from_secs(30);

/// The longest session that [`TICK`] allows: none expires by accident.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

const PERSISTENT: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());
const EPHEMERAL: CreateOptions<'static> = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
const PERSISTENT_SEQUENTIAL: CreateOptions<'static> =
    CreateMode::PersistentSequential.with_acls(Acls::anyone_all());

async fn connect(hosts: &str) -> Client {
    connect_for(hosts, SESSION_TIMEOUT).await
}

async fn connect_for(hosts: &str, session_timeout: Duration) -> Client {
    let connector = Client::connector().with_session_timeout(session_timeout);
    soon(connector.connect(hosts)).await.expect("a session")
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("it happens soon")
}

#[tokio::test]
async fn znodes() {
    let ensemble = Ensemble::start(1, 0);
    let client = connect(&ensemble.hosts()).await;
    let (created, _) = client.create("/a", b"hello", &PERSISTENT).await.unwrap();
    assert_eq!(client.get_data("/a").await.unwrap(), (b"hello".to_vec(), created));
    assert_eq!(client.check_stat("/a").await.unwrap(), Some(created));
    assert_eq!(client.check_stat("/none").await.unwrap(), None);
    assert_eq!((created.version, created.data_length, created.ephemeral_owner), (0, 5, 0));

    assert_eq!(client.create("/a", b"", &PERSISTENT).await.unwrap_err(), Error::NodeExists);
    assert_eq!(client.create("/none/x", b"", &PERSISTENT).await.unwrap_err(), Error::NoNode);
    let changed = client.set_data("/a", b"new", Some(0)).await.unwrap();
    assert_eq!((changed.version, changed.czxid), (1, created.czxid));
    assert!(changed.mzxid > created.mzxid);
    assert_eq!(client.set_data("/a", b"", Some(0)).await.unwrap_err(), Error::BadVersion);

    client.mkdir("/a/b/c", &PERSISTENT).await.unwrap();
    assert_eq!(client.list_children("/a").await.unwrap(), ["b"]);
    let (_, parent) = client.get_children("/a").await.unwrap();
    assert_eq!((parent.num_children, parent.cversion), (1, 1));
    assert_eq!(client.delete("/a", None).await.unwrap_err(), Error::NotEmpty);
    client.delete("/a/b/c", Some(0)).await.unwrap();
    assert_eq!(client.delete("/a/b", Some(7)).await.unwrap_err(), Error::BadVersion);
    client.delete("/a/b", None).await.unwrap();
    assert_eq!(client.get_data("/a/b").await.unwrap_err(), Error::NoNode);
    client.sync("/a").await.unwrap();
}

#[tokio::test]
async fn requests_are_answered_in_order() {
    let ensemble = Ensemble::start(1, 0);
    let client = connect(&ensemble.hosts()).await;
    client.create("/a", b"", &PERSISTENT).await.unwrap();
    // The client sends when a future is made, so all are on their way before the first is awaited.
    let writes: Vec<_> = (0..100).map(|n: u8| client.set_data("/a", &[n], None)).collect();
    let read = client.get_data("/a");
    for (version, write) in (1..).zip(writes) {
        assert_eq!(write.await.unwrap().version, version);
    }
    assert_eq!(read.await.unwrap().0, [99]);
}

#[tokio::test]
async fn ephemerals_and_sequences() {
    let ensemble = Ensemble::start(1, 0);
    let client = connect(&ensemble.hosts()).await;
    let owner = connect(&ensemble.hosts()).await;
    let (stat, _) = owner.create("/e", b"", &EPHEMERAL).await.unwrap();
    assert_eq!(stat.ephemeral_owner, owner.session_id().0);
    assert_eq!(owner.create("/e/x", b"", &PERSISTENT).await.unwrap_err(), Error::NoChildrenForEphemerals);
    let (_, watcher) = client.check_and_watch_stat("/e").await.unwrap();
    drop(owner);
    assert_eq!(soon(watcher.changed()).await.event_type, EventType::NodeDeleted);

    client.create("/s", b"", &PERSISTENT).await.unwrap();
    for n in 0..3 {
        let (_, sequence) = client.create("/s/n-", b"", &PERSISTENT_SEQUENTIAL).await.unwrap();
        assert_eq!(sequence.to_string(), format!("{n:010}"));
    }
    let mut names = client.list_children("/s").await.unwrap();
    names.sort();
    assert_eq!(names, ["n-0000000000", "n-0000000001", "n-0000000002"]);
}

#[tokio::test]
async fn watches() {
    let ensemble = Ensemble::start(1, 0);
    let client = connect(&ensemble.hosts()).await;
    let other = connect(&ensemble.hosts()).await;

    let (_, created) = client.check_and_watch_stat("/w").await.unwrap();
    other.create("/w", b"", &PERSISTENT).await.unwrap();
    let event = soon(created.changed()).await;
    assert_eq!((event.event_type, event.path.as_str()), (EventType::NodeCreated, "/w"));

    let (_, _, changed) = client.get_and_watch_data("/w").await.unwrap();
    let (_, _, children) = client.get_and_watch_children("/w").await.unwrap();
    other.create("/w/c", b"", &PERSISTENT).await.unwrap();
    assert_eq!(soon(children.changed()).await.event_type, EventType::NodeChildrenChanged);
    other.set_data("/w", b"new", None).await.unwrap();
    assert_eq!(soon(changed.changed()).await.event_type, EventType::NodeDataChanged);

    let (_, _, deleted) = client.get_and_watch_data("/w/c").await.unwrap();
    other.delete("/w/c", None).await.unwrap();
    assert_eq!(soon(deleted.changed()).await.event_type, EventType::NodeDeleted);
}

#[tokio::test]
async fn multi() {
    let ensemble = Ensemble::start(1, 0);
    let client = connect(&ensemble.hosts()).await;
    let mut together = client.new_multi_writer();
    together.add_create("/m", b"1", &PERSISTENT).unwrap();
    together.add_set_data("/m", b"22", Some(0)).unwrap();
    together.add_check_version("/m", 1).unwrap();
    together.add_create("/m/child", b"", &PERSISTENT).unwrap();
    let results = together.commit().await.unwrap();
    assert_eq!(results.len(), 4);
    assert!(matches!(&results[1], zk::MultiWriteResult::SetData { stat } if stat.version == 1));

    let mut failing = client.new_multi_writer();
    failing.add_delete("/m/child", None).unwrap();
    failing.add_check_version("/m", 0).unwrap();
    let error = failing.commit().await.unwrap_err();
    assert_eq!(error, zk::MultiWriteError::OperationFailed { index: 1, source: Error::BadVersion });
    assert_eq!(client.list_children("/m").await.unwrap(), ["child"]);
}

#[tokio::test]
async fn acls() {
    let ensemble = Ensemble::start(1, 0);
    let owner = connect(&ensemble.hosts()).await;
    owner.auth("digest", b"alice:secret").await.unwrap();
    let hers = CreateMode::Persistent.with_acls(Acls::creator_all());
    owner.create("/hers", b"private", &hers).await.unwrap();
    let (acl, _) = owner.get_acl("/hers").await.unwrap();
    assert_eq!(acl[0].scheme(), "digest");

    let client = connect(&ensemble.hosts()).await;
    assert_eq!(client.get_data("/hers").await.unwrap_err(), Error::NoAuth);
    client.auth("digest", b"alice:secret").await.unwrap();
    assert_eq!(client.get_data("/hers").await.unwrap().0, b"private");
    assert_eq!(client.set_acl("/hers", Acls::anyone_read().as_ref(), Some(0)).await.unwrap().aversion, 1);
    assert_eq!(owner.set_data("/hers", b"", None).await.unwrap_err(), Error::NoAuth);
}

/// What is asked for is kept between 2 and 20 ticks.
#[tokio::test]
async fn session_timeouts_are_negotiated() {
    let ensemble = Ensemble::start(1, 0);
    for (asked, granted) in [
        (TICK, TICK * 2),
        (Duration::from_millis(1500), Duration::from_millis(1500)),
        (Duration::from_secs(3600), TICK * 20),
    ] {
        assert_eq!(connect_for(&ensemble.hosts(), asked).await.session_timeout(), granted);
    }
}

/// A client that goes without closing its session: the ephemerals outlive it by the session time-out.
#[tokio::test]
async fn sessions_expire() {
    let ensemble = Ensemble::start(3, 1);
    let client = connect(&ensemble.hosts()).await;
    for mode in [Mode::Leader, Mode::Follower, Mode::Observer] {
        let connector = Client::connector().with_session_timeout(TICK * 3).with_detached();
        let owner = soon(connector.connect(&ensemble.host(ensemble.find(mode)))).await.unwrap();
        owner.create("/e", b"", &EPHEMERAL).await.unwrap();
        client.sync("/e").await.unwrap();
        let (stat, watcher) = client.check_and_watch_stat("/e").await.unwrap();
        assert!(stat.is_some());
        drop(owner);
        assert_eq!(soon(watcher.changed()).await.event_type, EventType::NodeDeleted);
    }
}

/// The crate's lock recipe, its clients on all servers.
#[tokio::test]
async fn locks_exclude() {
    let ensemble = Ensemble::start(3, 1);
    let clients = futures::future::join_all(ensemble.sids().into_iter().map(async |sid| {
        let client = connect(&ensemble.host(sid)).await;
        client.sync("/").await.unwrap();
        client
    }))
    .await;
    clients[0].create("/count", b"0", &PERSISTENT).await.unwrap();

    let count_up = async |client: &Client| {
        for _ in 0..10 {
            let prefix = LockPrefix::new_curator("/locks", "lock-").unwrap();
            let options = LockOptions::new(Acls::anyone_all()).with_ancestor_options(PERSISTENT).unwrap();
            let lock = soon(client.lock(prefix, b"", options)).await.unwrap();
            client.sync("/count").await.unwrap();
            let (data, stat) = client.get_data("/count").await.unwrap();
            let count: i32 = String::from_utf8(data).unwrap().parse().unwrap();
            assert_eq!(count, stat.version);
            // Nobody else has written meanwhile, or this fails.
            lock.set_data("/count", (count + 1).to_string().as_bytes(), Some(stat.version)).await.unwrap();
        }
    };
    futures::future::join_all(clients.iter().map(count_up)).await;
    clients[0].sync("/count").await.unwrap();
    assert_eq!(clients[0].get_data("/count").await.unwrap().0, b"40");
}

/// The server that a client is connected to dies: session, ephemerals and watches live on at the next one.
#[tokio::test]
async fn sessions_and_watches_move() {
    let mut ensemble = Ensemble::start(3, 1);
    let first = ensemble.find(Mode::Follower);
    let next = ensemble.find(Mode::Observer);
    let client = connect(&format!("{},{}", ensemble.host(first), ensemble.host(next))).await;
    let other = connect(&ensemble.host(ensemble.leader())).await;
    let session = client.session_id();
    client.create("/e", b"", &EPHEMERAL).await.unwrap();
    client.create("/changes", b"", &PERSISTENT).await.unwrap();
    let (_, _, changed) = client.get_and_watch_data("/changes").await.unwrap();
    let (_, appeared) = client.check_and_watch_stat("/later").await.unwrap();
    let mut states = client.state_watcher();

    ensemble.kill(first);
    // While nobody holds the client's watches, or already at the next server: it must hear of this one ...
    other.set_data("/changes", b"new", None).await.unwrap();
    assert_eq!(soon(changed.changed()).await.event_type, EventType::NodeDataChanged);
    while states.peek_state() != zk::SessionState::SyncConnected {
        soon(states.changed()).await;
    }
    // ... and of what happens after the move.
    other.create("/later", b"", &PERSISTENT).await.unwrap();
    assert_eq!(soon(appeared.changed()).await.event_type, EventType::NodeCreated);
    assert_eq!(client.session_id(), session);
    assert_eq!(client.check_stat("/e").await.unwrap().unwrap().ephemeral_owner, session.0);
}

/// Stopped in order, a server ends with code 0; started again, it has what it had.
#[tokio::test]
async fn restart() {
    let mut ensemble = Ensemble::start(1, 0);
    let client = connect(&ensemble.hosts()).await;
    let (stat, _) = client.create("/kept", b"data", &PERSISTENT).await.unwrap();
    assert!(ensemble.stop(1).success());
    ensemble.spawn(1);
    ensemble.wait_serving();
    let client = connect(&ensemble.hosts()).await;
    assert_eq!(client.get_data("/kept").await.unwrap(), (b"data".to_vec(), stat));
    ensemble.kill(1);
    ensemble.spawn(1);
    ensemble.wait_serving();
    let client = connect(&ensemble.hosts()).await;
    assert_eq!(client.get_data("/kept").await.unwrap(), (b"data".to_vec(), stat));
}
