//! A leader's snapshot takes the place of everything that was there before.
//!
//! Both stores have their part in it, one after the other: the snapshots' gives it its name, and the log's
//! forgets the log that it replaces. A crash between the two must not leave the new snapshot with a log of
//! another history behind it, so a [`note`] is left first, and recovery [finishes](finish) what was begun.

use slog::info;
use zabra_actors::types::{Fault, Zxid};

use super::compression::Compression;
use super::data_dir::{DataDir, SnapFile, log_name};
use super::snap_store::verify;
use super::sync_mark::SyncMark;
use super::txn_store::DIVERGED;

/// Names the snapshot that is about to replace everything else.
const INSTALLING: &str = "installing";
/// Where the pieces of a leader's snapshot go.
pub(super) const RECEIVED: &str = "receiving";

/// From here on the old log belongs to another history.
pub(super) fn note(dir: &DataDir, zxid: Zxid) -> Result<(), Fault> {
    dir.replace(INSTALLING, format!("{:x}", zxid.0).as_bytes())
}

/// Finishes what a crash has interrupted.
pub(super) fn finish(dir: &DataDir) -> Result<(), Fault> {
    let Some(text) = dir.first_line(INSTALLING)? else { return Ok(()) };
    let named = i64::from_str_radix(&text, 16).ok().map(Zxid);
    if let Some(zxid) = named
        && is_there(dir, zxid)?
        && verify(dir, &installed(zxid))?
    {
        info!(dir.log, "finishing the installation of a leader's snapshot"; "zxid" => %zxid);
        remove_all_but(dir, zxid)?;
        // A note that the tree is wrong stays: of that zxid there may have been a snapshot before, and it is not known
        // which of the two this is.
    }
    done(dir)
}

/// The file of a leader's snapshot; such a one comes over the network, and is not compressed.
pub(super) fn installed(zxid: Zxid) -> SnapFile {
    SnapFile::new(zxid, Compression::None)
}

/// Has the leader's snapshot got its name?
pub(super) fn is_there(dir: &DataDir, zxid: Zxid) -> Result<bool, Fault> {
    Ok(dir.list()?.snapshots.contains(&installed(zxid)))
}

/// Removes every log file and every other snapshot.
pub(super) fn remove_all_but(dir: &DataDir, zxid: Zxid) -> Result<(), Fault> {
    // The mark vouches for nothing that is removed here.
    SyncMark { file: zxid, synced: zxid }.replace(dir)?;
    let files = dir.list()?;
    for first in files.logs.iter().rev() {
        dir.remove(&log_name(*first))?;
    }
    for other in files.snapshots.iter().filter(|other| **other != installed(zxid)) {
        dir.remove(&other.name)?;
    }
    dir.sync_names()
}

/// What was wrong with the tree went with it. Durable after [`done`].
pub(super) fn end_divergence(dir: &DataDir) -> Result<(), Fault> {
    dir.remove(DIVERGED)
}

/// The snapshot has taken the place of everything.
pub(super) fn done(dir: &DataDir) -> Result<(), Fault> {
    dir.remove(INSTALLING)?;
    dir.sync_names()
}
