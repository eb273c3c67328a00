//! One znode in memory: 128 bytes, two lines of a cache, plus its data in one allocation; with children 24 bytes
//! more, and four for each child.
//!
//! A znode knows its own name, not its path; the path is spelled by walking up. What tells ephemerals,
//! containers and TTL nodes apart is the owner field, as in Apache's files.

use std::sync::Arc;

use super::PersistedStat;
use super::acls::AclId;
use super::digest::{content_crc, node_digest};
use crate::core::quota::Usage;
use crate::types::{CreateKind, SessionId, Stat, ZkError};

/// The place of a znode in the [`Slab`](super::slab::Slab). Reused after a delete; never leaves the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodeId(pub(super) u32);

/// Not before any other.
pub(super) const LAST_ID: NodeId = NodeId(u32::MAX);

/// The root is made first and never goes.
pub(super) const ROOT: NodeId = NodeId(0);

/// Owner of a container: the lowest i64, which no session has.
const CONTAINER_OWNER: i64 = i64::MIN;
/// Top byte of the owner of a TTL node: no server has the id 255, so no session has it either.
const TTL_MARK: u64 = 0xff << 56;
/// The largest time to live in ms: five bytes, 34.8 years.
pub const MAX_TTL_MS: i64 = (1 << 40) - 1;
/// The first and the last owner field of a TTL node.
pub(super) const TTL_OWNERS: (i64, i64) = (TTL_MARK as i64, (TTL_MARK | MAX_TTL_MS as u64) as i64);

/// The owner field of a new znode.
pub fn owner(kind: CreateKind, session: SessionId, ephemeral: bool) -> Result<i64, ZkError> {
    match kind {
        CreateKind::Container => Ok(container_owner()),
        CreateKind::Ttl(ttl_ms) => ttl_owner(ttl_ms).ok_or(ZkError::BadArguments),
        CreateKind::Create | CreateKind::Create2 => Ok(if ephemeral { session.0 } else { 0 }),
    }
}

/// The owner field of a container.
pub(super) fn container_owner() -> i64 {
    CONTAINER_OWNER
}

/// The owner field of a TTL node; `None` outside of 1 ..= [`MAX_TTL_MS`].
pub(super) fn ttl_owner(ttl_ms: i64) -> Option<i64> {
    (1..=MAX_TTL_MS).contains(&ttl_ms).then_some((TTL_MARK | ttl_ms as u64) as i64)
}

/// The session that an owner field names, when it names one. Without extended types a number is a session also
/// where its top byte says otherwise.
pub(super) fn owner_session(owner: i64, extended_types: bool) -> Option<SessionId> {
    let is_extended = extended_types && (owner as u64) >= TTL_MARK;
    let is_session = owner != 0 && owner != CONTAINER_OWNER && !is_extended;
    is_session.then_some(SessionId(owner))
}

/// The time to live in ms that an owner field holds, when it is that of a TTL node. The two bytes behind the top
/// one tell which extended type it is; other types than this one do not exist yet.
pub fn owner_ttl(owner: i64) -> Option<i64> {
    (owner as u64 & !(MAX_TTL_MS as u64) == TTL_MARK).then_some(owner & MAX_TTL_MS)
}

/// Is it the owner field of a container?
pub(super) fn is_container_owner(owner: i64) -> bool {
    owner == CONTAINER_OWNER
}

/// Names up to this many bytes need no allocation of their own.
const INLINE_NAME: usize = 22;

/// The last segment of a path. Most are short.
#[derive(Clone, Debug)]
pub(super) enum Name {
    Inline { len: u8, bytes: [u8; INLINE_NAME] },
    Heap(Box<str>),
}

impl Name {
    pub(super) fn new(name: &str) -> Name {
        if name.len() > INLINE_NAME {
            return Name::Heap(name.into());
        }
        let mut bytes = [0; INLINE_NAME];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Name::Inline { len: name.len() as u8, bytes }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Name::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Name::Heap(name) => name.as_bytes(),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Name::Inline { .. } => std::str::from_utf8(self.as_bytes()).expect("it was copied from a str"),
            Name::Heap(name) => name,
        }
    }
}

/// A znode.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) name: Name,
    /// `None` is null. Shared with the replies and the frozen trees that show it.
    pub(super) data: Option<Arc<[u8]>>,
    /// None without children.
    children: Option<Box<Children>>,
    pub(super) stat: PersistedStat,
    /// Of the root: the root. Of a free place: the next free one.
    pub(super) parent: NodeId,
    /// Where this znode stands in its parent's list.
    pub(super) slot: u32,
    pub(super) acl: AclId,
    /// CRC-32 of path and data: what is constant in the digest while only the Stat changes.
    pub(super) content_crc: u32,
}

/// What is below a znode. A box of its own, since most znodes have nothing below them.
#[derive(Clone, Debug)]
struct Children {
    /// Shared with frozen trees, so that freezing copies no list.
    list: Arc<Vec<NodeId>>,
    /// What is below, however deep; kept, so that counting it is no walk that holds up everybody.
    below: Usage,
}

impl Node {
    /// A znode that nobody lists yet.
    pub(super) fn new(name: &str, parent: NodeId, acl: AclId, stat: PersistedStat) -> Node {
        Node { name: Name::new(name), data: None, children: None, stat, parent, slot: 0, acl, content_crc: 0 }
    }

    /// Sets the data. The path is part of the digest.
    pub(super) fn set_data(&mut self, path: &str, data: Option<&[u8]>) {
        self.content_crc = content_crc(path, data);
        self.data = data.map(Arc::from);
    }

    /// What this znode adds to the digest of the tree.
    pub(super) fn digest(&self) -> i64 {
        node_digest(self.content_crc, &self.stat)
    }

    pub(super) fn children(&self) -> &[NodeId] {
        self.children.as_ref().map_or(&[], |children| children.list.as_slice())
    }

    /// The znodes below this one, however deep.
    pub(super) fn below(&self) -> Usage {
        self.children.as_ref().map_or(Usage::NONE, |children| children.below)
    }

    /// This znode and those below it.
    pub(super) fn subtree(&self) -> Usage {
        let mut subtree = self.below();
        subtree += Usage::of_one(self.data_len());
        subtree
    }

    /// There is so much more below this one, or less.
    pub(super) fn add_below(&mut self, more: Usage) {
        let below = &mut self.children.as_mut().expect("only what has children has anything below").below;
        *below += more;
        assert!(below.count >= 0 && below.bytes >= 0, "no more goes than there is: {below:?}");
    }

    /// Adds a child and says where it stands. It is not counted yet.
    pub(super) fn push_child(&mut self, child: NodeId) -> u32 {
        let none = || Box::new(Children { list: Arc::default(), below: Usage::NONE });
        let list = Arc::make_mut(&mut self.children.get_or_insert_with(none).list);
        list.push(child);
        u32::try_from(list.len() - 1).expect("there are fewer than 2^32 znodes")
    }

    /// Takes the child at `slot` out. The last child takes its place, and is returned if there was one. It still
    /// counts.
    pub(super) fn remove_child(&mut self, slot: u32) -> Option<NodeId> {
        let children = self.children.as_mut().expect("a znode with a slot is listed");
        let list = Arc::make_mut(&mut children.list);
        list.swap_remove(slot as usize);
        let moved = list.get(slot as usize).copied();
        if list.is_empty() {
            self.children = None;
        } else if list.capacity() > 4 * list.len() {
            list.shrink_to(2 * list.len());
        }
        moved
    }

    /// What clients see.
    pub(super) fn client_stat(&self, extended_types: bool) -> Stat {
        let children = self.children().len() as i32;
        let session = owner_session(self.stat.ephemeral_owner, extended_types);
        Stat {
            czxid: self.stat.czxid,
            mzxid: self.stat.mzxid,
            ctime: self.stat.ctime,
            mtime: self.stat.mtime,
            version: self.stat.version,
            cversion: self.stat.cversion.wrapping_mul(2).wrapping_sub(children),
            aversion: self.stat.aversion,
            ephemeral_owner: session.unwrap_or(SessionId::NONE).0,
            data_length: self.data_len() as i32,
            num_children: children,
            pzxid: self.stat.pzxid,
        }
    }

    /// Bytes of data; 0 when null.
    pub(super) fn data_len(&self) -> usize {
        self.data.as_ref().map_or(0, |data| data.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_znode_stays_small() {
        assert!(size_of::<Node>() <= 128, "{} bytes", size_of::<Node>());
    }

    #[test]
    fn names_of_any_length_come_back() {
        for len in [1, INLINE_NAME - 1, INLINE_NAME, INLINE_NAME + 1, 1000] {
            let name = "n".repeat(len);
            assert_eq!(Name::new(&name).as_str(), name);
        }
        assert_eq!(Name::new("grüße").as_str(), "grüße");
    }

    #[test]
    fn the_owner_tells_the_kind() {
        let of_server_254 = 0xfe00_0000_0000_0001_u64 as i64;
        for extended_types in [false, true] {
            let session = |owner| owner_session(owner, extended_types);
            assert_eq!((session(0), session(container_owner())), (None, None));
            assert_eq!(session(0x0100_0000_0000_0001), Some(SessionId(0x0100_0000_0000_0001)));
            assert_eq!(session(of_server_254), Some(SessionId(of_server_254)));
        }
        assert_eq!(ttl_owner(60_000), Some(0xff00_0000_0000_ea60_u64 as i64));
        let of_a_minute = 0xff00_0000_0000_ea60_u64 as i64;
        assert_eq!(owner_session(of_a_minute, true), None);
        assert_eq!(owner_session(of_a_minute, false), Some(SessionId(of_a_minute)));
        assert_eq!(owner_ttl(of_a_minute), Some(60_000));
        let of_another_type = 0xff00_0100_0000_ea60_u64 as i64;
        assert_eq!((owner_session(of_another_type, true), owner_ttl(of_another_type)), (None, None));
        assert_eq!((owner_ttl(0), owner_ttl(of_server_254)), (None, None));
        assert_eq!((ttl_owner(0), ttl_owner(-1), ttl_owner(MAX_TTL_MS + 1)), (None, None, None));
        assert_eq!(owner_ttl(ttl_owner(MAX_TTL_MS).unwrap()), Some(MAX_TTL_MS));
    }

    #[test]
    fn the_digest_of_a_znode_is_one_crc_over_everything() {
        let stat = PersistedStat { czxid: 1, mzxid: 2, pzxid: 3, ctime: 4, version: 5, ..Default::default() };
        let mut node = Node::new("a", ROOT, AclId(0), stat);
        node.set_data("/a", Some(b"hello"));
        let mut all = b"/ahello".to_vec();
        for long in [1_i64, 2, 3, 4, 0] {
            all.extend(long.to_be_bytes());
        }
        all.extend([0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0]);
        all.extend([0; 8]);
        assert_eq!(node.digest(), i64::from(crc32fast::hash(&all)));
    }

    #[test]
    fn a_list_of_children_gives_memory_back() {
        let mut node = Node::new("a", ROOT, AclId(0), PersistedStat::default());
        for i in 0..1000 {
            assert_eq!(node.push_child(NodeId(i)), i);
        }
        assert_eq!(node.remove_child(3), Some(NodeId(999)), "the last takes the place");
        assert_eq!(node.children()[3], NodeId(999));
        for _ in 0..989 {
            node.remove_child(0);
        }
        assert_eq!(node.children().len(), 10);
        assert!(node.children.as_ref().unwrap().list.capacity() <= 40);
        assert_eq!(node.remove_child(9), None, "the last has no successor");
        for _ in 0..9 {
            node.remove_child(0);
        }
        assert!(node.children.is_none());
    }
}
