//! Crash images of a server's directory: whatever call to the disk fails, and whatever a power cut makes of
//! what was not synced, recovery finds everything that was promised, in order, without holes.
//!
//! A script of log and snapshot operations runs against the simulated disk, once for every call it makes to
//! it, and that call fails: the machine stops, the device reports an error, or the disk is full. Beside it runs
//! a model of what may be found afterwards. A failure names its case; [`Case`] runs it again.

#![allow(clippy::unwrap_used)] // these are tests

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use slog::{Discard, Logger, o};
use zabra::disk::{Compression, Disk, DiskSettings, FileSnapStore, FileTxnStore, Injected, SimDisk, open};
use zabra_actors::core::tree::Tree;
use zabra_actors::ports::{Recovered, SnapStore, TxnStore};
use zabra_actors::types::{
    Acl, CreateKind, Entry, Epoch, Epochs, Fault, SessionId, Sid, Txn, TxnBody, TxnHeader, Zxid, perms,
};

const ID: Sid = Sid(1);

#[derive(Clone, Debug)]
enum Op {
    /// The process is killed and started again; nothing is lost.
    Restart,
    /// So many entries of an epoch, in one batch.
    Append(u32, u32),
    Sync,
    Roll,
    Save,
    /// Back by so many entries.
    Truncate(usize),
    Epochs(u32, u32),
    /// A leader's snapshot: so many of the own entries, and so many others of an epoch behind them.
    Install {
        keep: usize,
        epoch: u32,
        others: u32,
    },
}

/// Everything a store does, in an order that a server could go through.
fn script() -> Vec<Op> {
    use Op::*;
    vec![
        Restart,
        Epochs(1, 0),
        Epochs(1, 1),
        Append(1, 3),
        Sync,
        Append(1, 2),
        Append(1, 4),
        Sync,
        Save,
        Roll,
        Append(1, 5),
        Sync,
        Restart,
        Append(1, 1),
        Restart,
        Epochs(2, 1),
        Append(2, 4),
        Sync,
        Epochs(2, 2),
        Save,
        Roll,
        Append(2, 2),
        Roll,
        Save,
        Append(2, 6),
        Epochs(3, 2),
        Truncate(3),
        Append(3, 4),
        Sync,
        Epochs(3, 3),
        Save,
        Roll,
        Append(3, 4),
        Roll,
        Append(3, 2),
        Sync,
        Save,
        Truncate(0),
        Epochs(5, 3),
        Install { keep: 9, epoch: 4, others: 5 },
        Epochs(5, 5),
        Append(5, 3),
        Sync,
        // Another history, that ends before the own: its snapshot with the own log would be a third.
        Epochs(6, 5),
        Install { keep: 9, epoch: 4, others: 8 },
        Epochs(6, 6),
        Append(6, 3),
        Sync,
        Save,
        Append(6, 1),
        Roll,
        Restart,
        Append(6, 2),
        // To before the newest snapshot.
        Truncate(4),
        Restart,
    ]
}

/// What may be found: for one of these, at least `low` and at most `high`.
#[derive(Clone, Debug)]
struct Bounds {
    low: Vec<Zxid>,
    high: Vec<Zxid>,
}

impl Bounds {
    fn exactly(zxids: &[Zxid]) -> Bounds {
        Bounds { low: zxids.to_vec(), high: zxids.to_vec() }
    }

    fn admit(&self, found: &[Zxid]) -> bool {
        found.starts_with(&self.low) && self.high.starts_with(found)
    }
}

/// A server's disk, the stores over it, and what we know they promised.
struct Server {
    disk: SimDisk,
    stores: Option<(FileTxnStore, FileSnapStore)>,
    tree: Tree,
    allowed: Vec<Bounds>,
    epochs: Epochs,
    /// The epochs that were about to be saved.
    saving: Epochs,
    /// The calls that remove an abandoned snapshot: the only ones whose failure is no fault.
    cleanups: Vec<u64>,
    /// A snapshot was not taken because the disk was full, which is no fault either: the log goes on.
    no_room: bool,
    compression: Compression,
}

impl Server {
    fn new() -> Server {
        Server {
            disk: SimDisk::new(),
            stores: None,
            tree: Tree::new(),
            allowed: vec![Bounds::exactly(&[])],
            epochs: Epochs::default(),
            saving: Epochs::default(),
            cleanups: Vec::new(),
            no_room: false,
            compression: Compression::None,
        }
    }

    /// Starts the server: recovers, checks what was found, and goes on from it.
    fn start(&mut self) -> Result<(), Fault> {
        self.stores = None;
        let (mut txns, snaps) = open_stores(&self.disk, self.compression)?;
        let Recovered { tree, history, epochs, doubtful, diverged: _ } = txns.recover()?;
        assert!(!doubtful, "what a crash leaves is unfinished, not damaged");
        let found = zxids_of(&tree);
        assert!(
            self.allowed.iter().any(|bounds| bounds.admit(&found)),
            "found {found:?}, allowed was one of {:?}",
            self.allowed
        );
        let last = found.last().copied().unwrap_or(Zxid::ZERO);
        assert_eq!((tree.zxid(), history.last(), history.applied()), (last, last, last));
        assert!(
            history
                .entries()
                .map(|entry| entry.zxid())
                .eq(found.iter().copied().filter(|z| *z > history.base()))
        );
        self.check_epochs(epochs, last);
        self.allowed = vec![Bounds::exactly(&found)];
        (self.tree, self.epochs, self.saving) = (tree, epochs, epochs);
        self.stores = Some((txns, snaps));
        Ok(())
    }

    /// I6 and I7 of the protocol's invariants: current <= accepted, neither goes down, and no transaction is of
    /// a later epoch than current.
    fn check_epochs(&self, found: Epochs, last: Zxid) {
        assert!(found.current <= found.accepted, "{found:?}");
        assert!(last.epoch() <= found.current, "{found:?}, but the log ends at {last}");
        assert!(found.accepted >= self.epochs.accepted && found.current >= self.epochs.current, "{found:?}");
        assert!(found.accepted <= self.saving.accepted.max(last.epoch()), "{found:?}");
        assert!(found.current <= self.saving.current.max(last.epoch()), "{found:?}");
    }

    fn stores(&mut self) -> &mut (FileTxnStore, FileSnapStore) {
        self.stores.as_mut().expect("the script starts with a start")
    }

    fn bounds(&mut self) -> &mut Bounds {
        assert_eq!(self.allowed.len(), 1);
        &mut self.allowed[0]
    }

    fn run(&mut self, op: &Op) -> Result<(), Fault> {
        match *op {
            Op::Restart => {
                self.disk.kill();
                self.start()
            }
            Op::Append(epoch, count) => self.append(epoch, count),
            Op::Sync => {
                self.stores().0.sync()?;
                self.synced();
                Ok(())
            }
            Op::Roll => {
                self.stores().0.roll()?;
                self.synced();
                Ok(())
            }
            Op::Save => {
                let tree = self.tree.clone();
                self.no_room |= self.stores().1.save(&tree)?.is_none();
                Ok(())
            }
            Op::Truncate(back) => self.truncate(back),
            Op::Epochs(accepted, current) => {
                self.saving = Epochs { accepted: Epoch(accepted), current: Epoch(current) };
                let saving = self.saving;
                self.stores().0.save_epochs(saving)?;
                self.epochs = saving;
                Ok(())
            }
            Op::Install { keep, epoch, others } => self.install(keep, epoch, others),
        }
    }

    fn synced(&mut self) {
        let bounds = self.bounds();
        bounds.low = bounds.high.clone();
    }

    fn append(&mut self, epoch: u32, count: u32) -> Result<(), Fault> {
        let entries = entries_behind(&mut self.tree, epoch, count);
        self.bounds().high.extend(entries.iter().map(|entry| entry.zxid()));
        self.stores().0.append(&entries)
    }

    fn truncate(&mut self, back: usize) -> Result<(), Fault> {
        let bounds = self.bounds();
        let left = bounds.high.len() - back;
        let kept = bounds.high[..left].to_vec();
        bounds.low.truncate(left);
        let to = kept.last().copied().expect("never cut to nothing");
        self.stores().0.truncate(to)?;
        self.allowed = vec![Bounds::exactly(&kept)];
        let tree = self.stores().0.reload()?;
        assert_eq!(zxids_of(&tree), kept);
        assert_eq!(tree.zxid(), to);
        self.tree = tree;
        Ok(())
    }

    fn install(&mut self, keep: usize, epoch: u32, others: u32) -> Result<(), Fault> {
        let own = self.bounds().high.clone();
        let mut leader = Tree::new();
        for zxid in &own[..keep] {
            leader.apply(&create(*zxid).txn, &mut Vec::new());
        }
        entries_behind(&mut leader, epoch, others);
        self.allowed.push(Bounds::exactly(&zxids_of(&leader)));
        let (_, snaps) = self.stores();
        let pieces: Vec<_> = snaps.pieces(Box::new(leader.clone())).collect();
        // The first leader is gone in the middle.
        snaps.receive(pieces[0].slice(..9))?;
        snaps.abandon();
        self.cleanups.push(self.disk.calls());
        let (txns, snaps) = self.stores();
        for piece in pieces {
            // However the pieces are cut.
            snaps.receive(piece.slice(..1))?;
            snaps.receive(piece.slice(1..))?;
        }
        let tree = snaps.install(leader.zxid())?.expect("these are the leader's bytes");
        txns.reset(leader.zxid())?;
        assert_eq!(zxids_of(&tree), zxids_of(&leader));
        self.allowed = vec![Bounds::exactly(&zxids_of(&tree))];
        self.tree = tree;
        Ok(())
    }
}

fn open_stores(disk: &SimDisk, compression: Compression) -> Result<(FileTxnStore, FileSnapStore), Fault> {
    let settings = DiskSettings { preallocate: 4096, compression, ..DiskSettings::new("/data", ID) };
    open(Arc::new(disk.clone()), settings, Logger::root(Discard, o!()))
}

/// The next entries of an epoch, applied.
fn entries_behind(tree: &mut Tree, epoch: u32, count: u32) -> Vec<Arc<Entry>> {
    let last = tree.zxid();
    let first = if last.epoch() == Epoch(epoch) { last.next() } else { Zxid::new(Epoch(epoch), 1) };
    let zxids = (0..i64::from(count)).map(|more| Zxid(first.0 + more));
    zxids.map(create).inspect(|entry| drop(tree.apply(&entry.txn, &mut Vec::new()))).collect()
}

/// A transaction that leaves its zxid in the tree; some are longer than a sector.
fn create(zxid: Zxid) -> Arc<Entry> {
    let header = TxnHeader { session: SessionId::NONE, cxid: 0, zxid, time: 1_700_000_000_000 };
    let data = vec![zxid.counter() as u8; (zxid.counter() as usize * 211) % 1500];
    let body = TxnBody::Create {
        kind: CreateKind::Create,
        path: format!("/{:016x}", zxid.0).into(),
        data: Some(Bytes::from(data)),
        acl: vec![Acl::world(perms::ALL)],
        ephemeral: false,
        parent_cversion: zxid.counter() as i32,
    };
    Entry::new(Txn { header, body, digest: None })
}

/// The transactions that a tree was made of.
fn zxids_of(tree: &Tree) -> Vec<Zxid> {
    let mut found = Vec::new();
    tree.walk(&mut |node| {
        if let Ok(zxid) = i64::from_str_radix(node.path.trim_start_matches('/'), 16) {
            assert_eq!(node.data, Some(&data_of(&create(Zxid(zxid)))[..]), "{}", node.path);
            found.push(Zxid(zxid));
        }
    });
    found.sort();
    found
}

fn data_of(entry: &Entry) -> Bytes {
    match &entry.txn.body {
        TxnBody::Create { data: Some(data), .. } => data.clone(),
        other => panic!("{other:?} is no create"),
    }
}

/// What happens to the machine after the failing call.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// The process is started again.
    Kill,
    /// The power goes; what was not synced is up to the seed.
    PowerCut(u64),
}

/// One run that fails at one call.
#[derive(Debug)]
struct Case {
    call: u64,
    fault: Injected,
    then: Then,
}

impl Case {
    fn run(&self) {
        let mut server = Server::new();
        server.disk.inject(self.call, self.fault);
        let fault = script().iter().find_map(|op| server.run(op).err());
        assert!(!server.no_room || self.fault == Injected::Full, "{self:?}: there is room");
        let harmless =
            server.no_room || server.cleanups.contains(&self.call) && self.fault != Injected::Crash;
        assert_eq!(fault.is_none(), harmless, "{self:?}: an error of the disk must come out");
        self.restart(&mut server);
        // It works again, for good: what is written now survives the next power cut.
        let epoch = server.epochs.accepted.next();
        server.run(&Op::Epochs(epoch.0, epoch.0)).unwrap();
        for op in [Op::Append(epoch.0, 3), Op::Sync, Op::Save, Op::Append(epoch.0, 2), Op::Sync] {
            server.run(&op).unwrap();
        }
        server.run(&Op::Append(epoch.0, 3)).unwrap();
        server.disk.crash(self.call);
        server.start().unwrap_or_else(|fault| panic!("{self:?}, second crash: {fault}"));
    }

    fn restart(&self, server: &mut Server) {
        match self.then {
            Then::Kill => server.disk.kill(),
            Then::PowerCut(seed) => server.disk.crash(seed),
        }
        server.start().unwrap_or_else(|fault| panic!("{self:?}: {fault}"));
    }
}

fn calls_of_the_script() -> u64 {
    let mut server = Server::new();
    for op in script() {
        server.run(&op).unwrap();
    }
    server.disk.calls()
}

/// Runs the script once for each call and each outcome, and says which case it was that failed.
fn sweep(fault: Injected, outcomes: impl Fn(u64) -> Vec<Then>) {
    for call in 1..=calls_of_the_script() {
        for then in outcomes(call) {
            let case = Case { call, fault, then };
            if let Err(cause) = std::panic::catch_unwind(|| case.run()) {
                eprintln!("failed: {case:?}");
                std::panic::resume_unwind(cause);
            }
        }
    }
}

#[test]
fn a_crash_at_any_call_loses_nothing_that_was_promised() {
    sweep(Injected::Crash, |call| (0..6).map(|seed| Then::PowerCut(call * 100 + seed)).collect());
}

#[test]
fn a_kill_at_any_call_loses_nothing_that_was_promised() {
    sweep(Injected::Crash, |_| vec![Then::Kill]);
}

#[test]
fn an_io_error_at_any_call_is_a_fault_and_loses_nothing() {
    sweep(Injected::Io, |call| vec![Then::Kill, Then::PowerCut(call), Then::PowerCut(call + 1_000_000)]);
}

#[test]
fn a_full_disk_at_any_call_is_a_fault_and_loses_nothing() {
    sweep(Injected::Full, |call| vec![Then::Kill, Then::PowerCut(call)]);
}

// What cannot be read is not taken for what is not there.
#[test]
fn an_error_at_any_reading_call_is_a_fault_and_loses_nothing() {
    let whole = {
        let mut server = Server::new();
        script().iter().for_each(|op| server.run(op).unwrap());
        server.disk.reads()
    };
    for call in 1..=whole {
        let mut server = Server::new();
        server.disk.inject_read(call);
        let fault = script().iter().find_map(|op| server.run(op).err());
        let fault =
            fault.unwrap_or_else(|| panic!("reading call {call}: an error of the disk must come out"));
        assert!(fault.0.contains("os error 5"), "reading call {call}: {fault}");
        server.disk.kill();
        server.start().unwrap_or_else(|fault| panic!("reading call {call}: {fault}"));
    }
}

/// A disk that is filled to its last byte, again and again: the server stops, and starts again when there is room.
#[test]
fn a_disk_that_fills_up_stops_the_server_and_loses_nothing() {
    for capacity in (20_000..60_000).step_by(1_777) {
        let mut server = Server::new();
        server.start().unwrap();
        server.run(&Op::Epochs(1, 1)).unwrap();
        server.disk.limit(Some(capacity));
        let ops = [Op::Append(1, 3), Op::Sync, Op::Append(1, 2), Op::Sync, Op::Save, Op::Roll];
        let fault = ops.iter().cycle().take(1_000).find_map(|op| server.run(op).err());
        let fault = fault.unwrap_or_else(|| panic!("{capacity} bytes are enough for everything"));
        assert!(fault.0.contains("make room on this file system"), "{fault}");
        server.disk.limit(None);
        server.disk.crash(capacity);
        server.start().unwrap_or_else(|fault| panic!("capacity {capacity}: {fault}"));
        server.run(&Op::Append(1, 3)).unwrap();
        server.run(&Op::Sync).unwrap();
    }
}

/// A small directory with everything in it that a start reads, and what it holds.
fn small_server(compression: Compression) -> (SimDisk, Vec<Zxid>) {
    let mut server = Server::new();
    server.compression = compression;
    server.start().unwrap();
    let ops = [
        Op::Epochs(1, 1),
        Op::Append(1, 2),
        Op::Save,
        Op::Roll,
        Op::Append(1, 2),
        Op::Sync,
        Op::Epochs(2, 2),
        Op::Append(2, 1),
        Op::Roll,
        Op::Save,
        Op::Append(2, 2),
        Op::Roll,
        Op::Append(2, 3),
        Op::Sync,
    ];
    ops.iter().for_each(|op| server.run(op).unwrap());
    (server.disk, zxids_of(&server.tree))
}

/// Flips a bit in every byte of every log and snapshot.
fn flip_everywhere(disk: &SimDisk, whole: &[Zxid], compression: Compression) -> [usize; 3] {
    let dir = Path::new("/data/version-2");
    let [mut harmless, mut refused, mut doubtful] = [0; 3];
    for (name, len) in disk.list(dir).unwrap() {
        if !(name.starts_with("log.") || name.starts_with("snapshot.")) {
            continue;
        }
        // Of the zeros behind the records a few will do.
        let mut content = Vec::new();
        disk.read(&dir.join(&name)).unwrap().read_to_end(&mut content).unwrap();
        let written = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        for offset in 0..len.min(written + 40) {
            let disk = disk.copy();
            disk.flip(&dir.join(&name), offset, 1 << (offset % 8));
            let opened = open_stores(&disk, compression).unwrap().0.recover();
            match opened {
                Ok(found) if found.doubtful => {
                    doubtful += 1;
                    let left = zxids_of(&found.tree);
                    assert!(whole.starts_with(&left) && left.len() == whole.len() - 1, "{name} at {offset}");
                }
                Ok(found) => {
                    harmless += 1;
                    assert_eq!(zxids_of(&found.tree), whole, "{name} at {offset}");
                }
                Err(fault) => {
                    refused += 1;
                    assert!(fault.0.contains("version-2"), "it says where: {fault}");
                }
            }
        }
    }
    [harmless, refused, doubtful]
}

#[test]
fn every_flipped_bit_is_detected_or_harmless() {
    for compression in [Compression::None, Compression::Gz, Compression::Snappy] {
        let (disk, whole) = small_server(compression);
        let [harmless, refused, doubtful] = flip_everywhere(&disk, &whole, compression);
        assert!(refused > 0, "what is behind the newest snapshot cannot be harmless");
        assert!(harmless > 0, "a bad snapshot is: there is an older one, and the log behind it");
        assert_eq!(doubtful, 0, "the mark says how far everything was durable");
    }
    // Somebody else's directory, or the mark lost: the end of the log may have been acknowledged.
    let (disk, whole) = small_server(Compression::None);
    disk.remove(Path::new("/data/version-2/.synced")).unwrap();
    let [_, refused, doubtful] = flip_everywhere(&disk, &whole, Compression::None);
    assert!(refused > 0 && doubtful > 60, "of every bit of the last record: {doubtful}");
}
