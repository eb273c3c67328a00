//! Ensembles of real `zabra serve` processes for integration tests.
//!
//! An [`Ensemble`] has a temporary directory with a `cluster.toml`, loopback ports of its own and fast ticks. Its
//! servers are looked at through their client ports only, with the four-letter word `srvr`, as any operator would.
//! They are killed when it is dropped; if that happens in a panic, the ends of their logs are printed and the
//! directory is kept.
//!
//! Everything here blocks. Call it from outside of a runtime, or where a client may stand still meanwhile.
//!
//! `ZABRA_BIN` in the environment runs another build than the one under test.

// Each test binary uses its own part of this module.
#![allow(dead_code)]

pub mod raw;

use std::collections::hash_map::RandomState;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The unit of all limits: short, so that expiry and failover are soon seen. Sessions last 2 to 20 ticks.
pub const TICK: Duration = Duration::from_millis(500);

/// How long an ensemble may take until it serves. Most of it is patience with a busy machine.
pub const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a server may take to end after SIGTERM.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// How often the state of a process is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A four-letter word is answered at once or not at all.
const FOUR_LETTER_TIMEOUT: Duration = Duration::from_secs(2);

/// Below the kernel's ephemeral range, so that no outgoing connection takes a port between claim and use.
const PORTS: Range<u16> = 15_000..32_000;

/// Bytes at the end of a log that are printed after a failure.
const LOG_TAIL: usize = 8_000;

/// What a server says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It orders the writes.
    Leader,
    /// It votes and serves.
    Follower,
    /// It serves without a vote.
    Observer,
    /// It is the only one.
    Standalone,
}

/// A port that no other test takes while this lives.
///
/// The claim is a UDP socket of the same number: it does not keep the server from listening, outlives the
/// server's restarts, and is given back by the kernel however the test ends.
struct PortClaim {
    port: u16,
    _claim: UdpSocket,
}

impl PortClaim {
    fn new() -> PortClaim {
        loop {
            let random = RandomState::new().build_hasher().finish();
            let span = u64::from(PORTS.end - PORTS.start);
            let port = PORTS.start + u16::try_from(random % span).expect("the span of ports fits 16 bits");
            let Ok(claim) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) else { continue };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return PortClaim { port, _claim: claim };
            }
        }
    }
}

/// One server: its ports, its log, and its process if it runs.
struct Server {
    role: &'static str,
    client: PortClaim,
    peer: PortClaim,
    admin: PortClaim,
    log: PathBuf,
    process: Option<Child>,
}

impl Server {
    fn new(dir: &Path, sid: u8, role: &'static str) -> Server {
        Server {
            role,
            client: PortClaim::new(),
            peer: PortClaim::new(),
            admin: PortClaim::new(),
            log: dir.join(format!("server-{sid}.log")),
            process: None,
        }
    }

    fn mode(&self) -> Option<Mode> {
        let answer = four_letter_word(self.client.port, "srvr")?;
        let mode = answer.lines().find_map(|line| line.strip_prefix("Mode: "))?;
        Some(match mode {
            "leader" => Mode::Leader,
            "follower" => Mode::Follower,
            "observer" => Mode::Observer,
            "standalone" => Mode::Standalone,
            other => panic!("srvr names a mode that is none: {other}"),
        })
    }

    /// The exit status, if the process has ended.
    fn death(&mut self) -> Option<ExitStatus> {
        self.process.as_mut()?.try_wait().expect("a child can be waited for")
    }

    fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_TAIL)..]).into_owned()
    }
}

/// The servers of one test. Their ids are 1, 2, ...: first the participants, then the observers.
pub struct Ensemble {
    dir: Option<TempDir>,
    servers: Vec<Server>,
}

impl Ensemble {
    /// Starts that many participants and observers, and returns when all serve.
    pub fn start(participants: u8, observers: u8) -> Ensemble {
        let mut ensemble = Ensemble::new(participants, observers);
        for sid in ensemble.sids() {
            ensemble.spawn(sid);
        }
        ensemble.wait_serving();
        ensemble
    }

    /// Writes the configuration and starts nothing.
    pub fn new(participants: u8, observers: u8) -> Ensemble {
        Ensemble::with(participants, observers, "")
    }

    /// The same with more sections in the configuration.
    pub fn with(participants: u8, observers: u8, sections: &str) -> Ensemble {
        let dir = tempfile::Builder::new().prefix("zabra-").tempdir().expect("a temporary directory");
        let servers = (1..=participants + observers)
            .map(|sid| {
                Server::new(dir.path(), sid, if sid <= participants { "participant" } else { "observer" })
            })
            .collect();
        let ensemble = Ensemble { dir: Some(dir), servers };
        fs::write(ensemble.config(), ensemble.cluster_toml() + sections)
            .expect("the temporary directory can be written");
        ensemble
    }

    /// Changes the configuration, before any server runs.
    pub fn configure(&self, change: impl FnOnce(String) -> String) {
        let text = fs::read_to_string(self.config()).expect("it was written");
        fs::write(self.config(), change(text)).expect("it can be written again");
    }

    /// All ids.
    pub fn sids(&self) -> Vec<u8> {
        (1..).take(self.servers.len()).collect()
    }

    /// Where clients find this server: `127.0.0.1:port`.
    pub fn host(&self, sid: u8) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.server(sid).client.port)
    }

    /// Where operators find this server's HTTP port.
    pub fn admin(&self, sid: u8) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.server(sid).admin.port)
    }

    /// Where the other servers find this server.
    pub fn peer(&self, sid: u8) -> String {
        format!("{}:{}", Ipv4Addr::LOCALHOST, self.server(sid).peer.port)
    }

    /// The process of this server, which must run.
    pub fn pid(&self, sid: u8) -> u32 {
        self.server(sid).process.as_ref().expect("only what runs has a process").id()
    }

    /// Where clients find all servers, separated by commas.
    pub fn hosts(&self) -> String {
        let hosts: Vec<String> = self.sids().into_iter().map(|sid| self.host(sid)).collect();
        hosts.join(",")
    }

    /// The `cluster.toml` of all.
    pub fn config(&self) -> PathBuf {
        self.path().join("cluster.toml")
    }

    /// Where this server keeps its data.
    pub fn data_dir(&self, sid: u8) -> PathBuf {
        self.path().join("data").join(sid.to_string())
    }

    /// What this server says of itself; `None` while it serves nobody.
    pub fn mode(&self, sid: u8) -> Option<Mode> {
        self.server(sid).mode()
    }

    /// The last transaction that this server has applied, as it says; `None` while it serves nobody.
    pub fn last_zxid(&self, sid: u8) -> Option<String> {
        let answer = four_letter_word(self.server(sid).client.port, "srvr")?;
        answer.lines().find_map(|line| line.strip_prefix("Zxid: ")).map(str::to_string)
    }

    /// What this server has logged in all its lives.
    pub fn log(&self, sid: u8) -> String {
        fs::read_to_string(&self.server(sid).log).unwrap_or_default()
    }

    /// The server that leads.
    pub fn leader(&self) -> u8 {
        self.find(Mode::Leader)
    }

    /// A server in that mode.
    pub fn find(&self, mode: Mode) -> u8 {
        let found = self.sids().into_iter().find(|&sid| self.mode(sid) == Some(mode));
        found.unwrap_or_else(|| panic!("no {mode:?} among {}", self.modes()))
    }

    /// Starts this server's process, which must not run, and does not wait until it serves.
    pub fn spawn(&mut self, sid: u8) {
        let config = self.config();
        let server = self.server_mut(sid);
        assert!(server.process.is_none(), "server {sid} runs already");
        let log =
            File::options().create(true).append(true).open(&server.log).expect("the log can be written");
        let process = Command::new(binary())
            .args(["serve", "--config"])
            .arg(config)
            .args(["--id", &sid.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", binary().display()));
        server.process = Some(process);
    }

    /// kill -9 of a server, running or not.
    pub fn kill(&mut self, sid: u8) {
        if let Some(mut process) = self.server_mut(sid).process.take() {
            process.kill().expect("a child can be killed");
            process.wait().expect("a child can be waited for");
        }
    }

    /// SIGTERM; returns how the process ended.
    pub fn stop(&mut self, sid: u8) -> ExitStatus {
        self.signal(sid, Signal::TERM);
        let mut status = None;
        until(&format!("server {sid} ends after SIGTERM"), STOP_TIMEOUT, || {
            status = self.server_mut(sid).death();
            status.is_some()
        });
        self.server_mut(sid).process = None;
        status.expect("it has ended")
    }

    /// SIGSTOP: the process stands still until [`Ensemble::resume`], and its connections stay open.
    pub fn pause(&self, sid: u8) {
        self.signal(sid, Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self, sid: u8) {
        self.signal(sid, Signal::CONT);
    }

    fn signal(&self, sid: u8, signal: Signal) {
        let process = self.server(sid).process.as_ref().expect("only what runs can be sent a signal");
        kill_process(Pid::from_child(process), signal).expect("a child can be sent a signal");
    }

    /// Waits until every server that was started serves, under one leader.
    pub fn wait_serving(&mut self) {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            for sid in self.sids() {
                if let Some(status) = self.server_mut(sid).death() {
                    panic!("server {sid} ended by itself: {status}");
                }
            }
            let running = self.servers.iter().filter(|server| server.process.is_some());
            let modes: Vec<Option<Mode>> = running.map(Server::mode).collect();
            let leads = |mode: &&Option<Mode>| matches!(mode, Some(Mode::Leader | Mode::Standalone));
            if !modes.contains(&None) && modes.iter().filter(leads).count() == 1 {
                return;
            }
            assert!(Instant::now() < deadline, "not all serve within {START_TIMEOUT:?}: {}", self.modes());
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn modes(&self) -> String {
        let modes: Vec<String> =
            self.sids().iter().map(|&sid| format!("{sid}: {:?}", self.mode(sid))).collect();
        modes.join(", ")
    }

    fn cluster_toml(&self) -> String {
        let mut text = format!(
            "[cluster]\nname = \"test\"\ndata_dir = \"{}\"\n\n[timing]\ntick_time = \"{}ms\"\ninit_limit = 20\n\
             sync_limit = 6\n\n[admin]\nfour_letter_words = [\"*\"]\n",
            self.path().join("data").display(),
            TICK.as_millis(),
        );
        for (sid, server) in self.sids().into_iter().zip(&self.servers) {
            let host = Ipv4Addr::LOCALHOST;
            let Server { role, client, peer, admin, .. } = server;
            write!(
                text,
                "\n[[server]]\nid = {sid}\nrole = \"{role}\"\nclient = \"{host}:{}\"\npeer = \"{host}:{}\"\n\
                 admin = \"{host}:{}\"\n",
                client.port, peer.port, admin.port
            )
            .expect("a String takes all");
        }
        text
    }

    fn path(&self) -> &Path {
        self.dir.as_ref().expect("only dropping takes it").path()
    }

    fn server(&self, sid: u8) -> &Server {
        &self.servers[usize::from(sid) - 1]
    }

    fn server_mut(&mut self, sid: u8) -> &mut Server {
        &mut self.servers[usize::from(sid) - 1]
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        for sid in self.sids() {
            self.kill(sid);
        }
        if std::thread::panicking() {
            for (sid, server) in self.sids().into_iter().zip(&self.servers) {
                eprintln!("--- log of server {sid} ({})\n{}", server.role, server.log_tail());
            }
            if let Some(dir) = self.dir.take() {
                eprintln!("--- kept: {}", dir.keep().display());
            }
        }
    }
}

/// Polls `holds` until it does.
///
/// # Panics
///
/// Naming `what`, when it does not within `timeout`.
pub fn until(what: &str, timeout: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + timeout;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not so within {timeout:?}");
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Asks a four-letter word on a client port; `None` when nobody answers.
pub fn four_letter_word(port: u16, word: &str) -> Option<String> {
    let address = (Ipv4Addr::LOCALHOST, port).into();
    let mut socket = TcpStream::connect_timeout(&address, FOUR_LETTER_TIMEOUT).ok()?;
    socket.set_read_timeout(Some(FOUR_LETTER_TIMEOUT)).ok()?;
    socket.write_all(word.as_bytes()).ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    // The server may have closed first.
    let _ = socket.shutdown(Shutdown::Both);
    Some(answer)
}

/// The server's program.
pub fn binary() -> PathBuf {
    std::env::var_os("ZABRA_BIN").map_or_else(|| env!("CARGO_BIN_EXE_zabra").into(), PathBuf::from)
}
