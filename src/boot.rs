//! One server of the ensemble, from its configuration to its end. The only place that knows every part.
//!
//! ```text
//! thread  what runs there
//! core    the brain: Node, roles, Replica, WatchManager ...; sockets too, on a machine with few cores
//! disk    TxnLog: blocks in fdatasync
//! snap    Snapshotter: writes for seconds
//! io-N    client connections, on a machine with more cores
//! log     writes log lines
//! ```
//!
//! All ports are bound before anything starts, so that a wrong address is a line about the configuration.
//! Clients are accepted from the start and served as soon as the server is in step with a quorum.

use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use actix_rt::{Arbiter, ArbiterHandle, System};
use slog::{Logger, info, o, warn};
use tokio::sync::mpsc;
use zabra_actors::brain::{self, Parts, Placement, Running};
use zabra_actors::core::election::Pauses;
use zabra_actors::core::replica::{LocalSessions, Settings, session_id_base};
use zabra_actors::ports::{NoWitness, OnFault, PeerLinks, WallClock};
use zabra_actors::stats::Stats;
use zabra_actors::types::{Fault, Membership, Packet, Sid, Tenure, WallMillis};

use crate::admin::{self, Subject};
use crate::config::{Cluster, ConfigError, Server};
use crate::disk::{self, DiskSettings, FileSnapStore, FileTxnStore, RealDisk};
use crate::net::{AuthSettings, ClientSettings, Conf, Links, LinksSettings, Listener, PeerAddr, QuorumConf};
use crate::stop::StopSignals;

/// With fewer cores a thread of its own for sockets costs more in wake-ups than it brings.
const CORES_FOR_IO: usize = 4;
/// More threads than this cannot keep one core thread busy.
const MAX_IO_THREADS: usize = 4;

/// Why a server ended otherwise than by request.
#[derive(Debug)]
pub enum Failure {
    /// The configuration does not fit this machine.
    Config(ConfigError),
    /// The system refuses something that has nothing to do with the configuration.
    System(io::Error),
    /// The disk failed, or holds what it must not hold.
    Disk(Fault),
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::Config(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::System(error)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Failure {
        Failure::Disk(fault)
    }
}

/// Runs server `me` until it is asked to stop. `exit_with_stdin`: see [`StopSignals::listen`].
pub fn serve(cluster: Arc<Cluster>, me: Sid, log: Logger, exit_with_stdin: bool) -> Result<(), Failure> {
    cluster.server(me)?;
    cluster.prepare_directories(&[me])?;
    System::new().block_on(run(cluster, me, log, exit_with_stdin))
}

async fn run(cluster: Arc<Cluster>, me: Sid, log: Logger, exit_with_stdin: bool) -> Result<(), Failure> {
    let mut stop = StopSignals::listen(exit_with_stdin)?;
    info!(log, "Starting quorum peer, myid={me}"; "pid" => std::process::id());
    if !exit_with_stdin {
        // Otherwise `up` has said it once for all its servers.
        cluster.announce(&log);
    }
    let server = cluster.server(me)?;
    let ports = Ports::bind(&cluster, server)?;
    let stores = open_disk(&cluster, server, &log)?;
    let stats = Arc::new(Stats::default());
    let admin = start_admin(&cluster, me, ports.admin, &stats, &log)?;

    let (failed, mut faults) = mpsc::unbounded_channel();
    let on_fault: OnFault = Arc::new(move |fault: &Fault| {
        let _ = failed.send(Fault(fault.0.clone())); // nobody listens when the process is ending already
    });
    let (running, links) = start_brain(&cluster, me, ports.peer, stores, on_fault, &stats, &log)?;
    if let Some(admin) = admin {
        admin.take_snapshots_of(running.brain.snapshots.clone());
    }
    let settings = client_settings(&cluster, server);
    let brain = running.brain.clone();
    let clients = Listener::start_on(ports.client, settings, brain, stats, io_threads(), &log)?;

    let reason = tokio::select! {
        biased;
        Some(fault) = faults.recv() => return Err(Failure::Disk(fault)),
        reason = stop.next() => reason,
    };
    info!(log, "shutting down"; "reason" => reason);
    // Clients hear what was decided for them; peers see the links go and need not wait for a time-out.
    clients.close().await;
    running.halt();
    links.close().await;
    Ok(())
}

/// The server's listening sockets.
struct Ports {
    client: TcpListener,
    peer: TcpListener,
    admin: Option<TcpListener>,
}

impl Ports {
    fn bind(cluster: &Cluster, server: &Server) -> Result<Ports, ConfigError> {
        let admin =
            server.admin.as_ref().map(|address| cluster.bind(server, "admin", address)).transpose()?;
        let client = cluster.bind(server, "client", &server.client)?;
        let peer = cluster.bind(server, "peer", &server.peer)?;
        Ok(Ports { client, peer, admin })
    }
}

fn open_disk(
    cluster: &Cluster,
    server: &Server,
    log: &Logger,
) -> Result<(FileTxnStore, FileSnapStore), Fault> {
    let settings = DiskSettings {
        dir: server.data_dir.clone(),
        log_dir: server.txn_log_dir.clone(),
        id: server.id,
        preallocate: cluster.storage.prealloc,
        retain: cluster.storage.retain as usize,
        compression: cluster.storage.compression,
        min_free: cluster.storage.min_free,
        alone: cluster.ensemble(server.id).is_standalone(),
    };
    disk::open(Arc::new(RealDisk), settings, log.new(o!("part" => "disk")))
}

fn start_admin(
    cluster: &Arc<Cluster>,
    me: Sid,
    listener: Option<TcpListener>,
    stats: &Arc<Stats>,
    log: &Logger,
) -> io::Result<Option<Arc<Subject>>> {
    let Some(listener) = listener else { return Ok(None) };
    let log = log.new(o!("part" => "admin"));
    info!(log, "Started AdminServer on address {}", listener.local_addr()?);
    let subject = Arc::new(Subject::new(cluster.clone(), me, stats.clone()));
    let served = subject.clone();
    actix_rt::spawn(async move {
        if let Err(e) = admin::serve(listener, served, std::future::pending()).await {
            warn!(log, "AdminServer has ended; the server goes on"; "error" => %e);
        }
    });
    Ok(Some(subject))
}

fn start_brain(
    cluster: &Cluster,
    me: Sid,
    peer_port: TcpListener,
    (txn_store, snap_store): (FileTxnStore, FileSnapStore),
    on_fault: OnFault,
    stats: &Arc<Stats>,
    log: &Logger,
) -> io::Result<(Running, Links)> {
    let (min_session_timeout_ms, max_session_timeout_ms) = cluster.session_timeouts_ms();
    let now = SystemWall.now();
    let settings = Settings {
        me,
        min_session_timeout_ms,
        max_session_timeout_ms,
        first_session: session_id_base(me, now),
        config: cluster.members_text().map(|text| (text, now)),
        local_sessions: cluster.client.local_sessions,
        rules: cluster.rules(),
    };
    let parts = Parts {
        ensemble: cluster.ensemble(me),
        timing: cluster.timing(),
        read_only: cluster.client.read_only_mode,
        pauses: Pauses {
            min_ms: cluster.peer.notification_min.as_millis() as u64,
            max_ms: cluster.peer.notification_max.as_millis() as u64,
        },
        settings,
        containers: cluster.znode.containers(),
        snap_count: cluster.storage.snap_count,
        snap_size: cluster.storage.snap_size,
        txn_store: Box::new(txn_store),
        snap_store: Box::new(snap_store),
        wall: Arc::new(SystemWall),
        witness: Arc::new(NoWitness),
        on_fault,
        stats: stats.clone(),
        log: log.clone(),
    };
    let placement = Placement { disk: Some(Arbiter::new().handle()), snap: Some(Arbiter::new().handle()) };
    let mut started = None;
    let running = brain::start(parts, &placement, |node| {
        match Links::start_on(peer_port, links_settings(cluster, me), node, log) {
            Ok(links) => {
                started = Some(Ok(links.clone()));
                Arc::new(links)
            }
            Err(error) => {
                started = Some(Err(error));
                Arc::new(NoLinks)
            }
        }
    });
    let links = started.expect("links are made while the brain starts")?;
    Ok((running, links))
}

/// Stands in for links that could not be made, until the server has ended for that reason.
struct NoLinks;

impl PeerLinks for NoLinks {
    fn send(&self, _: &[(Sid, Tenure)], _: &Packet) {}
}

fn links_settings(cluster: &Cluster, me: Sid) -> LinksSettings {
    let members = cluster.servers.values();
    LinksSettings {
        me,
        cluster: cluster.name.clone(),
        members: members
            .map(|s| PeerAddr { sid: s.id, addr: s.peer.to_string(), membership: s.role })
            .collect(),
        listen: cluster.servers[&me].peer.to_string(),
        connect_timeout: cluster.peer.connect_timeout,
    }
}

fn client_settings(cluster: &Cluster, server: &Server) -> ClientSettings {
    let unlimited = |limit: Option<u32>| limit.unwrap_or(0) as usize;
    ClientSettings {
        listen: server.client.to_string(),
        max_connections_per_ip: unlimited(cluster.client.max_connections_per_ip),
        max_connections: unlimited(cluster.client.max_connections),
        max_frame: cluster.limits.max_frame,
        max_outstanding: outstanding_here(cluster),
        large_requests: cluster.limits.large_requests,
        request_throttle: cluster.limits.request_throttle.clone(),
        connection_throttle: cluster.limits.connection_throttle.clone(),
        four_letter_words: cluster.admin.four_letter_words.iter().cloned().collect(),
        auth: auth_settings(cluster),
        standalone: cluster.servers.len() == 1,
        local_sessions: cluster.client.local_sessions != LocalSessions::Off,
        conf: conf(cluster, server),
    }
}

/// Requests that may be under way at one server. The limit is for the ensemble, since all its writes meet at the
/// leader; as in Apache, the servers beside the leader share it.
fn outstanding_here(cluster: &Cluster) -> usize {
    let of_all = cluster.limits.max_outstanding as usize;
    let voters = cluster.servers.values().filter(|server| server.role == Membership::Participant).count();
    if voters > 2 { (of_all / (voters - 1)).max(1) } else { of_all }
}

/// What the word `conf` tells.
fn conf(cluster: &Cluster, server: &Server) -> Conf {
    let (min_session_timeout_ms, max_session_timeout_ms) = cluster.session_timeouts_ms();
    let files = |dir: &Path| {
        let dir = dir.join("version-2");
        std::path::absolute(&dir).unwrap_or(dir)
    };
    let quorum = QuorumConf {
        init_limit: cluster.timing.init_limit,
        sync_limit: cluster.timing.sync_limit,
        peer_port: server.peer.port,
        peer_type: u8::from(server.role == Membership::Observer),
        membership: cluster.members_text().unwrap_or_default(),
    };
    Conf {
        client_port: server.client.port,
        data_dir: files(&server.data_dir),
        data_log_dir: files(server.txn_log_dir.as_ref().unwrap_or(&server.data_dir)),
        tick_ms: cluster.timing().tick_ms,
        min_session_timeout_ms,
        max_session_timeout_ms,
        server_id: server.id.0,
        quorum: (cluster.servers.len() > 1).then_some(quorum),
    }
}

fn auth_settings(cluster: &Cluster) -> AuthSettings {
    let acl = &cluster.acl;
    AuthSettings {
        digest: acl.digest,
        super_digest: acl.super_digest.clone(),
        ensemble_names: acl.ensemble_names.clone(),
        enforced: acl.enforce.clone(),
    }
}

/// Threads for client connections; none means the core thread.
fn io_threads() -> Vec<ArbiterHandle> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if cores < CORES_FOR_IO { 0 } else { (cores / 4).min(MAX_IO_THREADS) };
    (0..threads).map(|_| Arbiter::new().handle()).collect()
}

struct SystemWall;

impl WallClock for SystemWall {
    fn now(&self) -> WallMillis {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        WallMillis::try_from(since.as_millis()).expect("this side of the year 292 million")
    }
}
