//! How tasks around sockets are told to end, and how one waits until they have.

use std::future::Future;

use tokio::sync::watch;

/// Makes a pair: who says stop, and what every task holds a clone of.
pub(super) fn stop() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(false);
    (Stopper(sender), Stop(receiver))
}

/// Says stop; dropping it says the same.
pub(super) struct Stopper(watch::Sender<bool>);

impl Stopper {
    /// Tells all tasks, and returns when the last of them has dropped its [`Stop`].
    pub(super) async fn stop(&self) {
        self.0.send_replace(true);
        self.0.closed().await;
    }
}

/// Hears stop. A task keeps it until it has ended.
#[derive(Clone)]
pub(super) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Returns once stop has been said.
    pub(super) async fn said(&mut self) {
        // An error means that the stopper is gone, which says the same.
        let _ = self.0.wait_for(|stopped| *stopped).await;
    }

    /// The work's result; `None` when stop was said first.
    pub(super) async fn or<F: Future>(&mut self, work: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.said() => None,
            output = work => Some(output),
        }
    }
}
