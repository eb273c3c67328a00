//! A server whose tree differs from its leader's, in simulated time: whole brains on simulated disks. The directory
//! of one is damaged so that no checksum shows it; it is found out by the next write, and healed.

#![allow(clippy::unwrap_used)] // these are tests

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::Recipient;
use bytes::Bytes;
use slog::{Discard, Drain, Logger, o};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use zabra::disk::{Disk, DiskSettings, SimDisk, open};
use zabra_actors::brain::{Parts, Placement, Running, start};
use zabra_actors::core::election::Pauses;
use zabra_actors::core::leader::Timing;
use zabra_actors::core::quorum::Ensemble;
use zabra_actors::core::replica::{LocalSessions, Settings, session_id_base};
use zabra_actors::core::tree::Tree;
use zabra_actors::handle::{FromClient, FromPeer, Opened};
use zabra_actors::ports::{ClientSink, NoWitness, PeerLinks, SnapStore, TxnStore, WallClock};
use zabra_actors::stats::Stats;
use zabra_actors::types::{
    Acl, ConnId, ConnectRequest, CreateKind, Deliver, Entry, Envelope, Epoch, Epochs, Fault, Op, Packet,
    ReplyBody, Request, SessionId, Sid, Tenure, Txn, TxnBody, TxnHeader, WallMillis, ZkError, Zxid, perms,
};

/// The one with the damage.
const A: Sid = Sid(1);
const B: Sid = Sid(2);
/// With equal logs the leader: the greatest id.
const C: Sid = Sid(3);
const ALL: [Sid; 3] = [A, B, C];

/// Longer than anything takes that is going to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the wires do to a packet for A.
type Tamper = Arc<dyn Fn(&Packet) -> Option<Packet> + Send + Sync>;

/// Where each server hears from the others.
#[derive(Clone)]
struct Wires {
    ears: Arc<Mutex<[Option<Recipient<FromPeer>>; 3]>>,
    tamper: Arc<Mutex<Tamper>>,
}

impl Wires {
    fn new() -> Wires {
        let honest: Tamper = Arc::new(|packet| Some(packet.clone()));
        Wires { ears: Arc::default(), tamper: Arc::new(Mutex::new(honest)) }
    }

    fn tamper(&self, tamper: impl Fn(&Packet) -> Option<Packet> + Send + Sync + 'static) {
        *self.tamper.lock().unwrap() = Arc::new(tamper);
    }

    fn set(&self, sid: Sid, ear: Option<Recipient<FromPeer>>) {
        self.ears.lock().unwrap()[usize::from(sid.0) - 1] = ear;
    }
}

struct Links {
    me: Sid,
    wires: Wires,
}

impl PeerLinks for Links {
    fn send(&self, to: &[(Sid, Tenure)], packet: &Packet) {
        for (peer, tenure) in to {
            let ear = self.wires.ears.lock().unwrap()[usize::from(peer.0) - 1].clone();
            let tamper = self.wires.tamper.lock().unwrap().clone();
            let packet = if *peer == A { tamper(packet) } else { Some(packet.clone()) };
            if let (Some(ear), Some(packet)) = (ear, packet) {
                ear.do_send(FromPeer::Packets(self.me, vec![Envelope { tenure: *tenure, packet }]));
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

/// Log lines, for whoever looks for one.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Drain for Lines {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &slog::Record<'_>, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
        self.0.lock().unwrap().push(record.msg().to_string());
        Ok(())
    }
}

impl Lines {
    fn count(&self, part: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|line| line.contains(part)).count()
    }
}

struct Server {
    me: Sid,
    running: Running,
    stats: Arc<Stats>,
    lines: Lines,
    faults: Arc<Mutex<Vec<String>>>,
    conns: u64,
}

fn stores(disk: &SimDisk, me: Sid, log: &Logger) -> (zabra::disk::FileTxnStore, zabra::disk::FileSnapStore) {
    let settings = DiskSettings { preallocate: 4096, ..DiskSettings::new("/data", me) };
    open(Arc::new(disk.clone()), settings, log.clone()).unwrap()
}

impl Server {
    fn start(me: Sid, disk: &SimDisk, wires: &Wires) -> Server {
        let (lines, faults) = (Lines::default(), Arc::new(Mutex::new(Vec::new())));
        let log = Logger::root(lines.clone(), o!());
        let (txns, snaps) = stores(disk, me, &log);
        let (stats, failed) = (Arc::new(Stats::default()), faults.clone());
        let parts = Parts {
            ensemble: Ensemble::majority(me, &ALL, &[]),
            timing: Timing { tick_ms: 500, init_limit_ms: 5000, sync_limit_ms: 2500 },
            read_only: false,
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
            on_fault: Arc::new(move |fault: &Fault| failed.lock().unwrap().push(fault.0.clone())),
            stats: stats.clone(),
            log,
        };
        let running = start(parts, &Placement::default(), |ear| {
            wires.set(me, Some(ear));
            Arc::new(Links { me, wires: wires.clone() })
        });
        Server { me, running, stats, lines, faults, conns: 0 }
    }

    fn connect(&mut self) -> Conn {
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
            read_only: Some(false),
        };
        brain.clients.do_send(FromClient::Connect { conn, request });
        Conn { conn, heard }
    }

    /// What comes of one request of a new client.
    async fn ask(&mut self, op: Op) -> Result<ReplyBody, ZkError> {
        let mut client = self.connect();
        assert!(matches!(&client.hear().await[..], [Deliver::Connected(_), ..]));
        let request = Request { conn: client.conn, xid: 1, op, auth: Arc::new([]) };
        self.running.brain.clients.do_send(FromClient::Requests(vec![request]));
        match client.hear().await.swap_remove(0) {
            Deliver::Reply(reply) => reply.result,
            other => panic!("{other:?}"),
        }
    }

    async fn create(&mut self, path: &str) {
        let (path, acl) = (path.into(), Some(vec![Acl::world(perms::ALL)]));
        let op = Op::Create { kind: CreateKind::Create, path, data: None, acl, flags: 0 };
        assert!(matches!(self.ask(op).await, Ok(ReplyBody::Path(_))));
    }

    async fn data(&mut self, path: &str) -> Option<Bytes> {
        match self.ask(Op::GetData { path: path.into(), watch: false }).await {
            Ok(ReplyBody::Data(data, _)) => data,
            other => panic!("{other:?}"),
        }
    }

    async fn until(&self, what: &str, holds: impl Fn(&Server) -> bool) {
        let polling = async {
            while !holds(self) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, polling).await.unwrap_or_else(|_| panic!("server {}: not {what}", self.me));
    }

    async fn serves(&self) {
        self.until("serving", |server| server.stats.is_serving()).await;
    }

    fn mismatches(&self) -> u64 {
        self.stats.digest_mismatches_count.get()
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
    async fn hear(&mut self) -> Vec<Deliver> {
        timeout(PATIENCE, self.heard.recv()).await.expect("an answer").expect("the server lives")
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

fn create_txn(counter: u32, path: &str, data: &'static str) -> Txn {
    let header = TxnHeader { session: SessionId(1), cxid: 0, zxid: Zxid::new(Epoch(1), counter), time: 1 };
    let body = TxnBody::Create {
        kind: CreateKind::Create,
        path: path.into(),
        data: Some(Bytes::from_static(data.as_bytes())),
        acl: vec![Acl::world(perms::ALL)],
        ephemeral: false,
        parent_cversion: counter as i32,
    };
    Txn { header, body, digest: None }
}

/// A directory with two znodes, the same log in all, and a snapshot of it in which `/a` says what `data` says.
fn directory(me: Sid, data: &'static str) -> SimDisk {
    let disk = SimDisk::new();
    let log = Logger::root(Discard, o!());
    let (mut txns, mut snaps) = stores(&disk, me, &log);
    txns.recover().unwrap();
    txns.save_epochs(Epochs { accepted: Epoch(1), current: Epoch(1) }).unwrap();
    let logged = [create_txn(1, "/a", "right"), create_txn(2, "/b", "right")];
    txns.append(&logged.map(Entry::new)).unwrap();
    txns.sync().unwrap();
    let mut tree = Tree::new();
    for txn in [create_txn(1, "/a", data), create_txn(2, "/b", "right")] {
        tree.apply(&txn, &mut Vec::new());
    }
    snaps.save(&tree).unwrap().unwrap();
    disk
}

/// Three servers, all linked; the data of A is damaged.
async fn ensemble(wires: &Wires) -> ([Server; 3], [SimDisk; 3]) {
    let disks = [directory(A, "wrong"), directory(B, "right"), directory(C, "right")];
    let servers = [0, 1, 2].map(|at| Server::start(ALL[at], &disks[at], wires));
    for server in &servers {
        link(server, &ALL);
    }
    for server in &servers {
        server.serves().await;
    }
    assert_eq!(servers[0].stats.leader.get(), i64::from(C.0));
    (servers, disks)
}

fn link(server: &Server, peers: &[Sid]) {
    for peer in peers.iter().filter(|peer| **peer != server.me) {
        server.running.brain.peers.do_send(FromPeer::LinkUp(*peer));
    }
}

/// Is there a note that the tree is wrong?
fn is_noted(disk: &SimDisk) -> bool {
    let names = disk.list(Path::new("/data/version-2")).unwrap();
    names.iter().any(|(name, _)| name == ".diverged")
}

#[test]
fn damage_that_no_checksum_shows_is_found_by_the_next_write_and_healed() {
    in_simulated_time(async {
        let wires = Wires::new();
        let ([mut a, b, mut c], disks) = ensemble(&wires).await;
        assert_eq!(a.mismatches(), 0, "nobody has noticed yet");
        // A handshake is a write. Its client hears nothing of it: nobody is served from such a tree.
        let mut client = a.connect();
        assert_eq!(client.hear().await, [Deliver::Close]);
        a.until("aware", |a| a.mismatches() == 1).await;
        assert_eq!(a.lines.count("First digest mismatch on txn"), 1);
        assert_eq!(a.lines.count("a fresh snapshot of the leader will replace"), 1);
        a.until("healed", |a| a.lines.count("the tree is the leader's again") == 1).await;
        a.serves().await;
        c.create("/c").await;
        assert_eq!(a.data("/a").await, Some(Bytes::from_static(b"right")));
        assert!(!is_noted(&disks[0]), "what is healed is not noted");
        assert_eq!((a.mismatches(), b.mismatches(), c.mismatches()), (1, 0, 0));
        assert_eq!((c.stats.snap_count.get(), c.stats.looking_count.get()), (1, 1), "the others went on");
        assert_eq!(*a.faults.lock().unwrap(), [""; 0]);
    });
}

#[test]
fn the_need_for_a_snapshot_outlives_a_crash() {
    in_simulated_time(async {
        let wires = Wires::new();
        let ([a, b, mut c], disks) = ensemble(&wires).await;
        // Nothing of the snapshot comes through, nor what is behind it.
        let lost = AtomicBool::new(false);
        wires.tamper(move |packet| {
            lost.fetch_or(matches!(packet, Packet::SnapChunk(_)), Relaxed);
            (!lost.load(Relaxed)).then(|| packet.clone())
        });
        c.create("/c").await;
        a.until("aware", |a| a.mismatches() == 1).await;
        c.until("sending a snapshot", |c| c.stats.snap_count.get() == 1).await;
        assert!(is_noted(&disks[0]));
        assert_eq!(a.lines.count("the tree is the leader's again"), 0, "it does not come through");

        // The power fails, before anything is installed. The note has survived, and so has its meaning.
        for crash in 0..2 {
            wires.set(A, None);
            if crash == 0 {
                a.running.halt();
            }
            for peer in [&b, &c] {
                peer.running.brain.peers.do_send(FromPeer::LinkDown(A));
            }
            sleep(Duration::from_millis(100)).await;
            disks[0].crash(crash);
            assert!(is_noted(&disks[0]), "crash {crash}");
        }
        wires.tamper(|packet| Some(packet.clone()));
        let mut a = Server::start(A, &disks[0], &wires);
        link(&a, &ALL);
        link(&b, &[A]);
        link(&c, &[A]);
        a.serves().await;
        assert_eq!((a.lines.count("the tree is the leader's again"), c.stats.snap_count.get()), (1, 2));
        assert_eq!(a.mismatches(), 0, "no write was needed to find out again");
        assert_eq!(a.data("/a").await, Some(Bytes::from_static(b"right")));
        assert!(!is_noted(&disks[0]));
    });
}

#[test]
fn a_tree_that_is_wrong_again_at_once_stops_the_server() {
    in_simulated_time(async {
        let wires = Wires::new();
        let ([a, b, mut c], _disks) = ensemble(&wires).await;
        // As if A computed another digest than the others, whatever it is given.
        wires.tamper(|packet| {
            let Packet::Proposal(entry) = packet else { return Some(packet.clone()) };
            let mut txn = entry.txn.clone();
            txn.digest.as_mut().unwrap().tree ^= 1;
            Some(Packet::Proposal(Entry::new(txn)))
        });
        // Two transactions: the session and the znode. Between them a snapshot.
        c.create("/c").await;
        a.until("stopped", |a| !a.faults.lock().unwrap().is_empty()).await;
        let faults = a.faults.lock().unwrap().clone();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains("the tree differs from the leader's again"), "{faults:?}");
        assert_eq!((a.mismatches(), b.mismatches(), c.mismatches()), (2, 0, 0));
        assert_eq!(a.lines.count("the tree is the leader's again"), 1);
        c.create("/e").await; // the others go on
    });
}

#[test]
fn who_is_in_doubt_of_its_tree_leaves_the_election_to_others() {
    in_simulated_time(async {
        let wires = Wires::new();
        // The greatest id has the damage and the note: with equal logs it would win.
        let disks = [directory(A, "right"), directory(B, "right"), directory(C, "wrong")];
        stores(&disks[2], C, &Logger::root(Discard, o!())).0.distrust().unwrap();
        let servers = [0, 1, 2].map(|at| Server::start(ALL[at], &disks[at], &wires));
        for server in &servers {
            link(server, &ALL);
        }
        for server in &servers {
            server.serves().await;
        }
        let [.., b, mut c] = servers;
        assert_eq!((b.stats.leader.get(), b.stats.snap_count.get()), (i64::from(B.0), 1));
        assert_eq!(c.data("/a").await, Some(Bytes::from_static(b"right")));
    });
}

#[test]
fn who_is_in_doubt_of_its_tree_stands_when_the_others_cannot_do_without_it() {
    in_simulated_time(async {
        let wires = Wires::new();
        let disks = [directory(A, "right"), directory(C, "wrong")];
        stores(&disks[1], C, &Logger::root(Discard, o!())).0.distrust().unwrap();
        let servers = [(A, &disks[0]), (C, &disks[1])].map(|(sid, disk)| Server::start(sid, disk, &wires));
        for server in &servers {
            link(server, &[A, C]);
        }
        for server in &servers {
            server.serves().await;
        }
        let [_, c] = servers;
        assert_eq!(c.lines.count("the others have found no leader"), 1);
        assert_eq!(c.lines.count("this server leads although its tree has once differed"), 1);
    });
}
