//! Synchronization: a quorum takes over the leader's history.

use std::collections::BTreeSet;

use super::broadcast::Broadcast;
use super::common::{Common, Heard};
use super::learners::Stage;
use super::{Effect, Input, State};
use crate::core::sync;
use crate::types::{Epochs, Packet, Phase, Sid};

#[derive(Clone, Hash)]
pub(super) struct Synchronization {
    pub(super) common: Common,
    /// Who holds the history durably with this epoch as current; the leader, too.
    acked: BTreeSet<Sid>,
}

impl From<Synchronization> for State {
    fn from(phase: Synchronization) -> State {
        State::Synchronization(phase)
    }
}

impl Synchronization {
    /// The leader's history is durable already; its own word counts when the current epoch is, too.
    pub(super) fn begin(mut common: Common, out: &mut Vec<Effect>) -> State {
        let epoch = common.epoch();
        common.since = common.now;
        let reason = "a quorum has promised the epoch".to_owned();
        out.push(Effect::Phase { phase: Phase::Synchronization, epoch, reason });
        common.save(Epochs { accepted: epoch, current: epoch }, out);
        for sid in common.learners.in_stage(|stage| matches!(stage, Stage::Promised { .. })) {
            let stage = common.learners.get(sid).expect("just listed").stage();
            let Stage::Promised { last } = stage else { unreachable!("just listed") };
            let plan = sync::plan(&common.history, last);
            common.synchronize(sid, plan.method, last, false, out);
        }
        Synchronization { common, acked: BTreeSet::new() }.into()
    }

    pub(super) fn step(mut self, input: Input, out: &mut Vec<Effect>) -> State {
        match input {
            Input::Packet { now, from, tenure, packet } => {
                match self.common.receive(now, from, tenure, packet, out) {
                    Heard::Nothing | Heard::Answer => self.into(),
                    Heard::Arrived => match self.common.announce(out) {
                        Ok(()) => self.into(),
                        Err(reason) => State::over(self.common, reason, out),
                    },
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
                if self.common.epochs.current == self.common.epoch() {
                    self.acked.insert(self.common.ensemble.me);
                }
                self.conclude(out)
            }
            Input::SnapshotMoves { to, tenure, pieces } => {
                self.common.learners.moves(self.common.now, to, tenure, pieces);
                self.into()
            }
            Input::SnapshotSent { to, tenure } => {
                self.common.learners.release(self.common.now, to, tenure, out);
                self.into()
            }
            Input::Tick { now } => match self.common.on_tick_before_broadcast(now, out) {
                Ok(()) => {
                    self.common.ping(out);
                    self.into()
                }
                Err(reason) => State::over(self.common, reason, out),
            },
            // Nothing was appended, proposed or asked for yet: these are late, from an older role.
            Input::Synced { .. }
            | Input::Propose(_)
            | Input::Sync
            | Input::Revalidated { .. }
            | Input::DiskLow(_)
            | Input::EndOfTurn => self.into(),
        }
    }

    fn on_packet(mut self, from: Sid, packet: Packet, out: &mut Vec<Effect>) -> State {
        let learner = self.common.learners.get(from).expect("its packet was just received");
        let (stage, held, votes) =
            (learner.stage(), learner.is_held(), learner.votes(from, &self.common.ensemble));
        match packet {
            // A learner that came late has promised, or asks for a snapshot.
            Packet::AckEpoch { last, current } => {
                self.common.on_late_ack_epoch(from, last, current, false, out);
                self.into()
            }
            // A learner has taken over the history.
            Packet::Ack { zxid }
                if matches!(stage, Stage::Synchronizing { .. })
                    && !held
                    && zxid == self.common.epoch().mark() =>
            {
                let now = self.common.now;
                self.common
                    .learners
                    .get_mut(from)
                    .expect("its packet was just received")
                    .enter(now, Stage::Acked);
                if votes {
                    self.acked.insert(from);
                }
                self.conclude(out)
            }
            // It breaks the protocol.
            packet => {
                let reason = format!("{} of a learner that is {}", packet.name(), stage.name());
                self.common.learners.drop(from, &reason, out);
                self.into()
            }
        }
    }

    /// With a quorum the leadership is established, and with it the whole history is committed. An ACK
    /// counts even if its sender is gone: it holds the history.
    fn conclude(self, out: &mut Vec<Effect>) -> State {
        let me = self.common.ensemble.me;
        if self.acked.contains(&me) && self.common.ensemble.contains_quorum(&self.acked) {
            return Broadcast::begin(self.common, out);
        }
        self.into()
    }
}
