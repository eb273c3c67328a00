//! What a run has come to, for people and for machines.

use std::collections::BTreeMap;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::check::Check;
use super::entry::{Entry, Kind, Outcome};

/// A fault that was inflicted.
#[derive(Clone, Debug)]
pub struct Inflicted {
    pub fault: &'static str,
    pub at: u64,
}

/// Operations by what came of them.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Counts {
    pub ok: usize,
    pub failed: usize,
    pub unknown: usize,
}

/// How a kind of fault was borne.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Borne {
    pub times: usize,
    /// The longest time without a successful write, from the fault to the next one.
    pub longest_silence_ms: u64,
}

/// One check.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    pub check: String,
    pub operations: usize,
    pub violations: Vec<String>,
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub seed: u64,
    pub seconds: u64,
    pub servers: String,
    pub sandbox: bool,
    pub operations: BTreeMap<String, Counts>,
    pub faults: BTreeMap<String, Borne>,
    pub checks: Vec<Judged>,
    pub passed: usize,
    pub failed: usize,
    /// Where history and logs are, if they are kept.
    pub kept: Option<String>,
}

const BOLD: Style = Style::new().bold();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// Counts the operations of a history.
pub fn operations(history: &[Entry]) -> BTreeMap<String, Counts> {
    let mut counts: BTreeMap<String, Counts> = BTreeMap::new();
    for entry in history.iter().filter(|e| !matches!(e.kind, Kind::IdLeft | Kind::ItemLeft)) {
        let by_kind = counts.entry(name(entry.kind).to_string()).or_default();
        match entry.outcome {
            Outcome::Ok => by_kind.ok += 1,
            Outcome::Fail => by_kind.failed += 1,
            Outcome::Unknown => by_kind.unknown += 1,
        }
    }
    counts
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Write => "register: write",
        Kind::Read => "register: sync and read",
        Kind::PlainRead => "register: read",
        Kind::Id => "id: draw",
        Kind::Put => "queue: put",
        Kind::Take => "queue: take",
        Kind::Acquire => "lock: acquire",
        Kind::Guard => "lock: guarded write",
        Kind::Release => "lock: release",
        Kind::IdLeft | Kind::ItemLeft => "left",
    }
}

/// How each kind of fault was borne. A silence belongs to the fault that was the last before its end.
pub fn faults(history: &[Entry], inflicted: &[Inflicted], end: u64) -> BTreeMap<String, Borne> {
    let mut writes: Vec<u64> = history.iter().filter(|e| e.is_written()).map(|e| e.end).collect();
    writes.sort_unstable();
    let mut faults: BTreeMap<String, Borne> = BTreeMap::new();
    for (at, fault) in inflicted.iter().enumerate() {
        let until = inflicted.get(at + 1).map_or(end, |next| next.at);
        let inside = writes.iter().copied().filter(|write| (fault.at..until).contains(write));
        let moments: Vec<u64> = [fault.at].into_iter().chain(inside).chain([until]).collect();
        let longest = moments.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or(0);
        let borne = faults.entry(fault.fault.to_string()).or_default();
        borne.times += 1;
        borne.longest_silence_ms = borne.longest_silence_ms.max(longest / 1_000_000);
    }
    faults
}

/// The checks, with times that begin with the run.
pub fn judged(checks: Vec<Check>) -> Vec<Judged> {
    let judge =
        |Check { name, operations, violations }| Judged { check: name.to_string(), operations, violations };
    checks.into_iter().map(judge).collect()
}

impl Report {
    /// Prints it as a table. Colours are left out where they would not be seen.
    pub fn print(&self) {
        let heading = |words: String| anstream::println!("\n{BOLD}{words}{BOLD:#}");
        heading(format!("{:<58}{:>9}{:>9}{:>9}", "operations", "ok", "failed", "unknown"));
        for (name, Counts { ok, failed, unknown }) in &self.operations {
            anstream::println!("{name:<58}{ok:>9}{failed:>9}{unknown:>9}");
        }
        heading(format!("{:<58}{:>9}{:>18}", "faults", "times", "longest silence"));
        for (name, Borne { times, longest_silence_ms }) in &self.faults {
            anstream::println!("{name:<58}{times:>9}{:>16.2} s", *longest_silence_ms as f64 / 1e3);
        }
        heading(format!("{:<58}{:>9}", "checks", "looked at"));
        for Judged { check, operations, violations } in &self.checks {
            let (style, verdict) = if violations.is_empty() { (GOOD, "good") } else { (BAD, "VIOLATED") };
            anstream::println!("{check:<58}{operations:>9}  {style}{verdict}{style:#}");
            violations.iter().for_each(|violation| anstream::println!("  {violation}"));
        }
        anstream::println!("\n{}, seed {}, {} s", self.servers, self.seed, self.seconds);
        if let Some(kept) = &self.kept {
            anstream::println!("history and logs: {kept}");
        }
        println!("nemesis: {} passed, {} failed", self.passed, self.failed);
    }
}
