//! The watches as operators list them (`wchs`, `wchc`, `wchp`), a page at a time.
//!
//! There may be a million of them, and whoever waits for an event must not wait for a list. So a page is a
//! bounded piece of work, and says where the next begins. Between two pages watches come and go: the list is
//! right for those that stay.
//!
//! As in Apache, what is listed is the table of data watches: getChildren's are not in it, persistent watches
//! of both kinds are.

use std::ops::Bound;

use super::{Watch, WatchTable, Watches};
use crate::types::{ConnId, Str};

/// Watches looked at for one page, listed or not: about 0.1 ms.
const LOOKED_AT: usize = 2000;

/// Bytes of paths after which a page ends.
const PAGE_BYTES: usize = 64 << 10;

/// In which order watches are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchOrder {
    /// All of one path together.
    ByPath,
    /// All of one connection together.
    ByConnection,
}

/// A place in the list: the last watch that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchPlace(Watch);

/// A piece of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchPage {
    /// Who watches what; each pair once, whatever the modes.
    pub watches: Vec<(ConnId, Str)>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<WatchPlace>,
}

impl Watches {
    /// The page behind a place, or the first.
    pub fn page(&self, order: WatchOrder, after: Option<WatchPlace>) -> WatchPage {
        let after = after.map(|place| place.0);
        match order {
            WatchOrder::ByPath => self.collect_page(after, self.by_path(after)),
            WatchOrder::ByConnection => self.collect_page(after, self.by_connection(after)),
        }
    }

    fn by_path(&self, after: Option<Watch>) -> impl Iterator<Item = Watch> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.watches.range((from, Bound::Unbounded)).copied()
    }

    fn by_connection(&self, after: Option<Watch>) -> impl Iterator<Item = Watch> {
        let first = after.map_or(ConnId(0), |after| after.conn);
        self.connections.range(first..).flat_map(move |(conn, connection)| {
            let behind = after.filter(|after| after.conn == *conn);
            let behind = behind.map(|after| (after.path, after.table, after.mode));
            let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
            let watches = connection.watches.range((from, Bound::Unbounded));
            watches.map(|(path, table, mode)| Watch { path: *path, table: *table, conn: *conn, mode: *mode })
        })
    }

    fn collect_page(&self, after: Option<Watch>, watches: impl Iterator<Item = Watch>) -> WatchPage {
        let pair = |watch: Watch| (watch.table == WatchTable::Data).then_some((watch.conn, watch.path));
        let mut listed = after.and_then(pair);
        let mut page = WatchPage::default();
        let mut bytes = 0;
        for (looked_at, watch) in watches.enumerate() {
            if looked_at == LOOKED_AT || bytes >= PAGE_BYTES {
                return page;
            }
            page.next = Some(WatchPlace(watch));
            let pair = pair(watch);
            // Watches of one pair that differ in their mode stand together.
            if pair.is_some() && pair != listed {
                let path = self.paths.text(watch.path);
                bytes += path.len();
                page.watches.push((watch.conn, path.clone()));
                listed = pair;
            }
        }
        page.next = None;
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::watches::WatchMode;

    fn watches(of: &[(u64, WatchTable, &str, WatchMode)]) -> Watches {
        let mut watches = Watches::new();
        for (conn, table, path, mode) in of {
            if !watches.connections.contains_key(&ConnId(*conn)) {
                watches.opened(ConnId(*conn));
            }
            watches.list(ConnId(*conn), *table, (*path).into(), *mode).expect("few");
        }
        watches
    }

    /// All pages, and how many there were.
    fn all(watches: &Watches, order: WatchOrder) -> (Vec<(u64, String)>, usize) {
        let (mut listed, mut pages, mut after) = (Vec::new(), 0, None);
        loop {
            let page = watches.page(order, after);
            listed.extend(page.watches.iter().map(|(conn, path)| (conn.0, path.to_string())));
            pages += 1;
            after = page.next;
            if after.is_none() {
                return (listed, pages);
            }
        }
    }

    #[test]
    fn a_pair_is_listed_once_and_child_watches_are_not() {
        use WatchMode::{Persistent, Recursive, Standard};
        use WatchTable::{Child, Data};
        let watches = watches(&[
            (1, Data, "/b", Standard),
            (1, Data, "/a", Standard),
            (2, Data, "/a", Standard),
            (2, Data, "/a", Persistent),
            (2, Child, "/a", Persistent),
            (2, Data, "/a", Recursive),
            (3, Child, "/c", Standard),
        ]);
        let pairs = |of: &[(u64, &str)]| of.iter().map(|(c, p)| (*c, p.to_string())).collect::<Vec<_>>();
        let (listed, pages) = all(&watches, WatchOrder::ByPath);
        assert_eq!((listed, pages), (pairs(&[(1, "/b"), (1, "/a"), (2, "/a")]), 1));
        let (listed, _) = all(&watches, WatchOrder::ByConnection);
        assert_eq!(listed, pairs(&[(1, "/b"), (1, "/a"), (2, "/a")]));
        assert_eq!(all(&Watches::new(), WatchOrder::ByPath), (vec![], 1));
    }

    #[test]
    fn a_page_is_bounded_in_watches_and_in_bytes() {
        let many: Vec<String> = (0..5000).map(|i| format!("/{i}")).collect();
        let long: Vec<String> = (0..50).map(|i| format!("/{}{i}", "x".repeat(PAGE_BYTES / 2))).collect();
        for paths in [many, long] {
            for mode in [WatchMode::Standard, WatchMode::Persistent] {
                let of: Vec<_> =
                    paths.iter().map(|path| (7, WatchTable::Data, path.as_str(), mode)).collect();
                let watches = watches(&of);
                for order in [WatchOrder::ByPath, WatchOrder::ByConnection] {
                    let (listed, pages) = all(&watches, order);
                    let expected: Vec<_> = paths.iter().map(|path| (7, path.clone())).collect();
                    assert_eq!(listed, expected, "each once, however the pages are cut");
                    assert!(pages >= 3, "{pages} pages");
                }
            }
        }
    }

    #[test]
    fn child_watches_use_up_a_page_too() {
        let of: Vec<_> = (0..5000).map(|i| format!("/{i}")).collect();
        let of: Vec<_> =
            of.iter().map(|path| (1, WatchTable::Child, path.as_str(), WatchMode::Standard)).collect();
        let (listed, pages) = all(&watches(&of), WatchOrder::ByPath);
        assert_eq!((listed.len(), pages), (0, 3));
    }

    #[test]
    fn what_goes_between_two_pages_harms_nothing() {
        let of: Vec<_> = (0..3000).map(|i| format!("/{i}")).collect();
        let of: Vec<_> =
            of.iter().map(|path| (1, WatchTable::Data, path.as_str(), WatchMode::Standard)).collect();
        let mut watches = watches(&of);
        for order in [WatchOrder::ByPath, WatchOrder::ByConnection] {
            let first = watches.page(order, None);
            assert!(first.next.is_some());
            if order == WatchOrder::ByConnection {
                watches.forget(ConnId(1));
            }
            let second = watches.page(order, first.next);
            assert_eq!(second.watches.len(), if order == WatchOrder::ByPath { 1000 } else { 0 });
        }
    }
}
