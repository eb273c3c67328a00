//! The next transaction: the tree takes it, watchers may hear of it, and whoever asked for it is told.

use super::pipeline::{Sent, SentKind, Slot, reply};
use super::{Divergence, Effect, Replica, Role};
use crate::core::tree::{Applied, DIGEST_VERSION};
use crate::core::watches::Outcome;
use crate::types::{
    CreateKind, Entry, MultiResult, ReplyBody, Service, SessionId, Txn, TxnBody, TxnDigest, TxnHeader,
    ZkError,
};

impl Replica {
    /// Applies the next committed transaction.
    pub(super) fn apply(&mut self, entry: &Entry, out: &mut Vec<Effect>) {
        let txn = &entry.txn;
        let TxnHeader { session, zxid, .. } = txn.header;
        if zxid <= self.tree.zxid() {
            return; // A tree that comes from the disk may have the end of the log in it already.
        }
        let sent = self.take_sent(entry);
        if let Some(sent) = &sent {
            self.drain(sent.conn, true, out);
        }
        let applied = self.tree.apply(txn, &mut self.changes);
        assert_eq!(self.tree.zxid(), zxid, "the tree is where its last transaction is");
        self.applied += 1;
        if let Some(divergence) = self.compare(txn) {
            // Before anybody is told what this transaction has changed.
            self.diverged = true;
            self.changes.clear();
            self.serve(Service::None, out);
            out.push(Effect::Diverged(divergence));
            return;
        }
        out.extend(self.changes.drain(..).map(|change| Effect::Outcome(Outcome::Changed(change))));
        if let Role::Leader(preparer) = &mut self.role {
            preparer.applied(txn);
        }
        if let Some(sent) = sent {
            self.finish_write(sent, txn, applied, out);
        }
        match txn.body {
            TxnBody::CreateSession { .. } => self.opened(session, true, out),
            // An id that was taken, if anything: this session never began.
            TxnBody::Error(_) => self.opened(session, false, out),
            TxnBody::CloseSession { .. } => self.end(session, out),
            _ => {}
        }
    }

    /// Is the tree what the leader has foretold? `None`: it is, or nothing can be said, or everything was said.
    fn compare(&self, txn: &Txn) -> Option<Divergence> {
        let TxnDigest { version, tree: expected } = txn.digest?;
        let (actual, applied) = (self.tree.digest(), self.applied);
        let differs = version == DIGEST_VERSION && expected != actual && !self.diverged;
        differs.then_some(Divergence { zxid: txn.header.zxid, expected, actual, applied })
    }

    /// Is it the oldest write of this session that was sent from here? Writes of one session commit in the order in
    /// which they were sent. Another server may send one with the same numbers: on its way there is an earlier word
    /// that the session goes on at that server, and the leader takes it for the later one.
    fn take_sent(&mut self, Entry { txn, asked_at, .. }: &Entry) -> Option<Sent> {
        if *asked_at != Some(self.settings.me) {
            return None;
        }
        let queue = self.sent.get_mut(&txn.header.session)?;
        let sent = queue.front().expect("an empty queue is removed");
        let of_its_kind = match txn.body {
            TxnBody::CloseSession { .. } => sent.kind == SentKind::Close,
            TxnBody::CreateSession { .. } => sent.kind == SentKind::Upgrade,
            TxnBody::Error(_) => sent.kind != SentKind::Close,
            _ => sent.kind == SentKind::Write,
        };
        if sent.cxid != txn.header.cxid || !of_its_kind || txn.header.zxid <= sent.after {
            return None;
        }
        let sent = queue.pop_front();
        if queue.is_empty() {
            self.sent.remove(&txn.header.session);
        }
        sent
    }

    /// Tells the client what came of its write, and then what waited for that.
    fn finish_write(&mut self, sent: Sent, txn: &Txn, applied: Applied, out: &mut Vec<Effect>) {
        let Some(client) = self.clients.get_mut(&sent.conn) else {
            return; // It did not stay for the answer.
        };
        if sent.kind == SentKind::Upgrade {
            return; // It was not asked for, so nothing is answered.
        }
        let slot = client.queue.pop_front();
        assert!(matches!(slot, Some(Slot::Write)), "a client's oldest write is at the front, not {slot:?}");
        self.outstanding -= 1;
        let result = result(&txn.body, applied, &sent.create2);
        if result == Err(ZkError::SessionMoved) {
            // The client has another connection by now; this one ends without a word.
            return self.close(sent.conn, out);
        }
        reply(sent.conn, sent.cxid, txn.header.zxid, result, out);
        if sent.kind != SentKind::Close {
            self.drain(sent.conn, false, out);
        }
    }

    /// A session is gone, and with it whatever connection it has here.
    pub(super) fn end(&mut self, session: SessionId, out: &mut Vec<Effect>) {
        if let Some(conn) = self.attached.get(&session).copied() {
            self.close(conn, out);
        }
        self.sent.remove(&session);
        self.touches.forget(session);
        out.push(Effect::Closed(session));
    }
}

/// What the client is told of its write; `create2` are those members of a multi whose Stats it wants as well.
fn result(body: &TxnBody, applied: Applied, create2: &[usize]) -> Result<ReplyBody, ZkError> {
    Ok(match (body, applied) {
        // Whether the Stat belongs into the reply is in the transaction: it has the opcode, but in a multi.
        (TxnBody::Create { kind: CreateKind::Create, .. }, Applied::Create(path, _)) => ReplyBody::Path(path),
        (_, Applied::Create(path, stat)) => ReplyBody::PathStat(path, stat),
        (_, Applied::SetData(stat) | Applied::SetAcl(stat)) => ReplyBody::Stat(stat),
        (TxnBody::Multi(members), Applied::Multi(applied)) => {
            let member = |(at, (body, done))| member(body, done, create2.binary_search(&at).is_ok());
            ReplyBody::Multi(members.iter().zip(applied).enumerate().map(member).collect())
        }
        (_, Applied::Error(code)) => return Err(ZkError::from_code(code).unwrap_or(ZkError::SystemError)),
        (_, Applied::Delete | Applied::Check | Applied::Session | Applied::Multi(_)) => ReplyBody::Empty,
    })
}

/// What the client is told of a member of its multi.
fn member(body: &TxnBody, applied: Applied, is_create2: bool) -> MultiResult {
    match (body, applied) {
        // Refused: 0, its code, or RuntimeInconsistency, as it was prepared.
        (TxnBody::Error(code), _) => MultiResult::Error(*code),
        (_, Applied::Error(code)) => MultiResult::Error(code),
        (TxnBody::Create { kind: CreateKind::Create, .. }, Applied::Create(path, _)) if !is_create2 => {
            MultiResult::Create(path)
        }
        (_, Applied::Create(path, stat)) => MultiResult::Create2(path, stat),
        (_, Applied::SetData(stat) | Applied::SetAcl(stat)) => MultiResult::SetData(stat),
        (_, Applied::Delete) => MultiResult::Delete,
        (_, Applied::Check | Applied::Session | Applied::Multi(_)) => MultiResult::Check,
    }
}
