//! An asynchronous ZooKeeper client, for zabra's own tools and for programs in Rust.
//!
//! ```no_run
//! # async fn example() -> Result<(), zabra::client::Error> {
//! use zabra::client::{Client, CreateMode, Options};
//!
//! let client = Client::connect(Options::new("127.0.0.1:2181,127.0.0.1:2182")?).await?;
//! client.create("/greeting", "hello", CreateMode::Persistent).await?;
//! let (data, stat) = client.get_data("/greeting", false).await?;
//! assert_eq!((data.as_deref(), stat.version), (Some(&b"hello"[..]), 0));
//! client.close().await
//! # }
//! ```
//!
//! A [`Client`] is a cheap handle; behind all clones of it one task owns the session (`driver`), and while there is one,
//! the connection (`connection`). Requests go to the task through a bounded queue and are sent in the order of
//! [`Client::submit`], as many at a time as there are, without waiting for replies.
//!
//! What a caller may rely on:
//! - requests of one client take effect in the order submitted; a reply says that all earlier ones were answered;
//! - when a connection is lost, every request that was sent and not answered fails with [`Error::ConnectionLoss`]:
//!   nobody knows whether it took effect. Requests not yet sent wait for the next connection. Nothing is ever sent
//!   twice;
//! - the next server of the list is tried, and the session goes on there with its ephemerals; watches and identities
//!   are set again, and changes missed meanwhile arrive as events;
//! - a session that the servers have expired does not come back: everything fails with [`Error::SessionExpired`], and
//!   the caller starts anew with another client;
//! - when the last handle is dropped the session is closed.
//!
//! Deliberately absent: TLS, SASL, chroot, read-only sessions, and persistent watches.

mod connection;
mod driver;
mod error;
mod ops;
#[cfg(test)]
mod tests;
mod watches;

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::timeout;

pub use error::Error;
pub use ops::{CreateMode, check_op, create_op, delete_op, set_data_op};
pub use zabra_actors::types::{
    Acl, EventKind, Id, MultiResult, Op, Reply, ReplyBody, SessionId, Stat, Str, WatchEvent, ZkError, Zxid,
    perms,
};

/// Requests that may wait for the task before [`Client::submit`] waits too.
const QUEUE: usize = 1024;

/// Events that a slow subscriber may be behind before it is told that it missed some.
const EVENTS: usize = 4096;

/// The longest request, in bytes: Apache's default `jute.maxbuffer`. A longer one would cost the connection.
pub const MAX_REQUEST: usize = 0xf_ffff;

/// How to reach an ensemble, and for how long it shall remember us.
#[derive(Clone, Debug)]
pub struct Options {
    servers: Vec<String>,
    session_timeout: Duration,
    connect_timeout: Duration,
}

impl Options {
    /// `host:port,host:port,...`: tried in this order, from the front again after the last.
    pub fn new(servers: &str) -> Result<Options, Error> {
        let servers: Vec<String> =
            servers.split(',').map(|server| server.trim().to_string()).filter(|s| !s.is_empty()).collect();
        for server in &servers {
            let port = server.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_none() {
                return Err(Error::BadServers(format!("{server:?} is not host:port")));
            }
        }
        if servers.is_empty() {
            return Err(Error::BadServers("the list is empty; give host:port,host:port,...".into()));
        }
        Ok(Options {
            servers,
            session_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
        })
    }

    /// After how long without contact the servers may expire the session; 10 s unless said otherwise. The server has
    /// the last word ([`Session::timeout`]).
    pub fn session_timeout(self, session_timeout: Duration) -> Options {
        Options { session_timeout, ..self }
    }

    /// How long [`Client::connect`] may go on trying, 10 s unless said otherwise. Later reconnects have no limit.
    pub fn connect_timeout(self, connect_timeout: Duration) -> Options {
        Options { connect_timeout, ..self }
    }

    /// Begins with the server at this place of the list, modulo its length: how many clients spread.
    pub fn starting_at(mut self, place: usize) -> Options {
        let first = place % self.servers.len();
        self.servers.rotate_left(first);
        self
    }
}

/// The session as the server has granted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id; the same over reconnects.
    pub id: SessionId,
    /// The time-out that this server grants.
    pub timeout: Duration,
    /// The server, as in the list.
    pub server: String,
}

/// How a client is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Trying one server after another, for the first time or again, and why the last attempt or connection ended.
    Connecting(String),
    /// In session.
    Connected(Session),
    /// The servers have expired the session. Final.
    Expired,
    /// [`Client::close`] was called, or the last handle dropped. Final.
    Closed,
}

/// What subscribers are told, in the order in which it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A watch has fired. It is gone; ask again, with a watch, to see what came of it.
    Watch(WatchEvent),
    /// The connection came or went.
    State(State),
}

/// Work for the task.
enum Command {
    Request { op: Op, reply: ReplyTo },
    Auth { scheme: String, data: Bytes, reply: ReplyTo },
}

/// Where a reply goes.
type ReplyTo = oneshot::Sender<Result<Reply, Error>>;

/// A handle on a session. Clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    events: broadcast::Sender<Event>,
    state: watch::Receiver<State>,
}

impl Client {
    /// Opens a session with the first server that grants one. Needs a tokio runtime, to which its task is spawned.
    pub async fn connect(options: Options) -> Result<Client, Error> {
        let limit = options.connect_timeout;
        let (commands, queue) = mpsc::channel(QUEUE);
        let (events, _) = broadcast::channel(EVENTS);
        let (set_state, state) = watch::channel(State::Connecting("not tried yet".into()));
        tokio::spawn(driver::run(
            options,
            queue,
            driver::Observers { events: events.clone(), state: set_state },
        ));
        let client = Client { commands, events, state };
        match timeout(limit, client.connected()).await {
            Ok(connected) => connected.map(|_| client),
            Err(_) => Err(Error::NoServer { limit, last: client.state().to_string() }),
        }
    }

    /// Waits until there is a connection (again).
    pub async fn connected(&self) -> Result<Session, Error> {
        let mut state = self.state.clone();
        let settled = state.wait_for(|state| !matches!(state, State::Connecting(_))).await;
        match settled.map(|state| state.clone()) {
            Ok(State::Connected(session)) => Ok(session),
            Ok(State::Expired) => Err(Error::SessionExpired),
            Ok(State::Closed | State::Connecting(_)) | Err(_) => Err(Error::Closed),
        }
    }

    /// How things are now.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Events from now on. Bounded: a subscriber that falls too far behind is told `Lagged` and must look for itself.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Queues a request and gives back the future of its reply; waits only when the queue is full. Requests take
    /// effect in the order of this call.
    pub async fn submit(&self, op: Op) -> Result<Response, Error> {
        self.command(|reply| Command::Request { op, reply }).await
    }

    /// Submits a request and waits for its reply.
    pub async fn request(&self, op: Op) -> Result<ReplyBody, Error> {
        Ok(self.submit(op).await?.await?.result?)
    }

    /// Adds an identity to the session's connections, this one and later ones: `digest` with `user:password`.
    pub async fn add_auth(&self, scheme: &str, data: impl Into<Bytes>) -> Result<(), Error> {
        let (scheme, data) = (scheme.to_string(), data.into());
        self.command(|reply| Command::Auth { scheme, data, reply }).await?.await?.result?;
        Ok(())
    }

    /// Ends the session: its ephemerals go, and all handles are of no more use.
    pub async fn close(&self) -> Result<(), Error> {
        self.request(Op::CloseSession).await.map(|_| ())
    }

    async fn command(&self, command: impl FnOnce(ReplyTo) -> Command) -> Result<Response, Error> {
        let (reply, response) = oneshot::channel();
        match self.commands.send(command(reply)).await {
            Ok(()) => Ok(Response { reply: response, state: self.state.clone() }),
            Err(_) => Err(why_ended(&self.state)),
        }
    }
}

/// The task is gone: because the session expired, or was closed.
fn why_ended(state: &watch::Receiver<State>) -> Error {
    match *state.borrow() {
        State::Expired => Error::SessionExpired,
        _ => Error::Closed,
    }
}

/// The future of a reply. Dropping it does not take the request back.
#[derive(Debug)]
pub struct Response {
    reply: oneshot::Receiver<Result<Reply, Error>>,
    state: watch::Receiver<State>,
}

impl Future for Response {
    type Output = Result<Reply, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let reply = ready!(Pin::new(&mut self.reply).poll(cx));
        Poll::Ready(reply.unwrap_or_else(|_| Err(why_ended(&self.state))))
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            State::Connecting(reason) => write!(f, "connecting ({reason})"),
            State::Connected(session) => write!(f, "connected to {}, session {}", session.server, session.id),
            State::Expired => f.write_str("session expired"),
            State::Closed => f.write_str("closed"),
        }
    }
}
