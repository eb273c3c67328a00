//! Typed reading of one section: each getter checks kind and range, and knows what to tell the operator.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;
use config::{Value, ValueKind};

use super::error::{ConfigError, Wrong};
use super::keys;

/// A section's values.
pub(super) type Table = BTreeMap<String, Value>;

/// Where values came from: the file, and what overrode it.
#[derive(Clone, Debug, Default)]
pub(super) struct Origins {
    /// The file as it was named.
    pub(super) file: String,
    /// `section.key` to the variable or flag that set it.
    pub(super) overrides: BTreeMap<String, String>,
}

/// One section of the merged configuration.
pub(super) struct Section<'a> {
    origins: &'a Origins,
    /// What stands before a key in messages: `timing.` or `[[server]] id 2: `.
    prefix: String,
    values: &'a Table,
}

type Read<T> = Result<Option<T>, ConfigError>;

impl<'a> Section<'a> {
    pub(super) fn new(origins: &'a Origins, prefix: String, values: &'a Table) -> Section<'a> {
        Section { origins, prefix, values }
    }

    /// The same section under another name in messages.
    pub(super) fn renamed(&self, prefix: String) -> Section<'a> {
        Section { origins: self.origins, prefix, values: self.values }
    }

    /// An error about one of its keys; the value is added when there is one.
    pub(super) fn wrong(
        &self,
        key: &str,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> ConfigError {
        self.describe(key, self.values.get(key).map(show), problem.into(), remedy.into())
    }

    /// The same about a key whose value must not be seen.
    pub(super) fn wrong_secret(
        &self,
        key: &str,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> ConfigError {
        self.describe(key, None, problem.into(), remedy.into())
    }

    fn describe(&self, key: &str, value: Option<String>, problem: String, remedy: String) -> ConfigError {
        let full_key = format!("{}{key}", self.prefix);
        let origin = self.origins.overrides.get(&full_key).cloned();
        Wrong { file: self.origins.file.clone(), value, origin, key: full_key, problem, remedy }.into()
    }

    /// Every key must be one of the section's own.
    pub(super) fn check_keys(&self, section: &str) -> Result<(), ConfigError> {
        let known = keys::of_section(section).unwrap_or_default();
        match self.values.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(self.wrong(key, "unknown key", keys::advice(section, key))),
            None => Ok(()),
        }
    }

    /// Text; an empty one is refused.
    pub(super) fn text(&self, key: &str) -> Read<String> {
        match self.values.get(key).map(|v| &v.kind) {
            None => Ok(None),
            Some(ValueKind::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
            Some(ValueKind::String(_)) => {
                Err(self.wrong(key, "it is empty", "give a value, or leave the key out"))
            }
            Some(_) => Err(self.wrong(key, "it is no text", "write it in quotes")),
        }
    }

    /// A whole number.
    pub(super) fn number(&self, key: &str, range: RangeInclusive<u64>) -> Read<u64> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        let number = match &value.kind {
            ValueKind::I64(n) => i128::from(*n),
            ValueKind::U64(n) => i128::from(*n),
            ValueKind::String(text) => match text.parse() {
                Ok(n) => n,
                Err(_) => return Err(self.no_number(key, &range)),
            },
            _ => return Err(self.no_number(key, &range)),
        };
        match u64::try_from(number) {
            Ok(n) if range.contains(&n) => Ok(Some(n)),
            _ => Err(self.out_of_range(key, range.start(), range.end())),
        }
    }

    /// As [`Section::number`], in 32 bits.
    pub(super) fn number32(&self, key: &str, range: RangeInclusive<u32>) -> Read<u32> {
        let wide = u64::from(*range.start())..=u64::from(*range.end());
        let number = self.number(key, wide)?;
        Ok(number.map(|n| u32::try_from(n).expect("the range is of 32 bits")))
    }

    fn no_number(&self, key: &str, range: &RangeInclusive<u64>) -> ConfigError {
        let remedy = format!("write a number from {} to {}", range.start(), range.end());
        self.wrong(key, "it is no whole number", remedy)
    }

    fn out_of_range(
        &self,
        key: &str,
        low: &dyn std::fmt::Display,
        high: &dyn std::fmt::Display,
    ) -> ConfigError {
        self.wrong(key, "it is out of range", format!("allowed is {low} to {high}"))
    }

    /// A length of time, of whole milliseconds: "2s", "200ms".
    pub(super) fn duration(&self, key: &str, range: RangeInclusive<Duration>) -> Read<Duration> {
        const REMEDY: &str = r#"write a number with its unit, as "2s" or "200ms""#;
        let text = match self.values.get(key).map(|v| &v.kind) {
            None => return Ok(None),
            Some(ValueKind::String(text)) => text,
            Some(_) => return Err(self.wrong(key, "a length of time needs a unit", REMEDY)),
        };
        let Ok(duration) = humantime::parse_duration(text) else {
            return Err(self.wrong(key, "it is no length of time", REMEDY));
        };
        if !range.contains(&duration) {
            let (low, high) =
                (humantime::format_duration(*range.start()), humantime::format_duration(*range.end()));
            return Err(self.out_of_range(key, &low, &high));
        }
        if !duration.subsec_nanos().is_multiple_of(1_000_000) {
            return Err(self.wrong(key, "it has a fraction of a millisecond", "round it"));
        }
        Ok(Some(duration))
    }

    /// A number of bytes: "64MiB", "1048575B".
    pub(super) fn size(&self, key: &str, range: RangeInclusive<u64>) -> Read<u64> {
        const REMEDY: &str = r#"write a number with its unit, as "64MiB" or "512B""#;
        let text = match self.values.get(key).map(|v| &v.kind) {
            None => return Ok(None),
            Some(ValueKind::String(text)) => text,
            Some(_) => return Err(self.wrong(key, "a size needs a unit", REMEDY)),
        };
        let Ok(size) = text.parse::<ByteSize>() else {
            return Err(self.wrong(key, "it is no size", REMEDY));
        };
        if !range.contains(&size.as_u64()) {
            return Err(self.out_of_range(key, &ByteSize(*range.start()), &ByteSize(*range.end())));
        }
        Ok(Some(size.as_u64()))
    }

    /// Yes or no.
    pub(super) fn flag(&self, key: &str) -> Read<bool> {
        match self.values.get(key).map(|v| &v.kind) {
            None => Ok(None),
            Some(ValueKind::Boolean(flag)) => Ok(Some(*flag)),
            Some(ValueKind::String(text)) if text == "true" => Ok(Some(true)),
            Some(ValueKind::String(text)) if text == "false" => Ok(Some(false)),
            Some(_) => Err(self.wrong(key, "it is neither true nor false", "write true or false")),
        }
    }

    /// A number from 0 to 1.
    pub(super) fn fraction(&self, key: &str) -> Read<f64> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        let number = match &value.kind {
            ValueKind::Float(number) => Some(*number),
            ValueKind::I64(number) => Some(*number as f64),
            ValueKind::String(text) => text.parse().ok(),
            _ => None,
        };
        match number {
            Some(number) if (0.0..=1.0).contains(&number) => Ok(Some(number)),
            Some(_) => Err(self.out_of_range(key, &0, &1)),
            None => Err(self.wrong(key, "it is no number", "write a number from 0 to 1, as 0.02")),
        }
    }

    /// Keys that do nothing unless another one is set, which it is not.
    pub(super) fn none_of(&self, keys: &[&str], without: &str) -> Result<(), ConfigError> {
        match keys.iter().find(|key| self.values.contains_key(**key)) {
            Some(key) => {
                Err(self.wrong(key, format!("it does nothing without {without}"), "set both, or none"))
            }
            None => Ok(()),
        }
    }

    /// A list of words; in a variable or a flag they are separated by commas.
    pub(super) fn words(&self, key: &str) -> Read<Vec<String>> {
        let no_list = || self.wrong(key, "it is no list of words", r#"write it as ["srvr", "ruok"]"#);
        match self.values.get(key).map(|v| &v.kind) {
            None => Ok(None),
            Some(ValueKind::String(text)) => {
                Ok(Some(text.split(',').map(str::trim).filter(|w| !w.is_empty()).map(String::from).collect()))
            }
            Some(ValueKind::Array(items)) => {
                let word = |item: &Value| match &item.kind {
                    ValueKind::String(word) => Ok(word.clone()),
                    _ => Err(no_list()),
                };
                items.iter().map(word).collect::<Result<_, _>>().map(Some)
            }
            Some(_) => Err(no_list()),
        }
    }

    /// A key of the format whose only value in this version is `only` (or to be absent).
    pub(super) fn only(&self, key: &str, only: &[&str]) -> Result<(), ConfigError> {
        let Some(value) = self.values.get(key) else { return Ok(()) };
        let plain = show(value);
        if only.contains(&plain.trim_matches('"')) {
            return Ok(());
        }
        let remedy = match only {
            [] => "remove it".to_string(),
            [first, ..] => format!("remove it or write {first}"),
        };
        Err(self.wrong(key, "this is specified but not supported yet", remedy))
    }
}

/// A value as the file would write it, on one line.
pub(super) fn show(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => format!("{text:?}"),
        ValueKind::Array(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        ValueKind::Table(_) => "{...}".to_string(),
        other => other.to_string(),
    }
}
