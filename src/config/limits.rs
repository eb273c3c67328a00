//! `[limits]` and `[limits.throttle]`: how much the clients of a server may want at a time.

use std::time::Duration;

use super::error::ConfigError;
use super::keys;
use super::read::Section;
use crate::net::{ConnectionThrottle, LargeRequests, RequestThrottle, Weights};

/// A write must fit into a frame between servers, with what its transaction adds.
const MAX_FRAME: u64 = 32 << 20;
/// The longest pause of a throttle.
const PAUSE_MAX: Duration = Duration::from_secs(3600);

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// `[limits]`.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitKeys {
    /// The longest frame of a client, in bytes.
    pub max_frame: usize,
    /// Requests in the servers of the ensemble together before sockets are left unread.
    pub max_outstanding: u32,
    /// Frames that count as large, and how many bytes of them may be under way at a time.
    pub large_requests: Option<LargeRequests>,
    /// `[limits.throttle]`: requests.
    pub request_throttle: Option<RequestThrottle>,
    /// `[limits.throttle]`: new connections.
    pub connection_throttle: Option<ConnectionThrottle>,
}

/// Reads both sections. `local_sessions`: there are some, whose weight may be set.
pub(super) fn limits(
    section: &Section<'_>,
    throttle: &Section<'_>,
    local_sessions: bool,
) -> Result<LimitKeys, ConfigError> {
    let max_frame = section.size("max_frame", KIB..=MAX_FRAME)?.unwrap_or(1_048_575);
    Ok(LimitKeys {
        max_frame: usize::try_from(max_frame).expect("32 MiB fit"),
        max_outstanding: section.number32("max_outstanding", 1..=10_000_000)?.unwrap_or(1000),
        large_requests: large_requests(section)?,
        request_throttle: request_throttle(throttle)?,
        connection_throttle: connection_throttle(throttle, local_sessions)?,
    })
}

fn large_requests(section: &Section<'_>) -> Result<Option<LargeRequests>, ConfigError> {
    let Some(above) = section.size("large_request_threshold", 0..=MAX_FRAME)? else {
        section.none_of(&["large_request_max_bytes"], "limits.large_request_threshold")?;
        return Ok(None);
    };
    let max = section.size("large_request_max_bytes", MIB..=64 * GIB)?.unwrap_or(100 * MIB);
    let bytes = |size| usize::try_from(size).expect("the ranges fit 64 bits");
    Ok(Some(LargeRequests { above: bytes(above), max: bytes(max) }))
}

fn request_throttle(section: &Section<'_>) -> Result<Option<RequestThrottle>, ConfigError> {
    let max_requests = section.number32("max_requests", 0..=10_000_000)?.unwrap_or(0);
    if max_requests == 0 {
        let others =
            ["stall_time", "drop_stale", "stale_connection_check", "stale_latency_check", "op_wait_time"];
        section.none_of(&others, "limits.throttle.max_requests")?;
        return Ok(None);
    }
    let millisecond = Duration::from_millis(1);
    let flag = |key, default| section.flag(key).map(|flag| flag.unwrap_or(default));
    Ok(Some(RequestThrottle {
        max_requests: max_requests as usize,
        stall_time: section.duration("stall_time", millisecond..=PAUSE_MAX)?.unwrap_or(millisecond * 100),
        drop_stale: flag("drop_stale", true)?,
        stale_connection_check: flag("stale_connection_check", true)?,
        stale_latency_check: flag("stale_latency_check", false)?,
        op_wait_time: section.duration("op_wait_time", millisecond..=PAUSE_MAX)?,
    }))
}

fn connection_throttle(
    section: &Section<'_>,
    local_sessions: bool,
) -> Result<Option<ConnectionThrottle>, ConfigError> {
    let tokens = section.number32("connection_tokens", 0..=1_000_000)?.unwrap_or(0);
    if tokens == 0 {
        let others = [
            "connection_fill_time",
            "connection_fill_count",
            "connection_freeze_time",
            "connection_weight_enabled",
        ];
        section.none_of(&others, "limits.throttle.connection_tokens")?;
    }
    let millisecond = Duration::from_millis(1);
    let freeze_time = section.duration("connection_freeze_time", millisecond..=PAUSE_MAX)?;
    if freeze_time.is_none() {
        let others = ["connection_drop_increase", "connection_drop_decrease", "connection_decrease_ratio"];
        section.none_of(&others, "limits.throttle.connection_freeze_time")?;
    }
    let weights = weights(section, local_sessions)?;
    let throttle = ConnectionThrottle {
        tokens,
        fill_time: section.duration("connection_fill_time", millisecond..=PAUSE_MAX)?.unwrap_or(millisecond),
        fill_count: section.number32("connection_fill_count", 1..=1_000_000)?.unwrap_or(1),
        freeze_time,
        drop_increase: section.fraction("connection_drop_increase")?.unwrap_or(0.02),
        drop_decrease: section.fraction("connection_drop_decrease")?.unwrap_or(0.002),
        decrease_ratio: section.fraction("connection_decrease_ratio")?.unwrap_or(0.0),
        weights,
    };
    Ok((tokens > 0).then_some(throttle))
}

/// As Apache has it, no session weighs less than a local one.
fn weights(section: &Section<'_>, local_sessions: bool) -> Result<Option<Weights>, ConfigError> {
    if !section.flag("connection_weight_enabled")?.unwrap_or(false) {
        let others = [
            "connection_global_session_weight",
            "connection_renew_session_weight",
            "connection_local_session_weight",
        ];
        section.none_of(&others, "limits.throttle.connection_weight_enabled = true")?;
        return Ok(None);
    }
    if !local_sessions {
        section.none_of(&["connection_local_session_weight"], "client.local_sessions = true")?;
    }
    let weight = |key, default| section.number32(key, 1..=1000).map(|weight| weight.unwrap_or(default));
    let local = weight("connection_local_session_weight", 1)?;
    let (global, renew) =
        (weight("connection_global_session_weight", 3)?, weight("connection_renew_session_weight", 2)?);
    Ok(Some(Weights { global: global.max(local), renew: renew.max(local), local }))
}

impl LimitKeys {
    /// As `key=value` for the log at start; what is off is left out.
    pub(super) fn effective(&self) -> Vec<String> {
        let mut lines = vec![
            format!("limits.max_frame={}B", self.max_frame),
            format!("limits.max_outstanding={}", self.max_outstanding),
        ];
        if let Some(LargeRequests { above, max }) = self.large_requests {
            lines.push(format!(
                "limits.large_request_threshold={above}B limits.large_request_max_bytes={max}B"
            ));
        }
        let time = humantime::format_duration;
        let mut throttle = |key: &str, value: &dyn std::fmt::Display| {
            lines.push(format!("{}.{key}={value}", keys::THROTTLE));
        };
        if let Some(requests) = &self.request_throttle {
            throttle("max_requests", &requests.max_requests);
            throttle("stall_time", &time(requests.stall_time));
            throttle("drop_stale", &requests.drop_stale);
            throttle("stale_connection_check", &requests.stale_connection_check);
            throttle("stale_latency_check", &requests.stale_latency_check);
            throttle("op_wait_time", &time(requests.op_wait_time.unwrap_or_default()));
        }
        if let Some(connections) = &self.connection_throttle {
            throttle("connection_tokens", &connections.tokens);
            throttle("connection_fill_time", &time(connections.fill_time));
            throttle("connection_fill_count", &connections.fill_count);
            if let Some(freeze_time) = connections.freeze_time {
                throttle("connection_freeze_time", &time(freeze_time));
                throttle("connection_drop_increase", &connections.drop_increase);
                throttle("connection_drop_decrease", &connections.drop_decrease);
                throttle("connection_decrease_ratio", &connections.decrease_ratio);
            }
            if let Some(weights) = connections.weights {
                throttle("connection_global_session_weight", &weights.global);
                throttle("connection_renew_session_weight", &weights.renew);
                throttle("connection_local_session_weight", &weights.local);
            }
        }
        lines
    }
}
