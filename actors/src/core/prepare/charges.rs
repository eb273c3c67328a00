//! What is proposed and not applied yet, as quotas count it. With it a hard limit holds however many writes are on
//! their way, and however many members a multi has. (Apache looks at what is applied alone.)
//!
//! A write is charged to the quotas that are in force when it is prepared. One that comes into force while it is on
//! its way counts it when it is applied.

use std::collections::{BTreeMap, VecDeque};

use crate::core::quota::Usage;
use crate::types::{Str, Zxid};

/// By how much one transaction changes what each quota holds.
pub type Charged = BTreeMap<Str, Usage>;

/// See the module's story. Bounded by what is proposed.
#[derive(Debug, Default)]
pub struct Charges {
    sums: Charged,
    /// Which transaction has charged what, oldest first.
    order: VecDeque<(Zxid, Str, Usage)>,
}

impl Charges {
    /// What all proposals together add to what a quota holds.
    pub fn to(&self, quota: &str) -> Usage {
        self.sums.get(quota).copied().unwrap_or(Usage::NONE)
    }

    /// A transaction is proposed.
    pub fn absorb(&mut self, zxid: Zxid, charged: Charged) {
        for (quota, more) in charged {
            self.add(&quota, more);
            self.order.push_back((zxid, quota, more));
        }
    }

    /// The tree counts everything up to here.
    pub fn applied(&mut self, zxid: Zxid) {
        while self.order.front().is_some_and(|(at, ..)| *at <= zxid) {
            let (_, quota, more) = self.order.pop_front().expect("it has a front");
            self.add(&quota, -more);
        }
    }

    fn add(&mut self, quota: &Str, more: Usage) {
        let sum = self.sums.entry(quota.clone()).or_default();
        *sum += more;
        if *sum == Usage::NONE {
            self.sums.remove(quota);
        }
    }

    /// Is nothing charged?
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty() && self.order.is_empty()
    }
}
