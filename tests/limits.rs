//! Limits of the configuration as clients of real servers meet them.

#![allow(clippy::unwrap_used)] // a test's helpers are tests

mod common;

use std::io::{ErrorKind, Read, Write};

use common::raw::{Client, create, hello, open};
use common::{Ensemble, four_letter_word};
use zabra_actors::jute::Shape;
use zabra_actors::types::{Op, ZkError};

fn start(sections: &str) -> Ensemble {
    let mut ensemble = Ensemble::with(1, 0, sections);
    ensemble.spawn(1);
    ensemble.wait_serving();
    ensemble
}

/// Connects and says hello; true if the server closes without an answer.
fn is_refused(host: &str) -> bool {
    let mut socket = open(host).unwrap();
    socket.write_all(&hello(20_000)).unwrap();
    match socket.read(&mut [0; 4]) {
        Ok(read) => read == 0,
        Err(e) => {
            assert_eq!(e.kind(), ErrorKind::ConnectionReset);
            true
        }
    }
}

#[test]
fn connections_are_limited_for_each_address_and_in_all() {
    for key in ["max_connections_per_ip", "max_connections"] {
        let ensemble = start(&format!("[client]\n{key} = 2\n"));
        let host = ensemble.host(1);
        // The last look at the server may not be over yet.
        let mut clients = Vec::new();
        common::until("two come in", common::START_TIMEOUT, || {
            clients.extend(Client::connect(&host, 20_000));
            clients.len() == 2
        });
        assert!(is_refused(&host), "{key}");
        clients.pop();
        common::until("one went, one comes", common::START_TIMEOUT, || {
            clients.extend(Client::connect(&host, 20_000));
            clients.len() == 2
        });
    }
}

#[test]
fn a_request_behind_many_is_throttled_and_nothing_is_done() {
    let ensemble = start("[limits.throttle]\nmax_requests = 1\nop_wait_time = \"1ms\"\n");
    let mut client = Client::connect(&ensemble.host(1), 20_000).unwrap();
    // One after the other goes through the disk, so the later ones wait for more than a millisecond.
    let data = vec![b'x'; 1000];
    let ops: Vec<Op> = (0..200).map(|n| create(&format!("/{n}"), &data, 0)).collect();
    for op in &ops {
        client.send(op).unwrap();
    }
    let results: Vec<_> = ops.iter().map(|op| client.answer(Shape::of(op)).unwrap().result).collect();
    let throttled: Vec<usize> = (0..200).filter(|n| results[*n] == Err(ZkError::ThrottledOp)).collect();
    assert!(!throttled.is_empty(), "two hundred writes through one slot take longer than a millisecond");
    let port = ensemble.host(1).rsplit_once(':').unwrap().1.parse().unwrap();
    let mntr = four_letter_word(port, "mntr").unwrap();
    assert!(mntr.contains(&format!("zk_throttled_ops\t{}\n", throttled.len())), "{mntr}");
    for (n, result) in results.iter().enumerate() {
        let exists = Op::Exists { path: format!("/{n}").as_str().into(), watch: false };
        let found = client.ask(&exists).unwrap().result.is_ok();
        assert_eq!(found, result.is_ok(), "/{n}: {result:?}");
    }
}

#[test]
fn handshakes_beyond_the_tokens_are_closed() {
    let ensemble = start("[limits.throttle]\nconnection_tokens = 3\nconnection_fill_time = \"1h\"\n");
    let host = ensemble.host(1);
    let clients: Vec<Client> = (0..3).map(|_| Client::connect(&host, 20_000).unwrap()).collect();
    assert!((0..5).all(|_| is_refused(&host)));
    drop(clients);
    assert!(is_refused(&host), "a token does not come back with its connection");
}

#[test]
fn a_large_request_has_room_alone() {
    let limits = "[limits]\nlarge_request_threshold = \"1KiB\"\nlarge_request_max_bytes = \"1MiB\"\n";
    let ensemble = start(limits);
    let mut client = Client::connect(&ensemble.host(1), 20_000).unwrap();
    for n in 0..20 {
        let result = client.ask(&create(&format!("/{n}"), &vec![b'x'; 500_000], 0)).unwrap().result;
        assert!(result.is_ok(), "one after the other they are never too many: {result:?}");
    }
    let too_large = Op::SetData { path: "/0".into(), data: Some(vec![b'x'; 1_048_550].into()), version: -1 };
    assert!(client.ask(&too_large).is_ok(), "below 1 MiB");
    let mut crowd: Vec<Client> =
        (0..4).map(|_| Client::connect(&ensemble.host(1), 20_000).unwrap()).collect();
    // Sent at once, their bytes arrive before the disk has taken the first.
    let op = create("/crowd-", &vec![b'x'; 500_000], 2);
    for client in &mut crowd {
        // It may be closed by then.
        let _ = (0..8).try_for_each(|_| client.send(&op).map(|_| ()));
    }
    let is_closed = |client: &mut Client| (0..8).any(|_| client.answer(Shape::of(&op)).is_err());
    let closed = crowd.iter_mut().map(is_closed).filter(|closed| *closed).count();
    assert!(closed > 0, "sixteen megabytes at once are more than one");
    let port = ensemble.host(1).rsplit_once(':').unwrap().1.parse().unwrap();
    let mntr = four_letter_word(port, "mntr").unwrap();
    assert!(mntr.contains(&format!("zk_large_requests_rejected\t{closed}\n")), "{closed} closed: {mntr}");
    assert!(client.ask(&Op::Ping).is_ok(), "who stays within the limit goes on");
}
