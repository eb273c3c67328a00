//! The benchmark against a server that has names only, to see that it leaves none behind.

use std::collections::BTreeSet;

use bytes::BytesMut;
use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use zabra_actors::jute::{self, Decoded};
use zabra_actors::types::{ConnectResponse, MultiResult, Reply, SessionId, Stat, Zxid};

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    bench: BenchArgs,
}

/// What the server has, and has had.
#[derive(Default)]
struct Names {
    now: BTreeSet<String>,
    created: usize,
    read: usize,
    sessions: i64,
}

type Shared = Arc<Mutex<Names>>;

async fn serve(listener: TcpListener, names: Shared) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(serve_one(stream, names.clone()));
    }
}

async fn serve_one(mut stream: TcpStream, names: Shared) {
    let (mut received, mut out, mut shaken) = (BytesMut::new(), BytesMut::new(), false);
    while stream.read_buf(&mut received).await.unwrap_or(0) > 0 {
        while let Some(frame) = jute::take_frame(&mut received, MAX_REQUEST).unwrap() {
            if !shaken {
                shaken = true;
                let response = connect(&mut names.lock().unwrap());
                jute::encode_connect_response(&response, &mut out);
                continue;
            }
            let (xid, Decoded::Op(op)) = jute::decode_request(frame).unwrap() else { panic!("no auth here") };
            let result = answer(&mut names.lock().unwrap(), op);
            jute::encode_reply(&Reply { xid, zxid: Zxid(1), result }, &mut out);
        }
        stream.write_all(&out).await.unwrap();
        out.clear();
    }
}

fn connect(names: &mut Names) -> ConnectResponse {
    names.sessions += 1;
    let session = SessionId(names.sessions);
    ConnectResponse { timeout_ms: 30_000, session, password: [0; 16], read_only: Some(false) }
}

fn answer(names: &mut Names, op: Op) -> Result<ReplyBody, ZkError> {
    let stat = Stat::default();
    match op {
        Op::Create { path, .. } => {
            names.created += 1;
            assert!(names.now.insert(path.to_string()), "{path} is created twice");
            Ok(ReplyBody::PathStat(path, stat))
        }
        Op::Delete { path, .. } => {
            assert_eq!(below(names, &path).next(), None, "{path} has children");
            names.now.remove(&*path).then_some(ReplyBody::Empty).ok_or(ZkError::NoNode)
        }
        Op::GetData { path, .. } if names.now.contains(&*path) => {
            names.read += 1;
            Ok(ReplyBody::Data(None, stat))
        }
        Op::SetData { path, .. } if names.now.contains(&*path) => Ok(ReplyBody::Stat(stat)),
        Op::GetChildren { path, .. } => {
            let children = below(names, &path).filter(|name| !name.contains('/'));
            Ok(ReplyBody::Children(children.map(Into::into).collect()))
        }
        Op::Multi(members) => {
            let results = members.into_iter().map(|member| match answer(names, member) {
                Ok(ReplyBody::PathStat(path, stat)) => MultiResult::Create2(path, stat),
                Ok(_) => MultiResult::Delete,
                Err(error) => MultiResult::Error(error.code()),
            });
            Ok(ReplyBody::Multi(results.collect()))
        }
        Op::Sync { path } => Ok(ReplyBody::Sync(path)),
        Op::CloseSession => Ok(ReplyBody::Empty),
        _ => Err(ZkError::NoNode),
    }
}

/// The paths below this one, relative to it.
fn below<'a>(names: &'a Names, path: &str) -> impl Iterator<Item = &'a str> {
    let prefix = format!("{path}/");
    names.now.range(prefix.clone()..).map_while(move |name| name.strip_prefix(prefix.as_str()))
}

async fn bench(args: &[&str]) -> (Result<(), BenchError>, Shared) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let names = Shared::default();
    tokio::spawn(serve(listener, names.clone()));
    let common = ["bench", "--servers", &address, "--seconds", "1", "--warmup", "0", "--connections", "2"];
    let args = Cli::parse_from(common.iter().chain(args)).bench;
    (run(args).await, names)
}

#[tokio::test]
async fn created_znodes_are_deleted() {
    let (result, names) = bench(&["--workload", "create", "--pipeline", "2", "--size", "0"]).await;
    result.unwrap();
    let names = names.lock().unwrap();
    assert!(names.created > 3, "the root, a parent for each connection, and some below");
    assert_eq!(names.now, BTreeSet::new());
    assert_eq!(names.sessions, 3);
}

#[tokio::test]
async fn read_and_written_znodes_are_deleted() {
    let (result, names) = bench(&["--znodes", "150", "--json"]).await;
    result.unwrap();
    let names = names.lock().unwrap();
    assert_eq!(names.created, 151, "the root, and those asked for");
    assert!(names.read > 0);
    assert_eq!(names.now, BTreeSet::new());
}

#[test]
fn a_batch_of_creates_fits_in_a_request() {
    assert_eq!(batch_size(0), BATCH);
    assert_eq!(batch_size(1_000_000), 1);
    assert!(batch_size(20_000) * 20_000 < MAX_REQUEST);
}
