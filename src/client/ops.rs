//! The operations, one method each: what goes in, what comes out. A `version` of `None` matches any.

use std::time::Duration;

use bytes::Bytes;

use super::{
    Acl, Client, Error, Id, MultiResult, Op, ReplyBody, Stat, Str, Watch, WatcherType, ZkError, path, perms,
};
use zabra_actors::types::CreateKind;

/// The version that matches any.
const ANY_VERSION: i32 = -1;

/// Where servers keep the ensemble's configuration.
const CONFIG_NODE: &str = "/zookeeper/config";

/// What kind of znode a create makes. Sequential ones get a number of ten digits behind their path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateMode {
    /// Stays until deleted.
    Persistent,
    /// Goes with the session. It cannot have children.
    Ephemeral,
    /// Persistent, with a number.
    PersistentSequential,
    /// Ephemeral, with a number.
    EphemeralSequential,
    /// Goes some time after its last child has gone.
    Container,
    /// Goes when it has no children and its data was not set for so long. Servers refuse it unless extended types are
    /// enabled.
    Ttl(Duration),
    /// As [`CreateMode::Ttl`], with a number.
    SequentialTtl(Duration),
}

impl CreateMode {
    fn flags(self) -> i32 {
        match self {
            CreateMode::Persistent => 0,
            CreateMode::Ephemeral => 1,
            CreateMode::PersistentSequential => 2,
            CreateMode::EphemeralSequential => 3,
            CreateMode::Container => 4,
            CreateMode::Ttl(_) => 5,
            CreateMode::SequentialTtl(_) => 6,
        }
    }

    fn kind(self) -> CreateKind {
        match self {
            CreateMode::Container => CreateKind::Container,
            CreateMode::Ttl(ttl) | CreateMode::SequentialTtl(ttl) => {
                // More milliseconds than an i64 holds are refused by the server, as is its maximum.
                CreateKind::Ttl(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX))
            }
            _ => CreateKind::Create2,
        }
    }
}

/// Which changes a watch that stays tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchMode {
    /// Those of the znode's data, of its children's names, its creation and deletion.
    Persistent,
    /// Data, creation and deletion of the znode and of everything below it; no changes of children's names.
    PersistentRecursive,
}

/// How an ensemble shall change: servers that join and servers that leave, or all members anew.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reconfig<'a> {
    /// `server.N=host:port:port:role;port`, several with commas between them.
    pub joining: Option<&'a str>,
    /// Ids, with commas between them.
    pub leaving: Option<&'a str>,
    /// All members, as `joining`; not together with one of the others.
    pub new_members: Option<&'a str>,
    /// Only if this is the version of the configuration until now.
    pub version: Option<i64>,
}

/// A create, for [`Client::multi`] or [`Client::submit`].
pub fn create_op(path: &str, data: impl Into<Bytes>, mode: CreateMode, acl: Vec<Acl>) -> Op {
    Op::Create {
        kind: mode.kind(),
        path: path.into(),
        data: Some(data.into()),
        acl: Some(acl),
        flags: mode.flags(),
    }
}

/// A delete, for [`Client::multi`] or [`Client::submit`].
pub fn delete_op(path: &str, version: Option<i32>) -> Op {
    Op::Delete { path: path.into(), version: version.unwrap_or(ANY_VERSION) }
}

/// A setData, for [`Client::multi`] or [`Client::submit`].
pub fn set_data_op(path: &str, data: impl Into<Bytes>, version: Option<i32>) -> Op {
    Op::SetData { path: path.into(), data: Some(data.into()), version: version.unwrap_or(ANY_VERSION) }
}

/// A check of a version, for [`Client::multi`] only.
pub fn check_op(path: &str, version: Option<i32>) -> Op {
    Op::Check { path: path.into(), version: version.unwrap_or(ANY_VERSION) }
}

impl Client {
    /// Creates a znode that anyone may do anything with. Gives its path, which for a sequential one has the number.
    pub async fn create(&self, path: &str, data: impl Into<Bytes>, mode: CreateMode) -> Result<Str, Error> {
        let open = vec![Acl::world(perms::ALL)];
        Ok(self.create_with_acl(path, data, mode, open).await?.0)
    }

    /// Creates a znode with an ACL; gives its path and its Stat.
    pub async fn create_with_acl(
        &self,
        path: &str,
        data: impl Into<Bytes>,
        mode: CreateMode,
        acl: Vec<Acl>,
    ) -> Result<(Str, Stat), Error> {
        match self.request(create_op(path, data, mode, acl)).await? {
            ReplyBody::PathStat(path, stat) => Ok((path, stat)),
            other => Err(unexpected(other)),
        }
    }

    /// Deletes a znode without children.
    pub async fn delete(&self, path: &str, version: Option<i32>) -> Result<(), Error> {
        self.request(delete_op(path, version)).await.map(|_| ())
    }

    /// The Stat of a znode, or `None` when there is none; a watch then waits for its creation.
    pub async fn exists(&self, path: &str, watch: bool) -> Result<Option<Stat>, Error> {
        match self.request(Op::Exists { path: path.into(), watch }).await {
            Ok(ReplyBody::Stat(stat)) => Ok(Some(stat)),
            Err(Error::Zk(ZkError::NoNode)) => Ok(None),
            Ok(other) => Err(unexpected(other)),
            Err(error) => Err(error),
        }
    }

    /// As [`Client::exists`], and the event of the znode's next change, creation or deletion.
    pub async fn exists_and_watch(&self, path: &str) -> Result<(Option<Stat>, Watch), Error> {
        match self.request_and_watch(Op::Exists { path: path.into(), watch: true }).await? {
            (Ok(ReplyBody::Stat(stat)), watch) => Ok((Some(stat), watch)),
            (Err(ZkError::NoNode), watch) => Ok((None, watch)),
            (Ok(other), _) => Err(unexpected(other)),
            (Err(error), _) => Err(error.into()),
        }
    }

    /// The data of a znode, `None` when null (which is not the same as empty), and its Stat.
    pub async fn get_data(&self, path: &str, watch: bool) -> Result<(Option<Bytes>, Stat), Error> {
        data(self.request(Op::GetData { path: path.into(), watch }).await?)
    }

    /// As [`Client::get_data`], and the event of the znode's next change or deletion.
    pub async fn get_data_and_watch(&self, path: &str) -> Result<(Option<Bytes>, Stat, Watch), Error> {
        let (result, watch) = self.request_and_watch(Op::GetData { path: path.into(), watch: true }).await?;
        let (data, stat) = data(result?)?;
        Ok((data, stat, watch))
    }

    /// Sets the data of a znode.
    pub async fn set_data(
        &self,
        path: &str,
        data: impl Into<Bytes>,
        version: Option<i32>,
    ) -> Result<Stat, Error> {
        self.stat(set_data_op(path, data, version)).await
    }

    /// The names of the children, without the path and in no order, and the znode's Stat.
    pub async fn get_children(&self, path: &str, watch: bool) -> Result<(Vec<Str>, Stat), Error> {
        match self.request(Op::GetChildren { path: path.into(), watch, stat: true }).await? {
            ReplyBody::ChildrenStat(names, stat) => Ok((names, stat)),
            other => Err(unexpected(other)),
        }
    }

    /// As [`Client::get_children`], and the event of the next child created or deleted, or of the znode's deletion.
    pub async fn get_children_and_watch(&self, path: &str) -> Result<(Vec<Str>, Stat, Watch), Error> {
        let op = Op::GetChildren { path: path.into(), watch: true, stat: true };
        let (result, watch) = self.request_and_watch(op).await?;
        match result? {
            ReplyBody::ChildrenStat(names, stat) => Ok((names, stat, watch)),
            other => Err(unexpected(other)),
        }
    }

    /// Sets a watch that stays: its events come by [`Client::events`] until it is removed.
    pub async fn add_watch(&self, path: &str, mode: WatchMode) -> Result<(), Error> {
        let recursive = mode == WatchMode::PersistentRecursive;
        self.request(Op::AddWatch { path: path.into(), recursive }).await.map(|_| ())
    }

    /// Removes this client's watches of a kind from a znode. NoWatcher if there are none.
    pub async fn remove_watches(&self, path: &str, kind: WatcherType) -> Result<(), Error> {
        self.request(Op::RemoveWatches { path: Some(path.into()), kind }).await.map(|_| ())
    }

    /// How many znodes are below this one, at any depth.
    pub async fn get_all_children_number(&self, path: &str) -> Result<i32, Error> {
        match self.request(Op::GetAllChildrenNumber { path: path.into() }).await? {
            ReplyBody::Count(count) => Ok(count),
            other => Err(unexpected(other)),
        }
    }

    /// The paths of this session's ephemerals that begin so, in no order; `/` for all.
    pub async fn get_ephemerals(&self, prefix: &str) -> Result<Vec<Str>, Error> {
        match self.request(Op::GetEphemerals { prefix: Some(prefix.into()) }).await? {
            ReplyBody::Ephemerals(paths) => Ok(paths),
            other => Err(unexpected(other)),
        }
    }

    /// Who the server takes this connection for: schemes and users.
    pub async fn who_am_i(&self) -> Result<Vec<Id>, Error> {
        match self.request(Op::WhoAmI).await? {
            ReplyBody::WhoAmI(ids) => Ok(ids),
            other => Err(unexpected(other)),
        }
    }

    /// The ensemble's configuration, and the Stat of the znode that holds it, whatever the client's root is.
    pub async fn get_config(&self, watch: bool) -> Result<(Option<Bytes>, Stat), Error> {
        data(self.request_outside(Op::GetData { path: CONFIG_NODE.into(), watch }).await?)
    }

    /// Changes the ensemble's members; gives the new configuration.
    pub async fn reconfig(&self, change: Reconfig<'_>) -> Result<(Option<Bytes>, Stat), Error> {
        let own = |list: Option<&str>| list.map(Str::from);
        let op = Op::Reconfig {
            joining: own(change.joining),
            leaving: own(change.leaving),
            new_members: own(change.new_members),
            version: change.version.unwrap_or(i64::from(ANY_VERSION)),
        };
        data(self.request_outside(op).await?)
    }

    /// Makes the connected server catch up with the leader: reads submitted after this one see all writes that were
    /// finished before it.
    pub async fn sync(&self, path: &str) -> Result<(), Error> {
        self.request(Op::Sync { path: Some(path.into()) }).await.map(|_| ())
    }

    /// Does all of these (creates, deletes, setDatas, checks) or none; gives one result each.
    pub async fn multi(&self, members: Vec<Op>) -> Result<Vec<MultiResult>, Error> {
        let results = match self.request(Op::Multi(members)).await? {
            ReplyBody::Multi(results) => results,
            other => return Err(unexpected(other)),
        };
        // Of a failed multi every result is an error: 0 before the culprit, RuntimeInconsistency behind it.
        let failed = results.iter().enumerate().find_map(|(member, result)| match result {
            MultiResult::Error(code) if *code != 0 => Some((member, *code)),
            _ => None,
        });
        match failed {
            None => Ok(results),
            Some((member, code)) => match ZkError::from_code(code) {
                Some(error) => Err(Error::Multi { member, error }),
                None => Err(Error::Unexpected(format!("error {code} in a multi"))),
            },
        }
    }

    /// Reads all of these (getDatas and getChildren) of one state of the tree; gives one result each, of which some may
    /// be errors.
    pub async fn multi_read(&self, members: Vec<Op>) -> Result<Vec<MultiResult>, Error> {
        match self.request(Op::MultiRead(members)).await? {
            ReplyBody::Multi(results) => Ok(results),
            other => Err(unexpected(other)),
        }
    }

    /// The ACL of a znode and its Stat.
    pub async fn get_acl(&self, path: &str) -> Result<(Vec<Acl>, Stat), Error> {
        match self.request(Op::GetAcl { path: path.into() }).await? {
            ReplyBody::Acl(acl, stat) => Ok((acl, stat)),
            other => Err(unexpected(other)),
        }
    }

    /// Sets the ACL of a znode. The version is the ACL's own (`aversion`).
    pub async fn set_acl(&self, path: &str, acl: Vec<Acl>, version: Option<i32>) -> Result<Stat, Error> {
        let version = version.unwrap_or(ANY_VERSION);
        self.stat(Op::SetAcl { path: path.into(), acl: Some(acl), version }).await
    }

    async fn stat(&self, op: Op) -> Result<Stat, Error> {
        match self.request(op).await? {
            ReplyBody::Stat(stat) => Ok(stat),
            other => Err(unexpected(other)),
        }
    }
}

/// Data and Stat of a reply. The data is copied, since the original is a slice of the socket's buffer, and would keep
/// all of it alive.
fn data(body: ReplyBody) -> Result<(Option<Bytes>, Stat), Error> {
    match body {
        ReplyBody::Data(data, stat) => Ok((data.map(|data| Bytes::copy_from_slice(&data)), stat)),
        other => Err(unexpected(other)),
    }
}

/// Judges the paths of a request, as Apache's client does it before it sends one.
pub(super) fn check_paths(op: &Op) -> Result<(), Error> {
    let checked = match op {
        // The number will stand behind the path, which may well end in a slash.
        Op::Create { path, flags: 2 | 3 | 6, .. } => path::validate(&format!("{path}1")),
        Op::Create { path, .. }
        | Op::Delete { path, .. }
        | Op::Exists { path, .. }
        | Op::GetData { path, .. }
        | Op::SetData { path, .. }
        | Op::GetAcl { path }
        | Op::SetAcl { path, .. }
        | Op::GetChildren { path, .. }
        | Op::Sync { path: Some(path) }
        | Op::Check { path, .. }
        | Op::AddWatch { path, .. }
        | Op::RemoveWatches { path: Some(path), .. }
        | Op::GetAllChildrenNumber { path }
        | Op::GetEphemerals { prefix: Some(path) } => path::validate(path),
        Op::Multi(members) | Op::MultiRead(members) => return members.iter().try_for_each(check_paths),
        _ => Ok(()),
    };
    checked.map_err(Error::BadPath)
}

/// Replies are decoded by their request's shape, so this is a bug here and not the server's.
fn unexpected(body: ReplyBody) -> Error {
    Error::Unexpected(format!("{body:?}"))
}
