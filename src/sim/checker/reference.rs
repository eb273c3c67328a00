//! What the tree must look like at every zxid, computed once more and in the plainest way from the committed
//! transactions. A server may be behind, so the past is kept, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use zabra_actors::core::tree::Tree;
use zabra_actors::core::watches::WatchTable;
use zabra_actors::types::{EventKind, SessionId, Stat, Str, Txn, TxnBody, TxnHeader, Zxid};

/// A znode at some time.
#[derive(Clone, Debug, Default)]
pub(super) struct Znode {
    pub(super) data: Option<Bytes>,
    pub(super) stat: Stat,
    pub(super) children: Arc<BTreeSet<Str>>,
    /// Children ever created.
    creates: i32,
}

/// See the module's story.
pub(super) struct Reference {
    znodes: BTreeMap<Str, Vec<(Zxid, Option<Znode>)>>,
    /// What happened to a znode, and to its children: what a watch on it would tell.
    changes: BTreeMap<(WatchTable, Str), Vec<(Zxid, EventKind)>>,
    pub(super) sessions: BTreeMap<SessionId, i32>,
    /// All that ever were. Others are local to their server.
    opened: BTreeSet<SessionId>,
    /// A clock has gone back: a server that restarts then may give an id again, since ids begin with its time.
    pub(super) ids_return: bool,
    ephemerals: BTreeMap<SessionId, BTreeSet<Str>>,
}

/// The parent of a path, and the name in it.
pub(super) fn split(path: &str) -> (&str, &str) {
    let at = path.rfind('/').unwrap_or(0);
    (if at == 0 { "/" } else { &path[..at] }, &path[at + 1..])
}

impl Reference {
    /// The tree of a fresh ensemble.
    pub(super) fn new() -> Reference {
        let mut reference = Reference {
            znodes: BTreeMap::new(),
            changes: BTreeMap::new(),
            sessions: BTreeMap::new(),
            opened: BTreeSet::new(),
            ids_return: false,
            ephemerals: BTreeMap::new(),
        };
        reference.copy(&Tree::new(), "/");
        reference
    }

    fn copy(&mut self, tree: &Tree, path: &str) {
        let node = tree.get(path).expect("it was just listed");
        let children: BTreeSet<Str> = node.children().map(Str::from).collect();
        for name in &children {
            self.copy(tree, &join(path, name));
        }
        let creates = node.persisted().cversion;
        let znode =
            Znode { data: node.shared_data(), stat: node.stat(), children: Arc::new(children), creates };
        self.znodes.insert(path.into(), vec![(Zxid::ZERO, Some(znode))]);
    }

    /// Is it a session that no transaction has opened? (An id that returns may be that of another one.)
    pub(super) fn is_local(&self, session: SessionId) -> bool {
        !self.opened.contains(&session) || self.ids_return && !self.sessions.contains_key(&session)
    }

    /// The znode as it was right after the transaction `zxid`.
    pub(super) fn at(&self, path: &str, zxid: Zxid) -> Option<&Znode> {
        let states = self.znodes.get(path)?;
        let known = states.partition_point(|(at, _)| *at <= zxid);
        states[..known].last()?.1.as_ref()
    }

    /// The first thing after `zxid` that a watch would tell.
    pub(super) fn first_change(
        &self,
        table: WatchTable,
        path: &Str,
        zxid: Zxid,
    ) -> Option<(Zxid, EventKind)> {
        let changes = self.changes.get(&(table, path.clone()))?;
        changes.get(changes.partition_point(|(at, _)| *at <= zxid)).copied()
    }

    /// The next committed transaction. An error is a violation: its leader has made it wrong.
    pub(super) fn apply(&mut self, txn: &Txn) -> Result<(), String> {
        let TxnHeader { session, zxid, .. } = txn.header;
        match &txn.body {
            TxnBody::CreateSession { timeout_ms } => {
                let is_open = self.sessions.insert(session, *timeout_ms).is_some();
                if is_open || !self.opened.insert(session) && !self.ids_return {
                    return Err(format!("{zxid} opens session {session} a second time"));
                }
            }
            TxnBody::CloseSession { paths } => self.close(&txn.header, paths.as_deref())?,
            TxnBody::Multi(members) if members.iter().any(|body| matches!(body, TxnBody::Error(_))) => {}
            TxnBody::Multi(members) => {
                for body in members {
                    self.change(&txn.header, body)?;
                }
            }
            body => self.change(&txn.header, body)?,
        }
        Ok(())
    }

    /// I16: the ephemerals of a session go with it, at this zxid: those listed, and there are no others.
    fn close(&mut self, header: &TxnHeader, listed: Option<&[Str]>) -> Result<(), String> {
        self.sessions.remove(&header.session);
        let owned = self.ephemerals.remove(&header.session).unwrap_or_default();
        if let Some(listed) = listed
            && listed.iter().cloned().collect::<BTreeSet<_>>() != owned
        {
            let TxnHeader { session, zxid, .. } = header;
            return Err(format!("I16: {zxid} ends session {session} with {listed:?}, and it owns {owned:?}"));
        }
        owned.iter().try_for_each(|path| self.delete(header.zxid, path))
    }

    fn change(&mut self, header: &TxnHeader, body: &TxnBody) -> Result<(), String> {
        let zxid = header.zxid;
        match body {
            TxnBody::Create { path, data, ephemeral, parent_cversion, .. } => {
                self.create(header, path, data, *ephemeral, *parent_cversion)
            }
            TxnBody::Delete { path, .. } => self.delete(zxid, path),
            TxnBody::SetData { path, data, version, .. } => self.update(zxid, path, |znode| {
                znode.data = data.clone();
                (znode.stat.mzxid, znode.stat.mtime) = (zxid.0, header.time);
                (znode.stat.data_length, znode.stat.version) = (length(data), znode.stat.version + 1);
                (znode.stat.version == *version).then_some(Some(EventKind::NodeDataChanged))
            }),
            TxnBody::SetAcl { path, version, .. } => self.update(zxid, path, |znode| {
                znode.stat.aversion += 1;
                (znode.stat.aversion == *version).then_some(None)
            }),
            TxnBody::Check { .. } | TxnBody::Error(_) => Ok(()),
            TxnBody::CreateSession { .. } | TxnBody::CloseSession { .. } | TxnBody::Multi(_) => {
                Err(format!("{zxid} holds what no multi may hold"))
            }
        }
    }

    fn create(
        &mut self,
        header: &TxnHeader,
        path: &Str,
        data: &Option<Bytes>,
        ephemeral: bool,
        creates: i32,
    ) -> Result<(), String> {
        let TxnHeader { session, zxid, time, .. } = *header;
        if self.at(path, zxid).is_some() {
            return Err(format!("{zxid} creates {path}, which is there already"));
        }
        let owner = if ephemeral { session.0 } else { 0 };
        if ephemeral {
            if !self.sessions.contains_key(&session) {
                return Err(format!(
                    "I16: {zxid} creates the ephemeral {path} of session {session}, which is over"
                ));
            }
            self.ephemerals.entry(session).or_default().insert(path.clone());
        }
        let (parent, name) = split(path);
        self.update(zxid, parent, |znode| {
            Arc::make_mut(&mut znode.children).insert(name.into());
            (znode.creates, znode.stat.pzxid) = (znode.creates + 1, zxid.0);
            (znode.creates == creates).then_some(None)
        })?;
        self.told(WatchTable::Child, parent.into(), zxid, EventKind::NodeChildrenChanged);
        let stat = Stat {
            czxid: zxid.0,
            mzxid: zxid.0,
            pzxid: zxid.0,
            ctime: time,
            mtime: time,
            ephemeral_owner: owner,
            data_length: length(data),
            ..Stat::default()
        };
        self.put(zxid, path, Some(Znode { data: data.clone(), stat, ..Znode::default() }));
        self.told(WatchTable::Data, path.clone(), zxid, EventKind::NodeCreated);
        Ok(())
    }

    fn delete(&mut self, zxid: Zxid, path: &Str) -> Result<(), String> {
        let znode =
            self.at(path, zxid).ok_or_else(|| format!("{zxid} deletes {path}, which is not there"))?;
        if !znode.children.is_empty() {
            return Err(format!("{zxid} deletes {path}, which has children"));
        }
        let owner = SessionId(znode.stat.ephemeral_owner);
        if let Some(owned) = self.ephemerals.get_mut(&owner) {
            owned.remove(path);
        }
        self.put(zxid, path, None);
        self.told(WatchTable::Data, path.clone(), zxid, EventKind::NodeDeleted);
        self.told(WatchTable::Child, path.clone(), zxid, EventKind::NodeDeleted);
        let (parent, name) = split(path);
        self.update(zxid, parent, |znode| {
            Arc::make_mut(&mut znode.children).remove(name);
            znode.stat.pzxid = zxid.0;
            Some(None)
        })?;
        self.told(WatchTable::Child, parent.into(), zxid, EventKind::NodeChildrenChanged);
        Ok(())
    }

    /// Changes a znode that must be there. The change says what a data watch would tell, or that the
    /// transaction says otherwise.
    fn update(
        &mut self,
        zxid: Zxid,
        path: &str,
        change: impl FnOnce(&mut Znode) -> Option<Option<EventKind>>,
    ) -> Result<(), String> {
        let mut znode = self
            .at(path, zxid)
            .cloned()
            .ok_or_else(|| format!("{zxid} changes {path}, which is not there"))?;
        let told = change(&mut znode).ok_or_else(|| format!("{zxid} gives {path} a version out of order"))?;
        znode.stat.num_children = znode.children.len() as i32;
        znode.stat.cversion = 2 * znode.creates - znode.stat.num_children;
        self.put(zxid, path, Some(znode));
        if let Some(kind) = told {
            self.told(WatchTable::Data, path.into(), zxid, kind);
        }
        Ok(())
    }

    fn put(&mut self, zxid: Zxid, path: &str, znode: Option<Znode>) {
        let states = match self.znodes.get_mut(path) {
            Some(states) => states,
            None => self.znodes.entry(path.into()).or_default(),
        };
        match states.last_mut() {
            Some((at, state)) if *at == zxid => *state = znode,
            _ => states.push((zxid, znode)),
        }
    }

    fn told(&mut self, table: WatchTable, path: Str, zxid: Zxid, kind: EventKind) {
        self.changes.entry((table, path)).or_default().push((zxid, kind));
    }
}

fn length(data: &Option<Bytes>) -> i32 {
    data.as_ref().map_or(0, |data| data.len() as i32)
}

/// The path of a child.
pub(super) fn join(path: &str, name: &str) -> String {
    if path == "/" { format!("/{name}") } else { format!("{path}/{name}") }
}
