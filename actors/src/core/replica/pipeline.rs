//! The queue of each connection: requests take effect and are answered in the order in which they came.
//!
//! A write leaves for its place in the order at once, also behind others that are still pending. A read
//! waits for the writes and syncs of its own connection before it, and for nobody else's. So a client reads
//! its own writes, and a client that only reads never waits. In read-only mode there are only reads.

use std::collections::VecDeque;

use super::local::needs_leader;
use super::reads::{Before, Reader};
use super::{Effect, Replica, Role, reads};
use crate::core::watches::Outcome;
use crate::types::{
    ConnId, CreateKind, Forwarded, Op, Reply, ReplyBody, Request, SessionId, Str, WallMillis, ZkError, Zxid,
};

/// Requests that may wait on one connection; more close it. Connections stop reading their sockets long
/// before (`max_outstanding`), so this is only a dam against a mistake there.
pub(super) const MAX_QUEUED: usize = 100_000;

/// A connection with a session.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) session: SessionId,
    /// Negotiated on this connection.
    pub(super) timeout_ms: i32,
    /// What its session asked for on earlier connections was proposed up to here.
    since: Zxid,
    /// The touch batch it was last in.
    touched: u64,
    /// What it waits for, and what waits behind that.
    pub(super) queue: VecDeque<Slot>,
}

impl Client {
    pub(super) fn new(session: SessionId, timeout_ms: i32, since: Zxid) -> Client {
        Client { session, timeout_ms, since, touched: 0, queue: VecDeque::new() }
    }
}

/// A request that is not answered yet.
#[derive(Debug)]
pub(super) enum Slot {
    /// Proposed or forwarded.
    Write,
    /// Asked for, under this number.
    Sync { number: u64, done: bool, xid: i32, path: Option<Str> },
    /// To be done when nothing is before it.
    Other(Request),
    /// Refused when it came; the client is told in its turn.
    Refused { xid: i32, error: ZkError },
}

/// A write on its way, by which its commit is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// The client's number for it.
    pub(super) cxid: i32,
    /// Who is told; it may be gone.
    pub(super) conn: ConnId,
    /// Its own zxid is above this one. Clients that count anew after each connect use a number again,
    /// and what an earlier connection asked for elsewhere may only now be committed.
    pub(super) after: Zxid,
    /// What it is. Expiries and upgrades have numbers of their own choice, so numbers alone could mislead.
    pub(super) kind: SentKind,
    /// Those members of a multi that are create2s: only here it is known that the client wants their Stats.
    pub(super) create2: Vec<usize>,
}

/// What kind of transaction comes of a [`Sent`], unless it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SentKind {
    /// The client's closeSession.
    Close,
    /// This server's own createSession for a local session; no client waits for it.
    Upgrade,
    /// Any other write.
    Write,
}

impl Replica {
    /// One request of a client.
    pub(super) fn request(&mut self, now: WallMillis, request: Request, out: &mut Vec<Effect>) {
        let conn = request.conn;
        let Some(client) = self.clients.get_mut(&conn) else {
            // Either it was closed while this was on its way, or it speaks before it is told Connected.
            if self.handshakes.contains_key(&conn) {
                self.close(conn, out);
            }
            return;
        };
        if client.queue.len() >= MAX_QUEUED {
            return self.close(conn, out);
        }
        let session = client.session;
        let is_of_connection = matches!(request.op, Op::Auth(_) | Op::Sasl { .. });
        if !is_of_connection && client.touched != self.touches.batch() {
            client.touched = self.touches.batch();
            let timeout_ms = client.timeout_ms;
            self.touch(session, timeout_ms);
        }
        match request.op {
            // Nothing that a client may send: answered, and the end, in its turn.
            Op::CreateSession { .. } => self.other(request, out),
            // Without a leader there is nobody to order it.
            ref op if matches!(self.role, Role::ReadOnly { .. }) && needs_leader(op) => {
                self.refuse(conn, request.xid, ZkError::NotReadOnly, out);
            }
            // Before it takes a place in the order: there, a refusal would need room, too.
            ref op if self.no_room && needs_room(op) => {
                self.refuse(conn, request.xid, ZkError::NotReadOnly, out);
            }
            // A local session ends here, behind what it has asked for.
            Op::CloseSession if self.locals.contains(&session) => self.other(request, out),
            // Whoever orders the writes checks the session, too: a refusal has its place in the order.
            ref op if op.is_write() => self.write(now, session, request),
            // About the connection, whatever has become of the session.
            _ if is_of_connection => self.other(request, out),
            _ => self.read(session, request, out),
        }
    }

    fn write(&mut self, now: WallMillis, session: SessionId, request: Request) {
        let Request { conn, xid, op, auth } = request;
        self.upgrade_for(now, conn, session, &op);
        let kind = if matches!(op, Op::CloseSession) { SentKind::Close } else { SentKind::Write };
        let create2 = create2_members(&op);
        let (after, local) = (self.clients[&conn].since, self.locals.contains(&session));
        self.sent.entry(session).or_default().push_back(Sent { cxid: xid, conn, after, kind, create2 });
        self.enqueue(conn, Slot::Write);
        self.order(now, Forwarded { session, local, cxid: xid, op, auth });
    }

    /// A request that is not ordered. The leader knows where each session is, so there even a read shows
    /// that a client has moved on; a learner serves it until its next write.
    fn read(&mut self, session: SessionId, request: Request, out: &mut Vec<Effect>) {
        let admitted = match &mut self.role {
            Role::Leader(preparer) if !self.locals.contains(&session) => {
                preparer.admit(&self.tree, session, self.settings.me)
            }
            _ => Ok(()),
        };
        match admitted {
            Ok(()) => match request.op {
                Op::Sync { path } => self.sync(request.conn, request.xid, path, out),
                _ => self.other(request, out),
            },
            // The client has another connection by now: this one just ends, so that a mistaken one heals.
            Err(ZkError::SessionMoved) => self.close(request.conn, out),
            Err(error) => self.refuse(request.conn, request.xid, error, out),
        }
    }

    /// Refuses a request in its turn.
    fn refuse(&mut self, conn: ConnId, xid: i32, error: ZkError, out: &mut Vec<Effect>) {
        self.enqueue(conn, Slot::Refused { xid, error });
        self.drain(conn, false, out);
    }

    fn sync(&mut self, conn: ConnId, xid: i32, path: Option<Str>, out: &mut Vec<Effect>) {
        self.last_sync += 1;
        self.syncs.push_back((conn, self.last_sync));
        self.enqueue(conn, Slot::Sync { number: self.last_sync, done: false, xid, path });
        // Behind the writes before it, ahead of those after it.
        self.send_writes(out);
        out.push(Effect::Sync);
    }

    /// What is answered here and at once, unless something is before it.
    fn other(&mut self, request: Request, out: &mut Vec<Effect>) {
        let waits = self.clients.get(&request.conn).is_some_and(|client| !client.queue.is_empty());
        if waits {
            self.enqueue(request.conn, Slot::Other(request));
        } else {
            self.answer(request, out);
        }
    }

    fn enqueue(&mut self, conn: ConnId, slot: Slot) {
        let client = self.clients.get_mut(&conn).expect("only clients have requests");
        client.queue.push_back(slot);
        self.outstanding += 1;
    }

    /// The oldest sync is done. Its connection may be gone, or not have waited for it (see
    /// [`Replica::drain`]).
    pub(super) fn sync_done(&mut self, out: &mut Vec<Effect>) {
        let Some((conn, asked)) = self.syncs.pop_front() else {
            return; // It was asked for before the last change of service.
        };
        let Some(client) = self.clients.get_mut(&conn) else { return };
        for slot in &mut client.queue {
            match slot {
                Slot::Sync { number, done, .. } if *number == asked => *done = true,
                _ => continue,
            }
            break;
        }
        self.drain(conn, false, out);
    }

    /// Answers what stands at the front of a queue, up to the next thing that is not finished.
    ///
    /// `synced`: a write behind the syncs at the front is about to be applied. It was ordered after they
    /// were asked for, so all that they wait for is applied already, and they must not be overtaken.
    pub(super) fn drain(&mut self, conn: ConnId, synced: bool, out: &mut Vec<Effect>) {
        while let Some(client) = self.clients.get_mut(&conn) {
            match client.queue.front() {
                None | Some(Slot::Write) => return,
                Some(Slot::Sync { done: false, .. }) if !synced => return,
                Some(_) => {}
            }
            let slot = client.queue.pop_front().expect("it has a front");
            self.outstanding -= 1;
            let zxid = self.tree.zxid();
            match slot {
                Slot::Write => unreachable!("a write is finished by its commit"),
                Slot::Sync { xid, path, .. } => reply(conn, xid, zxid, Ok(ReplyBody::Sync(path)), out),
                Slot::Other(request) => self.answer(request, out),
                Slot::Refused { xid, error } => reply(conn, xid, zxid, Err(error), out),
            }
        }
    }

    /// Answers a request that is neither a write nor a sync, now.
    fn answer(&mut self, request: Request, out: &mut Vec<Effect>) {
        let Request { conn, xid, op, auth } = request;
        let zxid = self.tree.zxid();
        match op {
            // The only reply whose number is not the request's.
            Op::Ping => reply(conn, PING_XID, zxid, Ok(ReplyBody::Empty), out),
            // The connection has decided already; requests read after it carry the new ids.
            Op::Auth(Ok(auth)) => {
                out.push(Effect::Outcome(Outcome::Identified { conn, auth }));
                reply(conn, xid, Zxid::ZERO, Ok(ReplyBody::Empty), out);
            }
            // Who cannot prove what it claims is shown the door.
            Op::Auth(Err(error)) => {
                reply(conn, xid, Zxid::ZERO, Err(error), out);
                self.close(conn, out);
            }
            // After a reconnect: what happened in the meantime, then the reply.
            Op::SetWatches { relative_zxid: seen, data, exist, child } => {
                let (persistent, recursive) = (Vec::new(), Vec::new());
                let before = Before { seen, data, exist, child, persistent, recursive };
                self.rewatch(conn, xid, before, out);
            }
            Op::SetWatches2 { relative_zxid: seen, data, exist, child, persistent, recursive } => {
                let before = Before { seen, data, exist, child, persistent, recursive };
                self.rewatch(conn, xid, before, out);
            }
            // Only the watch manager knows.
            Op::CheckWatches { path, kind } => {
                let watched = Outcome::Watched { conn, xid, zxid, path, kind, remove: false };
                out.push(Effect::Outcome(watched));
            }
            Op::RemoveWatches { path, kind } => {
                let watched = Outcome::Watched { conn, xid, zxid, path, kind, remove: true };
                out.push(Effect::Outcome(watched));
            }
            // There is no SASL here. Apache without it says so with a token of null, and goes on.
            Op::Sasl { .. } => reply(conn, xid, Zxid::ZERO, Ok(ReplyBody::Token(None)), out),
            // Only a local session's comes here: there is no transaction of it.
            Op::CloseSession => {
                reply(conn, xid, zxid, Ok(ReplyBody::Empty), out);
                self.close_local(self.clients[&conn].session, out);
            }
            // Nonsense, and what is none of a client's business. (Apache takes a bare check and a
            // createSession from clients, to its own harm.)
            Op::Unknown { .. } | Op::Check { .. } | Op::CreateSession { .. } => {
                reply(conn, xid, NO_ZXID, Err(ZkError::Unimplemented), out);
                self.close(conn, out);
            }
            // Nothing is done: it came too late to be worth it.
            Op::Throttled { .. } => reply(conn, xid, zxid, Err(ZkError::ThrottledOp), out),
            // A body that makes no sense: the frame was whole, so the stream goes on.
            Op::Undecodable { .. } => reply(conn, xid, zxid, Err(ZkError::MarshallingError), out),
            // A look into the tree, and perhaps a watch on what was seen.
            op => {
                let session = self.clients.get(&conn).expect("only clients ask").session;
                let reader = Reader { session, auth: &auth, rules: self.settings.rules.acl };
                let (result, watch) = reads::look(&self.tree, op, &reader);
                let reply = Reply { xid, zxid, result };
                out.push(Effect::Outcome(Outcome::Reply { conn, reply, watch }));
            }
        }
    }

    fn rewatch(&mut self, conn: ConnId, xid: i32, before: Before, out: &mut Vec<Effect>) {
        let (events, watches) = reads::catch_up(&self.tree, before);
        out.push(Effect::Outcome(Outcome::Rewatch { conn, events, watches }));
        reply(conn, xid, self.tree.zxid(), Ok(ReplyBody::Empty), out);
    }
}

/// Does it make the log longer for something that stays? Deletes are what makes room in the end, and sessions must
/// come and go for anybody to read.
fn needs_room(op: &Op) -> bool {
    match op {
        Op::Delete { .. } | Op::CloseSession => false,
        Op::Multi(members) => !members.iter().all(|op| matches!(op, Op::Delete { .. } | Op::Check { .. })),
        op => op.is_write(),
    }
}

/// The places of create2s in a multi.
fn create2_members(op: &Op) -> Vec<usize> {
    let Op::Multi(members) = op else { return Vec::new() };
    let is_create2 = |member: &Op| matches!(member, Op::Create { kind: CreateKind::Create2, .. });
    members.iter().enumerate().filter(|(_, member)| is_create2(member)).map(|(at, _)| at).collect()
}

/// The number that the reply to a ping has, whatever the ping's was.
const PING_XID: i32 = -2;
/// What the header of an Unimplemented says.
const NO_ZXID: Zxid = Zxid(-1);

/// A reply that leaves no watch.
pub(super) fn reply(
    conn: ConnId,
    xid: i32,
    zxid: Zxid,
    result: Result<ReplyBody, ZkError>,
    out: &mut Vec<Effect>,
) {
    out.push(Effect::Outcome(Outcome::Reply { conn, reply: Reply { xid, zxid, result }, watch: None }));
}
