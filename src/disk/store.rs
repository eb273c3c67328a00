//! The two ports of the brain over a server's directory: [`FileTxnStore`] and [`FileSnapStore`].
//!
//! A leader's snapshot is taken over by both, one after the other: [`FileSnapStore`] gives it its name, and
//! [`FileTxnStore`] forgets the log that it replaces. A crash between the two must not leave the new snapshot
//! with a log of another history behind it, so a note (`installing`) is left first, and recovery
//! finishes what was begun.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use slog::{info, warn};
use zabra_actors::core::tree::Tree;
use zabra_actors::ports::{Recovered, SnapStore, TxnStore};
use zabra_actors::types::{Entry, Epochs, Fault, Zxid};

use super::data_dir::{DataDir, Files, MIN_RETAIN, explain, fault, log_name, snapshot_name};
use super::fs::DiskFile;
use super::load::{Loaded, load};
use super::log::LogWriter;
use super::log_reader::{LogReader, Next};
use super::replay::{Repair, files_after};
use super::snapshot_reader::{BadSnapshot, Ignore, read_snapshot, read_tree};
use super::sync_mark::SyncMark;
use super::{epochs, snapshot};

/// Names the snapshot that is about to replace everything else.
const INSTALLING: &str = "installing";
/// Where the pieces of a leader's snapshot go.
const RECEIVED: &str = "receiving";

/// The transaction log and the epoch files of a directory.
pub struct FileTxnStore {
    dir: Arc<DataDir>,
    /// Known once recovered.
    open: Option<Open>,
}

struct Open {
    log: LogWriter,
    epochs: Epochs,
}

impl FileTxnStore {
    pub(super) fn new(dir: Arc<DataDir>) -> FileTxnStore {
        FileTxnStore { dir, open: None }
    }

    fn open(&mut self) -> &mut Open {
        self.open.as_mut().expect("a store is recovered before anything else")
    }

    /// Finishes the installation of a leader's snapshot that a crash has interrupted.
    fn finish_install(&self) -> Result<(), Fault> {
        let Some(text) = self.dir.first_line(INSTALLING)? else { return Ok(()) };
        let named = i64::from_str_radix(&text, 16).ok().map(Zxid);
        let zxid = named.filter(|zxid| self.is_sound(*zxid).unwrap_or(false));
        if let Some(zxid) = zxid {
            info!(self.dir.log, "finishing the installation of a leader's snapshot"; "zxid" => %zxid);
            self.remove_all_but(zxid)?;
        }
        self.installed()
    }

    fn is_sound(&self, zxid: Zxid) -> Result<bool, Fault> {
        Ok(self.dir.list()?.snapshots.contains(&zxid) && verify(&self.dir, zxid)?)
    }

    fn remove_all_but(&self, zxid: Zxid) -> Result<(), Fault> {
        // The mark vouches for nothing that is removed here.
        SyncMark { file: zxid, synced: zxid }.replace(&self.dir)?;
        let files = self.dir.list()?;
        for first in files.logs.iter().rev() {
            self.dir.remove(&log_name(*first))?;
        }
        for other in files.snapshots.iter().filter(|other| **other != zxid) {
            self.dir.remove(&snapshot_name(*other))?;
        }
        for (name, _) in &files.compressed {
            self.dir.remove(name)?;
        }
        self.dir.sync_names()
    }

    fn installed(&self) -> Result<(), Fault> {
        self.dir.remove(INSTALLING)?;
        self.dir.sync_names()
    }

    /// What a crash left unfinished: nobody refers to it.
    fn remove_leftovers(&self, files: &Files) -> Result<(), Fault> {
        for name in &files.others {
            if name == RECEIVED || name.starts_with(snapshot::UNFINISHED) {
                self.dir.remove(name)?;
            }
        }
        Ok(())
    }

    /// A new directory gets the snapshot that Apache begins with; a server of Apache could go on from it.
    fn begin_if_new(&self, files: Files) -> Result<Files, Fault> {
        if !(files.snapshots.is_empty() && files.compressed.is_empty() && files.logs.is_empty()) {
            return Ok(files);
        }
        if let Some(epoch) = self.dir.first_line("currentEpoch")?.filter(|epoch| epoch != "0") {
            return Err(Fault(format!(
                "{} says {epoch}, but there are neither snapshots nor logs: with such an epoch and no \
                 transactions the server could win an election and lose everybody's data; restore the files, \
                 or remove version-2 as a whole to let the server start empty",
                self.dir.path("currentEpoch").display()
            )));
        }
        snapshot::save(&self.dir, &Tree::new())?;
        self.dir.list()
    }

    /// Makes what was loaded durable, whoever wrote it, and cuts what was not loaded.
    fn settle(&self, files: &Files, loaded: &Loaded) -> Result<(), Fault> {
        match loaded.repair {
            None => {}
            Some(Repair::Remove { file }) => self.dir.remove(&log_name(file))?,
            Some(Repair::Cut { file, at }) => self.cut(file, at)?,
        }
        // Written by a process that was killed, a file may be readable and yet not be on the disk.
        let removed = |file: Zxid| loaded.repair == Some(Repair::Remove { file });
        for file in files_after(&files.logs, loaded.snapshot).iter().filter(|file| !removed(**file)) {
            self.dir.sync_file(&log_name(*file))?;
        }
        self.dir.sync_file(&snapshot_name(loaded.snapshot))?;
        self.dir.sync_names()
    }

    fn cut(&self, file: Zxid, at: u64) -> Result<(), Fault> {
        let name = log_name(file);
        let mut handle = self.dir.open_file(&name)?;
        explain("cut", &self.dir.path(&name), handle.set_len(at).and_then(|()| handle.sync()))
    }

    /// Where the log must be cut to end with `to`: the file and the offset, if a file reaches that far; and
    /// whether `to` is there.
    fn find_cut(&self, logs: &[Zxid], to: Zxid) -> Result<(Option<Repair>, bool), Fault> {
        let Some(file) = logs.iter().rev().find(|first| **first <= to).copied() else {
            return Ok((None, false));
        };
        let path = self.dir.path(&log_name(file));
        let (mut reader, header) = explain("read", &path, LogReader::open(self.dir.read(&log_name(file))?))?;
        header.map_err(|wrong| Fault(format!("{} is damaged: {wrong}", path.display())))?;
        let (mut at, mut found) = (reader.offset(), false);
        while let Next::Record(record) = explain("read", &path, reader.next())? {
            if record.zxid > to {
                break;
            }
            at = record.end;
            found |= record.zxid == to;
        }
        Ok((Some(Repair::Cut { file, at }), found))
    }
}

impl TxnStore for FileTxnStore {
    fn recover(&mut self) -> Result<Recovered, Fault> {
        self.finish_install()?;
        let files = self.dir.list()?;
        self.remove_leftovers(&files)?;
        let files = self.begin_if_new(files)?;
        let loaded = load(&self.dir, &files)?;
        self.settle(&files, &loaded)?;
        let last = loaded.history.last();
        let epochs = epochs::recover(&self.dir, last)?;
        let newest = self.dir.list()?.logs.last().copied();
        self.open = Some(Open { log: LogWriter::after(self.dir.clone(), last, newest)?, epochs });
        Ok(Recovered { tree: loaded.tree, history: loaded.history, epochs })
    }

    fn append(&mut self, entries: &[Arc<Entry>]) -> Result<(), Fault> {
        self.open().log.append(entries)
    }

    fn sync(&mut self) -> Result<(), Fault> {
        self.open().log.sync()
    }

    fn roll(&mut self) -> Result<(), Fault> {
        self.open().log.roll()
    }

    fn truncate(&mut self, to: Zxid) -> Result<(), Fault> {
        self.roll()?;
        let files = self.dir.list()?;
        let (cut, found) = self.find_cut(&files.logs, to)?;
        let base = files.snapshots.iter().rev().find(|zxid| **zxid <= to);
        if base.is_none() || !(found || base == Some(&to)) {
            return Err(Fault(format!(
                "cannot cut the log in {} to {to}, as the leader asks: {}. Let the server start empty (remove \
                 version-2), and it gets everything from the leader",
                self.dir.path("").display(),
                if found { "every snapshot is newer" } else { "it does not hold that transaction" }
            )));
        }
        // The mark is lowered before anything is gone that it vouches for.
        let newest = files.logs.iter().rev().find(|first| **first <= to).copied();
        self.open().log = LogWriter::after(self.dir.clone(), to, newest)?;
        // Then what could bring back what is cut: snapshots first, the newest log files next.
        for zxid in files.snapshots.iter().filter(|zxid| **zxid > to) {
            self.dir.remove(&snapshot_name(*zxid))?;
        }
        for (name, _) in files.compressed.iter().filter(|(_, zxid)| *zxid > to) {
            self.dir.remove(name)?;
        }
        self.dir.sync_names()?;
        for first in files.logs.iter().rev().filter(|first| **first > to) {
            // One by one and durably: were an older file gone before a newer one, there would be a hole.
            self.dir.remove(&log_name(*first))?;
            self.dir.sync_names()?;
        }
        match cut {
            Some(Repair::Cut { file, at }) => self.cut(file, at),
            _ => Ok(()),
        }
    }

    fn reset(&mut self, zxid: Zxid) -> Result<(), Fault> {
        if !self.dir.list()?.snapshots.contains(&zxid) {
            return Err(Fault(format!(
                "{} is not there: the log is not forgotten without the snapshot that replaces it",
                self.dir.path(&snapshot_name(zxid)).display()
            )));
        }
        self.dir.replace(INSTALLING, format!("{:x}", zxid.0).as_bytes())?;
        self.remove_all_but(zxid)?;
        self.open().log = LogWriter::after(self.dir.clone(), zxid, None)?;
        self.installed()
    }

    fn reload(&mut self) -> Result<Tree, Fault> {
        self.open().log.sync()?;
        Ok(load(&self.dir, &self.dir.list()?)?.tree)
    }

    fn save_epochs(&mut self, epochs: Epochs) -> Result<(), Fault> {
        let old = self.open().epochs;
        epochs::save(&self.dir, old, epochs)?;
        self.open().epochs = epochs;
        Ok(())
    }

    fn stall(&mut self) -> Duration {
        self.dir.disk.stall()
    }
}

/// The snapshots of a directory.
pub struct FileSnapStore {
    dir: Arc<DataDir>,
    /// Read from beginning to end since they were written; purges count on them.
    verified: BTreeSet<Zxid>,
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
        self.verified.retain(|zxid| files.snapshots.contains(zxid));
        let mut kept = Vec::new();
        for zxid in files.snapshots.iter().rev() {
            if kept.len() < retain && self.check(*zxid)? {
                kept.push(*zxid);
            }
        }
        let Some(oldest) = kept.get(retain - 1).copied() else { return Ok(()) };
        let snapshots = files.snapshots.iter().filter(|zxid| **zxid < oldest);
        // The records behind the oldest snapshot begin in the newest file that does not begin behind it.
        let needed = files.logs.iter().rev().find(|first| **first <= oldest).copied().unwrap_or(oldest);
        let logs = files.logs.iter().filter(|first| **first < needed);
        let compressed = files.compressed.iter().filter(|(_, zxid)| *zxid < oldest);
        // Oldest first, so that what is left has no holes at any time.
        let names: Vec<_> = (snapshots.map(|zxid| snapshot_name(*zxid)))
            .chain(compressed.map(|(name, _)| name.clone()))
            .chain(logs.map(|first| log_name(*first)))
            .collect();
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
    fn check(&mut self, zxid: Zxid) -> Result<bool, Fault> {
        if self.verified.contains(&zxid) {
            return Ok(true);
        }
        let sound = verify(&self.dir, zxid)?;
        if sound {
            self.verified.insert(zxid);
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
    fn save(&mut self, tree: &Tree) -> Result<(), Fault> {
        self.verified.remove(&tree.zxid());
        snapshot::save(&self.dir, tree)?;
        self.purge()
    }

    fn encode(&mut self, tree: &Tree, out: &mut dyn FnMut(Bytes)) {
        snapshot::encode(tree, out);
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
        explain("fsync", &self.dir.path(RECEIVED), incoming.file.sync())?;
        let Some(tree) = self.verify_received(zxid)? else {
            self.dir.remove(RECEIVED)?;
            return Ok(None);
        };
        // From the rename on, the old log belongs to another history: see the module's story.
        self.dir.replace(INSTALLING, format!("{:x}", zxid.0).as_bytes())?;
        self.dir.rename(RECEIVED, &snapshot_name(zxid))?;
        self.dir.sync_names()?;
        self.verified.insert(zxid);
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
fn verify(dir: &DataDir, zxid: Zxid) -> Result<bool, Fault> {
    let name = snapshot_name(zxid);
    match read_snapshot(dir.read(&name)?, &mut Ignore) {
        Ok(_) => dir.sync_file(&name).map(|()| true),
        Err(BadSnapshot::Disk(error)) => Err(fault("read", &dir.path(&name), error)),
        Err(BadSnapshot::Damaged(how)) => {
            warn!(dir.log, "a snapshot is damaged"; "name" => name, "how" => how);
            Ok(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use slog::{Discard, Logger, o};
    use zabra_actors::types::{Epoch, Sid};

    use super::*;
    use crate::disk::log::tests::{entry, file_of};
    use crate::disk::{Disk, DiskSettings, SimDisk};

    fn stores(disk: &SimDisk) -> (FileTxnStore, FileSnapStore) {
        let settings = DiskSettings { preallocate: 0, ..DiskSettings::new("/d", Sid(1)) };
        crate::disk::open(Arc::new(disk.clone()), settings, Logger::root(Discard, o!())).unwrap()
    }

    fn names(disk: &SimDisk) -> Vec<String> {
        let all = disk.list(Path::new("/d/version-2")).unwrap().into_iter().map(|(name, _)| name);
        all.filter(|name| name.starts_with("log.") || name.starts_with("snapshot.")).collect()
    }

    fn remove(disk: &SimDisk, name: &str) {
        disk.remove(&Path::new("/d/version-2").join(name)).unwrap();
    }

    fn refused(disk: &SimDisk) -> String {
        stores(disk).0.recover().err().expect("it must not start").0
    }

    /// Logs and applies the next entries up to this zxid.
    fn grow(txns: &mut FileTxnStore, tree: &mut Tree, to: i64) {
        for zxid in tree.zxid().0 + 1..=to {
            let entry = entry(zxid);
            tree.apply(&entry.txn, &mut Vec::new());
            txns.append(&[entry]).unwrap();
        }
        txns.sync().unwrap();
    }

    /// Snapshots at 0, 5, 10 ... and a log file from each on.
    fn aged(snapshots: i64) -> (SimDisk, Tree) {
        let disk = SimDisk::new();
        let (mut txns, mut snaps) = stores(&disk);
        let mut tree = txns.recover().unwrap().tree;
        for at in 1..snapshots {
            grow(&mut txns, &mut tree, at * 5);
            snaps.save(&tree).unwrap();
            txns.roll().unwrap();
        }
        grow(&mut txns, &mut tree, snapshots * 5);
        (disk, tree)
    }

    #[test]
    fn a_new_directory_begins_as_apaches_does() {
        let disk = SimDisk::new();
        let found = stores(&disk).0.recover().unwrap();
        assert_eq!((found.tree.zxid(), found.history.last()), (Zxid::ZERO, Zxid::ZERO));
        assert_eq!(found.epochs, Epochs::default());
        let all: Vec<_> =
            disk.list(Path::new("/d/version-2")).unwrap().into_iter().map(|file| file.0).collect();
        assert_eq!(all, [".synced", "acceptedEpoch", "currentEpoch", "snapshot.0"]);
    }

    #[test]
    fn a_purge_keeps_three_snapshots_and_the_log_behind_the_oldest() {
        let (disk, _) = aged(6);
        let kept = ["log.10", "log.15", "log.1a", "log.b", "snapshot.14", "snapshot.19", "snapshot.f"];
        assert_eq!(names(&disk), kept, "records behind 15 begin in log.10, and log.b ends with 15");
        assert_eq!(stores(&disk).0.recover().unwrap().tree.zxid(), Zxid(30));
    }

    #[test]
    fn a_purge_counts_only_sound_snapshots() {
        let (disk, mut tree) = aged(4);
        disk.rot(Path::new("/d/version-2/snapshot.a"), 60);
        let (mut txns, mut snaps) = stores(&disk);
        txns.recover().unwrap();
        grow(&mut txns, &mut tree, 25);
        snaps.save(&tree).unwrap();
        let snapshots: Vec<_> = names(&disk).into_iter().filter(|name| name.starts_with("s")).collect();
        assert_eq!(
            snapshots,
            ["snapshot.19", "snapshot.5", "snapshot.a", "snapshot.f"],
            "a is no use to anybody"
        );
    }

    #[test]
    fn a_bad_snapshot_is_skipped_if_the_log_leads_through_it() {
        let (disk, tree) = aged(3);
        disk.rot(Path::new("/d/version-2/snapshot.a"), 60);
        let found = stores(&disk).0.recover().unwrap();
        assert_eq!((found.tree.zxid(), found.tree.digest()), (tree.zxid(), tree.digest()));
        assert_eq!(found.history.base(), Zxid(5));
        remove(&disk, "log.6");
        let why = refused(&disk);
        assert!(why.contains("log.b is damaged at offset 0: it was begun behind 0xa"), "{why}");
        remove(&disk, "log.b");
        remove(&disk, ".synced");
        let why = refused(&disk);
        assert!(why.contains("snapshot.a is damaged") && why.contains("through 0xa"), "{why}");
    }

    #[test]
    fn without_a_sound_snapshot_there_is_no_start() {
        let (disk, _) = aged(1);
        remove(&disk, "snapshot.0");
        assert!(refused(&disk).contains("no snapshot to begin with in /d/version-2/, but 1 log files."));
        let mut packed = disk.create(Path::new("/d/version-2/snapshot.5.gz")).unwrap();
        packed.write_at(0, b"\x1f\x8b").unwrap();
        assert!(refused(&disk).contains("snapshot.5.gz is compressed, which is not supported: unpack it"));
    }

    #[test]
    fn an_epoch_without_transactions_is_no_new_directory() {
        let (disk, _) = aged(1);
        let mut txns = stores(&disk).0;
        txns.recover().unwrap();
        txns.save_epochs(Epochs { accepted: Epoch(2), current: Epoch(2) }).unwrap();
        remove(&disk, "snapshot.0");
        remove(&disk, "log.1");
        assert!(refused(&disk).contains("currentEpoch says 2, but there are neither snapshots nor logs"));
    }

    #[test]
    fn a_cut_removes_newer_snapshots_and_files() {
        let (disk, _) = aged(4);
        let mut txns = stores(&disk).0;
        txns.recover().unwrap();
        txns.truncate(Zxid(8)).unwrap();
        assert_eq!(names(&disk), ["log.1", "log.6", "snapshot.5"]);
        assert_eq!(txns.reload().unwrap().zxid(), Zxid(8));
        let mut tree = stores(&disk).0.recover().unwrap().tree;
        grow(&mut txns, &mut tree, 9);
        assert_eq!(names(&disk), ["log.1", "log.6", "log.9", "snapshot.5"]);
        assert_eq!(stores(&disk).0.recover().unwrap().history.last(), Zxid(9));
    }

    #[test]
    fn a_cut_to_what_is_not_there_changes_nothing() {
        let (disk, tree) = aged(3);
        let before = names(&disk);
        let mut txns = stores(&disk).0;
        txns.recover().unwrap();
        let missing = txns.truncate(Zxid::new(Epoch(1), 1)).unwrap_err();
        assert!(missing.0.contains("to 0x100000001, as the leader asks: it does not hold that"), "{missing}");
        remove(&disk, "snapshot.0");
        remove(&disk, "snapshot.5");
        let no_base = txns.truncate(Zxid(7)).unwrap_err();
        assert!(no_base.0.contains("every snapshot is newer"), "{no_base}");
        assert_eq!(
            names(&disk),
            before
                .into_iter()
                .filter(|n| !["snapshot.0", "snapshot.5"].contains(&&n[..]))
                .collect::<Vec<_>>()
        );
        assert_eq!(stores(&disk).0.recover().unwrap().tree.zxid(), tree.zxid());
    }

    #[test]
    fn a_leaders_snapshot_replaces_everything() {
        let (disk, _) = aged(2);
        let (_, leader) = aged(3);
        let (mut txns, mut snaps) = stores(&disk);
        txns.recover().unwrap();
        let mut pieces = Vec::new();
        snaps.encode(&leader, &mut |piece| pieces.push(piece));
        pieces.into_iter().for_each(|piece| snaps.receive(piece).unwrap());
        let tree = snaps.install(leader.zxid()).unwrap().unwrap();
        assert_eq!(tree.digest(), leader.digest());
        txns.reset(leader.zxid()).unwrap();
        assert_eq!(names(&disk), ["snapshot.f"]);
        assert_eq!(stores(&disk).0.recover().unwrap().history.base(), Zxid(15));
    }

    #[test]
    fn what_is_no_snapshot_of_that_zxid_is_not_installed() {
        let (disk, leader) = aged(2);
        let (_, mut snaps) = stores(&disk);
        let before = names(&disk);
        assert!(snaps.install(Zxid(10)).unwrap().is_none(), "no pieces");
        snaps.receive(Bytes::from_static(b"BenWasHere")).unwrap();
        assert!(snaps.install(Zxid(10)).unwrap().is_none());
        let mut pieces = Vec::new();
        snaps.encode(&leader, &mut |piece| pieces.push(piece));
        pieces.into_iter().for_each(|piece| snaps.receive(piece).unwrap());
        assert!(snaps.install(Zxid(11)).unwrap().is_none(), "it is of 10");
        assert_eq!(names(&disk), before);
    }

    #[test]
    fn what_a_killed_process_left_unsynced_is_durable_before_it_is_reported() {
        for seed in 0..50 {
            let disk = SimDisk::new();
            let mut txns = stores(&disk).0;
            txns.recover().unwrap();
            txns.append(&[entry(1), entry(2)]).unwrap();
            disk.kill();
            assert_eq!(stores(&disk).0.recover().unwrap().history.last(), Zxid(2));
            disk.crash(seed);
            assert_eq!(stores(&disk).0.recover().unwrap().history.last(), Zxid(2), "seed {seed}");
        }
    }

    #[test]
    fn synced_records_that_are_gone_are_missed() {
        let (disk, _) = aged(1);
        let mut log = disk.create(Path::new("/d/version-2/log.1")).unwrap();
        log.write_at(0, &file_of(&[1, 2, 3])).unwrap();
        let why = refused(&disk);
        assert!(why.contains("log.1") && why.contains("the log was durable up to 0x5"), "{why}");
    }

    #[test]
    fn slow_disks_are_reported_as_a_stall() {
        let disk = SimDisk::new();
        disk.slow_down(1, Duration::from_millis(20));
        let mut txns = stores(&disk).0;
        txns.recover().unwrap();
        assert!(txns.stall() > Duration::ZERO);
        assert_eq!(txns.stall(), Duration::ZERO);
    }
}
