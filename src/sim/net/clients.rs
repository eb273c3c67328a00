//! Connections of clients: like links, but a client that hears nothing goes elsewhere, and its old server may
//! learn of that late or never.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc;
use zabra_actors::handle::{Brain, FromClient, Opened};
use zabra_actors::ports::ClientSink;
use zabra_actors::types::{Auth, ConnId, ConnectRequest, Deliver, Request, SessionId, Sid};

use super::{Event, Inner};

/// What a client says by its connection.
pub enum Says {
    /// There is a connection, and this is the way back.
    Open(Auth, Box<dyn ClientSink>),
    /// The first frame.
    Connect(ConnectRequest),
    /// Requests of a session.
    Requests(SessionId, Vec<Request>),
    /// The connection is closed.
    Gone,
}

/// All of them.
#[derive(Default)]
pub(super) struct Clients {
    conns: BTreeMap<ConnId, Conn>,
    doors: BTreeMap<Sid, Door>,
}

struct Conn {
    server: Sid,
    brain: Brain,
    /// `None` once the connection is reset.
    inbox: Option<mpsc::UnboundedSender<Vec<Deliver>>>,
    /// The process at the other end is no more, and nobody has told the client.
    dead: bool,
    /// The server has closed it: what the client still says is nobody's.
    closed: bool,
    /// When the last word of each direction arrives: the next is not earlier.
    to_server_until: u64,
    to_client_until: u64,
}

/// Where the clients of a server come in.
#[derive(Default)]
struct Door {
    /// The process stands still until then.
    paused_until: u64,
    stalled: bool,
    waiting: Vec<Event>,
}

impl Inner {
    pub(super) fn open(
        &mut self,
        conn: ConnId,
        server: Sid,
        brain: Brain,
        inbox: mpsc::UnboundedSender<Vec<Deliver>>,
    ) {
        let (to_server_until, to_client_until) = (0, 0);
        let link = Conn {
            server,
            brain,
            inbox: Some(inbox),
            dead: false,
            closed: false,
            to_server_until,
            to_client_until,
        };
        assert!(self.clients.conns.insert(conn, link).is_none(), "connection numbers are not used twice");
    }

    pub(super) fn say(&mut self, now: u64, conn: ConnId, says: Says) {
        let Some(server) = self.clients.conns.get(&conn).map(|conn| conn.server) else { return };
        let delay = self.delay(self.delays.client_max, &[server]);
        let link = self.clients.conns.get_mut(&conn).expect("just seen");
        link.to_server_until = link.to_server_until.max(now + delay);
        let due = link.to_server_until;
        self.schedule(due, Event::ToServer { conn, says });
    }

    pub(super) fn answer(&mut self, now: u64, conn: ConnId, batch: Vec<Deliver>) {
        let Some(link) = self.clients.conns.get(&conn).filter(|link| !link.dead) else { return };
        let delay = self.delay(self.delays.client_max, &[link.server]);
        let link = self.clients.conns.get_mut(&conn).expect("just seen");
        link.closed |= batch.contains(&Deliver::Close);
        for said in &batch {
            if let Deliver::Connected(response) = said {
                self.checker.connected(link.server, response.session);
            }
        }
        link.to_client_until = link.to_client_until.max(now + delay);
        let due = link.to_client_until;
        self.schedule(due, Event::ToClient { conn, batch });
    }

    pub(super) fn bring_to_server(&mut self, now: u64, conn: ConnId, says: Says) {
        let Some(link) = self.clients.conns.get(&conn).filter(|link| !link.dead) else { return };
        let server = link.server;
        let door = self.clients.doors.entry(server).or_default();
        // What has waited comes in first, when the pause is over in this very millisecond.
        if now < door.paused_until || door.stalled || !door.waiting.is_empty() {
            door.waiting.push(Event::ToServer { conn, says });
            return;
        }
        match says {
            Says::Open(auth, sink) => {
                link.brain.opened.do_send(Opened { conn, auth, sink });
            }
            Says::Connect(request) => {
                link.brain.clients.do_send(FromClient::Connect { conn, request });
            }
            Says::Requests(session, requests) => {
                if !link.closed {
                    self.checker.touched(now, server, session);
                }
                link.brain.clients.do_send(FromClient::Requests(requests));
            }
            Says::Gone => {
                link.brain.clients.do_send(FromClient::Disconnected(conn));
                self.clients.conns.remove(&conn);
            }
        }
    }

    pub(super) fn bring_to_client(&mut self, conn: ConnId, batch: Vec<Deliver>) {
        let Some(link) = self.clients.conns.get(&conn) else { return };
        let door = self.clients.doors.entry(link.server).or_default();
        if door.stalled {
            door.waiting.push(Event::ToClient { conn, batch });
        } else if let Some(inbox) = &link.inbox {
            let _ = inbox.send(batch); // a client that has gone away does not listen
        }
    }

    /// A server's process is no more.
    pub(super) fn hang_up(&mut self, server: Sid, silently: bool) {
        if silently {
            let conns = self.clients.conns.values_mut().filter(|conn| conn.server == server);
            conns.for_each(|conn| conn.dead = true);
        } else {
            self.clients.conns.retain(|_, conn| conn.server != server);
        }
        if let Some(door) = self.clients.doors.get_mut(&server) {
            door.paused_until = 0;
            door.waiting.clear();
        }
    }

    pub(super) fn stall_clients(&mut self, server: Sid) {
        self.clients.doors.entry(server).or_default().stalled = true;
    }

    pub(super) fn pause(&mut self, server: Sid, until: u64) {
        self.clients.doors.entry(server).or_default().paused_until = until;
        self.schedule(until, Event::Resume { server });
    }

    /// It may stand still once more, for longer.
    pub(super) fn resume(&mut self, now: u64, server: Sid) {
        if now >= self.clients.doors.entry(server).or_default().paused_until {
            self.reopen(now, server);
        }
    }

    pub(super) fn heal_clients(&mut self, now: u64, among: &BTreeSet<Sid>) {
        for server in among {
            let Some(door) = self.clients.doors.get_mut(server).filter(|door| door.stalled) else { continue };
            door.stalled = false;
            if self.rng.percent(50) {
                self.reopen(now, *server);
            } else {
                self.cut_off(now, *server);
            }
        }
    }

    /// What has waited comes in, or waits again.
    fn reopen(&mut self, now: u64, server: Sid) {
        let door = self.clients.doors.get_mut(&server).expect("it was closed");
        for event in std::mem::take(&mut door.waiting) {
            self.deliver(now, event);
        }
    }

    /// All connections of a living server's clients are reset.
    fn cut_off(&mut self, now: u64, server: Sid) {
        let door = self.clients.doors.get_mut(&server).expect("it was closed");
        door.waiting.clear();
        let mut cut = Vec::new();
        for (id, conn) in
            self.clients.conns.iter_mut().filter(|(_, conn)| conn.server == server && !conn.dead)
        {
            conn.inbox = None;
            cut.push(*id);
        }
        for conn in cut {
            self.schedule(now, Event::ToServer { conn, says: Says::Gone });
        }
    }

    /// The run is over.
    pub(super) fn forget_clients(&mut self) {
        self.clients = Clients::default();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use actix::{Actor, Addr, AsyncContext, Context, Handler, Recipient, System};
    use zabra_actors::core::quorum::Ensemble;
    use zabra_actors::handle::FromPeer;
    use zabra_actors::questions::Questions;
    use zabra_actors::replica::{Replica, TakeSnapshot};
    use zabra_actors::session_tracker::SessionTracker;
    use zabra_actors::turn::Monotonic;
    use zabra_actors::types::Op;
    use zabra_actors::watch_manager::WatchManager;

    use super::super::{Delays, SimNet};
    use super::*;
    use crate::sim::Tell;
    use crate::sim::checker::Checker;
    use crate::sim::rng::Rng;
    use crate::sim::story::Story;

    const SERVER: Sid = Sid(1);
    const CONN: ConnId = ConnId(1);

    /// A server that notes the numbers of the requests that come in.
    struct Server(mpsc::UnboundedSender<i32>);

    impl Actor for Server {
        type Context = Context<Server>;
    }

    impl Handler<FromClient> for Server {
        type Result = ();

        fn handle(&mut self, said: FromClient, _: &mut Self::Context) {
            if let FromClient::Requests(requests) = said {
                requests.iter().for_each(|request| self.0.send(request.xid).unwrap());
            }
        }
    }

    /// An actor that is not there.
    fn nobody<A: Actor<Context = Context<A>>>() -> Addr<A> {
        Context::<A>::new().address()
    }

    fn brain(clients: Recipient<FromClient>) -> Brain {
        let (watches, replica) = (nobody::<WatchManager>(), nobody::<Replica>());
        let tracker = nobody::<SessionTracker>();
        Brain {
            opened: watches.clone().recipient(),
            clients,
            peers: nobody::<zabra_actors::node::Node>().recipient::<FromPeer>(),
            questions: Questions::to(&watches, &replica, &tracker, Monotonic::start()),
            snapshots: replica.recipient::<TakeSnapshot>(),
        }
    }

    fn net() -> SimNet {
        let story = Story::begin(Tell::Nothing);
        let ensemble = Ensemble::majority(SERVER, &[SERVER], &[]);
        let checker = Arc::new(Checker::new(ensemble, story.clone()));
        let delays = Delays { peer_max: 1, client_max: 1, redial_max: 1, packet: 0 };
        SimNet::new(Rng::stream(0, "net"), delays, BTreeSet::new(), story, checker)
    }

    /// Once it did, and a client's requests came in another order than they were sent.
    #[test]
    fn what_arrives_as_a_pause_ends_does_not_overtake_what_has_waited() {
        System::new().block_on(async {
            let (noted, mut order) = mpsc::unbounded_channel();
            let (inbox, _deliveries) = mpsc::unbounded_channel();
            let net = net();
            let says = |inner: &mut Inner, now, xid| {
                let request = Request { conn: CONN, xid, op: Op::Ping, auth: Arc::new([]) };
                inner.bring_to_server(now, CONN, Says::Requests(SessionId(1), vec![request]));
            };
            net.change(|inner, _| {
                inner.open(CONN, SERVER, brain(Server(noted).start().recipient()), inbox);
                inner.pause(SERVER, 50);
                says(inner, 49, 1);
                says(inner, 50, 2);
                inner.resume(50, SERVER);
                says(inner, 50, 3);
            });
            let heard = [order.recv().await, order.recv().await, order.recv().await];
            assert_eq!(heard, [Some(1), Some(2), Some(3)]);
        });
    }
}
