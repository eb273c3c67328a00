//! Bytes of a client into requests: frames are cut, decoded, and given the identities that hold at their place.
//!
//! A request whose answer may be large is taken only while few of its kind wait for theirs: lists of names are made
//! anew for each answer, so a client that asked a thousand times at once for a hundred thousand children would have
//! the server hold ten billion names. It keeps its place, and what is behind it waits with it.

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::OwnedReadHalf;
use zabra_actors::jute::{self, Decoded};
use zabra_actors::types::{Auth, Op, Request, ZkError};

use super::auth::Refusal;
use super::connection::{End, KEPT_BUFFER, READ_SIZE, take_frame};
use super::talk::{Asked, Talk};

/// What was read and not taken yet.
pub(super) struct Intake {
    buffer: BytesMut,
    /// Who the client is by what was read so far.
    ids: Auth,
    /// Read, and not taken for want of room.
    held: Option<Asked>,
}

impl Intake {
    /// Begins with what came behind the handshake.
    pub(super) fn new(buffer: BytesMut, ids: Auth) -> Intake {
        Intake { buffer, ids, held: None }
    }

    /// Takes whole requests, up to `allowance`, the last that may come, or one without room for its answer.
    pub(super) fn take(&mut self, allowance: usize, talk: &Talk) -> Result<Vec<Asked>, End> {
        let mut taken = Vec::new();
        let mut room = talk.room();
        while taken.len() < allowance {
            let next = match self.held.take() {
                Some(held) => held,
                None => match self.decode(talk)? {
                    Some(decoded) => decoded,
                    None => break,
                },
            };
            if !room.take(&next) {
                self.held = Some(next);
                break;
            }
            let last = next.is_last();
            taken.push(next);
            if last {
                break;
            }
        }
        Ok(taken)
    }

    /// Does a request wait for room?
    pub(super) fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// Reads on. The error is the end.
    pub(super) async fn read(&mut self, socket: &mut OwnedReadHalf, talk: &Talk) -> Result<(), End> {
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_BUFFER {
            self.buffer = BytesMut::new();
        }
        // Room grows with what really arrives, not with what a length promises.
        self.buffer.reserve(READ_SIZE);
        match socket.read_buf(&mut self.buffer).await? {
            0 => return Err(End::ClosedByClient),
            n => talk.clients.stats.bytes_received.add(n as u64),
        }
        talk.touch();
        Ok(())
    }

    /// The next whole frame as a request.
    fn decode(&mut self, talk: &Talk) -> Result<Option<Asked>, End> {
        let Some(frame) = take_frame(&mut self.buffer, &talk.clients)? else { return Ok(None) };
        let size = frame.len();
        talk.arrived(size).map_err(End::TooLarge)?;
        let (xid, decoded) = jute::decode_request(frame)
            .map_err(|e| End::Violation(format!("no whole request header: {e}")))?;
        let settings = &talk.clients.settings.auth;
        let op = match decoded {
            Decoded::Auth { scheme, data } => {
                let decision = settings.authenticate(&self.ids, &scheme, data.as_deref());
                match &decision {
                    Ok(more) => self.ids = more.clone(),
                    Err(_) => talk.clients.stats.auth_failed_count.inc(),
                }
                Op::Auth(told(decision)?)
            }
            // SASL is a way to prove who one is, so it must be open to whoever has not.
            Decoded::Op(op) if settings.admits(&self.ids) || matches!(op, Op::Sasl { .. }) => op,
            Decoded::Op(_) => Op::Auth(Err(ZkError::SessionClosedRequireAuth)),
        };
        let request = Request { conn: talk.conn, xid, op, auth: self.ids.clone() };
        Ok(Some(Asked { request, size }))
    }
}

/// What the client is told of its auth packet, if it is told anything.
fn told(decision: Result<Auth, Refusal>) -> Result<Result<Auth, ZkError>, End> {
    match decision {
        Ok(ids) => Ok(Ok(ids)),
        Err(Refusal::AuthFailed) => Ok(Err(ZkError::AuthFailed)),
        Err(Refusal::OtherEnsemble(name)) => {
            Err(End::Violation(format!("Unexpected ensemble name: {name:?}; see acl.ensemble_names")))
        }
    }
}
