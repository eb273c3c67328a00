//! One server: a disk that survives, a process that does not, and between them the orders that are not carried out
//! yet.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use zabra_actors::core::history::History;
use zabra_actors::core::leader::Leader;
use zabra_actors::core::learner::Learner;
use zabra_actors::types::{Entry, Epoch, Epochs, Membership, Millis, Packet, Tenure, Zxid};

pub type Entries = Vec<Arc<Entry>>;

pub fn last_of(entries: &[Arc<Entry>]) -> Zxid {
    entries.last().map_or(Zxid::ZERO, |entry| entry.zxid())
}

/// What survives a crash.
#[derive(Clone, Debug, Default, Hash)]
pub struct Disk {
    /// What is in the snapshot.
    pub snapshot: Entries,
    /// What is in the log behind it.
    pub log: Entries,
    pub epochs: Epochs,
    /// A note that the tree is wrong.
    pub diverged: bool,
    /// It was lost, and no leader has brought its server into step since.
    pub doubtful: bool,
}

impl Disk {
    pub fn last(&self) -> Zxid {
        last_of(&self.snapshot).max(last_of(&self.log))
    }

    pub fn all(&self) -> Entries {
        self.snapshot.iter().chain(&self.log).cloned().collect()
    }

    pub fn holds(&self, entry: &Arc<Entry>) -> bool {
        self.snapshot.iter().chain(&self.log).any(|it| it == entry)
    }

    pub fn holds_zxid(&self, zxid: Zxid) -> bool {
        self.snapshot.iter().chain(&self.log).any(|it| it.zxid() == zxid)
    }

    pub fn begins_with(&self, entries: &[Arc<Entry>]) -> bool {
        let mut held = self.snapshot.iter().chain(&self.log);
        entries.iter().all(|entry| held.next() == Some(entry))
    }

    /// What a process finds when it starts: all of it in the tree, the log's part in memory, too.
    pub fn recover(&self) -> (Entries, History) {
        let mut history = History::new(last_of(&self.snapshot));
        self.log.iter().for_each(|entry| history.push(entry.clone()));
        history.apply_to(self.last());
        (self.all(), history)
    }

    /// Everything up to `count` transactions goes into a snapshot.
    pub fn snapshot(&mut self, count: usize) {
        let all = self.all();
        let (snapshot, log) = all.split_at(count);
        (self.snapshot, self.log) = (snapshot.to_vec(), log.to_vec());
    }
}

/// What a disk is told.
#[derive(Clone, Debug, Hash)]
pub enum Order {
    Append(Entries),
    SaveEpochs(Epochs),
    Truncate {
        to: Zxid,
        reload: bool,
    },
    /// Keep a piece of a snapshot.
    Store(Bytes),
    /// All pieces are there: they are the tree from now on.
    Install {
        zxid: Zxid,
    },
    /// Note that the tree is wrong.
    Distrust,
    /// Note that nothing is lacking any more.
    Trust,
}

/// A snapshot on its way to a learner: the tree as it was when it was asked for.
#[derive(Clone, Debug, Hash)]
pub struct Stream {
    pub to: usize,
    pub learner: Tenure,
    pub content: Entries,
}

#[derive(Clone, Hash)]
pub enum Role {
    Looking(History),
    Leading(Box<Leader>),
    Learning { learner: Box<Learner>, leader: usize },
}

/// What a crash takes away.
#[derive(Clone, Hash)]
pub struct Process {
    pub role: Role,
    pub tenure: Tenure,
    /// What the process has been told of the epoch files.
    pub epochs: Epochs,
    /// The tree is known to differ from the leader's.
    pub diverged: bool,
    /// What was promised and acknowledged may be forgotten: until it is in step, this server is an observer.
    pub doubtful: bool,
    /// Learners that came before this server leads.
    pub early: BTreeMap<usize, (Tenure, Packet)>,
    /// What is applied, in order.
    pub tree: Entries,
    /// How much of the tree was checked while it is served; `None` while nobody is.
    pub serving: Option<usize>,
    /// The epoch that is served, as its leader.
    pub epoch: Epoch,
    /// Syncs of its clients: how much had been committed when each came.
    pub syncs: VecDeque<usize>,
    pub orders: VecDeque<Order>,
    pub streams: VecDeque<Stream>,
    /// Pieces of a leader's snapshot.
    pub receiving: Vec<u8>,
    /// The epoch that the leader of this stay has named.
    pub announced: Epoch,
    /// The epoch whose NEWLEADER is acknowledged in this stay.
    pub taken_over: Epoch,
}

#[derive(Clone, Hash)]
pub struct Server {
    pub membership: Membership,
    pub disk: Disk,
    /// The newest tenure given out; the wall clock's part, so it survives.
    pub tenure: Tenure,
    pub now: Millis,
    pub process: Option<Process>,
}

impl Server {
    /// Tenures of different servers are different: three by three.
    pub fn new(index: usize, membership: Membership) -> Server {
        Server { membership, disk: Disk::default(), tenure: Tenure(index as u64), now: 0, process: None }
    }

    pub fn owner(tenure: Tenure) -> usize {
        (tenure.0 % 3) as usize
    }

    pub fn next_tenure(&mut self) -> Tenure {
        self.tenure = Tenure(self.tenure.0 + 3);
        self.tenure
    }

    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it runs")
    }

    pub fn is_participant(&self) -> bool {
        self.membership == Membership::Participant
    }

    /// Has it a vote now?
    pub fn votes(&self) -> bool {
        self.is_participant() && self.process.as_ref().is_some_and(|process| !process.doubtful)
    }

    pub fn is_looking(&self) -> bool {
        self.process.as_ref().is_some_and(|process| matches!(process.role, Role::Looking(_)))
    }

    pub fn is_leading(&self) -> bool {
        self.process.as_ref().is_some_and(|process| matches!(process.role, Role::Leading(_)))
    }

    pub fn start(&mut self) {
        // A recovery raises the current epoch to that of the log's end: who holds a transaction of an epoch holds
        // everything its leader began with.
        self.disk.epochs.current = self.disk.epochs.current.max(self.disk.last().epoch());
        let (tree, history) = self.disk.recover();
        self.process = Some(Process {
            role: Role::Looking(history),
            tenure: self.tenure,
            epochs: self.disk.epochs,
            diverged: self.disk.diverged,
            doubtful: self.disk.doubtful,
            early: BTreeMap::new(),
            tree,
            serving: None,
            epoch: Epoch(0),
            syncs: VecDeque::new(),
            orders: VecDeque::new(),
            streams: VecDeque::new(),
            receiving: Vec::new(),
            announced: Epoch(0),
            taken_over: Epoch(0),
        });
    }
}

/// A tree in the bytes of SNAP's pieces.
pub fn encode(tree: &[Arc<Entry>]) -> Bytes {
    let mut bytes = Vec::new();
    for entry in tree {
        bytes.extend((entry.bytes.len() as u32).to_be_bytes());
        bytes.extend(&entry.bytes);
    }
    bytes.into()
}

pub fn decode(pieces: Vec<u8>) -> Entries {
    let mut bytes = Bytes::from(pieces);
    let mut tree = Vec::new();
    while bytes.has_remaining() {
        let length = bytes.get_u32() as usize;
        tree.push(Entry::decode(bytes.split_to(length)).expect("what was encoded can be decoded"));
    }
    tree
}
