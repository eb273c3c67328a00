//! From a parent and a name to the child: one hash table for the whole tree, four bytes an entry.
//!
//! The table is cut into parts, so that it grows, and is copied after a freeze, in small steps instead of
//! one long one.

use std::sync::Arc;

use hashbrown::HashTable;

use super::node::NodeId;
use super::slab::Slab;
use crate::core::hash::hash;

/// Parts of the table: at a million znodes each holds 4,000, so growing one takes well below 1 ms.
const PARTS: usize = 256;

#[derive(Clone)]
pub(super) struct Index {
    parts: Vec<Arc<HashTable<NodeId>>>,
}

impl Index {
    pub(super) fn new() -> Index {
        Index { parts: (0..PARTS).map(|_| Arc::default()).collect() }
    }

    /// An empty one with room for so many znodes: one that grows looks at them all again with each step.
    pub(super) fn with_room(znodes: usize) -> Index {
        let part = || Arc::new(HashTable::with_capacity(znodes / PARTS));
        Index { parts: (0..PARTS).map(|_| part()).collect() }
    }

    pub(super) fn find(&self, slab: &Slab, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let hash = hash(parent.0, name);
        let is_it = |id: &NodeId| {
            let node = slab.get(*id);
            node.parent == parent && node.name.as_bytes() == name
        };
        self.parts[part(hash)].find(hash, is_it).copied()
    }

    /// Adds a znode that is in the slab and not in here.
    pub(super) fn insert(&mut self, slab: &Slab, id: NodeId) {
        let hash = hash_of(slab, id);
        let part = Arc::make_mut(&mut self.parts[part(hash)]);
        part.insert_unique(hash, id, |other| hash_of(slab, *other));
    }

    /// Takes out a znode that is still in the slab.
    pub(super) fn remove(&mut self, slab: &Slab, id: NodeId) {
        let hash = hash_of(slab, id);
        let part = Arc::make_mut(&mut self.parts[part(hash)]);
        part.find_entry(hash, |other| *other == id).expect("every znode but the root is indexed").remove();
    }
}

fn hash_of(slab: &Slab, id: NodeId) -> u64 {
    let node = slab.get(id);
    hash(node.parent.0, node.name.as_bytes())
}

/// The part of a hash: by bits that hashbrown looks at last, since it takes the lowest and the highest.
fn part(hash: u64) -> usize {
    (hash >> 40) as usize % PARTS
}
