//! Which watches the server holds for us, so that the next server can be told, and who waits for them.
//!
//! A watch is noted when the reply that set it arrives. One that fires once is forgotten when its event does; the
//! persistent ones stay until they are removed. One event can stand for several watches: a delete is told once to
//! whoever watches the data or the children.
//!
//! All paths here are those that servers know.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::oneshot;
use zabra_actors::types::{EventKind, Op, Reply, Str, WatchEvent, WatcherType, ZkError, Zxid};

/// Bytes of paths in one setWatches: well below the limit of a frame, as Apache's client does it.
const BATCH_BYTES: usize = 128 << 10;

/// From so many callers of one watch on it is worth looking for those that do not wait any more.
const MANY_CALLERS: usize = 16;

/// Where the event of a watch goes, besides all subscribers of the client.
pub(super) type Caller = oneshot::Sender<WatchEvent>;

/// What the reply to a request will change about the watches.
#[derive(Debug)]
pub(super) enum Effect {
    /// Nothing.
    None,
    /// One that fires once is set.
    Set(Wanted),
    /// A persistent one is set.
    Added { path: Str, recursive: bool },
    /// Some are removed.
    Removed { path: Str, kind: WatcherType },
}

/// A watch that a request asks for.
#[derive(Debug)]
pub(super) struct Wanted {
    path: Str,
    on: Table,
    /// Only exists watches what is not there.
    missing_too: bool,
    caller: Option<Caller>,
}

/// The lists of a setWatches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Table {
    Data,
    Exist,
    Child,
    Persistent,
    Recursive,
}

/// What kind of watch was removed, as watchers are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemovedWatch {
    /// Of a getData or exists.
    Data,
    /// Of a getChildren.
    Child,
    /// Of an addWatch.
    Persistent,
}

impl Effect {
    /// What this request asks for; `caller` waits for the watch that it sets.
    pub(super) fn of(op: &Op, caller: Option<Caller>) -> Effect {
        let (path, on, missing_too) = match op {
            Op::Exists { path, watch: true } => (path, Table::Data, true),
            Op::GetData { path, watch: true } => (path, Table::Data, false),
            Op::GetChildren { path, watch: true, .. } => (path, Table::Child, false),
            Op::AddWatch { path, recursive } => {
                return Effect::Added { path: path.clone(), recursive: *recursive };
            }
            Op::RemoveWatches { path: Some(path), kind } => {
                return Effect::Removed { path: path.clone(), kind: *kind };
            }
            _ => return Effect::None,
        };
        Effect::Set(Wanted { path: path.clone(), on, missing_too, caller })
    }
}

/// The watches of a session.
#[derive(Debug, Default)]
pub(super) struct Watches {
    /// Those that fire once, each with who waits for it.
    once: BTreeMap<(Table, Str), Vec<Caller>>,
    /// Those that stay.
    stay: BTreeSet<(Table, Str)>,
}

impl Watches {
    /// The reply to a request is here. Gives what was removed by it.
    pub(super) fn on_reply(&mut self, effect: Effect, reply: &Reply) -> Vec<RemovedWatch> {
        match (effect, &reply.result) {
            (Effect::Set(wanted), Ok(_)) => self.set(wanted.on, wanted.path, wanted.caller),
            (Effect::Set(wanted), Err(ZkError::NoNode)) if wanted.missing_too => {
                self.set(Table::Exist, wanted.path, wanted.caller);
            }
            (Effect::Added { path, recursive }, Ok(_)) => {
                self.stay.insert((if recursive { Table::Recursive } else { Table::Persistent }, path));
            }
            (Effect::Removed { path, kind }, Ok(_)) => return self.remove(&path, kind),
            _ => {}
        }
        Vec::new()
    }

    fn set(&mut self, table: Table, path: Str, caller: Option<Caller>) {
        let callers = self.once.entry((table, path)).or_default();
        if callers.len() >= MANY_CALLERS && callers.len().is_power_of_two() {
            callers.retain(|caller| !caller.is_closed());
        }
        callers.extend(caller);
    }

    /// Watches on this path have fired; `told` is the event as their callers know it.
    pub(super) fn on_event(&mut self, kind: EventKind, path: &Str, told: &WatchEvent) {
        let fired: &[Table] = match kind {
            EventKind::NodeCreated | EventKind::NodeDataChanged => &[Table::Data, Table::Exist],
            EventKind::NodeChildrenChanged => &[Table::Child],
            EventKind::NodeDeleted => &[Table::Data, Table::Exist, Table::Child],
        };
        for table in fired {
            for caller in self.once.remove(&(*table, path.clone())).unwrap_or_default() {
                // Who does not wait any more need not know.
                let _ = caller.send(told.clone());
            }
        }
    }

    /// Forgets the watches of a kind on a path. Whoever waited for one of them is told that it will not come.
    pub(super) fn remove(&mut self, path: &Str, kind: WatcherType) -> Vec<RemovedWatch> {
        const DATA: [Table; 2] = [Table::Data, Table::Exist];
        let removed: &[(&[Table], RemovedWatch)] = match kind {
            WatcherType::Data => &[(&DATA, RemovedWatch::Data)],
            WatcherType::Children => &[(&[Table::Child], RemovedWatch::Child)],
            WatcherType::Persistent => &[(&[Table::Persistent], RemovedWatch::Persistent)],
            WatcherType::PersistentRecursive => &[(&[Table::Recursive], RemovedWatch::Persistent)],
            WatcherType::Any => &[
                (&[Table::Child], RemovedWatch::Child),
                (&DATA, RemovedWatch::Data),
                (&[Table::Persistent, Table::Recursive], RemovedWatch::Persistent),
            ],
        };
        let any = |tables: &[Table]| {
            tables.iter().fold(false, |any, table| {
                let key = (*table, path.clone());
                any | self.once.remove(&key).is_some() | self.stay.remove(&key)
            })
        };
        let mut any = any;
        removed.iter().filter_map(|(tables, told)| any(tables).then_some(*told)).collect()
    }

    /// The requests that set all of them on another server: what changed after `relative_zxid` comes back as events.
    /// Servers older than persistent watches are asked in a way that they understand, if there is none.
    pub(super) fn restore(&self, relative_zxid: Zxid) -> Vec<Op> {
        let mut all = self.once.keys().chain(&self.stay).peekable();
        let mut batches = Vec::new();
        while all.peek().is_some() {
            let mut lists: [Vec<Str>; 5] = Default::default();
            let mut bytes = 0;
            while let Some((table, path)) = all.next_if(|_| bytes < BATCH_BYTES) {
                bytes += path.len();
                lists[*table as usize].push(path.clone());
            }
            let [data, exist, child, persistent, recursive] = lists;
            batches.push(if persistent.is_empty() && recursive.is_empty() {
                Op::SetWatches { relative_zxid, data, exist, child }
            } else {
                Op::SetWatches2 { relative_zxid, data, exist, child, persistent, recursive }
            });
        }
        batches
    }
}

#[cfg(test)]
mod tests {
    use zabra_actors::types::{ReplyBody, Stat};

    use super::*;

    fn reply(result: Result<ReplyBody, ZkError>) -> Reply {
        Reply { xid: 1, zxid: Zxid(1), result }
    }

    fn ask(watches: &mut Watches, op: Op, result: Result<ReplyBody, ZkError>) -> Vec<RemovedWatch> {
        watches.on_reply(Effect::of(&op, None), &reply(result))
    }

    fn fire(watches: &mut Watches, kind: EventKind, path: &str) {
        let event = WatchEvent { kind, path: path.into(), zxid: Zxid(2) };
        watches.on_event(kind, &event.path, &event);
    }

    fn exists(path: &str) -> Op {
        Op::Exists { path: path.into(), watch: true }
    }

    fn children(path: &str) -> Op {
        Op::GetChildren { path: path.into(), watch: true, stat: true }
    }

    fn add_watch(path: &str, recursive: bool) -> Op {
        Op::AddWatch { path: path.into(), recursive }
    }

    fn stat() -> Result<ReplyBody, ZkError> {
        Ok(ReplyBody::Stat(Stat::default()))
    }

    #[test]
    fn each_watch_goes_to_its_list() {
        let mut watches = Watches::default();
        ask(&mut watches, exists("/there"), stat());
        ask(&mut watches, exists("/missing"), Err(ZkError::NoNode));
        ask(&mut watches, exists("/secret"), Err(ZkError::NoAuth));
        ask(&mut watches, Op::GetData { path: "/gone".into(), watch: true }, Err(ZkError::NoNode));
        ask(&mut watches, children("/there"), stat());
        let (data, exist, child) = (vec!["/there".into()], vec!["/missing".into()], vec!["/there".into()]);
        assert_eq!(
            watches.restore(Zxid(7)),
            [Op::SetWatches {
                relative_zxid: Zxid(7),
                data: data.clone(),
                exist: exist.clone(),
                child: child.clone()
            }]
        );

        ask(&mut watches, add_watch("/one", false), Ok(ReplyBody::WatchAdded));
        ask(&mut watches, add_watch("/all", true), Ok(ReplyBody::WatchAdded));
        ask(&mut watches, add_watch("/refused", true), Err(ZkError::BadArguments));
        assert_eq!(
            watches.restore(Zxid(7)),
            [Op::SetWatches2 {
                relative_zxid: Zxid(7),
                data,
                exist,
                child,
                persistent: vec!["/one".into()],
                recursive: vec!["/all".into()],
            }]
        );
    }

    #[test]
    fn an_event_ends_the_watches_it_stands_for() {
        let all = |kind| {
            let mut watches = Watches::default();
            ask(&mut watches, exists("/a"), stat());
            ask(&mut watches, children("/a"), stat());
            fire(&mut watches, kind, "/a");
            watches.restore(Zxid(2))
        };
        assert!(all(EventKind::NodeDeleted).is_empty());
        assert!(
            matches!(&all(EventKind::NodeDataChanged)[..], [Op::SetWatches { data, child, .. }] if data.is_empty() && child.len() == 1)
        );
        assert!(
            matches!(&all(EventKind::NodeChildrenChanged)[..], [Op::SetWatches { data, child, .. }] if data.len() == 1 && child.is_empty())
        );
    }

    #[test]
    fn persistent_watches_outlive_their_events() {
        let mut watches = Watches::default();
        ask(&mut watches, add_watch("/a", false), Ok(ReplyBody::WatchAdded));
        fire(&mut watches, EventKind::NodeDeleted, "/a");
        assert!(
            matches!(&watches.restore(Zxid(2))[..], [Op::SetWatches2 { persistent, .. }] if persistent.len() == 1)
        );
    }

    #[test]
    fn all_callers_of_a_watch_are_told_and_those_of_another_are_not() {
        let mut watches = Watches::default();
        let mut wait = |op: Op, result| {
            let (caller, waiting) = oneshot::channel();
            watches.on_reply(Effect::of(&op, Some(caller)), &reply(result));
            waiting
        };
        let mut one = wait(exists("/a"), stat());
        let mut two = wait(Op::GetData { path: "/a".into(), watch: true }, stat());
        let mut other = wait(children("/a"), stat());
        let mut refused = wait(exists("/a"), Err(ZkError::NoAuth));
        fire(&mut watches, EventKind::NodeDataChanged, "/a");
        for waiting in [&mut one, &mut two] {
            assert_eq!(waiting.try_recv().map(|event| event.kind), Ok(EventKind::NodeDataChanged));
        }
        assert_eq!(other.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        assert_eq!(refused.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        watches.remove(&"/a".into(), WatcherType::Any);
        assert_eq!(other.try_recv(), Err(oneshot::error::TryRecvError::Closed), "it will not come any more");
    }

    #[test]
    fn callers_that_have_gone_do_not_pile_up() {
        let mut watches = Watches::default();
        for _ in 0..1000 {
            let (caller, _gone) = oneshot::channel();
            watches.on_reply(Effect::of(&exists("/a"), Some(caller)), &reply(stat()));
        }
        assert!(watches.once.values().all(|callers| callers.len() <= MANY_CALLERS));
    }

    #[test]
    fn a_removal_says_which_kinds_there_were() {
        let mut watches = Watches::default();
        let path: Str = "/a".into();
        let remove = |kind| Op::RemoveWatches { path: Some("/a".into()), kind };
        ask(&mut watches, exists("/a"), stat());
        ask(&mut watches, exists("/a/b"), stat());
        ask(&mut watches, children("/a"), stat());
        ask(&mut watches, add_watch("/a", true), Ok(ReplyBody::WatchAdded));
        assert_eq!(ask(&mut watches, remove(WatcherType::Any), Err(ZkError::NoWatcher)), []);
        assert_eq!(watches.remove(&path, WatcherType::Persistent), []);
        assert_eq!(ask(&mut watches, remove(WatcherType::Data), Ok(ReplyBody::Empty)), [RemovedWatch::Data]);
        let rest = [RemovedWatch::Child, RemovedWatch::Persistent];
        assert_eq!(ask(&mut watches, remove(WatcherType::Any), Ok(ReplyBody::Empty)), rest);
        assert!(
            matches!(&watches.restore(Zxid(2))[..], [Op::SetWatches { data, .. }] if *data[0] == *"/a/b")
        );
    }

    #[test]
    fn many_watches_make_several_requests() {
        let mut watches = Watches::default();
        let long = "x".repeat(1000);
        for i in 0..300 {
            ask(&mut watches, exists(&format!("/{long}{i}")), stat());
        }
        let batches = watches.restore(Zxid(1));
        assert_eq!(batches.len(), 3);
        let sizes = batches.iter().map(|op| match op {
            Op::SetWatches { data, .. } => data.len(),
            other => panic!("{other:?}"),
        });
        assert_eq!(sizes.sum::<usize>(), 300);
    }
}
