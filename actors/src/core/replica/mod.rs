//! The replica's core: owns the tree, answers reads, prepares writes (leader) or forwards them (learner),
//! applies what is committed, and keeps each client's requests in order.
//!
//! ```text
//!  Connect ──▶ handshake ──▶ client: queue of what waits    ◀── Commit (own write at the front: reply)
//!  Requests ─▶ pipeline ──┬─ read, nothing waits: answered at once
//!                         ├─ read behind a write or sync: waits in the queue
//!                         └─ write: Propose / Forward at once, and its place in the queue
//! ```
//!
//! | file | what |
//! |---|---|
//! | `handshake` | new sessions, re-attached ones, refusals |
//! | `local` | sessions that only this server knows, and what they may not do |
//! | `password` | the proof of a session |
//! | `pipeline` | the queue of each connection |
//! | `reads` | answers out of the tree |
//! | `commit` | the next transaction: tree, changes, reply |
//! | `leader` | what only the leader is asked: forwarded writes, other members' sessions, expiry |
//! | `touches` | who was heard from |
//!
//! Invariants:
//! - a connection in `clients` is the one its session is attached to here (`attached`), and vice versa;
//! - a session in `locals` is in no transaction, so not in the tree; an upgrade takes it out before it is;
//! - at the front of a queue is a write or a sync that is not finished, or nothing;
//! - `sent` has the writes of this server's sessions in the order in which they will be committed; each of
//!   them takes a zxid, so each is found there again;
//! - an outcome's changes stand before the reply of the write that made them;
//! - a tree that has turned out to differ from the leader's goes on taking what is committed, so that it stays where
//!   the history is, and is shown to nobody.
//!
//! Deliberately absent: throttling (the listener's), watches (the watch
//! manager's: all it needs leaves here in order).

mod commit;
mod handshake;
mod leader;
mod local;
mod password;
mod pipeline;
mod reads;
#[cfg(test)]
mod tests;
mod touches;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::core::prepare::{Preparer, Rules};
use crate::core::quota::Remark;
use crate::core::tree::{MortalPage, MortalPlace, Tree};
use crate::core::watches::{Change, Outcome};
use crate::types::{
    Auth, ConnId, ConnectRequest, Entry, Epoch, Forwarded, Request, Service, SessionId, Sid, Str, Tenure,
    WallMillis, Zxid,
};
use handshake::Handshake;
use pipeline::{Client, Sent};
use touches::Touches;

pub use password::password;

/// What the replica hears.
#[derive(Debug)]
#[allow(missing_docs)] // the fields are what the variant says, by their types
pub enum Input {
    /// A client's handshake. Its connection is already known to the watch manager. It sends nothing
    /// else until it is told Connected.
    Connect { now: WallMillis, conn: ConnId, request: ConnectRequest },
    /// Requests of clients, each client's in order. `now` dates the transactions made of them.
    Requests { now: WallMillis, requests: Vec<Request> },
    /// A connection is gone (by itself, or because of a Close).
    Disconnected(ConnId),
    /// Whether and how to serve. None closes all connections.
    Service(Service),
    /// The leader goes on with its next epoch. For clients nothing changes.
    NextEpoch(Epoch),
    /// Committed: apply, in zxid order.
    Commit(Vec<Arc<Entry>>),
    /// Leader: writes that came by a learner.
    Forwarded { now: WallMillis, from: Sid, requests: Vec<Forwarded> },
    /// Leader: may this session go on at that learner?
    Revalidate { from: Sid, tenure: Tenure, session: SessionId, timeout_ms: i32 },
    /// Learner: the leader's word on a session.
    Revalidated { session: SessionId, valid: Option<Zxid> },
    /// The oldest sync asked for is done: everything proposed before it has been committed here.
    SyncDone,
    /// The session tracker's verdict, on local sessions everywhere, on global ones at the leader (see [`crate::core::sessions::Effect::Expire`]).
    Expire { now: WallMillis, sessions: Vec<SessionId>, seen: u64 },
    /// Leader: this container or TTL node was found to be over.
    DeleteContainer { now: WallMillis, path: Str },
    /// Disks are nearly full: refuse writes that need room; or take them again. A change of service takes it back.
    RefuseWrites(bool),
    /// Another tree: at start, after a SNAP, after a TRUNC below the old one. Never while serving.
    Install(Box<Tree>),
}

/// What the replica wants done, in this order.
#[derive(Debug, PartialEq)]
#[allow(missing_docs)] // as above
pub enum Effect {
    /// For the watch manager.
    Outcome(Outcome),
    /// Leader: propose these; zxids go on without a hole.
    Propose(Vec<Arc<Entry>>),
    /// Learner: these writes are for the leader.
    Forward(Vec<Forwarded>),
    /// Tell me when everything proposed or forwarded so far is committed; answered by SyncDone, in order.
    Sync,
    /// Learner: ask the leader about a session; answered by Revalidated.
    Revalidate { session: SessionId, timeout_ms: i32 },
    /// Leader: the answer to a learner's Revalidate.
    RevalidateAnswer { to: Sid, tenure: Tenure, session: SessionId, valid: Option<Zxid> },
    /// These sessions were heard from, global ones and local ones; once a turn.
    Touched { batch: u64, sessions: Vec<(SessionId, i32)>, local: Vec<(SessionId, i32)> },
    /// A session is gone.
    Closed(SessionId),
    /// This server leads: these are the sessions to track.
    Lead(Vec<(SessionId, i32)>),
    /// The tree is not the leader's. Nobody is served from it any more.
    Diverged(Divergence),
    /// Leader: a line for the log about a quota.
    Quota(Remark),
    /// This server does not lead: collect touches. Its local sessions are gone.
    Learn,
}

/// After a transaction the tree is not what the leader has foretold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The transaction.
    pub zxid: Zxid,
    /// The digest that the transaction says.
    pub expected: i64,
    /// The tree's.
    pub actual: i64,
    /// Transactions that this tree has taken since it was loaded or installed, this one included.
    pub applied: u64,
}

/// What does not change while the process lives.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This server.
    pub me: Sid,
    /// Bounds of the negotiated session time-out.
    pub min_session_timeout_ms: i32,
    /// See above.
    pub max_session_timeout_ms: i32,
    /// Where session ids begin: see [`session_id_base`].
    pub first_session: SessionId,
    /// What `/zookeeper/config` says, and since when; nothing in a standalone server.
    pub config: Option<(String, WallMillis)>,
    /// What becomes of new sessions.
    pub local_sessions: LocalSessions,
    /// What requests are judged by.
    pub rules: Rules,
}

/// Are new sessions local ones, of which only this server knows? Apache's localSessionsEnabled and
/// localSessionsUpgradingEnabled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalSessions {
    /// They are global: each is a transaction.
    #[default]
    Off,
    /// They are local, and may have no ephemerals.
    On,
    /// They are local until they create their first ephemeral.
    Upgraded,
}

/// The first session id of a process: the server in the top byte, the low 40 bits of the wall clock's
/// milliseconds, 16 zero bits to count in. (Apache takes a monotonic clock, which a reboot sets back.)
pub fn session_id_base(me: Sid, now: WallMillis) -> SessionId {
    let clock = ((now as u64) << 24) >> 8;
    SessionId((clock | (u64::from(me.0) << 56)) as i64)
}

/// How writes leave.
#[derive(Debug)]
enum Role {
    /// Nobody is served.
    Idle,
    /// They do not. Ids of sessions that were made in this time begin here.
    ReadOnly { since: SessionId },
    /// Prepared here.
    Leader(Box<Preparer>),
    /// Forwarded.
    Learner,
}

/// A write, when it came, and by which server.
#[derive(Debug)]
struct Incoming {
    now: WallMillis,
    from: Sid,
    write: Forwarded,
}

/// The replica: see the module's story.
#[derive(Debug)]
pub struct Replica {
    settings: Settings,
    tree: Tree,
    role: Role,
    /// It has turned out not to be what the leader's transactions make: served to nobody, until it is replaced.
    diverged: bool,
    /// Transactions applied since it was installed.
    applied: u64,
    /// The next session id, if nobody has it.
    next_session: SessionId,
    /// Connections that are told Connected or Close later.
    handshakes: BTreeMap<ConnId, Handshake>,
    /// Sessions that only this server knows.
    locals: BTreeSet<SessionId>,
    /// Sessions proposed for a handshake here, not applied.
    opening: BTreeMap<SessionId, ConnId>,
    /// Sessions the leader was asked about; the latest handshake of each.
    revalidating: BTreeMap<SessionId, ConnId>,
    /// Connections with a session.
    clients: BTreeMap<ConnId, Client>,
    /// The connection of each session that has one here.
    attached: BTreeMap<SessionId, ConnId>,
    /// Writes of sessions here that wait for their commit, also those whose connection is gone.
    sent: BTreeMap<SessionId, VecDeque<Sent>>,
    /// Syncs that wait for their SyncDone, oldest first.
    syncs: VecDeque<(ConnId, u64)>,
    /// The number of the last sync.
    last_sync: u64,
    touches: Touches,
    /// Requests in the queues of all clients.
    outstanding: usize,
    /// Writes that need room are refused.
    no_room: bool,
    /// Leader: writes for the next epoch, this one being used up. They are as many as the servers let their clients
    /// have under way.
    early: VecDeque<Incoming>,
    /// Prepared in this step.
    proposals: Vec<Arc<Entry>>,
    /// To be forwarded in this step.
    forwards: Vec<Forwarded>,
    /// What the transaction being applied changes; kept for its allocation.
    changes: Vec<Change>,
    /// The identities of the server's own writes: none.
    nobody: Auth,
}

impl Replica {
    /// A replica that serves nobody yet.
    pub fn new(settings: Settings, mut tree: Tree) -> Replica {
        tree.set_extended_types(settings.rules.extended_types);
        Replica {
            next_session: settings.first_session,
            settings,
            tree,
            role: Role::Idle,
            diverged: false,
            applied: 0,
            handshakes: BTreeMap::new(),
            locals: BTreeSet::new(),
            opening: BTreeMap::new(),
            revalidating: BTreeMap::new(),
            clients: BTreeMap::new(),
            attached: BTreeMap::new(),
            sent: BTreeMap::new(),
            syncs: VecDeque::new(),
            last_sync: 0,
            touches: Touches::default(),
            outstanding: 0,
            no_room: false,
            early: VecDeque::new(),
            proposals: Vec::new(),
            forwards: Vec::new(),
            changes: Vec::new(),
            nobody: Arc::from([]),
        }
    }

    /// The applied state.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Is the tree known to differ from the leader's?
    pub fn is_diverged(&self) -> bool {
        self.diverged
    }

    /// Some containers and TTL nodes that are over at this time: see [`Tree::mortals_over`].
    pub fn mortals_over(&self, now: WallMillis, after: Option<MortalPlace>) -> MortalPage {
        self.tree.mortals_over(now, self.settings.rules.max_never_used_ms, after)
    }

    /// Requests of clients that wait for a commit or a sync, or behind one.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Sessions that only this server knows.
    pub fn local_session_count(&self) -> usize {
        self.locals.len()
    }

    /// Connections with a session.
    pub fn client_count(&self) -> usize {
        self.clients.len()
    }

    /// One input; what follows from it is added to `out`.
    pub fn step(&mut self, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Connect { now, conn, request } => self.connect(now, conn, request, out),
            Input::Requests { now, requests } => {
                for request in requests {
                    self.request(now, request, out);
                }
            }
            Input::Disconnected(conn) => {
                self.forget(conn);
                out.push(Effect::Outcome(Outcome::Gone { conn }));
            }
            Input::Service(service) => self.serve(service, out),
            Input::NextEpoch(epoch) => self.turn_to(epoch),
            Input::Commit(entries) => {
                for entry in entries {
                    self.apply(&entry, out);
                }
            }
            Input::Forwarded { now, from, requests } => self.forwarded(now, from, requests),
            Input::Revalidate { from, tenure, session, timeout_ms } => {
                self.revalidate(from, tenure, session, timeout_ms, out);
            }
            Input::Revalidated { session, valid } => self.revalidated(session, valid, out),
            Input::SyncDone => self.sync_done(out),
            Input::RefuseWrites(refuse) => self.no_room = refuse,
            Input::Expire { now, sessions, seen } => self.expire(now, sessions, seen, out),
            Input::DeleteContainer { now, path } => self.delete_container(now, path),
            Input::Install(tree) => self.install(*tree),
        }
        self.send_writes(out);
        if let Role::Leader(preparer) = &mut self.role {
            out.extend(preparer.take_remarks().into_iter().map(Effect::Quota));
        }
        self.touches.take(out);
    }

    /// Whether and how to serve from now on. What was in flight has lost its meaning: clients are not
    /// told what became of it, they look.
    fn serve(&mut self, service: Service, out: &mut Vec<Effect>) {
        self.close_all(out);
        self.no_room = false;
        if let Some((text, since)) = &self.settings.config
            && !matches!(service, Service::None)
        {
            self.tree.set_config(text, *since);
        }
        match service {
            // No leader: nobody is served, and nobody's silence is counted.
            Service::None => {
                if !matches!(self.role, Role::Idle) {
                    out.push(Effect::Learn);
                }
                self.role = Role::Idle;
            }
            // Cut off: who asks for it may read, with a session that is only of this server and this time.
            Service::ReadOnly => {
                self.skip_known_ids();
                self.role = Role::ReadOnly { since: self.next_session };
                out.push(Effect::Learn);
            }
            // This server orders the writes; every session it knows gets its full time-out anew.
            Service::Leader(epoch) => {
                assert!(
                    self.tree.zxid() <= epoch.mark(),
                    "the tree is at {} before epoch {epoch} begins",
                    self.tree.zxid()
                );
                // The others will follow this tree, whatever it was once compared with.
                self.diverged = false;
                self.role = Role::Leader(Box::new(Preparer::new(epoch, self.settings.rules, &self.tree)));
                out.push(Effect::Lead(self.tree.sessions().iter().map(|(id, ms)| (*id, *ms)).collect()));
            }
            // The role does not know yet that it is over.
            Service::Learner { .. } if self.diverged => {}
            // Another one orders the writes.
            Service::Learner { .. } => {
                self.role = Role::Learner;
                out.push(Effect::Learn);
            }
        }
    }

    fn install(&mut self, tree: Tree) {
        assert!(matches!(self.role, Role::Idle), "a tree is installed only while nobody is served");
        self.tree = tree;
        (self.diverged, self.applied) = (false, 0);
        self.tree.set_extended_types(self.settings.rules.extended_types);
    }

    /// Sends on what this step has prepared or taken for the leader.
    fn send_writes(&mut self, out: &mut Vec<Effect>) {
        if !self.proposals.is_empty() {
            out.push(Effect::Propose(std::mem::take(&mut self.proposals)));
        }
        if !self.forwards.is_empty() {
            out.push(Effect::Forward(std::mem::take(&mut self.forwards)));
        }
    }

    /// Gives a write its place in the order, here or at the leader.
    fn order(&mut self, now: WallMillis, write: Forwarded) {
        match &self.role {
            Role::Leader(_) => self.propose(Incoming { now, from: self.settings.me, write }),
            Role::Learner => self.forwards.push(write),
            Role::Idle | Role::ReadOnly { .. } => unreachable!("writes are refused where they came"),
        }
    }

    /// Drops everything about a connection but its sent writes, which still commit.
    fn forget(&mut self, conn: ConnId) {
        if let Some(client) = self.clients.remove(&conn) {
            self.outstanding -= client.queue.len();
            self.attached.remove(&client.session);
        }
        if let Some(handshake) = self.handshakes.remove(&conn) {
            for waiting in [&mut self.opening, &mut self.revalidating] {
                if waiting.get(&handshake.session) == Some(&conn) {
                    waiting.remove(&handshake.session);
                }
            }
        }
    }

    /// Closes a connection behind everything it was told. What it asked and was not told is dropped.
    fn close(&mut self, conn: ConnId, out: &mut Vec<Effect>) {
        self.forget(conn);
        out.push(Effect::Outcome(Outcome::Close { conn }));
    }

    fn close_all(&mut self, out: &mut Vec<Effect>) {
        let conns: Vec<ConnId> = self.clients.keys().chain(self.handshakes.keys()).copied().collect();
        for conn in conns {
            self.close(conn, out);
        }
        self.early.clear();
        self.sent.clear();
        self.syncs.clear();
        self.locals.clear();
        self.touches.clear();
        assert_eq!(self.outstanding, 0, "no client, so nothing that one waits for");
        assert!(self.attached.is_empty() && self.opening.is_empty() && self.revalidating.is_empty());
    }
}
