//! Sockets: everything that goes in or out of a server by TCP, but for the operators' HTTP.
//!
//! | file | what it does |
//! |---|---|
//! | `listener` | accepts clients, bounds their number, says stop |
//! | `connection`, `intake` | one client: bytes into requests |
//! | `delivery` | the same client, the other way: replies and events into bytes |
//! | `talk` | what both halves know: requests without an answer, back-pressure, latency |
//! | `room`, `in_flight` | how much a client, and all of them, may have asked for at a time |
//! | `request_throttle`, `connection_throttle` | limits on requests and handshakes, if they are set |
//! | `auth` | what an auth packet is worth |
//! | `registry`, `figures`, `tags` | who is connected and does what, for limits and for operators |
//! | `words` | what `nc` is told: the four-letter words |
//! | `links` | the connections to the other servers: who dials, who accepts |
//! | `hello` | the first words on such a connection |
//! | `link` | such a connection after them |
//! | `frame` | what travels on it |
//! | `outbox` | the bounded queue between an actor and a task that writes |
//! | `stop`, `complaints` | how tasks are told to end; warnings that do not repeat themselves |
//!
//! Everything here is plain tokio tasks on threads that have a `LocalSet` (actix Arbiters). They know the
//! brain by its recipients only, and decide nothing that a client or a peer could tell from the order of
//! their messages: bytes become messages and messages become bytes, in order, within bounds.

mod auth;
mod complaints;
mod connection;
mod connection_throttle;
mod delivery;
mod figures;
mod frame;
mod hello;
mod in_flight;
mod intake;
mod link;
mod links;
mod listener;
mod outbox;
mod registry;
mod request_throttle;
mod room;
mod stop;
mod tags;
mod talk;
mod words;

use std::io;

pub use auth::AuthSettings;
pub use connection_throttle::{ConnectionThrottle, Weights};
pub use in_flight::LargeRequests;
pub use links::{Links, LinksSettings, PeerAddr};
pub use listener::{ClientSettings, Listener};
pub use request_throttle::RequestThrottle;
pub use words::{Conf, QuorumConf};

/// A listening socket; the error says for whom, where, and what to do.
fn bind(whom: &str, address: &str) -> io::Result<std::net::TcpListener> {
    let bound = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|e| {
        let remedy = "is another server running there, and is the address one of this machine's?";
        io::Error::new(e.kind(), format!("cannot listen for {whom} on {address}: {e}; {remedy}"))
    })
}
