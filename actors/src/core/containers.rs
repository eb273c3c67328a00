//! When containers and TTL nodes are looked for, and how fast those that are over are deleted. Only the leader
//! does either.
//!
//! ```text
//!  Lead ──▶ wait for the interval ──Look──▶ Found ──Delete, Delete ... spaced──▶ next page ──▶ ... ──▶ wait
//! ```
//!
//! The tree is looked at a page at a time, one page for a tick, and what a page has shown is deleted before the next
//! look, so that a million of them cost neither memory nor anybody's patience. Whoever deletes judges each once
//! more when its turn comes: it may have been used meanwhile.
//!
//! Absent on purpose: what is over (the tree's), and whether a deletion is carried out (nobody waits for it; what
//! is left is found again).

use std::collections::VecDeque;

use crate::core::tree::{MortalPage, MortalPlace};
use crate::types::{Millis, Str};

/// The defaults are Apache's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// From one look to the next (znode.container.checkIntervalMs).
    pub check_interval_ms: Millis,
    /// Deletions in a minute at most (znode.container.maxPerMinute).
    pub max_per_minute: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { check_interval_ms: 60_000, max_per_minute: 10_000 }
    }
}

/// Deletions that were due while nobody ticked are made up for, but no more than those of this time, in ms.
const MAX_LAG_MS: Millis = 1000;

/// What it hears.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // of fields: each variant says what they are
pub enum Input {
    /// This server leads from now on.
    Lead { now: Millis },
    /// It does not.
    Learn,
    /// Time passes.
    Tick { now: Millis },
    /// What the last look has shown.
    Found { now: Millis, page: MortalPage },
}

/// What it wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Look at the containers and TTL nodes behind this one, and say what was Found.
    Look(Option<MortalPlace>),
    /// Delete this one, if it is still over.
    Delete(Str),
}

/// ZooKeeper's name for it. See the module's story.
#[derive(Debug)]
pub struct ContainerManager {
    settings: Settings,
    /// `None` while this server does not lead.
    leading: Option<Leading>,
}

#[derive(Debug)]
struct Leading {
    next_check: Millis,
    /// `None` between two checks.
    check: Option<Check>,
}

/// A check under way.
#[derive(Debug)]
struct Check {
    /// Found, not deleted.
    over: VecDeque<Str>,
    /// Where to look when those are deleted; `None` when all have been looked at.
    next: Option<MortalPlace>,
    /// When the next may be deleted.
    due: Millis,
}

impl ContainerManager {
    /// One that does not lead.
    pub fn new(settings: Settings) -> ContainerManager {
        assert!(settings.max_per_minute > 0, "a limit of none would be no limit to what waits");
        ContainerManager { settings, leading: None }
    }

    /// Takes an input; what is to be done is added to `out`.
    pub fn step(&mut self, input: Input, out: &mut Vec<Effect>) {
        let interval_ms = self.settings.check_interval_ms;
        let spacing_ms = Millis::from(60_000 / self.settings.max_per_minute);
        match (input, &mut self.leading) {
            // A new term begins with a whole interval, as in Apache.
            (Input::Lead { now }, leading) => {
                *leading = Some(Leading { next_check: now + interval_ms, check: None });
            }
            // What was found is for the next leader to find.
            (Input::Learn, leading) => *leading = None,
            (Input::Tick { now }, Some(leading)) => leading.tick(now, interval_ms, spacing_ms, out),
            // Deletions may begin at once: the look was for them.
            (Input::Found { now, page }, Some(Leading { check: Some(check), .. })) => {
                check.over.extend(page.over);
                check.next = page.next;
                check.delete_due(now, spacing_ms, out);
            }
            // Nobody to do it for.
            (Input::Tick { .. } | Input::Found { .. }, _) => {}
        }
    }
}

impl Leading {
    fn tick(&mut self, now: Millis, interval_ms: Millis, spacing_ms: Millis, out: &mut Vec<Effect>) {
        match &mut self.check {
            // Between two checks.
            None if now < self.next_check => {}
            None => {
                // One that takes longer than the interval is followed by the next without a pause.
                self.next_check = now + interval_ms;
                self.check = Some(Check { over: VecDeque::new(), next: None, due: now });
                out.push(Effect::Look(None));
            }
            Some(check) if !check.over.is_empty() => check.delete_due(now, spacing_ms, out),
            Some(check) => match check.next.take() {
                Some(place) => out.push(Effect::Look(Some(place))),
                None => self.check = None,
            },
        }
    }
}

impl Check {
    fn delete_due(&mut self, now: Millis, spacing_ms: Millis, out: &mut Vec<Effect>) {
        self.due = self.due.max(now.saturating_sub(MAX_LAG_MS));
        while self.due <= now {
            let Some(path) = self.over.pop_front() else { break };
            out.push(Effect::Delete(path));
            self.due += spacing_ms;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::tree::Tree;
    use crate::types::{Acl, CreateKind, SessionId, Txn, TxnBody, TxnHeader, Zxid, perms};

    /// A manager over a tree with so many TTL nodes, and the times of its deletions.
    struct Bench {
        manager: ContainerManager,
        tree: Tree,
        looks: usize,
        deleted: Vec<Millis>,
    }

    impl Bench {
        fn new(check_interval_ms: Millis, max_per_minute: u32, nodes: usize) -> Bench {
            let mut tree = Tree::new();
            for at in 1..=nodes {
                let body = TxnBody::Create {
                    kind: CreateKind::Ttl(1),
                    path: format!("/{at}").into(),
                    data: None,
                    acl: vec![Acl::world(perms::ALL)],
                    ephemeral: false,
                    parent_cversion: at as i32,
                };
                let zxid = Zxid(at as i64);
                let header = TxnHeader { session: SessionId::NONE, cxid: 0, zxid, time: 0 };
                tree.apply(&Txn { header, body, digest: None }, &mut Vec::new());
            }
            let manager = ContainerManager::new(Settings { check_interval_ms, max_per_minute });
            Bench { manager, tree, looks: 0, deleted: Vec::new() }
        }

        fn step(&mut self, now: Millis, input: Input) {
            let mut effects = Vec::new();
            self.manager.step(input, &mut effects);
            for effect in effects {
                match effect {
                    Effect::Look(place) => {
                        self.looks += 1;
                        let page = self.tree.mortals_over(i64::MAX, 0, place);
                        self.step(now, Input::Found { now, page });
                    }
                    Effect::Delete(path) => {
                        let zxid = self.tree.zxid().next();
                        let header = TxnHeader { session: SessionId::NONE, cxid: 0, zxid, time: 0 };
                        let body = TxnBody::Delete { path, container: true };
                        self.tree.apply(&Txn { header, body, digest: None }, &mut Vec::new());
                        self.deleted.push(now);
                    }
                }
            }
        }

        fn run(&mut self, from: Millis, to: Millis) {
            for now in (from..=to).step_by(10) {
                self.step(now, Input::Tick { now });
            }
        }
    }

    #[test]
    fn nothing_is_looked_for_before_the_interval_is_over_nor_without_the_lead() {
        let mut bench = Bench::new(1000, 60_000, 1);
        bench.run(0, 5000);
        bench.step(5000, Input::Lead { now: 5000 });
        bench.run(5000, 5990);
        assert_eq!(bench.looks, 0);
        bench.run(6000, 8000);
        assert_eq!((bench.looks, &bench.deleted[..]), (3, &[6000][..]), "one look an interval");
    }

    #[test]
    fn deletions_are_spaced() {
        let mut bench = Bench::new(1000, 600, 50);
        bench.step(0, Input::Lead { now: 0 });
        bench.run(0, 7000);
        let expected: Vec<Millis> = (0..50).map(|n| 1000 + n * 100).collect();
        assert_eq!(bench.deleted, expected);
    }

    #[test]
    fn a_burst_after_a_pause_has_a_bound() {
        let mut bench = Bench::new(1000, 600, 500);
        bench.step(0, Input::Lead { now: 0 });
        bench.run(0, 1000);
        bench.run(60_000, 60_000);
        assert_eq!(bench.deleted.len(), 1 + 11, "those of the last second, and the one that is due");
        bench.run(60_010, 70_000);
        assert_eq!(bench.deleted.len(), 12 + 100);
    }

    #[test]
    fn many_are_looked_at_page_by_page_and_all_go() {
        let mut bench = Bench::new(1000, 1_000_000, 3500);
        bench.step(0, Input::Lead { now: 0 });
        bench.run(0, 1000);
        assert_eq!(bench.deleted.len(), 1000, "one page for a tick");
        bench.run(1010, 1990);
        assert_eq!((bench.deleted.len(), bench.looks), (3500, 4));
        assert_eq!(bench.tree.node_count(), Tree::new().node_count());
    }

    #[test]
    fn the_end_of_the_lead_ends_it() {
        let mut bench = Bench::new(1000, 600, 50);
        bench.step(0, Input::Lead { now: 0 });
        bench.run(0, 2000);
        assert_eq!(bench.deleted.len(), 11);
        bench.step(2000, Input::Learn);
        bench.step(2000, Input::Found { now: 2000, page: MortalPage::default() });
        bench.run(2000, 9000);
        assert_eq!(bench.deleted.len(), 11);
        bench.step(9000, Input::Lead { now: 9000 });
        bench.run(9000, 9990);
        assert_eq!(bench.deleted.len(), 11, "a new term begins with a whole interval");
        bench.run(10_000, 20_000);
        assert_eq!(bench.deleted.len(), 50);
    }
}
