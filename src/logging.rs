//! Log lines: one format for people, one for machines, both on standard error and off the hot path.
//!
//! A record goes through a bounded queue to a thread of its own, so a slow terminal or a pipe that nobody
//! reads never delays a server: what does not fit is dropped and counted in a line of its own. Writing errors
//! are ignored for the same reason: a server outlives the terminal it was started from.
//!
//! There is no global logger: every part gets a child of the one made here through its constructor.

use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use slog::{Drain, FnValue, Logger, Never, PushFnValue, o};
use slog_async::{Async, AsyncGuard, OverflowStrategy};

/// Records that wait for the writing thread: some seconds of a busy election, about 1 MiB.
const QUEUE: usize = 4096;

/// Flags about logging.
#[derive(Args, Clone, Debug, Default)]
pub struct LogArgs {
    /// How log lines look: for people, or one JSON object a line
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// The least severe lines to show; trace exists in debug builds only
    #[arg(long, value_enum, default_value_t, value_name = "LEVEL")]
    pub log_level: LogLevel,
    /// Colour even without a terminal: `up` shows the lines of its children on its own
    #[arg(long, hide = true)]
    pub force_color: bool,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people: coloured on a terminal
    #[default]
    Terminal,
    /// For machines: one JSON object a line
    Json,
}

/// How severe a line must be to be shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// The process must stop
    Critical,
    /// Something failed
    Error,
    /// Refused, dropped, late
    Warning,
    /// Transitions
    #[default]
    Info,
    /// Decisions
    Debug,
    /// Single messages
    Trace,
}

impl From<LogLevel> for slog::Level {
    fn from(level: LogLevel) -> slog::Level {
        match level {
            LogLevel::Critical => slog::Level::Critical,
            LogLevel::Error => slog::Level::Error,
            LogLevel::Warning => slog::Level::Warning,
            LogLevel::Info => slog::Level::Info,
            LogLevel::Debug => slog::Level::Debug,
            LogLevel::Trace => slog::Level::Trace,
        }
    }
}

impl LogArgs {
    /// The same flags for a child process whose lines pass through this one.
    pub fn for_child(&self) -> Vec<String> {
        let name = |value: Option<clap::builder::PossibleValue>| {
            value.expect("no value of these flags is hidden").get_name().to_string()
        };
        let mut flags = vec![
            "--log-format".to_string(),
            name(self.log_format.to_possible_value()),
            "--log-level".to_string(),
            name(self.log_level.to_possible_value()),
        ];
        if io::stderr().is_terminal() {
            flags.push("--force-color".to_string());
        }
        flags
    }
}

/// How long the last lines may take: far more than a disk or a terminal needs. Without a limit a pipe that
/// nobody reads would keep a dead server in the process table.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// Keeps the writing thread; [`Flush::now`] waits until it has written everything.
#[derive(Clone)]
pub struct Flush(Arc<Mutex<Option<AsyncGuard>>>);

impl Flush {
    /// Writes what is queued and ends the thread: the last thing a process does. Lines logged later are lost.
    pub fn now(&self) {
        // A poisoned lock means that a thread panicked right here; then there is nothing left to flush.
        let Some(guard) = self.0.lock().ok().and_then(|mut guard| guard.take()) else { return };
        let (done, wait) = mpsc::channel();
        // On a thread of its own, so that the wait can end without it; it dies with the process then.
        let flusher = thread::Builder::new().name("flush".to_string()).spawn(move || {
            drop(guard);
            let _ = done.send(());
        });
        if flusher.is_ok() {
            let _ = wait.recv_timeout(FLUSH_LIMIT);
        }
    }
}

/// The root logger of a process.
pub fn logger(args: &LogArgs) -> (Logger, Flush) {
    let drain = drain(args);
    let level = slog::Level::from(args.log_level);
    let (queue, guard) = Async::new(drain)
        .chan_size(QUEUE)
        .overflow_strategy(OverflowStrategy::DropAndReport)
        .thread_name("log".to_string())
        .build_with_guard();
    // The level is checked first, so that a line nobody wants costs no more than that.
    let drain = queue.filter_level(level).ignore_res();
    (Logger::root(drain, o!()), Flush(Arc::new(Mutex::new(Some(guard)))))
}

type BoxDrain = Box<dyn Drain<Ok = (), Err = Never> + Send>;

fn drain(args: &LogArgs) -> BoxDrain {
    match args.log_format {
        LogFormat::Terminal => {
            let decorator = slog_term::TermDecorator::new().stderr();
            let decorator = if args.force_color { decorator.force_color() } else { decorator };
            // One record a line, context included: lines of several actors and servers interleave.
            let format = slog_term::FullFormat::new(decorator.build())
                .use_custom_timestamp(|out: &mut dyn Write| write!(out, "{}", now()))
                .use_original_order()
                .build();
            Box::new(format.ignore_res())
        }
        LogFormat::Json => {
            let keys = o!(
                "ts" => FnValue(|_| now()),
                "level" => FnValue(|record| record.level().as_str()),
                "msg" => PushFnValue(|record, out| out.emit(record.msg())),
            );
            let format = slog_json::Json::new(io::stderr()).add_key_value(keys).set_flush(true).build();
            Box::new(format.ignore_res())
        }
    }
}

/// The wall clock as `2026-11-22T17:46:56.123Z`.
fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// Makes a panic of any thread the last log line of the process, which then aborts: an actor that dies alone
/// would leave a server that looks alive.
pub fn abort_on_panic(log: &Logger, flush: &Flush) {
    let (log, flush) = (log.clone(), flush.clone());
    std::panic::set_hook(Box::new(move |panic| {
        slog::crit!(log, "Severe unrecoverable error, exiting"; "panic" => describe(panic),
            "backtrace" => std::backtrace::Backtrace::force_capture().to_string());
        flush.now();
        std::process::abort();
    }));
}

fn describe(panic: &PanicHookInfo<'_>) -> String {
    let place = panic.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
    let payload = panic.payload();
    // `panic!` with a literal carries a &str, with arguments a String.
    let text =
        payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    format!("{}{place}", text.unwrap_or("no message"))
}
