//! The connections between servers: real ones at both ends, or a raw socket at one.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use zabra::net::{Links, LinksSettings, PeerAddr};
use zabra_actors::handle::FromPeer;
use zabra_actors::ports::PeerLinks;
use zabra_actors::types::{Membership, Packet, Sid, Tenure, Zxid};

use super::{Heard, Warnings, ear, no_log, soon};

const MAGIC: &[u8] = b"\x89ZABRA\r\n";
const VERSION: u16 = 2;
const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const REFUSAL: u8 = 3;

fn listen() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("possible");
    let addr = listener.local_addr().expect("bound").to_string();
    (listener, addr)
}

/// Servers 1, 2 and 3 vote, 4 and 5 observe.
fn settings(me: u8, addrs: &[(u8, String)]) -> LinksSettings {
    let member = |(sid, addr): &(u8, String)| PeerAddr {
        sid: Sid(*sid),
        addr: addr.clone(),
        membership: if *sid < 4 { Membership::Participant } else { Membership::Observer },
    };
    LinksSettings {
        me: Sid(me),
        cluster: "test".to_string(),
        members: addrs.iter().map(member).collect(),
        listen: "127.0.0.1:0".to_string(),
        connect_timeout: Duration::from_secs(5),
    }
}

/// One server among raw ones. `peers` are listeners' addresses; who dials needs none.
fn server(me: u8, peers: &[(u8, String)]) -> (Links, Heard<FromPeer>) {
    logged_server(me, peers, &no_log())
}

fn logged_server(me: u8, peers: &[(u8, String)], log: &slog::Logger) -> (Links, Heard<FromPeer>) {
    let mut members = peers.to_vec();
    members.push((me, "127.0.0.1:1".to_string()));
    let (recipient, heard) = ear();
    (Links::start(settings(me, &members), recipient, log).expect("a free port"), heard)
}

fn nowhere(sid: u8) -> (u8, String) {
    (sid, "127.0.0.1:1".to_string())
}

async fn expect_up(heard: &mut Heard<FromPeer>, sid: u8) {
    match heard.next().await {
        FromPeer::LinkUp(up) => assert_eq!(up, Sid(sid)),
        other => panic!("expected the link of {sid}, got {other:?}"),
    }
}

async fn expect_down(heard: &mut Heard<FromPeer>, sid: u8) {
    match heard.next().await {
        FromPeer::LinkDown(down) => assert_eq!(down, Sid(sid)),
        other => panic!("expected the end of the link of {sid}, got {other:?}"),
    }
}

async fn next_packets(heard: &mut Heard<FromPeer>, sid: u8) -> Vec<(u64, Packet)> {
    match heard.next().await {
        FromPeer::Packets(from, packets) => {
            assert_eq!(from, Sid(sid));
            packets.into_iter().map(|envelope| (envelope.tenure.0, envelope.packet)).collect()
        }
        other => panic!("expected packets, got {other:?}"),
    }
}

fn hello(from: u8, to: u8, cluster: &str) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.put_u16(VERSION);
    out.put_u8(HELLO);
    out.put_u16(3 + cluster.len() as u16);
    out.put_slice(&[from, to, u8::from(from >= 4)]);
    out.put_slice(cluster.as_bytes());
    out
}

/// The kind and payload of the next message of a hello.
async fn hear(socket: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut prefix = [0; 13];
    soon(socket.read_exact(&mut prefix)).await.expect("a message");
    let mut rest = prefix.strip_prefix(MAGIC).expect("the magic");
    assert_eq!(rest.get_u16(), VERSION);
    let kind = rest.get_u8();
    let mut payload = vec![0; rest.get_u16() as usize];
    soon(socket.read_exact(&mut payload)).await.expect("a payload");
    (kind, payload)
}

fn welcome() -> Vec<u8> {
    [MAGIC, &VERSION.to_be_bytes(), &[WELCOME, 0, 0]].concat()
}

/// A raw peer that dials.
async fn dial_as(sid: u8, links: &Links, me: u8) -> TcpStream {
    let mut socket = soon(TcpStream::connect(links.local_addr())).await.expect("it listens");
    socket.write_all(&hello(sid, me, "test")).await.expect("written");
    assert_eq!(hear(&mut socket).await.0, HELLO);
    socket.write_all(&welcome()).await.expect("written");
    socket
}

/// A raw peer that is dialled.
async fn answer_as(sid: u8, listener: &TcpListener, me: u8) -> TcpStream {
    let (mut socket, _) = soon(listener.accept()).await.expect("dialled");
    assert_eq!(hear(&mut socket).await, (HELLO, [&[me, sid, u8::from(me >= 4)][..], b"test"].concat()));
    socket.write_all(&hello(sid, me, "test")).await.expect("written");
    assert_eq!(hear(&mut socket).await.0, WELCOME);
    socket
}

async fn read_frame(socket: &mut TcpStream) -> (u64, Vec<u8>) {
    let length = soon(socket.read_u32()).await.expect("a length");
    let tenure = soon(socket.read_u64()).await.expect("a tenure");
    let mut body = vec![0; length as usize - 8];
    soon(socket.read_exact(&mut body)).await.expect("a packet");
    (tenure, body)
}

async fn assert_closed(socket: &mut TcpStream) {
    match soon(socket.read(&mut [0])).await {
        Ok(0) => {}
        Ok(_) => panic!("a byte instead of the end"),
        Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

#[actix_rt::test]
async fn servers_of_a_cluster_find_each_other_and_talk() {
    let ports: Vec<_> = [1, 3, 4, 5].into_iter().map(|sid| (sid, listen())).collect();
    let addrs: Vec<_> = ports.iter().map(|(sid, (_, addr))| (*sid, addr.clone())).collect();
    let mut servers: Vec<_> = ports
        .into_iter()
        .map(|(sid, (listener, _))| {
            let (recipient, heard) = ear();
            let links = Links::start_on(listener, settings(sid, &addrs), recipient, &no_log());
            (sid, links.expect("it listens"), heard)
        })
        .collect();
    for (sid, _, heard) in &mut servers {
        // Two observers have no link.
        let peers = if *sid < 4 { 3 } else { 2 };
        for _ in 0..peers {
            assert!(matches!(heard.next().await, FromPeer::LinkUp(_)));
        }
        heard.assert_silent().await;
    }
    let to = [(Sid(3), Tenure(1)), (Sid(4), Tenure(2)), (Sid(5), Tenure(3)), (Sid(99), Tenure(4))];
    servers[0].1.send(&to, &Packet::Commit { zxid: Zxid(7) });
    for (at, tenure) in [(1, 1), (2, 2), (3, 3)] {
        let packets = next_packets(&mut servers[at].2, 1).await;
        assert_eq!(packets, [(tenure, Packet::Commit { zxid: Zxid(7) })]);
    }
}

#[actix_rt::test]
async fn a_broadcast_has_the_same_bytes_for_all_but_the_tenure() {
    let (one, addr1) = listen();
    let (two, addr2) = listen();
    let (one, two) = (TcpListener::from_std(one).expect("one"), TcpListener::from_std(two).expect("two"));
    let (links, mut heard) = server(3, &[(1, addr1), (2, addr2)]);
    let mut first = answer_as(1, &one, 3).await;
    let mut second = answer_as(2, &two, 3).await;
    for _ in 0..2 {
        assert!(matches!(heard.next().await, FromPeer::LinkUp(_)));
    }
    links
        .send(&[(Sid(1), Tenure(10)), (Sid(2), Tenure(20))], &Packet::SnapChunk(Bytes::from_static(b"snow")));
    let (first, second) = (read_frame(&mut first).await, read_frame(&mut second).await);
    assert_eq!((first.0, second.0), (10, 20));
    assert_eq!(first.1, second.1);
    assert!(first.1.ends_with(b"snow"));
}

#[actix_rt::test]
async fn packets_keep_their_order_whatever_their_size() {
    let (listener, addr) = listen();
    let (recipient, mut heard_by_1) = ear();
    let members = [(1, addr), nowhere(3)];
    let one = Links::start_on(listener, settings(1, &members), recipient, &no_log()).expect("it listens");
    let (three, mut heard_by_3) = server(3, &members[..1]);
    expect_up(&mut heard_by_1, 3).await;
    expect_up(&mut heard_by_3, 1).await;
    let sizes = [0, 1, 70_000, 5, 3 << 20, 65_535, 65_536, 2];
    for (n, size) in sizes.into_iter().enumerate() {
        let chunk = Packet::SnapChunk(Bytes::from(vec![n as u8; size]));
        three.send(&[(Sid(1), Tenure(n as u64))], &chunk);
    }
    let mut seen = Vec::new();
    while seen.len() < sizes.len() {
        seen.extend(next_packets(&mut heard_by_1, 3).await);
    }
    for (n, (tenure, packet)) in seen.into_iter().enumerate() {
        assert_eq!(tenure, n as u64);
        assert!(packet == Packet::SnapChunk(Bytes::from(vec![n as u8; sizes[n]])), "packet {n} differs");
    }
    drop(one);
    expect_down(&mut heard_by_3, 1).await;
}

#[actix_rt::test]
async fn a_lost_link_is_dialled_again() {
    let (listener, addr) = listen();
    let listener = TcpListener::from_std(listener).expect("a listener");
    let (_links, mut heard) = server(3, &[(1, addr)]);
    for _ in 0..3 {
        let socket = answer_as(1, &listener, 3).await;
        expect_up(&mut heard, 1).await;
        drop(socket);
        expect_down(&mut heard, 1).await;
    }
}

#[actix_rt::test]
async fn a_peer_that_is_down_is_dialled_until_it_is_up() {
    let (listener, addr) = listen();
    drop(listener);
    let warnings = Warnings::default();
    let (_links, mut heard) = logged_server(3, &[(1, addr.clone())], &warnings.logger());
    warnings.expect("Cannot open channel to 1").await;
    let listener = TcpListener::bind(&addr).await.expect("free again");
    let _socket = answer_as(1, &listener, 3).await;
    expect_up(&mut heard, 1).await;
    assert_eq!(warnings.with("Cannot open channel"), 1, "once, whatever the number of tries");
}

#[actix_rt::test]
async fn a_newer_link_replaces_the_older() {
    let (links, mut heard) = server(1, &[nowhere(3)]);
    let mut old = dial_as(3, &links, 1).await;
    expect_up(&mut heard, 3).await;
    let mut new = dial_as(3, &links, 1).await;
    expect_down(&mut heard, 3).await;
    expect_up(&mut heard, 3).await;
    assert_closed(&mut old).await;

    links.send(&[(Sid(3), Tenure(1))], &Packet::Sync);
    assert_eq!(read_frame(&mut new).await.0, 1);
    heard.assert_silent().await;
    drop(new);
    expect_down(&mut heard, 3).await;
    heard.assert_silent().await;
}

#[actix_rt::test]
async fn a_bad_frame_drops_the_link_but_not_what_came_before() {
    let (links, mut heard) = server(1, &[nowhere(3)]);
    // The bytes of a good packet, from the other direction.
    let mut socket = dial_as(3, &links, 1).await;
    expect_up(&mut heard, 3).await;
    links.send(&[(Sid(3), Tenure(6))], &Packet::Ack { zxid: Zxid(9) });
    let (_, good) = read_frame(&mut socket).await;

    let bad_frames: [&[u8]; 4] = [
        &[0xff, 0xff, 0xff, 0xff],
        &[0, 0, 0, 0],
        &[0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0xc1],
        &[0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 1, 0xdb, 0xff, 0xff, 0xff],
    ];
    for bad in bad_frames {
        let mut bytes = Vec::new();
        bytes.put_u32(8 + good.len() as u32);
        bytes.put_u64(6);
        bytes.put_slice(&good);
        bytes.put_slice(bad);
        socket.write_all(&bytes).await.expect("written");
        assert_eq!(next_packets(&mut heard, 3).await, [(6, Packet::Ack { zxid: Zxid(9) })]);
        expect_down(&mut heard, 3).await;
        assert_closed(&mut socket).await;
        socket = dial_as(3, &links, 1).await;
        expect_up(&mut heard, 3).await;
    }
}

#[actix_rt::test]
async fn strangers_are_refused_by_name_and_logged_once() {
    let warnings = Warnings::default();
    let (links, mut heard) = logged_server(1, &[nowhere(3)], &warnings.logger());
    for (bytes, words) in [
        (hello(3, 1, "prod"), "other cluster name"),
        (hello(2, 1, "test"), "unknown id"),
        (hello(3, 2, "test"), "wrong server"),
    ] {
        for _ in 0..3 {
            let mut socket = soon(TcpStream::connect(links.local_addr())).await.expect("it listens");
            socket.write_all(&bytes).await.expect("written");
            let (kind, told) = hear(&mut socket).await;
            assert_eq!(kind, REFUSAL);
            assert!(String::from_utf8_lossy(&told).starts_with(words), "{words}");
            assert_closed(&mut socket).await;
        }
        assert_eq!(warnings.with(words), 1, "{words}");
    }
    heard.assert_silent().await;
}

#[actix_rt::test]
async fn the_dialler_logs_why_it_is_refused() {
    let (listener, addr) = listen();
    let (recipient, _heard) = ear();
    let mut other = settings(1, &[(1, addr.clone()), nowhere(3)]);
    other.cluster = "prod".to_string();
    let _one = Links::start_on(listener, other, recipient, &no_log()).expect("it listens");
    let warnings = Warnings::default();
    let (_three, mut heard) = logged_server(3, &[(1, addr)], &warnings.logger());
    warnings.expect("refused by the other side: other cluster name").await;
    heard.assert_silent().await;
}

#[actix_rt::test]
async fn a_stranger_who_says_nothing_is_not_waited_for() {
    let (links, mut heard) = server(1, &[nowhere(3)]);
    let mut silent = soon(TcpStream::connect(links.local_addr())).await.expect("it listens");
    tokio::time::pause();
    assert_eq!(silent.read(&mut [0]).await.expect("closed in good order"), 0);
    tokio::time::resume();
    heard.assert_silent().await;
}

#[actix_rt::test]
async fn a_peer_that_does_not_read_loses_its_link() {
    let (links, mut heard) = server(1, &[nowhere(3)]);
    let _socket = dial_as(3, &links, 1).await;
    expect_up(&mut heard, 3).await;
    // 16 times 32 MiB, but one copy of them: twice the bound.
    let to = [(Sid(3), Tenure(1)); 16];
    links.send(&to, &Packet::SnapChunk(Bytes::from(vec![0; 32 << 20])));
    expect_down(&mut heard, 3).await;
    heard.assert_silent().await;
}

#[actix_rt::test]
async fn what_is_too_large_for_a_frame_resets_the_link() {
    let (links, mut heard) = server(1, &[nowhere(3)]);
    let mut socket = dial_as(3, &links, 1).await;
    expect_up(&mut heard, 3).await;
    links.send(&[(Sid(3), Tenure(1))], &Packet::SnapChunk(Bytes::from(vec![0; 64 << 20])));
    expect_down(&mut heard, 3).await;
    assert_closed(&mut socket).await;
}

#[actix_rt::test]
async fn closing_writes_out_what_was_said() {
    let (links, mut heard) = server(1, &[nowhere(3), nowhere(2)]);
    let mut socket = dial_as(3, &links, 1).await;
    expect_up(&mut heard, 3).await;
    let goodbye = Packet::Goodbye { reason: "maintenance".to_string() };
    links.send(&[(Sid(3), Tenure(1)), (Sid(2), Tenure(2))], &goodbye);
    soon(links.close()).await;
    expect_down(&mut heard, 3).await;
    let (_, body) = read_frame(&mut socket).await;
    assert!(body.ends_with(b"maintenance"));
    assert_closed(&mut socket).await;
    assert!(TcpStream::connect(links.local_addr()).await.is_err(), "it still listens");
}

#[actix_rt::test]
async fn an_address_in_use_is_named() {
    let (_listener, addr) = listen();
    let settings = LinksSettings { listen: addr.clone(), ..settings(1, &[nowhere(1)]) };
    let error = Links::start(settings, ear().0, &no_log()).err().expect("in use");
    assert!(error.to_string().starts_with(&format!("cannot listen for peers on {addr}: ")), "{error}");
}
