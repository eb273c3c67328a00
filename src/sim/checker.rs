//! The ghost that sees everything: each log, each acknowledgement, each delivery of every server, and says
//! at once when an invariant of ZAB breaks.
//!
//! Every transaction that anybody ever logged is a vertex with one parent, the transaction before it in
//! that log. The vertices form a tree; what is committed is one path from its root, and a server's log is
//! described by its tip alone.
//!
//! | invariant | checked when |
//! |---|---|
//! | I1 one established leader an epoch | a leadership is established |
//! | I2 delivered sequences are prefixes of one another | a server shows a tree to clients |
//! | I3, I4 one transaction a zxid, one predecessor; epochs never go back in a log | something is logged |
//! | I5 a leader has everything delivered of earlier epochs before it leads | a leadership is established |
//! | I6 current epoch <= accepted epoch, neither goes down | epochs are saved or loaded |
//! | I7 no transaction of an epoch above the current one is acknowledged | an ACK is sent |
//! | I8 what was acknowledged is durable | an ACK is sent; a server restarts |
//! | I9 ACK of NEWLEADER only with the epoch on disk | such an ACK is sent |
//! | I10 what is delivered is durable on a quorum | something is delivered for the first time |
//! | I11 equal trees at equal zxids, as the transaction foretold | a server shows a tree to clients |
//! | I13 no ACK before that of NEWLEADER | an ACK is sent |

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard};

use zabra_actors::core::quorum::Ensemble;
use zabra_actors::types::{Entry, Epoch, Epochs, Packet, Sid, Tenure, Zxid};

/// The last lines of a run's story that are kept for a failure.
const STORY: usize = 4000;

/// See the module's story.
pub struct Checker {
    ghost: Mutex<Ghost>,
    ensemble: Ensemble,
}

#[derive(Default)]
struct Ghost {
    vertices: BTreeMap<Zxid, Vertex>,
    /// The path that somebody has delivered, and its end.
    committed: BTreeSet<Zxid>,
    tip: Zxid,
    digests: BTreeMap<Zxid, i64>,
    leaders: BTreeMap<Epoch, Sid>,
    servers: BTreeMap<Sid, Server>,
    failure: Option<String>,
    story: VecDeque<String>,
}

struct Vertex {
    parent: Zxid,
    bytes: bytes::Bytes,
}

/// A server's disk, as far as ZAB cares.
#[derive(Default)]
struct Server {
    /// The last transaction handed to the disk.
    logged: Zxid,
    /// The last one that a crash cannot take.
    durable: Zxid,
    epochs: Epochs,
    /// The last stay whose NEWLEADER was acknowledged.
    acknowledged: Option<Tenure>,
    /// A disk error, or a crash in the middle of an installation: the old or the new state may be found.
    unsettled: bool,
}

impl Checker {
    /// A checker of an ensemble (whose own sid does not matter).
    pub fn new(ensemble: Ensemble) -> Checker {
        let servers = ensemble.members.keys().map(|sid| (*sid, Server::default())).collect();
        Checker { ghost: Mutex::new(Ghost { servers, ..Ghost::default() }), ensemble }
    }

    fn lock(&self) -> MutexGuard<'_, Ghost> {
        self.ghost.lock().expect("nobody panics with this lock")
    }

    /// The first invariant that broke, and the story up to there.
    pub fn failure(&self) -> Option<(String, Vec<String>)> {
        let ghost = self.lock();
        ghost.failure.clone().map(|failure| (failure, ghost.story.iter().cloned().collect()))
    }

    /// A line of the story.
    pub fn tell(&self, line: String) {
        self.lock().tell(line);
    }

    /// Something other than an invariant of ZAB broke (a client's promise, progress).
    pub fn fail(&self, failure: String) {
        self.lock().fail(failure);
    }

    /// The committed path's end.
    pub fn committed(&self) -> Zxid {
        self.lock().tip
    }

    /// A server appends to its log, not yet durably.
    pub fn logged(&self, sid: Sid, entries: &[std::sync::Arc<Entry>]) {
        let mut ghost = self.lock();
        for entry in entries {
            ghost.log_one(sid, entry);
        }
    }

    /// All that a server has logged is durable.
    pub fn synced(&self, sid: Sid) {
        let mut ghost = self.lock();
        let server = ghost.server(sid);
        server.durable = server.logged;
    }

    /// A server's log was cut (TRUNC).
    pub fn truncated(&self, sid: Sid, to: Zxid) {
        let mut ghost = self.lock();
        let logged = ghost.server(sid).logged;
        if !ghost.is_on_path(to, logged) {
            ghost.fail(format!(
                "I12: server {sid} cuts its log to {to}, which is not on its path to {logged}"
            ));
        }
        let server = ghost.server(sid);
        (server.logged, server.durable) = (to, to);
    }

    /// A snapshot has become a server's own; until the log is reset the old state may be found as well.
    pub fn installing(&self, sid: Sid) {
        self.lock().server(sid).unsettled = true;
    }

    /// A snapshot has replaced a server's log (SNAP).
    pub fn installed(&self, sid: Sid, zxid: Zxid) {
        let mut ghost = self.lock();
        if zxid != Zxid::ZERO && !ghost.vertices.contains_key(&zxid) {
            ghost.fail(format!("I12: server {sid} installs a snapshot at {zxid}, which nobody logged"));
        }
        let server = ghost.server(sid);
        (server.logged, server.durable, server.unsettled) = (zxid, zxid, false);
    }

    /// A disk operation failed half-way.
    pub fn disk_failed(&self, sid: Sid) {
        self.lock().server(sid).unsettled = true;
    }

    /// A server has written its epoch files.
    pub fn epochs_saved(&self, sid: Sid, epochs: Epochs) {
        let mut ghost = self.lock();
        let old = ghost.server(sid).epochs;
        if epochs.current > epochs.accepted {
            ghost.fail(format!("I6: server {sid} saves {epochs:?}: current above accepted"));
        }
        if epochs.current < old.current || epochs.accepted < old.accepted {
            ghost.fail(format!("I6: server {sid} lowers its epochs from {old:?} to {epochs:?}"));
        }
        ghost.server(sid).epochs = epochs;
    }

    /// A server has loaded its disk after a start.
    pub fn recovered(&self, sid: Sid, last: Zxid, epochs: Epochs) {
        let mut ghost = self.lock();
        ghost.tell(format!("server {sid} recovers: last {last}, {epochs:?}"));
        let Server { logged, durable, epochs: saved, unsettled, .. } = *ghost.server(sid);
        let kept = ghost.is_on_path(durable, last) && ghost.is_on_path(last, logged);
        if !unsettled && !kept {
            ghost.fail(format!("I8: server {sid} had {durable} durable of {logged} and recovers {last}"));
        }
        if epochs.accepted < saved.accepted || epochs.current < saved.current {
            ghost.fail(format!("I6: server {sid} saved {saved:?} and recovers {epochs:?}"));
        }
        let server = ghost.server(sid);
        (server.logged, server.durable) = (last, last);
        (server.epochs, server.unsettled, server.acknowledged) = (epochs, false, None);
    }

    /// A server sends a packet.
    pub fn sent(&self, sid: Sid, tenure: Tenure, packet: &Packet) {
        let Packet::Ack { zxid } = packet else { return };
        let mut ghost = self.lock();
        let server = ghost.server(sid);
        if zxid.counter() == 0 {
            if server.epochs.current != zxid.epoch() {
                let epochs = server.epochs;
                ghost.fail(format!("I9: server {sid} acknowledges NEWLEADER {zxid} with {epochs:?} on disk"));
            }
            ghost.server(sid).acknowledged = Some(tenure);
        } else {
            if server.acknowledged != Some(tenure) {
                ghost.fail(format!("I13: server {sid} acknowledges {zxid} before NEWLEADER"));
            }
            let Server { durable, epochs, .. } = *ghost.server(sid);
            if zxid.epoch() > epochs.current {
                ghost.fail(format!("I7: server {sid} acknowledges {zxid} with {epochs:?}"));
            }
            if !ghost.is_on_path(*zxid, durable) {
                ghost.fail(format!("I8: server {sid} acknowledges {zxid} and has {durable} durable"));
            }
        }
    }

    /// A leadership is established.
    pub fn leads(&self, sid: Sid, epoch: Epoch) {
        let mut ghost = self.lock();
        ghost.tell(format!("server {sid} LEADS epoch {epoch}"));
        if let Some(other) = ghost.leaders.insert(epoch, sid) {
            ghost.fail(format!("I1: epoch {epoch} is led by {other} and by {sid}"));
        }
        // A later epoch may have delivered more already: this one has just not noticed that it is over.
        let earlier = ghost.committed.range(..epoch.mark()).next_back().copied().unwrap_or(Zxid::ZERO);
        let logged = ghost.server(sid).logged;
        if !ghost.is_on_path(earlier, logged) {
            ghost.fail(format!("I5: server {sid} leads with {logged}, but {earlier} has been delivered"));
        }
    }

    /// A server shows its clients a tree.
    pub fn delivered(&self, sid: Sid, zxid: Zxid, digest: i64) {
        let mut ghost = self.lock();
        if zxid > ghost.tip {
            ghost.commit(sid, zxid, &self.ensemble);
        } else if zxid != Zxid::ZERO && !ghost.committed.contains(&zxid) {
            let tip = ghost.tip;
            ghost.fail(format!("I2: server {sid} delivers {zxid}, which is not on the path to {tip}"));
        }
        let known = *ghost.digests.entry(zxid).or_insert(digest);
        if known != digest {
            ghost.fail(format!("I11: server {sid} has tree digest {digest} at {zxid}, another had {known}"));
        }
        if let Some(foretold) = ghost.foretold(zxid).filter(|foretold| *foretold != digest) {
            ghost.fail(format!(
                "I11: server {sid} has tree digest {digest} at {zxid}, its leader foretold {foretold}"
            ));
        }
    }
}

impl Ghost {
    fn tell(&mut self, line: String) {
        if self.story.len() == STORY {
            self.story.pop_front();
        }
        self.story.push_back(line);
    }

    /// The digest that a transaction says the tree has after it.
    fn foretold(&self, zxid: Zxid) -> Option<i64> {
        let entry = Entry::decode(self.vertices.get(&zxid)?.bytes.clone()).expect("it was logged");
        entry.txn.digest.map(|digest| digest.tree)
    }

    fn fail(&mut self, failure: String) {
        self.tell(format!("FAILURE {failure}"));
        self.failure.get_or_insert(failure);
    }

    fn server(&mut self, sid: Sid) -> &mut Server {
        self.servers.get_mut(&sid).expect("every server is known")
    }

    fn log_one(&mut self, sid: Sid, entry: &Entry) {
        let (zxid, parent) = (entry.zxid(), self.server(sid).logged);
        if zxid <= parent {
            self.fail(format!("I4: server {sid} logs {zxid} behind {parent}"));
        }
        match self.vertices.get(&zxid) {
            None => {
                let bytes = entry.bytes.clone();
                self.vertices.insert(zxid, Vertex { parent, bytes });
            }
            Some(known) if known.parent != parent => {
                let other = known.parent;
                self.fail(format!("I4: server {sid} logs {zxid} behind {parent}, another behind {other}"));
            }
            Some(known) if known.bytes != entry.bytes => {
                self.fail(format!("I3: server {sid} logs {zxid} with other bytes than another"));
            }
            Some(_) => {}
        }
        self.server(sid).logged = zxid;
    }

    /// Is `zxid` on the path that ends at `end`?
    fn is_on_path(&self, zxid: Zxid, end: Zxid) -> bool {
        let mut at = end;
        loop {
            if at == zxid {
                return true;
            }
            if at < zxid || at == Zxid::ZERO {
                return false;
            }
            if self.committed.contains(&at) {
                return zxid == Zxid::ZERO || self.committed.contains(&zxid);
            }
            let Some(vertex) = self.vertices.get(&at) else { return false };
            at = vertex.parent;
        }
    }

    /// Somebody delivers beyond everything delivered so far.
    fn commit(&mut self, sid: Sid, zxid: Zxid, ensemble: &Ensemble) {
        if !self.is_on_path(self.tip, zxid) {
            let tip = self.tip;
            self.fail(format!("I2: server {sid} delivers {zxid}, whose path does not pass {tip}"));
        }
        let holders: BTreeSet<Sid> = self
            .servers
            .iter()
            .filter(|(_, server)| self.is_on_path(zxid, server.durable))
            .map(|(sid, _)| *sid)
            .collect();
        if !ensemble.contains_quorum(&holders) {
            self.fail(format!("I10: server {sid} delivers {zxid}, durable only on {holders:?}"));
        }
        let mut at = zxid;
        while at != Zxid::ZERO && !self.committed.contains(&at) {
            self.committed.insert(at);
            match self.vertices.get(&at) {
                Some(vertex) => at = vertex.parent,
                None => return self.fail(format!("I3: {at} was delivered and never logged")),
            }
        }
        self.tip = zxid;
    }
}
