//! Simulated clients: they speak to a server's brain as a connection does, by the simulated network, and show
//! every answer to the checker.
//!
//! A client keeps its session while it can, goes from server to server, sets its watches again or forgets them,
//! and does one act after another: see [`acts`].

mod acts;
mod wire;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use zabra_actors::core::watches::WatchTable;
use zabra_actors::handle::Brain;
use zabra_actors::types::{ConnId, Op, SessionId, Sid, Str};

pub use self::acts::{ACTS, SYNC_AND_READ};
use self::wire::Wire;
use super::checker::{Checker, View};
use super::net::SimNet;
use super::options::Habits;
use super::rng::Rng;
use super::story::Story;

/// Gives a client the brain of the living server that it picks, if there are any.
pub type Directory = Rc<dyn Fn(&dyn Fn(&[Sid]) -> Sid) -> Option<(Sid, Brain)>>;

/// What all clients of a run share.
#[derive(Clone)]
pub struct Surroundings {
    /// Where servers are found.
    pub directory: Directory,
    /// The way to them.
    pub net: SimNet,
    /// Who is shown every answer.
    pub checker: Arc<Checker>,
    /// Who listens.
    pub story: Story,
    /// What they do.
    pub habits: Rc<Habits>,
    /// The number of the last connection.
    pub conns: Rc<Cell<u64>>,
}

impl Surroundings {
    fn next_conn(&self) -> ConnId {
        self.conns.set(self.conns.get() + 1);
        ConnId(self.conns.get())
    }
}

/// A client of the run.
pub struct SimClient {
    number: u64,
    rng: Rng,
    around: Surroundings,
}

/// What outlives a connection.
struct Session {
    id: SessionId,
    password: Bytes,
    view: View,
    /// Numbers the client's own znodes.
    made: u64,
}

impl SimClient {
    /// The client with this number.
    pub fn new(number: u64, rng: Rng, around: Surroundings) -> SimClient {
        SimClient { number, rng, around }
    }

    /// Lives for ever.
    pub async fn run(self) {
        let mut session =
            Session { id: SessionId::NONE, password: Bytes::new(), view: View::default(), made: 0 };
        loop {
            self.rest(300).await;
            let Some(mut wire) = self.attach(&mut session).await else { continue };
            while self.act(&mut wire, &mut session).await.is_some() {
                self.rest(self.around.habits.pause_max).await;
            }
        }
    }

    async fn rest(&self, max_ms: u64) {
        tokio::time::sleep(Duration::from_millis(self.rng.within(1..max_ms + 1))).await;
    }

    /// Connects to some server, with the session if there is one.
    async fn attach(&self, session: &mut Session) -> Option<Wire> {
        let mut wire = Wire::open(&self.around, self.number, |sids| self.rng.pick(sids))?;
        let response = wire.handshake(session).await?;
        self.around.story.tell(|| {
            format!("client {} is attached to {} with session {}", self.number, wire.server, response.session)
        });
        let watches = std::mem::take(&mut session.view.watches);
        if response.timeout_ms == 0 {
            // Expired: the next attempt asks for a new session.
            session.id = SessionId::NONE;
            session.password = Bytes::new();
            return None;
        }
        self.around.checker.attached(self.number, response.session);
        session.id = response.session;
        session.password = Bytes::copy_from_slice(&response.password);
        if self.around.habits.rewatch && !watches.is_empty() {
            let listed = |wanted: WatchTable, there: bool| {
                let those =
                    watches.iter().filter(|((table, _), watch)| *table == wanted && watch.there == there);
                those.map(|((_, path), _)| path.clone()).collect()
            };
            let relative_zxid = session.view.seen;
            let (data, exist) = (listed(WatchTable::Data, true), listed(WatchTable::Data, false));
            let child = listed(WatchTable::Child, true);
            wire.ask(Op::SetWatches { relative_zxid, data, exist, child });
            session.view.watches = watches;
            wire.answer(&mut session.view).await?;
        }
        Some(wire)
    }
}

/// Reads what is left of the tree of one server after everything has calmed down; each answer is checked as any
/// client's is. `None`: it did not answer.
pub async fn audit(around: &Surroundings, sid: Sid, left: &mut Vec<Str>) -> Option<()> {
    let mut session = Session { id: SessionId::NONE, password: Bytes::new(), view: View::default(), made: 0 };
    let mut wire = Wire::open(around, u64::MAX, |_| sid)?;
    wire.handshake(&session).await?;
    wire.ask(Op::Sync { path: None });
    wire.answer(&mut session.view).await?.result.ok()?;
    acts::read_all(&mut wire, &mut session.view, left).await
}
