//! How much a client may have asked for at a time: by the number of its requests (see `clients`), their bytes, and what
//! their answers may weigh.

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use zabra::net::ClientSettings;
use zabra_actors::jute;
use zabra_actors::types::{Deliver, Op, Reply, ReplyBody, Stat, Zxid};

use super::clients::{Server, exists, ok, pings, read_frame, requests, settings, xids};

fn list(path: &str) -> Op {
    Op::GetChildren { path: path.into(), watch: false, stat: false }
}

fn get(path: &str) -> Op {
    Op::GetData { path: path.into(), watch: false }
}

#[actix_rt::test]
async fn lists_are_asked_for_one_at_a_time_and_keep_their_place() {
    let mut server = Server::start(settings());
    let (mut socket, sink, _) = server.client().await;
    let asked = [
        (1, exists("/a")),
        (2, list("/a")),
        (3, exists("/b")),
        (4, list("/b")),
        (5, exists("/c")),
        (6, list("/c")),
    ];
    socket.write_all(&requests(&asked)).await.expect("written");
    assert_eq!(xids(&server.next_requests().await), [1, 2, 3]);
    server.clients.assert_silent().await;

    // The others are not held up.
    let (mut other, _other_sink, _) = server.client().await;
    other.write_all(&requests(&[(11, list("/d"))])).await.expect("written");
    assert_eq!(xids(&server.next_requests().await), [11]);

    sink.deliver(vec![ok(1), ok(2)]);
    assert_eq!(xids(&server.next_requests().await), [4, 5]);
    sink.deliver(vec![ok(3), ok(4), ok(5)]);
    assert_eq!(xids(&server.next_requests().await), [6]);
}

#[actix_rt::test]
async fn what_walks_over_znodes_counts_as_a_list() {
    let mut server = Server::start(settings());
    let (mut socket, sink, _) = server.client().await;
    let walks = [
        (1, Op::GetAllChildrenNumber { path: "/".into() }),
        (2, Op::GetEphemerals { prefix: None }),
        (3, Op::MultiRead(vec![get("/a")])),
        (4, Op::GetAcl { path: "/".into() }),
        (5, Op::WhoAmI),
        (6, Op::GetChildren { path: "/".into(), watch: true, stat: true }),
        (7, list("/")),
    ];
    socket.write_all(&requests(&walks)).await.expect("written");
    for xid in 1..=7 {
        assert_eq!(xids(&server.next_requests().await), [xid]);
        server.clients.assert_silent().await;
        sink.deliver(vec![ok(xid)]);
    }
}

#[actix_rt::test]
async fn a_slow_reader_of_large_data_is_waited_for() {
    let size = 1 << 20;
    let mut server = Server::start(ClientSettings { max_frame: size, ..settings() });
    let (mut socket, sink, _) = server.client().await;
    let asked: Vec<_> = (1..=200).map(|xid| (xid, get("/a"))).collect();
    socket.write_all(&requests(&asked)).await.expect("written");
    let data = Bytes::from(vec![7; size - 1000]);
    let (mut answered, mut read) = (0, 0);
    // The brain answers at once all that it is asked; the client reads when two dozen answers wait for it.
    while answered < 200 {
        let batch = server.next_requests().await;
        answered += batch.len();
        let answer = |xid| {
            let result = Ok(ReplyBody::Data(Some(data.clone()), Stat::default()));
            Deliver::Reply(Reply { xid, zxid: Zxid(5), result })
        };
        sink.deliver(batch.iter().map(|request| answer(request.xid)).collect());
        while read + 24 < answered || answered == 200 && read < 200 {
            let frame = read_frame(&mut socket).await;
            read += 1;
            assert_eq!(frame.len(), 16 + 4 + data.len() + 68);
        }
    }
    // None is lost, although these are 200 MiB and 64 may wait for a client.
    assert_eq!(read, 200);
}

#[actix_rt::test]
async fn requests_of_a_megabyte_are_a_few_at_a_time() {
    let mut server = Server::start(ClientSettings { max_frame: 1 << 20, ..settings() });
    let (mut socket, sink, _) = server.client().await;
    let data = Some(Bytes::from(vec![7; 1_000_000]));
    let mut bytes = BytesMut::new();
    for xid in 1..=8 {
        let set = Op::SetData { path: "/a".into(), data: data.clone(), version: -1 };
        jute::encode_request(xid, &set, &mut bytes).expect("below 1 MiB");
    }
    let writing = tokio::task::spawn_local(async move {
        socket.write_all(&bytes).await.expect("written");
        socket
    });
    let mut asked = Vec::new();
    while asked.len() < 4 {
        asked.extend(xids(&server.next_requests().await));
    }
    server.clients.assert_silent().await;
    assert_eq!(asked, [1, 2, 3, 4], "four megabytes are enough");
    sink.deliver(vec![ok(1), ok(2)]);
    while asked.len() < 6 {
        asked.extend(xids(&server.next_requests().await));
    }
    server.clients.assert_silent().await;
    sink.deliver((3..=6).map(ok).collect());
    while asked.len() < 8 {
        asked.extend(xids(&server.next_requests().await));
    }
    super::soon(writing).await.expect("all is written");
}

#[actix_rt::test]
async fn when_all_have_asked_for_much_everybody_may_ask_one_thing() {
    let mut server = Server::start(ClientSettings { max_frame: 4 << 20, ..settings() });
    let large = Op::SetData { path: "/a".into(), data: Some(vec![7; 4_000_000].into()), version: -1 };
    let mut crowd = Vec::new();
    // 68 MB, all told.
    for _ in 0..17 {
        let (mut socket, sink, _) = server.client().await;
        let bytes = requests(&[(1, large.clone())]);
        let writing = tokio::task::spawn_local(async move {
            socket.write_all(&bytes).await.expect("written");
            socket
        });
        assert_eq!(xids(&server.next_requests().await), [1]);
        crowd.push((super::soon(writing).await.expect("all is written"), sink));
    }
    let (mut socket, sink, _) = server.client().await;
    socket.write_all(&pings(1..4)).await.expect("written");
    assert_eq!(xids(&server.next_requests().await), [1]);
    server.clients.assert_silent().await;
    sink.deliver(vec![ok(1)]);
    assert_eq!(xids(&server.next_requests().await), [2]);
    // One of the crowd is answered, and there is room again.
    crowd[0].1.deliver(vec![ok(1)]);
    sink.deliver(vec![ok(2)]);
    assert_eq!(xids(&server.next_requests().await), [3]);
}
