//! One server of the model: a disk that survives, a process that does not, and between them the orders that
//! are not carried out yet. It does what the actors around the cores do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use zabra_actors::core::election::Election;
use zabra_actors::core::history::History;
use zabra_actors::core::leader::Leader;
use zabra_actors::core::learner::Learner;
use zabra_actors::types::{Entry, Epoch, Epochs, Packet, Sid, Tenure, Zxid};

/// What survives a crash.
#[derive(Clone, Default)]
pub struct Disk {
    /// What is in the snapshot.
    pub snapshot: Vec<Arc<Entry>>,
    /// What is in the log behind it.
    pub log: Vec<Arc<Entry>>,
    pub epochs: Epochs,
    /// A note: the tree is wrong.
    pub diverged: bool,
}

fn last_of(entries: &[Arc<Entry>]) -> Zxid {
    entries.last().map_or(Zxid::ZERO, |entry| entry.zxid())
}

impl Disk {
    pub fn last(&self) -> Zxid {
        if self.log.is_empty() { last_of(&self.snapshot) } else { last_of(&self.log) }
    }

    pub fn all(&self) -> Vec<Arc<Entry>> {
        self.snapshot.iter().chain(&self.log).cloned().collect()
    }

    pub fn holds(&self, zxid: Zxid) -> bool {
        [&self.log, &self.snapshot]
            .into_iter()
            .any(|part| part.binary_search_by_key(&zxid, |entry| entry.zxid()).is_ok())
    }

    pub fn append(&mut self, entry: Arc<Entry>) {
        assert!(entry.zxid() > self.last(), "the log goes back from {} to {}", self.last(), entry.zxid());
        self.log.push(entry);
    }

    pub fn truncate(&mut self, to: Zxid) {
        assert!(to >= last_of(&self.snapshot), "fault: {to} is below the only snapshot");
        self.log.retain(|entry| entry.zxid() <= to);
        assert_eq!(self.last(), to, "fault: the log cannot end at {to}");
    }

    /// Takes a snapshot of the first `count` transactions.
    pub fn snapshot(&mut self, count: usize) {
        let all = self.all();
        let (snapshot, log) = all.split_at(count);
        (self.snapshot, self.log) = (snapshot.to_vec(), log.to_vec());
    }

    /// What a process finds when it starts: everything is in the tree, the log's part in memory, too.
    pub fn recover(&self) -> (Vec<Arc<Entry>>, History) {
        let mut history = History::new(last_of(&self.snapshot));
        self.log.iter().for_each(|entry| history.push(entry.clone()));
        history.apply_to(self.last());
        (self.all(), history)
    }
}

/// What a disk is told.
pub enum Order {
    Append(Tenure, Vec<Arc<Entry>>),
    SaveEpochs(Tenure, Epochs),
    Truncate { tenure: Tenure, to: Zxid, reload: bool },
    Install { tenure: Tenure, zxid: Zxid, content: Vec<Arc<Entry>> },
    Distrust,
    Drain,
}

/// A snapshot on its way to a learner.
pub struct Stream {
    pub to: Sid,
    pub learner: Tenure,
    pub tenure: Tenure,
    pub content: usize,
}

pub enum State {
    Looking(History),
    Leading { leader: Box<Leader>, tenure: Tenure },
    Learning { learner: Box<Learner>, leader: Sid, tenure: Tenure },
    Draining(History),
}

/// What a crash takes away.
pub struct Process {
    pub election: Election,
    pub state: State,
    pub epochs: Epochs,
    /// The tree is wrong: only a SNAP will do.
    pub diverged: bool,
    pub linked: BTreeSet<Sid>,
    pub early: BTreeMap<Sid, (Tenure, Packet)>,
    /// What is applied, in order.
    pub tree: Vec<Arc<Entry>>,
    /// How much of it was checked while serving; `None` while nobody is served.
    pub serving: Option<usize>,
    /// The epoch that is served, as its leader.
    pub epoch: Epoch,
    /// Syncs of its clients: how much was committed when each came.
    pub syncs: VecDeque<usize>,
    pub orders: VecDeque<Order>,
    pub streams: VecDeque<Stream>,
    /// The number of the snapshot being received.
    pub receiving: Option<usize>,
}

pub struct Server {
    pub disk: Disk,
    /// The newest tenure number given out; the wall clock's part.
    pub tenure: Tenure,
    pub process: Option<Process>,
}

impl Server {
    pub fn next_tenure(&mut self) -> Tenure {
        self.tenure = Tenure(self.tenure.0 + 1);
        self.tenure
    }
}
