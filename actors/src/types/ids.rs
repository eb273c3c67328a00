//! Numbers with a meaning of their own: zxids, epochs, server, session and connection ids.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A transaction id: the epoch in the high 32 bits, a counter in the low 32.
///
/// `(e, 0)` never names a transaction: it is the mark of epoch `e` (NEWLEADER), and appears in no log.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Zxid(pub i64);

impl Zxid {
    /// The zxid before every transaction.
    pub const ZERO: Zxid = Zxid(0);

    /// The zxid `counter` of `epoch`.
    pub fn new(epoch: Epoch, counter: u32) -> Zxid {
        Zxid((i64::from(epoch.0) << 32) | i64::from(counter))
    }

    /// The leadership this transaction belongs to.
    pub fn epoch(self) -> Epoch {
        Epoch((self.0 >> 32) as u32)
    }

    /// The place within the epoch; the first transaction of an epoch has 1.
    pub fn counter(self) -> u32 {
        self.0 as u32
    }

    /// The zxid after this one within the same epoch.
    pub fn next(self) -> Zxid {
        Zxid(self.0 + 1)
    }

    /// May `self` follow `previous` in a log? Within an epoch counters have no holes; a higher epoch
    /// may start at any counter above 0, because an interrupted epoch may have left no trace here.
    pub fn follows(self, previous: Zxid) -> bool {
        if self.epoch() == previous.epoch() {
            self.0 == previous.0 + 1
        } else {
            self.epoch() > previous.epoch() && self.counter() > 0
        }
    }
}

/// How many transactions an epoch may have. When it has them all the leader and its learners move on to the next epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EpochLength(pub u32);

impl EpochLength {
    /// As many as a counter can number; the last number is left out as in Apache's leader, which stands down there.
    pub const MAX: EpochLength = EpochLength(u32::MAX - 1);

    /// Is this the last zxid of its epoch, or beyond it?
    pub fn is_used_up(self, last: Zxid) -> bool {
        last.counter() >= self.0
    }
}

impl Default for EpochLength {
    fn default() -> EpochLength {
        EpochLength::MAX
    }
}

impl fmt::Display for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

impl fmt::Debug for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The number of a leadership. Each established leader has its own.
///
/// 31 bits are usable: above that a zxid would turn negative for Apache's signed comparison.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(pub u32);

impl Epoch {
    /// The mark of this epoch, `(e, 0)`: what NEWLEADER and its ACK carry.
    pub fn mark(self) -> Zxid {
        Zxid::new(self, 0)
    }

    /// The epoch after this one.
    pub fn next(self) -> Epoch {
        assert!(self.0 < i32::MAX as u32, "epochs are used up: a zxid of the next one would be negative");
        Epoch(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}", self.0)
    }
}

/// A server's id: `id` in `cluster.toml`, `myid` in Apache's directories; 1 to 254.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Sid(pub u8);

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

/// A client session. 0 is no session. The high byte is the server that opened it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub i64);

impl SessionId {
    /// No session: what a client that has none sends.
    pub const NONE: SessionId = SessionId(0);
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One client connection of this process; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// A learner's stay with a leader, or this server's stay in a role. A later one has a higher number.
///
/// Messages that come back from a disk or a peer carry the tenure they belong to, and are dropped when
/// it is over: by comparison, never by timing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tenure(pub u64);

/// Milliseconds of a monotonic clock: time-outs and ticks.
pub type Millis = u64;

/// Milliseconds since 1970 of the wall clock: what a znode's ctime and mtime show. Never used to decide.
pub type WallMillis = i64;
