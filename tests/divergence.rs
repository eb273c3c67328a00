//! A server whose tree differs from its leader's, in simulated time. The directory of one is damaged so that no checksum
//! shows it; it is found out by the next write, and healed.

#![allow(clippy::unwrap_used)] // these are tests

mod brains;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use brains::{A, ALL, B, C, Server, Wires, create_txn, in_simulated_time, link, stores};
use bytes::Bytes;
use slog::{Discard, Logger, o};
use tokio::time::sleep;
use zabra::disk::{Disk, SimDisk};
use zabra_actors::core::tree::Tree;
use zabra_actors::handle::FromPeer;
use zabra_actors::ports::{SnapStore, TxnStore};
use zabra_actors::types::{Deliver, Entry, Epoch, Epochs, Packet, Sid};

/// A directory with two znodes, the same log in all, and a snapshot of it in which `/a` says what `data` says.
fn directory(me: Sid, data: &'static str) -> SimDisk {
    let disk = SimDisk::new();
    let log = Logger::root(Discard, o!());
    let (mut txns, mut snaps) = stores(&disk, me, &log);
    txns.recover().unwrap();
    txns.save_epochs(Epochs { accepted: Epoch(1), current: Epoch(1) }).unwrap();
    let logged = [create_txn(1, "/a", "right"), create_txn(2, "/b", "right")];
    txns.append(&logged.map(Entry::new)).unwrap();
    txns.sync().unwrap();
    let mut tree = Tree::new();
    for txn in [create_txn(1, "/a", data), create_txn(2, "/b", "right")] {
        tree.apply(&txn, &mut Vec::new());
    }
    snaps.save(&tree).unwrap().unwrap();
    disk
}

/// Three servers, all linked; the data of A is damaged.
async fn ensemble(wires: &Wires) -> ([Server; 3], [SimDisk; 3]) {
    let disks = [directory(A, "wrong"), directory(B, "right"), directory(C, "right")];
    let servers = [0, 1, 2].map(|at| Server::start(ALL[at], &disks[at], wires));
    for server in &servers {
        link(server, &ALL);
    }
    for server in &servers {
        server.serves().await;
    }
    assert_eq!(servers[0].stats.leader.get(), i64::from(C.0));
    (servers, disks)
}

/// Is there a note that the tree is wrong?
fn is_noted(disk: &SimDisk) -> bool {
    let names = disk.list(Path::new("/data/version-2")).unwrap();
    names.iter().any(|(name, _)| name == ".diverged")
}

#[test]
fn damage_that_no_checksum_shows_is_found_by_the_next_write_and_healed() {
    in_simulated_time(async {
        let wires = Wires::new();
        let ([mut a, b, mut c], disks) = ensemble(&wires).await;
        assert_eq!(a.mismatches(), 0, "nobody has noticed yet");
        // A handshake is a write. Its client hears nothing of it: nobody is served from such a tree.
        let mut client = a.connect();
        assert_eq!(client.hear().await, [Deliver::Close]);
        a.until("aware", |a| a.mismatches() == 1).await;
        assert_eq!(a.lines.count("First digest mismatch on txn"), 1);
        assert_eq!(a.lines.count("a fresh snapshot of the leader will replace"), 1);
        a.until("healed", |a| a.lines.count("the tree is the leader's again") == 1).await;
        a.serves().await;
        c.create("/c").await;
        assert_eq!(a.data("/a").await, Some(Bytes::from_static(b"right")));
        assert!(!is_noted(&disks[0]), "what is healed is not noted");
        assert_eq!((a.mismatches(), b.mismatches(), c.mismatches()), (1, 0, 0));
        assert_eq!((c.stats.snap_count.get(), c.stats.looking_count.get()), (1, 1), "the others went on");
        assert_eq!(*a.faults.lock().unwrap(), [""; 0]);
    });
}

#[test]
fn the_need_for_a_snapshot_outlives_a_crash() {
    in_simulated_time(async {
        let wires = Wires::new();
        let ([a, b, mut c], disks) = ensemble(&wires).await;
        // Nothing of the snapshot comes through, nor what is behind it.
        let lost = AtomicBool::new(false);
        wires.tamper(move |_, to, packet| {
            lost.fetch_or(matches!(packet, Packet::SnapChunk(_)), Relaxed);
            (to != A || !lost.load(Relaxed)).then(|| packet.clone())
        });
        c.create("/c").await;
        a.until("aware", |a| a.mismatches() == 1).await;
        c.until("sending a snapshot", |c| c.stats.snap_count.get() == 1).await;
        assert!(is_noted(&disks[0]));
        assert_eq!(a.lines.count("the tree is the leader's again"), 0, "it does not come through");

        // The power fails, before anything is installed. The note has survived, and so has its meaning.
        for crash in 0..2 {
            wires.set(A, None);
            if crash == 0 {
                a.running.halt();
            }
            for peer in [&b, &c] {
                peer.running.brain.peers.do_send(FromPeer::LinkDown(A));
            }
            sleep(Duration::from_millis(100)).await;
            disks[0].crash(crash);
            assert!(is_noted(&disks[0]), "crash {crash}");
        }
        wires.tamper(|_, _, packet| Some(packet.clone()));
        let mut a = Server::start(A, &disks[0], &wires);
        link(&a, &ALL);
        link(&b, &[A]);
        link(&c, &[A]);
        a.serves().await;
        assert_eq!((a.lines.count("the tree is the leader's again"), c.stats.snap_count.get()), (1, 2));
        assert_eq!(a.mismatches(), 0, "no write was needed to find out again");
        assert_eq!(a.data("/a").await, Some(Bytes::from_static(b"right")));
        assert!(!is_noted(&disks[0]));
    });
}

#[test]
fn a_tree_that_is_wrong_again_at_once_stops_the_server() {
    in_simulated_time(async {
        let wires = Wires::new();
        let ([a, b, mut c], _disks) = ensemble(&wires).await;
        // As if A computed another digest than the others, whatever it is given.
        wires.tamper(|_, to, packet| {
            let Packet::Proposal(entry) = packet else { return Some(packet.clone()) };
            if to != A {
                return Some(packet.clone());
            }
            let mut txn = entry.txn.clone();
            txn.digest.as_mut().unwrap().tree ^= 1;
            Some(Packet::Proposal(Entry::new(txn)))
        });
        // Two transactions: the session and the znode. Between them a snapshot.
        c.create("/c").await;
        a.until("stopped", |a| !a.faults.lock().unwrap().is_empty()).await;
        let faults = a.faults.lock().unwrap().clone();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].contains("the tree differs from the leader's again"), "{faults:?}");
        assert_eq!((a.mismatches(), b.mismatches(), c.mismatches()), (2, 0, 0));
        assert_eq!(a.lines.count("the tree is the leader's again"), 1);
        c.create("/e").await; // the others go on
    });
}

#[test]
fn who_is_in_doubt_of_its_tree_leaves_the_election_to_others() {
    in_simulated_time(async {
        let wires = Wires::new();
        // The greatest id has the damage and the note: with equal logs it would win.
        let disks = [directory(A, "right"), directory(B, "right"), directory(C, "wrong")];
        stores(&disks[2], C, &Logger::root(Discard, o!())).0.distrust().unwrap();
        let servers = [0, 1, 2].map(|at| Server::start(ALL[at], &disks[at], &wires));
        for server in &servers {
            link(server, &ALL);
        }
        for server in &servers {
            server.serves().await;
        }
        let [.., b, mut c] = servers;
        assert_eq!((b.stats.leader.get(), b.stats.snap_count.get()), (i64::from(B.0), 1));
        assert_eq!(c.data("/a").await, Some(Bytes::from_static(b"right")));
    });
}

#[test]
fn who_is_in_doubt_of_its_tree_stands_when_the_others_cannot_do_without_it() {
    in_simulated_time(async {
        let wires = Wires::new();
        let disks = [directory(A, "right"), directory(C, "wrong")];
        stores(&disks[1], C, &Logger::root(Discard, o!())).0.distrust().unwrap();
        let servers = [(A, &disks[0]), (C, &disks[1])].map(|(sid, disk)| Server::start(sid, disk, &wires));
        for server in &servers {
            link(server, &[A, C]);
        }
        for server in &servers {
            server.serves().await;
        }
        let [_, c] = servers;
        assert_eq!(c.lines.count("the others have found no leader"), 1);
        assert_eq!(c.lines.count("this server leads although its tree has once differed"), 1);
    });
}
