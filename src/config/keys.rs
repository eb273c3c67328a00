//! The keys of `cluster.toml`: which there are, which are meant for later, and what a mistyped one may
//! have been.

/// The only section inside another one.
pub(super) const THROTTLE: &str = "limits.throttle";

/// Every section with its keys.
pub(super) const SECTIONS: &[(&str, &[&str])] = &[
    ("cluster", &["name", "data_dir", "txn_log_dir", "epoch_length", "reconfig"]),
    ("timing", &["tick_time", "init_limit", "sync_limit", "min_session_timeout", "max_session_timeout"]),
    ("storage", &["snap_count", "snap_size", "prealloc", "retain", "purge_every", "compression", "min_free"]),
    (
        "client",
        &[
            "max_connections_per_ip",
            "max_connections",
            "local_sessions",
            "upgrade_local_sessions",
            "read_only_mode",
            "tls",
        ],
    ),
    ("peer", &["connect_timeout", "notification_min", "notification_max", "protocol", "tls"]),
    ("admin", &["enabled", "four_letter_words"]),
    ("limits", &["max_frame", "max_outstanding", "large_request_threshold", "large_request_max_bytes"]),
    (
        THROTTLE,
        &[
            "max_requests",
            "stall_time",
            "drop_stale",
            "stale_connection_check",
            "stale_latency_check",
            "op_wait_time",
            "connection_tokens",
            "connection_fill_time",
            "connection_fill_count",
            "connection_freeze_time",
            "connection_drop_increase",
            "connection_drop_decrease",
            "connection_decrease_ratio",
            "connection_weight_enabled",
            "connection_global_session_weight",
            "connection_renew_session_weight",
            "connection_local_session_weight",
        ],
    ),
    ("acl", super::acl::KEYS),
    ("znode", super::znode::KEYS),
    ("server", &["id", "role", "client", "peer", "admin", "data_dir", "txn_log_dir", "weight", "group"]),
];

/// Sections that are part of the format and not of this version.
pub(super) const LATER_SECTIONS: &[&str] = &["audit", "tls", "sasl", "extra"];

/// Apache's four-letter words: what `admin.four_letter_words` may name.
pub const FOUR_LETTER_WORDS: &[&str] = &[
    "ruok", "isro", "srvr", "stat", "mntr", "conf", "cons", "crst", "srst", "dump", "envi", "wchs", "wchc",
    "wchp", "dirs", "hash", "gtmk", "stmk",
];

/// How alike two words must be for one to be taken as the other mistyped; 1 is equal.
const ALIKE: f64 = 0.7;

/// The keys of a section.
pub(super) fn of_section(section: &str) -> Option<&'static [&'static str]> {
    SECTIONS.iter().find(|(name, _)| *name == section).map(|(_, keys)| *keys)
}

/// The known word that is nearest to `word`, if any is near.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(&word, known), known))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

/// What to do about an unknown key of a section: the section that has it, or the nearest key, or all keys.
pub(super) fn advice(section: &str, key: &str) -> String {
    let owner = SECTIONS.iter().find(|(_, keys)| keys.contains(&key));
    if let Some((owner, _)) = owner {
        let table = if *owner == "server" { "[[server]]".to_string() } else { format!("[{owner}]") };
        return format!("it belongs to {table}");
    }
    let keys = of_section(section).unwrap_or_default();
    match nearest(key, keys.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("the keys here are {}", keys.join(", ")),
    }
}

/// What to do about an unknown section.
pub(super) fn section_advice(section: &str) -> String {
    let names = || SECTIONS.iter().map(|(name, _)| *name);
    match nearest(section, names()) {
        Some("server") => "did you mean [[server]]?".to_string(),
        Some(near) => format!("did you mean [{near}]?"),
        None => format!("the sections are {}", names().collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_key_finds_its_own() {
        assert_eq!(advice("timing", "tick_tme"), "did you mean tick_time?");
        assert_eq!(advice("timing", "ticktime"), "did you mean tick_time?");
        assert_eq!(advice("cluster", "tick_time"), "it belongs to [timing]");
        assert_eq!(advice("cluster", "weight"), "it belongs to [[server]]");
        assert_eq!(
            advice("cluster", "xxxx"),
            "the keys here are name, data_dir, txn_log_dir, epoch_length, reconfig"
        );
        assert_eq!(section_advice("timming"), "did you mean [timing]?");
        assert_eq!(section_advice("servers"), "did you mean [[server]]?");
    }
}
