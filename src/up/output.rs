//! What `up` writes: its own words and the table on standard output, log lines of all on standard error.

use std::io::Write;

use anstyle::{AnsiColor, Style};
use slog::{Logger, info};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use zabra_actors::types::Sid;

use crate::logging::LogFormat;

/// The longest piece of a line that is held, in bytes; a longer line is broken there.
const LINE_MAX: u64 = 64 << 10;

/// Colours to tell servers apart; they repeat.
const COLORS: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Green,
    AnsiColor::Yellow,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::BrightRed,
];

/// Both streams. Failures to write are ignored: a closed terminal is no reason to stop an ensemble.
pub(super) struct Output {
    format: LogFormat,
}

impl Output {
    pub(super) fn new(format: LogFormat) -> Output {
        Output { format }
    }

    /// A word of progress: for people on standard output, for machines a log line.
    pub(super) fn say(&self, log: &Logger, line: &str) {
        match self.format {
            LogFormat::Terminal => self.print(&format!("{line}\n")),
            LogFormat::Json => info!(log, "{line}"),
        }
    }

    /// Text for standard output.
    pub(super) fn print(&self, text: &str) {
        let mut out = anstream::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// Writes every line of a server with its id before it, until its end. JSON lines name their server
    /// themselves and stay as they are.
    pub(super) async fn pass_on(&self, sid: Sid, from: impl AsyncRead + Unpin) {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        loop {
            line.clear();
            // An error is the end as well: the other side is gone.
            let read = (&mut from).take(LINE_MAX).read_until(b'\n', &mut line).await;
            if !matches!(read, Ok(1..)) {
                return;
            }
            if line.last() != Some(&b'\n') {
                line.push(b'\n');
            }
            let whole = [self.prefix(sid).as_bytes(), &line].concat();
            // One write a line, so that lines of several servers never mix.
            let _ = anstream::stderr().lock().write_all(&whole);
        }
    }

    fn prefix(&self, sid: Sid) -> String {
        match self.format {
            LogFormat::Json => String::new(),
            LogFormat::Terminal => {
                let color = COLORS[usize::from(sid.0) % COLORS.len()];
                let style = Style::new().fg_color(Some(color.into())).bold();
                format!("{style}{sid}{style:#} | ")
            }
        }
    }
}
