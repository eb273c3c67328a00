//! `zabra data check`: what is there, what is wrong, what to do.

use std::io::{self, Write};
use std::sync::Arc;

use clap::Args;

use super::{EXIT_FOUND, PlaceArgs, count, print};
use crate::boot::Failure;
use crate::disk::{self, Inspection, LogFacts, RealDisk, Severity, SnapshotFacts};

pub(super) const EXAMPLES: &str = "\
Reads every snapshot and every log file as a whole, builds the tree from the oldest snapshot through all of the
log, and compares it with the digests that transactions and snapshots say. Changes nothing.
Exit code 0 if all is well, 1 if something is wrong.

Examples:
  zabra data check data/1
  zabra data check /var/lib/zookeeper --txn-log-dir /var/log/zookeeper --json";

/// What to check, and how to tell.
#[derive(Args)]
pub struct CheckArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &CheckArgs) -> Result<u8, Failure> {
    let running = args.place.is_running();
    let settings = args.place.settings()?;
    let dir = settings.dir.display().to_string();
    let found = disk::inspect(Arc::new(RealDisk), settings)?;
    let faults = found.findings.iter().filter(|finding| finding.severity != Severity::Note).count();
    print(|out| if args.json { json(out, &found, running) } else { people(out, &dir, &found, running) })?;
    Ok(if faults == 0 { 0 } else { EXIT_FOUND })
}

fn json(out: &mut dyn Write, found: &Inspection, running: bool) -> io::Result<()> {
    let mut value = serde_json::to_value(found)?;
    value["running"] = running.into();
    writeln!(out, "{value}")
}

fn people(out: &mut dyn Write, dir: &str, found: &Inspection, running: bool) -> io::Result<()> {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_string());
    writeln!(
        out,
        "{dir}: server {}, accepted epoch {}, current epoch {}",
        or_none(&found.myid),
        or_none(&found.accepted_epoch),
        or_none(&found.current_epoch)
    )?;
    if running {
        writeln!(out, "a server is running here: what it is writing now may look unfinished")?;
    }
    for snapshot in &found.snapshots {
        writeln!(out, "  {}", snapshot_line(snapshot))?;
    }
    for log in &found.logs {
        writeln!(out, "  {}", log_line(log))?;
    }
    if let Some(start) = &found.start {
        writeln!(
            out,
            "a start would begin with {} and end at {}: {}, {}, digest {}{}{}",
            start.snapshot,
            start.last_zxid,
            count(start.znodes as u64, "znode"),
            count(start.sessions as u64, "session"),
            start.digest,
            if start.recovering { ", without a vote" } else { "" },
            if start.foreign { "; another server, as Apache's, has written here last" } else { "" },
        )?;
    }
    for finding in &found.findings {
        let severity = match finding.severity {
            Severity::Refused => "NO START",
            Severity::Fault => "FAULT",
            Severity::Note => "note",
        };
        writeln!(out, "{severity}: {}", finding.what)?;
        if !finding.remedy.is_empty() {
            writeln!(out, "  remedy: {}", finding.remedy)?;
        }
    }
    if found.findings.iter().all(|finding| finding.severity == Severity::Note) {
        writeln!(out, "all is well")?;
    }
    Ok(())
}

fn snapshot_line(facts: &SnapshotFacts) -> String {
    let SnapshotFacts { name, bytes, znodes, sessions, digest, sound, fuzzy, .. } = facts;
    if !sound {
        return format!("{name:<28} {bytes:>12} bytes  DAMAGED");
    }
    let fuzzy = if *fuzzy { ", fuzzy" } else { "" };
    let (znodes, sessions) = (count(*znodes, "znode"), count(*sessions, "session"));
    format!("{name:<28} {bytes:>12} bytes  {znodes}, {sessions}, digest {digest}{fuzzy}")
}

fn log_line(facts: &LogFacts) -> String {
    let LogFacts { name, bytes, transactions, first, last, end } = facts;
    let range = match (first, last) {
        (Some(first), Some(last)) => format!("{first} to {last}: {}", count(*transactions, "transaction")),
        _ => "empty".to_string(),
    };
    format!("{name:<28} {bytes:>12} bytes  {range}, up to offset {end}")
}
