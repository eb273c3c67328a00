//! Discovery: a quorum is there, and promises the new epoch.

use std::collections::BTreeSet;

use super::common::{Common, Heard};
use super::learners::Stage;
use super::synchronization::Synchronization;
use super::{Effect, Input, State};
use crate::types::{Epoch, Packet, Phase, Sid, Zxid};

#[derive(Clone, Hash)]
pub(super) struct Discovery {
    pub(super) common: Common,
    /// Who has promised the epoch and said how long its history is; the leader, too.
    promised: BTreeSet<Sid>,
    /// Who had promised it to somebody before, and does not count.
    declined: BTreeSet<Sid>,
}

impl From<Discovery> for State {
    fn from(phase: Discovery) -> State {
        State::Discovery(phase)
    }
}

impl Discovery {
    pub(super) fn begin(common: Common, out: &mut Vec<Effect>) -> State {
        let epoch = common.epoch();
        out.push(Effect::Phase { phase: Phase::Discovery, epoch, reason: "elected".to_owned() });
        Discovery { common, promised: BTreeSet::new(), declined: BTreeSet::new() }.choose_epoch(out)
    }

    pub(super) fn step(mut self, input: Input, out: &mut Vec<Effect>) -> State {
        match input {
            Input::Packet { now, from, tenure, packet } => {
                match self.common.receive(now, from, tenure, packet, out) {
                    Heard::Nothing | Heard::Answer => self.into(),
                    Heard::Arrived => self.on_arrived(from, out),
                    Heard::Packet(packet) => self.on_packet(from, packet, out),
                }
            }
            Input::LinkUp { peer } => {
                self.common.on_link_up(peer);
                self.into()
            }
            Input::LinkDown { peer } => {
                self.common.on_link_down(peer, out);
                self.into()
            }
            Input::EpochsSaved(epochs) => {
                self.common.on_epochs_saved(epochs);
                self.on_promise_saved(out)
            }
            Input::Tick { now } => match self.common.on_tick_before_broadcast(now, out) {
                Ok(()) => self.into(),
                Err(reason) => State::over(self.common, reason, out),
            },
            // Nothing was appended, proposed or asked for yet: these are late, from an older role.
            Input::Synced { .. }
            | Input::Propose(_)
            | Input::Sync
            | Input::SnapshotMoves { .. }
            | Input::SnapshotSent { .. }
            | Input::Revalidated { .. }
            | Input::DiskLow(_)
            | Input::EndOfTurn => self.into(),
        }
    }

    /// One more is there: perhaps a quorum now. If the epoch is fixed already, it is told at once.
    fn on_arrived(mut self, from: Sid, out: &mut Vec<Effect>) -> State {
        // A new stay of the same server begins without the promise of the last one.
        self.promised.remove(&from);
        self.declined.remove(&from);
        if !self.common.is_chosen() {
            return self.choose_epoch(out);
        }
        if !self.common.is_announced() {
            return self.into();
        }
        match self.common.announce(out) {
            Ok(()) => self.into(),
            Err(reason) => State::over(self.common, reason, out),
        }
    }

    /// With a quorum the epoch is one more than the newest that any of those here has promised.
    fn choose_epoch(mut self, out: &mut Vec<Effect>) -> State {
        if !self.common.ensemble.contains_quorum(&self.common.learners.connected(&self.common.ensemble)) {
            return self.into();
        }
        let promised = self.common.learners.iter().map(|(_, learner)| learner.accepted);
        let newest = promised.max().unwrap_or_default().max(self.common.epochs.accepted);
        self.common.choose(newest.next(), out);
        self.into()
    }

    /// The leader's own promise is durable: now the others may hear of the epoch.
    fn on_promise_saved(mut self, out: &mut Vec<Effect>) -> State {
        if !self.common.is_announced() {
            return self.into(); // another role's answer
        }
        self.promised.insert(self.common.ensemble.me);
        match self.common.announce(out) {
            Ok(()) => self.conclude(out),
            Err(reason) => State::over(self.common, reason, out),
        }
    }

    fn on_packet(mut self, from: Sid, packet: Packet, out: &mut Vec<Effect>) -> State {
        let stage = self.common.learners.get(from).expect("its packet was just received").stage();
        match packet {
            // A learner has promised.
            Packet::AckEpoch { last, current } if stage == Stage::Promising => {
                self.on_ack_epoch(from, last, current, out)
            }
            // It breaks the protocol.
            packet => {
                let reason = format!("{} of a learner that is {}", packet.name(), stage.name());
                self.common.learners.drop(from, &reason, out);
                self.into()
            }
        }
    }

    /// A promise, and how long that learner's history is: nobody in the quorum may be ahead of the leader.
    fn on_ack_epoch(mut self, from: Sid, last: Zxid, current: Option<Epoch>, out: &mut Vec<Effect>) -> State {
        let ahead = self.common.is_ahead(last, current);
        let now = self.common.now;
        let learner = self.common.learners.get_mut(from).expect("its packet was just received");
        let votes = learner.votes(from, &self.common.ensemble);
        learner.enter(now, Stage::Promised { last });
        match current {
            // The election has missed its history; the next one will not.
            Some(current) if ahead && votes => {
                let reason = format!("follower {from} has a longer history: epoch {current}, last {last}");
                return State::over(self.common, reason, out);
            }
            Some(_) if ahead => self.common.learners.drop(from, "its history is ahead of the leader's", out),
            Some(_) if votes => {
                self.promised.insert(from);
            }
            None if votes => {
                self.declined.insert(from);
            }
            _ => {}
        }
        self.conclude(out)
    }

    /// A quorum has promised: nobody can follow an older leader now. Or it cannot be had any more.
    fn conclude(self, out: &mut Vec<Effect>) -> State {
        let ensemble = &self.common.ensemble;
        if ensemble.contains_quorum(&self.promised) {
            return Synchronization::begin(self.common, out);
        }
        let connected = self.common.learners.connected(ensemble);
        if !self.declined.is_empty()
            && ensemble.contains_quorum(&connected)
            && !ensemble.contains_quorum(&connected.difference(&self.declined).copied().collect())
        {
            // Only another epoch can be promised by these.
            let reason = format!("epoch {} was promised before by {:?}", self.common.epoch(), self.declined);
            return State::over(self.common, reason, out);
        }
        self.into()
    }
}
