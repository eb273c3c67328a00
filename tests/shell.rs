//! `zabra cli` as scripts use it: one command or a script on standard input, both outputs, exit codes, JSON, files.

#![allow(clippy::unwrap_used)] // helpers of tests, too, may stop a test

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Ensemble, binary};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// What a shell printed, and its exit code.
#[derive(Debug)]
struct Told {
    out: String,
    err: String,
    code: i32,
}

/// A shell that knows where to go.
fn shell(ensemble: &Ensemble, words: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(["cli", "-server", &ensemble.hosts()]).args(words).env("NO_COLOR", "");
    command
}

fn told(command: &mut Command, given: &[u8]) -> Told {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Who does not read it closes it.
    let _ = child.stdin.take().unwrap().write_all(given);
    let output = child.wait_with_output().unwrap();
    Told {
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code().expect("it was not killed"),
    }
}

fn quiet(ensemble: &Ensemble, words: &[&str]) -> Told {
    told(&mut shell(ensemble, &[&["--quiet"], words].concat()), b"")
}

fn script(ensemble: &Ensemble, options: &[&str], lines: &[&str]) -> Told {
    told(&mut shell(ensemble, options), lines.join("\n").as_bytes())
}

#[test]
fn one_command_and_its_exit_code() {
    let ensemble = Ensemble::start(1, 0);
    let created = quiet(&ensemble, &["create", "/a", "hello world"]);
    assert_eq!((&*created.out, &*created.err, created.code), ("", "Created /a\n", 0));
    let got = quiet(&ensemble, &["get", "/a"]);
    assert_eq!((&*got.out, &*got.err, got.code), ("hello world\n", "", 0));
    let missing = quiet(&ensemble, &["get", "/missing"]);
    assert_eq!((&*missing.out, &*missing.err, missing.code), ("", "Node does not exist: /missing\n", 1));
    let unknown = quiet(&ensemble, &["fly"]);
    assert_eq!((&*unknown.out, unknown.code), ("", 127));
    assert!(unknown.err.ends_with("\nCommand not found: Command not found fly\n"), "{unknown:?}");
    let usage = quiet(&ensemble, &["sync"]);
    assert_eq!((&*usage.err, usage.code), ("sync path\n", 1));
    // Aloud, as Apache's: the greeting, then the connection, then the answer.
    let aloud = told(&mut shell(&ensemble, &["get", "/a"]), b"");
    let greeting = format!("Connecting to {}\n\nWATCHER::\n\n", ensemble.hosts());
    assert_eq!(
        aloud.out,
        format!("{greeting}WatchedEvent state:SyncConnected type:None path:null zxid: -1\nhello world\n")
    );
    // Ephemerals do not linger.
    assert_eq!(quiet(&ensemble, &["create", "-e", "/mine"]).code, 0);
    assert_eq!(quiet(&ensemble, &["stat", "/mine"]).code, 1);
    // A root, and several servers of which one is not there.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = format!("{closed},{}/a", ensemble.hosts());
    let mut rooted = Command::new(binary());
    rooted.args(["cli", "--quiet", "-server", &server, "get", "/"]);
    assert_eq!(told(&mut rooted, b"").out, "hello world\n");
}

#[test]
fn data_from_files_and_from_standard_input() {
    let ensemble = Ensemble::start(1, 0);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("data");
    let bytes: Vec<u8> = (0..=255).collect();
    std::fs::write(&file, &bytes).unwrap();
    let created = quiet(&ensemble, &["create", "--file", file.to_str().unwrap(), "/a", "world:anyone:rw"]);
    assert_eq!(created.code, 0, "{created:?}");
    let raw = shell(&ensemble, &["--quiet", "get", "--raw", "/a"]).output().unwrap();
    assert_eq!(raw.stdout, bytes, "nothing added, nothing replaced");
    assert!(quiet(&ensemble, &["getAcl", "/a"]).out.ends_with(": rw\n"));
    let set = told(&mut shell(&ensemble, &["--quiet", "set", "/a", "--file", "-"]), b"from a pipe\n");
    assert_eq!(set.code, 0, "{set:?}");
    assert_eq!(quiet(&ensemble, &["get", "/a"]).out, "from a pipe\n\n");
    let lone_dash = quiet(&ensemble, &["set", "/a", "-"]);
    assert_eq!((lone_dash.code, &*quiet(&ensemble, &["get", "/a"]).out), (0, "-\n"), "as in Apache's");

    let missing = quiet(&ensemble, &["set", "/a", "--file", "/nonexistent"]);
    assert_eq!(missing.code, 1);
    assert!(missing.err.starts_with("/nonexistent: "), "{missing:?}");
    let long = told(&mut shell(&ensemble, &["--quiet", "set", "/a", "--file", "-"]), &vec![b'x'; 2 << 20]);
    assert_eq!(long.code, 1);
    assert!(long.err.contains("jute.maxbuffer"), "{long:?}");
    let twice = script(&ensemble, &["--quiet"], &["set /a --file -", "get /a"]);
    assert!(twice.err.contains("standard input is where the commands come from"), "{twice:?}");
}

#[test]
fn objects_for_programs() {
    let ensemble = Ensemble::start(1, 0);
    let lines = |words: &[&str]| -> Vec<Value> {
        let told = told(&mut shell(&ensemble, &[&["--json"], words].concat()), b"");
        assert_eq!((&*told.err, told.code), ("", 0), "{words:?}");
        told.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert_eq!(lines(&["create", "-s", "/n-", "x"]), [json!({ "created": "/n-0000000000" })]);
    let got = &lines(&["get", "/n-0000000000"])[0];
    assert_eq!((&got["path"], &got["data"]), (&json!("/n-0000000000"), &json!("x")));
    assert_eq!(got["stat"]["dataLength"], json!(1));
    assert!(got["stat"]["czxid"].as_str().unwrap().starts_with("0x"));
    let set = &lines(&["set", "/n-0000000000", "y"])[0];
    assert_eq!(set["stat"]["version"], json!(1));
    assert_eq!(lines(&["ls", "/"])[0]["children"], json!(["n-0000000000", "zookeeper"]));
    let paths: Vec<Value> = lines(&["ls", "-R", "/"]).iter().map(|line| line["path"].clone()).collect();
    assert_eq!(paths[..2], [json!("/"), json!("/n-0000000000")]);
    assert_eq!(lines(&["whoami"])[0]["identities"][0]["scheme"], json!("ip"));
    assert_eq!(lines(&["delete", "/n-0000000000"]), [json!({ "deleted": "/n-0000000000" })]);

    let missing = told(&mut shell(&ensemble, &["--json", "get", "/x"]), b"");
    let error: Value = serde_json::from_str(&missing.err).unwrap();
    assert_eq!((&*missing.out, missing.code), ("", 1));
    assert_eq!(error, json!({ "error": "Node does not exist: /x", "code": "NoNode", "exit_code": 1 }));

    let watched = script(&ensemble, &["--json"], &["create /w", "get -w /w", "set /w 1"]);
    let event = watched.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let event = event.filter(|line| line["event"] == json!("NodeDataChanged")).collect::<Vec<_>>();
    assert_eq!(event.len(), 1, "{watched:?}");
    assert_eq!(event[0]["path"], json!("/w"));
}

#[test]
fn scripts_on_standard_input() {
    let ensemble = Ensemble::start(1, 0);
    let lines = [
        "create /a 'one two'",
        "",
        "get -w /a",
        "set /a three",
        "get /missing",
        "printwatches off",
        "get -w /a",
        "set /a 'four'",
        "redo 1",
        "history",
    ];
    let told = script(&ensemble, &["--quiet"], &lines);
    let event = "\nWATCHER::\n\nWatchedEvent state:SyncConnected type:NodeDataChanged path:/a zxid: ";
    let (before, after) = told.out.split_once(event).unwrap();
    assert_eq!(before, "one two\n");
    let after = after.split_once('\n').unwrap().1;
    assert_eq!(
        after,
        "three\nfour\n0 - create /a 'one two'\n1 - get -w /a\n2 - set /a three\n3 - get /missing\n4 - printwatches off\n\
         5 - get -w /a\n6 - set /a 'four'\n7 - get -w /a\n8 - history\n"
    );
    assert_eq!((&*told.err, told.code), ("Created /a\nNode does not exist: /missing\n", 0));

    // The code is the last command's, and that of the one before a quit.
    for (lines, code) in [
        (&["get /missing"][..], 1),
        (&["get /missing", "quit", "get /a"], 1),
        (&["get /missing", "get /a"], 0),
        (&["fly", "quit"], 127),
        (&[], 0),
    ] {
        assert_eq!(script(&ensemble, &[], lines).code, code, "{lines:?}");
    }
    let closed = script(&ensemble, &["--quiet"], &["close", "ls /", "connect", "ls /zookeeper", "stat"]);
    assert_eq!(closed.out, "Not connected\n[config, quota]\n", "{closed:?}");
    let elsewhere = format!("connect {}/a", ensemble.hosts());
    assert_eq!(script(&ensemble, &["--quiet"], &[&elsewhere, "get /"]).out, "four\n");
    let wrong =
        script(&ensemble, &["--quiet"], &["connect nowhere:x", "set -v x /a y", "create -t 5x /a", "get /a"]);
    assert_eq!(wrong.out, "four\n", "nothing that is typed ends it: {wrong:?}");
}

#[test]
fn quotas_acls_watches_and_trees() {
    let ensemble = Ensemble::start(1, 0);
    let lines = [
        "create /t",
        "create /t/a x",
        "create /t/a/b x",
        "setquota -n 2 /t",
        "setquota -N 100 /t",
        "listquota /t",
        "setquota -n 5 /t/a",
        "delquota -n /t",
        "listquota /t",
        "delquota /t",
        "delquota /t",
        "setAcl -R /t world:anyone:crwda",
        "getAcl /t/a/b",
        "addWatch -m persistent /t/a",
        "set /t/a y",
        "removewatches /t/a",
        "removewatches /t/a",
        "getAllChildrenNumber /t",
        "deleteall -b 2 /t",
        "ls /",
        "ls /zookeeper/quota",
    ];
    let told = script(&ensemble, &["--quiet"], &lines);
    // What is used of a quota, and warnings of it, are the servers' affair.
    let lines = told.out.lines().filter(|line| {
        !line.is_empty()
            && *line != "WATCHER::"
            && !line.starts_with("Output stat")
            && !line.starts_with("[Warning]")
    });
    let (events, plain): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with("WatchedEvent"));
    assert_eq!(told.out.matches("Output stat for /t count=").count(), 2, "{told:?}");
    assert_eq!(
        plain,
        [
            "Output quota for /t count=2,bytes=-1=;byteHardLimit=-1;countHardLimit=100",
            "Output quota for /t count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=100",
            "Quota does not exist for /t",
            "'world,'anyone",
            ": cdrwa",
            "2",
            "[zookeeper]",
            "[]",
        ],
        "{told:?}"
    );
    assert!(events[0].contains("type:NodeDataChanged path:/t/a zxid: "), "{events:?}");
    assert_eq!(events[1], "WatchedEvent state:SyncConnected type:PersistentWatchRemoved path:/t/a zxid: -1");
    assert!(told.err.contains("/t/a has a parent /t which has a quota\n"), "{told:?}");
    assert!(told.err.contains("KeeperErrorCode = No such watcher for /t/a\n"), "{told:?}");
}

#[test]
fn whom_nobody_answers_or_listens_to() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let begun = Instant::now();
    for option in [&["-r"][..], &["-waitforconnection", "-timeout", "300"]] {
        let mut command = Command::new(binary());
        command.args(["cli", "--quiet", "-server", &closed]).args(option).args(["get", "/a"]);
        let told = told(&mut command, b"");
        assert_eq!((told.code, &*told.out), (1, ""));
        assert!(
            told.err.starts_with("KeeperErrorCode = ConnectionLoss") && told.err.contains(&closed),
            "{told:?}"
        );
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "it does not wait for servers that are not there");
    let mut command = Command::new(binary());
    let bad = told(command.args(["cli", "-secure", "ls", "/"]), b"");
    assert_eq!((bad.code, &*bad.err), (1, "zabra cli: unknown option -secure; see zabra cli --help\n"));

    // A reader that has seen enough is no failure.
    let ensemble = Ensemble::start(1, 0);
    let lines: Vec<String> = (0..3000).map(|n| format!("help create {n}")).collect();
    let mut child = shell(&ensemble, &["--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(lines.join("\n").as_bytes()));
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 10]).unwrap();
    drop(stdout);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(err, "");
    // It may have left before all was written.
    let _ = writer.join().unwrap();
}

#[test]
fn ctrl_c_ends_what_waits() {
    let ensemble = Ensemble::start(1, 0);
    let mut child = shell(&ensemble, &[]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let _open = child.stdin.take();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // In session, and waiting for a line.
    assert!(lines.any(|line| line.unwrap().contains("state:SyncConnected")));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
