//! A snapshot on its way to a learner, in simulated time: few pieces are under way at any moment, whatever the learner
//! does, and nobody else waits for it.

#![allow(clippy::unwrap_used)] // these are tests

mod brains;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use brains::{A, ALL, B, C, Server, Wires, create_txn, in_simulated_time, link, stores};
use bytes::Bytes;
use slog::{Discard, Logger, o};
use tokio::time::{Instant, sleep};
use zabra::disk::SimDisk;
use zabra_actors::core::tree::Tree;
use zabra_actors::handle::FromPeer;
use zabra_actors::ports::{SnapStore, TxnStore};
use zabra_actors::types::{Entry, Epoch, Epochs, Packet, SNAP_WINDOW, Sid};

/// Znodes in the snapshot, and bytes of each: together some 75 pieces.
const ZNODES: u32 = 80;
const BYTES: usize = 60_000;

fn log() -> Logger {
    Logger::root(Discard, o!())
}

/// A directory with a snapshot of many pieces, and no log that would make up for it.
fn directory(me: Sid) -> SimDisk {
    let disk = SimDisk::new();
    let (mut txns, mut snaps) = stores(&disk, me, &log());
    txns.recover().unwrap();
    txns.save_epochs(Epochs { accepted: Epoch(1), current: Epoch(1) }).unwrap();
    let mut tree = Tree::new();
    for counter in 1..=ZNODES {
        let txn = create_txn(counter, &format!("/n{counter}"), Bytes::from(vec![counter as u8; BYTES]));
        tree.apply(&txn, &mut Vec::new());
        txns.append(&[Entry::new(txn)]).unwrap();
    }
    txns.sync().unwrap();
    snaps.save(&tree).unwrap().unwrap();
    disk
}

/// What is under way to A.
#[derive(Default)]
struct Pieces {
    /// Sent, in all.
    sent: AtomicU64,
    /// Sent, and not said to be on the disk.
    in_flight: AtomicI64,
    /// The most there ever were.
    most: AtomicI64,
    /// What A says of pieces is lost.
    lost: AtomicBool,
}

impl Pieces {
    fn watch(self: &Arc<Self>, wires: &Wires) {
        let pieces = self.clone();
        wires.tamper(move |from, to, packet| match packet {
            Packet::SnapChunk(piece) if to == A && !piece.is_empty() => {
                pieces.sent.fetch_add(1, Relaxed);
                let in_flight = pieces.in_flight.fetch_add(1, Relaxed) + 1;
                pieces.most.fetch_max(in_flight, Relaxed);
                Some(packet.clone())
            }
            // Another one: what was under way of the last is nobody's any more.
            Packet::SnapSize { .. } if to == A => {
                pieces.in_flight.store(0, Relaxed);
                Some(packet.clone())
            }
            Packet::SnapTaken { .. } if from == A && pieces.lost.load(Relaxed) => None,
            Packet::SnapTaken { pieces: taken } if from == A => {
                pieces.in_flight.fetch_sub(i64::from(*taken), Relaxed);
                Some(packet.clone())
            }
            _ => Some(packet.clone()),
        });
    }
}

/// B and C serve, with a tree of many pieces, and C leads.
async fn two_of_three(wires: &Wires) -> [Server; 2] {
    let servers = [B, C].map(|sid| Server::start(sid, &directory(sid), wires));
    for server in &servers {
        link(server, &[B, C]);
    }
    for server in &servers {
        server.serves().await;
    }
    servers
}

#[test]
fn few_pieces_are_under_way_at_a_time() {
    in_simulated_time(async {
        let (wires, pieces) = (Wires::new(), Arc::new(Pieces::default()));
        let [b, c] = two_of_three(&wires).await;
        pieces.watch(&wires);
        let disk = SimDisk::new();
        let mut a = Server::start(A, &disk, &wires);
        link(&a, &ALL);
        link(&b, &[A]);
        link(&c, &[A]);
        a.serves().await;
        let (sent, most) = (pieces.sent.load(Relaxed), pieces.most.load(Relaxed));
        assert!(sent > 2 * u64::from(SNAP_WINDOW), "{sent} pieces");
        assert_eq!(most, i64::from(SNAP_WINDOW));
        assert_eq!(a.data("/n80").await, Some(Bytes::from(vec![80; BYTES])));
        assert_eq!((c.lines.count("Sent snapshot"), a.lines.count("Getting a snapshot from leader")), (1, 1));
    });
}

#[test]
fn a_learner_that_stands_still_costs_the_others_nothing() {
    in_simulated_time(async {
        let (wires, pieces) = (Wires::new(), Arc::new(Pieces::default()));
        let [mut b, mut c] = two_of_three(&wires).await;
        pieces.watch(&wires);
        pieces.lost.store(true, Relaxed);
        let disk = SimDisk::new();
        let a = Server::start(A, &disk, &wires);
        link(&a, &ALL);
        link(&b, &[A]);
        link(&c, &[A]);
        c.until("sending", |c| c.stats.snap_count.get() == 1).await;
        // Longer than a leader or a follower may be silent, and shorter than init_limit.
        let (began, mut round) = (Instant::now(), 0);
        while began.elapsed() < Duration::from_secs(4) {
            sleep(Duration::from_millis(250)).await;
            b.create(&format!("/b{round}")).await;
            c.create(&format!("/c{round}")).await;
            round += 1;
        }
        assert_eq!(pieces.sent.load(Relaxed), u64::from(SNAP_WINDOW), "no more than nobody has taken");
        assert_eq!((b.stats.looking_count.get(), c.stats.looking_count.get()), (1, 1), "they went on");

        // It never speaks: it is dropped, and what was sent for it stops. Then it tries again.
        c.until("dropping it", |c| {
            c.lines.count("no piece of its snapshot was taken within init_limit") == 1
        })
        .await;
        assert_eq!(c.lines.count("stopped sending a snapshot"), 1);
        pieces.lost.store(false, Relaxed);
        a.serves().await;
        assert!(c.stats.snap_count.get() >= 2);
        assert_eq!(pieces.most.load(Relaxed), i64::from(SNAP_WINDOW));
    });
}

#[test]
fn a_learner_that_dies_in_the_middle_starts_again_cleanly() {
    in_simulated_time(async {
        let (wires, pieces) = (Wires::new(), Arc::new(Pieces::default()));
        let [b, c] = two_of_three(&wires).await;
        pieces.watch(&wires);
        pieces.lost.store(true, Relaxed);
        let disk = SimDisk::new();
        let a = Server::start(A, &disk, &wires);
        link(&a, &ALL);
        link(&b, &[A]);
        link(&c, &[A]);
        c.until("sending", |c| c.stats.snap_count.get() == 1).await;
        sleep(Duration::from_millis(500)).await;

        // Its power fails, and the others see the links go: nothing more is sent to nobody.
        wires.set(A, None);
        a.running.halt();
        for peer in [&b, &c] {
            peer.running.brain.peers.do_send(FromPeer::LinkDown(A));
        }
        c.until("stopping", |c| c.lines.count("stopped sending a snapshot") == 1).await;
        let sent = pieces.sent.load(Relaxed);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(pieces.sent.load(Relaxed), sent);
        disk.crash(7);

        pieces.lost.store(false, Relaxed);
        let mut a = Server::start(A, &disk, &wires);
        link(&a, &ALL);
        link(&b, &[A]);
        link(&c, &[A]);
        a.serves().await;
        for counter in [1, 37, 80] {
            let data = a.data(&format!("/n{counter}")).await;
            assert_eq!(data, Some(Bytes::from(vec![counter; BYTES])));
        }
        assert_eq!((c.stats.snap_count.get(), c.lines.count("Sent snapshot")), (2, 1));
    });
}

#[test]
fn a_leader_that_stands_down_stops_sending() {
    in_simulated_time(async {
        let (wires, pieces) = (Wires::new(), Arc::new(Pieces::default()));
        let [b, c] = two_of_three(&wires).await;
        pieces.watch(&wires);
        pieces.lost.store(true, Relaxed);
        let disk = SimDisk::new();
        let a = Server::start(A, &disk, &wires);
        link(&a, &ALL);
        link(&b, &[A]);
        link(&c, &[A]);
        c.until("sending", |c| c.stats.snap_count.get() == 1).await;
        // B dies, and A has no vote for it to lead with before it has come with its history.
        b.running.halt();
        wires.set(B, None);
        wires.set(A, None);
        for gone in [A, B] {
            c.running.brain.peers.do_send(FromPeer::LinkDown(gone));
        }
        c.until("looking", |c| c.stats.looking_count.get() == 2).await;
        assert_eq!(c.lines.count("stopped sending a snapshot"), 1);
        let sent = pieces.sent.load(Relaxed);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(pieces.sent.load(Relaxed), sent);
    });
}
