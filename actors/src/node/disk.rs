//! What the disk has done: answers for the role that ordered it, and what concerns the server whatever its role.

use slog::info;

use super::{Node, State};
use crate::core::mutant::{Mutant, mutated};
use crate::core::tree::Tree;
use crate::core::{leader, learner};
use crate::replica::FromNode;
use crate::snapshotter::SnapDone;
use crate::txn_log::{LogDone, LogOrder};
use crate::types::{Membership, Tenure, Zxid};

impl Node {
    pub(super) fn log_done(&mut self, done: LogDone) {
        match done {
            LogDone::Recovered(recovered) => {
                self.epochs = recovered.epochs;
                self.doubtful = recovered.doubtful && !mutated(Mutant::DoubtfulVotes);
                self.trust.recovered(recovered.diverged, self.now());
                self.install(Box::new(recovered.tree));
                self.look(recovered.history);
            }
            LogDone::Synced { tenure, zxid } => self.answer_role(
                tenure,
                Some(leader::Input::Synced { zxid }),
                Some(learner::Input::Synced { zxid }),
            ),
            LogDone::EpochsSaved { tenure, epochs } => {
                self.epochs = epochs;
                self.answer_role(
                    tenure,
                    Some(leader::Input::EpochsSaved(epochs)),
                    Some(learner::Input::EpochsSaved(epochs)),
                );
            }
            LogDone::Truncated { tenure, zxid, tree } => {
                tree.into_iter().for_each(|tree| self.install(tree));
                self.answer_role(tenure, None, Some(learner::Input::Truncated { zxid }));
            }
            LogDone::Reset { tenure, zxid } => self.log_reset(tenure, zxid),
            LogDone::Room { low } => {
                self.low = low;
                self.tell_room();
            }
            LogDone::Trusted => self.trusted(),
            LogDone::Drained => self.drained(),
        }
    }

    /// The role weighs what the disk says. One that does not serve yet is told again when it does.
    pub(super) fn tell_room(&self) {
        match &self.state {
            State::Leading { leader, .. } => leader.do_send(leader::Input::DiskLow(self.low)),
            State::Learning { learner, .. } => learner.tell(learner::Input::DiskLow(self.low)),
            _ => {}
        }
    }

    /// This server lacks nothing any more: a participant comes back as a follower.
    fn trusted(&mut self) {
        if !std::mem::replace(&mut self.doubtful, false) {
            return; // said twice: it was in step with two leaders one after the other
        }
        info!(self.log, "in step with a leader: this server has its vote again");
        if let (State::Learning { learner, .. }, Membership::Participant) = (&self.state, self.membership()) {
            learner.tell(learner::Input::Rejoin);
        }
    }

    /// A leader's snapshot has replaced the log: its tree is this server's tree from now on, whether or
    /// not the role that asked for it still lives.
    fn log_reset(&mut self, tenure: Tenure, zxid: Zxid) {
        let (owner, tree) = self.installed.take().expect("the log is reset only for an installed snapshot");
        assert_eq!(owner, tenure, "one snapshot is installed at a time");
        self.install(tree);
        self.healed(zxid);
        match &mut self.state {
            State::Draining { history } => history.reset(zxid),
            _ => self.replaced = Some((tenure, zxid)),
        }
        self.answer_role(tenure, None, Some(learner::Input::Installed { zxid: Some(zxid) }));
    }

    pub(super) fn snapshot_done(&mut self, done: SnapDone) {
        match done {
            SnapDone::Sent { to, learner, pieces } => {
                if let State::Leading { leader, .. } = &self.state {
                    leader.do_send(leader::Input::SnapshotMoves { to, tenure: learner, pieces });
                }
            }
            SnapDone::Received { tenure, pieces } => {
                self.answer_role(tenure, None, Some(learner::Input::Stored { pieces }));
            }
            SnapDone::Streamed { to, learner } => {
                if let State::Leading { leader, .. } = &self.state {
                    leader.do_send(leader::Input::SnapshotSent { to, tenure: learner });
                }
            }
            SnapDone::Installed { tenure, zxid, tree } => match tree {
                // Also for a role that is over: what is on the disk must be what is in memory.
                Some(tree) => {
                    self.installed = Some((tenure, tree));
                    self.actors.txn_log.do_send(LogOrder::Reset { tenure, zxid });
                }
                None => self.answer_role(tenure, None, Some(learner::Input::Installed { zxid: None })),
            },
            SnapDone::Drained => self.actors.txn_log.do_send(LogOrder::Drain),
        }
    }

    fn drained(&mut self) {
        let State::Draining { history } = std::mem::replace(&mut self.state, State::Recovering) else {
            unreachable!("the log is drained only between roles")
        };
        self.look(history);
    }

    /// Hands finished disk work to the role that ordered it, if it still lives.
    fn answer_role(
        &self,
        tenure: Tenure,
        to_leader: Option<leader::Input>,
        to_learner: Option<learner::Input>,
    ) {
        match &self.state {
            State::Leading { leader, tenure: own } if *own == tenure => {
                to_leader.into_iter().for_each(|input| leader.do_send(input));
            }
            State::Learning { learner, tenure: own, .. } if *own == tenure => {
                to_learner.into_iter().for_each(|input| learner.tell(input));
            }
            _ => {}
        }
    }

    fn install(&self, tree: Box<Tree>) {
        self.actors.replica.do_send(FromNode::Install(tree));
    }
}
