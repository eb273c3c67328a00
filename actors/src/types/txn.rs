//! Transactions: what is proposed, logged, committed and applied. One struct, one encoding, in the log
//! file and between peers.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Acl, SessionId, Sid, Str, WallMillis, Zxid};
use crate::jute;

/// Who made a transaction, when, and its place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnHeader {
    /// The session it is made for; 0 when a server made it.
    pub session: SessionId,
    /// The xid of the client's request: with the session it names the request that a member waits for, at the member that
    /// was asked ([`Entry::asked_at`]).
    pub cxid: i32,
    /// Its place in the total order.
    pub zxid: Zxid,
    /// The leader's wall clock.
    pub time: WallMillis,
}

/// What a create makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateKind {
    /// Opcode 1: the reply has the path.
    Create,
    /// Opcode 15: the reply has the path and the Stat.
    Create2,
    /// Opcode 19.
    Container,
    /// Opcode 21, with its time to live in milliseconds.
    Ttl(i64),
}

/// A change. Versions are absolute, never increments, so that replay over a newer tree converges.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the fields are named for what they are
pub enum TxnBody {
    /// Type -10: a session begins, with its negotiated time-out in ms.
    CreateSession { timeout_ms: i32 },
    /// Type -11: a session ends, and these ephemerals with it. `None` in logs from before 3.6.
    CloseSession { paths: Option<Vec<Str>> },
    /// Type -1: a write that failed. It has a zxid, so that its reply has a place in the order.
    Error(i32),
    /// Types 1, 15, 19 and 21. The path is final: a sequence number is already in it.
    Create {
        /// The opcode that asked for it.
        kind: CreateKind,
        /// The final path.
        path: Str,
        /// `None` is null, which is not the same as empty.
        data: Option<Bytes>,
        /// Normalised: never empty.
        acl: Vec<Acl>,
        /// Does it go with the session of the header?
        ephemeral: bool,
        /// The parent's count of creates after this one.
        parent_cversion: i32,
    },
    /// Types 2 and (by the reaper) 20.
    Delete { path: Str, container: bool },
    /// Types 5 and (by a reconfiguration) 16: the new data and its absolute version.
    SetData { path: Str, data: Option<Bytes>, version: i32, reconfig: bool },
    /// Type 7: the new ACL and its absolute version.
    SetAcl { path: Str, acl: Vec<Acl>, version: i32 },
    /// Type 13, only inside a multi: changes nothing.
    Check { path: Str, version: i32 },
    /// Type 14: all or nothing. A failed one holds only [`TxnBody::Error`]s, 0 before the culprit. In Apache's logs
    /// the members before the culprit are as they were: one error anywhere means that nothing is applied.
    Multi(Vec<TxnBody>),
}

/// The digest of the whole tree after a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnDigest {
    /// 2 since 3.6.
    pub version: i32,
    /// The sum over all znodes.
    pub tree: i64,
}

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    /// Who, when and where in the order.
    pub header: TxnHeader,
    /// What.
    pub body: TxnBody,
    /// What the tree must look like afterwards, when the leader said so.
    pub digest: Option<TxnDigest>,
}

/// A transaction and its bytes, made once and shared by the log, the links and the tree.
#[derive(Clone)]
pub struct Entry {
    /// Decoded.
    pub txn: Txn,
    /// Encoded: TxnHeader, body and digest, exactly as in a log record and in a PROPOSAL.
    pub bytes: Bytes,
    /// The server through which it was asked for, by a client or by that server itself; only there somebody may wait for
    /// it. `None` when nobody asked, or when it comes from a log file, which does not say.
    pub asked_at: Option<Sid>,
}

impl Entry {
    /// Encodes a transaction that nobody waits for.
    pub fn new(txn: Txn) -> Arc<Entry> {
        Entry::of(txn, None)
    }

    /// Encodes a transaction that was asked for through this server.
    pub fn asked_at(server: Sid, txn: Txn) -> Arc<Entry> {
        Entry::of(txn, Some(server))
    }

    fn of(txn: Txn, asked_at: Option<Sid>) -> Arc<Entry> {
        let bytes = jute::encode_txn(&txn);
        Arc::new(Entry { txn, bytes, asked_at })
    }

    /// Decodes the bytes of a log record.
    pub fn decode(bytes: Bytes) -> Result<Arc<Entry>, jute::Malformed> {
        let txn = jute::decode_txn(&bytes)?;
        Ok(Arc::new(Entry { txn, bytes, asked_at: None }))
    }

    /// Its place in the order.
    pub fn zxid(&self) -> Zxid {
        self.txn.header.zxid
    }
}

// The bytes say what it does, and where it stands. Who was asked is no part of that: a log file does not know it.
impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Entry {}

impl Hash for Entry {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.zxid())
    }
}

// Between peers an entry is who was asked for it, and its bytes: a byte string, decoded as it arrives.
impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.asked_at, &self.bytes).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entry, D::Error> {
        let (asked_at, bytes) = <(Option<Sid>, Bytes)>::deserialize(deserializer)?;
        let txn = jute::decode_txn(&bytes).map_err(serde::de::Error::custom)?;
        Ok(Entry { txn, bytes, asked_at })
    }
}
