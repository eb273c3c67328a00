//! Turning a request into a transaction, against the tree and what is proposed but not yet applied.
//!
//! Only the leader prepares, one write after the other; the order in which it does so *is* the order of
//! the transactions. A write is judged by the state it will meet when it is applied: the tree, and on top
//! of it the overlay of proposals that are not applied yet. What comes out is
//! absolute (final paths, new versions), so that applying it asks no questions any more.
//!
//! ```text
//!   request ─▶ session? ─▶ Draft (this write's own changes)
//!                           │ looks through to
//!                          Overlay (proposed, not applied) ─▶ Tree (applied)
//! ```
//!
//! Invariants:
//! - when the epoch is used up nothing is prepared until the next one begins;
//! - every write takes the next zxid, a refused one too: its transaction is the error;
//! - a refused write leaves nothing behind in the overlay: its draft is dropped;
//! - an overlay entry lives exactly until its zxid is applied, and then the tree says the same;
//! - a transaction says what digest the tree has after it: the one before it and what its draft changed.
//!
//! Deliberately absent: reconfiguration, and when containers and TTL nodes are looked for (`containers`).

mod charges;
mod multi;
mod ops;
mod overlay;
mod sessions;

#[cfg(test)]
mod tests;

use crate::core::acl;
use crate::core::mutant::{Mutant, mutated};
use crate::core::quota::Remark;
use crate::core::tree::{DIGEST_VERSION, Tree};
use crate::types::{
    Epoch, EpochLength, Forwarded, Op, SessionId, Sid, Str, Txn, TxnBody, TxnDigest, TxnHeader, WallMillis,
    ZkError, Zxid,
};
use ops::Asker;
pub use ops::is_ephemeral;
use overlay::{Changes, Draft, Overlay};
use sessions::Sessions;

/// The longest list of ephemerals that a closeSession carries, in bytes. A transaction must fit into a frame
/// between servers, and paths may be long: a session of many could never be closed.
pub const MAX_LISTED_BYTES: usize = 1 << 20;

/// What requests are judged by besides the tree. The same for a whole ensemble.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Who may do what.
    pub acl: acl::Rules,
    /// May there be TTL nodes (Apache's extendedTypesEnabled)?
    pub extended_types: bool,
    /// Are hard quotas enforced (Apache's enforceQuota)?
    pub enforce_quota: bool,
    /// How long a container may stay that never had a child, in ms; 0 is for ever.
    pub max_never_used_ms: i64,
    /// With so many transactions an epoch is used up: nothing more can be proposed in it.
    pub epoch_length: EpochLength,
}

/// The leader's side of every write: see the module's story.
#[derive(Debug)]
pub struct Preparer {
    rules: Rules,
    /// The zxid handed out last; the epoch's mark at first.
    last: Zxid,
    /// What the tree's digest will be after that transaction.
    digest: i64,
    overlay: Overlay,
    sessions: Sessions,
    /// What operators should know of the quotas, and have not been told.
    remarks: Vec<Remark>,
}

impl Preparer {
    /// A preparer whose first transaction is `(epoch, 1)`. Nothing is proposed yet, so the tree is as the
    /// transaction will meet it; and no session has an owner yet: the first server that speaks for it becomes it.
    pub fn new(epoch: Epoch, rules: Rules, tree: &Tree) -> Preparer {
        let (overlay, sessions, remarks) = Default::default();
        Preparer { rules, last: epoch.mark(), digest: tree.digest(), overlay, sessions, remarks }
    }

    /// One that goes on behind this zxid.
    #[cfg(test)]
    pub fn new_at(last: Zxid, tree: &Tree) -> Preparer {
        Preparer { last, ..Preparer::new(last.epoch(), Rules::default(), tree) }
    }

    /// Has had all transactions that the epoch may have.
    #[cfg(test)]
    pub fn end_epoch(&mut self) {
        self.rules.epoch_length = EpochLength(self.last.counter());
    }

    /// The zxid handed out last.
    pub fn last(&self) -> Zxid {
        self.last
    }

    /// Has the epoch all the transactions that it may have? Then the next one is due ([`Preparer::turn_to`]).
    pub fn is_used_up(&self) -> bool {
        self.rules.epoch_length.is_used_up(self.last)
    }

    /// The leadership goes on in its next epoch. Everything proposed in this one is applied, so the overlay is
    /// empty; the sessions stay with their owners.
    pub fn turn_to(&mut self, epoch: Epoch) {
        assert!(epoch.mark() > self.last, "{} is not behind epoch {epoch}", self.last);
        self.last = epoch.mark();
    }

    /// Makes the next transaction of a write that came by the server `from`. Refused writes are
    /// transactions too. Not to be asked for more when the epoch is used up.
    pub fn prepare(&mut self, tree: &Tree, now: WallMillis, from: Sid, write: Forwarded) -> Txn {
        assert!(!self.is_used_up(), "the counter must not run into the epoch");
        let Forwarded { session, local, cxid, op, auth } = write;
        let zxid = self.last.next();
        let body = match op {
            Op::CreateSession { timeout_ms } => self.open_session(tree, from, session, timeout_ms),
            Op::CloseSession => self.close_session(tree, zxid, now, session),
            op => {
                // Whether a local session is open is for its own server to know.
                let admitted = if local { Ok(()) } else { self.sessions.admit(tree, session, from) };
                let mut draft = Draft::new(tree, &self.overlay, zxid, now);
                let asker = Asker { session, admitted, local, auth: &auth, rules: self.rules };
                let prepared = ops::prepare(&mut draft, &asker, op);
                self.remarks.append(&mut draft.remarks);
                match prepared {
                    Ok(body) => {
                        let changes = draft.into_changes();
                        self.absorb(zxid, changes);
                        body
                    }
                    Err(refused) => refused,
                }
            }
        };
        self.seal(TxnHeader { session, cxid, zxid, time: now }, body)
    }

    /// Makes the next transaction of the deletion of a container or TTL node that was found to be over. It is judged
    /// once more, since it was found some time ago: `None` when it is not over any more. What has changes
    /// pending, a new child among them, is left for the next time, and so is everything when the epoch is used up.
    pub fn delete_container(&mut self, tree: &Tree, now: WallMillis, path: Str) -> Option<Txn> {
        let is_over = tree.is_over(&path, now, self.rules.max_never_used_ms);
        if !is_over || self.overlay.is_pending(&path) || self.is_used_up() {
            return None;
        }
        let zxid = self.last.next();
        let mut draft = Draft::new(tree, &self.overlay, zxid, now);
        let node = draft.get(&path).expect("the tree has just found it");
        draft.remove(&path, node);
        let changes = draft.into_changes();
        self.absorb(zxid, changes);
        let header = TxnHeader { session: SessionId::NONE, cxid: 0, zxid, time: now };
        Some(self.seal(header, TxnBody::Delete { path, container: true }))
    }

    /// The transaction is made: it has the last zxid.
    fn seal(&mut self, header: TxnHeader, body: TxnBody) -> Txn {
        self.last = header.zxid;
        let digest = TxnDigest { version: DIGEST_VERSION, tree: self.digest };
        let digest = has_digest(&body).then_some(digest);
        Txn { header, body, digest }
    }

    fn absorb(&mut self, zxid: Zxid, changes: Changes) {
        let more = self.overlay.absorb(zxid, changes);
        self.digest = self.digest.wrapping_add(more);
    }

    /// The tree has applied this, and everything before it: the overlay forgets it.
    pub fn applied(&mut self, txn: &Txn) {
        let TxnHeader { session, zxid, .. } = txn.header;
        self.overlay.applied(zxid);
        match txn.body {
            TxnBody::CreateSession { .. } => self.sessions.opened(session),
            TxnBody::CloseSession { .. } => self.sessions.closed(zxid, session),
            _ => {}
        }
    }

    /// What operators should know of the quotas since they were told last.
    pub fn take_remarks(&mut self) -> Vec<Remark> {
        std::mem::take(&mut self.remarks)
    }

    /// May this session be served at that server? A session without an owner takes it as its owner.
    pub fn admit(&mut self, tree: &Tree, session: SessionId, at: Sid) -> Result<(), ZkError> {
        self.sessions.admit(tree, session, at)
    }

    /// Is this a session that nobody has asked to close?
    pub fn is_open(&self, tree: &Tree, session: SessionId) -> bool {
        self.sessions.is_open(tree, session)
    }

    /// A client goes on with its session at that server, with that time-out: from now on its writes come
    /// from there. False, and nothing changes, when the session is unknown or closing.
    pub fn attach(&mut self, tree: &Tree, session: SessionId, at: Sid, timeout_ms: i32) -> bool {
        self.sessions.attach(tree, session, at, timeout_ms)
    }

    /// The time-out negotiated where the session was attached last, or the one it was opened with.
    pub fn timeout_ms(&self, tree: &Tree, session: SessionId) -> Option<i32> {
        self.sessions.timeout_ms(tree, session)
    }

    /// A session begins. Servers make ids of their own range, so one that is taken is a mistake.
    fn open_session(&mut self, tree: &Tree, from: Sid, session: SessionId, timeout_ms: i32) -> TxnBody {
        if session == SessionId::NONE || self.sessions.is_known(tree, session) {
            return TxnBody::Error(ZkError::SystemError.code());
        }
        self.sessions.open(session, from, timeout_ms);
        TxnBody::CreateSession { timeout_ms }
    }

    /// A session ends, whoever says so: its client, a connection it has left (A12 of Apache's odd corners:
    /// clients close only what they own), or its expiry. Closing twice is harmless.
    fn close_session(&mut self, tree: &Tree, zxid: Zxid, now: WallMillis, session: SessionId) -> TxnBody {
        self.sessions.close(zxid, session);
        let paths = self.overlay.ephemerals(tree, session);
        let mut draft = Draft::new(tree, &self.overlay, zxid, now);
        for path in &paths {
            if let Some(node) = draft.get(path) {
                draft.remove(path, node);
            }
        }
        let changes = draft.into_changes();
        self.absorb(zxid, changes);
        // The tree knows them, too.
        let bytes: usize = paths.iter().map(|path| size_of::<i32>() + path.len()).sum();
        if mutated(Mutant::KeptEphemerals) {
            return TxnBody::CloseSession { paths: Some(Vec::new()) };
        }
        TxnBody::CloseSession { paths: (bytes <= MAX_LISTED_BYTES).then_some(paths) }
    }
}

/// Apache gives a digest to every transaction but an error that stands alone. Behind a closeSession without its list
/// it would read the digest as the list.
fn has_digest(body: &TxnBody) -> bool {
    !matches!(body, TxnBody::Error(_) | TxnBody::CloseSession { paths: None })
}
