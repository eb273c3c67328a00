//! What a client of our own library makes before the work and reads after it: the znodes, and what is left of them.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use zabra::client::{Client, CreateMode, Error, Op, Options, ReplyBody, Stat, ZkError};

use super::check::{Check, INITIAL};
use super::clock::now;
use super::entry::{Entry, Kind, Outcome};
use super::plan::{LOCKS, ROOT, register};

/// For anything here: everything is whole by now.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sessions of clients that were cut off must have ended after that.
const GONE: Duration = Duration::from_secs(20);

/// Requests on their way at a time.
const BATCH: usize = 200;

/// Paths, data and Stats: what a server shows.
type Shown = BTreeMap<String, (String, Stat)>;

fn within<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start a runtime: {error}"))?;
    let bounded = runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await });
    bounded.map_err(|_| format!("no answer within {PATIENCE:?}"))?.map_err(|error| error.to_string())
}

async fn connect(server: SocketAddr) -> Result<Client, Error> {
    Client::connect(Options::new(&server.to_string())?.connect_timeout(PATIENCE)).await
}

/// Makes the znodes that clients expect.
///
/// # Errors
///
/// Why they cannot be made.
pub fn prepare(server: SocketAddr, generations: u64, registers: usize) -> Result<(), String> {
    within(async {
        let client = connect(server).await?;
        let mut paths = vec![(ROOT.to_string(), "")];
        paths.extend(["registers", "ids", "queue"].map(|name| (format!("{ROOT}/{name}"), "")));
        for n in 0..LOCKS {
            paths.push((format!("{ROOT}/lock-{n}"), ""));
            paths.push((format!("{ROOT}/guarded-lock-{n}"), INITIAL));
        }
        let all = (0..generations).flat_map(|generation| (0..registers).map(move |n| (generation, n)));
        paths.extend(all.map(|(generation, n)| (register(generation, n), INITIAL)));
        for (path, data) in paths {
            match client.create(&path, data, CreateMode::Persistent).await {
                Ok(_) | Err(Error::Zk(ZkError::NodeExists)) => {}
                Err(error) => return Err(error),
            }
        }
        client.close().await
    })
}

/// Everything that a server shows after a sync.
async fn shown(server: SocketAddr) -> Result<Shown, Error> {
    let client = connect(server).await?;
    client.sync(ROOT).await?;
    let mut shown = Shown::new();
    let mut parents = vec![ROOT.to_string()];
    while let Some(parent) = parents.pop() {
        let (names, _) = client.get_children(&parent, false).await?;
        let paths: Vec<String> = names.iter().map(|name| format!("{parent}/{name}")).collect();
        for batch in paths.chunks(BATCH) {
            let mut answers = Vec::new();
            for path in batch {
                answers.push(client.submit(Op::GetData { path: path.as_str().into(), watch: false }).await?);
            }
            for (path, answer) in batch.iter().zip(answers) {
                let ReplyBody::Data(data, stat) = answer.await?.result? else { continue };
                if stat.num_children > 0 {
                    parents.push(path.clone());
                }
                let text = String::from_utf8_lossy(&data.unwrap_or_default()).into_owned();
                shown.insert(path.clone(), (text, stat));
            }
        }
    }
    client.close().await?;
    Ok(shown)
}

/// Reads all servers when the clients have gone: the last part of the history, and whether the servers agree.
///
/// # Errors
///
/// A server that cannot be read.
pub fn final_state(servers: &[(u8, SocketAddr)]) -> Result<(Vec<Entry>, Vec<Check>), String> {
    let mut agree = Check { name: "all servers show the same in the end", operations: 0, violations: vec![] };
    let mut gone = Check { name: "no ephemeral outlives its session", operations: 0, violations: vec![] };
    let deadline = now() + u64::try_from(GONE.as_nanos()).expect("it is short");
    let begin = now();
    let (first, first_address) = servers[0];
    let mut expected;
    loop {
        expected = within(shown(first_address)).map_err(|error| format!("server {first}: {error}"))?;
        let ephemerals: Vec<&String> = expected
            .iter()
            .filter(|(_, (_, stat))| stat.ephemeral_owner != 0)
            .map(|(path, _)| path)
            .collect();
        gone.operations = expected.len();
        if ephemerals.is_empty() {
            break;
        }
        if now() > deadline {
            gone.violations.push(format!("after {GONE:?} these are still there: {ephemerals:?}"));
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    for (sid, address) in &servers[1..] {
        let other = within(shown(*address)).map_err(|error| format!("server {sid}: {error}"))?;
        agree.operations += other.len();
        let paths = expected.keys().chain(other.keys());
        if let Some(path) = paths.into_iter().find(|path| expected.get(*path) != other.get(*path)) {
            let (one, two) = (expected.get(path), other.get(path));
            agree
                .violations
                .push(format!("{path}\n    server {first} shows {one:?}\n    server {sid} shows {two:?}"));
        }
    }
    Ok((left(&expected, begin), vec![agree, gone]))
}

/// What is left, as entries of the history.
fn left(shown: &Shown, begin: u64) -> Vec<Entry> {
    let end = now();
    let entry = |path: &String, (data, stat): &(String, Stat)| {
        let number = path.rsplit('-').next().and_then(|digits| digits.parse().ok());
        let (kind, key, number, version) = match path.strip_prefix(ROOT)?.split('/').nth(1)? {
            "registers" => (Kind::Read, path.clone(), None, Some(stat.version)),
            "ids" => (Kind::IdLeft, String::new(), number, None),
            "queue" => (Kind::ItemLeft, String::new(), number, None),
            _ => return None,
        };
        let value = data.clone();
        let zxid = Some(stat.mzxid);
        let plain = Entry::new("the end", kind, Outcome::Ok, begin, end);
        // The parents have no data.
        (!value.is_empty()).then_some(Entry { key, value, number, version, zxid, ..plain })
    };
    shown.iter().filter_map(|(path, node)| entry(path, node)).collect()
}
