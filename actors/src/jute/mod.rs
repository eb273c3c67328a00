//! Jute, ZooKeeper's serialization: big-endian, no tags, -1 for null. Pure: bytes in, values out.
//!
//! | file | what it codes |
//! |---|---|
//! | `primitives` | numbers, strings, buffers, vectors, frames: everything else is made of these |
//! | `records` | `ACL` and `Stat`, the records that several messages share |
//! | `opcode` | the numbers of the operations, and which [`Op`](crate::types::Op) has which |
//! | `connect` | the handshake, both directions |
//! | `request` | what clients ask: a frame into an operation, and back for our own client |
//! | `forward` | a client's write on its way from a learner to the leader |
//! | `reply` | what clients are told: replies, events, results of a multi |
//! | `txn` | transactions, as in log records and proposals |
//!
//! Invariants:
//! - whatever the bytes are, decoding ends with a value or [`Malformed`]: it never panics, and allocates no
//!   more than a small multiple of the bytes that are really there (a count is checked against what is left);
//! - decoding what was encoded gives the same value; the other way round only for what Apache writes today,
//!   since older forms are read but not written.
//!
//! Deliberately absent: limits on frames (the connection's), rules on paths, flags and versions (the
//! operation's), and what an auth packet means (the connection decides that, see [`Decoded`]).

mod connect;
mod forward;
pub mod opcode;
mod primitives;
mod records;
mod reply;
mod request;
#[cfg(test)]
mod tests;
mod txn;

pub use connect::{
    decode_connect_request, decode_connect_response, encode_connect_request, encode_connect_response,
};
pub use forward::{decode_body, encode_body};
pub use primitives::{Reader, Writer, take_frame};
pub use reply::{
    EVENT_XID, ReplyFrame, Shape, decode_event, decode_reply, encode_deliver, encode_event, encode_reply,
};
pub use request::{
    AUTH_XID, Decoded, PING_XID, SET_WATCHES_XID, decode_request, encode_auth, encode_request,
};
pub use txn::{decode_txn, encode_txn};

/// Bytes that do not make sense, with what was being read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}
