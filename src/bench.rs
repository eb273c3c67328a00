//! `zabra bench`: how many requests a second a ZooKeeper ensemble answers, and how long each takes.
//!
//! It works against any ZooKeeper server, so that servers can be compared. Every connection keeps a fixed number of
//! requests in flight (a closed loop: a slow server is asked less), so throughput and latency belong together:
//! more in flight gives more of both. All znodes are made below one of its own, and are deleted at the end, also
//! after ctrl-C.
//!
//! The latency of a request is the time from handing it to the client until its reply is read, in whole
//! microseconds, over the measured window only: the first seconds (`--warmup`) do not count.

mod load;
mod report;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use futures::future::join_all;
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use tokio::signal::ctrl_c;
use tokio::time::{Instant, interval, sleep, sleep_until, timeout};

use crate::client::{
    Acl, Client, CreateMode, Error, MAX_REQUEST, Op, Options, ReplyBody, ZkError, create_op, delete_op, perms,
};
use load::{Lane, Plan};
use report::{Recorder, Report};

/// Members of one multi when znodes are made and deleted: few round trips, far below the limit of a frame.
const BATCH: usize = 100;

/// Levels of znodes below the root of a run: a parent for each connection, and what it creates.
const DEPTH: usize = 2;

/// After how long without contact a session may expire: a slow server is to be measured, not given up.
const SESSION_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait for the sessions of the lanes to be closed.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// How long deleting may take; a run of a minute makes a few million znodes at most.
const CLEAN_UP_LIMIT: Duration = Duration::from_secs(300);

/// How often the progress line changes.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// What to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// getData of existing znodes.
    Read,
    /// setData of existing znodes.
    Write,
    /// Both, see --read-percent.
    Mixed,
    /// Creates of new znodes.
    Create,
}

/// Arguments of `zabra bench`.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// Servers, host:port separated by commas; connections are spread over them
    #[arg(long, default_value = "127.0.0.1:2181", value_name = "HOST:PORT,...")]
    pub servers: String,
    /// What to ask for
    #[arg(long, value_enum, default_value = "mixed")]
    pub workload: Workload,
    /// Sessions, each with a connection of its own
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    /// Requests that each connection keeps in flight
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub pipeline: u32,
    /// How long to measure, in seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// How long to run before measuring, in seconds
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub warmup: u64,
    /// Bytes of data of each znode
    #[arg(long, default_value_t = 128, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub size: u32,
    /// Share of reads in the mixed workload
    #[arg(long, default_value_t = 90, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub read_percent: u8,
    /// Znodes to read from and write to
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub znodes: u32,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Why there is no result, or not only a result.
#[derive(Debug)]
pub enum BenchError {
    /// The ensemble did not take part.
    Client(Error),
    /// ctrl-C before anything was measured.
    Interrupted,
    /// The znodes could not be deleted.
    LeftBehind {
        /// The znode that all others are below.
        root: String,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BenchError::Client(error) => error.fmt(f),
            BenchError::Interrupted => f.write_str("interrupted before anything was measured"),
            BenchError::LeftBehind { root, reason } => {
                write!(f, "could not clean up ({reason}); delete {root} and all below it by hand")
            }
        }
    }
}

impl std::error::Error for BenchError {}

impl From<Error> for BenchError {
    fn from(error: Error) -> BenchError {
        BenchError::Client(error)
    }
}

/// Measures, prints and cleans up. Needs a tokio runtime with timers, sockets and signals.
pub async fn run(args: BenchArgs) -> Result<(), BenchError> {
    let options = Options::new(&args.servers)?.session_timeout(SESSION_TIMEOUT);
    let keeper = Client::connect(options.clone()).await?;
    let root = format!("/zabra-bench-{:x}", keeper.connected().await?.id.0);
    keeper.create(&root, "", CreateMode::Persistent).await?;
    let data = Bytes::from(vec![b'z'; args.size as usize]);
    let paths = znodes(&args, &root);
    let prepared = tokio::select! {
        prepared = prepare(&args, &options, &keeper, &paths, &data) => prepared.map_err(BenchError::Client),
        _ = ctrl_c() => Err(BenchError::Interrupted),
    };
    let outcome = match prepared {
        Ok(clients) => {
            print(&load(&args, clients, &paths, &data).await, args.json);
            Ok(())
        }
        Err(error) => Err(error),
    };
    let cleaned = clean_up(&keeper, root).await;
    outcome.and(cleaned)
}

fn print(report: &Report, json: bool) {
    if json {
        println!("{}", serde_json::to_string_pretty(report).expect("a report is plain data"));
    } else {
        print!("{report}");
    }
}

/// Makes the znodes and opens the sessions.
async fn prepare(
    args: &BenchArgs,
    options: &Options,
    keeper: &Client,
    paths: &[String],
    data: &Bytes,
) -> Result<Vec<Client>, Error> {
    create_all(keeper, paths, data).await?;
    let connects = (0..args.connections as usize).map(|i| Client::connect(options.clone().starting_at(i)));
    let clients: Vec<Client> = join_all(connects).await.into_iter().collect::<Result<_, _>>()?;
    // A member that is behind would answer NoNode; later reads of its connections see what this sync saw.
    for synced in join_all(clients.iter().map(|client| client.sync("/"))).await {
        synced?;
    }
    Ok(clients)
}

/// The znodes made before the run: to read and write, or one parent a connection to create below.
fn znodes(args: &BenchArgs, root: &str) -> Vec<String> {
    let count = if args.workload == Workload::Create { args.connections } else { args.znodes };
    (0..count).map(|i| format!("{root}/{i}")).collect()
}

/// Runs the lanes through warm-up and window, then closes their sessions.
async fn load(args: &BenchArgs, clients: Vec<Client>, paths: &[String], data: &Bytes) -> Report {
    let start = Instant::now() + Duration::from_secs(args.warmup);
    let end = start + Duration::from_secs(args.seconds);
    let recorder = Arc::new(Mutex::new(Recorder::new(start, end)));
    let plan = Plan {
        workload: args.workload,
        read_percent: args.read_percent,
        in_flight: args.pipeline as usize,
        paths: paths.iter().map(|path| path.as_str().into()).collect(),
        data: data.clone(),
    };
    let lanes: Vec<_> = (clients.iter().enumerate())
        .map(|(number, client)| Lane::new(number, client.clone(), plan.clone(), recorder.clone()))
        .map(|lane| tokio::spawn(lane.run()))
        .collect();
    tokio::select! {
        // All sessions are gone before the end.
        _ = join_all(lanes) => {}
        _ = sleep_until(end) => {}
        _ = show_progress(&recorder, args) => {}
        // Ends the window early; what was measured until now is reported.
        _ = ctrl_c() => {}
    }
    let report = {
        let mut recorder = recorder.lock().expect("nobody panics with it");
        recorder.stop(Instant::now());
        recorder.report(args)
    };
    // Behind what is still in flight. A session that cannot be closed now expires by itself.
    let _ = timeout(CLOSE_LIMIT, join_all(clients.iter().map(Client::close))).await;
    report
}

/// Deletes the znodes, as long as that is possible and nobody loses patience.
async fn clean_up(keeper: &Client, root: String) -> Result<(), BenchError> {
    let reason = tokio::select! {
        deleted = delete_tree(keeper, &root) => match deleted {
            Ok(()) => return Ok(keeper.close().await?),
            Err(error) => error.to_string(),
        },
        _ = ctrl_c() => "interrupted".to_string(),
        _ = sleep(CLEAN_UP_LIMIT) => format!("not done within {CLEAN_UP_LIMIT:?}, {}", keeper.state()),
    };
    Err(BenchError::LeftBehind { root, reason })
}

/// A line on a terminal, nothing in a pipe. Never ends by itself.
async fn show_progress(recorder: &Mutex<Recorder>, args: &BenchArgs) {
    let bar = ProgressBar::new(args.warmup + args.seconds).with_finish(ProgressFinish::AndClear);
    let style =
        ProgressStyle::with_template("{bar:30} {pos}/{len} s  {msg}").expect("a template that parses");
    bar.set_style(style);
    let begun = Instant::now();
    let mut ticks = interval(PROGRESS_EVERY);
    let (mut seen, mut at) = (0, begun);
    loop {
        ticks.tick().await;
        let now = Instant::now();
        let done = recorder.lock().expect("nobody panics with it").answered();
        let rate = (done - seen) as f64 / (now - at).as_secs_f64().max(f64::EPSILON);
        (seen, at) = (done, now);
        bar.set_position(begun.elapsed().as_secs());
        bar.set_message(format!("{rate:.0} requests/s"));
    }
}

async fn create_all(client: &Client, paths: &[String], data: &Bytes) -> Result<(), Error> {
    let open = || vec![Acl::world(perms::ALL)];
    for batch in paths.chunks(batch_size(data.len())) {
        let creates = batch.iter().map(|path| create_op(path, data.clone(), CreateMode::Persistent, open()));
        client.multi(creates.collect()).await?;
    }
    Ok(())
}

/// As many creates as fit in a request beside their paths and ACLs.
fn batch_size(data_len: usize) -> usize {
    const OVERHEAD: usize = 256;
    (MAX_REQUEST / (data_len + OVERHEAD)).clamp(1, BATCH)
}

/// Deletes a znode and all below it. What is gone already is as good as deleted.
async fn delete_tree(client: &Client, root: &str) -> Result<(), Error> {
    let mut all = vec![root.to_string()];
    let mut level = 0..1;
    for _ in 0..DEPTH {
        let children = children_of(client, &all[level]).await?;
        level = all.len()..all.len() + children.len();
        all.extend(children);
    }
    // Children before their parents.
    all.reverse();
    for batch in all.chunks(BATCH) {
        let deletes = batch.iter().map(|path| delete_op(path, None)).collect();
        match client.multi(deletes).await {
            Ok(_) => {}
            Err(Error::Multi { error: ZkError::NoNode, .. }) => delete_one_by_one(client, batch).await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The paths of the children of all these znodes, asked for in one go.
async fn children_of(client: &Client, parents: &[String]) -> Result<Vec<String>, Error> {
    let mut paths = Vec::new();
    for batch in parents.chunks(BATCH) {
        let mut responses = Vec::new();
        for parent in batch {
            let op = Op::GetChildren { path: parent.as_str().into(), watch: false, stat: false };
            responses.push((parent, client.submit(op).await?));
        }
        for (parent, response) in responses {
            if let Ok(ReplyBody::Children(names)) = response.await?.result {
                paths.extend(names.iter().map(|name| format!("{parent}/{name}")));
            }
        }
    }
    Ok(paths)
}

async fn delete_one_by_one(client: &Client, paths: &[String]) -> Result<(), Error> {
    for path in paths {
        match client.delete(path, None).await {
            Ok(()) | Err(Error::Zk(ZkError::NoNode)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
