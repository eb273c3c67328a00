//! Recursive watches by path: who watches anything above a znode?
//!
//! Every change asks this once, so the answer must not cost more for a deep path than for a flat one: looking up
//! each ancestor by itself would read the path as often as it has names. Instead the paths are sorted. The
//! greatest watched path up to a given one either is an ancestor of it, or shows by how much it shares with it
//! where the next ancestor can be at most.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Included, Unbounded};

use crate::core::paths;
use crate::types::{ConnId, Str};

#[derive(Default)]
pub(super) struct Recursive {
    by_path: BTreeMap<Str, BTreeSet<ConnId>>,
}

impl Recursive {
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.by_path.is_empty()
    }

    pub(super) fn insert(&mut self, path: Str, conn: ConnId) {
        self.by_path.entry(path).or_default().insert(conn);
    }

    pub(super) fn remove(&mut self, path: &str, conn: ConnId) {
        let conns = self.by_path.get_mut(path).expect("what is removed was inserted");
        conns.remove(&conn);
        if conns.is_empty() {
            self.by_path.remove(path);
        }
    }

    /// Adds the connections with a watch above `path`; one comes as often as it has such watches.
    pub(super) fn add_above(&self, path: &str, matched: &mut Vec<ConnId>) {
        let mut bound = if self.by_path.is_empty() { None } else { above(path) };
        while let Some(at_most) = bound {
            let up_to = self.by_path.range::<str, _>((Unbounded, Included(at_most)));
            let Some((watched, conns)) = up_to.into_iter().next_back() else { return };
            let shared = shared(watched, at_most);
            if shared < watched.len() {
                bound = within(path, shared);
                continue;
            }
            // All of it is the beginning of the path; but it may end within a name, or before all names.
            let ends_a_name = shared > 0 && path.as_bytes()[shared] == b'/';
            if **watched == *paths::ROOT || ends_a_name {
                matched.extend(conns);
            }
            bound = above(&path[..shared]);
        }
    }
}

/// The nearest path above: what stands before the last name. `None` for the root.
fn above(path: &str) -> Option<&str> {
    paths::split(path).filter(|(_, name)| !name.is_empty()).map(|(parent, _)| parent)
}

/// The longest path above a znode that has at most so many bytes.
fn within(path: &str, length: usize) -> Option<&str> {
    let next_is_name = path.as_bytes().get(length).is_none_or(|byte| *byte != b'/');
    if length > 1 && !next_is_name {
        return Some(&path[..length]);
    }
    // The first `length` bytes end within a name.
    let slash = path.as_bytes()[..length].iter().rposition(|byte| *byte == b'/')?;
    Some(if slash == 0 { paths::ROOT } else { &path[..slash] })
}

/// How many bytes two paths begin with alike.
fn shared(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn watching(paths: &[&str]) -> Recursive {
        let mut recursive = Recursive::default();
        paths.iter().zip(1..).for_each(|(path, conn)| recursive.insert((*path).into(), ConnId(conn)));
        recursive
    }

    fn above_of(recursive: &Recursive, path: &str) -> Vec<ConnId> {
        let mut matched = Vec::new();
        recursive.add_above(path, &mut matched);
        matched.sort_unstable();
        matched
    }

    #[test]
    fn only_whole_names_are_above() {
        let all = ["/", "/a", "/a/b", "/ab", "/a/b/c", "/a-", "", "a", "/a/", "!", "/b"];
        let recursive = watching(&all);
        assert_eq!(above_of(&recursive, "/a/b/c"), [ConnId(1), ConnId(2), ConnId(3)], "itself is not above");
        assert_eq!(above_of(&recursive, "/ab/c"), [ConnId(1), ConnId(4)]);
        assert_eq!(above_of(&recursive, "/a"), [ConnId(1)]);
        assert_eq!(above_of(&recursive, "/"), []);
    }

    #[test]
    fn a_deep_path_is_no_more_work_than_its_length() {
        let deep = "/a".repeat(500_000);
        let recursive = watching(&["/", "/a/a", "/a/b", &deep[..deep.len() / 2]]);
        assert_eq!(above_of(&recursive, &deep), [ConnId(1), ConnId(2), ConnId(4)]);
        assert_eq!(above_of(&watching(&["/b", "!"]), &deep), []);
    }

    fn any_path() -> impl Strategy<Value = String> {
        prop_oneof![
            8 => "(/[a-c-]{1,2}){1,4}",
            1 => Just("/".to_string()),
            1 => "[!-0a/]{0,4}",
        ]
    }

    proptest! {
        #[test]
        fn it_finds_what_looking_up_each_ancestor_finds(
            watched in prop::collection::btree_set(any_path(), 0..20),
            path in "(/[a-c-]{1,2}){1,5}",
        ) {
            let watched: Vec<&str> = watched.iter().map(String::as_str).collect();
            let mut expected = Vec::new();
            let mut at = above(&path);
            while let Some(ancestor) = at {
                expected.extend(watched.iter().position(|it| *it == ancestor).map(|i| ConnId(i as u64 + 1)));
                at = above(ancestor);
            }
            expected.sort_unstable();
            prop_assert_eq!(above_of(&watching(&watched), &path), expected);
        }
    }
}
