//! `zabra data`: what operators do with a server's directory. All of it works on directories of Apache's, too.
//!
//! | command | reads | writes |
//! |---|---|---|
//! | `check` | everything | nothing |
//! | `show` | a directory, a log file or a snapshot | nothing |
//! | `repair` | what the remedy needs | gives up what it names; old files are kept beside |
//! | `snapshot` | a directory, or a running server's new snapshot | a backup |
//! | `restore` | a backup | a directory |
//!
//! What the files mean is the business of `disk`; here are the command line, and words for people.

mod backup;
mod check;
mod place;
mod repair;
mod show;
mod show_log;
mod show_tree;

use std::io::{self, Write};

use clap::{Args, Subcommand};

use crate::boot::Failure;

pub use backup::{RestoreArgs, SnapshotArgs};
pub use check::CheckArgs;
pub use place::PlaceArgs;
pub use repair::RepairArgs;
pub use show::ShowArgs;

/// Something was found that needs somebody.
pub(crate) const EXIT_FOUND: u8 = 1;

/// `zabra data ...`
#[derive(Args)]
pub struct DataArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Verify everything in a server's directory, and say what is wrong and what to do
    #[command(after_help = check::EXAMPLES)]
    Check(CheckArgs),
    /// Print transactions, znodes and sessions out of logs and snapshots
    #[command(after_help = show::EXAMPLES)]
    Show(ShowArgs),
    /// Give up what cannot be had, so that a server can start; old files are kept beside
    #[command(after_help = repair::EXAMPLES)]
    Repair(RepairArgs),
    /// Make a backup, of a stopped server or of a running one
    #[command(after_help = backup::SNAPSHOT_EXAMPLES)]
    Snapshot(SnapshotArgs),
    /// Bring a backup back into an empty directory
    #[command(after_help = backup::RESTORE_EXAMPLES)]
    Restore(RestoreArgs),
}

/// Runs the command; gives its exit code.
pub fn run(args: DataArgs) -> Result<u8, Failure> {
    match args.command {
        Command::Check(args) => check::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Repair(args) => repair::run(&args),
        Command::Snapshot(args) => backup::snapshot(&args),
        Command::Restore(args) => backup::restore(&args),
    }
}

/// Prints to standard output; a reader that has seen enough (`| head`) is no failure.
fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// A number with its noun.
fn count(number: impl Into<u64>, noun: &str) -> String {
    let number = number.into();
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
