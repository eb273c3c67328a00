//! A server's directory: which files are in it, what they are called, and how one is replaced so that a
//! crash leaves either the old or the new one.
//!
//! Both stores share one `DataDir`. They need no lock between them: the log's owner alone touches the newest
//! log file, what a purge removes lies before every snapshot that anybody still loads, and removing what is
//! gone already is no error.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use slog::{Logger, o};
use zabra_actors::types::{Fault, Sid, Zxid};

use super::compression::Compression;
use super::fs::{Disk, DiskFile};
use super::sync_mark;

/// The directory in a directory; Apache's number for its formats.
pub(super) const VERSION_2: &str = "version-2";

/// By how much a log file grows ahead of its records, in bytes (Apache's preAllocSize): an fsync is
/// cheaper when the length of the file stays.
pub const PREALLOCATE: u64 = 64 << 20;

/// Fewer snapshots are never kept: one may be damaged, and one may be in use.
pub const MIN_RETAIN: usize = 3;

/// What the stores are told.
#[derive(Clone, Debug)]
pub struct DiskSettings {
    /// The server's directory, `data/<id>`; Apache's dataDir.
    pub dir: PathBuf,
    /// The log's own directory, if it has one; Apache's dataLogDir.
    pub log_dir: Option<PathBuf>,
    /// The server's id, kept in `myid` so that a directory cannot be mistaken for another server's.
    pub id: Sid,
    /// See [`PREALLOCATE`]; 0 is off.
    pub preallocate: u64,
    /// Verified snapshots that a purge keeps; at least [`MIN_RETAIN`].
    pub retain: usize,
    /// How snapshots are written. They are read however they are.
    pub compression: Compression,
    /// There is no other server that this one could get its data from.
    pub alone: bool,
    /// With less room than this the disk counts as nearly full, in bytes; 0 is never.
    pub min_free: u64,
}

impl DiskSettings {
    /// The defaults for a directory.
    pub fn new(dir: impl Into<PathBuf>, id: Sid) -> DiskSettings {
        DiskSettings {
            dir: dir.into(),
            log_dir: None,
            id,
            preallocate: PREALLOCATE,
            retain: MIN_RETAIN,
            compression: Compression::None,
            alone: false,
            min_free: 0,
        }
    }
}

/// The directory, open and locked.
pub(super) struct DataDir {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) settings: DiskSettings,
    pub(super) log: Logger,
    /// `<dir>/version-2`.
    files: PathBuf,
    /// Where the log is: `<log_dir>/version-2`, mostly the same.
    logs: PathBuf,
    _locks: Vec<Box<dyn Send + Sync>>,
}

/// The file of a snapshot. A later one is greater.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapFile {
    /// What it has in its name: the tree is, or was when it was begun, at this transaction.
    pub zxid: Zxid,
    /// Its name.
    pub name: String,
}

impl SnapFile {
    /// `snapshot.<hex>` and the compression's suffix.
    pub(super) fn new(zxid: Zxid, compression: Compression) -> SnapFile {
        SnapFile { zxid, name: format!("snapshot.{:x}{}", zxid.0, compression.suffix()) }
    }

    /// Reads a name; `None` when it is none of a snapshot.
    pub(super) fn parse(name: &str) -> Option<SnapFile> {
        let (zxid, _) = parse("snapshot.", name)?;
        Some(SnapFile { zxid, name: name.to_string() })
    }

    /// As its suffix says.
    pub(super) fn compression(&self) -> Compression {
        let suffix = parse("snapshot.", &self.name).map_or("", |(_, suffix)| suffix);
        Compression::of_suffix(suffix)
    }
}

/// The log files and snapshots of a directory.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Names of log files, ascending: the zxid of the first record of each.
    pub(super) logs: Vec<Zxid>,
    /// Snapshots, ascending.
    pub(super) snapshots: Vec<SnapFile>,
    /// All the rest.
    pub(super) others: Vec<String>,
    /// How long each is.
    lengths: BTreeMap<String, u64>,
}

impl Files {
    /// How long a file is, in bytes.
    pub(super) fn bytes(&self, name: &str) -> u64 {
        self.lengths.get(name).copied().unwrap_or_default()
    }
}

impl DataDir {
    /// A server's directory: made when it is not there, locked, and marked as that server's.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        settings: DiskSettings,
        log: Logger,
    ) -> Result<Arc<DataDir>, Fault> {
        let dir = DataDir::open_anyones(disk, settings, log)?;
        dir.check_id()?;
        Ok(dir)
    }

    /// The same, whosever it is.
    pub(super) fn open_anyones(
        disk: Arc<dyn Disk>,
        settings: DiskSettings,
        log: Logger,
    ) -> Result<Arc<DataDir>, Fault> {
        let files = settings.dir.join(VERSION_2);
        let logs = settings.log_dir.as_ref().unwrap_or(&settings.dir).join(VERSION_2);
        let mut locks = Vec::new();
        for dir in [&files, &logs] {
            explain("create the directory", dir, disk.create_dir_all(dir))?;
            if locks.is_empty() || logs != files {
                locks.push(lock(disk.as_ref(), &dir.join(".lock"))?);
            }
        }
        let log = log.new(o!("dir" => files.display().to_string()));
        let dir = DataDir { disk, settings, log, files, logs, _locks: locks };
        dir.check_places()?;
        Ok(Arc::new(dir))
    }

    /// A directory to look at: nothing is made or locked, and nothing is logged.
    pub(super) fn to_read(disk: Arc<dyn Disk>, settings: DiskSettings) -> Result<Arc<DataDir>, Fault> {
        let files = settings.dir.join(VERSION_2);
        let logs = settings.log_dir.as_ref().unwrap_or(&settings.dir).join(VERSION_2);
        let log = Logger::root(slog::Discard, o!());
        let dir = DataDir { disk, settings, log, files, logs, _locks: Vec::new() };
        dir.check_places()?;
        Ok(Arc::new(dir))
    }

    /// What `myid` says, if it is there.
    pub(super) fn myid(&self) -> Result<Option<String>, Fault> {
        Ok(self.text(&self.settings.dir.join("myid"))?.map(|text| text.trim().to_string()))
    }

    /// With two directories, each file must be in its own: a start without those that are not would be one
    /// without what they hold.
    fn check_places(&self) -> Result<(), Fault> {
        if self.logs == self.files {
            return Ok(());
        }
        let astray = |dir: &Path, is_astray: fn(&str) -> bool| {
            let names = explain("list", dir, self.disk.list(dir))?;
            Ok(names.into_iter().map(|(name, _)| name).find(|name| is_astray(name)))
        };
        let (kind, file, place) = match astray(&self.files, |name| parse("log.", name).is_some())? {
            Some(name) => ("a log file", self.files.join(name), &self.logs),
            None => match astray(&self.logs, |name| SnapFile::parse(name).is_some())? {
                Some(name) => ("a snapshot", self.logs.join(name), &self.files),
                None => return Ok(()),
            },
        };
        Err(Fault(format!(
            "{} is {kind} in the wrong directory: with cluster.txn_log_dir snapshots and logs are apart; move such \
             files to {}, or leave txn_log_dir out",
            file.display(),
            place.display()
        )))
    }

    /// `myid` says whose directory this is; a new one is marked as ours.
    fn check_id(&self) -> Result<(), Fault> {
        let root = &self.settings.dir;
        let ours = self.settings.id;
        let Some(text) = self.myid()? else {
            return self.replace_in(root, "myid", format!("{ours}\n").as_bytes());
        };
        // Nothing but an unfinished first start leaves it empty.
        if text.is_empty() {
            return self.replace_in(root, "myid", format!("{ours}\n").as_bytes());
        }
        if text.parse() == Ok(ours.0) {
            return Ok(());
        }
        Err(Fault(format!(
            "{} says {text:?}, but this server's id is {ours}: it is another server's directory; correct \
             data_dir or the id",
            root.join("myid").display()
        )))
    }

    /// The path of a file in `version-2`.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        let of_the_log = name.starts_with("log.") || name == sync_mark::NAME;
        if of_the_log { self.logs.join(name) } else { self.files.join(name) }
    }

    /// Where the log is.
    pub(super) fn logs(&self) -> &Path {
        &self.logs
    }

    /// Where everything else is.
    pub(super) fn snapshots(&self) -> &Path {
        &self.files
    }

    /// The command that repairs this directory in this way.
    pub(super) fn repair_command(&self, how: &str) -> String {
        let log_dir = match &self.settings.log_dir {
            Some(dir) => format!(" --txn-log-dir {}", dir.display()),
            None => String::new(),
        };
        format!("zabra data repair {}{log_dir} {how}", self.settings.dir.display())
    }

    pub(super) fn list(&self) -> Result<Files, Fault> {
        let mut found = Files::default();
        let mut names = explain("list", &self.files, self.disk.list(&self.files))?;
        if self.logs != self.files {
            names.extend(explain("list", &self.logs, self.disk.list(&self.logs))?);
        }
        for (name, len) in names {
            found.lengths.insert(name.clone(), len);
            match (parse("log.", &name), SnapFile::parse(&name)) {
                (Some((zxid, "")), _) => found.logs.push(zxid),
                (_, Some(snapshot)) => found.snapshots.push(snapshot),
                _ => found.others.push(name),
            }
        }
        found.logs.sort();
        found.snapshots.sort();
        Ok(found)
    }

    pub(super) fn create(&self, name: &str) -> Result<Box<dyn DiskFile>, Fault> {
        let path = self.path(name);
        explain("create", &path, self.disk.create(&path))
    }

    pub(super) fn open_file(&self, name: &str) -> Result<Box<dyn DiskFile>, Fault> {
        let path = self.path(name);
        explain("open", &path, self.disk.open(&path))
    }

    pub(super) fn read(&self, name: &str) -> Result<Box<dyn Read + Send>, Fault> {
        let path = self.path(name);
        explain("open", &path, self.disk.read(&path))
    }

    /// A snapshot's plain bytes.
    pub(super) fn read_snapshot(&self, file: &SnapFile) -> Result<Box<dyn Read + Send>, Fault> {
        Ok(file.compression().reader(self.read(&file.name)?))
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), Fault> {
        let to = self.path(to);
        explain("rename a file to", &to, self.disk.rename(&self.path(from), &to))
    }

    /// Removes a file; one that is gone already is none the worse.
    pub(super) fn remove(&self, name: &str) -> Result<(), Fault> {
        let path = self.path(name);
        match self.disk.remove(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => explain("remove", &path, other),
        }
    }

    /// Bytes left where there is less: for the log, or for everything else.
    pub(super) fn free(&self) -> Result<u64, Fault> {
        let free = |dir: &Path| explain("look for room on the disk of", dir, self.disk.free(dir));
        Ok(free(&self.files)?.min(free(&self.logs)?))
    }

    /// Makes creations, renames and removals durable.
    pub(super) fn sync_names(&self) -> Result<(), Fault> {
        explain("fsync the directory", &self.files, self.disk.sync_dir(&self.files))?;
        if self.logs == self.files {
            return Ok(());
        }
        explain("fsync the directory", &self.logs, self.disk.sync_dir(&self.logs))
    }

    /// Makes the content of a file durable that somebody may have written without.
    pub(super) fn sync_file(&self, name: &str) -> Result<(), Fault> {
        explain("fsync", &self.path(name), self.open_file(name)?.sync())
    }

    /// The first line of a small file of text, trimmed; `None` when there is no such file.
    pub(super) fn first_line(&self, name: &str) -> Result<Option<String>, Fault> {
        self.text(&self.path(name))
    }

    /// Replaces a small file: durable when this returns, and at a crash either the old or the new.
    pub(super) fn replace(&self, name: &str, content: &[u8]) -> Result<(), Fault> {
        let path = self.path(name);
        self.replace_in(path.parent().expect("it is in a directory"), name, content)
    }

    fn replace_in(&self, dir: &Path, name: &str, content: &[u8]) -> Result<(), Fault> {
        // Apache's name for the new file, so that each understands what the other left behind.
        let new = dir.join(format!("{name}.tmp"));
        let write = || {
            let mut file = self.disk.create(&new)?;
            file.write_at(0, content)?;
            file.sync()?;
            self.disk.rename(&new, &dir.join(name))?;
            self.disk.sync_dir(dir)
        };
        explain("replace", &dir.join(name), write())
    }

    fn text(&self, path: &Path) -> Result<Option<String>, Fault> {
        /// Bytes read at most: these files hold one number.
        const LIMIT: u64 = 64;
        let reader = match self.disk.read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => explain("open", path, other)?,
        };
        let mut bytes = Vec::new();
        explain("read", path, reader.take(LIMIT).read_to_end(&mut bytes))?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(Some(text.lines().next().unwrap_or("").to_string()))
    }
}

/// `log.<hex>`.
pub(super) fn log_name(first: Zxid) -> String {
    format!("log.{:x}", first.0)
}

/// The zxid in a file's name, and what follows it (a compression's suffix).
fn parse<'a>(prefix: &str, name: &'a str) -> Option<(Zxid, &'a str)> {
    let rest = name.strip_prefix(prefix).filter(|rest| !rest.contains('/'))?;
    let end = rest.find('.').unwrap_or(rest.len());
    // No sign, and nothing negative: Apache ignores those files, and so do we.
    let digits = rest[..end].bytes().all(|b| b.is_ascii_hexdigit()).then_some(&rest[..end])?;
    Some((Zxid(i64::from_str_radix(digits, 16).ok()?), &rest[end..]))
}

fn lock(disk: &dyn Disk, file: &Path) -> Result<Box<dyn Send + Sync>, Fault> {
    disk.lock(file).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Fault(format!(
            "{} is locked: another server is running in this directory; stop it, or give this one a directory of \
             its own",
            file.display()
        )),
        _ => fault("lock", file, error),
    })
}

/// A disk's error with what was being done, to what, and what may help.
pub(super) fn fault(doing: impl Display, path: &Path, error: io::Error) -> Fault {
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull => "; make room on this file system, then start the server again",
        io::ErrorKind::PermissionDenied => "; the server's user needs to own this directory",
        _ => "",
    };
    Fault(format!("cannot {doing} {}: {error}{remedy}", path.display()))
}

/// Makes a fault of an error.
pub(super) fn explain<T>(doing: impl Display, path: &Path, result: io::Result<T>) -> Result<T, Fault> {
    result.map_err(|error| fault(doing, path, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;

    fn settings(id: u8) -> DiskSettings {
        DiskSettings::new("/d", Sid(id))
    }

    fn logger() -> Logger {
        Logger::root(slog::Discard, o!())
    }

    #[test]
    fn names_are_parsed_as_apache_does() {
        assert_eq!(parse("log.", "log.100000001"), Some((Zxid(0x1_0000_0001), "")));
        assert_eq!(parse("snapshot.", "snapshot.0"), Some((Zxid::ZERO, "")));
        assert_eq!(parse("snapshot.", "snapshot.f.gz"), Some((Zxid(15), ".gz")));
        for strange in ["log.", "log.-1", "log.+1", "log.xyz", "log.ffffffffffffffff", "logs.1", "log"] {
            assert_eq!(parse("log.", strange), None, "{strange}");
        }
    }

    #[test]
    fn a_directory_belongs_to_one_id() {
        let disk = Arc::new(SimDisk::new());
        DataDir::open(disk.clone(), settings(1), logger()).unwrap();
        DataDir::open(disk.clone(), settings(1), logger()).unwrap();
        let refused = DataDir::open(disk, settings(2), logger()).err().unwrap();
        assert!(refused.0.contains("/d/myid says \"1\", but this server's id is 2"), "{refused}");
    }

    #[test]
    fn a_directory_belongs_to_one_process() {
        let temp = tempfile::tempdir().unwrap();
        let settings = DiskSettings::new(temp.path(), Sid(1));
        let held = DataDir::open(Arc::new(crate::disk::RealDisk), settings.clone(), logger()).unwrap();
        let refused = DataDir::open(Arc::new(crate::disk::RealDisk), settings, logger()).err().unwrap();
        assert!(refused.0.contains("another server is running in this directory"), "{refused}");
        drop(held);
    }
}
