//! `zabra data repair`: gives up what has to be given up, and says what that was.

use std::sync::Arc;
use std::time::SystemTime;

use clap::Args;

use super::{EXIT_FOUND, PlaceArgs, print};
use crate::boot::Failure;
use crate::disk::{self, RealDisk, Remedy, Severity};

pub(super) const EXAMPLES: &str = "\
`zabra data check` and a server that does not start name the remedy that fits. The server must not run. What is
changed or taken away is kept in before-repair-<time> beside version-2.
Exit code 0 if the server can start now, 1 if not.

Examples:
  zabra data repair data/1 --resync     empty it; the leader of the others has everything
  zabra data repair data/1 --cut        give up what follows the first damage in the log";

/// What to repair, and how.
#[derive(Args)]
pub struct RepairArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct How {
    /// Empty the directory: the server gets everything from the leader, and has no vote before
    #[arg(long)]
    resync: bool,
    /// Give up what follows the first damage in the log
    #[arg(long)]
    cut: bool,
    /// Give up snapshots that cannot be read, and what only they hold
    #[arg(long)]
    drop_damaged: bool,
    /// There is no snapshot because there never was one: begin with an empty tree
    #[arg(long)]
    begin_empty: bool,
    /// There is no log, and the newest snapshot is all there is
    #[arg(long)]
    no_log: bool,
    /// Make new epoch files, above every epoch that is known here
    #[arg(long)]
    epochs: bool,
    /// Give a server its vote back that waits for a leader
    #[arg(long)]
    trust: bool,
}

impl How {
    fn remedy(&self) -> Remedy {
        let chosen = [
            (self.resync, Remedy::Resync),
            (self.cut, Remedy::Cut),
            (self.drop_damaged, Remedy::DropDamaged),
            (self.begin_empty, Remedy::BeginEmpty),
            (self.no_log, Remedy::NoLog),
            (self.epochs, Remedy::Epochs),
            (self.trust, Remedy::Trust),
        ];
        chosen.into_iter().find_map(|(chosen, remedy)| chosen.then_some(remedy)).expect("one is required")
    }
}

pub(super) fn run(args: &RepairArgs) -> Result<u8, Failure> {
    let settings = args.place.settings()?;
    let done = disk::repair(Arc::new(RealDisk), settings.clone(), args.how.remedy(), &stamp())?;
    let found = disk::inspect(Arc::new(RealDisk), settings)?;
    let refused = found.findings.iter().find(|finding| finding.severity == Severity::Refused);
    print(|out| {
        for line in &done {
            writeln!(out, "{line}")?;
        }
        match (refused, &found.start) {
            (Some(refused), _) => {
                writeln!(out, "a server still cannot start: {}\n  remedy: {}", refused.what, refused.remedy)
            }
            (None, Some(start)) => writeln!(out, "a server can start; its log ends at {}", start.last_zxid),
            (None, None) => writeln!(out, "a server can start, and begins empty"),
        }
    })?;
    Ok(if refused.is_some() { EXIT_FOUND } else { 0 })
}

/// A moment as the part of a name.
pub(super) fn stamp() -> String {
    let text = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
    text.replace([':', '-', '.'], "")
}
