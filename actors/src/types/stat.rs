//! What a client sees of a znode besides its data.

/// A znode's Stat as clients see it: 68 bytes on the wire, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// zxid that created it.
    pub czxid: i64,
    /// zxid that last set its data.
    pub mzxid: i64,
    /// Wall clock milliseconds of the creation.
    pub ctime: i64,
    /// Wall clock milliseconds of the last change of data.
    pub mtime: i64,
    /// Changes of data.
    pub version: i32,
    /// Creates plus deletes of children: `2 * creates - children`, so -1 on a fresh root.
    pub cversion: i32,
    /// Changes of the ACL.
    pub aversion: i32,
    /// The session of an ephemeral; 0 for all others, containers and TTL nodes included.
    pub ephemeral_owner: i64,
    /// Bytes of data; 0 when null.
    pub data_length: i32,
    /// Children now.
    pub num_children: i32,
    /// zxid of the last create or delete of a child.
    pub pzxid: i64,
}
