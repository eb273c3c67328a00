//! The operators' HTTP port: `/metrics` for Prometheus, `/status` for `zabra status`, `/snapshot` for
//! `zabra data snapshot`, `/` for a lost visitor.
//!
//! Every page is made of figures that the actors keep up to date by themselves ([`Stats`]), so this port
//! answers while a server is busy, electing or stuck, which is when one wants to look. It asks for no password:
//! bind it to loopback, or to a network that only operators reach. What can be had done here, a snapshot in the
//! server's own directory, is done one at a time and shows nobody's data.
//!
//! Deliberately absent: Apache's `/commands/*`.

mod listener;
mod metrics;
mod process;
mod snapshot;

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use actix::Recipient;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use zabra_actors::replica::TakeSnapshot;
use zabra_actors::stats::Stats;
use zabra_actors::types::{Sid, Zxid};

use crate::config::{Cluster, Server};
use crate::status::ServerStatus;
use listener::{Bounded, CONNECTIONS_MAX, IDLE_MAX};
use snapshot::Snapshots;

/// What the port tells about: one server of this process.
pub struct Subject {
    cluster: Arc<Cluster>,
    me: Sid,
    stats: Arc<Stats>,
    started: Instant,
    started_wall: SystemTime,
    snapshots: Snapshots,
}

impl Subject {
    /// The server `me`, which starts now and keeps its figures in `stats`.
    pub fn new(cluster: Arc<Cluster>, me: Sid, stats: Arc<Stats>) -> Subject {
        assert!(cluster.servers.contains_key(&me), "server {me} is not in the configuration");
        let (started, started_wall) = (Instant::now(), SystemTime::now());
        Subject { cluster, me, stats, started, started_wall, snapshots: Snapshots::default() }
    }

    /// The server's brain is there: snapshots can be ordered.
    pub fn take_snapshots_of(&self, replica: Recipient<TakeSnapshot>) {
        self.snapshots.of(replica);
    }

    fn server(&self) -> &Server {
        &self.cluster.servers[&self.me]
    }

    fn uptime_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).expect("far below 2^64")
    }

    /// What `/status` answers.
    pub fn status(&self) -> ServerStatus {
        let (stats, server) = (&self.stats, self.server());
        ServerStatus {
            id: self.me.0,
            role: server.role_name().to_string(),
            state: if stats.is_read_only() {
                READ_ONLY.to_string()
            } else {
                stats.server_state().to_string()
            },
            phase: stats.zab_phase().to_string(),
            epoch: u32::try_from(stats.epoch.get()).unwrap_or(0),
            last_zxid: Zxid(stats.last_zxid.get()).to_string(),
            sessions: count(stats.global_sessions.get()) + count(stats.local_sessions.get()),
            connections: count(stats.num_alive_connections.get()),
            leader: u8::try_from(stats.leader.get()).ok().filter(|sid| *sid > 0),
            client: server.client.to_string(),
            admin: server.admin.as_ref().map(ToString::to_string).unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            uptime_ms: self.uptime_ms(),
        }
    }

    /// What `/metrics` answers.
    pub fn metrics(&self) -> String {
        metrics::text(self)
    }
}

/// What a server does that looks for a leader and serves readers meanwhile.
const READ_ONLY: &str = "read-only";

/// A gauge that counts things. It may be read between two of its changes, so below zero is zero.
fn count(gauge: i64) -> u64 {
    u64::try_from(gauge).unwrap_or(0)
}

/// Answers on `listener` until `stop`; connections that are open then are left to finish by themselves.
/// Runs on the event loop it is awaited on; a turn of it takes well below a millisecond.
pub async fn serve(
    listener: TcpListener,
    subject: Arc<Subject>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let pages = Router::new()
        .route("/", get(index))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .route("/snapshot", post(snapshot::take))
        .with_state(subject);
    let listener = Bounded::new(listener, CONNECTIONS_MAX, IDLE_MAX)?;
    axum::serve(listener, pages).with_graceful_shutdown(stop).await
}

async fn index(State(subject): State<Arc<Subject>>) -> String {
    let ServerStatus { id, version, state, phase, .. } = subject.status();
    let name = &subject.cluster.name;
    format!(
        "zabra {version}, server {id} of {name}: {state}, {phase}\n\n\
         /status   this server as JSON\n\
         /metrics  its figures for Prometheus\n\
         /snapshot POST: write a snapshot now\n"
    )
}

async fn status(State(subject): State<Arc<Subject>>) -> Json<ServerStatus> {
    Json(subject.status())
}

async fn metrics(State(subject): State<Arc<Subject>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], subject.metrics())
}
