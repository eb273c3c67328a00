//! What the brain asks of the body. The server and the simulator are two bodies for the same brain.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::core::history::History;
use crate::core::tree::Tree;
use crate::types::{Deliver, Entry, Epoch, Epochs, Fault, Packet, Sid, Tenure, WallMillis, Zxid};

/// What a server finds on its disk at start.
pub struct Recovered {
    /// The newest loadable snapshot with the whole log replayed over it. Its tail may be uncommitted:
    /// Synchronization settles that before anybody is served.
    pub tree: Tree,
    /// The last transactions of the log; all of them are in `tree` already.
    pub history: History,
    /// The epoch files.
    pub epochs: Epochs,
    /// A transaction may be missing at the end that this server has acknowledged: its vote must not count until
    /// a leader has brought it in step that a quorum of others is with, and [`TxnStore::trust`] has noted that.
    pub doubtful: bool,
    /// The tree has differed from the leader's ([`TxnStore::distrust`]), and no leader's snapshot has replaced it yet.
    /// The log is in order.
    pub diverged: bool,
}

/// The transaction log and the epoch files. Owned by the TxnLog actor for the life of the process.
///
/// Every method that changes something is durable when it returns, but for [`TxnStore::append`], which
/// is durable after the next [`TxnStore::sync`]. An error is final: the process stops.
pub trait TxnStore: Send {
    /// Loads everything and cuts a torn tail.
    fn recover(&mut self) -> Result<Recovered, Fault>;

    /// Writes entries behind the last one. Not yet durable.
    fn append(&mut self, entries: &[Arc<Entry>]) -> Result<(), Fault>;

    /// Makes all that was appended durable.
    fn sync(&mut self) -> Result<(), Fault>;

    /// Starts a new log file with the next entry, so that a purge can delete the older ones.
    fn roll(&mut self) -> Result<(), Fault>;

    /// Cuts everything after `to`: discards snapshots above it first, then later files, then the tail.
    /// What is left (snapshot and log) must end exactly at `to`: a leader cuts only to a transaction
    /// that both logs hold, so anything else is a damaged directory and a fault.
    fn truncate(&mut self, to: Zxid) -> Result<(), Fault>;

    /// Forgets the whole log: a snapshot at `zxid` has been installed that replaces it, and with it whatever was
    /// wrong with the tree ([`TxnStore::distrust`]).
    fn reset(&mut self, zxid: Zxid) -> Result<(), Fault>;

    /// Loads snapshot and log anew, after [`TxnStore::truncate`].
    fn reload(&mut self) -> Result<Tree, Fault>;

    /// Writes the epoch files, accepted before current.
    fn save_epochs(&mut self, epochs: Epochs) -> Result<(), Fault>;

    /// How much room is left for the log.
    fn room(&mut self) -> Result<Room, Fault>;

    /// This server is in step with a leader that others are with: it lacks nothing any more ([`Recovered::doubtful`]).
    fn trust(&mut self) -> Result<(), Fault>;

    /// The tree is not what the log makes of it: also after a restart only a leader's snapshot will do
    /// ([`Recovered::diverged`]).
    fn distrust(&mut self) -> Result<(), Fault>;

    /// How long the calls since the last question would have blocked. A real disk has blocked already
    /// and says zero; a simulated one makes its actor wait that long.
    fn stall(&mut self) -> Duration {
        Duration::ZERO
    }
}

/// Room on the disk of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes that are left.
    pub free: u64,
    /// Too few: writes should stop before the disk does.
    pub low: bool,
}

/// Snapshots. Owned by the Snapshotter actor.
pub trait SnapStore: Send {
    /// Writes a snapshot of a tree: temporary name, fsync, verification, rename, directory fsync. Then purges what
    /// the newest verified ones make superfluous. Returns the name of the file; `None` when there is no room for
    /// one, which is no fault: the log has everything, and goes on.
    fn save(&mut self, tree: &Tree) -> Result<Option<String>, Fault>;

    /// The same bytes for a learner, in pieces, made one by one when they are asked for.
    fn pieces(&mut self, tree: Box<Tree>) -> Box<dyn Pieces>;

    /// Takes the next piece of a leader's snapshot. The first after [`SnapStore::install`] or
    /// [`SnapStore::abandon`] begins a new one.
    fn receive(&mut self, piece: Bytes) -> Result<(), Fault>;

    /// All pieces are here: verify, make durable as `snapshot.<zxid>`, and load it. `Ok(None)` when the
    /// bytes are not a valid snapshot (the sender's fault, not this disk's).
    fn install(&mut self, zxid: Zxid) -> Result<Option<Tree>, Fault>;

    /// The leader is gone in the middle: drop the pieces.
    fn abandon(&mut self);

    /// As [`TxnStore::stall`].
    fn stall(&mut self) -> Duration {
        Duration::ZERO
    }
}

/// The pieces of a snapshot for a learner, in order; none is empty, and none larger than 64 KiB.
pub trait Pieces: Iterator<Item = Bytes> + Send {
    /// How many bytes all of them are together.
    fn total(&self) -> u64;
}

/// The way to the other servers. Never blocks; what cannot be sent (no link, a full queue) is dropped,
/// and a dropped packet of a link means that a LinkDown follows.
pub trait PeerLinks: Send + Sync {
    /// One packet to several peers, encoded once.
    fn send(&self, to: &[(Sid, Tenure)], packet: &Packet);
}

/// The way to one client connection. Never blocks; a connection that does not read is closed.
pub trait ClientSink: Send {
    /// In this order, behind all earlier ones.
    fn deliver(&self, batch: Vec<Deliver>);
}

/// The wall clock: for times that are shown, never for decisions.
pub trait WallClock: Send + Sync {
    /// Milliseconds since 1970.
    fn now(&self) -> WallMillis;
}

/// What happens when this machine fails: the server logs it and ends its process, the simulator ends the
/// node. Nothing limps on, so it is called at most once.
pub type OnFault = Arc<dyn Fn(&Fault) + Send + Sync>;

/// Told of what must never go wrong, at the moment it happens. The simulator checks it against everything
/// it has seen; a server has a witness that does not care.
pub trait Witness: Send + Sync {
    /// The tree has reached this transaction, with this digest, and shows it to clients.
    fn delivered(&self, _zxid: Zxid, _digest: i64) {}

    /// This server's leadership of an epoch is established.
    fn leads(&self, _epoch: Epoch) {}

    /// It goes on in its next epoch.
    fn goes_on(&self, _epoch: Epoch) {}
}

/// The witness of a production server.
pub struct NoWitness;

impl Witness for NoWitness {}
