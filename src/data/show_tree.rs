//! A snapshot: its sessions and znodes, or how much is below each.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use zabra_actors::core::tree::{PersistedStat, owner_ttl};
use zabra_actors::types::{Acl, Fault, SessionId};

use super::show::{ShowArgs, show_data};
use super::show_log::{acl_for_people, data_json};
use super::{count, print};
use crate::boot::Failure;
use crate::disk::{BadSnapshot, Visitor, read_snapshot_file};

/// Prints the file; what is damaged is a fault behind what could be read.
pub(super) fn run(args: &ShowArgs, path: &Path) -> Result<u8, Failure> {
    let unreadable = |error: io::Error| Fault(format!("cannot read {}: {error}", path.display()));
    let file = File::open(path).map_err(unreadable)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut outcome = Ok(());
    print(|out| {
        let mut printer = Printer { args, out, written: Ok(()), below: BTreeMap::new() };
        let read = read_snapshot_file(&name, Box::new(file), &mut printer);
        let Printer { mut written, out, below, .. } = printer;
        match read {
            Ok(_) if written.is_ok() && args.summary.is_some() => written = summary(args, out, &below),
            Ok(_) => {}
            // Who reads no further stops the reading, which is no damage.
            Err(_) if written.is_err() => {}
            Err(BadSnapshot::Disk(error)) => outcome = Err(unreadable(error)),
            Err(BadSnapshot::Damaged(how)) => outcome = Err(Fault(format!("{} is {how}", path.display()))),
        }
        written
    })?;
    outcome?;
    Ok(0)
}

struct Printer<'a> {
    args: &'a ShowArgs,
    out: &'a mut dyn Write,
    written: io::Result<()>,
    /// Znodes and bytes of data at and below each path down to the depth of the summary.
    below: BTreeMap<String, (u64, u64)>,
}

impl Visitor for Printer<'_> {
    fn session(&mut self, session: SessionId, timeout_ms: i32) {
        if self.args.summary.is_some() || self.args.path_prefix.is_some() || self.written.is_err() {
            return;
        }
        let session = format!("0x{:x}", session.0);
        self.written = match self.args.json {
            true => writeln!(self.out, "{}", json!({ "session": session, "timeout": timeout_ms })),
            false => writeln!(self.out, "session {session} timeout {timeout_ms} ms"),
        };
    }

    fn node(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl: &Arc<[Acl]>,
        stat: PersistedStat,
    ) -> Result<(), String> {
        let path = if path.is_empty() { "/" } else { path };
        if !self.args.wants_path(path) {
            return Ok(());
        }
        if let Some(depth) = self.args.summary {
            add_up(&mut self.below, path, data.map_or(0, <[u8]>::len) as u64, depth);
            return Ok(());
        }
        self.written = match self.args.json {
            true => writeln!(self.out, "{}", node_json(path, data, acl, &stat)),
            false => writeln!(self.out, "{}", node_line(self.args, path, data, acl, &stat)),
        };
        // The reason is known to who asks.
        if self.written.is_err() { Err("nobody reads on".to_string()) } else { Ok(()) }
    }
}

fn node_line(args: &ShowArgs, path: &str, data: Option<&[u8]>, acl: &[Acl], stat: &PersistedStat) -> String {
    let owner = match (stat.ephemeral_owner, owner_ttl(stat.ephemeral_owner)) {
        (0, _) => String::new(),
        (i64::MIN, _) => " container".to_string(),
        (_, Some(ttl_ms)) => format!(" ttl {ttl_ms} ms"),
        (session, None) => format!(" ephemeral of 0x{session:x}"),
    };
    format!(
        "{path} {} acl {}{owner} czxid 0x{:x} mzxid 0x{:x} pzxid 0x{:x} ctime {} mtime {} version {} cversion {} aversion {}",
        show_data(data, args.data),
        acl_for_people(acl),
        stat.czxid,
        stat.mzxid,
        stat.pzxid,
        stat.ctime,
        stat.mtime,
        stat.version,
        stat.cversion,
        stat.aversion
    )
}

fn node_json(path: &str, data: Option<&[u8]>, acl: &[Acl], stat: &PersistedStat) -> serde_json::Value {
    let hex = |number: i64| format!("0x{number:x}");
    json!({
        "path": path, "data": data_json(data), "acl": acl_for_people(acl),
        "czxid": hex(stat.czxid), "mzxid": hex(stat.mzxid), "pzxid": hex(stat.pzxid),
        "ctime": stat.ctime, "mtime": stat.mtime,
        "version": stat.version, "cversion": stat.cversion, "aversion": stat.aversion,
        "ephemeralOwner": hex(stat.ephemeral_owner),
    })
}

/// Counts a znode at each of its ancestors that are shown, and at itself.
fn add_up(below: &mut BTreeMap<String, (u64, u64)>, path: &str, bytes: u64, depth: usize) {
    let mut add = |path: &str| {
        let sum = below.entry(path.to_string()).or_default();
        *sum = (sum.0 + 1, sum.1 + bytes);
    };
    add("/");
    if path != "/" {
        let ends = path.match_indices('/').skip(1).map(|(at, _)| at).chain([path.len()]);
        ends.take(depth).for_each(|end| add(&path[..end]));
    }
}

fn summary(args: &ShowArgs, out: &mut dyn Write, below: &BTreeMap<String, (u64, u64)>) -> io::Result<()> {
    for (path, (znodes, bytes)) in below {
        match args.json {
            true => writeln!(out, "{}", json!({ "path": path, "znodes": znodes, "bytes": bytes }))?,
            false => writeln!(out, "{path} {}, {} of data", count(*znodes, "znode"), count(*bytes, "byte"))?,
        }
    }
    Ok(())
}
