//! The first frame of a connection: a new session, or one that goes on here.
//!
//! A new session is a transaction: the client is told when it is applied here. A known one is asked about:
//! the leader decides by itself, a learner asks it. A local session (see `local`) is this server's own affair.
//! A wrong password, an unknown and an expired session are told alike: a response of zeros, then the end.

use crate::core::watches::Outcome;
use crate::types::{
    ConnId, ConnectRequest, ConnectResponse, Forwarded, Op, SessionId, Sid, WallMillis, Zxid,
};

use super::local::MAX_LOCAL_SESSIONS;
use super::pipeline::Client;
use super::{Effect, Replica, Role, password};

/// What a handshake has come to while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handshake {
    pub(super) session: SessionId,
    /// Negotiated.
    timeout_ms: i32,
    /// Is this server? Answered if, and only if, it was asked.
    read_only: Option<bool>,
}

impl Replica {
    pub(super) fn connect(
        &mut self,
        now: WallMillis,
        conn: ConnId,
        request: ConnectRequest,
        out: &mut Vec<Effect>,
    ) {
        // A second handshake on one connection is nonsense. Others get no answer either when this server is
        // not for them, so that the client keeps its session and goes to the next one.
        let repeated = self.handshakes.contains_key(&conn) || self.clients.contains_key(&conn);
        if repeated || !self.can_tell(&request) {
            return self.close(conn, out);
        }
        let handshake = Handshake {
            session: request.session,
            timeout_ms: self.negotiate(request.timeout_ms),
            read_only: request.read_only.map(|_| matches!(self.role, Role::ReadOnly { .. })),
        };
        if request.session == SessionId::NONE {
            self.open(now, conn, handshake, out);
        } else if request.password[..] == password(request.session) {
            self.reattach(conn, handshake, out);
        } else {
            // The rightful owner's connection is not touched. (Apache closes it first, so that whoever
            // guesses an id can disconnect its client.)
            refuse(conn, handshake, out);
        }
    }

    /// Can this server answer such a handshake? Without a leader it cannot, unless it is cut off for so long
    /// that it is read-only and the client asks for that. A client that has seen more than this server would
    /// go back in time here.
    fn can_tell(&self, request: &ConnectRequest) -> bool {
        let serves = match self.role {
            Role::Idle => false,
            // What has become of sessions of the whole ensemble the others know. (Apache would tell the client of
            // one that is too new for this server that it has expired, or take it without asking.)
            Role::ReadOnly { .. } => {
                let session = request.session;
                let of_here = session == SessionId::NONE
                    || self.locals.contains(&session)
                    || self.was_read_only_session(session);
                request.read_only == Some(true) && of_here
            }
            Role::Leader(_) | Role::Learner => true,
        };
        serves && request.last_zxid_seen <= self.tree.zxid()
    }

    fn negotiate(&self, timeout_ms: i32) -> i32 {
        timeout_ms.max(self.settings.min_session_timeout_ms).min(self.settings.max_session_timeout_ms)
    }

    /// A new session; the client is answered when its transaction is applied, or at once when it has none.
    fn open(&mut self, now: WallMillis, conn: ConnId, handshake: Handshake, out: &mut Vec<Effect>) {
        if self.opens_local() && self.locals.len() >= MAX_LOCAL_SESSIONS {
            return self.close(conn, out);
        }
        let session = self.new_session_id();
        let timeout_ms = handshake.timeout_ms;
        let handshake = Handshake { session, ..handshake };
        if self.opens_local() {
            self.locals.insert(session);
            return self.establish(conn, handshake, self.tree.zxid(), out);
        }
        self.handshakes.insert(conn, handshake);
        self.opening.insert(session, conn);
        self.touch(session, timeout_ms);
        let (op, auth) = (Op::CreateSession { timeout_ms }, self.nobody.clone());
        self.order(now, Forwarded { session, local: false, cxid: 0, op, auth });
    }

    /// No id up to the newest of this server's that the tree knows is given again.
    pub(super) fn skip_known_ids(&mut self) {
        let (first, last) = ids_of(self.settings.me);
        if let Some((newest, _)) = self.tree.sessions().range(first..=last).next_back()
            && *newest >= self.next_session
            && *newest < last
        {
            self.next_session = SessionId(newest.0 + 1);
        }
    }

    /// An id that no session has, and that none of this server's has had as far as the tree tells.
    fn new_session_id(&mut self) -> SessionId {
        self.skip_known_ids();
        let (first, last) = ids_of(self.settings.me);
        loop {
            let id = self.next_session;
            self.next_session = if id < last { SessionId(id.0 + 1) } else { first };
            // i64::MIN marks containers, and 0 is no session.
            let usable = id != SessionId(i64::MIN) && id != SessionId::NONE;
            let is_taken = self.tree.sessions().contains_key(&id)
                || self.opening.contains_key(&id)
                || self.locals.contains(&id);
            if usable && !is_taken {
                return id;
            }
        }
    }

    /// A session that says it goes on here, with the right password.
    fn reattach(&mut self, conn: ConnId, handshake: Handshake, out: &mut Vec<Effect>) {
        let Handshake { session, timeout_ms, .. } = handshake;
        if self.locals.contains(&session) {
            // All that it has asked for was sent from here, and is known by that.
            return self.establish(conn, handshake, self.tree.zxid(), out);
        }
        match &mut self.role {
            Role::Leader(preparer) => {
                if preparer.attach(&self.tree, session, self.settings.me, timeout_ms) {
                    let last = preparer.last();
                    let since = self.asked_up_to(last);
                    self.establish(conn, handshake, since, out);
                } else {
                    refuse(conn, handshake, out);
                }
            }
            Role::Learner => {
                // Of two that wait for the same word the later one is the client's newer wish.
                if let Some(earlier) = self.revalidating.get(&session).copied() {
                    self.close(earlier, out);
                }
                self.handshakes.insert(conn, handshake);
                self.revalidating.insert(session, conn);
                out.push(Effect::Revalidate { session, timeout_ms });
            }
            // It was a session of this read-only time, and is over.
            Role::ReadOnly { .. } => refuse(conn, handshake, out),
            Role::Idle => unreachable!("a server that serves nobody answers no handshake"),
        }
    }

    /// The leader's word. Nobody waits for it when the client has gone, or when an earlier word was for
    /// both of its handshakes.
    pub(super) fn revalidated(&mut self, session: SessionId, valid: Option<Zxid>, out: &mut Vec<Effect>) {
        if let Some(conn) = self.revalidating.remove(&session) {
            self.finish_handshake(conn, valid, out);
        }
    }

    /// The transaction of a new session is applied, or was refused.
    pub(super) fn opened(&mut self, session: SessionId, done: bool, out: &mut Vec<Effect>) {
        if let Some(conn) = self.opening.remove(&session) {
            // A new session has asked for nothing before.
            self.finish_handshake(conn, done.then_some(self.tree.zxid()), out);
        }
    }

    fn finish_handshake(&mut self, conn: ConnId, accepted: Option<Zxid>, out: &mut Vec<Effect>) {
        let handshake = self.handshakes.remove(&conn).expect("who waits for a session is in a handshake");
        match accepted {
            Some(since) => self.establish(conn, handshake, since, out),
            None => refuse(conn, handshake, out),
        }
    }

    /// The session is served on this connection, and on no other one here. What it asked for on earlier
    /// ones has a zxid up to `since`.
    fn establish(&mut self, conn: ConnId, handshake: Handshake, since: Zxid, out: &mut Vec<Effect>) {
        let Handshake { session, timeout_ms, read_only } = handshake;
        if let Some(other) = self.attached.get(&session).copied() {
            self.close(other, out);
        }
        self.attached.insert(session, conn);
        self.clients.insert(conn, Client::new(session, timeout_ms, since));
        self.touch(session, timeout_ms);
        let response = ConnectResponse { timeout_ms, session, password: password(session), read_only };
        out.push(Effect::Outcome(Outcome::Connected { conn, response }));
    }
}

/// A response of zeros: to the client its session is over.
fn refuse(conn: ConnId, handshake: Handshake, out: &mut Vec<Effect>) {
    let response = ConnectResponse {
        timeout_ms: 0,
        session: SessionId::NONE,
        password: [0; 16],
        read_only: handshake.read_only,
    };
    out.push(Effect::Outcome(Outcome::Connected { conn, response }));
    out.push(Effect::Outcome(Outcome::Close { conn }));
}

/// The ids that a server gives: its number in the top byte.
fn ids_of(me: Sid) -> (SessionId, SessionId) {
    let first = i64::from_be_bytes([me.0, 0, 0, 0, 0, 0, 0, 0]);
    (SessionId(first), SessionId(first | ((1 << 56) - 1)))
}
