//! `/metrics`: the figures of [`Stats`] in Prometheus's text form, under ZooKeeper's names and types.
//!
//! As with Apache's own provider, counters have no `_total` and names no prefix, so dashboards and alert
//! rules written for Apache's servers work unchanged. Its times are in milliseconds; here they keep their
//! microseconds as decimals. What has no counterpart there begins with `zabra_`, and the process's own
//! figures have their usual names. A figure that nobody measures is left out, not shown as zero.

use std::time::UNIX_EPOCH;

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType, Quantile, Summary};
use zabra_actors::stats::{ActorStats, QuotaFigures, Stats, SummarySnapshot};
use zabra_actors::types::ServerState;

use super::Subject;
use super::process::Process;

/// Milliseconds in a microsecond.
const MS: f64 = 1e-3;

/// All figures as text.
pub(super) fn text(subject: &Subject) -> String {
    let mut families = Families::default();
    let stats = &*subject.stats;
    tree_and_sessions(&mut families, stats);
    quotas(&mut families, stats);
    connections(&mut families, stats, subject.uptime_ms());
    throttling(&mut families, stats);
    latencies(&mut families, stats);
    quorum(&mut families, stats);
    if stats.server_state() == ServerState::Leading {
        leader(&mut families, stats);
    }
    disk(&mut families, stats);
    actors(&mut families, stats);
    process(&mut families, subject);
    prometheus::TextEncoder::new().encode_to_string(&families.0).expect("every family has a name and a value")
}

fn tree_and_sessions(out: &mut Families, s: &Stats) {
    out.gauge("znode_count", "Znodes in the tree", s.znode_count.get());
    out.gauge("ephemerals_count", "Ephemeral znodes in the tree", s.ephemerals_count.get());
    out.gauge("approximate_data_size", "Bytes of all paths and data", s.approximate_data_size.get());
    out.gauge("watch_count", "Watches set on this server", s.watch_count.get());
    out.gauge("global_sessions", "Sessions of the ensemble", s.global_sessions.get());
    out.gauge("local_sessions", "Sessions that only this server knows", s.local_sessions.get());
}

fn quotas(out: &mut Families, s: &Stats) {
    let all = s.quotas.get();
    let mut gauges = |name: &str, help: &str, value: fn(&QuotaFigures) -> i64| {
        let metrics = all.iter().map(|(key, quota)| labelled("key", key, of_gauge(value(quota) as f64)));
        out.some(&format!("quota_{name}_per_namespace"), help, MetricType::GAUGE, metrics.collect());
    };
    gauges("count_limit", "Znodes that quotas allow, by the top-most name of the path", |q| q.count_limit);
    gauges("bytes_limit", "Bytes of data that quotas allow", |q| q.bytes_limit);
    gauges("count_usage", "Znodes where there is a quota", |q| q.count_usage);
    gauges("bytes_usage", "Bytes of data where there is a quota", |q| q.bytes_usage);
    let exceeded = s.quota_exceeded_error.get();
    let exceeded = exceeded.iter().map(|(key, count)| labelled("key", key, of_counter(*count))).collect();
    let help = "Writes refused for a quota";
    out.some("quota_exceeded_error_per_namespace", help, MetricType::COUNTER, exceeded);
}

fn connections(out: &mut Families, s: &Stats, uptime_ms: u64) {
    out.gauge("num_alive_connections", "Client connections", s.num_alive_connections.get());
    out.gauge("packets_received", "Frames from clients", s.packets_received.get() as i64);
    out.gauge("packets_sent", "Frames to clients", s.packets_sent.get() as i64);
    out.counter("bytes_received_count", "Bytes from clients", s.bytes_received.get());
    out.counter("response_bytes", "Bytes to clients", s.bytes_sent.get());
    out.counter("connection_rejected", "Connections refused by a limit", s.connection_rejected.get());
    out.counter("connection_request_count", "Handshakes taken", s.connection_request_count.get());
    out.counter(
        "connection_revalidate_count",
        "Handshakes of known sessions",
        s.connection_revalidate_count.get(),
    );
    out.counter("connection_drop_count", "Connections that clients closed", s.connection_drop_count.get());
    out.counter(
        "sessionless_connections_expired",
        "Connections closed for saying nothing",
        s.sessionless_connections_expired.get(),
    );
    out.gauge("auth_failed_count", "Identities refused", s.auth_failed_count.get() as i64);
    out.gauge("outstanding_requests", "Requests taken and not answered", s.outstanding_requests.get());
    out.gauge("uptime", "Milliseconds since the process began", uptime_ms as i64);
}

/// What the limits have done.
fn throttling(out: &mut Families, s: &Stats) {
    out.counter("throttled_ops", "Requests answered ThrottledOp", s.throttled_ops.get());
    out.counter("stale_requests", "Requests taken although stale", s.stale_requests.get());
    out.counter("stale_requests_dropped", "Requests dropped, being stale", s.stale_requests_dropped.get());
    out.counter(
        "request_throttle_wait_count",
        "Times a request waited for others",
        s.request_throttle_wait_count.get(),
    );
    let waited = s.request_throttle_queue_time_us.snapshot();
    out.summary("request_throttle_queue_time_ms", "Milliseconds a request waited for others", waited, MS);
    out.counter("large_requests_rejected", "Large requests refused", s.large_requests_rejected.get());
    let deficit = s.connection_token_deficit.snapshot();
    out.summary("connection_token_deficit", "Tokens missing when a handshake took one", deficit, 1.0);
}

fn latencies(out: &mut Families, s: &Stats) {
    let (reads, updates) = (s.readlatency_us.snapshot(), s.updatelatency_us.snapshot());
    let (count, sum) = (reads.count + updates.count, reads.sum + updates.sum);
    // One without values has an extreme of 0, which is nobody's.
    let seen = || [reads, updates].into_iter().filter(|summary| summary.count > 0);
    let least = seen().map(|summary| summary.min).min().unwrap_or(0);
    let most = seen().map(|summary| summary.max).max().unwrap_or(0);
    let average = if count == 0 { 0.0 } else { sum as f64 / count as f64 };
    out.value("avg_latency", "Milliseconds from a request to its reply, on average", average * MS);
    out.value("min_latency", "Milliseconds from a request to its reply, at least", least as f64 * MS);
    out.value("max_latency", "Milliseconds from a request to its reply, at most", most as f64 * MS);
    out.summary("readlatency", "Milliseconds from a read to its reply", reads, MS);
    out.summary("updatelatency", "Milliseconds from a write to its reply", updates, MS);
}

fn quorum(out: &mut Families, s: &Stats) {
    out.gauge("quorum_size", "Participants of the ensemble", s.quorum_size.get());
    out.counter("looking_count", "Times this server began to look for a leader", s.looking_count.get());
    out.summary("election_time", "Milliseconds an election took", s.election_time_us.snapshot(), MS);
    out.counter("proposal_count", "Proposals made as leader", s.proposal_count.get());
    out.counter("commit_count", "Proposals committed as leader", s.commit_count.get());
    let (proposals, commits) = (&s.learner_proposal_received_count, &s.learner_commit_received_count);
    out.counter("learner_proposal_received_count", "Proposals received as learner", proposals.get());
    out.counter("learner_commit_received_count", "Commits received as learner", commits.get());
    out.counter("diff_count", "Learners synchronized by DIFF", s.diff_count.get());
    out.counter("zabra_trunc_count", "Learners synchronized by TRUNC", s.trunc_count.get());
    out.counter("snap_count", "Learners synchronized by SNAP", s.snap_count.get());
    let mismatches = s.digest_mismatches_count.get();
    out.counter("digest_mismatches_count", "Times the tree was not what the leader had foretold", mismatches);
    out.gauge("zabra_state", "0 looking, 1 following, 2 leading, 3 observing", s.state.get());
    out.gauge("zabra_phase", "0 election, 1 discovery, 2 synchronization, 3 broadcast", s.phase.get());
    out.gauge("zabra_epoch", "The current epoch", s.epoch.get());
    out.gauge(
        "zabra_last_zxid_counter",
        "The last zxid's place in its epoch",
        s.last_zxid.get() & 0xffff_ffff,
    );
}

/// Apache shows these on a leader only: zeros of a follower would pull averages down.
fn leader(out: &mut Families, s: &Stats) {
    out.gauge("learners", "Connected followers and observers", s.learners.get());
    out.gauge("synced_followers", "Followers in step", s.synced_followers.get());
    out.gauge("synced_observers", "Observers in step", s.synced_observers.get());
    out.gauge("pending_syncs", "Syncs that wait for a commit", s.pending_syncs.get());
    out.gauge("last_proposal_size", "Bytes of the last proposal", s.last_proposal_size.get());
    out.gauge("min_proposal_size", "Bytes of the smallest proposal", s.min_proposal_size.get());
    out.gauge("max_proposal_size", "Bytes of the largest proposal", s.max_proposal_size.get());
}

fn disk(out: &mut Families, s: &Stats) {
    out.summary("fsynctime", "Milliseconds of an fsync of the log", s.fsynctime_us.snapshot(), MS);
    out.summary("sync_processor_batch_size", "Transactions in an fsync", s.sync_batch_size.snapshot(), 1.0);
    out.summary("snapshottime", "Milliseconds to write a snapshot", s.snapshottime_us.snapshot(), MS);
    out.counter(
        "snapshot_error_count",
        "Snapshots for which there was no room",
        s.snapshot_error_count.get(),
    );
    out.gauge("zabra_disk_free_bytes", "Bytes left on the disk of the log", s.disk_free.get());
    out.gauge("zabra_disk_low", "1 while that is less than storage.min_free", s.disk_low.get());
    out.gauge("zabra_writes_refused", "1 while writes are refused for want of room", s.writes_refused.get());
}

fn actors(out: &mut Families, s: &Stats) {
    let actors = [
        ("node", &s.node),
        ("election", &s.election),
        ("role", &s.role),
        ("replica", &s.replica),
        ("watch_manager", &s.watch_manager),
        ("session_tracker", &s.session_tracker),
        ("txn_log", &s.txn_log),
        ("snapshotter", &s.snapshotter),
    ];
    let each = |figure: &dyn Fn(&ActorStats) -> Metric| -> Vec<Metric> {
        actors.iter().map(|(name, stats)| labelled("actor", name, figure(stats))).collect()
    };
    let messages = each(&|a| of_counter(a.messages.get()));
    let depth = each(&|a| of_gauge(a.depth.get() as f64));
    let turns = each(&|a| of_summary(a.turn_us.snapshot(), 1.0));
    out.family("zabra_actor_messages", "Messages an actor has handled", MetricType::COUNTER, messages);
    out.family("zabra_actor_mailbox_depth", "Messages that wait for an actor", MetricType::GAUGE, depth);
    out.family("zabra_actor_turn_us", "Microseconds of an actor's turn", MetricType::SUMMARY, turns);
}

fn process(out: &mut Families, subject: &Subject) {
    let now = Process::now();
    let started = subject.started_wall.duration_since(UNIX_EPOCH).unwrap_or_default();
    out.family(
        "process_cpu_seconds_total",
        "Processor time of all threads",
        MetricType::COUNTER,
        vec![of_counter_f64(now.cpu_seconds)],
    );
    out.value("process_start_time_seconds", "When the process began", started.as_secs_f64());
    let gauges = [
        ("process_resident_memory_bytes", "Memory in use", now.resident_bytes),
        ("process_virtual_memory_bytes", "Address space", now.virtual_bytes),
        ("process_threads", "Threads", now.threads),
        ("process_open_fds", "Open file descriptors", now.open_fds),
        ("process_max_fds", "File descriptors allowed", now.max_fds),
        // ZooKeeper's names for the last two.
        ("open_file_descriptor_count", "Open file descriptors", now.open_fds),
        ("max_file_descriptor_count", "File descriptors allowed", now.max_fds),
    ];
    for (name, help, value) in gauges {
        if let Some(value) = value {
            out.value(name, help, value as f64);
        }
    }
}

/// The families, in the order they are shown.
#[derive(Default)]
struct Families(Vec<MetricFamily>);

impl Families {
    fn family(&mut self, name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) {
        let mut family = MetricFamily::default();
        family.set_name(name.to_string());
        family.set_help(help.to_string());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.0.push(family);
    }

    /// One that is left out without a member.
    fn some(&mut self, name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) {
        if !metrics.is_empty() {
            self.family(name, help, kind, metrics);
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: i64) {
        self.value(name, help, value as f64);
    }

    fn value(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, help, MetricType::GAUGE, vec![of_gauge(value)]);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, help, MetricType::COUNTER, vec![of_counter(value)]);
    }

    fn summary(&mut self, name: &str, help: &str, summary: SummarySnapshot, scale: f64) {
        self.family(name, help, MetricType::SUMMARY, vec![of_summary(summary, scale)]);
    }
}

fn labelled(name: &str, value: &str, mut metric: Metric) -> Metric {
    let mut label = LabelPair::default();
    label.set_name(name.to_string());
    label.set_value(value.to_string());
    metric.set_label(vec![label]);
    metric
}

fn of_gauge(value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    Metric::from_gauge(gauge)
}

fn of_counter(value: u64) -> Metric {
    of_counter_f64(value as f64)
}

fn of_counter_f64(value: f64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value);
    let mut metric = Metric::default();
    metric.set_counter(counter);
    metric
}

fn of_summary(of: SummarySnapshot, scale: f64) -> Metric {
    let quantile = |(at, value): (f64, u64)| {
        let mut quantile = Quantile::default();
        quantile.set_quantile(at);
        // Nothing measured has no median: Prometheus writes that as NaN.
        quantile.set_value(if of.count == 0 { f64::NAN } else { value as f64 * scale });
        quantile
    };
    let mut summary = Summary::default();
    summary.set_quantile([(0.5, of.p50), (0.9, of.p90), (0.99, of.p99)].map(quantile).to_vec());
    summary.set_sample_sum(of.sum as f64 * scale);
    summary.set_sample_count(of.count);
    let mut metric = Metric::default();
    metric.set_summary(summary);
    metric
}
