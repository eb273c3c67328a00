//! A part of the machine for the test alone: networks, mounts and processes of its own.
//!
//! The program starts itself again by `unshare` in new namespaces. Whatever is made in there, links, bridges, mounts,
//! processes that stand still, has no name outside, and the kernel removes it with the last process, however the test
//! ends: two runs cannot collide, and nothing is left behind. Where root is not at hand a user namespace may do.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Tells the program that it is inside.
const INSIDE: &str = "ZABRA_NEMESIS_INSIDE";

const AS_ROOT: &[&str] = &["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

const AS_USER: &[&str] =
    &["--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// What inside must be possible: a bridge, a name for a namespace, a file system in memory.
const TRIAL: &str = "mount -t tmpfs none /run && ip link add trial type bridge && ip netns add trial";

/// How `unshare` makes such a part here; or why it cannot.
fn way() -> Result<&'static [&'static str], String> {
    let mut reason = String::new();
    for how in [AS_ROOT, AS_USER] {
        let trial = Command::new("unshare").args(how).args(["sh", "-c", TRIAL]).stdin(Stdio::null()).output();
        match trial {
            Ok(output) if output.status.success() => return Ok(how),
            Ok(output) if reason.is_empty() => {
                reason = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("").to_string();
            }
            Ok(_) => {}
            Err(error) => return Err(format!("unshare: {error}")),
        }
    }
    Err(reason)
}

/// The command that runs this program inside, with these arguments.
///
/// # Errors
///
/// Why that is not possible.
pub fn inside(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let how = way()?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut again = Command::new("unshare");
    again.args(how).arg(program).args(arguments).env(INSIDE, "1");
    Ok(again)
}

/// Goes inside, and does not come back; or says why that is not possible.
pub fn enter() -> String {
    match inside(std::env::args_os().skip(1)) {
        Ok(mut again) => format!("unshare: {}", again.exec()),
        Err(reason) => reason,
    }
}

pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs a command to its end.
///
/// # Errors
///
/// The command, and what it says is wrong.
pub fn run(words: &[&str]) -> Result<(), String> {
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{}: {error}", words[0])),
    }
}
