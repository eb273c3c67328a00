//! `cluster.toml`: one file for the whole ensemble. A process is told only which server it is.
//!
//! Three steps, each in a file of its own: `load` merges file, variables and flags and checks every name;
//! `cluster` gives each key its meaning, default and range; `check` looks at the whole. What comes out is a
//! [`Cluster`]: complete, typed, never changed afterwards. Every fault on the way is a [`ConfigError`], one
//! line with file, key, value and remedy, and ends the process with [`EXIT_CONFIG`].
//!
//! Keys that the format has but this version does not (TLS, reconfiguration, SASL) are
//! refused by name: a limit or a lock that is silently ignored is worse than none.

mod acl;
mod address;
mod check;
mod cluster;
mod error;
mod keys;
mod limits;
mod load;
mod members;
mod preflight;
mod read;
mod znode;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use slog::{Logger, info, warn};
use zabra_actors::core::leader::Timing;
use zabra_actors::core::prepare::Rules;
use zabra_actors::core::quorum::{Ensemble, Member};
use zabra_actors::core::replica::LocalSessions;
use zabra_actors::types::{EpochLength, Membership, Sid};

use crate::disk::Compression;

pub use acl::AclKeys;
pub use address::Address;
pub use error::{ConfigError, EXIT_CONFIG};
pub use keys::FOUR_LETTER_WORDS;
pub use limits::LimitKeys;
pub use znode::ZnodeKeys;

/// Flags that say which configuration is meant.
#[derive(clap::Args, Clone, Debug)]
pub struct ConfigArgs {
    /// The configuration of the ensemble
    #[arg(long, value_name = "FILE", default_value = "cluster.toml")]
    pub config: PathBuf,
    /// Overrides a key, as timing.tick_time=500ms; may be given several times
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

impl ConfigArgs {
    /// Loads what the flags say.
    pub fn load(&self) -> Result<Cluster, ConfigError> {
        Cluster::load(&self.config, &self.set)
    }

    /// The same flags for another process in the same directory.
    pub fn to_flags(&self) -> Vec<OsString> {
        let mut flags: Vec<OsString> = vec!["--config".into(), self.config.clone().into()];
        for set in &self.set {
            flags.extend(["--set".into(), set.into()]);
        }
        flags
    }
}

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The file, as it was named.
    pub file: PathBuf,
    /// `cluster.name`: for people.
    pub name: String,
    /// `cluster.epoch_length`: with so many transactions an epoch is followed by the next one.
    pub epoch_length: EpochLength,
    /// `[timing]`.
    pub timing: TimingKeys,
    /// `[storage]`.
    pub storage: StorageKeys,
    /// `[client]`.
    pub client: ClientKeys,
    /// `[peer]`.
    pub peer: PeerKeys,
    /// `[admin]`.
    pub admin: AdminKeys,
    /// `[limits]`.
    pub limits: LimitKeys,
    /// `[acl]`.
    pub acl: AclKeys,
    /// `[znode]`.
    pub znode: ZnodeKeys,
    /// `[[server]]`, by id; never empty.
    pub servers: BTreeMap<Sid, Server>,
    /// Keys that a variable or a flag has set, and which.
    pub overridden: BTreeMap<String, String>,
}

/// `[timing]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimingKeys {
    /// The unit of the limits and of session expiry.
    pub tick_time: Duration,
    /// Ticks that Discovery and Synchronization may take.
    pub init_limit: u32,
    /// Ticks that a learner or a quorum may be silent.
    pub sync_limit: u32,
    /// The shortest session time-out a client gets; 2 ticks by default.
    pub min_session_timeout: Duration,
    /// The longest one; 20 ticks by default.
    pub max_session_timeout: Duration,
}

/// `[storage]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageKeys {
    /// Transactions between two snapshots.
    pub snap_count: u64,
    /// Bytes of log between two snapshots.
    pub snap_size: u64,
    /// Bytes by which the log file grows ahead of its end.
    pub prealloc: u64,
    /// Snapshots that a purge keeps; at least 3.
    pub retain: u32,
    /// Time between purges, as zoo.cfg has it. Kept for that file's sake: a purge follows every snapshot, and
    /// nothing else makes files superfluous.
    pub purge_every: Option<Duration>,
    /// How snapshots are written.
    pub compression: Compression,
    /// Bytes that writes leave free on the disk; with less they are refused. 0 is off.
    pub min_free: u64,
}

/// `[client]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientKeys {
    /// Connections from one address; `None` is unlimited (0 in the file).
    pub max_connections_per_ip: Option<u32>,
    /// Connections in all; `None` is unlimited (0 in the file).
    pub max_connections: Option<u32>,
    /// Are new sessions local, and do they become global with their first ephemeral?
    pub local_sessions: LocalSessions,
    /// Does a server without a quorum serve clients that only want to read?
    pub read_only_mode: bool,
}

/// `[peer]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerKeys {
    /// How long a connection to another server may take to come up.
    pub connect_timeout: Duration,
    /// The first pause before election notifications are repeated; doubled each time.
    pub notification_min: Duration,
    /// The longest such pause.
    pub notification_max: Duration,
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminKeys {
    /// Is there an HTTP port for operators?
    pub enabled: bool,
    /// The commands that the client port answers; `"*"` in the file is all of them.
    pub four_letter_words: BTreeSet<String>,
}

/// One `[[server]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// 1 to 254.
    pub id: Sid,
    /// Does it vote?
    pub role: Membership,
    /// Where clients connect.
    pub client: Address,
    /// Where the other servers connect.
    pub peer: Address,
    /// Where operators look; `None` when `admin.enabled` is false. Nobody is asked for a password there, so
    /// it belongs on loopback or on a network of operators.
    pub admin: Option<Address>,
    /// Its snapshots and epoch files, and its log, unless that has a directory of its own.
    pub data_dir: PathBuf,
    /// The log's own directory, best on another disk.
    pub txn_log_dir: Option<PathBuf>,
    /// Votes it has.
    pub weight: u32,
    /// Its group in a hierarchical quorum.
    pub group: u32,
}

impl Server {
    /// What its role is called.
    pub fn role_name(&self) -> &'static str {
        match self.role {
            Membership::Participant => "participant",
            Membership::Observer => "observer",
        }
    }

    /// Every address it listens on, with its key.
    pub fn addresses(&self) -> Vec<(&'static str, &Address)> {
        let mut all = vec![("client", &self.client), ("peer", &self.peer)];
        all.extend(self.admin.as_ref().map(|admin| ("admin", admin)));
        all
    }

    /// Every directory it writes to, with its key.
    pub fn directories(&self) -> Vec<(&'static str, &Path)> {
        let log = self.txn_log_dir.as_ref().map(|dir| ("txn_log_dir", dir.as_path()));
        std::iter::once(("data_dir", self.data_dir.as_path())).chain(log).collect()
    }
}

impl Cluster {
    /// Loads `file`, then the process's own variables, then `flags` (each `section.key=value`).
    pub fn load(file: &Path, flags: &[String]) -> Result<Cluster, ConfigError> {
        // A variable that is not Unicode cannot be one of ours.
        let environment =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Cluster::load_from(file, environment, flags)
    }

    /// As [`Cluster::load`], with these variables.
    pub fn load_from(
        file: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[String],
    ) -> Result<Cluster, ConfigError> {
        let merged = load::load(file, environment, flags)?;
        let cluster = cluster::read(&merged)?;
        check::check(&cluster, &merged)?;
        Ok(cluster)
    }

    /// The server that `--id` names.
    pub fn server(&self, sid: Sid) -> Result<&Server, ConfigError> {
        self.servers.get(&sid).ok_or_else(|| {
            let ids: Vec<_> = self.servers.keys().map(Sid::to_string).collect();
            error::Wrong {
                file: self.file.display().to_string(),
                key: "[[server]] id".to_string(),
                value: Some(sid.to_string()),
                origin: Some("flag --id".to_string()),
                problem: format!("My id {sid} not in the peer list"),
                remedy: format!("the servers are {}", ids.join(", ")),
            }
            .into()
        })
    }

    /// The ensemble as server `me` sees it.
    pub fn ensemble(&self, me: Sid) -> Ensemble {
        let member = |s: &Server| Member { membership: s.role, weight: s.weight, group: s.group };
        Ensemble { me, members: self.servers.values().map(|s| (s.id, member(s))).collect() }
    }

    /// What `/zookeeper/config` says; `None` for a standalone server.
    pub fn members_text(&self) -> Option<String> {
        (self.servers.len() > 1).then(|| members::text(self))
    }

    /// Ticks and limits for the leader and its learners.
    pub fn timing(&self) -> Timing {
        let tick_ms = millis(self.timing.tick_time);
        Timing {
            tick_ms,
            init_limit_ms: tick_ms * u64::from(self.timing.init_limit),
            sync_limit_ms: tick_ms * u64::from(self.timing.sync_limit),
        }
    }

    /// Bounds of a negotiated session time-out in milliseconds, as the protocol's signed 32 bits.
    pub fn session_timeouts_ms(&self) -> (i32, i32) {
        let bound = |d: Duration| i32::try_from(d.as_millis()).expect("the range was checked at load");
        (bound(self.timing.min_session_timeout), bound(self.timing.max_session_timeout))
    }

    /// What clients' requests are judged by.
    pub fn rules(&self) -> Rules {
        let never_used = millis(self.znode.container_max_never_used);
        Rules {
            acl: self.acl.rules(),
            extended_types: self.znode.extended_types,
            enforce_quota: self.znode.enforce_quota,
            max_never_used_ms: i64::try_from(never_used).expect("the range was checked at load"),
            epoch_length: self.epoch_length,
        }
    }

    /// What is allowed and yet probably not meant; one line each.
    pub fn warnings(&self) -> Vec<String> {
        check::warnings(self)
    }

    /// Creates the directories of these servers and looks whether they can be written.
    pub fn prepare_directories(&self, sids: &[Sid]) -> Result<(), ConfigError> {
        preflight::directories(self, sids)
    }

    /// Looks whether every port of these servers can be bound here and now. May block on DNS.
    pub fn check_ports(&self, sids: &[Sid]) -> Result<(), ConfigError> {
        preflight::ports(self, sids)
    }

    /// Listens on an address of `server`, whose key in the file is `key`. May block on DNS.
    pub fn bind(&self, server: &Server, key: &str, address: &Address) -> Result<TcpListener, ConfigError> {
        preflight::bind(address).map_err(|e| preflight::port_error(self, server, key, address, &e))
    }

    /// Logs the configuration in effect, and what is odd about it.
    pub fn announce(&self, log: &Logger) {
        info!(log, "configuration of {}", self.file.display(); "keys" => self.effective());
        for warning in self.warnings() {
            warn!(log, "{warning}");
        }
    }

    /// The configuration in effect, as `key=value` on one line, for the log at start.
    pub fn effective(&self) -> String {
        let time = humantime::format_duration;
        let unlimited = |n: Option<u32>| n.unwrap_or(0);
        let (t, s, c, p) = (&self.timing, &self.storage, &self.client, &self.peer);
        let words: Vec<_> = self.admin.four_letter_words.iter().map(String::as_str).collect();
        [
            format!("cluster.name={} cluster.epoch_length={}", self.name, self.epoch_length.0),
            format!("timing.tick_time={}", time(t.tick_time)),
            format!("timing.init_limit={} timing.sync_limit={}", t.init_limit, t.sync_limit),
            format!("timing.min_session_timeout={}", time(t.min_session_timeout)),
            format!("timing.max_session_timeout={}", time(t.max_session_timeout)),
            format!("storage.snap_count={} storage.snap_size={}B", s.snap_count, s.snap_size),
            format!("storage.prealloc={}B storage.retain={}", s.prealloc, s.retain),
            format!("storage.purge_every={}", time(s.purge_every.unwrap_or_default())),
            format!("storage.compression={} storage.min_free={}B", s.compression.name(), s.min_free),
            format!("client.max_connections_per_ip={}", unlimited(c.max_connections_per_ip)),
            format!("client.max_connections={}", unlimited(c.max_connections)),
            format!("client.local_sessions={}", c.local_sessions != LocalSessions::Off),
            format!("client.upgrade_local_sessions={}", c.local_sessions == LocalSessions::Upgraded),
            format!("client.read_only_mode={}", c.read_only_mode),
            format!("peer.connect_timeout={}", time(p.connect_timeout)),
            format!("peer.notification_min={}", time(p.notification_min)),
            format!("peer.notification_max={}", time(p.notification_max)),
            format!("admin.enabled={} admin.four_letter_words={}", self.admin.enabled, words.join(",")),
            self.acl.effective(),
            self.znode.effective(),
        ]
        .into_iter()
        .chain(self.limits.effective())
        .collect::<Vec<_>>()
        .join(" ")
    }
}

/// Whole milliseconds of a duration of this file; all are far below 2^64.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("the range was checked at load")
}
