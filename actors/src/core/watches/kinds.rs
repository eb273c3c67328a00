//! The kinds of watches as requests name them, and where in the tables each kind stands.

use super::{WatchMode, WatchTable};
use crate::types::{Str, WatcherType};

/// What a watch that a request sets wants to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchKind {
    /// getData's and exists': the next change of the znode itself.
    Data,
    /// getChildren's: the next change of its children.
    Child,
    /// addWatch's: every change of both.
    Persistent,
    /// addWatch's: every change of the znode and of all below it.
    Recursive,
}

/// A watch that a request leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewWatch {
    /// As the request says; there need be no such znode.
    pub path: Str,
    /// See there.
    pub kind: WatchKind,
}

/// A place in the tables.
pub(super) type Place = (WatchTable, WatchMode);

const DATA: Place = (WatchTable::Data, WatchMode::Standard);
const CHILD: Place = (WatchTable::Child, WatchMode::Standard);
const PERSISTENT: [Place; 2] =
    [(WatchTable::Data, WatchMode::Persistent), (WatchTable::Child, WatchMode::Persistent)];
const RECURSIVE: Place = (WatchTable::Data, WatchMode::Recursive);
const ALL: [Place; 5] = [DATA, CHILD, PERSISTENT[0], PERSISTENT[1], RECURSIVE];

impl WatchKind {
    /// Where a watch of this kind stands: a persistent one is in both tables, a recursive one never hears of
    /// children and so is in one.
    pub(super) fn places(self) -> &'static [Place] {
        match self {
            WatchKind::Data => &[DATA],
            WatchKind::Child => &[CHILD],
            WatchKind::Persistent => &PERSISTENT,
            WatchKind::Recursive => &[RECURSIVE],
        }
    }
}

/// Where the watches stand that a checkWatches or removeWatches means.
pub(super) fn meant_by(kind: WatcherType) -> &'static [Place] {
    match kind {
        WatcherType::Children => &[CHILD],
        WatcherType::Data => &[DATA],
        WatcherType::Any => &ALL,
        WatcherType::Persistent => &PERSISTENT,
        WatcherType::PersistentRecursive => &[RECURSIVE],
    }
}
