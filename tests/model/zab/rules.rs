//! What must hold, by the numbers that the simulator and `actors/tests/zab_model` use, and what an omniscient observer
//! has to remember to know it.

use std::collections::BTreeMap;
use std::sync::Arc;

use stateright::Property;
use zabra_actors::types::{Entry, Epoch, Zxid};

use super::server::Entries;
use super::{World, Zab};

macro_rules! rules {
    ($($rule:ident: $name:literal,)*) => {
        /// Something that must hold in every state.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Rule { $($rule,)* }

        impl Rule {
            pub fn name(self) -> &'static str {
                match self { $(Rule::$rule => $name,)* }
            }

            pub fn properties() -> Vec<Property<Zab>> {
                vec![$(Property::always($name, |_: &Zab, world: &World| !world.breaks(Rule::$rule)),)*]
            }
        }
    };
}

rules! {
    OneLeader: "I1: an epoch has one established leader",
    Agreement: "I2: what servers deliver are prefixes of one order",
    Integrity: "I3: what is delivered was broadcast by the leader of its epoch",
    PrimaryOrder: "I4: it is delivered in the order of its broadcast, without a hole",
    PrimaryIntegrity: "I5: a leader has everything that anybody has delivered",
    Epochs: "I6: an epoch is promised, and taken, when that is durable; current <= accepted; neither goes down",
    LogEpoch: "I7: no log is newer than the accepted epoch",
    Durable: "I8: what is acknowledged is durable",
    TakenOver: "I9: who acknowledges NEWLEADER holds the leader's history and its epoch durably",
    Quorum: "I10: what is committed is durable on a quorum, then and ever after",
    NewLeaderFirst: "I13: nothing is acknowledged before NEWLEADER",
    Sync: "a sync is answered by who has everything that was committed when it came",
    RightTree: "nobody is served from a tree that is known to be wrong",
    Assertions: "no assertion of the cores fails",
    Progress: "when the faults stop, a leader is established and everybody serves the same",
}

/// A rule that does not hold, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Broken {
    pub rule: Rule,
    pub how: String,
}

#[derive(Clone, Debug, Default, Hash)]
pub struct Ghosts {
    /// Who led an epoch.
    pub leaders: BTreeMap<Epoch, usize>,
    /// The history each leader began with.
    pub beginnings: BTreeMap<(Epoch, usize), Entries>,
    /// Everything that was ever broadcast.
    pub broadcast: BTreeMap<Zxid, Arc<Entry>>,
    /// The longest sequence that somebody has delivered.
    pub committed: Entries,
}

impl Ghosts {
    /// A server that serves has this tree now, of which `seen` transactions were checked before.
    pub fn deliver(&mut self, tree: &[Arc<Entry>], seen: usize) -> Result<(), (Rule, String)> {
        for (i, entry) in tree.iter().enumerate().skip(seen) {
            let zxid = entry.zxid();
            if self.broadcast.get(&zxid) != Some(entry) {
                return Err((Rule::Integrity, format!("{zxid} is delivered and was not broadcast")));
            }
            let ordered = match i.checked_sub(1).map(|before| tree[before].zxid()) {
                Some(before) if before.epoch() == zxid.epoch() => zxid == before.next(),
                Some(before) => zxid.epoch() > before.epoch() && zxid.counter() == 1,
                None => zxid.counter() == 1,
            };
            if !ordered {
                return Err((Rule::PrimaryOrder, format!("{zxid} is delivered out of order: {tree:?}")));
            }
        }
        let common = tree.len().min(self.committed.len());
        if tree[..common] != self.committed[..common] {
            return Err((Rule::Agreement, format!("{tree:?} here, elsewhere {:?}", self.committed)));
        }
        self.committed.extend_from_slice(&tree[common..]);
        Ok(())
    }
}
