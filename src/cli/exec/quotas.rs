//! Quotas: znodes below `/zookeeper/quota` that servers look at.

use serde_json::json;

use super::{Work, about};
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::quota::{self, LIMITS, Limit, ROOT, STATS, Track};
use crate::client::{CreateMode, Error, Str, ZkError};

impl Work<'_> {
    pub(super) async fn set_quota(&self, path: &str, limit: Limit, value: i64) -> Result<(), Failure> {
        if self.client.exists(path, false).await.map_err(about(path))?.is_none() {
            return Err(Failure::new(format!("{path} does not exist.")));
        }
        self.no_quota_below(path).await?;
        self.no_quota_above(path).await?;
        self.make_way(path).await?;
        let (limits, stats) = (format!("{ROOT}{path}/{LIMITS}"), format!("{ROOT}{path}/{STATS}"));
        let mut quota = Track::unlimited();
        let known = self.client.exists(&limits, false).await.map_err(about(&limits))?.is_some();
        if known {
            quota = self.track(&limits).await?;
        }
        quota.set(limit, value);
        if !known {
            self.new_node(&limits, &quota.to_string()).await?;
            self.new_node(&stats, &Track::unused().to_string()).await?;
        }
        // Servers count as soon as there are limits.
        let used = self.track(&stats).await?;
        for warning in quota.warnings(&used) {
            self.put(Output::Line { json: json!({ "warning": warning }), text: warning })?;
        }
        if known {
            self.client.set_data(&limits, quota.to_string(), None).await.map_err(about(&limits))?;
        }
        self.put(Output::Done { json: json!({ "path": path, "quota": quota.to_string() }) })
    }

    /// Nothing below may have a quota of its own.
    async fn no_quota_below(&self, path: &str) -> Result<(), Failure> {
        let top = quota::path(path);
        let mut open = vec![top.clone()];
        while let Some(node) = open.pop() {
            let names = self.names(&node).await?;
            if node != top && names.iter().any(|name| &**name == LIMITS) {
                let below = quota::trim(&node);
                return Err(Failure::new(format!("{path} has a child {below} which has a quota")));
            }
            open.extend(names.iter().map(|name| format!("{node}/{name}")));
        }
        Ok(())
    }

    /// And nothing above.
    async fn no_quota_above(&self, path: &str) -> Result<(), Failure> {
        for (end, _) in path.match_indices('/').skip(1) {
            let above = &path[..end];
            let names = self.names(&quota::path(above)).await?;
            if names.iter().any(|name| &**name == LIMITS) {
                return Err(Failure::new(format!("{path} has a parent {above} which has a quota")));
            }
        }
        Ok(())
    }

    /// The names of the children; none of what is not there.
    async fn names(&self, path: &str) -> Result<Vec<Str>, Failure> {
        match self.client.get_children(path, false).await {
            Ok((names, _)) => Ok(names),
            Err(Error::Zk(ZkError::NoNode)) => Ok(Vec::new()),
            Err(error) => Err(Failure::of(&error, path)),
        }
    }

    /// Creates the znodes above a quota.
    async fn make_way(&self, path: &str) -> Result<(), Failure> {
        let whole = quota::path(path);
        let ends = whole.match_indices('/').skip(1).map(|(end, _)| end).chain([whole.len()]);
        for end in ends {
            let node = &whole[..end];
            if self.client.exists(node, false).await.map_err(about(node))?.is_none() {
                self.new_node(node, "").await?;
            }
        }
        Ok(())
    }

    async fn new_node(&self, path: &str, data: &str) -> Result<(), Failure> {
        match self.client.create(path, data.to_string(), CreateMode::Persistent).await {
            // Somebody else was faster.
            Ok(_) | Err(Error::Zk(ZkError::NodeExists)) => Ok(()),
            Err(error) => Err(Failure::of(&error, path)),
        }
    }

    async fn track(&self, path: &str) -> Result<Track, Failure> {
        let (data, _) = self.client.get_data(path, false).await.map_err(about(path))?;
        parse(data.as_deref())
    }

    pub(super) async fn list_quota(&self, path: &str) -> Result<(), Failure> {
        let (limits, stats) = (format!("{ROOT}{path}/{LIMITS}"), format!("{ROOT}{path}/{STATS}"));
        self.put(Output::Notice(format!("absolute path is {limits}")))?;
        let mut said = Vec::new();
        for node in [&limits, &stats] {
            match self.client.get_data(node, false).await {
                Ok((data, _)) => said.push(parse(data.as_deref())?.to_string()),
                Err(Error::Zk(ZkError::NoNode)) => {
                    let text = format!("quota for {path} does not exist.");
                    return self.put(Output::Aside { text, json: json!({ "path": path, "quota": null }) });
                }
                Err(error) => return Err(Failure::of(&error, path)),
            }
        }
        let [quota, used] = &said[..] else { unreachable!("two were read") };
        let text = format!("Output quota for {path} {quota}\nOutput stat for {path} {used}");
        self.put(Output::Line { text, json: json!({ "path": path, "quota": quota, "stat": used }) })
    }

    pub(super) async fn del_quota(&self, path: &str, gone: &[Limit]) -> Result<(), Failure> {
        let limits = format!("{ROOT}{path}/{LIMITS}");
        if self.client.exists(&limits, false).await.map_err(about(&limits))?.is_none() {
            let text = format!("Quota does not exist for {path}");
            return self.put(Output::Line { text, json: json!({ "path": path, "quota": null }) });
        }
        if gone.is_empty() {
            return self.del_quota_nodes(path).await;
        }
        let mut quota = self.track(&limits).await?;
        gone.iter().for_each(|limit| quota.set(*limit, -1));
        self.client.set_data(&limits, quota.to_string(), None).await.map_err(about(&limits))?;
        self.put(Output::Done { json: json!({ "path": path, "quota": quota.to_string() }) })
    }

    /// Deletes limits and statistics, and what is left empty above them.
    async fn del_quota_nodes(&self, path: &str) -> Result<(), Failure> {
        let mut node = quota::path(path);
        for name in self.names(&node).await? {
            // Other quotas below have children of their own and stay.
            if &*name == LIMITS || &*name == STATS {
                let leaf = format!("{node}/{name}");
                self.client.delete(&leaf, None).await.map_err(about(&leaf))?;
            }
        }
        while node != ROOT && self.names(&node).await?.is_empty() {
            self.client.delete(&node, None).await.map_err(about(&node))?;
            node.truncate(node.rfind('/').expect("it is below the root of quotas"));
        }
        self.put(Output::Done { json: json!({ "path": path, "quota": null }) })
    }
}

fn parse(data: Option<&[u8]>) -> Result<Track, Failure> {
    Track::parse(&String::from_utf8_lossy(data.unwrap_or_default())).map_err(Failure::new)
}
