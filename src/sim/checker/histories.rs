//! I17: what clients are told, held against the committed order.
//!
//! Every reply says at which zxid it is true, so nothing has to be searched for: a read must show exactly the
//! tree of that zxid; a write must be the transaction of that zxid, behind everything that anybody had been shown
//! when it was asked for (linearizable), and no two answers may claim the same one; zxids of a session never go
//! back; and a watch must have told of a change before any reply whose zxid is not before that change.

use std::collections::{BTreeMap, BTreeSet};

use zabra_actors::core::watches::WatchTable;
use zabra_actors::types::{
    CreateKind, Op, Reply, ReplyBody, SessionId, Stat, Str, Txn, TxnBody, WatchEvent, ZkError, Zxid,
};

use super::order::Order;
use super::reference::{Reference, Znode, split};

/// A request that waits for its answer.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its number on its connection.
    pub xid: i32,
    /// Whose it is.
    pub session: SessionId,
    /// What it asks for.
    pub op: Op,
    /// What anybody had been shown when it was asked for.
    pub delivered: Zxid,
}

/// What a client has seen so far.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The newest zxid of a reply.
    pub seen: Zxid,
    /// Watches on the current connection.
    pub watches: BTreeMap<(WatchTable, Str), Watch>,
}

/// A watch.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// What happens after this it tells.
    pub since: Zxid,
    /// Was the znode there?
    pub there: bool,
}

/// What the answers of all clients have in common.
#[derive(Default)]
pub(super) struct Histories {
    /// Transactions that a client was told are its own.
    claimed: BTreeSet<Zxid>,
    /// A disk was nearly full: writes may be refused, until after a moment there is room again.
    pub(super) may_lack_room: bool,
    /// Who has had a session of this id.
    owners: BTreeMap<SessionId, BTreeSet<u64>>,
}

type Verdict = Result<(), String>;

impl Histories {
    /// Writes that were answered, refused ones included.
    pub(super) fn claimed(&self) -> u64 {
        self.claimed.len() as u64
    }

    /// A client has a session, alone.
    pub(super) fn attached(&mut self, reference: &Reference, client: u64, session: SessionId) -> Verdict {
        let owners = self.owners.entry(session).or_default();
        owners.insert(client);
        if owners.len() == 1 || reference.ids_return {
            return Ok(());
        }
        Err(format!("session {session} is {owners:?}'s at once, and no clock went back"))
    }

    /// To the servers these clients are one: an id was given again, and both come with it. What the one asked
    /// for may then be answered to the other, if it has the same number.
    fn is_shared(&self, session: SessionId) -> bool {
        self.owners.get(&session).is_some_and(|owners| owners.len() > 1)
    }

    /// A reply has come. An error is a broken promise.
    pub(super) fn answered(
        &mut self,
        order: &Order,
        reference: &Reference,
        view: &mut View,
        asked: &Asked,
        reply: &Reply,
    ) -> Verdict {
        if reply.xid != asked.xid {
            return Err(format!("request {} is answered with the number {}", asked.xid, reply.xid));
        }
        let zxid = reply.zxid;
        if zxid != Zxid::ZERO && !order.is_committed(zxid) {
            return Err(format!("a reply shows {zxid}, which nobody has committed"));
        }
        if zxid < view.seen {
            return Err(format!("the client goes back in time, from {} to {zxid}", view.seen));
        }
        view.seen = zxid;
        let caught_up = matches!(asked.op, Op::SetWatches { .. });
        for ((table, path), watch) in &mut view.watches {
            let missed = reference.first_change(*table, path, watch.since).filter(|(at, _)| *at <= zxid);
            // Who asks later whether a znode has come cannot be told that it has gone again.
            let forgiven = caught_up && !watch.there && reference.at(path, zxid).is_none();
            if let Some((at, kind)) = missed.filter(|_| !forgiven) {
                return Err(format!(
                    "a reply shows {zxid}, before the watch on {path} has told of {kind:?} at {at}"
                ));
            }
            if caught_up {
                watch.since = zxid;
            }
        }
        if reply.result == Err(ZkError::SessionExpired) && !asked.op.is_write() {
            return Ok(()); // not answered, but refused
        }
        if reply.result == Err(ZkError::NotReadOnly) && asked.op.is_write() && self.may_lack_room {
            return Ok(()); // refused for want of room
        }
        if matches!(asked.op, Op::CloseSession) && reference.is_local(asked.session) {
            return Ok(()); // nobody else has to know
        }
        let synced = asked.op.is_write() || matches!(asked.op, Op::Sync { .. });
        if synced && zxid < asked.delivered {
            return Err(format!(
                "it is answered at {zxid}, and {} had been delivered before",
                asked.delivered
            ));
        }
        match &asked.op {
            op if op.is_write() => self.write(order, reference, asked, reply),
            op => read(reference, view, op, reply),
        }
    }

    fn write(&mut self, order: &Order, reference: &Reference, asked: &Asked, reply: &Reply) -> Verdict {
        let zxid = reply.zxid;
        let Some(vertex) = order.get(zxid) else { return Err(format!("a write is answered with {zxid}")) };
        let txn = &vertex.entry.txn;
        if txn.header.session != asked.session || txn.header.cxid != asked.xid {
            return Err(format!("{zxid} is {:?}, not the request that it answers", txn.header));
        }
        let is_first = self.claimed.insert(zxid);
        if self.is_shared(asked.session) {
            return Ok(()); // (session, number) names no request
        }
        if !is_first {
            return Err(format!("{zxid} answers a second request"));
        }
        let made = Made { reference, before: order.committed_before(zxid), txn };
        match &reply.result {
            Err(error) => made.refused(&asked.op, *error),
            Ok(body) => made.done(&asked.op, body),
        }
    }
}

/// The transaction that a write has become.
struct Made<'a> {
    reference: &'a Reference,
    /// The transaction before it.
    before: Zxid,
    txn: &'a Txn,
}

impl Made<'_> {
    fn was(&self, path: &str) -> Option<&Znode> {
        self.reference.at(path, self.before)
    }

    fn is(&self, path: &str) -> Option<&Znode> {
        self.reference.at(path, self.txn.header.zxid)
    }

    /// Is there a reason for this refusal, right before its place in the order?
    fn refused(&self, op: &Op, error: ZkError) -> Verdict {
        let reason = match (op, error) {
            (_, ZkError::SessionExpired) => true,
            (Op::Create { path, flags, .. }, error) => {
                let parent = self.was(split(path).0);
                match error {
                    ZkError::NoNode => parent.is_none(),
                    ZkError::NodeExists => flags & 2 == 0 && self.was(path).is_some(),
                    ZkError::NoChildrenForEphemerals => parent.is_some_and(|it| it.stat.ephemeral_owner != 0),
                    _ => false,
                }
            }
            (Op::Delete { path, .. } | Op::SetData { path, .. }, ZkError::NoNode) => self.was(path).is_none(),
            (Op::Delete { path, version } | Op::SetData { path, version, .. }, ZkError::BadVersion) => {
                self.was(path).is_some_and(|it| it.stat.version != *version)
            }
            (Op::Delete { path, .. }, ZkError::NotEmpty) => {
                self.was(path).is_some_and(|it| !it.children.is_empty())
            }
            _ => false,
        };
        if reason && matches!(self.txn.body, TxnBody::Error(code) if code == error.code()) {
            return Ok(());
        }
        Err(format!("{op:?} is refused at {} with {error}, without a reason", self.txn.header.zxid))
    }

    /// Is it what was asked for, and what the client was told?
    fn done(&self, op: &Op, body: &ReplyBody) -> Verdict {
        let stat_of = |path: &Str| self.is(path).map(|it| it.stat);
        let right = match (op, body, &self.txn.body) {
            (Op::Create { kind: CreateKind::Create, .. }, ReplyBody::Path(path), made) => {
                self.made(op, path, made)
            }
            (Op::Create { .. }, ReplyBody::PathStat(path, stat), made) => {
                self.made(op, path, made) && stat_of(path) == Some(*stat)
            }
            (Op::Delete { path, version }, ReplyBody::Empty, TxnBody::Delete { path: gone, .. }) => {
                path == gone && self.was(path).is_some_and(|it| fits(&it.stat, *version))
            }
            (
                Op::SetData { path, data, version },
                ReplyBody::Stat(stat),
                TxnBody::SetData { path: changed, data: new, .. },
            ) => {
                path == changed
                    && data == new
                    && stat_of(path) == Some(*stat)
                    && self.was(path).is_some_and(|it| fits(&it.stat, *version))
            }
            (Op::Multi(asked), ReplyBody::Multi(told), TxnBody::Multi(made)) => {
                asked.len() == told.len() && asked.len() == made.len()
            }
            (Op::CloseSession, ReplyBody::Empty, TxnBody::CloseSession { .. }) => true,
            _ => false,
        };
        if right {
            return Ok(());
        }
        let zxid = self.txn.header.zxid;
        Err(format!("{op:?} is answered at {zxid} with {body:?}, and the transaction is {:?}", self.txn.body))
    }

    /// Has a create made this path?
    fn made(&self, op: &Op, told: &Str, made: &TxnBody) -> bool {
        let (Op::Create { path: asked, flags, .. }, TxnBody::Create { path, .. }) = (op, made) else {
            return false;
        };
        let number = told.strip_prefix(&**asked);
        let named = match flags & 2 {
            0 => number == Some(""),
            // The reference lets nobody create what is there, so a number comes only once.
            _ => number.is_some_and(|it| it.len() == 10 && it.bytes().all(|byte| byte.is_ascii_digit())),
        };
        named && told == path
    }
}

fn fits(stat: &Stat, expected: i32) -> bool {
    expected == -1 || stat.version == expected
}

/// A read shows the tree of its zxid; the watch it leaves watches from there on.
fn read(reference: &Reference, view: &mut View, op: &Op, reply: &Reply) -> Verdict {
    let zxid = reply.zxid;
    let (path, watched) = match op {
        Op::GetData { path, watch } | Op::Exists { path, watch } => (path, watch.then_some(WatchTable::Data)),
        Op::GetChildren { path, watch, .. } => (path, watch.then_some(WatchTable::Child)),
        _ => return Ok(()),
    };
    let znode = reference.at(path, zxid);
    let right = match (&reply.result, znode) {
        (Err(ZkError::NoNode), None) => true,
        (Ok(ReplyBody::Data(data, stat)), Some(it)) => *data == it.data && *stat == it.stat,
        (Ok(ReplyBody::Stat(stat)), Some(it)) => *stat == it.stat,
        (Ok(ReplyBody::Children(names)), Some(it)) => are_children(names, it),
        (Ok(ReplyBody::ChildrenStat(names, stat)), Some(it)) => are_children(names, it) && *stat == it.stat,
        _ => false,
    };
    if !right {
        return Err(format!("{op:?} shows {:?} at {zxid}, where the znode is {znode:?}", reply.result));
    }
    let leaves_watch = reply.result.is_ok() || matches!(op, Op::Exists { .. });
    if let Some(table) = watched.filter(|_| leaves_watch) {
        let watch = Watch { since: zxid, there: znode.is_some() };
        view.watches.entry((table, path.clone())).or_insert(watch);
    }
    Ok(())
}

fn are_children(names: &[Str], znode: &Znode) -> bool {
    names.len() == znode.children.len() && names.iter().all(|name| znode.children.contains(name))
}

/// An event has come: somebody watched for it, and it is the first that there was.
pub(super) fn told(reference: &Reference, view: &mut View, event: &WatchEvent) -> Verdict {
    let WatchEvent { kind, path, zxid } = event;
    let mut expected = false;
    for table in [WatchTable::Data, WatchTable::Child] {
        let Some(watch) = view.watches.get(&(table, path.clone())) else { continue };
        let Some((at, first)) = reference.first_change(table, path, watch.since) else { continue };
        // What setWatches finds out later has no zxid, and is what is left of all that happened.
        let found_later = zxid.0 == -1;
        if found_later || (at, first) == (*zxid, *kind) {
            expected = true;
            view.watches.remove(&(table, path.clone()));
        }
    }
    if expected { Ok(()) } else { Err(format!("{event:?} comes, and {:?} is watched", view.watches)) }
}
