//! Limits that are off by default: on requests at a time, on large requests, on handshakes.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use zabra::net::{ClientSettings, ConnectionThrottle, LargeRequests, RequestThrottle};
use zabra_actors::jute::opcode;
use zabra_actors::types::{Deliver, Op, Request};

use super::clients::{
    Server, assert_closed, connect_frame, exists, ok, pings, read_xid, requests, response, settings, xids,
};
use super::soon;

/// Requests of all may be two at a time; who waits is looked at often.
fn two_at_a_time() -> RequestThrottle {
    RequestThrottle {
        max_requests: 2,
        stall_time: Duration::from_millis(5),
        drop_stale: true,
        stale_connection_check: true,
        stale_latency_check: false,
        op_wait_time: None,
    }
}

fn throttled(throttle: RequestThrottle) -> Server {
    Server::start(ClientSettings { request_throttle: Some(throttle), ..settings() })
}

/// Returns when that holds.
async fn until(holds: impl Fn() -> bool) {
    soon(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

async fn write(socket: &mut TcpStream, bytes: &[u8]) {
    socket.write_all(bytes).await.expect("written");
}

/// The next requests, of as many messages as it takes.
async fn next(server: &mut Server, count: usize) -> Vec<Request> {
    let mut all = Vec::new();
    while all.len() < count {
        all.append(&mut server.next_requests().await);
    }
    assert_eq!(all.len(), count, "{all:?}");
    all
}

#[actix_rt::test]
async fn requests_wait_at_the_door_in_the_order_in_which_they_came() {
    let mut server = throttled(two_at_a_time());
    let (mut first, first_sink, _) = server.client().await;
    let (mut second, second_sink, _) = server.client().await;
    write(&mut first, &pings(1..4)).await;
    assert_eq!(xids(&next(&mut server, 2).await), [1, 2]);
    write(&mut second, &pings(11..13)).await;
    until(|| server.stats.request_throttle_wait_count.get() > 2).await;
    server.clients.assert_silent().await;

    first_sink.deliver(vec![ok(1)]);
    assert_eq!(xids(&next(&mut server, 1).await), [3], "it came first");
    server.clients.assert_silent().await;
    first_sink.deliver(vec![ok(2)]);
    assert_eq!(xids(&next(&mut server, 1).await), [11]);
    first_sink.deliver(vec![ok(3)]);
    assert_eq!(xids(&next(&mut server, 1).await), [12]);
    second_sink.deliver(vec![ok(11), ok(12)]);
    for xid in [11, 12] {
        assert_eq!(read_xid(&mut second).await, xid);
    }
    assert_eq!(server.stats.request_throttle_queue_time_us.snapshot().count, 5);
    assert_eq!((server.stats.throttled_ops.get(), server.stats.stale_requests_dropped.get()), (0, 0));
}

#[actix_rt::test]
async fn who_leaves_makes_room() {
    let mut server = throttled(two_at_a_time());
    let (mut first, sink, conn) = server.client().await;
    let (mut second, _second_sink, _) = server.client().await;
    write(&mut first, &pings(1..3)).await;
    next(&mut server, 2).await;
    write(&mut second, &pings(11..14)).await;
    until(|| server.stats.request_throttle_wait_count.get() > 0).await;
    drop((first, sink));
    server.assert_disconnected(conn).await;
    assert_eq!(xids(&next(&mut server, 2).await), [11, 12]);
    server.clients.assert_silent().await;
}

#[actix_rt::test]
async fn a_request_that_waits_for_too_long_is_throttled() {
    let wait = Duration::from_millis(20);
    let mut server = throttled(RequestThrottle { op_wait_time: Some(wait), ..two_at_a_time() });
    let (mut first, sink, _) = server.client().await;
    write(&mut first, &requests(&[(1, exists("/a")), (2, exists("/b")), (3, exists("/c")), (4, Op::Ping)]))
        .await;
    let passed = next(&mut server, 2).await;
    assert!(passed.iter().all(|request| matches!(request.op, Op::Exists { .. })), "these did not wait");
    let queued = tokio::time::Instant::now();
    until(|| queued.elapsed() > wait).await;
    sink.deliver(vec![ok(1), ok(2)]);
    let late = next(&mut server, 2).await;
    assert_eq!(late[0].op, Op::Throttled { opcode: opcode::EXISTS });
    assert_eq!((late[0].xid, &late[1].op), (3, &Op::Ping), "whether a session lives is not put off");
    assert_eq!(server.stats.throttled_ops.get(), 1);
}

#[actix_rt::test]
async fn a_request_whose_client_is_gone_is_dropped_with_its_connection() {
    let mut server = throttled(two_at_a_time());
    let (mut first, sink, _) = server.client().await;
    write(&mut first, &pings(1..3)).await;
    next(&mut server, 2).await;

    let (mut gone, _gone_sink, gone_conn) = server.client().await;
    write(&mut gone, &pings(11..14)).await;
    until(|| server.stats.request_throttle_wait_count.get() > 0).await;
    gone.shutdown().await.expect("half closed");
    server.assert_disconnected(gone_conn).await;
    assert_eq!(server.stats.stale_requests_dropped.get(), 1, "what was behind it went with it");

    // Somebody else still gets in.
    let (mut other, _other_sink, _) = server.client().await;
    write(&mut other, &pings(21..22)).await;
    sink.deliver(vec![ok(1)]);
    assert_eq!(xids(&next(&mut server, 1).await), [21]);
}

#[actix_rt::test]
async fn a_close_session_outlives_its_connection() {
    let mut server = throttled(two_at_a_time());
    let (mut first, sink, _) = server.client().await;
    write(&mut first, &pings(1..3)).await;
    next(&mut server, 2).await;
    let (mut leaving, _leaving_sink, _) = server.client().await;
    write(&mut leaving, &requests(&[(11, Op::CloseSession)])).await;
    leaving.shutdown().await.expect("half closed");
    until(|| server.stats.request_throttle_wait_count.get() > 3).await;
    sink.deliver(vec![ok(1)]);
    assert_eq!(next(&mut server, 1).await[0].op, Op::CloseSession);
    assert_eq!(server.stats.stale_requests_dropped.get(), 0);
}

#[actix_rt::test]
async fn a_stale_request_may_be_let_through() {
    let mut server = throttled(RequestThrottle { drop_stale: false, ..two_at_a_time() });
    let (mut first, sink, _) = server.client().await;
    write(&mut first, &pings(1..3)).await;
    next(&mut server, 2).await;
    let (mut gone, _gone_sink, _) = server.client().await;
    write(&mut gone, &pings(11..12)).await;
    gone.shutdown().await.expect("half closed");
    until(|| server.stats.request_throttle_wait_count.get() > 3).await;
    sink.deliver(vec![ok(1)]);
    assert_eq!(xids(&next(&mut server, 1).await), [11]);
    assert_eq!((server.stats.stale_requests.get(), server.stats.stale_requests_dropped.get()), (1, 0));
}

#[actix_rt::test]
async fn a_request_that_waits_longer_than_its_session_lasts_is_stale_if_that_is_wanted() {
    for stale_latency_check in [true, false] {
        let mut server = throttled(RequestThrottle { stale_latency_check, ..two_at_a_time() });
        let (mut first, sink, _) = server.client().await;
        write(&mut first, &pings(1..3)).await;
        next(&mut server, 2).await;
        let mut short = server.connect().await;
        write(&mut short, &connect_frame()).await;
        let (short_sink, conn) = server.next_handshake().await;
        short_sink.deliver(vec![Deliver::Connected(response(20))]);
        super::clients::read_frame(&mut short).await;
        write(&mut short, &pings(11..12)).await;
        let queued = tokio::time::Instant::now();
        if stale_latency_check {
            server.assert_disconnected(conn).await;
            assert_eq!(server.stats.stale_requests_dropped.get(), 1);
            assert_closed(&mut short).await;
        } else {
            until(|| queued.elapsed() > Duration::from_millis(40)).await;
            sink.deliver(vec![ok(1)]);
            assert_eq!(xids(&next(&mut server, 1).await), [11]);
        }
    }
}

/// A request of that many bytes.
fn large(xid: i32, size: usize) -> BytesMut {
    let path = format!("/{}", "x".repeat(size - 8 - 4 - 1 - 1));
    let bytes = requests(&[(xid, exists(&path))]);
    assert_eq!(bytes.len(), 4 + size);
    bytes
}

#[actix_rt::test]
async fn large_requests_have_room_together() {
    let limits = LargeRequests { above: 100, max: 450 };
    let mut server = Server::start(ClientSettings { large_requests: Some(limits), ..settings() });
    let (mut first, sink, _) = server.client().await;
    write(&mut first, &[large(1, 200), large(2, 100), large(3, 200)].concat()).await;
    assert_eq!(xids(&next(&mut server, 3).await), [1, 2, 3]);
    assert_eq!(server.stats.large_requests_rejected.get(), 0);

    // 400 bytes are under way: the length alone is enough to be refused, and others go on.
    let (mut second, _second_sink, second_conn) = server.client().await;
    let mut length = BytesMut::new();
    length.put_u32(101);
    write(&mut second, &length).await;
    server.assert_disconnected(second_conn).await;
    assert_closed(&mut second).await;
    assert_eq!(server.stats.large_requests_rejected.get(), 1);
    write(&mut first, &pings(4..5)).await;
    assert_eq!(xids(&next(&mut server, 1).await), [4]);

    // Answered for the brain is answered, whether or not the client reads.
    sink.deliver(vec![ok(1), ok(2)]);
    let (mut third, third_sink, third_conn) = server.client().await;
    write(&mut third, &large(21, 250)).await;
    assert_eq!(xids(&next(&mut server, 1).await), [21]);
    // And who leaves takes his with him.
    drop((third, third_sink));
    server.assert_disconnected(third_conn).await;
    let (mut fourth, _fourth_sink, _) = server.client().await;
    write(&mut fourth, &large(31, 250)).await;
    assert_eq!(xids(&next(&mut server, 1).await), [31]);
}

#[actix_rt::test]
async fn handshakes_take_tokens() {
    let throttle = ConnectionThrottle {
        tokens: 2,
        fill_time: Duration::from_secs(3600),
        fill_count: 1,
        freeze_time: None,
        drop_increase: 0.02,
        drop_decrease: 0.002,
        decrease_ratio: 0.0,
        weights: None,
    };
    let words = vec!["*".to_string()];
    let mut server = Server::start(ClientSettings {
        connection_throttle: Some(throttle),
        four_letter_words: words,
        ..settings()
    });
    let _both = [server.client().await, server.client().await];
    for _ in 0..3 {
        let mut refused = server.connect().await;
        write(&mut refused, &connect_frame()).await;
        assert_closed(&mut refused).await;
    }
    assert_eq!(server.stats.connection_rejected.get(), 3);
    assert_eq!(server.stats.connection_request_count.get(), 2);
    // Operators take none.
    let mntr = server.ask("mntr").await;
    assert!(mntr.contains("zk_connection_rejected\t3\n"), "{mntr}");
    assert!(mntr.contains("zk_max_connection_token_deficit\t2\n"), "{mntr}");
    assert!(mntr.contains("zk_connection_drop_probability\t0.0\n"), "{mntr}");
}
