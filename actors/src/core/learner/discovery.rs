//! Discovery: find the leader, promise its epoch.

use super::common::Common;
use super::synchronization::Synchronization;
use super::{Effect, Input, Start, State};
use crate::core::mutant::{Mutant, mutated};
use crate::types::{Epoch, Epochs, Millis, Packet, Phase};

/// How long a learner waits for a connection to its leader, in ms, unless init_limit is shorter: Apache
/// tries to connect five times, a second apart.
pub const LINK_WAIT_MS: Millis = 5_000;

#[derive(Clone, Hash)]
pub(super) struct Discovery {
    pub(super) common: Common,
    stage: Stage,
    since: Millis,
}

#[derive(Clone, Debug, Hash)]
enum Stage {
    /// There is no connection yet.
    Connecting,
    /// FOLLOWERINFO is sent, LEADERINFO is due.
    Asking,
    /// The promise is being saved.
    Promising { epoch: Epoch },
}

impl From<Discovery> for State {
    fn from(phase: Discovery) -> State {
        State::Discovery(phase)
    }
}

impl Discovery {
    pub(super) fn begin(start: Start, out: &mut Vec<Effect>) -> State {
        let common = Common::new(start);
        let reason = format!("server {} is elected", common.leader);
        out.push(Effect::Phase { phase: Phase::Discovery, epoch: common.epoch(), reason });
        let since = common.now;
        let phase = Discovery { common, stage: Stage::Connecting, since };
        if phase.common.linked { phase.ask(out) } else { phase.into() }
    }

    pub(super) fn step(mut self, input: Input, out: &mut Vec<Effect>) -> State {
        match input {
            Input::Packet { now, packet } => {
                self.common.hear(now);
                self.on_packet(packet, out)
            }
            Input::LinkUp { now } => {
                self.common.hear(now);
                match self.stage {
                    Stage::Connecting => self.ask(out),
                    _ => State::over(self.common, "the link to the leader was replaced", out),
                }
            }
            Input::LinkDown => {
                self.common.linked = false;
                match self.stage {
                    Stage::Connecting => self.into(), // it was not up
                    _ => State::over(self.common, "the link to the leader is down", out),
                }
            }
            Input::EpochsSaved(epochs) => {
                let current = Some(self.common.epochs.current);
                match self.common.on_epochs_saved(epochs) {
                    true => Synchronization::begin(self.common, current, out),
                    false => self.into(), // another role's answer
                }
            }
            // Said again when this server serves.
            Input::DiskLow(_) => self.into(),
            Input::Diverged => State::diverged(self.common, out),
            Input::Rejoin => State::rejoin(self.common, out),
            Input::Tick { now } => {
                self.common.now = now;
                self.on_tick(out)
            }
            // Nothing was logged, cut, installed or served yet: these are late, from an older role.
            Input::Synced { .. }
            | Input::Truncated { .. }
            | Input::Stored { .. }
            | Input::Installed { .. }
            | Input::Forward(_)
            | Input::Sync
            | Input::Revalidate { .. }
            | Input::Touched { .. } => self.into(),
        }
    }

    /// There is a connection: who we are, and what we have promised.
    fn ask(mut self, out: &mut Vec<Effect>) -> State {
        self.common.linked = true;
        let accepted = self.common.epochs.accepted;
        out.push(Effect::Send(match self.common.is_observer() {
            true => Packet::ObserverInfo { accepted },
            false => Packet::FollowerInfo { accepted },
        }));
        self.stage = Stage::Asking;
        self.into()
    }

    fn on_packet(mut self, packet: Packet, out: &mut Vec<Effect>) -> State {
        match (&self.stage, packet) {
            // The leader has an epoch.
            (Stage::Asking, Packet::LeaderInfo { epoch }) => {
                let Epochs { accepted, current } = self.common.epochs;
                if epoch < accepted {
                    let reason =
                        format!("the leader's epoch {epoch} is older than {accepted}, which is promised");
                    return State::over(self.common, reason, out);
                }
                if epoch == accepted {
                    // Promised before, perhaps to somebody else: that must not count a second time.
                    return Synchronization::begin(self.common, None, out);
                }
                self.common.save(Epochs { accepted: epoch, current }, out);
                if mutated(Mutant::PromiseBeforeSave) {
                    let last = self.common.history.last();
                    out.push(Effect::Send(Packet::AckEpoch { last, current: Some(current) }));
                }
                self.stage = Stage::Promising { epoch };
                self.into()
            }
            // The leader does not lead, or not any more.
            (_, Packet::Goodbye { reason }) => {
                State::over(self.common, format!("the leader says goodbye: {reason}"), out)
            }
            // It breaks the protocol.
            (stage, packet) => {
                let reason = format!("{} in {stage:?} of discovery", packet.name());
                State::over(self.common, reason, out)
            }
        }
    }

    fn on_tick(self, out: &mut Vec<Effect>) -> State {
        let init_limit = self.common.timing.init_limit_ms;
        let waited = self.common.now.saturating_sub(self.since);
        let (limit, lacking) = match self.stage {
            Stage::Connecting => (LINK_WAIT_MS.min(init_limit), "no connection to the leader".to_owned()),
            Stage::Asking => (init_limit, "the leader has no epoch yet".to_owned()),
            // The own disk is slow; the leader has a limit for that.
            Stage::Promising { epoch } => (init_limit, format!("epoch {epoch} could not be promised")),
        };
        match waited > limit {
            true => {
                State::over(self.common, format!("{lacking} after {waited} ms, the limit is {limit}"), out)
            }
            false => self.into(),
        }
    }
}
