//! When a server begins and ceases to be read-only, in simulated time: whole brains on simulated disks, with the
//! simplest of links between them.

#![allow(clippy::unwrap_used)] // these are tests

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::Recipient;
use bytes::Bytes;
use slog::{Discard, Logger, o};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use zabra::disk::{DiskSettings, SimDisk, open};
use zabra_actors::brain::{Parts, Placement, Running, start};
use zabra_actors::core::election::Pauses;
use zabra_actors::core::leader::Timing;
use zabra_actors::core::quorum::Ensemble;
use zabra_actors::core::replica::{LocalSessions, Settings, session_id_base};
use zabra_actors::handle::{FromClient, FromPeer, Opened};
use zabra_actors::ports::{ClientSink, NoWitness, PeerLinks, WallClock};
use zabra_actors::stats::Stats;
use zabra_actors::types::{
    ConnId, ConnectRequest, Deliver, Envelope, Op, Packet, Request, ServerState, SessionId, Sid, Tenure,
    WallMillis, ZkError, Zxid,
};

const A: Sid = Sid(1);
const B: Sid = Sid(2);

/// How long an election may last before a server is read-only: two seconds, for the tick is shorter.
const WAIT: Duration = Duration::from_secs(2);

/// Longer than anything takes that is going to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where each of the two servers hears from the other.
#[derive(Clone, Default)]
struct Ears {
    ears: Arc<Mutex<[Option<Recipient<FromPeer>>; 2]>>,
    /// They vote, and nothing comes of it: what else is said gets lost.
    only_votes: bool,
}

impl Ears {
    fn of(&self, sid: Sid) -> Option<Recipient<FromPeer>> {
        self.ears.lock().unwrap()[usize::from(sid.0) - 1].clone()
    }

    fn set(&self, sid: Sid, ear: Option<Recipient<FromPeer>>) {
        self.ears.lock().unwrap()[usize::from(sid.0) - 1] = ear;
    }
}

struct Links {
    me: Sid,
    ears: Ears,
}

impl PeerLinks for Links {
    fn send(&self, to: &[(Sid, Tenure)], packet: &Packet) {
        if self.ears.only_votes && !matches!(packet, Packet::Notification(_)) {
            return;
        }
        for (peer, tenure) in to {
            if let Some(ear) = self.ears.of(*peer) {
                let envelope = Envelope { tenure: *tenure, packet: packet.clone() };
                ear.do_send(FromPeer::Packets(self.me, vec![envelope]));
            }
        }
    }
}

struct StoppedClock;

impl WallClock for StoppedClock {
    fn now(&self) -> WallMillis {
        1_700_000_000_000
    }
}

struct Server {
    me: Sid,
    running: Running,
    stats: Arc<Stats>,
    conns: u64,
}

impl Server {
    fn start(me: Sid, disk: &SimDisk, read_only: bool, ears: &Ears) -> Server {
        let log = Logger::root(Discard, o!());
        let settings = DiskSettings { preallocate: 4096, ..DiskSettings::new("/data", me) };
        let (txns, snaps) = open(Arc::new(disk.clone()), settings, log.clone()).unwrap();
        let stats = Arc::new(Stats::default());
        let parts = Parts {
            ensemble: Ensemble::majority(me, &[A, B], &[]),
            timing: Timing { tick_ms: 500, init_limit_ms: 5000, sync_limit_ms: 2500 },
            read_only,
            pauses: Pauses { min_ms: 200, max_ms: 3000 },
            settings: Settings {
                me,
                min_session_timeout_ms: 1000,
                max_session_timeout_ms: 10_000,
                first_session: session_id_base(me, StoppedClock.now()),
                config: None,
                rules: Default::default(),
                local_sessions: LocalSessions::Off,
            },
            containers: Default::default(),
            snap_count: 1000,
            snap_size: u64::MAX,
            txn_store: Box::new(txns),
            snap_store: Box::new(snaps),
            wall: Arc::new(StoppedClock),
            witness: Arc::new(NoWitness),
            on_fault: Arc::new(|fault| panic!("{fault}")),
            stats: stats.clone(),
            log,
        };
        let running = start(parts, &Placement::default(), |ear| {
            ears.set(me, Some(ear));
            Arc::new(Links { me, ears: ears.clone() })
        });
        Server { me, running, stats, conns: 0 }
    }

    fn hears(&self, news: FromPeer) {
        self.running.brain.peers.do_send(news);
    }

    /// A handshake: what comes of it is heard on the connection.
    fn connect(&mut self, read_only: bool) -> Conn {
        self.conns += 1;
        let (sender, heard) = mpsc::unbounded_channel();
        let conn = ConnId(self.conns);
        let brain = &self.running.brain;
        brain.opened.do_send(Opened { conn, auth: Arc::new([]), sink: Box::new(Sink(sender)) });
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid::ZERO,
            timeout_ms: 10_000,
            session: SessionId::NONE,
            password: Bytes::new(),
            read_only: Some(read_only),
        };
        brain.clients.do_send(FromClient::Connect { conn, request });
        Conn { conn, heard }
    }

    fn ask(&self, conn: &Conn, op: Op) {
        let request = Request { conn: conn.conn, xid: 1, op, auth: Arc::new([]) };
        self.running.brain.clients.do_send(FromClient::Requests(vec![request]));
    }

    async fn until(&self, what: &str, holds: impl Fn(&Stats) -> bool) {
        let polling = async {
            while !holds(&self.stats) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, polling).await.unwrap_or_else(|_| panic!("server {}: not {what}", self.me));
    }
}

struct Sink(mpsc::UnboundedSender<Vec<Deliver>>);

impl ClientSink for Sink {
    fn deliver(&self, batch: Vec<Deliver>) {
        let _ = self.0.send(batch);
    }
}

struct Conn {
    conn: ConnId,
    heard: mpsc::UnboundedReceiver<Vec<Deliver>>,
}

impl Conn {
    /// What the server says in one breath.
    async fn hear(&mut self) -> Vec<Deliver> {
        timeout(PATIENCE, self.heard.recv()).await.expect("an answer").expect("the server lives")
    }

    /// The answer of the handshake: `None` is a close without a word, else whether the server is read-only.
    async fn welcome(&mut self) -> Option<bool> {
        match self.hear().await.first() {
            Some(Deliver::Connected(response)) => response.read_only,
            Some(Deliver::Close) => None,
            other => panic!("{other:?}"),
        }
    }
}

/// Runs a test under a clock that jumps to the next thing that happens.
fn in_simulated_time(test: impl Future<Output = ()>) {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap()
    };
    actix::System::with_tokio_rt(runtime).block_on(test);
}

fn link(a: &Server, b: &Server) {
    a.hears(FromPeer::LinkUp(b.me));
    b.hears(FromPeer::LinkUp(a.me));
}

#[test]
fn a_server_is_read_only_while_it_is_cut_off_for_long() {
    in_simulated_time(async {
        let (ears, disks) = (Ears::default(), [SimDisk::new(), SimDisk::new()]);
        let mut a = Server::start(A, &disks[0], true, &ears);
        sleep(WAIT - Duration::from_millis(100)).await;
        assert!(!a.stats.is_open(), "the others may only be slow");
        assert_eq!(a.connect(true).welcome().await, None);

        sleep(Duration::from_millis(200)).await;
        assert!(a.stats.is_read_only() && !a.stats.is_serving());
        assert_eq!(a.connect(false).welcome().await, None, "who wants to write is sent away");
        let mut reader = a.connect(true);
        assert_eq!(reader.welcome().await, Some(true));
        a.ask(&reader, Op::Sync { path: None });
        let [Deliver::Reply(reply)] = &reader.hear().await[..] else { panic!("one reply") };
        assert_eq!(reply.result, Err(ZkError::NotReadOnly));

        // The other comes: the reader is sent away, and whoever comes now is served as usual.
        let b = Server::start(B, &disks[1], true, &ears);
        link(&a, &b);
        assert_eq!(reader.hear().await, [Deliver::Close]);
        a.until("serving", Stats::is_serving).await;
        assert!(!a.stats.is_read_only());
        let mut writer = a.connect(true);
        assert_eq!(writer.welcome().await, Some(false));
        let zxid = a.stats.last_zxid.get();
        assert!(zxid > 0, "its session is a transaction");

        // And goes: everybody is sent away at once, and readers may come back after a while.
        ears.set(B, None);
        b.running.halt();
        a.hears(FromPeer::LinkDown(B));
        assert_eq!(writer.hear().await, [Deliver::Close]);
        a.until("looking", |stats| !stats.is_serving()).await;
        sleep(WAIT - Duration::from_millis(100)).await;
        assert!(!a.stats.is_open());
        sleep(Duration::from_millis(200)).await;
        let mut reader = a.connect(true);
        assert_eq!(reader.welcome().await, Some(true));
        assert_eq!(a.stats.last_zxid.get(), zxid, "readers leave no trace");
        assert_eq!((a.stats.local_sessions.get(), a.stats.global_sessions.get()), (1, 1));
        a.running.halt();
    });
}

/// Servers that are stopped together do not stop at the same instant: one of them can still elect who remains.
#[test]
fn a_leader_that_nobody_can_follow_any_more_is_read_only_as_soon_as_others() {
    in_simulated_time(async {
        let ears = Ears { only_votes: true, ..Ears::default() };
        let a = Server::start(A, &SimDisk::new(), true, &ears);
        let mut b = Server::start(B, &SimDisk::new(), true, &ears);
        link(&a, &b);
        b.until("leading", |stats| stats.state.get() == ServerState::Leading as i64).await;
        a.running.halt();
        b.hears(FromPeer::LinkDown(A));

        sleep(WAIT - Duration::from_millis(100)).await;
        assert!(!b.stats.is_open(), "the other may only be slow");
        sleep(Duration::from_millis(300)).await;
        assert_eq!(b.connect(true).welcome().await, Some(true));
        b.running.halt();
    });
}

#[test]
fn who_is_not_told_to_is_never_read_only() {
    in_simulated_time(async {
        let ears = Ears::default();
        let mut a = Server::start(A, &SimDisk::new(), false, &ears);
        sleep(10 * WAIT).await;
        assert!(!a.stats.is_open());
        assert_eq!(a.connect(true).welcome().await, None);
        a.running.halt();
    });
}
