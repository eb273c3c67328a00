//! What a line asks for, once its words have been understood. Parsing is pure: nothing is opened or sent.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};

use super::failure::Failure;
use super::getopt::{self, Parsed};
use super::quota::Limit;
use super::table::{self, Spec};
use super::{acl, reconfig};
use crate::client::{Acl, WatchMode, WatcherType, perms};

/// The longest life of a TTL node, in milliseconds: what 40 bits hold.
const MAX_TTL_MS: i64 = 0xff_ffff_ffff;

/// How many znodes a `deleteall` deletes at a time.
const BATCH: i32 = 1000;

/// Base64 as Java reads it: with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A command, ready to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the fields are named for the arguments they are
pub enum Command {
    AddWatch { path: String, mode: WatchMode },
    AddAuth { scheme: String, auth: Option<String> },
    Close,
    Config { brief: bool, watch: bool, stat: bool },
    Connect { to: Option<String> },
    Create { path: String, data: Data, acl: Vec<Acl>, kind: Kind },
    Delete { path: String, version: Option<i32> },
    DeleteAll { path: String, batch: i32 },
    DelQuota { path: String, limits: Vec<Limit> },
    Get { path: String, form: Form, watch: bool, stat: bool },
    GetAcl { path: String, stat: bool },
    GetAllChildrenNumber { path: String },
    GetEphemerals { path: String },
    Help { command: Option<&'static Spec> },
    History,
    ListQuota { path: String },
    Ls { path: String, watch: bool, stat: bool },
    LsAll { path: String, watch: bool },
    PrintWatches { on: Option<bool> },
    Quit,
    Reconfig(reconfig::Change),
    Redo { number: usize },
    RemoveWatches { path: String, kind: WatcherType, local: bool },
    Set { path: String, data: Data, version: Option<i32>, stat: bool },
    SetAcl { path: String, acl: Vec<Acl>, version: Option<i32>, stat: bool },
    SetAclAll { path: String, acl: Vec<Acl>, version: Option<i32> },
    SetQuota { path: String, limit: Limit, value: i64 },
    Stat { path: String, watch: bool },
    Sync { path: String },
    Version,
    WhoAmI,
}

/// Where data comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// There is none, which is not the same as empty.
    Null,
    /// The command line.
    Bytes(Vec<u8>),
    /// Standard input, up to its end.
    Stdin,
    /// A file.
    File(PathBuf),
}

/// What kind of znode to create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the protocol's names
pub enum Kind {
    Plain { sequential: bool, ephemeral: bool },
    Container,
    Ttl { sequential: bool, ms: i64 },
}

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As text.
    Text,
    /// In base64.
    Base64,
    /// As a table of bytes.
    Hex,
    /// As it is.
    Raw,
}

/// A command, and what is to be said about how it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Understood {
    /// For standard error.
    pub notices: Vec<String>,
    /// What to do.
    pub command: Command,
}

impl Command {
    /// The path that it is about, as it is named in errors; empty if there is none.
    pub fn path(&self) -> &str {
        match self {
            Command::AddWatch { path, .. }
            | Command::Create { path, .. }
            | Command::Delete { path, .. }
            | Command::DeleteAll { path, .. }
            | Command::DelQuota { path, .. }
            | Command::Get { path, .. }
            | Command::GetAcl { path, .. }
            | Command::GetAllChildrenNumber { path }
            | Command::GetEphemerals { path }
            | Command::ListQuota { path }
            | Command::Ls { path, .. }
            | Command::LsAll { path, .. }
            | Command::RemoveWatches { path, .. }
            | Command::Set { path, .. }
            | Command::SetAcl { path, .. }
            | Command::SetAclAll { path, .. }
            | Command::SetQuota { path, .. }
            | Command::Stat { path, .. }
            | Command::Sync { path } => path,
            _ => "",
        }
    }

    /// The data that it sends.
    pub fn data(&self) -> Option<&Data> {
        match self {
            Command::Create { data, .. } | Command::Set { data, .. } => Some(data),
            _ => None,
        }
    }
}

/// Understands the words of a line.
pub fn parse(words: &[String]) -> Result<Understood, Failure> {
    let Some(name) = words.first() else {
        return Err(Failure::no_command());
    };
    let Some(spec) = table::find(name) else {
        return Err(Failure::not_found(name));
    };
    let parsed = getopt::parse(spec.options, words).map_err(Failure::new)?;
    let mut request = Request { spec, parsed, notices: Vec::new() };
    let command = request.command()?;
    Ok(Understood { notices: request.notices, command })
}

/// A command whose options are sorted out.
struct Request {
    spec: &'static Spec,
    parsed: Parsed,
    notices: Vec<String>,
}

impl Request {
    fn command(&mut self) -> Result<Command, Failure> {
        Ok(match self.spec.name {
            "addWatch" => self.add_watch()?,
            "addauth" => Command::AddAuth { scheme: self.arg(1)?, auth: self.parsed.args.get(2).cloned() },
            "close" => Command::Close,
            "config" => Command::Config { brief: self.has("c"), watch: self.has("w"), stat: self.has("s") },
            "connect" => Command::Connect { to: self.parsed.args.get(1).cloned() },
            "create" => self.create()?,
            "delete" => self.delete()?,
            "deleteall" => Command::DeleteAll { path: self.arg(1)?, batch: self.batch()? },
            "rmr" => {
                self.deprecated("The command 'rmr'", "deleteall");
                Command::DeleteAll { path: self.arg(1)?, batch: BATCH }
            }
            "delquota" => {
                Command::DelQuota { path: self.arg(1)?, limits: self.limit()?.into_iter().collect() }
            }
            "get" => self.get()?,
            "getAcl" => Command::GetAcl { path: self.arg(1)?, stat: self.has("s") },
            "getAllChildrenNumber" => Command::GetAllChildrenNumber { path: self.arg(1)? },
            "getEphemerals" => Command::GetEphemerals {
                path: self.parsed.args.get(1).cloned().unwrap_or_else(|| "/".into()),
            },
            "help" => self.help()?,
            "history" => Command::History,
            "listquota" => Command::ListQuota { path: self.arg(1)? },
            "ls" | "ls2" => self.ls()?,
            "printwatches" => Command::PrintWatches { on: self.parsed.args.get(1).map(|word| word == "on") },
            "quit" => Command::Quit,
            "reconfig" => self.reconfig()?,
            "redo" => {
                let number = self.arg(1)?;
                let out_of_range = |_| Failure::new("Command index out of range".into());
                Command::Redo { number: number.parse().map_err(out_of_range)? }
            }
            "removewatches" => self.remove_watches()?,
            "set" => self.set()?,
            "setAcl" => self.set_acl()?,
            "setquota" => self.set_quota()?,
            "stat" => {
                let path = self.arg(1)?;
                let watch = self.watch("stat path [watch]", "stat [-w] path");
                Command::Stat { path, watch }
            }
            "sync" => Command::Sync { path: self.arg(1)? },
            "version" if self.parsed.args.len() > 1 => return Err(self.usage()),
            "version" => Command::Version,
            "whoami" => Command::WhoAmI,
            other => unreachable!("{other} is in the table, and not here"),
        })
    }

    fn has(&self, option: &str) -> bool {
        self.parsed.has(option)
    }

    fn usage(&self) -> Failure {
        Failure::new(self.spec.usage())
    }

    /// The argument at this place; without it the usage is said.
    fn arg(&self, place: usize) -> Result<String, Failure> {
        self.parsed.args.get(place).cloned().ok_or_else(|| self.usage())
    }

    fn number<T: std::str::FromStr>(&self, option: &str) -> Result<Option<T>, Failure> {
        let Some(value) = self.parsed.value(option) else { return Ok(None) };
        let bad = |_| Failure::new(format!("-{option} argument must be an int value, not {value:?}"));
        value.parse().map(Some).map_err(bad)
    }

    /// Version -1 is any, as in Apache's.
    fn version(&self) -> Result<Option<i32>, Failure> {
        Ok(self.number("v")?.filter(|version| *version != -1))
    }

    fn deprecated(&mut self, old: &str, new: &str) {
        self.notices.push(format!("{old} has been deprecated. Please use '{new}' instead."));
    }

    /// Is a watch wanted: by the option, or by the old form, in which any word behind the path says so?
    fn watch(&mut self, old: &str, new: &str) -> bool {
        let by_word = self.parsed.args.len() > 2;
        if by_word {
            self.deprecated(&format!("'{old}'"), new);
        }
        by_word || self.has("w")
    }

    fn add_watch(&mut self) -> Result<Command, Failure> {
        let mode = match self.parsed.value("m").map(str::to_uppercase).as_deref() {
            None | Some("PERSISTENT_RECURSIVE") => WatchMode::PersistentRecursive,
            Some("PERSISTENT") => WatchMode::Persistent,
            Some(_) => return Err(self.usage()),
        };
        if self.parsed.args.len() != 2 {
            return Err(self.usage());
        }
        Ok(Command::AddWatch { path: self.arg(1)?, mode })
    }

    fn create(&mut self) -> Result<Command, Failure> {
        let path = self.arg(1)?;
        let [sequential, ephemeral, container] = ["s", "e", "c"].map(|option| self.has(option));
        let refuse = |why: &str| Err(Failure::new(why.into()));
        if container && (ephemeral || sequential) {
            return refuse(
                "-c cannot be combined with -s or -e. Containers cannot be ephemeral or sequential.",
            );
        }
        let ttl = match self.parsed.value("t").map(str::parse::<i64>) {
            Some(Err(_)) => return refuse("-t argument must be a long value"),
            Some(Ok(_)) if ephemeral => return refuse("TTLs cannot be used with Ephemeral znodes"),
            Some(Ok(_)) if container => return refuse("TTLs cannot be used with Container znodes"),
            Some(Ok(ms)) if !(1..=MAX_TTL_MS).contains(&ms) => {
                return refuse("ttl must be positive and cannot be larger than: 1099511627775");
            }
            ttl => ttl.and_then(Result::ok),
        };
        let kind = match ttl {
            Some(ms) => Kind::Ttl { sequential, ms },
            None if container => Kind::Container,
            None => Kind::Plain { sequential, ephemeral },
        };
        let (data, after) = match self.file() {
            Some(data) => (data, 2),
            None => (self.parsed.args.get(2).map_or(Data::Null, |text| Data::Bytes(text.clone().into())), 3),
        };
        let acl = match self.parsed.args.get(after).cloned() {
            Some(text) => self.acl(&text),
            None => vec![Acl::world(perms::ALL)],
        };
        Ok(Command::Create { path, data, acl, kind })
    }

    /// The data that `--file` names.
    fn file(&self) -> Option<Data> {
        Some(match self.parsed.value("file")? {
            "-" => Data::Stdin,
            path => Data::File(path.into()),
        })
    }

    fn acl(&mut self, text: &str) -> Vec<Acl> {
        let (acl, remarks) = acl::parse(text);
        self.notices.extend(remarks);
        acl
    }

    fn delete(&mut self) -> Result<Command, Failure> {
        let path = self.arg(1)?;
        let mut version = self.version()?;
        if let Some(old) = self.parsed.args.get(2).cloned() {
            self.deprecated("'delete path [version]'", "delete [-v version] path");
            // Apache's shell ignores the version here, and deletes whatever there is.
            let bad = |_| Failure::new(format!("the version must be an int value, not {old:?}"));
            let old = old.parse::<i32>().map_err(bad)?;
            version = version.or(Some(old).filter(|version| *version != -1));
        }
        Ok(Command::Delete { path, version })
    }

    fn batch(&self) -> Result<i32, Failure> {
        let bad = |_| Failure::new("-b argument must be an int value".into());
        self.parsed.value("b").map_or(Ok(BATCH), |value| value.parse().map_err(bad))
    }

    /// The limit that an option names: one at most.
    fn limit(&self) -> Result<Option<Limit>, Failure> {
        let mut given = Limit::BY_OPTION.iter().filter(|(option, _)| self.has(option));
        let (first, second) = (given.next(), given.next());
        if let (Some((first, _)), Some((second, _))) = (first, second) {
            return Err(Failure::new(format!(
                "The option '{second}' was specified but an option from this group has already been selected: \
                 '{first}'"
            )));
        }
        Ok(first.map(|(_, limit)| *limit))
    }

    fn get(&mut self) -> Result<Command, Failure> {
        let path = self.arg(1)?;
        let watch = self.watch("get path [watch]", "get [-s] [-w] path");
        let form = match () {
            () if self.has("raw") => Form::Raw,
            () if self.has("x") => Form::Hex,
            () if self.has("b") => Form::Base64,
            () => Form::Text,
        };
        Ok(Command::Get { path, form, watch, stat: self.has("s") })
    }

    fn help(&self) -> Result<Command, Failure> {
        let Some(name) = self.parsed.args.get(1) else { return Ok(Command::Help { command: None }) };
        let spec = table::find(name).ok_or_else(|| Failure::not_found(name))?;
        Ok(Command::Help { command: Some(spec) })
    }

    fn ls(&mut self) -> Result<Command, Failure> {
        if self.has("?") {
            return Ok(Command::Help { command: Some(self.spec) });
        }
        let path = self.arg(1)?;
        if self.spec.name == "ls2" {
            self.deprecated("'ls2'", "ls [-s] path");
            return Ok(Command::Ls { path, watch: self.parsed.args.len() > 2, stat: true });
        }
        let watch = self.watch("ls path [watch]", "ls [-w] path");
        Ok(match self.has("R") {
            true => Command::LsAll { path, watch },
            false => Command::Ls { path, watch, stat: self.has("s") },
        })
    }

    fn reconfig(&self) -> Result<Command, Failure> {
        if !["file", "members", "add", "remove"].iter().any(|option| self.has(option)) {
            return Err(self.usage());
        }
        reconfig::Change::new(&self.parsed).map(Command::Reconfig).map_err(Failure::new)
    }

    fn remove_watches(&self) -> Result<Command, Failure> {
        let kinds = [
            ("c", WatcherType::Children),
            ("d", WatcherType::Data),
            ("p", WatcherType::Persistent),
            ("r", WatcherType::PersistentRecursive),
        ];
        let kind =
            kinds.iter().find(|(option, _)| self.has(option)).map_or(WatcherType::Any, |(_, kind)| *kind);
        Ok(Command::RemoveWatches { path: self.arg(1)?, kind, local: self.has("l") })
    }

    fn set(&mut self) -> Result<Command, Failure> {
        let path = self.arg(1)?;
        let data = match self.file() {
            Some(data) => data,
            None if self.has("b") => {
                let decoded = BASE64.decode(self.arg(2)?);
                let bad = |error| Failure::new(format!("the data is not base64: {error}"));
                Data::Bytes(decoded.map_err(bad)?)
            }
            None => Data::Bytes(self.arg(2)?.into()),
        };
        Ok(Command::Set { path, data, version: self.version()?, stat: self.has("s") })
    }

    fn set_acl(&mut self) -> Result<Command, Failure> {
        let (path, text) = (self.arg(1)?, self.arg(2)?);
        let (acl, version) = (self.acl(&text), self.version()?);
        Ok(match self.has("R") {
            true => Command::SetAclAll { path, acl, version },
            false => Command::SetAcl { path, acl, version, stat: self.has("s") },
        })
    }

    fn set_quota(&self) -> Result<Command, Failure> {
        let Some(limit) = self.limit()? else {
            return Err(Failure::new(
                "Missing required option: [-n num soft quota, -b bytes soft quota, -N num hard quota, \
                 -B bytes hard quota]"
                    .into(),
            ));
        };
        let path = self.arg(1)?;
        let refuse = |why: &str| Err(Failure::new(why.into()));
        if path.starts_with(super::quota::ROOT) {
            return refuse("cannot set a quota under the path: /zookeeper/quota");
        }
        let value = Limit::BY_OPTION.iter().find_map(|(option, _)| self.parsed.value(option));
        let value = match value.map(str::parse::<i64>) {
            Some(Ok(value)) if !limit.is_count() || i32::try_from(value).is_ok() => value,
            _ => return refuse("NumberFormatException happens when parsing the option value"),
        };
        match limit.is_count() {
            true if value <= 0 => refuse("the num quota must be greater than zero"),
            false if value < 0 => refuse("the bytes quota must be greater than or equal to zero"),
            _ => Ok(Command::SetQuota { path, limit, value }),
        }
    }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
