//! Four-letter words: what operators and their tools ask with `nc` on the clients' port.
//!
//! The words are the first four bytes of a connection, in place of a frame's length; the answer is text,
//! then the connection is closed. Many tools read the texts with regular expressions, so they are
//! Apache's to the byte.
//!
//! `ruok`, `srvr`, `stat`, `mntr` and `isro` are here, if the whitelist has them. Apache's other words are
//! known, so that who asks is told no in the usual way instead of hanging up on him.

use std::fmt::Write;

use zabra_actors::stats::{Stats, SummarySnapshot};
use zabra_actors::types::{ConnId, ServerState};

use super::listener::Clients;
use super::mntr;

/// The words that have an answer here.
const ANSWERED: [&[u8; 4]; 5] = [b"ruok", b"srvr", b"stat", b"mntr", b"isro"];

/// Apache's other words.
const KNOWN: [&[u8; 4]; 13] = [
    b"conf", b"cons", b"crst", b"dirs", b"dump", b"envi", b"gtmk", b"hash", b"srst", b"stmk", b"wchc",
    b"wchp", b"wchs",
];

/// In the whitelist, all words.
const ALL: &str = "*";

/// What everything but `ruok` and `isro` says while there is no quorum, and no read-only mode.
const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";

/// What `srvr` and `stat` say on a server that is cut off.
const READ_ONLY: &str = "READ-ONLY mode; serving only read-only clients\n";

/// The release whose behaviour this is, as tools parse it, then what it really is.
pub(super) const VERSION: &str = concat!("3.9.5-zabra-", env!("CARGO_PKG_VERSION"), ", built on ");

/// When this was built; set by the build of a release.
pub(super) const BUILT_ON: &str = match option_env!("ZABRA_BUILT_ON") {
    Some(date) => date,
    None => "an unknown date",
};

/// Are the first four bytes of a connection a word, rather than a length?
pub(super) fn is_word(bytes: &[u8; 4]) -> bool {
    ANSWERED.contains(&bytes) || KNOWN.contains(&bytes)
}

/// The answer to a word. `asker` is the connection that asks.
pub(super) fn answer(word: &[u8; 4], asker: ConnId, clients: &Clients) -> String {
    let name = std::str::from_utf8(word).expect("words are ASCII");
    let whitelist = &clients.settings.four_letter_words;
    let allowed = whitelist.iter().any(|listed| listed == name || listed == ALL);
    if !allowed || !ANSWERED.contains(&word) {
        return format!("{name} is not executed because it is not in the whitelist.\n");
    }
    let (open, read_only) = (clients.stats.is_open(), clients.stats.is_read_only());
    match word {
        b"ruok" => "imok".to_string(),
        b"isro" => if read_only {
            "ro"
        } else if open {
            "rw"
        } else {
            "null"
        }
        .to_string(),
        _ if !open => NOT_SERVING.to_string(),
        b"srvr" => srvr(clients, ""),
        b"stat" => srvr(clients, &client_list(asker, clients)),
        _ => mntr::answer(clients),
    }
}

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

fn srvr(clients: &Clients, client_list: &str) -> String {
    let stats = &clients.stats;
    let latency = Latency::of(stats);
    let read_only = if stats.is_read_only() { READ_ONLY } else { "" };
    let mut out = format!("Zookeeper version: {VERSION}{BUILT_ON}\n{read_only}{client_list}");
    let mut line = |text: std::fmt::Arguments<'_>| writeln!(out, "{text}").expect("a string takes all");
    line(format_args!("Latency min/avg/max: {}/{:?}/{}", latency.min, latency.avg, latency.max));
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

/// One line a connection. The number is what the server waits for on it: 1 is a request; the asking
/// connection itself has nothing more to say.
fn client_list(asker: ConnId, clients: &Clients) -> String {
    let mut out = "Clients:\n".to_string();
    for (conn, figures) in clients.registry.list() {
        let interest = u8::from(conn != asker);
        writeln!(out, " /{}[{interest}]{figures}", figures.remote).expect("a string takes all");
    }
    out + "\n"
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_no_word() {
        assert!(is_word(b"ruok") && is_word(b"dump"));
        for bytes in [[0, 0, 0, 45], *b"xyzw", *b"RUOK", *b"GET ", [0xff; 4]] {
            assert!(!is_word(&bytes), "{bytes:?}");
        }
    }

    #[test]
    fn latency_is_of_reads_and_writes_in_milliseconds() {
        let stats = Stats::default();
        let none = Latency::of(&stats);
        assert_eq!(format!("{}/{:?}/{}", none.min, none.avg, none.max), "0/0.0/0");
        stats.readlatency_us.observe(900);
        stats.updatelatency_us.observe(6_000);
        stats.updatelatency_us.observe(1_000);
        let some = Latency::of(&stats);
        assert_eq!(format!("{}/{:?}/{}", some.min, some.avg, some.max), "0/2.6333/6");
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
