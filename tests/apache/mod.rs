//! The real server, Debian's Apache ZooKeeper 3.8, as an oracle for what is on the disk.
//!
//! Servers are killed when they are dropped. What they said is in their directory, and is printed when a wait for
//! them fails.

#![allow(dead_code)] // each test file uses its own part

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const CLASSES: &str = "/usr/share/java/*";

/// How long a JVM may take until it serves; on a busy machine it needs some of it.
const START_TIMEOUT: Duration = Duration::from_secs(90);

const LOG4J: &str = "log4j.rootLogger=INFO, CONSOLE\n\
    log4j.appender.CONSOLE=org.apache.log4j.ConsoleAppender\n\
    log4j.appender.CONSOLE.layout=org.apache.log4j.PatternLayout\n\
    log4j.appender.CONSOLE.layout.ConversionPattern=%d{ISO8601} %-5p %c{1} - %m%n\n";

/// One server.
pub struct Apache {
    process: Child,
    port: u16,
    log: PathBuf,
}

impl Apache {
    /// Starts a server alone on a data directory, with further lines of zoo.cfg and system properties. Its own files
    /// go to `place`; one that was there before has the same port. Does not wait.
    pub fn spawn(place: &Path, data_dir: &Path, lines: &[String], properties: &[&str]) -> Apache {
        assert!(
            Path::new("/usr/share/java/zookeeper.jar").exists(),
            "this test needs Apache ZooKeeper's /usr/share/java/zookeeper.jar and java: apt install zookeeper"
        );
        fs::create_dir_all(place).unwrap();
        let before = fs::read_to_string(place.join("zoo.cfg")).unwrap_or_default();
        let before = before.lines().find_map(|line| line.strip_prefix("clientPort=")?.parse().ok());
        let port = before.unwrap_or_else(free_port);
        let mut config = format!(
            "dataDir={}\nclientPort={port}\ntickTime=500\nadmin.enableServer=false\n4lw.commands.whitelist=*\n\
             extendedTypesEnabled=true\n",
            data_dir.display()
        );
        for line in lines {
            writeln!(config, "{line}").unwrap();
        }
        fs::write(place.join("zoo.cfg"), config).unwrap();
        fs::write(place.join("log4j.properties"), LOG4J).unwrap();
        let log = place.join("apache.log");
        let output = File::options().create(true).append(true).open(&log).unwrap();
        let process = Command::new("java")
            .arg(format!("-Dlog4j.configuration=file:{}", place.join("log4j.properties").display()))
            .args(["-Xmx256m", "-Dzookeeper.extendedTypesEnabled=true"])
            .args(properties.iter().map(|property| format!("-D{property}")))
            .args(["-cp", CLASSES, "org.apache.zookeeper.server.quorum.QuorumPeerMain"])
            .arg(place.join("zoo.cfg"))
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .expect("java is installed beside zookeeper");
        Apache { process, port, log }
    }

    /// Starts a server alone and waits until it serves.
    pub fn start(place: &Path, data_dir: &Path) -> Apache {
        Apache::start_with(place, data_dir, &[], &[])
    }

    /// As [`Apache::spawn`], and waits until it serves.
    pub fn start_with(place: &Path, data_dir: &Path, lines: &[String], properties: &[&str]) -> Apache {
        let mut apache = Apache::spawn(place, data_dir, lines, properties);
        apache.wait_serving();
        apache
    }

    /// Where clients find it.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Everything it has said.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its answer to a four-letter word.
    pub fn word(&self, word: &str) -> Option<String> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        socket.write_all(word.as_bytes()).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        let _ = socket.shutdown(Shutdown::Both);
        Some(answer)
    }

    /// A figure of `mntr`.
    pub fn figure(&self, name: &str) -> i64 {
        let answer = self.word("mntr").expect("it serves");
        let figure = answer.lines().find_map(|line| line.strip_prefix(&format!("zk_{name}\t")));
        let figure = figure.unwrap_or_else(|| panic!("no {name} in\n{answer}"));
        figure.parse::<f64>().unwrap() as i64
    }

    pub fn wait_serving(&mut self) {
        let deadline = Instant::now() + START_TIMEOUT;
        while !self.word("srvr").is_some_and(|answer| answer.contains("Mode: ")) {
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!("Apache ended by itself: {status}\n{}", self.said());
            }
            assert!(Instant::now() < deadline, "Apache does not serve:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// kill -9: what it was about to write is not written.
    pub fn kill(mut self) {
        self.end();
    }

    /// An orderly stop.
    pub fn terminate(mut self) {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
        self.process.wait().unwrap();
    }

    /// What it did not like about the digests or the files it has read and been sent.
    pub fn complaints(&self) -> Vec<String> {
        let said = self.said();
        let bad = [
            "mismatch",
            "Digests are not matching",
            "CRC check",
            "Unable to load",
            "Severe",
            "Invalid snapshot",
        ];
        let complains = |line: &&str| line.contains(" ERROR ") || bad.iter().any(|word| line.contains(word));
        said.lines().filter(complains).map(str::to_string).collect()
    }

    /// Types these lines into zkCli and returns what it printed.
    pub fn cli(&self, lines: &str) -> String {
        let mut cli = Command::new("java")
            .args(["-cp", CLASSES, "org.apache.zookeeper.ZooKeeperMain", "-waitforconnection"])
            .args(["-server", &self.host()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        cli.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let printed = BufReader::new(cli.stdout.take().unwrap()).lines();
        let printed: Vec<_> = printed.map(|line| line.unwrap()).collect();
        cli.wait().unwrap();
        printed.join("\n")
    }

    fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Apache {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            let said = self.said();
            let told: Vec<_> = said.lines().filter(|line| !line.starts_with("\tat ")).collect();
            eprintln!("--- Apache said\n{}", told[told.len().saturating_sub(40)..].join("\n"));
        }
    }
}

/// A port that nobody listens on, given out once by this process.
pub fn free_port() -> u16 {
    const FIRST: usize = 11_000;
    const COUNT: usize = 20_000;
    static GIVEN: AtomicUsize = AtomicUsize::new(0);
    let start = std::process::id() as usize * 131;
    loop {
        let at = FIRST + (start + GIVEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(at).expect("below 32,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
