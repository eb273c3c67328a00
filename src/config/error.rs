//! What is wrong with a configuration, in one line that an operator can act on.

use std::fmt;

/// The exit code of a process that was called or configured wrongly.
pub const EXIT_CONFIG: u8 = 2;

/// One wrong thing: where, which key, which value, why, and what to do. Prints as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The configuration file, as it was named.
    pub file: String,
    /// The key with its section, or nothing when the whole file is meant.
    pub key: String,
    /// The value as it would be written in the file.
    pub value: Option<String>,
    /// Where the value came from, when that is not the file: a variable or a flag.
    pub origin: Option<String>,
    /// The cause, with the limit that was crossed.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = format!("{}: ", self.file);
        if !self.key.is_empty() {
            line.push_str(&self.key);
            if let Some(value) = &self.value {
                line.push_str(&format!(" = {value}"));
            }
            if let Some(origin) = &self.origin {
                line.push_str(&format!(" (from {origin})"));
            }
            line.push_str(": ");
        }
        line.push_str(&format!("{}; {}", self.problem, self.remedy));
        // A cause from elsewhere may hold line breaks; this is one line always.
        f.write_str(&line.replace(['\n', '\r'], " "))
    }
}

impl std::error::Error for ConfigError {}
