//! Who belongs to the ensemble, and which sets of servers decide.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::{Membership, Sid};

/// One server of the ensemble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// Participant or observer.
    pub membership: Membership,
    /// Votes it has (hierarchical quorums); 1 by default.
    pub weight: u32,
    /// Its group (hierarchical quorums); all in group 0 is a majority quorum.
    pub group: u32,
}

/// The ensemble as one of its servers sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ensemble {
    /// This server.
    pub me: Sid,
    /// All servers, this one included.
    pub members: BTreeMap<Sid, Member>,
}

impl Ensemble {
    /// A majority ensemble of these participants and observers (tests, the simulator).
    pub fn majority(me: Sid, participants: &[Sid], observers: &[Sid]) -> Ensemble {
        let member = |membership| Member { membership, weight: 1, group: 0 };
        let members = participants
            .iter()
            .map(|sid| (*sid, member(Membership::Participant)))
            .chain(observers.iter().map(|sid| (*sid, member(Membership::Observer))))
            .collect();
        Ensemble { me, members }
    }

    /// Does this server vote?
    pub fn is_voter(&self, sid: Sid) -> bool {
        self.members.get(&sid).is_some_and(|m| m.membership == Membership::Participant)
    }

    /// What this server is by configuration.
    pub fn my_membership(&self) -> Membership {
        self.members[&self.me].membership
    }

    /// The servers that vote.
    pub fn voters(&self) -> impl Iterator<Item = Sid> + '_ {
        self.members.keys().copied().filter(|sid| self.is_voter(*sid))
    }

    /// Every server but this one.
    pub fn others(&self) -> impl Iterator<Item = Sid> + '_ {
        self.members.keys().copied().filter(|sid| *sid != self.me)
    }

    /// Is it one server that needs nobody (Apache's standalone mode)?
    pub fn is_standalone(&self) -> bool {
        self.members.len() == 1
    }

    /// Do these servers decide? More than half of the weight in more than half of the groups that have
    /// any weight; with one group and weights of 1 that is the plain majority. Observers and strangers
    /// never count.
    pub fn contains_quorum(&self, servers: &BTreeSet<Sid>) -> bool {
        let mut groups: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for (sid, member) in &self.members {
            if member.membership == Membership::Participant && member.weight > 0 {
                let (total, present) = groups.entry(member.group).or_default();
                *total += u64::from(member.weight);
                *present += if servers.contains(sid) { u64::from(member.weight) } else { 0 };
            }
        }
        let won = groups.values().filter(|(total, present)| present * 2 > *total).count();
        won * 2 > groups.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(sids: &[u8]) -> BTreeSet<Sid> {
        sids.iter().map(|s| Sid(*s)).collect()
    }

    #[test]
    fn majority_counts_participants_only() {
        let ensemble = Ensemble::majority(Sid(1), &[Sid(1), Sid(2), Sid(3)], &[Sid(4), Sid(5)]);
        assert!(ensemble.contains_quorum(&set(&[1, 3])));
        assert!(!ensemble.contains_quorum(&set(&[1])));
        assert!(!ensemble.contains_quorum(&set(&[1, 4, 5, 9])), "observers and strangers do not vote");
        let even = Ensemble::majority(Sid(1), &[Sid(1), Sid(2), Sid(3), Sid(4)], &[]);
        assert!(!even.contains_quorum(&set(&[1, 2])), "half is no majority");
    }

    #[test]
    fn hierarchy_wants_a_majority_of_weight_in_a_majority_of_groups() {
        let mut ensemble = Ensemble::majority(Sid(1), &(1..=9).map(Sid).collect::<Vec<_>>(), &[]);
        for (sid, member) in &mut ensemble.members {
            member.group = u32::from(sid.0 - 1) / 3;
        }
        assert!(ensemble.contains_quorum(&set(&[1, 2, 4, 5])), "two of three in two of three groups");
        assert!(!ensemble.contains_quorum(&set(&[1, 2, 3, 4, 7])), "five of nine, but one group only");
        ensemble.members.get_mut(&Sid(1)).expect("is a member").weight = 0;
        assert!(!ensemble.contains_quorum(&set(&[1, 2, 4, 5])), "a weight of 0 is no vote");
    }

    #[test]
    fn no_voters_no_quorum() {
        let ensemble = Ensemble::majority(Sid(4), &[], &[Sid(4)]);
        assert!(!ensemble.contains_quorum(&set(&[4])));
    }
}
