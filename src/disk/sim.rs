//! A disk in memory that forgets like a real one: for the simulator and the crash tests.
//!
//! Every change is visible at once and durable only after a sync: content and length of a file after
//! [`DiskFile::sync`], names after [`Disk::sync_dir`]. [`SimDisk::crash`] is a power cut: of what was not
//! synced everything, a prefix, or any subset survives, file content by sectors. One seed, one outcome.
//!
//! Faults can be planted at the n-th changing call ([`SimDisk::inject`]), and syncs can take simulated
//! time ([`SimDisk::slow_down`]), which nobody waits for here: the actor asks [`Disk::stall`] for it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Cursor, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::fs::{Disk, DiskFile};

/// What survives or is lost as a whole, in bytes.
const SECTOR: usize = 512;

/// What goes wrong at a planted call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injected {
    /// The machine stops: this call and all later ones fail, until [`SimDisk::crash`].
    Crash,
    /// The device fails (EIO): this call fails, a write half done.
    Io,
    /// The disk is full (ENOSPC): this call fails, a write half done.
    Full,
}

/// A disk in memory; clones are the same disk.
#[derive(Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<u64, Inode>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names that are not durable, in order.
    unsynced_names: Vec<NameChange>,
    next_inode: u64,
    /// Changing calls so far.
    calls: u64,
    planted: Option<(u64, Injected)>,
    /// Reading calls so far, and the one that fails.
    reads: u64,
    planted_read: Option<u64>,
    dead: bool,
    /// Handles of an earlier life of the machine are refused.
    life: u64,
    stalls: Option<(Rng, Duration)>,
    stall: Duration,
    /// Bytes that fit; all of them when nobody says.
    capacity: Option<u64>,
}

#[derive(Clone, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    /// Bytes that are not what was written, as far as they were not cut off since.
    damaged: BTreeSet<u64>,
}

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

/// One atomic change of a directory: each name gets a file or loses it.
type NameChange = Vec<(PathBuf, Option<u64>)>;

impl SimDisk {
    /// An empty disk.
    pub fn new() -> SimDisk {
        SimDisk::default()
    }

    /// Plants a fault at the `call`-th changing call from now on (the next is 1), instead of any earlier one.
    pub fn inject(&self, call: u64, fault: Injected) {
        let mut state = self.lock_state();
        state.planted = Some((state.calls + call, fault));
    }

    /// Changing calls (creations, writes, syncs, renames, removals ...) so far.
    pub fn calls(&self) -> u64 {
        self.lock_state().calls
    }

    /// Plants an error of the device (EIO) at the `call`-th reading call from now on, instead of any earlier one.
    pub fn inject_read(&self, call: u64) {
        let mut state = self.lock_state();
        state.planted_read = Some(state.reads + call);
    }

    /// Reading calls (openings, reads, listings) so far.
    pub fn reads(&self) -> u64 {
        self.lock_state().reads
    }

    /// From now on each sync takes a time drawn from the seed, below `max`; see [`Disk::stall`].
    pub fn slow_down(&self, seed: u64, max: Duration) {
        self.lock_state().stalls = Some((Rng(seed), max));
    }

    /// From now on no more bytes than this fit on the disk: what does not fails with ENOSPC.
    pub fn limit(&self, bytes: Option<u64>) {
        self.lock_state().capacity = bytes;
    }

    /// From now on so many bytes fit on it besides those that are there.
    pub fn limit_to_room(&self, bytes: u64) {
        let mut state = self.lock_state();
        state.capacity = Some(state.used() + bytes);
    }

    /// No more planted faults, and syncs that take no time.
    pub fn heal(&self) {
        let mut state = self.lock_state();
        (state.planted, state.planted_read, state.stalls) = (None, None, None);
    }

    /// The power goes and comes back: what was not synced may be lost or torn, as the seed says. Open
    /// files of before are dead, planted faults are gone.
    pub fn crash(&self, seed: u64) {
        let mut state = self.lock_state();
        let mut rng = Rng(seed);
        let changes = std::mem::take(&mut state.unsynced_names);
        let keep = rng.survivors(changes.len());
        for (change, _) in changes.into_iter().zip(keep).filter(|(_, keep)| *keep) {
            apply_names(&mut state.durable_names, change);
        }
        state.names = state.durable_names.clone();
        state.forget_unnamed();
        for file in state.files.values_mut() {
            file.crash(&mut rng);
        }
        (state.planted, state.planted_read) = (None, None);
        state.reboot();
    }

    /// The process dies and is started again; the machine stays on, so that everything written is there,
    /// durable or not. A planted fault still waits for its call.
    pub fn kill(&self) {
        self.lock_state().reboot();
    }

    /// Another disk that holds the same, durable or not.
    pub fn copy(&self) -> SimDisk {
        let state = self.lock_state();
        let copy = State {
            files: state.files.clone(),
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            unsynced_names: state.unsynced_names.clone(),
            next_inode: state.next_inode,
            ..State::default()
        };
        SimDisk { state: Arc::new(Mutex::new(copy)) }
    }

    /// Turns a bit of a file over, durably: bit rot. It is one that leaves no digit of a digit: the epoch files have no
    /// checksum.
    pub fn rot(&self, path: &Path, offset: u64) {
        self.flip(path, offset, 0x10);
    }

    /// Turns these bits of a byte of a file over, durably.
    pub fn flip(&self, path: &Path, offset: u64, bits: u8) {
        let mut state = self.lock_state();
        let inode = *state.names.get(path).expect("the file to damage is there");
        let file = state.files.get_mut(&inode).expect("every name has a file");
        file.now[offset as usize] ^= bits;
        // What was never synced is damaged all the same, and may be lost besides.
        if let Some(byte) = file.durable.get_mut(offset as usize) {
            *byte ^= bits;
        }
        file.damaged.insert(offset);
    }

    /// Is a byte of a file, be it one whose name is not gone durably yet, not what was written? One that was written
    /// over counts until its file is gone or cut.
    pub fn is_damaged(&self) -> bool {
        self.lock_state().files.values().any(|file| !file.damaged.is_empty())
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    fn handle(&self, state: &State, inode: u64) -> Box<dyn DiskFile> {
        Box::new(SimFile { disk: self.clone(), inode, life: state.life })
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        self.lock_state().alive() // directories are where their files are
    }

    fn lock(&self, _path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.lock_state().alive()?; // a simulated machine runs one server
        Ok(Box::new(()))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.lock_state();
        state.change()?.ok()?;
        // Emptying an old file is a new one under its name: the old content comes back with the old name.
        let inode = state.next_inode;
        state.next_inode += 1;
        state.files.insert(inode, Inode::default());
        state.rename(vec![(path.to_path_buf(), Some(inode))]);
        Ok(self.handle(&state, inode))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let state = self.lock_state();
        state.alive()?;
        Ok(self.handle(&state, state.find(path)?))
    }

    fn read(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        let mut state = self.lock_state();
        state.alive()?;
        let inode = state.find(path)?;
        state.read_one()?;
        let content = Cursor::new(state.files[&inode].now.clone());
        Ok(Box::new(SimReader { disk: self.clone(), content }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        let inode = state.find(from)?;
        state.change()?.ok()?;
        state.rename(vec![(from.to_path_buf(), None), (to.to_path_buf(), Some(inode))]);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.find(path)?;
        state.change()?.ok()?;
        state.rename(vec![(path.to_path_buf(), None)]);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<(String, u64)>> {
        let mut state = self.lock_state();
        state.alive()?;
        state.read_one()?;
        let inside = state.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        Ok(inside
            .filter_map(|(path, inode)| {
                let name = path.file_name()?.to_str()?.to_string();
                Some((name, state.files[inode].now.len() as u64))
            })
            .collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.take_time();
        state.change()?.ok()?;
        let changes = std::mem::take(&mut state.unsynced_names);
        for change in changes {
            if change.iter().any(|(path, _)| path.parent() == Some(dir)) {
                apply_names(&mut state.durable_names, change);
            } else {
                state.unsynced_names.push(change);
            }
        }
        state.forget_unnamed();
        Ok(())
    }

    fn free(&self, _dir: &Path) -> io::Result<u64> {
        let state = self.lock_state();
        state.alive()?;
        Ok(state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used())))
    }

    fn stall(&self) -> Duration {
        std::mem::take(&mut self.lock_state().stall)
    }
}

/// What a changing call may do.
enum Verdict {
    Do,
    /// Fail with this, a write half done.
    Fail(io::Error),
}

impl Verdict {
    fn ok(self) -> io::Result<()> {
        match self {
            Verdict::Do => Ok(()),
            Verdict::Fail(error) => Err(error),
        }
    }
}

impl State {
    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(io::Error::other("the simulated machine is off")) } else { Ok(()) }
    }

    /// Counts a changing call, and lets the planted fault happen.
    fn change(&mut self) -> io::Result<Verdict> {
        self.alive()?;
        self.calls += 1;
        let Some((_, fault)) = self.planted.filter(|(call, _)| *call == self.calls) else {
            return Ok(Verdict::Do);
        };
        self.planted = None;
        Ok(Verdict::Fail(match fault {
            Injected::Crash => {
                self.dead = true;
                io::Error::other("the simulated machine stops here")
            }
            Injected::Io => rustix::io::Errno::IO.into(),
            Injected::Full => rustix::io::Errno::NOSPC.into(),
        }))
    }

    /// Counts a reading call, and lets the planted error happen.
    fn read_one(&mut self) -> io::Result<()> {
        self.reads += 1;
        if self.planted_read == Some(self.reads) {
            self.planted_read = None;
            return Err(rustix::io::Errno::IO.into());
        }
        Ok(())
    }

    /// Bytes of all files.
    fn used(&self) -> u64 {
        self.files.values().map(|file| file.now.len() as u64).sum()
    }

    /// Does a file still fit when it has this length?
    fn has_room_for(&self, inode: u64, len: u64) -> bool {
        let now = self.files.get(&inode).map_or(0, |file| file.now.len() as u64);
        self.capacity.is_none_or(|capacity| self.used() + len.saturating_sub(now) <= capacity)
    }

    fn reboot(&mut self) {
        self.dead = false;
        self.life += 1;
        self.stall = Duration::ZERO;
    }

    fn find(&self, path: &Path) -> io::Result<u64> {
        self.alive()?;
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no file {}", path.display()));
        self.names.get(path).copied().ok_or_else(missing)
    }

    fn rename(&mut self, change: NameChange) {
        apply_names(&mut self.names, change.clone());
        self.unsynced_names.push(change);
    }

    /// Frees the files that no name, and no name that may come back, leads to.
    fn forget_unnamed(&mut self) {
        let unsynced = self.unsynced_names.iter().flatten().filter_map(|(_, inode)| *inode);
        let named = self.names.values().chain(self.durable_names.values()).copied();
        let alive: BTreeSet<u64> = named.chain(unsynced).collect();
        self.files.retain(|inode, _| alive.contains(inode));
    }

    fn take_time(&mut self) {
        if let Some((rng, max)) = &mut self.stalls {
            let nanos = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX).max(1);
            self.stall += Duration::from_nanos(rng.below(nanos));
        }
    }
}

fn apply_names(names: &mut BTreeMap<PathBuf, u64>, change: NameChange) {
    for (path, inode) in change {
        match inode {
            Some(inode) => names.insert(path, inode),
            None => names.remove(&path),
        };
    }
}

impl Inode {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.now, |_| true);
        self.unsynced.push(change);
    }

    fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable, |_| true);
            if let Change::SetLen(len) = change {
                self.damaged.retain(|at| *at < len);
            }
        }
    }

    fn crash(&mut self, rng: &mut Rng) {
        let changes = std::mem::take(&mut self.unsynced);
        let keep = rng.survivors(changes.len());
        // Either whole writes survive, or any of their sectors.
        let torn = rng.below(2) == 0;
        // A sector goes to the disk with all that was written to it until then: a later write to it never
        // survives without the earlier ones.
        let mut newest = BTreeMap::new();
        for (at, (change, keep)) in changes.iter().zip(&keep).enumerate() {
            for sector in change.sectors() {
                if *keep && (!torn || rng.below(2) == 0) {
                    newest.insert(sector, at);
                }
            }
        }
        for (at, (change, keep)) in changes.iter().zip(&keep).enumerate() {
            if *keep || matches!(change, Change::Write(..)) {
                change.apply(&mut self.durable, |sector| {
                    newest.get(&sector).is_some_and(|newest| at <= *newest)
                });
            }
        }
        self.now = self.durable.clone();
    }
}

impl Change {
    /// The sectors that it writes to.
    fn sectors(&self) -> Range<usize> {
        match self {
            Change::SetLen(_) => 0..0,
            Change::Write(offset, bytes) => {
                let start = *offset as usize;
                start / SECTOR..(start + bytes.len()).div_ceil(SECTOR)
            }
        }
    }

    /// Applies the sectors that `survives` wants; those that do not leave what was there, or zeros.
    fn apply(&self, content: &mut Vec<u8>, mut survives: impl FnMut(usize) -> bool) {
        match self {
            Change::SetLen(len) => content.resize(*len as usize, 0),
            Change::Write(offset, bytes) => {
                let mut at = *offset as usize;
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let (part, next) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
                    if survives(at / SECTOR) {
                        content.resize(content.len().max(at + part.len()), 0);
                        content[at..at + part.len()].copy_from_slice(part);
                    }
                    at += part.len();
                    rest = next;
                }
            }
        }
    }
}

struct SimReader {
    disk: SimDisk,
    content: Cursor<Vec<u8>>,
}

impl Read for SimReader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.disk.lock_state().read_one()?;
        self.content.read(bytes)
    }
}

struct SimFile {
    disk: SimDisk,
    inode: u64,
    life: u64,
}

impl SimFile {
    /// Runs a changing call on the file; a failing write still does its first half.
    fn change(&mut self, change: Option<Change>) -> io::Result<()> {
        let mut state = self.disk.lock_state();
        if state.life != self.life {
            return Err(io::Error::other("this file was opened before the machine went off"));
        }
        let mut verdict = state.change()?;
        let len = match &change {
            Some(Change::Write(offset, bytes)) => offset + bytes.len() as u64,
            Some(Change::SetLen(len)) => *len,
            None => 0,
        };
        if matches!(verdict, Verdict::Do) && !state.has_room_for(self.inode, len) {
            verdict = Verdict::Fail(rustix::io::Errno::NOSPC.into());
        }
        let gone = || io::Error::other("this file was removed");
        let file = state.files.get_mut(&self.inode).ok_or_else(gone)?;
        match (&verdict, change) {
            (Verdict::Do, Some(change)) => file.change(change),
            (Verdict::Do, None) => file.sync(),
            (Verdict::Fail(_), Some(Change::Write(offset, mut bytes))) => {
                bytes.truncate(bytes.len() / 2);
                file.change(Change::Write(offset, bytes));
            }
            (Verdict::Fail(_), _) => {}
        }
        verdict.ok()
    }
}

impl DiskFile for SimFile {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.change(Some(Change::Write(offset, bytes.to_vec())))
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.change(Some(Change::SetLen(len)))
    }

    fn allocate(&mut self, len: u64) -> io::Result<()> {
        let now = self.disk.lock_state().files.get(&self.inode).map_or(0, |file| file.now.len());
        self.change(Some(Change::SetLen(len.max(now as u64))))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.lock_state().take_time();
        self.change(None)
    }
}

/// SplitMix64: small, and the same everywhere.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Which of `count` changes survive: none, all, a prefix or any subset.
    fn survivors(&mut self, count: usize) -> Vec<bool> {
        let prefix = match self.below(4) {
            0 => 0,
            1 => count,
            2 => self.below(count as u64 + 1) as usize,
            _ => return (0..count).map(|_| self.below(2) == 0).collect(),
        };
        (0..count).map(|at| at < prefix).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        disk.read(Path::new(name)).ok()?.read_to_end(&mut bytes).unwrap();
        Some(bytes)
    }

    #[test]
    fn what_is_synced_survives_every_crash() {
        for seed in 0..200 {
            let disk = SimDisk::new();
            let mut file = disk.create(Path::new("/d/a")).unwrap();
            file.write_at(0, b"kept").unwrap();
            file.sync().unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            disk.rename(Path::new("/d/a"), Path::new("/d/b")).unwrap();
            file.write_at(600, b"lost?").unwrap();
            disk.crash(seed);
            let (a, b) = (content(&disk, "/d/a"), content(&disk, "/d/b"));
            assert!(a.is_some() != b.is_some(), "a rename is atomic");
            assert!(a.or(b).unwrap().starts_with(b"kept"));
        }
    }

    #[test]
    fn what_is_not_synced_is_sometimes_lost_and_sometimes_torn() {
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let disk = SimDisk::new();
            let mut file = disk.create(Path::new("/d/a")).unwrap();
            file.write_at(0, &[7; 2 * SECTOR]).unwrap();
            disk.crash(seed);
            let sectors = content(&disk, "/d/a")
                .map(|bytes| bytes.chunks(SECTOR).map(|sector| sector[0]).collect::<Vec<_>>());
            outcomes.insert(sectors);
        }
        let expected = [None, Some(vec![]), Some(vec![0, 7]), Some(vec![7]), Some(vec![7, 7])];
        assert_eq!(outcomes, expected.into_iter().collect());
    }

    #[test]
    fn planted_faults_happen_once_and_a_crash_kills_handles() {
        let disk = SimDisk::new();
        let mut file = disk.create(Path::new("/d/a")).unwrap();
        disk.inject(2, Injected::Full);
        file.write_at(0, b"abcd").unwrap();
        let full = file.write_at(4, b"efgh").unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        file.write_at(8, b"x").unwrap();
        assert_eq!(content(&disk, "/d/a").unwrap(), b"abcdef\0\0x");
        disk.inject(1, Injected::Crash);
        assert!(file.sync().is_err());
        assert!(disk.list(Path::new("/d")).is_err(), "the machine is off");
        disk.crash(1);
        assert!(disk.list(Path::new("/d")).is_ok());
        assert!(file.write_at(0, b"z").is_err(), "a handle of before");
    }

    #[test]
    fn damage_is_gone_when_its_byte_is_for_sure() {
        let disk = SimDisk::new();
        let mut file = disk.create(Path::new("/d/a")).unwrap();
        file.write_at(0, b"abcd").unwrap();
        file.sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        disk.rot(Path::new("/d/a"), 1);
        disk.rot(Path::new("/d/a"), 3);
        file.set_len(2).unwrap();
        assert!(disk.is_damaged());
        file.sync().unwrap();
        assert!(disk.is_damaged(), "the other one is still there");
        disk.remove(Path::new("/d/a")).unwrap();
        assert!(disk.is_damaged() && disk.copy().is_damaged(), "the name may come back");
        disk.sync_dir(Path::new("/d")).unwrap();
        assert!(!disk.is_damaged());
    }

    #[test]
    fn slow_syncs_are_reported_once() {
        let disk = SimDisk::new();
        disk.slow_down(3, Duration::from_millis(50));
        let mut file = disk.create(Path::new("/d/a")).unwrap();
        file.sync().unwrap();
        let stall = disk.stall();
        assert!(stall > Duration::ZERO && stall < Duration::from_millis(50));
        assert_eq!(disk.stall(), Duration::ZERO);
    }
}
