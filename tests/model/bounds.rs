//! The state spaces that are explored, by name. Those of CI end within a minute or so, the large ones within twenty
//! minutes, in less than 400 MB.

use zabra_actors::types::{Epoch, Zxid};

use crate::seen::What;
use crate::zab::Elections::{Any, Newest};
use crate::zab::Servers::{self, Three, Two, TwoAndObserver};
use crate::{election, zab};

/// One state space.
pub struct Space {
    pub name: &'static str,
    pub large: bool,
    pub kind: Kind,
    /// What must have happened somewhere in it.
    pub must_see: &'static [What],
}

pub enum Kind {
    Election { bounds: election::Bounds, logs: Vec<election::Logs>, running: usize },
    Zab { bounds: zab::Bounds, elections: zab::Elections, servers: Servers },
}

impl Space {
    fn must_see(self, must_see: &'static [What]) -> Space {
        Space { must_see, ..self }
    }

    fn large(self) -> Space {
        Space { large: true, ..self }
    }
}

fn end(epoch: u32, counter: u32, current: u32) -> (Zxid, Epoch, bool) {
    (Zxid::new(Epoch(epoch), counter), Epoch(current), true)
}

/// Nothing but the ids differs.
pub fn alike() -> election::Logs {
    [end(1, 1, 1), end(1, 1, 1), end(1, 1, 1)]
}

/// The log with the newest epoch is neither the longest nor that of the greatest id.
pub fn epoch_first() -> election::Logs {
    [end(1, 2, 2), end(1, 3, 1), end(1, 1, 1)]
}

/// The best log is that of a server that may lack what it has acknowledged.
pub fn best_has_no_say() -> election::Logs {
    let (zxid, current, _) = end(1, 4, 2);
    [end(1, 2, 2), end(1, 3, 2), (zxid, current, false)]
}

fn election(name: &'static str, logs: &[election::Logs], running: usize, bounds: election::Bounds) -> Space {
    let kind = Kind::Election { bounds, logs: logs.to_vec(), running };
    Space { name, large: false, kind, must_see: &[What::Elected, What::Joined, What::Settled] }
}

fn election_spaces() -> Vec<Space> {
    use election::Bounds;
    let none = Bounds::default();
    let (one, all) = ([epoch_first()], [alike(), epoch_first(), best_has_no_say()]);
    vec![
        election("election: clocks", &all, 3, Bounds { ticks: 2, ..none }),
        election("election: one comes late", &all, 2, Bounds { ends: 1, services: 1, ..none }),
        election("election: a loss", &one, 3, Bounds { losses: 1, repeats: 1, ticks: 1, ..none }),
        election("election: a break", &all, 3, Bounds { breaks: 1, ..none }),
        election("election: a crash", &one, 3, Bounds { crashes: 1, ..none }),
        election("election: a role ends", &all, 3, Bounds { ends: 1, services: 1, ..none }),
        election("election: two losses", &all, 3, Bounds { losses: 2, repeats: 1, ticks: 1, ..none }).large(),
        election("election: a crash, other logs", &all, 3, Bounds { crashes: 1, ..none }).large(),
        election("election: a crash and a tick", &one, 3, Bounds { crashes: 1, ticks: 1, ..none }).large(),
    ]
}

fn zab(name: &'static str, servers: Servers, elections: zab::Elections, bounds: zab::Bounds) -> Space {
    let must_see =
        &[What::Established, What::Committed, What::Inherited, What::Diff, What::Settled, What::Ahead];
    Space { name, large: false, kind: Kind::Zab { bounds, elections, servers }, must_see }
}

fn zab_spaces() -> Vec<Space> {
    use zab::Bounds;
    let syncs: &[What] = &[What::Established, What::Committed, What::Synced];
    let two = Bounds { leads: 2, follows: 4, proposals: 1, ..Bounds::default() };
    let rollover: &[What] = &[What::Established, What::Committed, What::RolledOver];
    let rolls = Bounds { epoch_length: Some(1), ..two };
    let most = Bounds { leads: 3, follows: 3, proposals: 2, crashes: 1, power_failures: 1, ..two };
    vec![
        zab(
            "zab: two transactions and a sync",
            Three,
            Any,
            Bounds { leads: 1, follows: 2, proposals: 2, syncs: 1, ..two },
        )
        .must_see(syncs),
        zab("zab: a break", Three, Any, Bounds { breaks: 1, ..two }),
        zab("zab: a break and a sync", Three, Any, Bounds { follows: 3, breaks: 1, syncs: 1, ..two })
            .must_see(syncs),
        zab("zab: a silence", Three, Any, Bounds { silences: 1, ..two }),
        zab("zab: a tree that differs", Three, Any, Bounds { divergences: 1, ..two }).must_see(&[What::Snap]),
        zab("zab: a crash", Three, Any, Bounds { crashes: 1, ..two }),
        zab(
            "zab: a crash, two transactions",
            Three,
            Any,
            Bounds { follows: 3, proposals: 2, crashes: 1, ..two },
        ),
        zab(
            "zab: a power failure, two transactions",
            Three,
            Any,
            Bounds { proposals: 2, power_failures: 1, ..two },
        ),
        zab("zab: two power failures", Three, Any, Bounds { leads: 3, power_failures: 2, ..two }),
        zab("zab: two servers, many faults", Two, Newest, Bounds { breaks: 1, snapshots: 1, ..most }),
        zab(
            "zab: a next epoch",
            Three,
            Any,
            Bounds { leads: 1, follows: 2, proposals: 2, syncs: 1, ..rolls },
        )
        .must_see(rollover),
        zab("zab: a next epoch and a break", Three, Any, Bounds { follows: 3, breaks: 1, ..rolls })
            .must_see(rollover),
        zab("zab: a next epoch and a crash", Three, Any, Bounds { follows: 3, crashes: 1, ..rolls })
            .must_see(rollover),
        zab(
            "zab: a next epoch and a power failure",
            Three,
            Any,
            Bounds { follows: 3, power_failures: 1, ..rolls },
        )
        .must_see(rollover),
        zab("zab: a next epoch and a silence", Three, Any, Bounds { follows: 3, silences: 1, ..rolls })
            .must_see(rollover),
        zab("zab: an observer", TwoAndObserver, Any, Bounds { breaks: 1, crashes: 1, ..two }).must_see(&[
            What::Established,
            What::Committed,
            What::Observed,
            What::Settled,
        ]),
        zab("zab: a lost disk", Three, Any, Bounds { breaks: 1, lost_disks: 1, ..two }).must_see(&[
            What::Established,
            What::Committed,
            What::Trusted,
        ]),
        zab("zab: two crashes", Three, Any, Bounds { leads: 3, crashes: 2, ..two }).large(),
        zab("zab: a crash and a break", Three, Any, Bounds { crashes: 1, breaks: 1, ..two }).large(),
        zab("zab: a break and a silence", Three, Any, Bounds { leads: 3, breaks: 1, silences: 1, ..two })
            .large(),
        zab("zab: three transactions", Three, Newest, Bounds { follows: 3, proposals: 3, crashes: 1, ..two })
            .large(),
        zab("zab: three leaders", Three, Newest, Bounds { proposals: 2, power_failures: 1, leads: 3, ..two })
            .large(),
        zab(
            "zab: a snapshot",
            Three,
            Any,
            Bounds { proposals: 2, crashes: 1, snapshots: 1, follows: 3, ..two },
        )
        .large(),
    ]
}

pub fn all() -> Vec<Space> {
    election_spaces().into_iter().chain(zab_spaces()).collect()
}
