//! Znodes that the leader deletes when their time is over: containers and TTL nodes.
//!
//! A container is over when its last child is gone; one that never had a child stays, or stays for a time. A TTL
//! node is over when nobody has written to it for longer than it lives, and it has no children.

use std::ops::Bound;

use super::Tree;
use super::node::{LAST_ID, Node, NodeId, TTL_OWNERS, is_container_owner, owner_session, owner_ttl};
use crate::types::{SessionId, Str, WallMillis};

/// Znodes looked at in one go: at worst 0.1 ms, since nobody is served meanwhile.
const PAGE: usize = 1000;

/// Bytes of paths after which a page ends: paths may be long.
const PAGE_BYTES: usize = 64 << 10;

/// A place among the containers and TTL nodes: the last one looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MortalPlace(NodeId);

/// What a look at some of them has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MortalPage {
    /// Those that are over.
    pub over: Vec<Str>,
    /// Where the next look begins; `None` when all have been looked at.
    pub next: Option<MortalPlace>,
}

impl Tree {
    /// Are there TTL nodes (Apache's extendedTypesEnabled)? If not, what a TTL node's owner field holds is taken
    /// for a session, as Apache does: such znodes are left from another time, and nobody removes them.
    pub fn set_extended_types(&mut self, extended: bool) {
        let owner = |id: NodeId| self.slab.get(id).stat.ephemeral_owner;
        let mut ambiguous: Vec<(NodeId, i64)> = self.mortals.iter().map(|id| (*id, owner(*id))).collect();
        ambiguous.retain(|(_, owner)| owner_ttl(*owner).is_some());
        let taken_for_sessions = (SessionId(TTL_OWNERS.0), NodeId(0))..=(SessionId(TTL_OWNERS.1), LAST_ID);
        ambiguous.extend(self.ephemerals.range(taken_for_sessions).map(|(session, id)| (*id, session.0)));
        for (id, owner) in &ambiguous {
            self.disown(*id, *owner);
        }
        self.extended_types = extended;
        for (id, owner) in ambiguous {
            self.own(id, owner);
        }
    }

    /// Remembers a new znode by its owner field.
    pub(super) fn own(&mut self, id: NodeId, owner: i64) {
        match owner_session(owner, self.extended_types) {
            Some(session) => self.ephemerals.insert((session, id)),
            None => is_mortal(owner) && self.mortals.insert(id),
        };
    }

    /// Forgets a znode that is gone.
    pub(super) fn disown(&mut self, id: NodeId, owner: i64) {
        match owner_session(owner, self.extended_types) {
            Some(session) => self.ephemerals.remove(&(session, id)),
            None => self.mortals.remove(&id),
        };
    }

    /// Looks at some containers and TTL nodes behind this one, or at the first ones, at this time of the wall
    /// clock. A container that never had a child is over after `max_never_used_ms`, if that is not 0.
    pub fn mortals_over(
        &self,
        now: WallMillis,
        max_never_used_ms: i64,
        after: Option<MortalPlace>,
    ) -> MortalPage {
        let from = after.map_or(Bound::Unbounded, |MortalPlace(id)| Bound::Excluded(id));
        let mut page = MortalPage::default();
        let mut bytes = 0;
        for (looked_at, id) in self.mortals.range((from, Bound::Unbounded)).enumerate() {
            if looked_at == PAGE || bytes >= PAGE_BYTES {
                return page;
            }
            if is_over(self.slab.get(*id), now, max_never_used_ms) {
                let path = self.path_of(*id);
                bytes += path.len();
                page.over.push(path.into());
            }
            page.next = Some(MortalPlace(*id));
        }
        page.next = None;
        page
    }

    /// Is there a container or TTL node at this path, and is it over?
    pub fn is_over(&self, path: &str, now: WallMillis, max_never_used_ms: i64) -> bool {
        let mortal = self.find(path).filter(|id| self.mortals.contains(id));
        mortal.is_some_and(|id| is_over(self.slab.get(id), now, max_never_used_ms))
    }
}

/// Is it the owner field of a container or TTL node?
fn is_mortal(owner: i64) -> bool {
    is_container_owner(owner) || owner_ttl(owner).is_some()
}

fn is_over(node: &Node, now: WallMillis, max_never_used_ms: i64) -> bool {
    let untouched_ms = now.saturating_sub(node.stat.mtime);
    let expired = match owner_ttl(node.stat.ephemeral_owner) {
        Some(ttl_ms) => untouched_ms > ttl_ms,
        None if node.stat.cversion > 0 => true,
        None => max_never_used_ms != 0 && untouched_ms > max_never_used_ms,
    };
    expired && node.children().is_empty()
}
