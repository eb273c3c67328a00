//! `envi`: where the server runs. What Java would say of itself is not there; in its place stands what Rust
//! has to say.

use std::env;
use std::fs;

use super::paper::{AnswerError, Paper};
use super::{BUILT_ON, VERSION};

/// What cannot be told, as Apache puts it.
const NOT_AVAILABLE: &str = "<NA>";

/// Java's properties, in Apache's order.
const JAVA: [&str; 7] = ["version", "vendor", "home", "class.path", "library.path", "io.tmpdir", "compiler"];

pub(super) async fn envi(paper: &mut Paper<'_>) -> Result<(), AnswerError> {
    let system = rustix::system::uname();
    let or_not = |text: Option<String>| text.unwrap_or_else(|| NOT_AVAILABLE.to_string());
    let mut lines = vec![
        ("zookeeper.version".to_string(), format!("{VERSION}{BUILT_ON}")),
        ("host.name".to_string(), system.nodename().to_string_lossy().into_owned()),
    ];
    lines.extend(JAVA.map(|name| (format!("java.{name}"), NOT_AVAILABLE.to_string())));
    let rest = [
        ("rust.version", env!("CARGO_PKG_RUST_VERSION").to_string()),
        ("os.name", system.sysname().to_string_lossy().into_owned()),
        ("os.arch", architecture().to_string()),
        ("os.version", system.release().to_string_lossy().into_owned()),
        ("user.name", or_not(user())),
        ("user.home", or_not(env::var("HOME").ok())),
        ("user.dir", or_not(env::current_dir().ok().map(|dir| dir.display().to_string()))),
    ];
    lines.extend(rest.map(|(name, value)| (name.to_string(), value)));
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    for (name, field) in [("free", "MemAvailable:"), ("max", "MemTotal:"), ("total", "MemTotal:")] {
        let megabytes = megabytes(&memory, field).map(|megabytes| format!("{megabytes}MB"));
        lines.push((format!("os.memory.{name}"), or_not(megabytes)));
    }
    paper.say("Environment:\n").await?;
    for (name, value) in lines {
        paper.say(format_args!("{name}={value}\n")).await?;
    }
    Ok(())
}

/// Whose process this is.
fn user() -> Option<String> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    named(&users, rustix::process::getuid().as_raw())
}

/// The name of a user in `/etc/passwd`.
fn named(users: &str, id: u32) -> Option<String> {
    let mut lines = users.lines().map(|line| line.split(':'));
    lines.find_map(|mut line| {
        let name = line.next()?;
        (line.nth(1)?.parse() == Ok(id)).then(|| name.to_string())
    })
}

/// As Java names it.
fn architecture() -> &'static str {
    match env::consts::ARCH {
        "x86_64" => "amd64",
        other => other,
    }
}

/// A field of `/proc/meminfo`, which is in KiB.
fn megabytes(memory: &str, field: &str) -> Option<u64> {
    let line = memory.lines().find(|line| line.starts_with(field))?;
    let kib: u64 = line[field.len()..].split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_names() {
        let users = "root:x:0:0:root:/root:/bin/bash\nbroken\nzk:x:1000:1000::/home/zk:/bin/sh\n";
        assert_eq!((named(users, 0), named(users, 1000)), (Some("root".into()), Some("zk".into())));
        assert_eq!(named(users, 7), None);
    }

    #[test]
    fn memory_is_in_megabytes() {
        let memory = "MemTotal:       24576000 kB\nMemFree:         1000 kB\nMemAvailable:    2047 kB\n";
        assert_eq!(megabytes(memory, "MemTotal:"), Some(24000));
        assert_eq!(megabytes(memory, "MemAvailable:"), Some(1));
        assert_eq!(megabytes("", "MemTotal:"), None);
    }
}
