//! Colours: on a terminal, unless the environment or the command line says otherwise, and never in a pipe.

use std::fmt::Display;
use std::io::{stderr, stdout};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};

/// Which outputs take colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    out: bool,
    err: bool,
}

/// What a text is, which decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Something went wrong.
    Bad,
    /// Something is well.
    Good,
    /// Something to take note of.
    Notice,
    /// The name of a value.
    Name,
}

impl Paint {
    /// No colours.
    pub const NEVER: Paint = Paint { out: false, err: false };

    /// Colours everywhere.
    pub const ALWAYS: Paint = Paint { out: true, err: true };

    /// Colours where there is a terminal that wants them (`NO_COLOR`, `CLICOLOR`, `TERM` are looked at).
    pub fn auto() -> Paint {
        Paint {
            out: AutoStream::choice(&stdout()) != ColorChoice::Never,
            err: AutoStream::choice(&stderr()) != ColorChoice::Never,
        }
    }

    /// A text for standard output.
    pub fn out(self, tone: Tone, text: &str) -> String {
        painted(self.out, tone, text)
    }

    /// A text for standard error.
    pub fn err(self, tone: Tone, text: &str) -> String {
        painted(self.err, tone, text)
    }
}

fn painted(on: bool, tone: Tone, text: &(impl Display + ?Sized)) -> String {
    let style = match tone {
        _ if !on => return text.to_string(),
        Tone::Bad => Style::new().fg_color(Some(AnsiColor::Red.into())),
        Tone::Good => Style::new().fg_color(Some(AnsiColor::Green.into())),
        Tone::Notice => Style::new().fg_color(Some(AnsiColor::Yellow.into())),
        Tone::Name => Style::new().fg_color(Some(AnsiColor::Cyan.into())),
    };
    format!("{style}{text}{style:#}")
}
