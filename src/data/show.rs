//! `zabra data show`: which of the printers fits what is named.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use zabra_actors::types::{Fault, Zxid};

use super::{PlaceArgs, count, print, show_log, show_tree};
use crate::boot::Failure;
use crate::disk::{self, RealDisk};

pub(super) const EXAMPLES: &str = "\
A log file is printed as transactions, a snapshot as sessions and znodes, a directory as a list of its files; what
is meant shows the file itself. With --json each line is one object.

Examples:
  zabra data show data/1
  zabra data show data/1/version-2/log.100000001 --from 0x100000200 --to 0x100000210
  zabra data show data/1/version-2/log.100000001 --path /app --json
  zabra data show data/1/version-2/snapshot.100000abc --path /app
  zabra data show data/1/version-2/snapshot.100000abc.gz --summary 2";

/// What to show, and which part of it.
#[derive(Args)]
pub struct ShowArgs {
    /// A log file, a snapshot, or a server's directory
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// The first transaction, as 0x100000001
    #[arg(long, value_name = "ZXID", value_parser = parse_zxid)]
    pub(super) from: Option<Zxid>,
    /// The last transaction
    #[arg(long, value_name = "ZXID", value_parser = parse_zxid)]
    pub(super) to: Option<Zxid>,
    /// Only what is about this znode and those below it
    #[arg(long = "path", value_name = "PATH")]
    pub(super) path_prefix: Option<String>,
    /// Print data as a whole; without it, what fits into a line
    #[arg(long)]
    pub(super) data: bool,
    /// Of a snapshot: how many znodes and bytes are below each znode, down to this depth
    #[arg(long, value_name = "DEPTH")]
    pub(super) summary: Option<usize>,
    /// Print one JSON object a line
    #[arg(long)]
    pub(super) json: bool,
}

fn parse_zxid(text: &str) -> Result<Zxid, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    i64::from_str_radix(digits, 16)
        .map(Zxid)
        .map_err(|_| "write a zxid in hexadecimal, as 0x100000001".to_string())
}

impl ShowArgs {
    /// Is this znode among those that are asked for?
    pub(super) fn wants_path(&self, path: &str) -> bool {
        let Some(prefix) = self.path_prefix.as_deref().map(|prefix| prefix.trim_end_matches('/')) else {
            return true;
        };
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Is this transaction among those that are asked for?
    pub(super) fn wants_zxid(&self, zxid: Zxid) -> bool {
        self.from.is_none_or(|from| from <= zxid) && self.to.is_none_or(|to| zxid <= to)
    }
}

pub(super) fn run(args: &ShowArgs) -> Result<u8, Failure> {
    if args.path.is_dir() {
        return overview(args);
    }
    let unreadable = |error: io::Error| Fault(format!("cannot read {}: {error}", args.path.display()));
    let mut magic = [0; 4];
    let mut file = File::open(&args.path).map_err(unreadable)?;
    let read = file.read(&mut magic).map_err(unreadable)?;
    if magic == *b"ZKLG" && read == magic.len() {
        show_log::run(args, &args.path)
    } else {
        show_tree::run(args, &args.path)
    }
}

/// The files of a directory, and what they hold.
fn overview(args: &ShowArgs) -> Result<u8, Failure> {
    let settings = PlaceArgs { dir: args.path.clone(), txn_log_dir: None }.settings()?;
    let found = disk::inspect(Arc::new(RealDisk), settings)?;
    print(|out| {
        if args.json {
            return writeln!(out, "{}", serde_json::to_string(&found)?);
        }
        for snapshot in &found.snapshots {
            let (znodes, sessions) = (count(snapshot.znodes, "znode"), count(snapshot.sessions, "session"));
            writeln!(out, "{:<28} at {}: {znodes}, {sessions}", snapshot.name, snapshot.zxid)?;
        }
        for log in &found.logs {
            let range = log.first.as_deref().zip(log.last.as_deref());
            let (first, last) = range.unwrap_or(("nothing", "nothing"));
            writeln!(out, "{:<28} {first} to {last}: {}", log.name, count(log.transactions, "transaction"))?;
        }
        Ok(())
    })?;
    Ok(0)
}

/// Data for people: text where it is text, and no more than fits into a line unless all is asked for.
pub(super) fn show_data(data: Option<&[u8]>, whole: bool) -> String {
    /// Characters of data on a line.
    const SHORT: usize = 48;
    let Some(data) = data else { return "null".to_string() };
    let text = std::str::from_utf8(data).ok().filter(|text| !text.chars().any(char::is_control));
    match text {
        Some(text) if whole || text.chars().count() <= SHORT => format!("{text:?}"),
        Some(text) => format!("{:?}... ({} bytes)", text.chars().take(SHORT).collect::<String>(), data.len()),
        None if whole => format!("0x{}", data.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        None => format!("{} bytes", data.len()),
    }
}
