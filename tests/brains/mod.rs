//! Whole brains on simulated disks in simulated time, with the simplest of links between them, which a test may tamper
//! with.

// Each test binary uses its own part of this module.
#![allow(dead_code)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::Recipient;
use bytes::Bytes;
use slog::{Drain, Logger, o};
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
    Acl, ConnId, ConnectRequest, CreateKind, Deliver, Envelope, Epoch, Fault, Op, Packet, ReplyBody, Request,
    SessionId, Sid, Tenure, Txn, TxnBody, TxnHeader, WallMillis, ZkError, Zxid, perms,
};

/// The one that something is wrong with.
pub const A: Sid = Sid(1);
/// Another one.
pub const B: Sid = Sid(2);
/// With equal logs the leader: the greatest id.
pub const C: Sid = Sid(3);
/// All of them.
pub const ALL: [Sid; 3] = [A, B, C];

/// Longer than anything takes that is going to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the wires do to a packet: from whom, to whom, which.
type Tamper = Arc<dyn Fn(Sid, Sid, &Packet) -> Option<Packet> + Send + Sync>;

/// Where each server hears from the others.
#[derive(Clone)]
pub struct Wires {
    ears: Arc<Mutex<[Option<Recipient<FromPeer>>; 3]>>,
    tamper: Arc<Mutex<Tamper>>,
}

impl Wires {
    pub fn new() -> Wires {
        let honest: Tamper = Arc::new(|_, _, packet| Some(packet.clone()));
        Wires { ears: Arc::default(), tamper: Arc::new(Mutex::new(honest)) }
    }

    pub fn tamper(&self, tamper: impl Fn(Sid, Sid, &Packet) -> Option<Packet> + Send + Sync + 'static) {
        *self.tamper.lock().unwrap() = Arc::new(tamper);
    }

    pub fn set(&self, sid: Sid, ear: Option<Recipient<FromPeer>>) {
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
            if let (Some(ear), Some(packet)) = (ear, tamper(self.me, *peer, packet)) {
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
pub struct Lines(Arc<Mutex<Vec<String>>>);

impl Drain for Lines {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &slog::Record<'_>, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
        self.0.lock().unwrap().push(record.msg().to_string());
        Ok(())
    }
}

impl Lines {
    pub fn count(&self, part: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|line| line.contains(part)).count()
    }
}

pub struct Server {
    pub me: Sid,
    pub running: Running,
    pub stats: Arc<Stats>,
    pub lines: Lines,
    pub faults: Arc<Mutex<Vec<String>>>,
    conns: u64,
}

pub fn stores(
    disk: &SimDisk,
    me: Sid,
    log: &Logger,
) -> (zabra::disk::FileTxnStore, zabra::disk::FileSnapStore) {
    let settings = DiskSettings { preallocate: 4096, ..DiskSettings::new("/data", me) };
    open(Arc::new(disk.clone()), settings, log.clone()).unwrap()
}

impl Server {
    pub fn start(me: Sid, disk: &SimDisk, wires: &Wires) -> Server {
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

    pub fn connect(&mut self) -> Conn {
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
    pub async fn ask(&mut self, op: Op) -> Result<ReplyBody, ZkError> {
        let mut client = self.connect();
        assert!(matches!(&client.hear().await[..], [Deliver::Connected(_), ..]));
        let request = Request { conn: client.conn, xid: 1, op, auth: Arc::new([]) };
        self.running.brain.clients.do_send(FromClient::Requests(vec![request]));
        match client.hear().await.swap_remove(0) {
            Deliver::Reply(reply) => reply.result,
            other => panic!("{other:?}"),
        }
    }

    pub async fn create(&mut self, path: &str) {
        let (path, acl) = (path.into(), Some(vec![Acl::world(perms::ALL)]));
        let op = Op::Create { kind: CreateKind::Create, path, data: None, acl, flags: 0 };
        assert!(matches!(self.ask(op).await, Ok(ReplyBody::Path(_))));
    }

    pub async fn data(&mut self, path: &str) -> Option<Bytes> {
        match self.ask(Op::GetData { path: path.into(), watch: false }).await {
            Ok(ReplyBody::Data(data, _)) => data,
            other => panic!("{other:?}"),
        }
    }

    pub async fn until(&self, what: &str, holds: impl Fn(&Server) -> bool) {
        let polling = async {
            while !holds(self) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, polling).await.unwrap_or_else(|_| panic!("server {}: not {what}", self.me));
    }

    pub async fn serves(&self) {
        self.until("serving", |server| server.stats.is_serving()).await;
    }

    pub fn mismatches(&self) -> u64 {
        self.stats.digest_mismatches_count.get()
    }
}

struct Sink(mpsc::UnboundedSender<Vec<Deliver>>);

impl ClientSink for Sink {
    fn deliver(&self, batch: Vec<Deliver>) {
        let _ = self.0.send(batch);
    }
}

pub struct Conn {
    conn: ConnId,
    heard: mpsc::UnboundedReceiver<Vec<Deliver>>,
}

impl Conn {
    pub async fn hear(&mut self) -> Vec<Deliver> {
        timeout(PATIENCE, self.heard.recv()).await.expect("an answer").expect("the server lives")
    }
}

/// Runs a test under a clock that jumps to the next thing that happens.
pub fn in_simulated_time(test: impl Future<Output = ()>) {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap()
    };
    actix::System::with_tokio_rt(runtime).block_on(test);
}

/// A transaction of epoch 1.
pub fn create_txn(counter: u32, path: &str, data: impl Into<Bytes>) -> Txn {
    let header = TxnHeader { session: SessionId(1), cxid: 0, zxid: Zxid::new(Epoch(1), counter), time: 1 };
    let body = TxnBody::Create {
        kind: CreateKind::Create,
        path: path.into(),
        data: Some(data.into()),
        acl: vec![Acl::world(perms::ALL)],
        ephemeral: false,
        parent_cversion: counter as i32,
    };
    Txn { header, body, digest: None }
}

/// These are connected from now on, as this server sees it.
pub fn link(server: &Server, peers: &[Sid]) {
    for peer in peers.iter().filter(|peer| **peer != server.me) {
        server.running.brain.peers.do_send(FromPeer::LinkUp(*peer));
    }
}
