//! The arguments of `reconfig`, and what `config -c` makes of a configuration.

use std::path::PathBuf;

use super::getopt::Parsed;

/// A wished change of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Who and how.
    pub members: Members,
    /// Only if this is the version until now.
    pub version: Option<i64>,
    /// Print the Stat too.
    pub stat: bool,
}

/// Who shall be a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Members {
    /// These servers join, and those leave.
    Step {
        /// `server.N=...`, with commas.
        joining: Option<String>,
        /// Ids, with commas.
        leaving: Option<String>,
    },
    /// These, and no others.
    All(String),
    /// Those in a file, and no others.
    File(PathBuf),
}

impl Change {
    /// Reads the options; one of them is there.
    pub fn new(parsed: &Parsed) -> Result<Change, String> {
        let lower = |option| parsed.value(option).map(str::to_lowercase);
        let version = match parsed.value("v").map(|hex| i64::from_str_radix(hex, 16)) {
            Some(Err(_)) => return Err("-v must be followed by a long (configuration version)".into()),
            version => version.and_then(Result::ok).filter(|version| *version != -1),
        };
        let (all, step) = (
            ["file", "members"].map(|option| parsed.has(option)),
            ["add", "remove"].map(|option| parsed.has(option)),
        );
        if all.contains(&true) && step.contains(&true) {
            return Err("Can't use -file or -members together with -add or -remove (mixing incremental and \
                        non-incremental modes is not allowed)"
                .into());
        }
        let members = match (parsed.value("file"), lower("members")) {
            (Some(_), Some(_)) => {
                return Err(
                    "Can't use -file and -members together (conflicting non-incremental modes)".into()
                );
            }
            (Some(file), None) => Members::File(file.into()),
            (None, Some(members)) => Members::All(members),
            (None, None) => Members::Step { joining: lower("add"), leaving: lower("remove") },
        };
        Ok(Change { members, version, stat: parsed.has("s") })
    }
}

/// The members that a configuration file names, as a request takes them.
pub fn members_of_file(text: &str) -> Result<String, String> {
    let mut members = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let (key, value) = line.split_once('=').ok_or_else(|| format!("{line:?} is not key=value"))?;
        let key = key.trim();
        match key {
            "version" => {}
            _ if ["server.", "group.", "weight."].iter().any(|known| key.starts_with(known)) => {
                members.push(format!("{key}={}", value.trim()));
            }
            _ => {
                return Err(format!(
                    "{key:?} does not belong to a list of members: server.N, group.N, weight.N"
                ));
            }
        }
    }
    match members.is_empty() {
        true => Err("it names no server".into()),
        false => Ok(members.join("\n")),
    }
}

/// `config -c`: the version and where clients find the servers; a server without a place for clients leaves a gap.
pub fn client_view(config: &str) -> String {
    let mut version = "";
    let mut clients = Vec::new();
    for (key, value) in config.lines().filter_map(|line| line.split_once('=')) {
        match key.trim() {
            "version" => version = value.trim(),
            key if key.starts_with("server.") => clients.push(client_address(value.trim())),
            _ => {}
        }
    }
    format!("{version} {}", clients.join(","))
}

fn client_address(server: &str) -> String {
    match server.split_once(';') {
        None => String::new(),
        Some((_, client)) if client.contains(':') => client.to_string(),
        Some((_, port)) => format!("0.0.0.0:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_view_of_clients() {
        let config = "server.1=h1:2888:3888:participant;0.0.0.0:2181\nserver.2=h2:2888:3888:observer;2182\n\
                      server.3=h3:2888:3888:participant\nversion=100000000";
        assert_eq!(client_view(config), "100000000 0.0.0.0:2181,0.0.0.0:2182,");
        assert_eq!(client_view(""), " ");
    }

    #[test]
    fn files_of_members() {
        let text = "# ours\nserver.1=h1:1:2;3\n\nserver.2 = h2:1:2;3\nversion=5\n";
        assert_eq!(members_of_file(text), Ok("server.1=h1:1:2;3\nserver.2=h2:1:2;3".into()));
        for bad in ["", "tickTime=2000\nserver.1=h1:1:2;3", "server.1"] {
            assert!(members_of_file(bad).is_err(), "{bad}");
        }
    }
}
