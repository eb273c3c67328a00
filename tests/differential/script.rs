//! A sequence: what is sent, by whom, in which order. Plain data, so that it can be made from a seed, made
//! smaller, printed, kept in a file and played again.
//!
//! A script is written as lines of JSON: the head, then a step a line. Connections have numbers, each used once;
//! a session is named by the connection that made it. What is only known while a script is played (session ids,
//! passwords, zxids) stands in it by name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A number of a connection.
pub type Conn = u8;

/// A path or another string; `None` is null.
pub type Text = Option<String>;

/// What is played: where, and the steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Script {
    pub head: Head,
    pub steps: Vec<Step>,
}

/// The first line of a script.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// What it was made from.
    pub seed: u64,
    pub shape: Shape,
}

/// Which servers it is played on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// A server alone, with its default settings.
    Standalone,
    /// A server alone, with TTL nodes and enforced quotas.
    Extended,
    /// A leader, a follower and an observer.
    Ensemble,
    /// The same, with local sessions that become global with their first ephemeral.
    Local,
}

impl Shape {
    /// It has several servers.
    pub fn is_ensemble(self) -> bool {
        matches!(self, Shape::Ensemble | Shape::Local)
    }
}

/// A server of an ensemble; standing alone, one is all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    Leader,
    Follower,
    Observer,
}

/// One thing after another: all effects of a step are awaited before the next begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Opens a connection, shakes hands and sends what is to follow in the same segment.
    Connect { conn: Conn, at: Place, hello: Hello, then: Vec<Ask> },
    /// Opens a connection and sends bytes that are no handshake; then waits for the server to close it.
    Knock { at: Place, hex: String },
    /// Sends requests in one segment, and reads their replies.
    Send { conn: Conn, asks: Vec<Ask> },
    /// Sends a length and that many zero bytes (or fewer: then the client closes); then waits for the end.
    Frame { conn: Conn, length: i32, bytes: usize },
    /// The client closes the connection without a word.
    Drop { conn: Conn },
}

/// A ConnectRequest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    pub session: SessionName,
    pub password: Password,
    pub seen: ZxidName,
    pub timeout: i32,
    /// The last byte; `None` leaves it out, as old clients do.
    pub read_only: Option<u8>,
    pub protocol: i32,
}

/// Whose session.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SessionName {
    New,
    /// The session that this connection made.
    Of(Conn),
    /// Nobody's.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Password {
    /// The one that the server gave out; for a new session 16 zero bytes.
    Right,
    /// 16 other bytes.
    Wrong,
    Null,
    Empty,
    /// Without the last byte.
    Short,
    /// With a byte more.
    Long,
}

/// A zxid by name.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ZxidName {
    Raw(i64),
    /// That many behind the start of the sequence.
    Start(i64),
    /// That many ahead of the newest.
    Last(i64),
}

/// A request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    pub xid: i32,
    pub op: Op,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bend: Option<Bend>,
}

/// How a request's bytes are spoilt. Offsets count from the begin of the record, behind the header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Bend {
    /// The record ends there.
    Cut(usize),
    /// That many bytes more.
    Tail(usize),
    /// An int written over what is there.
    Int(usize, i32),
    /// A byte written over what is there.
    Byte(usize, u8),
}

/// An ACL entry: perms, scheme, id.
pub type AclEntry = (i32, Text, Text);

/// A list of ACL entries; `None` is null.
pub type AclList = Option<Vec<AclEntry>>;

/// What is asked: an opcode and its record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Op {
    Create {
        path: Text,
        data: Text,
        acl: AclList,
        flags: i32,
    },
    Create2 {
        path: Text,
        data: Text,
        acl: AclList,
        flags: i32,
    },
    CreateContainer {
        path: Text,
        data: Text,
        acl: AclList,
        flags: i32,
    },
    CreateTtl {
        path: Text,
        data: Text,
        acl: AclList,
        flags: i32,
        ttl: i64,
    },
    Delete {
        path: Text,
        version: i32,
    },
    DeleteContainer {
        path: Text,
    },
    Exists {
        path: Text,
        watch: bool,
    },
    GetData {
        path: Text,
        watch: bool,
    },
    SetData {
        path: Text,
        data: Text,
        version: i32,
    },
    GetAcl {
        path: Text,
    },
    SetAcl {
        path: Text,
        acl: AclList,
        version: i32,
    },
    GetChildren {
        path: Text,
        watch: bool,
    },
    GetChildren2 {
        path: Text,
        watch: bool,
    },
    Sync {
        path: Text,
    },
    Ping,
    Check {
        path: Text,
        version: i32,
    },
    Multi {
        members: Vec<Op>,
    },
    MultiRead {
        members: Vec<Op>,
    },
    Reconfig {
        joining: Text,
        leaving: Text,
        members: Text,
        config: i64,
    },
    CheckWatches {
        path: Text,
        kind: i32,
    },
    RemoveWatches {
        path: Text,
        kind: i32,
    },
    SetWatches {
        zxid: ZxidName,
        data: Option<Vec<Text>>,
        exist: Option<Vec<Text>>,
        child: Option<Vec<Text>>,
    },
    SetWatches2 {
        zxid: ZxidName,
        data: Option<Vec<Text>>,
        exist: Option<Vec<Text>>,
        child: Option<Vec<Text>>,
        persistent: Option<Vec<Text>>,
        recursive: Option<Vec<Text>>,
    },
    AddWatch {
        path: Text,
        mode: i32,
    },
    Auth {
        scheme: Text,
        auth: Text,
    },
    Sasl {
        token: Text,
    },
    GetEphemerals {
        path: Text,
    },
    GetAllChildrenNumber {
        path: Text,
    },
    WhoAmI,
    CreateSession {
        timeout: i32,
    },
    CloseSession,
    /// Any opcode with any record.
    Raw {
        opcode: i32,
        hex: String,
    },
}

impl Op {
    pub fn opcode(&self) -> i32 {
        match self {
            Op::Create { .. } => 1,
            Op::Delete { .. } => 2,
            Op::Exists { .. } => 3,
            Op::GetData { .. } => 4,
            Op::SetData { .. } => 5,
            Op::GetAcl { .. } => 6,
            Op::SetAcl { .. } => 7,
            Op::GetChildren { .. } => 8,
            Op::Sync { .. } => 9,
            Op::Ping => 11,
            Op::GetChildren2 { .. } => 12,
            Op::Check { .. } => 13,
            Op::Multi { .. } => 14,
            Op::Create2 { .. } => 15,
            Op::Reconfig { .. } => 16,
            Op::CheckWatches { .. } => 17,
            Op::RemoveWatches { .. } => 18,
            Op::CreateContainer { .. } => 19,
            Op::DeleteContainer { .. } => 20,
            Op::CreateTtl { .. } => 21,
            Op::MultiRead { .. } => 22,
            Op::Auth { .. } => 100,
            Op::SetWatches { .. } => 101,
            Op::Sasl { .. } => 102,
            Op::GetEphemerals { .. } => 103,
            Op::GetAllChildrenNumber { .. } => 104,
            Op::SetWatches2 { .. } => 105,
            Op::AddWatch { .. } => 106,
            Op::WhoAmI => 107,
            Op::CreateSession { .. } => -10,
            Op::CloseSession => -11,
            Op::Raw { opcode, .. } => *opcode,
        }
    }

    /// It can change the tree or end a session, so that others may see something of it.
    pub fn changes(&self) -> bool {
        matches!(self.opcode(), 1 | 2 | 5 | 7 | 13..=16 | 19..=21 | -10 | -11)
    }

    /// The path that it is about, if it is about one.
    pub fn path(&self) -> Option<&str> {
        match self {
            Op::Create { path, .. }
            | Op::Create2 { path, .. }
            | Op::CreateContainer { path, .. }
            | Op::CreateTtl { path, .. }
            | Op::Delete { path, .. }
            | Op::DeleteContainer { path }
            | Op::Exists { path, .. }
            | Op::GetData { path, .. }
            | Op::SetData { path, .. }
            | Op::GetAcl { path }
            | Op::SetAcl { path, .. }
            | Op::GetChildren { path, .. }
            | Op::GetChildren2 { path, .. }
            | Op::Sync { path }
            | Op::Check { path, .. }
            | Op::CheckWatches { path, .. }
            | Op::RemoveWatches { path, .. }
            | Op::AddWatch { path, .. }
            | Op::GetEphemerals { path }
            | Op::GetAllChildrenNumber { path } => path.as_deref(),
            _ => None,
        }
    }
}

impl Step {
    /// The connection that acts.
    pub fn conn(&self) -> Option<Conn> {
        match self {
            Step::Connect { conn, .. }
            | Step::Send { conn, .. }
            | Step::Frame { conn, .. }
            | Step::Drop { conn } => Some(*conn),
            Step::Knock { .. } => None,
        }
    }

    /// What it asks.
    pub fn asks(&self) -> &[Ask] {
        match self {
            Step::Connect { then, .. } => then,
            Step::Send { asks, .. } => asks,
            _ => &[],
        }
    }

    pub fn asks_mut(&mut self) -> Option<&mut Vec<Ask>> {
        match self {
            Step::Connect { then, .. } => Some(then),
            Step::Send { asks, .. } => Some(asks),
            _ => None,
        }
    }
}

impl Script {
    /// How many requests it holds.
    pub fn operations(&self) -> usize {
        self.steps
            .iter()
            .map(|step| step.asks().len() + usize::from(matches!(step, Step::Connect { .. })))
            .sum()
    }

    /// Reads what `Display` has written. Empty lines and lines that begin with `#` are left out.
    ///
    /// # Errors
    ///
    /// A line that is none of a script's, with its number.
    pub fn parse(text: &str) -> Result<Script, String> {
        let mut lines = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
        let bad = |(n, line): (usize, &str), error| format!("line {}: {error}: {line}", n + 1);
        let head = lines.next().ok_or("a script begins with a line {\"seed\": ..., \"shape\": ...}")?;
        let head = serde_json::from_str(head.1).map_err(|error| bad(head, error))?;
        let steps = lines.map(|line| serde_json::from_str(line.1).map_err(|error| bad(line, error)));
        Ok(Script { head, steps: steps.collect::<Result<_, _>>()? })
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = |line: serde_json::Result<String>| line.map_err(|_| fmt::Error);
        writeln!(f, "{}", json(serde_json::to_string(&self.head))?)?;
        for step in &self.steps {
            writeln!(f, "{}", json(serde_json::to_string(step))?)?;
        }
        Ok(())
    }
}
