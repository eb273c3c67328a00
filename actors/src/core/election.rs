//! Fast leader election: the participants agree on the one with the newest history.
//!
//! Everybody who is LOOKING tells the others its vote and takes over any better one it hears: a later epoch,
//! then a later zxid, then a greater id. When a quorum has voted alike, the round is decided. A server that
//! has a role answers who is LOOKING with the vote that gave it the role; a newcomer believes a quorum of such
//! answers, provided the leader itself is among them and says that it leads.
//!
//! An election is a good guess and no more: that the leader's history is the newest of a quorum's is checked
//! again when that quorum promises the new epoch (ACKEPOCH). So nothing is persisted here, and a vote is
//! forgotten when its sender's link goes down.
//!
//! Unlike Apache, which waits 200 ms after each quorum for a better vote, a round is decided at once when
//! every voter that could still speak has spoken; and the back-off between notifications ends at 3 s, not at
//! 60, since a partition that heals should not be followed by a minute of silence.
//!
//! A voter that may lack what it has acknowledged (its log was damaged) has no say until it is in step with a
//! leader once: it listens and proposes nobody, as an observer does.
//!
//! Deliberately absent: the configuration in notifications (reconfiguration is not supported), and observers'
//! answers: they know nothing that a voter does not.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::mutant::{Mutant, mutated};
use crate::core::quorum::Ensemble;
use crate::types::{Epoch, Millis, Notification, ServerState, Sid, Vote, Zxid};

/// How long a decided round waits for voters that are connected but have not spoken, in ms (Apache's
/// finalizeWait).
pub const FINALIZE_WAIT_MS: Millis = 200;
/// The first pause before a notification is repeated, in ms; it doubles each time.
pub const MIN_NOTIFICATION_INTERVAL_MS: Millis = 200;
/// The longest pause, in ms.
pub const MAX_NOTIFICATION_INTERVAL_MS: Millis = 3_000;

/// The pauses between two notifications of the same vote, in ms: the first one, doubled up to the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pauses {
    /// The first.
    pub min_ms: Millis,
    /// The longest.
    pub max_ms: Millis,
}

/// What the election hears.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the fields are named for what they are
pub enum Input {
    /// This server is LOOKING: a new round begins with its own candidacy. `votes`: does it have a say? A voter
    /// that may lack what it has acknowledged listens only, and is no candidate.
    Look { now: Millis, last: Zxid, current: Epoch, votes: bool },
    /// This server has a role; questions are answered from now on. Sent when the role begins, when the epoch is
    /// of no matter yet, and again when it serves, with the epoch that the answers name from then on.
    Settled { state: ServerState, epoch: Epoch },
    /// A server's word.
    Notification { now: Millis, from: Sid, notification: Notification },
    /// A connection to this server is there: it may not have heard us.
    LinkUp { now: Millis, peer: Sid },
    /// It is gone: nobody waits for that server's vote.
    LinkDown { now: Millis, peer: Sid },
    /// Time passes; at least every 50 ms.
    Tick { now: Millis },
}

/// What the election wants done.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the fields are named for what they are
pub enum Effect {
    /// Tell these servers.
    Notify { to: Vec<Sid>, notification: Notification },
    /// The round is decided. The election stays silent until it hears Settled or Look.
    Elected { leader: Sid, vote: Vote, round: u64, took_ms: Millis },
}

/// The election of one server, for the life of its process.
#[derive(Clone, Hash)]
pub struct Election {
    ensemble: Ensemble,
    pauses: Pauses,
    /// Does this server have a say?
    votes: bool,
    /// Who can be spoken to.
    links: BTreeSet<Sid>,
    /// The logical clock: the number of the newest round this server knows of.
    round: u64,
    state: State,
}

#[derive(Clone, Hash)]
enum State {
    /// Before the first Look, and between Elected and Settled.
    Silent(Option<Vote>),
    Looking(Looking),
    Settled {
        state: ServerState,
        vote: Vote,
    },
}

/// What is known in a round.
#[derive(Clone, Hash)]
struct Looking {
    /// Our own candidacy; nobody's for an observer.
    own: Vote,
    /// The best vote so far.
    proposal: Vote,
    since: Millis,
    /// What was said in this round. Settled servers of the same round are among them.
    votes: BTreeMap<Sid, Said>,
    /// What servers with a role said, whatever their round.
    settled: BTreeMap<Sid, Said>,
    /// When everybody is told again, and the pause after that.
    repeat_at: Millis,
    pause: Millis,
    /// When a quorum for the proposal is enough, though not all have spoken.
    decide_at: Option<Millis>,
}

#[derive(Clone, Copy, Hash)]
struct Said {
    vote: Vote,
    round: u64,
    state: ServerState,
}

impl Said {
    /// Do these two name the same leader? Epoch, zxid and round of servers that have a role were taken at
    /// different moments, so of those only the epoch must match (ZOOKEEPER-1732).
    fn agrees(&self, other: &Said) -> bool {
        if self.state == ServerState::Looking || other.state == ServerState::Looking {
            self.vote == other.vote && self.round == other.round
        } else {
            self.vote.leader == other.vote.leader && self.vote.epoch == other.vote.epoch
        }
    }
}

/// The vote of who has no say.
const NOBODY: Vote = Vote { leader: None, zxid: Zxid::ZERO, epoch: Epoch(0) };

/// Is the first vote better than the second?
fn is_better(new: &Vote, old: &Vote) -> bool {
    let rank = |vote: &Vote| vote.leader.map(|leader| (vote.epoch, vote.zxid, leader));
    rank(new) > rank(old)
}

impl Election {
    /// An election that has not begun; no link is up. The pauses between notifications are the default.
    pub fn new(ensemble: Ensemble) -> Election {
        let pauses = Pauses { min_ms: MIN_NOTIFICATION_INTERVAL_MS, max_ms: MAX_NOTIFICATION_INTERVAL_MS };
        Election::with_pauses(ensemble, pauses)
    }

    /// The same, with pauses of one's own.
    pub fn with_pauses(ensemble: Ensemble, pauses: Pauses) -> Election {
        let (votes, links) = (ensemble.is_voter(ensemble.me), BTreeSet::new());
        Election { ensemble, pauses, votes, links, round: 0, state: State::Silent(None) }
    }

    /// The newest round known.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// Takes an input; adds what is to be done.
    pub fn step(&mut self, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Look { now, last, current, votes } => {
                self.votes = votes && self.ensemble.is_voter(self.ensemble.me);
                self.look(now, last, current, out);
            }
            Input::Settled { state, epoch } => self.settle(state, epoch),
            Input::Notification { now, from, notification } => self.hear(now, from, notification, out),
            Input::LinkUp { now: _, peer } => {
                self.links.insert(peer);
                // It may have missed what was said before.
                if let State::Looking(looking) = &self.state {
                    let notification = looking.notification(self.round, self.votes);
                    if self.is_asked(peer) {
                        out.push(Effect::Notify { to: vec![peer], notification });
                    }
                }
            }
            Input::LinkDown { now, peer } => self.lose(now, peer, out),
            Input::Tick { now } => {
                if let State::Looking(looking) = &mut self.state
                    && now >= looking.repeat_at
                {
                    looking.pause = (looking.pause * 2).min(self.pauses.max_ms);
                    looking.repeat_at = now + looking.pause;
                    self.tell_all(out);
                }
                self.conclude(now, out);
            }
        }
    }

    /// A round begins with our own candidacy.
    fn look(&mut self, now: Millis, last: Zxid, current: Epoch, out: &mut Vec<Effect>) {
        let me = self.ensemble.me;
        let own = match self.votes && self.can_lead(me) {
            true => Vote { leader: Some(me), zxid: last, epoch: current },
            false => NOBODY,
        };
        self.begin_round(now, now, own, out);
    }

    fn begin_round(&mut self, now: Millis, since: Millis, own: Vote, out: &mut Vec<Effect>) {
        self.round = self.round.saturating_add(1);
        self.state = State::Looking(Looking {
            own,
            proposal: own,
            since,
            votes: BTreeMap::new(),
            settled: BTreeMap::new(),
            repeat_at: now + self.pauses.min_ms,
            pause: self.pauses.min_ms,
            decide_at: None,
        });
        self.tell_all(out);
        self.conclude(now, out);
    }

    /// Until a role serves, all of a leader's servers answer with the vote that elected it. Their own epochs may
    /// differ then, and a newcomer would look for a quorum that agrees in vain.
    fn settle(&mut self, state: ServerState, epoch: Epoch) {
        let vote = match &self.state {
            State::Silent(Some(vote)) if mutated(Mutant::OwnEpochVote) => Vote { epoch, ..*vote },
            State::Silent(Some(vote)) => *vote,
            State::Settled { vote, .. } => Vote { epoch, ..*vote },
            // The role that says so is over already: this server is LOOKING again.
            State::Silent(None) | State::Looking(_) => return,
        };
        self.state = State::Settled { state, vote };
    }

    /// A link is gone, and with it the word of who is behind it.
    fn lose(&mut self, now: Millis, peer: Sid, out: &mut Vec<Effect>) {
        self.links.remove(&peer);
        let State::Looking(looking) = &mut self.state else { return };
        looking.votes.remove(&peer);
        looking.settled.remove(&peer);
        if looking.proposal.leader == Some(peer) {
            // The candidate is gone: a new round without it. Who can still reach it brings it back.
            let (own, since) = (looking.own, looking.since);
            self.begin_round(now, since, own, out);
        } else {
            self.conclude(now, out);
        }
    }

    fn hear(&mut self, now: Millis, from: Sid, n: Notification, out: &mut Vec<Effect>) {
        if from == self.ensemble.me {
            return; // nobody else is allowed to speak for us
        }
        if !self.ensemble.is_voter(from) {
            // An observer asks who leads: it is told at once, and has no say.
            if self.ensemble.is_voter(self.ensemble.me) {
                self.answer(from, out);
            }
            return;
        }
        match &self.state {
            State::Looking(_) => self.hear_while_looking(now, from, n, out),
            // A voter is LOOKING: it is told what role this server has, and who leads.
            State::Settled { .. } if n.state == ServerState::Looking => self.answer(from, out),
            // Nothing to learn from somebody who has a role, too; and while silent there is nothing to say.
            State::Settled { .. } | State::Silent(_) => {}
        }
    }

    fn hear_while_looking(&mut self, now: Millis, from: Sid, n: Notification, out: &mut Vec<Effect>) {
        let sensible = match n.vote.leader {
            // Others may not have heard yet that this server is no candidate any more.
            Some(leader) if leader == self.ensemble.me && !self.votes => false,
            Some(leader) => self.can_lead(leader),
            None => n.state == ServerState::Looking, // a voter without weight proposes nobody at first
        };
        if !sensible {
            return;
        }
        match n.state {
            ServerState::Looking => self.hear_candidate(from, n, out),
            ServerState::Following | ServerState::Leading => self.hear_settled(now, from, n, out),
            ServerState::Observing => {} // a voter does not observe; nothing follows from it
        }
        self.conclude(now, out);
    }

    /// Another one is LOOKING.
    fn hear_candidate(&mut self, from: Sid, n: Notification, out: &mut Vec<Effect>) {
        let State::Looking(looking) = &mut self.state else { return };
        looking.settled.remove(&from); // it has a role no longer
        if n.round < self.round {
            // It does not know of our round yet.
            let notification = looking.notification(self.round, self.votes);
            out.push(Effect::Notify { to: vec![from], notification });
            return;
        }
        let before = looking.proposal;
        let newer = n.round > self.round;
        if newer {
            // Ours is out of date: everything starts again in the newer one.
            self.round = n.round;
            looking.votes.clear();
            looking.proposal = looking.own;
        }
        if is_better(&n.vote, &looking.proposal) {
            looking.proposal = n.vote;
        }
        looking.votes.insert(from, Said { vote: n.vote, round: n.round, state: n.state });
        if newer || looking.proposal != before {
            looking.decide_at = None;
            self.tell_all(out);
        }
    }

    /// Somebody has a role already. With a quorum of those, the leader among them, we join.
    fn hear_settled(&mut self, now: Millis, from: Sid, n: Notification, out: &mut Vec<Effect>) {
        let State::Looking(looking) = &mut self.state else { return };
        let said = Said { vote: n.vote, round: n.round, state: n.state };
        looking.settled.insert(from, said);
        if n.round == self.round {
            looking.votes.insert(from, said);
            if self.can_join(said, |looking| &looking.votes, true) {
                return self.elect(now, said.vote, said.round, out);
            }
        }
        if self.can_join(said, |looking| &looking.settled, false) {
            self.elect(now, said.vote, said.round, out);
        }
    }

    /// Does a quorum of these agree with what was said, and does the leader itself confirm it?
    fn can_join(&self, said: Said, votes: fn(&Looking) -> &BTreeMap<Sid, Said>, with_me: bool) -> bool {
        let State::Looking(looking) = &self.state else { return false };
        let leader = said.vote.leader.expect("votes for nobody are dropped on arrival");
        let confirmed = if leader == self.ensemble.me {
            said.round == self.round
        } else {
            votes(looking).get(&leader).is_some_and(|it| it.state == ServerState::Leading)
        };
        confirmed && self.ensemble.contains_quorum(&self.agreeing(looking, votes(looking), said, with_me))
    }

    /// Those who voted so; this server with its proposal if it is asked.
    fn agreeing(
        &self,
        looking: &Looking,
        votes: &BTreeMap<Sid, Said>,
        said: Said,
        with_me: bool,
    ) -> BTreeSet<Sid> {
        let mine = Said { vote: looking.proposal, round: self.round, state: ServerState::Looking };
        let me = (with_me && self.votes && mine.agrees(&said)).then_some(self.ensemble.me);
        let others = votes.iter().filter(|(_, it)| it.agrees(&said)).map(|(sid, _)| *sid);
        others.chain(me).collect()
    }

    /// Is the round decided? With a quorum for the proposal it is when all who can speak have spoken, or
    /// have had their time to.
    fn conclude(&mut self, now: Millis, out: &mut Vec<Effect>) {
        let State::Looking(looking) = &self.state else { return };
        let said = Said { vote: looking.proposal, round: self.round, state: ServerState::Looking };
        let agreed = looking.proposal.leader.is_some()
            && self.ensemble.contains_quorum(&self.agreeing(looking, &looking.votes, said, true));
        let others = self.ensemble.voters().filter(|sid| *sid != self.ensemble.me);
        let all_spoke =
            others.filter(|sid| self.links.contains(sid)).all(|sid| looking.votes.contains_key(&sid));
        let State::Looking(looking) = &mut self.state else { return };
        if !agreed {
            looking.decide_at = None;
            return;
        }
        let decide_at = *looking.decide_at.get_or_insert(now + FINALIZE_WAIT_MS);
        if all_spoke || now >= decide_at {
            self.elect(now, said.vote, said.round, out);
        }
    }

    fn elect(&mut self, now: Millis, vote: Vote, round: u64, out: &mut Vec<Effect>) {
        let State::Looking(looking) = &self.state else { return };
        let took_ms = now.saturating_sub(looking.since);
        let leader = vote.leader.expect("nobody is elected with a vote for nobody");
        assert!(self.can_lead(leader), "{leader} cannot lead and was elected");
        self.round = round;
        self.state = State::Silent(Some(vote));
        out.push(Effect::Elected { leader, vote, round, took_ms });
    }

    /// What this server says now, to one that asked.
    fn answer(&self, to: Sid, out: &mut Vec<Effect>) {
        let notification = match &self.state {
            State::Silent(_) => return,
            State::Looking(looking) => looking.notification(self.round, self.votes),
            State::Settled { state, vote } => Notification { vote: *vote, round: self.round, state: *state },
        };
        out.push(Effect::Notify { to: vec![to], notification });
    }

    fn tell_all(&self, out: &mut Vec<Effect>) {
        let State::Looking(looking) = &self.state else { return };
        let to: Vec<_> =
            self.ensemble.others().filter(|sid| self.links.contains(sid) && self.is_asked(*sid)).collect();
        if !to.is_empty() {
            out.push(Effect::Notify { to, notification: looking.notification(self.round, self.votes) });
        }
    }

    /// Voters tell everybody, so that observers learn early; an observer asks voters only.
    fn is_asked(&self, sid: Sid) -> bool {
        let known = self.ensemble.members.contains_key(&sid);
        known && (self.ensemble.is_voter(self.ensemble.me) || self.ensemble.is_voter(sid))
    }

    /// May it be proposed? A voter without weight votes for others only.
    fn can_lead(&self, sid: Sid) -> bool {
        self.ensemble.is_voter(sid) && self.ensemble.members[&sid].weight > 0
    }
}

impl Looking {
    /// Who has no say proposes nobody, whatever it thinks.
    fn notification(&self, round: u64, votes: bool) -> Notification {
        let vote = if votes { self.proposal } else { NOBODY };
        Notification { vote, round, state: ServerState::Looking }
    }
}
