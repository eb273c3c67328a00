//! What `up` writes: its own words and the table on standard output, log lines of all on standard error.
//!
//! A thread of its own writes, so that a terminal that is stopped or a pipe that nobody reads delays neither
//! the servers nor the orders to them. What does not fit into its queue is dropped, and counted in a line.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

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

/// Pieces that wait for the writing thread: some seconds of a busy election.
const QUEUE: usize = 4096;

/// How long the end waits for what was said last, when nobody may be reading.
const LAST_WORDS: Duration = Duration::from_secs(2);

enum Piece {
    Out(Vec<u8>),
    Err(Vec<u8>),
}

/// Both streams. Failures to write are ignored: a closed terminal is no reason to stop an ensemble.
pub(super) struct Output {
    format: LogFormat,
    pieces: Option<SyncSender<Piece>>,
    dropped: AtomicU64,
    /// Never hears anything but the end of the writing thread.
    ended: Mutex<Receiver<()>>,
}

/// Waits, not for ever, until everything is written.
impl Drop for Output {
    fn drop(&mut self) {
        self.pieces = None;
        // Either way out will do: the thread has ended, or nobody reads.
        if let Ok(ended) = self.ended.get_mut() {
            let _ = ended.recv_timeout(LAST_WORDS);
        }
    }
}

fn write_all(pieces: &Receiver<Piece>) {
    while let Ok(piece) = pieces.recv() {
        // One write a line, so that lines of several servers never mix.
        let _ = match piece {
            Piece::Out(text) => {
                let mut out = anstream::stdout().lock();
                out.write_all(&text).and_then(|()| out.flush())
            }
            Piece::Err(line) => anstream::stderr().lock().write_all(&line),
        };
    }
}

impl Output {
    pub(super) fn new(format: LogFormat) -> Output {
        let (pieces, queue) = sync_channel(QUEUE);
        let (end, ended) = sync_channel::<()>(1);
        std::thread::spawn(move || {
            write_all(&queue);
            drop(end);
        });
        Output { format, pieces: Some(pieces), dropped: AtomicU64::new(0), ended: Mutex::new(ended) }
    }

    fn write(&self, piece: Piece) {
        let pieces = self.pieces.as_ref().expect("taken away only at the end");
        let dropped = self.dropped.swap(0, Relaxed);
        if dropped > 0 {
            let line = format!("zabra: {dropped} lines were dropped: nobody reads them fast enough\n");
            if pieces.try_send(Piece::Err(line.into_bytes())).is_err() {
                self.dropped.fetch_add(dropped, Relaxed);
            }
        }
        if pieces.try_send(piece).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
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
        self.write(Piece::Out(text.as_bytes().to_vec()));
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
            self.write(Piece::Err(whole));
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
