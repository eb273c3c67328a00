//! Local sessions: only this server knows them. They cost no transaction, survive nothing but a reconnect to
//! this server while it goes on serving, and are expired here.
//!
//! They write through the leader like all others, who takes this server's word that they are open. Ephemerals
//! need a session that everybody knows: where that is wanted, the first create of one upgrades the session, a
//! createSession of the same id going ahead of it. From then on it is a global session like any other.
//!
//! In read-only mode all sessions are local. Apache makes none there unless local sessions are enabled, and
//! answers the handshake with a reply that no client can read.

use super::pipeline::{Sent, SentKind};
use super::{Effect, LocalSessions, Replica, Role};
use crate::core::prepare::is_ephemeral;
use crate::jute::opcode;
use crate::types::{ConnId, CreateKind, Forwarded, Op, SessionId, WallMillis};

/// Local sessions at a time; whoever comes beyond that is closed and may try another server. A session outlives its
/// connection for its time-out, so the limits of connections do not bound them: a client that connects as fast
/// as it can would take 200 bytes of memory each time.
pub(super) const MAX_LOCAL_SESSIONS: usize = 1_000_000;

impl Replica {
    /// Does a new session become a local one?
    pub(super) fn opens_local(&self) -> bool {
        matches!(self.role, Role::ReadOnly { .. }) || self.settings.local_sessions != LocalSessions::Off
    }

    /// A session was heard from, on a connection with this time-out.
    pub(super) fn touch(&mut self, session: SessionId, timeout_ms: i32) {
        if self.locals.contains(&session) {
            self.touches.touch_local(session, timeout_ms);
        } else {
            self.touches.touch(session, timeout_ms);
        }
    }

    /// A local session that is about to create an ephemeral becomes a global one, if it may. (If not, the
    /// create is refused where all writes are judged.)
    pub(super) fn upgrade_for(&mut self, now: WallMillis, conn: ConnId, session: SessionId, op: &Op) {
        let upgrades = self.settings.local_sessions == LocalSessions::Upgraded && creates_ephemeral(op);
        if !upgrades || !self.locals.remove(&session) {
            return;
        }
        let timeout_ms = self.clients[&conn].timeout_ms;
        // Heard from as a local one a moment ago; from here on it is the leader that counts its silence.
        self.touches.forget(session);
        self.touches.touch(session, timeout_ms);
        let sent =
            Sent { cxid: 0, conn, after: self.tree.zxid(), kind: SentKind::Upgrade, create2: Vec::new() };
        self.sent.entry(session).or_default().push_back(sent);
        let (op, auth) = (Op::CreateSession { timeout_ms }, self.nobody.clone());
        self.order(now, Forwarded { session, local: false, cxid: 0, op, auth });
    }

    /// A local session is over. It has no ephemerals, and nobody else has ever heard of it.
    pub(super) fn close_local(&mut self, session: SessionId, out: &mut Vec<Effect>) {
        assert!(self.locals.remove(&session), "a session is local until it is over or upgraded");
        self.end(session, out);
    }

    /// Was this an id of a session of this server's present read-only time?
    pub(super) fn was_read_only_session(&self, session: SessionId) -> bool {
        match self.role {
            Role::ReadOnly { since } => since <= session && session < self.next_session,
            _ => false,
        }
    }
}

/// Does a request make ephemerals, so that its session must be known to all? As in Apache, the opcodes 1 and 15
/// are looked at, also within a multi, where a createTTL with the flags of an ephemeral is one of them.
fn creates_ephemeral(op: &Op) -> bool {
    match op {
        Op::Create { kind: CreateKind::Create | CreateKind::Create2, flags, .. } => is_ephemeral(*flags),
        Op::Multi(members) => members.iter().any(|member| match member {
            Op::Create { kind: CreateKind::Ttl(_), flags, .. } => is_ephemeral(*flags),
            member => creates_ephemeral(member),
        }),
        _ => false,
    }
}

/// Is it a request that a server without a leader refuses? All that is ordered there, sync too, whether or not
/// its body makes sense.
pub(super) fn needs_leader(op: &Op) -> bool {
    match op {
        Op::Sync { .. } => true,
        Op::Undecodable { opcode } => opcode::is_ordered(*opcode),
        // A local session's end is nobody else's business, and there are no others in read-only mode.
        Op::CloseSession => false,
        op => op.is_write(),
    }
}
