//! kill -9 of real processes at random moments, again and again: what was acknowledged is there, in order, without
//! holes, and nothing else is.
//!
//! Two kinds of processes are killed. One drives the stores alone, as fast as it can: it appends, syncs, rolls, cuts,
//! takes leaders' snapshots over and, on another thread, writes snapshots and purges; it says what it is about to do
//! and what is done, and a model says what may be found. The other is a whole server under the load of clients.
//!
//! `ZABRA_KILL_ROUNDS=5000 cargo nextest run --release --test kill` goes on for longer. A failure prints its seed;
//! `ZABRA_KILL_SEED` begins with it.

#![allow(clippy::unwrap_used)] // these are tests

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use common::{Ensemble, START_TIMEOUT};
use slog::{Discard, Logger, o};
use tokio::sync::watch;
use zabra::client::{Client, CreateMode, Error, Options, create_op, set_data_op};
use zabra::disk::{DiskSettings, FileSnapStore, FileTxnStore, RealDisk, open};
use zabra_actors::core::tree::Tree;
use zabra_actors::ports::{SnapStore, TxnStore};
use zabra_actors::types::{
    Acl, CreateKind, Entry, Epoch, Epochs, SessionId, Sid, Txn, TxnBody, TxnHeader, Zxid, perms,
};

/// Where the process that drives the stores is told its directory and its seed.
const DIR: &str = "ZABRA_KILL_DIR";
const SEED: &str = "ZABRA_KILL_CHILD_SEED";

/// Rounds with the stores, unless somebody wants more; a fifth of them with a whole server.
const ROUNDS: u64 = 200;

fn rounds() -> u64 {
    std::env::var("ZABRA_KILL_ROUNDS").ok().map_or(ROUNDS, |text| text.parse().unwrap())
}

fn first_seed() -> u64 {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    std::env::var("ZABRA_KILL_SEED").ok().map_or(clock.as_nanos() as u64 / 1000, |text| text.parse().unwrap())
}

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

fn stores(dir: &Path) -> (FileTxnStore, FileSnapStore) {
    let settings = DiskSettings { preallocate: 16 << 10, ..DiskSettings::new(dir, Sid(1)) };
    open(Arc::new(RealDisk), settings, Logger::root(Discard, o!())).unwrap()
}

/// A transaction that leaves its zxid in the tree; some are longer than a page.
fn create(zxid: Zxid) -> Arc<Entry> {
    let header = TxnHeader { session: SessionId::NONE, cxid: 0, zxid, time: 1_700_000_000_000 };
    let data = vec![zxid.counter() as u8; (zxid.counter() as usize * 211) % 6000];
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

fn zxids_of(tree: &Tree) -> Vec<Zxid> {
    let mut found = Vec::new();
    tree.walk(&mut |node| {
        if let Ok(zxid) = i64::from_str_radix(node.path.trim_start_matches('/'), 16) {
            found.push(Zxid(zxid));
        }
    });
    found.sort();
    found
}

fn next(last: Zxid, epoch: u32) -> Zxid {
    if last.epoch() == Epoch(epoch) { last.next() } else { Zxid::new(Epoch(epoch), 1) }
}

/// The process that is killed. It says each step before it, and when it is done, on a line of its own.
struct Driver {
    txns: FileTxnStore,
    /// To the thread with the other store, and back.
    saves: Sender<Job>,
    saved: Receiver<()>,
    saving: bool,
    tree: Tree,
    epoch: u32,
    rng: Rng,
}

enum Job {
    Save(Box<Tree>),
    Install(Box<Tree>),
}

fn say(line: String) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "@{line}").unwrap();
    out.flush().unwrap();
}

impl Driver {
    fn start(dir: &Path, seed: u64) -> Driver {
        let (mut txns, mut snaps) = stores(dir);
        let found = txns.recover().unwrap();
        let (saves, jobs) = channel();
        let (done, saved) = channel();
        std::thread::spawn(move || {
            for job in jobs {
                match job {
                    Job::Save(tree) => drop(snaps.save(&tree).unwrap()),
                    Job::Install(leader) => {
                        let pieces = snaps.pieces(leader.clone());
                        pieces.for_each(|piece| snaps.receive(piece).unwrap());
                        snaps.install(leader.zxid()).unwrap().expect("these are a leader's bytes");
                    }
                }
                done.send(()).unwrap();
            }
        });
        let epoch = found.epochs.accepted.0.max(1);
        Driver { txns, saves, saved, saving: false, tree: found.tree, epoch, rng: Rng(seed) }
    }

    fn wait_for_snapshots(&mut self) {
        if std::mem::take(&mut self.saving) {
            self.saved.recv().unwrap();
        }
    }

    fn run(mut self) {
        self.next_epoch();
        say("ready".to_string());
        loop {
            match self.rng.below(100) {
                0..45 => self.append(),
                45..75 => self.sync(),
                75..83 => self.save(),
                83..89 => self.roll(),
                89..94 => self.truncate(),
                94..97 => self.next_epoch(),
                _ => self.install(),
            }
        }
    }

    fn append(&mut self) {
        let count = 1 + self.rng.below(5);
        say(format!("append {count} {}", self.epoch));
        let entries: Vec<_> = (0..count)
            .map(|_| {
                let entry = create(next(self.tree.zxid(), self.epoch));
                self.tree.apply(&entry.txn, &mut Vec::new());
                entry
            })
            .collect();
        self.txns.append(&entries).unwrap();
    }

    fn sync(&mut self) {
        self.txns.sync().unwrap();
        say("synced".to_string());
    }

    fn roll(&mut self) {
        self.txns.roll().unwrap();
        say("synced".to_string());
    }

    /// As the server does: the log is durable and rolled before the tree is saved.
    fn save(&mut self) {
        self.wait_for_snapshots();
        self.roll();
        self.saves.send(Job::Save(Box::new(self.tree.clone()))).unwrap();
        self.saving = true;
    }

    fn truncate(&mut self) {
        self.wait_for_snapshots();
        let all = zxids_of(&self.tree);
        let Some(to) = all.len().checked_sub(1 + self.rng.below(6) as usize).and_then(|at| all.get(at))
        else {
            return;
        };
        say(format!("truncate {}", to.0));
        self.txns.truncate(*to).unwrap();
        say("truncated".to_string());
        self.tree = self.txns.reload().unwrap();
        assert_eq!(zxids_of(&self.tree).last(), Some(to));
    }

    fn next_epoch(&mut self) {
        self.epoch += 1;
        let epochs = Epochs { accepted: Epoch(self.epoch), current: Epoch(self.epoch) };
        self.txns.save_epochs(epochs).unwrap();
    }

    /// A leader of the next epoch has some of ours and some of its own.
    fn install(&mut self) {
        self.wait_for_snapshots();
        let own = zxids_of(&self.tree);
        let keep = self.rng.below(own.len() as u64 + 1) as usize;
        let count = 1 + self.rng.below(9);
        let mut leader = Tree::new();
        own[..keep].iter().for_each(|zxid| drop(leader.apply(&create(*zxid).txn, &mut Vec::new())));
        for _ in 0..count {
            let zxid = next(leader.zxid(), self.epoch + 1);
            leader.apply(&create(zxid).txn, &mut Vec::new());
        }
        self.epoch += 1;
        let epochs = Epochs { accepted: Epoch(self.epoch), current: Epoch(self.epoch - 1) };
        self.txns.save_epochs(epochs).unwrap();
        say(format!("install {keep} {count} {}", self.epoch));
        self.saves.send(Job::Install(Box::new(leader.clone()))).unwrap();
        self.saved.recv().unwrap();
        self.txns.reset(leader.zxid()).unwrap();
        self.tree = leader;
        say("installed".to_string());
        self.txns.save_epochs(Epochs { accepted: Epoch(self.epoch), current: Epoch(self.epoch) }).unwrap();
    }
}

/// Not a test of its own: what the other one starts.
#[test]
fn driver() {
    if let Some(dir) = std::env::var_os(DIR) {
        let seed = std::env::var(SEED).unwrap().parse().unwrap();
        Driver::start(Path::new(&dir), seed).run();
    }
}

/// What may be found: at least `low`, at most `high`.
#[derive(Clone, Debug)]
struct Bounds {
    low: Vec<Zxid>,
    high: Vec<Zxid>,
}

/// What the driver has said, and what that allows.
struct Model {
    bounds: Bounds,
    /// A step that was begun: when it is done, this is what there is; until then it may be.
    instead: Option<Bounds>,
}

impl Model {
    fn exactly(zxids: Vec<Zxid>) -> Model {
        Model { bounds: Bounds { low: zxids.clone(), high: zxids }, instead: None }
    }

    fn hear(&mut self, line: &str) {
        let words: Vec<_> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<i64>().unwrap();
        let Bounds { low, high } = &mut self.bounds;
        match words[0] {
            "append" => {
                for _ in 0..number(1) {
                    let zxid = next(high.last().copied().unwrap_or(Zxid::ZERO), number(2) as u32);
                    high.push(zxid);
                }
            }
            "synced" => low.clone_from(high),
            "truncate" => {
                high.iter().position(|zxid| zxid.0 == number(1)).expect("only to what is there");
                let kept: Vec<_> = high.iter().copied().filter(|zxid| zxid.0 <= number(1)).collect();
                // What was appended is made durable first, and then all of it or only a part of it may be gone.
                low.retain(|zxid| zxid.0 <= number(1));
                self.instead = Some(Bounds { low: kept.clone(), high: kept });
            }
            "install" => {
                let mut leader = high[..number(1) as usize].to_vec();
                for _ in 0..number(2) {
                    leader.push(next(leader.last().copied().unwrap_or(Zxid::ZERO), number(3) as u32));
                }
                self.instead = Some(Bounds { low: leader.clone(), high: leader });
            }
            "truncated" | "installed" => self.bounds = self.instead.take().expect("it was begun"),
            "ready" => {}
            other => panic!("the driver says {other:?}"),
        }
    }

    fn admits(&self, found: &[Zxid]) -> bool {
        let fits = |bounds: &Bounds| found.starts_with(&bounds.low) && bounds.high.starts_with(found);
        fits(&self.bounds) || self.instead.as_ref().is_some_and(fits)
    }
}

fn spawn_driver(dir: &Path, seed: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["driver", "--exact", "--nocapture"])
        .env(DIR, dir)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

#[test]
fn stores_that_are_killed_keep_what_they_promised() {
    // Where an fsync costs nothing more happens between two kills; a kill loses nothing that was written anyway.
    let shm = Path::new("/dev/shm");
    let place = if shm.is_dir() { shm.to_path_buf() } else { std::env::temp_dir() };
    let temp = tempfile::tempdir_in(place).unwrap();
    let dir = temp.path();
    let first = first_seed();
    let mut found = Vec::new();
    let (mut steps, mut most) = (0, 0);
    for seed in first..first + rounds() {
        let mut model = Model::exactly(found);
        let mut driver = spawn_driver(dir, seed);
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let mut rng = Rng(seed ^ 0x5eed);
        let fuse = Duration::from_micros(rng.below(60_000));
        let (armed, ready) = channel();
        let id = rustix::process::Pid::from_child(&driver);
        let killer = std::thread::spawn(move || {
            if ready.recv().is_ok() {
                std::thread::sleep(fuse); // the moment is random on purpose
                rustix::process::kill_process(id, rustix::process::Signal::KILL).unwrap();
            }
        });
        for line in lines.map_while(Result::ok) {
            // What the test harness prints itself is not meant.
            let Some((_, line)) = line.split_once('@') else { continue };
            if line == "ready" {
                armed.send(()).unwrap();
            }
            model.hear(line);
            steps += 1;
        }
        drop(armed);
        killer.join().unwrap();
        driver.wait().unwrap();
        let recovered = stores(dir).0.recover().unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
        assert!(!recovered.doubtful, "seed {seed}: a kill damages nothing");
        found = zxids_of(&recovered.tree);
        assert!(
            model.admits(&found),
            "seed {seed}: found {found:?}\nbut it may be {:?}\nor {:?}",
            model.bounds,
            model.instead
        );
        let epochs = recovered.epochs;
        let last = found.last().copied().unwrap_or(Zxid::ZERO);
        assert!(
            last.epoch() <= epochs.current && epochs.current <= epochs.accepted,
            "seed {seed}: {epochs:?}"
        );
        most = most.max(found.len());
    }
    println!("{} rounds, {steps} steps, up to {most} transactions", rounds());
}

async fn connect(hosts: &str) -> Client {
    Client::connect(Options::new(hosts).unwrap().connect_timeout(START_TIMEOUT)).await.unwrap()
}

/// What a client has been told, and what it has asked for.
#[derive(Default)]
struct Told {
    acknowledged: i64,
    asked: i64,
    creates_acknowledged: u64,
    creates_asked: u64,
    /// What was created before is deleted.
    deleted: u64,
}

/// Writes as fast as it can until the connection breaks or it is stopped: rising numbers into one znode, and new znodes
/// below it.
async fn write(hosts: String, path: String, mut told: Told, mut stopped: watch::Receiver<bool>) -> Told {
    let writing = async {
        let client = connect(&hosts).await;
        loop {
            let mut waiting = Vec::new();
            for _ in 0..8 {
                told.asked += 1;
                told.creates_asked += 1;
                let set = set_data_op(&path, told.asked.to_string(), None);
                let child = format!("{path}/{:08}", told.creates_asked);
                let create = create_op(&child, "x", CreateMode::Persistent, vec![Acl::world(perms::ALL)]);
                let sent = (client.submit(set).await?, client.submit(create).await?);
                waiting.push((sent, told.asked, told.creates_asked));
            }
            for ((set, create), asked, creates_asked) in waiting {
                set.await?.result.expect("nothing is wrong with it");
                told.acknowledged = asked;
                create.await?.result.expect("nothing is wrong with it");
                told.creates_acknowledged = creates_asked;
            }
        }
    };
    let lost: Result<(), Error> = tokio::select! {
        lost = writing => lost,
        _ = stopped.wait_for(|stopped| *stopped) => Ok(()),
    };
    drop(lost); // that is what was waited for
    told
}

#[tokio::test]
async fn a_server_that_is_killed_keeps_what_it_has_acknowledged() {
    const CLIENTS: usize = 3;
    let mut ensemble = Ensemble::new(1, 0);
    // Snapshots and purges all the time.
    ensemble.configure(|text| {
        text.replace(
            "[timing]",
            "[storage]\nsnap_count = 60\nprealloc = \"64KiB\"\nmin_free = \"0B\"\n[timing]",
        )
    });
    ensemble.spawn(1);
    ensemble.wait_serving();
    let hosts = ensemble.hosts();
    let paths: Vec<_> = (0..CLIENTS).map(|client| format!("/client-{client}")).collect();
    let client = connect(&hosts).await;
    for path in &paths {
        client.create(path, "0", CreateMode::Persistent).await.unwrap();
    }
    drop(client);
    let mut told: Vec<Told> = paths.iter().map(|_| Told::default()).collect();
    let mut rng = Rng(first_seed());
    let rounds = rounds() / 5;
    for round in 0..rounds {
        let (stop, stopped) = watch::channel(false);
        let writers: Vec<_> = (paths.iter().zip(told.drain(..)))
            .map(|(path, told)| tokio::spawn(write(hosts.clone(), path.clone(), told, stopped.clone())))
            .collect();
        tokio::time::sleep(Duration::from_micros(rng.below(150_000))).await; // the moment is random on purpose
        ensemble.kill(1);
        stop.send(true).unwrap();
        for writer in writers {
            told.push(writer.await.unwrap());
        }
        ensemble.spawn(1);
        ensemble.wait_serving();
        let client = connect(&hosts).await;
        for (path, told) in paths.iter().zip(&mut told) {
            let (data, _) = client.get_data(path, false).await.unwrap();
            let value: i64 = String::from_utf8(data.unwrap().to_vec()).unwrap().parse().unwrap();
            assert!(
                (told.acknowledged..=told.asked).contains(&value),
                "round {round}: {path} is {value}, acknowledged was {}, asked for {}",
                told.acknowledged,
                told.asked
            );
            let (names, _) = client.get_children(path, false).await.unwrap();
            let mut numbers: Vec<u64> = names.iter().map(|name| name.parse().unwrap()).collect();
            numbers.sort_unstable();
            let newest = numbers.last().copied().unwrap_or(told.deleted);
            assert!(
                (told.creates_acknowledged..=told.creates_asked).contains(&newest),
                "round {round}: {path} has {newest}, acknowledged was {}",
                told.creates_acknowledged
            );
            let expected: Vec<_> = (told.deleted + 1..=newest).collect();
            assert_eq!(numbers, expected, "round {round}: {path} has no holes");
            (told.acknowledged, told.asked) = (value, value);
            (told.creates_acknowledged, told.creates_asked) = (newest, newest);
            told.deleted = newest;
            // Small trees make quick starts.
            for number in numbers {
                client.delete(&format!("{path}/{number:08}"), None).await.unwrap();
            }
        }
        client.close().await.unwrap();
    }
}
