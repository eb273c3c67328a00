//! What is done to the servers, and in which order: drawn from the seed.

use std::time::Duration;

use clap::ValueEnum;

use super::net;
use super::rng::Rng;
use super::servers::Servers;
use super::software::MIN_FREE;
use super::workers::Process;

/// How long an orderly stop may take.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// Kinds of faults, as the command line names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Group {
    /// kill -9
    Kill,
    /// SIGTERM, and a new start
    Restart,
    /// SIGSTOP and SIGCONT
    Pause,
    /// packets are lost between servers
    Partition,
    /// some of the packets between servers are lost
    Loss,
    /// links take little at a time, and what has to wait too long is lost
    Slow,
    /// disks that are nearly or quite full
    Disk,
    /// SIGSTOP and SIGCONT of clients
    Clients,
}

/// What can only be done in a sandbox.
pub const SANDBOXED: &[Group] = &[Group::Partition, Group::Loss, Group::Slow, Group::Disk];

/// How many packets of a hundred a lossy link loses: so few that TCP hides it; so many that it is late; so many that
/// links between servers end.
const LOSSES: &[u32] = &[5, 20, 50];

/// How many kilobits a second a slow link takes. The leader's needs about a thousand to send what clients write.
const RATES: &[u32] = &[64, 256, 1_024];

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    KillLeader,
    KillOne,
    KillMost,
    KillAll,
    RestartLeader,
    RestartOne,
    PauseLeader,
    PauseOne,
    PauseMost,
    CutOffLeader,
    CutOffOne,
    Split,
    LeaderUnheard,
    LeaderDeaf,
    Ring,
    UnplugLeader,
    UnplugOne,
    LossyLeader,
    LossyOne,
    LossyAll,
    SlowLeader,
    SlowOne,
    SlowAll,
    LowDiskOfLeader,
    FullDisk,
    FullDisks,
    PauseClients,
}

/// All faults: what they belong to, and what is announced.
pub const FAULTS: &[(Fault, Group, &str)] = &[
    (Fault::KillLeader, Group::Kill, "kill -9 of the leader"),
    (Fault::CutOffLeader, Group::Partition, "the leader is cut off from the other servers"),
    (Fault::PauseLeader, Group::Pause, "SIGSTOP of the leader"),
    (Fault::FullDisk, Group::Disk, "the disk of a server is full"),
    (Fault::LossyLeader, Group::Loss, "packets from and to the leader are lost"),
    (Fault::SlowLeader, Group::Slow, "the leader's link is slow"),
    (Fault::LeaderDeaf, Group::Partition, "the leader hears nobody"),
    (Fault::PauseClients, Group::Clients, "SIGSTOP of a process with clients"),
    (Fault::KillAll, Group::Kill, "kill -9 of all"),
    (Fault::LowDiskOfLeader, Group::Disk, "the leader's disk is nearly full"),
    (Fault::LossyAll, Group::Loss, "packets between all servers are lost"),
    (Fault::Split, Group::Partition, "the servers are split in two"),
    (Fault::RestartLeader, Group::Restart, "SIGTERM of the leader"),
    (Fault::LeaderUnheard, Group::Partition, "nobody hears the leader"),
    (Fault::KillOne, Group::Kill, "kill -9 of a server"),
    (Fault::PauseOne, Group::Pause, "SIGSTOP of a server"),
    (Fault::UnplugLeader, Group::Partition, "the leader's link is down"),
    (Fault::KillMost, Group::Kill, "kill -9 of a majority"),
    (Fault::SlowAll, Group::Slow, "the links of all are slow"),
    (Fault::Ring, Group::Partition, "each server hears its two neighbours only"),
    (Fault::FullDisks, Group::Disk, "the disks of all are full"),
    (Fault::PauseMost, Group::Pause, "SIGSTOP of a majority"),
    (Fault::RestartOne, Group::Restart, "SIGTERM of a server"),
    (Fault::CutOffOne, Group::Partition, "a server is cut off from the others"),
    (Fault::UnplugOne, Group::Partition, "a server's link is down"),
    (Fault::LossyOne, Group::Loss, "packets from and to a server are lost"),
    (Fault::SlowOne, Group::Slow, "a server's link is slow"),
];

impl Fault {
    pub fn says(self) -> &'static str {
        FAULTS.iter().find(|(fault, ..)| *fault == self).expect("all are in the table").2
    }

    /// How much longer than others it takes until it hurts: sessions end, a page that is begun gets full; queues
    /// grow, and so does the time after which TCP sends again.
    pub fn takes(self) -> Duration {
        match self {
            Fault::PauseClients | Fault::FullDisk | Fault::FullDisks => Duration::from_millis(2_500),
            Fault::LossyLeader | Fault::LossyOne | Fault::LossyAll => Duration::from_secs(1),
            Fault::SlowLeader | Fault::SlowOne | Fault::SlowAll => Duration::from_secs(1),
            _ => Duration::ZERO,
        }
    }
}

/// The order of the faults: each time round all that were asked for, the first time as in the table, so that a short
/// run has the worst of each kind; then shuffled.
pub struct Schedule {
    faults: Vec<Fault>,
    at: usize,
}

impl Schedule {
    pub fn new(groups: &[Group]) -> Schedule {
        let picked = FAULTS.iter().filter(|(_, group, _)| groups.contains(group));
        Schedule { faults: picked.map(|(fault, ..)| *fault).collect(), at: 0 }
    }

    /// The next fault. `None` if there are none at all.
    pub fn next(&mut self, rng: &mut Rng) -> Option<Fault> {
        if self.at == self.faults.len() {
            for place in (1..self.faults.len()).rev() {
                self.faults.swap(place, rng.within(0..place + 1));
            }
            self.at = 0;
        }
        self.at += 1;
        self.faults.get(self.at - 1).copied()
    }
}

/// What has to be undone.
#[derive(Default)]
pub struct Harm {
    lost: Vec<(u8, u8)>,
    lossy: Vec<(u8, u8)>,
    slow: Vec<u8>,
    unplugged: Vec<u8>,
}

impl Harm {
    /// Does it; says to whom.
    ///
    /// # Errors
    ///
    /// What could not be done.
    pub fn inflict(
        &mut self,
        fault: Fault,
        servers: &mut Servers,
        clients: &[Process],
        rng: &mut Rng,
    ) -> Result<String, String> {
        let everybody: Vec<u8> = (1..=servers.count()).collect();
        let one = *rng.pick(&everybody);
        let leader = servers.leader().unwrap_or(one);
        let participants = servers.participants();
        let most = shuffled(&participants, rng)[..participants.len() / 2 + 1].to_vec();
        let harmed = match fault {
            Fault::KillLeader
            | Fault::RestartLeader
            | Fault::PauseLeader
            | Fault::CutOffLeader
            | Fault::LeaderUnheard
            | Fault::LeaderDeaf
            | Fault::UnplugLeader
            | Fault::LossyLeader
            | Fault::SlowLeader
            | Fault::LowDiskOfLeader => vec![leader],
            Fault::KillMost | Fault::PauseMost => most,
            Fault::KillAll | Fault::FullDisks | Fault::Ring | Fault::LossyAll | Fault::SlowAll => {
                everybody.clone()
            }
            Fault::Split => shuffled(&everybody, rng)[..rng.within(1..everybody.len())].to_vec(),
            _ => vec![one],
        };
        match fault {
            Fault::KillLeader | Fault::KillOne | Fault::KillMost | Fault::KillAll => {
                harmed.iter().for_each(|sid| servers.get(*sid).kill());
            }
            Fault::RestartLeader | Fault::RestartOne => servers.get(harmed[0]).terminate(STOP_PATIENCE)?,
            Fault::PauseLeader | Fault::PauseOne | Fault::PauseMost => {
                harmed.iter().for_each(|sid| servers.get(*sid).pause());
            }
            Fault::PauseClients => {
                let process = rng.pick(clients);
                process.pause();
                return Ok(process.name.clone());
            }
            Fault::LowDiskOfLeader => servers.fill_disk(leader, MIN_FREE / 2)?,
            Fault::FullDisk | Fault::FullDisks => {
                for sid in &harmed {
                    servers.get(*sid).may_die = true;
                    servers.fill_disk(*sid, 0)?;
                }
            }
            Fault::UnplugLeader | Fault::UnplugOne => {
                net::plug(harmed[0], false)?;
                self.unplugged.clone_from(&harmed);
            }
            Fault::LossyLeader | Fault::LossyOne | Fault::LossyAll => {
                let percent = *rng.pick(LOSSES);
                self.lossy = pairs(fault, &everybody, &harmed);
                self.lossy.iter().try_for_each(|(from, to)| net::lose_some(*from, *to, percent))?;
                return Ok(format!("{}, {percent} %", list(&harmed)));
            }
            Fault::SlowLeader | Fault::SlowOne | Fault::SlowAll => {
                let kbits = *rng.pick(RATES);
                harmed.iter().try_for_each(|sid| net::slow(*sid, kbits))?;
                self.slow.clone_from(&harmed);
                return Ok(format!("{}, {kbits} kbit/s", list(&harmed)));
            }
            _ => {
                self.lost = pairs(fault, &everybody, &harmed);
                self.lost.iter().try_for_each(|(from, to)| net::lose(*from, *to))?;
            }
        }
        Ok(list(&harmed))
    }

    /// Makes all whole.
    ///
    /// # Errors
    ///
    /// What stays broken.
    pub fn heal(&mut self, servers: &mut Servers, clients: &[Process]) -> Result<(), String> {
        servers.free_disks();
        self.lost.drain(..).try_for_each(|(from, to)| net::deliver(from, to))?;
        self.lossy.drain(..).try_for_each(|(from, to)| net::lose_none(from, to))?;
        self.slow.drain(..).try_for_each(net::hasten)?;
        self.unplugged.drain(..).try_for_each(|sid| net::plug(sid, true))?;
        clients.iter().for_each(Process::resume);
        servers.heal_processes()
    }
}

fn list(sids: &[u8]) -> String {
    sids.iter().map(u8::to_string).collect::<Vec<_>>().join(", ")
}

/// From whom to whom packets are lost.
pub fn pairs(fault: Fault, everybody: &[u8], harmed: &[u8]) -> Vec<(u8, u8)> {
    let count = everybody.len() as i32;
    let is_harmed = |sid: u8| harmed.contains(&sid);
    let is_lost = |from: u8, to: u8| match fault {
        Fault::Ring => {
            let apart = (i32::from(from) - i32::from(to)).rem_euclid(count);
            apart != 1 && apart != count - 1
        }
        Fault::LeaderUnheard => is_harmed(from) && !is_harmed(to),
        Fault::LeaderDeaf => !is_harmed(from) && is_harmed(to),
        Fault::LossyAll => true,
        _ => is_harmed(from) != is_harmed(to),
    };
    let all = everybody.iter().flat_map(|from| everybody.iter().map(|to| (*from, *to)));
    all.filter(|(from, to)| from != to && is_lost(*from, *to)).collect()
}

fn shuffled(sids: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut sids = sids.to_vec();
    for place in (1..sids.len()).rev() {
        sids.swap(place, rng.within(0..place + 1));
    }
    sids
}
