//! A process of its own for simulations: an assertion that does not hold ends a release build, and a run that
//! never ends can only be ended from outside. Both are findings like any other.
//!
//! The parent writes a line of JSON for each run and reads lines until one begins with `{`: the outcome. What
//! comes before that is the run's story.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::options::Options;
use super::{Report, Tell, run};

/// A run takes a tenth of a second, with its story some seconds. One that takes as long as this never ends.
const PATIENCE: Duration = Duration::from_secs(120);
/// Lines of standard error that are kept of a worker that dies.
const LAST_LINES: usize = 5;

#[derive(Serialize, Deserialize)]
struct Order {
    options: Options,
    story: bool,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// Nothing was found.
    Well(Report),
    /// Something was.
    Found {
        /// What broke.
        what: String,
        /// How many faults of the schedule had come by then.
        steps: usize,
    },
}

/// The worker's side: runs what it is told until nobody tells it any more.
pub fn work() {
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let Ok(Order { options, story }) = serde_json::from_str(&line) else { return };
        let outcome = match run(&options, if story { Tell::Print } else { Tell::Nothing }) {
            Ok(report) => Outcome::Well(report),
            Err(failure) => Outcome::Found { what: failure.what, steps: failure.steps },
        };
        println!("{}", serde_json::to_string(&outcome).expect("it is plain data"));
    }
}

/// The parent's side. A worker that dies is replaced at the next run.
#[derive(Default)]
pub struct Worker {
    alive: Option<Alive>,
}

struct Alive {
    child: Child,
    orders: ChildStdin,
    lines: mpsc::Receiver<String>,
    /// The last lines of its standard error.
    errors: Arc<Mutex<Vec<String>>>,
    /// Ends with it.
    listener: Option<JoinHandle<()>>,
}

impl Worker {
    /// Runs a simulation; the lines of its story, if they are asked for, go to `told`.
    pub fn run(&mut self, options: &Options, told: Option<&mut Vec<String>>) -> Result<Outcome, String> {
        let order = Order { options: options.clone(), story: told.is_some() };
        let order = serde_json::to_string(&order).expect("it is plain data");
        let alive = match &mut self.alive {
            Some(alive) => alive,
            None => self.alive.insert(Alive::start().map_err(|error| format!("cannot start: {error}"))?),
        };
        let sent = writeln!(alive.orders, "{order}");
        let outcome = match sent {
            Ok(()) => alive.outcome(told),
            Err(error) => Err(error.to_string()),
        };
        outcome.or_else(|why| {
            let mut dead = self.alive.take().expect("just seen");
            let what = dead.end(&why);
            Ok(Outcome::Found { what, steps: usize::MAX })
        })
    }
}

impl Alive {
    fn start() -> std::io::Result<Alive> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["sim", "--worker"])
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take().expect("it is piped");
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let errors = Arc::<Mutex<Vec<String>>>::default();
        let (kept, stderr) = (errors.clone(), BufReader::new(child.stderr.take().expect("it is piped")));
        let listener = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut kept = kept.lock().expect("nobody panics with this lock");
                if kept.len() == LAST_LINES {
                    kept.remove(0);
                }
                kept.push(line);
            }
        });
        Ok(Alive { child, orders, lines, errors, listener: Some(listener) })
    }

    /// An error is the end of the worker.
    fn outcome(&mut self, mut told: Option<&mut Vec<String>>) -> Result<Outcome, String> {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).map_err(|error| match error {
                mpsc::RecvTimeoutError::Timeout => format!("the run has not ended after {PATIENCE:?}"),
                mpsc::RecvTimeoutError::Disconnected => "the process has ended".to_string(),
            })?;
            if line.starts_with('{') {
                return serde_json::from_str(&line).map_err(|error| error.to_string());
            }
            if let Some(told) = &mut told {
                told.push(line);
            }
        }
    }

    fn end(&mut self, why: &str) -> String {
        let _ = self.child.kill(); // it may have ended already
        let _ = self.child.wait();
        if let Some(listener) = self.listener.take() {
            let _ = listener.join(); // all that it has said is heard
        }
        let lines = self.errors.lock().expect("nobody panics with this lock").join(" ");
        format!("{why}: {lines}")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(mut alive) = self.alive.take() {
            alive.end("it is not needed any more");
        }
    }
}
