//! Turns: an actor's handlers only collect, and the end of its turn flushes once.
//!
//! actix drains an actor's whole mailbox and then polls the futures that the actor has spawned. A future
//! that is never ready is therefore polled once after every drain: that is the end of the turn. Batches
//! grow with the load by themselves; there is no timer and nothing to tune. A test below pins this, since
//! actix does not promise it in words.

use std::pin::Pin;
use std::sync::Arc;
use std::task;
use std::time::Duration;

use actix::prelude::*;
use tokio::time::Instant;

use crate::stats::{ActorStats, Stats};
use crate::types::Millis;

/// An actor that works in turns.
pub trait Turns: Actor {
    /// All messages that were there have been handled: flush what they left.
    fn end_of_turn(&mut self, ctx: &mut Self::Context);
}

/// Has `end_of_turn` called after every drain of the mailbox. To be called once, when the actor starts.
pub fn work_in_turns<A>(ctx: &mut Context<A>)
where
    A: Actor<Context = Context<A>> + Turns,
{
    ctx.spawn(EndOfTurn);
}

struct EndOfTurn;

impl<A: Turns> ActorFuture<A> for EndOfTurn {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut A,
        ctx: &mut A::Context,
        _: &mut task::Context<'_>,
    ) -> task::Poll<()> {
        actor.end_of_turn(ctx);
        task::Poll::Pending
    }
}

/// Does something at the end of a disk's stall. A real disk has blocked its thread already and stalls no more;
/// a simulated one blocks its actor: nothing is heard meanwhile.
pub fn after_stall<A>(stall: Duration, actor: &mut A, ctx: &mut Context<A>, then: fn(&mut A))
where
    A: Actor<Context = Context<A>>,
{
    if stall.is_zero() {
        then(actor);
    } else {
        let blocked = tokio::time::sleep(stall).into_actor(actor);
        ctx.wait(blocked.map(move |(), actor, _| then(actor)));
    }
}

/// Ends an actor at once, mailbox and all: a crash, as the simulator stages it.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub struct Halt;

/// The process stands still for so long, as after SIGSTOP: neither time nor packets come to its actors. A stage
/// direction of the simulator, for Node, by which both come.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
pub struct Pause(pub Duration);

/// Milliseconds since this clock was made. Under the simulator the timer is paused and so is this.
#[derive(Clone, Copy)]
pub struct Monotonic(Instant);

impl Monotonic {
    /// A clock that stands at zero now.
    #[allow(clippy::disallowed_methods)] // tokio's clock, which the simulator controls
    pub fn start() -> Monotonic {
        Monotonic(Instant::now())
    }

    /// Now.
    pub fn now(&self) -> Millis {
        self.0.elapsed().as_millis() as Millis
    }
}

/// Counts an actor's messages and times its turns.
pub struct Meter {
    stats: Arc<Stats>,
    of: fn(&Stats) -> &ActorStats,
    began: Option<Instant>,
    handled: u64,
}

impl Meter {
    /// A meter for one actor's figures.
    pub fn new(stats: &Arc<Stats>, of: fn(&Stats) -> &ActorStats) -> Meter {
        Meter { stats: stats.clone(), of, began: None, handled: 0 }
    }

    /// A message is being handled.
    #[allow(clippy::disallowed_methods)] // tokio's clock, and nothing is decided by it
    pub fn message(&mut self) {
        self.began.get_or_insert_with(Instant::now);
        self.handled += 1;
    }

    /// The turn is over.
    pub fn end_of_turn(&mut self) {
        if let Some(began) = self.began.take() {
            let figures = (self.of)(&self.stats);
            figures.messages.add(self.handled);
            figures.depth.set(self.handled as i64);
            figures.turn_us.observe(began.elapsed().as_micros() as u64);
            self.handled = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Item(u32);

    struct Collector {
        collected: Vec<u32>,
        flushed: Arc<Mutex<Vec<Vec<u32>>>>,
    }

    impl Actor for Collector {
        type Context = Context<Collector>;
        fn started(&mut self, ctx: &mut Self::Context) {
            work_in_turns(ctx);
        }
    }

    impl Turns for Collector {
        fn end_of_turn(&mut self, _: &mut Self::Context) {
            if !self.collected.is_empty() {
                self.flushed.lock().unwrap().push(std::mem::take(&mut self.collected));
            }
        }
    }

    impl Handler<Item> for Collector {
        type Result = ();
        fn handle(&mut self, item: Item, _: &mut Self::Context) {
            self.collected.push(item.0);
        }
    }

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Barrier;

    impl Handler<Barrier> for Collector {
        type Result = ();
        fn handle(&mut self, _: Barrier, _: &mut Self::Context) {}
    }

    #[test]
    fn a_turn_handles_all_that_is_there_and_flushes_once() {
        let flushed = Arc::new(Mutex::new(Vec::new()));
        let seen = flushed.clone();
        System::new().block_on(async move {
            let actor = Collector { collected: Vec::new(), flushed: seen }.start();
            actor.send(Barrier).await.unwrap();
            for burst in [0..100, 100..101, 101..400] {
                burst.for_each(|n| actor.do_send(Item(n)));
                actor.send(Barrier).await.unwrap();
                actor.send(Barrier).await.unwrap(); // a turn later
            }
        });
        let flushed = flushed.lock().unwrap();
        let expected: Vec<Vec<u32>> = vec![(0..100).collect(), vec![100], (101..400).collect()];
        assert_eq!(*flushed, expected);
    }
}
