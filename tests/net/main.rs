//! Sockets against a brain that is only an ear: real TCP on loopback, messages of the brain in the hands
//! of the test.

mod back_pressure;
mod clients;
mod links;
mod throttle;
mod words;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::{Notify, mpsc};

/// Long enough for anything that should happen, on the busiest machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// An actor that passes on what it is told.
struct Ear<M>(mpsc::UnboundedSender<M>);

impl<M: Unpin + 'static> Actor for Ear<M> {
    type Context = Context<Self>;
}

impl<M: Message<Result = ()> + Unpin + Send + 'static> Handler<M> for Ear<M> {
    type Result = ();

    fn handle(&mut self, message: M, _: &mut Context<Self>) {
        // It fails when the test has ended.
        let _ = self.0.send(message);
    }
}

/// A recipient, and what it gets.
fn ear<M: Message<Result = ()> + Unpin + Send + 'static>() -> (Recipient<M>, Heard<M>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Ear(sender).start().recipient(), Heard(receiver))
}

struct Heard<M>(mpsc::UnboundedReceiver<M>);

impl<M> Heard<M> {
    async fn next(&mut self) -> M {
        soon(self.0.recv()).await.expect("the ear lives as long as the test")
    }

    /// Nothing more has been said, even after every task that can run has run.
    async fn assert_silent(&mut self) {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(self.0.try_recv().is_err(), "something was said that should not be");
    }
}

/// The result of something that must not take long.
async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it should have happened long ago")
}

/// A logger that says nothing.
fn no_log() -> slog::Logger {
    slog::Logger::root(slog::Discard, slog::o!())
}

/// A logger that keeps the messages of warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<Said>);

#[derive(Default)]
struct Said {
    messages: Mutex<Vec<String>>,
    more: Notify,
}

impl Warnings {
    fn logger(&self) -> slog::Logger {
        slog::Logger::root(self.clone(), slog::o!())
    }

    /// How many have these words in them.
    fn with(&self, words: &str) -> usize {
        self.0.messages.lock().expect("no panic").iter().filter(|m| m.contains(words)).count()
    }

    /// Waits for the first with these words in it.
    async fn expect(&self, words: &str) {
        while self.with(words) == 0 {
            soon(self.0.more.notified()).await;
        }
    }
}

impl slog::Drain for Warnings {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &slog::Record<'_>, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
        if record.level() == slog::Level::Warning {
            self.0.messages.lock().expect("no panic").push(record.msg().to_string());
            self.0.more.notify_one();
        }
        Ok(())
    }
}
