//! The session over its connections: try servers in turn, shake hands, go on; until it expires or is closed.

use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{sleep, timeout};

use zabra_actors::jute;
use zabra_actors::types::{ConnectRequest, ConnectResponse, SessionId, Str, Zxid};

use super::chroot::Chroot;
use super::connection::{self, Connection, End};
use super::options::PASSWORD_SIZE;
use super::watches::{RemovedWatch, Watches};
use super::{Command, Event, Options, Password, Session, State};

/// How long a server may take to accept and to answer the handshake, at most; a third of the session's time-out if
/// that is shorter, so that another server can be tried in time.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(5);

/// The pause after all servers had their turn: servers that elect a leader need a moment, not a storm.
const ROUND_PAUSE: Duration = Duration::from_millis(300);

/// The pause before a client of a read-only server looks for a better one, and how long it grows: as Apache's client.
const SEARCH_PAUSE: Duration = Duration::from_millis(100);
const MAX_SEARCH_PAUSE: Duration = Duration::from_secs(60);

/// Bytes of an answer to `isro` that are read; the answers have two.
const MAX_ISRO: u64 = 16;

/// The longest handshake answer accepted, in bytes; real ones have 36 or 37.
const MAX_HANDSHAKE: usize = 1024;

/// Who is told what happens.
pub(super) struct Observers {
    pub(super) events: broadcast::Sender<Event>,
    pub(super) status: watch::Sender<Status>,
}

impl Observers {
    pub(super) fn event(&self, event: Event) {
        // Nobody may be listening; that is no error.
        let _ = self.events.send(event);
    }

    /// These watches on a path will not fire any more, because the client has removed them.
    pub(super) fn removed(&self, path: &Str, watches: Vec<RemovedWatch>) {
        for watch in watches {
            self.event(Event::WatchRemoved { path: path.clone(), watch });
        }
    }

    /// Subscribers hear of a lost connection once, not of every attempt to get a new one.
    fn state(&self, state: State, failed_rounds: u64) {
        let previous = self.status.send_replace(Status { state: state.clone(), failed_rounds });
        if !matches!((&previous.state, &state), (State::Connecting(_), State::Connecting(_))) {
            self.event(Event::State(state));
        }
    }
}

/// How things are, for whoever waits for a connection.
#[derive(Clone, Debug)]
pub(super) struct Status {
    pub(super) state: State,
    /// How often all servers were tried in vain since the client began.
    pub(super) failed_rounds: u64,
}

/// What outlives a connection.
pub(super) struct Memory {
    /// 0 before the first handshake.
    pub(super) session: SessionId,
    password: Password,
    /// The servers have granted this session together, not one alone that was cut off from the others.
    shared: bool,
    /// The newest zxid of a reply: a server behind it refuses us, so that time never runs backwards.
    pub(super) last_zxid: Zxid,
    pub(super) chroot: Chroot,
    watches: Arc<Mutex<Watches>>,
    /// Identities that a server has accepted; connections begin without them.
    pub(super) auths: Vec<(String, Bytes)>,
}

impl Memory {
    fn new(options: &Options, watches: Arc<Mutex<Watches>>) -> Memory {
        let (session, password) =
            options.resumed.clone().unwrap_or((SessionId::NONE, Password([0; PASSWORD_SIZE])));
        Memory {
            shared: session != SessionId::NONE,
            session,
            password,
            last_zxid: Zxid::ZERO,
            chroot: options.chroot.clone(),
            watches,
            auths: Vec::new(),
        }
    }

    /// The watches, which handles may look at too.
    pub(super) fn watches(&self) -> MutexGuard<'_, Watches> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task behind a client.
pub(super) async fn run(
    options: Options,
    mut queue: mpsc::Receiver<Command>,
    watches: Arc<Mutex<Watches>>,
    observers: Observers,
) {
    let mut memory = Memory::new(&options, watches);
    // The place in the list of the server to try next, attempts in vain since the last connection, and rounds of them.
    let (mut next, mut failures, mut rounds) = (0, 0, 0);
    let last = loop {
        if queue.is_closed() {
            // All handles are gone and there is no connection to say so: the server will find out by itself.
            break State::Closed;
        }
        let server = &options.servers[next];
        next = (next + 1) % options.servers.len();
        let reason = match attach(server, &options, &mut memory).await {
            Err(Refusal::Expired) => break State::Expired,
            Err(Refusal::Other(reason)) => {
                failures += 1;
                format!("{server}: {reason}")
            }
            Ok((stream, session)) => {
                failures = 0;
                let (timeout, read_only) = (session.timeout, session.read_only);
                observers.state(State::Connected(session), rounds);
                let connection = Connection::new(&mut memory, &observers, timeout);
                match connection.serve(stream, &mut queue, better_than(read_only, &options.servers)).await {
                    End::Closed => break State::Closed,
                    End::AuthFailed => break State::AuthFailed,
                    End::Better(better) => {
                        next = options.servers.iter().position(|server| *server == better).unwrap_or(next);
                        observers.state(State::Connecting(format!("leaving for {better}")), rounds);
                        continue;
                    }
                    End::Lost(reason) => format!("{server}: {reason}"),
                }
            }
        };
        rounds += u64::from(failures > 0 && failures % options.servers.len() == 0);
        observers.state(State::Connecting(reason), rounds);
        if next == 0 {
            sleep(ROUND_PAUSE).await;
        }
    };
    // The state first: whoever then finds the queue closed can read why.
    observers.state(last, rounds);
    queue.close();
    while queue.recv().await.is_some() {}
    // Nobody will hear of a watch any more.
    *memory.watches() = Watches::default();
}

/// Why a server did not take us.
enum Refusal {
    /// It says that there is no such session: final.
    Expired,
    /// Anything else: another server may.
    Other(String),
}

/// Connects and shakes hands: a new session, or the old one again.
async fn attach(
    server: &str,
    options: &Options,
    memory: &mut Memory,
) -> Result<(TcpStream, Session), Refusal> {
    if !memory.shared {
        // A server that was cut off has made up the session by itself: no other knows it.
        memory.session = SessionId::NONE;
    }
    let limit = ATTEMPT_LIMIT.min(options.session_timeout / 3);
    match timeout(limit, handshake(server, options, memory)).await {
        Err(_) => Err(Refusal::Other(format!("no answer within {limit:?}"))),
        Ok(Err(error)) => Err(Refusal::Other(error.to_string())),
        Ok(Ok((_, response))) if response.timeout_ms <= 0 && memory.session != SessionId::NONE => {
            Err(Refusal::Expired)
        }
        Ok(Ok((_, response))) if response.timeout_ms <= 0 => Err(Refusal::Other("refused a session".into())),
        Ok(Ok((stream, response))) => {
            memory.session = response.session;
            memory.password = Password(response.password);
            let read_only = response.read_only == Some(true);
            memory.shared |= !read_only;
            let session = Session {
                id: response.session,
                password: memory.password.clone(),
                timeout: Duration::from_millis(response.timeout_ms.unsigned_abs().into()),
                server: server.to_string(),
                read_only,
            };
            Ok((stream, session))
        }
    }
}

async fn handshake(
    server: &str,
    options: &Options,
    memory: &Memory,
) -> std::io::Result<(TcpStream, ConnectResponse)> {
    let mut stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: memory.last_zxid,
        timeout_ms: options.session_timeout.as_millis().try_into().unwrap_or(i32::MAX),
        session: memory.session,
        password: Bytes::copy_from_slice(&memory.password.0),
        read_only: Some(options.read_only),
    };
    let mut bytes = BytesMut::new();
    jute::encode_connect_request(&request, &mut bytes);
    stream.write_all(&bytes).await?;
    bytes.clear();
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(connection::lost(
                "closed during the handshake (not serving, or behind what we have seen)",
            ));
        }
        if let Some(frame) = jute::take_frame(&mut bytes, MAX_HANDSHAKE).map_err(connection::lost)? {
            // Nothing was asked yet, so nothing can follow.
            return Ok((stream, jute::decode_connect_response(frame).map_err(connection::lost)?));
        }
    }
}

/// Finds a server that serves writes, for a client whose own does not; never returns to one whose own does.
async fn better_than(read_only: bool, servers: &[String]) -> String {
    if !read_only {
        return pending().await;
    }
    let mut pause = SEARCH_PAUSE;
    loop {
        sleep(pause).await;
        for server in servers {
            if timeout(ATTEMPT_LIMIT, serves_writes(server)).await.is_ok_and(|answer| answer.unwrap_or(false))
            {
                return server.clone();
            }
        }
        pause = (pause * 2).min(MAX_SEARCH_PAUSE);
    }
}

/// Asks a server with the four-letter word for it.
async fn serves_writes(server: &str) -> io::Result<bool> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(b"isro").await?;
    let mut answer = Vec::new();
    stream.take(MAX_ISRO).read_to_end(&mut answer).await?;
    Ok(answer == b"rw")
}
