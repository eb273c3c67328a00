//! Commands about a znode and everything below it. None of them sees one state of the tree: others may change it
//! meanwhile.

use std::collections::VecDeque;

use serde_json::json;

use super::{Work, about};
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::client::{Acl, Error, Response, Str, ZkError, delete_op};

/// Batches of deletes that are on their way at a time, as in Apache's shell.
const BATCHES: usize = 10;

impl Work<'_> {
    /// A znode first, then its children in order, then what is below each.
    pub(super) async fn ls_all(&self, path: &str, watch: bool) -> Result<(), Failure> {
        // Only reading it shows that it is there, and sets its own watch.
        self.client.get_data(path, watch).await.map_err(about(path))?;
        self.put(Output::Path { path: path.into() })?;
        let mut open = vec![path.to_string()];
        while let Some(parent) = open.pop() {
            let children = self.children(&parent, watch).await?;
            children.iter().try_for_each(|child| self.put(Output::Path { path: child.clone() }))?;
            open.extend(children.into_iter().rev());
        }
        Ok(())
    }

    /// The paths of the children, in order; none of a znode that has gone meanwhile.
    async fn children(&self, parent: &str, watch: bool) -> Result<Vec<String>, Failure> {
        let mut names = match self.client.get_children(parent, watch).await {
            Ok((names, _)) => names,
            Err(Error::Zk(ZkError::NoNode)) => return Ok(Vec::new()),
            Err(error) => return Err(Failure::of(&error, parent)),
        };
        names.sort_unstable();
        Ok(names.iter().map(|name| child(parent, name)).collect())
    }

    pub(super) async fn delete_all(&self, path: &str, batch: i32) -> Result<(), Failure> {
        let mut tree = vec![path.to_string()];
        let mut at = 0;
        while let Some(parent) = tree.get(at).cloned() {
            let (names, _) = self.client.get_children(&parent, false).await.map_err(about(&parent))?;
            tree.extend(names.iter().map(|name| child(&parent, name)));
            at += 1;
        }
        // Leaves first.
        tree.reverse();
        match usize::try_from(batch) {
            Ok(batch) if batch > 0 => self.delete_in_batches(&tree, batch).await?,
            _ => {
                for path in &tree {
                    self.client.delete(path, None).await.map_err(about(path))?;
                }
            }
        }
        self.put(Output::Done { json: json!({ "deleted": path, "znodes": tree.len() }) })
    }

    async fn delete_in_batches(&self, tree: &[String], batch: usize) -> Result<(), Failure> {
        let mut on_their_way: VecDeque<Response> = VecDeque::new();
        let mut failed = false;
        for paths in tree.chunks(batch) {
            if on_their_way.len() == BATCHES {
                let oldest = on_their_way.pop_front().expect("there are ten");
                failed |= !is_done(oldest).await;
            }
            if failed {
                break;
            }
            let deletes = paths.iter().map(|path| delete_op(path, None)).collect();
            let sent = self.client.submit(crate::client::Op::Multi(deletes)).await;
            on_their_way.push_back(sent.map_err(about(&tree[tree.len() - 1]))?);
        }
        for response in on_their_way {
            failed |= !is_done(response).await;
        }
        match failed {
            true => Err(Failure::new("Failed to delete some node(s) in the subtree!".into())),
            false => Ok(()),
        }
    }

    pub(super) async fn set_acl_all(
        &self,
        path: &str,
        acl: &[Acl],
        version: Option<i32>,
    ) -> Result<(), Failure> {
        self.client.get_data(path, false).await.map_err(about(path))?;
        let mut open = vec![path.to_string()];
        let mut first = None;
        while let Some(path) = open.pop() {
            if let Err(error) = self.client.set_acl(&path, acl.to_vec(), version).await {
                let failure = Failure::of(&error, &path);
                // The rest goes on; the first of several failures is the command's.
                match &first {
                    None => first = Some(failure),
                    Some(_) => self.put(Output::Notice(failure.text))?,
                }
            }
            open.extend(self.children(&path, false).await?.into_iter().rev());
        }
        match first {
            Some(failure) => Err(failure),
            None => self.put(Output::Done { json: json!({ "path": path }) }),
        }
    }
}

fn child(parent: &str, name: &Str) -> String {
    match parent {
        "/" => format!("/{name}"),
        parent => format!("{parent}/{name}"),
    }
}

/// Did a multi do its work?
async fn is_done(response: Response) -> bool {
    use crate::client::{MultiResult, ReplyBody};
    match response.await.map(|reply| reply.result) {
        Ok(Ok(ReplyBody::Multi(results))) => {
            !results.iter().any(|result| matches!(result, MultiResult::Error(_)))
        }
        _ => false,
    }
}
