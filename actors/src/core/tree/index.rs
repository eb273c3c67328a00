//! From a parent and a name to the child: one hash table for the whole tree, four bytes an entry.
//!
//! The table is cut into parts, so that it grows, and is copied after a freeze, in small steps instead of
//! one long one. Nobody iterates over it, so its order, which no hasher makes meaningful, is never seen.

use std::sync::Arc;

use hashbrown::HashTable;

use super::node::NodeId;
use super::slab::Slab;

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

    pub(super) fn find(&self, slab: &Slab, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let hash = hash(parent, name);
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
    hash(node.parent, node.name.as_bytes())
}

/// The part of a hash: by bits that hashbrown looks at last, since it takes the lowest and the highest.
fn part(hash: u64) -> usize {
    (hash >> 40) as usize % PARTS
}

/// Two odd numbers without a pattern (fractions of the golden ratio and of pi).
const K0: u64 = 0x9e37_79b9_7f4a_7c15;
const K1: u64 = 0x2436_9c5f_a8b1_d305;

/// Multiply and fold, eight bytes a step; the same in every run and on every machine.
fn hash(parent: NodeId, name: &[u8]) -> u64 {
    let mut hash = fold(u64::from(parent.0) ^ K1, K0 ^ name.len() as u64);
    let mut words = name.chunks_exact(8);
    for word in &mut words {
        hash = fold(hash ^ u64::from_le_bytes(word.try_into().expect("chunks of 8")), K0);
    }
    let mut tail = [0; 8];
    tail[..words.remainder().len()].copy_from_slice(words.remainder());
    fold(hash ^ u64::from_le_bytes(tail), K1)
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbered_names_spread_over_parts_and_hashes() {
        let hashes: Vec<u64> =
            (0..10_000).map(|i| hash(NodeId(1), format!("lock-{i:010}").as_bytes())).collect();
        let distinct: BTreeSet<_> = hashes.iter().collect();
        assert_eq!(distinct.len(), hashes.len());
        let mut load = [0_usize; PARTS];
        hashes.iter().for_each(|h| load[part(*h)] += 1);
        let (least, most) = (load.iter().min().unwrap(), load.iter().max().unwrap());
        assert!(*least >= 10 && *most <= 80, "39 expected in each part, found {least} to {most}");
    }

    #[test]
    fn parent_length_and_padding_count() {
        let hashes: BTreeSet<u64> = [
            hash(NodeId(1), b"a"),
            hash(NodeId(2), b"a"),
            hash(NodeId(1), b"a\0"),
            hash(NodeId(1), b""),
            hash(NodeId(1), b"12345678"),
            hash(NodeId(1), b"123456781"),
        ]
        .into();
        assert_eq!(hashes.len(), 6);
    }
}
