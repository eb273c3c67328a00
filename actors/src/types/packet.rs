//! What servers say to each other. One to one with Apache's QuorumPacket types and notifications, so that
//! a codec for Apache's own bytes can stand beside the rmp-serde one.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Entry, Epoch, Id, SessionId, Sid, Tenure, Zxid};

/// A packet and the learner's tenure it belongs to ([`Tenure::default`] for notifications).
///
/// A learner picks a fresh tenure for each stay with a leader and the leader repeats it. Elections and
/// broadcasts share one connection, so this number does what closing the socket does in Apache.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Envelope {
    /// Whose stay it belongs to.
    pub tenure: Tenure,
    /// The packet.
    pub packet: Packet,
}

/// One packet. `L` is the learner, `ld` the leader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Hash)]
#[allow(missing_docs)] // the fields are named for what they are
pub enum Packet {
    /// Election, everybody to everybody.
    Notification(Notification),
    /// L→ld, opens Discovery: who the learner is and the newest epoch it has promised.
    FollowerInfo { accepted: Epoch },
    /// L→ld, the same from an observer.
    ObserverInfo { accepted: Epoch },
    /// ld→L: the epoch of this leadership.
    LeaderInfo { epoch: Epoch },
    /// L→ld: the promise is durable. `current` is `None` when this epoch was promised before already:
    /// then it does not count towards the quorum. Sent a second time, with `(0, None)`, by a learner that
    /// cannot cut its log as TRUNC says, or whose tree must be replaced: it drops everything up to the SNAP that
    /// answers this.
    AckEpoch { last: Zxid, current: Option<Epoch> },
    /// ld→L, opens Synchronization: you lack a tail; it follows.
    Diff { last: Zxid },
    /// ld→L: cut everything after this zxid; a tail may follow.
    Trunc { to: Zxid },
    /// ld→L: forget your tree; this one follows, as of this zxid.
    Snap { zxid: Zxid },
    /// ld→L, before the first piece: how large the snapshot is.
    SnapSize { bytes: u64 },
    /// ld→L: a piece of the snapshot, in Apache's format; empty at the end.
    SnapChunk(Bytes),
    /// L→ld: so many more pieces are on the disk, and as many may follow: see [`SNAP_WINDOW`]. (In Apache the socket
    /// fills up.)
    SnapTaken { pieces: u32 },
    /// ld→L: this is the whole history of the epoch so far.
    NewLeader { epoch: Epoch },
    /// ld→L: a quorum has taken over the history; serve. All up to `committed` may be applied.
    UpToDate { committed: Zxid },
    /// ld→follower (and to observers in Synchronization): log this.
    Proposal(Arc<Entry>),
    /// L→ld: everything up to here is durable here; `(e, 0)` acknowledges NEWLEADER and comes first. One
    /// stands for all proposals before it, since a log is a prefix of the leader's (Apache sends one each).
    Ack { zxid: Zxid },
    /// ld→follower: a quorum has everything up to here. One stands for all before it, too.
    Commit { zxid: Zxid },
    /// ld→observer: PROPOSAL and COMMIT in one.
    Inform(Arc<Entry>),
    /// L→ld: writes of the learner's clients.
    Request(Vec<ForwardedBytes>),
    /// ld→L: a sign of life, and a question. L→ld: the answer, with the number that was asked and the sessions
    /// heard from since the last one. (Apache puts its last proposal in the number's place, and its learners
    /// give back whatever is there.)
    Ping { number: u64, touched: Vec<(SessionId, i32)> },
    /// L→ld: a client wants to go on with this session here.
    Revalidate { session: SessionId, timeout_ms: i32 },
    /// ld→L: may it? If so, what its earlier connections had asked for was proposed at or before this
    /// zxid: a client that counts its requests anew after each connect would else be told of another's.
    Revalidated { session: SessionId, valid: Option<Zxid> },
    /// L→ld: tell me when I have been sent everything that is committed anywhere by now. ld→L: you have, and a
    /// quorum has said since then that I lead.
    Sync,
    /// L→ld: this follower's disk is nearly full, or has room again. ld→L: refuse writes that need room, or take
    /// them again. (Apache's servers know nothing of it and stop when they are full.)
    DiskLow { low: bool },
    /// Either way: this stay is over (Apache closes the socket). The reason is for the log.
    Goodbye { reason: String },
}

/// Pieces of a snapshot that may be on their way to a learner: sent, and not yet on its disk. At 64 KiB each it is
/// what a snapshot takes of the memory of both sides, however large it is; enough for a wide network.
pub const SNAP_WINDOW: u32 = 32;

impl Packet {
    /// Its name in ZooKeeper's protocol, for messages about it.
    pub fn name(&self) -> &'static str {
        match self {
            Packet::Notification(_) => "NOTIFICATION",
            Packet::FollowerInfo { .. } => "FOLLOWERINFO",
            Packet::ObserverInfo { .. } => "OBSERVERINFO",
            Packet::LeaderInfo { .. } => "LEADERINFO",
            Packet::AckEpoch { .. } => "ACKEPOCH",
            Packet::Diff { .. } => "DIFF",
            Packet::Trunc { .. } => "TRUNC",
            Packet::Snap { .. } => "SNAP",
            Packet::SnapSize { .. } => "the size of SNAP",
            Packet::SnapChunk(_) => "a piece of SNAP",
            Packet::SnapTaken { .. } => "SNAPTAKEN",
            Packet::NewLeader { .. } => "NEWLEADER",
            Packet::UpToDate { .. } => "UPTODATE",
            Packet::Proposal(_) => "PROPOSAL",
            Packet::Ack { .. } => "ACK",
            Packet::Commit { .. } => "COMMIT",
            Packet::Inform(_) => "INFORM",
            Packet::Request(_) => "REQUEST",
            Packet::Ping { .. } => "PING",
            Packet::Revalidate { .. } | Packet::Revalidated { .. } => "REVALIDATE",
            Packet::Sync => "SYNC",
            Packet::DiskLow { .. } => "DISKLOW",
            Packet::Goodbye { .. } => "GOODBYE",
        }
    }
}

/// A forwarded write in bytes: the client's own request record, encoded as the client protocol does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Hash)]
pub struct ForwardedBytes {
    /// Whose write.
    pub session: SessionId,
    /// Is that a local session of the learner's? (Apache's leader has to guess it from the id.)
    pub local: bool,
    /// The xid of the request.
    pub cxid: i32,
    /// The opcode.
    pub opcode: i32,
    /// The request record without its header.
    pub body: Bytes,
    /// Who asks.
    pub auth: Arc<[Id]>,
}

/// What a server is doing, as it says in a notification. The numbers are Apache's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
#[allow(missing_docs)] // ZooKeeper's names
pub enum ServerState {
    Looking = 0,
    Following = 1,
    Leading = 2,
    Observing = 3,
}

/// A vote: this server should lead. Ordered by (epoch, zxid, leader): the greatest wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Vote {
    /// The proposed leader; `None` from an observer, who has no say.
    pub leader: Option<Sid>,
    /// The last zxid in its log.
    pub zxid: Zxid,
    /// Its current epoch.
    pub epoch: Epoch,
}

/// A server's word in an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Hash)]
pub struct Notification {
    /// The vote.
    pub vote: Vote,
    /// The logical clock: which election of the sender's this is about.
    pub round: u64,
    /// The sender's state.
    pub state: ServerState,
}
