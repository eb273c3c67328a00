//! A directory with a `cluster.toml` of its own, and the real binary to run on it.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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
#[allow(dead_code)] // not every test file needs it
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
        // All are held until all are known, so that no two are equal.
        let held: Vec<_> = (0..servers * 3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> = held.iter().map(|l| l.local_addr().unwrap().port()).collect();
        let ports: Vec<_> = ports.chunks(3).map(|p| [p[0], p[1], p[2]]).collect();
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

    #[allow(dead_code)] // not every test file needs it
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
