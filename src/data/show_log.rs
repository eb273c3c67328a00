//! A log file, transaction by transaction.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use zabra_actors::types::{Acl, CreateKind, Entry, Fault, Txn, TxnBody};

use super::show::{ShowArgs, show_data};
use super::{EXIT_FOUND, print};
use crate::boot::Failure;
use crate::disk::{End, LogReader, Next};

/// Prints the file. Exit code 1 when it ends in anything but an end.
pub(super) fn run(args: &ShowArgs, path: &Path) -> Result<u8, Failure> {
    let unreadable = |error: io::Error| Fault(format!("cannot read {}: {error}", path.display()));
    let (mut reader, header) = LogReader::open(File::open(path).map_err(unreadable)?).map_err(unreadable)?;
    header.map_err(|wrong| Fault(format!("{}: {wrong}", path.display())))?;
    let mut fault = None;
    print(|out| {
        loop {
            let at = reader.offset();
            match reader.next()? {
                Next::Record(record) => match Entry::decode(record.entry) {
                    Ok(entry) => transaction(args, out, at, &entry.txn)?,
                    Err(wrong) => fault = Some(format!("at offset {at}: a record of {wrong}")),
                },
                Next::End(End::Clean) => return Ok(()),
                Next::End(End::Cut(how)) => {
                    return writeln!(out, "{}", end_line(args, at, "unfinished", &how));
                }
                Next::End(End::Corrupt(how)) => {
                    fault = Some(format!("at offset {at}: {how}"));
                    return writeln!(out, "{}", end_line(args, at, "damaged", &how));
                }
            }
        }
    })?;
    Ok(if fault.is_some() { EXIT_FOUND } else { 0 })
}

fn end_line(args: &ShowArgs, at: u64, kind: &str, how: &str) -> String {
    match args.json {
        true => json!({ "end": kind, "offset": at, "how": how }).to_string(),
        false => format!("{kind} at offset {at}: {how}"),
    }
}

fn transaction(args: &ShowArgs, out: &mut dyn Write, at: u64, txn: &Txn) -> io::Result<()> {
    if !args.wants_zxid(txn.header.zxid) || !mentions(args, &txn.body) {
        return Ok(());
    }
    match args.json {
        true => writeln!(out, "{}", as_json(at, txn)),
        false => writeln!(out, "{}", for_people(args, txn)),
    }
}

/// Is it about a znode that is asked for? Those that are about none are shown unless one is named.
fn mentions(args: &ShowArgs, body: &TxnBody) -> bool {
    match body {
        TxnBody::Create { path, .. }
        | TxnBody::Delete { path, .. }
        | TxnBody::SetData { path, .. }
        | TxnBody::SetAcl { path, .. }
        | TxnBody::Check { path, .. } => args.wants_path(path),
        TxnBody::Multi(members) => {
            args.path_prefix.is_none() || members.iter().any(|member| mentions(args, member))
        }
        TxnBody::CloseSession { paths: Some(paths) } if !paths.is_empty() => {
            args.path_prefix.is_none() || paths.iter().any(|path| args.wants_path(path))
        }
        TxnBody::CreateSession { .. } | TxnBody::CloseSession { .. } | TxnBody::Error(_) => {
            args.path_prefix.is_none()
        }
    }
}

/// In the manner of Apache's zkTxnLogToolkit.
fn for_people(args: &ShowArgs, txn: &Txn) -> String {
    let header = &txn.header;
    let time = u64::try_from(header.time).unwrap_or_default();
    // Beyond the year 9999 there is nothing to show.
    let time = UNIX_EPOCH + Duration::from_millis(time.min(253_402_300_799_000));
    format!(
        "{} session 0x{:x} cxid 0x{:x} zxid {} {}{}",
        humantime::format_rfc3339_millis(time),
        header.session.0,
        header.cxid,
        header.zxid,
        body_for_people(args, &txn.body),
        txn.digest.map(|digest| format!(" digest {:#x}", digest.tree)).unwrap_or_default()
    )
}

/// ZooKeeper's name of a transaction's type.
fn name(body: &TxnBody) -> &'static str {
    match body {
        TxnBody::CreateSession { .. } => "createSession",
        TxnBody::CloseSession { .. } => "closeSession",
        TxnBody::Error(_) => "error",
        TxnBody::Create { kind: CreateKind::Create, .. } => "create",
        TxnBody::Create { kind: CreateKind::Create2, .. } => "create2",
        TxnBody::Create { kind: CreateKind::Container, .. } => "createContainer",
        TxnBody::Create { kind: CreateKind::Ttl(_), .. } => "createTTL",
        TxnBody::Delete { container: false, .. } => "delete",
        TxnBody::Delete { container: true, .. } => "deleteContainer",
        TxnBody::SetData { reconfig: false, .. } => "setData",
        TxnBody::SetData { reconfig: true, .. } => "reconfig",
        TxnBody::SetAcl { .. } => "setACL",
        TxnBody::Check { .. } => "check",
        TxnBody::Multi(_) => "multi",
    }
}

fn body_for_people(args: &ShowArgs, body: &TxnBody) -> String {
    let data = |data: &Option<bytes::Bytes>| show_data(data.as_deref(), args.data);
    let details = match body {
        TxnBody::CreateSession { timeout_ms } => format!("{timeout_ms} ms"),
        TxnBody::CloseSession { paths: Some(paths) } => paths.join(" "),
        TxnBody::CloseSession { paths: None } => String::new(),
        TxnBody::Error(code) => code.to_string(),
        TxnBody::Create { kind, path, data: content, acl, ephemeral, parent_cversion } => {
            let ephemeral = if *ephemeral { " ephemeral" } else { "" };
            let ttl = if let CreateKind::Ttl(ms) = kind { format!(" ttl {ms} ms") } else { String::new() };
            format!(
                "{path} {} acl {}{ephemeral}{ttl} parent cversion {parent_cversion}",
                data(content),
                acl_for_people(acl)
            )
        }
        TxnBody::Delete { path, .. } => path.to_string(),
        TxnBody::SetData { path, data: content, version, .. } => {
            format!("{path} {} version {version}", data(content))
        }
        TxnBody::SetAcl { path, acl, version } => {
            format!("{path} acl {} version {version}", acl_for_people(acl))
        }
        TxnBody::Check { path, version } => format!("{path} version {version}"),
        TxnBody::Multi(members) => {
            let members: Vec<_> = members.iter().map(|member| body_for_people(args, member)).collect();
            format!("[{}]", members.join("; "))
        }
    };
    format!("{} {details}", name(body)).trim_end().to_string()
}

/// As zkCli writes them: `world:anyone:cdrwa`.
pub(super) fn acl_for_people(acl: &[Acl]) -> String {
    let one = |acl: &Acl| {
        let perms = [(4, 'c'), (8, 'd'), (1, 'r'), (2, 'w'), (16, 'a')];
        let letters: String =
            perms.iter().filter(|(bit, _)| acl.perms & bit != 0).map(|(_, letter)| *letter).collect();
        format!("{}:{}:{letters}", acl.id.scheme, acl.id.id)
    };
    acl.iter().map(one).collect::<Vec<_>>().join(",")
}

pub(super) fn data_json(data: Option<&[u8]>) -> Value {
    data.map_or(Value::Null, |data| BASE64_STANDARD.encode(data).into())
}

fn as_json(at: u64, txn: &Txn) -> Value {
    let header = &txn.header;
    let mut value = body_json(&txn.body);
    value["zxid"] = header.zxid.to_string().into();
    value["session"] = format!("0x{:x}", header.session.0).into();
    value["cxid"] = header.cxid.into();
    value["time"] = header.time.into();
    value["offset"] = at.into();
    if let Some(digest) = txn.digest {
        value["digest"] = format!("{:#x}", digest.tree).into();
        value["digestVersion"] = digest.version.into();
    }
    value
}

fn body_json(body: &TxnBody) -> Value {
    let data = |data: &Option<bytes::Bytes>| data_json(data.as_deref());
    let mut value = match body {
        TxnBody::CreateSession { timeout_ms } => json!({ "timeout": timeout_ms }),
        TxnBody::CloseSession { paths } => {
            json!({ "paths": paths.as_ref().map(|paths| paths.iter().map(|path| &path[..]).collect::<Vec<_>>()) })
        }
        TxnBody::Error(code) => json!({ "error": code }),
        TxnBody::Create { kind, path, data: content, acl, ephemeral, parent_cversion } => {
            let mut value = json!({
                "path": &path[..], "data": data(content), "acl": acl_for_people(acl), "ephemeral": ephemeral,
                "parentCversion": parent_cversion,
            });
            if let CreateKind::Ttl(ms) = kind {
                value["ttl"] = (*ms).into();
            }
            value
        }
        TxnBody::Delete { path, .. } => json!({ "path": &path[..] }),
        TxnBody::SetData { path, data: content, version, .. } => {
            json!({ "path": &path[..], "data": data(content), "version": version })
        }
        TxnBody::SetAcl { path, acl, version } => {
            json!({ "path": &path[..], "acl": acl_for_people(acl), "version": version })
        }
        TxnBody::Check { path, version } => json!({ "path": &path[..], "version": version }),
        TxnBody::Multi(members) => json!({ "members": members.iter().map(body_json).collect::<Vec<_>>() }),
    };
    value["type"] = name(body).into();
    value
}
