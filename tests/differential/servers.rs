//! The two kinds of servers that are compared, as processes on loopback: Apache's from Debian's package, and ours.
//!
//! Both get the same settings as far as a client can notice them. Ticks are long, so that no session ends by
//! itself while a busy machine stands still; whatever works on its own after a while (the reaper of containers and
//! TTL nodes) is set so far apart that it does not come to it: its transactions would come between those of a
//! sequence, at another place each time. Data lies in memory where the system has a place for that.

use std::collections::hash_map::RandomState;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::script::{Place, Shape};

/// The unit of session time-outs: they are between 2 and 30 ticks.
const TICK_MS: u32 = 20_000;

/// What a session may ask for at most.
pub const MAX_SESSION_MS: i32 = 600_000;

/// The password of the one who may do everything; its digest is in both configurations.
pub const SUPER: &str = "super:secret";

/// Base64 of SHA-1 of [`SUPER`].
const SUPER_DIGEST: &str = "super:lK75jTNcA+U9vtVEw5vB51mj/w4=";

/// JVMs that start together on two busy cores need most of it.
const START_TIMEOUT: Duration = Duration::from_secs(90);

/// How often the state of a process is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A four-letter word is answered at once or not at all.
const FOUR_LETTER_TIMEOUT: Duration = Duration::from_secs(2);

/// Whose servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    Apache,
    Zabra,
}

/// Running servers. They are killed when this is dropped.
pub struct Servers {
    make: Make,
    dir: TempDir,
    processes: Vec<Child>,
    ports: Vec<[u16; 3]>,
    _claims: Vec<UdpSocket>,
    /// Where each place of the shape is.
    pub places: Vec<(Place, SocketAddr)>,
}

impl Servers {
    /// Starts the servers of a shape and waits until all serve.
    ///
    /// # Errors
    ///
    /// What is missing, or which server did not come up, with the end of its log.
    pub fn start(make: Make, shape: Shape) -> Result<Servers, String> {
        let dir = tempfile::Builder::new()
            .prefix("zabra-differential-")
            .tempdir_in(memory())
            .map_err(|error| format!("cannot make a directory in {}: {error}", memory().display()))?;
        let count = if shape.is_ensemble() { 3 } else { 1 };
        let mut claims = Vec::new();
        let mut claim = || {
            let (port, socket) = free_port();
            claims.push(socket);
            port
        };
        let ports = (0..count).map(|_| [claim(), claim(), claim()]).collect();
        let (processes, places) = (Vec::new(), Vec::new());
        let mut servers = Servers { make, dir, processes, ports, _claims: claims, places };
        match make {
            Make::Apache => servers.configure_apache(shape)?,
            Make::Zabra => servers.configure_zabra(shape)?,
        }
        for sid in 1..=count {
            let process = servers.spawn(shape, sid)?;
            servers.processes.push(process);
        }
        servers.await_roles()?;
        Ok(servers)
    }

    /// The name of a server that has ended by itself, with the end of its log.
    pub fn dead(&mut self) -> Option<String> {
        let ended = |process: &mut Child| process.try_wait().ok().flatten();
        let (at, status) = self.processes.iter_mut().enumerate().find_map(|(n, p)| Some((n, ended(p)?)))?;
        Some(format!("{:?} server {} ended: {status}\n{}", self.make, at + 1, self.log_tail(at + 1)))
    }

    fn path(&self, sid: usize) -> PathBuf {
        self.dir.path().join(sid.to_string())
    }

    fn log_tail(&self, sid: usize) -> String {
        let log = fs::read(self.path(sid).join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(4_000)..]).into_owned()
    }

    fn configure_zabra(&self, shape: Shape) -> Result<(), String> {
        let local = shape == Shape::Local;
        let mut text = format!(
            "[cluster]\nname = \"differential\"\n[timing]\ntick_time = \"{TICK_MS}ms\"\n\
             max_session_timeout = \"{MAX_SESSION_MS}ms\"\n\
             [client]\nmax_connections_per_ip = 0\nlocal_sessions = {local}\n\
             upgrade_local_sessions = {local}\n[storage]\nprealloc = \"1MiB\"\n[acl]\nsuper_digest = \"{SUPER_DIGEST}\"\n{}",
            settings_of_zabra(shape),
        );
        for (sid, [client, peer, admin]) in (1..).zip(&self.ports) {
            let role = if sid == 3 { "observer" } else { "participant" };
            let host = Ipv4Addr::LOCALHOST;
            write!(
                text,
                "[[server]]\nid = {sid}\nrole = \"{role}\"\nclient = \"{host}:{client}\"\n\
                 peer = \"{host}:{peer}\"\nadmin = \"{host}:{admin}\"\n"
            )
            .expect("a String takes all");
        }
        write_file(&self.dir.path().join("cluster.toml"), &text)
    }

    fn configure_apache(&self, shape: Shape) -> Result<(), String> {
        for (sid, [client, ..]) in (1..).zip(&self.ports) {
            let data = self.path(sid).join("data");
            fs::create_dir_all(&data).map_err(|error| format!("{}: {error}", data.display()))?;
            write_file(&data.join("myid"), &format!("{sid}\n"))?;
            let mut text = format!(
                "tickTime={TICK_MS}\nmaxSessionTimeout={MAX_SESSION_MS}\ninitLimit=10\nsyncLimit=5\n\
                 dataDir={}\nmaxClientCnxns=0\nadmin.enableServer=false\n",
                data.display(),
            );
            if shape == Shape::Local {
                text += "localSessionsEnabled=true\nlocalSessionsUpgradingEnabled=true\n";
            }
            if !shape.is_ensemble() {
                let host = Ipv4Addr::LOCALHOST;
                write!(text, "clientPort={client}\nclientPortAddress={host}\n").expect("a String takes all");
            } else {
                for (other, [client, peer, election]) in (1..).zip(&self.ports) {
                    let role = if other == 3 { "observer" } else { "participant" };
                    let host = Ipv4Addr::LOCALHOST;
                    writeln!(text, "server.{other}={host}:{peer}:{election}:{role};{host}:{client}")
                        .expect("a String takes all");
                }
            }
            if sid == 3 {
                text += "peerType=observer\n";
            }
            write_file(&self.path(sid).join("zoo.cfg"), &text)?;
            write_file(&self.path(sid).join("log4j.properties"), LOG4J)?;
        }
        Ok(())
    }

    fn spawn(&self, shape: Shape, sid: usize) -> Result<Child, String> {
        let dir = self.path(sid);
        fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let log = File::create(dir.join("log")).map_err(|error| format!("{}: {error}", dir.display()))?;
        let errors = log.try_clone().map_err(|error| format!("{}: {error}", dir.display()))?;
        let mut command = match self.make {
            Make::Apache => apache(shape, &dir),
            Make::Zabra => {
                let mut command = Command::new(binary()?);
                command.args(["serve", "--config"]).arg(self.dir.path().join("cluster.toml"));
                command.args(["--id", &sid.to_string()]);
                command
            }
        };
        command.current_dir(&dir).stdin(Stdio::null()).stdout(log).stderr(errors);
        let process = command.spawn();
        let process =
            process.map_err(|error| format!("cannot start {:?}: {error}", command.get_program()))?;
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).push(process.id());
        Ok(process)
    }

    /// Waits until all serve, and notes who is what.
    fn await_roles(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(dead) = self.dead() {
                return Err(dead);
            }
            let modes: Vec<Option<Place>> = self.ports.iter().map(|[client, ..]| mode(*client)).collect();
            if !modes.contains(&None) && modes.contains(&Some(Place::Leader)) {
                let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                let places =
                    modes.into_iter().flatten().zip(self.ports.iter().map(|[client, ..]| at(*client)));
                self.places = places.collect();
                return Ok(());
            }
            if Instant::now() > deadline {
                let logs: Vec<String> = (1..=self.ports.len()).map(|sid| self.log_tail(sid)).collect();
                return Err(format!("{:?} does not serve: {modes:?}\n{}", self.make, logs.join("\n---\n")));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

/// The processes of all servers that run.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Lets no server outlive a panic: it ends this process on the spot, and nothing is dropped then.
pub fn kill_all_on_panic() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        for id in RUNNING.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let pid = i32::try_from(id).ok().and_then(Pid::from_raw);
            // One that has ended already is fine.
            let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
        }
        usual(panic);
    }));
}

impl Drop for Servers {
    fn drop(&mut self) {
        for process in &mut self.processes {
            RUNNING.lock().unwrap_or_else(PoisonError::into_inner).retain(|id| *id != process.id());
            // It may have ended already; then there is nothing to kill.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// What zabra is told besides, to be as Apache is with the options of [`apache`].
fn settings_of_zabra(shape: Shape) -> String {
    let extended = shape == Shape::Extended;
    format!(
        "[znode]\ncontainer_check_interval = \"24h\"\nextended_types = {extended}\nenforce_quota = {extended}\n"
    )
}

fn apache(shape: Shape, dir: &Path) -> Command {
    let jars = ["zookeeper", "slf4j-log4j12", "log4j-1.2"].map(|name| format!("/usr/share/java/{name}.jar"));
    let mut command = Command::new("java");
    command.args([
        "-Xmx512m",
        "-XX:+UseSerialGC",
        "-Dzookeeper.forceSync=no",
        "-Dzookeeper.preAllocSize=1024",
    ]);
    command.arg("-Dznode.container.checkIntervalMs=86400000");
    // Of what Apache drops it thinks for ever that it is at work on it, and in the end stops reading.
    command.arg("-Dzookeeper.globalOutstandingLimit=1000000000");
    command.arg(format!("-Dzookeeper.DigestAuthenticationProvider.superDigest={SUPER_DIGEST}"));
    if shape == Shape::Extended {
        command.args(["-Dzookeeper.extendedTypesEnabled=true", "-Dzookeeper.enforceQuota=true"]);
    }
    command.arg("-cp").arg(format!("{}:{}", dir.display(), jars.join(":")));
    command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(dir.join("zoo.cfg"));
    command
}

const LOG4J: &str = "\
log4j.rootLogger=ERROR, CONSOLE
log4j.appender.CONSOLE=org.apache.log4j.ConsoleAppender
log4j.appender.CONSOLE.layout=org.apache.log4j.PatternLayout
log4j.appender.CONSOLE.layout.ConversionPattern=%d{ISO8601} %-5p %c{1} - %m%n
";

/// Our program: `ZABRA_BIN`, else the one that was built beside this.
fn binary() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("ZABRA_BIN") {
        return Ok(path.into());
    }
    let own =
        std::env::current_exe().map_err(|error| format!("cannot tell where this program is: {error}"))?;
    let built = own.ancestors().skip(1).map(|dir| dir.join("zabra")).find(|path| path.is_file());
    built.ok_or(format!("no zabra near {}: cargo build --release, or set ZABRA_BIN", own.display()))
}

/// A place for data that need not outlive the machine.
fn memory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

fn write_file(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// What a server says it is; `None` while it serves nobody.
fn mode(port: u16) -> Option<Place> {
    let address = (Ipv4Addr::LOCALHOST, port).into();
    let mut socket = TcpStream::connect_timeout(&address, FOUR_LETTER_TIMEOUT).ok()?;
    socket.set_read_timeout(Some(FOUR_LETTER_TIMEOUT)).ok()?;
    socket.write_all(b"srvr").ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    match answer.lines().find_map(|line| line.strip_prefix("Mode: "))? {
        "leader" | "standalone" => Some(Place::Leader),
        "follower" => Some(Place::Follower),
        "observer" => Some(Place::Observer),
        _ => None,
    }
}

/// A port that nobody listens on, and the claim to it: a UDP socket of the same number, which other tests look for.
/// From below the range that the system takes the near ends of connections from.
fn free_port() -> (u16, UdpSocket) {
    loop {
        let random = RandomState::new().build_hasher().finish();
        let port = 15_000 + (random % 17_000) as u16;
        let Ok(claim) = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)) else { continue };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return (port, claim);
        }
    }
}
