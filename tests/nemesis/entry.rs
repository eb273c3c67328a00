//! What a client did and what came of it: one line of a history.
//!
//! Times are nanoseconds of the machine's monotonic clock, which all processes share. An operation took effect
//! between `begin` and `end`; if its outcome is unknown, at any time after `begin` or never.

use std::fmt;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// setData of a register, with or without an expected version.
    Write,
    /// A sync and a getData behind it on the same connection.
    Read,
    /// A getData alone: it may show the past, but not again what came before something this session has seen.
    PlainRead,
    /// A create of a sequential znode: its number is the id.
    Id,
    /// An item put into a queue, as a sequential znode.
    Put,
    /// An item taken from a queue, by the delete of its znode.
    Take,
    /// A lock was waited for: at `end` this client knew that it holds it, by the ephemeral with this number.
    Acquire,
    /// A multi that changes the lock's register only if the ephemeral is still there.
    Guard,
    /// The delete of the ephemeral.
    Release,
    /// In the end this id was there.
    IdLeft,
    /// In the end this item was still in the queue.
    ItemLeft,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It took effect.
    Ok,
    /// The server said why it did not.
    Fail,
    /// The answer was lost, or never came.
    Unknown,
}

/// One operation. Fields that say nothing of its kind are left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub client: String,
    /// 0 when it changed meanwhile.
    pub session: i64,
    pub kind: Kind,
    pub outcome: Outcome,
    pub begin: u64,
    pub end: u64,
    /// Which register, lock or queue.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// What was written or read, put or taken. No two writes have the same.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// The version that a write asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<i32>,
    /// The version that came of a write, or was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i32>,
    /// Of the change, or of the change that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zxid: Option<i64>,
    /// The number of a sequential znode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// Why it failed, or is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

impl Entry {
    /// An operation that begins and ends at these times, without any detail.
    pub fn new(client: &str, kind: Kind, outcome: Outcome, begin: u64, end: u64) -> Entry {
        Entry {
            client: client.to_string(),
            session: 0,
            kind,
            outcome,
            begin,
            end,
            key: String::new(),
            value: String::new(),
            expect: None,
            version: None,
            zxid: None,
            number: None,
            error: String::new(),
        }
    }

    pub fn is_ok(&self) -> bool {
        self.outcome == Outcome::Ok
    }

    /// Whether this shows that the ensemble still takes writes.
    pub fn is_written(&self) -> bool {
        let writes = [Kind::Write, Kind::Id, Kind::Put, Kind::Take, Kind::Guard, Kind::Release];
        self.is_ok() && writes.contains(&self.kind)
    }
}

/// As it stands in the report of a violation.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (begin, end) = (self.begin as f64 / 1e9, self.end as f64 / 1e9);
        write!(f, "{begin:.6} to {end:.6} s  {:<9} {:?} {:?}", self.client, self.kind, self.outcome)?;
        let parts = [
            ("of", (!self.key.is_empty()).then(|| self.key.clone())),
            ("value", (!self.value.is_empty()).then(|| self.value.clone())),
            ("expecting version", self.expect.map(|n| n.to_string())),
            ("version", self.version.map(|n| n.to_string())),
            ("number", self.number.map(|n| n.to_string())),
            ("zxid", self.zxid.map(|n| format!("{n:#x}"))),
            ("session", (self.session != 0).then(|| format!("{:#x}", self.session))),
            ("error", (!self.error.is_empty()).then(|| self.error.clone())),
        ];
        parts
            .iter()
            .try_for_each(|(name, part)| part.iter().try_for_each(|part| write!(f, ", {name} {part}")))
    }
}

/// Writes a history, one JSON object a line.
///
/// # Errors
///
/// The file and why it cannot be written.
pub fn save(path: &Path, history: &[Entry]) -> Result<(), String> {
    let write = || -> std::io::Result<()> {
        let mut file = BufWriter::new(std::fs::File::create(path)?);
        for entry in history {
            serde_json::to_writer(&mut file, entry)?;
            file.write_all(b"\n")?;
        }
        file.flush()
    };
    write().map_err(|error| format!("{}: {error}", path.display()))
}

/// Reads what [`save`] has written.
///
/// # Errors
///
/// The file, the line, and what is wrong with it.
pub fn load(path: &Path) -> Result<Vec<Entry>, String> {
    let file = std::fs::File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let parse = |(at, line): (usize, std::io::Result<String>)| {
        let line = line.map_err(|error| error.to_string());
        let entry = line.and_then(|line| serde_json::from_str(&line).map_err(|error| error.to_string()));
        entry.map_err(|error| format!("{}, line {}: {error}", path.display(), at + 1))
    };
    BufReader::new(file).lines().enumerate().map(parse).collect()
}
