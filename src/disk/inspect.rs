//! Looks at a whole directory without changing it: every file, every record, every digest.
//!
//! A start reads the newest sound snapshot and the log behind it. Here everything is read: older files, which
//! are what is left when the newest are lost, and how they fit together. The tree is built from the oldest
//! sound snapshot through the whole log, and compared with what each transaction and each later snapshot says
//! of it. What a start would come to is asked of the code that starts ([`load`]).

use std::collections::VecDeque;

use serde::Serialize;
use zabra_actors::core::tree::{DIGEST_VERSION, Tree};
use zabra_actors::types::{Entry, Fault, Zxid};

use super::data_dir::{DataDir, Files, SnapFile, explain, fault, log_name};
use super::epochs;
use super::load::load;
use super::log_reader::{End, LogReader, Next};
use super::refusal::Refusal;
use super::snapshot_reader::{BadSnapshot, DigestSum, read_snapshot, read_tree};
use super::txn_store::{DIVERGED, DOUBT};

/// What is in a directory, and what is wrong with it.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs)] // the fields are named for what they are
pub struct Inspection {
    pub myid: Option<String>,
    pub accepted_epoch: Option<String>,
    pub current_epoch: Option<String>,
    pub snapshots: Vec<SnapshotFacts>,
    pub logs: Vec<LogFacts>,
    /// What a start would begin with; `None`: it would be refused.
    pub start: Option<StartFacts>,
    /// What is wrong, the worst first.
    pub findings: Vec<Finding>,
}

/// A snapshot.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct SnapshotFacts {
    pub name: String,
    pub bytes: u64,
    pub zxid: String,
    pub znodes: u64,
    pub sessions: u64,
    /// Recomputed from the znodes.
    pub digest: String,
    pub sound: bool,
    /// It was taken while transactions were applied, as Apache does.
    pub fuzzy: bool,
}

/// A log file.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct LogFacts {
    pub name: String,
    pub bytes: u64,
    pub transactions: u64,
    pub first: Option<String>,
    pub last: Option<String>,
    /// Where its records end, in bytes.
    pub end: u64,
}

/// What a start would begin with.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct StartFacts {
    pub snapshot: String,
    pub last_zxid: String,
    pub znodes: usize,
    pub sessions: usize,
    pub digest: String,
    /// The server would have no vote until a leader has brought it in step.
    pub recovering: bool,
    /// Another server, as Apache's, has written here last.
    pub foreign: bool,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The server does not start.
    Refused,
    /// Something is lost, or would be if anything else fails.
    Fault,
    /// Worth knowing.
    Note,
}

/// Something that is wrong.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// Where, if it is at one place.
    pub place: Option<Place>,
    /// In one line.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Place {
    pub file: String,
    /// Bytes from the beginning.
    pub offset: u64,
}

/// Looks at everything. An error is one of the disk; damage is in the findings.
pub fn inspect(dir: &DataDir) -> Result<Inspection, Fault> {
    let files = dir.list()?;
    let mut inspector = Inspector { dir, found: Inspection::default(), sound: VecDeque::new() };
    inspector.found.myid = dir.myid()?;
    inspector.found.accepted_epoch = dir.first_line("acceptedEpoch")?;
    inspector.found.current_epoch = dir.first_line("currentEpoch")?;
    inspector.start(&files)?;
    for snapshot in &files.snapshots {
        inspector.snapshot(snapshot, files.bytes(&snapshot.name))?;
    }
    inspector.logs(&files)?;
    let mut found = inspector.found;
    found.findings.sort_by_key(|finding| finding.severity);
    Ok(found)
}

struct Inspector<'a> {
    dir: &'a DataDir,
    found: Inspection,
    /// Sound snapshots that the walk through the log has not reached, with their digests if they are exact.
    sound: VecDeque<(SnapFile, Option<i64>)>,
}

impl Inspector<'_> {
    fn find(&mut self, severity: Severity, what: impl Into<String>, remedy: impl Into<String>) {
        let (what, remedy) = (what.into(), remedy.into());
        self.found.findings.push(Finding { severity, place: None, what, remedy });
    }

    /// Finds something at a place of a log file, unless it is known already.
    fn find_at(&mut self, place: &Place, severity: Severity, what: impl Into<String>, remedy: &str) {
        if self.found.findings.iter().any(|known| known.place.as_ref() == Some(place)) {
            return;
        }
        let what = format!("{} at offset {}: {}", place.file, place.offset, what.into());
        let (place, remedy) = (Some(place.clone()), remedy.to_string());
        self.found.findings.push(Finding { severity, place, what, remedy });
    }

    fn refusal(&mut self, severity: Severity, refusal: &Refusal) {
        let place = match refusal {
            Refusal::Damage { file, offset, .. } => {
                let path = self.dir.path(&log_name(*file));
                Some(Place { file: path.display().to_string(), offset: *offset })
            }
            _ => None,
        };
        let (what, remedy) = (refusal.what(self.dir), refusal.remedy(self.dir));
        self.found.findings.push(Finding { severity, place, what, remedy });
    }

    /// What a start would come to.
    fn start(&mut self, files: &Files) -> Result<(), Fault> {
        if files.snapshots.is_empty() && files.logs.is_empty() {
            self.find(Severity::Note, "there are neither snapshots nor logs: a server would begin empty", "");
            return Ok(());
        }
        let loaded = match load(self.dir, files) {
            Ok(loaded) => loaded,
            Err(Refusal::Disk(fault)) => return Err(fault),
            Err(refusal) => {
                self.refusal(Severity::Refused, &refusal);
                return Ok(());
            }
        };
        let last = loaded.history.last();
        if let Err(refusal) = epochs::judge(self.dir, last) {
            self.refusal(Severity::Refused, &refusal);
        }
        if let Some(doubt) = &loaded.doubt {
            self.refusal(Severity::Fault, doubt);
        }
        let noted = self.dir.first_line(DOUBT)?.is_some();
        if noted {
            let trust = self.dir.repair_command("--trust");
            let remedy = format!("start it beside the others; if all of them say so, run `{trust}` for one");
            self.find(
                Severity::Note,
                "this server has no vote until a leader has brought it in step",
                remedy,
            );
        }
        if self.dir.first_line(DIVERGED)?.is_some() {
            self.find(
                Severity::Note,
                "the tree has differed from that of a leader, whose snapshot will replace it",
                "start it beside the others".to_owned(),
            );
        }
        self.found.start = Some(StartFacts {
            snapshot: loaded.snapshot.name,
            last_zxid: last.to_string(),
            znodes: loaded.tree.node_count() - 1, // as snapshots count: the root once
            sessions: loaded.tree.sessions().len(),
            digest: hex(loaded.tree.digest()),
            recovering: noted || loaded.doubt.is_some(),
            foreign: loaded.foreign,
        });
        Ok(())
    }

    fn snapshot(&mut self, file: &SnapFile, bytes: u64) -> Result<(), Fault> {
        let mut sum = DigestSum::default();
        let mut facts = SnapshotFacts {
            name: file.name.clone(),
            bytes,
            zxid: file.zxid.to_string(),
            znodes: 0,
            sessions: 0,
            digest: String::new(),
            sound: false,
            fuzzy: false,
        };
        match read_snapshot(self.dir.read_snapshot(file)?, &mut sum) {
            Err(BadSnapshot::Disk(error)) => return Err(fault("read", &self.dir.path(&file.name), error)),
            Err(BadSnapshot::Damaged(how)) => {
                let what = format!("{} is {how}", self.dir.path(&file.name).display());
                let drop = self.dir.repair_command("--drop-damaged");
                self.find(Severity::Fault, what, format!("it is no use to anybody; move it away: `{drop}`"));
            }
            Ok(summary) => {
                facts.sound = true;
                let exact = summary.digest.filter(|(zxid, _)| *zxid == file.zxid).map(|(_, digest)| digest);
                facts.fuzzy = summary.digest.is_some() && exact.is_none();
                if exact.is_some_and(|digest| digest != sum.digest) {
                    let (path, found) = (self.dir.path(&file.name), sum.digest);
                    let what =
                        format!("{} says another digest than its znodes have, {found:#x}", path.display());
                    self.find(
                        Severity::Fault,
                        what,
                        "its writer went astray; prefer a snapshot of another server",
                    );
                }
                self.sound.push_back((file.clone(), exact));
            }
        }
        (facts.znodes, facts.sessions, facts.digest) = (sum.nodes, sum.sessions, hex(sum.digest));
        self.found.snapshots.push(facts);
        Ok(())
    }

    fn logs(&mut self, files: &Files) -> Result<(), Fault> {
        let mut walk = Walk { last: None, tree: None, fuzzy_until: Zxid::ZERO, mismatch: false };
        for first in &files.logs {
            let name = log_name(*first);
            let bytes = files.bytes(&name);
            let newest = files.logs.last() == Some(first);
            self.log(LogFacts { name, bytes, ..LogFacts::default() }, newest, &mut walk)?;
        }
        Ok(())
    }

    fn log(&mut self, mut facts: LogFacts, newest: bool, walk: &mut Walk) -> Result<(), Fault> {
        let path = self.dir.path(&facts.name);
        let mut place = Place { file: path.display().to_string(), offset: 0 };
        let (mut reader, header) = explain("read", &path, LogReader::open(self.dir.read(&facts.name)?))?;
        if let Err(wrong) = header {
            let (severity, remedy) = if newest { (Severity::Note, IGNORED) } else { (Severity::Fault, "") };
            self.find_at(&place, severity, wrong, remedy);
            self.found.logs.push(facts);
            return Ok(());
        }
        let end = loop {
            place.offset = reader.offset();
            let record = match explain("read", &path, reader.next())? {
                Next::Record(record) => record,
                Next::End(end) => break end,
            };
            match Entry::decode(record.entry) {
                Ok(entry) => self.entry(&place, &entry, walk)?,
                Err(wrong) => self.find_at(&place, Severity::Fault, format!("a record of {wrong}"), ""),
            }
            facts.first.get_or_insert_with(|| record.zxid.to_string());
            facts.last = Some(record.zxid.to_string());
            facts.transactions += 1;
        };
        facts.end = reader.offset();
        self.found.logs.push(facts);
        match end {
            End::Clean => {}
            End::Cut(how) => self.find_at(&place, Severity::Note, how, IGNORED),
            End::Corrupt(how) => self.find_at(&place, Severity::Fault, how, ""),
        }
        Ok(())
    }

    /// The next transaction of the whole log.
    fn entry(&mut self, place: &Place, entry: &Entry, walk: &mut Walk) -> Result<(), Fault> {
        let zxid = entry.zxid();
        match walk.last {
            Some(last) if zxid <= last => {
                let what = format!("{zxid} is there a second time, behind {last}");
                self.find_at(place, Severity::Note, what, IGNORED);
                return Ok(());
            }
            Some(last) if !zxid.follows(last) => {
                let what = format!("{zxid} stands behind {last}: what is between them is missing");
                let bridged = self.sound.iter().any(|(file, _)| file.zxid > last && zxid.follows(file.zxid));
                let (severity, remedy) = match bridged {
                    true => (Severity::Note, "nothing: a snapshot has what is missing"),
                    false => (Severity::Fault, ""),
                };
                self.find_at(place, severity, what, remedy);
                walk.tree = None;
            }
            _ => {}
        }
        self.meet_snapshots(zxid, walk)?;
        walk.last = Some(zxid);
        if let Some((digest, foretold)) = walk.apply(entry) {
            let what = format!(
                "after {zxid} the tree has digest {digest:#x}, but its leader foretold {foretold:#x}: this \
                 server, or its snapshot, went astray there or before"
            );
            let resync = self.dir.repair_command("--resync");
            let remedy = format!("if the rest of the ensemble is well, run `{resync}`");
            self.find_at(place, Severity::Fault, what, &remedy);
        }
        Ok(())
    }

    /// The snapshots that stand before this transaction: one to begin with, or to compare with.
    fn meet_snapshots(&mut self, next: Zxid, walk: &mut Walk) -> Result<(), Fault> {
        while let Some((file, exact)) = self.sound.pop_front_if(|(file, _)| file.zxid < next) {
            match walk.tree.as_ref().map(|tree| (tree.zxid(), tree.digest())) {
                Some((zxid, digest)) if zxid == file.zxid => {
                    let differs = exact.is_some_and(|exact| exact != digest) && walk.is_exact(zxid);
                    if differs {
                        let path = self.dir.path(&file.name);
                        let what =
                            format!("{} is not what the log leads to, digest {digest:#x}", path.display());
                        self.find(
                            Severity::Fault,
                            what,
                            "the snapshot, or the log before it, is another server's",
                        );
                        walk.tree = None;
                    }
                }
                None if next.follows(file.zxid) => walk.begin_with(self.dir, &file)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// The walk through the whole log.
struct Walk {
    last: Option<Zxid>,
    /// What the log has led to since the last snapshot that it could begin with.
    tree: Option<Tree>,
    /// Until here that snapshot knows more than it should.
    fuzzy_until: Zxid,
    /// A wrong digest is told once: all that follow are wrong, too.
    mismatch: bool,
}

impl Walk {
    fn begin_with(&mut self, dir: &DataDir, file: &SnapFile) -> Result<(), Fault> {
        if let Ok((tree, summary)) = read_tree(dir.read_snapshot(file)?, file.zxid) {
            self.fuzzy_until = summary.digest.map_or(file.zxid, |(zxid, _)| zxid.max(file.zxid));
            self.tree = Some(tree);
        }
        Ok(())
    }

    fn is_exact(&self, zxid: Zxid) -> bool {
        zxid >= self.fuzzy_until
    }

    /// Applies the next transaction. The tree's digest, and the one that was foretold, if they differ for the
    /// first time.
    fn apply(&mut self, entry: &Entry) -> Option<(i64, i64)> {
        let (zxid, exact) = (entry.zxid(), self.is_exact(entry.zxid()));
        let tree = self.tree.as_mut().filter(|tree| tree.zxid() < zxid)?;
        tree.apply(&entry.txn, &mut Vec::new());
        let foretold = entry.txn.digest.filter(|digest| digest.version == DIGEST_VERSION)?.tree;
        if !exact || tree.digest() == foretold {
            return None;
        }
        (!std::mem::replace(&mut self.mismatch, true)).then_some((tree.digest(), foretold))
    }
}

/// The remedy of what a start does not mind.
const IGNORED: &str = "nothing: a start goes on without it";

fn hex(number: i64) -> String {
    format!("{number:#x}")
}
