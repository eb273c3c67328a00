//! One server process, and the task that attends it: passes its lines on, signals it, waits for its end.
//!
//! Only this task signals the process, and only it reaps it: so a signal never hits a process that got the
//! same number later.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use zabra_actors::types::Sid;

use super::UpArgs;
use super::output::Output;

/// What all children are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Go on.
    Run,
    /// Stop orderly (SIGTERM).
    Terminate,
    /// Stop now (SIGKILL).
    Kill,
}

/// Starts `zabra serve --id sid` with the same configuration.
pub(super) fn spawn(args: &UpArgs, sid: Sid) -> io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .arg("serve")
        .args(args.config.to_flags())
        .args(["--id".to_string(), sid.to_string()])
        .args(args.log.for_child())
        .arg("--exit-with-stdin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own: Ctrl-C on the terminal is for `up` alone, which then stops them in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Attends a process until it has ended and all its lines are written.
pub(super) async fn attend(
    mut process: Child,
    sid: Sid,
    mut orders: watch::Receiver<Order>,
    output: Arc<Output>,
) -> io::Result<ExitStatus> {
    // Held until the end: closing it tells the server to stop. (`wait` would close it at once.)
    let stdin = process.stdin.take();
    let stdout = process.stdout.take().expect("it is piped");
    let stderr = process.stderr.take().expect("it is piped");
    let ended = async {
        loop {
            tokio::select! {
                biased;
                status = process.wait() => return status,
                // The sender lives as long as `up`; without it there are no more orders.
                Ok(()) = orders.changed() => obey(&mut process, *orders.borrow_and_update())?,
            }
        }
    };
    let (status, (), ()) = futures::join!(ended, output.pass_on(sid, stdout), output.pass_on(sid, stderr));
    drop(stdin);
    status
}

fn obey(process: &mut Child, order: Order) -> io::Result<()> {
    match order {
        Order::Run => Ok(()),
        Order::Terminate => {
            let pid = process.id().and_then(|id| Pid::from_raw(id.cast_signed()));
            // Without an id it has been reaped: there is nobody to signal.
            pid.map_or(Ok(()), |pid| Ok(kill_process(pid, Signal::TERM)?))
        }
        Order::Kill => process.start_kill(),
    }
}
