//! The session over its connections: try servers in turn, shake hands, go on; until it expires or is closed.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{sleep, timeout};

use zabra_actors::jute;
use zabra_actors::types::{ConnectRequest, ConnectResponse, SessionId, Zxid};

use super::connection::{self, Connection, End};
use super::watches::Watches;
use super::{Command, Event, Options, Session, State};

/// How long a server may take to accept and to answer the handshake, at most; a third of the session's time-out if
/// that is shorter, so that another server can be tried in time.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(5);

/// The pause after all servers had their turn: servers that elect a leader need a moment, not a storm.
const ROUND_PAUSE: Duration = Duration::from_millis(300);

/// The longest handshake answer accepted, in bytes; real ones have 36 or 37.
const MAX_HANDSHAKE: usize = 1024;

/// Who is told what happens.
pub(super) struct Observers {
    pub(super) events: broadcast::Sender<Event>,
    pub(super) state: watch::Sender<State>,
}

impl Observers {
    pub(super) fn event(&self, event: Event) {
        // Nobody may be listening; that is no error.
        let _ = self.events.send(event);
    }

    /// Subscribers hear of a lost connection once, not of every attempt to get a new one.
    fn state(&self, state: State) {
        let previous = self.state.send_replace(state.clone());
        if !matches!((&previous, &state), (State::Connecting(_), State::Connecting(_))) {
            self.event(Event::State(state));
        }
    }
}

/// What outlives a connection.
pub(super) struct Memory {
    /// 0 before the first handshake.
    pub(super) session: SessionId,
    password: Bytes,
    /// The newest zxid of a reply: a server behind it refuses us, so that time never runs backwards.
    pub(super) last_zxid: Zxid,
    pub(super) watches: Watches,
    /// Identities that a server has accepted; connections begin without them.
    pub(super) auths: Vec<(String, Bytes)>,
}

/// The task behind a client.
pub(super) async fn run(options: Options, mut queue: mpsc::Receiver<Command>, observers: Observers) {
    let mut memory = Memory {
        session: SessionId::NONE,
        password: Bytes::from_static(&[0; 16]),
        last_zxid: Zxid::ZERO,
        watches: Watches::default(),
        auths: Vec::new(),
    };
    let mut attempts = 0;
    let last = loop {
        if queue.is_closed() {
            // All handles are gone and there is no connection to say so: the server will find out by itself.
            break State::Closed;
        }
        let server = &options.servers[attempts % options.servers.len()];
        attempts += 1;
        let reason = match attach(server, &options, &mut memory).await {
            Err(Refusal::Expired) => break State::Expired,
            Err(Refusal::Other(reason)) => format!("{server}: {reason}"),
            Ok((stream, timeout)) => {
                observers.state(State::Connected(Session {
                    id: memory.session,
                    timeout,
                    server: server.clone(),
                }));
                let connection = Connection::new(&mut memory, &observers, timeout);
                match connection.serve(stream, &mut queue).await {
                    End::Closed => break State::Closed,
                    End::Lost(reason) => format!("{server}: {reason}"),
                }
            }
        };
        observers.state(State::Connecting(reason));
        if attempts % options.servers.len() == 0 {
            sleep(ROUND_PAUSE).await;
        }
    };
    // The state first: whoever then finds the queue closed can read why.
    observers.state(last);
    queue.close();
    while queue.recv().await.is_some() {}
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
) -> Result<(TcpStream, Duration), Refusal> {
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
            memory.password = Bytes::copy_from_slice(&response.password);
            Ok((stream, Duration::from_millis(response.timeout_ms.unsigned_abs().into())))
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
        password: memory.password.clone(),
        read_only: Some(false),
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
