//! What the servers of an ensemble say about themselves: asked over HTTP, shown as a table or as JSON.
//!
//! Every server is asked at the same time and has [`ANSWER_LIMIT`] to answer, so the table is there within
//! that time whatever the servers do. A server that does not answer is a row like any other.

pub(crate) mod http;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use futures::future::join_all;
use serde::{Deserialize, Serialize};
use zabra_actors::types::{Membership, Sid};

use crate::config::{Cluster, Server};

pub use table::table;

/// How long a server may take to answer: far above a healthy one's millisecond, short for who waits.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// What a server says about itself: the answer to `GET /status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Its id.
    pub id: u8,
    /// `participant` or `observer`.
    pub role: String,
    /// `looking`, `following`, `leading`, `observing`, or `read-only`: looking, and serving readers meanwhile.
    pub state: String,
    /// `election`, `discovery`, `synchronization` or `broadcast`; all clients are served in the last only.
    pub phase: String,
    /// The epoch it is in, or was in last.
    pub epoch: u32,
    /// The last transaction in its tree, as `0x100000002`.
    pub last_zxid: String,
    /// Sessions of the whole ensemble, as this server knows them, and its own local ones.
    pub sessions: u64,
    /// Its own client connections.
    pub connections: u64,
    /// The leader it knows.
    pub leader: Option<u8>,
    /// Where clients connect.
    pub client: String,
    /// Where this answer comes from.
    pub admin: String,
    /// The program's version.
    pub version: String,
    /// Milliseconds since the process began.
    pub uptime_ms: u64,
}

impl ServerStatus {
    /// Does it serve clients?
    pub fn serves(&self) -> bool {
        self.phase == "broadcast"
    }
}

/// One server's answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// It runs.
    Up(ServerStatus),
    /// It cannot be asked, and why.
    Down(String),
}

impl Answer {
    /// What it says, if it runs.
    pub fn up(&self) -> Option<&ServerStatus> {
        match self {
            Answer::Up(status) => Some(status),
            Answer::Down(_) => None,
        }
    }
}

/// Everybody's answer; one for each server of the configuration.
pub type Answers = BTreeMap<Sid, Answer>;

/// Asks all servers at the same time.
pub async fn ask_all(cluster: &Cluster) -> Answers {
    let answers = join_all(cluster.servers.values().map(ask)).await;
    cluster.servers.keys().copied().zip(answers).collect()
}

/// Asks one server.
async fn ask(server: &Server) -> Answer {
    let Some(admin) = &server.admin else {
        return Answer::Down("admin.enabled is false".to_string());
    };
    let answer = match tokio::time::timeout(ANSWER_LIMIT, http::get(admin, "/status")).await {
        Ok(Ok(body)) => body,
        Ok(Err(e)) => return Answer::Down(reason(&e)),
        Err(_) => return Answer::Down(format!("no answer in {} s", ANSWER_LIMIT.as_secs())),
    };
    match serde_json::from_slice::<ServerStatus>(&answer) {
        Ok(status) if status.id == server.id.0 => Answer::Up(status),
        Ok(status) => Answer::Down(format!("server {} answers there", status.id)),
        Err(e) => Answer::Down(format!("another program answers there: {e}")),
    }
}

/// An error without the system's number, which says nothing to a reader of the table.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_string(),
        io::ErrorKind::ConnectionReset => "connection reset".to_string(),
        _ => error.to_string(),
    }
}

/// The leader that a quorum follows, if there is one: it serves, and enough participants serve in its epoch.
pub fn quorum(cluster: &Cluster, answers: &Answers) -> Option<Sid> {
    let serving = || answers.iter().filter_map(|(sid, a)| a.up().filter(|s| s.serves()).map(|s| (*sid, s)));
    serving().filter(|(_, status)| status.state == "leading").find_map(|(leader, status)| {
        let followers: BTreeSet<Sid> =
            serving().filter(|(_, other)| other.epoch == status.epoch).map(|(sid, _)| sid).collect();
        cluster.ensemble(leader).contains_quorum(&followers).then_some(leader)
    })
}

/// The answers as one JSON object.
pub fn json(cluster: &Cluster, answers: &Answers) -> serde_json::Value {
    let servers: Vec<_> =
        answers.iter().map(|(sid, answer)| server_json(&cluster.servers[sid], answer)).collect();
    let leader = quorum(cluster, answers);
    serde_json::json!({
        "cluster": cluster.name,
        "quorum": leader.is_some(),
        "leader": leader.map(|sid| sid.0),
        "servers": servers,
    })
}

fn server_json(server: &Server, answer: &Answer) -> serde_json::Value {
    match answer {
        Answer::Up(status) => {
            let mut object = serde_json::to_value(status).expect("plain numbers and text");
            object["up"] = true.into();
            object
        }
        Answer::Down(reason) => serde_json::json!({
            "id": server.id.0,
            "role": server.role_name(),
            "up": false,
            "error": reason,
            "client": server.client.to_string(),
            "admin": server.admin.as_ref().map(ToString::to_string),
        }),
    }
}

/// One line on whether the ensemble serves.
pub fn verdict(cluster: &Cluster, answers: &Answers) -> String {
    let voters = cluster.servers.values().filter(|s| s.role == Membership::Participant).count();
    let serving = cluster
        .servers
        .values()
        .filter(|s| {
            s.role == Membership::Participant && answers[&s.id].up().is_some_and(ServerStatus::serves)
        })
        .count();
    match quorum(cluster, answers) {
        Some(leader) => format!("a quorum serves: {serving} of {voters} participants, leader {leader}"),
        None => format!("no quorum serves: {serving} of {voters} participants"),
    }
}
