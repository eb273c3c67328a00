//! Which sessions may write, and from where: the tree's sessions, and what is proposed about them.
//!
//! A session's owner is the server through which it was attached last. It is known to the leader alone and
//! only since its leadership began; until then whoever comes first is taken at its word, as in Apache.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::tree::Tree;
use crate::types::{Owner, SessionId, Sid, ZkError, Zxid};

/// Where a session is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attachment {
    owner: Owner,
    /// As negotiated there; `None` when nobody said so since the leadership began.
    timeout_ms: Option<i32>,
}

/// What the leader knows of sessions beyond the tree. Bounded by the sessions themselves.
#[derive(Debug, Default)]
pub struct Sessions {
    /// Their beginning is proposed, not applied.
    opening: BTreeSet<SessionId>,
    /// Closing: by which transaction (the last one, if several say so).
    closing: BTreeMap<SessionId, Zxid>,
    attached: BTreeMap<SessionId, Attachment>,
}

impl Sessions {
    /// Is there, or will there be, such a session? It may be closing.
    pub fn is_known(&self, tree: &Tree, session: SessionId) -> bool {
        tree.session_timeout(session).is_some() || self.opening.contains(&session)
    }

    /// Is it known, and not closing?
    pub fn is_open(&self, tree: &Tree, session: SessionId) -> bool {
        self.is_known(tree, session) && !self.closing.contains_key(&session)
    }

    /// See [`super::Preparer::admit`].
    pub fn admit(&mut self, tree: &Tree, session: SessionId, at: Sid) -> Result<(), ZkError> {
        if !self.is_open(tree, session) {
            return Err(ZkError::SessionExpired);
        }
        let attachment = self.attached.entry(session).or_insert(Attachment { owner: at, timeout_ms: None });
        if attachment.owner == at { Ok(()) } else { Err(ZkError::SessionMoved) }
    }

    /// See [`super::Preparer::attach`].
    pub fn attach(&mut self, tree: &Tree, session: SessionId, at: Sid, timeout_ms: i32) -> bool {
        let open = self.is_open(tree, session);
        if open {
            self.attached.insert(session, Attachment { owner: at, timeout_ms: Some(timeout_ms) });
        }
        open
    }

    /// See [`super::Preparer::timeout_ms`].
    pub fn timeout_ms(&self, tree: &Tree, session: SessionId) -> Option<i32> {
        let negotiated = self.attached.get(&session).and_then(|attachment| attachment.timeout_ms);
        negotiated.or_else(|| tree.session_timeout(session))
    }

    /// It is proposed that this session begins.
    pub fn open(&mut self, session: SessionId, owner: Owner, timeout_ms: i32) {
        self.opening.insert(session);
        self.attached.insert(session, Attachment { owner, timeout_ms: Some(timeout_ms) });
    }

    /// It is proposed that this session ends.
    pub fn close(&mut self, zxid: Zxid, session: SessionId) {
        self.closing.insert(session, zxid);
    }

    /// The tree knows of this session's beginning.
    pub fn opened(&mut self, session: SessionId) {
        self.opening.remove(&session);
    }

    /// The tree knows of this session's end.
    pub fn closed(&mut self, zxid: Zxid, session: SessionId) {
        if self.closing.get(&session).is_some_and(|at| *at <= zxid) {
            self.closing.remove(&session);
            self.attached.remove(&session);
        }
    }

    /// Is nothing pending?
    #[cfg(test)]
    pub fn is_settled(&self) -> bool {
        self.opening.is_empty() && self.closing.is_empty()
    }
}
