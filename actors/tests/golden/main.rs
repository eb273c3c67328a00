//! Golden scripts of the ZAB cores: `src/core/testscripts/<core>/<case>.txt`.
//!
//! A script opens with a comment that says why the case exists. A line that begins with `>` is a command, and
//! stands for one input of the core; the lines below it are all effects of that input, in order. Zxids are
//! written `epoch:counter` in commands. Run with `UPDATE_GOLDEN=1` to write what happens into the scripts,
//! then read the difference.

mod election;
mod leader;
mod learner;
mod words;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use words::Words;

/// A core under a script.
trait Subject {
    /// Carries out a command; returns the effects, one a line.
    fn run(&mut self, command: &Words) -> Vec<String>;
}

fn scripts(core: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/core/testscripts").join(core);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.expect("a directory can be read to its end").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "there are no scripts in {}", dir.display());
    paths
}

/// The script with what really happens in the place of what it says.
fn replay(script: &str, subject: &mut dyn Subject) -> String {
    let mut actual = String::new();
    for line in script.lines() {
        if let Some(command) = line.strip_prefix('>') {
            writeln!(actual, "{line}").expect("a string takes everything");
            for effect in subject.run(&Words::parse(command)) {
                writeln!(actual, "  {effect}").expect("a string takes everything");
            }
        } else if line.is_empty() || line.starts_with('#') {
            writeln!(actual, "{line}").expect("a string takes everything");
        }
    }
    actual
}

fn check(core: &str, subject: impl Fn() -> Box<dyn Subject>) {
    let mut wrong = Vec::new();
    for path in scripts(core) {
        let name = path.file_name().expect("it is a file").to_string_lossy().into_owned();
        let expected = std::fs::read_to_string(&path).expect("a script can be read");
        assert!(expected.starts_with('#'), "{name} does not say why it exists");
        println!("{core}/{name}");
        let actual = replay(&expected, subject().as_mut());
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, actual).expect("a script can be written");
        } else if actual != expected {
            let differs = |(a, e): &(&str, &str)| a != e;
            let first = actual.lines().zip(expected.lines()).find(differs);
            wrong.push(format!("{name}: (what happens, what the script says) is first {first:?}\n{actual}"));
        }
    }
    assert!(wrong.is_empty(), "run with UPDATE_GOLDEN=1 if this is meant:\n{}", wrong.join("\n"));
}

#[test]
fn election_scripts() {
    check("election", || Box::new(election::ElectionSubject::default()));
}

#[test]
fn leader_scripts() {
    check("leader", || Box::new(leader::LeaderSubject::default()));
}

#[test]
fn learner_scripts() {
    check("learner", || Box::new(learner::LearnerSubject::default()));
}
