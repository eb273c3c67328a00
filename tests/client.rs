//! The client library against real servers: what outlives a server, what ends with a session, and every operation.

#![allow(clippy::unwrap_used)] // helpers of tests, too, may stop a test

mod common;

use std::future::Future;
use std::time::Duration;

use common::Ensemble;
use tokio::sync::broadcast;
use zabra::client::{
    Acl, Client, CreateMode, Error, Event, EventKind, Id, MultiResult, Op, Options, State, WatchMode,
    WatcherType, ZkError, perms,
};

/// Far above what anything here takes on a busy machine; reached only when something hangs.
const HANG: Duration = Duration::from_secs(60);

/// Runs a test's work, within bounds.
fn within_bounds<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(HANG, work).await.expect("it hangs") })
}

async fn connect(servers: &str) -> Client {
    Client::connect(Options::new(servers).unwrap().connect_timeout(HANG)).await.unwrap()
}

/// The next event that is of interest.
async fn next<T>(events: &mut broadcast::Receiver<Event>, pick: impl Fn(Event) -> Option<T>) -> T {
    loop {
        if let Some(picked) = pick(events.recv().await.unwrap()) {
            return picked;
        }
    }
}

fn fired(event: Event) -> Option<(EventKind, String)> {
    match event {
        Event::Watch(event) => Some((event.kind, event.path.to_string())),
        _ => None,
    }
}

#[test]
fn a_session_outlives_its_server_with_all_that_belongs_to_it() {
    let mut ensemble = Ensemble::start(3, 0);
    let leader = ensemble.leader();
    let doomed = ensemble.sids().into_iter().find(|sid| *sid != leader).unwrap();
    let list = format!("{},{}", ensemble.host(doomed), ensemble.host(leader));
    within_bounds(async {
        let (client, other) = (connect(&list).await, connect(&ensemble.host(leader)).await);
        let session = client.connected().await.unwrap();
        assert_eq!(session.server, ensemble.host(doomed));
        client.add_auth("digest", "bob:secret").await.unwrap();
        let bobs = vec![Acl { perms: perms::ALL, id: Id::new("auth", "") }];
        client.create_with_acl("/bobs", "secret", CreateMode::Persistent, bobs).await.unwrap();
        client.create("/mine", "", CreateMode::Ephemeral).await.unwrap();
        client.create("/watched", "0", CreateMode::Persistent).await.unwrap();
        let (_, _, changed) = client.get_data_and_watch("/watched").await.unwrap();
        let (_, appeared) = client.exists_and_watch("/later").await.unwrap();
        client.add_watch("/", WatchMode::PersistentRecursive).await.unwrap();
        let mut events = client.events();

        ensemble.kill(doomed);
        // While nobody tells us.
        other.set_data("/watched", "1", None).await.unwrap();
        other.create("/later", "", CreateMode::Persistent).await.unwrap();
        let again = next(&mut events, |event| match event {
            Event::State(State::Connected(session)) => Some(session),
            _ => None,
        });
        let again = again.await;
        assert_eq!((again.id, again.server), (session.id, ensemble.host(leader)));
        assert_eq!(changed.await.unwrap().kind, EventKind::NodeDataChanged);
        assert_eq!(appeared.await.unwrap().kind, EventKind::NodeCreated);
        assert_eq!(client.get_data("/bobs", false).await.unwrap().0.as_deref(), Some(&b"secret"[..]));
        assert_eq!(other.get_data("/bobs", false).await, Err(Error::Zk(ZkError::NoAuth)));
        assert_eq!(client.get_ephemerals("/").await.unwrap(), ["/mine".into()]);
        let owner = client.exists("/mine", false).await.unwrap().unwrap().ephemeral_owner;
        assert_eq!(owner, session.id.0);

        other.set_data("/watched", "2", None).await.unwrap();
        let persistent = next(&mut events, |event| {
            // The catching up has told of the first change, if only to the watch that fires once.
            fired(event)
                .filter(|(_, path)| path == "/watched")
                .filter(|(kind, _)| *kind == EventKind::NodeDataChanged)
        });
        persistent.await;
        client.remove_watches("/", WatcherType::Any).await.unwrap();
        assert_eq!(client.remove_watches("/", WatcherType::Any).await, Err(Error::Zk(ZkError::NoWatcher)));
        client.close().await.unwrap();
        assert_eq!(other.exists("/mine", false).await.unwrap(), None);
    });
}

#[test]
fn an_expired_session_cannot_be_resumed_and_takes_its_ephemerals_with_it() {
    let ensemble = Ensemble::start(1, 0);
    let options = Options::new(&ensemble.hosts()).unwrap().session_timeout(Duration::from_secs(1));
    // A client whose program ends without a word.
    let lost = within_bounds(async {
        let client = Client::connect(options.clone()).await.unwrap();
        client.create("/mine", "", CreateMode::Ephemeral).await.unwrap();
        let session = client.connected().await.unwrap();
        std::mem::forget(client);
        session
    });
    within_bounds(async {
        // Another goes on with it, and ends like the first.
        let heir = Client::connect(options.clone().resuming(lost.id, lost.password.clone())).await.unwrap();
        assert_eq!(heir.connected().await.unwrap().id, lost.id);
        assert_eq!(heir.get_ephemerals("/").await.unwrap(), ["/mine".into()]);
        std::mem::forget(heir);
    });
    within_bounds(async {
        let client = connect(&ensemble.hosts()).await;
        if let (Some(_), gone) = client.exists_and_watch("/mine").await.unwrap() {
            assert_eq!(gone.await.unwrap().kind, EventKind::NodeDeleted);
        }
        let late = Client::connect(options.resuming(lost.id, lost.password)).await;
        assert_eq!(late.unwrap_err(), Error::SessionExpired);
    });
}

#[test]
fn every_operation_below_a_root() {
    let ensemble = Ensemble::start(1, 0);
    within_bounds(async {
        let whole = connect(&ensemble.hosts()).await;
        let client = connect(&format!("{}/app", ensemble.hosts())).await;
        assert_eq!(client.create("/a", "", CreateMode::Persistent).await, Err(Error::Zk(ZkError::NoNode)));
        client.create("/", "root", CreateMode::Persistent).await.unwrap();
        assert_eq!(whole.get_data("/app", false).await.unwrap().0.as_deref(), Some(&b"root"[..]));

        client.create("/a", "1", CreateMode::Container).await.unwrap();
        let numbered = client.create("/a/n-", "2", CreateMode::EphemeralSequential).await.unwrap();
        assert_eq!(&*numbered, "/a/n-0000000000");
        let (mut names, _) = client.get_children("/", false).await.unwrap();
        names.sort();
        assert_eq!(names, ["a".into()]);
        assert_eq!(client.get_all_children_number("/").await.unwrap(), 2);
        assert_eq!(client.get_ephemerals("/a").await.unwrap(), std::slice::from_ref(&numbered));
        client.sync("/a").await.unwrap();

        let done = client
            .multi(vec![
                zabra::client::create_op("/m", "x", CreateMode::Persistent, vec![Acl::world(perms::ALL)]),
                zabra::client::check_op("/m", Some(0)),
                zabra::client::set_data_op("/m", "y", Some(0)),
            ])
            .await
            .unwrap();
        assert!(
            matches!(&done[0], MultiResult::Create2(path, _) | MultiResult::Create(path) if &**path == "/m")
        );
        let read = client
            .multi_read(vec![
                Op::GetData { path: "/m".into(), watch: false },
                Op::GetChildren { path: "/a".into(), watch: false, stat: false },
                Op::GetData { path: "/none".into(), watch: false },
            ])
            .await
            .unwrap();
        assert!(matches!(&read[0], MultiResult::GetData(Some(data), _) if &data[..] == b"y"));
        assert!(matches!(&read[1], MultiResult::GetChildren(names) if names.len() == 1));
        assert_eq!(read[2], MultiResult::Error(ZkError::NoNode.code()));

        let mut events = client.events();
        client.add_watch("/m", WatchMode::Persistent).await.unwrap();
        for value in ["1", "2"] {
            whole.set_data("/app/m", value, None).await.unwrap();
            assert_eq!(next(&mut events, fired).await, (EventKind::NodeDataChanged, "/m".to_string()));
        }
        let stat = client.set_acl("/m", vec![Acl::world(perms::READ)], Some(0)).await.unwrap();
        assert_eq!(stat.aversion, 1);
        assert_eq!(client.get_acl("/m").await.unwrap().0, [Acl::world(perms::READ)]);
        assert_eq!(client.who_am_i().await.unwrap(), [Id::new("ip", "127.0.0.1")]);
        let config = client.get_config(false).await.unwrap().0.unwrap_or_default();
        assert_eq!(config, whole.get_data("/zookeeper/config", false).await.unwrap().0.unwrap_or_default());
        client.delete("/m", Some(3)).await.unwrap();
        assert_eq!(next(&mut events, fired).await, (EventKind::NodeDeleted, "/m".to_string()));
    });
}
