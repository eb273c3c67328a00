//! Rollover, the learner's side: the leader moves on to its next epoch, and so does who is in step with it.
//!
//! The same three steps as on the way in, in the same order, and each durable before it is said: the promise, then the
//! whole history with the current epoch, then UPTODATE. Clients go on being served; what they write waits at the
//! leader.

use super::Effect;
use super::common::Common;
use crate::types::{Epoch, Epochs, Packet};

#[derive(Clone, Debug, Hash)]
pub(super) struct Rollover {
    epoch: Epoch,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// The promise is being saved.
    Promising,
    /// ACKEPOCH is sent, NEWLEADER is due.
    Promised,
    /// NEWLEADER has come: the whole log must be durable.
    Logging,
    /// The current epoch is being saved.
    Saving,
    /// NEWLEADER is acknowledged, UPTODATE is due.
    Acked,
}

impl Rollover {
    /// LEADERINFO of the next epoch: promise it.
    pub(super) fn begin(
        common: &mut Common,
        epoch: Epoch,
        out: &mut Vec<Effect>,
    ) -> Result<Rollover, String> {
        let Epochs { accepted, current } = common.epochs;
        if epoch <= accepted {
            return Err(format!("LEADERINFO of epoch {epoch} in broadcast, and {accepted} is promised"));
        }
        common.save(Epochs { accepted: epoch, current }, out);
        Ok(Rollover { epoch, stage: Stage::Promising })
    }

    /// NEWLEADER: the history so far is that of the new epoch.
    pub(super) fn on_new_leader(
        &mut self,
        common: &mut Common,
        epoch: Epoch,
        out: &mut Vec<Effect>,
    ) -> Result<(), String> {
        if self.stage != Stage::Promised || epoch != self.epoch {
            return Err(format!("NEWLEADER of epoch {epoch} in broadcast, out of turn: {self:?}"));
        }
        self.stage = Stage::Logging;
        self.on_synced(common, out);
        Ok(())
    }

    /// More is durable, perhaps all.
    pub(super) fn on_synced(&mut self, common: &mut Common, out: &mut Vec<Effect>) {
        if self.stage == Stage::Logging && common.is_durable(common.history.last()) {
            self.stage = Stage::Saving;
            common.save(Epochs { accepted: self.epoch, current: self.epoch }, out);
        }
    }

    /// The epoch files hold what they were to hold.
    pub(super) fn on_epochs_saved(&mut self, common: &mut Common, out: &mut Vec<Effect>) {
        let packet = match self.stage {
            Stage::Promising => {
                self.stage = Stage::Promised;
                Packet::AckEpoch { last: common.history.last(), current: Some(common.epochs.current) }
            }
            Stage::Saving => {
                self.stage = Stage::Acked;
                Packet::Ack { zxid: self.epoch.mark() }
            }
            stage => unreachable!("nothing is being saved while {stage:?}"),
        };
        out.push(Effect::Send(packet));
    }

    /// May UPTODATE come now?
    pub(super) fn is_acked(&self) -> bool {
        self.stage == Stage::Acked
    }
}
