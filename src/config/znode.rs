//! `[znode]`: which kinds of znodes there are, whether quotas are enforced, and when those znodes are over that have
//! a time.

use std::time::Duration;

use zabra_actors::core::containers;

use super::error::ConfigError;
use super::read::Section;

/// Its keys.
pub(super) const KEYS: &[&str] = &[
    "extended_types",
    "enforce_quota",
    "container_check_interval",
    "container_max_per_minute",
    "container_max_never_used",
];

/// The default of `container_check_interval`, as Apache's.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// Below this, looking would be most of what the leader does.
const CHECK_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// No container needs to be looked at more rarely.
const CHECK_INTERVAL_MAX: Duration = Duration::from_secs(365 * 86_400);
/// As long as a TTL node can live: five bytes of milliseconds.
const NEVER_USED_MAX: Duration = Duration::from_millis((1 << 40) - 1);

/// `[znode]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZnodeKeys {
    /// May there be TTL nodes?
    pub extended_types: bool,
    /// Are writes refused that would exceed a hard quota?
    pub enforce_quota: bool,
    /// How often the leader looks for containers and TTL nodes that are over.
    pub container_check_interval: Duration,
    /// How many of them it deletes in a minute at most.
    pub container_max_per_minute: u32,
    /// How long a container may stay that never had a child; zero is for ever.
    pub container_max_never_used: Duration,
}

impl ZnodeKeys {
    pub(super) fn read(section: &Section<'_>) -> Result<ZnodeKeys, ConfigError> {
        let interval =
            section.duration("container_check_interval", CHECK_INTERVAL_MIN..=CHECK_INTERVAL_MAX)?;
        let never_used = section.duration("container_max_never_used", Duration::ZERO..=NEVER_USED_MAX)?;
        let per_minute = section.number32("container_max_per_minute", 1..=1_000_000)?;
        Ok(ZnodeKeys {
            extended_types: section.flag("extended_types")?.unwrap_or(false),
            enforce_quota: section.flag("enforce_quota")?.unwrap_or(false),
            container_check_interval: interval.unwrap_or(CHECK_INTERVAL),
            container_max_per_minute: per_minute.unwrap_or(10_000),
            container_max_never_used: never_used.unwrap_or_default(),
        })
    }

    /// When the leader looks for containers, and how fast it deletes them.
    pub fn containers(&self) -> containers::Settings {
        containers::Settings {
            check_interval_ms: super::millis(self.container_check_interval),
            max_per_minute: self.container_max_per_minute,
        }
    }

    /// As `key=value` for the log at start.
    pub(super) fn effective(&self) -> String {
        let time = humantime::format_duration;
        format!(
            "znode.extended_types={} znode.enforce_quota={} znode.container_check_interval={} znode.container_max_per_minute={} \
             znode.container_max_never_used={}",
            self.extended_types,
            self.enforce_quota,
            time(self.container_check_interval),
            self.container_max_per_minute,
            time(self.container_max_never_used)
        )
    }
}
