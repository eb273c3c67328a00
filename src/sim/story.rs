//! Log lines of simulated servers, kept as the run's story and shown with simulated time.

use std::fmt;
use std::sync::Arc;

use slog::{Drain, KV, Logger, Never, OwnedKVList, Record, Serializer, o};

use super::checker::Checker;
use super::net::SimNet;

/// A logger whose lines become the story; with `trace` they are printed as well.
pub fn logger(checker: Arc<Checker>, net: SimNet, trace: bool) -> Logger {
    Logger::root(Story { checker, net, trace }, o!())
}

struct Story {
    checker: Arc<Checker>,
    net: SimNet,
    trace: bool,
}

impl Drain for Story {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        let mut keys = Keys(String::new());
        let _ = values.serialize(record, &mut keys); // writing to a string cannot fail
        let _ = record.kv().serialize(record, &mut keys);
        let level = record.level().as_short_str();
        let line = format!("{:>8} ms {level}{} {}", self.net.now(), keys.0, record.msg());
        if self.trace {
            println!("{line}");
        }
        self.checker.tell(line);
        Ok(())
    }
}

struct Keys(String);

impl Serializer for Keys {
    fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments<'_>) -> slog::Result {
        self.0.push_str(&format!(" {key}={value}"));
        Ok(())
    }
}
