//! The ghost that sees everything: each log, each packet, each delivery of every server and each answer to every
//! client, and says at once when an invariant of ZAB breaks.
//!
//! | invariant | checked when | where |
//! |---|---|---|
//! | I1 one established leader an epoch | a leadership is established | `sessions` |
//! | I2 delivered sequences are prefixes of one another | a server shows a tree to clients | `order` |
//! | I3 what is delivered was broadcast, bytes equal | something is logged, or delivered | `order` |
//! | I4 one predecessor for each; epochs never go back in a log | something is logged | `order` |
//! | I5 a leader has everything delivered of earlier epochs, now and later | a leadership is established; something is committed | here |
//! | I6 current epoch <= accepted epoch, neither goes down | epochs are saved or loaded | `servers` |
//! | I7 no transaction above the accepted epoch is found, none above the current one acknowledged | a start; an ACK | `servers`, `streams` |
//! | I8 what was acknowledged is durable, and never cut once it is committed; a log ends where its server says | an ACK; ACKEPOCH; a start; TRUNC and SNAP | `servers`, `streams` |
//! | I9 ACK of NEWLEADER only with the leader's whole history and its epoch on disk, in this order | such an ACK; epochs are saved | `streams` |
//! | I10 what is committed is durable on a quorum | a leader says so; something is delivered | `servers` |
//! | I11 trees are what their transactions foretold, also after a restart and at equal zxids | a delivery; a start | here |
//! | I12 a snapshot holds what is committed and durable in the log, and nothing else; TRUNC and SNAP leave nothing else | a snapshot is saved; TRUNC, SNAP | here |
//! | I13 no ACK before that of NEWLEADER | an ACK | `streams` |
//! | I14 what a learner is sent is an interval of the order | a packet is sent | `streams` |
//! | I16 no early expiry; ephemerals go with their session | a session ends | `sessions`, `reference` |
//! | I17 what clients see | an answer or an event comes | `histories`, `reference` |
//! | I18 progress once the faults stop | the end of the run | the run itself |
//! | vote: all that have a leader name it alike | a notification is sent | `votes` |
//!
//! I15 is about reconfiguration, which is not there.

mod histories;
mod order;
mod reference;
mod servers;
mod sessions;
mod streams;
mod votes;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use zabra_actors::core::quorum::Ensemble;
use zabra_actors::core::tree::Tree;
use zabra_actors::types::{
    Entry, Epoch, Epochs, Packet, Reply, SessionId, Sid, Tenure, TxnBody, WallMillis, WatchEvent, Zxid,
};

use self::histories::Histories;
pub use self::histories::{Asked, View};
use self::order::Order;
use self::reference::Reference;
use self::servers::{Change, Server, Servers};
use self::sessions::Sessions;
use self::streams::Streams;
use self::votes::Votes;
use super::story::Story;

/// See the module's story.
pub struct Checker {
    ghost: Mutex<Ghost>,
    story: Story,
}

struct Ghost {
    order: Order,
    servers: Servers,
    streams: Streams,
    votes: Votes,
    sessions: Sessions,
    reference: Reference,
    histories: Histories,
    digests: BTreeMap<Zxid, i64>,
    /// The history that each established leader began with.
    beginnings: BTreeMap<Epoch, Zxid>,
    failure: Option<String>,
}

impl Checker {
    /// A checker of an ensemble (whose own sid does not matter).
    pub fn new(ensemble: Ensemble, story: Story) -> Checker {
        let ghost = Ghost {
            order: Order::default(),
            servers: Servers::new(ensemble),
            streams: Streams::default(),
            votes: Votes::default(),
            sessions: Sessions::default(),
            reference: Reference::new(),
            histories: Histories::default(),
            digests: BTreeMap::new(),
            beginnings: BTreeMap::new(),
            failure: None,
        };
        Checker { ghost: Mutex::new(ghost), story }
    }

    fn lock(&self) -> MutexGuard<'_, Ghost> {
        self.ghost.lock().expect("nobody panics with this lock")
    }

    /// The first invariant that broke.
    pub fn failure(&self) -> Option<String> {
        self.lock().failure.clone()
    }

    /// Something broke that is no server's (a client's promise, progress).
    pub fn fail(&self, failure: String) {
        self.story.tell(|| format!("FAILURE {failure}"));
        self.lock().failure.get_or_insert(failure);
    }

    /// Something broke at a server, unless all is well.
    fn judge(&self, sid: Sid, verdict: Result<(), String>) {
        if let Err(what) = verdict {
            self.fail_at(sid, &what);
        }
    }

    /// Something broke at a server.
    pub fn fail_at(&self, sid: Sid, what: &str) {
        self.story.tell_of(sid, || format!("FAILURE {what}"));
        self.lock().failure.get_or_insert(format!("server {sid}: {what}"));
    }

    /// The committed path's end: what anybody has been shown.
    pub fn committed(&self) -> Zxid {
        self.lock().order.tip()
    }

    /// Epochs led, and writes answered, so far.
    pub fn achieved(&self) -> (u64, u64) {
        let ghost = self.lock();
        (ghost.sessions.epochs() as u64, ghost.histories.claimed())
    }

    /// May a server lose its disk without harm?
    pub fn can_spare(&self, sid: Sid) -> bool {
        let ghost = self.lock();
        ghost.servers.can_spare(&ghost.order, sid)
    }

    /// A server has lost its disk, and has an empty one.
    pub fn wiped(&self, sid: Sid) {
        let mut ghost = self.lock();
        *ghost.servers.get_mut(sid) = Server::default();
        ghost.servers.damaged.remove(&sid);
    }

    /// A server's disk is damaged.
    pub fn damaged(&self, sid: Sid) {
        self.lock().servers.damaged.insert(sid);
    }

    /// A server's disk has little room.
    pub fn fills(&self) {
        self.lock().histories.may_lack_room = true;
    }

    /// Does a server know that it may lack what it has acknowledged?
    pub fn is_doubtful(&self, sid: Sid) -> bool {
        self.lock().servers.get(sid).doubtful
    }

    /// A server is about to note that it lacks nothing any more.
    pub fn trusts(&self, sid: Sid) {
        let mut ghost = self.lock();
        let Ghost { order, servers, .. } = &mut *ghost;
        let verdict = servers.settle_debt(order, sid);
        drop(ghost);
        self.judge(sid, verdict);
    }

    fn show(&self, sid: Sid) {
        let Server { logged, delivered, .. } = self.lock().servers.get(sid);
        self.story.progress(sid, logged, delivered);
    }

    // --- disks ---

    /// A server appends to its log, not yet durably.
    pub fn logged(&self, sid: Sid, entries: &[Arc<Entry>]) {
        let now = self.story.now();
        for entry in entries {
            let verdict = self.lock().log(now, sid, entry);
            self.judge(sid, verdict);
        }
        self.show(sid);
    }

    /// All that a server has logged is durable.
    pub fn synced(&self, sid: Sid) {
        let mut ghost = self.lock();
        let server = ghost.servers.get_mut(sid);
        server.durable = server.logged;
    }

    /// A server's log is about to be cut (TRUNC).
    pub fn truncating(&self, sid: Sid, to: Zxid) {
        let mut ghost = self.lock();
        let Ghost { order, servers, .. } = &mut *ghost;
        let logged = servers.get(sid).logged;
        let verdict = if order.is_on_path(to, logged) {
            servers.check_loss(order, sid, to)
        } else {
            Err(format!("I12: it cuts its log to {to}, which is not on its path to {logged}"))
        };
        servers.get_mut(sid).changing = Some(Change::Cut(to));
        drop(ghost);
        self.judge(sid, verdict);
    }

    /// A snapshot has become a server's own; until the log is reset the old state may be found as well.
    pub fn installing(&self, sid: Sid, zxid: Zxid) {
        let mut ghost = self.lock();
        let Ghost { order, servers, .. } = &mut *ghost;
        let known = zxid == Zxid::ZERO || order.get(zxid).is_some();
        let verdict = if known {
            servers.check_loss(order, sid, zxid)
        } else {
            Err(format!("I12: it installs a snapshot at {zxid}, which nobody logged"))
        };
        servers.get_mut(sid).changing = Some(Change::Replace(zxid));
        drop(ghost);
        self.judge(sid, verdict);
    }

    /// What a leader sent was no snapshot: all is as it was.
    pub fn not_installed(&self, sid: Sid) {
        self.lock().servers.get_mut(sid).changing = None;
    }

    /// A server's log ends here now, after TRUNC or SNAP; `found` is what a start would find, if that is known.
    pub fn changed(&self, sid: Sid, zxid: Zxid, found: Option<Result<(Zxid, i64), String>>) {
        let mut ghost = self.lock();
        let server = ghost.servers.get_mut(sid);
        (server.logged, server.durable, server.changing) = (zxid, zxid, None);
        let verdict = match found {
            None => Ok(()),
            Some(Ok((last, digest))) if last == zxid => ghost.check_digest(zxid, digest),
            Some(found) => Err(format!("I12: its log ends at {zxid}, and a start would find {found:?}")),
        };
        drop(ghost);
        self.judge(sid, verdict);
        self.show(sid);
    }

    /// A server saves a snapshot of its own.
    pub fn snapshot(&self, sid: Sid, tree: &Tree) {
        let mut ghost = self.lock();
        let zxid = tree.zxid();
        let durable = ghost.servers.get(sid).durable;
        let verdict = if zxid != Zxid::ZERO && !ghost.order.is_committed(zxid) {
            Err(format!("I12: it saves a snapshot at {zxid}, which is not committed"))
        } else if !ghost.order.is_on_path(zxid, durable) {
            Err(format!("I12: it saves a snapshot at {zxid}, and its log is durable up to {durable}"))
        } else {
            ghost.check_digest(zxid, tree.digest())
        };
        drop(ghost);
        self.judge(sid, verdict);
    }

    /// A server has written its epoch files.
    pub fn epochs_saved(&self, sid: Sid, epochs: Epochs) {
        let mut ghost = self.lock();
        let Ghost { order, servers, streams, .. } = &mut *ghost;
        let is_new = epochs.current > servers.get(sid).epochs.current;
        let verdict = servers.save_epochs(sid, epochs);
        let verdict = verdict.and_then(|()| match is_new {
            true => streams.takes_over(order, servers, sid, epochs.current),
            false => Ok(()),
        });
        drop(ghost);
        self.judge(sid, verdict);
    }

    /// A server has loaded its disk after a start. Who is `doubtful` knows that its end may be missing.
    pub fn recovered(&self, sid: Sid, last: Zxid, epochs: Epochs, digest: i64, doubtful: bool) {
        let mut ghost = self.lock();
        let Ghost { order, servers, sessions, votes, .. } = &mut *ghost;
        votes.forget(sid);
        sessions.begins(sid);
        let verdict = servers.recover(order, sid, last, epochs, doubtful);
        let verdict = verdict.and_then(|()| ghost.check_digest(last, digest));
        drop(ghost);
        self.show(sid);
        self.judge(sid, verdict);
    }

    // --- packets ---

    /// A server sends a packet.
    pub fn sent(&self, sid: Sid, to: Sid, tenure: Tenure, packet: &Packet) {
        let verdict = self.lock().send(self.story.now(), sid, to, tenure, packet);
        self.judge(sid, verdict);
    }

    /// A packet arrives: sessions in it are heard of, unless the stay is over for who hears it.
    pub fn arrived(&self, now: u64, from: Sid, at: Sid, tenure: Tenure, packet: &Packet) {
        let mut ghost = self.lock();
        match packet {
            Packet::FollowerInfo { .. } | Packet::ObserverInfo { .. } => {
                ghost.sessions.comes(at, from, tenure);
            }
            Packet::Goodbye { .. } => ghost.sessions.leaves(now, at, from, tenure),
            Packet::Notification(heard) => ghost.votes.heard(at, heard),
            _ if !ghost.sessions.listens(at, from, tenure) => {}
            Packet::Ping { touched, .. } => {
                let sessions = touched.iter().map(|(session, _)| *session);
                sessions.for_each(|session| ghost.sessions.touched_by(now, at, from, session));
            }
            Packet::Request(requests) => {
                let sessions = requests.iter().map(|request| request.session);
                sessions.for_each(|session| ghost.sessions.touched_by(now, at, from, session));
            }
            Packet::Revalidate { session, .. } => ghost.sessions.asked_about(now, at, from, *session),
            _ => {}
        }
    }

    /// A server's process stands still.
    pub fn paused(&self, sid: Sid, since: u64, until: u64) {
        self.lock().sessions.pauses(sid, since, until);
    }

    /// A server is told that its link to a peer is gone.
    pub fn link_down(&self, at: Sid, peer: Sid) {
        self.lock().sessions.link_down(at, peer);
    }

    /// A request of a client arrives.
    pub fn touched(&self, now: u64, at: Sid, session: SessionId) {
        self.lock().sessions.touched(now, at, session);
    }

    /// A server's clock is set: at the time 0 of the run it would have shown this.
    pub fn clock_set(&self, sid: Sid, origin: WallMillis) {
        let mut ghost = self.lock();
        let before = ghost.sessions.set_clock(self.story.now(), sid, origin);
        ghost.reference.ids_return |= before.is_some_and(|before| before > origin);
    }

    // --- leaders and trees ---

    /// A leadership is established.
    pub fn leads(&self, sid: Sid, epoch: Epoch) {
        self.story.tell_of(sid, || format!("LEADS epoch {epoch}"));
        let verdict = self.lock().lead(self.story.now(), sid, epoch);
        self.judge(sid, verdict);
    }

    /// A leadership goes on in its next epoch. Nobody's silence is forgiven for that.
    pub fn goes_on(&self, sid: Sid, epoch: Epoch) {
        self.story.tell_of(sid, || format!("GOES ON with epoch {epoch}"));
        let mut ghost = self.lock();
        let since = ghost.sessions.led_since(sid, Epoch(epoch.0 - 1));
        let verdict = match since {
            Some(since) => ghost.lead(since, sid, epoch),
            None => Err(format!("I1: it goes on with epoch {epoch}, and did not lead the one before")),
        };
        drop(ghost);
        self.judge(sid, verdict);
    }

    /// A server shows its clients a tree.
    pub fn delivered(&self, sid: Sid, zxid: Zxid, digest: i64) {
        let verdict = self.lock().deliver(sid, zxid, digest);
        self.judge(sid, verdict);
        self.show(sid);
    }

    // --- clients ---

    /// A client has an answer.
    pub fn answered(&self, client: u64, view: &mut View, asked: &Asked, reply: &Reply) {
        let mut ghost = self.lock();
        let Ghost { order, reference, histories, .. } = &mut *ghost;
        let verdict = histories.answered(order, reference, view, asked, reply);
        drop(ghost);
        if let Err(what) = verdict {
            self.fail(format!("I17: client {client}, {asked:?}: {what}"));
        }
    }

    /// A client hears of a change.
    pub fn told(&self, client: u64, view: &mut View, event: &WatchEvent) {
        let verdict = histories::told(&self.lock().reference, view, event);
        if let Err(what) = verdict {
            self.fail(format!("I17: client {client}: {what}"));
        }
    }

    /// A server tells a client that its session goes on, or has begun. On the leader that is the leader's word.
    pub fn connected(&self, sid: Sid, session: SessionId) {
        let mut ghost = self.lock();
        let epoch = ghost.servers.get(sid).epochs.current;
        if ghost.sessions.leader_of(epoch) == Some(sid) {
            ghost.sessions.grants(self.story.now(), epoch, session, sid);
        }
    }

    /// When its leader has let a session go on at a server the last time, and in which epoch.
    pub fn granted(&self, session: SessionId, at: Sid) -> Option<(u64, Epoch)> {
        self.lock().sessions.granted(session, at)
    }

    /// A client has a session on a connection. Its id is nobody else's, unless a clock has gone back: ids begin
    /// with their server's time, which is what Apache's do, too.
    pub fn attached(&self, client: u64, session: SessionId) {
        let mut ghost = self.lock();
        let Ghost { reference, histories, .. } = &mut *ghost;
        let verdict = histories.attached(reference, client, session);
        drop(ghost);
        if let Err(what) = verdict {
            self.fail(format!("I17: client {client}: {what}"));
        }
    }

    /// A client that holds a lock, as its znode `mine` says, has written something at `zxid` under a check of that
    /// znode. Nobody may have been before it.
    pub fn held_lock(&self, client: u64, lock: &str, mine: &str, zxid: Zxid) {
        let ghost = self.lock();
        let first = ghost.reference.at(lock, zxid).and_then(|lock| lock.children.first().cloned());
        let holds = first.as_deref() == Some(reference::split(mine).1);
        drop(ghost);
        if !holds {
            self.fail(format!(
                "client {client} holds {lock} by {mine} at {zxid}, and {first:?} is before it"
            ));
        }
    }
}

impl Ghost {
    fn log(&mut self, now: u64, sid: Sid, entry: &Arc<Entry>) -> Result<(), String> {
        let parent = self.servers.get(sid).logged;
        self.servers.get_mut(sid).logged = entry.zxid();
        self.see(now, entry, parent)
    }

    /// Somebody sends or logs an entry behind `parent`.
    fn see(&mut self, now: u64, entry: &Arc<Entry>, parent: Zxid) -> Result<(), String> {
        if !self.order.log(entry, parent)? {
            return Ok(());
        }
        let header = &entry.txn.header;
        match &entry.txn.body {
            TxnBody::CreateSession { timeout_ms } => self.sessions.opens(header.session, *timeout_ms),
            TxnBody::CloseSession { .. } => self.sessions.closes(now, header)?,
            _ => {}
        }
        Ok(())
    }

    fn send(&mut self, now: u64, sid: Sid, to: Sid, tenure: Tenure, packet: &Packet) -> Result<(), String> {
        self.servers.check_doubtful(sid, packet)?;
        if let Packet::Notification(said) = packet {
            return self.votes.said(sid, said, &self.sessions);
        }
        let mut seen = Ok(());
        if let Packet::Proposal(entry) = packet
            && let Some(at) = self.streams.end(sid, to, tenure).filter(|at| entry.zxid().follows(*at))
            && self.order.get(entry.zxid()).is_none()
        {
            // It leaves for the others before it is in the leader's own log.
            seen = self.see(now, entry, at);
        }
        let Ghost { order, servers, streams, sessions, .. } = self;
        streams.sent(order, servers, (sid, to), tenure, packet)?;
        seen?;
        match packet {
            Packet::Goodbye { .. } => sessions.leaves(now, sid, to, tenure),
            Packet::Revalidated { session, valid: Some(_) } => {
                sessions.grants(now, servers.get(sid).epochs.current, *session, to)
            }
            Packet::Revalidated { session, valid: None } => sessions.refuses(sid, to, *session),
            _ => {}
        }
        // Before it is established a leader offers its log as if it were committed: that proves nothing.
        let committed = match packet {
            Packet::Commit { zxid } => *zxid,
            Packet::UpToDate { committed } => *committed,
            Packet::Inform(entry) => entry.zxid(),
            _ => return Ok(()),
        };
        let established = sessions.leader_of(servers.get(sid).epochs.accepted) == Some(sid);
        if established && sessions::is_txn(committed) {
            servers.check_quorum(order, committed)
        } else {
            Ok(())
        }
    }

    fn lead(&mut self, now: u64, sid: Sid, epoch: Epoch) -> Result<(), String> {
        self.sessions.leads(now, sid, epoch)?;
        // A later epoch may have delivered more already: this one has just not noticed that it is over.
        let earlier = self.order.committed_before(epoch.mark());
        let logged = self.servers.get(sid).logged;
        self.beginnings.insert(epoch, logged);
        if !self.order.is_on_path(earlier, logged) {
            return Err(format!("I5: it leads with {logged}, but {earlier} has been delivered"));
        }
        Ok(())
    }

    fn deliver(&mut self, sid: Sid, zxid: Zxid, digest: i64) -> Result<(), String> {
        self.servers.get_mut(sid).delivered = zxid;
        if zxid > self.order.tip() {
            self.commit(zxid)?;
        } else if zxid != Zxid::ZERO && !self.order.is_committed(zxid) {
            let tip = self.order.tip();
            return Err(format!("I2: it delivers {zxid}, which is not on the path to {tip}"));
        }
        self.check_digest(zxid, digest)
    }

    /// Somebody delivers beyond everything delivered so far.
    fn commit(&mut self, zxid: Zxid) -> Result<(), String> {
        self.servers.check_quorum(&self.order, zxid)?;
        for (epoch, beginning) in self.beginnings.range(zxid.epoch()..).take(3) {
            let (order, beginning) = (&self.order, *beginning);
            let comparable = match *epoch > zxid.epoch() {
                true => order.is_on_path(zxid, beginning),
                false => order.is_on_path(beginning, zxid),
            };
            if !comparable {
                return Err(format!("I5: {zxid} is committed, and epoch {epoch} began with {beginning}"));
            }
        }
        for entry in self.order.commit(zxid)? {
            self.reference.apply(&entry.txn)?;
        }
        Ok(())
    }

    /// I11: at one zxid there is one tree, and it is the one that the transaction foretold.
    fn check_digest(&mut self, zxid: Zxid, digest: i64) -> Result<(), String> {
        let foretold = self.order.get(zxid).and_then(|vertex| vertex.entry.txn.digest);
        if let Some(foretold) = foretold.filter(|foretold| foretold.tree != digest) {
            let foretold = foretold.tree;
            return Err(format!("I11: its tree has digest {digest} at {zxid}, foretold was {foretold}"));
        }
        let known = *self.digests.entry(zxid).or_insert(digest);
        if known != digest {
            return Err(format!("I11: its tree has digest {digest} at {zxid}, another had {known}"));
        }
        Ok(())
    }
}
