//! Which directory is meant, and whether a server is running in it.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use zabra_actors::types::{Fault, Sid};

use crate::disk::{Disk, DiskSettings, RealDisk};

/// The directory that holds `version-2`.
const VERSION_2: &str = "version-2";

/// A server's directory.
#[derive(Args, Clone, Debug)]
pub struct PlaceArgs {
    /// The server's directory: the one that holds version-2 (Apache's dataDir)
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The log's directory, when it has its own (Apache's dataLogDir)
    #[arg(long, value_name = "DIR")]
    pub txn_log_dir: Option<PathBuf>,
}

impl PlaceArgs {
    /// The directory as the disk wants it; its id is the one it says.
    pub fn settings(&self) -> Result<DiskSettings, Fault> {
        let dir = existing(&self.dir)?;
        let log_dir = self.txn_log_dir.as_deref().map(existing).transpose()?;
        let id = own_id(&dir).unwrap_or(Sid(0));
        Ok(DiskSettings { log_dir: log_dir.filter(|log_dir| *log_dir != dir), ..DiskSettings::new(dir, id) })
    }

    /// Has a server of ours this directory open? (Apache's do not say so.)
    pub fn is_running(&self) -> bool {
        let Ok(settings) = self.settings() else { return false };
        let lock = settings.dir.join(VERSION_2).join(".lock");
        // Only asked when it is there: a look must not leave anything behind.
        lock.exists() && RealDisk.lock(&lock).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// The directory that holds version-2, also when that one itself is named.
fn existing(dir: &Path) -> Result<PathBuf, Fault> {
    if dir.join(VERSION_2).is_dir() {
        return Ok(dir.to_path_buf());
    }
    match dir.parent() {
        Some(parent) if dir.file_name().is_some_and(|name| name == VERSION_2) && dir.is_dir() => {
            Ok(if parent.as_os_str().is_empty() { PathBuf::from(".") } else { parent.to_path_buf() })
        }
        _ => Err(Fault(format!(
            "{} holds no version-2: name the directory of a server, as <data_dir>/<id>, or Apache's dataDir",
            dir.display()
        ))),
    }
}

/// What `myid` says.
pub(super) fn own_id(dir: &Path) -> Option<Sid> {
    let text = std::fs::read_to_string(dir.join("myid")).ok()?;
    text.lines().next()?.trim().parse().ok().map(Sid)
}
