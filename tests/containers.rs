//! The leader deletes containers and TTL nodes that are over: a whole brain on a simulated disk, in simulated time.

#![allow(clippy::unwrap_used)] // these are tests

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use slog::{Discard, Logger, o};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use zabra::disk::{DiskSettings, SimDisk, open};
use zabra_actors::brain::{Parts, Placement, Running, start};
use zabra_actors::core::containers;
use zabra_actors::core::election::Pauses;
use zabra_actors::core::leader::Timing;
use zabra_actors::core::prepare::Rules;
use zabra_actors::core::quorum::Ensemble;
use zabra_actors::core::replica::{LocalSessions, Settings, session_id_base};
use zabra_actors::handle::{FromClient, Opened};
use zabra_actors::ports::{ClientSink, NoWitness, PeerLinks, WallClock};
use zabra_actors::stats::Stats;
use zabra_actors::types::{
    Acl, ConnId, ConnectRequest, CreateKind, Deliver, EventKind, Op, Packet, ReplyBody, Request, SessionId,
    Sid, Tenure, WallMillis, Zxid, perms,
};

const ME: Sid = Sid(1);
const CONN: ConnId = ConnId(1);

/// How often it is looked, in ms.
const INTERVAL_MS: u64 = 10_000;
/// Ten in a second.
const PER_MINUTE: u32 = 600;
/// How long the TTL node lives, in ms: more than one interval.
const TTL_MS: i64 = 25_000;
/// Longer than anything takes that is going to happen.
const PATIENCE: Duration = Duration::from_secs(60);

struct Alone;

impl PeerLinks for Alone {
    fn send(&self, _: &[(Sid, Tenure)], _: &Packet) {}
}

/// A wall clock that goes with the simulated one.
struct Wall(Instant);

impl WallClock for Wall {
    fn now(&self) -> WallMillis {
        1_700_000_000_000 + self.0.elapsed().as_millis() as WallMillis
    }
}

struct Sink(mpsc::UnboundedSender<Vec<Deliver>>);

impl ClientSink for Sink {
    fn deliver(&self, batch: Vec<Deliver>) {
        let _ = self.0.send(batch); // the test may be over
    }
}

/// A server, and a client that hears of every change.
struct Client {
    running: Running,
    heard: mpsc::UnboundedReceiver<Vec<Deliver>>,
    began: Instant,
    xid: i32,
    /// When each znode was deleted, in ms since the test began.
    deleted: Vec<(u64, String)>,
}

impl Client {
    async fn start(disk: &SimDisk) -> Client {
        let log = Logger::root(Discard, o!());
        let settings = DiskSettings { preallocate: 4096, ..DiskSettings::new("/data", ME) };
        let (txns, snaps) = open(Arc::new(disk.clone()), settings, log.clone()).unwrap();
        let (stats, wall) = (Arc::new(Stats::default()), Arc::new(Wall(Instant::now())));
        let parts = Parts {
            ensemble: Ensemble::majority(ME, &[ME], &[]),
            timing: Timing { tick_ms: 500, init_limit_ms: 5000, sync_limit_ms: 2500 },
            read_only: false,
            pauses: Pauses { min_ms: 200, max_ms: 3000 },
            settings: Settings {
                me: ME,
                min_session_timeout_ms: 1000,
                max_session_timeout_ms: 1_000_000,
                first_session: session_id_base(ME, wall.now()),
                config: None,
                local_sessions: LocalSessions::Off,
                rules: Rules { extended_types: true, ..Rules::default() },
            },
            containers: containers::Settings { check_interval_ms: INTERVAL_MS, max_per_minute: PER_MINUTE },
            snap_count: 1000,
            snap_size: u64::MAX,
            txn_store: Box::new(txns),
            snap_store: Box::new(snaps),
            wall,
            witness: Arc::new(NoWitness),
            on_fault: Arc::new(|fault| panic!("{fault}")),
            stats: stats.clone(),
            log,
        };
        let running = start(parts, &Placement::default(), |_| Arc::new(Alone));
        while !stats.is_serving() {
            sleep(Duration::from_millis(10)).await;
        }
        let (sender, heard) = mpsc::unbounded_channel();
        let client = Client { running, heard, began: Instant::now(), xid: 0, deleted: Vec::new() };
        client.connect(sender).await
    }

    async fn connect(mut self, sender: mpsc::UnboundedSender<Vec<Deliver>>) -> Client {
        let brain = &self.running.brain;
        brain.opened.do_send(Opened { conn: CONN, auth: Arc::new([]), sink: Box::new(Sink(sender)) });
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid::ZERO,
            timeout_ms: 1_000_000,
            session: SessionId::NONE,
            password: Bytes::new(),
            read_only: None,
        };
        brain.clients.do_send(FromClient::Connect { conn: CONN, request });
        let welcome = timeout(PATIENCE, self.heard.recv()).await.expect("an answer").unwrap();
        assert!(matches!(welcome[..], [Deliver::Connected(_)]), "{welcome:?}");
        self.ask(Op::AddWatch { path: "/".into(), recursive: true }).await;
        self
    }

    /// Asks, and hears until it is answered.
    async fn ask(&mut self, op: Op) -> ReplyBody {
        self.xid += 1;
        let request = Request { conn: CONN, xid: self.xid, op: op.clone(), auth: Arc::new([]) };
        self.running.brain.clients.do_send(FromClient::Requests(vec![request]));
        loop {
            if let Some(reply) = self.hear().await {
                return reply.result.unwrap_or_else(|error| panic!("{op:?}: {error}"));
            }
        }
    }

    /// What is said in one breath; the reply, if there is one.
    async fn hear(&mut self) -> Option<zabra_actors::types::Reply> {
        let batch = timeout(PATIENCE, self.heard.recv()).await.expect("something is said").unwrap();
        let mut replied = None;
        for said in batch {
            match said {
                Deliver::Reply(reply) => replied = Some(reply),
                Deliver::Event(event) if event.kind == EventKind::NodeDeleted => {
                    let at = self.began.elapsed().as_millis() as u64;
                    self.deleted.push((at, event.path.to_string()));
                }
                Deliver::Event(_) => {}
                other => panic!("{other:?}"),
            }
        }
        replied
    }

    async fn create(&mut self, kind: CreateKind, path: &str, flags: i32) {
        let acl = Some(vec![Acl::world(perms::ALL)]);
        self.ask(Op::Create { kind, path: path.into(), data: None, acl, flags }).await;
    }

    /// A container that has had a child.
    async fn used_container(&mut self, path: &str) {
        self.create(CreateKind::Container, path, 4).await;
        let child = format!("{path}/child");
        self.create(CreateKind::Create, &child, 0).await;
        self.ask(Op::Delete { path: child.as_str().into(), version: -1 }).await;
    }

    /// Hears until so many znodes are deleted.
    async fn until_deleted(&mut self, count: usize) -> Vec<(u64, String)> {
        while self.deleted.len() < count {
            self.hear().await;
        }
        std::mem::take(&mut self.deleted)
    }
}

/// One life of a server, and when what was deleted in it.
async fn life() -> Vec<(u64, String)> {
    let disk = SimDisk::new();
    let mut client = Client::start(&disk).await;
    client.create(CreateKind::Ttl(TTL_MS), "/ttl", 5).await;
    client.create(CreateKind::Ttl(1), "/parent", 5).await;
    client.create(CreateKind::Create, "/parent/child", 0).await;
    client.create(CreateKind::Container, "/unused", 4).await;
    for n in 0..20 {
        client.used_container(&format!("/used-{n:02}")).await;
    }
    client.deleted.clear();

    let mut deleted = client.until_deleted(20).await;
    assert!(deleted.iter().all(|(_, path)| path.starts_with("/used-")), "{deleted:?}");
    // The interval began when the server began to lead, just before the test did.
    assert!(deleted[0].0 >= INTERVAL_MS - 50, "not before the first check: {deleted:?}");
    for pair in deleted.windows(2) {
        assert!(pair[1].0 - pair[0].0 >= 50, "spaced, in steps of the server's tick: {deleted:?}");
    }
    let took = deleted[19].0 - deleted[0].0;
    assert!((1900..=2000).contains(&took), "20 at ten in a second: {deleted:?}");

    deleted.extend(client.until_deleted(1).await);
    let (at, path) = &deleted[20];
    assert_eq!(path, "/ttl");
    assert!((TTL_MS as u64..TTL_MS as u64 + INTERVAL_MS + 1000).contains(at), "{at}");

    // The last child goes, and at the next check the parent that should have gone long ago.
    client.ask(Op::Delete { path: "/parent/child".into(), version: -1 }).await;
    deleted.extend(client.until_deleted(2).await);
    assert_eq!(deleted[22].1, "/parent");
    let ReplyBody::Stat(stat) = client.ask(Op::Exists { path: "/unused".into(), watch: false }).await else {
        panic!("it was never used, so it stays")
    };
    assert_eq!(stat.ephemeral_owner, 0);
    client.running.halt();

    // Another life: what is deleted stays so, and what is left is looked for again.
    sleep(Duration::from_secs(1)).await;
    disk.kill();
    let mut client = Client::start(&disk).await;
    client.create(CreateKind::Create, "/unused/child", 0).await;
    client.ask(Op::Delete { path: "/unused/child".into(), version: -1 }).await;
    deleted.extend(client.until_deleted(2).await);
    assert_eq!(deleted[24].1, "/unused");
    let ReplyBody::Children(mut names) =
        client.ask(Op::GetChildren { path: "/".into(), watch: false, stat: false }).await
    else {
        panic!("names")
    };
    names.sort_unstable();
    assert_eq!(names, ["zookeeper".into()]);
    client.running.halt();
    deleted
}

fn in_simulated_time() -> Vec<(u64, String)> {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap()
    };
    actix::System::with_tokio_rt(runtime).block_on(life())
}

#[test]
fn what_is_over_goes_in_time_and_the_same_way_each_time() {
    assert_eq!(in_simulated_time(), in_simulated_time());
}
