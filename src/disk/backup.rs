//! Backups: a directory with one exact snapshot and the epoch files, and the way back from it.
//!
//! A backup is a directory like any other, without a log: whatever can be made of it, a server of Apache's or of
//! ours, can be started on it. What is brought back is read as a start would read it, so that a copy of a whole
//! directory, log and all, is a backup, too.

use zabra_actors::types::{Epoch, Epochs, Fault, Zxid};

use super::data_dir::{DataDir, SnapFile};
use super::epochs;
use super::load::load;
use super::refusal::Refusal;
use super::repair::copy;
use super::snap_store::verify;
use super::snapshot;
use super::sync_mark::SyncMark;

/// What a backup holds, or what was brought back.
#[derive(Debug, PartialEq, Eq)]
pub struct Backup {
    /// The snapshot's file.
    pub file: String,
    /// The last transaction in it.
    pub zxid: Zxid,
    /// Znodes; `None` when they were not counted.
    pub znodes: Option<usize>,
    /// The epoch files.
    pub epochs: Epochs,
}

/// Saves what a server of this directory would start with into an empty one. No epoch up to `used` is given out
/// again by a server of that: clients may have seen transactions of it.
pub(super) fn save(from: &DataDir, to: &DataDir, used: Epoch) -> Result<Backup, Fault> {
    let refused = |refusal: Refusal| refusal.fault(from);
    let loaded = load(from, &from.list()?).map_err(refused)?;
    if let Some(doubt) = loaded.doubt {
        return Err(refused(doubt));
    }
    let last = loaded.history.last();
    let (_, found) = epochs::judge(from, last).map_err(refused)?;
    let epochs = Epochs { accepted: found.accepted.max(used), ..found };
    let saved = snapshot::save(to, &loaded.tree)?;
    finish(to, &saved, epochs)?;
    Ok(Backup { file: saved.name, zxid: last, znodes: Some(loaded.tree.node_count()), epochs })
}

/// Copies a snapshot that a running server has just taken.
pub(super) fn copy_running(from: &DataDir, name: &str, to: &DataDir) -> Result<Backup, Fault> {
    let Some(snapshot) = SnapFile::parse(name) else {
        return Err(Fault(format!("{name:?} is no snapshot's name")));
    };
    copy(from, &from.path(name), &to.path(name))?;
    if !verify(to, &snapshot)? {
        return Err(Fault(format!("{} was copied and is damaged", to.path(name).display())));
    }
    let (_, epochs) = epochs::judge(from, snapshot.zxid).map_err(|refusal| refusal.fault(from))?;
    finish(to, &snapshot, epochs)?;
    Ok(Backup { file: snapshot.name, zxid: snapshot.zxid, znodes: None, epochs })
}

/// The epochs, and last the mark that says that this is all.
fn finish(to: &DataDir, snapshot: &SnapFile, epochs: Epochs) -> Result<(), Fault> {
    epochs::write(to, epochs)?;
    let zxid = snapshot.zxid;
    SyncMark { file: zxid, synced: zxid }.replace(to).map(|_| ())?;
    to.sync_names()
}
