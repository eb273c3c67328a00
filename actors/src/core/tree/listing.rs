//! The tree as operators list it (`dump`, `hash`), a page at a time: nobody who reads or writes may wait until
//! a million ephemerals have been spelled.

use std::collections::VecDeque;
use std::ops::Bound;

use super::{NodeId, Tree};
use crate::types::{SessionId, Str, Zxid};

/// Sessions or ephemerals in one page.
const PAGE: usize = 1000;

/// Bytes of paths after which a page ends: paths may be long.
const PAGE_BYTES: usize = 64 << 10;

/// Every zxid that is a multiple of this has its digest remembered, as in Apache.
const DIGEST_INTERVAL: i64 = 128;

/// Digests remembered, as in Apache; the oldest goes first.
const DIGESTS: usize = 1024;

/// A place in the list of ephemerals: the last one listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EphemeralPlace(SessionId, NodeId);

/// A piece of the list of ephemerals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EphemeralPage {
    /// Whose, and which; those of a session stand together.
    pub ephemerals: Vec<(SessionId, Str)>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<EphemeralPlace>,
}

/// A piece of the list of sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionPage {
    /// How many there are in all.
    pub total: usize,
    /// Each with its time-out in ms.
    pub sessions: Vec<(SessionId, i32)>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<SessionId>,
}

/// The digests of some past states, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct DigestLog(VecDeque<(Zxid, i64)>);

impl DigestLog {
    /// The tree has this digest after that transaction.
    pub(super) fn note(&mut self, zxid: Zxid, digest: i64) {
        if zxid.0 % DIGEST_INTERVAL != 0 {
            return;
        }
        if self.0.len() == DIGESTS {
            self.0.pop_front();
        }
        self.0.push_back((zxid, digest));
    }
}

impl Tree {
    /// Digests of this tree after every 128th transaction since the process began, oldest first.
    pub fn digest_log(&self) -> impl Iterator<Item = (Zxid, i64)> {
        self.digests.0.iter().copied()
    }

    /// Sessions behind this one, or the first.
    pub fn session_page(&self, after: Option<SessionId>) -> SessionPage {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut behind = self.sessions.range((from, Bound::Unbounded)).map(|(id, timeout)| (*id, *timeout));
        let sessions: Vec<_> = behind.by_ref().take(PAGE).collect();
        let next = sessions.last().map(|(id, _)| *id).filter(|_| behind.next().is_some());
        SessionPage { total: self.sessions.len(), sessions, next }
    }

    /// Counts sessions with ephemerals behind this one, or from the first on: how many, and after which of them
    /// to go on.
    pub fn count_owners(&self, after: Option<SessionId>) -> (usize, Option<SessionId>) {
        let mut last = after;
        for counted in 0..PAGE {
            let from = last.map_or(Bound::Unbounded, |id| Bound::Excluded((id, NodeId(u32::MAX))));
            match self.ephemerals.range((from, Bound::Unbounded)).next() {
                Some((owner, _)) => last = Some(*owner),
                None => return (counted, None),
            }
        }
        (PAGE, last)
    }

    /// Ephemerals behind this one, or the first.
    pub fn ephemeral_page(&self, after: Option<EphemeralPlace>) -> EphemeralPage {
        let from = after.map_or(Bound::Unbounded, |EphemeralPlace(id, node)| Bound::Excluded((id, node)));
        let mut page = EphemeralPage::default();
        let mut bytes = 0;
        for (session, node) in self.ephemerals.range((from, Bound::Unbounded)) {
            if page.ephemerals.len() == PAGE || bytes >= PAGE_BYTES {
                return page;
            }
            let path = self.path_of(*node);
            bytes += path.len();
            page.ephemerals.push((*session, path.into()));
            page.next = Some(EphemeralPlace(*session, *node));
        }
        page.next = None;
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Acl, CreateKind, Txn, TxnBody, TxnHeader, perms};

    fn apply(tree: &mut Tree, zxid: i64, session: i64, body: TxnBody) {
        let header = TxnHeader { session: SessionId(session), cxid: 0, zxid: Zxid(zxid), time: 0 };
        tree.apply(&Txn { header, body, digest: None }, &mut Vec::new());
    }

    fn ephemeral(path: &str) -> TxnBody {
        TxnBody::Create {
            kind: CreateKind::Create,
            path: path.into(),
            data: None,
            acl: vec![Acl::world(perms::ALL)],
            ephemeral: true,
            parent_cversion: -1,
        }
    }

    #[test]
    fn ephemerals_come_in_pages_that_lose_none() {
        let mut tree = Tree::new();
        let long = "x".repeat(PAGE_BYTES / 2);
        let paths: Vec<(i64, String)> = (0..2500)
            .map(|i| (1 + i % 3, format!("/{i}")))
            .chain((0..9).map(|i| (9, format!("/{long}{i}"))))
            .collect();
        for (zxid, (session, path)) in (1..).zip(&paths) {
            apply(&mut tree, zxid, *session, ephemeral(path));
        }
        let (mut listed, mut pages, mut after) = (Vec::new(), 0, None);
        loop {
            let page = tree.ephemeral_page(after);
            assert!(page.ephemerals.len() <= PAGE);
            listed.extend(page.ephemerals.into_iter().map(|(id, path)| (id.0, path.to_string())));
            pages += 1;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(pages, 3 + 4, "1000 and 1000, then 500 and two of the long ones, then two by two");
        assert!(listed.is_sorted_by_key(|(session, _)| *session), "a session's stand together");
        let mut expected = paths;
        expected.sort();
        listed.sort();
        assert_eq!(listed, expected);
    }

    #[test]
    fn owners_are_counted_in_steps() {
        let mut tree = Tree::new();
        assert_eq!(tree.count_owners(None), (0, None));
        for i in 1..=2500 {
            for twin in 0..2 {
                apply(&mut tree, 2 * i + twin, i, ephemeral(&format!("/{i}-{twin}")));
            }
        }
        assert_eq!(tree.count_owners(None), (PAGE, Some(SessionId(1000))));
        assert_eq!(tree.count_owners(Some(SessionId(1000))), (PAGE, Some(SessionId(2000))));
        assert_eq!(tree.count_owners(Some(SessionId(2000))), (500, None));
        assert_eq!(tree.count_owners(Some(SessionId(2500))), (0, None));
    }

    #[test]
    fn sessions_come_in_pages() {
        let mut tree = Tree::new();
        assert_eq!(tree.session_page(None), SessionPage::default());
        for i in 1..=PAGE as i64 + 1 {
            apply(&mut tree, i, i, TxnBody::CreateSession { timeout_ms: 4000 });
        }
        let first = tree.session_page(None);
        let last = SessionId(PAGE as i64);
        assert_eq!((first.total, first.sessions.len(), first.next), (PAGE + 1, PAGE, Some(last)));
        let second = tree.session_page(first.next);
        assert_eq!(second.sessions, [(SessionId(PAGE as i64 + 1), 4000)]);
        assert_eq!(second.next, None);
    }

    #[test]
    fn every_128th_transaction_leaves_its_digest() {
        let mut tree = Tree::new();
        let mut expected = Vec::new();
        for zxid in 1..=DIGEST_INTERVAL * 1030 {
            apply(
                &mut tree,
                zxid,
                1,
                TxnBody::SetData { path: "/".into(), data: None, version: 1, reconfig: false },
            );
            if zxid % DIGEST_INTERVAL == 0 {
                expected.push((Zxid(zxid), tree.digest()));
            }
        }
        assert_eq!(tree.digest_log().collect::<Vec<_>>(), expected[6..], "the newest 1024");
    }
}
