//! Where output goes: standard output and standard error, text or JSON.
//!
//! What is printed is kept back until [`Printer::flush`], or until there is a lot of it; what goes to standard error
//! goes at once, behind what was printed before.

use std::io::{self, BufWriter, Stdout, Write, stderr, stdout};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::tz::TimeZone;
use serde_json::json;

use super::failure::Failure;
use super::output::Output;
use super::paint::{Paint, Tone};

/// Prints for people or for programs.
pub struct Printer {
    json: bool,
    paint: Paint,
    zone: TimeZone,
    out: Mutex<BufWriter<Stdout>>,
}

impl Printer {
    /// A printer for this process' outputs.
    pub fn new(json: bool, paint: Paint) -> Printer {
        let zone = TimeZone::try_system().unwrap_or(TimeZone::UTC);
        Printer { json, paint, zone, out: Mutex::new(BufWriter::new(stdout())) }
    }

    /// Does it print for programs?
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints. The failure says that nobody reads it.
    pub fn put(&self, output: &Output) -> Result<(), Failure> {
        self.write(output).map_err(|_| Failure::unread())
    }

    /// What [`Printer::put`] would print on standard output, for those who print it in another way.
    pub fn render(&self, output: &Output) -> String {
        match self.json {
            true => output.json().map(|json| format!("{json}\n")).unwrap_or_default(),
            false => String::from_utf8_lossy(&output.text(self.paint, &self.zone).out).into_owned(),
        }
    }

    fn write(&self, output: &Output) -> io::Result<()> {
        if self.json {
            return match output.json() {
                Some(json) => writeln!(self.out(), "{json}"),
                None => Ok(()),
            };
        }
        let text = output.text(self.paint, &self.zone);
        self.out().write_all(&text.out)?;
        match text.err.is_empty() {
            true => Ok(()),
            false => self.write_err(&text.err),
        }
    }

    /// Says why a command failed.
    pub fn fail(&self, failure: &Failure) {
        let line = if self.json {
            let (error, text) = (&failure.error, &failure.text);
            format!("{}\n", json!({ "error": text, "code": error, "exit_code": failure.code }))
        } else {
            format!("{}{}\n", failure.preface, self.paint.err(Tone::Bad, &failure.text))
        };
        // If nobody reads this either, nothing is left to do.
        let _ = self.write_err(&line);
    }

    fn write_err(&self, text: &str) -> io::Result<()> {
        self.out().flush()?;
        stderr().write_all(text.as_bytes())
    }

    /// Lets go of what was kept back.
    pub fn flush(&self) -> Result<(), Failure> {
        self.out().flush().map_err(|_| Failure::unread())
    }

    fn out(&self) -> MutexGuard<'_, BufWriter<Stdout>> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
