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

mod backup;
mod compression;
mod data_dir;
mod epochs;
mod fs;
mod inspect;
mod install;
mod load;
mod log;
mod log_reader;
mod refusal;
mod repair;
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

use std::io::Read;
use std::sync::Arc;

use zabra_actors::types::{Epoch, Fault};

pub use backup::Backup;
pub use compression::Compression;
pub use data_dir::{DiskSettings, MIN_RETAIN, PREALLOCATE, SnapFile};
pub use fs::{Disk, DiskFile, RealDisk};
pub use inspect::{Finding, Inspection, LogFacts, Place, Severity, SnapshotFacts, StartFacts};
pub use log_reader::{End, LogReader, Next, Record};
pub use repair::Remedy;
pub use sim::{Injected, SimDisk};
pub use snap_store::FileSnapStore;
pub use snapshot::SnapshotWriter;
pub use snapshot_reader::{BadSnapshot, Summary, Visitor, read_snapshot};
pub use tail::Tail;
pub use txn_store::FileTxnStore;

/// Looks at everything in a server's directory, and changes nothing. An error is one of the disk; what is wrong
/// with the files is in the result.
pub fn inspect(disk: Arc<dyn Disk>, settings: DiskSettings) -> Result<Inspection, Fault> {
    inspect::inspect(&*data_dir::DataDir::to_read(disk, settings)?)
}

/// Reads a snapshot's file, whose name says how it is compressed.
pub fn read_snapshot_file(
    name: &str,
    file: Box<dyn Read + Send>,
    visitor: &mut dyn Visitor,
) -> Result<Summary, BadSnapshot> {
    let compression = SnapFile::parse(name).map_or(Compression::None, |file| file.compression());
    read_snapshot(compression.reader(file), visitor)
}

/// Gives up in a server's directory, which must not be in use, what the remedy names. `stamp` names the directory
/// beside `version-2` in which the old files are kept. What was done, a line each.
pub fn repair(
    disk: Arc<dyn Disk>,
    settings: DiskSettings,
    remedy: Remedy,
    stamp: &str,
) -> Result<Vec<String>, Fault> {
    let dir = data_dir::DataDir::open_anyones(disk, settings, quiet())?;
    repair::repair(&dir, remedy, stamp)
}

/// Saves what a server would start with, from a directory that is not in use into an empty one: a backup, or the
/// way back. No epoch up to `used` is given out again.
pub fn save_elsewhere(
    disk: Arc<dyn Disk>,
    from: DiskSettings,
    to: DiskSettings,
    used: Epoch,
) -> Result<Backup, Fault> {
    let from = data_dir::DataDir::open_anyones(disk.clone(), from, quiet())?;
    let to = data_dir::DataDir::open_anyones(disk, to, quiet())?;
    backup::save(&from, &to, used)
}

/// Copies a snapshot of a server that runs, which it has just taken, into an empty directory.
pub fn copy_snapshot(
    disk: Arc<dyn Disk>,
    from: DiskSettings,
    name: &str,
    to: DiskSettings,
) -> Result<Backup, Fault> {
    let from = data_dir::DataDir::to_read(disk.clone(), from)?;
    let to = data_dir::DataDir::open_anyones(disk, to, quiet())?;
    backup::copy_running(&from, name, &to)
}

fn quiet() -> slog::Logger {
    slog::Logger::root(slog::Discard, slog::o!())
}

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
