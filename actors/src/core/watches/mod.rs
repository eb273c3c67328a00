//! Who watches what, and the one line by which everything leaves for the clients.
//!
//! What the replica decides comes in as [`Outcome`]s, in order, and leaves for the connections in the same
//! order. That one line is the promise of watches: the event of a change stands before every reply that
//! shows the change, and behind the reply that set the watch.
//!
//! A watch belongs to a connection and goes with it. There are two tables, since getData and getChildren
//! want to hear of different things; a change is told in steps (create: data watches of the znode, child
//! watches of the parent; delete: data, then child watches of the znode, child watches of the parent), and
//! a connection hears at most one event in each step, however many of its watches match. Whoever may not
//! read the znode is not told, and its watch is used up all the same.
//!
//! A watch costs about 50 bytes, a watched path about 60 besides its text.
//!
//! Absent on purpose: any look at the tree. Whether a znode is there, and what setWatches has missed, is
//! decided by the replica.

mod kinds;
mod pages;
mod path_table;
mod recursive;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

pub use self::kinds::{NewWatch, WatchKind};
pub use self::pages::{WatchOrder, WatchPage, WatchPlace};
use self::path_table::{PathId, PathTable};
use self::recursive::Recursive;
use crate::core::acl;
use crate::types::{
    Acl, Auth, ConnId, ConnectResponse, Deliver, EventKind, Reply, ReplyBody, Str, WatchEvent, WatcherType,
    ZkError, Zxid, perms,
};

/// Watches of one connection. Large enough for the greatest users known (a few hundred thousand), small
/// enough that one client cannot take all memory: 60 MB and the paths.
pub const MAX_WATCHES_PER_CONNECTION: usize = 500_000;

/// Bytes of the paths of all watches of one connection. A path may have a megabyte and need not exist, so the
/// number of watches alone bounds nothing; this is 250 bytes for each of the greatest number.
pub const MAX_WATCHED_BYTES_PER_CONNECTION: usize = 128 << 20;

/// The two watch tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WatchTable {
    /// getData and exists.
    Data,
    /// getChildren.
    Child,
}

/// How long a watch lasts, and how far it reaches. The three live side by side on one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WatchMode {
    /// Until its first event.
    Standard,
    /// Until it is removed.
    Persistent,
    /// Until it is removed, and for everything below its path; never NodeChildrenChanged.
    Recursive,
}

/// What a transaction did to a znode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Created,
    /// It is gone.
    Deleted,
    /// It has other data.
    DataChanged,
}

/// A change of the tree that watchers may want to hear of.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// To which znode.
    pub path: Str,
    /// By which transaction.
    pub zxid: Zxid,
    /// The ACL of the znode: who may not read it is not told.
    pub acl: Arc<[Acl]>,
    /// For a create or delete: the parent and its ACL.
    pub parent: Option<(Str, Arc<[Acl]>)>,
}

/// What the replica has decided, in the order in which clients must see it.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // of fields: each variant says what they are
pub enum Outcome {
    /// The tree has changed.
    Changed(Change),
    /// An answer, and the watch that the request left.
    Reply { conn: ConnId, reply: Reply, watch: Option<NewWatch> },
    /// setWatches: these watches are set again, and these events happened in the meantime. The reply
    /// follows as an outcome of its own.
    Rewatch { conn: ConnId, events: Vec<WatchEvent>, watches: Vec<NewWatch> },
    /// checkWatches, and with `remove` removeWatches: answered here, where the watches are.
    Watched { conn: ConnId, xid: i32, zxid: Zxid, path: Option<Str>, kind: WatcherType, remove: bool },
    /// The handshake is done or refused.
    Connected { conn: ConnId, response: ConnectResponse },
    /// The connection has these identities from now on.
    Identified { conn: ConnId, auth: Auth },
    /// Close the connection behind everything said so far. Its watches are gone.
    Close { conn: ConnId },
    /// The connection is closed already: forget it.
    Gone { conn: ConnId },
}

/// A connection asked for more than [`MAX_WATCHES_PER_CONNECTION`], or for longer paths than
/// [`MAX_WATCHED_BYTES_PER_CONNECTION`], and is being closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyWatches(pub ConnId);

impl fmt::Display for TooManyWatches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TooManyWatches(ConnId(conn)) = self;
        write!(
            f,
            "connection {conn} is closed: it wants more than {MAX_WATCHES_PER_CONNECTION} watches, or paths of \
             more than {MAX_WATCHED_BYTES_PER_CONNECTION} bytes in all; let the client spread them over several \
             sessions"
        )
    }
}

impl std::error::Error for TooManyWatches {}

/// One watch. In this order, so that those of a path and table stand together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Watch {
    path: PathId,
    table: WatchTable,
    conn: ConnId,
    mode: WatchMode,
}

/// What is known of a connection.
struct Connection {
    /// For the filter by READ.
    auth: Auth,
    /// The same watches as in `Watches::watches`, to find them when the connection goes.
    watches: BTreeSet<(PathId, WatchTable, WatchMode)>,
    /// Of the paths of these watches, each as often as it is watched.
    path_bytes: usize,
}

/// An event for everybody whose watch matches.
struct Event<'a> {
    kind: EventKind,
    path: &'a Str,
    zxid: Zxid,
    /// Of the znode that the event names.
    acl: &'a [Acl],
}

/// All watches, and all connections.
#[derive(Default)]
pub struct Watches {
    connections: BTreeMap<ConnId, Connection>,
    watches: BTreeSet<Watch>,
    paths: PathTable,
    /// The recursive ones once more, for the changes below them.
    recursive: Recursive,
    /// Who may read what.
    rules: acl::Rules,
}

impl Watches {
    /// No connection, no watch; the usual rules.
    pub fn new() -> Watches {
        Watches::default()
    }

    /// No connection, no watch; whoever these rules let read a znode hears of it.
    pub fn with_rules(rules: acl::Rules) -> Watches {
        Watches { rules, ..Watches::default() }
    }

    /// There is a new connection. Whatever is said to a connection that is not open goes nowhere.
    pub fn opened(&mut self, conn: ConnId) {
        let connection = Connection { auth: Arc::new([]), watches: BTreeSet::new(), path_bytes: 0 };
        let before = self.connections.insert(conn, connection);
        assert!(before.is_none(), "connection {conn:?} is opened once");
    }

    /// Takes the next outcome; what the connections have to write comes after what is in `out` already.
    ///
    /// An error is a note for the log: the connection is closed, which `out` says, too.
    pub fn step(&mut self, outcome: Outcome, out: &mut Vec<(ConnId, Deliver)>) -> Result<(), TooManyWatches> {
        match outcome {
            // The only outcome that is for everybody.
            Outcome::Changed(change) => self.fire(&change, out),
            // A reply stands before the events of the watch that it has set.
            Outcome::Reply { conn, reply, watch } => {
                self.deliver(conn, Deliver::Reply(reply), out);
                return self.watch_all(conn, watch, out);
            }
            // After a reconnect: what was missed comes before the reply.
            Outcome::Rewatch { conn, events, watches } => {
                for event in events {
                    self.deliver(conn, Deliver::Event(event), out);
                }
                return self.watch_all(conn, watches, out);
            }
            // NoWatcher unless this very connection has such a watch on exactly this path. No event tells of
            // the removal: clients make those themselves.
            Outcome::Watched { conn, xid, zxid, path, kind, remove } => {
                let known = path.is_some_and(|path| self.find(conn, &path, kind, remove));
                let result = if known { Ok(ReplyBody::Empty) } else { Err(ZkError::NoWatcher) };
                self.deliver(conn, Deliver::Reply(Reply { xid, zxid, result }), out);
            }
            // The handshake has its place in the line like everything else.
            Outcome::Connected { conn, response } => {
                self.deliver(conn, Deliver::Connected(response), out);
            }
            // Of events from here on, not of those on their way.
            Outcome::Identified { conn, auth } => {
                if let Some(connection) = self.connections.get_mut(&conn) {
                    connection.auth = auth;
                }
            }
            // Nothing comes behind it: the connection is forgotten at once.
            Outcome::Close { conn } => self.close(conn, out),
            // Nobody is there to be told.
            Outcome::Gone { conn } => self.forget(conn),
        }
        Ok(())
    }

    /// Adds a watch of a connection; a second equal one changes nothing.
    pub fn watch(&mut self, conn: ConnId, watch: NewWatch) -> Result<(), TooManyWatches> {
        let NewWatch { path, kind } = watch;
        let places = kind.places().iter();
        places.copied().try_for_each(|(table, mode)| self.list(conn, table, path.clone(), mode))
    }

    /// Has the connection a watch of this kind on this path? If so, `remove` takes all of them away.
    fn find(&mut self, conn: ConnId, path: &str, kind: WatcherType, remove: bool) -> bool {
        let Some(path) = self.paths.find(path) else { return false };
        let Some(connection) = self.connections.get(&conn) else { return false };
        let places = kinds::meant_by(kind).iter();
        let known = places.filter(|(table, mode)| connection.watches.contains(&(path, *table, *mode)));
        let known: Vec<Watch> =
            known.map(|(table, mode)| Watch { path, table: *table, conn, mode: *mode }).collect();
        if remove {
            known.iter().for_each(|watch| self.remove(*watch));
        }
        !known.is_empty()
    }

    /// Puts one entry into the tables.
    fn list(
        &mut self,
        conn: ConnId,
        table: WatchTable,
        path: Str,
        mode: WatchMode,
    ) -> Result<(), TooManyWatches> {
        let Some(connection) = self.connections.get_mut(&conn) else { return Ok(()) };
        let id = self.paths.acquire(path.clone());
        if connection.watches.contains(&(id, table, mode)) {
            self.paths.release(id);
            return Ok(());
        }
        let path_bytes = connection.path_bytes + path.len();
        if connection.watches.len() == MAX_WATCHES_PER_CONNECTION
            || path_bytes > MAX_WATCHED_BYTES_PER_CONNECTION
        {
            self.paths.release(id);
            return Err(TooManyWatches(conn));
        }
        connection.path_bytes = path_bytes;
        connection.watches.insert((id, table, mode));
        let is_new = self.watches.insert(Watch { path: id, table, conn, mode });
        assert!(is_new, "both sides know the same watches");
        if mode == WatchMode::Recursive {
            self.recursive.insert(path, conn);
        }
        Ok(())
    }

    /// Watches in both tables.
    pub fn watch_count(&self) -> usize {
        self.watches.len()
    }

    /// Paths with a watch in either table.
    pub fn watched_paths(&self) -> usize {
        self.paths.len()
    }

    /// Open connections.
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    fn deliver(&self, conn: ConnId, what: Deliver, out: &mut Vec<(ConnId, Deliver)>) {
        if self.connections.contains_key(&conn) {
            out.push((conn, what));
        }
    }

    /// Too many watches close the connection.
    fn watch_all(
        &mut self,
        conn: ConnId,
        watches: impl IntoIterator<Item = NewWatch>,
        out: &mut Vec<(ConnId, Deliver)>,
    ) -> Result<(), TooManyWatches> {
        for watch in watches {
            if let Err(too_many) = self.watch(conn, watch) {
                self.close(conn, out);
                return Err(too_many);
            }
        }
        Ok(())
    }

    fn close(&mut self, conn: ConnId, out: &mut Vec<(ConnId, Deliver)>) {
        self.deliver(conn, Deliver::Close, out);
        self.forget(conn);
    }

    fn forget(&mut self, conn: ConnId) {
        let Some(connection) = self.connections.remove(&conn) else { return };
        for (path, table, mode) in connection.watches {
            self.unlist(Watch { path, table, conn, mode });
        }
    }

    /// The steps of a change, in the order in which they are told.
    fn fire(&mut self, change: &Change, out: &mut Vec<(ConnId, Deliver)>) {
        let (path, zxid, acl) = (&change.path, change.zxid, &change.acl[..]);
        let event = |kind| Event { kind, path, zxid, acl };
        match change.kind {
            ChangeKind::Created => {
                self.tell(WatchTable::Data, &event(EventKind::NodeCreated), &[], out);
            }
            ChangeKind::Deleted => {
                let deleted = event(EventKind::NodeDeleted);
                let told = self.tell(WatchTable::Data, &deleted, &[], out);
                self.tell(WatchTable::Child, &deleted, &told, out);
            }
            ChangeKind::DataChanged => {
                self.tell(WatchTable::Data, &event(EventKind::NodeDataChanged), &[], out);
            }
        }
        if let Some((path, acl)) = &change.parent {
            let children = Event { kind: EventKind::NodeChildrenChanged, path, zxid, acl };
            self.tell(WatchTable::Child, &children, &[], out);
        }
    }

    /// One step: each connection with a matching watch hears the event once, but for those in `skip`
    /// (sorted) and those that may not read the znode. Returns all that match, sorted.
    fn tell(
        &mut self,
        table: WatchTable,
        event: &Event<'_>,
        skip: &[ConnId],
        out: &mut Vec<(ConnId, Deliver)>,
    ) -> Vec<ConnId> {
        let matched = self.take_matching(table, event.path);
        let is_open = self.rules.allows(event.acl, perms::READ, &[]);
        for conn in &matched {
            let connection = &self.connections[conn];
            let may_read = is_open || self.rules.allows(event.acl, perms::READ, &connection.auth);
            if may_read && skip.binary_search(conn).is_err() {
                let event = WatchEvent { kind: event.kind, path: event.path.clone(), zxid: event.zxid };
                out.push((*conn, Deliver::Event(event)));
            }
        }
        matched
    }

    /// The connections whose watches match in a step, sorted. Standard watches are used up.
    fn take_matching(&mut self, table: WatchTable, path: &str) -> Vec<ConnId> {
        let here = self.paths.find(path).map_or(Vec::new(), |id| self.listed(id, table));
        let mut matched: Vec<ConnId> = here.iter().map(|watch| watch.conn).collect();
        for watch in here {
            if watch.mode == WatchMode::Standard {
                self.remove(watch);
            }
        }
        if table == WatchTable::Data {
            self.recursive.add_above(path, &mut matched);
            matched.sort_unstable();
        }
        matched.dedup();
        matched
    }

    /// The watches of a path in a table, by connection.
    fn listed(&self, path: PathId, table: WatchTable) -> Vec<Watch> {
        let first = Watch { path, table, conn: ConnId(0), mode: WatchMode::Standard };
        let last = Watch { path, table, conn: ConnId(u64::MAX), mode: WatchMode::Recursive };
        self.watches.range(first..=last).copied().collect()
    }

    fn remove(&mut self, watch: Watch) {
        let connection = self.connections.get_mut(&watch.conn).expect("watches go with their connection");
        connection.path_bytes -= self.paths.text(watch.path).len();
        let was_known = connection.watches.remove(&(watch.path, watch.table, watch.mode));
        assert!(was_known, "both sides know the same watches");
        self.unlist(watch);
    }

    /// Removes a watch that its connection does not know any more.
    fn unlist(&mut self, watch: Watch) {
        let was_listed = self.watches.remove(&watch);
        assert!(was_listed, "both sides know the same watches");
        if watch.mode == WatchMode::Recursive {
            self.recursive.remove(self.paths.text(watch.path), watch.conn);
        }
        self.paths.release(watch.path);
    }
}
