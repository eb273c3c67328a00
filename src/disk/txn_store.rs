//! The port of the transaction log over a server's directory: [`FileTxnStore`].

use std::sync::Arc;
use std::time::Duration;

use slog::{info, warn};
use zabra_actors::core::tree::Tree;
use zabra_actors::ports::{Recovered, Room, TxnStore};
use zabra_actors::types::{Entry, Epochs, Fault, Zxid};

use super::data_dir::{DataDir, Files, explain, log_name};
use super::load::{Loaded, load};
use super::log::LogWriter;
use super::log_reader::{LogReader, Next};
use super::refusal::Refusal;
use super::replay::{Repair, files_after};
use super::sync_mark::SyncMark;
use super::{epochs, install, snapshot};

/// Its presence says that this server may lack what others rely on: see [`Recovered::doubtful`].
pub(super) const DOUBT: &str = ".recovering";

/// Its presence says that the tree has differed from a leader's: see [`Recovered::diverged`].
pub(super) const DIVERGED: &str = ".diverged";

/// How much more than what must be free has to be there before a disk that was nearly full is not any more, in bytes.
const COMFORT: u64 = 16 << 20;

/// The transaction log and the epoch files of a directory.
pub struct FileTxnStore {
    dir: Arc<DataDir>,
    /// Known once recovered.
    open: Option<Open>,
    /// The disk was nearly full when it was looked at last.
    low: bool,
}

struct Open {
    log: LogWriter,
    epochs: Epochs,
}

impl FileTxnStore {
    pub(super) fn new(dir: Arc<DataDir>) -> FileTxnStore {
        FileTxnStore { dir, open: None, low: false }
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
    fn begin_if_new(&self, files: Files) -> Result<Files, Refusal> {
        if !(files.snapshots.is_empty() && files.logs.is_empty()) {
            return Ok(files);
        }
        if let Some(epoch) = self.dir.first_line("currentEpoch")?.filter(|epoch| epoch != "0") {
            return Err(Refusal::Emptied { epoch });
        }
        let empty = Tree::new();
        SyncMark { file: empty.zxid(), synced: empty.zxid() }.replace(&self.dir)?;
        snapshot::save(&self.dir, &empty)?;
        Ok(self.dir.list()?)
    }

    fn load_all(&mut self) -> Result<Recovered, Refusal> {
        install::finish(&self.dir)?;
        let files = self.dir.list()?;
        self.remove_leftovers(&files)?;
        let files = self.begin_if_new(files)?;
        let mut loaded = load(&self.dir, &files)?;
        let doubtful = self.weigh(loaded.doubt.take(), loaded.history.last())?;
        let diverged = self.weigh_divergence()?;
        self.settle(&files, &loaded)?;
        let last = loaded.history.last();
        let epochs = epochs::recover(&self.dir, last)?;
        if loaded.foreign {
            self.tell_found(&files, &loaded, epochs);
        }
        let newest = self.dir.list()?.logs.last().copied();
        self.open = Some(Open { log: LogWriter::after(self.dir.clone(), last, newest)?, epochs });
        Ok(Recovered { tree: loaded.tree, history: loaded.history, epochs, doubtful, diverged })
    }

    /// May a transaction be missing that others rely on? Then this server must have everything from a leader
    /// before its vote counts again, also after another restart. On its own it could only be wrong in silence,
    /// so there an operator has to say that it may.
    fn weigh(&self, doubt: Option<Refusal>, last: Zxid) -> Result<bool, Refusal> {
        let noted = self.dir.first_line(DOUBT)?.is_some();
        match doubt {
            Some(refusal) if self.dir.settings.alone => Err(refusal),
            Some(refusal) => {
                warn!(self.dir.log, "a transaction at the end of the log is lost, and may have been acknowledged: this \
                    server has no vote until a leader has brought it in step"; "because" => refusal.what(&self.dir));
                self.dir.replace(DOUBT, b"1")?;
                Ok(true)
            }
            // Emptied to get everything from a leader, and there is none.
            None if noted && self.dir.settings.alone && last == Zxid::ZERO => Err(Refusal::NoLeader),
            None if noted && self.dir.settings.alone => {
                warn!(
                    self.dir.log,
                    "there is no other server to get anything from: going on with what is here"
                );
                self.end_doubt()?;
                Ok(false)
            }
            None => {
                if noted {
                    warn!(
                        self.dir.log,
                        "this server has no vote until a leader has brought it in step; if every \
                        server says so, run `{}` for one with the newest log",
                        self.dir.repair_command("--trust")
                    );
                }
                Ok(noted)
            }
        }
    }

    /// Has the tree differed from a leader's, and has nobody's snapshot replaced it yet? Alone there is nobody to
    /// differ from.
    fn weigh_divergence(&self) -> Result<bool, Fault> {
        if self.dir.first_line(DIVERGED)?.is_none() {
            return Ok(false);
        }
        if self.dir.settings.alone {
            warn!(
                self.dir.log,
                "the tree has differed from that of a leader, and there is no other server any more to \
                get it from: going on with what is here"
            );
            install::end_divergence(&self.dir)?;
            self.dir.sync_names()?;
            return Ok(false);
        }
        warn!(
            self.dir.log,
            "the tree has differed from that of a leader: a snapshot of the leader will replace it"
        );
        Ok(true)
    }

    fn end_doubt(&self) -> Result<(), Fault> {
        self.dir.remove(DOUBT)?;
        self.dir.sync_names()
    }

    /// Whoever points a server at a directory of Apache's, or at one from elsewhere, is told what it is.
    fn tell_found(&self, files: &Files, loaded: &Loaded, epochs: Epochs) {
        info!(self.dir.log, "found a directory that another server, as Apache's, has written last; going on from it";
            "myid" => %self.dir.settings.id,
            "accepted epoch" => %epochs.accepted, "current epoch" => %epochs.current,
            "last zxid" => %loaded.history.last(),
            "znodes" => loaded.tree.node_count(), "ephemerals" => loaded.tree.ephemeral_count(),
            "sessions" => loaded.tree.sessions().len(),
            "snapshots" => files.snapshots.len(), "begun with" => &loaded.snapshot.name, "logs" => files.logs.len());
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
        self.load_all().map_err(|refusal| refusal.fault(&self.dir))
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
                "cannot cut the log in {}/ to {to}, as the leader asks: {}. Run `{}`, and the server gets everything \
                 from the leader",
                self.dir.logs().display(),
                if found { "every snapshot is newer" } else { "it does not hold that transaction" },
                self.dir.repair_command("--resync")
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
        install::end_divergence(&self.dir)?;
        install::done(&self.dir)
    }

    fn reload(&mut self) -> Result<Tree, Fault> {
        self.open().log.sync()?;
        let loaded = load(&self.dir, &self.dir.list()?);
        Ok(loaded.map_err(|refusal| refusal.fault(&self.dir))?.tree)
    }

    fn save_epochs(&mut self, epochs: Epochs) -> Result<(), Fault> {
        let old = self.open().epochs;
        epochs::save(&self.dir, old, epochs)?;
        self.open().epochs = epochs;
        Ok(())
    }

    fn room(&mut self) -> Result<Room, Fault> {
        let (free, min) = (self.dir.free()?, self.dir.settings.min_free);
        // Nearly full until there is some more, so that it does not come and go with each file.
        let more = if self.low { (min / 8).min(COMFORT) } else { 0 };
        self.low = free < min + more;
        Ok(Room { free, low: self.low })
    }

    fn trust(&mut self) -> Result<(), Fault> {
        self.end_doubt()
    }

    fn distrust(&mut self) -> Result<(), Fault> {
        self.dir.replace(DIVERGED, b"1")
    }

    fn stall(&mut self) -> Duration {
        self.dir.disk.stall()
    }
}
