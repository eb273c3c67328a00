//! One client connection, as far as it reads: bytes into requests. What it writes is in `delivery`.
//!
//! ```text
//!          a word ──▶ answer, close
//! accept ─▶ first frame ──▶ Opened, Connect ──▶ Connected ──▶ Requests, Requests, ... ──▶ Disconnected
//!          └─────── at most 10 to 20 s ────────────────┘      idle no longer than the session's time-out
//! ```
//!
//! - Nothing behind the first frame is looked at before the handshake is answered.
//! - All whole frames of one socket read are one message to the brain, in order.
//! - **Back-pressure**: a connection stops reading while it waits for too many answers, or while it waits
//!   for any and the server as a whole has too many to give. One that waits for none may always ask one
//!   thing, so everybody gets on, and whoever stopped is woken by an answer of its own.
//! - After the last request a client can make (closeSession, a refused auth, an opcode that nobody has)
//!   its socket is not read any more; the brain closes it behind the answer.
//! - The brain hears of a connection only with its first frame, and is told Disconnected exactly once.
//!
//! Closing a connection never closes its session.

use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use slog::debug;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use zabra_actors::handle::{FromClient, Opened};
use zabra_actors::jute;
use zabra_actors::types::{Auth, ConnectRequest, SessionId};

use super::figures::READS;
use super::in_flight::TooLarge;
use super::intake::Intake;
use super::listener::Clients;
use super::outbox::outbox;
use super::registry::Admitted;
use super::stop::Stop;
use super::talk::{Asked, HANDSHAKE_TIMEOUT, InBrain, Talk};
use super::words::{AnswerError, Word};
use super::{auth, delivery, words};

/// Room for each read, in bytes.
pub(super) const READ_SIZE: usize = 16 << 10;

/// A buffer that a large frame has made larger than this, in bytes, is not kept.
pub(super) const KEPT_BUFFER: usize = 64 << 10;

/// Idle connections are closed at multiples of this, as Apache does: time-outs are rounded up to them.
const IDLE_STEP: Duration = Duration::from_secs(10);

/// How long a client may take to close its end after this one was closed. Until then what it still sends
/// is thrown away: closing a socket with unread bytes would reset the connection, and the client might
/// lose the last answer.
const LINGER: Duration = Duration::from_secs(1);

/// How long what was said before a stop may take to leave.
const FLUSH_GRACE: Duration = Duration::from_secs(1);

/// Why a connection ends.
pub(super) enum End {
    /// The client has closed it.
    ClosedByClient,
    /// The brain wanted it closed, or it was answered all it may ask; everything is written.
    Closed,
    /// The socket failed.
    Failed(io::Error),
    /// What came is against the protocol.
    Violation(String),
    /// A frame came while the server does not serve.
    NotServing,
    /// Nothing came or went for too long.
    Idle,
    /// It does not read what it asked for.
    TooSlow,
    /// There are too many handshakes.
    Throttled,
    /// A request is large, and one too many.
    TooLarge(TooLarge),
    /// It has waited in vain for its request to be taken.
    Stale,
    /// This server stops.
    Stopped,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::ClosedByClient => f.write_str("closed by the client"),
            End::Closed => f.write_str("closed behind the last answer"),
            End::Failed(e) => write!(f, "the socket failed: {e}"),
            End::Violation(what) => write!(f, "protocol violation: {what}"),
            End::NotServing => f.write_str("this server is not serving now"),
            End::Idle => f.write_str("nothing came or went for too long"),
            End::TooSlow => {
                write!(f, "it does not read; more than {} bytes wait for it", delivery::MAX_QUEUED)
            }
            End::Throttled => f.write_str("limits.throttle: no token is left for another handshake"),
            End::TooLarge(e) => e.fmt(f),
            End::Stale => f.write_str("limits.throttle: its request was dropped, being stale"),
            End::Stopped => f.write_str("this server stops"),
        }
    }
}

impl From<io::Error> for End {
    fn from(e: io::Error) -> End {
        End::Failed(e)
    }
}

/// Runs a connection from accept to close.
pub(super) async fn serve(mut socket: TcpStream, admitted: Admitted, clients: Arc<Clients>, mut stop: Stop) {
    // It fails only when the socket is dead already, which the first read will tell.
    let _ = socket.set_nodelay(true);
    let deadline = expiry(&clients, Instant::now(), HANDSHAKE_TIMEOUT);
    let mut buffer = BytesMut::new();
    let first = first_frame(&mut socket, &mut buffer, &admitted, &clients);
    let end = match stop.or(timeout_at(deadline, first)).await {
        Some(Ok(Ok(First::Word(word)))) => answer_word(socket, word, &admitted, &clients, &mut stop).await,
        Some(Ok(Ok(First::Connect(request)))) if !clients.admits(&request) => End::Throttled,
        Some(Ok(Ok(First::Connect(request)))) => {
            converse(socket, buffer, request, &admitted, &clients, &mut stop).await
        }
        Some(Ok(Err(end))) => end,
        Some(Err(_)) => End::Idle,
        None => End::Stopped,
    };
    match &end {
        End::Violation(what) => clients.complain_of(admitted.figures.remote.ip(), what),
        End::Throttled => clients.stats.connection_rejected.inc(),
        End::TooLarge(too_large) => {
            clients.stats.large_requests_rejected.inc();
            clients.complain_of(admitted.figures.remote.ip(), &too_large.to_string());
        }
        End::NotServing => clients.stats.cnxn_closed_without_zk_server_running.inc(),
        End::Idle if admitted.figures.session().is_none() => {
            clients.stats.sessionless_connections_expired.inc();
        }
        _ => {}
    }
    debug!(clients.log, "connection closed"; "conn" => admitted.conn.0,
           "client" => %admitted.figures.remote, "reason" => %end);
}

/// What a connection begins with.
enum First {
    /// An operator's question.
    Word(Word),
    /// A client.
    Connect(ConnectRequest),
}

/// Reads until it is known what the connection is. What follows the first frame stays in the buffer.
async fn first_frame(
    socket: &mut TcpStream,
    buffer: &mut BytesMut,
    admitted: &Admitted,
    clients: &Clients,
) -> Result<First, End> {
    loop {
        buffer.reserve(READ_SIZE);
        let read = socket.read_buf(buffer).await?;
        clients.stats.bytes_received.add(read as u64);
        match words::read(buffer) {
            Ok(Some(word)) => {
                count_frames(1, 0, admitted, clients);
                return Ok(First::Word(word));
            }
            Ok(None) => {}
            // Too little to tell: the rest may come.
            Err(_) if read > 0 => continue,
            Err(_) => return Err(End::ClosedByClient),
        }
        if !clients.stats.is_open() {
            return Err(End::NotServing);
        }
        if let Some(frame) = take_frame(buffer, clients)? {
            count_frames(1, 0, admitted, clients);
            return match jute::decode_connect_request(frame) {
                Ok(request) => Ok(First::Connect(request)),
                Err(e) => Err(End::Violation(format!("the first frame is no ConnectRequest: {e}"))),
            };
        }
        if read == 0 {
            return Err(End::ClosedByClient);
        }
    }
}

pub(super) fn take_frame(buffer: &mut BytesMut, clients: &Clients) -> Result<Option<bytes::Bytes>, End> {
    if let Some(length) = buffer.first_chunk().map(|length| i32::from_be_bytes(*length)) {
        // Nonsense is refused below.
        clients.in_flight.announce(usize::try_from(length).unwrap_or(0)).map_err(End::TooLarge)?;
    }
    jute::take_frame(buffer, clients.settings.max_frame).map_err(|e| End::Violation(e.to_string()))
}

fn count_frames(frames: u64, queued: usize, admitted: &Admitted, clients: &Clients) {
    clients.stats.packets_received.add(frames);
    admitted.figures.read(frames, queued);
}

/// Answers an operator, and closes.
async fn answer_word(
    mut socket: TcpStream,
    word: Word,
    admitted: &Admitted,
    clients: &Clients,
    stop: &mut Stop,
) -> End {
    let written = stop.or(async {
        words::answer(&mut socket, word, admitted.conn, clients).await?;
        Ok(socket.shutdown().await?)
    });
    match written.await {
        Some(Ok(())) => {
            linger(&mut socket.into_split().0, stop).await;
            End::Closed
        }
        Some(Err(AnswerError::Failed(e))) => End::Failed(e),
        Some(Err(AnswerError::TooSlow)) => End::TooSlow,
        Some(Err(AnswerError::Stopped)) | None => End::Stopped,
    }
}

/// Runs a client's connection from its first frame to its close.
async fn converse(
    socket: TcpStream,
    buffer: BytesMut,
    request: ConnectRequest,
    admitted: &Admitted,
    clients: &Arc<Clients>,
    stop: &mut Stop,
) -> End {
    let (outbox, drain) = outbox(delivery::MAX_QUEUED);
    let conn = admitted.conn;
    let ids = auth::initial(admitted.figures.remote.ip());
    let in_brain = Arc::new(InBrain::new(clients.clone()));
    let sink = Box::new(delivery::Sink { outbox, in_brain: in_brain.clone() });
    clients.brain.opened.do_send(Opened { conn, auth: ids.clone(), sink });
    clients.stats.connection_request_count.inc();
    if request.session != SessionId::NONE {
        clients.stats.connection_revalidate_count.inc();
    }
    let opening = (request.session == SessionId::NONE).then(Instant::now);
    clients.brain.clients.do_send(FromClient::Connect { conn, request });

    let talk = Rc::new(Talk::new(admitted, opening, clients.clone(), in_brain));
    talk.touch();
    let (mut reader, writer) = socket.into_split();
    // A task of its own, so that a client that asks without pause cannot keep its answers from leaving.
    let mut writing = tokio::task::spawn_local(delivery::write(writer, drain, talk.clone(), stop.clone()));
    let end = tokio::select! {
        biased;
        () = stop.said() => End::Stopped,
        end = &mut writing => end.expect("a writer neither panics nor is cancelled before its connection ends"),
        end = read(&mut reader, buffer, ids, &talk) => end,
        () = idle(&talk) => End::Idle,
    };
    if matches!(end, End::Stopped) {
        let _ = timeout(FLUSH_GRACE, &mut writing).await;
    }
    writing.abort();
    clients.brain.clients.do_send(FromClient::Disconnected(conn));
    if matches!(end, End::ClosedByClient | End::Failed(_)) {
        clients.stats.connection_drop_count.inc();
    }
    if matches!(end, End::Closed) {
        linger(&mut reader, stop).await;
    }
    end
}

/// Throws away what a client still sends, until it has seen the close.
async fn linger(socket: &mut OwnedReadHalf, stop: &mut Stop) {
    let mut waste = [0; 1024];
    let until_closed = async { while socket.read(&mut waste).await.is_ok_and(|n| n > 0) {} };
    let _ = stop.or(timeout(LINGER, until_closed)).await;
}

/// When a connection that is idle since then is closed.
pub(super) fn expiry(clients: &Clients, since: Instant, timeout: Duration) -> Instant {
    let step = IDLE_STEP.as_millis() as u64;
    let age = (since + timeout - clients.started).as_millis() as u64;
    clients.started + Duration::from_millis((age / step + 1) * step)
}

/// Returns when nothing has come or gone for too long. The time-out that a handshake brings is seen when
/// the handshake's own would have ended, so an idle client may get up to 20 s once.
async fn idle(talk: &Talk) {
    loop {
        let expiry = expiry(&talk.clients, talk.active(), talk.timeout());
        if expiry <= Instant::now() {
            return;
        }
        sleep_until(expiry).await;
    }
}

/// Reads requests until the connection ends.
async fn read(socket: &mut OwnedReadHalf, buffer: BytesMut, ids: Auth, talk: &Talk) -> End {
    talk.figures.end(READS);
    talk.opened().await;
    talk.figures.begin(READS);
    let mut intake = Intake::new(buffer, ids);
    loop {
        let allowance = talk.allowance();
        let asked = match intake.take(allowance, talk) {
            Ok(asked) => asked,
            Err(end) => return end,
        };
        let taken = asked.len();
        let last = asked.last().is_some_and(Asked::is_last);
        match &talk.clients.door {
            None => talk.ask(asked),
            Some(door) => {
                talk.figures.end(READS);
                if let Err(end) = door.pass(asked, socket, talk).await {
                    return end;
                }
                talk.figures.begin(READS);
            }
        }
        if last {
            talk.figures.end(READS);
            return std::future::pending().await;
        }
        // Something that was asked before must be answered first; it wakes this.
        if allowance == 0 || taken == 0 && intake.holds() {
            talk.figures.end(READS);
            talk.progressed().await;
            talk.figures.begin(READS);
            continue;
        }
        if taken == allowance || intake.holds() {
            continue; // more may wait in the buffer
        }
        if let Err(end) = intake.read(socket, talk).await {
            return end;
        }
    }
}
