//! What the source text itself must keep to, so that reviews need not look for it.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file without its tests.
const MAX_FILE: usize = 600;
/// Lines of a function: it fits on a screen.
const MAX_FUNCTION: usize = 70;

struct Source {
    path: String,
    text: String,
}

/// Production code: no tests, neither files nor modules.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    collect(&root.join("src"), &mut paths);
    collect(&root.join("actors/src"), &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let path = path.strip_prefix(root).unwrap().display().to_string();
        let production = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap().to_string();
        Source { path, text: production }
    };
    let is_test = |s: &Source| s.path.ends_with("tests.rs") || s.path.contains("/tests/");
    let all: Vec<Source> = paths.into_iter().map(read).filter(|s| !is_test(s)).collect();
    assert!(all.len() > 50, "the sources are where they are expected");
    all
}

fn collect(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

fn none(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn files_and_functions_are_short() {
    let mut long = Vec::new();
    for Source { path, text } in sources() {
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() > MAX_FILE {
            long.push(format!("{path}: {} lines", lines.len()));
        }
        for (start, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let words = line.trim_start();
            let is_function =
                ["fn ", "pub fn ", "pub(super) fn ", "pub(crate) fn ", "async fn ", "pub async fn "]
                    .iter()
                    .any(|head| words.starts_with(head));
            if !is_function || words.ends_with(';') || words.ends_with('}') {
                continue;
            }
            let closing = format!("{}}}", " ".repeat(indent));
            let length = lines[start..].iter().position(|line| **line == closing).unwrap_or(0) + 1;
            if length > MAX_FUNCTION {
                long.push(format!("{path}:{}: {length} lines", start + 1));
            }
        }
    }
    none("longer than a screen (functions) or than two rooms (files)", long);
}

#[test]
fn every_file_tells_its_story() {
    let silent = sources().into_iter().filter(|s| !s.text.starts_with("//! "));
    none("files without a module doc", silent.map(|s| s.path).collect());
}

#[test]
fn cores_know_nothing_of_actors_or_io() {
    let mut impure = Vec::new();
    for Source { path, text } in sources() {
        let pure = ["actors/src/core/", "actors/src/jute/", "actors/src/types/"];
        if !pure.iter().any(|dir| path.starts_with(dir)) {
            continue;
        }
        for (n, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap();
            for banned in [
                "actix",
                "tokio",
                "slog",
                "std::fs",
                "TcpStream",
                "UdpSocket",
                "std::thread",
                "Instant",
                "SystemTime",
            ] {
                if code.contains(banned) {
                    impure.push(format!("{path}:{}: {banned}", n + 1));
                }
            }
        }
    }
    none("not pure", impure);
}

#[test]
fn nothing_is_left_for_later() {
    let mut left = Vec::new();
    let banned = ["todo!(", "unimplemented!(", "#[ignore", "FIXME", "XXX", "TODO", "dbg!("];
    for Source { path, text } in sources() {
        for (n, line) in text.lines().enumerate() {
            left.extend(
                banned.iter().filter(|b| line.contains(*b)).map(|b| format!("{path}:{}: {b}", n + 1)),
            );
        }
    }
    none("left for later", left);
}
