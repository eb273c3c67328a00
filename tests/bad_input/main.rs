//! Bad input on every port of a running ensemble: what is no frame, what is half a frame, lengths that lie, records that
//! make no sense, requests that ask for too much, clients that do not read, connections that say nothing.
//!
//! All of it goes to one server of three. While it comes, a well-behaved client of that very server creates, reads and
//! deletes without a pause: none of its requests may fail, and none may take long. In the end all servers run, none has
//! panicked, and the one that was harmed has kept within a bound of memory. What was tried is counted and printed.

#![allow(clippy::unwrap_used)] // a test's helpers are tests

#[path = "../common/mod.rs"]
mod common;

mod greedy;
mod nonsense;
mod others;
mod witness;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use common::raw::{self, Client};
use common::{Ensemble, Mode};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use witness::Witness;
use zabra_actors::jute;
use zabra_actors::types::Op;

/// What the harmed server may have in memory at any moment, in bytes: idle it has 20 MiB, and each of its limits has its
/// part (64 MiB of an answer, 128 MiB of one client's watched paths, what a megabyte of multi is decoded into, the tree,
/// the log's window).
const MEMORY_LIMIT: u64 = 512 << 20;

/// The longest frame (`limits.max_frame`).
const MAX_FRAME: usize = 1_048_575;

/// Session time-out in ms: nobody's session ends meanwhile.
const TIMEOUT_MS: i32 = 10_000;

/// Whom it is done to, and how much was done.
struct Victim<'a> {
    ensemble: &'a Ensemble,
    sid: u8,
    host: String,
    tried: usize,
    /// Open to the end.
    held: Vec<TcpStream>,
    random: Random,
}

impl Victim<'_> {
    /// A session.
    fn client(&self) -> Client {
        Client::connect(&self.host, TIMEOUT_MS).expect("a well-behaved client is served")
    }

    /// A connection that has said nothing.
    fn open(&self) -> TcpStream {
        raw::open(&self.host).expect("it listens")
    }

    /// So many inputs were tried.
    fn count(&mut self, inputs: usize) {
        self.tried += inputs;
    }

    /// Says that on a connection of its own, and demands that it be closed without a word.
    fn refuses(&mut self, bytes: &[u8]) {
        let mut socket = self.open();
        // It may be closed before all is written.
        let _ = socket.write_all(bytes);
        expect_end(&mut socket, bytes);
        self.count(1);
    }

    /// The same in a session.
    fn refuses_in_session(&mut self, bytes: &[u8]) {
        let mut client = self.client();
        let _ = client.socket.write_all(bytes);
        expect_end(&mut client.socket, bytes);
        self.count(1);
    }
}

/// The server closes, and says nothing before.
fn expect_end(socket: &mut TcpStream, after: &[u8]) {
    let about = &after[..after.len().min(40)];
    match socket.read(&mut [0; 64]) {
        Ok(0) => {}
        Ok(n) => panic!("{n} bytes of answer to {about:02x?}"),
        Err(e) => assert_eq!(e.kind(), ErrorKind::ConnectionReset, "{about:02x?}: {e}"),
    }
}

/// A frame: its length, and that.
fn framed(payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u32(u32::try_from(payload.len()).unwrap());
    frame.put_slice(payload);
    frame.freeze()
}

/// The frame of a request.
fn request(xid: i32, op: &Op) -> Bytes {
    let mut out = BytesMut::new();
    jute::encode_request(xid, op, &mut out).unwrap();
    out.freeze()
}

/// The frame of a request with that record.
fn raw_request(xid: i32, opcode: i32, record: &[u8]) -> Bytes {
    let mut payload = BytesMut::new();
    payload.put_i32(xid);
    payload.put_i32(opcode);
    payload.put_slice(record);
    framed(&payload)
}

/// Numbers that only look random: a failure comes again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.next() as u8).collect()
    }
}

/// The most that a process has had in memory so far, in bytes.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Thousands of connections need as many files, here and there.
fn raise_file_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// A kind of harm: its name, and how it is done.
type Harm = (&'static str, fn(&mut Victim<'_>));

/// In this order, so that what is held open is there while the rest comes.
const HARMS: &[Harm] = &[
    ("connections that say nothing", others::idle_connections),
    ("half frames that stay half", nonsense::half_frames),
    ("garbage as a first frame", nonsense::garbage),
    ("lengths that lie", nonsense::lengths),
    ("handshakes cut short", nonsense::handshakes),
    ("requests cut short", nonsense::truncated),
    ("records of random bytes", nonsense::random_records),
    ("counts and lengths inside of records", nonsense::inner_lengths),
    ("frames of about a megabyte", nonsense::frame_limit),
    ("paths that are none, or deep", nonsense::paths),
    ("multis of ten thousand members", greedy::multis),
    ("floods of auth packets", greedy::auth),
    ("floods of watches", greedy::watches),
    ("clients that do not read", greedy::deaf_clients),
    ("floods of handshakes", greedy::handshakes),
    ("words cut short, and words that nobody reads", others::words),
    ("the peers' port", others::peers),
    ("the operators' port", others::operators),
];

#[test]
fn bad_input_harms_nobody_else() {
    raise_file_limit();
    let began = Instant::now();
    let mut ensemble = Ensemble::with(3, 0, "\n[client]\nmax_connections_per_ip = 0\n");
    for sid in ensemble.sids() {
        ensemble.spawn(sid);
    }
    ensemble.wait_serving();
    // Links are dialled by the greater id, so it is the least that strangers can pose as a member to.
    let sid = 1;
    let witness = Witness::start(&ensemble.host(sid));
    let mut victim = Victim {
        sid,
        host: ensemble.host(sid),
        ensemble: &ensemble,
        tried: 0,
        held: Vec::new(),
        random: Random(42),
    };
    for (what, harm) in HARMS {
        let (before, at) = (victim.tried, Instant::now());
        harm(&mut victim);
        let memory = peak_memory(ensemble.pid(sid));
        let worst = witness.check();
        println!(
            "{what}: {} inputs in {:.1?}, {} MiB at most so far, the witness waited for {worst:.1?} at most",
            victim.tried - before,
            at.elapsed(),
            memory >> 20
        );
        assert!(memory < MEMORY_LIMIT, "{what}: {} MiB in memory", memory >> 20);
    }
    println!("{} bad inputs tried in {:.1?}", victim.tried, began.elapsed());
    drop(victim);
    println!("{} requests of a well-behaved client were answered meanwhile", witness.stop());
    for sid in ensemble.sids() {
        assert!(matches!(ensemble.mode(sid), Some(Mode::Leader | Mode::Follower)), "server {sid} serves");
        let log = ensemble.log(sid);
        assert!(!log.contains("panicked"), "server {sid} has panicked:\n{log}");
    }
}

/// Closes the side that speaks, and waits for the other.
fn hang_up(mut socket: TcpStream) {
    let _ = socket.shutdown(Shutdown::Write);
    let _ = socket.read(&mut [0; 64]);
}
