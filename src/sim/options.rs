//! What a run is made of: what the caller says, and what the seed decides about the rest.
//!
//! Each seed has its own mix of everything (a "swarm"): a run in which all faults are equally likely hardly ever
//! lets one of them do its worst.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use zabra_actors::core::history::WINDOW;
use zabra_actors::core::leader::Timing;
use zabra_actors::core::mutant::Mutant;
use zabra_actors::types::EpochLength;

use super::client::SYNC_AND_READ;
use super::net::Delays;
use super::rng::Rng;

/// What to simulate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Options {
    /// Everything that is left to chance follows from it.
    pub seed: u64,
    /// Which faults there are.
    pub scenario: Scenario,
    /// Voting servers; three to seven if the seed decides.
    pub participants: Option<u8>,
    /// Servers that do not vote; none to two.
    pub observers: Option<u8>,
    /// Clients; two to seven.
    pub clients: Option<u8>,
    /// How long faults happen, in simulated seconds.
    pub seconds: u64,
    /// Of the faults only those with these numbers happen, in a run that was made smaller.
    pub only: Option<Vec<usize>>,
    /// The mistake that all servers make, to see that it is found.
    pub mutant: Option<Mutant>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            seed: 0,
            scenario: Scenario::Swarm,
            participants: None,
            observers: None,
            clients: None,
            seconds: 60,
            only: None,
            mutant: None,
        }
    }
}

/// Which faults there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// Whatever the seed decides
    #[default]
    Swarm,
    /// None
    Calm,
    /// Servers are killed, above all leaders, and come back
    Crashes,
    /// Power is cut, and what was not synced is lost or torn
    Power,
    /// Links are reset, stalled, cut one way and half-open
    Partitions,
    /// A leader is cut off from its followers, but not from its clients
    Deposed,
    /// A leader is deposed while its clients sync and read, one request behind the other
    Stale,
    /// One follower alone has what the leader proposed, and both come back with it
    Tails,
    /// Followers come back to the leader of their epoch with what it has not committed
    Returns,
    /// Disks are slow, full, broken and rotten
    Disks,
    /// Bits turn over on the disks of a minority, and its servers and others are killed
    Rot,
    /// Processes stand still, and clocks jump
    Pauses,
    /// Servers come back far behind, and are interrupted while they catch up
    Catchup,
}

/// What the seed has decided.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Voting servers.
    pub participants: u8,
    /// Servers that do not vote.
    pub observers: u8,
    /// Clients.
    pub clients: u8,
    /// Ticks and limits.
    pub timing: Timing,
    /// The network, when it is well.
    pub delays: Delays,
    /// Transactions between snapshots.
    pub snap_count: u64,
    /// Transactions of an epoch before the next one begins.
    pub epoch_length: EpochLength,
    /// Transactions in memory for learners that lag; who lags more gets a snapshot.
    pub window: usize,
    /// What clients do.
    pub habits: Habits,
}

/// What clients do, and how often: each habit of a client as likely as its weight says.
#[derive(Clone, Debug)]
pub struct Habits {
    /// The longest pause between two acts, in ms.
    pub pause_max: u64,
    /// The session time-out that they ask for, in ms.
    pub session_timeout_ms: i32,
    /// Weights, in the order of the acts.
    pub weights: Vec<u64>,
    /// How many syncs and reads follow one another.
    pub syncs: u64,
    /// Do they set their watches again after a reconnect?
    pub rewatch: bool,
}

impl Shape {
    /// What the seed decides, with so many kinds of acts.
    pub fn draw(options: &Options, acts: usize) -> Shape {
        let rng = Rng::stream(options.seed, "shape");
        let mut participants = rng.weighted(&[(1, 1), (20, 3), (2, 4), (10, 5), (1, 6), (3, 7)]);
        let mut observers = rng.weighted(&[(6, 0), (5, 1), (1, 2)]);
        let mut clients = rng.within(2..8) as u8;
        let mut tick_ms = rng.pick(&[200, 200, 500, 1000]);
        let stale = options.scenario == Scenario::Stale;
        if stale {
            // Many clients at the one that is deposed, and a tick between that and its notice.
            (participants, observers, clients, tick_ms) = (3, 0, clients + 4, 1000);
        }
        let mut habits = Habits {
            pause_max: rng.pick(&[100, 400, 1500]),
            session_timeout_ms: rng.pick(&[2, 4, 8, 20]) * tick_ms as i32,
            weights: (0..acts).map(|_| rng.pick(&[0, 1, 1, 3])).collect(),
            rewatch: rng.percent(70),
            syncs: 1,
        };
        if stale {
            // One write that is not committed holds back every sync behind it, and so does a session that expires.
            habits.weights[SYNC_AND_READ] = 40;
            habits.session_timeout_ms = 20 * tick_ms as i32;
            habits.syncs = 20;
            habits.pause_max = habits.pause_max.min(400);
        }
        // A stream of its own: seeds that are known by what they found still find it.
        let epochs = Rng::stream(options.seed, "epochs");
        let mut shape = Shape {
            participants: options.participants.unwrap_or(participants),
            observers: options.observers.unwrap_or(observers),
            clients: options.clients.unwrap_or(clients),
            timing: Timing { tick_ms, init_limit_ms: 10 * tick_ms, sync_limit_ms: 5 * tick_ms },
            delays: Delays {
                peer_max: rng.pick(&[1, 2, 5, 20, 80]),
                client_max: rng.pick(&[1, 5, 50]),
                redial_max: rng.pick(&[2, 50, 500]),
                packet: 0,
            },
            snap_count: rng.pick(&[5, 20, 100, 100_000]),
            epoch_length: epochs.weighted(&[
                (6, EpochLength::MAX),
                (2, EpochLength(100)),
                // Shorter ones can be over before a learner with slow links is in step, and it begins anew.
                (1, EpochLength(50)),
            ]),
            habits,
            window: WINDOW,
        };
        if options.scenario == Scenario::Catchup {
            shape.window = rng.pick(&[3, 20, WINDOW]);
            shape.delays.packet = rng.pick(&[0, 1, 4]);
        }
        shape
    }
}
