//! From a parent and a name to the child: one hash table for the whole tree, four bytes an entry.
//!
//! The table is cut into parts, so that it grows, and is copied after a freeze, in small steps instead of
//! one long one.

use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::node::{Node, NodeId};
use super::slab::Slab;
use crate::core::hash::hash;

/// Parts of the table: at a million znodes each holds 4,000, so growing one takes well below 1 ms.
const PARTS: usize = 256;

/// How many znodes are sorted by their parts before they are taken in: a few hundred for each part, in half a MiB.
const AT_A_TIME: usize = 1 << 16;

#[derive(Clone)]
pub(super) struct Index {
    parts: Vec<Arc<HashTable<NodeId>>>,
}

impl Index {
    pub(super) fn new() -> Index {
        Index { parts: (0..PARTS).map(|_| Arc::default()).collect() }
    }

    /// An empty one with room for so many znodes: one that grows looks at them all again with each step.
    fn with_room(znodes: usize) -> Index {
        let part = || Arc::new(HashTable::with_capacity(znodes / PARTS));
        Index { parts: (0..PARTS).map(|_| part()).collect() }
    }

    /// An index of znodes that stand one behind the other in the slab, by the hash of each. Of two with the same
    /// parent and name the second is the error.
    ///
    /// Some at a time are taken in part by part. One by one, in the order of the slab, each would wait for another
    /// line of memory.
    pub(super) fn of(slab: &Slab, first: NodeId, hashes: &[u64]) -> Result<Index, NodeId> {
        let mut index = Index::with_room(hashes.len());
        for (block, hashes) in hashes.chunks(AT_A_TIME).enumerate() {
            let first = first.0 + (block * AT_A_TIME) as u32;
            for at in by_part(hashes) {
                let (hash, id) = (hashes[at as usize], NodeId(first + at));
                let is_it = |other: &NodeId| {
                    let (node, other) = (slab.get(id), slab.get(*other));
                    node.parent == other.parent && node.name.as_bytes() == other.name.as_bytes()
                };
                let part = Arc::get_mut(&mut index.parts[part(hash)]).expect("nobody else has it yet");
                match part.entry(hash, is_it, |other| hash_of(slab, *other)) {
                    Entry::Vacant(place) => drop(place.insert(id)),
                    Entry::Occupied(_) => return Err(id),
                }
            }
        }
        Ok(index)
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
    hash_of_node(slab.get(id))
}

/// What a znode is found by.
pub(super) fn hash_of_node(node: &Node) -> u64 {
    hash(node.parent.0, node.name.as_bytes())
}

/// Where these hashes stand, those of a part together and in their order: a counting sort.
fn by_part(hashes: &[u64]) -> Vec<u32> {
    let mut places = [0; PARTS + 1];
    hashes.iter().for_each(|hash| places[part(*hash) + 1] += 1);
    (0..PARTS).for_each(|part| places[part + 1] += places[part]);
    let mut sorted = vec![0; hashes.len()];
    for (at, hash) in hashes.iter().enumerate() {
        let place = &mut places[part(*hash)];
        sorted[*place] = at as u32;
        *place += 1;
    }
    sorted
}

/// The part of a hash: by bits that hashbrown looks at last, since it takes the lowest and the highest.
fn part(hash: u64) -> usize {
    (hash >> 40) as usize % PARTS
}
