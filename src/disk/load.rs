//! From files to a tree: the newest snapshot that is sound, and the log behind it.
//!
//! A snapshot that cannot be read is skipped for an older one. That loses nothing only if the log leads
//! through the zxid of the one that was skipped: whoever wrote it had everything up to there. Where the log
//! does not (it was removed by a purge, or when a leader's snapshot replaced it), loading is refused.

use std::sync::Arc;

use slog::{info, warn};
use zabra_actors::core::history::{History, WINDOW};
use zabra_actors::core::tree::Tree;
use zabra_actors::core::watches::Change;
use zabra_actors::types::{Entry, Zxid};

use super::data_dir::{DataDir, Files, SnapFile, fault};
use super::refusal::Refusal;
use super::replay::{Repair, replay};
use super::snapshot_reader::{BadSnapshot, Summary, read_tree};
use super::sync_mark::SyncMark;

/// What a directory holds.
pub(super) struct Loaded {
    pub(super) tree: Tree,
    pub(super) history: History,
    /// The snapshot it began with.
    pub(super) snapshot: SnapFile,
    /// What is to be done before the log is written on.
    pub(super) repair: Option<Repair>,
    /// See [`Replayed::doubt`](super::replay::Replayed::doubt).
    pub(super) doubt: Option<Refusal>,
    /// It was another server than ours that wrote here last, or nobody.
    pub(super) foreign: bool,
}

/// Loads everything; changes nothing.
pub(super) fn load(dir: &DataDir, files: &Files) -> Result<Loaded, Refusal> {
    let Snapshot { tree, file, summary, mut skipped } = newest_snapshot(dir, files)?;
    let zxid = file.zxid;
    let mark = SyncMark::read(dir)?.filter(|mark| mark.covers(files.logs.last().copied()));
    let foreign = mark.is_none();
    if foreign && files.logs.is_empty() && zxid != Zxid::ZERO {
        return Err(Refusal::NoLog { snapshot: file });
    }
    // Until it has caught up with its own digest block, a fuzzy snapshot matches no digest.
    let fuzzy_until = summary.digest.map_or(zxid, |(at, _)| at.max(zxid));
    let mut replayer = Replayer {
        history: History::new(zxid),
        unapplied: 0,
        tree,
        changes: Vec::new(),
        fuzzy_until,
        first_mismatch: None,
        must_see: skipped.iter().map(|(file, _)| file.zxid).filter(|zxid| zxid.counter() > 0).max(),
    };
    if let Some((at, digest)) = summary.digest.filter(|(at, _)| *at == zxid) {
        replayer.compare(at, digest);
    }
    let replayed = replay(dir, &files.logs, zxid, &mut |entry| replayer.entry(entry))?;
    if let Some(missing) = replayer.must_see {
        let at = skipped.iter().position(|(file, _)| file.zxid == missing).expect("it was skipped");
        let (snapshot, why) = skipped.swap_remove(at);
        return Err(Refusal::Gone { snapshot, why, last: replayed.last });
    }
    if let Some(zxid) = replayer.first_mismatch {
        warn!(dir.log, "the tree does not have the digest that its leader computed; the tree's owner will tell \
            whether it still differs"; "first" => %zxid);
    }
    let Replayer { mut history, tree, .. } = replayer;
    history.apply_to(replayed.last);
    info!(dir.log, "loaded"; "snapshot" => &file.name, "last" => %replayed.last, "znodes" => tree.node_count());
    Ok(Loaded { tree, history, snapshot: file, repair: replayed.repair, doubt: replayed.doubt, foreign })
}

struct Replayer {
    history: History,
    /// Entries pushed since the history was last trimmed.
    unapplied: usize,
    tree: Tree,
    changes: Vec<Change>,
    fuzzy_until: Zxid,
    first_mismatch: Option<Zxid>,
    /// The newest snapshot that was skipped, until the log has led through it.
    must_see: Option<Zxid>,
}

impl Replayer {
    fn entry(&mut self, entry: Arc<Entry>) {
        let zxid = entry.zxid();
        self.tree.apply(&entry.txn, &mut self.changes);
        self.changes.clear(); // nobody watches yet
        if self.must_see == Some(zxid) {
            self.must_see = None;
        }
        if let Some(digest) = entry.txn.digest.filter(|digest| digest.version == 2) {
            self.compare(zxid, digest.tree);
        }
        self.history.push(entry);
        self.unapplied += 1;
        // A history forgets only what is applied: a long log need not be in memory as a whole.
        if self.unapplied == WINDOW {
            self.history.apply_to(zxid);
            self.unapplied = 0;
        }
    }

    fn compare(&mut self, zxid: Zxid, digest: i64) {
        if zxid >= self.fuzzy_until && digest != self.tree.digest() && self.first_mismatch.is_none() {
            self.first_mismatch = Some(zxid);
        }
    }
}

struct Snapshot {
    tree: Tree,
    file: SnapFile,
    summary: Summary,
    /// Newer ones that cannot be read, and why.
    skipped: Vec<(SnapFile, String)>,
}

fn newest_snapshot(dir: &DataDir, files: &Files) -> Result<Snapshot, Refusal> {
    let mut skipped = Vec::new();
    for file in files.snapshots.iter().rev() {
        let SnapFile { zxid, name } = file;
        match read_tree(dir.read_snapshot(file)?, *zxid) {
            Ok((tree, summary)) => {
                // The same tree in another file is no loss.
                skipped.retain(|(other, _): &(SnapFile, String)| other.zxid > *zxid);
                for (other, why) in &skipped {
                    warn!(dir.log, "skipping a snapshot for an older one";
                        "name" => &other.name, "why" => why, "for" => name);
                }
                return Ok(Snapshot { tree, file: file.clone(), summary, skipped });
            }
            Err(BadSnapshot::Disk(error)) => return Err(fault("read", &dir.path(name), error).into()),
            Err(BadSnapshot::Damaged(how)) => skipped.push((file.clone(), how)),
        }
    }
    Err(Refusal::NoSnapshot { first_log: files.logs.first().copied(), damaged: skipped })
}
