//! `zabra data snapshot` and `zabra data restore`: a backup, and the way back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Deserialize;
use zabra_actors::types::{Epoch, Fault, Sid};

use super::place::own_id;
use super::repair::stamp;
use super::{PlaceArgs, count, print};
use crate::boot::Failure;
use crate::config::Address;
use crate::disk::{self, Backup, Compression, DiskSettings, RealDisk};
use crate::status;

pub(super) const SNAPSHOT_EXAMPLES: &str = "\
A backup is a directory with one snapshot, exact at its last transaction and verified, and the epoch files. Of a
stopped server it holds all that is in its log. A running server takes a new snapshot first, at what is committed
then; name its admin address for that, and run this on its machine.

Examples:
  zabra data snapshot data/1 --to /backup/monday
  zabra data snapshot data/1 --to /backup/monday --admin 127.0.0.1:7001 ";

pub(super) const RESTORE_EXAMPLES: &str = "\
Takes the whole ensemble back to the backup: do it for every server of it, all stopped, from the same backup. To
repair a single server beside others that are well, use `zabra data repair DIR --resync`. What was there before is
kept in before-restore-<time> when --replace is given. Epochs go on behind all that are known here, so that clients
that have seen later transactions are not confused.

Examples:
  zabra data restore /backup/monday data/1 --whole-ensemble --id 1
  zabra data restore /backup/monday data/2 --whole-ensemble --replace";

/// How long a running server may take for its snapshot.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(3600);

/// What to save, and where to.
#[derive(Args)]
pub struct SnapshotArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// A new or empty directory for the backup
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// The admin address of the server that runs on this directory
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
    /// How the snapshot of a stopped server is compressed
    #[arg(long, value_enum, default_value = "none")]
    compression: Packing,
}

/// As `storage.compression`.
#[derive(Clone, Copy, ValueEnum)]
enum Packing {
    None,
    Gz,
    Snappy,
}

impl From<Packing> for Compression {
    fn from(packing: Packing) -> Compression {
        match packing {
            Packing::None => Compression::None,
            Packing::Gz => Compression::Gz,
            Packing::Snappy => Compression::Snappy,
        }
    }
}

/// What a running server says of the snapshot it was asked for.
#[derive(Deserialize)]
struct Taken {
    file: String,
}

pub(super) fn snapshot(args: &SnapshotArgs) -> Result<u8, Failure> {
    let from = args.place.settings()?;
    must_be_empty(&args.to)?;
    let to = DiskSettings { compression: args.compression.into(), ..DiskSettings::new(&args.to, from.id) };
    let backup = match (&args.admin, args.place.is_running()) {
        (Some(admin), _) => {
            let taken = ask_for_snapshot(admin)?;
            disk::copy_snapshot(Arc::new(RealDisk), from, &taken.file, to)?
        }
        (None, true) => {
            return Err(Fault(format!(
                "a server is running in {}: name its admin address with --admin HOST:PORT, or stop it",
                from.dir.display()
            ))
            .into());
        }
        (None, false) => disk::save_elsewhere(Arc::new(RealDisk), from, to, Epoch::default())?,
    };
    tell("saved", &backup, &args.to)?;
    Ok(0)
}

fn ask_for_snapshot(admin: &str) -> Result<Taken, Fault> {
    let wrong = |problem: String| Fault(format!("the server at {admin} takes no snapshot: {problem}"));
    let address = Address::parse(admin).map_err(|problem| wrong(problem.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| wrong(error.to_string()))?;
    let asking = async {
        loop {
            if let Some(answer) = status::http::post(&address, "/snapshot").await? {
                return Ok::<_, std::io::Error>(answer);
            }
        }
    };
    let answer = runtime.block_on(async { tokio::time::timeout(SNAPSHOT_TIMEOUT, asking).await });
    let answer = answer.map_err(|_| wrong(format!("no answer within {SNAPSHOT_TIMEOUT:?}")))?;
    let answer = answer.map_err(|error| wrong(error.to_string()))?;
    serde_json::from_slice(&answer).map_err(|error| wrong(error.to_string()))
}

/// What to bring back, and where to.
#[derive(Args)]
pub struct RestoreArgs {
    /// The backup: a directory that holds version-2
    #[arg(value_name = "BACKUP")]
    backup: PathBuf,
    /// The server's directory
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The log's directory, when it has its own
    #[arg(long, value_name = "DIR")]
    txn_log_dir: Option<PathBuf>,
    /// Every server of the ensemble is taken back to this backup, or it is the only one
    #[arg(long, required = true)]
    whole_ensemble: bool,
    /// The server's id; by default what myid says there, or in the backup
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=254))]
    id: Option<u8>,
    /// Move out of the way what is there
    #[arg(long)]
    replace: bool,
}

pub(super) fn restore(args: &RestoreArgs) -> Result<u8, Failure> {
    let from = PlaceArgs { dir: args.backup.clone(), txn_log_dir: None }.settings()?;
    let target = PlaceArgs { dir: args.dir.clone(), txn_log_dir: args.txn_log_dir.clone() };
    if target.is_running() {
        return Err(Fault(format!("a server is running in {}: stop it first", args.dir.display())).into());
    }
    let id = args.id.map(Sid).or_else(|| own_id(&args.dir)).or(Some(from.id).filter(|id| id.0 != 0));
    let Some(id) = id else {
        let problem = "neither the directory nor the backup has a myid: say which server it is with --id N";
        return Err(Fault(problem.to_string()).into());
    };
    let used = accepted_epoch(&args.dir);
    for dir in [Some(&args.dir), args.txn_log_dir.as_ref()].into_iter().flatten() {
        clear(dir, args.replace)?;
    }
    if args.id.is_some() || own_id(&args.dir).is_none() {
        std::fs::create_dir_all(&args.dir)?;
        std::fs::write(args.dir.join("myid"), format!("{id}\n"))?;
    }
    let to = DiskSettings { log_dir: args.txn_log_dir.clone(), ..DiskSettings::new(&args.dir, id) };
    let backup = disk::save_elsewhere(Arc::new(RealDisk), from, to, used)?;
    tell("restored", &backup, &args.dir)?;
    Ok(0)
}

fn must_be_empty(dir: &Path) -> Result<(), Fault> {
    let mut entries = match std::fs::read_dir(dir) {
        Err(_) => return Ok(()), // it will be made, or that will fail with a better message
        Ok(entries) => entries,
    };
    match entries.next() {
        None => Ok(()),
        Some(_) => Err(Fault(format!("{} is not empty: name a new directory", dir.display()))),
    }
}

/// Moves what is in a server's directory out of the way, if that is allowed.
fn clear(dir: &Path, replace: bool) -> Result<(), Failure> {
    let version_2 = dir.join("version-2");
    if !version_2.exists() {
        return Ok(());
    }
    if !replace {
        let dir = version_2.display();
        return Err(Fault(format!("{dir} is there already: --replace moves it out of the way")).into());
    }
    let kept = dir.join(format!("before-restore-{}", stamp()));
    std::fs::create_dir_all(&kept)?;
    std::fs::rename(&version_2, kept.join("version-2"))?;
    Ok(())
}

/// The newest epoch that the server there has promised.
fn accepted_epoch(dir: &Path) -> Epoch {
    let text = std::fs::read_to_string(dir.join("version-2/acceptedEpoch")).unwrap_or_default();
    Epoch(text.trim().parse().unwrap_or_default())
}

fn tell(done: &str, backup: &Backup, dir: &Path) -> Result<(), Failure> {
    let Backup { file, zxid, znodes, epochs } = backup;
    let znodes = znodes.map(|znodes| format!(", {}", count(znodes as u64, "znode"))).unwrap_or_default();
    print(|out| {
        writeln!(
            out,
            "{done} {}: all up to {zxid}{znodes}; accepted epoch {}, current epoch {}",
            dir.join("version-2").join(file).display(),
            epochs.accepted,
            epochs.current
        )
    })
}
