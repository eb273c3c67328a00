//! The port of the snapshots over a server's directory: [`FileSnapStore`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use slog::{info, warn};
use zabra_actors::core::mutant::{Mutant, mutated};
use zabra_actors::core::tree::Tree;
use zabra_actors::ports::{Pieces, SnapStore};
use zabra_actors::types::{Fault, Zxid};

use super::data_dir::{DataDir, MIN_RETAIN, SnapFile, explain, fault, log_name};
use super::fs::DiskFile;
use super::install::{self, RECEIVED};
use super::snapshot;
use super::snapshot_reader::{BadSnapshot, DigestSum, read_snapshot, read_tree};

/// The snapshots of a directory.
pub struct FileSnapStore {
    dir: Arc<DataDir>,
    /// Read from beginning to end since they were written; purges count on them.
    verified: BTreeSet<SnapFile>,
    incoming: Option<Incoming>,
}

/// A leader's snapshot as far as it has come.
struct Incoming {
    file: Box<dyn DiskFile>,
    len: u64,
}

impl FileSnapStore {
    pub(super) fn new(dir: Arc<DataDir>) -> FileSnapStore {
        FileSnapStore { dir, verified: BTreeSet::new(), incoming: None }
    }

    /// Removes what the newest verified snapshots make superfluous.
    fn purge(&mut self) -> Result<(), Fault> {
        let files = self.dir.list()?;
        let retain = self.dir.settings.retain.max(MIN_RETAIN);
        self.verified.retain(|file| files.snapshots.contains(file));
        let mut kept = Vec::new();
        for file in files.snapshots.iter().rev() {
            // Two files of one zxid are one snapshot.
            if kept.len() < retain && kept.last() != Some(&file.zxid) && self.check(file)? {
                kept.push(file.zxid);
            }
        }
        let Some(oldest) = kept.get(retain - 1).copied() else { return Ok(()) };
        let snapshots = files.snapshots.iter().filter(|file| file.zxid < oldest);
        // The records behind the oldest snapshot begin in the newest file that does not begin behind it.
        let needed = files.logs.iter().rev().find(|first| **first <= oldest).copied().unwrap_or(oldest);
        let logs = files.logs.iter().filter(|first| **first < needed);
        // Oldest first, so that what is left has no holes at any time.
        let names: Vec<_> =
            (snapshots.map(|file| file.name.clone())).chain(logs.map(|first| log_name(*first))).collect();
        for name in &names {
            self.dir.remove(name)?;
        }
        if !names.is_empty() {
            info!(self.dir.log, "purged"; "oldest_kept" => %oldest, "removed" => names.join(" "));
            self.dir.sync_names()?;
        }
        Ok(())
    }

    /// Has this snapshot been, or can it now be, read from beginning to end?
    fn check(&mut self, file: &SnapFile) -> Result<bool, Fault> {
        if self.verified.contains(file) {
            return Ok(true);
        }
        let sound = verify(&self.dir, file)?;
        if sound {
            self.verified.insert(file.clone());
        }
        Ok(sound)
    }

    /// Reads back what was received. `None` when it is not what the leader has at `zxid`.
    fn verify_received(&self, zxid: Zxid) -> Result<Option<Tree>, Fault> {
        let refused = match read_tree(self.dir.read(RECEIVED)?, zxid) {
            Ok((tree, summary)) if summary.digest == snapshot::expected_digest(&tree) => {
                return Ok(Some(tree));
            }
            Ok((tree, summary)) => {
                let digest = tree.digest();
                format!("it says {:?}, but the digest at {zxid} is {digest:#x}", summary.digest)
            }
            Err(BadSnapshot::Damaged(how)) => how,
            Err(BadSnapshot::Disk(error)) => return Err(fault("read", &self.dir.path(RECEIVED), error)),
        };
        warn!(self.dir.log, "the leader's snapshot makes no sense"; "zxid" => %zxid, "why" => refused);
        Ok(None)
    }
}

impl SnapStore for FileSnapStore {
    fn save(&mut self, tree: &Tree) -> Result<Option<String>, Fault> {
        // What is kept free is the log's: a snapshot takes half of it at the most.
        let needed = snapshot::expected_size(tree, self.dir.settings.compression);
        if self.dir.free()? < needed + self.dir.settings.min_free / 2 {
            return Ok(None);
        }
        let Some(saved) = snapshot::save_if_it_fits(&self.dir, tree)? else { return Ok(None) };
        self.verified.insert(saved.clone());
        self.purge()?;
        Ok(Some(saved.name))
    }

    fn pieces(&mut self, tree: Box<Tree>) -> Box<dyn Pieces> {
        Box::new(snapshot::TreePieces::of(tree))
    }

    fn receive(&mut self, piece: Bytes) -> Result<(), Fault> {
        if self.incoming.is_none() {
            self.incoming = Some(Incoming { file: self.dir.create(RECEIVED)?, len: 0 });
        }
        let incoming = self.incoming.as_mut().expect("just made");
        let written = incoming.file.write_at(incoming.len, &piece);
        incoming.len += piece.len() as u64;
        explain("write", &self.dir.path(RECEIVED), written)
    }

    fn install(&mut self, zxid: Zxid) -> Result<Option<Tree>, Fault> {
        let Some(mut incoming) = self.incoming.take() else { return Ok(None) };
        if !mutated(Mutant::UnsyncedSnapshot) {
            explain("fsync", &self.dir.path(RECEIVED), incoming.file.sync())?;
        }
        let Some(tree) = self.verify_received(zxid)? else {
            self.dir.remove(RECEIVED)?;
            return Ok(None);
        };
        // From the rename on, the old log belongs to another history: see `install.rs`.
        install::note(&self.dir, zxid)?;
        let snapshot = install::installed(zxid);
        self.dir.rename(RECEIVED, &snapshot.name)?;
        self.dir.sync_names()?;
        self.verified.insert(snapshot);
        Ok(Some(tree))
    }

    fn abandon(&mut self) {
        if self.incoming.take().is_some()
            && let Err(error) = self.dir.remove(RECEIVED)
        {
            // It is only in the way: the next one overwrites it, and so does a start.
            warn!(self.dir.log, "cannot remove an abandoned snapshot"; "error" => %error);
        }
    }

    fn stall(&mut self) -> Duration {
        self.dir.disk.stall()
    }
}

/// Reads a snapshot from beginning to end, and makes durable what was read: Apache does not.
pub(super) fn verify(dir: &DataDir, file: &SnapFile) -> Result<bool, Fault> {
    let name = &file.name;
    match read_snapshot(dir.read_snapshot(file)?, &mut DigestSum::default()) {
        Ok(_) => dir.sync_file(name).map(|()| true),
        Err(BadSnapshot::Disk(error)) => Err(fault("read", &dir.path(name), error)),
        Err(BadSnapshot::Damaged(how)) => {
            warn!(dir.log, "a snapshot is damaged"; "name" => name, "how" => how);
            Ok(false)
        }
    }
}
