//! `zabra up`: the whole ensemble on this machine, a process for each server.
//!
//! It looks before it starts (directories, ports), shows the way to a quorum, prints the status table, and
//! from then on only passes on what the servers log. It restarts nothing: a server that dies is reported with
//! its exit status and the command that starts it again, and the others go on, as they would anywhere.
//!
//! No server outlives it. Stopped orderly it stops them orderly; killed, it takes their standard input with
//! it, whose end makes them stop by themselves.

mod child;
mod output;

use std::collections::BTreeMap;
use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use slog::{Logger, error, info, warn};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use zabra_actors::types::Sid;

use crate::boot::Failure;
use crate::config::{Cluster, ConfigArgs};
use crate::logging::{LogArgs, LogFormat};
use crate::status::{self, Answer, Answers};
use crate::stop::StopSignals;
use child::{Order, attend};
use output::Output;

/// Between two looks at the servers while they come up.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long the table waits for the last servers once a quorum serves.
const LATECOMERS: Duration = Duration::from_secs(3);
/// After this long without a quorum the operator is told what is missing.
const SLOW_START: Duration = Duration::from_secs(30);
/// How long servers may take to stop before they are killed.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// A second request to stop within this time is the first one's echo: whoever signals both the process and
/// its group (`timeout`) signals twice. A later one is impatience.
const ECHO: Duration = Duration::from_secs(1);

/// Flags of `zabra up`.
#[derive(clap::Args, Clone, Debug)]
pub struct UpArgs {
    /// Which configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// How to log.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Runs the ensemble until it is asked to stop. Answers the exit code: 0 if every server stopped as asked.
pub async fn run(args: &UpArgs, log: Logger) -> Result<u8, Failure> {
    let cluster = Arc::new(args.config.load()?);
    let sids: Vec<Sid> = cluster.servers.keys().copied().collect();
    cluster.prepare_directories(&sids)?;
    cluster.check_ports(&sids)?;
    cluster.announce(&log);
    let mut stop = StopSignals::listen(false)?;
    let output = Arc::new(Output::new(args.log.log_format));
    output.say(&log, &format!("starting {} servers of ensemble {:?}", sids.len(), cluster.name));
    let mut up = Up::start(args, cluster, output, log)?;
    match up.watch(&mut stop).await {
        Some(reason) => Ok(up.shut_down(reason, &mut stop).await),
        None => Ok(1),
    }
}

/// A running ensemble.
struct Up<'a> {
    args: &'a UpArgs,
    cluster: Arc<Cluster>,
    output: Arc<Output>,
    log: Logger,
    orders: watch::Sender<Order>,
    /// One task for each living server; it ends with its server.
    children: JoinSet<(Sid, io::Result<ExitStatus>)>,
    /// Servers that have died, and how.
    dead: BTreeMap<Sid, String>,
}

impl<'a> Up<'a> {
    /// Starts a process for each server. If one cannot be started, those before it die with the result.
    fn start(
        args: &'a UpArgs,
        cluster: Arc<Cluster>,
        output: Arc<Output>,
        log: Logger,
    ) -> io::Result<Up<'a>> {
        let (orders, hear) = watch::channel(Order::Run);
        let mut children = JoinSet::new();
        for sid in cluster.servers.keys().copied() {
            let process = child::spawn(args, sid)?;
            let attended = attend(process, sid, hear.clone(), output.clone());
            children.spawn(async move { (sid, attended.await) });
        }
        Ok(Up { args, cluster, output, log, orders, children, dead: BTreeMap::new() })
    }

    /// Shows how the ensemble comes up, then stands by. Answers why to stop; `None` if nobody is left.
    async fn watch(&mut self, stop: &mut StopSignals) -> Option<&'static str> {
        let mut progress = Progress::new(&self.cluster);
        loop {
            tokio::select! {
                biased;
                reason = stop.next() => return Some(reason),
                ended = self.children.join_next() => match ended {
                    Some(ended) => self.report(ended.expect(ATTENDED)),
                    None => {
                        error!(self.log, "every server has exited, nothing is left to run");
                        return None;
                    }
                },
                answers = progress.look(&self.cluster) => progress.show(&answers, self),
            }
        }
    }

    /// Says loudly that a server has died, and what to do.
    fn report(&mut self, (sid, ended): (Sid, io::Result<ExitStatus>)) {
        let how = how(ended);
        let mut restart = vec!["zabra serve".to_string()];
        restart.extend(self.args.config.to_flags().iter().map(|flag| flag.to_string_lossy().into_owned()));
        restart.push(format!("--id {sid}"));
        error!(self.log, "server {sid} has exited: {how}"; "restart" => restart.join(" "));
        self.dead.insert(sid, how);
        let alive = self.cluster.servers.keys().copied().filter(|sid| !self.dead.contains_key(sid)).collect();
        if !self.cluster.ensemble(sid).contains_quorum(&alive) {
            error!(self.log, "the servers that are left are no quorum: nobody is served"; "left" => ?alive);
        }
    }

    /// Asks all servers to stop, waits, and kills those that do not. A second request to stop ends the wait.
    async fn shut_down(&mut self, reason: &str, stop: &mut StopSignals) -> u8 {
        self.output.say(&self.log, &format!("stopping: {reason}"));
        self.orders.send_replace(Order::Terminate);
        let asked = Instant::now();
        // A server that died before is no clean stop.
        let mut code = u8::from(!self.dead.is_empty());
        loop {
            let killing = *self.orders.borrow() == Order::Kill;
            tokio::select! {
                biased;
                ended = self.children.join_next() => match ended {
                    Some(ended) => code = code.max(self.farewell(ended.expect(ATTENDED))),
                    None => break,
                },
                _ = stop.next(), if !killing => {
                    if asked.elapsed() > ECHO {
                        self.kill("asked to stop again");
                    }
                }
                () = sleep_until(asked + STOP_LIMIT), if !killing => self.kill("the time to stop is over"),
            }
        }
        self.output.say(&self.log, "all servers have stopped");
        code
    }

    /// A server has ended because it was asked to. Answers what that means for the exit code.
    fn farewell(&self, (sid, ended): (Sid, io::Result<ExitStatus>)) -> u8 {
        if ended.as_ref().is_ok_and(ExitStatus::success) {
            return 0;
        }
        warn!(self.log, "server {sid} did not stop cleanly: {}", how(ended));
        1
    }

    fn kill(&self, reason: &str) {
        warn!(self.log, "killing {} servers that still run", self.children.len();
            "reason" => reason, "limit_s" => STOP_LIMIT.as_secs());
        self.orders.send_replace(Order::Kill);
    }
}

/// Why the end of a child's task is always the child's own.
const ATTENDED: &str = "a child's task neither panics nor is aborted";

/// How a process has ended, or why that is not known.
fn how(ended: io::Result<ExitStatus>) -> String {
    ended.map_or_else(|e| e.to_string(), |status| status.to_string())
}

/// The way from nothing to a quorum, as it was shown last.
struct Progress {
    began: Instant,
    /// When a quorum was first seen.
    quorum_at: Option<Instant>,
    shown: String,
    slow_shown: bool,
    /// The table is printed, or cannot be.
    done: bool,
}

impl Progress {
    fn new(cluster: &Cluster) -> Progress {
        // Without their ports for operators the servers cannot be watched.
        let done = !cluster.admin.enabled;
        Progress { began: Instant::now(), quorum_at: None, shown: String::new(), slow_shown: false, done }
    }

    /// The next look; never when there is nothing more to show.
    async fn look(&self, cluster: &Cluster) -> Answers {
        if self.done {
            return std::future::pending().await;
        }
        sleep(LOOK_EVERY).await;
        status::ask_all(cluster).await
    }

    /// Shows what is new, and in the end the table.
    fn show(&mut self, answers: &Answers, up: &Up<'_>) {
        let line = line(answers, &up.dead);
        if line != self.shown {
            up.output.say(&up.log, &line);
            self.shown = line;
        }
        if status::quorum(&up.cluster, answers).is_none() {
            self.quorum_at = None;
            self.warn_if_slow(answers, up);
            return;
        }
        let since = *self.quorum_at.get_or_insert_with(Instant::now);
        let serves = |sid: &Sid| answers[sid].up().is_some_and(status::ServerStatus::serves);
        let all = answers.keys().filter(|sid| !up.dead.contains_key(sid)).all(serves);
        if all || since.elapsed() >= LATECOMERS {
            match up.args.log.log_format {
                LogFormat::Terminal => up.output.print(&status::table(&up.cluster, answers)),
                LogFormat::Json => up.output.print(&format!("{}\n", status::json(&up.cluster, answers))),
            }
            info!(up.log, "a quorum serves"; "after_ms" => self.began.elapsed().as_millis());
            self.done = true;
        }
    }

    fn warn_if_slow(&mut self, answers: &Answers, up: &Up<'_>) {
        if self.slow_shown || self.began.elapsed() < SLOW_START {
            return;
        }
        self.slow_shown = true;
        warn!(up.log, "still no quorum after {} s; the servers' own lines say what they wait for",
            SLOW_START.as_secs(); "servers" => line(answers, &up.dead));
    }
}

/// All servers and how far they are, on one line.
fn line(answers: &Answers, dead: &BTreeMap<Sid, String>) -> String {
    let one = |(sid, answer): (&Sid, &Answer)| match (answer, dead.get(sid)) {
        (Answer::Up(status), _) if status.serves() => format!("{sid} {}", status.state),
        (Answer::Up(status), _) => format!("{sid} {}", status.phase),
        (Answer::Down(_), None) => format!("{sid} starting"),
        (Answer::Down(_), Some(_)) => format!("{sid} dead"),
    };
    answers.iter().map(one).collect::<Vec<_>>().join(" | ")
}
