//! What makes sense and is too much: whoever asks for it is refused, waited for, or closed.

use std::io::{Read, Write};

use bytes::BytesMut;
use zabra_actors::jute::{self, Shape};
use zabra_actors::types::{MultiResult, Op, ReplyBody, Str, ZkError, Zxid};

use super::common::raw::{self, Client, create};
use super::{MAX_FRAME, Victim, request};

/// Ten thousand members: all good, the last one bad, and as many as a frame holds.
pub fn multis(victim: &mut Victim<'_>) {
    let mut client = victim.client();
    assert!(client.ask(&create("/many", b"", 0)).unwrap().result.is_ok());
    let members =
        |prefix: &str| (0..10_000).map(|n| create(&format!("/many/{prefix}{n}"), b"", 0)).collect::<Vec<_>>();
    let good = client.ask(&Op::Multi(members("a"))).unwrap();
    let Ok(ReplyBody::Multi(results)) = good.result else { panic!("{:?}", good.result) };
    assert!(results.len() == 10_000 && results.iter().all(|result| matches!(result, MultiResult::Create(_))));

    let mut bad = members("b");
    bad.push(Op::Check { path: "/many".into(), version: 99 });
    let bad = client.ask(&Op::Multi(bad)).unwrap();
    let Ok(ReplyBody::Multi(results)) = bad.result else { panic!("{:?}", bad.result) };
    assert_eq!(results.last(), Some(&MultiResult::Error(ZkError::BadVersion.code())));
    let none = client.ask(&Op::Exists { path: "/many/b0".into(), watch: false }).unwrap();
    assert_eq!(none.result, Err(ZkError::NoNode), "nothing of it was done");

    let check = Op::Check { path: "/".into(), version: -1 };
    let most = (MAX_FRAME - 8 - 9) / (9 + 4 + 1 + 4);
    let checks = client.ask(&Op::Multi(vec![check; most])).unwrap();
    assert!(checks.result.is_ok(), "{:?}", checks.result);
    // Each member asks for all ten thousand names: more than anybody could take.
    let names = Op::GetChildren { path: "/many".into(), watch: false, stat: false };
    let reads = client.ask(&Op::MultiRead(vec![names; 10_000])).unwrap();
    assert!(reads.result.is_err(), "an answer of a gigabyte");
    victim.count(4);
}

/// Identities without end.
pub fn auth(victim: &mut Victim<'_>) {
    for (packets, size) in [(5000, 20), (30, MAX_FRAME - 100)] {
        let mut client = victim.client();
        let mut bytes = BytesMut::new();
        for n in 0..packets {
            let id = format!("{n}{}:secret", "u".repeat(size));
            jute::encode_auth(-4, "digest", id.as_bytes(), &mut bytes).unwrap();
        }
        // It is closed somewhere on the way: what is not wanted any more is not read.
        let _ = client.socket.write_all(&bytes);
        let mut refused = false;
        while let Ok(reply) = client.answer(Shape::Empty) {
            refused = reply.result == Err(ZkError::AuthFailed);
        }
        assert!(refused, "{packets} identities of {size} bytes");
        victim.count(packets);
    }
    for scheme in ["", "world", "auth", "super", "kerberos", &"x".repeat(100_000)] {
        let mut client = victim.client();
        let mut bytes = BytesMut::new();
        jute::encode_auth(-4, scheme, b"a:b", &mut bytes).unwrap();
        client.socket.write_all(&bytes).unwrap();
        assert_eq!(client.answer(Shape::Empty).unwrap().result, Err(ZkError::AuthFailed));
        victim.count(1);
    }
}

/// More watches than a connection may have, by their number and by their bytes.
pub fn watches(victim: &mut Victim<'_>) {
    let mut client = victim.client();
    let closed = (0..60).find(|batch| {
        let exist: Vec<Str> = (0..10_000).map(|n| format!("/w/{batch}/{n}").as_str().into()).collect();
        let op = Op::SetWatches { relative_zxid: Zxid(0), data: vec![], exist, child: vec![] };
        client.ask(&op).is_err()
    });
    assert!(closed.is_some_and(|batch| batch > 40), "closed at batch {closed:?} of ten thousand watches");
    victim.count(closed.unwrap() + 1);

    let mut client = victim.client();
    let long = "x".repeat(MAX_FRAME - 200);
    let closed = (0..200).find(|n| {
        let exists = Op::Exists { path: format!("/{n}{long}").as_str().into(), watch: true };
        client.ask(&exists).is_err()
    });
    assert!(closed.is_some(), "200 MB of paths are watched");
    victim.count(closed.unwrap() + 1);
}

/// They ask and ask, and never read what they are told.
pub fn deaf_clients(victim: &mut Victim<'_>) {
    let mut owner = victim.client();
    assert!(owner.ask(&create("/large", &vec![7; 1_000_000], 0)).unwrap().result.is_ok());
    let many = "/many";
    let data = |path: &str| Op::GetData { path: path.into(), watch: false };
    let list = |path: &str| Op::GetChildren { path: path.into(), watch: false, stat: true };
    for op in [data("/large"), list(many), Op::GetAllChildrenNumber { path: "/".into() }, Op::Ping] {
        let mut bytes = BytesMut::new();
        (0..1000).for_each(|xid| bytes.extend_from_slice(&request(xid, &op)));
        for _ in 0..3 {
            let mut client = victim.client();
            client.socket.write_all(&bytes).unwrap();
            victim.held.push(client.socket);
        }
        victim.count(3000);
    }
    // One that is told of every change.
    let mut watcher = victim.client();
    assert!(watcher.ask(&Op::AddWatch { path: "/".into(), recursive: true }).unwrap().result.is_ok());
    victim.held.push(watcher.socket);
    for n in 0..300 {
        let set = Op::SetData { path: "/large".into(), data: Some(n.to_string().into()), version: -1 };
        assert!(owner.ask(&set).unwrap().result.is_ok());
    }
    victim.count(1);
}

/// Sessions that are begun, and left at once.
pub fn handshakes(victim: &mut Victim<'_>) {
    let hello = raw::hello(super::TIMEOUT_MS);
    for n in 0..1000 {
        let mut socket = victim.open();
        socket.write_all(&hello).unwrap();
        if n % 2 == 0 {
            // One that waits for its answer, and one that does not.
            let _ = socket.read(&mut [0; 41]);
        }
        victim.count(1);
    }
    // Sessions that are nobody's.
    for session in [1, -1, i64::MIN, i64::MAX] {
        let mut bytes = BytesMut::from(&hello[..]);
        bytes[20..28].copy_from_slice(&i64::to_be_bytes(session));
        let mut socket = victim.open();
        socket.write_all(&bytes).unwrap();
        let answer = jute::decode_connect_response(raw::read_frame(&mut socket).unwrap()).unwrap();
        assert_eq!((answer.timeout_ms, answer.session.0), (0, 0));
        super::expect_end(&mut socket, &bytes);
        victim.count(1);
    }
    drop::<Client>(victim.client());
}
