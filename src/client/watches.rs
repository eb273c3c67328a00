//! Which watches the server holds for us, so that the next server can be told.
//!
//! A watch is noted when the reply that set it arrives, and forgotten when its event does. One event can stand for
//! several: a delete is told once to whoever watches the data or the children.

use std::collections::BTreeSet;

use zabra_actors::types::{EventKind, Op, Reply, Str, WatchEvent, ZkError, Zxid};

/// Bytes of paths in one setWatches: well below the limit of a frame, as Apache's client does it.
const BATCH_BYTES: usize = 128 << 10;

/// A watch that a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    path: Str,
    on: Table,
    /// Only exists watches what is not there.
    missing_too: bool,
}

/// The lists of a setWatches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    Data,
    Exist,
    Child,
}

impl Wanted {
    /// The watch that this request asks for, if any.
    pub(super) fn by(op: &Op) -> Option<Wanted> {
        let (path, on, missing_too) = match op {
            Op::Exists { path, watch: true } => (path, Table::Data, true),
            Op::GetData { path, watch: true } => (path, Table::Data, false),
            Op::GetChildren { path, watch: true, .. } => (path, Table::Child, false),
            _ => return None,
        };
        Some(Wanted { path: path.clone(), on, missing_too })
    }
}

/// The watches of a session.
#[derive(Debug, Default)]
pub(super) struct Watches {
    data: BTreeSet<Str>,
    exist: BTreeSet<Str>,
    child: BTreeSet<Str>,
}

impl Watches {
    /// The reply to a request that asked for a watch is here.
    pub(super) fn on_reply(&mut self, wanted: Wanted, reply: &Reply) {
        let table = match reply.result {
            Ok(_) => wanted.on,
            Err(ZkError::NoNode) if wanted.missing_too => Table::Exist,
            Err(_) => return,
        };
        self.table(table).insert(wanted.path);
    }

    /// A watch has fired.
    pub(super) fn on_event(&mut self, event: &WatchEvent) {
        let fired: &[Table] = match event.kind {
            EventKind::NodeCreated | EventKind::NodeDataChanged => &[Table::Data, Table::Exist],
            EventKind::NodeChildrenChanged => &[Table::Child],
            EventKind::NodeDeleted => &[Table::Data, Table::Exist, Table::Child],
        };
        for table in fired {
            self.table(*table).remove(&event.path);
        }
    }

    fn table(&mut self, table: Table) -> &mut BTreeSet<Str> {
        match table {
            Table::Data => &mut self.data,
            Table::Exist => &mut self.exist,
            Table::Child => &mut self.child,
        }
    }

    /// The requests that set all of them on another server: what changed after `relative_zxid` comes back as events.
    pub(super) fn restore(&self, relative_zxid: Zxid) -> Vec<Op> {
        let tables = [(&self.data, Table::Data), (&self.exist, Table::Exist), (&self.child, Table::Child)];
        let mut all =
            tables.into_iter().flat_map(|(paths, table)| paths.iter().map(move |p| (p, table))).peekable();
        let mut batches = Vec::new();
        while all.peek().is_some() {
            let (mut data, mut exist, mut child, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), 0);
            while let Some((path, table)) = all.next_if(|_| bytes < BATCH_BYTES) {
                bytes += path.len();
                match table {
                    Table::Data => data.push(path.clone()),
                    Table::Exist => exist.push(path.clone()),
                    Table::Child => child.push(path.clone()),
                }
            }
            batches.push(Op::SetWatches { relative_zxid, data, exist, child });
        }
        batches
    }
}

#[cfg(test)]
mod tests {
    use zabra_actors::types::{ReplyBody, Stat};

    use super::*;

    fn ask(watches: &mut Watches, op: Op, result: Result<ReplyBody, ZkError>) {
        let reply = Reply { xid: 1, zxid: Zxid(1), result };
        watches.on_reply(Wanted::by(&op).expect("asks for a watch"), &reply);
    }

    fn exists(path: &str) -> Op {
        Op::Exists { path: path.into(), watch: true }
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
        ask(&mut watches, Op::GetChildren { path: "/there".into(), watch: true, stat: true }, stat());
        let expected = Op::SetWatches {
            relative_zxid: Zxid(7),
            data: vec!["/there".into()],
            exist: vec!["/missing".into()],
            child: vec!["/there".into()],
        };
        assert_eq!(watches.restore(Zxid(7)), [expected]);
    }

    #[test]
    fn an_event_ends_the_watches_it_stands_for() {
        let all = |kind| {
            let mut watches = Watches::default();
            ask(&mut watches, exists("/a"), stat());
            ask(&mut watches, Op::GetChildren { path: "/a".into(), watch: true, stat: false }, stat());
            watches.on_event(&WatchEvent { kind, path: "/a".into(), zxid: Zxid(2) });
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
