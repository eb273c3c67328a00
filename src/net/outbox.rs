//! The queue between an actor that speaks and the task that writes a socket.
//!
//! Speaking never blocks and never fails. What bounds the queue is its weight in bytes: when more than
//! the limit waits because the other side does not read, the queue is given up, and with it the socket.
//! Nothing is ever dropped from the middle: after the first item that found the queue full no other is
//! taken, so what the other side gets is a prefix of what was said.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

use tokio::sync::{Notify, mpsc};

/// Items that a writer takes at once; the rest waits for its next round.
const BATCH: usize = 1024;

/// A queue that holds at most `limit` bytes, and whatever one item adds on top of that: an answer that
/// is larger than the limit must be deliverable to a client that reads.
pub(super) fn outbox<T>(limit: usize) -> (Outbox<T>, Drain<T>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let fill = Arc::new(Fill {
        weight: AtomicUsize::new(0),
        limit,
        over: AtomicBool::new(false),
        told: Notify::new(),
    });
    (Outbox { sender, fill: fill.clone() }, Drain { receiver, fill, batch: Vec::new() })
}

/// How full a queue is, as both ends see it.
struct Fill {
    /// Bytes said and not yet written.
    weight: AtomicUsize,
    limit: usize,
    /// It has been given up: nothing is taken any more.
    over: AtomicBool,
    told: Notify,
}

impl Fill {
    fn give_up(&self) {
        self.over.store(true, SeqCst);
        self.told.notify_one();
    }
}

/// The speaker's end. Dropping it ends the queue after what was said.
pub(super) struct Outbox<T> {
    sender: mpsc::UnboundedSender<(T, usize)>,
    fill: Arc<Fill>,
}

impl<T> Outbox<T> {
    /// Says something of a weight in bytes. False when the queue is given up, now or before.
    pub(super) fn push(&self, item: T, weight: usize) -> bool {
        if self.fill.over.load(Relaxed) {
            return false;
        }
        if self.fill.weight.fetch_add(weight, Relaxed) >= self.fill.limit {
            self.fill.give_up();
            return false;
        }
        // It fails when the writer is gone: the socket is closed, and the closing is told elsewhere.
        let _ = self.sender.send((item, weight));
        true
    }

    /// Gives the queue up: its writer stops in the middle of whatever it writes.
    pub(super) fn give_up(&self) {
        self.fill.give_up();
    }
}

/// The writer's end.
pub(super) struct Drain<T> {
    receiver: mpsc::UnboundedReceiver<(T, usize)>,
    fill: Arc<Fill>,
    batch: Vec<(T, usize)>,
}

impl<T> Drain<T> {
    /// Waits for items and appends what there is. The weight of what it appended goes back to
    /// [`Drain::written`]; `None` when nobody can speak any more.
    pub(super) async fn next(&mut self, items: &mut Vec<T>) -> Option<usize> {
        if self.receiver.recv_many(&mut self.batch, BATCH).await == 0 {
            return None;
        }
        let weight = self.batch.iter().map(|(_, weight)| weight).sum();
        items.extend(self.batch.drain(..).map(|(item, _)| item));
        Some(weight)
    }

    /// That many bytes have left.
    pub(super) fn written(&self, weight: usize) {
        let before = self.fill.weight.fetch_sub(weight, SeqCst);
        assert!(before >= weight, "more was written than said: {weight} of {before} bytes");
    }

    /// To wait for the end while this end is in use.
    pub(super) fn given_up(&self) -> GivenUp {
        GivenUp(self.fill.clone())
    }
}

/// Nobody writes any more what is still said.
impl<T> Drop for Drain<T> {
    fn drop(&mut self) {
        self.fill.give_up();
    }
}

/// A future of sorts: the queue was given up.
pub(super) struct GivenUp(Arc<Fill>);

impl GivenUp {
    /// Returns when the queue has been given up.
    pub(super) async fn wait(&self) {
        while !self.0.over.load(Relaxed) {
            self.0.told.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_said_comes_out_in_order_and_then_the_end() {
        let (outbox, mut drain) = outbox(100);
        for n in 0..5 {
            assert!(outbox.push(n, 10));
        }
        drop(outbox);
        let mut items = Vec::new();
        let weight = drain.next(&mut items).await.expect("there are items");
        assert_eq!((items, weight), (vec![0, 1, 2, 3, 4], 50));
        assert_eq!(drain.next(&mut Vec::new()).await, None);
    }

    #[tokio::test]
    async fn one_item_may_exceed_the_limit_and_the_next_ends_it() {
        let (outbox, mut drain) = outbox(100);
        assert!(outbox.push(1, 1000), "a large answer to a client that reads");
        assert!(!outbox.push(2, 1), "it does not read");
        drain.given_up().wait().await;

        let mut items = Vec::new();
        let weight = drain.next(&mut items).await.expect("the first is there");
        drain.written(weight);
        assert!(!outbox.push(3, 1), "there is room again, but 2 is missing");
        drop(outbox);
        assert_eq!(drain.next(&mut items).await, None);
        assert_eq!(items, vec![1]);
    }

    #[tokio::test]
    async fn what_is_written_makes_room() {
        let (outbox, mut drain) = outbox(100);
        for n in 0..1000 {
            assert!(outbox.push(n, 60));
            let weight = drain.next(&mut Vec::new()).await.expect("an item");
            drain.written(weight);
        }
    }
}
