//! What clients ask and what they are told.

use bytes::Bytes;

use super::{Acl, Auth, ConnId, CreateKind, Id, SessionId, Sid, Stat, Str, ZkError, Zxid};

/// The first frame of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRequest {
    /// Sent as 0, ignored.
    pub protocol_version: i32,
    /// The newest zxid this client has seen in a reply. A server behind it must refuse the client.
    pub last_zxid_seen: Zxid,
    /// The session time-out it asks for.
    pub timeout_ms: i32,
    /// 0 for a new session.
    pub session: SessionId,
    /// Proof of the session; anything for a new one.
    pub password: Bytes,
    /// The optional last byte. The answer has it if, and only if, the request had.
    pub read_only: Option<bool>,
}

/// The answer to a [`ConnectRequest`]. A refusal has time-out 0, session 0 and 16 zero bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectResponse {
    /// The negotiated time-out; 0 refuses the session.
    pub timeout_ms: i32,
    /// The session.
    pub session: SessionId,
    /// 16 bytes.
    pub password: [u8; 16],
    /// Present if the request had it.
    pub read_only: Option<bool>,
}

/// What a request asks for. Paths are as the client sent them, not yet validated.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the fields are named for what they are
pub enum Op {
    /// Opcodes 1, 15, 19, 21. `acl: None` is a null list.
    Create { kind: CreateKind, path: Str, data: Option<Bytes>, acl: Option<Vec<Acl>>, flags: i32 },
    /// Opcode 2.
    Delete { path: Str, version: i32 },
    /// Opcode 3.
    Exists { path: Str, watch: bool },
    /// Opcode 4.
    GetData { path: Str, watch: bool },
    /// Opcode 5.
    SetData { path: Str, data: Option<Bytes>, version: i32 },
    /// Opcode 6.
    GetAcl { path: Str },
    /// Opcode 7.
    SetAcl { path: Str, acl: Option<Vec<Acl>>, version: i32 },
    /// Opcodes 8 and (with a Stat in the reply) 12.
    GetChildren { path: Str, watch: bool, stat: bool },
    /// Opcode 9. The path is echoed, even null.
    Sync { path: Option<Str> },
    /// Opcode 11.
    Ping,
    /// Opcode 13: only inside a multi. At the top level it is Unimplemented.
    Check { path: Str, version: i32 },
    /// Opcode 14. The members are creates, deletes, setDatas and checks.
    Multi(Vec<Op>),
    /// Opcode 16. Null is a list that is not used, which is not the same as an empty one.
    Reconfig { joining: Option<Str>, leaving: Option<Str>, new_members: Option<Str>, version: i64 },
    /// Opcode 17. A null path has no watch.
    CheckWatches { path: Option<Str>, kind: WatcherType },
    /// Opcode 18.
    RemoveWatches { path: Option<Str>, kind: WatcherType },
    /// Opcode 22. The members are getDatas and getChildren, whose watch flags mean nothing here.
    MultiRead(Vec<Op>),
    /// Opcode 101, after a reconnect.
    SetWatches { relative_zxid: Zxid, data: Vec<Str>, exist: Vec<Str>, child: Vec<Str> },
    /// Opcode 105: the same with the watches that stay.
    SetWatches2 {
        relative_zxid: Zxid,
        data: Vec<Str>,
        exist: Vec<Str>,
        child: Vec<Str>,
        persistent: Vec<Str>,
        recursive: Vec<Str>,
    },
    /// Opcode 103: the session's own, by the beginning of their paths.
    GetEphemerals { prefix: Option<Str> },
    /// Opcode 104.
    GetAllChildrenNumber { path: Str },
    /// Opcode 106: a watch that stays, and a recursive one is for everything below its path, too.
    AddWatch { path: Str, recursive: bool },
    /// Opcode 107.
    WhoAmI,
    /// Opcode 100, already decided by the connection: the ids from here on, or the refusal.
    Auth(Result<Auth, ZkError>),
    /// Opcode 102: a step of SASL, handled where auth packets are.
    Sasl { token: Bytes },
    /// Opcode -10: made by the server that a client connects to, never taken from a client.
    CreateSession { timeout_ms: i32 },
    /// Opcode -11.
    CloseSession,
    /// A known opcode with a body that cannot be read: MarshallingError. Only a multi takes a zxid then.
    Undecodable { opcode: i32 },
    /// A write whose body reads, but has null where no null can be: MarshallingError, under its own zxid.
    Senseless { opcode: i32 },
    /// It has waited at this server for too long: ThrottledOp. Made by the connection, never forwarded.
    Throttled { opcode: i32 },
    /// An opcode that nobody has: Unimplemented, then the connection is closed.
    Unknown { opcode: i32 },
}

impl Op {
    /// Is it ordered by the leader as a transaction?
    pub fn is_write(&self) -> bool {
        match self {
            Op::Create { .. }
            | Op::Delete { .. }
            | Op::SetData { .. }
            | Op::SetAcl { .. }
            | Op::Multi(_)
            | Op::Reconfig { .. }
            | Op::Senseless { .. }
            | Op::CreateSession { .. }
            | Op::CloseSession => true,
            // A malformed multi takes a zxid, other malformed writes do not (as since 3.9; in 3.8 all do).
            Op::Undecodable { opcode } => *opcode == 14,
            _ => false,
        }
    }
}

/// Which watches a checkWatches or removeWatches means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
#[allow(missing_docs)] // the protocol's names
pub enum WatcherType {
    /// getChildren's.
    Children = 1,
    /// getData's and exists'.
    Data = 2,
    /// Every kind.
    Any = 3,
    Persistent = 4,
    PersistentRecursive = 5,
}

impl WatcherType {
    /// The type of a number; `None` for numbers that mean nothing.
    pub fn from_number(number: i32) -> Option<WatcherType> {
        let all = [
            WatcherType::Children,
            WatcherType::Data,
            WatcherType::Any,
            WatcherType::Persistent,
            WatcherType::PersistentRecursive,
        ];
        all.into_iter().find(|kind| *kind as i32 == number)
    }
}

/// A request of a client of this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The connection it came by.
    pub conn: ConnId,
    /// The client's number for it; echoed.
    pub xid: i32,
    /// What it asks for.
    pub op: Op,
    /// Who asks.
    pub auth: Auth,
}

/// A write on its way to the leader: from a learner's client, or from the leader's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// Whose write.
    pub session: SessionId,
    /// Is that a local session of the server it comes from? Nobody else knows it, so that server vouches for it.
    pub local: bool,
    /// The xid of the request.
    pub cxid: i32,
    /// A write (see [`Op::is_write`]).
    pub op: Op,
    /// Who asks, as the learner found it. The leader trusts it.
    pub auth: Auth,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Echoed from the request; -2 for a ping whatever it was.
    pub xid: i32,
    /// For a write the zxid it took, else the last processed one (0 and -1 where the protocol says so).
    pub zxid: Zxid,
    /// An error has no body.
    pub result: Result<ReplyBody, ZkError>,
}

/// What follows the header of a successful reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyBody {
    /// Nothing: ping, delete, auth, setWatches, checkWatches, removeWatches, closeSession.
    Empty,
    /// create.
    Path(Str),
    /// create2, createContainer, createTTL.
    PathStat(Str, Stat),
    /// exists, setData, setACL.
    Stat(Stat),
    /// getData, reconfig.
    Data(Option<Bytes>, Stat),
    /// getACL.
    Acl(Vec<Acl>, Stat),
    /// getChildren: names without the path, in no order.
    Children(Vec<Str>),
    /// getChildren2.
    ChildrenStat(Vec<Str>, Stat),
    /// sync: the path as it came.
    Sync(Option<Str>),
    /// multi, multiRead: one result a member. The reply's own error is 0 even when the multi failed.
    Multi(Vec<MultiResult>),
    /// getEphemerals: whole paths, in no order.
    Ephemerals(Vec<Str>),
    /// getAllChildrenNumber.
    Count(i32),
    /// addWatch: a 0, the code of no error.
    WatchAdded,
    /// whoAmI: scheme and user of each identity, without what proves it.
    WhoAmI(Vec<Id>),
    /// sasl: what the server says next; null when it has nothing to say.
    Token(Option<Bytes>),
}

/// The result of one member of a multi.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MultiResult {
    /// Type 1.
    Create(Str),
    /// Type 15.
    Create2(Str, Stat),
    /// Type 2.
    Delete,
    /// Type 5.
    SetData(Stat),
    /// Type 13.
    Check,
    /// Type 4, in a multiRead.
    GetData(Option<Bytes>, Stat),
    /// Type 8, in a multiRead.
    GetChildren(Vec<Str>),
    /// Type -1: 0 before the member that failed, its code, and RuntimeInconsistency (-2) after it. In a
    /// multiRead each member fails alone.
    Error(i32),
}

/// What happened to a znode, as a watcher is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
#[allow(missing_docs)] // the protocol's names
pub enum EventKind {
    NodeCreated = 1,
    NodeDeleted = 2,
    NodeDataChanged = 3,
    NodeChildrenChanged = 4,
}

/// A watch has fired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    /// What happened.
    pub kind: EventKind,
    /// To which znode.
    pub path: Str,
    /// The transaction that did it; -1 when setWatches found it out later.
    pub zxid: Zxid,
}

/// What a connection writes to its socket, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deliver {
    /// The handshake is done, or the session refused (`timeout_ms` 0, and a [`Deliver::Close`] behind it).
    Connected(ConnectResponse),
    /// An answer.
    Reply(Reply),
    /// An event.
    Event(WatchEvent),
    /// Flush, then close the socket.
    Close,
}

/// Through which server a session is attached. Requests from elsewhere are SessionMoved.
pub type Owner = Sid;
