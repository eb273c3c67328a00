//! Commands about one znode.

use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::{Work, about};
use crate::cli::command::{Data, Form, Kind};
use crate::cli::failure::{Failure, code_text};
use crate::cli::output::Output;
use crate::client::{
    Acl, CreateKind, CreateMode, Error, MAX_REQUEST, Op, ReplyBody, Stat, WatchMode, WatcherType, ZkError,
    create_op,
};

/// How long a sync may take, as in Apache's shell.
const SYNC_LIMIT: Duration = Duration::from_secs(30);

impl Work<'_> {
    pub(super) async fn create(
        &self,
        path: &str,
        data: Data,
        acl: Vec<Acl>,
        kind: Kind,
    ) -> Result<(), Failure> {
        let mode = match kind {
            Kind::Plain { sequential: false, ephemeral: false } => CreateMode::Persistent,
            Kind::Plain { sequential: true, ephemeral: false } => CreateMode::PersistentSequential,
            Kind::Plain { sequential: false, ephemeral: true } => CreateMode::Ephemeral,
            Kind::Plain { sequential: true, ephemeral: true } => CreateMode::EphemeralSequential,
            Kind::Container => CreateMode::Container,
            Kind::Ttl { sequential: false, ms } => CreateMode::Ttl(Duration::from_millis(ms.unsigned_abs())),
            Kind::Ttl { sequential: true, ms } => {
                CreateMode::SequentialTtl(Duration::from_millis(ms.unsigned_abs()))
            }
        };
        let mut op = create_op(path, Bytes::new(), mode, acl);
        if let Op::Create { data: to_send, kind, .. } = &mut op {
            *to_send = read(data)?;
            if *kind == CreateKind::Create2 {
                // The oldest servers know only this one.
                *kind = CreateKind::Create;
            }
        }
        match self.client.request(op).await {
            Ok(ReplyBody::Path(path) | ReplyBody::PathStat(path, _)) => self.put(Output::Created { path }),
            Ok(other) => Err(Failure::of(&Error::Unexpected(format!("{other:?}")), path)),
            Err(error) => {
                if let Error::Zk(refused @ ZkError::InvalidAcl) = error {
                    self.put(Output::Notice(format!("KeeperErrorCode = {} for {path}", code_text(refused))))?;
                }
                if let Error::Zk(ZkError::EphemeralOnLocalSession) = error {
                    self.put(Output::Notice("Unable to create ephemeral node on a local session".into()))?;
                }
                Err(Failure::of(&error, path))
            }
        }
    }

    pub(super) async fn delete(&self, path: &str, version: Option<i32>) -> Result<(), Failure> {
        self.client.delete(path, version).await.map_err(about(path))?;
        self.put(Output::Done { json: json!({ "deleted": path }) })
    }

    pub(super) async fn get(
        &self,
        path: String,
        form: Form,
        watch: bool,
        with_stat: bool,
    ) -> Result<(), Failure> {
        let (data, stat) = self.client.get_data(&path, watch).await.map_err(about(&path))?;
        self.put(Output::Data { path, data, form, stat, with_stat })
    }

    pub(super) async fn set(
        &self,
        path: String,
        data: Data,
        version: Option<i32>,
        aloud: bool,
    ) -> Result<(), Failure> {
        let data = read(data)?.unwrap_or_default();
        let stat = self.client.set_data(&path, data, version).await.map_err(about(&path))?;
        self.put(Output::Stat { path, stat, aloud })
    }

    pub(super) async fn ls(&self, path: String, watch: bool, with_stat: bool) -> Result<(), Failure> {
        let (mut names, stat) = self.client.get_children(&path, watch).await.map_err(about(&path))?;
        names.sort_unstable();
        self.put(Output::Children { path, names, stat, with_stat })
    }

    pub(super) async fn stat(&self, path: String, watch: bool) -> Result<(), Failure> {
        let found = self.client.exists(&path, watch).await.map_err(about(&path))?;
        let stat = found.ok_or_else(|| Failure::of(&ZkError::NoNode.into(), &path))?;
        self.put(Output::Stat { path, stat, aloud: true })
    }

    pub(super) async fn get_acl(&self, path: String, with_stat: bool) -> Result<(), Failure> {
        let (acl, stat) = self.client.get_acl(&path).await.map_err(about(&path))?;
        self.put(Output::Acl { path, acl, stat, with_stat })
    }

    pub(super) async fn set_acl(
        &self,
        path: String,
        acl: Vec<Acl>,
        version: Option<i32>,
        aloud: bool,
    ) -> Result<(), Failure> {
        let stat: Stat = self.client.set_acl(&path, acl, version).await.map_err(about(&path))?;
        self.put(Output::Stat { path, stat, aloud })
    }

    pub(super) async fn sync(&self, path: &str) -> Result<(), Failure> {
        match tokio::time::timeout(SYNC_LIMIT, self.client.sync(path)).await {
            Err(_) => Err(Failure::new(format!("Sync has failed: no answer within {SYNC_LIMIT:?}"))),
            Ok(Ok(())) => {
                self.put(Output::Line { text: "Sync is OK".into(), json: json!({ "synced": path }) })
            }
            Ok(Err(Error::Zk(error))) => Err(Failure {
                error: Some(format!("{error:?}")),
                ..Failure::new(format!("Sync has failed. rc={}", error.code()))
            }),
            Ok(Err(error)) => Err(Failure::of(&error, path)),
        }
    }

    pub(super) async fn add_watch(&self, path: &str, mode: WatchMode) -> Result<(), Failure> {
        self.client.add_watch(path, mode).await.map_err(about(path))?;
        let mode = match mode {
            WatchMode::Persistent => "PERSISTENT",
            WatchMode::PersistentRecursive => "PERSISTENT_RECURSIVE",
        };
        self.put(Output::Done { json: json!({ "watched": path, "mode": mode }) })
    }

    pub(super) async fn remove_watches(
        &self,
        path: &str,
        kind: WatcherType,
        local: bool,
    ) -> Result<(), Failure> {
        let removed = match self.client.remove_watches(path, kind).await {
            Err(Error::ConnectionLoss(_)) if local => Ok(self.forget(path, kind)?),
            removed => removed.map_err(about(path)),
        };
        removed?;
        self.put(Output::Done { json: json!({ "unwatched": path }) })
    }

    /// Removes watches without a server.
    pub(super) fn forget(&self, path: &str, kind: WatcherType) -> Result<(), Failure> {
        match self.client.forget_watches(path, kind) {
            true => Ok(()),
            false => Err(Failure::of(&ZkError::NoWatcher.into(), path)),
        }
    }
}

/// Data from where the command says. More than a request can hold is not read.
fn read(data: Data) -> Result<Option<Bytes>, Failure> {
    let (source, read) = match data {
        Data::Null => return Ok(None),
        Data::Bytes(bytes) => return Ok(Some(bytes.into())),
        Data::Stdin => ("standard input".to_string(), read_bounded(io::stdin())),
        Data::File(path) => (path.display().to_string(), read_file(&path)),
    };
    match read {
        Err(error) => Err(Failure::new(format!("{source}: {error}"))),
        Ok(bytes) if bytes.len() > MAX_REQUEST => Err(Failure::new(format!(
            "{source}: more than {MAX_REQUEST} bytes, which is all that a request may have (jute.maxbuffer)"
        ))),
        Ok(bytes) => Ok(Some(bytes.into())),
    }
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    read_bounded(std::fs::File::open(path)?)
}

fn read_bounded(source: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(MAX_REQUEST as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
