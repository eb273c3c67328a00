//! The operations, one method each: what goes in, what comes out. A `version` of `None` matches any.

use std::time::Duration;

use bytes::Bytes;

use super::{Acl, Client, Error, MultiResult, Op, ReplyBody, Stat, Str, ZkError, perms};
use zabra_actors::types::CreateKind;

/// The version that matches any.
const ANY_VERSION: i32 = -1;

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

    /// The data of a znode, `None` when null (which is not the same as empty), and its Stat.
    pub async fn get_data(&self, path: &str, watch: bool) -> Result<(Option<Bytes>, Stat), Error> {
        match self.request(Op::GetData { path: path.into(), watch }).await? {
            // Copied, since the original is a slice of the socket's buffer, and would keep all of it alive.
            ReplyBody::Data(data, stat) => Ok((data.map(|data| Bytes::copy_from_slice(&data)), stat)),
            other => Err(unexpected(other)),
        }
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

/// Replies are decoded by their request's shape, so this is a bug here and not the server's.
fn unexpected(body: ReplyBody) -> Error {
    Error::Unexpected(format!("{body:?}"))
}
