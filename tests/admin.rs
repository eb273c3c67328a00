//! The operators' port: what `/metrics` and `/status` say about known figures.

#![allow(clippy::unwrap_used)] // helpers of tests, too, may stop a test

mod ensemble;

use std::collections::BTreeMap;
use std::sync::Arc;

use ensemble::Ensemble;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zabra::admin::{self, Subject};
use zabra::config::Cluster;
use zabra::status::{self, Answer};
use zabra_actors::stats::{QuotaFigures, Stats};
use zabra_actors::types::Sid;

/// ZooKeeper's names that dashboards and alert rules use, with their types.
const ZOOKEEPER: &[(&str, &str)] = &[
    ("znode_count", "gauge"),
    ("ephemerals_count", "gauge"),
    ("approximate_data_size", "gauge"),
    ("watch_count", "gauge"),
    ("global_sessions", "gauge"),
    ("local_sessions", "gauge"),
    ("num_alive_connections", "gauge"),
    ("packets_received", "gauge"),
    ("packets_sent", "gauge"),
    ("bytes_received_count", "counter"),
    ("response_bytes", "counter"),
    ("connection_rejected", "counter"),
    ("connection_request_count", "counter"),
    ("connection_revalidate_count", "counter"),
    ("connection_drop_count", "counter"),
    ("sessionless_connections_expired", "counter"),
    ("auth_failed_count", "gauge"),
    ("throttled_ops", "counter"),
    ("stale_requests", "counter"),
    ("stale_requests_dropped", "counter"),
    ("request_throttle_wait_count", "counter"),
    ("request_throttle_queue_time_ms", "summary"),
    ("large_requests_rejected", "counter"),
    ("connection_token_deficit", "summary"),
    ("outstanding_requests", "gauge"),
    ("uptime", "gauge"),
    ("avg_latency", "gauge"),
    ("min_latency", "gauge"),
    ("max_latency", "gauge"),
    ("readlatency", "summary"),
    ("updatelatency", "summary"),
    ("quorum_size", "gauge"),
    ("looking_count", "counter"),
    ("election_time", "summary"),
    ("proposal_count", "counter"),
    ("commit_count", "counter"),
    ("learner_proposal_received_count", "counter"),
    ("learner_commit_received_count", "counter"),
    ("diff_count", "counter"),
    ("snap_count", "counter"),
    ("digest_mismatches_count", "counter"),
    ("fsynctime", "summary"),
    ("snapshottime", "summary"),
    ("sync_processor_batch_size", "summary"),
    ("open_file_descriptor_count", "gauge"),
    ("max_file_descriptor_count", "gauge"),
    ("process_cpu_seconds_total", "counter"),
    ("process_resident_memory_bytes", "gauge"),
    ("zabra_actor_messages", "counter"),
    ("zabra_actor_mailbox_depth", "gauge"),
    ("zabra_actor_turn_us", "summary"),
    ("zabra_phase", "gauge"),
];

/// Those that only a leader shows.
const OF_LEADERS: &[&str] = &["learners", "synced_followers", "synced_observers", "pending_syncs"];

/// A server that answers for `stats`, and its configuration.
struct Server {
    cluster: Arc<Cluster>,
    stats: Arc<Stats>,
    _ensemble: Ensemble,
}

impl Server {
    /// Server 2 of three answers; the others are down.
    fn start() -> Server {
        let ensemble = Ensemble::new(3);
        let cluster = Arc::new(Cluster::load_from(&ensemble.file(), [], &[]).unwrap());
        let stats = Arc::new(Stats::default());
        let server = &cluster.servers[&Sid(2)];
        let listener = cluster.bind(server, "admin", server.admin.as_ref().unwrap()).unwrap();
        let subject = Arc::new(Subject::new(cluster.clone(), Sid(2), stats.clone()));
        actix::spawn(admin::serve(listener, subject, std::future::pending()));
        Server { cluster, stats, _ensemble: ensemble }
    }

    /// The status line and headers, and the body.
    async fn ask(&self, method: &str, path: &str) -> (String, String) {
        let admin = self.cluster.servers[&Sid(2)].admin.as_ref().unwrap().to_string();
        let mut stream = TcpStream::connect(&admin).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_string(), body.to_string())
    }

    async fn metrics(&self) -> Metrics {
        let (head, body) = self.ask("GET", "/metrics").await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        Metrics::parse(&body)
    }
}

/// A scrape, taken apart the way a scraper does.
struct Metrics {
    types: BTreeMap<String, String>,
    /// Name with labels to value.
    samples: BTreeMap<String, f64>,
}

impl Metrics {
    fn parse(text: &str) -> Metrics {
        let mut metrics = Metrics { types: BTreeMap::new(), samples: BTreeMap::new() };
        let mut family = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                family = name.to_string();
                let before = metrics.types.insert(name.to_string(), kind.to_string());
                assert!(before.is_none(), "{name} appears twice");
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                assert!(rest.split_once(' ').is_some_and(|(_, help)| !help.is_empty()), "no help in {line}");
            } else {
                let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
                let bare = name.split('{').next().unwrap();
                let bare = bare.strip_suffix("_sum").or(bare.strip_suffix("_count")).unwrap_or(bare);
                assert!(bare == family || name == family, "{line} stands under {family}");
                let before = metrics.samples.insert(name.to_string(), value.parse().unwrap());
                assert!(before.is_none(), "{name} appears twice");
            }
        }
        metrics
    }

    fn get(&self, name: &str) -> f64 {
        *self.samples.get(name).unwrap_or_else(|| panic!("{name} is missing"))
    }
}

#[actix::test]
async fn every_name_has_its_type() {
    let server = Server::start();
    let metrics = server.metrics().await;
    for (name, kind) in ZOOKEEPER {
        assert_eq!(metrics.types.get(*name).map(String::as_str), Some(*kind), "{name}");
    }
    for name in OF_LEADERS {
        assert!(!metrics.types.contains_key(*name), "{name} of a server that does not lead");
    }
    server.stats.state.set(2);
    let metrics = server.metrics().await;
    for name in OF_LEADERS {
        assert_eq!(metrics.types.get(*name).map(String::as_str), Some("gauge"), "{name}");
    }
}

#[actix::test]
async fn figures_arrive_in_their_units() {
    let server = Server::start();
    let stats = &server.stats;
    let idle = server.metrics().await;
    assert!(idle.get("readlatency{quantile=\"0.5\"}").is_nan(), "nothing measured has no median");
    assert_eq!((idle.get("avg_latency"), idle.get("readlatency_count")), (0.0, 0.0));

    stats.znode_count.set(7);
    stats.packets_received.add(5);
    stats.readlatency_us.observe(500);
    stats.readlatency_us.observe(1_500);
    stats.updatelatency_us.observe(4_000);
    stats.sync_batch_size.observe(3);
    stats.replica.messages.add(11);
    stats.txn_log.depth.set(2);
    stats.txn_log.turn_us.observe(9);
    let metrics = server.metrics().await;
    assert_eq!((metrics.get("znode_count"), metrics.get("packets_received")), (7.0, 5.0));
    assert_eq!(
        (metrics.get("readlatency_sum"), metrics.get("readlatency_count")),
        (2.0, 2.0),
        "milliseconds"
    );
    assert_eq!(metrics.get("readlatency{quantile=\"0.99\"}"), 1.5);
    assert_eq!(
        (metrics.get("min_latency"), metrics.get("avg_latency"), metrics.get("max_latency")),
        (0.5, 2.0, 4.0)
    );
    assert_eq!(metrics.get("sync_processor_batch_size_sum"), 3.0, "a number, no time");
    assert_eq!(metrics.get("zabra_actor_messages{actor=\"replica\"}"), 11.0);
    assert_eq!(metrics.get("zabra_actor_mailbox_depth{actor=\"txn_log\"}"), 2.0);
    assert_eq!(metrics.get("zabra_actor_turn_us{actor=\"txn_log\",quantile=\"0.9\"}"), 9.0);
    assert!(metrics.get("process_open_fds") > 3.0 && metrics.get("process_start_time_seconds") > 1.6e9);
}

#[actix::test]
async fn quotas_are_told_apart_by_namespace() {
    let server = Server::start();
    let name = |what: &str, namespace: &str| format!("quota_{what}_per_namespace{{key=\"{namespace}\"}}");
    assert!(!server.metrics().await.types.contains_key("quota_count_limit_per_namespace"), "there are none");
    let figures = QuotaFigures { count_limit: 4, bytes_limit: -1, count_usage: 3, bytes_usage: 70 };
    let quotas = [("app".to_string(), figures), ("b \"q\"".to_string(), QuotaFigures::default())];
    server.stats.quotas.set(quotas.into());
    server.stats.quota_exceeded_error.change("app", |count| *count += 2);
    let metrics = server.metrics().await;
    for (what, value) in
        [("count_limit", 4.0), ("bytes_limit", -1.0), ("count_usage", 3.0), ("bytes_usage", 70.0)]
    {
        assert_eq!(metrics.get(&name(what, "app")), value, "{what}");
        assert_eq!(metrics.get(&name(what, "b \\\"q\\\"")), 0.0, "{what}");
    }
    assert_eq!(metrics.get(&name("exceeded_error", "app")), 2.0);
    assert_eq!(metrics.types["quota_exceeded_error_per_namespace"], "counter");
}

#[actix::test]
async fn the_status_says_what_the_server_is() {
    let server = Server::start();
    server.stats.state.set(1);
    server.stats.phase.set(3);
    server.stats.epoch.set(4);
    server.stats.leader.set(3);
    server.stats.last_zxid.set(0x4_0000_0010);
    server.stats.global_sessions.set(2);
    server.stats.local_sessions.set(5);
    server.stats.num_alive_connections.set(1);
    let (head, body) = server.ask("GET", "/status").await;
    assert!(head.contains("content-type: application/json"), "{head}");
    let mut status: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert!(status["uptime_ms"].take().is_u64());
    let me = &server.cluster.servers[&Sid(2)];
    assert_eq!(
        status,
        serde_json::json!({
            "id": 2, "role": "participant", "state": "following", "phase": "broadcast", "epoch": 4,
            "last_zxid": "0x400000010", "sessions": 7, "connections": 1, "leader": 3, "uptime_ms": null,
            "client": me.client.to_string(), "admin": me.admin.as_ref().unwrap().to_string(),
            "version": env!("CARGO_PKG_VERSION"),
        })
    );
    server.stats.read_only.set(1);
    assert!(server.ask("GET", "/status").await.1.contains(r#""state":"following""#), "it serves everybody");
    server.stats.phase.set(0);
    let (_, body) = server.ask("GET", "/status").await;
    let status: status::ServerStatus = serde_json::from_str(&body).unwrap();
    assert_eq!((status.state.as_str(), status.serves()), ("read-only", false));
}

#[actix::test]
async fn other_questions_are_refused() {
    let server = Server::start();
    assert!(server.ask("GET", "/").await.1.contains("/metrics"));
    assert!(server.ask("GET", "/commands/stat").await.0.starts_with("HTTP/1.1 404 "));
    assert!(server.ask("POST", "/status").await.0.starts_with("HTTP/1.1 405 "));
}

#[actix::test]
async fn the_table_shows_who_is_up_and_who_is_not() {
    let server = Server::start();
    server.stats.state.set(2);
    server.stats.phase.set(3);
    server.stats.epoch.set(1);
    let answers = status::ask_all(&server.cluster).await;
    assert_eq!(answers[&Sid(1)], Answer::Down("connection refused".to_string()));
    assert_eq!(status::quorum(&server.cluster, &answers), None, "one of three is no quorum");
    let at = |sid| {
        let server = &server.cluster.servers[&Sid(sid)];
        format!("{}  {}", server.client, server.admin.as_ref().unwrap())
    };
    let table = status::table(&server.cluster, &answers);
    let lines: Vec<_> =
        table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let expected = [
        "ID ROLE STATE PHASE EPOCH LAST ZXID SESSIONS CLIENT ADMIN".to_string(),
        format!("1 participant down: connection refused {}", at(1).replace("  ", " ")),
        format!("2 participant leading broadcast 1 0x0 0 {}", at(2).replace("  ", " ")),
        format!("3 participant down: connection refused {}", at(3).replace("  ", " ")),
        "no quorum serves: 1 of 3 participants".to_string(),
    ];
    assert_eq!(lines, expected);
    let column = |line: &str| line.find("127.0.0.1").unwrap();
    let columns: Vec<_> = table.lines().skip(1).take(3).map(column).collect();
    assert!(columns.iter().all(|c| *c == columns[0]), "the columns do not align:\n{table}");
}

#[actix::test]
async fn a_quorum_is_a_leader_and_enough_in_its_epoch() {
    let server = Server::start();
    server.stats.state.set(2);
    server.stats.phase.set(3);
    server.stats.epoch.set(5);
    let mut answers = status::ask_all(&server.cluster).await;
    let mut other = answers[&Sid(2)].up().unwrap().clone();
    other.state = "following".to_string();
    for (phase, epoch, expected) in
        [("broadcast", 5, Some(Sid(2))), ("broadcast", 4, None), ("synchronization", 5, None)]
    {
        other.phase = phase.to_string();
        other.epoch = epoch;
        answers.insert(Sid(3), Answer::Up(other.clone()));
        assert_eq!(status::quorum(&server.cluster, &answers), expected, "{phase} in epoch {epoch}");
    }
}

#[actix::test]
async fn an_answer_of_the_wrong_server_is_no_answer() {
    let server = Server::start();
    let mut cluster = (*server.cluster).clone();
    let admin = cluster.servers[&Sid(2)].admin.clone();
    cluster.servers.get_mut(&Sid(1)).unwrap().admin = admin;
    let answers = status::ask_all(&cluster).await;
    assert_eq!(answers[&Sid(1)], Answer::Down("server 2 answers there".to_string()));
}
