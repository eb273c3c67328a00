//! Who watches what, and the one line by which everything leaves for the clients.

use std::sync::Arc;

use crate::types::{Acl, Auth, ConnId, ConnectResponse, Reply, Str, WatchEvent, Zxid};

/// The two watch tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WatchTable {
    /// getData and exists.
    Data,
    /// getChildren.
    Child,
}

/// What a transaction did to a znode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Created,
    /// It is gone.
    Deleted,
    /// It has other data.
    DataChanged,
}

/// A change of the tree that watchers may want to hear of.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// To which znode.
    pub path: Str,
    /// By which transaction.
    pub zxid: Zxid,
    /// The ACL of the znode: who may not read it is not told.
    pub acl: Arc<[Acl]>,
    /// For a create or delete: the parent and its ACL.
    pub parent: Option<(Str, Arc<[Acl]>)>,
}

/// What the replica has decided, in the order in which clients must see it.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The tree has changed.
    Changed(Change),
    /// An answer, and the watch that the request left.
    Reply { conn: ConnId, reply: Reply, watch: Option<(WatchTable, Str)> },
    /// setWatches: these watches are set again, and these events happened in the meantime. The reply
    /// follows as an outcome of its own.
    Rewatch { conn: ConnId, events: Vec<WatchEvent>, watches: Vec<(WatchTable, Str)> },
    /// The handshake is done or refused.
    Connected { conn: ConnId, response: ConnectResponse },
    /// The connection has these identities from now on.
    Identified { conn: ConnId, auth: Auth },
    /// Close the connection behind everything said so far. Its watches are gone.
    Close { conn: ConnId },
    /// The connection is closed already: forget it.
    Gone { conn: ConnId },
}
