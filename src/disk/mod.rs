//! The disk: transaction log, snapshots and epoch files, in Apache's formats.
//!
//! ```text
//! <dir>/myid
//! <dir>/version-2/log.<zxid>          log.rs, log_reader.rs, replay.rs: records behind the newest snapshot
//! <dir>/version-2/snapshot.<zxid>     snapshot.rs, snapshot_reader.rs, load.rs: whole trees
//! <dir>/version-2/acceptedEpoch       epochs.rs
//! <dir>/version-2/currentEpoch
//! <dir>/version-2/.lock .synced .recovering     ours (data_dir.rs, sync_mark.rs, txn_store.rs); Apache ignores them
//! ```
//!
//! [`open`] gives the two ports of the brain, `TxnStore` and `SnapStore`, over one directory. Everything goes
//! through the small trait [`Disk`]: [`RealDisk`] in the server, [`SimDisk`] in the simulator and in the
//! crash tests, where what was not synced may be lost or torn.
//!
//! What holds here, always:
//! - nothing is reported durable before an fsync of the file *and*, where a name is new, of its directory;
//! - a disk error is a [`Fault`] and final: no fsync is ever tried again;
//! - what cannot be told from lost data is never repaired silently: the server refuses to start and says
//!   which file, which offset, and what to do.
//!
//! Snapshots may be compressed (compression.rs), and the log may have a directory of its own.
//!
//! Deliberately absent: Apache's fuzzy snapshots (read, but never written).

mod compression;
mod data_dir;
mod epochs;
mod fs;
mod install;
mod load;
mod log;
mod log_reader;
mod refusal;
mod replay;
mod sim;
mod snap_store;
mod snapshot;
mod snapshot_reader;
mod sync_mark;
mod tail;
#[cfg(test)]
mod tests;
mod txn_store;

use std::sync::Arc;

use zabra_actors::types::Fault;

pub use compression::Compression;
pub use data_dir::{DiskSettings, MIN_RETAIN, PREALLOCATE, SnapFile};
pub use fs::{Disk, DiskFile, RealDisk};
pub use log_reader::{End, LogReader, Next, Record};
pub use sim::{Injected, SimDisk};
pub use snap_store::FileSnapStore;
pub use snapshot::SnapshotWriter;
pub use snapshot_reader::{BadSnapshot, Summary, Visitor, read_snapshot};
pub use tail::Tail;
pub use txn_store::FileTxnStore;

/// Opens a server's directory, creates what is missing in it, and locks it against a second server. The
/// lock goes with the last of the two stores.
pub fn open(
    disk: Arc<dyn Disk>,
    settings: DiskSettings,
    log: slog::Logger,
) -> Result<(FileTxnStore, FileSnapStore), Fault> {
    let dir = data_dir::DataDir::open(disk, settings, log)?;
    Ok((FileTxnStore::new(dir.clone()), FileSnapStore::new(dir)))
}
