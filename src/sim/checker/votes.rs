//! What servers that have a role answer to who is LOOKING: all that have one leader must name it alike, or a newcomer
//! looks in vain for a quorum that agrees (ZOOKEEPER-1732, 1818). A follower names its leader with the epoch of the
//! vote that elected it, which it has said or heard while it was LOOKING itself; or with the epoch that leads.

use std::collections::{BTreeMap, BTreeSet};

use zabra_actors::types::{Epoch, Notification, ServerState, Sid};

use super::sessions::Sessions;

/// See the module's story.
#[derive(Default)]
pub(super) struct Votes {
    servers: BTreeMap<Sid, Known>,
}

#[derive(Default)]
struct Known {
    looking: bool,
    /// Candidates and their epochs that it has said or heard since it was LOOKING last.
    votes: BTreeSet<(Sid, Epoch)>,
    /// The same of the time before: what comes while its process stands still is read when it is LOOKING again.
    earlier: BTreeSet<(Sid, Epoch)>,
}

impl Votes {
    /// A notification leaves.
    pub(super) fn said(&mut self, sid: Sid, said: &Notification, sessions: &Sessions) -> Result<(), String> {
        let known = self.servers.entry(sid).or_default();
        let looking = said.state == ServerState::Looking;
        if looking && !known.looking {
            known.earlier = std::mem::take(&mut known.votes);
        }
        known.looking = looking;
        let Some(leader) = said.vote.leader else { return Ok(()) };
        let vote = (leader, said.vote.epoch);
        if looking {
            known.votes.insert(vote);
            return Ok(());
        }
        let elected_it = known.votes.contains(&vote) || known.earlier.contains(&vote);
        if leader != sid && !elected_it && sessions.leader_of(vote.1) != Some(leader) {
            return Err(format!(
                "vote: it names {leader} with epoch {}, which is neither what elected it nor what it leads",
                vote.1
            ));
        }
        Ok(())
    }

    /// A notification arrives.
    pub(super) fn heard(&mut self, at: Sid, heard: &Notification) {
        if let Some(leader) = heard.vote.leader {
            self.servers.entry(at).or_default().votes.insert((leader, heard.vote.epoch));
        }
    }

    /// Its process has begun anew, LOOKING: it may hear of a vote before it has said a word.
    pub(super) fn forget(&mut self, sid: Sid) {
        self.servers.insert(sid, Known { looking: true, ..Known::default() });
    }
}
