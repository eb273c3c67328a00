//! What is wrong with a configuration, in one line that an operator can act on.

use std::fmt;

/// The exit code of a process that was called or configured wrongly.
pub const EXIT_CONFIG: u8 = 2;

/// What is wrong, as one line: file, key, value, cause and remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(Box<str>);

/// The parts of a [`ConfigError`].
pub(super) struct Wrong {
    /// The configuration file, as it was named.
    pub(super) file: String,
    /// The key with its section; empty when the whole file is meant.
    pub(super) key: String,
    /// The value as it would be written in the file.
    pub(super) value: Option<String>,
    /// Where the value came from, when that is not the file: a variable or a flag.
    pub(super) origin: Option<String>,
    /// The cause, with the limit that was crossed.
    pub(super) problem: String,
    /// What to do.
    pub(super) remedy: String,
}

impl From<Wrong> for ConfigError {
    fn from(wrong: Wrong) -> ConfigError {
        let mut line = format!("{}: ", wrong.file);
        if !wrong.key.is_empty() {
            line.push_str(&wrong.key);
            if let Some(value) = wrong.value {
                line.push_str(&format!(" = {value}"));
            }
            if let Some(origin) = wrong.origin {
                line.push_str(&format!(" (from {origin})"));
            }
            line.push_str(": ");
        }
        line.push_str(&format!("{}; {}", wrong.problem, wrong.remedy));
        // A cause from elsewhere may hold line breaks; this is one line always.
        ConfigError(line.replace(['\n', '\r'], " ").into())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}
