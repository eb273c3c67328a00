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
//! # Watches
//!
//! A read that asks for a watch sets one that fires once. There are two ways to hear of it:
//! - [`Client::events`] is a subscription to everything that happens to the client: all its watches and the connection;
//! - [`Client::get_data_and_watch`] and its like give back a [`Watch`], a future of that one event. It is the plain way
//!   to wait for something, and what a recipe (a lock, an election) is made of.
//!
//! ```no_run
//! # async fn example(client: zabra::client::Client) -> Result<(), zabra::client::Error> {
//! // Waits until nobody holds the lock.
//! while let (Some(_held), changed) = client.exists_and_watch("/lock").await? {
//!     changed.await?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Client::add_watch`] sets one that stays. It tells of every change, and only loses what happens between two
//! connections: after [`State::Connected`] look for yourself.
//!
//! Deliberately absent: TLS and SASL.

mod chroot;
mod connection;
mod driver;
mod error;
mod ops;
mod options;
mod path;
#[cfg(test)]
mod tests;
mod watches;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::timeout;

use chroot::Chroot;
use driver::Status;
use watches::{Caller, Watches};

pub use error::Error;
pub use ops::{CreateMode, Reconfig, WatchMode, check_op, create_op, delete_op, set_data_op};
pub use options::{Options, Password};
pub use path::validate as validate_path;
pub use watches::RemovedWatch;
pub use zabra_actors::types::{
    Acl, CreateKind, EventKind, Id, MultiResult, Op, Reply, ReplyBody, SessionId, Stat, Str, WatchEvent,
    WatcherType, ZkError, Zxid, perms,
};

/// Requests that may wait for the task before [`Client::submit`] waits too.
const QUEUE: usize = 1024;

/// Events that a slow subscriber may be behind before it is told that it missed some.
const EVENTS: usize = 4096;

/// The longest request, in bytes: Apache's default `jute.maxbuffer`. A longer one would cost the connection.
pub const MAX_REQUEST: usize = 0xf_ffff;

/// The session as the server has granted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id; the same over reconnects.
    pub id: SessionId,
    /// What proves that it is ours: see [`Options::resuming`].
    pub password: Password,
    /// The time-out that this server grants.
    pub timeout: Duration,
    /// The server, as in the list.
    pub server: String,
    /// The server is cut off from the others: it serves reads only, and perhaps old data.
    pub read_only: bool,
}

/// How a client is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Trying one server after another, for the first time or again, and why the last attempt or connection ended.
    Connecting(String),
    /// In session.
    Connected(Session),
    /// A server has refused an identity ([`Client::add_auth`]). Final: to go on without it could show others what it
    /// was to protect.
    AuthFailed,
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
    /// The client has removed watches of this kind: they will not fire any more.
    WatchRemoved {
        /// Of which znode.
        path: Str,
        /// Of which kind.
        watch: RemovedWatch,
    },
    /// The connection came or went.
    State(State),
}

/// Work for the task.
enum Command {
    Request { op: Op, caller: Option<Caller>, reply: ReplyTo },
    Auth { scheme: String, data: Bytes, reply: ReplyTo },
}

/// Where a reply goes.
type ReplyTo = oneshot::Sender<Result<Reply, Error>>;

/// A handle on a session. Clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    events: broadcast::Sender<Event>,
    status: watch::Receiver<Status>,
    watches: Arc<Mutex<Watches>>,
    chroot: Chroot,
}

impl Client {
    /// Opens a session with the first server that grants one. Needs a tokio runtime, to which its task is spawned.
    pub async fn connect(options: Options) -> Result<Client, Error> {
        let limit = options.connect_timeout;
        let client = Client::start(options);
        match timeout(limit, client.connected()).await {
            Ok(connected) => connected.map(|_| client),
            Err(_) => Err(Error::NoServer { limit, last: client.state().to_string() }),
        }
    }

    /// Begins to look for a server that grants a session, and does not wait for it. Requests wait meanwhile.
    pub fn start(options: Options) -> Client {
        let (commands, queue) = mpsc::channel(QUEUE);
        let (events, _) = broadcast::channel(EVENTS);
        let state = State::Connecting("not tried yet".into());
        let (set_status, status) = watch::channel(Status { state, failed_rounds: 0 });
        let watches = Arc::new(Mutex::new(Watches::default()));
        let chroot = options.chroot.clone();
        let observers = driver::Observers { events: events.clone(), status: set_status };
        tokio::spawn(driver::run(options, queue, watches.clone(), observers));
        Client { commands, events, status, watches, chroot }
    }

    /// Waits until there is a connection (again).
    pub async fn connected(&self) -> Result<Session, Error> {
        self.settled(|_| false).await
    }

    /// Waits until there is a connection, or all servers have been tried in vain.
    pub async fn reachable(&self) -> Result<Session, Error> {
        let begun = self.status.borrow().failed_rounds;
        self.settled(|status| status.failed_rounds > begun).await
    }

    async fn settled(&self, give_up: impl Fn(&Status) -> bool) -> Result<Session, Error> {
        let mut status = self.status.clone();
        let settled = status.wait_for(|now| !matches!(now.state, State::Connecting(_)) || give_up(now)).await;
        match settled.map(|status| status.state.clone()) {
            Ok(State::Connected(session)) => Ok(session),
            Ok(State::Connecting(last)) => Err(Error::Unreachable(last)),
            Ok(_) | Err(_) => Err(why_ended(&self.status)),
        }
    }

    /// How things are now.
    pub fn state(&self) -> State {
        self.status.borrow().state.clone()
    }

    /// Events from now on. Bounded: a subscriber that falls too far behind is told `Lagged` and must look for itself.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Queues a request and gives back the future of its reply; waits only when the queue is full. Requests take
    /// effect in the order of this call.
    pub async fn submit(&self, op: Op) -> Result<Response, Error> {
        self.submit_for(op, None).await
    }

    /// Submits a request and waits for its reply.
    pub async fn request(&self, op: Op) -> Result<ReplyBody, Error> {
        Ok(self.submit(op).await?.await?.result?)
    }

    /// Submits a read that sets a watch; gives its reply and the watch.
    async fn request_and_watch(&self, op: Op) -> Result<(Result<ReplyBody, ZkError>, Watch), Error> {
        let (caller, fired) = oneshot::channel();
        let reply = self.submit_for(op, Some(caller)).await?.await?;
        Ok((reply.result, Watch { fired, status: self.status.clone() }))
    }

    async fn submit_for(&self, op: Op, caller: Option<Caller>) -> Result<Response, Error> {
        ops::check_paths(&op)?;
        let op = self.chroot.enter(op);
        let response = self.command(|reply| Command::Request { op, caller, reply }).await?;
        Ok(Response { chroot: self.chroot.clone(), ..response })
    }

    /// As [`Client::request`], of a path that is not below the client's root.
    async fn request_outside(&self, op: Op) -> Result<ReplyBody, Error> {
        Ok(self.command(|reply| Command::Request { op, caller: None, reply }).await?.await?.result?)
    }

    /// Adds an identity to the session's connections, this one and later ones: `digest` with `user:password`. A
    /// server that refuses it ends everything: see [`State::AuthFailed`].
    pub async fn add_auth(&self, scheme: &str, data: impl Into<Bytes>) -> Result<(), Error> {
        let (scheme, data) = (scheme.to_string(), data.into());
        self.command(|reply| Command::Auth { scheme, data, reply }).await?.await?.result?;
        Ok(())
    }

    /// Forgets watches without asking a server, for a client that has no connection: they are not set again on the
    /// next one. True if there were any.
    pub fn forget_watches(&self, path: &str, kind: WatcherType) -> bool {
        let outside = self.chroot.path(&path.into());
        let removed = self.watches.lock().unwrap_or_else(PoisonError::into_inner).remove(&outside, kind);
        for watch in &removed {
            // Nobody may be listening; that is no error.
            let _ = self.events.send(Event::WatchRemoved { path: path.into(), watch: *watch });
        }
        !removed.is_empty()
    }

    /// Ends the session: its ephemerals go, and all handles are of no more use.
    pub async fn close(&self) -> Result<(), Error> {
        self.request(Op::CloseSession).await.map(|_| ())
    }

    async fn command(&self, command: impl FnOnce(ReplyTo) -> Command) -> Result<Response, Error> {
        let (reply, response) = oneshot::channel();
        match self.commands.send(command(reply)).await {
            Ok(()) => {
                Ok(Response { reply: response, status: self.status.clone(), chroot: Chroot::default() })
            }
            Err(_) => Err(why_ended(&self.status)),
        }
    }
}

/// The task is gone: because the session expired, or was closed, or an identity was refused.
fn why_ended(status: &watch::Receiver<Status>) -> Error {
    match status.borrow().state {
        State::Expired => Error::SessionExpired,
        State::AuthFailed => Error::AuthFailed,
        _ => Error::Closed,
    }
}

/// The future of a reply. Dropping it does not take the request back.
#[derive(Debug)]
pub struct Response {
    reply: oneshot::Receiver<Result<Reply, Error>>,
    status: watch::Receiver<Status>,
    chroot: Chroot,
}

impl Future for Response {
    type Output = Result<Reply, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let reply = ready!(Pin::new(&mut self.reply).poll(cx));
        let reply = reply.unwrap_or_else(|_| Err(why_ended(&self.status)));
        Poll::Ready(reply.map(|Reply { xid, zxid, result }| {
            let result = result.map(|body| self.chroot.leave(body));
            Reply { xid, zxid, result }
        }))
    }
}

/// The future of the event of one watch; after it, read again and watch again. It outlives connections: what changes
/// between two of them counts. It fails when the event cannot come any more: because the session is over, or the
/// watch was removed ([`Error::Closed`]). Dropping it does not remove the watch.
#[derive(Debug)]
pub struct Watch {
    fired: oneshot::Receiver<WatchEvent>,
    status: watch::Receiver<Status>,
}

impl Future for Watch {
    type Output = Result<WatchEvent, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let fired = ready!(Pin::new(&mut self.fired).poll(cx));
        Poll::Ready(fired.map_err(|_| why_ended(&self.status)))
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            State::Connecting(reason) => write!(f, "connecting ({reason})"),
            State::Connected(session) => write!(f, "connected to {}, session {}", session.server, session.id),
            State::AuthFailed => f.write_str("an identity was refused"),
            State::Expired => f.write_str("session expired"),
            State::Closed => f.write_str("closed"),
        }
    }
}
