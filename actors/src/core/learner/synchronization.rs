//! Synchronization: take over the leader's history.

use std::collections::VecDeque;

use super::broadcast::Broadcast;
use super::common::Common;
use super::{Effect, Input, State};
use crate::core::mutant::{Mutant, mutated};
use crate::types::{Epoch, Epochs, Millis, Packet, Phase, SNAP_WINDOW, Zxid};

/// What may wait here while the disk cuts the log or installs a snapshot, in bytes: as much as a leader
/// holds back for a learner.
pub const MAX_HELD_BYTES: usize = 64 << 20;
/// What a packet without data counts for, in bytes.
const PACKET_OVERHEAD: usize = 64;

#[derive(Clone, Hash)]
pub(super) struct Synchronization {
    pub(super) common: Common,
    stage: Stage,
    /// When the last thing happened that was not a PING.
    progress: Millis,
}

#[derive(Clone, Hash)]
enum Stage {
    /// DIFF, TRUNC or SNAP is due.
    Waiting,
    /// The leader's plan is impossible here and SNAP asked for: everything before that belongs to the old plan.
    Refusing,
    /// Pieces of the snapshot come; so many are not on the disk yet.
    Receiving { zxid: Zxid, pieces: u32 },
    /// The disk cuts the log or installs the snapshot: whatever comes waits.
    Settling(Held),
    /// Entries come, and NEWLEADER at their end.
    Taking,
    /// NEWLEADER has come: everything up to here must be durable.
    Logging { upto: Zxid },
    /// The current epoch is being saved.
    Saving,
    /// NEWLEADER is acknowledged, UPTODATE is due.
    Acked,
}

/// Packets that wait for the disk.
#[derive(Clone, Default, Hash)]
struct Held {
    packets: VecDeque<Packet>,
    bytes: usize,
}

impl Stage {
    fn name(&self) -> &'static str {
        match self {
            Stage::Waiting => "waiting for DIFF, TRUNC or SNAP",
            Stage::Refusing => "waiting for SNAP",
            Stage::Receiving { .. } => "receiving a snapshot",
            Stage::Settling(_) => "changing the log",
            Stage::Taking => "waiting for NEWLEADER",
            Stage::Logging { .. } | Stage::Saving => "taking over the history",
            Stage::Acked => "waiting for UPTODATE",
        }
    }
}

impl From<Synchronization> for State {
    fn from(phase: Synchronization) -> State {
        State::Synchronization(phase)
    }
}

impl Synchronization {
    /// The epoch is promised durably. `current` is `None` when that was so before.
    pub(super) fn begin(common: Common, current: Option<Epoch>, out: &mut Vec<Effect>) -> State {
        let (mut last, epoch) = (common.history.last(), common.epoch());
        if mutated(Mutant::VoteByTree) {
            last = common.history.applied();
        }
        out.push(Effect::Send(Packet::AckEpoch { last, current }));
        let reason = format!("the epoch is promised, and this log ends at {last}");
        out.push(Effect::Phase { phase: Phase::Synchronization, epoch, reason });
        let progress = common.now;
        Synchronization { common, stage: Stage::Waiting, progress }.into()
    }

    pub(super) fn step(mut self, input: Input, out: &mut Vec<Effect>) -> State {
        match input {
            Input::Packet { now, packet } => {
                self.common.hear(now);
                self.on_packet(packet, out)
            }
            Input::LinkUp { .. } => State::over(self.common, "the link to the leader was replaced", out),
            Input::LinkDown => {
                self.common.linked = false;
                State::over(self.common, "the link to the leader is down", out)
            }
            Input::Synced { zxid } => {
                self.common.on_synced(zxid);
                self.on_logged(out)
            }
            Input::EpochsSaved(epochs) => match self.common.on_epochs_saved(epochs) {
                true if mutated(Mutant::EpochBeforeLog) => self.on_logged(out),
                true => self.on_taken_over(out),
                false => self.into(), // another role's answer
            },
            Input::Truncated { .. } => self.on_settled(out),
            Input::Stored { pieces } => {
                self.on_stored(pieces, out);
                self.into()
            }
            Input::Installed { zxid: Some(zxid) } => {
                self.common.history.reset(zxid);
                self.common.resync = false;
                self.on_settled(out)
            }
            Input::Installed { zxid: None } => {
                State::over(self.common, "the leader's snapshot makes no sense", out)
            }
            Input::Touched { number, sessions } => {
                out.push(Effect::Send(Packet::Ping { number, touched: sessions }));
                self.into()
            }
            // Said again when this server serves.
            Input::DiskLow(_) => self.into(),
            Input::Diverged => State::diverged(self.common, out),
            Input::Rejoin => State::rejoin(self.common, out),
            Input::Tick { now } => {
                self.common.now = now;
                self.on_tick(out)
            }
            // Nobody is served yet: these are late, from an older role.
            Input::Forward(_) | Input::Sync | Input::Revalidate { .. } => self.into(),
        }
    }

    fn on_packet(mut self, packet: Packet, out: &mut Vec<Effect>) -> State {
        match packet {
            // The leader lives, and wants to know who of the clients does.
            Packet::Ping { number, .. } => {
                out.push(Effect::CollectTouched { number });
                self.into()
            }
            // The leader leads no more, or wants this learner no more.
            Packet::Goodbye { reason } => {
                State::over(self.common, format!("the leader says goodbye: {reason}"), out)
            }
            packet => {
                self.progress = self.common.now;
                match &mut self.stage {
                    // The disk is not ready for it.
                    Stage::Settling(held) => match held.push(packet) {
                        Ok(()) => self.into(),
                        Err(reason) => State::over(self.common, reason, out),
                    },
                    Stage::Refusing if !matches!(packet, Packet::Snap { .. }) => self.into(),
                    Stage::Waiting | Stage::Refusing => self.on_method(packet, out),
                    Stage::Receiving { .. } => self.on_piece(packet, out),
                    _ => self.on_history(packet, out),
                }
            }
        }
    }

    /// How the leader brings this learner into step.
    fn on_method(mut self, packet: Packet, out: &mut Vec<Effect>) -> State {
        match packet {
            // Whatever the log lacks or has: the tree must be replaced.
            Packet::Diff { .. } | Packet::Trunc { .. } if self.common.resync => self.refuse(out),
            // This log is a prefix of the leader's.
            Packet::Diff { .. } => self.stage = Stage::Taking,
            // This log has an end that the leader's has not.
            Packet::Trunc { to } => self.truncate(to, out),
            // The tree comes as a whole.
            Packet::Snap { zxid } => {
                if mutated(Mutant::SnapInMemory) {
                    self.common.history.reset(zxid);
                }
                self.stage = Stage::Receiving { zxid, pieces: 0 };
            }
            // It breaks the protocol.
            packet => return self.out_of_turn(&packet, out),
        }
        self.into()
    }

    /// Cuts the log, if that is possible: not below a snapshot that the log was replaced by, and only where
    /// both logs have been the same.
    fn truncate(&mut self, to: Zxid, out: &mut Vec<Effect>) {
        let history = &mut self.common.history;
        let held = to < history.base() || history.contains(to);
        if to < history.floor() || to > history.last() || !held {
            return self.refuse(out);
        }
        let reload = history.applied() > to;
        history.truncate(to);
        out.push(Effect::Truncate { to, reload });
        self.stage = Stage::Settling(Held::default());
    }

    /// Asks for a SNAP instead. What was promised and how long this log is, the leader knows already; the log stays
    /// until the snapshot is durable.
    fn refuse(&mut self, out: &mut Vec<Effect>) {
        out.push(Effect::Send(Packet::AckEpoch { last: Zxid::ZERO, current: None }));
        self.stage = Stage::Refusing;
    }

    /// The snapshot comes in pieces; an empty one ends it.
    fn on_piece(mut self, packet: Packet, out: &mut Vec<Effect>) -> State {
        match (packet, &mut self.stage) {
            (Packet::SnapSize { bytes }, _) => {
                out.push(Effect::Expect { bytes });
                self.into()
            }
            (Packet::SnapChunk(piece), Stage::Receiving { zxid, .. }) if piece.is_empty() => {
                out.push(Effect::Install { zxid: *zxid });
                self.stage = Stage::Settling(Held::default());
                self.into()
            }
            // More than this side has asked for would be in nobody's count.
            (Packet::SnapChunk(_), Stage::Receiving { pieces: SNAP_WINDOW, .. }) => {
                let reason =
                    format!("more than {SNAP_WINDOW} pieces of a snapshot came that are not stored yet");
                State::over(self.common, reason, out)
            }
            (Packet::SnapChunk(piece), Stage::Receiving { pieces, .. }) => {
                *pieces += 1;
                out.push(Effect::Receive(piece));
                self.into()
            }
            // It breaks the protocol.
            (packet, _) => self.out_of_turn(&packet, out),
        }
    }

    /// There is room for as many again. This server's disk is at work, whatever the leader is waiting for.
    fn on_stored(&mut self, stored: u32, out: &mut Vec<Effect>) {
        if let Stage::Receiving { pieces, .. } = &mut self.stage {
            *pieces = pieces.checked_sub(stored).expect("the disk answers only what it was asked, and once");
            self.progress = self.common.now;
            out.push(Effect::Send(Packet::SnapTaken { pieces: stored }));
        }
    }

    /// The leader's history, up to NEWLEADER and beyond it.
    fn on_history(mut self, packet: Packet, out: &mut Vec<Effect>) -> State {
        let taken = match (packet, &self.stage) {
            (Packet::Proposal(entry), Stage::Taking) if logs_late() => {
                self.common.log(entry, &mut Vec::new())
            }
            // A transaction of the leader's log, committed or not: log it.
            (Packet::Proposal(entry), _) => self.common.log(entry, out),
            // To an observer: a transaction committed since its plan was made.
            (Packet::Inform(entry), _) if self.common.is_observer() => self.common.log(entry, out),
            // Committed, or so the leader hopes: UPTODATE says it again, and for sure.
            (Packet::Commit { zxid }, _) if zxid <= self.common.history.last() => Ok(()),
            (Packet::Commit { zxid }, _) => {
                Err(format!("{zxid} is committed, but this log ends at {}", self.common.history.last()))
            }
            // That was the whole history of the epoch so far.
            (Packet::NewLeader { epoch }, Stage::Taking) if epoch == self.common.epoch() => {
                return self.take_over(out);
            }
            (Packet::NewLeader { epoch }, Stage::Taking) => {
                Err(format!("NEWLEADER of epoch {epoch}, but {} is promised", self.common.epoch()))
            }
            // A quorum has taken over the history.
            (Packet::UpToDate { committed }, Stage::Acked) => {
                if mutated(Mutant::AckBeforeLog) {
                    out.push(self.common.unlogged());
                }
                return Broadcast::begin(self.common, committed, out);
            }
            // It breaks the protocol.
            (packet, _) => return self.out_of_turn(&packet, out),
        };
        match taken {
            Ok(()) => self.into(),
            Err(reason) => State::over(self.common, reason, out),
        }
    }

    fn out_of_turn(self, packet: &Packet, out: &mut Vec<Effect>) -> State {
        let reason = format!("{} while {}", packet.name(), self.stage.name());
        State::over(self.common, reason, out)
    }

    /// The log is as the leader wants it: now what has waited.
    fn on_settled(mut self, out: &mut Vec<Effect>) -> State {
        let Stage::Settling(held) = std::mem::replace(&mut self.stage, Stage::Taking) else {
            unreachable!("the disk answers only what it was asked, and once")
        };
        self.common.on_log_settled();
        self.progress = self.common.now;
        let mut state = State::from(self);
        for packet in held.packets {
            state = match state {
                State::Synchronization(phase) => phase.on_packet(packet, out),
                over => over,
            };
        }
        state
    }

    /// NEWLEADER has come. First the history becomes durable, then the epoch that says so.
    fn take_over(mut self, out: &mut Vec<Effect>) -> State {
        let (upto, epoch) = (self.common.history.last(), self.common.epoch());
        self.stage = Stage::Logging { upto };
        if mutated(Mutant::EpochBeforeLog) && self.common.epochs.current < epoch {
            self.common.save(Epochs { accepted: epoch, current: epoch }, out);
            out.push(self.common.unlogged());
            return self.into();
        }
        if mutated(Mutant::AckBeforeLog) {
            self.stage = Stage::Logging { upto: Zxid::ZERO };
        } else if logs_late() {
            out.push(self.common.unlogged());
        }
        self.on_logged(out)
    }

    /// More is durable. If that is the whole history, the current epoch may say so.
    fn on_logged(mut self, out: &mut Vec<Effect>) -> State {
        self.progress = self.common.now;
        match self.stage {
            Stage::Logging { upto } if self.common.is_durable(upto) => {
                let epoch = self.common.epoch();
                if self.common.epochs.current == epoch {
                    return self.on_taken_over(out); // a second stay in the same epoch
                }
                self.stage = Stage::Saving;
                self.common.save(Epochs { accepted: epoch, current: epoch }, out);
            }
            // After NEWLEADER's, proposals are acknowledged as they become durable.
            Stage::Acked => self.common.acknowledge(out),
            _ if mutated(Mutant::AckBeforeNewLeader) => self.common.acknowledge(out),
            _ => {}
        }
        self.into()
    }

    /// History and epoch are durable.
    fn on_taken_over(mut self, out: &mut Vec<Effect>) -> State {
        self.stage = Stage::Acked;
        self.progress = self.common.now;
        out.push(Effect::Send(Packet::Ack { zxid: self.common.epoch().mark() }));
        self.common.acknowledge(out);
        self.into()
    }

    /// A leader at work says something within init_limit; once NEWLEADER is acknowledged, PINGs come, too.
    fn on_tick(self, out: &mut Vec<Effect>) -> State {
        let now = self.common.now;
        let (since, limit) = match self.stage {
            // The own disk is at work, not the leader.
            Stage::Settling(_) | Stage::Logging { .. } | Stage::Saving => return self.into(),
            Stage::Acked => (self.common.heard, self.common.timing.sync_limit_ms),
            _ => (self.progress, self.common.timing.init_limit_ms),
        };
        let silent = now.saturating_sub(since);
        if silent > limit {
            let reason = format!("{silent} ms of silence while {}, the limit is {limit}", self.stage.name());
            return State::over(self.common, reason, out);
        }
        self.into()
    }
}

/// What comes before NEWLEADER is logged at once, unless that is the mistake.
fn logs_late() -> bool {
    mutated(Mutant::AckBeforeLog) || mutated(Mutant::EpochBeforeLog) || mutated(Mutant::LogAtNewLeader)
}

impl Held {
    fn push(&mut self, packet: Packet) -> Result<(), String> {
        self.bytes += PACKET_OVERHEAD
            + match &packet {
                Packet::Proposal(entry) | Packet::Inform(entry) => entry.bytes.len(),
                Packet::SnapChunk(piece) => piece.len(),
                _ => 0,
            };
        if self.bytes > MAX_HELD_BYTES {
            return Err(format!(
                "more than {MAX_HELD_BYTES} bytes came while the log was changed; a faster disk or fewer \
                 writes would help"
            ));
        }
        self.packets.push_back(packet);
        Ok(())
    }
}
