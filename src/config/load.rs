//! From file, environment and flags to one merged set of sections whose names are all known.
//!
//! A later source wins: the file, then variables `ZABRA_SECTION__KEY`, then flags `--set section.key=value`.
//! A variable without `__` is nobody's: container platforms invent such names (`ZABRA_SERVICE_HOST`).
//! The servers are a list without keys of their own, so they stand in the file only.

use std::collections::BTreeMap;
use std::path::Path;

use config::{Config, ConfigError as Cause, Environment, File, FileFormat, Map, Source, Value, ValueKind};

use super::error::{ConfigError, Wrong};
use super::keys;
use super::read::{Origins, Section, Table, show};

/// What variables of ours begin with.
const PREFIX: &str = "ZABRA_";

/// The largest file that is read, in bytes: a configuration of 254 servers has about 40 KiB.
const FILE_MAX: u64 = 1 << 20;

/// The merged configuration, its section and key names checked, its values not yet.
pub(super) struct Merged {
    pub(super) origins: Origins,
    sections: BTreeMap<String, Table>,
    servers: Vec<Table>,
}

impl Merged {
    /// A section; empty when nobody gave it.
    pub(super) fn section(&self, name: &str) -> Section<'_> {
        static EMPTY: Table = Table::new();
        Section::new(&self.origins, format!("{name}."), self.sections.get(name).unwrap_or(&EMPTY))
    }

    /// The entries of `[[server]]`, called by their place in the file.
    pub(super) fn servers(&self) -> impl Iterator<Item = Section<'_>> {
        let named = |(i, table)| Section::new(&self.origins, format!("[[server]] number {}: ", i + 1), table);
        self.servers.iter().enumerate().map(named)
    }

    /// An error about the whole file.
    pub(super) fn wrong(&self, problem: impl Into<String>, remedy: impl Into<String>) -> ConfigError {
        whole(&self.origins.file, problem, remedy)
    }
}

/// Reads and merges all sources.
pub(super) fn load(
    file: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
    flags: &[String],
) -> Result<Merged, ConfigError> {
    let mut origins = Origins { file: file.display().to_string(), overrides: BTreeMap::new() };
    let text = read_file(file)?;
    let from_file = File::from_str(&text, FileFormat::Toml);
    let from_env = variables(environment, &mut origins)?;
    let mut builder = Config::builder().add_source(from_file).add_source(
        Environment::with_prefix("ZABRA").prefix_separator("_").separator("__").source(Some(from_env)),
    );
    for flag in flags {
        let (key, value) = read_flag(flag, &mut origins)?;
        let set = builder.set_override(key, value);
        builder =
            set.map_err(|e| whole(&origins.file, format!("--set {flag}: {e}"), "see zabra up --help"))?;
    }
    let merged = builder.build().and_then(|config| config.collect());
    sort(merged.map_err(|cause| broken(&origins.file, &cause))?, origins)
}

fn whole(file: &str, problem: impl Into<String>, remedy: impl Into<String>) -> ConfigError {
    about(file, problem, remedy).into()
}

fn about(file: &str, problem: impl Into<String>, remedy: impl Into<String>) -> Wrong {
    Wrong {
        file: file.to_string(),
        key: String::new(),
        value: None,
        origin: None,
        problem: problem.into(),
        remedy: remedy.into(),
    }
}

fn read_file(file: &Path) -> Result<String, ConfigError> {
    let name = file.display().to_string();
    let unreadable = |e: std::io::Error| {
        whole(&name, format!("cannot read this file: {e}"), "name the configuration with --config FILE")
    };
    let size = std::fs::metadata(file).map_err(unreadable)?.len();
    if size > FILE_MAX {
        let problem = format!("the file has {size} bytes and the limit is {FILE_MAX}");
        return Err(whole(&name, problem, "name the configuration with --config FILE"));
    }
    std::fs::read_to_string(file).map_err(unreadable)
}

/// Our variables, and a note of each in `origins`. An empty one counts as absent.
fn variables(
    environment: impl IntoIterator<Item = (String, String)>,
    origins: &mut Origins,
) -> Result<Map<String, String>, ConfigError> {
    let mut ours = Map::new();
    for (name, value) in environment {
        let Some(path) = name.strip_prefix(PREFIX).filter(|rest| rest.contains("__")) else { continue };
        if value.is_empty() {
            continue;
        }
        let key = path.to_ascii_lowercase().replace("__", ".");
        override_key(&key, &value, &format!("variable {name}"), origins)?;
        ours.insert(name, value);
    }
    Ok(ours)
}

/// `section.key=value` of `--set`.
fn read_flag(flag: &str, origins: &mut Origins) -> Result<(String, String), ConfigError> {
    let Some((key, value)) = flag.split_once('=') else {
        let problem = format!("--set {flag}: there is no value");
        return Err(whole(&origins.file, problem, "write --set section.key=value"));
    };
    let key = key.trim().to_ascii_lowercase();
    override_key(&key, value, "flag --set", origins)?;
    Ok((key, value.to_string()))
}

/// Notes that `key` comes from `origin`, if it is a key that can be overridden at all.
fn override_key(key: &str, value: &str, origin: &str, origins: &mut Origins) -> Result<(), ConfigError> {
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let wrong = |problem: &str, remedy: &str| -> ConfigError {
        let about = about(&origins.file, problem, remedy);
        let value = Some(format!("{value:?}"));
        Wrong { key: key.to_string(), value, origin: Some(origin.to_string()), ..about }.into()
    };
    match key.split_once('.') {
        Some(("server", _)) => Err(wrong("the servers cannot be overridden", "edit [[server]] in the file")),
        Some((section, name)) if plain(section) && name.split('.').all(plain) => {
            origins.overrides.insert(key.to_string(), origin.to_string());
            Ok(())
        }
        _ => Err(wrong("this names no key", "name it as section.key, in a variable as ZABRA_SECTION__KEY")),
    }
}

/// One line out of what the TOML parser says in several.
fn broken(file: &str, cause: &Cause) -> ConfigError {
    let text = match cause {
        Cause::FileParse { cause, .. } => cause.to_string(),
        other => other.to_string(),
    };
    // The lines between place and reason draw the source text.
    let drawing = |line: &&str| !line.trim().is_empty() && !line.contains('|');
    let line = text.lines().filter(drawing).collect::<Vec<_>>().join(": ");
    whole(file, line, "correct the file; its form is TOML")
}

/// Splits the merged values into sections and checks every name.
fn sort(values: Map<String, Value>, origins: Origins) -> Result<Merged, ConfigError> {
    let values: BTreeMap<String, Value> = values.into_iter().collect();
    let mut merged = Merged { origins, sections: BTreeMap::new(), servers: Vec::new() };
    for (name, value) in values {
        if name == "server" {
            merged.servers = entries(&merged, value)?;
            continue;
        }
        check_section(&merged, &name, &value)?;
        let ValueKind::Table(table) = value.kind else { unreachable!("checked just before") };
        let mut table: Table = table.into_iter().collect();
        if name == "limits" {
            take_throttle(&mut merged, &mut table)?;
        }
        merged.sections.insert(name, table);
    }
    for name in merged.sections.keys() {
        merged.section(name).check_keys(name)?;
    }
    for server in merged.servers() {
        server.check_keys("server")?;
    }
    Ok(merged)
}

/// The section inside `[limits]` becomes one of its own.
fn take_throttle(merged: &mut Merged, limits: &mut Table) -> Result<(), ConfigError> {
    let Some(value) = limits.remove("throttle") else { return Ok(()) };
    let ValueKind::Table(table) = value.kind else {
        let problem = format!("limits.throttle = {}: this is the name of a section", show(&value));
        return Err(merged.wrong(problem, format!("write [{}] and its keys below", keys::THROTTLE)));
    };
    merged.sections.insert(keys::THROTTLE.to_string(), table.into_iter().collect());
    Ok(())
}

/// A section must be one of this version's, and a table.
fn check_section(merged: &Merged, name: &str, value: &Value) -> Result<(), ConfigError> {
    let table = matches!(value.kind, ValueKind::Table(_));
    if keys::LATER_SECTIONS.contains(&name) {
        let problem = format!("[{name}]: this section is specified but not supported yet");
        return Err(merged.wrong(problem, "remove it"));
    }
    if keys::of_section(name).is_some() && table {
        return Ok(());
    }
    if keys::of_section(name).is_some() {
        let problem = format!("{name} = {}: this is the name of a section", show(value));
        return Err(merged.wrong(problem, format!("write [{name}] and its keys below")));
    }
    if table {
        let origin = merged.origins.overrides.iter().find(|(key, _)| key.starts_with(&format!("{name}.")));
        let origin = origin.map(|(_, origin)| format!(" (from {origin})")).unwrap_or_default();
        return Err(merged.wrong(format!("[{name}]{origin}: unknown section"), keys::section_advice(name)));
    }
    let problem = format!("{name} = {}: unknown key outside of every section", show(value));
    Err(merged.wrong(problem, keys::advice("", name)))
}

/// The tables of `[[server]]`.
fn entries(merged: &Merged, value: Value) -> Result<Vec<Table>, ConfigError> {
    let no_list =
        || merged.wrong("server: this is no list", "write [[server]] before the keys of each server");
    let ValueKind::Array(items) = value.kind else { return Err(no_list()) };
    let entry = |item: Value| match item.kind {
        ValueKind::Table(table) => Ok(table.into_iter().collect()),
        _ => Err(no_list()),
    };
    items.into_iter().map(entry).collect()
}
