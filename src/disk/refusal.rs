//! Why a directory cannot be started from, and what to do about it: one message, with the command that helps.
//!
//! The commands are those of `zabra data repair`, which acts on the same values.

use std::fmt::Write as _;

use zabra_actors::types::{Fault, Zxid};

use super::data_dir::{DataDir, SnapFile, log_name};

/// See the module's story.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The disk failed, or a file cannot be had.
    Disk(Fault),
    /// A log file makes no sense from here on, or what is before it is missing.
    Damage {
        /// The file, by the zxid in its name.
        file: Zxid,
        /// Where the damage begins, in bytes.
        offset: u64,
        /// What is wrong there.
        what: String,
        /// Everything up to here is there and sound.
        last: Zxid,
    },
    /// The log ends before what is known to have been durable.
    Lost {
        /// Where it ends.
        last: Zxid,
        /// How far it was durable.
        synced: Zxid,
    },
    /// Snapshots but no log, in a directory that this server has not written.
    NoLog {
        /// The newest one that is sound.
        snapshot: SnapFile,
    },
    /// There is nothing that the log could be applied to.
    NoSnapshot {
        /// The first log file, if there is any.
        first_log: Option<Zxid>,
        /// Snapshots that are there, and why they cannot be used.
        damaged: Vec<(SnapFile, String)>,
    },
    /// A snapshot cannot be used, and the log does not lead to where it was.
    Gone {
        /// The snapshot.
        snapshot: SnapFile,
        /// Why it cannot be used.
        why: String,
        /// Where the log ends.
        last: Zxid,
    },
    /// There is an epoch, and nothing else.
    Emptied {
        /// What currentEpoch says.
        epoch: String,
    },
    /// The server was emptied to get everything from a leader, and is the only one.
    NoLeader,
    /// The epoch files make no sense.
    Epochs {
        /// What is wrong.
        what: String,
    },
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Refusal {
        Refusal::Disk(fault)
    }
}

impl Refusal {
    /// What is wrong, in one line.
    pub(super) fn what(&self, dir: &DataDir) -> String {
        match self {
            Refusal::Disk(fault) => fault.0.clone(),
            Refusal::Damage { file, offset, what, last } => format!(
                "{} is damaged at offset {offset}: {what}; the log is sound up to {last}",
                dir.path(&log_name(*file)).display()
            ),
            Refusal::Lost { last, synced } => format!(
                "the log in {}/ ends at {last}, but was durable up to {synced}: log files are missing, or the disk \
                 has lost what it had synced",
                dir.logs().display()
            ),
            Refusal::NoLog { snapshot } => format!(
                "{} is there, but no log, and it was not this server that wrote it: what came after the snapshot \
                 may be elsewhere",
                dir.path(&snapshot.name).display()
            ),
            Refusal::NoSnapshot { first_log, damaged } => {
                let mut what =
                    format!("there is no snapshot to begin with in {}/", dir.snapshots().display());
                if let Some(first) = first_log {
                    let _ = write!(what, ", but a log from {first} on");
                }
                let whys: Vec<_> =
                    damaged.iter().map(|(file, why)| format!("{} is {why}", file.name)).collect();
                if !whys.is_empty() {
                    let _ = write!(what, " ({})", whys.join("; "));
                }
                what
            }
            Refusal::Gone { snapshot, why, last } => format!(
                "{} is {why}; and the log, which ends at {last}, does not lead from an older snapshot through \
                 {}, so that transactions would be lost",
                dir.path(&snapshot.name).display(),
                snapshot.zxid
            ),
            Refusal::Emptied { epoch } => format!(
                "{} says {epoch}, but there are neither snapshots nor logs: with such an epoch and no transactions \
                 the server could win an election and lose everybody's data",
                dir.path("currentEpoch").display()
            ),
            Refusal::NoLeader => format!(
                "{}/ was emptied to get everything from a leader, but this is the only server",
                dir.snapshots().display()
            ),
            Refusal::Epochs { what } => what.clone(),
        }
    }

    /// What to do about it; empty when the message says it already.
    pub(super) fn remedy(&self, dir: &DataDir) -> String {
        let resync = format!(
            "if the rest of the ensemble is well, run `{}`, and the server gets everything from the leader",
            dir.repair_command("--resync")
        );
        let (first, else_) = match self {
            Refusal::Disk(_) => return String::new(),
            Refusal::NoLeader => {
                let trust = dir.repair_command("--trust");
                return format!("bring back version-2 from before-repair-..., or begin empty: `{trust}`");
            }
            Refusal::Damage { .. } | Refusal::Lost { .. } => {
                (resync, format!("give up what follows: `{}`", dir.repair_command("--cut")))
            }
            Refusal::NoLog { .. } => (
                "if the logs have a directory of their own (dataLogDir in zoo.cfg), name it as txn_log_dir"
                    .to_string(),
                format!("say that there is none: `{}`", dir.repair_command("--no-log")),
            ),
            Refusal::NoSnapshot { first_log: Some(first), .. } if first.counter() == 1 => (
                resync,
                format!(
                    "if the log goes back to the beginning, begin with an empty tree: `{}`",
                    dir.repair_command("--begin-empty")
                ),
            ),
            Refusal::NoSnapshot { .. } | Refusal::Emptied { .. } => {
                return format!("{resync}; else restore a backup");
            }
            Refusal::Gone { .. } => {
                (resync, format!("give up what only it holds: `{}`", dir.repair_command("--drop-damaged")))
            }
            Refusal::Epochs { .. } => {
                (resync, format!("make new ones: `{}`", dir.repair_command("--epochs")))
            }
        };
        format!("{first}; else restore a backup, or {else_}")
    }

    /// Both, for a server that cannot start.
    pub(super) fn fault(&self, dir: &DataDir) -> Fault {
        let (what, remedy) = (self.what(dir), self.remedy(dir));
        Fault(if remedy.is_empty() { what } else { format!("{what}: {remedy}") })
    }
}
