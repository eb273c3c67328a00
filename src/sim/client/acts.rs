//! What clients do. An act is a request or several, pipelined; `None` says that the connection is over.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use zabra_actors::types::{Acl, CreateKind, Op, Reply, ReplyBody, Str, ZkError, perms};

use super::wire::Wire;
use super::{Session, SimClient};
use crate::sim::checker::View;

/// How many kinds of acts there are.
pub const ACTS: usize = 11;
/// The number of the one that sees what anybody has been shown.
pub const SYNC_AND_READ: usize = 3;

/// Znodes that all clients write to.
const REGISTERS: u64 = 3;
/// The parents that everybody uses.
const PARENTS: [&str; 2] = ["/queue", "/lock"];
const EPHEMERAL: i32 = 1;
const SEQUENTIAL: i32 = 2;

type Over<'a> = Pin<Box<dyn Future<Output = Option<()>> + 'a>>;

fn create(path: impl Into<Str>, data: Option<Bytes>, flags: i32) -> Op {
    // Both kinds are answered differently, and mean the same.
    let kind = if flags & SEQUENTIAL == 0 { CreateKind::Create } else { CreateKind::Create2 };
    Op::Create { kind, path: path.into(), data, acl: Some(vec![Acl::world(perms::ALL)]), flags }
}

fn set(path: &Str, data: Bytes, version: i32) -> Op {
    Op::SetData { path: path.clone(), data: Some(data), version }
}

fn get(path: &Str, watch: bool) -> Op {
    Op::GetData { path: path.clone(), watch }
}

fn children(path: impl Into<Str>, watch: bool) -> Op {
    Op::GetChildren { path: path.into(), watch, stat: true }
}

fn delete(path: &Str, version: i32) -> Op {
    Op::Delete { path: path.clone(), version }
}

fn names(reply: &Reply) -> Vec<Str> {
    match &reply.result {
        Ok(ReplyBody::ChildrenStat(names, _)) => {
            let mut names = names.clone();
            names.sort_unstable();
            names
        }
        _ => Vec::new(),
    }
}

impl SimClient {
    /// One act, as likely as the run's habits say.
    pub(super) fn act<'a>(&'a self, wire: &'a mut Wire, session: &'a mut Session) -> Over<'a> {
        let weights = &self.around.habits.weights;
        // The first two are always there, so that there are writes and something to read.
        let menu: Vec<_> = (0..ACTS).map(|act| (weights[act] + u64::from(act < 2), act)).collect();
        match self.rng.weighted(&menu) {
            0 => Box::pin(self.write_and_read(wire, session)),
            1 => Box::pin(self.make_and_delete(wire, session)),
            2 => Box::pin(self.compare_and_set(wire, session)),
            SYNC_AND_READ => Box::pin(self.sync_and_read(wire, session)),
            4 => Box::pin(self.ephemeral(wire, session)),
            5 => Box::pin(self.queue(wire, session)),
            6 => Box::pin(self.multi(wire, session)),
            7 => Box::pin(self.watch(wire, session)),
            8 => Box::pin(self.lock(wire, session)),
            9 => Box::pin(self.leave(wire, session)),
            _ => Box::pin(self.move_on(wire, session)),
        }
    }

    fn register(&self) -> Str {
        format!("/register-{}", self.rng.within(0..REGISTERS)).into()
    }

    /// Data that nobody else writes; now and then a lot of it.
    fn data(&self, session: &mut Session) -> Bytes {
        session.made += 1;
        let mut data = format!("{}/{}", self.number, session.made).into_bytes();
        if self.rng.percent(3) {
            data.resize(5000, b'.');
        }
        data.into()
    }

    /// A write and, without waiting for it, a read that must see it.
    async fn write_and_read(&self, wire: &mut Wire, session: &mut Session) -> Option<()> {
        let path = self.register();
        let data = self.data(session);
        wire.ask(set(&path, data.clone(), -1));
        wire.ask(get(&path, false));
        let written = wire.answer(&mut session.view).await?;
        wire.answer(&mut session.view).await?;
        if written.result == Err(ZkError::NoNode) {
            wire.ask(create(path, Some(data), 0));
            wire.answer(&mut session.view).await?;
        }
        Some(())
    }

    /// Znodes come and go, whether they are there or not.
    async fn make_and_delete(&self, wire: &mut Wire, session: &mut Session) -> Option<()> {
        let path: Str = format!("/node-{}", self.rng.within(0..4)).into();
        let data = self.data(session);
        match self.rng.within(0..3) {
            0 => wire.ask(create(path.clone(), Some(data), 0)),
            1 => wire.ask(delete(&path, -1)),
            _ => wire.ask(create(format!("{path}/below"), None, 0)),
        }
        wire.ask(Op::Exists { path, watch: false });
        wire.answer(&mut session.view).await?;
        wire.answer(&mut session.view).await.map(|_| ())
    }

    /// A read, and a write that is only right if nobody has written in between.
    async fn compare_and_set(&self, wire: &mut Wire, session: &mut Session) -> Option<()> {
        let path = self.register();
        wire.ask(get(&path, false));
        let read = wire.answer(&mut session.view).await?;
        let Ok(ReplyBody::Data(_, stat)) = read.result else { return Some(()) };
        let data = self.data(session);
        wire.ask(set(&path, data, stat.version));
        wire.answer(&mut session.view).await.map(|_| ())
    }

    /// Reads that see everything that anybody has been shown when they are asked for, one after another, whether they
    /// are answered yet or not.
    async fn sync_and_read(&self, wire: &mut Wire, session: &mut Session) -> Option<()> {
        for number in 0..self.around.habits.syncs {
            if number > 0 {
                self.rest(self.around.habits.pause_max).await;
            }
            wire.ask(Op::Sync { path: Some("/".into()) });
            wire.ask(get(&self.register(), false));
        }
        for _ in 0..2 * self.around.habits.syncs {
            wire.answer(&mut session.view).await?;
        }
        Some(())
    }

    /// An ephemeral, which is left behind or deleted.
    async fn ephemeral(&self, wire: &mut Wire, session: &mut Session) -> Option<()> {
        let flags = EPHEMERAL | if self.rng.percent(50) { SEQUENTIAL } else { 0 };
        wire.ask(create(format!("/ephemeral-{}-", self.number), None, flags));
        let made = wire.answer(&mut session.view).await?;
        if let Ok(ReplyBody::Path(path) | ReplyBody::PathStat(path, _)) = made.result
            && self.rng.percent(70)
        {
            wire.ask(delete(&path, 0));
            wire.answer(&mut session.view).await?;
        }
        Some(())
    }

    /// The parents are there, or will be.
    async fn parent(&self, wire: &mut Wire, view: &mut View, parent: &str) -> Option<()> {
        assert!(PARENTS.contains(&parent), "{parent} is a parent that everybody uses");
        wire.ask(create(parent, None, 0));
        wire.answer(view).await.map(|_| ())
    }

    /// Puts something into a queue, or takes the oldest out.
    async fn queue(&self, wire: &mut Wire, session: &mut Session) -> Option<()> {
        wire.ask(children("/queue", false));
        let listed = wire.answer(&mut session.view).await?;
        if listed.result == Err(ZkError::NoNode) {
            return self.parent(wire, &mut session.view, "/queue").await;
        }
        let names = names(&listed);
        match names.first() {
            Some(oldest) if names.len() > 8 || self.rng.percent(40) => {
                let oldest: Str = format!("/queue/{oldest}").into();
                wire.ask(get(&oldest, false));
                wire.ask(delete(&oldest, 0));
                wire.answer(&mut session.view).await?;
            }
            _ => {
                let data = self.data(session);
                wire.ask(create("/queue/item-", Some(data), SEQUENTIAL));
            }
        }
        wire.answer(&mut session.view).await.map(|_| ())
    }

    /// Several writes at once, of which one may spoil all.
    async fn multi(&self, wire: &mut Wire, session: &mut Session) -> Option<()> {
        let mut members = Vec::new();
        for _ in 0..self.rng.within(1..4) {
            let path = self.register();
            let data = self.data(session);
            members.push(match self.rng.within(0..4) {
                0 => Op::Check { path, version: self.rng.pick(&[-1, 0, 1, 5]) },
                1 => create(format!("/node-{}", self.rng.within(0..4)), Some(data), 0),
                2 => delete(&format!("/node-{}", self.rng.within(0..4)).into(), -1),
                _ => set(&path, data, -1),
            });
        }
        wire.ask(Op::Multi(members));
        wire.ask(get(&self.register(), false));
        wire.answer(&mut session.view).await?;
        wire.answer(&mut session.view).await.map(|_| ())
    }

    /// Reads that leave watches.
    async fn watch(&self, wire: &mut Wire, session: &mut Session) -> Option<()> {
        match self.rng.within(0..3) {
            0 => wire.ask(get(&self.register(), true)),
            1 => {
                wire.ask(Op::Exists { path: format!("/node-{}", self.rng.within(0..4)).into(), watch: true })
            }
            _ => wire.ask(children(self.rng.pick(&["/", "/queue", "/lock"]), true)),
        }
        wire.answer(&mut session.view).await.map(|_| ())
    }

    /// Stands in line for a lock, and writes under it if it is the first.
    async fn lock(&self, wire: &mut Wire, session: &mut Session) -> Option<()> {
        wire.ask(create("/lock/line-", None, EPHEMERAL | SEQUENTIAL));
        let stood = wire.answer(&mut session.view).await?;
        let Ok(ReplyBody::PathStat(mine, _)) = stood.result else {
            return self.parent(wire, &mut session.view, "/lock").await;
        };
        for _ in 0..3 {
            wire.ask(children("/lock", false));
            let line = names(&wire.answer(&mut session.view).await?);
            if line.first().is_some_and(|first| mine.ends_with(&**first)) {
                let data = self.data(session);
                let held = Op::Check { path: mine.clone(), version: 0 };
                wire.ask(Op::Multi(vec![held, set(&"/register-0".into(), data, -1)]));
                let written = wire.answer(&mut session.view).await?;
                if let Ok(ReplyBody::Multi(results)) = &written.result
                    && matches!(results[..], [zabra_actors::types::MultiResult::Check, _])
                {
                    self.around.checker.held_lock(self.number, "/lock", &mine, written.zxid);
                }
                break;
            }
            self.rest(self.around.habits.pause_max).await;
        }
        if self.rng.percent(80) {
            wire.ask(delete(&mine, 0));
            wire.answer(&mut session.view).await?;
        }
        Some(())
    }

    /// Closes the session, or is silent for so long that it may be over.
    async fn leave(&self, wire: &mut Wire, session: &mut Session) -> Option<()> {
        if self.rng.percent(50) {
            self.rest(3 * self.around.habits.session_timeout_ms as u64).await;
            return if self.rng.percent(50) { Some(()) } else { None };
        }
        wire.ask(Op::CloseSession);
        wire.answer(&mut session.view).await?;
        session.id = zabra_actors::types::SessionId::NONE;
        session.view.watches.clear();
        None
    }

    /// Goes to another server with its session; what it still says by the old connection must come to nothing, as
    /// long as the leader is the one that knows of the move, and has not let it go back since: an attempt to
    /// connect that the client has given up may have been under way to the leader for longer than this one.
    async fn move_on(&self, wire: &mut Wire, session: &mut Session) -> Option<()> {
        let mut old = session.view.clone();
        let mut new = self.attach(session).await?;
        let moved = self.around.checker.granted(session.id, new.server);
        wire.ask(set(&self.register(), self.data(session), -1));
        if let Some(Reply { result: Ok(_), zxid, .. }) = wire.answer(&mut old).await
            && let Some((moved, epoch)) = moved
            && zxid.epoch() == epoch
            && self.around.checker.granted(session.id, wire.server).is_none_or(|(granted, _)| granted < moved)
        {
            self.around.checker.fail(format!(
                "I16: client {} has moved from {} to {}, and writes {zxid} by its old connection",
                self.number, wire.server, new.server
            ));
        }
        std::mem::swap(wire, &mut new);
        Some(())
    }
}

/// Reads what is left of a tree, and everything below that.
pub(super) async fn read_all(wire: &mut Wire, view: &mut View, left: &mut Vec<Str>) -> Option<()> {
    while let Some(path) = left.last().cloned() {
        wire.ask(get(&path, false));
        wire.ask(children(path.clone(), false));
        wire.answer(view).await?;
        let listed = wire.answer(view).await?;
        let below = |name: &Str| format!("{}/{name}", path.trim_end_matches('/')).into();
        left.pop();
        left.extend(names(&listed).iter().map(below));
    }
    Some(())
}
