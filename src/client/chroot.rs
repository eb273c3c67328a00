//! A client's own root: all its paths are below a znode that it does not see itself.
//!
//! Servers know nothing of it. Paths get the prefix on their way out ([`Chroot::enter`]) and lose it on their way in.
//! What is not below the root, as the ensemble's configuration, keeps its path.

use zabra_actors::types::{MultiResult, Op, ReplyBody, Str, WatchEvent};

use super::Error;
use super::path;

/// The prefix, empty for none; else it begins with a slash and does not end in one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chroot(Str);

impl Chroot {
    /// The root named behind the servers of a connection string: `/` is none.
    pub(super) fn new(root: &str) -> Result<Chroot, Error> {
        if root == "/" || root.is_empty() {
            return Ok(Chroot::default());
        }
        path::validate(root).map_err(|flaw| Error::BadServers(format!("root {root:?}: {flaw}")))?;
        Ok(Chroot(root.into()))
    }

    /// The path as servers know it.
    pub(super) fn path(&self, path: &Str) -> Str {
        match (self.0.is_empty(), &**path) {
            (true, _) => path.clone(),
            (false, "/") => self.0.clone(),
            (false, path) => format!("{}{path}", self.0).into(),
        }
    }

    /// The path as the client knows it.
    pub(super) fn strip(&self, path: Str) -> Str {
        match path.strip_prefix(&*self.0) {
            _ if self.0.is_empty() => path,
            Some("") => "/".into(),
            Some(below) if below.starts_with('/') => below.into(),
            _ => path,
        }
    }

    /// A request with the paths that servers know.
    pub(super) fn enter(&self, mut op: Op) -> Op {
        if self.0.is_empty() {
            return op;
        }
        match &mut op {
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
            | Op::CheckWatches { path: Some(path), .. }
            | Op::GetAllChildrenNumber { path }
            | Op::GetEphemerals { prefix: Some(path) } => *path = self.path(path),
            Op::Multi(members) | Op::MultiRead(members) => {
                *members = std::mem::take(members).into_iter().map(|member| self.enter(member)).collect();
            }
            _ => {}
        }
        op
    }

    /// A reply with the paths that the client knows.
    pub(super) fn leave(&self, body: ReplyBody) -> ReplyBody {
        if self.0.is_empty() {
            return body;
        }
        match body {
            ReplyBody::Path(path) => ReplyBody::Path(self.strip(path)),
            ReplyBody::PathStat(path, stat) => ReplyBody::PathStat(self.strip(path), stat),
            ReplyBody::Sync(path) => ReplyBody::Sync(path.map(|path| self.strip(path))),
            ReplyBody::Ephemerals(paths) => {
                ReplyBody::Ephemerals(paths.into_iter().map(|path| self.strip(path)).collect())
            }
            ReplyBody::Multi(results) => {
                ReplyBody::Multi(results.into_iter().map(|result| self.leave_result(result)).collect())
            }
            other => other,
        }
    }

    fn leave_result(&self, result: MultiResult) -> MultiResult {
        match result {
            MultiResult::Create(path) => MultiResult::Create(self.strip(path)),
            MultiResult::Create2(path, stat) => MultiResult::Create2(self.strip(path), stat),
            other => other,
        }
    }

    /// An event with the path that the client knows.
    pub(super) fn leave_event(&self, event: WatchEvent) -> WatchEvent {
        WatchEvent { path: self.strip(event.path), ..event }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{check_op, delete_op};

    #[test]
    fn paths_go_out_with_the_root_and_come_back_without() {
        let chroot = Chroot::new("/app/one").unwrap();
        for (inside, outside) in [("/", "/app/one"), ("/a", "/app/one/a"), ("/a/b", "/app/one/a/b")] {
            assert_eq!(&*chroot.path(&inside.into()), outside);
            assert_eq!(&*chroot.strip(outside.into()), inside);
        }
        for elsewhere in ["/zookeeper/config", "/app/onerous", "/app"] {
            assert_eq!(&*chroot.strip(elsewhere.into()), elsewhere);
        }
    }

    #[test]
    fn the_members_of_a_multi_have_paths_too() {
        let chroot = Chroot::new("/app").unwrap();
        let multi = Op::Multi(vec![check_op("/", None), delete_op("/b", Some(3))]);
        let expected = Op::Multi(vec![check_op("/app", None), delete_op("/app/b", Some(3))]);
        assert_eq!(chroot.enter(multi), expected);
        let results = ReplyBody::Multi(vec![MultiResult::Check, MultiResult::Create("/app/s-1".into())]);
        let inside = ReplyBody::Multi(vec![MultiResult::Check, MultiResult::Create("/s-1".into())]);
        assert_eq!(chroot.leave(results), inside);
    }

    #[test]
    fn no_root_changes_nothing() {
        for none in ["", "/"] {
            let chroot = Chroot::new(none).unwrap();
            assert_eq!(chroot, Chroot::default());
            assert_eq!(chroot.enter(delete_op("/a", None)), delete_op("/a", None));
            assert_eq!(&*chroot.strip("/a".into()), "/a");
        }
        for bad in ["/a/", "a", "/a//b", "/.."] {
            assert!(matches!(Chroot::new(bad), Err(Error::BadServers(_))), "{bad}");
        }
    }
}
