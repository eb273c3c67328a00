//! The servers: processes, each on its own address and its own small disk, or all on loopback where the machine does
//! not permit that.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::software::Software;
use super::{net, sandbox};

/// How long a server that lives may take to say what it is.
const WORD_TIMEOUT: Duration = Duration::from_millis(500);

/// Bytes of a disk that are filled so quickly that its server seldom takes a page meanwhile; and how often that is
/// tried.
const FILL_QUICKLY: u64 = 1 << 20;
const FILL_ATTEMPTS: usize = 20;

/// Bytes of a log that are shown when its server has died.
const LOG_TAIL: u64 = 4_000;

/// One server.
pub struct Server {
    pub sid: u8,
    pub is_observer: bool,
    pub client: SocketAddr,
    pub peer: SocketAddr,
    /// Where ours has its operators' page, and Apache's holds elections.
    pub third: SocketAddr,
    software: Software,
    log: PathBuf,
    process: Option<Child>,
    pub is_paused: bool,
    /// Its disk may end it.
    pub may_die: bool,
}

/// All of them.
pub struct Servers {
    pub dir: PathBuf,
    pub software: Software,
    pub all: Vec<Server>,
    pub is_inside: bool,
}

impl Servers {
    /// Makes directories, disks, the network and the configuration, and starts nothing.
    ///
    /// # Errors
    ///
    /// What cannot be made.
    pub fn new(dir: &Path, software: Software, participants: u8, observers: u8) -> Result<Servers, String> {
        let is_inside = sandbox::is_inside();
        let count = participants + observers;
        if is_inside {
            net::make(count)?;
        }
        let mut all = Vec::new();
        for sid in 1..=count {
            let place = |port: u16| match is_inside {
                true => Ok(SocketAddr::new(IpAddr::V4(net::address(sid)), port)),
                false => free_port(),
            };
            all.push(Server {
                sid,
                is_observer: sid > participants,
                client: place(2181)?,
                peer: place(2888)?,
                third: place(7001)?,
                software,
                log: dir.join(format!("server-{sid}.log")),
                process: None,
                is_paused: false,
                may_die: false,
            });
        }
        let servers = Servers { dir: dir.to_path_buf(), software, all, is_inside };
        for server in &servers.all {
            let data = servers.data(server.sid);
            fs::create_dir_all(&data).map_err(|error| format!("{}: {error}", data.display()))?;
            if is_inside {
                let size = format!("size={}", software.disk());
                sandbox::run(&["mount", "-t", "tmpfs", "-o", &size, "none", &data.to_string_lossy()])?;
            }
        }
        software.configure(dir, &servers.all)?;
        Ok(servers)
    }

    /// The directory of a server, which has a disk of its own.
    pub fn data(&self, sid: u8) -> PathBuf {
        self.dir.join("data").join(sid.to_string())
    }

    pub fn get(&mut self, sid: u8) -> &mut Server {
        &mut self.all[usize::from(sid) - 1]
    }

    /// Starts a server that does not run.
    ///
    /// # Errors
    ///
    /// Why there is no process.
    pub fn start(&mut self, sid: u8) -> Result<(), String> {
        let mut command = if self.is_inside {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net={}", net::namespace(sid))).arg("--");
            command
        } else {
            // Without a sandbox it must end with this program in another way.
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", "--"]);
            command
        };
        command.args(self.software.words(&self.dir, sid)?);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ZABRA_") {
                command.env_remove(name);
            }
        }
        let server = self.get(sid);
        let log = File::options().create(true).append(true).open(&server.log);
        let log = log.map_err(|error| format!("{}: {error}", server.log.display()))?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        // Ctrl-C is for this program alone.
        command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
        server.process = Some(command.spawn().map_err(|error| format!("server {sid}: {error}"))?);
        Ok(())
    }

    /// Brings everybody back who is not there.
    ///
    /// # Errors
    ///
    /// Who did not come back.
    pub fn heal_processes(&mut self) -> Result<(), String> {
        for sid in 1..=self.count() {
            let server = self.get(sid);
            server.resume();
            if server.process.is_none() {
                self.start(sid)?;
            }
        }
        Ok(())
    }

    pub fn count(&self) -> u8 {
        u8::try_from(self.all.len()).expect("a few")
    }

    pub fn participants(&self) -> Vec<u8> {
        self.all.iter().filter(|server| !server.is_observer).map(|server| server.sid).collect()
    }

    /// Who says that it leads. After a partition that may be two for a while.
    pub fn leader(&self) -> Option<u8> {
        let is_leader = |server: &&Server| server.mode().is_some_and(|mode| mode == "leader");
        self.all.iter().find(is_leader).map(|server| server.sid)
    }

    /// Whoever has ended although nobody wanted it; who ended as it may is noted as gone.
    pub fn dead(&mut self) -> Option<String> {
        for server in &mut self.all {
            let Some(status) = server.process.as_mut().and_then(|process| process.try_wait().ok().flatten())
            else {
                continue;
            };
            server.process = None;
            if server.may_die && server.software.is_for_disk(status) {
                continue;
            }
            let tail = server.log_tail();
            return Some(format!("server {} ended by itself: {status}\n{tail}", server.sid));
        }
        None
    }

    /// Leaves so many bytes of a server's disk; 0 is none at all.
    ///
    /// # Errors
    ///
    /// Why it cannot be filled.
    pub fn fill_disk(&self, sid: u8, leave: u64) -> Result<(), String> {
        let path = self.data(sid).join("filler");
        let fill = || -> std::io::Result<()> {
            let file = File::options().create(true).append(true).open(&path)?;
            for _ in 0..FILL_ATTEMPTS {
                let stat = rustix::fs::fstatvfs(&file)?;
                let rest = (stat.f_bavail * stat.f_frsize).saturating_sub(leave);
                if rest == 0 {
                    return Ok(());
                }
                let part = if rest > FILL_QUICKLY { rest - FILL_QUICKLY / 2 } else { rest };
                let length = file.metadata()?.len() + part;
                match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length) {
                    // The server was faster with the last page, and nothing of this is filled.
                    Err(rustix::io::Errno::NOSPC) => {}
                    other => other?,
                }
            }
            Ok(())
        };
        fill().map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Gives the room back.
    pub fn free_disks(&self) {
        for server in &self.all {
            // There may be no such file.
            let _ = fs::remove_file(self.data(server.sid).join("filler"));
        }
    }

    /// Ends them all and removes what they have left.
    ///
    /// # Errors
    ///
    /// What cannot be removed.
    pub fn remove(&mut self) -> Result<(), String> {
        self.all.iter_mut().for_each(Server::kill);
        if self.is_inside {
            (1..=self.count())
                .try_for_each(|sid| sandbox::run(&["umount", &self.data(sid).to_string_lossy()]))?;
        }
        fs::remove_dir_all(&self.dir).map_err(|error| format!("{}: {error}", self.dir.display()))
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.all.iter_mut().for_each(Server::kill);
    }
}

impl Server {
    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.process.as_ref().and_then(|process| Pid::from_raw(process.id().cast_signed()))
        {
            // Not yet waited for, so the number is still its own.
            let _ = kill_process(pid, signal);
        }
    }

    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        self.is_paused = false;
    }

    /// SIGTERM. It must end in order.
    ///
    /// # Errors
    ///
    /// How else it ended.
    pub fn terminate(&mut self, patience: Duration) -> Result<(), String> {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + patience;
        let Some(mut process) = self.process.take() else { return Ok(()) };
        loop {
            match process.try_wait() {
                Ok(Some(status)) if self.software.is_orderly(status) => return Ok(()),
                Ok(Some(status)) => {
                    return Err(format!("server {}, told to stop: {status}\n{}", self.sid, self.log_tail()));
                }
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
                Ok(None) => {
                    let _ = process.kill();
                    let _ = process.wait();
                    return Err(format!("server {}, told to stop, did not", self.sid));
                }
                Err(error) => return Err(format!("server {}: {error}", self.sid)),
            }
        }
    }

    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
        self.is_paused = true;
    }

    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
        self.is_paused = false;
    }

    /// What it says it is; `None` while it serves nobody.
    pub fn mode(&self) -> Option<String> {
        if self.is_paused || self.process.is_none() {
            return None;
        }
        let mut socket = TcpStream::connect_timeout(&self.client, WORD_TIMEOUT).ok()?;
        socket.set_read_timeout(Some(WORD_TIMEOUT)).ok()?;
        socket.write_all(b"srvr").ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        answer.lines().find_map(|line| line.strip_prefix("Mode: ")).map(str::to_string)
    }

    pub fn log_tail(&self) -> String {
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&self.log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL)))?;
            let mut tail = Vec::new();
            file.read_to_end(&mut tail)?;
            Ok(tail)
        };
        String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
    }
}

/// A port of loopback that nobody listens on, from below the range that the system takes the near ends of
/// connections from.
fn free_port() -> Result<SocketAddr, String> {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 21_000 + (std::process::id() % 9_000) as u16;
    for _ in 0..1_000 {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        }
    }
    Err(format!("no free port behind {first}"))
}
