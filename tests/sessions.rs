//! How sessions end that are silent, in simulated time: the time goes by the role to the session tracker, its verdict to
//! the replica, and a closeSession of that through the log to all.

#![allow(clippy::unwrap_used)] // these are tests

mod brains;

use std::time::Duration;

use brains::{ALL, C, Server, Wires, in_simulated_time, link};
use tokio::time::sleep;
use zabra::disk::SimDisk;
use zabra_actors::types::Deliver;

/// The time-out that clients ask for here.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A tick: the end of a session is rounded up to one, and the verdict spoken a moment later.
const TICK: Duration = Duration::from_millis(500);

/// Three servers in step.
async fn ensemble(wires: &Wires) -> [Server; 3] {
    let servers = ALL.map(|sid| Server::start(sid, &SimDisk::new(), wires));
    for server in &servers {
        link(server, &ALL);
    }
    for server in &servers {
        server.serves().await;
    }
    assert_eq!(servers[0].stats.leader.get(), i64::from(C.0));
    servers
}

#[test]
fn the_leader_ends_silent_sessions_wherever_they_are() {
    in_simulated_time(async {
        let mut servers = ensemble(&Wires::new()).await;
        let mut clients = Vec::new();
        for server in &mut servers {
            let mut client = server.connect();
            assert!(matches!(&client.hear().await[..], [Deliver::Connected(_), ..]));
            clients.push(client);
        }
        let before = servers[2].stats.last_zxid.get();
        sleep(TIMEOUT - TICK).await;
        let ended = |server: &Server| server.lines.count("Expiring session");
        assert_eq!(servers.each_ref().map(ended), [0, 0, 0], "nobody is silent for too long");
        sleep(3 * TICK).await;
        assert_eq!(servers.each_ref().map(ended), [0, 0, 3], "the leader judges, and nobody else");
        for server in &servers {
            assert_eq!(
                server.stats.last_zxid.get(),
                before + 3,
                "server {}: each is a transaction",
                server.me
            );
        }
        for client in &mut clients {
            assert_eq!(client.hear().await, [Deliver::Close]);
        }
    });
}

/// Twice in a turn would be once too often: the verdict on one tick, spoken at the next, must leave time to hear what
/// had come by the first.
#[test]
fn the_tracker_is_told_the_time_once_a_tick_whatever_the_role() {
    in_simulated_time(async {
        let servers = ensemble(&Wires::new()).await;
        let told = |server: &Server| server.stats.session_tracker.messages.get();
        sleep(Duration::from_secs(1)).await;
        let before = servers.each_ref().map(told);
        sleep(Duration::from_secs(10)).await;
        for (server, before) in servers.iter().zip(before) {
            // Twenty times a second. Learners are asked for their notes besides, four times a second.
            let expected = if server.me == C { 200 } else { 240 };
            let times = told(server) - before;
            assert!(times.abs_diff(expected) <= 2, "server {}: {times} times in ten seconds", server.me);
        }
    });
}
