//! One connection of a client: what it asks, in order, and what it hears.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use zabra_actors::types::{
    Auth, ConnId, ConnectRequest, ConnectResponse, Deliver, Id, Op, Reply, Request, SessionId, Sid,
};

use super::{Session, Surroundings};
use crate::sim::checker::{Asked, View};
use crate::sim::net::Says;

/// An open connection. It is closed when it is dropped.
pub(super) struct Wire {
    around: Surroundings,
    client: u64,
    pub(super) server: Sid,
    conn: ConnId,
    session: SessionId,
    inbox: mpsc::UnboundedReceiver<Vec<Deliver>>,
    heard: VecDeque<Deliver>,
    asked: VecDeque<Asked>,
    xid: i32,
    auth: Auth,
    /// How long it waits for an answer.
    patience: Duration,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.around.net.say(self.conn, Says::Gone);
    }
}

impl Wire {
    /// A connection to some living server; `None` when there is none.
    pub(super) fn open(around: &Surroundings, client: u64, pick: impl Fn(&[Sid]) -> Sid) -> Option<Wire> {
        let (server, brain) = (around.directory)(&pick)?;
        let conn = around.next_conn();
        let auth: Auth = Arc::new([Id::new("ip", "127.0.0.1")]);
        let inbox = around.net.connect(conn, server, brain, auth.clone());
        let patience = Duration::from_millis(around.habits.session_timeout_ms as u64);
        let (heard, asked) = (VecDeque::new(), VecDeque::new());
        let around = around.clone();
        let session = SessionId::NONE;
        Some(Wire { around, client, server, conn, session, inbox, heard, asked, xid: 0, auth, patience })
    }

    /// The first frame and its answer. `None`: the server is not there, or refuses without a word.
    pub(super) async fn handshake(&mut self, session: &Session) -> Option<ConnectResponse> {
        let request = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: session.view.seen,
            timeout_ms: self.around.habits.session_timeout_ms,
            session: session.id,
            password: session.password.clone(),
            read_only: None,
        };
        self.around.net.say(self.conn, Says::Connect(request));
        let Deliver::Connected(response) = self.hear().await? else { return None };
        self.session = response.session;
        Some(response)
    }

    /// The next thing the server says; `None` when it closes or stays silent for too long.
    async fn hear(&mut self) -> Option<Deliver> {
        while self.heard.is_empty() {
            let batch = tokio::time::timeout(self.patience, self.inbox.recv()).await.ok()??;
            self.heard.extend(batch);
        }
        self.heard.pop_front().filter(|said| *said != Deliver::Close)
    }

    /// Asks for something; answers come in order.
    pub(super) fn ask(&mut self, op: Op) {
        self.xid += 1;
        let request = Request { conn: self.conn, xid: self.xid, op: op.clone(), auth: self.auth.clone() };
        let delivered = self.around.checker.committed();
        self.asked.push_back(Asked { xid: self.xid, session: self.session, op, delivered });
        self.around.net.say(self.conn, Says::Requests(self.session, vec![request]));
    }

    /// The answer to the oldest request, checked, and all events before it.
    pub(super) async fn answer(&mut self, view: &mut View) -> Option<Reply> {
        loop {
            match self.hear().await? {
                Deliver::Reply(reply) => {
                    let asked = self.asked.pop_front()?;
                    self.around.story.tell(|| {
                        format!("client {} of {}: {:?}: {reply:?}", self.client, self.server, asked.op)
                    });
                    self.around.checker.answered(self.client, view, &asked, &reply);
                    return Some(reply);
                }
                Deliver::Event(event) => {
                    self.around.story.tell(|| format!("client {} hears {event:?}", self.client));
                    self.around.checker.told(self.client, view, &event);
                }
                Deliver::Connected(_) | Deliver::Close => return None,
            }
        }
    }
}
