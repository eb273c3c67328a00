//! What can go wrong for a client.

use std::fmt;
use std::time::Duration;

use zabra_actors::types::ZkError;

/// Why a request has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The server's answer: NoNode, BadVersion ...
    Zk(ZkError),
    /// A multi failed: nothing of it took effect, because of the member at this place.
    Multi {
        /// The place, from 0.
        member: usize,
        /// What was wrong with it.
        error: ZkError,
    },
    /// The connection was lost after the request was sent. It may or may not have taken effect.
    ConnectionLoss(String),
    /// All servers were tried in vain: [`Client::reachable`](super::Client::reachable).
    Unreachable(String),
    /// The session is no more, and its ephemerals neither.
    SessionExpired,
    /// A server has refused an identity, now or earlier.
    AuthFailed,
    /// The path is none: what is wrong with it. Nothing was sent.
    BadPath(String),
    /// The client was closed.
    Closed,
    /// The request is longer than servers accept.
    TooLarge {
        /// Bytes of the request.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// No server granted a session in time.
    NoServer {
        /// How long was tried.
        limit: Duration,
        /// How the last attempt ended.
        last: String,
    },
    /// The list of servers does not make sense.
    BadServers(String),
    /// The server answered something that does not fit the request.
    Unexpected(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Zk(error) => error.fmt(f),
            Error::Multi { member, error } => {
                write!(f, "member {member} of the multi failed, nothing was changed: {error}")
            }
            Error::ConnectionLoss(reason) => {
                write!(f, "connection lost ({reason}); the request may or may not have taken effect")
            }
            Error::Unreachable(last) => write!(f, "no server can be reached; last: {last}"),
            Error::AuthFailed => f.write_str("an identity was refused, which ends the session"),
            Error::BadPath(flaw) => f.write_str(flaw),
            Error::SessionExpired => f.write_str("the session has expired; open a new one"),
            Error::Closed => f.write_str("the client is closed"),
            Error::TooLarge { size, limit } => {
                write!(f, "a request of {size} bytes is above the limit of {limit} bytes (jute.maxbuffer)")
            }
            Error::NoServer { limit, last } => write!(f, "no session within {limit:?}; last: {last}"),
            Error::BadServers(what) => write!(f, "list of servers: {what}"),
            Error::Unexpected(what) => write!(f, "unexpected answer: {what}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<ZkError> for Error {
    fn from(error: ZkError) -> Error {
        Error::Zk(error)
    }
}
