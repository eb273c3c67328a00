//! Where the znodes live: in chunks that a frozen tree shares until one side changes them.
//!
//! Cloning the slab copies one pointer for 64 znodes, 16 thousand for a million. After that the first
//! change in a chunk copies the chunk, a few microseconds. Places of deleted znodes are used again, but
//! the memory of a chunk is kept: a tree needs as many places as it once had znodes.

use std::sync::Arc;

use super::acls::AclId;
use super::node::{Node, NodeId};
use crate::core::tree::PersistedStat;

/// Znodes in a chunk: the first change after a freeze copies 8 KiB.
const CHUNK: usize = 64;

/// Ends the chain of free places.
const NOWHERE: NodeId = NodeId(u32::MAX);

#[derive(Clone)]
pub(super) struct Slab {
    chunks: Vec<Arc<[Node; CHUNK]>>,
    /// The first free place; each free place holds the next as its parent.
    free: NodeId,
    len: usize,
}

impl Slab {
    pub(super) fn new() -> Slab {
        Slab { chunks: Vec::new(), free: NOWHERE, len: 0 }
    }

    /// Znodes in it.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, id: NodeId) -> &Node {
        let (chunk, place) = locate(id);
        &self.chunks[chunk][place]
    }

    /// For a change: copies the chunk if a frozen tree shares it.
    pub(super) fn get_mut(&mut self, id: NodeId) -> &mut Node {
        let (chunk, place) = locate(id);
        &mut Arc::make_mut(&mut self.chunks[chunk])[place]
    }

    /// Finds a place. The first znode is the root.
    pub(super) fn insert(&mut self, node: Node) -> NodeId {
        if self.free == NOWHERE {
            self.grow();
        }
        let id = self.free;
        let place = self.get_mut(id);
        let next = place.parent;
        *place = node;
        self.free = next;
        self.len += 1;
        id
    }

    /// Takes a znode out; its place is free.
    pub(super) fn remove(&mut self, id: NodeId) -> Node {
        let next = self.free;
        let node = std::mem::replace(self.get_mut(id), vacant(next));
        self.free = id;
        self.len -= 1;
        node
    }

    /// Adds a chunk of free places, to be taken in ascending order.
    fn grow(&mut self) {
        let first = self.chunks.len() * CHUNK;
        assert!(first + CHUNK < u32::MAX as usize, "ids of znodes are used up at 2^32");
        let chunk = std::array::from_fn(|place| {
            vacant(if place + 1 < CHUNK { NodeId((first + place + 1) as u32) } else { NOWHERE })
        });
        self.chunks.push(Arc::new(chunk));
        self.free = NodeId(first as u32);
    }
}

fn locate(id: NodeId) -> (usize, usize) {
    (id.0 as usize / CHUNK, id.0 as usize % CHUNK)
}

/// A free place.
fn vacant(next: NodeId) -> Node {
    Node::new("", next, AclId(0), PersistedStat::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Node {
        Node::new(name, NodeId(0), AclId(0), PersistedStat::default())
    }

    #[test]
    fn places_are_used_again() {
        let mut slab = Slab::new();
        let ids: Vec<_> = (0..3 * CHUNK).map(|i| slab.insert(named(&i.to_string()))).collect();
        assert_eq!(ids[0], NodeId(0), "the root comes first");
        assert_eq!(ids[2 * CHUNK], NodeId(2 * CHUNK as u32));
        assert_eq!(slab.remove(ids[5]).name.as_str(), "5");
        assert_eq!(slab.remove(ids[100]).name.as_str(), "100");
        assert_eq!(slab.len(), 3 * CHUNK - 2);
        assert_eq!(slab.insert(named("x")), ids[100]);
        assert_eq!(slab.insert(named("y")), ids[5]);
        assert_eq!(slab.insert(named("z")), NodeId(3 * CHUNK as u32), "a new chunk");
        assert_eq!(slab.get(ids[5]).name.as_str(), "y");
    }

    #[test]
    fn a_frozen_slab_keeps_what_it_had() {
        let mut slab = Slab::new();
        let ids: Vec<_> = (0..2 * CHUNK).map(|i| slab.insert(named(&i.to_string()))).collect();
        let frozen = slab.clone();
        slab.get_mut(ids[1]).stat.version = 7;
        slab.remove(ids[2]);
        assert_eq!((frozen.get(ids[1]).stat.version, slab.get(ids[1]).stat.version), (0, 7));
        assert_eq!(frozen.get(ids[2]).name.as_str(), "2");
        assert!(Arc::ptr_eq(&frozen.chunks[1], &slab.chunks[1]), "an unchanged chunk stays shared");
    }
}
