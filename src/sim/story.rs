//! The story of a run: one line an event, with what its server is, has logged and has committed at that moment.
//!
//! Telling costs more than simulating, so it is off unless somebody listens. A run that fails is run again for
//! its story: the same seed gives the same run.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use slog::{Discard, Drain, KV, Logger, Never, OwnedKVList, Record, Serializer, o};
use tokio::time::Instant;
use zabra_actors::stats::Stats;
use zabra_actors::types::{Sid, Zxid};

/// Who listens to the story.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tell {
    /// Nobody.
    #[default]
    Nothing,
    /// Whoever asks for it afterwards.
    Keep,
    /// Standard output, line by line: what came before an abort is there.
    Print,
}

/// Simulated time, and the story along it. Clones are the same.
#[derive(Clone)]
pub struct Story {
    tell: Tell,
    origin: Instant,
    told: Arc<Mutex<Told>>,
}

#[derive(Default)]
struct Told {
    lines: Vec<String>,
    servers: BTreeMap<Sid, Status>,
}

#[derive(Default)]
struct Status {
    /// Of the process, while it lives.
    stats: Option<Arc<Stats>>,
    logged: Zxid,
    committed: Zxid,
}

impl Story {
    /// A story that begins now.
    pub fn begin(tell: Tell) -> Story {
        Story { tell, origin: Instant::now(), told: Arc::default() }
    }

    /// Milliseconds since the run began.
    pub fn now(&self) -> u64 {
        self.origin.elapsed().as_millis() as u64
    }

    /// The moment so many milliseconds after the beginning.
    pub fn at(&self, ms: u64) -> Instant {
        self.origin + std::time::Duration::from_millis(ms)
    }

    fn is_told(&self) -> bool {
        self.tell != Tell::Nothing
    }

    /// Something happened to the run as a whole, or to a client.
    pub fn tell(&self, what: impl FnOnce() -> String) {
        if self.is_told() {
            self.add(format!("{:>7} {:>68} | {}", self.now(), "", what()));
        }
    }

    /// Something happened at a server.
    pub fn tell_of(&self, sid: Sid, what: impl FnOnce() -> String) {
        if self.is_told() {
            let status = self.lock().servers.get(&sid).map_or("dead".to_string(), Status::to_string);
            self.add(format!("{:>7} s{sid:<2} {status:<64} | {}", self.now(), what()));
        }
    }

    fn add(&self, line: String) {
        match self.tell {
            Tell::Nothing => {}
            Tell::Keep => self.lock().lines.push(line),
            Tell::Print => say(&line),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().expect("nobody panics with this lock")
    }

    /// What was kept.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().lines)
    }

    /// A server's process has begun, or ended.
    pub fn lives(&self, sid: Sid, stats: Option<Arc<Stats>>) {
        if self.is_told() {
            self.lock().servers.entry(sid).or_default().stats = stats;
        }
    }

    /// A server has logged up to here, and shown its clients everything up to there.
    pub fn progress(&self, sid: Sid, logged: Zxid, committed: Zxid) {
        if self.is_told() {
            let mut told = self.lock();
            let status = told.servers.entry(sid).or_default();
            (status.logged, status.committed) = (logged, committed);
        }
    }

    /// A logger whose lines become part of the story.
    pub fn logger(&self, sid: Sid) -> Logger {
        if self.is_told() {
            Logger::root(Teller { story: self.clone(), sid }, o!())
        } else {
            Logger::root(Discard, o!())
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(stats) = &self.stats else { return f.write_str("down") };
        write!(
            f,
            "{:<9} {:<15} e{:<3} logged {:<12} committed {:<12}",
            stats.server_state().to_string(),
            stats.zab_phase().to_string(),
            stats.epoch.get(),
            self.logged.to_string(),
            self.committed.to_string()
        )
    }
}

struct Teller {
    story: Story,
    sid: Sid,
}

impl Drain for Teller {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        self.story.tell_of(self.sid, || {
            let mut keys = Keys(String::new());
            let _ = values.serialize(record, &mut keys); // writing to a string cannot fail
            let _ = record.kv().serialize(record, &mut keys);
            format!("{} {}{}", record.level().as_short_str(), record.msg(), keys.0)
        });
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

/// One line on standard output. A reader that has seen enough (`| head`) is no failure.
pub(super) fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}
