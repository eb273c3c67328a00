//! The command line of `zabra cli`: that of zkCli, whose long options have one dash, and ours, which have two. What
//! follows the first word without a dash is a command, with options of its own.

use std::time::Duration;

use super::paint::Paint;

/// `zabra cli --help`.
pub const HELP: &str = "\
A shell for any ZooKeeper ensemble, as Apache's zkCli.sh

Usage: zabra cli [OPTIONS] [COMMAND [ARGUMENT]...]

With a command: does it and leaves. Without: reads commands, from a terminal or as a script from standard
input; `help` lists them.

Options:
  -server HOST:PORT,.../ROOT  The servers and, after a slash, the root of all paths
                              [default: localhost:2181]
  -timeout MS                 The session's time-out in milliseconds [default: 30000]
  -r                          Be content with a server that serves reads only
  -waitforconnection          Connect first, and leave with an error if that fails in time
  --json                      Print one JSON object a line, for programs
  --quiet                     No greeting, and nothing about the connection
  --color WHEN                auto, always or never [default: auto]
  --help                      Print this help

Every option may have one dash or two.

Exit codes: 0 the last command was done, 1 it failed, 127 there is no such command, 130 Ctrl-C.

Examples:
  zabra cli -server 127.0.0.1:2181,127.0.0.1:2182/app
  zabra cli -server 127.0.0.1:2181 get /a
  zabra cli --quiet get --raw /a > data.bin
  zabra cli create /a --file data.bin
  echo hello | zabra cli set /a --file -
  zabra cli --json ls -R / | jq -r .path
";

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    /// The connection string.
    pub server: String,
    /// The session's time-out.
    pub timeout: Duration,
    /// Read-only servers will do.
    pub read_only: bool,
    /// Nothing is done before there is a connection.
    pub wait: bool,
    /// For programs.
    pub json: bool,
    /// Without greeting.
    pub quiet: bool,
    /// Where colours go.
    pub color: Color,
    /// The command, if there is one.
    pub command: Vec<String>,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // they say it
pub enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    /// The outputs that get them.
    pub fn paint(self) -> Paint {
        match self {
            Color::Auto => Paint::auto(),
            Color::Always => Paint::ALWAYS,
            Color::Never => Paint::NEVER,
        }
    }
}

/// What to do with a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Print [`HELP`].
    Help,
    /// Run.
    Run(Args),
}

/// Reads a command line.
pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Asked, String> {
    let mut args = Args {
        server: "localhost:2181".into(),
        timeout: Duration::from_secs(30),
        read_only: false,
        wait: false,
        json: false,
        quiet: false,
        color: Color::Auto,
        command: Vec::new(),
    };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let Some(name) = word.strip_prefix('-') else {
            args.command = std::iter::once(word).chain(words).collect();
            break;
        };
        let name = name.strip_prefix('-').unwrap_or(name);
        let (name, attached) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (name, None),
        };
        if attached.is_some() && !matches!(name, "server" | "timeout" | "color") {
            return Err(format!("option {word} takes no value"));
        }
        let mut value = || {
            attached.clone().or_else(|| words.next()).ok_or(format!("no argument found for option {word}"))
        };
        match name {
            "server" => args.server = value()?,
            "timeout" => args.timeout = milliseconds(&value()?)?,
            "r" => args.read_only = true,
            "waitforconnection" => args.wait = true,
            "json" => args.json = true,
            "quiet" => args.quiet = true,
            "color" => args.color = color(&value()?)?,
            "help" | "h" => return Ok(Asked::Help),
            "client-configuration" => {
                return Err("-client-configuration: there is no TLS and no SASL to configure yet".into());
            }
            _ => return Err(format!("unknown option {word}; see zabra cli --help")),
        }
    }
    Ok(Asked::Run(args))
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(ms) if ms > 0 && i32::try_from(ms).is_ok() => Ok(Duration::from_millis(ms.into())),
        _ => Err(format!("-timeout: {text:?} is no number of milliseconds from 1 to {}", i32::MAX)),
    }
}

fn color(text: &str) -> Result<Color, String> {
    match text {
        "auto" => Ok(Color::Auto),
        "always" => Ok(Color::Always),
        "never" => Ok(Color::Never),
        _ => Err(format!("--color: {text:?} is not auto, always or never")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Asked, String> {
        parse(line.split_whitespace().map(str::to_string))
    }

    fn args(line: &str) -> Args {
        match parsed(line) {
            Ok(Asked::Run(args)) => args,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn options_of_zkcli_and_ours() {
        let plain = args("");
        assert_eq!(
            (&*plain.server, plain.timeout, plain.command.len()),
            ("localhost:2181", Duration::from_secs(30), 0)
        );
        let all = args(
            "-server a:1,b:2/x -timeout 5000 -r -waitforconnection --json --quiet --color never ls -R /",
        );
        assert_eq!((&*all.server, all.timeout), ("a:1,b:2/x", Duration::from_secs(5)));
        assert!(all.read_only && all.wait && all.json && all.quiet);
        assert_eq!(all.color, Color::Never);
        assert_eq!(all.command, ["ls", "-R", "/"]);
        assert_eq!(args("--server=a:1 get --json").command, ["get", "--json"], "the command's own");
        for help in ["--help", "-h", "-server a:1 -help"] {
            assert_eq!(parsed(help), Ok(Asked::Help));
        }
    }

    #[test]
    fn what_is_refused() {
        for (line, words) in [
            ("-server", "no argument found for option -server"),
            ("-timeout x ls", "-timeout: \"x\""),
            ("-timeout 0", "from 1 to"),
            ("--color blue", "not auto, always or never"),
            ("-secure ls", "unknown option -secure"),
            ("--json=1", "takes no value"),
            ("-client-configuration f", "no TLS"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
    }
}
