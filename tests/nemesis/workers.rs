//! The processes in which clients are, and the history that they write.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::entry::Entry;
use super::plan::Plan;

/// What all workers have done so far.
pub type History = Arc<Mutex<Vec<Entry>>>;

/// Locks a history.
pub fn locked(history: &History) -> std::sync::MutexGuard<'_, Vec<Entry>> {
    history.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process with clients.
pub struct Process {
    pub name: String,
    child: Child,
    reader: Option<JoinHandle<Result<(), String>>>,
}

impl Process {
    /// Starts clients of the project's own library, or of kazoo by this Python.
    ///
    /// # Errors
    ///
    /// Why they cannot be started.
    pub fn start(
        plan: &Plan,
        python: Option<&Path>,
        log: &Path,
        history: History,
    ) -> Result<Process, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", plan.name);
        let mut command = match python {
            Some(python) => {
                let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nemesis/kazoo_worker.py");
                let mut command = Command::new(python);
                command.arg(script);
                command
            }
            None => {
                let mut command = Command::new(std::env::current_exe().map_err(failed)?);
                command.arg("--worker");
                command
            }
        };
        let log = std::fs::File::create(log).map_err(failed)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).process_group(0);
        let mut child = command.spawn().map_err(failed)?;
        let mut line = serde_json::to_vec(plan).expect("a plan is plain");
        line.push(b'\n');
        child.stdin.as_mut().expect("it is piped").write_all(&line).map_err(failed)?;
        let output = child.stdout.take().expect("it is piped");
        let name = plan.name.clone();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let line = line.map_err(|error| format!("{name}: {error}"))?;
                let entry = serde_json::from_str(&line);
                let entry = entry.map_err(|error| format!("{name} wrote {line:?}: {error}"))?;
                locked(&history).push(entry);
            }
            Ok(())
        });
        Ok(Process { name: plan.name.clone(), child, reader: Some(reader) })
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            // Not yet waited for, so the number is still its own.
            let _ = kill_process(pid, signal);
        }
    }

    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Lets it finish what it is at. It is asked to by the end of its input.
    pub fn ask_to_end(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits for its end, when it was asked to.
    ///
    /// # Errors
    ///
    /// It ended otherwise than it should.
    pub fn finish(mut self, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        let status = loop {
            match self.child.try_wait().map_err(|error| error.to_string())? {
                Some(status) => break status,
                None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
                None => return Err(format!("{} does not end", self.name)),
            }
        };
        let read = self.reader.take().expect("taken once").join();
        read.map_err(|_| format!("{}: the reader panicked", self.name))??;
        if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", self.name)) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
