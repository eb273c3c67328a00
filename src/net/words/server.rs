//! `srvr` and `stat`: the server in ten lines.

use std::fmt::Write;

use zabra_actors::stats::{Stats, SummarySnapshot};
use zabra_actors::types::ServerState;

use super::{BUILT_ON, VERSION};
use crate::net::listener::Clients;

/// What `srvr` and `stat` say on a server that is cut off.
const READ_ONLY: &str = "READ-ONLY mode; serving only read-only clients\n";

/// The role as Apache's tools name it.
pub(super) fn mode(clients: &Clients) -> &'static str {
    match clients.stats.server_state() {
        _ if clients.stats.is_read_only() => "read-only",
        _ if clients.settings.standalone => "standalone",
        ServerState::Leading => "leader",
        ServerState::Observing => "observer",
        // A word is answered only while the server serves, so it is not looking.
        ServerState::Following | ServerState::Looking => "follower",
    }
}

/// `stat` has a list of clients behind the first line, `srvr` has none.
pub(super) fn srvr(clients: &Clients, client_list: &str) -> String {
    let stats = &clients.stats;
    let latency = Latency::of(stats);
    let read_only = if stats.is_read_only() { READ_ONLY } else { "" };
    let mut out = format!("Zookeeper version: {VERSION}{BUILT_ON}\n{read_only}{client_list}");
    let mut line = |text: std::fmt::Arguments<'_>| writeln!(out, "{text}").expect("a string takes all");
    line(format_args!("Latency min/avg/max: {}/{}/{}", latency.min, java_double(latency.avg), latency.max));
    line(format_args!("Received: {}", stats.packets_received.get()));
    line(format_args!("Sent: {}", stats.packets_sent.get()));
    line(format_args!("Connections: {}", stats.num_alive_connections.get()));
    line(format_args!("Outstanding: {}", stats.outstanding_requests.get()));
    line(format_args!("Zxid: 0x{:x}", stats.last_zxid.get()));
    line(format_args!("Mode: {}", mode(clients)));
    line(format_args!("Node count: {}", stats.znode_count.get()));
    if stats.server_state() == ServerState::Leading && !clients.settings.standalone {
        let [last, min, max] = proposal_sizes(stats);
        line(format_args!("Proposal sizes last/min/max: {last}/{min}/{max}"));
    }
    out
}

/// Last, least and greatest size of a proposal, in bytes; -1 before the first.
pub(super) fn proposal_sizes(stats: &Stats) -> [i64; 3] {
    let sizes = [&stats.last_proposal_size, &stats.min_proposal_size, &stats.max_proposal_size];
    if stats.max_proposal_size.get() == 0 { [-1; 3] } else { sizes.map(|size| size.get()) }
}

/// How long requests took, in milliseconds.
pub(super) struct Latency {
    pub(super) min: u64,
    /// Rounded to four decimals.
    pub(super) avg: f64,
    pub(super) max: u64,
}

impl Latency {
    /// Of reads and writes together.
    pub(super) fn of(stats: &Stats) -> Latency {
        let kinds = [stats.readlatency_us.snapshot(), stats.updatelatency_us.snapshot()];
        let seen = || kinds.iter().filter(|kind| kind.count > 0);
        let total = |figure: fn(&SummarySnapshot) -> u64| seen().map(figure).sum::<u64>();
        Latency {
            min: seen().map(|kind| kind.min).min().unwrap_or(0) / 1000,
            avg: average(total(|kind| kind.sum), total(|kind| kind.count) * 1000),
            max: seen().map(|kind| kind.max).max().unwrap_or(0) / 1000,
        }
    }
}

/// A mean as Apache prints it: rounded to four decimals, 0 of nothing.
pub(super) fn average(sum: u64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { (sum as f64 / count as f64 * 10_000.0).round() / 10_000.0 }
}

/// A number as Java prints it: `0.0`, `2.5`, `1.0E-4`.
pub(super) fn java_double(value: f64) -> String {
    if value == 0.0 || (1e-3..1e7).contains(&value.abs()) {
        return format!("{value:?}");
    }
    let text = format!("{value:E}");
    if text.contains('.') { text } else { text.replacen('E', ".0E", 1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_java_s() {
        let numbers = [
            (0.0, "0.0"),
            (2.25, "2.25"),
            (7.0, "7.0"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (0.0009, "9.0E-4"),
            (9_999_999.5, "9999999.5"),
            (1e7, "1.0E7"),
            (12_345_678.25, "1.234567825E7"),
        ];
        for (number, text) in numbers {
            assert_eq!(java_double(number), text);
        }
    }

    #[test]
    fn latency_is_of_reads_and_writes_in_milliseconds() {
        let stats = Stats::default();
        let none = Latency::of(&stats);
        assert_eq!((none.min, none.avg, none.max), (0, 0.0, 0));
        stats.readlatency_us.observe(900);
        stats.updatelatency_us.observe(6_000);
        stats.updatelatency_us.observe(1_000);
        let some = Latency::of(&stats);
        assert_eq!((some.min, some.avg, some.max), (0, 2.6333, 6));
    }

    #[test]
    fn proposal_sizes_are_unknown_before_the_first() {
        let stats = Stats::default();
        assert_eq!(proposal_sizes(&stats), [-1, -1, -1]);
        stats.last_proposal_size.set(88);
        stats.min_proposal_size.set(36);
        stats.max_proposal_size.set(172);
        assert_eq!(proposal_sizes(&stats), [88, 36, 172]);
    }
}
