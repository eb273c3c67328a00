//! A directory with a `cluster.toml` of its own, and the real binary to run on it.

#![allow(dead_code)] // not every test file needs all of it

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The binary under test, without variables that could change what it reads.
pub fn zabra() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zabra"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ZABRA_") {
            command.env_remove(name);
        }
    }
    command
}

/// What the binary wrote to standard error, without the last line break.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim_end().to_string()
}

/// An ensemble of participants on free ports of loopback, in a directory of its own.
pub struct Ensemble {
    pub dir: tempfile::TempDir,
    /// Client, peer and admin port of each server; ids are 1, 2, ...
    pub ports: Vec<[u16; 3]>,
}

impl Ensemble {
    pub fn new(servers: usize) -> Ensemble {
        let ports: Vec<_> = (0..servers).map(|_| [free_port(), free_port(), free_port()]).collect();
        let mut text = "[cluster]\nname = \"test\"\n[timing]\ntick_time = \"100ms\"\n".to_string();
        for ([client, peer, admin], id) in ports.iter().zip(1..) {
            write!(
                text,
                "[[server]]\nid = {id}\nclient = \"127.0.0.1:{client}\"\npeer = \"127.0.0.1:{peer}\"\n\
                 admin = \"127.0.0.1:{admin}\"\n"
            )
            .unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("cluster.toml"), text).unwrap();
        Ensemble { dir, ports }
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("cluster.toml")
    }

    /// The binary in the directory of the ensemble.
    pub fn zabra(&self, args: &[&str]) -> Command {
        let mut command = zabra();
        command.current_dir(self.path()).args(args);
        command
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// A port that nobody listens on, given out once. From below the range that the system takes the near ends of
/// connections from: one of those could be in the way when the server comes to listen.
fn free_port() -> u16 {
    const FIRST: usize = 10_000;
    const COUNT: usize = 20_000;
    static GIVEN: AtomicUsize = AtomicUsize::new(0);
    let start = std::process::id() as usize * 97;
    loop {
        let at = FIRST + (start + GIVEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(at).expect("below 30,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
