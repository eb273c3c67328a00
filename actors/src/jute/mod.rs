//! Jute, ZooKeeper's serialization: big-endian, no tags, -1 for null. Pure: bytes in, values out.

use bytes::Bytes;

use crate::types::Txn;

/// Bytes that do not make sense, with what was being read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

/// A transaction as a log record's entry and as the data of a PROPOSAL: header, body, digest if any.
pub fn encode_txn(_txn: &Txn) -> Bytes {
    todo!()
}

/// The inverse of [`encode_txn`].
pub fn decode_txn(_bytes: &Bytes) -> Result<Txn, Malformed> {
    todo!()
}
