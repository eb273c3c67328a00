//! The way to the other servers: one TCP connection a pair, who dials is fixed, and a lost link is
//! dialled again for ever.
//!
//! | pair | who dials |
//! |---|---|
//! | a participant and an observer | the observer |
//! | two participants | the larger sid |
//! | two observers | nobody: they have nothing to say to each other |
//!
//! All tasks run on the thread that calls [`Links::start`]; the handle may be used from any. Speaking
//! never blocks: a packet for a peer without a link is dropped, one that finds its queue full resets the
//! link. A packet may be queued for a link whose LinkUp the brain has not handled yet; its tenure tells
//! the receiver what it belongs to.
//!
//! Deliberately absent: acknowledgements and resending (a lost link is a lost stay: ZAB starts over),
//! bounds on what a peer may send (it is a member, and its own limits bound it), encryption.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::Recipient;
use bytes::Bytes;
use slog::{Logger, o};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};
use zabra_actors::handle::FromPeer;
use zabra_actors::ports::PeerLinks;
use zabra_actors::types::{Membership, Packet, Sid, Tenure};

use super::complaints::Complaints;
use super::hello::{self, Identity, MAX_CLUSTER_NAME};
use super::link::{self, Peer};
use super::stop::{Stop, Stopper, stop};
use super::{bind, frame};

/// The first pause after a failed dial; it doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause: a peer that comes back is found within a second.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// Accepted sockets that have not said hello yet; more are closed. A cluster has at most 254 members.
const MAX_GREETINGS: usize = 256;

/// After this time without an answer to what was sent, the kernel gives the connection up. Without it a
/// peer whose machine died would be found out only after minutes of retransmissions.
const UNANSWERED_TIMEOUT: Duration = Duration::from_secs(10);

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddr {
    /// Its id.
    pub sid: Sid,
    /// Where it listens for peers, `host:port`; a name is resolved before each dial.
    pub addr: String,
    /// What it is.
    pub membership: Membership,
}

/// What links need to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinksSettings {
    /// This server.
    pub me: Sid,
    /// The cluster's name: members of another one are refused.
    pub cluster: String,
    /// All members, this one included.
    pub members: Vec<PeerAddr>,
    /// Where to listen, `host:port`.
    pub listen: String,
    /// What a connect, and after it a hello, may take (Apache's cnxTimeout).
    pub connect_timeout: Duration,
}

/// The links of this server. When the last clone is dropped they are closed.
#[derive(Clone)]
pub struct Links {
    inner: Arc<Inner>,
}

struct Inner {
    peers: BTreeMap<Sid, Arc<Peer>>,
    listen: SocketAddr,
    stopper: Stopper,
}

impl Links {
    /// Listens and begins to dial. To be called on a thread with a `LocalSet` (an Arbiter), where all its
    /// tasks will run. The error says which address could not be bound, and why.
    pub fn start(settings: LinksSettings, brain: Recipient<FromPeer>, log: &Logger) -> io::Result<Links> {
        let listener = bind("peers", &settings.listen)?;
        Links::start_on(listener, settings, brain, log)
    }

    /// As [`Links::start`], on a socket that listens already.
    pub fn start_on(
        listener: std::net::TcpListener,
        settings: LinksSettings,
        brain: Recipient<FromPeer>,
        log: &Logger,
    ) -> io::Result<Links> {
        let listen = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let (identity, patience) = (identity(&settings), settings.connect_timeout);
        let log = log.new(o!("part" => "links"));

        let linked = settings.members.into_iter().filter(|m| m.sid != identity.me);
        let linked: Vec<_> = linked.filter_map(|m| Some((identity.dials(m.sid)?, m))).collect();
        let peer = |m: &PeerAddr| {
            Arc::new(Peer::new(m.sid, brain.clone(), log.new(o!("peer" => m.sid.to_string()))))
        };
        let peers: BTreeMap<_, _> = linked.iter().map(|(_, m)| (m.sid, peer(m))).collect();

        let (stopper, stop) = stop();
        let context = Rc::new(Context { identity, patience, peers: peers.clone(), log });
        for (_, member) in linked.into_iter().filter(|(dials, _)| *dials) {
            spawn_local(keep_dialling(context.clone(), member, stop.clone()));
        }
        spawn_local(accept(context, listener, stop));
        Ok(Links { inner: Arc::new(Inner { peers, listen, stopper }) })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.inner.listen
    }

    /// Writes out what is queued, closes all links and the listener, and returns when that is done.
    pub async fn close(&self) {
        self.inner.stopper.stop().await;
    }
}

impl PeerLinks for Links {
    fn send(&self, to: &[(Sid, Tenure)], packet: &Packet) {
        let mut encoded: Option<Result<Bytes, String>> = None;
        for (sid, tenure) in to {
            if let Some(peer) = self.inner.peers.get(sid) {
                peer.send(*tenure, || encoded.get_or_insert_with(|| frame::encode(packet)).clone());
            }
        }
    }
}

fn identity(settings: &LinksSettings) -> Identity {
    let members: BTreeMap<_, _> = settings.members.iter().map(|m| (m.sid, m.membership)).collect();
    assert_eq!(members.len(), settings.members.len(), "ids are checked to differ when cluster.toml is read");
    assert!(members.contains_key(&settings.me), "this server is a member of its cluster");
    assert!(settings.cluster.len() <= MAX_CLUSTER_NAME, "a cluster's name has at most 256 bytes");
    Identity { cluster: settings.cluster.clone(), me: settings.me, members }
}

/// What all tasks share.
struct Context {
    identity: Identity,
    /// What a connect, and a hello, may take.
    patience: Duration,
    peers: BTreeMap<Sid, Arc<Peer>>,
    log: Logger,
}

/// Keeps a link to a peer that this server dials.
async fn keep_dialling(context: Rc<Context>, to: PeerAddr, mut stop: Stop) {
    let peer = context.peers[&to.sid].clone();
    let mut complaints = Complaints::new(context.log.new(o!("peer" => to.sid.to_string())));
    let mut pause = MIN_PAUSE;
    loop {
        let Some(dialled) = stop.or(dial(&context, &to)).await else { return };
        match dialled {
            Ok(socket) => {
                complaints.forget();
                let began = Instant::now();
                link::run(socket, &peer, &mut stop).await;
                // A link that lived is dialled again at once. One that died at once is a failed dial:
                // two servers with one id, for example, would push each other out without a pause.
                if began.elapsed() >= MAX_PAUSE {
                    pause = MIN_PAUSE;
                    continue;
                }
            }
            Err(why) => {
                complaints.warn(format!("Cannot open channel to {} at {}: {why}", to.sid, to.addr));
            }
        }
        if stop.or(sleep(pause)).await.is_none() {
            return;
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// Connects and says hello.
async fn dial(context: &Context, to: &PeerAddr) -> Result<TcpStream, String> {
    let Context { identity, patience, .. } = context;
    let late = |_| format!("no answer within {patience:?}");
    let connected = timeout(*patience, TcpStream::connect(&to.addr)).await.map_err(late)?;
    let mut socket = connected.map_err(|e| e.to_string())?;
    tune(&socket).map_err(|e| e.to_string())?;
    let hello = hello::dial(&mut socket, identity, to.sid);
    timeout(*patience, hello).await.map_err(late)?.map_err(|e| e.to_string())?;
    Ok(socket)
}

/// Small packets leave at once, and a machine that died is found out.
fn tune(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    rustix::net::sockopt::set_socket_keepalive(socket, true)?;
    rustix::net::sockopt::set_tcp_keepidle(socket, UNANSWERED_TIMEOUT / 2)?;
    rustix::net::sockopt::set_tcp_keepintvl(socket, UNANSWERED_TIMEOUT / 10)?;
    rustix::net::sockopt::set_tcp_user_timeout(socket, UNANSWERED_TIMEOUT.as_millis() as u32)?;
    Ok(())
}

/// Accepts the links that the others dial.
async fn accept(context: Rc<Context>, listener: TcpListener, mut stop: Stop) {
    let complaints = Rc::new(std::cell::RefCell::new(Complaints::new(context.log.clone())));
    // Each task that awaits a hello holds a clone.
    let greetings = Rc::new(());
    loop {
        let Some(accepted) = stop.or(listener.accept()).await else { return };
        let (socket, from) = match accepted {
            Ok(accepted) => accepted,
            Err(e) => {
                complaints.borrow_mut().warn(format!("cannot accept peers: {e}"));
                // Out of files, most likely: others must close some first.
                if stop.or(sleep(MAX_PAUSE)).await.is_none() {
                    return;
                }
                continue;
            }
        };
        if Rc::strong_count(&greetings) > MAX_GREETINGS {
            complaints.borrow_mut().warn(format!("more than {MAX_GREETINGS} connections without a hello"));
            continue;
        }
        let (context, complaints, greeting) = (context.clone(), complaints.clone(), greetings.clone());
        let mut stop = stop.clone();
        spawn_local(async move {
            let greeted = stop.or(greet(&context, socket)).await;
            drop(greeting);
            match greeted {
                Some(Ok((socket, sid))) => link::run(socket, &context.peers[&sid], &mut stop).await,
                // Without the port, so that the same trouble has the same words.
                Some(Err(why)) => {
                    complaints.borrow_mut().warn(format!("No link for {}: {why}", from.ip()));
                }
                None => {}
            }
        });
    }
}

/// Hears and answers the hello of whoever has dialled.
async fn greet(context: &Context, mut socket: TcpStream) -> Result<(TcpStream, Sid), String> {
    tune(&socket).map_err(|e| e.to_string())?;
    let patience = context.patience;
    let hello = hello::answer(&mut socket, &context.identity);
    match timeout(patience, hello).await {
        Ok(Ok(sid)) => Ok((socket, sid)),
        Ok(Err(why)) => Err(why.to_string()),
        Err(_) => Err(format!("no hello within {patience:?}")),
    }
}
