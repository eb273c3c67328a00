//! Whose servers are attacked: ours, or Apache ZooKeeper's. The clients and the checks do not know which, so that what
//! the checks demand is ZooKeeper's contract and no habit of ours.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use clap::ValueEnum;

use super::servers::Server;

/// The unit of the ensemble's limits: short, so that failover is soon seen.
const TICK: Duration = Duration::from_millis(400);

/// Ticks until a learner must have connected and have the leader's state, and that it may then be silent.
const INIT_LIMIT: u32 = 10;
const SYNC_LIMIT: u32 = 4;

/// Transactions between two snapshots.
const SNAP_COUNT: u32 = 1_000;

/// What a log grows by at a time, in KiB.
const PREALLOC_KIB: u32 = 64;

/// Below this our servers refuse writes.
pub const MIN_FREE: u64 = 8 << 20;

/// The exit code of ours when its disk has failed it, and of Apache's when it cannot write a snapshot.
const EXIT_DISK: i32 = 3;
const EXIT_APACHE_DISK: i32 = 10;

/// The exit code of a JVM that was ended by SIGTERM in order.
const EXIT_JVM_TERMINATED: i32 = 128 + 15;

/// Where Debian has its jars. Their manifests name what they need.
const JARS: &str = "/usr/share/java";

const LOG4J: &str = "\
log4j.rootLogger=WARN, CONSOLE
log4j.appender.CONSOLE=org.apache.log4j.ConsoleAppender
log4j.appender.CONSOLE.layout=org.apache.log4j.PatternLayout
log4j.appender.CONSOLE.layout.ConversionPattern=%d{ISO8601} %-5p %c{1} - %m%n
";

/// Whose servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Software {
    /// ours
    #[default]
    Zabra,
    /// Apache ZooKeeper's, of the Debian package
    Apache,
}

impl Software {
    pub fn name(self) -> &'static str {
        match self {
            Software::Zabra => "zabra",
            Software::Apache => "Apache ZooKeeper",
        }
    }

    /// A server's disk. Apache's removes old snapshots once an hour at most.
    pub fn disk(self) -> u64 {
        match self {
            Software::Zabra => 64 << 20,
            Software::Apache => 512 << 20,
        }
    }

    /// Writes the configuration of servers whose data is below `dir/data`.
    ///
    /// # Errors
    ///
    /// The file that cannot be written.
    pub fn configure(self, dir: &Path, servers: &[Server]) -> Result<(), String> {
        match self {
            Software::Zabra => write(&dir.join("cluster.toml"), &cluster_toml(servers)),
            Software::Apache => {
                write(&dir.join("log4j.properties"), LOG4J)?;
                servers.iter().try_for_each(|server| {
                    let data = dir.join("data").join(server.sid.to_string());
                    write(&data.join("myid"), &server.sid.to_string())?;
                    write(&zoo_cfg_path(dir, server.sid), &zoo_cfg(server, &data, servers))
                })
            }
        }
    }

    /// What runs a server, as its words.
    ///
    /// # Errors
    ///
    /// It is not there.
    pub fn words(self, dir: &Path, sid: u8) -> Result<Vec<String>, String> {
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        Ok(match self {
            Software::Zabra => {
                let binary = binary()?;
                let sid = sid.to_string();
                [path(binary), "serve".into(), "--config".into(), path(dir.join("cluster.toml"))]
                    .into_iter()
                    .chain(["--id".into(), sid])
                    .collect()
            }
            Software::Apache => {
                let jars =
                    ["zookeeper", "slf4j-log4j12", "log4j-1.2"].map(|name| format!("{JARS}/{name}.jar"));
                if let Some(missing) = jars.iter().find(|jar| !Path::new(jar).exists()) {
                    return Err(format!("{missing} is not there: apt install zookeeper"));
                }
                let class_path = format!("{}:{}", path(dir.to_path_buf()), jars.join(":"));
                let prealloc = format!("-Dzookeeper.preAllocSize={PREALLOC_KIB}");
                let config = path(zoo_cfg_path(dir, sid));
                // Small, and soon there.
                let small = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"];
                let main = "org.apache.zookeeper.server.quorum.QuorumPeerMain";
                let words = ["java"].into_iter().chain(small);
                words.chain([&*prealloc, "-cp", &*class_path, main, &*config]).map(str::to_string).collect()
            }
        })
    }

    /// Whether a server that was told to stop has done so as it should.
    pub fn is_orderly(self, status: ExitStatus) -> bool {
        status.success() || self == Software::Apache && status.code() == Some(EXIT_JVM_TERMINATED)
    }

    /// Whether a server has ended as it may when its disk is full.
    pub fn is_for_disk(self, status: ExitStatus) -> bool {
        let code = if self == Software::Apache { EXIT_APACHE_DISK } else { EXIT_DISK };
        status.code() == Some(code)
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Ours: one file for all.
fn cluster_toml(servers: &[Server]) -> String {
    let mut text = format!(
        "[cluster]\nname = \"nemesis\"\ndata_dir = \"data\"\n\
         [timing]\ntick_time = \"{}ms\"\ninit_limit = {INIT_LIMIT}\nsync_limit = {SYNC_LIMIT}\n\
         [storage]\nsnap_count = {SNAP_COUNT}\nprealloc = \"{PREALLOC_KIB}KiB\"\nmin_free = \"{MIN_FREE}B\"\n",
        TICK.as_millis()
    );
    for Server { sid, is_observer, client, peer, third, .. } in servers {
        let role = if *is_observer { "observer" } else { "participant" };
        write!(
            text,
            "[[server]]\nid = {sid}\nrole = \"{role}\"\nclient = \"{client}\"\npeer = \"{peer}\"\n\
             admin = \"{third}\"\n"
        )
        .expect("a String takes all");
    }
    text
}

fn zoo_cfg_path(dir: &Path, sid: u8) -> PathBuf {
    dir.join(format!("zoo-{sid}.cfg"))
}

/// Apache's: a file for each.
fn zoo_cfg(own: &Server, data: &Path, servers: &[Server]) -> String {
    let mut text = format!(
        "tickTime={}\ninitLimit={INIT_LIMIT}\nsyncLimit={SYNC_LIMIT}\nsnapCount={SNAP_COUNT}\ndataDir={}\n\
         clientPortAddress={}\nclientPort={}\nmaxClientCnxns=0\nadmin.enableServer=false\n4lw.commands.whitelist=srvr\n",
        TICK.as_millis(),
        data.display(),
        own.client.ip(),
        own.client.port()
    );
    if own.is_observer {
        text += "peerType=observer\n";
    }
    for Server { sid, is_observer, peer, third, .. } in servers {
        let role = if *is_observer { "observer" } else { "participant" };
        writeln!(text, "server.{sid}={peer}:{}:{role}", third.port()).expect("a String takes all");
    }
    text
}

/// Our program: `ZABRA_BIN`, else the one that was built beside this.
fn binary() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("ZABRA_BIN") {
        return std::path::absolute(path).map_err(|error| error.to_string());
    }
    let own =
        std::env::current_exe().map_err(|error| format!("cannot tell where this program is: {error}"))?;
    let built = own.ancestors().skip(1).map(|dir| dir.join("zabra")).find(|path| path.is_file());
    built.ok_or(format!("no zabra near {}: cargo build --release, or set ZABRA_BIN", own.display()))
}
