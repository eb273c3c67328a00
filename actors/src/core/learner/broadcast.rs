//! Broadcast: log and acknowledge what is proposed, apply what is committed, forward what clients want.

use super::common::Common;
use super::rollover::Rollover;
use super::{Effect, Input, State};
use crate::types::{Epoch, Forwarded, ForwardedBytes, Packet, Phase, Zxid};

/// How much of the clients' writes goes into one REQUEST, in bytes, unless a single one is larger: small
/// enough for any frame limit, large enough to need few packets.
pub const MAX_REQUEST_BYTES: usize = 1 << 20;

#[derive(Clone, Hash)]
pub(super) struct Broadcast {
    pub(super) common: Common,
    /// Own syncs on their way to the leader and back.
    syncs: usize,
    /// Before them, one of this server's own: see [`super::Start::doubtful`].
    asks_for_trust: bool,
    /// The leader moves on to its next epoch.
    rollover: Option<Rollover>,
}

impl From<Broadcast> for State {
    fn from(phase: Broadcast) -> State {
        State::Broadcast(phase)
    }
}

impl Broadcast {
    /// A quorum has taken over the history: everything up to `committed` may be seen.
    pub(super) fn begin(mut common: Common, committed: Zxid, out: &mut Vec<Effect>) -> State {
        if let Err(reason) = common.commit(committed, out) {
            return State::over(common, reason, out);
        }
        let asks_for_trust = common.doubtful;
        let phase = Broadcast { common, syncs: 0, asks_for_trust, rollover: None };
        let reason = format!("in step with the leader, all up to {committed} is committed");
        let epoch = phase.in_step(reason, out);
        out.push(Effect::Serve { epoch, leader: phase.common.leader });
        if phase.asks_for_trust {
            out.push(Effect::Send(Packet::Sync));
        }
        phase.into()
    }

    /// UPTODATE has come, of the leader's first epoch or of the next.
    fn in_step(&self, reason: String, out: &mut Vec<Effect>) -> Epoch {
        let epoch = self.common.epoch();
        assert_eq!(self.common.epochs.current, epoch, "the current epoch is durable before its ACK");
        out.push(Effect::Phase { phase: Phase::Broadcast, epoch, reason });
        epoch
    }

    pub(super) fn step(mut self, input: Input, out: &mut Vec<Effect>) -> State {
        match input {
            Input::Packet { now, packet } => {
                self.common.hear(now);
                if let Err(reason) = self.on_packet(packet, out) {
                    return State::over(self.common, reason, out);
                }
            }
            Input::LinkUp { .. } => {
                return State::over(self.common, "the link to the leader was replaced", out);
            }
            Input::LinkDown => {
                self.common.linked = false;
                return State::over(self.common, "the link to the leader is down", out);
            }
            Input::Synced { zxid } => {
                self.common.on_synced(zxid);
                match &mut self.rollover {
                    Some(rollover) => rollover.on_synced(&mut self.common, out),
                    None => self.common.acknowledge(out),
                }
            }
            Input::EpochsSaved(epochs) => {
                if self.common.on_epochs_saved(epochs)
                    && let Some(rollover) = &mut self.rollover
                {
                    rollover.on_epochs_saved(&mut self.common, out);
                }
            }
            Input::Forward(requests) => forward(&requests, out),
            Input::Sync => {
                self.syncs += 1;
                out.push(Effect::Send(Packet::Sync));
            }
            Input::Revalidate { session, timeout_ms } => {
                out.push(Effect::Send(Packet::Revalidate { session, timeout_ms }));
            }
            Input::Touched { number, sessions } => {
                out.push(Effect::Send(Packet::Ping { number, touched: sessions }));
            }
            // Observers have no say.
            Input::DiskLow(low) if !self.common.is_observer() => {
                out.push(Effect::Send(Packet::DiskLow { low }));
            }
            Input::DiskLow(_) => {}
            Input::Diverged => return State::diverged(self.common, out),
            Input::Rejoin => return State::rejoin(self.common, out),
            Input::Tick { now } => {
                self.common.now = now;
                let (silent, limit) =
                    (now.saturating_sub(self.common.heard), self.common.timing.sync_limit_ms);
                if silent > limit {
                    let reason = format!("{silent} ms of the leader's silence, sync_limit is {limit}");
                    return State::over(self.common, reason, out);
                }
            }
            // Late, from an older role: in this phase the log is changed only by appending.
            Input::Truncated { .. } | Input::Stored { .. } | Input::Installed { .. } => {}
        }
        self.into()
    }

    fn on_packet(&mut self, packet: Packet, out: &mut Vec<Effect>) -> Result<(), String> {
        match packet {
            // A transaction: log it; it is acknowledged when it is durable.
            Packet::Proposal(entry) if !self.common.is_observer() && self.rollover.is_none() => {
                self.common.log(entry, out)
            }
            // A quorum has logged it.
            Packet::Commit { zxid } => self.common.commit(zxid, out),
            // To an observer: log and apply.
            Packet::Inform(entry) if self.common.is_observer() && self.rollover.is_none() => {
                let zxid = entry.zxid();
                self.common.log(entry, out)?;
                self.common.commit(zxid, out)
            }
            // The leader lives, and wants to know who of the clients does.
            Packet::Ping { number, .. } => {
                out.push(Effect::CollectTouched { number });
                Ok(())
            }
            // A quorum was with this leader when this server was in step with it: no promise that is forgotten here has
            // made another one.
            Packet::Sync if std::mem::take(&mut self.asks_for_trust) => {
                out.push(Effect::Trust);
                Ok(())
            }
            // Everything that was proposed before an own sync has come by this link.
            Packet::Sync => {
                self.syncs = self.syncs.checked_sub(1).ok_or("SYNC that nobody asked for")?;
                out.push(Effect::SyncDone);
                Ok(())
            }
            // May a client go on here?
            Packet::Revalidated { session, valid } => {
                out.push(Effect::Revalidated { session, valid });
                Ok(())
            }
            // Too many disks are nearly full, or there is room again.
            Packet::DiskLow { low } => {
                out.push(Effect::RefuseWrites(low));
                Ok(())
            }
            // The epoch's counters are used up: the leader goes on with its next one.
            Packet::LeaderInfo { epoch } if self.rollover.is_none() => {
                self.rollover = Some(Rollover::begin(&mut self.common, epoch, out)?);
                Ok(())
            }
            Packet::NewLeader { epoch } if let Some(rollover) = &mut self.rollover => {
                rollover.on_new_leader(&mut self.common, epoch, out)
            }
            Packet::UpToDate { committed }
                if self.rollover.take_if(|rollover| rollover.is_acked()).is_some() =>
            {
                self.common.commit(committed, out)?;
                let epoch = self.in_step("the leader goes on with its next epoch".to_owned(), out);
                out.push(Effect::GoOn { epoch });
                Ok(())
            }
            // The leader leads no more, or wants this learner no more.
            Packet::Goodbye { reason } => Err(format!("the leader says goodbye: {reason}")),
            // It breaks the protocol.
            packet => match &self.rollover {
                Some(rollover) => Err(format!("{} in the middle of {rollover:?}", packet.name())),
                None => Err(format!("{} in broadcast", packet.name())),
            },
        }
    }
}

/// Writes of the own clients, in packets of a bounded size.
fn forward(requests: &[Forwarded], out: &mut Vec<Effect>) {
    let mut packet = Vec::new();
    let mut bytes = 0;
    for request in requests.iter().map(ForwardedBytes::from) {
        if bytes + request.body.len() > MAX_REQUEST_BYTES && !packet.is_empty() {
            out.push(Effect::Send(Packet::Request(std::mem::take(&mut packet))));
            bytes = 0;
        }
        bytes += request.body.len();
        packet.push(request);
    }
    if !packet.is_empty() {
        out.push(Effect::Send(Packet::Request(packet)));
    }
}
