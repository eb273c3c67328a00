//! Repairs that an operator has asked for. Each gives something up, so none happens by itself; what is changed or
//! taken out of the way is kept beside, in a directory named for the moment.
//!
//! Every step leaves a directory that starts into what was there before, or is refused as before, or starts into
//! the repaired state: a repair that was cut short is done again.
//!
//! Who gives up transactions may give up what others were promised. So the server is noted as one without a vote
//! first ([`DOUBT`]): beside others it gets back what it lacks before it has a say.

use std::io::Read;
use std::path::{Path, PathBuf};

use zabra_actors::core::tree::Tree;
use zabra_actors::types::{Epoch, Epochs, Fault, Zxid};

use super::data_dir::{DataDir, Files, SnapFile, VERSION_2, explain, log_name};
use super::epochs;
use super::load::load;
use super::log_reader::HEADER;
use super::refusal::Refusal;
use super::snap_store::verify;
use super::snapshot;
use super::sync_mark::{self, SyncMark};
use super::txn_store::DOUBT;

/// What is to be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Everything here: the leader of the others has it.
    Resync,
    /// What follows the first damage in the log.
    Cut,
    /// Snapshots that cannot be read, and what only they hold.
    DropDamaged,
    /// What was before the log, if anything was.
    BeginEmpty,
    /// What was in a log that is not here, if there was one.
    NoLog,
    /// What the epoch files said.
    Epochs,
    /// The caution of a server that may lack something.
    Trust,
}

/// By how much an epoch that nobody has had yet is above all that are known here: leaders that this server was
/// not told of may have had some.
const EPOCHS_AHEAD: u32 = 1000;

/// Damage may hide damage behind it; but each cut ends the log earlier.
const MAX_CUTS: usize = 8;

/// Carries out a repair. `stamp` names the directory in which the old files are kept. What was done, a line each.
pub(super) fn repair(dir: &DataDir, how: Remedy, stamp: &str) -> Result<Vec<String>, Fault> {
    let mut work = Work { dir, kept: format!("before-repair-{stamp}"), done: Vec::new() };
    match how {
        Remedy::Resync => work.resync()?,
        Remedy::Cut => work.cut()?,
        Remedy::DropDamaged => work.drop_damaged()?,
        Remedy::BeginEmpty => work.begin_empty()?,
        Remedy::NoLog => work.no_log()?,
        Remedy::Epochs => work.new_epochs()?,
        Remedy::Trust => work.trust()?,
    }
    Ok(work.done)
}

struct Work<'a> {
    dir: &'a DataDir,
    /// The directory's name for what is kept.
    kept: String,
    done: Vec<String>,
}

impl Work<'_> {
    fn tell(&mut self, line: String) {
        self.done.push(line);
    }

    fn resync(&mut self) -> Result<(), Fault> {
        self.doubt()?;
        let files = self.dir.list()?;
        // The mark goes last: as long as it is there, a start misses what is gone.
        let logs = files.logs.iter().rev().map(|first| log_name(*first));
        let snapshots = files.snapshots.iter().rev().map(|snapshot| snapshot.name.clone());
        let others = files.others.iter().filter(|name| !self.stays(name)).cloned();
        let names: Vec<_> = logs.chain(snapshots).chain(others).collect();
        for name in names.iter().chain([&sync_mark::NAME.to_string()]) {
            self.take_away(name)?;
        }
        self.tell(
            "the server starts empty, and has no vote until a leader has brought it in step".to_string(),
        );
        self.tell(
            "only for a server of an ensemble whose others are well: on its own it would be empty"
                .to_string(),
        );
        Ok(())
    }

    /// The promises to leaders are kept, and what is needed for this repair.
    fn stays(&self, name: &str) -> bool {
        [epochs::ACCEPTED, DOUBT, sync_mark::NAME, ".lock"].contains(&name)
    }

    fn cut(&mut self) -> Result<(), Fault> {
        for _ in 0..MAX_CUTS {
            let files = self.dir.list()?;
            match load(self.dir, &files) {
                Ok(loaded) => match loaded.doubt {
                    Some(Refusal::Damage { file, offset, last, .. }) => {
                        self.cut_at(&files, file, offset, last)?
                    }
                    _ => return self.was_cut(loaded.history.last()),
                },
                Err(Refusal::Damage { file, offset, last, .. }) => self.cut_at(&files, file, offset, last)?,
                Err(Refusal::Lost { last, .. }) => {
                    self.doubt()?;
                    self.end_log_at(&files, last)?;
                    self.tell(format!("the log is taken to end at {last}, where it does"));
                }
                Err(other) => return Err(other.fault(self.dir)),
            }
        }
        Err(Fault("the log makes no sense in too many places: restore a backup".to_string()))
    }

    fn was_cut(&mut self, last: Zxid) -> Result<(), Fault> {
        if self.done.is_empty() {
            self.tell(format!("nothing to cut: the log is sound up to its end, {last}"));
        }
        Ok(())
    }

    fn cut_at(&mut self, files: &Files, file: Zxid, offset: u64, last: Zxid) -> Result<(), Fault> {
        self.doubt()?;
        let newer = files.logs.iter().rev().filter(|first| **first > file);
        for first in newer {
            self.take_away(&log_name(*first))?;
        }
        // What is newer than the log that is left could only be one of those that cannot be read.
        for snapshot in files.snapshots.iter().filter(|snapshot| snapshot.zxid > last) {
            self.take_away(&snapshot.name)?;
        }
        self.end_log_at(files, last)?;
        let name = log_name(file);
        if offset <= HEADER as u64 {
            return self.take_away(&name);
        }
        self.keep_copy(&name)?;
        let path = self.dir.path(&name);
        let mut handle = self.dir.open_file(&name)?;
        explain("cut", &path, handle.set_len(offset).and_then(|()| handle.sync()))?;
        self.tell(format!("cut {} at offset {offset}: the log ends at {last}", path.display()));
        Ok(())
    }

    /// The mark no longer vouches for what is given up.
    fn end_log_at(&self, files: &Files, last: Zxid) -> Result<(), Fault> {
        let newest = files.logs.iter().rev().find(|first| **first <= last).copied();
        SyncMark { file: newest.unwrap_or(last), synced: last }.replace(self.dir).map(|_| ())
    }

    fn drop_damaged(&mut self) -> Result<(), Fault> {
        let files = self.dir.list()?;
        let mut damaged = Vec::new();
        for snapshot in &files.snapshots {
            if !verify(self.dir, snapshot)? {
                damaged.push(snapshot.clone());
            }
        }
        if damaged.is_empty() {
            self.tell("every snapshot can be read".to_string());
            return Ok(());
        }
        if damaged.len() == files.snapshots.len() {
            return Err(Fault(format!(
                "no snapshot in {}/ can be read, so that none is dropped: run `{}` if the rest of the ensemble is \
                 well, else restore a backup",
                self.dir.snapshots().display(),
                self.dir.repair_command("--resync")
            )));
        }
        let gone = matches!(load(self.dir, &files), Err(Refusal::Gone { .. }));
        if gone {
            self.doubt()?;
        }
        for SnapFile { name, .. } in &damaged {
            self.take_away(name)?;
        }
        Ok(())
    }

    fn begin_empty(&mut self) -> Result<(), Fault> {
        let files = self.dir.list()?;
        match load(self.dir, &files) {
            Err(Refusal::NoSnapshot { first_log: Some(first), damaged }) if first.counter() == 1 => {
                for (SnapFile { name, .. }, _) in damaged {
                    self.take_away(&name)?;
                }
                let saved = snapshot::save(self.dir, &Tree::new())?;
                self.tell(format!("wrote {}, an empty tree", self.dir.path(&saved.name).display()));
                Ok(())
            }
            Err(Refusal::NoSnapshot { first_log, .. }) => Err(Fault(format!(
                "the log in {}/ does not go back to the beginning: its first file is {}; restore a backup",
                self.dir.logs().display(),
                first_log.map_or("none".to_string(), log_name)
            ))),
            Err(other) => Err(other.fault(self.dir)),
            Ok(loaded) => {
                self.tell(format!("nothing to do: {} is there to begin with", loaded.snapshot.name));
                Ok(())
            }
        }
    }

    fn no_log(&mut self) -> Result<(), Fault> {
        match load(self.dir, &self.dir.list()?) {
            Err(Refusal::NoLog { snapshot }) => {
                let zxid = snapshot.zxid;
                SyncMark { file: zxid, synced: zxid }.replace(self.dir)?;
                self.tell(format!("{} is all there is: the log begins behind {zxid}", snapshot.name));
                Ok(())
            }
            Err(other) => Err(other.fault(self.dir)),
            Ok(_) => {
                self.tell("nothing to do: there is a log, or no need of one".to_string());
                Ok(())
            }
        }
    }

    fn new_epochs(&mut self) -> Result<(), Fault> {
        let loaded = load(self.dir, &self.dir.list()?).map_err(|refusal| refusal.fault(self.dir))?;
        let last = loaded.history.last();
        if epochs::judge(self.dir, last).is_ok() {
            self.tell("nothing to do: the epoch files make sense".to_string());
            return Ok(());
        }
        let known = |name| -> Result<Option<Epoch>, Fault> {
            Ok(self.dir.first_line(name)?.and_then(|text| text.parse().ok()).map(Epoch))
        };
        let (accepted, current) = (known(epochs::ACCEPTED)?, known(epochs::CURRENT)?);
        for name in [epochs::ACCEPTED, epochs::CURRENT] {
            if self.dir.first_line(name)?.is_some() {
                self.keep_copy(name)?;
            }
        }
        let current = current.unwrap_or_default().max(last.epoch());
        let newest = accepted.unwrap_or_default().max(current);
        let new = Epochs { accepted: Epoch(newest.0.saturating_add(EPOCHS_AHEAD)), current };
        epochs::write(self.dir, new)?;
        self.tell(format!(
            "wrote acceptedEpoch {}, which no leader has had, and currentEpoch {current}",
            new.accepted
        ));
        Ok(())
    }

    fn trust(&mut self) -> Result<(), Fault> {
        if self.dir.first_line(DOUBT)?.is_none() {
            self.tell("nothing to do: this server has its vote".to_string());
            return Ok(());
        }
        self.dir.remove(DOUBT)?;
        self.dir.sync_names()?;
        self.tell("this server has its vote again, as it is".to_string());
        Ok(())
    }

    /// From here on the server may lack what it has acknowledged.
    fn doubt(&mut self) -> Result<(), Fault> {
        if self.dir.first_line(DOUBT)?.is_none() {
            self.dir.replace(DOUBT, b"1")?;
            self.tell(
                "beside others this server has no vote until a leader has brought it in step".to_string(),
            );
        }
        Ok(())
    }

    /// Where a file of this directory is kept.
    fn place_of(&self, path: &Path) -> Result<PathBuf, Fault> {
        let root = path.parent().and_then(Path::parent).expect("it is in version-2 of a directory");
        let place = root.join(&self.kept).join(VERSION_2);
        explain("create the directory", &place, self.dir.disk.create_dir_all(&place))?;
        Ok(place.join(path.file_name().expect("it has a name")))
    }

    /// Moves a file out of the way, if it is there.
    fn take_away(&mut self, name: &str) -> Result<(), Fault> {
        let from = self.dir.path(name);
        let to = self.place_of(&from)?;
        match self.dir.disk.rename(&from, &to) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => explain("move a file to", &to, other)?,
        }
        self.sync_names_of(&to)?;
        self.tell(format!("moved {} to {}", from.display(), to.display()));
        Ok(())
    }

    /// Copies a file that is about to be changed.
    fn keep_copy(&mut self, name: &str) -> Result<(), Fault> {
        let from = self.dir.path(name);
        let to = self.place_of(&from)?;
        copy(self.dir, &from, &to)?;
        self.sync_names_of(&to)?;
        self.tell(format!("copied {} to {}", from.display(), to.display()));
        Ok(())
    }

    fn sync_names_of(&self, kept: &Path) -> Result<(), Fault> {
        let place = kept.parent().expect("it is in a directory");
        explain("fsync the directory", place, self.dir.disk.sync_dir(place))?;
        self.dir.sync_names()
    }
}

/// Copies a file's bytes, durably but for its name.
pub(super) fn copy(dir: &DataDir, from: &Path, to: &Path) -> Result<u64, Fault> {
    const PIECE: usize = 1 << 20;
    let mut input = explain("open", from, dir.disk.read(from))?;
    let mut output = explain("create", to, dir.disk.create(to))?;
    let mut piece = Vec::with_capacity(PIECE);
    let mut offset = 0;
    loop {
        piece.clear();
        explain("read", from, input.by_ref().take(PIECE as u64).read_to_end(&mut piece))?;
        if piece.is_empty() {
            break;
        }
        explain("write", to, output.write_at(offset, &piece))?;
        offset += piece.len() as u64;
    }
    explain("fsync", to, output.sync())?;
    Ok(offset)
}
