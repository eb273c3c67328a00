//! How the body speaks to the brain: sockets on one side, actors on the other.

use actix::prelude::*;

use crate::ports::ClientSink;
use crate::questions::Questions;
use crate::replica::TakeSnapshot;
use crate::types::{Auth, ConnId, ConnectRequest, Envelope, Request, Sid};

/// To WatchManager: a connection is there; before anything else about it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Opened {
    /// Its number.
    pub conn: ConnId,
    /// Who it is before it says more: its address.
    pub auth: Auth,
    /// The way back to it.
    pub sink: Box<dyn ClientSink>,
}

/// To Replica: what connections have read. One message a socket read, whatever the number of requests.
#[derive(Message, Debug)]
#[rtype(result = "()")]
#[allow(missing_docs)] // the fields are named for what they are
pub enum FromClient {
    /// The first frame.
    Connect { conn: ConnId, request: ConnectRequest },
    /// All whole requests of one read, in order.
    Requests(Vec<Request>),
    /// The socket is closed.
    Disconnected(ConnId),
}

/// To Node: what links have read, or seen.
#[derive(Message, Debug)]
#[rtype(result = "()")]
pub enum FromPeer {
    /// A connection to this server is there, its hello checked.
    LinkUp(Sid),
    /// It is gone; packets may be lost.
    LinkDown(Sid),
    /// All whole packets of one read, in order.
    Packets(Sid, Vec<Envelope>),
}

/// The brain as the body sees it. Cheap to clone, safe to send.
#[derive(Clone)]
pub struct Brain {
    /// WatchManager.
    pub opened: Recipient<Opened>,
    /// Replica.
    pub clients: Recipient<FromClient>,
    /// Node.
    pub peers: Recipient<FromPeer>,
    /// What operators may ask.
    pub questions: Questions,
    /// Replica: take a snapshot now.
    pub snapshots: Recipient<TakeSnapshot>,
}
