//! The clients' port: accepts, counts, refuses, and hands each socket to a thread.
//!
//! The port is bound as soon as the process runs. While the server does not serve (it elects, or
//! synchronizes) connections are accepted and four-letter words answered, but whoever sends anything
//! else is closed, so that clients go on to another server.
//!
//! Deliberately absent: TLS, throttling of new connections.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicI64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use actix_rt::ArbiterHandle;
use slog::{Logger, o};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};
use zabra_actors::handle::Brain;
use zabra_actors::stats::Stats;
use zabra_actors::types::{ConnectRequest, SessionId};

use super::auth::AuthSettings;
use super::complaints::Complaints;
use super::connection_throttle::{Bucket, ConnectionThrottle, Wanted};
use super::in_flight::{InFlight, LargeRequests};
use super::registry::{Admitted, Excess, Registry};
use super::request_throttle::{Door, RequestThrottle};
use super::stop::{Stop, Stopper, stop};
use super::words::{Conf, TRACE_MASK};
use super::{bind, connection};

/// Connections that may wait to be accepted. When a server comes back all its clients come at once, and who finds no
/// place here tries again only after a second, then three (the system may allow fewer: net.core.somaxconn).
const BACKLOG: i32 = 4096;

/// The pause after a failed accept: out of files, most likely, and others must close some first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the clients' port needs to know.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Where to listen, `host:port`.
    pub listen: String,
    /// Connections from one address; 0 is unlimited.
    pub max_connections_per_ip: usize,
    /// Connections in all; 0 is unlimited.
    pub max_connections: usize,
    /// The longest frame a client may send, in bytes without its length.
    pub max_frame: usize,
    /// Requests of all clients together that may wait for their answers before sockets are left unread.
    pub max_outstanding: usize,
    /// Limits on large requests, if any.
    pub large_requests: Option<LargeRequests>,
    /// Limits on requests, if any.
    pub request_throttle: Option<RequestThrottle>,
    /// Limits on new connections, if any.
    pub connection_throttle: Option<ConnectionThrottle>,
    /// Four-letter words that are answered; `*` stands for all.
    pub four_letter_words: Vec<String>,
    /// Which auth packets are worth what.
    pub auth: AuthSettings,
    /// The cluster has one member: operators' tools want to read `standalone`.
    pub standalone: bool,
    /// New sessions are local at first: `dump` tells them apart.
    pub local_sessions: bool,
    /// What `conf` tells.
    pub conf: Conf,
}

/// What all connections share.
pub(super) struct Clients {
    pub(super) settings: ClientSettings,
    pub(super) brain: Brain,
    pub(super) stats: Arc<Stats>,
    pub(super) registry: Arc<Registry>,
    /// Requests of all connections that wait for their answers.
    pub(super) outstanding: AtomicUsize,
    /// The bytes of requests that wait for their answers.
    pub(super) in_flight: InFlight,
    /// Where requests wait if they are throttled.
    pub(super) door: Option<Door>,
    /// Where handshakes take their tokens if connections are throttled.
    bucket: Option<Mutex<Bucket>>,
    /// When this process began, for `zk_uptime` and the steps of idle connections.
    pub(super) started: Instant,
    /// The system's monotonic clock at that moment, in ms.
    started_monotonic_ms: u64,
    /// Set by `stmk`, told by `gtmk`.
    pub(super) trace_mask: AtomicI64,
    /// Whoever asks the brain for a page of a list has this.
    pub(super) turn_to_ask: Semaphore,
    complaints: Mutex<Complaints>,
    pub(super) log: Logger,
}

impl Clients {
    /// Logs trouble that clients make, but not again and again.
    pub(super) fn complain(&self, words: String) {
        self.complaints().warn(words);
    }

    /// Logs that a client broke the protocol, the first time.
    pub(super) fn complain_of(&self, client: IpAddr, violation: &str) {
        self.complaints().warn_because(format!("closed a connection of {client}"), violation);
    }

    /// A moment by the system's monotonic clock, in ms: what Apache shows as `lresp`.
    pub(super) fn monotonic_ms(&self, at: Instant) -> u64 {
        self.started_monotonic_ms + (at - self.started).as_millis() as u64
    }

    /// May this handshake come in? A token is taken.
    pub(super) fn admits(&self, request: &ConnectRequest) -> bool {
        let Some(bucket) = &self.bucket else { return true };
        let wanted = match request.session {
            SessionId::NONE if self.settings.local_sessions => Wanted::Local,
            SessionId::NONE => Wanted::Global,
            _ => Wanted::Renew,
        };
        let mut bucket = bucket.lock().expect("no holder of this lock panics");
        let admitted = bucket.admit(wanted, self.started.elapsed(), dice());
        if admitted {
            self.stats.connection_token_deficit.observe(bucket.deficit());
        }
        admitted
    }

    /// The chance that a handshake is refused at random.
    pub(super) fn drop_chance(&self) -> f64 {
        let chance = |bucket: &Mutex<Bucket>| bucket.lock().expect("no holder of this lock panics").chance();
        self.bucket.as_ref().map_or(0.0, chance)
    }

    fn complaints(&self) -> MutexGuard<'_, Complaints> {
        self.complaints.lock().expect("no holder of this lock panics")
    }
}

/// The clients' port. Dropping it closes the port and all connections.
pub struct Listener {
    local_addr: SocketAddr,
    stopper: Stopper,
}

impl Listener {
    /// Listens. To be called on a thread with a `LocalSet` (an Arbiter): it accepts there, and connections
    /// run on `arbiters` in turn, or there too if there are none. The error says which address could not
    /// be bound, and why.
    pub fn start(
        settings: ClientSettings,
        brain: Brain,
        stats: Arc<Stats>,
        arbiters: Vec<ArbiterHandle>,
        log: &Logger,
    ) -> io::Result<Listener> {
        let listener = bind("clients", &settings.listen)?;
        Listener::start_on(listener, settings, brain, stats, arbiters, log)
    }

    /// As [`Listener::start`], on a socket that listens already.
    pub fn start_on(
        listener: std::net::TcpListener,
        settings: ClientSettings,
        brain: Brain,
        stats: Arc<Stats>,
        arbiters: Vec<ArbiterHandle>,
        log: &Logger,
    ) -> io::Result<Listener> {
        let local_addr = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        // It listens already; this makes the queue longer.
        rustix::net::listen(&listener, BACKLOG)?;
        let listener = TcpListener::from_std(listener)?;
        let log = log.new(o!("part" => "clients"));
        let (per_ip, total) = (settings.max_connections_per_ip, settings.max_connections);
        let clients = Arc::new(Clients {
            registry: Arc::new(Registry::new(per_ip, total, stats.clone())),
            in_flight: InFlight::new(settings.large_requests),
            door: settings.request_throttle.clone().map(Door::new),
            bucket: settings
                .connection_throttle
                .clone()
                .map(|of| Mutex::new(Bucket::new(of, Duration::ZERO))),
            settings,
            brain,
            stats,
            outstanding: AtomicUsize::new(0),
            started: Instant::now(),
            started_monotonic_ms: monotonic_ms(),
            trace_mask: AtomicI64::new(TRACE_MASK),
            turn_to_ask: Semaphore::new(1),
            complaints: Mutex::new(Complaints::new(log.clone())),
            log,
        });
        let (stopper, stop) = stop();
        spawn_local(accept(clients, listener, arbiters, stop));
        Ok(Listener { local_addr, stopper })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Closes the port, writes out what connections have been told so far, closes them, and returns when
    /// that is done. A client that does not read is not waited for.
    pub async fn close(&self) {
        self.stopper.stop().await;
    }
}

/// At random from 0 (included) to 1 (excluded). Every state that std makes for hash tables is another one.
fn dice() -> f64 {
    let random = RandomState::new().hash_one(0);
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

/// The system's monotonic clock in ms.
fn monotonic_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
}

async fn accept(clients: Arc<Clients>, listener: TcpListener, arbiters: Vec<ArbiterHandle>, mut stop: Stop) {
    let mut turn = arbiters.iter().cycle();
    loop {
        let Some(accepted) = stop.or(listener.accept()).await else { return };
        let (socket, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(e) => {
                clients.complain(format!("cannot accept clients: {e}"));
                if stop.or(sleep(ACCEPT_PAUSE)).await.is_none() {
                    return;
                }
                continue;
            }
        };
        match clients.registry.admit(remote) {
            Ok(admitted) => hand_over(socket, admitted, &clients, turn.next(), &stop),
            // Not a byte for whoever is too many.
            Err(excess) => {
                clients.stats.connection_rejected.inc();
                clients.complain(match excess {
                    Excess::PerIp(max) => {
                        format!("Too many connections from {} - max is {max}", remote.ip())
                    }
                    Excess::Total(max) => format!("Too many connections - max is {max}"),
                });
            }
        }
    }
}

/// Starts a connection's task, on another thread if there is one for it.
fn hand_over(
    socket: TcpStream,
    admitted: Admitted,
    clients: &Arc<Clients>,
    arbiter: Option<&ArbiterHandle>,
    stop: &Stop,
) {
    let (clients, stop) = (clients.clone(), stop.clone());
    let Some(arbiter) = arbiter else {
        spawn_local(connection::serve(socket, admitted, clients, stop));
        return;
    };
    // A socket belongs to one thread's event loop: it changes over as a plain one.
    let Ok(socket) = socket.into_std() else { return };
    arbiter.spawn_fn(move || {
        if let Ok(socket) = TcpStream::from_std(socket) {
            spawn_local(connection::serve(socket, admitted, clients, stop));
        }
    });
}
