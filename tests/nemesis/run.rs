//! The command: options, the course of a run, progress.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use super::check::{self, Check};
use super::clock::now;
use super::entry::{self, Entry};
use super::faults::{FAULTS, Group, Harm, SANDBOXED, Schedule};
use super::plan::{Job, Plan};
use super::report::{self, Inflicted, Report};
use super::rng::Rng;
use super::servers::Servers;
use super::software::Software;
use super::workers::{History, Process, locked};
use super::{falsify, net, reading, sandbox, worker};

/// Registers in use at a time, and for how long.
const REGISTERS: usize = 3;
const GENERATION_MS: u64 = 4_000;

/// Sessions: the shortest of some ticks, so that they do expire.
const SESSION_MS: u64 = 2_400;

/// After that a client does not wait for an answer.
const ANSWER_MS: u64 = 6_000;

/// Between two operations of a client.
const PACE_MS: u64 = 25;

/// How long an ensemble may take until it serves, at the start, and until it takes writes again after a fault.
const RECOVERY: Duration = Duration::from_secs(40);

/// How often things are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Attacks real servers while clients work, and checks what the clients were told.
#[derive(Parser, Debug)]
pub struct Options {
    /// How long faults are inflicted
    #[arg(long, default_value_t = 0.5)]
    minutes: f64,
    /// What chance is drawn from; without it another each time
    #[arg(long)]
    seed: Option<u64>,
    /// Whose servers
    #[arg(long, value_enum, default_value_t)]
    servers: Software,
    /// Which faults
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Vec<Group>,
    /// Servers with a vote; without it three to five, and observers up to five servers. Of Apache's three
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=9))]
    participants: Option<u8>,
    /// Servers without one
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=9))]
    observers: Option<u8>,
    /// A Python that has kazoo; without it all clients are Rust
    #[arg(long)]
    python: Option<PathBuf>,
    /// Where logs and histories go
    #[arg(long, default_value = "target/nemesis")]
    dir: PathBuf,
    /// Keeps history and logs although all was well
    #[arg(long)]
    keep: bool,
    /// Tampers with the history afterwards, to see that it is found out
    #[arg(long)]
    self_test: bool,
    /// Prints the report as one JSON object, and everything else to standard error
    #[arg(long)]
    json: bool,
    /// Uses loopback even where namespaces are permitted
    #[arg(long)]
    no_sandbox: bool,
    /// Checks a saved history and does nothing else
    #[arg(long, value_name = "HISTORY")]
    check: Option<PathBuf>,
    /// Is a process with clients; its plan comes on standard input
    #[arg(long, hide = true)]
    worker: bool,
}

/// Runs; returns whether all was right.
///
/// # Errors
///
/// What keeps it from running.
pub fn run(options: &Options) -> Result<bool, String> {
    if options.worker {
        return worker::run().map(|()| true);
    }
    if let Some(file) = &options.check {
        return check_saved(file);
    }
    let refusal = match sandbox::is_inside() {
        true => None,
        false if options.no_sandbox => Some("--no-sandbox".to_string()),
        false => Some(sandbox::enter()),
    };
    let seed = options.seed.unwrap_or_else(|| now() % 1_000_000);
    let mut run = Run::new(options, seed)?;
    run.try_faults(refusal);
    let attacked = run.attack();
    let end = now();
    let history = std::mem::take(&mut *locked(&run.history));
    let mut checks = match attacked {
        Ok(checks) => checks,
        Err(error) => {
            let kept = run.keep(&history, true)?.unwrap_or_default();
            return Err(format!("seed {seed}: {error}\nhistory and logs: {kept}"));
        }
    };
    // When a run has broken off, nobody has read what is left, which some lies are about.
    let is_whole = checks.iter().all(|check| check.violations.is_empty());
    checks.extend(check::all(&history));
    if options.self_test && is_whole {
        checks.push(self_test(&history));
    }
    let failed = checks.iter().filter(|check| !check.violations.is_empty()).count();
    let kept = run.keep(&history, failed > 0)?;
    let report = Report {
        seed,
        seconds: (end - run.began) / 1_000_000_000,
        servers: run.shape(),
        sandbox: run.servers.is_inside,
        operations: report::operations(&history),
        faults: report::faults(&history, &run.inflicted, run.calm),
        passed: checks.len() - failed,
        failed,
        checks: report::judged(checks),
        kept,
    };
    if options.json {
        println!("{}", serde_json::to_string(&report).expect("a report is plain"));
    } else {
        report.print();
    }
    Ok(failed == 0)
}

fn check_saved(file: &Path) -> Result<bool, String> {
    let history = entry::load(file)?;
    let mut good = true;
    for Check { name, operations, violations } in check::all(&history) {
        good &= violations.is_empty();
        println!("{name}: {operations} operations, {} violations", violations.len());
        violations.iter().for_each(|violation| println!("  {violation}"));
    }
    Ok(good)
}

/// Lies about the history are found out.
fn self_test(history: &[Entry]) -> Check {
    let told = falsify::tell(history);
    let mut check = Check { name: "lies about it are found out", operations: 0, violations: vec![] };
    for (lie, found) in told {
        match found {
            Ok(found) => check.operations += usize::from(found),
            Err(why) => check.violations.push(format!("{lie}: {why}")),
        }
    }
    if check.operations == 0 {
        check.violations.push("the history has no place for any lie".into());
    }
    check
}

/// A run.
struct Run<'a> {
    options: &'a Options,
    seed: u64,
    rng: Rng,
    servers: Servers,
    clients: Vec<Process>,
    history: History,
    inflicted: Vec<Inflicted>,
    /// What cannot be done here.
    impossible: Vec<Group>,
    began: u64,
    /// When everything was whole for good.
    calm: u64,
    bar: ProgressBar,
    interrupted: Arc<AtomicBool>,
}

impl<'a> Run<'a> {
    fn new(options: &'a Options, seed: u64) -> Result<Run<'a>, String> {
        let mut rng = Rng::new(seed);
        let (numbers, most): (&[u8], u8) = match options.servers {
            Software::Zabra => (&[3, 4, 5, 5], 5),
            Software::Apache => (&[3], 3),
        };
        let participants = options.participants.unwrap_or_else(|| *rng.pick(numbers));
        let observers = options.observers.unwrap_or(most.saturating_sub(participants));
        let dir = options.dir.join(format!("{seed}-{}", now() % 1_000_000));
        std::fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let dir = std::path::absolute(dir).map_err(|error| error.to_string())?;
        let is_shown = std::io::stderr().is_terminal();
        let interrupted = Arc::new(AtomicBool::new(false));
        listen(interrupted.clone());
        Ok(Run {
            options,
            seed,
            rng,
            servers: Servers::new(&dir, options.servers, participants, observers)?,
            clients: Vec::new(),
            history: History::default(),
            inflicted: Vec::new(),
            impossible: Vec::new(),
            began: now(),
            calm: 0,
            bar: if is_shown { bar() } else { ProgressBar::hidden() },
            interrupted,
        })
    }

    fn shape(&self) -> String {
        let observers = self.servers.all.iter().filter(|server| server.is_observer).count();
        let (participants, software) = (self.servers.participants().len(), self.servers.software.name());
        format!("{participants} participants, {observers} observers, {software}")
    }

    /// Finds out which faults cannot be inflicted here, and says why. `refusal` is why there is no sandbox.
    fn try_faults(&mut self, refusal: Option<String>) {
        if let Some(reason) = refusal {
            self.say(&format!(
                "no namespaces here ({reason}): without partitions, lossy and slow links, full disks; on loopback"
            ));
            self.impossible.extend(SANDBOXED);
            return;
        }
        if let Err(reason) = net::can_lose_some(self.servers.count()) {
            self.say(&format!("no lossy links here ({reason}): without them"));
            self.impossible.push(Group::Loss);
        }
        if let Err(reason) = net::can_slow() {
            self.say(&format!("no slow links here ({reason}): without them"));
            self.impossible.push(Group::Slow);
        }
    }

    /// Says a line, above the progress.
    fn say(&self, line: &str) {
        let seconds = (now() - self.began) as f64 / 1e9;
        let style: Style = AnsiColor::Yellow.on_default();
        self.bar.suspend(|| match self.options.json {
            true => anstream::eprintln!("{style}{seconds:>7.2} s{style:#}  {line}"),
            false => anstream::println!("{style}{seconds:>7.2} s{style:#}  {line}"),
        });
    }

    fn progress(&self) {
        let history = locked(&self.history);
        let unknown =
            history.iter().rev().take(1_000).filter(|e| e.outcome == entry::Outcome::Unknown).count();
        let seconds = (now() - self.began) / 1_000_000_000;
        let of = self.options.minutes * 60.0;
        self.bar.set_message(format!(
            "{seconds} of {of:.0} s, {} faults, {} operations ({unknown} unknown of the last 1000)",
            self.inflicted.len(),
            history.len()
        ));
        self.bar.tick();
    }

    /// The whole course. Gives what was found besides the history.
    fn attack(&mut self) -> Result<Vec<Check>, String> {
        let mut alive =
            Check { name: "the ensemble recovers from every fault", operations: 0, violations: vec![] };
        self.say(&format!("seed {}, {}, {}", self.seed, self.shape(), self.servers.dir.display()));
        self.servers.heal_processes()?;
        self.all_serve()?;
        self.employ()?;
        let end = now() + (self.options.minutes * 60e9) as u64;
        let mut schedule = Schedule::new(&self.groups());
        let mut harm = Harm::default();
        while now() < end && !self.is_interrupted() && alive.violations.is_empty() {
            match self.strike(&mut schedule, &mut harm) {
                Ok(()) => alive.operations += 1,
                Err(violation) => alive.violations.push(violation),
            }
        }
        harm.heal(&mut self.servers, &self.clients)?;
        self.calm = now();
        self.say("all is whole; the clients finish");
        self.clients.iter_mut().for_each(Process::ask_to_end);
        for client in self.clients.drain(..) {
            client.finish(Duration::from_millis(ANSWER_MS * 3) + RECOVERY)?;
        }
        if !alive.violations.is_empty() {
            return Ok(vec![alive]);
        }
        if let Err(violation) = self.all_serve() {
            alive.violations.push(violation);
            return Ok(vec![alive]);
        }
        let places: Vec<_> = self.servers.all.iter().map(|server| (server.sid, server.client)).collect();
        let (left, mut checks) = reading::final_state(&places)?;
        locked(&self.history).extend(left);
        checks.insert(0, alive);
        Ok(checks)
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    fn groups(&self) -> Vec<Group> {
        let asked = &self.options.faults;
        let all: BTreeSet<Group> = FAULTS.iter().map(|(_, group, _)| *group).collect();
        let is_possible = |group: &Group| !self.impossible.contains(group);
        all.into_iter().filter(|g| asked.is_empty() || asked.contains(g)).filter(is_possible).collect()
    }

    /// Starts the processes with clients.
    fn employ(&mut self) -> Result<(), String> {
        use Job::{Id, Lock, Queue, Register};
        // With what healing and waiting take at most.
        let generations = (self.options.minutes * 60_000.0) as u64 / GENERATION_MS + 30;
        reading::prepare(self.servers.all[0].client, generations, REGISTERS)?;
        let python = self.options.python.as_deref();
        let teams: [(&str, Option<&Path>, &[Job]); 4] = [
            ("rust-1", None, &[Register, Register, Register, Id, Lock]),
            ("rust-2", None, &[Queue, Register, Lock, Queue, Id]),
            ("kazoo-1", python, &[Lock, Register, Queue, Register]),
            ("kazoo-2", python, &[Id, Lock, Register, Queue]),
        ];
        if python.is_none() {
            self.say("no --python with kazoo: all clients are Rust");
        }
        for (n, (name, python, jobs)) in teams.into_iter().enumerate() {
            let name = if n >= 2 && python.is_none() { format!("rust-{}", n + 1) } else { name.to_string() };
            let plan = Plan {
                servers: self.servers.all.iter().map(|server| server.client.to_string()).collect(),
                jobs: jobs.to_vec(),
                seed: self.seed.wrapping_add(n as u64),
                session_ms: SESSION_MS,
                answer_ms: ANSWER_MS,
                pace_ms: PACE_MS,
                registers: REGISTERS,
                generation_ms: GENERATION_MS,
                began: now(),
                generations,
                name,
            };
            let log = self.servers.dir.join(format!("{}.log", plan.name));
            self.clients.push(Process::start(&plan, python, &log, self.history.clone())?);
        }
        let began = now();
        self.written_since(began)
    }

    /// One fault: it is inflicted, lasts for a while, is healed, and writes must succeed again.
    fn strike(&mut self, schedule: &mut Schedule, harm: &mut Harm) -> Result<(), String> {
        let lasts = Duration::from_millis(500 + self.rng.next() % 3_000);
        let Some(fault) = schedule.next(&mut self.rng) else {
            return self.wait(lasts);
        };
        let lasts = lasts + fault.takes();
        self.servers.all.iter_mut().for_each(|server| server.may_die = false);
        let at = now();
        let whom = harm.inflict(fault, &mut self.servers, &self.clients, &mut self.rng)?;
        self.inflicted.push(Inflicted { fault: fault.says(), at });
        self.say(&format!("{}: {whom}, for {:.1} s", fault.says(), lasts.as_secs_f64()));
        self.wait(lasts)?;
        harm.heal(&mut self.servers, &self.clients)?;
        let healed = now();
        self.written_since(healed)?;
        let took = (now() - healed) as f64 / 1e9;
        self.say(&format!("healed; written again after {took:.2} s"));
        let settle = self.rng.next() % 1_500;
        self.wait(Duration::from_millis(settle))
    }

    /// Lets time pass, with an eye on the servers.
    fn wait(&mut self, time: Duration) -> Result<(), String> {
        let until = now() + u64::try_from(time.as_nanos()).expect("some seconds");
        while now() < until && !self.is_interrupted() {
            self.servers.dead().map_or(Ok(()), Err)?;
            self.progress();
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Waits for a write that began after that time.
    fn written_since(&mut self, time: u64) -> Result<(), String> {
        let deadline = now() + u64::try_from(RECOVERY.as_nanos()).expect("some seconds");
        let mut looked_at = locked(&self.history).len();
        while !self.is_interrupted() {
            self.servers.dead().map_or(Ok(()), Err)?;
            // Whose disk was full may have ended only now.
            self.servers.heal_processes()?;
            self.progress();
            {
                let history = locked(&self.history);
                if history[looked_at..].iter().any(|e| e.begin > time && e.is_written()) {
                    return Ok(());
                }
                looked_at = history.len();
            }
            if now() > deadline {
                return Err(format!(
                    "no write succeeded within {RECOVERY:?} although all is whole: {}",
                    self.modes()
                ));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Waits until every server serves.
    fn all_serve(&mut self) -> Result<(), String> {
        let deadline = now() + u64::try_from(RECOVERY.as_nanos()).expect("some seconds");
        while self.servers.all.iter().any(|server| server.mode().is_none()) {
            self.servers.dead().map_or(Ok(()), Err)?;
            self.servers.heal_processes()?;
            if now() > deadline {
                return Err(format!("not all serve within {RECOVERY:?}: {}", self.modes()));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn modes(&self) -> String {
        let says = |server: &super::servers::Server| {
            let mode = server.mode().unwrap_or(if server.is_running() { "silent" } else { "down" }.into());
            format!("{} {mode}", server.sid)
        };
        let logs = |server: &super::servers::Server| format!("\n--- {}\n{}", server.sid, server.log_tail());
        let modes: Vec<String> = self.servers.all.iter().map(says).collect();
        let tails: Vec<String> = self.servers.all.iter().map(logs).collect();
        format!("{}{}", modes.join(", "), tails.concat())
    }

    /// Saves the history and the servers' data if there is something to look at; else removes all.
    fn keep(&mut self, history: &[Entry], has_failed: bool) -> Result<Option<String>, String> {
        self.bar.finish_and_clear();
        if !has_failed && !self.options.keep {
            return self.servers.remove().map(|()| None);
        }
        let dir = &self.servers.dir;
        entry::save(&dir.join("history.jsonl"), history)?;
        // The disks vanish with the sandbox; what is on them does not.
        if self.servers.is_inside {
            let (from, to) = (dir.join("data/."), dir.join("data-kept"));
            sandbox::run(&["cp", "-a", &from.to_string_lossy(), &to.to_string_lossy()])?;
        }
        Ok(Some(dir.display().to_string()))
    }
}

/// The line of progress.
fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner:.yellow} {msg:.dim}").expect("the template is right");
    ProgressBar::new_spinner().with_style(style)
}

/// Ctrl-C and SIGTERM end the run early, in order.
fn listen(interrupted: Arc<AtomicBool>) {
    use tokio::signal::unix::{SignalKind, signal};
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a small runtime").block_on(async {
            let mut terminate = signal(SignalKind::terminate()).expect("signals can be listened to");
            let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be listened to");
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                interrupted.store(true, Ordering::Relaxed);
            }
        });
    });
}
