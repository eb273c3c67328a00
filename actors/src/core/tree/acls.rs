//! Each distinct ACL once: millions of znodes share a handful of lists.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::Acl;

/// A list in the table. Means nothing outside of it, and may be used again when its last znode is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AclId(pub(super) u32);

#[derive(Clone, Default)]
pub(super) struct AclTable {
    lists: Vec<Entry>,
    by_list: BTreeMap<Arc<[Acl]>, AclId>,
    free: Vec<AclId>,
}

#[derive(Clone)]
struct Entry {
    list: Arc<[Acl]>,
    /// Znodes that have it; 0 in a free place.
    users: u32,
}

impl AclTable {
    pub(super) fn get(&self, id: AclId) -> &Arc<[Acl]> {
        &self.lists[id.0 as usize].list
    }

    /// The list for one more znode: the one that is there already, or this one.
    pub(super) fn acquire(&mut self, list: &[Acl]) -> AclId {
        if let Some(id) = self.by_list.get(list).copied() {
            self.lists[id.0 as usize].users += 1;
            return id;
        }
        let list: Arc<[Acl]> = list.into();
        let entry = Entry { list: Arc::clone(&list), users: 1 };
        let id = match self.free.pop() {
            Some(id) => {
                self.lists[id.0 as usize] = entry;
                id
            }
            None => {
                self.lists.push(entry);
                AclId(u32::try_from(self.lists.len() - 1).expect("no more lists than znodes"))
            }
        };
        self.by_list.insert(list, id);
        id
    }

    /// One znode less has it.
    pub(super) fn release(&mut self, id: AclId) {
        let entry = &mut self.lists[id.0 as usize];
        assert!(entry.users > 0, "an ACL is released as often as it is acquired");
        entry.users -= 1;
        if entry.users == 0 {
            let list = std::mem::replace(&mut entry.list, Arc::new([]));
            self.by_list.remove(&list).expect("a list in use is indexed");
            self.free.push(id);
        }
    }

    /// Distinct lists in use.
    pub(super) fn len(&self) -> usize {
        self.by_list.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lists_are_one() {
        let mut table = AclTable::default();
        let (a, b) = (table.acquire(&[Acl::world(1)]), table.acquire(&[Acl::world(2)]));
        assert_eq!(table.acquire(&[Acl::world(1)]), a);
        assert_ne!(a, b);
        table.release(a);
        assert_eq!(table.get(a)[..], [Acl::world(1)], "one znode still has it");
        table.release(a);
        assert_eq!(table.len(), 1);
        assert_eq!(table.acquire(&[Acl::world(3)]), a, "the place is used again");
        assert_eq!(table.get(a)[..], [Acl::world(3)]);
    }

    #[test]
    #[should_panic(expected = "released as often")]
    fn a_release_too_many_is_a_bug() {
        let mut table = AclTable::default();
        let id = table.acquire(&[Acl::world(1)]);
        table.release(id);
        table.release(id);
    }
}
