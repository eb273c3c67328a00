//! Watched paths, each once, by a small number.

use hashbrown::HashTable;

use crate::core::hash::hash;
use crate::types::Str;

/// A path in the table. Used again after its last watch is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PathId(u32);

#[derive(Default)]
pub(super) struct PathTable {
    slots: HashTable<Slot>,
    /// `None` is free.
    paths: Vec<Option<Watched>>,
    free: Vec<PathId>,
}

/// The hash is kept, so that growing the table reads no paths.
#[derive(Debug)]
struct Slot {
    hash: u32,
    id: PathId,
}

struct Watched {
    path: Str,
    watches: u32,
}

impl Slot {
    /// hashbrown looks at the highest and the lowest bits.
    fn spread(&self) -> u64 {
        spread(self.hash)
    }
}

fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

fn short_hash(path: &str) -> u32 {
    hash(0, path.as_bytes()) as u32
}

impl PathTable {
    /// Distinct paths.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn find(&self, path: &str) -> Option<PathId> {
        let hash = short_hash(path);
        self.slots.find(spread(hash), |slot| self.is_at(slot, hash, path)).map(|slot| slot.id)
    }

    /// The path of a number in use.
    pub(super) fn text(&self, id: PathId) -> &Str {
        &self.paths[id.0 as usize].as_ref().expect("an id in use has its path").path
    }

    /// The path for one more watch.
    pub(super) fn acquire(&mut self, path: Str) -> PathId {
        if let Some(id) = self.find(&path) {
            self.watched(id).watches += 1;
            return id;
        }
        let hash = short_hash(&path);
        let id = self.free.pop().unwrap_or_else(|| {
            self.paths.push(None);
            PathId(u32::try_from(self.paths.len() - 1).expect("fewer paths than watches, fewer than 2^32"))
        });
        self.paths[id.0 as usize] = Some(Watched { path, watches: 1 });
        self.slots.insert_unique(spread(hash), Slot { hash, id }, Slot::spread);
        id
    }

    /// One watch less.
    pub(super) fn release(&mut self, id: PathId) {
        let watched = self.watched(id);
        watched.watches -= 1;
        if watched.watches > 0 {
            return;
        }
        let hash = short_hash(&watched.path);
        let slot = self.slots.find_entry(spread(hash), |slot| slot.id == id);
        slot.expect("a watched path has a slot").remove();
        self.paths[id.0 as usize] = None;
        self.free.push(id);
    }

    fn is_at(&self, slot: &Slot, hash: u32, path: &str) -> bool {
        let watched = || self.paths[slot.id.0 as usize].as_ref().expect("a slot has its path");
        slot.hash == hash && *watched().path == *path
    }

    fn watched(&mut self, id: PathId) -> &mut Watched {
        self.paths[id.0 as usize].as_mut().expect("an id in use has its path")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_there_once_while_it_is_watched() {
        let mut table = PathTable::default();
        let (a, b) = (table.acquire("/a".into()), table.acquire("/b".into()));
        assert_eq!(table.acquire("/a".into()), a);
        assert_eq!((table.len(), table.find("/b"), table.find("/c")), (2, Some(b), None));
        table.release(a);
        assert_eq!(table.find("/a"), Some(a));
        table.release(a);
        assert_eq!((table.len(), table.find("/a")), (1, None));
        assert_eq!(table.acquire("/c".into()), a, "the number is used again");
        for i in 0..1000 {
            table.acquire(format!("/n/{i}").into());
        }
        assert!((0..1000).all(|i| table.find(&format!("/n/{i}")).is_some()));
        assert_eq!(table.find("/c"), Some(a));
    }
}
