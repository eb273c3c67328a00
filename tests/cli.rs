//! The binary as operators use it: help, exit codes, a whole ensemble of processes.

mod ensemble;

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use ensemble::{Ensemble, stderr, zabra};
use rustix::process::{Pid, Signal, kill_process};

/// Far above what anything here takes on a busy machine; reached only when something hangs.
const HANG: Duration = Duration::from_secs(60);

fn output(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output.status.code().expect("it was not killed"), text, stderr(&output))
}

#[test]
fn every_help_is_complete() {
    let helps: &[(&[&str], &[&str])] = &[
        (&["--help"], &["up", "serve", "status", "--config", "--set", "--log-format", "--log-level", "Exit codes"]),
        (&["up", "--help"], &["--config", "--set", "--log-format", "--log-level", "Ctrl-C"]),
        (&["serve", "--help"], &["--config", "--set", "--id", "--log-format", "--log-level", "SIGTERM"]),
        (&["status", "--help"], &["--config", "--set", "--json", "Exit code 0 if a quorum serves"]),
    ];
    for (args, words) in helps {
        let (code, help, _) = output(zabra().args(*args));
        assert_eq!(code, 0, "{args:?}");
        for word in words.iter().chain(&["Examples:", "Usage:"]) {
            assert!(help.contains(word), "{args:?} does not say {word}:\n{help}");
        }
        // Every flag says what it is for: on its own line, or on the next.
        let lines: Vec<_> = help.lines().collect();
        for (i, line) in lines.iter().enumerate().filter(|(_, line)| line.trim_start().starts_with("--")) {
            let same_line = line.trim_start().contains("  ");
            let next_line = lines.get(i + 1).is_some_and(|next| next.trim_start().starts_with(char::is_alphabetic));
            assert!(same_line || next_line, "{args:?}: no word about {line}");
        }
    }
    assert_eq!(output(zabra().arg("--version")).1, format!("zabra {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    for args in [&["fly"][..], &["serve"], &["serve", "--id", "0"], &["serve", "--id", "255"], &["up", "--jsn"]] {
        assert_eq!(output(zabra().args(args)).0, 2, "{args:?}");
    }
}

#[test]
fn the_status_of_nobody_is_a_table_and_exit_code_1() {
    let ensemble = Ensemble::new(3);
    let (code, table, errors) = output(&mut ensemble.zabra(&["status"]));
    assert_eq!((code, errors.as_str()), (1, ""));
    assert_eq!(table.matches("down: connection refused").count(), 3, "{table}");
    let (code, json, _) = output(&mut ensemble.zabra(&["status", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, json["quorum"].as_bool(), json["leader"].as_u64()), (1, Some(false), None));
    let errors: Vec<_> = json["servers"].as_array().unwrap().iter().map(|s| s["error"].as_str().unwrap()).collect();
    assert_eq!(errors, ["connection refused"; 3]);
}

/// A running process whose lines can be waited for.
struct Running {
    process: Child,
    stdout: mpsc::Receiver<String>,
    stderr: mpsc::Receiver<String>,
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = lines(process.stdout.take().unwrap());
        let stderr = lines(process.stderr.take().unwrap());
        Running { process, stdout, stderr }
    }

    /// The next line of standard error that holds all these words.
    fn log_line(&self, words: &[&str]) -> String {
        wait_for(&self.stderr, words)
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    fn end(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }
}

fn lines(from: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || BufReader::new(from).lines().map_while(Result::ok).try_for_each(|l| send.send(l)));
    receive
}

fn wait_for(lines: &mpsc::Receiver<String>, words: &[&str]) -> String {
    let mut seen = Vec::new();
    loop {
        let line = lines.recv_timeout(HANG).unwrap_or_else(|_| panic!("no line with {words:?} in {seen:#?}"));
        if words.iter().all(|word| line.contains(word)) {
            return line;
        }
        seen.push(line);
    }
}

/// The process id that a server's first line tells.
fn pid_of(up: &Running, id: usize) -> Pid {
    let line = up.log_line(&["Starting quorum peer", &format!("myid={id}")]);
    assert!(line.starts_with(&format!("{id} | ")), "the id does not stand before {line}");
    let pid = line.split("pid: ").nth(1).unwrap().split(',').next().unwrap();
    Pid::from_raw(pid.parse().unwrap()).unwrap()
}

/// Returns when the server at this port is gone: a connection to it ends then.
fn await_end(connection: Option<TcpStream>) {
    let Some(mut connection) = connection else { return };
    connection.set_read_timeout(Some(HANG)).unwrap();
    match connection.read(&mut [0]) {
        Ok(0) => {}
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => panic!("the server is still there: {other:?}"),
    }
}

#[test]
fn up_reports_a_death_and_stops_the_rest() {
    let ensemble = Ensemble::new(3);
    let mut up = Running::start(&mut ensemble.zabra(&[]));
    wait_for(&up.stdout, &["starting 3 servers"]);
    let first = pid_of(&Running { ..up }, 1);
    kill_process(first, Signal::KILL).unwrap();
    let report = up.log_line(&["server 1 has exited", "signal: 9"]);
    assert!(report.contains("restart: zabra serve --config cluster.toml --id 1"), "{report}");
    up.signal(Signal::TERM);
    wait_for(&up.stdout, &["stopping: SIGTERM"]);
    wait_for(&up.stdout, &["all servers have stopped"]);
    assert_eq!(up.end().code(), Some(0));
    assert!(ensemble.path().join("data/3").is_dir());
    for [_, _, admin] in &ensemble.ports {
        assert!(TcpStream::connect(("127.0.0.1", *admin)).is_err(), "a server has outlived `up`");
    }
}
