//! When a process is asked to stop: SIGTERM, Ctrl-C, or the end of the `up` that started it.
//!
//! SIGHUP is left alone: it ends `up` at once (its children then stop by themselves), and `nohup` goes on
//! working for a single server.

use std::io::{self, Read};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// The ways to be asked. Listens from its creation on; needs a running event loop.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    parent: Option<oneshot::Receiver<()>>,
}

impl StopSignals {
    /// Begins to listen. With `exit_with_stdin` the end of standard input counts as well: its other end is
    /// held by `up`, and closes however `up` dies.
    pub fn listen(exit_with_stdin: bool) -> io::Result<StopSignals> {
        let parent = if exit_with_stdin { Some(watch_stdin()?) } else { None };
        Ok(StopSignals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            parent,
        })
    }

    /// Waits for the next request to stop; says what it was.
    pub async fn next(&mut self) -> &'static str {
        let parent_gone = async {
            match &mut self.parent {
                // A sender that is dropped unused also means that nobody reads standard input any more.
                Some(end) => drop(end.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "Ctrl-C",
            () = parent_gone => {
                self.parent = None;
                "the process that started it is gone"
            }
        }
    }
}

/// Reads standard input to its end on a thread of its own, which may block there for ever.
fn watch_stdin() -> io::Result<oneshot::Receiver<()>> {
    let (ended, end) = oneshot::channel();
    std::thread::Builder::new().name("stdin".to_string()).spawn(move || {
        let mut ignored = [0; 256];
        while !matches!(io::stdin().read(&mut ignored), Ok(0) | Err(_)) {}
        // The receiver may be gone: then the process is about to end anyway.
        let _ = ended.send(());
    })?;
    Ok(end)
}
