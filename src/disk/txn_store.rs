//! The port of the transaction log over a server's directory: [`FileTxnStore`].

use std::sync::Arc;
use std::time::Duration;

use zabra_actors::core::tree::Tree;
use zabra_actors::ports::{Recovered, TxnStore};
use zabra_actors::types::{Entry, Epochs, Fault, Zxid};

use super::data_dir::{DataDir, Files, explain, log_name};
use super::load::{Loaded, load};
use super::log::LogWriter;
use super::log_reader::{LogReader, Next};
use super::replay::{Repair, files_after};
use super::{epochs, install, snapshot};

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

    /// What a crash left unfinished: nobody refers to it.
    fn remove_leftovers(&self, files: &Files) -> Result<(), Fault> {
        for name in &files.others {
            if name == install::RECEIVED || name.starts_with(snapshot::UNFINISHED) {
                self.dir.remove(name)?;
            }
        }
        Ok(())
    }

    /// A new directory gets the snapshot that Apache begins with; a server of Apache could go on from it.
    fn begin_if_new(&self, files: Files) -> Result<Files, Fault> {
        if !(files.snapshots.is_empty() && files.logs.is_empty()) {
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
        for file in files_after(&files.logs, loaded.snapshot.zxid).iter().filter(|file| !removed(**file)) {
            self.dir.sync_file(&log_name(*file))?;
        }
        self.dir.sync_file(&loaded.snapshot.name)?;
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
        install::finish(&self.dir)?;
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
        let base = files.snapshots.iter().rev().map(|file| file.zxid).find(|zxid| *zxid <= to);
        if base.is_none() || !(found || base == Some(to)) {
            return Err(Fault(format!(
                "cannot cut the log in {}/ to {to}, as the leader asks: {}. Let the server start empty (remove \
                 version-2), and it gets everything from the leader",
                self.dir.logs().display(),
                if found { "every snapshot is newer" } else { "it does not hold that transaction" }
            )));
        }
        // The mark is lowered before anything is gone that it vouches for.
        let newest = files.logs.iter().rev().find(|first| **first <= to).copied();
        self.open().log = LogWriter::after(self.dir.clone(), to, newest)?;
        // Then what could bring back what is cut: snapshots first, the newest log files next.
        for snapshot in files.snapshots.iter().filter(|file| file.zxid > to) {
            self.dir.remove(&snapshot.name)?;
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
        if !install::is_there(&self.dir, zxid)? {
            return Err(Fault(format!(
                "{} is not there: the log is not forgotten without the snapshot that replaces it",
                self.dir.path(&install::installed(zxid).name).display()
            )));
        }
        install::note(&self.dir, zxid)?;
        install::remove_all_but(&self.dir, zxid)?;
        self.open().log = LogWriter::after(self.dir.clone(), zxid, None)?;
        install::done(&self.dir)
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
