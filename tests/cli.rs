//! The binary as operators use it: help, exit codes, a whole ensemble of processes.

#![allow(clippy::unwrap_used)] // helpers of tests, too, may stop a test

mod ensemble;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
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
        (
            &["--help"],
            &[
                "up",
                "serve",
                "status",
                "cli",
                "bench",
                "sim",
                "--config",
                "--set",
                "--log-format",
                "--log-level",
                "Exit codes",
            ],
        ),
        (&["up", "--help"], &["--config", "--set", "--log-format", "--log-level", "Ctrl-C"]),
        (&["serve", "--help"], &["--config", "--set", "--id", "--log-format", "--log-level", "SIGTERM"]),
        (&["status", "--help"], &["--config", "--set", "--json", "Exit code 0 if a quorum serves"]),
        (&["bench", "--help"], &["--servers", "--workload", "--connections", "--pipeline", "--json"]),
        (&["cli", "--help"], &["-server", "-timeout", "-waitforconnection", "--json", "Exit codes"]),
        (&["sim", "--help"], &["--seed", "--seeds", "--participants", "--trace", "--json", "Exit code 0"]),
    ];
    for (args, words) in helps {
        let (code, help, _) = output(zabra().args(*args));
        assert_eq!(code, 0, "{args:?}");
        for word in words.iter().chain(&["Examples:", "Usage:"]) {
            assert!(help.contains(word), "{args:?} does not say {word}:\n{help}");
        }
        // Every flag says what it is for: on its own line, or on the next.
        let lines: Vec<_> = help.lines().collect();
        for (i, line) in lines
            .iter()
            .enumerate()
            .filter(|(_, line)| line.starts_with("  ") && line.trim_start().starts_with("--"))
        {
            let same_line = line.trim_start().contains("  ");
            let next_line =
                lines.get(i + 1).is_some_and(|next| next.trim_start().starts_with(char::is_alphabetic));
            assert!(same_line || next_line, "{args:?}: no word about {line}");
        }
    }
    assert_eq!(output(zabra().arg("--version")).1, format!("zabra {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    for args in
        [&["fly"][..], &["serve"], &["serve", "--id", "0"], &["serve", "--id", "255"], &["up", "--jsn"]]
    {
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
    let errors: Vec<_> =
        json["servers"].as_array().unwrap().iter().map(|s| s["error"].as_str().unwrap()).collect();
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
    std::thread::spawn(move || {
        BufReader::new(from).lines().map_while(Result::ok).try_for_each(|l| send.send(l))
    });
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

/// The process ids that the servers of an ensemble of `count` tell when their ports for operators are open.
fn await_start(up: &Running, count: usize) -> BTreeMap<usize, Pid> {
    let mut pids = BTreeMap::new();
    let mut open = BTreeSet::new();
    while open.len() < count {
        let line = up.log_line(&[" | "]);
        let id: usize = line.split(" | ").next().unwrap().parse().unwrap();
        if let Some((_, rest)) = line.split_once(", pid: ") {
            assert!(line.contains(&format!("Starting quorum peer, myid={id}")), "{line}");
            pids.insert(id, Pid::from_raw(rest.split(',').next().unwrap().parse().unwrap()).unwrap());
        }
        if line.contains("Started AdminServer") {
            open.insert(id);
        }
    }
    pids
}

#[test]
fn up_reports_a_death_and_stops_the_rest() {
    let ensemble = Ensemble::new(3);
    let mut up = Running::start(&mut ensemble.zabra(&[]));
    wait_for(&up.stdout, &["starting 3 servers"]);
    let pids = await_start(&up, 3);
    kill_process(pids[&1], Signal::KILL).unwrap();
    let report = up.log_line(&["server 1 has exited", "signal: 9"]);
    assert!(report.contains("restart: zabra serve --config cluster.toml --id 1"), "{report}");
    kill_process(pids[&2], Signal::KILL).unwrap();
    up.log_line(&["the servers that are left are no quorum"]);
    // Two at once are one: `timeout` signals the process and its group.
    up.signal(Signal::INT);
    up.signal(Signal::TERM);
    wait_for(&up.stdout, &["stopping: "]);
    wait_for(&up.stdout, &["all servers have stopped"]);
    assert_eq!(up.end().code(), Some(1), "not all stopped as asked");
    assert!(ensemble.path().join("data/3").is_dir());
    for [_, _, admin] in &ensemble.ports {
        assert!(TcpStream::connect(("127.0.0.1", *admin)).is_err(), "a server has outlived `up`");
    }
}

#[test]
fn a_server_that_does_not_stop_is_killed_when_asked_again() {
    let ensemble = Ensemble::new(2);
    let mut up = Running::start(&mut ensemble.zabra(&["up"]));
    kill_process(await_start(&up, 2)[&1], Signal::STOP).unwrap();
    up.signal(Signal::TERM);
    wait_for(&up.stdout, &["stopping: SIGTERM"]);
    let mut log = Vec::new();
    while !log.iter().any(|line: &String| line.contains("killing 1 servers")) {
        up.signal(Signal::TERM);
        log.extend(up.stderr.recv_timeout(Duration::from_millis(100)).ok());
    }
    up.log_line(&["server 1 did not stop cleanly: signal: 9"]);
    wait_for(&up.stdout, &["all servers have stopped"]);
    assert_eq!(up.end().code(), Some(1));
}

#[test]
fn no_server_outlives_an_up_that_is_killed() {
    let ensemble = Ensemble::new(2);
    let mut up = Running::start(&mut ensemble.zabra(&["up"]));
    await_start(&up, 2);
    let connect = |[_, _, admin]: &[u16; 3]| TcpStream::connect(("127.0.0.1", *admin));
    let connections: Vec<_> = ensemble.ports.iter().map(|ports| connect(ports).unwrap()).collect();
    up.signal(Signal::KILL);
    assert_eq!(up.end().code(), None, "it was killed");
    for mut connection in connections {
        // It ends with its server.
        connection.set_read_timeout(Some(HANG)).unwrap();
        assert!(matches!(connection.read(&mut [0]), Ok(0)), "the server is still there");
    }
    assert!(ensemble.ports.iter().all(|ports| connect(ports).is_err()));
}

#[test]
fn up_ends_when_every_server_has_died() {
    let ensemble = Ensemble::new(1);
    let mut up = Running::start(&mut ensemble.zabra(&["up"]));
    kill_process(await_start(&up, 1)[&1], Signal::KILL).unwrap();
    up.log_line(&["every server has exited"]);
    assert_eq!(up.end().code(), Some(1));
}

#[test]
fn one_server_logs_json_and_stops_at_a_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let ensemble = Ensemble::new(1);
        let mut server = Running::start(&mut ensemble.zabra(&["serve", "--id", "1", "--log-format", "json"]));
        let mut records = Vec::new();
        loop {
            let line = server.log_line(&[""]);
            let record: serde_json::Value =
                serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
            assert_eq!(record["server"], 1, "{line}");
            assert!(["ts", "level", "msg"].iter().all(|key| record[key].is_string()), "{line}");
            if record["msg"].as_str().unwrap().starts_with("Started AdminServer") {
                break;
            }
            records.push(record);
        }
        let keys = records.iter().find_map(|r| r["keys"].as_str()).expect("the configuration is logged");
        assert!(keys.contains("timing.tick_time=100ms"), "{keys}");
        server.signal(signal);
        assert_eq!(server.end().code(), Some(0));
    }
}

#[test]
fn the_level_of_log_lines_is_obeyed() {
    let ensemble = Ensemble::new(1);
    let mut server = Running::start(&mut ensemble.zabra(&["serve", "--id", "1", "--log-level", "warning"]));
    // One participant: that is worth a warning, and it is logged last before the start.
    let line = server.stderr.recv_timeout(HANG).unwrap();
    assert!(line.contains("WARN") && line.contains("one participant"), "{line}");
    server.signal(Signal::TERM);
    assert_eq!(server.end().code(), Some(0));
    assert!(server.stderr.iter().all(|line| !line.contains("INFO")));
}

#[test]
fn a_panic_of_any_thread_is_logged_and_ends_the_process() {
    const CHILD: &str = "PANIC_IN_A_THREAD";
    if std::env::var_os(CHILD).is_some() {
        let (log, flush) = zabra::logging::logger(&Default::default());
        zabra::logging::abort_on_panic(&log, &flush);
        slog::info!(log, "the line before");
        let _ = std::thread::spawn(|| panic!("out of coffee")).join();
        panic!("the thread's panic has not ended the process");
    }
    let name = "a_panic_of_any_thread_is_logged_and_ends_the_process";
    let mut again = Command::new(std::env::current_exe().unwrap());
    let output = again.args(["--exact", name, "--nocapture"]).env(CHILD, "1").output().unwrap();
    assert_eq!(output.status.signal(), Some(Signal::ABORT.as_raw()), "{output:?}");
    let text = stderr(&output);
    let (before, panic) = (text.find("the line before").unwrap(), text.find("out of coffee").unwrap());
    assert!(before < panic && text.contains("Severe unrecoverable error"), "{text}");
}
