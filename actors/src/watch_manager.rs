//! The WatchManager actor: the last station before the connections.
//!
//! Everything a client sees leaves by this one actor, in the order in which the replica decided it. That
//! is why a watch event stands before the reply that shows the new data: a second sender to a connection
//! would lose that.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::prelude::*;
use slog::{Logger, debug, warn};

use crate::core::acl;
use crate::core::watches::{Outcome, Watches};
use crate::handle::Opened;
use crate::ports::ClientSink;
use crate::stats::Stats;
use crate::turn::{Halt, Meter, Turns, work_in_turns};
use crate::types::{ConnId, Deliver};

/// What the replica has decided in a turn, in order.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Outcomes(pub Vec<Outcome>);

/// See the module's story.
pub struct WatchManager {
    core: Watches,
    sinks: BTreeMap<ConnId, Box<dyn ClientSink>>,
    deliveries: Vec<(ConnId, Deliver)>,
    stats: Arc<Stats>,
    meter: Meter,
    log: Logger,
}

impl WatchManager {
    /// A manager without connections, which tells of a znode whom these rules let read it.
    pub fn new(rules: acl::Rules, stats: Arc<Stats>, log: Logger) -> WatchManager {
        let meter = Meter::new(&stats, |s| &s.watch_manager);
        let (core, sinks, deliveries) = (Watches::with_rules(rules), BTreeMap::new(), Vec::new());
        WatchManager { core, sinks, deliveries, stats, meter, log }
    }

    /// The watches, to answer questions.
    pub(crate) fn watches(&self) -> &Watches {
        &self.core
    }

    fn step(&mut self, outcome: Outcome) {
        if let Err(too_many) = self.core.step(outcome, &mut self.deliveries) {
            warn!(self.log, "{}", too_many);
        }
    }

    /// One batch for each connection, its order kept.
    fn deliver(&mut self) {
        self.deliveries.sort_by_key(|(conn, _)| *conn); // stable
        let mut deliveries = std::mem::take(&mut self.deliveries).into_iter().peekable();
        while let Some((conn, first)) = deliveries.next() {
            let mut batch = vec![first];
            while let Some((_, next)) = deliveries.next_if(|(other, _)| *other == conn) {
                batch.push(next);
            }
            let closes = batch.contains(&Deliver::Close);
            if let Some(sink) = self.sinks.get(&conn) {
                sink.deliver(batch);
            }
            if closes {
                self.sinks.remove(&conn);
            }
        }
    }
}

impl Actor for WatchManager {
    type Context = Context<WatchManager>;

    fn started(&mut self, ctx: &mut Self::Context) {
        work_in_turns(ctx);
    }
}

impl Turns for WatchManager {
    fn end_of_turn(&mut self, _: &mut Self::Context) {
        self.deliver();
        self.stats.watch_count.set(self.core.watch_count() as i64);
        self.stats.watch_paths.set(self.core.watched_paths() as i64);
        self.meter.end_of_turn();
    }
}

impl Handler<Opened> for WatchManager {
    type Result = ();

    fn handle(&mut self, opened: Opened, _: &mut Self::Context) {
        self.meter.message();
        debug!(self.log, "connection opened"; "conn" => opened.conn.0);
        let Opened { conn, auth, sink } = opened;
        self.core.opened(conn);
        self.sinks.insert(conn, sink);
        self.step(Outcome::Identified { conn, auth });
    }
}

impl Handler<Outcomes> for WatchManager {
    type Result = ();

    fn handle(&mut self, outcomes: Outcomes, _: &mut Self::Context) {
        self.meter.message();
        for outcome in outcomes.0 {
            let gone = match &outcome {
                Outcome::Gone { conn } => Some(*conn),
                _ => None,
            };
            self.step(outcome);
            if let Some(conn) = gone {
                self.sinks.remove(&conn);
            }
        }
    }
}

impl Handler<Halt> for WatchManager {
    type Result = ();

    fn handle(&mut self, _: Halt, ctx: &mut Self::Context) {
        ctx.terminate();
    }
}
