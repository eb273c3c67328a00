//! Peers that say anything at all. Whatever a leader, a learner or an election is told by others, it goes on, or ends
//! the stay with who said it, or its own: it never panics. (That nothing false is ever committed is another matter:
//! servers trust their ensemble, and `zab_model` shows what they make of honest ones.)

#![allow(clippy::unwrap_used)] // a test's helpers are tests

use std::sync::Arc;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use zabra_actors::core::election::{self, Election, Pauses};
use zabra_actors::core::history::History;
use zabra_actors::core::leader::{self, Leader, Timing};
use zabra_actors::core::learner::{self, Learner};
use zabra_actors::core::quorum::Ensemble;
use zabra_actors::types::{
    Entry, Epoch, EpochLength, Epochs, ForwardedBytes, Membership, Millis, Notification, Packet, Phase,
    ServerState, SessionId, Sid, Tenure, Txn, TxnBody, TxnHeader, Vote, Zxid,
};

const TIMING: Timing = Timing { tick_ms: 200, init_limit_ms: 2_000, sync_limit_ms: 1_000 };

const ME: Sid = Sid(1);

/// Steps of one run.
const STEPS: usize = 40;

fn ensemble() -> Ensemble {
    Ensemble::majority(ME, &[Sid(1), Sid(2), Sid(3)], &[Sid(4)])
}

/// Epochs that honest peers would name next, and those at the edges.
fn epoch() -> impl Strategy<Value = Epoch> {
    prop_oneof![
        8 => (0_u32..6).prop_map(Epoch),
        1 => Just(Epoch(i32::MAX as u32 - 1)),
        1 => Just(Epoch(i32::MAX as u32)),
        1 => Just(Epoch(u32::MAX)),
    ]
}

fn zxid() -> impl Strategy<Value = Zxid> {
    prop_oneof![
        8 => (0_u32..5, 0_u32..6).prop_map(|(epoch, counter)| Zxid::new(Epoch(epoch), counter)),
        1 => epoch().prop_map(|epoch| Zxid::new(epoch, u32::MAX)),
        1 => prop::sample::select(vec![i64::MAX, i64::MIN, -1, i64::MAX - 1]).prop_map(Zxid),
    ]
}

fn entry(zxid: Zxid) -> Arc<Entry> {
    let header = TxnHeader { session: SessionId(7), cxid: 1, zxid, time: 0 };
    Entry::new(Txn { header, body: TxnBody::Error(-101), digest: None })
}

fn request() -> impl Strategy<Value = ForwardedBytes> {
    let body = vec(any::<u8>(), 0..12).prop_map(Bytes::from);
    (any::<i64>(), -12_i32..110, body).prop_map(|(session, opcode, body)| ForwardedBytes {
        session: SessionId(session),
        local: false,
        cxid: 1,
        opcode,
        body,
        auth: [].into(),
    })
}

fn vote() -> impl Strategy<Value = Vote> {
    let leader = prop::option::of(prop::sample::select(vec![0_u8, 1, 2, 3, 4, 9, 255]).prop_map(Sid));
    (leader, zxid(), epoch()).prop_map(|(leader, zxid, epoch)| Vote { leader, zxid, epoch })
}

fn notification() -> impl Strategy<Value = Notification> {
    let states = [ServerState::Looking, ServerState::Following, ServerState::Leading, ServerState::Observing];
    let round = prop_oneof![5 => 0_u64..4, 1 => Just(u64::MAX)];
    (vote(), round, prop::sample::select(states.to_vec())).prop_map(|(vote, round, state)| Notification {
        vote,
        round,
        state,
    })
}

fn packet() -> impl Strategy<Value = Packet> {
    prop_oneof![
        notification().prop_map(Packet::Notification),
        epoch().prop_map(|accepted| Packet::FollowerInfo { accepted }),
        epoch().prop_map(|accepted| Packet::ObserverInfo { accepted }),
        epoch().prop_map(|epoch| Packet::LeaderInfo { epoch }),
        (zxid(), prop::option::of(epoch())).prop_map(|(last, current)| Packet::AckEpoch { last, current }),
        zxid().prop_map(|last| Packet::Diff { last }),
        zxid().prop_map(|to| Packet::Trunc { to }),
        zxid().prop_map(|zxid| Packet::Snap { zxid }),
        any::<u64>().prop_map(|bytes| Packet::SnapSize { bytes }),
        any::<u32>().prop_map(|pieces| Packet::SnapTaken { pieces }),
        vec(any::<u8>(), 0..3).prop_map(|piece| Packet::SnapChunk(piece.into())),
        epoch().prop_map(|epoch| Packet::NewLeader { epoch }),
        zxid().prop_map(|committed| Packet::UpToDate { committed }),
        zxid().prop_map(|zxid| Packet::Proposal(entry(zxid))),
        zxid().prop_map(|zxid| Packet::Ack { zxid }),
        zxid().prop_map(|zxid| Packet::Commit { zxid }),
        zxid().prop_map(|zxid| Packet::Inform(entry(zxid))),
        vec(request(), 0..3).prop_map(Packet::Request),
        (any::<u64>(), vec((any::<i64>().prop_map(SessionId), any::<i32>()), 0..3))
            .prop_map(|(number, touched)| Packet::Ping { number, touched }),
        (any::<i64>(), any::<i32>())
            .prop_map(|(session, timeout_ms)| Packet::Revalidate { session: SessionId(session), timeout_ms }),
        (any::<i64>(), prop::option::of(zxid()))
            .prop_map(|(session, valid)| Packet::Revalidated { session: SessionId(session), valid }),
        Just(Packet::Sync),
        Just(Packet::Goodbye { reason: "enough".into() }),
    ]
}

/// What happens next.
#[derive(Clone, Debug)]
enum Event {
    /// A peer says something, in a tenure of its own choice.
    Says(Sid, Tenure, Packet),
    /// What peers must say for the phases to go on, as far as they have got.
    Plausible(Sid),
    Gone(Sid),
    /// Time passes.
    Passes(Millis),
    /// What the disk and the replica were asked is done.
    Done,
}

fn event() -> impl Strategy<Value = Event> {
    let peer = || prop::sample::select(vec![Sid(2), Sid(3), Sid(4)]);
    prop_oneof![
        6 => (peer(), prop::sample::select(vec![Tenure(0), Tenure(1), Tenure(2)]), packet())
            .prop_map(|(peer, tenure, packet)| Event::Says(peer, tenure, packet)),
        6 => peer().prop_map(Event::Plausible),
        1 => peer().prop_map(Event::Gone),
        2 => (1_u64..400).prop_map(Event::Passes),
        6 => Just(Event::Done),
    ]
}

fn history(zxids: &[Zxid]) -> History {
    let mut history = History::new(Zxid::ZERO);
    for zxid in zxids {
        history.push(entry(*zxid));
    }
    history.apply_to(history.last());
    history
}

fn z(epoch: u32, counter: u32) -> Zxid {
    Zxid::new(Epoch(epoch), counter)
}

/// A leader, its disk, and what it has asked for.
struct Leading {
    core: Leader,
    now: Millis,
    todo: Vec<leader::Effect>,
    epoch: Epoch,
    snapshots: usize,
}

impl Leading {
    fn start() -> Leading {
        let start = leader::Start {
            ensemble: ensemble(),
            history: history(&[z(1, 1), z(1, 2), z(2, 1)]),
            epochs: Epochs { accepted: Epoch(2), current: Epoch(2) },
            timing: TIMING,
            linked: ensemble().others().collect(),
            epoch_length: EpochLength::MAX,
            now: 0,
        };
        let mut todo = Vec::new();
        let core = Leader::new(start, &mut todo);
        Leading { core, now: 0, todo, epoch: Epoch(3), snapshots: 0 }
    }

    fn step(&mut self, input: leader::Input) {
        self.core.step(input, &mut self.todo);
        self.core.step(leader::Input::EndOfTurn, &mut self.todo);
    }

    fn happens(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Says(from, tenure, packet) => {
                self.step(leader::Input::Packet { now, from, tenure, packet });
            }
            Event::Plausible(from) => {
                let last = self.core.history().last();
                let tenure = Tenure(1);
                for packet in [
                    Packet::FollowerInfo { accepted: Epoch(2) },
                    Packet::ObserverInfo { accepted: Epoch(2) },
                    Packet::AckEpoch { last: z(1, 2), current: Some(Epoch(1)) },
                    Packet::Ack { zxid: self.epoch.mark() },
                    Packet::Ack { zxid: last },
                    Packet::Sync,
                ] {
                    self.step(leader::Input::Packet { now, from, tenure, packet });
                }
            }
            Event::Gone(peer) => self.step(leader::Input::LinkDown { peer }),
            Event::Passes(ms) => {
                self.now += ms;
                self.step(leader::Input::Tick { now: self.now });
            }
            Event::Done => self.carry_out(),
        }
    }

    fn carry_out(&mut self) {
        for effect in std::mem::take(&mut self.todo) {
            match effect {
                leader::Effect::SaveEpochs(epochs) => {
                    self.epoch = epochs.accepted;
                    self.step(leader::Input::EpochsSaved(epochs));
                }
                leader::Effect::Append(entries) => {
                    self.step(leader::Input::Synced { zxid: entries.last().unwrap().zxid() });
                }
                leader::Effect::SendSnapshot { to, tenure, .. } => {
                    self.snapshots += 1;
                    self.step(leader::Input::SnapshotMoves { to, tenure, pieces: 1 });
                    self.step(leader::Input::SnapshotSent { to, tenure });
                }
                leader::Effect::Serve { epoch } => {
                    self.step(leader::Input::Propose(vec![entry(Zxid::new(epoch, 1))]));
                }
                leader::Effect::Revalidate { from, tenure, session, .. } => {
                    self.step(leader::Input::Revalidated { to: from, tenure, session, valid: None });
                }
                _ => {}
            }
        }
    }
}

/// A learner, its disk, and what it has asked for.
struct Learning {
    core: Learner,
    now: Millis,
    todo: Vec<learner::Effect>,
    /// How an honest leader synchronizes it (2: DIFF, 3: TRUNC, 4: SNAP), and how much of that it has said.
    script: Option<Sid>,
    said: usize,
}

impl Learning {
    fn start(membership: Membership) -> Learning {
        let start = learner::Start {
            leader: Sid(2),
            membership,
            tenure: Tenure(1),
            history: history(&[z(1, 1), z(1, 2), z(1, 3)]),
            epochs: Epochs { accepted: Epoch(1), current: Epoch(1) },
            timing: TIMING,
            resync: false,
            doubtful: false,
            linked: true,
            now: 0,
        };
        let mut todo = Vec::new();
        let core = Learner::new(start, &mut todo);
        Learning { core, now: 0, todo, script: None, said: 0 }
    }

    fn happens(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Says(_, _, packet) => self.step(learner::Input::Packet { now, packet }),
            Event::Plausible(which) => {
                let script = *self.script.get_or_insert(which);
                let packet = self.next_of(script);
                self.step(learner::Input::Packet { now, packet });
            }
            Event::Gone(_) => self.step(learner::Input::LinkDown),
            Event::Passes(ms) => {
                self.now += ms;
                self.step(learner::Input::Tick { now: self.now });
            }
            Event::Done => self.carry_out(),
        }
    }

    /// What an honest leader would say next, to one who has believed it so far.
    fn next_of(&mut self, script: Sid) -> Packet {
        let epoch = Epoch(2);
        let sync: &[Packet] = match script.0 {
            2 => &[Packet::Diff { last: z(1, 4) }, Packet::Proposal(entry(z(1, 4)))],
            3 => &[Packet::Trunc { to: z(1, 2) }],
            _ => &[
                Packet::Snap { zxid: z(1, 5) },
                Packet::SnapChunk(Bytes::from_static(b"x")),
                Packet::SnapChunk(Bytes::new()),
            ],
        };
        let last = self.core.history().last();
        let head = [&[Packet::LeaderInfo { epoch }], sync, &[Packet::NewLeader { epoch }]].concat();
        let said = self.said;
        self.said += 1;
        match said.checked_sub(head.len()) {
            None => head[said].clone(),
            Some(0) => Packet::UpToDate { committed: last },
            Some(n) if n % 2 == 1 => {
                Packet::Proposal(entry(if last.epoch() == epoch { Zxid(last.0 + 1) } else { z(2, 1) }))
            }
            Some(_) => Packet::Commit { zxid: last },
        }
    }

    fn step(&mut self, input: learner::Input) {
        self.core.step(input, &mut self.todo);
    }

    fn carry_out(&mut self) {
        for effect in std::mem::take(&mut self.todo) {
            match effect {
                learner::Effect::SaveEpochs(epochs) => self.step(learner::Input::EpochsSaved(epochs)),
                learner::Effect::Append(entries) => {
                    self.step(learner::Input::Synced { zxid: entries.last().unwrap().zxid() });
                }
                learner::Effect::Truncate { to, .. } => self.step(learner::Input::Truncated { zxid: to }),
                learner::Effect::Receive(_) => self.step(learner::Input::Stored { pieces: 1 }),
                learner::Effect::Install { zxid } => {
                    self.step(learner::Input::Installed { zxid: Some(zxid) })
                }
                learner::Effect::CollectTouched { number } => {
                    self.step(learner::Input::Touched { number, sessions: vec![] });
                }
                learner::Effect::Serve { .. } => self.step(learner::Input::Sync),
                _ => {}
            }
        }
    }
}

/// An election that is told of rounds, states and votes of all kinds.
fn elects(events: &[(Sid, Event, Notification)]) {
    let pauses = Pauses { min_ms: 200, max_ms: 3_000 };
    let mut core = Election::with_pauses(ensemble(), pauses);
    let (mut now, mut out) = (0, Vec::new());
    core.step(election::Input::Look { now, last: z(1, 3), current: Epoch(1), votes: true }, &mut out);
    for (peer, event, notification) in events {
        match event {
            Event::Says(..) | Event::Plausible(_) => {
                let (from, notification) = (*peer, *notification);
                core.step(election::Input::Notification { now, from, notification }, &mut out);
            }
            Event::Gone(peer) => {
                core.step(election::Input::LinkDown { now, peer: *peer }, &mut out);
                core.step(election::Input::LinkUp { now, peer: *peer }, &mut out);
            }
            Event::Passes(ms) => {
                now += ms;
                core.step(election::Input::Tick { now }, &mut out);
            }
            // The role that came of it, if any, is over soon.
            Event::Done => {
                let elected = |effect: &election::Effect| matches!(effect, election::Effect::Elected { .. });
                if out.iter().any(elected) {
                    let (state, epoch) = (ServerState::Following, Epoch(1));
                    core.step(election::Input::Settled { state, epoch }, &mut out);
                }
                core.step(
                    election::Input::Look { now, last: z(1, 3), current: Epoch(1), votes: true },
                    &mut out,
                );
                out.clear();
            }
        }
    }
}

proptest! {
    #[test]
    fn a_leader_bears_any_learner(events in vec(event(), STEPS)) {
        let mut leading = Leading::start();
        for event in events {
            leading.happens(event);
        }
    }

    #[test]
    fn a_learner_bears_any_leader(observer in any::<bool>(), events in vec(event(), STEPS)) {
        let membership = if observer { Membership::Observer } else { Membership::Participant };
        let mut learning = Learning::start(membership);
        for event in events {
            learning.happens(event);
        }
    }

    #[test]
    fn an_election_bears_any_vote(
        events in vec((prop::sample::select(vec![Sid(2), Sid(3), Sid(4)]), event(), notification()), STEPS)
    ) {
        elects(&events);
    }
}

/// What is plausible is so: without lies all phases are passed.
#[test]
fn the_phases_are_reached() {
    let mut leading = Leading::start();
    for _ in 0..6 {
        leading.happens(Event::Plausible(Sid(2)));
        leading.happens(Event::Done);
    }
    assert_eq!(leading.core.phase(), Phase::Broadcast);
    for which in [2, 3, 4] {
        let mut learning = Learning::start(Membership::Participant);
        for _ in 0..12 {
            learning.happens(Event::Plausible(Sid(which)));
            learning.happens(Event::Done);
        }
        assert_eq!(learning.core.phase(), Phase::Broadcast, "{which}");
        assert!(learning.core.history().last() > z(2, 1), "{which}");
    }
}
