//! `mntr`: every figure as `zk_<name>\t<value>`, in ZooKeeper's names and units, for monitoring tools.

use std::fmt::{Display, Write};

use zabra_actors::stats::{Stats, SummarySnapshot};
use zabra_actors::types::ServerState;

use super::server::{Latency, average, java_double, mode, proposal_sizes};
use super::{BUILT_ON, VERSION};
use crate::net::listener::Clients;

/// What a value in microseconds is divided by: Apache's times are in milliseconds.
const US: u64 = 1000;

/// All lines.
pub(super) fn answer(clients: &Clients) -> String {
    let stats = &clients.stats;
    let mut lines = Lines(String::new());
    lines.add("version", format_args!("{VERSION}{BUILT_ON}"));
    lines.add("server_state", mode(clients));
    let state = stats.server_state();
    if !clients.settings.standalone {
        lines.add("peer_state", format_args!("{state} - {}", stats.zab_phase()));
    }
    if state == ServerState::Observing {
        lines.add("observer_master_id", stats.leader.get());
    }
    lines.connections(clients);
    lines.tree(stats);
    lines.quorum(stats);
    if !clients.settings.standalone {
        lines.add("quorum_size", stats.quorum_size.get());
        if state == ServerState::Leading {
            lines.leader(stats);
        }
    }
    lines.summaries(stats);
    lines.0
}

struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: impl Display) {
        writeln!(self.0, "zk_{name}\t{value}").expect("a string takes all");
    }

    fn connections(&mut self, clients: &Clients) {
        let stats = &clients.stats;
        let latency = Latency::of(stats);
        self.add("avg_latency", java_double(latency.avg));
        self.add("max_latency", latency.max);
        self.add("min_latency", latency.min);
        self.add("packets_received", stats.packets_received.get());
        self.add("packets_sent", stats.packets_sent.get());
        self.add("num_alive_connections", stats.num_alive_connections.get());
        self.add("outstanding_requests", stats.outstanding_requests.get());
        let [last, min, max] = stats.client_response_size.get();
        self.add("last_client_response_size", last);
        self.add("max_client_response_size", max);
        self.add("min_client_response_size", min);
        self.add("auth_failed_count", stats.auth_failed_count.get());
        self.add("connection_request_count", stats.connection_request_count.get());
        self.add("connection_revalidate_count", stats.connection_revalidate_count.get());
        self.add("connection_rejected", stats.connection_rejected.get());
        self.add("connection_drop_probability", java_double(clients.drop_chance()));
        self.add("throttled_ops", stats.throttled_ops.get());
        self.add("stale_requests", stats.stale_requests.get());
        self.add("stale_requests_dropped", stats.stale_requests_dropped.get());
        self.add("request_throttle_wait_count", stats.request_throttle_wait_count.get());
        self.add("large_requests_rejected", stats.large_requests_rejected.get());
        self.add("connection_drop_count", stats.connection_drop_count.get());
        self.add("sessionless_connections_expired", stats.sessionless_connections_expired.get());
        let unserved = stats.cnxn_closed_without_zk_server_running.get();
        self.add("cnxn_closed_without_zk_server_running", unserved);
        self.add("bytes_received_count", stats.bytes_received.get());
        self.add("response_bytes", stats.bytes_sent.get());
        self.add("uptime", clients.started.elapsed().as_millis());
        if let Some(open) = open_files() {
            self.add("open_file_descriptor_count", open);
        }
        if let Some(max) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
            self.add("max_file_descriptor_count", max);
        }
    }

    fn tree(&mut self, stats: &Stats) {
        self.add("znode_count", stats.znode_count.get());
        self.add("watch_count", stats.watch_count.get());
        self.add("ephemerals_count", stats.ephemerals_count.get());
        self.add("approximate_data_size", stats.approximate_data_size.get());
        self.add("global_sessions", stats.global_sessions.get());
        self.add("local_sessions", stats.local_sessions.get());
        for (namespace, quota) in stats.quotas.get() {
            let mut add =
                |what: &str, value: i64| self.add(&format!("{namespace}_quota_{what}_per_namespace"), value);
            add("count_limit", quota.count_limit);
            add("bytes_limit", quota.bytes_limit);
            add("count_usage", quota.count_usage);
            add("bytes_usage", quota.bytes_usage);
        }
        for (namespace, count) in stats.quota_exceeded_error.get() {
            self.add(&format!("{namespace}_quota_exceeded_error_per_namespace"), count);
        }
    }

    fn quorum(&mut self, stats: &Stats) {
        self.add("looking_count", stats.looking_count.get());
        self.add("proposal_count", stats.proposal_count.get());
        self.add("commit_count", stats.commit_count.get());
        self.add("learner_proposal_received_count", stats.learner_proposal_received_count.get());
        self.add("learner_commit_received_count", stats.learner_commit_received_count.get());
        self.add("diff_count", stats.diff_count.get());
        self.add("snap_count", stats.snap_count.get());
        self.add("digest_mismatches_count", stats.digest_mismatches_count.get());
    }

    /// What only a leader knows.
    fn leader(&mut self, stats: &Stats) {
        let [last, min, max] = proposal_sizes(stats);
        // Until 3.5 learners went by the name of followers, and tools still ask for that.
        self.add("followers", stats.learners.get());
        self.add("learners", stats.learners.get());
        self.add("synced_followers", stats.synced_followers.get());
        self.add("synced_observers", stats.synced_observers.get());
        self.add("pending_syncs", stats.pending_syncs.get());
        self.add("last_proposal_size", last);
        self.add("max_proposal_size", max);
        self.add("min_proposal_size", min);
    }

    fn summaries(&mut self, stats: &Stats) {
        self.summary("election_time", stats.election_time_us.snapshot(), US);
        self.summary("fsynctime", stats.fsynctime_us.snapshot(), US);
        self.summary("snapshottime", stats.snapshottime_us.snapshot(), US);
        self.summary("sync_processor_batch_size", stats.sync_batch_size.snapshot(), 1);
        self.summary("connection_token_deficit", stats.connection_token_deficit.snapshot(), 1);
        for (name, summary) in [
            ("readlatency", &stats.readlatency_us),
            ("updatelatency", &stats.updatelatency_us),
            ("request_throttle_queue_time_ms", &stats.request_throttle_queue_time_us),
        ] {
            let values = summary.snapshot();
            self.summary(name, values, US);
            self.add(&format!("p50_{name}"), values.p50 / US);
            self.add(&format!("p95_{name}"), values.p95 / US);
            self.add(&format!("p99_{name}"), values.p99 / US);
            self.add(&format!("p999_{name}"), values.p999 / US);
        }
    }

    fn summary(&mut self, name: &str, values: SummarySnapshot, unit: u64) {
        self.add(&format!("avg_{name}"), java_double(average(values.sum, values.count * unit)));
        self.add(&format!("min_{name}"), values.min / unit);
        self.add(&format!("max_{name}"), values.max / unit);
        self.add(&format!("cnt_{name}"), values.count);
        self.add(&format!("sum_{name}"), values.sum / unit);
    }
}

/// Files and sockets this process has open; `None` where there is no /proc.
fn open_files() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count())
}
