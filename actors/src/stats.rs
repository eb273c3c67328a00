//! Figures for operators: written by the one who knows, read by whoever asks, at any time, also while an
//! actor is busy. Nothing is ever decided by them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use crate::types::{Phase, ServerState};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn inc(&self) {
        self.add(1);
    }

    /// That many more.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// None yet.
    pub fn reset(&self) {
        self.0.store(0, Relaxed);
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// It is this now.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// It changes by this.
    pub fn add(&self, by: i64) {
        self.0.fetch_add(by, Relaxed);
    }

    /// Now.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Buckets of a [`Summary`]: four to each power of two, so a quantile is at most 25 % too high.
const BUCKETS: usize = 4 * 64;

/// Many measured values: their count, sum, extremes and quantiles.
#[derive(Debug)]
pub struct Summary {
    inner: Mutex<SummaryValues>,
}

#[derive(Debug)]
struct SummaryValues {
    count: u64,
    sum: u64,
    min: u64,
    max: u64,
    buckets: Box<[u64; BUCKETS]>,
}

/// A summary as it is now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SummarySnapshot {
    /// How many values.
    pub count: u64,
    /// Their sum.
    pub sum: u64,
    /// The least; 0 without values.
    pub min: u64,
    /// The greatest.
    pub max: u64,
    /// Half of the values are at most this.
    pub p50: u64,
    /// 90 % of them.
    pub p90: u64,
    /// 95 % of them.
    pub p95: u64,
    /// 99 % of them.
    pub p99: u64,
    /// 99.9 % of them.
    pub p999: u64,
}

impl SummaryValues {
    fn none() -> SummaryValues {
        SummaryValues { count: 0, sum: 0, min: u64::MAX, max: 0, buckets: Box::new([0; BUCKETS]) }
    }
}

impl Default for Summary {
    fn default() -> Summary {
        Summary { inner: Mutex::new(SummaryValues::none()) }
    }
}

impl Summary {
    /// One more value.
    pub fn observe(&self, value: u64) {
        let mut values = self.inner.lock().expect("no holder of this lock panics");
        values.count += 1;
        values.sum += value;
        values.min = values.min.min(value);
        values.max = values.max.max(value);
        values.buckets[bucket(value)] += 1;
    }

    /// No value yet.
    pub fn reset(&self) {
        *self.inner.lock().expect("no holder of this lock panics") = SummaryValues::none();
    }

    /// Everything about it now.
    pub fn snapshot(&self) -> SummarySnapshot {
        let values = self.inner.lock().expect("no holder of this lock panics");
        if values.count == 0 {
            return SummarySnapshot::default();
        }
        let quantile = |q: f64| {
            let rank = ((values.count as f64) * q).ceil().max(1.0) as u64;
            let mut seen = 0;
            let at = values.buckets.iter().position(|n| {
                seen += n;
                seen >= rank
            });
            bucket_ceiling(at.expect("all values are in buckets")).clamp(values.min, values.max)
        };
        SummarySnapshot {
            count: values.count,
            sum: values.sum,
            min: values.min,
            max: values.max,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p95: quantile(0.95),
            p99: quantile(0.99),
            p999: quantile(0.999),
        }
    }
}

/// The bucket of a value: its power of two, and the two bits below the leading one.
fn bucket(value: u64) -> usize {
    if value < 4 {
        return value as usize;
    }
    let power = 63 - value.leading_zeros() as usize;
    power * 4 + ((value >> (power - 2)) & 3) as usize
}

/// The greatest value of a bucket.
fn bucket_ceiling(bucket: usize) -> u64 {
    let (power, quarter) = (bucket / 4, (bucket % 4) as u128);
    if power < 2 {
        return bucket as u64;
    }
    u64::try_from(((5 + quarter) << (power - 2)) - 1).unwrap_or(u64::MAX)
}

/// The last, least and greatest of some sizes, in bytes.
#[derive(Debug, Default)]
pub struct Sizes {
    last: Gauge,
    min: Gauge,
    max: Gauge,
}

impl Sizes {
    /// More of them. Those who measure at the same time may lose an extreme to each other.
    pub fn observe(&self, last: u64, min: u64, max: u64) {
        let before = self.get();
        let to_gauge = |size: u64| i64::try_from(size).unwrap_or(i64::MAX);
        self.last.set(to_gauge(last) + 1);
        let least = if before[1] < 0 { to_gauge(min) } else { to_gauge(min).min(before[1]) };
        self.min.set(least + 1);
        self.max.set(to_gauge(max).max(before[2]) + 1);
    }

    /// Last, least, greatest; -1 without any.
    pub fn get(&self) -> [i64; 3] {
        [&self.last, &self.min, &self.max].map(|gauge| gauge.get() - 1)
    }

    /// None yet.
    pub fn reset(&self) {
        for gauge in [&self.last, &self.min, &self.max] {
            gauge.set(0);
        }
    }
}

/// The quotas of a namespace, the top-most names of their paths being the same, together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaFigures {
    /// Znodes allowed; one without a limit counts as -1, as in Apache.
    pub count_limit: i64,
    /// Bytes allowed, likewise.
    pub bytes_limit: i64,
    /// Znodes there.
    pub count_usage: i64,
    /// Bytes there.
    pub bytes_usage: i64,
}

/// Namespaces that are counted apart.
const MAX_NAMESPACES: usize = 10_000;

/// Values by namespace.
#[derive(Debug, Default)]
pub struct PerNamespace<T>(Mutex<BTreeMap<String, T>>);

impl<T: Copy + Default> PerNamespace<T> {
    /// These are all now.
    pub fn set(&self, values: BTreeMap<String, T>) {
        *self.0.lock().expect("no holder of this lock panics") = values;
    }

    /// Changes one. Clients choose the names: above a bound new ones are not counted.
    pub fn change(&self, namespace: &str, change: impl FnOnce(&mut T)) {
        let mut values = self.0.lock().expect("no holder of this lock panics");
        if values.len() < MAX_NAMESPACES || values.contains_key(namespace) {
            change(values.entry(namespace.to_string()).or_default());
        }
    }

    /// All, sorted.
    pub fn get(&self) -> Vec<(String, T)> {
        let values = self.0.lock().expect("no holder of this lock panics");
        values.iter().map(|(namespace, value)| (namespace.clone(), *value)).collect()
    }
}

/// What an actor's mailbox and turns look like.
#[derive(Debug, Default)]
pub struct ActorStats {
    /// Messages handled.
    pub messages: Counter,
    /// Messages that the last turn found in the mailbox.
    pub depth: Gauge,
    /// Microseconds from the first message of a turn to its end.
    pub turn_us: Summary,
}

/// All figures of one server. Times are in microseconds where the name says `us`.
#[derive(Debug, Default)]
#[allow(missing_docs)] // ZooKeeper's names: see the README's table of metrics
pub struct Stats {
    // the replica
    pub znode_count: Gauge,
    pub ephemerals_count: Gauge,
    pub approximate_data_size: Gauge,
    pub global_sessions: Gauge,
    pub local_sessions: Gauge,
    pub last_zxid: Gauge,
    pub outstanding_requests: Gauge,
    pub quotas: PerNamespace<QuotaFigures>,
    pub quota_exceeded_error: PerNamespace<u64>,
    pub readlatency_us: Summary,
    pub updatelatency_us: Summary,
    // the watch manager
    pub watch_count: Gauge,
    pub watch_paths: Gauge,
    // connections
    pub num_alive_connections: Gauge,
    pub packets_received: Counter,
    pub packets_sent: Counter,
    pub bytes_received: Counter,
    pub bytes_sent: Counter,
    pub connection_rejected: Counter,
    pub connection_request_count: Counter,
    pub connection_revalidate_count: Counter,
    pub sessionless_connections_expired: Counter,
    pub cnxn_closed_without_zk_server_running: Counter,
    pub connection_drop_count: Counter,
    pub auth_failed_count: Counter,
    pub throttled_ops: Counter,
    pub stale_requests: Counter,
    pub stale_requests_dropped: Counter,
    pub request_throttle_wait_count: Counter,
    pub request_throttle_queue_time_us: Summary,
    pub large_requests_rejected: Counter,
    pub connection_token_deficit: Summary,
    pub client_response_size: Sizes,
    // the quorum
    pub state: Gauge,
    /// 1 while clients that ask for no more may read without a leader.
    pub read_only: Gauge,
    pub phase: Gauge,
    pub epoch: Gauge,
    pub leader: Gauge,
    pub quorum_size: Gauge,
    pub learners: Gauge,
    pub synced_followers: Gauge,
    pub synced_observers: Gauge,
    pub pending_syncs: Gauge,
    pub looking_count: Counter,
    pub proposal_count: Counter,
    pub commit_count: Counter,
    pub learner_proposal_received_count: Counter,
    pub learner_commit_received_count: Counter,
    pub diff_count: Counter,
    pub trunc_count: Counter,
    pub snap_count: Counter,
    pub digest_mismatches_count: Counter,
    pub election_time_us: Summary,
    pub last_proposal_size: Gauge,
    pub min_proposal_size: Gauge,
    pub max_proposal_size: Gauge,
    // the disk
    pub fsynctime_us: Summary,
    pub sync_batch_size: Summary,
    pub snapshottime_us: Summary,
    pub snapshot_error_count: Counter,
    /// Bytes left for the log.
    pub disk_free: Gauge,
    /// 1 while that is less than storage.min_free.
    pub disk_low: Gauge,
    /// 1 while writes are refused for want of room.
    pub writes_refused: Gauge,
    // the actors
    pub node: ActorStats,
    pub election: ActorStats,
    pub role: ActorStats,
    pub replica: ActorStats,
    pub watch_manager: ActorStats,
    pub session_tracker: ActorStats,
    pub txn_log: ActorStats,
    pub snapshotter: ActorStats,
}

impl Stats {
    /// What the server is doing.
    pub fn server_state(&self) -> ServerState {
        match self.state.get() {
            1 => ServerState::Following,
            2 => ServerState::Leading,
            3 => ServerState::Observing,
            _ => ServerState::Looking,
        }
    }

    /// The ZAB phase it is in.
    pub fn zab_phase(&self) -> Phase {
        match self.phase.get() {
            1 => Phase::Discovery,
            2 => Phase::Synchronization,
            3 => Phase::Broadcast,
            _ => Phase::Election,
        }
    }

    /// Begins to count anew, as `srst` wants it: counters and summaries. What a gauge shows is still so. The
    /// actors' own figures stay: they are nobody's habit.
    pub fn reset(&self) {
        let counters = [
            &self.packets_received,
            &self.packets_sent,
            &self.bytes_received,
            &self.bytes_sent,
            &self.connection_rejected,
            &self.connection_request_count,
            &self.connection_revalidate_count,
            &self.sessionless_connections_expired,
            &self.cnxn_closed_without_zk_server_running,
            &self.connection_drop_count,
            &self.auth_failed_count,
            &self.throttled_ops,
            &self.stale_requests,
            &self.stale_requests_dropped,
            &self.request_throttle_wait_count,
            &self.large_requests_rejected,
            &self.looking_count,
            &self.proposal_count,
            &self.commit_count,
            &self.learner_proposal_received_count,
            &self.learner_commit_received_count,
            &self.diff_count,
            &self.trunc_count,
            &self.snap_count,
            &self.digest_mismatches_count,
        ];
        let summaries = [
            &self.readlatency_us,
            &self.updatelatency_us,
            &self.election_time_us,
            &self.fsynctime_us,
            &self.sync_batch_size,
            &self.snapshottime_us,
            &self.request_throttle_queue_time_us,
            &self.connection_token_deficit,
        ];
        counters.iter().for_each(|counter| counter.reset());
        summaries.iter().for_each(|summary| summary.reset());
        self.client_response_size.reset();
        self.quota_exceeded_error.set(BTreeMap::new());
        for size in [&self.last_proposal_size, &self.min_proposal_size, &self.max_proposal_size] {
            size.set(0);
        }
    }

    /// Does it serve all clients?
    pub fn is_serving(&self) -> bool {
        self.zab_phase() == Phase::Broadcast
    }

    /// Does it serve those that only want to read?
    pub fn is_read_only(&self) -> bool {
        self.read_only.get() != 0 && !self.is_serving()
    }

    /// Does it serve anybody?
    pub fn is_open(&self) -> bool {
        self.is_serving() || self.is_read_only()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_at_most_a_quarter_too_high() {
        for value in [0, 1, 3, 4, 5, 7, 8, 100, 1000, 123_456_789, u64::MAX] {
            let ceiling = bucket_ceiling(bucket(value));
            assert!(ceiling >= value, "{value} is above its bucket's ceiling {ceiling}");
            assert!(ceiling - value <= value / 4 + 1, "{ceiling} is too far above {value}");
        }
    }

    #[test]
    fn sizes_are_unknown_before_the_first() {
        let sizes = Sizes::default();
        assert_eq!(sizes.get(), [-1; 3]);
        sizes.observe(20, 16, 90);
        sizes.observe(0, 0, 30);
        assert_eq!(sizes.get(), [0, 0, 90]);
        sizes.observe(40, 40, 100);
        assert_eq!(sizes.get(), [40, 0, 100]);
        sizes.reset();
        assert_eq!(sizes.get(), [-1; 3]);
    }

    #[test]
    fn a_reset_forgets_what_was_counted_and_keeps_what_is_so() {
        let stats = Stats::default();
        stats.packets_received.add(3);
        stats.fsynctime_us.observe(9);
        stats.last_proposal_size.set(88);
        stats.client_response_size.observe(1, 1, 1);
        stats.znode_count.set(5);
        stats.reset();
        assert_eq!(stats.packets_received.get(), 0);
        assert_eq!(stats.fsynctime_us.snapshot(), SummarySnapshot::default());
        assert_eq!((stats.last_proposal_size.get(), stats.client_response_size.get()), (0, [-1; 3]));
        assert_eq!(stats.znode_count.get(), 5);
    }

    #[test]
    fn a_summary_knows_its_values() {
        let summary = Summary::default();
        assert_eq!(summary.snapshot(), SummarySnapshot::default());
        for value in 1..=1000 {
            summary.observe(value);
        }
        let s = summary.snapshot();
        assert_eq!((s.count, s.sum, s.min, s.max), (1000, 500_500, 1, 1000));
        assert!((500..=625).contains(&s.p50), "p50 {}", s.p50);
        assert!((990..=1000).contains(&s.p99), "p99 {}", s.p99);
    }

    #[test]
    fn namespaces_have_a_bound() {
        let per_namespace = PerNamespace::<u64>::default();
        for n in 0..2 * MAX_NAMESPACES {
            per_namespace.change(&n.to_string(), |count| *count += 1);
        }
        per_namespace.change("0", |count| *count += 1);
        let values = per_namespace.get();
        assert_eq!((values.len(), &values[0]), (MAX_NAMESPACES, &("0".to_string(), 2)));
    }
}
