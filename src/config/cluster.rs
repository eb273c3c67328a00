//! The meaning of each key: from merged sections to a [`Cluster`], every limit filled in and checked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use zabra_actors::core::replica::LocalSessions;
use zabra_actors::types::{EpochLength, Membership, Sid};

use super::error::ConfigError;
use super::load::Merged;
use super::read::Section;
use crate::disk::Compression;

use super::{
    AclKeys, Address, AdminKeys, ClientKeys, Cluster, PeerKeys, Server, StorageKeys, TimingKeys, ZnodeKeys,
    keys, limits,
};

/// A tick below this is mostly overhead, one above it makes failures last for hours.
const TICK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(600));
/// Ticks that a phase or a silence may last.
const TICKS_MAX: u32 = 10_000;
/// A new epoch costs each server two writes to its epoch files: with fewer transactions than this that is all it does.
const EPOCH_LENGTH_MIN: u32 = 10;
/// Session time-outs travel as signed 32-bit milliseconds.
const SESSION_MAX: Duration = Duration::from_millis(i32::MAX as u64);
/// Connecting and electing: no time-out of a network is longer.
const PEER_MAX: Duration = Duration::from_secs(600);
/// Ids are a session's high byte, and 255 is taken by Apache's extended ephemeral owners.
const ID_MAX: u64 = 254;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Reads every section.
pub(super) fn read(merged: &Merged) -> Result<Cluster, ConfigError> {
    let file = PathBuf::from(&merged.origins.file);
    // Relative directories are relative to the file, so that every subcommand means the same from anywhere.
    let base = file.parent().unwrap_or(Path::new("")).to_path_buf();
    let cluster = merged.section("cluster");
    cluster.only("reconfig", &["false"])?;
    let data_dir = base.join(cluster.text("data_dir")?.unwrap_or_else(|| "data".to_string()));
    let txn_log_dir = cluster.text("txn_log_dir")?.map(|dir| base.join(dir));
    let timing = timing(&merged.section("timing"))?;
    let client = client(&merged.section("client"))?;
    let admin = admin(&merged.section("admin"), client.read_only_mode)?;
    let place = Places { base, data_dir, txn_log_dir, admin: admin.enabled };
    Ok(Cluster {
        name: cluster.text("name")?.unwrap_or_else(|| "zabra".to_string()),
        epoch_length: cluster
            .number32("epoch_length", EPOCH_LENGTH_MIN..=EpochLength::MAX.0)?
            .map(EpochLength)
            .unwrap_or_default(),
        storage: storage(&merged.section("storage"))?,
        peer: peer(&merged.section("peer"))?,
        limits: limits::limits(
            &merged.section("limits"),
            &merged.section(keys::THROTTLE),
            client.local_sessions != LocalSessions::Off,
        )?,
        acl: AclKeys::read(&merged.section("acl"))?,
        znode: ZnodeKeys::read(&merged.section("znode"))?,
        servers: servers(merged, &place)?,
        overridden: merged.origins.overrides.clone(),
        file,
        timing,
        client,
        admin,
    })
}

fn timing(section: &Section<'_>) -> Result<TimingKeys, ConfigError> {
    let tick_time = section.duration("tick_time", TICK.0..=TICK.1)?.unwrap_or(Duration::from_secs(2));
    let millisecond = Duration::from_millis(1);
    let min = section.duration("min_session_timeout", millisecond..=SESSION_MAX)?.unwrap_or(tick_time * 2);
    let max = section.duration("max_session_timeout", millisecond..=SESSION_MAX)?.unwrap_or(tick_time * 20);
    if min > max {
        let (min, max) = (humantime::format_duration(min), humantime::format_duration(max));
        let problem = format!("{min} is longer than max_session_timeout, {max}");
        return Err(section.wrong(
            "min_session_timeout",
            problem,
            "shorten it, or raise max_session_timeout",
        ));
    }
    Ok(TimingKeys {
        tick_time,
        init_limit: section.number32("init_limit", 1..=TICKS_MAX)?.unwrap_or(10),
        sync_limit: section.number32("sync_limit", 1..=TICKS_MAX)?.unwrap_or(5),
        min_session_timeout: min,
        max_session_timeout: max,
    })
}

fn storage(section: &Section<'_>) -> Result<StorageKeys, ConfigError> {
    let compression = match section.text("compression")?.as_deref() {
        None | Some("none") => Compression::None,
        Some("gz") => Compression::Gz,
        Some("snappy") => Compression::Snappy,
        Some(_) => {
            let remedy = r#"write "gz", "snappy" or "none""#;
            return Err(section.wrong("compression", "there is no such compression", remedy));
        }
    };
    let purge_every = section.duration("purge_every", Duration::ZERO..=Duration::from_secs(365 * 86_400))?;
    Ok(StorageKeys {
        snap_count: section.number("snap_count", 2..=1_000_000_000)?.unwrap_or(100_000),
        snap_size: section.size("snap_size", MIB..=1024 * GIB)?.unwrap_or(4 * GIB),
        prealloc: section.size("prealloc", 4 * KIB..=4 * GIB)?.unwrap_or(64 * MIB),
        retain: section.number32("retain", 3..=10_000)?.unwrap_or(3),
        purge_every: purge_every.filter(|every| !every.is_zero()),
        compression,
        min_free: section.size("min_free", 0..=1024 * GIB)?.unwrap_or(256 * MIB),
    })
}

fn client(section: &Section<'_>) -> Result<ClientKeys, ConfigError> {
    section.only("tls", &["false"])?;
    let unlimited = |n: u32| (n > 0).then_some(n);
    Ok(ClientKeys {
        max_connections_per_ip: unlimited(
            section.number32("max_connections_per_ip", 0..=1_000_000)?.unwrap_or(60),
        ),
        max_connections: unlimited(section.number32("max_connections", 0..=1_000_000)?.unwrap_or(0)),
        local_sessions: local_sessions(section)?,
        read_only_mode: section.flag("read_only_mode")?.unwrap_or(false),
    })
}

fn local_sessions(section: &Section<'_>) -> Result<LocalSessions, ConfigError> {
    let flag = |key| section.flag(key).map(Option::unwrap_or_default);
    match (flag("local_sessions")?, flag("upgrade_local_sessions")?) {
        (false, false) => Ok(LocalSessions::Off),
        (true, false) => Ok(LocalSessions::On),
        (true, true) => Ok(LocalSessions::Upgraded),
        (false, true) => {
            let remedy = "set client.local_sessions = true, or remove this";
            Err(section.wrong("upgrade_local_sessions", "there are no local sessions to upgrade", remedy))
        }
    }
}

fn peer(section: &Section<'_>) -> Result<PeerKeys, ConfigError> {
    section.only("tls", &["false"])?;
    section.only("protocol", &["zabra"])?;
    let millisecond = Duration::from_millis(1);
    let time = |key, default| section.duration(key, millisecond..=PEER_MAX).map(|d| d.unwrap_or(default));
    let keys = PeerKeys {
        connect_timeout: time("connect_timeout", Duration::from_secs(5))?,
        notification_min: time("notification_min", Duration::from_millis(200))?,
        notification_max: time("notification_max", Duration::from_secs(3))?,
    };
    if keys.notification_min > keys.notification_max {
        let (min, max) = (keys.notification_min, keys.notification_max);
        let (min, max) = (humantime::format_duration(min), humantime::format_duration(max));
        let problem = format!("{min} is longer than notification_max, {max}");
        return Err(section.wrong("notification_min", problem, "shorten it, or raise notification_max"));
    }
    Ok(keys)
}

fn admin(section: &Section<'_>, read_only_mode: bool) -> Result<AdminKeys, ConfigError> {
    let words = section.words("four_letter_words")?.unwrap_or_else(|| vec!["srvr".to_string()]);
    let mut allowed = BTreeSet::new();
    for word in &words {
        if word == "*" {
            allowed.extend(keys::FOUR_LETTER_WORDS.iter().map(|w| w.to_string()));
        } else if keys::FOUR_LETTER_WORDS.contains(&word.as_str()) {
            allowed.insert(word.clone());
        } else {
            let known = keys::FOUR_LETTER_WORDS;
            let remedy = match keys::nearest(word, known.iter().copied()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("the words are {}", known.join(", ")),
            };
            return Err(section.wrong("four_letter_words", format!("{word:?} is no command"), remedy));
        }
    }
    if read_only_mode {
        allowed.insert("isro".to_string()); // clients of a read-only server ask for it
    }
    Ok(AdminKeys { enabled: section.flag("enabled")?.unwrap_or(true), four_letter_words: allowed })
}

/// What a server's own keys fall back on.
struct Places {
    base: PathBuf,
    data_dir: PathBuf,
    txn_log_dir: Option<PathBuf>,
    admin: bool,
}

/// All servers; no two may share an id, an address or a directory.
fn servers(merged: &Merged, places: &Places) -> Result<BTreeMap<Sid, Server>, ConfigError> {
    let mut servers: BTreeMap<Sid, Server> = BTreeMap::new();
    let mut addresses: BTreeMap<(String, u16), String> = BTreeMap::new();
    for section in merged.servers() {
        let Some(id) = section.number("id", 1..=ID_MAX)? else {
            return Err(section.wrong("id", "there is no id", "give a number from 1 to 254"));
        };
        let sid = Sid(u8::try_from(id).expect("the range is of 8 bits"));
        if servers.contains_key(&sid) {
            return Err(section.wrong("id", "another server has this id", "give each server its own"));
        }
        let section = section.renamed(format!("[[server]] id {sid}: "));
        let server = server(&section, sid, places)?;
        for (key, address) in server.addresses() {
            let owner = format!("{key} of server {sid}");
            if let Some(other) = addresses.insert(address.canonical(), owner) {
                let problem = format!("this is the {other} already");
                return Err(section.wrong(key, problem, "choose another host or port"));
            }
        }
        for (key, dir) in server.directories() {
            let taken = |other: &&Server| other.directories().iter().any(|(_, theirs)| *theirs == dir);
            if let Some(other) = servers.values().find(taken) {
                let problem = format!("server {} has the directory {} already", other.id, dir.display());
                return Err(section.wrong(key, problem, "give each server its own"));
            }
        }
        servers.insert(sid, server);
    }
    Ok(servers)
}

fn server(section: &Section<'_>, id: Sid, places: &Places) -> Result<Server, ConfigError> {
    let role = match section.text("role")?.as_deref() {
        None | Some("participant") => Membership::Participant,
        Some("observer") => Membership::Observer,
        Some(_) => {
            let remedy = r#"write "participant" or "observer""#;
            return Err(section.wrong("role", "there is no such role", remedy));
        }
    };
    let data_dir = match section.text("data_dir")? {
        Some(own) => places.base.join(own),
        None => places.data_dir.join(id.to_string()),
    };
    let txn_log_dir = match section.text("txn_log_dir")? {
        Some(own) => Some(places.base.join(own)),
        None => places.txn_log_dir.as_ref().map(|dir| dir.join(id.to_string())),
    };
    let admin = match address(section, "admin")? {
        None if places.admin => {
            let remedy = format!(
                r#"write admin = "127.0.0.1:{}", or set admin.enabled = false"#,
                7000 + u16::from(id.0)
            );
            return Err(section.wrong("admin", "there is no address for operators", remedy));
        }
        admin => admin.filter(|_| places.admin),
    };
    Ok(Server {
        id,
        role,
        client: required(section, "client", 2181)?,
        peer: required(section, "peer", 2888)?,
        admin,
        // Named twice, it is one directory.
        txn_log_dir: txn_log_dir.filter(|dir| *dir != data_dir),
        data_dir,
        weight: section.number32("weight", 0..=1_000_000)?.unwrap_or(1),
        group: section.number32("group", 0..=254)?.unwrap_or(0),
    })
}

fn required(section: &Section<'_>, key: &'static str, usual_port: u16) -> Result<Address, ConfigError> {
    let remedy = format!(r#"write {key} = "host:{usual_port}""#);
    address(section, key)?.ok_or_else(|| section.wrong(key, "there is no address", remedy))
}

fn address(section: &Section<'_>, key: &str) -> Result<Option<Address>, ConfigError> {
    let Some(text) = section.text(key)? else { return Ok(None) };
    let wrong = |problem| section.wrong(key, problem, r#"write it as "host:port""#);
    Address::parse(&text).map(Some).map_err(wrong)
}
