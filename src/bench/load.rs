//! One lane: a connection that always has the same number of requests in flight, until the window is over.
//!
//! Replies come in the order of requests, so a queue is enough to match them. What is ready is taken in one go and made
//! up for in one go, so that the client writes once for many requests: the measuring must not cost what the server needs.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::FutureExt;
use tokio::time::Instant;

use super::Workload;
use super::report::{Kind, Recorder};
use crate::client::{Acl, perms};
use crate::client::{Client, CreateMode, Error, Op, Reply, Response, Str, create_op, set_data_op};

/// Spreads consecutive numbers evenly over 2^64 (the golden ratio's share of it): no generator needed.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// What all lanes do.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) workload: Workload,
    pub(super) read_percent: u8,
    pub(super) in_flight: usize,
    pub(super) paths: Arc<[Str]>,
    pub(super) data: Bytes,
}

/// A connection at work.
pub(super) struct Lane {
    number: usize,
    client: Client,
    plan: Plan,
    recorder: Arc<Mutex<Recorder>>,
    /// Requests submitted so far.
    submitted: u64,
    waiting: VecDeque<Waiting>,
}

/// A request in flight.
struct Waiting {
    kind: Kind,
    since: Instant,
    response: Response,
}

impl Lane {
    pub(super) fn new(number: usize, client: Client, plan: Plan, recorder: Arc<Mutex<Recorder>>) -> Lane {
        Lane { number, client, plan, recorder, submitted: 0, waiting: VecDeque::new() }
    }

    /// Until the window is over or the session is.
    pub(super) async fn run(mut self) {
        loop {
            while self.waiting.len() < self.plan.in_flight {
                if let Err(error) = self.submit().await {
                    return self.record().error(&error);
                }
            }
            let Some(first) = self.waiting.pop_front() else { return };
            let result = first.response.await;
            if self.on_replies(first.kind, first.since, result) {
                return;
            }
        }
    }

    async fn submit(&mut self) -> Result<(), Error> {
        let (kind, op) = self.next();
        let since = Instant::now();
        let response = self.client.submit(op).await?;
        self.waiting.push_back(Waiting { kind, since, response });
        Ok(())
    }

    /// The next request of the plan. Lanes begin at different places.
    fn next(&mut self) -> (Kind, Op) {
        let n = self.submitted;
        self.submitted += 1;
        let spread = (n + ((self.number as u64) << 32)).wrapping_mul(SPREAD);
        let paths = &self.plan.paths;
        let path = &paths[(spread % paths.len() as u64) as usize];
        // High bits, so that the choice is independent of the path.
        let percent = (spread >> 32) % 100;
        let read = match self.plan.workload {
            Workload::Create => {
                let path = format!("{}/{n}", paths[self.number]);
                let open = vec![Acl::world(perms::ALL)];
                let create = create_op(&path, self.plan.data.clone(), CreateMode::Persistent, open);
                return (Kind::Write, create);
            }
            Workload::Read => true,
            Workload::Write => false,
            Workload::Mixed => percent < u64::from(self.plan.read_percent),
        };
        if read {
            (Kind::Read, Op::GetData { path: path.clone(), watch: false })
        } else {
            let write = set_data_op(path, self.plan.data.clone(), None);
            (Kind::Write, write)
        }
    }

    /// Records the reply that was waited for and all that are there behind it. True when the window is over.
    fn on_replies(&mut self, kind: Kind, since: Instant, result: Result<Reply, Error>) -> bool {
        let now = Instant::now();
        let recorder = self.recorder.clone();
        let mut recorder = recorder.lock().expect("nobody panics with it");
        recorder.reply(kind, since, now, &result);
        while let Some(next) = self.waiting.front_mut() {
            let Some(result) = (&mut next.response).now_or_never() else { break };
            recorder.reply(next.kind, next.since, now, &result);
            self.waiting.pop_front();
        }
        recorder.is_over(now)
    }

    fn record(&self) -> std::sync::MutexGuard<'_, Recorder> {
        self.recorder.lock().expect("nobody panics with it")
    }
}
